//! `understudy watch`: the group's readings as they come, until it is interrupted.
//!
//! When the agent ends or the connection breaks it goes on behind the last reading that
//! was printed, once an agent is there again: nothing is left out without a word.

use std::{
    io::{BufRead, BufReader},
    thread,
    time::Duration,
};

use serde::Deserialize;

use super::exchange;
use crate::{config::Places, terminal, time::rfc3339};

/// Between two tries.
const PAUSE: Duration = Duration::from_secs(1);

/// What is wished for.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Only these sensors; all when there are none.
    #[arg(value_name = "SENSOR")]
    sensors: Vec<String>,
    /// A line of JSON for each.
    #[arg(long)]
    json: bool,
}

/// A reading as the stream tells it.
#[derive(Deserialize)]
struct Heard {
    sensor: String,
    time: Option<i64>,
    unset: Option<(u64, u64)>,
    value: serde_json::Value,
    board: u64,
    #[serde(default)]
    far: bool,
}

/// Prints readings until the process ends.
pub(super) fn run(places: &Places, arguments: &Arguments) -> Result<(), String> {
    let mut wanted = arguments.sensors.iter().map(|name| format!("&sensor={}", encoded(name)));
    let wanted: String = wanted.by_ref().collect();
    let mut last = String::new();
    let mut is_first = true;
    loop {
        let path = format!("/readings/stream?after={}{wanted}", encoded(&last));
        match exchange::get(&places.control, &path).and_then(exchange::Answer::body) {
            Ok(answer) => listen(BufReader::new(answer), arguments.json, &mut last)?,
            Err(reason) if is_first => return Err(reason),
            Err(_) => {}
        }
        is_first = false;
        thread::sleep(PAUSE);
    }
}

/// Until the connection ends.
fn listen(stream: impl BufRead, json: bool, last: &mut String) -> Result<(), String> {
    let (mut id, mut kind) = (String::new(), String::new());
    for line in stream.lines() {
        let Ok(line) = line else { return Ok(()) };
        if let Some(given) = line.strip_prefix("id: ") {
            given.clone_into(&mut id);
        } else if let Some(given) = line.strip_prefix("event: ") {
            given.clone_into(&mut kind);
        } else if let Some(data) = line.strip_prefix("data: ") {
            tell(&kind, data, json)?;
            if !id.is_empty() {
                last.clone_from(&id);
            }
        } else if line.is_empty() {
            kind.clear();
        }
    }
    Ok(())
}

fn tell(kind: &str, data: &str, json: bool) -> Result<(), String> {
    if !kind.is_empty() {
        let words: String = serde_json::from_str(data).unwrap_or_default();
        terminal::complain(&format!("{kind}: {words}"));
        return Ok(());
    }
    match serde_json::from_str(data) {
        Ok(heard) if !json => terminal::line(&line(&heard)),
        Ok(_) | Err(_) => terminal::line(data),
    }
}

fn line(heard: &Heard) -> String {
    let time = match (heard.time, heard.unset) {
        (Some(us), _) => rfc3339(us.div_euclid(1_000_000), us.rem_euclid(1_000_000) / 1_000),
        (None, Some((start, ms))) => {
            format!("start {start} + {}.{:03} s", ms / 1_000, ms % 1_000)
        }
        (None, None) => String::from("-"),
    };
    let value = heard.value.as_str().map_or_else(|| heard.value.to_string(), String::from);
    let far = if heard.far { "  (far from its board's clock)" } else { "" };
    format!("{time:<24}  {}  {value}  (board {}){far}", heard.sensor, heard.board)
}

/// As it may stand in a query.
fn encoded(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => {
            char::from(byte).to_string()
        }
        other => format!("%{other:02X}"),
    };
    text.bytes().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_knows_the_last_it_has_printed() {
        let stream = ": readings\n\nid: 7-1-f\ndata: {\"sensor\":\"a b\",\"time\":1500000,\"value\":2.5,\
                      \"board\":3}\n\nevent: gap\ndata: \"begins with 9\"\n\n";
        let mut last = String::new();
        listen(stream.as_bytes(), false, &mut last).unwrap();
        assert_eq!(last, "7-1-f");
        let heard = Heard {
            sensor: String::from("a"),
            time: None,
            unset: Some((3, 12_345)),
            value: "on".into(),
            board: 2,
            far: true,
        };
        let expected = "start 3 + 12.345 s        a  on  (board 2)  (far from its board's clock)";
        assert_eq!(line(&heard), expected);
        assert_eq!(encoded("kitchen/\u{e9} b"), "kitchen%2F%C3%A9%20b");
    }
}
