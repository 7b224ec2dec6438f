//! What the agent uses of its board, held against what it may there (`boards/`): memory, the
//! journal's file, what it writes to the card in a day. `status` shows it; what is too much
//! is said there in words, and logged, of each once a day at most.
//!
//! Left out: commands of duties, which are other processes, and what a card writes for each
//! byte that it is sent.

use std::{
    collections::{BTreeMap, VecDeque},
    fs,
    path::{Path, PathBuf},
};

use understudy_boards::board::Budget;
use understudy_core::event::Millis;

use crate::status::{BudgetKind, BudgetStatus};

/// Between two looks, milliseconds.
const LOOK_MS: u64 = 60_000;

/// Between two points of what was written, and how long ago the first may be.
const POINT_MS: u64 = 3_600_000;
const DAY_MS: u64 = 86_400_000;

/// What is used at one moment, as far as the system says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Used {
    memory_bytes: Option<u64>,
    journal_bytes: Option<u64>,
    /// Sent to the disk since the agent started.
    written_bytes: Option<u64>,
}

/// See the module's description.
pub struct Budgets {
    directory: PathBuf,
    limits: Budget,
    looked: Option<Millis>,
    /// How much had been written at some moments of the last day, the oldest first.
    written: VecDeque<(Millis, u64)>,
    seen: Vec<BudgetStatus>,
    logged: BTreeMap<BudgetKind, Millis>,
}

impl Budgets {
    /// Of an agent that starts now, with its data there. `beside_bytes`: what its
    /// configuration lets it keep in the journal's file besides.
    #[must_use]
    pub fn new(now: Millis, directory: &Path, limits: Budget, beside_bytes: u64) -> Self {
        let journal_bytes_max = limits.journal_bytes_max.saturating_add(beside_bytes);
        Self {
            directory: directory.to_owned(),
            limits: Budget { journal_bytes_max, ..limits },
            looked: None,
            written: VecDeque::from([(now, 0)]),
            seen: Vec::new(),
            logged: BTreeMap::new(),
        }
    }

    /// What was seen last.
    #[must_use]
    pub fn status(&self) -> Vec<BudgetStatus> {
        self.seen.clone()
    }

    /// Looks, when it is time: what is to be logged of that.
    pub fn look(&mut self, now: Millis) -> Vec<String> {
        if self.looked.is_some_and(|at| now.since(at) < LOOK_MS) {
            return Vec::new();
        }
        self.looked = Some(now);
        self.judge(now, Used::of(Path::new("/"), &self.directory))
    }

    fn judge(&mut self, now: Millis, used: Used) -> Vec<String> {
        let of = |what, used: Option<u64>, bytes_max, over_ms| {
            Some(BudgetStatus { what, used_bytes: used?, bytes_max, over_ms })
        };
        let (written, over_ms) = self.written_lately(now, used.written_bytes);
        let Budget { memory_bytes_max, journal_bytes_max, flash_bytes_per_day_max, .. } =
            self.limits;
        let all = [
            of(BudgetKind::Memory, used.memory_bytes, memory_bytes_max, None),
            of(BudgetKind::Journal, used.journal_bytes, journal_bytes_max, None),
            of(BudgetKind::Card, written, flash_bytes_per_day_max, Some(over_ms)),
        ];
        self.seen = all.into_iter().flatten().collect();
        let mut told = Vec::new();
        for (what, words) in self.seen.iter().filter_map(|it| Some((it.what, it.trouble()?))) {
            if self.logged.get(&what).is_none_or(|at| now.since(*at) >= DAY_MS) {
                self.logged.insert(what, now);
                told.push(words);
            }
        }
        told
    }

    /// What was written in the last day, or since the start, and how long that is,
    /// milliseconds.
    fn written_lately(&mut self, now: Millis, written: Option<u64>) -> (Option<u64>, u64) {
        let is_old =
            |next: Option<&(Millis, u64)>| next.is_some_and(|(at, _)| now.since(*at) >= DAY_MS);
        while is_old(self.written.get(1)) {
            self.written.pop_front();
        }
        let (since, before) = self.written.front().copied().unwrap_or((now, 0));
        let is_due = self.written.back().is_none_or(|(at, _)| now.since(*at) >= POINT_MS);
        if let Some(written) = written.filter(|_| is_due) {
            self.written.push_back((now, written));
        }
        (written.map(|written| written.saturating_sub(before)), now.since(since))
    }
}

impl Used {
    /// By the system's files under `root`, which is `/` but for tests, and those of the board.
    fn of(root: &Path, directory: &Path) -> Self {
        let number = |file: &str, name: &str| {
            let text = fs::read_to_string(root.join(file)).ok()?;
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse::<u64>().ok()
        };
        let bytes = |name: &str| Some(fs::metadata(directory.join(name)).ok()?.len());
        Self {
            memory_bytes: number("proc/self/smaps_rollup", "Pss:").map(|kb| kb * 1_024),
            journal_bytes: bytes("journal.db")
                .map(|file| file + bytes("journal.db-wal").unwrap_or(0)),
            written_bytes: number("proc/self/io", "write_bytes:"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Budget = Budget {
        binary_bytes_max: 8_000_000,
        memory_bytes_max: 16_000_000,
        sqlite_bytes_max: 8_388_608,
        flash_bytes_per_day_max: 900_000_000,
        journal_bytes_max: 33_000_000,
    };

    fn budgets() -> Budgets {
        Budgets::new(Millis(0), Path::new("/nowhere"), LIMITS, 1_000_000)
    }

    fn used(memory: u64, journal: u64, written: u64) -> Used {
        Used {
            memory_bytes: Some(memory * 1_000_000),
            journal_bytes: Some(journal * 1_000_000),
            written_bytes: Some(written * 1_000_000),
        }
    }

    #[test]
    fn what_is_within_its_budget_is_shown_and_not_told() {
        let mut budgets = budgets();
        assert_eq!(budgets.judge(Millis(60_000), used(16, 34, 900)), Vec::<String>::new());
        let shown: Vec<_> = budgets.status().iter().map(|it| (it.what, it.bytes_max)).collect();
        let wanted = [
            (BudgetKind::Memory, 16_000_000),
            (BudgetKind::Journal, 34_000_000),
            (BudgetKind::Card, 900_000_000),
        ];
        assert_eq!(shown, wanted, "the spool is in the journal's file too");
        assert!(budgets.status().iter().all(|it| it.trouble().is_none()));
        budgets.judge(Millis(60_000), Used::default());
        assert!(budgets.status().is_empty(), "where the system says nothing nothing is shown");
    }

    #[test]
    fn what_is_exceeded_is_told_once_a_day() {
        let mut budgets = budgets();
        let told = budgets.judge(Millis(0), used(17, 35, 901));
        for (words, place) in
            [("17.0 MB of memory", 0), ("its journal has 35.0 MB", 1), ("written 901.0 MB", 2)]
        {
            assert!(told[place].contains(words), "{told:?}");
        }
        assert_eq!(budgets.judge(Millis(60_000), used(18, 1, 1)), Vec::<String>::new());
        assert_eq!(budgets.judge(Millis(DAY_MS), used(18, 1, 1)).len(), 1);
    }

    #[test]
    fn what_was_written_counts_for_a_day() {
        let mut budgets = budgets();
        let mut at = |hour: u64, written| {
            budgets.judge(Millis(hour * POINT_MS), used(1, 1, written));
            let card = budgets.status()[2];
            (card.used_bytes / 1_000_000, card.over_ms.unwrap() / POINT_MS)
        };
        assert_eq!(at(1, 10), (10, 1));
        assert_eq!(at(5, 500), (500, 5));
        assert_eq!(at(23, 800), (800, 23));
        assert_eq!(at(26, 810), (800, 25), "from the last point that is a day old");
        assert_eq!(at(30, 820), (320, 25));
        assert_eq!(at(200, 820), (0, 170));
    }

    #[test]
    fn the_system_says_what_is_used() {
        let root = tempfile::tempdir().unwrap();
        let proc = root.path().join("proc/self");
        fs::create_dir_all(&proc).unwrap();
        fs::write(proc.join("smaps_rollup"), "0-1 [rollup]\nRss: 9 kB\nPss:       4321 kB\n")
            .unwrap();
        fs::write(proc.join("io"), "wchar: 5\nwrite_bytes: 8192\ncancelled_write_bytes: 0\n")
            .unwrap();
        fs::write(root.path().join("journal.db"), [0; 100]).unwrap();
        let wanted = |journal| Used {
            memory_bytes: Some(4_321 * 1_024),
            journal_bytes: Some(journal),
            written_bytes: Some(8_192),
        };
        assert_eq!(Used::of(root.path(), root.path()), wanted(100));
        fs::write(root.path().join("journal.db-wal"), [0; 11]).unwrap();
        assert_eq!(Used::of(root.path(), root.path()), wanted(111));
        assert_eq!(Used::of(&proc, &proc), Used::default());
    }
}
