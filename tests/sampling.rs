//! The board's own sensors, read by a real agent.

use understudy_tests::{agents::Agents, program};

#[test]
fn what_the_machine_tells_of_itself_becomes_readings_and_what_it_has_not_is_named() {
    let mut agents = Agents::new(&program::debug());
    agents.configure(
        "a",
        "[[sample]]\nsource = \"load/*\"\nevery_s = 1\n\
         [[sample]]\nsource = \"w1/28-nowhere\"\nsensor = \"boiler\"\n\
         [[sample]]\nsource = \"gpio/gpiochip99/4\"\nsensor = \"door\"\nevery_s = 1\n",
    );
    agents.run("a");
    let _token = agents.found("a");
    agents.wait("a", "to have read its load and to name what it cannot read", |status| {
        let samples = status["samples"].as_array().cloned().unwrap_or_default();
        let says = |sensor: &str, words: &str| {
            samples.iter().any(|sample| {
                let trouble = sample["trouble"].as_str().unwrap_or_default();
                let names = [&sample["sensor"], &sample["source"]];
                names.contains(&&sensor.into()) && trouble.contains(words)
            })
        };
        let has_read = samples.iter().any(|it| it["sensor"] == "a/load/1m" && it["value"].is_f64());
        has_read && says("w1/28-nowhere", "no such source") && says("door", "gpiochip99")
    });
    let shown = agents.told("a", &["status"]);
    assert!(shown.contains("w1/28-nowhere cannot be read: there is no such source"), "{shown}");
    let count = "SELECT min(n) >= 2 FROM (SELECT count(*) AS n FROM readings \
                 WHERE sensor IN ('a/load/1m', 'a/load/5m') GROUP BY sensor HAVING count(*) > 0)";
    let comes = (0..200).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(100));
        agents.told("a", &["query", count]).contains('1')
    });
    assert!(comes, "{}", agents.told("a", &["readings", "a/load/1m"]));
    let board = agents.told("a", &["board"]);
    assert!(board.contains("load/1m") && board.contains("It may use"), "{board}");
}
