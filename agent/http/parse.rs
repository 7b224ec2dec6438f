//! Request bodies: statements as rqlite's clients write them. Read straight into
//! statements, without a tree in between.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use understudy_core::{
    limits::{REQUEST_STATEMENTS_MAX, REQUEST_VALUES_MAX},
    sql::{self, Parameters, Statement, Value},
};

/// A body that is one SQL text.
pub(super) fn text(body: &[u8]) -> Result<Vec<Statement>, String> {
    let sql = std::str::from_utf8(body).map_err(|_| String::from("the SQL text is not UTF-8"))?;
    if sql.trim().is_empty() {
        return Err(String::from("no statements"));
    }
    Ok(vec![Statement::new(sql, Vec::new())])
}

/// A JSON array of statements.
pub(super) fn json(body: &[u8]) -> Result<Vec<Statement>, String> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Err(String::from("no statements"));
    }
    let Statements(statements) = serde_json::from_slice(body).map_err(|error| {
        let reason = error.to_string();
        let is_ours = |own: &&str| reason.starts_with(own);
        match error.classify() {
            serde_json::error::Category::Data if OWN_REASONS.iter().any(is_ours) => {
                reason.split(" at line").next().unwrap_or_default().to_owned()
            }
            serde_json::error::Category::Data => String::from("invalid request"),
            serde_json::error::Category::Io
            | serde_json::error::Category::Syntax
            | serde_json::error::Category::Eof => String::from("invalid JSON body"),
        }
    })?;
    if statements.is_empty() {
        return Err(String::from("no statements"));
    }
    Ok(statements)
}

/// Does this text surely only read? When in doubt it does not.
pub(super) fn only_reads(sql: &str) -> bool {
    let sql = sql.trim_start();
    let word = sql.split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or_default();
    let single = !sql.trim_end().trim_end_matches(';').contains(';');
    let reads = ["select", "explain", "values"].iter().any(|read| word.eq_ignore_ascii_case(read));
    let pragma = word.eq_ignore_ascii_case("pragma") && !sql.contains('=');
    single && (reads || pragma)
}

/// How errors of ours begin, which serde_json puts a place behind.
const OWN_REASONS: [&str; 2] = ["unsupported type", "more than"];

/// No more of them than a request may hold are read.
struct Statements(Vec<Statement>);

impl<'de> Deserialize<'de> for Statements {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(StatementsVisitor)
    }
}

struct StatementsVisitor;

impl<'de> Visitor<'de> for StatementsVisitor {
    type Value = Statements;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an array of statements")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Statements, A::Error> {
        let mut statements = Vec::new();
        let mut values = 0;
        while let Some(Wire(statement)) = items.next_element()? {
            values += statement.parameters.count();
            within_values::<A::Error>(values)?;
            if statements.len() == REQUEST_STATEMENTS_MAX {
                return Err(de::Error::custom(sql::too_many_statements()));
            }
            statements.push(statement);
        }
        Ok(Statements(statements))
    }
}

fn within_values<E: de::Error>(count: usize) -> Result<(), E> {
    if count > REQUEST_VALUES_MAX { Err(E::custom(sql::too_many_values())) } else { Ok(()) }
}

struct Wire(Statement);

impl<'de> Deserialize<'de> for Wire {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(WireVisitor)
    }
}

struct WireVisitor;

impl<'de> Visitor<'de> for WireVisitor {
    type Value = Wire;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a statement, or an array of a statement and its parameters")
    }

    fn visit_str<E: de::Error>(self, sql: &str) -> Result<Wire, E> {
        Ok(Wire(Statement::new(sql, Vec::new())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Wire, A::Error> {
        let sql: String =
            parts.next_element()?.ok_or_else(|| de::Error::invalid_length(0, &self))?;
        let mut positional = Vec::new();
        let mut named = Vec::new();
        while let Some(part) = parts.next_element::<Part>()? {
            match part {
                Part::Value(value) => positional.push(value),
                Part::Named(values) => named.extend(values),
            }
            within_values::<A::Error>(positional.len() + named.len())?;
        }
        let parameters = if named.is_empty() {
            Parameters::Positional(positional)
        } else {
            Parameters::Named(named)
        };
        Ok(Wire(Statement { sql, parameters }))
    }
}

enum Part {
    Value(Value),
    Named(Vec<(String, Value)>),
}

impl<'de> Deserialize<'de> for Part {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PartVisitor)
    }
}

struct PartVisitor;

impl<'de> Visitor<'de> for PartVisitor {
    type Value = Part;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a value, an array of bytes, or an object of named values")
    }

    fn visit_unit<E>(self) -> Result<Part, E> {
        Ok(Part::Value(Value::Null))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Part, E> {
        Ok(Part::Value(Value::Integer(i64::from(value))))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Part, E> {
        Ok(Part::Value(Value::Integer(value)))
    }

    #[expect(clippy::cast_precision_loss, reason = "beyond 64 bits a number is a real, as in Go")]
    fn visit_u64<E>(self, value: u64) -> Result<Part, E> {
        Ok(Part::Value(i64::try_from(value).map_or(Value::Real(value as f64), Value::Integer)))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Part, E> {
        Ok(Part::Value(Value::Real(value)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Part, E> {
        Ok(Part::Value(hex_blob(text).map_or_else(|| Value::Text(text.into()), Value::Blob)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut bytes: A) -> Result<Part, A::Error> {
        let mut blob = Vec::new();
        while let Some(byte) = bytes.next_element::<i64>()? {
            let byte = u8::try_from(byte);
            blob.push(byte.map_err(|_| de::Error::custom("unsupported type: not a byte"))?);
        }
        Ok(Part::Value(Value::Blob(blob)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut values: A) -> Result<Part, A::Error> {
        let mut named = Vec::new();
        while let Some((name, part)) = values.next_entry::<String, Self::Value>()? {
            match part {
                Part::Value(value) => named.push((name, value)),
                Part::Named(_) => return Err(de::Error::custom("unsupported type: object")),
            }
            within_values::<A::Error>(named.len())?;
        }
        Ok(Part::Named(named))
    }
}

/// `x'deadbeef'`, which rqlite takes for a blob.
fn hex_blob(text: &str) -> Option<Vec<u8>> {
    let hex = text.strip_prefix("x'").or_else(|| text.strip_prefix("X'"))?.strip_suffix('\'')?;
    if hex.len() % 2 != 0 || !hex.is_ascii() {
        return None;
    }
    let bytes = (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).ok());
    bytes.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_shapes_of_statements_are_understood() {
        let body = br#"["SELECT 1", ["I ?", 1, 2.5, true, null, "t", [222, 173], "x'beef'"], ["I :a", {"a": 7}]]"#;
        let statements = json(body).unwrap();
        assert_eq!(statements[0], Statement::new("SELECT 1", Vec::new()));
        let values = vec![
            Value::Integer(1),
            Value::Real(2.5),
            Value::Integer(1),
            Value::Null,
            Value::Text(b"t".to_vec()),
            Value::Blob(vec![222, 173]),
            Value::Blob(vec![0xbe, 0xef]),
        ];
        assert_eq!(statements[1].parameters, Parameters::Positional(values));
        let named = vec![(String::from("a"), Value::Integer(7))];
        assert_eq!(statements[2].parameters, Parameters::Named(named));
    }

    #[test]
    fn what_is_wrong_with_a_body_is_said_as_rqlite_says_it() {
        for (body, reason) in [
            ("", "no statements"),
            ("[]", "no statements"),
            ("[\"a\"", "invalid JSON body"),
            ("nonsense", "invalid JSON body"),
            ("{}", "invalid request"),
            ("[[]]", "invalid request"),
            ("[1]", "invalid request"),
        ] {
            assert_eq!(json(body.as_bytes()).unwrap_err(), reason, "{body}");
        }
        let error = json(br#"[["I ?", {"a": {"b": 1}}]]"#).unwrap_err();
        assert!(error.starts_with("unsupported type"), "{error}");
    }

    #[test]
    fn statements_beyond_their_bound_are_not_read() {
        let body = |count: usize| format!("[{}]", vec!["\"x\""; count].join(","));
        let most = json(body(REQUEST_STATEMENTS_MAX).as_bytes()).unwrap();
        assert_eq!(most.len(), REQUEST_STATEMENTS_MAX);
        let over = [body(REQUEST_STATEMENTS_MAX + 1).trim_end_matches(']'), ", nonsense"].concat();
        let reason = json(over.as_bytes()).unwrap_err();
        assert_eq!(reason, "more than 65536 statements: send them in several requests");
    }

    #[test]
    fn values_beyond_their_bound_are_not_read() {
        let statement = |count: usize| format!("[\"x\"{}]", ",1".repeat(count));
        let half = statement(REQUEST_VALUES_MAX / 2);
        assert_eq!(json(format!("[{half},{half}]").as_bytes()).unwrap().len(), 2);
        let named = "[\"x\",{\"a\":1}]";
        let one = format!("[\"x\"{},", ",1".repeat(REQUEST_VALUES_MAX + 1));
        for over in [format!("[{half},{half},{named}]"), format!("[{one} nonsense")] {
            let reason = json(over.as_bytes()).unwrap_err();
            assert_eq!(reason, "more than 1048576 values: send them in several requests");
        }
    }

    #[test]
    fn only_what_surely_reads_is_a_read() {
        assert!(only_reads(" SELECT 1;") && only_reads("PRAGMA table_info(t)"));
        for write in [
            "INSERT INTO t VALUES (1)",
            "WITH x AS (SELECT 1) DELETE FROM t",
            "SELECT 1; DELETE FROM t",
            "PRAGMA user_version = 1",
        ] {
            assert!(!only_reads(write), "{write}");
        }
    }
}
