//! Text for whoever reads it. A reader that went away, as in `understudy status
//! | head -1`, is no failure: the work is done all the same. Text that is lost in
//! any other way, as on a full disk, is.

use std::io::{ErrorKind, Write};

/// The longest line that wraps nowhere.
pub const COLUMNS: usize = 79;

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

/// To standard error, as a line.
pub fn complain(text: &str) {
    // Nobody is left to be told that nobody is told.
    let _ = std::io::stderr().write_all(format!("{text}\n").as_bytes());
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
