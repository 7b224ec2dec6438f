//! `state.db`: what was applied. The users' tables and ours, one SQLite file.
//!
//! One write transaction stays open over many applied entries and is committed
//! lazily: after `commit_interval_ms`, when enough was written, or when a long
//! read needs it. The row that says what is applied is written in that same
//! transaction, so after a crash the file is some earlier state of the group and
//! the journal brings it forward.
//!
//! Invariants: between two calls the open transaction holds applied entries and
//! nothing else; what the file has durably is known only from a checkpoint that
//! is proved complete (`checkpoint`). Nothing local to one board lives here:
//! boards at one applied index hold the same pages.
#![doc = include_str!("sql.md")]

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use rusqlite::{
    Connection, ErrorCode, ToSql, ffi,
    types::{ToSqlOutput, ValueRef},
};
use understudy_core::{
    event::{Millis, Position},
    member::Membership,
    mutant,
    sql::Value,
};

use self::{
    authorize::Authorizer,
    budget::Budget,
    capture::Notes,
    duties::Charge,
    head::Head,
    losses::Losses,
    pages::Holding,
    schema::{Schema, SchemaError},
    scrub::Watch,
    snapshot::Copies,
    tables::TABLES,
    version::Going,
};
use super::{StoreError, ffi::Hook};

mod apply;
mod aside;
mod authorize;
mod bind;
mod budget;
mod capture;
mod checkpoint;
pub(crate) mod dialect;
mod digest;
mod dump;
mod duties;
mod execute;
mod gathered;
pub(crate) mod hash;
mod head;
mod house;
mod install;
mod left_out;
pub mod load;
mod losses;
mod membership;
mod pages;
mod pull;
mod read;
mod readings;
mod refusal;
mod schema;
mod scrub;
mod snapshot;
pub mod source;
mod statement;
mod tables;
mod text;
mod tokens;
mod tree;
mod vacuum;
mod version;
mod views;
mod wall;
mod witness;

pub use pages::{Desk, Job};
pub use read::{QueryOutcome, Reader};
pub use scrub::Scrubbing;
pub use snapshot::{Patience, SNAPSHOTS_MAX, Snapshot};
pub use wall::Wall;

/// SQLite below this has a race that can lose committed pages (fixed 3.51.3).
pub(crate) const SQLITE_VERSION_MIN: i32 = 3_051_003;

/// What a commit adds to the WAL besides the entries, bytes, about.
const COMMIT_BYTES: u64 = 16 << 10;

/// Errors of the disk in a row that are met by another try.
const IO_FAILURES_MAX: u32 = 8;

/// Prepared statements kept per connection.
const STATEMENTS_MAX: usize = 64;

/// What a thread that runs SQL needs for its stack, bytes. SQLite calls itself along
/// what it compiles: an expression, the terms of a compound SELECT, views and
/// triggers as deep as its limits allow take 3 MB together. Only what is used of it
/// takes memory.
pub const STACK_BYTES: usize = 8 << 20;

/// How the database is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// SQLite VFS by name; the system's own when absent.
    pub vfs: Option<String>,
    /// Boot time, for limits on statements.
    pub clock: fn() -> Millis,
    /// The same in nanoseconds, for what callers are told a statement took.
    pub stopwatch: fn() -> u64,
    /// Wall time: how old an id of a reading is.
    pub wall: Wall,
    /// The open transaction is committed after so long, milliseconds.
    pub commit_interval_ms: u64,
    /// The open transaction is committed after so much was applied, bytes of entries.
    pub commit_bytes: u64,
    /// The WAL is brought back into the file beyond this, bytes.
    pub wal_bytes: u64,
    /// A WAL that somebody's long read keeps from shrinking grows to this, bytes,
    /// and what was being applied when it got there; then nothing is applied.
    pub wal_bytes_max: u64,
    /// It is a witness's: entries are counted and hashed, and of what they bring only who
    /// belongs to the group is kept.
    pub witness: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            vfs: None,
            clock: crate::driver::clock::now,
            stopwatch: crate::driver::clock::nanoseconds,
            wall: Wall::default(),
            commit_interval_ms: 120_000,
            commit_bytes: 4 << 20,
            wal_bytes: 1 << 20,
            wal_bytes_max: 32 << 20,
            witness: false,
        }
    }
}

/// Why a call ended early.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The open transaction is gone, a full disk among the causes; the file is at
    /// `applied`. Everything above
    /// comes again from the journal. When a request of a batch ended it, its
    /// place in the batch and its encoded answer stand beside.
    Reset {
        /// The last entry the file holds.
        applied: Position,
        /// The request that ended it.
        ended_by: Option<(u32, Vec<u8>)>,
    },
    /// This board alone cannot go on.
    Halt(String),
}

/// See the module's description.
pub struct Database {
    connection: Connection,
    hook: Hook<Notes>,
    authorizer: Authorizer,
    budget: Budget,
    schema: Arc<Schema>,
    path: PathBuf,
    options: Options,
    head: Head,
    committed: Position,
    durable: Position,
    membership: Membership,
    open_since: Option<Millis>,
    open_bytes: u64,
    since_checkpoint: u64,
    /// A read of somebody's held the last checkpoint back, at the bound of the WAL:
    /// tried again from then on.
    held_since: Option<Millis>,
    /// The disk was found full then, and no commit has succeeded since.
    full_since: Option<Millis>,
    /// The connection is to be opened anew, and could not be yet.
    reopen: bool,
    /// Errors of the disk since the last commit, a full one not among them.
    io_failures: u32,
    /// Statements that are passed over when their batch is executed again.
    losses: Losses,
    /// The open transaction has changed the schema, for good or not: until it is
    /// committed SQLite reads the schema anew after every rolled-back savepoint.
    schema_changed: bool,
    watch: Watch,
    charge: Charge,
    going: Going,
    holding: Holding,
    /// A state that came from another board is not in the file for good yet; its entry
    /// says nothing of that, for this board may have been at the same one with other rows.
    is_coming: bool,
    copies: Copies,
    tables: readings::Tables,
    /// Readings were tended for the last time then, as far as this start has seen.
    tended: Millis,
}

/// Our value as SQLite takes it.
struct Bound<'a>(&'a Value);

impl ToSql for Bound<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self.0 {
            Value::Null => ValueRef::Null,
            Value::Integer(value) => ValueRef::Integer(*value),
            Value::Real(value) => ValueRef::Real(*value),
            Value::Text(bytes) => ValueRef::Text(bytes),
            Value::Blob(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

impl Database {
    /// Opens `state.db` in `directory`, or makes an empty one.
    ///
    /// # Errors
    /// When the file is no database of ours, of another version, or cannot be
    /// read: the text names the file and what is wrong.
    pub fn open(directory: &Path, options: Options) -> Result<Self, StoreError> {
        let path = directory.join("state.db");
        let at = |error: rusqlite::Error| StoreError::new(&path, error);
        super::check_sqlite()?;
        let mut connection = connect(&path, &options).map_err(at)?;
        prepare_file(&connection).map_err(at)?;
        let authorizer = Authorizer::default();
        let budget = Budget::new(options.clock);
        let hook = equip(&mut connection, &authorizer, &budget).map_err(at)?;
        let mut database = Self {
            hook,
            authorizer,
            budget,
            schema: Arc::default(),
            head: Head::default(),
            committed: Position::default(),
            durable: Position::default(),
            membership: Membership::default(),
            open_since: None,
            open_bytes: 0,
            since_checkpoint: 0,
            held_since: None,
            full_since: None,
            reopen: false,
            io_failures: 0,
            losses: Losses::default(),
            schema_changed: false,
            watch: Watch::default(),
            charge: Charge::default(),
            going: Going::default(),
            holding: Holding::default(),
            is_coming: false,
            copies: Copies::default(),
            tables: readings::Tables::default(),
            tended: Millis(0),
            connection,
            path: path.clone(),
            options,
        };
        database.reload().map_err(|reason| StoreError::new(&path, reason))?;
        super::ffi::write_wal_again(&database.connection).map_err(at)?;
        // What a committed WAL holds may not be on the disk yet. Without room it
        // stays where it is and does not count as durable.
        match database.checkpoint() {
            Ok(()) | Err(Failure::Reset { .. }) => Ok(database),
            Err(Failure::Halt(reason)) => Err(StoreError::new(&path, reason)),
        }
    }

    /// Reads anew what the file holds: after opening, and after the open
    /// transaction was lost.
    fn reload(&mut self) -> Result<(), String> {
        self.authorizer.enter(authorize::Mode::Internal);
        self.connection.flush_prepared_statement_cache();
        // The request that ended a transaction may have turned them on, and what
        // is applied next must not act by itself.
        self.set_foreign_keys(false);
        let version = self.reload_version();
        let loaded = self.reload_rows();
        // What cannot be read may be what a newer release wrote.
        loaded.map_err(|reason| self.going.too_new().unwrap_or(reason))?;
        version.map_err(|error| error.to_string())?;
        self.open_since = None;
        self.open_bytes = 0;
        self.schema_changed = false;
        self.tended = (self.options.clock)();
        Ok(())
    }

    fn reload_rows(&mut self) -> Result<(), String> {
        let head: Vec<u8> = self
            .connection
            .query_row("SELECT head FROM _understudy_applied WHERE id = 1", [], |row| row.get(0))
            .map_err(|error| format!("not a database of understudy: {error}"))?;
        self.head = Head::decode(&head)?;
        self.committed = self.head.applied;
        self.membership = self.read_membership().map_err(|error| error.to_string())?;
        self.reload_scrubs().map_err(|error| error.to_string())?;
        self.reload_duties().map_err(|error| error.to_string())?;
        self.refresh_schema().map_err(|error| format!("{error:?}"))
    }

    fn refresh_schema(&mut self) -> Result<(), SchemaError> {
        let schema = Schema::read(&self.connection)?;
        self.use_schema(Arc::new(schema));
        Ok(())
    }

    fn use_schema(&mut self, schema: Arc<Schema>) {
        self.hook.with(|notes| notes.set_schema(Arc::clone(&schema)));
        self.authorizer.set_schema(Arc::clone(&schema));
        self.schema = schema;
    }

    /// The transaction was lost to a statement, and the disk is not to blame: there
    /// is nothing to wait for before the batch is executed again.
    #[must_use]
    pub fn can_go_on_at_once(&self) -> bool {
        !self.losses.is_empty() && !self.is_full() && self.io_failures == 0
    }

    /// The last entry applied, committed to the file or not.
    #[must_use]
    pub const fn applied(&self) -> Position {
        self.head.applied
    }

    /// Hash over every entry ever applied, in order.
    #[must_use]
    pub const fn chain(&self) -> u64 {
        self.head.chain
    }

    /// The last entry that a power cut cannot take from this file.
    #[must_use]
    pub const fn durable(&self) -> Position {
        self.durable
    }

    /// Up to where the journal may be compacted: never beyond what is durable here.
    #[must_use]
    pub fn compaction_bound(&self) -> u64 {
        if mutant::is(5) { self.applied().index } else { self.durable.index }
    }

    /// Who belongs to the group at the applied index.
    #[must_use]
    pub const fn membership(&self) -> &Membership {
        &self.membership
    }

    /// Opens the write transaction unless it is open.
    fn begin(&mut self) -> Result<(), Failure> {
        // A request that ended the transaction left its own permissions behind.
        self.authorizer.enter(authorize::Mode::Internal);
        if !self.connection.is_autocommit() {
            return Ok(());
        }
        self.connection.execute_batch("BEGIN IMMEDIATE").map_err(|error| self.failure(&error))?;
        self.open_since = Some((self.options.clock)());
        Ok(())
    }

    /// Ends the open transaction: the file now holds all that is applied.
    ///
    /// # Errors
    /// [`Failure::Reset`] when SQLite could not.
    pub fn commit(&mut self) -> Result<(), Failure> {
        self.authorizer.enter(authorize::Mode::Internal);
        if self.connection.is_autocommit() {
            return Ok(());
        }
        if !mutant::is(6) {
            self.write_head()?;
        }
        if let Err(error) = self.connection.execute_batch("COMMIT") {
            return Err(self.failure(&error));
        }
        if mutant::is(6) {
            self.write_head()?;
        }
        self.committed = self.head.applied;
        self.open_since = None;
        self.schema_changed = false;
        self.io_failures = 0;
        if self.full_since.take().is_some() {
            self.spill(true)?;
        }
        self.since_checkpoint += self.open_bytes + COMMIT_BYTES;
        self.watch.grew(self.open_bytes + COMMIT_BYTES);
        self.holding.grew(self.open_bytes + COMMIT_BYTES);
        self.copies.grew(self.open_bytes + COMMIT_BYTES);
        self.open_bytes = 0;
        Ok(())
    }

    fn write_head(&mut self) -> Result<(), Failure> {
        let head = self.head.encode();
        let written = self
            .connection
            .prepare_cached("UPDATE _understudy_applied SET head = ?1 WHERE id = 1")
            .and_then(|mut update| update.execute([&head[..]]));
        written.map(drop).map_err(|error| self.failure(&error))
    }

    /// The disk has no room for a commit. What is applied is kept in memory: it can
    /// be read, and is in the journal.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.full_since.is_some()
    }

    /// Somebody's long read has let the WAL grow to its bound: nothing more is to
    /// be applied until it ends.
    #[must_use]
    pub const fn is_held(&self) -> bool {
        self.held_since.is_some()
    }

    /// May pages of the open transaction go to the WAL before its commit? Not on a
    /// full disk, where the first would end it.
    fn spill(&mut self, on: bool) -> Result<(), Failure> {
        let pragma = if on { "PRAGMA cache_spill = ON" } else { "PRAGMA cache_spill = OFF" };
        let Err(error) = self.connection.execute_batch(pragma) else { return Ok(()) };
        Err(Failure::Halt(format!("{}: {error}", self.path.display())))
    }

    /// Leadership came or went: virtual tables forget what they know of rows that
    /// others executed. Their modules only do so with a new connection.
    ///
    /// # Errors
    /// As [`Database::commit`].
    pub fn role_changed(&mut self) -> Result<(), Failure> {
        self.reopen = !self.schema.virtual_tables.is_empty();
        if !self.reopen || self.is_full() {
            return Ok(());
        }
        self.commit()?;
        self.reopen()
    }

    /// Begins anew with another connection, which knows nothing of the file yet.
    fn reopen(&mut self) -> Result<(), Failure> {
        let halt = |error: &dyn std::fmt::Display| Failure::Halt(error.to_string());
        let mut connection =
            connect_again(&self.path, &self.options).map_err(|error| halt(&error))?;
        self.hook.remove(&self.connection);
        self.hook =
            equip(&mut connection, &self.authorizer, &self.budget).map_err(|error| halt(&error))?;
        self.connection = connection;
        self.reopen = false;
        self.reload().map_err(|reason| halt(&reason))
    }

    /// A step failed: what it means for the transaction (design rule 6).
    fn failure(&mut self, error: &rusqlite::Error) -> Failure {
        if error.sqlite_error_code() == Some(ErrorCode::DiskFull) {
            self.full_since = Some((self.options.clock)());
        }
        let is_io = error.sqlite_error_code() == Some(ErrorCode::SystemIoFailure);
        self.io_failures += u32::from(is_io);
        let hopeless = is_lost_sync(error) || self.io_failures > IO_FAILURES_MAX;
        let lost = self.connection.is_autocommit() && !mutant::is(8);
        if !hopeless && (is_local(error) || lost) {
            return self.reset(None);
        }
        // Closing would try once more what is not to be tried again; where it cannot be
        // set, this connection is past writing.
        let _ = super::keep_wal_on_close(&self.connection, true);
        Failure::Halt(format!("{}: {error}", self.path.display()))
    }

    /// Forgets everything but the file, which says where it stands.
    fn reset(&mut self, ended_by: Option<(u32, Vec<u8>)>) -> Failure {
        if !self.connection.is_autocommit() {
            // An error here means there is no transaction left to end.
            let _ = self.connection.execute_batch("ROLLBACK");
        }
        match self.reload() {
            Ok(()) if self.is_full() && self.spill(false).is_err() => {
                Failure::Halt(format!("{}: it cannot be kept in memory", self.path.display()))
            }
            Ok(()) => Failure::Reset { applied: self.head.applied, ended_by },
            Err(reason) => Failure::Halt(format!("{}: {reason}", self.path.display())),
        }
    }
}

/// After a failed sync nobody knows what the file holds: a second one may call a
/// success what the first has lost.
fn is_lost_sync(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error().map(|error| error.extended_code);
    let lost = [ffi::SQLITE_IOERR_FSYNC, ffi::SQLITE_IOERR_DIR_FSYNC];
    !mutant::is(15) && code.is_some_and(|code| lost.contains(&code))
}

/// Errors of this board's disk or memory, not of what was asked: another try may do.
fn is_local(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(
            ErrorCode::DiskFull
                | ErrorCode::SystemIoFailure
                | ErrorCode::OutOfMemory
                | ErrorCode::OperationInterrupted
                | ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
        )
    )
}

impl Drop for Database {
    fn drop(&mut self) {
        self.hook.remove(&self.connection);
    }
}

/// Everything the writing connection carries, before its first statement.
fn equip(
    connection: &mut Connection,
    authorizer: &Authorizer,
    budget: &Budget,
) -> rusqlite::Result<Hook<Notes>> {
    authorizer.enter(authorize::Mode::Internal);
    authorizer.install(connection)?;
    budget.install(connection)?;
    super::keep_wal_on_close(connection, false)?;
    Ok(Hook::install(connection, Notes::default()))
}

/// The file, made when it is not there.
fn connect(path: &Path, options: &Options) -> rusqlite::Result<Connection> {
    set_up(super::open(path, options.vfs.as_deref())?)
}

/// Another connection to it.
fn connect_again(path: &Path, options: &Options) -> rusqlite::Result<Connection> {
    set_up(super::open_again(path, options.vfs.as_deref())?)
}

/// A connection as every board has it. Closing it brings no WAL back: one that
/// closes last would try again what has failed for the one that writes.
fn set_up(connection: Connection) -> rusqlite::Result<Connection> {
    connection.execute_batch(
        "PRAGMA page_size = 1024; PRAGMA encoding = 'UTF-8'; PRAGMA auto_vacuum = NONE;
         PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA wal_autocheckpoint = 0;
         PRAGMA secure_delete = ON; PRAGMA foreign_keys = OFF; PRAGMA cache_size = -1024;
         PRAGMA journal_size_limit = 4194304; PRAGMA temp_store = MEMORY; PRAGMA recursive_triggers = OFF; PRAGMA trusted_schema = ON;",
    )?;
    super::ffi::keep_wal(&connection);
    super::keep_wal_on_close(&connection, true)?;
    dialect::set(&connection)?;
    connection.busy_timeout(std::time::Duration::ZERO)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    Ok(connection)
}

fn prepare_file(connection: &Connection) -> rusqlite::Result<()> {
    let empty: bool =
        connection
            .query_row("SELECT NOT EXISTS (SELECT 1 FROM sqlite_schema)", [], |row| row.get(0))?;
    if !empty {
        return Ok(());
    }
    connection.execute_batch("BEGIN IMMEDIATE")?;
    connection.execute_batch(TABLES)?;
    let head = Head::default().encode();
    connection.execute("INSERT INTO _understudy_applied VALUES (1, ?1)", [&head[..]])?;
    connection.execute_batch("COMMIT")
}

#[cfg(test)]
mod history_tests;
#[cfg(test)]
mod pages_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod unfit_tests;
#[cfg(test)]
mod update_tests;
#[cfg(test)]
mod views_tests;
