//! Blocks: a schema statement, neighbouring rows of one table and one shape (`rows`),
//! readings or an operation on them (`stored`). A first byte says which.

use alloc::{borrow::ToOwned, vec::Vec};

use super::{
    Room, Row, Segment, rows, stored,
    varint::{self, Reader},
};
use crate::{
    error::ChangeError,
    readings::{Operation, Stored},
};

const SCHEMA: u8 = 0;

/// Of the kind of a schema statement, and none.
const READINGS: u8 = 1 << 2;
const OPERATION: u8 = 2 << 2;

/// Part of a segment.
pub(super) enum Block<'a> {
    Schema(&'a str),
    Rows {
        /// None: that of the block before.
        table: Option<u32>,
        rows: &'a [Row],
    },
    Readings(&'a Stored),
    Operation(&'a Operation),
}

/// Segments as blocks.
pub(super) fn split(segments: &[Segment]) -> Vec<Block<'_>> {
    let mut blocks = Vec::new();
    for segment in segments {
        match segment {
            Segment::Schema(sql) => blocks.push(Block::Schema(sql)),
            Segment::Readings(stored) => blocks.push(Block::Readings(stored)),
            Segment::Operation(operation) => blocks.push(Block::Operation(operation)),
            Segment::Rows { table, rows } => {
                let runs = rows.chunk_by(rows::is_same_shape).enumerate();
                blocks.extend(runs.map(|(number, rows)| Block::Rows {
                    table: (number == 0).then_some(*table),
                    rows,
                }));
            }
        }
    }
    blocks
}

/// Writes a block.
pub(super) fn write(out: &mut Vec<u8>, block: &Block<'_>) {
    match block {
        Block::Schema(sql) => {
            out.push(SCHEMA);
            varint::write_bytes(out, sql.as_bytes());
        }
        Block::Rows { table, rows } => rows::write(out, *table, rows),
        Block::Readings(readings) => {
            out.push(READINGS);
            stored::write(out, readings);
        }
        Block::Operation(operation) => {
            out.push(OPERATION);
            stored::write_operation(out, operation);
        }
    }
}

/// Reads a block and appends it to the segments before.
pub(super) fn read(
    reader: &mut Reader<'_>,
    room: &mut Room,
    segments: &mut Vec<Segment>,
) -> Result<(), ChangeError> {
    let head = reader.byte()?;
    if head == SCHEMA {
        let sql = core::str::from_utf8(reader.bytes()?)
            .map_err(|_| ChangeError::Malformed("a schema statement is not UTF-8"))?;
        room.take_rows(1, 0)?;
        segments.push(Segment::Schema(sql.to_owned()));
        return Ok(());
    }
    if head & rows::KIND_MASK == SCHEMA {
        segments.push(match head {
            READINGS => Segment::Readings(stored::read(reader, room)?),
            OPERATION => Segment::Operation(stored::read_operation(reader)?),
            _ => return Err(ChangeError::Malformed("an unknown kind of block")),
        });
        return Ok(());
    }
    rows::read(reader, head, room, segments)
}
