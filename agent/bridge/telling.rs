//! One line's life of whoever tells the world: it says that it is there, makes sensors and
//! duties known, and tells what comes until the line breaks.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use rumqttc::{LastWill, QoS};
use serde_json::{Value as Json, json};
use tokio::sync::broadcast::error::RecvError;
use tracing::warn;
use understudy_core::{
    readings::unset_of,
    sql::{Origin, RequestKind, SqlRequest, Value},
};

use super::{
    Stage,
    discovery::{self, Message, Sensor},
    line::{Line, OPEN_MAX, Said},
    missed::{Missed, Stretch},
    position::Position,
    publication::Publication,
    sql,
};
use crate::{
    call::{Caller, STOPPING},
    driver::clock,
    feed::{Ended, Feed, Heard, listed},
};

/// What Home Assistant says when it has started, under its prefix.
const BIRTH: &str = "status";

/// Sensors and duties that are made known.
const KNOWN_MAX: usize = 1_000;

/// Rows of the history at a time.
const ROWS_MAX: usize = 200;

/// Readings that are told together: between two such lots the place may be left.
const TOGETHER_MAX: usize = 250;

/// Boards' clocks agree within this, microseconds: so far behind the last time that was told
/// it is looked for what the log has no longer.
const OVERLAP_US: i64 = 60_000_000;

/// A broker that has taken a message says so within this.
const ANSWERED: Duration = Duration::from_secs(30);

/// What is there already comes within this.
const SOON: Duration = Duration::from_secs(1);

/// Between two looks at units and names, where nothing else happens.
const LOOK: Duration = Duration::from_secs(60);

/// Tells what there is to tell, behind `position`, until the line breaks.
///
/// # Errors
/// Always, in words: why it does not go on.
pub async fn session(
    stage: &Stage,
    publication: &Publication,
    token: u64,
    position: &mut Position,
) -> Result<(), String> {
    let mut feed = Feed::begin(stage.caller.clone(), position.place, Vec::new()).await?;
    position.begin(stage, token, feed.place()).await?;
    let mut teller = Teller::begin((stage, publication), token, position).await?;
    let listening = stage.caller.listen_to_duties().await;
    let mut duties = listening.ok_or(STOPPING)??;
    teller.tell_duties().await?;
    loop {
        // Also of what came while something else was told.
        teller.clear_away().await?;
        teller.leave_if_due().await?;
        let due = teller.position.due_in_ms(clock::now()).map(Duration::from_millis);
        tokio::select! {
            heard = feed.next() => teller.tell(&mut feed, heard).await?,
            change = duties.changes.recv() => {
                if change == Err(RecvError::Closed) {
                    return Err(String::from(STOPPING));
                }
                // What was missed is in the history as well.
                teller.make_known(false).await?;
                teller.tell_duties().await?;
            }
            said = teller.line.next() => teller.hear(said)?,
            () = tokio::time::sleep(due.unwrap_or(LOOK)) => {
                // Where something is to be left that is looked at as well.
                if due.is_none() {
                    teller.make_known(false).await?;
                }
            }
        }
    }
}

/// See the module's description.
struct Teller<'s> {
    stage: &'s Stage,
    publication: &'s Publication,
    token: u64,
    position: &'s mut Position,
    line: Line,
    /// Messages that the broker has not acknowledged.
    open: usize,
    /// What was made known, by topics.
    known: BTreeMap<String, String>,
    /// Sensors among that.
    sensors: BTreeSet<String>,
    /// What others, or this group long ago, made known under this group's name.
    stale: Vec<String>,
    /// Home Assistant has started anew.
    is_asked: bool,
}

impl<'s> Teller<'s> {
    async fn begin(
        (stage, publication): (&'s Stage, &'s Publication),
        token: u64,
        position: &'s mut Position,
    ) -> Result<Self, String> {
        let there = publication.availability_topic(&stage.group);
        let will = LastWill::new(&there, "offline", QoS::AtLeastOnce, true);
        let mut line = Line::open(&stage.broker, &stage.client_id(), false, Some(will));
        line.up().await?;
        stage.progress.connected();
        let (known, sensors, stale) = (BTreeMap::new(), BTreeSet::new(), Vec::new());
        let (open, is_asked) = (0, false);
        let mut teller = Self {
            stage,
            publication,
            token,
            position,
            line,
            open,
            known,
            sensors,
            stale,
            is_asked,
        };
        teller.make_known(false).await?;
        teller.publish(vec![(there, String::from("online"))]).await?;
        // What is retained comes at once, and would be in the way of what is acknowledged.
        if let Some(prefix) = &publication.home_assistant {
            for filter in [format!("{prefix}/{BIRTH}"), discovery::filter(prefix, &stage.group)] {
                teller.line.subscribe(&filter, QoS::AtMostOnce).await?;
            }
        }
        Ok(teller)
    }

    /// What came of the log.
    async fn tell(
        &mut self,
        feed: &mut Feed,
        heard: Result<Vec<Heard>, Ended>,
    ) -> Result<(), String> {
        match heard {
            Ok(heard) => self.tell_readings(&heard).await,
            Err(Ended::Gone { first }) => {
                feed.skip_to(first);
                self.tell_missed(feed).await
            }
            // The log of before is gone as a whole, and the table has what was in it.
            Err(Ended::Another) => self.tell_missed(feed).await,
            Err(Ended::Failed(why)) => Err(why),
        }
    }

    async fn tell_readings(&mut self, heard: &[Heard]) -> Result<(), String> {
        let is_new = |heard: &Heard| !self.sensors.contains(&heard.sensor);
        if self.sensors.len() < KNOWN_MAX && heard.iter().any(is_new) {
            self.make_known(false).await?;
            // One that is in no table is looked for once.
            self.sensors.extend(heard.iter().map(|heard| heard.sensor.clone()));
        }
        for some in heard.chunks(TOGETHER_MAX) {
            let messages = some.iter().filter_map(|heard| self.of_reading(heard)).collect();
            self.publish(messages).await?;
            let Some(last) = some.last() else { return Ok(()) };
            self.position.place = Some(last.place);
            self.position.reach(some.iter().filter_map(time_of).max(), self.now_us());
            self.count(some.len()).await?;
        }
        Ok(())
    }

    /// What time it is, as far as this board knows.
    fn now_us(&self) -> Option<i64> {
        self.stage.clock.wall_us()
    }

    fn of_reading(&self, heard: &Heard) -> Option<Message> {
        let topic = self.publication.reading_topic(&self.stage.group, &heard.sensor)?;
        let mut body = json!(heard);
        body["index"] = json!(heard.place.to_string());
        Some((topic, body.to_string()))
    }

    /// What the log has no longer, and then what it has from there on. Something may be told
    /// twice, once without its index: times are no order.
    async fn tell_missed(&mut self, feed: &mut Feed) -> Result<(), String> {
        let place = feed.place();
        warn!(entry = place.index, "the log begins later than what is to be told");
        let next = tokio::time::timeout(SOON, feed.next()).await;
        let heard = match next {
            Ok(Ok(heard)) => heard,
            Ok(Err(Ended::Failed(why))) => return Err(why),
            Ok(Err(Ended::Gone { .. } | Ended::Another)) | Err(_) => Vec::new(),
        };
        if let Some(time) = self.position.time {
            let after = time.saturating_sub(OVERLAP_US);
            let there = heard.iter().filter_map(time_of).max().filter(|there| *there > time);
            let last = there.or(self.now_us()).unwrap_or(i64::MAX);
            let mut missed = Missed::new(after, last);
            while let Some(stretch) = missed.next(&self.stage.caller).await? {
                self.tell_late(stretch).await?;
            }
        }
        self.position.place = Some(place);
        self.tell_readings(&heard).await
    }

    async fn tell_late(&mut self, stretch: Stretch) -> Result<(), String> {
        let group = &self.stage.group;
        let message = |(sensor, body): &(String, Json)| {
            Some((self.publication.reading_topic(group, sensor)?, body.to_string()))
        };
        let messages: Vec<Message> = stretch.readings.iter().filter_map(message).collect();
        let count = messages.len();
        self.publish(messages).await?;
        self.position.reach(Some(stretch.until), self.now_us());
        self.count(count).await
    }

    /// So many readings were told.
    async fn count(&mut self, readings: usize) -> Result<(), String> {
        self.position.told(clock::now(), readings);
        {
            let mut progress = self.stage.progress.lock();
            progress.readings += readings as u64;
            progress.place = self.position.place.map(|place| place.to_string());
        }
        self.leave_if_due().await
    }

    /// Leaves the place to whoever goes on, and looks whether units and names are as they
    /// were. A group that does not take it now is asked again.
    async fn leave_if_due(&mut self) -> Result<(), String> {
        if !self.position.is_due(clock::now()) {
            return Ok(());
        }
        if let Err(why) = self.position.leave(self.stage, self.token).await {
            warn!(duty = self.stage.duty, why, "the place is not left");
        }
        self.make_known(false).await
    }

    /// What the history says of duties since; of each the last where it was never asked.
    async fn tell_duties(&mut self) -> Result<(), String> {
        loop {
            let rows = sql::rows(&self.stage.caller, &turns(self.position.history)).await?;
            let Some(last) = rows.last().and_then(|row| row.first().cloned()) else {
                return Ok(());
            };
            let group = &self.stage.group;
            let message = |row| {
                let (duty, body) = turn(row)?;
                Some((self.publication.duty_topic(group, &duty)?, body.to_string()))
            };
            let messages: Vec<Message> = rows.into_iter().filter_map(message).collect();
            let count = messages.len();
            self.publish(messages).await?;
            let Value::Integer(last) = last else { return Ok(()) };
            self.position.history = last;
            self.position.told(clock::now(), count);
        }
    }

    /// Makes known to Home Assistant what it does not know, or knows otherwise; or all.
    async fn make_known(&mut self, all: bool) -> Result<(), String> {
        if self.publication.home_assistant.is_none() {
            return Ok(());
        }
        let (sensors, duties) = there_are(&self.stage.caller).await?;
        let (publication, group) = (self.publication, &self.stage.group);
        let of_sensors =
            sensors.iter().filter_map(|it| discovery::of_sensor(publication, group, it));
        let of_duties = duties.iter().filter_map(|it| discovery::of_duty(publication, group, it));
        let now: BTreeMap<String, String> = of_sensors.chain(of_duties).collect();
        let is_gone = |topic: &&String| !now.contains_key(*topic);
        let gone = self.known.keys().filter(is_gone).map(|topic| (topic.clone(), String::new()));
        let is_new =
            |(topic, body): &(&String, &String)| all || self.known.get(*topic) != Some(*body);
        let new = now.iter().filter(is_new).map(|(topic, body)| (topic.clone(), body.clone()));
        let messages = gone.chain(new).collect();
        self.publish(messages).await?;
        self.known = now;
        self.sensors = sensors.into_iter().map(|sensor| sensor.name).collect();
        Ok(())
    }

    /// Takes away what nobody of this group is known by, and tells Home Assistant all anew
    /// where it has forgotten it.
    async fn clear_away(&mut self) -> Result<(), String> {
        if std::mem::take(&mut self.is_asked) {
            self.make_known(true).await?;
        }
        let stale = std::mem::take(&mut self.stale).into_iter();
        let gone = stale.filter(|topic| !self.known.contains_key(topic));
        let messages = gone.map(|topic| (topic, String::new())).collect();
        self.publish(messages).await
    }

    /// Has the broker take these, retained, and waits until it has.
    async fn publish(&mut self, messages: Vec<Message>) -> Result<(), String> {
        for (topic, body) in messages {
            while self.open >= usize::from(OPEN_MAX) {
                self.hear_next().await?;
            }
            while !self.line.try_publish(&topic, &body) {
                self.hear_next().await?;
            }
            self.open += 1;
            self.stage.progress.lock().messages += 1;
        }
        while self.open > 0 {
            self.hear_next().await?;
        }
        Ok(())
    }

    async fn hear_next(&mut self) -> Result<(), String> {
        let said = tokio::time::timeout(ANSWERED, self.line.next()).await;
        self.hear(said.map_err(|_| "it acknowledges nothing")?)
    }

    fn hear(&mut self, said: Said) -> Result<(), String> {
        match said {
            Said::Acknowledged => self.open = self.open.saturating_sub(1),
            Said::Came(publish) if publish.retain && !publish.payload.is_empty() => {
                if self.stale.len() < KNOWN_MAX && publish.topic.ends_with("/config") {
                    self.stale.push(publish.topic);
                }
            }
            Said::Came(publish) => self.is_asked |= &publish.payload[..] == b"online",
            Said::Up { .. } | Said::Subscribed { .. } | Said::Unsubscribed => {}
            Said::Lost(why) => return Err(why),
        }
        Ok(())
    }
}

/// The sensors and duties there are, by name.
async fn there_are(caller: &Caller) -> Result<(Vec<Sensor>, Vec<String>), String> {
    let is_number = "SELECT typeof(r.value) IN ('integer', 'real') FROM reading AS r \
                     WHERE r.sensor = s.id ORDER BY r.time DESC LIMIT 1";
    let select = format!(
        "SELECT s.name, s.unit, coalesce(({is_number}), s.unit IS NOT NULL) FROM sensor AS s ORDER BY s.id LIMIT {KNOWN_MAX}"
    );
    let sensors = sql::rows(caller, &query(&select, Vec::new())).await?;
    let sensor = |row: Vec<Value>| match <[Value; 3]>::try_from(row).ok()? {
        [Value::Text(name), unit, is_number] => Some(Sensor {
            name: String::from_utf8(name).ok()?,
            unit: text(unit),
            is_number: is_number == Value::Integer(1),
        }),
        _ => None,
    };
    let duties = query("SELECT name FROM _understudy_duty ORDER BY id", Vec::new());
    let duties = sql::rows(caller, &duties).await?.into_iter().flatten().filter_map(text).collect();
    Ok((sensors.into_iter().filter_map(sensor).collect(), duties))
}

/// Changes of duties behind this row of the history; of each duty the last where nothing was
/// told before.
fn turns(after: i64) -> SqlRequest {
    let which = match after {
        0 => {
            "h.id IN (SELECT max(id) FROM _understudy_history WHERE duty IS NOT NULL GROUP BY duty)"
        }
        _ => "h.id > ?1 AND h.duty IS NOT NULL",
    };
    let sql = format!(
        "SELECT h.id, h.time, coalesce(m.name, 'board ' || h.board), h.kind, h.duty, h.token, \
         h.reason FROM _understudy_history AS h LEFT JOIN _understudy_member AS m \
         ON m.id = h.board WHERE {which} ORDER BY h.id LIMIT {ROWS_MAX}"
    );
    let after = match after {
        0 => Vec::new(),
        _ => vec![Value::Integer(after)],
    };
    query(&sql, after)
}

/// The time of a reading by which others can be looked for.
fn time_of(heard: &Heard) -> Option<i64> {
    heard.time.filter(|_| !heard.far)
}

fn query(sql: &str, values: Vec<Value>) -> SqlRequest {
    SqlRequest::one(RequestKind::Query, Origin::Agent, sql, values)
}

/// The duty of a row of the history, and what is told of it.
fn turn(row: Vec<Value>) -> Option<(String, Json)> {
    let [id, time, board, kind, duty, token, reason] = <[Value; 7]>::try_from(row).ok()?;
    let (duty, kind) = (text(duty)?, text(kind)?);
    let holder = if kind == "take" { listed(board.clone()) } else { Json::Null };
    let mut body = json!({"duty": duty, "event": kind, "holder": holder, "board": listed(board)});
    if let Value::Integer(us) = time
        && unset_of(us).is_none()
    {
        body["time"] = json!(us);
    }
    body["token"] = listed(token);
    body["reason"] = listed(reason);
    body["index"] = listed(id);
    Some((duty, body))
}

fn text(value: Value) -> Option<String> {
    match value {
        Value::Text(text) => String::from_utf8(text).ok(),
        Value::Integer(_) | Value::Real(_) | Value::Blob(_) | Value::Null => None,
    }
}
