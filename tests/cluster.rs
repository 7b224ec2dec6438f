//! Three real processes on loopback: a group as its owner meets it.

use std::process::{Command, Stdio};

use understudy_tests::{agents::Agents, program};

fn group() -> Agents {
    let mut agents = Agents::new(&program::debug());
    agents.form(&["a", "b", "c"]);
    agents
}

fn leader(agents: &Agents, asked: &str) -> String {
    let status = agents.status(asked).expect("it answers");
    status["leader"].as_str().expect("somebody leads").to_owned()
}

#[test]
fn what_is_written_on_one_board_is_read_on_all_and_survives_the_leaders_death() {
    let mut agents = group();
    let _ = agents.told("b", &["execute", "CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT)"]);
    for value in 1..=20 {
        let board = ["a", "b", "c"][value % 3];
        let _ = agents.told(board, &["execute", &format!("INSERT INTO t(b) VALUES ('{value}')")]);
    }
    let dead = leader(&agents, "a");
    agents.kill(&dead);
    let alive = ["a", "b", "c"].into_iter().find(|board| *board != dead).expect("two are left");
    agents.wait(alive, "to follow another leader", |status| {
        status["leader"].as_str().is_some_and(|leader| leader != dead)
    });
    let _ = agents.told(alive, &["execute", "INSERT INTO t(b) VALUES ('after')"]);
    agents.run(&dead);
    for board in ["a", "b", "c"] {
        let rows = agents.told(board, &["query", "SELECT count(*), max(a) FROM t"]);
        assert!(
            rows.lines().any(|line| line.split_whitespace().eq(["21", "21"])),
            "{board}: {rows}"
        );
    }
}

#[test]
fn all_boards_killed_at_once_come_back_with_everything() {
    let mut agents = group();
    let _ =
        agents.told("a", &["execute", "CREATE TABLE t(a)", "INSERT INTO t VALUES (1), (2), (3)"]);
    for board in ["a", "b", "c"] {
        agents.kill(board);
    }
    for board in ["c", "a"] {
        agents.run(board);
    }
    agents.wait("a", "to follow a leader", |status| status["leader"].is_string());
    let rows = agents.told("a", &["query", "SELECT sum(a) FROM t"]);
    assert!(rows.contains('6'), "{rows}");
}

#[test]
fn settings_and_names_hold_for_the_whole_group() {
    let agents = group();
    let _ = agents.told("b", &["set", "profile", "wifi"]);
    assert_eq!(agents.told("c", &["get", "profile"]), "wifi\n");
    let _ = agents.told("a", &["rename", "c", "pump-house"]);
    agents.wait("b", "to know the new name", |status| {
        status["members"].to_string().contains("pump-house")
    });
    let refused = agents.ask("a", &["set", "profile", "warp"]);
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("wired, wifi or radio"));
}

#[test]
fn what_goes_wrong_is_said() {
    let mut agents = Agents::new(&program::debug());
    let nobody = agents.ask("a", &["status"]);
    assert!(String::from_utf8_lossy(&nobody.stderr).contains("understudy run"));
    agents.run("a");
    let waiting = agents.told("a", &["status"]);
    assert!(waiting.contains("understudy init"), "{waiting}");
    let second = agents.ask("a", &["run", "--http", "127.0.0.1:0", "--udp", "127.0.0.1:0"]);
    assert!(String::from_utf8_lossy(&second.stderr).contains("in use by another agent"));
    let token = agents.ask("a", &["join", "understudy-AQ"]);
    assert!(String::from_utf8_lossy(&token.stderr).contains("cut short"));
    let open = agents.ask("b", &["run", "--http", "0.0.0.0:0"]);
    assert!(String::from_utf8_lossy(&open.stderr).contains("--http-open"));
    let _ = agents.told("a", &["init", "greenhouse"]);
    agents.wait("a", "to lead", |status| status["role"] == "leader");
    let bad = agents.ask("a", &["execute", "SELEKT 1"]);
    assert!(!bad.status.success());
    assert!(String::from_utf8_lossy(&bad.stderr).contains("syntax error"));
    let again = agents.ask("a", &["init"]);
    assert!(String::from_utf8_lossy(&again.stderr).contains("already"));
}

/// The six commands of the README, as they stand there.
#[test]
fn the_readmes_six_commands_make_a_group_of_three() {
    let readme = include_str!("../README.md");
    let commands: Vec<&str> = readme
        .lines()
        .filter_map(|line| line.strip_prefix("    "))
        .filter(|line| line.contains("understudy --dir"))
        .collect();
    assert_eq!(commands.len(), 6);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let bin = program::debug();
    let shell = |command: &str| {
        let path = bin.parent().expect("a folder").display().to_string();
        let mut shell = Command::new("sh");
        shell
            .arg("-c")
            .arg(format!("PATH={path}:$PATH; {command}"))
            .current_dir(folder.path())
            .stdout(Stdio::null());
        shell
    };
    let mut running = Vec::new();
    for command in &commands[..3] {
        let exec = command.replacen("understudy", "exec understudy", 1) + " --die-with-parent";
        running.push(shell(&exec).stderr(Stdio::null()).spawn().expect("sh runs"));
    }
    for board in ["a", "b", "c"] {
        let socket = folder.path().join(board).join("control.sock");
        while !socket.exists() {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
    for command in &commands[3..] {
        assert!(shell(command).status().expect("sh runs").success(), "{command}");
    }
    let status = shell("understudy --dir c status --json").stdout(Stdio::piped()).output();
    let status: serde_json::Value =
        serde_json::from_slice(&status.expect("sh runs").stdout).expect("JSON");
    for child in &mut running {
        child.kill().expect("it runs");
        child.wait().expect("it ends");
    }
    assert_eq!(status["members"].as_array().map(Vec::len), Some(3), "{status}");
}
