//! Agents as real processes on loopback, each under a directory of its own, all
//! ended when the test ends.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs::{self, File},
    io::{Read as _, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::Duration,
};

use serde_json::Value;

use crate::{ahead::Ahead, artefacts::Machine, network::Network, slow_disk::SlowDisk};

/// A port of its own on this machine.
const LOOPBACK: &str = "127.0.0.1:0";

/// Questions asked while waiting, one every 50 ms.
const TRIES: u32 = 1_600;

/// The same where it gets on.
const TRIES_OF_PAGES: u32 = 8 * TRIES;

/// Is there such a process? It may be a corpse that nobody has buried yet.
#[must_use]
pub fn is_running(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(" Z"))
}

/// Does this board vote, in the eyes of the one whose status it is?
#[must_use]
pub fn votes(status: &Value, board: &str) -> bool {
    let members = status["members"].as_array().map(Vec::as_slice).unwrap_or_default();
    members.iter().any(|member| member["name"] == board && member["voter"] == true)
}

/// A folder of boards.
pub struct Agents {
    program: PathBuf,
    /// Boards that are machines of another kind.
    machines: BTreeMap<String, Machine>,
    /// What goes before an agent's command line, and where its datagrams come in.
    enter: Vec<String>,
    address: &'static str,
    folder: tempfile::TempDir,
    running: Vec<(String, Child)>,
    /// Where each board's datagrams come in: the same after a restart, as on a
    /// board of one's own.
    udp: BTreeMap<String, String>,
    /// What their data is on, where that is slower than it is.
    pub disk: Option<SlowDisk>,
}

impl Agents {
    /// No boards yet; `program` is the agent's binary.
    ///
    /// # Panics
    /// When there is no place for temporary files.
    #[must_use]
    pub fn new(program: &Path) -> Self {
        Self::new_in(program, &std::env::temp_dir())
    }

    /// The same, on the disk that holds this folder.
    ///
    /// # Panics
    /// When nothing can be written there.
    #[must_use]
    pub fn new_in(program: &Path, folder: &Path) -> Self {
        let folder = tempfile::tempdir_in(folder).expect("a temporary folder");
        Self {
            program: program.to_owned(),
            machines: BTreeMap::new(),
            enter: Vec::new(),
            address: LOOPBACK,
            folder,
            running: Vec::new(),
            udp: BTreeMap::new(),
            disk: None,
        }
    }

    /// No boards yet, all of them on this network.
    ///
    /// # Panics
    /// As [`Agents::new`].
    #[must_use]
    pub fn on(program: &Path, network: &Network) -> Self {
        let mut agents = Self::new(program);
        agents.enter = network.enter();
        agents.address = "0.0.0.0:0";
        agents
    }

    /// The boards' next starts are at that time, or at the present one.
    pub fn at(&mut self, time: Option<&Ahead>) {
        self.enter = time.map(Ahead::enter).unwrap_or_default();
    }

    /// What runs on the board, its command lines too, is built for such a machine from now
    /// on.
    pub fn be(&mut self, board: &str, machine: Machine) {
        self.machines.insert(board.to_owned(), machine);
    }

    /// Each of these boards is such a machine and has a file of its own with the program, as
    /// on a board of one's own: what is in memory of it then counts whole.
    ///
    /// # Panics
    /// When it cannot be copied.
    pub fn be_apart(&mut self, boards: &[&str], machine: &Machine) {
        for board in boards {
            let program = self.folder.path().join(format!("{board}.program"));
            fs::copy(&machine.program, &program).expect("a copy");
            self.be(board, Machine { program, environment: machine.environment });
        }
    }

    /// The boards' next starts are on the network that these words lead to.
    pub fn go(&mut self, words: Vec<String>) {
        self.enter = words;
        self.address = "0.0.0.0:0";
    }

    /// The board's directory.
    #[must_use]
    pub fn directory(&self, board: &str) -> PathBuf {
        self.folder.path().join(board)
    }

    /// Says how the board is configured, from its next start on.
    ///
    /// # Panics
    /// When its directory cannot be written.
    pub fn configure(&self, board: &str, text: &str) {
        fs::create_dir_all(self.directory(board)).expect("a folder");
        fs::write(self.directory(board).join("understudy.toml"), text).expect("a file");
    }

    /// A command line of a board, as yet without its subcommand.
    #[must_use]
    pub fn command(&self, board: &str) -> Command {
        let mut command = Command::new(self.program(board));
        command.arg("--dir").arg(self.directory(board)).envs(self.imitation(board));
        command
    }

    fn program(&self, board: &str) -> &Path {
        self.machines.get(board).map_or(&self.program, |machine| &machine.program)
    }

    /// What has the board be imitated as it is to be.
    fn imitation(&self, board: &str) -> impl Iterator<Item = (&'static str, &'static str)> {
        self.machines.get(board).into_iter().flat_map(|machine| machine.environment).copied()
    }

    /// Where the board's agent logs, over all its starts.
    fn log_path(&self, board: &str) -> PathBuf {
        self.folder.path().join(format!("{board}.log"))
    }

    /// What the board's agent has logged.
    ///
    /// # Panics
    /// When it was never started.
    #[must_use]
    pub fn log(&self, board: &str) -> String {
        fs::read_to_string(self.log_path(board)).expect("it was started")
    }

    /// Starts a board's agent, and lets others see to it that it comes up.
    ///
    /// # Panics
    /// When there is no such program.
    pub fn start(&mut self, board: &str, environment: &[(&str, &str)]) {
        let udp = self.udp.get(board).map_or(self.address, String::as_str);
        let log = File::options().create(true).append(true).open(self.log_path(board));
        let words = self.enter.iter().map(AsRef::as_ref).chain([self.program(board).as_os_str()]);
        let words: Vec<&OsStr> = words.collect();
        let mut command = Command::new(words[0]);
        let child = command
            .args(&words[1..])
            .envs(self.imitation(board))
            .arg("--dir")
            .arg(self.directory(board))
            .args(["run", "--die-with-parent", "--name", board])
            .args(["--http", LOOPBACK, "--udp", udp])
            .envs(self.disk.iter_mut().flat_map(|disk| disk.environment(board)))
            .envs(environment.iter().copied())
            .stdout(Stdio::null())
            .stderr(log.expect("a file for its log"))
            .spawn()
            .expect("the agent starts");
        self.running.push((board.to_owned(), child));
    }

    /// Starts a board's agent and waits until it answers.
    ///
    /// # Panics
    /// When it does not.
    pub fn run(&mut self, board: &str) {
        self.start(board, &[]);
        self.wait(board, "to answer", |_| true);
        let status = self.status(board).expect("it just answered");
        let udp = status["udp"].as_str().expect("it says where").to_owned();
        self.udp.insert(board.to_owned(), udp);
    }

    /// The board's next start is on another UDP port.
    pub fn forget_port(&mut self, board: &str) {
        self.udp.remove(board);
    }

    /// The boards' next starts are on each other's UDP ports.
    ///
    /// # Panics
    /// When one of them never ran.
    pub fn swap_ports(&mut self, one: &str, other: &str) {
        let first = self.udp.remove(one).expect("it ran");
        let second = self.udp.insert(other.to_owned(), first).expect("it ran");
        self.udp.insert(one.to_owned(), second);
    }

    /// Ends a board's agent with SIGKILL.
    ///
    /// # Panics
    /// When it does not run.
    pub fn kill(&mut self, board: &str) {
        let mut child = self.take(board);
        // It may have mounts of its own.
        let lock = self.directory(board).join("lock");
        let lock = format!("/proc/{}/root{}", child.id(), lock.display());
        let agent = fs::read_to_string(lock).unwrap_or_default();
        child.kill().expect("it can be killed");
        child.wait().expect("it ends");
        // The agent ends with the process above it, a moment later.
        let is_gone = (0..TRIES).any(|_| {
            thread::sleep(Duration::from_millis(1));
            !is_running(agent.trim())
        });
        assert!(is_gone, "the agent of {board} ends with its parent");
    }

    /// Asks a board's agent to end, as systemd does, and waits for it.
    ///
    /// # Panics
    /// When it does not run.
    pub fn stop(&mut self, board: &str) {
        let mut child = self.take(board);
        let kill = Command::new("kill").arg(child.id().to_string()).status();
        assert!(kill.expect("kill runs").success(), "it can be asked");
        child.wait().expect("it ends");
    }

    /// Waits until a board's agent has ended by itself; true when it ended well.
    ///
    /// # Panics
    /// When it goes on.
    pub fn ended(&mut self, board: &str) -> bool {
        let mut child = self.take(board);
        for _ in 0..TRIES {
            if let Some(status) = child.try_wait().expect("it is ours") {
                return status.success();
            }
            thread::sleep(Duration::from_millis(50));
        }
        self.running.push((board.to_owned(), child));
        panic!("{board} goes on: {}", self.log(board));
    }

    fn take(&mut self, board: &str) -> Child {
        let place = self.running.iter().position(|(name, _)| name == board);
        self.running.remove(place.expect("it runs")).1
    }

    /// Runs a command line that must be refused; returns what it said.
    ///
    /// # Panics
    /// When it is not.
    #[must_use]
    pub fn refused(&self, board: &str, arguments: &[&str]) -> String {
        let output = self.ask(board, arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{board} {arguments:?} was not refused: {said}");
        said
    }

    /// Makes a group of this running board alone; returns its token.
    ///
    /// # Panics
    /// When it does not come to lead it.
    #[must_use]
    pub fn found(&self, board: &str) -> String {
        let made = self.told(board, &["init"]);
        self.wait(board, "to lead", |status| status["role"] == "leader");
        made.lines().last().expect("a token").to_owned()
    }

    /// Runs a command line against a board.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn ask(&self, board: &str, arguments: &[&str]) -> Output {
        self.command(board).args(arguments).output().expect("the command line starts")
    }

    /// The same, for its standard output.
    ///
    /// # Panics
    /// When the command fails: with what it said.
    #[must_use]
    pub fn told(&self, board: &str, arguments: &[&str]) -> String {
        let output = self.ask(board, arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{board} {arguments:?}: {said}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// The board's status, if it answers.
    #[must_use]
    pub fn status(&self, board: &str) -> Option<Value> {
        let output = self.ask(board, &["status", "--json"]);
        serde_json::from_slice(&output.stdout).ok()
    }

    /// Where a board serves HTTP.
    ///
    /// # Panics
    /// When it does not answer.
    #[must_use]
    pub fn http_address(&self, board: &str) -> String {
        let status = self.status(board).expect("it answers");
        status["http"].as_str().expect("it says where").to_owned()
    }

    /// The whole answer to an HTTP request, of which `head` is the first line and any
    /// other that matters.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn http(&self, board: &str, head: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(self.http_address(board)).expect("it listens");
        let length = body.len();
        let request = format!("{head}\r\nHost: x\r\nContent-Length: {length}\r\nConnection: close");
        stream.write_all(format!("{request}\r\n\r\n{body}").as_bytes()).expect("it hears");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        answer
    }

    /// Waits until the board's status is as wanted. One that takes pages is waited for while
    /// it gets on.
    ///
    /// # Panics
    /// When it never is.
    pub fn wait(&self, board: &str, what: &str, wanted: impl Fn(&Value) -> bool) {
        let (mut pulls, mut tries) = (Value::Null, 0);
        for _ in 0..TRIES_OF_PAGES {
            let status = self.status(board).unwrap_or_default();
            if !status.is_null() && wanted(&status) {
                return;
            }
            tries = if status["pulls"] == pulls { tries + 1 } else { 0 };
            if tries == TRIES {
                break;
            }
            pulls = status["pulls"].clone();
            thread::sleep(Duration::from_millis(50));
        }
        panic!("waited in vain for {board} {what}: {:?}", self.status(board));
    }

    /// Waits until this board says that it cannot hear that one.
    ///
    /// # Panics
    /// When it never does.
    pub fn wait_to_miss(&self, board: &str, gone: &str) {
        self.wait(board, "to miss another", |status| {
            let members = status["members"].as_array().expect("members");
            let is_missed = |member: &Value| {
                member["name"] == gone && member["reachable"] == false && member["unknown"] == false
            };
            members.iter().any(is_missed)
        });
    }

    /// Waits until these boards know of each other and of a leader, and so many vote.
    ///
    /// # Panics
    /// When they never do.
    pub fn wait_for_voters(&self, boards: &[&str], voters: usize) {
        for board in boards {
            self.wait(board, "to know all boards and a leader", |status| {
                let members = status["members"].as_array().cloned().unwrap_or_default();
                let voting = members.iter().filter(|member| member["voter"] == true).count();
                (members.len(), voting) == (boards.len(), voters) && status["leader"].is_string()
            });
        }
    }

    /// Makes a group of these boards, the first its founder, and waits until as many
    /// vote as will.
    ///
    /// # Panics
    /// When one cannot be started or does not join.
    pub fn form(&mut self, boards: &[&str]) {
        for board in boards {
            self.run(board);
        }
        let made = self.told(boards[0], &["init"]);
        let token = made.lines().last().expect("a token").to_owned();
        for board in &boards[1..] {
            let _ = self.told(board, &["join", &token]);
        }
        self.wait_for_voters(boards, voters_of(boards.len()));
    }
}

/// How many vote of so many boards: an odd number, except two.
const fn voters_of(boards: usize) -> usize {
    match boards {
        1 => 1,
        2 => 2,
        3 | 4 => 3,
        _ => 5,
    }
}

impl Drop for Agents {
    fn drop(&mut self) {
        for (_, child) in &mut self.running {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
