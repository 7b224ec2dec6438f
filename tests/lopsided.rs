//! Two networks of this machine's own with a link between them that lets large datagrams
//! through in one direction alone: from near to far, as small ones go both ways. The near
//! end of the link takes less than the far one sends, and what is too long for it is lost,
//! as it is in some tunnels.

use std::fs;

use crate::namespace::Namespace;

/// See the module's description. Gone when dropped.
pub struct Lopsided {
    near: Namespace,
    /// Whoever holds the far network.
    far: String,
    _folder: tempfile::TempDir,
}

impl Lopsided {
    /// `None` where this system allows no namespaces; it says so on standard error.
    ///
    /// # Panics
    /// When it is allowed and does not come up.
    #[must_use]
    pub fn new() -> Option<Self> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("far");
        let file = path.display();
        let script = format!(
            "ip link set lo up && ip link add n0 type veth peer name n1 && \
             {{ unshare -n sh -c 'echo $$ > {file}.new && mv {file}.new {file} && exec sleep 600' \
             >/dev/null & }} && \
             while ! test -e {file}; do sleep 0.02; done && far=$(cat {file}) && \
             ip link set n1 netns $far && ip address add 10.81.0.1/24 dev n0 && \
             ip link set n0 mtu 1000 up && \
             nsenter -t $far -n sh -c 'ip link set lo up && \
             ip address add 10.81.0.2/24 dev n1 && ip link set n1 up' &&"
        );
        let near = Namespace::new(&["-n"], &script, "network namespaces")?;
        let far = fs::read_to_string(path).expect("it is there").trim().to_owned();
        Some(Self { near, far, _folder: folder })
    }

    /// What goes before a command line that is to run on the near network.
    #[must_use]
    pub fn near(&self) -> Vec<String> {
        self.near.enter("net", "net")
    }

    /// And on the far one.
    #[must_use]
    pub fn far(&self) -> Vec<String> {
        let net = format!("--net=/proc/{}/ns/net", self.far);
        let words = self.near().into_iter();
        words.map(|word| if word.starts_with("--net=") { net.clone() } else { word }).collect()
    }
}

impl Drop for Lopsided {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = std::process::Command::new("kill").arg(&self.far).status();
    }
}
