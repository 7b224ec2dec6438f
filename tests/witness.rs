//! Two boards and a witness, as real processes: one takes over from the other, and
//! nothing that was acknowledged is lost with a board that burns.

use std::fs;

use serde_json::Value;
use understudy_tests::{agents::Agents, program};

/// Boards `a` and `b`, and `w`, their witness.
fn pair() -> Agents {
    let mut agents = Agents::new(&program::debug());
    for board in ["a", "b", "w"] {
        agents.run(board);
    }
    form(&agents);
    agents
}

fn form(agents: &Agents) {
    let token = agents.found("a");
    let joined = agents.told("b", &["join", &token]);
    assert!(joined.contains("or a small one with `understudy join TOKEN --witness`"), "{joined}");
    let joined = agents.told("w", &["join", &token, "--witness"]);
    assert!(joined.contains("This board is w, the witness of the group"), "{joined}");
    assert!(joined.contains("It keeps no data"), "{joined}");
    agents.wait_for_voters(&["a", "b", "w"], 3);
    let _ = agents.told("a", &["execute", "CREATE TABLE t(a)"]);
}

/// Who leads, and who of the two does not.
fn roles(agents: &Agents) -> (&'static str, &'static str) {
    let status = agents.status("w").expect("it answers");
    if status["leader"] == "a" { ("a", "b") } else { ("b", "a") }
}

/// Writes until each is acknowledged: of one under way to a leader that dies it is not
/// known whether it was made.
fn write(agents: &Agents, board: &str, rows: std::ops::Range<u32>) {
    for row in rows {
        let insert = format!("INSERT INTO t VALUES ({row})");
        let done = |_| agents.ask(board, &["execute", &insert]).status.success();
        assert!((0..10).any(done), "{board} takes no writes");
    }
}

/// How many different rows a board holds.
fn count(agents: &Agents, board: &str) -> u64 {
    let table = agents.told(board, &["query", "SELECT count(DISTINCT a) FROM t WHERE a < 1000"]);
    table.lines().last().and_then(|line| line.trim().parse().ok()).expect("a number")
}

fn leads(status: &Value) -> bool {
    status["role"] == "leader"
}

#[test]
fn one_of_two_boards_takes_over_when_the_other_is_killed() {
    let mut agents = pair();
    let (leader, other) = roles(&agents);
    let said = agents.told(other, &["status"]);
    assert!(said.contains("when one of them dies the other takes over"), "{said}");
    write(&agents, other, 0..20);
    agents.kill(leader);
    write(&agents, other, 20..30);
    agents.wait(other, "to lead", leads);
    assert_eq!(count(&agents, other), 30);
    agents.wait_to_miss(other, leader);
    let said = agents.told(other, &["status"]);
    assert!(said.contains("one board alone has all data"), "{said}");
    agents.run(leader);
    agents.wait(leader, "to follow", |status| status["leader"] == other);
    write(&agents, leader, 30..40);
    agents.kill(other);
    write(&agents, leader, 40..50);
    assert_eq!(count(&agents, leader), 50);
}

#[test]
fn what_was_acknowledged_survives_a_board_that_burns_while_the_other_is_away() {
    let mut agents = pair();
    let (leader, other) = roles(&agents);
    write(&agents, leader, 0..10);
    agents.kill(other);
    write(&agents, leader, 10..60);
    // So much that the witness has made it durable and could do without it.
    let large = ["execute", "INSERT INTO t VALUES (randomblob(1000000))"];
    let written = || agents.ask(leader, &large).status.success();
    let large = (0..14).filter(|_| written()).count();
    agents.kill("w");
    agents.run("w");
    write(&agents, leader, 60..80);
    agents.kill(leader);
    fs::remove_dir_all(agents.directory(leader)).expect("it burns");
    agents.run(other);
    agents.wait(other, "to have it all and lead", leads);
    write(&agents, "w", 80..90);
    assert_eq!(count(&agents, other), 90);
    let sum = "SELECT count(*) FROM t WHERE typeof(a) = 'blob'";
    let table = agents.told(other, &["query", sum]);
    let held: usize = table.lines().last().and_then(|n| n.trim().parse().ok()).expect("a number");
    assert!(large > 7 && held >= large, "{held} of {large} large rows");
    // What is compared before a newcomer votes is to be little.
    let _ = agents.told(other, &["execute", "DELETE FROM t WHERE typeof(a) = 'blob'"]);
    agents.run(leader);
    let token = agents.told(other, &["token"]);
    let _ = agents.told(leader, &["join", token.trim(), "--replace", leader]);
    agents.wait_for_voters(&["a", "b", "w"], 3);
    assert_eq!(count(&agents, leader), 90);
}

#[test]
fn a_witness_says_what_it_is_and_who_has_the_data() {
    let agents = pair();
    let (leader, other) = roles(&agents);
    let said = agents.told("w", &["status"]);
    assert!(said.starts_with("This board is a witness: it keeps no data"), "{said}");
    assert!(said.contains(&format!("Everything works, led by {leader}")), "{said}");
    let table = agents.told(other, &["members"]);
    let line = table.lines().find(|line| line.starts_with("w ")).expect("its line");
    assert!(line.contains("witness"), "{table}");
    write(&agents, "w", 0..5);
    let who = format!("keeps no data: ask {leader} (http://127.0.0.1:");
    let file = agents.directory("w").join("copy");
    let file = file.to_str().expect("a name");
    let _ = agents.told(other, &["backup", file]);
    let elsewhere = format!("{file}-2");
    for refused in [
        agents.refused("w", &["query", "SELECT * FROM t"]),
        agents.refused("w", &["backup", &elsewhere]),
        agents.refused("w", &["restore", file, "--yes"]),
        agents.refused("w", &["scrub"]),
    ] {
        assert!(refused.contains(&who), "{refused}");
    }
    let refused = agents.refused(other, &["transfer", "w"]);
    assert!(refused.contains("it is a witness"), "{refused}");
    let refused = agents.refused(other, &["repair", "--from", "w"]);
    assert!(refused.contains("no rows that could be right"), "{refused}");
    assert_eq!(count(&agents, other), 5);
    let state = fs::metadata(agents.directory("w").join("state.db")).expect("it has one");
    assert!(state.len() < 64 << 10, "{} bytes", state.len());
    let _ = agents.told(other, &["set", "profile", "wifi"]);
    agents.wait("w", "to take it up", |status| {
        let max = status["leaderless_ms_max"].as_u64();
        max > Some(10_000)
    });
}

#[test]
fn a_witness_without_room_says_so_and_its_owner_may_write_on() {
    let mut agents = Agents::new(&program::debug());
    let folder = agents.directory("w");
    fs::create_dir_all(&folder).expect("a folder");
    fs::write(folder.join("understudy.toml"), "[witness]\nlog_mb = 16\n").expect("a file");
    for board in ["a", "b", "w"] {
        agents.run(board);
    }
    form(&agents);
    let (leader, other) = roles(&agents);
    agents.kill(other);
    let large = ["execute", "INSERT INTO t VALUES (randomblob(1000000))"];
    let is_full = || agents.status(leader).is_some_and(|status| status["one_copy"] == true);
    let filled = (0..60).any(|_| {
        // Not known whether it was made is as good.
        let _ = agents.ask(leader, &large);
        is_full()
    });
    assert!(filled, "{:?}", agents.status("w"));
    for board in [leader, "w"] {
        // Its log is full sooner than a board is missed.
        agents.wait_to_miss(board, other);
        let said = agents.told(board, &["status"]);
        assert!(said.contains(&format!("One copy only: {other} cannot be heard")), "{said}");
    }
    let refused = agents.refused("w", &["execute", "INSERT INTO t VALUES (1)"]);
    assert!(refused.contains("understudy set one_copy allow"), "{refused}");
    let _ = agents.told("w", &["set", "one_copy", "allow"]);
    agents.wait(leader, "to take it up", |status| status["one_copy_allowed"] == true);
    write(&agents, "w", 0..3);
    agents.run(other);
    agents.wait(leader, "to be well again", |status| status["one_copy"] == false);
    let _ = agents.told(leader, &["set", "one_copy", "refuse"]);
    agents.wait(leader, "to take it up", |status| status["one_copy_allowed"] == false);
    write(&agents, other, 3..6);
    assert_eq!(count(&agents, other), 6);
}
