//! How worn the card is that holds the data, as far as it says: eMMC does since version 5.0, SD
//! cards do not.
//! And what was written to it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{Finding, Place};
use crate::{
    status::{BudgetKind, BudgetStatus, Status, amount},
    storage::Storage,
};

const ABOUT: &str = "card";

const SECTOR_BYTES: u64 = 512;

/// A tenth of its life is one step of `life_time`; so many are worth a look, so many the end.
const OLD_STEPS: u32 = 8;
const WORN_STEPS: u32 = 10;

pub(super) fn look(place: &Place<'_>, status: Option<&Status>) -> Vec<Finding> {
    let disk = Storage::of(place.root, place.directory)
        .and_then(|storage| whole_disk(place.root, &storage.device));
    let Some(disk) = disk else { return budget(status).into_iter().collect() };
    let name = disk.file_name().map(|name| name.to_string_lossy().into_owned());
    let name = name.unwrap_or_default();
    let written = written_bytes(&disk).map_or_else(String::new, |bytes| {
        format!("; {} written to it since the machine started", amount(bytes))
    });
    let mut found = vec![wear(&disk, &name, &written)];
    found.extend(budget(status));
    found
}

/// What the agent writes, where that is too much.
fn budget(status: Option<&Status>) -> Option<Finding> {
    let budgets = &status?.budgets;
    let trouble = |it: &BudgetStatus| it.trouble().filter(|_| it.what == BudgetKind::Card);
    let trouble = budgets.iter().find_map(trouble)?;
    let (found, advice) = trouble.split_once(": ").unwrap_or((&trouble, ""));
    Some(Finding::look(ABOUT, found, advice))
}

/// The directory of the disk that a device is, or is a part of.
fn whole_disk(root: &Path, device: &str) -> Option<PathBuf> {
    let path = fs::canonicalize(root.join("sys/dev/block").join(device)).ok()?;
    let whole = path.ancestors().take(2).find(|path| path.join("queue").exists());
    whole.map(Path::to_owned)
}

fn written_bytes(disk: &Path) -> Option<u64> {
    let stat = fs::read_to_string(disk.join("stat")).ok()?;
    Some(stat.split_whitespace().nth(6)?.parse::<u64>().ok()? * SECTOR_BYTES)
}

fn wear(disk: &Path, name: &str, written: &str) -> Finding {
    let read = |file: &str| fs::read_to_string(disk.join("device").join(file)).unwrap_or_default();
    let number = |word: &str| u32::from_str_radix(word.trim().trim_start_matches("0x"), 16).ok();
    let steps = read("life_time").split_whitespace().filter_map(number).max();
    let reserve = number(&read("pre_eol_info")).unwrap_or(0);
    const REPLACE: &str = "copy what you need (`understudy backup FILE`) and put in another: \
                           `understudy join TOKEN --replace BOARD` gives it this one's place";
    let Some(steps) = steps.filter(|steps| *steps > 0) else {
        let what = match read("type").trim() {
            "SD" => "an SD card",
            // Those before version 5.0 say nothing of it.
            "MMC" => "an eMMC",
            _ if name.starts_with("mmcblk") => "a card",
            _ => "a disk",
        };
        return Finding::ok(
            ABOUT,
            format!("{name} is {what} that does not say how worn it is{written}"),
        );
    };
    let found = match steps {
        ..=WORN_STEPS => {
            format!("{name} has used {} to {} % of its life", 10 * steps - 10, 10 * steps)
        }
        _ => format!("{name} has used up its life"),
    };
    let reserve_words = match reserve {
        2 => ", and 80 % of its spare blocks",
        3 => ", and nearly all of its spare blocks",
        _ => "",
    };
    let found = format!("{found}{reserve_words}{written}");
    match (steps >= WORN_STEPS || reserve == 3, steps >= OLD_STEPS || reserve == 2) {
        (true, _) => Finding::fault(ABOUT, found, REPLACE),
        (false, true) => Finding::look(ABOUT, found, "have another ready"),
        (false, false) => Finding::ok(ABOUT, found),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::doctor::{Verdict, rig::Tree};

    const DISK: &str = "sys/devices/mmc0/block/mmcblk0";

    fn tree() -> Tree {
        let tree = Tree::new(&[("proc/self/mountinfo", "22 1 179:2 / / rw - ext4 /dev/root rw\n")]);
        tree.put(&format!("{DISK}/queue/rotational"), "0\n");
        tree.put(&format!("{DISK}/stat"), " 1 2 3 4 5 6 2000000 8 0 0 0\n");
        tree.put(&format!("{DISK}/mmcblk0p2/partition"), "2\n");
        tree.put("sys/dev/block/none", "");
        let link = tree.folder.path().join("sys/dev/block/179:2");
        symlink(tree.folder.path().join(DISK).join("mmcblk0p2"), link).unwrap();
        tree
    }

    fn card(place: &Place<'_>) -> Vec<Finding> {
        look(place, None)
    }

    #[test]
    fn a_card_says_how_worn_it_is_or_that_it_does_not() {
        let tree = tree();
        for (kind, words) in [("", "a card"), ("SD\n", "an SD card"), ("MMC\n", "an eMMC")] {
            tree.put(&format!("{DISK}/device/type"), kind);
            let words = format!("mmcblk0 is {words} that does not say how worn it is; 1024.0 MB");
            tree.finds(card, Verdict::Ok, &words);
        }
        for (life, reserve, verdict, words) in [
            ("0x01 0x02", "0x01", Verdict::Ok, "used 10 to 20 % of its life;"),
            ("0x08 0x01", "0x01", Verdict::Look, "used 70 to 80 % of its life; 1024.0 MB"),
            ("0x01 0x01", "0x02", Verdict::Look, "and 80 % of its spare blocks"),
            ("0x0a 0x01", "0x01", Verdict::Fault, "used 90 to 100 % of its life"),
            ("0x0b 0x0b", "0x01", Verdict::Fault, "has used up its life"),
            ("0x01 0x01", "0x03", Verdict::Fault, "nearly all of its spare blocks"),
            ("0x00 0x00", "0x00", Verdict::Ok, "does not say how worn"),
        ] {
            tree.put(&format!("{DISK}/device/life_time"), life);
            tree.put(&format!("{DISK}/device/pre_eol_info"), reserve);
            tree.finds(card, verdict, words);
        }
    }

    #[test]
    fn what_the_agent_writes_counts_where_it_is_too_much() {
        let budget = |used_bytes| BudgetStatus {
            what: BudgetKind::Card,
            used_bytes,
            bytes_max: 900_000_000,
            over_ms: Some(86_400_000),
        };
        let status = |used| Status { budgets: vec![budget(used)], ..Status::default() };
        let tree = tree();
        assert_eq!(tree.look(|place| look(place, Some(&status(1)))).len(), 1);
        let found = tree.look(|place| look(place, Some(&status(901_000_000))));
        let (verdict, words) = &found[1];
        assert_eq!(*verdict, Verdict::Look);
        assert!(words.contains("has written 901.0 MB to its card in 24 h"), "{words}");
    }
}
