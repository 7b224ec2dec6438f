//! Cards that are copied or put back, as real processes: neither copy counts, all say
//! so, and what the commands say to do makes boards of both again.

use std::{fs, path::Path};

use serde_json::Value;
use understudy_tests::{agents::Agents, program};

/// What a card reader would make of one directory.
fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).expect("a new directory");
    for file in ["journal.db", "journal.db-wal", "state.db", "state.db-wal"] {
        if from.join(file).exists() {
            fs::copy(from.join(file), to.join(file)).expect("it can be copied");
        }
    }
}

fn group() -> Agents {
    let mut agents = Agents::new(&program::debug());
    agents.form(&["a", "b", "c"]);
    let _ = agents.told("a", &["execute", "CREATE TABLE t(a)"]);
    agents
}

fn is_copied(status: &Value) -> bool {
    status["copied"] == serde_json::json!(["c"])
}

fn says_so(agents: &Agents, board: &str) {
    agents.wait(board, "to be told that there are copies of it", |status| {
        is_copied(status) && status["disk_lost"] == true
    });
    let said = agents.told(board, &["status"]);
    assert!(said.starts_with("There are two copies of this board's card"), "{said}");
    assert!(said.contains("understudy reset") && said.contains("--replace c"), "{said}");
}

fn goes_on_without(agents: &Agents) {
    for board in ["a", "b"] {
        agents.wait(board, "to know of the copies", is_copied);
        let said = agents.told(board, &["status"]);
        assert!(said.contains("of c there are two copies"), "{said}");
        assert!(said.contains("stands no further loss"), "{said}");
    }
    let _ = agents.told("b", &["execute", "INSERT INTO t VALUES (1)"]);
}

#[test]
fn two_copies_of_one_card_are_told_apart_and_made_two_boards() {
    for later_starts in [0, 2] {
        let mut agents = group();
        agents.stop("c");
        copy(&agents.directory("c"), &agents.directory("d"));
        agents.run("c");
        agents.wait("c", "to follow", |status| status["leader"].is_string());
        for _ in 0..later_starts {
            agents.run("d");
            agents.stop("d");
        }
        agents.run("d");
        for board in ["c", "d"] {
            says_so(&agents, board);
        }
        goes_on_without(&agents);
        for board in ["c", "d"] {
            let _ = agents.told(board, &["reset", "--yes"]);
        }
        let token = agents.told("a", &["token"]);
        let _ = agents.told("c", &["join", token.trim(), "--replace", "c"]);
        // The removal of the former one changes the group's key.
        let token = agents.told("a", &["token"]);
        let _ = agents.told("d", &["join", token.trim(), "--name", "d"]);
        agents.wait_for_voters(&["a", "b", "c", "d"], 3);
        let said = agents.told("a", &["status"]);
        assert!(said.starts_with("Everything works"), "{said}");
    }
}

#[test]
fn a_card_that_was_put_back_is_found_out_and_stays_so() {
    let mut agents = group();
    agents.stop("c");
    copy(&agents.directory("c"), &agents.directory("kept"));
    agents.run("c");
    agents.wait("c", "to follow", |status| status["leader"].is_string());
    agents.stop("c");
    fs::remove_dir_all(agents.directory("c")).expect("it can be removed");
    copy(&agents.directory("kept"), &agents.directory("c"));
    agents.run("c");
    says_so(&agents, "c");
    goes_on_without(&agents);
    agents.kill("c");
    agents.run("c");
    says_so(&agents, "c");
}
