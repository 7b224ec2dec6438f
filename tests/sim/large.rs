//! Large entries over roads that lose, repeat and reorder, where nothing else goes
//! wrong: whole boards, from the caller to the rows.

use understudy::store::database::QueryOutcome;
use understudy_core::event::{Event, NodeId, Reply};

use super::{
    board::Process,
    calls::{self, Asked},
    faults::Plan,
    vfs,
    world::World,
};

/// Time for a group to find its leader, and for a request to come to its end.
const START_MS: u64 = 4_000;
const REQUEST_MS_MAX: u64 = 60_000;

/// What came of a request.
#[derive(Debug, PartialEq, Eq)]
pub struct Crossing {
    /// What its caller was told that is wrong.
    pub error: Option<String>,
    /// What each board holds.
    pub boards: Vec<Held>,
}

/// What a board holds.
#[derive(Debug, PartialEq, Eq)]
pub struct Held {
    /// Last entry applied.
    pub index: u64,
    /// What the query answers: one number.
    pub answer: Option<u64>,
    /// Over all rows.
    pub rows: u64,
    /// Over all pages.
    pub pages: u64,
}

/// A group on bad roads.
pub struct Roads(World);

impl Roads {
    /// Three boards, one of which leads soon.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        vfs::seed(seed);
        let mut world = World { plan: Plan::of_roads_alone(), ..World::new(seed) };
        world.found();
        world.play(START_MS);
        Self(world)
    }

    /// A board that does not lead is asked; `query` looks at what each then holds.
    ///
    /// # Panics
    /// When nobody leads, or a rule of the simulator is broken.
    pub fn ask(&mut self, statements: &[&str], query: &str) -> Crossing {
        let world = &mut self.0;
        let leads = |process: &Process| process.node.leads();
        let follows = |id: &NodeId| !world.boards[id].process.as_ref().is_some_and(leads);
        let id = world.boards.keys().copied().find(follows).expect("at most one leads");
        let epoch = world.boards[&id].epoch;
        world.requests += 1;
        let request = world.requests;
        world.asked.insert((id, epoch, request), Asked::Plain);
        world.give(id, Event::Requested { id: request, request: calls::write(statements) });
        let end = world.now + REQUEST_MS_MAX;
        while world.now < end && (world.told.is_none() || !is_level(world)) {
            world.play(world.now + 100);
        }
        assert_eq!(world.check.violation, None);
        let error = match world.told.take() {
            Some(Reply::Done { answer, .. }) => calls::failure(&answer),
            Some(Reply::Refused(refusal)) => Some(refusal.to_string()),
            None => Some(String::from("no answer")),
        };
        let processes = world.boards.values_mut().filter_map(|board| board.process.as_mut());
        let boards = processes.map(|process| held(process, query)).collect();
        Crossing { error, boards }
    }

    /// Datagrams lost so far, and sent twice.
    #[must_use]
    pub const fn lost_and_repeated(&self) -> (u64, u64) {
        (self.0.lost, self.0.repeated)
    }
}

/// All boards have applied the same, and all there is.
fn is_level(world: &World) -> bool {
    let processes = || world.boards.values().filter_map(|board| board.process.as_ref());
    let end = processes().map(|process| process.journal.last_index()).max();
    processes().all(|process| Some(process.node.applied().index) == end)
}

fn held(process: &mut Process, query: &str) -> Held {
    let answer = match process.database.query(&calls::sql_of(&[query])) {
        Ok(QueryOutcome::Answered(answer)) => calls::number(&answer),
        Ok(QueryOutcome::NeedsReader) | Err(_) => None,
    };
    Held {
        index: process.database.applied().index,
        answer,
        rows: process.database.content_digest().unwrap_or(0),
        pages: process.database.page_digest().unwrap_or(0),
    }
}
