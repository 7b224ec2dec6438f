//! `understudy scrub` and `repair`: what the comparison of all boards came to, in
//! words, the same as `status` has them.

use std::{fmt::Write as _, process::ExitCode, thread, time::Duration};

use understudy_core::limits::SCRUB_TABLES_MAX;

use super::{ask, asked_status, something_else};
use crate::{
    config::Places,
    control::{ControlRequest, ControlResponse},
    driver::clock,
    status::{DifferenceStatus, ScrubStatus, Status},
    terminal,
    time::rfc3339,
};

/// Between two looks at how far it is.
const LOOK: Duration = Duration::from_millis(200);

/// A clock that says less was never set: 2020, seconds since 1970.
const CLOCK_SET: i64 = 1_577_836_800;

/// A command line waits no longer than this for all boards.
const WAIT_MS_MAX: u64 = 600_000;

/// Asks for a scrub and waits for what it comes to; success when all agree.
pub(super) fn run(places: &Places) -> Result<ExitCode, String> {
    let ControlResponse::Scrub(id) = ask(places, &ControlRequest::Scrub)? else {
        return something_else();
    };
    let started = clock::now();
    loop {
        let status = asked_status(places)?;
        let scrub = status.scrub.filter(|scrub| scrub.id >= id && !scrub.under_way);
        if let Some(scrub) = scrub {
            terminal::prose(&told(&scrub))?;
            let agrees = scrub.differences.is_empty() && scrub.unfinished.is_empty();
            return Ok(if agrees { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        if clock::now().since(started) >= WAIT_MS_MAX {
            return Err(format!(
                "scrub {id} is still under way: `understudy status` tells how it ends"
            ));
        }
        thread::sleep(LOOK);
    }
}

/// Records which board is right.
pub(super) fn repair(places: &Places, board: &str) -> Result<(), String> {
    ask(places, &ControlRequest::Repair { board: board.to_owned() })?;
    terminal::prose(&format!(
        "Recorded: {board} is right. Boards that differ from it are fenced: they answer no reads \
         and start no writes, until each has taken the right rows by itself, which begins in a \
         minute.\n"
    ))
}

/// The last comparison, for people.
pub(super) fn told(scrub: &ScrubStatus) -> String {
    let mut out = format!("scrub      number {}", scrub.id);
    if let Some(time) = i64::try_from(scrub.time).ok().filter(|time| *time >= CLOCK_SET) {
        let _ = write!(out, ", {}", rfc3339(time, 0));
    }
    if let Some(entry) = scrub.entry {
        let _ = write!(out, ", as of entry {entry}");
    }
    out.push_str(if scrub.under_way { ", under way\n  " } else { "\n  " });
    out.push_str(match (scrub.differences.is_empty(), scrub.entry) {
        (true, Some(_)) => "all boards that reported hold the same rows\n",
        (true, None) => "no board has reported\n",
        (false, _) => "boards differ\n",
    });
    for difference in &scrub.differences {
        let _ = writeln!(out, "  {}", difference_words(difference));
    }
    if let Some(source) = &scrub.source {
        let _ = writeln!(out, "  somebody has decided that {source} is right");
    }
    if !scrub.differences.is_empty() && !scrub.decided {
        let _ = writeln!(out, "  no majority agrees, so nobody is fenced: {DECIDE}");
    }
    for (board, why) in &scrub.unfinished {
        let _ = writeln!(out, "  not finished on {board}: {why}");
    }
    if !scrub.silent.is_empty() {
        let _ = writeln!(out, "  no report from {}", scrub.silent.join(", "));
    }
    if !scrub.fenced.is_empty() {
        let _ = writeln!(out, "  fenced: {}", scrub.fenced.join(", "));
    }
    out
}

const DECIDE: &str = "look at the rows on each board and decide with `understudy repair --from \
                      BOARD`";

/// Which table, which rows, which boards.
fn difference_words(difference: &DifferenceStatus) -> String {
    let mut words = match (difference.table.as_str(), difference.rows.as_str()) {
        ("sqlite_schema", _) => String::from("the schema"),
        ("*", _) => format!("one of the tables beyond the first {SCRUB_TABLES_MAX}"),
        (table, "") => format!("table {table}"),
        (table, rows) => format!("table {table}, {rows}"),
    };
    if difference.sides.len() > 1 {
        let sides: Vec<_> = difference.sides.iter().map(|side| side.join(" and ")).collect();
        let _ = write!(words, ": {}", sides.join(" against "));
    }
    for (board, why) in &difference.problems {
        let _ = write!(words, ": damaged on {board} ({why})");
    }
    words
}

fn where_they_differ(status: &Status) -> String {
    let differences = status.scrub.iter().flat_map(|scrub| &scrub.differences);
    let words: Vec<_> = differences.take(3).map(difference_words).collect();
    if words.is_empty() { String::new() } else { format!(" ({})", words.join("; ")) }
}

/// The first sentence of a fenced board's status.
pub(super) fn fenced(status: &Status) -> String {
    format!(
        "This board is fenced: its rows contradict those of the other boards{}. It answers no \
         reads and starts no writes; what is written here goes through the board that leads. The \
         data is safe on the others: within minutes this board takes the right rows from the one \
         that leads, by itself, and the comparison after that lifts the fence.",
        where_they_differ(status)
    )
}

/// The first sentence where this board is right and another is fenced.
pub(super) fn others_fenced(status: &Status, leader: &str) -> Option<String> {
    let fenced = &status.scrub.as_ref()?.fenced;
    (!fenced.is_empty()).then(|| {
        format!(
            "Reading and writing work, led by {leader}, but {} fenced: what it holds contradicts \
             the other boards{}. `understudy status` there says what to do.",
            match fenced.as_slice() {
                [one] => format!("{one} is"),
                several => format!("{} are", several.join(", ")),
            },
            where_they_differ(status)
        )
    })
}

/// The first sentence where boards differ and nobody is known to be right.
pub(super) fn undecided(status: &Status) -> Option<String> {
    let scrub = status.scrub.as_ref()?;
    let differs = !scrub.differences.is_empty() && !scrub.decided && !scrub.under_way;
    differs.then(|| {
        format!(
            "Boards hold different rows{}, and no majority agrees: {DECIDE}.",
            where_they_differ(status)
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scrub(sides: &[&[&str]], decided: bool) -> ScrubStatus {
        let names = |side: &&[&str]| side.iter().map(|name| (*name).to_owned()).collect();
        ScrubStatus {
            id: 3,
            time: CLOCK_SET.unsigned_abs(),
            entry: Some(17),
            decided,
            differences: vec![DifferenceStatus {
                table: "t".into(),
                rows: "row 5".into(),
                sides: sides.iter().map(names).collect(),
                ..DifferenceStatus::default()
            }],
            ..ScrubStatus::default()
        }
    }

    #[test]
    fn a_difference_is_told_with_table_row_and_boards_and_what_to_do() {
        let decided =
            ScrubStatus { fenced: vec!["c".into()], ..scrub(&[&["a", "b"], &["c"]], true) };
        let text = told(&decided);
        assert!(text.contains("table t, row 5: a and b against c\n  fenced: c"), "{text}");
        assert!(text.starts_with("scrub      number 3, 2020-01-01T00:00:00Z, as of entry 17\n  "));
        assert!(!text.contains("repair"), "{text}");
        let text = told(&scrub(&[&["a"], &["b"], &["c"]], false));
        assert!(text.contains("a against b against c"), "{text}");
        assert!(text.contains("repair --from BOARD"), "{text}");
    }

    #[test]
    fn a_fenced_board_says_so_first() {
        let scrub = Some(scrub(&[&["a", "b"], &["c"]], true));
        let status = Status { fenced: true, scrub: scrub.clone(), ..Status::default() };
        let first = fenced(&status);
        assert!(first.starts_with("This board is fenced: ") && first.contains("table t, row 5"));
        assert_eq!(undecided(&Status { scrub: scrub.clone(), ..Status::default() }), None);
        assert_eq!(others_fenced(&status, "a"), None, "nobody is fenced by this one");
        let scrub = scrub.map(|scrub| ScrubStatus { fenced: vec!["c".into()], ..scrub });
        let words = others_fenced(&Status { scrub, ..Status::default() }, "a").unwrap();
        assert!(words.contains("led by a, but c is fenced") && words.contains("row 5"), "{words}");
    }
}
