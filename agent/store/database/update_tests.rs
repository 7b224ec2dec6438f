//! Rows that keep their identity travel as the columns that changed, and arrive
//! as if they had travelled whole.

use understudy_core::{
    change::{Change, Row, Segment},
    event::Outcome,
    sql::RequestKind,
};

use super::{
    tests::{Boards, request},
    *,
};

/// Executes statements as one request each, applies them everywhere, compares,
/// and returns the rows that travelled.
fn travelled(boards: &mut Boards, statements: &[&str]) -> Vec<Row> {
    let requests: Vec<_> = statements
        .iter()
        .map(|statement| request(RequestKind::Execute, false, &[statement]))
        .collect();
    let base = boards.databases[0].applied();
    let change = boards.databases[0].execute(base, &requests).unwrap().change;
    boards.requests(&requests);
    rows_of(&change, base)
}

fn rows_of(change: &[u8], base: Position) -> Vec<Row> {
    let entry = Position { term: 1, index: base.index + 1 };
    let segments = Change::decode(change, entry).unwrap().segments.into_iter();
    let rows = |segment| match segment {
        Segment::Rows { rows, .. } => rows,
        other @ (Segment::Schema(_) | Segment::Readings(_) | Segment::Operation(_)) => {
            panic!("{other:?}")
        }
    };
    segments.flat_map(rows).collect()
}

/// The places of the columns that each row changes; none for other rows.
fn places(rows: &[Row]) -> Vec<Option<Vec<u16>>> {
    let places = |row: &Row| match row {
        Row::Update { changed, .. } => Some(changed.iter().map(|(place, _)| *place).collect()),
        Row::Put { .. } | Row::Delete { .. } => None,
    };
    rows.iter().map(places).collect()
}

#[test]
fn only_what_changed_travels() {
    let mut boards = Boards::new();
    for sql in [
        "CREATE TABLE t(id INTEGER PRIMARY KEY, a, b REAL, c TEXT, d BLOB)",
        "INSERT INTO t VALUES (1, 1, 2, 'x', zeroblob(5000)), (2, -0.0, NULL, '', x'')",
        "CREATE TABLE r(sensor INTEGER, time INTEGER, value, PRIMARY KEY(sensor, time)) WITHOUT ROWID",
        "INSERT INTO r VALUES (7, 1700000000000, 21.5), (8, 1700000000000, 1)",
        "CREATE TABLE g(v AS (a + 1) VIRTUAL, a, s AS (b || a) STORED, b)",
        "INSERT INTO g(a, b) VALUES (1, 2)",
    ] {
        boards.fine(sql);
    }
    let changes: [(&str, &[Option<Vec<u16>>]); 13] = [
        ("UPDATE t SET a = 5 WHERE id = 1", &[Some(vec![0])]),
        ("UPDATE t SET b = 3, c = 'y' WHERE id = 1", &[Some(vec![1, 2])]),
        ("UPDATE t SET a = a, c = 'z' WHERE id = 1", &[Some(vec![2])]),
        ("UPDATE t SET a = a", &[]),
        ("UPDATE t SET a = 0.0 WHERE id = 2", &[Some(vec![0])]),
        ("UPDATE t SET c = x'' WHERE id = 2", &[Some(vec![2])]),
        ("UPDATE t SET d = zeroblob(5000)", &[Some(vec![3])]),
        ("UPDATE t SET id = 9 WHERE id = 2", &[None, None]),
        ("UPDATE r SET value = value + 1", &[Some(vec![2]), Some(vec![2])]),
        ("UPDATE r SET time = time + 1 WHERE sensor = 8", &[None, None]),
        ("REPLACE INTO r VALUES (7, 1700000000000, 4)", &[None]),
        ("UPDATE g SET b = 3", &[Some(vec![1])]),
        ("UPDATE g SET a = 7", &[Some(vec![0])]),
    ];
    for (sql, expected) in changes {
        let rows = travelled(&mut boards, &[sql]);
        assert_eq!(places(&rows), expected, "{sql}: {rows:?}");
    }
    assert_eq!(boards.one("SELECT v FROM g"), Value::Integer(8));
}

#[test]
fn requests_of_one_batch_add_up() {
    let mut boards = Boards::new();
    boards.fine("CREATE TABLE t(id INTEGER PRIMARY KEY, a, b, c)");
    boards.fine("INSERT INTO t VALUES (1, 1, 1, 1), (2, 2, 2, 2), (3, 3, 3, 3)");
    let rows = travelled(
        &mut boards,
        &[
            "UPDATE t SET b = 5 WHERE id < 3",
            "UPDATE t SET a = 6 WHERE id = 1",
            "UPDATE t SET b = 7 WHERE id = 1",
            "INSERT INTO t VALUES (4, 4, 4, 4)",
            "UPDATE t SET c = 8 WHERE id = 4",
            "DELETE FROM t WHERE id = 3",
        ],
    );
    let integer = Value::Integer;
    let whole = [4, 4, 8].map(integer).to_vec();
    assert_eq!(
        rows,
        [
            Row::Delete { rowid: Some(3), key: Vec::new() },
            Row::Update {
                rowid: Some(1),
                key: Vec::new(),
                changed: vec![(0, integer(6)), (1, integer(7))]
            },
            Row::Update { rowid: Some(2), key: Vec::new(), changed: vec![(1, integer(5))] },
            Row::Put { rowid: Some(4), columns: whole },
        ]
    );
    assert_eq!(boards.one("SELECT sum(a + b + c) FROM t"), integer(39));
}

#[test]
fn rows_that_a_unique_index_looks_at_travel_whole() {
    let mut boards = Boards::new();
    for sql in [
        "CREATE TABLE t(id INTEGER PRIMARY KEY, a UNIQUE, b, c, d)",
        "CREATE UNIQUE INDEX by_c ON t(abs(c))",
        "INSERT INTO t VALUES (1, 1, 1, 1, 1), (2, 2, 2, 2, 2)",
    ] {
        boards.fine(sql);
    }
    assert_eq!(places(&travelled(&mut boards, &["UPDATE t SET b = 3 WHERE id = 1"])), [None]);
    boards.fine("DROP INDEX by_c");
    assert_eq!(places(&travelled(&mut boards, &["UPDATE t SET b = 4"])), vec![Some(vec![1]); 2]);
    let swap = ["UPDATE t SET a = -a", "UPDATE t SET a = 3 + a", "UPDATE t SET d = 9"];
    assert_eq!(places(&travelled(&mut boards, &swap)), [None, None]);
    assert_eq!(boards.one("SELECT group_concat(a || d) FROM t"), Value::Text(b"29,19".to_vec()));
}

#[test]
fn a_key_that_changes_its_case_in_the_batch_of_another_change_is_one_row() {
    let mut boards = Boards::new();
    boards.fine("CREATE TABLE t(k TEXT PRIMARY KEY COLLATE NOCASE, v, w) WITHOUT ROWID");
    boards.fine("INSERT INTO t VALUES ('a', 1, 1)");
    for batch in [
        &["UPDATE t SET v = 2", "UPDATE t SET k = 'A'"][..],
        &["UPDATE t SET k = 'a'", "UPDATE t SET k = 'A'", "UPDATE t SET v = 3"],
        &["DELETE FROM t", "INSERT INTO t VALUES ('a', 4, 4)", "UPDATE t SET k = 'A'"],
        &["DELETE FROM t", "INSERT INTO t VALUES ('x', 5, 5)", "UPDATE t SET k = 'X'"],
        &["UPDATE t SET k = 'x'", "UPDATE t SET k = 'X'", "UPDATE t SET k = 'x'"],
    ] {
        travelled(&mut boards, batch);
        assert_eq!(boards.one("SELECT count(*) FROM t"), Value::Integer(1), "{batch:?}");
    }
    assert_eq!(boards.one("SELECT k || v FROM t"), Value::Text(b"x5".to_vec()));
}

#[test]
fn a_column_added_later_is_compared_by_its_default() {
    let mut boards = Boards::new();
    for sql in [
        "CREATE TABLE t(id INTEGER PRIMARY KEY, a)",
        "INSERT INTO t VALUES (1, 1), (2, 2)",
        "ALTER TABLE t ADD COLUMN b DEFAULT 7",
        "UPDATE t SET b = NULL WHERE id = 1",
        "UPDATE t SET a = 5 WHERE id = 2",
    ] {
        boards.fine(sql);
    }
    assert_eq!(boards.one("SELECT count(b) FROM t"), Value::Integer(1));
}

#[test]
fn columns_beyond_the_sixty_third_travel_together() {
    let mut boards = Boards::new();
    let columns: Vec<String> = (0..200).map(|n| format!("c{n}")).collect();
    boards.fine(&format!("CREATE TABLE t({})", columns.join(",")));
    boards.fine("INSERT INTO t(c0) VALUES (1)");
    let rows = travelled(&mut boards, &["UPDATE t SET c62 = 1"]);
    assert_eq!(places(&rows), [Some(vec![62])]);
    let rows = travelled(&mut boards, &["UPDATE t SET c150 = 1"]);
    assert_eq!(places(&rows), [Some((63..200).collect())]);
    assert_eq!(boards.one("SELECT c150 FROM t"), Value::Integer(1));
}

/// A change for the first board, as another board would have made it.
fn given(boards: &mut Boards, change: &Change) -> Result<Vec<Outcome>, Failure> {
    let entry = boards.entry(change.encode());
    boards.databases[0].apply(&[entry])
}

#[test]
fn a_change_made_on_another_schema_stops_the_board() {
    let mut boards = Boards::new();
    boards.fine("CREATE TABLE t(a)");
    let base = boards.databases[0].applied();
    let insert = request(RequestKind::Execute, false, &["INSERT INTO t VALUES (1)"]);
    let made = boards.databases[0].execute(base, &[insert]).unwrap().change;
    let entry = Position { term: 1, index: base.index + 1 };
    let mut change = Change::decode(&made, entry).unwrap();
    change.fingerprint ^= 1;
    let Err(Failure::Halt(reason)) = given(&mut boards, &change) else { panic!("it stops") };
    assert!(reason.contains("made on a schema of the fingerprint"), "{reason}");
}

/// One board's rows after these statements, each a request, as one query shows them.
fn held(statements: &[&str], query: &str) -> Value {
    let mut boards = Boards::new();
    statements.iter().for_each(|sql| boards.fine(sql));
    boards.one(query)
}

#[test]
fn rows_copied_from_before_a_column_was_added_have_its_default() {
    for kind in ["", "WITHOUT ROWID"] {
        let table = |name| format!("CREATE TABLE {name}(a INTEGER PRIMARY KEY, b) {kind}");
        let copied = held(
            &[
                &table("s"),
                &table("t"),
                "INSERT INTO s VALUES (1, 2), (3, NULL)",
                "ALTER TABLE s ADD COLUMN c DEFAULT 7",
                "ALTER TABLE t ADD COLUMN c DEFAULT 7",
                "INSERT INTO t SELECT * FROM s",
            ],
            "SELECT group_concat(coalesce(b, '-') || c) FROM t",
        );
        assert_eq!(copied, Value::Text(b"27,-7".to_vec()), "{kind}");
    }
}

#[test]
fn a_row_that_came_in_a_statement_that_failed_does_not_travel() {
    let mut boards = Boards::new();
    boards.fine("CREATE TABLE t(id INTEGER PRIMARY KEY, a UNIQUE, b REAL)");
    boards.fine("INSERT INTO t VALUES (1, 1, 1)");
    let both = request(
        RequestKind::Execute,
        false,
        &["INSERT INTO t VALUES (2, 2, 2), (3, 1, 3)", "INSERT INTO t VALUES (4, 4, 4)"],
    );
    let alone = ["INSERT INTO t VALUES (5, 5, 5), (6, 1, 6)", "INSERT INTO t VALUES (7, 7, 7)"];
    let alone = alone.map(|sql| request(RequestKind::Execute, false, &[sql]));
    boards.requests(&[vec![both], alone.to_vec()].concat());
    assert_eq!(boards.one("SELECT group_concat(id || b) FROM t"), text("11.0,44.0,77.0"));
}

#[test]
fn a_row_touched_again_in_its_request_travels_as_it_is_in_the_end() {
    let mut boards = Boards::new();
    boards
        .fine("CREATE TABLE t(id INTEGER PRIMARY KEY, a UNIQUE, g AS (a + 1) STORED, z NOT NULL)");
    boards.fine("CREATE TABLE other(id INTEGER PRIMARY KEY, a)");
    boards.fine("CREATE TRIGGER twice AFTER INSERT ON t BEGIN UPDATE t SET z = z + 1 WHERE id = new.id; END");
    boards.fine("INSERT INTO t(id, a, z) VALUES (1, 1, 1), (2, 2, 2)");
    boards.fine("INSERT OR REPLACE INTO t(id, a, z) VALUES (3, 1, 9), (4, 4, 4), (4, 5, 5)");
    assert_eq!(
        boards.one("SELECT group_concat(id || a || g || z) FROM t"),
        text("2233,31210,4566")
    );
}

fn text(words: &str) -> Value {
    Value::text(words)
}

#[test]
fn what_has_to_be_undone_is_executed_again_with_savepoints() {
    let mut boards = Boards::new();
    boards.fine("CREATE TABLE p(id INTEGER PRIMARY KEY)");
    boards.fine(
        "CREATE TABLE c(id INTEGER PRIMARY KEY, p REFERENCES p DEFERRABLE INITIALLY DEFERRED)",
    );
    boards.fine("CREATE TABLE big(v)");
    let statements = [
        "INSERT INTO p VALUES (1)",
        "PRAGMA journal_mode = DELETE",
        "INSERT INTO p VALUES (2)",
        "PRAGMA foreign_keys = ON; INSERT INTO c VALUES (1, 9)",
        "INSERT INTO big VALUES (zeroblob(5000000)), (zeroblob(5000000)) RETURNING v",
        "INSERT INTO p SELECT 3 + count(*) FROM big",
    ];
    let requests = statements.map(|sql| request(RequestKind::Execute, false, &[sql]));
    let answers = boards.requests(&requests);
    let words = |at: usize| format!("{:?}", answers[at]);
    assert!(words(1).contains("disallowed pragma"), "{}", words(1));
    assert!(words(3).contains("FOREIGN KEY"), "{}", words(3));
    assert!(words(4).contains("the result is larger"), "{}", words(4));
    let rows = "SELECT group_concat(id) || ';' || (SELECT count(*) FROM big) FROM p";
    assert_eq!(boards.one(rows), text("1,2,3;0"));
}
