//! One statement of a request: compiled, judged and run.

use std::sync::Arc;

use rusqlite::{CachedStatement, Connection};
use understudy_core::{
    limits::REQUEST_MS_MAX,
    mutant,
    sql::{Origin, RequestKind, SqlRequest, StatementOutcome},
};

use super::{
    Database,
    authorize::{Mode, Refused, Seen, is_ours},
    bind::{CACHED_PARAMETERS_MAX, Given},
    capture::{self, Stops},
    gathered::Gathered,
    read::{self, Collected, Nothing},
    refusal,
    schema::SchemaError,
    text::{next_statement, words},
    vacuum,
};

/// A statement of a caller that names no limit ends after this.
const STATEMENT_MS: u64 = 10_000;

/// What is to be run, and under which conditions.
pub(super) struct Asked<'a> {
    pub(super) text: &'a str,
    /// Its place in the request.
    pub(super) number: usize,
    /// What is noted of its request is its own.
    pub(super) is_by_itself: bool,
    pub(super) request: &'a SqlRequest,
    /// It has ended the transaction already, in these words: not run again.
    pub(super) known: Option<&'a String>,
    /// What the answer has room for, bytes.
    pub(super) bytes_left: usize,
}

/// How one statement ended.
pub(super) enum Ended {
    Fine(StatementOutcome),
    /// In SQLite's words.
    Failed(String),
    /// In ours: nothing of it happened.
    Refused(String),
    /// In ours: it ran, and has to be undone.
    Undo(String),
    /// It may not be asked for: the request as a whole comes to nothing.
    RequestRefused(String),
    /// It took the whole transaction with it.
    Lost(String),
}

impl Database {
    /// Finding where a statement ends compiles it, and some pragmas act right then.
    pub(super) fn next_statement<'a>(
        &self,
        origin: Origin,
        text: &'a str,
    ) -> Option<(&'a str, &'a str)> {
        self.authorizer.enter(Mode::Writing(origin));
        next_statement(&self.connection, text, |text| self.authorizer.end_of_too_long(text))
    }

    pub(super) fn statement(
        &mut self,
        asked: &Asked<'_>,
        given: &mut Given<'_>,
        gathered: &mut Gathered,
    ) -> Ended {
        if let Some(reason) = vacuum::refused(asked.text) {
            return Ended::Refused(String::from(reason));
        }
        let mode = Mode::Writing(asked.request.origin);
        let seen = match self.authorizer.compile(&self.connection, mode, asked.text) {
            Err(error) => {
                return refused_or(Ended::Failed(words(&error)), self.authorizer.take_seen());
            }
            Ok(compiled) => {
                let seen = self.authorizer.take_seen();
                if !seen.schema || compiled.is_explain() != 0 {
                    return self.plain_statement(compiled, asked, given, &seen);
                }
                compiled.discard();
                seen
            }
        };
        self.schema_statement(asked, given, &seen, gathered)
    }

    fn plain_statement(
        &self,
        mut compiled: CachedStatement<'_>,
        asked: &Asked<'_>,
        given: &mut Given<'_>,
        seen: &Seen,
    ) -> Ended {
        self.limit(asked);
        let writes = !compiled.readonly();
        let foreign_keys = seen.foreign_keys.filter(|_| compiled.is_explain() == 0);
        let wants_rows = asked.request.kind != RequestKind::Execute || writes;
        let done = given.bind(&mut compiled).map_err(Nothing::Failed).and_then(|()| {
            if let Some(words) = asked.known {
                return Err(Nothing::Failed(words.clone()));
            }
            if compiled.column_count() > 0 {
                let collected = read::collect(&mut compiled, asked.bytes_left)?;
                return Ok(if wants_rows { collected } else { Collected::nothing() });
            }
            compiled.raw_execute().map_err(|error| Nothing::Failed(words(&error)))?;
            Ok(Collected::Changed)
        });
        let (spent, over) = self.unlimited();
        if done.is_err() {
            self.hook.with(capture::Notes::doubt);
        }
        if seen.pragma || seen.schema || compiled.parameter_count() > CACHED_PARAMETERS_MAX {
            // A pragma from the cache would show nothing the next time.
            compiled.discard();
        } else {
            drop(compiled);
        }
        if let Some(on) = foreign_keys {
            self.set_foreign_keys(on);
        }
        match done {
            Ok(collected) => Ended::Fine(collected.outcome(&self.connection)),
            Err(Nothing::TooLarge) if writes => Ended::Undo(refusal::result_too_large()),
            Err(Nothing::TooLarge) => Ended::Refused(refusal::result_too_large()),
            Err(Nothing::Failed(_)) if over => self.failed(over_words(asked)),
            Err(Nothing::Failed(_)) if spent => self.failed(String::from(TIMEOUT)),
            Err(Nothing::Failed(reason)) => {
                refused_or(self.failed(reason), self.authorizer.take_seen())
            }
        }
    }

    /// A statement of a caller ends in time, and when it touches too much.
    fn limit(&self, asked: &Asked<'_>) {
        let ms = asked.request.statement_timeout_ms.unwrap_or(STATEMENT_MS);
        self.budget.limit_time(ms.min(REQUEST_MS_MAX));
        let stops = if asked.is_by_itself { Stops::AtNotes } else { Stops::AtBytes };
        self.hook.with(|notes| notes.stop(stops));
    }

    /// It has ended: was it out of time, and did it touch too much?
    fn unlimited(&self) -> (bool, bool) {
        let spent = self.budget.is_spent();
        self.budget.lift();
        let over = self.hook.with(|notes| {
            notes.stop(Stops::Never);
            notes.is_over() && self.connection.is_autocommit()
        });
        (spent, over)
    }

    /// A failed statement either ended alone, or the whole transaction with it.
    fn failed(&self, reason: String) -> Ended {
        if self.connection.is_autocommit() && !mutant::is(8) {
            Ended::Lost(reason)
        } else {
            Ended::Failed(reason)
        }
    }

    /// A statement that changes the schema is replicated as it stands, after all
    /// rows gathered before it. Rows it moved in its own tables are its own doing
    /// on every board; rows it moved elsewhere travel, before it.
    fn schema_statement(
        &mut self,
        asked: &Asked<'_>,
        given: &mut Given<'_>,
        seen: &Seen,
        gathered: &mut Gathered,
    ) -> Ended {
        if let Some(words) = asked.known {
            return Ended::Failed(words.clone());
        }
        let schema = Arc::clone(&self.schema);
        let done = self.gather(gathered).and_then(|()| {
            self.limit(asked);
            self.run_schema(asked, given, seen, gathered)
        });
        let (spent, over) = self.unlimited();
        self.hook.with(|notes| notes.leave_out(&[]));
        let Err(error) = done else {
            let outcome = StatementOutcome::Changed { last_insert_id: 0, rows_affected: 0 };
            return Ended::Fine(outcome);
        };
        let seen = self.authorizer.take_seen();
        self.authorizer.enter(Mode::Internal);
        self.hook.with(capture::Notes::doubt);
        if !self.connection.is_autocommit() {
            // The savepoint may never have been reached; then there is nothing to undo.
            let _ = self.connection.execute_batch("ROLLBACK TO ddl; RELEASE ddl");
            self.restore_schema(schema);
        }
        match error {
            SchemaError::Sqlite(_) if over => self.failed(over_words(asked)),
            SchemaError::Sqlite(_) if spent => self.failed(String::from(TIMEOUT)),
            SchemaError::Sqlite(error) => refused_or(self.failed(words(&error)), seen),
            SchemaError::Unbound(words) => Ended::Failed(words),
            SchemaError::TooLarge => Ended::Undo(error.words()),
            SchemaError::HiddenRowid(_) | SchemaError::Refused(_) => Ended::Refused(error.words()),
        }
    }

    fn run_schema(
        &mut self,
        asked: &Asked<'_>,
        given: &mut Given<'_>,
        seen: &Seen,
        gathered: &mut Gathered,
    ) -> Result<(), SchemaError> {
        self.authorizer.enter(Mode::Internal);
        self.connection.execute_batch("SAVEPOINT ddl")?;
        let before = schema_version(&self.connection)?;
        self.hook.with(|notes| notes.leave_out(&seen.tables));
        self.run(asked.text, Mode::Writing(asked.request.origin), given)?;
        self.authorizer.enter(Mode::Internal);
        self.hook.with(|notes| notes.leave_out(&[]));
        let changed = schema_version(&self.connection)? != before;
        let others = self.hook.with(capture::Notes::take)?;
        capture::read_back(&self.connection, &self.schema, others, gathered)?;
        if changed || seen.verbatim {
            self.schema_changed = true;
            let before = Arc::clone(&self.schema);
            self.refresh_schema()?;
            let is_new = |name: &&str| is_ours(name) && before.named(name.as_bytes()).is_none();
            let mut names = self.schema.tables().map(|table| table.name.as_str());
            if let Some(table) = names.find(is_new) {
                return Err(SchemaError::Refused(format!("{table}: {}", refusal::OUR_NAME)));
            }
            self.schema.views.judge(&before.views).map_err(SchemaError::Refused)?;
            self.gather_schema(asked.text, seen, gathered)?;
        }
        self.connection.execute_batch("RELEASE ddl")?;
        Ok(())
    }

    /// In the caller's mode: what it selects from may be compiled only now.
    fn run(&self, sql: &str, mode: Mode, given: &mut Given<'_>) -> Result<(), SchemaError> {
        let mut statement = self.authorizer.compile(&self.connection, mode, sql)?;
        let done = given.bind(&mut statement).map_err(SchemaError::Unbound).and_then(|()| {
            let mut rows = statement.raw_query();
            while rows.next()?.is_some() {}
            Ok(())
        });
        statement.discard();
        done
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
}

/// rqlite's words.
const TIMEOUT: &str = "execute timeout";

/// The reason of ours why a statement failed, if there is one: a pragma that is
/// selected from is only compiled while the statement runs.
fn refused_or(ended: Ended, seen: Seen) -> Ended {
    match (ended, seen.refused) {
        (Ended::Failed(_), Some(Refused::Request(reason))) => Ended::RequestRefused(reason),
        (Ended::Failed(_), Some(Refused::Statement(reason))) => Ended::Refused(reason),
        (ended, _) => ended,
    }
}

/// What ends a statement ends the transaction, whose words are a request's own.
fn over_words(asked: &Asked<'_>) -> String {
    refusal::at(asked.number, &refusal::too_large())
}

fn schema_version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("PRAGMA schema_version", [], |row| row.get(0))
}
