//! What is true of this board alone, and where it comes from: a TOML file, then
//! the command line. The only place that knows defaults.
//!
//! What holds for the whole group is no configuration of a board: it is a
//! replicated setting ([`crate::settings`]), and refused here.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
};

use serde::Deserialize;

use crate::{
    driver::{control, udp},
    settings,
};

/// The port HTTP listens on unless told otherwise.
pub const HTTP_PORT: u16 = 4001;

/// Everything the agent is told, resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunOptions {
    /// journal.db, state.db and the lock.
    pub directory: PathBuf,
    /// The control socket.
    pub control: PathBuf,
    /// Where HTTP listens.
    pub http: SocketAddr,
    /// An address beyond loopback is allowed.
    pub http_open: bool,
    /// Where datagrams come in.
    pub udp: SocketAddr,
    /// Addresses to announce instead of those of the interfaces.
    pub announce: Vec<String>,
    /// This board's name, if the host name is not to be it.
    pub name: Option<String>,
}

/// Where things are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    /// The data directory.
    pub directory: PathBuf,
    /// The control socket.
    pub control: PathBuf,
    /// The configuration.
    pub config: PathBuf,
}

impl Places {
    /// Those of a system installation, or everything under `directory`.
    #[must_use]
    pub fn new(directory: Option<&Path>, config: Option<&Path>) -> Self {
        let mut places = match directory {
            Some(directory) => Self {
                directory: directory.to_owned(),
                control: directory.join("control.sock"),
                config: directory.join("understudy.toml"),
            },
            None => Self {
                directory: PathBuf::from("/var/lib/understudy"),
                control: PathBuf::from(control::SYSTEM_SOCKET),
                config: PathBuf::from("/etc/understudy/understudy.toml"),
            },
        };
        if let Some(config) = config {
            config.clone_into(&mut places.config);
        }
        places
    }
}

/// The file, as it is written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// This board's name.
    pub name: Option<String>,
    /// How much is logged.
    pub log_level: Option<String>,
    /// `[http]`
    pub http: HttpConfig,
    /// `[udp]`
    pub udp: UdpConfig,
}

/// `[http]`
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpConfig {
    /// Where it listens.
    pub address: Option<SocketAddr>,
    /// An address beyond loopback is allowed.
    pub open: bool,
}

/// `[udp]`
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UdpConfig {
    /// Where datagrams come in.
    pub address: Option<SocketAddr>,
    /// Addresses to announce to other boards.
    pub announce: Vec<String>,
}

/// A commented configuration that says what the defaults are.
pub const SAMPLE: &str = "\
# understudy.toml: what is true of this board alone. Everything is optional.
# What holds for the whole group is set once, on any board: `understudy set`.

# What people call this board; its host name otherwise.
#name = \"pump-house\"

# How much is logged: error, warn, info, debug or trace.
#log_level = \"info\"

[http]
# Where rqlite's API is served. An address beyond loopback needs `open = true`,
# because there are no accounts yet.
#address = \"127.0.0.1:4001\"
#open = false

[udp]
# Where the boards' sealed datagrams come in: all interfaces, IPv4 and IPv6.
#address = \"[::]:4002\"
# Addresses under which other boards reach this one, when its own are not it.
#announce = [\"pump-house.example:4002\"]
";

impl Config {
    /// Reads the file; a missing one is an empty one.
    ///
    /// # Errors
    /// Names file, line and what is wrong.
    pub fn read(path: &Path) -> Result<Self, String> {
        match std::fs::read_to_string(path) {
            Ok(text) => {
                Self::parse(&text).map_err(|reason| format!("{}: {reason}", path.display()))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(format!("{}: {error}", path.display())),
        }
    }

    fn parse(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|error| {
            let line = error.span().map_or(1, |span| 1 + text[..span.start].matches('\n').count());
            let message = error.message().to_owned();
            match settings_named(&message) {
                Some(advice) => format!("line {line}: {advice}"),
                None => format!("line {line}: {message}"),
            }
        })
    }
}

/// Advice for keys that belong elsewhere.
fn settings_named(message: &str) -> Option<String> {
    let key = message.strip_prefix("unknown field `")?.split('`').next()?;
    if key.contains("key") || key.contains("token") {
        return Some(format!(
            "{key}: keys are not configured: `understudy init` makes a group, \
             `understudy join TOKEN` joins one"
        ));
    }
    settings::find(key).map(|_| {
        format!(
            "{key} is a setting of the whole group: use `understudy set {key} VALUE`, on any board"
        )
    })
}

/// What `run` was told on the command line.
#[derive(Clone, Debug, Default)]
pub struct RunFlags {
    /// `--http`
    pub http: Option<SocketAddr>,
    /// `--http-open`
    pub http_open: bool,
    /// `--udp`
    pub udp: Option<SocketAddr>,
    /// `--name`
    pub name: Option<String>,
}

impl RunOptions {
    /// The command line counts more than the file, the file more than the default.
    ///
    /// # Errors
    /// When HTTP would be open to the network without being told so.
    pub fn resolve(places: &Places, config: &Config, flags: RunFlags) -> Result<Self, String> {
        let http = flags.http.or(config.http.address);
        let http = http.unwrap_or_else(|| SocketAddr::from((Ipv4Addr::LOCALHOST, HTTP_PORT)));
        let udp = flags.udp.or(config.udp.address);
        let udp = udp.unwrap_or_else(|| SocketAddr::from((Ipv6Addr::UNSPECIFIED, udp::PORT)));
        let http_open = flags.http_open || config.http.open;
        crate::http::check_address(http, http_open)?;
        Ok(Self {
            directory: places.directory.clone(),
            control: places.control.clone(),
            http,
            http_open,
            udp,
            announce: config.udp.announce.clone(),
            name: flags.name.or_else(|| config.name.clone()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_is_valid_and_says_the_defaults() {
        assert_eq!(Config::parse(SAMPLE), Ok(Config::default()));
        let bare: String =
            SAMPLE.lines().map(|line| format!("{}\n", line.trim_start_matches('#'))).collect();
        let bare: String = bare
            .lines()
            .filter(|l| l.contains('=') && !l.contains('`') || l.starts_with('['))
            .fold(String::new(), |text, line| text + line + "\n");
        let config = Config::parse(&bare).unwrap();
        assert_eq!(config.http.address, Some(SocketAddr::from(([127, 0, 0, 1], 4001))));
    }

    #[test]
    fn a_typo_is_named_with_its_line() {
        let error = Config::parse("name = \"a\"\n[http]\nadress = \"127.0.0.1:1\"\n").unwrap_err();
        assert!(error.starts_with("line 3") && error.contains("adress"), "{error}");
    }

    #[test]
    fn settings_of_the_group_and_keys_are_refused_with_the_command_to_use() {
        let error = Config::parse("profile = \"wifi\"").unwrap_err();
        assert!(error.contains("understudy set profile"), "{error}");
        let error = Config::parse("group_key = \"abc\"").unwrap_err();
        assert!(error.contains("understudy join"), "{error}");
    }

    #[test]
    fn the_command_line_counts_more_than_the_file() {
        let places = Places::new(Some(Path::new("d")), None);
        let config = Config::parse("name = \"file\"\n[udp]\naddress = \"127.0.0.1:9\"").unwrap();
        let flags = RunFlags { name: Some("flag".into()), ..RunFlags::default() };
        let options = RunOptions::resolve(&places, &config, flags).unwrap();
        assert_eq!((options.name.as_deref(), options.udp.port()), (Some("flag"), 9));
        let open = RunFlags { http: Some(SocketAddr::from(([0; 4], 1))), ..RunFlags::default() };
        let error = RunOptions::resolve(&places, &config, open).unwrap_err();
        assert!(error.contains("--http-open"), "{error}");
    }
}
