//! What travels between boards when nobody writes or reads anything, in a group of
//! three and in a larger one beside it.
//!
//! Datagrams and their bytes as the agents count them at their sockets, so without
//! the headers of UDP and IP; multicast is not in it, there is none on loopback.

use std::{path::Path, thread, time::Duration};

use serde_json::{Map, Value, json};
use understudy_tests::agents::votes;

use crate::group::{BOARDS, Group};

/// Joining and what follows it have come to an end by then.
const SETTLED: Duration = Duration::from_secs(10);

/// Headers of UDP and IPv4, bytes per datagram.
const HEADERS_BYTES: f64 = 28.0;

/// Of all boards, and of those that lead, follow with a vote, and without.
const ROLES: [&str; 4] = ["all", "leader", "follower", "learner"];

/// What is counted, by the names that `status --json` has for it.
const COUNTERS: [&str; 4] =
    ["datagrams_sent", "datagrams_sent_bytes", "datagrams_received", "datagrams_received_bytes"];

/// In which a duty is measured.
const PROFILES: [&str; 3] = ["wired", "wifi", "radio"];

/// A board that is ready for the duty, and does nothing.
const DUTY: &str = "[[duty]]\nname = \"pump\"\ncommand = [\"/bin/sleep\", \"86400\"]\n";

/// What one board sends and takes in per second, in the order of [`COUNTERS`].
type Rates = [f64; COUNTERS.len()];

/// A board's role, and its counters at a time of its own, in milliseconds.
struct Counted {
    role: &'static str,
    uptime_ms: u64,
    counters: [u64; COUNTERS.len()],
}

pub(crate) fn run(program: &Path, seconds: u64, boards: usize) -> Value {
    let [three, large] = [BOARDS.len(), boards].map(|boards| idle(program, seconds, boards));
    let ratio = |role: &str| {
        let sent = |group: &Value| group[role]["sent_bytes"].as_f64().unwrap_or(f64::NAN);
        sent(&large) / sent(&three)
    };
    let (board, leader) = (ratio("all"), ratio("leader"));
    eprintln!(
        "a board among {boards} sends {board:.2} times the bytes of one among three, the leader \
         {leader:.2} times those of theirs"
    );
    json!({
        "measure": "idle", "seconds": seconds, "three": three, "boards": boards, "large": large,
        "ratio_board": board, "ratio_leader": leader,
    })
}

/// What a duty costs that is held, for as long as nothing happens: beside the same three
/// boards without one, per profile, held by the board that leads and by one that follows.
pub(crate) fn duty(program: &Path, seconds: u64) -> Value {
    let mut report = json!({ "measure": "idle", "seconds": seconds });
    for profile in PROFILES {
        let group = Group::configured(program, DUTY);
        let leader = group.leader();
        let _set = group.agents.told(&leader, &["set", "profile", profile]);
        let _ = group.agents.told(&leader, &["token", "revoke"]);
        thread::sleep(SETTLED);
        let without = sent(&group, seconds);
        eprintln!("{profile}: three boards send {} a second without a duty", shown(without));
        let _sentence = group.agents.told(&leader, &["duty", "add", "pump"]);
        for who in ["leader", "follower"] {
            let board = BOARDS.into_iter().find(|board| (*board == leader) == (who == "leader"));
            let board = board.expect("there are three");
            let _sentence = group.agents.told(&leader, &["duty", "transfer", "pump", board]);
            let holds = |status: &Value| status["duties"][0]["held"] == true;
            group.agents.wait(board, "to hold the duty", holds);
            thread::sleep(SETTLED);
            let with = sent(&group, seconds);
            let ratio = [with[0] / without[0], with[1] / without[1]];
            eprintln!(
                "{profile}: {} with one held by the {who}: {:.2} times the datagrams, {:.2} times \
                 the bytes",
                shown(with),
                ratio[0],
                ratio[1]
            );
            report[profile][who] = json!({ "with": with, "without": without, "ratio": ratio });
        }
    }
    report
}

/// Per role, what one board of it sends and takes in.
fn idle(program: &Path, seconds: u64, boards: usize) -> Value {
    let group = Group::of(program, boards);
    // Boards tell each other for how long a token still holds; most of the time none does.
    let _ = group.agents.told(&group.leader(), &["token", "revoke"]);
    thread::sleep(SETTLED);
    let before = counted(&group);
    thread::sleep(Duration::from_secs(seconds));
    let rates: Vec<_> = before.iter().zip(counted(&group)).map(rates).collect();
    eprintln!("{boards} boards, nothing written for {seconds} s; per board and second:");
    eprintln!("{:10}{:>7}{:>26}{:>26}", "", "boards", "sent", "received");
    let mut report = Map::new();
    for role in ROLES {
        let of_role = |(own, _): &&(&str, Rates)| *own == role || role == "all";
        let of_role: Vec<Rates> = rates.iter().filter(of_role).map(|(_, rates)| *rates).collect();
        if let Some([sent, sent_bytes, received, received_bytes]) = mean(&of_role) {
            let shown = |datagrams, bytes| format!("{bytes:.0} B in {datagrams:.1} datagrams");
            let (out, back) = (shown(sent, sent_bytes), shown(received, received_bytes));
            eprintln!("{role:10}{:>7}{out:>26}{back:>26}", of_role.len());
            report.insert(
                role.to_owned(),
                json!({
                    "boards": of_role.len(), "sent": sent, "sent_bytes": sent_bytes,
                    "received": received, "received_bytes": received_bytes,
                    "sent_bytes_with_headers": sent_bytes + HEADERS_BYTES * sent,
                }),
            );
        }
    }
    Value::Object(report)
}

/// Datagrams that all boards together send in a second, and their bytes.
fn sent(group: &Group, seconds: u64) -> [f64; 2] {
    let before = counted(group);
    thread::sleep(Duration::from_secs(seconds));
    let rates = before.iter().zip(counted(group)).map(|pair| rates(pair).1);
    rates.fold([0.0; 2], |sum, rates| [sum[0] + rates[0], sum[1] + rates[1]])
}

fn shown([datagrams, bytes]: [f64; 2]) -> String {
    format!("{bytes:.0} B in {datagrams:.1} datagrams")
}

fn counted(group: &Group) -> Vec<Counted> {
    let boards = group.boards.iter().map(|board| {
        let status = group.agents.status(board).expect("it answers");
        let role = match status["role"] == "leader" {
            true => "leader",
            false if votes(&status, board) => "follower",
            false => "learner",
        };
        let number = |value: &Value| value.as_u64().expect("a number");
        let counters = COUNTERS.map(|counter| number(&status["counters"][counter]));
        Counted { role, uptime_ms: number(&status["uptime_ms"]), counters }
    });
    boards.collect()
}

/// # Panics
/// When another board leads than before: then more has travelled than when nothing
/// happens.
#[expect(clippy::cast_precision_loss, reason = "these are far below 2^52")]
fn rates((before, after): (&Counted, Counted)) -> (&'static str, Rates) {
    assert_eq!(before.role, after.role, "the group was not left in peace");
    let seconds = (after.uptime_ms - before.uptime_ms) as f64 / 1e3;
    let rate = |at: usize| (after.counters[at] - before.counters[at]) as f64 / seconds;
    (after.role, std::array::from_fn(rate))
}

#[expect(clippy::cast_precision_loss, reason = "these are far below 2^52")]
fn mean(all: &[Rates]) -> Option<Rates> {
    let sum = |at: usize| all.iter().map(|rates| rates[at]).sum::<f64>();
    (!all.is_empty()).then(|| std::array::from_fn(|at| sum(at) / all.len() as f64))
}
