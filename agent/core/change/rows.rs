//! Neighbouring rows of one table and one shape: what they are and which table; the
//! shape; their number if there are several; which columns changed, of updates; rowids;
//! values.

use alloc::vec::Vec;

use super::{
    Room, Row, Segment, column,
    context::{Context, Contexts},
    scalar,
    varint::{self, Reader},
};
use crate::{error::ChangeError, limits::CHANGE_CELLS_MAX, sql::Value};

const PUT: u8 = 1;
const DELETE: u8 = 2;
const UPDATE: u8 = 3;
pub(super) const KIND_MASK: u8 = 3;

/// More than one row.
const MANY: u8 = 4;

/// From here on the table's place.
const TABLE_SHIFT: u32 = 3;
/// Further rows of the segment before.
const TABLE_AS_BEFORE: u8 = 30;
/// Its place stands behind.
const TABLE_BEHIND: u8 = 31;

/// SQLite's own bound on a table's columns.
const COLUMNS_MAX: usize = 32_767;

/// May these stand in one block?
pub(super) fn is_same_shape(one: &Row, other: &Row) -> bool {
    let (one_kind, one_width, one_changed) = shape(one);
    let (other_kind, other_width, other_changed) = shape(other);
    one_kind == other_kind
        && one_width == other_width
        && one.rowid().is_some() == other.rowid().is_some()
        && one_changed.len() == other_changed.len()
        && one_changed.iter().zip(other_changed).all(|(one, other)| one.0 == other.0)
}

/// Kind, columns of the row or its key, changed columns.
fn shape(row: &Row) -> (u8, usize, &[(u16, Value)]) {
    match row {
        Row::Put { columns, .. } => (PUT, columns.len(), &[]),
        Row::Delete { key, .. } => (DELETE, key.len(), &[]),
        Row::Update { key, changed, .. } => (UPDATE, key.len(), changed),
    }
}

/// A row's values in the order in which they are written.
fn value(row: &Row, at: usize) -> &Value {
    match row {
        Row::Put { columns: values, .. } | Row::Delete { key: values, .. } => &values[at],
        Row::Update { key, changed, .. } => match key.get(at) {
            Some(value) => value,
            None => &changed[at - key.len()].1,
        },
    }
}

/// Writes rows; of the table of the block before where none is given.
pub(super) fn write(out: &mut Vec<u8>, table: Option<u32>, rows: &[Row]) {
    let (kind, width, changed) = shape(&rows[0]);
    let has_rowid = rows[0].rowid().is_some();
    let many = if rows.len() > 1 { MANY } else { 0 };
    let near = match table {
        None => TABLE_AS_BEFORE,
        Some(table) => {
            u8::try_from(table).ok().filter(|t| *t < TABLE_AS_BEFORE).unwrap_or(TABLE_BEHIND)
        }
    };
    out.push(kind | many | near << TABLE_SHIFT);
    if near == TABLE_BEHIND {
        varint::write(out, u64::from(table.unwrap_or(0)));
    }
    assert!(width + changed.len() <= COLUMNS_MAX, "no table has so many columns");
    varint::write(out, (width as u64) << 1 | u64::from(has_rowid));
    if rows.len() > 1 {
        varint::write(out, rows.len() as u64);
    }
    if kind == UPDATE {
        write_places(out, changed);
    }
    let width = width + changed.len();
    match rows {
        [row] => write_one(out, row, width),
        _ => write_many(out, rows, width, has_rowid),
    }
}

fn write_one(out: &mut Vec<u8>, row: &Row, width: usize) {
    if let Some(rowid) = row.rowid() {
        scalar::write(out, &Value::Integer(rowid));
    }
    (0..width).for_each(|at| scalar::write(out, value(row, at)));
}

fn write_many(out: &mut Vec<u8>, rows: &[Row], width: usize, has_rowid: bool) {
    if has_rowid {
        let rowids: Vec<i64> = rows.iter().filter_map(Row::rowid).collect();
        column::write_rowids(out, &rowids);
    }
    let mut contexts = Vec::new();
    for at in 0..width {
        let values: Vec<&Value> = rows.iter().map(|row| value(row, at)).collect();
        column::write(out, &values, &contexts);
        if at + 1 < width {
            Context::note(&mut contexts, at, &values);
        }
    }
}

/// Seven places a byte, lowest first; the upper bit says that more follow.
fn write_places(out: &mut Vec<u8>, changed: &[(u16, Value)]) {
    assert!(changed.windows(2).all(|pair| pair[0].0 < pair[1].0), "changed columns ascend");
    let last = changed.last().map_or(0, |(place, _)| usize::from(*place) / 7);
    let mut groups = alloc::vec![0x80_u8; last + 1];
    groups[last] = 0;
    for (place, _) in changed {
        groups[usize::from(*place) / 7] |= 1 << (place % 7);
    }
    out.extend(groups);
}

fn read_places(reader: &mut Reader<'_>) -> Result<Vec<u16>, ChangeError> {
    let mut places = Vec::new();
    for group in 0_u16.. {
        let byte = reader.byte()?;
        let base = group.checked_mul(7).filter(|base| usize::from(*base) < COLUMNS_MAX);
        let base = base.ok_or(ChangeError::Malformed("more columns than a table may have"))?;
        places.extend((0..7).filter(|bit| byte & 1 << bit != 0).map(|bit| base + bit));
        if byte & 0x80 == 0 {
            break;
        }
    }
    Ok(places)
}

/// Reads a block that begins with `head` and appends it to the segments before.
pub(super) fn read(
    reader: &mut Reader<'_>,
    head: u8,
    room: &mut Room,
    segments: &mut Vec<Segment>,
) -> Result<(), ChangeError> {
    match head >> TABLE_SHIFT {
        TABLE_AS_BEFORE => match segments.last_mut() {
            Some(Segment::Rows { rows, .. }) => rows.extend(read_rows(reader, head, room)?),
            Some(Segment::Schema(_) | Segment::Readings(_) | Segment::Operation(_)) | None => {
                return Err(ChangeError::Malformed("more rows of no table"));
            }
        },
        near => {
            let table = match near {
                TABLE_BEHIND => u32::try_from(reader.varint()?)
                    .map_err(|_| ChangeError::Malformed("a table beyond all bounds"))?,
                near => u32::from(near),
            };
            segments.push(Segment::Rows { table, rows: read_rows(reader, head, room)? });
        }
    }
    Ok(())
}

/// Reads one block of rows, whatever table it names.
pub(super) fn read_alone(
    reader: &mut Reader<'_>,
    room: &mut Room,
) -> Result<Vec<Row>, ChangeError> {
    match reader.byte()? {
        head if head & KIND_MASK == PUT && head >> TABLE_SHIFT == 0 => {
            read_rows(reader, head, room)
        }
        _ => Err(ChangeError::Malformed("an unknown kind of block")),
    }
}

fn read_rows(reader: &mut Reader<'_>, head: u8, room: &mut Room) -> Result<Vec<Row>, ChangeError> {
    let shape = reader.varint()?;
    let has_rowid = shape & 1 != 0;
    let width = usize::try_from(shape >> 1).unwrap_or(usize::MAX);
    if width > COLUMNS_MAX {
        return Err(ChangeError::Malformed("more columns than a table may have"));
    }
    let count = if head & MANY == 0 { 1 } else { reader.count(CHANGE_CELLS_MAX)? };
    if count == 0 {
        return Err(ChangeError::Malformed("a block of no rows"));
    }
    let kind = head & KIND_MASK;
    let places = if kind == UPDATE { read_places(reader)? } else { Vec::new() };
    let all = width + places.len();
    room.take_rows(count, all)?;
    let (rowids, values) = match head & MANY {
        0 => read_one(reader, all, has_rowid)?,
        _ => read_many(reader, count, all, has_rowid, room)?,
    };
    let mut rowids = rowids.into_iter();
    let row = |mut values: Vec<Value>| {
        let rowid = rowids.next();
        match kind {
            PUT => Row::Put { rowid, columns: values },
            DELETE => Row::Delete { rowid, key: values },
            _ => {
                let changed = places.iter().copied().zip(values.drain(width..)).collect();
                Row::Update { rowid, key: values, changed }
            }
        }
    };
    Ok(values.into_iter().map(row).collect())
}

/// Rowids, if there are any, and rows of values.
type Values = (Vec<i64>, Vec<Vec<Value>>);

fn read_one(reader: &mut Reader<'_>, width: usize, has_rowid: bool) -> Result<Values, ChangeError> {
    let rowids = match has_rowid.then(|| scalar::read(reader)).transpose()? {
        None => Vec::new(),
        Some(Value::Integer(rowid)) => Vec::from([rowid]),
        Some(Value::Null | Value::Real(_) | Value::Text(_) | Value::Blob(_)) => {
            return Err(ChangeError::Malformed("a rowid that is no integer"));
        }
    };
    let values = (0..width).map(|_| scalar::read(reader)).collect::<Result<_, _>>()?;
    Ok((rowids, Vec::from([values])))
}

fn read_many(
    reader: &mut Reader<'_>,
    count: usize,
    width: usize,
    has_rowid: bool,
    room: &mut Room,
) -> Result<Values, ChangeError> {
    let rowids = if has_rowid { column::read_rowids(reader, count)? } else { Vec::new() };
    let mut rows: Vec<Vec<Value>> = (0..count).map(|_| Vec::with_capacity(width)).collect();
    let mut known = Vec::new();
    for _ in 0..width {
        let values = column::read(reader, count, &mut Contexts::new(&rows, &mut known), room)?;
        for (row, value) in rows.iter_mut().zip(values) {
            row.push(value);
        }
    }
    Ok((rowids, rows))
}
