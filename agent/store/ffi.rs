//! The only unsafe file: SQLite calls that rusqlite does not offer without a C
//! parser at build time, and one of the system that rustix does not have. Each is
//! small, and safe to call from outside.
#![expect(unsafe_code, reason = "raw calls; each block says why it is sound")]

use std::{
    ffi::{CStr, c_char, c_int, c_void},
    sync::{Arc, Mutex, PoisonError},
};

use rusqlite::{Connection, ffi};
use understudy_core::sql::Value;

/// Who is told of every row of `main` before it changes.
pub(crate) trait Touches {
    /// What is known of a table.
    type Table;

    /// The table, if its rows are of interest now.
    fn table(&self, name: &[u8]) -> Option<Self::Table>;

    /// For a WITHOUT ROWID table: the columns of its key, by table order.
    fn key_columns(table: &Self::Table) -> Option<&[i32]>;

    /// The columns that are compared when a row keeps its identity, by table order.
    fn compared_columns(table: &Self::Table) -> &[i32];

    /// Are these columns' values of interest when a row comes?
    fn wants_values(&self, table: &Self::Table) -> bool;

    /// A row comes, goes, or changes; of so many bytes, beside the values that come
    /// with it. Is the statement to go on?
    fn touched(&mut self, table: Self::Table, touch: Touch, bytes: usize) -> bool;
}

/// What becomes of a row.
pub(crate) enum Touch {
    /// One identified by this is there now: the compared columns, where wanted.
    Came(Identity, Option<Vec<Value>>),
    /// No longer.
    Went(Identity),
    /// It has another identity now.
    Moved(Identity, Identity),
    /// These of the compared columns changed, by their places among them.
    Changed(Identity, Vec<usize>),
}

/// What names a row for good.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Identity {
    /// Of a rowid table.
    Rowid(i64),
    /// Of a WITHOUT ROWID table: its whole key.
    Key(Vec<Value>),
}

/// Keeps a preupdate hook installed for as long as its connection lives.
pub(crate) struct Hook<T: Touches> {
    shared: Arc<Mutex<T>>,
}

impl<T: Touches + 'static> Hook<T> {
    /// Installs the hook; `keep` must stay alive as long as `connection`.
    pub(crate) fn install(connection: &Connection, target: T) -> Self {
        let shared = Arc::new(Mutex::new(target));
        // SAFETY: the handle is valid while the connection is; the context points
        // into an Arc that lives until `remove` has taken the hook out.
        unsafe {
            ffi::sqlite3_preupdate_hook(
                connection.handle(),
                Some(on_preupdate::<T>),
                Arc::as_ptr(&shared).cast_mut().cast::<c_void>(),
            );
        }
        Self { shared }
    }

    /// Takes the hook out, before the target goes.
    pub(crate) fn remove(&self, connection: &Connection) {
        // SAFETY: the handle is valid while the connection is.
        unsafe {
            ffi::sqlite3_preupdate_hook(connection.handle(), None, std::ptr::null_mut());
        }
    }

    /// The target, between SQLite's calls.
    pub(crate) fn with<R>(&self, work: impl FnOnce(&mut T) -> R) -> R {
        work(&mut self.shared.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

unsafe extern "C" fn on_preupdate<T: Touches>(
    context: *mut c_void,
    database: *mut ffi::sqlite3,
    operation: c_int,
    schema: *const c_char,
    table: *const c_char,
    old_rowid: ffi::sqlite3_int64,
    new_rowid: ffi::sqlite3_int64,
) {
    // SAFETY: SQLite hands over valid, zero-terminated names, and the context
    // given at installation, which outlives the connection.
    let (schema, table, target) =
        unsafe { (CStr::from_ptr(schema), CStr::from_ptr(table), &*context.cast::<Mutex<T>>()) };
    if schema.to_bytes() != b"main" {
        return;
    }
    let mut target = target.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(table) = target.table(table.to_bytes()) else { return };
    let identity = |side: Side| match (T::key_columns(&table), side) {
        (Some(columns), side) => {
            let key = values_of(database, columns, side);
            Identity::Key(key.expect("a key column can be read"))
        }
        (None, Side::Old) => Identity::Rowid(old_rowid),
        (None, Side::New) => Identity::Rowid(new_rowid),
    };
    let touch = match operation {
        ffi::SQLITE_INSERT => {
            let wanted = target.wants_values(&table).then(|| T::compared_columns(&table));
            let values = wanted.and_then(|columns| values_of(database, columns, Side::New));
            Touch::Came(identity(Side::New), values)
        }
        ffi::SQLITE_DELETE => Touch::Went(identity(Side::Old)),
        _ => {
            let (old, new) = (identity(Side::Old), identity(Side::New));
            if old == new {
                let columns = (0..).zip(T::compared_columns(&table));
                let changed = columns.filter(|(_, column)| differs(database, **column));
                Touch::Changed(old, changed.map(|(place, _)| place).collect())
            } else {
                Touch::Moved(old, new)
            }
        }
    };
    let is_known = matches!(touch, Touch::Came(_, Some(_)));
    let old = if operation == ffi::SQLITE_INSERT { 0 } else { row_bytes(database, Side::Old) };
    let new = match operation {
        ffi::SQLITE_DELETE => 0,
        _ if is_known => 0,
        _ => row_bytes(database, Side::New),
    };
    if !target.touched(table, touch, old + new) {
        // SAFETY: SQLite may be told so at any time while the handle is valid.
        unsafe { ffi::sqlite3_interrupt(database) }
    }
}

/// Bytes of all strings in the row before or after.
fn row_bytes(database: *mut ffi::sqlite3, side: Side) -> usize {
    // SAFETY: called from within the preupdate hook only, with the handle it was given.
    let columns = unsafe { ffi::sqlite3_preupdate_count(database) };
    let bytes_of = |column| {
        let value = value_of(database, column, side);
        if value.is_null() {
            return 0;
        }
        // SAFETY: SQLite owns the value, which stays valid until the hook returns. Only
        // of strings is the length asked: a number would be made one.
        unsafe {
            match ffi::sqlite3_value_type(value) {
                ffi::SQLITE_TEXT | ffi::SQLITE_BLOB => {
                    usize::try_from(ffi::sqlite3_value_bytes(value)).unwrap_or(0)
                }
                _ => 0,
            }
        }
    };
    (0..columns).map(bytes_of).sum()
}

#[derive(Clone, Copy)]
enum Side {
    Old,
    New,
}

/// The value of a column before or after; null when SQLite has none.
fn value_of(database: *mut ffi::sqlite3, column: i32, side: Side) -> *mut ffi::sqlite3_value {
    let mut value = std::ptr::null_mut();
    // SAFETY: called from within the preupdate hook only, with the handle it was
    // given, for a side that the operation has.
    let code = unsafe {
        match side {
            Side::Old => ffi::sqlite3_preupdate_old(database, column, &raw mut value),
            Side::New => ffi::sqlite3_preupdate_new(database, column, &raw mut value),
        }
    };
    if code == ffi::SQLITE_OK { value } else { std::ptr::null_mut() }
}

/// Copies of these columns, unless one cannot be read.
fn values_of(database: *mut ffi::sqlite3, columns: &[i32], side: Side) -> Option<Vec<Value>> {
    let column = |column: &i32| {
        let value = value_of(database, *column, side);
        // SAFETY: SQLite owns the value, which stays valid until the hook returns.
        (!value.is_null()).then(|| unsafe { copy_value(value) })
    };
    columns.iter().map(column).collect()
}

/// Does an update change the column? Taken for changed where that cannot be told.
fn differs(database: *mut ffi::sqlite3, column: i32) -> bool {
    let old = value_of(database, column, Side::Old);
    let new = value_of(database, column, Side::New);
    if old.is_null() || new.is_null() {
        return true;
    }
    // SAFETY: both are SQLite's and stay valid until the hook returns; strings are
    // looked at for their own lengths, asked after the pointer.
    unsafe {
        let kind = ffi::sqlite3_value_type(old);
        if kind != ffi::sqlite3_value_type(new) {
            return true;
        }
        match kind {
            ffi::SQLITE_NULL => false,
            ffi::SQLITE_INTEGER => ffi::sqlite3_value_int64(old) != ffi::sqlite3_value_int64(new),
            ffi::SQLITE_FLOAT => {
                let bits = |value| ffi::sqlite3_value_double(value).to_bits();
                bits(old) != bits(new)
            }
            _ => bytes_of(old, kind) != bytes_of(new, kind),
        }
    }
}

/// # Safety
/// `value` must be a valid protected text or blob, unchanged while the bytes live.
unsafe fn bytes_of<'a>(value: *mut ffi::sqlite3_value, kind: c_int) -> &'a [u8] {
    // SAFETY: the caller vouches for the value; length is asked after the pointer.
    unsafe {
        let start = match kind {
            ffi::SQLITE_TEXT => ffi::sqlite3_value_text(value),
            _ => ffi::sqlite3_value_blob(value).cast::<u8>(),
        };
        match usize::try_from(ffi::sqlite3_value_bytes(value)) {
            Ok(count) if !start.is_null() => std::slice::from_raw_parts(start, count),
            Ok(_) | Err(_) => &[],
        }
    }
}

/// # Safety
/// `value` must be a valid protected SQLite value.
unsafe fn copy_value(value: *mut ffi::sqlite3_value) -> Value {
    // SAFETY: the caller vouches for the value.
    unsafe {
        match ffi::sqlite3_value_type(value) {
            ffi::SQLITE_INTEGER => Value::Integer(ffi::sqlite3_value_int64(value)),
            ffi::SQLITE_FLOAT => Value::Real(ffi::sqlite3_value_double(value)),
            ffi::SQLITE_TEXT => Value::Text(bytes_of(value, ffi::SQLITE_TEXT).to_vec()),
            ffi::SQLITE_BLOB => Value::Blob(bytes_of(value, ffi::SQLITE_BLOB).to_vec()),
            _ => Value::Null,
        }
    }
}

/// Who is asked of everything a statement would do, while SQLite compiles it.
pub(crate) trait Authority {
    /// May it?
    fn allows(&mut self, action: &Action<'_>) -> bool;
}

/// What a statement would do: SQLite's code, and the names it gives with it. They
/// may be a caller's values, which need not be UTF-8.
pub(crate) struct Action<'a> {
    pub(crate) code: c_int,
    pub(crate) names: [Option<&'a [u8]>; 2],
    pub(crate) database: Option<&'a [u8]>,
}

/// Has the connection ask `authority` for as long as it is open. rusqlite's own
/// authorizer panics at a name that is not UTF-8.
pub(crate) fn ask<A: Authority + Send + 'static>(
    connection: &Connection,
    authority: Arc<Mutex<A>>,
) -> rusqlite::Result<()> {
    let context = Arc::into_raw(authority).cast_mut().cast::<c_void>();
    // SAFETY: the handle is valid while the connection is. The context is a count of
    // the Arc that belongs to the connection from here on: SQLite gives it back when
    // it closes, after the last statement was compiled, or at once when it fails.
    let code = unsafe {
        let handle = connection.handle();
        let name = c"understudy_authority".as_ptr();
        let code = ffi::sqlite3_set_clientdata(handle, name, context, Some(release::<A>));
        match code {
            ffi::SQLITE_OK => ffi::sqlite3_set_authorizer(handle, Some(on_action::<A>), context),
            failed => failed,
        }
    };
    match code {
        ffi::SQLITE_OK => Ok(()),
        code => Err(rusqlite::Error::SqliteFailure(ffi::Error::new(code), None)),
    }
}

unsafe extern "C" fn release<A>(context: *mut c_void) {
    // SAFETY: the context is the count that `ask` took out of its Arc, given back once.
    drop(unsafe { Arc::from_raw(context.cast::<Mutex<A>>()) });
}

unsafe extern "C" fn on_action<A: Authority>(
    context: *mut c_void,
    code: c_int,
    first: *const c_char,
    second: *const c_char,
    database: *const c_char,
    _trigger_or_view: *const c_char,
) -> c_int {
    // SAFETY: a name is null or ends with a zero, and stays valid until we return.
    let bytes =
        |name: *const c_char| unsafe { (!name.is_null()).then(|| CStr::from_ptr(name).to_bytes()) };
    // SAFETY: the context given at installation, which the connection keeps.
    let authority = unsafe { &*context.cast::<Mutex<A>>() };
    let names = [bytes(first), bytes(second)];
    let action = Action { code, names, database: bytes(database) };
    match authority.lock().unwrap_or_else(PoisonError::into_inner).allows(&action) {
        true => ffi::SQLITE_OK,
        false => ffi::SQLITE_DENY,
    }
}

/// Does the system say that its wall clock follows a time server? (`adjtimex(2)`)
pub(crate) fn is_clock_synchronised() -> bool {
    // SAFETY: all zeros is a value of the struct, integers all of it, and asks for no
    // change; the call writes to it alone.
    let (state, status) = unsafe {
        let mut asked: libc::timex = std::mem::zeroed();
        let state = libc::adjtimex(&raw mut asked);
        (state, asked.status)
    };
    state >= 0 && status & libc::STA_UNSYNC == 0
}

/// Are there foreign key constraints that only a COMMIT would complain about?
pub(crate) fn has_deferred_violations(connection: &Connection) -> bool {
    status(connection, ffi::SQLITE_DBSTATUS_DEFERRED_FKS) > 0
}

/// Bytes of memory that hold this connection's pages.
pub(crate) fn cache_bytes(connection: &Connection) -> usize {
    usize::try_from(status(connection, ffi::SQLITE_DBSTATUS_CACHE_USED)).unwrap_or(0)
}

/// Bytes of memory that hold this connection's compiled statements.
#[cfg(test)]
pub(crate) fn statement_bytes_held(connection: &Connection) -> usize {
    usize::try_from(status(connection, ffi::SQLITE_DBSTATUS_STMT_USED)).unwrap_or(0)
}

/// One of SQLite's numbers on a connection; 0 where it has none.
fn status(connection: &Connection, what: c_int) -> c_int {
    let (mut current, mut highest) = (0, 0);
    // SAFETY: the handle is valid while the connection is; both places are ours.
    let code = unsafe {
        ffi::sqlite3_db_status(connection.handle(), what, &raw mut current, &raw mut highest, 0)
    };
    if code == ffi::SQLITE_OK { current } else { 0 }
}

/// Length of the first statement of `text`, its `;` included; `None` when it does
/// not compile.
pub(crate) fn statement_bytes(connection: &Connection, text: &str) -> Option<usize> {
    let length = c_int::try_from(text.len()).ok()?;
    let (mut statement, mut tail) = (std::ptr::null_mut(), std::ptr::null());
    // SAFETY: the handle is valid while the connection is; `text` is given with
    // its length and outlives the call; the statement is finalised at once.
    unsafe {
        let code = ffi::sqlite3_prepare_v2(
            connection.handle(),
            text.as_ptr().cast(),
            length,
            &raw mut statement,
            &raw mut tail,
        );
        ffi::sqlite3_finalize(statement);
        (code == ffi::SQLITE_OK && !tail.is_null())
            .then(|| tail.cast::<u8>().offset_from_unsigned(text.as_ptr()))
    }
}

/// The WAL and its index stay when the last connection is closed: whoever may only
/// read could not make them.
pub(crate) fn keep_wal(connection: &Connection) {
    let mut on: c_int = 1;
    // SAFETY: the handle is valid while the connection is; this control takes an
    // int, which outlives the call. A VFS that does not know it leaves it alone.
    unsafe {
        ffi::sqlite3_file_control(
            connection.handle(),
            c"main".as_ptr(),
            ffi::SQLITE_FCNTL_PERSIST_WAL,
            (&raw mut on).cast::<c_void>(),
        );
    }
}

/// Writes the WAL again as it is, and syncs it; to be called after a first read, when
/// nobody else writes. After a failed sync the system shows an earlier process's frames
/// and takes them for written, though the disk never got them: a checkpoint that the
/// power cuts short would leave pages of them in the file, and not the rest.
pub(crate) fn write_wal_again(connection: &Connection) -> rusqlite::Result<()> {
    let mut file: *mut ffi::sqlite3_file = std::ptr::null_mut();
    // SAFETY: the handle is valid while the connection is; this control takes a place
    // for a pointer to the open WAL, which lives as long as the connection reads.
    unsafe {
        ffi::sqlite3_file_control(
            connection.handle(),
            c"main".as_ptr(),
            ffi::SQLITE_FCNTL_JOURNAL_POINTER,
            (&raw mut file).cast::<c_void>(),
        );
    }
    // SAFETY: a file that is open has methods, one that is not has none.
    let methods = unsafe { file.as_ref().and_then(|file| file.pMethods.as_ref()) };
    let Some(methods) = methods else { return Ok(()) };
    let (Some(size), Some(read), Some(write), Some(sync)) =
        (methods.xFileSize, methods.xRead, methods.xWrite, methods.xSync)
    else {
        return Ok(());
    };
    let done = |code: c_int| match code {
        ffi::SQLITE_OK => Ok(()),
        code => Err(rusqlite::Error::SqliteFailure(ffi::Error::new(code), None)),
    };
    let mut bytes = 0;
    // SAFETY: the file is open, and the place is ours.
    done(unsafe { size(file, &raw mut bytes) })?;
    let mut piece = [0u8; 4_096];
    let mut at = 0;
    while at < bytes {
        let count = c_int::try_from((bytes - at).min(4_096)).expect("no more than a piece");
        // SAFETY: the file is open, and the piece has room for so many bytes.
        done(unsafe { read(file, piece.as_mut_ptr().cast(), count, at) })?;
        // SAFETY: the same.
        done(unsafe { write(file, piece.as_ptr().cast(), count, at) })?;
        at += i64::from(count);
    }
    // SAFETY: the file is open.
    if bytes > 0 { done(unsafe { sync(file, ffi::SQLITE_SYNC_NORMAL) }) } else { Ok(()) }
}

/// The C library's memory stays in few pools. It would make one for each thread that asks
/// while another is asked, up to eight for each core, and give little of them back.
pub fn limit_arenas() {
    // SAFETY: takes numbers, touches nothing of ours.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 2);
    }
}

/// Bytes that SQLite's allocator hands out in this process, and the bound it
/// starts to give cached pages back at.
pub fn limit_memory(bytes: i64) {
    // SAFETY: takes a number, touches nothing of ours.
    unsafe {
        ffi::sqlite3_soft_heap_limit64(bytes);
    }
}
