//! `understudy restore`: a file takes the place of everything users keep in the
//! group, after a question.

use std::{
    fs::File,
    io::{self, Read},
    path::PathBuf,
};

use super::{asked_status, exchange};
use crate::{config::Places, terminal};

/// What is wished for.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// A SQLite file or SQL text, gzip or not; `-` is standard input.
    file: PathBuf,
    /// Without a question.
    #[arg(long)]
    yes: bool,
}

/// Replaces the content of the group.
pub(super) fn run(places: &Places, arguments: &Arguments) -> Result<(), String> {
    let Arguments { file, yes } = arguments;
    let mut source: Box<dyn Read> = match file.as_os_str() == "-" {
        true if !yes => {
            return Err(String::from("from standard input a restore needs --yes"));
        }
        true => Box::new(io::stdin().lock()),
        false => {
            let at = |error: io::Error| format!("{}: {error}", file.display());
            let opened = File::open(file).map_err(at)?;
            if opened.metadata().map_err(at)?.is_dir() {
                return Err(format!("{} is a folder", file.display()));
            }
            Box::new(opened)
        }
    };
    if !yes {
        ask(places, arguments)?;
    }
    let refused = |words: String| format!("nothing was restored: {words}");
    let answer = exchange::post(&places.control, "/db/load?replace", &mut source);
    let mut answer = answer.and_then(exchange::Answer::body).map_err(refused)?;
    let mut words = String::new();
    answer
        .read_to_string(&mut words)
        .map_err(|error| format!("{error}; it is not known whether everything was restored"))?;
    terminal::line("Restored, on all boards.")
}

fn ask(places: &Places, arguments: &Arguments) -> Result<(), String> {
    let group = asked_status(places)?.group;
    let warning = format!(
        "{} takes the place of everything in the database of the group \"{group}\", on all its \
         boards. What is there now is lost.\n",
        arguments.file.display()
    );
    if terminal::confirmed(&warning)? { Ok(()) } else { Err(String::from("nothing was changed")) }
}
