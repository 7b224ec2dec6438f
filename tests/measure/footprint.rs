//! How large the program is, and how much memory a board takes: idle, and after
//! a load.

use std::{path::Path, thread, time::Duration};

use serde_json::{Value, json};

use crate::{
    Spread,
    group::{BOARDS, Group},
    load, process,
    rqlite::Rqlite,
};

/// Nothing happens for so long before idle memory is read.
const IDLE: Duration = Duration::from_secs(10);

const CONNECTIONS: usize = 16;

pub(crate) fn run(program: &Path, seconds: u64) -> Value {
    let bytes = std::fs::metadata(program).map_or(0, |metadata| metadata.len());
    eprintln!("binary: {:.2} MB", megabytes(bytes));
    let group = Group::start(program);
    let pids = || BOARDS.map(|board| group.pid(board)).to_vec();
    let http = group.http(&group.leader());
    let ours = memory("understudy", &pids(), &http, seconds);
    let rqlite = match Rqlite::program() {
        None => {
            eprintln!("rqlite: absent (RQLITED names no binary)");
            json!("absent")
        }
        Some(program) => {
            let peer = Rqlite::start(&program);
            memory("rqlite", &peer.pids().collect::<Vec<_>>(), peer.http(), seconds)
        }
    };
    json!({ "measure": "footprint", "binary_bytes": bytes, "understudy": ours, "rqlite": rqlite })
}

fn memory(who: &str, pids: &[String], http: &str, seconds: u64) -> Value {
    thread::sleep(IDLE);
    let idle = shares(pids);
    let load = load::insert(http, CONNECTIONS, Duration::from_secs(seconds));
    let loaded = shares(pids);
    eprintln!(
        "{who}: {:.2} MB idle (of three boards the largest {:.2}), {:.2} MB after {} inserts in \
         {seconds} s (the largest {:.2})",
        idle.median, idle.most, loaded.median, load.requests, loaded.most
    );
    json!({
        "idle_pss_mb": idle.json(), "loaded_pss_mb": loaded.json(),
        "inserts": load.requests, "seconds": seconds,
    })
}

fn shares(pids: &[String]) -> Spread {
    let shares = pids.iter().map(|pid| megabytes(process::memory_bytes(pid)));
    Spread::of(&shares.collect::<Vec<_>>())
}

#[expect(clippy::cast_precision_loss, reason = "these are far below 2^52")]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
