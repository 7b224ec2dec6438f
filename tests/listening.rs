//! Listeners to the group's readings (`GET /readings/stream`) that stop and go on behind
//! what they had last, on whatever board is there.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::TcpStream,
    process::Stdio,
    thread,
    time::Duration,
};

use understudy_tests::{agents::Agents, program};

/// Nothing that is waited for takes longer.
const LINE_MAX: Duration = Duration::from_secs(60);

/// Nor comes after so many words that there is nothing new.
const QUIET_MAX: u32 = 3;

/// One who has heard some readings.
#[derive(Default)]
struct Listener {
    values: Vec<i64>,
    last: String,
    gaps: Vec<String>,
}

impl Listener {
    /// Listens on a board until it has heard so many in all.
    fn hear(&mut self, agents: &Agents, board: &str, count: usize) {
        let mut stream = self.connect(agents, board);
        let (mut id, mut is_gap, mut quiet) = (String::new(), false, 0);
        while self.values.len() < count {
            let line = line(&mut stream);
            if let Some(given) = line.strip_prefix("id: ") {
                given.clone_into(&mut id);
            } else if line == "event: gap" {
                is_gap = true;
            } else if let Some(data) = line.strip_prefix("data: ") {
                let data: serde_json::Value = serde_json::from_str(data).expect("JSON");
                if std::mem::take(&mut is_gap) {
                    self.gaps.push(data.as_str().expect("words").to_owned());
                    return;
                }
                self.values.push(data["value"].as_i64().expect("a number"));
                self.last.clone_from(&id);
            } else {
                quiet += u32::from(line == ": nothing new");
                assert!(quiet < QUIET_MAX, "it heard {:?}", self.values);
                assert!(!line.starts_with("event: "), "{line}");
            }
        }
    }

    /// A board that has not come so far says so.
    fn connect(&self, agents: &Agents, board: &str) -> BufReader<TcpStream> {
        for _ in 0..600 {
            let mut stream = asked(agents, board, &self.last);
            let head = line(&mut stream);
            if head.starts_with("HTTP/1.1 200") {
                while line(&mut stream) != ": readings" {}
                return stream;
            }
            assert!(head.starts_with("HTTP/1.1 503"), "{head}");
            thread::sleep(Duration::from_millis(50));
        }
        panic!("{board} never comes to {}", self.last);
    }
}

fn asked(agents: &Agents, board: &str, last: &str) -> BufReader<TcpStream> {
    let status = agents.status(board).expect("it answers");
    let http = status["http"].as_str().expect("it says where");
    let mut stream = TcpStream::connect(http).expect("it listens");
    stream.set_read_timeout(Some(LINE_MAX)).expect("it is a time");
    let head = "GET /readings/stream?sensor=s HTTP/1.1\r\nHost: x";
    let request = format!("{head}\r\nLast-Event-ID: {last}\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("it hears");
    BufReader::new(stream)
}

fn line(stream: &mut BufReader<TcpStream>) -> String {
    let mut line = String::new();
    assert!(stream.read_line(&mut line).expect("it tells more") > 0, "it has ended");
    line.trim_end().to_owned()
}

/// Writes these on a board, more than one to an entry.
fn write(agents: &Agents, board: &str, values: std::ops::Range<i64>) {
    let lines: String = values.map(|value| format!("s {value}\n")).collect();
    let mut command = agents.command(board);
    command.args(["ingest", "--until", "committed"]);
    let child = command.stdin(Stdio::piped()).stderr(Stdio::null()).spawn();
    let mut child = child.expect("it starts");
    child.stdin.take().expect("it is piped").write_all(lines.as_bytes()).expect("it reads");
    assert!(child.wait().expect("it ends").success());
}

/// The first place in the log that a board has.
fn beginning(agents: &Agents, board: &str) -> String {
    let status = agents.status(board).expect("it answers");
    format!("1-0-{:x}", status["history"].as_u64().expect("a number"))
}

#[test]
fn who_goes_on_on_another_board_misses_none_and_hears_none_twice() {
    let mut agents = Agents::new(&program::debug());
    agents.form(&["a", "b", "c"]);
    for (board, first) in [("a", 0), ("b", 10), ("c", 20), ("a", 30)] {
        write(&agents, board, first..first + 10);
    }
    let last = beginning(&agents, "b");
    let mut listener = Listener { last, ..Listener::default() };
    // It stops within messages, and while more comes.
    for (board, count) in [("a", 3), ("b", 14), ("c", 17), ("a", 30), ("b", 35)] {
        listener.hear(&agents, board, count);
    }
    write(&agents, "c", 40..50);
    for (board, count) in [("c", 42), ("a", 50)] {
        listener.hear(&agents, board, count);
    }
    assert_eq!(listener.values, Vec::from_iter(0..50));
    assert_eq!(listener.gaps, [""; 0]);
}

#[test]
fn who_comes_from_before_a_recovery_is_told_so() {
    let mut agents = Agents::new(&program::debug());
    agents.form(&["a", "b"]);
    write(&agents, "a", 0..10);
    let last = beginning(&agents, "a");
    let mut listener = Listener { last, ..Listener::default() };
    listener.hear(&agents, "b", 5);
    agents.kill("a");
    agents.stop("b");
    let _ = agents.told("b", &["recover", "--i-know-what-this-means"]);
    agents.run("b");
    agents.wait("b", "to lead", |status| status["role"] == "leader");
    listener.hear(&agents, "b", 6);
    assert_eq!(listener.values.len(), 5, "the log of before is told no more");
    assert!(listener.gaps[0].contains("is of another group"), "{:?}", listener.gaps);
    assert_ne!(beginning(&agents, "b"), listener.last);
    let head = line(&mut asked(&agents, "b", "12-1"));
    assert!(head.starts_with("HTTP/1.1 400"), "{head}");
}
