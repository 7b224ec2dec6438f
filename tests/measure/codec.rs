//! What replicating a row costs the processor: executed, captured, encoded,
//! decoded and applied, beside plain SQLite that inserts the same rows into a
//! transaction that is open as well. Counted is this thread's time on a processor:
//! what else the machine does is not in it.

use rusqlite::Connection;
use serde_json::{Value as Json, json};
use understudy::store::database::{Database, Options};
use understudy_core::{
    event::{Entry, EntryKind, Position},
    readings::{Batch, Reading as Stamped, Work},
    sql::{self, Origin, RequestKind, SqlRequest, Statement, Value},
};

use crate::{Spread, readings, readings::Reading};

const TABLE: &str = "CREATE TABLE row(sensor INTEGER, time INTEGER, value, \
                     PRIMARY KEY(sensor, time)) WITHOUT ROWID";
const INSERT: &str = "INSERT INTO row VALUES (?1, ?2, ?3)";

/// Entries of one kind in a round.
const ENTRIES: usize = 500;

/// Rows of an entry that holds several.
const BATCH_ROWS: usize = 100;

/// How rows come.
struct Shape {
    name: &'static str,
    rows: usize,
    /// Of SQL; none where they come as readings.
    requests: usize,
    us_per_row_max: f64,
}

const SHAPES: [Shape; 5] = [
    Shape { name: "an entry of one row", rows: 1, requests: 1, us_per_row_max: 15.0 },
    Shape { name: "100 requests", rows: BATCH_ROWS, requests: BATCH_ROWS, us_per_row_max: 3.0 },
    Shape { name: "100 rows at once", rows: BATCH_ROWS, requests: 1, us_per_row_max: 3.0 },
    Shape { name: "one reading", rows: 1, requests: 0, us_per_row_max: 15.0 },
    Shape { name: "100 readings", rows: BATCH_ROWS, requests: 0, us_per_row_max: 3.0 },
];

/// Microseconds per row of each shape, ours and plain SQLite's, in turn.
pub(crate) fn run(rounds: u64) -> Json {
    let directory = tempfile::tempdir().expect("a directory for temporary files");
    let mut ours = Ours::open(directory.path());
    let plain = Plain::open(directory.path());
    let mut readings = readings::generated(usize::MAX);
    let mut times = vec![(Vec::new(), Vec::new()); SHAPES.len()];
    for _ in 0..rounds {
        for (shape, (our_times, plain_times)) in SHAPES.iter().zip(&mut times) {
            let entries = ENTRIES.div_ceil(shape.rows.div_ceil(10));
            let rows: Vec<Reading> = readings.by_ref().take(entries * shape.rows).collect();
            our_times.push(ours.insert(&rows, shape));
            plain_times.push(plain.insert(&rows, shape));
        }
    }
    let report = SHAPES.iter().zip(&times).map(|(shape, (ours, plain))| {
        let (ours, plain) = (Spread::of(ours), Spread::of(plain));
        println!(
            "{:20} {:6.2} us per row ({:.2} to {:.2}; at most {:.0} wanted), plain SQLite {:.2}",
            shape.name, ours.median, ours.least, ours.most, shape.us_per_row_max, plain.median
        );
        json!({
            "shape": shape.name,
            "us_per_row": ours.json(),
            "us_per_row_wanted": shape.us_per_row_max,
            "plain_us_per_row": plain.json(),
        })
    });
    json!({ "rounds": rounds, "codec": report.collect::<Vec<Json>>() })
}

/// What `work` costs this thread for each of so many rows, microseconds.
fn us_per_row(rows: usize, work: impl FnOnce()) -> f64 {
    let before = thread_ns();
    work();
    #[expect(clippy::cast_precision_loss, reason = "these are far below 2^52")]
    let (ns, rows) = ((thread_ns() - before) as f64, rows as f64);
    ns / 1e3 / rows
}

/// Time this thread has had on a processor.
fn thread_ns() -> i64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

struct Ours {
    database: Database,
    /// Of the last reading.
    number: u64,
}

impl Ours {
    fn open(directory: &std::path::Path) -> Self {
        let mut database =
            Database::open(directory, Options::default()).expect("a database can be made");
        let first = Entry { index: 1, term: 1, kind: EntryKind::Change, data: Vec::new() };
        database.apply(&[first]).expect("an empty entry is applied");
        let mut ours = Self { database, number: 0 };
        ours.replicate(&[request(&[(TABLE, &[])])]);
        let none = ours.readings(&[]);
        ours.replicate(&[none]);
        ours
    }

    /// What a leader does for a batch, all of it.
    fn replicate(&mut self, requests: &[Vec<u8>]) {
        let base = self.database.applied();
        let executed = self.database.execute(base, requests).expect("it is executed");
        let Position { term, index } = base;
        let data = executed.change;
        let entry = Entry { index: index + 1, term, kind: EntryKind::Change, data };
        self.database.apply(&[entry]).expect("it is applied");
    }

    /// As a board hands them to the leader.
    fn readings(&mut self, rows: &[Reading]) -> Vec<u8> {
        let first = self.number;
        let reading = |row: &Reading| {
            let (sensor, value) = (format!("sensor {}", row.sensor), Value::Real(row.value));
            let time = 1_000 * row.time_ms;
            let reading = Stamped { sensor, time, value, id: None, token: None, is_far: false };
            self.number += 1;
            (self.number, reading)
        };
        let readings = rows.iter().map(reading).collect();
        Work::Store(Batch { board: 1, floor: first, readings, given_up: Vec::new() }).encode()
    }

    fn insert(&mut self, rows: &[Reading], shape: &Shape) -> f64 {
        let batches: Vec<Vec<Vec<u8>>> = rows
            .chunks(shape.rows)
            .map(|rows| match shape.rows.checked_div(shape.requests) {
                Some(rows_each) => rows.chunks(rows_each).map(inserts).collect(),
                None => Vec::from([self.readings(rows)]),
            })
            .collect();
        let time = us_per_row(rows.len(), || {
            batches.iter().for_each(|requests| self.replicate(requests));
        });
        self.database.checkpoint().expect("the disk has room");
        time
    }
}

fn inserts(rows: &[Reading]) -> Vec<u8> {
    let values: Vec<[Value; 3]> = rows.iter().map(Reading::values).collect();
    let statements: Vec<(&str, &[Value])> = values.iter().map(|row| (INSERT, &row[..])).collect();
    request(&statements)
}

fn request(statements: &[(&str, &[Value])]) -> Vec<u8> {
    let statements = statements.iter().map(|(sql, values)| Statement::new(*sql, values.to_vec()));
    sql::encode(&SqlRequest::new(RequestKind::Execute, Origin::User, statements.collect()))
}

struct Plain {
    connection: Connection,
}

impl Plain {
    fn open(directory: &std::path::Path) -> Self {
        let connection = Connection::open(directory.join("plain.db")).expect("it can be made");
        let pragmas = "PRAGMA page_size = 1024; PRAGMA journal_mode = WAL; \
                       PRAGMA synchronous = NORMAL; PRAGMA cache_size = -1024;";
        connection.execute_batch(&format!("{pragmas} {TABLE}; BEGIN")).expect("plain SQL");
        Self { connection }
    }

    fn insert(&self, rows: &[Reading], shape: &Shape) -> f64 {
        let time = us_per_row(rows.len(), || {
            for rows in rows.chunks(shape.rows) {
                let mut insert = self.connection.prepare_cached(INSERT).expect("plain SQL");
                for row in rows {
                    insert.execute((row.sensor, row.time_ms, row.value)).expect("a new row");
                }
            }
        });
        self.connection.execute_batch("COMMIT; BEGIN").expect("the disk has room");
        time
    }
}
