//! What is rolled up and trimmed: once, the same everywhere, never what is still needed,
//! and by no clock that nobody agrees to.

use std::cell::Cell;

use understudy_core::{
    event::{Entry, EntryKind, Millis},
    readings::{ClockFix, Tending, first_number, time_unset},
    sql::SqlResponse,
};

use super::{
    tests::{all, batch, boards, count, reading, run, store},
    *,
};
use crate::{
    retention,
    store::database::{Options, tests::Boards},
};

const MINUTE: i64 = 60_000_000;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
const HOUR_MS: u64 = 3_600_000;

/// A midnight.
const ZERO: i64 = 19_675 * DAY;

thread_local! {
    static BOOT_MS: Cell<u64> = const { Cell::new(0) };
}

fn agreed(wall_us: i64) -> Tending {
    Tending { wall_us: Some(wall_us), boot_ms: 5_000, start: (1, 7), is_agreed: true }
}

fn tend(boards: &mut Boards, tending: Tending) -> u64 {
    match &run(boards, &[Work::Tend(tending).encode()])[0] {
        Ok(answer) => sql::decode(answer).unwrap(),
        Err(refusal) => {
            assert_eq!(refusal, &Refusal::Invalid(String::from("nothing is due")));
            0
        }
    }
}

/// As often as something is left, but not for ever.
fn tend_all(boards: &mut Boards, tending: Tending) {
    assert!((0..50).any(|_| tend(boards, tending) == 0), "there is always something left");
}

fn rule(boards: &mut Boards, pattern: &str, keep: Option<&str>, rollups: &[&str]) {
    let rollups: Vec<String> = rollups.iter().map(|text| String::from(*text)).collect();
    ask(boards, &retention::set(pattern, keep, &rollups).unwrap());
}

fn ask(boards: &mut Boards, request: &sql::SqlRequest) {
    let answers = run(boards, &[sql::encode(request)]);
    let answer: SqlResponse = sql::decode(answers[0].as_ref().unwrap()).unwrap();
    assert_eq!(answer.failure(), None);
}

fn words(boards: &mut Boards, sql: &str) -> String {
    let found = boards.one(sql);
    let Value::Text(text) = found else { panic!("{sql}: {found:?}") };
    String::from_utf8(text).unwrap()
}

fn rolled_up(boards: &mut Boards) -> String {
    let sql = format!(
        "SELECT coalesce(group_concat(r, ' | '), '') FROM (SELECT concat_ws(' ', sensor, width, \
         (time - {ZERO}) / {MINUTE}, count, min, max, mean, last) AS r FROM rollup ORDER BY \
         sensor, width, time)"
    );
    words(boards, &sql)
}

/// Readings of a sensor, so many minutes after the midnight.
fn at(boards: &mut Boards, first: u64, sensor: &str, readings: &[(i64, f64)]) {
    let readings =
        readings.iter().map(|(minute, value)| reading(sensor, ZERO + minute * MINUTE, *value));
    store(boards, &batch(1, first, (first..).zip(readings).collect()));
}

#[test]
fn a_bucket_is_rolled_up_once_when_it_is_over() {
    let mut boards = boards();
    rule(&mut boards, "*", None, &["10m:1y", "1h:10y"]);
    at(&mut boards, 0, "a", &[(0, 1.0), (3, 5.0), (9, 3.0), (10, 7.0), (59, 2.0), (61, 9.0)]);
    let text = Reading { value: Value::Text(b"x".to_vec()), ..reading("b", ZERO, 0.0) };
    let integer = Reading { value: Value::Integer(4), ..reading("b", ZERO + HOUR, 0.0) };
    store(&mut boards, &batch(2, 0, vec![(0, text), (1, integer)]));
    assert_eq!(tend(&mut boards, agreed(ZERO + 20 * MINUTE)), 0);
    assert_eq!(rolled_up(&mut boards), "", "a width and a minute are waited for");
    tend(&mut boards, agreed(ZERO + 21 * MINUTE));
    let first = "1 600 0 3 1.0 5.0 3.0 3.0";
    assert_eq!(rolled_up(&mut boards), first);
    tend(&mut boards, agreed(ZERO + 3 * HOUR));
    let all = format!(
        "{first} | 1 600 10 1 7.0 7.0 7.0 7.0 | 1 600 50 1 2.0 2.0 2.0 2.0 | \
         1 600 60 1 9.0 9.0 9.0 9.0 | 1 3600 0 5 1.0 7.0 3.6 2.0 | 2 600 60 1 4.0 4.0 4.0 4.0"
    );
    assert_eq!(rolled_up(&mut boards), all);
    for _ in 0..2 {
        assert_eq!(tend(&mut boards, agreed(ZERO + 3 * HOUR)), 0);
        assert_eq!(rolled_up(&mut boards), all);
    }
    let nothing = run(&mut boards, &[Work::Tend(agreed(ZERO + 3 * HOUR)).encode()]);
    assert!(nothing[0].is_err(), "nothing is due, and no entry is made for that");
    boards.databases.rotate_left(1);
    tend(&mut boards, agreed(ZERO + 3 * HOUR));
    assert_eq!(rolled_up(&mut boards), all, "another leader knows how far it is");
}

#[test]
fn a_time_that_users_wrote_and_that_is_none_is_in_nobodys_way() {
    let mut boards = boards();
    rule(&mut boards, "*", None, &["10m:1y"]);
    at(&mut boards, 0, "a", &[(1, 1.0), (2, 2.0)]);
    boards.fine(&format!("INSERT INTO reading(sensor, time, value) VALUES (1, {ZERO}.5, 9)"));
    let connection = &boards.databases[0].connection;
    let kept = rollup::rows_before(connection, (1, 0), ZERO + HOUR, 0).unwrap();
    assert_eq!(kept, (0, Some(ZERO + MINUTE)));
    tend(&mut boards, agreed(ZERO + HOUR));
    assert_eq!(words(&mut boards, "SELECT 'n' || count(*) FROM rollup"), "n1");
}

#[test]
fn a_table_that_users_have_dropped_stops_no_board() {
    let mut boards = boards();
    rule(&mut boards, "*", Some("1h"), &["10m:1y"]);
    at(&mut boards, 0, "a", &[(1, 1.0), (2, 2.0)]);
    boards.fine("DROP TABLE sensor");
    assert_eq!(tend(&mut boards, agreed(ZERO + DAY)), 0);
    assert_eq!(count(&mut boards), 2);
    let fix = ClockFix { board: 1, boot: 0, began_us: ZERO };
    assert!(run(&mut boards, &[Work::Clock(fix).encode()])[0].is_ok());
}

#[test]
fn late_readings_count_while_all_of_their_bucket_are_there() {
    let mut boards = boards();
    rule(&mut boards, "*", Some("1d"), &["10m:1y", "1d:1y"]);
    at(&mut boards, 0, "a", &[(0, 1.0), (15, 2.0), (25, 3.0)]);
    tend_all(&mut boards, agreed(ZERO + HOUR));
    // From a spool, and with a clock that was put right.
    at(&mut boards, 3, "a", &[(5, 3.0), (14, 6.0)]);
    let unset = reading("a", time_unset(5, 0), 8.0);
    store(&mut boards, &batch(3, 0, vec![(first_number(5), unset)]));
    let fix = ClockFix { board: 3, boot: 5, began_us: ZERO + 26 * MINUTE };
    run(&mut boards, &[Work::Clock(fix).encode()]);
    tend_all(&mut boards, agreed(ZERO + HOUR));
    let tens =
        "1 600 0 2 1.0 3.0 2.0 3.0 | 1 600 10 2 2.0 6.0 4.0 2.0 | 1 600 20 2 3.0 8.0 5.5 8.0";
    assert_eq!(rolled_up(&mut boards), tens);
    assert_eq!(boards.one("SELECT count(*) FROM _understudy_late"), Value::Integer(0));
    let now = ZERO + 2 * DAY + 5 * HOUR;
    tend_all(&mut boards, agreed(now));
    let whole = format!("{tens} | 1 86400 0 6 1.0 8.0 3.8333333333333335 8.0");
    assert_eq!((rolled_up(&mut boards), count(&mut boards)), (whole.clone(), 0));
    // Those it belongs to are gone: it counts nowhere, and goes.
    at(&mut boards, 9, "a", &[(16, 99.0)]);
    tend_all(&mut boards, agreed(now));
    tend_all(&mut boards, agreed(now));
    assert_eq!((rolled_up(&mut boards), count(&mut boards)), (whole, 0));
}

#[test]
fn nothing_goes_that_is_young_enough_or_still_to_be_rolled_up() {
    let mut boards = boards();
    rule(&mut boards, "*", Some("1d"), &[]);
    rule(&mut boards, "slow", Some("1h"), &["1d:1y"]);
    rule(&mut boards, "kept*", Some("1d"), &[]);
    rule(&mut boards, "kept", None, &["1h:3h"]);
    for (first, sensor) in [(0, "a"), (10, "slow"), (20, "kept"), (30, "kept for less")] {
        at(&mut boards, first, sensor, &[(0, 1.0), (60, 2.0), (61, 3.0)]);
    }
    let unset = reading("a", time_unset(5, 0), 8.0);
    store(&mut boards, &batch(3, 0, vec![(first_number(5), unset)]));
    tend_all(&mut boards, agreed(ZERO + DAY + HOUR));
    let left = "SELECT group_concat(n, ' ') FROM (SELECT name || ':' || count(time) AS n FROM sensor \
                LEFT JOIN reading ON sensor = id GROUP BY id)";
    assert_eq!(
        words(&mut boards, left),
        "a:3 slow:3 kept:3 kept for less:2",
        "{}",
        all(&mut boards)
    );
    let exactly = "SELECT count(*) FROM reading WHERE sensor = 1 AND time = ";
    assert_eq!(boards.one(&format!("{exactly}{}", ZERO + HOUR)), Value::Integer(1));
    tend_all(&mut boards, agreed(ZERO + 2 * DAY + MINUTE));
    assert_eq!(words(&mut boards, left), "a:1 slow:0 kept:3 kept for less:0");
    assert_eq!(rolled_up(&mut boards), "2 86400 0 3 1.0 3.0 2.0 3.0", "that of kept is old enough");
}

#[test]
fn no_clock_that_nobody_agrees_to_trims() {
    let mut boards = boards();
    for database in &mut boards.databases {
        database.options.clock = || Millis(BOOT_MS.get());
    }
    rule(&mut boards, "*", Some("1d"), &[]);
    at(&mut boards, 0, "a", &[(0, 1.0), (2_000, 2.0)]);
    let mine = |wall_us: i64, boot_ms: u64| {
        BOOT_MS.set(boot_ms);
        Tending { wall_us: Some(wall_us), boot_ms, start: (1, 7), is_agreed: false }
    };
    let obstacle = "SELECT coalesce((SELECT words FROM _understudy_tending WHERE id = 3), '')";
    let refused = |boards: &mut Boards, tending: Tending, why: &str| {
        let before = count(boards);
        tend_all(boards, tending);
        assert_eq!(count(boards), before);
        let words = words(boards, obstacle);
        assert!(words.contains(why), "{words:?}");
    };
    let fine = |boards: &mut Boards, tending: Tending, left: i64| {
        tend_all(boards, tending);
        assert_eq!((words(boards, obstacle).as_str(), count(boards)), ("", left));
    };
    let now = ZERO + 3 * HOUR;
    refused(&mut boards, Tending { wall_us: None, ..mine(now, 1) }, "is not set");
    refused(&mut boards, mine(now, 1), "confirm");
    ask(&mut boards, &retention::confirm(now + HOUR));
    fine(&mut boards, mine(now, 1), 2);
    refused(&mut boards, mine(now + 10 * 365 * DAY, 2), "confirm");
    let measured = 26 * HOUR_MS;
    let later = now + 26 * HOUR;
    refused(&mut boards, mine(later + HOUR + 2_000_000, measured), "confirm");
    fine(&mut boards, mine(later + HOUR - 1_000, measured), 1);
    // Another leader, up for long, has seen how long ago that was.
    let other = |wall_us, more_ms| Tending { start: (2, 9), ..mine(wall_us, measured + more_ms) };
    refused(&mut boards, other(later + 4 * HOUR - 1_000, HOUR_MS), "confirm");
    fine(&mut boards, other(later + 4 * HOUR - 1_000, 2 * HOUR_MS), 1);
    // And one that has just begun, and another that agrees.
    let begun = Tending { start: (3, 1), ..mine(later + 60 * HOUR, 5) };
    refused(&mut boards, begun, "confirm");
    fine(&mut boards, Tending { is_agreed: true, ..begun }, 0);
}

#[test]
fn much_that_is_due_goes_in_several_entries() {
    let mut boards = boards();
    for first in (0..6_000_i64).step_by(1_000) {
        let readings: Vec<_> = (first..first + 1_000).map(|n| (n, 1.0)).collect();
        at(&mut boards, first.unsigned_abs(), "a", &readings);
    }
    rule(&mut boards, "a", Some("1d"), &["1m:1y"]);
    let now = ZERO + 6 * DAY;
    let mut entries = 0;
    while entries < 50 && tend(&mut boards, agreed(now)) > 0 {
        entries += 1;
    }
    assert!((11..50).contains(&entries), "{entries}");
    assert_eq!(boards.one("SELECT count(*) FROM rollup"), Value::Integer(6_000));
    assert_eq!(count(&mut boards), 6_000 - 5 * 1_440 + 1_200, "{entries}");
}

#[test]
fn a_table_of_the_users_in_the_way_is_told_and_nothing_goes() {
    let mut boards = boards();
    boards.fine("CREATE TABLE rollup(a)");
    rule(&mut boards, "a", Some("1d"), &["1m:1y"]);
    at(&mut boards, 0, "a", &[(0, 1.0)]);
    tend_all(&mut boards, agreed(ZERO + 9 * DAY));
    let obstacle = words(&mut boards, "SELECT words FROM _understudy_tending");
    assert!(obstacle.contains("rollup, which readings need"), "{obstacle}");
    boards.fine("DROP TABLE rollup");
    tend_all(&mut boards, agreed(ZERO + 9 * DAY));
    assert_eq!(rolled_up(&mut boards), "1 60 0 1 1.0 1.0 1.0 1.0");
    assert_eq!(count(&mut boards), 0);
}

#[test]
fn years_leave_the_file_as_large_as_it_is_and_cost_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let mut database = Database::open(directory.path(), Options::default()).unwrap();
    let one = |database: &mut Database, requests: &[Vec<u8>]| {
        let applied = database.applied();
        let change = database.execute(applied, requests).unwrap();
        let left = change.answers[0].as_ref().map(|answer| sql::decode::<u64>(answer));
        let left = left.map_or(0, |left| left.unwrap_or(0));
        let (index, data) = (applied.index + 1, change.change);
        database.apply(&[Entry { index, term: 1, kind: EntryKind::Change, data }]).unwrap();
        left
    };
    let first = Entry { index: 1, term: 1, kind: EntryKind::Change, data: Vec::new() };
    database.apply(&[first]).unwrap();
    let rollups = ["1h:30d", "1d:90d"].map(String::from);
    one(&mut database, &[sql::encode(&retention::set("*", Some("2d"), &rollups).unwrap())]);
    let (mut pages, mut bytes) = (Vec::new(), Vec::new());
    let mut number = 0_u64;
    for month in 0..24 {
        let mut written = 0;
        for day in 0..30 {
            let from = ZERO + (30 * month + day) * DAY;
            let readings = (0..48).map(|n| {
                let name = if n % 2 == 0 { "greenhouse/air" } else { "greenhouse/soil" };
                reading(name, from + n * 30 * MINUTE, (n % 7) as f64)
            });
            let work = Work::Store(batch(1, number, (number..).zip(readings).collect()));
            number += 48;
            one(&mut database, &[work.encode()]);
            let tending = Work::Tend(agreed(from + DAY)).encode();
            while one(&mut database, std::slice::from_ref(&tending)) > 0 {}
            if day % 5 == 4 {
                database.commit().unwrap();
                written += std::fs::metadata(directory.path().join("state.db-wal")).unwrap().len();
                database.checkpoint().unwrap();
            }
        }
        bytes.push(written / (30 * 48));
        let count: i64 = database
            .connection
            .query_row("SELECT * FROM pragma_page_count", [], |row| row.get(0))
            .unwrap();
        pages.push(count);
    }
    assert!(pages[23] <= pages[6] + pages[6] / 20, "{pages:?}");
    assert!(bytes[23] <= bytes[6] + bytes[6] / 10, "{bytes:?}");
}
