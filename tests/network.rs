//! A network of this machine's own, for agents that must be on one: a namespace
//! with an interface that carries multicast, and no way out.

use std::process::Command;

use crate::namespace::Namespace;

/// See the module's description. Gone when dropped.
pub struct Network(Namespace);

impl Network {
    /// `None` where this system allows no namespaces; it says so on standard error.
    ///
    /// # Panics
    /// When it is allowed and does not come up.
    #[must_use]
    pub fn new() -> Option<Self> {
        let script = "ip link set lo up && ip link add n0 type veth peer name n1 && \
                      ip address add 10.80.0.1/24 dev n0 && ip link set n1 up && \
                      ip link set n0 up &&";
        Namespace::new(&["-n"], script, "network namespaces").map(Self)
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
        self.0.enter("net", "net")
    }
}
