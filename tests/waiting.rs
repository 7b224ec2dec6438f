//! A board before it has a group: what it refuses, what it answers, what it leaves
//! behind on the disk.

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
};

use understudy_tests::{agents::Agents, program};

#[test]
fn http_is_there_before_there_is_a_group() {
    let mut agents = Agents::new(&program::debug());
    agents.run("a");
    let status = agents.status("a").expect("it answers");
    let http = status["http"].as_str().expect("it says where").to_owned();
    let mut stream = TcpStream::connect(&http).expect("it listens");
    stream.write_all(b"GET /readyz HTTP/1.0\r\n\r\n").expect("it hears");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    assert!(answer.starts_with("HTTP/1.0 503"), "{answer}");
    let _token = agents.found("a");
    let status = agents.status("a").expect("it answers");
    assert_eq!(status["http"].as_str(), Some(http.as_str()), "the same as before");
}

#[test]
fn a_busy_http_port_is_said_at_once() {
    let agents = Agents::new(&program::debug());
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = (taken.local_addr().expect("bound").to_string(), taken);
    let refused = agents.refused("a", &["run", "--udp", "127.0.0.1:0", "--http", &taken.0]);
    assert!(refused.contains(&format!("HTTP {} cannot be bound", taken.0)), "{refused}");
}

#[test]
fn names_that_would_not_do_are_refused_before_there_is_a_group() {
    let mut agents = Agents::new(&program::debug());
    agents.run("a");
    let long = "g".repeat(200);
    for group in ["", "two words", &long] {
        let refused = agents.refused("a", &["init", group]);
        assert!(refused.contains("a group's name has 1 to 128 bytes"), "{refused}");
    }
    let refused = agents.refused("a", &["init", "g", "--name", "q q"]);
    assert!(refused.contains("\"q q\": a board's name has"), "{refused}");
    let _ = agents.told("a", &["init", "g", "--name", "pump"]);
    agents.wait("a", "to lead under the name that was given last", |status| {
        status["board"] == "pump" && status["group"] == "g"
    });
}

#[test]
fn nobody_else_reads_the_keys() {
    let mut agents = Agents::new(&program::debug());
    agents.run("a");
    let _token = agents.found("a");
    let mut files = Vec::new();
    for entry in fs::read_dir(agents.directory("a")).expect("a directory") {
        let entry = entry.expect("an entry");
        let name = entry.file_name().to_string_lossy().into_owned();
        let mode = entry.metadata().expect("it is there").permissions().mode() & 0o777;
        // Who may read the database finds no keys in it.
        let expected = if name.starts_with("state.db") { 0o640 } else { 0o600 };
        assert!(mode == expected || name.ends_with(".sock"), "{name}: {mode:o}");
        files.push(name);
    }
    for file in ["journal.db", "journal.db-wal", "state.db"] {
        assert!(files.iter().any(|name| name == file), "{file}");
    }
}

#[test]
fn a_configuration_is_checked_as_it_is_used() {
    let agents = Agents::new(&program::debug());
    let directory = agents.directory("a");
    fs::create_dir_all(&directory).expect("a directory");
    let file = directory.join("understudy.toml");
    fs::write(&file, "[http]\nadress = \"127.0.0.1:1\"\n").expect("written");
    for command in [&["config", "check"] as &[&str], &["run"]] {
        let refused = agents.refused("a", command);
        let place = format!("{}: line 2: unknown field `adress`", file.display());
        assert!(refused.contains(&place), "{refused}");
    }
    fs::write(&file, "log_level = \"loud\"\n").expect("written");
    let refused = agents.refused("a", &["config", "check"]);
    assert!(refused.contains("line 1: log_level is error"), "{refused}");
    let refused = agents.refused("a", &["--config", "/nonexistent", "config", "check"]);
    assert!(refused.contains("/nonexistent"), "{refused}");
}
