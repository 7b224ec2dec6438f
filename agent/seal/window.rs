//! Which counters of a session were seen: each is taken once, and those far
//! behind the newest not at all (the idea of RFC 6479). Nor is what was sent before something
//! that came a while ago: whoever holds datagrams back cannot bring them in between those
//! that another road has brought.

use understudy_core::{event::Millis, limits::REPLAY_WINDOW, mutant};

/// What was overtaken so long ago may not be taken any more, milliseconds, and is not from
/// twice as long ago on.
pub(super) const AGE_MS_MAX: u64 = 15_000;

const WORDS: usize = REPLAY_WINDOW / 64 + 1;

/// See the module's description.
pub(super) struct Window {
    /// One above the newest counter taken.
    next: u64,
    seen: [u64; WORDS],
    /// What `next` was by that moment, and below which nothing is taken.
    mark: (Millis, u64),
    floor: u64,
}

impl Default for Window {
    fn default() -> Self {
        Self { next: 0, seen: [0; WORDS], mark: (Millis(0), 0), floor: 0 }
    }
}

fn place(counter: u64) -> (usize, u64) {
    let word = usize::try_from(counter / 64 % WORDS as u64).unwrap_or(0);
    (word, 1 << (counter % 64))
}

impl Window {
    /// May this counter still be taken?
    pub(super) fn is_fresh(&mut self, now: Millis, counter: u64) -> bool {
        self.mark(now);
        let (word, bit) = place(counter);
        if counter < self.floor {
            return false;
        }
        counter >= self.next
            || (self.next - counter <= REPLAY_WINDOW as u64 && self.seen[word] & bit == 0)
    }

    fn mark(&mut self, now: Millis) {
        if mutant::is(130) {
            return;
        }
        let (at, next) = self.mark;
        let since = now.since(at);
        if since >= 2 * AGE_MS_MAX {
            // All there is came before the mark was due.
            (self.floor, self.mark) = (self.next, (now, self.next));
        } else if since >= AGE_MS_MAX {
            (self.floor, self.mark) = (next, (at.plus(AGE_MS_MAX), self.next));
        }
    }

    /// Takes it, after its message was found genuine.
    pub(super) fn take(&mut self, counter: u64) {
        if counter >= self.next {
            let newest = self.next.saturating_sub(1) / 64;
            let fresh = (counter / 64 - newest).min(WORDS as u64);
            for block in newest + 1..=newest + fresh {
                self.seen[place(block * 64).0] = 0;
            }
            self.next = counter + 1;
        }
        let (word, bit) = place(counter);
        if !mutant::is(131) {
            self.seen[word] |= bit;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_counter_is_taken_once_within_the_window_and_not_at_all_behind_it() {
        let mut window = Window::default();
        let is_fresh = |window: &mut Window, counter| window.is_fresh(Millis(0), counter);
        window.take(5_000);
        assert!(!is_fresh(&mut window, 5_000));
        assert!(is_fresh(&mut window, 5_000 - REPLAY_WINDOW as u64 + 1));
        assert!(!is_fresh(&mut window, 5_000 - REPLAY_WINDOW as u64));
        window.take(4_500);
        assert!(!is_fresh(&mut window, 4_500));
    }

    #[test]
    fn what_was_held_back_for_long_while_others_came_is_not_taken() {
        let mut window = Window::default();
        for (ms, counter) in [(100_000, 0), (100_010, 9), (110_000, 20), (116_000, 21)] {
            assert!(window.is_fresh(Millis(ms), counter));
            window.take(counter);
        }
        assert!(window.is_fresh(Millis(116_001), 15), "it was overtaken six seconds ago");
        assert!(window.is_fresh(Millis(131_500), 22));
        window.take(22);
        assert!(!window.is_fresh(Millis(131_501), 8), "and that half a minute ago");
        assert!(!window.is_fresh(Millis(146_600), 15));
        assert!(window.is_fresh(Millis(900_000), 23), "silence is no fault");
    }

    proptest! {
        #[test]
        fn what_was_overtaken_half_a_minute_ago_is_not_taken_whenever_others_came(
            steps in proptest::collection::vec((0..40_000_u64, 0..40_u64), 1..60),
        ) {
            let mut window = Window::default();
            let mut taken: Vec<(u64, u64)> = Vec::new();
            let mut now = 100_000;
            for (pause, counter) in steps {
                now += pause * pause / 40_000;
                let overtook = taken.iter().find(|(_, other)| *other > counter);
                let ms = overtook.map_or(0, |(at, _)| now - at);
                let is_known = taken.iter().any(|(_, other)| *other == counter);
                let is_fresh = window.is_fresh(Millis(now), counter);
                prop_assert!(!is_fresh || ms < 2 * AGE_MS_MAX, "{} after {} ms", counter, ms);
                prop_assert!(is_fresh || is_known || ms >= AGE_MS_MAX, "{} after {} ms", counter, ms);
                if is_fresh {
                    window.take(counter);
                    taken.push((now, counter));
                }
            }
        }

        #[test]
        fn it_agrees_with_a_set(counters in proptest::collection::vec(0..6_000_u64, 1..400)) {
            let mut window = Window::default();
            let mut taken = BTreeSet::new();
            for counter in counters {
                let newest = taken.last().copied().unwrap_or(0);
                let near = taken.is_empty() || counter + REPLAY_WINDOW as u64 > newest;
                let fresh = near && !taken.contains(&counter);
                prop_assert_eq!(window.is_fresh(Millis(0), counter), fresh, "{}", counter);
                if fresh {
                    window.take(counter);
                    taken.insert(counter);
                }
            }
        }
    }
}
