//! What the agent is told, resolved: the command line counts more than the file, and the
//! file more than the defaults. Nothing beyond this reads either.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
};

use understudy_core::member::check_name;

use super::{Config, DatabaseConfig, Places, ReadingsConfig, WitnessConfig};
use crate::{
    boot::Evidence,
    bridge::Part,
    checks::Check,
    driver::{heard::Transport, mqtt::Broker, udp},
    hold::task::Task,
    http,
    notices::options::NotifyConfig,
    sampling::Sample,
};

/// Everything the agent is told, resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunOptions {
    /// journal.db, state.db and the lock.
    pub directory: PathBuf,
    /// The control socket.
    pub control: PathBuf,
    /// Where HTTP listens.
    pub http: SocketAddr,
    /// HTTP is open beyond loopback, as it was told to be.
    pub http_open: bool,
    /// Where datagrams come in.
    pub udp: SocketAddr,
    /// Which roads lead to the other boards.
    pub transport: Transport,
    /// Brokers that datagrams are posted to.
    pub brokers: Vec<Broker>,
    /// What all topics of boards begin with.
    pub topic_prefix: String,
    /// Addresses to announce instead of those of the interfaces.
    pub announce: Vec<String>,
    /// Boards of the group are looked for by multicast.
    pub mdns: bool,
    /// This board's name, if the host name is not to be it.
    pub name: Option<String>,
    /// How the database is kept.
    pub database: DatabaseConfig,
    /// What it keeps as a witness.
    pub witness: WitnessConfig,
    /// How readings come in.
    pub readings: ReadingsConfig,
    /// Where the sockets for readings are.
    pub readings_directory: PathBuf,
    /// What shows that the board's clock is set.
    pub clock_set_by: Vec<Evidence>,
    /// What this board can do, as duties need it.
    pub capabilities: Vec<String>,
    /// What says whether it can do more.
    pub checks: Vec<Check>,
    /// What is done here while this board holds a duty.
    pub duties: Vec<Task>,
    /// And what the agent does then itself.
    pub parts: Vec<Part>,
    /// Sensors of the board that are read.
    pub samples: Vec<Sample>,
    /// Who is told of what.
    pub notify: Vec<NotifyConfig>,
    /// Process id of the parent that says when this agent has ended.
    pub parent: Option<u32>,
}

impl RunOptions {
    /// Which brokers are posted to, and what topics there begin with.
    #[must_use]
    pub fn posts(&self) -> (&[Broker], &str) {
        (&self.brokers, &self.topic_prefix)
    }

    /// Whether this network is asked for boards of the group: not where datagrams come in
    /// on this machine alone, or the owner says no.
    #[must_use]
    pub const fn looks_for_boards(&self) -> bool {
        self.mdns && !self.udp.ip().is_loopback()
    }
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
    /// `--of-parent`
    pub parent: Option<u32>,
}

impl RunOptions {
    /// The command line counts more than the file, the file more than the default.
    ///
    /// # Errors
    /// When HTTP would be open to the network without being told so, or the name
    /// is none.
    pub fn resolve(places: &Places, config: &Config, flags: RunFlags) -> Result<Self, String> {
        let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, http::PORT));
        let http = flags.http.or(config.http.address).unwrap_or(loopback);
        let udp = flags.udp.or(config.udp.address);
        let udp = udp.unwrap_or_else(|| SocketAddr::from((Ipv6Addr::UNSPECIFIED, udp::PORT)));
        let http_open = flags.http_open || config.http.open;
        http::check_address(http, http_open)?;
        let name = flags.name.or_else(|| config.name.clone());
        if let Some(name) = &name {
            check_name("board", name).map_err(|refusal| format!("--name {name:?}: {refusal}"))?;
        }
        Ok(Self {
            directory: places.directory.clone(),
            control: places.control.clone(),
            http,
            http_open: http_open && !http.ip().is_loopback(),
            udp,
            transport: config.transport,
            brokers: config.brokers()?,
            topic_prefix: config.mqtt.topic_prefix.clone(),
            announce: config.udp.announce.clone(),
            mdns: config.udp.mdns,
            name,
            database: config.database.clone(),
            witness: config.witness.clone(),
            readings: config.readings.clone(),
            readings_directory: places.readings(config),
            clock_set_by: config.clock.clock_set_by.clone(),
            capabilities: config.capabilities.clone(),
            checks: config.checks(),
            duties: config.tasks(),
            parts: config.parts()?,
            samples: config.samples(),
            notify: config.notify.clone(),
            parent: flags.parent,
        })
    }
}
