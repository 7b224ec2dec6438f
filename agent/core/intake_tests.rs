//! What becomes of readings in a group of nodes: stored once, told truly, never lost.

use alloc::{string::String, vec::Vec};

use crate::{
    error::Refusal,
    event::{Millis, NodeId, Position, Reply, Request, RequestId, SpoolPiece, SpoolWrite},
    intake::{Beginning, Intake, Options},
    limits::{BATCH_READINGS_MAX, INTAKE_READINGS_MAX, SPOOL_AFTER_MS},
    readings::{Arrivals, Batch, Level, Reading, Receipt, first_number},
    restored::SpoolHeld,
    rig::Rig,
    spool::{LOST, Purpose},
    sql::{self, Value},
};

const BOARDS: [NodeId; 3] = [1, 2, 3];

fn reading(value: i64) -> Reading {
    let sensor = String::from("kitchen");
    let (time, value) = (value * 1_000, Value::Integer(value));
    Reading { sensor, time, value, id: None, token: None, is_far: false }
}

fn arrivals(values: core::ops::Range<i64>, until: Level) -> Request {
    let readings = values.map(reading).collect();
    Request::Readings(Arrivals { readings, until, window_ms: 0 })
}

fn receipt(rig: &Rig, id: RequestId) -> Option<Receipt> {
    match rig.answer_of(id)? {
        Reply::Done { answer, .. } => Some(sql::decode(answer).unwrap()),
        Reply::Refused(refusal) => panic!("refused: {refusal}"),
    }
}

fn level(rig: &Rig, id: RequestId) -> Option<Level> {
    receipt(rig, id).map(|receipt| receipt.level)
}

/// How many readings of a board each board has stored.
fn stored(rig: &Rig, of: NodeId) -> Vec<usize> {
    let count = |id| match rig.stored.get(id) {
        Some(ledger) => ledger.numbers.iter().filter(|(board, _)| *board == of).count(),
        None => 0,
    };
    BOARDS.iter().map(count).collect()
}

fn others(id: NodeId) -> Vec<NodeId> {
    BOARDS.into_iter().filter(|other| *other != id).collect()
}

/// A group whose boards have all sent readings before, its leader, and a follower.
fn group() -> (Rig, NodeId, NodeId) {
    let (mut rig, leader) = Rig::led(&BOARDS);
    for node in rig.nodes.values_mut() {
        node.intake.beginning = Beginning::Known;
    }
    (rig, leader, others(leader)[0])
}

fn spooled(rig: &Rig, id: NodeId) -> u64 {
    rig.spool_of(id).readings
}

#[test]
fn readings_of_every_board_are_committed_and_nothing_is_spooled() {
    let (mut rig, ..) = group();
    for id in BOARDS {
        rig.ask(id, id, arrivals(0..20, Level::Committed));
    }
    rig.run(500);
    for id in BOARDS {
        let all = Receipt { level: Level::Committed, refused: Vec::new() };
        assert_eq!(receipt(&rig, id), Some(all));
        assert_eq!((stored(&rig, id), spooled(&rig, id)), (Vec::from([20; 3]), 0));
    }
}

#[test]
fn what_gathers_for_a_moment_goes_together() {
    let (mut rig, leader, _) = group();
    let before = rig.journals[&leader].len();
    for id in 0..10 {
        let readings = Vec::from([reading(0)]);
        let request = Arrivals { readings, until: Level::Committed, window_ms: 500 };
        rig.ask(leader, id, Request::Readings(request));
        rig.run(1);
    }
    assert_eq!(rig.journals[&leader].len(), before);
    rig.run(800);
    assert!((0..10).all(|id| level(&rig, id) == Some(Level::Committed)));
    assert_eq!(rig.journals[&leader].len(), before + 1);
}

#[test]
fn spooled_is_answered_when_the_entry_is_on_this_disk_and_not_before() {
    let (mut rig, leader, _) = group();
    rig.stalled.push(leader);
    rig.cut = others(leader);
    rig.ask(leader, 1, arrivals(0..3, Level::Spooled));
    rig.run(200);
    assert_eq!(level(&rig, 1), None, "nothing of it is on any disk");
    let (mut rig, leader, _) = group();
    rig.cut = others(leader);
    rig.ask(leader, 1, arrivals(0..3, Level::Spooled));
    rig.ask(leader, 2, arrivals(3..6, Level::Committed));
    rig.run(200);
    assert_eq!(level(&rig, 1), Some(Level::Spooled), "by the entry's own sync");
    assert_eq!((level(&rig, 2), spooled(&rig, leader)), (None, 0));
}

#[test]
fn without_a_majority_readings_are_spooled_and_drained_in_order_when_it_is_back() {
    let (mut rig, leader, follower) = group();
    rig.cut = Vec::from([follower]);
    rig.run(1_500);
    for id in 0..8 {
        rig.ask(follower, id, arrivals(0..5, Level::Spooled));
        rig.run(300);
    }
    rig.run(1_500);
    assert!((0..8).all(|id| level(&rig, id) == Some(Level::Spooled)));
    assert_eq!((spooled(&rig, follower), stored(&rig, follower)), (40, Vec::from([0; 3])));
    rig.cut.clear();
    rig.run(14_000);
    assert_eq!(stored(&rig, follower), [40; 3]);
    rig.ask(leader, 100, arrivals(0..1, Level::Committed));
    rig.ask(follower, 101, arrivals(0..1, Level::Committed));
    rig.run(1_000);
    assert_eq!(level(&rig, 101), Some(Level::Committed));
    assert_eq!(spooled(&rig, follower), 0, "what is stored has left the spool");
}

#[test]
fn a_caller_who_wants_a_majority_hears_how_far_it_came_when_time_is_up() {
    let (mut rig, _, follower) = group();
    rig.cut = Vec::from([follower]);
    rig.ask(follower, 1, arrivals(0..5, Level::Committed));
    rig.run(9_000);
    assert_eq!(level(&rig, 1), None);
    rig.run(2_000);
    assert_eq!(level(&rig, 1), Some(Level::Spooled));
}

#[test]
fn a_spool_outlives_a_restart_and_is_drained_once() {
    let (mut rig, _, follower) = group();
    rig.cut = Vec::from([follower]);
    rig.run(1_500);
    rig.ask(follower, 1, arrivals(0..5, Level::Spooled));
    rig.run(1_500);
    assert_eq!(level(&rig, 1), Some(Level::Spooled));
    rig.cut.clear();
    rig.restart(follower, 2, &BOARDS);
    rig.run(5_000);
    // It was taken out in memory alone, and is drained again.
    rig.restart(follower, 3, &BOARDS);
    rig.run(5_000);
    rig.ask(follower, 2, arrivals(5..6, Level::Committed));
    rig.run(1_000);
    assert_eq!((stored(&rig, follower), spooled(&rig, follower)), (Vec::from([6; 3]), 0));
}

/// A leader alone has readings of its own in its log, told as spooled, and another
/// leader's entries take their place.
#[test]
fn safe_readings_go_to_the_spool_with_the_write_that_replaces_their_entry() {
    let (mut rig, leader, follower) = group();
    rig.cut = Vec::from([leader]);
    rig.ask(leader, 1, arrivals(0..3, Level::Spooled));
    assert_eq!(level(&rig, 1), Some(Level::Spooled));
    assert_eq!(spooled(&rig, leader), 0);
    let index = rig.journals[&leader].last().unwrap().index;
    for node in rig.nodes.values_mut() {
        // So that nothing but the loss of its entry brings it there.
        node.set_intake(Options { spool_after_ms: 1_000_000, ..Options::default() });
    }
    rig.run(3_000);
    rig.ask(follower, 2, arrivals(10..11, Level::Committed));
    rig.run(500);
    assert_eq!(level(&rig, 2), Some(Level::Committed));
    rig.cut.clear();
    let kept = |rig: &Rig| rig.journals[&leader][usize::try_from(index).unwrap() - 1].term;
    let term = kept(&rig);
    for _ in 0..300 {
        rig.run(10);
        let is_in_log = kept(&rig) == term;
        let is_stored = stored(&rig, leader)[0] == 3;
        assert!(is_in_log || is_stored || spooled(&rig, leader) == 3, "told as safe, and nowhere");
    }
    rig.run(15_000);
    assert_eq!(stored(&rig, leader), [3; 3]);
}

#[test]
fn what_neither_group_nor_disk_can_take_is_refused_and_memory_stays_bounded() {
    let (mut rig, leader, _) = group();
    rig.stalled.push(leader);
    let batch = BATCH_READINGS_MAX as i64;
    let requests = INTAKE_READINGS_MAX / BATCH_READINGS_MAX;
    for id in 0..requests as u64 {
        rig.ask(leader, id, arrivals(0..batch, Level::Spooled));
    }
    rig.ask(leader, 100, arrivals(0..1, Level::Spooled));
    assert_eq!(rig.answer_of(100), Some(&Reply::Refused(Refusal::Busy)));
    rig.ask(leader, 101, arrivals(0..batch + 1, Level::Spooled));
    assert!(matches!(rig.answer_of(101), Some(Reply::Refused(Refusal::Invalid(_)))));
    rig.ask(leader, 102, arrivals(0..0, Level::Spooled));
    assert!(matches!(rig.answer_of(102), Some(Reply::Refused(Refusal::Invalid(_)))));
}

fn with_small_spool(rig: &mut Rig, id: NodeId, thins_out: bool) {
    let options = Options { spool_bytes_max: 4_000, thins_out, ..Options::default() };
    rig.nodes.get_mut(&id).unwrap().set_intake(options);
}

#[test]
fn a_full_spool_refuses_and_says_so_and_what_it_has_is_stored_later() {
    let (mut rig, _, follower) = group();
    with_small_spool(&mut rig, follower, false);
    rig.cut = Vec::from([follower]);
    rig.run(1_500);
    for id in 0..60 {
        rig.ask(follower, id, arrivals(0..10, Level::Spooled));
        rig.run(250);
    }
    rig.run(12_000);
    let refused: Vec<_> =
        (0..60).filter_map(|id| receipt(&rig, id)).flat_map(|r| r.refused).collect();
    assert!(
        !refused.is_empty() && refused[0].1.contains("spool is full (4000 bytes"),
        "{refused:?}"
    );
    assert!(rig.spool_of(follower).bytes < 4_000 + 1_000);
    rig.cut.clear();
    rig.run(20_000);
    assert_eq!(stored(&rig, follower)[0] + refused.len(), 600, "nothing else was lost");
}

#[test]
fn a_spool_that_thins_out_keeps_every_second_of_the_oldest_and_says_how_many_it_lost() {
    let (mut rig, _, follower) = group();
    with_small_spool(&mut rig, follower, true);
    rig.cut = Vec::from([follower]);
    rig.run(1_500);
    for id in 0..60 {
        rig.ask(follower, id, arrivals(0..10, Level::Spooled));
        rig.run(500);
    }
    rig.run(3_000);
    assert!((0..60).all(|id| level(&rig, id) == Some(Level::Spooled)));
    assert!(rig.spool_of(follower).bytes < 4_000 + 2_000, "{:?}", rig.spool_of(follower));
    let pieces = (0..).scan(0, |after, _| {
        let pieces = rig.pieces(follower, *after);
        *after = pieces.last()?.place;
        Some(pieces)
    });
    let batches = pieces.flatten().map(|piece| sql::decode::<Batch>(&piece.data).unwrap());
    let all: Vec<Reading> = batches.flat_map(|batch| batch.readings).map(|(_, r)| r).collect();
    let (lost, kept): (Vec<_>, Vec<_>) = all.into_iter().partition(|r| r.sensor == LOST);
    let count = lost.iter().map(|reading| match reading.value {
        Value::Integer(count) => count,
        Value::Null | Value::Real(_) | Value::Text(_) | Value::Blob(_) => 0,
    });
    assert_eq!(count.sum::<i64>() + kept.len() as i64, 600, "{} records", lost.len());
    assert!(kept.len() > 40, "{} are left", kept.len());
    rig.cut.clear();
    rig.run(20_000);
    let (drained, all) = (stored(&rig, follower)[0], lost.len() + kept.len());
    assert_eq!(drained, all, "what is left is stored");
}

#[test]
fn a_board_that_answers_late_is_asked_again_and_stores_once() {
    let (mut rig, leader, follower) = group();
    for round in 0..20 {
        rig.ask(follower, round, arrivals(0..3, Level::Committed));
        // The road to the leader is cut now and then, at any stage.
        rig.run(round % 7);
        rig.cut = Vec::from([follower]);
        rig.run(700);
        rig.cut.clear();
        rig.run(100);
    }
    rig.run(30_000);
    assert!((0..20).all(|id| level(&rig, id) == Some(Level::Committed)), "{:?}", rig.replies);
    assert_eq!(stored(&rig, follower), [60; 3]);
    assert_eq!(spooled(&rig, leader), 0);
}

#[test]
fn what_was_committed_unheard_is_sent_again_under_its_old_numbers() {
    let (mut rig, leader, follower) = group();
    let options = Options { spool_after_ms: 1_000_000, ..Options::default() };
    rig.nodes.get_mut(&follower).unwrap().set_intake(options);
    let before = rig.journals[&leader].len();
    rig.pace = 1;
    rig.ask(follower, 1, arrivals(0..3, Level::Committed));
    while rig.journals[&leader].len() == before {
        rig.run(10);
    }
    (rig.cut, rig.pace) = (Vec::from([follower]), usize::MAX);
    rig.run(12_000);
    assert_eq!(stored(&rig, follower)[usize::try_from(leader).unwrap() - 1], 3);
    assert_eq!(level(&rig, 1), Some(Level::Spooled), "an entry on this disk has them");
    rig.cut.clear();
    rig.run(5_000);
    assert_eq!(stored(&rig, follower), [3; 3]);
}

const OVERDUE: Millis = Millis(SPOOL_AFTER_MS);

/// What the disk has of a spool after these writes.
fn on_disk(writes: Vec<SpoolWrite>) -> Vec<SpoolPiece> {
    let piece = |write| match write {
        SpoolWrite::Put { place, readings, data, .. } => Some(SpoolPiece { place, readings, data }),
        SpoolWrite::Take { .. } => None,
    };
    writes.into_iter().filter_map(piece).collect()
}

/// A board whose only reading is under way, and in a piece of the spool meanwhile.
fn under_way_and_spooled() -> (Intake, u64, Vec<SpoolPiece>) {
    let mut intake = Intake::new(1, 1, SpoolHeld::default());
    intake.can_send = true;
    let readings = Vec::from([reading(0)]);
    let arrivals = Arrivals { readings, until: Level::Committed, window_ms: 0 };
    intake.arrive(Millis(0), 1, arrivals, Millis(10_000)).unwrap();
    let flight = intake.depart(Millis(0)).unwrap().flight;
    intake.spool_overdue(OVERDUE);
    let (writes, numbers) = intake.spool.take_writes();
    intake.spooled(&numbers);
    assert_eq!(intake.spool.readings(), 1);
    (intake, flight, on_disk(writes))
}

/// From there it may come once more after a power cut, and be stored.
#[test]
fn a_reading_that_is_in_the_spool_is_told_as_refused_when_it_has_left_the_disk() {
    let refused = || Vec::from([(first_number(1), String::from("no"))]);
    let (mut intake, flight, pieces) = under_way_and_spooled();
    intake.landed(flight, refused());
    let (writes, numbers) = intake.spool.take_writes();
    intake.spooled(&numbers);
    assert_eq!((writes, intake.callers.take_told()), (Vec::new(), Vec::new()), "it is there");
    intake.spool.fetch(7, Purpose::Drain);
    intake.spool.fetched(7);
    let batch = intake.spool.drain(OVERDUE, pieces).unwrap();
    let flight = intake.depart_drained(batch).flight;
    intake.landed(flight, refused());
    assert_eq!(intake.spool.readings(), 0, "what comes behind it is drained");
    assert!(intake.spool.is_urgent() && intake.callers.take_told().is_empty());
    let (writes, numbers) = intake.spool.take_writes();
    assert_eq!(writes, [SpoolWrite::Take { first: 1, last: 1 }]);
    assert!(intake.callers.take_told().is_empty());
    intake.spooled(&numbers);
    let told = intake.callers.take_told();
    let [(1, Reply::Done { answer, .. })] = &told[..] else { panic!("{told:?}") };
    let receipt: Receipt = sql::decode(answer).unwrap();
    assert_eq!(receipt.refused, [(0, String::from("no"))]);
    assert_eq!(intake.status().refused, 1);
}

#[test]
fn a_piece_that_is_stored_while_it_is_read_back_is_not_drained_again() {
    let (mut intake, flight, pieces) = under_way_and_spooled();
    intake.spool.fetch(7, Purpose::Drain);
    intake.landed(flight, Vec::new());
    assert!(intake.spool.fetched(7).is_some());
    assert!(intake.spool.drain(OVERDUE, pieces).is_none(), "its number is below the floor");
}

#[test]
fn a_piece_that_nobody_can_read_holds_nothing_back_and_is_told() {
    for purpose in [Purpose::Drain, Purpose::Thin] {
        let mut intake = Intake::new(1, 1, SpoolHeld::default());
        let mut pieces = Vec::new();
        for (id, values) in (0..).zip([0..2, 2..5, 5..6]) {
            let Request::Readings(arrivals) = arrivals(values, Level::Spooled) else { panic!() };
            intake.arrive(Millis(0), id, arrivals, Millis(10_000)).unwrap();
            intake.spool_overdue(OVERDUE);
            let (writes, numbers) = intake.spool.take_writes();
            intake.spooled(&numbers);
            pieces.extend(on_disk(writes));
        }
        pieces[0].data.truncate(3);
        pieces[1].data.truncate(3);
        intake.spool.fetch(7, purpose);
        intake.spool.fetched(7);
        match purpose {
            Purpose::Drain => {
                let batch = intake.spool.drain(OVERDUE, pieces).unwrap();
                assert_eq!(batch.readings, [(first_number(1) + 5, reading(5))]);
                intake.spool.drained();
                assert_eq!(intake.spool.readings(), 0);
            }
            Purpose::Thin => intake.spool.thin(OVERDUE, pieces),
        }
        assert_eq!(intake.status().unreadable, 5);
        let gone = |write: &SpoolWrite| matches!(write, SpoolWrite::Take { first: 1 | 2, .. });
        assert_eq!(intake.spool.take_writes().0.iter().filter(|write| gone(write)).count(), 2);
    }
}

/// As above, with the disk as slow as it likes.
#[test]
fn pieces_that_nobody_can_read_are_not_read_back_again() {
    let held = SpoolHeld { first: 3, last: 9, readings: 70, bytes: 900, lowest: 4 };
    let mut intake = Intake::new(1, 1, held);
    intake.spool.fetch(7, Purpose::Drain);
    intake.spool.fetched(7);
    let piece = |place| SpoolPiece { place, readings: 10, data: Vec::from([0xff; 4]) };
    assert_eq!(intake.spool.drain(Millis(0), Vec::from([piece(3), piece(5)])), None);
    assert_eq!(intake.spool.fetch(8, Purpose::Drain), 5, "behind them");
    assert_eq!((intake.spool.readings(), intake.status().unreadable), (50, 20));
}

#[test]
fn what_is_thinned_out_is_not_read_back_before_the_disk_has_it() {
    let mut intake = Intake::new(1, 1, SpoolHeld::default());
    let readings = (0..4).map(reading).collect();
    let arrivals = Arrivals { readings, until: Level::Spooled, window_ms: 0 };
    intake.arrive(Millis(0), 1, arrivals, Millis(10_000)).unwrap();
    intake.spool_overdue(OVERDUE);
    let (writes, numbers) = intake.spool.take_writes();
    intake.spooled(&numbers);
    intake.spool.fetch(7, Purpose::Thin);
    assert!(intake.spool.fetched(7).is_some());
    intake.spool.thin(OVERDUE, on_disk(writes));
    let later = Millis(OVERDUE.0 + 10_000);
    assert!(intake.spool.is_urgent() && !intake.spool.may_fetch(later));
    let (_, numbers) = intake.spool.take_writes();
    assert!(!intake.spool.may_fetch(later), "a slow disk has it still as it was");
    intake.spooled(&numbers);
    assert!(intake.spool.may_fetch(later));
}

#[test]
fn a_witness_has_readings_safe_in_its_spool_alone() {
    let mut rig = Rig::with_witnesses(&BOARDS, &[3]);
    rig.run(2_000);
    let leader = rig.leader().unwrap();
    rig.ask(3, 1, arrivals(0..3, Level::Committed));
    rig.run(100);
    assert_eq!(level(&rig, 1), Some(Level::Committed));
    // The witness is cut off once its log has them.
    rig.cut = Vec::from([3 - leader]);
    rig.pace = 1;
    let before = rig.journals[&3].len();
    rig.ask(3, 2, arrivals(3..6, Level::Spooled));
    while rig.journals[&3].len() == before {
        rig.run(10);
    }
    (rig.cut, rig.pace) = (Vec::from([leader, 3 - leader]), usize::MAX);
    assert_eq!(level(&rig, 2), None, "its log has them without the sensors' names");
    rig.run(3_000);
    assert_eq!((level(&rig, 2), spooled(&rig, 3)), (Some(Level::Spooled), 3));
}

/// Its board has readings in an entry that turns out to do nothing.
#[test]
fn safe_readings_of_an_entry_that_did_nothing_go_to_the_spool() {
    let mut intake = Intake::new(1, 1, SpoolHeld::default());
    let Request::Readings(arrivals) = arrivals(0..2, Level::Spooled) else { panic!("readings") };
    intake.arrive(Millis(0), 9, arrivals, Millis(10_000)).unwrap();
    intake.can_send = true;
    let departure = intake.depart(Millis(0)).unwrap();
    let numbers: Vec<u64> = departure.batch.readings.iter().map(|(number, _)| *number).collect();
    let at = Position { term: 2, index: 7 };
    intake.log(at, numbers.clone());
    intake.log_written(&[at]);
    assert_eq!(intake.callers.take_told().len(), 1, "told as spooled");
    intake.applied(at, false);
    let (writes, safe) = intake.spool.take_writes();
    assert!(matches!(writes[..], [SpoolWrite::Put { readings: 2, .. }]), "{writes:?}");
    assert_eq!(safe, numbers);
}
