//! The guard: starts the keeper of a command and sees to it that all of that is gone in
//! time, whatever becomes of the keeper: killed, or standing still. It also tells whoever
//! is to be notified, by processes of their own (`herald`), for which nothing ever waits.
//!
//! What it knows of the duty is what the keeper writes in memory (`deadline`). Everything
//! that its descendants leave behind comes to it (`family`): when it has no child there is
//! none of them.

use std::{
    os::unix::process::CommandExt as _,
    process::{Command, ExitCode},
    time::Duration,
};

use rustix::process::{Pid, Signal, getppid, kill_process, set_parent_process_death_signal};
use tokio::signal::unix::{SignalKind, signal};
use understudy_core::event::Millis;

use super::{
    deadline::Deadline,
    family,
    herald::Heralds,
    pid_of,
    task::{self, Errand},
};
use crate::driver::clock;

/// It ends what the keeper has not so long before it must be gone.
const GUARD_MS: u64 = 30;

/// A keeper that ended is not started again sooner.
const AGAIN_MS: u64 = 200;

/// When it is asked to end, a keeper has this beyond the command's grace,
const END_MS: u64 = 5_000;

/// and whoever is being notified this long after that one is gone.
const HERALD_MS: u64 = 2_000;

/// Without anything to guard it looks around this often.
const IDLE: Duration = Duration::from_secs(60);

struct Guard<'a> {
    errand: &'a Errand,
    deadline: Deadline,
    keeper: Option<Pid>,
    /// When to start the next keeper.
    again: Millis,
    /// It was asked to end, and does so by then.
    ends: Option<Millis>,
    heralds: Heralds<'a>,
}

/// Guards what is kept until this process is asked to end.
///
/// # Errors
/// When the system does not let it.
pub(super) async fn run(errand: &Errand) -> Result<ExitCode, String> {
    family::adopt()?;
    if let Some(parent) = errand.parent {
        set_parent_process_death_signal(Some(Signal::TERM))
            .map_err(|error| format!("the parent cannot be watched: {error}"))?;
        if getppid() != pid_of(parent) {
            return Ok(ExitCode::SUCCESS);
        }
    }
    let on = |kind| signal(kind).map_err(|error| error.to_string());
    let mut terminate = on(SignalKind::terminate())?;
    let mut interrupt = on(SignalKind::interrupt())?;
    let mut child = on(SignalKind::child())?;
    let mut news = on(SignalKind::user_defined1())?;
    let mut guard = Guard {
        errand,
        deadline: Deadline::new()?,
        keeper: None,
        again: Millis(0),
        ends: None,
        heralds: Heralds::new(&errand.task),
    };
    loop {
        let now = clock::now();
        guard.act(now)?;
        if guard.has_ended(now) {
            return Ok(ExitCode::SUCCESS);
        }
        let wake = guard.next().map_or(IDLE, |at| Duration::from_millis(at.since(now)));
        tokio::select! {
            _ = terminate.recv() => guard.end(),
            _ = interrupt.recv() => guard.end(),
            _ = child.recv() => {}
            _ = news.recv() => {}
            () = tokio::time::sleep(wake) => {}
        }
    }
}

impl Guard<'_> {
    /// Does what is due.
    fn act(&mut self, now: Millis) -> Result<(), String> {
        let is_late = self.kill_at().is_some_and(|at| at <= now);
        let is_over = self.ends.is_some_and(|by| by <= now);
        if is_late || is_over {
            self.kill_all(now);
        }
        while let (Some((pid, how)), _) = family::bury() {
            if self.keeper == Some(pid) {
                // One that ended in order has left nothing.
                if how.exit_status().is_none() || self.deadline.get().is_some() {
                    self.kill_all(now);
                }
                self.keeper = None;
                self.again = now.plus(AGAIN_MS);
                self.ends = self.ends.map(|by| by.min(now.plus(HERALD_MS)));
            } else {
                self.heralds.buried(pid);
            }
        }
        let token = self.deadline.get().map(|(_, token)| token);
        self.heralds.follow(token.filter(|token| *token > 0));
        match is_over {
            true => self.heralds.give_up(),
            false => self.heralds.start_next(),
        }
        if self.keeper.is_none() && self.ends.is_none() && self.again <= now {
            self.keeper = Some(self.start_keeper()?);
        }
        Ok(())
    }

    /// Nothing is left of what was kept.
    fn kill_all(&mut self, now: Millis) {
        family::kill_all();
        self.deadline.set(None);
        self.heralds.killed();
        (self.keeper, self.again) = (None, now.plus(AGAIN_MS));
    }

    fn end(&mut self) {
        let by = clock::now().plus(self.errand.task.grace_ms).plus(END_MS);
        self.ends = Some(self.ends.unwrap_or(by));
        // It may have ended by itself.
        let _ = self.keeper.map(|keeper| kill_process(keeper, Signal::TERM));
    }

    fn has_ended(&self, now: Millis) -> bool {
        let may_end = |by: Millis| by <= now || self.heralds.are_idle();
        self.keeper.is_none() && self.ends.is_some_and(may_end)
    }

    fn kill_at(&self) -> Option<Millis> {
        self.deadline.get().map(|(until, _)| Millis(until.0.saturating_sub(GUARD_MS)))
    }

    /// When there is something to do.
    fn next(&self) -> Option<Millis> {
        let again = self.keeper.is_none() && self.ends.is_none();
        self.kill_at().into_iter().chain(again.then_some(self.again)).chain(self.ends).min()
    }

    fn start_keeper(&self) -> Result<Pid, String> {
        let keeper = Command::new("/proc/self/exe")
            .args(["hold-keeper", "--deadline", &self.deadline.path(), "--"])
            .arg(&self.errand.task.name)
            .stdin(task::handed(self.errand)?)
            .process_group(0)
            .spawn()
            .map_err(|error| format!("the keeper cannot be started: {error}"))?;
        pid_of(keeper.id()).ok_or_else(|| String::from("the keeper has no process id"))
    }
}
