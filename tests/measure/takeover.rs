//! From the SIGKILL of the leader to the next acknowledged write.

use std::{
    path::Path,
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

const INSERT: &str = r#"["INSERT INTO reading(sensor, value) VALUES('probe', 1)"]"#;

pub(crate) fn run(program: &Path, rounds: u64) -> Value {
    let mut group = Group::start(program);
    let gaps: Vec<f64> = (0..rounds).map(|_| gap_ms(&mut group)).collect();
    let gap = Spread::of(&gaps);
    eprintln!(
        "kill -9 of the leader to the next acknowledged write: {:.0} ms ({:.0}..{:.0}) in {rounds} \
         rounds",
        gap.median, gap.least, gap.most
    );
    json!({ "measure": "takeover", "gap_ms": gap.json(), "rounds": rounds })
}

#[expect(clippy::disallowed_methods, reason = "measuring is what a clock is for here")]
fn gap_ms(group: &mut Group) -> f64 {
    let leader = group.leader();
    let other = BOARDS.into_iter().find(|board| *board != leader).expect("there are three");
    let http = group.http(other);
    load::execute(&http, INSERT, Duration::from_secs(5)).expect("the group works");
    group.agents.kill(&leader);
    let killed = Instant::now();
    // One request may wait for the new leader itself: it is not sent twice.
    while load::execute(&http, INSERT, Duration::from_secs(10)).is_err() {
        thread::sleep(PROBE);
    }
    let gap = killed.elapsed();
    group.agents.run(&leader);
    group.agents.wait(&leader, "to follow again", |status| status["leader"].is_string());
    thread::sleep(Duration::from_secs(2));
    gap.as_secs_f64() * 1e3
}
