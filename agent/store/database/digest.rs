//! Two boards at one applied index hold the same: rows, by their bits, and pages.

use std::collections::BTreeSet;

use rusqlite::Connection;

use super::{
    Database, Failure,
    authorize::Mode,
    hash::{self, Hash},
    head::{HEAD, fnv1a},
};

impl Database {
    /// Over the schema and every row of every table, rowids and bits of reals
    /// included.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn content_digest(&mut self) -> Result<u64, Failure> {
        self.authorizer.enter(Mode::Internal);
        let digest = self.digest_rows();
        digest.map_err(|error| self.failure(&error))
    }

    fn digest_rows(&self) -> rusqlite::Result<u64> {
        let mut hash = Hash::default();
        let schema = "SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY type, name";
        add_rows(&mut hash, &self.connection, schema)?;
        for table in self.schema.tables().filter(|table| table.name != HEAD) {
            add_rows(&mut hash, &self.connection, &table.select_all)?;
        }
        hash.bytes(&self.head.encode());
        Ok(hash.finish())
    }

    /// Over every page in use, but for the few header fields of page 1 that count
    /// local commits (bytes 24-27, 40-43, 92-99). What stands in a free page is
    /// nobody's: SQLite does not bring it back when a batch is rolled back.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn page_digest(&mut self) -> Result<u64, Failure> {
        self.begin()?;
        self.authorizer.enter(Mode::Internal);
        self.write_head()?;
        let digest = digest_pages(&self.connection);
        digest.map_err(|error| self.failure(&error))
    }
}

/// What is asked, and the rows in the order in which they come.
fn add_rows(hash: &mut Hash, connection: &Connection, query: &str) -> rusqlite::Result<()> {
    hash.bytes(query.as_bytes());
    let mut select = connection.prepare(query)?;
    let columns = select.column_count();
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        hash.put(hash::row(row, columns)?);
    }
    Ok(())
}

fn digest_pages(connection: &Connection) -> rusqlite::Result<u64> {
    let free = free_pages(connection)?;
    let mut select =
        connection.prepare_cached("SELECT pgno, data FROM sqlite_dbpage('main') ORDER BY pgno")?;
    let mut pages = select.query([])?;
    let mut digest = 0;
    while let Some(row) = pages.next()? {
        let number: u32 = row.get(0)?;
        let mut page: Vec<u8> = row.get(1)?;
        if number == 1 {
            for range in [24..28, 40..44, 92..100] {
                page[range].fill(0);
            }
        }
        let sum = if free.contains(&number) { 0 } else { crc32c::crc32c(&page) };
        let head = [digest, u64::from(number), u64::from(sum)];
        digest = fnv1a(head.iter().flat_map(|number: &u64| number.to_le_bytes()));
    }
    Ok(digest)
}

/// The pages that are in use for nothing, not even for the list of free ones.
fn free_pages(connection: &Connection) -> rusqlite::Result<BTreeSet<u32>> {
    let mut select =
        connection.prepare_cached("SELECT data FROM sqlite_dbpage('main') WHERE pgno = ?1")?;
    let mut page = |number: u32| select.query_row([number], |row| row.get::<_, Vec<u8>>(0));
    let mut free = BTreeSet::new();
    let mut trunks = BTreeSet::new();
    let mut next = number_at(&page(1)?, 32);
    while next != 0 && trunks.insert(next) {
        let trunk = page(next)?;
        let count = number_at(&trunk, 4) as usize;
        free.extend((0..count.min(trunk.len())).map(|place| number_at(&trunk, 8 + 4 * place)));
        next = number_at(&trunk, 0);
    }
    Ok(free)
}

/// As SQLite's file format has it; 0 where there is nothing.
fn number_at(page: &[u8], at: usize) -> u32 {
    let bytes = page.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
    bytes.map_or(0, u32::from_be_bytes)
}
