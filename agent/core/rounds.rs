//! Rounds of questions that a majority must confirm (ReadIndex: Ongaro's thesis, 6.4):
//! what came before a round began goes with it, what comes while it is under way waits
//! for the next.
//!
//! A round has a context that no board ever uses again: an answer to another
//! board's round, or to an older one, must never count for it (etcd #20418).
//! raft-rs 0.7.0 drops a round without a word (no leader, leadership too young,
//! context in use; upstream #569 only logs it), so one not answered in time is
//! asked anew under a fresh context, with all that came meanwhile.

use alloc::vec::Vec;

use crate::{
    event::{Millis, NodeId},
    wire::{ReadContext, read_context},
};

/// See the module's description.
pub(crate) struct Rounds<T> {
    node: NodeId,
    boot: u64,
    /// The number of the last round.
    number: u64,
    round: Option<Round<T>>,
    /// For the next round.
    gathering: Vec<T>,
}

struct Round<T> {
    context: ReadContext,
    since: Millis,
    waiting: Vec<T>,
}

impl<T> Rounds<T> {
    /// Those of one board's start, numbered from above `number`: no other rounds of that
    /// start may have the same numbers.
    pub(crate) const fn new(node: NodeId, boot: u64, number: u64) -> Self {
        Self { node, boot, number, round: None, gathering: Vec::new() }
    }

    /// Takes something for the next round.
    pub(crate) fn gather(&mut self, waits: T) {
        self.gathering.push(waits);
    }

    /// How much waits.
    pub(crate) fn len(&self) -> usize {
        self.round.as_ref().map_or(0, |round| round.waiting.len()) + self.gathering.len()
    }

    /// The context of a round to start now, if there is anything to ask: the
    /// first, or the last one over again.
    pub(crate) fn next(&mut self, now: Millis, retry_ms: u64) -> Option<ReadContext> {
        let mut waiting = match &mut self.round {
            Some(round) if now.since(round.since) < retry_ms => return None,
            Some(round) => core::mem::take(&mut round.waiting),
            None => Vec::new(),
        };
        waiting.append(&mut self.gathering);
        if waiting.is_empty() {
            self.round = None;
            return None;
        }
        self.number += 1;
        let context = read_context(self.node, self.boot, self.number);
        self.round = Some(Round { context, since: now, waiting });
        Some(context)
    }

    /// Nobody is there who could answer the round: what waits for it waits for the next.
    pub(crate) fn abandon(&mut self) {
        let waiting = self.round.take().map(|round| round.waiting);
        self.gathering.extend(waiting.unwrap_or_default());
    }

    /// What waited for this round, which is answered.
    pub(crate) fn confirmed(&mut self, context: &[u8]) -> Vec<T> {
        let round = self.round.take_if(|round| round.context == context);
        round.map(|round| round.waiting).unwrap_or_default()
    }

    /// When the round under way is to be asked anew.
    pub(crate) fn deadline(&self, retry_ms: u64) -> Option<Millis> {
        self.round.as_ref().map(|round| round.since.plus(retry_ms))
    }

    /// What waits for its round to begin.
    pub(crate) fn gathered(&self) -> impl Iterator<Item = &T> {
        self.gathering.iter()
    }

    /// Keeps only these, in the round under way and for the next.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        self.gathering.retain(&mut keep);
        if let Some(round) = &mut self.round {
            round.waiting.retain(&mut keep);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_round_is_asked_again_under_a_fresh_context() {
        let mut rounds = Rounds::new(1, 1, 0);
        rounds.gather('a');
        let lost = rounds.next(Millis(0), 100).unwrap();
        rounds.gather('b');
        assert!(rounds.next(Millis(50), 100).is_none());
        let fresh = rounds.next(Millis(100), 100).unwrap();
        assert_ne!(lost, fresh);
        assert!(rounds.confirmed(&lost).is_empty());
        assert_eq!(rounds.confirmed(&fresh), ['a', 'b']);
        assert!(rounds.next(Millis(300), 100).is_none());
    }

    #[test]
    fn contexts_of_two_boots_or_boards_never_match() {
        let context = |(node, boot)| {
            let mut rounds = Rounds::new(node, boot, 0);
            rounds.gather(());
            rounds.next(Millis(0), 100).unwrap()
        };
        assert_ne!(context((1, 1)), context((1, 2)));
        assert_ne!(context((1, 1)), context((2, 1)));
    }
}
