//! Reads: short ones between two entries on the writing connection, which cost
//! no commit; long ones on a connection of their own, after one.

use std::path::Path;

use rusqlite::Connection;
use understudy_core::{
    limits::{REQUEST_MS_MAX, REQUEST_STATEMENTS_MAX, RESPONSE_BYTES_MAX},
    sql::{self, RequestKind, SqlRequest, SqlResponse, StatementOutcome, StatementResult, Value},
};

use super::{
    Database, Failure, Options,
    authorize::{Authorizer, Mode, Refused},
    bind::{CACHED_PARAMETERS_MAX, Given},
    budget::{self, Budget},
    capture::value_of,
    connect_again, refusal,
    text::{next_statement, words},
};
use crate::store::StoreError;

/// Thousands of steps a read may take on the writing connection.
const SHORT_STEPS: i64 = 50;

/// What became of a read on the writing connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueryOutcome {
    /// The encoded response.
    Answered(Vec<u8>),
    /// It takes long, or reads a virtual table: commit, then give it to a [`Reader`].
    NeedsReader,
}

/// What a statement brought.
pub(super) enum Collected {
    Rows(StatementOutcome),
    Changed,
}

impl Collected {
    pub(super) const fn nothing() -> Self {
        Self::Rows(StatementOutcome::Changed { last_insert_id: 0, rows_affected: 0 })
    }

    pub(super) fn outcome(self, connection: &Connection) -> StatementOutcome {
        match self {
            Self::Rows(outcome) => outcome,
            Self::Changed => StatementOutcome::Changed {
                last_insert_id: connection.last_insert_rowid(),
                rows_affected: i64::try_from(connection.changes()).unwrap_or(i64::MAX),
            },
        }
    }
}

impl Database {
    /// Runs a read against what is applied now.
    ///
    /// # Errors
    /// [`Failure`] when the database cannot go on; a statement's own error is an
    /// answer.
    pub fn query(&mut self, request: &[u8]) -> Result<QueryOutcome, Failure> {
        let request = match decode(request) {
            Ok(request) => request,
            Err(words) => return Ok(QueryOutcome::Answered(refused(&words))),
        };
        if request.statements.iter().any(|statement| self.schema.may_read_virtual(&statement.sql)) {
            return Ok(QueryOutcome::NeedsReader);
        }
        self.budget.limit_steps(SHORT_STEPS);
        let answered = self.reading(&request).answer();
        self.budget.lift();
        self.authorizer.enter(Mode::Internal);
        Ok(match answered {
            Ok(response) => QueryOutcome::Answered(sql::encode(&response)),
            Err(Elsewhere) => QueryOutcome::NeedsReader,
        })
    }

    fn reading<'a>(&'a self, request: &'a SqlRequest) -> Reading<'a> {
        Reading {
            connection: &self.connection,
            authorizer: &self.authorizer,
            budget: &self.budget,
            stopwatch: self.options.stopwatch,
            begun_ns: (self.options.stopwatch)(),
            request,
            is_short: true,
        }
    }

    /// A connection for long reads, to be used on a thread of its own.
    ///
    /// # Errors
    /// When the file cannot be opened again.
    pub fn reader(&self) -> Result<Reader, StoreError> {
        Reader::open(&self.path, &self.options, self.authorizer.for_another())
    }
}

/// A connection that sees what is committed now, and nothing later.
pub(super) fn read_from_now(path: &Path, options: &Options) -> rusqlite::Result<Connection> {
    let connection = connect_again(path, options)?;
    connection
        .execute_batch("PRAGMA query_only = ON; BEGIN; SELECT count(*) FROM sqlite_schema;")?;
    Ok(connection)
}

/// Reads what was last committed to the file.
pub struct Reader {
    connection: Connection,
    authorizer: Authorizer,
    budget: Budget,
    stopwatch: fn() -> u64,
}

impl Reader {
    fn open(path: &Path, options: &Options, authorizer: Authorizer) -> Result<Self, StoreError> {
        let at = |error: rusqlite::Error| StoreError::new(path, error);
        let mut connection = connect_again(path, options).map_err(at)?;
        connection.execute_batch("PRAGMA query_only = ON").map_err(at)?;
        let budget = Budget::new(options.clock);
        authorizer.install(&connection).map_err(at)?;
        budget.install(&mut connection).map_err(at)?;
        Ok(Self { connection, authorizer, budget, stopwatch: options.stopwatch })
    }

    /// Runs a read, however long it takes within its limit: per statement when
    /// the caller named one, else for all of them together.
    #[must_use]
    pub fn query(&self, request: &[u8]) -> Vec<u8> {
        let request = match decode(request) {
            Ok(request) => request,
            Err(words) => return refused(&words),
        };
        self.budget.limit_time(REQUEST_MS_MAX);
        let reading = Reading {
            connection: &self.connection,
            authorizer: &self.authorizer,
            budget: &self.budget,
            stopwatch: self.stopwatch,
            begun_ns: (self.stopwatch)(),
            request: &request,
            is_short: false,
        };
        let answered = reading.answer();
        self.budget.lift();
        sql::encode(&answered.unwrap_or_else(|Elsewhere| SqlResponse::refused(TIMEOUT)))
    }
}

const TIMEOUT: &str = "query timeout";

fn decode(request: &[u8]) -> Result<SqlRequest, String> {
    let request: SqlRequest =
        sql::decode(request).map_err(|_| String::from("the request cannot be read"))?;
    let is_over = request.statements.len() > REQUEST_STATEMENTS_MAX;
    if is_over { Err(sql::too_many_statements()) } else { Ok(request) }
}

fn refused(words: &str) -> Vec<u8> {
    sql::encode(&SqlResponse::refused(words))
}

/// It took more steps than there are between two entries.
struct Elsewhere;

/// Why a request ends before its last statement.
enum Stop {
    Elsewhere,
    Disallowed(String),
}

/// Why a statement that was compiled has no result.
pub(super) enum Nothing {
    /// In SQLite's words or rqlite's.
    Failed(String),
    /// It is larger than what the answer has room for.
    TooLarge,
}

/// Why a statement is not read.
enum Unread {
    Refused(Refused),
    Nothing(Nothing),
}

impl From<Nothing> for Unread {
    fn from(nothing: Nothing) -> Self {
        Self::Nothing(nothing)
    }
}

/// One request on one connection.
struct Reading<'a> {
    connection: &'a Connection,
    authorizer: &'a Authorizer,
    budget: &'a Budget,
    stopwatch: fn() -> u64,
    begun_ns: u64,
    request: &'a SqlRequest,
    /// Between two entries: what takes longer is read elsewhere.
    is_short: bool,
}

impl Reading<'_> {
    fn answer(&self) -> Result<SqlResponse, Elsewhere> {
        let mut response = SqlResponse::default();
        let mut bytes_left = RESPONSE_BYTES_MAX;
        for number in 0..self.request.statements.len() {
            let last = match self.text(number, bytes_left) {
                Ok(last) => last,
                Err(Stop::Elsewhere) => return Err(Elsewhere),
                Err(Stop::Disallowed(words)) => {
                    let words = refusal::at(number, &words);
                    let words = format!("{}: {words}", refusal::DISALLOWED_PRAGMA);
                    return Ok(SqlResponse::refused(&words));
                }
            };
            let Some(last) = last else { continue };
            bytes_left = bytes_left.saturating_sub(outcome_bytes(&last.outcome));
            let failed = is_error(&last);
            response.results.push(last);
            if failed && self.request.transaction {
                break;
            }
        }
        Ok(response)
    }

    /// All statements of one text, up to the first that fails; the last one's
    /// result counts.
    fn text(&self, number: usize, bytes_max: usize) -> Result<Option<StatementResult>, Stop> {
        let statement = &self.request.statements[number];
        let mut given = Given::new(&statement.parameters);
        let mut rest = statement.sql.as_str();
        let mut last = None;
        self.authorizer.enter(Mode::Reading);
        let too_long = |text: &str| self.authorizer.end_of_too_long(text);
        while let Some((text, after)) = next_statement(self.connection, rest, too_long) {
            rest = after;
            let result = self.statement(number, text, &mut given, bytes_max)?;
            let failed = is_error(&result);
            last = Some(result);
            if failed {
                break;
            }
        }
        Ok(last)
    }

    fn statement(
        &self,
        number: usize,
        text: &str,
        given: &mut Given<'_>,
        bytes_max: usize,
    ) -> Result<StatementResult, Stop> {
        if let Some(ms) = self.request.statement_timeout_ms.filter(|_| !self.is_short) {
            self.budget.limit_time(ms.min(REQUEST_MS_MAX));
        }
        let started = (self.stopwatch)();
        if budget::is_late(self.begun_ns, started) {
            let words = refusal::at(number, &refusal::request_too_long());
            return Ok(StatementResult { outcome: StatementOutcome::Error(words), time_ns: 0 });
        }
        let ran = self.run(text, given, bytes_max);
        let time_ns = (self.stopwatch)().saturating_sub(started);
        let spent = self.budget.is_spent();
        if spent && self.is_short {
            return Err(Stop::Elsewhere);
        }
        let outcome = match ran {
            Ok(outcome) => outcome,
            Err(_) if spent => StatementOutcome::Error(String::from(TIMEOUT)),
            Err(Unread::Nothing(Nothing::Failed(words))) => StatementOutcome::Error(words),
            Err(Unread::Nothing(Nothing::TooLarge)) => {
                StatementOutcome::Error(refusal::at(number, &refusal::result_too_large()))
            }
            Err(Unread::Refused(Refused::Statement(words))) => {
                StatementOutcome::Error(refusal::at(number, &words))
            }
            Err(Unread::Refused(Refused::Request(words))) => return Err(Stop::Disallowed(words)),
        };
        Ok(StatementResult { outcome, time_ns })
    }

    fn run(
        &self,
        text: &str,
        given: &mut Given<'_>,
        bytes_max: usize,
    ) -> Result<StatementOutcome, Unread> {
        let compiled = self.authorizer.compile(self.connection, Mode::Reading, text);
        let seen = self.authorizer.take_seen();
        let mut compiled = compiled.map_err(|error| match seen.refused {
            Some(refused) => Unread::Refused(refused),
            None => Unread::Nothing(Nothing::Failed(words(&error))),
        })?;
        // A pragma that passed only tells something, whatever SQLite thinks of it.
        if !compiled.readonly() && !seen.pragma {
            compiled.discard();
            let words = "attempt to change database via query operation";
            return Err(Nothing::Failed(String::from(words)).into());
        }
        let outcome = self.rows(&mut compiled, given, bytes_max);
        if seen.pragma || compiled.parameter_count() > CACHED_PARAMETERS_MAX {
            compiled.discard();
        }
        // A pragma that is selected from is only compiled while the statement runs.
        outcome.map_err(|nothing| match self.authorizer.take_seen().refused {
            Some(refused) => Unread::Refused(refused),
            None => Unread::Nothing(nothing),
        })
    }

    fn rows(
        &self,
        compiled: &mut rusqlite::Statement<'_>,
        given: &mut Given<'_>,
        bytes_max: usize,
    ) -> Result<StatementOutcome, Nothing> {
        given.bind(compiled).map_err(Nothing::Failed)?;
        let nothing = StatementOutcome::Changed { last_insert_id: 0, rows_affected: 0 };
        if compiled.column_count() == 0 {
            return Ok(nothing);
        }
        match collect(compiled, bytes_max)? {
            Collected::Rows(rows) if self.request.kind != RequestKind::Execute => Ok(rows),
            Collected::Rows(_) | Collected::Changed => Ok(nothing),
        }
    }
}

const fn is_error(result: &StatementResult) -> bool {
    matches!(result.outcome, StatementOutcome::Error(_))
}

/// All rows of a statement, at most `bytes_max` of them.
///
/// Its columns are looked at after the first step: a statement from the cache is
/// compiled anew there when the schema has changed meanwhile.
pub(super) fn collect(
    statement: &mut rusqlite::Statement<'_>,
    bytes_max: usize,
) -> Result<Collected, Nothing> {
    let failed = |error: rusqlite::Error| Nothing::Failed(words(&error));
    let mut rows = Vec::new();
    let mut bytes = 0;
    let mut take = |more: usize| {
        bytes += more;
        if bytes > bytes_max { Err(Nothing::TooLarge) } else { Ok(()) }
    };
    let mut found = statement.raw_query();
    while let Some(row) = found.next().map_err(failed)? {
        let count = row.as_ref().column_count();
        take(ROW_BYTES)?;
        let mut values = Vec::with_capacity(count);
        for at in 0..count {
            let value = value_of(row.get_ref(at).map_err(failed)?);
            take(value_bytes(&value))?;
            values.push(value);
        }
        rows.push(values);
    }
    drop(found);
    statement.column_names().try_for_each(|name| take(column_bytes(name)))?;
    let columns = statement.column_names().map(String::from).collect();
    let declared =
        statement.columns().map(|column| column.decl_type().map(str::to_ascii_lowercase)).collect();
    let types = types(declared, rows.first());
    Ok(Collected::Rows(StatementOutcome::Rows { columns, types, rows }))
}

/// About what a result takes of the answer, and no less than an eighth of what it
/// takes in memory.
pub(super) fn outcome_bytes(outcome: &StatementOutcome) -> usize {
    RESULT_BYTES
        + match outcome {
            StatementOutcome::Rows { columns, rows, .. } => {
                let columns = columns.iter().map(|name| column_bytes(name));
                let values = rows.iter().flatten().map(value_bytes);
                ROW_BYTES * rows.len() + columns.sum::<usize>() + values.sum::<usize>()
            }
            StatementOutcome::Changed { .. } => 0,
            StatementOutcome::Error(words) => words.len(),
        }
}

const RESULT_BYTES: usize = 16;
const ROW_BYTES: usize = 6;

/// With its type.
const fn column_bytes(name: &str) -> usize {
    name.len() + 16
}

const fn value_bytes(value: &Value) -> usize {
    match value {
        Value::Null => 4,
        Value::Integer(_) | Value::Real(_) => 12,
        Value::Text(bytes) | Value::Blob(bytes) => bytes.len() + 8,
    }
}

/// Declared types, or those of the first row's values. A blob of no declared type
/// is handed on as text, as Go's driver does, and is called so.
fn types(declared: Vec<Option<String>>, first: Option<&Vec<Value>>) -> Vec<String> {
    let inferred = |place: usize| match first.and_then(|row| row.get(place)) {
        Some(Value::Integer(_)) => "integer",
        Some(Value::Real(_)) => "real",
        Some(Value::Text(_) | Value::Blob(_)) => "text",
        Some(Value::Null) | None => "",
    };
    let types = declared.into_iter().enumerate();
    types.map(|(place, declared)| declared.unwrap_or_else(|| inferred(place).into())).collect()
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use understudy_core::sql::{Origin, Statement};

    use super::*;

    thread_local! {
        static NOW: Cell<u64> = const { Cell::new(0) };
    }

    /// Every look finds a quarter of a request's time gone.
    fn stopwatch() -> u64 {
        NOW.set(NOW.get() + REQUEST_MS_MAX * 1_000_000 / 4);
        NOW.get()
    }

    fn query(
        stopwatch: fn() -> u64,
        statements: &[&str],
    ) -> (Vec<StatementOutcome>, Option<String>) {
        let directory = tempfile::tempdir().unwrap();
        let options = Options { stopwatch, ..Options::default() };
        let reader = Database::open(directory.path(), options).unwrap().reader().unwrap();
        let statements = statements.iter().map(|sql| Statement::new(*sql, Vec::new()));
        let request = SqlRequest::new(RequestKind::Query, Origin::User, statements.collect());
        let response: SqlResponse = sql::decode(&reader.query(&sql::encode(&request))).unwrap();
        let outcomes = response.results.into_iter().map(|result| result.outcome);
        (outcomes.collect(), response.error)
    }

    /// In memory, without what the allocator adds.
    fn held_bytes(outcomes: &[StatementOutcome]) -> usize {
        let held = |outcome: &StatementOutcome| match outcome {
            StatementOutcome::Rows { columns, rows, .. } => {
                let values: usize = rows.iter().map(Vec::capacity).sum();
                rows.capacity() * size_of::<Vec<Value>>()
                    + values * size_of::<Value>()
                    + columns.iter().map(|name| 2 * size_of::<String>() + name.len()).sum::<usize>()
            }
            StatementOutcome::Changed { .. } => 0,
            StatementOutcome::Error(words) => words.len(),
        };
        size_of_val(outcomes) + outcomes.iter().map(held).sum::<usize>()
    }

    fn rows(count: usize) -> String {
        format!("WITH c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c LIMIT {count}) ")
    }

    #[test]
    fn a_file_that_is_gone_is_not_made_anew_by_who_reads_it() {
        let directory = tempfile::tempdir().unwrap();
        let mut database = Database::open(directory.path(), Options::default()).unwrap();
        database.commit().unwrap();
        for name in ["state.db", "state.db-wal", "state.db-shm"] {
            let _ = std::fs::remove_file(directory.path().join(name));
        }
        assert!(database.reader().is_err());
        assert!(read_from_now(&directory.path().join("state.db"), &Options::default()).is_err());
        assert!(!directory.path().join("state.db").exists());
    }

    #[test]
    fn results_are_bounded_by_what_they_take_in_memory() {
        let too_many = rows(1_000_000) + "SELECT NULL FROM c";
        let fitting = rows(700_000) + "SELECT NULL FROM c";
        let (outcomes, _) = query(|| 0, &[&too_many]);
        let words = format!("statement 1: {}", refusal::result_too_large());
        assert_eq!(outcomes, [StatementOutcome::Error(words.clone())]);
        let (outcomes, _) = query(|| 0, &[&fitting]);
        assert!(
            matches!(&outcomes[..], [StatementOutcome::Rows { rows, .. }] if rows.len() == 700_000)
        );
        assert!(held_bytes(&outcomes) <= 8 * RESPONSE_BYTES_MAX, "{}", held_bytes(&outcomes));
    }

    #[test]
    fn the_columns_of_many_results_count_too() {
        let wide = vec!["NULL AS a"; 1_000].join(", ");
        let (outcomes, _) = query(|| 0, &vec![&*format!("SELECT {wide}"); 1_000]);
        assert!(held_bytes(&outcomes) <= 8 * RESPONSE_BYTES_MAX, "{}", held_bytes(&outcomes));
        let words = format!("statement 1000: {}", refusal::result_too_large());
        assert_eq!(outcomes.last(), Some(&StatementOutcome::Error(words)));
    }

    #[test]
    fn a_read_out_of_time_begins_no_further_statement() {
        let (outcomes, _) = query(stopwatch, &["SELECT 1", "SELECT 2", "SELECT 3", "SELECT 4"]);
        let late = |number| refusal::at(number, &refusal::request_too_long());
        assert!(matches!(outcomes[1], StatementOutcome::Rows { .. }));
        let left = [StatementOutcome::Error(late(2)), StatementOutcome::Error(late(3))];
        assert_eq!(outcomes[2..], left);
    }

    #[test]
    fn a_read_of_too_many_statements_is_refused_as_a_whole() {
        let (outcomes, error) = query(|| 0, &["x"; REQUEST_STATEMENTS_MAX + 1]);
        assert_eq!((outcomes, error), (Vec::new(), Some(sql::too_many_statements())));
    }
}
