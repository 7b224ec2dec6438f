//! The guards of all that the board's configuration has kept, below the process that
//! starts the agent. A guard that ends is started again, until all are to end.

use std::{path::Path, process::Child, time::Duration};

use rustix::process::{Signal, kill_process};
use tokio::signal::unix::Signal as Listener;
use understudy_core::event::Millis;

use super::{pid_of, start_guard, task::Task};
use crate::{driver::clock, terminal::complain};

/// A guard that ended is not started again sooner.
const AGAIN_MS: u64 = 1_000;

/// See the module's description.
pub struct Guards<'a> {
    control: &'a Path,
    guards: Vec<Guard<'a>>,
    are_ending: bool,
}

struct Guard<'a> {
    task: &'a Task,
    running: Option<Child>,
    /// When to start it.
    at: Millis,
}

impl<'a> Guards<'a> {
    /// One for each of these, for the agent that listens at `control`.
    #[must_use]
    pub fn new(control: &'a Path, tasks: &'a [Task]) -> Self {
        let guard = |task| Guard { task, running: None, at: Millis(0) };
        Self { control, guards: tasks.iter().map(guard).collect(), are_ending: false }
    }

    /// Starts those that do not run and are to; how long there is nothing more to do,
    /// unless one ends.
    pub fn tend(&mut self) -> Option<Duration> {
        let now = clock::now();
        for guard in &mut self.guards {
            if guard.running.take_if(|child| !matches!(child.try_wait(), Ok(None))).is_some() {
                guard.at = now.plus(AGAIN_MS);
            }
            if guard.running.is_none() && guard.at <= now && !self.are_ending {
                let started = start_guard(self.control, guard.task);
                let started = started.inspect_err(|reason| complain(reason));
                (guard.running, guard.at) = (started.ok(), now.plus(AGAIN_MS));
            }
        }
        let waiting = self.guards.iter().filter(|guard| guard.running.is_none());
        let next = waiting.map(|guard| guard.at).min().filter(|_| !self.are_ending);
        next.map(|at| Duration::from_millis(at.since(now)))
    }

    /// Asks all of them to end, and returns when they have; `child` tells that one has.
    pub async fn end(&mut self, child: &mut Listener) {
        self.are_ending = true;
        let pids = self.guards.iter().filter_map(|guard| guard.running.as_ref());
        for pid in pids.filter_map(|child| pid_of(child.id())) {
            // It may have ended by itself.
            let _ = kill_process(pid, Signal::TERM);
        }
        loop {
            self.tend();
            if self.guards.iter().all(|guard| guard.running.is_none()) {
                return;
            }
            child.recv().await;
        }
    }
}
