//! A row of the journal's log: an entry and a checksum over all of it, so that a
//! row the disk has changed is never taken for one that was written.
//!
//! Left out: where rows stand, and in which order.

use understudy_core::event::{Entry, EntryKind};

pub(super) const fn kind_number(kind: EntryKind) -> u8 {
    match kind {
        EntryKind::Change => 0,
        EntryKind::Membership => 1,
    }
}

/// CRC32C over index, term, kind and data, numbers little-endian.
pub(super) fn checksum(entry: &Entry) -> u32 {
    let crc = crc32c::crc32c(&entry.index.to_le_bytes());
    let crc = crc32c::crc32c_append(crc, &entry.term.to_le_bytes());
    let crc = crc32c::crc32c_append(crc, &[kind_number(entry.kind)]);
    crc32c::crc32c_append(crc, &entry.data)
}

/// The row as an entry; `None` when its checksum does not fit.
pub(super) fn entry_of(row: &rusqlite::Row<'_>) -> rusqlite::Result<Option<Entry>> {
    let (index, term): (i64, i64) = (row.get(0)?, row.get(1)?);
    let kind = match row.get(2)? {
        0_u8 => EntryKind::Change,
        1 => EntryKind::Membership,
        _ => return Ok(None),
    };
    let entry =
        Entry { index: index.cast_unsigned(), term: term.cast_unsigned(), kind, data: row.get(4)? };
    let crc: u32 = row.get(3)?;
    Ok((checksum(&entry) == crc).then_some(entry))
}
