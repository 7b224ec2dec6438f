//! Reads a scenario's lines and prints what became of them.
//!
//! `> SQL` is a request of one statement, `+ SQL` a further statement of it, `& SQL`
//! another request of the same batch; `? SQL` is a read on every board. Words in
//! brackets before the SQL: `transaction`, `agent`, `timeout MS`, `values A, B` (SQL
//! expressions to bind). `! own values` says that plain SQLite would give others.

use understudy_core::sql::{
    self, Origin, RequestKind, SqlRequest, SqlResponse, Statement, StatementOutcome, Value,
};

use super::{
    boards::{Answer, Boards, Leaders},
    reference::{Reference, value_of},
};

/// Rows printed of one result; the others are counted.
const ROWS_SHOWN: usize = 12;

/// Letters printed of one value.
const LETTERS_SHOWN: usize = 60;

/// Plays a scenario; as it should read.
pub(crate) fn play(text: &str, leaders: Leaders) -> Result<String, String> {
    let mut boards = Boards::new(leaders)?;
    let reference = (!text.contains("\n! own values\n")).then(Reference::new);
    let mut played = String::new();
    let mut batch: Vec<SqlRequest> = Vec::new();
    for (line, number) in text.lines().zip(1..) {
        let at = |reason: String| format!("line {number}: {line}: {reason}");
        if !line.starts_with(['+', '&']) {
            played += &carry_out(&mut boards, reference.as_ref(), &batch).map_err(at)?;
            batch.clear();
        }
        match line.split_at_checked(2) {
            Some(("> " | "& ", sql)) => batch.push(parse(sql).map_err(at)?),
            Some(("+ ", sql)) => {
                let last = batch.last_mut().ok_or_else(|| at("nothing to add to".into()))?;
                last.statements.extend(parse(sql).map_err(at)?.statements);
            }
            Some(("? ", sql)) => {
                let asked = request(RequestKind::Query, &[sql]);
                let answer = boards.query(&asked).map_err(at)?;
                played += &format!("{line}\n{}", told(&[sql.into()], &Ok(answer)));
                continue;
            }
            _ if line.is_empty() || line.starts_with(['#', '!']) => {}
            _ => continue,
        }
        played += &format!("{line}\n");
    }
    played += &carry_out(&mut boards, reference.as_ref(), &batch)?;
    boards.check()?;
    Ok(played)
}

fn carry_out(
    boards: &mut Boards,
    reference: Option<&Reference>,
    batch: &[SqlRequest],
) -> Result<String, String> {
    let encoded: Vec<Vec<u8>> = batch.iter().map(sql::encode).collect();
    let answers = if batch.is_empty() { Vec::new() } else { boards.requests(&encoded)? };
    let mut printed = Vec::new();
    for (request, answer) in batch.iter().zip(&answers) {
        let texts: Vec<String> = request.statements.iter().map(|st| st.sql.clone()).collect();
        printed.push(told(&texts, answer));
        if let Some(reference) = reference {
            reference.request(request, answer)?;
        }
    }
    if let Some(reference) = reference.filter(|_| !batch.is_empty()) {
        reference.compare(boards)?;
    }
    Ok(printed.join("  --\n"))
}

/// A plain request of these statements.
pub(crate) fn request(kind: RequestKind, statements: &[&str]) -> Vec<u8> {
    let statements = statements.iter().map(|sql| Statement::new(*sql, Vec::new())).collect();
    sql::encode(&SqlRequest::new(kind, Origin::User, statements))
}

fn parse(line: &str) -> Result<SqlRequest, String> {
    let mut request = SqlRequest::new(RequestKind::Mixed, Origin::User, Vec::new());
    let mut values = Vec::new();
    let mut sql = line;
    while let Some((words, rest)) = sql.strip_prefix('[').and_then(|rest| rest.split_once("] ")) {
        sql = rest;
        match words.split_once(' ').unwrap_or((words, "")) {
            ("transaction", "") => request.transaction = true,
            ("agent", "") => request.origin = Origin::Agent,
            ("timeout", ms) => {
                request.statement_timeout_ms = Some(ms.parse().map_err(|_| "no number")?);
            }
            ("values", list) => values = evaluated(list)?,
            (other, _) => return Err(format!("{other} is no such word")),
        }
    }
    request.statements.push(Statement::new(sql, values));
    Ok(request)
}

/// SQL expressions; `nan` and `-0.0`, for which SQL has no words.
fn evaluated(list: &str) -> Result<Vec<Value>, String> {
    let connection = rusqlite::Connection::open_in_memory().map_err(|error| error.to_string())?;
    let evaluate = |word: &str| match word {
        "nan" => Ok(Value::Real(f64::NAN)),
        "-0.0" => Ok(Value::Real(-0.0)),
        _ => connection
            .query_row(&format!("SELECT {word}"), [], |row| row.get_ref(0).map(value_of))
            .map_err(|error| error.to_string()),
    };
    list.split(", ").map(evaluate).collect()
}

fn told(texts: &[String], answer: &Answer) -> String {
    match answer {
        Err(refusal) => format!("  refused: {refusal}\n"),
        Ok(SqlResponse { error: Some(error), .. }) => format!("  request: {error}\n"),
        Ok(response) => {
            let results = response.results.iter().zip(texts);
            results.map(|(result, text)| outcome(text, &result.outcome)).collect()
        }
    }
}

fn outcome(text: &str, outcome: &StatementOutcome) -> String {
    let counts = ["INSERT", "UPDATE", "DELETE", "REPLACE", "WITH"];
    let is_counted = counts.iter().any(|word| text.starts_with(word));
    match outcome {
        StatementOutcome::Error(reason) => format!("  error: {reason}\n"),
        StatementOutcome::Changed { rows_affected, .. } if is_counted => {
            format!("  ok, {rows_affected}\n")
        }
        StatementOutcome::Changed { .. } => String::from("  ok\n"),
        StatementOutcome::Rows { rows, .. } if rows.is_empty() => String::from("  no rows\n"),
        StatementOutcome::Rows { rows, .. } => printed(rows),
    }
}

/// What failed in a response, in its words.
pub(crate) fn errors(response: &SqlResponse) -> impl Iterator<Item = &str> {
    response.results.iter().filter_map(|result| match &result.outcome {
        StatementOutcome::Error(words) => Some(words.as_str()),
        StatementOutcome::Rows { .. } | StatementOutcome::Changed { .. } => None,
    })
}

/// Rows as text, a line each.
pub(crate) fn printed(rows: &[Vec<Value>]) -> String {
    let line = |row: &Vec<Value>| {
        format!("  {}\n", row.iter().map(literal).collect::<Vec<_>>().join(" | "))
    };
    let mut lines: String = rows.iter().take(ROWS_SHOWN).map(line).collect();
    if rows.len() > ROWS_SHOWN {
        lines += &format!("  and {} more\n", rows.len() - ROWS_SHOWN);
    }
    lines
}

fn literal(value: &Value) -> String {
    let text = match value {
        Value::Null => String::from("NULL"),
        Value::Integer(number) => number.to_string(),
        Value::Real(number) => format!("{number:?}"),
        Value::Text(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => format!("'{}'", text.escape_default().to_string().replace("\\'", "'")),
            Err(_) => format!("text x'{}'", hex(bytes)),
        },
        Value::Blob(bytes) => format!("x'{}'", hex(bytes)),
    };
    if text.len() <= LETTERS_SHOWN {
        return text;
    }
    format!("{}... ({} letters)", text.chars().take(LETTERS_SHOWN).collect::<String>(), text.len())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
