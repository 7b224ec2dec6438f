//! What a board goes on with when the others of its group are gone for good: all
//! it holds, committed or not, and nobody but itself.
//!
//! The log goes on where it ends: entries that give this board a vote and take the
//! others out, counted as committed because nobody is left to say otherwise. What
//! stood in it uncommitted may have been acknowledged by those who are gone, so it
//! is kept. Everything changes in one write of the journal, the group's identity
//! too: a power cut leaves either group whole, never half of each.

use std::path::Path;

use understudy_core::{
    event::{Entry, EntryKind, HardState, NodeId, Trust},
    keys::KeyRing,
    member::{Member, Membership, MembershipChange},
    restored::Restored,
    sql,
};

use super::{
    REMEDY, StoreError,
    journal::{Journal, JournalError, Persist},
};
use crate::identity::Identity;

/// What a board has without the others.
pub struct Kept {
    /// Last index of its log.
    pub last_index: u64,
    /// Up to which it knew that the group had acknowledged.
    pub commit: u64,
    /// Its own row.
    own: Member,
    /// Who is left behind.
    pub others: Vec<Member>,
    /// The group's keys, which are those of the former group.
    keys: KeyRing,
    term: u64,
    /// Two sets of voters count.
    is_between: bool,
}

/// What board `own` holds, of what it starts from.
///
/// # Errors
/// When its journal has lost its end, or it is no member any more: names `directory`.
pub fn kept(directory: &Path, restored: &Restored, own: NodeId) -> Result<Kept, StoreError> {
    if restored.applied.index > restored.last_index {
        let reason = format!(
            "journal.db ends at entry {}, while state.db holds what came of {}: recover on another \
             board that is left, or save the tables of state.db with SQLite's shell. {REMEDY}",
            restored.last_index, restored.applied.index
        );
        return Err(StoreError::new(directory, reason));
    }
    let membership = at_the_end(restored)?;
    let is_between = !membership.outgoing.is_empty();
    let keys = membership.keys;
    let (own_rows, others): (Vec<_>, Vec<_>) =
        membership.members.into_iter().partition(|member| member.id == own);
    let gone = || StoreError::new(directory, "this board is no member of its group any more");
    Ok(Kept {
        last_index: restored.last_index,
        commit: restored.hard_state.commit,
        own: own_rows.into_iter().next().ok_or_else(gone)?,
        others,
        keys,
        term: restored.hard_state.term,
        is_between,
    })
}

/// The membership with all that the log holds.
fn at_the_end(restored: &Restored) -> Result<Membership, StoreError> {
    let mut membership = restored.membership.clone();
    for entry in restored.tail.iter().filter(|entry| entry.kind == EntryKind::Membership) {
        let unreadable = |_| {
            let place = format!("entry {}", entry.index);
            StoreError::new(Path::new("journal.db"), format!("{place} cannot be read. {REMEDY}"))
        };
        membership.change(&sql::decode(&entry.data).map_err(unreadable)?);
    }
    Ok(membership)
}

impl Kept {
    /// The number of the group's key from then on: no copy that was ever made is of it.
    #[must_use]
    pub fn next_key(&self) -> u32 {
        self.keys.newest() + 1
    }
}

/// This card may be an old one that was put back, and what the group knows of this board
/// then counts more starts than it has: it goes on above any of those.
const STARTS_SKIPPED: u64 = 1 << 12;

/// Makes this board the only member of the group that `identity` names, and its key,
/// of number [`Kept::next_key`], the only one.
///
/// # Errors
/// As [`Journal::write`]; then nothing has changed.
pub fn go_on_alone(
    journal: &mut Journal,
    kept: &Kept,
    identity: &Identity,
) -> Result<(), JournalError> {
    let term = kept.term + 1;
    let leave = kept.is_between.then_some(MembershipChange::Leave);
    let voter = MembershipChange::Add(Member { voter: true, ..kept.own.clone() });
    let gone = kept.others.iter().map(|member| MembershipChange::Remove(member.id));
    let changes = leave.into_iter().chain([voter]).chain(gone).chain(kept.keys.begun_anew());
    let entries: Vec<Entry> = (kept.last_index + 1..)
        .zip(changes)
        .map(|(index, change)| {
            let data = sql::encode(&change);
            Entry { index, term, kind: EntryKind::Membership, data }
        })
        .collect();
    let commit = kept.last_index + entries.len() as u64;
    let hard_state = HardState { term, vote: 0, commit };
    let trust = Some(Trust::Confirmed);
    journal.skip_starts(STARTS_SKIPPED)?;
    journal.found(identity, &Persist { entries, hard_state, trust, ..Persist::default() })
}

#[cfg(test)]
mod tests {
    use understudy_core::event::{Memory, Promise};

    use super::*;
    use crate::{
        identity::GroupKey,
        store::{database, database::Database, journal, restore::restore},
    };

    fn member(id: NodeId, voter: bool) -> Member {
        let name = format!("board-{id}");
        Member { id, name, key: [u8::try_from(id).unwrap(); 32], addresses: Vec::new(), voter }
    }

    fn identity(group: u8, node: NodeId) -> Identity {
        Identity {
            group: [group; 16],
            group_name: String::from("g"),
            group_keys: vec![GroupKey { number: u32::from(group), key: [group; 32] }],
            node,
            private_key: [1; 32],
            disk: [2; 16],
            acquaintances: Vec::new(),
        }
    }

    fn log(changes: &[MembershipChange]) -> Vec<Entry> {
        let entry = |(index, change)| Entry {
            index,
            term: 3,
            kind: EntryKind::Membership,
            data: sql::encode(change),
        };
        (1..).zip(changes).map(entry).collect()
    }

    /// A board that follows two others, of whose last entry it does not know that it
    /// was committed, and what a peer was seen to promise.
    fn survivor(directory: &Path) -> (Journal, Database) {
        let changes = [
            MembershipChange::Add(member(1, true)),
            MembershipChange::Add(member(2, false)),
            MembershipChange::Add(member(3, true)),
            MembershipChange::Add(member(4, true)),
        ];
        let mut journal = Journal::open(directory, &journal::Options::default()).unwrap();
        let promise = Promise { term: 3, vote: 1, matched: 4, sent: 0 };
        let memory = Memory { promise, ..Memory::default() };
        let persist = Persist {
            entries: log(&changes),
            hard_state: HardState { term: 3, vote: 1, commit: 3 },
            memories: Vec::from([(1, memory)]),
            trust: Some(Trust::Unconfirmed(Vec::new())),
            ..Persist::default()
        };
        journal.found(&identity(7, 2), &persist).unwrap();
        let database = Database::open(directory, database::Options::default()).unwrap();
        (journal, database)
    }

    #[test]
    fn it_keeps_all_it_holds_and_is_alone_in_another_group() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let (mut journal, mut database) = survivor(path);
        let restored = restore(path, &mut journal, &mut database).unwrap();
        let kept = kept(path, &restored, 2).unwrap();
        assert_eq!((kept.commit, kept.last_index), (3, 4));
        assert_eq!(kept.others.iter().map(|other| other.id).collect::<Vec<_>>(), [1, 3, 4]);
        let starts = journal.boot();
        go_on_alone(&mut journal, &kept, &identity(8, 2)).unwrap();
        assert!(journal.boot() >= starts + STARTS_SKIPPED, "above any that the group knows of");
        drop(journal);
        let mut journal = Journal::open(path, &journal::Options::default()).unwrap();
        assert_eq!(journal.identity().unwrap().group, [8; 16]);
        assert_eq!(journal.memories().unwrap(), [], "theirs bind nobody here");
        let restored = restore(path, &mut journal, &mut database).unwrap();
        assert_eq!(restored.membership.members, [member(2, true)]);
        assert_eq!(restored.membership.last_id, 4, "no number is given twice");
        assert_eq!((restored.applied.index, restored.hard_state.commit), (13, 13));
        let keys = &restored.membership.keys;
        assert_eq!((keys.oldest, keys.used, keys.newest(), keys.is_due), (1, 1, 1, false));
        assert_eq!((restored.hard_state.term, restored.trust), (4, Trust::Confirmed));
    }

    #[test]
    fn a_board_that_was_removed_or_lost_its_end_does_not_go_on_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let (mut journal, mut database) = survivor(path);
        let mut restored = restore(path, &mut journal, &mut database).unwrap();
        let said = |restored: &Restored, own| kept(path, restored, own).err().unwrap().to_string();
        assert!(said(&restored, 9).contains("no member of its group any more"));
        restored.applied.index = 5;
        assert!(said(&restored, 2).contains("journal.db ends at entry 4, while state.db"));
    }
}
