//! The history's rows on three boards: only with a grant that stands, and never too many.

use understudy_core::{
    duty::Claim,
    history::{Kind, Record, put_right, statements},
    limits::HISTORY_ROWS_MAX,
    readings::time_unset,
    sql::{self, Origin, RequestKind, SqlRequest, Statement, Value},
};

use super::tests::Boards;

fn record(time: i64) -> Record {
    let (kind, duty) = (Kind::Take, Some((String::from("pump"), 9)));
    Record { time, board: 2, kind, duty, reason: String::from("nobody held it") }
}

fn run(boards: &mut Boards, statements: Vec<Statement>) {
    let request = SqlRequest::new(RequestKind::Execute, Origin::Agent, statements);
    let response = boards.requests(&[sql::encode(&request)]).remove(0);
    assert_eq!(response.failure(), None);
}

fn own(sql: &str) -> Vec<Statement> {
    vec![Statement::new(sql, Vec::new())]
}

#[test]
fn a_grant_that_came_to_nothing_leaves_no_row() {
    let mut boards = Boards::new();
    let duty = "INSERT INTO _understudy_duty(id, name, token, lease_ms, candidates, paused) \
                VALUES (4, 'pump', 9, 0, '', 0)";
    run(&mut boards, own(duty));
    run(&mut boards, statements(1, vec![record(5)], Some(Claim { duty: 4, token: 8 })));
    assert_eq!(boards.one("SELECT count(*) FROM _understudy_history"), Value::Integer(0));
    run(&mut boards, statements(1, vec![record(5)], Some(Claim { duty: 4, token: 9 })));
    run(&mut boards, statements(1, vec![record(6)], None));
    assert_eq!(boards.one("SELECT count(*) FROM _understudy_history"), Value::Integer(2));
}

#[test]
fn the_oldest_rows_go_with_the_entry_that_adds_one() {
    let mut boards = Boards::new();
    let fill = format!(
        "INSERT INTO _understudy_history(time, seen_by, kind, reason) WITH RECURSIVE n(n) AS \
         (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {HISTORY_ROWS_MAX}) \
         SELECT n, 1, 'boot', '' FROM n"
    );
    run(&mut boards, own(&fill));
    run(&mut boards, statements(1, vec![record(0), record(0), record(0)], None));
    let all = "SELECT count(*) || ' ' || min(id) FROM _understudy_history";
    assert_eq!(boards.one(all), Value::text(&format!("{HISTORY_ROWS_MAX} 4")));
}

#[test]
fn rows_of_an_unset_clock_get_their_time() {
    let mut boards = Boards::new();
    let rows = vec![record(time_unset(7, 12_345)), record(time_unset(8, 12_345)), record(77)];
    run(&mut boards, statements(1, rows.clone(), None));
    run(&mut boards, statements(2, rows, None));
    run(&mut boards, vec![put_right(1, 7, 1_700_000_000_000_000)]);
    let right = "SELECT group_concat(id || ' ' || time) FROM _understudy_history WHERE time > 77";
    assert_eq!(boards.one(right), Value::text("1 1700000012345000"));
}
