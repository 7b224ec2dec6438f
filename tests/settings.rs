//! Settings of the group hold on all of its boards, at once and after a restart.

use serde_json::Value;
use understudy_core::timing::Timing;
use understudy_tests::{agents::Agents, program};

/// When this board calls the group leaderless: what its profile says, in the
/// ticks it was started with.
fn is_slow(status: &Value) -> bool {
    let expected = Timing::WIFI.leaderless_ms();
    status["leaderless_ms_max"].as_u64().is_some_and(|ms| ms > expected * 3 / 4)
}

#[test]
fn a_profile_set_on_one_board_is_in_force_on_all_without_a_restart() {
    let mut agents = Agents::new(&program::debug());
    let boards = ["a", "b", "c"];
    agents.form(&boards);
    for board in boards {
        assert!(!is_slow(&agents.status(board).expect("it answers")), "{board}");
    }
    let _ = agents.told("b", &["set", "profile", "wifi"]);
    for board in boards {
        agents.wait(board, "to take up its timing", is_slow);
    }
    let _ = agents.told("c", &["execute", "CREATE TABLE t(a)"]);
    agents.stop("a");
    agents.run("a");
    agents.wait("a", "to follow in that timing", |status| {
        is_slow(status) && status["leader"].is_string()
    });
    let _ = agents.told("a", &["set", "profile", "wired"]);
    for board in boards {
        agents.wait(board, "to go back", |status| !is_slow(status));
    }
    assert_eq!(agents.told("c", &["get", "profile"]), "wired\n");
}
