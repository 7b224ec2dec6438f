//! Callers: what they ask of some board, and what they are told.

use std::collections::BTreeMap;

use understudy_core::{
    error::Refusal,
    event::{Event, NodeId, ReadLevel, Reply, Request, RequestId},
    sql::{self, Origin, RequestKind, SqlRequest, SqlResponse, Statement, StatementOutcome, Value},
};

use super::{check::Fate, moves::Move, readings::Given, world::World};

/// A read that was with the database when its board was fenced is answered within this.
const ANSWERED_MS: u64 = 1_000;

/// Who asked what.
pub(crate) enum Asked {
    Write(u64),
    Read(Promise),
    Schema,
    /// Only its answer is of interest.
    Plain,
    Move(Move),
    Readings(Given),
}

/// What a read must see.
#[derive(Clone, Copy)]
pub(crate) enum Promise {
    /// So many writes: known when it is asked.
    Writes(u64),
    /// What was acknowledged so long before it was handed to the database, on its
    /// board's clock; what was late on its way to that board comes on top.
    AtMostOld(u64),
}

/// A leader that a majority has left knows it after this: raft-rs looks every eight
/// ticks whether it was heard since, and a tick takes up to 75 ms here.
const DEPOSED_MS_MAX: u64 = 2 * 8 * 75;

/// Oldest state that a caller puts up with, milliseconds.
const BOUNDS_MS: [u64; 4] = [120, 300, 1_000, 4_000];

impl World {
    /// A caller asks some board for something.
    pub(crate) fn call(&mut self) {
        let place = self.calls.below(self.boards.len() as u64);
        let id = self.board_at(place);
        if self.boards[&id].process.is_none() || self.boards[&id].paused_since.is_some() {
            return;
        }
        self.requests += 1;
        let request = self.requests;
        let (asked, wish) = match self.calls.below(24) {
            0 => (Asked::Schema, write(&["CREATE TABLE IF NOT EXISTS extra(a)"])),
            1 => (Asked::Schema, write(&["INSERT OR ROLLBACK INTO counter VALUES (1, 0)"])),
            2 if self.calls.chance(250) => (Asked::Schema, Request::Write(sql_apart(&["VACUUM"]))),
            2..=5 => self.read(id, ReadLevel::Linearizable { timeout_ms: None }),
            6 => self.read(id, ReadLevel::Strong),
            7 => self.read(id, ReadLevel::Weak),
            8..=10 => {
                let bound = BOUNDS_MS[usize::try_from(self.calls.below(4)).unwrap_or(0)];
                self.read(id, ReadLevel::None { freshness_ms: Some(bound) })
            }
            _ => self.write(request),
        };
        let epoch = self.boards[&id].epoch;
        self.asked.insert((id, epoch, request), asked);
        self.give(id, Event::Requested { id: request, request: wish });
    }

    fn write(&mut self, request: RequestId) -> (Asked, Request) {
        self.check.writes.insert(request, Fate::Open);
        let is_first = self.outcome.acknowledged == 0;
        let with_tables = is_first || request.is_multiple_of(TABLES_EVERY);
        (Asked::Write(request), insert(request, with_tables))
    }

    /// A caller writes at this board, and does nothing that anybody could mind.
    pub(crate) fn call_to_write(&mut self, id: NodeId) {
        self.requests += 1;
        let request = self.requests;
        let (asked, wish) = self.write(request);
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
            (Some(Asked::Move(what)), reply) => self.moved(&what, reply),
            (Some(Asked::Readings(given)), reply) => self.told_of_readings(to.0, given, reply),
            (Some(_) | None, _) => {}
        }
    }

    fn read(&self, id: NodeId, level: ReadLevel) -> (Asked, Request) {
        let promise = match level {
            ReadLevel::None { freshness_ms } => Promise::AtMostOld(freshness_ms.unwrap_or(0)),
            ReadLevel::Own => Promise::AtMostOld(u64::from(u32::MAX)),
            ReadLevel::Weak => Promise::Writes(self.acknowledged(id, self.now, DEPOSED_MS_MAX)),
            ReadLevel::Linearizable { .. } | ReadLevel::Strong | ReadLevel::OwnLinearizable => {
                Promise::Writes(self.check.acknowledged(self.now))
            }
        };
        let sql = sql_of(&["SELECT n FROM counter"]);
        (Asked::Read(promise), Request::Read { level, sql })
    }

    /// Writes acknowledged so long before then, and before what may be behind the
    /// latest word this board had since.
    fn acknowledged(&self, id: NodeId, then: u64, ms: u64) -> u64 {
        let late = self.boards[&id].lateness.most_since(then.saturating_sub(ms));
        self.check.acknowledged(then.saturating_sub(ms + late))
    }

    /// Was everything seen that had to be?
    fn check_read(&mut self, id: NodeId, promise: Promise, seen: u64) {
        self.outcome.reads += 1;
        let board = &self.boards[&id];
        let handed = board.process.as_ref().map_or(0, |process| process.read_at);
        let floor = match promise {
            Promise::Writes(floor) => floor,
            Promise::AtMostOld(bound) => {
                self.acknowledged(id, handed, bound * 1_000 / board.pace + 1)
            }
        };
        if seen >= floor {
            return;
        }
        let what = match promise {
            Promise::Writes(_) => String::from("a read"),
            Promise::AtMostOld(bound) => format!("a read of at most {bound} ms ago"),
        };
        self.check.fail(format!(
            "{what} on board {id} saw {seen} writes, {floor} were acknowledged before"
        ));
    }
}

pub(crate) fn sql_of(statements: &[&str]) -> Vec<u8> {
    encoded(statements, true, 0)
}

/// Each statement by itself.
fn sql_apart(statements: &[&str]) -> Vec<u8> {
    encoded(statements, false, 0)
}

/// Statements that want a parameter get `value`.
fn encoded(statements: &[&str], transaction: bool, value: u64) -> Vec<u8> {
    let parameter = |sql: &str| sql.contains('?').then_some(Value::Integer(value.cast_signed()));
    let statement = |sql: &&str| Statement::new(*sql, parameter(sql).into_iter().collect());
    let statements = statements.iter().map(statement).collect();
    let request = SqlRequest::new(RequestKind::Mixed, Origin::User, statements);
    sql::encode(&SqlRequest { transaction, ..request })
}

pub(crate) fn write(statements: &[&str]) -> Request {
    Request::Write(sql_of(statements))
}

/// Its tables, where they are not there yet.
const TABLES: [&str; 6] = [
    "CREATE TABLE IF NOT EXISTS t(id INTEGER PRIMARY KEY AUTOINCREMENT, v INTEGER, r)",
    "CREATE TABLE IF NOT EXISTS given(id INTEGER PRIMARY KEY)",
    "CREATE TABLE IF NOT EXISTS counter(id INTEGER PRIMARY KEY, n INTEGER)",
    "INSERT OR IGNORE INTO counter VALUES (1, 0)",
    "CREATE TABLE IF NOT EXISTS word(w TEXT PRIMARY KEY COLLATE NOCASE, n) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS guest(id INTEGER PRIMARY KEY, n INTEGER)",
];

/// A write that shows when it is done twice, when its order is lost, and when an
/// id is given a second time. A key of it changes within its collation, so that two
/// of them in one batch are about one row. A guest comes, stays for some writes and
/// goes: what is applied a second time finds it gone.
const INSERT: [&str; 9] = [
    "INSERT INTO t(v, r) VALUES (?1, randomblob(?1 * 7919 % 400))",
    "INSERT INTO given SELECT max(id) FROM t",
    "INSERT INTO t(v) VALUES (-?1)",
    "INSERT INTO given SELECT max(id) FROM t",
    "DELETE FROM t WHERE id = (SELECT max(id) FROM t)",
    "UPDATE counter SET n = n + 1",
    "REPLACE INTO word VALUES (char(65 + 32 * (?1 % 2)), ?1)",
    "INSERT INTO guest VALUES (?1 / 8, 1) ON CONFLICT DO UPDATE SET n = n + 1",
    "DELETE FROM guest WHERE id < ?1 / 8",
];

/// One write in so many has the statements for its tables beside its own; all do
/// until one is acknowledged.
const TABLES_EVERY: u64 = 6;

fn insert(value: u64, with_tables: bool) -> Request {
    let tables = if with_tables { &TABLES[..] } else { &[] };
    Request::Write(encoded(&[tables, &INSERT].concat(), true, value))
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
