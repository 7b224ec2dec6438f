//! `understudy doctor` beside running agents: what it says of the roads between them.

use serde_json::Value;
use understudy_tests::{agents::Agents, lopsided::Lopsided, program};

/// What the doctor finds of one thing, on that board.
fn found(agents: &Agents, board: &str, about: &str) -> Value {
    let output = agents.ask(board, &["doctor", "--json"]);
    let said: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let all = said["findings"].as_array().expect("findings");
    let is_fault = all.iter().any(|it| it["verdict"] == "fault");
    assert_eq!(output.status.success(), !is_fault, "the exit code says so: {said}");
    let found = all.iter().find(|it| it["about"] == about);
    found.unwrap_or_else(|| panic!("nothing of {about} in {said}")).clone()
}

fn says(finding: &Value, verdict: &str, words: &str) {
    let found = finding["found"].as_str().expect("words");
    assert!(finding["verdict"] == verdict && found.contains(words), "{words}: {finding}");
}

#[test]
fn the_doctor_says_what_comes_there_and_what_comes_back() {
    let mut agents = Agents::new(&program::debug());
    let output = agents.ask("a", &["doctor"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    for words in ["look   agent", "no agent is running for", "data folder", "clock"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    agents.form(&["a", "b", "c"]);
    for other in ["a", "c"] {
        let seen = found(&agents, "b", other);
        says(&seen, "ok", "25 of 25 came there, 25 of 25 back in ");
        says(&seen, "ok", "of 1200 bytes 20 of 20 came there, 20 of 20 back in ");
    }
    says(&found(&agents, "a", "memory"), "ok", "the agent takes ");
    agents.kill("c");
    agents.wait_to_miss("a", "c");
    agents.wait_to_miss("b", "c");
    says(&found(&agents, "a", "c"), "fault", "nothing comes back from it, and it is not heard");
    says(&found(&agents, "a", "b"), "ok", "25 of 25 came there");
}

#[test]
fn the_doctor_goes_on_where_the_configuration_is_wrong() {
    let agents = Agents::new(&program::debug());
    for (text, words) in [
        ("nmae = \"shed\"\n", "line 1: unknown field `nmae`"),
        ("[http]\naddress = \"192.168.1.9:4001\"\n", "192.168.1.9:4001"),
    ] {
        agents.configure("a", text);
        let finding = found(&agents, "a", "configuration");
        says(&finding, "fault", words);
        says(&found(&agents, "a", "agent"), "look", "no agent is running");
        let _clock = found(&agents, "a", "clock");
    }
    agents.configure("a", "");
    let output = agents.ask("a", &["doctor"]);
    assert!(!String::from_utf8_lossy(&output.stdout).contains("configuration"));
}

#[test]
fn the_doctor_says_in_which_direction_large_datagrams_are_lost() {
    let Some(link) = Lopsided::new() else { return };
    let mut agents = Agents::new(&program::debug());
    agents.go(link.near());
    agents.run("near");
    agents.go(link.far());
    agents.run("far");
    let token = agents.found("near");
    let _joined = agents.told("far", &["join", &token]);
    // What far says of its rows is too large for the link: it gets no vote.
    agents.wait_for_voters(&["near", "far"], 1);
    let seen = found(&agents, "near", "far");
    says(&seen, "fault", "datagrams of 1200 bytes do not come from there, small ones do");
    says(&seen, "fault", "of 1200 bytes 20 of 20 came there, 0 of 20 back");
    assert!(seen["do"].as_str().is_some_and(|words| words.contains("MTU")), "{seen}");
    let seen = found(&agents, "far", "near");
    says(&seen, "fault", "datagrams of 1200 bytes do not get there, small ones do");
}
