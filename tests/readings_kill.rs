//! Sensor processes that write on while boards are killed with SIGKILL: one after the
//! other, all at once, and a majority of them until the spool of the one that is left
//! has filled.
//!
//! In the end every reading that was acknowledged is on every board once, no other is
//! there twice, and nothing is left in a spool. How far a round goes is decided by
//! what the writers were told, never by a clock.

use std::{fs, path::Path};

use rusqlite::Connection;
use understudy_tests::{agents::Agents, program};

use crate::writers::{
    self, MANNERS, Manner, SERVED, Writer, check, meanwhile, wait_for_all, wait_for_more,
};

const BOARDS: [&str; 3] = ["a", "b", "c"];

/// Every board in turn; the writers on the others go on meanwhile.
fn kill_in_turn(agents: &mut Agents, writers: &[Writer]) {
    for board in BOARDS {
        agents.kill(board);
        wait_for_more(writers.iter().filter(|writer| writer.board != board), SERVED);
        agents.run(board);
        wait_for_all(writers);
    }
}

fn kill_all(agents: &mut Agents, writers: &[Writer]) {
    BOARDS.iter().for_each(|board| agents.kill(board));
    BOARDS.iter().for_each(|board| agents.run(board));
    wait_for_all(writers);
}

/// All but one; that one too, once it has acknowledged what only its spool has.
fn kill_a_majority(agents: &mut Agents, writers: &[Writer], left: &str, with_the_last: bool) {
    let others = BOARDS.iter().filter(|board| **board != left);
    others.clone().for_each(|board| agents.kill(board));
    agents.wait(left, "to be without a leader", |status| status["leader"].is_null());
    let spools = |writer: &&Writer| writer.board == left && writer.manner != Manner::Committed;
    wait_for_more(writers.iter().filter(spools), 2 * SERVED);
    if with_the_last {
        agents.kill(left);
        assert!(spooled(&agents.directory(left)) > 0, "nothing of it is in the spool of {left}");
        agents.run(left);
    }
    others.for_each(|board| agents.run(board));
    wait_for_all(writers);
}

/// Readings in the spool of a board that does not run: of a copy, so that nothing is
/// changed by looking.
fn spooled(directory: &Path) -> u32 {
    let copy = tempfile::tempdir().expect("a temporary folder");
    for name in ["journal.db", "journal.db-wal"] {
        if directory.join(name).exists() {
            fs::copy(directory.join(name), copy.path().join(name)).expect("a copy");
        }
    }
    let journal = Connection::open(copy.path().join("journal.db")).expect("a journal");
    let sum = "SELECT ifnull(sum(readings), 0) FROM spool";
    journal.query_row(sum, [], |row| row.get::<_, u32>(0)).expect("a spool")
}

/// What is taken out of a spool goes from the disk with the next write there is: it
/// gets one, and only a board that has ended shows what it has left.
fn wait_for_empty_spools(agents: &mut Agents) {
    let mut left = [0; BOARDS.len()];
    for _ in 0..10 {
        for board in BOARDS {
            let _ = agents.told(board, &["write", "last", "1"]);
        }
        BOARDS.iter().for_each(|board| agents.stop(board));
        left = BOARDS.map(|board| spooled(&agents.directory(board)));
        BOARDS.iter().for_each(|board| agents.run(board));
        if left == [0; BOARDS.len()] {
            return;
        }
        for board in BOARDS {
            agents.wait(board, "to follow a leader", |status| status["leader"].is_string());
        }
    }
    panic!("readings are left in the spools of {BOARDS:?}: {left:?}");
}

#[test]
fn acknowledged_readings_are_on_every_board_once_whichever_boards_are_killed() {
    let mut agents = Agents::new(&program::debug());
    agents.form(&BOARDS);
    let writers = writers::on(&agents, &BOARDS, &MANNERS);
    let acknowledged = meanwhile(&writers, || {
        kill_in_turn(&mut agents, &writers);
        kill_a_majority(&mut agents, &writers, "a", false);
        kill_all(&mut agents, &writers);
        kill_a_majority(&mut agents, &writers, "b", true);
    });
    check(&agents, &BOARDS, &acknowledged);
    wait_for_empty_spools(&mut agents);
    check(&agents, &BOARDS, &acknowledged);
    let said = agents.told("a", &["scrub"]);
    assert!(said.contains("all boards that reported hold the same rows"), "{said}");
}
