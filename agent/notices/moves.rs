//! Which duties have gone from one board to another since the last look. A duty that nobody
//! held meanwhile has moved too; one that is taken for the first time has not, nor by
//! another start of the same board.

use std::collections::BTreeMap;

use understudy_core::{
    duty::{Claim, Duty},
    event::{Millis, NodeId},
};

/// A duty that went from one board to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    /// Its name.
    pub duty: String,
    /// The grant by which it did.
    pub claim: Claim,
    /// Who had it last.
    pub from: NodeId,
    /// Who has it.
    pub to: NodeId,
}

/// When each duty moved the last time that was seen, by its number.
#[derive(Default)]
pub struct Moves(BTreeMap<u64, Millis>);

impl Moves {
    /// Duties, each with when and how it moved last, as the node has seen it: those that
    /// have moved since the last look.
    pub fn look<'d>(
        &mut self,
        duties: impl Iterator<Item = (&'d Duty, Option<(Millis, NodeId, NodeId)>)>,
    ) -> Vec<Move> {
        let before = std::mem::take(&mut self.0);
        let moved = duties.filter_map(|(duty, last)| {
            let (at, from, to) = last?;
            self.0.insert(duty.id, at);
            let is_new = before.get(&duty.id) != Some(&at);
            is_new.then(|| Move { duty: duty.name.clone(), claim: duty.claim(), from, to })
        });
        moved.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_move_is_told_once_however_seldom_it_is_looked() {
        let mut moves = Moves::default();
        let duty = Duty { id: 4, name: String::from("pump"), token: 8, ..Duty::default() };
        let mut look = |last| -> Vec<(u64, u64)> {
            let moved = moves.look([(&duty, last)].into_iter());
            moved.into_iter().map(|it| (it.from, it.to)).collect()
        };
        assert_eq!(look(None), [], "it was taken for the first time, if at all");
        assert_eq!(look(Some((Millis(9), 1, 2))), [(1, 2)]);
        assert_eq!(look(Some((Millis(9), 1, 2))), []);
        assert_eq!(look(Some((Millis(30), 1, 2))), [(1, 2)], "it was back meanwhile");
        assert!(moves.look(std::iter::empty()).is_empty() && moves.0.is_empty());
    }
}
