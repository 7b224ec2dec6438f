//! `understudy checkpoint`: what the holder of a duty leaves to the next.

use std::io::{self, Read as _, Write as _};

use understudy_core::{fence::Fence, limits::CHECKPOINT_BYTES_MAX};

use super::sql;
use crate::{config::Places, duties};

/// Where `understudy hold` says which token its command runs under.
const TOKEN: &str = "UNDERSTUDY_TOKEN";

/// `understudy checkpoint`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The duty's name.
    duty: String,
    /// Under which token it is left; that of UNDERSTUDY_TOKEN when absent. Under an older
    /// one than the duty has it is refused.
    #[arg(long, conflicts_with = "print")]
    token: Option<u64>,
    /// Print what was left last, instead of leaving what standard input says.
    #[arg(long)]
    print: bool,
}

/// Leaves what standard input says, or prints what was left.
pub(super) fn run(places: &Places, arguments: Arguments) -> Result<(), String> {
    let Arguments { duty, token, print } = arguments;
    if print {
        let request = duties::left(&duty);
        let done = sql::done(places, request, true)?;
        let left = duties::what_was_left(done)?;
        let left =
            left.ok_or_else(|| format!("nothing was left for {duty}, or there is no such duty"))?;
        return io::stdout().write_all(&left).map_err(|error| error.to_string());
    }
    let token = token.map_or_else(token_of_environment, Ok)?;
    let mut data = Vec::new();
    let read = io::stdin().take(CHECKPOINT_BYTES_MAX as u64 + 1).read_to_end(&mut data);
    read.map_err(|error| format!("standard input: {error}"))?;
    let request = duties::leave(Fence { duty, token }, data)?;
    sql::done(places, request, false).map(drop)
}

fn token_of_environment() -> Result<u64, String> {
    let token = std::env::var(TOKEN).map_err(|_| {
        format!("a checkpoint is left by the command that holds the duty: {TOKEN} is not set, and no --token given")
    })?;
    token.parse().map_err(|_| format!("{TOKEN} is no token: {token}"))
}
