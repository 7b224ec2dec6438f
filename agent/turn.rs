//! The turn: boards of a group that are all to be started anew, as by an upgrade that reaches
//! them in the same minute, are so one after the other. A board takes the turn, a row of the
//! group's, before that; its next start gives it back once it is one of the group again.
//!
//! Invariant: a turn that somebody has is replaced only by whoever names it, so of several
//! boards that gave up waiting for it one has the next.
//!
//! Left out: clocks. How long a board has had the turn is measured by those who wait.

use understudy_core::{
    event::{Millis, NodeId, Reply, Request},
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

/// A turn that a former start of this board took, until it is given back.
#[derive(Default)]
pub struct Debt {
    owed: Option<Turn>,
    next: Millis,
}

impl Debt {
    /// The group's rows are these, and this start of this board is `own`.
    pub fn learn(&mut self, stored: &[(String, String)], own: Turn) {
        let is_owed = |turn: &Turn| turn.board == own.board && turn.start != own.start;
        self.owed = Turn::among(stored).filter(is_owed);
    }

    /// The request that gives it back, if there is one to give and `is_back` says that this
    /// board is one of the group again.
    pub fn due(&mut self, now: Millis, is_back: impl FnOnce() -> bool) -> Option<Request> {
        let turn = self.owed.filter(|_| now >= self.next && is_back())?;
        self.next = now.plus(AGAIN_MS);
        Some(Request::Write(sql::encode(&end(turn))))
    }

    /// What came of it.
    pub fn answered(&mut self, reply: &Reply) {
        match reply {
            Reply::Done { .. } => self.owed = None,
            Reply::Refused(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use understudy_core::error::Refusal;

    use super::*;

    const OWN: Turn = Turn { board: 3, start: 8 };

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

    #[test]
    fn only_what_a_former_start_of_this_board_took_is_given_back_and_until_it_is() {
        let mut debt = Debt::default();
        for value in ["3 8", "4 7"] {
            debt.learn(&rows(value), OWN);
            assert!(debt.due(Millis(0), || true).is_none(), "{value}");
        }
        debt.learn(&rows("3 7"), OWN);
        assert!(debt.due(Millis(0), || false).is_none(), "it is not back yet");
        assert!(debt.due(Millis(0), || true).is_some());
        assert!(debt.due(Millis(AGAIN_MS - 1), || true).is_none());
        debt.answered(&Reply::Refused(Refusal::NoLeader));
        assert!(debt.due(Millis(AGAIN_MS), || true).is_some());
        debt.answered(&Reply::Done { index: 1, answer: Vec::new() });
        assert!(debt.due(Millis(9 * AGAIN_MS), || true).is_none());
    }
}
