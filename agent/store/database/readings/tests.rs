//! Readings on three boards: planned by the first, put down by all, which must hold the
//! same rows and the same pages.

use std::cell::Cell;

use understudy_core::{
    change::Change,
    event::Position,
    limits::{LEDGER_RANGES_MAX, READING_IDS_MAX, READING_STEPS_MAX},
    readings::{Run, Verdict, first_number, time_unset},
    sql::RequestKind,
};

use super::*;
use crate::store::database::{
    Wall,
    tests::{Boards, request},
};

/// A moment, microseconds.
pub(super) const NOON: i64 = 1_700_000_000_000_000;
const DAY_US: i64 = 86_400_000_000;

thread_local! {
    /// The leader's wall clock.
    pub(super) static WALL: Cell<Option<i64>> = const { Cell::new(None) };
}

#[cfg(mutants)]
fn choose() {
    let number = std::env::var("MUTANT").ok().and_then(|number| number.parse().ok());
    understudy_core::mutant::choose(number.unwrap_or(0));
}

#[cfg(not(mutants))]
const fn choose() {}

pub(super) fn boards() -> Boards {
    choose();
    let mut boards = Boards::new();
    for database in &mut boards.databases {
        database.options.wall = Wall::new(|| WALL.get());
    }
    let first = boards.entry(Vec::new());
    boards.apply(&first);
    boards
}

pub(super) fn reading(sensor: &str, time: i64, value: f64) -> Reading {
    let (sensor, value) = (String::from(sensor), Value::Real(value));
    Reading { sensor, time, value, id: None, token: None, is_far: false }
}

pub(super) fn batch(board: u64, floor: u64, readings: Vec<(u64, Reading)>) -> Batch {
    Batch { board, floor, readings, given_up: Vec::new() }
}

fn numbered(first: u64, readings: impl IntoIterator<Item = Reading>) -> Vec<(u64, Reading)> {
    (first..).zip(readings).collect()
}

/// Has requests executed as one batch, and applied; the answers.
pub(super) fn run(boards: &mut Boards, requests: &[Vec<u8>]) -> Vec<Answer> {
    let base = boards.databases[0].applied();
    let executed = boards.databases[0].execute(base, requests).unwrap();
    let entry = boards.entry(executed.change);
    boards.apply(&entry);
    boards.compare();
    executed.answers
}

pub(super) fn store(boards: &mut Boards, batch: &Batch) -> Verdict {
    let answers = run(boards, &[Work::Store(batch.clone()).encode()]);
    sql::decode(answers[0].as_ref().unwrap()).unwrap()
}

pub(super) fn count(boards: &mut Boards) -> i64 {
    let count = boards.one("SELECT count(*) FROM reading");
    let Value::Integer(count) = count else { panic!("{count:?}") };
    count
}

fn text(boards: &mut Boards, sql: &str) -> String {
    let found = boards.one(sql);
    let Value::Text(text) = found else { panic!("{sql}: {found:?}") };
    String::from_utf8(text).unwrap()
}

/// All readings in words, in order.
pub(super) fn all(boards: &mut Boards) -> String {
    let sql = "SELECT coalesce(group_concat(r, ' '), '') FROM (SELECT s.name || '@' || r.time \
               || '=' || r.value AS r FROM reading AS r JOIN sensor AS s ON s.id = r.sensor \
               ORDER BY s.id, r.time)";
    text(boards, sql)
}

/// Some board holds a duty under this token from now on.
fn grant(boards: &mut Boards, token: u64) {
    let sql = format!(
        "INSERT INTO _understudy_duty VALUES (1, 'pump', {token}, 1, 1, 1, 0, '', 0, NULL, '') \
         ON CONFLICT(id) DO UPDATE SET token = {token}"
    );
    boards.agents(&sql);
}

#[test]
fn what_is_taken_under_a_token_counts_while_a_duty_has_it() {
    let mut boards = boards();
    let under = |token, value| Reading { token: Some(token), ..reading("a", NOON, value) };
    let number = first_number(1);
    let stored = |boards: &mut Boards, at, token| {
        let numbered = vec![(number + at, under(token, 1.0))];
        store(boards, &batch(1, number + at, numbered)).refused
    };
    assert!(stored(&mut boards, 0, 7)[0].1.contains("no duty has token 7"));
    grant(&mut boards, 7);
    assert_eq!(stored(&mut boards, 1, 7), []);
    grant(&mut boards, 8);
    assert_eq!(stored(&mut boards, 2, 7).len(), 1, "the duty has gone elsewhere");
    assert_eq!(stored(&mut boards, 3, 8), []);
    let named = Reading { id: Some("x".into()), ..under(8, 1.0) };
    let repeated = |at: u64| batch(1, number + at, vec![(number + at, named.clone())]);
    assert_eq!(store(&mut boards, &repeated(8)).refused, []);
    boards.agents("UPDATE _understudy_duty SET board = NULL");
    assert_eq!(store(&mut boards, &repeated(9)).refused, [], "it is stored already");
    assert_eq!(stored(&mut boards, 12, 8).len(), 1, "nobody has it");
    assert_eq!(boards.one("SELECT count(*) FROM reading"), Value::Integer(3));
}

#[test]
fn the_first_readings_make_the_tables_that_anyone_can_query() {
    let mut boards = boards();
    grant(&mut boards, 9);
    let full = Reading {
        value: Value::Text(b"open".to_vec()),
        token: Some(9),
        is_far: true,
        ..reading("door/front", NOON + 5, 0.0)
    };
    let unset = reading("door/front", time_unset(5, 12_345), 1.5);
    let first = first_number(5);
    let verdict = store(
        &mut boards,
        &batch(3, first, numbered(first, [reading("kitchen air", NOON, 21.5), full, unset])),
    );
    assert_eq!(verdict, Verdict::default());
    boards.fine("UPDATE sensor SET unit = 'C' WHERE name = 'kitchen air'");
    let sql = "SELECT group_concat(line, ' | ') FROM (SELECT concat_ws(',', sensor, utc, value, \
               unit, board, token, flag) AS line FROM readings ORDER BY time)";
    assert_eq!(
        text(&mut boards, sql),
        "door/front,start 5 + 12.345 s,1.5,3 | \
         kitchen air,2023-11-14T22:13:20.000000Z,21.5,C,3 | \
         door/front,2023-11-14T22:13:20.000005Z,open,3,9,1"
    );
    let created = "SELECT group_concat(coalesce(created, 'unknown')) FROM sensor";
    assert_eq!(text(&mut boards, created), format!("{NOON},{}", NOON + 5));
    boards.fine("DELETE FROM reading WHERE time < 0");
    boards.fine("CREATE INDEX by_time ON reading(time)");
    store(&mut boards, &batch(3, first, numbered(first + 3, [reading("new", NOON, 1.0)])));
    assert_eq!(count(&mut boards), 3);
}

#[test]
fn a_number_is_stored_once_however_often_it_comes() {
    let mut boards = boards();
    let three = [1.0, 2.0, 3.0].map(|value| reading("a", NOON, value));
    let twice =
        batch(1, 10, [numbered(10, three.clone()), numbered(11, three[1..].to_vec())].concat());
    store(&mut boards, &twice);
    assert_eq!(count(&mut boards), 3, "twice in one batch");
    let (late, same) = (reading("a", NOON - 7, 4.0), Work::Store(twice.clone()).encode());
    let more = Work::Store(batch(1, 10, vec![(14, late.clone()), (15, late)])).encode();
    run(&mut boards, &[same.clone(), more.clone(), more.clone(), same.clone()]);
    assert_eq!(count(&mut boards), 5, "twice in one entry");
    run(&mut boards, std::slice::from_ref(&more));
    run(&mut boards, std::slice::from_ref(&same));
    assert_eq!(count(&mut boards), 5, "in another entry");
    // The one left out comes late; then everything below it is done.
    store(&mut boards, &batch(1, 13, vec![(13, reading("a", NOON + 9, 5.0))]));
    store(&mut boards, &batch(1, 20, vec![(20, reading("a", NOON + 10, 6.0))]));
    run(&mut boards, &[more, same]);
    assert_eq!(count(&mut boards), 7, "after the floor moved");
    store(&mut boards, &batch(2, 10, numbered(10, three)));
    assert_eq!(count(&mut boards), 10, "another board has numbers of its own");
    assert_eq!(
        boards.one("SELECT next FROM _understudy_ledger WHERE board = 1"),
        Value::Integer(21)
    );
    assert_eq!(boards.one("SELECT count(done) FROM _understudy_ledger"), Value::Integer(0));
}

#[test]
fn numbers_come_in_any_order_while_older_ones_are_outstanding() {
    let mut boards = boards();
    let one = |number: u64| (number, reading("a", NOON + number.cast_signed(), 1.0));
    for number in [7, 3, 5, 4, 9, 1, 5, 2, 0, 8, 3, 6, 6, 9] {
        store(&mut boards, &batch(1, 0, vec![one(number)]));
    }
    assert_eq!(count(&mut boards), 10);
    assert_eq!(boards.one("SELECT next FROM _understudy_ledger"), Value::Integer(10));
}

#[test]
fn what_a_spool_gave_up_is_resolved_and_counted_once() {
    let mut boards = boards();
    let run = Run { first: 11, step: 2, count: 3 };
    let given_up = Batch { given_up: vec![run], ..batch(1, 10, Vec::new()) };
    for _ in 0..2 {
        store(&mut boards, &given_up);
    }
    let late = numbered(10, [1.0, 2.0, 3.0, 4.0].map(|value| reading("a", NOON, value)));
    store(&mut boards, &batch(1, 10, late));
    assert_eq!(all(&mut boards), format!("a@{NOON}=1.0 a@{}=3.0", NOON + 1));
    assert_eq!(boards.one("SELECT given_up FROM _understudy_ledger"), Value::Integer(3));
}

#[test]
fn too_many_stretches_are_refused_until_the_floor_passes_them() {
    let mut boards = boards();
    let every_other = |from: u64, count: u64| {
        let readings =
            (0..count).map(|n| (from + 2 * n, reading("a", NOON + (from + n).cast_signed(), 1.0)));
        batch(1, 0, readings.collect())
    };
    let most = LEDGER_RANGES_MAX as u64;
    store(&mut boards, &every_other(2, most));
    let over = every_other(2 + 2 * most, 1);
    let answers = run(&mut boards, &[Work::Store(over.clone()).encode()]);
    assert_eq!(answers, [Err(Refusal::Busy)]);
    store(&mut boards, &batch(1, 0, vec![(3, reading("b", NOON, 1.0))]));
    store(&mut boards, &Batch { floor: 100, ..over });
    assert_eq!(count(&mut boards), i64::try_from(most).unwrap() + 2);
}

#[test]
fn readings_of_one_instant_are_both_kept_in_their_order() {
    let mut boards = boards();
    let values = [1.0, 2.0, 3.0].map(|value| reading("a", NOON, value));
    store(&mut boards, &batch(1, 0, numbered(1, values)));
    let again = [4.0, 5.0].map(|value| reading("a", NOON + 1, value));
    let unset = [6.0, 7.0].map(|value| reading("a", time_unset(2, 30), value));
    let requests = [again, unset].map(|readings| readings.to_vec());
    let requests: Vec<_> = (2..)
        .zip(requests)
        .map(|(board, readings)| Work::Store(batch(board, 0, numbered(1, readings))).encode())
        .collect();
    run(&mut boards, &requests);
    let at = |n: i64, value: &str| format!("a@{}={value}", NOON + n);
    let unset = |n| time_unset(2, 30) + n;
    assert_eq!(
        all(&mut boards),
        format!("a@{}=6.0 a@{}=7.0 ", unset(0), unset(1))
            + &[at(0, "1.0"), at(1, "2.0"), at(2, "3.0"), at(3, "4.0"), at(4, "5.0")].join(" ")
    );
}

#[test]
fn an_instant_with_too_many_readings_takes_no_more_and_says_so() {
    let mut boards = boards();
    let many = (0..=READING_STEPS_MAX).map(|_| reading("a", NOON, 1.0));
    store(&mut boards, &batch(1, 1, numbered(1, many)));
    let (over, other) = (reading("a", NOON, 2.0), reading("a", NOON + DAY_US, 3.0));
    let number = READING_STEPS_MAX + 2;
    let verdict = store(&mut boards, &batch(1, 0, numbered(number, [over, other])));
    assert_eq!(verdict.refused.len(), 1);
    assert!(verdict.refused[0].1.contains("this very time"), "{verdict:?}");
    assert_eq!(count(&mut boards), i64::try_from(number).unwrap());
    let next = boards.one("SELECT next FROM _understudy_ledger");
    assert_eq!(next, Value::Integer(number.cast_signed()), "it is open until it is given up");
}

fn with_id(id: &str, value: f64) -> Reading {
    Reading { id: Some(String::from(id)), ..reading("a", NOON, value) }
}

#[test]
fn the_same_id_within_a_day_is_the_same_reading() {
    let mut boards = boards();
    WALL.set(Some(NOON));
    let mut number = 0;
    let mut one = |boards: &mut Boards, ids: &[&str]| {
        let readings = numbered(number, ids.iter().map(|id| with_id(id, 1.0)));
        number += ids.len() as u64;
        assert_eq!(store(boards, &batch(1, 0, readings)).refused, []);
        count(boards)
    };
    assert_eq!(one(&mut boards, &["x", "x", "y"]), 2, "in one batch");
    assert_eq!(one(&mut boards, &["x"]), 2, "in another");
    WALL.set(Some(NOON + DAY_US - 1));
    assert_eq!(one(&mut boards, &["y", "z"]), 3, "within a day");
    WALL.set(None);
    assert_eq!(one(&mut boards, &["x", "y"]), 3, "nobody knows how long ago");
    WALL.set(Some(NOON + DAY_US));
    assert_eq!(one(&mut boards, &["x"]), 4, "a day later it is another");
    assert_eq!(one(&mut boards, &["x", "z"]), 4);
    let left =
        "SELECT group_concat(id) FROM (SELECT id FROM _understudy_reading_id ORDER BY number)";
    assert_eq!(text(&mut boards, left), "z,x", "what is due is forgotten");
    WALL.set(None);
}

#[test]
fn ids_that_came_while_nobody_knew_the_time_are_forgotten_in_the_end() {
    let mut boards = boards();
    let ids = ["p", "q", "r", "s"];
    store(&mut boards, &batch(1, 0, numbered(1, ids.map(|id| with_id(id, 1.0)))));
    WALL.set(Some(NOON));
    store(&mut boards, &batch(1, 0, numbered(5, [with_id("p", 1.0), with_id("t", 1.0)])));
    WALL.set(Some(NOON + DAY_US - 1));
    store(&mut boards, &batch(1, 0, numbered(7, [with_id("p", 1.0)])));
    assert_eq!(count(&mut boards), 5);
    WALL.set(Some(NOON + DAY_US));
    store(&mut boards, &batch(1, 0, numbered(8, [with_id("p", 1.0)])));
    assert_eq!(count(&mut boards), 6);
    WALL.set(None);
}

#[test]
fn an_id_is_not_forgotten_with_those_before_it() {
    let mut boards = boards();
    WALL.set(Some(NOON));
    store(&mut boards, &batch(1, 0, numbered(1, [with_id("p", 1.0), with_id("q", 1.0)])));
    WALL.set(Some(NOON + DAY_US));
    let one = |board, id| Work::Store(batch(board, 0, numbered(9, [with_id(id, 1.0)]))).encode();
    run(&mut boards, &[one(1, "x"), one(2, "y")]);
    assert_eq!(count(&mut boards), 4);
    store(&mut boards, &batch(1, 0, numbered(10, [with_id("x", 1.0), with_id("y", 1.0)])));
    assert_eq!(count(&mut boards), 4, "within a day");
    WALL.set(None);
}

#[test]
fn a_table_of_sensors_whose_ids_are_words_stops_no_board() {
    let mut boards = boards();
    boards.fine("CREATE TABLE sensor(id TEXT PRIMARY KEY, name TEXT UNIQUE, created INTEGER)");
    boards.fine("INSERT INTO sensor VALUES ('k-1', 'kitchen', 0)");
    let readings = [reading("kitchen", NOON, 1.0), reading("hall", NOON, 2.0)];
    let verdict = store(&mut boards, &batch(1, 0, numbered(1, readings)));
    assert!(verdict.refused[0].1.contains("UNIQUE"), "{verdict:?}");
}

/// So many ids that came after those that are remembered.
fn many_ids(boards: &mut Boards, count: u64) {
    boards.agents(&format!(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count}) \
         INSERT INTO _understudy_reading_id(number, id, time) \
         SELECT i + (SELECT max(number) FROM _understudy_reading_id), 'mqtt:x.' || i, {NOON} FROM n"
    ));
}

#[test]
fn ids_that_are_forgotten_before_older_ones_make_room() {
    let mut boards = boards();
    WALL.set(Some(NOON));
    store(&mut boards, &batch(1, 0, numbered(1, [with_id("old", 1.0)])));
    many_ids(&mut boards, READING_IDS_MAX - 1);
    let forget = "DELETE FROM _understudy_reading_id WHERE number < 99000 AND id GLOB 'mqtt:*'";
    boards.agents(forget);
    let three = ["old", "new", "mqtt:x.5"].map(|id| with_id(id, 1.0));
    assert_eq!(store(&mut boards, &batch(1, 0, numbered(2, three))).refused, []);
    assert_eq!(
        count(&mut boards),
        3,
        "the oldest is remembered, and one that was forgotten is not"
    );
    boards.agents("DELETE FROM _understudy_reading_id WHERE id GLOB 'mqtt:*'");
    many_ids(&mut boards, READING_IDS_MAX - 3);
    let two = ["one", "two"].map(|id| with_id(id, 1.0));
    let refused = store(&mut boards, &batch(1, 0, numbered(5, two))).refused;
    assert_eq!(refused.len(), 1, "there is room for one: {refused:?}");
    assert!(understudy_core::readings::may_be_taken_later(&refused[0].1), "{refused:?}");
    WALL.set(None);
}

#[test]
fn no_more_ids_than_are_remembered() {
    let mut boards = boards();
    WALL.set(Some(NOON));
    store(&mut boards, &batch(1, 0, numbered(1, [with_id("first", 1.0)])));
    many_ids(&mut boards, READING_IDS_MAX - 1);
    let verdict = store(
        &mut boards,
        &batch(1, 0, numbered(2, [with_id("over", 1.0), reading("a", NOON, 2.0)])),
    );
    assert_eq!(verdict.refused.len(), 1, "{verdict:?}");
    assert!(verdict.refused[0].1.contains("without one"), "{verdict:?}");
    assert_eq!(count(&mut boards), 2);
    WALL.set(Some(NOON + DAY_US));
    let verdict = store(&mut boards, &batch(1, 0, numbered(4, [with_id("over", 1.0)])));
    assert_eq!(verdict.refused, []);
    WALL.set(None);
}

#[test]
fn statements_of_the_same_batch_come_first() {
    let mut boards = boards();
    let store_one =
        |number| Work::Store(batch(1, 0, numbered(number, [reading("a", NOON, 1.0)]))).encode();
    run(&mut boards, &[store_one(1)]);
    let insert =
        format!("INSERT INTO reading(sensor, time, value) VALUES (1, {}, 'sql')", NOON + 1);
    let sql = |sql: &str| request(RequestKind::Execute, false, &[sql]);
    let answers =
        run(&mut boards, &[store_one(2), sql(&insert), store_one(3), sql("CREATE TABLE t(a)")]);
    assert_eq!(answers.len(), 4);
    let at = |n: i64, value: &str| format!("a@{}={value}", NOON + n);
    let expected = [at(0, "1.0"), at(1, "sql"), at(2, "1.0"), at(3, "1.0")].join(" ");
    assert_eq!(all(&mut boards), expected);
    // A batch that is executed once more, with savepoints.
    let fails = request(RequestKind::Execute, true, &["INSERT INTO t VALUES (1)", &insert]);
    run(&mut boards, &[store_one(4), fails, store_one(5)]);
    assert_eq!((count(&mut boards), boards.one("SELECT count(*) FROM t")), (6, Value::Integer(0)));
}

#[test]
fn what_has_no_room_in_the_entry_begins_the_next() {
    let mut boards = boards();
    boards.fine("CREATE TABLE t(a)");
    let blob = format!("INSERT INTO t VALUES (randomblob({}))", (8 << 20) - 20_000);
    let blob = request(RequestKind::Execute, false, &[&blob]);
    let many = numbered(1, (0..200).map(|n| reading("a", NOON + n, 1.0)));
    let many = Work::Store(batch(1, 0, many)).encode();
    assert_eq!(run(&mut boards, &[blob.clone(), many.clone()]).len(), 1);
    assert_eq!(run(&mut boards, &[many.clone(), blob]).len(), 1);
    assert_eq!(run(&mut boards, &[many]).len(), 1);
    assert_eq!(
        (count(&mut boards), boards.one("SELECT count(*) FROM t")),
        (200, Value::Integer(1))
    );
}

#[test]
fn what_is_no_reading_is_refused_with_the_reason_and_the_others_are_stored() {
    let mut boards = boards();
    let valued = |value| Reading { value, ..reading("a", NOON, 0.0) };
    let long = |bytes| Value::Text(vec![b'x'; bytes]);
    let bad = [
        (reading("", NOON, 1.0), "name"),
        (reading("a\nb", NOON, 1.0), "name"),
        (reading(&"x".repeat(129), NOON, 1.0), "name"),
        (reading("a", NOON, f64::NAN), "value"),
        (valued(Value::Null), "value"),
        (valued(Value::Blob(vec![1])), "value"),
        (valued(long(257)), "value"),
        (valued(Value::Text(vec![0xff])), "value"),
        (with_id(&"x".repeat(65), 1.0), "id"),
    ];
    let mut readings: Vec<Reading> = bad.iter().map(|(reading, _)| reading.clone()).collect();
    readings.extend([
        valued(long(256)),
        valued(Value::Integer(1)),
        reading("a", i64::MAX, f64::MAX),
    ]);
    readings.push(reading("a", i64::MAX, 1.0));
    let verdict = store(&mut boards, &batch(1, 0, numbered(0, readings)));
    assert_eq!(verdict.refused.len(), bad.len() + 1, "{verdict:?}");
    for ((number, reason), (place, (_, words))) in verdict.refused.iter().zip((0..).zip(bad)) {
        assert!(*number == place && reason.contains(words), "{reason}");
    }
    assert_eq!(count(&mut boards), 3);
}

#[test]
fn a_batch_that_no_entry_could_hold_is_refused_as_a_whole() {
    let mut boards = boards();
    let many = |count: usize| numbered(0, vec![reading("a", NOON, 1.0); count]);
    let far = vec![(0, reading("a", NOON, 1.0)), (1 << 63, reading("a", NOON, 1.0))];
    let step = Run { first: 0, step: 1 << 50, count: u32::MAX };
    for batch in [
        batch(1, 0, many(BATCH_READINGS_MAX + 1)),
        batch(1, 0, far),
        Batch { given_up: vec![step], ..batch(1, 0, Vec::new()) },
    ] {
        let answers = run(&mut boards, &[Work::Store(batch).encode()]);
        assert!(matches!(&answers[0], Err(Refusal::Invalid(_))), "{answers:?}");
    }
    let cut = run(&mut boards, &[vec![0xf0, 9], Work::Store(batch(1, 0, many(3))).encode()]);
    assert!(matches!(&cut[..], [Err(Refusal::Invalid(_)), Ok(_)]), "{cut:?}");
}

#[test]
fn a_table_of_the_users_that_does_not_fit_is_named_and_nothing_is_lost() {
    for (sql, words) in [
        ("CREATE TABLE reading(sensor, time, value, PRIMARY KEY(sensor, time))", "no column board"),
        ("CREATE VIEW sensor AS SELECT 1 AS id, 2 AS name, 3 AS created", "another primary key"),
        (
            "CREATE TABLE readings(a)",
            "readings, which readings need, is there and has no column sensor",
        ),
        (
            "CREATE TABLE sensor(id INTEGER PRIMARY KEY, name, created, place NOT NULL)",
            "column place",
        ),
        (
            "CREATE TABLE t(a); CREATE INDEX reading ON t(a)",
            "there is already an index named reading",
        ),
    ] {
        let mut boards = boards();
        for sql in sql.split("; ") {
            boards.fine(sql);
        }
        let work = Work::Store(batch(1, 0, numbered(1, [reading("a", NOON, 1.0)]))).encode();
        let answers = run(&mut boards, std::slice::from_ref(&work));
        let Err(Refusal::Invalid(reason)) = &answers[0] else { panic!("{answers:?}") };
        assert!(reason.contains(words), "{reason}");
        let drop = sql.rsplit("; ").next().unwrap().replace("CREATE", "DROP");
        let drop: Vec<&str> = drop.split([' ', '(']).take(3).collect();
        boards.fine(&drop.join(" "));
        assert!(run(&mut boards, &[work])[0].is_ok());
        assert_eq!(count(&mut boards), 1);
    }
}

#[test]
fn what_an_index_or_a_column_of_the_users_bars_is_refused_not_lost() {
    let mut boards = boards();
    let one = |number, value| batch(1, 0, numbered(number, [value]));
    store(&mut boards, &one(1, reading("a", NOON, 1.0)));
    boards.fine("CREATE UNIQUE INDEX once ON reading(value) WHERE value < 5");
    boards.fine("CREATE INDEX parsed ON reading(json_extract(value, '$.x'))");
    let words = Value::Text(b"no json".to_vec());
    let words = Reading { value: words, ..reading("a", NOON, 0.0) };
    let all = numbered(
        2,
        [reading("b", NOON, 1.0), words, reading("a", NOON, 7.0), reading("c", NOON, 7.0)],
    );
    let verdict = store(&mut boards, &batch(1, 0, all.clone()));
    let reasons: Vec<&str> = verdict.refused.iter().map(|(_, reason)| reason.as_str()).collect();
    assert_eq!(reasons, ["UNIQUE constraint failed: reading.value", "malformed JSON"]);
    assert_eq!(count(&mut boards), 3);
    boards.fine("DROP INDEX once");
    store(&mut boards, &one(6, reading("d", NOON, 1.0)));
    // Sent again without having heard of it, it is not taken for one that is stored.
    let verdict = store(&mut boards, &batch(1, 0, all.clone()));
    assert_eq!(verdict.refused.len(), 1);
    assert_eq!(count(&mut boards), 5);
    // Its board has heard, and gives the number up.
    let given_up = vec![Run { first: 3, step: 1, count: 1 }];
    store(&mut boards, &Batch { given_up, ..batch(1, 0, Vec::new()) });
    assert_eq!(store(&mut boards, &batch(1, 0, all)).refused, []);
    assert_eq!(count(&mut boards), 5);
}

#[test]
fn triggers_and_checks_are_not_asked() {
    let mut boards = boards();
    store(&mut boards, &batch(1, 0, numbered(1, [reading("a", NOON, 1.0)])));
    boards.fine("CREATE TABLE log(a)");
    boards.fine(
        "CREATE TRIGGER on_reading AFTER INSERT ON reading BEGIN INSERT INTO log VALUES (1); END",
    );
    boards.fine("ALTER TABLE reading ADD COLUMN note TEXT CHECK (value < 5)");
    store(&mut boards, &batch(1, 0, numbered(2, [reading("a", NOON, 9.0)])));
    assert_eq!(
        (count(&mut boards), boards.one("SELECT count(*) FROM log")),
        (2, Value::Integer(0))
    );
}

#[test]
fn a_sensor_number_is_not_given_again_while_readings_have_it() {
    let mut boards = boards();
    let readings = ["a", "b"].map(|name| reading(name, NOON, 1.0));
    store(&mut boards, &batch(1, 0, numbered(1, readings)));
    boards.fine("DELETE FROM sensor WHERE name = 'b'");
    store(&mut boards, &batch(1, 0, numbered(3, [reading("c", NOON, 1.0)])));
    assert_eq!(boards.one("SELECT id FROM sensor WHERE name = 'c'"), Value::Integer(3));
    boards.fine("UPDATE sensor SET id = 9223372036854775807 WHERE name = 'c'");
    let verdict = store(&mut boards, &batch(1, 0, numbered(4, [reading("d", NOON, 1.0)])));
    assert_eq!(verdict.refused.len(), 1, "{verdict:?}");
}

#[test]
fn tables_that_are_dropped_are_made_again() {
    let mut boards = boards();
    store(&mut boards, &batch(1, 0, numbered(1, [reading("a", NOON, 1.0)])));
    for sql in ["DROP VIEW readings", "DROP TABLE reading", "DROP TABLE sensor"] {
        boards.fine(sql);
    }
    store(
        &mut boards,
        &batch(1, 0, numbered(1, [reading("a", NOON, 1.0), reading("b", NOON, 1.0)])),
    );
    assert_eq!(all(&mut boards), format!("b@{NOON}=1.0"), "what was resolved stays so");
}

#[test]
fn any_batch_makes_an_entry_that_boards_can_read() {
    let mut boards = boards();
    boards.agents(
        "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 62) \
         INSERT INTO _understudy_duty SELECT i + 1, i, 1 << i, 1, 1, 1, 0, '', 0, NULL, '' FROM n",
    );
    let mut seed = 3_u64;
    let mut next = |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    let mut number = first_number(1);
    for _ in 0..60 {
        let mut readings = Vec::new();
        for _ in 0..next(40) {
            number += 1 + next(2) * next(1 << 31);
            let value = match next(4) {
                0 => Value::Integer((next(u64::MAX) << next(40)).cast_signed()),
                1 => Value::Text(vec![b'v'; usize::try_from(next(257)).unwrap()]),
                _ => Value::Real(f64::from_bits(next(1 << 31) << next(33))),
            };
            let time = match next(3) {
                0 => time_unset(next(9), next(50)),
                1 => (next(1 << 31) << next(33)).cast_signed(),
                _ => NOON + next(50).cast_signed(),
            };
            let sensor = format!("s{}", next(9));
            let id = (next(5) == 0).then(|| format!("id {}", next(30)));
            let token = (next(5) == 0).then(|| 1 << next(63));
            let reading = Reading { sensor, time, value, id, token, is_far: next(9) == 0 };
            readings.push((number, reading));
        }
        let works: Vec<_> = (0..=next(3))
            .map(|board| Work::Store(batch(board, number - next(60), readings.clone())).encode())
            .collect();
        assert!(run(&mut boards, &works).iter().all(Result::is_ok));
    }
    assert!(count(&mut boards) > 1_000);
}

#[test]
fn a_database_that_is_large_enough_takes_no_more_readings_until_there_is_room() {
    let mut boards = boards();
    let set = |value: &str| sql::encode(&crate::settings::set("readings_mb_max", value).unwrap());
    let work =
        |number| Work::Store(batch(1, 0, numbered(number, [reading("a", NOON, 1.0)]))).encode();
    run(&mut boards, &[set("11"), work(1)]);
    boards.fine("CREATE TABLE t(a)");
    for _ in 0..2 {
        boards.fine("INSERT INTO t VALUES (zeroblob(6000000))");
    }
    let answers = run(&mut boards, &[work(2)]);
    let Err(Refusal::Invalid(reason)) = &answers[0] else { panic!("{answers:?}") };
    assert!(reason.contains("has 12 MB") && reason.contains("readings_mb_max"), "{reason}");
    boards.fine("DELETE FROM t");
    run(&mut boards, &[work(2)]);
    assert_eq!(count(&mut boards), 2);
    boards.fine("INSERT INTO t VALUES (zeroblob(6000000)), (zeroblob(6000000))");
    run(&mut boards, &[set("0"), work(3)]);
    assert_eq!(count(&mut boards), 3);
}

#[test]
fn readings_travel_in_few_bytes() {
    let mut boards = boards();
    let sensors: Vec<String> = (0..10).map(|n| format!("room {n}")).collect();
    let hundred = |first: u64| {
        let at = |n: u64| NOON + (first + n).cast_signed() * 1_000_000;
        let readings = (0..).zip(sensors.iter().cycle()).take(100);
        let readings = readings.map(|(n, sensor)| reading(sensor, at(n), 21.5));
        Work::Store(batch(1, first, numbered(first, readings))).encode()
    };
    run(&mut boards, &[hundred(0)]);
    let base = boards.databases[0].applied();
    let executed = boards.databases[0].execute(base, &[hundred(100)]).unwrap();
    assert!(executed.change.len() < 200, "{} bytes", executed.change.len());
    let position = Position { index: base.index + 1, ..base };
    let segments = Change::decode(&executed.change, position).unwrap().segments;
    assert!(matches!(&segments[..], [Segment::Readings(_)]), "{segments:?}");
}
