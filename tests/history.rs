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
        self.rows("a", "to be taken", |row| row["kind"] == "take")["board"]
            .as_str()
            .expect("a name")
            .to_owned()
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
    let taken = group.rows(other, "the first grant", |row| row["kind"] == "take");
    assert_eq!((&taken["board"], &taken["duty"]), (&holder.clone().into(), &"pump".into()));
    assert_eq!(taken["reason"], "nobody held it");
    let status = group.agents.status(&holder).expect("it runs");
    signal("KILL", &status["agent_pid"]);
    let loss = group.rows(other, "a loss", |row| row["kind"] == "lose");
    let take = group.rows(other, "a take", |row| row["kind"] == "take" && row["board"] != *holder);
    assert_eq!((&loss["board"], &loss["token"]), (&holder.clone().into(), &taken["token"]));
    assert_eq!(loss["reason"], "agent killed or failed: obituary");
    assert_eq!(take["reason"], format!("in place of {holder}"));
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
        serde_json::from_str(&http(&group.agents, other, "/history?duty=pump&limit=2"))
            .expect("a JSON array");
    assert_eq!(over_http.last(), Some(&take));
    assert!(http(&group.agents, other, "/history?format=csv").contains(",take,pump,"));
    assert!(http(&group.agents, other, "/history?since=soon").contains("so long ago"));
    assert!(group.agents.refused(other, &["history", "--limit", "no"]).contains("limit is 1"));
}
