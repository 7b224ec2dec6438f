//! SQL as text: where a statement ends and the next begins, and what SQLite says of
//! one that fails.

use rusqlite::{Connection, ErrorCode};

use super::refusal;
use crate::store::ffi;

/// The first statement of a text and what follows it; `None` when nothing is left. One
/// that is too long to be compiled ends where `end_of_too_long` says.
pub(super) fn next_statement<'a>(
    connection: &Connection,
    text: &'a str,
    end_of_too_long: impl FnOnce(&str) -> Option<usize>,
) -> Option<(&'a str, &'a str)> {
    let text = without_comments(text);
    if text.is_empty() {
        return None;
    }
    let inner = text.trim_end_matches(|c: char| is_space(c) || c == ';');
    if !inner.contains(';') {
        return Some((inner, ""));
    }
    let compiled = || ffi::statement_bytes(connection, text).unwrap_or(text.len());
    let length = end_of_too_long(text).unwrap_or_else(compiled);
    Some(text.split_at_checked(length).unwrap_or((text, "")))
}

/// The text from its first statement on.
pub(super) fn without_comments(text: &str) -> &str {
    let mut text = text;
    loop {
        text = text.trim_start_matches(|c: char| is_space(c) || c == ';');
        text = match text.get(..2) {
            Some("--") => text.find('\n').map_or("", |end| &text[end..]),
            Some("/*") => text[2..].find("*/").map_or("", |end| &text[end + 4..]),
            _ => return text,
        };
    }
}

/// As SQLite takes it: a byte order mark is one wherever it stands.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace() || c == '\u{feff}'
}

/// SQLite's own words, without the wrapping.
#[expect(clippy::wildcard_enum_match_arm, reason = "the other errors are rusqlite's own")]
pub(super) fn words(error: &rusqlite::Error) -> String {
    if error.sqlite_error_code() == Some(ErrorCode::TooBig) {
        return refusal::value_too_large();
    }
    match error {
        rusqlite::Error::SqliteFailure(_, Some(words)) => words.clone(),
        rusqlite::Error::SqlInputError { msg, .. } => msg.clone(),
        other => other.to_string(),
    }
}
