//! Who belongs to the group, as the database has it: a table of ours, changed by
//! entries of their own.

use understudy_core::member::{Member, Membership, MembershipChange};

use super::Database;

impl Database {
    pub(super) fn read_membership(&self) -> rusqlite::Result<Membership> {
        let mut select = self.connection.prepare(
            "SELECT id, name, key, addresses, voter FROM _understudy_member ORDER BY id",
        )?;
        let members = select.query_map([], |row| {
            let addresses: String = row.get(3)?;
            Ok(Member {
                id: row.get::<_, i64>(0)?.cast_unsigned(),
                name: row.get(1)?,
                key: row.get(2)?,
                addresses: addresses.lines().map(String::from).collect(),
                voter: row.get(4)?,
            })
        })?;
        Ok(Membership { members: members.collect::<Result<_, _>>()?, last_id: self.head.last_id })
    }

    pub(super) fn change_membership(&mut self, change: &MembershipChange) -> rusqlite::Result<()> {
        self.membership.change(change);
        self.head.last_id = self.membership.last_id;
        match change {
            MembershipChange::Add(member) => {
                self.connection
                    .prepare_cached(
                        "INSERT OR REPLACE INTO _understudy_member VALUES (?1, ?2, ?3, ?4, ?5)",
                    )?
                    .execute(rusqlite::params![
                        member.id.cast_signed(),
                        member.name,
                        member.key,
                        member.addresses.join("\n"),
                        member.voter
                    ])?;
            }
            MembershipChange::Remove(id) => {
                self.connection
                    .prepare_cached("DELETE FROM _understudy_member WHERE id = ?1")?
                    .execute([id.cast_signed()])?;
            }
        }
        Ok(())
    }
}
