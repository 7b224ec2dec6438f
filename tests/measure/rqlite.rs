//! Three nodes of rqlite on loopback, when `RQLITED` names its binary.

use std::{
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use crate::{group::TABLE, load, process::Used};

/// Tries, ten a second, for the group to stand.
const TRIES: u32 = 300;

/// See the module's description.
pub(crate) struct Rqlite {
    nodes: Vec<Child>,
    http: String,
    _folder: tempfile::TempDir,
}

impl Rqlite {
    /// Where its binary is, if it is anywhere.
    pub(crate) fn program() -> Option<PathBuf> {
        std::env::var_os("RQLITED").map(PathBuf::from)
    }

    /// # Panics
    /// When a group does not come to stand.
    pub(crate) fn start(program: &PathBuf) -> Self {
        let folder = tempfile::tempdir_in("target").expect("a temporary folder");
        let ports: Vec<String> = (0..6).map(|_| free_address()).collect();
        let nodes = (0..3).map(|node| {
            let mut command = Command::new(program);
            command.args(["-node-id", &node.to_string()]);
            command.args(["-http-addr", &ports[2 * node], "-raft-addr", &ports[2 * node + 1]]);
            if node > 0 {
                command.args(["-join", &ports[1]]);
            }
            command.arg(folder.path().join(node.to_string()));
            let quiet = command.stdout(Stdio::null()).stderr(Stdio::null());
            let child = quiet.spawn().expect("RQLITED can be started");
            thread::sleep(Duration::from_secs(2));
            child
        });
        let mut rqlite = Self { nodes: nodes.collect(), http: ports[0].clone(), _folder: folder };
        rqlite.wait();
        rqlite
    }

    fn wait(&mut self) {
        for _ in 0..TRIES {
            if load::execute(&self.http, TABLE, Duration::from_secs(5)).is_ok() {
                return;
            }
            thread::sleep(Duration::from_millis(100));
        }
        panic!("rqlite does not answer on {}", self.http);
    }

    /// Of the first node, which leads.
    pub(crate) fn http(&self) -> &str {
        &self.http
    }

    /// What all nodes together have used.
    pub(crate) fn used(&self) -> Used {
        self.pids().map(|pid| Used::by(&pid)).sum()
    }

    pub(crate) fn pids(&self) -> impl Iterator<Item = String> {
        self.nodes.iter().map(|node| node.id().to_string())
    }
}

fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    listener.local_addr().expect("it is bound").to_string()
}

impl Drop for Rqlite {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            // It may have ended by itself.
            let _ = node.kill();
            let _ = node.wait();
        }
    }
}
