//! Settings of the group: replicated rows, checked before they are proposed. One
//! `understudy set` on any board holds for all.

use std::collections::BTreeSet;

use understudy_core::{
    duty,
    event::{Millis, NodeId},
    limits::{VOTERS_DEFAULT, VOTERS_MAX},
    node::Node,
    sql::{Origin, RequestKind, SqlRequest, SqlResponse, Statement, Value},
    timing::Timing,
};

use crate::version;

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
pub const ALL: [Setting; 7] = [
    Setting {
        name: PROFILE,
        default: WIRED,
        doc: "timing of the group: wired, wifi or radio, or one of them tuned: \
              wired,election_ms=500,lease_ms=3000. Every board takes it up by itself, longer \
              waits at once, shorter ones after a while",
        check: |value| Timing::parse(value).map(drop),
    },
    Setting {
        name: "voters",
        default: "5",
        doc: "how many boards vote at the most, 1 to 7; the others follow. Of 4 or 6 one follows too: \
              an even number stands no more losses",
        check: |value| match voters_named(value) {
            Some(_) => Ok(()),
            None => Err(format!("voters is a number from 1 to {VOTERS_MAX}, not {value}")),
        },
    },
    Setting {
        name: "replace_after",
        default: "24h",
        doc: "a board that votes and was not heard for so long follows from then on, and one that \
              follows votes in its place: 10s to 30d (s, m, h, d), or 0 for never",
        check: |value| match duration_ms(value) {
            Some(_) => Ok(()),
            None => Err(format!(
                "replace_after is 0 or a number with s, m, h or d, from 10s to 30d, not {value}"
            )),
        },
    },
    Setting {
        name: "one_copy",
        default: "refuse",
        doc: "refuse or allow: what becomes of writes when of two boards with a witness one is \
              away and the witness has no room left for what it misses. Allowed, what is written \
              from then on is on one board alone until the other is back",
        check: |value| match value {
            "refuse" | "allow" => Ok(()),
            _ => Err(format!("one_copy is refuse or allow, not {value}")),
        },
    },
    Setting {
        name: "scrub_interval",
        default: "1h",
        doc: "how often all boards are compared, row by row: 10s to 30d (s, m, h, d), or 0 for only \
              by `understudy scrub`",
        check: |value| match duration_ms(value) {
            Some(_) => Ok(()),
            None => Err(format!(
                "scrub_interval is 0 or a number with s, m, h or d, from 10s to 30d, not {value}"
            )),
        },
    },
    Setting {
        name: READINGS_MB_MAX,
        default: "0",
        doc: "no more readings are taken while the database has more than so many MB, 10 or more; 0 \
              for no such bound. Those acknowledged as spooled stay in their spools until there is \
              room again: old ones go by `understudy retention`",
        check: |value| match megabytes(value) {
            Some(_) => Ok(()),
            None => {
                Err(format!("{READINGS_MB_MAX} is 0 or a number from 10 to 1000000, not {value}"))
            }
        },
    },
    Setting {
        name: UPGRADE_AFTER,
        default: "1h",
        doc: "once all boards have run a newer understudy for so long the group makes use of all \
              that it can, and no board goes back to the older one: 10s to 30d (s, m, h, d), or 0 \
              for only by `understudy upgrade`",
        check: |value| match duration_ms(value) {
            Some(_) => Ok(()),
            None => Err(format!(
                "{UPGRADE_AFTER} is 0 or a number with s, m, h or d, from 10s to 30d, not {value}"
            )),
        },
    },
];

/// The setting that says when the group goes on to another version.
pub const UPGRADE_AFTER: &str = "upgrade_after";

/// The setting that says how long things take, and what it is by default.
pub const PROFILE: &str = "profile";
/// See [`PROFILE`].
pub const WIRED: &str = "wired";

/// The setting that bounds what readings may take.
pub const READINGS_MB_MAX: &str = "readings_mb_max";

/// Megabytes, as that setting has them.
#[must_use]
pub fn megabytes(value: &str) -> Option<u64> {
    value.parse().ok().filter(|mb| *mb == 0 || (10..=1_000_000).contains(mb))
}

fn voters_named(value: &str) -> Option<usize> {
    value.parse().ok().filter(|voters| (1..=VOTERS_MAX).contains(voters))
}

/// Milliseconds of a number with its unit, from 10 s to 30 days; 0 for never.
#[must_use]
pub fn duration_ms(value: &str) -> Option<u64> {
    if value == "0" {
        return Some(0);
    }
    let seconds = match value.chars().last()? {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return None,
    };
    let number: u64 = value.get(..value.len() - 1)?.parse().ok()?;
    let seconds = number.checked_mul(seconds)?;
    (10..=30 * 86_400).contains(&seconds).then_some(seconds * 1_000)
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
    let parameters = vec![Value::text(name), Value::text(value)];
    let mut request = SqlRequest::one(RequestKind::Execute, Origin::Agent, sql, parameters);
    if name == PROFILE {
        request.statements.push(duty::lengthen(Timing::parse(value)?.lease_ms));
    }
    Ok(request)
}

/// What stands before a board's id in the row that says that it is drained. It is no
/// setting of the group: nobody but `understudy drain` sets it.
const DRAIN: &str = "drain:";

/// The request that has a board hold no duty and not lead, or ends that. What was said of
/// boards that are no members any more goes with it.
#[must_use]
pub fn drain(board: NodeId, is_drained: bool) -> SqlRequest {
    let name = Value::text(&format!("{DRAIN}{board}"));
    let (sql, values) = match is_drained {
        true => (
            "INSERT INTO _understudy_setting VALUES (?1, ?2) ON CONFLICT(name) DO NOTHING",
            vec![name, Value::text("yes")],
        ),
        false => ("DELETE FROM _understudy_setting WHERE name = ?1", vec![name]),
    };
    let mut request = SqlRequest::one(RequestKind::Execute, Origin::Agent, sql, values);
    let gone = format!(
        "DELETE FROM _understudy_setting WHERE name LIKE '{DRAIN}%' AND CAST(substr(name, {}) AS INTEGER) NOT IN \
         (SELECT id FROM _understudy_member)",
        DRAIN.len() + 1
    );
    request.statements.push(Statement::new(gone, Vec::new()));
    request
}

/// The boards that are drained.
#[must_use]
pub fn drained(stored: &[(String, String)]) -> BTreeSet<NodeId> {
    let ids = stored.iter().filter_map(|(name, _)| name.strip_prefix(DRAIN)?.parse().ok());
    ids.collect()
}

/// The request that reads all that were set.
#[must_use]
pub fn read_all() -> SqlRequest {
    let sql = "SELECT name, value FROM _understudy_setting";
    SqlRequest::one(RequestKind::Query, Origin::Agent, sql, Vec::new())
}

/// Names and values, as [`read_all`] is answered; none when they cannot be read.
#[must_use]
pub fn rows(response: SqlResponse) -> Option<Vec<(String, String)>> {
    let text = |value: &Value| match value {
        Value::Text(text) => String::from_utf8_lossy(text).into_owned(),
        Value::Null | Value::Integer(_) | Value::Real(_) | Value::Blob(_) => String::new(),
    };
    let rows = response.into_rows()?;
    rows.iter().map(|row| Some((text(row.first()?), text(row.get(1)?)))).collect()
}

fn value<'a>(stored: &'a [(String, String)], name: &str) -> Option<&'a str> {
    stored.iter().find(|(stored, _)| stored == name).map(|(_, value)| value.as_str())
}

/// Has the node go by what the group has set. A value that no check lets through,
/// in a row that was damaged, counts as never set.
pub fn follow(node: &mut Node, now: Millis, stored: &[(String, String)]) {
    node.set_timing(now, timing(stored));
    node.set_voters_max(voters(stored));
    node.set_scrub_interval(scrub_interval_ms(stored));
    node.set_replace_after(replace_after_ms(stored));
    node.set_one_copy(value(stored, "one_copy") == Some("allow"));
    node.set_drained(drained(stored));
    node.set_version(version::of(stored), upgrade_after_ms(stored));
    // A witness holds no duty, and leads only where nobody else can.
    let told = stored.iter().filter(|(name, _)| !name.starts_with(DRAIN));
    node.set_settings(told.cloned().collect());
}

/// The group's timing profile.
#[must_use]
pub fn timing(stored: &[(String, String)]) -> Timing {
    let text = value(stored, PROFILE).unwrap_or(WIRED);
    // What another version let through counts as what it is based on.
    let base = || Timing::named(text.split(',').next().unwrap_or_default());
    Timing::parse(text).ok().or_else(base).unwrap_or(Timing::WIRED)
}

/// How many boards of the group vote.
fn voters(stored: &[(String, String)]) -> usize {
    value(stored, "voters").and_then(voters_named).unwrap_or(VOTERS_DEFAULT)
}

/// Milliseconds of silence after which a voter is replaced, 0 for never.
fn replace_after_ms(stored: &[(String, String)]) -> u64 {
    value(stored, "replace_after").and_then(duration_ms).unwrap_or(86_400_000)
}

/// Milliseconds between two comparisons of all boards, 0 for none.
fn scrub_interval_ms(stored: &[(String, String)]) -> u64 {
    value(stored, "scrub_interval").and_then(duration_ms).unwrap_or(3_600_000)
}

/// Milliseconds for which all boards know a newer version before the group goes by it, 0 for
/// not by itself.
fn upgrade_after_ms(stored: &[(String, String)]) -> u64 {
    value(stored, UPGRADE_AFTER).and_then(duration_ms).unwrap_or(3_600_000)
}

/// What to say of a name nobody knows.
#[must_use]
pub fn unknown(name: &str) -> String {
    let known: Vec<_> = ALL.iter().map(|setting| setting.name).collect();
    format!("there is no setting {name}; there are: {}", known.join(", "))
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
        assert!(set("one_copy", "yes").unwrap_err().contains("refuse or allow"));
        for value in ["", "h", "-1h", "9s", "31d", "1", "1w", "18446744073709551615d"] {
            let refused = set("scrub_interval", value).unwrap_err();
            assert!(refused.contains("from 10s to 30d"), "{value}: {refused}");
        }
    }

    #[test]
    fn drained_boards_are_rows_and_no_settings() {
        let row = |name: &str| (name.to_owned(), "yes".to_owned());
        let stored = [row("drain:3"), row("voters"), row("drain:"), row("drain:x"), row("drain:7")];
        assert_eq!(drained(&stored), BTreeSet::from([3, 7]));
        assert!(set("drain:3", "yes").unwrap_err().contains("no setting drain:3"));
    }

    #[test]
    fn what_was_never_set_holds_by_default() {
        let stored = [("voters".to_owned(), "3".to_owned())];
        assert_eq!((voters(&stored), voters(&[])), (3, VOTERS_DEFAULT));
        assert_eq!(find("voters").unwrap().default, VOTERS_DEFAULT.to_string());
        assert_eq!(timing(&stored), Timing::WIRED);
        let from_elsewhere = [(PROFILE.to_owned(), "wifi,colour=red".to_owned())];
        assert_eq!(timing(&from_elsewhere), Timing::WIFI);
        assert_eq!(Some(scrub_interval_ms(&[])), duration_ms("1h"));
        assert_eq!(Some(replace_after_ms(&[])), duration_ms("24h"));
        assert_eq!(Some(upgrade_after_ms(&[])), duration_ms("1h"));
        for (value, ms) in [("0", 0), ("10s", 10_000), ("5m", 300_000), ("30d", 2_592_000_000)] {
            let stored = [("scrub_interval".to_owned(), value.to_owned())];
            assert_eq!(scrub_interval_ms(&stored), ms);
        }
    }
}
