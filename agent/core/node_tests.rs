//! What a group of nodes does, seen from outside.

use alloc::vec::Vec;

use proptest::prelude::*;

use crate::{
    error::{Refusal, Rejection},
    event::{Entry, EntryKind, Event, ReadLevel, Reply, Request, Trust},
    limits::COUNTER_MAX,
    rig::{Rig, write},
    status::Role,
    timing::Timing,
    wire::{Frame, FrameEntry, Other, RaftFrame, Session, read_context},
};

fn other(leader: u64) -> u64 {
    leader % 3 + 1
}

#[test]
fn three_nodes_elect_one_leader_and_answer_a_write() {
    let (mut rig, leader) = Rig::led(&[1, 2, 3]);
    rig.ask(leader, 1, write("a"));
    assert!(matches!(rig.answer_of(1), Some(Reply::Done { answer, .. }) if answer == b"a"));
    rig.run(500);
    let journals: Vec<_> = rig.journals.values().collect();
    assert!(journals.windows(2).all(|pair| pair[0] == pair[1]));
}

#[test]
fn a_node_alone_leads_at_once() {
    let mut rig = Rig::new(&[1]);
    assert_eq!(rig.leader(), Some(1));
    rig.ask(1, 1, write("a"));
    assert!(matches!(rig.answer_of(1), Some(Reply::Done { .. })));
}

#[test]
fn a_follower_forwards_a_write_and_gets_the_answer() {
    let (mut rig, leader) = Rig::led(&[1, 2, 3]);
    rig.ask(other(leader), 1, write("b"));
    assert!(matches!(rig.answer_of(1), Some(Reply::Done { answer, .. }) if answer == b"b"));
}

#[test]
fn requests_that_come_while_a_batch_is_in_flight_go_together() {
    let (mut rig, leader) = Rig::led(&[1, 2, 3]);
    let before = rig.journals[&leader].len();
    rig.cut = [1, 2, 3].into_iter().filter(|id| *id != leader).collect();
    for request in 1..=5 {
        rig.ask(leader, request, write("x"));
    }
    rig.cut.clear();
    rig.run(300);
    assert!((1..=5).all(|request| matches!(rig.answer_of(request), Some(Reply::Done { .. }))));
    assert_eq!(rig.journals[&leader].len() - before, 2);
}

#[test]
fn every_level_is_answered_on_leader_and_follower() {
    let (mut rig, leader) = Rig::led(&[1, 2, 3]);
    let levels = [
        ReadLevel::None { freshness_ms: None },
        ReadLevel::None { freshness_ms: Some(1_000) },
        ReadLevel::Weak,
        ReadLevel::Linearizable { timeout_ms: None },
        ReadLevel::Strong,
    ];
    rig.run(500);
    for (request, level) in (1..).zip(levels) {
        rig.ask(leader, request, Request::Read { level, sql: b"q".to_vec() });
        rig.ask(other(leader), 100 + request, Request::Read { level, sql: b"q".to_vec() });
    }
    rig.run(500);
    for request in (1..=5).chain(101..=105) {
        assert!(matches!(rig.answer_of(request), Some(Reply::Done { .. })), "request {request}");
    }
}

#[test]
fn a_cut_off_board_serves_old_reads_only_to_those_who_accept_them() {
    let (mut rig, leader) = Rig::led(&[1, 2, 3]);
    let follower = other(leader);
    rig.cut.push(follower);
    rig.run(3_000);
    let none = |freshness_ms| Request::Read {
        level: ReadLevel::None { freshness_ms },
        sql: b"q".to_vec(),
    };
    rig.ask(follower, 1, none(None));
    rig.ask(follower, 2, none(Some(1_000)));
    rig.ask(
        follower,
        3,
        Request::Read { level: ReadLevel::Linearizable { timeout_ms: None }, sql: b"q".to_vec() },
    );
    rig.run(11_000);
    assert!(matches!(rig.answer_of(1), Some(Reply::Done { .. })));
    assert_eq!(rig.answer_of(2), Some(&Reply::Refused(Refusal::Stale)));
    assert_eq!(rig.answer_of(3), Some(&Reply::Refused(Refusal::NoLeader)));
}

#[test]
fn a_linearizable_read_waits_for_a_majority_as_long_as_its_caller_says() {
    let (mut rig, leader) = Rig::led(&[1, 2, 3]);
    let read = |timeout_ms| Request::Read {
        level: ReadLevel::Linearizable { timeout_ms },
        sql: b"q".to_vec(),
    };
    rig.cut.extend((1..=3).filter(|id| *id != leader));
    rig.ask(leader, 1, read(Some(200)));
    rig.ask(leader, 2, read(None));
    rig.ask(leader, 3, read(Some(15_000)));
    rig.run(250);
    let refused = |rig: &Rig, request| matches!(rig.answer_of(request), Some(Reply::Refused(_)));
    assert_eq!([1, 2, 3].map(|request| refused(&rig, request)), [true, false, false]);
    rig.run(10_000);
    assert_eq!([2, 3].map(|request| refused(&rig, request)), [true, false]);
    rig.cut.clear();
    rig.run(3_000);
    assert!(matches!(rig.answer_of(3), Some(Reply::Done { .. })), "it came in time");
}

#[test]
fn the_agents_own_read_waits_where_it_is_to_until_all_is_applied_here() {
    let (mut rig, leader) = Rig::led(&[1, 2, 3]);
    let (behind, own) = (other(leader), |level| Request::Read { level, sql: b"q".to_vec() });
    rig.cut.push(behind);
    rig.ask(leader, 1, write("a"));
    rig.run(300);
    let applied = rig.nodes[&leader].applied().index;
    rig.ask(behind, 2, own(ReadLevel::Own));
    rig.ask(behind, 3, own(ReadLevel::OwnLinearizable));
    rig.run(300);
    let index = |rig: &Rig, request| match rig.answer_of(request) {
        Some(Reply::Done { index, .. }) => Some(*index),
        _ => None,
    };
    assert!(index(&rig, 2).is_some_and(|index| index < applied), "as it has it");
    assert_eq!(index(&rig, 3), None, "nobody says what is committed");
    rig.cut.clear();
    rig.run(3_000);
    assert!(index(&rig, 3).is_some_and(|index| index >= applied));
}

#[test]
fn a_group_takes_up_another_timing_while_it_works() {
    let (mut rig, leader) = Rig::led(&[1, 2, 3]);
    for timing in [Timing::RADIO, Timing::WIRED, Timing::WIFI] {
        for node in rig.nodes.values_mut() {
            node.set_timing(rig.now, timing);
        }
        rig.run(Timing::RADIO.election_ms_max() + 3 * timing.election_ms_max());
        assert_eq!(rig.leader(), Some(leader), "nobody campaigns");
        let follower = other(leader);
        let request = timing.tick_ms;
        rig.ask(follower, request, write("a"));
        rig.run(timing.forward_retry_ms);
        assert!(matches!(rig.answer_of(request), Some(Reply::Done { .. })));
    }
    rig.cut.push(leader);
    rig.run(Timing::WIFI.election_ms_min() / 2);
    assert!([1, 2, 3].iter().all(|id| *id == leader || !rig.nodes[id].leads()), "not before time");
    rig.run(2 * Timing::WIFI.election_ms_max());
    assert!([1, 2, 3].iter().any(|id| *id != leader && rig.nodes[id].leads()));
}

fn at_most_old(ms: u64) -> Request {
    let level = ReadLevel::None { freshness_ms: Some(ms) };
    Request::Read { level, sql: b"q".to_vec() }
}

#[test]
fn a_leader_that_has_not_applied_what_it_committed_is_as_old_as_its_rows() {
    let (mut rig, leader) = Rig::led(&[1, 2, 3]);
    rig.run(1_000);
    rig.ask(leader, 1, at_most_old(200));
    assert!(matches!(rig.answer_of(1), Some(Reply::Done { .. })));
    rig.idle.push(leader);
    rig.ask(leader, 2, write("a"));
    rig.run(1_000);
    rig.ask(leader, 3, at_most_old(200));
    assert_eq!(rig.answer_of(3), Some(&Reply::Refused(Refusal::Stale)));
    rig.ask(other(leader), 4, at_most_old(200));
    assert!(matches!(rig.answer_of(4), Some(Reply::Done { .. })));
}

#[test]
fn a_new_leader_does_not_know_yet_what_is_committed() {
    let mut rig = Rig::new(&[1, 2, 3]);
    rig.cut = Vec::from([1, 2, 3]);
    rig.run(1_000);
    for pre in [true, false] {
        let (term, refused, commit, commit_term) = (1, false, 0, 0);
        let answer = RaftFrame::VoteAnswer { pre, term, refused, commit, commit_term, quiet_ms: 0 };
        rig.hear(2, 3, &Frame::Raft(answer));
    }
    assert!(rig.nodes[&2].leads());
    rig.ask(2, 1, at_most_old(1_000));
    assert_eq!(rig.answer_of(1), Some(&Reply::Refused(Refusal::Stale)));
}

#[test]
fn a_late_heartbeat_makes_nothing_fresh() {
    let (mut rig, first) = Rig::led(&[1, 2, 3]);
    rig.cut.push(first);
    rig.run(2_000);
    rig.cut.clear();
    rig.run(1_000);
    let leader = rig.leader().expect("the others elect");
    let follower = other(leader);
    rig.ask(leader, 1, write("a"));
    rig.run(200);
    let status = rig.nodes[&leader].status(rig.now);
    let (term, committed) = (status.term, status.commit_index);
    rig.cut.push(follower);
    rig.run(300);
    for (request, term, committed) in [(2, term - 1, committed), (3, term, committed - 1)] {
        let heartbeat = RaftFrame::Heartbeat { term, commit: 0, context: None, committed };
        rig.hear(follower, leader, &Frame::Raft(heartbeat));
        rig.ask(follower, request, at_most_old(250));
        assert_eq!(rig.answer_of(request), Some(&Reply::Refused(Refusal::Stale)));
    }
    rig.ask(follower, 4, at_most_old(500));
    assert!(matches!(rig.answer_of(4), Some(Reply::Done { .. })));
}

/// A board that was cut off for a while, hears this of another, and is to read.
fn hears_after_silence(node: u64, rig: &mut Rig, from: u64, frame: &Frame) -> bool {
    rig.cut.push(node);
    rig.run(300);
    rig.hear(node, from, frame);
    rig.ask(node, 9, at_most_old(250));
    matches!(rig.answer_of(9), Some(Reply::Done { .. }))
}

#[test]
fn a_new_leaders_word_does_not_make_its_followers_fresh_before_it_has_committed() {
    let (mut rig, leader) = Rig::led(&[1, 2, 3]);
    let (follower, successor) = (other(leader), other(other(leader)));
    rig.ask(leader, 1, write("a"));
    rig.run(500);
    let status = rig.nodes[&follower].status(rig.now);
    let (term, committed) = (status.term + 1, status.commit_index);
    rig.cut.push(follower);
    rig.ask(leader, 2, write("b"));
    assert!(matches!(rig.answer_of(2), Some(Reply::Done { .. })), "by the two others");
    let frame = Frame::Raft(RaftFrame::Heartbeat { term, commit: 0, context: None, committed });
    assert!(!hears_after_silence(follower, &mut rig, successor, &frame));
}

#[test]
fn a_word_that_names_no_term_does_not_make_a_leader_fresh() {
    let (mut rig, leader) = Rig::led(&[1, 2, 3]);
    let frame = Frame::PromiseAsk { boot: 1 };
    assert!(!hears_after_silence(leader, &mut rig, other(leader), &frame));
    assert!(rig.nodes[&leader].leads(), "it has not noticed yet");
}

#[test]
fn an_append_in_fragments_may_be_old_and_makes_nothing_fresh() {
    for (bytes, fresh) in [(100, true), (2_000, false)] {
        let (mut rig, leader) = Rig::led(&[1, 2, 3]);
        rig.ask(leader, 1, write(&"a".repeat(bytes)));
        rig.run(500);
        let last = rig.journals[&leader].last().expect("it wrote").clone();
        let (index, term) = (last.index - 1, last.term);
        let entries = Vec::from([FrameEntry { term, kind: last.kind, data: last.data }]);
        let commit = last.index;
        let frame = RaftFrame::Append { term, index, log_term: term, commit, entries };
        let frame = Frame::Raft(frame);
        assert_eq!(hears_after_silence(other(leader), &mut rig, leader, &frame), fresh);
    }
}

#[test]
fn a_read_that_had_to_wait_is_as_fresh_when_it_is_run() {
    let (mut rig, leader) = Rig::led(&[1, 2, 3]);
    let follower = other(leader);
    rig.ask(leader, 1, write("a"));
    rig.run(500);
    rig.idle.push(follower);
    let applied = crate::event::Position::default();
    rig.event(follower, Event::DatabaseReset { applied, ended_by: None });
    rig.ask(follower, 2, at_most_old(500));
    rig.ask(follower, 3, at_most_old(50_000));
    rig.cut.push(follower);
    rig.run(1_000);
    assert_eq!(rig.answer_of(2), None, "the rows are not back yet");
    rig.idle.clear();
    rig.event(follower, Event::DatabaseReset { applied, ended_by: None });
    assert_eq!(rig.answer_of(2), Some(&Reply::Refused(Refusal::Stale)));
    assert!(matches!(rig.answer_of(3), Some(Reply::Done { .. })));
}

#[test]
fn a_caller_is_answered_when_its_board_shows_what_it_wrote() {
    let (mut rig, leader) = Rig::led(&[1, 2, 3]);
    let follower = other(leader);
    rig.ask(leader, 9, write("before"));
    rig.run(300);
    rig.cut.push(follower);
    for request in [1, 2] {
        rig.ask(follower, request, write("own"));
    }
    let index = rig.nodes[&leader].applied().index + 1;
    for (sequence, index) in [(1, index), (2, 99)] {
        let reply = Reply::Done { index, answer: Vec::new() };
        let session = Session::new(1, 0);
        rig.hear(follower, leader, &Frame::Answer { session, sequence, reply });
    }
    assert_eq!(rig.answer_of(1), None, "what it wrote is not here yet");
    rig.cut.clear();
    rig.ask(leader, 3, write("more"));
    rig.run(100);
    assert_eq!(rig.answer_of(1), Some(&Reply::Done { index, answer: Vec::new() }));
    assert_eq!(rig.answer_of(2), None);
    rig.run(Timing::WIRED.forward_retry_ms);
    let late = Reply::Done { index: 99, answer: Vec::new() };
    assert_eq!(rig.answer_of(2), Some(&late), "it is done in any case");
}

#[test]
fn a_database_that_fell_back_is_not_read_before_it_is_where_callers_saw_it() {
    let (mut rig, leader) = Rig::led(&[1, 2, 3]);
    rig.ask(leader, 1, write("a"));
    rig.run(300);
    let applied = rig.nodes[&leader].applied();
    rig.idle.push(leader);
    rig.ask(leader, 2, write("b"));
    assert!(matches!(rig.answer_of(2), Some(Reply::Done { .. })), "it is on its way");
    rig.event(leader, Event::DatabaseHeld(true));
    rig.idle.clear();
    rig.event(leader, Event::DatabaseReset { applied, ended_by: None });
    let level = ReadLevel::None { freshness_ms: None };
    rig.ask(leader, 3, Request::Read { level, sql: Vec::new() });
    assert_eq!(rig.answer_of(3), None, "the rows are not back yet");
    rig.event(leader, Event::DatabaseHeld(false));
    assert!(matches!(rig.answer_of(3), Some(Reply::Done { .. })));
}

#[test]
fn a_board_without_room_gets_no_entries_until_it_has() {
    let (mut rig, leader) = Rig::led(&[1, 2, 3]);
    let follower = other(leader);
    rig.event(follower, Event::DatabaseHeld(true));
    for request in 1..=8 {
        rig.ask(leader, request, Request::Write(alloc::vec![7; 4 << 20]));
        rig.run(1_000);
    }
    let sent = |rig: &Rig| rig.nodes[&leader].links.counters().fragments_sent;
    let before = sent(&rig);
    rig.run(5_000);
    assert_eq!(sent(&rig), before, "nothing that it would turn away");
    rig.event(follower, Event::DatabaseHeld(false));
    rig.run(4_000);
    assert_eq!(rig.nodes[&follower].applied(), rig.nodes[&leader].applied());
}

#[test]
fn a_read_without_an_answer_says_why_and_never_speaks_of_a_change() {
    let (mut rig, leader) = Rig::led(&[1, 2, 3]);
    let read = |level| Request::Read { level, sql: b"q".to_vec() };
    rig.cut.push(leader);
    // The barrier of the first is proposed and never committed by this leader.
    rig.ask(leader, 1, read(ReadLevel::Strong));
    rig.run(3_000);
    for (request, level) in (2..).zip([
        ReadLevel::Weak,
        ReadLevel::Linearizable { timeout_ms: None },
        ReadLevel::Strong,
    ]) {
        rig.ask(leader, request, read(level));
    }
    rig.run(11_000);
    for request in 1..=4 {
        let answer = rig.answer_of(request);
        assert_eq!(answer, Some(&Reply::Refused(Refusal::NoLeader)), "request {request}");
    }
}

#[test]
fn when_the_leader_is_gone_another_leads_and_the_old_one_steps_down() {
    let (mut rig, leader) = Rig::led(&[1, 2, 3]);
    rig.cut.push(leader);
    rig.run(2_000);
    let next = rig.leader().expect("the others elect");
    assert_ne!(next, leader);
    assert!(!rig.nodes[&leader].leads(), "a leader without its majority steps down");
    rig.ask(next, 1, write("n"));
    rig.cut.clear();
    rig.run(1_000);
    assert_eq!(rig.journals[&leader], rig.journals[&next]);
    assert!(matches!(rig.answer_of(1), Some(Reply::Done { .. })));
}

#[test]
fn a_write_proposed_by_a_deposed_leader_is_answered_by_what_was_applied_in_its_place() {
    let (mut rig, leader) = Rig::led(&[1, 2, 3]);
    rig.cut.push(leader);
    rig.ask(leader, 1, write("lost"));
    rig.run(2_000);
    let next = rig.leader().expect("the others elect");
    rig.ask(next, 2, write("kept"));
    rig.cut.clear();
    rig.run(1_000);
    assert_eq!(rig.answer_of(1), Some(&Reply::Refused(Refusal::LeadershipLost)));
    assert!(matches!(rig.answer_of(2), Some(Reply::Done { .. })));
}

#[test]
fn heartbeats_and_their_answers_do_not_wait_for_a_disk() {
    let (mut rig, leader) = Rig::led(&[1, 2, 3]);
    rig.stalled = [1, 2, 3].into_iter().filter(|id| *id != leader).collect();
    rig.ask(leader, 1, write("slow"));
    rig.run(5_000);
    assert_eq!(rig.leader(), Some(leader), "stalled disks cost no leadership");
    assert_eq!(rig.answer_of(1), None, "and acknowledge nothing");
}

#[test]
fn a_board_far_behind_catches_up_from_the_journal() {
    let (mut rig, leader) = Rig::led(&[1, 2, 3]);
    let follower = other(leader);
    rig.cut.push(follower);
    for request in 1..=40 {
        rig.ask(leader, request, Request::Write(Vec::from([7; 20_000])));
    }
    rig.cut.clear();
    rig.run(5_000);
    let leader = rig.leader().unwrap();
    let (behind, all) = (&rig.journals[&follower], &rig.journals[&leader]);
    assert!(behind == all, "{} of {} entries", behind.len(), all.len());
}

#[test]
fn a_restarted_board_goes_on_from_its_journal() {
    let (mut rig, leader) = Rig::led(&[1, 2, 3]);
    rig.ask(leader, 1, write("a"));
    rig.restart(leader, 2, &[1, 2, 3]);
    rig.run(2_000);
    let next = rig.leader().unwrap();
    rig.ask(next, 2, write("b"));
    rig.run(500);
    assert!(matches!(rig.answer_of(2), Some(Reply::Done { .. })));
    assert_eq!(rig.journals[&leader], rig.journals[&next]);
}

#[test]
fn a_name_that_is_taken_is_refused() {
    let (mut rig, leader) = Rig::led(&[1, 2, 3]);
    rig.ask(leader, 1, Request::Rename { id: 1, name: "board-2".into() });
    rig.ask(leader, 2, Request::Rename { id: 1, name: "pump".into() });
    rig.run(500);
    assert!(matches!(rig.answer_of(1), Some(Reply::Refused(Refusal::Invalid(_)))));
    assert_eq!(rig.nodes[&2].membership().members[0].name, "pump");
}

#[test]
fn a_board_that_stops_hands_leadership_over() {
    let (mut rig, leader) = Rig::led(&[1, 2, 3]);
    rig.event(leader, Event::Stopping);
    rig.run(200);
    assert_ne!(rig.leader(), Some(leader));
    assert!(rig.leader().is_some());
}

#[test]
fn a_full_disk_refuses_writes_and_hands_leadership_over() {
    let (mut rig, leader) = Rig::led(&[1, 2, 3]);
    rig.event(leader, Event::DiskFull(true));
    rig.ask(leader, 1, write("x"));
    assert_eq!(rig.answer_of(1), Some(&Reply::Refused(Refusal::DiskFull)));
    rig.run(500);
    assert!(rig.leader().is_some_and(|next| next != leader));
}

#[test]
fn a_held_database_applies_nothing_and_hands_leadership_over() {
    let (mut rig, leader) = Rig::led(&[1, 2, 3]);
    rig.event(leader, Event::DatabaseHeld(true));
    rig.ask(leader, 1, write("x"));
    assert_eq!(rig.answer_of(1), Some(&Reply::Refused(Refusal::DatabaseHeld)));
    rig.run(500);
    let next = rig.leader().unwrap();
    assert_ne!(next, leader);
    let before = rig.nodes[&leader].status(rig.now).applied;
    rig.ask(next, 2, write("y"));
    rig.run(500);
    assert!(matches!(rig.answer_of(2), Some(Reply::Done { .. })));
    let held = rig.nodes[&leader].status(rig.now);
    assert_eq!(held.applied, before);
    assert!(held.last_index > before.index, "its journal goes on");
    rig.event(leader, Event::DatabaseHeld(false));
    rig.run(200);
    let after = rig.nodes[&leader].status(rig.now);
    assert_eq!(after.applied, rig.nodes[&next].status(rig.now).applied);
}

#[test]
fn when_the_database_falls_back_it_is_brought_forward_before_anyone_reads() {
    let (mut rig, leader) = Rig::led(&[1, 2, 3]);
    for request in 1..=20 {
        rig.ask(leader, request, Request::Write(Vec::from([7; 50_000])));
        rig.run(20);
    }
    let applied = rig.nodes[&leader].status(rig.now).applied;
    let back = crate::event::Position { term: applied.term, index: 3 };
    rig.event(leader, Event::DatabaseReset { applied: back, ended_by: None });
    assert_eq!(rig.nodes[&leader].status(rig.now).applied, applied);
    rig.ask(leader, 99, write("after"));
    assert!(matches!(rig.answer_of(99), Some(Reply::Done { .. })));
}

#[test]
fn a_board_whose_peers_remember_more_than_its_disk_never_votes_again() {
    let (mut rig, leader) = Rig::led(&[1, 2, 3]);
    rig.ask(leader, 1, write("a"));
    rig.ask(leader, 2, write("b"));
    let victim = other(leader);
    rig.journals.insert(victim, Vec::new());
    rig.hard_states.insert(victim, crate::event::HardState::default());
    rig.restart(victim, 2, &[1, 2, 3]);
    rig.run(2_000);
    assert!(rig.nodes[&victim].status(rig.now).disk_lost);
}

/// Power goes in a group of three; one does not come back, and the others start.
fn two_of_three() -> (Rig, [u64; 3]) {
    let (mut rig, absent) = Rig::led(&[1, 2, 3]);
    rig.ask(absent, 1, write("a"));
    rig.run(300);
    let here = other(absent);
    let there = 6 - absent - here;
    rig.cut.push(absent);
    rig.restart(here, 2, &[1, 2, 3]);
    rig.restart(there, 2, &[1, 2, 3]);
    (rig, [here, there, absent])
}

#[test]
fn a_board_that_goes_on_unconfirmed_has_written_so_before_it_says_anything() {
    let (mut rig, [here, there, absent]) = two_of_three();
    rig.stalled.extend([here, there]);
    rig.run(20_000);
    assert_eq!(rig.leader(), None);
    for node in [here, there] {
        let status = rig.nodes[&node].status(rig.now);
        assert!(status.confirming_disk && status.role == Role::Follower, "{status:?}");
    }
    let (mut rig, [..]) = two_of_three();
    rig.run(7_000);
    assert!(rig.leader().is_some());
    for node in [here, there] {
        let Trust::Unconfirmed(peers) = &rig.trusts[&node] else { panic!("it is written") };
        let held = peers.iter().find(|(peer, _)| *peer == absent).unwrap().1;
        assert_eq!(held.last_index, 2);
        assert_eq!(rig.nodes[&node].status(rig.now).unconfirmed_by, [absent]);
    }
}

#[test]
fn boards_that_went_on_unconfirmed_are_confirmed_by_whoever_comes_back() {
    let (mut rig, [here, there, absent]) = two_of_three();
    rig.run(7_000);
    let leader = rig.leader().unwrap();
    rig.ask(leader, 2, write("b"));
    rig.run(300);
    assert!(matches!(rig.answer_of(2), Some(Reply::Done { .. })));
    // Its memory of them, and theirs of it, are as old as its absence.
    rig.cut.clear();
    rig.restart(here, 3, &[1, 2, 3]);
    rig.run(3_000);
    for node in [here, there, absent] {
        let status = rig.nodes[&node].status(rig.now);
        assert!(!status.disk_lost && !status.confirming_disk, "{node}: {status:?}");
        assert!(status.unconfirmed_by.is_empty(), "{node}: {status:?}");
    }
    assert_eq!([&rig.trusts[&here], &rig.trusts[&there]], [&Trust::Confirmed; 2]);
    rig.ask(absent, 3, write("c"));
    rig.run(500);
    assert!(matches!(rig.answer_of(3), Some(Reply::Done { .. })));
}

#[test]
fn a_lost_tail_is_found_though_its_board_has_voted_meanwhile() {
    let (mut rig, absent) = Rig::led(&[1, 2, 3]);
    let here = other(absent);
    let there = 6 - absent - here;
    rig.cut.push(there);
    rig.ask(absent, 1, write("acknowledged by two"));
    rig.run(100);
    assert!(matches!(rig.answer_of(1), Some(Reply::Done { .. })));
    rig.cut = Vec::from([absent]);
    rig.journals.get_mut(&here).unwrap().truncate(1);
    rig.restart(here, 2, &[1, 2, 3]);
    rig.run(8_000);
    assert!(rig.leader().is_some(), "nobody is there who knows better");
    rig.cut.clear();
    rig.run(1_000);
    assert!(rig.nodes[&here].status(rig.now).disk_lost);
    assert!(!rig.nodes[&here].leads());
    assert_eq!(rig.trusts[&here], Trust::Lost);
    rig.cut.extend([there, absent]);
    rig.restart(here, 3, &[1, 2, 3]);
    rig.run(10_000);
    assert!(rig.nodes[&here].status(rig.now).disk_lost, "for good");
}

#[test]
fn a_leader_that_lost_its_last_entry_unseen_elects_nobody_who_lacks_it() {
    let (mut rig, leader) = Rig::led(&[1, 2, 3]);
    let (holds, lacks) = (other(leader), 6 - leader - other(leader));
    rig.cut.push(lacks);
    rig.ask(leader, 1, write("acknowledged by two"));
    rig.run(100);
    assert!(matches!(rig.answer_of(1), Some(Reply::Done { .. })));
    rig.cut.clear();
    rig.journals.get_mut(&leader).unwrap().truncate(1);
    rig.restart(leader, 2, &[1, 2, 3]);
    rig.cut.push(holds);
    rig.run(10_000);
    assert!(!rig.nodes[&leader].status(rig.now).disk_lost);
    assert_eq!(rig.leader(), None, "two of three, but neither has it");
    rig.cut.clear();
    rig.run(4_000);
    assert!(rig.leader().is_some());
    let kept = |journal: &Vec<Entry>| journal.iter().any(|entry| entry.data.ends_with(b"by two"));
    assert!(rig.journals.values().all(kept));
}

#[test]
fn a_board_whose_database_is_ahead_of_its_journal_is_read_and_does_nothing_else() {
    let (mut rig, leader) = Rig::led(&[1, 2, 3]);
    rig.ask(leader, 1, write("a"));
    rig.run(200);
    let victim = other(leader);
    let applied = rig.nodes[&victim].status(rig.now).applied;
    assert_eq!(applied.index, 2);
    rig.journals.get_mut(&victim).unwrap().truncate(1);
    rig.restart_lost(victim, applied, &[1, 2, 3]);
    rig.cut.push(leader);
    rig.run(3_000);
    assert_eq!(rig.leader(), None, "it grants nobody its vote");
    assert!(rig.nodes[&victim].status(rig.now).disk_lost);
    assert_eq!(rig.journals[&victim].len(), 1, "and takes no entries");
    rig.ask(
        victim,
        2,
        Request::Read { level: ReadLevel::None { freshness_ms: None }, sql: b"q".to_vec() },
    );
    assert!(matches!(rig.answer_of(2), Some(Reply::Done { .. })));
}

/// What a peer sends cannot panic raft-rs: each of these would, in 0.7.0.
#[test]
fn implausible_messages_are_counted_and_dropped() {
    let (mut rig, leader) = Rig::led(&[1, 2, 3]);
    rig.ask(leader, 1, write("a"));
    rig.run(300);
    let victim = other(leader);
    let status = rig.nodes[&victim].status(rig.now);
    let (term, last) = (status.term, status.last_index);
    let conflict = FrameEntry { term: term + 1, kind: EntryKind::Change, data: Vec::new() };
    let stray = FrameEntry { term: 1, kind: EntryKind::Membership, data: Vec::from([9]) };
    let bad = [
        RaftFrame::Heartbeat { term, commit: last + 9, context: None, committed: last + 9 },
        RaftFrame::Heartbeat { term: u64::MAX, commit: 0, context: None, committed: 0 },
        RaftFrame::Append {
            term: term + 1,
            index: 0,
            log_term: 0,
            commit: 0,
            entries: Vec::from([conflict]),
        },
        RaftFrame::Append {
            term,
            index: last,
            log_term: term,
            commit: 0,
            entries: Vec::from([stray]),
        },
        RaftFrame::Append {
            term,
            index: u64::MAX - 1,
            log_term: 1,
            commit: 0,
            entries: Vec::new(),
        },
    ];
    let count = (bad.len() + without_term().len()) as u64;
    for frame in bad.into_iter().chain(without_term()) {
        rig.hear(victim, leader, &Frame::Raft(frame));
    }
    let dropped = rig.nodes[&victim].status(rig.now).dropped;
    assert_eq!(dropped.values().sum::<u64>(), count, "{dropped:?}");
    let answer = RaftFrame::AppendAnswer { term, index: 1 << 40, commit: 0, refused: None };
    rig.hear(leader, victim, &Frame::Raft(answer));
    assert_eq!(rig.nodes[&leader].status(rig.now).dropped[&Rejection::Implausible], 1);
    let ask = RaftFrame::ReadAsk { context: read_context(leader, 1, 1) };
    rig.hear(leader, victim, &Frame::Raft(ask));
    assert_eq!(rig.nodes[&leader].status(rig.now).dropped[&Rejection::Implausible], 2);
    rig.ask(leader, 2, write("b"));
    assert!(matches!(rig.answer_of(2), Some(Reply::Done { .. })));
}

/// Term 0 is raft-rs's mark of a local message.
fn without_term() -> Vec<RaftFrame> {
    let (term, index) = (0, 1 << 40);
    let vote = |pre| RaftFrame::VoteAsk {
        pre,
        term,
        index,
        log_term: 9,
        commit: 0,
        commit_term: 0,
        transfer: false,
    };
    let answer = |pre| RaftFrame::VoteAnswer {
        pre,
        term,
        refused: false,
        commit: 0,
        commit_term: 0,
        quiet_ms: 0,
    };
    Vec::from([
        vote(true),
        vote(false),
        answer(true),
        answer(false),
        RaftFrame::AppendAnswer { term, index, commit: 0, refused: None },
        RaftFrame::HeartbeatAnswer { term, commit: 0, context: None, has_room: true },
        RaftFrame::Heartbeat { term, commit: 0, context: None, committed: 0 },
        RaftFrame::TimeoutNow { term },
        RaftFrame::ReadAnswer { term, index, context: read_context(1, 1, 1) },
    ])
}

/// Counters as a peer might choose them, around what the node holds.
fn counter() -> impl Strategy<Value = u64> {
    prop_oneof![8 => 0_u64..8, 1 => Just(1 << 40), 1 => Just(COUNTER_MAX - 1), 1 => any::<u64>()]
}

fn raft_frame() -> impl Strategy<Value = RaftFrame> {
    let context = || (0_u64..4).prop_map(|node| read_context(node, 1, 1));
    let entry = (counter(), any::<bool>()).prop_map(|(term, is_change)| FrameEntry {
        term,
        kind: if is_change { EntryKind::Change } else { EntryKind::Membership },
        data: Vec::new(),
    });
    let numbers = || [counter(), counter(), counter(), counter(), counter()];
    prop_oneof![
        (numbers(), proptest::collection::vec(entry, 0..4)).prop_map(
            |([term, index, log_term, commit, _], entries)| RaftFrame::Append {
                term,
                index,
                log_term,
                commit,
                entries
            }
        ),
        (numbers(), any::<bool>()).prop_map(|([term, index, commit, hint, hint_term], refused)| {
            let refused = refused.then_some((hint, hint_term));
            RaftFrame::AppendAnswer { term, index, commit, refused }
        }),
        (numbers(), proptest::option::of(context())).prop_map(
            |([term, commit, committed, ..], context)| RaftFrame::Heartbeat {
                term,
                commit,
                context,
                committed
            }
        ),
        (numbers(), proptest::option::of(context()), any::<bool>()).prop_map(
            |([term, commit, ..], context, has_room)| RaftFrame::HeartbeatAnswer {
                term,
                commit,
                context,
                has_room
            }
        ),
        (numbers(), any::<bool>(), any::<bool>()).prop_map(
            |([term, index, log_term, commit, commit_term], pre, transfer)| RaftFrame::VoteAsk {
                pre,
                term,
                index,
                log_term,
                commit,
                commit_term,
                transfer
            }
        ),
        (numbers(), any::<bool>(), any::<bool>()).prop_map(
            |([term, commit, commit_term, ..], pre, refused)| RaftFrame::VoteAnswer {
                pre,
                term,
                refused,
                commit,
                commit_term,
                quiet_ms: commit,
            }
        ),
        counter().prop_map(|term| RaftFrame::TimeoutNow { term }),
        (0_u64..4).prop_map(|node| RaftFrame::ReadAsk { context: read_context(node, 1, 1) }),
        (counter(), counter(), context())
            .prop_map(|(term, index, context)| { RaftFrame::ReadAnswer { term, index, context } }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Whatever members say, true or not, no node ends of it.
    #[test]
    fn no_sequence_of_frames_ends_a_node(
        settled in any::<bool>(),
        said in proptest::collection::vec((1_u64..4, 1_u64..4, 0_u64..3, raft_frame()), 1..60),
    ) {
        let mut rig = Rig::new(&[1, 2, 3]);
        if settled {
            rig.run(1_000);
        }
        for (to, from, steps, frame) in said {
            rig.hear(to, from, &Frame::Raft(frame));
            rig.run(steps * 200);
        }
    }
}

fn sees(rig: &Rig, id: u64) -> alloc::collections::BTreeMap<u64, Option<bool>> {
    let peers = rig.nodes[&id].status(rig.now).peers;
    peers.into_iter().map(|(id, peer)| (id, peer.reachable)).collect()
}

#[test]
fn a_follower_learns_from_the_leader_who_is_there_and_where_its_http_is() {
    let mut rig = Rig::new(&[1, 2, 3]);
    for (id, node) in &mut rig.nodes {
        node.set_presence(alloc::format!("http://{id}"));
    }
    rig.run(22_000);
    let leader = rig.leader().expect("a connected group elects a leader");
    let (follower, third) = (other(leader), other(other(leader)));
    assert!(sees(&rig, follower).values().all(|there| *there == Some(true)));
    assert_eq!(
        rig.nodes[&follower].status(rig.now).peers[&third].http,
        alloc::format!("http://{third}")
    );
    rig.cut.push(third);
    rig.run(2_000);
    assert_eq!(sees(&rig, follower)[&third], Some(false));
    rig.cut.clear();
    rig.run(1_000);
    assert_eq!(sees(&rig, follower)[&third], Some(true));
}

#[test]
fn what_a_board_cannot_know_it_does_not_claim() {
    let (mut rig, leader) = Rig::led(&[1, 2, 3]);
    let (follower, third) = (other(leader), other(other(leader)));
    rig.cut = [leader, third].to_vec();
    rig.restart(follower, 2, &[1, 2, 3]);
    rig.run(1_000);
    assert_eq!(sees(&rig, follower)[&third], None);
    rig.run(3_000);
    assert_eq!(sees(&rig, follower)[&third], Some(false));
    let status = rig.nodes[&follower].status(rig.now);
    assert!(status.leaderless_ms > Some(status.leaderless_ms_max));
}

#[test]
fn only_the_leaders_word_on_the_others_is_taken() {
    let (mut rig, leader) = Rig::led(&[1, 2, 3]);
    let (follower, third) = (other(leader), other(other(leader)));
    let say = |rig: &mut Rig, from, term, others| {
        rig.hear(follower, from, &Frame::Others { term, others });
    };
    let term = rig.nodes[&leader].status(rig.now).term;
    let word = |http: &str| Other { id: third, heard: false, http: http.into() };
    say(&mut rig, third, term, [word("x")].to_vec());
    say(&mut rig, leader, term - 1, [word("x")].to_vec());
    assert_eq!(rig.nodes[&follower].status(rig.now).peers[&third].http, "");
    say(&mut rig, leader, term, [word("a\nb")].to_vec());
    say(&mut rig, leader, term, alloc::vec![word("x"); crate::limits::MEMBERS_MAX + 1]);
    assert_eq!(rig.nodes[&follower].status(rig.now).dropped[&Rejection::Malformed], 2);
    let stranger = Other { id: 99, ..word("y") };
    say(&mut rig, leader, term, [word("x"), stranger].to_vec());
    let peers = rig.nodes[&follower].status(rig.now).peers;
    assert_eq!(peers[&third].http, "x");
    assert!(!peers.contains_key(&99));
}

#[test]
fn the_leaders_word_goes_out_when_it_changes_and_else_every_few_seconds() {
    let (mut rig, leader) = Rig::led(&[1, 2, 3]);
    rig.run(1_000);
    let follower = other(leader);
    let mut told = 0;
    for _ in 0..2_000 {
        rig.now = rig.now.plus(10);
        let node = rig.nodes.get_mut(&leader).expect("it is there");
        // Nobody answers, so nothing else is under way; the peers stay heard.
        for peer in [1, 2, 3].into_iter().filter(|id| *id != leader) {
            node.heard.insert(peer, rig.now);
        }
        node.raw.raft.election_elapsed = 0;
        for effect in node.handle(rig.now, Event::Tick) {
            let crate::event::Effect::Send { to, payload } = effect else { continue };
            let mut links = crate::link::Links::new(1);
            let frames = links.receive(rig.now, leader, &payload, &mut Vec::new());
            let frames = frames.expect("whole frames");
            let word = |frame: &Vec<u8>| matches!(Frame::decode(frame), Ok(Frame::Others { .. }));
            told += usize::from(to == follower && frames.iter().any(word));
        }
    }
    assert_eq!(told, 20_000 / 50 / 100);
}
