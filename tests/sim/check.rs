//! What must hold, whatever happens. A broken rule ends the seed.

use std::collections::BTreeMap;

use understudy_core::event::NodeId;

/// What became of a write, as its caller was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Not answered yet, or "not known".
    Open,
    /// Acknowledged.
    Done,
    /// "Nothing was changed."
    Refused,
}

/// The rules and what they remember.
#[derive(Default)]
pub(crate) struct Check {
    /// Who led in a term.
    leaders: BTreeMap<u64, NodeId>,
    /// Hash over all entries up to an index, as the first board applied it.
    chains: BTreeMap<u64, u64>,
    /// Hash over all pages at an index.
    pages: BTreeMap<u64, u64>,
    /// Highest term each board was heard to be in.
    terms: BTreeMap<NodeId, u64>,
    pub(crate) writes: BTreeMap<u64, Fate>,
    /// When each write was acknowledged.
    acknowledged: Vec<u64>,
    pub(crate) violation: Option<String>,
}

impl Check {
    pub(crate) fn fail(&mut self, what: String) {
        self.violation.get_or_insert(what);
    }

    /// True when that is new.
    pub(crate) fn leads(&mut self, term: u64, node: NodeId) -> bool {
        let known = self.leaders.insert(term, node);
        if known.is_some_and(|known| known != node) {
            self.fail(format!("term {term} has two leaders: {known:?} and {node}"));
        }
        known.is_none()
    }

    pub(crate) fn applied(&mut self, node: NodeId, index: u64, chain: u64) {
        let known = *self.chains.entry(index).or_insert(chain);
        if known != chain {
            self.fail(format!("board {node} applied another entry than the others up to {index}"));
        }
    }

    pub(crate) fn pages(&mut self, node: NodeId, index: u64, digest: u64) {
        let known = *self.pages.entry(index).or_insert(digest);
        if known != digest {
            self.fail(format!("board {node} has other pages than the others at {index}"));
        }
    }

    /// A board was heard in this term: it may never be in an older one again.
    pub(crate) fn spoke(&mut self, node: NodeId, term: u64) {
        let known = self.terms.entry(node).or_default();
        *known = term.max(*known);
    }

    /// A board comes back from its disk in this term.
    pub(crate) fn came_back(&mut self, node: NodeId, term: u64) {
        let known = self.terms.get(&node).copied().unwrap_or_default();
        if term < known {
            self.fail(format!("board {node} was in term {known} and came back in {term}"));
        }
    }

    /// Its card lost what it had promised: only what it does from now on counts.
    pub(crate) fn lost_its_promises(&mut self, node: NodeId) {
        self.terms.remove(&node);
    }

    /// A write is acknowledged.
    pub(crate) fn acknowledge(&mut self, now: u64) {
        self.acknowledged.push(now);
    }

    /// Writes acknowledged by then: what a read as of then must see.
    pub(crate) fn acknowledged(&self, then: u64) -> u64 {
        self.acknowledged.partition_point(|at| *at <= then) as u64
    }

    /// What a board holds in the end, each value with how often.
    pub(crate) fn holds(&mut self, node: NodeId, rows: &BTreeMap<u64, u64>, counter: u64) {
        let mut faults = Vec::new();
        for (value, fate) in &self.writes {
            let count = rows.get(value).copied().unwrap_or(0);
            let fits = match fate {
                Fate::Open => count <= 1,
                Fate::Done => count == 1,
                Fate::Refused => count == 0,
            };
            if !fits {
                faults.push(format!("board {node} holds write {value} {count} times: {fate:?}"));
            }
        }
        let sum: u64 = rows.values().sum();
        if sum != counter {
            faults.push(format!("board {node} counted {counter} writes and holds {sum}"));
        }
        if let Some(fault) = faults.into_iter().next() {
            self.fail(fault);
        }
    }
}
