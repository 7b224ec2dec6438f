//! The majority is gone: one board goes on with what it has, as another group.

use std::fs;

use understudy_tests::{agents::Agents, program};

const SURE: &str = "--i-know-what-this-means";

#[test]
fn a_board_that_is_left_goes_on_with_what_it_has_and_the_former_group_never_mixes_in() {
    let mut agents = Agents::new(&program::debug());
    agents.form(&["a", "b", "c"]);
    let _ = agents.told("a", &["execute", "CREATE TABLE t(a)", "INSERT INTO t VALUES (1)"]);
    agents.wait("c", "to have it", |status| {
        status["applied_index"].as_u64()
            >= agents.status("a").and_then(|a| a["applied_index"].as_u64())
    });
    for board in ["a", "b"] {
        agents.kill(board);
    }
    let refused = agents.refused("c", &["recover", SURE]);
    assert!(
        refused.contains("in use by another agent") && refused.contains("Stop it"),
        "{refused}"
    );
    agents.stop("c");
    let said = agents.told("c", &["recover"]);
    assert!(said.contains("Nothing was changed") && said.contains("only a, b can hold"), "{said}");
    let said = agents.told("c", &["recover", SURE]);
    assert!(said.contains("the only one of a new group"), "{said}");
    agents.run("c");
    agents.wait("c", "to lead alone", |status| {
        status["role"] == "leader" && status["members"].as_array().map(Vec::len) == Some(1)
    });
    let _ = agents.told("c", &["execute", "INSERT INTO t VALUES (2)"]);
    // The others are back, and are a majority of the former group.
    for board in ["a", "b"] {
        agents.run(board);
    }
    let _ = agents.told("a", &["execute", "INSERT INTO t VALUES (4)"]);
    let sum = |board| agents.told(board, &["query", "SELECT 'sum', sum(a) FROM t"]);
    assert!(sum("b").contains('5') && sum("c").contains('3'), "{} {}", sum("b"), sum("c"));
    let refused = agents.refused("b", &["join", agents.told("c", &["token"]).trim()]);
    assert!(refused.contains("already"), "{refused}");
    agents.kill("b");
    fs::rename(agents.directory("b"), agents.directory("b-old")).expect("moved away, as it said");
    agents.run("b");
    let _ = agents.told("b", &["join", agents.told("c", &["token"]).trim()]);
    agents.wait("b", "to follow", |status| status["leader"] == "c");
    assert!(agents.told("b", &["query", "SELECT 'sum', sum(a) FROM t"]).contains('3'));
}

#[test]
fn there_is_nothing_to_recover_without_a_group_or_others() {
    let mut agents = Agents::new(&program::debug());
    agents.run("a");
    agents.stop("a");
    let refused = agents.refused("a", &["recover", SURE]);
    assert!(refused.contains("belongs to no group"), "{refused}");
    agents.run("a");
    let _token = agents.found("a");
    agents.stop("a");
    let refused = agents.refused("a", &["recover", SURE]);
    assert!(refused.contains("the only one of its group"), "{refused}");
}
