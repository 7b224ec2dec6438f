//! Three agents as real processes of this very program, in a folder that goes
//! away with the demonstration.

use std::{
    fs,
    net::SocketAddr,
    os::unix::{fs::DirBuilderExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use understudy_core::sql::SqlRequest;

use super::{
    post::Post,
    sampler::{self, DUTY, Mark},
};
use crate::{
    control::{ControlRequest, ControlResponse},
    directory,
    driver::{clock, control},
    readings::{datagram, stream},
    status::Status,
};

/// What the boards are called.
pub(super) const NAMES: [&str; 3] = ["green", "red", "blue"];

/// What the duty's commands did.
const MARKS: &str = "marks";

/// All of them end within this when they are asked to, milliseconds, or are ended.
const END_MS_MAX: u64 = 3_000;

/// A board gets ready within this, milliseconds.
pub(super) const READY_MS_MAX: u64 = 15_000;

/// One agent.
pub(super) struct Board {
    pub(super) name: &'static str,
    directory: PathBuf,
    child: Option<Child>,
    /// Its agent was.
    is_killed: bool,
}

/// All of them, and their folder.
pub(super) struct Boards {
    folder: PathBuf,
    pub(super) all: Vec<Board>,
    /// Through which they reach each other, if not by UDP.
    post: Option<Post>,
}

impl Boards {
    /// Starts three agents and makes them one group: by UDP, or by MQTT through a broker that
    /// may be named.
    pub(super) fn start(by_mqtt: Option<Option<String>>) -> Result<Self, String> {
        let folder = std::env::temp_dir().join(format!("understudy-demo-{}", std::process::id()));
        // It will hold a group's key, in a folder that everybody may write to.
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&folder)
            .map_err(|error| format!("{}: {error}", folder.display()))?;
        let board = |name: &'static str| Board {
            name,
            directory: folder.join(name),
            child: None,
            is_killed: false,
        };
        let all = NAMES.into_iter().map(board).collect();
        let mut boards = Self { all, folder, post: None };
        boards.post = by_mqtt.map(|named| Post::open(&boards.folder, named)).transpose()?;
        let roads = boards.post.as_ref().map_or_else(String::new, Post::configuration);
        for board in &mut boards.all {
            board.configure(&roads, &boards.folder.join(MARKS))?;
            board.run()?;
        }
        let init = ControlRequest::Init { group: "demo".into(), name: None };
        boards.all[0].ask(&init)?;
        let token = ControlRequest::Token { lifetime_ms: 600_000, uses: 0 };
        let ControlResponse::Token(token) = boards.all[0].ask(&token)? else {
            return Err(String::from("the first board made no token"));
        };
        for board in &boards.all[1..] {
            let (token, replaces, name, witness) = (token.clone(), None, None, false);
            let join = ControlRequest::Join { token, replaces, name, witness };
            board.ask(&join)?;
        }
        boards.wait("the three boards to agree", |boards| {
            boards.all.iter().all(|board| {
                board.status().is_ok_and(|status| {
                    status.members.iter().filter(|member| member.voter).count() == NAMES.len()
                        && status.leader.is_some()
                        && status.http.is_some()
                })
            })
        })?;
        Ok(boards)
    }

    /// The broker through which they reach each other, if there is one.
    pub(super) fn broker(&self) -> Option<&str> {
        self.post.as_ref().map(Post::url)
    }

    /// Waits until `done`, or says what was waited for.
    pub(super) fn wait(
        &self,
        what: &str,
        mut done: impl FnMut(&Self) -> bool,
    ) -> Result<(), String> {
        let since = clock::now();
        while !done(self) {
            if clock::now().since(since) > READY_MS_MAX {
                return Err(format!("waited in vain for {what}"));
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Applied indices, of those that answer.
    pub(super) fn applied(&self) -> Vec<u64> {
        self.all.iter().filter_map(|board| Some(board.status().ok()?.applied_index)).collect()
    }

    /// What was done for the duty so far.
    pub(super) fn marks(&self) -> Vec<Mark> {
        sampler::marks(&self.folder.join(MARKS))
    }

    /// Place of the board that holds the duty.
    pub(super) fn holder(&self) -> Option<usize> {
        let holds = |board: &Board| {
            board.status().is_ok_and(|status| status.duties.iter().any(|duty| duty.held))
        };
        self.all.iter().position(holds)
    }

    /// Place of the board that leads.
    pub(super) fn leader(&self) -> Option<usize> {
        let leads = |board: &Board| board.status().is_ok_and(|status| status.role == "leader");
        self.all.iter().position(leads)
    }
}

impl Drop for Boards {
    fn drop(&mut self) {
        for board in &self.all {
            board.signal(Signal::TERM);
        }
        let since = clock::now();
        let are_there = |all: &mut Vec<Board>| all.iter_mut().any(|board| !board.has_ended());
        while are_there(&mut self.all) && clock::now().since(since) < END_MS_MAX {
            thread::sleep(Duration::from_millis(20));
        }
        for board in &mut self.all {
            board.kill();
        }
        // What cannot be removed is left in the system's folder for such things.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Board {
    /// Says how it reaches the others, and what it does while it holds the duty.
    fn configure(&self, roads: &str, marks: &Path) -> Result<(), String> {
        let program = std::env::current_exe().map_err(|error| error.to_string())?;
        let readings = self.directory.join(datagram::NAME);
        let words = [&program, Path::new("demo-sampler"), Path::new(self.name), &readings, marks];
        let command: Vec<String> = words.iter().map(|word| word.display().to_string()).collect();
        let text =
            format!("{roads}[[duty]]\nname = \"{DUTY}\"\ncommand = {command:?}\ngrace_ms = 200\n");
        let path = self.directory.join("understudy.toml");
        let at = |error: std::io::Error| format!("{}: {error}", path.display());
        fs::DirBuilder::new().mode(0o700).create(&self.directory).map_err(at)?;
        fs::write(&path, text).map_err(at)
    }

    /// Starts the agent; it dies with this process.
    pub(super) fn run(&mut self) -> Result<(), String> {
        self.kill();
        let program = std::env::current_exe().map_err(|error| error.to_string())?;
        let loopback = "127.0.0.1:0";
        let child = Command::new(program)
            .args(["--log-level", "error", "--dir"])
            .arg(&self.directory)
            .args(["run", "--die-with-parent", "--http", loopback, "--udp", loopback])
            .args(["--name", self.name])
            // What the duty's command is told in files goes away with the folder.
            .env("TMPDIR", self.directory.parent().unwrap_or(&self.directory))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C is for the demonstration, which then ends its boards.
            .process_group(0)
            .spawn()
            .map_err(|error| format!("{} cannot be started: {error}", self.name))?;
        self.child = Some(child);
        let since = clock::now();
        while self.status().is_err() {
            if clock::now().since(since) > READY_MS_MAX {
                return Err(format!("{} does not answer", self.name));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Kills the agent itself; what is around it ends after that.
    pub(super) fn kill_agent(&mut self) {
        let pid = self.status().ok().map(|status| status.agent_pid);
        let pid = pid.and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        // It may have ended by itself.
        let _ = pid.map(|pid| kill_process(pid, Signal::KILL));
        self.is_killed = true;
    }

    fn signal(&self, signal: Signal) {
        let pid = self.child.as_ref().and_then(|child| i32::try_from(child.id()).ok());
        // It may have ended by itself.
        let _ = pid.and_then(Pid::from_raw).map(|pid| kill_process(pid, signal));
    }

    fn has_ended(&mut self) -> bool {
        self.child.as_mut().is_none_or(|child| !matches!(child.try_wait(), Ok(None)))
    }

    /// Ends the agent as a power cut would: without a word.
    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
            // The agent ends with the process above it, a moment later.
            let _ = directory::take(&self.directory);
        }
        self.is_killed = false;
    }

    pub(super) const fn is_running(&self) -> bool {
        self.child.is_some() && !self.is_killed
    }

    fn socket(&self) -> PathBuf {
        self.directory.join("control.sock")
    }

    /// Where its sensors write to.
    pub(super) fn readings(&self) -> PathBuf {
        self.directory.join(stream::NAME)
    }

    /// Runs SQL as the agent's own.
    pub(super) fn sql(&self, request: SqlRequest) -> Result<(), String> {
        self.ask(&ControlRequest::Sql { request, read: false }).map(drop)
    }

    fn ask(&self, request: &ControlRequest) -> Result<ControlResponse, String> {
        ask(&self.socket(), request)
    }

    pub(super) fn status(&self) -> Result<Status, String> {
        match self.ask(&ControlRequest::Status)? {
            ControlResponse::Status(status) => Ok(*status),
            ControlResponse::Refused(reason) => Err(reason),
            ControlResponse::Token(_)
            | ControlResponse::Joined { .. }
            | ControlResponse::Sql(_)
            | ControlResponse::Done
            | ControlResponse::Scrub(_)
            | ControlResponse::Probed(_)
            | ControlResponse::Clock(_) => Err(String::from("not a status")),
        }
    }

    /// Where its HTTP listens.
    pub(super) fn http(&self) -> Result<SocketAddr, String> {
        let http = self.status()?.http.unwrap_or_default();
        http.parse().map_err(|_| format!("{} serves no HTTP", self.name))
    }
}

fn ask(socket: &Path, request: &ControlRequest) -> Result<ControlResponse, String> {
    match control::ask(socket, request)? {
        ControlResponse::Refused(reason) => Err(reason),
        response @ (ControlResponse::Status(_)
        | ControlResponse::Token(_)
        | ControlResponse::Joined { .. }
        | ControlResponse::Sql(_)
        | ControlResponse::Done
        | ControlResponse::Scrub(_)
        | ControlResponse::Probed(_)
        | ControlResponse::Clock(_)) => Ok(response),
    }
}
