//! A group by MQTT: real boards, real brokers, both killed, and boards that nothing but the
//! broker connects.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use rumqttc::{Client, Event, MqttOptions, Packet, QoS};
use serde_json::Value;
use understudy_tests::{agents::Agents, broker::Broker, network::Network, program};

use super::duties::Ledger;

pub(crate) const BOARDS: [&str; 3] = ["a", "b", "c"];

fn configuration(transport: &str, urls: &[String]) -> String {
    let brokers = urls.iter().map(|url| format!("[[broker]]\nurl = \"{url}\"\n"));
    format!("transport = \"{transport}\"\n{}", brokers.collect::<String>())
}

/// Boards that reach each other through these brokers.
pub(crate) fn boards(transport: &str, brokers: &[&Broker]) -> Agents {
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
fn a_broker_that_is_not_mosquitto_does_as_well() {
    let Some(broker) = Broker::amqtt() else { return };
    let mut agents = boards("mqtt", &[&broker]);
    agents.form(&BOARDS);
    let _made = agents.told("a", &["execute", "CREATE TABLE t(a)"]);
    for board in BOARDS {
        write(&agents, board, 1);
    }
    let former = leader(&agents);
    agents.kill(former);
    let left: Vec<&str> = BOARDS.into_iter().filter(|board| *board != former).collect();
    agents.wait(left[0], "to follow another", |status| {
        status["leader"].is_string() && status["leader"] != former
    });
    write(&agents, left[1], 2);
    for board in left {
        assert!(read(&agents, board).contains("1 1 1 2"), "{board}");
    }
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

/// A group that has both roads, in a network of which rules can be made; nothing where there
/// can be no such network, or no broker.
fn by_both_roads() -> Option<(Network, Broker, Agents)> {
    let network = Network::new()?;
    let mut broker = Broker::at(1_883, "0.0.0.0", "", network.enter())?;
    broker.start();
    // Rules that come before what is known of this machine's own addresses.
    network.ip(&["rule", "add", "pref", "100", "lookup", "local"]);
    network.ip(&["rule", "del", "pref", "0"]);
    let mut agents = Agents::on(&program::debug(), &network);
    for board in BOARDS {
        agents.configure(board, &configuration("both", &[String::from("mqtt://10.80.0.1")]));
    }
    agents.form(&BOARDS);
    let _made = agents.told("a", &["execute", "CREATE TABLE t(a)"]);
    Some((network, broker, agents))
}

#[test]
fn where_udp_no_longer_gets_through_the_brokers_do_and_back_again() {
    let Some((network, _broker, agents)) = by_both_roads() else { return };
    let _made = agents.told("a", &["duty", "add", "pump"]);
    let ledger = Ledger::default();
    ledger.keep(&agents, &BOARDS, "pump");
    ledger.wait_for_another("");
    let road = |agents: &Agents| -> Vec<bool> {
        let status = agents.status(leader(agents)).expect("it answers");
        let members = status["members"].as_array().cloned().unwrap_or_default();
        let others = members.iter().filter(|member| member["leader"] == false);
        others.map(|member| member["address"].to_string().contains("mqtt")).collect()
    };
    for cut in ["add", "del"] {
        network.ip(&["rule", cut, "pref", "50", "ipproto", "udp", "blackhole"]);
        let is_so = (0..400).any(|_| {
            thread::sleep(Duration::from_millis(50));
            road(&agents) == [cut == "add"; 2]
        });
        assert!(is_so, "{cut}: {:?}", agents.status(leader(&agents)));
        for board in BOARDS {
            write(&agents, board, 1);
        }
    }
    for board in BOARDS {
        assert!(read(&agents, board).contains("1 1 1 1 1 1"));
    }
    ledger.check();
}

#[test]
fn a_board_that_udp_brings_nothing_from_though_it_hears_the_others_goes_on_through_the_brokers() {
    let Some((network, _broker, mut agents)) = by_both_roads() else { return };
    let udp = agents.status("a").expect("it answers")["udp"].clone();
    let port = udp.as_str().and_then(|udp| udp.rsplit_once(':')).expect("a port").1.to_owned();
    let rule = ["pref", "50", "ipproto", "udp", "sport", &port, "blackhole"];
    let change = |what: &str| network.ip(&[&["rule", what][..], &rule].concat());
    // The road by which one board hears another.
    let road = |agents: &Agents, board: &str, other: &str| {
        let status = agents.status(board).expect("it answers");
        let members = status["members"].as_array().cloned().unwrap_or_default();
        let other = members.into_iter().find(|member| member["name"] == other);
        other.map(|member| member["address"].to_string()).unwrap_or_default()
    };
    let wait_for_road = |agents: &Agents, is_posted: bool| {
        agents.wait("b", "to hear a", |_| road(agents, "b", "a").contains("mqtt") == is_posted);
    };
    change("add");
    for is_new in [false, true] {
        if is_new {
            agents.kill("a");
            agents.run("a");
        }
        agents.wait("a", "to be led, and hear", |status| status["leader"].is_string());
        wait_for_road(&agents, true);
        let _led = agents.told("a", &["transfer", "a"]);
        agents.wait("c", "to follow it", |status| status["leader"] == "a");
        for board in BOARDS {
            write(&agents, board, 1);
        }
        assert!(!road(&agents, "a", "b").contains("mqtt"), "it hears them by UDP");
    }
    change("del");
    wait_for_road(&agents, false);
    for board in BOARDS {
        assert!(read(&agents, board).contains("1 1 1 1 1 1"));
    }
}

/// Somebody with a login who posts all that goes by once more, changed, as it was, and as it
/// was a while ago: so many times altogether.
fn hostile(port: u16) -> Arc<AtomicUsize> {
    let posted = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&posted);
    thread::spawn(move || {
        let (client, mut connection) =
            Client::new(MqttOptions::new("hostile", "127.0.0.1", port), 4_096);
        let _ = client.try_subscribe("understudy/#", QoS::AtMostOnce);
        let (mut own, mut old) = (BTreeSet::new(), Vec::new());
        for event in connection.iter().map_while(Result::ok) {
            let Event::Incoming(Packet::Publish(publish)) = event else { continue };
            let payload = publish.payload.to_vec();
            let is_own = own.contains(&payload) || payload.len() < 20;
            if is_own || count.load(Ordering::Relaxed) > 20_000 {
                continue;
            }
            let mut changed = payload.clone();
            // Of a counter that was never used.
            changed[7] ^= 1;
            old.push((publish.topic.clone(), payload.clone()));
            let before = old[old.len() / 2].clone();
            for (topic, payload) in
                [(publish.topic.clone(), changed), (publish.topic, payload), before]
            {
                own.insert(payload.clone());
                let _ = client.try_publish(topic, QoS::AtMostOnce, false, payload);
                count.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    posted
}

#[test]
fn whoever_changes_and_repeats_what_goes_through_a_broker_changes_nothing() {
    let Some(broker) = Broker::new("") else { return };
    let mut agents = boards("mqtt", &[&broker]);
    agents.form(&BOARDS);
    let _made = agents.told("a", &["execute", "CREATE TABLE t(a)"]);
    let posted = hostile(broker.port);
    for number in 0..20 {
        write(&agents, BOARDS[number as usize % 3], number);
    }
    let all: Vec<String> = (0..20).map(|number: u32| number.to_string()).collect();
    for board in BOARDS {
        let read = agents.told(
            board,
            &["query", "SELECT group_concat(a, ' ') FROM (SELECT a FROM t ORDER BY a)"],
        );
        assert!(read.contains(&all.join(" ")), "{board}: {read}");
    }
    assert!(posted.load(Ordering::Relaxed) > 50);
    let counters = agents.status("b").expect("it answers")["counters"].clone();
    for reason in ["datagrams_forged", "datagrams_replayed"] {
        assert!(counters[reason].as_u64() > Some(0), "{reason}: {counters}");
    }
}

#[test]
fn the_doctor_says_whether_a_broker_will_do_and_what_is_to_be_done() {
    let (Some(fine), Some(closed)) = (Broker::new(""), Broker::new("password_file /dev/null"))
    else {
        return;
    };
    let agents = Agents::new(&program::debug());
    agents.configure("a", &configuration("udp", &[fine.url(), closed.url()]));
    let output = agents.ask("a", &["doctor", "mqtt"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!output.status.success());
    assert!(said.contains(&format!("{}: fine: 20 datagrams of 1200 bytes", fine.url())), "{said}");
    assert!(said.contains(&format!("{}: it does not know this account", closed.url())), "{said}");
    let said = agents.told("a", &["doctor", "mqtt", "--broker", &fine.url()]);
    assert!(said.contains("fine"), "{said}");
    // Its list lets everybody listen, and nobody post.
    let list = closed.file("list");
    std::fs::write(&list, "topic read understudy/#\n").expect("a file");
    let Some(strict) = Broker::new(&format!("acl_file {}", list.display())) else { return };
    let output = agents.ask("a", &["doctor", "mqtt", "--broker", &strict.url()]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!output.status.success() && said.contains("readwrite understudy/#"), "{said}");
    let refused = agents.refused("b", &["doctor", "mqtt"]);
    assert!(refused.contains("names no [[broker]]"), "{refused}");
}
