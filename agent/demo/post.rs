//! The broker of a demonstration by MQTT: one that somebody names, or mosquitto, started here
//! on a port of its own and ended with the demonstration.

use std::{
    fs,
    net::{TcpListener, TcpStream, ToSocketAddrs as _},
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use crate::config::BrokerConfig;

/// Where Debian has it, which is not in everybody's PATH.
const MOSQUITTO: [&str; 3] = ["/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto", "mosquitto"];

/// A broker answers within this.
const ANSWER: Duration = Duration::from_secs(3);

/// Between two looks at whether it does, and looks.
const LOOK: Duration = Duration::from_millis(20);
const LOOKS: u32 = 150;

/// See the module's description.
pub(super) struct Post {
    url: String,
    child: Option<Child>,
}

impl Post {
    /// What is named, or one of its own, whose files are in `folder`.
    pub(super) fn open(folder: &Path, named: Option<String>) -> Result<Self, String> {
        match named {
            Some(url) => Self::named(url),
            None => Self::start(folder),
        }
    }

    fn named(url: String) -> Result<Self, String> {
        let broker =
            BrokerConfig { url: url.clone(), user: None, password: None, ca: None, boards: true };
        let broker = broker.broker().map_err(|reason| format!("--broker: {reason}"))?;
        let place = (broker.host.as_str(), broker.port);
        let at = |reason: String| format!("the broker {url} cannot be reached: {reason}");
        let mut found = place.to_socket_addrs().map_err(|error| at(error.to_string()))?;
        let address = found.next().ok_or_else(|| at(String::from("it has no address")))?;
        TcpStream::connect_timeout(&address, ANSWER).map_err(|error| at(error.to_string()))?;
        Ok(Self { url, child: None })
    }

    fn start(folder: &Path) -> Result<Self, String> {
        let words = |error: std::io::Error| format!("mosquitto cannot be started: {error}");
        let listener = TcpListener::bind(("127.0.0.1", 0)).map_err(words)?;
        let port = listener.local_addr().map_err(words)?.port();
        drop(listener);
        let settings = folder.join("mosquitto.conf");
        let text = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\nset_tcp_nodelay true\nlog_type none\n"
        );
        fs::write(&settings, text).map_err(words)?;
        let start = |program: &&str| {
            let mut command = Command::new(program);
            command.arg("-c").arg(&settings).process_group(0);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            command.spawn().ok()
        };
        let child = MOSQUITTO.iter().find_map(start).ok_or(
            "--mqtt needs a broker: name one with --broker mqtt://HOST, or install mosquitto \
             (apt-get install mosquitto)",
        )?;
        let post = Self { url: format!("mqtt://127.0.0.1:{port}"), child: Some(child) };
        let is_there = (0..LOOKS).any(|_| {
            thread::sleep(LOOK);
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        is_there.then_some(post).ok_or_else(|| String::from("mosquitto does not come up"))
    }

    /// What a board's configuration begins with, so that all goes through it.
    pub(super) fn configuration(&self) -> String {
        format!("transport = \"mqtt\"\n[[broker]]\nurl = {:?}\n", self.url)
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for Post {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
