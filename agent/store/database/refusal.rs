//! Every refusal of ours in its words: what is wrong, and what to do instead. The
//! page of the database module (`sql.md`) shows each; a test holds the two
//! together.

use understudy_core::limits::{
    CHANGE_CELLS_MAX, ENTRY_BYTES_MAX, REQUEST_MS_MAX, REQUEST_ROWS_MAX, REQUEST_TOUCHED_BYTES_MAX,
    RESPONSE_BYTES_MAX, SQL_WORDS_MAX,
};

pub(super) const TRANSACTION: &str = "BEGIN, COMMIT, ROLLBACK and SAVEPOINT are not allowed: \
     send the statements in one request with ?transaction";

pub(super) const ATTACH: &str = "ATTACH and DETACH are not allowed, a group has one database: \
     keep the tables in it";

pub(super) const TEMP: &str = "TEMP objects are not allowed, they would be on one board only: \
     create an ordinary one, or use WITH";

pub(super) const EXTENSION: &str = "load_extension is not allowed, what it adds would be on one \
     board only: compute it in the caller";

pub(super) const PAGES: &str = "sqlite_dbpage is not allowed, how pages are kept is understudy's \
     own: use the tables";

pub(super) const SEQUENCE: &str = "sqlite_sequence is kept by SQLite, so that no id is given \
     twice: to begin anew, drop the table and create it";

pub(super) const OUR_NAME: &str = "names that begin with _understudy_ are kept for understudy: \
     choose another";

pub(super) const NOT_UTF8: &str = "a name that is not UTF-8 is not allowed, no table or column \
     has one: give it as UTF-8";

pub(super) const VACUUM_ALONE: &str = "VACUUM is an entry of its own: send it in a request of \
     its own, without ?transaction";

pub(super) const VACUUM_INTO: &str = "VACUUM INTO is not allowed, it would write a file on one \
     board only: leave INTO out";

pub(super) const VACUUM_OTHER: &str = "VACUUM of another database is not allowed, a group has \
     one: leave its name out";

/// SQLite's words for a transaction with a deferred constraint unfulfilled.
pub(super) const FOREIGN_KEY: &str = "FOREIGN KEY constraint failed";

/// rqlite's words for the pragmas it refuses too.
pub(super) const DISALLOWED_PRAGMA: &str = "disallowed pragma";

pub(super) fn ours(table: &str) -> String {
    format!("{table} belongs to understudy and is not written by SQL: use the `understudy` command")
}

pub(super) fn shadow(table: &str) -> String {
    format!("{table} belongs to a full-text index: write to the index itself")
}

pub(super) fn module(name: &str) -> String {
    format!(
        "virtual tables of module {name} are not replicated: use fts5, or an ordinary table with \
         an index"
    )
}

/// A pragma of rqlite's list ends the whole request.
pub(super) fn disallowed_pragma(name: &str) -> String {
    format!("PRAGMA {name} is understudy's own, it keeps the files: leave it out")
}

pub(super) fn pragma(name: &str) -> String {
    let instead = match name {
        "defer_foreign_keys" => "declare the constraint DEFERRABLE INITIALLY DEFERRED",
        "optimize" | "analysis_limit" => "send ANALYZE",
        "incremental_vacuum" => "send VACUUM",
        _ => "leave it out",
    };
    format!("PRAGMA {name} is not allowed, it would hold on one board only: {instead}")
}

pub(super) fn hidden_rowid(table: &str) -> String {
    format!(
        "{table}: its columns are named rowid, _rowid_ and oid, so that no row can be addressed: \
         rename one of them or declare an INTEGER PRIMARY KEY"
    )
}

pub(super) fn too_large() -> String {
    format!(
        "the request changes more than one entry holds ({ENTRY_BYTES_MAX} bytes encoded, \
         {CHANGE_CELLS_MAX} values, {REQUEST_ROWS_MAX} rows) or touches more than \
         {REQUEST_TOUCHED_BYTES_MAX} bytes: change fewer rows in one request"
    )
}

pub(super) fn too_long_written_out(what: &str, words_max: u32) -> String {
    format!(
        "{what}: more than {words_max} words with each view and WITH term written out where it \
         is named: name them less often, or keep in a table what many stand upon"
    )
}

pub(super) fn too_long_statement() -> String {
    too_long_written_out("the statement", SQL_WORDS_MAX)
}

pub(super) fn result_too_large() -> String {
    format!("the result is larger than {RESPONSE_BYTES_MAX} bytes: ask for fewer rows (LIMIT)")
}

pub(super) fn request_too_long() -> String {
    format!(
        "the request took too long, no statement begins after {REQUEST_MS_MAX} ms: send it in \
         several requests"
    )
}

pub(super) fn value_too_large() -> String {
    format!(
        "string or blob too big: the limit is {ENTRY_BYTES_MAX} bytes: store it in several rows"
    )
}

pub(super) fn lost_too_often(count: usize) -> String {
    format!(
        "more than {count} statements of the request ended SQLite's transaction: use OR ABORT \
         and RAISE(ABORT)"
    )
}

/// Names the statement, counted from one as they stand in the request.
pub(super) fn at(statement: usize, words: &str) -> String {
    format!("statement {}: {words}", statement + 1)
}

#[cfg(test)]
mod tests {
    use understudy_core::limits::VIEWS_WORDS_MAX;

    use super::*;
    use crate::store::database::{losses::LOSSES_MAX, views};

    #[test]
    fn the_page_tells_every_refusal_in_its_words() {
        let page = include_str!("sql.md");
        let fixed = [
            TRANSACTION,
            ATTACH,
            TEMP,
            EXTENSION,
            PAGES,
            SEQUENCE,
            OUR_NAME,
            NOT_UTF8,
            VACUUM_ALONE,
            VACUUM_INTO,
            VACUUM_OTHER,
            DISALLOWED_PRAGMA,
        ];
        let made = [
            ours("TABLE"),
            shadow("TABLE"),
            module("MODULE"),
            disallowed_pragma("NAME"),
            pragma("NAME"),
            hidden_rowid("TABLE"),
            too_large(),
            too_long_written_out("VIEW", SQL_WORDS_MAX),
            too_long_written_out(views::ALL, VIEWS_WORDS_MAX),
            too_long_statement(),
            result_too_large(),
            request_too_long(),
            understudy_core::sql::too_many_statements(),
            understudy_core::sql::too_many_values(),
            value_too_large(),
            lost_too_often(LOSSES_MAX),
            at(1, "..."),
        ];
        for words in fixed.into_iter().chain(made.iter().map(String::as_str)) {
            assert!(page.contains(words), "sql.md does not say: {words}");
        }
    }
}
