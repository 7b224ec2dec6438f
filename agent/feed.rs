//! The group's readings as they are applied, one after the other: read from the log,
//! which has them in the same order on every board. Who stops listening goes on where
//! it was, on this board or another, as long as the log goes back so far and is that of
//! the same group; where it is not so, it is told: there is never a silent gap. A board
//! that recovers goes on as another group, whose log at the same place has something else.
//!
//! Left out: times that are put right later, and what is done to readings by SQL.

use std::collections::BTreeMap;

use serde::Serialize;
use understudy_core::{
    change::{Change, Segment},
    event::{Entry, ReadLevel, Reply, Request},
    readings::{StoredRow, unset_of},
    sql::{self, Origin, RequestKind, SqlRequest, SqlResponse, Value},
};

use crate::call::{Caller, Followed, STOPPING};

/// Where a reading stands in the log. The next after it is the next in the entry, or
/// the first in a later one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The entry's index.
    pub index: u64,
    /// Which of its readings, from 1; 0 before all of them.
    pub reading: u64,
    /// Of which log, as a board's status says.
    pub history: u32,
}

impl Place {
    /// As a listener gave it back.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (index, rest) = text.split_once('-')?;
        let (reading, history) = rest.split_once('-')?;
        let history = u32::from_str_radix(history, 16).ok()?;
        Some(Self { index: index.parse().ok()?, reading: reading.parse().ok()?, history })
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}-{:x}", self.index, self.reading, self.history)
    }
}

/// A reading as listeners get it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Heard {
    /// Where it stands.
    #[serde(skip)]
    pub place: Place,
    /// The sensor's name.
    pub sensor: String,
    /// Microseconds since 1970; none where its board did not know the time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<i64>,
    /// Then the board's start, and milliseconds of its boot time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unset: Option<(u64, u64)>,
    /// A number or a text.
    pub value: serde_json::Value,
    /// Id of the board it came to.
    pub board: u64,
    /// Fencing token of the duty it was taken for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<u64>,
    /// Its time was far from that of its board.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub far: bool,
}

/// Why there is nothing more to hear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The log begins after what was asked for.
    Gone {
        /// From this entry on it is there.
        first: u64,
    },
    /// What was asked for is of another log: this one is told from now on.
    Another,
    /// This board cannot tell, in words.
    Failed(String),
}

/// One listener's way through the log.
pub struct Feed {
    caller: Caller,
    after: Place,
    /// The place it was to go on behind is of another log, and it was not told so yet.
    is_another: bool,
    /// Only these sensors; all where it is empty.
    wanted: Vec<String>,
    names: BTreeMap<i64, String>,
}

impl Feed {
    /// Goes on after `after`, or begins with what is applied next.
    ///
    /// # Errors
    /// In words, where this board cannot tell.
    pub async fn begin(
        caller: Caller,
        after: Option<Place>,
        wanted: Vec<String>,
    ) -> Result<Self, String> {
        let status = caller.status().await.ok_or(STOPPING)?;
        if status.witness {
            return Err("this board is a witness and keeps no data: ask another board".into());
        }
        let (index, history) = (status.applied_index, status.history);
        let now = Place { index, reading: u64::MAX, history };
        let is_another = after.is_some_and(|after| after.history != history);
        let after = after.filter(|_| !is_another);
        if after.is_some_and(|after| after.index > now.index) {
            return Err(format!(
                "entry {} has not been applied here yet: this board is at {}",
                after.unwrap_or_default().index,
                now.index
            ));
        }
        let (after, names) = (after.unwrap_or(now), BTreeMap::new());
        Ok(Self { caller, after, is_another, wanted, names })
    }

    /// Behind which place it goes on.
    #[must_use]
    pub const fn place(&self) -> Place {
        self.after
    }

    /// Goes on with this entry, where those before it are gone.
    pub fn skip_to(&mut self, first: u64) {
        self.after = Place { index: first.saturating_sub(1), reading: u64::MAX, ..self.after };
        // Another database may have come with what is gone.
        self.names.clear();
    }

    /// Waits for the next readings, at least one.
    ///
    /// # Errors
    /// When there is nothing more to hear.
    pub async fn next(&mut self) -> Result<Vec<Heard>, Ended> {
        if std::mem::take(&mut self.is_another) {
            return Err(Ended::Another);
        }
        loop {
            // The entry that was heard in part is looked at again.
            let low = match self.after.reading {
                u64::MAX => self.after.index + 1,
                _ => self.after.index.max(1),
            };
            let heard = match self.caller.follow(low).await {
                Some(Followed::Entries(entries)) => self.hear(&entries).await?,
                Some(Followed::Gone { first }) => return Err(Ended::Gone { first }),
                Some(Followed::Busy) => {
                    return Err(Ended::Failed(String::from("too many listen on this board")));
                }
                None => return Err(Ended::Failed(String::from(STOPPING))),
            };
            if !heard.is_empty() {
                return Ok(heard);
            }
        }
    }

    async fn hear(&mut self, entries: &[Entry]) -> Result<Vec<Heard>, Ended> {
        let (mut heard, mut after) = (Vec::new(), self.after);
        for entry in entries {
            for (reading, (board, row)) in (1..).zip(self.rows(entry)) {
                let place = Place { index: entry.index, reading, ..after };
                if place <= after {
                    continue;
                }
                let sensor = self.name(row.sensor).await?;
                if self.wanted.is_empty() || self.wanted.contains(&sensor) {
                    heard.push(told(place, sensor, board, row));
                }
            }
            after = Place { index: entry.index, reading: u64::MAX, ..after };
        }
        // Nothing is waited for from here on: who gives up waiting has missed nothing.
        self.after = after;
        Ok(heard)
    }

    /// What an entry that was applied brought; one that did nothing brought nothing.
    fn rows(&mut self, entry: &Entry) -> Vec<(u64, StoredRow)> {
        let change = Change::of(entry).filter(|change| entry.stands_on(change.base));
        let mut rows = Vec::new();
        for segment in change.map(|change| change.segments).unwrap_or_default() {
            match segment {
                Segment::Readings(stored) => {
                    self.names.extend(stored.sensors);
                    rows.extend(stored.rows.into_iter().map(|row| (stored.board, row)));
                }
                // Another database may have come, with other sensors of the same numbers.
                // Which table rows are of cannot be told here: a sensor may be called otherwise.
                Segment::Schema(_) | Segment::Rows { .. } => self.names.clear(),
                Segment::Operation(_) => {}
            }
        }
        rows
    }

    async fn name(&mut self, sensor: i64) -> Result<String, Ended> {
        if !self.names.contains_key(&sensor) {
            self.names.extend(self.all_names().await?);
        }
        let unknown = || format!("sensor {sensor}");
        Ok(self.names.entry(sensor).or_insert_with(unknown).clone())
    }

    async fn all_names(&self) -> Result<Vec<(i64, String)>, Ended> {
        let select = "SELECT id, name FROM sensor";
        let request = SqlRequest::one(RequestKind::Query, Origin::User, select, Vec::new());
        let (level, sql) = (ReadLevel::None { freshness_ms: None }, sql::encode(&request));
        let answer = match self.caller.request(Request::Read { level, sql }).await {
            Some(Reply::Done { answer, .. }) => answer,
            Some(Reply::Refused(refusal)) => return Err(Ended::Failed(refusal.to_string())),
            None => return Err(Ended::Failed(String::from(STOPPING))),
        };
        Ok(sql::decode::<SqlResponse>(&answer).map(names).unwrap_or_default())
    }
}

fn names(response: SqlResponse) -> Vec<(i64, String)> {
    let rows = response.into_rows().unwrap_or_default().into_iter();
    let name = |row: Vec<Value>| match <[Value; 2]>::try_from(row).ok()? {
        [Value::Integer(id), Value::Text(name)] => Some((id, String::from_utf8(name).ok()?)),
        _ => None,
    };
    rows.filter_map(name).collect()
}

/// A value of the database, as listeners get it.
#[must_use]
pub fn listed(value: Value) -> serde_json::Value {
    match value {
        Value::Integer(value) => value.into(),
        Value::Real(value) => value.into(),
        Value::Text(text) | Value::Blob(text) => String::from_utf8_lossy(&text).into(),
        Value::Null => serde_json::Value::Null,
    }
}

fn told(place: Place, sensor: String, board: u64, row: StoredRow) -> Heard {
    let value = listed(row.value);
    let unset = unset_of(row.time);
    let time = unset.is_none().then_some(row.time);
    Heard { place, sensor, time, unset, value, board, token: row.token, far: row.is_far }
}

#[cfg(test)]
mod tests {
    use understudy_core::{
        event::{EntryKind, Position},
        readings::Stored,
        sql::StatementOutcome,
    };

    use super::*;
    use crate::{call::Call, status::Status};

    fn row(sensor: i64, value: i64) -> StoredRow {
        let (number, time, value) = (value.cast_unsigned(), value, Value::Integer(value));
        StoredRow { number, sensor, time, value, id: None, token: None, is_far: false }
    }

    /// The entry at `index` with these readings of two boards.
    fn entry(index: u64, values: [i64; 3]) -> Entry {
        let [a, b, c] = values;
        let sensors = vec![(2, String::from("hall"))];
        let one =
            Stored { board: 1, rows: vec![row(1, a), row(2, b)], sensors, ..Stored::default() };
        let other = Stored { board: 2, rows: vec![row(1, c)], ..Stored::default() };
        let segments = vec![Segment::Readings(one), Segment::Readings(other)];
        let base = Position { term: 1, index: index - 1 };
        let data = Change { base, fingerprint: 0, segments }.encode();
        Entry { index, term: 1, kind: EntryKind::Change, data }
    }

    /// A loop whose log begins with entry 11 and that has applied entry 12.
    fn board() -> Caller {
        let (caller, mut calls) = Caller::channel();
        tokio::spawn(async move {
            let mut waiting = Vec::new();
            while let Some(call) = calls.recv().await {
                match call {
                    Call::Status(reply) => {
                        let status =
                            Status { applied_index: 12, history: 0xa, ..Status::default() };
                        reply.send(status).unwrap();
                    }
                    Call::Request(_, reply) => {
                        let outcome = StatementOutcome::Rows {
                            columns: Vec::new(),
                            types: Vec::new(),
                            rows: vec![vec![Value::Integer(1), Value::Text(b"kitchen".to_vec())]],
                        };
                        let results = vec![sql::StatementResult { outcome, time_ns: 0 }];
                        let answer = sql::encode(&SqlResponse { results, error: None });
                        reply.send(Reply::Done { index: 12, answer }).unwrap();
                    }
                    Call::Follow(..=10, reply) => {
                        reply.send(Followed::Gone { first: 11 }).unwrap();
                    }
                    Call::Follow(low @ 11..=12, reply) => {
                        let all = [entry(11, [1, 2, 3]), entry(12, [4, 5, 6])];
                        let from = all.into_iter().filter(|entry| entry.index >= low);
                        reply.send(Followed::Entries(from.collect())).unwrap();
                    }
                    Call::Follow(_, reply) => waiting.push(reply),
                    Call::Backup(..)
                    | Call::Hosts(_)
                    | Call::Keys(_)
                    | Call::NewKey(_)
                    | Call::Keeper(_)
                    | Call::Checked(_)
                    | Call::Listen(_)
                    | Call::Probe(..)
                    | Call::Forget(_) => panic!("a listener asks for no such thing"),
                }
            }
        });
        caller
    }

    async fn heard(after: &str, wanted: &[&str]) -> Result<Vec<String>, Ended> {
        let wanted = wanted.iter().map(|name| String::from(*name)).collect();
        let begun = Feed::begin(board(), Place::parse(after), wanted).await;
        Ok(lines(&begun.map_err(Ended::Failed)?.next().await?))
    }

    fn lines(heard: &[Heard]) -> Vec<String> {
        let line = |h: &Heard| format!("{} {} {} {}", h.place, h.sensor, h.board, h.value);
        heard.iter().map(line).collect()
    }

    fn on_runtime<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    #[test]
    fn a_listener_goes_on_behind_what_it_had_last_in_the_middle_of_an_entry() {
        let all = on_runtime(heard("11-1-a", &[])).unwrap();
        let expected = [
            "11-2-a hall 1 2",
            "11-3-a kitchen 2 3",
            "12-1-a kitchen 1 4",
            "12-2-a hall 1 5",
            "12-3-a kitchen 2 6",
        ];
        assert_eq!(all, expected);
        let hall = on_runtime(heard("11-2-a", &["hall"])).unwrap();
        assert_eq!(hall, ["12-2-a hall 1 5"]);
    }

    #[test]
    fn sensors_are_looked_up_anew_where_another_database_may_have_come() {
        let names: Vec<String> = on_runtime(async {
            let mut feed = Feed::begin(board(), Place::parse("1-0-a"), Vec::new()).await.unwrap();
            feed.names.insert(1, String::from("another"));
            let stored = Stored { board: 1, rows: vec![row(1, 5)], ..Stored::default() };
            let segments =
                vec![Segment::Schema(String::from("DROP TABLE x")), Segment::Readings(stored)];
            let base = Position { term: 1, index: 11 };
            let data = Change { base, fingerprint: 0, segments }.encode();
            let entry = Entry { index: 12, term: 1, kind: EntryKind::Change, data };
            feed.hear(&[entry]).await.unwrap().into_iter().map(|heard| heard.sensor).collect()
        });
        assert_eq!(names, ["kitchen"]);
    }

    #[test]
    fn a_listener_goes_on_where_the_log_begins() {
        let heard = on_runtime(async {
            let mut feed = Feed::begin(board(), Place::parse("9-1-a"), Vec::new()).await.unwrap();
            let Err(Ended::Gone { first }) = feed.next().await else { panic!("it is there") };
            feed.skip_to(first);
            feed.next().await.unwrap()
        });
        assert_eq!(lines(&heard)[0], "11-1-a kitchen 1 1");
        assert_eq!(heard.len(), 6);
    }

    #[test]
    fn what_the_log_has_no_longer_and_what_it_has_not_yet_is_said() {
        assert_eq!(on_runtime(heard("9-1-a", &[])), Err(Ended::Gone { first: 11 }));
        let ahead = on_runtime(heard("13-0-a", &[])).unwrap_err();
        assert!(matches!(ahead, Ended::Failed(words) if words.contains("at 12")));
    }

    #[test]
    fn a_place_in_another_log_is_told_and_passed_over() {
        for place in ["11-1-b", "99-1-b"] {
            assert_eq!(on_runtime(heard(place, &[])), Err(Ended::Another));
        }
        let after = on_runtime(async {
            let after = Place::parse("11-1-b");
            let mut feed = Feed::begin(board(), after, Vec::new()).await.unwrap();
            assert_eq!(feed.next().await, Err(Ended::Another));
            assert!(!feed.is_another, "it is told once");
            feed.after
        });
        assert_eq!((after.index, after.history), (12, 0xa), "what was applied is not told anew");
        for text in ["11-1", "11", "11-1-", "11-1-x", ""] {
            assert_eq!(Place::parse(text), None, "{text}");
        }
    }
}
