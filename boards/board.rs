//! Kinds of boards: a file for each beside this one, compiled in, and which of them this
//! machine is.
//!
//! A file says what is built for the board, what the program may use of it, which timing
//! suits its links, which sensors it has and what is odd about it. It changes no guarantee: it
//! may only lower a bound. A new kind is one more file, and its line in [`FILES`].

use std::path::Path;

use serde::Deserialize;

use crate::tree;

/// The files, each by its name.
const FILES: [(&str, &str); 8] = [
    ("pi-zero-w", include_str!("pi-zero-w.toml")),
    ("pi-zero-2-w", include_str!("pi-zero-2-w.toml")),
    ("pi-3b-plus", include_str!("pi-3b-plus.toml")),
    ("pi-4b", include_str!("pi-4b.toml")),
    ("pi-5", include_str!("pi-5.toml")),
    ("generic-arm64", include_str!("generic-arm64.toml")),
    ("generic-arm", include_str!("generic-arm.toml")),
    ("host", include_str!("host.toml")),
];

/// Where the kernel says what the machine is.
const TREES: [&str; 2] = ["proc/device-tree", "sys/firmware/devicetree/base"];

/// A kind of board.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Board {
    /// Name of its file; not in it.
    #[serde(skip)]
    pub key: &'static str,
    /// What people call it.
    pub name: String,
    /// How the kernel's name of it begins; nothing for a kind that is known otherwise.
    pub models: Vec<String>,
    /// What its device tree calls it: for a kernel that goes by another name for it.
    pub compatible: Vec<String>,
    /// What is built for it, as Rust names targets.
    pub targets: Vec<String>,
    /// The group's timing profile that suits its links: `wired`, `wifi` or `radio`.
    pub profile: String,
    /// What the program may use.
    pub budget: Budget,
    /// Sources it should have, by their names; `*` stands for any part of one.
    pub sensors: Vec<String>,
    /// What is odd about it.
    #[serde(default, rename = "quirk")]
    pub quirks: Vec<Quirk>,
}

/// What the program may use of a board. It keeps to `sqlite_bytes_max` itself, nothing larger
/// than `binary_bytes_max` is built (`cross/build`), and no agent that takes more than
/// `memory_bytes_max` passes the tests (`cross/test`); the others are what measurements are
/// held against. An agent that uses more says so in its `status`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// The program itself, stripped, bytes.
    pub binary_bytes_max: u64,
    /// Memory of the agent, its parent not counted, while 100 readings a second come, bytes
    /// (Pss).
    pub memory_bytes_max: u64,
    /// Heap of SQLite, bytes: the program keeps to it.
    pub sqlite_bytes_max: u64,
    /// Written to the card in a day, a reading a second, bytes.
    pub flash_bytes_per_day_max: u64,
    /// `journal.db` with its WAL, bytes.
    pub journal_bytes_max: u64,
}

/// Something odd.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quirk {
    /// What.
    pub what: String,
    /// What follows from it.
    pub so: String,
    /// Where that is known from.
    pub source: String,
}

impl Board {
    /// Reads a file.
    ///
    /// # Errors
    /// Names the line and what is wrong there.
    pub fn parse(key: &'static str, text: &str) -> Result<Self, String> {
        let board: Self = toml::from_str(text).map_err(|error| {
            let before = error.span().map_or(0, |span| span.start);
            let line = 1 + text[..before].matches('\n').count();
            format!("{key}.toml, line {line}: {}", error.message())
        })?;
        board.check().map_err(|why| format!("{key}.toml: {why}"))?;
        Ok(Self { key, ..board })
    }

    fn check(&self) -> Result<(), String> {
        if !["wired", "wifi", "radio"].contains(&self.profile.as_str()) {
            return Err(format!("profile = {:?}: wired, wifi or radio", self.profile));
        }
        if self.targets.is_empty() {
            return Err(String::from("targets = []: nothing is built for it"));
        }
        let Budget { sqlite_bytes_max, memory_bytes_max, .. } = self.budget;
        if !(1 << 20..=8 << 20).contains(&sqlite_bytes_max) || sqlite_bytes_max > memory_bytes_max {
            return Err(format!(
                "sqlite_bytes_max = {sqlite_bytes_max}: from 1048576 to 8388608, and no more than \
                 memory_bytes_max"
            ));
        }
        Ok(())
    }

    /// Should it have sources whose names begin so?
    #[must_use]
    pub fn tells(&self, sources: &str) -> bool {
        self.sensors.iter().any(|name| name.starts_with(sources))
    }

    /// Is it a kind of its own, and not what holds for all boards that have no file?
    #[must_use]
    pub fn is_known(&self) -> bool {
        !self.models.is_empty()
    }

    /// Kinds of sensors it should have that are not among these, by their names.
    #[must_use]
    pub fn missing<'b>(&'b self, found: &[String]) -> Vec<&'b str> {
        let is_there = |wanted: &&str| !found.iter().any(|name| fits(wanted, name));
        self.sensors.iter().map(String::as_str).filter(is_there).collect()
    }
}

/// Does a name fit a pattern, in which `*` stands for any part?
#[must_use]
pub fn fits(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((start, rest)) => name.strip_prefix(start).is_some_and(|tail| {
            (0..=tail.len()).any(|cut| tail.get(cut..).is_some_and(|tail| fits(rest, tail)))
        }),
    }
}

/// All kinds there are.
///
/// # Errors
/// Names the file and line that is wrong.
pub fn all() -> Result<Vec<Board>, String> {
    FILES.iter().map(|(key, text)| Board::parse(key, text)).collect()
}

/// What the machine under `root`, which is `/` but for tests, calls itself; nothing where it
/// says so nowhere.
#[must_use]
pub fn model(root: &Path) -> Option<String> {
    told(root, "model").into_iter().next()
}

/// What its device tree calls it beside that, the most exact name first.
#[must_use]
pub fn compatible(root: &Path) -> Vec<String> {
    told(root, "compatible")
}

fn told(root: &Path, what: &str) -> Vec<String> {
    let mut files = TREES.iter().map(|tree| root.join(tree).join(what));
    let said = files.find_map(|file| tree::line(&file)).unwrap_or_default();
    said.split('\0').filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

/// Which kind the machine under `root` is, built for `architecture` as Rust names it.
///
/// # Errors
/// As of [`all`].
pub fn here(root: &Path, architecture: &str) -> Result<Board, String> {
    recognised(model(root).as_deref(), &compatible(root), architecture)
}

/// Which kind a machine of that model is, built for `architecture` as Rust names it: that
/// with the longest name it begins with; else one that its device tree names; else what is
/// known by the architecture alone.
///
/// # Errors
/// As of [`all`].
pub fn recognised(
    model: Option<&str>,
    compatible: &[String],
    architecture: &str,
) -> Result<Board, String> {
    let mut boards = all()?;
    let length = |board: &Board| {
        let begins = |name: &&String| model.is_some_and(|model| model.starts_with(name.as_str()));
        board.models.iter().filter(begins).map(String::len).max()
    };
    let known =
        boards.iter().enumerate().filter_map(|(place, board)| Some((length(board)?, place)));
    let is_named = |board: &Board| board.compatible.iter().any(|name| compatible.contains(name));
    let fallback = match architecture {
        "aarch64" => "generic-arm64",
        "arm" => "generic-arm",
        _ => "host",
    };
    let place = match known.max() {
        Some((_, place)) => Some(place),
        None => boards
            .iter()
            .position(is_named)
            .or_else(|| boards.iter().position(|board| board.key == fallback)),
    };
    place.map(|place| boards.swap_remove(place)).ok_or_else(|| format!("no file {fallback}.toml"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(model: &str) -> &'static str {
        recognised(Some(model), &[], "aarch64").unwrap().key
    }

    #[test]
    fn every_file_is_right_and_knows_its_board() {
        for board in all().unwrap() {
            for model in &board.models {
                assert_eq!(kind(&format!("{model} Rev 1.2")), board.key);
            }
            for Quirk { source, .. } in &board.quirks {
                assert!(source.contains('/'), "{}: {source} is no place to look it up", board.key);
            }
        }
        assert_eq!(kind("Raspberry Pi Zero 2 W Rev 1.0"), "pi-zero-2-w");
        assert_eq!(kind("Raspberry Pi Zero W Rev 1.1"), "pi-zero-w");
        assert_eq!(kind("Radxa ZERO 3W"), "generic-arm64");
        assert_eq!(recognised(None, &[], "x86_64").unwrap().key, "host");
        let other = recognised(Some("Raspberry Pi 2 Model B"), &[], "arm").unwrap();
        assert!(other.key == "generic-arm" && !other.is_known());
    }

    #[test]
    fn every_file_of_the_folder_is_compiled_in() {
        let folder = std::fs::read_dir(env!("CARGO_MANIFEST_DIR")).unwrap();
        let names = folder.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut there: Vec<String> = names
            .filter_map(|name| Some(name.strip_suffix(".toml")?.to_owned()))
            .filter(|name| name != "Cargo")
            .collect();
        let mut known = FILES.map(|(key, _)| key);
        there.sort();
        known.sort_unstable();
        assert_eq!(there, known, "each needs its line in FILES");
    }

    #[test]
    fn a_board_whose_kernel_calls_it_otherwise_is_known_by_its_device_tree() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("sys/firmware/devicetree/base");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("model"), "Raspberry Pi 5\0").unwrap();
        let key = || here(root.path(), "aarch64").unwrap().key;
        assert_eq!(key(), "generic-arm64");
        let compatible = |text| std::fs::write(folder.join("compatible"), text).unwrap();
        compatible("raspberrypi,5-model-b\0brcm,bcm2712\0");
        assert_eq!(key(), "pi-5");
        compatible("raspberrypi,5-compute-module\0brcm,bcm2712\0");
        assert_eq!(key(), "generic-arm64", "a name is a whole one");
        std::fs::write(folder.join("model"), "Raspberry Pi 4 Model B Rev 1.4\0").unwrap();
        compatible("raspberrypi,5-model-b\0");
        assert_eq!(key(), "pi-4b", "the model goes first");
    }

    #[test]
    fn a_typo_is_named_with_its_file_and_line() {
        let (_, text) = FILES[7];
        for (from, to, words) in [
            ("profile =", "profil =", "host.toml, line "),
            ("profile = \"wired\"", "profile = \"fast\"", "wired, wifi or radio"),
            ("sqlite_bytes_max = ", "sqlite_bytes_max = 9", "from 1048576 to 8388608"),
        ] {
            let broken = text.replacen(from, to, 1);
            assert_ne!(broken, text, "{from}");
            let error = Board::parse("host", &broken).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn what_a_board_should_have_and_has_not_is_named() {
        let board = recognised(Some("Raspberry Pi 4 Model B"), &[], "aarch64").unwrap();
        let all = ["thermal/cpu-thermal", "hwmon/rpi_volt/in0_lcrit_alarm"].map(String::from);
        assert_eq!(board.missing(&all), Vec::<&str>::new());
        assert_eq!(board.missing(&all[..1]), ["hwmon/rpi_volt/*"]);
        assert!(fits("a/*/c*", "a/b/cd") && !fits("a/*/c", "a/b/cd") && fits("*", ""));
    }

    #[test]
    fn a_model_ends_before_its_nul() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("proc/device-tree");
        std::fs::create_dir_all(&folder).unwrap();
        assert_eq!(model(root.path()), None);
        std::fs::write(folder.join("model"), "Raspberry Pi 5 Model B Rev 1.0\0").unwrap();
        assert_eq!(model(root.path()).as_deref(), Some("Raspberry Pi 5 Model B Rev 1.0"));
    }
}
