//! The data directory: made when it is not there, private, and used by one agent
//! at a time, which is its user's.

use std::{
    fs::{self, File, OpenOptions},
    io::{Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::Path,
    time::Duration,
};

use rustix::fs::{FlockOperation, OFlags, flock};

/// Tries at a lock that another holds, and the pause between two.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(50);

/// Held while the agent lives.
pub struct Lock(#[expect(dead_code, reason = "closing the file gives the lock back")] File);

/// Makes `directory` if need be and takes its lock.
///
/// # Errors
/// Names the directory, and the agent that uses it already.
pub fn take(directory: &Path) -> Result<Lock, String> {
    let at = |error: std::io::Error| format!("{}: {error}", directory.display());
    fs::DirBuilder::new().recursive(true).mode(0o750).create(directory).map_err(at)?;
    let path = directory.join("lock");
    // What it leads to elsewhere would be overwritten.
    let no_link = OFlags::NOFOLLOW.bits().cast_signed();
    let mut file = OpenOptions::new()
        .custom_flags(no_link)
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(|error| format!("{}: {error}{}", path.display(), whose(&path)))?;
    // One that is killed with its parent may outlive it for a moment.
    let is_free = (0..TRIES).any(|tried| {
        std::thread::sleep(if tried == 0 { Duration::ZERO } else { PAUSE });
        flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok()
    });
    if !is_free {
        let mut owner = String::new();
        // The lock decides; the process id in the file is a help to people.
        let _ = file.read_to_string(&mut owner);
        let owner = Some(owner.trim()).filter(|owner| !owner.is_empty());
        let process = owner.map_or_else(String::new, |owner| format!(" (process {owner})"));
        return Err(format!(
            "{} is in use by another agent{process}: two agents on one directory would destroy it",
            directory.display(),
        ));
    }
    // On a full disk there may be no room for it.
    let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
    Ok(Lock(file))
}

/// What to do about a file that is another user's.
fn whose(path: &Path) -> String {
    let me = rustix::process::geteuid().as_raw();
    let folder = path.parent().unwrap_or(path).display();
    match fs::metadata(path).map(|there| there.uid()) {
        Ok(owner) if owner != me => format!(
            ": it belongs to the user of number {owner}, and this agent runs as {me} (`sudo chown \
             -R {me} {folder}`, if the folder is to be this one's)"
        ),
        Ok(_) | Err(_) => String::new(),
    }
}

/// Files made in `directory` must be those of the user who has its journal or, where there
/// is none yet, the directory itself: another's agent could not open them. Some file systems
/// have one user for all.
///
/// # Errors
/// Names the directory, its user, and how to be that one; or there is none.
pub fn is_own(directory: &Path) -> Result<(), String> {
    let owner = |path: &Path| fs::metadata(path).map(|there| there.uid());
    let owner = owner(&directory.join("journal.db"))
        .or_else(|_| owner(directory))
        .map_err(|error| format!("{}: {error}", directory.display()))?;
    if owner == rustix::process::geteuid().as_raw() || made(directory).is_ok_and(|it| it == owner) {
        return Ok(());
    }
    Err(format!(
        "{} belongs to the user of number {owner}, whose agent must be able to read what is written \
         here: run this as that user (`sudo -u '#{owner}' understudy ...`)",
        directory.display()
    ))
}

/// Whose a file is that is made there.
fn made(directory: &Path) -> std::io::Result<u32> {
    let path = directory.join("owner");
    let mut options = OpenOptions::new();
    // What there is, or is linked to, is not touched.
    let file = options.write(true).create_new(true).mode(0o600).open(&path)?;
    let owner = file.metadata()?.uid();
    fs::remove_file(path).map(|()| owner)
}

/// What there is of a group, in the order in which it goes: a journal without a
/// database is a whole board, a database without a journal is none.
const OF_THE_GROUP: [&str; 6] =
    ["state.db", "state.db-wal", "state.db-shm", "journal.db", "journal.db-wal", "journal.db-shm"];

/// Ends what `directory` holds of a group, for good. Whoever has the files open still
/// must not close them in order: SQLite would remove their successors' WAL.
///
/// # Errors
/// Names the file that cannot be removed.
pub fn forget(directory: &Path) -> Result<(), String> {
    for name in OF_THE_GROUP {
        let path = directory.join(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(format!("{}: {error}", path.display()));
            }
            Ok(()) | Err(_) => {}
        }
    }
    let synced = File::open(directory).and_then(|directory| directory.sync_all());
    synced.map_err(|error| format!("{}: {error}", directory.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_made_and_used_by_one_agent_at_a_time() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("a/b");
        let lock = take(&directory).unwrap();
        let error = take(&directory).err().unwrap();
        assert!(error.contains(&std::process::id().to_string()), "{error}");
        drop(lock);
        take(&directory).unwrap();
    }

    #[test]
    fn a_lock_is_no_link_to_anything() {
        let directory = tempfile::tempdir().unwrap();
        let other = directory.path().join("other");
        fs::write(&other, "text").unwrap();
        std::os::unix::fs::symlink(&other, directory.path().join("lock")).unwrap();
        assert!(take(directory.path()).err().unwrap().contains("lock: "));
        assert_eq!(fs::read_to_string(&other).unwrap(), "text");
    }

    #[test]
    fn whose_files_are_made_in_it_is_said_by_its_journal_before_its_own_user() {
        let directory = tempfile::tempdir().unwrap();
        is_own(directory.path()).unwrap();
        if !rustix::process::geteuid().is_root() {
            let error = is_own(Path::new("/")).unwrap_err();
            assert!(error.contains("sudo -u '#0' understudy"), "{error}");
            return;
        }
        std::os::unix::fs::chown(directory.path(), Some(4_711), None).unwrap();
        let error = is_own(directory.path()).unwrap_err();
        assert!(error.contains("sudo -u '#4711' understudy"), "{error}");
        assert!(!directory.path().join("owner").exists(), "nothing stays of the question");
        let other = directory.path().join("other");
        fs::write(&other, "text").unwrap();
        std::os::unix::fs::symlink(&other, directory.path().join("owner")).unwrap();
        is_own(directory.path()).unwrap_err();
        assert_eq!(fs::read_to_string(&other).unwrap(), "text");
        fs::write(directory.path().join("journal.db"), b"").unwrap();
        is_own(directory.path()).unwrap();
    }
}
