//! What a broker costs: three boards by UDP alone, three by UDP with MQTT beside it, and
//! three through mosquitto alone, all on loopback and in the same run. Writes per second,
//! how long each takes, what travels while nothing happens, memory after the same load, and
//! how long nobody does what a duty is about when the board that holds it and leads is lost.
//!
//! Bytes are those of datagrams, by MQTT with what MQTT adds, and without the headers of
//! UDP, TCP and IP.

use std::{path::Path, thread, time::Duration};

use serde_json::{Value, json};
use understudy_tests::broker::Broker;

use crate::{
    Spread,
    group::{BOARDS, Group, TABLE},
    handover, load,
    process::{self, megabytes},
};

const CONNECTIONS: [usize; 2] = [1, 16];

/// Joining and what follows it have come to an end by then.
const SETTLED: Duration = Duration::from_secs(10);

/// Nothing happens for so long while it is counted what travels.
const IDLE: Duration = Duration::from_secs(20);

/// Rows that all have got when their memory is read.
const ROWS: u64 = 20_000;

/// What memory may grow by where there is a broker, megabytes.
const GROWTH_MB_MAX: f64 = 1.0;

/// Boards, and the broker if they have one.
struct Road {
    name: &'static str,
    text: String,
    group: Group,
    broker: Option<Broker>,
}

impl Road {
    fn open(program: &Path, name: &'static str) -> Result<Self, String> {
        let broker = match name {
            "udp" => None,
            _ => Some(Broker::new("").ok_or("so there is nothing to measure")?),
        };
        let url = broker.as_ref().map(|broker| format!("[[broker]]\nurl = \"{}\"\n", broker.url()));
        let text = format!("transport = \"{name}\"\n{}", url.unwrap_or_default());
        let group = Group::configured(program, &text);
        let made = load::execute(&group.http(&group.leader()), TABLE, Duration::from_secs(10));
        made?;
        Ok(Self { name, text, group, broker })
    }

    fn insert(&self, connections: usize, time: Duration) -> load::Load {
        load::insert(&self.group.http(&self.group.leader()), connections, time)
    }

    /// Datagrams that all boards together have sent, and their bytes.
    fn sent(&self) -> [u64; 2] {
        let of_board = |board: &&str| {
            let status = self.group.agents.status(board).expect("it answers");
            let number = |value: &Value| value.as_u64().unwrap_or(0);
            let [udp, udp_bytes] = ["datagrams_sent", "datagrams_sent_bytes"]
                .map(|counter| number(&status["counters"][counter]));
            [udp + number(&status["brokers"][0]["posted"]), udp_bytes]
        };
        let sent = BOARDS.iter().map(of_board);
        let [datagrams, bytes] =
            sent.fold([0; 2], |sum, sent| [sum[0] + sent[0], sum[1] + sent[1]]);
        let posted = self.broker.as_ref().map(|broker| process::read_bytes(&broker.pid()));
        [datagrams, bytes + posted.unwrap_or(0)]
    }

    /// The largest board's memory after so many rows: its share, and all it has.
    fn memory_mb(&self) -> [f64; 2] {
        let rows = || self.group.numbers(&self.group.leader(), "SELECT count(*) FROM reading")[0];
        while rows() < ROWS {
            let _ = self.insert(CONNECTIONS[1], Duration::from_secs(1));
        }
        thread::sleep(SETTLED);
        let pids = BOARDS.map(|board| self.group.pid(board));
        let largest = |of: fn(&str) -> u64| {
            let bytes = pids.iter().map(|pid| of(pid)).max();
            megabytes(bytes.unwrap_or(0))
        };
        [largest(process::memory_bytes), largest(process::resident_bytes)]
    }
}

/// # Errors
/// Where there is no mosquitto.
pub(crate) fn run(program: &Path, rounds: u64, seconds: u64, kills: u64) -> Result<Value, String> {
    let roads = ["udp", "both", "mqtt"].into_iter().map(|name| Road::open(program, name));
    let roads: Vec<Road> = roads.collect::<Result<_, String>>()?;
    let mut report = json!({ "measure": "road", "rounds": rounds, "seconds": seconds });
    report["growth_mb"] = growth(&roads, &mut report);
    for connections in CONNECTIONS {
        let mut loads: Vec<Vec<load::Load>> = roads.iter().map(|_| Vec::new()).collect();
        for _ in 0..rounds {
            for (road, loads) in roads.iter().zip(&mut loads) {
                loads.push(road.insert(connections, Duration::from_secs(seconds)));
            }
        }
        for (road, loads) in roads.iter().zip(&loads) {
            report[road.name][format!("{connections}")] = writes(road.name, connections, loads);
        }
    }
    thread::sleep(SETTLED);
    let before: Vec<_> = roads.iter().map(Road::sent).collect();
    thread::sleep(IDLE);
    for (road, before) in roads.iter().zip(before) {
        report[road.name]["idle"] = idle(road, before);
    }
    for road in roads.iter().filter(|road| road.name != "both") {
        eprintln!("{}: the board that holds the duty and leads is lost:", road.name);
        report[road.name]["takeover"] = handover::by_road(program, kills, &road.text);
    }
    Ok(report)
}

fn writes(name: &str, connections: usize, loads: &[load::Load]) -> Value {
    let spread =
        |what: fn(&load::Load) -> f64| Spread::of(&loads.iter().map(what).collect::<Vec<_>>());
    let per_s = spread(|load| load.per_s);
    let [p50, p99] = [spread(|load| load.p50_us), spread(|load| load.p99_us)];
    eprintln!(
        "{name:<5}{connections:>3} connections: {:>6.0} inserts/s ({:.0}..{:.0}); p50 {:.2} ms, \
         p99 {:.2} ms",
        per_s.median,
        per_s.least,
        per_s.most,
        p50.median / 1e3,
        p99.median / 1e3
    );
    json!({ "inserts_per_s": per_s.json(), "p50_us": p50.json(), "p99_us": p99.json() })
}

#[expect(clippy::cast_precision_loss, reason = "these are far below 2^52")]
fn idle(road: &Road, before: [u64; 2]) -> Value {
    let after = road.sent();
    let per_board_and_s = IDLE.as_secs_f64() * BOARDS.len() as f64;
    let rate = |at: usize| (after[at] - before[at]) as f64 / per_board_and_s;
    let [datagrams, bytes] = [rate(0), rate(1)];
    eprintln!(
        "{:<5}nothing written: {bytes:.0} B in {datagrams:.1} datagrams per board and second",
        road.name
    );
    json!({ "datagrams_per_s": datagrams, "bytes_per_s": bytes })
}

/// What the boards with a broker take more than those without.
fn growth(roads: &[Road], report: &mut Value) -> Value {
    let mut without = None;
    let mut grown = json!({});
    for road in roads {
        let [share, resident] = road.memory_mb();
        let growth = share - *without.get_or_insert(share);
        let verdict = if growth <= GROWTH_MB_MAX { "met" } else { "MISSED" };
        eprintln!(
            "{:<5}the largest board after {ROWS} inserts: {share:.2} MB (resident {resident:.2}); \
             growth {growth:+.2} MB, at most {GROWTH_MB_MAX}: {verdict}",
            road.name
        );
        report[road.name]["memory"] = json!({ "pss_mb": share, "rss_mb": resident });
        grown[road.name] = json!(growth);
    }
    grown
}
