//! SQL requests and their results, as callers hand them in and boards forward
//! them: plain data, encoded with postcard, never interpreted by the core.
//!
//! Enums and fields only grow at the end.

use alloc::{string::String, vec::Vec};

use serde::{Deserialize, Serialize};

use crate::fence::Fence;
use crate::limits::{AGENT_BYTES_MAX, REQUEST_STATEMENTS_MAX, REQUEST_VALUES_MAX};

/// One SQLite value. Reals keep their bits; text is what SQLite holds, which
/// need not be UTF-8 and may contain zero bytes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Value {
    /// NULL
    Null,
    /// INTEGER
    Integer(i64),
    /// REAL
    Real(f64),
    /// TEXT
    Text(Vec<u8>),
    /// BLOB
    Blob(Vec<u8>),
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Integer(a), Self::Integer(b)) => a == b,
            (Self::Real(a), Self::Real(b)) => a.to_bits() == b.to_bits(),
            (Self::Text(a), Self::Text(b)) | (Self::Blob(a), Self::Blob(b)) => a == b,
            (Self::Null | Self::Integer(_) | Self::Real(_) | Self::Text(_) | Self::Blob(_), _) => {
                false
            }
        }
    }
}

impl Eq for Value {}

impl Value {
    /// A text that is UTF-8.
    #[must_use]
    pub fn text(text: &str) -> Self {
        Self::Text(text.as_bytes().to_vec())
    }

    /// Of a text or blob; of anything else none.
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Text(bytes) | Self::Blob(bytes) => bytes,
            Self::Null | Self::Integer(_) | Self::Real(_) => &[],
        }
    }
}

/// What is bound to a statement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Parameters {
    /// By place, from 1.
    Positional(Vec<Value>),
    /// By name, without the leading `:`, `@` or `$`.
    Named(Vec<(String, Value)>),
}

impl Parameters {
    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        match self {
            Self::Positional(values) => values.len(),
            Self::Named(values) => values.len(),
        }
    }
}

/// One SQL text with its parameters. The text may hold several statements
/// separated by `;`: all run, the last one's result counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statement {
    /// SQL text.
    pub sql: String,
    /// Bound values.
    pub parameters: Parameters,
}

impl Statement {
    /// With these values bound by place.
    #[must_use]
    pub fn new(sql: impl Into<String>, values: Vec<Value>) -> Self {
        Self { sql: sql.into(), parameters: Parameters::Positional(values) }
    }
}

/// What kinds of statement a request may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RequestKind {
    /// `/db/execute`: rows come back only from RETURNING.
    Execute,
    /// `/db/query`: anything that writes is refused.
    Query,
    /// `/db/request`: both.
    Mixed,
}

/// Who asks, which decides what may be touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Origin {
    /// A user: internal tables can be read, not written.
    User,
    /// The agent itself (settings, names): internal tables too.
    Agent,
}

/// One caller's request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SqlRequest {
    /// What it may hold.
    pub kind: RequestKind,
    /// All or nothing: the first error undoes the whole request.
    pub transaction: bool,
    /// Who asks.
    pub origin: Origin,
    /// Limit inside SQLite per statement, milliseconds.
    pub statement_timeout_ms: Option<u64>,
    /// In order.
    pub statements: Vec<Statement>,
    /// It comes to nothing once the duty has another token.
    #[serde(default)]
    pub fence: Option<Fence>,
}

impl SqlRequest {
    /// Each statement by itself, as long as any may take.
    #[must_use]
    pub const fn new(kind: RequestKind, origin: Origin, statements: Vec<Statement>) -> Self {
        Self {
            kind,
            transaction: false,
            origin,
            statement_timeout_ms: None,
            statements,
            fence: None,
        }
    }

    /// A single statement, with these values bound by place.
    #[must_use]
    pub fn one(
        kind: RequestKind,
        origin: Origin,
        sql: impl Into<String>,
        values: Vec<Value>,
    ) -> Self {
        Self::new(kind, origin, Vec::from([Statement::new(sql, values)]))
    }
}

/// No statements and no fence, encoded.
const NOTHING: [u8; 2] = [0, 0];

/// Is this encoded [`SqlRequest`] a user's, or the entry a strong read waits for, of which
/// users ask as many as they like, or part of a load?
#[must_use]
pub(crate) fn is_users(request: &[u8]) -> bool {
    if request.len() > AGENT_BYTES_MAX {
        return true;
    }
    let head = postcard::take_from_bytes::<(RequestKind, bool, Origin, Option<u64>)>(request);
    !matches!(head, Ok(((_, _, Origin::Agent, _), statements)) if statements != NOTHING)
}

/// Why a request of more than [`REQUEST_STATEMENTS_MAX`] statements is refused.
#[must_use]
pub fn too_many_statements() -> String {
    alloc::format!("more than {REQUEST_STATEMENTS_MAX} statements: send them in several requests")
}

/// Why a request that binds more than [`REQUEST_VALUES_MAX`] values is refused.
#[must_use]
pub fn too_many_values() -> String {
    alloc::format!("more than {REQUEST_VALUES_MAX} values: send them in several requests")
}

/// How one statement ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StatementOutcome {
    /// It has columns.
    Rows {
        /// Column names.
        columns: Vec<String>,
        /// Declared types in lower case; inferred from the first row where none
        /// is declared (`integer`, `real`, `text`), empty when null.
        types: Vec<String>,
        /// Row by row.
        rows: Vec<Vec<Value>>,
    },
    /// It has none.
    Changed {
        /// `sqlite3_last_insert_rowid` of the connection.
        last_insert_id: i64,
        /// `sqlite3_changes` of the connection.
        rows_affected: i64,
    },
    /// SQLite's or our own words.
    Error(String),
}

/// One statement's result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatementResult {
    /// How it ended.
    pub outcome: StatementOutcome,
    /// Time spent in SQLite, nanoseconds.
    pub time_ns: u64,
}

/// What a request comes to. With `transaction` the results end at the failing
/// statement.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SqlResponse {
    /// One per non-empty statement reached.
    pub results: Vec<StatementResult>,
    /// An error of the request as a whole, such as a refused pragma.
    pub error: Option<String>,
}

impl SqlResponse {
    /// The response to a request that comes to nothing as a whole.
    #[must_use]
    pub fn refused(reason: &str) -> Self {
        Self { results: Vec::new(), error: Some(String::from(reason)) }
    }

    /// The rows of its first result; none where that has none.
    #[must_use]
    pub fn into_rows(self) -> Option<Vec<Vec<Value>>> {
        match self.results.into_iter().next()?.outcome {
            StatementOutcome::Rows { rows, .. } => Some(rows),
            StatementOutcome::Changed { .. } | StatementOutcome::Error(_) => None,
        }
    }

    /// Why it came to nothing as a whole, or else what the first statement that failed
    /// says.
    #[must_use]
    pub fn failure(&self) -> Option<&str> {
        let failed = self.results.iter().find_map(|result| match &result.outcome {
            StatementOutcome::Error(words) => Some(words),
            StatementOutcome::Rows { .. } | StatementOutcome::Changed { .. } => None,
        });
        self.error.as_ref().or(failed).map(String::as_str)
    }
}

/// Bytes of a request or response, for the wire and for effects.
#[must_use]
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_allocvec(value).expect("plain data always encodes")
}

/// Reads what [`encode`] wrote.
///
/// # Errors
/// When the bytes are something else, or more.
pub fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, postcard::Error> {
    let (value, rest) = postcard::take_from_bytes(bytes)?;
    if rest.is_empty() { Ok(value) } else { Err(postcard::Error::DeserializeBadEncoding) }
}
