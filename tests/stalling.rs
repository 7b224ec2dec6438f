//! A card that stalls under the board that leads and does a duty, with real agents: another
//! board leads while it does, writes are acknowledged, and no two boards ever do the duty
//! at a time. How often the duty moves the simulator says, which no busy machine disturbs.

use std::{thread, time::Duration};

use understudy::demo::{marks, two_holders};
use understudy_tests::{agents::Agents, program, slow_disk::SlowDisk};

const BOARDS: [&str; 3] = ["a", "b", "c"];

/// How long it stalls at the least.
const STALL: Duration = Duration::from_secs(7);

#[test]
fn while_the_leaders_disk_stalls_another_board_leads_and_writes_are_acknowledged() {
    let program = program::debug();
    let Some(disk) = SlowDisk::new(&program, false) else { return };
    let mut agents = Agents::new(&program);
    agents.disk = Some(disk);
    let marks_path = agents.directory("marks");
    for board in BOARDS {
        let readings = agents.directory(board).join("readings.sock");
        let words = [&program, &"demo-sampler".into(), &board.into(), &readings, &marks_path];
        let command: Vec<String> = words.iter().map(|word| word.display().to_string()).collect();
        let duty = format!("[[duty]]\nname = \"pump\"\ncommand = {command:?}\n");
        agents.configure(board, &duty);
    }
    agents.form(&BOARDS);
    let _made = agents.told("a", &["execute", "CREATE TABLE t(n)"]);
    let _sentence = agents.told("a", &["duty", "add", "pump"]);
    agents.wait("a", "to see a holder", |status| status["duties"][0]["holder"].is_string());
    let status = agents.status("a").expect("it runs");
    let leader = status["leader"].as_str().expect("one leads").to_owned();
    let other = *BOARDS.iter().find(|board| **board != leader).expect("there are three");
    let _sentence = agents.told("a", &["duty", "transfer", "pump", &leader]);
    agents.wait(&leader, "to hold the duty", |status| status["duties"][0]["held"] == true);

    let disk = |stalls| agents.disk.as_ref().expect("it was put there").stall(&leader, stalls);
    disk(true);
    // Nothing stalls until something is written: this waits for another to lead.
    let first = agents.ask(other, &["execute", "INSERT INTO t VALUES (1)"]);
    agents.wait(other, "to see another lead", |status| {
        status["leader"].is_string() && status["leader"] != *leader
    });
    let _done = agents.told(other, &["execute", "INSERT INTO t VALUES (2)"]);
    thread::sleep(STALL);
    let _done = agents.told(other, &["execute", "INSERT INTO t VALUES (3)"]);
    disk(false);
    let wanted = 2 + usize::from(first.status.success());
    for board in BOARDS {
        agents.wait(board, "to have what was written", |_| {
            let count = agents.told(board, &["query", "SELECT count(*) FROM t"]);
            let count = count.split_whitespace().last().and_then(|count| count.parse().ok());
            count.is_some_and(|count: usize| count >= wanted)
        });
    }
    let marks = marks(&marks_path);
    assert_eq!(two_holders(&marks), 0, "{} marks", marks.len());
}
