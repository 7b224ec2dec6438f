//! How long readings are kept, and what is kept of them after that: rules of the group,
//! by sensor or pattern, as rows of a table of ours. Here is what their words mean and
//! which requests write and read them; the database carries them out.

use understudy_core::{
    limits::RETENTION_ROLLUPS_MAX,
    sql::{Origin, RequestKind, SqlRequest, SqlResponse, StatementOutcome, Value},
};

const DAY_S: u64 = 86_400;
const YEAR_S: u64 = 365 * DAY_S;

/// Widest bucket of what is rolled up, seconds.
const WIDTH_S_MAX: u64 = DAY_S;

/// Longest time for which anything can be told to be kept, seconds: 1,000 years.
const KEEP_S_MAX: u64 = 1_000 * YEAR_S;

/// Longest pattern, bytes: a name of a sensor, and as much again for what stands for
/// others.
const PATTERN_BYTES_MAX: usize = 256;

/// What becomes of the readings of a sensor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// They go after so long, seconds; never where there is none.
    pub keep_s: Option<u64>,
    /// They are rolled up, by ascending width.
    pub rollups: Vec<Rollup>,
}

/// Count, least, most, mean and last of the readings of each bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rollup {
    /// Of a bucket, seconds.
    pub width_s: u32,
    /// It goes after so long, seconds.
    pub keep_s: u64,
}

impl Rule {
    /// What words say: `keep` as in `30d`, each of `rollups` as in `1m:1y`.
    ///
    /// # Errors
    /// Says which word is wrong, and how it should be.
    pub fn parse(keep: Option<&str>, rollups: &[String]) -> Result<Self, String> {
        let keep_s = keep.map(|keep| {
            duration_s(keep).ok_or_else(|| format!("keep is {DURATION}, as in 30d, not {keep}"))
        });
        let mut rollups = rollups.iter().map(|text| rollup(text)).collect::<Result<Vec<_>, _>>()?;
        rollups.sort_by_key(|rollup| rollup.width_s);
        if rollups.windows(2).any(|pair| pair[0].width_s == pair[1].width_s) {
            return Err(String::from("two rollups have the same width: leave one out"));
        }
        if rollups.len() > RETENTION_ROLLUPS_MAX {
            return Err(format!("a rule has at most {RETENTION_ROLLUPS_MAX} rollups"));
        }
        Ok(Self { keep_s: keep_s.transpose()?, rollups })
    }

    /// What a row of the table says.
    ///
    /// # Errors
    /// As [`Rule::parse`].
    pub fn read(keep_s: Option<i64>, rollup: &str) -> Result<Self, String> {
        let keep = keep_s.map(|keep_s| format!("{keep_s}s"));
        let rollups: Vec<String> = rollup.split_whitespace().map(String::from).collect();
        Self::parse(keep.as_deref(), &rollups)
    }

    /// Its rollups as [`Rule::read`] takes them.
    fn rollups_text(&self) -> String {
        let text = |rollup: &Rollup| {
            format!("{}:{}", shown(u64::from(rollup.width_s)), shown(rollup.keep_s))
        };
        self.rollups.iter().map(text).collect::<Vec<_>>().join(" ")
    }
}

const DURATION: &str = "a number with s, m, h, d, w or y, at most 1000y";

fn rollup(text: &str) -> Result<Rollup, String> {
    let wrong = |why: &str| format!("a rollup is WIDTH:KEEP, as in 1m:1y, not {text}: {why}");
    let (width, keep) = text.split_once(':').ok_or_else(|| wrong("there is no colon"))?;
    let part = |part| duration_s(part).ok_or_else(|| wrong(&format!("each part is {DURATION}")));
    let (width_s, keep_s) = (part(width)?, part(keep)?);
    if !DAY_S.is_multiple_of(width_s) {
        return Err(wrong("the width is a part of a day, a whole number of them"));
    }
    if keep_s <= width_s {
        return Err(wrong("it is kept for longer than it is wide"));
    }
    let width_s = u32::try_from(width_s.min(WIDTH_S_MAX)).unwrap_or(u32::MAX);
    Ok(Rollup { width_s, keep_s })
}

/// Seconds of a number with its unit, more than none.
#[must_use]
pub fn duration_s(text: &str) -> Option<u64> {
    let unit = text.chars().last()?;
    let (_, unit_s) = UNITS.iter().find(|(name, _)| *name == unit)?;
    let number = text.strip_suffix(unit)?;
    if !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let seconds = number.parse::<u64>().ok()?.checked_mul(*unit_s)?;
    (1..=KEEP_S_MAX).contains(&seconds).then_some(seconds)
}

const UNITS: [(char, u64); 6] =
    [('y', YEAR_S), ('w', 7 * DAY_S), ('d', DAY_S), ('h', 3_600), ('m', 60), ('s', 1)];

/// So many seconds, with the largest unit that tells them exactly; days rather than
/// weeks.
#[must_use]
pub fn shown(seconds: u64) -> String {
    let mut units = UNITS.iter().filter(|(unit, _)| *unit != 'w');
    let exact = units.find(|(_, unit_s)| seconds.is_multiple_of(*unit_s));
    let (unit, unit_s) = exact.unwrap_or(&('s', 1));
    format!("{}{unit}", seconds / unit_s)
}

/// The request that sets a rule.
///
/// # Errors
/// Says what is wrong with it.
pub fn set(pattern: &str, keep: Option<&str>, rollups: &[String]) -> Result<SqlRequest, String> {
    if pattern.is_empty() || pattern.len() > PATTERN_BYTES_MAX {
        return Err(format!("a pattern has 1 to {PATTERN_BYTES_MAX} bytes"));
    }
    let rule = Rule::parse(keep, rollups)?;
    if rule == Rule::default() {
        return Err(String::from(
            "a rule without --keep and --rollup does nothing: give one of them, or remove the rule",
        ));
    }
    let keep_s = rule.keep_s.and_then(|keep_s| i64::try_from(keep_s).ok());
    let keep_s = keep_s.map_or(Value::Null, Value::Integer);
    let sql = "INSERT INTO _understudy_retention VALUES (?, ?, ?) ON CONFLICT(pattern) \
               DO UPDATE SET keep_s = excluded.keep_s, rollup = excluded.rollup";
    Ok(SqlRequest::one(
        RequestKind::Execute,
        Origin::Agent,
        sql,
        vec![Value::text(pattern), keep_s, Value::text(&rule.rollups_text())],
    ))
}

/// The request that removes a rule.
#[must_use]
pub fn remove(pattern: &str) -> SqlRequest {
    let sql = "DELETE FROM _understudy_retention WHERE pattern = ?";
    SqlRequest::one(RequestKind::Execute, Origin::Agent, sql, vec![Value::text(pattern)])
}

/// The request that reads all rules: pattern, seconds or NULL, rollups in words.
#[must_use]
pub fn read_all() -> SqlRequest {
    let sql = "SELECT pattern, keep_s, rollup FROM _understudy_retention";
    SqlRequest::one(RequestKind::Query, Origin::Agent, sql, Vec::new())
}

/// The request that reads why nothing is rolled up or trimmed: one row of one text, or
/// none where all goes on.
#[must_use]
pub fn read_obstacle() -> SqlRequest {
    let sql = "SELECT words FROM _understudy_tending WHERE id = 3";
    SqlRequest::one(RequestKind::Query, Origin::Agent, sql, Vec::new())
}

/// What that is answered, as the last result of a response.
#[must_use]
pub fn obstacle(response: &SqlResponse) -> Option<String> {
    let StatementOutcome::Rows { rows, .. } = &response.results.last()?.outcome else {
        return None;
    };
    match rows.first()?.first()? {
        Value::Text(words) => Some(String::from_utf8_lossy(words).into_owned()),
        Value::Null | Value::Integer(_) | Value::Real(_) | Value::Blob(_) => None,
    }
}

/// The request by which the owner says that it is this time, or will be: microseconds
/// since 1970.
#[must_use]
pub fn confirm(until_us: i64) -> SqlRequest {
    let sql = "INSERT INTO _understudy_tending(id, wall_us) VALUES (2, ?) \
               ON CONFLICT(id) DO UPDATE SET wall_us = excluded.wall_us";
    SqlRequest::one(RequestKind::Execute, Origin::Agent, sql, vec![Value::Integer(until_us)])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rollups(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| String::from(*text)).collect()
    }

    #[test]
    fn what_is_written_is_read_again() {
        let rule = Rule::parse(Some("30d"), &rollups(&["1h:10y", "1m:52w"])).unwrap();
        let widths = [(60, 364 * DAY_S), (3_600, 10 * YEAR_S)];
        let expected = widths.map(|(width_s, keep_s)| Rollup { width_s, keep_s });
        assert_eq!((rule.keep_s, &rule.rollups[..]), (Some(30 * DAY_S), &expected[..]));
        assert_eq!(rule.rollups_text(), "1m:364d 1h:10y");
        assert_eq!(Rule::read(Some(2_592_000), &rule.rollups_text()), Ok(rule));
        assert_eq!(Rule::read(None, ""), Ok(Rule::default()));
    }

    #[test]
    fn wrong_words_are_named() {
        for (keep, rollup, words) in [
            (Some("30"), "", "not 30"),
            (Some("0d"), "", "not 0d"),
            (Some("-1d"), "", "not -1d"),
            (Some("1001y"), "", "not 1001y"),
            (Some("d"), "", "not d"),
            (Some("3\u{b5}"), "", "not 3\u{b5}"),
            (None, "1m", "no colon"),
            (None, "1m:", "each part"),
            (None, "7m:1y", "part of a day"),
            (None, "2d:1y", "part of a day"),
            (None, "1h:1h", "longer than it is wide"),
            (None, "1m:1y 60s:2y", "same width"),
            (None, "1s:1y 2s:1y 3s:1y 4s:1y 5s:1y", "at most 4"),
        ] {
            let rollups: Vec<String> = rollup.split_whitespace().map(String::from).collect();
            let error = Rule::parse(keep, &rollups).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
        assert!(set("a", None, &[]).is_err() && set("", Some("1d"), &[]).is_err());
    }

    #[test]
    fn seconds_are_shown_in_the_largest_unit() {
        let shown = [1, 90, 3_600, 7 * DAY_S, 2 * YEAR_S].map(shown);
        assert_eq!(shown, ["1s", "90s", "1h", "7d", "2y"]);
    }
}
