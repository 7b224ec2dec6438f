//! A broker that nobody has to trust: what is posted there it hands on in order, holds
//! back, or loses; it makes nothing up.
//!
//! What one board posts to another keeps its order, as on the two connections that it goes
//! by. A broker that stalls hands out afterwards all that became due meanwhile, at once; one
//! that is slow hands on nothing before what it is late with. What waits for a board is
//! bounded; what has no room is lost, the newest or the oldest. What waits is lost with the
//! connection of the board it is for, and all of it when the broker is started anew.
//!
//! Left out: keep-alive. Who holds datagrams back may well answer pings.

use std::collections::BTreeMap;

use understudy_core::event::NodeId;

use super::mail::Letter;

/// What waits for one board: as much as mosquitto has for one that is slow.
const WAITING_MAX: usize = 1_000;

/// See the module's description.
#[derive(Default)]
pub(crate) struct Broker {
    /// How long it takes when it is well, and until when it takes how much longer.
    pub(crate) latency_ms: u64,
    slow: (u64, u64),
    stalled_until: u64,
    drops_oldest: bool,
    /// From when each board is connected.
    lines: BTreeMap<NodeId, u64>,
    /// For each board, by when it is due, in order.
    waiting: BTreeMap<NodeId, BTreeMap<(u64, u64), Letter>>,
    /// When the last that one posted to another is due.
    last: BTreeMap<(NodeId, NodeId), u64>,
}

impl Broker {
    pub(crate) fn new(latency_ms: u64, drops_oldest: bool) -> Self {
        Self { latency_ms, drops_oldest, ..Self::default() }
    }

    fn is_connected(&self, now: u64, board: NodeId) -> bool {
        self.lines.get(&board).is_some_and(|from| *from <= now)
    }

    /// Takes what a board posts; when it is due, unless it is lost. An agent's parent has a
    /// connection of its own.
    pub(crate) fn take(&mut self, now: u64, letter: Letter, by_parent: bool) -> Option<u64> {
        let Letter { from, to, .. } = letter;
        let is_heard = by_parent || self.is_connected(now, from);
        if !is_heard || !self.is_connected(now, to) {
            return None;
        }
        let waiting = self.waiting.entry(to).or_default();
        if waiting.len() >= WAITING_MAX {
            if !self.drops_oldest {
                return None;
            }
            waiting.pop_first();
        }
        let (until, more_ms) = self.slow;
        let late = now + self.latency_ms + if now < until { more_ms } else { 0 };
        let last = self.last.entry((from, to)).or_default();
        *last = late.max(*last);
        waiting.insert((*last, letter.number), letter);
        Some(*last)
    }

    /// All that is due, in order.
    pub(crate) fn due(&mut self, now: u64) -> Vec<Letter> {
        if now < self.stalled_until {
            return Vec::new();
        }
        let mut due = Vec::new();
        for waiting in self.waiting.values_mut() {
            let later = waiting.split_off(&(now + 1, 0));
            due.extend(std::mem::replace(waiting, later).into_values());
        }
        due
    }

    /// It hands on nothing until then.
    pub(crate) fn stall(&mut self, until: u64) {
        self.stalled_until = self.stalled_until.max(until);
    }

    /// Until then it takes so much longer.
    pub(crate) const fn slow_down(&mut self, until: u64, more_ms: u64) {
        self.slow = (until, more_ms);
    }

    /// A board's connection ends, with what waits for it; it is back from then on.
    pub(crate) fn cut_line(&mut self, board: NodeId, back: u64) {
        self.lines.insert(board, back);
        self.waiting.remove(&board);
        self.last.retain(|(_, to), _| *to != board);
    }

    /// It is well, and hands on at once what waits.
    pub(crate) fn heal(&mut self, now: u64) {
        (self.slow, self.stalled_until) = ((0, 0), 0);
        self.last.clear();
        self.lines.values_mut().for_each(|from| *from = now.min(*from));
        for waiting in self.waiting.values_mut() {
            let all = std::mem::take(waiting).into_iter();
            waiting.extend(all.map(|((_, number), letter)| ((now, number), letter)));
        }
    }

    pub(crate) fn boards(&self) -> Vec<NodeId> {
        self.lines.keys().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(number: u64, from: NodeId, to: NodeId) -> Letter {
        Letter { from, to, number, born: 0, is_posted: true, datagram: Vec::new() }
    }

    fn broker() -> Broker {
        let mut broker = Broker::new(10, false);
        [1, 2, 3].iter().for_each(|board| broker.cut_line(*board, 0));
        broker
    }

    fn numbers(letters: &[Letter]) -> Vec<u64> {
        letters.iter().map(|letter| letter.number).collect()
    }

    #[test]
    fn what_was_held_back_comes_in_order_and_nothing_overtakes_it() {
        let mut broker = broker();
        broker.slow_down(100, 60_000);
        assert_eq!(broker.take(0, letter(1, 1, 2), false), Some(60_010));
        assert_eq!(broker.take(200, letter(2, 1, 2), false), Some(60_010));
        assert_eq!(broker.take(200, letter(3, 3, 2), false), Some(210));
        assert_eq!(numbers(&broker.due(60_000)), [3]);
        broker.stall(70_000);
        assert!(broker.due(69_999).is_empty());
        assert_eq!(numbers(&broker.due(70_000)), [1, 2]);
    }

    #[test]
    fn what_waits_is_bounded_and_lost_with_the_connection() {
        let mut broker = broker();
        let mut taken = (0..1_100).map(|number| broker.take(0, letter(number, 1, 2), false));
        assert_eq!(taken.by_ref().flatten().count(), WAITING_MAX);
        broker.drops_oldest = true;
        assert_eq!(broker.take(0, letter(1_100, 1, 2), false), Some(10));
        let due = numbers(&broker.due(10));
        assert_eq!((due.first(), due.last()), (Some(&1), Some(&1_100)));
        assert!(broker.take(20, letter(1_101, 1, 2), false).is_some());
        broker.cut_line(2, 500);
        assert_eq!(broker.take(499, letter(1_102, 1, 2), false), None);
        assert_eq!(broker.take(499, letter(1_103, 2, 1), false), None);
        assert!(broker.take(499, letter(1_104, 2, 1), true).is_some(), "its parent is there");
        assert!(broker.take(500, letter(1_105, 1, 2), false).is_some());
        assert_eq!(numbers(&broker.due(600)), [1_104, 1_105]);
    }
}
