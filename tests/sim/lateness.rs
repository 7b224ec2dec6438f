//! How late a board heard what it heard. A board cannot know it, so what it says of
//! its age leaves it out; the check of that must not.

use std::collections::VecDeque;

/// What came longer ago is of no use to any read, milliseconds.
const KEPT_MS: u64 = 20_000;

/// When something came, and how long it was under way.
#[derive(Default)]
pub(crate) struct Lateness(VecDeque<(u64, u64)>);

impl Lateness {
    pub(crate) fn came(&mut self, now: u64, late_ms: u64) {
        self.0.push_back((now, late_ms));
        while self.0.front().is_some_and(|(at, _)| at + KEPT_MS < now) {
            self.0.pop_front();
        }
    }

    /// The most, of what came since then.
    pub(crate) fn most_since(&self, then: u64) -> u64 {
        let since = self.0.partition_point(|(at, _)| *at < then);
        self.0.range(since..).map(|(_, late_ms)| *late_ms).max().unwrap_or(0)
    }

    /// It stood still since then: all that came meanwhile is taken only now.
    pub(crate) fn stood_still(&mut self, now: u64, then: u64) {
        let since = self.0.partition_point(|(at, _)| *at < then);
        let late = self.0.range(since..).map(|(at, late_ms)| now - at + late_ms).max();
        self.came(now, late.unwrap_or(0).max(now - then));
    }
}
