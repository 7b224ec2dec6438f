//! Backup as its owner meets it: from any board, while writing goes on, to a disk
//! that is full, to a caller that is too slow. A copy is whole, or it is none.

use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    net::TcpStream,
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
    sync::atomic::{AtomicBool, AtomicI64, Ordering::SeqCst},
    thread,
    time::Duration,
};

use rusqlite::Connection;
use understudy_tests::{agents::Agents, program};

pub(crate) const BOARDS: [&str; 3] = ["a", "b", "c"];

/// Looks at something that comes about soon, one every 50 ms.
pub(crate) const TRIES: usize = 400;

/// Rows of 4,000 bytes in one request.
const ROWS: u32 = 250;

/// Writes, again where leadership moved: what is written twice is there once.
pub(crate) fn execute(agents: &Agents, board: &str, sql: &str) {
    for _ in 0..TRIES {
        let done = agents.ask(board, &["execute", sql]);
        let said = String::from_utf8_lossy(&done.stderr);
        if done.status.success() {
            return;
        }
        let moved = ["leadership lost", "leader not found", "no majority"];
        assert!(moved.iter().any(|words| said.contains(words)), "{said}");
        thread::sleep(Duration::from_millis(50));
    }
    panic!("{board} does not write");
}

fn fill(agents: &Agents, board: &str, requests: u32) {
    let rows = format!("WITH c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c LIMIT {ROWS})");
    let first: i64 = count(agents, board);
    for request in 0..i64::from(requests) {
        let base = first + request * i64::from(ROWS);
        let insert = format!("INSERT OR IGNORE INTO t SELECT x + {base}, randomblob(4000) FROM c");
        execute(agents, board, &format!("{rows} {insert}"));
    }
}

fn count(agents: &Agents, board: &str) -> i64 {
    let told = agents.told(board, &["query", "SELECT count(*) FROM t"]);
    told.lines().filter_map(|line| line.trim().parse().ok()).next_back().expect("a number")
}

pub(crate) fn look<T: rusqlite::types::FromSql>(path: &Path, sql: &str) -> T {
    let copy = Connection::open(path).expect("a file");
    copy.query_row(sql, [], |row| row.get(0)).expect("it can be read")
}

/// A board that leads and one that does not.
pub(crate) fn roles(agents: &Agents) -> (String, String) {
    let status = agents.status("a").expect("it answers");
    let leader = status["leader"].as_str().expect("somebody leads").to_owned();
    let other = BOARDS.into_iter().find(|board| *board != leader).expect("there are three");
    (leader, other.to_owned())
}

/// Asks for a path over HTTP; nothing is read yet.
fn ask(agents: &Agents, board: &str, path: &str) -> TcpStream {
    let status = agents.status(board).expect("it answers");
    let mut stream = TcpStream::connect(status["http"].as_str().expect("it listens")).expect("up");
    let head = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).expect("it takes it");
    stream
}

/// The whole answer: its head in lower case, and what came of its body.
fn answered(mut stream: TcpStream) -> (String, Vec<u8>) {
    let mut all = Vec::new();
    // A connection that is cut may end in a reset.
    let _ = stream.read_to_end(&mut all);
    let end = all.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
    let head = String::from_utf8_lossy(&all[..end]).to_ascii_lowercase();
    (head, all.split_off(end + 4))
}

fn folder_is_empty(folder: &Path) {
    let names: Vec<_> = fs::read_dir(folder).expect("a folder").collect();
    assert!(names.is_empty(), "{names:?}");
}

#[test]
fn a_follower_copies_every_acknowledged_row_while_writing_goes_on() {
    let mut agents = Agents::new(&program::debug());
    agents.form(&BOARDS);
    execute(&agents, "a", "CREATE TABLE IF NOT EXISTS t(a INTEGER PRIMARY KEY, b)");
    fill(&agents, "a", 8);
    execute(
        &agents,
        "a",
        "CREATE TABLE IF NOT EXISTS w(a INTEGER PRIMARY KEY); CREATE INDEX IF NOT EXISTS i ON t(a, b)",
    );
    let (leader, other) = roles(&agents);
    let folder = tempfile::tempdir().expect("a folder");
    let (stop, acknowledged) = (AtomicBool::new(false), AtomicI64::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            for number in 1.. {
                execute(&agents, &leader, &format!("INSERT OR IGNORE INTO w VALUES ({number})"));
                acknowledged.store(number, SeqCst);
                if stop.load(SeqCst) {
                    return;
                }
            }
        });
        for (round, form) in
            [&[][..], &["--compress"], &["--sql"], &["--sql", "--compress"]].into_iter().enumerate()
        {
            let path = folder.path().join(format!("copy-{round}"));
            let before = acknowledged.load(SeqCst);
            let file = path.to_str().expect("text");
            let _ = agents.told(&other, &[&["backup", file], form].concat());
            let path = opened(&path, form);
            assert_eq!(look::<String>(&path, "PRAGMA integrity_check"), "ok");
            let (rows, last): (i64, i64) = (
                look(&path, "SELECT count(*) FROM w"),
                look(&path, "SELECT coalesce(max(a), 0) FROM w"),
            );
            assert!(
                rows == last && last >= before,
                "{rows} rows to {last}, {before} were acknowledged"
            );
            assert_eq!(look::<u32>(&path, "SELECT count(*) FROM t"), 8 * ROWS);
        }
        stop.store(true, SeqCst);
    });
}

/// The copy as a SQLite file: unpacked and read, where need be.
fn opened(path: &Path, form: &[&str]) -> std::path::PathBuf {
    let mut bytes = fs::read(path).expect("a copy");
    if form.contains(&"--compress") {
        let mut plain = Vec::new();
        let read = flate2::read::GzDecoder::new(&bytes[..]).read_to_end(&mut plain);
        read.expect("it is gzip to its end");
        bytes = plain;
    }
    let plain = path.with_extension("db");
    match form.contains(&"--sql") {
        false => fs::write(&plain, bytes).expect("a file"),
        true => {
            let text = String::from_utf8(bytes).expect("text");
            let made = Connection::open(&plain).expect("a file");
            // One by one: SQLite copies all that follows a statement to compile it.
            for statement in text.split_inclusive(";\n") {
                made.execute_batch(statement).expect("SQL");
            }
        }
    }
    plain
}

#[test]
fn a_copy_takes_the_place_of_no_file_and_none_is_left_where_there_is_no_room() {
    let mut agents = Agents::new(&program::debug());
    agents.run("a");
    let _ = agents.found("a");
    execute(&agents, "a", "CREATE TABLE IF NOT EXISTS t(a INTEGER PRIMARY KEY, b)");
    fill(&agents, "a", 6);
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("copy");
    let name = file.to_str().expect("text");
    let _ = agents.told("a", &["backup", name]);
    let first = fs::read(&file).expect("a copy");
    let said = agents.refused("a", &["backup", name]);
    assert!(said.contains("is there already: --force"), "{said}");
    let _ = agents.told("a", &["backup", name, "--force", "--sql"]);
    assert_ne!(fs::read(&file).expect("a copy"), first);
    fs::remove_file(&file).expect("it is ours");
    let said =
        agents.refused("a", &["backup", folder.path().join("no/copy").to_str().expect("text")]);
    assert!(said.contains("no/copy") && said.contains("No such file"), "{said}");

    // A limit on the size of files stands for a disk that is full: so many KB.
    let program = agents.command("a").get_program().to_owned();
    let limited = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 600; exec \"$@\"", "sh"])
        .arg(program)
        .args(agents.command("a").get_args())
        .args(["backup", name])
        .output()
        .expect("sh runs");
    let said = String::from_utf8_lossy(&limited.stderr).into_owned();
    assert!(
        !limited.status.success() && said.contains(name) && said.contains("too large"),
        "{said}"
    );
    folder_is_empty(folder.path());

    let full = File::options().write(true).open("/dev/full").expect("Linux has it");
    let piped = agents.command("a").args(["backup", "-"]).stdout(full).output().expect("it runs");
    let said = String::from_utf8_lossy(&piped.stderr).into_owned();
    assert!(!piped.status.success() && said.contains("No space left"), "{said}");
    agents.stop("a");
    let said = agents.refused("a", &["backup", name]);
    assert!(said.contains("no agent is running"), "{said}");
    folder_is_empty(folder.path());
}

#[test]
fn a_caller_that_is_too_slow_is_ended_and_can_tell() {
    let mut agents = Agents::new(&program::debug());
    agents.configure("a", "[database]\ncommit_interval_s = 1\nwal_mb_max = 16\n");
    agents.run("a");
    let _ = agents.found("a");
    execute(&agents, "a", "CREATE TABLE IF NOT EXISTS t(a INTEGER PRIMARY KEY, b)");
    fill(&agents, "a", 18);
    let whole = fs::metadata(agents.directory("a").join("state.db")).expect("a file").len();
    let slow = ask(&agents, "a", "/db/backup");
    let slow_text = ask(&agents, "a", "/db/backup?fmt=sql");
    let refused = answered(ask(&agents, "a", "/db/backup"));
    assert!(refused.0.starts_with("http/1.1 503"), "{}", refused.0);
    drop(slow_text);
    let (told, mut out) = first_byte(&agents, "a");
    fill(&agents, "a", 12);
    let ended = || agents.log("a").matches("came to no end").count();
    let tries = (0..TRIES).take_while(|_| ended() < 3).map(|_| {
        thread::sleep(Duration::from_millis(50));
    });
    assert!(tries.count() < TRIES, "the copies go on: {}", agents.log("a"));
    agents.wait("a", "to go on", |status| status["database_held"] == false);
    let (head, body) = answered(slow);
    let length = head.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
    let length: u64 = length.expect("a length").parse().expect("a number");
    assert!(head.starts_with("http/1.1 200") && length >= whole / 2, "{head}");
    assert!((body.len() as u64) < length, "all {length} bytes came");
    let _ = out.read_to_end(&mut Vec::new());
    let ended = told.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(!ended.status.success() && said.contains("so much was written meanwhile"), "{said}");
    // And the next copy is as whole as ever.
    let (head, body) = answered(ask(&agents, "a", "/db/backup?fmt=delete&noleader"));
    assert!(head.contains(&format!("content-length: {}", body.len())), "{head}");
}

/// A backup to a pipe that holds the database: its first byte has come. Whoever gave
/// up before it may be there still for a moment.
fn first_byte(agents: &Agents, board: &str) -> (Child, ChildStdout) {
    for _ in 0..TRIES {
        let told = agents
            .command(board)
            .args(["backup", "-"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut told = told.expect("it starts");
        let mut out = told.stdout.take().expect("a pipe");
        if out.read_exact(&mut [0]).is_ok() {
            return (told, out);
        }
        let _ = told.wait();
        thread::sleep(Duration::from_millis(50));
    }
    panic!("no copy begins: {}", agents.log(board));
}

/// The most memory a process ever had, bytes.
pub(crate) fn peak_bytes(pid: u64) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("Linux says it");
    let kilobytes = line.split_whitespace().nth(1).and_then(|number| number.parse::<u64>().ok());
    kilobytes.expect("a number") << 10
}

#[test]
fn a_copy_takes_little_memory_however_large_the_database_is() {
    let mut agents = Agents::new(&program::debug());
    agents.run("a");
    let _ = agents.found("a");
    execute(&agents, "a", "CREATE TABLE IF NOT EXISTS t(a INTEGER PRIMARY KEY, b)");
    fill(&agents, "a", 36);
    agents.stop("a");
    agents.run("a");
    agents.wait("a", "to lead", |status| status["role"] == "leader");
    let pid = agents.status("a").expect("it answers")["agent_pid"].as_u64().expect("a number");
    let before = peak_bytes(pid);
    let folder = tempfile::tempdir().expect("a folder");
    let size = agents.directory("a").join("state.db").metadata().expect("a file").len();
    assert!(size > 32 << 20, "{size} bytes");
    for form in [&["backup"][..], &["backup", "--compress"], &["backup", "--sql", "--compress"]] {
        let name = folder.path().join(form.concat());
        let _ = agents.told("a", &[form, &[name.to_str().expect("text")]].concat());
    }
    let (head, body) = answered(ask(&agents, "a", "/db/backup?vacuum"));
    assert!(head.starts_with("http/1.1 200") && body.len() > 32 << 20, "{head}");
    let grown = peak_bytes(pid).saturating_sub(before);
    assert!(grown < 16 << 20, "{grown} bytes more for {size}");
}

#[test]
fn what_cannot_be_copied_is_refused_with_the_reason() {
    let mut agents = Agents::new(&program::debug());
    agents.run("a");
    let (head, body) = answered(ask(&agents, "a", "/db/backup"));
    assert!(
        head.starts_with("http/1.1 503") && body.starts_with(b"this board belongs to no group"),
        "{head}"
    );
    let _ = agents.found("a");
    for (query, status, words) in [
        ("fmt=xml", 400, "fmt is one of binary, delete, sql"),
        ("fmt=sql&vacuum", 400, "vacuum is for SQLite files"),
        ("tables=t", 400, "tables is for SQL text"),
        ("fmt=sql&tables=t", 500, "no such table: t"),
    ] {
        let (head, body) = answered(ask(&agents, "a", &format!("/db/backup?{query}")));
        assert!(head.starts_with(&format!("http/1.1 {status}")), "{query}: {head}");
        let body = String::from_utf8_lossy(&body);
        assert!(body.starts_with(words), "{query}: {body}");
    }
    let (head, body) = answered(ask(&agents, "a", "/db/backup?fmt=SQL"));
    assert!(head.contains("content-type: application/sql"), "{head}");
    assert!(String::from_utf8_lossy(&body).contains("PRAGMA foreign_keys=OFF;"));
}
