//! Which board holds a duty: one whose sensor reports, where the duty says so.

use std::{
    os::unix::net::UnixDatagram,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use serde_json::Value;
use understudy_tests::agents::Agents;

use crate::duties::group;

const BOARDS: [&str; 3] = ["a", "b", "c"];

/// A sensor that reports on a board, as long as it is plugged in.
struct Sensor {
    is_plugged: Arc<AtomicBool>,
    board: &'static str,
}

impl Sensor {
    fn new(agents: &Agents, board: &'static str) -> Self {
        let is_plugged = Arc::new(AtomicBool::new(true));
        let path = agents.directory(board).join("readings.sock");
        let plugged = Arc::downgrade(&is_plugged);
        thread::spawn(move || {
            while let Some(is_plugged) = plugged.upgrade() {
                if is_plugged.load(Ordering::Relaxed) {
                    report(&path);
                }
                drop(is_plugged);
                thread::sleep(Duration::from_millis(200));
            }
        });
        Self { is_plugged, board }
    }

    fn plug(&self, is_plugged: bool) {
        self.is_plugged.store(is_plugged, Ordering::Relaxed);
    }
}

fn report(path: &PathBuf) {
    let socket = UnixDatagram::unbound().expect("a socket");
    // Its agent may have ended with the test.
    let _ = socket.send_to(b"flow 1.5", path);
}

fn holder(status: &Value) -> String {
    status["duties"][0]["holder"].as_str().unwrap_or_default().to_owned()
}

/// Waits until this board holds the duty, or one of all others.
fn wait_for(agents: &Agents, sensors: &[Sensor], is_wanted: impl Fn(&str) -> bool) -> &'static str {
    agents.wait("a", "to see another holder", |status| {
        let holder = holder(status);
        !holder.is_empty() && is_wanted(&holder)
    });
    let name = holder(&agents.status("a").expect("it runs"));
    sensors.iter().find(|sensor| sensor.board == name).expect("it is one of them").board
}

fn is_silent(status: &Value) -> bool {
    status["duties"][0]["silent"] == true
}

#[test]
fn a_dead_sensor_is_a_dead_board_where_the_duty_says_so() {
    let (agents, ledger) = group();
    let _sentence = agents.told("a", &["duty", "rules", "pump", "--fresh", "flow 3s"]);
    let sensors: Vec<Sensor> = BOARDS.iter().map(|board| Sensor::new(&agents, board)).collect();
    let sensor = |board: &str| sensors.iter().find(|sensor| sensor.board == board).unwrap();
    for board in BOARDS {
        agents.wait(board, "to hear its sensor", |status| {
            status["duties"][0]["silent"] == false && status["duties"][0]["ready"] == true
        });
    }
    let first = wait_for(&agents, &sensors, |_| true);
    sensor(first).plug(false);
    let second = wait_for(&agents, &sensors, |holder| holder != first);
    let third = BOARDS.into_iter().find(|board| ![first, second].contains(board)).unwrap();
    sensor(third).plug(false);
    agents.wait(third, "to miss its sensor", is_silent);
    wait_for(&agents, &sensors, |holder| holder == second);
    sensor(second).plug(false);
    agents.wait(second, "to miss its sensor", is_silent);
    let shown = agents.told(second, &["duty"]);
    assert!(shown.contains("held, though its sensor is silent here"), "{shown}");
    let shown = agents.told(second, &["status"]);
    assert!(shown.contains("does not hear flow, which pump asks for, and holds"), "{shown}");
    let stays = agents.status(second).expect("it runs");
    assert_eq!((holder(&stays), &stays["duties"][0]["held"]), (second.to_owned(), &true.into()));
    sensor(third).plug(true);
    wait_for(&agents, &sensors, |holder| holder == third);
    ledger.check();
}

#[test]
fn rules_that_make_no_sense_are_named() {
    let (agents, _ledger) = group();
    for (arguments, words) in [
        (&["--fresh", "flow"][..], "SENSOR 30s"),
        (&["--needs", "a,b,c,d,e,f,g,h,i"], "at most 8"),
        (&["--preempt", "soon"], "--preempt soon"),
    ] {
        let rules = [&["duty", "rules", "pump"], arguments].concat();
        assert!(agents.refused("a", &rules).contains(words), "{rules:?}");
    }
    let rules = ["duty", "rules", "pump", "--fresh", "flow 3s", "--preempt", "10m"];
    let _sentence = agents.told("a", &rules);
    let _sentence = agents.told("a", &["duty", "rules", "pump", "--fresh", "none"]);
    let rules = agents.status("a").expect("it runs")["duties"][0]["rules"].clone();
    let expected =
        serde_json::json!({"fresh": null, "needs": [], "preempt_ms": 600_000, "keep": false});
    assert_eq!(rules, expected);
    assert!(agents.refused("a", &["duty", "rules", "fan"]).contains("no duty fan"));
}

#[test]
fn a_duty_goes_to_no_board_that_cannot_do_what_it_needs() {
    let (mut agents, ledger) = group();
    let _sentence = agents.told("a", &["duty", "rules", "pump", "--needs", "lte"]);
    for board in BOARDS {
        agents.wait(board, "not to be ready", |status| status["duties"][0]["ready"] == false);
    }
    let shown = agents.told("a", &["duty"]);
    assert!(shown.contains("this board lacks lte"), "{shown}");
    agents.configure("b", "capabilities = [\"lte\"]\n");
    agents.stop("b");
    agents.run("b");
    agents.wait("a", "to see b hold it", |status| holder(status) == "b");
    assert!(agents.status("b").expect("it runs")["not_kept"].as_object().unwrap().is_empty());
    ledger.check();
}
