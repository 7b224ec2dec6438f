//! What a demonstration came to: the rows of each board, read page by page
//! however many there are, against what was acknowledged.
//!
//! A sensor has one reading for each of its times, so what was acknowledged is a list
//! of times per sensor; one that is there twice stands a microsecond later, which is no
//! time of anybody's.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
};

use serde_json::{Value, json};

use crate::terminal::COLUMNS;

/// Times of acknowledged readings, ascending, by their sensor: whole milliseconds in
/// microseconds since 1970.
pub(super) type Acknowledged = BTreeMap<String, Vec<i64>>;

/// The statement that makes the table of probes; readings have theirs from the group.
pub(super) const TABLE: &str = "CREATE TABLE probe(id INTEGER PRIMARY KEY, n INTEGER)";

/// Rows in one page.
const PAGE_ROWS: usize = 2_000;

const PAGE: &str = "SELECT sensor.name, time, value, board FROM reading JOIN sensor ON sensor.id = \
                    reading.sensor WHERE (sensor.name, time) > (?, ?) ORDER BY sensor.name, time \
                    LIMIT ?";

/// What one board's database holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tally {
    digest: u64,
    lost: u64,
    doubled: u64,
}

impl Tally {
    /// Reads it all, by `query`: a statement with its parameters in, rows out.
    pub(super) fn take(
        mut query: impl FnMut(Value) -> Result<Vec<Value>, String>,
        acknowledged: &Acknowledged,
    ) -> Result<Self, String> {
        let mut hasher = DefaultHasher::new();
        let (mut found, mut doubled) = (0, 0);
        let mut after = (String::new(), i64::MIN);
        loop {
            let rows = query(json!([PAGE, after.0, after.1, PAGE_ROWS]))?;
            for row in &rows {
                row.to_string().hash(&mut hasher);
                after = place(row)?;
                doubled += u64::from(after.1 % 1_000 != 0);
                let times = acknowledged.get(&after.0);
                found += u64::from(times.is_some_and(|all| all.binary_search(&after.1).is_ok()));
            }
            if rows.len() < PAGE_ROWS {
                break;
            }
        }
        for row in query(json!(["SELECT id, n FROM probe"]))? {
            row.to_string().hash(&mut hasher);
        }
        let all: u64 = acknowledged.values().map(|times| times.len() as u64).sum();
        Ok(Self { digest: hasher.finish(), lost: all - found, doubled })
    }
}

fn place(row: &Value) -> Result<(String, i64), String> {
    let sensor = row.get(0).and_then(Value::as_str).map(String::from);
    let place = sensor.and_then(|sensor| Some((sensor, row.get(1)?.as_i64()?)));
    place.ok_or_else(|| format!("not a reading: {row}"))
}

/// What it came to, over all boards.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) acknowledged: u64,
    pub(super) lost: u64,
    pub(super) doubled: u64,
    /// Longest time without an acknowledged write.
    pub(super) gap_ms: u64,
    /// Writes came back after it.
    pub(super) writing: bool,
    pub(super) boards: usize,
    pub(super) same: usize,
    /// Longest time that nobody held the duty after its holder was killed.
    pub(super) takeover_ms: Option<u64>,
    /// How often somebody acted who had been followed by another already.
    pub(super) two_holders: u64,
    /// Nobody took the duty over.
    pub(super) is_orphaned: bool,
}

impl Verdict {
    /// From every board's tally, absent where one could not be read. The worst
    /// board counts.
    pub(super) fn new(
        acknowledged: &Acknowledged,
        tallies: &[Option<Tally>],
        gap_ms: u64,
        writing: bool,
    ) -> Self {
        let there = || tallies.iter().flatten();
        let alike = |tally: &Tally| there().filter(|other| *other == tally).count();
        let all = acknowledged.values().map(|times| times.len() as u64).sum();
        Self {
            acknowledged: all,
            lost: there().map(|tally| tally.lost).max().unwrap_or(all),
            doubled: there().map(|tally| tally.doubled).max().unwrap_or(0),
            gap_ms,
            writing,
            boards: tallies.len(),
            same: there().map(alike).max().unwrap_or(0),
            takeover_ms: None,
            two_holders: 0,
            is_orphaned: false,
        }
    }

    pub(super) const fn is_good(&self) -> bool {
        self.acknowledged > 0
            && self.lost == 0
            && self.doubled == 0
            && self.writing
            && self.two_holders == 0
            && !self.is_orphaned
            && self.same == self.boards
    }

    /// In lines of 80 columns, or one of JSON.
    pub(super) fn text(&self, as_json: bool) -> String {
        let Self { acknowledged, lost, doubled, gap_ms, writing, boards, same, .. } = self;
        let Self { takeover_ms, two_holders, is_orphaned, .. } = self;
        if as_json {
            let takeover_ms = takeover_ms.map_or_else(|| "null".to_owned(), |ms| ms.to_string());
            return format!(
                "{{\"acknowledged\":{acknowledged},\"lost\":{lost},\"doubled\":{doubled},\
                 \"write_gap_ms\":{gap_ms},\"boards\":{boards},\"same_rows\":{same},\
                 \"takeover_ms\":{takeover_ms},\"two_holders\":{two_holders}}}"
            );
        }
        let ended = if *writing { "" } else { " and not over" };
        let found = format!("{acknowledged} readings acknowledged, {lost} lost, {doubled} doubled");
        let taken = match (takeover_ms, is_orphaned) {
            (_, true) => String::from("duty not taken over"),
            (Some(ms), false) => format!("duty taken over in {ms} ms"),
            (None, false) => String::from("nobody was killed"),
        };
        let held = match two_holders {
            0 => String::from("never held by two"),
            times => format!("held by two {times} times"),
        };
        let gap = format!("write gap {gap_ms} ms{ended}");
        let duty = format!("{taken}, {held}");
        let between = if duty.len() + gap.len() + 2 <= COLUMNS { "; " } else { "\n" };
        format!("{found}, same rows on {same} of {boards}\n{duty}{between}{gap}")
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::{Connection, types::ValueRef};

    use super::*;

    fn empty() -> Connection {
        let board = Connection::open_in_memory().unwrap();
        let tables = "CREATE TABLE sensor(id INTEGER PRIMARY KEY, name TEXT);
            CREATE TABLE reading(sensor, time, value, board, PRIMARY KEY(sensor, time));
            INSERT INTO sensor VALUES (1, 'green/load')";
        board.execute_batch(tables).unwrap();
        board.execute_batch(TABLE).unwrap();
        board
    }

    fn write(board: &Connection, ms: i64) {
        write_at(board, 1_000 * ms);
    }

    fn write_at(board: &Connection, us: i64) {
        board.execute("INSERT INTO reading VALUES (1, ?, 0.25, 1)", [us]).unwrap();
    }

    fn up_to(last: i64) -> Acknowledged {
        let times = (1..=last).map(|ms| 1_000 * ms).collect();
        Acknowledged::from([(String::from("green/load"), times)])
    }

    fn tally(board: &Connection, last: i64) -> Tally {
        let query = |statement: Value| {
            let mut select = board.prepare(statement[0].as_str().unwrap()).unwrap();
            let columns = select.column_count();
            for place in 1..=select.parameter_count() {
                let bound = match (statement[place].as_str(), statement[place].as_i64()) {
                    (Some(text), _) => select.raw_bind_parameter(place, text),
                    (None, number) => select.raw_bind_parameter(place, number),
                };
                bound.unwrap();
            }
            let mut rows = select.raw_query();
            let mut all = Vec::new();
            while let Some(row) = rows.next().unwrap() {
                let cell = |place| match row.get_ref(place).unwrap() {
                    ValueRef::Integer(number) => json!(number),
                    ValueRef::Real(number) => json!(number),
                    ValueRef::Text(text) => json!(std::str::from_utf8(text).unwrap()),
                    ValueRef::Null | ValueRef::Blob(_) => Value::Null,
                };
                all.push((0..columns).map(cell).collect());
            }
            Ok(all)
        };
        Tally::take(query, &up_to(last)).unwrap()
    }

    fn verdict(boards: &[&Connection], last: i64) -> Verdict {
        let tallies: Vec<_> = boards.iter().map(|board| Some(tally(board, last))).collect();
        Verdict::new(&up_to(last), &tallies, 500, true)
    }

    #[test]
    fn a_reading_that_is_stored_twice_is_seen() {
        let board = empty();
        write(&board, 1);
        assert_eq!(verdict(&[&board], 1).doubled, 0);
        write_at(&board, 1_001);
        let bad = verdict(&[&board], 1);
        assert_eq!((bad.doubled, bad.lost, bad.is_good()), (1, 0, false));
    }

    #[test]
    fn any_number_of_rows_is_compared_and_the_one_missing_is_seen() {
        let boards = [empty(), empty(), empty()];
        let last = 2 * PAGE_ROWS.cast_signed() as i64 + 1;
        for board in &boards {
            board.execute_batch("BEGIN").unwrap();
            (1..=last).for_each(|ms| write(board, ms));
            board.execute_batch("COMMIT").unwrap();
        }
        let [a, b, c] = &boards;
        let good = verdict(&[a, b, c], last);
        assert!(good.is_good(), "{good:?}");
        c.execute("DELETE FROM reading WHERE time = 3000000", ()).unwrap();
        let bad = verdict(&[a, b, c], last);
        assert_eq!((bad.lost, bad.same, bad.is_good()), (1, 2, false));
        assert_eq!(verdict(&[c, a, b], last).same, 2, "whichever board differs");
        assert_eq!(verdict(&[a, b], last + 2).lost, 2);
    }

    #[test]
    fn a_verdict_says_all_of_it_within_80_columns_however_large_it_is() {
        let small = Verdict {
            takeover_ms: Some(143),
            ..Verdict::new(&up_to(9_876), &[None, None, None], 1_234, true)
        };
        let large = Verdict {
            acknowledged: 9_999_999_999,
            lost: 9_999,
            doubled: 9_999,
            gap_ms: 999_999,
            writing: false,
            takeover_ms: Some(99_999),
            two_holders: 9_999,
            ..small
        };
        assert!(small.text(false).contains("duty taken over in 143 ms, never held by two"));
        for text in [small.text(false), large.text(false)] {
            assert!(text.lines().all(|line| line.len() <= COLUMNS), "{text}");
            for words in ["readings acknowledged", "lost", "doubled", "gap", "ms", "same rows on"] {
                assert!(text.contains(words), "{words}: {text}");
            }
        }
    }

    #[test]
    fn only_what_is_whole_is_good() {
        let board = empty();
        write(&board, 1);
        let acknowledged = up_to(1);
        let one = || Some(tally(&board, 1));
        let good = Verdict::new(&acknowledged, &[one(), one(), one()], 512, true);
        assert!(good.is_good());
        assert_eq!(
            good.text(true),
            r#"{"acknowledged":1,"lost":0,"doubled":0,"write_gap_ms":512,"boards":3,"same_rows":3,"takeover_ms":null,"two_holders":0}"#
        );
        assert!(!Verdict::new(&acknowledged, &[one(), one(), None], 512, true).is_good());
        let open = Verdict::new(&acknowledged, &[one(), one(), one()], 9_000, false);
        assert!(!open.is_good() && open.text(false).contains("9000 ms and not over"));
        let whole = || Verdict::new(&acknowledged, &[one(), one(), one()], 512, true);
        assert!(!Verdict { two_holders: 1, ..whole() }.is_good());
        assert!(!Verdict { is_orphaned: true, ..whole() }.is_good());
        assert!(!Verdict::new(&Acknowledged::new(), &[one(), one(), one()], 5, true).is_good());
    }
}
