//! Files that lost what they held: a board says what is wrong and the way out,
//! and does the living group no harm.

use std::{fs, path::Path};

use understudy::store::format::FORMATS;
use understudy_tests::{agents::Agents, program};

/// Changes the journal of a board that does not run.
fn tamper(directory: &Path, sql: &str) {
    let journal = rusqlite::Connection::open(directory.join("journal.db")).expect("a journal");
    journal.execute_batch(sql).expect("it is changed");
}

/// A group of one board with a few entries in its log.
fn one_board() -> Agents {
    let mut agents = Agents::new(&program::debug());
    agents.run("a");
    let _token = agents.found("a");
    for sql in ["CREATE TABLE t(a)", "INSERT INTO t VALUES (1)", "INSERT INTO t VALUES (2)"] {
        let _ = agents.told("a", &["execute", sql]);
    }
    // That is an entry too.
    agents.wait("a", "to go by what it knows", |status| status["group_version"] == 2);
    agents
}

/// What a board says that cannot start.
fn start_refused(agents: &mut Agents, board: &str) -> String {
    agents.start(board, &[]);
    assert!(!agents.ended(board), "it must fail");
    let log = agents.log(board);
    let directory = agents.directory(board).display().to_string();
    assert!(log.contains(&directory), "it names where: {log}");
    log
}

#[test]
fn a_journal_that_lost_its_group_neither_starts_nor_joins() {
    let mut agents = Agents::new(&program::debug());
    agents.form(&["a", "b", "c"]);
    let token = agents.told("a", &["token"]);
    agents.kill("c");
    let directory = agents.directory("c");
    let wal = directory.join("journal.db-wal");
    let mut bytes = fs::read(&wal).expect("a WAL is left by kill -9");
    bytes[200] ^= 1;
    fs::write(&wal, bytes).expect("it is damaged");
    let log = start_refused(&mut agents, "c");
    assert!(log.contains("journal.db") && log.contains("join TOKEN` anew"), "{log}");
    for file in ["journal.db", "journal.db-wal"] {
        let _ = fs::remove_file(directory.join(file));
    }
    let log = start_refused(&mut agents, "c");
    assert!(log.contains("is missing, and this board was used before"), "{log}");
    let refused = agents.refused("c", &["join", token.trim()]);
    assert!(refused.contains("no agent is running"), "{refused}");
    let members = agents.status("a").expect("it answers")["members"].clone();
    assert_eq!(members.as_array().map(Vec::len), Some(3), "nobody was admitted: {members}");
    fs::rename(&directory, directory.with_extension("old")).expect("moved away, as it said");
    agents.run("c");
    let joined = agents.told("c", &["join", token.trim()]);
    assert!(joined.contains("This board is c-2"), "{joined}");
    agents.wait("c", "to follow", |status| status["leader"].is_string());
}

#[test]
fn a_damaged_row_at_start_is_named_with_the_way_out() {
    let mut agents = one_board();
    agents.kill("a");
    // The last is in the log alone: the database has what is durable of those before it.
    let last = "WHERE idx = (SELECT max(idx) FROM log)";
    tamper(&agents.directory("a"), &format!("UPDATE log SET data = x'00' {last}"));
    let log = start_refused(&mut agents, "a");
    assert!(log.contains("of table log) is damaged"), "{log}");
    assert!(log.contains("join TOKEN` anew"), "{log}");
}

#[test]
fn a_damaged_row_below_what_is_applied_is_named_when_another_board_needs_it() {
    let mut agents = one_board();
    agents.stop("a");
    tamper(&agents.directory("a"), "UPDATE log SET data = x'00' WHERE idx = 2");
    for board in ["a", "b"] {
        agents.run(board);
    }
    agents.wait("a", "to lead", |status| status["role"] == "leader");
    let token = agents.told("a", &["token"]);
    // Whether it is answered before the other ends is a matter of luck.
    let _ = agents.ask("b", &["join", token.trim()]);
    assert!(!agents.ended("a"), "it must not go on");
    let log = agents.log("a");
    let directory = agents.directory("a").display().to_string();
    for words in ["entry 2 (row 2 of table log) is damaged", "join TOKEN` anew", &directory] {
        assert!(log.contains(words), "{words}: {log}");
    }
}

#[test]
fn a_directory_of_another_version_is_refused() {
    let mut agents = one_board();
    agents.stop("a");
    tamper(&agents.directory("a"), "UPDATE meta SET value = 9 WHERE name = 'format'");
    let log = start_refused(&mut agents, "a");
    assert!(log.contains("format version 9, this program reads"), "{log}");
    let back = format!("UPDATE meta SET value = {} WHERE name = 'format'", FORMATS.1);
    tamper(&agents.directory("a"), &back);
    agents.run("a");
    let rows = agents.told("a", &["query", "SELECT sum(a) FROM t"]);
    assert!(rows.contains('3'), "nothing was lost by refusing: {rows}");
}
