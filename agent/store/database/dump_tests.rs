//! What is dumped and read again is the same, to the bit, by our SQLite and by the
//! one that is installed here, if there is one.

use std::{
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

use proptest::prelude::*;
use rusqlite::types::Value;

use super::*;

fn dumped(connection: &Connection, tables: &[&str]) -> Result<String, String> {
    let mut text = Vec::new();
    let tables: Vec<String> = tables.iter().map(|name| String::from(*name)).collect();
    write(connection, &tables, &mut text).map_err(|trouble| match trouble {
        Trouble::Sqlite(error) => error.to_string(),
        Trouble::Out(error) => error.to_string(),
        Trouble::Unfit(words) => words,
    })?;
    Ok(String::from_utf8(text).unwrap())
}

/// A database that our own SQLite makes of the text.
fn read(text: &str) -> Connection {
    let connection = Connection::open_in_memory().unwrap();
    connection.execute_batch(text).unwrap();
    connection
}

/// What SQLite's shell makes of the text; none where there is no shell.
fn read_by_shell(text: &str, path: &Path) -> Option<Connection> {
    let shell = Command::new("sqlite3").arg("-bail").arg(path).stdin(Stdio::piped()).spawn();
    let mut shell = shell.ok()?;
    shell.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    assert!(shell.wait().unwrap().success(), "sqlite3 does not read it");
    Some(Connection::open(path).unwrap())
}

/// All rows, reals by their bits.
pub(crate) fn rows(connection: &Connection, sql: &str) -> Vec<Vec<String>> {
    let mut select = connection.prepare(sql).unwrap();
    let count = select.column_count();
    let rows = select.query_map([], |row| {
        let values = (0..count).map(|place| {
            Ok(match row.get_ref(place)? {
                ValueRef::Real(value) => format!("real {:x}", value.to_bits()),
                ValueRef::Text(bytes) => format!("text {bytes:?}"),
                other @ (ValueRef::Null | ValueRef::Integer(_) | ValueRef::Blob(_)) => {
                    format!("{other:?}")
                }
            })
        });
        values.collect()
    });
    rows.unwrap().collect::<Result<_, _>>().unwrap()
}

fn awkward_real() -> impl Strategy<Value = f64> {
    prop_oneof![
        any::<u64>().prop_map(f64::from_bits),
        (any::<i32>(), 0..8_i32)
            .prop_map(|(digits, places)| f64::from(digits) / 10_f64.powi(places)),
        (1..1_u64 << 53, 0..22_i32)
            .prop_map(|(digits, places)| digits as f64 / 10_f64.powi(places)),
        prop::sample::select(vec![
            0.0,
            -0.0,
            f64::INFINITY,
            f64::NEG_INFINITY,
            f64::MAX,
            f64::MIN_POSITIVE,
            5e-324,
            0.1,
            0.1 + 0.2,
            1e22,
            1e23,
            9_007_199_254_740_993.0,
            f64::MAX.next_down(),
            f64::MIN_POSITIVE.next_down()
        ]),
    ]
}

fn awkward_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<i64>().prop_map(Value::Integer),
        prop::sample::select(vec![i64::MIN, i64::MAX, 0, -1]).prop_map(Value::Integer),
        awkward_real().prop_filter("stored as NULL", |value| !value.is_nan()).prop_map(Value::Real),
        "[a'\"\0\r\n;\u{feff}\u{e9}-]{0,12}".prop_map(Value::Text),
        prop::collection::vec(any::<u8>(), 0..12).prop_map(Value::Blob),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn awkward_values_come_back_to_the_bit(values in prop::collection::vec(awkward_value(), 1..60)) {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch("CREATE TABLE t(a, b REAL, c TEXT, d INTEGER, e BLOB, f NUMERIC)").unwrap();
        for value in &values {
            connection.execute("INSERT INTO t VALUES (?1, ?1, ?1, ?1, ?1, ?1)", [value]).unwrap();
        }
        // A text that is no UTF-8 at all.
        connection.execute_batch("INSERT INTO t(a) VALUES (CAST(X'ff00fe' AS TEXT))").unwrap();
        let before = rows(&connection, "SELECT * FROM t");
        let text = dumped(&connection, &[]).unwrap();
        prop_assert_eq!(&rows(&read(&text), "SELECT * FROM t"), &before);
        let folder = tempfile::tempdir().unwrap();
        if let Some(by_shell) = read_by_shell(&text, &folder.path().join("db")) {
            prop_assert_eq!(&rows(&by_shell, "SELECT * FROM t"), &before);
        }
    }
}

pub(crate) const ALL: &str = r#"
    CREATE TABLE plain(a INTEGER PRIMARY KEY AUTOINCREMENT, b UNIQUE, c AS (b || 'x') STORED, d AS (a + 1));
    INSERT INTO plain(b) VALUES ('one'), ('two'), ('three');
    DELETE FROM plain WHERE b = 'three';
    CREATE TABLE "odd ""name"""("a 'b'" TEXT, [c d], CHECK ([c d] <> 3)); INSERT INTO "odd ""name""" VALUES ('x', 4);
    CREATE TABLE keyed(k TEXT COLLATE NOCASE, v, PRIMARY KEY(k, v DESC)) WITHOUT ROWID;
    INSERT INTO keyed VALUES ('a', 1), ('B', 2), ('a', 3);
    CREATE TABLE strict(a ANY, b REAL) STRICT; INSERT INTO strict VALUES ('1', 2), (x'00', 3.5);
    CREATE VIRTUAL TABLE f USING fts5(title, body);
    INSERT INTO f VALUES ('the pump', 'runs'), ('the fan', 'stands still');
    CREATE VIRTUAL TABLE g USING fts5(a, content = 'plain', content_rowid = 'a', tokenize = "porter ascii");
    INSERT INTO g(g) VALUES ('rebuild');
    CREATE INDEX i ON plain(b DESC) WHERE b > 'a'; CREATE INDEX e ON plain(length(b));
    CREATE VIEW v AS SELECT a, b FROM plain -- a comment to its end
    ;
    CREATE TRIGGER tr AFTER INSERT ON plain BEGIN INSERT INTO keyed VALUES (NEW.b, NEW.a); SELECT 1; END;
    CREATE TRIGGER tv INSTEAD OF INSERT ON v BEGIN INSERT INTO plain(b) VALUES (NEW.b); END;
    ANALYZE; PRAGMA user_version = 7; PRAGMA application_id = 99;
    CREATE TABLE _understudy_member(id); INSERT INTO _understudy_member VALUES (1);
    CREATE INDEX ours ON _understudy_member(id);
"#;

pub(crate) const LOOKS: [&str; 9] = [
    "SELECT * FROM plain",
    "SELECT * FROM \"odd \"\"name\"\"\"",
    "SELECT * FROM keyed",
    "SELECT * FROM strict",
    "SELECT rowid, * FROM f WHERE f MATCH 'pump OR still'",
    "SELECT rowid FROM g WHERE g MATCH 'one'",
    "SELECT * FROM sqlite_sequence",
    "SELECT * FROM pragma_user_version, pragma_application_id",
    "SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE name NOT LIKE '%understudy%' \
     AND tbl_name NOT LIKE '%understudy%' AND sql NOT NULL AND name NOT LIKE 'sqlite_%' ORDER BY type, name",
];

pub(crate) fn is_whole(connection: &Connection, source: &Connection) {
    for sql in LOOKS {
        assert_eq!(rows(connection, sql), rows(source, sql), "{sql}");
    }
    assert_eq!(rows(connection, "PRAGMA integrity_check"), [["text [111, 107]"]]);
    connection.execute_batch("INSERT INTO v(b) VALUES ('new')").unwrap();
    let new = rows(connection, "SELECT a FROM plain WHERE b = 'new'");
    assert_eq!(new, [["Integer(4)"]], "no id is given twice");
}

#[test]
fn everything_a_database_holds_comes_back_and_nothing_of_ours() {
    let folder = tempfile::tempdir().unwrap();
    let source = read(ALL);
    let text = dumped(&source, &[]).unwrap();
    // An index that stands only in the schema is known to connections opened later.
    let path = folder.path().join("ours");
    Connection::open(&path).unwrap().execute_batch(&text).unwrap();
    let read = Connection::open(&path).unwrap();
    is_whole(&read, &source);
    let ours = "SELECT count(*) FROM sqlite_schema WHERE name LIKE '%understudy%' OR name = 'ours'";
    assert_eq!(rows(&read, ours), [["Integer(0)"]]);
    match read_by_shell(&text, &folder.path().join("theirs")) {
        Some(by_shell) => is_whole(&by_shell, &source),
        None => eprintln!("no sqlite3 here: only our own SQLite has read it"),
    }
}

#[test]
fn some_tables_come_with_what_belongs_to_them() {
    let source = read(ALL);
    let text = dumped(&source, &["PLAIN", "f"]).unwrap();
    assert!(text.contains("CREATE INDEX i ") && text.contains("CREATE TRIGGER tr"));
    assert!(text.contains("f_data") && !text.contains("g_data") && !text.contains("keyed("));
    assert!(text.contains("DELETE FROM sqlite_sequence WHERE name='plain'"));
    assert_eq!(dumped(&source, &["nothing"]), Err(String::from("no such table: nothing")));
}

#[test]
fn plain_numbers_are_written_plainly() {
    for (value, text) in [
        (21.37, "21.37"),
        (-0.5, "-0.5"),
        (0.1, "0.1"),
        (5.0, "5.0"),
        (-0.0, "-0.0"),
        (1e-7, "1e-7"),
        (f64::INFINITY, "9.0e+999"),
        (100_000.0, "100000.0"),
    ] {
        assert_eq!(real(value), text);
    }
    assert_eq!(real(0.1 + 0.2), "1351079888211149*1.0/4503599627370496");
}
