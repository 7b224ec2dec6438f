//! A namespace of the kernel's that tests run agents in, held by a process that does
//! nothing else.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
};

/// It ends by itself after so many seconds, whatever becomes of the tests.
const SECONDS_MAX: u32 = 600;

/// See the module's description. Gone when dropped.
pub struct Namespace {
    holder: Child,
}

impl Namespace {
    /// As `unshare` makes it of these arguments, with this script run in it. `None`
    /// where this system does not allow it; it says on standard error that `what` is
    /// not tested.
    ///
    /// # Panics
    /// When it is allowed and does not come up.
    pub fn new(arguments: &[&str], script: &str, what: &str) -> Option<Self> {
        let unshare = || {
            let mut command = Command::new("unshare");
            command.arg("-r").args(arguments);
            command
        };
        let allowed = unshare().arg("true").stderr(Stdio::null()).status();
        if !allowed.is_ok_and(|status| status.success()) {
            eprintln!("no {what} are allowed here: this is not tested");
            return None;
        }
        let script = format!("{script} echo up && exec sleep {SECONDS_MAX}");
        let mut holder = unshare()
            .args(["sh", "-c", &script])
            .stdout(Stdio::piped())
            .spawn()
            .expect("it has just been started");
        let mut line = String::new();
        let out = holder.stdout.take().expect("it is piped");
        BufReader::new(out).read_line(&mut line).expect("it can be read");
        assert_eq!(line.trim(), "up", "unshare {arguments:?} does not come up");
        Some(Self { holder })
    }

    /// What goes before a command line that is to run in it: `kind` is the file of the
    /// namespace under `/proc/PID/ns`, `option` what `nsenter` calls it.
    pub fn enter(&self, option: &str, kind: &str) -> Vec<String> {
        let id = self.holder.id();
        let file = format!("--{option}=/proc/{id}/ns/{kind}");
        let id = id.to_string();
        ["nsenter", "-U", &file, "--preserve-credentials", "-t", &id, "--"]
            .map(str::to_owned)
            .to_vec()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
