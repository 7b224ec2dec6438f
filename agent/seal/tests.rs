//! Two boards and a network that does what it likes.

use understudy_core::member::Candidate;

use super::*;

const GROUP_KEY: [u8; 32] = [7; 32];

fn keys(private: u8) -> Keys {
    Keys { group: [1; 16], group_key: GROUP_KEY, private_key: [private; 32] }
}

fn member(id: NodeId, private: u8) -> Member {
    let key = public_key(&[private; 32]);
    Member { id, name: format!("b{id}"), key, addresses: Vec::new(), voter: true }
}

fn address(id: NodeId) -> Address {
    Address::from(([127, 0, 0, 1], u16::try_from(4_000 + id).unwrap()))
}

fn pair() -> (Seal, Seal) {
    let members = [member(1, 11), member(2, 22)];
    let (mut a, mut b) = (Seal::new(keys(11), 100), Seal::new(keys(22), 200));
    a.set_members(&members);
    b.set_members(&members);
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
    for keys in [Keys { group: [2; 16], ..keys(11) }, Keys { group_key: [8; 32], ..keys(11) }] {
        let mut stranger = Seal::new(keys, 5);
        stranger.set_members(&[member(2, 22)]);
        let mut out = Vec::new();
        stranger.seal(Millis(0), 2, b"let me in", &mut out);
        let mut back = Vec::new();
        let opened = b.open(Millis(0), &out[0].datagram, address(1), &mut back);
        assert_eq!((opened, back), (Opened::Nothing, Vec::new()));
    }
    assert_eq!(b.drops()[&Drop::Foreign], 2);
}

#[test]
fn a_replayed_handshake_gets_one_short_answer_and_changes_nothing() {
    let (mut a, mut b) = pair();
    let mut out = Vec::new();
    a.seal(Millis(0), 2, b"hello", &mut out);
    let call = out[0].datagram.clone();
    carry(&mut a, &mut b, Millis(0), out);
    let mut back = Vec::new();
    assert_eq!(b.open(Millis(5), &call, address(1), &mut back), Opened::Nothing);
    assert!(back.len() == 1 && back[0].datagram.len() <= call.len());
    assert!(a.open(Millis(6), &back[0].datagram, address(2), &mut Vec::new()) == Opened::Nothing);
    let datagram = one(&mut a, 2, b"still here");
    assert!(matches!(open(&mut b, &datagram), Opened::Payload { .. }));
}

#[test]
fn a_restarted_board_is_heard_again_and_its_old_datagrams_are_not() {
    let (mut a, mut b) = connected();
    let old = one(&mut a, 2, b"before");
    let mut again = Seal::new(keys(22), 900);
    again.set_members(&[member(1, 11), member(2, 22)]);
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

#[test]
fn an_unknown_key_of_the_group_is_a_guest_and_a_flood_of_them_is_rationed() {
    let (mut a, _) = pair();
    let candidate = Candidate { name: "new".into(), key: [0; 32], addresses: Vec::new() };
    let payload = understudy_core::sql::encode(&candidate);
    for private in 30..60 {
        let mut guest = Seal::new(keys(private), 1);
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
        assert_eq!(opened[1], Opened::Guest { key, payload: payload.clone() });
    }
    assert!(a.drops()[&Drop::Rationed] >= 20);
}

#[test]
fn a_guest_whose_key_is_admitted_is_still_heard_as_a_guest_until_it_speaks_as_a_member() {
    let (mut a, _) = pair();
    let guest = |salt| Seal::new(keys(33), salt);
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
            a.set_members(&[member(1, 11), member(3, 33)]);
        }
        assert!(admitted || a.nodes.contains_key(&3));
    }
    let mut joined = guest(2_000);
    joined.set_members(&[member(1, 11), member(3, 33)]);
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
    a.greet(Millis(9 * GREET_MS), &mut quiet);
    assert!(quiet.is_empty(), "both ends have the session");
}

#[test]
fn a_removed_member_is_no_longer_heard() {
    let (mut a, mut b) = connected();
    b.set_members(&[member(2, 22)]);
    let datagram = one(&mut a, 2, b"still me");
    assert_eq!(open(&mut b, &datagram), Opened::Nothing);
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
