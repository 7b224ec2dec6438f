//! Certificates for tests, made by openssl: somebody who vouches, and brokers vouched for.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

const KEY: [&str; 5] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];

/// Somebody who vouches. Files are gone when dropped.
pub struct Certificates(tempfile::TempDir);

impl Certificates {
    /// `None` where openssl is not installed, which is said.
    ///
    /// # Panics
    /// When it makes none.
    #[must_use]
    pub fn new() -> Option<Self> {
        let version = Command::new("openssl").arg("version").stdout(Stdio::null()).status();
        if !version.is_ok_and(|status| status.success()) {
            eprintln!("skipped: openssl is not installed (apt-get install openssl)");
            return None;
        }
        let new = Self(tempfile::tempdir().expect("a temporary folder"));
        let mut words = vec!["req", "-x509", "-keyout", "ca.key", "-out", "ca.pem"];
        words.extend(["-subj", "/CN=somebody who vouches", "-days", "7"]);
        words.extend(["-addext", "subjectAltName=IP:127.0.0.1"]);
        new.openssl(&[&words[..], &KEY].concat());
        Some(new)
    }

    /// Who vouches.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.0.path().join("ca.pem")
    }

    /// What mosquitto is to be told to be a broker of these names for so many more days.
    ///
    /// # Panics
    /// When openssl refuses.
    #[must_use]
    pub fn broker(&self, names: &str, days: &str) -> String {
        let names = format!("subjectAltName={names}");
        let words = ["req", "-keyout", "key.pem", "-out", "request.pem", "-subj", "/CN=broker"];
        self.openssl(&[&words[..], &["-addext", &names], &KEY].concat());
        let words = ["x509", "-req", "-in", "request.pem", "-out", "broker.pem", "-days", days];
        let vouched = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"];
        self.openssl(&[&words[..], &vouched, &["-copy_extensions", "copy"]].concat());
        let file = |name: &str| self.0.path().join(name).display().to_string();
        let [ca, own, key] = ["ca.pem", "broker.pem", "key.pem"].map(file);
        format!("cafile {ca}\ncertfile {own}\nkeyfile {key}\n")
    }

    /// What mosquitto is to be told to use the certificate of who vouches as its own.
    #[must_use]
    pub fn own(&self) -> String {
        let [ca, key] = ["ca.pem", "ca.key"].map(|name| self.0.path().join(name));
        format!("certfile {}\nkeyfile {}\n", ca.display(), key.display())
    }

    /// What mosquitto is to be told to know this account alone.
    ///
    /// # Panics
    /// When there is no `mosquitto_passwd`, which comes with mosquitto.
    #[must_use]
    pub fn account(&self, user: &str, password: &str) -> String {
        let file = self.0.path().join("accounts");
        let mut command = Command::new("mosquitto_passwd");
        command.args(["-b", "-c"]).arg(&file).args([user, password]);
        done(&mut command, self.0.path());
        format!("password_file {}\n", file.display())
    }

    fn openssl(&self, words: &[&str]) {
        done(Command::new("openssl").args(words), self.0.path());
    }
}

fn done(command: &mut Command, folder: &Path) {
    let output = command.current_dir(folder).output().expect("it is there");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
