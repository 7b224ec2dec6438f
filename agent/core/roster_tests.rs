//! Boards come, go, vote and follow, in memory.

use alloc::{string::String, vec::Vec};

use crate::{
    error::{Refusal, Rejection},
    event::{Entry, Event, NodeId, Reply, Request, RequestId},
    log::conf_change,
    member::{Candidate, Invitation, Member, MemberRequest, Membership, MembershipChange},
    rig::{Rig, membership, write},
    versions::{VERSION, VERSION_FIRST},
    wire::{Frame, RaftFrame},
};

use super::*;

const TOKEN: [u8; 16] = [7; 16];
const HOUR_MS: u64 = 3_600_000;

fn invitation() -> Invitation {
    Invitation { id: TOKEN, lifetime_ms: HOUR_MS, uses: 0 }
}

fn candidate(id: NodeId) -> Candidate {
    Candidate {
        name: alloc::format!("board-{id}"),
        key: [u8::try_from(id).unwrap(); 32],
        addresses: Vec::new(),
    }
}

fn join(id: NodeId, replaces: &str) -> Request {
    Request::Member(MemberRequest::Join {
        candidate: candidate(id),
        invitation: TOKEN,
        replaces: String::from(replaces),
    })
}

/// As [`join`], with what the board knows.
fn newcomer(id: NodeId, version: u32) -> Request {
    let (candidate, replaces) = (candidate(id), String::new());
    let invitation = TOKEN;
    let wish = MemberRequest::Newcomer { version, candidate, invitation, replaces, witness: false };
    Request::Member(wish)
}

fn remove(id: NodeId) -> Request {
    Request::Member(MemberRequest::Remove(id))
}

fn vote(id: NodeId, voter: bool) -> Request {
    Request::Member(MemberRequest::Vote { id, voter })
}

fn transfer(to: Option<NodeId>) -> Request {
    Request::Member(MemberRequest::Transfer(to))
}

/// A group of these that has made a token; boards are compared as if they were the
/// same.
fn group(ids: &[NodeId]) -> Rig {
    let (mut rig, leader) = Rig::led(ids);
    rig.compares = true;
    rig.ask(leader, 900, Request::Member(MemberRequest::Invite(invitation())));
    rig.run(500);
    assert!(is_done(&rig, 900));
    rig
}

fn is_done(rig: &Rig, request: RequestId) -> bool {
    matches!(rig.answer_of(request), Some(Reply::Done { .. }))
}

fn why_not(rig: &Rig, request: RequestId) -> &str {
    match rig.answer_of(request) {
        Some(Reply::Refused(Refusal::Invalid(why))) => why,
        other => panic!("request {request} was not refused: {other:?}"),
    }
}

/// This board joins and starts, as the next of the group.
fn come(rig: &mut Rig, id: NodeId) {
    let leader = rig.leader().unwrap();
    rig.ask(leader, 1_000 + id, join(id, ""));
    rig.run(300);
    assert!(is_done(rig, 1_000 + id), "{:?}", rig.answer_of(1_000 + id));
    rig.newcomer(id);
}

fn of_leader(rig: &Rig) -> &Membership {
    rig.nodes[&rig.leader().unwrap()].membership()
}

fn voters(rig: &Rig) -> Vec<NodeId> {
    of_leader(rig).voters()
}

/// Everybody knows the same, raft-rs too.
fn agreed(rig: &Rig) {
    let expected = of_leader(rig);
    for (id, node) in rig.nodes.iter().filter(|(id, _)| expected.member(**id).is_some()) {
        assert_eq!(node.membership(), expected, "board {id}");
        let conf = node.raw.raft.prs().conf().to_conf_state();
        let mut voting = conf.voters.clone();
        voting.sort_unstable();
        assert_eq!(voting, expected.voters(), "board {id}");
        assert!(conf.voters_outgoing.is_empty() && conf.learners_next.is_empty());
    }
}

#[test]
fn so_many_of_so_many_boards_vote() {
    let wanted = |boards, most| voters_wanted(boards, false, most).0;
    let of: Vec<_> = (1..=9).map(|boards| wanted(boards, 5)).collect();
    assert_eq!(of, [1, 2, 3, 3, 5, 5, 5, 5, 5]);
    let of: Vec<_> = (1..=7).map(|most| wanted(9, most)).collect();
    assert_eq!(of, [1, 2, 3, 3, 5, 5, 7]);
    let beside: Vec<_> = (1..=7).map(|boards| voters_wanted(boards, true, 7)).collect();
    let votes = [(1, false), (2, true), (3, false), (4, true), (5, false), (6, true), (7, false)];
    assert_eq!(beside, votes);
    assert_eq!((voters_wanted(2, true, 2), voters_wanted(4, true, 4)), ((2, false), (3, false)));
}

#[test]
fn newcomers_vote_once_they_have_caught_up_and_of_an_even_number_one_follows() {
    let mut rig = group(&[1]);
    let expected: [&[NodeId]; 5] =
        [&[1, 2], &[1, 2, 3], &[1, 2, 3], &[1, 2, 3, 4, 5], &[1, 2, 3, 4, 5]];
    for (id, expected) in (2..).zip(expected) {
        come(&mut rig, id);
        assert!(!voters(&rig).contains(&id), "it follows at first");
        rig.run(15_000);
        assert_eq!(voters(&rig), expected);
        agreed(&rig);
    }
}

#[test]
fn a_newcomer_that_never_comes_holds_nobody_up() {
    let mut rig = group(&[1]);
    rig.ask(1, 1, join(2, ""));
    rig.run(300);
    rig.ask(1, 2, write("a"));
    rig.run(20_000);
    assert!(is_done(&rig, 1) && is_done(&rig, 2));
    assert_eq!(voters(&rig), [1]);
}

#[test]
fn a_board_that_differs_or_was_never_compared_does_not_vote() {
    let mut rig = group(&[1]);
    rig.unfit = Vec::from([2]);
    come(&mut rig, 2);
    rig.run(9_000);
    assert_eq!(voters(&rig), [1]);
    rig.compares = false;
    rig.unfit.clear();
    come(&mut rig, 3);
    rig.run(9_000);
    assert_eq!(voters(&rig), [1]);
}

#[test]
fn a_board_that_is_behind_does_not_vote() {
    let mut rig = group(&[1, 2, 3]);
    come(&mut rig, 4);
    rig.run(1_000);
    let leader = rig.leader().unwrap();
    rig.stalled = Vec::from([5]);
    for request in 0..100 {
        rig.ask(leader, request, write("more"));
        rig.run(20);
    }
    come(&mut rig, 5);
    rig.run(9_000);
    assert_eq!(voters(&rig), [1, 2, 3]);
    let behind = rig.nodes[&leader].entries_behind(5);
    assert!(behind > limits::CAUGHT_UP_ENTRIES, "{behind}");
    let why = {
        rig.ask(leader, 700, vote(5, true));
        why_not(&rig, 700)
    };
    assert!(why.contains("4 voters stand no more losses"), "{why}");
}

#[test]
fn a_silent_voter_is_replaced_in_one_step_after_the_time_that_was_set() {
    let mut rig = group(&[1, 2, 3]);
    come(&mut rig, 4);
    rig.run(5_000);
    for node in rig.nodes.values_mut() {
        node.set_replace_after(30_000);
    }
    let leader = rig.leader().unwrap();
    let gone = leader % 3 + 1;
    rig.cut = Vec::from([gone]);
    rig.run(25_000);
    assert_eq!(voters(&rig), [1, 2, 3]);
    rig.run(9_000);
    let mut expected: Vec<_> = [1, 2, 3, 4].into_iter().filter(|id| *id != gone).collect();
    assert_eq!(voters(&rig), expected);
    assert!(of_leader(&rig).outgoing.is_empty());
    let joint = rig.journals[&leader].iter().any(|entry| {
        matches!(crate::sql::decode(&entry.data), Ok(MembershipChange::Joint(rows)) if rows.len() == 2)
    });
    assert!(joint, "both at once");
    rig.cut.clear();
    rig.run(9_000);
    assert_eq!(voters(&rig), expected, "it is a learner again");
    agreed(&rig);
    let other = expected.iter().copied().find(|id| *id != leader).unwrap();
    rig.ask(leader, 1, remove(other));
    rig.run(9_000);
    expected.retain(|id| *id != other);
    expected.push(gone);
    expected.sort_unstable();
    assert_eq!(voters(&rig), expected, "and votes where there is room");
    agreed(&rig);
}

#[test]
fn two_sets_of_voters_are_left_by_a_later_leader_too() {
    let mut rig = group(&[1, 2, 3]);
    come(&mut rig, 4);
    rig.run(5_000);
    let gone = rig.leader().unwrap() % 3 + 1;
    rig.cut = Vec::from([gone]);
    for node in rig.nodes.values_mut() {
        node.set_replace_after(10_000);
    }
    rig.run(15_000);
    let joint =
        |entry: &Entry| matches!(crate::sql::decode(&entry.data), Ok(MembershipChange::Joint(_)));
    let others: Vec<NodeId> = (1..=4).filter(|id| *id != gone).collect();
    // The power went when the first of the two entries was everywhere.
    rig.memories.clear();
    for id in &others {
        rig.nodes.remove(id);
        let journal = rig.journals.get_mut(id).unwrap();
        let end = journal.iter().position(joint).unwrap();
        journal.truncate(end + 1);
    }
    for id in &others {
        rig.restart(*id, 2, &[1, 2, 3]);
    }
    rig.run(15_000);
    assert!(of_leader(&rig).outgoing.is_empty());
    assert_eq!(voters(&rig), others);
    rig.cut.clear();
    rig.run(5_000);
    agreed(&rig);
}

#[test]
fn a_removed_board_is_told_and_not_heard_any_more() {
    let mut rig = group(&[1, 2, 3]);
    let leader = rig.leader().unwrap();
    let (gone, other) = (leader % 3 + 1, (leader + 1) % 3 + 1);
    rig.ask(other, 1, remove(gone));
    rig.run(1_000);
    assert!(is_done(&rig, 1));
    assert_eq!(voters(&rig).len(), 2);
    assert!(rig.nodes[&gone].is_removed(), "the leader's last word told it");
    let term = rig.nodes[&leader].raw.raft.term;
    let ask = RaftFrame::VoteAsk {
        pre: false,
        term: term + 9,
        index: 999,
        log_term: term,
        commit: 0,
        commit_term: 0,
        transfer: true,
    };
    rig.hear(leader, gone, &Frame::Raft(ask));
    assert_eq!(rig.nodes[&leader].raw.raft.term, term);
    assert!(rig.nodes[&leader].dropped[&Rejection::Removed] > 0);
    rig.ask(leader, 2, join(gone, ""));
    rig.run(500);
    assert!(why_not(&rig, 2).contains("understudy reset"));
    rig.ask(leader, 3, remove(gone));
    rig.run(500);
    assert!(is_done(&rig, 3), "it is gone already");
    let next = {
        come(&mut rig, 4);
        of_leader(&rig).last_id
    };
    assert_eq!(next, 4, "no id is given twice");
}

#[test]
fn an_id_is_never_given_again() {
    let mut rig = group(&[1, 2, 3]);
    let leader = rig.leader().unwrap();
    come(&mut rig, 4);
    rig.ask(leader, 1, remove(4));
    rig.run(500);
    rig.nodes.remove(&4);
    rig.ask(
        leader,
        2,
        Request::Member(MemberRequest::Join {
            candidate: candidate(9),
            invitation: TOKEN,
            replaces: String::new(),
        }),
    );
    rig.run(500);
    assert!(is_done(&rig, 2));
    assert_eq!(of_leader(&rig).members.last().unwrap().id, 5);
}

#[test]
fn a_leader_hands_over_before_it_is_removed_or_follows() {
    for (wish, voting) in [(remove as fn(NodeId) -> Request, 2), (|id| vote(id, false), 2)] {
        let mut rig = group(&[1, 2, 3]);
        let leader = rig.leader().unwrap();
        rig.ask(leader, 1, wish(leader));
        rig.run(3_000);
        assert!(is_done(&rig, 1), "{:?}", rig.answer_of(1));
        assert_ne!(rig.leader(), Some(leader));
        assert_eq!(voters(&rig).len(), voting);
        assert!(!voters(&rig).contains(&leader));
    }
}

#[test]
fn a_removal_that_comes_true_while_its_board_leads_ends_its_leadership() {
    let (mut rig, leader) = Rig::led(&[1, 2, 3]);
    let node = rig.nodes.get_mut(&leader).unwrap();
    let change = MembershipChange::Remove(leader);
    let data = crate::sql::encode(&change);
    node.raw.propose_conf_change(data, conf_change(&change)).unwrap();
    rig.run(3_000);
    assert!(!rig.nodes[&leader].leads());
    assert!(rig.leader().is_some());
    assert_eq!(voters(&rig).len(), 2);
}

#[test]
fn what_would_leave_nobody_to_decide_is_refused() {
    let mut rig = group(&[1]);
    rig.ask(1, 1, remove(1));
    rig.ask(1, 2, vote(1, false));
    rig.ask(1, 3, remove(7));
    rig.ask(1, 4, transfer(None));
    rig.run(300);
    assert!(why_not(&rig, 1).contains("board-1 is the last board that votes"));
    assert!(why_not(&rig, 2).contains("the last board that votes"));
    assert!(why_not(&rig, 3).contains("no member has the id 7"));
    assert!(why_not(&rig, 4).contains("no other board that votes can be heard"));

    let mut rig = group(&[1, 2, 3]);
    let leader = rig.leader().unwrap();
    let (silent, other) = (leader % 3 + 1, (leader + 1) % 3 + 1);
    rig.cut = Vec::from([silent]);
    rig.run(2_000);
    rig.ask(leader, 5, remove(other));
    rig.ask(leader, 6, vote(other, false));
    rig.ask(leader, 7, transfer(Some(silent)));
    rig.run(300);
    assert!(why_not(&rig, 5).contains("2 of 2 boards are needed"), "{}", why_not(&rig, 5));
    assert!(why_not(&rig, 6).contains("and 1 can be heard"), "{}", why_not(&rig, 6));
    assert!(why_not(&rig, 7).contains("it cannot be heard"));
    rig.ask(leader, 8, remove(silent));
    rig.run(500);
    assert!(is_done(&rig, 8), "the silent one may go");
    assert_eq!(voters(&rig).len(), 2);
    rig.ask(leader, 9, vote(other, false));
    rig.run(300);
    assert!(why_not(&rig, 9).contains("on its card alone"), "{}", why_not(&rig, 9));
}

#[test]
fn leadership_goes_where_it_is_wished() {
    let mut rig = group(&[1, 2, 3]);
    let leader = rig.leader().unwrap();
    for (request, to) in [(1, leader % 3 + 1), (2, leader), (3, leader)] {
        rig.ask(leader, request, transfer(Some(to)));
        rig.run(1_000);
        assert!(is_done(&rig, request));
        assert_eq!(rig.leader(), Some(to));
    }
    rig.ask(leader % 3 + 1, 4, transfer(None));
    rig.run(1_000);
    assert!(is_done(&rig, 4));
    assert_ne!(rig.leader(), Some(leader));
}

#[test]
fn a_transfer_that_comes_to_nothing_is_told() {
    let mut rig = group(&[1, 2, 3]);
    let leader = rig.leader().unwrap();
    let to = leader % 3 + 1;
    rig.event(to, Event::DiskFull(true));
    rig.ask(leader, 1, transfer(Some(to)));
    rig.run(3_000);
    assert!(why_not(&rig, 1).contains("did not take leadership over"));
    assert_eq!(rig.leader(), Some(leader));
}

#[test]
fn a_board_that_was_demoted_follows_until_it_is_promoted() {
    let mut rig = group(&[1, 2, 3]);
    let leader = rig.leader().unwrap();
    let other = leader % 3 + 1;
    rig.ask(leader, 1, vote(other, false));
    rig.run(9_000);
    assert!(is_done(&rig, 1) && !voters(&rig).contains(&other));
    rig.ask(leader, 2, vote(other, true));
    rig.run(500);
    assert!(is_done(&rig, 2) && voters(&rig).contains(&other));
    come(&mut rig, 4);
    rig.run(5_000);
    rig.ask(leader, 3, vote(4, true));
    rig.run(300);
    assert!(why_not(&rig, 3).contains("4 voters stand no more losses than 3"));
    agreed(&rig);
}

#[test]
fn fewer_voters_are_set_and_so_many_vote() {
    let mut rig = group(&[1, 2, 3, 4, 5]);
    for node in rig.nodes.values_mut() {
        node.set_voters_max(3);
    }
    rig.run(3_000);
    assert_eq!(voters(&rig).len(), 3);
    assert!(voters(&rig).contains(&rig.leader().unwrap()));
    agreed(&rig);
}

#[test]
fn a_token_holds_for_its_time_however_leaders_change() {
    let mut rig = group(&[1, 2, 3]);
    let first = rig.leader().unwrap();
    rig.restart(first, 2, &[1, 2, 3]);
    rig.run(9_000);
    let leader = rig.leader().unwrap();
    assert_ne!(leader, first);
    rig.ask(leader, 1, transfer(Some(first)));
    rig.run(1_000);
    assert_eq!(rig.leader(), Some(first), "it was restarted since, and was told");
    rig.ask(first, 2, join(4, ""));
    rig.run(300);
    assert!(is_done(&rig, 2), "{:?}", rig.answer_of(2));
    rig.now = rig.now.plus(HOUR_MS);
    rig.run(10);
    rig.run(9_000);
    let leader = rig.leader().unwrap();
    rig.ask(leader, 3, join(5, ""));
    rig.run(300);
    assert!(why_not(&rig, 3).contains("understudy token"));
    assert!(of_leader(&rig).invitations.is_empty(), "its row is gone");
}

#[test]
fn no_token_outlives_a_restart_of_the_whole_group() {
    let mut rig = group(&[1, 2, 3]);
    for id in 1..=3 {
        rig.nodes.remove(&id);
    }
    for id in 1..=3 {
        rig.restart(id, 2, &[1, 2, 3]);
    }
    rig.run(3_000);
    let leader = rig.leader().unwrap();
    assert_eq!(of_leader(&rig).invitations, [invitation()]);
    rig.ask(leader, 1, join(4, ""));
    rig.run(300);
    assert!(why_not(&rig, 1).contains("the whole group was restarted"));
    rig.run(60_000);
    assert!(of_leader(&rig).invitations.is_empty());
}

#[test]
fn a_token_lets_in_as_many_as_it_was_made_for_and_none_once_it_is_revoked() {
    let mut rig = group(&[1, 2, 3]);
    let leader = rig.leader().unwrap();
    let once = Invitation { uses: 1, ..invitation() };
    rig.ask(leader, 1, Request::Member(MemberRequest::Invite(once)));
    rig.run(300);
    rig.ask(leader, 2, join(4, ""));
    rig.run(300);
    rig.ask(leader, 3, join(4, ""));
    rig.ask(leader, 4, join(5, ""));
    rig.run(300);
    assert!(is_done(&rig, 2) && is_done(&rig, 3), "the same board asked again");
    assert!(why_not(&rig, 4).contains("as many boards as it was made for"));
    rig.ask(leader, 5, Request::Member(MemberRequest::Invite(invitation())));
    rig.ask(leader, 6, Request::Member(MemberRequest::Revoke));
    rig.ask(leader, 7, join(5, ""));
    rig.run(500);
    assert!(why_not(&rig, 7).contains("it was revoked"));
    rig.ask(leader, 8, Request::Admit(candidate(5)));
    rig.run(300);
    assert!(why_not(&rig, 8).contains("join token"), "nor without one");
}

#[test]
fn a_newcomer_takes_the_place_and_name_of_a_board_that_cannot_be_heard() {
    let mut rig = group(&[1, 2, 3]);
    let leader = rig.leader().unwrap();
    let gone = leader % 3 + 1;
    let name = alloc::format!("board-{gone}");
    let named = |id, replaces: &str| {
        let candidate = Candidate { name: name.clone(), ..candidate(id) };
        let replaces = String::from(replaces);
        Request::Member(MemberRequest::Join { candidate, invitation: TOKEN, replaces })
    };
    rig.ask(leader, 1, named(4, &name));
    rig.run(300);
    assert!(why_not(&rig, 1).contains("can be heard"));
    rig.cut = Vec::from([gone]);
    rig.run(2_000);
    rig.ask(leader, 2, named(4, ""));
    rig.run(300);
    assert!(why_not(&rig, 2).contains(&alloc::format!("--replace {name}")));
    rig.ask(leader, 3, named(4, &name));
    rig.run(500);
    assert!(is_done(&rig, 3));
    let members = of_leader(&rig);
    assert!(members.member(gone).is_none());
    let member = members.member(4).unwrap();
    assert_eq!((member.name.as_str(), member.voter), (name.as_str(), false));
    rig.newcomer(4);
    rig.run(5_000);
    assert!(voters(&rig).contains(&4));
    rig.cut.clear();
    rig.run(5_000);
    agreed(&rig);
    assert!(rig.leader().is_some_and(|leader| leader != gone));
}

#[test]
fn a_change_that_does_not_fit_is_none_on_every_board() {
    let mut changed = membership(&[1, 2]);
    let row = |id, voter| Member { voter, ..changed.member(id).unwrap().clone() };
    let rows = Vec::from([row(1, false), row(2, false)]);
    let (last, first) = (row(1, false), row(1, true));
    assert!(!changed.change(&MembershipChange::Joint(rows)), "nobody would vote");
    assert!(!changed.change(&MembershipChange::Leave), "there is one set only");
    assert!(changed.change(&MembershipChange::Joint(Vec::from([last]))));
    assert_eq!((changed.voters(), changed.outgoing.as_slice()), (Vec::from([2]), &[1, 2][..]));
    assert!(!changed.change(&MembershipChange::Add(first)), "two sets count");
    assert!(changed.change(&MembershipChange::Leave));
    assert!(!changed.change(&MembershipChange::Remove(2)), "the last that votes");
    assert_eq!(changed.voters(), [2]);
}

#[test]
fn a_change_that_raft_rs_emptied_is_noticed() {
    let (mut rig, leader) = Rig::led(&[1, 2, 3]);
    let node = rig.nodes.get_mut(&leader).unwrap();
    // Two sets count for raft-rs, and the membership does not know.
    let rows = node.membership.members.clone();
    node.raw.apply_conf_change(&conf_change(&MembershipChange::Joint(rows))).unwrap();
    rig.ask(leader, 1, Request::Rename { id: 1, name: "pump".into() });
    rig.run(300);
    assert!(why_not(&rig, 1).contains("nothing was changed"));
    assert_eq!(rig.nodes[&leader].membership().members[0].name, "board-1");
}

#[test]
fn a_board_is_admitted_once_and_by_a_free_name() {
    let mut rig = group(&[1, 2, 3]);
    let leader = rig.leader().unwrap();
    let taken = Candidate { name: "board-2".into(), ..candidate(9) };
    let replaces = String::new();
    let wish = MemberRequest::Join { candidate: taken, invitation: TOKEN, replaces };
    rig.ask(leader, 1, Request::Member(wish.clone()));
    rig.ask(leader, 2, Request::Member(wish));
    rig.run(500);
    let members = &of_leader(&rig).members;
    assert_eq!(members.len(), 4);
    assert_eq!((members[3].id, members[3].name.as_str()), (4, "board-2-2"));
    assert!(matches!(
        (rig.answer_of(1), rig.answer_of(2)),
        (Some(Reply::Done { answer: first, .. }), Some(Reply::Done { answer: second, .. }))
            if first == second
    ));
}

#[test]
fn the_leader_lets_nobody_in_that_does_not_know_what_the_group_goes_by() {
    let mut rig = group(&[1, 2, 3]);
    let leader = rig.leader().unwrap();
    // The door has not applied yet what the leader has.
    let door = leader % 3 + 1;
    rig.event(leader, Event::Version(VERSION));
    for (request, wish) in
        [(1, join(4, "")), (2, newcomer(4, VERSION_FIRST)), (3, newcomer(4, VERSION))]
    {
        rig.ask(door, request, wish);
        rig.run(500);
    }
    assert_eq!(rig.answer_of(1), Some(&Reply::Refused(Refusal::Busy)), "it asks again");
    let Some(Reply::Refused(Refusal::Invalid(words))) = rig.answer_of(2) else {
        panic!("{:?}", rig.answer_of(2))
    };
    assert!(words.contains("too old for it: install 0.2.0 or newer here"), "{words}");
    assert!(is_done(&rig, 3));
    // Who is a member is told so.
    rig.ask(door, 4, join(4, ""));
    rig.run(500);
    assert!(is_done(&rig, 4));
}
