//! Responses, written as rqlite writes them: the order of keys, what is left out
//! when empty, how Go renders numbers, times, booleans and blobs.

use std::{collections::BTreeSet, fmt::Write as _};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use understudy_core::sql::{SqlResponse, StatementOutcome, StatementResult, Value};

use crate::time::rfc3339;

/// How a response is to look.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Shape {
    pub(super) timings: bool,
    pub(super) pretty: bool,
    pub(super) associative: bool,
    pub(super) blob_array: bool,
    pub(super) raft_index: bool,
    pub(super) sequence_number: bool,
    pub(super) elapsed_ns: u64,
}

/// A response to statements.
pub(super) fn response(response: &SqlResponse, shape: &Shape, index: u64) -> Vec<u8> {
    let mut out = String::with_capacity(256);
    out.push_str("{\"results\":[");
    for (place, each) in response.results.iter().enumerate() {
        if place > 0 {
            out.push(',');
        }
        result(&mut out, each, shape);
    }
    out.push(']');
    if let Some(error) = &response.error {
        out.push_str(",\"error\":");
        string(&mut out, error);
    }
    if shape.timings && shape.elapsed_ns != 0 {
        out.push_str(",\"time\":");
        seconds(&mut out, shape.elapsed_ns);
    }
    if shape.sequence_number {
        let _ = write!(out, ",\"sequence_number\":{index}");
    }
    if shape.raft_index {
        let _ = write!(out, ",\"raft_index\":{index}");
    }
    out.push('}');
    finish(out, shape)
}

/// A request that came to nothing.
pub(super) fn failed(reason: &str, shape: &Shape) -> Vec<u8> {
    let failed = SqlResponse::refused(reason);
    let shape = Shape { raft_index: false, sequence_number: false, ..*shape };
    response(&failed, &shape, 0)
}

/// A request without statements.
pub(super) fn empty(shape: &Shape) -> Vec<u8> {
    response(&SqlResponse::default(), &Shape { raft_index: false, ..*shape }, 0)
}

/// Any other JSON, indented as the rest is.
pub(super) fn tree(tree: &serde_json::Value, is_pretty: bool) -> Vec<u8> {
    let compact = tree.to_string();
    if is_pretty { pretty(&compact).into_bytes() } else { compact.into_bytes() }
}

fn finish(out: String, shape: &Shape) -> Vec<u8> {
    if !shape.pretty {
        return out.into_bytes();
    }
    pretty(&out).into_bytes()
}

/// Compact JSON with four blanks per level, as Go indents it.
fn pretty(compact: &str) -> String {
    let mut out = String::with_capacity(2 * compact.len());
    let mut depth = 0_usize;
    let (mut in_string, mut escaped) = (false, false);
    let mut rest = compact.chars().peekable();
    while let Some(c) = rest.next() {
        if in_string {
            out.push(c);
            in_string = escaped || c != '"';
            escaped = c == '\\' && !escaped;
            continue;
        }
        match c {
            '{' | '[' => {
                out.push(c);
                if rest.peek().is_some_and(|next| matches!(next, '}' | ']')) {
                    out.extend(rest.next());
                } else {
                    depth += 1;
                    indent(&mut out, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                indent(&mut out, depth);
                out.push(c);
            }
            ',' => {
                out.push(c);
                indent(&mut out, depth);
            }
            ':' => out.push_str(": "),
            c => {
                in_string = c == '"';
                out.push(c);
            }
        }
    }
    out
}

fn indent(out: &mut String, depth: usize) {
    out.push('\n');
    (0..depth).for_each(|_| out.push_str("    "));
}

/// A JSON object under construction.
struct Object<'a> {
    out: &'a mut String,
    first: bool,
}

impl<'a> Object<'a> {
    fn new(out: &'a mut String) -> Self {
        out.push('{');
        Self { out, first: true }
    }

    fn key(&mut self, name: &str) -> &mut String {
        if !self.first {
            self.out.push(',');
        }
        self.first = false;
        string(self.out, name);
        self.out.push(':');
        self.out
    }

    fn end(self) {
        self.out.push('}');
    }
}

fn result(out: &mut String, result: &StatementResult, shape: &Shape) {
    let mut object = Object::new(out);
    match &result.outcome {
        StatementOutcome::Changed { last_insert_id, rows_affected } => {
            if *last_insert_id != 0 {
                let _ = write!(object.key("last_insert_id"), "{last_insert_id}");
            }
            if *rows_affected != 0 {
                let _ = write!(object.key("rows_affected"), "{rows_affected}");
            }
            if shape.associative {
                object.key("rows").push_str("null");
            }
        }
        StatementOutcome::Rows { columns, types, rows } if shape.associative => {
            named_rows(&mut object, columns, types, rows, shape);
        }
        StatementOutcome::Rows { columns, types, rows } => {
            list(object.key("columns"), columns, |out, name| string(out, name));
            list(object.key("types"), types, |out, kind| string(out, kind));
            if !rows.is_empty() {
                list(object.key("values"), rows, |out, row| {
                    let typed: Vec<_> = row.iter().zip(types).collect();
                    list(out, &typed, |out, (cell, kind)| value(out, cell, kind, shape));
                });
            }
        }
        StatementOutcome::Error(reason) => {
            if shape.associative {
                object.key("rows").push_str("[]");
            }
            string(object.key("error"), reason);
        }
    }
    if shape.timings && result.time_ns != 0 {
        seconds(object.key("time"), result.time_ns);
    }
    object.end();
}

fn named_rows(
    object: &mut Object<'_>,
    columns: &[String],
    types: &[String],
    rows: &[Vec<Value>],
    shape: &Shape,
) {
    let places = last_of_each_name(columns);
    let mut kinds = Object::new(object.key("types"));
    for place in &places {
        string(kinds.key(&columns[*place]), &types[*place]);
    }
    kinds.end();
    list(object.key("rows"), rows, |out, row| {
        let mut named = Object::new(out);
        for place in &places {
            value(named.key(&columns[*place]), &row[*place], &types[*place], shape);
        }
        named.end();
    });
}

/// An object has each name once: of columns named alike the last counts.
fn last_of_each_name(columns: &[String]) -> Vec<usize> {
    let mut seen = BTreeSet::new();
    let mut places: Vec<_> =
        (0..columns.len()).rev().filter(|place| seen.insert(&columns[*place])).collect();
    places.reverse();
    places
}

fn list<T>(out: &mut String, items: &[T], mut write: impl FnMut(&mut String, &T)) {
    out.push('[');
    for (place, item) in items.iter().enumerate() {
        if place > 0 {
            out.push(',');
        }
        write(out, item);
    }
    out.push(']');
}

/// A value as the Go driver hands it on, which depends on the declared type.
fn value(out: &mut String, value: &Value, kind: &str, shape: &Shape) {
    let is_time = matches!(kind, "timestamp" | "datetime" | "date");
    match value {
        Value::Null => out.push_str("null"),
        Value::Integer(number) if kind == "boolean" => {
            out.push_str(if *number > 0 { "true" } else { "false" });
        }
        Value::Integer(number) if is_time => {
            let ms = if number.abs() > 1_000_000_000_000 { *number } else { number * 1_000 };
            let _ = write!(out, "\"{}\"", rfc3339(ms.div_euclid(1_000), ms.rem_euclid(1_000)));
        }
        Value::Integer(number) => {
            let _ = write!(out, "{number}");
        }
        Value::Real(number) => real(out, *number),
        Value::Text(text) if is_time => {
            let text = String::from_utf8_lossy(text);
            string(out, &time_text(&text));
        }
        Value::Text(text) => string(out, &String::from_utf8_lossy(text)),
        Value::Blob(bytes) if is_textual(kind) => string(out, &String::from_utf8_lossy(bytes)),
        Value::Blob(bytes) if shape.blob_array => {
            list(out, bytes, |out, byte| {
                let _ = write!(out, "{byte}");
            });
        }
        Value::Blob(bytes) => {
            out.push('"');
            STANDARD.encode_string(bytes, out);
            out.push('"');
        }
    }
}

fn is_textual(kind: &str) -> bool {
    matches!(kind, "text" | "json" | "clob" | "") || kind.starts_with("varchar")
}

/// As Go's `encoding/json` writes a float64; what JSON has no number for is null.
fn real(out: &mut String, number: f64) {
    let size = number.abs();
    if !number.is_finite() {
        out.push_str("null");
    } else if size != 0.0 && !(1e-6..1e21).contains(&size) {
        let text = format!("{number:e}");
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, digits) = match exponent.strip_prefix('-') {
            Some(digits) => ('-', digits),
            None => ('+', exponent),
        };
        let _ = write!(out, "{mantissa}e{sign}{digits:0>2}");
    } else {
        let _ = write!(out, "{number}");
    }
}

fn seconds(out: &mut String, ns: u64) {
    #[expect(clippy::cast_precision_loss, reason = "a duration for people")]
    real(out, ns as f64 / 1e9);
}

/// A JSON string, `<`, `>` and `&` escaped as Go does.
fn string(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..='\u{1f}' => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// The time in a text, as RFC 3339; the zero time when there is none in it.
fn time_text(text: &str) -> String {
    parsed_time(text).unwrap_or_else(|| String::from("0001-01-01T00:00:00Z"))
}

/// Go's driver takes these forms, the offset only behind seconds; the offset stays:
/// `2024-01-02`, `2024-01-02 03:04`, `2024-01-02T03:04:05.678+02:00`.
fn parsed_time(text: &str) -> Option<String> {
    let text = text.strip_suffix('Z').unwrap_or(text);
    let (date, time) = match text.split_once(['T', ' ']) {
        Some((date, time)) => (date, Some(time)),
        None => (text, None),
    };
    let mut parts = date.splitn(3, '-');
    let year = digits(parts.next()?, 4)?;
    let (month, day) = (digits(parts.next()?, 2)?, digits(parts.next()?, 2)?);
    if !(1..=12).contains(&month) || !(1..=days_in(month, year)).contains(&day) {
        return None;
    }
    let (clock, offset) = match time {
        Some(time) => parsed_clock(time)?,
        None => (String::from("00:00:00"), String::from("Z")),
    };
    Some(format!("{year:04}-{month:02}-{day:02}T{clock}{offset}"))
}

/// The time of a day and its offset, `Z` for none.
fn parsed_clock(time: &str) -> Option<(String, String)> {
    let (time, offset) = match time.find(['+', '-']) {
        Some(at) => (&time[..at], Some(&time[at..])),
        None => (time, None),
    };
    let (clock, fraction) = time.split_once(['.', ',']).unwrap_or((time, ""));
    let mut parts = clock.splitn(3, ':');
    let hour = parts.next()?;
    let hour = digits(hour, hour.len().clamp(1, 2))?;
    let minute = digits(parts.next()?, 2)?;
    let second = parts.next();
    if second.is_none() && (offset.is_some() || time.len() > clock.len()) {
        return None;
    }
    let second = second.map_or(Some(0), |second| digits(second, 2))?;
    let is_fraction =
        fraction.bytes().all(|byte| byte.is_ascii_digit()) && time.len() != clock.len() + 1;
    if hour > 23 || minute > 59 || second > 59 || !is_fraction {
        return None;
    }
    let fraction = fraction.get(..9).unwrap_or(fraction).trim_end_matches('0');
    let dot = if fraction.is_empty() { "" } else { "." };
    let offset = offset.map_or(Some(String::from("Z")), parsed_offset)?;
    Some((format!("{hour:02}:{minute:02}:{second:02}{dot}{fraction}"), offset))
}

fn parsed_offset(offset: &str) -> Option<String> {
    let (hours, minutes) = offset.get(1..)?.split_once(':')?;
    match (digits(hours, 2)?, digits(minutes, 2)?) {
        (0, 0) => Some(String::from("Z")),
        (0..24, 0..60) => Some(offset.to_owned()),
        _ => None,
    }
}

/// A number of exactly so many digits.
fn digits(text: &str, count: usize) -> Option<u32> {
    let fits = text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit());
    fits.then(|| text.parse().ok()).flatten()
}

const fn days_in(month: u32, year: u32) -> u32 {
    match month {
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => {
            29
        }
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(results: Vec<StatementOutcome>, shape: Shape) -> String {
        let results =
            results.into_iter().map(|outcome| StatementResult { outcome, time_ns: 47_800 });
        let each = SqlResponse { results: results.collect(), error: None };
        String::from_utf8(response(&each, &shape, 12)).unwrap()
    }

    fn rows(rows: Vec<Vec<Value>>, types: [&str; 2]) -> StatementOutcome {
        let columns = vec!["id".into(), "name".into()];
        StatementOutcome::Rows { columns, types: types.map(String::from).to_vec(), rows }
    }

    fn fiona() -> StatementOutcome {
        let row = vec![Value::Integer(1), Value::Text(b"fiona".to_vec())];
        rows(vec![row], ["integer", "text"])
    }

    const ONE: StatementOutcome = StatementOutcome::Changed { last_insert_id: 1, rows_affected: 1 };
    const NONE: StatementOutcome =
        StatementOutcome::Changed { last_insert_id: 0, rows_affected: 0 };

    #[test]
    fn the_shapes_are_rqlites() {
        let plain = Shape::default();
        assert_eq!(
            rendered(vec![ONE, NONE], plain),
            r#"{"results":[{"last_insert_id":1,"rows_affected":1},{}]}"#
        );
        assert_eq!(
            rendered(vec![fiona(), rows(Vec::new(), ["integer", "text"])], plain),
            r#"{"results":[{"columns":["id","name"],"types":["integer","text"],"values":[[1,"fiona"]]},{"columns":["id","name"],"types":["integer","text"]}]}"#
        );
        let error = StatementOutcome::Error("no such table: bar".into());
        assert_eq!(
            rendered(vec![error.clone()], plain),
            r#"{"results":[{"error":"no such table: bar"}]}"#
        );
        let associative = Shape { associative: true, ..plain };
        assert_eq!(
            rendered(vec![fiona(), ONE, error], associative),
            r#"{"results":[{"types":{"id":"integer","name":"text"},"rows":[{"id":1,"name":"fiona"}]},{"last_insert_id":1,"rows_affected":1,"rows":null},{"rows":[],"error":"no such table: bar"}]}"#
        );
        let timed = Shape { timings: true, raft_index: true, elapsed_ns: 2_000_000, ..plain };
        assert_eq!(
            rendered(vec![ONE], timed),
            r#"{"results":[{"last_insert_id":1,"rows_affected":1,"time":0.0000478}],"time":0.002,"raft_index":12}"#
        );
        let no_time = SqlResponse {
            results: vec![StatementResult { outcome: ONE, time_ns: 0 }],
            error: None,
        };
        let untimed = Shape { elapsed_ns: 0, ..timed };
        assert_eq!(
            String::from_utf8(response(&no_time, &untimed, 12)).unwrap(),
            r#"{"results":[{"last_insert_id":1,"rows_affected":1}],"raft_index":12}"#
        );
        assert_eq!(
            String::from_utf8(failed("leadership lost", &plain)).unwrap(),
            r#"{"results":[],"error":"leadership lost"}"#
        );
    }

    #[test]
    fn values_look_as_the_go_driver_hands_them_on() {
        let mut cells = String::new();
        let shape = Shape::default();
        for (cell, kind) in [
            (Value::Text(b"2024-01-02 03:04:05".to_vec()), "datetime"),
            (Value::Text(b"nonsense".to_vec()), "timestamp"),
            (Value::Integer(1_704_164_645), "timestamp"),
            (Value::Integer(1), "boolean"),
            (Value::Blob(vec![0xde, 0xad, 0xbe, 0xef]), "blob"),
            (Value::Blob(b"text".to_vec()), "varchar(10)"),
            (Value::Real(1e21), "real"),
            (Value::Real(1e-7), "real"),
            (Value::Real(3.0), "real"),
            (Value::Text(b"<a & b>".to_vec()), "text"),
        ] {
            value(&mut cells, &cell, kind, &shape);
            cells.push(' ');
        }
        let expected = "\"2024-01-02T03:04:05Z\" \"0001-01-01T00:00:00Z\" \
                        \"2024-01-02T03:04:05Z\" true \"3q2+7w==\" \"text\" 1e+21 1e-07 3 \
                        \"\\u003ca \\u0026 b\\u003e\" ";
        assert_eq!(cells, expected);
        let mut array = String::new();
        let shape = Shape { blob_array: true, ..shape };
        value(&mut array, &Value::Blob(vec![1, 2]), "blob", &shape);
        assert_eq!(array, "[1,2]");
    }

    #[test]
    fn times_are_taken_as_the_go_driver_takes_them() {
        for (text, expected) in [
            ("2024-01-02T03:04:05+02:00", "2024-01-02T03:04:05+02:00"),
            ("2024-01-02 03:04:05.250000-05:30", "2024-01-02T03:04:05.25-05:30"),
            ("2024-01-02T03:04:05+00:00", "2024-01-02T03:04:05Z"),
            ("2024-01-02T03:04:05.123456789123Z", "2024-01-02T03:04:05.123456789Z"),
            ("2024-01-02 3:04", "2024-01-02T03:04:00Z"),
            ("2024-02-29", "2024-02-29T00:00:00Z"),
        ] {
            assert_eq!(time_text(text), expected, "{text}");
        }
        for unparsable in [
            "",
            "2024-02-30",
            "2023-02-29",
            "2024-1-2",
            "2024-01-02 03:04+02:00",
            "2024-01-02T03:04:05+2",
            "2024-01-02T03:04:05+25:00",
            "2024-01-02T03:04:05.",
            "2024-01-02T03:04:05 UTC",
            "2024-01-02T24:00:00",
            "+024-01-02",
        ] {
            assert_eq!(time_text(unparsable), "0001-01-01T00:00:00Z", "{unparsable}");
        }
    }

    #[test]
    fn a_name_stands_once_in_an_object_and_the_last_column_of_it_counts() {
        let rows = StatementOutcome::Rows {
            columns: vec!["a".into(), "b".into(), "a".into()],
            types: vec!["integer".into(), "text".into(), "real".into()],
            rows: vec![vec![Value::Integer(1), Value::Text(b"x".to_vec()), Value::Real(2.5)]],
        };
        let associative = Shape { associative: true, ..Shape::default() };
        assert_eq!(
            rendered(vec![rows], associative),
            r#"{"results":[{"types":{"b":"text","a":"real"},"rows":[{"b":"x","a":2.5}]}]}"#
        );
    }

    #[test]
    fn pretty_indents_by_four() {
        let pretty = Shape { pretty: true, ..Shape::default() };
        assert_eq!(
            rendered(vec![StatementOutcome::Error("a \"{b}\"".into())], pretty),
            "{\n    \"results\": [\n        {\n            \"error\": \"a \\\"{b}\\\"\"\n        }\n    ]\n}"
        );
    }
}
