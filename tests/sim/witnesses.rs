//! Some groups are two boards and a witness. One of the two may burn, for good: then
//! what was acknowledged is on the other in the end. A draw of its own, so that what
//! all other seeds draw stays as it is.

use understudy::store::database::QueryOutcome;
use understudy_core::{
    event::{Effect, NodeId},
    retention::Kept,
};

use super::{
    board::{BOARDS, Board, Process},
    calls,
    faults::Plan,
    random::Random,
    world::World,
};

/// The board that is the witness, where a group begins with one.
pub(crate) const WITNESS: NodeId = 3;

/// Of all groups, per mille.
const GROUPS: u64 = 250;

/// A witness keeps hardly more than it must.
pub(crate) const KEPT: Kept = Kept { entries: 4, bytes: 400 };

/// Keeps the draw apart from those of the world.
const SALT: u64 = 0x5769_746e_6573_7321;

/// What a group has of it.
#[derive(Clone, Copy, Default)]
pub(crate) struct Pair {
    /// What the witness's log may take, bytes; 0 where there is none.
    pub(crate) log_bytes: u64,
    /// The group writes on with one copy.
    pub(crate) one_copy: bool,
    /// One of the two burns, no earlier.
    pub(crate) burns_at: Option<(NodeId, u64)>,
}

impl Plan {
    pub(crate) fn with_witness(self, seed: u64) -> Self {
        let mut random = Random::new(seed ^ SALT);
        if !random.chance(GROUPS) {
            return self;
        }
        let burns = random.chance(500);
        let (board, at) = (1 + random.below(2), 10_000 + random.below(50_000));
        let pair = Pair {
            log_bytes: 40_000 + random.below(80_000),
            one_copy: !burns && random.chance(300),
            burns_at: burns.then_some((board, at)),
        };
        // Of two that differ nobody can tell which is right, and one that burns is enough.
        let moves = self.moves && !burns;
        let boards = BOARDS;
        Self { pair, damage: 0, diverge: 0, depose: 0, old: 0, moves, boards, ..self }
    }
}

impl Board {
    /// Is it one that keeps no rows?
    pub(crate) fn is_witness(&self) -> bool {
        self.pair.is_some()
    }
}

impl World {
    pub(crate) fn pair_of(&self, id: NodeId) -> Option<Pair> {
        (id == WITNESS && self.plan.pair.log_bytes > 0).then_some(self.plan.pair)
    }

    pub(crate) fn has_burnt(&self, id: NodeId) -> bool {
        self.burnt == Some(id)
    }

    /// One of the two burns while the other is away, if it does at all.
    pub(crate) fn perhaps_burn(&mut self) {
        let Some((id, at)) = self.plan.pair.burns_at else { return };
        let other = 3 - id;
        let may = self.burnt.is_none() && self.now >= at && self.boards[&other].process.is_none();
        if may && self.boards[&id].process.is_some() && self.faults.chance(60) {
            self.tell(|| format!("board {id} burns"));
            self.board(id).cut_power();
            self.asked.retain(|(board, ..), _| *board != id);
            self.burnt = Some(id);
            self.outcome.burnt += 1;
        }
    }

    /// A witness executes nothing, wherever it leads.
    pub(crate) fn look_at_witness(&mut self, id: NodeId, effect: &Effect) {
        if self.boards[&id].is_witness() && matches!(effect, Effect::Execute { .. }) {
            self.check.fail(format!("board {id}, a witness, executes"));
        }
    }
}

/// What is wrong with what a witness keeps.
pub(crate) fn kept_wrongly(process: &mut Process) -> Option<String> {
    let users = "SELECT count(*) FROM sqlite_schema WHERE name NOT LIKE '\\_understudy%' ESCAPE '\\' \
                 AND name NOT LIKE 'sqlite%'";
    match process.database.query(&calls::sql_of(&[users])) {
        Ok(QueryOutcome::Answered(answer)) if calls::number(&answer) == Some(0) => None,
        _ => Some(String::from("keeps tables of users")),
    }
}
