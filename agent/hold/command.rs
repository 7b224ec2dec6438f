//! One run of the command, from its start until nothing of it is left.

use std::{
    fs,
    os::unix::process::CommandExt as _,
    process::{Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process_group};
use understudy_core::event::Millis;

use super::{Arguments, family};
use crate::driver::clock;

/// What runs under one grant.
pub(super) struct Running {
    pid: Pid,
    /// When it began.
    pub(super) since: Millis,
}

impl Running {
    /// Starts it, in a process group of its own, told which grant it runs under.
    pub(super) fn start(arguments: &Arguments, token: u64) -> Result<Self, String> {
        let folder = std::env::temp_dir();
        let file = folder.join(format!("understudy-token-{}", std::process::id()));
        fs::write(&file, token.to_string())
            .map_err(|error| format!("{}: {error}", file.display()))?;
        let child = Command::new("/proc/self/exe")
            .arg("hold-exec")
            .arg("--")
            .args(&arguments.command)
            .env("UNDERSTUDY_DUTY", &arguments.duty)
            .env("UNDERSTUDY_TOKEN", token.to_string())
            .env("UNDERSTUDY_TOKEN_FILE", &file)
            .stdin(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(|error| format!("the command cannot be started: {error}"))?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| String::from("it has no process id"))?;
        Ok(Self { pid, since: clock::now() })
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

/// The file with the token goes with the last run.
pub(super) fn tidy_up() {
    let name = format!("understudy-token-{}", std::process::id());
    // There may be none.
    let _ = fs::remove_file(std::env::temp_dir().join(name));
}
