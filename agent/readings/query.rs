//! What is stored of readings, asked for by SQL and shown: for HTTP and the command line
//! alike.
//!
//! Of a range the newest are given, oldest first. Readings from before their board's
//! clock was set have no time yet and come before all others; where a beginning is asked
//! for they are left out.

use std::fmt::Write as _;

use serde_json::{Value as Json, json};
use understudy_core::{
    readings::unset_of,
    sql::{Origin, RequestKind, SqlRequest, SqlResponse, StatementOutcome, Value},
};

use super::moment::{self, Unit, shown};
use crate::{driver::clock, time::rfc3339};

/// Rows given unless told otherwise.
const LIMIT: u64 = 1_000;

/// And at most, which an answer has room for.
const LIMIT_MAX: u64 = 50_000;

/// Sensors asked for at a time.
const SENSORS_MAX: usize = 64;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    /// Of these sensors; of all where there are none.
    sensors: Vec<String>,
    /// Not before, microseconds since 1970.
    since: Option<i64>,
    /// Before.
    until: Option<i64>,
    limit: u64,
}

impl Range {
    /// As callers write it: a time, or a duration before now such as `90s`, `15m`, `1h`,
    /// `30d`.
    ///
    /// # Errors
    /// Names what is none of these.
    pub fn new(
        sensors: Vec<String>,
        since: Option<&str>,
        until: Option<&str>,
        limit: Option<&str>,
    ) -> Result<Self, String> {
        if sensors.len() > SENSORS_MAX {
            return Err(format!("more than {SENSORS_MAX} sensors"));
        }
        let (_, now_us) = clock::boot_and_wall_us();
        let at = |text: Option<&str>| text.map(|text| point(text, now_us)).transpose();
        let limit = rows_max(limit)?;
        Ok(Self { sensors, since: at(since)?, until: at(until)?, limit })
    }
}

/// How many rows are given at the most, as callers write it.
pub(crate) fn rows_max(limit: Option<&str>) -> Result<u64, String> {
    limit.map_or(Ok(LIMIT), |limit| {
        let number = limit.parse().ok().filter(|number| (1..=LIMIT_MAX).contains(number));
        number.ok_or_else(|| format!("limit is 1 to {LIMIT_MAX}, not {}", shown(limit)))
    })
}

/// Microseconds since 1970 of a time, or of so long before now.
pub(crate) fn point(text: &str, now_us: i64) -> Result<i64, String> {
    let ago = text.strip_suffix(['s', 'm', 'h', 'd']).zip(text.chars().last());
    let ago = ago.and_then(|(number, unit)| Some((number.parse::<u32>().ok()?, unit)));
    let Some((number, unit)) = ago else {
        return moment::parse(text, Unit::Second).map_err(|reason| {
            format!("{reason}; nor is it so long ago, as 90s, 15m, 1h or 30d would be")
        });
    };
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        _ => 86_400,
    };
    Ok(now_us - i64::from(number) * seconds * 1_000_000)
}

/// The request for these readings.
#[must_use]
pub fn request(range: &Range) -> SqlRequest {
    let mut wheres = Vec::new();
    let mut values = Vec::new();
    if !range.sensors.is_empty() {
        let marks = vec!["?"; range.sensors.len()].join(", ");
        wheres.push(format!("s.name IN ({marks})"));
        let names = range.sensors.iter();
        values.extend(names.map(|name| Value::text(name)));
    }
    for (point, operator) in [(range.since, ">="), (range.until, "<")] {
        if let Some(us) = point {
            wheres.push(format!("r.time {operator} ?"));
            values.push(Value::Integer(us));
        }
    }
    let wheres = if wheres.is_empty() { String::from("true") } else { wheres.join(" AND ") };
    let sql = format!(
        "SELECT name, time, value, board, token, flag FROM (\
         SELECT s.name, r.time, r.value, r.board, r.token, r.flag \
         FROM sensor s JOIN reading r ON r.sensor = s.id WHERE {wheres} \
         ORDER BY r.time DESC, s.name DESC LIMIT {}) ORDER BY time, name",
        range.limit
    );
    SqlRequest::one(RequestKind::Query, Origin::User, sql, values)
}

/// One reading as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Of which sensor.
    pub sensor: String,
    /// Microseconds since 1970, or what stands for an unset clock.
    pub time: i64,
    /// What it is.
    pub value: Value,
    /// The board it came to.
    pub board: i64,
    /// Fencing token of the duty it was taken for.
    pub token: Option<i64>,
    /// Its time is far from what the board's clock said.
    pub is_far: bool,
}

/// The readings of an answer; none where none was ever stored.
///
/// # Errors
/// SQLite's words.
pub fn rows(response: SqlResponse) -> Result<Vec<Row>, String> {
    if let Some(error) = response.error {
        return Err(error);
    }
    match response.results.into_iter().next().map(|result| result.outcome) {
        Some(StatementOutcome::Rows { rows, .. }) => {
            let rows = rows.iter().map(|row| row_of(row));
            rows.collect::<Option<_>>().ok_or_else(|| String::from("the answer is no readings"))
        }
        // The tables come with the first reading.
        Some(StatementOutcome::Error(error)) if error.contains("no such table") => Ok(Vec::new()),
        Some(StatementOutcome::Error(error)) => Err(error),
        Some(StatementOutcome::Changed { .. }) | None => Ok(Vec::new()),
    }
}

fn row_of(row: &[Value]) -> Option<Row> {
    let [Value::Text(sensor), Value::Integer(time), value, board, token, flag] = row else {
        return None;
    };
    let integer = |value: &Value| match value {
        Value::Integer(number) => Some(*number),
        Value::Null | Value::Real(_) | Value::Text(_) | Value::Blob(_) => None,
    };
    Some(Row {
        sensor: String::from_utf8_lossy(sensor).into_owned(),
        time: *time,
        value: value.clone(),
        board: integer(board)?,
        token: integer(token),
        is_far: integer(flag).is_some_and(|flag| flag != 0),
    })
}

/// A time as people read it: RFC 3339, or where it stands among those of an unset clock.
#[must_use]
pub fn when(time: i64) -> String {
    if let Some((boot, ms)) = unset_of(time) {
        return format!("unset (start {boot}, {}.{:03} s)", ms / 1_000, ms % 1_000);
    }
    let (ms, finer) = (time.div_euclid(1_000), time.rem_euclid(1_000));
    let (second, ms) = (ms.div_euclid(1_000), ms.rem_euclid(1_000));
    if finer == 0 {
        return rfc3339(second, ms);
    }
    let second = rfc3339(second, 0);
    let micros = format!("{ms:03}{finer:03}");
    format!("{}.{}Z", second.trim_end_matches('Z'), micros.trim_end_matches('0'))
}

/// Says in a row of JSON when it was, or where that stands among times of an unset clock.
pub(crate) fn put_time(row: &mut Json, time: i64) {
    match unset_of(time) {
        None => {
            row["time"] = json!(when(time));
            row["time_us"] = json!(time);
        }
        Some((boot, boot_ms)) => {
            row["time"] = Json::Null;
            row["unset"] = json!({"start": boot, "boot_ms": boot_ms});
        }
    }
}

impl Row {
    /// Its time as people read it.
    #[must_use]
    pub fn when(&self) -> String {
        when(self.time)
    }

    /// Its value as text.
    #[must_use]
    pub fn shown_value(&self) -> String {
        match &self.value {
            Value::Null => String::new(),
            Value::Integer(number) => number.to_string(),
            Value::Real(number) => number.to_string(),
            Value::Text(text) | Value::Blob(text) => String::from_utf8_lossy(text).into_owned(),
        }
    }

    fn json(&self) -> Json {
        let value = match &self.value {
            Value::Integer(number) => json!(number),
            Value::Real(number) => json!(number),
            Value::Null => Json::Null,
            Value::Text(_) | Value::Blob(_) => json!(self.shown_value()),
        };
        let mut row = json!({"sensor": self.sensor, "value": value, "board": self.board});
        put_time(&mut row, self.time);
        if let Some(token) = self.token {
            row["token"] = json!(token);
        }
        if self.is_far {
            row["far"] = json!(true);
        }
        row
    }
}

/// As a JSON array.
#[must_use]
pub fn json(rows: &[Row]) -> String {
    Json::Array(rows.iter().map(Row::json).collect()).to_string()
}

/// As CSV with a head; the time of an unset clock stays empty.
#[must_use]
pub fn csv(rows: &[Row]) -> String {
    let mut out = String::from("sensor,time,value,board,token,note\n");
    for row in rows {
        let (time, note) = match (unset_of(row.time), row.is_far) {
            (None, false) => (row.when(), String::new()),
            (None, true) => (row.when(), String::from("far")),
            (Some(_), _) => (String::new(), row.when()),
        };
        let token = row.token.map(|token| token.to_string()).unwrap_or_default();
        let fields =
            [&row.sensor, &time, &row.shown_value(), &row.board.to_string(), &token, &note];
        let fields = fields.map(|field| csv_field(field));
        let _ = writeln!(out, "{}", fields.join(","));
    }
    out
}

pub(crate) fn csv_field(field: &str) -> String {
    if field.contains([',', '"', '\n', '\r']) {
        return format!("\"{}\"", field.replace('"', "\"\""));
    }
    field.to_owned()
}

#[cfg(test)]
mod tests {
    use understudy_core::{readings::time_unset, sql::StatementResult};

    use super::*;

    fn row(time: i64, value: Value) -> Row {
        Row { sensor: "a, b".into(), time, value, board: 2, token: None, is_far: false }
    }

    #[test]
    fn a_range_is_times_or_so_long_ago() {
        assert_eq!(point("1h", 7_200_000_000), Ok(3_600_000_000));
        assert_eq!(point("2m", 0), Ok(-120_000_000));
        assert_eq!(point("1700000000", 0), Ok(1_700_000_000_000_000));
        assert_eq!(point("1700000000250ms", 0), Ok(1_700_000_000_250_000));
        assert!(point("yesterday", 0).unwrap_err().contains("so long ago"));
        let limit = |limit| Range::new(Vec::new(), None, None, Some(limit));
        assert!(limit("0").is_err() && limit("50001").is_err() && limit("x").is_err());
        let sensors = vec!["a".to_owned(); SENSORS_MAX + 1];
        assert!(Range::new(sensors, None, None, None).is_err());
    }

    #[test]
    fn times_are_shown_as_fine_as_they_are_and_those_of_an_unset_clock_as_such() {
        for (us, shown) in [
            (1_700_000_000_000_000, "2023-11-14T22:13:20Z"),
            (1_700_000_000_250_000, "2023-11-14T22:13:20.25Z"),
            (1_700_000_000_000_001, "2023-11-14T22:13:20.000001Z"),
            (-1, "1969-12-31T23:59:59.999999Z"),
            (time_unset(7, 12_345), "unset (start 7, 12.345 s)"),
        ] {
            assert_eq!(row(us, Value::Null).when(), shown);
        }
    }

    #[test]
    fn rows_become_json_and_csv() {
        let far = Row { is_far: true, token: Some(4), ..row(1_000_000, Value::Real(21.5)) };
        let text = row(time_unset(7, 1), Value::Text(b"say \"x\"".to_vec()));
        let expected = r#"[{"board":2,"far":true,"sensor":"a, b","time":"1970-01-01T00:00:01Z","time_us":1000000,"token":4,"value":21.5},{"board":2,"sensor":"a, b","time":null,"unset":{"boot_ms":1,"start":7},"value":"say \"x\""}]"#;
        assert_eq!(json(&[far.clone(), text.clone()]), expected);
        assert_eq!(
            csv(&[far, text]),
            "sensor,time,value,board,token,note\n\
             \"a, b\",1970-01-01T00:00:01Z,21.5,2,4,far\n\
             \"a, b\",,\"say \"\"x\"\"\",2,,\"unset (start 7, 0.001 s)\"\n"
        );
    }

    #[test]
    fn before_the_first_reading_there_are_none() {
        let failed = |words: &str| SqlResponse {
            results: vec![StatementResult {
                outcome: StatementOutcome::Error(words.into()),
                time_ns: 0,
            }],
            error: None,
        };
        assert_eq!(rows(failed("no such table: sensor")), Ok(Vec::new()));
        assert!(rows(failed("disk I/O error")).is_err());
    }
}
