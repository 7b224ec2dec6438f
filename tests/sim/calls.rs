//! Callers: what they ask of some board, and what they are told.

use std::collections::BTreeMap;

use understudy_core::{
    error::Refusal,
    event::{Event, NodeId, ReadLevel, Reply, Request, RequestId},
    sql::{
        self, Origin, Parameters, RequestKind, SqlRequest, SqlResponse, Statement,
        StatementOutcome, Value,
    },
};

use super::{check::Fate, world::World};

/// A read that was with the database when its board was fenced is answered within this.
const ANSWERED_MS: u64 = 1_000;

/// Who asked what.
pub(crate) enum Asked {
    Write(u64),
    Read(Promise),
    Schema,
    /// Only its answer is of interest.
    Plain,
}

/// What a read must see.
#[derive(Clone, Copy)]
pub(crate) enum Promise {
    /// So many writes: all that were acknowledged when it was asked.
    All(u64),
    /// What was acknowledged so long before it was handed to the database, on its
    /// board's clock, and what was late on its way to that board comes on top.
    AtMostOld(u64),
    /// The same, on the clock of the world.
    OfALeader(u64),
}

/// A leader that a majority has left knows it after this: raft-rs looks every eight
/// ticks whether it was heard since, and a tick takes up to 75 ms here.
const DEPOSED_MS_MAX: u64 = 2 * 8 * 75;

/// Oldest state that a caller puts up with, milliseconds.
const BOUNDS_MS: [u64; 4] = [120, 300, 1_000, 4_000];

impl World {
    /// A caller asks some board for something.
    pub(crate) fn call(&mut self) {
        let id = 1 + self.calls.below(3);
        if self.boards[&id].process.is_none() || self.boards[&id].paused_since.is_some() {
            return;
        }
        self.requests += 1;
        let request = self.requests;
        let (asked, wish) = match self.calls.below(24) {
            0 => (Asked::Schema, write(&["CREATE TABLE IF NOT EXISTS extra(a)"])),
            1 => (Asked::Schema, write(&["INSERT OR ROLLBACK INTO counter VALUES (1, 0)"])),
            2 => (Asked::Schema, Request::Write(sql_apart(&["VACUUM"]))),
            3..=5 => self.read(ReadLevel::Linearizable { timeout_ms: None }),
            6 => self.read(ReadLevel::Strong),
            7 => self.read(ReadLevel::Weak),
            8..=10 => {
                let bound = BOUNDS_MS[usize::try_from(self.calls.below(4)).unwrap_or(0)];
                self.read(ReadLevel::None { freshness_ms: Some(bound) })
            }
            _ => {
                self.check.writes.insert(request, Fate::Open);
                (Asked::Write(request), insert(request))
            }
        };
        let epoch = self.boards[&id].epoch;
        self.asked.insert((id, epoch, request), asked);
        self.give(id, Event::Requested { id: request, request: wish });
    }

    pub(crate) fn replied(&mut self, to: (NodeId, u64, RequestId), reply: Reply) {
        match (self.asked.remove(&to), reply) {
            (Some(Asked::Write(value)), Reply::Done { answer, .. }) => {
                let error = failure(&answer);
                if let Some(error) = error.as_ref().filter(|error| error.contains("UNIQUE")) {
                    self.check.fail(format!("write {value}: {error}"));
                }
                let fate = if error.is_some() { Fate::Refused } else { Fate::Done };
                if fate == Fate::Done {
                    self.outcome.acknowledged += 1;
                    self.check.acknowledge(self.now);
                }
                self.tell(|| format!("write {value} by board {}: {fate:?}", to.0));
                self.check.writes.insert(value, fate);
            }
            (Some(Asked::Write(_)), Reply::Refused(Refusal::OutcomeUnknown)) => {}
            (Some(Asked::Write(value)), Reply::Refused(_)) => {
                self.check.writes.insert(value, Fate::Refused);
            }
            (Some(Asked::Read(promise)), Reply::Done { answer, .. }) => {
                let fenced = self.boards[&to.0].fenced_since;
                if fenced.is_some_and(|since| self.now - since > ANSWERED_MS) {
                    self.check.fail(format!("board {} is fenced and answers a read", to.0));
                }
                self.check_read(to.0, promise, number(&answer).unwrap_or(0));
            }
            (Some(Asked::Plain), reply) => self.told = Some(reply),
            (Some(_) | None, _) => {}
        }
    }

    fn read(&self, level: ReadLevel) -> (Asked, Request) {
        let promise = match level {
            ReadLevel::None { freshness_ms } => Promise::AtMostOld(freshness_ms.unwrap_or(0)),
            ReadLevel::Own => Promise::AtMostOld(u64::from(u32::MAX)),
            ReadLevel::Weak => Promise::OfALeader(DEPOSED_MS_MAX),
            ReadLevel::Linearizable { .. } | ReadLevel::Strong => {
                Promise::All(self.check.acknowledged(self.now))
            }
        };
        let sql = sql_of(&["SELECT n FROM counter"]);
        (Asked::Read(promise), Request::Read { level, sql })
    }

    /// Was everything seen that had to be?
    fn check_read(&mut self, id: NodeId, promise: Promise, seen: u64) {
        let board = &self.boards[&id];
        let handed = board.process.as_ref().map_or(0, |process| process.read_at);
        let old = match promise {
            Promise::All(_) => 0,
            Promise::AtMostOld(bound) => bound * 1_000 / board.pace + 1,
            Promise::OfALeader(bound) => bound,
        };
        let (what, floor) = match promise {
            Promise::All(floor) => {
                self.outcome.reads += 1;
                (String::from("a linearizable or strong read"), floor)
            }
            Promise::AtMostOld(_) | Promise::OfALeader(_) => {
                self.outcome.fresh_reads += 1;
                let late = board.lateness.most_since(handed.saturating_sub(old));
                let as_of = handed.saturating_sub(old + late);
                let what = format!("a read at {handed}, of {as_of} at the oldest,");
                (what, self.check.acknowledged(as_of))
            }
        };
        if seen < floor {
            self.check.fail(format!(
                "{what} on board {id} saw {seen} writes, {floor} were acknowledged before it"
            ));
        }
    }
}

pub(crate) fn sql_of(statements: &[&str]) -> Vec<u8> {
    encoded(statements, true)
}

/// Each statement by itself.
fn sql_apart(statements: &[&str]) -> Vec<u8> {
    encoded(statements, false)
}

fn encoded(statements: &[&str], transaction: bool) -> Vec<u8> {
    let statement = |sql: &&str| Statement {
        sql: (*sql).to_owned(),
        parameters: Parameters::Positional(Vec::new()),
    };
    sql::encode(&SqlRequest {
        kind: RequestKind::Mixed,
        transaction,
        origin: Origin::User,
        statement_timeout_ms: None,
        statements: statements.iter().map(statement).collect(),
    })
}

pub(crate) fn write(statements: &[&str]) -> Request {
    Request::Write(sql_of(statements))
}

/// A write that shows when it is done twice, when its order is lost, and when an
/// id is given a second time. A key of it changes within its collation, so that two
/// of them in one batch are about one row.
fn insert(value: u64) -> Request {
    write(&[
        "CREATE TABLE IF NOT EXISTS t(id INTEGER PRIMARY KEY AUTOINCREMENT, v INTEGER, r)",
        "CREATE TABLE IF NOT EXISTS given(id INTEGER PRIMARY KEY)",
        "CREATE TABLE IF NOT EXISTS counter(id INTEGER PRIMARY KEY, n INTEGER)",
        "INSERT OR IGNORE INTO counter VALUES (1, 0)",
        &format!("INSERT INTO t(v, r) VALUES ({value}, randomblob({value} * 7919 % 400))"),
        &format!("INSERT INTO t(v) VALUES (-{value})"),
        &format!("INSERT INTO given SELECT id FROM t WHERE v = -{value}"),
        &format!("DELETE FROM t WHERE v = -{value}"),
        "UPDATE counter SET n = n + 1",
        "CREATE TABLE IF NOT EXISTS word(w TEXT PRIMARY KEY COLLATE NOCASE, n) WITHOUT ROWID",
        &format!("REPLACE INTO word VALUES (char(65 + 32 * ({value} % 2)), {value})"),
    ])
}

fn outcomes(answer: &[u8]) -> Vec<StatementOutcome> {
    let response: Option<SqlResponse> = sql::decode(answer).ok();
    let results = response.map(|response| response.results).unwrap_or_default();
    results.into_iter().map(|result| result.outcome).collect()
}

#[expect(clippy::wildcard_enum_match_arm, reason = "only errors matter here")]
pub(crate) fn failure(answer: &[u8]) -> Option<String> {
    outcomes(answer).into_iter().find_map(|outcome| match outcome {
        StatementOutcome::Error(words) => Some(words),
        _ => None,
    })
}

fn rows(answer: &[u8]) -> Vec<Vec<Value>> {
    let first = outcomes(answer).into_iter().next();
    match first {
        Some(StatementOutcome::Rows { rows, .. }) => rows,
        Some(StatementOutcome::Changed { .. } | StatementOutcome::Error(_)) | None => Vec::new(),
    }
}

fn unsigned(value: Option<&Value>) -> Option<u64> {
    match value {
        Some(Value::Integer(number)) => u64::try_from(*number).ok(),
        Some(Value::Null | Value::Real(_) | Value::Text(_) | Value::Blob(_)) | None => None,
    }
}

pub(crate) fn number(answer: &[u8]) -> Option<u64> {
    unsigned(rows(answer).first()?.first())
}

pub(crate) fn pairs(answer: &[u8]) -> BTreeMap<u64, u64> {
    let rows = rows(answer);
    rows.iter().filter_map(|row| Some((unsigned(row.first())?, unsigned(row.get(1))?))).collect()
}
