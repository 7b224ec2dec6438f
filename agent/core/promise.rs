//! Does this disk still know what it promised? (design section 4, rule 7)
//!
//! Peers remember the last promise each voter was seen to make. A starting
//! voter asks them all, and neither votes nor acknowledges until enough have
//! answered; one that knows of a higher promise proves the disk lost. Where too
//! few are there, a journal without damage is trusted after a wait.
//!
//! Sound because a damaged journal loses a suffix of its history: what survives
//! is an earlier state, and a state that still holds the promised term holds all
//! that was acknowledged in it before. That it stays so, a node takes nothing from
//! its peers before it is sure, and a damaged journal stays under suspicion, start
//! after start, until peers have cleared it.
//!
//! Left out: disks emptied or swapped on purpose, which join anew.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};

use crate::{
    event::{HardState, Millis, NodeId, Promise},
    mutant,
};

/// What this node remembers of its peers.
#[derive(Default)]
pub(crate) struct Promises {
    seen: BTreeMap<NodeId, Promise>,
    unsaved: BTreeSet<NodeId>,
}

impl Promises {
    pub(crate) fn new(saved: Vec<(NodeId, Promise)>) -> Self {
        Self { seen: saved.into_iter().collect(), unsaved: BTreeSet::new() }
    }

    /// Notes a promise `peer` was seen to make.
    pub(crate) fn note(&mut self, peer: NodeId, promise: Promise) {
        let known = self.seen.entry(peer).or_default();
        let merged = merge(*known, promise);
        if merged != *known {
            *known = merged;
            self.unsaved.insert(peer);
        }
    }

    /// The strongest promise `peer` was seen to make; zero when none was.
    pub(crate) fn of(&self, peer: NodeId) -> Promise {
        self.seen.get(&peer).copied().unwrap_or_default()
    }

    /// What changed since the last call, for the next write of the journal.
    pub(crate) fn take_unsaved(&mut self) -> Vec<(NodeId, Promise)> {
        let unsaved = core::mem::take(&mut self.unsaved);
        unsaved.into_iter().map(|peer| (peer, self.of(peer))).collect()
    }
}

fn merge(known: Promise, seen: Promise) -> Promise {
    if seen.term > known.term {
        return seen;
    }
    if seen.term < known.term {
        return known;
    }
    Promise {
        term: known.term,
        vote: if known.vote == 0 { seen.vote } else { known.vote },
        matched: known.matched.max(seen.matched),
        sent: known.sent.max(seen.sent),
    }
}

/// How far a starting voter is with asking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Votes and acknowledges.
    Sure,
    /// Waits for these to answer; `needed` more are enough.
    Asking { unheard: BTreeSet<NodeId>, needed: usize, since: Millis, suspect: bool },
    /// A peer, or this board's own database, remembers more than this disk does: it
    /// never votes again.
    Lost,
}

impl Standing {
    /// A node that starts among `voters` (itself included).
    pub(crate) fn start(now: Millis, own: NodeId, voters: &[NodeId], suspect: bool) -> Self {
        let unheard: BTreeSet<_> = voters.iter().copied().filter(|id| *id != own).collect();
        let majority = voters.len() / 2 + 1;
        let needed = majority.min(unheard.len());
        if needed == 0 || !voters.contains(&own) {
            return Self::Sure;
        }
        Self::Asking { unheard, needed, since: now, suspect }
    }

    /// A peer tells what it remembers of this node, which has taken nothing from
    /// anyone since it started. True when that cleared a suspicion.
    pub(crate) fn told(
        &mut self,
        peer: NodeId,
        promise: Promise,
        own: HardState,
        last: u64,
    ) -> bool {
        let Self::Asking { unheard, needed, suspect, .. } = self else { return false };
        let suspect = *suspect;
        if is_broken(promise, own, last, suspect) && !mutant::is(13) {
            *self = Self::Lost;
            return false;
        }
        if unheard.remove(&peer) {
            *needed -= 1;
        }
        if *needed > 0 {
            return false;
        }
        *self = Self::Sure;
        suspect
    }

    /// Time passes: an undamaged journal is trusted after `start_wait_ms`.
    /// True when that was just decided.
    pub(crate) fn wait(&mut self, now: Millis, start_wait_ms: u64) -> bool {
        let Self::Asking { since, suspect: false, .. } = self else { return false };
        if now.since(*since) < start_wait_ms {
            return false;
        }
        *self = Self::Sure;
        true
    }

    /// Whom to ask again.
    pub(crate) fn unheard(&self) -> Vec<NodeId> {
        match self {
            Self::Asking { unheard, .. } => unheard.iter().copied().collect(),
            Self::Sure | Self::Lost => Vec::new(),
        }
    }
}

/// This node's own memory falls short of what a peer saw it promise.
fn is_broken(promise: Promise, own: HardState, last_index: u64, suspect: bool) -> bool {
    let other_vote = promise.vote != 0 && own.vote != promise.vote;
    let held = if suspect { promise.matched.max(promise.sent) } else { promise.matched };
    own.term < promise.term || (own.term == promise.term && (last_index < held || other_vote))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: HardState = HardState { term: 5, vote: 2, commit: 7 };

    fn asking() -> Standing {
        Standing::start(Millis(0), 1, &[1, 2, 3], false)
    }

    #[test]
    fn of_three_voters_both_others_must_answer() {
        let mut standing = asking();
        standing.told(2, Promise { term: 5, vote: 2, matched: 9, sent: 0 }, OWN, 9);
        assert_eq!(standing.unheard(), [3]);
        standing.told(2, Promise::default(), OWN, 9);
        assert_ne!(standing, Standing::Sure);
        standing.told(3, Promise::default(), OWN, 9);
        assert_eq!(standing, Standing::Sure);
    }

    #[test]
    fn of_five_voters_three_others_are_enough() {
        let standing = Standing::start(Millis(0), 1, &[1, 2, 3, 4, 5], false);
        let Standing::Asking { needed, .. } = standing else { panic!("it asks") };
        assert_eq!(needed, 3);
    }

    #[test]
    fn a_voter_alone_asks_nobody() {
        assert_eq!(Standing::start(Millis(0), 1, &[1], false), Standing::Sure);
    }

    #[test]
    fn a_higher_term_an_unknown_vote_or_a_lost_tail_is_a_lost_disk() {
        for promise in [
            Promise { term: 6, vote: 0, matched: 0, sent: 0 },
            Promise { term: 5, vote: 3, matched: 0, sent: 0 },
            Promise { term: 5, vote: 0, matched: 10, sent: 0 },
        ] {
            let mut standing = asking();
            standing.told(2, promise, OWN, 9);
            assert_eq!(standing, Standing::Lost);
        }
    }

    #[test]
    fn what_a_leader_sent_is_held_against_a_damaged_disk_only() {
        let led = Promise { term: 5, vote: 2, matched: 0, sent: 10 };
        let mut sound = asking();
        assert!(!sound.told(2, led, OWN, 9));
        assert_eq!(sound.unheard(), [3]);
        let mut damaged = Standing::start(Millis(0), 1, &[1, 2, 3], true);
        assert!(!damaged.told(2, led, OWN, 9));
        assert_eq!(damaged, Standing::Lost);
    }

    #[test]
    fn only_the_answers_needed_clear_a_suspicion() {
        let mut damaged = Standing::start(Millis(0), 1, &[1, 2, 3], true);
        assert!(!damaged.told(2, Promise::default(), OWN, 9));
        assert!(damaged.told(3, Promise::default(), OWN, 9));
        assert_eq!(damaged, Standing::Sure);
    }

    #[test]
    fn an_overwritten_suffix_of_an_older_term_is_no_loss() {
        let mut standing = asking();
        standing.told(2, Promise { term: 4, vote: 3, matched: 50, sent: 0 }, OWN, 9);
        assert_eq!(standing.unheard(), [3]);
    }

    #[test]
    fn silence_is_waited_out_only_without_damage() {
        let mut standing = asking();
        assert!(!standing.wait(Millis(4_999), 5_000));
        assert!(standing.wait(Millis(5_000), 5_000));
        let mut damaged = Standing::start(Millis(0), 1, &[1, 2, 3], true);
        assert!(!damaged.wait(Millis(1_000_000), 5_000));
    }

    #[test]
    fn the_strongest_promise_is_remembered() {
        let mut promises = Promises::default();
        promises.note(2, Promise { term: 3, vote: 1, matched: 0, sent: 0 });
        promises.note(2, Promise { term: 3, vote: 0, matched: 8, sent: 0 });
        promises.note(2, Promise { term: 2, vote: 3, matched: 90, sent: 0 });
        assert_eq!(promises.of(2), Promise { term: 3, vote: 1, matched: 8, sent: 0 });
        assert_eq!(promises.take_unsaved().len(), 1);
        assert!(promises.take_unsaved().is_empty());
    }
}
