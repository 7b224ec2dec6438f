//! Brokers that are shared, strict or crowded: other groups and nonsense on them, lists of
//! what may be posted and heard, and two boards of one name.

use std::{
    fs,
    path::PathBuf,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use rumqttc::{Client, Event, MqttOptions, Packet, QoS};
use serde_json::Value;
use understudy_tests::{agents::Agents, broker::Broker};

use super::mqtt::{self, BOARDS};

fn boards(broker: &Broker) -> Agents {
    mqtt::boards("mqtt", &[broker])
}

/// One board that has a group of its own.
fn one_board(broker: &Broker) -> Agents {
    let mut agents = boards(broker);
    agents.run("a");
    let _token = agents.found("a");
    agents
}

fn wait_for_trouble(agents: &Agents, board: &str, words: &str) {
    agents.wait(board, "to say what is wrong", |status| {
        status["brokers"][0]["trouble"].as_str().is_some_and(|trouble| trouble.contains(words))
    });
}

fn wait_for_no_trouble(agents: &Agents, board: &str) {
    agents.wait(board, "to say that nothing is wrong", |status| {
        let line = &status["brokers"][0];
        line["connected"] == true && line["trouble"] == Value::Null
    });
}

/// What of datagrams the board has dropped for this reason.
fn dropped(agents: &Agents, board: &str, reason: &str) -> u64 {
    let counters = agents.status(board).expect("it answers")["counters"].clone();
    counters[format!("datagrams_{reason}")].as_u64().unwrap_or(0)
}

/// Somebody with a login who posts to every mailbox what makes no sense there, and what
/// boards of all groups say to others: so many times altogether.
fn post_nonsense(port: u16) -> Arc<AtomicUsize> {
    let posted = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&posted);
    thread::spawn(move || {
        let mut options = MqttOptions::new("nonsense", "127.0.0.1", port);
        options.set_max_packet_size(1 << 16, 1 << 16);
        let (client, mut connection) = Client::new(options, 4_096);
        let _ = client.try_subscribe("understudy/#", QoS::AtMostOnce);
        let mut mailboxes = Vec::new();
        for event in connection.iter().map_while(Result::ok) {
            let Event::Incoming(Packet::Publish(publish)) = event else { continue };
            let levels: Vec<&str> = publish.topic.split('/').collect();
            let [prefix, group, to, from] = levels[..] else { continue };
            if to == "status" {
                mailboxes.push(format!("{prefix}/{group}/{from}"));
            }
            if from == "eeeeeeeeeeeeeeee" || count.load(Ordering::Relaxed) > 20_000 {
                continue;
            }
            let old = [&[9, 0, 0][..], &publish.payload].concat();
            for mailbox in &mailboxes {
                for (from, payload) in [
                    ("eeeeeeeeeeeeeeee", Vec::new()),
                    ("eeeeeeeeeeeeeeee", publish.payload.to_vec()),
                    ("eeeeeeeeeeeeeeee", old.clone()),
                    ("eeeeeeeeeeeeeeee", vec![3; 1_201]),
                    ("eeeeeeeeeeeeeeee", vec![7; 60_000]),
                    ("no mailbox", vec![3; 100]),
                ] {
                    let topic = format!("{mailbox}/{from}");
                    let _ = client.try_publish(topic, QoS::AtMostOnce, false, payload);
                    count.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    });
    posted
}

#[test]
fn two_groups_share_a_broker_and_nonsense_there_disturbs_neither() {
    let Some(broker) = Broker::new("") else { return };
    let (mut one, mut other) = (boards(&broker), boards(&broker));
    for (agents, number) in [(&mut one, 1), (&mut other, 2)] {
        agents.form(&BOARDS);
        let made = format!("INSERT INTO t VALUES ({number})");
        let _made = agents.told("b", &["execute", "CREATE TABLE t(a)", &made]);
    }
    for agents in [&one, &other] {
        for (board, reason) in [("a", "foreign"), ("b", "unknown"), ("c", "malformed")] {
            assert_eq!(dropped(agents, board, reason), 0, "{board} {reason}");
        }
    }
    let posted = post_nonsense(broker.port);
    for round in 0..10 {
        for (agents, number) in [(&one, 1), (&other, 2)] {
            let sql = format!("INSERT INTO t VALUES ({number})");
            let _done = agents.told(BOARDS[round % 3], &["execute", &sql]);
        }
    }
    for (agents, sum) in [(&one, "11 11"), (&other, "11 22")] {
        for board in BOARDS {
            let read = agents.told(board, &["query", "SELECT count(*) || ' ' || sum(a) FROM t"]);
            assert!(read.contains(sum), "{board}: {read}");
            for reason in ["malformed", "unknown"] {
                assert!(dropped(agents, board, reason) > 0, "{board} {reason}");
            }
            let line = agents.status(board).expect("it answers")["brokers"][0].clone();
            assert!(line["dropped"].as_u64() > Some(0), "{board}: {line}");
            assert_eq!(line["trouble"], Value::Null, "{board}");
        }
    }
    assert!(posted.load(Ordering::Relaxed) > 100);
}

#[test]
fn a_board_whose_posts_or_mailbox_a_list_forbids_says_so_until_it_is_allowed() {
    let Some(folder) = Broker::new("") else { return };
    let list = folder.file("list");
    fs::write(&list, "topic readwrite understudy/#\n").expect("a file");
    let Some(broker) = Broker::new(&format!("acl_file {}", list.display())) else { return };
    let mut agents = one_board(&broker);
    for allowed in ["read", "write"] {
        wait_for_no_trouble(&agents, "a");
        fs::write(&list, format!("topic {allowed} understudy/#\n")).expect("a file");
        broker.reload();
        // It posts to itself when the line is new, and every minute.
        agents.kill("a");
        agents.run("a");
        wait_for_trouble(&agents, "a", "both post and hear under understudy/");
        let shown = agents.told("a", &["status"]);
        assert!(shown.contains("will not do: it does not let this board"), "{shown}");
        fs::write(&list, "topic readwrite understudy/#\n").expect("a file");
        broker.reload();
    }
    wait_for_no_trouble(&agents, "a");
}

/// mosquitto's own part that refuses subscriptions, where it is installed.
fn refusing_part() -> Option<PathBuf> {
    let found = fs::read_dir("/usr/lib").ok()?.filter_map(Result::ok);
    let mut found = found.map(|entry| entry.path().join("mosquitto_dynamic_security.so"));
    found.find(|path| path.exists())
}

#[test]
fn a_broker_that_refuses_the_subscription_is_named() {
    let (Some(folder), Some(part)) = (Broker::new(""), refusing_part()) else { return };
    let lists = folder.file("lists.json");
    let text = r#"{"defaultACLAccess": {"publishClientSend": true, "publishClientReceive": true,
        "subscribe": false, "unsubscribe": true}}"#;
    fs::write(&lists, text).expect("a file");
    let settings = format!("plugin {}\nplugin_opt_config_file {}", part.display(), lists.display());
    let Some(broker) = Broker::new(&settings) else { return };
    let agents = one_board(&broker);
    let words = "does not let this board hear under understudy/";
    wait_for_trouble(&agents, "a", words);
    let said = agents.ask("a", &["doctor", "mqtt"]).stdout;
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(said.contains("does not let this account listen"), "{said}");
}

/// Times that a broker has let a board in.
fn connections(broker: &Broker) -> usize {
    broker.log().matches(" as us-").count()
}

#[test]
fn two_boards_of_one_name_say_so_without_a_storm_and_one_alone_is_well_again() {
    let Some(broker) = Broker::new("") else { return };
    let mut agents = one_board(&broker);
    agents.stop("a");
    let copied = Command::new("cp")
        .arg("-r")
        .args([agents.directory("a"), agents.directory("copy")])
        .status();
    assert!(copied.expect("cp runs").success());
    agents.run("a");
    agents.run("copy");
    for board in ["a", "copy"] {
        wait_for_trouble(&agents, board, "has another board a copy of this one's card");
    }
    let before = connections(&broker);
    thread::sleep(Duration::from_secs(20));
    let tries = connections(&broker) - before;
    assert!(tries <= 10, "{tries} in 20 s");
    for board in ["a", "copy"] {
        wait_for_trouble(&agents, board, "has another board a copy of this one's card");
    }
    agents.kill("copy");
    wait_for_no_trouble(&agents, "a");
}
