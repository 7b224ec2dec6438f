//! The only unsafe file: SQLite calls that rusqlite does not offer without a C
//! parser at build time. Each is small, and safe to call from outside.
#![expect(unsafe_code, reason = "raw SQLite calls; each block says why it is sound")]

use std::{
    ffi::{CStr, c_char, c_int, c_void},
    sync::{Arc, Mutex, PoisonError},
};

use rusqlite::{Connection, ffi};
use understudy_core::sql::Value;

/// Who is told of every row of `main` before it changes.
pub(crate) trait Touches {
    /// For a WITHOUT ROWID table: the columns of its key, by table order.
    fn key_columns(&self, table: &[u8]) -> Option<Vec<i32>>;

    /// A row identified by `old` (which exists) becomes one identified by `new`.
    fn touched(&mut self, table: &[u8], old: Option<Identity>, new: Option<Identity>);
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
    let table = table.to_bytes();
    let mut target = target.lock().unwrap_or_else(PoisonError::into_inner);
    let has_old = operation != ffi::SQLITE_INSERT;
    let has_new = operation != ffi::SQLITE_DELETE;
    let (old, new) = match target.key_columns(table) {
        Some(columns) => (
            has_old.then(|| Identity::Key(key_of(database, &columns, Side::Old))),
            has_new.then(|| Identity::Key(key_of(database, &columns, Side::New))),
        ),
        None => (
            has_old.then_some(Identity::Rowid(old_rowid)),
            has_new.then_some(Identity::Rowid(new_rowid)),
        ),
    };
    target.touched(table, old, new);
}

#[derive(Clone, Copy)]
enum Side {
    Old,
    New,
}

fn key_of(database: *mut ffi::sqlite3, columns: &[i32], side: Side) -> Vec<Value> {
    let column = |column: &i32| {
        let mut value = std::ptr::null_mut();
        // SAFETY: called from within the preupdate hook only, with the handle it
        // was given, for the side that the operation has.
        let code = unsafe {
            match side {
                Side::Old => ffi::sqlite3_preupdate_old(database, *column, &raw mut value),
                Side::New => ffi::sqlite3_preupdate_new(database, *column, &raw mut value),
            }
        };
        assert!(code == ffi::SQLITE_OK && !value.is_null(), "a key column cannot be read");
        // SAFETY: SQLite owns the value, which stays valid until the hook returns.
        unsafe { copy_value(value) }
    };
    columns.iter().map(column).collect()
}

/// # Safety
/// `value` must be a valid protected SQLite value.
unsafe fn copy_value(value: *mut ffi::sqlite3_value) -> Value {
    // SAFETY: the caller vouches for the value; length is asked after the pointer,
    // as SQLite's documentation demands.
    unsafe {
        match ffi::sqlite3_value_type(value) {
            ffi::SQLITE_INTEGER => Value::Integer(ffi::sqlite3_value_int64(value)),
            ffi::SQLITE_FLOAT => Value::Real(ffi::sqlite3_value_double(value)),
            ffi::SQLITE_TEXT => {
                let text = ffi::sqlite3_value_text(value);
                Value::Text(copy_bytes(text, ffi::sqlite3_value_bytes(value)))
            }
            ffi::SQLITE_BLOB => {
                let blob = ffi::sqlite3_value_blob(value).cast::<u8>();
                Value::Blob(copy_bytes(blob, ffi::sqlite3_value_bytes(value)))
            }
            _ => Value::Null,
        }
    }
}

/// # Safety
/// `start` must be null or point to `count` readable bytes.
unsafe fn copy_bytes(start: *const u8, count: c_int) -> Vec<u8> {
    let count = usize::try_from(count).unwrap_or(0);
    if start.is_null() || count == 0 {
        return Vec::new();
    }
    // SAFETY: the caller vouches for the bytes.
    unsafe { std::slice::from_raw_parts(start, count) }.to_vec()
}

/// Are there foreign key constraints that only a COMMIT would complain about?
pub(crate) fn has_deferred_violations(connection: &Connection) -> bool {
    status(connection, ffi::SQLITE_DBSTATUS_DEFERRED_FKS) > 0
}

/// Bytes of memory that hold this connection's pages.
pub(crate) fn cache_bytes(connection: &Connection) -> usize {
    usize::try_from(status(connection, ffi::SQLITE_DBSTATUS_CACHE_USED)).unwrap_or(0)
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

/// Bytes that SQLite's allocator hands out in this process, and the bound it
/// starts to give cached pages back at.
pub fn limit_memory(bytes: i64) {
    // SAFETY: takes a number, touches nothing of ours.
    unsafe {
        ffi::sqlite3_soft_heap_limit64(bytes);
    }
}
