//! Programs that read state.db directly, as SQLite's own shell or a dashboard
//! does: who may, what they see, and what becomes of a board whose file one of
//! them reads for too long.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use rusqlite::{Connection, ErrorCode};
use rustix::{
    process::{Gid, Uid, geteuid},
    thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid},
};
use understudy_tests::{agents::Agents, program};

/// Looks at something that comes about soon, one every 50 ms.
const TRIES: usize = 400;

/// A user and two groups that nobody has.
const USER: u32 = 64_123;
const GROUP: u32 = 64_124;
const OTHERS: u32 = 64_125;

const BOARDS: [&str; 3] = ["a", "b", "c"];

fn database(agents: &Agents, board: &str) -> PathBuf {
    agents.directory(board).join("state.db")
}

/// Runs `work` as another user, on a thread of its own: these are a thread's.
fn as_user<T: Send>(group: u32, work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let run = || {
            let (user, group) = (Uid::from_raw(USER), Gid::from_raw(group));
            set_thread_groups(&[]).expect("root may");
            set_thread_res_gid(group, group, group).expect("root may");
            set_thread_res_uid(user, user, user).expect("root may");
            work()
        };
        scope.spawn(run).join().expect("it ends well")
    })
}

fn count(path: &Path) -> rusqlite::Result<i64> {
    Connection::open(path)?.query_row("SELECT count(*) FROM t", [], |row| row.get(0))
}

fn wait_for_rows(path: &Path, rows: i64) {
    for _ in 0..TRIES {
        if as_user(GROUP, || count(path)).is_ok_and(|seen| seen == rows) {
            return;
        }
        thread::sleep(Duration::from_millis(50));
    }
    panic!("waited in vain for {rows} rows: {:?}", as_user(GROUP, || count(path)));
}

#[test]
fn the_group_may_read_the_database_running_or_not_and_nothing_else() {
    let mut agents = Agents::new(&program::debug());
    agents.configure("a", "[database]\ncommit_interval_s = 1\n");
    let directory = agents.directory("a");
    let mode = |path: &Path| fs::metadata(path).expect("it is there").mode() & 0o777;
    if geteuid().is_root() {
        let parent = directory.parent().expect("a folder");
        fs::set_permissions(parent, fs::Permissions::from_mode(0o711)).expect("it is ours");
        // What is made in it belongs to its group, as in a system's installation.
        chown(&directory, None, Some(GROUP)).expect("root may");
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o2750)).expect("it is ours");
    }
    agents.run("a");
    let _ = agents.found("a");
    let _ = agents.told("a", &["execute", "CREATE TABLE t(a)", "INSERT INTO t VALUES (1), (2)"]);
    let path = database(&agents, "a");
    let wal = directory.join("state.db-wal");
    for (file, expected) in [
        (&path, 0o640),
        (&wal, 0o640),
        (&directory.join("state.db-shm"), 0o640),
        (&directory.join("journal.db"), 0o600),
    ] {
        assert_eq!(mode(file), expected, "{}", file.display());
    }
    if !geteuid().is_root() {
        eprintln!("not root: only the modes of the files were looked at, not another user");
        return;
    }
    wait_for_rows(&path, 2);
    let inode = fs::metadata(&path).expect("it is there").ino();
    let denied = |done: rusqlite::Result<()>, code| {
        assert_eq!(done.expect_err("it must not").sqlite_error_code(), Some(code));
    };
    let insert = || Connection::open(&path)?.execute_batch("INSERT INTO t VALUES (3)");
    denied(as_user(GROUP, insert), ErrorCode::ReadOnly);
    denied(as_user(OTHERS, || count(&path).map(drop)), ErrorCode::CannotOpen);
    let journal = directory.join("journal.db");
    denied(as_user(GROUP, || count(&journal).map(drop)), ErrorCode::CannotOpen);
    let _ = agents.told("a", &["execute", "INSERT INTO t VALUES (3)"]);
    wait_for_rows(&path, 3);
    agents.stop("a");
    wait_for_rows(&path, 3);
    agents.run("a");
    wait_for_rows(&path, 3);
    assert_eq!(fs::metadata(&path).expect("it is there").ino(), inode);
}

#[test]
fn a_read_without_end_stops_its_board_at_a_bound_and_is_named() {
    let mut agents = Agents::new(&program::debug());
    for board in BOARDS {
        agents.configure(board, "[database]\ncommit_interval_s = 1\nwal_mb_max = 4\n");
    }
    agents.form(&BOARDS);
    let _ = agents.told("a", &["execute", "CREATE TABLE t(a)", "INSERT INTO t VALUES (0)"]);
    let status = agents.status("a").expect("it answers");
    let held = status["leader"].as_str().expect("somebody leads").to_owned();
    let other = BOARDS.into_iter().find(|board| *board != held).expect("there are three");
    let reader = Connection::open(database(&agents, &held)).expect("root or the owner may");
    reader.execute_batch("BEGIN; SELECT count(*) FROM sqlite_schema;").expect("it can be read");
    let is_held = |agents: &Agents| {
        agents.status(&held).is_some_and(|status| status["database_held"] == true)
    };
    let tries = (0..TRIES).take_while(|_| !is_held(&agents)).map(|_| {
        // The one under way when leadership moves may not know how it ended.
        let _ = agents.ask(other, &["execute", "INSERT INTO t VALUES (randomblob(400000))"]);
    });
    assert!(tries.count() < TRIES, "the WAL has no bound");
    let said = agents.told(&held, &["status"]);
    let own = format!("(process {})", std::process::id());
    assert!(said.starts_with("This board applies nothing") && said.contains(&own), "{said}");
    agents.wait(other, "to be led by another", |status| {
        status["leader"].as_str().is_some_and(|leader| leader != held)
    });
    let _ = agents.told(other, &["execute", "INSERT INTO t VALUES (1)"]);
    let behind = agents.status(&held).expect("it answers");
    assert!(behind["applied_index"].as_u64() < behind["last_index"].as_u64(), "{behind}");
    reader.execute_batch("COMMIT").expect("it ends");
    agents.wait(&held, "to have applied everything", |status| {
        status["database_held"] == false && status["applied_index"] == status["last_index"]
    });
}
