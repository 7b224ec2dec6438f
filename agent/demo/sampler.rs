//! The duty of the demonstration: whoever holds it samples this machine. Each sample is
//! written to the board as a reading under the duty's token, and leaves a mark in a file
//! that all boards' samplers share: under which token, on which board, and when by the
//! clock of this machine. So the marks tell whether two ever held the duty at a time, and
//! how long nobody did.

use std::{
    fs::{self, File},
    io::Write as _,
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use understudy_boards::Source;

use crate::{
    driver::clock,
    readings::{Draft, line},
};

/// The duty's name.
pub(super) const DUTY: &str = "sampler";

/// Between two marks, and how many of them to a reading.
const MARK: Duration = Duration::from_millis(10);
const READING_MARKS: u32 = 100;

/// `understudy demo-sampler`, which a board's configuration names.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The board it runs on.
    board: String,
    /// Where the board takes readings.
    readings: PathBuf,
    /// Where the marks go.
    marks: PathBuf,
}

/// One mark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Boot time, microseconds.
    pub at_us: u64,
    /// Of the grant.
    pub token: u64,
    /// Whose command left it.
    pub board: String,
}

/// Samples until it is ended.
///
/// # Errors
/// Says what it lacks.
pub fn run(arguments: &Arguments) -> Result<(), String> {
    let token = std::env::var("UNDERSTUDY_TOKEN").ok().and_then(|token| token.parse().ok());
    let token: u64 = token.ok_or("it is the command of a duty: UNDERSTUDY_TOKEN is not set")?;
    let at = |error: std::io::Error| format!("{}: {error}", arguments.marks.display());
    let mut marks = File::options().append(true).create(true).open(&arguments.marks).map_err(at)?;
    let sources = understudy_boards::sources(Path::new("/"));
    let load = sources.iter().find(|source| source.name.starts_with("load"));
    let readings = UnixDatagram::unbound().map_err(|error| error.to_string())?;
    loop {
        for count in 0..READING_MARKS {
            let now_us = clock::nanoseconds() / 1_000;
            let mark = format!("{now_us} {token} {}\n", arguments.board);
            marks.write_all(mark.as_bytes()).map_err(at)?;
            if count == 0 {
                let line = load.and_then(|load| sample(load, token)).unwrap_or_default();
                // The board may be about to end, and this with it.
                let _ = readings.send_to(line.as_bytes(), &arguments.readings);
            }
            thread::sleep(MARK);
        }
    }
}

/// A line of a reading that was taken under this token: at a whole millisecond, as the
/// other readings of the demonstration.
fn sample(source: &Source, token: u64) -> Option<String> {
    let (_, wall_us) = clock::boot_and_wall_us();
    let value = understudy_core::sql::Value::Real(source.read().ok()?);
    let time = Some(wall_us.div_euclid(1_000) * 1_000);
    let sensor = format!("{DUTY}/{}", source.name);
    Some(line::written(&Draft { sensor, value, time, id: None, token: Some(token) }))
}

/// All marks so far, in order of time.
#[must_use]
pub fn marks(path: &Path) -> Vec<Mark> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let mark = |line: &str| {
        let mut words = line.splitn(3, ' ');
        let (at_us, token) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        Some(Mark { at_us, token, board: words.next()?.to_owned() })
    };
    let mut marks: Vec<Mark> = text.lines().filter_map(mark).collect();
    marks.sort_by_key(|mark| mark.at_us);
    marks
}

/// How often somebody acted who had been followed by another already.
#[must_use]
pub fn two_holders(marks: &[Mark]) -> u64 {
    let mut latest = 0;
    let is_late = |mark: &&Mark| {
        latest = latest.max(mark.token);
        mark.token < latest
    };
    marks.iter().filter(is_late).count() as u64
}

/// When another than `board` first acted after that, and who.
#[must_use]
pub fn next_holder<'m>(marks: &'m [Mark], board: &str, after_us: u64) -> Option<&'m Mark> {
    marks.iter().find(|mark| mark.at_us >= after_us && mark.board != board)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(at_us: u64, token: u64, board: &str) -> Mark {
        Mark { at_us, token, board: board.to_owned() }
    }

    #[test]
    fn two_that_act_at_a_time_are_seen_and_one_after_the_other_are_not() {
        let mut marks = vec![mark(1, 5, "red"), mark(2, 5, "red"), mark(9, 7, "blue")];
        assert_eq!(two_holders(&marks), 0);
        assert_eq!(next_holder(&marks, "red", 2), Some(&marks[2]));
        assert_eq!(next_holder(&marks, "red", 10), None);
        marks.push(mark(10, 5, "red"));
        assert_eq!(two_holders(&marks), 1, "it acts on after the next has begun");
    }

    #[test]
    fn marks_are_read_in_order_of_time_and_what_is_half_written_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("marks");
        assert_eq!(marks(&path), []);
        fs::write(&path, "20 7 blue\n10 5 red\n30 7").unwrap();
        assert_eq!(marks(&path), [mark(10, 5, "red"), mark(20, 7, "blue")]);
    }
}
