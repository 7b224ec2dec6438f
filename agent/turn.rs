//! The turn: boards of a group that are all to be started anew, as by an upgrade that reaches
//! them in the same minute, are so one after the other. A board takes the turn, a row of the
//! group's, before that; its next start gives it back once it is one of the group again.
//!
//! Invariants: a turn that somebody has is replaced only by whoever names it, so of several
//! boards that gave up waiting for it one has the next; it is given back only once its board
//! has all that was committed in the group after that board's start.
//!
//! Left out: clocks. How long a board has had the turn is measured by those who wait.

use understudy_core::{
    event::{Millis, NodeId, ReadLevel, Reply, Request},
    sql::{self, Origin, RequestKind, SqlRequest, Value},
};

/// The row. It is no setting of the group: nobody but `understudy turn` sets it.
const NAME: &str = "turn";

/// Between two tries at giving it back.
const AGAIN_MS: u64 = 1_000;

/// Who has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Turn {
    /// The board.
    pub board: NodeId,
    /// The start of that board which is to end.
    pub start: u64,
}

impl Turn {
    fn text(self) -> String {
        format!("{} {}", self.board, self.start)
    }

    fn parse(text: &str) -> Option<Self> {
        let (board, start) = text.split_once(' ')?;
        Some(Self { board: board.parse().ok()?, start: start.parse().ok()? })
    }

    /// The one that these rows of the group tell of, if any.
    #[must_use]
    pub fn among(stored: &[(String, String)]) -> Option<Self> {
        let (_, value) = stored.iter().find(|(name, _)| name == NAME)?;
        Self::parse(value)
    }
}

/// The request that takes the turn if nobody has it, the board itself does, or `instead_of`
/// is it. It is answered with the row as it is then: name and value.
#[must_use]
pub fn take(turn: Turn, instead_of: Option<Turn>) -> SqlRequest {
    let sql = "INSERT INTO _understudy_setting VALUES (?1, ?2) ON CONFLICT(name) DO UPDATE SET value = \
               CASE WHEN value = ?3 OR value LIKE ?4 THEN excluded.value ELSE value END \
               RETURNING name, value";
    let instead_of = instead_of.map_or(Value::Null, |turn| Value::text(&turn.text()));
    let own = Value::text(&format!("{} %", turn.board));
    let values = vec![Value::text(NAME), Value::text(&turn.text()), instead_of, own];
    SqlRequest::one(RequestKind::Execute, Origin::Agent, sql, values)
}

/// The request that gives it back.
#[must_use]
pub fn end(turn: Turn) -> SqlRequest {
    let sql = "DELETE FROM _understudy_setting WHERE name = ?1 AND value = ?2";
    let values = vec![Value::text(NAME), Value::text(&turn.text())];
    SqlRequest::one(RequestKind::Execute, Origin::Agent, sql, values)
}

/// What is to be done about a turn that is owed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The group says what is committed, and this board applies that: its own log alone
    /// cannot tell how far behind it is.
    CatchUp,
    /// The row goes.
    End,
}

/// A turn that a former start of this board took, until it is given back.
#[derive(Default)]
pub struct Debt {
    owed: Option<Turn>,
    has_caught_up: bool,
    next: Millis,
}

impl Debt {
    /// The group's rows are these, and this start of this board is `own`.
    pub fn learn(&mut self, stored: &[(String, String)], own: Turn) {
        let is_owed = |turn: &Turn| turn.board == own.board && turn.start != own.start;
        self.owed = Turn::among(stored).filter(is_owed);
    }

    /// The next step towards giving it back, with its request, if there is one to give and
    /// `is_back` says that this board is one of the group again.
    pub fn due(&mut self, now: Millis, is_back: impl FnOnce() -> bool) -> Option<(Step, Request)> {
        let turn = self.owed.filter(|_| now >= self.next && is_back())?;
        self.next = now.plus(AGAIN_MS);
        Some(match self.has_caught_up {
            true => (Step::End, Request::Write(sql::encode(&end(turn)))),
            false => {
                let read = SqlRequest::new(RequestKind::Query, Origin::Agent, Vec::new());
                let level = ReadLevel::OwnLinearizable;
                (Step::CatchUp, Request::Read { level, sql: sql::encode(&read) })
            }
        })
    }

    /// What came of a step.
    pub fn answered(&mut self, step: Step, reply: &Reply) {
        match (step, reply) {
            (_, Reply::Refused(_)) => {}
            (Step::CatchUp, Reply::Done { .. }) => {
                self.has_caught_up = true;
                self.next = Millis(0);
            }
            (Step::End, Reply::Done { .. }) => self.owed = None,
        }
    }
}

#[cfg(test)]
mod tests {
    use understudy_core::error::Refusal;

    use super::*;

    const OWN: Turn = Turn { board: 3, start: 8 };
    const DONE: Reply = Reply::Done { index: 1, answer: Vec::new() };

    fn rows(value: &str) -> Vec<(String, String)> {
        vec![("voters".into(), "3".into()), (NAME.into(), value.into())]
    }

    #[test]
    fn the_row_says_who_has_the_turn_and_nonsense_says_nothing() {
        assert_eq!(Turn::among(&rows(&OWN.text())), Some(OWN));
        for value in ["", "3", "x 8", "3 8 1", "3 "] {
            assert_eq!(Turn::among(&rows(value)), None, "{value:?}");
        }
        assert_eq!(Turn::among(&[]), None);
    }

    fn step(debt: &mut Debt, ms: u64) -> Option<Step> {
        debt.due(Millis(ms), || true).map(|(step, _)| step)
    }

    #[test]
    fn only_what_a_former_start_of_this_board_took_is_given_back_and_until_it_is() {
        let mut debt = Debt { has_caught_up: true, ..Debt::default() };
        for value in ["3 8", "4 7"] {
            debt.learn(&rows(value), OWN);
            assert_eq!(step(&mut debt, 0), None, "{value}");
        }
        debt.learn(&rows("3 7"), OWN);
        assert!(debt.due(Millis(0), || false).is_none(), "it is not back yet");
        assert_eq!(step(&mut debt, 0), Some(Step::End));
        assert_eq!(step(&mut debt, AGAIN_MS - 1), None);
        debt.answered(Step::End, &Reply::Refused(Refusal::NoLeader));
        assert_eq!(step(&mut debt, AGAIN_MS), Some(Step::End));
        debt.answered(Step::End, &DONE);
        assert_eq!(step(&mut debt, 9 * AGAIN_MS), None);
    }

    #[test]
    fn it_is_given_back_only_once_all_is_applied_that_the_group_had_committed() {
        let mut debt = Debt::default();
        debt.learn(&rows("3 7"), OWN);
        let asked = debt.due(Millis(0), || true);
        let level = match asked {
            Some((Step::CatchUp, Request::Read { level, .. })) => level,
            asked => panic!("{asked:?}"),
        };
        assert_eq!(level, ReadLevel::OwnLinearizable);
        debt.answered(Step::CatchUp, &Reply::Refused(Refusal::NoLeader));
        for ms in [AGAIN_MS, 2 * AGAIN_MS] {
            assert_eq!(step(&mut debt, ms), Some(Step::CatchUp), "nothing is known yet");
        }
        debt.answered(Step::CatchUp, &DONE);
        assert_eq!(step(&mut debt, 2 * AGAIN_MS), Some(Step::End), "at once");
        // The answer to the other question comes late.
        debt.answered(Step::CatchUp, &DONE);
        assert_eq!(step(&mut debt, 2 * AGAIN_MS), Some(Step::End), "it is owed still");
    }
}
