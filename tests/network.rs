//! A network of this machine's own, for agents that must be on one: a namespace
//! with an interface that carries multicast, and no way out.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
};

/// It ends by itself after so many seconds, whatever becomes of the tests.
const SECONDS_MAX: u32 = 600;

/// See the module's description. Gone when dropped.
pub struct Network {
    holder: Child,
}

impl Network {
    /// `None` where this system allows no namespaces; it says so on standard error.
    ///
    /// # Panics
    /// When it is allowed and does not come up.
    #[must_use]
    pub fn new() -> Option<Self> {
        let allowed = Command::new("unshare").args(["-r", "-n", "true"]).status();
        if !allowed.is_ok_and(|status| status.success()) {
            eprintln!("no network namespaces are allowed here: this is not tested");
            return None;
        }
        let script = format!(
            "ip link set lo up && ip link add n0 type veth peer name n1 && \
             ip address add 10.80.0.1/24 dev n0 && ip link set n1 up && ip link set n0 up && \
             echo up && exec sleep {SECONDS_MAX}"
        );
        let mut holder = Command::new("unshare")
            .args(["-r", "-n", "sh", "-c", &script])
            .stdout(Stdio::piped())
            .spawn()
            .expect("it has just been started");
        let mut line = String::new();
        let out = holder.stdout.take().expect("it is piped");
        BufReader::new(out).read_line(&mut line).expect("it can be read");
        assert_eq!(line.trim(), "up", "the network does not come up");
        Some(Self { holder })
    }

    /// Changes it, as `ip` does.
    ///
    /// # Panics
    /// When `ip` refuses.
    pub fn ip(&self, arguments: &[&str]) {
        let words = self.enter();
        let status = Command::new(&words[0]).args(&words[1..]).arg("ip").args(arguments).status();
        assert!(status.expect("it was there before").success(), "ip {arguments:?}");
    }

    /// What goes before a command line that is to run on this network.
    #[must_use]
    pub fn enter(&self) -> Vec<String> {
        let id = self.holder.id().to_string();
        ["nsenter", "-U", "-n", "--preserve-credentials", "-t", &id, "--"]
            .map(str::to_owned)
            .to_vec()
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
