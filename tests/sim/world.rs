//! A run: boards, a network that does what it likes, callers, and time that jumps
//! from one happening to the next. First chaos, then everything heals, and then
//! the group must work and agree.

use std::collections::{BTreeMap, BinaryHeap};

use understudy::store::{
    database::{Failure, QueryOutcome},
    journal::JournalError,
};
use understudy_core::{
    error::Refusal,
    event::{Effect, Event, NodeId, ReadLevel, Reply, Request, RequestId},
    node::Effects,
    sql::{
        self, Origin, Parameters, RequestKind, SqlRequest, SqlResponse, Statement,
        StatementOutcome, Value,
    },
};

use crate::trace;

use super::{
    Report,
    board::{BOARDS, Board, JOURNAL, set_now},
    check::{Check, Fate},
    random::Random,
    vfs,
};

/// Simulated milliseconds of chaos, and until all must be well again.
const CHAOS_MS: u64 = 70_000;
const HEAL_MS: u64 = 20_000;

/// A full disk is tried again after this.
const FULL_RETRY_MS: u64 = 500;

/// Pages are compared at every such index.
const DIGEST_INTERVAL: u64 = 64;

/// Rates of a seed's faults, per mille, drawn so that no fault drowns the others.
struct Plan {
    loss: u64,
    repeat: u64,
    delay_ms: u64,
    spike: u64,
    cuts: u64,
    crashes: u64,
    stalls: u64,
    full: u64,
    bad_syncs: u64,
    pauses: u64,
    damage: u64,
}

impl Plan {
    fn draw(random: &mut Random) -> Self {
        let mut rate = |max: u64| if random.chance(600) { random.below(max + 1) } else { 0 };
        Self {
            loss: rate(250),
            repeat: rate(150),
            delay_ms: 1 + rate(30),
            spike: rate(15),
            cuts: rate(6),
            stalls: rate(10),
            full: rate(3),
            bad_syncs: rate(3),
            pauses: rate(4),
            damage: rate(300),
            crashes: 8 + rate(16),
        }
    }
}

enum Happening {
    Deliver { from: NodeId, to: NodeId, payload: Vec<u8> },
    Work { board: NodeId, epoch: u64, thread: usize },
    Tick { board: NodeId, epoch: u64 },
    PowerOn { board: NodeId },
    Resume { board: NodeId },
    Mend { from: NodeId, to: NodeId },
    Room { board: NodeId },
    Call,
    Fault,
}

/// Who asked what.
enum Asked {
    Write(u64),
    Read { floor: u64 },
    Schema,
}

pub(crate) struct World {
    now: u64,
    count: u64,
    queue: BinaryHeap<Due>,
    boards: BTreeMap<NodeId, Board>,
    plan: Plan,
    network: Random,
    disks: Random,
    faults: Random,
    calls: Random,
    cut: BTreeMap<(NodeId, NodeId), bool>,
    asked: BTreeMap<(NodeId, u64, RequestId), Asked>,
    requests: RequestId,
    check: Check,
    outcome: Report,
    verbose: bool,
    heals: bool,
}

struct Due(u64, u64, Happening);

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }
}
impl Eq for Due {}
impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (other.0, other.1).cmp(&(self.0, self.1))
    }
}

/// Runs one seed.
pub(crate) fn run(seed: u64, verbose: bool) -> Report {
    vfs::seed(seed);
    let mut world = World { verbose, ..World::new(seed) };
    world.begin();
    world.play(CHAOS_MS);
    world.heal();
    world.play(CHAOS_MS + HEAL_MS);
    world.conclude();
    world.outcome.violation = world.check.violation.take();
    world.outcome.simulated_ms = world.now;
    world.outcome
}

impl World {
    fn new(seed: u64) -> Self {
        let mut streams = Random::new(seed);
        let mut stream = || Random::new(streams.next());
        let plan = Plan::draw(&mut stream());
        let mut drift = stream();
        let boards = BOARDS.map(|id| {
            let pace = 900 + drift.below(201);
            (id, Board::new(id, drift.next(), pace))
        });
        Self {
            now: 1_000,
            count: 0,
            queue: BinaryHeap::new(),
            boards: boards.into(),
            plan,
            network: stream(),
            disks: stream(),
            faults: stream(),
            calls: stream(),
            cut: BTreeMap::new(),
            asked: BTreeMap::new(),
            requests: 0,
            check: Check::default(),
            outcome: Report::default(),
            heals: false,
            verbose: false,
        }
    }

    fn begin(&mut self) {
        for id in BOARDS {
            if let Err(reason) = self.boards[&id].found() {
                self.check.fail(format!("board {id} cannot be founded: {reason}"));
            }
            self.power_on(id);
        }
        self.plan_in(1_500, Happening::Call);
        self.plan_in(2_000, Happening::Fault);
    }

    fn plan_in(&mut self, ms: u64, happening: Happening) {
        self.count += 1;
        self.queue.push(Due(self.now + ms, self.count, happening));
    }

    fn play(&mut self, until: u64) {
        while self.check.violation.is_none()
            && let Some(Due(at, ..)) = self.queue.peek()
            && *at <= until
        {
            let Some(Due(at, _, happening)) = self.queue.pop() else { return };
            self.now = self.now.max(at);
            self.outcome.trace =
                Random::new(self.outcome.trace ^ self.now ^ (self.count << 20)).next();
            self.happen(happening);
        }
        self.now = self.now.max(until);
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Deliver { from, to, payload } => {
                self.give(to, Event::Received { from, payload });
            }
            Happening::Work { board, epoch, thread } => self.work(board, epoch, thread),
            Happening::Tick { board, epoch } => {
                if self.boards[&board].epoch == epoch {
                    self.give(board, Event::Tick);
                    self.look_at_database(board);
                    self.plan_in(25, Happening::Tick { board, epoch });
                }
            }
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
            Happening::Fault if self.heals => {}
            Happening::Fault => {
                self.fault();
                self.plan_in(250, Happening::Fault);
            }
        }
    }

    /// Tells what happens, when asked to.
    fn tell(&self, what: impl FnOnce() -> String) {
        if self.verbose {
            eprintln!("{:>7} ms  {}", self.now, what());
        }
    }

    fn board(&mut self, id: NodeId) -> &mut Board {
        self.boards.get_mut(&id).expect("one of the boards")
    }

    fn give(&mut self, id: NodeId, event: Event) {
        let now = self.now;
        let board = self.board(id);
        if board.is_paused {
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
    }

    /// What waited in queues and sockets while it stood still comes at once.
    fn resume(&mut self, id: NodeId) {
        let board = self.board(id);
        board.is_paused = false;
        for event in std::mem::take(&mut board.held) {
            self.give(id, event);
        }
    }

    fn carry_out(&mut self, id: NodeId, effects: Effects) {
        let now = self.now;
        let time = self.boards[&id].time(now);
        let Some(process) = &self.boards[&id].process else { return };
        let status = process.node.status(time);
        let leads = process.node.leads();
        let epoch = self.boards[&id].epoch;
        if leads && self.check.leads(status.term, id) {
            self.tell(|| format!("board {id} leads term {}", status.term));
        }
        for effect in effects {
            self.tell(|| format!("board {id}: {}", trace::effect(&effect)));
            match effect {
                Effect::Send { to, payload } => self.send(id, to, payload),
                Effect::Reply { id: request, reply } => self.replied((id, epoch, request), reply),
                Effect::Persist { .. }
                | Effect::Fetch { .. }
                | Effect::Execute { .. }
                | Effect::Apply { .. }
                | Effect::Query { .. }
                | Effect::RoleChanged { .. } => self.hand_over(id, effect),
            }
        }
    }

    /// Each thread does its work in order, one piece after the other.
    fn hand_over(&mut self, board: NodeId, effect: Effect) {
        let Some(process) = &mut self.board(board).process else { return };
        let thread = usize::from(!matches!(effect, Effect::Persist { .. } | Effect::Fetch { .. }));
        process.waiting[thread].push_back(effect);
        if !std::mem::replace(&mut process.busy[thread], true) {
            self.start_work(board, thread);
        }
    }

    fn start_work(&mut self, board: NodeId, thread: usize) {
        let stall = thread == JOURNAL && !self.heals && self.disks.chance(self.plan.stalls);
        let takes = match (thread, stall) {
            (JOURNAL, true) => 200 + self.disks.below(2_500),
            (JOURNAL, false) => self.disks.below(6),
            _ => self.disks.below(2),
        };
        let epoch = self.boards[&board].epoch;
        self.plan_in(takes, Happening::Work { board, epoch, thread });
    }

    fn work(&mut self, id: NodeId, epoch: u64, thread: usize) {
        let now = self.now;
        let board = self.board(id);
        if board.epoch != epoch {
            return;
        }
        set_now(board.time(now));
        match self.do_next(id, thread) {
            Ok(event) => {
                if let Some(event) = event {
                    self.give(id, event);
                }
                self.look_at_database(id);
                self.work_on(id, epoch, thread);
            }
            Err(Trouble::Full) => {
                self.tell(|| format!("board {id}: disk full"));
                self.board(id).is_full = true;
                self.give(id, Event::DiskFull(true));
                self.plan_in(FULL_RETRY_MS, Happening::Work { board: id, epoch, thread });
            }
            Err(Trouble::Died(reason)) => self.died(id, &reason),
        }
    }

    /// After a piece of work: the next one, if its process still lives.
    fn work_on(&mut self, id: NodeId, epoch: u64, thread: usize) {
        let board = self.board(id);
        if board.epoch != epoch {
            return;
        }
        let room_again = thread == JOURNAL && std::mem::take(&mut board.is_full);
        let Some(process) = &mut board.process else { return };
        process.busy[thread] = !process.waiting[thread].is_empty();
        if process.busy[thread] {
            self.start_work(id, thread);
        }
        if room_again {
            self.give(id, Event::DiskFull(false));
        }
    }

    /// A process that ended: by a power cut inside a call, or by its own decision,
    /// for which its disk must have given a reason.
    fn died(&mut self, id: NodeId, reason: &str) {
        let disk = self.boards[&id].disk.borrow();
        let board = &self.boards[&id];
        let no_start = board.process.is_none() && (disk.is_short() || board.is_damaged);
        let (inside, had_reason) = (disk.went_inside, disk.is_off || disk.has_failed || no_start);
        drop(disk);
        if !had_reason {
            return self.check.fail(format!("board {id} stopped on a sound disk: {reason}"));
        }
        self.tell(|| format!("board {id} ends: {reason}"));
        self.outcome.crashes += 1;
        self.outcome.inside += u64::from(inside);
        self.board(id).end();
        self.forget(id);
        let pause = 100 + self.faults.below(3_000);
        self.plan_in(pause, Happening::PowerOn { board: id });
    }

    fn forget(&mut self, id: NodeId) {
        // Callers of a dead board never hear: their writes stay open.
        self.asked.retain(|(board, ..), _| *board != id);
    }

    fn do_next(&mut self, id: NodeId, thread: usize) -> Result<Option<Event>, Trouble> {
        let process = self.board(id).process.as_mut().expect("its epoch is this one");
        if let Some(Effect::Persist { .. }) = process.waiting[thread].front() {
            return process.persist().map(Some).map_err(Trouble::from);
        }
        let effect = process.waiting[thread].pop_front().expect("work is planned when there is");
        match effect {
            Effect::Fetch { number, low, high, bytes_max } => {
                let entries = process.journal.read(low, high, bytes_max)?;
                Ok(Some(Event::Fetched { number, entries }))
            }
            Effect::Execute { number, base, requests } => {
                if base != process.database.applied() {
                    return Ok(None);
                }
                let executed = process.database.execute(base, &requests);
                survived(executed.map(|executed| Event::Executed { number, executed }))
            }
            Effect::Apply { number, entries } => {
                let next = process.database.applied().index + 1;
                if entries.first().map(|entry| entry.index) != Some(next) {
                    return Ok(None);
                }
                self.apply(id, number, &entries)
            }
            Effect::Query { number, sql } => match process.database.query(&sql) {
                Ok(QueryOutcome::Answered(answer)) => Ok(Some(Event::Queried { number, answer })),
                Ok(QueryOutcome::NeedsReader) => Ok(None),
                Err(failure) => survived(Err(failure)),
            },
            Effect::RoleChanged { .. } => {
                let changed = process.database.role_changed();
                changed.map_or_else(|failure| survived(Err(failure)), |()| Ok(None))
            }
            Effect::Persist { .. } | Effect::Send { .. } | Effect::Reply { .. } => Ok(None),
        }
    }

    /// Applies one by one, so that every index can be compared.
    fn apply(
        &mut self,
        id: NodeId,
        number: u64,
        entries: &[understudy_core::event::Entry],
    ) -> Result<Option<Event>, Trouble> {
        let mut outcomes = Vec::new();
        for entry in entries {
            let process = self.board(id).process.as_mut().expect("it applies");
            match process.database.apply(std::slice::from_ref(entry)) {
                Ok(outcome) => outcomes.extend(outcome),
                Err(failure) => return survived(Err(failure)),
            }
            let chain = process.database.chain();
            let digest = match entry.index.is_multiple_of(DIGEST_INTERVAL) {
                true => process.database.page_digest().ok(),
                false => None,
            };
            self.check.applied(id, entry.index, chain);
            if let Some(digest) = digest {
                self.check.pages(id, entry.index, digest);
            }
        }
        Ok(Some(Event::Applied { number, outcomes }))
    }

    fn look_at_database(&mut self, id: NodeId) {
        let now = self.now;
        let board = self.board(id);
        let time = board.time(now);
        let Some(process) = &mut board.process else { return };
        let kept = process.database.keep_house(time);
        let (applied, durable) =
            (process.database.applied().index, process.database.durable().index);
        let bound = process.database.compaction_bound();
        if durable > applied || bound > durable {
            self.check.fail(format!(
                "board {id} would compact up to {bound}: durable {durable}, applied {applied}"
            ));
        }
        match survived(kept.map(|()| Event::Tick)) {
            Ok(Some(event @ Event::DatabaseReset { .. })) => {
                self.tell(|| format!("board {id}: {event:?}"));
                self.give(id, event);
            }
            Ok(_) => {}
            Err(Trouble::Full) => {}
            Err(Trouble::Died(reason)) => self.died(id, &reason),
        }
    }

    fn send(&mut self, from: NodeId, to: NodeId, payload: Vec<u8>) {
        if let Some(process) = &self.boards[&from].process {
            let durable = process.journal.hard_state().term;
            self.check.spoke(from, durable);
        }
        let copies = 1 + u64::from(self.network.chance(self.plan.repeat));
        for _ in 0..copies {
            let lost = !self.heals && self.network.chance(self.plan.loss);
            if lost || self.cut.contains_key(&(from, to)) || !BOARDS.contains(&to) {
                continue;
            }
            let spike = !self.heals && self.network.chance(self.plan.spike);
            let extra = if spike { self.network.below(3_000) } else { 0 };
            let delay = self.network.below(self.plan.delay_ms) + extra;
            self.plan_in(delay, Happening::Deliver { from, to, payload: payload.clone() });
        }
    }

    fn power_on(&mut self, id: NodeId) {
        let now = self.now;
        let inside = !self.heals && self.faults.chance(100);
        let calls = self.faults.below(40);
        let board = self.board(id);
        if board.process.is_some() {
            return;
        }
        if board.disk.borrow().is_off {
            board.disk.borrow_mut().power_on();
            self.perhaps_damage(id);
        }
        let board = self.board(id);
        if inside {
            board.disk.borrow_mut().crash_after(calls);
        }
        set_now(board.time(now));
        match board.start(now, 7 + id) {
            Ok(effects) => {
                let epoch = board.epoch;
                let term = board.process.as_ref().map_or(0, |p| p.journal.hard_state().term);
                self.check.came_back(id, term);
                self.tell(|| format!("board {id} is back in term {term}"));
                self.plan_in(1, Happening::Tick { board: id, epoch });
                self.carry_out(id, effects);
            }
            Err(reason) => self.died(id, &reason),
        }
    }

    /// One card of the three may change a bit while the power is off.
    fn perhaps_damage(&mut self, id: NodeId) {
        let wanted = !self.heals && self.faults.chance(self.plan.damage);
        if !wanted || self.boards.values().any(|board| board.is_damaged) {
            return;
        }
        let board = self.board(id);
        let damaged = board.disk.borrow_mut().damage_wal("journal.db-wal");
        if damaged {
            board.is_damaged = true;
            self.check.lost_its_promises(id);
            self.tell(|| format!("board {id}: a bit of its journal flips"));
        }
    }

    fn fault(&mut self) {
        let id = 1 + self.faults.below(3);
        let (cuts, crashes) = (self.plan.cuts, self.plan.crashes);
        if self.faults.chance(cuts) {
            let to = 1 + self.faults.below(3);
            self.tell(|| format!("nothing passes from {id} to {to}"));
            self.cut.insert((id, to), true);
            let ms = 500 + self.faults.below(6_000);
            self.plan_in(ms, Happening::Mend { from: id, to });
        }
        if self.faults.chance(4 * crashes) {
            let calls = self.faults.below(30);
            if self.faults.chance(700) {
                self.board(id).disk.borrow_mut().crash_after(calls);
            } else if self.boards[&id].process.is_some() {
                self.board(id).cut_power();
                self.died(id, "power");
            }
        }
        if self.faults.chance(self.plan.bad_syncs) {
            self.tell(|| format!("board {id}: the next sync fails"));
            self.board(id).disk.borrow_mut().fail_syncs(1);
        }
        if self.faults.chance(self.plan.full) {
            let room = usize::try_from(self.faults.below(20_000)).unwrap_or(0);
            self.board(id).disk.borrow_mut().set_room(Some(room));
            self.plan_in(4_000, Happening::Room { board: id });
        }
        if self.faults.chance(self.plan.pauses) {
            self.tell(|| format!("board {id} stands still"));
            self.board(id).is_paused = true;
            let ms = 200 + self.faults.below(4_000);
            self.plan_in(ms, Happening::Resume { board: id });
        }
    }

    fn heal(&mut self) {
        self.tell(|| String::from("all heals"));
        self.heals = true;
        self.cut.clear();
        for id in BOARDS {
            self.resume(id);
            let mut disk = self.boards[&id].disk.borrow_mut();
            disk.set_room(None);
            disk.fail_syncs(0);
            disk.crash_after(u64::MAX);
        }
    }

    /// A caller asks some board for something.
    fn call(&mut self) {
        let id = 1 + self.calls.below(3);
        if self.boards[&id].process.is_none() || self.boards[&id].is_paused {
            return;
        }
        self.requests += 1;
        let request = self.requests;
        let (asked, wish) = match self.calls.below(20) {
            0 => (Asked::Schema, write(&["CREATE TABLE IF NOT EXISTS extra(a)"])),
            1 => (Asked::Schema, write(&["INSERT OR ROLLBACK INTO counter VALUES (1, 0)"])),
            2..=5 => (Asked::Read { floor: self.check.floor() }, read()),
            _ => {
                self.check.writes.insert(request, Fate::Open);
                (Asked::Write(request), insert(request))
            }
        };
        let epoch = self.boards[&id].epoch;
        self.asked.insert((id, epoch, request), asked);
        self.give(id, Event::Requested { id: request, request: wish });
    }

    fn replied(&mut self, to: (NodeId, u64, RequestId), reply: Reply) {
        match (self.asked.remove(&to), reply) {
            (Some(Asked::Write(value)), Reply::Done { answer, .. }) => {
                let error = failure(&answer);
                if let Some(error) = error.as_ref().filter(|error| error.contains("UNIQUE")) {
                    self.check.fail(format!("write {value}: {error}"));
                }
                let fate = if error.is_some() { Fate::Refused } else { Fate::Done };
                self.outcome.acknowledged += u64::from(fate == Fate::Done);
                self.tell(|| format!("write {value} by board {}: {fate:?}", to.0));
                self.check.writes.insert(value, fate);
            }
            (Some(Asked::Write(_)), Reply::Refused(Refusal::OutcomeUnknown)) => {}
            (Some(Asked::Write(value)), Reply::Refused(_)) => {
                self.check.writes.insert(value, Fate::Refused);
            }
            (Some(Asked::Read { floor }), Reply::Done { answer, .. }) => {
                self.outcome.reads += 1;
                let seen = number(&answer).unwrap_or(0);
                if seen < floor {
                    self.check.fail(format!(
                        "a linearizable read on board {} saw {seen} writes, {floor} were \
                         acknowledged before it",
                        to.0
                    ));
                }
            }
            (Some(_) | None, _) => {}
        }
    }

    /// After healing: one leader, all applied, the same rows and pages, nothing
    /// lost and nothing twice.
    fn conclude(&mut self) {
        if self.check.violation.is_some() {
            return;
        }
        self.queue.retain(|Due(.., happening)| !matches!(happening, Happening::Call));
        self.play(CHAOS_MS + HEAL_MS + 12_000);
        let now = self.now;
        let mut applied = Vec::new();
        let mut leaders = 0;
        for id in BOARDS {
            let board = self.board(id);
            let time = board.time(now);
            let is_damaged = board.is_damaged;
            let Some(process) = &mut board.process else {
                if is_damaged {
                    continue;
                }
                return self.check.fail(format!("board {id} is not back after healing"));
            };
            leaders += u32::from(process.node.leads());
            let status = process.node.status(time);
            if is_damaged && (status.disk_lost || status.confirming_disk) {
                continue;
            }
            applied.push(status.applied);
            let digest = process.database.content_digest().unwrap_or(0);
            let rows = process.database.query(&sql_of(&["SELECT v, count(*) FROM t GROUP BY v"]));
            let count = process.database.query(&sql_of(&["SELECT n FROM counter"]));
            let (Ok(QueryOutcome::Answered(rows)), Ok(QueryOutcome::Answered(count))) =
                (rows, count)
            else {
                return self.check.fail(format!("board {id} cannot be read"));
            };
            self.check.holds(id, &pairs(&rows), number(&count).unwrap_or(0));
            self.check.pages(id, u64::MAX, digest);
        }
        if leaders != 1 || applied.windows(2).any(|pair| pair[0] != pair[1]) {
            self.check.fail(format!("after healing {leaders} lead, applied is {applied:?}"));
        } else if self.outcome.acknowledged == 0 {
            self.check.fail(String::from("not one write was acknowledged"));
        }
    }
}

enum Trouble {
    Full,
    Died(String),
}

impl From<JournalError> for Trouble {
    fn from(error: JournalError) -> Self {
        match error {
            JournalError::DiskFull => Self::Full,
            JournalError::Halt(reason) => Self::Died(reason),
        }
    }
}

fn survived(done: Result<Event, Failure>) -> Result<Option<Event>, Trouble> {
    match done {
        Ok(event) => Ok(Some(event)),
        Err(Failure::Reset { applied, ended_by }) => {
            Ok(Some(Event::DatabaseReset { applied, ended_by }))
        }
        Err(Failure::Halt(reason)) => Err(Trouble::Died(reason)),
    }
}

fn sql_of(statements: &[&str]) -> Vec<u8> {
    let statement = |sql: &&str| Statement {
        sql: (*sql).to_owned(),
        parameters: Parameters::Positional(Vec::new()),
    };
    sql::encode(&SqlRequest {
        kind: RequestKind::Mixed,
        transaction: true,
        origin: Origin::User,
        statement_timeout_ms: None,
        statements: statements.iter().map(statement).collect(),
    })
}

fn write(statements: &[&str]) -> Request {
    Request::Write(sql_of(statements))
}

/// A write that shows when it is done twice, when its order is lost, and when an
/// id is given a second time.
fn insert(value: u64) -> Request {
    write(&[
        "CREATE TABLE IF NOT EXISTS t(id INTEGER PRIMARY KEY AUTOINCREMENT, v INTEGER, r)",
        "CREATE TABLE IF NOT EXISTS given(id INTEGER PRIMARY KEY)",
        "CREATE TABLE IF NOT EXISTS counter(id INTEGER PRIMARY KEY, n INTEGER)",
        "INSERT OR IGNORE INTO counter VALUES (1, 0)",
        &format!("INSERT INTO t(v, r) VALUES ({value}, randomblob({value} * 7919 % 400))"),
        &format!("INSERT INTO t(v) VALUES (-{value})"),
        &format!("INSERT INTO given SELECT id FROM t WHERE v = -{value}"),
        &format!("DELETE FROM t WHERE v = -{value}"),
        "UPDATE counter SET n = n + 1",
    ])
}

fn read() -> Request {
    let sql = sql_of(&["SELECT n FROM counter"]);
    Request::Read { level: ReadLevel::Linearizable, sql }
}

fn outcomes(answer: &[u8]) -> Vec<StatementOutcome> {
    let response: Option<SqlResponse> = sql::decode(answer).ok();
    let results = response.map(|response| response.results).unwrap_or_default();
    results.into_iter().map(|result| result.outcome).collect()
}

#[expect(clippy::wildcard_enum_match_arm, reason = "only errors matter here")]
fn failure(answer: &[u8]) -> Option<String> {
    outcomes(answer).into_iter().find_map(|outcome| match outcome {
        StatementOutcome::Error(words) => Some(words),
        _ => None,
    })
}

fn rows(answer: &[u8]) -> Vec<Vec<Value>> {
    let first = outcomes(answer).into_iter().next();
    match first {
        Some(StatementOutcome::Rows { rows, .. }) => rows,
        Some(StatementOutcome::Changed { .. } | StatementOutcome::Error(_)) | None => Vec::new(),
    }
}

fn unsigned(value: Option<&Value>) -> Option<u64> {
    match value {
        Some(Value::Integer(number)) => u64::try_from(*number).ok(),
        Some(Value::Null | Value::Real(_) | Value::Text(_) | Value::Blob(_)) | None => None,
    }
}

fn number(answer: &[u8]) -> Option<u64> {
    unsigned(rows(answer).first()?.first())
}

fn pairs(answer: &[u8]) -> BTreeMap<u64, u64> {
    let rows = rows(answer);
    rows.iter().filter_map(|row| Some((unsigned(row.first())?, unsigned(row.get(1))?))).collect()
}
