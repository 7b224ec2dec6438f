//! From what the two files hold to what a node starts from: the journal's
//! committed entries are applied to the database before any node exists, so that
//! a node's memory need hold nothing but the uncommitted tail.

use std::path::Path;

use understudy_core::{
    event::{Entry, EntryKind, HardState},
    limits::{APPLY_BYTES_MAX, UNAPPLIED_BYTES_MAX},
    member::{Member, MembershipChange},
    mutant,
    restored::Restored,
    sql,
};

use super::{
    REMEDY, StoreError,
    database::{Database, Failure},
    journal::{Journal, JournalError, Persist},
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
    let persist =
        Persist { entries: vec![first], hard_state, promises: Vec::new(), confirmed: false };
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
    let at = |error: &dyn std::fmt::Display| StoreError::new(directory, error);
    let mut hard_state = journal.hard_state();
    let last_index = journal.last_index();
    if database.applied().index > last_index {
        return Err(at(&format!(
            "state.db holds entry {}, journal.db ends at {last_index}: they do not belong \
             together. {REMEDY}",
            database.applied().index
        )));
    }
    if !mutant::is(1) {
        hard_state.commit = hard_state.commit.max(database.applied().index);
    }
    hard_state.commit = hard_state.commit.min(last_index);
    replay(journal, database, hard_state.commit).map_err(|error| at(&error))?;
    let applied = database.applied();
    let tail = journal
        .read(applied.index + 1, last_index + 1, UNAPPLIED_BYTES_MAX)
        .map_err(|error| at(&error))?;
    Ok(Restored {
        hard_state,
        applied,
        membership: database.membership().clone(),
        terms: journal.terms().map_err(|error| at(&error))?,
        last_index,
        tail,
        promises: journal.promises().map_err(|error| at(&error))?,
        suspect: journal.suspect(),
    })
}

fn replay(journal: &mut Journal, database: &mut Database, commit: u64) -> Result<(), String> {
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
    }
    Ok(())
}
