//! The search through `lease_model`: what holds in every state within bounds, what can be
//! reached at all, and that every planted bug of the rule is found by it.
//!
//! The plain tests search what is small. Before a release, and after any change of the
//! rule:
//!
//!     cargo test --profile sim -p understudy-core --lib lease::model -- --ignored --nocapture
//!
//! `cargo sim --mutants` runs the searches here for those planted bugs that draws do not
//! come upon.

extern crate std;

use alloc::{string::String, vec::Vec};
use core::ops::Range;
use std::{eprintln, format};

use stateright::{Checker, HasDiscoveries, Model, Property};

use super::model::{Bounds, Step, World};
use crate::mutant;

const ALONE: &str = "one board at a time";
const RISES: &str = "tokens rise";
const NEXT: &str = "another board takes over";
const HEIR: &str = "another board takes over in a later term";

struct Leases {
    bounds: Bounds,
    bug: u32,
    /// First holders and patterns of rates.
    starts: Vec<(usize, u32)>,
}

impl Model for Leases {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        mutant::here::choose(self.bug);
        self.starts
            .iter()
            .map(|(holder, rates)| World::new(&self.bounds, *holder, *rates))
            .collect()
    }

    fn actions(&self, world: &World, steps: &mut Vec<Step>) {
        mutant::here::choose(self.bug);
        world.steps(&self.bounds, steps);
    }

    fn next_state(&self, world: &World, step: Step) -> Option<World> {
        mutant::here::choose(self.bug);
        let mut next = world.clone();
        next.take(&self.bounds, step).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        Vec::from([
            Property::always(ALONE, |_, world: &World| !world.two_act()),
            Property::always(RISES, |model: &Self, world: &World| {
                !world.tokens_fall(&model.bounds)
            }),
            Property::sometimes(NEXT, |_, world: &World| world.heir_of_term().is_some()),
            Property::sometimes(HEIR, |_, world: &World| {
                world.heir_of_term().is_some_and(|term| term > 1)
            }),
        ])
    }
}

/// A lease that lasts one step of time by the slowest clock, and is waited for one step by
/// the fastest.
const LEASE_MS: u64 = 8;

const BASE: Bounds = Bounds {
    boards: 3,
    lease_ms: LEASE_MS,
    terms: 2,
    grants: 1,
    starts: 0,
    stops: 0,
    lengthens: 0,
    renewals: 1,
    drift: 1,
    wanders: false,
    stand: &[],
    linked: &[],
};

/// One leader all the time.
const CALM: Bounds = Bounds { terms: 1, grants: 2, ..BASE };

/// A former leader that reaches two of four boards, and one that stands for election twice,
/// and is heard by one of those and one more.
const FIVE: Bounds =
    Bounds { boards: 5, terms: 3, stand: &[3], linked: &[(0, 1), (0, 2), (1, 3), (3, 4)], ..BASE };

/// The first holder is the leader, or another, its clock is slow, and all others are fast:
/// nothing keeps two boards apart but the margins.
const HARDEST: [(usize, u32); 2] = [(0, 0b110), (1, 0b101)];

/// The rule as it is, but for what `cargo sim --mutants` has planted.
fn rule() -> u32 {
    #[cfg(mutants)]
    crate::rig::choose_mutant();
    0
}

/// Searches every state within these bounds; these heirs are among them.
fn holds_throughout(bounds: Bounds, starts: &[(usize, u32)], heirs: &[&str]) {
    let model = Leases { bounds, bug: rule(), starts: starts.to_vec() };
    let checker = model.checker().finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    eprintln!("{} states: {bounds:?}", checker.unique_state_count());
    let found = checker.discoveries();
    for name in [ALONE, RISES] {
        let steps = found.get(name).map(|path| format!("{:?}", path.clone().into_actions()));
        assert_eq!(steps, None, "not {name}: {bounds:?}");
    }
    for name in heirs {
        assert!(found.contains_key(name), "never: {name}, {bounds:?}");
    }
}

/// How this planted bug comes to light, searched deep first.
fn comes_to_light(bug: u32, bounds: Bounds, start: (usize, u32)) -> (&'static str, String) {
    let model = Leases { bounds, bug, starts: Vec::from([start]) };
    let checker = model.checker().finish_when(HasDiscoveries::AnyFailures).spawn_dfs().join();
    eprintln!("planted bug {bug}: {} states", checker.unique_state_count());
    let found = checker.discoveries().into_iter().find(|(name, _)| [ALONE, RISES].contains(name));
    let (name, path) = found.unwrap_or_else(|| panic!("planted bug {bug} is not found"));
    (name, format!("{:?}", path.into_actions()))
}

#[test]
fn one_board_at_a_time_whoever_leads() {
    holds_throughout(BASE, &HARDEST, &[NEXT, HEIR]);
}

#[test]
fn one_board_at_a_time_whichever_agent_starts_anew() {
    holds_throughout(Bounds { starts: 1, ..CALM }, &HARDEST, &[NEXT]);
    holds_throughout(Bounds { starts: 1, ..BASE }, &HARDEST[..1], &[NEXT, HEIR]);
}

#[test]
fn one_board_at_a_time_whoever_gives_up() {
    holds_throughout(Bounds { stops: 1, grants: 1, ..CALM }, &HARDEST, &[NEXT]);
}

#[test]
fn one_board_at_a_time_while_the_lease_is_made_longer() {
    holds_throughout(Bounds { lengthens: 1, grants: 1, ..CALM }, &HARDEST, &[NEXT]);
}

#[test]
fn each_planted_bug_comes_to_light() {
    let bugs = [
        (100, CALM),
        (101, Bounds { starts: 1, ..BASE }),
        (102, BASE),
        (103, CALM),
        (104, CALM),
        (105, CALM),
        (106, CALM),
        (107, Bounds { starts: 1, ..CALM }),
        (108, BASE),
        (109, BASE),
        (111, CALM),
        (112, Bounds { starts: 1, grants: 1, ..CALM }),
        (113, Bounds { stops: 1, grants: 1, ..CALM }),
        (120, Bounds { lengthens: 1, grants: 1, ..CALM }),
    ];
    for (bug, bounds) in bugs {
        let (name, _) = comes_to_light(bug, bounds, HARDEST[1]);
        assert!(name == RISES || bug != 111, "{name} after {bug}");
    }
    comes_to_light(114, FIVE, (0, 0b11110));
    // Nor does the rule hold for clocks that are off by more than it says.
    comes_to_light(0, Bounds { drift: 2, ..CALM }, HARDEST[1]);
}

#[test]
#[ignore = "takes minutes, and is for an optimised build"]
fn one_board_at_a_time_within_wider_bounds() {
    let every = |patterns: Range<u32>| -> Vec<(usize, u32)> {
        patterns.flat_map(|rates| [(0, rates), (1, rates)]).collect()
    };
    holds_throughout(FIVE, &[(0, 0b11110)], &[HEIR]);
    let still = |bounds| holds_throughout(bounds, &HARDEST, &[NEXT]);
    holds_throughout(Bounds { lease_ms: 2 * LEASE_MS, ..BASE }, &every(0..8), &[NEXT, HEIR]);
    holds_throughout(Bounds { lease_ms: 3 * LEASE_MS, ..BASE }, &HARDEST, &[NEXT, HEIR]);
    holds_throughout(Bounds { wanders: true, ..BASE }, &every(0..1), &[NEXT, HEIR]);
    still(Bounds { starts: 2, stops: 1, ..CALM });
    still(Bounds { renewals: 2, ..BASE });
    still(Bounds { grants: 2, ..BASE });
    still(Bounds { starts: 1, stops: 1, ..BASE });
    still(Bounds { terms: 3, ..BASE });
    still(Bounds { lengthens: 1, ..BASE });
}
