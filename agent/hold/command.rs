//! One run of the command, from its start until nothing of it is left.

use std::{
    fs::{self, File},
    io::Write as _,
    os::unix::{
        fs::{OpenOptionsExt as _, fchown},
        process::CommandExt as _,
    },
    path::PathBuf,
    process::Stdio,
};

use rustix::process::{Pid, Signal, kill_process_group};
use understudy_core::event::Millis;

use super::{
    family, pid_of,
    task::{Task, through_exec},
    user::{Account, account},
};
use crate::driver::clock;

/// What runs under one grant.
pub(super) struct Running {
    pid: Pid,
    /// When it began.
    pub(super) since: Millis,
    _notes: [Note; 2],
}

impl Running {
    /// Starts it, in a process group of its own, told which grant it runs under and what
    /// was left for it.
    pub(super) fn start(task: &Task, token: u64, left: &[u8]) -> Result<Self, String> {
        let owner = task.user.as_deref().map(account).transpose()?;
        let said = Note::new("token", format!("{token}\n").as_bytes(), owner.as_ref())?;
        let checkpoint = Note::new("checkpoint", left, owner.as_ref())?;
        let child = through_exec(task.user.as_deref(), &task.command, false)
            .env("UNDERSTUDY_DUTY", &task.name)
            .env("UNDERSTUDY_TOKEN", token.to_string())
            .env("UNDERSTUDY_TOKEN_FILE", &said.0)
            .env("UNDERSTUDY_FENCE", format!("{}:{token}", task.name))
            .env("UNDERSTUDY_CHECKPOINT_FILE", &checkpoint.0)
            .stdin(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(|error| format!("the command cannot be started: {error}"))?;
        let pid = pid_of(child.id()).ok_or_else(|| String::from("it has no process id"))?;
        Ok(Self { pid, since: clock::now(), _notes: [said, checkpoint] })
    }

    /// Asks it to end.
    pub(super) fn terminate(&self) {
        // It may have ended by itself.
        let _ = kill_process_group(self.pid, Signal::TERM);
    }

    /// Has the command itself ended? What it began may go on.
    pub(super) fn has_ended(&self) -> bool {
        loop {
            match family::bury() {
                (Some((pid, _)), _) if pid == self.pid => return true,
                (Some(_), _) => {}
                (None, is_any) => return !is_any,
            }
        }
    }
}

/// A file that tells the command something, for as long as it runs.
struct Note(PathBuf);

impl Note {
    /// Anybody may have put anything in the folder for such files: it is made anew, under
    /// a name that nobody foresees. It is for its owner alone, if not this process's user.
    fn new(what: &str, bytes: &[u8], owner: Option<&Account>) -> Result<Self, String> {
        let path = std::env::temp_dir().join(format!(
            "understudy-{what}-{}-{:x}",
            std::process::id(),
            clock::nanoseconds()
        ));
        let at = |error: std::io::Error| format!("{}: {error}", path.display());
        let mut file =
            File::options().write(true).create_new(true).mode(0o600).open(&path).map_err(at)?;
        let note = Self(path.clone());
        if let Some(owner) = owner {
            fchown(&file, Some(owner.uid), Some(owner.gid)).map_err(at)?;
        }
        file.write_all(bytes).map_err(at)?;
        Ok(note)
    }
}

impl Drop for Note {
    fn drop(&mut self) {
        // Somebody may have tidied up.
        let _ = fs::remove_file(&self.0);
    }
}
