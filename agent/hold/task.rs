//! What is done on this board while it holds a duty: as `understudy hold` is told, or as
//! the board's configuration says (`[[duty]]`).

use std::{
    fs::File,
    io::{Read as _, Seek as _, Write as _},
    path::PathBuf,
    process::{Command, Stdio},
};

use rustix::fs::{MemfdFlags, memfd_create};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::user;

/// See the module's description.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Task {
    /// The duty's name.
    pub name: String,
    /// The command and its arguments.
    pub command: Vec<String>,
    /// Who runs it, if not the user that the agent runs as.
    #[serde(default)]
    pub user: Option<String>,
    /// How long the command has to end by itself when it is asked to.
    #[serde(default = "grace_ms")]
    pub grace_ms: u64,
    /// So many ends of the command in a row, each within ten seconds, and the duty is left
    /// to another board for a minute.
    #[serde(default = "failures")]
    pub failures: u32,
    /// Run when the duty has come to this board: it notifies, nothing waits for it.
    #[serde(default)]
    pub on_take: Vec<String>,
    /// Run when what was done for it has ended: likewise.
    #[serde(default)]
    pub on_lose: Vec<String>,
    /// Told of both, by a POST over plain HTTP: likewise.
    #[serde(default)]
    pub webhook: Option<String>,
}

/// Unless told otherwise.
pub(super) const GRACE_S: f64 = 5.0;
pub(super) const FAILURES: u32 = 5;

fn grace_ms() -> u64 {
    milliseconds(GRACE_S)
}

const fn failures() -> u32 {
    FAILURES
}

impl Task {
    /// One that is as it is unless told otherwise.
    #[must_use]
    pub fn new(name: String, command: Vec<String>) -> Self {
        Self {
            name,
            command,
            user: None,
            grace_ms: grace_ms(),
            failures: FAILURES,
            on_take: Vec::new(),
            on_lose: Vec::new(),
            webhook: None,
        }
    }

    /// Can its command be run now, by whoever is to? That is tried as this user, up to the
    /// moment at which it would begin.
    ///
    /// # Errors
    /// Says why it cannot.
    pub fn check(&self) -> Result<(), String> {
        check(self.user.as_deref(), &self.command)
    }

    /// Can what it notifies be run?
    ///
    /// # Errors
    /// Says which cannot, and why.
    pub fn check_hooks(&self) -> Result<(), String> {
        for (name, hook) in [("on_take", &self.on_take), ("on_lose", &self.on_lose)] {
            if !hook.is_empty() {
                check(self.user.as_deref(), hook).map_err(|reason| format!("{name}: {reason}"))?;
            }
        }
        Ok(())
    }
}

/// Can this command be run now, by this user?
///
/// # Errors
/// Says why it cannot.
pub(crate) fn check(user: Option<&str>, command: &[String]) -> Result<(), String> {
    let mut tried = through_exec(user, command, true);
    let tried = tried.stdin(Stdio::null()).output();
    let tried = tried.map_err(|error| format!("nothing can be started here: {error}"))?;
    if tried.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&tried.stderr);
    let said = said.trim();
    Err(said.strip_prefix("understudy: ").unwrap_or(said).to_owned())
}

/// What starts a command for a user, or only tries whether it could: `exec` in a process
/// of its own.
pub(crate) fn through_exec(user: Option<&str>, command: &[String], only_check: bool) -> Command {
    let mut started = Command::new("/proc/self/exe");
    started.arg("hold-exec");
    if only_check {
        started.arg("--check");
    }
    if let Some(user) = user {
        started.args(["--user", user]);
    }
    started.arg("--").args(command);
    started
}

/// What a guard is started with, and a keeper by it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Errand {
    /// Where the agent listens.
    pub(crate) control: PathBuf,
    /// The process that the guard ends with, where it does not end by itself.
    pub(crate) parent: Option<u32>,
    /// What is kept.
    pub(crate) task: Task,
}

/// Hands something to a process that is to be started, where no other user sees it, as
/// they do a command line: in a file in memory in the place of its standard input.
pub(crate) fn handed(what: &impl Serialize) -> Result<Stdio, String> {
    let no_file = |error: std::io::Error| format!("no file in memory can be made: {error}");
    let file =
        memfd_create("errand", MemfdFlags::CLOEXEC).map_err(|error| no_file(error.into()))?;
    let mut file = File::from(file);
    let text = serde_json::to_vec(what).map_err(|error| error.to_string())?;
    file.write_all(&text).and_then(|()| file.rewind()).map_err(no_file)?;
    Ok(Stdio::from(file))
}

/// What this process was handed.
pub(crate) fn taken<T: DeserializeOwned>() -> Result<T, String> {
    let mut text = Vec::new();
    let read = std::io::stdin().read_to_end(&mut text);
    read.map_err(|error| format!("standard input: {error}"))?;
    serde_json::from_slice(&text).map_err(|error| format!("standard input: {error}"))
}

/// Makes this process the user's, whose surroundings are given back.
pub(super) fn become_user(name: &str) -> Result<[(&'static str, String); 4], String> {
    let user::Account { name, home, shell, .. } = {
        let account = user::account(name)?;
        account.take_over()?;
        account
    };
    Ok([("USER", name.clone()), ("LOGNAME", name), ("HOME", home), ("SHELL", shell)])
}

/// Seconds, as people write them.
pub(super) fn milliseconds(seconds: f64) -> u64 {
    let time = std::time::Duration::try_from_secs_f64(seconds).unwrap_or_default();
    u64::try_from(time.as_millis()).unwrap_or(0)
}
