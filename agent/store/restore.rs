//! From what the two files hold to what a node starts from: the journal's
//! committed entries are applied to the database before any node exists, so that
//! a node's memory need hold nothing but the uncommitted tail.

use std::path::Path;

use understudy_core::{
    event::{Cut, Entry, EntryKind, HardState, Position},
    limits::APPLY_BYTES_MAX,
    member::{Member, MembershipChange},
    mutant,
    restored::{Restored, TermRun},
    sql,
};

use super::{
    REMEDY, StoreError,
    database::{Database, Failure},
    journal::{Journal, JournalError, Persist},
    shelter::give_shelter,
};
use crate::identity::Identity;

/// Times the database may lose its transaction while it is brought forward.
const RESETS_MAX: u32 = 8;

/// Makes `founder` the first member of a new group, on this disk alone.
///
/// # Errors
/// As [`Journal::write`].
pub fn found(
    journal: &mut Journal,
    identity: &Identity,
    founder: Member,
) -> Result<(), JournalError> {
    let first = Entry {
        index: 1,
        term: 1,
        kind: EntryKind::Membership,
        data: sql::encode(&MembershipChange::Add(founder)),
    };
    let hard_state = HardState { term: 1, vote: 0, commit: 1 };
    let persist = Persist { entries: vec![first], hard_state, ..Persist::default() };
    journal.found(identity, &persist)
}

/// Brings the database forward to all that the journal knows to be committed.
///
/// # Errors
/// When a file is damaged or an entry does not fit: the text says which.
pub fn restore(
    directory: &Path,
    journal: &mut Journal,
    database: &mut Database,
) -> Result<Restored, StoreError> {
    restore_telling(directory, journal, database, || {})
}

/// The same; `tell` hears of every piece that is done, since there may be many.
///
/// # Errors
/// As [`restore`].
pub fn restore_telling(
    directory: &Path,
    journal: &mut Journal,
    database: &mut Database,
    tell: impl FnMut(),
) -> Result<Restored, StoreError> {
    let at = |error: &dyn std::fmt::Display| StoreError::new(directory, error);
    finish_coming(journal, database).map_err(|error| at(&error))?;
    let mut hard_state = journal.hard_state();
    let last_index = journal.last_index();
    let terms = journal.terms().map_err(|error| at(&error))?;
    if database.applied().index <= last_index {
        belong_together(database.applied(), journal.start(), &terms).map_err(|error| at(&error))?;
    }
    // The start-up case of raft-rs's #537: see `Restored`.
    if !mutant::is(1) {
        hard_state.commit = hard_state.commit.max(database.applied().index);
    }
    hard_state.commit = hard_state.commit.min(last_index);
    replay(journal, database, hard_state.commit, tell).map_err(|error| at(&error))?;
    let applied = database.applied();
    let tail = tail(journal, applied.index).map_err(|error| at(&error))?;
    give_shelter(journal, database, &tail).map_err(|error| at(&error))?;
    Ok(Restored {
        hard_state,
        applied,
        membership: database.membership().clone(),
        start: journal.start(),
        given_up: journal.given_up(),
        terms,
        stretches: journal.stretches().map_err(|error| at(&error))?,
        last_index,
        tail,
        memories: journal.memories().map_err(|error| at(&error))?,
        suspect: journal.suspect(),
        trust: journal.trust().clone(),
        scrubs: database.scrubs().clone(),
        duties: database.duties().to_vec(),
        spool: journal.spool().map_err(|error| at(&error))?,
    })
}

/// A state that came into the database from another board, as the journal said it
/// would, and that the log does not lead to: the process ended before the log began
/// anew behind it.
fn finish_coming(journal: &mut Journal, database: &mut Database) -> Result<(), JournalError> {
    let applied = database.applied();
    let leads_there = journal.place(applied.index)? == Some(applied.term);
    if journal.coming() != Some(applied) || leads_there {
        return Ok(());
    }
    let lost = tail(journal, journal.start().index)?;
    give_shelter(journal, database, &lost)?;
    let HardState { term, vote, .. } = journal.hard_state();
    let vote = if term < applied.term { 0 } else { vote };
    let hard_state = HardState { term: term.max(applied.term), vote, commit: applied.index };
    let cut = Some(Cut::Anew(applied));
    journal.write(&[Persist { hard_state, cut, ..Persist::default() }])
}

/// What the database applied last is what the journal holds there.
fn belong_together(applied: Position, start: Position, terms: &[TermRun]) -> Result<(), String> {
    if applied.index < start.index {
        return Err(format!(
            "state.db holds what came of entry {}, and journal.db begins after entry {}: it is \
             older than it was. {REMEDY}",
            applied.index, start.index
        ));
    }
    let run = terms.iter().rfind(|run| run.first <= applied.index);
    let journalled = run.map_or(start.term, |run| run.term);
    if journalled == applied.term {
        return Ok(());
    }
    Err(format!(
        "state.db holds entry {} of term {}, journal.db has one of term {journalled} there: they \
         do not belong together. {REMEDY}",
        applied.index, applied.term
    ))
}

fn replay(
    journal: &mut Journal,
    database: &mut Database,
    commit: u64,
    mut tell: impl FnMut(),
) -> Result<(), String> {
    let mut resets = 0;
    while database.applied().index < commit {
        let low = database.applied().index + 1;
        let entries =
            journal.read(low, commit + 1, APPLY_BYTES_MAX).map_err(|error| error.to_string())?;
        match database.apply(&entries) {
            Ok(_) => {}
            Err(Failure::Reset { .. }) if resets < RESETS_MAX => resets += 1,
            Err(Failure::Halt(reason)) => return Err(reason),
            Err(failure) => return Err(format!("state.db cannot be brought forward: {failure:?}")),
        }
        tell();
    }
    Ok(())
}

/// All entries above `applied`: no more than a node holds there while it runs.
fn tail(journal: &mut Journal, applied: u64) -> Result<Vec<Entry>, JournalError> {
    let (mut next, end) = (applied + 1, journal.last_index() + 1);
    let mut tail = Vec::new();
    while next < end {
        tail.extend(journal.read(next, end, APPLY_BYTES_MAX)?);
        next = tail.last().map_or(end, |entry: &Entry| entry.index + 1);
    }
    Ok(tail)
}

#[cfg(test)]
mod tests {
    use understudy_core::limits::LOG_PIECE_ENTRIES_MAX;

    use super::*;
    use crate::store::{database, journal};

    fn entry(index: u64, term: u64) -> Entry {
        Entry { index, term, kind: EntryKind::Change, data: Vec::new() }
    }

    /// What a node starts from, of a journal and a database with these entries.
    fn restored(journalled: &[Entry], applied: &[Entry]) -> Result<Restored, StoreError> {
        let directory = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(directory.path(), &journal::Options::default()).unwrap();
        let hard_state = HardState { term: 3, vote: 0, commit: 0 };
        let entries = journalled.to_vec();
        let persist = Persist { entries, hard_state, ..Persist::default() };
        journal.write(&[persist]).unwrap();
        let options = database::Options::default();
        let mut database = Database::open(directory.path(), options).unwrap();
        database.apply(applied).unwrap();
        restore(directory.path(), &mut journal, &mut database)
    }

    #[test]
    fn a_journal_that_ends_before_the_database_is_a_lost_disk() {
        let restored = restored(&[entry(1, 1)], &[entry(1, 1), entry(2, 1)]).unwrap();
        assert!(restored.is_lost());
        assert_eq!((restored.applied.index, restored.last_index), (2, 1));
        assert_eq!(restored.hard_state.commit, 1);
    }

    const COMING: Position = Position { term: 2, index: 7 };

    /// A journal that said that a state of index 7 would come, over a log of its own,
    /// and a database that holds these.
    fn coming(applied: &[Entry]) -> Result<Restored, StoreError> {
        let directory = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(directory.path(), &journal::Options::default()).unwrap();
        let hard_state = HardState { term: 2, vote: 5, commit: 1 };
        let entries = vec![entry(1, 1), entry(2, 1)];
        let cut = Some(Cut::Coming(COMING));
        journal.write(&[Persist { entries, hard_state, cut, ..Persist::default() }]).unwrap();
        let options = database::Options::default();
        let mut database = Database::open(directory.path(), options).unwrap();
        database.apply(applied).unwrap();
        restore(directory.path(), &mut journal, &mut database)
    }

    #[test]
    fn a_state_that_came_before_the_log_began_anew_is_no_lost_disk() {
        let entries: Vec<_> = (1..=7).map(|index| entry(index, 1 + index / 7)).collect();
        let restored = coming(&entries).unwrap();
        assert!(!restored.is_lost());
        assert_eq!((restored.start, restored.last_index, restored.applied), (COMING, 7, COMING));
        assert_eq!(restored.hard_state, HardState { term: 2, vote: 5, commit: 7 });
        assert!(coming(&entries[..6]).unwrap().is_lost(), "that is another state");
        let before = coming(&entries[..1]).unwrap();
        assert_eq!((before.start, before.last_index), (Position::default(), 2));
    }

    #[test]
    fn a_database_older_than_the_log_s_beginning_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(directory.path(), &journal::Options::default()).unwrap();
        let hard_state = HardState { term: 1, vote: 0, commit: 0 };
        let entries: Vec<_> = (1..=9).map(|index| entry(index, 1)).collect();
        let cut = Some(Cut::UpTo(Position { term: 1, index: 4 }));
        let first = Persist { entries, hard_state, ..Persist::default() };
        let second = Persist { entries: Vec::new(), cut, ..first.clone() };
        journal.write(&[first, second]).unwrap();
        let options = database::Options::default();
        let mut database = Database::open(directory.path(), options).unwrap();
        let error = restore(directory.path(), &mut journal, &mut database).err().unwrap();
        assert!(error.to_string().contains("begins after entry 4"), "{error}");
    }

    #[test]
    fn a_commit_index_behind_the_database_is_raised() {
        let restored = restored(&[entry(1, 1), entry(2, 1)], &[entry(1, 1)]).unwrap();
        assert!(!restored.is_lost());
        assert_eq!((restored.hard_state.commit, restored.tail.len()), (1, 1));
    }

    #[test]
    fn a_tail_of_any_length_is_restored_whole() {
        let last = LOG_PIECE_ENTRIES_MAX as u64 + 9;
        let entries: Vec<_> = (1..=last).map(|index| entry(index, 1)).collect();
        let restored = restored(&entries, &[]).unwrap();
        assert_eq!(restored.tail, entries);
    }

    #[test]
    fn every_piece_that_is_brought_forward_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(directory.path(), &journal::Options::default()).unwrap();
        let last = 2 * LOG_PIECE_ENTRIES_MAX as u64 + 1;
        let entries: Vec<_> = (1..=last).map(|index| entry(index, 1)).collect();
        let hard_state = HardState { term: 1, vote: 0, commit: last };
        journal.write(&[Persist { entries, hard_state, ..Persist::default() }]).unwrap();
        let options = database::Options::default();
        let mut database = Database::open(directory.path(), options).unwrap();
        let mut told = 0;
        restore_telling(directory.path(), &mut journal, &mut database, || told += 1).unwrap();
        assert_eq!((told, database.applied().index), (3, last));
    }

    #[test]
    fn another_journals_entries_are_refused() {
        let error = restored(&[entry(1, 1), entry(2, 3)], &[entry(1, 1), entry(2, 1)]).err();
        let error = error.unwrap().to_string();
        assert!(error.contains("entry 2 of term 1, journal.db has one of term 3"), "{error}");
    }
}
