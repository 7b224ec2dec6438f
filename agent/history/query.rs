//! The history, asked for by SQL and shown: for HTTP and the command line alike.
//!
//! Of a range the newest rows are given, in the order in which they came to be. Rows that
//! a board wrote before its clock was set have no time yet: where a beginning is asked for
//! they are left out.

use std::fmt::Write as _;

use serde_json::{Value as Json, json};
use understudy_core::sql::{Origin, RequestKind, SqlRequest, SqlResponse, Value};

use crate::{
    driver::clock,
    readings::query::{csv_field, point, put_time, rows_max, when},
};

/// What is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Range {
    duty: Option<String>,
    board: Option<String>,
    /// Not before, microseconds since 1970.
    since: Option<i64>,
    limit: u64,
}

impl Range {
    /// As callers write it: a time, or a duration before now such as `90s`, `15m`, `1h`,
    /// `30d`.
    ///
    /// # Errors
    /// Names what is none of these.
    pub fn new(
        duty: Option<String>,
        board: Option<String>,
        since: Option<&str>,
        limit: Option<&str>,
    ) -> Result<Self, String> {
        let (_, now_us) = clock::boot_and_wall_us();
        let since = since.map(|text| point(text, now_us)).transpose()?;
        let limit = rows_max(limit)?;
        Ok(Self { duty, board, since, limit })
    }
}

/// The request for these rows.
#[must_use]
pub fn request(range: &Range) -> SqlRequest {
    let mut wheres = String::from("true");
    let mut values = Vec::new();
    let mut narrow = |condition: &str, value| {
        let _ = write!(wheres, " AND {condition}");
        values.push(value);
    };
    if let Some(duty) = &range.duty {
        narrow("h.duty = ?", Value::text(duty));
    }
    if let Some(board) = &range.board {
        narrow("coalesce(m.name, 'board ' || h.board) = ?", Value::text(board));
    }
    if let Some(us) = range.since {
        narrow("h.time >= ?", Value::Integer(us));
    }
    let sql = format!(
        "SELECT id, time, board, kind, duty, token, reason, seen_by FROM (\
         SELECT h.id, h.time, coalesce(m.name, 'board ' || h.board) AS board, h.kind, h.duty, \
         h.token, h.reason, coalesce(s.name, 'board ' || h.seen_by) AS seen_by \
         FROM _understudy_history h LEFT JOIN _understudy_member m ON m.id = h.board \
         LEFT JOIN _understudy_member s ON s.id = h.seen_by WHERE {wheres} \
         ORDER BY h.id DESC LIMIT {}) ORDER BY id",
        range.limit
    );
    SqlRequest::one(RequestKind::Query, Origin::User, sql, values)
}

/// One row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Rises by each.
    pub id: i64,
    /// Microseconds since 1970, or what stands for an unset clock.
    pub time: i64,
    /// Name of the board it is about.
    pub board: String,
    /// What happened.
    pub kind: String,
    /// Name of the duty, where it is about one.
    pub duty: Option<String>,
    /// That duty's token.
    pub token: Option<i64>,
    /// Why.
    pub reason: String,
    /// Name of the board that says so.
    pub seen_by: String,
}

/// The rows of an answer.
///
/// # Errors
/// SQLite's words.
pub fn rows(response: SqlResponse) -> Result<Vec<Row>, String> {
    if let Some(error) = response.failure() {
        return Err(String::from(error));
    }
    let rows = response.into_rows();
    let rows = rows.and_then(|rows| rows.iter().map(|row| row_of(row)).collect());
    rows.ok_or_else(|| String::from("the answer is no history"))
}

fn row_of(row: &[Value]) -> Option<Row> {
    let [Value::Integer(id), Value::Integer(time), board, kind, duty, token, reason, seen_by] = row
    else {
        return None;
    };
    let text = |value: &Value| match value {
        Value::Text(text) => Some(String::from_utf8_lossy(text).into_owned()),
        Value::Null | Value::Integer(_) | Value::Real(_) | Value::Blob(_) => None,
    };
    let token = match token {
        Value::Integer(token) => Some(*token),
        Value::Null | Value::Real(_) | Value::Text(_) | Value::Blob(_) => None,
    };
    Some(Row {
        id: *id,
        time: *time,
        board: text(board)?,
        kind: text(kind)?,
        duty: text(duty),
        token,
        reason: text(reason)?,
        seen_by: text(seen_by)?,
    })
}

impl Row {
    /// Its time as people read it.
    #[must_use]
    pub fn when(&self) -> String {
        when(self.time)
    }

    fn json(&self) -> Json {
        let Self { id, time, board, kind, duty, token, reason, seen_by } = self;
        let mut row = json!({"id": id, "board": board, "kind": kind, "duty": duty,
            "token": token, "reason": reason, "seen_by": seen_by});
        put_time(&mut row, *time);
        row
    }
}

/// As a JSON array.
#[must_use]
pub fn json(rows: &[Row]) -> String {
    Json::Array(rows.iter().map(Row::json).collect()).to_string()
}

/// As CSV with a head.
#[must_use]
pub fn csv(rows: &[Row]) -> String {
    let mut out = String::from("id,time,board,kind,duty,token,reason,seen_by\n");
    for row in rows {
        let token = row.token.map(|token| token.to_string()).unwrap_or_default();
        let duty = row.duty.clone().unwrap_or_default();
        let (id, when) = (row.id.to_string(), row.when());
        let fields = [&id, &when, &row.board, &row.kind, &duty, &token, &row.reason, &row.seen_by];
        let fields = fields.map(|field| csv_field(field));
        let _ = writeln!(out, "{}", fields.join(","));
    }
    out
}

#[cfg(test)]
mod tests {
    use understudy_core::{
        readings::time_unset,
        sql::{StatementOutcome, StatementResult},
    };

    use super::*;

    fn row(time: i64) -> Row {
        Row {
            id: 3,
            time,
            board: String::from("a"),
            kind: String::from("lose"),
            duty: Some(String::from("pump")),
            token: Some(81),
            reason: String::from("unheard for 1.2 s"),
            seen_by: String::from("b, c"),
        }
    }

    #[test]
    fn rows_become_json_and_csv() {
        let rows = [row(1_000_000), Row { duty: None, token: None, ..row(time_unset(7, 12)) }];
        let json: Json = serde_json::from_str(&json(&rows)).unwrap();
        assert_eq!(json[0]["time"], "1970-01-01T00:00:01Z");
        assert_eq!((&json[0]["token"], &json[1]["token"]), (&json!(81), &Json::Null));
        assert_eq!((&json[1]["time"], &json[1]["unset"]["boot_ms"]), (&Json::Null, &json!(12)));
        assert_eq!(
            csv(&rows),
            "id,time,board,kind,duty,token,reason,seen_by\n\
             3,1970-01-01T00:00:01Z,a,lose,pump,81,unheard for 1.2 s,\"b, c\"\n\
             3,\"unset (start 7, 0.012 s)\",a,lose,,,unheard for 1.2 s,\"b, c\"\n"
        );
    }

    #[test]
    fn what_is_asked_for_is_checked_and_bound() {
        let range = Range::new(Some("x' OR 1".into()), None, Some("1h"), Some("5")).unwrap();
        let sql = &request(&range).statements[0];
        assert!(!sql.sql.contains("OR 1") && sql.sql.contains("LIMIT 5"), "{}", sql.sql);
        assert_eq!(sql.parameters.count(), 2);
        assert!(Range::new(None, None, Some("yesterday"), None).is_err());
        assert!(Range::new(None, None, None, Some("0")).unwrap_err().contains("limit is 1"));
    }

    #[test]
    fn what_sqlite_says_is_said() {
        let outcome = StatementOutcome::Error("disk I/O error".into());
        let results = vec![StatementResult { outcome, time_ns: 0 }];
        let failed = SqlResponse { results, error: None };
        assert_eq!(rows(failed), Err(String::from("disk I/O error")));
    }
}
