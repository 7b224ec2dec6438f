//! Readings that the log no longer has for whoever tells the world, taken from the table by
//! their times. What came late to the group, from a spool, with an earlier stamp is not among
//! them, nor what has no time yet.

use serde_json::{Value as Json, json};
use understudy_core::sql::{Origin, RequestKind, SqlRequest, Value};

use super::sql;
use crate::{call::Caller, feed::listed};

/// Readings at a time.
const ROWS_MAX: usize = 1_000;

/// What is looked at first, microseconds: ten minutes.
const WIDTH_US: i64 = 600_000_000;

/// See the module's description.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missed {
    after: i64,
    last: i64,
    width: i64,
}

/// What was found up to a moment.
#[derive(Debug, PartialEq)]
pub struct Stretch {
    /// Sensors by name, and what is told of each reading.
    pub readings: Vec<(String, Json)>,
    /// Nothing more comes up to here, microseconds since 1970.
    pub until: i64,
}

impl Missed {
    /// Those after the one time and up to the other, microseconds since 1970.
    #[must_use]
    pub const fn new(after: i64, last: i64) -> Self {
        Self { after, last, width: WIDTH_US }
    }

    /// The next stretch; none after the last.
    ///
    /// # Errors
    /// In words, where they cannot be read.
    pub async fn next(&mut self, caller: &Caller) -> Result<Option<Stretch>, String> {
        while self.after < self.last {
            let until = self.after.saturating_add(self.width).min(self.last);
            // Of one instant there are no more than sensors.
            let most = if self.width > 1 { Some(ROWS_MAX + 1) } else { None };
            let rows = sql::rows(caller, &request((self.after, until), most)).await?;
            if rows.len() > ROWS_MAX && self.width > 1 {
                self.width /= 2;
                continue;
            }
            (self.after, self.width) = (until, self.width.saturating_mul(2));
            let readings = rows.into_iter().filter_map(told).collect();
            return Ok(Some(Stretch { readings, until }));
        }
        Ok(None)
    }
}

fn request((after, until): (i64, i64), most: Option<usize>) -> SqlRequest {
    let limit = most.map_or_else(String::new, |most| format!("LIMIT {most}"));
    let sql = format!(
        "SELECT s.name, r.time, r.value, r.board, r.token, r.flag FROM sensor AS s \
         CROSS JOIN reading AS r ON r.sensor = s.id AND r.time > ?1 AND r.time <= ?2 {limit}"
    );
    let between = vec![Value::Integer(after), Value::Integer(until)];
    SqlRequest::one(RequestKind::Query, Origin::Agent, &sql, between)
}

fn told(row: Vec<Value>) -> Option<(String, Json)> {
    let [Value::Text(name), time, value, board, token, flag] = <[Value; 6]>::try_from(row).ok()?
    else {
        return None;
    };
    let sensor = String::from_utf8(name).ok()?;
    let mut body = json!({"sensor": sensor, "time": listed(time), "value": listed(value)});
    body["board"] = listed(board);
    if let Value::Integer(token) = token {
        body["token"] = json!(token);
    }
    if flag == Value::Integer(1) {
        body["far"] = json!(true);
    }
    body["late"] = json!(true);
    Some((sensor, body))
}

#[cfg(test)]
mod tests {
    use understudy_core::{
        event::{Reply, Request},
        sql::{self, SqlResponse, StatementOutcome, StatementResult},
    };

    use super::*;
    use crate::call::Call;

    /// A loop over a database with so many readings a millisecond apart, of two sensors.
    fn board(readings: i64) -> Caller {
        let (caller, mut calls) = Caller::channel();
        tokio::spawn(async move {
            let database = rusqlite::Connection::open_in_memory().unwrap();
            let made = format!(
                "CREATE TABLE sensor(id INTEGER PRIMARY KEY, name TEXT);
                 CREATE TABLE reading(sensor, time, value, board, token, flag,
                   PRIMARY KEY(sensor, time)) WITHOUT ROWID;
                 INSERT INTO sensor VALUES (1, 'hall'), (2, 'yard');
                 WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {readings})
                 INSERT INTO reading SELECT 1 + n % 2, 1000 * n, n, 7, NULL, NULL FROM n"
            );
            database.execute_batch(&made).unwrap();
            while let Some(Call::Request(Request::Read { sql, .. }, reply)) = calls.recv().await {
                let request: SqlRequest = sql::decode(&sql).unwrap();
                let statement = &request.statements[0];
                let sql::Parameters::Positional(times) = &statement.parameters else {
                    panic!("times are bound by their places")
                };
                let times = times.iter().map(|time| {
                    let Value::Integer(time) = time else { panic!("{time:?} is no time") };
                    *time
                });
                let mut select = database.prepare(&statement.sql).unwrap();
                let rows = select.query_map(rusqlite::params_from_iter(times), |row| {
                    let number = |place| row.get::<_, Option<i64>>(place);
                    let value = |place| {
                        number(place).map(|number| number.map_or(Value::Null, Value::Integer))
                    };
                    let name = Value::text(&row.get::<_, String>(0)?);
                    Ok(vec![name, value(1)?, value(2)?, value(3)?, value(4)?, value(5)?])
                });
                let rows = rows.unwrap().map(Result::unwrap).collect();
                let outcome =
                    StatementOutcome::Rows { columns: Vec::new(), types: Vec::new(), rows };
                let results = vec![StatementResult { outcome, time_ns: 0 }];
                let answer = sql::encode(&SqlResponse { results, error: None });
                reply.send(Reply::Done { index: 1, answer }).unwrap();
            }
        });
        caller
    }

    async fn all(readings: i64, after: i64, before: i64) -> Vec<i64> {
        let (caller, mut missed) = (board(readings), Missed::new(after, before));
        let (mut values, mut last) = (Vec::new(), after);
        while let Some(stretch) = missed.next(&caller).await.unwrap() {
            assert!(stretch.readings.len() <= ROWS_MAX.max(2_000) && stretch.until > last);
            last = stretch.until;
            for (sensor, body) in stretch.readings {
                let value = body["value"].as_i64().unwrap();
                assert!(body["time"].as_i64().unwrap() <= last && body["late"] == true);
                assert_eq!(sensor, if value % 2 == 0 { "hall" } else { "yard" });
                values.push(value);
            }
        }
        values.sort_unstable();
        values
    }

    #[test]
    fn all_between_two_moments_is_found_once_however_much_it_is() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let everything: Vec<i64> = (1..=5_000).collect();
            assert_eq!(all(5_000, 0, i64::MAX).await, everything);
            assert_eq!(all(5_000, 10_000, 13_000).await, [11, 12, 13], "the end is included");
            assert_eq!(all(5_000, 10_000, 10_000).await, Vec::<i64>::new());
        });
    }
}
