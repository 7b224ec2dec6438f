//! What is true of this board alone, and where it comes from: a TOML file, then
//! the command line. The only place that knows defaults.
//!
//! What holds for the whole group is no configuration of a board: it is a
//! replicated setting ([`crate::settings`]), and refused here.

use std::{
    net::SocketAddr,
    ops::{Range, RangeInclusive},
    path::{Path, PathBuf},
};

use serde::Deserialize;
use understudy_core::{
    intake,
    limits::{ADDRESSES_MAX, NAME_BYTES_MAX, SPOOL_AFTER_MS, SPOOL_BYTES_MAX, WITNESS_LOG_BYTES},
    member::check_name,
};

use crate::{
    boot::Evidence,
    checks::Check,
    driver::{control, heard::Transport, mqtt::Broker},
    hold::task::Task,
    notices::options::{self, NotifyConfig},
    sampling::Sample,
    settings,
    store::database::Options,
};

mod bridge;
mod brokers;
mod checks;
mod duties;
mod resolved;
mod sample;
mod samples;

pub use self::{
    bridge::{PublishConfig, SubscribeConfig},
    brokers::{BrokerConfig, MqttConfig},
    resolved::{RunFlags, RunOptions},
    sample::SAMPLE,
};

/// Where things are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    /// The data directory.
    pub directory: PathBuf,
    /// The control socket.
    pub control: PathBuf,
    /// The configuration.
    pub config: PathBuf,
    /// Somebody named this very configuration: it must be there.
    pub config_is_named: bool,
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
                config_is_named: false,
            },
            None => Self {
                directory: PathBuf::from("/var/lib/understudy"),
                control: PathBuf::from(control::SYSTEM_SOCKET),
                config: PathBuf::from("/etc/understudy/understudy.toml"),
                config_is_named: false,
            },
        };
        if let Some(config) = config {
            config.clone_into(&mut places.config);
            places.config_is_named = true;
        }
        places
    }

    /// Where the sockets for readings are.
    #[must_use]
    pub fn readings(&self, config: &Config) -> PathBuf {
        let beside = self.control.parent().unwrap_or(&self.directory);
        config.readings.readings_directory.clone().unwrap_or_else(|| beside.to_owned())
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
    /// What this board can do, as duties need it.
    pub capabilities: Vec<String>,
    /// Which roads lead to the other boards.
    pub transport: Transport,
    /// `[mqtt]`
    pub mqtt: MqttConfig,
    /// `[[broker]]`
    #[serde(rename = "broker")]
    brokers: Vec<toml::Spanned<BrokerConfig>>,
    /// `[[subscribe]]`
    subscribe: Vec<toml::Spanned<SubscribeConfig>>,
    /// `[publish]`
    publish: Option<toml::Spanned<PublishConfig>>,
    /// `[http]`
    pub http: HttpConfig,
    /// `[udp]`
    pub udp: UdpConfig,
    /// `[database]`
    pub database: DatabaseConfig,
    /// `[witness]`
    pub witness: WitnessConfig,
    /// `[readings]`
    pub readings: ReadingsConfig,
    /// `[clock]`
    pub clock: ClockConfig,
    /// `[[check]]`
    #[serde(rename = "check")]
    checks: Vec<toml::Spanned<Check>>,
    /// `[[sample]]`
    #[serde(rename = "sample")]
    samples: Vec<toml::Spanned<Sample>>,
    /// `[[duty]]`
    #[serde(rename = "duty")]
    duties: Vec<toml::Spanned<Task>>,
    /// `[[notify]]`
    pub notify: Vec<NotifyConfig>,
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
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UdpConfig {
    /// Where datagrams come in.
    pub address: Option<SocketAddr>,
    /// Addresses to announce to other boards.
    pub announce: Vec<String>,
    /// Boards of the group are looked for by multicast.
    pub mdns: bool,
}

impl Default for UdpConfig {
    fn default() -> Self {
        Self { address: None, announce: Vec::new(), mdns: true }
    }
}

/// `[database]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DatabaseConfig {
    /// Applied entries go to state.db this often, seconds.
    pub commit_interval_s: u64,
    /// What state.db-wal may grow to while somebody reads for long, megabytes.
    pub wal_mb_max: u64,
}

impl Default for DatabaseConfig {
    fn default() -> Self {
        let Options { commit_interval_ms, wal_bytes_max, .. } = Options::default();
        Self { commit_interval_s: commit_interval_ms / 1_000, wal_mb_max: wal_bytes_max >> 20 }
    }
}

/// `[witness]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WitnessConfig {
    /// What its log may take while a board with the data is away, megabytes.
    pub log_mb: u64,
}

impl Default for WitnessConfig {
    fn default() -> Self {
        Self { log_mb: WITNESS_LOG_BYTES >> 20 }
    }
}

/// `[readings]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReadingsConfig {
    /// Where the sockets for readings are, if not beside the control socket.
    pub readings_directory: Option<PathBuf>,
    /// Who may write to them, as octal permissions.
    pub readings_mode: String,
    /// Readings from them wait so long for others to share a write with, milliseconds.
    pub batch_window_ms: u64,
    /// One that is not committed for so long is written to the spool, milliseconds.
    pub spool_after_ms: u64,
    /// What the spool may take, megabytes.
    pub spool_mb: u64,
    /// What becomes of readings when it is full.
    pub spool_full: SpoolFull,
}

/// What a board does whose spool is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SpoolFull {
    /// It takes no more.
    #[default]
    Refuse,
    /// It gives up every second of the oldest, and says how many.
    Thin,
}

impl Default for ReadingsConfig {
    fn default() -> Self {
        Self {
            readings_directory: None,
            readings_mode: String::from("0666"),
            batch_window_ms: 50,
            spool_after_ms: SPOOL_AFTER_MS,
            spool_mb: SPOOL_BYTES_MAX >> 20,
            spool_full: SpoolFull::Refuse,
        }
    }
}

impl ReadingsConfig {
    /// As the node takes them in.
    #[must_use]
    pub fn intake(&self) -> intake::Options {
        intake::Options {
            spool_after_ms: self.spool_after_ms,
            spool_bytes_max: self.spool_mb << 20,
            thins_out: self.spool_full == SpoolFull::Thin,
        }
    }

    /// The permissions of the sockets; none where the text is none.
    #[must_use]
    pub fn mode(&self) -> Option<u32> {
        let mode = u32::from_str_radix(&self.readings_mode, 8).ok()?;
        (mode & !0o666 == 0 && mode & 0o200 != 0).then_some(mode)
    }
}

/// `[clock]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClockConfig {
    /// What shows that the board's clock is set, besides `understudy clock confirm`.
    pub clock_set_by: Vec<Evidence>,
}

impl Default for ClockConfig {
    fn default() -> Self {
        Self { clock_set_by: vec![Evidence::Ntp, Evidence::Rtc, Evidence::Step] }
    }
}

/// A key, its value, what is possible, and its unit.
type Bounded = (&'static str, u64, RangeInclusive<u64>, &'static str);

fn check_bounds(all: &[Bounded]) -> Result<(), (&'static str, String)> {
    let Some((key, value, bounds, unit)) =
        all.iter().find(|(_, value, bounds, _)| !bounds.contains(value))
    else {
        return Ok(());
    };
    let (low, high) = (bounds.start(), bounds.end());
    Err((key, format!("{key} = {value}: {low} to {high} {unit} are possible")))
}

impl DatabaseConfig {
    /// As the database takes them.
    #[must_use]
    pub fn options(&self) -> Options {
        Options {
            commit_interval_ms: 1_000 * self.commit_interval_s,
            wal_bytes_max: self.wal_mb_max << 20,
            ..Options::default()
        }
    }
}

impl Config {
    /// Reads the file; one that nobody named and that is missing is an empty one.
    ///
    /// # Errors
    /// Names file, line and what is wrong.
    pub fn read(places: &Places) -> Result<Self, String> {
        let at = |reason: String| format!("{}: {reason}", places.config.display());
        match std::fs::read_to_string(&places.config) {
            Ok(text) => Self::parse(&text).map_err(at),
            Err(error)
                if error.kind() == std::io::ErrorKind::NotFound && !places.config_is_named =>
            {
                Ok(Self::default())
            }
            Err(error) => Err(at(error.to_string())),
        }
    }

    fn parse(text: &str) -> Result<Self, String> {
        let at = |span: Option<Range<usize>>, reason: &str| {
            let line = span.map_or(1, |span| 1 + text[..span.start].matches('\n').count());
            format!("line {line}: {reason}")
        };
        let config: Self = toml::from_str(text).map_err(|error| {
            let advice = misplaced(text, error.message());
            at(error.span(), advice.as_deref().unwrap_or_else(|| error.message()))
        })?;
        config.check().map_err(|(key, reason)| at(place_of(text, key), &reason))?;
        checks::check(&config.checks, &config.capabilities)
            .map_err(|(place, reason)| at(Some(place), &reason))?;
        samples::check(&config.samples).map_err(|(place, reason)| at(Some(place), &reason))?;
        duties::check(&config.duties).map_err(|(place, reason)| at(Some(place), &reason))?;
        brokers::check(config.transport, &config.mqtt, &config.brokers).map_err(
            |(place, reason)| {
                let key = reason.split([':', ' ']).next().unwrap_or_default();
                at(place.or_else(|| place_of(text, key)), &reason)
            },
        )?;
        bridge::check(&config).map_err(|(place, reason)| at(Some(place), &reason))?;
        Ok(config)
    }

    /// What TOML allows and no board can be started with: the key and why.
    fn check(&self) -> Result<(), (&'static str, String)> {
        if let Some(name) = &self.name {
            check_name("board", name)
                .map_err(|refusal| ("name", format!("name = {name:?}: {refusal}")))?;
        }
        self.level().map_err(|reason| ("log_level", reason))?;
        if let Some(wrong) = self.capabilities.iter().find(|name| check_name("", name).is_err()) {
            let reason = format!("capabilities has {wrong:?}: it is a name, as of a board");
            return Err(("capabilities", reason));
        }
        options::check(&self.notify)?;
        check_bounds(&[
            ("commit_interval_s", self.database.commit_interval_s, 1..=3_600, "seconds"),
            ("wal_mb_max", self.database.wal_mb_max, 4..=4_096, "megabytes"),
            ("log_mb", self.witness.log_mb, 16..=65_536, "megabytes"),
            ("batch_window_ms", self.readings.batch_window_ms, 0..=10_000, "milliseconds"),
            ("spool_after_ms", self.readings.spool_after_ms, 100..=600_000, "milliseconds"),
            ("spool_mb", self.readings.spool_mb, 1..=65_536, "megabytes"),
        ])?;
        if self.readings.mode().is_none() {
            let mode = &self.readings.readings_mode;
            return Err((
                "readings_mode",
                format!(
                    "readings_mode = {mode:?}: it is octal, as \"0660\", of reading and writing, \
                     and the owner may write"
                ),
            ));
        }
        if self.clock.clock_set_by.contains(&Evidence::Confirm) {
            let reason = "clock_set_by: confirm always counts, leave it out";
            return Err(("clock_set_by", String::from(reason)));
        }
        let announce = &self.udp.announce;
        if announce.len() > ADDRESSES_MAX {
            let count = announce.len();
            let reason = format!("announce has {count} addresses, {ADDRESSES_MAX} are allowed");
            return Err(("announce", reason));
        }
        match announce.iter().find(|address| !is_address(address)) {
            Some(address) => {
                let reason = format!("announce has {address:?}: an address is HOST:PORT");
                Err(("announce", reason))
            }
            None => Ok(()),
        }
    }

    /// What is done here while this board holds a duty.
    #[must_use]
    pub fn tasks(&self) -> Vec<Task> {
        self.duties.iter().map(|task| task.get_ref().clone()).collect()
    }

    /// Sensors of the board that are read.
    #[must_use]
    pub fn samples(&self) -> Vec<Sample> {
        self.samples.iter().map(|sample| sample.get_ref().clone()).collect()
    }

    /// Brokers that datagrams are posted to.
    ///
    /// # Errors
    /// When a file that one needs cannot be read.
    pub fn brokers(&self) -> Result<Vec<Broker>, String> {
        match self.transport {
            Transport::Udp => Ok(Vec::new()),
            Transport::Mqtt | Transport::Both => {
                let all = self.brokers.iter().map(toml::Spanned::get_ref);
                all.filter(|broker| broker.boards).map(BrokerConfig::broker).collect()
            }
        }
    }

    /// Brokers that are named, whether anything is posted to them or not.
    #[must_use]
    pub fn named_brokers(&self) -> Vec<BrokerConfig> {
        self.brokers.iter().map(|broker| broker.get_ref().clone()).collect()
    }

    /// What says whether this board can do more than it always can.
    #[must_use]
    pub fn checks(&self) -> Vec<Check> {
        self.checks.iter().map(|check| check.get_ref().clone()).collect()
    }

    /// How much is logged, if the file says so.
    ///
    /// # Errors
    /// Says what levels there are.
    pub fn level(&self) -> Result<Option<tracing::Level>, String> {
        let unknown = |level: &String| {
            format!("log_level is error, warn, info, debug or trace, not {level:?}")
        };
        let level = self.log_level.as_ref();
        level.map(|level| level.parse().map_err(|_| unknown(level))).transpose()
    }
}

/// `HOST:PORT`, with a port one can send to.
fn is_address(address: &str) -> bool {
    let (host, port) = address.rsplit_once(':').unwrap_or_default();
    let port = port.parse::<u16>().is_ok_and(|port| port != 0);
    let bare = !host.contains(':') || address.parse::<SocketAddr>().is_ok();
    let fits = address.len() <= NAME_BYTES_MAX && !address.contains(char::is_whitespace);
    !host.is_empty() && port && bare && fits
}

/// Where the key stands in the text.
fn place_of(text: &str, key: &str) -> Option<Range<usize>> {
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let rest = line.trim_start().strip_prefix(key).map(str::trim_start);
        if rest.is_some_and(|rest| rest.starts_with('=')) {
            return Some(start..start + line.len());
        }
        start += line.len();
    }
    None
}

/// Advice for keys that belong elsewhere: the unknown one, or one in the table of
/// that name.
fn misplaced(text: &str, message: &str) -> Option<String> {
    let unknown = message.strip_prefix("unknown field `")?.split('`').next()?;
    let inside = text.parse::<toml::Table>().ok().and_then(|table| match table.get(unknown) {
        Some(toml::Value::Table(table)) => Some(table.keys().cloned().collect::<Vec<_>>()),
        Some(_) | None => None,
    });
    let inside = inside.unwrap_or_default();
    std::iter::once(unknown).chain(inside.iter().map(String::as_str)).find_map(advice)
}

fn advice(key: &str) -> Option<String> {
    if key == "unit" || key == "service" {
        return Some(format!(
            "{key}: a service of systemd waits for its duty by itself: `understudy unit NAME \
             --service SERVICE -- COMMAND` says how"
        ));
    }
    let secret = ["key", "token", "psk", "secret", "password"];
    if secret.iter().any(|word| key.to_lowercase().contains(word)) {
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
        for text in [
            "group_key = \"abc\"",
            "[group]\nkey = \"abc\"",
            "psk = \"abc\"",
            "[security]\nlevel = 1\nsecret = \"abc\"",
        ] {
            let error = Config::parse(text).unwrap_err();
            assert!(error.contains("understudy join"), "{error}");
        }
        let error = Config::parse("name = \"a\"\n[settings]\nvoters = 3").unwrap_err();
        assert!(error.contains("line 2") && error.contains("understudy set voters"), "{error}");
    }

    #[test]
    fn what_no_board_can_be_started_with_is_named_with_its_line() {
        for (text, words) in [
            ("\nlog_level = \"loud\"", "line 2: log_level is error, warn"),
            ("name = \"a b\"", "line 1: name = \"a b\": a board's name has"),
            ("name = \"\"", "line 1: name = \"\""),
            ("[udp]\nannounce = [\"nonsense\"]", "line 2: announce has \"nonsense\""),
            ("[udp]\nannounce = [\"a:0\"]", "HOST:PORT"),
            ("[udp]\nannounce = [\"::1:70\"]", "HOST:PORT"),
            ("[database]\ncommit_interval_s = 0", "line 2: commit_interval_s = 0: 1 to 3600"),
            ("[witness]\nlog_mb = 15", "line 2: log_mb = 15: 16 to 65536 megabytes"),
            ("[readings]\nbatch_window_ms = 10001", "line 2: batch_window_ms = 10001: 0 to 10000"),
            (
                "[readings]\nreadings_mode = \"0777\"",
                "line 2: readings_mode = \"0777\": it is octal",
            ),
            ("[readings]\nreadings_mode = \"0066\"", "the owner may write"),
            ("[readings]\nreadings_mode = \"rw\"", "it is octal"),
            ("[clock]\nclock_set_by = [\"confirm\"]", "line 2: clock_set_by: confirm always"),
            ("[clock]\nclock_set_by = [\"gps\"]", "line 2: unknown variant `gps`"),
            ("[database]\nwal_mb_max = 1", "line 2: wal_mb_max = 1: 4 to 4096 megabytes"),
        ] {
            let error = Config::parse(text).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
        let many = vec!["\"a:1\""; ADDRESSES_MAX + 1].join(",");
        let error = Config::parse(&format!("[udp]\nannounce = [{many}]")).unwrap_err();
        assert!(error.contains("17 addresses"), "{error}");
        let fine = "[udp]\nannounce = [\"a.example:1\", \"[::1]:70\", \"192.0.2.1:4002\"]";
        assert!(Config::parse(fine).is_ok());
    }

    #[test]
    fn a_file_that_was_named_must_be_there() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Config::read(&Places::new(Some(folder.path()), None)), Ok(Config::default()));
        let named = folder.path().join("named.toml");
        let error = Config::read(&Places::new(None, Some(&named))).unwrap_err();
        assert!(error.contains("named.toml"), "{error}");
    }

    #[test]
    fn http_on_loopback_is_not_open() {
        let places = Places::new(Some(Path::new("d")), None);
        let flags = |http: [u8; 4]| RunFlags {
            http: Some(SocketAddr::from((http, 1))),
            http_open: true,
            ..RunFlags::default()
        };
        let open = |http| RunOptions::resolve(&places, &Config::default(), flags(http));
        assert!(!open([127, 0, 0, 1]).unwrap().http_open);
        assert!(open([0; 4]).unwrap().http_open);
        let named = RunFlags { name: Some("q q".into()), ..RunFlags::default() };
        let error = RunOptions::resolve(&places, &Config::default(), named).unwrap_err();
        assert!(error.contains("--name"), "{error}");
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
