//! `understudy history`: what became of the group's boards and duties, and why.

use understudy_core::sql::Value;

use super::sql;
use crate::{
    config::Places,
    history::query::{self, Range, Row},
    terminal,
};

/// `understudy history`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Not before: so long ago (90s, 15m, 1h, 30d) or a time.
    #[arg(long, allow_hyphen_values = true)]
    since: Option<String>,
    /// Of this duty.
    #[arg(long, value_name = "NAME")]
    duty: Option<String>,
    /// Of this board.
    #[arg(long, value_name = "NAME")]
    board: Option<String>,
    /// So many at the most, the newest (1000).
    #[arg(long)]
    limit: Option<String>,
    /// As CSV.
    #[arg(long, conflicts_with = "json")]
    csv: bool,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(places: &Places, arguments: Arguments) -> Result<(), String> {
    let Arguments { since, duty, board, limit, csv, json } = arguments;
    let range = Range::new(duty, board, since.as_deref(), limit.as_deref())?;
    let rows = query::rows(sql::asked(places, query::request(&range), true)?)?;
    if csv {
        return terminal::print(&query::csv(&rows));
    }
    if json {
        return terminal::line(&query::json(&rows));
    }
    if rows.is_empty() {
        terminal::complain("nothing of that is in the history");
        return Ok(());
    }
    terminal::print(&table(&rows))
}

fn table(rows: &[Row]) -> String {
    let columns = ["time", "board", "what", "duty", "token", "why", "seen by"].map(String::from);
    let cells = rows.iter().map(|row| {
        let token = row.token.map(|token| token.to_string()).unwrap_or_default();
        let duty = row.duty.clone().unwrap_or_default();
        let Row { board, kind, reason, seen_by, .. } = row.clone();
        let all = [row.when(), board, kind, duty, token, reason, seen_by];
        all.map(|text| Value::Text(text.into_bytes())).to_vec()
    });
    super::show::table(&columns, &cells.collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happened_is_a_table() {
        let row = Row {
            id: 1,
            time: 0,
            board: String::from("a"),
            kind: String::from("take"),
            duty: Some(String::from("pump")),
            token: Some(81),
            reason: String::from("in place of b"),
            seen_by: String::from("c"),
        };
        let lost = Row { kind: String::from("lost"), duty: None, token: None, ..row.clone() };
        let table = table(&[row, lost]);
        let line = table.lines().find(|line| line.contains("take")).unwrap();
        for word in ["1970-01-01T00:00:00Z", "pump", "81", "in place of b"] {
            assert!(line.contains(word), "{table}");
        }
    }
}
