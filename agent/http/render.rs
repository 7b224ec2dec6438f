//! Responses, written as rqlite writes them: the order of keys, what is left out
//! when empty, how Go renders numbers, times, booleans and blobs.

use std::fmt::Write as _;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use understudy_core::sql::{SqlResponse, StatementOutcome, StatementResult, Value};

/// How a response is to look.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Shape {
    pub(super) timings: bool,
    pub(super) pretty: bool,
    pub(super) associative: bool,
    pub(super) blob_array: bool,
    pub(super) raft_index: bool,
    pub(super) sequence_number: bool,
    pub(super) elapsed_ms: u64,
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
    if shape.timings {
        out.push_str(",\"time\":");
        seconds(&mut out, shape.elapsed_ms * 1_000_000);
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
    let failed = SqlResponse { results: Vec::new(), error: Some(reason.to_owned()) };
    let shape = Shape { raft_index: false, sequence_number: false, ..*shape };
    response(&failed, &shape, 0)
}

/// A request without statements.
pub(super) fn empty(shape: &Shape) -> Vec<u8> {
    response(&SqlResponse::default(), &Shape { raft_index: false, ..*shape }, 0)
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
    if shape.timings {
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
    let mut kinds = Object::new(object.key("types"));
    for (name, kind) in columns.iter().zip(types) {
        string(kinds.key(name), kind);
    }
    kinds.end();
    list(object.key("rows"), rows, |out, row| {
        let mut named = Object::new(out);
        for ((name, kind), cell) in columns.iter().zip(types).zip(row) {
            value(named.key(name), cell, kind, shape);
        }
        named.end();
    });
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

fn parsed_time(text: &str) -> Option<String> {
    let text = text.trim_end_matches('Z');
    let (date, time) = match text.split_once(['T', ' ']) {
        Some((date, time)) => (date, time),
        None => (text, "00:00:00"),
    };
    let mut parts = date.split('-').map(str::parse::<u32>);
    let (year, month, day) = (parts.next()?.ok()?, parts.next()?.ok()?, parts.next()?.ok()?);
    let (clock, fraction) = time.split_once('.').unwrap_or((time, ""));
    let mut parts = clock.split(':').map(str::parse::<u32>);
    let (hour, minute) = (parts.next()?.ok()?, parts.next()?.ok()?);
    let second = parts.next().unwrap_or(Ok(0)).ok()?;
    let fits = (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60;
    if !fits || second > 59 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let fraction = fraction.trim_end_matches('0');
    let dot = if fraction.is_empty() { "" } else { "." };
    Some(format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{dot}{fraction}Z"))
}

/// Seconds since 1970 as RFC 3339 (days to date after Howard Hinnant's
/// `civil_from_days`).
pub(super) fn rfc3339(seconds: i64, ms: i64) -> String {
    let (days, clock) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_place = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_place + 2) / 5 + 1;
    let month = if month_place < 10 { month_place + 3 } else { month_place - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let fraction = if ms == 0 { String::new() } else { format!(".{ms:03}") };
    let fraction = fraction.trim_end_matches('0');
    let (hour, minute, second) = (clock / 3_600, clock / 60 % 60, clock % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}Z")
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
        let timed = Shape { timings: true, raft_index: true, elapsed_ms: 2, ..plain };
        assert_eq!(
            rendered(vec![ONE], timed),
            r#"{"results":[{"last_insert_id":1,"rows_affected":1,"time":0.0000478}],"time":0.002,"raft_index":12}"#
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
    fn pretty_indents_by_four() {
        let pretty = Shape { pretty: true, ..Shape::default() };
        assert_eq!(
            rendered(vec![StatementOutcome::Error("a \"{b}\"".into())], pretty),
            "{\n    \"results\": [\n        {\n            \"error\": \"a \\\"{b}\\\"\"\n        }\n    ]\n}"
        );
    }
}
