//! Boards go, follow, lead and take each other's place, as real processes.

use std::{
    collections::BTreeSet,
    io::{Read as _, Write as _},
    net::TcpStream,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use serde_json::Value;
use understudy_tests::{
    agents::{Agents, votes},
    program,
};

fn names(status: &Value) -> Vec<String> {
    let members = status["members"].as_array().expect("members");
    members.iter().map(|member| member["name"].as_str().expect("a name").to_owned()).collect()
}

fn group(boards: &[&str]) -> Agents {
    let mut agents = Agents::new(&program::debug());
    agents.form(boards);
    let _ = agents.told(boards[0], &["execute", "CREATE TABLE t(a)"]);
    agents
}

fn write(agents: &Agents, board: &str) {
    let _ = agents.told(board, &["execute", "INSERT INTO t VALUES (1)"]);
}

#[test]
fn a_removed_board_says_so_and_comes_back_only_as_a_new_one() {
    let agents = group(&["a", "b", "c"]);
    let token = agents.told("a", &["token"]);
    let said = agents.told("b", &["remove", "c"]);
    assert!(said.contains("c is no member any more"), "{said}");
    agents.wait("a", "to be without it", |status| names(status) == ["a", "b"]);
    agents.wait("c", "to know", |status| status["removed"] == true);
    let status = agents.told("c", &["status"]);
    assert!(status.contains("was removed from the group") && status.contains("understudy reset"));
    let again = agents.refused("c", &["join", token.trim()]);
    assert!(again.contains("understudy reset"), "{again}");
    write(&agents, "a");
    // It holds though the group's key was about to be changed.
    let token = agents.told("b", &["token"]);
    let unasked = agents.refused("c", &["reset"]);
    assert!(unasked.contains("--yes"), "{unasked}");
    let _ = agents.told("c", &["reset", "--yes"]);
    let _ = agents.told("c", &["join", token.trim()]);
    agents.wait_for_voters(&["a", "b", "c"], 3);
    let status = agents.status("a").expect("it answers");
    let ids: Vec<_> = status["members"].as_array().expect("members").iter().collect();
    assert_eq!(ids[2]["id"], 4, "its number is a new one: {status}");
}

#[test]
fn a_board_that_was_away_when_it_was_removed_is_told_when_it_is_back() {
    let mut agents = group(&["a", "b", "c"]);
    agents.kill("c");
    agents.wait_to_miss("a", "c");
    let _ = agents.told("a", &["remove", "c"]);
    agents.run("c");
    agents.wait("c", "to know", |status| status["removed"] == true);
    write(&agents, "a");
    let term = agents.status("a").expect("it answers")["term"].clone();
    agents.stop("c");
    assert_eq!(agents.status("a").expect("it answers")["term"], term, "nobody was disturbed");
}

#[test]
fn the_leader_goes_after_another_has_taken_over() {
    let agents = group(&["a", "b", "c"]);
    let leader = agents.status("a").expect("it answers")["leader"].clone();
    let leader = leader.as_str().expect("one").to_owned();
    agents.wait(&leader, "to hear both others", |status| {
        status["members"].as_array().is_some_and(|all| all.iter().all(|m| m["reachable"] == true))
    });
    let left = agents.told(&leader, &["leave"]);
    assert!(left.contains("has left the group"), "{left}");
    assert_eq!(agents.status(&leader).expect("it answers")["role"], "waiting");
    assert!(!agents.directory(&leader).join("state.db").exists());
    let other = if leader == "a" { "b" } else { "a" };
    agents
        .wait(other, "to go on", |status| names(status).len() == 2 && status["leader"].is_string());
    write(&agents, other);
    let token = agents.told(other, &["token"]);
    let _ = agents.told(&leader, &["join", token.trim()]);
    agents.wait_for_voters(&["a", "b", "c"], 3);
}

#[test]
fn votes_and_leadership_go_where_they_are_wished() {
    let agents = group(&["a", "b", "c"]);
    for to in ["b", "c", "a"] {
        let _ = agents.told("a", &["transfer", to]);
        agents.wait("a", "to follow it", |status| status["leader"] == to);
    }
    let _ = agents.told("b", &["demote", "c"]);
    let table = agents.told("a", &["members"]);
    let line = table.lines().find(|line| line.starts_with("c ")).expect("its line");
    assert!(line.contains("demoted"), "{table}");
    let last = agents.refused("a", &["transfer", "c"]);
    assert!(last.contains("it does not vote"), "{last}");
    let _ = agents.told("b", &["promote", "c"]);
    agents.wait_for_voters(&["a", "b", "c"], 3);
    let unknown = agents.refused("a", &["remove", "d"]);
    assert!(unknown.contains("no board is named d; there are: a, b, c"), "{unknown}");
    let json = agents.told("a", &["members", "--json"]);
    let json: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json.as_array().map(Vec::len), Some(3));
}

#[test]
fn what_would_leave_nobody_to_decide_is_refused() {
    let mut agents = group(&["a", "b", "c"]);
    agents.kill("c");
    agents.wait_to_miss("a", "c");
    let leader = agents.status("a").expect("it answers")["leader"].clone();
    let follower = if leader == "a" { "b" } else { "a" };
    for command in ["demote", "remove"] {
        let refused = agents.refused("a", &[command, follower]);
        assert!(refused.contains("2 of 2 boards are needed"), "{refused}");
    }
    let _ = agents.told("a", &["remove", "c"]);
    let _ = agents.told("a", &["remove", "b"]);
    let last = agents.refused("a", &["leave"]);
    assert!(last.contains("the last board that votes"), "{last}");
    write(&agents, "a");
}

#[test]
fn a_newcomer_takes_the_place_of_a_board_that_is_gone() {
    let mut agents = group(&["a", "b", "c"]);
    let token = agents.told("a", &["token"]);
    agents.kill("c");
    agents.wait_to_miss("a", "c");
    agents.run("new");
    let offered = agents.refused("new", &["join", token.trim(), "--name", "c"]);
    assert!(offered.contains("understudy join TOKEN --replace c"), "{offered}");
    let wrong = agents.refused("new", &["join", token.trim(), "--replace", "b"]);
    assert!(wrong.contains("b can be heard"), "{wrong}");
    let joined = agents.told("new", &["join", token.trim(), "--replace", "c"]);
    assert!(joined.contains("This board is c, a member"), "{joined}");
    agents.wait("a", "three to vote", |status| {
        let members = status["members"].as_array().expect("members");
        names(status) == ["a", "b", "c"] && members.iter().all(|member| member["voter"] == true)
    });
    agents.run("c");
    agents.wait("c", "to know that it is replaced", |status| status["removed"] == true);
    write(&agents, "a");
}

#[test]
fn a_silent_voter_is_replaced_by_a_board_that_follows() {
    let mut agents = group(&["a", "b", "c", "d"]);
    let _ = agents.told("a", &["set", "replace_after", "10s"]);
    let status = agents.status("a").expect("it answers");
    let leader = status["leader"].as_str().expect("one");
    let gone = ["a", "b", "c"].into_iter().find(|name| *name != leader && votes(&status, name));
    let (gone, asked) = (gone.expect("one"), leader.to_owned());
    agents.kill(gone);
    agents.wait(&asked, "d to vote", |status| votes(status, "d") && !votes(status, gone));
    write(&agents, &asked);
    agents.run(gone);
    agents.wait(gone, "to follow", |status| status["leader"].is_string());
    let shown = agents.told(&asked, &["members"]);
    let line = shown.lines().find(|line| line.starts_with(&format!("{gone} "))).expect("its line");
    assert!(line.contains("not yet"), "{shown}");
}

/// The answer to `DELETE /remove` with this body.
fn remove_over_http(agents: &Agents, board: &str, body: &str) -> String {
    let http = agents.status(board).expect("it answers")["http"].clone();
    let mut stream = TcpStream::connect(http.as_str().expect("an address")).expect("it listens");
    let head = "DELETE /remove HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length";
    write!(stream, "{head}: {}\r\n\r\n{body}", body.len()).expect("it takes it");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    answer
}

#[test]
fn a_board_is_removed_over_http_as_in_rqlite() {
    let agents = group(&["a", "b", "c"]);
    for (body, why) in [
        ("", "the body is {\"id\": \"ID\"}"),
        ("{\"id\": 3}", "the body is {\"id\": \"ID\"}"),
        ("{\"id\": \"9\"}", "no member has the id 9"),
        ("{\"id\": \"nobody\"}", "no board is named nobody"),
    ] {
        let answer = remove_over_http(&agents, "a", body);
        assert!(answer.starts_with("HTTP/1.1 400") && answer.contains(why), "{answer}");
    }
    let answer = remove_over_http(&agents, "a", "{\"id\": \"3\"}");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    agents.wait("b", "to be without it", |status| names(status) == ["a", "b"]);
}

/// Writes 0, 1, 2... on whichever board takes them, until told to end; those that were
/// acknowledged.
fn write_on(agents: &Agents, boards: &[&str], is_over: &AtomicBool) -> Vec<u64> {
    let mut acknowledged = Vec::new();
    for (number, board) in (0..).zip(boards.iter().cycle()) {
        if is_over.load(Ordering::Relaxed) {
            break;
        }
        let insert = format!("INSERT INTO t VALUES ({number})");
        if agents.ask(board, &["execute", &insert]).status.success() {
            acknowledged.push(number);
        }
    }
    acknowledged
}

#[test]
fn all_boards_are_replaced_one_after_the_other_while_writes_flow_and_none_is_lost() {
    let mut agents = group(&["a", "b", "c"]);
    for board in ["d", "e", "f"] {
        agents.run(board);
    }
    let (agents, is_over) = (&agents, &AtomicBool::new(false));
    let acknowledged = thread::scope(|scope| {
        let boards = ["a", "b", "c", "d", "e", "f"];
        let writer = scope.spawn(move || write_on(agents, &boards, is_over));
        for (old, new, stays) in [("a", "d", "c"), ("b", "e", "d"), ("c", "f", "e")] {
            let token = agents.told(stays, &["token"]);
            let _ = agents.told(new, &["join", token.trim()]);
            let _ = agents.told(stays, &["remove", old]);
            agents.wait(stays, "the newcomer to vote", |status| votes(status, new));
        }
        is_over.store(true, Ordering::Relaxed);
        writer.join().expect("it writes")
    });
    assert!(!acknowledged.is_empty(), "writes flow");
    for board in ["d", "e", "f"] {
        let held = agents.told(board, &["query", "SELECT a FROM t"]);
        let held: Vec<u64> = held.lines().filter_map(|line| line.trim().parse().ok()).collect();
        let lost: Vec<_> = acknowledged.iter().filter(|number| !held.contains(number)).collect();
        assert!(lost.is_empty(), "{board} lacks {lost:?}");
        let once: BTreeSet<_> = held.iter().collect();
        assert_eq!(once.len(), held.len(), "{board} holds some twice");
    }
    agents.wait("d", "to know the new boards alone", |status| names(status) == ["d", "e", "f"]);
}
