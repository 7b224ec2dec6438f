//! Which duties another board holds than before. A duty that nobody held meanwhile has
//! moved too; one that is taken for the first time has not, nor by another start of the
//! same board.

use std::collections::BTreeMap;

use understudy_core::{
    duty::{Claim, Duty},
    event::NodeId,
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

/// Who had each duty last, by its number.
#[derive(Default)]
pub struct Moves(BTreeMap<u64, NodeId>);

impl Moves {
    /// The group's duties are these now: those that have moved.
    pub fn look(&mut self, duties: &[Duty]) -> Vec<Move> {
        self.0.retain(|id, _| duties.iter().any(|duty| duty.id == *id));
        let held = duties.iter().filter_map(|duty| Some((duty, duty.holder?.board)));
        let moved = held.filter_map(|(duty, to)| {
            let from = self.0.insert(duty.id, to).filter(|from| *from != to)?;
            Some(Move { duty: duty.name.clone(), claim: duty.claim(), from, to })
        });
        moved.collect()
    }
}

#[cfg(test)]
mod tests {
    use understudy_core::duty::Incarnation;

    use super::*;

    #[test]
    fn a_duty_moves_when_another_board_takes_it() {
        let mut moves = Moves::default();
        let mut look = |token: u64, board: Option<NodeId>| {
            let holder = board.map(|board| Incarnation { board, boot: token, nonce: 0 });
            let name = String::from("pump");
            let duty = Duty { id: 4, name, token, holder, ..Duty::default() };
            moves.look(&[duty]).into_iter().map(|it| (it.from, it.to)).collect::<Vec<_>>()
        };
        assert_eq!(look(0, None), []);
        assert_eq!((look(5, Some(1)), look(6, Some(1)), look(7, None)), (vec![], vec![], vec![]));
        assert_eq!(look(8, Some(2)), [(1, 2)]);
        assert_eq!(look(8, Some(2)), []);
        assert!(moves.look(&[]).is_empty() && moves.0.is_empty(), "it is no more");
    }
}
