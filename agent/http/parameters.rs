//! The query string. Flags count by their presence alone, the first value of a
//! name counts, unknown names are ignored: as rqlite does.

use std::time::Duration;

use axum::{http::StatusCode, response::Response};

use understudy_core::fence::Fence;

use super::{render::Shape, text};

/// Consistency of a read, by rqlite's names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Level {
    None,
    #[default]
    Weak,
    Linearizable,
    Strong,
    Auto,
}

/// Everything the query string says.
#[derive(Clone, Debug)]
pub(super) struct Parameters {
    pub(super) q: Option<String>,
    pub(super) transaction: bool,
    pub(super) level: Level,
    pub(super) freshness_ms: Option<u64>,
    pub(super) db_timeout_ms: Option<u64>,
    /// How long a linearizable read waits for a majority.
    pub(super) linearizable_timeout_ms: Option<u64>,
    pub(super) timeout: Duration,
    pub(super) shape: Shape,
    /// What is written counts only while this is the duty's token.
    pub(super) fence: Option<Fence>,
    named: Vec<(String, String)>,
}

const TIMEOUT: Duration = Duration::from_secs(30);

impl Parameters {
    pub(super) fn parse(query: Option<&str>) -> Result<Self, Response> {
        let named = pairs(query.unwrap_or_default());
        let value = |name: &str| named.iter().find(|(known, _)| known == name).map(|(_, v)| v);
        let has = |name: &str| value(name).is_some();
        let ms = |name: &str| match value(name) {
            None => Ok(None),
            Some(value) => go_duration_ms(value).map(Some).ok_or_else(|| {
                let reason = format!("{name}={value} is not a valid duration");
                text(StatusCode::BAD_REQUEST, &reason)
            }),
        };
        if has("freshness_strict") && !has("freshness") {
            let reason = "freshness_strict requires freshness";
            return Err(text(StatusCode::BAD_REQUEST, reason));
        }
        if value("q").is_some_and(String::is_empty) {
            return Err(text(StatusCode::BAD_REQUEST, "query parameter not set"));
        }
        for name in ["retries", "trailing_logs"] {
            if let Some(value) = value(name).filter(|value| value.parse::<u32>().is_err()) {
                let reason = format!("{name}={value} is not a valid integer");
                return Err(text(StatusCode::BAD_REQUEST, &reason));
            }
        }
        let fence = value("fence").map(|fence| Fence::parse(fence)).transpose();
        let fence = fence.map_err(|reason| text(StatusCode::BAD_REQUEST, &reason))?;
        Ok(Self {
            fence,
            q: value("q").cloned(),
            transaction: has("transaction"),
            level: level(value("level").map_or("", String::as_str)),
            freshness_ms: ms("freshness")?.filter(|ms| *ms > 0),
            db_timeout_ms: ms("db_timeout")?.filter(|ms| *ms > 0),
            linearizable_timeout_ms: ms("linearizable_timeout")?.filter(|ms| *ms > 0),
            timeout: ms("timeout")?.map_or(TIMEOUT, Duration::from_millis),
            shape: Shape {
                timings: has("timings"),
                pretty: has("pretty"),
                associative: has("associative"),
                blob_array: has("blob_array"),
                raft_index: has("raft_index"),
                sequence_number: has("queue"),
                elapsed_ns: 0,
            },
            named,
        })
    }

    /// Refuses a fence where none is held against the duty.
    pub(super) fn without_fence(self) -> Result<Self, Response> {
        match self.fence {
            None => Ok(self),
            Some(_) => {
                let reason = "a fence goes with /db/execute, /db/request and /readings";
                Err(text(StatusCode::BAD_REQUEST, reason))
            }
        }
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.value(name).is_some()
    }

    pub(super) fn value(&self, name: &str) -> Option<&str> {
        self.values(name).next()
    }

    /// All that a name was given, for the few that may come more than once.
    pub(super) fn values(&self, name: &str) -> impl Iterator<Item = &str> {
        let given = self.named.iter().filter(move |(known, _)| known == name);
        given.map(|(_, value)| value.as_str())
    }
}

fn level(name: &str) -> Level {
    match name.to_ascii_lowercase().as_str() {
        "none" => Level::None,
        "linearizable" => Level::Linearizable,
        "strong" => Level::Strong,
        "auto" => Level::Auto,
        _ => Level::Weak,
    }
}

fn pairs(query: &str) -> Vec<(String, String)> {
    let parts = query.split('&').filter(|part| !part.is_empty());
    parts
        .map(|part| {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            (decoded(name), decoded(value))
        })
        .collect()
}

/// Percent-decoding; what is no valid escape stays as it is.
fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let escape = bytes.get(at + 1..at + 3).and_then(|hex| std::str::from_utf8(hex).ok());
        match (byte, escape.and_then(|hex| u8::from_str_radix(hex, 16).ok())) {
            (b'%', Some(value)) => {
                out.push(value);
                at += 3;
                continue;
            }
            (b'+', _) => out.push(b' '),
            (byte, _) => out.push(*byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Go's duration syntax (`1h15m30.5s`, `250ms`), in whole milliseconds, rounded
/// up: the shortest bound is not the same as none.
fn go_duration_ms(text: &str) -> Option<u64> {
    if text == "0" {
        return Some(0);
    }
    let mut rest = text;
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest.get(..digits)?.parse().ok()?;
        rest = &rest[digits..];
        let unit = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        total += number
            * match &rest[..unit] {
                "h" => 3_600_000.0,
                "m" => 60_000.0,
                "s" => 1_000.0,
                "ms" => 1.0,
                "us" | "\u{b5}s" => 1e-3,
                "ns" => 1e-6,
                _ => return None,
            };
        rest = &rest[unit..];
    }
    (!text.is_empty() && total < 1e15)
        .then(|| Duration::from_secs_f64(total.ceil() / 1e3))
        .and_then(|duration| u64::try_from(duration.as_millis()).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_writes_them() {
        assert_eq!(go_duration_ms("250ms"), Some(250));
        assert_eq!(go_duration_ms("1h1m1.5s"), Some(3_661_500));
        for sub_ms in ["1ns", "1us", "0.2ms"] {
            assert_eq!(go_duration_ms(sub_ms), Some(1), "{sub_ms}");
        }
        assert_eq!([go_duration_ms("0s"), go_duration_ms("1s1ns")], [Some(0), Some(1_001)]);
        for bad in ["", "5", "5x", "s", "-1s", "1.2.3s"] {
            assert_eq!(go_duration_ms(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_first_value_counts_and_escapes_are_undone() {
        let pairs = pairs("q=SELECT%201+x&q=2&flag&%zz=%4");
        assert_eq!(pairs[0], ("q".into(), "SELECT 1 x".into()));
        assert_eq!(pairs[2], ("flag".into(), String::new()));
        assert_eq!(pairs[3], ("%zz".into(), "%4".into()));
    }
}
