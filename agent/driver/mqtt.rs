//! The road by MQTT: sealed datagrams through brokers that nobody has to trust. What a
//! broker can do is lose them or hold them up, as any network can.
//!
//! Each board has a mailbox at every broker, a topic for each sender in it, and posts to all
//! brokers at once: what comes twice falls to the seal's window. Nothing is retained, nothing
//! is acknowledged (QoS 0), nothing waits for a board that is away: Raft says it again. So
//! what cannot be taken at once, here or on its way, is dropped and counted.
//!
//! Beside that each board says by a retained word, and its last will, whether it is there:
//! for people who look at the broker; nothing here believes it.
//!
//! rumqttc connects anew by itself, at once and without end, and forgets what it had
//! subscribed to: the pause and the subscription are ours.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rumqttc::{
    AsyncClient, ConnectReturnCode, ConnectionError, Event, EventLoop, LastWill, MqttOptions,
    Packet, QoS, StateError, TlsConfiguration, Transport,
};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tracing::{info, warn};
use understudy_core::{event::Millis, limits::DATAGRAM_BYTES_MAX};

use super::clock;
use crate::address::Mailbox;

/// Datagrams that wait for the loop, and for each broker.
const HEARD_MAX: usize = 256;
const POSTED_MAX: usize = 256;

/// A packet that goes out has no more than a datagram and its topic, bytes. What comes in may
/// be somebody's nonsense: a larger one would end the line.
const PACKET_BYTES_MAX: usize = 2 * DATAGRAM_BYTES_MAX;
const NONSENSE_BYTES_MAX: usize = 1 << 16;

/// A broker that says nothing for so long is gone, roughly, and is asked this often.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// A connection may take so long to come about.
const CONNECT: Duration = Duration::from_secs(15);

/// Between two looks at whether a broker is there.
const CONNECTED_LOOK: Duration = Duration::from_millis(2);

/// Between two tries to reach a broker, the first and the longest.
const AGAIN: Duration = Duration::from_millis(200);
const AGAIN_MAX: Duration = Duration::from_secs(10);

/// So many connections in a row that each ended within so long, milliseconds: somebody else
/// has this board's name there.
const DROPS_MAX: u32 = 4;
const DROP_MS: u64 = 10_000;

/// A broker, as the configuration names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Broker {
    /// Its host.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The account there.
    pub account: Option<(String, String)>,
    /// Certificates that vouch for it, PEM; none where nothing is encrypted.
    pub authorities: Option<Vec<u8>>,
}

impl Broker {
    /// What it is called: `host:port`.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

/// What is known of a line to a broker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LineStatus {
    /// Since when it is there, if it is.
    pub since: Option<Millis>,
    /// Why not, or why it was not before.
    pub trouble: Option<String>,
    /// Datagrams posted, and what of them had no room.
    pub posted: u64,
    /// See `posted`.
    pub dropped: u64,
    /// Datagrams heard.
    pub heard: u64,
}

/// What all of it shares.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<LineStatus>>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, LineStatus> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Line {
    name: String,
    client: AsyncClient,
    status: Shared,
}

/// All brokers of this board. Lines end when it is dropped.
pub struct Brokers {
    own: Mailbox,
    /// What all topics of the group begin with.
    root: String,
    lines: Vec<Line>,
    heard: mpsc::Receiver<(Mailbox, Vec<u8>)>,
}

impl Brokers {
    /// Lines to these brokers under topics that begin so, for the board of this mailbox in
    /// the group of `tag`; none where there is no broker. They come about by themselves.
    #[must_use]
    pub fn open((brokers, prefix): (&[Broker], &str), tag: [u8; 4], own: Mailbox) -> Option<Self> {
        if brokers.is_empty() {
            return None;
        }
        let root = format!("{prefix}/{:08x}", u32::from_be_bytes(tag));
        let (tell, heard) = mpsc::channel(HEARD_MAX);
        let line = |broker: &Broker| {
            let options = options(broker, &root, own);
            let (client, events) = open_line(options, broker, (POSTED_MAX, CONNECT));
            let status = Shared::default();
            let name = broker.name();
            let listener = Listener {
                name: name.clone(),
                client: client.clone(),
                root: root.clone(),
                own,
                status: status.clone(),
                tell: tell.clone(),
                drops: 0,
            };
            tokio::spawn(listener.listen(events));
            Line { name, client, status }
        };
        let lines = brokers.iter().map(line).collect();
        Some(Self { own, root, lines, heard })
    }

    /// Posts to a board's mailbox at all brokers, or loses it.
    pub fn send(&self, to: Mailbox, datagram: &[u8]) {
        let topic = format!("{}/{to}/{}", self.root, self.own);
        for Line { client, status, .. } in &self.lines {
            let mut status = status.lock();
            if status.since.is_none() {
                continue;
            }
            match client.try_publish(&topic, QoS::AtMostOnce, false, datagram) {
                Ok(()) => status.posted += 1,
                Err(_) => status.dropped += 1,
            }
        }
    }

    /// Waits until a broker is there.
    pub async fn connected(&self) {
        while self.lines.iter().all(|line| line.status.lock().since.is_none()) {
            tokio::time::sleep(CONNECTED_LOOK).await;
        }
    }

    /// The next datagram, and whose it says it is.
    pub async fn receive(&mut self) -> Option<(Mailbox, Vec<u8>)> {
        self.heard.recv().await
    }

    /// The next if one is there already.
    pub fn try_receive(&mut self) -> Option<(Mailbox, Vec<u8>)> {
        self.heard.try_recv().ok()
    }

    /// What is known of each line, by `host:port`.
    pub fn status(&self) -> impl Iterator<Item = (&str, LineStatus)> {
        self.lines.iter().map(|line| (line.name.as_str(), line.status.lock().clone()))
    }
}

impl Drop for Brokers {
    fn drop(&mut self) {
        for line in &self.lines {
            let presence = presence(&self.root, self.own);
            let _ = line.client.try_publish(presence, QoS::AtMostOnce, true, "offline");
            // One that has no room is ended by the broker when it misses the board.
            let _ = line.client.try_disconnect();
        }
    }
}

fn presence(root: &str, own: Mailbox) -> String {
    format!("{root}/status/{own}")
}

fn options(broker: &Broker, root: &str, own: Mailbox) -> MqttOptions {
    let mut options = MqttOptions::new(format!("us-{own}"), &broker.host, broker.port);
    options.set_clean_session(true).set_keep_alive(KEEP_ALIVE).set_inflight(16);
    options.set_max_packet_size(NONSENSE_BYTES_MAX, PACKET_BYTES_MAX);
    options.set_last_will(LastWill::new(presence(root, own), "offline", QoS::AtMostOnce, true));
    options
}

/// A line to a broker with these options, its account and what it is encrypted with, which
/// comes about as its events are polled. So many requests wait at the most.
#[must_use]
pub fn open_line(
    mut options: MqttOptions,
    broker: &Broker,
    (requests_max, connect): (usize, Duration),
) -> (AsyncClient, EventLoop) {
    // Another part of the program may have been first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    if let Some((user, password)) = &broker.account {
        options.set_credentials(user, password);
    }
    if let Some(ca) = broker.authorities.clone() {
        let tls = TlsConfiguration::Simple { ca, alpn: None, client_auth: None };
        options.set_transport(Transport::Tls(tls));
    }
    let (client, mut events) = AsyncClient::new(options, requests_max);
    let mut network = events.network_options();
    network.set_tcp_nodelay(true);
    network.set_connection_timeout(connect.as_secs());
    events.set_network_options(network);
    (client, events)
}

/// What follows one line.
struct Listener {
    name: String,
    client: AsyncClient,
    root: String,
    own: Mailbox,
    status: Shared,
    tell: mpsc::Sender<(Mailbox, Vec<u8>)>,
    /// Connections in a row that ended soon.
    drops: u32,
}

impl Listener {
    async fn listen(mut self, mut events: EventLoop) {
        let mut pause = AGAIN;
        while !self.tell.is_closed() {
            match events.poll().await {
                Ok(Event::Incoming(Packet::ConnAck(_))) => self.connected(),
                Ok(Event::Incoming(Packet::Publish(publish))) if !publish.retain => {
                    self.hear(&publish.topic, &publish.payload);
                }
                Ok(_) => {}
                Err(error) => {
                    if self.lost(&error) {
                        pause = AGAIN;
                    }
                    // What waited is old, and a broker could have more and more of it wait.
                    events.pending.clear();
                    tokio::time::sleep(pause).await;
                    pause = (2 * pause).min(AGAIN_MAX);
                }
            }
        }
    }

    fn connected(&self) {
        self.status.lock().since = Some(clock::now());
        info!(broker = self.name, "connected");
        let mailbox = format!("{}/{}/+", self.root, self.own);
        // The queue is empty, or full of what was posted meanwhile and lost with the line:
        // then this line hears nothing, and is ended for it.
        let subscribed = self.client.try_subscribe(mailbox, QoS::AtMostOnce);
        let presence = presence(&self.root, self.own);
        let told = self.client.try_publish(presence, QoS::AtMostOnce, true, "online");
        if subscribed.and(told).is_err() {
            let _ = self.client.try_disconnect();
        }
    }

    fn hear(&self, topic: &str, datagram: &[u8]) {
        let from = topic.rsplit('/').next().and_then(Mailbox::parse);
        let Some(from) = from.filter(|_| datagram.len() <= DATAGRAM_BYTES_MAX) else { return };
        let told = self.tell.try_send((from, datagram.to_vec()));
        let mut status = self.status.lock();
        match told {
            Ok(()) => status.heard += 1,
            Err(_) => status.dropped += 1,
        }
    }

    /// True when the line had been there for a while.
    fn lost(&mut self, error: &ConnectionError) -> bool {
        let mut status = self.status.lock();
        let lasted = status.since.take().map(|since| clock::now().since(since));
        self.drops = match lasted {
            Some(ms) if ms < DROP_MS => self.drops + 1,
            Some(_) => 0,
            None => self.drops,
        };
        let is_ended = matches!(
            error,
            ConnectionError::Io(_)
                | ConnectionError::MqttState(StateError::Io(_) | StateError::ConnectionAborted)
        );
        let trouble = match self.drops >= DROPS_MAX && is_ended {
            true => format!(
                "it ends every connection soon: has another board a copy of this one's card, or \
                 another program the client id us-{}? ({error})",
                self.own
            ),
            false => words(error),
        };
        if status.trouble.as_ref() != Some(&trouble) {
            warn!(broker = self.name, trouble, "the broker is not there");
        }
        status.trouble = Some(trouble);
        lasted.is_some_and(|ms| ms >= DROP_MS)
    }
}

/// What is wrong with the line, for whoever set it up.
#[must_use]
pub fn words(error: &ConnectionError) -> String {
    use ConnectReturnCode::{BadUserNamePassword, NotAuthorized};
    if let ConnectionError::ConnectionRefused(BadUserNamePassword | NotAuthorized) = error {
        return String::from("it does not know this account: `user` and `password` of [[broker]]");
    }
    if let ConnectionError::ConnectionRefused(code) = error {
        return format!("it refuses the connection: {code:?}");
    }
    if let ConnectionError::Io(error) = error {
        return format!("it cannot be reached: {error}");
    }
    if let ConnectionError::Tls(error) = error {
        return format!("no encrypted line comes about: {error}");
    }
    error.to_string()
}
