//! `journal.db`: what was promised. The Raft log, the hard state, what peers
//! were seen to promise and to be, and who this board is.
//!
//! One commit, one sync, for everything that waits. Pages are small (512 bytes),
//! so that a small entry costs little more than the one block a sync must write.
//! Each row carries a checksum over its index, term, kind and data.
//!
//! Invariants: rows stand without gaps from the first index to the last, and of the
//! entry before the first the place is known; a failed write leaves neither file nor memory changed; an error of the disk
//! other than "full" ends the process, because after a failed sync nobody knows
//! what the file holds.
//!
//! Left out: the lock on the directory, and when to write (the driver's).

use std::{
    fmt,
    path::{Path, PathBuf},
};

use rusqlite::{Connection, ErrorCode, OptionalExtension};
use understudy_core::{
    event::{Cut, Entry, HardState, Memory, NodeId, Position, SpoolWrite, Trust},
    limits::LOG_ROW_BYTES,
    mutant, sql,
};

use super::{
    REMEDY, StoreError, check_sqlite,
    format::{self, Format},
    is_damage, keep_wal_on_close, make_private,
    meta::{forget_meta, meta, set_meta},
    open,
    row::{checksum, kind_number},
    spool, trim, wal,
};
use crate::identity::{GroupId, Identity};

/// The WAL is brought back into the file beyond this, pages.
const WAL_PAGES_MAX: i64 = 2_048;

/// How the journal is opened.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// SQLite VFS by name; the system's own when absent.
    pub vfs: Option<String>,
    /// The WAL as it was found, scanned for damage before SQLite opens it; read
    /// from the file when absent.
    pub wal: Option<Vec<u8>>,
}

/// Why a write or read of the journal failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JournalError {
    /// Nothing was written; later may be better.
    DiskFull,
    /// This process must not go on with this file.
    Halt(String),
}

impl fmt::Display for JournalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DiskFull => f.write_str("journal.db: disk full"),
            Self::Halt(reason) => write!(f, "journal.db: {reason}"),
        }
    }
}

/// One write: entries replace everything from their first index on.
#[derive(Clone, Debug, Default)]
pub struct Persist {
    /// Consecutive, may be empty.
    pub entries: Vec<Entry>,
    /// As of these entries.
    pub hard_state: HardState,
    /// What is kept of peers.
    pub memories: Vec<(NodeId, Memory)>,
    /// What the disk says of itself from now on: see [`Trust`].
    pub trust: Option<Trust>,
    /// What becomes of the entries before, before these come: see [`Cut`].
    pub cut: Option<Cut>,
    /// What becomes of the spool.
    pub spool: Vec<SpoolWrite>,
}

/// See the module's description.
pub struct Journal {
    pub(super) connection: Connection,
    path: PathBuf,
    hard_state: HardState,
    pub(super) start: Position,
    pub(super) last_index: u64,
    /// A state that was to come into the database from another board.
    coming: Option<Position>,
    boot: u64,
    identity: Option<Identity>,
    suspect: bool,
    trust: Trust,
    given_up: u64,
    is_witness: bool,
    format: Format,
}

const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS log(
        idx INTEGER PRIMARY KEY, term INTEGER, kind INTEGER, crc INTEGER, total INTEGER,
        data BLOB);
    CREATE TABLE IF NOT EXISTS meta(name TEXT PRIMARY KEY, value) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS state(node INTEGER PRIMARY KEY, state BLOB);";

/// Is there where this board keeps none of the users' rows.
const WITNESS: &str = "witness";

/// In table `state` the hard state stands at this number and each peer's promise
/// at the peer's: one page, because one write changes most of them.
pub(super) const HARD_STATE: i64 = 0;

impl Journal {
    /// Opens `journal.db` in `directory`, or makes an empty one, and counts a boot.
    ///
    /// # Errors
    /// When the file is no journal, of another version, or damaged: the text
    /// names the file and what is wrong.
    pub fn open(directory: &Path, options: &Options) -> Result<Self, StoreError> {
        let mut journal = Self::look(directory, options)?;
        journal.count_boot()?;
        Ok(journal)
    }

    /// The same for a board's agent: private to its user, and refused when the
    /// board was a member and the journal no longer knows of which group. Such a
    /// board must not pass for a new one: it would join over what it has left.
    /// Nothing is written before that is known.
    ///
    /// # Errors
    /// As [`Journal::open`]; says what is lost and the way out.
    pub fn open_own(directory: &Path) -> Result<Self, StoreError> {
        let path = directory.join("journal.db");
        let orphan = |what: &str| StoreError::new(&path, format!("{what}. {REMEDY}"));
        let was_member = directory.join("state.db").exists();
        let has_wal = directory.join("journal.db-wal").exists();
        if !path.exists() && (was_member || has_wal) {
            return Err(orphan("it is missing, and this board was used before"));
        }
        make_private(&path)?;
        let mut journal = Self::look(directory, &Options::default())?;
        if journal.identity.is_none() && journal.suspect {
            return Err(orphan("its WAL is damaged, and what it says of a group is lost"));
        }
        if journal.identity.is_none() && (was_member || journal.last_index > 0) {
            return Err(orphan(
                "it has lost which group this board belongs to, while state.db holds that \
                 group's data",
            ));
        }
        journal.count_boot()?;
        Ok(journal)
    }

    /// Reads what the file holds and changes nothing.
    fn look(directory: &Path, options: &Options) -> Result<Self, StoreError> {
        check_sqlite()?;
        let path = directory.join("journal.db");
        let wal = match &options.wal {
            Some(wal) => wal.clone(),
            None => wal::read(&directory.join("journal.db-wal"))?,
        };
        let connection = connect(&path, options.vfs.as_deref())
            .map_err(|error| StoreError::of_file(&path, &error))?;
        let mut journal = Self {
            connection,
            path: path.clone(),
            hard_state: HardState::default(),
            start: Position::default(),
            last_index: 0,
            coming: None,
            boot: 0,
            identity: None,
            suspect: wal::is_damaged(&wal),
            trust: Trust::default(),
            given_up: 0,
            is_witness: false,
            format: Format::default(),
        };
        journal.load()?;
        Ok(journal)
    }

    fn load(&mut self) -> Result<(), StoreError> {
        let at = |error: rusqlite::Error| StoreError::of_file(&self.path, &error);
        let connection = &self.connection;
        let tables = "SELECT count(*) FROM sqlite_schema WHERE name IN ('log', 'meta', 'state')";
        if connection.query_row(tables, [], |row| row.get::<_, i64>(0)).map_err(at)? == 0 {
            return Ok(());
        }
        self.format = format::read(connection)
            .map_err(at)?
            .map_err(|unknown| StoreError::new(&self.path, unknown))?;
        let boot: i64 = meta(connection, "boot").map_err(at)?.unwrap_or(0);
        let suspect: i64 = meta(connection, "suspect").map_err(at)?.unwrap_or(0);
        let state: Option<Vec<u8>> = connection
            .query_row("SELECT state FROM state WHERE node = ?1", [HARD_STATE], |row| row.get(0))
            .optional()
            .map_err(at)?;
        let identity: Option<Vec<u8>> = meta(connection, "identity").map_err(at)?;
        let trust: Option<Vec<u8>> = meta(connection, "trust").map_err(at)?;
        let last: Option<i64> =
            connection.query_row("SELECT max(idx) FROM log", [], |row| row.get(0)).map_err(at)?;
        self.start = trim::start(connection).map_err(at)?;
        self.coming = trim::coming(connection).map_err(at)?;
        self.given_up = trim::given_up(connection).map_err(at)?;
        self.is_witness = meta::<i64>(connection, WITNESS).map_err(at)?.is_some();
        let unreadable =
            |what| StoreError::new(&self.path, format!("its {what} cannot be read. {REMEDY}"));
        self.boot = boot.cast_unsigned();
        self.suspect |= suspect != 0;
        self.last_index = last.map_or(self.start.index, i64::cast_unsigned);
        if let Some(state) = state {
            self.hard_state = sql::decode(&state).map_err(|_| unreadable("hard state"))?;
        }
        if let Some(trust) = trust {
            let what = "word on what it holds";
            self.trust = sql::decode(&trust).map_err(|_| unreadable(what))?;
        }
        if let Some(identity) = identity {
            self.identity = Some(sql::decode(&identity).map_err(|_| unreadable("identity"))?);
        }
        Ok(())
    }

    /// The first write after a start. A sound WAL is brought into the file before
    /// it and begins anew: so frames of a torn end never stand behind later ones,
    /// where they would look like damage, and what an earlier process wrote in
    /// spite of a failed sync is written again; a disk without the room for that is
    /// waited for. A damaged one is written on, with what was found of it.
    fn count_boot(&mut self) -> Result<(), StoreError> {
        if !self.suspect {
            let again = super::ffi::write_wal_again(&self.connection);
            let pages = again.and_then(|()| self.pages("PRAGMA wal_checkpoint(RESTART)"));
            pages.map_err(|error| StoreError::of_file(&self.path, &error))?;
        }
        let connection = &self.connection;
        let boot = self.boot + 1;
        let counted = connection
            .execute_batch("BEGIN IMMEDIATE")
            .and_then(|()| connection.execute_batch(TABLES))
            .and_then(|()| connection.execute_batch(spool::TABLE))
            .and_then(|()| format::write(connection, self.format))
            .and_then(|()| set_meta(connection, "boot", boot.cast_signed()))
            .and_then(|()| match self.suspect {
                true => set_meta(connection, "suspect", 1),
                false => Ok(()),
            })
            .and_then(|()| connection.execute_batch("COMMIT"))
            .and_then(|()| keep_wal_on_close(connection, false));
        counted.map_err(|error| StoreError::of_file(&self.path, &error))?;
        self.boot = boot;
        Ok(())
    }

    /// The key this board asks to be admitted to `group` with: the one it asked
    /// with before, or `fresh`, written down before anybody sees it. An answer
    /// that is lost must not make another board of this one.
    ///
    /// # Errors
    /// As [`Journal::write`].
    pub fn candidate_key(
        &mut self,
        group: GroupId,
        fresh: [u8; 32],
    ) -> Result<[u8; 32], JournalError> {
        let known: Option<Vec<u8>> =
            meta(&self.connection, "candidate").map_err(|error| halt(&error))?;
        let known = known.and_then(|known| sql::decode::<(GroupId, [u8; 32])>(&known).ok());
        if let Some((_, key)) = known.filter(|(known, _)| *known == group) {
            return Ok(key);
        }
        let candidate = sql::encode(&(group, fresh));
        self.in_transaction(|connection| set_meta(connection, "candidate", candidate))?;
        Ok(fresh)
    }

    /// What this board is to be in the group it is about to be let in to, written down
    /// before it is: one that keeps none of the users' rows, or like most.
    ///
    /// # Errors
    /// As [`Journal::write`].
    pub fn set_witness(&mut self, is_witness: bool) -> Result<(), JournalError> {
        if self.is_witness == is_witness {
            return Ok(());
        }
        self.in_transaction(|connection| match is_witness {
            true => set_meta(connection, WITNESS, 1),
            false => forget_meta(connection, WITNESS),
        })?;
        self.is_witness = is_witness;
        Ok(())
    }

    /// Does this board keep none of the users' rows?
    #[must_use]
    pub const fn is_witness(&self) -> bool {
        self.is_witness
    }

    /// Up to where its log went before all others were known to hold it, as
    /// [`Cut::GivenUp`] says; 0 for never, or if they hold it since.
    #[must_use]
    pub const fn given_up(&self) -> u64 {
        self.given_up
    }

    /// Who this board is; `None` before it belongs to a group.
    #[must_use]
    pub const fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }

    /// Counts the starts of this file; the present one included.
    #[must_use]
    pub const fn boot(&self) -> u64 {
        self.boot
    }

    /// Where the file is.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.path.parent().expect("it is a file in a directory")
    }

    /// As last written.
    #[must_use]
    pub const fn hard_state(&self) -> HardState {
        self.hard_state
    }

    /// Last index in the log; 0 when it is empty.
    #[must_use]
    pub const fn last_index(&self) -> u64 {
        self.last_index
    }

    /// The entry before the log's first; zero when nothing was taken out yet.
    #[must_use]
    pub const fn start(&self) -> Position {
        self.start
    }

    /// A state that was about to come into the database from another board, as
    /// [`Cut::Coming`] says, and may have come.
    #[must_use]
    pub const fn coming(&self) -> Option<Position> {
        self.coming
    }

    /// The WAL, at this start or an earlier one, showed damage beyond a torn end,
    /// and no peer has confirmed since that nothing was lost.
    #[must_use]
    pub const fn suspect(&self) -> bool {
        self.suspect
    }

    /// What earlier starts wrote down of this disk.
    #[must_use]
    pub const fn trust(&self) -> &Trust {
        &self.trust
    }

    /// Makes this board that member of that group, with what its log goes on with.
    ///
    /// # Errors
    /// As [`Journal::write`].
    pub fn found(&mut self, identity: &Identity, persist: &Persist) -> Result<(), JournalError> {
        self.in_transaction(|connection| {
            set_meta(connection, "identity", sql::encode(identity))?;
            forget_meta(connection, "candidate")?;
            connection.execute("DELETE FROM state", [])?;
            write_one(connection, persist)
        })?;
        self.identity = Some(identity.clone());
        self.wrote(persist);
        Ok(())
    }

    /// So many starts are not counted: what they may have given is given by no other.
    ///
    /// # Errors
    /// As [`Journal::write`].
    pub fn skip_starts(&mut self, count: u64) -> Result<(), JournalError> {
        let boot = self.boot.saturating_add(count);
        self.in_transaction(|connection| set_meta(connection, "boot", boot.cast_signed()))?;
        self.boot = boot;
        Ok(())
    }

    /// This board knows other keys of its group from now on; those that stood here are
    /// overwritten, as far as a file can see to that.
    ///
    /// # Errors
    /// As [`Journal::write`].
    pub fn renew(&mut self, identity: &Identity) -> Result<(), JournalError> {
        let overwriting = |on| self.connection.pragma_update(None, "secure_delete", on);
        overwriting(true).map_err(|error| halt(&error))?;
        let renewed = self
            .in_transaction(|connection| set_meta(connection, "identity", sql::encode(identity)));
        overwriting(false).map_err(|error| halt(&error))?;
        renewed?;
        self.identity = Some(identity.clone());
        Ok(())
    }

    /// The group goes by this version, and needs the file to be as that says. Costs nothing
    /// where it is.
    ///
    /// # Errors
    /// As [`Journal::write`].
    pub fn suit(&mut self, version: u32) -> Result<(), JournalError> {
        let format = Format::of(version);
        if format > self.format {
            self.in_transaction(|connection| format::write(connection, format))?;
            self.format = format;
        }
        Ok(())
    }

    /// Writes everything in one transaction and one sync.
    ///
    /// # Errors
    /// [`JournalError::DiskFull`]: nothing was written. [`JournalError::Halt`]:
    /// the file must not be used any longer.
    ///
    /// # Panics
    /// When entries would leave a gap.
    pub fn write(&mut self, persists: &[Persist]) -> Result<(), JournalError> {
        let mut last = self.last_index;
        for Persist { entries, cut, .. } in persists {
            if let Some(Cut::Anew(start)) = cut {
                last = start.index;
            }
            if let (Some(first), Some(end)) = (entries.first(), entries.last()) {
                assert!(first.index <= last + 1, "entries leave a gap in the journal");
                last = end.index;
            }
        }
        self.in_transaction(|connection| {
            persists.iter().try_for_each(|persist| write_one(connection, persist))
        })?;
        for persist in persists {
            self.wrote(persist);
        }
        self.checkpoint()
    }

    fn wrote(&mut self, persist: &Persist) {
        self.hard_state = persist.hard_state;
        match persist.cut {
            Some(Cut::UpTo(start)) => (self.start, self.given_up) = (start, 0),
            Some(Cut::GivenUp(start)) => (self.start, self.given_up) = (start, start.index),
            Some(Cut::Coming(position)) => self.coming = Some(position),
            Some(Cut::Anew(start)) => {
                (self.start, self.last_index, self.coming) = (start, start.index, None);
                self.given_up = start.index;
            }
            None => {}
        }
        if let Some(last) = persist.entries.last() {
            self.last_index = last.index;
        }
    }

    fn in_transaction(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<()>,
    ) -> Result<(), JournalError> {
        let done = self
            .run("BEGIN IMMEDIATE")
            .and_then(|()| work(&self.connection))
            .and_then(|()| self.run("COMMIT"));
        let Err(error) = done else { return Ok(()) };
        if !self.connection.is_autocommit() && self.run("ROLLBACK").is_err() {
            return Err(halt(&error));
        }
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Err(JournalError::DiskFull),
            _ if mutant::is(10) => Ok(()),
            _ => Err(self.stopped(&error)),
        }
    }

    /// It goes on no longer, and after a failed sync there is no second try: closing
    /// would be one.
    fn stopped(&self, error: &rusqlite::Error) -> JournalError {
        // Where it cannot be set, this connection is past writing.
        let _ = keep_wal_on_close(&self.connection, true);
        halt(error)
    }

    fn run(&self, sql: &str) -> rusqlite::Result<()> {
        self.connection.prepare_cached(sql)?.execute([]).map(drop)
    }

    /// Brings a long WAL back into the file. What cannot be brought back now
    /// stays in the WAL, where it is just as safe.
    fn checkpoint(&self) -> Result<(), JournalError> {
        let long = self.pages("PRAGMA wal_checkpoint(NOOP)").map_err(|error| halt(&error))?;
        if long < WAL_PAGES_MAX {
            return Ok(());
        }
        match self.pages("PRAGMA wal_checkpoint(RESTART)") {
            Err(error) if error.sqlite_error_code() != Some(ErrorCode::DiskFull) => {
                Err(self.stopped(&error))
            }
            Ok(_) | Err(_) => Ok(()),
        }
    }

    fn pages(&self, checkpoint: &str) -> rusqlite::Result<i64> {
        self.connection.prepare_cached(checkpoint)?.query_row([], |row| row.get(1))
    }
}

pub(super) fn halt(error: &rusqlite::Error) -> JournalError {
    match is_damage(error) {
        true => JournalError::Halt(format!("{error}. {REMEDY}")),
        false => JournalError::Halt(error.to_string()),
    }
}

pub(super) fn damaged(index: u64) -> JournalError {
    JournalError::Halt(format!(
        "entry {index} (row {index} of table log) is damaged or missing. {REMEDY}"
    ))
}

fn connect(path: &Path, vfs: Option<&str>) -> rusqlite::Result<Connection> {
    let connection = open(path, vfs)?;
    connection.execute_batch(
        "PRAGMA page_size = 512; PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL;
         PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 0; PRAGMA cache_size = -256;
         PRAGMA temp_store = MEMORY;",
    )?;
    connection.set_prepared_statement_cache_capacity(16);
    keep_wal_on_close(&connection, true)?;
    Ok(connection)
}

fn write_one(connection: &Connection, persist: &Persist) -> rusqlite::Result<()> {
    spool::write(connection, &persist.spool)?;
    if let Some(cut) = persist.cut {
        trim::cut(connection, cut)?;
    }
    if let Some(first) = persist.entries.first()
        && !mutant::is(12)
    {
        connection
            .prepare_cached("DELETE FROM log WHERE idx >= ?1")?
            .execute([first.index.cast_signed()])?;
    }
    let mut insert =
        connection.prepare_cached("INSERT OR REPLACE INTO log VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?;
    let mut total = match persist.entries.first() {
        Some(first) => trim::total(connection, first.index - 1)?,
        None => 0,
    };
    for entry in &persist.entries {
        total += entry.data.len() as u64 + LOG_ROW_BYTES;
        insert.execute(rusqlite::params![
            entry.index.cast_signed(),
            entry.term.cast_signed(),
            kind_number(entry.kind),
            checksum(entry),
            total.cast_signed(),
            entry.data,
        ])?;
    }
    let mut hard_state = persist.hard_state;
    if mutant::is(2) {
        hard_state.vote = 0;
    }
    let mut insert = connection.prepare_cached("INSERT OR REPLACE INTO state VALUES (?1, ?2)")?;
    insert.execute(rusqlite::params![HARD_STATE, sql::encode(&hard_state)])?;
    for (peer, memory) in &persist.memories {
        insert.execute(rusqlite::params![peer.cast_signed(), sql::encode(memory)])?;
    }
    let Some(trust) = &persist.trust else { return Ok(()) };
    if *trust == Trust::Confirmed {
        set_meta(connection, "suspect", 0)?;
    }
    set_meta(connection, "trust", sql::encode(trust))
}

#[cfg(test)]
mod tests {
    use understudy_core::{
        event::{EntryKind, Held, Promise, Start},
        limits::LOG_PIECE_ENTRIES_MAX,
        restored::TermRun,
    };

    use super::{super::readback::SELECT_TERM, *};
    use crate::identity::GroupKey;

    fn entry(index: u64, term: u64) -> Entry {
        Entry { index, term, kind: EntryKind::Change, data: vec![7; 100] }
    }

    fn persist(entries: Vec<Entry>, term: u64) -> Persist {
        let hard_state = HardState { term, vote: 2, commit: 1 };
        Persist { entries, hard_state, ..Persist::default() }
    }

    fn open(directory: &Path) -> Journal {
        Journal::open(directory, &Options::default()).unwrap()
    }

    #[test]
    fn what_was_written_is_there_after_opening_again() {
        let directory = tempfile::tempdir().unwrap();
        let mut journal = open(directory.path());
        let promise = Promise { term: 1, vote: 3, matched: 2, sent: 5 };
        let start = Start { boot: 4, nonce: 9 };
        let memory = Memory { promise, start, is_copied: true };
        let mut first = persist((1..=5).map(|index| entry(index, 1)).collect(), 1);
        first.memories.push((3, memory));
        journal.write(&[first, persist(vec![entry(4, 2)], 2)]).unwrap();
        assert_eq!(journal.boot(), 1);
        drop(journal);
        let mut journal = open(directory.path());
        assert_eq!((journal.boot(), journal.last_index(), journal.suspect()), (2, 4, false));
        assert_eq!(journal.hard_state().term, 2);
        assert_eq!(journal.memories().unwrap(), [(3, memory)]);
        let runs = [TermRun { first: 1, term: 1 }, TermRun { first: 4, term: 2 }];
        assert_eq!(journal.terms().unwrap(), runs);
        assert_eq!(journal.read(3, 5, u64::MAX).unwrap(), [entry(3, 1), entry(4, 2)]);
        assert_eq!(journal.read(1, 5, 150).unwrap(), [entry(1, 1)]);
    }

    #[test]
    fn a_long_log_is_opened_by_reading_little_of_it_and_sorting_nothing() {
        use rusqlite::StatementStatus::{Sort, VmStep};
        let directory = tempfile::tempdir().unwrap();
        let mut journal = open(directory.path());
        let term = |index| 1 + index / 7_000;
        let entries: Vec<_> = (1..=20_000).map(|index| entry(index, term(index))).collect();
        journal.write(&[persist(entries, 3)]).unwrap();
        let runs = [(1, 1), (7_000, 2), (14_000, 3)];
        let runs = runs.map(|(first, term)| TermRun { first, term });
        assert_eq!(journal.terms().unwrap(), runs);
        let select = journal.connection.prepare_cached(SELECT_TERM).unwrap();
        let (steps, sorts) = (select.get_status(VmStep), select.get_status(Sort));
        assert!((1..1_000).contains(&steps) && sorts == 0, "{steps} steps, {sorts} sorts");
    }

    #[test]
    fn terms_that_fall_are_named() {
        let directory = tempfile::tempdir().unwrap();
        let mut journal = open(directory.path());
        let terms = [2, 2, 2, 1, 1, 3, 3];
        let entries = (1..).zip(terms).map(|(index, term)| entry(index, term));
        journal.write(&[persist(entries.collect(), 3)]).unwrap();
        let error = journal.terms().unwrap_err().to_string();
        assert!(error.contains("entry 4"), "{error}");
    }

    #[test]
    fn one_piece_is_bounded_by_entries_too() {
        let directory = tempfile::tempdir().unwrap();
        let mut journal = open(directory.path());
        let last = LOG_PIECE_ENTRIES_MAX as u64 + 9;
        let entries = (1..=last).map(|index| Entry { data: Vec::new(), ..entry(index, 1) });
        journal.write(&[persist(entries.collect(), 1)]).unwrap();
        let piece = journal.read(1, last + 1, u64::MAX).unwrap();
        assert_eq!(piece.len(), LOG_PIECE_ENTRIES_MAX);
    }

    #[test]
    fn a_damaged_wal_is_under_suspicion_until_peers_have_confirmed_it() {
        let directory = tempfile::tempdir().unwrap();
        let mut journal = open(directory.path());
        for index in 1..=50 {
            journal.write(&[persist(vec![entry(index, 1)], 1)]).unwrap();
        }
        let mut wal = std::fs::read(directory.path().join("journal.db-wal")).unwrap();
        let middle = wal.len() / 2;
        wal[middle] ^= 4;
        let copy = tempfile::tempdir().unwrap();
        std::fs::copy(directory.path().join("journal.db"), copy.path().join("journal.db")).unwrap();
        std::fs::write(copy.path().join("journal.db-wal"), wal).unwrap();
        for start in 2..=3 {
            let journal = open(copy.path());
            assert!(journal.suspect(), "start {start}");
            assert!(journal.last_index() < 50);
        }
        let mut journal = open(copy.path());
        let trust = Some(Trust::Confirmed);
        journal.write(&[Persist { trust, ..persist(Vec::new(), 1) }]).unwrap();
        drop(journal);
        assert!(!open(copy.path()).suspect());
    }

    fn cut(cut: Cut) -> Persist {
        Persist { cut: Some(cut), ..persist(Vec::new(), 3) }
    }

    #[test]
    fn what_was_cut_off_is_gone_and_its_end_is_known() {
        let directory = tempfile::tempdir().unwrap();
        let mut journal = open(directory.path());
        let entries: Vec<_> = (1..=300).map(|index| entry(index, 1 + index / 100)).collect();
        journal.write(&[persist(entries, 4)]).unwrap();
        let start = Position { term: 2, index: 150 };
        journal.write(&[cut(Cut::UpTo(start))]).unwrap();
        for _ in 0..2 {
            assert_eq!((journal.start(), journal.last_index()), (start, 300));
            let place = |index| journal.place(index).unwrap();
            assert_eq!([place(149), place(150), place(200)], [None, Some(2), Some(3)]);
            let runs = [(151, 2), (200, 3), (300, 4)];
            let runs = runs.map(|(first, term)| TermRun { first, term });
            assert_eq!(journal.terms().unwrap(), runs);
            let stretches = journal.stretches().unwrap();
            assert!(stretches[0].first == 151 && stretches[1].first == 215);
            assert_eq!(stretches.iter().map(|s| s.bytes).sum::<u64>(), 150 * 132);
            drop(journal);
            journal = open(directory.path());
        }
        assert!(journal.read(150, 160, 1_000).unwrap_err().to_string().contains("entry 150"));
        assert_eq!(journal.read(151, 152, 1_000).unwrap(), [entry(151, 2)]);
    }

    #[test]
    fn a_log_that_begins_anew_knows_nothing_of_the_one_before() {
        let directory = tempfile::tempdir().unwrap();
        let mut journal = open(directory.path());
        journal.write(&[persist((1..=9).map(|index| entry(index, 1)).collect(), 1)]).unwrap();
        let start = Position { term: 3, index: 70 };
        journal.write(&[cut(Cut::Coming(start))]).unwrap();
        drop(journal);
        let mut journal = open(directory.path());
        assert_eq!((journal.coming(), journal.last_index()), (Some(start), 9));
        let next = Persist { entries: vec![entry(71, 3)], ..cut(Cut::Anew(start)) };
        journal.write(&[next]).unwrap();
        for _ in 0..2 {
            assert_eq!((journal.start(), journal.last_index()), (start, 71));
            assert_eq!((journal.coming(), journal.stretches().unwrap()[0].bytes), (None, 132));
            assert_eq!(journal.terms().unwrap(), [TermRun { first: 71, term: 3 }]);
            drop(journal);
            journal = open(directory.path());
        }
    }

    #[test]
    fn what_was_given_up_is_remembered_until_what_all_hold_goes() {
        let directory = tempfile::tempdir().unwrap();
        let mut journal = open(directory.path());
        journal.set_witness(true).unwrap();
        journal.write(&[persist((1..=90).map(|index| entry(index, 1)).collect(), 1)]).unwrap();
        let at = |index| Position { term: 1, index };
        for (next, given_up) in [
            (Cut::UpTo(at(5)), 0),
            (Cut::GivenUp(at(20)), 20),
            (Cut::UpTo(at(30)), 0),
            (Cut::GivenUp(at(40)), 40),
            (Cut::Anew(at(200)), 200),
        ] {
            journal.write(&[cut(next)]).unwrap();
            assert_eq!(journal.given_up(), given_up, "{next:?}");
            drop(journal);
            journal = open(directory.path());
            assert_eq!(journal.given_up(), given_up, "{next:?}");
            assert!(journal.is_witness());
        }
        assert_eq!((journal.start(), journal.last_index()), (at(200), 200));
        journal.set_witness(false).unwrap();
        drop(journal);
        assert!(!open(directory.path()).is_witness());
    }

    #[test]
    fn a_log_that_is_cut_now_and_then_takes_no_more_room() {
        let directory = tempfile::tempdir().unwrap();
        let mut journal = open(directory.path());
        journal.run("PRAGMA synchronous = OFF").unwrap();
        let mut sizes = Vec::new();
        for index in 1..=6_000 {
            let mut next = persist(vec![entry(index, 1)], 1);
            if index > 500 && index % 64 == 0 {
                next.cut = Some(Cut::UpTo(Position { term: 1, index: index - 500 }));
            }
            journal.write(&[next]).unwrap();
            if index % 2_000 == 0 {
                journal.pages("PRAGMA wal_checkpoint(RESTART)").unwrap();
                let file = std::fs::metadata(directory.path().join("journal.db")).unwrap();
                sizes.push(file.len());
            }
        }
        assert!(sizes[2] <= sizes[0] + sizes[0] / 10, "{sizes:?}");
    }

    #[test]
    fn what_the_disk_says_of_itself_is_there_at_the_next_start() {
        let directory = tempfile::tempdir().unwrap();
        let held = Held { term: 3, vote: 2, last_index: 9 };
        let word = |trust| Persist { trust, ..persist(Vec::new(), 1) };
        for trust in [Trust::Unconfirmed(vec![(3, held)]), Trust::Lost, Trust::Confirmed] {
            let mut journal = open(directory.path());
            journal.write(&[word(Some(trust.clone())), word(None)]).unwrap();
            drop(journal);
            assert_eq!(*open(directory.path()).trust(), trust);
        }
    }

    /// A board killed while all it knows is in the WAL, as it often is.
    fn killed_member(directory: &Path) {
        let mut journal = open(directory);
        let identity = Identity {
            group: [1; 16],
            group_name: "g".into(),
            group_keys: vec![GroupKey { number: 0, key: [2; 32] }],
            node: 1,
            private_key: [3; 32],
            disk: [4; 16],
            acquaintances: Vec::new(),
        };
        journal.found(&identity, &persist(vec![entry(1, 1)], 1)).unwrap();
        for index in 2..=20 {
            journal.write(&[persist(vec![entry(index, 1)], 1)]).unwrap();
        }
        keep_wal_on_close(&journal.connection, true).unwrap();
    }

    fn refused(directory: &Path) -> String {
        Journal::open_own(directory).err().expect("it is refused").to_string()
    }

    #[test]
    fn a_journal_that_has_lost_its_group_is_refused_again_and_again_and_not_written() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        killed_member(directory);
        let wal = directory.join("journal.db-wal");
        let mut bytes = std::fs::read(&wal).unwrap();
        bytes[200] ^= 1;
        std::fs::write(&wal, &bytes).unwrap();
        for _ in 0..3 {
            let error = refused(directory);
            assert!(error.contains("damaged") && error.contains("join TOKEN` anew"), "{error}");
            assert!(error.contains(&directory.display().to_string()), "{error}");
            assert!(std::fs::read(&wal).unwrap() == bytes, "the evidence is kept");
        }
        std::fs::write(directory.join("state.db"), b"").unwrap();
        std::fs::remove_file(&wal).unwrap();
        assert!(refused(directory).contains("state.db"));
        std::fs::remove_file(directory.join("journal.db")).unwrap();
        for _ in 0..2 {
            assert!(refused(directory).contains("missing"));
        }
        std::fs::remove_file(directory.join("state.db")).unwrap();
        let _ = std::fs::remove_file(&wal);
        assert!(Journal::open_own(directory).unwrap().identity().is_none());
    }

    #[test]
    fn the_key_a_board_asks_with_stays_the_same_until_it_is_a_member() {
        let directory = tempfile::tempdir().unwrap();
        let mut journal = open(directory.path());
        assert_eq!(journal.candidate_key([1; 16], [7; 32]), Ok([7; 32]));
        drop(journal);
        let mut journal = open(directory.path());
        assert_eq!(journal.candidate_key([1; 16], [8; 32]), Ok([7; 32]));
        assert_eq!(journal.candidate_key([2; 16], [9; 32]), Ok([9; 32]), "another group");
    }

    #[test]
    fn the_journal_is_private() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal.db");
        std::fs::write(&path, b"").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let _journal = Journal::open_own(directory.path()).unwrap();
        for file in [path, directory.path().join("journal.db-wal")] {
            let mode = std::fs::metadata(&file).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{}", file.display());
        }
    }

    #[test]
    fn a_damaged_row_and_a_missing_one_are_named() {
        let directory = tempfile::tempdir().unwrap();
        let mut journal = open(directory.path());
        journal.write(&[persist((1..=9).map(|index| entry(index, 1)).collect(), 1)]).unwrap();
        journal.connection.execute("UPDATE log SET data = x'00' WHERE idx = 4", []).unwrap();
        journal.connection.execute("DELETE FROM log WHERE idx = 8", []).unwrap();
        let error = journal.read(2, 7, u64::MAX).unwrap_err().to_string();
        assert!(error.contains("entry 4"), "{error}");
        let error = journal.read(6, 10, u64::MAX).unwrap_err().to_string();
        assert!(error.contains("entry 8"), "{error}");
    }

    #[test]
    fn another_version_and_another_kind_of_file_are_refused_by_name() {
        let directory = tempfile::tempdir().unwrap();
        let journal = open(directory.path());
        set_meta(&journal.connection, "format", 9).unwrap();
        drop(journal);
        let error = Journal::open(directory.path(), &Options::default()).err().unwrap().to_string();
        assert!(error.contains("format version 9, this program reads 3 to 4"), "{error}");
        std::fs::write(directory.path().join("journal.db"), [7; 4096]).unwrap();
        let error = Journal::open(directory.path(), &Options::default()).err().unwrap().to_string();
        assert!(error.contains("journal.db"), "{error}");
    }

    #[test]
    fn the_file_says_what_it_needs_once_the_group_goes_by_more() {
        let directory = tempfile::tempdir().unwrap();
        let mut journal = open(directory.path());
        let format = |journal: &Journal| meta::<i64>(&journal.connection, "format").unwrap();
        journal.suit(1).unwrap();
        assert_eq!(format(&journal), Some(3));
        journal.suit(2).unwrap();
        drop(journal);
        let mut journal = open(directory.path());
        journal.suit(1).unwrap();
        assert_eq!(format(&journal), Some(4), "it never falls");
        assert_eq!(meta::<String>(&journal.connection, "needs").unwrap().unwrap(), "0.2.0");
        set_meta(&journal.connection, "format", 5).unwrap();
        set_meta(&journal.connection, "needs", "1.4.0").unwrap();
        drop(journal);
        let error = Journal::open(directory.path(), &Options::default()).err().unwrap().to_string();
        assert!(error.contains("reads 3 to 4: install understudy 1.4.0"), "{error}");
    }

    #[test]
    #[should_panic(expected = "gap")]
    fn a_gap_is_a_broken_invariant() {
        let directory = tempfile::tempdir().unwrap();
        let _ = open(directory.path()).write(&[persist(vec![entry(3, 1)], 1)]);
    }

    #[test]
    fn the_wal_goes_back_into_the_file_now_and_then() {
        let directory = tempfile::tempdir().unwrap();
        let mut journal = open(directory.path());
        for index in 1..=2_000 {
            journal.run("PRAGMA synchronous = OFF").unwrap();
            journal.write(&[persist(vec![entry(index, 1)], 1)]).unwrap();
        }
        let wal = std::fs::metadata(directory.path().join("journal.db-wal")).unwrap().len();
        assert!(wal < 2 << 20, "{wal} bytes of WAL");
    }
}
