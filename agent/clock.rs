//! The board's clock: whether it knows the time, and the stamps of readings.
//!
//! Boards boot with a time that is anything. The wall clock counts as set when there is
//! evidence that somebody set it since: a time server it follows, a clock that runs
//! without power, a step of more than 10 s while the agent runs, or the owner's word.
//! A time that was there when the agent started proves nothing by itself: it may be a
//! remembered one. What is evidence can be narrowed by configuration, but for the
//! owner's word. Once set, a clock stays so until the machine is started anew.
//!
//! Stamps are whole milliseconds and never fall. Before the clock is set they are boot
//! time ([`time_unset`]). From then on they are boot time and an offset, which follows
//! the wall clock forward at once; where that is stepped back, it gives way by half of
//! the time that passes, so that stamps go on in their order, at half their pace, until
//! the wall clock has caught up. The offset of the moment when the clock was set is kept
//! for the readings before: with it they come before all that were stamped later.
//!
//! Left out: setting any clock.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tracing::info;
use understudy_core::{
    event::{NodeId, Reply, Request},
    readings::{ClockFix, Work, time_unset},
    sql,
};

use crate::{
    boot::{Boot, Evidence, Remembered, Set},
    call::Caller,
    driver::clock,
    status::ClockStatus,
    time::rfc3339,
};

/// A wall clock that moves by more than this against boot time was set, microseconds.
const STEP_US: i64 = 10_000_000;

/// No clock that shows less was ever set, microseconds: 2025-01-01.
const EARLIEST_US: i64 = 1_735_689_600_000_000;

/// A caller's time further ahead of the clock than this is far, microseconds: a day.
const AHEAD_US_MAX: i64 = 86_400_000_000;

/// And further behind: ten years.
const BEHIND_US_MAX: i64 = 10 * 365 * AHEAD_US_MAX;

/// Between two looks at the system's clock.
const LOOK: Duration = Duration::from_secs(2);

/// The group is asked again to put readings right, after one that left some or was
/// not heard: looks.
const FIX_LOOKS: u32 = 1;

/// And after one that left none: what a spool held back may come later.
const FIXED_LOOKS: u32 = 300;

/// Boot time and wall time at one moment, microseconds.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    boot_us: i64,
    wall_us: i64,
}

impl Moment {
    fn now() -> Self {
        let (boot_us, wall_us) = clock::boot_and_wall_us();
        Self { boot_us, wall_us }
    }

    const fn offset_us(self) -> i64 {
        self.wall_us - self.boot_us
    }
}

/// When a reading was taken, by this board's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// As in a reading.
    pub time: i64,
    /// It is far from the wall clock, which was stepped back.
    pub is_far: bool,
}

/// See the module's description; time is an argument.
#[derive(Debug)]
struct Clock {
    start: u64,
    accepts: Vec<Evidence>,
    /// When it was last looked at.
    seen: Moment,
    /// What boot time lacks to stamps, while set, microseconds.
    offset_us: i64,
    known: Remembered,
}

impl Clock {
    fn new(start: u64, accepts: Vec<Evidence>, known: Remembered, now: Moment) -> Self {
        let mut clock = Self { start, accepts, seen: now, offset_us: now.offset_us(), known };
        clock.known.set = clock.known.set.filter(|set| clock.counts(set.by));
        if let Some(Set { by: Evidence::Peer, began_us }) = clock.known.set {
            clock.offset_us = began_us;
        }
        clock
    }

    fn counts(&self, by: Evidence) -> bool {
        by == Evidence::Confirm || self.accepts.contains(&by)
    }

    /// Time has passed.
    fn advance(&mut self, now: Moment) {
        let stepped_us = now.offset_us().saturating_sub(self.seen.offset_us());
        let passed_us = (now.boot_us - self.seen.boot_us).max(0);
        self.seen = now;
        if !self.is_set_by_itself() {
            if stepped_us.saturating_abs() > STEP_US {
                self.found(Evidence::Step, now);
            }
            return;
        }
        self.offset_us = now.offset_us().max(self.offset_us - passed_us / 2);
    }

    /// There is this evidence.
    fn found(&mut self, by: Evidence, now: Moment) {
        if !self.is_set_by_itself() && self.counts(by) && now.wall_us >= EARLIEST_US {
            self.set_to(by, now.offset_us());
        }
    }

    /// By peers' clocks its boot time began then.
    fn told(&mut self, began_us: i64) {
        let is_new =
            self.known.set.is_none_or(|set| set.by == Evidence::Peer && began_us > self.offset_us);
        if is_new && self.counts(Evidence::Peer) && began_us >= EARLIEST_US {
            self.set_to(Evidence::Peer, began_us);
        }
    }

    /// Stamps go on from the offset of before, where that was ahead.
    fn set_to(&mut self, by: Evidence, offset_us: i64) {
        let before = self.known.set.map(|set| set.began_us);
        self.offset_us = before.map_or(offset_us, |_| offset_us.max(self.offset_us));
        let began_us = before.unwrap_or_else(|| offset_us.div_euclid(1_000) * 1_000);
        self.known.set = Some(Set { by, began_us });
    }

    fn is_set_by_itself(&self) -> bool {
        self.known.set.is_some_and(|set| set.by != Evidence::Peer)
    }

    /// The time it knows, microseconds since 1970.
    fn wall_us(&self, now: Moment) -> Option<i64> {
        match self.known.set?.by {
            Evidence::Peer => Some(now.boot_us + self.offset_us),
            Evidence::Ntp | Evidence::Rtc | Evidence::Step | Evidence::Confirm => Some(now.wall_us),
        }
    }

    fn stamp(&mut self, now: Moment) -> Stamp {
        self.advance(now);
        if self.known.set.is_none() {
            let first = self.known.unset.map_or(self.start, |(first, _)| first);
            self.known.unset = Some((first, self.start));
            let boot_ms = u64::try_from(now.boot_us / 1_000).unwrap_or(0);
            return Stamp { time: time_unset(self.start, boot_ms), is_far: false };
        }
        let time = (now.boot_us + self.offset_us).div_euclid(1_000) * 1_000;
        let wall_us = self.wall_us(now).unwrap_or(now.wall_us);
        Stamp { time, is_far: time - wall_us > AHEAD_US_MAX }
    }

    fn is_far(&self, time: i64, now: Moment) -> bool {
        let Some(wall_us) = self.wall_us(now) else { return false };
        let ahead = time.saturating_sub(wall_us);
        !(-BEHIND_US_MAX..=AHEAD_US_MAX).contains(&ahead)
    }

    fn state(&self, now: Moment) -> ClockStatus {
        let shown_ms = now.wall_us.div_euclid(1_000);
        let ahead_us = match self.is_set_by_itself() {
            true => self.offset_us - now.offset_us(),
            false => 0,
        };
        ClockStatus {
            set_by: self.known.set.map(|set| set.by),
            shows: rfc3339(shown_ms.div_euclid(1_000), shown_ms.rem_euclid(1_000)),
            ahead_ms: ahead_us / 1_000,
        }
    }
}

/// The clock, shared by all ways in.
#[derive(Clone, Debug)]
pub struct BoardClock {
    clock: Arc<Mutex<Clock>>,
    boot: Boot,
}

impl BoardClock {
    /// Of this start of the board that keeps its things in `directory`; `accepts` is what
    /// counts besides the owner's word.
    #[must_use]
    pub fn new(start: u64, accepts: Vec<Evidence>, directory: &Path) -> Self {
        let boot = Boot::of(directory);
        let now = Moment::now();
        let mut clock = Clock::new(start, accepts, boot.recall(start), now);
        if clock::is_set_by_rtc() {
            clock.found(Evidence::Rtc, now);
        }
        let clock = Self { clock: Arc::new(Mutex::new(clock)), boot };
        clock.look();
        clock
    }

    fn with<T>(&self, change: impl FnOnce(&mut Clock, Moment) -> T) -> T {
        let mut clock = self.clock.lock().unwrap_or_else(PoisonError::into_inner);
        let before = clock.known.clone();
        let changed = change(&mut clock, Moment::now());
        if clock.known != before {
            if let (None, Some(Set { by, .. })) = (before.set, clock.known.set) {
                info!(?by, "the clock of this board is set");
            }
            self.boot.remember(&clock.known);
        }
        changed
    }

    fn look(&self) {
        self.with(|clock, now| {
            clock.advance(now);
            if !clock.is_set_by_itself() && clock::is_synchronised() {
                clock.found(Evidence::Ntp, now);
            }
        });
    }

    /// The stamp of a reading that comes now.
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        self.with(Clock::stamp)
    }

    /// Is a time that a caller gave far from the clock? One that is not set says nothing.
    #[must_use]
    pub fn is_far(&self, time: i64) -> bool {
        self.with(|clock, now| clock.is_far(time, now))
    }

    /// The wall clock, where it is set, microseconds since 1970.
    #[must_use]
    pub fn wall_us(&self) -> Option<i64> {
        self.with(|clock, now| clock.wall_us(now))
    }

    /// When boot time began by this board's own clock, where that is set, microseconds
    /// since 1970: what other boards are told.
    #[must_use]
    pub fn began_us(&self) -> Option<i64> {
        self.with(|clock, now| clock.is_set_by_itself().then(|| now.offset_us()))
    }

    /// When boot time began by the clocks of other boards.
    pub fn told(&self, began_us: i64) {
        self.with(|clock, _| clock.told(began_us));
    }

    /// How it is.
    fn state(&self) -> ClockStatus {
        self.with(|clock, now| {
            clock.advance(now);
            clock.state(now)
        })
    }

    /// The owner says that it is right; it cannot be where it shows a time in which there
    /// was no understudy.
    fn confirm(&self) -> Result<ClockStatus, String> {
        self.with(|clock, now| {
            clock.advance(now);
            clock.found(Evidence::Confirm, now);
            let state = clock.state(now);
            if state.set_by.is_some() {
                return Ok(state);
            }
            Err(format!(
                "the clock shows {}, which cannot be right: set it first (`timedatectl set-time`)",
                state.shows
            ))
        })
    }

    /// What the command line is told, who may say that it is right.
    ///
    /// # Errors
    /// When it cannot be.
    pub fn answer(&self, confirm: bool) -> Result<ClockStatus, String> {
        if confirm { self.confirm() } else { Ok(self.state()) }
    }

    /// What puts readings right that were stamped before the clock was set.
    fn fixes(&self, board: NodeId) -> Vec<ClockFix> {
        self.with(|clock, _| {
            let Some((set, (first, last))) = clock.known.set.zip(clock.known.unset) else {
                return Vec::new();
            };
            let fix = |boot| ClockFix { board, boot, began_us: set.began_us };
            (first..=last).map(fix).collect()
        })
    }

    /// Looks at the system's clock for ever, and has the group put readings right, again
    /// and again until none is left.
    pub async fn keep(self, caller: Caller, board: NodeId) {
        let mut wait_looks = 0;
        loop {
            tokio::time::sleep(LOOK).await;
            self.look();
            if wait_looks > 0 {
                wait_looks -= 1;
                continue;
            }
            let mut left = 0;
            for fix in self.fixes(board) {
                let asked = caller.request(Request::Write(Work::Clock(fix).encode())).await;
                left += match asked {
                    None => return,
                    Some(Reply::Done { answer, .. }) => sql::decode::<u64>(&answer).unwrap_or(1),
                    Some(Reply::Refused(_)) => 1,
                };
                wait_looks = if left == 0 { FIXED_LOOKS } else { FIX_LOOKS };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use understudy_core::readings::unset_of;

    use super::*;

    const SECOND: i64 = 1_000_000;

    /// Boot time and wall time in seconds after the earliest.
    fn at(boot_s: i64, wall_s: i64) -> Moment {
        Moment { boot_us: boot_s * SECOND, wall_us: EARLIEST_US + wall_s * SECOND }
    }

    fn all() -> Vec<Evidence> {
        vec![Evidence::Ntp, Evidence::Rtc, Evidence::Step]
    }

    fn new(accepts: Vec<Evidence>, now: Moment) -> Clock {
        let nowhere = Boot::of(Path::new("/nowhere"));
        Clock::new(7, accepts, nowhere.recall(7), now)
    }

    fn set(moment: Moment) -> Clock {
        let mut clock = new(all(), moment);
        clock.found(Evidence::Ntp, moment);
        clock
    }

    #[test]
    fn peers_say_the_time_where_that_is_wanted_until_the_board_knows_better() {
        let began = EARLIEST_US + 3_600 * SECOND;
        let mut clock = new(all(), at(100, -9_000));
        clock.told(began);
        assert!(clock.known.set.is_none(), "only where it is configured");
        clock.accepts.push(Evidence::Peer);
        clock.told(began);
        let now = at(101, -8_999);
        assert_eq!(clock.stamp(now).time, began + 101 * SECOND);
        assert_eq!(clock.wall_us(now), Some(began + 101 * SECOND));
        assert!(!clock.is_set_by_itself(), "it tells nobody");
        clock.told(began - SECOND);
        let later = clock.stamp(at(102, -8_998)).time;
        assert_eq!(later, began + 102 * SECOND, "stamps do not fall");
        clock.found(Evidence::Ntp, at(103, 3_600 + 104));
        assert!(clock.is_set_by_itself());
        assert_eq!(clock.stamp(at(103, 3_600 + 104)).time, began + 104 * SECOND);
        assert_eq!(clock.known.set.map(|set| set.began_us), Some(began));
    }

    #[test]
    fn a_time_that_was_there_proves_nothing() {
        let mut clock = new(all(), at(100, 5_000));
        let stamp = clock.stamp(at(101, 5_001));
        assert_eq!(unset_of(stamp.time), Some((7, 101_000)));
        assert!(!stamp.is_far && !clock.is_far(0, at(101, 5_001)));
        assert!(clock.known.unset == Some((7, 7)) && clock.state(at(101, 5_001)).set_by.is_none());
    }

    #[test]
    fn a_step_while_the_agent_runs_sets_it_and_a_small_one_does_not() {
        let mut clock = new(all(), at(100, 0));
        clock.advance(at(102, 12));
        assert!(clock.known.set.is_none(), "10 s");
        clock.advance(at(104, 25));
        assert_eq!(clock.known.set.map(|set| set.by), Some(Evidence::Step));
        assert_eq!(clock.stamp(at(105, 26)).time, EARLIEST_US + 26 * SECOND);
    }

    #[test]
    fn only_what_is_configured_counts_but_the_owners_word_always_does() {
        let mut clock = new(Vec::new(), at(0, 0));
        clock.found(Evidence::Ntp, at(1, 1));
        clock.advance(at(2, 1_000));
        assert!(clock.known.set.is_none());
        clock.found(Evidence::Confirm, at(3, -100));
        assert!(clock.known.set.is_none(), "it shows a time before there was any understudy");
        clock.found(Evidence::Confirm, at(3, 1_000));
        assert_eq!(clock.known.set.map(|set| set.by), Some(Evidence::Confirm));
    }

    #[test]
    fn readings_before_it_was_set_come_before_those_after() {
        let mut clock = new(all(), at(0, 0));
        let before = Moment { boot_us: 4_999_999, wall_us: EARLIEST_US + 77 };
        let (_, boot_ms) = unset_of(clock.stamp(before).time).unwrap();
        let now = Moment { boot_us: 5_000_000, wall_us: EARLIEST_US + 90 * SECOND + 999 };
        clock.found(Evidence::Ntp, now);
        let put_right = clock.known.set.unwrap().began_us + boot_ms.cast_signed() * 1_000;
        let after = clock.stamp(now).time;
        assert!(put_right <= after && after - put_right <= 2_000, "{put_right} {after}");
        assert_eq!((put_right % 1_000, after % 1_000), (0, 0));
    }

    #[test]
    fn stamps_never_fall_whatever_the_wall_clock_does() {
        let mut clock = set(at(0, 10_000));
        let (mut last, mut wall_s) = (i64::MIN, 10_000);
        for boot_s in 1..2_000 {
            wall_s += match boot_s {
                300 => -500,
                700 => 100_000,
                900 => -80_000,
                _ => 1,
            };
            let stamp = clock.stamp(at(boot_s, wall_s)).time;
            assert!(stamp > last, "{boot_s}");
            last = stamp;
        }
    }

    #[test]
    fn a_clock_that_was_put_back_is_caught_up_with_and_one_put_forward_followed() {
        let mut clock = set(at(0, 1_000));
        let stamp_s = |clock: &mut Clock, moment| (clock.stamp(moment).time - EARLIEST_US) / SECOND;
        assert_eq!(stamp_s(&mut clock, at(10, 1_010)), 1_010);
        assert_eq!(stamp_s(&mut clock, at(12, 912)), 1_011, "half the pace");
        assert_eq!(clock.state(at(12, 912)).ahead_ms, 99_000);
        assert_eq!(stamp_s(&mut clock, at(112, 1_012)), 1_061);
        assert_eq!(stamp_s(&mut clock, at(250, 1_150)), 1_150);
        assert_eq!(stamp_s(&mut clock, at(251, 9_000)), 9_000);
    }

    #[test]
    fn times_far_from_the_clock_are_told() {
        let mut clock = set(at(0, 0));
        let (now, day) = (at(0, 0), 86_400 * SECOND);
        for (time, is_far) in [
            (EARLIEST_US + day, false),
            (EARLIEST_US + day + 1, true),
            (EARLIEST_US - 3_650 * day, false),
            (EARLIEST_US - 3_650 * day - 1, true),
            (i64::MAX, true),
            (i64::MIN, true),
        ] {
            assert_eq!(clock.is_far(time, now), is_far, "{time}");
        }
        let back = at(1, -2 * 86_400);
        assert!(clock.stamp(back).is_far, "stamps are two days ahead of what it shows now");
    }

    #[test]
    fn the_next_start_knows_it_and_puts_the_readings_of_those_before_right() {
        let folder = tempfile::tempdir().unwrap();
        let start = |start, accepts| BoardClock::new(start, accepts, folder.path());
        assert_eq!(start(7, Vec::new()).fixes(1), []);
        assert!(unset_of(start(8, Vec::new()).stamp().time).is_some());
        let ninth = start(9, Vec::new());
        assert!(unset_of(ninth.stamp().time).is_some());
        let state = ninth.confirm().unwrap();
        assert_eq!(state.set_by, Some(Evidence::Confirm));
        let tenth = start(10, Vec::new());
        assert!(unset_of(tenth.stamp().time).is_none());
        let fixes = tenth.fixes(1);
        assert_eq!(fixes.iter().map(|fix| fix.boot).collect::<Vec<_>>(), [8, 9]);
        assert_eq!(fixes, ninth.fixes(1), "the same moment for all of them");
    }
}
