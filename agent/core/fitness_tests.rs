//! Which holder is to let a duty go, by what sensors say on which board.

use alloc::{string::String, vec::Vec};

use crate::{
    duty::{Duty, Fresh, Incarnation, Rules},
    event::{Event, Millis, NodeId, Request},
    limits::DUTY_MOVES_MS,
    readings::{Arrivals, Level, Reading},
    rig::Rig,
    sql::Value,
    wire,
};

const IDS: [NodeId; 3] = [1, 2, 3];

/// A group whose boards are all ready for a duty of these rules: its leader, the board that
/// holds the duty, and the third.
fn group(rules: Rules) -> (Rig, [NodeId; 3]) {
    let (mut rig, leader) = Rig::led(&IDS);
    let holder = leader % 3 + 1;
    let third = 6 - leader - holder;
    let duty = Duty {
        id: 1,
        name: String::from("pump"),
        token: 5,
        holder: Some(Incarnation { board: holder, boot: 1, nonce: 0 }),
        lease_ms: 1_200,
        candidates: Vec::from([third, holder]),
        rules,
        ..Duty::default()
    };
    for id in IDS {
        rig.event(id, Event::Duties(Vec::from([duty.clone()])));
        rig.event(id, Event::Ready(Vec::from([1])));
    }
    rig.run(1_000);
    (rig, [leader, holder, third])
}

/// For so long the sensor reports on these boards.
fn report(rig: &mut Rig, boards: &[NodeId], ms: u64) {
    for _ in 0..ms / 250 {
        for board in boards {
            let reading = Reading {
                sensor: String::from("flow"),
                time: 0,
                value: Value::Integer(1),
                id: None,
                token: None,
                is_far: false,
            };
            let readings = Vec::from([reading]);
            let arrivals = Arrivals { readings, until: Level::Spooled, window_ms: 0 };
            rig.ask(*board, 0, Request::Readings(arrivals));
        }
        rig.run(250);
    }
}

#[test]
fn a_board_that_stops_hands_its_duties_on_before_it_stops_leading() {
    for grants in [true, false] {
        let (mut rig, [leader, _, third]) = group(Rules::default());
        let mut duty = rig.nodes[&leader].duties()[0].clone();
        let holder = |board| Some(Incarnation { board, boot: 1, nonce: 0 });
        duty.holder = holder(leader);
        IDS.iter().for_each(|id| rig.event(*id, Event::Duties(Vec::from([duty.clone()]))));
        rig.event(leader, Event::Stopping);
        rig.run(900);
        assert!(rig.nodes[&leader].leads(), "it holds the duty still");
        if grants {
            duty.holder = holder(third);
            IDS.iter().for_each(|id| rig.event(*id, Event::Duties(Vec::from([duty.clone()]))));
            rig.run(90);
            assert!(!rig.nodes[&leader].leads());
        }
        rig.run(500);
        assert!(!rig.nodes[&leader].leads(), "it does not wait for long");
    }
}

#[test]
fn a_board_that_is_preferred_and_cannot_keep_up_does_not_get_the_duty_back() {
    let (mut rig, [leader, holder, third]) =
        group(Rules { preempt_ms: Some(1_000), ..Rules::default() });
    for second in 0..30 {
        let limit_ms = rig.nodes[&leader].round_trip_ms_max();
        let now = rig.now;
        let node = rig.nodes.get_mut(&leader).unwrap();
        for round in 0..10 {
            let context = wire::read_context(leader, third, now.0 + round);
            node.forget_round();
            node.note_round(Millis(now.0 - 2 * limit_ms), context);
            node.note_trip(now, third, &context);
        }
        rig.run(1_000);
        let is_slow = rig.nodes[&leader].slow_boards().contains(&third);
        assert!(!is_slow || !is_to_yield(&rig, leader), "{holder} has it: {second} s");
    }
    assert_eq!(rig.nodes[&leader].slow_boards(), [third]);
}

#[test]
fn a_holder_that_cannot_keep_up_lets_go_for_one_that_can() {
    let (mut rig, [leader, holder, third]) = group(Rules::default());
    rig.run(21_000);
    assert!(!is_to_yield(&rig, leader));
    assert!(rig.nodes[&leader].round_trip_ms(holder).is_some(), "it is asked all the time");
    let limit_ms = rig.nodes[&leader].round_trip_ms_max();
    for slow in [Vec::from([holder]), Vec::from([holder, third])] {
        for _ in 0..25 {
            let now = rig.now;
            let node = rig.nodes.get_mut(&leader).unwrap();
            for board in &slow {
                for round in 0..10 {
                    let context = wire::read_context(leader, *board, now.0 + round);
                    node.forget_round();
                    node.note_round(Millis(now.0 - 2 * limit_ms), context);
                    node.note_trip(now, *board, &context);
                }
            }
            rig.run(1_000);
        }
        let node = &rig.nodes[&leader];
        let is_alone = slow.len() == 1;
        assert_eq!(node.slow_boards(), if is_alone { [holder] } else { [leader] });
        assert_eq!(is_to_yield(&rig, leader), is_alone, "where most seem slow its own road is");
    }
}

fn is_to_yield(rig: &Rig, leader: NodeId) -> bool {
    let node = &rig.nodes[&leader];
    let duty = &node.duties()[0];
    node.is_to_yield(rig.now, duty, duty.holder.unwrap())
}

fn fresh() -> Rules {
    let fresh = Fresh { sensor: String::from("flow"), within_ms: 1_000 };
    Rules { fresh: Some(fresh), ..Rules::default() }
}

#[test]
fn a_duty_goes_from_a_board_whose_sensor_is_silent_to_one_whose_reports_and_to_no_other() {
    let (mut rig, [leader, holder, third]) = group(fresh());
    report(&mut rig, &[holder, third], 2_000);
    assert!(!is_to_yield(&rig, leader), "both report");
    report(&mut rig, &[third], 2_000);
    assert!(rig.nodes[&holder].is_unfit_for(1));
    assert!(is_to_yield(&rig, leader));
    report(&mut rig, &[], 2_000);
    assert!(!is_to_yield(&rig, leader), "nobody is better: it stays");
    report(&mut rig, &[holder], 2_000);
    assert!(!is_to_yield(&rig, leader));
}

#[test]
fn a_leader_that_holds_a_duty_lets_it_go_as_well() {
    let (mut rig, [leader, _, third]) = group(fresh());
    let holder = Some(rig.nodes[&leader].incarnation());
    let mut duty = rig.nodes[&leader].duties()[0].clone();
    (duty.holder, duty.candidates) = (holder, Vec::new());
    for id in IDS {
        rig.event(id, Event::Duties(Vec::from([duty.clone()])));
    }
    report(&mut rig, &[leader, third], 2_000);
    assert!(!is_to_yield(&rig, leader));
    report(&mut rig, &[third], 2_000);
    assert!(is_to_yield(&rig, leader));
}

#[test]
fn a_holder_that_has_said_nothing_yet_is_taken_for_fit() {
    let (mut rig, [leader, holder, third]) = group(fresh());
    report(&mut rig, &[third], 2_000);
    assert!(is_to_yield(&rig, leader));
    rig.nodes.get_mut(&leader).unwrap().duties.ready.remove(&holder);
    assert!(!is_to_yield(&rig, leader));
}

#[test]
fn a_duty_that_moved_three_times_of_late_stays_while_its_holder_lives() {
    let (mut rig, [leader, holder, third]) = group(fresh());
    report(&mut rig, &[third], 2_000);
    let row = |board| {
        let holder = Some(Incarnation { board, boot: 1, nonce: 0 });
        Duty { id: 1, holder, ..Duty::default() }
    };
    for board in [third, holder] {
        rig.nodes.get_mut(&leader).unwrap().note_moves(rig.now, &[row(board)]);
    }
    assert!(is_to_yield(&rig, leader), "it has moved twice");
    for board in [third, holder] {
        rig.nodes.get_mut(&leader).unwrap().note_moves(rig.now, &[row(board)]);
    }
    assert!(!is_to_yield(&rig, leader));
    let duty = rig.nodes[&leader].duties()[0].clone();
    let later = Millis(rig.now.0 + DUTY_MOVES_MS);
    assert!(!rig.nodes[&leader].is_restless(later, &duty), "but not for ever");
}

#[test]
fn a_board_that_comes_first_has_the_duty_back_when_it_was_ready_for_as_long_as_wished() {
    let (mut rig, [leader, ..]) = group(Rules::default());
    rig.run(20_000);
    assert!(!is_to_yield(&rig, leader), "who has it keeps it");
    let rules = Rules { preempt_ms: Some(5_000), ..Rules::default() };
    let (mut rig, [leader, ..]) = group(rules);
    rig.run(3_000);
    assert!(!is_to_yield(&rig, leader));
    rig.run(3_000);
    assert!(is_to_yield(&rig, leader));
}
