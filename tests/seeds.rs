//! A few seeds of the simulator with every `cargo test`; `cargo sim` runs many.

use std::sync::PoisonError;

use understudy_tests::sim;

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
