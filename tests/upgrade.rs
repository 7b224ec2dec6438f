//! A group of boards of an earlier commit, whose program bundles another release of SQLite, is
//! upgraded board by board while sensors write and boards are compared all the time; one is put
//! back once. `tests/earlier` builds that program.
//!
//! In the end every acknowledged reading is on every board once, all hold the same rows, nobody
//! was fenced, and what is too old is turned away with the release that it needs.

use std::{process::Output, thread, time::Duration};

use serde_json::Value;
use understudy_tests::{
    agents::{Agents, votes},
    artefacts::Machine,
    program,
};

use crate::writers::{self, MANNERS, Writer, check, meanwhile, wait_for_all};

const BOARDS: [&str; 3] = ["a", "b", "c"];

/// Questions asked while waiting, one every 50 ms.
const TRIES: u32 = 1_600;

/// That program; none where it was not built, which is said.
fn earlier() -> Option<Machine> {
    let program = program::target().join("earlier/understudy");
    if !program.exists() {
        eprintln!("skipped: {} is not built (tests/earlier)", program.display());
        return None;
    }
    Some(Machine { program, environment: &[] })
}

fn todays() -> Machine {
    Machine { program: program::debug(), environment: &[] }
}

/// The board goes on with that program.
fn put(agents: &mut Agents, board: &'static str, machine: &Machine) {
    agents.stop(board);
    agents.be(board, machine.clone());
    agents.run(board);
    agents.wait(board, "to have caught up", |status| {
        status["leader"].is_string()
            && status["applied_index"] == status["commit_index"]
            && votes(status, board)
    });
}

/// Which release that board runs, as this one has heard.
fn release<'a>(status: &'a Value, board: &str) -> &'a Value {
    let members = status["members"].as_array().expect("members");
    &members.iter().find(|member| member["name"] == board).expect("a member")["release"]
}

/// Whoever leads comes last.
fn followers_first(agents: &Agents) -> Vec<&'static str> {
    let leader = agents.status("a").expect("it runs")["leader"].clone();
    let mut boards = BOARDS.to_vec();
    boards.sort_by_key(|board| leader == **board);
    boards
}

/// A scrub has been completed after this moment, and found all to be the same.
fn compare(agents: &Agents) {
    let said = agents.told("a", &["scrub"]);
    assert!(said.contains("all boards that reported hold the same rows"), "{said}");
    for board in BOARDS {
        let status = agents.status(board).expect("it runs");
        assert_eq!(status["fenced"], false, "{board}: {status}");
    }
}

/// One board after the other, and one of them there and back and there again.
fn upgrade(agents: &mut Agents, earlier: &Machine, writers: &[Writer]) {
    let boards = followers_first(agents);
    for (place, board) in boards.into_iter().enumerate() {
        put(agents, board, &todays());
        wait_for_all(writers);
        compare(agents);
        if place == 1 {
            put(agents, board, earlier);
            wait_for_all(writers);
            compare(agents);
            is_held_up(agents, board);
            joins_and_leaves(agents, board);
            put(agents, board, &todays());
            wait_for_all(writers);
        }
    }
}

/// Waits until a board says that, and does what it is asked or not; on a busy machine another
/// is not heard for a moment.
fn wait_to_be_told(agents: &Agents, board: &str, argument: &str, (done, words): (bool, &str)) {
    let mut said = String::new();
    let is_said = (0..TRIES).any(|_| {
        thread::sleep(Duration::from_millis(50));
        let Output { status, stdout, stderr } = agents.ask(board, &[argument]);
        said = String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned();
        status.success() == done && said.contains(words)
    });
    assert!(is_said, "waited in vain for {board} to say {words:?}: {said}");
}

/// The group does not go on while that board runs the earlier release, and that is said.
fn is_held_up(agents: &Agents, old: &str) {
    let new = BOARDS
        .into_iter()
        .find(|board| agents.status(board).is_some_and(|status| status["version"] != "0.1.0"));
    let new = new.expect("one was upgraded");
    agents.wait(new, "to hear what it runs no more", |status| release(status, old).is_null());
    let held_up = format!("{old} has not said what it runs");
    wait_to_be_told(agents, new, "upgrade", (false, &held_up));
    let status = agents.told(new, &["status"]);
    assert!(status.contains("This understudy can more than the group makes use of"), "{status}");
    assert_eq!(agents.status(new).expect("it runs")["group_version"], 1);
}

/// A new board of today's release is let in by one of the earlier, which knows of no versions.
fn joins_and_leaves(agents: &mut Agents, old: &str) {
    let token = agents.told(old, &["token"]);
    agents.be("new", todays());
    agents.run("new");
    let _ = agents.told("new", &["join", token.trim()]);
    agents.wait("new", "to know who leads", |status| status["leader"].is_string());
    let _ = agents.told("new", &["leave"]);
    agents.stop("new");
}

/// Once all run today's release the group makes use of it.
fn goes_on(agents: &Agents) {
    for board in BOARDS {
        agents.wait("a", "to hear what all run", |status| *release(status, board) == "0.2.0");
    }
    wait_to_be_told(agents, "a", "status", (true, "or by `understudy upgrade`"));
    let goes_by_it = "version 2: boards need understudy 0.2.0 or newer";
    wait_to_be_told(agents, "a", "upgrade", (true, goes_by_it));
    for board in BOARDS {
        agents.wait(board, "to go by it", |status| status["group_version"] == 2);
    }
    assert!(!agents.told("a", &["status"]).contains("makes use of"));
    assert!(agents.told("a", &["upgrade"]).contains("version 2"), "it says how it is");
}

/// The earlier release starts on no board of the group any more, and is let in nowhere.
fn is_too_old(agents: &mut Agents, earlier: &Machine) {
    let written = agents.told("a", &["execute", "CREATE TABLE since(a)"]);
    assert!(written.contains("changed"), "{written}");
    agents.wait("c", "to have it", |status| status["applied_index"] == status["commit_index"]);
    agents.stop("c");
    agents.be("c", earlier.clone());
    agents.start("c", &[]);
    assert!(!agents.ended("c"), "it must not start");
    let log = agents.log("c");
    assert!(log.contains("it has format version 4, this program reads 3"), "{log}");
    agents.be("c", todays());
    agents.run("c");
    agents.be("old", earlier.clone());
    agents.run("old");
    let token = agents.told("a", &["token"]);
    let refused = agents.refused("old", &["join", token.trim()]);
    assert!(refused.contains("too old for it: install 0.2.0 or newer here"), "{refused}");
    agents.stop("old");
}

#[test]
fn a_group_is_upgraded_board_by_board_and_loses_nothing() {
    let Some(earlier) = earlier() else { return };
    let mut agents = Agents::new(&program::debug());
    BOARDS.iter().for_each(|board| agents.be(board, earlier.clone()));
    agents.form(&BOARDS);
    let sqlite = sqlite_of(&agents);
    let _ = agents.told("a", &["set", "scrub_interval", "10s"]);
    let writers = writers::on(&agents, &BOARDS, &MANNERS);
    let acknowledged = meanwhile(&writers, || {
        upgrade(&mut agents, &earlier, &writers);
    });
    assert_ne!(sqlite_of(&agents), sqlite, "two releases of SQLite");
    check(&agents, &BOARDS, &acknowledged);
    goes_on(&agents);
    is_too_old(&mut agents, &earlier);
    compare(&agents);
    check(&agents, &BOARDS, &acknowledged);
}

fn sqlite_of(agents: &Agents) -> String {
    agents.told("a", &["query", "SELECT sqlite_version()"])
}

#[test]
fn a_board_whose_group_has_gone_on_without_it_says_what_to_install() {
    let mut agents = Agents::new(&program::debug());
    agents.form(&["a"]);
    agents.wait("a", "to go by what it knows", |status| status["group_version"] == 2);
    let _ = agents.told("a", &["execute", "CREATE TABLE t(a)"]);
    agents.stop("a");
    let state = agents.directory("a").join("state.db");
    let change = |value: &str| {
        let state = rusqlite::Connection::open(&state).expect("a database");
        let sql = "UPDATE _understudy_setting SET value = ?1 WHERE name = 'version'";
        assert_eq!(state.execute(sql, [value]).expect("it is changed"), 1);
    };
    change("3 9.9.9");
    agents.start("a", &[]);
    assert!(!agents.ended("a"), "it must not go on");
    let log = agents.log("a");
    assert!(log.contains("goes by version 3") && log.contains("install understudy 9.9.9"), "{log}");
    change("2 0.2.0");
    agents.run("a");
    let _ = agents.told("a", &["query", "SELECT * FROM t"]);
}
