//! What happens on the boards: a sensor process on each writes what its machine tells
//! once a second to the board's socket, as any sensor process would, and a probe writes
//! SQL every 20 ms, so that a gap can be seen.
//!
//! A reading is acknowledged when it is on the board's disk at least. What was on its way
//! when a board was killed nobody promised anything of, and it is not sent again.

use std::{
    collections::VecDeque,
    io::{self, BufRead as _, BufReader, Write as _},
    net::SocketAddr,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use serde_json::{Value, json};
use understudy_boards::Source;

use super::{check::Acknowledged, client::Client};
use crate::{
    driver::clock,
    readings::{Draft, line},
};

/// Between two samples, milliseconds, and between two probes.
const SAMPLE_MS: u64 = 1_000;
const PROBE: Duration = Duration::from_millis(20);

/// A write is given up and sent again after this.
const WRITE: Duration = Duration::from_millis(700);

/// A board's answer to a reading is waited for so long.
const ANSWER: Duration = Duration::from_secs(5);

/// The rate is that of the last so many milliseconds.
const RATE_MS: u64 = 5_000;

/// Writes flow when the last one is no older, milliseconds.
const FLOWING_MS: u64 = 200;

/// What all writers know together.
#[derive(Default)]
pub(super) struct Ledger {
    inner: Mutex<Inner>,
    stop: AtomicBool,
}

#[derive(Default)]
struct Inner {
    acknowledged: Acknowledged,
    /// Readings acknowledged lately: when, and how many.
    lately: VecDeque<(u64, u64)>,
    last: VecDeque<Shown>,
    since_ms: u64,
    last_probe_ms: u64,
    gap_ms: u64,
}

/// A reading as it is shown.
#[derive(Clone, Debug)]
pub(super) struct Shown {
    pub(super) board: &'static str,
    pub(super) source: String,
    pub(super) value: f64,
}

/// A glance at the ledger.
pub(super) struct Glance {
    pub(super) acknowledged: u64,
    pub(super) per_second: f64,
    pub(super) last: Vec<Shown>,
    pub(super) since_probe_ms: u64,
    /// Longest time without an acknowledged write, one that goes on included.
    pub(super) gap_ms: u64,
}

impl Glance {
    /// Do writes flow?
    pub(super) const fn is_flowing(&self) -> bool {
        self.since_probe_ms < FLOWING_MS
    }
}

impl Ledger {
    fn with<R>(&self, work: impl FnOnce(&mut Inner) -> R) -> R {
        work(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn glance(&self) -> Glance {
        let now = clock::now().0;
        self.with(|inner| inner.glance(now))
    }

    /// Counts gaps from now on.
    pub(super) fn forget_gap(&self) {
        self.with(|inner| inner.gap_ms = 0);
    }

    pub(super) fn acknowledged(&self) -> Acknowledged {
        self.with(|inner| inner.acknowledged.clone())
    }

    pub(super) fn stop(&self) {
        self.stop.store(true, Relaxed);
    }

    fn stopped(&self) -> bool {
        self.stop.load(Relaxed)
    }
}

impl Inner {
    fn start(&mut self, now: u64) {
        self.since_ms = now;
        self.last_probe_ms = now;
    }

    fn glance(&mut self, now: u64) -> Glance {
        self.forget_old(now);
        let lately: u64 = self.lately.iter().map(|(_, count)| count).sum();
        let span_ms = now.saturating_sub(self.since_ms).clamp(SAMPLE_MS, RATE_MS);
        let since_probe_ms = now.saturating_sub(self.last_probe_ms);
        Glance {
            acknowledged: self.acknowledged.values().map(|times| times.len() as u64).sum(),
            per_second: lately as f64 * 1_000.0 / span_ms as f64,
            last: self.last.iter().cloned().collect(),
            since_probe_ms,
            gap_ms: self.gap_ms.max(since_probe_ms),
        }
    }

    fn forget_old(&mut self, now: u64) {
        while self.lately.front().is_some_and(|(at, _)| at + RATE_MS < now) {
            self.lately.pop_front();
        }
    }

    fn took_probe(&mut self, now: u64) {
        self.gap_ms = self.gap_ms.max(now.saturating_sub(self.last_probe_ms));
        self.last_probe_ms = now;
    }

    fn took_readings(&mut self, now: u64, board: &'static str, readings: Vec<Reading>) {
        self.lately.push_back((now, readings.len() as u64));
        self.forget_old(now);
        for Reading { sensor, source, time, value } in readings {
            self.acknowledged.entry(sensor).or_default().push(time);
            self.last.retain(|shown| shown.source != source);
            self.last.push_back(Shown { board, source, value });
        }
    }
}

struct Reading {
    sensor: String,
    source: String,
    /// Whole milliseconds, microseconds since 1970.
    time: i64,
    value: f64,
}

/// Address of a board's HTTP; changes when the board is started again.
pub(super) type Place = Arc<Mutex<Option<SocketAddr>>>;

/// Samples `sources` into the socket of a board, while it is there, until told to stop.
pub(super) fn sampler(
    board: &'static str,
    socket: PathBuf,
    sources: Arc<Vec<Source>>,
    ledger: Arc<Ledger>,
) -> JoinHandle<()> {
    thread::spawn(move || {
        let mut connection = None;
        let mut next = clock::now().0;
        while !ledger.stopped() {
            if clock::now().0 >= next {
                next = clock::now().0 + SAMPLE_MS;
                let readings = sample(board, &sources);
                let taken = hand_over(&mut connection, &socket, readings);
                let now = clock::now().0;
                ledger.with(|inner| inner.took_readings(now, board, taken));
            }
            thread::sleep(PROBE);
        }
    })
}

fn sample(board: &str, sources: &[Source]) -> Vec<Reading> {
    let (_, wall_us) = clock::boot_and_wall_us();
    let time = wall_us.div_euclid(1_000) * 1_000;
    let reading = |source: &Source| {
        let (sensor, value) = (format!("{board}/{}", source.name), source.read().ok()?);
        Some(Reading { sensor, source: source.name.clone(), time, value })
    };
    sources.iter().filter_map(reading).collect()
}

/// Those of the readings that the board has on its disk.
fn hand_over(
    connection: &mut Option<BufReader<UnixStream>>,
    socket: &Path,
    readings: Vec<Reading>,
) -> Vec<Reading> {
    let mut taken = Vec::new();
    let Ok(stream) = connected(connection, socket) else { return taken };
    for reading in readings {
        if answer(stream, &reading).is_ok_and(|answer| answer.starts_with("ok ")) {
            taken.push(reading);
        } else {
            *connection = None;
            break;
        }
    }
    taken
}

fn connected<'c>(
    connection: &'c mut Option<BufReader<UnixStream>>,
    socket: &Path,
) -> io::Result<&'c mut BufReader<UnixStream>> {
    if connection.is_none() {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(ANSWER))?;
        stream.write_all(b"ack\n")?;
        *connection = Some(BufReader::new(stream));
    }
    connection.as_mut().ok_or_else(|| io::ErrorKind::NotConnected.into())
}

fn answer(stream: &mut BufReader<UnixStream>, reading: &Reading) -> io::Result<String> {
    let draft = Draft {
        sensor: reading.sensor.clone(),
        value: understudy_core::sql::Value::Real(reading.value),
        time: Some(reading.time),
        id: None,
        token: None,
    };
    stream.get_mut().write_all(format!("{}\n", line::written(&draft)).as_bytes())?;
    let mut answer = String::new();
    stream.read_line(&mut answer)?;
    Ok(answer)
}

/// Writes through the board at `place`; true when acknowledged.
fn execute(client: &mut Option<Client>, place: &Place, statements: &Value) -> bool {
    let address = *place.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(address) = address else {
        *client = None;
        return false;
    };
    let connected = client.get_or_insert_with(|| Client::new(address, WRITE));
    let done = connected.execute(statements).is_ok();
    if !done {
        *client = None;
    }
    done
}

/// Writes a row every 20 ms, through whichever of the boards takes it.
pub(super) fn prober(places: Vec<Place>, ledger: Arc<Ledger>) -> JoinHandle<()> {
    thread::spawn(move || {
        let mut clients: Vec<Option<Client>> = places.iter().map(|_| None).collect();
        let mut turn = 0;
        let mut count = 0_u64;
        ledger.with(|inner| inner.start(clock::now().0));
        while !ledger.stopped() {
            count += 1;
            let statements = json!([["INSERT OR REPLACE INTO probe VALUES (1, ?)", count]]);
            if execute(&mut clients[turn], &places[turn], &statements) {
                let now = clock::now().0;
                ledger.with(|inner| inner.took_probe(now));
            } else {
                turn = (turn + 1) % places.len();
            }
            thread::sleep(PROBE);
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_that_goes_on_counts_as_long_as_it_goes_on() {
        let mut inner = Inner::default();
        inner.start(1_000);
        assert_eq!(inner.glance(3_000).gap_ms, 2_000, "not one write was acknowledged");
        inner.took_probe(3_000);
        inner.gap_ms = 0;
        inner.took_probe(3_020);
        let glance = inner.glance(9_020);
        assert_eq!((glance.gap_ms, glance.is_flowing()), (6_000, false));
        inner.took_probe(10_020);
        let glance = inner.glance(10_040);
        assert_eq!((glance.gap_ms, glance.is_flowing()), (7_000, true));
    }

    #[test]
    fn the_rate_is_that_of_the_last_seconds() {
        let reading =
            |time| Reading { sensor: "green/load".into(), source: "load".into(), time, value: 1.0 };
        let mut inner = Inner::default();
        inner.start(0);
        for second in 1..=20_u32 {
            let batch = (0..10).map(|n| reading(i64::from(10 * second + n))).collect();
            inner.took_readings(1_000 * u64::from(second), "green", batch);
        }
        let glance = inner.glance(20_000);
        assert_eq!((glance.acknowledged, glance.last.len()), (200, 1));
        assert!((10.0..=12.0).contains(&glance.per_second), "{}", glance.per_second);
        assert!(inner.glance(30_000).per_second < 0.1);
    }
}
