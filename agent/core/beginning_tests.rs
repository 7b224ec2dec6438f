//! Boards whose card was put back, and their readings.

use alloc::{string::String, vec::Vec};

use crate::{
    event::{NodeId, Reply, Request, RequestId},
    member::{Candidate, Invitation, MemberRequest},
    promise::Memories,
    readings::{Arrivals, Level, Reading, Receipt},
    rig::Rig,
    sql::{self, Value},
};

const IDS: [NodeId; 3] = [1, 2, 3];

fn arrivals(values: core::ops::Range<i64>) -> Request {
    let reading = |value| Reading {
        sensor: String::from("kitchen"),
        time: value,
        value: Value::Integer(value),
        id: None,
        token: None,
        is_far: false,
    };
    let readings = values.map(reading).collect();
    Request::Readings(Arrivals { readings, until: Level::Committed, window_ms: 0 })
}

fn is_committed(rig: &Rig, id: RequestId) -> bool {
    let Some(Reply::Done { answer, .. }) = rig.answer_of(id) else { return false };
    sql::decode::<Receipt>(answer).unwrap().level == Level::Committed
}

/// How many readings of a board the leader has.
fn stored(rig: &Rig, of: NodeId) -> usize {
    let ledger = &rig.stored[&rig.leader().unwrap()];
    ledger.numbers.iter().filter(|(board, _)| *board == of).count()
}

/// A group of three that vote, and a fourth board that does not.
fn with_a_fourth() -> Rig {
    let (mut rig, leader) = Rig::led(&IDS);
    let invitation = Invitation { id: [9; 16], lifetime_ms: 600_000, uses: 0 };
    rig.ask(leader, 90, Request::Member(MemberRequest::Invite(invitation)));
    rig.run(300);
    let name = String::from("board-4");
    let candidate = Candidate { name, key: [4; 32], addresses: Vec::new() };
    let join = MemberRequest::Join { candidate, invitation: [9; 16], replaces: String::new() };
    rig.ask(leader, 91, Request::Member(join));
    rig.run(300);
    rig.newcomer(4);
    rig.run(2_000);
    assert!(rig.nodes[&leader].membership().member(4).is_some_and(|member| !member.voter));
    rig
}

#[test]
fn what_comes_to_a_card_that_was_put_back_is_never_told_as_stored_when_it_is_not() {
    let mut rig = with_a_fourth();
    rig.restart(4, 2, &IDS);
    rig.ask(4, 1, arrivals(0..5));
    rig.run(2_000);
    assert!(is_committed(&rig, 1), "it asks nobody for what it promised: it has no vote");
    rig.nonce += 1;
    rig.restart(4, 2, &IDS);
    rig.ask(4, 2, arrivals(5..9));
    rig.run(4_000);
    assert!(!is_committed(&rig, 2), "its numbers are those of the start that it counts again");
    assert_eq!(stored(&rig, 4), 5);
    assert!(rig.nodes[&4].status(rig.now).disk_lost, "and all know it for a copy");
}

#[test]
fn a_leader_that_never_met_the_start_it_lacks_does_not_take_it_in_either() {
    let mut rig = with_a_fourth();
    rig.restart(4, 2, &IDS);
    rig.ask(4, 1, arrivals(0..5));
    rig.run(2_000);
    assert!(is_committed(&rig, 1));
    let first = rig.leader().unwrap();
    rig.cut = Vec::from([first]);
    for id in IDS {
        rig.nodes.get_mut(&id).unwrap().memories = Memories::default();
    }
    rig.nonce += 1;
    rig.restart(4, 2, &IDS);
    rig.run(2_000);
    assert!(rig.leader().is_some_and(|leader| leader != first));
    rig.ask(4, 2, arrivals(5..9));
    rig.run(4_000);
    assert!(!is_committed(&rig, 2));
    assert_eq!(stored(&rig, 4), 5);
    assert!(rig.nodes[&4].status(rig.now).disk_lost, "the group's word on it was enough");
}

#[test]
fn a_start_after_it_sends_what_it_has() {
    let mut rig = with_a_fourth();
    for boot in 2..5 {
        rig.nonce += 1;
        rig.restart(4, boot, &IDS);
        rig.ask(4, boot, arrivals(0..5));
        rig.run(2_000);
        assert!(is_committed(&rig, boot), "start {boot}");
    }
    assert_eq!(stored(&rig, 4), 15);
}

#[test]
fn where_no_leader_is_heard_at_first_it_is_asked_later() {
    let (mut rig, leader) = Rig::led(&IDS);
    let follower = leader % 3 + 1;
    rig.cut = Vec::from([follower]);
    rig.ask(follower, 1, arrivals(0..3));
    rig.run(6_000);
    assert!(!is_committed(&rig, 1));
    rig.cut.clear();
    rig.run(6_000);
    assert_eq!(stored(&rig, follower), 3);
}
