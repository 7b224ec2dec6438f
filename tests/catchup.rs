//! Boards that were away for longer than the log reaches back, or are new, take the
//! database page by page, through the real program, by UDP and through a broker.

use serde_json::Value;
use understudy_tests::{agents::Agents, broker::Broker, program};

/// Values of so many bytes: together more than any log keeps.
const VALUE_BYTES: u64 = 1_500_000;
const VALUES: u64 = 14;

fn applied(status: &Value) -> u64 {
    status["applied_index"].as_u64().expect("an index")
}

/// What the value and its checksum-to-be come to, on one board.
fn sums(agents: &Agents, board: &str) -> String {
    let sums = "SELECT count(*) || ' of ' || sum(length(value)) || ' from ' || min(hex(substr(value, \
                1, 20))) || ' to ' || max(hex(substr(value, 100000, 20))) FROM large";
    agents.told(board, &["query", sums])
}

#[test]
fn boards_that_no_log_reaches_take_the_database_page_by_page() {
    take_pages(Agents::new(&program::debug()), || {});
}

#[test]
fn pages_come_through_a_broker_too_that_is_killed_meanwhile() {
    let Some(mut broker) = Broker::new("") else { return };
    let agents = Agents::new(&program::debug());
    for board in ["a", "b", "c", "d"] {
        let text = format!("transport = \"mqtt\"\n[[broker]]\nurl = \"{}\"\n", broker.url());
        agents.configure(board, &text);
    }
    take_pages(agents, || {
        broker.kill();
        broker.start();
    });
}

/// Something happens while a board takes pages.
fn take_pages(mut agents: Agents, mut disturb: impl FnMut()) {
    agents.form(&["a", "b", "c"]);
    let _ = agents.told("a", &["execute", "CREATE TABLE large(id INTEGER PRIMARY KEY, value)"]);
    agents.stop("c");
    for _ in 0..VALUES {
        let insert = format!("INSERT INTO large(value) VALUES (randomblob({VALUE_BYTES}))");
        let _ = agents.told("a", &["execute", &insert]);
    }
    let last = applied(&agents.status("a").expect("it answers"));
    agents.run("c");
    agents.wait("c", "to say that it takes pages", |status| {
        let pulls = &status["pulls"];
        pulls["taken"].as_u64() > Some(0) && pulls["pages"].as_u64() > pulls["taken"].as_u64()
    });
    disturb();
    agents.wait("c", "to have caught up", |status| applied(status) >= last);
    assert_eq!(agents.status("c").expect("it answers")["pulls"], Value::Null);
    assert_eq!(sums(&agents, "c"), sums(&agents, "a"));
    assert!(sums(&agents, "c").contains(&format!("{VALUES} of")));
    let log = agents.log("c");
    assert!(log.contains("the database's state was taken from another board"), "{log}");
    let said = String::from_utf8_lossy(&agents.ask("a", &["scrub"]).stdout).into_owned();
    assert!(said.contains("all boards that reported hold the same rows"), "{said}");
    agents.run("d");
    let token = agents.told("a", &["token"]);
    let token = token.lines().last().expect("a token");
    let _ = agents.told("d", &["join", token]);
    agents.wait("d", "to have caught up", |status| {
        status["applied_index"].as_u64().is_some_and(|index| index >= last)
    });
    assert_eq!(sums(&agents, "d"), sums(&agents, "a"));
    let _ = agents.told("d", &["execute", "DELETE FROM large WHERE id > 3"]);
    assert!(sums(&agents, "d").contains("3 of"));
}
