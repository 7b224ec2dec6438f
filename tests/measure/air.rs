//! What readings cost on the air: an entry's data and its datagrams, beside what
//! SQLite's session extension, SQL and JSON would send for the same rows.
//!
//! The extension is not compiled into the product. The sizes of its changesets
//! and patchsets follow from their documented format; the tests hold them against
//! sizes that the extension itself has produced.

use serde_json::{Value as Json, json};
use understudy_core::{
    change::{Change, Row, Segment},
    event::{EntryKind, Position},
    limits,
    readings::{Stored, StoredRow, first_number},
    sql::Value,
    wire::{Frame, FrameEntry, RaftFrame},
};

use crate::readings::{self, Csv, Reading};

/// Readings that are made up.
const READINGS: usize = 4_000;

/// Name and columns of the table; the first two are its key.
const TABLE: &str = "reading";
const KEY: usize = 2;

/// Where the entries stand: a group that has run for a while.
const BASE: Position = Position { term: 9, index: 1_000_000 };

/// The number of the first reading of a batch: of a board that was started some times.
const FIRST: u64 = first_number(12) + 30_000;

/// What one batch comes to, bytes.
#[derive(Clone, Copy, Default)]
struct Sizes {
    entry: usize,
    /// In its frame, sealed, all datagrams of it.
    sealed: usize,
    changeset: usize,
    patchset: usize,
    sql: usize,
    json: usize,
}

impl Sizes {
    const NAMES: [&'static str; 6] = ["entry", "sealed", "changeset", "patchset", "SQL", "JSON"];

    const fn all(self) -> [usize; 6] {
        [self.entry, self.sealed, self.changeset, self.patchset, self.sql, self.json]
    }
}

/// Bytes per reading of made-up readings, or of those in a CSV file.
///
/// # Errors
/// What is wrong with the file.
pub(crate) fn run(csv: Option<&Csv>) -> Result<Json, String> {
    let rows = match csv {
        Some(csv) => csv.read()?,
        None => readings::generated(READINGS).collect(),
    };
    let full = readings::full_precision(&rows);
    let what = csv.map_or_else(|| String::from("made up"), |csv| csv.file.clone());
    println!("{} readings, {what}; bytes per reading:", rows.len());
    println!("{:28} {}", "", Sizes::NAMES.map(|name| format!("{name:>10}")).concat());
    let lines = [
        // Beside what the row has, board and number: a reading counts once.
        ("readings, alone", 1, &rows, stored as fn(&[Reading]) -> Sizes, 32.0),
        ("readings, 16 together", 16, &rows, stored, 8.0),
        ("readings, 100 together", 100, &rows, stored, 5.0),
        ("rows, alone", 1, &rows, inserted, 20.0),
        ("rows, 16 together", 16, &rows, inserted, 8.0),
        ("rows, 100 together", 100, &rows, inserted, 5.0),
        ("rows, 100 of full precision", 100, &full, inserted, 10.0),
        ("rows, one value updated", 1, &rows, updated, 20.0),
    ];
    let report = lines.into_iter().filter_map(|(name, count, rows, sizes, wanted)| {
        let per_reading = averages(rows, count, sizes);
        let Some(per_reading) = per_reading else {
            println!("{name:28} fewer than {count} readings");
            return None;
        };
        let shown = per_reading.map(|bytes| format!("{bytes:10.1}")).concat();
        println!("{name:28} {shown}   at most {wanted} wanted");
        let mut line = json!({ "what": name, "readings": count, "entry_wanted": wanted });
        for (name, bytes) in Sizes::NAMES.iter().zip(per_reading) {
            line[name.to_lowercase()] = json!(bytes);
        }
        Some(line)
    });
    let lines: Vec<Json> = report.collect();
    println!("of an update the value itself, 1 to 9 bytes, is not in what is wanted");
    Ok(json!({ "readings": rows.len(), "source": what, "bytes_per_reading": lines }))
}

fn averages(rows: &[Reading], count: usize, sizes: fn(&[Reading]) -> Sizes) -> Option<[f64; 6]> {
    let mut sums = [0; 6];
    let mut readings = 0;
    for batch in rows.chunks_exact(count) {
        for (sum, bytes) in sums.iter_mut().zip(sizes(batch).all()) {
            *sum += bytes;
        }
        readings += count;
    }
    #[expect(clippy::cast_precision_loss, reason = "these are far below 2^52")]
    let average = |sum: usize| sum as f64 / readings as f64;
    (readings > 0).then(|| sums.map(average))
}

/// As they come by a board's ways in.
fn stored(rows: &[Reading]) -> Sizes {
    let stored = |(number, row): (u64, &Reading)| {
        let [Value::Integer(sensor), Value::Integer(time_ms), value] = row.values() else {
            unreachable!("a reading is these");
        };
        let time = time_ms * 1_000;
        StoredRow { number, sensor, time, value, id: None, token: None, is_far: false }
    };
    let rows_stored = (FIRST..).zip(rows).map(stored).collect();
    let readings = Stored { board: 2, floor: FIRST, rows: rows_stored, ..Stored::default() };
    beside(rows, entry(Segment::Readings(readings)))
}

/// As rows of a table of a user's.
fn inserted(rows: &[Reading]) -> Sizes {
    let put = |row: &Reading| Row::Put { rowid: None, columns: row.values().to_vec() };
    let table = Segment::Rows { table: 3, rows: rows.iter().map(put).collect() };
    beside(rows, entry(table))
}

/// An entry beside what others would send for the same.
fn beside(rows: &[Reading], entry: Vec<u8>) -> Sizes {
    let native = session::header(3) + rows.len() * session::insert(&rows[0].values());
    let sql: Vec<String> = rows.iter().map(|row| format!("({})", listed(row))).collect();
    Sizes {
        entry: entry.len(),
        sealed: sealed(entry),
        changeset: native,
        patchset: native,
        sql: "INSERT INTO reading(sensor,time,value) VALUES".len() + sql.join(",").len(),
        json: as_json(rows),
    }
}

fn updated(rows: &[Reading]) -> Sizes {
    let [row] = rows else { return Sizes::default() };
    let values = row.values();
    let key = values[..KEY].to_vec();
    let update = Row::Update { rowid: None, key, changed: vec![(2, values[2].clone())] };
    let entry = entry(Segment::Rows { table: 3, rows: vec![update] });
    let Reading { sensor, time_ms, value } = row;
    let sql = format!("UPDATE reading SET value={value} WHERE sensor={sensor} AND time={time_ms}");
    Sizes {
        entry: entry.len(),
        sealed: sealed(entry),
        changeset: session::header(3) + session::update(&values, KEY, 1, true),
        patchset: session::header(3) + session::update(&values, KEY, 1, false),
        sql: sql.len(),
        json: as_json(rows),
    }
}

fn listed(row: &Reading) -> String {
    format!("{},{},{}", row.sensor, row.time_ms, row.value)
}

fn as_json(rows: &[Reading]) -> usize {
    let object =
        |row: &Reading| json!({ "sensor": row.sensor, "time": row.time_ms, "value": row.value });
    let objects: Vec<Json> = rows.iter().map(object).collect();
    match objects.as_slice() {
        [one] => one.to_string().len(),
        all => json!(all).to_string().len(),
    }
}

fn entry(segment: Segment) -> Vec<u8> {
    Change { base: BASE, fingerprint: 0xA1B2_C3D4, segments: vec![segment] }.encode()
}

/// Bytes of all datagrams that carry one entry to one board.
fn sealed(data: Vec<u8>) -> usize {
    let Position { term, index } = BASE;
    let entries = vec![FrameEntry { term, kind: EntryKind::Change, data }];
    let append = RaftFrame::Append { term, index, log_term: term, commit: index, entries };
    let frame = Frame::Raft(append).encode().len();
    if frame < limits::PAYLOAD_BYTES_MAX {
        return 1 + frame + limits::SEAL_BYTES;
    }
    let pieces = (frame + limits::FRAME_CHECK_BYTES).div_ceil(limits::FRAGMENT_BYTES);
    let header = limits::FRAGMENT_HEADER_BYTES + limits::SEAL_BYTES;
    frame + limits::FRAME_CHECK_BYTES + pieces * header
}

/// Sizes of what `sqlite3session_changeset` and `_patchset` write: per table `T`
/// or `P`, the number of columns, a key flag for each and the name; per row the
/// operation, whether it is indirect, and values.
mod session {
    use super::{TABLE, Value};

    /// Of one table.
    pub(super) const fn header(columns: usize) -> usize {
        named_header(columns, TABLE)
    }

    pub(super) const fn named_header(columns: usize, table: &str) -> usize {
        2 + columns + table.len() + 1
    }

    /// A kind, then eight bytes of a number or a length and as many bytes.
    pub(super) fn value(value: &Value) -> usize {
        match value {
            Value::Null => 1,
            Value::Integer(_) | Value::Real(_) => 9,
            Value::Text(bytes) | Value::Blob(bytes) => {
                let length = bytes.len();
                2 + (usize::from(length >= 1 << 7) + usize::from(length >= 1 << 14)) + length
            }
        }
    }

    pub(super) fn insert(values: &[Value]) -> usize {
        2 + values.iter().map(value).sum::<usize>()
    }

    /// The first `key` columns are the key, the last `changed` ones change; every
    /// other one is a byte. A changeset has what they were as well: key, old
    /// values and a byte for each other, then new values and a byte for each other.
    pub(super) fn update(
        values: &[Value],
        key: usize,
        changed: usize,
        is_changeset: bool,
    ) -> usize {
        let sum = |values: &[Value]| values.iter().map(value).sum::<usize>();
        let rest = values.len() - key - changed;
        let news = sum(&values[values.len() - changed..]);
        let with_key = sum(&values[..key]) + rest + news;
        2 + if is_changeset { with_key + key + rest + news } else { with_key }
    }

    /// A patchset names the key alone.
    #[cfg(test)]
    pub(super) fn patchset_delete(key: &[Value]) -> usize {
        insert(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the extension of SQLite 3.54.1 itself made.
    #[test]
    fn the_formula_gives_the_sizes_that_the_extension_made() {
        let numbers = |count| vec![Value::Integer(1); count];
        assert_eq!(session::insert(&numbers(5)), 47);
        assert_eq!(session::named_header(5, "reading") + 47, 62);
        let update = |is_changeset| session::update(&numbers(6), 1, 2, is_changeset);
        assert_eq!((update(true), update(false)), (54, 32));
        assert_eq!(session::named_header(6, "state") + update(true), 68);
        assert_eq!(session::named_header(6, "state") + update(false), 46);
        assert_eq!(session::patchset_delete(&numbers(1)), 11);
        assert_eq!(session::named_header(6, "state") + 11, 25);
        let update = |is_changeset| session::update(&numbers(3), 1, 1, is_changeset);
        let header = session::named_header(3, "t");
        assert_eq!((header + update(true), header + update(false)), (39, 28));
    }

    #[test]
    fn made_up_readings_are_as_small_as_is_wanted() {
        let report = run(None).unwrap();
        for line in report["bytes_per_reading"].as_array().unwrap() {
            let (bytes, wanted) = (line["entry"].as_f64(), line["entry_wanted"].as_f64());
            // The value of an update comes on top.
            let value = if line["what"] == "rows, one value updated" { 2.5 } else { 0.0 };
            assert!(bytes.unwrap() <= wanted.unwrap() + value, "{line}");
            assert!(line["sealed"].as_f64() > bytes, "{line}");
        }
    }
}
