//! What one reading costs each board's flash, at several rates and windows, beside plain
//! SQLite doing the same in the same run.
//!
//! Readings come as datagrams to a board that follows, and go on to all three. What a
//! board has written is what its process has sent to the disk (`write_bytes`: pages of
//! 4 KB, each time they are written); beside it stands what the block device was sent by
//! everybody, the file system's own bookkeeping and whatever else runs on the machine
//! included, and shared by the three boards that are on the one device here.
//!
//! `state.db` is committed every 120 s, so what is measured is a whole number of such
//! intervals after a whole one of warm-up: as many commits as in any other stretch of
//! that length. Where fewer seconds are asked for, the boards are told to commit as
//! often as that, and the figures are above those of a board as it is shipped. Before,
//! so much is committed that `journal.db-wal` no longer grows. Left out: the bytes that a
//! card writes for one that it is sent.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    disk::Device,
    group::{BOARDS, Group},
    lines,
    plain::{self, Written},
    process::Used,
    readings,
};

/// Readings a second.
const RATES: [u64; 4] = [1, 10, 100, 1_000];

/// How long readings wait for more, milliseconds.
const WINDOWS_MS: [u64; 3] = [0, 50, 1_000];

/// The rate and the window for which there is a target, of boards as they are shipped.
const TARGET: (u64, u64) = (10, 1_000);

/// What one reading may cost a board there, bytes.
const TARGET_BYTES_MAX: f64 = 700.0;

const BOARDS_COUNT: f64 = BOARDS.len() as f64;

/// How often `state.db` is committed unless a board is told otherwise, seconds.
const COMMIT_INTERVAL_S: u64 = 120;

/// Readings committed beforehand, and their sensors.
const FIRST: u64 = 3_000;
const FIRST_SENSORS: u64 = 20;

/// Looks whether the last readings are on a board, and the time between two.
const TRIES: usize = 100;
const LOOK: Duration = Duration::from_millis(200);

/// Which cells are measured, and for how long.
pub(crate) struct Wanted {
    pub(crate) rate: Option<u64>,
    pub(crate) window_ms: Option<u64>,
    /// At the lower rates.
    pub(crate) seconds: u64,
}

impl Wanted {
    /// The seconds after which `state.db` is committed.
    fn commit_interval_s(&self) -> u64 {
        self.seconds.min(COMMIT_INTERVAL_S)
    }

    /// For how long a rate is measured: higher ones need less, all some whole intervals.
    fn seconds_at(&self, rate: u64) -> u64 {
        let parts = match rate {
            ..100 => 1,
            100..1_000 => 2,
            1_000.. => 5,
        };
        let interval = self.commit_interval_s();
        (self.seconds / parts / interval).max(1) * interval
    }
}

/// What was written for one reading at one rate and window, bytes.
pub(crate) struct Cell {
    rate: u64,
    window_ms: u64,
    seconds: u64,
    readings: u64,
    /// The leader, the follower that readings come to, the other one.
    boards: [f64; BOARDS.len()],
    /// Of all boards, shared out among them.
    device: Option<f64>,
}

pub(crate) fn run(program: &Path, wanted: &Wanted) -> Value {
    let folder = program.parent().expect("a folder");
    let device = Device::of(folder);
    let device = device.as_ref();
    let on = device.map_or("none that can be told", |device| &device.name);
    let commit_interval_s = wanted.commit_interval_s();
    eprintln!(
        "bytes written per reading and board, and in brackets what the block device was sent; \
         state.db is committed every {commit_interval_s} s; block device: {on}"
    );
    eprintln!(
        "{:>6}{:>8}{:>8}{:>9}{:>9}{:>9}{:>9}{:>20}{:>20}",
        "per s",
        "window",
        "seconds",
        "leader",
        "written",
        "other",
        "device",
        "SQLite, one each",
        "one per window"
    );
    let (mut cells, mut plain) = (Vec::new(), BTreeMap::new());
    let mut target = None;
    for window_ms in of(wanted.window_ms, &WINDOWS_MS) {
        let group = Group::configured(
            program,
            &format!(
                "[readings]\nbatch_window_ms = {window_ms}\n\
                 [database]\ncommit_interval_s = {commit_interval_s}\n"
            ),
        );
        let mut boards = Boards::of(&group);
        for rate in of(wanted.rate, &RATES) {
            let cell = boards.cell(device, rate, window_ms, wanted);
            let batch = (rate * window_ms / 1_000).max(1);
            for batch in [1, batch] {
                let written = || plain::written(folder, device, batch);
                plain.entry(batch).or_insert_with(written);
            }
            cell.show(&plain[&1], &plain[&batch]);
            cells.push(cell.json(&plain[&1], &plain[&batch]));
            if (rate, window_ms) == TARGET && commit_interval_s == COMMIT_INTERVAL_S {
                target = Some(cell.most());
            }
        }
    }
    json!({
        "measure": "flash", "commit_interval_s": commit_interval_s,
        "device": device.map(|device| &device.name), "cells": cells,
        "target_bytes_max": TARGET_BYTES_MAX, "target_met": target.map(verdict),
    })
}

fn of(asked: Option<u64>, all: &[u64]) -> Vec<u64> {
    asked.map_or(all.to_vec(), |one| vec![one])
}

/// Is the target met with so many bytes?
fn verdict(bytes: f64) -> bool {
    let is_met = bytes <= TARGET_BYTES_MAX;
    let (rate, window_ms) = TARGET;
    eprintln!(
        "target: at {rate} readings a second and a window of {window_ms} ms no board writes more \
         than {TARGET_BYTES_MAX:.0} bytes for each, {} with {bytes:.0}",
        if is_met { "met" } else { "MISSED" }
    );
    is_met
}

/// A group whose leader stays.
pub(crate) struct Boards<'a> {
    group: &'a Group,
    leader: String,
    /// The leader's, then those of the others.
    pids: Vec<String>,
    socket: PathBuf,
    sent: u64,
}

impl<'a> Boards<'a> {
    pub(crate) fn of(group: &'a Group) -> Self {
        let leader = group.leader();
        let followers: Vec<_> = BOARDS.into_iter().filter(|board| *board != leader).collect();
        let boards = std::iter::once(leader.as_str()).chain(followers.iter().copied());
        let pids = boards.map(|board| group.pid(board)).collect();
        let directory = group.agents.directory(followers[0]);
        let stream = directory.join("readings.stream.sock");
        let line = |number| format!("first/{} {number}\n", number % FIRST_SENSORS);
        let told = lines::paced((&stream, 1, "ack committed\n"), line, FIRST, 1);
        assert_eq!(told.accepted, FIRST, "readings are stored: {:?}", told.reasons);
        Self { group, leader, pids, socket: directory.join("readings.sock"), sent: FIRST }
    }

    /// # Panics
    /// When a reading is lost, or another board leads than before.
    pub(crate) fn cell(
        &mut self,
        device: Option<&Device>,
        rate: u64,
        window_ms: u64,
        wanted: &Wanted,
    ) -> Cell {
        let (seconds, warm_up) = (wanted.seconds_at(rate), wanted.commit_interval_s());
        let count = rate * seconds;
        let mut readings = readings::generated(usize::MAX);
        let mut send = |count| lines::datagrams(&self.socket, readings.by_ref(), count, rate);
        send(rate * warm_up);
        let used = || self.pids.iter().map(|pid| Used::by(pid)).collect::<Vec<_>>();
        let on_device = || device.map(Device::written_bytes);
        let (before, device_before) = (used(), on_device());
        send(count);
        let (after, device_after) = (used(), on_device());
        assert_eq!(self.group.leader(), self.leader, "the group was not left in peace");
        self.sent += rate * warm_up + count;
        for board in BOARDS {
            let stored = || self.group.numbers(board, "SELECT count(*) FROM reading")[0];
            let is_there = (0..TRIES).any(|_| {
                thread::sleep(LOOK);
                stored() == self.sent
            });
            assert!(is_there, "{} of {} readings are on {board}", stored(), self.sent);
        }
        let each = |bytes| bytes_each(bytes, count);
        let written = before.iter().zip(after).map(|(before, after)| after - *before);
        let written: Vec<f64> = written.map(|used| each(used.written_bytes)).collect();
        let device = device_after.zip(device_before).map(|(after, before)| after - before);
        Cell {
            rate,
            window_ms,
            readings: count,
            seconds,
            boards: written.try_into().expect("three"),
            device: device.map(|bytes| each(bytes) / BOARDS_COUNT),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "these are far below 2^52")]
fn bytes_each(bytes: u64, readings: u64) -> f64 {
    bytes as f64 / readings as f64
}

impl Cell {
    /// Of the board that wrote most.
    pub(crate) fn most(&self) -> f64 {
        self.boards.iter().copied().fold(0.0, f64::max)
    }

    fn show(&self, each: &Written, window: &Written) {
        let Self { rate, window_ms, seconds, boards: [leader, first, second], .. } = self;
        let on_device =
            |bytes: Option<f64>| bytes.map_or("-".into(), |bytes| format!("{bytes:.0}"));
        let device = on_device(self.device);
        let plain =
            |written: &Written| format!("{:.0} ({})", written.process, on_device(written.device));
        eprintln!(
            "{rate:>6}{window_ms:>8}{seconds:>8}{leader:>9.0}{first:>9.0}{second:>9.0}{device:>9}\
             {:>20}{:>20}",
            plain(each),
            plain(window)
        );
    }

    fn json(&self, each: &Written, window: &Written) -> Value {
        let Self { rate, window_ms, seconds, readings, boards: [leader, first, second], .. } = self;
        json!({
            "per_s": rate, "window_ms": window_ms, "seconds": seconds, "readings": readings,
            "leader": leader, "follower_written_to": first, "follower": second,
            "device_per_board": self.device, "sqlite_commit_each": each.json(),
            "sqlite_commit_per_window": window.json(),
        })
    }
}
