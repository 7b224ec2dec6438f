//! The journal's thread: takes everything that waits, writes it with one sync,
//! reports by event. No sync ever runs on the loop's thread.
//!
//! A full disk is waited out, with everything kept in order; any other error of
//! the disk aborts the process.

use std::{sync::mpsc, thread, time::Duration};

use tokio::sync::mpsc::Sender;
use understudy_core::{
    event::{Effect, Event},
    limits::PERSISTS_OPEN_MAX,
};

use crate::store::journal::{Journal, JournalError, Persist};

/// Effects waiting: persists, and a read back per follower and one for the database.
const WAITING_MAX: usize = 2 * PERSISTS_OPEN_MAX;

/// Between two tries on a full disk.
const FULL_RETRY: Duration = Duration::from_secs(1);

enum Job {
    Persist(u64, Persist),
    Fetch { number: u64, low: u64, high: u64, bytes_max: u64 },
}

/// The loop's end.
pub struct JournalThread {
    jobs: mpsc::SyncSender<Job>,
}

impl JournalThread {
    /// Starts the thread. `halt` is called, and must not return, when the file
    /// can no longer be used.
    #[must_use]
    pub fn start(
        journal: Journal,
        events: Sender<Event>,
        halt: impl Fn(&str) + Send + 'static,
    ) -> Self {
        let (jobs, waiting) = mpsc::sync_channel(WAITING_MAX);
        thread::Builder::new()
            .name(String::from("journal"))
            .stack_size(512 << 10)
            .spawn(move || Worker { journal, events, halt }.run(&waiting))
            .expect("a thread can be started");
        Self { jobs }
    }

    /// Hands over a [`Effect::Persist`] or [`Effect::Fetch`].
    ///
    /// # Panics
    /// When more waits than the core allows.
    pub fn take(&self, effect: Effect) {
        let job = match effect {
            Effect::Persist { number, entries, hard_state, promises, confirmed } => {
                Job::Persist(number, Persist { entries, hard_state, promises, confirmed })
            }
            Effect::Fetch { number, low, high, bytes_max } => {
                Job::Fetch { number, low, high, bytes_max }
            }
            Effect::Send { .. }
            | Effect::Execute { .. }
            | Effect::Apply { .. }
            | Effect::Query { .. }
            | Effect::Reply { .. }
            | Effect::RoleChanged { .. } => return,
        };
        self.jobs.try_send(job).expect("the core bounds what waits for the journal");
    }
}

struct Worker<H> {
    journal: Journal,
    events: Sender<Event>,
    halt: H,
}

impl<H: Fn(&str)> Worker<H> {
    fn run(mut self, waiting: &mpsc::Receiver<Job>) {
        while let Ok(job) = waiting.recv() {
            let mut next = Some(job);
            while let Some(job) = next.take() {
                next = match job {
                    Job::Persist(number, persist) => self.persist(number, persist, waiting),
                    Job::Fetch { number, low, high, bytes_max } => {
                        self.fetch(number, low, high, bytes_max);
                        waiting.try_recv().ok()
                    }
                };
            }
        }
    }

    /// Writes this and every persist right behind it; returns what comes next.
    fn persist(
        &mut self,
        mut number: u64,
        persist: Persist,
        waiting: &mpsc::Receiver<Job>,
    ) -> Option<Job> {
        let mut batch = vec![persist];
        let mut next = None;
        while let Ok(job) = waiting.try_recv() {
            match job {
                Job::Persist(later, persist) => {
                    number = later;
                    batch.push(persist);
                }
                Job::Fetch { .. } => {
                    next = Some(job);
                    break;
                }
            }
        }
        self.write(&batch);
        self.report(Event::Persisted { number });
        next
    }

    fn write(&mut self, batch: &[Persist]) {
        let mut full = false;
        loop {
            match self.journal.write(batch) {
                Ok(()) => break,
                Err(JournalError::Halt(reason)) => (self.halt)(&reason),
                Err(JournalError::DiskFull) if full => {}
                Err(JournalError::DiskFull) => {
                    full = true;
                    self.report(Event::DiskFull(true));
                }
            }
            thread::sleep(FULL_RETRY);
        }
        if full {
            self.report(Event::DiskFull(false));
        }
    }

    fn fetch(&mut self, number: u64, low: u64, high: u64, bytes_max: u64) {
        match self.journal.read(low, high, bytes_max) {
            Ok(entries) => self.report(Event::Fetched { number, entries }),
            Err(error) => (self.halt)(&error.to_string()),
        }
    }

    fn report(&self, event: Event) {
        // The loop ends before its threads do; then nobody listens any more.
        let _ = self.events.blocking_send(event);
    }
}
