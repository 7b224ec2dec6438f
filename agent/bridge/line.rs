//! One connection to a broker, for as long as it lasts: acknowledged messages (QoS 1) in
//! either direction, and an end that is said once. Who needs another opens another: nothing
//! of the former is left in it, as rumqttc leaves what was never acknowledged where the next
//! connection trips over it.
//!
//! A task of its own polls the connection and never waits for whoever reads it: one that is
//! not read for a while is not lost, and acknowledgements get out. What it has heard waits, so
//! much and no more: of messages that nobody acknowledges (QoS 0) those beyond are dropped
//! and counted, others end the line, and the broker brings them on the next.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rumqttc::{
    AsyncClient, ClientError, ConnectionError, Event, EventLoop, LastWill, MqttOptions, Packet,
    Publish, QoS, StateError, SubscribeReasonCode, mqttbytes,
};
use tokio::{
    sync::mpsc::{self, error::TrySendError},
    task::JoinHandle,
};

use crate::driver::mqtt::{self, Broker};

/// Messages not acknowledged yet, in either direction; more wait where they are.
pub const OPEN_MAX: u16 = 64;

/// What was heard and waits. No broker by default has more on its way that is not
/// acknowledged: mosquitto 20 messages.
const HEARD_MAX: usize = 4 * OPEN_MAX as usize;

/// Of a longer message only so much and a byte more is handed on, bytes: what sensors say
/// is shorter, and all that waits is 8 MB at the most.
pub const MESSAGE_BYTES_MAX: usize = 32 << 10;

/// A packet, bytes. A larger one ends the line, again and again: mosquitto takes none.
const PACKET_BYTES_MAX: usize = 2_000_000;

/// A broker that says nothing for so long is gone, roughly, and is asked this often.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// A connection may take so long to come about.
const CONNECT: Duration = Duration::from_secs(10);

/// What is heard of a line.
#[derive(Debug)]
pub enum Said {
    /// It is there.
    Up {
        /// The broker kept what was subscribed to, and what came meanwhile.
        is_kept: bool,
    },
    /// Somebody posted this.
    Came(Publish),
    /// The broker has a message for good.
    Acknowledged,
    /// It takes a subscription, or refuses it.
    Subscribed {
        /// It takes all of it.
        is_taken: bool,
    },
    /// What was not to be subscribed to any longer is not, and all that was acknowledged
    /// before that was asked for has arrived.
    Unsubscribed,
    /// The line is not there any more, or never was: why, in words.
    Lost(String),
}

/// See the module's description.
pub struct Line {
    /// Whatever goes out.
    pub client: AsyncClient,
    heard: mpsc::Receiver<Said>,
    missed: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Line {
    /// A line under this name, whose broker keeps what it is for where `is_kept`; it comes
    /// about by itself. Messages that come are to be acknowledged by whoever takes them.
    #[must_use]
    pub fn open(broker: &Broker, name: &str, is_kept: bool, will: Option<LastWill>) -> Self {
        let mut options = MqttOptions::new(name, &broker.host, broker.port);
        options.set_clean_session(!is_kept).set_keep_alive(KEEP_ALIVE).set_manual_acks(true);
        options.set_inflight(OPEN_MAX).set_max_packet_size(PACKET_BYTES_MAX, PACKET_BYTES_MAX);
        if let Some(will) = will {
            options.set_last_will(will);
        }
        let waiting = usize::from(OPEN_MAX);
        let (client, events) = mqtt::open_line(options, broker, (waiting, CONNECT));
        let (tell, heard) = mpsc::channel(HEARD_MAX);
        let missed = Arc::default();
        let task = tokio::spawn(follow(events, tell, Arc::clone(&missed)));
        Self { client, heard, missed, task }
    }

    /// What has been heard already, if anything.
    pub fn ready(&mut self) -> Option<Said> {
        self.heard.try_recv().ok()
    }

    /// Messages that there was no room for since this was asked last.
    #[must_use]
    pub fn missed(&self) -> u64 {
        self.missed.swap(0, Ordering::Relaxed)
    }

    /// What is heard next; after its end always that.
    pub async fn next(&mut self) -> Said {
        let ended = || Said::Lost(String::from("the line has ended"));
        self.heard.recv().await.unwrap_or_else(ended)
    }

    /// Waits until it is there: whether the broker kept what it was for.
    ///
    /// # Errors
    /// Why it does not come about, in words.
    pub async fn up(&mut self) -> Result<bool, String> {
        loop {
            match self.next().await {
                Said::Up { is_kept } => return Ok(is_kept),
                Said::Lost(why) => return Err(why),
                Said::Came(_)
                | Said::Acknowledged
                | Said::Subscribed { .. }
                | Said::Unsubscribed => {}
            }
        }
    }

    /// Ends it in order: its last will is not carried out.
    pub async fn close(mut self) {
        // It may have ended otherwise meanwhile.
        if self.client.disconnect().await.is_ok() {
            while !matches!(self.next().await, Said::Lost(_)) {}
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// In words, why nothing goes out.
#[must_use]
pub fn not_out(_ended: &ClientError) -> String {
    String::from("the line has ended")
}

/// Can this broker be reached under this name, with the account that is given?
///
/// # Errors
/// Why not, in words.
pub async fn reach(broker: &Broker, name: &str) -> Result<(), String> {
    let mut line = Line::open(broker, name, false, None);
    line.up().await?;
    line.close().await;
    Ok(())
}

async fn follow(mut events: EventLoop, tell: mpsc::Sender<Said>, missed: Arc<AtomicU64>) {
    let why = loop {
        let said = match events.poll().await {
            Ok(Event::Incoming(packet)) => heard(packet),
            Ok(Event::Outgoing(_)) => None,
            Err(error) => break words(&error),
        };
        let Some(said) = said else { continue };
        match tell.try_send(said) {
            Ok(()) => {}
            Err(TrySendError::Full(Said::Came(Publish { qos: QoS::AtMostOnce, .. }))) => {
                missed.fetch_add(1, Ordering::Relaxed);
            }
            Err(TrySendError::Full(_)) => {
                break format!("it has more than {HEARD_MAX} messages on their way at a time");
            }
            Err(TrySendError::Closed(_)) => return,
        }
    };
    drop(events);
    // Nobody may listen any more.
    let _ = tell.send(Said::Lost(why)).await;
}

fn heard(packet: Packet) -> Option<Said> {
    if let Packet::ConnAck(answer) = &packet {
        return Some(Said::Up { is_kept: answer.session_present });
    }
    if let Packet::SubAck(answer) = &packet {
        let is_taken = !answer.return_codes.contains(&SubscribeReasonCode::Failure);
        return Some(Said::Subscribed { is_taken });
    }
    if let Packet::Publish(mut publish) = packet {
        if publish.payload.len() > MESSAGE_BYTES_MAX {
            publish.payload = publish.payload[..=MESSAGE_BYTES_MAX].to_vec().into();
        }
        return Some(Said::Came(publish));
    }
    match packet {
        Packet::PubAck(_) => Some(Said::Acknowledged),
        Packet::UnsubAck(_) => Some(Said::Unsubscribed),
        _ => None,
    }
}

/// What is wrong with the line, for whoever set it up.
fn words(error: &ConnectionError) -> String {
    use mqttbytes::Error::PayloadSizeLimitExceeded;
    if let ConnectionError::MqttState(StateError::Deserialization(PayloadSizeLimitExceeded(
        bytes,
    ))) = error
    {
        return format!(
            "it has a message of {bytes} bytes, and {PACKET_BYTES_MAX} are taken: \
             `message_size_limit` of mosquitto keeps such away"
        );
    }
    mqtt::words(error)
}
