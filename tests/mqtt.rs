//! A group by MQTT: real boards, real brokers, both killed, and boards that nothing but the
//! broker connects.

use serde_json::Value;
use understudy_tests::{agents::Agents, broker::Broker, program};

use super::duties::Ledger;

const BOARDS: [&str; 3] = ["a", "b", "c"];

fn configuration(transport: &str, urls: &[String]) -> String {
    let brokers = urls.iter().map(|url| format!("[[broker]]\nurl = \"{url}\"\n"));
    format!("transport = \"{transport}\"\n{}", brokers.collect::<String>())
}

/// Boards that reach each other through these brokers.
fn boards(transport: &str, brokers: &[&Broker]) -> Agents {
    let agents = Agents::new(&program::debug());
    let urls: Vec<String> = brokers.iter().map(|broker| broker.url()).collect();
    for board in BOARDS {
        agents.configure(board, &configuration(transport, &urls));
    }
    agents
}

fn leader(agents: &Agents) -> &'static str {
    let status = agents.status("a").expect("it answers");
    BOARDS.into_iter().find(|board| status["leader"] == **board).expect("somebody leads")
}

fn write(agents: &Agents, board: &str, number: u32) {
    let sql = format!("INSERT INTO t VALUES ({number})");
    let _done = agents.told(board, &["execute", &sql]);
}

fn read(agents: &Agents, board: &str) -> String {
    agents.told(board, &["query", "SELECT group_concat(a, ' ') FROM t"])
}

fn is_connected(status: &Value) -> bool {
    status["brokers"][0]["connected"] == true
}

#[test]
fn a_group_works_by_mqtt_alone_through_the_death_of_its_leader_and_of_the_broker() {
    let Some(mut broker) = Broker::new("") else { return };
    let mut agents = boards("mqtt", &[&broker]);
    agents.form(&BOARDS);
    let _made = agents.told("a", &["execute", "CREATE TABLE t(a)"]);
    let _made = agents.told("b", &["duty", "add", "pump"]);
    let ledger = Ledger::default();
    ledger.keep(&agents, &BOARDS, "pump");
    let holder = ledger.wait_for_another("").board;
    for board in BOARDS {
        write(&agents, board, 1);
    }
    agents.kill(&holder);
    let next = ledger.wait_for_another(&holder).board;
    write(&agents, &next, 2);
    agents.run(&holder);
    agents.wait(&holder, "to follow again", |status| status["leader"].is_string());
    broker.kill();
    agents.wait("b", "to miss the broker", |status| {
        let trouble = status["brokers"][0]["trouble"].as_str().unwrap_or_default();
        trouble.contains("it cannot be reached")
    });
    let shown = agents.told("b", &["status"]);
    assert!(shown.contains("is not there: it cannot be reached"), "{shown}");
    broker.start();
    for board in BOARDS {
        agents.wait(board, "to be back", |status| {
            is_connected(status) && status["leader"].is_string()
        });
    }
    write(&agents, "b", 3);
    for board in BOARDS {
        let rows = read(&agents, board);
        assert!(rows.contains("1 1 1 2 3"), "{board}: {rows}");
    }
    let udp = agents.status("a").expect("it answers")["counters"]["datagrams_sent"].clone();
    assert_eq!(udp, 0, "nothing goes by UDP");
    ledger.check();
}

#[test]
fn everything_is_posted_to_all_brokers_so_that_one_of_them_may_die() {
    let (Some(mut first), Some(second)) = (Broker::new(""), Broker::new("")) else { return };
    let mut agents = boards("mqtt", &[&first, &second]);
    agents.form(&BOARDS);
    let _made = agents.told("a", &["execute", "CREATE TABLE t(a)"]);
    let before = (leader(&agents), agents.status("a").expect("it answers")["term"].clone());
    first.kill();
    agents.wait("a", "to miss a broker", |status| status["brokers"][0]["connected"] == false);
    write(&agents, "b", 1);
    assert!(read(&agents, "c").contains('1'));
    let after = agents.status("a").expect("it answers")["term"].clone();
    assert_eq!((leader(&agents), after), before, "it cost no election");
}

#[test]
fn what_is_wrong_with_a_broker_is_said_and_the_agent_runs() {
    let Some(broker) = Broker::new("password_file /dev/null") else { return };
    let agents_without = |urls: &[String]| {
        let mut agents = Agents::new(&program::debug());
        agents.configure("a", &configuration("both", urls));
        agents.run("a");
        let _token = agents.found("a");
        agents
    };
    let agents = agents_without(&[broker.url()]);
    agents.wait("a", "to be turned away", |status| status["brokers"][0]["trouble"].is_string());
    let shown = agents.told("a", &["status"]);
    assert!(shown.contains("does not know this account"), "{shown}");
    let agents = agents_without(&[String::from("mqtt://127.0.0.1:1")]);
    agents.wait("a", "to find nobody", |status| status["brokers"][0]["trouble"].is_string());
    assert!(agents.told("a", &["status"]).contains("it cannot be reached"));
}
