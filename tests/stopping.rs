//! How processes end, and what they tell the system meanwhile: a leader that is
//! asked to stop, an agent under systemd, a demonstration that is cut short.

use std::{
    fs,
    io::Read as _,
    os::unix::{net::UnixDatagram, process::CommandExt as _},
    path::Path,
    process::{Child, Command, Output, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use understudy_tests::{
    agents::{Agents, is_running},
    processes::signal,
    program,
};

/// Looks at something that comes about soon, one every 20 ms.
const TRIES: u32 = 2_000;

fn wait(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..TRIES {
        if done() {
            return;
        }
        thread::sleep(Duration::from_millis(20));
    }
    panic!("waited in vain for {what}");
}

fn numbers(rows: &str) -> Vec<u64> {
    rows.lines().filter_map(|line| line.trim().parse().ok()).collect()
}

/// Ends the writer however the test ends.
struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

const COUNT: &str = "SELECT count(*) FROM t";

#[test]
fn a_leader_that_is_asked_to_stop_hands_over_and_loses_no_acknowledged_write() {
    let mut agents = Agents::new(&program::debug());
    agents.form(&["a", "b", "c"]);
    let _ = agents.told("a", &["execute", "CREATE TABLE t(n INTEGER)"]);
    let status = agents.status("a").expect("it answers");
    let leader = status["leader"].as_str().expect("somebody leads").to_owned();
    let status = agents.status(&leader).expect("it answers");
    let (pid, term) = (status["agent_pid"].as_u64().expect("a pid"), status["term"].as_u64());
    let others: Vec<&str> = ["a", "b", "c"].into_iter().filter(|name| *name != leader).collect();
    let write = |number: u64| {
        let insert = format!("INSERT INTO t VALUES ({number})");
        agents.ask(others[0], &["execute", &insert]).status.success()
    };
    let ended = AtomicBool::new(false);
    let acknowledged: Vec<u64> = thread::scope(|scope| {
        // Some before, some while it stops, some after.
        let writer = scope.spawn(|| {
            let goes_on =
                |number: &u64| !number.is_multiple_of(10) || !ended.load(Ordering::Relaxed);
            (1..).take_while(goes_on).filter(|number| write(*number)).collect()
        });
        let end = SetOnDrop(&ended);
        wait("the first writes", || !numbers(&agents.told("a", &["query", COUNT])).contains(&0));
        signal("TERM", pid);
        wait("the leader to end", || !is_running(&pid.to_string()));
        // It ends once it has handed over, and that raises the term; had it just
        // gone, the others would hold on to it for an election timeout.
        let terms = others.iter().filter_map(|name| agents.status(name)?["term"].as_u64());
        let handed_over = terms.max() > term;
        drop(end);
        let acknowledged = writer.join().expect("it writes");
        assert!(handed_over, "nobody was made leader before the old one ended");
        acknowledged
    });
    assert!(write(1_000_000), "writing goes on");
    agents.wait(others[0], "to follow another", |status| {
        status["leader"].as_str().is_some_and(|name| name != leader)
    });
    agents.run(&leader);
    for board in ["a", "b", "c"] {
        let rows = numbers(&agents.told(board, &["query", "SELECT n FROM t"]));
        let missing = acknowledged.iter().find(|number| !rows.contains(number));
        assert_eq!(missing, None, "on {board}");
    }
}

#[test]
fn systemd_is_told_of_start_life_and_end() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let socket = UnixDatagram::bind(folder.path().join("notify")).expect("a socket");
    socket.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
    let next = |wanted: &str| loop {
        let mut message = [0; 512];
        let length = socket.recv(&mut message).unwrap_or_else(|_| panic!("no {wanted} came"));
        let text = String::from_utf8_lossy(&message[..length]).into_owned();
        if text.lines().any(|line| line == wanted) {
            return text;
        }
    };
    let directory = folder.path().join("a");
    let agent = |arguments: &[&str]| {
        let mut command = Command::new(program::debug());
        command.arg("--dir").arg(&directory).args(arguments);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    };
    let mut child = agent(&["run", "--die-with-parent", "--name", "a"])
        .args(["--http", "127.0.0.1:0", "--udp", "127.0.0.1:0"])
        .env("NOTIFY_SOCKET", folder.path().join("notify"))
        .env("WATCHDOG_USEC", "300000")
        .env_remove("WATCHDOG_PID")
        .spawn()
        .expect("the agent starts");
    let waiting = next("READY=1");
    assert!(waiting.contains("STATUS=waiting for"), "{waiting}");
    assert!(agent(&["init"]).status().expect("it runs").success());
    let serving = next("READY=1");
    assert!(serving.contains("STATUS=serving"), "{serving}");
    let _ = (next("WATCHDOG=1"), next("WATCHDOG=1"));
    signal("TERM", child.id());
    let _ = next("STOPPING=1");
    assert!(child.wait().expect("it ends").success());
}

/// A demonstration in a process group of its own, as a shell starts it.
struct Demo {
    child: Child,
    temporary: tempfile::TempDir,
}

impl Demo {
    fn start() -> Self {
        let temporary = tempfile::tempdir().expect("a temporary folder");
        let child = Command::new(program::debug())
            .args(["demo", "--json"])
            .env("TMPDIR", temporary.path())
            .process_group(0)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the program starts");
        Self { child, temporary }
    }

    fn ask(&self, arguments: &[&str]) -> Output {
        let name = format!("understudy-demo-{}/red", self.child.id());
        let directory = self.temporary.path().join(name);
        let mut command = Command::new(program::debug());
        command.arg("--dir").arg(directory).args(arguments).output().expect("it runs")
    }

    /// Waits until a reading is surely acknowledged: a board sends the next ones
    /// only then.
    fn write_some(&self) {
        let rounds = "SELECT count(DISTINCT time) AS n FROM reading GROUP BY board ORDER BY n DESC";
        wait("readings", || {
            let rows = self.ask(&["query", rounds]).stdout;
            numbers(&String::from_utf8_lossy(&rows)).first().is_some_and(|rounds| *rounds > 1)
        });
    }

    fn agent_pid(&self) -> u64 {
        let status = self.ask(&["status", "--json"]).stdout;
        let status: serde_json::Value = serde_json::from_slice(&status).expect("a status");
        status["agent_pid"].as_u64().expect("a pid")
    }
}

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).expect("a folder").next().is_none()
}

#[test]
fn a_demonstration_cut_short_gives_its_verdict_and_leaves_nothing_behind() {
    for name in ["INT", "TERM", "HUP"] {
        let mut demo = Demo::start();
        demo.write_some();
        let agent = demo.agent_pid();
        // A terminal sends Ctrl-C to the whole group.
        signal(name, format!("-{}", demo.child.id()));
        let mut said = String::new();
        let out = demo.child.stdout.as_mut().expect("piped");
        out.read_to_string(&mut said).expect("text");
        let ended = demo.child.wait().expect("it ends");
        assert!(ended.success(), "{name}: {ended}: {said}");
        assert!(said.contains("\"lost\":0,\"doubled\":0"), "{name}: {said}");
        assert!(said.contains("\"boards\":3,\"same_rows\":3,"), "{name}: {said}");
        assert!(!said.contains("\"acknowledged\":0"), "{name}: {said}");
        assert!(!is_running(&agent.to_string()), "{name}: an agent goes on");
        assert!(is_empty(demo.temporary.path()), "{name}: something is left");
    }
}
