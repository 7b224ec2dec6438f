//! What a comparison of all boards costs one of them: how long the thread that
//! applies is held up, how long the digest beside it takes, how much memory, and
//! what that does to entries applied meanwhile. On a database of sensor readings
//! with one index.

use std::{
    fs,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
};

use serde_json::{Value, json};
use understudy::{
    driver::clock,
    store::database::{Database, Options},
};
use understudy_core::{
    event::{Entry, EntryKind},
    sql::{self, Origin, RequestKind, SqlRequest, Statement},
};

use crate::Spread;

/// Rows of the database.
const ROWS: u64 = 100_000;

/// One-row entries applied without a digest beside them, for comparison.
const ENTRIES: u32 = 2_000;

/// A board that leads itself.
struct Board {
    database: Database,
    index: u64,
}

impl Board {
    /// Applies what this does; microseconds that took.
    fn write(&mut self, request: Vec<u8>) -> f64 {
        let base = self.database.applied();
        let executed = self.database.execute(base, &[request]).expect("it is executed");
        self.apply(executed.change)
    }

    fn apply(&mut self, data: Vec<u8>) -> f64 {
        self.index += 1;
        let entry = Entry { index: self.index, term: 1, kind: EntryKind::Change, data };
        let started = clock::nanoseconds();
        self.database.apply(&[entry]).expect("it is applied");
        microseconds(clock::nanoseconds() - started)
    }

    fn insert(&mut self) -> f64 {
        self.write(request("INSERT INTO reading(sensor, time, value) VALUES (3, 1, 21.5)"))
    }
}

#[expect(clippy::cast_precision_loss, reason = "a duration for people")]
fn microseconds(ns: u64) -> f64 {
    ns as f64 / 1_000.0
}

fn request(sql: &str) -> Vec<u8> {
    let statements = vec![Statement::new(sql, Vec::new())];
    sql::encode(&SqlRequest::new(RequestKind::Execute, Origin::User, statements))
}

/// Of this process, kB.
fn memory_kb(what: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(what)).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// # Panics
/// When the database cannot be used.
pub(crate) fn run(rounds: u64) -> Value {
    let folder = tempfile::tempdir_in(".").expect("a temporary folder");
    let database = Database::open(folder.path(), Options::default()).expect("a database");
    let mut board = Board { database, index: 0 };
    board.apply(Vec::new());
    board.write(request(
        "CREATE TABLE reading(id INTEGER PRIMARY KEY, sensor INTEGER, time INTEGER, value REAL); \
         CREATE INDEX reading_time ON reading(sensor, time)",
    ));
    board.write(request(&format!(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {ROWS}) \
         INSERT INTO reading SELECT i, i % 20, 1700000000000 + i * 1000, i % 977 / 8.0 FROM n"
    )));
    board.database.checkpoint().expect("a checkpoint");
    let alone: Vec<f64> = (0..ENTRIES).map(|_| board.insert()).collect();
    let alone = Spread::of(&alone);
    let (mut held, mut took_ms, mut more_kb, mut beside) = (vec![], vec![], vec![], vec![]);
    for _ in 0..rounds {
        // Number 5 sets the peak back to what is used now.
        let _ = fs::write("/proc/self/clear_refs", "5");
        let before_kb = memory_kb("VmRSS");
        let ask = board.database.scrubs().ask(&[1], None);
        held.push(board.write(ask));
        let scrubbing = board.database.take_scrubbing().expect("a digest to make");
        let is_done = AtomicBool::new(false);
        thread::scope(|scope| {
            let digest = scope.spawn(|| {
                let started = clock::nanoseconds();
                let report = scrubbing.run();
                is_done.store(true, Relaxed);
                took_ms.push(microseconds(clock::nanoseconds() - started) / 1_000.0);
                report
            });
            while !is_done.load(Relaxed) {
                beside.push(board.insert());
            }
            let report = digest.join().expect("it does not panic");
            assert_eq!(report.items.iter().filter(|item| item.digest.is_none()).count(), 0);
        });
        more_kb.push(memory_kb("VmHWM").saturating_sub(before_kb));
        board.database.checkpoint().expect("a checkpoint");
    }
    let (held, took_ms, beside) = (Spread::of(&held), Spread::of(&took_ms), Spread::of(&beside));
    let more_kb = more_kb.into_iter().max().unwrap_or(0);
    println!("scrub of {ROWS} rows with one index, {rounds} rounds");
    println!("  pinning a state holds up the applying thread {:>8.0} us", held.median);
    println!("  the digest beside it takes                   {:>8.0} ms", took_ms.median);
    println!("  and at most so much more memory              {more_kb:>8} kB");
    println!("  an entry of one row is applied in            {:>8.1} us", alone.median);
    println!("  the same while a digest is made              {:>8.1} us", beside.median);
    json!({
        "rows": ROWS, "held_us": held.json(), "digest_ms": took_ms.json(), "memory_kb": more_kb,
        "apply_us": alone.json(), "apply_beside_us": beside.json(),
    })
}
