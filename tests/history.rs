//! What a group remembers of its boards and duties, as real agents come to write it:
//! whatever becomes of a board, the others say so, and why; and who is told of that.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use serde_json::Value;
use understudy_tests::{
    agents::{Agents, is_running},
    processes::signal,
    program,
};

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

/// The body that HTTP answers.
fn http(agents: &Agents, board: &str, path: &str) -> String {
    let answer = agents.http(board, &format!("GET {path} HTTP/1.1"), "");
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
    let take = group.rows(other, "a take", |row| {
        row["kind"] == "take" && row["token"].as_u64() > loss["token"].as_u64()
    });
    let reasons = [format!("in place of {holder}"), String::from("nobody held it")];
    assert!(reasons.iter().any(|reason| take["reason"] == *reason), "{take}");
    assert_eq!((&loss["board"], &loss["duty"]), (&holder.clone().into(), &"pump".into()));
    group.rows(other, "the grant that was lost", |row| {
        let is_its = row["token"] == loss["token"] && row["board"] == loss["board"];
        row["kind"] == "take" && is_its
    });
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
        let knows = |status: &Value| status["leader"].is_string();
        group.agents.wait(&leader, "to know who leads", knows);
        leader = group.leader(other);
    }
}

/// What a command has appended to a file, one JSON object to a line.
fn told(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// The first like that.
fn wait_to_be_told(path: &Path, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    for _ in 0..TRIES {
        if let Some(notice) = told(path).into_iter().find(|notice| wanted(notice)) {
            return notice;
        }
        thread::sleep(Duration::from_millis(50));
    }
    panic!("waited in vain to be told of {what}: {:?}", told(path));
}

#[test]
fn what_becomes_of_a_board_is_told_once_though_every_board_would() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("told");
    let mut group = Group::new(|agents, board| {
        let text = format!(
            "[[notify]]\non = [\"board lost\", \"board back\", \"duty moved\"]\n\
             command = [\"sh\", \"-c\", \"cat >> {}\"]\n",
            file.display()
        );
        agents.configure(board, &text);
    });
    let holder = group.holding();
    let other = Group::others(&holder)[0];
    let status = group.agents.status(&holder).expect("it runs");
    signal("KILL", &status["agent_pid"]);
    assert!(!group.agents.ended(&holder), "a parent ends as its agent does");
    let killed = "agent killed or failed: obituary";
    let is_lost = |notice: &Value| {
        let is_it = notice["board"] == *holder && notice["reason"] == killed;
        notice["event"] == "board lost" && is_it
    };
    let lost = wait_to_be_told(&file, "the loss", is_lost);
    assert_eq!(lost["group"], "group");
    assert_ne!(lost["by"], *holder);
    let moved = wait_to_be_told(&file, "the move", |notice| {
        notice["event"] == "duty moved" && notice["reason"] == format!("{holder} had it: {killed}")
    });
    assert_eq!(moved["duty"], "pump");
    group.rows(other, "that grant", |row| {
        row["kind"] == "take" && row["token"] == moved["token"] && row["board"] == moved["board"]
    });
    group.agents.run(&holder);
    wait_to_be_told(&file, "its return", |notice| {
        let is_again =
            notice["reason"].as_str().is_some_and(|why| why.starts_with("started again"));
        notice["event"] == "board back" && notice["board"] == *holder && is_again
    });
    let losses = told(&file).into_iter().filter(is_lost).count();
    assert_eq!(losses, 1, "{:?}", told(&file));
}

/// The body of the one request that comes, which is answered.
fn posted(listener: &TcpListener) -> Value {
    let (mut stream, _) = listener.accept().expect("a caller");
    let mut asked = Vec::new();
    let body = loop {
        let mut piece = [0; 1_024];
        let bytes = stream.read(&mut piece).expect("it speaks");
        assert!(bytes > 0, "{}", String::from_utf8_lossy(&asked));
        asked.extend_from_slice(&piece[..bytes]);
        let text = String::from_utf8_lossy(&asked);
        let body = text.split_once("\r\n\r\n").map(|(_, body)| serde_json::from_str(body));
        if let Some(Ok(body)) = body {
            break body;
        }
    };
    stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").expect("it hears");
    body
}

#[test]
fn a_command_that_hangs_is_killed_and_all_others_are_told() {
    let mut agents = Agents::new(&program::debug());
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = |name: &str| -> PathBuf { folder.path().join(name) };
    let (pid, file) = (at("pid"), at("told"));
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("it has one").port();
    let sensor = "sensor = \"door\"\nsilent_s = 5";
    let text = format!(
        "[[notify]]\non = [\"sensor silent\"]\n{sensor}\ntimeout_s = 1\n\
         command = [\"sh\", \"-c\", \"echo $$ > {}; sleep 1000\"]\n\
         [[notify]]\non = [\"sensor silent\"]\n{sensor}\ntimeout_s = 300\n\
         command = [\"sh\", \"-c\", \"cat >> {}\"]\n\
         [[notify]]\non = [\"sensor back\"]\n{sensor}\ntimeout_s = 300\n\
         webhook = \"http://127.0.0.1:{port}/x\"\n",
        pid.display(),
        file.display(),
    );
    agents.configure("a", &text);
    agents.form(&["a"]);
    let silence = wait_to_be_told(&file, "the silence", |_| true);
    assert_eq!((&silence["event"], &silence["sensor"]), (&"sensor silent".into(), &"door".into()));
    assert_eq!(silence["reason"], "it has reported nothing for 5 s");
    // It may have had no time to begin.
    let hung = fs::read_to_string(&pid).unwrap_or_default();
    let is_gone = hung.is_empty() || !is_running(hung.trim());
    assert!(is_gone, "what hangs is killed before others are told");
    agents.wait("a", "to say how many were told", |status| {
        let counters = &status["counters"];
        (&counters["notices_failed"], &counters["notices_told"]) == (&1.into(), &1.into())
    });
    assert!(agents.log("a").contains("killed after 1 s"), "{}", agents.log("a"));
    let _sentence = agents.told("a", &["write", "door", "1"]);
    let back = posted(&listener);
    assert_eq!((&back["event"], &back["sensor"]), (&"sensor back".into(), &"door".into()));
}

#[test]
fn a_notice_that_nobody_can_be_told_of_is_refused_with_its_line() {
    let agents = Agents::new(&program::debug());
    agents.configure("a", "[[notify]]\non = [\"rain\"]\n");
    assert!(agents.refused("a", &["config", "check"]).contains("unknown variant `rain`"));
    agents.configure("a", "[[notify]]\non = [\"board lost\"]\nwebhook = \"https://b/\"\n");
    let said = agents.refused("a", &["config", "check"]);
    assert!(said.contains("line 3: webhook: it is http://HOST"), "{said}");
    assert!(agents.told("a", &["config", "--doc"]).contains("[[notify]]"));
}
