//! How much may be under way to a peer, and how long its silence is normal.
//!
//! The window follows loss in proportion: each fragment lost takes a quarter
//! of one off, each window's worth acknowledged adds one. That settles near
//! `4 (1 - p) / p` fragments at a loss of `p`: radio loss costs little, a queue
//! that overflows costs much. A round trip well above its least is a queue that
//! fills; heartbeats wait in it too, so the window gives way before it overflows.

use crate::{
    event::Millis,
    limits::{
        ACKNOWLEDGE_MS_MAX, PROBE_MS_MAX, PROBE_MS_START, QUEUEING_MS_MAX, WINDOW_FRAGMENTS_MAX,
        WINDOW_FRAGMENTS_MIN, WINDOW_FRAGMENTS_START,
    },
};

/// Parts of a fragment the window is counted in.
const PARTS: usize = 256;

/// Fragments that may be under way.
#[derive(Debug)]
pub(super) struct Window {
    parts: usize,
    /// Nothing was lost yet: it grows by what is acknowledged.
    is_untried: bool,
}

impl Window {
    pub(super) const fn new() -> Self {
        Self { parts: WINDOW_FRAGMENTS_START * PARTS, is_untried: true }
    }

    pub(super) const fn fragments(&self) -> usize {
        self.parts / PARTS
    }

    /// `count` fragments were acknowledged while the window was in use.
    pub(super) fn acknowledged(&mut self, count: usize, is_queueing: bool) {
        let parts = if is_queueing {
            self.is_untried = false;
            self.parts.saturating_sub(count * PARTS / 4)
        } else if self.is_untried {
            self.parts + count * PARTS
        } else {
            self.parts + count * PARTS * PARTS / self.parts
        };
        self.set(parts);
    }

    /// `count` fragments were lost.
    pub(super) fn lost(&mut self, count: usize) {
        if count > 0 {
            self.is_untried = false;
            self.set(self.parts.saturating_sub(count * PARTS / 4));
        }
    }

    /// The peer is silent: whatever was known of the road does not hold.
    pub(super) fn close(&mut self) {
        self.is_untried = false;
        self.set(0);
    }

    fn set(&mut self, parts: usize) {
        self.parts = parts.clamp(WINDOW_FRAGMENTS_MIN * PARTS, WINDOW_FRAGMENTS_MAX * PARTS);
    }
}

/// How long after one minimum of the round trip another is looked for: roads change.
const LEAST_MS: u64 = 20_000;

/// Estimates of a peer's round trip, as TCP keeps them (RFC 6298).
#[derive(Debug, Default)]
pub(crate) struct RoundTrip {
    /// Eighths of a millisecond; `None` before the first sample.
    smoothed_8: Option<u64>,
    /// Quarters of a millisecond.
    variation_4: u64,
    /// Least of this stretch of time and of the one before.
    least_ms: [u64; 2],
    stretch: Millis,
    last_ms: u64,
}

impl RoundTrip {
    pub(crate) fn sample(&mut self, now: Millis, ms: u64) {
        let ms = ms.min(PROBE_MS_MAX);
        match &mut self.smoothed_8 {
            None => {
                self.smoothed_8 = Some(ms * 8);
                self.variation_4 = ms * 2;
                self.least_ms = [ms; 2];
                self.stretch = now;
            }
            Some(smoothed_8) => {
                let off = ms.abs_diff(*smoothed_8 / 8);
                self.variation_4 = self.variation_4 - self.variation_4 / 4 + off;
                *smoothed_8 = *smoothed_8 - *smoothed_8 / 8 + ms;
            }
        }
        if now.since(self.stretch) >= LEAST_MS {
            self.stretch = now;
            self.least_ms = [ms, self.least_ms[0]];
        }
        self.least_ms[0] = self.least_ms[0].min(ms);
        self.last_ms = ms;
    }

    /// Milliseconds, once known.
    pub(super) fn smoothed_ms(&self) -> Option<u64> {
        self.smoothed_8.map(|smoothed_8| smoothed_8 / 8)
    }

    /// About the longest there is, milliseconds, once any is known.
    pub(crate) fn longest_ms(&self) -> Option<u64> {
        self.smoothed_ms().map(|smoothed| smoothed + self.variation_4)
    }

    /// Was the last round trip longer than the road explains?
    pub(super) fn is_queueing(&self) -> bool {
        self.last_ms > self.least_ms[0].min(self.least_ms[1]) + QUEUEING_MS_MAX
    }

    /// What is this much older than something that arrived will not arrive.
    pub(super) fn reorder_ms(&self) -> u64 {
        self.variation_4.max(2)
    }

    /// Silence after which a fragment is sent again, for the `tries`-th time in a row.
    pub(super) fn probe_ms(&self, tries: u32) -> u64 {
        let once = self.smoothed_ms().map_or(PROBE_MS_START, |smoothed| {
            smoothed + self.variation_4.max(ACKNOWLEDGE_MS_MAX) + ACKNOWLEDGE_MS_MAX
        });
        (once << tries.min(10)).min(PROBE_MS_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_settles_where_loss_lets_it() {
        for (loss_of_100, least, most) in [(20, 13, 19), (5, 60, 90), (1, 230, 256), (0, 256, 256)]
        {
            let mut window = Window::new();
            for _ in 0..2_000 {
                let sent = window.fragments() * 100;
                for _ in 0..100 {
                    window.acknowledged(sent * (100 - loss_of_100) / 10_000, false);
                    window.lost(sent * loss_of_100 / 10_000);
                }
            }
            let fragments = window.fragments();
            assert!((least..=most).contains(&fragments), "{loss_of_100} %: {fragments}");
        }
    }

    #[test]
    fn a_queue_on_the_way_closes_the_window() {
        let mut round_trip = RoundTrip::default();
        let mut window = Window::new();
        round_trip.sample(Millis(0), 20);
        window.acknowledged(32, round_trip.is_queueing());
        assert_eq!(window.fragments(), 64);
        round_trip.sample(Millis(100), 21 + QUEUEING_MS_MAX);
        window.acknowledged(64, round_trip.is_queueing());
        assert_eq!(window.fragments(), 48);
    }

    #[test]
    fn a_road_that_grew_longer_is_taken_for_what_it_is() {
        let mut round_trip = RoundTrip::default();
        round_trip.sample(Millis(0), 2);
        for step in 1..=45 {
            round_trip.sample(Millis(step * 1_000), 400);
        }
        assert!(!round_trip.is_queueing());
    }

    #[test]
    fn silence_is_borne_longer_each_time_and_never_too_long() {
        let mut round_trip = RoundTrip::default();
        assert_eq!(round_trip.probe_ms(0), PROBE_MS_START);
        round_trip.sample(Millis(0), 8);
        assert!(round_trip.probe_ms(0) < 40);
        assert_eq!(round_trip.probe_ms(1), 2 * round_trip.probe_ms(0));
        assert_eq!(round_trip.probe_ms(u32::MAX), PROBE_MS_MAX);
    }
}
