//! `understudy watch`: readings as they come, from the agent's stream of events. When the
//! agent is started anew it goes on behind the last it has shown.

use std::{
    fmt::Write as _,
    io::{BufRead, BufReader},
    process::ExitCode,
    time::Duration,
};

use serde_json::Value as Json;
use understudy_core::readings::time_unset;

use super::exchange;
use crate::{config::Places, readings::query::when, terminal};

/// Between two tries to reach an agent that has ended.
const AGAIN: Duration = Duration::from_secs(1);

/// What is wished for.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// These sensors; all when absent.
    #[arg(value_name = "SENSOR")]
    sensors: Vec<String>,
    /// As JSON, one line for each.
    #[arg(long)]
    json: bool,
    /// End after so many.
    #[arg(long, value_name = "READINGS")]
    count: Option<u64>,
}

/// One event of the stream.
#[derive(Debug, Default, PartialEq, Eq)]
struct Event {
    kind: String,
    id: Option<String>,
    data: String,
}

/// What has been shown so far.
struct Watch<'a> {
    arguments: &'a Arguments,
    last: Option<String>,
    shown: u64,
}

/// Shows readings until it has shown as many as are wished for, or nobody looks.
pub(super) fn run(places: &Places, arguments: &Arguments) -> Result<ExitCode, String> {
    let mut watch = Watch { arguments, last: None, shown: 0 };
    let mut is_first = true;
    loop {
        match exchange::get(&places.control, &watch.path()).and_then(exchange::Answer::body) {
            Ok(answer) => {
                if watch.follow(BufReader::new(answer))? {
                    return Ok(ExitCode::SUCCESS);
                }
            }
            Err(reason) if is_first => return Err(reason),
            // It is being started anew, or has no group at the moment.
            Err(_) => {}
        }
        is_first = false;
        std::thread::sleep(AGAIN);
    }
}

impl Watch<'_> {
    fn path(&self) -> String {
        let sensors = self.arguments.sensors.iter();
        let mut named: Vec<String> =
            sensors.map(|sensor| format!("sensor={}", percent_encoded(sensor))).collect();
        named.extend(self.last.as_ref().map(|last| format!("after={last}")));
        format!("/readings/stream?{}", named.join("&"))
    }

    /// Shows what comes; true when it was all that is wished for.
    fn follow(&mut self, mut stream: impl BufRead) -> Result<bool, String> {
        let mut event = Event::default();
        let mut line = String::new();
        loop {
            line.clear();
            // A stream that breaks off is taken up again.
            if !matches!(stream.read_line(&mut line), Ok(1..)) {
                return Ok(false);
            }
            let line = line.trim_end();
            if !line.is_empty() {
                event.take(line);
                continue;
            }
            self.show(&std::mem::take(&mut event))?;
            if self.arguments.count.is_some_and(|count| self.shown >= count) {
                return Ok(true);
            }
        }
    }

    fn show(&mut self, event: &Event) -> Result<(), String> {
        if event.data.is_empty() {
            return Ok(());
        }
        if !event.kind.is_empty() {
            let words = serde_json::from_str::<String>(&event.data);
            terminal::complain(&words.unwrap_or_else(|_| event.data.clone()));
            return Ok(());
        }
        self.last.clone_from(&event.id);
        self.shown += 1;
        if self.arguments.json {
            return terminal::line(&event.data);
        }
        let reading = serde_json::from_str(&event.data);
        let reading: Json =
            reading.map_err(|error| format!("the agent's event is none: {error}"))?;
        terminal::line(&told(&reading))
    }
}

impl Event {
    /// One line of it (WHATWG's HTML standard, server-sent events).
    fn take(&mut self, line: &str) {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.kind),
            "id" => self.id = Some(value.to_owned()),
            "data" => self.data.push_str(value),
            // A comment, or what nobody needs.
            _ => {}
        }
    }
}

/// A reading as people read it.
fn told(reading: &Json) -> String {
    let of_start = |place: usize| reading["unset"][place].as_u64().unwrap_or(0);
    let time = reading["time"].as_i64();
    let time = time.unwrap_or_else(|| time_unset(of_start(0), of_start(1)));
    let text = |field: &str| {
        let value = &reading[field];
        value.as_str().map_or_else(|| value.to_string(), str::to_owned)
    };
    let far = if reading["far"] == true { "  (far from the board's clock)" } else { "" };
    format!("{}  {}  {}{far}", when(time), text("sensor"), text("value"))
}

/// For the query string.
fn percent_encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'/' => {
                out.push(char::from(byte));
            }
            _ => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch(arguments: &Arguments) -> Watch<'_> {
        Watch { arguments, last: None, shown: 0 }
    }

    #[test]
    fn a_stream_that_breaks_off_is_taken_up_behind_the_last_event() {
        let sensors = vec![String::from("a b&c")];
        let arguments = Arguments { sensors, json: true, count: Some(3) };
        let mut watch = watch(&arguments);
        assert_eq!(watch.path(), "/readings/stream?sensor=a%20b%26c");
        let stream = b": readings\n\nid: 5-1\ndata: {}\n\nid: 5-2\ndata: {}\n\nid: 6-1\nda";
        assert_eq!(watch.follow(&stream[..]), Ok(false));
        assert_eq!(watch.path(), "/readings/stream?sensor=a%20b%26c&after=5-2");
        let stream = b"event: gap\ndata: \"words\"\n\nid: 6-1\ndata: {}\n\nid: 7-1\ndata: {}\n\n";
        assert_eq!(watch.follow(&stream[..]), Ok(true), "a gap is no reading");
        assert_eq!(watch.last.as_deref(), Some("6-1"));
    }

    #[test]
    fn a_reading_is_one_line() {
        let reading = |text: &str| told(&serde_json::from_str(text).unwrap());
        assert_eq!(
            reading(r#"{"sensor":"a","time":1700000000250000,"value":21.5,"board":1,"far":true}"#),
            "2023-11-14T22:13:20.25Z  a  21.5  (far from the board's clock)"
        );
        assert_eq!(
            reading(r#"{"sensor":"a","unset":[7,12345],"value":"open","board":1}"#),
            "unset (start 7, 12.345 s)  a  open"
        );
    }
}
