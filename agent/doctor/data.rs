//! The data folder: does it stay, and is there room on its disk?

use super::{Finding, Place};
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
    let Ok(disk) = rustix::fs::statvfs(place.directory) else {
        let advice = "the agent makes it when it starts; `--dir DIR` names another";
        return vec![Finding::look(ABOUT, format!("{shown} is not there"), advice)];
    };
    let bytes = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
    vec![room(&storage.kind, &shown.to_string(), bytes(disk.f_bavail), bytes(disk.f_blocks))]
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
    fn little_room_is_worth_a_look_and_none_is_a_fault() {
        let verdict = |free, all| room("ext4", "/x", free, all).verdict;
        assert_eq!(verdict(5_000_000_000, 10_000_000_000), Verdict::Ok);
        assert_eq!(verdict(900_000_000, 10_000_000_000), Verdict::Look);
        assert_eq!(verdict(90_000_000, 100_000_000), Verdict::Fault);
        let found = room("ext4", "/x", 900_000_000, 10_000_000_000).found;
        assert_eq!(found, "/x on ext4, 900.0 MB free (9 %)");
    }
}
