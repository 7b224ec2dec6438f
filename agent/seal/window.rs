//! Which counters of a session were seen: each is taken once, and those far
//! behind the newest not at all (the idea of RFC 6479).

use understudy_core::limits::REPLAY_WINDOW;

const WORDS: usize = REPLAY_WINDOW / 64 + 1;

/// See the module's description.
pub(super) struct Window {
    /// One above the newest counter taken.
    next: u64,
    seen: [u64; WORDS],
}

impl Default for Window {
    fn default() -> Self {
        Self { next: 0, seen: [0; WORDS] }
    }
}

fn place(counter: u64) -> (usize, u64) {
    let word = usize::try_from(counter / 64 % WORDS as u64).unwrap_or(0);
    (word, 1 << (counter % 64))
}

impl Window {
    /// May this counter still be taken?
    pub(super) fn is_fresh(&self, counter: u64) -> bool {
        let (word, bit) = place(counter);
        counter >= self.next
            || (self.next - counter <= REPLAY_WINDOW as u64 && self.seen[word] & bit == 0)
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
        self.seen[word] |= bit;
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
        window.take(5_000);
        assert!(!window.is_fresh(5_000));
        assert!(window.is_fresh(5_000 - REPLAY_WINDOW as u64 + 1));
        assert!(!window.is_fresh(5_000 - REPLAY_WINDOW as u64));
        window.take(4_500);
        assert!(!window.is_fresh(4_500));
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_set(counters in proptest::collection::vec(0..6_000_u64, 1..400)) {
            let mut window = Window::default();
            let mut taken = BTreeSet::new();
            for counter in counters {
                let newest = taken.last().copied().unwrap_or(0);
                let near = taken.is_empty() || counter + REPLAY_WINDOW as u64 > newest;
                let fresh = near && !taken.contains(&counter);
                prop_assert_eq!(window.is_fresh(counter), fresh, "{}", counter);
                if fresh {
                    window.take(counter);
                    taken.insert(counter);
                }
            }
        }
    }
}
