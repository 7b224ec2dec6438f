//! The rules of the house, as tests; each rule is also shown a file that breaks
//! it.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Lines of a file without its tests.
const LINES_MAX: usize = 600;

/// The only files with unsafe code.
const UNSAFE_FILES: [&str; 2] = ["agent/store/ffi.rs", "tests/sim/vfs.rs"];

const TOP_LEVEL: [&str; 10] = [
    "Cargo.toml",
    "Cargo.lock",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "agent",
    "boards",
    "cross",
    "tests",
    "target",
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// What is wrong with a file of this name and text.
fn faults(name: &str, text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let body = text.split("#[cfg(test)]").next().unwrap_or_default();
    let lines = body.lines().count();
    if lines > LINES_MAX && !name.ends_with("tests.rs") {
        faults.push(format!("{name}: {lines} lines, {LINES_MAX} are allowed"));
    }
    if !text.starts_with("//!") {
        faults.push(format!("{name}: no //! says why it exists"));
    }
    if let Some(line) = text.lines().position(|line| !line.is_ascii()) {
        faults.push(format!("{name}:{}: not ASCII", line + 1));
    }
    let keyword = ["uns", "afe {"].concat();
    if text.contains(&keyword) && !UNSAFE_FILES.contains(&name) {
        faults.push(format!("{name}: {keyword}...}} outside of {UNSAFE_FILES:?}"));
    }
    for (folder, forbidden) in LAYERS {
        let uses = forbidden.iter().filter(|what| body.contains(**what));
        if name.starts_with(folder) && !name.ends_with("tests.rs") {
            faults.extend(uses.map(|what| format!("{name}: uses {what}, which is above it")));
        }
    }
    faults
}

/// Who must not name whom.
const LAYERS: [(&str, &[&str]); 5] = [
    (
        "agent/driver/",
        &["node::Node", "crate::run", "crate::start", "crate::http", "crate::command"],
    ),
    ("agent/store/", &["crate::run", "crate::start", "crate::http", "crate::seal"]),
    ("agent/seal/", &["crate::run", "crate::start", "crate::driver", "crate::store"]),
    ("agent/http/", &["crate::run", "crate::start", "crate::store", "crate::seal", "node::Node"]),
    ("agent/core/", &["std::fs", "std::net", "std::time", "std::thread"]),
];

#[test]
fn every_file_keeps_the_rules() {
    let mut found = Vec::new();
    for folder in ["agent", "boards", "tests"] {
        sources(&root().join(folder), &mut found);
    }
    assert!(found.len() > 40, "the sources were found");
    let faults: Vec<String> = found
        .iter()
        .flat_map(|path| {
            let name = path.strip_prefix(root()).expect("below").display().to_string();
            faults(&name, &fs::read_to_string(path).expect("text"))
        })
        .collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn each_rule_goes_red() {
    let long = "//! x\n".repeat(LINES_MAX + 1);
    assert!(faults("a.rs", &long)[0].contains("lines"));
    assert!(faults("a.rs", "fn main() {}")[0].contains("//!"));
    assert!(faults("a.rs", "//! \u{e9}\n")[0].contains("ASCII"));
    let keyword = ["//! x\nuns", "afe {}"].concat();
    assert!(faults("a.rs", &keyword)[0].contains("outside"));
    assert!(faults("agent/seal/a.rs", "//! x\nuse crate::run;")[0].contains("above it"));
    assert!(faults("a.rs", "//! x\n").is_empty());
}

#[test]
fn the_top_level_holds_what_belongs_there() {
    for entry in fs::read_dir(root()).expect("the repository") {
        let name = entry.expect("an entry").file_name().to_string_lossy().into_owned();
        assert!(name.starts_with('.') || TOP_LEVEL.contains(&name.as_str()), "{name}");
    }
}
