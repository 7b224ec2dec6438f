//! Two boards and a network that does what it likes.

use proptest::prelude::*;
use understudy_core::member::Candidate;

use super::{
    peer::{CALLS_OPEN_MAX, GREET_MS, NEXT_MAX, SILENT_MS, SIMULTANEOUS_MS, WORD_MS},
    *,
};

fn group_key(number: u32) -> GroupKey {
    GroupKey { number, key: [7 + u8::try_from(number).unwrap(); 32] }
}

fn keys(private: u8) -> Keys {
    Keys::of_one([1; 16], group_key(0), [private; 32])
}

fn member(id: NodeId, private: u8) -> Member {
    let key = public_key(&[private; 32]);
    Member { id, name: format!("b{id}"), key, addresses: Vec::new(), voter: true }
}

fn address(id: NodeId) -> Address {
    let port = u16::try_from(4_000 + id).unwrap();
    Address::Udp(([127, 0, 0, 1], port).into())
}

/// The planted bug that this run is to find.
#[cfg(mutants)]
fn choose_mutant() {
    let number = std::env::var("MUTANT").ok().and_then(|number| number.parse().ok());
    mutant::choose(number.unwrap_or(0));
}

fn pair() -> (Seal, Seal) {
    #[cfg(mutants)]
    choose_mutant();
    let members = [member(1, 11), member(2, 22)];
    let (mut a, mut b) = (Seal::new(keys(11), 1, 100), Seal::new(keys(22), 1, 200));
    a.set_members(Millis(0), &members);
    b.set_members(Millis(0), &members);
    (a, b)
}

/// Carries datagrams to and fro until nothing moves; returns what `b` and `a` got.
fn carry(a: &mut Seal, b: &mut Seal, now: Millis, mut out: Vec<Outgoing>) -> Vec<Vec<u8>> {
    let mut got = Vec::new();
    let mut to_b = true;
    while !out.is_empty() {
        let (end, from) = if to_b { (&mut *b, 1) } else { (&mut *a, 2) };
        let mut back = Vec::new();
        for outgoing in out {
            if let Opened::Payload { payload, .. } =
                end.open(now, &outgoing.datagram, address(from), &mut back)
            {
                got.push(payload);
            }
        }
        out = back;
        to_b = !to_b;
    }
    got
}

fn connected() -> (Seal, Seal) {
    let (mut a, mut b) = pair();
    let mut out = Vec::new();
    a.seal(Millis(0), 2, b"hello", &mut out);
    assert_eq!(carry(&mut a, &mut b, Millis(0), out), [b"hello".to_vec()]);
    (a, b)
}

fn one(from: &mut Seal, to: NodeId, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    from.seal(Millis(1), to, payload, &mut out);
    assert_eq!(out.len(), 1);
    out.remove(0).datagram
}

fn open(end: &mut Seal, datagram: &[u8]) -> Opened {
    end.open(Millis(1), datagram, address(9), &mut Vec::new())
}

#[test]
fn payloads_pass_both_ways_after_one_handshake() {
    let (mut a, mut b) = connected();
    let there = one(&mut a, 2, b"ping");
    assert_eq!(open(&mut b, &there), Opened::Payload { from: 1, payload: b"ping".to_vec() });
    let back = one(&mut b, 1, b"pong");
    assert_eq!(open(&mut a, &back), Opened::Payload { from: 2, payload: b"pong".to_vec() });
    assert!(there.len() <= 4 + understudy_core::limits::SEAL_BYTES);
}

#[test]
fn who_was_removed_is_heard_as_a_guest_only() {
    let (mut a, mut b) = connected();
    let datagram = one(&mut a, 2, b"ping");
    b.set_members(Millis(1), &[member(2, 22)]);
    b.set_removed([public_key(&keys(11).private_key)].into_iter());
    assert_eq!(open(&mut b, &datagram), Opened::Nothing);
    let mut again = Seal::new(keys(11), 2, 5);
    again.set_members(Millis(1), &[member(2, 22)]);
    let (mut out, mut back) = (Vec::new(), Vec::new());
    again.seal(Millis(1), 2, b"me", &mut out);
    assert_eq!(b.open(Millis(1), &out[0].datagram, address(1), &mut back), Opened::Nothing);
    assert_eq!((back.len(), b.drops()[&Drop::Removed]), (0, 1));
    let host = public_key(&keys(22).private_key);
    again.seal_guest(Millis(1), host, address(2), b"am I one of you?", &mut out);
    b.open(Millis(1), &out[1].datagram, address(1), &mut back);
    assert_eq!(back.len(), 1, "it is answered");
}

#[test]
fn the_largest_payload_fits_a_datagram() {
    let (mut a, mut b) = connected();
    let datagram = one(&mut a, 2, &[9; PAYLOAD_BYTES_MAX]);
    assert!(datagram.len() <= DATAGRAM_BYTES_MAX);
    assert!(matches!(open(&mut b, &datagram), Opened::Payload { .. }));
}

#[test]
fn replayed_forged_and_truncated_datagrams_are_dropped_and_counted() {
    let (mut a, mut b) = connected();
    let datagram = one(&mut a, 2, b"once");
    assert!(matches!(open(&mut b, &datagram), Opened::Payload { .. }));
    assert_eq!(open(&mut b, &datagram), Opened::Nothing);
    assert_eq!(b.drops()[&Drop::Replayed], 1);
    let fresh = one(&mut a, 2, b"twice");
    for at in 0..fresh.len() {
        let mut forged = fresh.clone();
        forged[at] ^= 1;
        assert_eq!(open(&mut b, &forged), Opened::Nothing, "byte {at}");
        assert_eq!(open(&mut b, &fresh[..at]), Opened::Nothing);
    }
    assert!(matches!(open(&mut b, &fresh), Opened::Payload { .. }), "the genuine one still counts");
}

#[test]
fn another_group_is_foreign_even_with_an_admitted_key() {
    let (_, mut b) = pair();
    let other_key = Keys::of_one([1; 16], group_key(1), [11; 32]);
    for keys in [Keys { group: [2; 16], ..keys(11) }, other_key] {
        let mut stranger = Seal::new(keys, 1, 5);
        stranger.set_members(Millis(0), &[member(2, 22)]);
        let mut out = Vec::new();
        stranger.seal(Millis(0), 2, b"let me in", &mut out);
        let mut back = Vec::new();
        let opened = b.open(Millis(0), &out[0].datagram, address(1), &mut back);
        assert_eq!((opened, back), (Opened::Nothing, Vec::new()));
    }
    assert_eq!((b.drops()[&Drop::Foreign], b.drops()[&Drop::Forged]), (1, 1));
}

#[test]
fn a_handshake_is_answered_once_however_often_it_comes_and_changes_nothing() {
    let (mut a, mut b) = pair();
    let mut out = Vec::new();
    a.seal(Millis(0), 2, b"hello", &mut out);
    let call = out[0].datagram.clone();
    let mut answer = Vec::new();
    b.open(Millis(0), &call, address(1), &mut answer);
    assert!(answer.len() == 1 && answer[0].datagram.len() <= call.len());
    for again in 0..100 {
        let mut back = Vec::new();
        assert_eq!(b.open(Millis(again), &call, address(7), &mut back), Opened::Nothing);
        assert_eq!(back, [], "one answer, to nobody else");
    }
    assert_eq!(b.drops()[&Drop::Replayed], 100);
    let mut confirmed = Vec::new();
    a.open(Millis(5), &answer[0].datagram, address(2), &mut confirmed);
    assert_eq!(carry(&mut a, &mut b, Millis(5), confirmed), [b"hello".to_vec()]);
}

#[test]
fn calls_recorded_before_a_restart_disturb_no_session_in_the_making() {
    let (mut a, _) = pair();
    let mut recorded = Vec::new();
    for round in 0..20 {
        a.seal(Millis(10_000 * round), 2, b"unheard", &mut recorded);
    }
    recorded.retain(|outgoing| outgoing.datagram[0] == CALL);
    assert_eq!(recorded.len(), 20, "each is a call of its own");
    let mut again = Seal::new(keys(11), 2, 700);
    let mut b = Seal::new(keys(22), 2, 900);
    for end in [&mut again, &mut b] {
        end.set_members(Millis(0), &[member(1, 11), member(2, 22)]);
    }
    let (mut call, mut answer) = (Vec::new(), Vec::new());
    again.seal(Millis(0), 2, b"genuine", &mut call);
    b.open(Millis(0), &call[0].datagram, address(1), &mut answer);
    let mut own = Vec::new();
    b.seal(Millis(0), 1, b"held", &mut own);
    let mut replies = Vec::new();
    for outgoing in &recorded {
        b.open(Millis(1), &outgoing.datagram, address(9), &mut replies);
        b.open(Millis(1), &outgoing.datagram, address(9), &mut replies);
    }
    assert_eq!(replies.len(), 20, "one answer each");
    let mut confirmed = Vec::new();
    again.open(Millis(2), &answer[0].datagram, address(2), &mut confirmed);
    assert_eq!(
        carry(&mut again, &mut b, Millis(2), confirmed),
        [b"genuine".to_vec(), b"held".to_vec()]
    );
    assert!(b.sessions.len() <= NEXT_MAX + CALLS_OPEN_MAX + 2, "{}", b.sessions.len());
}

#[test]
fn a_flood_without_the_groups_key_costs_nobody_its_answer() {
    let (mut a, mut b) = pair();
    let mut call = Vec::new();
    a.seal(Millis(0), 2, b"hello", &mut call);
    let call = &call[0].datagram;
    let question = Whose::new(&keys(11), [3; 8]).question();
    let mut elsewhere = Vec::new();
    a.set_members(Millis(0), &[member(1, 11), member(2, 22), member(3, 33)]);
    a.seal(Millis(0), 3, b"for another board", &mut elsewhere);
    for at in 0..1_000_usize {
        let mut forged = call.clone();
        let bytes = forged.len() - 9;
        forged[9 + at % bytes] ^= 1 + u8::try_from(at % 255).unwrap();
        for flood in [forged.as_slice(), &question, &elsewhere[0].datagram] {
            b.open(Millis(0), flood, address(9), &mut Vec::new());
        }
    }
    let mut answer = Vec::new();
    b.open(Millis(0), call, address(1), &mut answer);
    assert_eq!(answer.len(), 1, "{:?}", b.drops());
    assert_eq!(b.drops()[&Drop::Forged], 2_000);
}

#[test]
fn a_restarted_board_is_heard_again_and_its_old_datagrams_are_not() {
    let (mut a, mut b) = connected();
    let old = one(&mut a, 2, b"before");
    let mut again = Seal::new(keys(22), 2, 900);
    again.set_members(Millis(0), &[member(1, 11), member(2, 22)]);
    assert_eq!(open(&mut again, &old), Opened::Nothing);
    let mut out = Vec::new();
    again.seal(Millis(9), 1, b"back", &mut out);
    assert_eq!(carry(&mut again, &mut a, Millis(9), out), [b"back".to_vec()]);
    let datagram = one(&mut a, 2, b"welcome");
    assert!(matches!(open(&mut again, &datagram), Opened::Payload { .. }));
    assert_eq!(open(&mut b, &datagram), Opened::Nothing);
}

#[test]
fn both_calling_at_once_end_with_one_session() {
    let (mut a, mut b) = pair();
    let (mut from_a, mut from_b) = (Vec::new(), Vec::new());
    a.seal(Millis(0), 2, b"from a", &mut from_a);
    b.seal(Millis(0), 1, b"from b", &mut from_b);
    let mut got = Vec::new();
    for _ in 0..4 {
        let (mut to_a, mut to_b) = (Vec::new(), Vec::new());
        for outgoing in from_a.drain(..) {
            if let Opened::Payload { payload, .. } =
                b.open(Millis(1), &outgoing.datagram, address(1), &mut to_a)
            {
                got.push(payload);
            }
        }
        for outgoing in from_b.drain(..) {
            if let Opened::Payload { payload, .. } =
                a.open(Millis(1), &outgoing.datagram, address(2), &mut to_b)
            {
                got.push(payload);
            }
        }
        (from_a, from_b) = (to_b, to_a);
    }
    assert!(!got.is_empty(), "at least one side's payload passed");
    let mut last = Vec::new();
    a.seal(Millis(2), 2, b"x", &mut last);
    let there = last.pop().unwrap().datagram;
    assert!(matches!(open(&mut b, &there), Opened::Payload { .. }));
    b.seal(Millis(2), 1, b"y", &mut last);
    let back = last.pop().unwrap().datagram;
    assert!(matches!(open(&mut a, &back), Opened::Payload { .. }));
}

/// What two boards say to each other for so long, a payload each at every step
/// that `speak` names, over a road that lets a datagram arrive after `road` ms, or
/// never: when each payload was heard, and by whom (`b` is true).
fn converse(
    (a, b): (&mut Seal, &mut Seal),
    ms: u64,
    speak: impl Fn(u64) -> bool,
    mut road: impl FnMut(u64, bool, To) -> Option<u64>,
) -> Vec<(u64, bool)> {
    let mut under_way: Vec<(u64, bool, Vec<u8>)> = Vec::new();
    let mut heard = Vec::new();
    for at in (0..ms).step_by(50) {
        let mut sent = Vec::new();
        for to_b in [true, false] {
            let (end, to) = if to_b { (&mut *a, 2) } else { (&mut *b, 1) };
            let mut out = Vec::new();
            if speak(at) {
                end.seal(Millis(at), to, b"word", &mut out);
            }
            end.greet(Millis(at), &mut out);
            sent.extend(out.into_iter().map(|outgoing| (to_b, outgoing)));
        }
        let (arrived, rest) = under_way.into_iter().partition(|(due, ..)| *due <= at);
        under_way = rest;
        for (_, to_b, datagram) in arrived {
            let (end, from) = if to_b { (&mut *b, 1) } else { (&mut *a, 2) };
            let mut out = Vec::new();
            let opened = end.open(Millis(at), &datagram, address(from), &mut out);
            sent.extend(out.into_iter().map(|outgoing| (!to_b, outgoing)));
            if matches!(opened, Opened::Payload { .. }) {
                heard.push((at, to_b));
            }
        }
        for (to_b, Outgoing { to, datagram }) in sent {
            if let Some(ms) = road(at, to_b, to) {
                under_way.push((at + ms, to_b, datagram));
            }
        }
    }
    heard
}

fn is_heard(heard: &[(u64, bool)], by_b: bool, from_ms: u64) -> bool {
    heard.iter().any(|(at, to_b)| *to_b == by_b && *at >= from_ms)
}

#[test]
fn boards_meet_though_the_calls_of_one_go_nowhere() {
    for deaf_b in [true, false] {
        let (mut a, mut b) = pair();
        // One has a stale address of the other: only what answers gets through.
        let speak = |_| true;
        let heard = converse((&mut a, &mut b), 6_000, speak, |_, to_b, to| {
            (to_b != deaf_b || matches!(to, To::Address(_))).then_some(5)
        });
        assert!(is_heard(&heard, !deaf_b, 0), "deaf b: {deaf_b}");
    }
}

#[test]
fn the_lower_keys_call_counts_only_where_both_are_made_at_once() {
    let (a, b) = pair();
    let a_is_lower = a.public_key() < b.public_key();
    let (mut low, mut high, to_high, to_low) = if a_is_lower { (a, b, 2, 1) } else { (b, a, 1, 2) };
    let (mut lost, mut calls) = (Vec::new(), Vec::new());
    low.seal(Millis(0), to_high, b"into the void", &mut lost);
    high.seal(Millis(10), to_low, b"hello", &mut calls);
    let mut answers = Vec::new();
    low.open(Millis(20), &calls[0].datagram, address(2), &mut answers);
    assert_eq!(answers, [], "its own counts");
    let later = Millis(SIMULTANEOUS_MS + 600);
    low.seal(Millis(700), to_high, b"into the void", &mut lost);
    high.seal(later, to_low, b"hello?", &mut calls);
    low.open(later, &calls[1].datagram, address(2), &mut answers);
    assert_eq!(answers.len(), 1, "its own goes nowhere");
}

#[test]
fn boards_meet_over_a_road_slower_than_calls_are_repeated() {
    for way_ms in [300, 800, 2_500, 4_000] {
        let (mut a, mut b) = pair();
        let each_second = |at: u64| at.is_multiple_of(1_000);
        let heard = converse((&mut a, &mut b), 60_000, each_second, |_, _, _| Some(way_ms));
        for by_b in [true, false] {
            assert!(is_heard(&heard, by_b, 0) && is_heard(&heard, by_b, 55_000), "{way_ms} ms");
        }
    }
}

#[test]
fn a_session_that_only_one_end_still_has_is_replaced_by_that_end() {
    let (mut a, _) = connected();
    let mut b = Seal::new(keys(22), 2, 900);
    b.set_members(Millis(0), &[member(1, 11), member(2, 22)]);
    // It has a stale address of the other, which has no reason to call: only
    // what answers gets through.
    let heard = converse(
        (&mut a, &mut b),
        2 * SILENT_MS,
        |_| true,
        |_, to_b, to| (to_b || matches!(to, To::Address(_))).then_some(5),
    );
    assert!(is_heard(&heard, true, SILENT_MS), "{heard:?}");
}

#[test]
fn boards_that_hear_each_other_make_no_further_sessions() {
    let (mut a, mut b) = connected();
    let mut calls = 0;
    // One board speaks now and then, the other has nothing to say.
    for at in (0..120_000).step_by(50) {
        let (mut from_a, mut from_b) = (Vec::new(), Vec::new());
        if u64::is_multiple_of(at, 20_000) {
            a.seal(Millis(at), 2, b"news", &mut from_a);
        }
        a.greet(Millis(at), &mut from_a);
        b.greet(Millis(at), &mut from_b);
        for outgoing in from_a {
            calls += usize::from(outgoing.datagram[0] == CALL);
            b.open(Millis(at), &outgoing.datagram, address(1), &mut from_b);
        }
        for outgoing in from_b {
            calls += usize::from(outgoing.datagram[0] == CALL);
            a.open(Millis(at), &outgoing.datagram, address(2), &mut Vec::new());
        }
    }
    assert_eq!(calls, 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn boards_meet_over_any_road(
        seed in any::<u64>(),
        loss in 0..40_u64,
        way_ms in 1..3_000_u64,
        late_ms in 0..3_000_u64,
    ) {
        let (mut a, mut b) = pair();
        let mut noise = seed | 1;
        let each_second = |at: u64| at.is_multiple_of(1_000);
        let heard = converse((&mut a, &mut b), 90_000, each_second, |at, to_b, _| {
            noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let draw = noise >> 33;
            let lost = draw % 100 < loss || (to_b && at < late_ms);
            (!lost).then_some(way_ms + draw % way_ms)
        });
        for by_b in [true, false] {
            prop_assert!(is_heard(&heard, by_b, 60_000), "by b: {}", by_b);
        }
        prop_assert!(a.sessions.len() <= NEXT_MAX + CALLS_OPEN_MAX + 2);
    }
}

#[test]
fn an_unknown_key_of_the_group_is_a_guest_and_a_flood_of_them_is_rationed() {
    let (mut a, _) = pair();
    let candidate = Candidate { name: "new".into(), key: [0; 32], addresses: Vec::new() };
    let payload = understudy_core::sql::encode(&candidate);
    for private in 30..60 {
        let mut guest = Seal::new(keys(private), 1, 1);
        let mut out = Vec::new();
        let host = member(1, 11).key;
        guest.seal_guest(Millis(0), host, address(1), &payload, &mut out);
        let mut back = Vec::new();
        a.open(Millis(0), &out[0].datagram, address(7), &mut back);
        let Some(answer) = back.pop() else { continue };
        let mut out = Vec::new();
        guest.open(Millis(0), &answer.datagram, address(1), &mut out);
        let opened: Vec<_> = out
            .iter()
            .map(|outgoing| a.open(Millis(0), &outgoing.datagram, address(7), &mut Vec::new()))
            .collect();
        let key = guest.public_key();
        assert!(opened.contains(&Opened::Guest { key, payload: payload.clone() }));
    }
    assert!(a.drops()[&Drop::Rationed] >= 20);
}

#[test]
fn a_guest_whose_key_is_admitted_is_still_heard_as_a_guest_until_it_speaks_as_a_member() {
    let (mut a, _) = pair();
    let guest = |salt| Seal::new(keys(33), u64::from(salt), salt);
    let host = member(1, 11).key;
    let key = guest(1).public_key();
    // Its first question, the same after its key was admitted, and by a new process.
    for (guest, admitted) in [(&mut guest(1), false), (&mut guest(900), true)] {
        for _ in 0..2 {
            let mut out = Vec::new();
            guest.seal_guest(Millis(0), host, address(1), b"ask", &mut out);
            let mut back = Vec::new();
            let mut heard = Vec::new();
            while !out.is_empty() {
                for sent in out.drain(..) {
                    heard.push(a.open(Millis(0), &sent.datagram, address(7), &mut back));
                }
                for answer in back.drain(..) {
                    guest.open(Millis(0), &answer.datagram, address(1), &mut out);
                }
            }
            assert!(heard.contains(&Opened::Guest { key, payload: b"ask".to_vec() }));
            a.set_members(Millis(0), &[member(1, 11), member(3, 33)]);
        }
        assert!(admitted || a.nodes.contains_key(&3));
    }
    let mut joined = guest(2_000);
    joined.set_members(Millis(0), &[member(1, 11), member(3, 33)]);
    let mut out = Vec::new();
    joined.seal(Millis(1), 1, b"frame", &mut out);
    assert_eq!(carry(&mut joined, &mut a, Millis(1), out), [b"frame".to_vec()]);
    assert!(!a.peers.contains_key(&PeerId::guest(key)), "its place is free");
}

#[test]
fn a_lost_confirmation_is_said_again() {
    let (mut a, mut b) = pair();
    let (mut call, mut answer, mut lost) = (Vec::new(), Vec::new(), Vec::new());
    a.greet(Millis(0), &mut call);
    b.open(Millis(0), &call[0].datagram, address(1), &mut answer);
    a.open(Millis(0), &answer[0].datagram, address(2), &mut lost);
    let mut again = Vec::new();
    a.greet(Millis(GREET_MS), &mut again);
    let opened = b.open(Millis(GREET_MS), &again[0].datagram, address(1), &mut Vec::new());
    assert_eq!(opened, Opened::Alive { from: 1 });
    let datagram = one(&mut b, 1, b"now we know");
    assert!(matches!(open(&mut a, &datagram), Opened::Payload { .. }));
    let mut quiet = Vec::new();
    a.greet(Millis(WORD_MS), &mut quiet);
    assert!(quiet.is_empty(), "both ends have the session");
}

#[test]
fn a_removed_member_is_no_longer_heard() {
    let (mut a, mut b) = connected();
    b.set_members(Millis(0), &[member(2, 22)]);
    let datagram = one(&mut a, 2, b"still me");
    assert_eq!(open(&mut b, &datagram), Opened::Nothing);
}

#[test]
fn who_joins_keeps_its_session_whoever_else_is_admitted_until_its_time_is_over() {
    let (mut a, _) = pair();
    let mut early = Seal::new(keys(33), 1, 1);
    early.set_members(Millis(0), &[member(1, 11), member(3, 33)]);
    let mut out = Vec::new();
    early.seal(Millis(0), 1, b"before the news", &mut out);
    assert_eq!(carry(&mut early, &mut a, Millis(0), out), Vec::<Vec<u8>>::new());
    a.set_members(Millis(1), &[member(1, 11), member(2, 22), member(4, 44)]);
    a.set_members(Millis(2), &[member(1, 11), member(2, 22), member(3, 33), member(4, 44)]);
    let datagram = one(&mut early, 1, b"after it");
    let payload = b"after it".to_vec();
    assert_eq!(open(&mut a, &datagram), Opened::Payload { from: 3, payload });
    let mut guest = Seal::new(keys(55), 1, 1);
    let (mut call, mut answer, mut asked) = (Vec::new(), Vec::new(), Vec::new());
    guest.seal_guest(Millis(0), member(1, 11).key, address(1), b"ask", &mut call);
    a.open(Millis(5), &call[0].datagram, address(5), &mut answer);
    guest.open(Millis(5), &answer[0].datagram, address(1), &mut asked);
    a.set_members(Millis(6), &[member(1, 11), member(2, 22)]);
    let opened = a.open(Millis(7), &asked[0].datagram, address(5), &mut Vec::new());
    assert!(matches!(opened, Opened::Guest { .. }));
    a.greet(Millis(7 + GUEST_MS_MAX), &mut Vec::new());
    assert!(!a.peers.contains_key(&PeerId::guest(guest.public_key())), "its time is over");
    assert!(a.sessions.values().all(|id| a.peers.contains_key(id)));
}

#[test]
fn any_bytes_are_survived() {
    let (mut a, _) = connected();
    let mut noise = 1_u64;
    for length in 0..1_300 {
        let bytes = (0..length).map(|at| {
            noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let byte = u8::try_from(noise >> 56).unwrap();
            if at == 0 { byte % 5 } else { byte }
        });
        let bytes: Vec<u8> = bytes.collect();
        assert_eq!(open(&mut a, &bytes), Opened::Nothing);
    }
}

mod keys;
mod roads;

/// What `b` makes of a word of `a`'s start 5, sealed for it.
fn obituary(with_all: bool) -> (Seal, Vec<u8>) {
    let (a, b) = pair();
    let word = a.obituary(&b.public_key(), (5, 77), with_all).unwrap();
    (b, word)
}

#[test]
fn an_obituary_says_which_start_has_ended_and_comes_again_as_often_as_it_likes() {
    for with_all in [false, true] {
        let (mut b, word) = obituary(with_all);
        let start = Incarnation { board: 1, boot: 5, nonce: 77 };
        for _ in 0..2 {
            let opened = b.open(Millis(0), &word, address(9), &mut Vec::new());
            assert_eq!(opened, Opened::Obituary { start, with_all });
        }
    }
}

#[test]
fn an_obituary_that_no_member_made_for_this_board_says_nothing() {
    let (mut b, word) = obituary(true);
    let mut open = |word: &[u8], now| b.open(Millis(now), word, address(1), &mut Vec::new());
    for at in 0..word.len() {
        let mut damaged = word.clone();
        damaged[at] ^= 1;
        let now = 1_000 * at as u64;
        assert_eq!(open(&damaged, now), Opened::Nothing, "byte {at}");
        assert_eq!(open(&word[..at], now), Opened::Nothing);
    }
    let stranger = Seal::new(keys(33), 1, 300);
    let forged = stranger.obituary(&public_key(&[22; 32]), (5, 77), true).unwrap();
    assert_eq!(open(&forged, 900_000), Opened::Nothing);
    let (_, word) = obituary(true);
    let mut other = Seal::new(keys(33), 1, 300);
    other.set_members(Millis(0), &[member(1, 11), member(3, 33)]);
    assert_eq!(other.open(Millis(0), &word, address(1), &mut Vec::new()), Opened::Nothing);
}
