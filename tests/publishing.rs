//! Readings and duties told to the world: real boards, a real broker, a listener that has
//! everything that was told, and the board that tells it killed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use rumqttc::{Client, Event, MqttOptions, Packet, QoS};
use serde_json::Value;
use understudy_tests::{agents::Agents, broker::Broker, processes::signal, program};

use super::duties::Ledger;

const BOARDS: [&str; 3] = ["a", "b", "c"];

/// Looks at something that comes about soon, one every 20 ms.
const TRIES: u32 = 2_000;

/// A message that came.
#[derive(Clone, Debug)]
struct Message {
    topic: String,
    body: Vec<u8>,
}

impl Message {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// Somebody who hears all that is posted, also what was while the line was gone.
#[derive(Clone, Default)]
struct Listener(Arc<Mutex<Vec<Message>>>);

impl Listener {
    fn new(broker: &Broker, filters: &[&str]) -> Self {
        let listener = Self::default();
        let mut options = MqttOptions::new("listener", "127.0.0.1", broker.port);
        options.set_clean_session(false).set_max_packet_size(1 << 20, 1 << 20);
        let (client, mut connection) = Client::new(options, 64);
        let (heard, filters) = (Arc::clone(&listener.0), filters.iter().map(|it| (*it).to_owned()));
        let filters: Vec<String> = filters.collect();
        thread::spawn(move || {
            for event in connection.iter() {
                match event {
                    Ok(Event::Incoming(Packet::ConnAck(_))) => {
                        for filter in &filters {
                            let _ = client.try_subscribe(filter, QoS::AtLeastOnce);
                        }
                    }
                    Ok(Event::Incoming(Packet::Publish(it))) => {
                        let message = Message { topic: it.topic, body: it.payload.to_vec() };
                        heard.lock().unwrap_or_else(PoisonError::into_inner).push(message);
                    }
                    Ok(_) => {}
                    Err(_) => thread::sleep(Duration::from_millis(100)),
                }
            }
        });
        listener
    }

    fn all(&self) -> Vec<Message> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The last on a topic, once there is one that is wanted.
    fn wait(&self, topic: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        for _ in 0..TRIES {
            let all = self.all();
            let last = all.iter().rev().find(|message| message.topic == topic);
            let last = last.map(|message| match std::str::from_utf8(&message.body) {
                Ok(word @ ("online" | "offline")) => Value::from(word),
                _ => message.json(),
            });
            if let Some(last) = last.filter(|last| wanted(last)) {
                return last;
            }
            thread::sleep(Duration::from_millis(20));
        }
        panic!("nothing like it is told on {topic}: {:?}", self.all());
    }

    /// The last on a topic that begins so, once there is one.
    fn wait_any(&self, start: &str) -> Value {
        for _ in 0..TRIES {
            let all = self.all();
            let last = all.iter().rev().find(|message| message.topic.starts_with(start));
            if let Some(last) = last {
                return last.json();
            }
            thread::sleep(Duration::from_millis(20));
        }
        panic!("nothing is told below {start}");
    }

    /// Posts this, retained where it is a configuration.
    fn post(&self, broker: &Broker, topic: &str, body: &str) {
        let options = MqttOptions::new("somebody", "127.0.0.1", broker.port);
        let (client, mut connection) = Client::new(options, 8);
        let retain = topic.ends_with("/config");
        client.publish(topic, QoS::AtLeastOnce, retain, body).expect("it has room");
        let is_there =
            |event: Result<Event, _>| matches!(event, Ok(Event::Incoming(Packet::PubAck(_))));
        assert!(connection.iter().any(is_there), "it is posted");
        self.wait_for_body(topic, body.as_bytes());
    }

    fn wait_gone(&self, topic: &str) {
        self.wait_for_body(topic, b"");
    }

    fn wait_for_body(&self, topic: &str, body: &[u8]) {
        let is_there = (0..TRIES).any(|_| {
            thread::sleep(Duration::from_millis(20));
            let all = self.all();
            let last = all.iter().rev().find(|message| message.topic == topic);
            last.is_some_and(|message| message.body == body)
        });
        assert!(is_there, "{topic} does not become {:?}", String::from_utf8_lossy(body));
    }

    /// Numbers told of a sensor, each with the indices it was told under.
    fn numbers(&self, sensor: &str) -> BTreeMap<i64, Vec<String>> {
        let mut numbers: BTreeMap<i64, Vec<String>> = BTreeMap::new();
        for json in self.all().iter().map(Message::json).filter(|json| json["sensor"] == sensor) {
            let index = json["index"].as_str().expect("it has an index").to_owned();
            numbers.entry(json["value"].as_i64().expect("a number")).or_default().push(index);
        }
        numbers
    }

    fn wait_for(&self, sensor: &str, count: usize) -> BTreeMap<i64, Vec<String>> {
        for _ in 0..TRIES {
            let numbers = self.numbers(sensor);
            if numbers.len() >= count {
                return numbers;
            }
            thread::sleep(Duration::from_millis(20));
        }
        panic!("{} of {count} numbers are told", self.numbers(sensor).len());
    }
}

fn publishing(broker: &Broker, more: &str) -> Agents {
    let mut agents = Agents::new(&program::debug());
    for board in BOARDS {
        let text = format!("[[broker]]\nurl = \"{}\"\n[publish]\n{more}", broker.url());
        agents.configure(board, &text);
    }
    agents.form(&BOARDS);
    let _made = agents.told("a", &["duty", "add", "mqtt-out"]);
    agents
}

/// Name of the board that publishes.
fn publisher(agents: &Agents, asked: &str) -> String {
    let holds = |status: &Value| {
        let duties = status["duties"].as_array()?;
        let duty = duties.iter().find(|duty| duty["name"] == "mqtt-out")?;
        duty["holder"].as_str().map(String::from)
    };
    agents.wait(asked, "to know who publishes", |status| holds(status).is_some());
    agents.status(asked).as_ref().and_then(holds).expect("somebody does")
}

fn write(agents: &Agents, board: &str, numbers: std::ops::Range<i64>) {
    for number in numbers {
        let _stored = agents.told(board, &["write", "count", &number.to_string()]);
    }
}

/// One value for each of these boards' sensors, in one message.
fn write_together(agents: &Agents, board: &str, numbers: std::ops::Range<i64>) {
    let body = numbers.fold(String::new(), |mut body, number| {
        let _ = writeln!(body, "count {number}");
        body
    });
    let answer = agents.http(board, "POST /readings HTTP/1.1", &body);
    assert!(answer.contains("committed"), "{answer}");
}

/// Each of these was told, more than once only as the same.
fn check(numbers: &BTreeMap<i64, Vec<String>>, wanted: std::ops::Range<i64>) -> usize {
    let missing: Vec<i64> = wanted.filter(|number| !numbers.contains_key(number)).collect();
    assert!(missing.is_empty(), "never told: {missing:?}");
    for (number, indices) in numbers {
        let different: BTreeSet<&String> = indices.iter().collect();
        assert_eq!(different.len(), 1, "{number} is told as {indices:?}");
    }
    numbers.values().map(|indices| indices.len() - 1).sum()
}

#[test]
fn readings_and_duties_are_told_once_and_home_assistant_knows_them() {
    let Some(broker) = Broker::new("") else { return };
    let agents = publishing(&broker, "home_assistant = \"homeassistant\"\n");
    let listener = Listener::new(&broker, &["understudy/#", "homeassistant/#"]);
    let group = agents.status("a").expect("it answers")["group"].as_str().expect("it").to_owned();
    let by = publisher(&agents, "a");
    let available = format!("understudy/{group}/available");
    listener.wait(&available, |it| it == "online");
    let stored = agents.http("b", "POST /readings HTTP/1.1", "hall/temp 21.5 1700000000");
    assert!(stored.contains("committed"), "{stored}");
    let _stored = agents.told("c", &["write", "a+b", "3"]);
    let told = listener.wait(&format!("understudy/{group}/reading/hall/temp"), |_| true);
    assert_eq!((&told["sensor"], &told["value"]), (&"hall/temp".into(), &21.5.into()), "{told}");
    assert_eq!(told["time"], 1_700_000_000_000_000_i64, "{told}");
    assert!(told["index"].is_string(), "{told}");
    let odd = listener.wait_any(&format!("understudy/{group}/reading/a_b_"));
    assert_eq!((&odd["sensor"], &odd["value"]), (&"a+b".into(), &3.into()));
    let _set = agents.told("a", &["execute", "UPDATE sensor SET unit = '\u{b0}C' WHERE id = 1"]);
    let _made = agents.told("a", &["duty", "add", "pump"]);
    let ledger = Ledger::default();
    ledger.keep(&agents, &BOARDS, "pump");
    let holder = ledger.wait_for_another("").board;
    let pump = format!("understudy/{group}/duty/pump");
    let told = listener.wait(&pump, |it| it["holder"] == holder.as_str());
    assert_eq!((&told["event"], &told["duty"]), (&"take".into(), &"pump".into()), "{told}");
    let _paused = agents.told("a", &["duty", "pause", "pump"]);
    let told = listener.wait(&pump, |it| it["event"] == "lose");
    assert!(told["holder"].is_null() && told["board"] == holder.as_str(), "{told}");
    let configs = || -> BTreeMap<String, Value> {
        let all = listener.all().into_iter();
        let configs = all.filter(|message| message.topic.ends_with("/config"));
        configs.map(|message| (message.topic.clone(), message.json())).collect()
    };
    // The unit was set before the duty came, which makes known all that is new.
    let known = configs();
    let hall = known.values().find(|it| it["name"] == "hall/temp").expect("it is known");
    assert_eq!(
        (&hall["unit_of_meas"], &hall["dev_cla"]),
        (&"\u{b0}C".into(), &"temperature".into())
    );
    assert_eq!(hall["stat_t"], format!("understudy/{group}/reading/hall/temp"));
    assert!(known.values().any(|it| it["name"] == "duty pump"), "{known:?}");
    let unique: BTreeSet<String> = known.values().map(|it| it["uniq_id"].to_string()).collect();
    assert_eq!(unique.len(), known.len(), "{known:?}");
    let shown = agents.status(&by).expect("it answers")["bridges"][0].clone();
    assert!(shown["connected"] == true && shown["readings"] == 2, "{shown}");
    ledger.check();
    // What was made known long ago goes, what Home Assistant has forgotten comes again, and
    // nothing of that depends on who tells it.
    let node = hall["dev"]["ids"][0].as_str().expect("it has one");
    let old = format!("homeassistant/sensor/{node}/old/config");
    listener.post(&broker, &old, "{\"name\":\"old\"}");
    let _moved = agents.told("a", &["duty", "release", "mqtt-out"]);
    listener.wait_gone(&old);
    let _deleted = agents.told("a", &["execute", "DELETE FROM sensor WHERE name = 'a+b'"]);
    let count = |name: &str| listener.all().iter().filter(|it| it.json()["name"] == name).count();
    let (before, gone) = (count("hall/temp"), known.iter().find(|(_, it)| it["name"] == "a+b"));
    let gone = gone.expect("it was known").0;
    // The board that tells may be behind for a moment.
    let is_gone = (0..60).any(|_| {
        listener.post(&broker, "homeassistant/status", "online");
        thread::sleep(Duration::from_millis(500));
        let all = listener.all();
        let last = all.iter().rev().find(|message| message.topic == *gone);
        last.is_some_and(|message| message.body.is_empty())
    });
    assert!(is_gone, "what is deleted is not known any more");
    assert!(count("hall/temp") > before, "what is there is told again");
    assert_eq!(configs().keys().filter(|topic| **topic != old).count(), known.len(), "no other");
}

#[test]
fn nothing_is_skipped_when_the_board_that_publishes_is_killed_or_its_broker() {
    let Some(mut broker) = Broker::new("persistence true\nmax_queued_messages 0") else { return };
    let mut agents = publishing(&broker, "home_assistant = \"homeassistant\"\n");
    let listener = Listener::new(&broker, &["understudy/#", "homeassistant/#"]);
    let group = agents.status("a").expect("it answers")["group"].as_str().expect("it").to_owned();
    let available = format!("understudy/{group}/available");
    listener.wait(&available, |it| it == "online");
    let first = publisher(&agents, "a");
    let other = BOARDS.into_iter().find(|board| *board != first).expect("there are three");
    write(&agents, other, 0..20);
    listener.wait_for("count", 20);
    // Its parent lives and says so: what the agent did itself has ended with it.
    let agent = agents.status(&first).expect("it answers")["agent_pid"].to_string();
    signal("KILL", agent);
    let _ended = agents.ended(&first);
    write(&agents, other, 20..40);
    write_together(&agents, other, 40..1_240);
    let numbers = listener.wait_for("count", 1_240);
    let twice = check(&numbers, 0..1_240);
    assert!(twice <= 1_000, "{twice} are told twice");
    assert!(twice >= 20, "the first is killed before it leaves its place: {twice}");
    let second = publisher(&agents, other);
    assert_ne!(second, first);
    let history = agents.told(other, &["history", "--duty", "mqtt-out", "--json"]);
    assert!(history.contains("agent killed or failed: obituary"), "{history}");
    listener.wait(&available, |it| it == "online");
    broker.stop();
    write(&agents, other, 1_240..1_260);
    broker.start();
    let numbers = listener.wait_for("count", 1_260);
    check(&numbers, 0..1_260);
    listener.wait(&available, |it| it == "online");
    let configs: BTreeSet<String> = listener
        .all()
        .iter()
        .filter(|message| message.topic.ends_with("/config"))
        .map(|message| message.topic.clone())
        .collect();
    assert_eq!(configs.len(), 2, "a sensor and a duty, whoever tells it: {configs:?}");
}

#[test]
fn a_board_that_cannot_reach_the_broker_leaves_it_to_one_that_can_and_says_why() {
    let Some(broker) = Broker::new("") else { return };
    let mut agents = Agents::new(&program::debug());
    for (board, url) in [("a", "mqtt://127.0.0.1:1"), ("b", &broker.url()[..])] {
        agents.configure(board, &format!("[[broker]]\nurl = \"{url}\"\n[publish]\n"));
    }
    agents.form(&["a", "b"]);
    let _made = agents.told("a", &["duty", "add", "mqtt-out"]);
    assert_eq!(publisher(&agents, "a"), "b");
    agents.wait("a", "to say why not", |status| {
        let why = status["not_kept"]["mqtt-out"].as_str().unwrap_or_default();
        why.contains("127.0.0.1:1: it cannot be reached")
    });
}

/// Stored with times of their own, a second apart.
fn write_timed(agents: &Agents, board: &str, numbers: std::ops::Range<i64>) {
    let mut body = String::new();
    for number in numbers {
        let _ = writeln!(body, "count {number} {}", 1_700_000_000 + number);
    }
    let answer = agents.http(board, "POST /readings HTTP/1.1", &body);
    assert!(answer.contains("committed"), "{answer}");
}

#[test]
fn what_the_log_has_no_longer_is_told_from_the_table() {
    let Some(mut broker) = Broker::new("persistence true\nmax_queued_messages 0") else { return };
    let mut agents = Agents::new(&program::debug());
    let url = broker.url();
    let text =
        format!("[database]\ncommit_interval_s = 1\n[[broker]]\nurl = \"{url}\"\n[publish]\n");
    agents.configure("a", &text);
    agents.run("a");
    let _token = agents.found("a");
    let _made = agents.told("a", &["duty", "add", "mqtt-out"]);
    let listener = Listener::new(&broker, &["understudy/#"]);
    let group = agents.status("a").expect("it answers")["group"].as_str().expect("it").to_owned();
    listener.wait(&format!("understudy/{group}/available"), |it| it == "online");
    write_timed(&agents, "a", 0..5);
    let told = |from: i64, to: i64| {
        let numbers = || -> BTreeSet<i64> {
            let all = listener.all().into_iter().map(|message| message.json());
            all.filter(|json| json["sensor"] == "count")
                .filter_map(|it| it["value"].as_i64())
                .collect()
        };
        let is_so = (0..TRIES).any(|_| {
            thread::sleep(Duration::from_millis(20));
            (from..to).all(|number| numbers().contains(&number))
        });
        assert!(is_so, "{from} to {to}: {:?}", numbers());
    };
    told(0, 5);
    broker.stop();
    write_timed(&agents, "a", 5..50);
    // More than the log keeps.
    let _made = agents.told("a", &["execute", "CREATE TABLE filler(b)"]);
    for _ in 0..24 {
        let _filled =
            agents.told("a", &["execute", "INSERT INTO filler VALUES (randomblob(700000))"]);
        thread::sleep(Duration::from_millis(100));
    }
    write_timed(&agents, "a", 50..60);
    broker.start();
    told(0, 60);
    let all = listener.all();
    let late = all.iter().map(Message::json).filter(|json| json["late"] == true);
    let late: BTreeSet<i64> = late.filter_map(|json| json["value"].as_i64()).collect();
    assert!((5..50).all(|number| late.contains(&number)), "the log was cut: {late:?}");
}
