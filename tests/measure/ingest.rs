//! Readings into one board of three: so many a second for minutes on end, each
//! acknowledged once it is committed, then as fast as the stream socket takes them.
//!
//! A reading's latency counts from the moment at which it was to go, so that one which
//! had to wait for its turn is not flattered. None of those that were accepted may be
//! missing: in the end all boards are asked how many they have, and what those add up
//! to. Memory is each board's proportional share, looked at all along: agents of the same
//! build that others run meanwhile share its code, and move the figure when they end.
//! Processor time is that of each board's process.

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    group::{BOARDS, Group},
    lines::{self, Told},
    process::{self, Used},
};

/// Readings a second.
const RATE: u64 = 1_000;

/// Callers that bring them, and sensors they are of.
const CONNECTIONS: usize = 10;
const SENSORS: u64 = 20;

/// Callers that bring them as fast as they are taken.
const FLOOD_CONNECTIONS: u64 = 4;

/// The slowest of a hundred may take so long until it is committed, milliseconds.
const P99_MS_MAX: f64 = 250.0;

/// What a board may take, megabytes, and how much more in the last quarter of the time
/// than in the second.
const MEMORY_MB_MAX: f64 = 16.0;
const GROWTH_MB_MAX: f64 = 0.5;

/// Between two looks at the boards' memory.
const LOOK: Duration = Duration::from_secs(1);

/// Looks whether all readings are on a board.
const TRIES: usize = 120;

/// The three boards, and where one of them is written to.
struct Boards {
    group: Group,
    pids: [String; BOARDS.len()],
    socket: PathBuf,
}

pub(crate) fn run(program: &Path, seconds: u64, flood_seconds: u64) -> Value {
    let group = Group::configured(program, "");
    let leader = group.leader();
    let written_to = BOARDS.into_iter().find(|board| *board != leader).expect("two follow");
    let socket = group.agents.directory(written_to).join("readings.stream.sock");
    let pids = BOARDS.map(|board| group.pid(board));
    eprintln!("readings come to {written_to}, {leader} leads");
    let boards = Boards { group, pids, socket };
    let (paced, accepted) = boards.paced(seconds);
    let (flood, poured) = boards.flood(flood_seconds);
    let stored = boards.stored("paced", &accepted) & boards.stored("flood", &poured);
    let leader_stayed = boards.group.leader() == leader;
    if !leader_stayed {
        eprintln!("another board led in the end: an election is in these figures");
    }
    json!({
        "measure": "ingest", "per_s": RATE, "paced": paced, "flood": flood,
        "all_stored": stored, "leader_stayed": leader_stayed,
        "p99_ms_max": P99_MS_MAX, "pss_mb_max": MEMORY_MB_MAX,
    })
}

/// What boards must have: how many readings, and what those add up to.
struct Accepted {
    count: u64,
    /// Not known where some were refused: what became of those nobody knows.
    sum: Option<u64>,
}

impl Accepted {
    fn of(told: &Told, sum: u64) -> Self {
        Self { count: told.accepted, sum: (told.refused == 0).then_some(sum) }
    }

    fn are_all_in(&self, found: &[u64]) -> bool {
        match (found, self.sum) {
            (&[count, sum], Some(own)) => (count, sum) == (self.count, own),
            (&[count, _], None) => count >= self.count,
            _ => false,
        }
    }
}

/// What boards took while something went on.
struct Watched {
    /// Of each board in each second, megabytes.
    shares_mb: Vec<[f64; BOARDS.len()]>,
    /// By each board.
    used: Vec<Used>,
    took: Duration,
}

impl Watched {
    fn largest_mb(&self) -> f64 {
        BOARDS.iter().enumerate().map(|(board, _)| most(&self.shares_mb, board)).fold(0.0, f64::max)
    }

    /// By how much a board took more in the last quarter than in the second one: in the
    /// first all caches fill.
    fn growth_mb(&self) -> f64 {
        let quarter = self.shares_mb.len() / 4;
        let (second, last) =
            (&self.shares_mb[quarter..2 * quarter], &self.shares_mb[3 * quarter..]);
        let growth = |board| most(last, board) - most(second, board);
        (0..BOARDS.len()).map(growth).fold(0.0, f64::max)
    }

    /// A line for each board.
    fn show(&self, told: &Told) -> Value {
        let boards = BOARDS.iter().zip(&self.used).enumerate().map(|(place, (board, used))| {
            let at = |look: usize| self.shares_mb[look][place];
            let last = self.shares_mb.len() - 1;
            let (start, middle, end) = (at(0), at(last / 2), at(last));
            let largest = most(&self.shares_mb, place);
            let cpu_us = each(used.cpu_ms * 1_000, told.accepted);
            let written = each(used.written_bytes, told.accepted);
            eprintln!(
                "  {board}: memory {start:.2} MB at the start, {middle:.2} in the middle, {end:.2} \
                 at the end, {largest:.2} at most; per reading {cpu_us:.1} us of processor time \
                 and {written:.0} bytes written"
            );
            json!({
                "board": board, "pss_mb_start": start, "pss_mb_middle": middle, "pss_mb_end": end,
                "pss_mb_most": largest, "cpu_us_per_reading": cpu_us,
                "written_bytes_per_reading": written,
            })
        });
        boards.collect()
    }
}

fn most(shares_mb: &[[f64; BOARDS.len()]], board: usize) -> f64 {
    shares_mb.iter().map(|shares| shares[board]).fold(0.0, f64::max)
}

#[expect(clippy::cast_precision_loss, reason = "these are far below 2^52")]
fn each(all: u64, readings: u64) -> f64 {
    all as f64 / readings.max(1) as f64
}

const fn verdict(is_met: bool) -> &'static str {
    if is_met { "met" } else { "MISSED" }
}

impl Boards {
    fn paced(&self, seconds: u64) -> (Value, Accepted) {
        let line = |number| format!("paced/{} {number}\n", number % SENSORS);
        let to = (self.socket.as_path(), CONNECTIONS, "ack committed\n");
        let (mut told, watched) = self.watch(|| lines::paced(to, line, RATE, seconds));
        told.latencies_us.sort_unstable();
        #[expect(clippy::cast_precision_loss, reason = "these are far below 2^52")]
        let at = |part: usize| {
            let place = (told.latencies_us.len() * part / 1_000).min(told.latencies_us.len() - 1);
            told.latencies_us[place] as f64 / 1e3
        };
        let (p50_ms, p99_ms, max_ms) = (at(500), at(990), at(1_000));
        let is_met = p99_ms <= P99_MS_MAX;
        eprintln!(
            "{RATE} a second for {seconds} s on {CONNECTIONS} connections: {} accepted, {} refused \
             {:?}; until committed p50 {p50_ms:.1} ms, p99 {p99_ms:.1} ms, at most {max_ms:.1} ms",
            told.accepted, told.refused, told.reasons
        );
        eprintln!("target: p99 within {P99_MS_MAX:.0} ms, {}", verdict(is_met));
        let boards = watched.show(&told);
        let (largest, growth) = (watched.largest_mb(), watched.growth_mb());
        let (is_small, is_flat) = (largest <= MEMORY_MB_MAX, growth <= GROWTH_MB_MAX);
        eprintln!(
            "target: no board above {MEMORY_MB_MAX:.0} MB, {} with {largest:.2}; in the last \
             quarter none more than {GROWTH_MB_MAX} MB above the second, {} with {growth:.2}",
            verdict(is_small),
            verdict(is_flat)
        );
        let value = json!({
            "seconds": seconds, "connections": CONNECTIONS, "accepted": told.accepted,
            "refused": told.refused, "p50_ms": p50_ms, "p99_ms": p99_ms, "max_ms": max_ms,
            "p99_met": is_met, "boards": boards, "memory_met": is_small && is_flat,
        });
        (value, Accepted::of(&told, (0..RATE * seconds).sum()))
    }

    fn flood(&self, seconds: u64) -> (Value, Accepted) {
        let line =
            |place, number| format!("flood/{} {number}\n", place * SENSORS + number % SENSORS);
        let to = (self.socket.as_path(), FLOOD_CONNECTIONS, "ack\n");
        let time = Duration::from_secs(seconds);
        let (all, watched) = self.watch(|| lines::flood(to, line, time));
        let sum = all.iter().map(|told| (0..told.accepted).sum::<u64>()).sum();
        let told = all.into_iter().fold(Told::default(), Told::and);
        #[expect(clippy::cast_precision_loss, reason = "these are far below 2^52")]
        let per_s = told.accepted as f64 / watched.took.as_secs_f64();
        eprintln!(
            "as fast as they are taken for {seconds} s on {FLOOD_CONNECTIONS} connections: {per_s:.0} \
             a second, {} accepted, {} refused {:?}",
            told.accepted, told.refused, told.reasons
        );
        let value = json!({
            "seconds": seconds, "connections": FLOOD_CONNECTIONS, "per_s": per_s,
            "accepted": told.accepted, "refused": told.refused, "boards": watched.show(&told),
        });
        (value, Accepted::of(&told, sum))
    }

    /// What each board takes meanwhile.
    #[expect(clippy::disallowed_methods, reason = "measuring is what a clock is for here")]
    fn watch<T>(&self, work: impl FnOnce() -> T) -> (T, Watched) {
        let ended = AtomicBool::new(false);
        let used = || self.pids.iter().map(|pid| Used::by(pid)).collect::<Vec<_>>();
        thread::scope(|scope| {
            let look = || {
                let mut shares_mb = Vec::new();
                while !ended.load(Ordering::Relaxed) {
                    let share = |place: usize| process::memory_bytes(&self.pids[place]);
                    shares_mb.push([0, 1, 2].map(share).map(process::megabytes));
                    thread::sleep(LOOK);
                }
                shares_mb
            };
            let looking = scope.spawn(look);
            let (started, before) = (Instant::now(), used());
            let done = work();
            let took = started.elapsed();
            ended.store(true, Ordering::Relaxed);
            let used = used().into_iter().zip(before).map(|(after, before)| after - before);
            let used = used.collect();
            (done, Watched { shares_mb: looking.join().expect("it looks"), used, took })
        })
    }

    /// Does every board have them all, and none twice? What is missing is said.
    fn stored(&self, name: &str, accepted: &Accepted) -> bool {
        let sql = format!(
            "SELECT count(*), sum(value) FROM reading WHERE sensor IN \
             (SELECT id FROM sensor WHERE name LIKE '{name}/%')"
        );
        BOARDS.iter().fold(true, |all, board| {
            let mut found = Vec::new();
            let is_right = (0..TRIES).any(|_| {
                found = self.group.numbers(board, &sql);
                accepted.are_all_in(&found) || (thread::sleep(LOOK), false).1
            });
            if !is_right {
                eprintln!("{board} has {found:?} of {name}, {} were accepted", accepted.count);
            }
            all & is_right
        })
    }
}
