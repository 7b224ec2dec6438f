//! How long things take: the timing profiles of a group, in ticks and
//! milliseconds of boot time. One profile holds for all boards of a group.
//!
//! A profile can be tuned, within what keeps it consistent: a lease outlives an election,
//! or every change of leader would cost whoever holds a duty that duty.

use alloc::{format, string::String};

/// Longest lease, milliseconds.
const LEASE_MS_MAX: u64 = 600_000;

/// Shortest silence after which anybody may campaign in any profile, milliseconds.
const ELECTION_MS_MIN: u64 = 200;

/// Every duration the core acts on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// One Raft tick. At most one is taken per wake-up, never a burst.
    pub tick_ms: u64,
    /// Ticks between a leader's heartbeats.
    pub heartbeat_ticks: usize,
    /// Shortest silence after which a follower may campaign; also how long a
    /// leader may miss its majority before it steps down.
    pub election_ticks_min: usize,
    /// Bound above the longest such silence.
    pub election_ticks_max: usize,
    /// A ReadIndex round not answered for so long is asked anew, with a fresh context.
    pub read_retry_ms: u64,
    /// A forwarded request not answered for so long is sent again, under its old id.
    pub forward_retry_ms: u64,
    /// A caller waits no longer than this.
    pub request_timeout_ms: u64,
    /// A starting voter whose peers stay silent votes after this, unless its own
    /// journal shows damage.
    pub start_wait_ms: u64,
    /// A peer not heard for so long counts as unreachable.
    pub unreachable_ms: u64,
    /// How long a renewal lets a duty's holder act: an election, and some lost datagrams,
    /// pass within it.
    pub lease_ms: u64,
}

impl Timing {
    /// Boards on a cable, or on one machine.
    pub const WIRED: Self = Self {
        tick_ms: 50,
        heartbeat_ticks: 2,
        election_ticks_min: 8,
        election_ticks_max: 14,
        read_retry_ms: 250,
        forward_retry_ms: 250,
        request_timeout_ms: 10_000,
        start_wait_ms: 5_000,
        unreachable_ms: 1_000,
        lease_ms: 1_200,
    };

    /// Boards on Wi-Fi, power save and all.
    pub const WIFI: Self = Self {
        tick_ms: 100,
        heartbeat_ticks: 5,
        election_ticks_min: 25,
        election_ticks_max: 45,
        read_retry_ms: 1_500,
        forward_retry_ms: 1_500,
        request_timeout_ms: 20_000,
        start_wait_ms: 10_000,
        unreachable_ms: 6_000,
        lease_ms: 7_500,
    };

    /// Slow radio: seconds per round trip.
    pub const RADIO: Self = Self {
        tick_ms: 500,
        heartbeat_ticks: 6,
        election_ticks_min: 30,
        election_ticks_max: 60,
        read_retry_ms: 8_000,
        forward_retry_ms: 8_000,
        request_timeout_ms: 60_000,
        start_wait_ms: 60_000,
        unreachable_ms: 40_000,
        lease_ms: 45_000,
    };

    /// The profile of that name: `wired`, `wifi` or `radio`.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "wired" => Some(Self::WIRED),
            "wifi" => Some(Self::WIFI),
            "radio" => Some(Self::RADIO),
            _ => None,
        }
    }

    /// Reads a profile, tuned or not: `wired`, `wired,election_ms=500,lease_ms=3000`.
    /// `election_ms` is the shortest silence after which a follower may campaign; the
    /// longest, and heartbeats, follow from it. The lease is three times that where it is
    /// not named.
    ///
    /// # Errors
    /// Says what is none of it, or what does not go together and what would.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = text.split(',');
        let name = parts.next().unwrap_or_default();
        let mut timing = Self::named(name)
            .ok_or_else(|| format!("profile is wired, wifi or radio, not {name}"))?;
        let mut lease_ms = None;
        for part in parts {
            let number = part.split_once('=').and_then(|(key, ms)| Some((key, ms.parse().ok()?)));
            match number {
                Some(("election_ms", ms)) => timing = timing.with_election(ms)?,
                Some(("lease_ms", ms)) => lease_ms = Some(ms),
                _ => {
                    return Err(format!(
                        "profile {name}: {part} is neither election_ms=N nor lease_ms=N, in \
                         milliseconds"
                    ));
                }
            }
        }
        timing.lease_ms = lease_ms.unwrap_or(timing.lease_ms.max(timing.lease_ms_min()));
        timing.check_lease()?;
        Ok(timing)
    }

    fn with_election(self, election_ms: u64) -> Result<Self, String> {
        let ticks = self.election_ticks_min as u64;
        // What all else is made for: a board that is elected is not unreachable meanwhile.
        let max = self.unreachable_ms / self.election_ticks_max as u64 * ticks;
        let min = ELECTION_MS_MIN.max(self.election_ms_min() / 4);
        if !(min..=max).contains(&election_ms) {
            return Err(format!("election_ms={election_ms}: {min} to {max} go with this profile"));
        }
        let tick_ms = election_ms.div_ceil(ticks);
        let scaled = |ms: u64| (ms * tick_ms).div_ceil(self.tick_ms);
        Ok(Self {
            tick_ms,
            lease_ms: 3 * tick_ms * ticks,
            read_retry_ms: scaled(self.read_retry_ms),
            forward_retry_ms: scaled(self.forward_retry_ms),
            ..self
        })
    }

    /// The longest that an election takes on any board, whichever profile it was started with.
    fn longest_election_ms(self) -> u64 {
        let started = [Self::WIRED, Self::WIFI, Self::RADIO];
        let longest = started.map(|started| self.in_ticks_of(&started).election_ms_max());
        longest.into_iter().fold(self.election_ms_max(), u64::max)
    }

    fn lease_ms_min(&self) -> u64 {
        // A holder ends it an eighth early, and may have asked just before the leader died.
        (self.longest_election_ms() + 2 * self.renew_ms()) * 8 / 7 + 1
    }

    fn check_lease(&self) -> Result<(), String> {
        let (election_ms, least) = (self.longest_election_ms(), self.lease_ms_min());
        match (least..=LEASE_MS_MAX).contains(&self.lease_ms) {
            true => Ok(()),
            false => Err(format!(
                "lease_ms={}: an election takes up to {election_ms} ms in this profile, so that a \
                 lease of {least} to {LEASE_MS_MAX} ms outlives it",
                self.lease_ms
            )),
        }
    }

    /// This profile, counted in the ticks of another: raft-rs keeps the numbers of
    /// ticks it was started with, so their length makes the difference. No board
    /// campaigns sooner than this profile says.
    #[must_use]
    pub const fn in_ticks_of(self, started: &Self) -> Self {
        Self {
            tick_ms: self.election_ms_min().div_ceil(started.election_ticks_min as u64),
            heartbeat_ticks: started.heartbeat_ticks,
            election_ticks_min: started.election_ticks_min,
            election_ticks_max: started.election_ticks_max,
            ..self
        }
    }

    /// A leader not heard for so long, several heartbeats, gets no new requests
    /// until it is heard again.
    #[must_use]
    pub const fn leader_silent_ms(&self) -> u64 {
        3 * self.tick_ms * self.heartbeat_ticks as u64
    }

    /// Nobody leads for so long only when something is wrong: two elections that
    /// came to nothing.
    #[must_use]
    pub const fn leaderless_ms(&self) -> u64 {
        self.tick_ms * self.leaderless_ticks() as u64
    }

    /// The same in ticks.
    pub(crate) const fn leaderless_ticks(&self) -> usize {
        3 * self.election_ticks_max
    }

    /// Shortest such time.
    #[must_use]
    pub const fn election_ms_min(&self) -> u64 {
        self.tick_ms * self.election_ticks_min as u64
    }

    /// Between two renewals of a duty.
    #[must_use]
    pub const fn renew_ms(&self) -> u64 {
        self.election_ms_min() / 4
    }

    /// Longest time between a leader's death and the start of an election.
    #[must_use]
    pub const fn election_ms_max(&self) -> u64 {
        self.tick_ms * self.election_ticks_max as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_leave_room_for_lost_heartbeats() {
        for timing in [Timing::WIRED, Timing::WIFI, Timing::RADIO] {
            assert!(timing.election_ticks_min >= 4 * timing.heartbeat_ticks);
            assert!(timing.election_ticks_max > timing.election_ticks_min + 4);
            assert!(timing.request_timeout_ms > timing.election_ms_max());
        }
    }

    #[test]
    fn a_profile_in_the_ticks_of_another_is_nearly_itself() {
        let profiles = [Timing::WIRED, Timing::WIFI, Timing::RADIO];
        for (started, wanted) in profiles.iter().flat_map(|one| profiles.map(|two| (one, two))) {
            let timing = wanted.in_ticks_of(started);
            assert!(timing.election_ms_min() >= wanted.election_ms_min());
            assert!(timing.election_ms_min() <= wanted.election_ms_min() * 11 / 10);
            assert!(timing.election_ms_max() <= wanted.election_ms_max() * 6 / 5);
            assert!(timing.election_ticks_min >= 4 * timing.heartbeat_ticks);
            assert!(timing.request_timeout_ms > timing.election_ms_max());
            assert_eq!(timing.election_ticks_max, started.election_ticks_max);
            assert_eq!(wanted.in_ticks_of(&wanted), wanted);
        }
    }

    #[test]
    fn a_profile_is_tuned_within_what_goes_together() {
        for name in ["wired", "wifi", "radio"] {
            assert_eq!(Timing::parse(name).ok(), Timing::named(name));
        }
        let tuned = Timing::parse("wired,election_ms=480,lease_ms=3000").unwrap();
        assert_eq!((tuned.election_ms_min(), tuned.lease_ms, tuned.renew_ms()), (480, 3_000, 120));
        assert_eq!(Timing::parse("wifi,election_ms=2000").unwrap().lease_ms, 6_000);
        for election_ms in 200..=568 {
            let fine = Timing::parse(&alloc::format!("wired,election_ms={election_ms}"));
            assert!(fine.is_ok(), "{fine:?}");
        }
        for (text, words) in [
            ("fast", "wired, wifi or radio, not fast"),
            ("", "not "),
            ("wired,", "neither election_ms"),
            ("wired,tick_ms=3", "tick_ms=3 is neither"),
            ("wired,lease_ms=soon", "lease_ms=soon is neither"),
            ("wired,lease_ms=900", "takes up to 840 ms"),
            ("wired,lease_ms=600001", "to 600000 ms"),
            ("wired,election_ms=100", "200 to 568"),
            ("wired,election_ms=600", "200 to 568"),
            ("radio,election_ms=18000,lease_ms=30000", "outlives it"),
            ("radio,election_ms=200", "3750 to"),
        ] {
            let error = Timing::parse(text).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
    }

    #[test]
    fn unknown_profiles_have_no_timing() {
        assert_eq!(Timing::named("wired"), Some(Timing::WIRED));
        assert_eq!(Timing::named("fast"), None);
    }
}
