//! A real MQTT broker for tests, as a process of its own on a port of its own: mosquitto, or
//! one that has nothing in common with it, amqtt.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use crate::{processes::signal, program};

/// Looks at something that comes about soon, one every 50 ms.
const TRIES: u32 = 200;

/// See the module's description. Ended when dropped.
pub struct Broker {
    folder: tempfile::TempDir,
    command: Vec<String>,
    running: Option<Child>,
    /// Where it listens.
    pub port: u16,
}

impl Broker {
    /// One that runs; none where mosquitto is not installed, which is said.
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn new(settings: &str) -> Option<Self> {
        Self::at(free_port(), "127.0.0.1", settings, Vec::new()).map(Self::up)
    }

    /// One that runs and is not mosquitto; none where amqtt is not installed, which is said.
    ///
    /// # Panics
    /// As [`Broker::new`].
    #[must_use]
    pub fn amqtt() -> Option<Self> {
        let program = program::target().join("amqtt/bin/amqtt");
        if !program.exists() {
            eprintln!("skipped: amqtt is not installed at {} (tests/run)", program.display());
            return None;
        }
        let (folder, port) = (tempfile::tempdir().expect("a temporary folder"), free_port());
        let settings = folder.path().join("amqtt.yaml");
        let text = format!(
            "listeners:\n  default:\n    type: tcp\n    bind: 127.0.0.1:{port}\nplugins:\n  \
             amqtt.plugins.authentication.AnonymousAuthPlugin:\n    allow_anonymous: true\n"
        );
        fs::write(&settings, text).expect("its configuration");
        let words = [program, PathBuf::from("-c"), settings].map(|it| it.display().to_string());
        Some(Self { folder, command: words.to_vec(), running: None, port }.up())
    }

    fn up(mut self) -> Self {
        self.start();
        let is_there = (0..TRIES).any(|_| {
            thread::sleep(Duration::from_millis(50));
            TcpStream::connect(("127.0.0.1", self.port)).is_ok()
        });
        assert!(is_there, "the broker comes up: {}", self.log());
        self
    }

    /// One that is to run after these words, on that address.
    ///
    /// # Panics
    /// When nothing can be written.
    #[must_use]
    pub fn at(port: u16, address: &str, settings: &str, mut enter: Vec<String>) -> Option<Self> {
        if !["/usr/sbin/mosquitto", "/usr/bin/mosquitto"]
            .iter()
            .any(|it| fs::exists(it).is_ok_and(|is| is))
        {
            eprintln!("skipped: mosquitto is not installed (apt-get install mosquitto)");
            return None;
        }
        let folder = tempfile::tempdir().expect("a temporary folder");
        let access = match settings.contains("password_file") {
            true => "allow_anonymous false",
            false => "allow_anonymous true",
        };
        let place = folder.path().display();
        let text = format!(
            "listener {port} {address}\n{access}\nuser root\nset_tcp_nodelay true\n\
             persistence_location {place}/\nlog_dest file {place}/log\n{settings}\n"
        );
        let file = folder.path().join("mosquitto.conf");
        fs::write(&file, text).expect("its configuration");
        enter.extend(["mosquitto", "-c"].map(str::to_owned));
        enter.push(file.display().to_string());
        Some(Self { folder, command: enter, running: None, port })
    }

    /// The URL of it on this machine.
    #[must_use]
    pub fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }

    /// A file of its own.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Starts it.
    ///
    /// # Panics
    /// When that cannot be.
    pub fn start(&mut self) {
        let child = Command::new(&self.command[0])
            .args(&self.command[1..])
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        self.running = Some(child.expect("the broker starts"));
    }

    /// Its process.
    ///
    /// # Panics
    /// When it does not run.
    #[must_use]
    pub fn pid(&self) -> String {
        self.running.as_ref().expect("it runs").id().to_string()
    }

    /// It looks at its lists again.
    ///
    /// # Panics
    /// When it does not run.
    pub fn reload(&self) {
        signal("HUP", self.pid());
    }

    /// Asks it to end, and waits: what it is to keep it has then written.
    ///
    /// # Panics
    /// When it does not run.
    pub fn stop(&mut self) {
        let mut child = self.running.take().expect("it runs");
        signal("TERM", child.id());
        child.wait().expect("it ends");
    }

    /// Ends it, as kill -9 does.
    ///
    /// # Panics
    /// When it does not run.
    pub fn kill(&mut self) {
        let mut child = self.running.take().expect("it runs");
        child.kill().expect("it can be killed");
        child.wait().expect("it ends");
    }

    /// Has it write down what it knows, where it keeps that (`persistence`).
    ///
    /// # Panics
    /// When it does not run, or does not.
    pub fn save(&self) {
        let child = self.running.as_ref().expect("it runs");
        let file = self.file("mosquitto.db");
        // It may be the first time.
        let _ = fs::remove_file(&file);
        signal("USR1", child.id());
        let is_saved = (0..TRIES).any(|_| {
            thread::sleep(Duration::from_millis(50));
            file.exists()
        });
        assert!(is_saved, "it saves: {}", self.log());
    }

    /// What it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.file("log")).unwrap_or_default()
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    listener.local_addr().expect("it is bound").port()
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Some(child) = &mut self.running {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
