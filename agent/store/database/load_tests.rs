//! A file takes the place of what users keep, step by step, as the group's entries do
//! it; and nothing takes it where a step is missing.

use std::path::Path;

use understudy_core::readings::{Batch, Reading, Work};

use super::*;
use crate::store::database::{
    Options, dump,
    dump::tests::{ALL, LOOKS, is_whole, rows},
    snapshot::tests::{apply, open},
    source::Source,
};

/// What every board is given for a request, and its answer.
fn executed(database: &mut Database, request: &SqlRequest) -> (Vec<u8>, Result<(), String>) {
    let executed = database.execute(database.applied(), &[sql::encode(request)]).unwrap();
    let response: SqlResponse = sql::decode(executed.answers[0].as_ref().unwrap()).unwrap();
    let failed = response.failure().map(String::from);
    (executed.change, failed.map_or(Ok(()), Err))
}

/// Boards that apply the same entries; the first executes.
struct Boards(Vec<(tempfile::TempDir, Database)>);

impl Boards {
    fn new() -> Self {
        let board = || {
            let directory = tempfile::tempdir().unwrap();
            let database = open(directory.path(), Options::default());
            (directory, database)
        };
        Self(vec![board(), board()])
    }

    fn run(&mut self, request: &SqlRequest) -> Result<(), String> {
        let (change, answer) = executed(&mut self.0[0].1, request);
        self.0.iter_mut().for_each(|(_, database)| apply(database, change.clone()));
        answer
    }

    fn sql(&mut self, sql: &str) {
        let statement = Statement::new(sql, Vec::new());
        let request = SqlRequest::new(RequestKind::Execute, Origin::User, vec![statement]);
        self.run(&request).unwrap();
    }

    fn stage(&mut self, source: &Source) -> Result<(), String> {
        self.run(&source.step(&Step::Begin))?;
        self.run(&source.step(&source.make()))?;
        for part in source.tables() {
            source.rows(part, |row| {
                let statement = Statement::new(part.insert(1), row);
                let request = SqlRequest::new(RequestKind::Execute, Origin::Agent, vec![statement]);
                self.run(&request)
            })?;
        }
        Ok(())
    }

    fn finish(&mut self, source: &Source) -> Result<(), String> {
        self.run(&source.step(&source.finish(false)))
    }

    /// Committed, and read as anybody else reads the file.
    fn read(&mut self) -> Vec<Connection> {
        let open = |(directory, database): &mut (tempfile::TempDir, Database)| {
            database.commit().unwrap();
            Connection::open(directory.path().join("state.db")).unwrap()
        };
        self.0.iter_mut().map(open).collect()
    }

    fn are_alike(&mut self) {
        let all = "SELECT pgno, data FROM sqlite_dbpage WHERE pgno > 1";
        let boards = self.read();
        assert!(rows(&boards[0], all) == rows(&boards[1], all), "their pages differ");
    }
}

const OLD: &str = "CREATE TABLE plain(a, z); INSERT INTO plain VALUES (1, 'old'); CREATE INDEX i ON plain(a);
    CREATE VIEW old AS SELECT * FROM plain; CREATE TABLE counted(a INTEGER PRIMARY KEY AUTOINCREMENT);
    INSERT INTO counted VALUES (77); CREATE VIRTUAL TABLE f USING fts5(x); INSERT INTO f VALUES ('old pump');
    CREATE TRIGGER tr AFTER INSERT ON counted BEGIN SELECT 1; END; PRAGMA user_version = 3;
    CREATE VIRTUAL TABLE h USING fts5(x, content = '', columnsize = 0); CREATE TABLE h_docsize(a)";

fn file(folder: &Path, sql: &str) -> std::path::PathBuf {
    let path = folder.join("file.db");
    let _ = std::fs::remove_file(&path);
    Connection::open(&path).unwrap().execute_batch(sql).unwrap();
    path
}

#[test]
fn a_file_takes_the_place_of_everything_on_all_boards_alike() {
    let folder = tempfile::tempdir().unwrap();
    for form in [
        "",
        "PRAGMA page_size = 8192;",
        "PRAGMA encoding = 'UTF-16';",
        "PRAGMA journal_mode = WAL;",
        "PRAGMA auto_vacuum = FULL;",
    ] {
        let path = file(folder.path(), &format!("{form}{ALL}"));
        let mut boards = Boards::new();
        boards.sql(OLD);
        let source = Source::open(&path, "1").unwrap();
        boards.stage(&source).unwrap();
        for board in boards.read() {
            assert_eq!(rows(&board, "SELECT * FROM plain").len(), 1, "nothing has changed yet");
            assert_eq!(
                rows(&board, "SELECT seq FROM sqlite_sequence WHERE name = 'counted'"),
                [["Integer(77)"]]
            );
        }
        let wal = folder.path().join("file.db-wal");
        assert!(!wal.exists(), "a file that came alone is read without a WAL");
        boards.finish(&source).unwrap();
        boards.finish(&source).expect("it may be asked for again");
        boards.are_alike();
        let original = Connection::open(&path).unwrap();
        let [_, other] = &boards.read()[..] else { panic!("two boards") };
        for sql in LOOKS {
            assert_eq!(rows(other, sql), rows(&original, sql), "{form} {sql}");
        }
        let schema = rows(
            other,
            "SELECT name FROM sqlite_schema WHERE name GLOB '_understudy_load*' OR name IN ('old', 'h_docsize')",
        );
        assert_eq!(schema.len(), 1, "{schema:?}");
        boards
            .sql("INSERT INTO f VALUES ('a new pump', 'x'); INSERT INTO plain(b) VALUES ('after')");
        boards.are_alike();
        assert_eq!(rows(&boards.read()[1], "SELECT rowid FROM f WHERE f MATCH 'pump'").len(), 2);
        let copy = folder.path().join("copy.db");
        boards.0[0].1.commit().unwrap();
        boards.read()[0].execute("VACUUM INTO ?1", [copy.to_str().unwrap()]).unwrap();
        let copied = Connection::open(&copy).unwrap();
        assert_eq!(rows(&copied, "PRAGMA integrity_check"), [["text [111, 107]"]]);
        std::fs::remove_file(copy).unwrap();
    }
}

#[test]
fn the_old_content_stays_until_the_last_step_and_a_new_load_clears_what_was_left() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(folder.path(), ALL);
    let mut boards = Boards::new();
    boards.sql(OLD);
    let first = Source::open(&path, "1").unwrap();
    boards.stage(&first).unwrap();
    let second = Source::open(&path, "2").unwrap();
    boards.run(&second.step(&Step::Begin)).unwrap();
    let staged = "SELECT count(*) FROM sqlite_schema WHERE name GLOB '_understudy_load_*'";
    assert_eq!(rows(&boards.read()[1], staged), [["Integer(0)"]]);
    let refused = boards.finish(&first).unwrap_err();
    assert!(refused.contains("took the place of this one"), "{refused}");
    assert!(boards.run(&first.step(&first.make())).is_err());
    boards.run(&first.step(&Step::Abandon)).expect("it is gone already");
    boards.stage(&second).unwrap();
    boards.run(&second.step(&Step::Abandon)).unwrap();
    assert_eq!(rows(&boards.read()[1], staged), [["Integer(0)"]]);
    assert!(boards.finish(&second).is_err(), "it has no list any more");
    boards.are_alike();
    let old = rows(&boards.read()[1], "SELECT z FROM plain");
    assert_eq!(old, [["text [111, 108, 100]"]]);
    boards.sql("INSERT INTO plain VALUES (2, 'goes on'); INSERT INTO counted VALUES (NULL)");
}

#[test]
fn only_an_empty_database_is_taken_where_that_is_asked() {
    let folder = tempfile::tempdir().unwrap();
    let source = Source::open(&file(folder.path(), ALL), "1").unwrap();
    let mut boards = Boards::new();
    boards.stage(&source).unwrap();
    boards.sql("CREATE TABLE meanwhile(a)");
    let refused = boards.run(&source.step(&source.finish(true))).unwrap_err();
    assert!(refused.contains("is not any more"), "{refused}");
    boards.sql("DROP TABLE meanwhile");
    boards.run(&source.step(&source.finish(true))).unwrap();
    is_whole(&boards.read()[0], &Connection::open(folder.path().join("file.db")).unwrap());
}

#[test]
fn a_step_shares_no_entry_and_no_caller_can_ask_for_one() {
    let directory = tempfile::tempdir().unwrap();
    let mut database = open(directory.path(), Options::default());
    let begin = request("1", &Step::Begin);
    let other = Statement::new("CREATE TABLE t(a)", Vec::new());
    let other = SqlRequest::new(RequestKind::Execute, Origin::User, vec![other]);
    for batch in [[&begin, &other], [&other, &begin]] {
        let batch = batch.map(sql::encode);
        let executed = database.execute(database.applied(), &batch).unwrap();
        assert_eq!(executed.answers.len(), 1);
    }
    let (_, answer) = executed(&mut database, &SqlRequest { origin: Origin::User, ..begin });
    assert!(answer.is_ok(), "a comment does nothing: {answer:?}");
    assert_eq!(
        rows(&database.connection, "SELECT * FROM sqlite_schema WHERE name = '_understudy_load'")
            .len(),
        0
    );
}

#[test]
fn readings_travel_with_the_tables_they_stand_in_and_none_comes_twice() {
    let store = |boards: &mut Boards, numbers: std::ops::Range<u64>| {
        let reading = |number: u64| {
            let (sensor, value) = (String::from("hall"), Value::Integer(number.cast_signed()));
            let time = 1_700_000_000_000_000 + number.cast_signed();
            (number, Reading { sensor, time, value, id: None, token: None, is_far: false })
        };
        let readings = numbers.map(reading).collect();
        let work = Work::Store(Batch { board: 1, floor: 0, readings, given_up: Vec::new() });
        let leader = &mut boards.0[0].1;
        let executed = leader.execute(leader.applied(), &[work.encode()]).unwrap();
        assert!(executed.answers[0].is_ok(), "{:?}", executed.answers);
        boards.0.iter_mut().for_each(|(_, database)| apply(database, executed.change.clone()));
    };
    let folder = tempfile::tempdir().unwrap();
    let mut before = Boards::new();
    store(&mut before, 0..4);
    let mut text = Vec::new();
    assert!(dump::write(&before.read()[0], &[], &mut text).is_ok());
    let path = file(folder.path(), &String::from_utf8(text).unwrap());
    let mut after = Boards::new();
    store(&mut after, 2..3);
    let source = Source::open(&path, "1").unwrap();
    after.stage(&source).unwrap();
    after.finish(&source).unwrap();
    store(&mut after, 2..8);
    after.are_alike();
    let values = "SELECT group_concat(value) FROM readings WHERE sensor = 'hall'";
    let expected = "0,1,2,3,3,4,5,6,7".bytes().collect::<Vec<u8>>();
    assert_eq!(rows(&after.read()[1], values), [[format!("text {expected:?}")]]);
}

#[test]
fn a_restored_file_is_rolled_up_from_where_its_own_rows_say() {
    const HOUR: i64 = 3_600_000_000;
    let mut boards = Boards::new();
    boards.sql("CREATE TABLE old(a)");
    for (_, database) in &mut boards.0 {
        // Marks of another life: all is rolled up and trimmed long since.
        database
            .internal("INSERT INTO _understudy_tended VALUES (1, 60, 9000000000000000), (5, 0, 7)")
            .unwrap();
        database.internal("INSERT INTO _understudy_late VALUES (1, 5)").unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    let text = format!(
        "CREATE TABLE sensor(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, unit TEXT, created INTEGER);
         CREATE TABLE reading(sensor INTEGER NOT NULL, time INTEGER NOT NULL, value, board INTEGER,
             token INTEGER, flag INTEGER, PRIMARY KEY(sensor, time)) WITHOUT ROWID;
         CREATE TABLE rollup(sensor INTEGER NOT NULL, width INTEGER NOT NULL, time INTEGER NOT NULL,
             count INTEGER NOT NULL, min REAL, max REAL, mean REAL, last REAL,
             PRIMARY KEY(sensor, width, time)) WITHOUT ROWID;
         INSERT INTO sensor VALUES (1, 'hall', NULL, 0);
         INSERT INTO reading VALUES (1, {}, 1, 1, NULL, NULL), (1, {}, 2, 1, NULL, NULL);
         INSERT INTO rollup VALUES (1, 3600, 0, 1, 1, 1, 1, 1), (1, 3600, {HOUR}, 1, 1, 1, 1, 1);",
        HOUR + 5,
        3 * HOUR
    );
    let source = Source::open(&file(folder.path(), &text), "1").unwrap();
    boards.stage(&source).unwrap();
    boards.finish(&source).unwrap();
    boards.are_alike();
    let marks = "SELECT group_concat(sensor || ' ' || width || ' ' || until, ', ') FROM \
                 (SELECT * FROM _understudy_tended ORDER BY width)";
    let expected = format!("1 0 {}, 1 3600 {}", HOUR + 5, 2 * HOUR).bytes().collect::<Vec<u8>>();
    for read in boards.read() {
        assert_eq!(rows(&read, marks), [[format!("text {expected:?}")]]);
        assert_eq!(rows(&read, "SELECT count(*) FROM _understudy_late"), [["Integer(0)"]]);
    }
}
