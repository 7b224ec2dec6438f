//! Leader and followers side by side: every statement, executed on one, applied
//! on three, must leave the same rows and the same pages.

use std::cell::RefCell;

use understudy_core::{
    event::{Entry, EntryKind, Outcome},
    fence::Fence,
    sql::{
        self, Origin, Parameters, RequestKind, SqlRequest, SqlResponse, Statement, StatementOutcome,
    },
};

use super::*;

/// Three boards' databases; the first executes.
pub(super) struct Boards {
    pub(super) databases: Vec<Database>,
    next: RefCell<u64>,
    directories: Vec<tempfile::TempDir>,
}

pub(super) fn request(kind: RequestKind, transaction: bool, statements: &[&str]) -> Vec<u8> {
    let statements = statements.iter().map(|sql| Statement::new(*sql, Vec::new())).collect();
    sql::encode(&SqlRequest { transaction, ..SqlRequest::new(kind, Origin::User, statements) })
}

impl Boards {
    pub(super) fn new() -> Self {
        let directories: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
        let open = |directory: &tempfile::TempDir| {
            Database::open(directory.path(), Options::default()).unwrap()
        };
        let databases = directories.iter().map(open).collect();
        Self { databases, next: RefCell::new(1), directories }
    }

    pub(super) fn entry(&self, data: Vec<u8>) -> Entry {
        let index = *self.next.borrow();
        *self.next.borrow_mut() += 1;
        Entry { index, term: 1, kind: EntryKind::Change, data }
    }

    /// Executes on the first, applies on all, compares all.
    pub(super) fn requests(&mut self, requests: &[Vec<u8>]) -> Vec<SqlResponse> {
        if self.databases[0].applied().index == 0 {
            let first = self.entry(Vec::new());
            self.apply(&first);
        }
        let base = self.databases[0].applied();
        let executed = self.databases[0].execute(base, requests).unwrap();
        let entry = self.entry(executed.change);
        self.apply(&entry);
        self.compare();
        let decode = |answer: Result<Vec<u8>, _>| sql::decode(&answer.unwrap()).unwrap();
        executed.answers.into_iter().map(decode).collect()
    }

    pub(super) fn apply(&mut self, entry: &Entry) {
        for database in &mut self.databases {
            let outcomes = database.apply(std::slice::from_ref(entry)).unwrap();
            assert_eq!(outcomes, [Outcome::Changed]);
        }
        // One board commits at other points than the others.
        if entry.index.is_multiple_of(3) {
            self.databases[1].checkpoint().unwrap();
        }
    }

    pub(super) fn compare(&mut self) {
        let rows: Vec<_> =
            self.databases.iter_mut().map(|db| db.content_digest().unwrap()).collect();
        assert!(rows.windows(2).all(|pair| pair[0] == pair[1]), "rows differ: {rows:?}");
        let pages: Vec<_> = self.databases.iter_mut().map(|db| db.page_digest().unwrap()).collect();
        assert!(pages.windows(2).all(|pair| pair[0] == pair[1]), "pages differ: {pages:?}");
    }

    /// One request of one statement; its outcome.
    fn run(&mut self, sql: &str) -> StatementOutcome {
        let answers = self.requests(&[request(RequestKind::Mixed, false, &[sql])]);
        let response = answers.into_iter().next().unwrap();
        assert_eq!(response.error, None, "{sql}");
        response.results.into_iter().next_back().unwrap().outcome
    }

    pub(super) fn fine(&mut self, sql: &str) {
        let outcome = self.run(sql);
        assert!(!matches!(outcome, StatementOutcome::Error(_)), "{sql}: {outcome:?}");
    }

    /// As the agent does it: internal tables too.
    pub(super) fn agents(&mut self, sql: &str) {
        let request = SqlRequest::one(RequestKind::Execute, Origin::Agent, sql, Vec::new());
        let answers = self.requests(&[sql::encode(&request)]);
        assert_eq!(answers[0].failure(), None, "{sql}");
    }

    fn refused(&mut self, sql: &str, words: &str) {
        match self.run(sql) {
            StatementOutcome::Error(reason) => assert!(reason.contains(words), "{sql}: {reason}"),
            outcome @ (StatementOutcome::Rows { .. } | StatementOutcome::Changed { .. }) => {
                panic!("{sql} was not refused: {outcome:?}")
            }
        }
    }

    fn query(&mut self, board: usize, sql: &str) -> Vec<Vec<Value>> {
        let request = request(RequestKind::Query, false, &[sql]);
        let answer = match self.databases[board].query(&request).unwrap() {
            QueryOutcome::Answered(answer) => answer,
            QueryOutcome::NeedsReader => {
                self.databases[board].commit().unwrap();
                self.databases[board].reader().unwrap().query(&request)
            }
        };
        let response: SqlResponse = sql::decode(&answer).unwrap();
        match response.results.into_iter().next().unwrap().outcome {
            StatementOutcome::Rows { rows, .. } => rows,
            outcome @ (StatementOutcome::Error(_) | StatementOutcome::Changed { .. }) => {
                panic!("{sql}: {outcome:?}")
            }
        }
    }

    pub(super) fn one(&mut self, sql: &str) -> Value {
        self.query(2, sql).remove(0).remove(0)
    }
}

#[test]
fn rows_of_every_kind_of_table_arrive() {
    let mut boards = Boards::new();
    for sql in [
        "CREATE TABLE plain(a, b TEXT, c REAL)",
        "INSERT INTO plain VALUES (1, 'x', 2.5), (NULL, NULL, NULL), (x'00ff', 'a' || char(0) || 'b', 9e999)",
        "INSERT INTO plain VALUES (random(), CURRENT_TIMESTAMP, -0.0)",
        "UPDATE plain SET b = b || '!' WHERE rowid = 1",
        "DELETE FROM plain WHERE rowid = 2",
        "CREATE TABLE keyed(id INTEGER PRIMARY KEY, name TEXT UNIQUE, n INT DEFAULT (random()))",
        "INSERT INTO keyed(name) VALUES ('a'), ('b'), ('c')",
        "INSERT INTO keyed(id, name) VALUES (2, 'z') ON CONFLICT(id) DO UPDATE SET name = 'bb'",
        "REPLACE INTO keyed(id, name) VALUES (9, 'a')",
        "UPDATE keyed SET id = id + 100",
        "CREATE TABLE r(sensor INTEGER, time INTEGER, value, PRIMARY KEY(sensor, time)) WITHOUT ROWID",
        "INSERT INTO r VALUES (1, 10, 1.5), (1, 11, 'text'), (2, 10, NULL)",
        "UPDATE r SET time = time + 5 WHERE sensor = 1",
        "DELETE FROM r WHERE sensor = 2",
        "CREATE TABLE nocase(k TEXT PRIMARY KEY COLLATE NOCASE, v) WITHOUT ROWID",
        "INSERT INTO nocase VALUES ('a', 1), ('b', 2)",
        "UPDATE nocase SET k = 'A', v = 3 WHERE k = 'a'",
        "CREATE TABLE strict_one(a INT, b TEXT) STRICT",
        "INSERT INTO strict_one VALUES (1, 'x')",
        "CREATE TABLE g(a INT, b INT GENERATED ALWAYS AS (a * 2) STORED, c INT AS (a + 1))",
        "INSERT INTO g(a) VALUES (4)",
        "UPDATE g SET a = 5",
        "CREATE TABLE null_key(a TEXT PRIMARY KEY, b)",
        "INSERT INTO null_key VALUES (NULL, 1), (NULL, 2)",
    ] {
        boards.fine(sql);
    }
    assert_eq!(boards.one("SELECT c FROM g"), Value::Integer(6));
    assert_eq!(boards.one("SELECT count(*) FROM null_key"), Value::Integer(2));
}

#[test]
fn values_may_swap_under_a_unique_index() {
    let mut boards = Boards::new();
    boards.fine("CREATE TABLE t(id INTEGER PRIMARY KEY, place INT UNIQUE)");
    boards.fine("INSERT INTO t VALUES (1, 1), (2, 2), (3, 3)");
    boards.fine("UPDATE t SET place = -place");
    boards.fine("UPDATE t SET place = CASE place WHEN -1 THEN 2 WHEN -2 THEN 1 ELSE 3 END");
    assert_eq!(boards.one("SELECT place FROM t WHERE id = 1"), Value::Integer(2));
}

#[test]
fn a_table_emptied_at_once_is_empty_everywhere() {
    let mut boards = Boards::new();
    boards.fine("CREATE TABLE t(a)");
    boards.fine("INSERT INTO t VALUES (1), (2), (3)");
    boards.fine("DELETE FROM t");
    assert_eq!(boards.one("SELECT count(*) FROM t"), Value::Integer(0));
}

#[test]
fn ids_of_autoincrement_tables_are_never_given_twice() {
    let mut boards = Boards::new();
    boards.fine("CREATE TABLE t(id INTEGER PRIMARY KEY AUTOINCREMENT, a)");
    boards.fine("INSERT INTO t(a) VALUES (1), (2)");
    boards.fine("DELETE FROM t");
    boards.databases.rotate_left(1);
    boards.fine("INSERT INTO t(a) VALUES (3)");
    assert_eq!(boards.one("SELECT id FROM t"), Value::Integer(3));
}

#[test]
fn triggers_fire_once_and_foreign_keys_act_once() {
    let mut boards = Boards::new();
    for sql in [
        "CREATE TABLE t(a)",
        "CREATE TABLE log(n INTEGER PRIMARY KEY, what, at DEFAULT (random()))",
        "CREATE TRIGGER on_t AFTER INSERT ON t BEGIN INSERT INTO log(what) VALUES (new.a); END",
        "INSERT INTO t VALUES (1), (2)",
        "CREATE TABLE parent(id INTEGER PRIMARY KEY)",
        "CREATE TABLE child(id INTEGER PRIMARY KEY, p REFERENCES parent ON DELETE CASCADE)",
        "INSERT INTO parent VALUES (1), (2)",
        "INSERT INTO child VALUES (10, 1), (11, 2)",
    ] {
        boards.fine(sql);
    }
    assert_eq!(boards.one("SELECT count(*) FROM log"), Value::Integer(2));
    let both = ["PRAGMA foreign_keys = ON", "DELETE FROM parent WHERE id = 1"];
    boards.requests(&[request(RequestKind::Mixed, true, &both)]);
    assert_eq!(boards.one("SELECT count(*) FROM child"), Value::Integer(1));
    boards.fine("INSERT INTO child VALUES (12, 99)");
}

#[test]
fn a_deferred_constraint_undoes_its_request_alone() {
    let mut boards = Boards::new();
    boards.fine("CREATE TABLE parent(id INTEGER PRIMARY KEY)");
    boards.fine("CREATE TABLE child(p REFERENCES parent DEFERRABLE INITIALLY DEFERRED, n INT)");
    let bad = ["PRAGMA foreign_keys = ON", "INSERT INTO child VALUES (7, 1)"];
    let answers = boards.requests(&[
        request(RequestKind::Execute, true, &bad),
        request(RequestKind::Execute, false, &["INSERT INTO parent VALUES (1)"]),
        request(RequestKind::Execute, false, &bad),
    ]);
    assert_eq!(answers[0].error.as_deref(), Some("FOREIGN KEY constraint failed"));
    assert_eq!(answers[1].error, None);
    let words = String::from("FOREIGN KEY constraint failed");
    assert_eq!(answers[2].results[1].outcome, StatementOutcome::Error(words));
    assert_eq!(boards.one("SELECT count(*) FROM child"), Value::Integer(0));
    assert_eq!(boards.one("SELECT count(*) FROM parent"), Value::Integer(1));
}

#[test]
fn schema_and_rows_mix_in_one_request() {
    let mut boards = Boards::new();
    let mixed = [
        "CREATE TABLE a(x)",
        "INSERT INTO a VALUES (1), (2)",
        "ALTER TABLE a ADD COLUMN y DEFAULT 7",
        "INSERT INTO a VALUES (3, 4)",
        "CREATE TABLE b AS SELECT x, random() AS r FROM a",
        "CREATE INDEX b_r ON b(r, abs(x)) WHERE x > 1",
        "ALTER TABLE a RENAME TO aa",
        "ALTER TABLE aa RENAME COLUMN x TO xx",
        "ALTER TABLE aa DROP COLUMN y",
        "CREATE VIEW v AS SELECT * FROM aa",
        "INSERT INTO b SELECT xx, xx FROM v",
        "ANALYZE",
        "REINDEX",
        "PRAGMA user_version = 5",
    ];
    let answers = boards.requests(&[request(RequestKind::Mixed, true, &mixed)]);
    let errors: Vec<_> = answers[0]
        .results
        .iter()
        .filter(|result| matches!(result.outcome, StatementOutcome::Error(_)))
        .collect();
    assert!(errors.is_empty(), "{errors:?}");
    assert_eq!(boards.one("SELECT count(*) FROM b"), Value::Integer(6));
    assert_eq!(boards.one("PRAGMA user_version"), Value::Integer(5));
    boards.fine("DROP TABLE b");
    boards.fine("DROP VIEW v");
}

#[test]
fn a_full_text_index_answers_on_every_board() {
    let mut boards = Boards::new();
    boards.fine("CREATE VIRTUAL TABLE notes USING fts5(body)");
    boards.fine("INSERT INTO notes VALUES ('the pump runs'), ('the fan stands')");
    assert_eq!(boards.query(2, "SELECT rowid FROM notes WHERE notes MATCH 'pump'").len(), 1);
    boards.fine("UPDATE notes SET body = 'the pump stands' WHERE rowid = 1");
    boards.fine("DELETE FROM notes WHERE rowid = 2");
    assert_eq!(boards.query(2, "SELECT rowid FROM notes WHERE notes MATCH 'stands'").len(), 1);
    boards.fine("INSERT INTO notes(notes) VALUES ('integrity-check')");
    boards.databases.rotate_left(1);
    boards.databases[0].role_changed().unwrap();
    boards.fine("INSERT INTO notes VALUES ('the lamp burns')");
    boards.fine("INSERT INTO notes(notes) VALUES ('integrity-check')");
    assert_eq!(boards.query(2, "SELECT rowid FROM notes WHERE notes MATCH 'the'").len(), 2);
    boards.fine("DROP TABLE notes");
}

#[test]
fn a_transaction_is_all_or_nothing_and_other_requests_go_on() {
    let mut boards = Boards::new();
    boards.fine("CREATE TABLE t(a INTEGER PRIMARY KEY)");
    let bad = ["INSERT INTO t VALUES (1)", "INSERT INTO t VALUES (1)", "INSERT INTO t VALUES (2)"];
    let answers = boards.requests(&[
        request(RequestKind::Execute, true, &bad),
        request(RequestKind::Execute, false, &bad),
        request(RequestKind::Execute, false, &["INSERT INTO t VALUES (3)"]),
    ]);
    assert_eq!(answers[0].results.len(), 2);
    assert_eq!(answers[1].results.len(), 3);
    assert_eq!(boards.one("SELECT group_concat(a) FROM t"), Value::Text(b"1,2,3".to_vec()));
}

#[test]
fn a_request_that_ends_the_transaction_is_named_and_the_file_says_where_it_stands() {
    let mut boards = Boards::new();
    boards.fine("CREATE TABLE t(a INTEGER PRIMARY KEY)");
    boards.databases[0].commit().unwrap();
    let committed = boards.databases[0].applied();
    boards.fine("INSERT INTO t VALUES (1)");
    let base = boards.databases[0].applied();
    let requests = [
        request(RequestKind::Execute, false, &["INSERT INTO t VALUES (5)"]),
        request(RequestKind::Execute, false, &["INSERT OR ROLLBACK INTO t VALUES (1)"]),
    ];
    let Err(Failure::Reset { applied, ended_by: Some((1, answer)) }) =
        boards.databases[0].execute(base, &requests)
    else {
        panic!("the transaction is lost");
    };
    assert!(applied.index >= committed.index && applied < base);
    let answer: SqlResponse = sql::decode(&answer).unwrap();
    assert!(matches!(answer.results[0].outcome, StatementOutcome::Error(_)));
    assert_eq!(boards.databases[0].applied(), applied);
    let empty = Entry {
        data: Vec::new(),
        term: base.term,
        index: applied.index + 1,
        kind: EntryKind::Change,
    };
    assert_eq!(boards.databases[0].apply(&[empty]).unwrap(), [Outcome::Changed]);
}

#[test]
fn what_would_hold_on_one_board_only_is_refused_with_the_reason() {
    let mut boards = Boards::new();
    boards.fine("CREATE TABLE t(a)");
    for (sql, words) in [
        ("BEGIN", "?transaction"),
        ("COMMIT", "?transaction"),
        ("SAVEPOINT x", "?transaction"),
        ("ATTACH 'x' AS y", "one database"),
        ("CREATE TEMP TABLE x(a)", "TEMP"),
        ("PRAGMA secure_delete = OFF", "one board only"),
        ("PRAGMA writable_schema = ON", "one board only"),
        ("PRAGMA writable_schema = ON; SELECT 1", "one board only"),
        ("DELETE FROM sqlite_schema", "may not be modified"),
        ("DELETE FROM _understudy_setting", "belongs to understudy"),
        ("CREATE TABLE _understudy_x(a)", "kept for understudy"),
        ("DROP TABLE _understudy_member", "kept for understudy"),
        ("CREATE VIRTUAL TABLE x USING rtree(a, b, c)", "rtree"),
        ("SELECT data FROM sqlite_dbpage WHERE pgno = 1", "sqlite_dbpage"),
        ("INSERT INTO sqlite_dbpage(pgno, data) VALUES (5, NULL)", "sqlite_dbpage"),
        ("DELETE FROM sqlite_dbpage", "sqlite_dbpage"),
        ("SELECT zeroblob(9000000)", "too big"),
        ("CREATE TABLE x(rowid, _rowid_, oid)", "rowid"),
        ("SELECT nada", "no such column"),
    ] {
        boards.refused(sql, words);
    }
    boards.fine("INSERT INTO t VALUES (1)");
}

/// A statement that was compiled for us, or for another caller, is compiled again
/// for this one: permissions are decided while compiling.
#[test]
fn no_cached_statement_carries_its_permission_to_another_caller() {
    let mut boards = Boards::new();
    boards.fine("CREATE TABLE t(a)");
    boards.fine("INSERT INTO t VALUES (1)");
    boards.databases[0].commit().unwrap();
    for own in ["SAVEPOINT batch", "ROLLBACK TO batch", "RELEASE batch", "RELEASE request"] {
        boards.refused(own, "?transaction");
    }
    boards.refused("UPDATE _understudy_applied SET head = ?1 WHERE id = 1", "belongs to");
    let set = "INSERT OR REPLACE INTO _understudy_setting VALUES ('profile', 'wifi')";
    let mut agents: SqlRequest =
        sql::decode(&request(RequestKind::Execute, false, &[set])).unwrap();
    agents.origin = Origin::Agent;
    let done = boards.requests(&[sql::encode(&agents)]);
    assert!(matches!(done[0].results[0].outcome, StatementOutcome::Changed { .. }));
    boards.refused(set, "belongs to understudy");
}

#[test]
fn what_is_done_under_a_fence_counts_while_the_duty_has_that_token() {
    let mut boards = Boards::new();
    boards.fine("CREATE TABLE t(a)");
    boards.agents(
        "INSERT INTO _understudy_duty VALUES (1, 'pump', 7, 1, 1, 1, 0, '', 0, NULL, ''), \
         (2, 'a:b', 0, NULL, NULL, NULL, 0, '', 0, NULL, '')",
    );
    let under = |fence: &str| {
        let insert = SqlRequest::one(
            RequestKind::Execute,
            Origin::User,
            format!("INSERT INTO t VALUES ('{fence}')"),
            Vec::new(),
        );
        let fence = Some(Fence::parse(fence).unwrap());
        sql::encode(&SqlRequest { fence, ..insert })
    };
    let refused = |boards: &mut Boards, fence: &str| {
        boards.requests(&[under(fence)])[0].error.clone().unwrap_or_default()
    };
    assert_eq!(refused(&mut boards, "pump:7"), "");
    assert!(refused(&mut boards, "pump:6").contains("pump has token 7"));
    assert!(refused(&mut boards, "mill:7").contains("no duty mill"));
    assert!(refused(&mut boards, "a:b:0").contains("stale"), "nobody was ever granted it");
    // What is granted in the very same entry counts.
    let grant = "UPDATE _understudy_duty SET token = 9 WHERE id = 1";
    let grant = SqlRequest::one(RequestKind::Execute, Origin::Agent, grant, Vec::new());
    let answers = boards.requests(&[sql::encode(&grant), under("pump:7"), under("pump:9")]);
    assert!(answers[1].error.as_ref().is_some_and(|words| words.contains("token 9")));
    assert_eq!(answers[2].error, None);
    assert_eq!(boards.query(0, "SELECT count(*) FROM t"), [[Value::Integer(2)]]);
    assert!(Fence::parse("pump").is_err() && Fence::parse(":4").is_err());
}

/// The request that ended the transaction had turned foreign keys on: what is
/// applied after it must not cascade here alone.
#[test]
fn foreign_keys_are_off_again_after_a_lost_transaction() {
    let mut boards = Boards::new();
    boards.fine("CREATE TABLE parent(id INTEGER PRIMARY KEY)");
    boards.fine("CREATE TABLE child(parent REFERENCES parent ON DELETE CASCADE)");
    boards.fine("INSERT INTO parent VALUES (1)");
    boards.fine("INSERT INTO child VALUES (1)");
    for database in &mut boards.databases {
        database.commit().unwrap();
    }
    let base = boards.databases[0].applied();
    let bad = ["PRAGMA foreign_keys = ON", "INSERT OR ROLLBACK INTO parent VALUES (1)"];
    let lost = boards.databases[0].execute(base, &[request(RequestKind::Execute, true, &bad)]);
    assert!(matches!(lost, Err(Failure::Reset { ended_by: Some((0, _)), .. })));
    let delete = request(RequestKind::Execute, false, &["DELETE FROM parent"]);
    let change = boards.databases[1].execute(base, &[delete]).unwrap().change;
    let entry = boards.entry(change);
    boards.apply(&entry);
    boards.compare();
    assert_eq!(boards.one("SELECT count(*) FROM child"), Value::Integer(1));
}

#[test]
fn a_request_of_too_many_rows_is_refused_and_the_next_one_runs() {
    let mut boards = Boards::new();
    boards.fine("CREATE TABLE t(a)");
    let rows = understudy_core::limits::REQUEST_ROWS_MAX + 1;
    let count = format!("WITH c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c LIMIT {rows})");
    let base = boards.databases[0].applied();
    boards.databases[0].commit().unwrap();
    for sql in [
        format!("INSERT INTO t {count} SELECT x FROM c"),
        format!("CREATE TABLE u AS {count} SELECT x, randomblob(90) FROM c"),
    ] {
        let large = request(RequestKind::Execute, false, &[&sql]);
        let answer = match boards.databases[0].execute(base, &[large]) {
            Err(Failure::Reset { ended_by: Some((0, answer)), .. }) => Ok(answer),
            executed => executed.unwrap().answers.remove(0),
        };
        let words = decoded(answer);
        assert!(words.contains("8388608"), "{words}");
    }
    boards.fine("INSERT INTO t VALUES (1)");
    assert_eq!(boards.one("SELECT count(*) FROM t"), Value::Integer(1));
}

fn decoded(answer: Result<Vec<u8>, understudy_core::error::Refusal>) -> String {
    match answer {
        Ok(answer) => format!("{:?}", sql::decode::<SqlResponse>(&answer).unwrap()),
        Err(refusal) => refusal.to_string(),
    }
}

/// Else SQLite would read the whole schema anew after every batch.
#[test]
fn a_changed_schema_is_committed_at_once() {
    let mut boards = Boards::new();
    boards.fine("CREATE TABLE t(a)");
    let database = &mut boards.databases[0];
    database.keep_house(crate::driver::clock::now()).unwrap();
    assert_eq!(database.committed, database.applied());
    boards.fine("INSERT INTO t VALUES (1)");
    let database = &mut boards.databases[0];
    database.keep_house(crate::driver::clock::now()).unwrap();
    assert!(database.committed < database.applied());
}

/// What a read on one board comes to, wherever it is read.
fn read(boards: &mut Boards, statements: &[&str]) -> SqlResponse {
    let request = request(RequestKind::Query, false, statements);
    match boards.databases[0].query(&request).unwrap() {
        QueryOutcome::Answered(answer) => sql::decode(&answer).unwrap(),
        QueryOutcome::NeedsReader => panic!("{statements:?} is short"),
    }
}

#[test]
fn a_disallowed_pragma_undoes_the_whole_request() {
    let mut boards = Boards::new();
    boards.fine("CREATE TABLE t(a)");
    for pragma in ["PRAGMA journal_mode = DELETE", "PRAGMA synchronous = OFF"] {
        let all = ["INSERT INTO t VALUES (1)", pragma, "INSERT INTO t VALUES (2)"];
        let fine = request(RequestKind::Execute, false, &["INSERT INTO t VALUES (3)"]);
        let answers = boards.requests(&[request(RequestKind::Execute, false, &all), fine]);
        let words = answers[0].error.as_deref().unwrap();
        assert!(words.starts_with("disallowed pragma: statement 2: "), "{words}");
        assert_eq!(answers[0].results, []);
        assert_eq!(answers[1].error, None);
        let answer = read(&mut boards, &["SELECT 1", pragma]);
        let words = answer.error.as_deref().unwrap();
        assert!(words.starts_with("disallowed pragma: statement 2: "), "{words}");
        assert_eq!(answer.results, []);
    }
    assert_eq!(boards.one("SELECT sum(a) FROM t"), Value::Integer(6));
}

#[test]
fn a_pragma_that_tells_something_is_a_read_however_often_it_is_asked() {
    let mut boards = Boards::new();
    for _ in 0..2 {
        let mode = boards.query(0, "PRAGMA journal_mode");
        assert_eq!(mode, [[Value::Text(b"wal".to_vec())]]);
    }
}

#[test]
fn foreign_keys_are_on_for_the_request_that_asks_and_for_no_other() {
    let mut boards = Boards::new();
    boards.fine("CREATE TABLE parent(id INTEGER PRIMARY KEY)");
    boards.fine("CREATE TABLE child(p REFERENCES parent)");
    for _ in 0..2 {
        let asks = ["PRAGMA foreign_keys = ON", "INSERT INTO child VALUES (9)"];
        let answers = boards.requests(&[request(RequestKind::Execute, false, &asks)]);
        assert!(matches!(answers[0].results[1].outcome, StatementOutcome::Error(_)));
        boards.databases[0].commit().unwrap();
        let answer = read(&mut boards, &["PRAGMA foreign_keys = ON"]);
        assert!(matches!(answer.results[0].outcome, StatementOutcome::Error(_)), "{answer:?}");
        boards.fine("INSERT INTO child VALUES (9)");
    }
}

#[test]
fn what_was_compiled_for_the_agent_is_not_run_for_a_caller() {
    let mut boards = Boards::new();
    boards.fine("CREATE TABLE t(a)");
    boards.refused("RELEASE request", "?transaction");
    boards.refused("ROLLBACK TO batch", "?transaction");
    boards.databases[0].commit().unwrap();
    boards.refused("UPDATE _understudy_applied SET head = ?1 WHERE id = 1", "belongs to");
    let set = "INSERT INTO _understudy_setting VALUES ('a', 'b')";
    let mut agents: SqlRequest = sql::decode(&request(RequestKind::Mixed, false, &[set])).unwrap();
    agents.origin = Origin::Agent;
    let answers = boards.requests(&[sql::encode(&agents)]);
    assert!(matches!(answers[0].results[0].outcome, StatementOutcome::Changed { .. }));
    boards.refused(set, "belongs to");
    boards.refused(
        "INSERT OR ABORT INTO main.\"_understudy_setting\" (\"name\", \"value\") VALUES (?1, ?2)",
        "belongs to",
    );
}

#[test]
fn a_read_out_of_time_keeps_what_came_before_it() {
    let mut boards = Boards::new();
    let endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) \
                   SELECT count(*) FROM n";
    let all = request(RequestKind::Query, false, &["SELECT 1", endless, "SELECT 2"]);
    let mut limited: SqlRequest = sql::decode(&all).unwrap();
    limited.statement_timeout_ms = Some(20);
    let limited = sql::encode(&limited);
    assert_eq!(boards.databases[0].query(&limited).unwrap(), QueryOutcome::NeedsReader);
    boards.databases[0].commit().unwrap();
    let answer = boards.databases[0].reader().unwrap().query(&limited);
    let answer: SqlResponse = sql::decode(&answer).unwrap();
    assert_eq!((answer.error, answer.results.len()), (None, 3));
    let outcome = |place: usize| &answer.results[place].outcome;
    assert!(matches!(outcome(0), StatementOutcome::Rows { .. }));
    assert_eq!(*outcome(1), StatementOutcome::Error("query timeout".into()));
    assert!(matches!(outcome(2), StatementOutcome::Rows { .. }));
    assert!(answer.results[1].time_ns > 0);
}

#[test]
fn of_several_statements_in_one_read_the_last_counts() {
    let mut boards = Boards::new();
    let rows = boards.query(0, "SELECT 1; SELECT 'a;b'; -- the end\n SELECT 3; /* ; */");
    assert_eq!(rows, [[Value::Integer(3)]]);
    let answer = read(&mut boards, &["SELECT nada; SELECT 2", " ; ", "SELECT 3"]);
    assert_eq!(answer.results.len(), 2);
    assert!(matches!(answer.results[0].outcome, StatementOutcome::Error(_)));
}

#[test]
fn values_by_place_go_to_one_statement_after_the_other() {
    let mut boards = Boards::new();
    boards.fine("CREATE TABLE t(a)");
    let text = "INSERT INTO t VALUES (?); INSERT INTO t VALUES (?); INSERT INTO t VALUES (?)";
    let mut two: SqlRequest = sql::decode(&request(RequestKind::Execute, false, &[text])).unwrap();
    two.statements[0].parameters =
        Parameters::Positional(vec![Value::Integer(1), Value::Integer(2)]);
    let answers = boards.requests(&[sql::encode(&two)]);
    let expected = "not enough args to execute query: want 1 got 0";
    assert_eq!(answers[0].results[0].outcome, StatementOutcome::Error(expected.into()));
    assert_eq!(boards.one("SELECT group_concat(a) FROM t"), Value::Text(b"1,2".to_vec()));
}

#[test]
fn a_named_value_that_is_missing_is_named() {
    let mut boards = Boards::new();
    let mut named: SqlRequest =
        sql::decode(&request(RequestKind::Query, false, &["SELECT :id, @name, $id"])).unwrap();
    named.statements[0].parameters = Parameters::Named(vec![("id".into(), Value::Integer(1))]);
    let QueryOutcome::Answered(answer) = boards.databases[0].query(&sql::encode(&named)).unwrap()
    else {
        panic!("it is short");
    };
    let answer: SqlResponse = sql::decode(&answer).unwrap();
    let expected = "not enough args to execute query: want 3 got 2: no value for @name";
    assert_eq!(answer.results[0].outcome, StatementOutcome::Error(expected.into()));
}

#[test]
fn a_batch_made_on_another_base_is_skipped_on_every_board() {
    let mut boards = Boards::new();
    boards.fine("CREATE TABLE t(a)");
    let base = boards.databases[0].applied();
    let late = boards.databases[0]
        .execute(base, &[request(RequestKind::Execute, false, &["INSERT INTO t VALUES (1)"])])
        .unwrap();
    boards.fine("INSERT INTO t VALUES (2)");
    let entry = boards.entry(late.change);
    for database in &mut boards.databases {
        assert_eq!(database.apply(std::slice::from_ref(&entry)).unwrap(), [Outcome::Skipped]);
    }
    boards.compare();
    assert_eq!(boards.one("SELECT count(*) FROM t"), Value::Integer(1));
}

#[test]
fn a_reopened_database_stands_where_it_was_last_committed() {
    let mut boards = Boards::new();
    boards.fine("CREATE TABLE t(a)");
    boards.databases[0].commit().unwrap();
    let committed = boards.databases[0].applied();
    let chain = boards.databases[0].chain();
    boards.databases.remove(0);
    let again = Database::open(boards.directories[0].path(), Options::default()).unwrap();
    assert_eq!((again.applied(), again.chain()), (committed, chain));
    assert_eq!(again.durable(), committed);
}

#[test]
fn a_reader_that_holds_the_wal_back_keeps_the_durable_index_back() {
    let mut boards = Boards::new();
    boards.fine("CREATE TABLE t(a)");
    boards.databases[0].checkpoint().unwrap();
    let before = boards.databases[0].durable();
    let other = Connection::open(boards.directories[0].path().join("state.db")).unwrap();
    other.execute_batch("BEGIN; SELECT * FROM t;").unwrap();
    boards.fine("INSERT INTO t VALUES (1)");
    boards.databases[0].checkpoint().unwrap();
    assert_eq!(boards.databases[0].durable(), before);
    other.execute_batch("COMMIT").unwrap();
    boards.databases[0].checkpoint().unwrap();
    assert_eq!(boards.databases[0].durable(), boards.databases[0].applied());
}

#[test]
fn what_readers_need_beside_the_file_stays_when_it_is_closed() {
    let directory = tempfile::tempdir().unwrap();
    drop(Database::open(directory.path(), Options::default()).unwrap());
    for file in ["state.db", "state.db-wal", "state.db-shm"] {
        assert!(directory.path().join(file).exists(), "{file}");
    }
}

#[test]
fn a_wal_that_is_held_at_its_bound_is_said_to_be_and_goes_on_by_itself() {
    let directory = tempfile::tempdir().unwrap();
    let options = Options { wal_bytes_max: 1 << 20, ..Options::default() };
    let mut database = Database::open(directory.path(), options).unwrap();
    let entry = |index, data| Entry { index, term: 1, kind: EntryKind::Change, data };
    database.apply(&[entry(1, Vec::new())]).unwrap();
    let grow = |database: &mut Database| {
        let base = database.applied();
        let sql = ["CREATE TABLE IF NOT EXISTS t(a)", "INSERT INTO t VALUES (randomblob(300000))"];
        let executed = database.execute(base, &[request(RequestKind::Execute, false, &sql)]);
        database.apply(&[entry(base.index + 1, executed.unwrap().change)]).unwrap();
        database.checkpoint().unwrap();
    };
    grow(&mut database);
    let other = Connection::open(directory.path().join("state.db")).unwrap();
    other.execute_batch("BEGIN; SELECT * FROM t;").unwrap();
    grow(&mut database);
    assert!(!database.is_held(), "there is room yet");
    for _ in 0..4 {
        grow(&mut database);
    }
    assert!(database.is_held());
    let later = crate::driver::clock::now().plus(2 * house::HELD_RETRY_MS);
    assert!(database.deadline().is_some_and(|at| at < later));
    database.keep_house(later).unwrap();
    assert!(database.is_held(), "it is read still");
    other.execute_batch("COMMIT").unwrap();
    database.keep_house(later).unwrap();
    assert!(!database.is_held());
    assert_eq!(database.durable(), database.applied());
}

#[test]
fn reads_write_nothing_and_long_ones_go_to_a_reader() {
    let mut boards = Boards::new();
    boards.fine("CREATE TABLE t(a)");
    let write = request(RequestKind::Query, false, &["INSERT INTO t VALUES (1)"]);
    let QueryOutcome::Answered(answer) = boards.databases[0].query(&write).unwrap() else {
        panic!("refused at once");
    };
    let answer: SqlResponse = sql::decode(&answer).unwrap();
    assert!(matches!(&answer.results[0].outcome, StatementOutcome::Error(reason)
        if reason == "attempt to change database via query operation"));
    let long = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200000) \
                SELECT count(*) FROM n";
    let long = request(RequestKind::Query, false, &[long]);
    assert_eq!(boards.databases[0].query(&long).unwrap(), QueryOutcome::NeedsReader);
    boards.databases[0].commit().unwrap();
    let answer = boards.databases[0].reader().unwrap().query(&long);
    let answer: SqlResponse = sql::decode(&answer).unwrap();
    assert!(matches!(&answer.results[0].outcome, StatementOutcome::Rows { rows, .. }
        if rows[0][0] == Value::Integer(200_000)));
}

#[test]
fn several_statements_in_one_text_all_run() {
    let mut boards = Boards::new();
    let text = "CREATE TABLE t(a); INSERT INTO t VALUES ('x;y'); SELECT count(*) FROM t;";
    let outcome = boards.run(text);
    assert!(matches!(outcome, StatementOutcome::Rows { rows, .. }
        if rows[0][0] == Value::Integer(1)));
}

#[test]
fn large_requests_that_share_a_batch_get_an_entry_each() {
    let mut boards = Boards::new();
    boards.fine("CREATE TABLE t(a)");
    let large = |mega| {
        let sql = format!("INSERT INTO t VALUES (randomblob({mega} << 20))");
        request(RequestKind::Execute, false, &[&sql])
    };
    let small = request(RequestKind::Execute, false, &["INSERT INTO t VALUES (1)"]);
    let base = boards.databases[0].applied();
    let batch = [small.clone(), large(5), large(5), small];
    let executed = boards.databases[0].execute(base, &batch).unwrap();
    assert_eq!(executed.answers.len(), 2, "the third does not fit, and nothing overtakes it");
    let entry = boards.entry(executed.change);
    boards.apply(&entry);
    assert_eq!(boards.requests(&batch[2..]).len(), 2);
    let rows = boards.query(0, "SELECT count(*) FROM t");
    assert_eq!(rows, [[Value::Integer(4)]]);
}

#[test]
fn a_file_of_another_version_or_kind_is_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    drop(Database::open(directory.path(), Options::default()).unwrap());
    let file = Connection::open(directory.path().join("state.db")).unwrap();
    let mut head = Head::default().encode();
    head[0] = 9;
    file.execute("UPDATE _understudy_applied SET head = ?1", [&head[..]]).unwrap();
    drop(file);
    let error = Database::open(directory.path(), Options::default()).err().unwrap().to_string();
    assert!(error.contains("format version 9"), "{error}");
    std::fs::write(directory.path().join("state.db"), [7; 4096]).unwrap();
    let error = Database::open(directory.path(), Options::default()).err().unwrap().to_string();
    assert!(error.contains("state.db"), "{error}");
}

#[test]
fn what_sqlites_limits_allow_fits_the_stack() {
    let directory = tempfile::tempdir().unwrap();
    let connection = connect(&directory.path().join("state.db"), &Options::default()).unwrap();
    let run = move || {
        let compound = vec!["SELECT a FROM t0"; 450].join(" UNION ALL ");
        let expression = format!("a{}", " + a".repeat(950));
        let mut schema = format!(
            "CREATE TABLE last(a); CREATE TABLE t0(a); CREATE TRIGGER g0 AFTER INSERT ON t0 BEGIN
             INSERT INTO last SELECT {expression} FROM t0 UNION ALL {compound}; END;"
        );
        for (table, before) in (1..=950).zip(0..) {
            schema.push_str(&format!(
                "CREATE TABLE t{table}(a); CREATE TRIGGER g{table} AFTER INSERT ON t{table}
                 BEGIN INSERT INTO t{before} VALUES (new.a); END;"
            ));
        }
        connection.execute_batch(&format!("BEGIN; {schema} COMMIT")).unwrap();
        connection.execute("INSERT INTO t950 VALUES (1)", []).unwrap();
    };
    let thread = std::thread::Builder::new().stack_size(STACK_BYTES).spawn(run);
    thread.unwrap().join().unwrap();
}

#[test]
fn to_explain_a_pragma_is_not_to_carry_it_out() {
    let mut boards = Boards::new();
    let tables = ["CREATE TABLE t(id INTEGER PRIMARY KEY)", "CREATE TABLE c(a REFERENCES t(id))"];
    boards.requests(&[request(RequestKind::Execute, false, &tables)]);
    let statements = ["EXPLAIN PRAGMA foreign_keys = ON", "INSERT INTO c VALUES (9)"];
    let answers = boards.requests(&[request(RequestKind::Execute, false, &statements)]);
    let inserted = &answers[0].results[1].outcome;
    assert!(matches!(inserted, StatementOutcome::Changed { rows_affected: 1, .. }), "{inserted:?}");
}

#[test]
fn a_statement_of_very_many_parameters_is_not_kept() {
    let mut boards = Boards::new();
    boards.fine("CREATE TABLE t(a)");
    let values = vec![Value::Null; 32_766];
    for place in 0..40 {
        let text = format!("INSERT INTO t SELECT {place} WHERE ?32766 IS NULL");
        let read = Statement::new(format!("SELECT {place}, ?32766"), values.clone());
        let write = Statement::new(text, values.clone());
        let of = |statement| {
            sql::encode(&SqlRequest::new(RequestKind::Mixed, Origin::User, vec![statement]))
        };
        let answer = boards.requests(&[of(write)]).remove(0);
        assert!(!format!("{answer:?}").contains("Error"), "{answer:?}");
        let _ = boards.databases[0].query(&of(read)).unwrap();
    }
    let held = crate::store::ffi::statement_bytes_held(&boards.databases[0].connection);
    assert!(held < 4 << 20, "{held} bytes");
}
