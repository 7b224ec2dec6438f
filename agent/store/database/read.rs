//! Reads: short ones between two entries on the writing connection, which cost
//! no commit; long ones on a connection of their own, after one.

use std::path::Path;

use rusqlite::Connection;
use understudy_core::{
    limits::RESPONSE_BYTES_MAX,
    sql::{self, RequestKind, SqlRequest, SqlResponse, StatementOutcome, StatementResult, Value},
};

use super::{
    Database, Failure, Options,
    authorize::{Authorizer, Mode},
    budget::Budget,
    capture::value_of,
    connect,
    execute::{bind, words},
};
use crate::store::StoreError;

/// Thousands of steps a read may take on the writing connection.
const SHORT_STEPS: i64 = 50;

/// A long read that names no limit ends after this.
const LONG_MS_MAX: u64 = 60_000;

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
        if let Ok(read) = sql::decode::<SqlRequest>(request)
            && read.statements.iter().any(|statement| self.schema.may_read_virtual(&statement.sql))
        {
            return Ok(QueryOutcome::NeedsReader);
        }
        self.budget.limit_steps(SHORT_STEPS);
        let answered = answer(&self.connection, &self.authorizer, &self.budget, request);
        self.budget.lift();
        self.authorizer.enter(Mode::Internal);
        Ok(answered.map_or(QueryOutcome::NeedsReader, QueryOutcome::Answered))
    }

    /// A connection for long reads, to be used on a thread of its own.
    ///
    /// # Errors
    /// When the file cannot be opened again.
    pub fn reader(&self) -> Result<Reader, StoreError> {
        Reader::open(&self.path, &self.options)
    }
}

/// Reads what was last committed to the file.
pub struct Reader {
    connection: Connection,
    authorizer: Authorizer,
    budget: Budget,
}

impl Reader {
    fn open(path: &Path, options: &Options) -> Result<Self, StoreError> {
        let at = |error: rusqlite::Error| StoreError::new(path, error);
        let mut connection = connect(path, options).map_err(at)?;
        connection.execute_batch("PRAGMA query_only = ON").map_err(at)?;
        let authorizer = Authorizer::default();
        let budget = Budget::new(options.clock);
        authorizer.install(&mut connection).map_err(at)?;
        budget.install(&mut connection).map_err(at)?;
        Ok(Self { connection, authorizer, budget })
    }

    /// Runs a read, however long it takes within its limit.
    #[must_use]
    pub fn query(&self, request: &[u8]) -> Vec<u8> {
        let limit = sql::decode::<SqlRequest>(request).ok();
        let limit = limit.and_then(|request| request.statement_timeout_ms);
        self.budget.limit_time(limit.unwrap_or(LONG_MS_MAX));
        let answered = answer(&self.connection, &self.authorizer, &self.budget, request);
        self.budget.lift();
        answered.unwrap_or_else(|| failed("query timeout"))
    }
}

fn failed(reason: &str) -> Vec<u8> {
    sql::encode(&SqlResponse { results: Vec::new(), error: Some(reason.to_owned()) })
}

/// The encoded response; `None` when the budget ran out.
fn answer(
    connection: &Connection,
    authorizer: &Authorizer,
    budget: &Budget,
    request: &[u8],
) -> Option<Vec<u8>> {
    let Ok(request) = sql::decode::<SqlRequest>(request) else {
        return Some(failed("the request cannot be read"));
    };
    let mut response = SqlResponse::default();
    let mut bytes_left = RESPONSE_BYTES_MAX;
    for statement in &request.statements {
        let text = statement.sql.trim_matches(|c: char| c.is_whitespace() || c == ';');
        if text.is_empty() {
            continue;
        }
        let outcome = run(connection, authorizer, text, statement, &request, bytes_left);
        if budget.is_spent() {
            return None;
        }
        let outcome = outcome.unwrap_or_else(StatementOutcome::Error);
        bytes_left = bytes_left.saturating_sub(sql::encode(&outcome).len());
        let failed = matches!(outcome, StatementOutcome::Error(_));
        response.results.push(StatementResult { outcome, time_ns: 0 });
        if failed && request.transaction {
            break;
        }
    }
    Some(sql::encode(&response))
}

fn run(
    connection: &Connection,
    authorizer: &Authorizer,
    text: &str,
    statement: &sql::Statement,
    request: &SqlRequest,
    bytes_max: usize,
) -> Result<StatementOutcome, String> {
    let compiled = authorizer.compile(connection, Mode::Reading, text);
    let refused = authorizer.take_seen().refused;
    let mut compiled = compiled.map_err(|error| refused.unwrap_or_else(|| words(&error)))?;
    if !compiled.readonly() {
        compiled.discard();
        return Err(String::from("attempt to change database via query operation"));
    }
    bind(&mut compiled, &statement.parameters)?;
    if compiled.column_count() == 0 {
        return Ok(StatementOutcome::Changed { last_insert_id: 0, rows_affected: 0 });
    }
    match collect(&mut compiled, bytes_max)? {
        Collected::Rows(rows) if request.kind != RequestKind::Execute => Ok(rows),
        Collected::Rows(_) | Collected::Changed => {
            Ok(StatementOutcome::Changed { last_insert_id: 0, rows_affected: 0 })
        }
    }
}

/// All rows of a statement, at most `bytes_max` of them.
pub(super) fn collect(
    statement: &mut rusqlite::Statement<'_>,
    bytes_max: usize,
) -> Result<Collected, String> {
    let columns: Vec<String> = statement.column_names().map(String::from).collect();
    let declared: Vec<Option<String>> =
        statement.columns().map(|column| column.decl_type().map(str::to_ascii_lowercase)).collect();
    let mut rows = Vec::new();
    let mut bytes = 0;
    let mut found = statement.raw_query();
    while let Some(row) = found.next().map_err(|error| words(&error))? {
        let values = (0..columns.len()).map(|at| row.get_ref(at).map(value_of));
        let values: Vec<Value> =
            values.collect::<rusqlite::Result<_>>().map_err(|error| words(&error))?;
        bytes += values.iter().map(value_bytes).sum::<usize>();
        if bytes > bytes_max {
            return Err(format!(
                "the result is larger than {RESPONSE_BYTES_MAX} bytes: ask for fewer rows (LIMIT)"
            ));
        }
        rows.push(values);
    }
    let types = types(declared, rows.first());
    Ok(Collected::Rows(StatementOutcome::Rows { columns, types, rows }))
}

fn value_bytes(value: &Value) -> usize {
    match value {
        Value::Null => 1,
        Value::Integer(_) | Value::Real(_) => 9,
        Value::Text(bytes) | Value::Blob(bytes) => bytes.len() + 4,
    }
}

/// Declared types, or those of the first row's values.
fn types(declared: Vec<Option<String>>, first: Option<&Vec<Value>>) -> Vec<String> {
    let inferred = |place: usize| match first.and_then(|row| row.get(place)) {
        Some(Value::Integer(_)) => "integer",
        Some(Value::Real(_)) => "real",
        Some(Value::Text(_)) => "text",
        Some(Value::Blob(_)) => "blob",
        Some(Value::Null) | None => "",
    };
    let types = declared.into_iter().enumerate();
    types.map(|(place, declared)| declared.unwrap_or_else(|| inferred(place).into())).collect()
}
