//! A replicated change: what one batch did to schema and rows, in very few bytes.
//!
//! The bytes (version 2): the version and the number of blocks; where it was
//! executed, as the low bytes of term and index; the schema's fingerprint; then
//! the blocks. A block is a schema statement, rows of one table and one shape,
//! readings (`stored`), or an operation on them.
//! A row alone stands value by value (`scalar`), several column by column
//! (`column`), each column guessed from what came before and only the error
//! written (`integers`, `context`). What the schema says stands nowhere: a table
//! is named by its place, and the fingerprint makes a board whose schema differs
//! stop instead of guessing.
//!
//! Invariants: decoding never panics, never allocates beyond the bounds, and
//! takes all of the bytes; what was encoded decodes to the same bits.
//!
//! Left out: integrity. The seal and the journal's checksum answer for that.

use alloc::{string::String, vec::Vec};

use crate::{
    error::ChangeError,
    event::{Entry, EntryKind, Position},
    limits::{CHANGE_CELLS_MAX, CHANGE_COPIED_BYTES_MAX, CHANGE_ROW_CELLS, ENTRY_BYTES_MAX},
    readings::{Operation, Stored},
    sql::Value,
};

mod bits;
mod block;
mod column;
mod context;
mod integers;
mod real;
mod rows;
mod scalar;
mod stored;
mod varint;

use varint::Reader;

/// Lower half of the first byte of every change.
pub const CHANGE_VERSION: u8 = 2;

/// What one batch did, in order, bound to the state it was executed on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// The last entry applied where it was executed. Applied after anything
    /// else, or in another term, it is skipped.
    pub base: Position,
    /// Over the schema there: applied on another one, the board stops.
    pub fingerprint: u32,
    /// In order.
    pub segments: Vec<Segment>,
}

/// Rows or schema; order between segments matters, within rows it is kept too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment {
    /// A schema statement, to be executed as it stands.
    Schema(String),
    /// Rows of one table, at least one.
    Rows {
        /// The table's place in the schema at this point of the change.
        table: u32,
        /// In order. Neighbours of one shape are the cheapest.
        rows: Vec<Row>,
    },
    /// Readings, which name no table: whoever has the bytes can tell what they say.
    Readings(Stored),
    /// What is done to readings without naming them.
    Operation(Operation),
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
    /// The row, which is there, has these columns changed and no others.
    Update {
        /// Of a rowid table.
        rowid: Option<i64>,
        /// Key values of a WITHOUT ROWID table, else empty.
        key: Vec<Value>,
        /// Places among the stored columns, ascending, and what stands there now.
        changed: Vec<(u16, Value)>,
    },
}

impl Row {
    /// Of a rowid table.
    #[must_use]
    pub const fn rowid(&self) -> Option<i64> {
        match self {
            Self::Put { rowid, .. } | Self::Delete { rowid, .. } | Self::Update { rowid, .. } => {
                *rowid
            }
        }
    }
}

/// So many blocks stand in the first byte; this many or more behind it.
const BLOCKS_MANY: u8 = 15;

impl Change {
    /// The bytes that are journalled, sent and hashed.
    ///
    /// # Panics
    /// When a row is of no possible shape: more than 32,767 columns, or changed
    /// ones that do not ascend.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let blocks = block::split(&self.segments);
        let few = u8::try_from(blocks.len()).map_or(BLOCKS_MANY, |few| few.min(BLOCKS_MANY));
        let mut out = Vec::from([CHANGE_VERSION | few << 4]);
        out.push(self.base.term.to_le_bytes()[0]);
        out.extend(&self.base.index.to_le_bytes()[..2]);
        out.extend(self.fingerprint.to_le_bytes());
        if few == BLOCKS_MANY {
            varint::write(&mut out, blocks.len() as u64);
        }
        blocks.iter().for_each(|block| block::write(&mut out, block));
        out
    }

    /// Reads what [`Change::encode`] wrote, from the entry at this position.
    ///
    /// # Errors
    /// [`ChangeError::Malformed`] names what does not fit.
    pub fn decode(bytes: &[u8], entry: Position) -> Result<Self, ChangeError> {
        if bytes.len() > ENTRY_BYTES_MAX {
            return Err(ChangeError::Malformed("larger than an entry may be"));
        }
        let mut reader = Reader::new(bytes);
        let (base, few) = decode_base(&mut reader, entry)?;
        let fingerprint = u32::from_le_bytes(reader.array()?);
        let blocks = if few == BLOCKS_MANY { reader.count(bytes.len())? } else { usize::from(few) };
        let mut room = Room { cells: CHANGE_CELLS_MAX, copied_bytes: CHANGE_COPIED_BYTES_MAX };
        let mut segments = Vec::new();
        for _ in 0..blocks {
            block::read(&mut reader, &mut room, &mut segments)?;
        }
        reader.finish()?;
        Ok(Self { base, fingerprint, segments })
    }

    /// What an entry brings; none where it is no change.
    #[must_use]
    pub fn of(entry: &Entry) -> Option<Self> {
        match entry.kind {
            EntryKind::Change => Self::decode(&entry.data, entry.position()).ok(),
            EntryKind::Membership => None,
        }
    }

    /// The readings in it.
    pub fn into_readings(self) -> impl Iterator<Item = Stored> {
        self.segments.into_iter().filter_map(|segment| match segment {
            Segment::Readings(stored) => Some(stored),
            Segment::Schema(_) | Segment::Rows { .. } | Segment::Operation(_) => None,
        })
    }

    /// Does this do anything?
    #[must_use]
    pub fn is_empty(bytes: &[u8]) -> bool {
        bytes.first().is_none_or(|head| head >> 4 == 0)
    }

    /// The base alone: enough to know whether the change is to be applied. Only
    /// its low bytes travel; it is the last such position before the entry's own,
    /// so that bases 256 terms or 65,536 entries back look like nearer ones. A
    /// leader executes one batch at a time and proposes it or drops it.
    ///
    /// # Errors
    /// As [`Change::decode`].
    pub fn decode_base(bytes: &[u8], entry: Position) -> Result<Position, ChangeError> {
        decode_base(&mut Reader::new(bytes), entry).map(|(base, _)| base)
    }
}

fn decode_base(reader: &mut Reader<'_>, entry: Position) -> Result<(Position, u8), ChangeError> {
    let head = reader.byte()?;
    if head & 0xf != CHANGE_VERSION {
        return Err(ChangeError::Malformed("of another version"));
    }
    let term = u64::from(reader.byte()?);
    let index = u64::from(u16::from_le_bytes(reader.array()?));
    let before = entry.index.wrapping_sub(1);
    let base = Position {
        term: entry.term.wrapping_sub(entry.term.wrapping_sub(term) & 0xff),
        index: before.wrapping_sub(before.wrapping_sub(index) & 0xffff),
    };
    Ok((base, head >> 4))
}

/// What a change that is being read may still hold.
struct Room {
    cells: usize,
    copied_bytes: usize,
}

impl Room {
    fn take_rows(&mut self, rows: usize, width: usize) -> Result<(), ChangeError> {
        let cells = rows.saturating_mul(width.saturating_add(CHANGE_ROW_CELLS));
        take(&mut self.cells, cells, "more values than a change may hold")
    }

    fn take_copied(&mut self, bytes: usize) -> Result<(), ChangeError> {
        let words = "more bytes by reference than a change may hold";
        take(&mut self.copied_bytes, bytes, words)
    }
}

fn take(left: &mut usize, wanted: usize, words: &'static str) -> Result<(), ChangeError> {
    *left = left.checked_sub(wanted).ok_or(ChangeError::Malformed(words))?;
    Ok(())
}

#[cfg(test)]
mod tests;
