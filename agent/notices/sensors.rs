//! Which sensors are silent: those of a name or pattern that have reported nothing new to
//! the group for so long, as every board finds in its own rows.
//!
//! Time is counted on boot time, from when a new reading was seen here: whatever clocks
//! stamp readings. So a board that has just started needs that long before it calls any
//! sensor silent. A sensor that is named, and not by a pattern, counts from the beginning
//! though nobody ever heard of it.

use std::collections::BTreeMap;

use understudy_core::{
    event::Millis,
    sql::{Origin, RequestKind, SqlRequest, SqlResponse, Statement, StatementOutcome, Value},
};

use super::{What, options::NotifyConfig};

/// Sensors of one wish that are looked at.
const SENSORS_MAX: usize = 1_000;

/// Between two looks at most, milliseconds.
const LOOK_MS_MAX: u64 = 10_000;

/// A sensor that has become silent, or reports again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The place of the `[[notify]]` that wants to know.
    pub wish: usize,
    /// Which of the two.
    pub what: What,
    /// The sensor's name.
    pub sensor: String,
    /// In words.
    pub reason: String,
}

struct Wish {
    place: usize,
    pattern: String,
    silent_ms: u64,
    seen: BTreeMap<String, Seen>,
}

struct Seen {
    /// Time of its newest reading.
    newest: Option<i64>,
    /// When that was first seen.
    at: Millis,
    is_silent: bool,
}

/// See the module's description.
pub struct Sensors {
    wishes: Vec<Wish>,
    every_ms: u64,
    asked: Option<Millis>,
}

impl Sensors {
    /// Of those who want to know.
    #[must_use]
    pub fn new(now: Millis, all: &[NotifyConfig]) -> Self {
        let wish = |(place, notify): (usize, &NotifyConfig)| {
            let pattern = notify.sensor.clone()?;
            let silent_ms = notify.silent_s?.saturating_mul(1_000);
            let is_name = !pattern.contains(['*', '?', '[']);
            let expected = is_name
                .then(|| (pattern.clone(), Seen { newest: None, at: now, is_silent: false }));
            Some(Wish { place, pattern, silent_ms, seen: expected.into_iter().collect() })
        };
        let wishes: Vec<Wish> = all.iter().enumerate().filter_map(wish).collect();
        let shortest = wishes.iter().map(|wish| wish.silent_ms).min().unwrap_or(0);
        Self { wishes, every_ms: (shortest / 4).min(LOOK_MS_MAX), asked: None }
    }

    /// The request that looks, if it is time for one.
    pub fn due(&mut self, now: Millis) -> Option<SqlRequest> {
        let is_early = self.asked.is_some_and(|at| now.since(at) < self.every_ms);
        if self.wishes.is_empty() || is_early {
            return None;
        }
        self.asked = Some(now);
        let statement = |wish: &Wish| {
            let sql = format!(
                "SELECT s.name, (SELECT max(r.time) FROM reading r WHERE r.sensor = s.id) \
                 FROM sensor s WHERE s.name GLOB ? ORDER BY s.name LIMIT {SENSORS_MAX}"
            );
            Statement::new(sql, vec![Value::text(&wish.pattern)])
        };
        let statements = self.wishes.iter().map(statement).collect();
        Some(SqlRequest::new(RequestKind::Query, Origin::Agent, statements))
    }

    /// What is found, as of now: what has changed. Where nothing can be read nothing is
    /// known to have been reported.
    pub fn found(&mut self, now: Millis, response: SqlResponse) -> Vec<Change> {
        let mut results = response.results.into_iter();
        let mut changes = Vec::new();
        for wish in &mut self.wishes {
            let rows = match results.next().map(|result| result.outcome) {
                Some(StatementOutcome::Rows { rows, .. }) => rows,
                Some(StatementOutcome::Changed { .. } | StatementOutcome::Error(_)) | None => {
                    Vec::new()
                }
            };
            wish.found(now, &rows, &mut changes);
        }
        changes
    }
}

impl Wish {
    fn found(&mut self, now: Millis, rows: &[Vec<Value>], changes: &mut Vec<Change>) {
        for row in rows {
            let [Value::Text(name), newest] = &row[..] else { continue };
            let name = String::from_utf8_lossy(name).into_owned();
            let newest = match newest {
                Value::Integer(time) => Some(*time),
                Value::Null | Value::Real(_) | Value::Text(_) | Value::Blob(_) => None,
            };
            let has_room = self.seen.len() < SENSORS_MAX;
            match self.seen.get_mut(&name) {
                Some(seen) if newest.is_some() && seen.newest != newest => {
                    if seen.is_silent {
                        let ms = now.since(seen.at);
                        let reason = format!("it reports again after {} s", ms / 1_000);
                        changes.push(self.change(What::SensorBack, &name, reason));
                    }
                    let seen = Seen { newest, at: now, is_silent: false };
                    self.seen.insert(name, seen);
                }
                None if has_room => {
                    self.seen.insert(name, Seen { newest, at: now, is_silent: false });
                }
                Some(_) | None => {}
            }
        }
        let silent_ms = self.silent_ms;
        let is_silent = |seen: &Seen| !seen.is_silent && now.since(seen.at) >= silent_ms;
        let silent: Vec<String> = self
            .seen
            .iter()
            .filter(|(_, seen)| is_silent(seen))
            .map(|(name, _)| name.clone())
            .collect();
        for name in silent {
            let reason = format!("it has reported nothing for {} s", silent_ms / 1_000);
            changes.push(self.change(What::SensorSilent, &name, reason));
            self.seen.entry(name).and_modify(|seen| seen.is_silent = true);
        }
    }

    fn change(&self, what: What, sensor: &str, reason: String) -> Change {
        Change { wish: self.place, what, sensor: sensor.to_owned(), reason }
    }
}

#[cfg(test)]
mod tests {
    use understudy_core::sql::StatementResult;

    use super::*;

    fn sensors() -> Sensors {
        let notify = |sensor: Option<&str>, silent_s| NotifyConfig {
            on: vec![What::SensorSilent],
            command: vec![String::from("x")],
            webhook: None,
            sensor: sensor.map(String::from),
            silent_s,
            timeout_s: 1,
            per_minute: 1,
        };
        let all =
            [notify(None, None), notify(Some("green/*"), Some(20)), notify(Some("door"), Some(60))];
        Sensors::new(Millis(0), &all)
    }

    fn answer(of: &[&[(&str, i64)]]) -> SqlResponse {
        let rows = |rows: &&[(&str, i64)]| {
            let row = |(name, time): &(&str, i64)| vec![Value::text(name), Value::Integer(*time)];
            let rows = rows.iter().map(row).collect();
            let outcome = StatementOutcome::Rows { columns: vec![], types: vec![], rows };
            StatementResult { outcome, time_ns: 0 }
        };
        SqlResponse { results: of.iter().map(rows).collect(), error: None }
    }

    fn told(sensors: &mut Sensors, s: u64, of: &[&[(&str, i64)]]) -> Vec<String> {
        let changes = sensors.found(Millis(1_000 * s), answer(of)).into_iter();
        changes.map(|it| format!("{} {} {}: {}", it.wish, it.what, it.sensor, it.reason)).collect()
    }

    #[test]
    fn a_sensor_without_anything_new_for_so_long_is_silent_once_and_back_once() {
        let mut sensors = sensors();
        assert!(told(&mut sensors, 1, &[&[("green/a", 5), ("green/b", 5)]]).is_empty());
        assert!(told(&mut sensors, 15, &[&[("green/a", 6), ("green/b", 5)]]).is_empty());
        let silent = ["1 sensor silent green/b: it has reported nothing for 20 s"];
        assert_eq!(told(&mut sensors, 21, &[&[("green/a", 7), ("green/b", 5)]]), silent);
        assert!(told(&mut sensors, 30, &[&[("green/a", 8), ("green/b", 5)]]).is_empty());
        // Stamped before the one before, as by a clock that was put right.
        let back = ["1 sensor back green/b: it reports again after 30 s"];
        assert_eq!(told(&mut sensors, 31, &[&[("green/a", 9), ("green/b", 4)]]), back);
        assert!(told(&mut sensors, 32, &[&[("green/a", 10), ("green/b", 3)]]).is_empty());
    }

    #[test]
    fn a_sensor_by_name_is_expected_and_no_table_is_no_reading() {
        let mut sensors = sensors();
        let failed = || {
            let outcome = StatementOutcome::Error(String::from("no such table: sensor"));
            let results = vec![StatementResult { outcome, time_ns: 0 }];
            SqlResponse { results, error: None }
        };
        assert!(sensors.found(Millis(59_000), failed()).is_empty());
        let silent = sensors.found(Millis(60_000), failed());
        assert_eq!((silent.len(), &silent[0].sensor[..], silent[0].wish), (1, "door", 2));
        assert_eq!(told(&mut sensors, 70, &[&[], &[("door", 1)]]).len(), 1);
    }

    #[test]
    fn looks_are_a_quarter_of_the_shortest_time_apart_and_none_where_nobody_asks() {
        let mut sensors = sensors();
        let mut due = |ms| sensors.due(Millis(ms)).map(|request| request.statements.len());
        assert_eq!((due(0), due(4_999), due(5_000)), (Some(2), None, Some(2)));
        assert_eq!(Sensors::new(Millis(0), &[]).due(Millis(0)), None);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut sensors = sensors();
        for round in 0..3 {
            let names: Vec<String> =
                (0..SENSORS_MAX).map(|n| format!("green/{round}/{n}")).collect();
            let rows: Vec<(&str, i64)> = names.iter().map(|name| (&name[..], 1)).collect();
            told(&mut sensors, round, &[&rows]);
        }
        assert_eq!(sensors.wishes[0].seen.len(), SENSORS_MAX);
    }
}
