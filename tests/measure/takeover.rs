//! From the SIGKILL of the leader to the next acknowledged write, in a group of three
//! and, if that is wanted, in a larger one beside it.

use std::{
    path::Path,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    Spread,
    group::{BOARDS, Group},
    load,
};

/// A probe is sent this long after the one before.
const PROBE: Duration = Duration::from_millis(20);

/// A probe is given up after this, and the group after that.
const PROBE_MAX: Duration = Duration::from_secs(10);
const GAP_MAX: Duration = Duration::from_secs(30);

const INSERT: &str = r#"["INSERT INTO reading(sensor, value) VALUES('probe', 1)"]"#;

pub(crate) fn run(program: &Path, rounds: u64, boards: Option<usize>) -> Value {
    let three = gap(program, rounds, BOARDS.len());
    let mut report = json!({ "measure": "takeover", "gap_ms": three.json(), "rounds": rounds });
    if let Some(boards) = boards {
        let large = gap(program, rounds, boards);
        let ratio = large.median / three.median;
        eprintln!("{boards} boards take {ratio:.2} times as long as three");
        report["large"] = json!({ "boards": boards, "gap_ms": large.json(), "ratio": ratio });
    }
    report
}

fn gap(program: &Path, rounds: u64, boards: usize) -> Spread {
    let mut group = Group::of(program, boards);
    let gaps: Vec<f64> = (0..rounds).map(|_| gap_ms(&mut group)).collect();
    let gap = Spread::of(&gaps);
    eprintln!(
        "{boards} boards, kill -9 of the leader to the next acknowledged write: {:.0} ms \
         ({:.0}..{:.0}) in {rounds} rounds",
        gap.median, gap.least, gap.most
    );
    gap
}

/// Probes go out one after the other without waiting, as from so many sensors:
/// what a dying leader took along answers nobody.
#[expect(clippy::disallowed_methods, reason = "measuring is what a clock is for here")]
fn gap_ms(group: &mut Group) -> f64 {
    let leader = group.leader();
    let other = group.boards.iter().find(|board| **board != leader).expect("it is not alone");
    let http = group.http(other);
    load::execute(&http, INSERT, PROBE_MAX).expect("the group works");
    group.agents.kill(&leader);
    let killed = Instant::now();
    let (acknowledged, first) = mpsc::channel();
    let gap = loop {
        let (http, acknowledged) = (http.clone(), acknowledged.clone());
        thread::spawn(move || {
            if load::execute(&http, INSERT, PROBE_MAX).is_ok() {
                // Only the first is waited for.
                let _ = acknowledged.send(killed.elapsed());
            }
        });
        if let Ok(gap) = first.recv_timeout(PROBE) {
            break gap;
        }
        assert!(killed.elapsed() < GAP_MAX, "no write is acknowledged any more");
    };
    group.agents.run(&leader);
    group.agents.wait(&leader, "to follow again", |status| status["leader"].is_string());
    thread::sleep(Duration::from_secs(2));
    gap.as_secs_f64() * 1e3
}
