//! Restore as its owner meets it: on any board, through the death of the one that
//! leads or of the one that was asked, from files that are none. The group holds the
//! old content or the new, everywhere alike.

use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use rusqlite::Connection;
use understudy_tests::{agents::Agents, program};

use crate::backup::{BOARDS, TRIES, execute, look, peak_bytes, roles};

/// Makes a file of about so many megabytes.
fn made(path: &Path, megabytes: u32) -> PathBuf {
    let _ = fs::remove_file(path);
    let file = Connection::open(path).expect("a file");
    let rows =
        format!("WITH c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c LIMIT {})", 250 * megabytes);
    file.execute_batch(&format!(
        "CREATE TABLE t(a INTEGER PRIMARY KEY AUTOINCREMENT, b); CREATE INDEX i ON t(b);
         CREATE TABLE k(n TEXT PRIMARY KEY, v) WITHOUT ROWID; INSERT INTO k VALUES ('x', -0.5);
         CREATE VIEW v AS SELECT count(*) AS n FROM t; CREATE VIRTUAL TABLE f USING fts5(x);
         INSERT INTO f VALUES ('the pump runs'); PRAGMA user_version = 5;
         {rows} INSERT INTO t(b) SELECT randomblob(2000) FROM c;"
    ))
    .expect("SQL");
    path.to_owned()
}

fn text(path: &Path) -> &str {
    path.to_str().expect("text")
}

/// What a query over a board's command line says, in one line.
fn asked(agents: &Agents, board: &str, sql: &str) -> String {
    let told = agents.told(board, &["query", sql]);
    told.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or_default().to_owned()
}

const STAGED: &str = "SELECT count(*) FROM sqlite_schema WHERE name GLOB '_understudy_load_*'";

fn is_old(agents: &Agents, board: &str) {
    assert_eq!(asked(agents, board, "SELECT z FROM old"), "kept", "{board}");
}

fn is_new(agents: &Agents, board: &str, megabytes: u32) {
    assert_eq!(asked(agents, board, "SELECT n FROM v"), (250 * megabytes).to_string());
    assert_eq!(asked(agents, board, "SELECT rowid FROM f WHERE f MATCH 'pump'"), "1");
    assert_eq!(asked(agents, board, "SELECT v FROM k"), "-0.5");
    let left = asked(agents, board, "SELECT count(*) FROM sqlite_schema WHERE name = 'old'");
    assert_eq!((left.as_str(), asked(agents, board, STAGED).as_str()), ("0", "0"));
}

/// All boards digest what they hold and compare.
fn are_alike(agents: &Agents) {
    for _ in 0..TRIES {
        let scrub = agents.ask("a", &["scrub"]);
        let said = String::from_utf8_lossy(&scrub.stdout).into_owned();
        if scrub.status.success() {
            return;
        }
        assert!(!said.contains("differ"), "{said}");
        thread::sleep(Duration::from_millis(50));
    }
    panic!("the boards do not compare");
}

fn nothing_put_down(agents: &Agents, board: &str) {
    let names = fs::read_dir(agents.directory(board)).expect("a folder");
    let names = names.map(|entry| entry.expect("a file").file_name().into_string().expect("text"));
    let left: Vec<String> = names.filter(|name| name.starts_with("scratch")).collect();
    assert!(left.is_empty(), "{left:?}");
}

fn begin(agents: &Agents, board: &str, file: &Path) -> Child {
    let mut command = agents.command(board);
    command.args(["restore", text(file), "--yes"]).stdout(Stdio::null()).stderr(Stdio::piped());
    command.spawn().expect("it starts")
}

fn said(child: Child) -> (bool, String) {
    let ended = child.wait_with_output().expect("it ends");
    (ended.status.success(), String::from_utf8_lossy(&ended.stderr).into_owned())
}

/// Until rows of the new content have come to the group.
fn wait_for_staged(agents: &Agents, board: &str) {
    for _ in 0..TRIES {
        let staged = agents.ask(board, &["query", "SELECT max(rowid) FROM _understudy_load"]);
        if staged.status.success() && asked(agents, board, STAGED) != "0" {
            return;
        }
        thread::sleep(Duration::from_millis(20));
    }
    panic!("nothing comes");
}

fn formed() -> Agents {
    let mut agents = Agents::new(&program::debug());
    agents.form(&BOARDS);
    execute(&agents, "a", "CREATE TABLE IF NOT EXISTS old(z UNIQUE)");
    execute(&agents, "a", "INSERT OR IGNORE INTO old VALUES ('kept')");
    agents
}

#[test]
fn a_follower_restores_for_all_boards_what_was_backed_up() {
    let agents = formed();
    let (_, other) = roles(&agents);
    let folder = tempfile::tempdir().expect("a folder");
    let file = made(&folder.path().join("file"), 2);
    let _ = agents.told(&other, &["restore", text(&file), "--yes"]);
    BOARDS.iter().for_each(|board| is_new(&agents, board, 2));
    execute(&agents, "a", "INSERT OR REPLACE INTO k VALUES ('later', 1)");
    are_alike(&agents);
    for (form, name) in [
        (&[][..], "copy"),
        (&["--compress"], "copy.gz"),
        (&["--sql"], "sql"),
        (&["--sql", "--compress"], "sql.gz"),
    ] {
        let copy = folder.path().join(name);
        let _ = agents.told(&other, &[&["backup", text(&copy)], form].concat());
        execute(&agents, "a", "DROP VIEW IF EXISTS v; DELETE FROM t; DELETE FROM k");
        let _ = agents.told("a", &["restore", text(&copy), "--yes"]);
        for board in BOARDS {
            assert_eq!(asked(&agents, board, "SELECT n FROM v"), "500", "{name}");
            assert_eq!(asked(&agents, board, "SELECT count(*) FROM k"), "2", "{name}");
            assert_eq!(asked(&agents, board, "SELECT user_version FROM pragma_user_version"), "5");
            nothing_put_down(&agents, board);
        }
        let status = agents.status("b").expect("it answers");
        assert_eq!(status["members"].as_array().map(Vec::len), Some(3), "the members are ours");
    }
    are_alike(&agents);
}

#[test]
fn the_leader_dies_in_the_middle_and_all_of_it_is_restored_all_the_same() {
    let mut agents = formed();
    let (leader, other) = roles(&agents);
    let folder = tempfile::tempdir().expect("a folder");
    let file = made(&folder.path().join("file"), 12);
    let restoring = begin(&agents, &other, &file);
    wait_for_staged(&agents, &other);
    is_old(&agents, &other);
    agents.kill(&leader);
    let (is_done, words) = said(restoring);
    assert!(is_done, "{words}");
    agents.run(&leader);
    agents.wait(&leader, "to follow", |status| status["leader"].is_string());
    BOARDS.iter().for_each(|board| is_new(&agents, board, 12));
    are_alike(&agents);
}

#[test]
fn the_asked_board_dies_in_the_middle_and_nothing_has_changed() {
    let mut agents = formed();
    let (leader, other) = roles(&agents);
    let folder = tempfile::tempdir().expect("a folder");
    let file = made(&folder.path().join("file"), 12);
    let restoring = begin(&agents, &other, &file);
    wait_for_staged(&agents, &leader);
    agents.kill(&other);
    let (is_done, words) = said(restoring);
    assert!(!is_done && words.contains("nothing was restored"), "{words}");
    is_old(&agents, &leader);
    agents.run(&other);
    agents.wait(&other, "to follow", |status| status["leader"].is_string());
    nothing_put_down(&agents, &other);
    is_old(&agents, &other);
    are_alike(&agents);
    let small = made(&folder.path().join("small"), 1);
    let _ = agents.told(&leader, &["restore", text(&small), "--yes"]);
    BOARDS.iter().for_each(|board| is_new(&agents, board, 1));
    are_alike(&agents);
}

/// Posts a body over HTTP; status and body of the answer.
fn post(agents: &Agents, board: &str, path: &str, body: &[u8]) -> (u16, String) {
    let status = agents.status(board).expect("it answers");
    let mut stream = TcpStream::connect(status["http"].as_str().expect("it listens")).expect("up");
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).expect("it takes it");
    // One that refuses early does not take all of it.
    let _ = stream.write_all(body);
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer");
    let code = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
    (code, body.to_owned())
}

#[test]
fn what_cannot_be_restored_changes_nothing_and_says_why() {
    let mut agents = Agents::new(&program::debug());
    agents.run("a");
    let (code, words) = post(&agents, "a", "/db/load", b"CREATE TABLE t(a)");
    assert!(code == 503 && words.contains("belongs to no group"), "{words}");
    let _ = agents.found("a");
    execute(&agents, "a", "CREATE TABLE old(z); INSERT INTO old VALUES ('kept')");
    let folder = tempfile::tempdir().expect("a folder");
    let whole = fs::read(made(&folder.path().join("file"), 1)).expect("a file");
    let packed = {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&whole).expect("memory");
        gzip.finish().expect("memory")
    };
    let mut damaged = whole.clone();
    damaged[8_192..8_700].fill(0xa5);
    for (content, words) in [
        (&b""[..], "nothing was handed over"),
        (b"this is a letter;", "statement 1: near \"this\": syntax error"),
        (b"BEGIN; CREATE TABLE t(a); INSERT INTO t VALUES (1);", "is it cut off?"),
        (b"CREATE TABLE t(a); INSERT INTO t VALUES ('1", "statement 2: unrecognized token"),
        (b"ATTACH 'x' AS y;", "statement 1: what reaches beyond the tables"),
        (b"PRAGMA temp_store_directory = '/';", "statement 1: what reaches beyond"),
        (b"\xff\xfe\x00", "statement 1: the SQL text is not UTF-8"),
        (&whole[..whole.len() / 2], "the SQLite file is damaged"),
        (&damaged[..], "the SQLite file is damaged"),
        (&packed[..packed.len() / 2], "incomplete deflate stream"),
    ] {
        let file = folder.path().join("bad");
        fs::write(&file, content).expect("a file");
        let refused = agents.refused("a", &["restore", text(&file), "--yes"]);
        assert!(
            refused.contains("nothing was restored: ") && refused.contains(words),
            "{refused}: not {words}"
        );
        is_old(&agents, "a");
    }
    assert_eq!(
        asked(
            &agents,
            "a",
            "SELECT count(*) FROM sqlite_schema WHERE name GLOB '_understudy_load*'"
        ),
        "0",
        "nothing was begun"
    );
    let refused = agents.refused("a", &["restore", text(folder.path()), "--yes"]);
    assert!(refused.contains("is a folder"), "{refused}");
    let refused = agents.refused("a", &["restore", text(&folder.path().join("file"))]);
    assert!(refused.contains("needs --yes"), "{refused}");
    let (code, words) = post(&agents, "a", "/boot", b"SELECT 1; -- no file");
    assert_eq!((code, words.starts_with("invalid SQLite data: ")), (400, true), "{words}");
    let (code, words) = post(&agents, "a", "/db/load", &damaged);
    assert!(code == 400 && words.contains("damaged"), "{code} {words}");
    is_old(&agents, "a");
    nothing_put_down(&agents, "a");
    assert_eq!(post(&agents, "a", "/boot", &packed), (200, String::new()));
    is_new(&agents, "a", 1);
    assert_eq!(post(&agents, "a", "/db/load", &whole), (200, String::from("{\"results\":[]}")));
    is_new(&agents, "a", 1);
}

const DUMPED: &str = "CREATE TABLE d(a INTEGER PRIMARY KEY AUTOINCREMENT, b); INSERT INTO d(b) VALUES ('one; two'), (x'00');
    CREATE VIRTUAL TABLE g USING fts5(x); INSERT INTO g VALUES ('a fan'); CREATE TRIGGER r AFTER INSERT ON d BEGIN SELECT 1; END;";

#[test]
fn what_sqlites_shell_dumps_is_loaded_into_a_new_group_and_executed_in_an_old_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("file");
    Connection::open(&file).expect("a file").execute_batch(DUMPED).expect("SQL");
    let dump = Command::new("sqlite3").arg(&file).arg(".dump").output();
    let Ok(dump) = dump.map(|dump| dump.stdout) else {
        eprintln!("no sqlite3 here: nothing was loaded");
        return;
    };
    let mut agents = Agents::new(&program::debug());
    agents.run("a");
    let _ = agents.found("a");
    assert_eq!(post(&agents, "a", "/db/load", &dump), (200, String::from("{\"results\":[]}")));
    assert_eq!(asked(&agents, "a", "SELECT count(*) FROM d"), "2");
    assert_eq!(asked(&agents, "a", "SELECT rowid FROM g WHERE g MATCH 'fan'"), "1");
    // What is there already is no longer to be made: all of it is undone.
    let (code, words) = post(&agents, "a", "/db/load", &dump);
    assert!(code == 200 && words.contains("\"error\""), "{code} {words}");
    let plain = "PRAGMA foreign_keys=OFF;\nBEGIN TRANSACTION;\nCREATE TABLE e(a INTEGER PRIMARY KEY AUTOINCREMENT);\n\
                 INSERT INTO e VALUES(7);\nDELETE FROM sqlite_sequence;\nINSERT INTO sqlite_sequence VALUES('e',7);\nCOMMIT;\n";
    let (code, words) = post(&agents, "a", "/db/load", plain.as_bytes());
    assert!(code == 200 && !words.contains("error"), "{code} {words}");
    execute(&agents, "a", "INSERT INTO e DEFAULT VALUES");
    assert_eq!(asked(&agents, "a", "SELECT max(a) FROM e"), "8");
    let (_, words) =
        post(&agents, "a", "/db/load", b"INSERT INTO e VALUES(9); INSERT INTO e VALUES(9);");
    assert!(words.contains("UNIQUE constraint failed"), "{words}");
    assert_eq!(asked(&agents, "a", "SELECT max(a) FROM e"), "8", "all or nothing");
    assert_eq!(asked(&agents, "a", "SELECT count(*) FROM d"), "2", "what was there is there");
}

#[test]
fn a_restore_takes_little_memory_however_large_it_and_the_old_content_are() {
    let mut agents = Agents::new(&program::debug());
    agents.run("a");
    let _ = agents.found("a");
    let folder = tempfile::tempdir().expect("a folder");
    let file = made(&folder.path().join("file"), 32);
    let pid = agents.status("a").expect("it answers")["agent_pid"].as_u64().expect("a number");
    let before = peak_bytes(pid);
    for _ in 0..2 {
        let _ = agents.told("a", &["restore", text(&file), "--yes"]);
    }
    is_new(&agents, "a", 32);
    let grown = peak_bytes(pid).saturating_sub(before);
    assert!(grown < 24 << 20, "{grown} bytes more");
}

/// A small disk of its own, where one may be had.
struct Disk(PathBuf);

impl Disk {
    fn new(path: &Path, megabytes: u32) -> Option<Self> {
        fs::create_dir(path).expect("a folder");
        let size = format!("size={megabytes}m");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(path);
        mount.stderr(Stdio::null()).status().ok()?.success().then(|| Self(path.to_owned()))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Nothing is lost by one that stays.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[test]
fn a_disk_without_room_changes_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(disk) = Disk::new(&folder.path().join("disk"), 48) else {
        eprintln!("no disk can be had here (not root): nothing was tried");
        return;
    };
    let file = made(&folder.path().join("file"), 24);
    let mut agents = Agents::new_in(&program::debug(), &disk.0);
    agents.run("a");
    let _ = agents.found("a");
    execute(&agents, "a", "CREATE TABLE old(z); INSERT INTO old VALUES ('kept')");
    for name in ["file", "text"] {
        let path = folder.path().join(name);
        if name == "text" {
            let dump = File::create(&path).expect("a file");
            let row = format!("INSERT INTO t VALUES (X'{}');\n", "ab".repeat(100_000));
            let mut dump = std::io::BufWriter::new(dump);
            dump.write_all(b"CREATE TABLE t(a);\n").expect("room");
            (0..400).for_each(|_| dump.write_all(row.as_bytes()).expect("room"));
        }
        let refused = agents.refused("a", &["restore", text(&path), "--yes"]);
        assert!(refused.contains("no room"), "{refused}");
        is_old(&agents, "a");
        nothing_put_down(&agents, "a");
    }
    let copy = disk.0.join("copy");
    let filler = disk.0.join("filler");
    fs::write(&filler, vec![0; 4 << 20]).expect("room");
    let _ = agents.told("a", &["backup", text(&copy)]);
    assert_eq!(look::<String>(&copy, "SELECT z FROM old"), "kept");
    let small = made(&folder.path().join("small"), 1);
    let _ = agents.told("a", &["restore", text(&small), "--yes"]);
    is_new(&agents, "a", 1);
    drop(agents);
    let _ = file;
}
