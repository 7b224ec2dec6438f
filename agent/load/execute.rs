//! SQL text is executed on what is there: all of it or nothing, as long as one request
//! holds it. A longer text goes in several, each all or nothing; where one fails, those
//! before it stand, and the error says so.

use std::io::BufRead;

use understudy_core::{
    limits::{REQUEST_BYTES_MAX, REQUEST_STATEMENTS_MAX},
    sql::{Origin, RequestKind, SqlRequest, SqlResponse, Statement},
};

use super::{Failed, Loaded, script::Statements, writer::Writer};

/// Text of one request, bytes: the rest is for what is around it.
const TEXT_BYTES_MAX: usize = REQUEST_BYTES_MAX - (1 << 20);

pub(super) fn all(
    writer: &Writer,
    mut statements: Statements<impl BufRead>,
) -> Result<Loaded, Failed> {
    let mut last = SqlResponse::default();
    let (mut gathered, mut bytes, mut number, mut done) = (Vec::new(), 0, 0, 0);
    loop {
        let next = statements.next();
        let next = next.map_err(|words| failed(done, number + 1, &words))?;
        let length = next.as_ref().map_or(0, String::len);
        let is_over = bytes + length > TEXT_BYTES_MAX || gathered.len() == REQUEST_STATEMENTS_MAX;
        if (next.is_none() || is_over) && !gathered.is_empty() {
            last = run(writer, std::mem::take(&mut gathered), done)?;
            (bytes, done) = (0, number);
        }
        let Some(statement) = next else { return Ok(Loaded::Executed(last)) };
        number += 1;
        bytes += length;
        let sql = if is_left_out(&statement) { String::new() } else { statement };
        gathered.push(Statement::new(sql, Vec::new()));
    }
}

fn run(writer: &Writer, statements: Vec<Statement>, done: usize) -> Result<SqlResponse, Failed> {
    let request = SqlRequest::new(RequestKind::Mixed, Origin::User, statements);
    let request = SqlRequest { transaction: true, ..request };
    // It is not known to bear being made twice.
    let answer = writer.write_once(&request);
    let mut response = answer.map_err(|failed| match failed {
        Failed::Statement(words) | Failed::Content(words) => {
            Failed::Statement(before(done, &words))
        }
        Failed::Group(words) => Failed::Group(before(done, &words)),
    })?;
    let last = response.results.pop();
    response.results = last.into_iter().collect();
    Ok(response)
}

fn failed(done: usize, number: usize, words: &str) -> Failed {
    Failed::Statement(before(done, &format!("statement {number}: {words}")))
}

fn before(done: usize, words: &str) -> String {
    match done {
        0 => words.to_owned(),
        done => format!("the first {done} statements are executed, after them: {words}"),
    }
}

/// What a dump brings along for a connection of its own: the request is a transaction,
/// and counters of ids follow the rows.
fn is_left_out(statement: &str) -> bool {
    let text = statement.trim_end_matches(|c: char| c.is_whitespace() || c == ';');
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with("--"));
    let words: Vec<String> = lines
        .flat_map(str::split_whitespace)
        .take(4)
        .map(|word| word.to_ascii_lowercase().replace(['"', '\'', '`', '[', ']'], ""))
        .collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match &words[..] {
        ["begin" | "commit" | "end"] => true,
        [
            "begin" | "commit" | "end",
            "transaction" | "immediate" | "exclusive" | "deferred",
            ..,
        ] => true,
        ["delete", "from", table, ..] | ["insert", "into", table, ..] => {
            table.split('(').next() == Some("sqlite_sequence")
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_dump_does_for_its_connection_is_left_out() {
        for sql in [
            "BEGIN TRANSACTION;",
            "-- x\nCOMMIT;",
            "END",
            "begin immediate;",
            "DELETE FROM sqlite_sequence;",
            "INSERT INTO \"sqlite_sequence\" VALUES('t',5);",
            "INSERT INTO sqlite_sequence(name,seq) VALUES('t',5);",
        ] {
            assert!(is_left_out(sql), "{sql}");
        }
        for sql in [
            "INSERT INTO t VALUES('begin');",
            "PRAGMA foreign_keys=OFF;",
            "ROLLBACK;",
            "SAVEPOINT a",
        ] {
            assert!(!is_left_out(sql), "{sql}");
        }
    }
}
