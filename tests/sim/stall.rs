//! A card that stalls: for seconds no sync of one board comes to an end, while some board
//! does a duty and the group is written to. Nothing else goes wrong.
//!
//! Everything that the journal's thread begins meanwhile waits for the end of it, and
//! where the database syncs in that time, what its thread begins as well. Where that is the
//! board that leads, nothing is executed meanwhile, and so nothing acknowledged.

use understudy_core::event::NodeId;

use super::{
    board::{DATABASE, JOURNAL},
    faults::Plan,
    vfs,
    world::World,
};

/// How long a card stalls that has its house to keep: what is seen of bad ones.
const STALL_MS: u64 = 7_000;

/// The duty that is looked at; every board may do it.
const DUTY: u64 = 1;

/// Time for a group to find its leader, for a duty to go where it is wanted, and to see
/// what comes after a stall.
const START_MS: u64 = 4_000;
const MOVE_MS_MAX: u64 = 20_000;
const AFTER_MS: u64 = 8_000;

/// Between two writes.
const WRITE_MS: u64 = 100;

/// Whose disk stalls, and how much of it.
#[derive(Clone, Copy, Debug)]
pub struct Stall {
    /// That of the board that leads; else that of one that follows.
    pub leads: bool,
    /// That board does the duty; else another.
    pub acts: bool,
    /// The database syncs in that time too.
    pub database: bool,
}

/// What came of it.
#[derive(Debug)]
pub struct Stalled {
    /// The broken rule, if one broke: two boards that do one duty at a time, among others.
    pub violation: Option<String>,
    /// How often the duty went from one board to another, from when the disk stalled.
    pub hand_overs: usize,
    /// Writes acknowledged while it stalled, and from then on.
    pub acknowledged: [u64; 2],
    /// Longest wait of work for the disk that stalled, milliseconds.
    pub waited_ms: u64,
    /// Longest time that nobody did the duty, milliseconds.
    pub idle_ms: u64,
}

impl Stall {
    /// Runs it with this seed.
    ///
    /// # Panics
    /// When the group does not come to work before anything goes wrong.
    #[must_use]
    pub fn run(self, seed: u64) -> Stalled {
        vfs::seed(seed);
        let plan = Plan { loss: 0, repeat: 0, ..Plan::of_roads_alone() };
        let mut world = World { plan, ..World::new(seed) };
        world.found();
        world.play(START_MS);
        let board = world.settle(self);
        let before = (world.doers(DUTY).len(), world.outcome.acknowledged);
        let until = world.now + STALL_MS;
        world.board(board).stalls_until[JOURNAL] = until;
        if self.database {
            world.board(board).stalls_until[DATABASE] = until;
        }
        let (waited_ms, idle_ms) = world.play_and_see(board, until);
        let during = world.outcome.acknowledged;
        world.write_until(until + AFTER_MS);
        let acknowledged = [during - before.1, world.outcome.acknowledged - during];
        let hand_overs = world.doers(DUTY).len() - before.0;
        if world.doer(DUTY).is_none() {
            world.check.fail(String::from("nobody does the duty in the end"));
        }
        let violation = world.check.violation.take();
        Stalled { violation, hand_overs, acknowledged, waited_ms, idle_ms }
    }
}

impl World {
    /// The board whose disk is to stall, once the duty is where it is to be.
    fn settle(&mut self, Stall { leads, acts, .. }: Stall) -> NodeId {
        let is_leader = |world: &Self, id: NodeId| {
            world.boards[&id].process.as_ref().is_some_and(|process| process.node.leads())
        };
        let ids: Vec<NodeId> = self.boards.keys().copied().collect();
        let leader = ids.iter().copied().find(|id| is_leader(self, *id)).expect("one leads");
        let board = ids.iter().copied().find(|id| (*id == leader) == leads);
        let board = board.expect("there are three");
        let doer = ids.into_iter().find(|id| (*id == board) == acts).expect("there are three");
        self.add_duties(leader);
        self.make_all_ready();
        self.write_until(self.now + 1_000);
        self.want_at(doer);
        let end = self.now + MOVE_MS_MAX;
        while self.now < end && self.doer(DUTY) != Some(doer) {
            self.write_until(self.now + 100);
        }
        // Nothing of the hand-over is under way any more.
        self.write_until(self.now + 1_000);
        assert_eq!(self.check.violation, None);
        assert_eq!(self.doer(DUTY), Some(doer), "the duty goes where it is wanted");
        assert!(is_leader(self, leader), "the one that led goes on leading");
        board
    }

    /// Lets time pass, while somebody writes now and then, at one board after the other.
    fn write_until(&mut self, until: u64) {
        while self.now < until && self.check.violation.is_none() {
            let place = self.requests % self.boards.len() as u64;
            let id = self.board_at(place);
            self.call_to_write(id);
            self.play(until.min(self.now + WRITE_MS));
        }
    }

    /// Lets time pass: how long work has waited at the most for this board's disk, and the
    /// duty for somebody who does it.
    fn play_and_see(&mut self, board: NodeId, until: u64) -> (u64, u64) {
        let (mut waits, mut idles) = (Lasting::default(), Lasting::default());
        while self.now < until && self.check.violation.is_none() {
            self.write_until(self.now + WRITE_MS);
            let process = self.boards[&board].process.as_ref();
            waits.look(self.now, process.is_some_and(|process| process.busy.contains(&true)));
            idles.look(self.now, self.doer(DUTY).is_none());
        }
        (waits.most_ms, idles.most_ms)
    }
}

/// How long something lasted at the most.
#[derive(Default)]
struct Lasting {
    since: Option<u64>,
    most_ms: u64,
}

impl Lasting {
    fn look(&mut self, now: u64, is_so: bool) {
        self.since = is_so.then(|| self.since.unwrap_or(now));
        self.most_ms = self.most_ms.max(now - self.since.unwrap_or(now));
    }
}
