//! What boards have said of their ends: they themselves while they come to it, since
//! somebody asked them to, or those who saw that an agent is no more. And who led before.
//!
//! Only the history goes by it (`history`); what a proof of an end does for duties is for
//! `duties`. A word that is lost is missed: that board is unheard then.

use alloc::{collections::BTreeMap, vec::Vec};

use crate::{
    duty::Incarnation,
    event::{Millis, NodeId, Start},
    lease::Ended,
    node::Node,
    wire::Frame,
};

/// Ticks between two words of a board on its end.
const ENDS_TICKS: u64 = 4;

/// What is known of the end of a board's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fate {
    /// Of which.
    pub boot: u64,
    /// It said so itself, while it came to it.
    pub is_clean: bool,
}

/// See the module's description.
#[derive(Default)]
pub(crate) struct Fates {
    ending: BTreeMap<NodeId, Incarnation>,
    fallen: Ended,
    /// Who led last, and who before that one.
    leaders: (Option<NodeId>, Option<NodeId>),
}

impl Fates {
    /// A board has left the group.
    pub(crate) fn forget(&mut self, board: NodeId) {
        self.ending.remove(&board);
        self.fallen.forget(board);
    }
}

impl Node {
    /// How the last start of a board ended that is known to have ended; what was proven
    /// counts more than what it said.
    #[must_use]
    pub fn fate(&self, board: NodeId) -> Option<Fate> {
        let Fates { ending, fallen, .. } = &self.fates;
        let fate = |is_clean| move |start: &Incarnation| Fate { boot: start.boot, is_clean };
        let ending = ending.get(&board).map(fate(true));
        let fallen = fallen.of(board).map(fate(false));
        match (ending, fallen) {
            (Some(ending), Some(fallen)) if ending.boot > fallen.boot => Some(ending),
            (ending, fallen) => fallen.or(ending),
        }
    }

    /// Who led before the board that leads or led last, as far as this start knows.
    #[must_use]
    pub const fn leader_before(&self) -> Option<NodeId> {
        self.fates.leaders.1
    }

    pub(crate) fn note_leaders(&mut self) {
        let leader = self.leader();
        if leader.is_some() && leader != self.fates.leaders.0 {
            self.fates.leaders = (leader, self.fates.leaders.0);
        }
    }

    /// The latest start that a board was met in; 0 where it was not.
    #[must_use]
    pub fn boot_of(&self, board: NodeId) -> u64 {
        match board == self.config.id {
            true => self.config.boot,
            false => self.memories.of(board).start.boot,
        }
    }

    pub(crate) fn has_fallen(&self, start: Incarnation) -> bool {
        self.fates.fallen.has(start)
    }

    pub(crate) fn is_ending(&self, start: Incarnation) -> bool {
        let is_own = start == self.incarnation() && self.stopping.is_some();
        is_own || self.fates.ending.get(&start.board) == Some(&start)
    }

    /// Proof came that this start has ended.
    pub(crate) fn note_fallen(&mut self, start: Incarnation) {
        if self.membership.member(start.board).is_some() {
            self.fates.fallen.note(start);
        }
    }

    /// A board comes to its end, in this start.
    pub(crate) fn on_ends(&mut self, from: NodeId, Start { boot, nonce }: Start) {
        if self.membership.member(from).is_some() {
            self.fates.ending.insert(from, Incarnation { board: from, boot, nonce });
        }
    }

    pub(crate) fn on_stopping(&mut self, now: Millis) {
        self.stopping = Some(now);
        self.say_ends(now);
    }

    pub(crate) fn tick_fates(&mut self, now: Millis) {
        if self.stopping.is_some() && self.ticks.is_multiple_of(ENDS_TICKS) {
            self.say_ends(now);
        }
    }

    /// Tells those it speaks to anyway: as a leader all, else the leader.
    fn say_ends(&mut self, now: Millis) {
        let Incarnation { boot, nonce, .. } = self.incarnation();
        let start = Start { boot, nonce };
        let leader = self.leader();
        let mut told: Vec<NodeId> = self.heard_lately(now);
        told.retain(|peer| self.leads() || leader == Some(*peer));
        for peer in told {
            self.say(now, peer, &Frame::Ends { start });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{event::Event, rig::Rig};

    #[test]
    fn a_board_knows_who_led_before_the_one_that_leads() {
        let (mut rig, first) = Rig::led(&[1, 2, 3]);
        let follower = first % 3 + 1;
        assert_eq!(rig.nodes[&follower].leader_before(), None);
        rig.event(first, Event::Stopping);
        rig.run(2_000);
        assert_ne!(rig.leader(), Some(first));
        for board in [first, follower] {
            assert_eq!(rig.nodes[&board].leader_before(), Some(first));
        }
    }

    #[test]
    fn a_board_that_is_asked_to_stop_says_so_and_one_that_is_killed_is_said_to_be() {
        let (mut rig, leader) = Rig::led(&[1, 2, 3]);
        let (stopped, killed) = (leader % 3 + 1, (leader + 1) % 3 + 1);
        let fate = |rig: &Rig, board| rig.nodes[&leader].fate(board).map(|fate| fate.is_clean);
        assert_eq!((fate(&rig, stopped), fate(&rig, killed)), (None, None));
        rig.event(stopped, Event::Stopping);
        rig.run(500);
        let start = rig.nodes[&killed].incarnation();
        rig.event(leader, Event::Fell(start));
        assert_eq!((fate(&rig, stopped), fate(&rig, killed)), (Some(true), Some(false)));
        assert!(rig.nodes[&leader].has_fallen(start));
        let older = Incarnation { boot: 0, ..start };
        rig.event(leader, Event::Fell(older));
        assert!(rig.nodes[&leader].has_fallen(start), "an old word changes nothing");
    }
}
