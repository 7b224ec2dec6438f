//! Boards that their owner is about to do something to: a drained board is ready for no
//! duty, and leads only where nobody else can. It votes and follows as ever, so the group
//! stands as many losses as before.
//!
//! Which boards are drained is said by the group's rows, so it holds across restarts and
//! for boards that are away. Every board knows it: a leader passes drained boards over, and
//! has duties go from them; a drained board does not stand for election, and hands
//! leadership on. A duty for which nobody else is ready stays where it is.
//!
//! Invariant: nothing here grants or ends a lease; the rule of leases (`lease`) is the same.

use alloc::collections::BTreeSet;

use crate::{
    event::{Millis, NodeId},
    limits::DRAIN_TICKS,
    node::Node,
};

/// See the module's description.
#[derive(Default)]
pub(crate) struct Drain {
    boards: BTreeSet<NodeId>,
    /// The tick at which leadership was offered last: while it is, nothing is written, and
    /// who is offered it may not take it.
    offered: Option<u64>,
}

impl Node {
    /// These boards are drained, as the group's rows say.
    pub fn set_drained(&mut self, boards: BTreeSet<NodeId>) {
        if self.duties.drain.boards != boards {
            self.duties.drain = Drain { boards, offered: None };
            self.duties.told = (None, 0);
            self.duties.changes += 1;
        }
    }

    /// Is this board drained?
    #[must_use]
    pub fn is_drained(&self, board: NodeId) -> bool {
        self.duties.drain.boards.contains(&board)
    }

    /// Is this board to leave leading to others, if there are any?
    pub(crate) fn leaves_leading(&self) -> bool {
        let is_other = |id: &NodeId| *id != self.config.id && !self.is_drained(*id);
        self.is_drained(self.config.id) && self.membership.data_voters().iter().any(is_other)
    }

    /// A drained leader offers leadership to whoever has caught up, now and then.
    pub(crate) fn tick_drain(&mut self, now: Millis) {
        let is_due = self.duties.drain.offered.is_none_or(|tick| self.ticks - tick >= DRAIN_TICKS);
        if !is_due || !self.leads() || !self.leaves_leading() || !self.may_lead() {
            return;
        }
        let able = self.able_successors(now);
        if able.iter().any(|id| !self.is_drained(*id)) {
            self.duties.drain.offered = Some(self.ticks);
            self.hand_over(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::{collections::BTreeSet, string::String, vec::Vec};

    use crate::{
        duty::Duty,
        error::Refusal,
        event::{Event, NodeId, Reply, Request},
        member::MemberRequest,
        rig::Rig,
    };

    const IDS: [NodeId; 3] = [1, 2, 3];

    fn drain(rig: &mut Rig, boards: &[NodeId]) {
        for node in rig.nodes.values_mut() {
            node.set_drained(boards.iter().copied().collect::<BTreeSet<_>>());
        }
    }

    /// A group whose boards are all ready for a duty that the first of these holds: it, the
    /// leader, and the third.
    fn group() -> (Rig, [NodeId; 3]) {
        let (mut rig, leader) = Rig::led(&IDS);
        let holder = leader % 3 + 1;
        let holds = Some(rig.nodes[&holder].incarnation());
        let duty = Duty {
            id: 1,
            name: String::from("pump"),
            token: 5,
            holder: holds,
            lease_ms: 1_200,
            ..Duty::default()
        };
        for id in IDS {
            rig.event(id, Event::Duties(Vec::from([duty.clone()])));
            rig.event(id, Event::Ready(Vec::from([1])));
        }
        rig.run(1_000);
        (rig, [holder, leader, 6 - leader - holder])
    }

    fn is_to_yield(rig: &Rig, leader: NodeId) -> bool {
        let node = &rig.nodes[&leader];
        let duty = &node.duties()[0];
        node.is_to_yield(rig.now, duty, duty.holder.unwrap())
    }

    #[test]
    fn a_duty_goes_from_a_drained_board_to_one_that_is_not_and_else_stays() {
        let (mut rig, [holder, leader, third]) = group();
        assert!(!is_to_yield(&rig, leader));
        drain(&mut rig, &[holder]);
        assert!(is_to_yield(&rig, leader));
        drain(&mut rig, &IDS);
        assert!(!is_to_yield(&rig, leader), "nobody else is ready");
        let free = Duty { holder: None, ..rig.nodes[&leader].duties()[0].clone() };
        assert_eq!(rig.nodes[&leader].choose(rig.now, &free), None);
        drain(&mut rig, &[holder, leader]);
        let chosen = rig.nodes[&leader].choose(rig.now, &free).map(|start| start.board);
        assert_eq!(chosen, Some(third));
        assert!(!rig.nodes[&holder].is_ready_for(1) && rig.nodes[&third].is_ready_for(1));
    }

    #[test]
    fn the_history_says_why_a_duty_went_from_a_drained_board() {
        let (mut rig, [holder, leader, third]) = group();
        drain(&mut rig, &[holder]);
        let (now, next) = (rig.now, rig.nodes[&third].incarnation());
        let node = rig.nodes.get_mut(&leader).unwrap();
        let duty = node.duties()[0].clone();
        node.duties.lessor.stopped(duty.claim());
        let records = node.records_of(now, &duty, (20, Some(next)));
        assert_eq!(records[0].reason, "that board is drained");
    }

    #[test]
    fn a_duty_that_moved_often_of_late_goes_from_a_drained_board_all_the_same() {
        let (mut rig, [holder, leader, third]) = group();
        for board in [third, holder, third, holder] {
            let holder = Some(rig.nodes[&board].incarnation());
            let row = Duty { id: 1, holder, ..Duty::default() };
            rig.nodes.get_mut(&leader).unwrap().note_moves(rig.now, &[row]);
        }
        drain(&mut rig, &[holder]);
        assert!(is_to_yield(&rig, leader));
    }

    #[test]
    fn a_drained_leader_hands_leadership_on_and_leads_where_nobody_else_can() {
        let (mut rig, [other, leader, third]) = group();
        drain(&mut rig, &[leader, third]);
        rig.run(2_000);
        assert_eq!(rig.leader(), Some(other));
        drain(&mut rig, &IDS);
        rig.run(5_000);
        assert_eq!(rig.leader(), Some(other), "all are drained");
        let term = rig.nodes[&other].term();
        rig.cut = Vec::from([leader]);
        rig.run(2_000);
        drain(&mut rig, &[other, third]);
        rig.run(5_000);
        assert_eq!(rig.leader(), Some(other), "who is not drained cannot be heard");
        assert_eq!(rig.nodes[&other].term(), term, "nor is it offered to one that is");
        rig.cut = Vec::from([other]);
        drain(&mut rig, &[leader, third]);
        rig.run(20_000);
        assert!(rig.leader().is_some(), "a majority of drained boards elects one of them");
    }

    #[test]
    fn a_drained_board_does_not_stand_for_election_while_another_can() {
        let (mut rig, [one, leader, two]) = group();
        for (drained, next) in [(one, two), (two, one)] {
            let term = rig.nodes[&leader].term();
            drain(&mut rig, &[drained]);
            rig.cut = Vec::from([leader]);
            for _ in 0..300 {
                rig.run(10);
                assert_ne!(rig.leader(), Some(drained), "not even for a moment");
            }
            assert_eq!(rig.leader(), Some(next));
            rig.cut = Vec::new();
            drain(&mut rig, &[one, two]);
            rig.run(5_000);
            assert_eq!(rig.leader(), Some(leader), "after term {term}");
        }
    }

    #[test]
    fn leadership_is_given_to_no_drained_board_by_a_wish() {
        let (mut rig, [other, leader, third]) = group();
        drain(&mut rig, &[other]);
        rig.ask(leader, 7, Request::Member(MemberRequest::Transfer(Some(other))));
        rig.run(500);
        let Some(Reply::Refused(Refusal::Invalid(why))) = rig.answer_of(7) else {
            panic!("{:?}", rig.answer_of(7));
        };
        assert!(why.contains("is drained"), "{why}");
        rig.ask(leader, 8, Request::Member(MemberRequest::Transfer(None)));
        rig.run(1_000);
        assert_eq!(rig.leader(), Some(third));
    }
}
