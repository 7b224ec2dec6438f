//! The group's version, as its row has it: told whenever an entry has raised it, before anything
//! that comes of that entry, so that whoever judges by it judges by all that is applied.
//!
//! Invariant: a board whose program does not know the version that an entry or a state from
//! another board brings applies none after it, since it may not understand them. A later start
//! finds the row, or that entry once more, and says the same.
//!
//! Left out: a witness, which keeps no rows and reads none that are in entries. It goes by what
//! its leader tells it.

use rusqlite::OptionalExtension as _;
use understudy_core::versions::VERSION_FIRST;

use super::{Database, Failure};
use crate::version;

/// What the database knows of it.
pub(super) struct Going {
    version: u32,
    /// The entry being applied has touched the table that its row is in.
    is_touched: bool,
    /// It has risen since it was last taken.
    is_raised: bool,
    /// See [`Going::too_new`].
    beyond: Option<String>,
}

impl Default for Going {
    fn default() -> Self {
        Self { version: VERSION_FIRST, is_touched: false, is_raised: false, beyond: None }
    }
}

impl Going {
    /// A row of this table was put or deleted.
    pub(super) fn touched(&mut self, table: &str) {
        self.is_touched |= table == "_understudy_setting";
    }

    /// Why this program must not go on with it, if so.
    pub(super) fn too_new(&self) -> Option<String> {
        self.beyond.clone()
    }
}

impl Database {
    /// The group's version, when it has risen since the last call: to be told before
    /// anything else that this database has come to.
    pub fn take_version(&mut self) -> Option<u32> {
        std::mem::take(&mut self.going.is_raised).then_some(self.going.version)
    }

    pub(super) fn reload_version(&mut self) -> rusqlite::Result<()> {
        let sql = "SELECT value FROM main._understudy_setting WHERE name = ?1";
        let mut select = self.connection.prepare_cached(sql)?;
        let value = select.query_row([version::ROW], |row| Ok(row.get::<_, String>(0).ok()));
        let value = value.optional()?.flatten();
        let stored: Vec<_> =
            value.map(|value| (version::ROW.to_owned(), value)).into_iter().collect();
        let version = version::of(&stored);
        let Going { version: known, is_touched, is_raised, beyond } = &mut self.going;
        *is_touched = false;
        *is_raised |= version > *known;
        *known = version.max(*known);
        *beyond = version::too_new(&stored);
        Ok(())
    }

    /// What is applied may have raised the version: may entries that follow be applied?
    pub(super) fn look_for_version(&mut self) -> Result<(), Failure> {
        if self.going.is_touched {
            self.reload_version().map_err(|error| self.failure(&error))?;
        }
        self.going.too_new().map_or(Ok(()), |reason| Err(Failure::Halt(reason)))
    }
}

#[cfg(test)]
mod tests {
    use understudy_core::{
        event::{Entry, EntryKind, Position},
        member::{Member, MembershipChange},
        sql::{Origin, RequestKind, SqlRequest, encode},
        versions::VERSION,
    };

    use super::{super::tests::Boards, *};

    fn raised(version: u32) -> String {
        format!("INSERT OR REPLACE INTO _understudy_setting VALUES ('version', '{version} 9.8.0')")
    }

    #[test]
    fn a_version_is_told_once_with_the_entry_that_brings_it_and_never_falls() {
        let mut boards = Boards::new();
        boards.agents("INSERT INTO _understudy_setting VALUES ('voters', '3')");
        assert_eq!(boards.databases[1].take_version(), None);
        boards.agents(&raised(VERSION));
        assert_eq!(boards.databases[1].take_version(), Some(VERSION));
        assert_eq!(boards.databases[1].take_version(), None);
        boards.agents("UPDATE _understudy_setting SET value = 'x' WHERE name = 'version'");
        boards.agents(&raised(VERSION));
        assert_eq!(boards.databases[1].take_version(), None, "a damaged row is no news");
    }

    #[test]
    fn a_version_comes_to_nothing_where_another_was_let_in_since() {
        let mut boards = Boards::new();
        boards.agents("INSERT INTO _understudy_setting VALUES ('voters', '3')");
        for id in 1..=2 {
            let member = Member {
                id,
                name: format!("board-{id}"),
                key: [7; 32],
                addresses: Vec::new(),
                voter: id == 1,
            };
            let entry = boards.entry(encode(&MembershipChange::Add(member)));
            boards.apply(&Entry { kind: EntryKind::Membership, ..entry });
        }
        for (last_member, raised) in [(1, None), (2, Some(VERSION))] {
            let _ = boards.requests(&[encode(&version::raise(VERSION, last_member))]);
            assert_eq!(boards.databases[0].take_version(), raised, "{last_member}");
        }
    }

    #[test]
    fn a_board_ends_with_the_entry_that_goes_beyond_it() {
        let mut boards = Boards::new();
        boards.agents("INSERT INTO _understudy_setting VALUES ('voters', '3')");
        let sql = raised(VERSION + 1);
        let request = SqlRequest::one(RequestKind::Execute, Origin::Agent, sql, Vec::new());
        let base = boards.databases[0].applied();
        let executed = boards.databases[0].execute(base, &[encode(&request)]).unwrap();
        let entries = [boards.entry(executed.change), boards.entry(Vec::new())];
        let Err(Failure::Halt(reason)) = boards.databases[1].apply(&entries) else {
            panic!("it goes on")
        };
        assert!(reason.contains("install understudy 9.8.0 or newer"), "{reason}");
        let brought = Position { index: entries[0].index, ..base };
        assert_eq!(boards.databases[1].applied(), brought, "and applies nothing after it");
        // Another's state has the row as well.
        let third = &mut boards.databases[2];
        third.connection.execute(&raised(VERSION + 1), []).unwrap();
        third.reload_version().unwrap();
        assert!(matches!(third.apply(&entries), Err(Failure::Halt(_))));
        assert_eq!(third.applied(), base);
        // Nor can it read whatever else that has.
        third.connection.execute("UPDATE _understudy_applied SET head = x'ff'", []).unwrap();
        let reason = third.reload().unwrap_err();
        assert!(reason.contains("install understudy 9.8.0 or newer"), "{reason}");
    }
}
