//! Plain SQLite beside the boards: the same statements, executed and kept, as
//! anybody would. What the boards hold must be what it holds.

use rusqlite::{Connection, fallible_iterator::FallibleIterator, types::ValueRef};
use understudy_core::sql::{
    Origin, Parameters, RequestKind, SqlRequest, SqlResponse, StatementOutcome, Value,
};

use super::{
    boards::{Answer, Boards, rows},
    scenario,
};

/// See the module's description.
pub(crate) struct Reference(Connection);

impl Reference {
    pub(crate) fn new() -> Self {
        let connection = Connection::open_in_memory().expect("a database in memory");
        connection.execute_batch("PRAGMA page_size = 1024").expect("a setting");
        Self(connection)
    }

    /// Executes what the boards have executed: a request that came to nothing
    /// comes to nothing here too, what was refused is left out.
    pub(crate) fn request(&self, request: &SqlRequest, answer: &Answer) -> Result<(), String> {
        let Ok(response) = answer else { return Ok(()) };
        if request.origin == Origin::Agent {
            return Ok(());
        }
        if response.error.is_some() || (request.transaction && has_failed(response)) {
            return Ok(());
        }
        // Inside a transaction this pragma does nothing.
        let first = request.statements.first().map(|first| first.sql.as_str());
        let pragma = first.filter(|sql| sql.contains("foreign_keys")).unwrap_or_default();
        let (begin, end) = match request.transaction {
            true => (format!("{pragma}; BEGIN"), "COMMIT; "),
            false => (String::new(), ""),
        };
        self.0.execute_batch(&begin).map_err(|error| error.to_string())?;
        for (statement, result) in request.statements.iter().zip(&response.results) {
            let ran = self.statement(&statement.sql, &statement.parameters, &result.outcome);
            ran.map_err(|error| format!("plain SQLite, {}: {error}", statement.sql))?;
        }
        let end = format!("{end}PRAGMA foreign_keys = OFF");
        self.0.execute_batch(&end).map_err(|error| error.to_string())
    }

    fn statement(
        &self,
        sql: &str,
        parameters: &Parameters,
        outcome: &StatementOutcome,
    ) -> rusqlite::Result<()> {
        let failed = match outcome {
            StatementOutcome::Error(words) if !partly_done(sql, words) => return Ok(()),
            StatementOutcome::Error(_) => true,
            StatementOutcome::Rows { .. } | StatementOutcome::Changed { .. } => false,
        };
        let Parameters::Positional(values) = parameters else { return Ok(()) };
        let ran = if values.is_empty() {
            let mut batch = rusqlite::Batch::new(&self.0, sql);
            loop {
                match batch.next() {
                    Ok(Some(mut statement)) => match drain(&mut statement, &[]) {
                        Ok(()) => {}
                        Err(error) => break Err(error),
                    },
                    Ok(None) => break Ok(()),
                    Err(error) => break Err(error),
                }
            }
        } else {
            self.0.prepare(sql).and_then(|mut statement| drain(&mut statement, values))
        };
        if failed { Ok(()) } else { ran }
    }

    /// Every table here holds what it holds on every board.
    pub(crate) fn compare(&self, boards: &mut Boards) -> Result<(), String> {
        for table in self.tables().map_err(|error| error.to_string())? {
            let query = self.query_of(&table);
            let expected = self.rows(&query).map_err(|error| format!("{query}: {error}"))?;
            let request = scenario::request(RequestKind::Query, &[&query]);
            let response = boards.query(&request)?;
            if scenario::errors(&response).any(|words| words.contains("result is larger")) {
                continue;
            }
            let found = rows(response);
            if found != expected {
                return Err(format!(
                    "{query}: the boards hold {}, plain SQLite {}",
                    scenario::printed(&found),
                    scenario::printed(&expected)
                ));
            }
        }
        Ok(())
    }

    fn tables(&self) -> rusqlite::Result<Vec<String>> {
        let mut select = self.0.prepare(
            "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type <> 'shadow' \
             ORDER BY name",
        )?;
        select.query_map([], |row| row.get(0))?.collect()
    }

    /// All columns, and the rowid where a table has one of its own.
    fn query_of(&self, table: &str) -> String {
        let quoted = format!("\"{}\"", table.replace('"', "\"\""));
        let all = format!("SELECT * FROM {quoted}");
        if table == "sqlite_schema" {
            return format!("{all} WHERE name NOT LIKE '%understudy%'")
                .replace('*', "type, name, tbl_name, sql")
                + " ORDER BY type, name";
        }
        if table == "sqlite_stat1" {
            return format!("{all} WHERE tbl NOT LIKE '%understudy%' ORDER BY 1, 2");
        }
        let with_rowid = format!("SELECT rowid, * FROM {quoted} ORDER BY 1");
        let is_plain = !table.starts_with("sqlite_") && self.0.prepare(&with_rowid).is_ok();
        if is_plain { with_rowid } else { format!("{all} ORDER BY 1") }
    }

    fn rows(&self, query: &str) -> rusqlite::Result<Vec<Vec<Value>>> {
        let mut select = self.0.prepare(query)?;
        let columns = select.column_count();
        let mut found = select.query([])?;
        let mut rows = Vec::new();
        while let Some(row) = found.next()? {
            let values = (0..columns).map(|at| row.get_ref(at).map(value_of));
            rows.push(values.collect::<rusqlite::Result<_>>()?);
        }
        Ok(rows)
    }
}

/// A statement that failed may have changed something: OR FAIL keeps what it did.
fn partly_done(sql: &str, words: &str) -> bool {
    words.contains("constraint failed") && (sql.contains("FAIL") || words.contains("thirteen"))
}

fn has_failed(response: &SqlResponse) -> bool {
    scenario::errors(response).next().is_some()
}

fn drain(statement: &mut rusqlite::Statement<'_>, values: &[Value]) -> rusqlite::Result<()> {
    for (place, value) in (1..).zip(values) {
        match value {
            Value::Null => statement.raw_bind_parameter(place, rusqlite::types::Null),
            Value::Integer(value) => statement.raw_bind_parameter(place, value),
            Value::Real(value) => statement.raw_bind_parameter(place, value),
            Value::Text(bytes) => {
                let text = rusqlite::types::ToSqlOutput::Borrowed(ValueRef::Text(bytes));
                statement.raw_bind_parameter(place, text)
            }
            Value::Blob(bytes) => statement.raw_bind_parameter(place, bytes),
        }?;
    }
    let mut rows = statement.raw_query();
    while rows.next()?.is_some() {}
    Ok(())
}

/// SQLite's value as the boards tell it.
pub(crate) fn value_of(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(value) => Value::Integer(value),
        ValueRef::Real(value) => Value::Real(value),
        ValueRef::Text(bytes) => Value::Text(bytes.to_vec()),
        ValueRef::Blob(bytes) => Value::Blob(bytes.to_vec()),
    }
}
