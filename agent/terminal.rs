//! Text for whoever reads it. A reader that went away, as in `understudy status
//! | head -1`, is no failure: the work is done all the same. Text that is lost in
//! any other way, as on a full disk, is. Sentences are broken between words where a
//! person reads them; in a pipe or a file each stays on its line.

use std::io::{BufRead as _, ErrorKind, IsTerminal, Write};

/// The longest line that wraps nowhere.
pub const COLUMNS: usize = 79;

/// How wide the terminal is that standard output goes to; as if it were one, where it
/// is none.
#[must_use]
pub fn columns() -> usize {
    let size = rustix::termios::tcgetwinsize(std::io::stdout());
    size.ok().map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0).unwrap_or(COLUMNS)
}

/// To standard output, as it is.
///
/// # Errors
/// When it was lost, unless nobody reads any more.
pub fn print(text: &str) -> Result<(), String> {
    tell(&mut std::io::stdout().lock(), text)
}

/// To standard output, as a line.
///
/// # Errors
/// As [`print()`].
pub fn line(text: &str) -> Result<(), String> {
    print(&format!("{text}\n"))
}

/// To standard output, sentences rather than tables.
///
/// # Errors
/// As [`print()`].
pub fn prose(text: &str) -> Result<(), String> {
    let out = std::io::stdout();
    print(&if out.is_terminal() { wrapped(text) } else { text.to_owned() })
}

/// Asks whether to go on, after saying what that means.
///
/// # Errors
/// Where nobody can be asked.
pub fn confirmed(warning: &str) -> Result<bool, String> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Err(format!("{warning}Nobody can be asked here: this needs --yes"));
    }
    complain(&format!("{warning}Type yes to go on:"));
    let mut answer = String::new();
    let read = stdin.lock().read_line(&mut answer);
    read.map_err(|error| format!("standard input: {error}"))?;
    Ok(answer.trim() == "yes")
}

/// To standard error, as a line.
pub fn complain(text: &str) {
    let mut out = std::io::stderr();
    let text = format!("{text}\n");
    let text = if out.is_terminal() { wrapped(&text) } else { text };
    // Nobody is left to be told that nobody is told.
    let _ = out.write_all(text.as_bytes());
}

/// Lines that are too long are broken between words, and go on as far in as they
/// began; a word that is too long by itself, such as a token, stays whole.
fn wrapped(text: &str) -> String {
    let mut out = String::new();
    for line in text.lines() {
        let words = line.trim_start();
        let margin = &line[..line.len() - words.len()];
        out.push_str(margin);
        let mut column = margin.len();
        for (place, word) in words.split(' ').enumerate() {
            let width = word.chars().count();
            if place > 0 && column + 1 + width > COLUMNS {
                out.push('\n');
                out.push_str(margin);
                column = margin.len();
            } else if place > 0 {
                out.push(' ');
                column += 1;
            }
            out.push_str(word);
            column += width;
        }
        out.push('\n');
    }
    out
}

fn tell(out: &mut impl Write, text: &str) -> Result<(), String> {
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(format!("standard output: {error}"))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_too_long_is_broken_between_words_and_a_token_is_not() {
        let (words, token) = ("word ".repeat(15), "t".repeat(2 * COLUMNS));
        let text = format!("{words}and on\n  {words}to {token}\na  b\n");
        let expected = format!("{words}and\non\n  {words}to\n  {token}\na  b\n");
        assert_eq!(wrapped(&text), expected);
    }

    #[test]
    fn text_that_is_lost_is_a_failure_and_a_reader_that_went_away_is_none() {
        struct Full(ErrorKind);
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
                Err(self.0.into())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        assert_eq!(tell(&mut Full(ErrorKind::BrokenPipe), "text"), Ok(()));
        let lost = tell(&mut Full(ErrorKind::StorageFull), "text").unwrap_err();
        assert!(lost.starts_with("standard output: "), "{lost}");
    }
}
