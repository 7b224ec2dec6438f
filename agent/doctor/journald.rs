//! Does the system's log outlast a start of the machine? Raspberry Pi OS keeps it in memory
//! since 2025, and then nobody can read why a board was started anew.

use std::{collections::BTreeMap, fs, path::Path};

use super::{Finding, Place};
use crate::storage::Storage;

const ABOUT: &str = "journald";

/// Where it is kept, if it is.
const KEPT: &str = "/var/log/journal";

/// Where parts of its configuration are; of two with the same name the former counts.
const FOLDERS: [&str; 4] = [
    "etc/systemd/journald.conf.d",
    "run/systemd/journald.conf.d",
    "usr/local/lib/systemd/journald.conf.d",
    "usr/lib/systemd/journald.conf.d",
];

const FILES: [&str; 2] = ["usr/lib/systemd/journald.conf", "etc/systemd/journald.conf"];

pub(super) fn look(place: &Place<'_>) -> Vec<Finding> {
    if !place.root.join("run/systemd/system").exists() {
        return Vec::new();
    }
    let set = |name| setting(place.root, name);
    let storage = set("Storage").unwrap_or_else(|| String::from("auto"));
    let is_kept = match storage.as_str() {
        "persistent" => true,
        "auto" => place.root.join(KEPT.trim_start_matches('/')).exists(),
        _ => false,
    };
    let finding = match (is_kept, unfit(place.root), set("SystemMaxUse")) {
        (false, _, _) => Finding::look(
            ABOUT,
            format!("the log does not outlast a start of the machine (Storage={storage})"),
            "what became of boards and duties `understudy history` has all the same; for more: \
             Storage=persistent and SystemMaxUse=50M under [Journal] in \
             /etc/systemd/journald.conf.d/50-keep.conf, at the cost of some wear",
        ),
        (true, Some(why), _) => Finding::look(
            ABOUT,
            format!("the log may not outlast a start of the machine: {why}"),
            format!(
                "it wears no card; what became of boards and duties `understudy history` has all \
                 the same; for more, a disk at {KEPT} that stays and can be written, at the cost \
                 of some wear"
            ),
        ),
        (true, None, None) => Finding::ok(
            ABOUT,
            "the log stays, and takes up to a tenth of its disk (SystemMaxUse=50M bounds it)",
        ),
        (true, None, Some(most)) => Finding::ok(ABOUT, format!("the log stays, up to {most}")),
    };
    vec![finding]
}

/// Why what is kept there does not stay, if it does not. Such as log2ram and Armbian copy it to
/// the card now and then.
fn unfit(root: &Path) -> Option<String> {
    let Storage { kind, source, is_read_only, forgets, .. } = Storage::of(root, Path::new(KEPT))?;
    match (forgets, is_read_only) {
        (Some(_), _) => Some(format!("{KEPT} is on {kind} ({source}), which does not stay")),
        (None, true) => Some(format!("{KEPT} is on {kind} that cannot be written")),
        (None, false) => None,
    }
}

/// The last word on a setting: parts count more than the files, in the order of their names.
fn setting(root: &Path, name: &str) -> Option<String> {
    let mut parts = BTreeMap::new();
    for folder in FOLDERS.iter().rev() {
        let listed = fs::read_dir(root.join(folder)).into_iter().flatten().flatten();
        let confs = listed.filter(|file| file.path().extension().is_some_and(|it| it == "conf"));
        parts.extend(confs.map(|file| (file.file_name(), file.path())));
    }
    let files = FILES.iter().map(|file| root.join(file));
    let texts = files.chain(parts.into_values()).map(fs::read_to_string);
    let mut said = texts.flatten().filter_map(|text| {
        let lines = text.lines().filter_map(|line| line.trim().split_once('='));
        let said = lines.rev().find(|(key, _)| key.trim() == name);
        said.map(|(_, value)| value.trim().to_owned())
    });
    said.rfind(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::{Verdict, rig::Tree};

    #[test]
    fn a_log_in_memory_is_worth_a_look() {
        assert!(Tree::new(&[]).look(look).is_empty());
        let tree = Tree::new(&[
            ("run/systemd/system/x", ""),
            ("etc/systemd/journald.conf", "#Storage=persistent\n"),
        ]);
        tree.finds(look, Verdict::Look, "(Storage=auto)");
        tree.put("var/log/journal/x", "");
        tree.finds(look, Verdict::Ok, "takes up to a tenth");
        tree.put(
            "usr/lib/systemd/journald.conf.d/40-rpi-volatile-storage.conf",
            "[Journal]\nStorage=volatile\n",
        );
        tree.finds(look, Verdict::Look, "(Storage=volatile) what became");
        tree.put(
            "etc/systemd/journald.conf.d/50-keep.conf",
            "[Journal]\nStorage = persistent\nSystemMaxUse=50M\n",
        );
        tree.finds(look, Verdict::Ok, "the log stays, up to 50M");
        tree.put("etc/systemd/journald.conf.d/40-rpi-volatile-storage.conf", "");
        tree.put("etc/systemd/journald.conf.d/50-keep.conf", "");
        tree.finds(look, Verdict::Ok, "takes up to a tenth");
    }

    #[test]
    fn a_log_that_is_kept_where_nothing_stays_is_worth_a_look() {
        let mounted = |at: &str, system: &str| {
            format!("22 1 179:2 / / rw - ext4 /dev/root rw\n23 22 0:21 / {at} rw - {system}\n")
        };
        let tree = Tree::new(&[
            ("run/systemd/system/x", ""),
            ("etc/systemd/journald.conf", "Storage=persistent\n"),
        ]);
        for (at, system, words) in [
            ("/var/log", "tmpfs log2ram rw", "is on tmpfs (log2ram), which does not stay it"),
            ("/var/log", "ext4 /dev/zram0 rw", "is on ext4 (/dev/zram0), which does not stay it"),
            ("/", "overlay root rw,upperdir=/run", "is on overlay (root), which does not stay"),
            ("/var", "ext4 /dev/root ro", "is on ext4 that cannot be written it wears no"),
        ] {
            tree.put("proc/self/mountinfo", &mounted(at, system));
            let words = format!("a start of the machine: /var/log/journal {words}");
            tree.finds(look, Verdict::Look, &words);
        }
        tree.put("proc/self/mountinfo", &mounted("/run", "tmpfs tmpfs rw"));
        tree.finds(look, Verdict::Ok, "takes up to a tenth");
    }
}
