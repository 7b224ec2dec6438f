//! Settings of the group: replicated rows, checked before they are proposed. One
//! `understudy set` on any board holds for all.

use understudy_core::{
    limits::{VOTERS_DEFAULT, VOTERS_MAX},
    sql::{
        Origin, Parameters, RequestKind, SqlRequest, SqlResponse, Statement, StatementOutcome,
        Value,
    },
    timing::Timing,
};

/// One setting.
pub struct Setting {
    /// What `set` and `get` call it.
    pub name: &'static str,
    /// What holds when it was never set.
    pub default: &'static str,
    /// What it does, one line.
    pub doc: &'static str,
    check: fn(&str) -> Result<(), String>,
}

/// All of them.
pub const ALL: [Setting; 2] = [
    Setting {
        name: "profile",
        default: "wired",
        doc: "timing of the group: wired, wifi or radio; every board takes it up within a second",
        check: |value| match Timing::named(value) {
            Some(_) => Ok(()),
            None => Err(format!("profile is wired, wifi or radio, not {value}")),
        },
    },
    Setting {
        name: "voters",
        default: "5",
        doc: "how many boards vote, 1 to 7: one that joins once there are so many only follows. Who \
              votes already goes on voting, and who follows goes on following",
        check: |value| match voters_named(value) {
            Some(_) => Ok(()),
            None => Err(format!("voters is a number from 1 to {VOTERS_MAX}, not {value}")),
        },
    },
];

fn voters_named(value: &str) -> Option<usize> {
    value.parse().ok().filter(|voters| (1..=VOTERS_MAX).contains(voters))
}

/// The setting of that name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Setting> {
    ALL.iter().find(|setting| setting.name == name)
}

/// The request that sets it.
///
/// # Errors
/// Says which settings there are, or what values this one takes.
pub fn set(name: &str, value: &str) -> Result<SqlRequest, String> {
    let setting = find(name).ok_or_else(|| unknown(name))?;
    (setting.check)(value)?;
    let sql = "INSERT INTO _understudy_setting VALUES (?, ?) \
               ON CONFLICT(name) DO UPDATE SET value = excluded.value";
    let text = |text: &str| Value::Text(text.as_bytes().to_vec());
    let parameters = vec![text(name), text(value)];
    Ok(request(RequestKind::Execute, sql, parameters))
}

/// The request that reads all that were set.
#[must_use]
pub fn read_all() -> SqlRequest {
    request(RequestKind::Query, "SELECT name, value FROM _understudy_setting", Vec::new())
}

/// Names and values, as [`read_all`] is answered; none when they cannot be read.
#[must_use]
pub fn rows(response: SqlResponse) -> Option<Vec<(String, String)>> {
    let text = |value: &Value| match value {
        Value::Text(text) => String::from_utf8_lossy(text).into_owned(),
        Value::Null | Value::Integer(_) | Value::Real(_) | Value::Blob(_) => String::new(),
    };
    let rows = match response.results.into_iter().next()?.outcome {
        StatementOutcome::Rows { rows, .. } => rows,
        StatementOutcome::Changed { .. } | StatementOutcome::Error(_) => return None,
    };
    rows.iter().map(|row| Some((text(row.first()?), text(row.get(1)?)))).collect()
}

fn value<'a>(stored: &'a [(String, String)], name: &str) -> Option<&'a str> {
    stored.iter().find(|(stored, _)| stored == name).map(|(_, value)| value.as_str())
}

/// The group's timing profile.
#[must_use]
pub fn timing(stored: &[(String, String)]) -> Timing {
    value(stored, "profile").and_then(Timing::named).unwrap_or(Timing::WIRED)
}

/// How many boards of the group vote.
#[must_use]
pub fn voters(stored: &[(String, String)]) -> usize {
    value(stored, "voters").and_then(voters_named).unwrap_or(VOTERS_DEFAULT)
}

/// What to say of a name nobody knows.
#[must_use]
pub fn unknown(name: &str) -> String {
    let known: Vec<_> = ALL.iter().map(|setting| setting.name).collect();
    format!("there is no setting {name}; there are: {}", known.join(", "))
}

fn request(kind: RequestKind, sql: &str, parameters: Vec<Value>) -> SqlRequest {
    SqlRequest {
        kind,
        transaction: false,
        origin: Origin::Agent,
        statement_timeout_ms: None,
        statements: vec![Statement {
            sql: sql.to_owned(),
            parameters: Parameters::Positional(parameters),
        }],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_a_value_it_takes() {
        for setting in ALL {
            assert_eq!((setting.check)(setting.default), Ok(()));
        }
    }

    #[test]
    fn unknown_names_and_values_are_answered_with_the_known_ones() {
        assert!(set("colour", "red").unwrap_err().contains("profile"));
        assert!(set("profile", "fast").unwrap_err().contains("wired, wifi or radio"));
        for value in ["0", "8", "-1", "three", ""] {
            assert!(set("voters", value).unwrap_err().contains("from 1 to 7"), "{value}");
        }
    }

    #[test]
    fn what_was_never_set_holds_by_default() {
        let stored = [("voters".to_owned(), "3".to_owned())];
        assert_eq!((voters(&stored), voters(&[])), (3, VOTERS_DEFAULT));
        assert_eq!(find("voters").unwrap().default, VOTERS_DEFAULT.to_string());
        assert_eq!(timing(&stored), Timing::WIRED);
    }
}
