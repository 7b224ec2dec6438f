//! The two threads of a simulated board, journal and database: each does its work
//! in order, one piece after the other, and takes its time.

use std::iter;

use understudy::store::{
    database::{Failure, QueryOutcome},
    journal::JournalError,
};
use understudy_core::{
    event::{Effect, Entry, Event, NodeId, Outcome},
    pages::Done,
};

use super::{
    agenda::Happening,
    board::{DATABASE, JOURNAL, set_now},
    calls,
    world::World,
};

/// A full disk is tried again after this.
const FULL_RETRY_MS: u64 = 500;

/// Pages are compared at every such index.
const DIGEST_INTERVAL: u64 = 64;

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

impl World {
    /// Each thread does its work in order, one piece after the other.
    pub(crate) fn hand_over(&mut self, board: NodeId, effect: Effect) {
        let now = self.now;
        let Some(process) = &mut self.board(board).process else { return };
        if matches!(effect, Effect::RoleChanged { .. }) {
            process.role_changed = true;
            return;
        }
        let thread = usize::from(!matches!(
            effect,
            Effect::Persist { .. } | Effect::Fetch { .. } | Effect::FetchSpool { .. }
        ));
        process.put(now, thread, effect);
        if !std::mem::replace(&mut process.busy[thread], true) {
            self.start_work(board, thread);
        }
    }

    fn start_work(&mut self, board: NodeId, thread: usize) {
        let stall = thread == JOURNAL && !self.heals && self.disks.chance(self.plan.stalls);
        let is_slow = self.deposing.is_some_and(|deposing| deposing.is_slow(board));
        let takes = match (thread, stall) {
            (JOURNAL, true) => 200 + self.disks.below(2_500),
            (JOURNAL, false) => self.disks.below(6),
            _ if is_slow => 3_000 + self.disks.below(2_000),
            _ => self.disks.below(2),
        };
        let epoch = self.boards[&board].epoch;
        let stalled = self.boards[&board].stalls_until[thread].saturating_sub(self.now);
        self.plan_in(takes.max(stalled), Happening::Work { board, epoch, thread });
    }

    pub(crate) fn work(&mut self, id: NodeId, epoch: u64, thread: usize) {
        let now = self.now;
        let board = self.board(id);
        if board.epoch != epoch {
            return;
        }
        set_now(board.time(now));
        if thread == DATABASE && self.drop_void(id) {
            return self.work_on(id, epoch, thread);
        }
        match self.do_next(id, thread) {
            Ok(event) => {
                // No second reset comes while what the first made void still waits.
                let is_reset = matches!(event, Some(Event::DatabaseReset { .. }));
                if let Some(event) = event {
                    self.report(id, event);
                }
                if !is_reset {
                    self.look_at_database(id);
                }
                self.look_at_scrubs(id);
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

    /// What was asked before the node knew of a reset is asked again.
    fn drop_void(&mut self, id: NodeId) -> bool {
        let process = self.board(id).process.as_mut().expect("its epoch is this one");
        let resets = process.waiting[DATABASE].front().and_then(Effect::resets);
        let is_void = resets.is_some_and(|resets| resets < process.resets);
        if is_void {
            process.take(DATABASE);
        }
        is_void
    }

    fn report(&mut self, id: NodeId, event: Event) {
        let Some(process) = &mut self.board(id).process else { return };
        process.resets += u64::from(matches!(event, Event::DatabaseReset { .. }));
        if let Some(duties) = process.database.take_duties() {
            self.give(id, Event::Duties(duties));
        }
        self.give(id, event);
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

    fn do_next(&mut self, id: NodeId, thread: usize) -> Result<Option<Event>, Trouble> {
        let epoch = self.boards[&id].epoch;
        let process = self.board(id).process.as_mut().expect("its epoch is this one");
        if let Some(Effect::Persist { .. }) = process.waiting[thread].front() {
            return process.persist().map(Some).map_err(Trouble::from);
        }
        if thread == DATABASE
            && std::mem::take(&mut process.role_changed)
            && let Err(failure) = process.database.role_changed()
        {
            process.take(DATABASE);
            return survived(Err(failure));
        }
        let effect = process.take(thread).expect("work is planned when there is");
        match effect {
            Effect::Fetch { number, low, high, bytes_max } => {
                let entries = process.journal.read(low, high, bytes_max)?;
                Ok(Some(Event::Fetched { number, entries }))
            }
            Effect::FetchSpool { number, after, bytes_max } => {
                let pieces = process.journal.read_spool(after, bytes_max)?;
                Ok(Some(Event::SpoolFetched { number, pieces }))
            }
            Effect::Execute { number, base, requests, .. } => {
                let executed = process.database.execute(base, &requests);
                survived(executed.map(|executed| Event::Executed { number, executed }))
            }
            Effect::Apply { number, entries, .. } => self.apply(id, number, &entries),
            Effect::Query { number, sql, .. } => match process.database.query(&sql) {
                Ok(QueryOutcome::Answered(answer)) => Ok(Some(Event::Queried { number, answer })),
                Ok(QueryOutcome::NeedsReader) => Ok(None),
                Err(failure) => survived(Err(failure)),
            },
            Effect::Pages { number, work } => match process.database.pages(work) {
                Ok(job) => {
                    process.pages.push_back((number, job));
                    let takes = self.disks.below(60);
                    self.plan_in(takes, Happening::Pages { board: id, epoch });
                    Ok(None)
                }
                Err(failure) => {
                    self.board(id).died_taking = true;
                    survived(Err(failure))
                }
            },
            Effect::Persist { .. }
            | Effect::Send { .. }
            | Effect::RoleChanged { .. }
            | Effect::Reply { .. } => Ok(None),
        }
    }

    /// Work on pages, one piece after the other.
    pub(crate) fn pages(&mut self, id: NodeId, epoch: u64) {
        let now = self.now;
        let board = self.board(id);
        let time = board.time(now);
        let Some(process) = board.process.as_mut().filter(|_| board.epoch == epoch) else { return };
        set_now(time);
        let Some((number, job)) = process.pages.pop_front() else { return };
        let done = process.desk.carry_out(job);
        if board.disk.borrow().is_off {
            return self.died(id, "power");
        }
        let Some(done) = done else { return };
        if let Done::Installed(Some(_)) = &done {
            let (applied, chain) = (process.database.applied(), process.database.chain());
            let source = process.node.status(time).pulls.map(|pulls| pulls.from);
            if process.node.is_witness() {
                board.has_jumped = true;
                self.outcome.installed += 1;
            } else {
                self.took_state(id, source);
                self.check.applied(id, applied.index, chain);
            }
        }
        if let Done::Failed(reason) = &done {
            self.tell(|| format!("board {id} takes no pages: {reason}"));
        }
        self.give(id, Event::Pages { number, done });
    }

    /// Applies one by one, so that every index can be compared.
    fn apply(
        &mut self,
        id: NodeId,
        number: u64,
        entries: &[Entry],
    ) -> Result<Option<Event>, Trouble> {
        let mut outcomes = Vec::new();
        for entry in entries {
            let process = self.board(id).process.as_mut().expect("it applies");
            match process.database.apply(std::slice::from_ref(entry)) {
                Ok(outcome) => outcomes.extend(outcome),
                Err(failure) => return survived(Err(failure)),
            }
            let chain = process.database.chain();
            let has_rows = !process.node.is_witness();
            let digest = match has_rows && entry.index.is_multiple_of(DIGEST_INTERVAL) {
                true => process.database.page_digest().ok(),
                false => None,
            };
            if !self.boards[&id].has_jumped {
                self.check.applied(id, entry.index, chain);
            }
            // What changes behind an agent's back here is a value, never which rows
            // there are.
            if outcomes.last() == Some(&Outcome::ChangedInPart) {
                self.check.fail(format!("board {id} left out rows of entry {}", entry.index));
            }
            if let Some(digest) = digest
                && !self.boards[&id].is_diverged
            {
                self.check.pages(id, entry.index, digest);
            }
        }
        Ok(Some(Event::Applied { number, outcomes }))
    }

    /// A board holds what its source does, wrong rows too: a scrub finds those.
    fn took_state(&mut self, id: NodeId, source: Option<NodeId>) {
        let is_wrong = source.is_some_and(|source| self.boards[&source].is_diverged);
        let board = self.board(id);
        let was_wrong = std::mem::replace(&mut board.is_diverged, is_wrong);
        board.is_repaired |= was_wrong;
        self.has_spread |= is_wrong;
        self.outcome.repaired += u64::from(was_wrong && !is_wrong);
        self.outcome.installed += 1;
    }

    /// A thread with nothing to do looks after its house.
    pub(crate) fn look_at_idle_database(&mut self, id: NodeId) {
        if self.boards[&id].process.as_ref().is_some_and(|process| !process.busy[DATABASE]) {
            self.look_at_database(id);
        }
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
                self.report(id, event);
            }
            Ok(_) => {}
            Err(Trouble::Full) => {}
            Err(Trouble::Died(reason)) => return self.died(id, &reason),
        }
        self.tell_full(id);
        self.tell_durable(id);
    }

    fn tell_durable(&mut self, id: NodeId) {
        let Some(process) = &mut self.board(id).process else { return };
        let durable = process.database.compaction_bound();
        if std::mem::replace(&mut process.told_durable, durable) != durable {
            self.give(id, Event::DatabaseDurable(durable));
        }
    }

    /// Tells what became of scrubs, and has digests made beside everything else.
    pub(crate) fn look_at_scrubs(&mut self, id: NodeId) {
        let board = self.board(id);
        let epoch = board.epoch;
        let Some(process) = &mut board.process else { return };
        let scrubs = process.database.take_scrubs();
        let pinned: Vec<_> = iter::from_fn(|| process.database.take_scrubbing()).collect();
        let count = pinned.len();
        process.digests.extend(pinned);
        for _ in 0..count {
            let takes = self.disks.below(300);
            self.plan_in(takes, Happening::Digest { board: id, epoch });
        }
        if let Some(scrubs) = scrubs {
            self.give(id, Event::Scrubs(scrubs));
        }
    }

    pub(crate) fn digest(&mut self, id: NodeId, epoch: u64) {
        let board = self.board(id);
        if board.epoch != epoch {
            return;
        }
        let scrubbing = board.process.as_mut().and_then(|process| process.digests.pop_front());
        let Some(scrubbing) = scrubbing else { return };
        let (scrub, report) = (scrubbing.id(), scrubbing.run());
        self.give(id, Event::Digested { scrub, report });
    }

    /// A database without room says so, and is read as before.
    fn tell_full(&mut self, id: NodeId) {
        let Some(process) = &mut self.board(id).process else { return };
        let full = process.database.is_full();
        if full {
            let read = process.database.query(&calls::sql_of(&["SELECT n FROM counter"]));
            if !matches!(read, Ok(QueryOutcome::Answered(_))) {
                self.check.fail(format!("board {id} cannot be read on a full disk"));
            }
        }
        let Some(process) = &mut self.board(id).process else { return };
        if std::mem::replace(&mut process.told_full, full) != full {
            self.tell(|| format!("board {id}: database full: {full}"));
            self.give(id, Event::DatabaseFull(full));
        }
    }
}
