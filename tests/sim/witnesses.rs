//! Some groups are two boards and a witness. One of the two may burn, for good: then
//! what was acknowledged is on the other in the end. A draw of its own, so that what
//! all other seeds draw stays as it is.

use understudy::store::database::QueryOutcome;
use understudy_core::event::{Effect, NodeId};

use super::{
    board::{Board, Process},
    calls,
    faults::Plan,
    random::Random,
    world::World,
};

/// The board that is the witness, where a group begins with one.
pub(crate) const WITNESS: NodeId = 3;

/// Of all groups, per mille.
const GROUPS: u64 = 250;

/// Keeps the draw apart from those of the world.
const SALT: u64 = 0x5769_746e_6573_7321;

/// What a group has of it.
#[derive(Clone, Copy, Default)]
pub(crate) struct Pair {
    /// What the witness's log may take, bytes; 0 where there is none.
    pub(crate) log_bytes: u64,
    /// The group writes on with one copy.
    pub(crate) one_copy: bool,
    /// One of the two burns then.
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
        Self { pair, damage: 0, diverge: 0, depose: 0, moves: self.moves && !burns, ..self }
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
        let burns = |(board, at)| board == id && self.now >= at;
        self.plan.pair.burns_at.is_some_and(burns)
    }

    /// Did it burn, or does it now?
    pub(crate) fn burns(&mut self, id: NodeId) -> bool {
        if !self.has_burnt(id) {
            return false;
        }
        if self.boards[&id].process.is_some() {
            self.tell(|| format!("board {id} burns"));
            self.board(id).cut_power();
            self.asked.retain(|(board, ..), _| *board != id);
            self.outcome.burnt += 1;
        }
        true
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
