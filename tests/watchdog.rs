//! What systemd hears of an agent: that its start gets on, that it serves, and that it is
//! alive, which it is only while its work goes on.

use std::{
    os::unix::net::UnixDatagram,
    process::{Child, Stdio},
    thread,
    time::Duration,
};

use understudy_tests::{agents::Agents, processes::signal, program, slow_disk::SlowDisk};

/// What the watchdog waits for, and a while in which it would have been fed.
const WATCHDOG_US: &str = "3000000";
const WHILE: Duration = Duration::from_secs(3);

/// A word comes within this.
const PATIENCE: Duration = Duration::from_secs(80);

const FED: &str = "WATCHDOG=1";

/// The socket at which systemd listens to its service.
struct Systemd {
    socket: UnixDatagram,
    path: String,
    _folder: tempfile::TempDir,
}

impl Systemd {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("notify").display().to_string();
        let socket = UnixDatagram::bind(&path).expect("a socket");
        Self { socket, path, _folder: folder }
    }

    fn environment(&self) -> [(&str, &str); 2] {
        [("NOTIFY_SOCKET", &self.path), ("WATCHDOG_USEC", WATCHDOG_US)]
    }

    /// The next words, if any come within that time.
    fn hear(&self, within: Duration) -> Option<String> {
        let mut bytes = [0; 1_024];
        self.socket.set_read_timeout(Some(within)).expect("a time");
        let length = self.socket.recv(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes[..length]).trim().to_owned())
    }

    /// What comes before words that begin so, and those.
    fn hear_until(&self, wanted: &str) -> (Vec<String>, String) {
        let mut before = Vec::new();
        loop {
            match self.hear(PATIENCE) {
                Some(words) if words.starts_with(wanted) => return (before, words),
                Some(words) => before.push(words),
                None => panic!("{wanted} does not come, only {before:?}"),
            }
        }
    }

    /// Nothing feeds the watchdog for a while; what came before does not count.
    fn hear_no_food(&self) {
        while self.hear(Duration::from_millis(1)).is_some() {}
        let heard = self.hear(WHILE);
        assert_eq!(heard.filter(|words| words == FED), None);
    }
}

/// Waits until the board's agent has logged that.
fn wait_for_log(agents: &Agents, board: &str, words: &str) {
    let is_there = (0..1_600).any(|_| {
        thread::sleep(Duration::from_millis(50));
        agents.log(board).contains(words)
    });
    assert!(is_there, "{words} is not in {}", agents.log(board));
}

fn write(agents: &Agents) -> Child {
    let mut command = agents.command("a");
    command.args(["execute", "CREATE TABLE t(n)"]).stdout(Stdio::null());
    command.spawn().expect("the command line starts")
}

#[test]
fn systemd_hears_of_a_start_then_that_it_serves_then_that_it_is_alive() {
    let systemd = Systemd::new();
    let mut agents = Agents::new(&program::debug());
    agents.start("a", &systemd.environment());
    let (before, ready) = systemd.hear_until("READY=1");
    assert!(ready.contains("STATUS=waiting for `understudy init`"), "{ready}");
    assert_eq!(before, ["EXTEND_TIMEOUT_USEC=1800000000"]);
    systemd.hear_until(FED);
    agents.wait("a", "to answer", |_| true);
    let _token = agents.found("a");
    let (_, ready) = systemd.hear_until("READY=1");
    assert!(ready.contains("STATUS=serving"), "{ready}");
    systemd.hear_until(FED);
    let status = agents.status("a").expect("it answers");
    let pid = status["agent_pid"].as_u64().expect("it says which");
    signal("STOP", pid);
    systemd.hear_no_food();
    signal("CONT", pid);
    systemd.hear_until(FED);
    agents.stop("a");
    systemd.hear_until("STOPPING=1");
    agents.start("a", &systemd.environment());
    let (before, ready) = systemd.hear_until("READY=1");
    assert!(ready.contains("STATUS=serving"), "a member is ready when it serves: {ready}");
    assert!(before.iter().any(|words| words.starts_with("EXTEND_TIMEOUT_USEC=")), "{before:?}");
}

#[test]
fn a_disk_that_hangs_feeds_no_watchdog_until_it_answers_again() {
    let program = program::debug();
    let Some(disk) = SlowDisk::new(&program, false) else { return };
    let systemd = Systemd::new();
    let mut agents = Agents::new(&program);
    agents.disk = Some(disk);
    agents.start("a", &systemd.environment());
    agents.wait("a", "to answer", |_| true);
    let _token = agents.found("a");
    systemd.hear_until(FED);
    let disk = |stalls| agents.disk.as_ref().expect("it was put there").stall("a", stalls);
    disk(true);
    let mut written = write(&agents);
    wait_for_log(&agents, "a", "systemd's watchdog is not fed");
    assert!(agents.log("a").contains("the disk has not answered the journal for"));
    systemd.hear_no_food();
    disk(false);
    systemd.hear_until(FED);
    wait_for_log(&agents, "a", "systemd's watchdog is fed again");
    assert!(written.wait().expect("it ends").success(), "nothing was lost by that");
}
