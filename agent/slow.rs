//! Is this board fast enough for its group's timing profile? One whose disk takes longer to
//! sync than others wait before they campaign, or whose Wi-Fi sleeps, loses what it holds
//! with the next hiccup: it says so and takes no duty that another could have, until it has
//! been fast for a while.
//!
//! Left out: round trips, which the leader measures (`understudy_core`).

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use understudy_core::{event::Millis, timing::Timing};

/// Syncs that are remembered, for how long, milliseconds, and how many of them say anything.
const SYNCS_MAX: usize = 256;
const SYNCS_MS: u64 = 600_000;
const SYNCS_MIN: usize = 100;

/// Slow, or fast again, counts once it has been so for this long, milliseconds.
const STEADY_MS: u64 = 20_000;

/// With Wi-Fi's power save round trips reach two seconds: too much for an election that
/// begins after less.
const SAVING_MS: u64 = 2_000;

/// How long the journal's syncs took: its thread notes, the loop asks.
#[derive(Clone, Debug, Default)]
pub struct Syncs(Arc<Mutex<VecDeque<(Millis, u64)>>>);

impl Syncs {
    /// One that ended now has taken so long.
    pub fn note(&self, now: Millis, ms: u64) {
        let mut syncs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if syncs.len() == SYNCS_MAX {
            syncs.pop_front();
        }
        syncs.push_back((now, ms));
    }

    /// Of a hundred of late one took longer, milliseconds; none while there are too few.
    #[must_use]
    pub fn p99_ms(&self, now: Millis) -> Option<u64> {
        let syncs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let recent = syncs.iter().filter(|(at, _)| now.since(*at) < SYNCS_MS);
        let mut recent: Vec<u64> = recent.map(|(_, ms)| *ms).collect();
        recent.sort_unstable();
        let place = (recent.len() * 99).div_ceil(100).checked_sub(1)?;
        recent.get(place).copied().filter(|_| recent.len() >= SYNCS_MIN)
    }
}

/// What is seen of a board at one moment.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// As [`Syncs::p99_ms`].
    pub sync_ms: Option<u64>,
    /// An interface whose power save is on.
    pub saves_power: Option<String>,
}

/// Whether a board has been slow for a while.
#[derive(Debug, Default)]
pub struct Slowness {
    why: Option<String>,
    /// Since when it has not been as that says.
    since: Option<Millis>,
}

impl Slowness {
    /// Looks at it; true when the board counts as slow from now on, or no longer.
    pub fn look(&mut self, now: Millis, timing: &Timing, seen: &Seen) -> bool {
        let found = reason(timing, seen, self.why.is_some());
        if found.is_some() == self.why.is_some() {
            (self.since, self.why) = (None, found);
            return false;
        }
        let since = *self.since.get_or_insert(now);
        if now.since(since) < STEADY_MS {
            return false;
        }
        (self.why, self.since) = (found, None);
        true
    }

    /// Why it is slow, in words, if it is.
    #[must_use]
    pub const fn why(&self) -> Option<&String> {
        self.why.as_ref()
    }
}

/// One that is slow already is so until it is twice as fast as it must be.
fn reason(timing: &Timing, seen: &Seen, is_slow: bool) -> Option<String> {
    let election_ms = timing.election_ms_min();
    let long_ms = if is_slow { election_ms / 2 } else { election_ms };
    if let Some(ms) = seen.sync_ms.filter(|ms| *ms > long_ms) {
        return Some(format!(
            "its disk takes up to {ms} ms for a sync, and the group's timing allows {election_ms}: \
             another card, or `understudy set profile` with a slower one"
        ));
    }
    let interface = seen.saves_power.as_ref().filter(|_| election_ms < SAVING_MS)?;
    Some(format!(
        "{interface} saves power, and a round trip takes seconds now and then: `iw dev {interface} \
         set power_save off`, or `understudy set profile wifi`"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hundred_syncs_say_what_one_of_them_exceeds_and_old_ones_nothing() {
        let syncs = Syncs::default();
        for ms in 1..=99 {
            syncs.note(Millis(0), ms);
        }
        assert_eq!(syncs.p99_ms(Millis(0)), None);
        syncs.note(Millis(0), 7_000);
        assert_eq!(syncs.p99_ms(Millis(0)), Some(99), "one stall is none of a hundred");
        syncs.note(Millis(0), 7_000);
        assert_eq!(syncs.p99_ms(Millis(1)), Some(7_000));
        assert_eq!(syncs.p99_ms(Millis(SYNCS_MS)), None);
        (0..300).for_each(|_| syncs.note(Millis(5), 3));
        assert_eq!(syncs.p99_ms(Millis(5)), Some(3));
    }

    #[test]
    fn a_board_is_slow_after_a_while_and_fast_again_likewise() {
        let mut slowness = Slowness::default();
        let seen = |ms| Seen { sync_ms: Some(ms), saves_power: None };
        let mut look = |at, ms| slowness.look(Millis(at), &Timing::WIRED, &seen(ms));
        assert!(!look(0, 500) && !look(19_000, 500));
        assert!(!look(19_500, 300), "it was fast between");
        assert!(!look(20_000, 500) && look(40_000, 500));
        assert!(!look(41_000, 300) && !look(70_000, 300), "not twice as fast as it must be");
        assert!(!look(71_000, 100) && look(91_000, 100));
        assert_eq!(slowness.why(), None);
    }

    #[test]
    fn power_save_does_not_go_with_short_elections() {
        let seen = Seen { sync_ms: None, saves_power: Some("wlan0".into()) };
        assert!(reason(&Timing::WIRED, &seen, false).is_some_and(|why| why.contains("dev wlan0")));
        assert_eq!(reason(&Timing::WIFI, &seen, false), None);
    }
}
