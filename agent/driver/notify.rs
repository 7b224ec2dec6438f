//! What systemd is told: that the agent starts and gets on with it, is ready, alive, stopping.
//! Alive only while the loop turns and the board's work goes on (`progress`): whoever holds
//! either up holds the watchdog back.

use std::process::Command;

use tracing::{info, warn};
use understudy_core::event::Millis;

/// A start that got a piece further may take so long for the next one, microseconds: a card
/// may stall, and one change be long in the applying.
const PIECE_US: u32 = 1_800_000_000;

/// Between two such words, milliseconds.
const STARTING_MS: u64 = 1_000;

/// By what systemd finds its way to the agent, and the agent to systemd.
const VARIABLES: [&str; 3] = ["NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC"];

/// What systemd tells the agent is not for a command that is started here.
pub fn keep_from(command: &mut Command) -> &mut Command {
    VARIABLES.iter().fold(command, |command, name| command.env_remove(name))
}

/// Feeds systemd's watchdog, if there is one.
pub struct Notify {
    /// What it waits for, milliseconds.
    watchdog_ms: Option<u64>,
    /// When it was last fed, or was not for a reason.
    looked: Option<Millis>,
    is_stuck: bool,
    /// When it was last told that the start gets on.
    started: Option<Millis>,
}

impl Notify {
    /// Reads from the environment whether anybody listens.
    #[must_use]
    pub fn new() -> Self {
        let watchdog = sd_notify::watchdog_enabled();
        let watchdog_ms =
            watchdog.map(|limit| u64::try_from(limit.as_millis()).unwrap_or(u64::MAX));
        Self { watchdog_ms, looked: None, is_stuck: false, started: None }
    }

    /// The start got a piece further: it is to be waited for.
    pub fn starting(&mut self, now: Millis) {
        if self.started.is_none_or(|told| now.since(told) >= STARTING_MS) {
            self.started = Some(now);
            tell(&[sd_notify::NotifyState::ExtendTimeoutUsec(PIECE_US)]);
        }
    }

    /// The agent serves, in this state.
    pub fn ready(&self, status: &str) {
        tell(&[sd_notify::NotifyState::Ready, sd_notify::NotifyState::Status(status)]);
    }

    /// The loop turned. `stuck` says why nothing else gets on, if so, for a watchdog that
    /// waits for so many milliseconds; it is asked thrice in that time.
    pub fn alive(&mut self, now: Millis, stuck: impl FnOnce(u64) -> Option<String>) {
        let Some(watchdog_ms) = self.watchdog_ms else { return };
        if self.looked.is_some_and(|at| now.since(at) < watchdog_ms / 3) {
            return;
        }
        self.looked = Some(now);
        let why = stuck(watchdog_ms);
        let was_stuck = std::mem::replace(&mut self.is_stuck, why.is_some());
        match why {
            None => tell(&[sd_notify::NotifyState::Watchdog]),
            Some(why) if !was_stuck => warn!(why, "systemd's watchdog is not fed"),
            Some(_) => {}
        }
        if was_stuck && !self.is_stuck {
            info!("systemd's watchdog is fed again");
        }
    }

    /// The agent ends.
    pub fn stopping(&self) {
        tell(&[sd_notify::NotifyState::Stopping]);
    }
}

impl Default for Notify {
    fn default() -> Self {
        Self::new()
    }
}

fn tell(states: &[sd_notify::NotifyState<'_>]) {
    // Without systemd there is nobody to tell.
    let _ = sd_notify::notify(states);
}
