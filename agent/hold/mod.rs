//! `understudy hold`, and what the board's configuration has kept: a command that runs for
//! as long as its board holds a duty.
//!
//! The process that is started is the guard. It starts the keeper, which speaks with the
//! agent and runs the command, and does nothing but see to it that all of that is gone in
//! time, whatever becomes of the keeper: killed, or standing still. Both get whatever
//! their descendants leave behind (`family`), so that no command escapes by forking. What
//! is configured has a guard for each duty, started by the agent's parent.
//!
//! Left out: that keeper and guard stand still at once.

use std::{
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode},
};

use rustix::{
    process::{Pid, Signal, getuid, set_parent_process_death_signal},
    thread::set_no_new_privs,
};

use self::{
    deadline::Deadline,
    task::{Errand, FAILURES, GRACE_S, Task},
};
use crate::{config::Places, driver::notify};

mod command;
mod deadline;
mod family;
mod guard;
pub mod guards;
pub mod herald;
mod keeper;
pub mod task;
pub mod user;
pub mod words;

/// Of which duty a command is kept, and how.
#[derive(Clone, Debug, clap::Args)]
pub struct How {
    /// The duty's name.
    pub duty: String,
    /// How long the command has to end by itself when it is asked to (SIGTERM), seconds;
    /// when the lease runs out, no longer than that leaves.
    #[arg(long, default_value_t = GRACE_S, value_name = "SECONDS")]
    pub grace: f64,
    /// So many ends of the command in a row, each within ten seconds, and the duty is left
    /// to another board for a minute.
    #[arg(long, default_value_t = FAILURES, value_name = "TIMES")]
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
}

/// Where there is no such command, and where it may not be run: as in a shell.
const NOT_FOUND: u8 = 127;
const NOT_EXECUTABLE: u8 = 126;

/// Keeps a command as the command line says.
///
/// # Errors
/// In words, for the terminal.
pub fn run(places: &Places, arguments: Arguments) -> Result<ExitCode, String> {
    let Arguments { how, command } = arguments;
    how.check()?;
    if let Err((code, reason)) = look_for(&command[0]) {
        crate::terminal::complain(&format!("understudy hold: {reason}"));
        return Ok(ExitCode::from(code));
    }
    let task = Task {
        grace_ms: task::milliseconds(how.grace),
        failures: how.failures,
        ..Task::new(how.duty, command)
    };
    let errand = Errand { control: places.control.clone(), parent: None, task };
    block_on(guard::run(&errand))
}

/// Guards what this process was handed.
///
/// # Errors
/// In words, for the log.
pub fn run_guard() -> Result<ExitCode, String> {
    block_on(guard::run(&task::taken()?))
}

/// Keeps what this process was handed, below a guard.
///
/// # Errors
/// In words, for the log.
pub fn run_keeper(deadline: &str) -> Result<ExitCode, String> {
    set_parent_process_death_signal(Some(Signal::TERM))
        .map_err(|error| format!("the guard cannot be watched: {error}"))?;
    let deadline = Deadline::open(deadline)?;
    let errand: Errand = task::taken()?;
    block_on(keeper::run(&errand, &deadline))
}

fn block_on(work: impl Future<Output = Result<ExitCode, String>>) -> Result<ExitCode, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| error.to_string())?.block_on(work)
}

/// Starts a guard for what the configuration of the agent at `control` says. It ends with
/// this process, and when it is asked to.
fn start_guard(control: &Path, task: &Task) -> Result<Child, String> {
    let parent = Some(std::process::id());
    let errand = Errand { control: control.to_owned(), parent, task: task.clone() };
    notify::keep_from(&mut Command::new("/proc/self/exe"))
        .args(["hold-guard", "--", &task.name])
        .stdin(task::handed(&errand)?)
        .process_group(0)
        .spawn()
        .map_err(|error| format!("nothing can be kept for {}: {error}", task.name))
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

/// What a command is started through, as the user who is to run it: it ends with its
/// keeper.
///
/// # Errors
/// When it cannot be run.
pub fn exec(user: Option<&str>, only_check: bool, command: &[String]) -> Result<ExitCode, String> {
    let is_root = getuid().is_root();
    let surroundings = user.map(task::become_user).transpose()?;
    if only_check {
        return look_for(&command[0]).map(|()| ExitCode::SUCCESS).map_err(|(_, reason)| reason);
    }
    // A keeper that is not root cannot end what has become root.
    if !is_root {
        set_no_new_privs(true)
            .and_then(|()| user::pass_on_no_rights_over_users())
            .map_err(|error| format!("it may become root: {error}"))?;
    }
    // Whoever becomes another user is forgotten by the keeper's death: this comes after.
    set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|error| format!("the keeper cannot be watched: {error}"))?;
    let surroundings = surroundings.into_iter().flatten();
    let error = Command::new(&command[0]).args(&command[1..]).envs(surroundings).exec();
    Err(format!("{} cannot be run: {error}", command[0]))
}

fn pid_of(id: u32) -> Option<Pid> {
    i32::try_from(id).ok().and_then(Pid::from_raw)
}
