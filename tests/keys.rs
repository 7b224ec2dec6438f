//! The group's key is changed, as real processes: while writes flow, while a board is
//! away, and because one was removed.

use std::{
    fs,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use serde_json::Value;
use understudy::{
    identity::GroupKey,
    store::journal::{Journal, Options},
    token::Token,
};
use understudy_tests::{agents::Agents, program};

const REKEYED: &str = "the group's key was changed since this token was made";

/// Oldest, used, newest.
fn phase(status: &Value) -> [u64; 3] {
    ["key_oldest", "key", "key_newest"].map(|name| status[name].as_u64().expect("a number"))
}

fn wait_for_phase(agents: &Agents, boards: &[&str], expected: [u64; 3]) {
    for board in boards {
        agents.wait(board, "to have the key", |status| {
            phase(status) == expected && status["key_due"] == false
        });
    }
}

fn group(boards: &[&str]) -> Agents {
    let mut agents = Agents::new(&program::debug());
    agents.form(boards);
    let _ = agents.told(boards[0], &["execute", "CREATE TABLE t(a)"]);
    agents
}

fn count(agents: &Agents, board: &str) -> String {
    agents.told(board, &["query", "SELECT 'rows: ' || count(*) FROM t"])
}

/// The keys that a board which does not run has in its journal.
fn written(agents: &Agents, board: &str) -> Vec<GroupKey> {
    let journal = Journal::open(&agents.directory(board), &Options::default()).expect("it opens");
    journal.identity().expect("it is a member").group_keys.clone()
}

fn contains(bytes: &[u8], key: &GroupKey) -> bool {
    bytes.windows(key.key.len()).any(|window| window == key.key)
}

#[test]
fn a_key_is_changed_while_writes_flow_and_none_is_lost() {
    let mut agents = group(&["a", "b", "c"]);
    let old = agents.told("a", &["token"]);
    let (ends, mut rows) = (AtomicBool::new(false), 0);
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut rows = 0;
            while !ends.load(Ordering::Relaxed) {
                let _ = agents.told("b", &["execute", "INSERT INTO t VALUES (1)"]);
                rows += 1;
            }
            rows
        });
        for (number, board) in (1..).zip(["c", "a", "b"]) {
            let said = agents.told(board, &["rotate-key"]);
            assert!(said.contains("The group has a new key"), "{said}");
            wait_for_phase(&agents, &["a", "b", "c"], [number; 3]);
        }
        ends.store(true, Ordering::Relaxed);
        rows = writer.join().expect("every write was acknowledged");
    });
    assert!(rows > 10, "{rows}");
    for board in ["a", "b", "c"] {
        assert!(count(&agents, board).contains(&format!("rows: {rows}")), "of {rows} on {board}");
    }
    agents.run("d");
    let refused = agents.refused("d", &["join", old.trim()]);
    assert!(refused.contains(REKEYED) && refused.contains("understudy token"), "{refused}");
    let token = agents.told("b", &["token"]);
    let _ = agents.told("d", &["join", token.trim()]);
    agents.wait("d", "to follow", |status| status["leader"].is_string());
    let _ = agents.told("d", &["rotate-key"]);
    wait_for_phase(&agents, &["a", "b", "c", "d"], [4; 3]);
    for board in ["a", "d"] {
        agents.stop(board);
        let keys = written(&agents, board);
        assert_eq!(keys.iter().map(|key| key.number).collect::<Vec<_>>(), [4], "{board}");
        for file in ["state.db", "state.db-wal"] {
            let bytes = fs::read(agents.directory(board).join(file)).unwrap_or_default();
            assert!(!contains(&bytes, &keys[0]), "{board}'s {file} shows the key");
        }
        agents.run(board);
    }
    agents.wait("a", "to follow again", |status| status["leader"].is_string());
    assert!(!agents.told("a", &["status"]).contains("key is being changed"));
}

#[test]
fn a_board_away_beyond_the_log_and_across_a_change_comes_back_by_itself() {
    let mut agents = group(&["a", "b", "c"]);
    agents.stop("c");
    let _ = agents.told("a", &["rotate-key"]);
    wait_for_phase(&agents, &["a", "b"], [0, 1, 1]);
    let awaits = |status: &Value| status["key_awaits"] == serde_json::json!(["c"]);
    agents.wait("a", "to await it", awaits);
    let said = agents.told("a", &["status"]);
    assert!(said.contains("until these boards have the new one: c."), "{said}");
    // Together more than any log keeps.
    for _ in 0..8 {
        let _ = agents.told("a", &["execute", "INSERT INTO t VALUES (randomblob(1500000))"]);
    }
    for board in ["a", "b"] {
        agents.kill(board);
        agents.run(board);
    }
    let _ = agents.told("b", &["rotate-key"]);
    wait_for_phase(&agents, &["a", "b"], [0, 2, 2]);
    agents.run("c");
    let last = agents.status("a").expect("it answers")["applied_index"].as_u64();
    // As slow as the machine may be that all tests run on at once.
    let lags = || agents.status("c").expect("it answers")["applied_index"].as_u64() < last;
    assert!((0..1_200).any(|_| {
        thread::sleep(Duration::from_millis(100));
        !lags()
    }));
    wait_for_phase(&agents, &["a", "b", "c"], [2; 3]);
    let log = agents.log("c");
    assert!(log.contains("the database's state was taken from another board"), "{log}");
    assert!(count(&agents, "c").contains("rows: 8"));
    let _ = agents.told("c", &["execute", "DELETE FROM t"]);
}

#[test]
fn a_removed_boards_disk_neither_gets_in_nor_disturbs() {
    let mut agents = group(&["a", "b", "c"]);
    let old = agents.told("c", &["token"]);
    agents.kill("c");
    agents.wait_to_miss("a", "c");
    let known = written(&agents, "c");
    let _ = agents.told("a", &["remove", "c"]);
    wait_for_phase(&agents, &["a", "b"], [1; 3]);
    let before = agents.status("a").expect("it answers");
    agents.run("c");
    agents.wait("c", "to know that it was removed", |status| status["removed"] == true);
    agents.run("thief");
    let refused = agents.refused("thief", &["join", old.trim()]);
    assert!(refused.contains(REKEYED), "{refused}");
    // What shows another number, but has the key of before.
    let mut forged = Token::decode(&old).expect("a token");
    assert_eq!(forged.group_keys, known);
    forged.group_keys[0].number = 1;
    let refused = agents.refused("thief", &["join", &forged.encode()]);
    assert!(refused.contains("no board of the group let this one in"), "{refused}");
    thread::sleep(Duration::from_secs(2));
    let after = agents.status("a").expect("it answers");
    assert_eq!((&before["term"], &before["leader"]), (&after["term"], &after["leader"]));
    assert_eq!(after["members"].as_array().map(Vec::len), Some(2));
    assert!(after["counters"]["datagrams_forged"].as_u64() > Some(0), "{after}");
    let _ = agents.told("b", &["execute", "INSERT INTO t VALUES (1)"]);
    for board in ["a", "b"] {
        agents.stop(board);
        assert!(!written(&agents, board).contains(&known[0]), "{board} has forgotten it");
    }
}
