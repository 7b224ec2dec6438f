//! `understudy recover`: the majority of a group is gone for good, and a board
//! that is left goes on with what it has, as a new group.
//!
//! It works on the data directory of an agent that does not run. The new group
//! has another identity and another key, so that no board of the former one can
//! ever mix in: what they agree on from now on, and what this one does, can no
//! longer be the same.

use std::{
    fs::{self, Metadata},
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use crate::{
    config::RunOptions,
    directory,
    driver::random::random,
    identity::{GroupKey, Identity},
    store::{
        StoreError,
        database::Database,
        journal::Journal,
        recover::{go_on_alone, kept},
        restore,
    },
    time::rfc3339,
};

/// What is to be known before, and after.
pub struct Report {
    /// What the group's makers call it.
    pub group: String,
    /// Last entry this board holds.
    pub last_index: u64,
    /// Up to which it knew that the group had acknowledged.
    pub commit: u64,
    /// When it last wrote its journal, in UTC by this board's clock.
    pub written: Option<String>,
    /// The boards it goes on without.
    pub others: Vec<String>,
    /// They have found that its rows contradict theirs.
    pub fenced: bool,
}

/// Looks at what this board has and, when `sure`, makes it a group of its own.
///
/// # Errors
/// In words: an agent runs here, the directory is another user's, there is no
/// group, or a file cannot be used. Then nothing has changed.
pub fn recover(options: &RunOptions, sure: bool) -> Result<Report, String> {
    let directory = &options.directory;
    directory::is_own(directory)?;
    let written = written(directory);
    let _lock = directory::take(directory).map_err(|error| {
        format!("{error}. Stop it first, where it is meant to go on without the others")
    })?;
    let text = |error: StoreError| error.to_string();
    let mut journal = Journal::open_own(directory).map_err(text)?;
    let Some(identity) = journal.identity().cloned() else {
        return Err(format!(
            "{}: this board belongs to no group, so there is nothing to recover",
            directory.display()
        ));
    };
    if journal.is_witness() {
        return Err(String::from(
            "this board is a witness and keeps no data: recover on a board that does",
        ));
    }
    let mut database = Database::open(directory, options.database.options()).map_err(text)?;
    let restored = restore::restore(directory, &mut journal, &mut database).map_err(text)?;
    let kept = kept(directory, &restored, identity.node).map_err(text)?;
    if kept.others.is_empty() {
        return Err(String::from(
            "this board is the only one of its group: start its agent, and it goes on",
        ));
    }
    if sure {
        let identity = Identity {
            group: random()?,
            group_keys: vec![GroupKey { number: kept.next_key(), key: random()? }],
            acquaintances: Vec::new(),
            ..identity.clone()
        };
        go_on_alone(&mut journal, &kept, &identity).map_err(|error| error.to_string())?;
    }
    Ok(Report {
        group: identity.group_name,
        last_index: kept.last_index,
        commit: kept.commit,
        written,
        others: kept.others.iter().map(|member| member.name.clone()).collect(),
        fenced: restored.scrubs.fenced(&[identity.node]).contains(&identity.node),
    })
}

/// The last change of the journal's files, before this process touches them.
fn written(directory: &Path) -> Option<String> {
    let files = ["journal.db", "journal.db-wal"].map(|name| fs::metadata(directory.join(name)));
    let times = files.iter().flatten().filter_map(|file: &Metadata| file.modified().ok());
    let last: SystemTime = times.max()?;
    let seconds = last.duration_since(UNIX_EPOCH).ok()?.as_secs();
    Some(rfc3339(i64::try_from(seconds).ok()?, 0))
}

#[cfg(test)]
mod tests {
    use understudy_core::{
        event::{Entry, EntryKind, HardState},
        member::{Member, MembershipChange},
        sql,
    };

    use super::*;
    use crate::{
        config::{Config, Places, RunFlags},
        store::journal::{Options, Persist},
    };

    fn member(id: u64) -> Member {
        let name = format!("board-{id}");
        Member { id, name, key: [1; 32], addresses: Vec::new(), voter: true }
    }

    /// Board 1 of a group of two, of which it knows nothing to be committed.
    fn left(directory: &Path) -> Identity {
        let identity = Identity {
            group: [7; 16],
            group_name: String::from("g"),
            group_keys: vec![GroupKey { number: 0, key: [7; 32] }],
            node: 1,
            private_key: [8; 32],
            disk: [9; 16],
            acquaintances: Vec::from([member(2)]),
        };
        let entry = |index| Entry {
            index,
            term: 1,
            kind: EntryKind::Membership,
            data: sql::encode(&MembershipChange::Add(member(index))),
        };
        let persist = Persist {
            entries: Vec::from([entry(1), entry(2)]),
            hard_state: HardState { term: 1, vote: 1, commit: 0 },
            ..Persist::default()
        };
        let mut journal = Journal::open(directory, &Options::default()).unwrap();
        journal.found(&identity, &persist).unwrap();
        identity
    }

    #[test]
    fn another_group_with_another_key_is_made_only_where_one_is_sure() {
        let directory = tempfile::tempdir().unwrap();
        let former = left(directory.path());
        let places = Places::new(Some(directory.path()), None);
        let options =
            RunOptions::resolve(&places, &Config::default(), RunFlags::default()).unwrap();
        let now = || {
            let journal = Journal::open(directory.path(), &Options::default()).unwrap();
            journal.identity().cloned().unwrap()
        };
        let report = recover(&options, false).ok().unwrap();
        assert_eq!((report.last_index, report.commit), (2, 0));
        assert_eq!((report.others, report.fenced), (vec![String::from("board-2")], false));
        assert!(report.written.is_some_and(|time| time.starts_with("20")));
        assert!(now() == former, "it was only looked at");
        recover(&options, true).ok().unwrap();
        let renewed = now();
        assert!(renewed.group != former.group);
        let [key] = renewed.group_keys[..] else { panic!("one key") };
        assert!(key.number == 1 && key.key != [7; 32]);
        assert_eq!(renewed.acquaintances, []);
        let kept = Identity {
            group: renewed.group,
            group_keys: vec![key],
            acquaintances: Vec::new(),
            ..former
        };
        assert!(renewed == kept, "it is the same board on the same disk");
        let again = recover(&options, true).err().unwrap();
        assert!(again.contains("the only one of its group"), "{again}");
    }
}
