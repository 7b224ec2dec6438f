//! The thread for work on pages: a state kept for others, another's compared and pulled.
//! It reads whole databases and gives way to everything else; it is started when there
//! is something to do, and ends with the database's thread.

use std::{sync::mpsc, thread};

use tokio::sync::mpsc::Sender;
use understudy_core::{event::Event, limits::PAGES_WORK_MAX, pages::Done};

use super::give_way;
use crate::store::database::{Desk, Job, STACK_BYTES};

/// The database thread's end.
pub(super) struct PagesThread {
    jobs: mpsc::SyncSender<(u64, Job)>,
}

impl PagesThread {
    /// Starts the thread; none when the system has none.
    pub(super) fn start(events: Sender<Event>) -> Option<Self> {
        let (jobs, waiting) = mpsc::sync_channel::<(u64, Job)>(PAGES_WORK_MAX);
        let run = move || {
            give_way();
            let mut desk = Desk::default();
            while let Ok((number, job)) = waiting.recv() {
                let Some(done) = desk.carry_out(job) else { continue };
                if let Done::Installed(Some(_)) = &done {
                    tracing::info!("the database's state was taken from another board");
                }
                if let Done::Failed(reason) = &done {
                    tracing::warn!(reason, "pages of another board cannot be taken now");
                }
                if events.blocking_send(Event::Pages { number, done }).is_err() {
                    return;
                }
            }
        };
        let named = thread::Builder::new().name(String::from("pages")).stack_size(STACK_BYTES);
        named.spawn(run).ok()?;
        Some(Self { jobs })
    }

    /// Hands work over.
    ///
    /// # Panics
    /// When more waits than the core allows.
    pub(super) fn take(&self, number: u64, job: Job) {
        self.jobs.try_send((number, job)).expect("the core bounds the work on pages");
    }
}
