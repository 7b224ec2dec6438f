//! The journal's thread: takes everything that waits, writes it with one sync,
//! reports by event. No sync ever runs on the loop's thread.
//!
//! A full disk is waited out, with everything kept in order, and read meanwhile;
//! any other error of the disk aborts the process. While there is room, some is
//! kept for the next start.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::Duration,
};

use tokio::sync::{mpsc::Sender, oneshot};
use tracing::{error, info, warn};
use understudy_core::{
    event::{Cut, Effect, Event, Millis, Trust},
    limits::{APPEND_BYTES_MAX, JOURNAL_EFFECTS_MAX},
};

use super::clock;
use crate::{
    call::Followed,
    identity::Identity,
    progress::Busy,
    slow::Syncs,
    store::{
        journal::{Journal, JournalError, Persist},
        reserve,
    },
};

/// Between two tries on a full disk.
const FULL_RETRY: Duration = Duration::from_secs(1);

/// Between two looks at whether there is room for the next start, milliseconds.
const KEEP_MS: u64 = 60_000;

/// Listeners that entries are read for at a time.
pub const FOLLOWS_MAX: usize = 64;

enum Job {
    Persist(u64, Persist),
    Fetch { number: u64, low: u64, high: u64, bytes_max: u64 },
    FetchSpool { number: u64, after: u64, bytes_max: u64 },
    Keep(Box<Identity>),
    Suit(u32),
    Follow { low: u64, high: u64, reply: oneshot::Sender<Followed> },
}

/// The loop's end.
pub struct JournalThread {
    jobs: mpsc::SyncSender<Job>,
    follows: Arc<AtomicUsize>,
    busy: Busy,
}

impl JournalThread {
    /// Starts the thread. `halt` is called, and must not return, when the file
    /// can no longer be used.
    #[must_use]
    pub fn start(
        journal: Journal,
        events: Sender<Event>,
        syncs: Syncs,
        halt: impl Fn(&str) + Send + 'static,
    ) -> Self {
        let (jobs, waiting) = mpsc::sync_channel(JOURNAL_EFFECTS_MAX + FOLLOWS_MAX);
        let worker = Worker::new(journal, events, syncs, halt);
        let (follows, busy) = (Arc::clone(&worker.follows), worker.busy.clone());
        thread::Builder::new()
            .name(String::from("journal"))
            .stack_size(512 << 10)
            .spawn(move || worker.run(&waiting))
            .expect("a thread can be started");
        Self { jobs, follows, busy }
    }

    /// For how long it has been at one piece of work, milliseconds.
    #[must_use]
    pub fn busy_ms(&self, now: Millis) -> u64 {
        self.busy.ms(now)
    }

    /// Writes down who this board is from now on; false when too much waits already.
    #[must_use]
    pub fn keep(&self, identity: &Identity) -> bool {
        self.jobs.try_send(Job::Keep(Box::new(identity.clone()))).is_ok()
    }

    /// The group goes by this version; false when too much waits already.
    #[must_use]
    pub fn suit(&self, version: u32) -> bool {
        self.jobs.try_send(Job::Suit(version)).is_ok()
    }

    /// Answers with entries from `low` on and below `high`.
    pub fn follow(&self, low: u64, high: u64, reply: oneshot::Sender<Followed>) {
        if self.follows.fetch_add(1, Ordering::AcqRel) >= FOLLOWS_MAX {
            self.follows.fetch_sub(1, Ordering::AcqRel);
            // A listener that went away needs no answer.
            let _ = reply.send(Followed::Busy);
            return;
        }
        let taken = self.jobs.try_send(Job::Follow { low, high, reply });
        taken.expect("there is a place for each");
    }

    /// Hands over a [`Effect::Persist`], [`Effect::Fetch`] or [`Effect::FetchSpool`].
    ///
    /// # Panics
    /// When more waits than the core allows.
    pub fn take(&self, effect: Effect) {
        let job = match effect {
            Effect::Persist { number, entries, hard_state, memories, trust, cut, spool } => {
                trust.iter().for_each(tell);
                Job::Persist(number, Persist { entries, hard_state, memories, trust, cut, spool })
            }
            Effect::Fetch { number, low, high, bytes_max } => {
                Job::Fetch { number, low, high, bytes_max }
            }
            Effect::FetchSpool { number, after, bytes_max } => {
                Job::FetchSpool { number, after, bytes_max }
            }
            Effect::Send { .. }
            | Effect::Execute { .. }
            | Effect::Apply { .. }
            | Effect::Query { .. }
            | Effect::Pages { .. }
            | Effect::Reply { .. }
            | Effect::RoleChanged { .. } => return,
        };
        self.jobs.try_send(job).expect("the core bounds what waits for the journal");
    }
}

/// Whoever looks for the cause of a loss later finds it in the log.
fn tell(trust: &Trust) {
    match trust {
        Trust::Confirmed => info!("enough boards have confirmed what this disk holds"),
        Trust::Unconfirmed(peers) => {
            let silent: Vec<_> = peers.iter().map(|(peer, _)| *peer).collect();
            warn!(?silent, "this board takes part though these boards have not confirmed its disk");
        }
        Trust::Copied => error!("a board has met a copy of this disk: neither ever votes again"),
        Trust::Lost => error!("a board remembers more than this disk holds: it never votes again"),
    }
}

struct Worker<H> {
    journal: Journal,
    events: Sender<Event>,
    halt: H,
    syncs: Syncs,
    /// Listeners that entries are to be read for.
    follows: Arc<AtomicUsize>,
    busy: Busy,
    /// What is to be written next, and the number of its last part.
    batch: Vec<Persist>,
    number: u64,
    /// Who this board is to be after the next write.
    identity: Option<Box<Identity>>,
    /// What the group goes by, as the file is to suit.
    version: u32,
    is_full: bool,
    /// When it was last looked whether there is room for the next start.
    kept: Millis,
}

impl<H: Fn(&str)> Worker<H> {
    fn new(journal: Journal, events: Sender<Event>, syncs: Syncs, halt: H) -> Self {
        Self {
            journal,
            events,
            halt,
            syncs,
            follows: Arc::new(AtomicUsize::new(0)),
            busy: Busy::default(),
            batch: Vec::new(),
            number: 0,
            identity: None,
            version: 0,
            is_full: false,
            kept: clock::now(),
        }
    }

    fn run(mut self, waiting: &mpsc::Receiver<Job>) {
        while let Some(job) = self.next(waiting) {
            if let Some(job) = job {
                self.take(job);
            }
            while let Ok(job) = waiting.try_recv() {
                self.take(job);
            }
            self.busy.begin(clock::now());
            self.write();
            self.busy.end();
        }
    }

    /// Waits for a job; on a full disk no longer than until the next try. `None`
    /// when there is nobody left who could have one.
    fn next(&self, waiting: &mpsc::Receiver<Job>) -> Option<Option<Job>> {
        if !self.is_full {
            return waiting.recv().ok().map(Some);
        }
        match waiting.recv_timeout(FULL_RETRY) {
            Ok(job) => Some(Some(job)),
            Err(RecvTimeoutError::Timeout) => Some(None),
            Err(RecvTimeoutError::Disconnected) => None,
        }
    }

    /// A persist waits for the next write. What is fetched was written long ago.
    fn take(&mut self, job: Job) {
        self.busy.begin(clock::now());
        match job {
            Job::Persist(number, persist) => {
                self.number = number;
                self.batch.push(persist);
            }
            Job::Keep(identity) => self.identity = Some(identity),
            Job::Suit(version) => self.version = version,
            Job::Fetch { number, low, high, bytes_max } => {
                match self.journal.read(low, high, bytes_max) {
                    Ok(entries) => self.report(Event::Fetched { number, entries }),
                    Err(error) => (self.halt)(&error.to_string()),
                }
            }
            Job::Follow { low, high, reply } => {
                self.follows.fetch_sub(1, Ordering::AcqRel);
                let followed = self.followed(low, high);
                // A listener that went away needs no answer.
                let _ = followed.map(|followed| reply.send(followed));
            }
            Job::FetchSpool { number, after, bytes_max } => {
                match self.journal.read_spool(after, bytes_max) {
                    Ok(pieces) => self.report(Event::SpoolFetched { number, pieces }),
                    Err(error) => (self.halt)(&error.to_string()),
                }
            }
        }
    }

    fn followed(&mut self, low: u64, high: u64) -> Option<Followed> {
        let start = self.start();
        if low <= start {
            return Some(Followed::Gone { first: start + 1 });
        }
        match self.journal.read(low, high, APPEND_BYTES_MAX) {
            Ok(entries) => Some(Followed::Entries(entries)),
            Err(error) => {
                (self.halt)(&error.to_string());
                None
            }
        }
    }

    /// Where the log begins. What stands in one that is about to begin anew may never have
    /// been committed, and the database is ahead of it already.
    fn start(&self) -> u64 {
        let anew = self.batch.iter().rev().find_map(|persist| match persist.cut {
            Some(Cut::Anew(start)) => Some(start),
            Some(Cut::UpTo(_) | Cut::GivenUp(_) | Cut::Coming(_)) | None => None,
        });
        anew.unwrap_or_else(|| self.journal.start()).index
    }

    /// Writes what the file says of itself and is to say otherwise. Where there is no room it
    /// is tried again with what comes next, and there is always more.
    fn write_words(&mut self) -> Result<(), JournalError> {
        self.journal.suit(self.version)?;
        if let Some(identity) = &self.identity {
            self.journal.renew(identity)?;
            self.identity = None;
        }
        Ok(())
    }

    /// Writes everything that waits with one sync.
    fn write(&mut self) {
        match self.write_words() {
            Ok(()) | Err(JournalError::DiskFull) => {}
            Err(JournalError::Halt(reason)) => return (self.halt)(&reason),
        }
        if self.batch.is_empty() {
            return;
        }
        let began = clock::now();
        let written = self.journal.write(&self.batch);
        let now = clock::now();
        self.syncs.note(now, now.since(began));
        let full = match written {
            Ok(()) => false,
            Err(JournalError::DiskFull) => true,
            Err(JournalError::Halt(reason)) => return (self.halt)(&reason),
        };
        if !full {
            self.batch.clear();
            self.report(Event::Persisted { number: self.number });
        }
        if std::mem::replace(&mut self.is_full, full) != full {
            self.report(Event::DiskFull(full));
        }
        if !full && now.since(self.kept) >= KEEP_MS {
            self.kept = now;
            reserve::keep_of_new_room(self.journal.directory());
        }
    }

    fn report(&self, event: Event) {
        // The loop ends before its threads do; then nobody listens any more.
        let _ = self.events.blocking_send(event);
    }
}

#[cfg(test)]
mod tests {
    use understudy_core::event::{Entry, EntryKind, HardState, Position};

    use super::*;
    use crate::store::journal::Options;

    fn worker(directory: &std::path::Path) -> Worker<impl Fn(&str)> {
        let (events, mut told) = tokio::sync::mpsc::channel(1);
        thread::spawn(move || while told.blocking_recv().is_some() {});
        let journal = Journal::open(directory, &Options::default()).unwrap();
        Worker::new(journal, events, Syncs::default(), |_: &str| {})
    }

    #[test]
    fn nobody_follows_a_log_that_is_about_to_begin_anew() {
        let directory = tempfile::tempdir().unwrap();
        let mut worker = worker(directory.path());
        let entry = |index| Entry { index, term: 1, kind: EntryKind::Change, data: Vec::new() };
        let hard_state = HardState { term: 1, vote: 0, commit: 1 };
        let entries = (1..=3).map(entry).collect();
        worker.journal.write(&[Persist { entries, hard_state, ..Persist::default() }]).unwrap();
        assert!(matches!(worker.followed(2, 6), Some(Followed::Entries(all)) if all.len() == 2));
        let cut = Some(Cut::Anew(Position { term: 2, index: 5 }));
        worker.batch.push(Persist { cut, ..Persist::default() });
        assert!(matches!(worker.followed(2, 6), Some(Followed::Gone { first: 6 })));
    }

    #[test]
    fn what_a_start_wants_is_kept_again_where_a_write_finds_room() {
        let directory = tempfile::tempdir().unwrap();
        let mut worker = worker(directory.path());
        for (kept, is_kept) in [(clock::now(), false), (Millis(0), true)] {
            worker.kept = kept;
            worker.batch.push(Persist::default());
            worker.write();
            assert_eq!(directory.path().join("reserve").exists(), is_kept, "{kept:?}");
        }
    }
}
