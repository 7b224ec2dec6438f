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

fn voters(agents: &Agents, asked: &str) -> Vec<String> {
    let status = agents.status(asked).expect("it answers");
    let members = status["members"].as_array().cloned().unwrap_or_default();
    let voters = members.iter().filter(|member| member["voter"] == true);
    voters.map(|member| member["name"].as_str().expect("a name").to_owned()).collect()
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

/// Five vote and seven follow: the leader's vote goes to one of those when it is gone.
#[test]
fn twelve_boards_go_on_when_their_leader_dies_and_another_votes_in_its_place() {
    let mut agents = Agents::new(&program::debug());
    let boards = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];
    agents.form(&boards);
    let _ = agents.told("l", &["execute", "CREATE TABLE t(a)"]);
    for board in ["a", "d", "h", "l"] {
        let _ = agents.told(board, &["execute", "INSERT INTO t VALUES (1)"]);
    }
    let _ = agents.told("k", &["set", "replace_after", "10s"]);
    let before = voters(&agents, "l");
    let dead = leader(&agents, "l");
    assert!(before.len() == 5 && before.contains(&dead), "{before:?}");
    agents.kill(&dead);
    agents.wait("l", "to follow another leader", |status| {
        status["leader"].as_str().is_some_and(|leader| leader != dead)
    });
    let learner = boards.into_iter().find(|board| !before.iter().any(|voter| voter == board));
    let learner = learner.expect("seven only follow");
    let _ = agents.told(learner, &["execute", "INSERT INTO t VALUES (1)"]);
    agents.wait("l", "another to vote in its place", |_| {
        let after = voters(&agents, "l");
        after.len() == 5 && !after.contains(&dead)
    });
    agents.run(&dead);
    agents.wait(&dead, "to follow", |status| status["leader"].is_string());
    for board in boards {
        let rows = agents.told(board, &["query", "SELECT count(*) || ' rows' FROM t"]);
        assert!(rows.contains("5 rows"), "{board}: {rows}");
    }
    let said = agents.told("a", &["scrub"]);
    assert!(said.contains("all boards that reported hold the same rows"), "{said}");
    agents.wait(&dead, "to be told that all are there", |_| {
        let said = agents.told(&dead, &["status"]);
        said.starts_with("Everything works: 12 boards") && said.contains("stands the loss of 2")
    });
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
    agents.run("a");
    let own = format!("understudy --dir {} run", agents.directory("a").display());
    assert!(String::from_utf8_lossy(&nobody.stderr).contains(&own), "{nobody:?}");
    let waiting = agents.told("a", &["status"]);
    assert!(waiting.contains("understudy init"), "{waiting}");
    let second = agents.ask("a", &["run", "--http", "127.0.0.1:0", "--udp", "127.0.0.1:0"]);
    assert!(String::from_utf8_lossy(&second.stderr).contains("in use by another agent"));
    let token = agents.ask("a", &["join", "understudy-Ag"]);
    assert!(String::from_utf8_lossy(&token.stderr).contains("cut short"));
    let open = agents.ask("b", &["run", "--http", "0.0.0.0:0"]);
    assert!(String::from_utf8_lossy(&open.stderr).contains("--http-open"));
    let _ = agents.told("a", &["init", "greenhouse"]);
    agents.wait("a", "to lead", |status| status["role"] == "leader");
    let bad = agents.ask("a", &["execute", "SELEKT 1"]);
    assert!(!bad.status.success());
    assert!(String::from_utf8_lossy(&bad.stderr).contains("syntax error"));
    let undone = agents.ask("a", &["execute", "--transaction", "CREATE TABLE u(a)", "SELEKT 1"]);
    assert_eq!(undone.stdout, b"");
    assert!(String::from_utf8_lossy(&undone.stderr).contains("nothing was changed"), "{undone:?}");
    let again = agents.ask("a", &["init"]);
    assert!(String::from_utf8_lossy(&again.stderr).contains("already"));
}

/// Whether a board is there, and where its HTTP listens, a follower has from the
/// leader.
#[test]
fn every_board_knows_who_is_there_and_says_what_is_missing() {
    let mut agents = group();
    let leading = leader(&agents, "a");
    let mut followers = ["a", "b", "c"].into_iter().filter(|board| *board != leading);
    let (one, two) = (followers.next().expect("one"), followers.next().expect("two"));
    let member = |status: &serde_json::Value, name: &str| {
        let members = status["members"].as_array().cloned().unwrap_or_default();
        members.into_iter().find(|member| member["name"] == name).unwrap_or_default()
    };
    agents.wait(one, "to know the other follower", |status| {
        let other = member(status, two);
        other["reachable"] == true && other["http"].as_str().is_some_and(|http| !http.is_empty())
    });
    let fine = agents.told(one, &["status"]);
    assert!(fine.contains("stands the loss of 1"), "{fine}");
    agents.kill(two);
    agents.wait(one, "to learn of the death", |status| {
        let other = member(status, two);
        other["reachable"] == false && other["unknown"] == false
    });
    let missing = agents.told(one, &["status"]);
    assert!(missing.contains(&format!("{two} cannot be heard")), "{missing}");
    assert!(missing.contains("stands no further loss"), "{missing}");
    agents.kill(&leading);
    agents.wait(one, "to be without a leader for too long", |status| {
        status["leaderless_ms"].as_u64() >= status["leaderless_ms_max"].as_u64().max(Some(1))
    });
    let alone = agents.told(one, &["status"]);
    assert!(alone.starts_with("No majority for "), "{alone}");
    assert!(alone.contains("2 of 3 boards are needed"), "{alone}");
}

#[test]
fn a_reader_that_went_away_ends_no_command() {
    let mut agents = Agents::new(&program::debug());
    agents.run("a");
    let mut child = Command::new(program::debug())
        .arg("--dir")
        .arg(agents.directory("a"))
        .arg("status")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    drop(child.stdout.take());
    let ended = child.wait_with_output().expect("it ends");
    assert!(ended.status.success() && ended.stderr.is_empty(), "{ended:?}");
}

/// The commands of the README, as they stand there.
#[test]
fn the_readmes_commands_make_a_group_of_three_that_keeps_what_it_is_given() {
    let readme = include_str!("../README.md");
    let commands: Vec<&str> = readme
        .lines()
        .filter_map(|line| line.strip_prefix("    "))
        .filter(|line| line.contains("understudy --dir"))
        .collect();
    assert_eq!(commands.len(), 9);
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
    let names = |board: &str| {
        let ask = format!("understudy --dir {board} status --json");
        let status = shell(&ask).stdout(Stdio::piped()).output().expect("sh runs").stdout;
        let status: serde_json::Value = serde_json::from_slice(&status).expect("a status");
        let members = status["members"].as_array().cloned().unwrap_or_default();
        let names = members.iter().filter_map(|member| member["name"].as_str());
        names.map(String::from).collect::<Vec<_>>()
    };
    let mut members = Vec::new();
    for _ in 0..400 {
        members = ["a", "b", "c"].map(names).to_vec();
        if members.iter().all(|names| names.len() == 3) {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    for child in &mut running {
        child.kill().expect("it runs");
        child.wait().expect("it ends");
    }
    assert_eq!(members, [["a", "b", "c"]; 3]);
}
