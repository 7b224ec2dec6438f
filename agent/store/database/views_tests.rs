//! Views and WITH terms at their bound and above it, on boards.

use std::fmt::Write as _;

use understudy_core::{
    limits::{SQL_WORDS_MAX, VIEWS_WORDS_MAX},
    sql::{self, RequestKind, StatementOutcome},
};

use super::{
    QueryOutcome, refusal,
    tests::{Boards, request},
    views,
};

fn outcomes(boards: &mut Boards, transaction: bool, sql: &[&str]) -> Vec<StatementOutcome> {
    let answers = boards.requests(&[request(RequestKind::Mixed, transaction, sql)]);
    let results = answers.into_iter().flat_map(|answer| answer.results);
    results.map(|result| result.outcome).collect()
}

fn is_refused(outcome: &StatementOutcome, statement: usize, words: &str) -> bool {
    *outcome == StatementOutcome::Error(refusal::at(statement, words))
}

/// Each names the one below twice; up to the last that may be.
fn doubling(boards: &mut Boards) -> u32 {
    let _ = outcomes(boards, false, &["CREATE TABLE t(a)", "CREATE VIEW v0 AS SELECT a FROM t"]);
    for (below, place) in (0..20_u32).zip(1..) {
        let view = format!(
            "CREATE VIEW v{place} AS SELECT a FROM \"V{below}\" UNION ALL SELECT a FROM [v{below}]"
        );
        let outcome = outcomes(boards, false, &[&view]).remove(0);
        if let StatementOutcome::Error(_) = outcome {
            assert!(is_refused(&outcome, 0, &refusal::too_long_statement()), "{outcome:?}");
            return below;
        }
    }
    panic!("views upon views have no bound");
}

#[test]
fn views_that_double_work_up_to_the_bound_and_are_refused_above_it_on_all_boards() {
    let mut boards = Boards::new();
    let most = doubling(&mut boards);
    assert!(most >= 10, "{most}");
    let top = format!("v{most}");
    let sql = [
        "INSERT INTO t VALUES (7)",
        "ALTER TABLE t RENAME TO u",
        "ALTER TABLE u ADD COLUMN b",
        &format!("INSERT INTO u(a) SELECT count(*) FROM {top}"),
        "CREATE INDEX i ON u(b)",
    ];
    for outcome in outcomes(&mut boards, true, &sql) {
        assert!(!matches!(outcome, StatementOutcome::Error(_)), "{outcome:?}");
    }
    // Those of the same request go on, and with a transaction nothing of it stands.
    let above = format!("CREATE VIEW w AS SELECT a FROM {top}, {top} x");
    let words = refusal::too_long_statement();
    let outcome = outcomes(&mut boards, false, &[&above, "INSERT INTO u(a) VALUES (2)"]);
    assert!(is_refused(&outcome[0], 0, &words), "{outcome:?}");
    let outcome = outcomes(&mut boards, true, &["INSERT INTO u(a) VALUES (3)", &above]);
    assert!(is_refused(&outcome[1], 1, &words), "{outcome:?}");
    let trigger =
        format!("CREATE TRIGGER r AFTER INSERT ON u BEGIN SELECT * FROM {top}, {top}; END");
    assert!(is_refused(&outcomes(&mut boards, false, &[&trigger])[0], 0, &words));
    let rows = outcomes(&mut boards, false, &["SELECT sum(a) FROM u"]).remove(0);
    let StatementOutcome::Rows { rows, .. } = rows else { panic!("{rows:?}") };
    assert_eq!(rows, [[sql::Value::Integer(7 + (1 << most) + 2)]]);
}

#[test]
fn views_that_come_to_much_when_the_one_below_them_is_made_keep_it_out() {
    let mut boards = Boards::new();
    let twice = |place: u32| {
        let below = place - 1;
        format!("CREATE VIEW v{place} AS SELECT 1 FROM v{below}, v{below} AS x")
    };
    let refused = (1..=20).rev().find_map(|place| {
        let outcome = outcomes(&mut boards, false, &[&twice(place)]).remove(0);
        matches!(outcome, StatementOutcome::Error(_)).then_some(outcome)
    });
    let refused = refused.expect("they have a bound");
    let words = refusal::too_long_written_out("v20", SQL_WORDS_MAX);
    assert!(is_refused(&refused, 0, &words), "{refused:?}");
}

#[test]
fn many_views_are_bounded_together() {
    let mut boards = Boards::new();
    let most = doubling(&mut boards);
    let copy = |place: u32| format!("CREATE VIEW w{place} AS SELECT * FROM v{}", most - 1);
    let mut made = 0;
    let refused = loop {
        match outcomes(&mut boards, false, &[&copy(made)]).remove(0) {
            refused @ StatementOutcome::Error(_) => break refused,
            StatementOutcome::Changed { .. } | StatementOutcome::Rows { .. } => made += 1,
        }
        assert!(made < 100, "views have no bound together");
    };
    let words = refusal::too_long_written_out(views::ALL, VIEWS_WORDS_MAX);
    assert!(is_refused(&refused, 0, &words) && made > 4, "{made}: {refused:?}");
    // One fewer makes room again.
    let again = outcomes(&mut boards, false, &["DROP VIEW w0", &copy(made)]);
    assert!(!again.iter().any(|outcome| matches!(outcome, StatementOutcome::Error(_))));
}

#[test]
fn a_statement_with_terms_that_double_is_refused_before_it_is_compiled() {
    let mut boards = Boards::new();
    let _ = outcomes(&mut boards, false, &["CREATE TABLE t(a)"]);
    let mut with = String::from("WITH r0 AS (SELECT 1 AS a)");
    for (below, place) in (0..60).zip(1..) {
        let _ = write!(with, ", r{place} AS (SELECT x.a FROM r{below} x, \"r{below}\")");
    }
    let write = format!("{with} INSERT INTO t SELECT a FROM r60");
    let read = format!("{with} SELECT a FROM r60");
    let few = format!("{with} INSERT INTO t SELECT a FROM r4; INSERT INTO t VALUES (2)");
    let words = refusal::too_long_statement();
    let both = format!("{write}; INSERT INTO t VALUES (3)");
    let outcome = outcomes(&mut boards, false, &[&write, &both, &few]);
    assert!(is_refused(&outcome[0], 0, &words), "{outcome:?}");
    assert!(is_refused(&outcome[1], 1, &words), "{outcome:?}");
    let asked = request(RequestKind::Query, false, &["SELECT count(*) FROM t", &read, &read]);
    let reader = boards.databases[1].reader().unwrap();
    let here = match boards.databases[1].query(&asked).unwrap() {
        QueryOutcome::Answered(answer) => answer,
        QueryOutcome::NeedsReader => panic!("it reads nothing"),
    };
    boards.databases[1].commit().unwrap();
    for answer in [here, reader.query(&asked)] {
        let answer: sql::SqlResponse = sql::decode(&answer).unwrap();
        let StatementOutcome::Rows { rows, .. } = &answer.results[0].outcome else { panic!() };
        assert_eq!(rows[..], [[sql::Value::Integer(2)]]);
        assert!(is_refused(&answer.results[1].outcome, 1, &words), "{answer:?}");
        assert!(is_refused(&answer.results[2].outcome, 2, &words), "{answer:?}");
    }
}

#[test]
fn a_long_read_counts_the_views_there_are_now() {
    let mut boards = Boards::new();
    let reader = boards.databases[0].reader().unwrap();
    let most = doubling(&mut boards);
    boards.databases[0].commit().unwrap();
    let sql = format!("SELECT 1 FROM v{most}, v{most} x LIMIT 1");
    let answer = reader.query(&request(RequestKind::Query, false, &[&sql]));
    let answer: sql::SqlResponse = sql::decode(&answer).unwrap();
    assert!(is_refused(&answer.results[0].outcome, 0, &refusal::too_long_statement()));
}
