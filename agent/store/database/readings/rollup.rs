//! What is rolled up of readings, and how rows go: the statements on the tables.

use rusqlite::{Connection, types::ValueRef};
use understudy_core::{mutant, readings::UNSET_BELOW};

use super::next_time;

/// What the numbers of one bucket come to.
pub(super) struct Bucket {
    count: i64,
    least: f64,
    most: f64,
    sum: f64,
    last: f64,
}

impl Bucket {
    /// Of the readings from one time up to another; none where there is no number among
    /// them. And how many there are.
    pub(super) fn of(
        connection: &Connection,
        sensor: i64,
        (from, to): (i64, i64),
    ) -> rusqlite::Result<(Option<Self>, u64)> {
        let mut select = connection.prepare_cached(
            "SELECT value FROM main.reading WHERE sensor = ?1 AND time >= ?2 AND time < ?3 \
             ORDER BY time",
        )?;
        let mut rows = select.query((sensor, from, to))?;
        let (mut bucket, mut looked_at) = (None, 0);
        while let Some(row) = rows.next()? {
            looked_at += 1;
            let value = match row.get_ref(0)? {
                ValueRef::Real(value) => value,
                #[expect(clippy::cast_precision_loss, reason = "a mean is a real anyway")]
                ValueRef::Integer(value) => value as f64,
                ValueRef::Null | ValueRef::Text(_) | ValueRef::Blob(_) => continue,
            };
            let none = Self { count: 0, least: value, most: value, sum: 0.0, last: value };
            let known: &mut Self = bucket.get_or_insert(none);
            known.count += 1;
            (known.least, known.most) = (known.least.min(value), known.most.max(value));
            (known.sum, known.last) = (known.sum + value, value);
        }
        Ok((bucket, looked_at))
    }

    /// Writes it down, in place of what was there.
    pub(super) fn put(
        self,
        connection: &Connection,
        (sensor, width_s, time): (i64, u32, i64),
    ) -> rusqlite::Result<()> {
        #[expect(clippy::cast_precision_loss, reason = "readings of one bucket are few")]
        let mean = self.sum / self.count as f64;
        let count = if mutant::is(82) { "count + ?4" } else { "?4" };
        let sql = format!(
            "INSERT OR ABORT INTO main.rollup(sensor, width, time, count, min, max, mean, last) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT(sensor, width, time) \
             DO UPDATE SET count = {count}, min = ?5, max = ?6, mean = ?7, last = ?8"
        );
        let Self { count, least, most, last, .. } = self;
        let row = (sensor, width_s, time, count, least, most, mean, last);
        connection.prepare_cached(&sql)?.execute(row).map(drop)
    }
}

/// The first time from one up to another that the sensor has a reading at.
pub(super) fn next_reading(
    connection: &Connection,
    sensor: i64,
    (from, to): (i64, i64),
) -> rusqlite::Result<Option<i64>> {
    let sql = "SELECT time FROM main.reading WHERE sensor = ?1 AND time >= ?2 AND time < ?3 \
               ORDER BY time";
    next_time(&mut connection.prepare_cached(sql)?.query((sensor, from, to))?)
}

/// How many rows there are before a time, as far as they may go; and the time of the
/// first that has to stay for that.
pub(super) fn rows_before(
    connection: &Connection,
    (sensor, width_s): (i64, u32),
    before: i64,
    rows_max: u64,
) -> rusqlite::Result<(u64, Option<i64>)> {
    let (table, width) = match width_s {
        0 => ("reading", "AND ?2 = 0"),
        _ => ("rollup", "AND width = ?2"),
    };
    let from = format!(
        "FROM main.{table} WHERE sensor = ?1 {width} AND time >= {UNSET_BELOW} AND time < ?3"
    );
    let count = format!("SELECT count(*) FROM (SELECT 1 {from} LIMIT ?4)");
    let rows_max = i64::try_from(rows_max).unwrap_or(i64::MAX);
    let parameters = (sensor, width_s, before, rows_max);
    let rows: i64 = connection.prepare_cached(&count)?.query_row(parameters, |row| row.get(0))?;
    if rows < rows_max {
        return Ok((rows.cast_unsigned(), None));
    }
    let kept = format!("SELECT time {from} ORDER BY time LIMIT -1 OFFSET ?4");
    let kept = next_time(&mut connection.prepare_cached(&kept)?.query(parameters)?)?;
    Ok((rows.cast_unsigned(), kept))
}

/// Rows of a sensor before this time go, readings or what was rolled up.
pub(super) fn trim(
    connection: &Connection,
    (sensor, width_s): (i64, u32),
    before: i64,
) -> rusqlite::Result<()> {
    let below = if mutant::is(81) { "<=" } else { "<" };
    if width_s > 0 {
        let sql =
            format!("DELETE FROM main.rollup WHERE sensor = ?1 AND width = ?2 AND time {below} ?3");
        return connection.prepare_cached(&sql)?.execute((sensor, width_s, before)).map(drop);
    }
    let sql = format!(
        "DELETE FROM main.reading WHERE sensor = ?1 AND time >= {UNSET_BELOW} AND time {below} ?2"
    );
    connection.prepare_cached(&sql)?.execute((sensor, before))?;
    let sql = "INSERT INTO _understudy_tended VALUES (?1, 0, ?2) \
               ON CONFLICT(sensor, width) DO UPDATE SET until = max(until, ?2)";
    connection.prepare_cached(sql)?.execute((sensor, before)).map(drop)
}
