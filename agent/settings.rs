//! Settings of the group: replicated rows, checked before they are proposed. One
//! `understudy set` on any board holds for all.

use understudy_core::{
    sql::{Origin, Parameters, RequestKind, SqlRequest, Statement, Value},
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
pub const ALL: [Setting; 1] = [Setting {
    name: "profile",
    default: "wired",
    doc: "timing of the group: wired, wifi or radio; taken up by each board at its next start",
    check: |value| match Timing::named(value) {
        Some(_) => Ok(()),
        None => Err(format!("profile is wired, wifi or radio, not {value}")),
    },
}];

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
    }
}
