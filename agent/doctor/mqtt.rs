//! `understudy doctor mqtt`: is a broker good for the group's datagrams, and if not, what is to
//! be done about it? It does what the road does, connects, listens and posts, to a topic of
//! its own beside the boards' mailboxes, and looks at what comes back.
//!
//! Left out: whether the other boards reach it.

use std::time::Duration;

use rumqttc::{
    AsyncClient, ConnectReturnCode, ConnectionError, Event, EventLoop, MqttOptions, Packet, QoS,
    SubscribeReasonCode,
};
use understudy_core::limits::DATAGRAM_BYTES_MAX;

use crate::driver::{
    clock,
    mqtt::{self, Broker},
};

/// Datagrams that go there and back, one after the other.
const ROUNDS: usize = 20;

/// A broker has so long for each step.
const STEP: Duration = Duration::from_secs(5);

/// Longer than this there and back, and something waits that need not.
const SLOW: Duration = Duration::from_millis(30);

/// What is found of one broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// It can be used.
    pub is_fine: bool,
    /// In words: what is wrong and what to do, or how long a datagram takes.
    pub words: Vec<String>,
}

/// Looks at a broker whose topics begin so.
#[must_use]
pub fn look(broker: &Broker, prefix: &str) -> Finding {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let looked = match runtime {
        Ok(runtime) => runtime.block_on(Patient::new(broker, prefix).examine()),
        Err(error) => Err(format!("nothing can be tried here: {error}")),
    };
    match looked {
        Ok(mut trips) => {
            trips.sort_unstable();
            let mut words = vec![said_of(&trips)];
            words.extend(advice(broker, trips[trips.len() / 2]));
            Finding { is_fine: true, words }
        }
        Err(reason) => Finding { is_fine: false, words: vec![reason] },
    }
}

fn said_of(trips: &[Duration]) -> String {
    let ms = |trip: Duration| trip.as_secs_f64() * 1e3;
    let (least, most) = (trips[0], trips[trips.len() - 1]);
    format!(
        "fine: {} datagrams of {DATAGRAM_BYTES_MAX} bytes came back, in {:.1} ms ({:.1} to {:.1})",
        trips.len(),
        ms(trips[trips.len() / 2]),
        ms(least),
        ms(most)
    )
}

/// What could be better about one that works.
fn advice(broker: &Broker, trip: Duration) -> Vec<String> {
    let mut words = Vec::new();
    if trip > SLOW {
        words.push(String::from(
            "that is long for a network nearby: if it is mosquitto, `set_tcp_nodelay true` in its \
             configuration saves up to 40 ms each way",
        ));
    }
    if broker.account.is_some() && broker.authorities.is_none() {
        words.push(String::from(
            "the password crosses the network readable: mqtts:// and `ca` keep it to the broker",
        ));
    }
    words
}

/// A broker that is looked at.
struct Patient {
    client: AsyncClient,
    events: EventLoop,
    topic: String,
}

impl Patient {
    fn new(broker: &Broker, prefix: &str) -> Self {
        let name = format!("us-doctor-{}", std::process::id());
        let topic = format!("{prefix}/doctor/{}", std::process::id());
        let mut options = MqttOptions::new(name, &broker.host, broker.port);
        options.set_clean_session(true).set_keep_alive(STEP);
        let (client, events) = mqtt::open_line(options, broker, (ROUNDS, STEP));
        Self { client, events, topic }
    }

    /// How long each datagram took there and back.
    async fn examine(mut self) -> Result<Vec<Duration>, String> {
        let no_room = |error: rumqttc::ClientError| error.to_string();
        self.until("the connection", |packet| matches!(packet, Packet::ConnAck(_))).await?;
        self.client.try_subscribe(&self.topic, QoS::AtMostOnce).map_err(no_room)?;
        let mut is_refused = false;
        self.until("the answer to a subscription", |packet| {
            let Packet::SubAck(answer) = packet else { return false };
            is_refused = answer.return_codes.contains(&SubscribeReasonCode::Failure);
            true
        })
        .await?;
        if is_refused {
            return Err(self.not_allowed("listen"));
        }
        let mut trips = Vec::with_capacity(ROUNDS);
        for round in 0..ROUNDS {
            let datagram = vec![u8::try_from(round).unwrap_or(0); DATAGRAM_BYTES_MAX];
            let sent_ns = clock::nanoseconds();
            self.client
                .try_publish(&self.topic, QoS::AtMostOnce, false, datagram.clone())
                .map_err(no_room)?;
            let is_it = |packet: &Packet| matches!(packet, Packet::Publish(publish) if publish.payload == datagram);
            if let Err(reason) = self.until("a datagram", is_it).await {
                return Err(match round {
                    0 => format!("{} ({reason})", self.not_allowed("post")),
                    _ => format!("datagram {} of {ROUNDS} was lost: {reason}", round + 1),
                });
            }
            trips.push(Duration::from_nanos(clock::nanoseconds().saturating_sub(sent_ns)));
        }
        // It is gone in any case.
        let _ = self.client.try_disconnect();
        Ok(trips)
    }

    fn not_allowed(&self, what: &str) -> String {
        let root = self.topic.split("/doctor/").next().unwrap_or_default();
        format!(
            "it takes the connection, but does not let this account {what} under {root}/: its \
             access list has to allow `readwrite {root}/#`, and its limits messages of \
             {DATAGRAM_BYTES_MAX} bytes"
        )
    }

    async fn until(
        &mut self,
        what: &str,
        mut is_it: impl FnMut(&Packet) -> bool,
    ) -> Result<(), String> {
        let heard = async {
            loop {
                match self.events.poll().await {
                    Ok(Event::Incoming(packet)) if is_it(&packet) => return Ok(()),
                    Ok(_) => {}
                    Err(error) => return Err(wrong(&error)),
                }
            }
        };
        let in_vain = |_| Err(format!("{what} does not come within {} s", STEP.as_secs()));
        tokio::time::timeout(STEP, heard).await.unwrap_or_else(in_vain)
    }
}

fn wrong(error: &ConnectionError) -> String {
    if let ConnectionError::ConnectionRefused(ConnectReturnCode::ServiceUnavailable) = error {
        return String::from("it is there and not in service: its own log says why");
    }
    mqtt::words(error)
}
