//! Durable single-row inserts over HTTP, at the leader of three boards.

use std::{path::Path, time::Duration};

use serde_json::{Value, json};

use crate::{
    Spread, floor,
    group::{BOARDS, Group},
    load::{self, Load},
    process::Used,
    rqlite::Rqlite,
};

const CONNECTIONS: [usize; 3] = [1, 16, 64];

/// One round's figures of one server at one number of connections.
struct Sample {
    load: Load,
    /// Syncs the disk did per second just before.
    floor_per_s: f64,
    bytes_per_insert: f64,
    /// Processor time of all boards together.
    cpu_us_per_insert: f64,
}

/// Rounds of both servers in turn, so that a slow minute meets both.
pub(crate) fn run(program: &Path, rounds: u64, seconds: u64) -> Value {
    let group = Group::start(program);
    let peer = Rqlite::program().map(|program| Rqlite::start(&program));
    if peer.is_none() {
        eprintln!("rqlite: absent (RQLITED names no binary)");
    }
    let time = Duration::from_secs(seconds);
    let mut results = Vec::new();
    for connections in CONNECTIONS {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            let http = group.http(&group.leader());
            ours.push(sample(program, &http, connections, time, || group.used()));
            if let Some(peer) = &peer {
                let used = || peer.used();
                theirs.push(sample(program, peer.http(), connections, time, used));
            }
        }
        results.push(report("understudy", connections, &ours));
        if !theirs.is_empty() {
            results.push(report("rqlite", connections, &theirs));
        }
    }
    let rqlite = if peer.is_some() { "measured" } else { "absent" };
    json!({ "measure": "throughput", "rqlite": rqlite, "results": results })
}

#[expect(clippy::cast_precision_loss, reason = "these are far below 2^52")]
fn sample(
    program: &Path,
    http: &str,
    connections: usize,
    time: Duration,
    used: impl Fn() -> Used,
) -> Sample {
    let folder = program.parent().expect("a folder");
    let floor_per_s = floor::syncs_per_s(folder, Duration::from_millis(500));
    let before = used();
    let load = load::insert(http, connections, time);
    let used = used() - before;
    let inserts = load.requests as f64;
    Sample {
        bytes_per_insert: used.written_bytes as f64 / BOARDS.len() as f64 / inserts,
        cpu_us_per_insert: 1_000.0 * used.cpu_ms as f64 / inserts,
        load,
        floor_per_s,
    }
}

fn report(who: &str, connections: usize, samples: &[Sample]) -> Value {
    let spread =
        |what: fn(&Sample) -> f64| Spread::of(&samples.iter().map(what).collect::<Vec<_>>());
    let per_s = spread(|sample| sample.load.per_s);
    let floor = spread(|sample| sample.floor_per_s);
    let ratio = spread(|sample| sample.load.per_s / sample.floor_per_s);
    let p50 = spread(|sample| sample.load.p50_us);
    let p99 = spread(|sample| sample.load.p99_us);
    let bytes = spread(|sample| sample.bytes_per_insert);
    let cpu = spread(|sample| sample.cpu_us_per_insert);
    let client = spread(|sample| sample.load.client_us_per_request);
    eprintln!(
        "{who:<10} {connections:>2} connections: {:>6.0} inserts/s ({:.0}..{:.0}), {:.2} of the \
         floor's {:.0} syncs/s; p50 {:.2} ms, p99 {:.2} ms; {:.0} bytes written per insert and \
         node; processor time per insert: {:.0} us of the three, {:.0} us of the client",
        per_s.median,
        per_s.least,
        per_s.most,
        ratio.median,
        floor.median,
        p50.median / 1e3,
        p99.median / 1e3,
        bytes.median,
        cpu.median,
        client.median,
    );
    json!({
        "who": who, "connections": connections, "inserts_per_s": per_s.json(),
        "floor_syncs_per_s": floor.json(), "ratio_to_floor": ratio.json(),
        "p50_us": p50.json(), "p99_us": p99.json(),
        "bytes_per_insert_and_node": bytes.json(), "cpu_us_per_insert": cpu.json(),
        "client_us_per_request": client.json(),
    })
}
