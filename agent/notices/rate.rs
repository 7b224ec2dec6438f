//! How often somebody is told of one kind of thing: so many times within a minute. What
//! is beyond that is counted, and the count told with the next.

use std::collections::{BTreeMap, VecDeque};

use understudy_core::event::Millis;

use super::What;

const MINUTE_MS: u64 = 60_000;

/// Of all `[[notify]]` together, by their places.
#[derive(Default)]
pub struct Rate(BTreeMap<(usize, What), Told>);

#[derive(Default)]
struct Told {
    /// Within the last minute; no more than are allowed.
    at: VecDeque<Millis>,
    dropped: u64,
}

impl Rate {
    /// May this be told now? With how many dropped before it then.
    pub fn admit(&mut self, now: Millis, key: (usize, What), per_minute: usize) -> Option<u64> {
        let told = self.0.entry(key).or_default();
        while told.at.front().is_some_and(|at| now.since(*at) >= MINUTE_MS) {
            told.at.pop_front();
        }
        if told.at.len() >= per_minute {
            told.dropped += 1;
            return None;
        }
        told.at.push_back(now);
        Some(std::mem::take(&mut told.dropped))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_beyond_the_rate_is_dropped_and_counted_with_the_next() {
        let mut rate = Rate::default();
        let key = (0, What::BoardLost);
        let mut admit = |ms, key| rate.admit(Millis(ms), key, 2);
        assert_eq!((admit(0, key), admit(10, key), admit(20, key)), (Some(0), Some(0), None));
        assert_eq!(admit(59_999, key), None);
        assert_eq!(admit(30, (0, What::BoardBack)), Some(0), "each kind by itself");
        assert_eq!(admit(30, (1, What::BoardLost)), Some(0), "and each wish");
        assert_eq!((admit(60_000, key), admit(60_001, key)), (Some(2), None));
        assert_eq!(admit(200_000, key), Some(1));
    }
}
