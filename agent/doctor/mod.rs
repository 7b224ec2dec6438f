//! What a board depends on, looked at from outside: each check finds something, says how bad
//! that is, and what to do about it. Nothing is changed.
//!
//! Everything is read below a root, which is `/` but for tests, and programs are asked by way
//! of [`Place::ask`]. Left out: what `status` says, which is how the group is.

use std::path::Path;

use serde::Serialize;
use understudy_boards::board::Board;

use crate::status::Status;

mod card;
mod clock;
mod data;
mod journald;
mod memory;
pub mod mqtt;
mod peers;
mod power;
mod watchdog;
mod wifi;

pub use self::peers::peers;

/// How bad something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Nothing is to be done.
    Ok,
    /// It is worth a look.
    Look,
    /// It does not work, or will not for long.
    Fault,
}

impl Verdict {
    /// In one word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Look => "look",
            Self::Fault => "FAULT",
        }
    }
}

/// What was found of one thing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Of what.
    pub about: String,
    /// How bad it is.
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// What to do.
    #[serde(rename = "do")]
    pub advice: Option<String>,
}

impl Finding {
    fn ok(about: &str, found: impl Into<String>) -> Self {
        let (about, found) = (about.to_owned(), found.into());
        Self { about, verdict: Verdict::Ok, found, advice: None }
    }

    fn look(about: &str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        let advice = Some(advice.into());
        Self { verdict: Verdict::Look, advice, ..Self::ok(about, found) }
    }

    fn fault(about: &str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { verdict: Verdict::Fault, ..Self::look(about, found, advice) }
    }
}

/// Where to look.
pub struct Place<'p> {
    /// `/`, but for tests.
    pub root: &'p Path,
    /// The data folder.
    pub directory: &'p Path,
    /// What a program prints that is called with these words; none where it is not there, or
    /// fails.
    pub ask: &'p dyn Fn(&str, &[&str]) -> Option<String>,
    /// The wall clock follows a time server, as the kernel has it.
    pub is_synchronised: bool,
    /// This is a Raspberry Pi.
    pub is_pi: bool,
    /// What is known of boards of this kind.
    pub board: &'p Board,
}

/// What is found of this board; `status` is its agent's, where that runs.
#[must_use]
pub fn board(place: &Place<'_>, status: Option<&Status>) -> Vec<Finding> {
    let checks = [
        data::look(place),
        card::look(place, status),
        memory::look(place, status),
        clock::look(place),
        power::look(place),
        wifi::look(place),
        watchdog::look(place),
        journald::look(place),
    ];
    checks.concat()
}

/// The board's configuration is wrong, or this user may not read it.
#[must_use]
pub fn no_config(reason: &str, may_read: bool) -> Finding {
    match may_read {
        true => Finding::fault("configuration", reason, "`understudy config check` tries it anew"),
        false => Finding::look(
            "configuration",
            reason,
            "call the doctor by `sudo`, or as a user in the group `understudy`",
        ),
    }
}

/// The agent does not run, or cannot be asked.
#[must_use]
pub fn no_agent(reason: &str) -> Finding {
    Finding::look("agent", reason, "without it the other boards are not looked at")
}

/// The other boards could not be looked at.
#[must_use]
pub fn not_probed(reason: &str) -> Finding {
    Finding::look("boards", "the other boards were not looked at", reason)
}

#[cfg(test)]
mod rig {
    use std::fs;

    use understudy_boards::board;

    use super::*;

    /// A tree of files as the kernel shows them, and what programs say.
    pub(super) struct Tree {
        pub(super) folder: tempfile::TempDir,
        said: Vec<(&'static str, &'static str)>,
    }

    impl Tree {
        pub(super) fn new(files: &[(&str, &str)]) -> Self {
            let tree = Self { folder: tempfile::tempdir().unwrap(), said: Vec::new() };
            files.iter().for_each(|(path, text)| tree.put(path, text));
            tree
        }

        pub(super) fn put(&self, path: &str, text: &str) {
            let path = self.folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        /// A program whose words begin so says that.
        pub(super) fn says(mut self, words: &'static str, text: &'static str) -> Self {
            self.said.push((words, text));
            self
        }

        pub(super) fn look(
            &self,
            check: impl Fn(&Place<'_>) -> Vec<Finding>,
        ) -> Vec<(Verdict, String)> {
            let ask = |program: &str, words: &[&str]| {
                let line = format!("{program} {}", words.join(" "));
                let said = self.said.iter().find(|(words, _)| line.starts_with(words));
                said.map(|(_, text)| (*text).to_owned())
            };
            let (root, directory) = (self.folder.path(), Path::new("/"));
            let board = board::recognised(Some("Raspberry Pi 4 Model B"), &[], "aarch64").unwrap();
            let (board, is_synchronised, is_pi) = (&board, false, true);
            let place = Place { root, directory, ask: &ask, is_synchronised, is_pi, board };
            let words = |it: Finding| {
                (
                    it.verdict,
                    format!("{}: {} {}", it.about, it.found, it.advice.unwrap_or_default()),
                )
            };
            check(&place).into_iter().map(words).collect()
        }

        /// The check finds one thing, that bad, in these words.
        pub(super) fn finds(
            &self,
            check: impl Fn(&Place<'_>) -> Vec<Finding>,
            verdict: Verdict,
            words: &str,
        ) {
            let found = self.look(check);
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(found[0].0 == verdict && found[0].1.contains(words), "{words}: {found:?}");
        }
    }
}
