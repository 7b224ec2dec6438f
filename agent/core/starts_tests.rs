//! Copies of one card, and cards that were put back.

use alloc::vec::Vec;

use crate::{
    error::Refusal,
    event::{NodeId, Reply, Request, Start, Trust},
    member::{Candidate, Invitation, MemberRequest},
    node::Node,
    rig::{Rig, write},
    wire::Frame,
};

const IDS: [NodeId; 3] = [1, 2, 3];

/// A group in which everybody knows which start the others are in; its leader, and two
/// others.
fn met() -> (Rig, [NodeId; 3]) {
    let (mut rig, leader) = Rig::led(&IDS);
    rig.run(6_000);
    let second = leader % 3 + 1;
    (rig, [leader, second, 6 - leader - second])
}

/// A copy of a board's card starts; the board itself goes on meanwhile, unheard.
fn copy(rig: &mut Rig, id: NodeId, boot: u64) -> Node {
    let first = rig.nodes.remove(&id).unwrap();
    rig.nonce += 1;
    rig.restart(id, boot, &IDS);
    first
}

fn is_written(rig: &mut Rig, at: NodeId, request: u64) -> bool {
    rig.ask(at, request, write("w"));
    rig.run(2_000);
    matches!(rig.answer_of(request), Some(Reply::Done { .. }))
}

fn copied(rig: &Rig, id: NodeId) -> Vec<NodeId> {
    rig.nodes[&id].status(rig.now).copied
}

#[test]
fn of_two_copies_of_one_card_neither_counts_and_all_say_so() {
    for boot in [1, 2, 5] {
        let (mut rig, [leader, second, third]) = met();
        let first = copy(&mut rig, second, boot);
        rig.run(6_000);
        // The copy may have been taken for a start anew until the other is heard again.
        let late = rig.nodes.insert(second, first).unwrap();
        rig.run(45_000);
        assert!(rig.nodes[&second].status(rig.now).disk_lost, "boot {boot}");
        rig.nodes.insert(second, late);
        rig.run(45_000);
        assert!(rig.nodes[&second].status(rig.now).disk_lost, "boot {boot}");
        assert_eq!(rig.trusts[&second], Trust::Copied);
        for id in IDS {
            assert_eq!(copied(&rig, id), [second], "boot {boot}, board {id}");
        }
        rig.ask(second, 9, write("w"));
        let refused = Reply::Refused(Refusal::TakesNoPart);
        assert_eq!(rig.answer_of(9), Some(&refused), "at once");
        assert!(is_written(&mut rig, leader, 1), "two of three are whole");
        rig.cut.push(third);
        assert!(!is_written(&mut rig, leader, 2), "and one is no majority");
    }
}

#[test]
fn what_two_copies_acknowledge_before_they_hear_of_it_does_not_count() {
    let (mut rig, [leader, second, third]) = met();
    rig.cut.push(third);
    for deaf in [true, false] {
        if deaf {
            let copies = Frame::Copies { copied: Vec::from([second]) };
            rig.hear(leader, third, &copies);
        }
        assert!(!is_written(&mut rig, leader, 7 + u64::from(deaf)));
    }
}

#[test]
fn a_card_that_was_put_back_is_no_board_any_more_though_it_holds_all_it_promised() {
    let (mut rig, [_, second, _]) = met();
    let mut rewound = |boot| {
        copy(&mut rig, second, boot);
        rig.run(6_000);
        rig.nodes[&second].status(rig.now).disk_lost
    };
    assert!(!rewound(4), "a start like any other");
    assert!(rewound(3));
}

#[test]
fn a_leader_of_which_there_is_a_copy_hands_its_place_to_others() {
    let (mut rig, [leader, ..]) = met();
    let first = copy(&mut rig, leader, 1);
    rig.run(6_000);
    rig.nodes.insert(leader, first);
    rig.run(20_000);
    assert!(!rig.nodes[&leader].leads());
    let next = rig.leader().expect("two are left");
    assert_ne!(next, leader);
    assert!(is_written(&mut rig, next, 1));
}

#[test]
fn what_is_under_way_since_before_a_restart_proves_nothing() {
    let (mut rig, [leader, second, _]) = met();
    rig.restart(second, 2, &IDS);
    rig.run(6_000);
    let start = Start { boot: 1, nonce: 0 };
    for number in 0..10_000 {
        rig.hear(leader, second, &Frame::StartTell { number, start });
    }
    assert!(copied(&rig, leader).is_empty());
}

#[test]
fn a_board_of_which_there_are_copies_may_be_replaced_though_it_is_heard() {
    let (mut rig, [leader, second, _]) = met();
    let id = [9; 16];
    let invitation = Invitation { id, lifetime_ms: 600_000, uses: 0 };
    rig.ask(leader, 4, Request::Member(MemberRequest::Invite(invitation)));
    rig.hear(leader, 6 - leader - second, &Frame::Copies { copied: Vec::from([second]) });
    let name = rig.nodes[&leader].membership().member(second).unwrap().name.clone();
    let candidate = Candidate { name: name.clone(), key: [77; 32], addresses: Vec::new() };
    let join = MemberRequest::Join { candidate, invitation: id, replaces: name };
    rig.ask(leader, 5, Request::Member(join));
    rig.run(3_000);
    assert!(matches!(rig.answer_of(5), Some(Reply::Done { .. })), "{:?}", rig.answer_of(5));
    assert!(rig.nodes[&leader].membership().member(second).is_none());
    assert!(copied(&rig, leader).is_empty());
}

#[test]
fn an_old_card_is_found_out_by_a_board_that_never_heard_the_start_it_lacks() {
    let (mut rig, [leader, second, third]) = met();
    rig.restart(second, 2, &IDS);
    rig.run(1_000);
    rig.cut.push(leader);
    rig.nonce += 1;
    rig.restart(second, 2, &IDS);
    rig.run(12_000);
    assert!(rig.nodes[&second].status(rig.now).disk_lost, "the leader had told the third");
    assert_eq!(copied(&rig, third), [second]);
    assert_eq!(rig.leader(), None);
}

#[test]
fn two_copies_that_two_boards_have_met_are_found_out_when_those_speak() {
    let (mut rig, [leader, second, third]) = met();
    let met = Vec::from([(second, Start { boot: 1, nonce: 99 })]);
    rig.hear(leader, third, &Frame::Starts { met });
    assert_eq!(copied(&rig, leader), [second]);
    let met = Vec::from([(third, Start { boot: 2, nonce: 0 })]);
    rig.hear(third, leader, &Frame::Starts { met });
    assert!(rig.nodes[&third].status(rig.now).disk_lost, "one has started from a copy of its card");
}

#[test]
fn an_answer_that_is_overtaken_by_the_word_on_a_later_start_proves_nothing() {
    let (mut rig, [leader, second, third]) = met();
    let now = rig.now;
    let node = rig.nodes.get_mut(&leader).unwrap();
    node.ask_start(now, second);
    let number = node.starts.asked[&second].number;
    let met = Vec::from([(second, Start { boot: 2, nonce: 5 })]);
    rig.hear(leader, third, &Frame::Starts { met });
    let start = Start { boot: 1, nonce: 0 };
    rig.hear(leader, second, &Frame::StartTell { number, start });
    assert!(copied(&rig, leader).is_empty());
}
