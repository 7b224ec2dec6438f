//! The data folder: does it stay, is it mounted to be written, and is there room on its disk? One
//! that is not there yet is judged by the folder in which it would be made.

use std::{fs, path::Path};

use rustix::{
    fs::{StatVfs, statvfs},
    io::Errno,
};

use super::{Finding, Place, Verdict};
use crate::{status::amount, storage::Storage};

const ABOUT: &str = "data folder";

/// Less than this free is little, hundredths; less than so much is too little to go on with,
/// bytes: a journal and a checkpoint of the database want it.
const LOW_PERCENT: u64 = 10;
const LEAST_BYTES: u64 = 100_000_000;

pub(super) fn look(place: &Place<'_>) -> Vec<Finding> {
    let Some(storage) = Storage::of(place.root, place.directory) else { return Vec::new() };
    let shown = place.directory.display();
    if let Some(forgets) = storage.forgets {
        let (found, advice) = forgets.split_once(": ").unwrap_or((&forgets, ""));
        return vec![Finding::fault(ABOUT, format!("{shown}: {found}"), advice)];
    }
    if storage.is_read_only {
        return vec![read_only(&storage, &shown.to_string())];
    }
    if let Some(dangling) = dangling(place.directory) {
        return vec![dangling];
    }
    vec![match disk(place.directory) {
        Ok((folder, disk)) => of(&storage, place.directory, folder, &disk),
        Err(errno) => unseen(&shown.to_string(), errno),
    }]
}

fn unseen(shown: &str, errno: Errno) -> Finding {
    let found = format!("{shown} cannot be looked at: {errno}");
    if matches!(errno, Errno::ACCESS | Errno::PERM) {
        let advice = "call the doctor by `sudo`, or as the user that the agent runs as";
        return Finding::look(ABOUT, found, advice);
    }
    Finding::fault(ABOUT, found, "`--dir DIR` names another")
}

/// A link to a folder that is not there: its disk may not be mounted.
fn dangling(directory: &Path) -> Option<Finding> {
    let is_gone = matches!(directory.try_exists(), Ok(false));
    let leads_to = fs::read_link(directory).ok().filter(|_| is_gone)?;
    let (shown, leads_to) = (directory.display(), leads_to.display());
    Some(Finding::fault(
        ABOUT,
        format!("{shown} is a link to {leads_to}, which is not there"),
        format!("is the disk mounted that {leads_to} is on? Else make that folder"),
    ))
}

fn read_only(storage: &Storage, shown: &str) -> Finding {
    let (kind, point) = (&storage.kind, storage.point.display());
    Finding::fault(
        ABOUT,
        format!("{shown} is on {kind} that cannot be written (mounted at {point}, read-only)"),
        format!(
            "where that is meant, give the data a folder on a disk of its own (`--dir DIR`, or a \
             mount at its place), else `mount -o remount,rw {point}`; a disk that could be \
             written before has errors (`dmesg`): copy what you need, and put in another"
        ),
    )
}

/// The disk of this folder, or of the nearest above it that is there.
fn disk(directory: &Path) -> Result<(&Path, StatVfs), Errno> {
    for folder in directory.ancestors().filter(|it| !it.as_os_str().is_empty()) {
        match statvfs(folder) {
            Err(Errno::NOENT) => {}
            other => return other.map(|disk| (folder, disk)),
        }
    }
    statvfs(".").map(|disk| (Path::new("."), disk))
}

fn of(storage: &Storage, directory: &Path, folder: &Path, disk: &StatVfs) -> Finding {
    let bytes = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
    let (free_bytes, bytes) = (bytes(disk.f_bavail), bytes(disk.f_blocks));
    let shown = directory.display();
    if folder == directory {
        return room(&storage.kind, &shown.to_string(), free_bytes, bytes);
    }
    let found =
        room(&storage.kind, &format!("{shown}, which is not there yet,"), free_bytes, bytes);
    match found.verdict {
        Verdict::Ok => Finding::look(
            ABOUT,
            found.found,
            "the agent makes it when it starts; `--dir DIR` names another",
        ),
        Verdict::Look | Verdict::Fault => found,
    }
}

fn room(kind: &str, shown: &str, free_bytes: u64, bytes: u64) -> Finding {
    let percent = u128::from(free_bytes) * 100 / u128::from(bytes.max(1));
    let found = format!("{shown} on {kind}, {} free ({percent} %)", amount(free_bytes));
    let advice = "make room on that disk: a full one takes no writes, and cards wear out sooner \
                  the fuller they are (`understudy retention` bounds what readings take)";
    match (free_bytes < LEAST_BYTES, percent < u128::from(LOW_PERCENT)) {
        (true, _) => Finding::fault(ABOUT, found, advice),
        (false, true) => Finding::look(ABOUT, found, advice),
        (false, false) => Finding::ok(ABOUT, found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::{Verdict, rig::Tree};

    #[test]
    fn a_folder_in_memory_is_a_fault_and_one_on_a_disk_is_none() {
        let mounts = |kind: &str| format!("22 1 179:2 / / rw - {kind} /dev/root rw\n");
        let tree = Tree::new(&[("proc/self/mountinfo", &mounts("tmpfs"))]);
        tree.finds(look, Verdict::Fault, "data folder: /: its data is in memory (tmpfs) after");
        tree.put("proc/self/mountinfo", &mounts("ext4"));
        let found = tree.look(look);
        assert!(found[0].1.contains("/ on ext4, "), "{found:?}");
        assert!(Tree::new(&[]).look(look).is_empty());
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_a_fault_whether_it_is_there_or_not() {
        let mounts = "22 1 179:2 / / ro - ext4 /dev/root ro\n";
        let tree = Tree::new(&[("proc/self/mountinfo", mounts)]);
        let words = " is on ext4 that cannot be written (mounted at /, read-only) where";
        tree.finds(look, Verdict::Fault, &format!("/{words}"));
        tree.finds(at("/no/such/folder"), Verdict::Fault, &format!("/no/such/folder{words}"));
    }

    #[test]
    fn a_folder_that_is_not_there_is_told_from_one_that_nobody_may_look_at() {
        let mounts = "22 1 179:2 / / rw - ext4 /dev/root rw\n";
        let tree = Tree::new(&[("proc/self/mountinfo", mounts)]);
        let found = tree.look(at("/no/such/folder"));
        let words = "/no/such/folder, which is not there yet, on ext4, ";
        assert!(found[0].1.contains(words), "{found:?}");
        let unseen = unseen("/x", Errno::ACCESS);
        assert_eq!(
            (unseen.verdict, unseen.found.contains("Permission denied")),
            (Verdict::Look, true)
        );
        // Here the agent cannot make it either: what is above it is no folder.
        let file = tree.folder.path().join("proc/self/mountinfo/none");
        let at_file = |place: &Place<'_>| look(&Place { directory: &file, ..*place });
        tree.finds(at_file, Verdict::Fault, "cannot be looked at: Not a dir");
    }

    #[test]
    fn a_link_that_leads_nowhere_is_said_to() {
        let mounts = "22 1 179:2 / / rw - ext4 /dev/root rw\n";
        let tree = Tree::new(&[("proc/self/mountinfo", mounts)]);
        let link = tree.folder.path().join("link");
        std::os::unix::fs::symlink("/mnt/none/x", &link).unwrap();
        let at_link = |place: &Place<'_>| look(&Place { directory: &link, ..*place });
        tree.finds(at_link, Verdict::Fault, "link is a link to /mnt/none/x, which is not there");
    }

    fn at(directory: &'static str) -> impl Fn(&Place<'_>) -> Vec<Finding> {
        move |place| look(&Place { directory: Path::new(directory), ..*place })
    }

    #[test]
    fn little_room_is_worth_a_look_and_none_is_a_fault() {
        let verdict = |free, all| room("ext4", "/x", free, all).verdict;
        assert_eq!(verdict(5_000_000_000, 10_000_000_000), Verdict::Ok);
        assert_eq!(verdict(900_000_000, 10_000_000_000), Verdict::Look);
        assert_eq!(verdict(90_000_000, 100_000_000), Verdict::Fault);
        let found = room("ext4", "/x", 900_000_000, 10_000_000_000).found;
        assert_eq!(found, "/x on ext4, 900.0 MB free (9 %)");
    }
}
