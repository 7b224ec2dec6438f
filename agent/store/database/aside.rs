//! Pages pulled from another board, put aside in a file beside the database until all
//! of them are here.
//!
//! Nothing in it is trusted: each page is compared with what its source has whenever a
//! board begins to pull, and all of them together before any counts. So nothing is
//! synced, and a file that was torn is emptied.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension, config::DbConfig};
use understudy_core::limits::PAGE_BYTES;

use crate::store::open;

/// The file's name.
const FILE: &str = "pages.db";

/// See the module's description.
pub(super) struct Aside {
    connection: Connection,
}

impl Aside {
    /// Opens the file beside the database, or makes it.
    pub(super) fn open(database: &Path, vfs: Option<&str>) -> rusqlite::Result<Self> {
        let path = database.with_file_name(FILE);
        let aside = Self { connection: open(&path, vfs)? };
        if aside.prepare().is_err() {
            aside.reset()?;
        }
        Ok(aside)
    }

    /// Empties the file, whatever is in it.
    fn reset(&self) -> rusqlite::Result<()> {
        let reset = |on| {
            self.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_RESET_DATABASE, on).map(drop)
        };
        reset(true)?;
        let emptied = self.connection.execute_batch("VACUUM");
        reset(false)?;
        emptied?;
        self.prepare()
    }

    fn prepare(&self) -> rusqlite::Result<()> {
        self.connection.execute_batch(
            "PRAGMA page_size = 4096; PRAGMA journal_mode = MEMORY; PRAGMA synchronous = OFF;
             PRAGMA cache_size = -256;
             CREATE TABLE IF NOT EXISTS page(number INTEGER PRIMARY KEY, data BLOB);
             SELECT count(*) FROM page;",
        )
    }

    /// The page of this number, if it is here.
    pub(super) fn get(&self, number: u32) -> rusqlite::Result<Option<Vec<u8>>> {
        let mut select =
            self.connection.prepare_cached("SELECT data FROM page WHERE number = ?1")?;
        let page = select.query_row([number], |row| row.get::<_, Option<Vec<u8>>>(0));
        Ok(page.optional()?.flatten().filter(|page| page.len() == PAGE_BYTES))
    }

    /// Puts pages aside, in place of what was there.
    pub(super) fn put(&self, pages: &[(u32, &[u8])]) -> rusqlite::Result<()> {
        self.connection.execute_batch("BEGIN")?;
        let put = || {
            let mut insert =
                self.connection.prepare_cached("INSERT OR REPLACE INTO page VALUES (?1, ?2)")?;
            pages.iter().try_for_each(|(number, data)| {
                insert.execute(rusqlite::params![number, data]).map(drop)
            })?;
            self.connection.execute_batch("COMMIT")
        };
        put().inspect_err(|_| {
            // An error here means there is no transaction left to end.
            let _ = self.connection.execute_batch("ROLLBACK");
        })
    }

    pub(super) fn remove(&self, number: u32) -> rusqlite::Result<()> {
        let mut delete = self.connection.prepare_cached("DELETE FROM page WHERE number = ?1")?;
        delete.execute([number]).map(drop)
    }

    /// Forgets all, and gives the room back. Where that cannot be now, what is left is
    /// compared again like anything else.
    pub(super) fn clear(&self) {
        let cleared = self.connection.execute_batch("DELETE FROM page; VACUUM;");
        let _ = cleared.or_else(|_| self.reset());
    }

    /// The same for a file that is not open.
    pub(super) fn clear_file(database: &Path, vfs: Option<&str>) {
        if let Ok(aside) = Self::open(database, vfs) {
            aside.clear();
        }
    }
}
