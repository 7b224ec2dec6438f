//! Pages of a state as a tree of hashes: of each page, of each sixteen pages, and so on
//! up to one over all. Kept are those of sixteen pages, 8 bytes for 16 KB; the others
//! are made of them, or of the pages, when they are asked for.
//!
//! Not hashed are the fields of page 1 that count local commits (bytes 24-27, 40-43 and
//! 92-99): boards differ in them while they agree.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use rusqlite::Connection;
use understudy_core::{
    limits::PAGE_BYTES,
    pages::{FAN_OUT, Summary, nodes},
};

use super::hash::Hash;

/// SQLite locks bytes of this page, and keeps nothing in it; from 0.
pub(super) const LOCK_PAGE: u32 = 1_073_741_824 / 1_024;

/// What stands for a page that is not there.
const ABSENT: u64 = 0;

/// Fields of page 1 that are one board's own.
pub(super) const OWN_FIELDS: [std::ops::Range<usize>; 3] = [24..28, 40..44, 92..100];

/// Pages as one connection sees them.
pub(super) fn page(connection: &Connection, number: u32) -> rusqlite::Result<Vec<u8>> {
    let mut select =
        connection.prepare_cached("SELECT data FROM sqlite_dbpage('main') WHERE pgno = ?1")?;
    select.query_row([u64::from(number).cast_signed() + 1], |row| row.get(0))
}

/// How many there are.
pub(super) fn page_count(connection: &Connection) -> rusqlite::Result<u32> {
    connection.query_row("PRAGMA page_count", [], |row| row.get(0))
}

/// Hash of the page of this number.
pub(super) fn page_hash(number: u32, page: &[u8]) -> u64 {
    let mut hash = Hash::default();
    match number {
        LOCK_PAGE => hash.put(1),
        0 => {
            let mut page = page.to_vec();
            for field in OWN_FIELDS.iter().filter(|field| field.end <= PAGE_BYTES) {
                if let Some(bytes) = page.get_mut(field.clone()) {
                    bytes.fill(0);
                }
            }
            hash.bytes(&page);
        }
        _ => hash.bytes(page),
    }
    hash.finish()
}

/// What travels of a hash.
pub(super) const fn cut(hash: u64, salt: u32) -> u32 {
    let mut mixed = Hash::new();
    mixed.put(salt as u64);
    mixed.put(hash);
    let [low, ..] = halves(mixed.finish());
    low
}

const fn halves(value: u64) -> [u32; 2] {
    let [a, b, c, d, e, f, g, h] = value.to_le_bytes();
    [u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h])]
}

/// See the module's description.
pub(super) struct Tree {
    pages: u32,
    groups: Vec<u64>,
}

impl Tree {
    /// Of so many pages, each as `hash_of` has it; none is a page that is not there.
    /// Ends early, with nothing, when it is told to.
    pub(super) fn build(
        pages: u32,
        is_over: &AtomicBool,
        mut hash_of: impl FnMut(u32) -> rusqlite::Result<Option<u64>>,
    ) -> rusqlite::Result<Option<Self>> {
        let count = usize::try_from(nodes(pages, 1)).unwrap_or(0);
        let mut builder = Builder { hash: Hash::default(), groups: Vec::with_capacity(count) };
        for number in 0..pages {
            if is_over.load(Relaxed) {
                return Ok(None);
            }
            builder.add(number, hash_of(number)?);
        }
        Ok(Some(builder.finish(pages)))
    }

    /// One that page after page is added to.
    pub(super) fn builder() -> Builder {
        Builder { hash: Hash::default(), groups: Vec::new() }
    }

    /// The node's hash, of level 1 at least.
    pub(super) fn node(&self, level: u8, node: u32) -> u64 {
        if level <= 1 {
            let place = usize::try_from(node).unwrap_or(usize::MAX);
            return self.groups.get(place).copied().unwrap_or(ABSENT);
        }
        let mut hash = Hash::default();
        for child in children(self.pages, level, node) {
            hash.put(self.node(level - 1, child));
        }
        hash.finish()
    }

    /// Over all, and how many there are.
    pub(super) fn root(&self) -> u64 {
        let summary =
            Summary { session: 0, position: Default::default(), pages: self.pages, root: 0 };
        let mut hash = Hash::default();
        hash.put(u64::from(self.pages));
        hash.put(self.node(summary.top(), 0));
        hash.finish()
    }
}

/// A tree in the making.
pub(super) struct Builder {
    hash: Hash,
    groups: Vec<u64>,
}

impl Builder {
    /// The page after the one before.
    pub(super) fn add(&mut self, number: u32, hash: Option<u64>) {
        self.hash.put(hash.unwrap_or(ABSENT));
        if (number + 1).is_multiple_of(FAN_OUT) {
            self.groups.push(std::mem::take(&mut self.hash).finish());
        }
    }

    pub(super) fn finish(mut self, pages: u32) -> Tree {
        if !pages.is_multiple_of(FAN_OUT) {
            self.groups.push(self.hash.finish());
        }
        Tree { pages, groups: self.groups }
    }
}

/// Nodes of the level below that a node stands for.
pub(super) fn children(pages: u32, level: u8, node: u32) -> std::ops::Range<u32> {
    let all = nodes(pages, level - 1);
    let first = node.saturating_mul(FAN_OUT).min(all);
    first..first.saturating_add(FAN_OUT).min(all)
}
