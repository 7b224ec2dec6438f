//! Boards side by side, some of them changed behind the agent's back: what scrubs
//! find of it, by the very writes a group would make.

use std::{fs, path::PathBuf};

use understudy_core::{
    event::{Entry, EntryKind},
    scrub::report,
    sql::{RequestKind, SqlResponse, StatementOutcome},
};

use super::*;
use crate::store::database::tests::request;

const BOARDS: [u64; 3] = [1, 2, 3];

/// Three boards; the first leads.
struct Group {
    databases: Vec<Option<Database>>,
    directories: Vec<tempfile::TempDir>,
    index: u64,
}

fn small() -> Options {
    Options { wal_bytes: 64 << 10, ..Options::default() }
}

impl Group {
    fn new() -> Self {
        let directories: Vec<_> = BOARDS.iter().map(|_| tempfile::tempdir().unwrap()).collect();
        let open = |folder: &tempfile::TempDir| Database::open(folder.path(), small()).ok();
        let databases = directories.iter().map(open).collect();
        let mut group = Self { databases, directories, index: 0 };
        group.apply(Vec::new());
        group
    }

    fn database(&mut self, board: usize) -> &mut Database {
        self.databases[board].as_mut().expect("it is open")
    }

    fn apply(&mut self, data: Vec<u8>) {
        self.index += 1;
        let entry = Entry { index: self.index, term: 1, kind: EntryKind::Change, data };
        for database in self.databases.iter_mut().flatten() {
            database.apply(std::slice::from_ref(&entry)).unwrap();
        }
    }

    fn write(&mut self, request: Vec<u8>) {
        let database = self.database(0);
        let base = database.applied();
        let executed = database.execute(base, &[request]).unwrap();
        let answer = executed.answers[0].as_ref().unwrap();
        let response: SqlResponse = sql::decode(answer).unwrap();
        let errors = response.results.iter().map(|result| &result.outcome);
        let error = { errors }.find(|outcome| matches!(outcome, StatementOutcome::Error(_)));
        assert_eq!((error, &response.error), (None, &None));
        self.apply(executed.change);
    }

    fn sql(&mut self, statements: &[&str]) {
        self.write(request(RequestKind::Execute, false, statements));
    }

    /// All boards digest and report.
    fn report(&mut self) {
        for (place, board) in BOARDS.into_iter().enumerate() {
            while let Some(scrubbing) = self.database(place).take_scrubbing() {
                let (id, made) = (scrubbing.id(), scrubbing.run());
                self.write(report(id, board, &made));
            }
        }
    }

    /// A scrub and all the parts that follow.
    fn scrub(&mut self) -> Scrubs {
        let request = self.database(0).scrubs().ask(&BOARDS, None);
        self.write(request);
        self.report();
        while let Some(part) = self.database(0).scrubs().next_part() {
            let request = self.database(0).scrubs().ask(&BOARDS, Some(part));
            self.write(request);
            self.report();
        }
        let all: Vec<_> =
            (0..BOARDS.len()).map(|board| self.database(board).scrubs().clone()).collect();
        assert!(all.windows(2).all(|pair| pair[0] == pair[1]), "all boards see the same reports");
        all[0].clone()
    }

    /// The board's file while its agent does not run.
    fn close(&mut self, board: usize) -> PathBuf {
        self.database(board).checkpoint().unwrap();
        self.databases[board] = None;
        self.directories[board].path().join("state.db")
    }

    fn open(&mut self, board: usize) {
        let database = Database::open(self.directories[board].path(), small()).unwrap();
        self.databases[board] = Some(database);
    }

    fn tamper(&mut self, board: usize, sql: &str) {
        let path = self.close(board);
        let plain = Connection::open(path).unwrap();
        plain.execute_batch(sql).unwrap();
        plain.close().unwrap();
        self.open(board);
    }

    fn flip(&mut self, board: usize, place: impl FnOnce(&[u8]) -> usize) {
        let path = self.close(board);
        let mut bytes = fs::read(&path).unwrap();
        let place = place(&bytes);
        bytes[place] ^= 1;
        fs::write(&path, bytes).unwrap();
        self.open(board);
    }
}

/// Every kind of table and value.
fn filled() -> Group {
    let mut group = Group::new();
    group.sql(&[
        "CREATE TABLE t(a, b)",
        "CREATE TABLE s(id INTEGER PRIMARY KEY AUTOINCREMENT, x REAL)",
        "CREATE TABLE w(k TEXT COLLATE NOCASE, n INT, v, PRIMARY KEY(k, n DESC)) WITHOUT ROWID",
        "CREATE INDEX t_b ON t(b)",
        "CREATE VIRTUAL TABLE f USING fts5(words)",
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000) \
         INSERT INTO t SELECT i, 'needle-' || i FROM n",
        "INSERT INTO w SELECT b, a, randomblob(9) FROM t",
        "INSERT INTO s(x) VALUES (0.0), (9e999), (1.5)",
        "INSERT INTO f SELECT b FROM t LIMIT 50",
    ]);
    group
}

fn at(bytes: &[u8], needle: &str) -> usize {
    bytes.windows(needle.len()).position(|window| window == needle.as_bytes()).unwrap()
}

fn words(scrubs: &Scrubs) -> Vec<(String, String)> {
    scrubs.differences().into_iter().map(|found| (found.table, found.rows)).collect()
}

fn found(table: &str, rows: &str) -> Vec<(String, String)> {
    vec![(table.to_owned(), rows.to_owned())]
}

#[test]
fn boards_that_hold_the_same_agree_whatever_their_pages() {
    let mut group = filled();
    group.tamper(2, "VACUUM");
    let scrubs = group.scrub();
    assert_eq!(scrubs.0.len(), 1, "nothing is narrowed down");
    assert!(scrubs.0[0].reports.values().all(|report| report.entry == 3));
    assert_eq!(words(&scrubs), []);
    for board in BOARDS {
        assert_eq!(scrubs.0[0].judge(board), Some(true));
    }
}

#[test]
fn a_row_changed_behind_the_agents_back_is_named_and_its_board_fenced() {
    for (sql, table, rows) in [
        ("UPDATE t SET a = 'x' WHERE rowid = 234", "t", "row 234"),
        ("UPDATE t SET rowid = 2000 WHERE rowid = 1000", "t", "rows 1000, 2000"),
        ("DELETE FROM t WHERE rowid > 990", "t", "rows 991 to 1000, 10 of them"),
        ("UPDATE w SET v = NULL WHERE n = 77", "w", "row ('needle-77', 77)"),
        ("UPDATE s SET x = 1.5000000000000002 WHERE x = 1.5", "s", "row 3"),
        ("UPDATE sqlite_sequence SET seq = 2", "sqlite_sequence", "row 1"),
        ("PRAGMA user_version = 7", SCHEMA, ""),
    ] {
        let mut group = filled();
        group.tamper(2, sql);
        let scrubs = group.scrub();
        assert_eq!(words(&scrubs), found(table, rows), "{sql}");
        assert_eq!(scrubs.differences()[0].sides, [vec![1, 2], vec![3]], "{sql}");
        assert_eq!(scrubs.fenced(&BOARDS).into_iter().collect::<Vec<_>>(), [3], "{sql}");
    }
}

#[test]
fn a_flipped_bit_in_a_row_or_in_an_index_is_found() {
    let mut group = filled();
    group.flip(1, |bytes| at(bytes, "needle-777"));
    let scrubs = group.scrub();
    assert!(scrubs.fenced(&BOARDS).contains(&2));
    let mut group = filled();
    // The tree of an index holds the same words: its rows are whole, its answers not.
    group.sql(&["DELETE FROM w"]);
    group.tamper(1, "VACUUM");
    group.flip(1, |bytes| {
        let first = at(bytes, "needle-777");
        first + 1 + at(&bytes[first + 1..], "needle-777")
    });
    let scrubs = group.scrub();
    let problems: Vec<_> =
        scrubs.differences().into_iter().flat_map(|found| found.problems).collect();
    assert!(problems.iter().any(|(board, why)| *board == 2 && why.contains("index t_b")));
}

#[test]
fn a_page_that_cannot_be_read_agrees_with_nobody() {
    let mut group = filled();
    group.flip(2, |bytes| at(bytes, "needle-777") / 1024 * 1024);
    let scrubs = group.scrub();
    let Finding::Unreadable(why) = &scrubs.0[0].reports[&3].finding else {
        panic!("{:?}", scrubs.0[0].reports[&3].finding)
    };
    let words = ["malformed", "error code 11"];
    assert!(words.iter().any(|words| why.contains(words)), "{why}");
    assert_eq!(scrubs.0[0].judge(3), Some(false));
}

#[test]
fn a_board_whose_rows_are_right_again_is_free_after_the_next_scrub() {
    let mut group = filled();
    group.tamper(2, "UPDATE t SET a = 'x' WHERE rowid = 5");
    assert!(group.scrub().fenced(&BOARDS).contains(&3));
    group.tamper(2, "UPDATE t SET a = 5 WHERE rowid = 5");
    assert!(group.scrub().fenced(&BOARDS).is_empty());
}

#[test]
fn without_a_majority_nobody_is_fenced_until_somebody_decides() {
    let mut group = filled();
    group.tamper(1, "UPDATE t SET a = 'x' WHERE rowid = 5");
    group.tamper(2, "UPDATE t SET a = 'y' WHERE rowid = 7");
    let scrubs = group.scrub();
    assert!(scrubs.fenced(&BOARDS).is_empty());
    assert_eq!(words(&scrubs), found("t", "rows 5, 7"));
    assert_eq!(scrubs.differences()[0].sides.len(), 3);
    let decision = scrubs.decide(2, "b").unwrap();
    group.write(decision);
    let decided = group.database(1).scrubs().clone();
    assert_eq!(decided.fenced(&BOARDS).into_iter().collect::<Vec<_>>(), [1, 3]);
    // The next comparison decides nothing either: the decision stands.
    assert_eq!(group.scrub().fenced(&BOARDS).len(), 2);
}

#[test]
fn what_cannot_be_decided_is_refused_with_the_reason() {
    let mut group = filled();
    let nothing = group.scrub().decide(2, "b").unwrap_err();
    assert!(nothing.contains("nothing to decide"), "{nothing}");
    group.tamper(2, "UPDATE t SET a = 'x' WHERE rowid = 5");
    let majority = group.scrub().decide(2, "b").unwrap_err();
    assert!(majority.contains("majority"), "{majority}");
}

#[test]
fn old_scrubs_go_and_what_fences_a_board_stays() {
    let mut group = filled();
    group.tamper(2, "UPDATE t SET a = 'x' WHERE rowid = 5");
    let first = group.scrub().0[0].id;
    // The second board is silent now: a minority agrees, which decides nothing.
    for _ in 0..5 {
        let request = group.database(0).scrubs().ask(&BOARDS, None);
        group.write(request);
        for board in [0, 2] {
            let scrubbing = group.database(board).take_scrubbing().unwrap();
            let (id, made) = (scrubbing.id(), scrubbing.run());
            group.write(report(id, BOARDS[board], &made));
        }
        let scrubs = group.database(0).scrubs();
        assert!(scrubs.fenced(&BOARDS).contains(&3));
        assert_eq!(scrubs.0[0].id, first);
        assert!(scrubs.0.len() <= 2 + 6, "{}", scrubs.0.len());
    }
}

#[test]
fn a_digest_is_as_of_its_entry_however_late_it_is_made() {
    let mut group = filled();
    let request = group.database(0).scrubs().ask(&BOARDS, None);
    group.write(request);
    let prompt = group.database(0).take_scrubbing().unwrap().run();
    let late = group.database(1).take_scrubbing().unwrap();
    for value in 0..20 {
        group.sql(&[&format!("UPDATE t SET a = {value} WHERE rowid < 50")]);
    }
    group.database(1).checkpoint().unwrap();
    assert_eq!(late.run(), prompt);
}

#[test]
fn a_digest_that_keeps_the_wal_from_beginning_anew_is_ended_and_says_so() {
    let mut group = filled();
    let request = group.database(0).scrubs().ask(&BOARDS, None);
    group.write(request);
    let late = group.database(1).take_scrubbing().unwrap();
    for _ in 0..8 {
        group.sql(&["UPDATE t SET a = randomblob(50) WHERE rowid < 500"]);
        let now = crate::driver::clock::now();
        group.database(1).keep_house(now).unwrap();
    }
    let Finding::Unfinished(why) = late.run().finding else { panic!("it came to an end") };
    assert!(why.contains("WAL"), "{why}");
}

#[test]
fn what_was_written_before_a_scrub_does_not_count_against_it() {
    let mut group = filled();
    for _ in 0..8 {
        group.sql(&["UPDATE t SET a = randomblob(50) WHERE rowid < 500"]);
    }
    let request = group.database(0).scrubs().ask(&BOARDS, None);
    group.write(request);
    let late = group.database(1).take_scrubbing().unwrap();
    group.database(1).keep_house(crate::driver::clock::now()).unwrap();
    assert!(matches!(late.run().finding, Finding::Digest(_)));
}

#[test]
fn a_board_that_is_behind_digests_everything_before_parts() {
    let mut group = filled();
    let request = group.database(0).scrubs().ask(&BOARDS, None);
    group.write(request);
    let part = Part { table: "t".into(), every: 9, ..Part::default() };
    let request = group.database(0).scrubs().ask(&BOARDS, Some(part));
    group.write(request);
    let findings: Vec<_> = std::iter::from_fn(|| group.database(2).take_scrubbing())
        .map(|scrubbing| scrubbing.run().finding)
        .collect();
    assert!(matches!(findings[..], [Finding::Digest(_), Finding::Unfinished(_)]), "{findings:?}");
}
