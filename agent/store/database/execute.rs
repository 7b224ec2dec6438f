//! The leader executes a batch: each request in a savepoint, captured, and all
//! of it rolled back. What was captured is proposed, and applied by the code
//! that every board uses.

use std::sync::Arc;

use rusqlite::{CachedStatement, Connection, ErrorCode, config::DbConfig};
use understudy_core::{
    change::Change,
    error::Refusal,
    event::{Executed, Position},
    limits::{
        BATCH_MS_MAX, CHANGE_CELLS_MAX, ENTRY_BYTES_MAX, REQUEST_ROWS_MAX, RESPONSE_BYTES_MAX,
    },
    mutant,
    sql::{self, Origin, RequestKind, SqlRequest, SqlResponse, StatementOutcome, StatementResult},
};

use super::{
    Database, Failure,
    authorize::{DISALLOWED_PRAGMA, Mode, Seen},
    bind::Given,
    capture::{self, Gathered},
    read::{self, Collected},
    schema::{Schema, SchemaError},
};
use crate::store::ffi;

/// A statement of a caller that names no limit ends after this.
const STATEMENT_MS_MAX: u64 = 10_000;

/// Pages held in memory between two batches, bytes: twice what SQLite is asked to
/// keep to, so that pages go out many at a time.
const CACHE_BYTES_MAX: usize = 2 << 20;

/// How one statement ended.
enum Ended {
    Fine(StatementOutcome),
    Failed(String),
    /// It may not be asked for: the request as a whole comes to nothing.
    Disallowed,
    /// It took the whole transaction with it.
    Lost(String),
}

/// How a request ended, short of a failure of the whole database.
enum Request {
    Answered(Result<Vec<u8>, Refusal>),
    /// The entry has no room for it beside those before it.
    DoesNotFit,
    Lost(Vec<u8>),
}

impl Database {
    /// Executes requests on top of what is applied and rolls them back again.
    ///
    /// # Errors
    /// [`Failure::Reset`] when a request ended the open transaction: its answer
    /// stands beside, the others had no effect.
    ///
    /// # Panics
    /// When `base` is not what is applied: the caller's book-keeping is broken.
    pub fn execute(&mut self, base: Position, requests: &[Vec<u8>]) -> Result<Executed, Failure> {
        assert_eq!(base, self.applied(), "a batch is executed on what is applied");
        self.begin()?;
        self.internal("SAVEPOINT batch")?;
        let schema = Arc::clone(&self.schema);
        let mut gathered = Gathered::default();
        let mut answers = Vec::with_capacity(requests.len());
        let started = (self.options.clock)();
        for (place, request) in (0..).zip(requests) {
            if place > 0 && (self.options.clock)().since(started) >= BATCH_MS_MAX {
                break;
            }
            match self.request(request, &mut gathered)? {
                Request::Answered(answer) => answers.push(answer),
                Request::DoesNotFit => break,
                Request::Lost(answer) => return Err(self.reset(Some((place, answer)))),
            }
        }
        self.hook.with(|notes| notes.record(false));
        self.internal("ROLLBACK TO batch")?;
        self.internal("RELEASE batch")?;
        let fingerprint = schema.fingerprint;
        self.restore_schema(schema);
        self.write_pages_out()?;
        let change = Change { base, fingerprint, segments: gathered.into_segments() }.encode();
        Ok(Executed { change, answers })
    }

    /// Rolling a batch back also takes back the pages SQLite wrote to the WAL to
    /// make room for it, and what it made room for stays: without this the pages of
    /// a leader's open transaction would all be held in memory.
    fn write_pages_out(&mut self) -> Result<(), Failure> {
        if self.is_full() || ffi::cache_bytes(&self.connection) <= CACHE_BYTES_MAX {
            return Ok(());
        }
        self.connection.cache_flush().map_err(|error| self.failure(&error))
    }

    fn internal(&mut self, sql: &str) -> Result<(), Failure> {
        self.authorizer.enter(Mode::Internal);
        let done = self.connection.prepare_cached(sql).and_then(|mut st| st.raw_execute());
        done.map(drop).map_err(|error| self.failure(&error))
    }

    fn restore_schema(&mut self, schema: Arc<Schema>) {
        if !Arc::ptr_eq(&schema, &self.schema) {
            self.hook.with(|notes| notes.set_schema(Arc::clone(&schema)));
            self.schema = schema;
        }
    }

    fn request(&mut self, bytes: &[u8], batch: &mut Gathered) -> Result<Request, Failure> {
        let Ok(request) = sql::decode::<SqlRequest>(bytes) else {
            let refusal = Refusal::Invalid(String::from("the request cannot be read"));
            return Ok(Request::Answered(Err(refusal)));
        };
        let schema = Arc::clone(&self.schema);
        self.internal("SAVEPOINT request")?;
        self.hook.with(|notes| notes.record(true));
        let mut gathered = Gathered::default();
        let (response, lost) = self.statements(&request, &mut gathered);
        if lost {
            return Ok(Request::Lost(sql::encode(&response)));
        }
        let verdict = self.verdict(&request, response, batch, &mut gathered)?;
        self.set_foreign_keys(false);
        if verdict.keep {
            batch.absorb(gathered);
        } else {
            self.internal("ROLLBACK TO request")?;
            self.restore_schema(schema);
        }
        self.internal("RELEASE request")?;
        Ok(verdict.answer.map_or(Request::DoesNotFit, Request::Answered))
    }

    /// Runs the statements in order; true when the transaction was lost.
    fn statements(&mut self, request: &SqlRequest, gathered: &mut Gathered) -> (SqlResponse, bool) {
        let mut response = SqlResponse::default();
        for statement in &request.statements {
            let mut given = Given::new(&statement.parameters);
            let mut rest = statement.sql.as_str();
            let mut last = None;
            while let Some((text, after)) = self.next_statement(request.origin, rest) {
                rest = after;
                let started = (self.options.stopwatch)();
                let ended = self.statement(text, &mut given, request, gathered);
                let time_ns = (self.options.stopwatch)().saturating_sub(started);
                let outcome = match ended {
                    Ended::Fine(outcome) => outcome,
                    Ended::Failed(reason) => StatementOutcome::Error(reason),
                    Ended::Disallowed => return (SqlResponse::refused(DISALLOWED_PRAGMA), false),
                    Ended::Lost(reason) => {
                        let outcome = StatementOutcome::Error(reason);
                        response.results.push(StatementResult { outcome, time_ns });
                        return (response, true);
                    }
                };
                let failed = matches!(outcome, StatementOutcome::Error(_));
                last = Some(StatementResult { outcome, time_ns });
                if failed {
                    break;
                }
            }
            let failed = last
                .as_ref()
                .is_some_and(|last| matches!(last.outcome, StatementOutcome::Error(_)));
            response.results.extend(last);
            if failed && request.transaction {
                break;
            }
        }
        (response, false)
    }

    /// Finding where a statement ends compiles it, and some pragmas act right then.
    fn next_statement<'a>(&self, origin: Origin, text: &'a str) -> Option<(&'a str, &'a str)> {
        self.authorizer.enter(Mode::Writing(origin));
        next_statement(&self.connection, text)
    }

    fn statement(
        &mut self,
        text: &str,
        given: &mut Given<'_>,
        request: &SqlRequest,
        gathered: &mut Gathered,
    ) -> Ended {
        let mode = Mode::Writing(request.origin);
        let seen = match self.authorizer.compile(&self.connection, mode, text) {
            Err(error) => {
                return match self.authorizer.take_seen().refused {
                    Some(reason) if reason == DISALLOWED_PRAGMA => Ended::Disallowed,
                    Some(reason) => Ended::Failed(reason),
                    None => Ended::Failed(words(&error)),
                };
            }
            Ok(compiled) => {
                let seen = self.authorizer.take_seen();
                if !seen.schema {
                    return self.plain_statement(compiled, given, request, &seen);
                }
                compiled.discard();
                seen
            }
        };
        self.schema_statement(text, &seen, gathered)
    }

    fn plain_statement(
        &self,
        mut compiled: CachedStatement<'_>,
        given: &mut Given<'_>,
        request: &SqlRequest,
        seen: &Seen,
    ) -> Ended {
        self.budget.limit_time(request.statement_timeout_ms.unwrap_or(STATEMENT_MS_MAX));
        let wants_rows = request.kind != RequestKind::Execute || !compiled.readonly();
        let done = given.bind(&mut compiled).and_then(|()| {
            if compiled.column_count() > 0 {
                let collected = read::collect(&mut compiled, RESPONSE_BYTES_MAX)?;
                return Ok(if wants_rows { collected } else { Collected::nothing() });
            }
            compiled.raw_execute().map_err(|error| words(&error))?;
            Ok(Collected::Changed)
        });
        let spent = self.budget.is_spent();
        self.budget.lift();
        if seen.pragma {
            // A cached statement would show nothing the next time.
            compiled.discard();
        } else {
            drop(compiled);
        }
        if let Some(on) = seen.foreign_keys {
            self.set_foreign_keys(on);
        }
        match done {
            Ok(collected) => Ended::Fine(collected.outcome(&self.connection)),
            Err(_) if spent => self.failed(String::from("execute timeout")),
            Err(reason) => self.failed(reason),
        }
    }

    /// A failed statement either ended alone, or the whole transaction with it.
    fn failed(&self, reason: String) -> Ended {
        if self.connection.is_autocommit() && !mutant::is(8) {
            Ended::Lost(reason)
        } else {
            Ended::Failed(reason)
        }
    }

    pub(super) fn set_foreign_keys(&self, on: bool) {
        // Infallible for this option: it only sets a flag of the connection.
        let _ = self.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_FKEY, on);
    }

    /// A statement that changes the schema is replicated as it stands, after all
    /// rows gathered before it. Rows it moved in its own tables are its own doing
    /// on every board; rows it moved elsewhere travel, before it.
    fn schema_statement(&mut self, sql: &str, seen: &Seen, gathered: &mut Gathered) -> Ended {
        let schema = Arc::clone(&self.schema);
        let done = self.gather(gathered).and_then(|()| self.run_schema(sql, seen, gathered));
        let undo = match done {
            Ok(()) => None,
            Err(SchemaError::Sqlite(error)) => Some(words(&error)),
            Err(SchemaError::HiddenRowid(table)) => Some(format!(
                "{table}: its columns are named rowid, _rowid_ and oid, so that no row can be \
                 addressed: rename one of them or declare an INTEGER PRIMARY KEY"
            )),
            Err(SchemaError::TooLarge) => Some(too_large_words()),
        };
        let Some(reason) = undo else {
            let outcome = StatementOutcome::Changed { last_insert_id: 0, rows_affected: 0 };
            return Ended::Fine(outcome);
        };
        self.authorizer.enter(Mode::Internal);
        if !self.connection.is_autocommit() {
            // The savepoint may never have been reached; then there is nothing to undo.
            let _ = self.connection.execute_batch("ROLLBACK TO ddl; RELEASE ddl");
            self.restore_schema(schema);
        }
        self.failed(reason)
    }

    fn run_schema(
        &mut self,
        sql: &str,
        seen: &Seen,
        gathered: &mut Gathered,
    ) -> Result<(), SchemaError> {
        self.authorizer.enter(Mode::Internal);
        self.connection.execute_batch("SAVEPOINT ddl")?;
        let before = schema_version(&self.connection)?;
        self.budget.limit_time(STATEMENT_MS_MAX);
        self.hook.with(|notes| notes.leave_out(&seen.tables));
        let ran = self.connection.execute_batch(sql);
        self.hook.with(|notes| notes.leave_out(&[]));
        self.budget.lift();
        ran?;
        let changed = schema_version(&self.connection)? != before;
        let others = self.hook.with(capture::Notes::take)?;
        capture::read_back(&self.connection, &self.schema, others, gathered)?;
        if changed || seen.verbatim {
            self.schema_changed = true;
            self.refresh_schema()?;
            self.gather_schema(sql, seen, gathered)?;
        }
        self.connection.execute_batch("RELEASE ddl")?;
        Ok(())
    }

    /// CREATE TABLE AS SELECT becomes CREATE TABLE and the rows it has now.
    fn gather_schema(
        &self,
        sql: &str,
        seen: &Seen,
        gathered: &mut Gathered,
    ) -> Result<(), SchemaError> {
        let made = seen.tables.first().filter(|_| seen.creates_table && seen.selects);
        let Some(table) = made.and_then(|name| self.schema.named(name.as_bytes())) else {
            gathered.schema(sql.to_owned());
            return Ok(());
        };
        let create = self.connection.query_row(
            "SELECT sql FROM sqlite_schema WHERE type = 'table' AND name = ?1",
            [&table.name],
            |row| row.get(0),
        )?;
        gathered.schema(create);
        capture::read_all(&self.connection, table, gathered)?;
        Ok(())
    }

    /// Reads back what was touched so far.
    fn gather(&mut self, gathered: &mut Gathered) -> Result<(), SchemaError> {
        self.authorizer.enter(Mode::Internal);
        if !self.schema.virtual_tables.is_empty() {
            // A full-text index holds its rows back until a savepoint.
            self.connection.execute_batch("SAVEPOINT flush; RELEASE flush")?;
        }
        let touched = self.hook.with(capture::Notes::take)?;
        capture::read_back(&self.connection, &self.schema, touched, gathered)?;
        Ok(())
    }

    /// Does the request's effect stand, and what is it answered?
    fn verdict(
        &mut self,
        request: &SqlRequest,
        mut response: SqlResponse,
        batch: &Gathered,
        gathered: &mut Gathered,
    ) -> Result<Verdict, Failure> {
        let failed =
            |result: &StatementResult| matches!(result.outcome, StatementOutcome::Error(_));
        let undone = request.transaction && response.results.iter().any(failed);
        if undone || response.error.is_some() {
            return Ok(Verdict::undo(Ok(sql::encode(&response))));
        }
        if ffi::has_deferred_violations(&self.connection) {
            response = SqlResponse::refused("FOREIGN KEY constraint failed");
            return Ok(Verdict::undo(Ok(sql::encode(&response))));
        }
        if let Err(error) = self.gather(gathered) {
            return match error {
                SchemaError::Sqlite(error) => Err(self.failure(&error)),
                SchemaError::TooLarge => {
                    Ok(Verdict::undo(Err(Refusal::Invalid(too_large_words()))))
                }
                SchemaError::HiddenRowid(what) => Err(Failure::Halt(what)),
            };
        }
        if let Some(verdict) = too_large(batch, gathered) {
            return Ok(verdict);
        }
        let answer = sql::encode(&response);
        if answer.len() > RESPONSE_BYTES_MAX {
            let (bytes, bytes_max) = (answer.len() as u64, RESPONSE_BYTES_MAX as u64);
            return Ok(Verdict::undo(Err(Refusal::TooLarge { bytes, bytes_max })));
        }
        Ok(Verdict { keep: true, answer: Some(Ok(answer)) })
    }
}

struct Verdict {
    keep: bool,
    /// None: in the next batch.
    answer: Option<Result<Vec<u8>, Refusal>>,
}

impl Verdict {
    const fn undo(answer: Result<Vec<u8>, Refusal>) -> Self {
        Self { keep: false, answer: Some(answer) }
    }
}

/// One entry holds the whole batch: a request that overflows it together with
/// those before it gets the next, one that does so alone is refused.
fn too_large(batch: &Gathered, request: &Gathered) -> Option<Verdict> {
    let bytes = batch.bytes + request.bytes;
    let over = bytes > ENTRY_BYTES_MAX || batch.cells + request.cells > CHANGE_CELLS_MAX;
    if !over {
        return None;
    }
    if request.bytes <= ENTRY_BYTES_MAX && request.cells <= CHANGE_CELLS_MAX {
        return Some(Verdict { keep: false, answer: None });
    }
    let (bytes, bytes_max) = (request.bytes as u64, ENTRY_BYTES_MAX as u64);
    Some(Verdict::undo(Err(Refusal::TooLarge { bytes, bytes_max })))
}

fn too_large_words() -> String {
    format!(
        "the request changes more than one entry holds ({ENTRY_BYTES_MAX} bytes, \
         {CHANGE_CELLS_MAX} values, {REQUEST_ROWS_MAX} rows): send it in parts"
    )
}

fn schema_version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("PRAGMA schema_version", [], |row| row.get(0))
}

/// The first statement of a text and what follows it; `None` when nothing is left.
pub(super) fn next_statement<'a>(
    connection: &Connection,
    text: &'a str,
) -> Option<(&'a str, &'a str)> {
    let text = without_comments(text);
    if text.is_empty() {
        return None;
    }
    let inner = text.trim_end_matches(|c: char| c.is_whitespace() || c == ';');
    if !inner.contains(';') {
        return Some((inner, ""));
    }
    let length = ffi::statement_bytes(connection, text).unwrap_or(text.len());
    Some(text.split_at_checked(length).unwrap_or((text, "")))
}

/// The text from its first statement on.
fn without_comments(text: &str) -> &str {
    let text = text.trim_start_matches(|c: char| c.is_whitespace() || c == ';');
    let after = match text.get(..2) {
        Some("--") => text.find('\n').map_or("", |end| &text[end..]),
        Some("/*") => text.find("*/").map_or("", |end| &text[end + 2..]),
        _ => return text,
    };
    without_comments(after)
}

/// SQLite's own words, without the wrapping.
#[expect(clippy::wildcard_enum_match_arm, reason = "the other errors are rusqlite's own")]
pub(super) fn words(error: &rusqlite::Error) -> String {
    if error.sqlite_error_code() == Some(ErrorCode::TooBig) {
        return format!("string or blob too big: the limit is {ENTRY_BYTES_MAX} bytes");
    }
    match error {
        rusqlite::Error::SqliteFailure(_, Some(words)) => words.clone(),
        rusqlite::Error::SqlInputError { msg, .. } => msg.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, path::Path};

    use understudy_core::{
        event::{Entry, EntryKind, Millis},
        sql::{Parameters, Statement},
    };

    use super::*;
    use crate::store::database::Options;

    thread_local! {
        static NOW: Cell<u64> = const { Cell::new(0) };
    }

    /// Every look at it finds a quarter of a batch's time gone.
    fn clock() -> Millis {
        NOW.set(NOW.get() + BATCH_MS_MAX / 4);
        Millis(NOW.get())
    }

    fn request(sql: &str) -> Vec<u8> {
        let parameters = Parameters::Positional(Vec::new());
        sql::encode(&SqlRequest {
            kind: RequestKind::Execute,
            transaction: false,
            origin: Origin::User,
            statement_timeout_ms: None,
            statements: vec![Statement { sql: sql.to_owned(), parameters }],
        })
    }

    fn open(directory: &Path, options: Options) -> Database {
        let mut database = Database::open(directory, options).unwrap();
        apply(&mut database, Vec::new());
        database
    }

    fn apply(database: &mut Database, data: Vec<u8>) {
        let index = database.applied().index + 1;
        let entry = Entry { index, term: 1, kind: EntryKind::Change, data };
        database.apply(&[entry]).unwrap();
    }

    #[test]
    fn a_leaders_open_transaction_is_not_held_in_memory() {
        let directory = tempfile::tempdir().unwrap();
        let mut database = open(directory.path(), Options::default());
        let row = "INSERT INTO t VALUES (zeroblob(900))";
        let batches = std::iter::once("CREATE TABLE t(a)").chain(std::iter::repeat_n(row, 8_000));
        for sql in batches {
            let base = database.applied();
            let executed = database.execute(base, &[request(sql)]).unwrap();
            apply(&mut database, executed.change);
        }
        let held = ffi::cache_bytes(&database.connection);
        assert!(held <= CACHE_BYTES_MAX + (64 << 10), "{held} bytes");
    }

    #[test]
    fn a_batch_out_of_time_leaves_the_rest_to_the_next() {
        let directory = tempfile::tempdir().unwrap();
        let mut database = open(directory.path(), Options { clock, ..Options::default() });
        let base = database.applied();
        let table = request("CREATE TABLE IF NOT EXISTS t(a)");
        let executed = database.execute(base, &vec![table; 20]).unwrap();
        assert!((1..6).contains(&executed.answers.len()), "{}", executed.answers.len());
        assert!(executed.answers[0].is_ok());
    }
}
