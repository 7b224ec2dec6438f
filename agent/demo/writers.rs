//! What happens on the boards: each writes what its machine tells once a second,
//! and a probe writes every 20 ms, so that a gap can be seen.
//!
//! A reading has an id of its own and is sent until it is acknowledged, to the
//! board it was taken on; the id makes sending it again harmless.

use std::{
    collections::{BTreeSet, VecDeque},
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use serde_json::{Value, json};
use understudy_boards::Source;

use super::client::Client;
use crate::driver::clock;

/// Between two samples, and between two probes.
const SAMPLE: Duration = Duration::from_secs(1);
const PROBE: Duration = Duration::from_millis(20);

/// A write is given up and sent again after this.
const WRITE: Duration = Duration::from_millis(700);

/// Readings a board keeps while it cannot write; the oldest wait longest.
const WAITING_MAX: usize = 10_000;

/// What all writers know together.
#[derive(Default)]
pub(super) struct Ledger {
    inner: Mutex<Inner>,
    stop: AtomicBool,
}

#[derive(Default)]
struct Inner {
    acknowledged: BTreeSet<String>,
    last: VecDeque<(String, f64)>,
    probes: u64,
    last_probe_ms: u64,
    gap_ms: u64,
}

/// A glance at the ledger.
pub(super) struct Glance {
    pub(super) acknowledged: usize,
    pub(super) last: Vec<(String, f64)>,
    pub(super) since_probe_ms: u64,
    pub(super) gap_ms: u64,
}

impl Ledger {
    fn with<R>(&self, work: impl FnOnce(&mut Inner) -> R) -> R {
        work(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn glance(&self) -> Glance {
        let now = clock::now().0;
        self.with(|inner| Glance {
            acknowledged: inner.acknowledged.len(),
            last: inner.last.iter().cloned().collect(),
            since_probe_ms: now.saturating_sub(inner.last_probe_ms),
            gap_ms: inner.gap_ms,
        })
    }

    /// Counts gaps from now on.
    pub(super) fn forget_gap(&self) {
        self.with(|inner| inner.gap_ms = 0);
    }

    pub(super) fn acknowledged(&self) -> BTreeSet<String> {
        self.with(|inner| inner.acknowledged.clone())
    }

    pub(super) fn stop(&self) {
        self.stop.store(true, Relaxed);
    }

    fn stopped(&self) -> bool {
        self.stop.load(Relaxed)
    }

    fn took_probe(&self) {
        let now = clock::now().0;
        self.with(|inner| {
            if inner.probes > 0 {
                inner.gap_ms = inner.gap_ms.max(now.saturating_sub(inner.last_probe_ms));
            }
            inner.probes += 1;
            inner.last_probe_ms = now;
        });
    }

    fn took_readings(&self, readings: &[Reading]) {
        self.with(|inner| {
            for reading in readings {
                inner.acknowledged.insert(reading.id.clone());
                inner.last.retain(|(name, _)| *name != reading.source);
                inner.last.push_back((reading.source.clone(), reading.value));
            }
        });
    }
}

struct Reading {
    id: String,
    source: String,
    time_ms: u64,
    value: f64,
}

/// Address of a board's HTTP; changes when the board is started again.
pub(super) type Place = Arc<Mutex<Option<SocketAddr>>>;

/// Samples `sources` on the board at `place` until told to stop.
pub(super) fn sampler(
    board: &'static str,
    place: Place,
    sources: Arc<Vec<Source>>,
    ledger: Arc<Ledger>,
) -> JoinHandle<()> {
    thread::spawn(move || {
        let mut waiting: VecDeque<Reading> = VecDeque::new();
        let mut client = None;
        let mut round = 0_u64;
        let mut next = clock::now().0;
        while !ledger.stopped() {
            if clock::now().0 >= next && waiting.len() < WAITING_MAX {
                next += u64::try_from(SAMPLE.as_millis()).unwrap_or(1_000);
                round += 1;
                waiting.extend(sample(board, round, &sources));
            }
            let batch: Vec<Reading> = waiting.drain(..waiting.len().min(200)).collect();
            if batch.is_empty() || write(&mut client, &place, &batch) {
                ledger.took_readings(&batch);
            } else {
                batch.into_iter().rev().for_each(|reading| waiting.push_front(reading));
            }
            thread::sleep(PROBE);
        }
    })
}

fn sample(board: &str, round: u64, sources: &[Source]) -> Vec<Reading> {
    let time_ms = clock::now().0;
    let readings = sources.iter().filter_map(|source| {
        Some(Reading {
            id: format!("{board}/{round}/{}", source.name),
            source: source.name.clone(),
            time_ms,
            value: source.read().ok()?,
        })
    });
    readings.collect()
}

fn write(client: &mut Option<Client>, place: &Place, batch: &[Reading]) -> bool {
    let statements: Vec<Value> = batch
        .iter()
        .map(|reading| {
            let Reading { id, source, time_ms, value } = reading;
            let sql = "INSERT INTO reading SELECT ?1, ?2, ?3, ?4 \
                       WHERE NOT EXISTS (SELECT 1 FROM reading WHERE id = ?1)";
            json!([sql, id, source, time_ms, value])
        })
        .collect();
    execute(client, place, &Value::Array(statements))
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
        while !ledger.stopped() {
            count += 1;
            let statements = json!([["INSERT OR REPLACE INTO probe VALUES (1, ?)", count]]);
            if execute(&mut clients[turn], &places[turn], &statements) {
                ledger.took_probe();
            } else {
                turn = (turn + 1) % places.len();
            }
            thread::sleep(PROBE);
        }
    })
}
