//! Commands whose readers go away, and whose text has nowhere to go.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader},
    process::{Child, Command, Output, Stdio},
};

use understudy_tests::{agents::Agents, program};

/// Runs a command whose standard output nobody reads from the start.
fn unread(command: &mut Command) -> Output {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    command.stdout(writer).stderr(Stdio::piped()).output().expect("it starts")
}

#[test]
fn a_reader_that_goes_away_ends_no_command_badly() {
    let mut agents = Agents::new(&program::debug());
    agents.run("a");
    let mut commands: Vec<Vec<&str>> =
        vec![vec!["config", "--doc"], vec!["config", "check"], vec!["--help"], vec!["--version"]];
    commands.extend([vec!["init"], vec!["token"], vec!["status"], vec!["status", "--json"]]);
    commands.extend([vec!["settings"], vec!["get", "profile"], vec!["query", "SELECT 1"]]);
    commands.push(vec!["execute", "CREATE TABLE t(a)"]);
    for arguments in commands {
        let output = unread(agents.command("a").args(&arguments));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.is_empty(), "{arguments:?}: {said}");
        if arguments == ["init"] {
            agents.wait("a", "to lead", |status| status["role"] == "leader");
        }
    }
    assert!(agents.told("a", &["query", "SELECT count(*) FROM t"]).contains('0'), "it was done");
}

#[test]
fn text_that_finds_no_room_is_said_to_be_lost() {
    let agents = Agents::new(&program::debug());
    let full = File::options().write(true).open("/dev/full").expect("a full device");
    let mut command = agents.command("a");
    let output = command.args(["config", "--doc"]).stdout(full).output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("standard output: No space"), "{said}");
}

/// Ended when the test ends, however it ends.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn an_agent_whose_log_nobody_reads_any_more_goes_on() {
    let agents = Agents::new(&program::debug());
    fs::create_dir_all(agents.directory("a")).expect("a directory");
    let loopback = "127.0.0.1:0";
    let mut command = agents.command("a");
    command.args(["run", "--die-with-parent", "--name", "a"]);
    command.args(["--http", loopback, "--udp", loopback]);
    let mut agent = Ended(command.stderr(Stdio::piped()).spawn().expect("the agent starts"));
    let mut log = BufReader::new(agent.0.stderr.take().expect("piped"));
    log.read_line(&mut String::new()).expect("it says that it waits");
    drop(log);
    // Each of these is logged.
    let _token = agents.found("a");
    agents.wait("a", "to go on", |status| status["leader"] == "a");
}
