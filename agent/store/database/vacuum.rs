//! VACUUM: an entry of its own, carried out by every board outside of the
//! transaction that is otherwise always open.
//!
//! It is a function of the rows alone, the rowids it renumbers (of tables without
//! an INTEGER PRIMARY KEY or any index) included. When a board loses power after
//! it and before the entry counts as applied, it is done once more, to no effect.

use understudy_core::sql::SqlRequest;

use super::{
    Database, Failure,
    authorize::Mode,
    refusal,
    text::{is_space, without_comments},
};

/// As it stands in an entry.
pub(super) const VACUUM: &str = "VACUUM";

/// What follows the word, when the text is a VACUUM.
fn arguments(text: &str) -> Option<&str> {
    let text = without_comments(text);
    let (word, rest) = text.split_at_checked(VACUUM.len())?;
    let goes_on = || rest.starts_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$');
    if !word.eq_ignore_ascii_case(VACUUM) || goes_on() {
        return None;
    }
    Some(rest.trim_matches(|c: char| is_space(c) || c == ';'))
}

fn is_main(arguments: &str) -> bool {
    let name = arguments.trim_matches(['"', '[', ']', '`', '\'']);
    arguments.is_empty() || name.eq_ignore_ascii_case("main")
}

/// Is this all that is asked for?
pub(super) fn is_alone(request: &SqlRequest) -> bool {
    match request.statements.as_slice() {
        [only] => !request.transaction && arguments(&only.sql).is_some_and(is_main),
        _ => false,
    }
}

/// Why a statement of a request is refused, if it is a VACUUM.
pub(super) fn refused(text: &str) -> Option<&'static str> {
    let arguments = arguments(text)?;
    let mut words = arguments.split_whitespace();
    let into = words.any(|word| word.eq_ignore_ascii_case("into"));
    Some(match (into, is_main(arguments)) {
        (true, _) => refusal::VACUUM_INTO,
        (false, true) => refusal::VACUUM_ALONE,
        (false, false) => refusal::VACUUM_OTHER,
    })
}

impl Database {
    /// Carries it out, between a commit of what is applied and a new transaction.
    pub(super) fn vacuum(&mut self) -> Result<(), Failure> {
        self.commit()?;
        self.authorizer.enter(Mode::Internal);
        let done = ["FILE", "MEMORY"].iter().try_fold(false, |done, store| match done {
            true => Ok(true),
            false => self.vacuum_in(store),
        });
        match done {
            Ok(true) => {}
            Ok(false) => {
                let path = self.path.display();
                return Err(Failure::Halt(format!("{path}: no temporary file for VACUUM")));
            }
            Err(error) => return Err(self.failure(&error)),
        }
        // All of the file is in the WAL now: brought back at the next occasion.
        self.since_checkpoint = self.options.wal_bytes;
        self.begin()?;
        self.schema_changed = true;
        Ok(())
    }

    /// False when there is no place for temporary files of this kind.
    fn vacuum_in(&self, store: &str) -> rusqlite::Result<bool> {
        self.connection.execute_batch(&format!("PRAGMA temp_store = {store}"))?;
        let done = self.connection.execute_batch(VACUUM);
        self.connection.execute_batch("PRAGMA temp_store = MEMORY")?;
        match done {
            Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::CannotOpen) => {
                Ok(false)
            }
            done => done.map(|()| true),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_order_mark_hides_no_vacuum() {
        assert_eq!(refused("\u{feff}VACUUM INTO 'x'"), Some(refusal::VACUUM_INTO));
        assert_eq!(
            refused(" \u{feff}-- why\n\u{feff}vacuum\u{feff};"),
            Some(refusal::VACUUM_ALONE)
        );
        assert_eq!(refused("VACUUMED"), None);
    }
}
