//! One connection to a broker, for as long as it lasts: acknowledged messages (QoS 1) in
//! either direction, and an end that is said once. Who needs another opens another: nothing
//! of the former is left in it, as rumqttc leaves what was never acknowledged where the next
//! connection trips over it.
//!
//! A task of its own polls the connection, so that one that is not read for a while is not
//! lost; what it has heard waits, so much and no more. While that is full it does nothing, so
//! acknowledgements must have room to wait as well, or each would wait for the other: a broker
//! may have as many messages on their way as there are packet ids (mosquitto with
//! `max_queued_messages 0` has), and nothing is taken of it but in one go.

use std::time::Duration;

use rumqttc::{
    AsyncClient, ClientError, ConnectionError, Event, EventLoop, LastWill, MqttOptions, Outgoing,
    Packet, Publish, QoS, StateError, SubscribeReasonCode, mqttbytes,
};
use tokio::{sync::mpsc, task::JoinHandle};

use crate::driver::mqtt::{self, Broker};

/// Messages not acknowledged yet, in either direction; more wait where they are.
pub const OPEN_MAX: u16 = 64;

/// Acknowledgements that wait to go out: as many as there are packet ids.
const ACKNOWLEDGEMENTS_MAX: usize = 1 << 16;

/// What was heard and waits.
const HEARD_MAX: usize = 2 * OPEN_MAX as usize;

/// Of a longer message only so much and a byte more is handed on, bytes: what sensors say
/// is shorter, and all that waits is 4 MB at the most, beside topics.
pub const MESSAGE_BYTES_MAX: usize = 32 << 10;

/// A packet, bytes. A larger one ends the line, again and again.
const PACKET_BYTES_MAX: usize = 2_000_000;

/// A broker that says nothing for so long is gone, roughly, and is asked this often.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// A connection may take so long to come about.
const CONNECT: Duration = Duration::from_secs(10);

/// Why a line is not there that the broker has closed.
const ENDED: &str = "it has ended the connection";

/// A broker ends a line within this once it is told to.
const END: Duration = Duration::from_secs(2);

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
    client: AsyncClient,
    heard: mpsc::Receiver<Said>,
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
        // Where nothing is kept nothing comes that is to be acknowledged.
        let waiting = if is_kept { ACKNOWLEDGEMENTS_MAX } else { usize::from(OPEN_MAX) };
        let (client, events) = mqtt::open_line(options, broker, (waiting, CONNECT));
        let (tell, heard) = mpsc::channel(HEARD_MAX);
        let task = tokio::spawn(follow(events, tell));
        Self { client, heard, task }
    }

    /// What has been heard already, if anything.
    pub fn ready(&mut self) -> Option<Said> {
        self.heard.try_recv().ok()
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

    /// Asks for what is posted on these topics, at this quality at the most.
    ///
    /// # Errors
    /// What has ended the line, in words.
    pub async fn subscribe(&mut self, filter: &str, qos: QoS) -> Result<(), String> {
        let asked = self.client.subscribe(filter, qos).await;
        self.sent(asked).await
    }

    /// Asks for it no longer.
    ///
    /// # Errors
    /// As of [`Self::subscribe`].
    pub async fn unsubscribe(&mut self, filter: &str) -> Result<(), String> {
        let asked = self.client.unsubscribe(filter).await;
        self.sent(asked).await
    }

    /// The broker may forget this: there is nothing to say of what came at QoS 0.
    ///
    /// # Errors
    /// As of [`Self::subscribe`].
    pub async fn acknowledge(&mut self, publish: &Publish) -> Result<(), String> {
        let told = self.client.ack(publish).await;
        self.sent(told).await
    }

    /// Posts this at QoS 1, retained: false where there is no room now.
    #[must_use]
    pub fn try_publish(&self, topic: &str, body: &str) -> bool {
        self.client.try_publish(topic, QoS::AtLeastOnce, true, body).is_ok()
    }

    async fn sent(&mut self, sent: Result<(), ClientError>) -> Result<(), String> {
        match sent {
            Ok(()) => Ok(()),
            Err(_) => Err(self.ended().await),
        }
    }

    /// Why nothing goes out: what ended it, in words.
    async fn ended(&mut self) -> String {
        loop {
            if let Said::Lost(why) = self.next().await {
                return why;
            }
        }
    }

    /// Ends it in order: its last will is not carried out. True where the broker has ended it
    /// then, and so has had all that went out before.
    pub async fn close(mut self) -> bool {
        // It may have ended otherwise meanwhile, and a broker may not want to.
        let ended = async { self.client.disconnect().await.is_ok() && self.ended().await == ENDED };
        tokio::time::timeout(END, ended).await.unwrap_or(false)
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.task.abort();
    }
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

async fn follow(mut events: EventLoop, tell: mpsc::Sender<Said>) {
    // It was told the broker that this end has enough: what ended it before did not have all.
    let mut is_closed = false;
    loop {
        let said = match events.poll().await {
            Ok(Event::Incoming(packet)) => heard(packet),
            Ok(Event::Outgoing(outgoing)) => {
                is_closed |= outgoing == Outgoing::Disconnect;
                None
            }
            Err(error) => {
                // Nobody may listen any more.
                let _ = tell.send(Said::Lost(words(&error, is_closed))).await;
                return;
            }
        };
        if let Some(said) = said
            && tell.send(said).await.is_err()
        {
            return;
        }
    }
}

fn heard(packet: Packet) -> Option<Said> {
    let said = match packet {
        Packet::ConnAck(answer) => Said::Up { is_kept: answer.session_present },
        Packet::Publish(publish) => Said::Came(shortened(publish)),
        Packet::PubAck(_) => Said::Acknowledged,
        Packet::SubAck(answer) => {
            let is_taken = !answer.return_codes.contains(&SubscribeReasonCode::Failure);
            Said::Subscribed { is_taken }
        }
        Packet::UnsubAck(_) => Said::Unsubscribed,
        Packet::Connect(_)
        | Packet::PubRec(_)
        | Packet::PubRel(_)
        | Packet::PubComp(_)
        | Packet::Subscribe(_)
        | Packet::Unsubscribe(_)
        | Packet::PingReq
        | Packet::PingResp
        | Packet::Disconnect => return None,
    };
    Some(said)
}

/// What waits is a copy: a part of what was read would keep all of that.
fn shortened(mut publish: Publish) -> Publish {
    let bytes = publish.payload.len().min(MESSAGE_BYTES_MAX + 1);
    publish.payload = publish.payload[..bytes].to_vec().into();
    publish
}

/// What is wrong with the line, for whoever set it up.
fn words(error: &ConnectionError, is_closed: bool) -> String {
    let is_ended = matches!(error, ConnectionError::MqttState(StateError::ConnectionAborted));
    if is_ended && is_closed {
        return String::from(ENDED);
    }
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
