//! Another database takes the place of all that users keep here, at once.
//!
//! Its tables and indexes are first made under names of ours and filled by ordinary
//! writes, each within an entry's bounds, while everything goes on. One last entry
//! drops what was there and gives the new ones their own names, in the schema table
//! itself: no row is moved, an index is not made anew, definitions keep every letter,
//! and readers see the one or the other. Until then nothing has changed, whatever
//! ends; what was left under our names is dropped when the next load begins.
//!
//! Each step is a request of the agent's whose text is no SQL. The leader makes SQL of
//! it, runs that, and proposes it as it stands. A step names its load: one whose place
//! another load took is refused. All can be asked for twice.
//!
//! To drop a large table takes room for its pages, should the statement be undone:
//! SQLite keeps them in a temporary file meanwhile, instead of in memory as otherwise
//! here. The leader undoes its try by giving up a transaction of its own, since going
//! back to a savepoint would bring all those pages into memory.

use std::sync::Arc;

use rusqlite::{Connection, ErrorCode, OptionalExtension, params_from_iter, types::Value as Owned};
use understudy_core::{
    change::Change,
    event::{Executed, Position},
    sql::{
        self, Origin, Parameters, RequestKind, SqlRequest, SqlResponse, Statement,
        StatementOutcome, StatementResult, Value,
    },
};

use super::{
    Database, Failure,
    authorize::{Mode, is_ours},
    gathered::Gathered,
    readings,
    schema::{Schema, quoted},
    text::words,
};

/// How the text of a step begins, in a request and in an entry.
const MARK: &str = "/*understudy load*/";

/// SQLite's words where it finds no folder for a temporary file.
const NO_PLACE: &str = "unable to open database file";

/// Names the load under way, or the last one.
const STATE: &str = "_understudy_load";

/// One step of a load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Clears what another load left, and takes its place.
    Begin,
    /// Makes tables and indexes under names of ours.
    Make(String),
    /// Puts everything in its place.
    Finish {
        /// Only where users keep nothing as yet.
        only_if_empty: bool,
        /// `user_version` and `application_id`.
        numbers: [i64; 2],
    },
    /// Drops what was made.
    Abandon,
}

/// The name of the `place`th thing a load makes; 0 is the list of what is to be.
#[must_use]
pub fn staged(id: &str, place: usize) -> String {
    format!("{STATE}_{id}_{place}")
}

/// The list of what is to be: `stage` is the name it has until then, if it is made
/// before.
#[must_use]
pub fn list(id: &str) -> String {
    let name = quoted(&staged(id, 0));
    format!("CREATE TABLE IF NOT EXISTS {name}(type, name, tbl_name, stage, sql);")
}

/// A step as a request.
#[must_use]
pub fn request(id: &str, step: &Step) -> SqlRequest {
    let rest = match step {
        Step::Begin => vec![Value::text("begin")],
        Step::Make(sql) => vec![Value::text("make"), Value::text(sql)],
        Step::Finish { only_if_empty, numbers: [version, application] } => vec![
            Value::text("finish"),
            Value::Integer(i64::from(*only_if_empty)),
            Value::Integer(*version),
            Value::Integer(*application),
        ],
        Step::Abandon => vec![Value::text("abandon")],
    };
    let values = std::iter::once(Value::text(id)).chain(rest).collect();
    SqlRequest::one(RequestKind::Execute, Origin::Agent, MARK, values)
}

/// Reads what [`request`] made, if the request is that.
fn step(request: &SqlRequest) -> Option<(String, Step)> {
    let [Statement { sql, parameters: Parameters::Positional(values) }] = &request.statements[..]
    else {
        return None;
    };
    if request.origin != Origin::Agent || sql != MARK {
        return None;
    }
    let text = |value: &Value| match value {
        Value::Text(bytes) => String::from_utf8(bytes.clone()).ok(),
        Value::Null | Value::Integer(_) | Value::Real(_) | Value::Blob(_) => None,
    };
    let [id, what, rest @ ..] = &values[..] else { return None };
    let step = match (text(what)?.as_str(), rest) {
        ("begin", []) => Step::Begin,
        ("make", [sql]) => Step::Make(text(sql)?),
        (
            "finish",
            [Value::Integer(only_if_empty), Value::Integer(version), Value::Integer(application)],
        ) => Step::Finish { only_if_empty: *only_if_empty != 0, numbers: [*version, *application] },
        ("abandon", []) => Step::Abandon,
        _ => return None,
    };
    Some((text(id)?, step))
}

/// Told without decoding what is none.
pub(super) fn is_step(request: &[u8]) -> bool {
    let start = &request[..request.len().min(2 * MARK.len())];
    start.windows(MARK.len()).any(|part| part == MARK.as_bytes())
        && sql::decode::<SqlRequest>(request).is_ok_and(|request| step(&request).is_some())
}

/// Is this text of an entry a step?
pub(super) fn is_script(text: &str) -> bool {
    text.starts_with(MARK)
}

/// Why a step is not taken.
enum Trouble {
    Sqlite(rusqlite::Error),
    Refused(String),
}

impl From<rusqlite::Error> for Trouble {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

/// The SQL of a step; none where it was taken before.
fn script(connection: &Connection, id: &str, step: &Step) -> Result<Option<String>, Trouble> {
    let known = state(connection)?;
    let is_own = known.as_ref().is_some_and(|(known, _)| known == id);
    let is_done = is_own && known.is_some_and(|(_, is_done)| is_done);
    let sql = match step {
        Step::Begin | Step::Abandon | Step::Finish { .. } if is_done => return Ok(None),
        Step::Begin if is_own => return Ok(None),
        Step::Abandon if !is_own => return Ok(None),
        Step::Begin => begin(connection, id)?,
        _ if !is_own || is_done => {
            let words = "another load has begun meanwhile and took the place of this one";
            return Err(Trouble::Refused(String::from(words)));
        }
        Step::Make(sql) => sql.clone(),
        Step::Abandon => drop_staged(connection)?,
        Step::Finish { only_if_empty, numbers } => {
            finish(connection, id, *only_if_empty, *numbers)?
        }
    };
    Ok(Some(format!("{MARK}{sql}")))
}

/// The load that was begun last, and whether it is done.
fn state(connection: &Connection) -> rusqlite::Result<Option<(String, bool)>> {
    let has_any = "SELECT 1 FROM sqlite_schema WHERE name = ?1";
    if connection.query_row(has_any, [STATE], |_| Ok(())).optional()?.is_none() {
        return Ok(None);
    }
    let state = format!("SELECT id, done FROM {STATE}");
    connection.query_row(&state, [], |row| Ok((row.get(0)?, row.get(1)?))).optional()
}

fn drop_staged(connection: &Connection) -> rusqlite::Result<String> {
    let sql = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name GLOB ?1 ORDER BY rowid";
    let mut select = connection.prepare(sql)?;
    let names = select.query_map([format!("{STATE}*")], |row| row.get::<_, String>(0))?;
    names.map(|name| Ok(format!("DROP TABLE {};", quoted(&name?)))).collect()
}

fn begin(connection: &Connection, id: &str) -> rusqlite::Result<String> {
    let id = quoted_text(id);
    let drop = drop_staged(connection)?;
    Ok(format!(
        "{drop} CREATE TABLE {STATE}(id TEXT NOT NULL, done INTEGER NOT NULL);
         INSERT INTO {STATE} VALUES ({id}, 0);"
    ))
}

fn quoted_text(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// What users keep here: kind and name, in the order in which it is dropped. What goes
/// along with something before it is among them.
fn users_objects(connection: &Connection) -> rusqlite::Result<Vec<(String, String)>> {
    let mut select = connection.prepare(
        "SELECT type, name FROM sqlite_schema \
         WHERE type IN ('table', 'view', 'trigger') AND name <> 'sqlite_sequence' \
         ORDER BY type <> 'trigger', type <> 'view', rootpage <> 0, rowid",
    )?;
    let objects = select.query_map([], |row| <(String, String)>::try_from(row))?;
    let objects: Vec<_> = objects.collect::<rusqlite::Result<_>>()?;
    Ok(objects.into_iter().filter(|(_, name)| !is_ours(name)).collect())
}

fn finish(
    connection: &Connection,
    id: &str,
    only_if_empty: bool,
    [version, application]: [i64; 2],
) -> Result<String, Trouble> {
    let users = users_objects(connection)?;
    if only_if_empty && users.iter().any(|(_, name)| !name.starts_with("sqlite_")) {
        let words = "the database was empty when this load began and is not any more";
        return Err(Trouble::Refused(String::from(words)));
    }
    let has = |name: &str| {
        let sql = "SELECT 1 FROM sqlite_schema WHERE name = ?1";
        Ok::<_, rusqlite::Error>(
            connection.query_row(sql, [name], |_| Ok(())).optional()?.is_some(),
        )
    };
    let list = quoted(&staged(id, 0));
    let mut sql = String::from("PRAGMA writable_schema=ON;");
    for (kind, name) in users {
        sql.push_str(&format!("DROP {} IF EXISTS {};", kind.to_ascii_uppercase(), quoted(&name)));
    }
    if has("sqlite_sequence")? {
        sql.push_str("DELETE FROM sqlite_sequence;");
    }
    let find = format!("SELECT stage FROM {list} WHERE name = 'sqlite_sequence'");
    let sequence: Option<String> = connection.query_row(&find, [], |row| row.get(0)).optional()?;
    if let Some(sequence) = sequence.map(|name| quoted(&name)) {
        if has("sqlite_sequence")? {
            sql.push_str(&format!(
                "INSERT INTO sqlite_sequence SELECT name, seq FROM {sequence} ORDER BY rowid;"
            ));
        }
        sql.push_str(&format!("DROP TABLE {sequence};"));
    }
    sql.push_str(&format!(
        "UPDATE sqlite_schema SET name = l.name, tbl_name = l.tbl_name, sql = l.sql
             FROM {list} AS l WHERE l.stage = sqlite_schema.name;
         INSERT INTO sqlite_schema(type, name, tbl_name, rootpage, sql)
             SELECT type, name, tbl_name, 0, sql FROM {list} WHERE stage IS NULL ORDER BY rowid;
         DROP TABLE {list}; UPDATE {STATE} SET done = 1; PRAGMA writable_schema=RESET;
         PRAGMA user_version={version}; PRAGMA application_id={application};"
    ));
    sql.push_str(&readings::marks_anew(connection, |name| stage_of(connection, &list, name))?);
    Ok(sql)
}

/// The name under which a table of the file is staged.
fn stage_of(connection: &Connection, list: &str, name: &str) -> rusqlite::Result<Option<String>> {
    let find = format!("SELECT stage FROM {list} WHERE name = ?1 AND stage IS NOT NULL");
    connection.query_row(&find, [name], |row| row.get(0)).optional()
}

impl Database {
    /// Runs a step on what is applied and undoes it again: it is an entry of its own.
    pub(super) fn execute_step(
        &mut self,
        base: Position,
        request: &[u8],
    ) -> Result<Executed, Failure> {
        let schema = Arc::clone(&self.schema);
        self.hook.with(|notes| notes.record(false));
        self.begin_spilling("FILE")?;
        let mut ran = self.run_step(request);
        if ran.as_ref().is_err_and(|words| words == NO_PLACE) {
            self.internal("ROLLBACK")?;
            self.begin_spilling("MEMORY")?;
            ran = self.run_step(request);
        }
        if self.connection.is_autocommit() {
            let words = ran.err().unwrap_or_else(|| String::from("the transaction was lost"));
            let error = StatementOutcome::Error(words);
            return Err(self.reset(Some((0, answer(error)))));
        }
        self.internal("ROLLBACK")?;
        if ran.is_err() {
            self.internal("PRAGMA writable_schema=RESET")?;
        }
        self.end_spilling();
        self.use_schema(Arc::clone(&schema));
        self.begin()?;
        let mut gathered = Gathered::default();
        let outcome = match ran {
            Ok(Some(script)) => {
                gathered.schema(script);
                StatementOutcome::Changed { last_insert_id: 0, rows_affected: 0 }
            }
            Ok(None) => StatementOutcome::Changed { last_insert_id: 0, rows_affected: 0 },
            Err(words) => StatementOutcome::Error(words),
        };
        let fingerprint = schema.fingerprint;
        let change = Change { base, fingerprint, segments: gathered.into_segments() }.encode();
        Ok(Executed { change, answers: vec![Ok(answer(outcome))] })
    }

    fn run_step(&mut self, request: &[u8]) -> Result<Option<String>, String> {
        let request = sql::decode::<SqlRequest>(request).ok();
        let (id, step) = request.as_ref().and_then(step).ok_or("the request cannot be read")?;
        self.authorizer.enter(Mode::Internal);
        run(&self.connection, &id, &step)
    }

    /// Does what a step says, as part of the open transaction.
    pub(super) fn apply_script(&mut self, script: &str) -> Result<(), Failure> {
        self.begin_spilling("FILE")?;
        let mut done = self.connection.execute_batch(script);
        let code = done.as_ref().err().and_then(rusqlite::Error::sqlite_error_code);
        if code == Some(ErrorCode::CannotOpen) {
            self.internal("ROLLBACK")?;
            self.begin_spilling("MEMORY")?;
            done = self.connection.execute_batch(script);
        }
        done.map_err(|error| self.failure(&error))?;
        self.end_spilling();
        // What was dropped is in the WAL now: brought back at the next occasion.
        self.since_checkpoint = self.options.wal_bytes;
        Ok(())
    }

    /// Begins a transaction that keeps what undoing needs in a file, or, where there is
    /// no place for one, in memory as ever.
    fn begin_spilling(&mut self, store: &str) -> Result<(), Failure> {
        self.commit()?;
        let set = self.connection.execute_batch(&format!("PRAGMA temp_store = {store}"));
        set.map_err(|error| self.failure(&error))?;
        self.begin()
    }

    fn end_spilling(&self) {
        // Only the next transaction minds it; where it cannot be set now, that one
        // spills too.
        let _ = self.connection.execute_batch("PRAGMA temp_store = MEMORY");
    }
}

fn answer(outcome: StatementOutcome) -> Vec<u8> {
    let results = vec![StatementResult { outcome, time_ns: 0 }];
    sql::encode(&SqlResponse { results, error: None })
}

/// Takes a step on this connection; its SQL, unless it was taken before.
fn run(connection: &Connection, id: &str, step: &Step) -> Result<Option<String>, String> {
    let sql = script(connection, id, step).map_err(|trouble| match trouble {
        Trouble::Sqlite(error) => words(&error),
        Trouble::Refused(words) => words,
    })?;
    let Some(sql) = sql else { return Ok(None) };
    connection.execute_batch(&sql).map_err(|error| words(&error))?;
    Schema::read(connection).map_err(|error| error.words())?;
    Ok(Some(sql))
}

/// Would these steps be taken? Tried on an empty database in memory, by the code that
/// takes them, with `rows` of the list put after the second last.
pub(crate) fn rehearse(
    id: &str,
    make: &str,
    rows: &[[Option<String>; 5]],
    made: impl FnOnce(&Connection) -> Result<(), String>,
) -> Result<(), String> {
    let try_out = |error: rusqlite::Error| words(&error);
    let connection = Connection::open_in_memory().map_err(try_out)?;
    super::dialect::set(&connection).map_err(try_out)?;
    run(&connection, id, &Step::Begin)?;
    run(&connection, id, &Step::Make(make.to_owned()))?;
    made(&connection)?;
    let insert = format!("INSERT INTO {} VALUES (?, ?, ?, ?, ?)", quoted(&staged(id, 0)));
    for row in rows {
        let row = row.iter().map(|text| text.clone().map_or(Owned::Null, Owned::Text));
        connection.execute(&insert, params_from_iter(row)).map_err(try_out)?;
    }
    let finish = Step::Finish { only_if_empty: true, numbers: [0, 0] };
    run(&connection, id, &finish).map(drop)
}

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;
