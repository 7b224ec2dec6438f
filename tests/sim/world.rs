//! A run: boards, a network that does what it likes, callers, and time that jumps
//! from one happening to the next. First chaos, then everything heals, and then
//! the group must work and agree.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash, Hasher},
};

use understudy::store::database::QueryOutcome;
use understudy_core::{
    event::{Effect, Event, Millis, NodeId, Reply, RequestId},
    node::Effects,
};

use crate::trace;

use super::{
    Report,
    agenda::{Agenda, Happening},
    board::{Board, set_now},
    calls::{self, Asked},
    check::Check,
    deposed::{Deed, Deposing},
    duties::Duties,
    faults::Plan,
    moves::Moves,
    post::Post,
    random::Random,
    readings::Sensors,
    vfs,
    witnesses::kept_wrongly,
};

/// Simulated milliseconds of chaos, and until all must be well again.
const CHAOS_MS: u64 = 70_000;
const HEAL_MS: u64 = 20_000;

/// And until all is done when nobody wants anything any more.
const REST_MS: u64 = 12_000;

pub(crate) struct World {
    pub(crate) now: u64,
    pub(crate) agenda: Agenda,
    pub(crate) boards: BTreeMap<NodeId, Board>,
    pub(crate) plan: Plan,
    pub(crate) network: Random,
    pub(crate) disks: Random,
    pub(crate) faults: Random,
    pub(crate) calls: Random,
    pub(crate) sensing: Random,
    pub(crate) sensors: Sensors,
    pub(crate) stirring: Random,
    pub(crate) duties: Duties,
    pub(crate) post: Post,
    pub(crate) cut: BTreeSet<(NodeId, NodeId)>,
    pub(crate) deposing: Option<Deposing>,
    pub(crate) moves: Moves,
    /// It never comes back.
    pub(crate) burnt: Option<NodeId>,
    pub(crate) asked: BTreeMap<(NodeId, u64, RequestId), Asked>,
    pub(crate) requests: RequestId,
    /// The answer to a request that is only about its answer.
    pub(crate) told: Option<Reply>,
    /// Datagrams lost, and sent twice.
    pub(crate) lost: u64,
    pub(crate) repeated: u64,
    pub(crate) check: Check,
    pub(crate) outcome: Report,
    pub(crate) verbose: bool,
    pub(crate) heals: bool,
    /// Wrong rows that no scrub had found were taken by another board: two hold them,
    /// and which are right cannot be told any more.
    pub(crate) has_spread: bool,
}

/// Runs one seed.
pub(crate) fn run(seed: u64, verbose: bool) -> Report {
    vfs::seed(seed);
    let mut world = World { verbose, ..World::new(seed) };
    world.found();
    world.plan_in(1_500, Happening::Call);
    world.plan_in(1_700, Happening::Sense);
    world.plan_in(2_000, Happening::Fault);
    world.plan_in(2_200, Happening::Stir);
    if world.plan.moves {
        world.plan_in(2_500, Happening::Move);
    }
    let roads = world.plan.roads;
    if roads.is_sealed {
        world.plan_in(2_600, Happening::Trouble);
    }
    world.play(roads.chaos_ms(CHAOS_MS));
    world.heal();
    world.play(roads.chaos_ms(CHAOS_MS) + roads.heal_ms(HEAL_MS));
    world.conclude();
    world.outcome.violation = world.check.violation.take();
    world.outcome.simulated_ms = world.now;
    world.outcome
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut streams = Random::new(seed);
        let mut stream = || Random::new(streams.next());
        let plan = Plan::draw(&mut stream()).with_witness(seed).with_brokers(seed);
        let mut drift = stream();
        let boards = (1..=plan.boards).map(|id| {
            let pace = 900 + drift.below(201);
            (id, Board::new(id, drift.next(), pace, plan.kept))
        });
        let boards = boards.collect();
        Self {
            now: 1_000,
            agenda: Agenda::default(),
            boards,
            post: Post::new(seed, &plan),
            plan,
            network: stream(),
            disks: stream(),
            faults: stream(),
            calls: stream(),
            sensing: stream(),
            sensors: Sensors::default(),
            stirring: stream(),
            duties: Duties::default(),
            cut: BTreeSet::new(),
            deposing: None,
            moves: Moves::default(),
            burnt: None,
            asked: BTreeMap::new(),
            requests: 0,
            told: None,
            lost: 0,
            repeated: 0,
            check: Check::default(),
            outcome: Report::default(),
            heals: false,
            has_spread: false,
            verbose: false,
        }
    }

    /// A group of boards, all with power.
    pub(crate) fn found(&mut self) {
        for id in 1..=self.plan.boards {
            let pair = self.pair_of(id);
            let (boards, has_witness) = (self.plan.boards, self.plan.pair.log_bytes > 0);
            let one_copy = self.plan.pair.one_copy;
            let board = self.board(id);
            (board.pair, board.one_copy) = (pair, one_copy);
            if let Err(reason) = board.found(boards, has_witness) {
                self.check.fail(format!("board {id} cannot be founded: {reason}"));
            }
            self.power_on(id);
        }
    }

    pub(crate) fn plan_in(&mut self, ms: u64, happening: Happening) {
        self.agenda.plan(self.now + ms, happening);
    }

    pub(crate) fn play(&mut self, until: u64) {
        while self.check.violation.is_none()
            && let Some((at, happening)) = self.agenda.next(until)
        {
            self.now = self.now.max(at);
            self.mix(&(self.now, self.agenda.count));
            self.happen(happening);
        }
        self.now = self.now.max(until);
    }

    /// Makes the trace differ from here on where this differs.
    fn mix(&mut self, what: &impl Hash) {
        let mut hasher = DefaultHasher::new();
        (self.outcome.trace, what).hash(&mut hasher);
        self.outcome.trace = hasher.finish();
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Deliver { from, to, sent, payload } => {
                let now = self.now;
                self.board(to).lateness.came(now, now - sent);
                self.give(to, Event::Received { from, payload });
            }
            Happening::Arrive { letter } => self.arrive(letter),
            Happening::HandOut { broker } => self.hand_out(broker),
            Happening::Trouble => self.trouble(),
            Happening::Work { board, epoch, thread } => self.work(board, epoch, thread),
            Happening::Tick { board, epoch } => {
                if self.boards[&board].epoch == epoch {
                    self.give(board, Event::Tick);
                    self.greet(board);
                    self.look_at_idle_database(board);
                    self.plan_in(25, Happening::Tick { board, epoch });
                }
            }
            Happening::Digest { board, epoch } => self.digest(board, epoch),
            Happening::Pages { board, epoch } => self.pages(board, epoch),
            Happening::PowerOn { board } => self.power_on(board),
            Happening::Resume { board } => self.resume(board),
            Happening::Mend { from, to } => {
                self.cut.remove(&(from, to));
            }
            Happening::Room { board } => self.board(board).disk.borrow_mut().set_room(None),
            Happening::Call => {
                self.call();
                let pause = 20 + self.calls.below(120);
                self.plan_in(pause, Happening::Call);
            }
            Happening::Sense => self.sense(),
            Happening::Move => self.move_boards(),
            Happening::Stir => self.stir_duties(),
            Happening::GaveUp { board, epoch, claim } => self.gave_up(board, epoch, claim),
            Happening::Obituary { start } => self.say_obituary(start),
            Happening::Ended { to, start } => {
                self.give(to, Event::Fell(start));
                self.give(to, Event::Ended(start));
            }
            Happening::Fault if self.heals => {}
            Happening::Fault => {
                self.fault();
                self.plan_in(250, Happening::Fault);
            }
        }
    }

    /// Tells what happens, when asked to.
    pub(crate) fn tell(&self, what: impl FnOnce() -> String) {
        if self.verbose {
            eprintln!("{:>7} ms  {}", self.now, what());
        }
    }

    pub(crate) fn board(&mut self, id: NodeId) -> &mut Board {
        self.boards.get_mut(&id).expect("one of the boards")
    }

    pub(crate) fn give(&mut self, id: NodeId, event: Event) {
        let now = self.now;
        let board = self.board(id);
        if board.paused_since.is_some() {
            return board.hold(event);
        }
        let time = board.time(now);
        set_now(time);
        let Some(process) = &mut board.process else { return };
        let is_tick = matches!(event, Event::Tick);
        let effects = process.node.handle(time, event);
        let (at, why) = process.node.deadline();
        assert!(!is_tick || at > time, "board {id} would be woken for ever: {why:?}");
        self.carry_out(id, effects);
        self.learn_members(id);
        self.look_at_duties(id);
    }

    /// What waited in queues and sockets while it stood still comes at once.
    pub(crate) fn resume(&mut self, id: NodeId) {
        let now = self.now;
        let board = self.board(id);
        let Some(since) = board.paused_since.take() else { return };
        board.lateness.stood_still(now, since);
        for event in std::mem::take(&mut board.held) {
            self.give(id, event);
        }
        self.take_waiting(id);
    }

    pub(crate) fn carry_out(&mut self, id: NodeId, effects: Effects) {
        let Some(process) = &self.boards[&id].process else { return };
        let (leads, term) = (process.node.leads(), process.node.term());
        let is_fenced = process.node.is_fenced();
        let epoch = self.boards[&id].epoch;
        self.note_fence(id, is_fenced);
        if leads && self.check.leads(term, id) {
            self.tell(|| format!("board {id} leads term {term}"));
        }
        self.look_at_deposing(id, leads, Deed::Else);
        for effect in effects {
            // What it sends of it comes after.
            self.look_at_deposing(id, leads, Deed::of(&effect));
            self.tell(|| format!("board {id}: {}", trace::effect(&effect)));
            self.look_at_witness(id, &effect);
            match effect {
                Effect::Send { to, payload } => {
                    self.mix(&(id, to, &payload));
                    self.send(id, to, &payload);
                }
                Effect::Reply { id: request, reply } => self.replied((id, epoch, request), reply),
                Effect::Persist { .. }
                | Effect::Fetch { .. }
                | Effect::FetchSpool { .. }
                | Effect::Execute { .. }
                | Effect::Apply { .. }
                | Effect::Query { .. }
                | Effect::Pages { .. }
                | Effect::RoleChanged { .. } => self.hand_over(id, effect),
            }
        }
    }

    /// Only a board whose rows are wrong may be fenced.
    fn note_fence(&mut self, id: NodeId, is_fenced: bool) {
        let now = self.now;
        let board = self.board(id);
        board.fenced_since = is_fenced.then(|| board.fenced_since.unwrap_or(now));
        let is_wronged = is_fenced && !board.is_diverged && !board.is_repaired;
        if is_wronged && !self.has_spread {
            let process = self.boards[&id].process.as_ref();
            let scrub = process.and_then(|process| process.node.status(Millis(now)).scrub);
            self.check.fail(format!("board {id} is fenced though its rows are right: {scrub:?}"));
        }
    }

    fn send(&mut self, from: NodeId, to: NodeId, payload: &[u8]) {
        if let Some(process) = &self.boards[&from].process {
            let durable = process.journal.hard_state().term;
            self.check.spoke(from, durable);
        }
        if self.plan.roads.is_sealed {
            return self.send_sealed(from, to, payload);
        }
        let (sent, payload) = (self.now, payload.to_vec());
        self.carry((from, to), || {
            let payload = payload.clone();
            Happening::Deliver { from, to, sent, payload }
        });
    }

    /// By UDP, as often as it likes and as late.
    pub(crate) fn carry(&mut self, (from, to): (NodeId, NodeId), what: impl Fn() -> Happening) {
        let copies = 1 + u64::from(self.network.chance(self.plan.repeat));
        self.repeated += copies - 1;
        for _ in 0..copies {
            let lost = !self.heals && self.network.chance(self.plan.loss);
            self.lost += u64::from(lost);
            if lost || self.is_cut(from, to) || !self.boards.contains_key(&to) {
                continue;
            }
            let spike = !self.heals && self.network.chance(self.plan.spike);
            let extra = if spike { self.network.below(3_000) } else { 0 };
            let delay = self.network.below(self.plan.delay_ms) + extra;
            self.plan_in(delay, what());
        }
    }

    fn is_cut(&self, from: NodeId, to: NodeId) -> bool {
        let passes = self.deposing.as_ref().is_none_or(|deposing| deposing.passes(from, to));
        !passes || self.cut.contains(&(from, to))
    }

    /// Nobody wants anything any more, and every board can do what is to be done.
    fn come_to_rest(&mut self) {
        self.agenda.cancel_calls();
        self.make_all_ready();
        for process in self.boards.values_mut().filter_map(|board| board.process.as_mut()) {
            process.node.set_scrub_interval(0);
        }
    }

    /// After healing: one leader, all applied, the same rows and pages, nothing
    /// lost and nothing twice.
    fn conclude(&mut self) {
        if self.check.violation.is_some() {
            return;
        }
        self.come_to_rest();
        self.play(self.now + REST_MS);
        let (now, has_spread, verbose) = (self.now, self.has_spread, self.verbose);
        let mut applied = Vec::new();
        let mut leaders = 0;
        let members = self.members_in_the_end();
        for id in members.iter().copied() {
            let board = self.board(id);
            let time = board.time(now);
            let (is_damaged, died_taking) = (board.is_damaged, board.died_taking);
            let (is_diverged, is_witness) = (board.is_diverged, board.is_witness());
            let Some(process) = &mut board.process else {
                if is_damaged {
                    continue;
                }
                return self.check.fail(format!("board {id} is not back after healing"));
            };
            leaders += u32::from(process.node.leads());
            let status = process.node.status(time);
            if verbose {
                eprintln!("board {id} in the end: {status:?}");
            }
            let is_free = process.node.leads() || !status.fenced.contains(&id);
            // What it holds then is compared with the others' below.
            let is_diverged = is_diverged && !(died_taking && is_free);
            if is_diverged && is_free && !has_spread {
                let what = format!("board {id}, whose rows are wrong, goes on as before");
                return self.check.fail(what);
            }
            if is_damaged && (status.disk_lost || status.confirming_disk) {
                continue;
            }
            if !is_diverged && status.fenced.contains(&id) && !has_spread {
                let what = format!("board {id} took the right rows and is fenced for ever");
                return self.check.fail(what);
            }
            applied.push(status.applied);
            if is_witness {
                if let Some(what) = kept_wrongly(process) {
                    return self.check.fail(format!("board {id}, a witness, {what}"));
                }
                continue;
            }
            let digest = process.database.content_digest().unwrap_or(0);
            let rows =
                process.database.query(&calls::sql_of(&["SELECT v, count(*) FROM t GROUP BY v"]));
            let count = process.database.query(&calls::sql_of(&["SELECT n FROM counter"]));
            let (Ok(QueryOutcome::Answered(rows)), Ok(QueryOutcome::Answered(count))) =
                (rows, count)
            else {
                return self.check.fail(format!("board {id} cannot be read"));
            };
            self.check.holds(id, &calls::pairs(&rows), calls::number(&count).unwrap_or(0));
            self.look_at_readings(id, &members);
            self.outcome.diverged += u64::from(is_diverged);
            if !is_diverged {
                self.check.pages(id, u64::MAX, digest);
                self.look_at_history(id);
            }
        }
        if leaders != 1 || applied.windows(2).any(|pair| pair[0] != pair[1]) {
            self.check.fail(format!("after healing {leaders} lead, applied is {applied:?}"));
        } else if self.outcome.acknowledged == 0 {
            self.check.fail(String::from("not one write was acknowledged"));
        }
        self.look_for_holders(&members);
    }
}
