//! An agent as firmware has it: a root that nobody can write to, a data folder that is full
//! or in memory, and a log that does not wear the card out.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    os::unix::fs::MetadataExt as _,
    path::Path,
    process::{Command, Output},
    thread,
    time::Duration,
};

use serde_json::Value;
use understudy_tests::{agents::Agents, namespace::Namespace, program};

const TRIES: u32 = 1_200;
const PAUSE: Duration = Duration::from_millis(50);

/// Lines that three boards may log for a thousand writes, all together.
const LINES_MAX: usize = 5;

/// Mounts of a board's own, as this script makes them.
fn mounts(script: &str) -> Option<(Namespace, Vec<String>)> {
    let mounts = Namespace::new(&["-m"], script, "mounts of one's own")?;
    let words = mounts.enter("mount", "mnt");
    Some((mounts, words))
}

/// A command line where these words lead.
fn inside(words: &[String], program: &Path, rest: &[&str]) -> Output {
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).arg(program).args(rest);
    command.output().expect("it starts")
}

#[test]
fn a_board_needs_no_more_of_its_root_than_the_data_folder() {
    let mut agents = Agents::new(&program::debug());
    let folder = agents.directory("a");
    fs::create_dir(&folder).expect("a folder");
    let shown = folder.display();
    let script = format!(
        "mount --bind {shown} {shown} && mount -o remount,bind,ro / && \
         ! touch {shown}/../x 2>/dev/null && touch {shown}/x && rm {shown}/x &&"
    );
    let Some((_mounts, words)) = mounts(&script) else { return };
    agents.go(words);
    agents.run("a");
    let _token = agents.found("a");
    let _done = agents.told("a", &["execute", "CREATE TABLE t(n)", "INSERT INTO t VALUES (7)"]);
    let _done = agents.told("a", &["write", "shed/temp", "21.5"]);
    for end in [Agents::stop, Agents::kill] {
        end(&mut agents, "a");
        agents.run("a");
        agents.wait("a", "to lead", |status| status["role"] == "leader");
        assert!(agents.told("a", &["query", "SELECT n FROM t"]).contains('7'));
    }
    assert!(agents.told("a", &["readings", "shed/temp"]).contains("21.5"));
    assert!(!agents.log("a").contains("ERROR"), "{}", agents.log("a"));
}

/// Waits until that comes out as wanted.
fn wait_for(what: &str, mut wanted: impl FnMut() -> bool) {
    let is_so = (0..TRIES).any(|_| {
        thread::sleep(PAUSE);
        wanted()
    });
    assert!(is_so, "{what}");
}

#[test]
fn a_data_folder_that_is_full_or_in_memory_says_so_and_the_board_goes_on() {
    let program = program::debug();
    let mut agents = Agents::new(&program);
    let folder = agents.directory("a");
    fs::create_dir(&folder).expect("a folder");
    let shown = folder.display().to_string();
    let script = format!("mount -t tmpfs -o size=32m none {shown} &&");
    let Some((_mounts, words)) = mounts(&script) else { return };
    agents.go(words.clone());
    agents.start("a", &[]);
    let told =
        |rest: &[&str]| inside(&words, &program, &[&["--dir", shown.as_str()], rest].concat());
    let status = || serde_json::from_slice::<Value>(&told(&["status", "--json"]).stdout).ok();
    wait_for("it answers", || status().is_some());
    assert!(told(&["init"]).status.success());
    wait_for("it leads", || status().is_some_and(|status| status["role"] == "leader"));
    let forgets = status().expect("it answers")["forgets"].clone();
    assert!(forgets.as_str().is_some_and(|words| words.contains("in memory (tmpfs)")), "{forgets}");
    let log = agents.log("a");
    assert!(log.contains("what this board holds does not stay"), "{log}");
    let shown_status = String::from_utf8_lossy(&told(&["status"]).stdout).into_owned();
    assert!(shown_status.contains("This board forgets: its data is in memory"), "{shown_status}");
    let said = String::from_utf8_lossy(&told(&["doctor"]).stdout).into_owned();
    assert!(said.contains("FAULT  data folder"), "{said}");

    assert!(told(&["execute", "CREATE TABLE t(b)"]).status.success());
    let fill = |line: &str| {
        let filled = inside(&words, Path::new("sh"), &["-c", line]);
        assert!(filled.status.success());
    };
    fill(&format!("cat /dev/zero > {shown}/fill 2>/dev/null; true"));
    let insert = || told(&["execute", "INSERT INTO t VALUES (randomblob(300000))"]);
    let is_refused = || {
        let output = insert();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        !output.status.success() && said.contains("disk full")
    };
    wait_for("writes are refused, and why", is_refused);
    wait_for("it says so", || status().is_some_and(|status| status["disk_full"] == true));
    // However it ended it comes back with what it has, and not only once.
    for end in [Agents::kill, Agents::stop, Agents::kill] {
        end(&mut agents, "a");
        fill(&format!("cat /dev/zero >> {shown}/fill 2>/dev/null; true"));
        agents.start("a", &[]);
        wait_for("it leads", || status().is_some_and(|status| status["role"] == "leader"));
        assert!(told(&["query", "SELECT count(*) FROM t"]).status.success());
        wait_for("it is as full as before", is_refused);
    }
    fill(&format!("rm {shown}/fill"));
    wait_for("it goes on by itself", || insert().status.success());
}

fn lines(agents: &Agents, boards: &[&str]) -> usize {
    boards.iter().map(|board| agents.log(board).lines().count()).sum()
}

#[test]
fn what_goes_well_is_not_logged() {
    const BOARDS: [&str; 3] = ["a", "b", "c"];
    let mut agents = Agents::new(&program::debug());
    agents.form(&BOARDS);
    let _done = agents.told("a", &["execute", "CREATE TABLE t(n)"]);
    let before = lines(&agents, &BOARDS);
    assert!(before < 40, "a start and a join log {before} lines");
    let http = agents.http_address("b");
    for number in 0..1_000 {
        let body = match number % 2 {
            0 => format!("[\"INSERT INTO t VALUES ({number})\"]"),
            _ => format!("shed/temp {number}"),
        };
        let path = if number % 2 == 0 { "/db/execute" } else { "/readings" };
        let length = body.len();
        let head = format!("POST {path} HTTP/1.0\r\nContent-Length: {length}\r\n\r\n");
        let mut stream = TcpStream::connect(&http).expect("it listens");
        stream.write_all(format!("{head}{body}").as_bytes()).expect("it hears");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        assert!(answer.starts_with("HTTP/1.0 200"), "{answer}");
    }
    agents.wait("b", "to say what it uses", |status| {
        let of = |what: &str| {
            let budgets = status["budgets"].as_array().expect("budgets");
            let found = budgets.iter().find(|budget| budget["what"] == what);
            found.and_then(|budget| budget["used_bytes"].as_u64()).unwrap_or(0)
        };
        ["memory", "journal", "card"].iter().all(|what| of(what) > 0)
    });
    let logged = lines(&agents, &BOARDS) - before;
    assert!(logged <= LINES_MAX, "{logged} lines: {}", BOARDS.map(|it| agents.log(it)).concat());
}

#[test]
fn the_systems_journal_is_told_how_bad_a_line_is() {
    let mut agents = Agents::new(&program::debug());
    let log = agents.directory("a").with_extension("log");
    fs::write(&log, "").expect("a file");
    let file = fs::metadata(&log).expect("a file");
    let stream = format!("{}:{}", file.dev(), file.ino());
    // A second time standard error has been sent elsewhere than to the journal.
    for (stream, begin) in [(stream, "<6> INFO "), (format!("{}:1", file.dev()), " INFO ")] {
        fs::write(&log, "").expect("a file");
        agents.start("a", &[("JOURNAL_STREAM", &stream)]);
        agents.wait("a", "to answer", |_| true);
        agents.stop("a");
        let said = agents.log("a");
        assert!(!said.is_empty() && said.lines().all(|line| line.starts_with(begin)), "{said}");
    }
}

/// Rows of the longest log of these tests, and bytes of each.
const ROWS: usize = 60;
const ROW: usize = 100_000;

/// Bytes that the agent may read of its files to start, and whatever else it reads.
const START_BYTES_MAX: u64 = 1_000_000;

/// How long a start takes does not depend on how long the log is.
#[test]
fn a_start_does_not_read_the_whole_log() {
    let mut agents = Agents::new(&program::debug());
    agents.run("a");
    let _token = agents.found("a");
    let _done = agents.told("a", &["execute", "CREATE TABLE t(b)"]);
    for _ in 0..ROWS {
        let row = format!("INSERT INTO t VALUES (randomblob({ROW}))");
        let _done = agents.told("a", &["execute", &row]);
    }
    agents.stop("a");
    // What is in a WAL is read at every start, and has a bound of its own.
    let files = ["journal.db", "state.db"].map(|name| agents.directory("a").join(name));
    for file in &files {
        let database = rusqlite::Connection::open(file).expect("it is a database");
        let checkpoint = "PRAGMA wal_checkpoint(TRUNCATE)";
        database.query_row(checkpoint, (), |_| Ok(())).expect("it is moved");
    }
    let journal = fs::metadata(&files[0]).expect("a file").len();
    assert!(journal > 4 * START_BYTES_MAX, "the log is long: {journal} bytes");
    agents.run("a");
    agents.wait("a", "to lead", |status| status["role"] == "leader");
    let pid = agents.status("a").expect("it runs")["agent_pid"].to_string();
    let io = fs::read_to_string(format!("/proc/{pid}/io")).expect("it runs");
    let read = io.lines().find_map(|line| line.strip_prefix("rchar: ")).expect("what it read");
    let read: u64 = read.parse().expect("a number");
    eprintln!("{read} bytes read to start, of a log of {journal}");
    assert!(read < START_BYTES_MAX, "{read} bytes were read of a log of {journal}");
}
