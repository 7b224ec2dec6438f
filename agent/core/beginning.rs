//! A start of a board begins to send readings once the group has its word in the database
//! that no later start of that board has, nor another of the same count.
//!
//! Readings are numbered from the count of the board's starts on. An old card that was put
//! back counts a start again, and gives numbers that were given before; the ledger would
//! take its readings for those, and tell that they are stored. What peers remember of
//! starts (`starts`) finds it out sooner or later; this finds it out before anything is
//! lost, whoever leads. A board that is found out is a copy.
//!
//! One small entry in each start in which a board has readings, before the first of them.
//!
//! Left out: an old card that was started where it hears nobody, until it has counted more
//! starts than the board had.

use alloc::vec::Vec;

use crate::{
    duty::Incarnation,
    event::{Millis, Reply, Request},
    intake::Beginning,
    mutant,
    node::Node,
    sql::{
        self, Origin, Parameters, RequestKind, SqlRequest, SqlResponse, StatementOutcome,
        StatementResult, Value,
    },
    writes::{Ticket, Waiting},
};

/// Comes to no row where a later start of that board is known, or another of that count.
const BEGIN: &str = "INSERT INTO _understudy_start(board, boot, nonce) \
    VALUES (?1, ?2, ?3) ON CONFLICT(board) DO UPDATE SET boot = ?2, nonce = ?3 \
    WHERE boot < ?2 OR boot = ?2 AND nonce = ?3 RETURNING boot";

/// The write by which a start begins.
fn begin(start: Incarnation) -> Vec<u8> {
    let values = [start.board, start.boot, start.nonce];
    let values = values.into_iter().map(|part| Value::Integer(part.cast_signed())).collect();
    sql::encode(&SqlRequest::one(RequestKind::Execute, Origin::Agent, BEGIN, values))
}

/// The start that begins by this write, if it is such a one: for what stands in for a
/// database in tests.
#[must_use]
pub fn begins(request: &[u8]) -> Option<Incarnation> {
    let request = sql::decode::<SqlRequest>(request).ok()?;
    let statement = request.statements.first().filter(|statement| statement.sql == BEGIN)?;
    let Parameters::Positional(values) = &statement.parameters else { return None };
    match values[..] {
        [Value::Integer(board), Value::Integer(boot), Value::Integer(nonce)] => {
            let (board, boot) = (board.cast_unsigned(), boot.cast_unsigned());
            Some(Incarnation { board, boot, nonce: nonce.cast_unsigned() })
        }
        _ => None,
    }
}

/// What a database answers it.
#[must_use]
pub fn answer(is_latest: bool) -> Vec<u8> {
    let rows = is_latest.then(|| Vec::from([Value::Null])).into_iter().collect();
    let outcome = StatementOutcome::Rows { columns: Vec::new(), types: Vec::new(), rows };
    let results = Vec::from([StatementResult { outcome, time_ns: 0 }]);
    sql::encode(&SqlResponse { results, error: None })
}

impl Node {
    /// May readings leave this board? Where some are there, that is asked.
    pub(crate) fn may_send_readings(&mut self, now: Millis) -> bool {
        // Numbers of a start that peers know nothing good of may have been given before.
        if !self.hears_leader(now) || !self.standing.takes_part() {
            return false;
        }
        let may_ask = matches!(self.intake.beginning, Beginning::Open(again) if again <= now);
        if may_ask && self.intake.has_any() {
            self.intake.beginning = Beginning::Asked;
            let deadline = now.plus(self.config.timing.request_timeout_ms);
            let request = Request::Write(begin(self.incarnation()));
            self.wait(now, Waiting { ticket: Ticket::Begin, request, deadline });
        }
        self.intake.beginning == Beginning::Known || mutant::is(91)
    }

    pub(crate) fn on_begun(&mut self, now: Millis, reply: &Reply) {
        let answer = match reply {
            Reply::Done { answer, .. } => sql::decode::<SqlResponse>(answer).ok(),
            Reply::Refused(_) => None,
        };
        let is_latest = answer.and_then(SqlResponse::into_rows).map(|rows| !rows.is_empty());
        self.intake.beginning = match is_latest {
            Some(true) => Beginning::Known,
            Some(false) | None => Beginning::Open(now.plus(self.config.timing.forward_retry_ms)),
        };
        if is_latest == Some(false) {
            self.condemn(now, self.config.id);
        }
    }
}

#[cfg(test)]
#[path = "beginning_tests.rs"]
mod tests;
