//! The turn: boards of a group that are all to be started anew, as by an upgrade that reaches
//! them in the same minute, are so one after the other. A board takes the turn, a row of the
//! group's, before that; its next start gives it back once it is one of the group again.
//!
//! Invariants: a turn that a member has is replaced only by whoever names it, so of several
//! boards that gave up waiting for it one has the next, and who is a member is what the group
//! has committed, not what the asking board knows; it is given back only once its board
//! has all that was committed in the group after that board's start.
//!
//! Left out: clocks. How long a board has had the turn is measured by those who wait.

use understudy_core::{
    event::{Millis, NodeId, ReadLevel, Reply, Request},
    sql::{self, Origin, RequestKind, SqlRequest, SqlResponse, Value},
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

    /// The value of its row.
    #[must_use]
    pub fn value(self) -> Value {
        Value::text(&self.text())
    }

    /// The one that this value of the row tells of; none where it was damaged.
    #[must_use]
    pub fn of(value: &Value) -> Option<Self> {
        match value {
            Value::Text(text) => Self::parse(std::str::from_utf8(text).ok()?),
            Value::Null | Value::Integer(_) | Value::Real(_) | Value::Blob(_) => None,
        }
    }
}

/// The request that takes the turn if nobody has it, the board itself does, one that is no
/// member any more, or `instead_of` is the row's value, which may be a damaged one. It is
/// executed on all that is committed, and answered with the row as it is then: see [`row`].
#[must_use]
pub fn take(turn: Turn, instead_of: Value) -> SqlRequest {
    let sql = "INSERT INTO _understudy_setting VALUES (?1, ?2) ON CONFLICT(name) DO UPDATE SET value = \
               CASE WHEN CAST(value AS BLOB) IS CAST(?3 AS BLOB) OR value LIKE ?4 \
               OR value GLOB '[1-9]* [0-9]*' AND CAST(value AS INTEGER) NOT IN \
               (SELECT id FROM _understudy_member WHERE name <> '') \
               THEN excluded.value ELSE value END RETURNING value";
    let own = Value::text(&format!("{} %", turn.board));
    let values = vec![Value::text(NAME), turn.value(), instead_of, own];
    SqlRequest::one(RequestKind::Execute, Origin::Agent, sql, values)
}

/// The row's value, as [`take`] is answered with it.
#[must_use]
pub fn row(response: SqlResponse) -> Option<Value> {
    response.into_rows()?.into_iter().next()?.into_iter().next()
}

/// The request that gives it back.
#[must_use]
pub fn end(turn: Turn) -> SqlRequest {
    let sql = "DELETE FROM _understudy_setting WHERE name = ?1 AND value = ?2";
    let values = vec![Value::text(NAME), turn.value()];
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
    use understudy_core::{
        error::Refusal,
        event::{Entry, EntryKind, Outcome},
        member::{Member, MembershipChange},
    };

    use super::*;
    use crate::store::database::{Database, Options};

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

    /// The database of a board that leads.
    struct Leading {
        database: Database,
        _directory: tempfile::TempDir,
    }

    impl Leading {
        /// Board 3 is a member, and so was board 5.
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let database = Database::open(directory.path(), Options::default()).unwrap();
            let mut leading = Self { database, _directory: directory };
            leading.apply(EntryKind::Change, Vec::new());
            let member = |id: u8| Member {
                id: id.into(),
                name: format!("board-{id}"),
                key: [id; 32],
                addresses: Vec::new(),
                voter: id == 3,
            };
            for change in [
                MembershipChange::Add(member(3)),
                MembershipChange::Add(member(5)),
                MembershipChange::Remove(5),
            ] {
                leading.apply(EntryKind::Membership, sql::encode(&change));
            }
            leading
        }

        fn apply(&mut self, kind: EntryKind, data: Vec<u8>) {
            let index = self.database.applied().index + 1;
            let entry = Entry { index, term: 1, kind, data };
            assert_eq!(self.database.apply(&[entry]).unwrap(), [Outcome::Changed]);
        }

        fn ask(&mut self, request: &SqlRequest) -> Option<Value> {
            let base = self.database.applied();
            let executed = self.database.execute(base, &[sql::encode(request)]).unwrap();
            self.apply(EntryKind::Change, executed.change);
            let answer = executed.answers.into_iter().next().unwrap().unwrap();
            let answer: SqlResponse = sql::decode(&answer).unwrap();
            assert_eq!(answer.failure(), None);
            row(answer)
        }

        fn put(&mut self, value: Value) {
            let sql = "INSERT OR REPLACE INTO _understudy_setting VALUES (?1, ?2)";
            let values = vec![Value::text(NAME), value];
            self.ask(&SqlRequest::one(RequestKind::Execute, Origin::Agent, sql, values));
        }

        /// Who has it once another board has asked, perhaps instead of what it has seen.
        fn taken(&mut self, instead_of: Value) -> Value {
            self.ask(&take(OTHER, instead_of)).unwrap()
        }
    }

    const OTHER: Turn = Turn { board: 4, start: 2 };

    #[test]
    fn who_is_a_member_keeps_the_turn_and_whoever_is_none_any_more_does_not() {
        let mut leading = Leading::new();
        for (has_it, then) in [(OWN, OWN), (Turn { board: 5, start: 1 }, OTHER)] {
            leading.put(has_it.value());
            assert_eq!(leading.taken(Value::Null), then.value());
        }
        // Only whoever has seen it takes it from a member.
        leading.put(OWN.value());
        assert_eq!(leading.taken(Turn { start: 7, ..OWN }.value()), OWN.value());
        assert_eq!(leading.taken(OWN.value()), OTHER.value());
    }

    #[test]
    fn a_damaged_row_is_replaced_by_whoever_names_it() {
        let mut leading = Leading::new();
        let texts = ["", "3", "x 8", "3 8 1", "3 "].map(Value::text);
        let others = [Value::Text(vec![0xff, 0x20]), Value::Blob(b"3 8".to_vec())];
        for damaged in texts.into_iter().chain(others) {
            assert_eq!(Turn::of(&damaged), None, "{damaged:?}");
            leading.put(damaged.clone());
            assert_eq!(leading.taken(Value::text("3 9")), damaged, "it is another");
            assert_eq!(leading.taken(damaged.clone()), OTHER.value(), "{damaged:?}");
        }
        assert_eq!(Turn::of(&OWN.value()), Some(OWN));
    }
}
