//! How a node takes up another timing profile of its group, while the others do the same,
//! each in its own time: what waits is lengthened first and shortened last.
//!
//! A follower that is to wait longer for its leader does so at once, a leader that is to be
//! heard less often only after a while, and the other way round. Until then a duty is granted
//! for the longer lease of the two and renewed at the shorter interval. A lease that has been
//! granted is made longer by the entry that sets the profile (`duty::lengthen`).

use crate::{event::Millis, node::Node, timing::Timing};

/// When a node ticks next, and the profile that it has not taken up yet.
pub(crate) struct Tempo {
    pub(crate) next_tick: Millis,
    wanted: Option<(Timing, Millis)>,
}

impl Tempo {
    pub(crate) const fn new(next_tick: Millis) -> Self {
        Self { next_tick, wanted: None }
    }
}

impl Node {
    /// The group has another timing profile: it holds from now on or soon, in the ticks this
    /// node was started with.
    pub fn set_timing(&mut self, now: Millis, timing: Timing) {
        let wanted = timing.in_ticks_of(&self.config.timing);
        let known = self.tempo.wanted.take().filter(|(known, _)| *known == wanted);
        if wanted != self.config.timing {
            self.tempo.wanted = known.or(Some((wanted, now)));
            self.take_up_timing(now);
        }
    }

    /// Takes up the profile that waits, where its time has come.
    pub(crate) fn take_up_timing(&mut self, now: Millis) {
        let Some((wanted, since)) = self.tempo.wanted else { return };
        let timing = self.config.timing;
        let slows = wanted.election_ms_min() > timing.election_ms_min();
        let patience_ms = wanted.election_ms_max().max(timing.election_ms_max());
        if slows == self.leads() && now.since(since) < patience_ms {
            return;
        }
        (self.config.timing, self.tempo.wanted) = (wanted, None);
        self.tempo.next_tick = self.tempo.next_tick.min(now.plus(wanted.tick_ms));
    }

    fn wanted_timing(&self) -> &Timing {
        self.tempo.wanted.as_ref().map_or(&self.config.timing, |(wanted, _)| wanted)
    }

    /// The longest tick that a board of the group may have now, milliseconds.
    pub(crate) fn longest_tick_ms(&self) -> u64 {
        self.config.timing.tick_ms.max(self.wanted_timing().tick_ms)
    }

    /// For how long a duty is granted, milliseconds.
    pub(crate) fn lease_ms(&self) -> u64 {
        self.config.timing.lease_ms.max(self.wanted_timing().lease_ms)
    }

    /// How often a lease is renewed, milliseconds.
    pub(crate) fn renew_ms(&self) -> u64 {
        self.config.timing.renew_ms().min(self.wanted_timing().renew_ms())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rig::Rig;

    fn set(rig: &mut Rig, id: u64, timing: Timing) {
        let now = rig.now;
        rig.nodes.get_mut(&id).unwrap().set_timing(now, timing);
    }

    #[test]
    fn what_waits_is_lengthened_first_and_shortened_last() {
        let (mut rig, leader) = Rig::led(&[1, 2, 3]);
        let follower = leader % 3 + 1;
        let election_ms = |rig: &Rig, id| rig.nodes[&id].timing().election_ms_min();
        for (timing, first, last) in
            [(Timing::WIFI, follower, leader), (Timing::WIRED, leader, follower)]
        {
            let before = election_ms(&rig, leader);
            for id in [1, 2, 3] {
                set(&mut rig, id, timing);
            }
            let after = election_ms(&rig, first);
            assert_ne!(after, before);
            assert_eq!(election_ms(&rig, last), before);
            assert_eq!(rig.nodes[&last].lease_ms(), Timing::WIFI.lease_ms, "the longer");
            assert_eq!(rig.nodes[&last].renew_ms(), Timing::WIRED.renew_ms(), "the more often");
            rig.run(Timing::WIFI.election_ms_max() + 1_000);
            assert_eq!(election_ms(&rig, last), after);
            assert_eq!(rig.leader(), Some(leader), "it costs no election");
        }
    }

    #[test]
    fn a_profile_that_is_taken_back_before_it_holds_changes_nothing() {
        let (mut rig, leader) = Rig::led(&[1, 2, 3]);
        set(&mut rig, leader, Timing::WIFI);
        set(&mut rig, leader, Timing::WIRED);
        rig.run(Timing::WIFI.election_ms_max() + 1_000);
        assert_eq!(rig.nodes[&leader].timing(), &Timing::WIRED);
    }
}
