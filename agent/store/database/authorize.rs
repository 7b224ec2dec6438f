//! What a statement may do, decided while SQLite compiles it, before anything
//! runs. Refusals carry their reason.
//!
//! Refused are statements that would end or open transactions (the database
//! keeps one open over many entries), touch other files, or write what belongs
//! to the agent; pragmas that change how the file is kept; and virtual tables
//! whose rows cannot be captured.

use std::{
    str::Utf8Error,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rusqlite::{CachedStatement, Connection, ffi as code};
use understudy_core::sql::Origin;

use super::{refusal, schema::Schema, views::Views};
use crate::store::ffi::{self, Action, Authority};

/// On whose behalf SQL is compiled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Ours: everything is allowed.
    #[default]
    Internal,
    /// A request that may write.
    Writing(Origin),
    /// A request that only reads.
    Reading,
}

impl Mode {
    /// A comment that a caller's statement is compiled under. Ours have none, and
    /// a caller cannot write it: a statement's own text comes after it.
    const fn mark(self) -> &'static str {
        match self {
            Self::Internal => "",
            Self::Writing(Origin::User) => "/*user*/",
            Self::Writing(Origin::Agent) => "/*agent*/",
            Self::Reading => "/*read*/",
        }
    }
}

/// What compiling a statement has shown.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// It changes the schema, or what is kept beside it.
    pub(crate) schema: bool,
    /// Tables the schema change is about.
    pub(crate) tables: Vec<String>,
    /// It creates a table.
    pub(crate) creates_table: bool,
    /// It selects.
    pub(crate) selects: bool,
    /// It is replicated as it stands although the schema stays (ANALYZE, REINDEX,
    /// a header pragma).
    pub(crate) verbatim: bool,
    /// It is a pragma: what it does partly happens while it is compiled.
    pub(crate) pragma: bool,
    /// It asks for foreign keys on or off.
    pub(crate) foreign_keys: Option<bool>,
    /// Why it is refused.
    pub(crate) refused: Option<Refused>,
}

/// Why a statement is refused, and what else comes to nothing with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// This statement.
    Statement(String),
    /// The request as a whole, as with rqlite.
    Request(String),
}

#[derive(Debug, Default)]
struct State {
    mode: Mode,
    seen: Seen,
    schema: Arc<Schema>,
    /// A caller's own words are compiled, not what a virtual table's module does
    /// on their behalf.
    is_callers: bool,
}

/// The authorizer of one connection.
#[derive(Debug, Default)]
pub(crate) struct Authorizer {
    state: Arc<Mutex<State>>,
    /// What statements are counted by, on all connections.
    views: Arc<Mutex<Arc<Views>>>,
}

impl Authorizer {
    /// For another connection to the same file.
    pub(crate) fn for_another(&self) -> Self {
        Self { state: Arc::default(), views: Arc::clone(&self.views) }
    }

    pub(crate) fn install(&self, connection: &Connection) -> rusqlite::Result<()> {
        ffi::ask(connection, Arc::clone(&self.state))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Compiles a caller's statement in this mode, or takes it from the cache.
    /// What was compiled in one mode is never found in another: the authorizer is
    /// not asked again about a cached statement.
    pub(crate) fn compile<'connection>(
        &self,
        connection: &'connection Connection,
        mode: Mode,
        sql: &str,
    ) -> rusqlite::Result<CachedStatement<'connection>> {
        self.enter(mode);
        if self.end_of_too_long(sql).is_some() {
            self.state().seen.refused = Some(Refused::Statement(refusal::too_long_statement()));
            let denied = code::Error::new(code::SQLITE_AUTH);
            return Err(rusqlite::Error::SqliteFailure(denied, None));
        }
        self.state().is_callers = true;
        let compiled = connection.prepare_cached(&format!("{}{sql}", mode.mark()));
        self.state().is_callers = false;
        compiled
    }

    /// Where the first statement of a text ends, when it is not to be compiled.
    pub(crate) fn end_of_too_long(&self, sql: &str) -> Option<usize> {
        let views = Arc::clone(&self.views.lock().unwrap_or_else(PoisonError::into_inner));
        views.end_of_too_long(sql)
    }

    /// From now on statements are compiled in this mode.
    pub(crate) fn enter(&self, mode: Mode) {
        let mut state = self.state();
        state.mode = mode;
        state.seen = Seen::default();
    }

    /// From now on these are the tables there are.
    pub(crate) fn set_schema(&self, schema: Arc<Schema>) {
        *self.views.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&schema.views);
        self.state().schema = schema;
    }

    /// What was seen since the last call.
    pub(crate) fn take_seen(&self) -> Seen {
        std::mem::take(&mut self.state().seen)
    }
}

impl Authority for State {
    fn allows(&mut self, action: &Action<'_>) -> bool {
        if self.mode == Mode::Internal {
            return true;
        }
        // Inside a trigger or view the statement that fired it is responsible.
        match judge(self, action) {
            Ok(()) => true,
            Err(reason) => {
                self.seen.refused.get_or_insert(reason);
                false
            }
        }
    }
}

fn judge(state: &mut State, action: &Action<'_>) -> Result<(), Refused> {
    let texts = (text(action.names[0]), text(action.names[1]), text(action.database));
    let (Ok(first), Ok(second), Ok(database)) = texts else { return refuse(refusal::NOT_UTF8) };
    let (name, other) = (first.unwrap_or_default(), second.unwrap_or_default());
    match action.code {
        code::SQLITE_TRANSACTION | code::SQLITE_SAVEPOINT => refuse(refusal::TRANSACTION),
        code::SQLITE_ATTACH | code::SQLITE_DETACH => refuse(refusal::ATTACH),
        code::SQLITE_CREATE_TEMP_INDEX
        | code::SQLITE_CREATE_TEMP_TABLE
        | code::SQLITE_CREATE_TEMP_TRIGGER
        | code::SQLITE_CREATE_TEMP_VIEW
        | code::SQLITE_DROP_TEMP_INDEX
        | code::SQLITE_DROP_TEMP_TABLE
        | code::SQLITE_DROP_TEMP_TRIGGER
        | code::SQLITE_DROP_TEMP_VIEW => refuse(refusal::TEMP),
        code::SQLITE_PRAGMA if database == Some("temp") && second.is_some() => {
            refuse(refusal::TEMP)
        }
        code::SQLITE_PRAGMA => judge_pragma(state, name, second),
        code::SQLITE_FUNCTION if other == "load_extension" => refuse(refusal::EXTENSION),
        code::SQLITE_READ if name == PAGES => refuse(refusal::PAGES),
        code::SQLITE_INSERT | code::SQLITE_DELETE | code::SQLITE_UPDATE => judge_write(state, name),
        code::SQLITE_SELECT => {
            state.seen.selects = true;
            Ok(())
        }
        what => judge_schema(state, what, (name, other), database == Some("temp")),
    }
}

fn text(name: Option<&[u8]>) -> Result<Option<&str>, Utf8Error> {
    name.map(str::from_utf8).transpose()
}

fn refuse(words: impl Into<String>) -> Result<(), Refused> {
    Err(Refused::Statement(words.into()))
}

/// SQLite's table of pages: there without being created, and behind capture's back.
const PAGES: &str = "sqlite_dbpage";

fn judge_write(state: &State, table: &str) -> Result<(), Refused> {
    if table == PAGES {
        return refuse(refusal::PAGES);
    }
    if is_ours(table) && state.mode != Mode::Writing(Origin::Agent) {
        return refuse(refusal::ours(table));
    }
    if table == "sqlite_sequence" && !state.seen.schema {
        return refuse(refusal::SEQUENCE);
    }
    judge_shadow(state, table)
}

/// What an index keeps for itself is written by its module alone.
fn judge_shadow(state: &State, table: &str) -> Result<(), Refused> {
    let named = state.schema.named_in_any_case(table);
    if state.is_callers && named.is_some_and(|table| table.is_shadow) {
        return refuse(refusal::shadow(table));
    }
    Ok(())
}

fn judge_schema(
    state: &mut State,
    what: i32,
    (name, other): (&str, &str),
    is_temp: bool,
) -> Result<(), Refused> {
    let table = match what {
        code::SQLITE_CREATE_TABLE => {
            state.seen.creates_table = true;
            name
        }
        code::SQLITE_CREATE_VTABLE if !other.eq_ignore_ascii_case("fts5") => {
            return refuse(refusal::module(other));
        }
        code::SQLITE_CREATE_VIEW
        | code::SQLITE_CREATE_VTABLE
        | code::SQLITE_DROP_TABLE
        | code::SQLITE_DROP_VIEW
        | code::SQLITE_DROP_VTABLE => name,
        code::SQLITE_CREATE_INDEX
        | code::SQLITE_CREATE_TRIGGER
        | code::SQLITE_DROP_INDEX
        | code::SQLITE_DROP_TRIGGER
        | code::SQLITE_ALTER_TABLE => other,
        code::SQLITE_REINDEX | code::SQLITE_ANALYZE => {
            state.seen.schema = true;
            state.seen.verbatim = true;
            state.seen.tables.push(String::from(STATISTICS));
            return Ok(());
        }
        // What is named nowhere only reads.
        _ => return Ok(()),
    };
    if is_temp {
        return refuse(refusal::TEMP);
    }
    if let Some(ours) = [table, name].into_iter().find(|name| is_ours(name)) {
        return refuse(format!("{ours}: {}", refusal::OUR_NAME));
    }
    judge_shadow(state, table)?;
    state.seen.schema = true;
    state.seen.tables.push(table.to_owned());
    Ok(())
}

/// What ANALYZE writes, on every board by itself.
const STATISTICS: &str = "sqlite_stat1";

/// A name of ours, in any case of letters.
pub(crate) fn is_ours(table: &str) -> bool {
    table
        .get(.."_understudy_".len())
        .is_some_and(|start| start.eq_ignore_ascii_case("_understudy_"))
}

/// Pragmas that only tell something, with or without an argument.
const TELLING: [&str; 19] = [
    "collation_list",
    "compile_options",
    "data_version",
    "database_list",
    "foreign_key_check",
    "foreign_key_list",
    "function_list",
    "index_info",
    "index_list",
    "index_xinfo",
    "integrity_check",
    "module_list",
    "page_count",
    "pragma_list",
    "quick_check",
    "table_info",
    "table_list",
    "table_xinfo",
    "freelist_count",
];

/// Pragmas whose present value may be read.
const READABLE: [&str; 9] = [
    "application_id",
    "auto_vacuum",
    "encoding",
    "foreign_keys",
    "journal_mode",
    "page_size",
    "schema_version",
    "synchronous",
    "user_version",
];

fn judge_pragma(state: &mut State, name: &str, value: Option<&str>) -> Result<(), Refused> {
    let name = name.to_ascii_lowercase();
    let writing = matches!(state.mode, Mode::Writing(_));
    state.seen.pragma = true;
    if TELLING.contains(&name.as_str()) || (value.is_none() && READABLE.contains(&name.as_str())) {
        return Ok(());
    }
    match (name.as_str(), value) {
        ("user_version" | "application_id", Some(_)) if writing => {
            state.seen.schema = true;
            state.seen.verbatim = true;
            Ok(())
        }
        // On the connection that writes it would outlive a read, and act on what
        // is applied later.
        ("foreign_keys", Some(value)) if writing => {
            state.seen.foreign_keys = Some(is_on(value));
            Ok(())
        }
        (
            "journal_mode" | "wal_autocheckpoint" | "wal_checkpoint" | "synchronous" | "query_only",
            _,
        ) => Err(Refused::Request(refusal::disallowed_pragma(&name))),
        _ => refuse(refusal::pragma(&name)),
    }
}

/// As SQLite takes it.
fn is_on(value: &str) -> bool {
    let number = value.parse::<i64>().map(|number| number != 0);
    let word = || ["on", "yes", "true"].iter().any(|yes| value.eq_ignore_ascii_case(yes));
    number.unwrap_or_else(|_| word())
}
