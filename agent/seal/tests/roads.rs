//! Where one road is much slower than another.

use super::*;

/// Long enough for what was overtaken then.
const LATER_MS: u64 = 20_000;

/// The other board is started anew; both hear each other at once.
fn started_anew(b: &mut Seal, now: Millis) -> Seal {
    let mut again = Seal::new(keys(11), 2, 900);
    again.set_members(now, &[member(1, 11), member(2, 22)]);
    let mut out = Vec::new();
    again.seal(now, 2, b"back", &mut out);
    assert_eq!(carry(&mut again, b, now, out), [b"back".to_vec()]);
    again
}

fn hears(end: &mut Seal, now: Millis, datagram: &[u8]) -> bool {
    matches!(end.open(now, datagram, address(9), &mut Vec::new()), Opened::Payload { .. })
}

#[test]
fn what_was_under_way_in_a_replaced_session_counts_until_the_next_was_heard_for_a_while() {
    let (mut a, mut b) = connected();
    let held = [one(&mut a, 2, b"one"), one(&mut a, 2, b"two")];
    let mut again = started_anew(&mut b, Millis(1_000));
    assert!(hears(&mut b, Millis(9_000), &held[0]));
    let datagram = one(&mut again, 2, b"and on");
    assert!(hears(&mut b, Millis(9_001), &datagram));
    assert!(!hears(&mut b, Millis(1_000 + LATER_MS), &held[1]));
    assert_eq!(b.drops()[&Drop::Replayed], 1);
}

#[test]
fn a_session_whose_first_word_was_held_back_replaces_none_that_was_made_since() {
    let (mut a, mut b) = pair();
    let (mut calls, mut answers, mut held) = (Vec::new(), Vec::new(), Vec::new());
    a.seal(Millis(0), 2, b"held back", &mut calls);
    b.open(Millis(0), &calls[0].datagram, address(1), &mut answers);
    a.open(Millis(0), &answers[0].datagram, address(2), &mut held);
    let mut again = Seal::new(keys(11), 2, 900);
    again.set_members(Millis(0), &[member(1, 11), member(2, 22)]);
    let mut out = Vec::new();
    b.seal(Millis(1_000), 1, b"hello", &mut out);
    assert_eq!(carry(&mut b, &mut again, Millis(1_000), out), [b"hello".to_vec()]);
    let answer = one(&mut again, 2, b"answer");
    assert!(hears(&mut b, Millis(1_000), &answer));
    for held in held {
        assert!(!hears(&mut b, Millis(1_000 + LATER_MS), &held.datagram));
    }
    let datagram = one(&mut b, 1, b"still there?");
    assert!(hears(&mut again, Millis(1_000 + LATER_MS), &datagram));
}
