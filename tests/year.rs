//! What an owner meets in the first year: power cuts, networks that go and come
//! back different, boards that never return. Nobody has to do anything, and
//! `status` says what is wrong, what still works and what to do.

use std::fs;

use understudy_tests::{
    agents::{Agents, votes},
    ahead::Ahead,
    network::Network,
    program,
};

const BOARDS: [&str; 3] = ["a", "b", "c"];

fn written(agents: &Agents, board: &str, value: u32) {
    let _ = agents.told(board, &["execute", &format!("INSERT INTO t VALUES ({value})")]);
}

fn has_leader(status: &serde_json::Value) -> bool {
    status["leader"].is_string()
}

fn sum(agents: &Agents, board: &str) -> String {
    let rows = agents.told(board, &["query", "SELECT 'sum', sum(a) FROM t"]);
    rows.split_whitespace().last().expect("a sum").to_owned()
}

#[test]
fn after_a_power_cut_any_two_go_on_in_any_order_and_the_third_catches_up() {
    let mut agents = Agents::new(&program::debug());
    agents.form(&BOARDS);
    let _ = agents.told("a", &["execute", "CREATE TABLE t(a)"]);
    let orders = [["b", "c", "a"], ["c", "a", "b"], ["a", "b", "c"]];
    for (number, [first, second, third]) in (1..).zip(orders) {
        for board in BOARDS {
            agents.kill(board);
        }
        agents.run(first);
        agents.wait(first, "to say whom it waits for", |_| {
            let said = agents.told(first, &["status"]);
            let waits = said.contains("No word from") || said.starts_with("No majority");
            waits && said.contains(second) && said.contains("see that it has power and network")
        });
        agents.run(second);
        agents.wait(first, "to go on", has_leader);
        agents.wait(second, "to go on", has_leader);
        written(&agents, second, number);
        agents.wait(first, "to miss the third", |_| {
            let said = agents.told(first, &["status"]);
            said.starts_with("Reading and writing work")
                && said.contains(&format!("{third} cannot be heard: see to it"))
        });
        agents.run(third);
        agents.wait(third, "to follow", has_leader);
        assert_eq!(sum(&agents, third), (1..=number).sum::<u32>().to_string());
        agents.wait(first, "to say that all is well", |_| {
            agents.told(first, &["status"]).starts_with("Everything works: 3 boards")
        });
    }
}

#[test]
fn a_network_that_goes_and_comes_back_with_new_addresses_is_taken_as_it_is() {
    let Some(network) = Network::new() else { return };
    let mut agents = Agents::on(&program::debug(), &network);
    agents.form(&BOARDS);
    let _ = agents.told("a", &["execute", "CREATE TABLE t(a)"]);
    network.ip(&["address", "flush", "dev", "n0"]);
    for board in BOARDS {
        agents.wait(board, "to be alone", |_| {
            let said = agents.told(board, &["status"]);
            said.starts_with("No majority for") && said.contains("2 of 3 boards are needed")
        });
    }
    network.ip(&["address", "add", "10.80.9.9/24", "dev", "n0"]);
    for board in BOARDS {
        agents.wait(board, "to be found again", has_leader);
    }
    written(&agents, "c", 7);
    assert_eq!(sum(&agents, "a"), "7");
}

#[test]
fn two_groups_on_one_network_never_mix_though_one_takes_the_others_address() {
    let Some(network) = Network::new() else { return };
    let mut agents = Agents::on(&program::debug(), &network);
    agents.form(&["a", "b"]);
    agents.form(&["x", "y"]);
    let _ = agents.told("a", &["execute", "CREATE TABLE t(a)", "INSERT INTO t VALUES (1)"]);
    let _ = agents.told("x", &["execute", "CREATE TABLE t(a)", "INSERT INTO t VALUES (20)"]);
    for board in ["a", "b", "x", "y"] {
        agents.stop(board);
    }
    // Where a was, y is now, and where x was, b.
    agents.swap_ports("a", "y");
    agents.swap_ports("b", "x");
    for board in ["a", "b", "x", "y"] {
        agents.run(board);
    }
    for (board, expected) in [("a", "1"), ("b", "1"), ("x", "20"), ("y", "20")] {
        agents.wait(board, "to find its own group", has_leader);
        assert_eq!(sum(&agents, board), expected);
        let members = agents.status(board).expect("it answers")["members"].clone();
        assert_eq!(members.as_array().map(Vec::len), Some(2), "{board}: {members}");
    }
}

const MONTH_SECONDS: u64 = 30 * 86_400;

/// The first sentence of a board's status comes to have all these words.
fn comes_to_say(agents: &Agents, board: &str, words: &[&str]) {
    agents.wait(board, &format!("to say {words:?}"), |_| {
        let said = agents.told(board, &["status"]);
        let first = said.lines().next().unwrap_or_default();
        words.iter().all(|words| first.contains(words))
    });
}

/// More than a log keeps, and some for what is not taken out of it yet.
fn write_more_than_a_log_keeps(agents: &Agents, board: &str) {
    let _ = agents.told(board, &["execute", "CREATE TABLE large(value)"]);
    for _ in 0..8 {
        let _ = agents.told(board, &["execute", "INSERT INTO large VALUES (randomblob(1500000))"]);
    }
}

fn large(agents: &Agents, board: &str) -> String {
    let sums = "SELECT count(*) || ' of ' || sum(length(value)) || ' from ' || \
                min(hex(substr(value, 1, 20))) || ' to ' || max(hex(substr(value, 1000000, 20))) \
                FROM large";
    agents.told(board, &["query", sums])
}

/// It was told nothing by anybody, and holds what the others hold.
fn has_caught_up_by_pages(agents: &Agents, board: &str, other: &str) {
    let last = agents.status(other).expect("it answers")["applied_index"].as_u64();
    agents.wait(board, "to have caught up", |status| status["applied_index"].as_u64() >= last);
    let log = agents.log(board);
    assert!(log.contains("the database's state was taken from another board"), "{log}");
    assert_eq!(sum(agents, board), sum(agents, other));
    assert_eq!(large(agents, board), large(agents, other));
}

/// Both that are left are restarted, a month later.
fn restart_at(agents: &mut Agents, later: &Ahead, left: [&str; 2], boards: &str) {
    agents.at(Some(later));
    for (board, other) in [(left[0], left[1]), (left[1], left[0])] {
        agents.stop(board);
        comes_to_say(agents, other, &["No majority", board, boards, "works (level none)"]);
        comes_to_say(agents, other, &["see that it has power and network"]);
        agents.run(board);
        let pid = agents.status(board).expect("it answers")["agent_pid"].clone();
        let clocks = fs::read_to_string(format!("/proc/{pid}/timens_offsets")).expect("its clocks");
        assert!(clocks.contains(&MONTH_SECONDS.to_string()), "{clocks}");
        agents.wait(board, "to go on", has_leader);
    }
    agents.at(None);
}

#[test]
fn a_board_that_was_off_for_a_month_comes_back_by_itself_and_votes_again() {
    let Some(later) = Ahead::new(MONTH_SECONDS) else { return };
    let mut agents = Agents::new(&program::debug());
    agents.form(&BOARDS);
    let _ = agents.told("a", &["execute", "CREATE TABLE t(a)"]);
    written(&agents, "a", 7);
    let token = agents.told("a", &["token", "--expires", "10s"]);
    let uptime_ms = |status: &serde_json::Value| status["uptime_ms"].as_u64().expect("a number");
    let over_ms = uptime_ms(&agents.status("a").expect("it answers")) + 10_000;
    agents.stop("c");
    let misses = ["Reading and writing work", "c cannot be heard: see to it"];
    let stands = "stands no further loss: all data is on two boards";
    let ways_out = "If a board is gone for good, add another with `understudy token`";
    comes_to_say(&agents, "a", &[misses[0], misses[1], stands, ways_out]);
    write_more_than_a_log_keeps(&agents, "a");
    agents.wait("a", "the token to be over", |status| uptime_ms(status) > over_ms);
    restart_at(&mut agents, &later, ["a", "b"], "and 2 of 3 boards are needed");
    agents.run("new");
    let refused = agents.refused("new", &["join", token.trim()]);
    assert!(refused.contains("the token holds no longer: its time is over"), "{refused}");
    comes_to_say(&agents, "a", &[misses[0], misses[1], stands, ways_out]);
    agents.run("c");
    let by_itself = "It goes on by itself, also after a power cut: there is nothing to do";
    comes_to_say(&agents, "c", &["takes the pages that differ", "Writing works", by_itself]);
    has_caught_up_by_pages(&agents, "c", "a");
    for board in BOARDS {
        comes_to_say(&agents, board, &["Everything works: 3 boards", "stands the loss of 1"]);
    }
    agents.stop("a");
    agents.wait("c", "to go on without a", |status| {
        status["leader"].as_str().is_some_and(|leader| leader != "a")
    });
    written(&agents, "c", 5);
    assert_eq!(sum(&agents, "b"), "12", "only b and c are left to agree on it");
}

#[test]
fn a_board_that_was_off_for_a_month_and_lost_its_vote_follows_when_it_is_back() {
    let Some(later) = Ahead::new(MONTH_SECONDS) else { return };
    let mut agents = Agents::new(&program::debug());
    agents.form(&["a", "b", "c", "d"]);
    let _ = agents.told("a", &["execute", "CREATE TABLE t(a)"]);
    written(&agents, "a", 7);
    let status = agents.status("a").expect("it answers");
    let (voting, following): (Vec<_>, Vec<_>) =
        ["b", "c", "d"].into_iter().partition(|board| votes(&status, board));
    let (&[off, other], &[fourth]) = (voting.as_slice(), following.as_slice()) else {
        panic!("{status}")
    };
    let _ = agents.told("a", &["set", "replace_after", "10s"]);
    agents.stop(off);
    agents.wait("a", "the fourth to vote instead", |status| votes(status, fourth));
    let misses = format!("{off} cannot be heard: see to it");
    comes_to_say(&agents, "a", &["Reading and writing work", &misses, "stands the loss of 1"]);
    write_more_than_a_log_keeps(&agents, "a");
    agents.stop(fourth);
    restart_at(&mut agents, &later, ["a", other], "and 2 of 3 boards are needed");
    agents.at(Some(&later));
    agents.run(fourth);
    agents.at(None);
    agents.run(off);
    has_caught_up_by_pages(&agents, off, "a");
    for board in ["a", "b", "c", "d"] {
        comes_to_say(&agents, board, &["Everything works: 4 boards", "stands the loss of 1"]);
        agents.wait(board, "to follow without a vote", |status| !votes(status, off));
    }
}
