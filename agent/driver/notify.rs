//! What systemd is told: ready, alive, stopping. Alive only while the loop turns:
//! whoever holds the loop up holds the watchdog back.

use std::process::Command;

use understudy_core::event::Millis;

/// By what systemd finds its way to the agent, and the agent to systemd.
const VARIABLES: [&str; 3] = ["NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC"];

/// What systemd tells the agent is not for a command that is started here.
pub fn keep_from(command: &mut Command) -> &mut Command {
    VARIABLES.iter().fold(command, |command, name| command.env_remove(name))
}

/// Feeds systemd's watchdog, if there is one.
pub struct Notify {
    interval_ms: Option<u64>,
    fed: Option<Millis>,
}

impl Notify {
    /// Reads from the environment whether anybody listens.
    #[must_use]
    pub fn new() -> Self {
        let watchdog = sd_notify::watchdog_enabled();
        let interval_ms =
            watchdog.map(|limit| u64::try_from(limit.as_millis() / 3).unwrap_or(u64::MAX));
        Self { interval_ms, fed: None }
    }

    /// The agent serves, in this state.
    pub fn ready(&self, status: &str) {
        tell(&[sd_notify::NotifyState::Ready, sd_notify::NotifyState::Status(status)]);
    }

    /// The loop turned.
    pub fn alive(&mut self, now: Millis) {
        let Some(interval) = self.interval_ms else { return };
        if self.fed.is_none_or(|fed| now.since(fed) >= interval) {
            self.fed = Some(now);
            tell(&[sd_notify::NotifyState::Watchdog]);
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
