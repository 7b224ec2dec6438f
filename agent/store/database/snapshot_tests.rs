//! Copies of a board's database while it goes on applying.

use std::{cell::Cell, path::Path};

use understudy_core::{
    event::{Entry, EntryKind},
    sql::{self, Origin, RequestKind, SqlRequest, Statement},
};

use super::*;

const FILE: Form = Form::Pages { wal: false, vacuum: false };

pub(in crate::store::database) fn open(directory: &Path, options: Options) -> Database {
    let mut database = Database::open(directory, options).unwrap();
    apply(&mut database, Vec::new());
    database
}

pub(in crate::store::database) fn apply(database: &mut Database, data: Vec<u8>) {
    let index = database.applied().index + 1;
    database.apply(&[Entry { index, term: 1, kind: EntryKind::Change, data }]).unwrap();
    database.keep_house(Millis(0)).unwrap();
}

fn run(database: &mut Database, sql: &str) {
    let statement = Statement::new(sql, Vec::new());
    let request = SqlRequest::new(RequestKind::Execute, Origin::User, vec![statement]);
    let executed = database.execute(database.applied(), &[sql::encode(&request)]).unwrap();
    apply(database, executed.change);
}

fn snapshot(database: &mut Database) -> Snapshot {
    database.snapshot(database.applied().index).unwrap().unwrap()
}

/// Makes a file of what is written.
fn copied(snapshot: &Snapshot, form: &Form, directory: &Path) -> PathBuf {
    let path = directory.join("copy.db");
    snapshot.write(form, &mut File::create(&path).unwrap()).unwrap();
    path
}

fn look<T: rusqlite::types::FromSql>(path: &Path, sql: &str) -> T {
    Connection::open(path).unwrap().query_row(sql, [], |row| row.get(0)).unwrap()
}

#[test]
fn a_copy_is_of_the_entry_it_was_asked_at_whatever_is_written_meanwhile() {
    let (directory, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut database = open(directory.path(), Options::default());
    run(&mut database, "CREATE TABLE t(a); CREATE INDEX i ON t(a)");
    (0..50).for_each(|_| run(&mut database, "INSERT INTO t VALUES (randomblob(300))"));
    let snapshot = snapshot(&mut database);
    let index = database.applied().index;
    run(&mut database, "UPDATE t SET a = NULL; CREATE TABLE later(a)");
    (0..50).for_each(|_| run(&mut database, "INSERT INTO t VALUES (randomblob(300))"));
    database.commit().unwrap();
    for wal in [false, true] {
        let form = Form::Pages { wal, vacuum: false };
        let path = copied(&snapshot, &form, out.path());
        assert_eq!(std::fs::metadata(&path).unwrap().len(), snapshot.bytes(&form).unwrap());
        assert_eq!(look::<String>(&path, "PRAGMA integrity_check"), "ok");
        assert_eq!(look::<i64>(&path, "SELECT count(a) FROM t"), 50);
        let head: Vec<u8> = look(&path, "SELECT head FROM _understudy_applied");
        assert_eq!(super::super::head::Head::decode(&head).unwrap().applied.index, index);
        let mode = if wal { "wal" } else { "delete" };
        assert_eq!(look::<String>(&path, "PRAGMA journal_mode"), mode);
        std::fs::remove_file(path).unwrap();
    }
}

#[test]
fn a_vacuumed_copy_has_no_free_space_and_leaves_no_file_behind() {
    let (directory, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut database = open(directory.path(), Options::default());
    run(&mut database, "CREATE TABLE t(a)");
    run(&mut database, "INSERT INTO t VALUES (randomblob(200000)), (1)");
    run(&mut database, "DELETE FROM t WHERE a <> 1");
    let names = || std::fs::read_dir(directory.path()).unwrap().count();
    let before = names();
    let vacuumed = snapshot(&mut database);
    let form = Form::Pages { wal: true, vacuum: true };
    let path = copied(&vacuumed, &form, out.path());
    assert_eq!(look::<i64>(&path, "PRAGMA freelist_count"), 0);
    assert_eq!(look::<String>(&path, "PRAGMA integrity_check"), "ok");
    assert_eq!(look::<i64>(&path, "SELECT sum(a) FROM t"), 1);
    assert_eq!(names(), before);
}

#[test]
fn a_copy_nobody_takes_is_ended_before_it_holds_the_board_up() {
    let directory = tempfile::tempdir().unwrap();
    let options = Options {
        commit_bytes: 64 << 10,
        wal_bytes: 1 << 16,
        wal_bytes_max: 1 << 20,
        ..Options::default()
    };
    let mut database = open(directory.path(), options);
    run(&mut database, "CREATE TABLE t(a)");
    let copy = snapshot(&mut database);
    let limit = copy.limit();
    let mut rows = 0;
    while limit.why().is_none() {
        assert!(!database.is_held(), "after {rows} rows");
        run(&mut database, "INSERT INTO t VALUES (randomblob(10000))");
        rows += 1;
    }
    assert!(rows > 20, "it was ended after {rows} rows");
    let error = copy.write(&FILE, &mut io::sink()).unwrap_err();
    assert!(error.contains("so much was written meanwhile"), "{error}");
    drop(copy);
    (0..200).for_each(|_| run(&mut database, "INSERT INTO t VALUES (randomblob(10000))"));
    assert!(!database.is_held());
}

#[test]
fn a_copy_is_ended_before_what_would_hold_the_board_up_is_committed() {
    let directory = tempfile::tempdir().unwrap();
    let options = Options { wal_bytes_max: 1 << 20, ..Options::default() };
    let mut database = open(directory.path(), options);
    run(&mut database, "CREATE TABLE t(a)");
    let copy = snapshot(&mut database);
    let committed = database.committed;
    (0..60).for_each(|_| run(&mut database, "INSERT INTO t VALUES (randomblob(10000))"));
    assert_eq!(database.committed, committed);
    assert!(copy.limit().why().is_some());
}

#[test]
fn a_copy_is_ended_by_the_wal_itself_where_little_that_was_said_touched_many_pages() {
    let directory = tempfile::tempdir().unwrap();
    let options = Options { wal_bytes_max: 1 << 20, ..Options::default() };
    let mut database = open(directory.path(), options);
    run(&mut database, "CREATE TABLE t(a, b)");
    let rows = "WITH c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c LIMIT 700)";
    run(&mut database, &format!("{rows} INSERT INTO t SELECT zeroblob(900), x FROM c"));
    let copy = snapshot(&mut database);
    run(&mut database, "UPDATE t SET b = b + 1");
    assert!(copy.limit().why().is_none());
    database.checkpoint().unwrap();
    assert!(copy.limit().why().is_some() && !database.is_held());
}

thread_local! {
    static NOW: Cell<u64> = const { Cell::new(0) };
}

fn clock() -> Millis {
    Millis(NOW.get())
}

#[test]
fn a_copy_that_takes_too_long_is_ended() {
    let directory = tempfile::tempdir().unwrap();
    let mut database = open(directory.path(), Options { clock, ..Options::default() });
    let copy = snapshot(&mut database);
    copy.write(&FILE, &mut io::sink()).unwrap();
    NOW.set(SNAPSHOT_MS_MAX);
    let error = copy.write(&FILE, &mut io::sink()).unwrap_err();
    assert!(error.contains("longer than 30 minutes"), "{error}");
}

#[test]
fn so_many_copies_are_taken_and_no_more() {
    let directory = tempfile::tempdir().unwrap();
    let mut database = open(directory.path(), Options::default());
    let mut copies: Vec<_> = (0..SNAPSHOTS_MAX).map(|_| snapshot(&mut database)).collect();
    let refused = database.snapshot(0).unwrap().err().unwrap();
    assert!(refused.contains("try again"), "{refused}");
    copies.pop();
    drop(snapshot(&mut database));
    let ahead = database.snapshot(database.applied().index + 1).unwrap().err().unwrap();
    assert!(ahead.contains("reading its journal"), "{ahead}");
}

#[test]
fn an_output_that_fails_is_told_in_its_words() {
    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::Error::other("no room"))
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let directory = tempfile::tempdir().unwrap();
    let mut database = open(directory.path(), Options::default());
    let copy = snapshot(&mut database);
    for form in [FILE, Form::Sql { tables: Vec::new() }] {
        assert_eq!(copy.write(&form, &mut Full), Err(String::from("no room")));
    }
}
