//! The database of a witness: where it stands in the log, who belongs to the group, and
//! what the group has set, as the leader says; none of the users' rows, nor their schema.
//!
//! It is the same file, committed and made durable in the same way, so that what a start
//! finds is some earlier place in the log, and the journal brings it forward.

use understudy_core::{event::Position, member::Membership, pages::Done};

use super::{Database, Failure, head::Head};

impl Database {
    /// Has it stand there, in one transaction and for good.
    pub(super) fn stand(
        &mut self,
        position: Position,
        membership: Membership,
    ) -> Result<Done, Failure> {
        if self.is_full() {
            return Ok(Done::Failed(String::from("the disk is full")));
        }
        self.begin()?;
        // What was applied on the way there is not known here.
        self.head = Head { applied: position, chain: 0, ..self.head };
        let written = self.replace_membership(membership);
        written.map_err(|error| self.failure(&error))?;
        self.commit()?;
        self.checkpoint_what_came()?;
        Ok(Done::Installed(Some(self.membership.clone())))
    }

    /// Takes what the leader says of the group's settings.
    pub(super) fn put_settings(&mut self, settings: &[(String, String)]) -> Result<(), Failure> {
        self.begin()?;
        let put = |database: &Self| -> rusqlite::Result<()> {
            database.connection.execute("DELETE FROM _understudy_setting", [])?;
            let insert = "INSERT OR REPLACE INTO _understudy_setting VALUES (?1, ?2)";
            let mut insert = database.connection.prepare_cached(insert)?;
            settings.iter().try_for_each(|row| insert.execute(row.clone()).map(drop))
        };
        put(self).map_err(|error| self.failure(&error))
    }
}

#[cfg(test)]
mod tests {
    use understudy_core::{
        event::{Entry, EntryKind, Outcome},
        member::{Member, MembershipChange},
        pages::Work,
        sql::{self, Origin, RequestKind, SqlRequest, Statement},
    };

    use super::*;
    use crate::store::database::{Options, QueryOutcome};

    fn open(directory: &std::path::Path) -> Database {
        Database::open(directory, Options { witness: true, ..Options::default() }).unwrap()
    }

    fn member(id: u64) -> Member {
        Member { id, name: format!("b{id}"), key: [3; 32], addresses: vec![], voter: true }
    }

    fn entry(index: u64, kind: EntryKind, data: Vec<u8>) -> Entry {
        Entry { index, term: 1, kind, data }
    }

    fn rows(database: &mut Database, sql: &str) -> String {
        let statement = Statement::new(sql, Vec::new());
        let request = SqlRequest::new(RequestKind::Query, Origin::Agent, vec![statement]);
        match database.query(&sql::encode(&request)) {
            Ok(QueryOutcome::Answered(answer)) => {
                format!("{:?}", sql::decode::<sql::SqlResponse>(&answer).unwrap().results)
            }
            _ => panic!("it is not answered"),
        }
    }

    #[test]
    fn entries_are_counted_and_only_members_are_kept_of_them() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut database = Database::open(one.path(), Options::default()).unwrap();
        let mut witness = open(other.path());
        let change = sql::encode(&MembershipChange::Add(member(1)));
        let first = entry(1, EntryKind::Membership, change);
        database.apply(std::slice::from_ref(&first)).unwrap();
        let statement = Statement::new("CREATE TABLE t(a); INSERT INTO t VALUES (1)", vec![]);
        let request = SqlRequest::new(RequestKind::Execute, Origin::User, vec![statement]);
        let executed = database.execute(database.applied(), &[sql::encode(&request)]).unwrap();
        let entries = [first, entry(2, EntryKind::Change, executed.change)];
        database.apply(&entries[1..]).unwrap();
        assert_eq!(witness.apply(&entries).unwrap(), [Outcome::Changed; 2]);
        assert_eq!((witness.applied(), witness.chain()), (database.applied(), database.chain()));
        assert_eq!(witness.membership(), database.membership());
        assert!(rows(&mut witness, "SELECT a FROM t").contains("no such table: t"));
        drop(witness);
        let again = open(other.path());
        assert_eq!(again.applied().index, 0, "it was not committed, and nothing is half there");
    }

    #[test]
    fn a_witness_stands_where_it_is_told_for_good() {
        let directory = tempfile::tempdir().unwrap();
        let mut witness = open(directory.path());
        let mut membership = Membership::default();
        let _ = membership.change(&MembershipChange::Add(member(1)));
        let _ = membership.change(&MembershipChange::Witness(member(2), [0; 16]));
        let position = Position { term: 2, index: 70 };
        let settings = vec![("profile".to_owned(), "wifi".to_owned())];
        let work = Work::Stand { position, membership: Box::new(membership.clone()) };
        assert!(witness.pages(work).is_ok());
        assert_eq!(witness.durable(), position, "no power cut can take it");
        assert!(witness.pages(Work::Settings { settings }).is_ok());
        witness.commit().unwrap();
        drop(witness);
        let mut again = open(directory.path());
        assert_eq!((again.applied(), again.membership()), (position, &membership));
        let shown = rows(&mut again, "SELECT value FROM _understudy_setting");
        assert!(shown.contains("119, 105, 102, 105"), "{shown}");
        again.apply(&[entry(71, EntryKind::Change, vec![9; 40])]).unwrap();
        assert_eq!(again.applied().index, 71, "it goes on from there");
    }
}
