//! The road by MQTT: sealed datagrams through brokers that nobody has to trust. What a
//! broker can do is lose them or hold them up, as any network can.
//!
//! Each board has a mailbox at every broker, a topic for each sender in it, and posts to all
//! brokers at once: what comes twice falls to the seal's window. Nothing is retained, nothing
//! is acknowledged (QoS 0), nothing waits for a board that is away: Raft says it again. So
//! what cannot be taken at once, here or on its way, is dropped and counted.
//!
//! A list of a broker may keep a board from posting or from hearing without a word to it. So
//! each posts to itself now and then, and says so when that does not come back.
//!
//! Beside that each board says by a retained word, and its last will, whether it is there:
//! for people who look at the broker; nothing here believes it.
//!
//! rumqttc connects anew by itself, at once and without end, and forgets what it had
//! subscribed to: the pause and the subscription are ours.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rumqttc::{
    AsyncClient, ConnectReturnCode, ConnectionError, Event, EventLoop, LastWill, MqttOptions,
    Packet, QoS, StateError, SubscribeReasonCode, Transport, mqttbytes,
};
use tokio::sync::mpsc;
use tracing::{info, warn};
use understudy_core::{event::Millis, limits::DATAGRAM_BYTES_MAX};

use super::{
    clock,
    tls::{self, Authorities},
};
use crate::address::Mailbox;

/// Datagrams that wait for the loop, and for each broker.
const HEARD_MAX: usize = 256;
const POSTED_MAX: usize = 256;

/// A packet that goes out has no more than a datagram and its topic, bytes. What comes in may
/// be somebody's nonsense: a larger one would end the line.
const PACKET_BYTES_MAX: usize = 2 * DATAGRAM_BYTES_MAX;
const NONSENSE_BYTES_MAX: usize = 1 << 16;

/// A broker is asked this often whether it is there, and has as long to answer: where the
/// group's boards are given longer than that, so is it, or a slow link would be ended over
/// and over. A connection takes several round trips to come about.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
const CONNECT_ROUNDS: u32 = 3;

/// Between two looks at whether a broker is there.
const CONNECTED_LOOK: Duration = Duration::from_millis(2);

/// Between two tries to reach a broker, the first and the longest.
const AGAIN: Duration = Duration::from_millis(200);
const AGAIN_MAX: Duration = Duration::from_secs(10);

/// So many connections in a row that each ended within so long, milliseconds: somebody else
/// has this board's name there. Such two end each other's at each of their tries, so one
/// that lasts has outlived several.
const DROPS_MAX: u32 = 4;
const DROP_MS: u64 = 30_000;
const _: () = assert!(DROP_MS > 2 * AGAIN_MAX.as_secs() * 1_000);

/// What a board posts to itself, after so many answers to pings where it came back the last
/// time, and after each where it did not: this often in a row, and something is wrong.
const ECHO: &[u8] = b"echo";
const ECHO_PINGS: u32 = 12;
const ECHOES_LOST_MAX: u32 = 2;

/// A broker, as the configuration names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    /// Its host.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The account there.
    pub account: Option<(String, String)>,
    /// Who vouches for it; none where nothing is encrypted.
    pub authorities: Option<Authorities>,
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
    /// Why it is not, or what is wrong with it though it is.
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
    patience_ms: Arc<AtomicU64>,
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
        let patience_ms = Arc::default();
        let line = |broker: &Broker| {
            let options = options(broker, &root, own);
            let (client, events) = open_line(options, broker, (POSTED_MAX, connect_within(0)));
            let status = Shared::default();
            let name = broker.name();
            let listener = Listener {
                name: name.clone(),
                client: client.clone(),
                root: root.clone(),
                own,
                status: status.clone(),
                tell: tell.clone(),
                patience_ms: Arc::clone(&patience_ms),
                drops: 0,
                echo: Echo::default(),
            };
            tokio::spawn(listener.listen(events));
            Line { name, client, status }
        };
        let lines = brokers.iter().map(line).collect();
        Some(Self { own, root, lines, heard, patience_ms })
    }

    /// Whoever is silent for so long is missed in this group, milliseconds: lines that come
    /// about from now on have twice as long for an answer, if that is more than is usual.
    pub fn set_patience(&self, ms: u64) {
        self.patience_ms.store(ms, Ordering::Relaxed);
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

fn keep_alive(patience_ms: u64) -> Duration {
    KEEP_ALIVE.max(Duration::from_millis(2 * patience_ms))
}

fn connect_within(patience_ms: u64) -> Duration {
    CONNECT_ROUNDS * keep_alive(patience_ms)
}

fn options(broker: &Broker, root: &str, own: Mailbox) -> MqttOptions {
    let mut options = MqttOptions::new(format!("us-{own}"), &broker.host, broker.port);
    options.set_clean_session(true).set_keep_alive(keep_alive(0)).set_inflight(16);
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
    if let Some((user, password)) = &broker.account {
        options.set_credentials(user, password);
    }
    if let Some(authorities) = &broker.authorities {
        options.set_transport(Transport::Tls(authorities.configuration()));
    }
    let (client, mut events) = AsyncClient::new(options, requests_max);
    let mut network = events.network_options();
    network.set_tcp_nodelay(true);
    network.set_connection_timeout(connect.as_secs());
    events.set_network_options(network);
    (client, events)
}

/// What a board has posted to itself.
#[derive(Clone, Copy, Default)]
struct Echo {
    /// It is under way.
    is_awaited: bool,
    /// Answers to pings since the last came back.
    pings: u32,
    /// So many in a row did not.
    lost: u32,
    /// What is posted to this board is not for it to hear.
    is_refused: bool,
}

/// What follows one line.
struct Listener {
    name: String,
    client: AsyncClient,
    root: String,
    own: Mailbox,
    status: Shared,
    tell: mpsc::Sender<(Mailbox, Vec<u8>)>,
    patience_ms: Arc<AtomicU64>,
    /// Connections in a row that ended soon.
    drops: u32,
    echo: Echo,
}

impl Listener {
    async fn listen(mut self, mut events: EventLoop) {
        let mut pause = AGAIN;
        while !self.tell.is_closed() {
            if events.network.is_none() {
                self.be_patient(&mut events);
            }
            match events.poll().await {
                Ok(Event::Incoming(packet)) => self.take(&packet),
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

    /// A connection that is to come about is held to what the group's timing is now.
    fn be_patient(&self, events: &mut EventLoop) {
        let patience_ms = self.patience_ms.load(Ordering::Relaxed);
        events.mqtt_options.set_keep_alive(keep_alive(patience_ms));
        events.network_options.set_connection_timeout(connect_within(patience_ms).as_secs());
    }

    fn take(&mut self, packet: &Packet) {
        if let Packet::Publish(publish) = packet {
            if !publish.retain {
                self.hear(&publish.topic, &publish.payload);
            }
        } else if let Packet::ConnAck(_) = packet {
            self.connected();
        } else if let Packet::PingResp = packet {
            self.look();
        } else if let Packet::SubAck(answer) = packet
            && answer.return_codes.contains(&SubscribeReasonCode::Failure)
        {
            self.echo.is_refused = true;
            self.complain(self.not_allowed());
        }
    }

    fn connected(&mut self) {
        let mut status = self.status.lock();
        status.since = Some(clock::now());
        if self.drops < DROPS_MAX {
            status.trouble = None;
        }
        drop(status);
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
        self.echo = Echo::default();
        self.post_echo();
    }

    fn post_echo(&mut self) {
        let topic = format!("{}/{own}/{own}", self.root, own = self.own);
        let posted = self.client.try_publish(topic, QoS::AtMostOnce, false, ECHO);
        self.echo.is_awaited = posted.is_ok();
    }

    /// The broker is there: does it let this board post and hear?
    fn look(&mut self) {
        let since = self.status.lock().since;
        if since.is_some_and(|since| clock::now().since(since) >= DROP_MS) {
            self.drops = 0;
        }
        self.echo.pings += 1;
        self.echo.lost += u32::from(self.echo.is_awaited);
        if self.echo.lost >= ECHOES_LOST_MAX {
            self.complain(self.not_allowed());
        } else if self.echo.lost == 0 && self.drops < DROPS_MAX {
            self.status.lock().trouble = None;
        }
        if self.echo.is_awaited || self.echo.pings >= ECHO_PINGS {
            self.post_echo();
        }
    }

    fn not_allowed(&self) -> String {
        let what = match self.echo.is_refused {
            true => "hear",
            false => "both post and hear",
        };
        format!(
            "it does not let this board {what} under {root}/, as what it posts to itself shows: \
             the broker's access list has to allow `readwrite {root}/#`; `understudy doctor mqtt` \
             looks",
            root = self.root
        )
    }

    fn complain(&self, trouble: String) {
        let mut status = self.status.lock();
        if status.trouble.as_ref() != Some(&trouble) {
            warn!(broker = self.name, trouble, "something is wrong with the broker");
        }
        status.trouble = Some(trouble);
    }

    fn hear(&mut self, topic: &str, datagram: &[u8]) {
        let from = topic.rsplit('/').next().and_then(Mailbox::parse);
        let Some(from) = from.filter(|_| datagram.len() <= DATAGRAM_BYTES_MAX) else {
            self.status.lock().dropped += 1;
            return;
        };
        if from == self.own {
            self.echo = Echo::default();
            return;
        }
        let told = self.tell.try_send((from, datagram.to_vec()));
        let mut status = self.status.lock();
        match told {
            Ok(()) => status.heard += 1,
            Err(_) => status.dropped += 1,
        }
    }

    /// True when the line had been there for a while.
    fn lost(&mut self, error: &ConnectionError) -> bool {
        let since = self.status.lock().since.take();
        let lasted = since.map(|since| clock::now().since(since));
        self.drops = match lasted {
            Some(ms) if ms < DROP_MS => self.drops + 1,
            Some(_) => 0,
            None => self.drops,
        };
        let is_ended = matches!(error, ConnectionError::Io(_)) || is_ended(error);
        self.complain(match self.drops >= DROPS_MAX && is_ended {
            true => format!(
                "it ends every connection soon: has another board a copy of this one's card, or \
                 another program the client id us-{}? ({error})",
                self.own
            ),
            false => words(error),
        });
        lasted.is_some_and(|ms| ms >= DROP_MS)
    }
}

/// Has the other end ended a connection that had come about?
const fn is_ended(error: &ConnectionError) -> bool {
    let ConnectionError::MqttState(error) = error else { return false };
    matches!(
        error,
        StateError::Io(_)
            | StateError::ConnectionAborted
            | StateError::Deserialization(mqttbytes::Error::Io(_))
    )
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
        return tls::words(error);
    }
    if is_ended(error) {
        return String::from(
            "it ended the connection; if it always does, that port may be for mqtts://",
        );
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    use understudy_core::timing::Timing;

    use super::*;

    #[test]
    fn a_broker_has_longer_to_answer_than_a_round_trip_takes_in_any_profile() {
        for (timing, seconds) in [(Timing::WIRED, 5), (Timing::WIFI, 5), (Timing::RADIO, 18)] {
            let patience_ms = timing.leader_silent_ms();
            assert_eq!(keep_alive(patience_ms), Duration::from_secs(seconds));
            assert_eq!(connect_within(patience_ms), 3 * Duration::from_secs(seconds));
        }
    }
}
