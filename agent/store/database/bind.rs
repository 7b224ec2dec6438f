//! The values given with one SQL text. Values by place are used up one after the
//! other by the statements of the text, as Go's driver does; values by name are
//! there for all of them.

use understudy_core::sql::{Parameters, Value};

use super::{Bound, text::words};

/// Parameters of a statement that is kept compiled: SQLite has some 56 bytes for each, also for those
/// that a number in the text skips.
pub(super) const CACHED_PARAMETERS_MAX: usize = 2_048;

/// See the module's description.
pub(super) struct Given<'a> {
    parameters: &'a Parameters,
    used: usize,
}

impl<'a> Given<'a> {
    pub(super) const fn new(parameters: &'a Parameters) -> Self {
        Self { parameters, used: 0 }
    }

    /// Binds what the statement wants, or says what is missing.
    pub(super) fn bind(&mut self, statement: &mut rusqlite::Statement<'_>) -> Result<(), String> {
        match self.parameters {
            Parameters::Positional(values) => {
                let rest = values.get(self.used..).unwrap_or_default();
                let wanted = statement.parameter_count();
                if rest.len() < wanted {
                    return Err(too_few(wanted, rest.len()));
                }
                self.used += wanted;
                (1..=wanted).zip(rest).try_for_each(|(place, value)| put(statement, place, value))
            }
            Parameters::Named(values) => by_name(statement, values),
        }
    }
}

fn by_name(
    statement: &mut rusqlite::Statement<'_>,
    values: &[(String, Value)],
) -> Result<(), String> {
    let wanted = statement.parameter_count();
    let mut missing = Vec::new();
    for place in 1..=wanted {
        let name = statement.parameter_name(place).unwrap_or("?").to_owned();
        let bare = name.trim_start_matches([':', '@', '$', '?']);
        match values.iter().find(|(known, _)| known == bare) {
            Some((_, value)) => put(statement, place, value)?,
            None => missing.push(name),
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let too_few = too_few(wanted, wanted - missing.len());
    Err(format!("{too_few}: no value for {}", missing.join(", ")))
}

fn put(statement: &mut rusqlite::Statement<'_>, place: usize, value: &Value) -> Result<(), String> {
    statement.raw_bind_parameter(place, Bound(value)).map_err(|error| words(&error))
}

fn too_few(wanted: usize, got: usize) -> String {
    format!("not enough args to execute query: want {wanted} got {got}")
}
