//! The database's thread: executes, applies, answers short reads between two
//! entries, commits when it is time; long reads have a thread of their own.

use std::{
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::Duration,
};

use tokio::sync::mpsc::Sender;
use understudy_core::{
    event::{Effect, Event},
    limits::{APPLIES_OPEN_MAX, QUERIES_OPEN_MAX},
    sql::{self, SqlResponse},
};

use super::clock;
use crate::store::database::{Database, Failure, QueryOutcome};

/// Effects waiting: reads, applies and one batch, twice, since all are asked for
/// again after a reset while the old ones still wait here; changes of role, the end.
const WAITING_MAX: usize = 2 * (QUERIES_OPEN_MAX + APPLIES_OPEN_MAX + 1) + 16;

/// Between two tries when the disk refuses.
const RETRY: Duration = Duration::from_millis(200);

/// Without anything to do the thread looks after its house this often at least.
const IDLE: Duration = Duration::from_secs(60);

enum Job {
    Effect(Effect),
    Close(mpsc::SyncSender<()>),
}

/// The loop's end.
pub struct DatabaseThread {
    jobs: mpsc::SyncSender<Job>,
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
        let (jobs, waiting) = mpsc::sync_channel(WAITING_MAX);
        thread::Builder::new()
            .name(String::from("database"))
            .stack_size(2 << 20)
            .spawn(move || {
                Worker { database, events, halt, reads: None, told_full: false }.run(&waiting)
            })
            .expect("a thread can be started");
        Self { jobs }
    }

    /// Hands over an [`Effect::Execute`], `Apply`, `Query` or `RoleChanged`.
    ///
    /// # Panics
    /// When more waits than the core allows.
    pub fn take(&self, effect: Effect) {
        let taken = self.jobs.try_send(Job::Effect(effect));
        taken.expect("the core bounds what waits for the database");
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
    told_full: bool,
}

impl<H: Fn(&str)> Worker<H> {
    fn run(mut self, waiting: &mpsc::Receiver<Job>) {
        loop {
            let now = clock::now();
            let wait =
                self.database.deadline().map_or(IDLE, |at| Duration::from_millis(at.since(now)));
            match waiting.recv_timeout(wait.min(IDLE)) {
                Ok(Job::Effect(effect)) => self.carry_out(effect),
                Ok(Job::Close(done)) => {
                    let closed = self.database.checkpoint();
                    self.survive(closed);
                    // Whoever waited may have given up.
                    let _ = done.send(());
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            let kept = self.database.keep_house(clock::now());
            self.survive(kept);
            let full = self.database.is_full();
            if std::mem::replace(&mut self.told_full, full) != full {
                self.send(Event::DatabaseFull(full));
            }
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Execute { number, base, requests } => {
                // After a reset the node asks again, on the base it has then.
                if base == self.database.applied() {
                    let executed = self.database.execute(base, &requests);
                    self.report(executed.map(|executed| Event::Executed { number, executed }));
                }
            }
            Effect::Apply { number, entries } => {
                let first = entries.first().map(|entry| entry.index);
                if first == Some(self.database.applied().index + 1) {
                    let applied = self.database.apply(&entries);
                    self.report(applied.map(|outcomes| Event::Applied { number, outcomes }));
                }
            }
            Effect::Query { number, sql } => match self.database.query(&sql) {
                Ok(QueryOutcome::Answered(answer)) => self.send(Event::Queried { number, answer }),
                Ok(QueryOutcome::NeedsReader) => self.read_aside(number, sql),
                Err(failure) => self.survive(Err(failure)),
            },
            Effect::RoleChanged { .. } => {
                let changed = self.database.role_changed();
                self.survive(changed);
            }
            Effect::Send { .. }
            | Effect::Persist { .. }
            | Effect::Fetch { .. }
            | Effect::Reply { .. } => {}
        }
    }

    /// Gives a long read to the reader's thread, after a commit.
    fn read_aside(&mut self, number: u64, sql: Vec<u8>) {
        if self.database.is_full() {
            return self.refuse(number, "disk full: only short reads are answered");
        }
        let committed = self.database.commit();
        self.survive(committed);
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

    fn refuse(&self, number: u64, reason: &str) {
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
        let named = thread::Builder::new().name(String::from("reader")).stack_size(1 << 20);
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
                if ended_by.is_none() {
                    thread::sleep(RETRY);
                }
                self.send(Event::DatabaseReset { applied, ended_by });
            }
            Err(Failure::Halt(reason)) => (self.halt)(&reason),
        }
    }

    fn send(&self, event: Event) {
        // The loop ends before its threads do; then nobody listens any more.
        let _ = self.events.blocking_send(event);
    }
}
