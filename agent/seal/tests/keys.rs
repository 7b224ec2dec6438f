//! While the group's key is changed.

use super::*;

/// A board that knows these keys of the group and calls under that one.
fn knowing(private: u8, numbers: &[u32], used: u32) -> Keys {
    let group_keys: Vec<GroupKey> = numbers.iter().map(|number| group_key(*number)).collect();
    let newest = numbers.last().copied().unwrap_or(0);
    Keys { group_keys, used, newest, ..keys(private) }
}

/// Two members that know these.
fn pair_of(of_a: (&[u32], u32), of_b: (&[u32], u32)) -> (Seal, Seal) {
    let (mut a, mut b) = pair();
    a.set_keys(knowing(11, of_a.0, of_a.1));
    b.set_keys(knowing(22, of_b.0, of_b.1));
    (a, b)
}

/// What comes of a call by a guest, or by a board nobody knows as a member.
fn called(b: &mut Seal, keys: Keys, is_guest: bool) -> Vec<Outgoing> {
    let mut caller = Seal::new(keys, 1, 5);
    let (mut out, mut back) = (Vec::new(), Vec::new());
    if is_guest {
        caller.seal_guest(Millis(0), member(2, 22).key, address(2), b"let me in", &mut out);
    } else {
        caller.set_members(Millis(0), &[member(2, 22)]);
        caller.seal(Millis(0), 2, b"it is me", &mut out);
    }
    assert_eq!(b.open(Millis(0), &out[0].datagram, address(9), &mut back), Opened::Nothing);
    back
}

#[test]
fn who_is_no_member_is_heard_under_the_newest_key_alone() {
    let (_, mut b) = pair_of((&[0], 0), (&[0, 1], 0));
    for (place, is_guest) in [(1, true), (2, false)] {
        assert_eq!(called(&mut b, knowing(33, &[0], 0), is_guest), []);
        assert_eq!(b.drops()[&Drop::Outdated], place);
        assert_eq!(called(&mut b, knowing(44, &[1], 1), is_guest).len(), 1);
    }
}

#[test]
fn members_that_do_not_know_the_same_keys_yet_hear_each_other() {
    for (of_a, of_b) in [
        ((&[0][..], 0), (&[0, 1][..], 1)),
        ((&[0, 1][..], 0), (&[0, 1][..], 1)),
        ((&[0][..], 0), (&[0, 1, 2, 3][..], 3)),
        ((&[0, 1, 2][..], 2), (&[2, 3][..], 3)),
    ] {
        for deaf_b in [None, Some(false), Some(true)] {
            let (mut a, mut b) = pair_of(of_a, of_b);
            // One may have a stale address of the other: only what answers gets through.
            let road =
                |_, to_b, to| (deaf_b != Some(to_b) || matches!(to, To::Address(_))).then_some(5);
            let heard = converse((&mut a, &mut b), 20_000, |_| true, road);
            let hears: Vec<bool> = [false, true].map(|by_b| is_heard(&heard, by_b, 15_000)).into();
            assert_eq!(hears, [deaf_b != Some(false), deaf_b != Some(true)], "{of_a:?} {of_b:?}");
        }
    }
}

#[test]
fn what_was_made_under_a_forgotten_key_ends_and_its_holder_is_not_heard() {
    let (mut a, mut b) = connected();
    let datagram = one(&mut a, 2, b"before");
    b.set_keys(knowing(22, &[1], 1));
    assert_eq!(open(&mut b, &datagram), Opened::Nothing);
    assert_eq!(b.drops()[&Drop::Unknown], 1);
    assert!(b.sessions.is_empty());
    let again = |a: &mut Seal, b: &mut Seal| {
        let heard = converse((a, b), 20_000, |_| true, |_, _, _| Some(5));
        is_heard(&heard, true, 0) || is_heard(&heard, false, 0)
    };
    assert!(!again(&mut a, &mut b), "an admitted key with a forgotten one is nobody");
    let (mut a, mut b) = pair_of((&[0, 1], 0), (&[1], 1));
    assert!(again(&mut a, &mut b), "whatever it would call under first");
}

#[test]
fn sessions_are_made_anew_under_the_key_in_use_before_the_former_is_forgotten() {
    let (mut a, mut b) = connected();
    for (seal, private) in [(&mut a, 11), (&mut b, 22)] {
        seal.set_keys(knowing(private, &[0, 1], 1));
    }
    let heard = converse((&mut a, &mut b), 2_000, |_| true, |_, _, _| Some(5));
    assert!(heard.len() > 60, "nothing is lost meanwhile: {}", heard.len());
    for (seal, private) in [(&mut a, 11), (&mut b, 22)] {
        seal.set_keys(knowing(private, &[1], 1));
    }
    let mut out = Vec::new();
    for (from, to, by) in [(1, 2, 0), (2, 1, 1)] {
        let (sender, receiver) = if by == 0 { (&mut a, &mut b) } else { (&mut b, &mut a) };
        sender.seal(Millis(2_100), to, b"after", &mut out);
        let datagram = out.remove(0).datagram;
        let opened = receiver.open(Millis(2_100), &datagram, address(from), &mut Vec::new());
        assert_eq!(opened, Opened::Payload { from, payload: b"after".to_vec() });
    }
}

#[test]
fn a_member_that_lacks_the_key_in_use_costs_a_call_now_and_then() {
    let (mut a, mut b) = pair_of((&[0], 0), (&[0, 1], 1));
    let mut datagrams = 0;
    let heard = converse(
        (&mut a, &mut b),
        60_000,
        |_| true,
        |_, to_b, _| {
            datagrams += usize::from(!to_b);
            Some(5)
        },
    );
    let to_a = heard.iter().filter(|(_, to_b)| !to_b).count();
    assert!(to_a > 1_150 && datagrams - to_a < 40, "{datagrams} for {to_a}");
}

/// What a board that hears nobody is told by `b`.
fn told(asker: &mut Seal, b: &mut Seal) -> Option<Opened> {
    let (mut question, mut answer) = (Vec::new(), Vec::new());
    asker.ask_whether_gone(&mut question);
    assert_eq!(question.len(), 1);
    b.open(Millis(0), &question[0].datagram, address(1), &mut answer);
    let answer = answer.pop()?;
    assert!(answer.datagram.len() <= question[0].datagram.len());
    Some(asker.open(Millis(0), &answer.datagram, address(2), &mut Vec::new()))
}

#[test]
fn who_was_removed_is_told_so_though_it_has_no_key_that_lives() {
    let (mut a, mut b) = pair_of((&[0], 0), (&[3], 3));
    assert_eq!(told(&mut a, &mut b), None, "it is a member");
    b.set_members(Millis(0), &[member(2, 22)]);
    assert_eq!(told(&mut a, &mut b), None, "nobody knows it");
    b.set_removed([a.public_key()].into_iter());
    assert_eq!(told(&mut a, &mut b), Some(Opened::Gone));
    let mut stranger = Seal::new(Keys { group: [2; 16], ..keys(11) }, 1, 5);
    stranger.set_members(Millis(0), &[member(2, 22)]);
    assert_eq!(told(&mut stranger, &mut b), None);
    assert_eq!(b.drops()[&Drop::Foreign], 1);
}

#[test]
fn only_a_member_can_tell_a_board_that_it_was_removed() {
    let (mut a, _) = pair();
    let mut liar = Seal::new(knowing(44, &[0], 0), 1, 5);
    liar.set_removed([a.public_key()].into_iter());
    let mut answered = Vec::new();
    let mut question = Vec::new();
    a.ask_whether_gone(&mut question);
    liar.open(Millis(0), &question[0].datagram, address(1), &mut answered);
    let answer = &answered[0].datagram;
    assert_eq!(open(&mut a, answer), Opened::Nothing);
    a.set_members(Millis(0), &[member(2, 22), member(4, 44)]);
    for at in 5..answer.len() {
        let mut damaged = answer.clone();
        damaged[at] ^= 1;
        assert_eq!(
            a.open(Millis(2_000 * at as u64), &damaged, address(2), &mut Vec::new()),
            Opened::Nothing
        );
        assert_eq!(open(&mut a, &answer[..at]), Opened::Nothing);
    }
    let last = a.open(Millis(900_000), answer, address(2), &mut Vec::new());
    assert_eq!(last, Opened::Gone);
}
