//! Boards of ours, three or more, or two and their witness, from the release build, on
//! the disk that holds it.

use std::{path::Path, time::Duration};

use understudy_tests::{agents::Agents, artefacts::Machine};

use crate::{load, process::Used};

/// As many as every other measurement has.
pub(crate) const BOARDS: [&str; 3] = ["a", "b", "c"];

const NAMES: [&str; 12] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];

/// The largest group that is measured.
pub(crate) const BOARDS_MAX: usize = NAMES.len();
/// The witness of a pair.
pub(crate) const WITNESS: &str = "w";

const PAIR: [&str; 3] = ["a", "b", WITNESS];

/// A table as sensors use it, the same for every peer.
pub(crate) const TABLE: &str = "[\"CREATE TABLE IF NOT EXISTS reading(id INTEGER PRIMARY KEY, \
    sensor TEXT NOT NULL, value REAL, time INTEGER DEFAULT (unixepoch()))\"]";

/// See the module's description.
pub(crate) struct Group {
    pub(crate) agents: Agents,
    pub(crate) boards: &'static [&'static str],
}

impl Group {
    pub(crate) fn start(program: &Path) -> Self {
        Self::of(program, BOARDS.len())
    }

    /// So many boards, [`BOARDS_MAX`] at most.
    pub(crate) fn of(program: &Path, boards: usize) -> Self {
        let folder = program.parent().expect("a folder");
        let mut agents = Agents::new_in(program, folder);
        let boards = &NAMES[..boards];
        agents.form(boards);
        Self::with_table(agents, boards)
    }

    /// Three boards that are configured so, without a table.
    pub(crate) fn configured(program: &Path, text: &str) -> Self {
        Self::formed(Agents::new_in(program, program.parent().expect("a folder")), text)
    }

    /// Three boards of such a machine, each with a file of its own with the program, that are
    /// configured so, without a table.
    pub(crate) fn apart(machine: &Machine, text: &str) -> Self {
        let program = &machine.program;
        let mut agents = Agents::new_in(program, program.parent().expect("a folder"));
        agents.be_apart(&BOARDS, machine);
        Self::formed(agents, text)
    }

    fn formed(mut agents: Agents, text: &str) -> Self {
        for board in BOARDS {
            agents.configure(board, text);
        }
        agents.form(&BOARDS);
        Self { agents, boards: &BOARDS }
    }

    /// Two boards and their witness.
    pub(crate) fn pair(program: &Path) -> Self {
        let folder = program.parent().expect("a folder");
        let mut agents = Agents::new_in(program, folder);
        let [one, other, _] = PAIR;
        for board in PAIR {
            agents.run(board);
        }
        let token = agents.found(one);
        let _ = agents.told(other, &["join", &token]);
        let _ = agents.told(WITNESS, &["join", &token, "--witness"]);
        agents.wait_for_voters(&PAIR, 3);
        Self::with_table(agents, &PAIR)
    }

    fn with_table(agents: Agents, boards: &'static [&'static str]) -> Self {
        let group = Self { agents, boards };
        let made = load::execute(&group.http(&group.leader()), TABLE, Duration::from_secs(10));
        made.expect("the table can be made");
        group
    }

    pub(crate) fn said(&self, board: &str, what: &str) -> String {
        let status = self.agents.status(board).expect("it answers");
        let said = &status[what];
        said.as_str().map_or_else(|| said.to_string(), String::from)
    }

    /// Who leads, in the words of a board that runs.
    pub(crate) fn leader(&self) -> String {
        let running = self.boards.iter().find(|board| self.agents.status(board).is_some());
        self.said(running.expect("one runs"), "leader")
    }

    pub(crate) fn http(&self, board: &str) -> String {
        self.said(board, "http")
    }

    pub(crate) fn pid(&self, board: &str) -> String {
        self.said(board, "agent_pid")
    }

    /// The numbers in the first row that a board answers with.
    pub(crate) fn numbers(&self, board: &str, sql: &str) -> Vec<u64> {
        let said = self.agents.told(board, &["query", sql]);
        let row = |line: &str| line.split_whitespace().map(|word| word.parse().ok()).collect();
        let mut rows = said.lines().filter_map(row);
        rows.find(|row: &Vec<u64>| !row.is_empty()).expect("a row of numbers")
    }

    /// What all boards together have used.
    pub(crate) fn used(&self) -> Used {
        self.boards.iter().map(|board| Used::by(&self.pid(board))).sum()
    }
}
