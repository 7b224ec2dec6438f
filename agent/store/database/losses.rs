//! Statements known to end SQLite's whole transaction, where they stand in a
//! batch that is executed again: `OR ROLLBACK`, `RAISE(ROLLBACK)`, a write that was
//! interrupted. Only so can the other statements of their request stand.
//!
//! What is known holds for one base: on another the statement may do well.

use std::collections::BTreeMap;

use understudy_core::event::Position;

/// Statements of one request that are passed over; each costs the batch another
/// execution.
pub(super) const LOSSES_MAX: usize = 8;

/// A statement of a request: which of its texts, and which statement of that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) statement: usize,
    pub(super) part: usize,
}

/// See the module's description.
#[derive(Debug, Default)]
pub(super) struct Losses {
    base: Position,
    begun_ns: u64,
    /// By the request's bytes, and how many equal ones stand before it.
    known: BTreeMap<(Vec<u8>, usize), BTreeMap<Place, String>>,
}

impl Losses {
    /// A batch is executed on this base, now by the stopwatch.
    pub(super) fn begin(&mut self, base: Position, now_ns: u64) {
        if base != self.base {
            self.base = base;
            self.known.clear();
        }
        if self.known.is_empty() {
            self.begun_ns = now_ns;
        }
    }

    /// When the batch was begun; where it is executed again, the first time.
    pub(super) const fn begun_ns(&self) -> u64 {
        self.begun_ns
    }

    pub(super) fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Of the last of these requests, what its statements failed with.
    pub(super) fn of(&self, requests: &[Vec<u8>]) -> BTreeMap<Place, String> {
        if self.known.is_empty() {
            return BTreeMap::new();
        }
        self.known.get(&key(requests)).cloned().unwrap_or_default()
    }

    /// True when there was room for it.
    pub(super) fn note(&mut self, requests: &[Vec<u8>], at: Place, words: String) -> bool {
        let known = self.known.entry(key(requests)).or_default();
        let fits = known.len() < LOSSES_MAX;
        if fits {
            known.insert(at, words);
        }
        fits
    }
}

fn key(requests: &[Vec<u8>]) -> (Vec<u8>, usize) {
    let Some((last, before)) = requests.split_last() else { return (Vec::new(), 0) };
    (last.clone(), before.iter().filter(|request| *request == last).count())
}
