//! The database's thread: executes, applies, answers short reads between two
//! entries, commits when it is time; long reads have a thread of their own, and so
//! has each digest.
//!
//! What waits is bounded: the node has no more under way than its bounds, and
//! after a reset asks for all of it once more. What it asked for before is dropped
//! here, untouched and without a look at the house, so no second reset comes
//! while it waits. Changes of role need no place in the queue: the latest counts.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::Duration,
};

use tokio::sync::{mpsc::Sender, oneshot};
use understudy_core::{
    event::{Effect, Event, Millis},
    limits::{DATABASE_EFFECTS_MAX, QUERIES_OPEN_MAX},
    pages::{Done, Work},
    sql::{self, SqlResponse},
};

use super::{backup, clock, give_way, pages::PagesThread};
use crate::{
    call::{Backup, Pieces},
    progress::Busy,
    store::database::{Database, Failure, QueryOutcome, SNAPSHOTS_MAX, STACK_BYTES, Scrubbing},
};

/// Between two tries when the disk refuses.
const RETRY: Duration = Duration::from_millis(200);

/// Without anything to do the thread looks after its house this often at least.
const IDLE: Duration = Duration::from_secs(60);

/// Where a copy, or the reason why there is none, goes.
type Asker = oneshot::Sender<Result<Pieces, String>>;

/// Copies asked for that wait for this thread: beyond, whoever asks is refused.
const COPIES_WAITING_MAX: usize = SNAPSHOTS_MAX;

enum Job {
    Effect(Effect),
    Copy(Backup, Asker),
    Close(mpsc::SyncSender<()>),
}

/// The loop's end.
pub struct DatabaseThread {
    jobs: mpsc::SyncSender<Job>,
    role_changed: Arc<AtomicBool>,
    copies_waiting: Arc<AtomicUsize>,
    busy: Busy,
}

impl DatabaseThread {
    /// Starts the thread. `halt` is called, and must not return, when this board
    /// cannot go on.
    #[must_use]
    pub fn start(
        database: Database,
        events: Sender<Event>,
        halt: impl Fn(&str) + Send + 'static,
    ) -> Self {
        let (jobs, waiting) = mpsc::sync_channel(DATABASE_EFFECTS_MAX + COPIES_WAITING_MAX);
        let role_changed = Arc::new(AtomicBool::new(false));
        let copies_waiting = Arc::new(AtomicUsize::new(0));
        let busy = Busy::default();
        let worker = Worker {
            database,
            events,
            halt,
            reads: None,
            pages: None,
            told_full: false,
            told_held: false,
            told_durable: 0,
            resets: 0,
            role_changed: Arc::clone(&role_changed),
            copies_waiting: Arc::clone(&copies_waiting),
            busy: busy.clone(),
        };
        thread::Builder::new()
            .name(String::from("database"))
            .stack_size(STACK_BYTES)
            .spawn(move || worker.run(&waiting))
            .expect("a thread can be started");
        Self { jobs, role_changed, copies_waiting, busy }
    }

    /// For how long it has been at one piece of work, milliseconds.
    #[must_use]
    pub fn busy_ms(&self, now: Millis) -> u64 {
        self.busy.ms(now)
    }

    /// Hands over an [`Effect::Execute`], `Apply`, `Query`, `Pages` or `RoleChanged`.
    ///
    /// # Panics
    /// When more waits than the core allows.
    pub fn take(&self, effect: Effect) {
        if matches!(effect, Effect::RoleChanged { .. }) {
            // Before whatever the node asks for from now on.
            return self.role_changed.store(true, Ordering::Release);
        }
        let taken = self.jobs.try_send(Job::Effect(effect));
        taken.expect("the core bounds what waits for the database");
    }

    /// Copies the database as of now; its pieces come on a thread of the copy's own.
    ///
    /// # Panics
    /// When more waits than there is room for.
    pub fn copy(&self, backup: Backup, asker: Asker) {
        if self.copies_waiting.fetch_add(1, Ordering::AcqRel) >= COPIES_WAITING_MAX {
            self.copies_waiting.fetch_sub(1, Ordering::AcqRel);
            // Whoever asked may have gone away.
            let _ = asker.send(Err(String::from("too many copies are asked for: try again")));
            return;
        }
        let taken = self.jobs.try_send(Job::Copy(backup, asker));
        taken.expect("there is a place for each");
    }

    /// Commits what is applied and waits for it, before the process ends.
    pub fn close(&self) {
        let (done, wait) = mpsc::sync_channel(1);
        if self.jobs.send(Job::Close(done)).is_ok() {
            // An error means that the thread is gone, and its transaction with it.
            let _ = wait.recv_timeout(Duration::from_secs(5));
        }
    }
}

struct Worker<H> {
    database: Database,
    events: Sender<Event>,
    halt: H,
    reads: Option<mpsc::SyncSender<(u64, Vec<u8>)>>,
    pages: Option<PagesThread>,
    told_full: bool,
    told_held: bool,
    told_durable: u64,
    /// Told to the node: see [`Effect::resets`].
    resets: u64,
    role_changed: Arc<AtomicBool>,
    copies_waiting: Arc<AtomicUsize>,
    busy: Busy,
}

impl<H: Fn(&str)> Worker<H> {
    fn run(mut self, waiting: &mpsc::Receiver<Job>) {
        // What was brought forward at the start may have brought a scrub.
        self.scrub();
        loop {
            let now = clock::now();
            let wait =
                self.database.deadline().map_or(IDLE, |at| Duration::from_millis(at.since(now)));
            let resets = self.resets;
            let mut is_void = false;
            self.busy.end();
            let job = waiting.recv_timeout(wait.min(IDLE));
            self.busy.begin(clock::now());
            match job {
                Ok(Job::Effect(effect)) if self.is_void(&effect) => is_void = true,
                Ok(Job::Effect(effect)) => self.carry_out(effect),
                Ok(Job::Copy(copy, asker)) => {
                    self.copies_waiting.fetch_sub(1, Ordering::AcqRel);
                    self.copy(copy, asker);
                }
                Ok(Job::Close(done)) => {
                    let closed = self.database.checkpoint();
                    self.survive(closed);
                    // Whoever waited may have given up.
                    let _ = done.send(());
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if !is_void && self.resets == resets {
                let kept = self.database.keep_house(clock::now());
                self.survive(kept);
            }
            self.scrub();
            let full = self.database.is_full();
            if std::mem::replace(&mut self.told_full, full) != full {
                self.send(Event::DatabaseFull(full));
            }
            let held = self.database.is_held();
            if std::mem::replace(&mut self.told_held, held) != held {
                self.send(Event::DatabaseHeld(held));
            }
            let durable = self.database.compaction_bound();
            if std::mem::replace(&mut self.told_durable, durable) != durable {
                self.send(Event::DatabaseDurable(durable));
            }
        }
    }

    /// Asked for before the node knew of a reset: it asks again.
    fn is_void(&self, effect: &Effect) -> bool {
        effect.resets().is_some_and(|resets| resets < self.resets)
    }

    fn carry_out(&mut self, effect: Effect) {
        if self.role_changed.swap(false, Ordering::Acquire) {
            let changed = self.database.role_changed();
            self.survive(changed);
            if self.is_void(&effect) {
                return;
            }
        }
        match effect {
            Effect::Execute { number, base, requests, .. } => {
                let executed = self.database.execute(base, &requests);
                self.report(executed.map(|executed| Event::Executed { number, executed }));
            }
            Effect::Apply { number, entries, .. } => {
                let applied = self.database.apply(&entries);
                self.report(applied.map(|outcomes| Event::Applied { number, outcomes }));
            }
            Effect::Query { number, sql, .. } => match self.database.query(&sql) {
                Ok(QueryOutcome::Answered(answer)) => self.send(Event::Queried { number, answer }),
                Ok(QueryOutcome::NeedsReader) => self.read_aside(number, sql),
                Err(failure) => self.survive(Err(failure)),
            },
            Effect::Pages { number, work } => self.pages(number, work),
            Effect::Send { .. }
            | Effect::Persist { .. }
            | Effect::Fetch { .. }
            | Effect::FetchSpool { .. }
            | Effect::RoleChanged { .. }
            | Effect::Reply { .. } => {}
        }
    }

    /// Does what the database has to do with; the rest is done aside.
    fn pages(&mut self, number: u64, work: Work) {
        let job = match self.database.pages(work) {
            Ok(job) => job,
            Err(failure) => return self.survive(Err(failure)),
        };
        if self.pages.is_none() {
            self.pages = PagesThread::start(self.events.clone());
        }
        match &self.pages {
            Some(pages) => pages.take(number, job),
            None => {
                let done = Done::Failed(String::from("no thread could be started for it"));
                self.send(Event::Pages { number, done });
            }
        }
    }

    /// Gives a long read to the reader's thread, after a commit.
    fn read_aside(&mut self, number: u64, sql: Vec<u8>) {
        if self.database.is_full() {
            return self.refuse(number, "disk full: only short reads are answered");
        }
        if let Err(failure) = self.database.commit() {
            // The node asks again.
            return self.survive(Err(failure));
        }
        if self.reads.is_none() {
            self.reads = self.start_reader();
        }
        let refused = match &self.reads {
            Some(reads) => reads.try_send((number, sql)).is_err(),
            None => true,
        };
        if refused {
            self.refuse(number, "too many long reads at once");
        }
    }

    fn copy(&mut self, copy: Backup, asker: Asker) {
        let taken = match self.database.snapshot(copy.index) {
            Err(failure) => {
                self.survive(Err(failure));
                Err(String::from("the database could not be committed: try again"))
            }
            Ok(snapshot) => snapshot.and_then(|snapshot| backup::start(snapshot, copy)),
        };
        // Whoever asked may have gone away; then the copy ends at its first piece.
        let _ = asker.send(taken);
    }

    /// Tells what has become of scrubs, and digests beside everything else.
    fn scrub(&mut self) {
        if let Some(scrubs) = self.database.take_scrubs() {
            self.send(Event::Scrubs(scrubs));
        }
        while let Some(scrubbing) = self.database.take_scrubbing() {
            self.digest(scrubbing);
        }
    }

    fn digest(&mut self, scrubbing: Scrubbing) {
        let (scrub, events) = (scrubbing.id(), self.events.clone());
        let digest = move || {
            give_way();
            let report = scrubbing.run();
            // The loop may have ended meanwhile.
            let _ = events.blocking_send(Event::Digested { scrub, report });
        };
        let named = thread::Builder::new().name(String::from("scrub")).stack_size(STACK_BYTES);
        if named.spawn(digest).is_err() {
            self.send(Event::Digested { scrub, report: Scrubbing::not_started(scrub) });
        }
    }

    fn refuse(&mut self, number: u64, reason: &str) {
        let answer = sql::encode(&SqlResponse::refused(reason));
        self.send(Event::Queried { number, answer });
    }

    fn start_reader(&self) -> Option<mpsc::SyncSender<(u64, Vec<u8>)>> {
        let reader = self.database.reader().ok()?;
        let (reads, waiting) = mpsc::sync_channel::<(u64, Vec<u8>)>(QUERIES_OPEN_MAX);
        let events = self.events.clone();
        let run = move || {
            while let Ok((number, sql)) = waiting.recv() {
                let answer = reader.query(&sql);
                if events.blocking_send(Event::Queried { number, answer }).is_err() {
                    return;
                }
            }
        };
        let named = thread::Builder::new().name(String::from("reader")).stack_size(STACK_BYTES);
        named.spawn(run).ok()?;
        Some(reads)
    }

    fn report(&mut self, done: Result<Event, Failure>) {
        match done {
            Ok(event) => self.send(event),
            Err(failure) => self.survive(Err(failure)),
        }
    }

    /// What a failure of the database means for this board.
    fn survive(&mut self, done: Result<(), Failure>) {
        match done {
            Ok(()) => {}
            Err(Failure::Reset { applied, ended_by }) => {
                if ended_by.is_none() && !self.database.can_go_on_at_once() {
                    thread::sleep(RETRY);
                }
                self.resets += 1;
                self.send(Event::DatabaseReset { applied, ended_by });
            }
            Err(Failure::Halt(reason)) => (self.halt)(&reason),
        }
    }

    /// What it is told of finds the duties and the version as they are told before.
    fn send(&mut self, event: Event) {
        if let Some(version) = self.database.take_version() {
            let _ = self.events.blocking_send(Event::Version(version));
        }
        if let Some(duties) = self.database.take_duties() {
            let _ = self.events.blocking_send(Event::Duties(duties));
        }
        // The loop ends before its threads do; then nobody listens any more.
        let _ = self.events.blocking_send(event);
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::{Receiver, channel};
    use understudy_core::{
        event::{Entry, EntryKind, Position},
        limits::APPLIES_OPEN_MAX,
        sql::{Origin, RequestKind, SqlRequest, Statement},
    };

    use super::*;
    use crate::store::database::Options;

    fn request(kind: RequestKind, sql: &str) -> Vec<u8> {
        let statement = Statement::new(sql, Vec::new());
        sql::encode(&SqlRequest::new(kind, Origin::User, vec![statement]))
    }

    fn applied(events: &mut Receiver<Event>) -> u64 {
        match events.blocking_recv() {
            Some(Event::Applied { number, .. }) => number,
            event => panic!("nothing was applied: {event:?}"),
        }
    }

    #[test]
    fn what_waited_when_the_transaction_was_lost_is_void_and_comes_again() {
        let directory = tempfile::tempdir().unwrap();
        let database = Database::open(directory.path(), Options::default()).unwrap();
        let (sender, mut events) = channel(1);
        let thread = DatabaseThread::start(database, sender, |reason| panic!("{reason}"));
        let entry = |index, data| Entry { index, term: 1, kind: EntryKind::Change, data };
        let execute = |number, index, sql| {
            let base = Position { term: 1, index };
            let requests = vec![request(RequestKind::Execute, sql)];
            thread.take(Effect::Execute { number, resets: 0, base, requests });
        };
        let ask = |first: u64, resets, entries: &[Entry]| {
            for (number, entry) in (first..).zip(entries) {
                thread.take(Effect::Apply { number, resets, entries: vec![entry.clone()] });
            }
            for number in first + 10..first + 10 + QUERIES_OPEN_MAX as u64 {
                let sql = request(RequestKind::Query, "SELECT 1");
                thread.take(Effect::Query { number, resets, sql });
            }
        };
        thread.take(Effect::Apply { number: 1, resets: 0, entries: vec![entry(1, Vec::new())] });
        assert_eq!(applied(&mut events), 1);
        execute(2, 1, "CREATE TABLE t(a PRIMARY KEY); INSERT INTO t VALUES (1)");
        let Some(Event::Executed { executed, .. }) = events.blocking_recv() else {
            panic!("it was not executed")
        };
        let entries = [entry(2, executed.change), entry(3, Vec::new())];
        assert_eq!(entries.len(), APPLIES_OPEN_MAX);
        execute(3, 1, "CREATE TABLE u(a PRIMARY KEY); INSERT OR ROLLBACK INTO u VALUES (1), (1)");
        // They fit as well after the reset, which loses nothing.
        ask(100, 0, &entries);
        let Some(Event::DatabaseReset { applied: back, ended_by }) = events.blocking_recv() else {
            panic!("nothing was reset")
        };
        assert_eq!(ended_by, None, "the statement's request is executed again without it");
        assert_eq!(back.index, 1, "a change of schema is committed at once");
        ask(200, 1, &entries);
        assert_eq!([applied(&mut events), applied(&mut events)], [200, 201]);
        for expected in 210..210 + QUERIES_OPEN_MAX as u64 {
            let event = events.blocking_recv();
            let is_next =
                matches!(&event, Some(Event::Queried { number, .. }) if *number == expected);
            assert!(is_next, "{expected}: {event:?}");
        }
    }

    #[test]
    fn what_the_group_goes_by_is_told_before_the_entry_that_brings_it() {
        let directory = tempfile::tempdir().unwrap();
        let database = Database::open(directory.path(), Options::default()).unwrap();
        let (sender, mut events) = channel(1);
        let thread = DatabaseThread::start(database, sender, |reason| panic!("{reason}"));
        let apply = |number, data| {
            let entries = vec![Entry { index: number, term: 1, kind: EntryKind::Change, data }];
            thread.take(Effect::Apply { number, resets: 0, entries });
        };
        apply(1, Vec::new());
        assert_eq!(applied(&mut events), 1);
        let sql = "INSERT INTO _understudy_setting VALUES ('version', '2 0.2.0')";
        let raise = SqlRequest::one(RequestKind::Execute, Origin::Agent, sql, Vec::new());
        let (base, requests) = (Position { term: 1, index: 1 }, vec![sql::encode(&raise)]);
        thread.take(Effect::Execute { number: 2, resets: 0, base, requests });
        let Some(Event::Executed { executed, .. }) = events.blocking_recv() else {
            panic!("it was not executed")
        };
        apply(2, executed.change);
        let told = events.blocking_recv();
        assert!(matches!(told, Some(Event::Version(2))), "{told:?}");
        assert_eq!(applied(&mut events), 2);
    }
}
