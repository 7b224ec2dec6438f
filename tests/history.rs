//! What a group remembers of its boards and duties, as real agents come to write it:
//! whatever becomes of a board, the others say so, and why.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use serde_json::Value;
use understudy_tests::{agents::Agents, program};

const BOARDS: [&str; 3] = ["a", "b", "c"];

/// Looks at something that comes about soon, one every 50 ms.
const TRIES: u32 = 1_200;

/// Three boards with a duty, each of them ready for it.
struct Group {
    agents: Agents,
    holds: Vec<Child>,
}

impl Drop for Group {
    fn drop(&mut self) {
        for hold in &mut self.holds {
            // It may have ended by itself.
            let _ = Command::new("kill").arg(hold.id().to_string()).status();
            let _ = hold.wait();
        }
    }
}

impl Group {
    fn new(configure: impl Fn(&Agents, &str)) -> Self {
        let mut agents = Agents::new(&program::debug());
        BOARDS.iter().for_each(|board| configure(&agents, board));
        agents.form(&BOARDS);
        Self { agents, holds: Vec::new() }
    }

    /// Has every board wait for the duty, and one of them hold it: its name.
    fn holding(&mut self) -> String {
        let _sentence = self.agents.told("a", &["duty", "add", "pump"]);
        for board in BOARDS {
            let mut command = self.agents.command(board);
            command.args(["hold", "pump", "--grace", "0.1", "--", "sleep", "1000"]);
            self.holds.push(command.stdout(Stdio::null()).spawn().expect("it starts"));
        }
        for board in BOARDS {
            self.agents.wait(board, "to be ready", |status| status["duties"][0]["ready"] == true);
        }
        self.holder()
    }

    /// The board that holds the duty, as it says itself.
    fn holder(&self) -> String {
        let holds = |board: &&str| {
            let status = self.agents.status(board);
            status.is_some_and(|status| status["duties"][0]["held"] == true)
        };
        for _ in 0..TRIES {
            if let Some(board) = BOARDS.into_iter().find(holds) {
                return board.to_owned();
            }
            thread::sleep(Duration::from_millis(50));
        }
        panic!("nobody holds it: {:?}", self.agents.status("a"));
    }

    fn history(&self, board: &str, arguments: &[&str]) -> Vec<Value> {
        let arguments = [&["history", "--json"], arguments].concat();
        let told = self.agents.told(board, &arguments);
        serde_json::from_str(&told).expect("a JSON array")
    }

    /// The first row like that which a board comes to have.
    fn rows(&self, board: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        for _ in 0..TRIES {
            if let Some(row) = self.history(board, &[]).into_iter().find(|row| wanted(row)) {
                return row;
            }
            thread::sleep(Duration::from_millis(50));
        }
        panic!("waited in vain for {what}: {:?}", self.history(board, &[]));
    }

    /// One that leads, in the eyes of another.
    fn leader(&self, board: &str) -> String {
        let status = self.agents.status(board).expect("it runs");
        status["leader"].as_str().expect("somebody leads").to_owned()
    }

    fn others(board: &str) -> Vec<&'static str> {
        BOARDS.into_iter().filter(|other| *other != board).collect()
    }
}

fn signal(name: &str, pid: &Value) {
    let sent = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status();
    assert!(sent.expect("kill runs").success());
}

/// The body that HTTP answers.
fn http(agents: &Agents, board: &str, path: &str) -> String {
    let status = agents.status(board).expect("it answers");
    let mut stream =
        TcpStream::connect(status["http"].as_str().expect("where")).expect("it listens");
    let head = format!("GET {path} HTTP/1.0\r\n\r\n");
    stream.write_all(head.as_bytes()).expect("it hears");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    answer.split_once("\r\n\r\n").expect("a head and a body").1.to_owned()
}

#[test]
fn a_duty_that_goes_on_elsewhere_is_lost_and_taken_in_the_history_with_the_reason() {
    let mut group = Group::new(|_, _| {});
    let holder = group.holding();
    let other = Group::others(&holder)[0];
    let first = group.rows(other, "the first grant", |row| row["kind"] == "take");
    assert_eq!((&first["duty"], &first["reason"]), (&"pump".into(), &"nobody held it".into()));
    let status = group.agents.status(&holder).expect("it runs");
    signal("KILL", &status["agent_pid"]);
    let loss = group.rows(other, "a loss", |row| {
        row["kind"] == "lose" && row["reason"] == "agent killed or failed: obituary"
    });
    let reason = format!("in place of {holder}");
    let take = group.rows(other, "a take", |row| {
        row["kind"] == "take" && row["reason"] == *reason && row["token"] != loss["token"]
    });
    assert_eq!((&loss["board"], &loss["duty"]), (&holder.clone().into(), &"pump".into()));
    group.rows(other, "the grant that was lost", |row| {
        let is_its = row["token"] == loss["token"] && row["board"] == loss["board"];
        row["kind"] == "take" && is_its
    });
    assert!(take["token"].as_u64() > loss["token"].as_u64(), "{take} {loss}");
    assert!(take["time"].is_string() || take["unset"].is_object(), "{take}");

    let token = take["token"].to_string();
    let table = group.agents.told(other, &["history", "--duty", "pump"]);
    assert!(table.lines().any(|line| line.contains("take") && line.contains(&token)), "{table}");
    assert!(group.history(other, &["--duty", "lamp"]).is_empty());
    assert!(group.history(other, &["--board", &holder]).len() >= 2);
    assert_eq!(group.history(other, &["--limit", "1"]).len(), 1);
    let csv = group.agents.told(other, &["history", "--csv"]);
    assert_eq!(csv.lines().next(), Some("id,time,board,kind,duty,token,reason,seen_by"));
    let over_http: Vec<Value> =
        serde_json::from_str(&http(&group.agents, other, "/history?duty=pump"))
            .expect("a JSON array");
    assert!(over_http.contains(&take), "{over_http:?}");
    assert!(http(&group.agents, other, "/history?format=csv").contains(",take,pump,"));
    assert!(http(&group.agents, other, "/history?since=soon").contains("so long ago"));
    assert!(group.agents.refused(other, &["history", "--limit", "no"]).contains("limit is 1"));
}

#[test]
fn every_end_of_a_board_is_in_the_history_as_what_it_was() {
    let mut group = Group::new(|_, _| {});
    let holder = group.holding();
    let other = Group::others(&holder)[0];
    let about = |row: &Value, kind: &str, words: &str| {
        let reason = row["reason"].as_str().unwrap_or_default();
        row["board"] == *holder && row["kind"] == kind && reason.contains(words)
    };
    let since = |group: &Group, kind: &str, words: &str| {
        group.rows(other, &format!("{holder}: {kind} {words}"), |row| about(row, kind, words));
    };
    since(&group, "boot", "how it ended before is not known");

    group.agents.stop(&holder);
    since(&group, "lose", "stopped by its operator");
    since(&group, "clean end", "stopped by its operator");
    group.agents.run(&holder);
    since(&group, "boot", "its end before was clean");

    let status = group.agents.status(&holder).expect("it runs");
    signal("KILL", &status["agent_pid"]);
    assert!(!group.agents.ended(&holder), "a parent ends as its agent does");
    since(&group, "unclean end", "agent killed or failed: obituary");
    group.agents.run(&holder);
    since(&group, "boot", "its agent was killed or failed before");

    // Nobody is left to say anything.
    group.agents.kill(&holder);
    since(&group, "lost", "unheard for");
    group.agents.run(&holder);
    since(&group, "back", "heard again after");
}

#[test]
fn who_comes_to_lead_is_in_the_history_with_what_became_of_the_one_before() {
    let mut group = Group::new(|_, _| {});
    group.rows("a", "to be elected", |row| {
        row["kind"] == "elected" && row["reason"] == "nobody led before"
    });
    let mut leader = group.leader("a");
    for how in ["stopped by its operator", "agent killed or failed: obituary"] {
        let other = Group::others(&leader)[0];
        if how.starts_with("stopped") {
            group.agents.stop(&leader);
        } else {
            let status = group.agents.status(&leader).expect("it runs");
            signal("KILL", &status["agent_pid"]);
            assert!(!group.agents.ended(&leader), "a parent ends as its agent does");
        }
        let row = group.rows(other, how, |row| {
            let reason = row["reason"].as_str().unwrap_or_default();
            row["kind"] == "elected" && reason.starts_with(&leader) && reason.ends_with(how)
        });
        assert_ne!(row["board"], *leader);
        group.agents.run(&leader);
        leader = group.leader(other);
    }
}
