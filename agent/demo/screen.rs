//! The live picture, for 80 columns and 24 lines. Where there is no terminal it
//! stays dark, and what happens is told in lines.

use std::io::{self, IsTerminal as _, Write as _};

use understudy_core::event::Millis;

use super::{boards::Board, writers::Glance};
use crate::terminal::{self, COLUMNS};

/// Between two pictures.
const PICTURE_MS: u64 = 250;

/// Readings shown.
const READINGS: usize = 10;

/// The terminal, or none.
pub(super) struct Screen {
    is_lit: bool,
    drawn: Option<Millis>,
    message: String,
}

impl Screen {
    /// Lit when there is a terminal to draw on.
    pub(super) fn new(is_wanted: bool) -> Self {
        let is_lit = is_wanted && io::stdout().is_terminal();
        Self { is_lit, drawn: None, message: String::from("Three boards, one database.") }
    }

    /// Tells what happens.
    pub(super) fn say(&mut self, message: String) {
        if !self.is_lit {
            terminal::complain(&message);
        }
        self.message = message;
    }

    /// The next picture, when it is due. An error when the terminal went away.
    pub(super) fn show(
        &mut self,
        now: Millis,
        boards: &[Board],
        glance: &Glance,
    ) -> io::Result<()> {
        if !self.is_lit || self.drawn.is_some_and(|drawn| now.since(drawn) < PICTURE_MS) {
            return Ok(());
        }
        let start = if self.drawn.is_none() { "\x1b[?25l\x1b[2J" } else { "" };
        self.drawn = Some(now);
        let lines: String = picture(boards.iter().map(board_line), glance, &self.message)
            .iter()
            .map(|line| format!("{line:.COLUMNS$}\x1b[K\r\n"))
            .collect();
        let mut out = io::stdout().lock();
        write!(out, "{start}\x1b[H{lines}\x1b[J")?;
        out.flush()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if self.drawn.is_some() {
            // A terminal that is gone has its cursor elsewhere.
            let _ = terminal::print("\x1b[?25h");
        }
    }
}

fn picture(boards: impl Iterator<Item = String>, glance: &Glance, message: &str) -> Vec<String> {
    let mut lines = vec![
        String::from("understudy: three boards on this machine                     (Ctrl-C ends)"),
        String::new(),
    ];
    lines.extend(boards);
    lines.push(String::new());
    lines.push(format!(
        "{} readings acknowledged, {:.1} per s; last write {} ms ago",
        glance.acknowledged, glance.per_second, glance.since_probe_ms
    ));
    lines.push(String::new());
    let recent = glance.last.iter().rev().take(READINGS);
    lines.extend(recent.map(|reading| {
        let (board, source, value) = (reading.board, &reading.source, shown(reading.value));
        format!("  {board:<8} {source:<44.44} {value:>20}")
    }));
    lines.push(String::new());
    lines.push(message.to_owned());
    lines
}

/// Most readings of a machine are counts.
fn shown(value: f64) -> String {
    if value.fract() == 0.0 { format!("{value}") } else { format!("{value:.3}") }
}

fn board_line(board: &Board) -> String {
    if !board.is_running() {
        return format!("  {:<8} dead", board.name);
    }
    match board.status() {
        Ok(status) => {
            let role = match status.role.as_str() {
                "leader" => "leads",
                "follower" if status.leader.is_some() => "follows",
                "waiting" => "starting",
                _ => "no leader",
            };
            format!("  {:<8} {role:<10} at entry {}", board.name, status.applied_index)
        }
        Err(_) => format!("  {:<8} starting", board.name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::writers::Shown;

    #[test]
    fn a_count_has_no_decimals() {
        assert_eq!(
            (shown(88_681_563_136.0).as_str(), shown(1.96).as_str()),
            ("88681563136", "1.960")
        );
    }

    #[test]
    fn a_picture_fits_80_columns_and_24_lines_and_has_the_rate() {
        let last = (0..30).map(|number| Shown {
            board: "green",
            source: format!("{number}{}", "x".repeat(90)),
            value: 1e15,
        });
        let glance = Glance {
            acknowledged: 120,
            per_second: 12.5,
            last: last.collect(),
            since_probe_ms: 7,
            gap_ms: 0,
        };
        let boards = ["green", "red", "blue"].map(|name| format!("  {name} follows"));
        let lines = picture(boards.into_iter(), &glance, "hello");
        assert!(lines.len() < 24 && lines.iter().all(|line| line.len() <= COLUMNS), "{lines:#?}");
        assert!(lines.iter().any(|line| line.contains("12.5 per s")));
    }
}
