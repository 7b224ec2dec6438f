//! Processes of this machine, as a test sends them signals and looks who is whose child.

use std::{fmt::Display, fs, process::Command};

/// Sends a signal by its name to a process, or to a group of them where the number is
/// negative.
///
/// # Panics
/// When there is none.
pub fn signal(name: &str, pid: impl Display) {
    let sent = Command::new("kill").args([&format!("-{name}"), "--", &pid.to_string()]).status();
    assert!(sent.expect("kill runs").success(), "{pid} is there");
}

/// The children of a process.
#[must_use]
pub fn children(pid: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}
