//! Text for whoever reads it. A reader that went away, as in `understudy status
//! | head -1`, ends nothing: the work is done all the same.

use std::io::Write as _;

/// To standard output, as it is.
pub fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    // Nobody is left to be told that nobody reads.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// To standard output, as a line.
pub fn line(text: &str) {
    print(&format!("{text}\n"));
}

/// To standard error, as a line.
pub fn complain(text: &str) {
    // As above.
    let _ = std::io::stderr().write_all(format!("{text}\n").as_bytes());
}
