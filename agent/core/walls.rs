//! What boards tell each other of the time of day. Nothing in the core goes by it: it
//! is for readings of boards without a clock, for the history, and for what is trimmed by
//! age, which no single clock may decide.
//!
//! Only a board whose clock is set by itself tells it. What is kept of a peer is the
//! moment at which this board's boot time began, by that peer's clock: good to a second,
//! which is what the road takes.

use alloc::{collections::BTreeMap, vec::Vec};

use crate::{
    event::{Millis, NodeId},
    limits::{PRESENCE_TICKS, WALL_APART_US_MAX, WALL_HEARD_MS},
    node::Node,
    wire::Frame,
};

/// See the module's description.
#[derive(Default)]
pub(crate) struct Walls {
    own: Option<i64>,
    /// When each peer was last heard to say so, and what came of it.
    others: BTreeMap<NodeId, (Millis, i64)>,
}

impl Node {
    /// The moment at which this board's boot time began, microseconds since 1970; none
    /// while its clock is not set, or set after another board's.
    pub fn set_began(&mut self, now: Millis, began_us: Option<i64>) {
        let is_news = self.walls.own.is_none() && began_us.is_some();
        self.walls.own = began_us;
        if is_news {
            self.tell_wall(now);
        }
    }

    /// The time of day as this board knows it, by itself or by its peers' clocks,
    /// microseconds since 1970.
    pub(crate) fn wall_us(&self, now: Millis) -> Option<i64> {
        let began_us = self.walls.own.or_else(|| self.began_by_peers(now))?;
        Some(began_us.saturating_add(boot_us(now)))
    }

    pub(crate) fn tick_walls(&mut self, now: Millis) {
        if self.ticks.is_multiple_of(PRESENCE_TICKS) {
            self.tell_wall(now);
        }
    }

    fn tell_wall(&mut self, now: Millis) {
        let Some(began_us) = self.walls.own else { return };
        let wall_us = began_us.saturating_add(boot_us(now));
        for peer in self.heard.keys().copied().collect::<Vec<_>>() {
            self.say(now, peer, &Frame::Wall { wall_us });
        }
    }

    pub(crate) fn on_wall(&mut self, now: Millis, from: NodeId, wall_us: i64) {
        if self.membership.member(from).is_some() {
            self.walls.others.insert(from, (now, wall_us.saturating_sub(boot_us(now))));
        }
        let members = &self.membership;
        self.walls.others.retain(|id, _| members.member(*id).is_some());
    }

    fn heard_walls(&self, now: Millis) -> impl Iterator<Item = i64> {
        let lately =
            self.walls.others.values().filter(move |(at, _)| now.since(*at) < WALL_HEARD_MS);
        lately.map(|(_, began_us)| *began_us)
    }

    /// When this board's boot time began by its peers' clocks that are set, microseconds
    /// since 1970: the middle one of those heard lately.
    #[must_use]
    pub fn began_by_peers(&self, now: Millis) -> Option<i64> {
        let mut heard: Vec<i64> = self.heard_walls(now).collect();
        heard.sort_unstable();
        heard.get(heard.len() / 2).copied()
    }

    /// Has another board's clock the same time as this board's, within a minute?
    #[must_use]
    pub fn agrees_on_time(&self, now: Millis) -> bool {
        let own = self.walls.own;
        own.is_some_and(|own| {
            self.heard_walls(now).any(|other| own.abs_diff(other) < WALL_APART_US_MAX)
        })
    }
}

fn boot_us(now: Millis) -> i64 {
    i64::try_from(now.0).unwrap_or(i64::MAX).saturating_mul(1_000)
}

#[cfg(test)]
mod tests {
    use crate::{event::Millis, rig::Rig};

    const BEGAN: i64 = 1_700_000_000_000_000;

    #[test]
    fn a_board_hears_what_time_it_is_and_whether_another_agrees() {
        let (mut rig, leader) = Rig::led(&[1, 2, 3]);
        let other = leader % 3 + 1;
        let told = |rig: &mut Rig, id, began| {
            let now = rig.now;
            rig.nodes.get_mut(&id).unwrap().set_began(now, began);
        };
        told(&mut rig, leader, Some(BEGAN));
        rig.run(21_000);
        let now = rig.now;
        let off = rig.nodes[&other].began_by_peers(now).unwrap() - BEGAN;
        assert!((-1_000_000..=1_000_000).contains(&off), "{off}");
        assert!(!rig.nodes[&leader].agrees_on_time(now), "one clock alone");
        told(&mut rig, other, Some(BEGAN + 3_600_000_000));
        rig.run(21_000);
        assert!(!rig.nodes[&leader].agrees_on_time(rig.now), "an hour apart");
        told(&mut rig, other, Some(BEGAN + 5_000_000));
        rig.run(21_000);
        assert!(rig.nodes[&leader].agrees_on_time(rig.now));
        let late = Millis(rig.now.0 + 10 * 60_000);
        assert!(!rig.nodes[&leader].agrees_on_time(late), "nobody was heard for long");
    }
}
