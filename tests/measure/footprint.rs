//! How large the program is, and how much memory a board takes: idle, and after
//! a load. The same of a witness, and what it writes to its disk for that.

use std::{path::Path, thread, time::Duration};

use serde_json::{Value, json};

use crate::{
    Spread,
    group::{BOARDS, Group, WITNESS},
    load,
    process::{self, Used, megabytes},
    rqlite::Rqlite,
};

/// Nothing happens for so long before idle memory is read.
const IDLE: Duration = Duration::from_secs(10);

const CONNECTIONS: usize = 16;

/// What a board may take after the load, megabytes: every one of them, since who
/// leads today follows tomorrow.
const LOADED_MB_MAX: f64 = 12.0;

/// And what a witness may take under the load, megabytes.
const WITNESS_MB_MAX: f64 = 4.5;

pub(crate) fn run(program: &Path, seconds: u64) -> Value {
    let bytes = std::fs::metadata(program).map_or(0, |metadata| metadata.len());
    eprintln!("binary: {:.2} MB", megabytes(bytes));
    let group = Group::start(program);
    let pids = || BOARDS.map(|board| group.pid(board)).to_vec();
    let http = group.http(&group.leader());
    let (ours, largest) = memory("understudy", &pids(), &http, seconds);
    let is_met = largest <= LOADED_MB_MAX;
    let verdict = if is_met { "met" } else { "MISSED" };
    eprintln!("target: the largest within {LOADED_MB_MAX} MB, {verdict} with {largest:.2}");
    drop(group);
    let (witness, of_witness) = witness(program, seconds);
    let is_met = is_met && of_witness <= WITNESS_MB_MAX;
    let rqlite = match Rqlite::program() {
        None => {
            eprintln!("rqlite: absent (RQLITED names no binary)");
            json!("absent")
        }
        Some(program) => {
            let peer = Rqlite::start(&program);
            memory("rqlite", &peer.pids().collect::<Vec<_>>(), peer.http(), seconds).0
        }
    };
    json!({
        "measure": "footprint", "binary_bytes": bytes, "understudy": ours,
        "witness": witness, "rqlite": rqlite, "loaded_pss_mb_max": LOADED_MB_MAX,
        "witness_pss_mb_max": WITNESS_MB_MAX, "target_met": is_met,
    })
}

/// What the witness of two boards takes and writes, and what it takes after the load.
fn witness(program: &Path, seconds: u64) -> (Value, f64) {
    let pair = Group::pair(program);
    let (http, pid) = (pair.http(&pair.leader()), pair.pid(WITNESS));
    thread::sleep(IDLE);
    let idle = megabytes(process::memory_bytes(&pid));
    let used = [WITNESS, BOARDS[0]].map(|board| Used::by(&pair.pid(board)));
    let load = load::insert(&http, CONNECTIONS, Duration::from_secs(seconds));
    let loaded = megabytes(process::memory_bytes(&pid));
    let [own, others] = [(WITNESS, used[0]), (BOARDS[0], used[1])].map(|(board, before)| {
        (Used::by(&pair.pid(board)) - before).written_bytes / load.requests.max(1)
    });
    let verdict = if loaded <= WITNESS_MB_MAX { "met" } else { "MISSED" };
    eprintln!(
        "witness: idle {idle:.2} MB; after {} inserts {loaded:.2} MB, and {own} bytes written to \
         its disk for each, {others} on a board with the data; target: within {WITNESS_MB_MAX} MB, \
         {verdict}",
        load.requests
    );
    let value = json!({
        "idle_pss_mb": idle, "loaded_pss_mb": loaded, "inserts": load.requests,
        "seconds": seconds, "written_bytes_per_insert": own,
        "board_written_bytes_per_insert": others,
    });
    (value, loaded)
}

/// What all boards take, and the largest of them after the load.
fn memory(who: &str, pids: &[String], http: &str, seconds: u64) -> (Value, f64) {
    thread::sleep(IDLE);
    let idle = shares(pids);
    let load = load::insert(http, CONNECTIONS, Duration::from_secs(seconds));
    let loaded = shares(pids);
    eprintln!(
        "{who}: idle the median of three boards {:.2} MB, the largest {:.2} MB; after {} inserts \
         in {seconds} s the median {:.2} MB, the largest {:.2} MB",
        idle.median, idle.most, load.requests, loaded.median, loaded.most
    );
    let value = json!({
        "idle_pss_mb": idle.json(), "loaded_pss_mb": loaded.json(),
        "inserts": load.requests, "seconds": seconds,
    });
    (value, loaded.most)
}

fn shares(pids: &[String]) -> Spread {
    let shares = pids.iter().map(|pid| megabytes(process::memory_bytes(pid)));
    Spread::of(&shares.collect::<Vec<_>>())
}
