//! What this board holds, digested as of one entry while others are applied.
//!
//! When an entry brings a scrub, the open transaction is committed and a connection
//! of the scrub's own begins to read: SQLite keeps it at that state, however long
//! it takes. What it costs is bounded: one row and one small page cache of memory,
//! and a WAL that cannot begin anew meanwhile: when it has grown by twice its usual
//! size the scrub is ended and reported as not finished.
//!
//! Rows are hashed as they are read back, each by itself, reals by their bits and
//! rowids included, and added up: in which pages they are kept, and in which order,
//! does not matter. Beside them every index is compared with its table, since what
//! is found through a damaged one is not what the table holds.

use std::{
    collections::VecDeque,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering::Relaxed},
    },
};

use rusqlite::{Connection, ErrorCode, Row};
use understudy_core::{
    limits::{SCRUB_CUTS_MAX, SCRUB_PROBLEM_BYTES_MAX, SCRUB_TABLES_MAX},
    mutant,
    scrub::{Finding, Item, OTHERS, Part, Report, SCHEMA, Scrub, Scrubs},
    sql::{self, Value},
};

use super::{
    Database, Failure, Options,
    capture::value_of,
    hash::{self, Hash},
    head::HEAD,
    read::read_from_now,
    schema::{Schema, Table, quoted},
};

/// SQLite's steps between two questions whether to go on.
const STEPS: i32 = 1_000;

/// Why a digest goes on, or does not.
const GOES_ON: u8 = 0;
const NEWER: u8 = 1;
const BOUND: u8 = 2;

/// What the database knows of scrubs.
#[derive(Default)]
pub(super) struct Watch {
    scrubs: Scrubs,
    /// The entry being applied has touched rows about scrubs.
    is_touched: bool,
    /// They are different from what was last taken.
    is_changed: bool,
    /// Of everything, and of parts that came too early; a newer one takes their place.
    pinned: VecDeque<Scrubbing>,
    /// Committed since the last digest was pinned, bytes: the WAL has grown by them.
    grown: u64,
    /// Of the digest that was pinned last, and whether it is of everything.
    last: Option<(Arc<AtomicU8>, bool)>,
}

impl Watch {
    /// A row of this table was put or deleted.
    pub(super) fn touched(&mut self, table: &str) {
        self.is_touched |= matches!(table, "_understudy_scrub" | "_understudy_digest");
    }

    /// So much more was committed.
    pub(super) const fn grew(&mut self, bytes: u64) {
        self.grown += bytes;
    }

    fn stop(&self, why: u8) {
        if let Some((goes_on, _)) = &self.last {
            goes_on.store(why, Relaxed);
        }
    }

    /// A digest of everything is being made: it holds the other end.
    fn is_busy_with_everything(&self) -> bool {
        self.last.as_ref().is_some_and(|(flag, whole)| *whole && Arc::strong_count(flag) > 1)
    }
}

/// A digest to be made, on whatever thread has time for it.
pub struct Scrubbing {
    id: u64,
    entry: u64,
    part: Option<Part>,
    schema: Arc<Schema>,
    goes_on: Arc<AtomicU8>,
    /// Reads the state it is to digest, or why it cannot.
    connection: Result<Connection, String>,
}

impl Database {
    /// What the group's scrubs have come to.
    #[must_use]
    pub const fn scrubs(&self) -> &Scrubs {
        &self.watch.scrubs
    }

    /// The same, when it has changed since the last call.
    pub fn take_scrubs(&mut self) -> Option<Scrubs> {
        std::mem::take(&mut self.watch.is_changed).then(|| self.watch.scrubs.clone())
    }

    /// A digest that is to be made now.
    pub fn take_scrubbing(&mut self) -> Option<Scrubbing> {
        self.watch.pinned.pop_front()
    }

    pub(super) fn reload_scrubs(&mut self) -> rusqlite::Result<()> {
        let scrubs = read_scrubs(&self.connection)?;
        self.watch.is_touched = false;
        self.watch.is_changed |= scrubs != self.watch.scrubs;
        self.watch.scrubs = scrubs;
        Ok(())
    }

    /// An entry is applied: did it bring a scrub?
    pub(super) fn look_for_scrub(&mut self) -> Result<(), Failure> {
        if !std::mem::take(&mut self.watch.is_touched) {
            return Ok(());
        }
        let before = self.last_scrub();
        if let Err(error) = self.reload_scrubs() {
            return Err(self.failure(&error));
        }
        match self.watch.scrubs.last() {
            Some(last) if last.id > before => {
                let (id, part) = (last.id, last.part.clone());
                self.pin(id, part)
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Names the last scrub; 0 before the first.
    pub(super) fn last_scrub(&self) -> u64 {
        self.watch.scrubs.last().map_or(0, |scrub| scrub.id)
    }

    /// A state came from another board, in which there may be a scrub after `before`: this
    /// board was never at its entry and says so, or it would be waited for.
    pub(super) fn pass_scrub_over(&mut self, before: u64) {
        let Some(last) = self.watch.scrubs.last().filter(|last| last.id > before) else { return };
        let (id, part) = (last.id, last.part.clone());
        let never = Err(String::from("this board took another's state meanwhile"));
        self.put_up(id, part, &Arc::new(AtomicU8::new(GOES_ON)), never);
    }

    fn put_up(
        &mut self,
        id: u64,
        part: Option<Part>,
        goes_on: &Arc<AtomicU8>,
        connection: Result<Connection, String>,
    ) {
        let (schema, entry) = (Arc::clone(&self.schema), self.applied().index);
        let goes_on = Arc::clone(goes_on);
        self.watch.pinned.push_back(Scrubbing { id, entry, part, schema, goes_on, connection });
    }

    /// Keeps the state of now for a digest. A part does not end the digest of
    /// everything it came from, on a board that is behind; anything else gives way.
    fn pin(&mut self, id: u64, part: Option<Part>) -> Result<(), Failure> {
        let goes_on = Arc::new(AtomicU8::new(GOES_ON));
        let busy = part.is_some() && self.watch.is_busy_with_everything();
        let connection = if busy {
            Err(String::from("this board was still at the scrub before"))
        } else if self.is_full() {
            Err(String::from("the disk is full"))
        } else {
            if !mutant::is(19) {
                self.commit()?;
                self.begin()?;
            }
            read_while(&self.path, &self.options, &goes_on).map_err(|error| error.to_string())
        };
        if !busy {
            self.watch.stop(NEWER);
            self.watch.grown = 0;
            self.watch.pinned.clear();
            self.watch.last = Some((Arc::clone(&goes_on), part.is_none()));
        }
        self.put_up(id, part, &goes_on, connection);
        Ok(())
    }

    /// Ends a digest that keeps the WAL from beginning anew for too long.
    pub(super) fn bound_scrub(&self) {
        if self.watch.grown + self.open_bytes >= 2 * self.options.wal_bytes {
            self.watch.stop(BOUND);
        }
    }
}

/// Ends when it is told to.
fn read_while(
    path: &Path,
    options: &Options,
    goes_on: &Arc<AtomicU8>,
) -> rusqlite::Result<Connection> {
    let mut connection = read_from_now(path, options)?;
    // Boards keep rows that break a CHECK alike, if they keep any.
    connection.execute_batch("PRAGMA ignore_check_constraints = ON")?;
    let goes_on = Arc::clone(goes_on);
    connection.progress_handler(STEPS, Some(move || goes_on.load(Relaxed) != GOES_ON))?;
    Ok(connection)
}

fn read_scrubs(connection: &Connection) -> rusqlite::Result<Scrubs> {
    let mut select = connection.prepare_cached(
        "SELECT id, time, boards, name, low, high, every, source FROM _understudy_scrub ORDER BY id",
    )?;
    let scrubs = select.query_map([], |row| {
        let table: String = row.get(3)?;
        let part = Part { table, low: row.get(4)?, high: row.get(5)?, every: unsigned(row, 6)? };
        Ok(Scrub {
            id: unsigned(row, 0)?,
            time: unsigned(row, 1)?,
            boards: unsigned(row, 2)?,
            part: (!part.table.is_empty()).then_some(part),
            source: row.get::<_, Option<i64>>(7)?.map(i64::cast_unsigned),
            ..Scrub::default()
        })
    })?;
    let mut scrubs: Vec<Scrub> = scrubs.collect::<Result<_, _>>()?;
    for scrub in &mut scrubs {
        read_reports(connection, scrub)?;
    }
    Ok(Scrubs(scrubs))
}

fn read_reports(connection: &Connection, scrub: &mut Scrub) -> rusqlite::Result<()> {
    let mut select = connection.prepare_cached(
        "SELECT board, place, entry, name, start, rows, digest, problem FROM _understudy_digest \
         WHERE scrub = ?1 ORDER BY board, place",
    )?;
    let mut rows = select.query([scrub.id.cast_signed()])?;
    while let Some(row) = rows.next()? {
        let board = unsigned(row, 0)?;
        let count = row.get::<_, Option<i64>>(5)?.map(i64::cast_unsigned);
        let digest = row.get::<_, Option<i64>>(6)?.map(i64::cast_unsigned);
        let problem: String = row.get(7)?;
        if unsigned(row, 1)? == 0 {
            let finding = match (digest, count) {
                (Some(digest), _) => Finding::Digest(digest),
                (None, Some(_)) => Finding::Unreadable(problem),
                (None, None) => Finding::Unfinished(problem),
            };
            let report = Report { entry: unsigned(row, 2)?, finding, items: Vec::new() };
            scrub.reports.insert(board, report);
        } else if let Some(report) = scrub.reports.get_mut(&board) {
            let (table, start, rows) = (row.get(3)?, row.get(4)?, count.unwrap_or(0));
            report.items.push(Item { table, start, rows, digest, problem });
        }
    }
    Ok(())
}

fn unsigned(row: &Row<'_>, place: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(place).map(i64::cast_unsigned)
}

/// Why a table has no digest.
enum Trouble {
    /// What is on the disk is no table any more.
    Damage(String),
    /// The digest is not made to its end.
    Ended(String),
}

impl Scrubbing {
    /// Which scrub this is.
    #[must_use]
    pub const fn id(&self) -> u64 {
        self.id
    }

    /// What to report where no thread can be had for it.
    #[must_use]
    pub fn not_started(id: u64) -> Report {
        Report::unfinished(0, &format!("no thread could be started for scrub {id}"))
    }

    /// Digests, however long it takes.
    #[must_use]
    pub fn run(self) -> Report {
        let made = match &self.connection {
            Err(reason) => Err(reason.clone()),
            Ok(connection) => match &self.part {
                None => self.everything(connection),
                Some(part) => self.part(connection, part),
            },
        };
        match made {
            Ok(items) => Report { entry: self.entry, finding: finding(&items), items },
            Err(why) => Report::unfinished(self.entry, &shortened(&why)),
        }
    }

    fn everything(&self, connection: &Connection) -> Result<Vec<Item>, String> {
        let mut items = Vec::new();
        items.push(self.item(SCHEMA, digest_schema(connection))?);
        let tables = self.schema.tables().filter(|table| is_compared(&table.name));
        for (place, table) in tables.enumerate() {
            let item = self.item(&table.name, digest_table(connection, table))?;
            if place < SCRUB_TABLES_MAX {
                items.push(item);
                continue;
            }
            match items.last_mut().filter(|last| last.table == OTHERS) {
                Some(others) => combine(others, &item),
                None => items.push(Item { table: String::from(OTHERS), ..item }),
            }
        }
        Ok(items)
    }

    fn part(&self, connection: &Connection, part: &Part) -> Result<Vec<Item>, String> {
        // Dropped since: nothing is there to differ.
        let Some(table) = self.schema.named(part.table.as_bytes()) else { return Ok(Vec::new()) };
        match cut_table(connection, table, part) {
            Ok(items) => Ok(items),
            Err(error) => Ok(vec![self.item(&table.name, Err(Trouble::of(&error)))?]),
        }
    }

    fn item(&self, table: &str, found: Result<(u64, u64), Trouble>) -> Result<Item, String> {
        let item = Item { table: table.to_owned(), ..Item::default() };
        match found {
            Ok((rows, digest)) => Ok(Item { rows, digest: Some(digest), ..item }),
            Err(Trouble::Damage(problem)) => Ok(Item { problem: shortened(&problem), ..item }),
            Err(Trouble::Ended(_)) if self.goes_on.load(Relaxed) == NEWER => {
                Err(String::from("another scrub was asked for meanwhile"))
            }
            Err(Trouble::Ended(_)) if self.goes_on.load(Relaxed) == BOUND => Err(String::from(
                "so much was written meanwhile that it would have kept the WAL from beginning anew",
            )),
            Err(Trouble::Ended(why)) => Err(why),
        }
    }
}

impl Trouble {
    fn of(error: &rusqlite::Error) -> Self {
        let is_damage = matches!(
            error.sqlite_error_code(),
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::SystemIoFailure)
        );
        let why = super::text::words(error);
        if is_damage { Self::Damage(why) } else { Self::Ended(why) }
    }
}

/// Not what a program's version may keep in its own way: the row that says what is
/// applied, and what steers SQLite's planner.
fn is_compared(table: &str) -> bool {
    table != HEAD && !table.starts_with("sqlite_stat")
}

fn combine(others: &mut Item, item: &Item) {
    others.rows += item.rows;
    others.digest = others.digest.zip(item.digest).map(|(one, other)| {
        let mut hash = Hash::default();
        hash.put(one);
        hash.put(other);
        hash.finish()
    });
    if others.problem.is_empty() {
        others.problem.clone_from(&item.problem);
    }
}

fn finding(items: &[Item]) -> Finding {
    let mut hash = Hash::default();
    for item in items {
        let Some(digest) = item.digest else {
            let why = format!("{}: {}", item.table, item.problem);
            return Finding::Unreadable(shortened(&why));
        };
        hash.bytes(item.table.as_bytes());
        hash.bytes(&item.start);
        hash.put(item.rows);
        hash.put(digest);
    }
    Finding::Digest(hash.finish())
}

fn shortened(text: &str) -> String {
    let fits = |(at, c): &(usize, char)| at + c.len_utf8() <= SCRUB_PROBLEM_BYTES_MAX;
    text.char_indices().take_while(fits).map(|(_, c)| c).collect()
}

fn digest_schema(connection: &Connection) -> Result<(u64, u64), Trouble> {
    let digest = || {
        let mut sum = Sum::default();
        sum.add_all(
            connection,
            "SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite_stat%'",
        )?;
        for pragma in ["PRAGMA user_version", "PRAGMA application_id"] {
            sum.add_all(connection, pragma)?;
        }
        Ok((sum.rows, sum.digest))
    };
    digest().map_err(|error: rusqlite::Error| Trouble::of(&error))
}

/// Rows and their digest, if they and what leads to them are in order.
fn digest_table(connection: &Connection, table: &Table) -> Result<(u64, u64), Trouble> {
    let mut sum = Sum::default();
    let read = sum.add_all(connection, &table.scan);
    let fault = read.and_then(|()| fault(connection, &table.name));
    match fault {
        Ok(None) => Ok((sum.rows, sum.digest)),
        Ok(Some(fault)) => Err(Trouble::Damage(fault)),
        Err(error) => Err(Trouble::of(&error)),
    }
}

/// What SQLite finds wrong with a table or its indexes, apart from values that a
/// constraint would not take: those are the rows' own affair.
fn fault(connection: &Connection, table: &str) -> rusqlite::Result<Option<String>> {
    let mut check =
        connection.prepare(&format!("PRAGMA main.integrity_check({})", quoted(table)))?;
    let mut rows = check.query([])?;
    while let Some(row) = rows.next()? {
        let words: String = row.get(0)?;
        let is_of_values = words.contains(" value in ") || words.starts_with("CHECK constraint");
        if words != "ok" && !is_of_values {
            return Ok(Some(words));
        }
    }
    Ok(None)
}

/// The stretch's rows in the order in which they are kept, cut where the hash of a
/// row's key says so.
fn cut_table(connection: &Connection, table: &Table, part: &Part) -> rusqlite::Result<Vec<Item>> {
    let mut select = connection.prepare(&table.scan)?;
    let columns = select.column_count();
    let mut rows = select.query([])?;
    let mut items: Vec<Item> = Vec::new();
    let mut is_inside = part.low.is_empty();
    while let Some(row) = rows.next()? {
        let key = key_of(table, row)?;
        is_inside |= key == part.low;
        if !is_inside {
            continue;
        }
        if key == part.high {
            break;
        }
        let mut hash = Hash::default();
        hash.bytes(&key);
        let cuts = hash.finish().is_multiple_of(part.every.max(1));
        if items.is_empty() || (cuts && items.len() < SCRUB_CUTS_MAX) {
            let (table, digest) = (table.name.clone(), Some(0));
            items.push(Item { table, start: key, digest, ..Item::default() });
        }
        if let Some(item) = items.last_mut() {
            item.rows += 1;
            let digest = item.digest.unwrap_or(0).wrapping_add(hash::row(row, columns)?);
            item.digest = Some(digest);
        }
    }
    Ok(items)
}

/// What names a row, encoded: its rowid or its key.
fn key_of(table: &Table, row: &Row<'_>) -> rusqlite::Result<Vec<u8>> {
    let places: &[usize] = if table.key_columns.is_some() { &table.key } else { &[0] };
    let values = places.iter().map(|place| Ok(value_of(row.get_ref(*place)?)));
    Ok(sql::encode(&values.collect::<rusqlite::Result<Vec<Value>>>()?))
}

/// Rows and the sum of their hashes: each is there once, so their order says nothing.
#[derive(Default)]
struct Sum {
    rows: u64,
    digest: u64,
}

impl Sum {
    fn add_all(&mut self, connection: &Connection, query: &str) -> rusqlite::Result<()> {
        let mut select = connection.prepare(query)?;
        let columns = select.column_count();
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            self.rows += 1;
            self.digest = self.digest.wrapping_add(hash::row(row, columns)?);
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "scrub_tests.rs"]
mod tests;
