//! `understudy retention`: the rules by which old readings are rolled up and trimmed.

use understudy_core::sql::{SqlRequest, SqlResponse, StatementOutcome, Value};

use super::{show, sql};
use crate::{
    config::Places,
    driver::clock,
    retention::{self, shown},
    terminal,
};

/// The owner's word that the time is right holds for so long, microseconds: an hour.
const CONFIRMED_US: i64 = 3_600_000_000;

/// What is to be done about the rules; they are printed when nothing is.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Action {
    /// Set the rule for a sensor, or for all whose names a pattern fits.
    Set {
        /// A sensor's name, or a GLOB: `greenhouse/*`. Of several that fit a sensor its
        /// very name counts, else the longest.
        pattern: String,
        /// Readings go after so long: 30d (s, m, h, d, w, y). Kept for ever when absent.
        #[arg(long, value_name = "TIME")]
        keep: Option<String>,
        /// Count, min, max, mean and last of each so many seconds, minutes or hours, and
        /// for how long that is kept: 1m:1y. Can be given several times.
        #[arg(long, value_name = "WIDTH:TIME")]
        rollup: Vec<String>,
    },
    /// Remove a rule: what it would have trimmed is kept.
    Remove {
        /// As it was set.
        pattern: String,
    },
    /// The time that this board shows is right: go by it, although it is further ahead of
    /// the last time than anybody has measured.
    Confirm,
}

pub(super) fn run(places: &Places, action: Option<Action>) -> Result<(), String> {
    let sql = |request: SqlRequest, read: bool| sql::done(places, request, read);
    match action {
        None => {
            let rules = rows(sql(retention::read_all(), true)?);
            let obstacle = rows(sql(retention::read_obstacle(), true)?);
            terminal::print(&told(&rules, &obstacle))
        }
        Some(Action::Set { pattern, keep, rollup }) => {
            sql(retention::set(&pattern, keep.as_deref(), &rollup)?, false).map(drop)
        }
        Some(Action::Remove { pattern }) => {
            let done = sql(retention::remove(&pattern), false)?;
            match done.results.first().map(|result| &result.outcome) {
                Some(StatementOutcome::Changed { rows_affected: 0, .. }) => Err(format!(
                    "there is no rule for {pattern}: `understudy retention` lists them"
                )),
                _ => Ok(()),
            }
        }
        Some(Action::Confirm) => {
            let (_, wall_us) = clock::boot_and_wall_us();
            sql(retention::confirm(wall_us.saturating_add(CONFIRMED_US)), false).map(drop)
        }
    }
}

fn rows(response: SqlResponse) -> Vec<Vec<Value>> {
    response.into_rows().unwrap_or_default()
}

/// All rules, and what keeps them from being carried out.
fn told(rules: &[Vec<Value>], obstacle: &[Vec<Value>]) -> String {
    let text = |text: String| Value::Text(text.into_bytes());
    let kept = |value: &Value| match value {
        Value::Integer(seconds) => text(shown(seconds.unsigned_abs())),
        Value::Null | Value::Real(_) | Value::Text(_) | Value::Blob(_) => text("for ever".into()),
    };
    let rows = rules.iter().filter_map(|rule| match &rule[..] {
        [pattern, keep, rollup] => Some(vec![pattern.clone(), kept(keep), rollup.clone()]),
        _ => None,
    });
    let mut out = if rules.is_empty() {
        String::from("no rules: all readings are kept for ever\n")
    } else {
        let columns = ["pattern", "keep", "rollup"].map(String::from);
        show::table(&columns, &rows.collect::<Vec<_>>())
    };
    if let Some([Value::Text(words)]) = obstacle.first().map(Vec::as_slice) {
        out.push_str(&format!("{}\n", String::from_utf8_lossy(words)));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_a_table_and_what_is_in_the_way_stands_below() {
        let text = |text: &str| Value::Text(text.into());
        let rules = [
            vec![text("a*"), Value::Integer(2_592_000), text("1m:1y 1h:10y")],
            vec![text("b"), Value::Null, text("1d:10y")],
        ];
        let expected = "pattern  keep      rollup\n-------  --------  ------------\n\
                        a*       30d       1m:1y 1h:10y\nb        for ever  1d:10y\n";
        assert_eq!(told(&rules, &[]), expected);
        let obstacle = [vec![text("nothing is trimmed")]];
        assert_eq!(
            told(&[], &obstacle),
            "no rules: all readings are kept for ever\nnothing is trimmed\n"
        );
    }
}
