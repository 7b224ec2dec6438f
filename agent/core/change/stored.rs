//! Readings in an entry, and what is done to readings without naming them.
//!
//! Where the numbers of a batch begin, its floor behind that, sensors nobody knew,
//! numbers that came to nothing, and where there is such, numbers given up and what is
//! remembered of ids; then the readings as rows of one shape, so that
//! several stand column by column: times in milliseconds where all of them are whole
//! ones. Columns at the end that nobody has are left out.

use alloc::{borrow::ToOwned, vec::Vec};

use super::{
    Room, Row, rows,
    varint::{self, Reader, unzigzag, zigzag},
};
use crate::{
    error::ChangeError,
    limits::{BATCH_READINGS_MAX, SENSOR_NAME_BYTES_MAX},
    readings::{ClockFix, Operation, Run, Stored, StoredRow},
    sql::Value,
};

const TRIM: u8 = 0;
const CLOCK: u8 = 1;

/// Columns every reading has: its number, its sensor, time and value.
const COLUMNS_MIN: usize = 4;

/// The others: token, whether its time is far off, id.
const COLUMNS_MAX: usize = 7;

/// A millisecond in the unit of times.
const MS: i64 = 1_000;

/// What stands beside how many sensors are new: numbers were given up, and something
/// is said of ids.
const GIVEN_UP: u64 = 1;
const IDS: u64 = 2;

const OTHER: ChangeError = ChangeError::Malformed("readings of another form");

/// Writes readings.
pub(super) fn write(out: &mut Vec<u8>, stored: &Stored) {
    let all = stored.rows.iter().map(|row| row.number).chain(stored.nothing.iter().copied());
    let first = all.min().unwrap_or(stored.floor);
    varint::write(out, stored.board);
    varint::write(out, first >> 40);
    varint::write(out, first & ((1 << 40) - 1));
    varint::write(out, zigzag(first.wrapping_sub(stored.floor).cast_signed()));
    let has_ids = stored.ids_us.is_some() || stored.ids_before > 0;
    let given_up = if stored.given_up.is_empty() { 0 } else { GIVEN_UP };
    let beside = given_up | if has_ids { IDS } else { 0 };
    varint::write(out, (stored.sensors.len() as u64) << 2 | beside);
    for (sensor, name) in &stored.sensors {
        varint::write(out, zigzag(*sensor));
        varint::write_bytes(out, name.as_bytes());
    }
    varint::write(out, stored.nothing.len() as u64);
    stored.nothing.iter().for_each(|number| varint::write(out, number.wrapping_sub(first)));
    if !stored.given_up.is_empty() {
        write_runs(out, &stored.given_up, first);
    }
    if has_ids {
        varint::write(out, stored.ids_before << 1 | u64::from(stored.ids_us.is_some()));
        stored.ids_us.iter().for_each(|time| varint::write(out, zigzag(*time)));
    }
    let unit = if stored.rows.iter().all(|row| row.time % MS == 0) { MS } else { 1 };
    varint::write(out, (stored.rows.len() as u64) << 1 | u64::from(unit == MS));
    if stored.rows.is_empty() {
        return;
    }
    let width = stored.rows.iter().map(width).max().unwrap_or(COLUMNS_MIN);
    let rows = stored.rows.iter().map(|row| to_row(row, (first, unit), width));
    let rows: Vec<Row> = rows.collect();
    rows::write(out, Some(0), &rows);
}

fn write_runs(out: &mut Vec<u8>, runs: &[Run], first: u64) {
    varint::write(out, runs.len() as u64);
    for run in runs {
        varint::write(out, zigzag(run.first.wrapping_sub(first).cast_signed()));
        varint::write(out, run.step);
        varint::write(out, u64::from(run.count));
    }
}

fn read_runs(reader: &mut Reader<'_>, first: u64) -> Result<Vec<Run>, ChangeError> {
    let mut runs = Vec::new();
    for _ in 0..reader.count(BATCH_READINGS_MAX)? {
        let first = first.wrapping_add(unzigzag(reader.varint()?).cast_unsigned());
        let (step, count) = (reader.varint()?, u32::try_from(reader.varint()?).ok());
        runs.push(Run { first, step, count: count.ok_or(OTHER)? });
    }
    Ok(runs)
}

fn width(row: &StoredRow) -> usize {
    match row {
        StoredRow { id: Some(_), .. } => COLUMNS_MAX,
        StoredRow { is_far: true, .. } => COLUMNS_MAX - 1,
        StoredRow { token: Some(_), .. } => COLUMNS_MAX - 2,
        StoredRow { .. } => COLUMNS_MIN,
    }
}

fn to_row(row: &StoredRow, (first, unit): (u64, i64), width: usize) -> Row {
    let integer = |value: u64| Value::Integer(value.cast_signed());
    let mut columns = Vec::from([
        integer(row.number.wrapping_sub(first)),
        Value::Integer(row.sensor),
        Value::Integer(row.time / unit),
        row.value.clone(),
        row.token.map_or(Value::Null, integer),
        if row.is_far { Value::Integer(1) } else { Value::Null },
        row.id.as_ref().map_or(Value::Null, |id| Value::text(id)),
    ]);
    columns.truncate(width);
    Row::Put { rowid: None, columns }
}

/// Reads what [`write()`] wrote.
pub(super) fn read(reader: &mut Reader<'_>, room: &mut Room) -> Result<Stored, ChangeError> {
    let board = reader.varint()?;
    let (boot, low) = (reader.varint()?, reader.varint()?);
    if boot >= 1 << 24 || low >= 1 << 40 {
        return Err(OTHER);
    }
    let first = boot << 40 | low;
    let floor = first.wrapping_sub(unzigzag(reader.varint()?).cast_unsigned());
    let mut sensors = Vec::new();
    let count = reader.count(4 * BATCH_READINGS_MAX + 3)?;
    let beside = count as u64;
    for _ in 0..count >> 2 {
        let sensor = unzigzag(reader.varint()?);
        let name = core::str::from_utf8(reader.bytes()?).map_err(|_| OTHER)?;
        if name.is_empty() || name.len() > SENSOR_NAME_BYTES_MAX {
            return Err(OTHER);
        }
        sensors.push((sensor, name.to_owned()));
    }
    let mut nothing = Vec::new();
    for _ in 0..reader.count(BATCH_READINGS_MAX)? {
        nothing.push(first.checked_add(reader.varint()?).ok_or(OTHER)?);
    }
    let given_up = if beside & GIVEN_UP == 0 { Vec::new() } else { read_runs(reader, first)? };
    room.take_rows(sensors.len() + nothing.len() + given_up.len(), 1)?;
    let (mut ids_before, mut ids_us) = (0, None);
    if beside & IDS != 0 {
        let before = reader.varint()?;
        let time = (before & 1 == 1).then(|| reader.varint().map(unzigzag)).transpose()?;
        (ids_before, ids_us) = (before >> 1, time);
    }
    let count = reader.count(2 * BATCH_READINGS_MAX + 1)?;
    let (count, unit) = (count >> 1, if count & 1 == 1 { MS } else { 1 });
    let rows = if count == 0 { Vec::new() } else { rows::read_alone(reader, room)? };
    if rows.len() != count {
        return Err(OTHER);
    }
    let rows = rows.into_iter().map(|row| from_row(row, (first, unit))).collect::<Option<_>>();
    let rows = rows.ok_or(OTHER)?;
    Ok(Stored { board, floor, sensors, rows, nothing, given_up, ids_us, ids_before })
}

fn from_row(row: Row, (first, unit): (u64, i64)) -> Option<StoredRow> {
    let Row::Put { rowid: None, columns } = row else { return None };
    if !(COLUMNS_MIN..=COLUMNS_MAX).contains(&columns.len()) {
        return None;
    }
    let mut columns = columns.into_iter();
    let mut next = || columns.next().unwrap_or(Value::Null);
    let integer = |value: &Value| match value {
        Value::Integer(value) => Some(*value),
        Value::Null | Value::Real(_) | Value::Text(_) | Value::Blob(_) => None,
    };
    let optional = |value: Value| match &value {
        Value::Null => Some(None),
        Value::Integer(value) => Some(Some(value.cast_unsigned())),
        Value::Real(_) | Value::Text(_) | Value::Blob(_) => None,
    };
    let number = first.checked_add(u64::try_from(integer(&next())?).ok()?)?;
    let (sensor, time, value) = (integer(&next())?, integer(&next())?, next());
    let time = time.checked_mul(unit)?;
    let (token, is_far) = (optional(next())?, optional(next())?.is_some());
    let id = match next() {
        Value::Null => None,
        Value::Text(id) => Some(alloc::string::String::from_utf8(id).ok()?),
        Value::Integer(_) | Value::Real(_) | Value::Blob(_) => return None,
    };
    Some(StoredRow { number, sensor, time, value, id, token, is_far })
}

/// Writes an operation.
pub(super) fn write_operation(out: &mut Vec<u8>, operation: &Operation) {
    match operation {
        Operation::Trim { sensor, width_s, before } => {
            out.push(TRIM);
            varint::write(out, zigzag(*sensor));
            varint::write(out, u64::from(*width_s));
            varint::write(out, zigzag(*before));
        }
        Operation::Clock { fix, sensor, rows_max } => {
            out.push(CLOCK);
            varint::write(out, fix.board);
            varint::write(out, fix.boot);
            varint::write(out, zigzag(fix.began_us));
            varint::write(out, zigzag(*sensor));
            varint::write(out, u64::from(*rows_max));
        }
    }
}

/// Reads what [`write_operation`] wrote.
pub(super) fn read_operation(reader: &mut Reader<'_>) -> Result<Operation, ChangeError> {
    let small = |value: u64| u32::try_from(value).map_err(|_| OTHER);
    match reader.byte()? {
        TRIM => Ok(Operation::Trim {
            sensor: unzigzag(reader.varint()?),
            width_s: small(reader.varint()?)?,
            before: unzigzag(reader.varint()?),
        }),
        CLOCK => {
            let (board, boot) = (reader.varint()?, reader.varint()?);
            let fix = ClockFix { board, boot, began_us: unzigzag(reader.varint()?) };
            let sensor = unzigzag(reader.varint()?);
            Ok(Operation::Clock { fix, sensor, rows_max: small(reader.varint()?)? })
        }
        _ => Err(ChangeError::Malformed("an unknown operation")),
    }
}
