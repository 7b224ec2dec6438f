//! Do all boards hold the same rows? What a scrub asks, what boards report, and
//! what follows from it.
//!
//! A scrub is a row: the board that applies it digests its tables as of that very
//! entry and reports with rows of its own, so that every board sees the same
//! reports, and a restart forgets none. The verdict is a function of those rows
//! and stands nowhere else. Only rows count, as they are read back: two boards may
//! keep them in different pages.
//!
//! - Boards whose digest a majority of the group's boards shares are right; one that
//!   has reported anything else is fenced, until a later scrub finds it right. Where
//!   no majority agrees nobody is, unless somebody has decided which board is right.
//! - Where tables differ, the leader asks for parts of one of them: rows are cut
//!   where a hash of their key says so, hence at the same rows on boards that hold
//!   different ones; what differs lies between two cuts that all have in common.
//!   Each part cuts finer than the one before, down to single rows.
//!
//! Left out: whether anything is made whole again, and when scrubs happen
//! (`scrubber`).

use alloc::{
    collections::{BTreeMap, BTreeSet},
    format,
    string::{String, ToString},
    vec::Vec,
};

use crate::{
    limits::{SCRUB_CUTS, SCRUB_PARTS_MAX, SCRUB_ROWS_NAMED_MAX},
    member::NodeId,
    mutant,
    sql::{self, Origin, RequestKind, SqlRequest, Statement, Value},
};

/// What the schema is called among the tables.
pub const SCHEMA: &str = "sqlite_schema";

/// What the tables beyond those named one by one are called together.
pub const OTHERS: &str = "*";

/// A stretch of one table's rows, in the order in which they are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// The table's name.
    pub table: String,
    /// Encoded key of the first row; from the very first when empty.
    pub low: Vec<u8>,
    /// Encoded key of the row after the last; to the very last when empty.
    pub high: Vec<u8>,
    /// Cut at a row out of so many.
    pub every: u64,
}

/// What a board found of one table, or between two cuts of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Item {
    /// The table's name.
    pub table: String,
    /// Encoded key of the first row, in a part.
    pub start: Vec<u8>,
    /// Rows read.
    pub rows: u64,
    /// Over all of them; none when they cannot be read.
    pub digest: Option<u64>,
    /// Why they cannot.
    pub problem: String,
}

/// What a scrub came to on one board.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// Hash over all items.
    Digest(u64),
    /// Something cannot be read: this agrees with nobody.
    Unreadable(String),
    /// It ended early, which says nothing of the rows.
    Unfinished(String),
}

/// One board's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The log index as of which it was made.
    pub entry: u64,
    /// What it came to.
    pub finding: Finding,
    /// Table by table, or cut by cut.
    pub items: Vec<Item>,
}

impl Report {
    /// A board that did not come to an end says why.
    #[must_use]
    pub fn unfinished(entry: u64, why: &str) -> Self {
        Self { entry, finding: Finding::Unfinished(String::from(why)), items: Vec::new() }
    }
}

/// One scrub and what boards have reported of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scrub {
    /// Rises by each.
    pub id: u64,
    /// By the clock of the board that led, seconds since 1970.
    pub time: u64,
    /// Boards of the group when it was asked for: a majority is one of these.
    pub boards: u64,
    /// A stretch of one table; everything when absent.
    pub part: Option<Part>,
    /// Somebody has decided that this board is right.
    pub source: Option<NodeId>,
    /// By board.
    pub reports: BTreeMap<NodeId, Report>,
}

impl Scrub {
    fn digest_of(&self, board: NodeId) -> Option<u64> {
        match self.reports.get(&board)?.finding {
            Finding::Digest(digest) => Some(digest),
            Finding::Unreadable(_) | Finding::Unfinished(_) => None,
        }
    }

    fn majority(&self) -> Option<u64> {
        let digests = || self.reports.keys().filter_map(|board| self.digest_of(*board));
        let holders = |digest| digests().filter(|other| *other == digest).count() as u64;
        let right = digests().find(|digest| 2 * holders(*digest) > self.boards);
        if mutant::is(16) {
            return digests().find(|digest| right.is_some_and(|right| right != *digest)).or(right);
        }
        right
    }

    /// The digest of those that are right, if that is known.
    fn right(&self) -> Option<u64> {
        self.majority().or_else(|| self.digest_of(self.source?))
    }

    /// Is this board right? None when this scrub says nothing of it.
    #[must_use]
    pub fn judge(&self, board: NodeId) -> Option<bool> {
        let right = self.right()?;
        match self.reports.get(&board)?.finding {
            Finding::Digest(digest) => Some(digest == right),
            Finding::Unreadable(_) => Some(false),
            Finding::Unfinished(_) => None,
        }
    }

    /// Have two boards reported different things?
    #[must_use]
    pub fn differs(&self) -> bool {
        let mut reports = self.finished();
        let Some((_, first)) = reports.next() else { return false };
        let unreadable = matches!(first.finding, Finding::Unreadable(_));
        unreadable || reports.any(|(_, report)| report.finding != first.finding)
    }

    /// What boards reported that came to an end.
    fn finished(&self) -> impl Iterator<Item = (NodeId, &Report)> {
        let whole = |report: &Report| !matches!(report.finding, Finding::Unfinished(_));
        self.reports.iter().filter(move |(_, report)| whole(report)).map(|(id, r)| (*id, r))
    }

    /// Tables that differ, or cannot be read somewhere.
    fn differences(&self) -> Vec<Difference> {
        if !self.differs() {
            return Vec::new();
        }
        let mut tables: Vec<&str> = Vec::new();
        for (_, report) in self.finished() {
            for item in &report.items {
                if !tables.contains(&item.table.as_str()) {
                    tables.push(&item.table);
                }
            }
        }
        tables.into_iter().filter_map(|table| self.difference(table)).collect()
    }

    fn difference(&self, table: &str) -> Option<Difference> {
        let mut sides: Vec<(Option<u64>, Vec<NodeId>)> = Vec::new();
        let mut problems = Vec::new();
        let mut rows_max = 0;
        for (board, report) in self.finished() {
            let item = report.items.iter().find(|item| item.table == table);
            if let Some(item) = item.filter(|item| item.digest.is_none()) {
                problems.push((board, item.problem.clone()));
                continue;
            }
            rows_max = item.map_or(0, |item| item.rows).max(rows_max);
            let digest = item.and_then(|item| item.digest);
            match sides.iter_mut().find(|(known, _)| *known == digest) {
                Some((_, boards)) => boards.push(board),
                None => sides.push((digest, Vec::from([board]))),
            }
        }
        if sides.len() < 2 && problems.is_empty() {
            return None;
        }
        sides.sort_by_key(|(_, boards)| usize::MAX - boards.len());
        let sides = sides.into_iter().map(|(_, boards)| boards).collect();
        let (table, rows) = (String::from(table), String::new());
        Some(Difference { table, rows, rows_max, sides, problems })
    }
}

/// A table that boards do not hold alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Its name.
    pub table: String,
    /// Which rows, in words; empty while that is not known.
    pub rows: String,
    /// Most rows that one of the boards has of it.
    pub rows_max: u64,
    /// Boards that hold the same, the most first.
    pub sides: Vec<Vec<NodeId>>,
    /// Boards that cannot read it, and why.
    pub problems: Vec<(NodeId, String)>,
}

/// Scrubs that still say something, ascending by id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scrubs(pub Vec<Scrub>);

impl Scrubs {
    /// The last scrub of everything, and the parts asked for since.
    #[must_use]
    pub fn latest(&self) -> Option<(&Scrub, &[Scrub])> {
        let place = self.0.iter().rposition(|scrub| scrub.part.is_none())?;
        Some((&self.0[place], &self.0[place + 1..]))
    }

    /// The last scrub of all.
    #[must_use]
    pub fn last(&self) -> Option<&Scrub> {
        self.0.last()
    }

    /// The last scrub that says something of this board, and what.
    fn verdict(&self, board: NodeId) -> Option<(u64, bool)> {
        let whole = self.0.iter().rev().filter(|scrub| scrub.part.is_none());
        let mut judged = whole.filter_map(|scrub| Some((scrub.id, scrub.judge(board)?)));
        judged.next()
    }

    /// Did two boards hold the same when they were last compared? None when they never
    /// were.
    #[must_use]
    pub fn agree(&self, one: NodeId, other: NodeId) -> Option<bool> {
        let whole = self.0.iter().rev().filter(|scrub| scrub.part.is_none());
        let digests = |scrub: &Scrub| Some((scrub.digest_of(one)?, scrub.digest_of(other)?));
        whole.filter_map(digests).next().map(|(one, other)| one == other)
    }

    /// The scrub that found this board wrong, if none has found it right since.
    #[must_use]
    pub(crate) fn condemns(&self, board: NodeId) -> Option<u64> {
        self.verdict(board).filter(|(_, right)| !right).map(|(id, _)| id)
    }

    /// Which of these boards are fenced.
    #[must_use]
    pub fn fenced(&self, boards: &[NodeId]) -> BTreeSet<NodeId> {
        let contradicted = |board: &NodeId| self.verdict(*board).is_some_and(|(_, right)| !right);
        boards.iter().copied().filter(contradicted).collect()
    }

    /// Scrubs without which something would be forgotten.
    fn kept(&self, boards: &[NodeId]) -> BTreeSet<u64> {
        let decisive = boards.iter().filter_map(|board| Some(self.verdict(*board)?.0));
        let latest = self.latest().into_iter().flat_map(|(whole, parts)| {
            core::iter::once(whole.id).chain(parts.iter().map(|part| part.id))
        });
        decisive.chain(latest).collect()
    }

    /// The part to ask for next, to come closer to the rows that differ.
    #[must_use]
    pub fn next_part(&self) -> Option<Part> {
        let (whole, parts) = self.latest()?;
        let Some(last) = parts.last() else {
            let differences = whole.differences().into_iter();
            let mut tables = differences.filter(|difference| {
                difference.sides.len() > 1 && ![SCHEMA, OTHERS].contains(&&*difference.table)
            });
            let Difference { table, rows_max, .. } = tables.next()?;
            return Some(Part { table, every: spread(rows_max), ..Part::default() });
        };
        let part = last.part.as_ref()?;
        let Region { low, high, rows, .. } = Region::of(part, last)?;
        let every = spread(rows);
        let finer = every < part.every && parts.len() < SCRUB_PARTS_MAX;
        finer.then(|| Part { table: part.table.clone(), low, high, every })
    }

    /// What the last scrub of everything found to differ, down to the rows.
    #[must_use]
    pub fn differences(&self) -> Vec<Difference> {
        let Some((whole, parts)) = self.latest() else { return Vec::new() };
        let mut differences = whole.differences();
        for difference in &mut differences {
            let regions = parts.iter().rev().filter_map(|scrub| {
                let part = scrub.part.as_ref().filter(|part| part.table == difference.table)?;
                Some(Region::of(part, scrub)?.words(part))
            });
            difference.rows = { regions }.next().unwrap_or_default();
        }
        differences
    }

    /// The write that asks for a scrub; what says nothing any more goes.
    #[must_use]
    pub fn ask(&self, boards: &[NodeId], part: Option<Part>) -> Vec<u8> {
        let kept: Vec<Value> = self.kept(boards).into_iter().map(integer).collect();
        let last = self.0.last().map_or(0, |scrub| scrub.id);
        let places: Vec<_> = (2..2 + kept.len()).map(|place| format!("?{place}")).collect();
        let places = places.join(", ");
        let parameters: Vec<_> = core::iter::once(integer(last)).chain(kept).collect();
        let trim = |table: &str, column: &str| {
            let sql =
                format!("DELETE FROM {table} WHERE {column} <= ?1 AND {column} NOT IN ({places})");
            (sql, parameters.clone())
        };
        let Part { table, low, high, every } = part.unwrap_or_default();
        let insert = "INSERT INTO _understudy_scrub(time, boards, name, low, high, every) \
                      VALUES (unixepoch(), ?1, ?2, ?3, ?4, ?5)";
        let asked = Vec::from([
            integer(boards.len() as u64),
            Value::Text(table.into_bytes()),
            Value::Blob(low),
            Value::Blob(high),
            integer(every),
        ]);
        // The caller hears the number of the row that was put last.
        request(Vec::from([
            trim("_understudy_digest", "scrub"),
            trim("_understudy_scrub", "id"),
            (String::from(insert), asked),
        ]))
    }

    /// The write that records which board is right.
    ///
    /// # Errors
    /// Says why there is nothing to decide, or not this way.
    pub fn decide(&self, source: NodeId, name: &str) -> Result<Vec<u8>, String> {
        let Some((whole, _)) = self.latest().filter(|(whole, _)| whole.differs()) else {
            return Err(String::from(
                "the last scrub found no difference: there is nothing to decide. Run `understudy \
                 scrub` to look again",
            ));
        };
        if whole.majority().is_some() {
            return Err(String::from(
                "a majority of the boards agrees, and those it contradicts are fenced already: \
                 there is nothing to decide",
            ));
        }
        if whole.digest_of(source).is_none() {
            return Err(format!(
                "the last scrub has no digest of {name}: it did not report one, or cannot read \
                 its rows"
            ));
        }
        let sql = "UPDATE _understudy_scrub SET source = ?1 WHERE id = ?2";
        let parameters = Vec::from([integer(source), integer(whole.id)]);
        Ok(request(Vec::from([(String::from(sql), parameters)])))
    }
}

/// Rows out of which one is a cut, so that there are a handful of cuts.
fn spread(rows: u64) -> u64 {
    (rows / SCRUB_CUTS).max(1)
}

/// Where boards differ in a part.
struct Region<'a> {
    low: Vec<u8>,
    high: Vec<u8>,
    rows: u64,
    /// What each board found there.
    between: Vec<&'a [Item]>,
}

impl<'a> Region<'a> {
    /// What lies between the cuts up to which all agree and those from which they
    /// agree again.
    fn of(part: &Part, scrub: &'a Scrub) -> Option<Self> {
        let reports = scrub.reports.values();
        let lists: Vec<&[Item]> = reports
            .filter(|report| matches!(report.finding, Finding::Digest(_)))
            .map(|report| report.items.as_slice())
            .collect();
        let (first, others) = lists.split_first()?;
        let before = agreeing(first, others, |list, place| list.get(place));
        let is_same = lists.iter().all(|list| list.len() == before);
        if others.is_empty() || is_same {
            return None;
        }
        let behind = agreeing(first, others, |list, place| list[before..].iter().rev().nth(place));
        let start = first.get(before).map(|item| &item.start);
        let common = lists.iter().all(|list| list.get(before).map(|item| &item.start) == start);
        let from = if common || before == 0 { before } else { before - 1 };
        let low = match first.get(from) {
            Some(item) if common || before > 0 => item.start.clone(),
            Some(_) | None => part.low.clone(),
        };
        let high = match behind {
            0 => part.high.clone(),
            _ => first[first.len() - behind].start.clone(),
        };
        let between: Vec<&[Item]> =
            lists.iter().map(|list| &list[from..list.len() - behind]).collect();
        let count = |items: &&[Item]| items.iter().map(|item| item.rows).sum();
        let rows = between.iter().map(count).max().unwrap_or(0);
        Some(Self { low, high, rows, between })
    }

    fn words(&self, part: &Part) -> String {
        match part.every {
            1 => single_rows(&self.between),
            _ => stretch(&self.low, &self.high),
        }
    }
}

/// How many items all lists have in common, looked up by place.
fn agreeing<'a>(
    first: &'a [Item],
    others: &[&'a [Item]],
    at: impl Fn(&'a [Item], usize) -> Option<&'a Item>,
) -> usize {
    let same = |place: &usize| {
        let item = at(first, *place);
        item.is_some() && others.iter().all(|list| at(list, *place) == item)
    };
    (0..).take_while(same).count()
}

/// Rows that are not everywhere, by their keys.
fn single_rows(lists: &[&[Item]]) -> String {
    let everywhere = |item: &Item| lists.iter().all(|list| list.contains(item));
    let mut keys: Vec<&[u8]> = Vec::new();
    for item in lists.iter().flat_map(|list| list.iter()) {
        if !everywhere(item) && !keys.contains(&item.start.as_slice()) {
            keys.push(&item.start);
        }
    }
    let words: Vec<String> = keys.iter().map(|key| key_words(key)).collect();
    match words.as_slice() {
        [one] => format!("row {one}"),
        few if few.len() <= SCRUB_ROWS_NAMED_MAX => format!("rows {}", few.join(", ")),
        [first, .., last] => format!("rows {first} to {last}, {} of them", words.len()),
        [] => String::new(),
    }
}

fn stretch(low: &[u8], high: &[u8]) -> String {
    match (low, high) {
        ([], []) => String::from("rows all over the table"),
        ([], high) => format!("rows before {}", key_words(high)),
        (low, []) => format!("rows from {} on", key_words(low)),
        (low, high) => format!("rows from {} to before {}", key_words(low), key_words(high)),
    }
}

/// A key as people read it.
fn key_words(key: &[u8]) -> String {
    let values: Vec<Value> = sql::decode(key).unwrap_or_default();
    let words = values.iter().map(|value| match value {
        Value::Null => String::from("NULL"),
        Value::Integer(number) => number.to_string(),
        Value::Real(number) => number.to_string(),
        Value::Text(bytes) => format!("'{}'", shortened(&String::from_utf8_lossy(bytes))),
        Value::Blob(bytes) => {
            let hex: String = bytes.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
            format!("x'{hex}'")
        }
    });
    let words: Vec<String> = words.collect();
    match words.as_slice() {
        [one] => one.clone(),
        several => format!("({})", several.join(", ")),
    }
}

fn shortened(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(32).collect()
}

/// The write that tells the group what a board found; of a scrub that is gone it
/// tells nothing.
#[must_use]
pub fn report(scrub: u64, board: NodeId, report: &Report) -> Vec<u8> {
    let forget = "DELETE FROM _understudy_digest WHERE scrub = ?1 AND board = ?2";
    let own = Vec::from([integer(scrub), integer(board)]);
    let mut parameters = own.clone();
    parameters.push(integer(report.entry));
    let (rows, digest, problem) = match &report.finding {
        Finding::Digest(digest) => (Some(total(report)), Some(*digest), ""),
        Finding::Unreadable(why) => (Some(total(report)), None, why.as_str()),
        Finding::Unfinished(why) => (None, None, why.as_str()),
    };
    let mut places = Vec::new();
    put_item(&mut parameters, &mut places, ("", &[]), rows, digest, problem);
    for item in &report.items {
        let named = (item.table.as_str(), item.start.as_slice());
        put_item(&mut parameters, &mut places, named, Some(item.rows), item.digest, &item.problem);
    }
    let insert = format!(
        "INSERT INTO _understudy_digest(scrub, board, entry, place, name, start, rows, digest, \
         problem) SELECT ?1, ?2, ?3, found.* FROM (VALUES {}) AS found \
         WHERE EXISTS (SELECT 1 FROM _understudy_scrub WHERE id = ?1)",
        places.join(", ")
    );
    request(Vec::from([(String::from(forget), own), (insert, parameters)]))
}

fn total(report: &Report) -> u64 {
    report.items.iter().map(|item| item.rows).sum()
}

fn put_item(
    parameters: &mut Vec<Value>,
    places: &mut Vec<String>,
    (table, start): (&str, &[u8]),
    rows: Option<u64>,
    digest: Option<u64>,
    problem: &str,
) {
    let at = parameters.len() + 1;
    let number = places.len();
    let marks: Vec<_> = (at..at + 5).map(|mark| format!("?{mark}")).collect();
    places.push(format!("({number}, {})", marks.join(", ")));
    parameters.extend([
        Value::Text(Vec::from(table)),
        Value::Blob(Vec::from(start)),
        rows.map_or(Value::Null, integer),
        digest.map_or(Value::Null, integer),
        Value::Text(Vec::from(problem)),
    ]);
}

const fn integer(number: u64) -> Value {
    Value::Integer(number.cast_signed())
}

fn request(statements: Vec<(String, Vec<Value>)>) -> Vec<u8> {
    let statements = statements.into_iter().map(|(sql, values)| Statement::new(sql, values));
    let request = SqlRequest::new(RequestKind::Execute, Origin::Agent, statements.collect());
    sql::encode(&SqlRequest { transaction: true, ..request })
}
