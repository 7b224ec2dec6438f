//! Files that cannot be loaded say why, and definitions are taken apart as SQLite
//! reads them.

use std::{fs, path::PathBuf};

use super::*;

fn made(folder: &Path, sql: &str) -> PathBuf {
    let path = folder.join("file.db");
    let _ = fs::remove_file(&path);
    Connection::open(&path).unwrap().execute_batch(sql).unwrap();
    path
}

fn refused(path: &Path) -> String {
    Source::open(path, "1").err().expect("it is refused")
}

#[test]
fn a_file_that_is_no_database_or_a_damaged_one_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let rows = "WITH c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c LIMIT 2000)";
    let path = made(
        folder.path(),
        &format!(
            "CREATE TABLE t(a INTEGER PRIMARY KEY, b UNIQUE); {rows} INSERT INTO t SELECT x, x || 'text' FROM c"
        ),
    );
    assert!(Source::open(&path, "1").is_ok());
    let whole = fs::read(&path).unwrap();
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = whole.clone();
        change(&mut bytes);
        fs::write(&path, bytes).unwrap();
        refused(&path)
    };
    for (said, words) in [
        (with(&|bytes| bytes.truncate(10)), "no SQLite database"),
        (with(&|bytes| bytes[0] = b'x'), "no SQLite database"),
        (with(&|bytes| bytes[18..20].fill(3)), "newer SQLite"),
        (with(&|bytes| bytes[47] = 9), "unsupported file format"),
        (with(&|bytes| bytes.truncate(3 * 4_096)), "damaged"),
        (with(&|bytes| bytes[8_192..8_700].fill(0xa5)), "damaged"),
        (with(&|bytes| bytes.truncate(1_000)), "damaged"),
    ] {
        assert!(said.contains(words), "{said}: not {words}");
    }
    // One value of an index that is none of its table.
    let at = whole.windows(8).rposition(|part| part == b"1999text").unwrap();
    let said = with(&|bytes| bytes[at] = b'7');
    assert!(said.contains("damaged"), "{said}");
}

#[test]
fn what_is_not_replicated_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    for (sql, words) in [
        (
            "PRAGMA writable_schema = ON; INSERT INTO sqlite_schema VALUES ('table', 'r', 'r', 0, \
             'CREATE VIRTUAL TABLE r USING rtree(id, a, b)')",
            "table r: virtual tables of module rtree are not replicated",
        ),
        ("CREATE TABLE h(rowid, _rowid_, oid)", "h: its columns are named rowid"),
        (
            "CREATE TABLE t(a, CHECK (t.a > 0))",
            "it does not fit this database: no such column: t.a",
        ),
        (
            "CREATE TABLE t(a, CHECK (a > 0)); PRAGMA ignore_check_constraints = ON; INSERT INTO t VALUES (-1)",
            "CHECK constraint failed",
        ),
    ] {
        let said = refused(&made(folder.path(), sql));
        assert!(said.contains(words), "{said}: not {words}");
    }
}

#[test]
fn what_boards_of_another_group_kept_is_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let sql =
        "CREATE TABLE _understudy_member(id UNIQUE); INSERT INTO _understudy_member VALUES (1);
         CREATE TABLE _UNDERSTUDY_other(a); CREATE TABLE mine(a)";
    let source = Source::open(&made(folder.path(), sql), "1").unwrap();
    let names: Vec<&str> = source.tables().iter().map(|part| part.name.as_str()).collect();
    assert_eq!(names, ["mine", "list"]);
}

#[test]
fn names_are_found_however_they_are_written() {
    for (sql, kind, rest) in [
        ("CREATE TABLE t(a)", "CREATE TABLE", "(a)"),
        ("create /* x */ table if not exists \"a \"\"b\" -- y\n(a)", "CREATE TABLE", "-- y\n(a)"),
        ("CREATE TABLE [a(b](c)", "CREATE TABLE", "(c)"),
        ("CREATE TABLE 'f_data'(id)", "CREATE TABLE", "(id)"),
        ("CREATE UNIQUE INDEX `i` ON t(a)", "CREATE UNIQUE INDEX", "ON t(a)"),
        ("CREATE TABLE \u{e9}t\u{e9}(a)", "CREATE TABLE", "(a)"),
    ] {
        let (found, left) = after_name(sql).unwrap();
        assert_eq!((found, left.trim()), (kind, rest), "{sql}");
    }
    assert_eq!(after_name("CREATE TABLE \"a"), None);
    assert_eq!(module("CREATE VIRTUAL TABLE x USING FTS5 (a)"), "FTS5");
}
