//! A replicated change: what one batch did to schema and rows, in very few bytes.
//!
//! The bytes (version 1): the version; the base as two varints; the number of
//! segments; then each segment. Within a rows segment values stand column by
//! column, each column in the cheapest of a few forms (`column`): integers as
//! they are, as differences, or once; reals as short decimals where that is
//! exact to the bit; texts once, then by reference. A table is named by a hash
//! over its name, columns and key, so that a board whose schema differs stops
//! instead of guessing.
//!
//! Invariants: decoding never panics, never allocates beyond the bounds, and
//! takes all of the bytes; what was encoded decodes to the same bits.
//!
//! Left out: integrity. The seal and the journal's checksum answer for that.

use alloc::{string::String, vec::Vec};

use crate::{
    error::ChangeError,
    event::Position,
    limits::{CHANGE_CELLS_MAX, ENTRY_BYTES_MAX},
    sql::Value,
};

mod column;
mod varint;

use varint::Reader;

/// First byte of every change.
pub const CHANGE_VERSION: u8 = 1;

/// What one batch did, in order, bound to the state it was executed on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// The last entry applied where it was executed. Applied after anything
    /// else, or in another term, it is skipped.
    pub base: Position,
    /// In order.
    pub segments: Vec<Segment>,
}

/// Rows or schema; order between segments matters, within rows it is kept too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment {
    /// A schema statement, to be executed as it stands.
    Schema(String),
    /// Rows of one table.
    Rows {
        /// Hash over the table's name, its ordered columns and its key.
        table: u32,
        /// In order, all of one shape.
        rows: Vec<Row>,
    },
}

/// One row afterwards, or its absence. Rowid tables are addressed by rowid;
/// WITHOUT ROWID tables by their key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Row {
    /// The row is now exactly this: insert it, or replace what the identity holds.
    Put {
        /// Of a rowid table.
        rowid: Option<i64>,
        /// Stored columns in order: generated ones and a column that is the rowid
        /// itself are left out.
        columns: Vec<Value>,
    },
    /// The row is gone.
    Delete {
        /// Of a rowid table.
        rowid: Option<i64>,
        /// Key values of a WITHOUT ROWID table, else empty.
        key: Vec<Value>,
    },
}

impl Row {
    const fn rowid(&self) -> Option<i64> {
        match self {
            Self::Put { rowid, .. } | Self::Delete { rowid, .. } => *rowid,
        }
    }

    const fn is_put(&self) -> bool {
        matches!(self, Self::Put { .. })
    }

    fn values(&self) -> &[Value] {
        match self {
            Self::Put { columns, .. } => columns,
            Self::Delete { key, .. } => key,
        }
    }
}

const SCHEMA: u8 = 0;
const ROWS: u8 = 1;

/// Bits of a rows segment's first byte, above its kind.
const HAS_ROWIDS: u8 = 2;
const HAS_PUTS: u8 = 4;
const HAS_DELETES: u8 = 8;
const IS_SINGLE: u8 = 16;

impl Change {
    /// The bytes that are journalled, sent and hashed.
    ///
    /// # Panics
    /// When the rows of one segment are not of one shape.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::from([CHANGE_VERSION]);
        varint::write(&mut out, self.base.term);
        varint::write(&mut out, self.base.index);
        varint::write(&mut out, self.segments.len() as u64);
        for segment in &self.segments {
            match segment {
                Segment::Schema(sql) => {
                    out.push(SCHEMA);
                    varint::write_bytes(&mut out, sql.as_bytes());
                }
                Segment::Rows { table, rows } => encode_rows(&mut out, *table, rows),
            }
        }
        out
    }

    /// Reads what [`Change::encode`] wrote.
    ///
    /// # Errors
    /// [`ChangeError::Malformed`] names what does not fit.
    pub fn decode(bytes: &[u8]) -> Result<Self, ChangeError> {
        if bytes.len() > ENTRY_BYTES_MAX {
            return Err(ChangeError::Malformed("larger than an entry may be"));
        }
        let mut reader = Reader::new(bytes);
        let base = decode_base(&mut reader)?;
        let count = reader.count(bytes.len())?;
        let mut cells = CHANGE_CELLS_MAX;
        let mut segments = Vec::new();
        for _ in 0..count {
            segments.push(decode_segment(&mut reader, &mut cells)?);
        }
        reader.finish()?;
        Ok(Self { base, segments })
    }

    /// The base alone: enough to know whether the change is to be applied.
    ///
    /// # Errors
    /// As [`Change::decode`].
    pub fn decode_base(bytes: &[u8]) -> Result<Position, ChangeError> {
        decode_base(&mut Reader::new(bytes))
    }
}

fn decode_base(reader: &mut Reader<'_>) -> Result<Position, ChangeError> {
    if reader.byte()? != CHANGE_VERSION {
        return Err(ChangeError::Malformed("of another version"));
    }
    Ok(Position { term: reader.varint()?, index: reader.varint()? })
}

fn decode_segment(reader: &mut Reader<'_>, cells: &mut usize) -> Result<Segment, ChangeError> {
    let head = reader.byte()?;
    if head == SCHEMA {
        let sql = String::from_utf8(reader.bytes()?.to_vec())
            .map_err(|_| ChangeError::Malformed("a schema statement is not UTF-8"))?;
        return Ok(Segment::Schema(sql));
    }
    if head & ROWS == 0 || head & !(ROWS | HAS_ROWIDS | HAS_PUTS | HAS_DELETES | IS_SINGLE) != 0 {
        return Err(ChangeError::Malformed("an unknown kind of segment"));
    }
    decode_rows(reader, head, cells)
}

fn encode_rows(out: &mut Vec<u8>, table: u32, rows: &[Row]) {
    let (puts, deletes): (Vec<&Row>, Vec<&Row>) = rows.iter().partition(|row| row.is_put());
    let has_rowids = rows.first().is_some_and(|row| row.rowid().is_some());
    let flag = |is: bool, bit: u8| if is { bit } else { 0 };
    out.push(
        ROWS | flag(has_rowids, HAS_ROWIDS)
            | flag(!puts.is_empty(), HAS_PUTS)
            | flag(!deletes.is_empty(), HAS_DELETES)
            | flag(rows.len() == 1, IS_SINGLE),
    );
    out.extend(table.to_le_bytes());
    if rows.len() != 1 {
        varint::write(out, rows.len() as u64);
    }
    if !puts.is_empty() && !deletes.is_empty() {
        encode_kinds(out, rows);
    }
    if has_rowids {
        let rowids: Vec<i64> =
            rows.iter().map(|row| row.rowid().expect("rows of one shape")).collect();
        column::write_integers(out, &rowids);
    }
    encode_block(out, &puts);
    if !has_rowids {
        encode_block(out, &deletes);
    }
}

/// Which rows are puts, as the lengths of alternating runs, puts first.
fn encode_kinds(out: &mut Vec<u8>, rows: &[Row]) {
    let mut put = true;
    let mut rest = rows;
    while !rest.is_empty() {
        let run = rest.iter().take_while(|row| row.is_put() == put).count();
        varint::write(out, run as u64);
        rest = &rest[run..];
        put = !put;
    }
}

fn encode_block(out: &mut Vec<u8>, rows: &[&Row]) {
    let Some(first) = rows.first() else { return };
    let width = first.values().len();
    assert!(rows.iter().all(|row| row.values().len() == width), "rows of one shape");
    varint::write(out, width as u64);
    for place in 0..width {
        let values: Vec<&Value> = rows.iter().map(|row| &row.values()[place]).collect();
        column::write(out, &values);
    }
}

fn decode_rows(
    reader: &mut Reader<'_>,
    head: u8,
    cells: &mut usize,
) -> Result<Segment, ChangeError> {
    let table = reader.u32()?;
    let count = if head & IS_SINGLE == 0 { reader.count(CHANGE_CELLS_MAX)? } else { 1 };
    spend(cells, count)?;
    let kinds = decode_kinds(reader, head, count)?;
    let puts = kinds.iter().filter(|put| **put).count();
    let has_rowids = head & HAS_ROWIDS != 0;
    let rowids = if has_rowids { column::read_integers(reader, count)? } else { Vec::new() };
    let mut columns = decode_block(reader, puts, cells)?;
    let deletes = if has_rowids { 0 } else { count - puts };
    let mut keys = decode_block(reader, deletes, cells)?;
    let rows = kinds.into_iter().enumerate().map(|(place, put)| {
        let rowid = rowids.get(place).copied();
        if put {
            Row::Put { rowid, columns: columns.next().unwrap_or_default() }
        } else {
            Row::Delete { rowid, key: keys.next().unwrap_or_default() }
        }
    });
    Ok(Segment::Rows { table, rows: rows.collect() })
}

fn decode_kinds(reader: &mut Reader<'_>, head: u8, count: usize) -> Result<Vec<bool>, ChangeError> {
    if head & HAS_PUTS == 0 || head & HAS_DELETES == 0 {
        return Ok(alloc::vec![head & HAS_PUTS != 0; count]);
    }
    let mut kinds = Vec::new();
    let mut put = true;
    while kinds.len() < count {
        let run = reader.count(count - kinds.len())?;
        if run == 0 && !kinds.is_empty() {
            return Err(ChangeError::Malformed("an empty run of rows"));
        }
        kinds.resize(kinds.len() + run, put);
        put = !put;
    }
    Ok(kinds)
}

/// Reads `count` rows standing column by column.
fn decode_block(
    reader: &mut Reader<'_>,
    count: usize,
    cells: &mut usize,
) -> Result<alloc::vec::IntoIter<Vec<Value>>, ChangeError> {
    if count == 0 {
        return Ok(Vec::new().into_iter());
    }
    let width = reader.count(COLUMNS_MAX)?;
    spend(cells, width.saturating_mul(count))?;
    let mut rows: Vec<Vec<Value>> = (0..count).map(|_| Vec::with_capacity(width)).collect();
    for _ in 0..width {
        for (row, value) in rows.iter_mut().zip(column::read(reader, count)?) {
            row.push(value);
        }
    }
    Ok(rows.into_iter())
}

/// SQLite's own bound on a table's columns.
const COLUMNS_MAX: usize = 32_767;

fn spend(cells: &mut usize, spent: usize) -> Result<(), ChangeError> {
    *cells = cells
        .checked_sub(spent)
        .ok_or(ChangeError::Malformed("more values than a change may hold"))?;
    Ok(())
}

#[cfg(test)]
mod tests;
