//! Times of readings that were taken before their board's clock was set: put right by an
//! operation that ships no rows, some at a time, and remembered for readings of that
//! start that come later.
//!
//! The first word about a start counts: what it put right already cannot be told from
//! what had its time from the beginning, and a second word would change the order of
//! what is left.

use rusqlite::{Connection, OptionalExtension as _};
use understudy_core::{
    limits::CLOCK_ROWS_MAX,
    mutant,
    readings::{ClockFix, Operation, time_unset, unset_of},
};

use super::{late::Late, next_time, put_right, write::is_barred};

/// Is this no moment of any clock?
pub(super) const fn is_absurd(fix: &ClockFix) -> bool {
    unset_of(fix.began_us).is_some() || fix.began_us > i64::MAX / 2
}

/// The first and the last time that a reading of this start can have.
const fn range(fix: &ClockFix) -> (i64, i64) {
    (time_unset(fix.boot, 0), time_unset(fix.boot, u64::MAX))
}

/// Board and start, as they are remembered: starts as far as times tell them apart.
const fn key(fix: &ClockFix) -> (i64, i64) {
    let start = match unset_of(range(fix).0) {
        Some((start, _)) => start,
        None => fix.boot,
    };
    (fix.board.cast_signed(), start.cast_signed())
}

/// What is to be done about them, and how many rows are seen to be left after that.
pub(super) fn plan(
    connection: &Connection,
    fix: ClockFix,
    has_tables: bool,
) -> rusqlite::Result<(Vec<Operation>, u64)> {
    let mut room = CLOCK_ROWS_MAX;
    let mut operations = Vec::new();
    if has_tables {
        let (first, last) = range(&fix);
        let mut rows = connection.prepare_cached(
            "SELECT count(*) FROM (SELECT 1 FROM main.reading WHERE sensor = ?1 \
             AND time BETWEEN ?2 AND ?3 AND board = ?4 LIMIT ?5)",
        )?;
        let mut from = Some(i64::MIN);
        while let Some(at) = from
            && let Some(sensor) = super::next_sensor(connection, at)?
        {
            let board = fix.board.cast_signed();
            let found: u32 =
                rows.query_row((sensor, first, last, board, room + 1), |row| row.get(0))?;
            if found > 0 && room > 0 {
                let rows_max = found.min(room);
                operations.push(Operation::Clock { fix, sensor, rows_max });
            }
            if found > room {
                return Ok((operations, u64::from(found - room)));
            }
            room -= found;
            from = sensor.checked_add(1);
        }
    }
    if operations.is_empty() && recorded(connection, &fix)?.is_none() {
        operations.push(Operation::Clock { fix, sensor: 0, rows_max: 0 });
    }
    Ok((operations, 0))
}

/// When the start began, by the first word about it.
fn recorded(connection: &Connection, fix: &ClockFix) -> rusqlite::Result<Option<i64>> {
    let sql = "SELECT began_us FROM _understudy_clock WHERE board = ?1 AND boot = ?2";
    connection.prepare_cached(sql)?.query_row(key(fix), |row| row.get(0)).optional()
}

/// When a start began that the time of a reading names.
pub(super) fn began(
    connection: &Connection,
    board: u64,
    start: u64,
) -> rusqlite::Result<Option<i64>> {
    recorded(connection, &ClockFix { board, boot: start, began_us: 0 })
}

/// Of earlier starts than this nothing comes any more that would have to be put right.
pub(super) fn forget(connection: &Connection, board: u64, start: u64) -> rusqlite::Result<()> {
    let (board, start) = key(&ClockFix { board, boot: start, began_us: 0 });
    let sql = "DELETE FROM _understudy_clock WHERE board = ?1 AND boot < ?2";
    connection.prepare_cached(sql)?.execute((board, start)).map(drop)
}

/// Remembers the word, and puts so many readings of a sensor right, in their order.
pub(super) fn carry_out(
    connection: &Connection,
    fix: &ClockFix,
    sensor: i64,
    rows_max: u32,
) -> rusqlite::Result<()> {
    let (board, start) = key(fix);
    let sql = "INSERT OR IGNORE INTO _understudy_clock VALUES (?1, ?2, ?3)";
    connection.prepare_cached(sql)?.execute((board, start, fix.began_us))?;
    if rows_max == 0 {
        return Ok(());
    }
    let began_us = recorded(connection, fix)?.unwrap_or(fix.began_us);
    let (first, last) = range(fix);
    let times: Vec<i64> = connection
        .prepare_cached(
            "SELECT time FROM main.reading WHERE sensor = ?1 AND time BETWEEN ?2 AND ?3 \
             AND board = ?4 AND typeof(time) = 'integer' ORDER BY time LIMIT ?5",
        )?
        .query_map((sensor, first, last, board, rows_max), |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    let mut there = connection.prepare_cached(
        "SELECT time FROM main.reading WHERE sensor = ?1 AND time >= ?2 ORDER BY time",
    )?;
    let mut update = connection.prepare_cached(match mutant::is(83) {
        false => "UPDATE OR ABORT main.reading SET time = ?3 WHERE sensor = ?1 AND time = ?2",
        true => {
            "INSERT INTO main.reading SELECT sensor, ?3, value, board, token, flag \
             FROM main.reading WHERE sensor = ?1 AND time = ?2"
        }
    })?;
    let mut late = Late::default();
    let mut free_from = i64::MIN;
    for time in times {
        let Some((_, ms)) = unset_of(time) else { continue };
        let mut at = put_right(began_us, ms).max(free_from);
        let mut rows = there.query((sensor, at))?;
        while next_time(&mut rows)? == Some(at) {
            at += 1;
        }
        drop(rows);
        free_from = at + 1;
        match update.execute((sensor, time, at)) {
            Err(error) if !is_barred(&error) => return Err(error),
            // What something of the users' bars stays as it is, on all boards alike.
            Err(_) => {}
            Ok(_) => late.note(connection, sensor, at)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use understudy_core::{
        readings::{Reading, Work, first_number},
        sql::{self, Value},
    };

    use super::{
        super::tests::{NOON, all, batch, boards, count, reading, run, store},
        *,
    };
    use crate::store::database::tests::Boards;

    const FIX: ClockFix = ClockFix { board: 3, boot: 5, began_us: NOON };

    fn unset(ms: u64, value: f64) -> Reading {
        reading("a", time_unset(5, ms), value)
    }

    fn numbered(first: u64, readings: Vec<Reading>) -> Vec<(u64, Reading)> {
        (first_number(5) + first..).zip(readings).collect()
    }

    /// How many rows may be left.
    fn put(boards: &mut Boards, fix: ClockFix) -> u64 {
        let answers = run(boards, &[Work::Clock(fix).encode()]);
        sql::decode(answers[0].as_ref().unwrap()).unwrap()
    }

    #[test]
    fn a_clock_that_is_set_puts_its_own_readings_of_that_start_right_once() {
        let mut boards = boards();
        let floor = first_number(5);
        let other_start = reading("a", time_unset(4, 9), 8.0);
        let mine = vec![unset(2, 2.0), unset(2, 3.0), unset(1, 1.0), other_start];
        store(&mut boards, &batch(3, floor, numbered(0, mine)));
        let theirs = vec![unset(1, 7.0), reading("a", NOON + 2_000, 4.0)];
        store(&mut boards, &batch(2, floor, numbered(0, theirs)));
        assert_eq!(put(&mut boards, FIX), 0);
        let right = format!(
            "a@{}=8.0 a@{}=7.0 a@{}=1.0 a@{}=4.0 a@{}=2.0 a@{}=3.0",
            time_unset(4, 9),
            time_unset(5, 4),
            NOON + 1_000,
            NOON + 2_000,
            NOON + 2_001,
            NOON + 3_000
        );
        assert_eq!(all(&mut boards), right);
        assert_eq!(put(&mut boards, FIX), 0);
        assert_eq!(put(&mut boards, ClockFix { began_us: NOON + 7, ..FIX }), 0);
        assert_eq!(all(&mut boards), right, "asked again nothing moves");
    }

    #[test]
    fn what_comes_late_has_its_time_from_the_beginning() {
        let mut boards = boards();
        let floor = first_number(5);
        assert_eq!(put(&mut boards, FIX), 0, "before there is any reading");
        assert_eq!(put(&mut boards, ClockFix { began_us: 5, ..FIX }), 0, "the first word counts");
        let late = numbered(0, vec![unset(2, 2.0), unset(2, 3.0), unset(1, 1.0)]);
        store(&mut boards, &batch(3, floor, late.clone()));
        let others = vec![unset(1, 7.0), reading("a", time_unset(6, 1), 9.0)];
        store(&mut boards, &batch(2, floor, numbered(0, others)));
        store(&mut boards, &batch(3, floor, late));
        let expected = format!(
            "a@{}=7.0 a@{}=9.0 a@{}=1.0 a@{}=2.0 a@{}=3.0",
            time_unset(5, 1),
            time_unset(6, 1),
            NOON + 1_000,
            NOON + 2_000,
            NOON + 2_001
        );
        assert_eq!(all(&mut boards), expected);
        let known = boards.one("SELECT count(*) FROM _understudy_clock");
        assert_eq!(known, Value::Integer(1));
        store(&mut boards, &batch(3, first_number(6), vec![(first_number(6), unset(9, 1.0))]));
        let known = boards.one("SELECT count(*) FROM _understudy_clock");
        assert_eq!(known, Value::Integer(0), "nothing of that start comes any more");
    }

    #[test]
    fn many_readings_are_put_right_some_at_a_time() {
        let mut boards = boards();
        let most = u64::from(CLOCK_ROWS_MAX);
        for (first, sensor) in [(0, "a"), (1_000, "b")] {
            let readings = (0..600).map(|n| reading(sensor, time_unset(5, n), 1.0)).collect();
            store(&mut boards, &batch(3, first_number(5), numbered(first, readings)));
        }
        let mut left = Vec::new();
        while left.len() < 5 && left.last() != Some(&0) {
            left.push(put(&mut boards, FIX));
        }
        assert_eq!(left.len() as u64, 1_200_u64.div_ceil(most), "{left:?}");
        assert_eq!(count(&mut boards), 1_200);
        let right = "SELECT count(*) FROM reading WHERE time >= 0 GROUP BY sensor";
        assert_eq!(boards.one(right), Value::Integer(600));
    }

    #[test]
    fn what_users_do_to_the_table_bars_no_other_row() {
        let mut boards = boards();
        let readings = vec![unset(1, 1.0), unset(2, 2.0), reading("b", NOON + 1_000, 3.0)];
        store(&mut boards, &batch(3, first_number(5), numbered(0, readings)));
        boards.fine("CREATE UNIQUE INDEX one ON reading(time)");
        boards.fine("INSERT INTO reading(sensor, time, value) VALUES (1, 'words', 0)");
        boards
            .fine("CREATE TRIGGER t BEFORE UPDATE ON reading BEGIN SELECT RAISE(ABORT, 'no'); END");
        assert_eq!(put(&mut boards, FIX), 0);
        let moved = boards.one(&format!("SELECT value FROM reading WHERE time = {}", NOON + 2_000));
        assert_eq!(moved, Value::Real(2.0));
        assert_eq!(count(&mut boards), 4);
    }

    #[test]
    fn no_clock_says_what_is_no_time() {
        let mut boards = boards();
        for began_us in [i64::MIN, i64::MAX, time_unset(1, 1)] {
            let work = Work::Clock(ClockFix { began_us, ..FIX }).encode();
            assert!(run(&mut boards, &[work])[0].is_err());
        }
    }
}
