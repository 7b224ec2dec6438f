//! Listeners to the group's duties (`GET /duties/stream`), with real agents.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::TcpStream,
    time::Duration,
};

use serde_json::Value;
use understudy_tests::agents::Agents;

use crate::duties::group;

/// A line comes within this: when there is nothing to tell, a comment.
const LINE_MAX: Duration = Duration::from_secs(60);

/// Comments that nothing is new, one every 10 s, before what is waited for.
const QUIET_MAX: u32 = 12;

/// Lines of a stream before that.
const LINES_MAX: u32 = 10_000;

struct Listener(BufReader<TcpStream>);

impl Listener {
    fn new(agents: &Agents, board: &str, query: &str) -> Self {
        let mut stream = TcpStream::connect(agents.http_address(board)).expect("it listens");
        stream.set_read_timeout(Some(LINE_MAX)).expect("it is a time");
        let request = format!("GET /duties/stream{query} HTTP/1.1\r\nHost: x\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("it hears");
        Self(BufReader::new(stream))
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        assert!(self.0.read_line(&mut line).expect("it tells more") > 0, "it has ended");
        line.trim_end().to_owned()
    }

    /// The next line that begins so, without that.
    fn next(&mut self, first: &str) -> String {
        let mut quiet = 0;
        for _ in 0..LINES_MAX {
            let line = self.line();
            if let Some(rest) = line.strip_prefix(first) {
                return rest.to_owned();
            }
            quiet += u32::from(line.starts_with(": nothing new"));
            assert!(quiet < QUIET_MAX, "nothing comes any more: {first}");
        }
        panic!("no line begins with {first}");
    }

    /// The next event: its id and what it says.
    fn event(&mut self) -> (String, Value) {
        let id = self.next("id: ");
        (id, serde_json::from_str(&self.next("data: ")).expect("JSON"))
    }

    /// The event after which it is as wanted.
    fn wait(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        for _ in 0..LINES_MAX {
            let (id, event) = self.event();
            assert_eq!(event["token"].to_string(), id, "an event's id is the token");
            if wanted(&event) {
                return event;
            }
        }
        panic!("no such event");
    }
}

#[test]
fn a_listener_on_a_board_that_follows_sees_a_takeover_and_every_other_change() {
    let (mut agents, ledger) = group();
    let holder = ledger.wait_for_another("").board;
    let status = agents.status("a").expect("it runs");
    let is_other = |board: &&str| **board != holder && status["leader"] != **board;
    let board = ["a", "b", "c"].into_iter().find(is_other).expect("a third");
    // What it listens to is one of two duties.
    let _sentence = agents.told(board, &["duty", "add", "fan"]);
    let mut all = Listener::new(&agents, board, "");
    let mut listener = Listener::new(&agents, board, "?duty=pump");
    assert!(listener.next("content-type: ").contains("text/event-stream"));
    let first = listener.wait(|event| event["holder"] == *holder);
    assert_eq!((&first["state"], &first["name"]), (&"held".into(), &"pump".into()));
    let names = [all.event().1["name"].clone(), all.event().1["name"].clone()];
    assert!(names.contains(&"pump".into()) && names.contains(&"fan".into()), "{names:?}");

    agents.kill(&holder);
    let next = listener.wait(|event| event["state"] == "held" && event["holder"] != *holder);
    assert!(next["token"].as_u64() > first["token"].as_u64(), "{next}");
    let _sentence = agents.told(board, &["duty", "pause", "pump"]);
    listener.wait(|event| event["state"] == "paused" && event["holder"].is_null());
    let _sentence = agents.told(board, &["duty", "remove", "pump"]);
    listener.wait(|event| event["state"] == "removed");
    all.wait(|event| event["name"] == "pump" && event["state"] == "removed");
    agents.run(&holder);
    ledger.check();
}

#[test]
fn listeners_are_told_that_nothing_is_new_and_what_is_not_there_is_named() {
    let (agents, _ledger) = group();
    let mut listener = Listener::new(&agents, "a", "");
    listener.next(": nothing new");
    drop(listener);
    let http = |line: &str| agents.http("a", &format!("{line} HTTP/1.1"), "");
    let answer = http("GET /duties/stream?duty=lamp");
    assert!(answer.starts_with("HTTP/1.1 404") && answer.contains("no duty lamp"), "{answer}");
    assert!(http("POST /duties/stream").starts_with("HTTP/1.1 405"));
    let said = agents.refused("a", &["duty", "add", "stream"]);
    assert!(said.contains("GET /duties/stream"), "{said}");
    let mut all: Vec<Listener> = (0..32).map(|_| Listener::new(&agents, "b", "")).collect();
    all.iter_mut().for_each(|listener| drop(listener.next(": duties")));
    let mut late = Listener::new(&agents, "b", "");
    assert!(late.line().starts_with("HTTP/1.1 503"));
}
