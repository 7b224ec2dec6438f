//! Who belongs to the group, as the database has it: a table of ours, changed by
//! entries of their own.

use rusqlite::{Error::FromSqlConversionFailure, OptionalExtension as _, types::Type};
use understudy_core::{
    member::{Invitation, Member, Membership, MembershipChange},
    sql,
};

use super::Database;

/// What stands in a row's `voter`, bit by bit: it votes; it votes in the set that is
/// being left; it follows because somebody wished so; it is a member no more; it is a
/// witness.
const VOTES: i64 = 1;
const VOTED: i64 = 2;
const RESTS: i64 = 4;
const REMOVED: i64 = 8;
const WITNESS: i64 = 16;

impl Database {
    pub(super) fn read_membership(&self) -> rusqlite::Result<Membership> {
        let mut membership = Membership { last_id: self.head.last_id, ..Membership::default() };
        let mut select = self.connection.prepare(
            "SELECT id, name, key, addresses, voter FROM _understudy_member ORDER BY id",
        )?;
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            let standing: i64 = row.get(4)?;
            let id = row.get::<_, i64>(0)?.cast_unsigned();
            let key = row.get(2)?;
            if standing & REMOVED != 0 {
                membership.removed.push((id, key));
                continue;
            }
            if standing & VOTED != 0 {
                membership.outgoing.push(id);
            }
            if standing & RESTS != 0 {
                membership.resting.push(id);
            }
            if standing & WITNESS != 0 {
                membership.witnesses.push(id);
            }
            let addresses: String = row.get(3)?;
            membership.members.push(Member {
                id,
                name: row.get(1)?,
                key,
                addresses: addresses.lines().map(String::from).collect(),
                voter: standing & VOTES != 0,
            });
        }
        let mut select = self
            .connection
            .prepare("SELECT secret, lifetime_ms, uses FROM _understudy_token ORDER BY id")?;
        let invitations = select.query_map([], |row| {
            let lifetime_ms = row.get::<_, i64>(1)?.cast_unsigned();
            Ok(Invitation { id: row.get(0)?, lifetime_ms, uses: row.get(2)? })
        })?;
        membership.invitations = invitations.collect::<Result<_, _>>()?;
        let ring: Option<Vec<u8>> = self
            .connection
            .query_row("SELECT ring FROM _understudy_key", [], |row| row.get(0))
            .optional()?;
        if let Some(ring) = ring {
            let unreadable = |error| FromSqlConversionFailure(0, Type::Blob, Box::new(error));
            membership.keys = sql::decode(&ring).map_err(unreadable)?;
        }
        Ok(membership)
    }

    /// False when it does not fit: then nothing has changed.
    pub(super) fn change_membership(
        &mut self,
        change: &MembershipChange,
    ) -> rusqlite::Result<bool> {
        let before = self.membership.clone();
        if !self.membership.change(change) {
            return Ok(false);
        }
        self.head.last_id = self.membership.last_id;
        self.write_membership(&before)?;
        Ok(true)
    }

    /// Puts another membership in the place of this.
    pub(super) fn replace_membership(&mut self, to: Membership) -> rusqlite::Result<()> {
        let before = std::mem::replace(&mut self.membership, to);
        self.head.last_id = self.membership.last_id;
        self.write_membership(&before)
    }

    /// Writes the rows that have changed.
    fn write_membership(&self, before: &Membership) -> rusqlite::Result<()> {
        let (old, new) = (rows(before), rows(&self.membership));
        for (id, _) in old.iter().filter(|(id, _)| !new.iter().any(|(other, _)| other == id)) {
            self.connection
                .prepare_cached("DELETE FROM _understudy_member WHERE id = ?1")?
                .execute([id.cast_signed()])?;
        }
        let put = "INSERT OR REPLACE INTO _understudy_member VALUES (?1, ?2, ?3, ?4, ?5)";
        for (id, (name, key, addresses, standing)) in new.iter().filter(|row| !old.contains(row)) {
            self.connection.prepare_cached(put)?.execute(rusqlite::params![
                id.cast_signed(),
                name,
                key,
                addresses,
                standing
            ])?;
        }
        if before.keys != self.membership.keys {
            self.connection
                .prepare_cached("INSERT OR REPLACE INTO _understudy_key VALUES (1, ?1)")?
                .execute([sql::encode(&self.membership.keys)])?;
        }
        if before.invitations != self.membership.invitations {
            self.connection.execute("DELETE FROM _understudy_token", [])?;
            for (place, Invitation { id, lifetime_ms, uses }) in
                self.membership.invitations.iter().enumerate()
            {
                self.connection
                    .prepare_cached("INSERT INTO _understudy_token VALUES (?1, ?2, ?3, ?4)")?
                    .execute(rusqlite::params![
                        place as i64,
                        id,
                        lifetime_ms.cast_signed(),
                        uses
                    ])?;
            }
        }
        Ok(())
    }
}

/// Name, key, addresses and standing, by id.
type Row = (u64, (String, [u8; 32], String, i64));

fn rows(membership: &Membership) -> Vec<Row> {
    let bit = |set: bool, bit| if set { bit } else { 0 };
    let members = membership.members.iter().map(|member| {
        let standing = bit(member.voter, VOTES)
            | bit(membership.outgoing.contains(&member.id), VOTED)
            | bit(membership.resting.contains(&member.id), RESTS)
            | bit(membership.is_witness(member.id), WITNESS);
        (member.id, (member.name.clone(), member.key, member.addresses.join("\n"), standing))
    });
    let removed = membership.removed.iter();
    let removed = removed.map(|(id, key)| (*id, (String::new(), *key, String::new(), REMOVED)));
    members.chain(removed).collect()
}

#[cfg(test)]
mod tests {
    use understudy_core::{
        event::{Entry, EntryKind, Outcome},
        keys::SealedKey,
    };

    use super::*;
    use crate::store::database::Options;

    fn member(id: u64, voter: bool) -> Member {
        let key = [u8::try_from(id).unwrap(); 32];
        Member { id, name: format!("b{id}"), key, addresses: vec!["a:1".into()], voter }
    }

    #[test]
    fn every_part_of_the_membership_is_read_back_from_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let mut database = Database::open(directory.path(), Options::default()).unwrap();
        let invitation = |id| Invitation { id: [id; 16], lifetime_ms: 9, uses: 2 };
        let key = |number| SealedKey { number, copies: vec![(1, vec![7; 80]), (2, vec![8; 80])] };
        let changes = [
            MembershipChange::Add(member(1, true)),
            MembershipChange::Add(member(2, true)),
            MembershipChange::Invite(invitation(7)),
            MembershipChange::Invite(invitation(3)),
            MembershipChange::Admit(member(3, false), [7; 16]),
            MembershipChange::Admit(member(4, false), [7; 16]),
            MembershipChange::Rest(3),
            MembershipChange::Remove(4),
            MembershipChange::KeyInstall(key(1)),
            MembershipChange::KeyUse(1),
            MembershipChange::KeyInstall(key(3)),
            MembershipChange::Invite(invitation(3)),
            MembershipChange::Witness(member(6, false), [7; 16]),
            MembershipChange::Joint(vec![member(1, false), member(3, true)]),
            MembershipChange::Add(member(5, false)),
        ];
        let mut expected = Membership::default();
        let mut fits = Vec::new();
        for (index, change) in (1..).zip(&changes) {
            let data = sql::encode(change);
            let entry = Entry { index, term: 1, kind: EntryKind::Membership, data };
            fits.extend(database.apply(&[entry]).unwrap());
            let _ = expected.change(change);
        }
        assert_eq!(fits.last(), Some(&Outcome::Skipped), "two sets of voters count");
        assert_eq!(fits.iter().filter(|outcome| **outcome == Outcome::Changed).count(), 13);
        assert_eq!((expected.outgoing.as_slice(), expected.voters()), (&[1, 2][..], vec![2, 3]));
        assert_eq!(database.membership(), &expected);
        database.commit().unwrap();
        assert_eq!(database.read_membership().unwrap(), expected);
    }
}
