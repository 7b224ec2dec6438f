//! A leader whose rows are wrong, and boards that are right: what it proposes does
//! not stop them.

use understudy_core::{
    event::{Entry, EntryKind, Outcome},
    sql::RequestKind,
};

use super::{
    tests::{Boards, request},
    *,
};

/// Three boards of one schema and one set of rows, and then the first one's are
/// changed behind its back.
fn boards(schema_and_rows: &[&str], behind: &[&str]) -> Boards {
    let mut boards = Boards::new();
    schema_and_rows.iter().for_each(|sql| boards.fine(sql));
    boards.databases[0].authorizer.enter(authorize::Mode::Internal);
    for sql in behind {
        boards.databases[0].connection.execute_batch(sql).unwrap();
    }
    boards
}

/// The first executes the requests as one batch, all apply.
fn outcomes(boards: &mut Boards, statements: &[&str]) -> Vec<Outcome> {
    let requests: Vec<_> =
        statements.iter().map(|sql| request(RequestKind::Execute, false, &[sql])).collect();
    let base = boards.databases[0].applied();
    let data = boards.databases[0].execute(base, &requests).unwrap().change;
    let entry = Entry { index: base.index + 1, term: 1, kind: EntryKind::Change, data };
    let apply = |database: &mut Database| database.apply(std::slice::from_ref(&entry)).unwrap();
    boards.databases.iter_mut().flat_map(apply).collect()
}

const IN_PART: [Outcome; 3] = [Outcome::Changed, Outcome::ChangedInPart, Outcome::ChangedInPart];

/// What the two that are right hold: the same, to the page.
fn agreed(boards: &mut Boards, sql: &str) -> String {
    let digests: Vec<_> =
        boards.databases[1..].iter_mut().map(|db| db.page_digest().unwrap()).collect();
    assert_eq!(digests[0], digests[1], "they differ");
    boards.databases[1].authorizer.enter(authorize::Mode::Internal);
    boards.databases[1].connection.query_row(sql, [], |row| row.get(0)).unwrap()
}

#[test]
fn an_update_of_a_row_that_is_not_here_is_left_out_and_the_others_are_not() {
    let schema = ["CREATE TABLE t(id INTEGER PRIMARY KEY, a)", "INSERT INTO t VALUES (1, 1)"];
    let mut boards = boards(&schema, &["INSERT INTO t VALUES (0, 0), (2, 2)"]);
    assert_eq!(outcomes(&mut boards, &["UPDATE t SET a = a + 5"]), IN_PART);
    assert_eq!(agreed(&mut boards, "SELECT group_concat(id || a) FROM t"), "16");
}

#[test]
fn a_delete_of_a_row_that_is_not_here_is_left_out_and_the_others_are_not() {
    for key in ["", "WITHOUT ROWID"] {
        let table = format!("CREATE TABLE t(id INTEGER PRIMARY KEY, a) {key}");
        let schema = [table.as_str(), "INSERT INTO t VALUES (1, 1), (3, 3)"];
        let mut boards = boards(&schema, &["INSERT INTO t VALUES (0, 0), (2, 2)"]);
        assert_eq!(outcomes(&mut boards, &["DELETE FROM t WHERE id < 3"]), IN_PART);
        assert_eq!(agreed(&mut boards, "SELECT group_concat(id || a) FROM t"), "33");
    }
}

#[test]
fn a_put_of_a_unique_value_that_another_row_holds_is_left_out_and_what_it_was_stays() {
    let schema = [
        "CREATE TABLE t(id INTEGER PRIMARY KEY, a UNIQUE)",
        "INSERT INTO t VALUES (1, 1), (2, 2), (3, 3), (4, 4), (7, 7)",
    ];
    let mut boards = boards(&schema, &["DELETE FROM t WHERE id = 7"]);
    let statements = [
        "INSERT INTO t VALUES (5, 5)",
        "UPDATE t SET a = 7 WHERE id = 3",
        "UPDATE t SET a = 3 WHERE id = 4",
        "UPDATE t SET a = -a WHERE id < 3",
        "UPDATE t SET a = 3 + a WHERE id < 3",
    ];
    assert_eq!(outcomes(&mut boards, &statements), IN_PART);
    // Row 4 takes the value of row 3, which had to keep it.
    let rows = "SELECT group_concat(id || a) FROM (SELECT * FROM t ORDER BY id)";
    assert_eq!(agreed(&mut boards, rows), "12,21,33,44,55,77");
}

#[test]
fn where_each_row_bars_the_next_all_of_them_are_left_out() {
    let schema = [
        "CREATE TABLE t(id INTEGER PRIMARY KEY, a UNIQUE)",
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 40) \
         INSERT INTO t SELECT i, i FROM n",
    ];
    let mut boards = boards(&schema, &["DELETE FROM t WHERE id = 40"]);
    let shift = "UPDATE t SET a = -1 - a";
    assert_eq!(outcomes(&mut boards, &[shift, "UPDATE t SET a = -a"]), IN_PART);
    assert_eq!(agreed(&mut boards, "SELECT sum(a = id) || '' FROM t"), "40");
}

#[test]
fn a_row_that_came_and_went_within_a_batch_is_not_missed() {
    let mut boards = boards(
        &[
            "CREATE TABLE t(id INTEGER PRIMARY KEY, a UNIQUE)",
            "CREATE TABLE k(k TEXT PRIMARY KEY COLLATE NOCASE, v REAL) WITHOUT ROWID",
            "CREATE TABLE n(id INTEGER PRIMARY KEY AUTOINCREMENT)",
            "INSERT INTO k VALUES ('a', 1)",
        ],
        &[],
    );
    for batch in [
        &["INSERT INTO t VALUES (1, 1)", "DELETE FROM t"][..],
        &["INSERT INTO t VALUES (1, 1)", "DELETE FROM t", "INSERT INTO t VALUES (1, 2)"],
        &["DELETE FROM t", "INSERT INTO t VALUES (1, 2)", "DELETE FROM t"],
        &["INSERT INTO t VALUES (1, 1)", "UPDATE t SET id = 2", "UPDATE t SET id = 3"],
        &["UPDATE k SET k = 'A'", "UPDATE k SET k = 'a'", "DELETE FROM k"],
        &["INSERT INTO k VALUES ('b', 2)", "UPDATE k SET k = 'B'", "DELETE FROM k"],
        &["INSERT INTO n DEFAULT VALUES", "DELETE FROM n", "DROP TABLE n"],
        &["REPLACE INTO t VALUES (3, 9), (4, 9)", "DELETE FROM t WHERE a = 9"],
    ] {
        assert_eq!(outcomes(&mut boards, batch), [Outcome::Changed; 3], "{batch:?}");
    }
    assert_eq!(agreed(&mut boards, "SELECT count(*) || '' FROM t, k"), "0");
}

#[test]
fn a_schema_statement_that_rows_here_do_not_allow_stops_the_board_and_says_why() {
    let schema = ["CREATE TABLE t(a)", "INSERT INTO t VALUES (1), (1)"];
    let mut boards = boards(&schema, &["UPDATE t SET a = 2 WHERE rowid = 2"]);
    let sql = "CREATE UNIQUE INDEX i ON t(a)";
    let base = boards.databases[0].applied();
    let requests = [request(RequestKind::Execute, false, &[sql])];
    let data = boards.databases[0].execute(base, &requests).unwrap().change;
    let entry = Entry { index: base.index + 1, term: 1, kind: EntryKind::Change, data };
    boards.databases[0].apply(std::slice::from_ref(&entry)).unwrap();
    let Err(Failure::Halt(reason)) = boards.databases[1].apply(&[entry]) else {
        panic!("it guesses")
    };
    assert!(reason.contains(sql) && reason.contains("UNIQUE constraint failed: t.a"), "{reason}");
    assert!(reason.contains("Compare this table on all boards"), "{reason}");
    assert_eq!(boards.databases[1].applied(), base);
}
