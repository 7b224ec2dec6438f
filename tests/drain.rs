//! Boards that are drained for maintenance, as real agents: what they hold and lead goes to
//! others, stays away while they are started again, and stays with them where nobody else
//! is ready.

use serde_json::Value;
use understudy_tests::{agents::Agents, program};

use crate::duties::group;

const BOARDS: [&str; 3] = ["a", "b", "c"];

fn holder(status: &Value) -> String {
    status["duties"][0]["holder"].as_str().unwrap_or_default().to_owned()
}

fn is_drained(status: &Value, board: &str) -> bool {
    let members = status["members"].as_array().expect("members");
    members.iter().any(|member| member["name"] == board && member["drained"] == true)
}

/// The board that leads, which is made to hold the duty as well.
fn leader_that_holds(agents: &Agents) -> &'static str {
    agents.wait("a", "to see a holder", |status| !holder(status).is_empty());
    let status = agents.status("a").expect("it runs");
    let leader = BOARDS.into_iter().find(|board| status["leader"] == **board);
    let leader = leader.expect("one of them");
    let _sentence = agents.told(leader, &["duty", "transfer", "pump", leader]);
    agents.wait(leader, "to hold it", |status| status["duties"][0]["held"] == true);
    leader
}

#[test]
fn a_board_that_is_drained_hands_everything_on_and_takes_nothing_until_that_ends() {
    let (mut agents, ledger) = group();
    let drained = leader_that_holds(&agents);
    let [one, two] = BOARDS.into_iter().filter(|board| *board != drained).collect::<Vec<_>>()[..]
    else {
        panic!("three boards")
    };
    // Any board may drain any other.
    let said = agents.told(one, &["drain", drained]);
    assert!(said.contains(&format!("{drained} is drained: it holds no duty")), "{said}");
    let status = agents.status(one).expect("it runs");
    assert_ne!((holder(&status).as_str(), &status["leader"]), (drained, &drained.into()));
    for board in BOARDS {
        agents.wait(board, "to know", |status| is_drained(status, drained));
    }
    assert!(agents.told(one, &["members"]).contains("(drained)"));
    assert!(agents.told(drained, &["duty"]).contains("not ready: this board is drained"));
    let why = agents.refused(one, &["duty", "transfer", "pump", drained]);
    assert!(why.contains(&format!("understudy undrain {drained}")), "{why}");
    assert!(agents.refused(one, &["transfer", drained]).contains("is drained"));
    // It survives a start of that board, and of the others.
    for board in [drained, one, two] {
        agents.stop(board);
        agents.run(board);
        agents.wait(drained, "to see it held elsewhere", |status| {
            let other = holder(status);
            !other.is_empty() && other != drained && status["leader"].is_string()
        });
    }
    let status = agents.status(drained).expect("it runs");
    assert!(is_drained(&status, drained) && status["leader"] != drained, "{status}");
    assert!(understudy_tests::agents::votes(&status, drained), "it keeps its vote");
    let _sentence = agents.told(two, &["undrain", drained]);
    let _sentence = agents.told(two, &["duty", "transfer", "pump", drained]);
    agents.wait(drained, "to hold it again", |status| status["duties"][0]["held"] == true);
    ledger.check();
}

#[test]
fn a_duty_stays_on_a_drained_board_until_another_is_ready_and_the_command_says_so() {
    let (agents, ledger) = group();
    let drained = leader_that_holds(&agents);
    let others = BOARDS.into_iter().filter(|board| *board != drained).collect::<Vec<_>>();
    for other in &others {
        let _sentence = agents.told(other, &["drain"]);
    }
    let said = agents.refused(drained, &["drain", "--wait", "2s"]);
    let words = format!("pump stays on {drained}: no other board may hold it that is not drained");
    assert!(said.contains(&words) && said.contains("it leads: no other board"), "{said}");
    let status = agents.status(drained).expect("it runs");
    assert_eq!((holder(&status).as_str(), &status["leader"]), (drained, &drained.into()));
    assert!(agents.told(drained, &["duty"]).contains("held, though this board is drained"));
    // The drain stands: it goes as soon as somebody else is ready.
    let _sentence = agents.told(drained, &["undrain", others[0]]);
    agents.wait(others[0], "to hold it and lead", |status| {
        status["duties"][0]["held"] == true && status["leader"] == others[0]
    });
    ledger.check();
}

#[test]
fn a_board_that_is_away_is_drained_when_it_comes_back() {
    let (mut agents, ledger) = group();
    agents.kill("c");
    let said = agents.told("a", &["drain", "c"]);
    assert!(said.contains("c is drained"), "{said}");
    agents.run("c");
    agents.wait("c", "to know that it is drained", |status| is_drained(status, "c"));
    for board in ["a", "b"] {
        let _sentence = agents.told("a", &["duty", "pause", "pump"]);
        let _sentence = agents.told("a", &["duty", "resume", "pump"]);
        agents.wait(board, "to see it held", |status| ["a", "b"].contains(&&holder(status)[..]));
    }
    assert_eq!(agents.status("c").expect("it runs")["duties"][0]["ready"], false);
    ledger.check();
}

#[test]
fn boards_are_drained_over_http_and_what_cannot_be_is_named() {
    let mut agents = Agents::new(&program::debug());
    agents.form(&["a"]);
    let http = |line: &str| agents.http("a", &format!("{line} HTTP/1.1"), "");
    assert!(http("POST /nodes/a/drain").starts_with("HTTP/1.1 200"));
    agents.wait("a", "to be drained", |status| is_drained(status, "a"));
    assert!(http("GET /nodes").contains("\"drained\":true"));
    // As rqlite routes.
    assert!(http("GET /nodes/a").starts_with("HTTP/1.1 200"));
    let said = agents.refused("a", &["drain", "--wait", "1s"]);
    assert!(said.contains("it leads: no other board"), "{said}");
    assert!(http("POST /nodes/a/undrain").starts_with("HTTP/1.1 200"));
    agents.wait("a", "not to be drained", |status| !is_drained(status, "a"));
    for (line, code, words) in [
        ("POST /nodes/z/drain", "404", "no board z"),
        ("POST /nodes/a/stop", "400", "neither drain nor undrain"),
        ("POST /nodes/a", "404", ""),
    ] {
        let answer = http(line);
        assert!(answer.starts_with(&format!("HTTP/1.1 {code}")), "{line}: {answer}");
        assert!(answer.contains(words), "{line}: {answer}");
    }
    assert!(agents.refused("a", &["drain", "z"]).contains("no board z"));
    assert!(agents.refused("a", &["drain", "--wait", "soon"]).contains("--wait is a time"));
}
