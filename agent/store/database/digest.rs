//! Two boards at one applied index hold the same: rows, by their bits, and pages.

use rusqlite::Connection;
use understudy_core::sql::{self, Value};

use super::{Database, Failure, authorize::Mode, capture::value_of, head::fnv1a, schema::Table};

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
        let mut digest = digest_query(
            &self.connection,
            "SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY type, name",
            0,
        )?;
        for table in self.schema.tables().filter(|table| !is_head(table)) {
            digest = digest_query(&self.connection, &table.select_all(), digest)?;
        }
        Ok(fnv1a(digest.to_le_bytes().into_iter().chain(self.head.encode())))
    }

    /// Over every page, but for the few header fields of page 1 that count local
    /// commits (bytes 24-27, 40-43, 92-99).
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

/// Written only when it is committed: boards differ in it while they agree.
fn is_head(table: &Table) -> bool {
    table.name == "_understudy_applied"
}

fn digest_query(connection: &Connection, query: &str, start: u64) -> rusqlite::Result<u64> {
    let mut select = connection.prepare(query)?;
    let columns = select.column_count();
    let mut rows = select.query([])?;
    let mut digest = fnv1a(start.to_le_bytes().into_iter().chain(query.bytes()));
    while let Some(row) = rows.next()? {
        let values = (0..columns).map(|at| row.get_ref(at).map(value_of));
        let values = values.collect::<rusqlite::Result<Vec<Value>>>()?;
        let bytes = digest.to_le_bytes().into_iter().chain(sql::encode(&values));
        digest = fnv1a(bytes);
    }
    Ok(digest)
}

fn digest_pages(connection: &Connection) -> rusqlite::Result<u64> {
    let mut select =
        connection.prepare_cached("SELECT pgno, data FROM sqlite_dbpage('main') ORDER BY pgno")?;
    let mut pages = select.query([])?;
    let mut digest = 0;
    while let Some(row) = pages.next()? {
        let number: i64 = row.get(0)?;
        let mut page: Vec<u8> = row.get(1)?;
        if number == 1 {
            for range in [24..28, 40..44, 92..100] {
                page[range].fill(0);
            }
        }
        let sum = crc32c::crc32c(&page);
        let head = [digest, number.cast_unsigned(), u64::from(sum)];
        digest = fnv1a(head.iter().flat_map(|number: &u64| number.to_le_bytes()));
    }
    Ok(digest)
}
