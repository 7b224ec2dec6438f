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

#[test]
fn rules_of_what_is_kept_are_set_on_one_board_and_told_by_all() {
    let mut agents = Agents::new(&program::debug());
    agents.form(&["a", "b"]);
    assert!(agents.told("a", &["retention"]).contains("no rules"));
    let rule = ["retention", "set", "green*", "--keep", "30d", "--rollup", "1m:1y"];
    let _ = agents.told("b", &[&rule[..], &["--rollup", "1h:10y"]].concat());
    let told = agents.told("a", &["retention"]);
    assert!(told.contains("green*   30d   1m:1y 1h:10y"), "{told}");
    for (words, wrong) in [
        ("part of a day", ["retention", "set", "a", "--rollup", "7m:1y"]),
        ("not 3", ["retention", "set", "a", "--keep", "3"]),
    ] {
        let refused = agents.ask("a", &wrong);
        let refused = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(refused.contains(words), "{refused}");
    }
    let _ = agents.told("a", &["retention", "confirm"]);
    let _ = agents.told("a", &["retention", "remove", "green*"]);
    let none = agents.ask("b", &["retention", "remove", "green*"]);
    assert!(!none.status.success() && agents.told("b", &["retention"]).contains("no rules"));
}

#[test]
fn a_group_is_made_with_the_profile_that_is_named_or_goes_with_its_links() {
    let mut agents = Agents::new(&program::debug());
    agents.run("a");
    let refused = agents.refused("a", &["init", "--profile", "warp"]);
    assert!(refused.contains("wired, wifi or radio, not warp"), "{refused}");
    let refused = agents.refused("a", &["init", "--profile", "wifi,lease_ms=900"]);
    assert!(refused.contains("outlives it"), "{refused}");
    assert_eq!(agents.status("a").expect("it answers")["role"], "waiting", "nothing was made");
    let _token = agents.told("a", &["init", "--profile", "wifi,lease_ms=9000"]);
    assert_eq!(agents.told("a", &["get", "profile"]), "wifi,lease_ms=9000\n");
    agents.wait("a", "to take it up", is_slow);
    agents.run("b");
    let said = agents.told("b", &["init"]);
    assert!(!said.contains("profile"), "its link is this machine: {said}");
    assert_eq!(agents.told("b", &["get", "profile"]), "wired\n");
}
