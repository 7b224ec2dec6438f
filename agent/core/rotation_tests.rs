//! Keys are installed, used and forgotten, in memory.

use alloc::vec::Vec;

use crate::{
    error::Refusal,
    event::{Reply, Request, RequestId},
    keys::SealedKey,
    limits,
    member::{Invitation, MemberRequest, Membership, MembershipChange},
    rig::{Rig, membership, write},
    sql,
};

use super::*;

fn key(number: u32, ids: &[NodeId]) -> SealedKey {
    let copies = ids.iter().map(|id| (*id, alloc::vec![7; limits::KEY_COPY_BYTES])).collect();
    SealedKey { number, copies }
}

fn install(number: u32, ids: &[NodeId]) -> Request {
    Request::Member(MemberRequest::InstallKey(key(number, ids)))
}

fn is_done(rig: &Rig, request: RequestId) -> bool {
    matches!(rig.answer_of(request), Some(Reply::Done { .. }))
}

/// Oldest, used, newest.
fn phase(rig: &Rig, id: NodeId) -> (u32, u32, u32) {
    let keys = &rig.nodes[&id].membership().keys;
    (keys.oldest, keys.used, keys.newest())
}

fn leader(rig: &Rig) -> NodeId {
    rig.leader().expect("one leads")
}

/// Times enough for a key to be used without those that lack it.
const LATE_MS: u64 = 10_000;

#[test]
fn bytes_of_this_version_stay_what_they_are() {
    let short = SealedKey { number: 300, copies: Vec::from([(2, Vec::from([9, 8]))]) };
    assert_eq!(
        sql::encode(&MembershipChange::KeyInstall(short.clone())),
        [9, 0xac, 2, 1, 2, 2, 9, 8]
    );
    assert_eq!(sql::encode(&MembershipChange::KeyUse(300)), [10, 0xac, 2]);
    assert_eq!(sql::encode(&MembershipChange::KeyForget(1)), [11, 1]);
    let keys = KeyRing { oldest: 1, used: 2, installed: Vec::from([short]), is_due: true };
    let of_membership = [0, 0, 0, 0, 0, 0, 1, 2, 1, 0xac, 2, 1, 2, 2, 9, 8, 1, 0];
    assert_eq!(sql::encode(&Membership { keys, ..Membership::default() }), of_membership);
    let wish = MemberRequest::InstallKey(SealedKey { number: 1, copies: Vec::new() });
    assert_eq!(sql::encode(&wish), [6, 1, 0]);
}

#[test]
fn steps_come_in_order_within_a_bound_and_others_change_nothing() {
    let mut group = membership(&[1, 2]);
    let mut is_taken = |change: MembershipChange| {
        let before = group.clone();
        let fits = group.change(&change);
        assert!(fits || group == before);
        fits
    };
    let installs = |number| MembershipChange::KeyInstall(key(number, &[1, 2]));
    assert!(!is_taken(installs(2)) && !is_taken(MembershipChange::KeyUse(1)));
    assert!(is_taken(installs(1)) && !is_taken(installs(1)));
    assert!(!is_taken(MembershipChange::KeyForget(1)), "it is not used yet");
    assert!(is_taken(installs(2)) && is_taken(installs(3)));
    assert!(!is_taken(installs(4)), "no more than so many live");
    assert!(is_taken(MembershipChange::KeyUse(2)) && !is_taken(MembershipChange::KeyUse(1)));
    assert!(is_taken(MembershipChange::KeyForget(2)) && !is_taken(MembershipChange::KeyForget(1)));
    let mut crooked = key(4, &[2, 1]);
    assert!(!is_taken(MembershipChange::KeyInstall(crooked.clone())), "out of order");
    crooked.copies = Vec::from([(1, Vec::from([1]))]);
    assert!(!is_taken(MembershipChange::KeyInstall(crooked)), "too short");
    assert!(is_taken(installs(4)));
    let numbers: Vec<u32> = group.keys.installed.iter().map(|key| key.number).collect();
    assert_eq!(numbers, [2, 3, 4]);
}

#[test]
fn a_key_that_all_have_is_used_and_those_before_forgotten_at_once() {
    let (mut rig, leading) = Rig::led(&[1, 2, 3]);
    let invitation = Invitation { id: [7; 16], lifetime_ms: 3_600_000, uses: 0 };
    rig.ask(leading, 1, Request::Member(MemberRequest::Invite(invitation)));
    rig.run(300);
    let follower = if leading == 1 { 2 } else { 1 };
    rig.ask(follower, 2, install(1, &[1, 2, 3]));
    rig.run(1_500);
    assert!(is_done(&rig, 1) && is_done(&rig, 2));
    for id in [1, 2, 3] {
        assert_eq!(phase(&rig, id), (1, 1, 1), "board {id}");
        assert!(rig.nodes[&id].membership().invitations.is_empty(), "open tokens are at an end");
        assert!(rig.nodes[&id].keys_wait_for(rig.now).is_empty());
    }
}

#[test]
fn a_key_made_for_others_than_the_members_is_to_be_made_again() {
    let (mut rig, leading) = Rig::led(&[1, 2, 3]);
    let wrong = [install(2, &[1, 2, 3]), install(1, &[1, 2]), install(1, &[1, 2, 3, 4])];
    for (request, wish) in (1..).zip(wrong) {
        rig.ask(leading, request, wish);
        rig.run(200);
        assert_eq!(rig.answer_of(request), Some(&Reply::Refused(Refusal::Busy)));
    }
    assert_eq!(phase(&rig, leading), (0, 0, 0));
}

#[test]
fn a_member_that_is_away_holds_the_forgetting_up_and_nothing_else() {
    let (mut rig, leading) = Rig::led(&[1, 2, 3]);
    let away = if leading == 3 { 2 } else { 3 };
    rig.cut = Vec::from([away]);
    rig.ask(leading, 1, install(1, &[1, 2, 3]));
    rig.run(500);
    assert_eq!(phase(&rig, leading), (0, 0, 1), "it is waited for a while");
    rig.run(LATE_MS);
    assert_eq!(phase(&rig, leading), (0, 1, 1));
    assert_eq!(rig.nodes[&leading].keys_wait_for(rig.now), [away]);
    rig.ask(leading, 2, install(2, &[1, 2, 3]));
    rig.ask(leading, 3, install(3, &[1, 2, 3]));
    rig.run(LATE_MS);
    assert_eq!(phase(&rig, leading), (0, 3, 3));
    rig.ask(leading, 4, install(4, &[1, 2, 3]));
    rig.run(300);
    let Some(Reply::Refused(Refusal::Invalid(why))) = rig.answer_of(4) else { panic!("refused") };
    assert!(why.contains(&alloc::format!("see to board-{away}")), "{why}");
    rig.ask(leading, 5, write("meanwhile"));
    rig.run(300);
    assert!(is_done(&rig, 5));
    rig.cut.clear();
    rig.run(LATE_MS);
    for id in [1, 2, 3] {
        assert_eq!(phase(&rig, id), (3, 3, 3), "board {id}");
    }
}

#[test]
fn who_is_removed_holds_nothing_up_and_makes_a_key_due_until_there_is_one() {
    let (mut rig, leading) = Rig::led(&[1, 2, 3]);
    let away = if leading == 3 { 2 } else { 3 };
    let left: Vec<NodeId> = [1, 2, 3].into_iter().filter(|id| *id != away).collect();
    rig.cut = Vec::from([away]);
    rig.ask(leading, 1, install(1, &[1, 2, 3]));
    rig.run(LATE_MS);
    assert!(!rig.nodes[&leading].owes_key());
    rig.ask(leading, 2, Request::Member(MemberRequest::Remove(away)));
    rig.run(1_000);
    assert_eq!(phase(&rig, leading), (1, 1, 1));
    let owing: Vec<NodeId> = left.iter().copied().filter(|id| rig.nodes[id].owes_key()).collect();
    assert_eq!(owing, [leading], "the board that leads makes it");
    rig.ask(leading, 3, install(2, &left));
    rig.run(1_000);
    assert_eq!(phase(&rig, leading), (2, 2, 2));
    assert!(!rig.nodes[&leading].owes_key());
}

#[test]
fn a_new_leader_goes_on_where_the_last_one_was() {
    let (mut rig, first) = Rig::led(&[1, 2, 3, 4, 5]);
    let away = if first == 5 { 4 } else { 5 };
    rig.cut = Vec::from([away]);
    rig.ask(first, 1, install(1, &[1, 2, 3, 4, 5]));
    rig.run(300);
    assert_eq!(phase(&rig, first), (0, 0, 1));
    rig.cut = Vec::from([away, first]);
    rig.run(15_000);
    let second = leader(&rig);
    assert_eq!(phase(&rig, second), (0, 1, 1), "two may lack it for all it knows");
    rig.ask(second, 2, Request::Member(MemberRequest::Remove(away)));
    rig.run(300);
    assert!(is_done(&rig, 2) && rig.nodes[&second].owes_key());
    assert_eq!(phase(&rig, second), (0, 1, 1), "one that is away is a member still");
    rig.cut = Vec::from([away, second]);
    rig.run(15_000);
    let third = leader(&rig);
    assert!(rig.nodes[&third].owes_key(), "that a key is due is replicated");
    assert_eq!(phase(&rig, third), (0, 1, 1));
    rig.cut = Vec::from([away]);
    rig.run(LATE_MS);
    assert_eq!(phase(&rig, second), (1, 1, 1));
    let left: Vec<NodeId> = [1, 2, 3, 4, 5].into_iter().filter(|id| *id != away).collect();
    rig.ask(second, 3, install(2, &left));
    rig.run(LATE_MS);
    for id in left {
        assert_eq!(phase(&rig, id), (2, 2, 2), "board {id}");
        assert!(!rig.nodes[&id].owes_key());
    }
}

#[test]
fn what_begins_anew_has_one_key_whatever_was_under_way() {
    for steps in 0..5 {
        let mut group = membership(&[1, 2]);
        let under_way = [
            MembershipChange::KeyInstall(key(1, &[1, 2])),
            MembershipChange::KeyInstall(key(2, &[1, 2])),
            MembershipChange::KeyInstall(key(3, &[1, 2])),
            MembershipChange::KeyUse(2),
            MembershipChange::Remove(2),
        ];
        let newest = u32::min(steps, 3);
        for change in &under_way[..steps as usize] {
            assert!(group.change(change));
        }
        for change in group.keys.begun_anew() {
            let _ = group.change(&change);
        }
        let keys = &group.keys;
        let number = newest + 1;
        assert_eq!((keys.oldest, keys.used, keys.newest()), (number, number, number));
        assert_eq!((keys.installed.len(), keys.is_due), (1, false));
        assert_eq!(keys.installed[0].copies, [], "nobody else gets it");
    }
}
