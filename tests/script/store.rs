//! Stand-ins for a board's two files: a journal that loses nothing it has
//! confirmed, and a database whose rows are the texts of requests and stand in one page.

use std::collections::{BTreeMap, BTreeSet};

use understudy_core::{
    beginning::{answer, begins},
    change::{Change, Segment},
    duty::{Duty, Incarnation},
    event::{
        Cut, Entry, EntryKind, Executed, HardState, Memory, NodeId, Outcome, Position, SpoolPiece,
        SpoolWrite, Trust,
    },
    member::Membership,
    pages::{Answer, Done, Summary, Wish, Work, numbers},
    readings::{Batch, Stored, StoredRow, Verdict, Work as ReadingsWork},
    restored::{Restored, SpoolHeld, TermRun},
    sql,
};

use crate::script::duties;

/// Bytes of a change's base: term and index.
const BASE_BYTES: usize = 16;

/// What survives a crash.
#[derive(Clone, Default)]
pub(crate) struct Store {
    start: Position,
    entries: Vec<Entry>,
    hard_state: HardState,
    memories: Vec<(NodeId, Memory)>,
    applied: Position,
    rows: Vec<String>,
    /// A state kept for others, and one that was pulled.
    kept: Option<(Summary, Vec<String>)>,
    pulled: Vec<String>,
    boot: u64,
    /// Pieces of readings, and how many are in each.
    spool: BTreeMap<u64, (u64, Vec<u8>)>,
    /// Readings that are stored: whose, and which number.
    stored: BTreeSet<(NodeId, u64)>,
    /// Duties as they were told last.
    told: Vec<Duty>,
}

impl Store {
    pub(crate) fn write(
        &mut self,
        entries: &[Entry],
        hard_state: HardState,
        memories: &[(NodeId, Memory)],
        cut: Option<Cut>,
    ) {
        if let Some(Cut::UpTo(start) | Cut::GivenUp(start) | Cut::Anew(start)) = cut {
            self.start = start;
            self.entries.retain(|entry| entry.index > start.index);
        }
        if let Some(Cut::Anew(_)) = cut {
            self.entries.clear();
        }
        if let Some(first) = entries.first() {
            self.entries.retain(|entry| entry.index < first.index);
            self.entries.extend_from_slice(entries);
        }
        self.hard_state = hard_state;
        for (peer, memory) in memories {
            self.memories.retain(|(known, _)| known != peer);
            self.memories.push((*peer, *memory));
        }
    }

    pub(crate) fn read(&self, low: u64, high: u64) -> Vec<Entry> {
        let wanted = |entry: &&Entry| (low..high).contains(&entry.index);
        self.entries.iter().filter(wanted).cloned().collect()
    }

    /// Work on the one page there is.
    pub(crate) fn pages(&mut self, work: Work, membership: &Membership) -> Option<Done> {
        Some(match work {
            Work::Keep { session } => {
                let summary = Summary { session, position: self.applied, pages: 1, root: 1 };
                self.kept = Some((summary, self.rows.clone()));
                Done::Kept(Some(summary))
            }
            Work::Serve { .. } => match &self.kept {
                Some((_, rows)) => Done::Served(Answer::Pages(rows.join("\n").into_bytes())),
                None => Done::Served(Answer::Gone),
            },
            Work::Compare { summary, .. } => {
                let wish = Wish::Pages { session: summary.session, pages: numbers(&[0]) };
                Done::Wants { wishes: vec![wish], is_last: true }
            }
            Work::Take { answer, .. } => {
                if let Answer::Pages(rows) = answer {
                    let rows = String::from_utf8_lossy(&rows).into_owned();
                    self.pulled = rows.lines().map(str::to_owned).collect();
                }
                Done::Wants { wishes: Vec::new(), is_last: true }
            }
            Work::Install { summary } => {
                (self.applied, self.rows) = (summary.position, std::mem::take(&mut self.pulled));
                Done::Installed(Some(membership.clone()))
            }
            Work::Release => {
                self.kept = None;
                return None;
            }
            Work::Drop { .. } | Work::Stand { .. } | Work::Settings { .. } => return None,
        })
    }

    /// The next process starts; the database holds what is known committed.
    pub(crate) fn restore(&mut self, membership: Membership) -> (u64, Restored) {
        self.boot += 1;
        if self.start.index == 0 {
            self.applied = Position::default();
            self.rows.clear();
            self.stored.clear();
        }
        self.apply(&self.read(self.applied.index + 1, self.hard_state.commit + 1));
        self.told = duties::of(&self.rows);
        let commit = self.hard_state.commit.max(self.applied.index);
        let mut terms: Vec<TermRun> = Vec::new();
        for entry in &self.entries {
            if terms.last().is_none_or(|run| run.term != entry.term) {
                terms.push(TermRun { first: entry.index, term: entry.term });
            }
        }
        let restored = Restored {
            hard_state: HardState { commit, ..self.hard_state },
            applied: self.applied,
            membership,
            start: self.start,
            terms,
            last_index: self.entries.last().map_or(self.start.index, |entry| entry.index),
            tail: self.read(self.applied.index + 1, u64::MAX),
            memories: self.memories.clone(),
            suspect: false,
            trust: Trust::default(),
            spool: self.spool_held(),
            duties: duties::of(&self.rows),
            ..Restored::default()
        };
        (self.boot, restored)
    }

    pub(crate) fn write_spool(&mut self, writes: Vec<SpoolWrite>) {
        for write in writes {
            match write {
                SpoolWrite::Put { place, readings, data, .. } => {
                    self.spool.insert(place, (u64::from(readings), data));
                }
                SpoolWrite::Take { first, last } => {
                    self.spool.retain(|place, _| !(first..=last).contains(place));
                }
            }
        }
    }

    pub(crate) fn pieces(&self, after: u64) -> Vec<SpoolPiece> {
        let pieces = self.spool.range(after + 1..);
        let piece = |(place, (readings, data)): (&u64, &(u64, Vec<u8>))| SpoolPiece {
            place: *place,
            readings: u32::try_from(*readings).unwrap_or(u32::MAX),
            data: data.clone(),
        };
        pieces.map(piece).collect()
    }

    fn spool_held(&self) -> SpoolHeld {
        SpoolHeld {
            first: self.spool.keys().next().copied().unwrap_or(0),
            last: self.spool.keys().next_back().copied().unwrap_or(0),
            readings: self.spool.values().map(|(readings, _)| readings).sum(),
            bytes: self.spool.values().map(|(_, data)| data.len() as u64).sum(),
            lowest: 0,
        }
    }

    /// A batch of readings alone, as the database would plan it.
    fn plan(&self, base: Position, batches: Vec<Batch>) -> Executed {
        let mut known = self.stored.clone();
        let mut segments = Vec::new();
        for Batch { board, floor, readings, .. } in &batches {
            let fresh = readings.iter().filter(|(number, _)| known.insert((*board, *number)));
            let row = |(number, reading): &(u64, understudy_core::readings::Reading)| StoredRow {
                number: *number,
                sensor: 1,
                time: reading.time,
                value: reading.value.clone(),
                id: None,
                token: None,
                is_far: false,
            };
            let rows: Vec<_> = fresh.map(row).collect();
            if !rows.is_empty() {
                let stored = Stored { board: *board, floor: *floor, rows, ..Stored::default() };
                segments.push(Segment::Readings(stored));
            }
        }
        let answers = batches.iter().map(|_| Ok(sql::encode(&Verdict::default()))).collect();
        Executed { change: Change { base, fingerprint: 0, segments }.encode(), answers }
    }

    fn store(&mut self, entry: &Entry, before: Position) -> Option<Outcome> {
        let change = Change::decode(&entry.data, entry.position()).ok()?;
        let mut outcome = None;
        for segment in change.segments {
            let Segment::Readings(stored) = segment else { continue };
            outcome = Some(Outcome::Skipped);
            if change.base == before && before.term == entry.term {
                outcome = Some(Outcome::Changed);
                let numbers = stored.rows.iter().map(|row| (stored.board, row.number));
                self.stored.extend(numbers);
                self.rows.push(format!("{} of n{}", stored.rows.len(), stored.board));
            }
        }
        outcome
    }

    /// A batch: its base, and each request's text on a line; or readings.
    pub(crate) fn execute(&self, base: Position, requests: &[Vec<u8>]) -> Executed {
        let batch = |request: &Vec<u8>| match ReadingsWork::decode(request)? {
            ReadingsWork::Store(batch) => Some(batch),
            ReadingsWork::Clock(_) | ReadingsWork::Tend(_) => None,
        };
        if let Some(batches) = requests.iter().map(batch).collect() {
            return self.plan(base, batches);
        }
        // No board of a script has a start that was lost.
        if let Some(Incarnation { board, boot, .. }) = requests.first().and_then(|r| begins(r)) {
            let text = format!("start {boot} of n{board}").into_bytes();
            return Executed { change: on(base, &text), answers: vec![Ok(answer(true))] };
        }
        let (texts, answers) = duties::execute(&self.rows, requests);
        let answers = answers.into_iter().map(Ok).collect();
        Executed { change: on(base, texts.join("\n").as_bytes()), answers }
    }

    /// The group's duties, when they have changed since they were told last.
    pub(crate) fn take_duties(&mut self) -> Option<Vec<Duty>> {
        let duties = duties::of(&self.rows);
        let told = std::mem::replace(&mut self.told, duties.clone());
        (told != duties).then_some(duties)
    }

    pub(crate) const fn applied(&self) -> Position {
        self.applied
    }

    pub(crate) fn apply(&mut self, entries: &[Entry]) -> Vec<Outcome> {
        entries.iter().map(|entry| self.apply_one(entry)).collect()
    }

    fn apply_one(&mut self, entry: &Entry) -> Outcome {
        assert_eq!(entry.index, self.applied.index + 1, "entries come one after the other");
        let before = std::mem::replace(&mut self.applied, entry.position());
        if let Some(outcome) = self.store(entry, before) {
            return outcome;
        }
        let Some((base, text)) = entry.data.split_at_checked(BASE_BYTES) else {
            return Outcome::Changed;
        };
        if entry.kind == EntryKind::Membership {
            return Outcome::Changed;
        }
        let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
        let base = Position { term: number(&base[..8]), index: number(&base[8..]) };
        if base != before || base.term != entry.term {
            return Outcome::Skipped;
        }
        self.rows.extend(String::from_utf8_lossy(text).lines().map(str::to_owned));
        Outcome::Changed
    }

    /// The database loses everything it has applied.
    pub(crate) fn reset(&mut self) -> Position {
        self.applied = Position::default();
        self.rows.clear();
        self.stored.clear();
        self.applied
    }

    pub(crate) fn rows(&self) -> String {
        self.rows.join(" ")
    }

    /// Terms of the log, from its first index on.
    pub(crate) fn log(&self) -> String {
        let terms: Vec<_> = self.entries.iter().map(|entry| entry.term.to_string()).collect();
        match self.start.index {
            0 => terms.join(" "),
            start => format!("after {start}: {}", terms.join(" ")),
        }
    }
}

/// A text that is bound to what it was executed on.
fn on(base: Position, text: &[u8]) -> Vec<u8> {
    [&base.term.to_le_bytes()[..], &base.index.to_le_bytes(), text].concat()
}
