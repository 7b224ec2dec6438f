//! Sensors: what they hand to some board, what they are told, and whether all of it is
//! there in the end, once.
//!
//! A reading told "spooled" may be gone with the disk of the board that has it; one told
//! "committed" never. What a board knows nobody else has is drained in the end.

use std::collections::BTreeMap;

use understudy::store::database::{Database, QueryOutcome};
use understudy_core::{
    error::Refusal,
    event::{Event, NodeId, Reply, Request},
    intake::Options,
    readings::{Arrivals, Level, Reading, Receipt},
    sql::{self, Value},
};

use super::{agenda::Happening, calls, world::World};

/// How a board keeps what it cannot pass on: little, and soon.
pub(crate) const INTAKE: Options =
    Options { spool_after_ms: 300, spool_bytes_max: 6_000, thins_out: false };

/// More than these at the end are too many to be counted by one short read.
const GIVEN_MAX: i64 = 2_000;

/// Readings of all sensors have values of their own, from 1.
#[derive(Default)]
pub(crate) struct Sensors {
    given: i64,
    fates: BTreeMap<i64, Fate>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Not answered, or "not known".
    Open,
    /// On the disk of this board.
    Spooled(NodeId),
    Committed,
    Refused,
}

/// Values that went to a board together: the first and how many.
#[derive(Clone, Copy)]
pub(crate) struct Given {
    first: i64,
    count: i64,
}

impl World {
    /// Some sensors hand readings to some board.
    pub(crate) fn sense(&mut self) {
        if self.sensors.given >= GIVEN_MAX {
            return;
        }
        let pause = 40 + self.sensing.below(300);
        self.plan_in(pause, Happening::Sense);
        let place = self.sensing.below(self.boards.len() as u64);
        let id = self.board_at(place);
        if self.boards[&id].process.is_none() || self.boards[&id].paused_since.is_some() {
            return;
        }
        self.requests += 1;
        let request = self.requests;
        let count = 1 + self.sensing.below(4).cast_signed();
        let until = if self.sensing.chance(600) { Level::Spooled } else { Level::Committed };
        let window_ms = if self.sensing.chance(500) { 50 } else { 0 };
        let given = Given { first: self.sensors.given + 1, count };
        self.sensors.given += count;
        self.sensors.fates.extend(given.values().map(|value| (value, Fate::Open)));
        let readings = given.values().map(|value| reading(value, self.now)).collect();
        let epoch = self.boards[&id].epoch;
        self.asked.insert((id, epoch, request), calls::Asked::Readings(given));
        let arrivals = Arrivals { readings, until, window_ms };
        self.give(id, Event::Requested { id: request, request: Request::Readings(arrivals) });
    }

    /// What the sensors are told.
    pub(crate) fn told_of_readings(&mut self, board: NodeId, given: Given, reply: Reply) {
        let receipt = match reply {
            Reply::Refused(Refusal::OutcomeUnknown) => return,
            Reply::Refused(_) => {
                given.values().for_each(|value| self.fare(value, Fate::Refused));
                return;
            }
            Reply::Done { answer, .. } => sql::decode::<Receipt>(&answer),
        };
        let Ok(receipt) = receipt else { return self.check.fail("no receipt".into()) };
        let fate = match receipt.level {
            Level::Spooled => Fate::Spooled(board),
            Level::Committed => Fate::Committed,
        };
        given.values().for_each(|value| self.fare(value, fate));
        for (place, _) in receipt.refused {
            self.fare(given.first + i64::from(place), Fate::Refused);
        }
    }

    fn fare(&mut self, value: i64, fate: Fate) {
        self.outcome.stored += u64::from(fate == Fate::Committed);
        self.outcome.spooled += u64::from(matches!(fate, Fate::Spooled(_)));
        self.sensors.fates.insert(value, fate);
    }

    /// In the end a board holds each reading once that it may have promised.
    pub(crate) fn look_at_readings(&mut self, id: NodeId, members: &[NodeId]) {
        let now = self.now;
        let board = self.board(id);
        let time = board.time(now);
        let Some(process) = &mut board.process else { return };
        let (status, rows) = (process.node.intake_status(), held(&mut process.database));
        let group = process.node.status(time);
        // What would be on one board alone is not written, and waits.
        let waits = group.one_copy && !group.one_copy_allowed;
        if status.spooled + status.in_memory > 0 && !waits {
            self.check.fail(format!("board {id} keeps readings for itself: {status:?}"));
        }
        let has_lost_its_disk = |board: &NodeId| {
            !members.contains(board) || self.boards.get(board).is_none_or(|b| b.is_damaged)
        };
        for (value, fate) in &self.sensors.fates {
            let count = rows.get(&value.cast_unsigned()).copied().unwrap_or(0);
            let fits = match fate {
                Fate::Open => count <= 1,
                Fate::Spooled(board) if waits || has_lost_its_disk(board) => count <= 1,
                Fate::Spooled(_) | Fate::Committed => count == 1,
                Fate::Refused => count == 0,
            };
            if !fits {
                let what = format!("board {id} holds reading {value} {count} times: {fate:?}");
                return self.check.fail(what);
            }
        }
    }
}

impl Given {
    fn values(self) -> std::ops::Range<i64> {
        self.first..self.first + self.count
    }
}

/// Several of a sensor have the same time now and then.
fn reading(value: i64, now: u64) -> Reading {
    let time = (now / 200).cast_signed() * 200_000;
    let sensor = format!("sensor {}", value % 3);
    Reading { sensor, time, value: Value::Integer(value), id: None, token: None, is_far: false }
}

/// Values, and how often; none where there is no such table yet.
fn held(database: &mut Database) -> BTreeMap<u64, u64> {
    let count = "SELECT value, count(*) FROM reading GROUP BY value";
    match database.query(&calls::sql_of(&[count])) {
        Ok(QueryOutcome::Answered(answer)) => calls::pairs(&answer),
        Ok(QueryOutcome::NeedsReader) | Err(_) => BTreeMap::new(),
    }
}
