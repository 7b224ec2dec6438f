//! `understudy hold`: keeps a command for as long as its board holds a duty.
//!
//! The process that is started is the guard. It starts the keeper, which speaks with the
//! agent and runs the command, and does nothing but see to it that all of that is gone in
//! time, whatever becomes of the keeper: killed, or standing still. Both get whatever
//! their descendants leave behind (`family`), so that no command escapes by forking.
//!
//! Left out: that both stand still at once.

use std::{
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::signal::unix::{SignalKind, signal};
use understudy_core::event::Millis;

use self::deadline::Deadline;
use crate::{config::Places, driver::clock};

mod command;
mod deadline;
mod family;
mod keeper;
pub mod user;
pub mod words;

/// Of which duty a command is kept, and how.
#[derive(Clone, Debug, clap::Args)]
pub struct How {
    /// The duty's name.
    pub duty: String,
    /// How long the command has to end by itself when it is asked to (SIGTERM), seconds;
    /// when the lease runs out, no longer than that leaves.
    #[arg(long, default_value_t = 5.0, value_name = "SECONDS")]
    pub grace: f64,
    /// So many ends of the command in a row, each within ten seconds, and the duty is left
    /// to another board for a minute.
    #[arg(long, default_value_t = 5, value_name = "TIMES")]
    pub failures: u32,
}

impl How {
    /// Is it possible?
    ///
    /// # Errors
    /// Says what is not.
    pub fn check(&self) -> Result<(), String> {
        match (0.0..=3_600.0).contains(&self.grace) {
            true => Ok(()),
            false => Err(format!("--grace is 0 to 3600 seconds, not {}", self.grace)),
        }
    }
}

/// `understudy hold`
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    how: How,
    /// The command and its arguments, after `--`.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
    /// It is the keeper, and this is where it says until when.
    #[arg(long, hide = true)]
    deadline: Option<String>,
}

/// Where there is no such command, and where it may not be run: as in a shell.
const NOT_FOUND: u8 = 127;
const NOT_EXECUTABLE: u8 = 126;

/// The guard ends what the keeper has not so long before it must be gone.
const GUARD_MS: u64 = 30;

/// A keeper that ended is not started again sooner.
const AGAIN: Duration = Duration::from_millis(200);

/// Without anything to guard it looks around this often.
const IDLE: Duration = Duration::from_secs(60);

/// Runs the guard, or below it the keeper.
///
/// # Errors
/// In words, for the terminal.
pub fn run(places: &Places, arguments: Arguments) -> Result<ExitCode, String> {
    arguments.how.check()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    if let Some(deadline) = &arguments.deadline {
        let deadline = Deadline::open(deadline)?;
        return runtime.block_on(keeper::run(places, &arguments, &deadline));
    }
    if let Err((code, reason)) = look_for(&arguments.command[0]) {
        crate::terminal::complain(&format!("understudy hold: {reason}"));
        return Ok(ExitCode::from(code));
    }
    family::adopt()?;
    runtime.block_on(guard(&Deadline::new()?))
}

/// Is there such a command, and may it be run?
///
/// # Errors
/// Says why not, with a shell's exit code for that.
pub fn look_for(command: &str) -> Result<(), (u8, String)> {
    let places: Vec<PathBuf> = match command.contains('/') {
        true => vec![PathBuf::from(command)],
        false => {
            let path = std::env::var_os("PATH").unwrap_or_default();
            std::env::split_paths(&path).map(|folder| folder.join(command)).collect()
        }
    };
    let Some(found) = places.iter().find(|place| place.is_file()) else {
        return Err((NOT_FOUND, format!("there is no command {command} here")));
    };
    rustix::fs::access(found, rustix::fs::Access::EXEC_OK)
        .map_err(|error| (NOT_EXECUTABLE, format!("{} cannot be run: {error}", found.display())))
}

/// Starts keepers, one after the other, and ends what they leave.
async fn guard(deadline: &Deadline) -> Result<ExitCode, String> {
    let on = |kind| signal(kind).map_err(|error| error.to_string());
    let mut terminate = on(SignalKind::terminate())?;
    let mut interrupt = on(SignalKind::interrupt())?;
    let mut child = on(SignalKind::child())?;
    let mut news = on(SignalKind::user_defined1())?;
    let mut ends = false;
    let mut keeper = Some(start_keeper(deadline)?);
    loop {
        let now = clock::now();
        let left = deadline.get().map(|until| Millis(until.0.saturating_sub(GUARD_MS)).since(now));
        if left == Some(0) {
            family::kill_all();
            (keeper, _) = (None, deadline.set(None));
        }
        while let (Some((pid, _)), _) = family::bury() {
            if keeper == Some(pid) {
                family::kill_all();
                (keeper, _) = (None, deadline.set(None));
            }
        }
        match keeper {
            None if ends => return Ok(ExitCode::SUCCESS),
            None => {
                tokio::time::sleep(AGAIN).await;
                keeper = Some(start_keeper(deadline)?);
            }
            Some(_) => {}
        }
        let wake = left.filter(|left| *left > 0).map_or(IDLE, Duration::from_millis);
        tokio::select! {
            _ = terminate.recv() => (ends, _) = (true, ask_to_end(keeper)),
            _ = interrupt.recv() => (ends, _) = (true, ask_to_end(keeper)),
            _ = child.recv() => {}
            _ = news.recv() => {}
            () = tokio::time::sleep(wake) => {}
        }
    }
}

fn ask_to_end(keeper: Option<Pid>) {
    // It may have ended by itself.
    let _ = keeper.map(|keeper| kill_process(keeper, Signal::TERM));
}

fn start_keeper(deadline: &Deadline) -> Result<Pid, String> {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    // Before `--`, behind which all is the command's.
    let end = arguments.iter().position(|argument| argument == "--").unwrap_or(arguments.len());
    let (own, command) = arguments.split_at(end);
    let keeper = Command::new("/proc/self/exe")
        .args(own)
        .args(["--deadline", &deadline.path()])
        .args(command)
        .process_group(0)
        .spawn()
        .map_err(|error| format!("the keeper cannot be started: {error}"))?;
    i32::try_from(keeper.id()).ok().and_then(Pid::from_raw).ok_or_else(|| String::from("no pid"))
}

/// What a command is started through: it ends with its keeper.
///
/// # Errors
/// When it cannot be run.
pub fn exec(command: &[String]) -> Result<ExitCode, String> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|error| format!("the keeper cannot be watched: {error}"))?;
    let error = Command::new(Path::new(&command[0])).args(&command[1..]).exec();
    Err(format!("{} cannot be run: {error}", command[0]))
}
