//! Witnesses, in memory.

use alloc::string::ToString as _;

use crate::{
    event::{Event, ReadLevel, Reply, RequestId},
    member::{Candidate, Invitation, Member, MemberRequest, MembershipChange},
    retention::Kept,
    rig::{Rig, write},
};

use super::*;

const WITNESS: NodeId = 3;

/// Two boards and their witness, and which of the two leads.
fn pair() -> (Rig, NodeId, NodeId) {
    let mut rig = Rig::with_witnesses(&[1, 2, WITNESS], &[WITNESS]);
    rig.run(2_000);
    let leader = rig.leader().expect("a connected group elects a leader");
    assert_ne!(leader, WITNESS);
    (rig, leader, 3 - leader)
}

fn is_done(rig: &Rig, request: RequestId) -> bool {
    matches!(rig.answer_of(request), Some(Reply::Done { .. }))
}

fn refusal(rig: &Rig, request: RequestId) -> &Refusal {
    match rig.answer_of(request) {
        Some(Reply::Refused(refusal)) => refusal,
        other => panic!("request {request} was not refused: {other:?}"),
    }
}

/// Writes of 2 KB each, all of which are acknowledged.
fn fill(rig: &mut Rig, board: NodeId, requests: core::ops::Range<RequestId>) {
    for request in requests {
        rig.ask(board, request, write(&"x".repeat(2_048)));
        rig.run(10);
        assert!(is_done(rig, request), "{:?}", rig.answer_of(request));
        make_durable(rig);
    }
}

/// All databases hold for good what they have applied.
fn make_durable(rig: &mut Rig) {
    for id in rig.nodes.keys().copied().collect::<Vec<_>>() {
        let applied = rig.nodes[&id].applied().index;
        rig.event(id, Event::DatabaseDurable(applied));
    }
}

fn first_index(rig: &Rig, id: NodeId) -> u64 {
    rig.nodes[&id].raw.raft.raft_log.first_index()
}

fn last_index(rig: &Rig, id: NodeId) -> u64 {
    rig.nodes[&id].raw.raft.raft_log.last_index()
}

#[test]
fn each_of_two_boards_takes_over_from_the_other() {
    let (mut rig, leader, other) = pair();
    for (request, gone, next) in [(1, leader, other), (2, other, leader)] {
        rig.cut = Vec::from([gone]);
        rig.run(4_000);
        assert_eq!(rig.leader(), Some(next));
        rig.ask(next, request, write("a"));
        rig.run(500);
        assert!(is_done(&rig, request));
        rig.cut.clear();
        rig.run(2_000);
    }
}

#[test]
fn a_witness_does_not_lead_while_a_board_with_the_rows_can() {
    let (mut rig, ..) = pair();
    for round in 0..30 {
        let Some(leader) = rig.leader() else { panic!("nobody leads in round {round}") };
        rig.cut = Vec::from([leader]);
        for _ in 0..200 {
            rig.run(10);
            assert!(!rig.nodes[&WITNESS].leads());
        }
        rig.cut.clear();
        rig.run(1_500);
    }
}

#[test]
fn a_witness_that_alone_has_the_log_hands_it_on_and_proposes_nothing() {
    let (mut rig, leader, other) = pair();
    rig.hand_on(leader, WITNESS, other);
    let led = rig.journals[&WITNESS].iter().filter(|entry| {
        let elected = rig.nodes[&other].term();
        entry.term > 1 && entry.term < elected
    });
    assert!(led.clone().count() > 0, "it led in between");
    assert!(led.clone().all(|entry| entry.data.is_empty()));
}

#[test]
fn wishes_are_refused_for_now_while_a_witness_leads() {
    let (mut rig, leader, other) = pair();
    rig.cut = Vec::from([other]);
    rig.ask(leader, 1, write("kept"));
    rig.run(300);
    rig.cut = Vec::from([leader]);
    let mut request = 1;
    for _ in 0..1_000 {
        if !rig.nodes[&WITNESS].leads() {
            rig.run(10);
        }
    }
    assert!(rig.nodes[&WITNESS].leads());
    // The other cannot take over yet.
    rig.event(other, Event::DatabaseHeld(true));
    for _ in 0..50 {
        request += 1;
        rig.ask(WITNESS, request, write("b"));
        rig.run(100);
        assert!(refusal(&rig, request).is_passing());
    }
    assert!(rig.nodes[&WITNESS].leads());
    rig.event(other, Event::DatabaseHeld(false));
    rig.run(3_000);
    assert_eq!(rig.leader(), Some(other));
}

#[test]
fn what_a_board_misses_while_it_is_away_is_kept_by_the_witness_though_the_other_burns() {
    let (mut rig, leader, other) = pair();
    fill(&mut rig, leader, 1..400);
    assert!(first_index(&rig, WITNESS) > 100, "what all hold goes");
    rig.cut = Vec::from([other]);
    let missed = last_index(&rig, other) + 1;
    fill(&mut rig, leader, 400..800);
    rig.run(2_000);
    fill(&mut rig, leader, 800..900);
    assert!(first_index(&rig, WITNESS) <= missed, "{}", first_index(&rig, WITNESS));
    rig.cut = Vec::from([leader]);
    rig.run(15_000);
    assert_eq!(rig.leader(), Some(other));
    let writes = rig.journals[&other].iter().filter(|entry| entry.data.len() > 2_000);
    assert_eq!(writes.count(), 899);
}

#[test]
fn a_witness_without_room_ends_writing_until_the_other_board_is_back() {
    let (mut rig, leader, other) = pair();
    rig.nodes.get_mut(&WITNESS).unwrap().set_witness_log(600 << 10);
    rig.cut = Vec::from([other]);
    let missed = last_index(&rig, other) + 1;
    fill(&mut rig, leader, 1..270);
    rig.run(1_000);
    assert!(!rig.nodes[&leader].status(rig.now).one_copy);
    for request in 270..310 {
        rig.ask(leader, request, write(&"x".repeat(2_048)));
        rig.run(50);
    }
    assert!(rig.nodes[&leader].status(rig.now).one_copy);
    assert!(rig.nodes[&WITNESS].status(rig.now).one_copy);
    rig.ask(leader, 1_000, write("a"));
    rig.ask(WITNESS, 1_001, write("a"));
    rig.run(300);
    assert_eq!([1_000, 1_001].map(|request| refusal(&rig, request)), [&Refusal::OneCopy; 2]);
    rig.ask(leader, 1_002, Request::Rename { id: 1, name: "pump".into() });
    rig.run(300);
    assert!(is_done(&rig, 1_002), "whoever sees to it is not held up");
    rig.cut.clear();
    rig.run(8_000);
    make_durable(&mut rig);
    rig.run(3_000);
    assert!(!rig.nodes[&leader].status(rig.now).one_copy);
    let first = first_index(&rig, WITNESS);
    assert!(first > missed, "{first}: nothing had to be written for that");
    rig.ask(leader, 1_003, write("a"));
    rig.run(300);
    assert!(is_done(&rig, 1_003));
}

/// The witness has given up what one board misses, as it is allowed to.
fn given_up() -> (Rig, NodeId, NodeId) {
    let (mut rig, leader, other) = pair();
    for node in rig.nodes.values_mut() {
        node.set_one_copy(true);
        node.set_witness_log(600 << 10);
    }
    rig.cut = Vec::from([other]);
    fill(&mut rig, leader, 1..600);
    rig.run(1_000);
    assert!(first_index(&rig, WITNESS) > last_index(&rig, other) + 100);
    (rig, leader, other)
}

#[test]
fn what_a_witness_gave_up_it_does_not_pretend_to_hold() {
    let (mut rig, leader, other) = given_up();
    let lacks = rig.nodes[&WITNESS].retention.lacks();
    assert_eq!(lacks + 1, first_index(&rig, WITNESS));
    for node in rig.nodes.values_mut() {
        node.set_one_copy(false);
    }
    rig.run(1_000);
    rig.ask(leader, 1_000, write("a"));
    rig.run(300);
    assert_eq!(refusal(&rig, 1_000), &Refusal::OneCopy, "one board alone has it");
    rig.cut.clear();
    rig.run(8_000);
    rig.ask(leader, 1_001, write("a"));
    rig.run(300);
    assert!(is_done(&rig, 1_001), "the other has it, too");
    assert_eq!(last_index(&rig, other), last_index(&rig, leader));
    assert_eq!(rig.nodes[&WITNESS].retention.lacks(), 0);
}

#[test]
fn a_board_that_misses_what_the_witness_gave_up_never_leads_without_it() {
    let (mut rig, leader, other) = given_up();
    rig.cut = Vec::from([leader]);
    for _ in 0..300 {
        rig.run(100);
        assert!(!rig.nodes[&other].leads());
    }
    rig.cut.clear();
    rig.run(15_000);
    assert_eq!(last_index(&rig, other), last_index(&rig, leader));
    assert!(rig.leader().is_some_and(|leader| leader != WITNESS));
}

#[test]
fn of_agents_writes_the_small_ones_are_told_from_users() {
    let request = |origin, sql: &str| {
        let statements = match sql {
            "" => Vec::new(),
            sql => Vec::from([sql::Statement::new(sql, Vec::new())]),
        };
        sql::encode(&sql::SqlRequest::new(sql::RequestKind::Execute, origin, statements))
    };
    let large = "x".repeat(limits::AGENT_BYTES_MAX);
    for (origin, sql, is_users) in [
        (sql::Origin::User, "INSERT", true),
        (sql::Origin::Agent, "INSERT", false),
        (sql::Origin::Agent, "", true),
        (sql::Origin::Agent, large.as_str(), true),
    ] {
        assert_eq!(sql::is_users(&request(origin, sql)), is_users);
    }
}

#[test]
fn nobody_votes_beside_a_witness_that_lacks_what_it_has_given_up() {
    let (mut rig, leader, other) = pair();
    fill(&mut rig, leader, 1..5);
    let term = rig.nodes[&leader].term();
    let first = last_index(&rig, other) + 1;
    for (first, has_all) in [(first, true), (first + 1, false)] {
        let tail = Frame::Tail { term, first, is_full: false, lacks: 0 };
        rig.hear(leader, WITNESS, &tail);
        assert_eq!(rig.nodes[&leader].has_tail_for(&[leader, other, WITNESS]), has_all);
        assert!(rig.nodes[&leader].has_tail_for(&[leader, other]));
    }
}

#[test]
fn a_witness_behind_the_log_takes_its_place_and_no_pages() {
    let (mut rig, leader, other) = pair();
    for id in [leader, other] {
        rig.nodes.get_mut(&id).unwrap().set_kept(Kept { entries: 10, bytes: 1_000 });
    }
    rig.cut = Vec::from([WITNESS]);
    fill(&mut rig, leader, 1..300);
    rig.run(2_000);
    fill(&mut rig, leader, 300..310);
    assert!(first_index(&rig, leader) > last_index(&rig, WITNESS) + 1);
    rig.ask(leader, 1_000, Request::Rename { id: WITNESS, name: "shed".into() });
    rig.run(100);
    rig.cut.clear();
    rig.run(3_000);
    assert_eq!(last_index(&rig, WITNESS), last_index(&rig, leader));
    let membership = rig.nodes[&WITNESS].membership();
    assert_eq!(membership, rig.nodes[&leader].membership());
    fill(&mut rig, leader, 310..320);
    rig.run(1_000);
    assert_eq!(rig.nodes[&WITNESS].retention.lacks(), 0, "the other has all before it");
    rig.cut = Vec::from([leader]);
    rig.run(5_000);
    assert_eq!(rig.leader(), Some(other));
}

#[test]
fn a_witness_answers_no_read_and_names_who_does() {
    let (mut rig, leader, other) = pair();
    let level = [
        ReadLevel::None { freshness_ms: None },
        ReadLevel::Weak,
        ReadLevel::Linearizable { timeout_ms: None },
        ReadLevel::Strong,
    ];
    for (request, level) in (1..).zip(level) {
        rig.ask(WITNESS, request, Request::Read { level, sql: b"q".to_vec() });
        let refused = refusal(&rig, request);
        let board = alloc::format!("board-{leader}");
        assert_eq!(refused, &Refusal::Witness { board, http: String::new() });
    }
    rig.ask(WITNESS, 9, Request::Read { level: ReadLevel::Own, sql: b"q".to_vec() });
    rig.ask(WITNESS, 10, write("a"));
    rig.ask(WITNESS, 13, Request::Read { level: ReadLevel::OwnLinearizable, sql: b"q".to_vec() });
    rig.ask(WITNESS, 11, Request::Scrub);
    rig.ask(other, 12, Request::Repair { source: WITNESS });
    rig.run(300);
    assert!(is_done(&rig, 9) && is_done(&rig, 10), "a write is passed on");
    assert!(is_done(&rig, 13), "the agent may ask what is committed");
    assert!(matches!(refusal(&rig, 11), Refusal::Witness { .. }));
    assert!(refusal(&rig, 12).to_string().contains("no rows that could be right"));
}

#[test]
fn a_witness_is_told_what_the_group_has_set() {
    let (mut rig, leader, _) = pair();
    let settings = Vec::from([(String::from("profile"), String::from("wifi"))]);
    for node in rig.nodes.values_mut().filter(|node| !node.is_witness()) {
        node.set_settings(settings.clone());
    }
    rig.run(2_000);
    let witness = rig.nodes.get_mut(&WITNESS).unwrap();
    assert_eq!(witness.take_settings(), Some(settings.clone()));
    assert_eq!(witness.take_settings(), None);
    assert_eq!(rig.settings, core::slice::from_ref(&settings));
    let applied = rig.nodes[&WITNESS].applied();
    rig.event(WITNESS, Event::DatabaseReset { applied, ended_by: None });
    rig.run(200);
    assert_eq!(rig.settings, [settings.clone(), settings], "they were lost with the transaction");
    let term = rig.nodes[&leader].term();
    let long = Vec::from([(String::from("a"), "b".repeat(limits::NAME_BYTES_MAX + 1))]);
    rig.hear(WITNESS, leader, &Frame::Held { term, index: 1, settings: long });
    let other = Vec::from([(String::from("a"), String::from("b"))]);
    rig.hear(WITNESS, 3 - leader, &Frame::Held { term, index: u64::MAX >> 9, settings: other });
    let witness = rig.nodes.get_mut(&WITNESS).unwrap();
    assert_eq!((witness.take_settings(), witness.retention.lacks()), (None, 0));
    assert_eq!(witness.dropped.values().sum::<u64>(), 1);
}

const TOKEN: [u8; 16] = [7; 16];

fn candidate(id: NodeId) -> Candidate {
    let key = [u8::try_from(id).unwrap(); 32];
    Candidate { name: alloc::format!("board-{id}"), key, addresses: Vec::new() }
}

fn join(id: NodeId, witness: bool, replaces: &str) -> Request {
    let (candidate, invitation, replaces) = (candidate(id), TOKEN, String::from(replaces));
    Request::Member(match witness {
        true => MemberRequest::Witness { candidate, invitation, replaces },
        false => MemberRequest::Join { candidate, invitation, replaces },
    })
}

/// One board that lets others in.
fn founder() -> Rig {
    let mut rig = Rig::new(&[1]);
    rig.compares = true;
    let invitation = Invitation { id: TOKEN, lifetime_ms: 3_600_000, uses: 0 };
    rig.ask(1, 900, Request::Member(MemberRequest::Invite(invitation)));
    rig.run(300);
    rig
}

fn come(rig: &mut Rig, id: NodeId, witness: bool) {
    let leader = rig.leader().unwrap();
    rig.ask(leader, 800 + id, join(id, witness, ""));
    rig.run(300);
    assert!(is_done(rig, 800 + id), "{:?}", rig.answer_of(800 + id));
    if witness {
        rig.witnesses.push(id);
    }
    rig.newcomer(id);
    rig.run(12_000);
}

fn voters(rig: &Rig) -> Vec<NodeId> {
    rig.nodes[&rig.leader().unwrap()].membership().voters()
}

fn why_not(rig: &Rig, request: RequestId) -> String {
    refusal(rig, request).to_string()
}

#[test]
fn a_witness_makes_an_even_number_of_boards_odd() {
    let mut rig = founder();
    come(&mut rig, 2, true);
    assert_eq!(voters(&rig), [1], "it waits for a second board");
    let leader = rig.leader().unwrap();
    rig.ask(leader, 1, Request::Member(MemberRequest::Vote { id: 2, voter: true }));
    rig.run(300);
    assert!(why_not(&rig, 1).contains("a witness votes beside two, four or six"));
    come(&mut rig, 3, false);
    assert_eq!(voters(&rig), [1, 2, 3]);
    come(&mut rig, 4, false);
    assert_eq!(voters(&rig), [1, 3, 4], "three boards need none");
    come(&mut rig, 5, false);
    assert_eq!(voters(&rig), [1, 2, 3, 4, 5]);
    come(&mut rig, 6, false);
    assert_eq!(voters(&rig), [1, 3, 4, 5, 6]);
    let leader = rig.leader().unwrap();
    let gone = if leader == 6 { 5 } else { 6 };
    rig.ask(leader, 2, Request::Member(MemberRequest::Remove(gone)));
    rig.run(6_000);
    assert_eq!(voters(&rig).len(), 5);
    assert!(voters(&rig).contains(&2), "{:?}", voters(&rig));
    for node in rig.nodes.values_mut() {
        node.set_voters_max(4);
    }
    rig.run(3_000);
    assert_eq!(voters(&rig).len(), 3, "four vote at the most");
    assert!(!voters(&rig).contains(&2));
}

#[test]
fn what_makes_no_sense_with_a_witness_is_refused() {
    let mut rig = founder();
    rig.ask(1, 1, Request::Member(MemberRequest::Remove(1)));
    come(&mut rig, 2, false);
    come(&mut rig, 3, true);
    assert_eq!(voters(&rig), [1, 2, 3]);
    let leader = rig.leader().unwrap();
    let other = 3 - leader;
    let vote = |id, voter| Request::Member(MemberRequest::Vote { id, voter });
    let wishes = [
        (10, join(4, true, ""), "is the witness of this group, and one is all"),
        (11, join(3, false, ""), "let in as the witness board-3 already"),
        (12, join(2, true, ""), "one that keeps the data, already"),
        (13, join(4, true, "board-2"), "join without --witness to take its place"),
        (14, join(4, false, "board-3"), "only another takes its place"),
        (15, Request::Member(MemberRequest::Transfer(Some(3))), "it is a witness"),
        (16, vote(other, false), "would be on its card alone"),
    ];
    for (request, wish, why) in wishes {
        rig.ask(leader, request, wish);
        rig.run(300);
        assert!(why_not(&rig, request).contains(why), "{}", why_not(&rig, request));
    }
    rig.ask(leader, 20, vote(3, false));
    rig.run(300);
    assert_eq!(voters(&rig), [1, 2]);
    rig.ask(leader, 21, vote(3, true));
    rig.run(3_000);
    assert_eq!(voters(&rig), [1, 2, 3]);
    rig.ask(leader, 22, Request::Member(MemberRequest::Remove(other)));
    rig.run(3_000);
    assert_eq!(voters(&rig), [leader], "nothing that two decide is on two cards");
    rig.ask(leader, 23, Request::Member(MemberRequest::Remove(leader)));
    rig.run(300);
    assert!(why_not(&rig, 23).contains("the last board that votes and keeps the data"));
}

#[test]
fn no_change_leaves_a_group_of_witnesses_on_any_board() {
    let mut rig = founder();
    come(&mut rig, 2, true);
    let mut membership = rig.nodes[&1].membership().clone();
    let row = |id, voter| Member { voter, ..membership.member(id).unwrap().clone() };
    let (one, witness) = (row(1, false), row(2, true));
    assert!(membership.change(&MembershipChange::Add(witness.clone())));
    let changes = [
        MembershipChange::Remove(1),
        MembershipChange::Rest(1),
        MembershipChange::Add(one.clone()),
        MembershipChange::Joint(Vec::from([one, witness.clone()])),
        MembershipChange::Witness(witness, TOKEN),
    ];
    for change in &changes {
        assert!(!membership.change(change), "{change:?}");
    }
    assert_eq!(membership.voters(), [1, 2]);
}

#[test]
fn a_witness_stands_in_for_a_voter_that_is_gone() {
    let mut rig = founder();
    for (id, witness) in [(2, false), (3, false), (4, true)] {
        come(&mut rig, id, witness);
    }
    assert_eq!(voters(&rig), [1, 2, 3]);
    let leader = rig.leader().unwrap();
    let gone = leader % 3 + 1;
    for node in rig.nodes.values_mut() {
        node.set_replace_after(10_000);
    }
    rig.cut = Vec::from([gone]);
    rig.run(15_000);
    let voting = voters(&rig);
    assert!(voting.contains(&4) && !voting.contains(&gone), "{voting:?}");
    rig.cut.clear();
    rig.run(9_000);
    assert_eq!(voters(&rig), [1, 2, 3], "it is back");
}
