//! Times of readings that were taken before their board's clock was set: put right by an
//! operation that ships no rows, some at a time, and remembered for readings of that
//! start that come later. The leader goes on with them from what is remembered, whether
//! or not the board whose clock it was still asks for that.
//!
//! The first word about a start counts: what it put right already cannot be told from
//! what had its time from the beginning, and a second word would change the order of
//! what is left.

use rusqlite::{Connection, OptionalExtension as _};
use understudy_core::{
    limits::CLOCK_ROWS_MAX,
    mutant,
    readings::{ClockFix, Operation, UNSET_BELOW, time_unset, unset_of},
};

use super::{late::Late, ledger::Ledger, next_time, put_right, write::is_barred};

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
    let mut entry = Room::default();
    let mut from = has_tables.then_some(i64::MIN);
    while let Some(at) = from
        && entry.left == 0
        && let Some(sensor) = super::next_sensor(connection, at)?
    {
        entry.add(connection, fix, sensor)?;
        from = sensor.checked_add(1);
    }
    if entry.operations.is_empty() && recorded(connection, &fix)?.is_none() {
        entry.operations.push(Operation::Clock { fix, sensor: 0, rows_max: 0 });
    }
    Ok((entry.operations, entry.left))
}

/// What one entry puts right.
#[derive(Default)]
struct Room {
    rows: u32,
    operations: Vec<Operation>,
    /// Rows that are seen to be there beyond that.
    left: u64,
}

impl Room {
    /// Readings of a sensor are to be put right, as many as there is room for; how many
    /// there are, as far as that matters.
    fn add(
        &mut self,
        connection: &Connection,
        fix: ClockFix,
        sensor: i64,
    ) -> rusqlite::Result<u32> {
        let (first, last) = range(&fix);
        let mut rows = connection.prepare_cached(
            "SELECT count(*) FROM (SELECT 1 FROM main.reading WHERE sensor = ?1 \
             AND time BETWEEN ?2 AND ?3 AND board = ?4 AND typeof(time) = 'integer' LIMIT ?5)",
        )?;
        let room = CLOCK_ROWS_MAX - self.rows;
        let board = fix.board.cast_signed();
        let found: u32 =
            rows.query_row((sensor, first, last, board, room + 1), |row| row.get(0))?;
        let rows_max = found.min(room);
        if rows_max > 0 {
            self.operations.push(Operation::Clock { fix, sensor, rows_max });
        }
        self.rows += rows_max;
        self.left += u64::from(found - rows_max);
        Ok(found)
    }
}

/// What the fixes that are remembered have come to.
#[derive(Default)]
pub(super) struct Remaining {
    /// They go on with these.
    pub(super) operations: Vec<Operation>,
    /// Rows that are seen to be left after that.
    pub(super) left: u64,
    /// Of these nothing is left, and nothing comes any more.
    pub(super) done: Vec<(i64, i64)>,
}

/// What is left of fixes whose board asks for them no more: it may have lost its power
/// meanwhile, and its clock with that. What is planned is tried as well, for what users
/// bar stays as it is and would be planned for ever.
pub(super) fn go_on(connection: &Connection, has_tables: bool) -> rusqlite::Result<Remaining> {
    let fixes = all_recorded(connection)?;
    let mut has_rows = vec![false; fixes.len()];
    let mut entry = Room::default();
    let mut from = (has_tables && !fixes.is_empty()).then_some(i64::MIN);
    while let Some(at) = from
        && let Some(sensor) = super::next_sensor(connection, at)?
    {
        from = sensor.checked_add(1);
        // They come before all others.
        let sql = "SELECT EXISTS (SELECT 1 FROM main.reading WHERE sensor = ?1 AND time < ?2)";
        if !connection
            .prepare_cached(sql)?
            .query_row((sensor, UNSET_BELOW), |row| row.get::<_, bool>(0))?
        {
            continue;
        }
        for (fix, has_rows) in fixes.iter().zip(&mut has_rows) {
            *has_rows |= entry.add(connection, *fix, sensor)? > 0;
        }
    }
    let mut remaining = Remaining::default();
    for operation in entry.operations {
        let Operation::Clock { fix, sensor, rows_max } = &operation else { continue };
        if carry_out(connection, fix, *sensor, *rows_max)? > 0 {
            remaining.operations.push(operation);
        }
    }
    if !remaining.operations.is_empty() {
        remaining.left = entry.left;
    }
    for (fix, _) in fixes.iter().zip(has_rows).filter(|(_, has_rows)| !has_rows) {
        let start = Ledger::read(connection, fix.board)?.start();
        if key(fix) < key(&ClockFix { boot: start, ..*fix }) {
            remaining.done.push(key(fix));
        }
    }
    Ok(remaining)
}

fn all_recorded(connection: &Connection) -> rusqlite::Result<Vec<ClockFix>> {
    let sql = "SELECT board, boot, began_us FROM _understudy_clock ORDER BY board, boot";
    let mut select = connection.prepare_cached(sql)?;
    let fixes = select.query_map([], |row| {
        let (board, boot): (i64, i64) = (row.get(0)?, row.get(1)?);
        let (board, boot) = (board.cast_unsigned(), boot.cast_unsigned());
        Ok(ClockFix { board, boot, began_us: row.get(2)? })
    })?;
    fixes.collect()
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

/// These are remembered no longer.
pub(super) fn forget(connection: &Connection, done: &[(i64, i64)]) -> rusqlite::Result<()> {
    let sql = "DELETE FROM _understudy_clock WHERE board = ?1 AND boot = ?2";
    done.iter().try_for_each(|key| connection.prepare_cached(sql)?.execute(*key).map(drop))
}

/// Remembers the word, and puts so many readings of a sensor right, in their order; how
/// many of them could be.
pub(super) fn carry_out(
    connection: &Connection,
    fix: &ClockFix,
    sensor: i64,
    rows_max: u32,
) -> rusqlite::Result<u32> {
    let (board, start) = key(fix);
    let sql = "INSERT OR IGNORE INTO _understudy_clock VALUES (?1, ?2, ?3)";
    connection.prepare_cached(sql)?.execute((board, start, fix.began_us))?;
    if rows_max == 0 {
        return Ok(0);
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
    let mut moved = 0;
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
            Ok(_) => {
                late.note(connection, sensor, at)?;
                moved += 1;
            }
        }
    }
    Ok(moved)
}

#[cfg(test)]
mod tests {
    use understudy_core::{
        readings::{Reading, Tending, Work, first_number},
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

    /// How many rows are left when a leader whose clock is not set has tended; none where
    /// nothing was due.
    fn tend(boards: &mut Boards) -> Option<u64> {
        let tending = Tending { wall_us: None, boot_ms: 5, start: (1, 7), is_agreed: false };
        let answers = run(boards, &[Work::Tend(tending).encode()]);
        answers[0].as_ref().ok().map(|answer| sql::decode(answer).unwrap())
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
        assert_eq!(tend(&mut boards), None, "more of that start may come");
        store(&mut boards, &batch(3, first_number(6), vec![(first_number(6), unset(9, 1.0))]));
        assert_eq!(tend(&mut boards), Some(0));
        let known = boards.one("SELECT count(*) FROM _understudy_clock");
        assert_eq!(known, Value::Integer(0), "nothing of that start comes any more");
        assert_eq!(tend(&mut boards), None);
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

    /// Its board is started anew when the first are put right, and asks no more.
    #[test]
    fn what_a_power_cut_interrupts_the_leader_goes_on_with() {
        let mut boards = boards();
        for (first, sensor) in [(0, "a"), (1_000, "b")] {
            let readings = (0..600).map(|n| reading(sensor, time_unset(5, n), 1.0)).collect();
            store(&mut boards, &batch(3, first_number(5), numbered(first, readings)));
        }
        let theirs = numbered(0, vec![unset(1, 7.0)]);
        store(&mut boards, &batch(2, first_number(5), theirs));
        assert_eq!(tend(&mut boards), None, "no clock is known to be set");
        assert!(put(&mut boards, FIX) > 0);
        let next = first_number(6);
        store(&mut boards, &batch(3, next, vec![(next, reading("a", time_unset(6, 1), 2.0))]));
        boards.databases.rotate_left(1);
        let mut entries = 0;
        while tend(&mut boards).is_some() && entries < 9 {
            entries += 1;
        }
        assert_eq!(entries, 3, "two, and one to forget that start");
        let unset = "SELECT count(*) FROM reading WHERE time < 0";
        assert_eq!((count(&mut boards), boards.one(unset)), (1_202, Value::Integer(2)));
        let known = boards.one("SELECT count(*) FROM _understudy_clock");
        assert_eq!(known, Value::Integer(0));
    }

    #[test]
    fn what_is_barred_for_ever_is_no_reason_for_entries() {
        let mut boards = boards();
        store(&mut boards, &batch(3, first_number(5), numbered(0, vec![unset(1, 1.0)])));
        boards.fine("CREATE UNIQUE INDEX one ON reading(time > 0) WHERE board = 3");
        let right = vec![reading("b", NOON, 3.0)];
        store(&mut boards, &batch(3, first_number(5), numbered(1, right)));
        assert_eq!(put(&mut boards, FIX), 0);
        assert_eq!(tend(&mut boards), None);
        boards.fine("DROP INDEX one");
        assert_eq!(tend(&mut boards), Some(0));
        assert_eq!(boards.one("SELECT min(time) FROM reading"), Value::Integer(NOON));
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
