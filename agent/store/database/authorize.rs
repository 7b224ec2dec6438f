//! What a statement may do, decided while SQLite compiles it, before anything
//! runs. Refusals carry their reason.
//!
//! Refused are statements that would end or open transactions (the database
//! keeps one open over many entries), touch other files, or write what belongs
//! to the agent; pragmas that change how the file is kept; and virtual tables
//! whose rows cannot be captured.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::{
    CachedStatement, Connection,
    hooks::{AuthAction, AuthContext, Authorization},
};
use understudy_core::sql::Origin;

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
    /// It touches a virtual table, whose module may misbehave between entries.
    pub(crate) refused: Option<String>,
}

#[derive(Debug, Default)]
struct State {
    mode: Mode,
    seen: Seen,
}

/// The authorizer of one connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct Authorizer(Arc<Mutex<State>>);

impl Authorizer {
    pub(crate) fn install(&self, connection: &mut Connection) -> rusqlite::Result<()> {
        let state = Arc::clone(&self.0);
        connection.authorizer(Some(move |context: AuthContext<'_>| {
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            authorize(&mut state, &context)
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
        connection.prepare_cached(&format!("{}{sql}", mode.mark()))
    }

    /// From now on statements are compiled in this mode.
    pub(crate) fn enter(&self, mode: Mode) {
        *self.state() = State { mode, seen: Seen::default() };
    }

    /// What was seen since the last call.
    pub(crate) fn take_seen(&self) -> Seen {
        std::mem::take(&mut self.state().seen)
    }
}

fn authorize(state: &mut State, context: &AuthContext<'_>) -> Authorization {
    if state.mode == Mode::Internal {
        return Authorization::Allow;
    }
    // Inside a trigger or view the statement that fired it is responsible.
    match judge(state, &context.action) {
        Ok(()) => Authorization::Allow,
        Err(reason) => {
            state.seen.refused.get_or_insert(reason);
            Authorization::Deny
        }
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "what is named nowhere only reads")]
fn judge(state: &mut State, action: &AuthAction<'_>) -> Result<(), String> {
    match action {
        AuthAction::Transaction { .. } | AuthAction::Savepoint { .. } => Err(String::from(
            "BEGIN, COMMIT, ROLLBACK and SAVEPOINT are not allowed: \
             send the statements in one request with ?transaction",
        )),
        AuthAction::Attach { .. } | AuthAction::Detach { .. } => {
            Err(String::from("ATTACH and DETACH are not allowed: a group has one database"))
        }
        AuthAction::CreateTempIndex { .. }
        | AuthAction::CreateTempTable { .. }
        | AuthAction::CreateTempTrigger { .. }
        | AuthAction::CreateTempView { .. }
        | AuthAction::DropTempIndex { .. }
        | AuthAction::DropTempTable { .. }
        | AuthAction::DropTempTrigger { .. }
        | AuthAction::DropTempView { .. } => {
            Err(String::from("TEMP objects are not allowed: they would be on one board only"))
        }
        AuthAction::Pragma { pragma_name, pragma_value } => {
            judge_pragma(state, pragma_name, *pragma_value)
        }
        AuthAction::Function { function_name } if *function_name == "load_extension" => {
            Err(String::from("load_extension is not allowed"))
        }
        AuthAction::Read { table_name, .. } if *table_name == PAGES => {
            Err(format!("{PAGES} is not allowed: how pages are kept is understudy's own"))
        }
        AuthAction::Insert { table_name }
        | AuthAction::Delete { table_name }
        | AuthAction::Update { table_name, .. } => judge_write(state, table_name),
        AuthAction::Select => {
            state.seen.selects = true;
            Ok(())
        }
        _ => judge_schema(state, action),
    }
}

/// SQLite's table of pages: there without being created, and behind capture's back.
const PAGES: &str = "sqlite_dbpage";

fn judge_write(state: &State, table: &str) -> Result<(), String> {
    if table == PAGES {
        return Err(format!("{PAGES} is not allowed: how pages are kept is understudy's own"));
    }
    if is_ours(table) && state.mode != Mode::Writing(Origin::Agent) {
        return Err(format!("{table} belongs to understudy and is not written by SQL"));
    }
    if table == "sqlite_sequence" && !state.seen.schema {
        return Err(String::from("sqlite_sequence is kept by SQLite and not written by SQL"));
    }
    Ok(())
}

#[expect(clippy::wildcard_enum_match_arm, reason = "what is named nowhere only reads")]
fn judge_schema(state: &mut State, action: &AuthAction<'_>) -> Result<(), String> {
    let table = match action {
        AuthAction::CreateTable { table_name } => {
            state.seen.creates_table = true;
            *table_name
        }
        AuthAction::CreateVtable { table_name, module_name } => {
            if !module_name.eq_ignore_ascii_case("fts5") {
                return Err(format!(
                    "virtual tables of module {module_name} are not replicated; only fts5 is"
                ));
            }
            *table_name
        }
        AuthAction::CreateIndex { table_name, .. }
        | AuthAction::CreateTrigger { table_name, .. }
        | AuthAction::DropIndex { table_name, .. }
        | AuthAction::DropTable { table_name }
        | AuthAction::DropTrigger { table_name, .. }
        | AuthAction::DropVtable { table_name, .. }
        | AuthAction::AlterTable { table_name, .. } => table_name,
        AuthAction::CreateView { view_name } | AuthAction::DropView { view_name } => view_name,
        AuthAction::Reindex { .. } | AuthAction::Analyze { .. } => {
            state.seen.schema = true;
            state.seen.verbatim = true;
            return Ok(());
        }
        _ => return Ok(()),
    };
    if is_ours(table) {
        return Err(format!("{table}: names that begin with _understudy_ are kept for understudy"));
    }
    state.seen.schema = true;
    state.seen.tables.push(table.to_owned());
    Ok(())
}

fn is_ours(table: &str) -> bool {
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

/// The one refusal that is the whole request's, as with rqlite.
pub(crate) const DISALLOWED_PRAGMA: &str = "disallowed pragma";

fn judge_pragma(state: &mut State, name: &str, value: Option<&str>) -> Result<(), String> {
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
            let on = ["1", "on", "yes", "true"].iter().any(|yes| value.eq_ignore_ascii_case(yes));
            state.seen.foreign_keys = Some(on);
            Ok(())
        }
        (
            "journal_mode" | "wal_autocheckpoint" | "wal_checkpoint" | "synchronous" | "query_only",
            _,
        ) => Err(String::from(DISALLOWED_PRAGMA)),
        _ => Err(format!("PRAGMA {name} is not allowed: it would hold on one board only")),
    }
}
