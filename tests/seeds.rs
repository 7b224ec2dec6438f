//! A few seeds of the simulator with every `cargo test`; `cargo sim` runs many. And
//! entries of the largest size over roads that lose, repeat and reorder.

use std::sync::PoisonError;

use understudy_tests::sim::{self, Roads, Stall};

/// One after the other: SQLite's randomness, which a seed sets, is the process's.
#[test]
fn seeds_hold_all_rules_and_repeat_themselves() {
    let _alone = crate::sql::RANDOMNESS.write().unwrap_or_else(PoisonError::into_inner);
    for seed in 1..=6 {
        let report = sim::run(seed, false);
        assert_eq!(report.violation, None, "cargo sim --seed {seed} --verbose");
        assert!(report.crashes > 0 && report.acknowledged > 0 && report.reads > 0, "{report:?}");
        assert_eq!(sim::run(seed, false).trace, report.trace, "seed {seed}, run twice");
    }
}

/// Longer than a duty's lease and an election.
const IDLE_MS_MAX: u64 = 2_000;

/// Whether it is the disk of the board that does a duty, of the one that leads, or of both:
/// one that stalls for seconds costs one hand-over at the most, and nobody waits for it.
#[test]
fn a_disk_that_stalls_for_seven_seconds_costs_at_most_one_hand_over() {
    let _alone = crate::sql::RANDOMNESS.write().unwrap_or_else(PoisonError::into_inner);
    for (leads, acts) in [(true, true), (true, false), (false, true)] {
        for (database, seed) in [(true, 1), (false, 2)] {
            let stall = Stall { leads, acts, database };
            let came = stall.run(seed);
            assert_eq!(came.violation, None, "{stall:?} with seed {seed}");
            assert!(came.hand_overs <= 1, "{stall:?} with seed {seed}: {came:?}");
            assert!(came.idle_ms <= IDLE_MS_MAX, "{stall:?} with seed {seed}: {came:?}");
            assert!(came.waited_ms > 6_000, "it does stall: {stall:?}: {came:?}");
            let [during, after] = came.acknowledged;
            let may_wait = leads && database;
            assert!(after > 0 && (may_wait || during > 20), "writes go on: {stall:?}: {came:?}");
        }
    }
}

/// The largest entry is one of thousands of fragments. What is beyond it changes
/// nothing, and the caller hears how much there may be.
#[test]
fn an_entry_of_the_largest_size_crosses_bad_roads_and_a_larger_one_is_refused() {
    let _alone = crate::sql::RANDOMNESS.write().unwrap_or_else(PoisonError::into_inner);
    let mut roads = Roads::new(1);
    let size = "SELECT coalesce(sum(length(b)), 0) FROM big";
    let large = ["CREATE TABLE big(b)", "INSERT INTO big VALUES (randomblob(8000000))"];
    let crossed = roads.ask(&large, size);
    assert_eq!(crossed.error, None);
    assert!(crossed.boards.iter().all(|held| held.answer == Some(8_000_000)), "{crossed:?}");
    assert!(crossed.boards.iter().all(|held| *held == crossed.boards[0]), "{crossed:?}");
    let (lost, repeated) = roads.lost_and_repeated();
    assert!(lost > 1_000 && repeated > 500, "{lost} lost, {repeated} repeated");
    let half = "INSERT INTO big VALUES (randomblob(4300000))";
    for too_large in [&["INSERT INTO big VALUES (randomblob(8400000))"][..], &[half, half]] {
        let refused = roads.ask(too_large, size);
        let limit = understudy_core::limits::ENTRY_BYTES_MAX.to_string();
        assert!(refused.error.as_ref().is_some_and(|error| error.contains(&limit)), "{refused:?}");
        assert!(refused.boards.iter().all(|held| held.answer == Some(8_000_000)), "{refused:?}");
    }
}
