//! Sensors' messages by MQTT: real boards that subscribe at a real broker, both killed and
//! stopped while messages come, and one that brings things again as a broker does after a
//! line has broken.

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
use understudy_tests::{
    agents::Agents, broker::Broker, posing::Posing, processes::signal, program,
};

const BOARDS: [&str; 3] = ["a", "b", "c"];

/// Looks at something that comes about soon, one every 50 ms.
const TRIES: usize = 2_400;

const SUBSCRIPTIONS: &str = r#"
[[subscribe]]
topic = "zigbee2mqtt/+"
values = ["temperature", "contact"]
time = "last_seen"
[[subscribe]]
topic = "tele/+/SENSOR"
sensor = "{1}/{path}"
values = ["*"]
[[subscribe]]
topic = "home/#"
"#;

/// What a board is told of this broker, for others than boards.
fn configuration(url: &str, subscriptions: &str) -> String {
    format!("[[broker]]\nurl = \"{url}\"\nboards = false\n{subscriptions}")
}

/// A group of these boards, with the duty.
fn group(boards: &[&str], text: &str) -> Agents {
    let mut agents = Agents::new(&program::debug());
    for board in boards {
        agents.configure(board, text);
    }
    agents.form(boards);
    let _made = agents.told(boards[0], &["duty", "add", "mqtt-in"]);
    agents
}

fn bridge(status: &Value) -> &Value {
    &status["bridges"][0]
}

/// The board that subscribes now, other than that.
fn subscriber(agents: &Agents, boards: &[&'static str], not: &str) -> &'static str {
    for _ in 0..TRIES {
        let connected = |board: &&&str| {
            agents.status(board).is_some_and(|status| bridge(&status)["connected"] == true)
        };
        if let Some(board) = boards.iter().filter(|board| **board != not).find(connected) {
            return board;
        }
        thread::sleep(Duration::from_millis(50));
    }
    panic!("nobody subscribes: {:?}", agents.status(boards[0]));
}

fn query(agents: &Agents, board: &str, sql: &str) -> String {
    let told = agents.ask(board, &["query", sql]);
    String::from_utf8_lossy(&told.stdout).lines().nth(2).unwrap_or_default().to_owned()
}

/// Waits until a query says that, on that board.
fn wait_for(agents: &Agents, board: &str, sql: &str, wanted: impl Fn(&str) -> bool) {
    for _ in 0..TRIES {
        if wanted(&query(agents, board, sql)) {
            return;
        }
        thread::sleep(Duration::from_millis(50));
    }
    panic!("{board}: {sql}: {}, {:?}", query(agents, board, sql), agents.status(board));
}

const ALL: &str = "SELECT coalesce(group_concat(sensor || '=' || value, ' '), '') FROM \
                   (SELECT sensor, value FROM readings ORDER BY sensor, time)";

/// Somebody who posts at a broker, and what of it that has taken.
struct Poster {
    client: Client,
    taken: Arc<AtomicUsize>,
    posted: usize,
}

impl Poster {
    fn new(port: u16) -> Self {
        let mut options = MqttOptions::new("poster", "127.0.0.1", port);
        options.set_max_packet_size(1 << 20, 1 << 20);
        let (client, mut connection) = Client::new(options, 100);
        let taken = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&taken);
        thread::spawn(move || {
            for event in connection.iter().map_while(Result::ok) {
                if matches!(event, Event::Incoming(Packet::PubAck(_))) {
                    count.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        Self { client, taken, posted: 0 }
    }

    fn post(&mut self, topic: &str, payload: &str) {
        self.client.publish(topic, QoS::AtLeastOnce, false, payload).expect("it is there");
        self.posted += 1;
    }

    /// Waits until the broker has all.
    fn wait(&self) {
        let is_taken = (0..TRIES).any(|_| {
            thread::sleep(Duration::from_millis(10));
            self.taken.load(Ordering::Relaxed) == self.posted
        });
        assert!(is_taken, "the broker takes all");
    }
}

#[test]
fn what_is_posted_at_a_broker_is_on_all_boards_under_the_names_of_its_templates() {
    let Some(broker) = Broker::new("") else { return };
    let mut poster = Poster::new(broker.port);
    poster.client.publish("home/old", QoS::AtLeastOnce, true, "5").expect("it is there");
    poster.posted += 1;
    poster.wait();
    let mut agents = group(&BOARDS, &configuration(&broker.url(), SUBSCRIPTIONS));
    let first = subscriber(&agents, &BOARDS, "");
    for (topic, payload) in [
        ("zigbee2mqtt/kitchen", r#"{"temperature":21.5,"last_seen":"2023-11-14T22:13:20.250Z"}"#),
        ("zigbee2mqtt/door", r#"{"contact":true,"battery":100,"temperature":null}"#),
        ("zigbee2mqtt/bridge/state", r#"{"state":"online"}"#),
        ("tele/attic/SENSOR", r#"{"Time":"2023-11-14T22:13:20","AM2301":{"Temperature":-3.0}}"#),
        ("home/garden/pump", "ON"),
        ("zigbee2mqtt/broken", "{\"temperature\":"),
        ("home/level", "21,5"),
        ("home/level", "7"),
    ] {
        poster.post(topic, payload);
    }
    let expected = "attic/AM2301.Temperature=-3.0 home/garden/pump=ON home/level=7 \
                    zigbee2mqtt/door/contact=1 zigbee2mqtt/kitchen/temperature=21.5";
    for board in BOARDS {
        wait_for(&agents, board, ALL, |found| found == expected);
    }
    let time = "SELECT utc FROM readings WHERE sensor = 'zigbee2mqtt/kitchen/temperature'";
    assert_eq!(query(&agents, "b", time), "2023-11-14T22:13:20.250000Z");
    let status = agents.status(first).expect("it answers");
    let (messages, refused) = (&bridge(&status)["messages"], &bridge(&status)["refused"]);
    assert_eq!((messages.as_u64(), refused.as_u64()), (Some(5), Some(2)), "{status}");
    let shown = agents.told(first, &["status"]);
    assert!(shown.contains("2 refused, the last: \"home/level\": \"21,5\" is no value"), "{shown}");
    assert!(agents.log(first).contains("zigbee2mqtt/broken"));
    let sessions = |broker: &Broker| broker.log().matches("(p2, c0,").count();
    // The first finds nothing kept, and begins anew.
    assert_eq!(sessions(&broker), 2, "one board subscribes: {}", broker.log());
    agents.kill(first);
    let _next = subscriber(&agents, &BOARDS, first);
    assert_eq!(sessions(&broker), 3, "and then another: {}", broker.log());
    poster.post("home/level", "8");
    let next = BOARDS.iter().find(|board| **board != first).expect("there are others");
    wait_for(&agents, next, ALL, |found| found.contains("home/level=7 home/level=8"));
}

const NUMBERS: &str = "SELECT count(*) || ' ' || count(DISTINCT value) FROM readings";

/// Waits until all numbers below this are on that board, and sees to it that none is twice.
fn check(agents: &Agents, board: &str, count: usize) {
    wait_for(agents, board, NUMBERS, |found| found.ends_with(&format!(" {count}")));
    assert_eq!(query(agents, board, NUMBERS), format!("{count} {count}"), "each is there once");
}

/// Posts these numbers, and has something happen when so many of all are stored.
fn stream(
    agents: &mut Agents,
    poster: &mut Poster,
    numbers: std::ops::Range<usize>,
    happens: impl FnOnce(&mut Agents),
) {
    let (first, last) = (numbers.start, numbers.end);
    thread::scope(|scope| {
        scope.spawn(|| numbers.for_each(|number| poster.post("home/n", &number.to_string())));
        let board = BOARDS.into_iter().find(|board| agents.status(board).is_some());
        let is_under_way = |found: &str| {
            let count = found.split(' ').next().and_then(|count| count.parse::<usize>().ok());
            count.is_some_and(|count| count > first + (last - first) / 8)
        };
        wait_for(agents, board.expect("one runs"), NUMBERS, is_under_way);
        happens(agents);
    });
}

#[test]
fn every_message_is_stored_once_whoever_is_killed_or_stands_still_meanwhile() {
    let settings = "max_queued_messages 0\npersistence true\nautosave_interval 0\n";
    let Some(mut broker) = Broker::new(settings) else { return };
    let mut agents = group(&BOARDS, &configuration(&broker.url(), SUBSCRIPTIONS));
    let mut poster = Poster::new(broker.port);
    let first = subscriber(&agents, &BOARDS, "");
    stream(&mut agents, &mut poster, 0..3_000, |agents| agents.kill(first));
    let second = subscriber(&agents, &BOARDS, first);
    check(&agents, second, 3_000);
    agents.run(first);

    let agent = agents.status(second).expect("it answers")["agent_pid"].to_string();
    stream(&mut agents, &mut poster, 3_000..6_000, |_| signal("STOP", &agent));
    let others: Vec<&str> = BOARDS.into_iter().filter(|board| *board != second).collect();
    let third = subscriber(&agents, &others, "");
    check(&agents, third, 6_000);
    signal("CONT", &agent);
    agents.wait(second, "to know that it holds nothing", |status| {
        bridge(status)["connected"] == false
    });

    let _paused = agents.told(first, &["duty", "pause", "mqtt-in"]);
    agents.wait(third, "to end its line", |status| bridge(status)["connected"] == false);
    (6_000..9_000).for_each(|number| poster.post("home/n", &number.to_string()));
    poster.wait();
    broker.save();
    let _resumed = agents.told(first, &["duty", "resume", "mqtt-in"]);
    wait_for(&agents, first, NUMBERS, |found| !found.starts_with("6000 "));
    broker.kill();
    broker.start();
    for board in BOARDS {
        check(&agents, board, 9_000);
    }
}

#[test]
fn what_a_broker_brings_again_is_the_same_and_what_only_looks_so_is_not() {
    let posing = Posing::new("");
    let text = configuration(&posing.url(), "[[subscribe]]\ntopic = \"t\"\n");
    let agents = group(&["a"], &text);
    let values = |wanted: &str| wait_for(&agents, "a", ALL, |found| found == wanted);
    let mut guest = posing.guest(false, 1);
    guest.bring(1, "t", "1", false);
    guest.bring(2, "t", "2", false);
    values("t=1 t=2");
    drop(guest);
    let mut guest = posing.guest(true, 1);
    // The second is one that a broker sent before it died, and has forgotten that.
    for (id, payload, is_again) in [(1, "1", true), (2, "2", false), (3, "3", false)] {
        guest.bring(id, "t", payload, is_again);
    }
    let acknowledged: Vec<u16> = (0..3).map(|_| guest.acknowledged()).collect();
    assert_eq!(acknowledged, [1, 2, 3]);
    values("t=1 t=2 t=3");
    // Whoever is rid of a packet id may give it to another message.
    for _ in 0..3 {
        guest.bring(1, "t", "on", false);
        assert_eq!(guest.acknowledged(), 1);
    }
    values("t=1 t=2 t=3 t=on t=on t=on");
    drop(guest);
    let mut guest = posing.guest(true, 1);
    guest.bring(1, "t", "on", true);
    assert_eq!(guest.acknowledged(), 1);
    values("t=1 t=2 t=3 t=on t=on t=on");
    drop(guest);
    let mut guest = posing.guest(false, 1);
    guest.bring(1, "t", "on", false);
    assert_eq!(guest.acknowledged(), 1);
    values("t=1 t=2 t=3 t=on t=on t=on t=on");
    assert_eq!(query(&agents, "a", "SELECT count(DISTINCT token) FROM reading"), "1");
}

/// Many readings, of which far fewer ids are left when they are through.
fn forgets_ids(settings: &str) {
    let Some(broker) = Broker::new(settings) else { return };
    let agents = group(&["a"], &configuration(&broker.url(), SUBSCRIPTIONS));
    let _there = subscriber(&agents, &["a"], "");
    let mut poster = Poster::new(broker.port);
    let values: Vec<String> = (0..100).map(|value| value.to_string()).collect();
    let payload = format!("{{\"v\":[{}]}}", values.join(","));
    (0..500).for_each(|_| poster.post("tele/a/SENSOR", &payload));
    wait_for(&agents, "a", NUMBERS, |found| found.starts_with("50000 "));
    let ids = "SELECT count(*) FROM _understudy_reading_id";
    wait_for(&agents, "a", ids, |count| count.parse::<u32>().is_ok_and(|count| count <= 35_000));
    poster.post("home/n", "1000");
    wait_for(&agents, "a", NUMBERS, |found| found == "50001 101");
}

#[test]
fn ids_of_a_long_stream_are_forgotten_while_it_goes_on() {
    forgets_ids("max_queued_messages 100000");
}

#[test]
fn ids_are_forgotten_where_a_broker_brings_all_it_has_before_it_answers() {
    // It then has no bound for what is on its way either.
    forgets_ids("max_queued_messages 0");
}

#[test]
fn what_is_wrong_with_a_broker_is_said_and_mends_itself() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr());
    let port = port.expect("a free port").port();
    let Some(mut broker) = Broker::at(port, "127.0.0.1", "", Vec::new()) else { return };
    let Some(closed) = Broker::new("password_file /dev/null") else { return };
    let other = format!(
        "[[broker]]\nurl = \"{}\"\nboards = false\n[[subscribe]]\ntopic = \"x\"\n\
         duty = \"closed\"\nbroker = \"{}\"\n",
        closed.url(),
        closed.url()
    );
    let agents = group(&["a"], &(configuration(&broker.url(), SUBSCRIPTIONS) + &other));
    let _made = agents.told("a", &["duty", "add", "closed"]);
    agents.wait("a", "to find neither", |status| {
        let trouble = |place: usize| status["bridges"][place]["trouble"].to_string();
        trouble(0).contains("it cannot be reached") && trouble(1).contains("account")
    });
    agents.wait("a", "to be no candidate", |status| {
        status["not_kept"]["closed"].to_string().contains("does not know this account")
    });
    let shown = agents.told("a", &["status"]);
    let name = format!("The broker 127.0.0.1:{port} of the duty mqtt-in is not there");
    assert!(shown.contains(&name), "{shown}");
    broker.start();
    let _there = subscriber(&agents, &["a"], "");
    Poster::new(port).post("home/n", "1");
    wait_for(&agents, "a", ALL, |found| found == "home/n=1");
    let log = BTreeSet::from_iter(closed.log().lines().map(str::to_owned)).len();
    assert!(log < 200, "it is not asked without end: {log}");
}

#[test]
fn a_topic_that_is_not_allowed_is_named_and_the_others_are_taken() {
    let mut posing = Posing::new("secret/#");
    let text = "[[subscribe]]\ntopic = \"secret/#\"\n[[subscribe]]\ntopic = \"t\"\n";
    let agents = group(&["a"], &configuration(&posing.url(), text));
    let mut guest = posing.guest(false, 2);
    agents.wait("a", "to be refused", |status| {
        bridge(status)["trouble"].to_string().contains("subscribe to secret/#")
    });
    guest.bring(1, "t", "1", false);
    assert_eq!(guest.acknowledged(), 1);
    let shown = agents.told("a", &["status"]);
    assert!(shown.contains("The duty mqtt-in at the broker"), "{shown}");
    // From now on it may be.
    assert!(guest.subscribes(""), "it asks again");
    agents.wait("a", "to be allowed", |status| bridge(status)["trouble"].is_null());
    drop(guest);
    // Where nothing at all is allowed the line is no good.
    posing.forbidden = "t";
    let only = configuration(&posing.url(), "[[subscribe]]\ntopic = \"t\"\n");
    let agents = group(&["b"], &only);
    let _held: Vec<_> = (0..3).map(|_| posing.guest(false, 1)).collect();
    agents.wait("b", "to say so", |status| {
        bridge(status)["trouble"].to_string().contains("subscribe to t")
    });
}
