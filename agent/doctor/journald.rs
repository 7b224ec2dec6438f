//! Does the system's log outlast a start of the machine? Raspberry Pi OS keeps it in memory
//! since 2025, and then nobody can read why a board was started anew.

use std::{collections::BTreeMap, fs, path::Path};

use super::{Finding, Place};

const ABOUT: &str = "journald";

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
    let stays = match storage.as_str() {
        "persistent" => true,
        "auto" => place.root.join("var/log/journal").exists(),
        _ => false,
    };
    let finding = match (stays, set("SystemMaxUse")) {
        (false, _) => Finding::look(
            ABOUT,
            format!("the log does not outlast a start of the machine (Storage={storage})"),
            "what became of boards and duties `understudy history` has all the same; for more: \
             Storage=persistent and SystemMaxUse=50M under [Journal] in \
             /etc/systemd/journald.conf.d/50-keep.conf, at the cost of some wear",
        ),
        (true, None) => Finding::ok(
            ABOUT,
            "the log stays, and takes up to a tenth of its disk (SystemMaxUse=50M bounds it)",
        ),
        (true, Some(most)) => Finding::ok(ABOUT, format!("the log stays, up to {most}")),
    };
    vec![finding]
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
}
