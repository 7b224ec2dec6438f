//! Plain SQLite doing what a board does: the same readings in the same table, every
//! commit synced to the disk. No other board has them.

use std::path::Path;

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::{disk::Device, process::Used, readings};

/// Commits before it is measured, so that its WAL is written over and no longer grows.
const WARM_UP: u64 = 1_200;

/// Commits that are measured: several checkpoints of the WAL.
const COMMITS: u64 = 4_000;

/// And readings, where those come to that many first.
const READINGS: u64 = 200_000;

/// Bytes written for one reading.
pub(crate) struct Written {
    pub(crate) process: f64,
    /// Not known where the device is not.
    pub(crate) device: Option<f64>,
}

impl Written {
    pub(crate) fn json(&self) -> Value {
        json!({ "process": self.process, "device": self.device })
    }
}

/// So many readings share one commit. Nothing in this depends on time, so it is done
/// as fast as it can be.
pub(crate) fn written(folder: &Path, device: Option<&Device>, batch: u64) -> Written {
    let folder = tempfile::tempdir_in(folder).expect("a temporary folder");
    let mut connection = Connection::open(folder.path().join("plain.db")).expect("a database");
    connection
        .execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
             CREATE TABLE reading(sensor INTEGER, time INTEGER, value REAL,
                 PRIMARY KEY(sensor, time)) WITHOUT ROWID",
        )
        .expect("a table");
    let commits = COMMITS.min(READINGS / batch).max(1);
    let count = usize::try_from((WARM_UP.min(commits) + commits) * batch).expect("some thousands");
    let mut readings = readings::generated(count);
    let mut commit = |commits: u64| {
        for _ in 0..commits {
            let transaction = connection.transaction().expect("it begins");
            let mut insert = transaction
                .prepare_cached("INSERT INTO reading VALUES (?1, ?2, ?3)")
                .expect("it is SQL");
            for reading in readings.by_ref().take(usize::try_from(batch).expect("some")) {
                let row = (reading.sensor, reading.time_ms, reading.value);
                insert.execute(row).expect("it is stored");
            }
            drop(insert);
            transaction.commit().expect("it is committed");
        }
    };
    commit(WARM_UP.min(commits));
    let on_device = || device.map(Device::written_bytes);
    let (before, device_before) = (Used::by("self"), on_device());
    commit(commits);
    let (used, device_after) = (Used::by("self") - before, on_device());
    #[expect(clippy::cast_precision_loss, reason = "these are far below 2^52")]
    let each = |bytes: u64| bytes as f64 / (commits * batch) as f64;
    Written {
        process: each(used.written_bytes),
        device: device_after.zip(device_before).map(|(after, before)| each(after - before)),
    }
}
