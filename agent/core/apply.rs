//! Which committed entries the database has, which are on their way to it, and
//! which come next. The entries themselves are never kept here: they are read
//! from the log in memory, or, after the database has lost its transaction, read
//! back from the journal.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use crate::{
    event::{Entry, Outcome, Position},
    limits::{APPLIES_OPEN_MAX, APPLY_BYTES_MAX},
    log::Log,
};

/// See the module's description.
pub(crate) struct Applier {
    applied: Position,
    /// The last entry handed to the database.
    handed: Position,
    /// The last entry handed to it before it fell back: callers were told of that.
    fell_from: u64,
    /// Last index committed and on this node's disk.
    target: u64,
    open: VecDeque<(u64, Vec<Position>)>,
    /// Read back from the journal, and whether what was to follow it is still so.
    fetch: Option<(u64, bool)>,
}

/// What the applier wants done next.
pub(crate) enum Step {
    /// Apply these.
    Apply(Vec<Entry>),
    /// Read back `low..high`.
    Fetch { low: u64, high: u64 },
}

impl Applier {
    pub(crate) const fn new(applied: Position) -> Self {
        Self {
            applied,
            handed: applied,
            fell_from: 0,
            target: applied.index,
            open: VecDeque::new(),
            fetch: None,
        }
    }

    pub(crate) const fn applied(&self) -> Position {
        self.applied
    }

    /// Nothing is on its way and nothing is due.
    pub(crate) fn is_idle(&self) -> bool {
        self.applied.index == self.target && self.open.is_empty()
    }

    /// The database has nothing under way of what is applied.
    pub(crate) fn is_still(&self) -> bool {
        self.open.is_empty() && self.fetch.is_none()
    }

    /// The database holds another state than what was applied to it.
    pub(crate) fn skip_to(&mut self, applied: Position) {
        assert!(self.is_still() && applied.index >= self.applied.index, "it only goes forward");
        (self.applied, self.handed) = (applied, applied);
        self.target = self.target.max(applied.index);
    }

    /// What a batch given to the database now will find applied: it takes one
    /// thing after the other. `None` while not all that is committed is with it.
    pub(crate) fn base(&self) -> Option<Position> {
        (self.handed.index == self.target).then_some(self.handed)
    }

    /// Index of the last entry that whatever the database is given now finds applied.
    pub(crate) const fn handed_index(&self) -> u64 {
        self.handed.index
    }

    /// Index of the last entry it had been given before it fell back.
    pub(crate) const fn fell_from(&self) -> u64 {
        self.fell_from
    }

    /// The database fell back and is being brought to where it was.
    pub(crate) const fn has_fallen_back(&self) -> bool {
        self.applied.index < self.fell_from
    }

    /// Entries up to `index` are committed and on disk here.
    pub(crate) fn commit(&mut self, index: u64) {
        self.target = self.target.max(index);
    }

    pub(crate) fn next(&self, log: &Log) -> Option<Step> {
        if self.handed.index >= self.target
            || self.open.len() >= APPLIES_OPEN_MAX
            || self.fetch.is_some()
        {
            return None;
        }
        let (low, high) = (self.handed.index + 1, self.target + 1);
        Some(match log.in_memory(low, high, APPLY_BYTES_MAX) {
            Some(entries) => Step::Apply(entries),
            None => Step::Fetch { low, high: high.min(log.in_memory_from()) },
        })
    }

    pub(crate) fn fetching(&mut self, number: u64) {
        self.fetch = Some((number, true));
    }

    /// Is this the answer to a fetch of ours, and wanted still? It is no longer
    /// waited for.
    pub(crate) fn fetched(&mut self, number: u64) -> bool {
        let fetch = self.fetch.take_if(|(expected, _)| *expected == number);
        fetch.is_some_and(|(_, wanted)| wanted)
    }

    /// These are on their way, as effect `number`.
    pub(crate) fn handed(&mut self, number: u64, entries: &[Entry]) {
        for entry in entries {
            let next = self.handed.index + 1;
            assert_eq!(entry.index, next, "entries are applied one after the other");
            self.handed = entry.position();
        }
        self.open.push_back((number, entries.iter().map(Entry::position).collect()));
    }

    /// The database has applied effect `number`: each entry with how it ended.
    /// Empty when it is no longer waited for.
    pub(crate) fn done(&mut self, number: u64, outcomes: Vec<Outcome>) -> Vec<(Position, Outcome)> {
        if self.open.front().is_none_or(|(expected, _)| *expected != number) {
            return Vec::new();
        }
        let (_, entries) = self.open.pop_front().expect("just seen");
        assert_eq!(entries.len(), outcomes.len(), "one outcome per entry");
        if let Some(last) = entries.last() {
            self.applied = *last;
        }
        entries.into_iter().zip(outcomes).collect()
    }

    /// The database is back at `applied`: everything above it comes again.
    pub(crate) fn reset(&mut self, applied: Position) {
        assert!(applied.index <= self.handed.index, "the database holds what it was never given");
        self.fell_from = self.fell_from.max(self.handed.index);
        self.applied = applied;
        self.handed = applied;
        self.open.clear();
        // One fetch at a time, however often the database falls back meanwhile.
        if let Some((_, wanted)) = &mut self.fetch {
            *wanted = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use crate::{event::HardState, member::Membership, restored::TermRun};

    use super::*;

    #[test]
    fn after_a_reset_one_fetch_is_under_way_at_most() {
        let terms = Vec::from([TermRun { first: 1, term: 1 }]);
        let terms = (Position::default(), terms);
        let log = Log::new(HardState::default(), Membership::default(), terms, 9, Vec::new());
        let mut applier = Applier::new(Position { term: 1, index: 9 });
        applier.reset(Position { term: 1, index: 3 });
        assert!(matches!(applier.next(&log), Some(Step::Fetch { low: 4, high: 10 })));
        applier.fetching(1);
        applier.reset(Position { term: 1, index: 2 });
        assert!(applier.next(&log).is_none());
        assert!(!applier.fetched(1), "what comes now would leave a gap");
        assert!(matches!(applier.next(&log), Some(Step::Fetch { low: 3, high: 10 })));
        applier.fetching(2);
        assert!(applier.fetched(2));
    }
}
