//! `understudy board`: what this machine is, which sensors it has and what they say now, what
//! the program may use of it, and what is odd about it. Needs no agent.

use std::{fmt::Write as _, path::Path};

use serde_json::json;
use understudy_boards::{
    Source,
    board::{self, Board},
    sources,
};

use crate::terminal;

/// # Errors
/// When what is compiled in is wrong, or nobody can be told.
pub(super) fn run(is_json: bool) -> Result<(), String> {
    let model = board::model(Path::new("/"));
    let board = board::recognised(model.as_deref(), std::env::consts::ARCH)?;
    let sources = sources(Path::new("/"));
    match is_json {
        true => terminal::line(&as_json(model.as_deref(), &board, &sources)),
        false => terminal::print(&shown(model.as_deref(), &board, &sources)),
    }
}

fn as_json(model: Option<&str>, board: &Board, sources: &[Source]) -> String {
    let value = |source: &Source| match source.read() {
        Ok(value) => json!({"source": source.name, "unit": source.unit, "value": value}),
        Err(error) => {
            json!({"source": source.name, "unit": source.unit, "trouble": error.to_string()})
        }
    };
    json!({
        "model": model,
        "board": board.key,
        "name": board.name,
        "targets": board.targets,
        "profile": board.profile,
        "binary_bytes_max": board.budget.binary_bytes_max,
        "memory_bytes_max": board.budget.memory_bytes_max,
        "sqlite_bytes_max": board.budget.sqlite_bytes_max,
        "flash_bytes_per_day_max": board.budget.flash_bytes_per_day_max,
        "journal_bytes_max": board.budget.journal_bytes_max,
        "sources": sources.iter().map(value).collect::<Vec<_>>(),
        "missing": missing(board, sources),
        "quirks": board.quirks.iter().map(|quirk| &quirk.what).collect::<Vec<_>>(),
    })
    .to_string()
}

fn missing<'b>(board: &'b Board, sources: &[Source]) -> Vec<&'b str> {
    let found: Vec<String> = sources.iter().map(|source| source.name.clone()).collect();
    board.missing(&found)
}

fn shown(model: Option<&str>, board: &Board, sources: &[Source]) -> String {
    let mut out = String::new();
    let says = model.map_or_else(String::new, |model| format!(", as it says itself: {model}"));
    let _ = writeln!(out, "This is {} ({}.toml{says}).", board.name, board.key);
    let _ =
        writeln!(out, "Timing that suits its links: {} (`understudy set profile`).", board.profile);
    let megabytes = |bytes: u64| format!("{:.1} MB", bytes as f64 / 1e6);
    let budget = &board.budget;
    let _ = writeln!(
        out,
        "It may use {} of memory, {} for the program, {} for the journal, {} of its card a day.",
        megabytes(budget.memory_bytes_max),
        megabytes(budget.binary_bytes_max),
        megabytes(budget.journal_bytes_max),
        megabytes(budget.flash_bytes_per_day_max)
    );
    out.push('\n');
    let width = sources.iter().map(|source| source.name.len()).max().unwrap_or(0);
    for source in sources {
        let said = match source.read() {
            Ok(value) => format!("{value} {}", source.unit),
            Err(error) => error.to_string(),
        };
        let _ = writeln!(out, "{:width$}  {}", source.name, said.trim_end());
    }
    for name in missing(board, sources) {
        let _ = writeln!(out, "{name:width$}  is not there, and should be");
    }
    for quirk in &board.quirks {
        let _ = write!(out, "\n{}: {} [{}]\n", quirk.what, quirk.so, quirk.source);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_names_the_board_its_sensors_and_what_it_lacks() {
        let board = board::recognised(Some("Raspberry Pi 4 Model B Rev 1.4"), "aarch64").unwrap();
        let sources: Vec<Source> =
            sources(Path::new("/")).into_iter().filter(|it| it.name == "uptime").collect();
        let text = shown(Some("Raspberry Pi 4 Model B Rev 1.4"), &board, &sources);
        for words in [
            "Raspberry Pi 4B (pi-4b.toml",
            "set profile",
            "uptime",
            " s\n",
            "hwmon/rpi_volt/*",
            "2.8 s",
        ] {
            assert!(text.contains(words), "{words}: {text}");
        }
        let json: serde_json::Value =
            serde_json::from_str(&as_json(None, &board, &sources)).unwrap();
        assert_eq!((&json["board"], &json["model"]), (&json!("pi-4b"), &json!(null)));
        assert!(json["sources"][0]["value"].is_f64(), "{json}");
        assert_eq!(json["missing"][0], "thermal/cpu-thermal");
    }
}
