//! Boards that are to be started anew at the same moment, as real agents: they are so one
//! after the other, and who stays away holds nobody up for good.

use std::{
    process::{Child, Stdio},
    thread,
    time::Duration,
};

use understudy_tests::{agents::Agents, program};

/// Looks at who has the turn, one every 50 ms.
const TRIES: u32 = 2_400;

/// An `understudy turn` under way on a board.
struct Asking {
    board: &'static str,
    child: Child,
}

impl Asking {
    fn new(agents: &Agents, board: &'static str) -> Self {
        let mut command = agents.command(board);
        let piped = command.arg("turn").stdout(Stdio::piped()).stderr(Stdio::piped());
        Self { board, child: piped.spawn().expect("it starts") }
    }

    fn waits(&mut self) -> bool {
        self.child.try_wait().expect("it is ours").is_none()
    }

    /// What it says, and said while it waited.
    fn said(self) -> (String, String) {
        let output = self.child.wait_with_output().expect("it ends");
        assert!(output.status.success(), "{}: {}", self.board, output.status);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (text(&output.stdout), text(&output.stderr))
    }
}

/// The first of these that waits no longer.
fn next(asking: &mut Vec<Asking>) -> Asking {
    for _ in 0..TRIES {
        if let Some(place) = asking.iter_mut().position(|one| !one.waits()) {
            return asking.remove(place);
        }
        thread::sleep(Duration::from_millis(50));
    }
    panic!("nobody has the turn")
}

fn start_of(agents: &Agents, board: &str) -> Option<u64> {
    agents.status(board).expect("it runs")["start"].as_u64()
}

#[test]
fn of_boards_that_ask_at_once_one_is_started_anew_and_the_others_wait_for_it() {
    let mut agents = Agents::new(&program::debug());
    agents.form(&["a", "b", "c"]);
    let mut asking: Vec<Asking> = ["a", "b", "c"].map(|board| Asking::new(&agents, board)).into();
    for place in 0..3 {
        let has_it = next(&mut asking);
        let board = has_it.board;
        let start = start_of(&agents, board);
        let (said, waited) = has_it.said();
        assert_eq!(said, format!("{board} has the turn.\n"));
        assert_eq!(place > 0, waited.contains("has the turn."), "{board}: {waited}");
        agents.stop(board);
        assert!(asking.iter_mut().all(Asking::waits), "{board} is not back");
        agents.run(board);
        assert_eq!(start_of(&agents, board), start.map(|start| start + 1));
    }
    // The last one's turn is over as well, and one that was asked for in vain is given back.
    for board in ["a", "b"] {
        let said = agents.told(board, &["turn"]);
        assert_eq!(said, format!("{board} has the turn.\n"));
        let _ = agents.told(board, &["turn", "--end"]);
    }
}

#[test]
fn a_board_that_stays_away_with_the_turn_or_without_is_waited_for_once() {
    let mut agents = Agents::new(&program::debug());
    agents.form(&["a", "b", "c"]);
    let _ = agents.told("c", &["turn"]);
    let output = agents.ask("a", &["turn", "--wait", "2s"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("Waiting, for 2 s at most: c has the turn.\n"), "{said}");
    assert!(said.ends_with("Not waited for any longer: c has the turn.\n"), "{said}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "a has the turn.\n");
    // It is a's now: c, which had it, has to wait.
    let output = agents.ask("c", &["turn", "--wait", "1s"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("Waiting, for 1 s at most: a has the turn.\n"), "{said}");
    let _ = agents.told("c", &["turn", "--end"]);
    agents.kill("c");
    agents.wait_to_miss("a", "c");
    let output = agents.ask("a", &["turn", "--wait", "2s"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("Waiting, for 2 s at most: c is away.\n"), "{said}");
    assert!(output.status.success(), "{said}");
    // It went away in its turn, perhaps because of what was installed on it.
    agents.run("c");
    agents.wait_for_voters(&["a", "b", "c"], 3);
    assert_eq!(agents.told("c", &["turn", "--wait", "1s"]), "c has the turn.\n");
    agents.kill("c");
    agents.wait_to_miss("b", "c");
    let output = agents.ask("b", &["turn", "--wait", "2s"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("c went away in its turn and has not come back"), "{said}");
    assert_eq!(output.status.code(), Some(75), "{said}");
    // Without a majority nobody can have it, and who had it is known all the same.
    agents.kill("b");
    agents.wait("a", "to have no leader", |status| status["leader"].is_null());
    let output = agents.ask("a", &["turn", "--wait", "1s"]);
    assert_eq!(output.status.code(), Some(75), "{}", String::from_utf8_lossy(&output.stderr));
    for board in ["b", "c"] {
        agents.run(board);
    }
    agents.wait("a", "to know that nobody has it", |status| status["turn"].is_null());
    for board in ["b", "c"] {
        agents.kill(board);
    }
    agents.wait("a", "to have no leader", |status| status["leader"].is_null());
    let said = agents.told("a", &["turn", "--wait", "1s"]);
    assert_eq!(said, "a goes on without the turn.\n");
    assert!(agents.refused("a", &["turn", "--wait", "soon"]).contains("--wait is a time"));
}

/// As if the group had agreed on it: the board is alone.
fn put_row(agents: &Agents, value: &str) {
    let database = agents.directory("a").join("state.db");
    let database = rusqlite::Connection::open(database).expect("a database");
    let sql = "INSERT OR REPLACE INTO _understudy_setting VALUES ('turn', ?1)";
    assert_eq!(database.execute(sql, [value]).expect("it is changed"), 1);
}

#[test]
fn a_row_that_is_damaged_or_of_a_board_that_is_gone_holds_nobody_up() {
    let mut agents = Agents::new(&program::debug());
    agents.run("a");
    let _token = agents.found("a");
    let damaged = "The row that says who has the turn is damaged, and is written anew.\n";
    for (value, is_said) in [("x 1", true), ("77 1", false)] {
        agents.stop("a");
        put_row(&agents, value);
        agents.run("a");
        let output = agents.ask("a", &["turn", "--wait", "10s"]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(said.contains(damaged), is_said, "{said}");
        assert!(!said.contains("another board has the turn"), "{said}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "a has the turn.\n");
    }
}

/// Waits until this board's file says who has the turn.
fn wait_for_row(agents: &Agents, board: &str) {
    let database = agents.directory(board).join("state.db");
    let has_row = || {
        let database = rusqlite::Connection::open(&database).ok()?;
        let sql = "SELECT count(*) FROM _understudy_setting WHERE name = 'turn'";
        database.query_row(sql, [], |row| row.get::<_, i64>(0)).ok()
    };
    let is_there = (0..TRIES).any(|_| {
        thread::sleep(Duration::from_millis(50));
        has_row() == Some(1)
    });
    assert!(is_there, "{board} does not know who has the turn");
}

#[test]
fn a_witness_has_its_turn_as_well() {
    let mut agents = Agents::new(&program::debug());
    agents.configure("w", "[database]\ncommit_interval_s = 1\n");
    for board in ["a", "b", "w"] {
        agents.run(board);
    }
    let token = agents.found("a");
    let _ = agents.told("b", &["join", &token]);
    let _ = agents.told("w", &["join", &token, "--witness"]);
    agents.wait_for_voters(&["a", "b", "w"], 3);
    assert_eq!(agents.told("w", &["turn"]), "w has the turn.\n");
    // It knows of its turn already when it starts, and hears nothing new of it.
    wait_for_row(&agents, "w");
    let mut asking = vec![Asking::new(&agents, "a")];
    agents.stop("w");
    assert!(asking[0].waits(), "the witness is not back");
    agents.run("w");
    assert_eq!(next(&mut asking).said().0, "a has the turn.\n");
}

#[test]
fn where_there_is_no_agent_and_where_there_is_no_group_nothing_is_waited_for() {
    let mut agents = Agents::new(&program::debug());
    assert!(agents.told("a", &["turn"]).starts_with("No agent runs here"));
    agents.run("a");
    assert!(agents.told("a", &["turn"]).starts_with("This board is in no group"));
    let _token = agents.found("a");
    assert_eq!(agents.told("a", &["turn"]), "a has the turn.\n");
}
