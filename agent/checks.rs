//! Health checks: what a board can do for as long as a command of its owner's says so
//! (`[[check]]` of its configuration). Each runs on a thread of its own and tells the loop
//! when something about it has changed; nothing waits for it.
//!
//! A check counts as failed until it has succeeded as often in a row as it is to. Until
//! its first verdict it is repeated every second, so that a board that starts is not out of
//! everything for a whole interval or two; then at its interval, and no sooner. As long as
//! something is left of a run that was killed, no other is begun, and the check fails.
//!
//! Left out: what a check's command begins outside its process group.

use std::{
    io::{self, PipeReader, PipeWriter},
    os::fd::AsFd as _,
    thread::JoinHandle,
    time::Duration,
};

use serde::Deserialize;
use tracing::{info, warn};
use understudy_core::event::Millis;

use crate::{
    call::Caller,
    driver::{clock, hook},
    hold::task::through_exec,
    status::CheckStatus,
};

/// How many a board has.
pub const CHECKS_MAX: usize = 16;

/// Between the starts of two runs before there is a verdict.
const FIRST: Duration = Duration::from_secs(1);

/// How long a run may take of which nothing else is said, seconds.
const TIMEOUT_S: u64 = 5;

/// What a thread that starts commands needs for its stack, bytes.
const STACK_BYTES: usize = 256 << 10;

/// One `[[check]]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// The capability that the board has by it.
    pub name: String,
    /// The command and its arguments.
    pub command: Vec<String>,
    /// Who runs it, if not the user that the agent runs as.
    #[serde(default)]
    pub user: Option<String>,
    /// Between the starts of two runs, seconds.
    #[serde(default = "interval_s")]
    pub interval_s: u64,
    /// A run that takes longer is killed and has failed, seconds: five, or the interval
    /// where that is less.
    pub timeout_s: Option<u64>,
    /// So many successes in a row make it healthy.
    #[serde(default = "rise")]
    pub rise: u32,
    /// So many failures in a row end that.
    #[serde(default = "fall")]
    pub fall: u32,
}

const fn interval_s() -> u64 {
    10
}

const fn rise() -> u32 {
    2
}

const fn fall() -> u32 {
    3
}

impl Check {
    /// How long a run may take, seconds.
    #[must_use]
    pub fn timeout_s(&self) -> u64 {
        self.timeout_s.unwrap_or_else(|| self.interval_s.min(TIMEOUT_S))
    }
}

/// What one check came to.
struct Count<'a> {
    check: &'a Check,
    is_healthy: bool,
    /// Runs in a row that speak for a verdict that is not the present one, or the first.
    row: u32,
    was_fine: bool,
    runs: u32,
    has_verdict: bool,
}

impl<'a> Count<'a> {
    const fn new(check: &'a Check) -> Self {
        Self { check, is_healthy: false, row: 0, was_fine: false, runs: 0, has_verdict: false }
    }

    fn take(&mut self, is_fine: bool) {
        self.row = if is_fine == self.was_fine { self.row.saturating_add(1) } else { 1 };
        self.was_fine = is_fine;
        self.runs = self.runs.saturating_add(1);
        let enough = if is_fine { self.check.rise } else { self.check.fall };
        if self.row >= enough {
            (self.is_healthy, self.has_verdict) = (is_fine, true);
        }
    }

    /// From the start of one run to the next. One that comes to no verdict is not repeated
    /// in haste for ever.
    fn interval(&self) -> Duration {
        let interval = Duration::from_secs(self.check.interval_s);
        let is_new = !self.has_verdict && self.runs < self.check.rise + self.check.fall;
        if is_new { interval.min(FIRST) } else { interval }
    }
}

/// What the loop hears of a check when something about it has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Its name.
    pub name: String,
    /// It is healthy.
    pub is_healthy: bool,
    /// How its last run ended.
    pub words: String,
}

/// The checks that run.
#[derive(Default)]
pub struct Runs {
    /// Where it is closed all of them end.
    stop: Option<PipeWriter>,
    threads: Vec<JoinHandle<()>>,
}

impl Runs {
    /// Begins with all of these.
    #[must_use]
    pub fn start(checks: &[Check], caller: &Caller) -> Self {
        let mut runs = Self::default();
        if checks.is_empty() {
            return runs;
        }
        match io::pipe() {
            Ok((stopped, stop)) => {
                runs.stop = Some(stop);
                for check in checks {
                    match start(check.clone(), caller.clone(), &stopped) {
                        Ok(thread) => runs.threads.push(thread),
                        Err(error) => warn!(%error, check = check.name, "it cannot be run"),
                    }
                }
            }
            Err(error) => warn!(%error, "no check can be run"),
        }
        runs
    }

    /// Ends all of them, with what they run.
    pub fn end(&mut self) {
        self.stop = None;
        for thread in self.threads.drain(..) {
            // One that panicked runs nothing.
            let _ = thread.join();
        }
    }
}

fn start(check: Check, caller: Caller, stopped: &PipeReader) -> io::Result<JoinHandle<()>> {
    let stopped = stopped.try_clone()?;
    let thread = std::thread::Builder::new().name(String::from("check")).stack_size(STACK_BYTES);
    thread.spawn(move || run(&check, &caller, &stopped))
}

/// Runs it until all are to end.
fn run(check: &Check, caller: &Caller, stopped: &PipeReader) {
    let limit = Duration::from_secs(check.timeout_s());
    let (mut count, mut told, mut hook) = (Count::new(check), None, hook::Hook::default());
    loop {
        let began = clock::now();
        let mut command = through_exec(check.user.as_deref(), &check.command, false);
        command.env("UNDERSTUDY_CHECK", &check.name);
        let Some(said) = hook.ask(&mut command, limit, stopped.as_fd()) else { return };
        count.take(said.is_fine);
        let (name, is_healthy) = (check.name.clone(), count.is_healthy);
        let finding = Some(Finding { name, is_healthy, words: said.words });
        // What a loop that is busy does not hear it is told after the next run.
        if told != finding && finding.clone().is_some_and(|it| caller.checked(it)) {
            told = finding;
        }
        let until = began.plus(count.interval().as_secs() * 1_000);
        loop {
            let left = Duration::from_millis(until.since(clock::now()));
            if left.is_zero() {
                break;
            }
            match hook::await_any([Some(stopped.as_fd())], left) {
                Ok([false]) => {}
                Ok([true]) | Err(_) => return,
            }
        }
    }
}

/// What the loop knows of this board's checks.
#[derive(Default)]
pub struct Health(Vec<Known>);

struct Known {
    name: String,
    is_healthy: bool,
    /// When that changed, or the agent started.
    since: Millis,
    words: Option<String>,
}

impl Health {
    /// Of these checks, none of which has run yet.
    #[must_use]
    pub fn new(now: Millis, checks: &[Check]) -> Self {
        let known = checks.iter().map(|check| Known {
            name: check.name.clone(),
            is_healthy: false,
            since: now,
            words: None,
        });
        Self(known.collect())
    }

    /// True where a capability has come or gone with it.
    pub fn take(&mut self, now: Millis, finding: Finding) -> bool {
        let Finding { name, is_healthy, words } = finding;
        let Some(known) = self.0.iter_mut().find(|known| known.name == name) else { return false };
        let has_changed = known.is_healthy != is_healthy;
        if has_changed {
            match is_healthy {
                true => info!(check = name, "this board is healthy again, or for the first time"),
                false => warn!(check = name, words, "this board is not healthy any more"),
            }
            (known.is_healthy, known.since) = (is_healthy, now);
        }
        known.words = Some(words);
        has_changed
    }

    /// Does a check give this board that capability?
    #[must_use]
    pub fn gives(&self, name: &str) -> bool {
        self.0.iter().any(|known| known.name == name && known.is_healthy)
    }

    /// Why the check of that name does not, if there is one.
    #[must_use]
    pub fn why_not(&self, name: &str) -> Option<String> {
        let known = self.0.iter().find(|known| known.name == name && !known.is_healthy)?;
        Some(match &known.words {
            Some(words) => format!("its check is not healthy ({words})"),
            None => String::from("its check has not ended yet"),
        })
    }

    /// As people are shown it.
    #[must_use]
    pub fn status(&self, now: Millis) -> Vec<CheckStatus> {
        let shown = self.0.iter().map(|known| CheckStatus {
            name: known.name.clone(),
            healthy: known.is_healthy,
            since_ms: now.since(known.since),
            last: known.words.clone(),
        });
        shown.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rise: u32, fall: u32) -> Check {
        let command = vec![String::from("/bin/true")];
        let (interval_s, timeout_s) = (interval_s(), None);
        Check { name: String::from("lte"), command, user: None, interval_s, timeout_s, rise, fall }
    }

    #[test]
    fn it_takes_as_many_in_a_row_as_it_is_told_to_rise_and_to_fall() {
        let check = check(2, 3);
        let mut count = Count::new(&check);
        let mut take = |is_fine| {
            count.take(is_fine);
            count.is_healthy
        };
        let runs = [true, false, true, true, false, false, true, false, false, false, true, true];
        let healthy = runs.map(&mut take);
        let expected =
            [false, false, false, true, true, true, true, true, true, false, false, true];
        assert_eq!(healthy, expected);
    }

    #[test]
    fn it_is_repeated_soon_until_its_first_verdict_and_not_for_ever() {
        let check = check(2, 3);
        let mut count = Count::new(&check);
        count.take(true);
        assert_eq!(count.interval(), FIRST);
        count.take(true);
        assert_eq!(count.interval(), Duration::from_secs(10));
        let mut count = Count::new(&check);
        for run in 0..5 {
            assert_eq!(count.interval(), FIRST);
            count.take(run % 2 == 0);
        }
        assert!(!count.has_verdict && count.interval() == Duration::from_secs(10));
    }

    #[test]
    fn what_is_known_of_a_check_changes_when_its_verdict_does() {
        let mut health = Health::new(Millis(1_000), &[check(1, 1)]);
        let found = |is_healthy, words: &str| Finding {
            name: String::from("lte"),
            is_healthy,
            words: String::from(words),
        };
        assert!(health.why_not("lte").unwrap().contains("not ended yet"));
        assert!(!health.take(Millis(2_000), found(false, "exit status: 1: no signal")));
        assert!(health.why_not("lte").unwrap().contains("no signal"));
        assert_eq!(health.status(Millis(3_000))[0].since_ms, 2_000);
        assert!(health.take(Millis(3_000), found(true, "exit status: 0")));
        assert!(health.gives("lte") && health.why_not("lte").is_none() && !health.gives("gps"));
        assert_eq!(health.status(Millis(3_500))[0].since_ms, 500);
        assert!(health.take(Millis(4_000), found(false, "exit status: 1")));
        let other = Finding { name: String::from("gps"), ..found(true, "") };
        assert!(!health.take(Millis(4_000), other));
    }
}
