//! Durable single-row inserts over HTTP, at the leader of three boards.

use std::{path::Path, time::Duration};

use serde_json::{Value, json};

use crate::{
    Spread, floor,
    group::{BOARDS, Group},
    load::{self, Load},
    rqlite::Rqlite,
};

const CONNECTIONS: [usize; 3] = [1, 16, 64];

/// One round's figures of one server at one number of connections.
struct Sample {
    load: Load,
    /// Syncs the disk did per second just before.
    floor_per_s: f64,
    bytes_per_insert: f64,
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
            ours.push(sample(program, &http, connections, time, || group.written_bytes()));
            if let Some(peer) = &peer {
                let written = || peer.written_bytes();
                theirs.push(sample(program, peer.http(), connections, time, written));
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
    written_bytes: impl Fn() -> u64,
) -> Sample {
    let folder = program.parent().expect("a folder");
    let floor_per_s = floor::syncs_per_s(folder, Duration::from_millis(500));
    let before = written_bytes();
    let load = load::insert(http, connections, time);
    let bytes = (written_bytes() - before) as f64 / BOARDS.len() as f64;
    Sample { bytes_per_insert: bytes / load.requests as f64, load, floor_per_s }
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
    let client = spread(|sample| sample.load.client_us_per_request);
    eprintln!(
        "{who:<10} {connections:>2} connections: {:>6.0} inserts/s ({:.0}..{:.0}), {:.2} of the \
         floor's {:.0} syncs/s; p50 {:.2} ms, p99 {:.2} ms; {:.0} bytes written per insert and \
         node; client {:.0} us per request",
        per_s.median,
        per_s.least,
        per_s.most,
        ratio.median,
        floor.median,
        p50.median / 1e3,
        p99.median / 1e3,
        bytes.median,
        client.median,
    );
    json!({
        "who": who, "connections": connections, "inserts_per_s": per_s.json(),
        "floor_syncs_per_s": floor.json(), "ratio_to_floor": ratio.json(),
        "p50_us": p50.json(), "p99_us": p99.json(),
        "bytes_per_insert_and_node": bytes.json(), "client_us_per_request": client.json(),
    })
}
