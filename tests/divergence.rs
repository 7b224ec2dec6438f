//! Rows that changed behind the agents' backs, in three real processes: the board
//! that is wrong is found, fenced and named, and the others go on.

use std::{
    fs,
    io::{Read, Write},
};

use understudy_tests::{agents::Agents, program};

const BOARDS: [&str; 3] = ["a", "b", "c"];

/// Three boards with some rows, all of them in every board's file.
fn group() -> Agents {
    let mut agents = Agents::new(&program::debug());
    agents.form(&BOARDS);
    let _ = agents.told(
        "a",
        &[
            "execute",
            "CREATE TABLE reading(id INTEGER PRIMARY KEY, place TEXT, value REAL)",
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500) \
             INSERT INTO reading SELECT i, 'greenhouse-' || i, i / 8.0 FROM n",
        ],
    );
    for board in BOARDS {
        // It answers once it has applied what was written.
        let rows = agents.told(board, &["query", "SELECT count(*) FROM reading"]);
        assert!(rows.contains("500"), "{rows}");
    }
    agents
}

fn leader(agents: &Agents) -> String {
    let mut leader = String::new();
    agents.wait("a", "to know a leader", |status| status["leader"].is_string());
    if let Some(status) = agents.status("a") {
        status["leader"].as_str().unwrap_or_default().clone_into(&mut leader);
    }
    leader
}

/// Changes a board's rows while its agent does not run.
fn change(agents: &mut Agents, board: &str, sql: &str) {
    agents.stop(board);
    let file = agents.directory(board).join("state.db");
    let plain = rusqlite::Connection::open(file).expect("the board's database");
    plain.execute_batch(sql).expect("it is changed");
    plain.close().expect("it is closed");
    agents.run(board);
    agents.wait(board, "to have caught up", caught_up);
}

fn caught_up(status: &serde_json::Value) -> bool {
    status["leader"].is_string() && status["applied_index"] == status["commit_index"]
}

/// Leadership goes to the last that joined when the one that leads is stopped.
fn make_leader(agents: &mut Agents, board: &str) {
    let present = leader(agents);
    if present != board {
        agents.stop(&present);
        agents.run(&present);
        agents.wait(&present, "to follow", caught_up);
    }
    agents.wait(board, "to lead", |status| status["role"] == "leader");
}

/// What a scrub says; whether all agree.
fn scrub(agents: &Agents, board: &str) -> (String, bool) {
    let output = agents.ask(board, &["scrub"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!said.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    (said, output.status.success())
}

fn others(board: &str) -> Vec<&'static str> {
    BOARDS.into_iter().filter(|other| *other != board).collect()
}

/// What a board's HTTP says of whether it is ready.
fn readyz(agents: &Agents, board: &str) -> String {
    let status = agents.status(board).expect("it answers");
    let address = status["http"].as_str().expect("HTTP is on");
    let mut stream = std::net::TcpStream::connect(address).expect("it listens");
    stream
        .write_all(b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .expect("it takes a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    answer
}

/// It reads nothing, says why, and does not lead; the others read and write.
fn is_fenced(agents: &Agents, board: &str) {
    let _ = agents.told(board, &["execute", "INSERT INTO reading(value) VALUES (1)"]);
    let refused = agents.refused(board, &["query", "SELECT 1"]);
    assert!(refused.contains("this board is fenced"), "{refused}");
    let told = agents.told(board, &["status"]);
    assert!(told.starts_with("This board is fenced: "), "{told}");
    assert!(readyz(agents, board).contains("store fenced"));
    let refused = agents.refused(board, &["backup", "-"]);
    assert!(refused.contains("this board is fenced"), "{refused}");
    assert_ne!(leader(agents), board);
    for other in others(board) {
        let _ = agents.told(other, &["query", "SELECT count(*) FROM reading"]);
        let told = agents.told(other, &["status"]);
        assert!(told.contains(&format!("fenced: {board}")), "{told}");
        assert!(told.contains(&format!("but {board} is fenced")), "{told}");
    }
}

#[test]
fn the_leader_whose_row_was_changed_hands_over_and_is_fenced_until_it_is_right_again() {
    let mut agents = group();
    let (said, agree) = scrub(&agents, "b");
    assert!(agree && said.contains("all boards that reported hold the same rows"), "{said}");
    change(&mut agents, "c", "UPDATE reading SET value = value + 0.5 WHERE id = 321");
    make_leader(&mut agents, "c");
    let (said, agree) = scrub(&agents, "b");
    assert!(!agree && said.contains("table reading, row 321: a and b against c"), "{said}");
    agents.wait("c", "to be fenced", |status| status["fenced"] == true);
    agents.wait("a", "to be led by another", |status| {
        status["leader"].as_str().is_some_and(|leader| leader != "c")
    });
    is_fenced(&agents, "c");
    // It knows what it is after a restart as well.
    agents.stop("c");
    agents.run("c");
    agents.wait("c", "to be fenced still", |status| status["fenced"] == true);
    let nothing = agents.refused("a", &["repair", "--from", "c"]);
    assert!(nothing.contains("a majority of the boards agrees"), "{nothing}");
    change(&mut agents, "c", "UPDATE reading SET value = value - 0.5 WHERE id = 321");
    let (said, agree) = scrub(&agents, "c");
    assert!(agree, "{said}");
    agents.wait("c", "to be free", |status| status["fenced"] == false);
    let _ = agents.told("c", &["query", "SELECT 1"]);
}

#[test]
fn what_a_leader_with_another_row_proposes_stops_nobody_and_it_is_fenced() {
    let mut agents = group();
    change(&mut agents, "c", "INSERT INTO reading VALUES (777, 'nowhere', 0)");
    make_leader(&mut agents, "c");
    let _ = agents.told("c", &["execute", "UPDATE reading SET value = 2000 + id"]);
    for board in ["a", "b"] {
        let sum = "SELECT count(*) || ' of ' || sum(value = 2000 + id) FROM reading";
        let sum = agents.told(board, &["query", sum]);
        assert!(sum.contains("500 of 500"), "{sum}");
    }
    // Nobody asks for a scrub: the boards it does not fit do.
    agents.wait("c", "to be fenced", |status| status["fenced"] == true);
    is_fenced(&agents, "c");
    let (said, agree) = scrub(&agents, "a");
    assert!(!agree && said.contains("table reading, row 777: a and b against c"), "{said}");
}

#[test]
fn a_flipped_bit_in_one_boards_file_fences_it() {
    let mut agents = group();
    agents.stop("b");
    let file = agents.directory("b").join("state.db");
    // What stands in the WAL as well would be read from there.
    let plain = rusqlite::Connection::open(&file).expect("the board's database");
    plain.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").expect("it is in the file");
    plain.close().expect("it is closed");
    let mut bytes = fs::read(&file).expect("the board's database");
    let needle = b"greenhouse-123";
    let place = bytes.windows(needle.len()).position(|window| window == needle);
    bytes[place.expect("it is in the file")] ^= 1;
    fs::write(&file, bytes).expect("it is damaged");
    agents.run("b");
    agents.wait("b", "to have caught up", caught_up);
    let (said, agree) = scrub(&agents, "a");
    assert!(!agree && said.contains("table reading, row 123: a and c against b"), "{said}");
    agents.wait("b", "to be fenced", |status| status["fenced"] == true);
    is_fenced(&agents, "b");
}

#[test]
fn a_fenced_board_goes_by_what_the_group_sets_but_not_by_a_row_that_is_none() {
    let mut agents = group();
    change(
        &mut agents,
        "c",
        "UPDATE reading SET value = 0 WHERE id = 9;
         INSERT INTO _understudy_setting VALUES ('voters', 'many')",
    );
    let _ = scrub(&agents, "a");
    agents.wait("c", "to be fenced", |status| status["fenced"] == true);
    let patience = |status: &serde_json::Value| status["leaderless_ms_max"].as_u64();
    let wired = agents.status("c").as_ref().and_then(patience).expect("it is told");
    let _ = agents.told("a", &["set", "profile", "radio"]);
    agents.wait("c", "to take up its timing", |status| patience(status) > Some(2 * wired));
}

#[test]
fn where_no_majority_agrees_nobody_is_fenced_until_somebody_decides() {
    let mut agents = group();
    let nothing = agents.refused("a", &["repair", "--from", "a"]);
    assert!(nothing.contains("nothing to decide"), "{nothing}");
    change(&mut agents, "b", "UPDATE reading SET value = 1 WHERE id = 44");
    change(&mut agents, "c", "UPDATE reading SET value = 2 WHERE id = 55");
    let (said, agree) = scrub(&agents, "a");
    assert!(!agree && said.contains("table reading, rows 44, 55: a against b against c"), "{said}");
    assert!(said.contains("understudy repair --from BOARD"), "{said}");
    for board in BOARDS {
        let _ = agents.told(board, &["query", "SELECT 1"]);
        let told = agents.told(board, &["status"]);
        assert!(told.starts_with("Boards hold different rows (table reading, rows"), "{told}");
    }
    let unknown = agents.refused("a", &["repair", "--from", "d"]);
    assert!(unknown.contains("no board is named d; there are: a, b, c"), "{unknown}");
    let recorded = agents.told("a", &["repair", "--from", "b"]);
    assert!(recorded.contains("taken the right rows by itself"), "{recorded}");
    for board in ["a", "c"] {
        agents.wait(board, "to be fenced", |status| status["fenced"] == true);
    }
    agents.wait("b", "to lead", |status| status["leader"] == "b");
    let _ = agents.told("b", &["query", "SELECT 1"]);
}

#[test]
fn boards_are_compared_as_often_as_the_group_has_set() {
    let mut agents = Agents::new(&program::debug());
    agents.run("a");
    let _token = agents.found("a");
    assert!(agents.status("a").expect("it answers")["scrub"].is_null());
    let _ = agents.told("a", &["set", "scrub_interval", "10s"]);
    agents.wait("a", "to compare by itself", |status| status["scrub"]["id"] == 1);
    let refused = agents.refused("a", &["set", "scrub_interval", "often"]);
    assert!(refused.contains("from 10s to 30d"), "{refused}");
}
