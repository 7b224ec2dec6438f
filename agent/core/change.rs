//! A replicated change: what one batch did to schema and rows, in very few bytes.
//!
//! (codec to come)

use alloc::{string::String, vec::Vec};

use crate::{event::Position, sql::Value};

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
        /// The table, in `main`.
        table: String,
        /// Hash over the table's ordered columns and key, at least 4 bytes' worth.
        fingerprint: u32,
        /// In order.
        rows: Vec<Row>,
    },
}

/// One row afterwards, or its absence. Rowid tables are addressed by rowid;
/// WITHOUT ROWID tables by their key, which stands in `columns` of a put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Row {
    /// The row is now exactly this: insert it, or replace what the identity holds.
    Put {
        /// Of a rowid table.
        rowid: Option<i64>,
        /// All stored columns, generated ones left out.
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
