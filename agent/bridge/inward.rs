//! Sensors' messages in: what is posted on topics at a broker becomes readings.
//!
//! The board that holds the duty subscribes, in one session that the broker keeps under the
//! same name for whoever holds it next. A message at QoS 1 is acknowledged when its readings
//! are committed, in the order in which messages came; until then the broker has it, so
//! nothing is lost with a board, a broker or the line, and where the group takes nothing all
//! waits there. Its readings carry the duty's token, so that nothing of a former holder comes
//! through beside what the broker has brought the next, and ids, so that what comes again is
//! the same reading ([`ids`](super::ids)). What a broker has is told from what it had in
//! another session by a random number, which the duty's checkpoint has before anything is
//! taken.
//!
//! A message at QoS 0 comes once or never: it has neither token nor id. What is retained is the
//! broker's memory and no news, and is not taken. A message that is no reading is acknowledged,
//! counted and logged: it would be none the next time.

use std::{collections::VecDeque, time::Duration};

use rumqttc::{Publish, QoS};
use serde::{Deserialize, Serialize};
use tracing::warn;
use understudy_core::{
    event::Millis,
    limits::BATCH_READINGS_MAX,
    readings::{IDS_FULL, Level, NO_PLACE, may_be_taken_later},
    sql::{SqlResponse, StatementOutcome, Value},
};

use super::{
    Lines, Stage,
    grant::{Grant, Pause},
    ids::{Ids, Marks},
    keep_at_it,
    line::{Line, OPEN_MAX, Said},
    part::{self, Player, Turn},
    template::{Found, Template},
};
use crate::{
    call::STOPPING,
    driver::{clock, random::random},
    duties,
    readings::{
        Draft,
        desk::{Desk, Message, Told},
        limits::COMPLAINT_MS,
        moment::{Unit, shown},
    },
};

/// Between two looks at what is due where nothing comes.
const LOOK: Duration = Duration::from_secs(5);

/// Who is asked to end has so long to finish what is under way.
const END: Duration = Duration::from_secs(1);

/// Of what was ever subscribed to so many are remembered: a checkpoint has room for them.
const FILTERS_MAX: usize = 128;

/// Never subscribed to: that it is not is asked for where the broker is to answer.
const NOTHING: &str = "understudy/nothing";

/// Which messages, and what readings they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// The topics, as MQTT has filters.
    pub filter: String,
    template: Template,
    qos: QoS,
}

impl Subscription {
    /// Of this filter, as [`Template::new`] has the others; the broker keeps messages until they
    /// are taken where `is_kept`.
    ///
    /// # Errors
    /// Names what is wrong.
    pub fn new(
        filter: &str,
        sensor: Option<&str>,
        values: &[String],
        time: Option<(&str, Unit)>,
        is_kept: bool,
    ) -> Result<Self, String> {
        let template = Template::new(filter, sensor, values, time)?;
        let qos = if is_kept { QoS::AtLeastOnce } else { QoS::AtMostOnce };
        Ok(Self { filter: filter.to_owned(), template, qos })
    }
}

/// Plays the part that takes messages in.
pub async fn play(stage: Stage, desk: Desk, all: Vec<Subscription>) {
    part::play(Subscriber { stage, desk, all }).await;
}

struct Subscriber {
    stage: Stage,
    desk: Desk,
    all: Vec<Subscription>,
}

impl Player for Subscriber {
    fn stage(&self) -> &Stage {
        &self.stage
    }

    async fn act(&self, turn: Turn) -> Result<(), String> {
        let Self { stage, desk, all } = self;
        let mut over = turn.clone();
        let played = async {
            let grant = Grant { stage, token: turn.token };
            let memory = Memory::recall(&grant).await;
            let ids = Ids::new(&stage.duty, clock::now(), Marks::default());
            let mut part = Part {
                grant,
                desk,
                all,
                turn,
                memory,
                ids,
                arrived: Marks::default(),
                complained: None,
            };
            keep_at_it(stage, &mut part).await
        };
        tokio::select! {
            ended = played => ended,
            () = async { over.over().await; tokio::time::sleep(END).await } => Ok(()),
        }
    }
}

/// What the duty's checkpoint has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Memory {
    /// Tells the broker's session from those before.
    epoch: u64,
    /// What was ever subscribed to in it, and may be still.
    filters: Vec<String>,
}

impl Memory {
    /// What the holder before has left; the default where that is nothing of ours.
    async fn recall(grant: &Grant<'_>) -> Self {
        let response = grant.read(&duties::left(&grant.stage.duty)).await;
        let left = duties::what_was_left(response).ok().flatten().unwrap_or_default();
        serde_json::from_slice(&left).unwrap_or_default()
    }

    async fn leave(&self, grant: &Grant<'_>) -> Result<(), String> {
        let data = serde_json::to_vec(self).map_err(|error| error.to_string())?;
        grant.write(&duties::leave(grant.fence(), data)?).await;
        Ok(())
    }
}

/// What was asked of the broker that is not to be subscribed to.
enum Gone {
    /// What a former configuration had, before the last of it.
    Earlier,
    /// The last of that.
    Former,
    /// See [`NOTHING`].
    Nothing,
}

/// What is under way on a line.
#[derive(Default)]
struct Asked {
    /// Subscriptions, by their places, in the order in which they were asked for.
    filters: VecDeque<usize>,
    /// Those that the broker refused, when they are asked for again, and the pause then.
    refused: Vec<usize>,
    again: Option<Millis>,
    pause: Pause,
    gone: VecDeque<Gone>,
    is_up: bool,
}

/// The part, while this board holds the duty.
struct Part<'s> {
    grant: Grant<'s>,
    desk: &'s Desk,
    all: &'s [Subscription],
    turn: Turn,
    memory: Memory,
    ids: Ids,
    /// Of ids, as the line before was ended in order; nothing where it was not.
    arrived: Marks,
    /// When the log was last told of what was not taken.
    complained: Option<Millis>,
}

impl Lines for Part<'_> {
    async fn session(&mut self) -> Result<(), String> {
        while !self.line().await? {}
        Ok(())
    }
}

impl Part<'_> {
    /// One line: true when the part is to end, false when another is wanted.
    async fn line(&mut self) -> Result<bool, String> {
        let stage = self.grant.stage;
        let mut line = Line::open(&stage.broker, &stage.client_id(), true, None);
        let is_kept = tokio::select! {
            up = line.up() => up?,
            () = self.turn.over() => return Ok(true),
        };
        if !is_kept {
            line = self.begin_anew(line).await?;
        } else if self.memory.epoch == 0 {
            self.begin_epoch().await?;
        }
        self.ids = Ids::new(&stage.duty, clock::now(), std::mem::take(&mut self.arrived));
        self.forget().await;
        let mut asked = Asked::default();
        self.ask(&mut line, &mut asked).await?;
        while !self.ids.is_stuck() {
            let mut said = tokio::select! {
                biased;
                () = self.turn.over() => {
                    line.close().await;
                    return Ok(true);
                }
                said = line.next() => Some(said),
                () = tokio::time::sleep(LOOK) => None,
            };
            while let Some(this) = said {
                said = self.hear(&mut line, &mut asked, this).await?;
            }
            self.look_after(&mut line, &mut asked).await?;
        }
        let highest = self.highest().await;
        if line.close().await {
            self.arrived = self.ids.marks(highest);
        }
        Ok(false)
    }

    /// Has the broker keep nothing, and then, once the group knows by what what comes now is
    /// told from what came before, keep it anew: a session whose beginning nobody knows of
    /// would be taken for the one before.
    async fn begin_anew(&mut self, line: Line) -> Result<Line, String> {
        let stage = self.grant.stage;
        line.close().await;
        let mut nothing = Line::open(&stage.broker, &stage.client_id(), false, None);
        nothing.up().await?;
        nothing.close().await;
        self.begin_epoch().await?;
        let mut line = Line::open(&stage.broker, &stage.client_id(), true, None);
        line.up().await?;
        Ok(line)
    }

    /// What comes from now on is told from what came before.
    async fn begin_epoch(&mut self) -> Result<(), String> {
        // None is 0 but once in the age of the universe, and that is no harm.
        let epoch = u64::from_le_bytes(random()?);
        self.remember(Memory { epoch, filters: Vec::new() }).await
    }

    /// Asks for all that is to come on this line, and nothing else.
    async fn ask(&mut self, line: &mut Line, asked: &mut Asked) -> Result<(), String> {
        let former = self.former().await?;
        for filter in &former {
            line.unsubscribe(filter).await?;
        }
        asked.gone.extend(former.iter().skip(1).map(|_| Gone::Earlier));
        asked.gone.extend(former.first().map(|_| Gone::Former));
        for place in 0..self.all.len() {
            self.subscribe(line, asked, place).await?;
        }
        Ok(())
    }

    /// Remembers what is subscribed to; returns what is not to be any longer.
    async fn former(&mut self) -> Result<Vec<String>, String> {
        let mut memory = self.memory.clone();
        let is_wanted = |filter: &String| self.all.iter().any(|one| one.filter == *filter);
        let former: Vec<String> =
            memory.filters.iter().filter(|filter| !is_wanted(filter)).cloned().collect();
        for one in self.all {
            if !memory.filters.contains(&one.filter) {
                memory.filters.push(one.filter.clone());
            }
        }
        let over = memory.filters.len().saturating_sub(FILTERS_MAX);
        memory.filters.drain(..over);
        self.remember(memory).await?;
        Ok(former)
    }

    async fn remember(&mut self, memory: Memory) -> Result<(), String> {
        if memory != self.memory {
            memory.leave(&self.grant).await?;
            self.memory = memory;
        }
        Ok(())
    }

    async fn subscribe(
        &self,
        line: &mut Line,
        asked: &mut Asked,
        place: usize,
    ) -> Result<(), String> {
        let Subscription { filter, qos, .. } = &self.all[place];
        asked.filters.push_back(place);
        line.subscribe(filter, *qos).await
    }

    /// Returns what was heard beyond the messages that were taken together.
    async fn hear(
        &mut self,
        line: &mut Line,
        asked: &mut Asked,
        said: Said,
    ) -> Result<Option<Said>, String> {
        match said {
            Said::Lost(why) => return Err(why),
            Said::Up { .. } | Said::Acknowledged => {}
            Said::Subscribed { is_taken } => self.subscribed(asked, is_taken)?,
            Said::Unsubscribed => match asked.gone.pop_front() {
                Some(Gone::Former) => {
                    let filters = self.all.iter().map(|one| one.filter.clone()).collect();
                    self.remember(Memory { filters, ..self.memory }).await?;
                }
                Some(Gone::Earlier) => {}
                Some(Gone::Nothing) | None => self.ids.answered(),
            },
            Said::Came(publish) => {
                let next = self.take(line, publish).await;
                // A broker may bring all that it has before it answers.
                self.is_up(asked);
                return next;
            }
        }
        Ok(None)
    }

    /// The broker has answered to a subscription.
    fn subscribed(&self, asked: &mut Asked, is_taken: bool) -> Result<(), String> {
        let place = asked.filters.pop_front();
        asked.refused.extend(place.filter(|_| !is_taken));
        if !asked.filters.is_empty() {
            return Ok(());
        }
        let refused: Vec<&str> =
            asked.refused.iter().map(|place| self.all[*place].filter.as_str()).collect();
        let why = format!(
            "it does not let this account subscribe to {} (its access list)",
            refused.join(", ")
        );
        if refused.len() == self.all.len() {
            return Err(why);
        }
        self.is_up(asked);
        let progress = &self.grant.stage.progress;
        progress.lock().trouble = (!refused.is_empty()).then_some(why);
        asked.again = (!refused.is_empty()).then(|| clock::now().plus(asked.pause.next_ms()));
        Ok(())
    }

    /// The line is of use.
    fn is_up(&self, asked: &mut Asked) {
        if !std::mem::replace(&mut asked.is_up, true) {
            self.grant.stage.progress.connected();
        }
    }

    /// Forgets ids that cannot come again.
    async fn forget(&mut self) {
        while let Some(forget) = self.ids.forget_some(self.grant.fence()) {
            let response = self.grant.write(&forget).await;
            self.ids.forgotten(changed(&response));
        }
    }

    async fn highest(&self) -> Option<i64> {
        self.grant.read(&self.ids.highest()).await.into_rows().and_then(highest)
    }

    /// What is due by now.
    async fn look_after(&mut self, line: &mut Line, asked: &mut Asked) -> Result<(), String> {
        let now = clock::now();
        if asked.again.take_if(|at| *at <= now).is_some() {
            for place in std::mem::take(&mut asked.refused) {
                self.subscribe(line, asked, place).await?;
            }
        }
        self.forget().await;
        if self.ids.is_due(now) {
            let highest = self.highest().await;
            self.ids.turn(now, highest);
            asked.gone.push_back(Gone::Nothing);
            line.unsubscribe(NOTHING).await?;
        }
        Ok(())
    }

    /// Takes this message and those that are there behind it, and acknowledges them.
    async fn take(&mut self, line: &mut Line, first: Publish) -> Result<Option<Said>, String> {
        let mut batch = Batch::default();
        let mut next = Some(Said::Came(first));
        while let Some(Said::Came(publish)) = next.take_if(|said| matches!(said, Said::Came(_))) {
            self.read(&mut batch, publish);
            next = if batch.is_full() { None } else { line.ready() };
        }
        if !batch.reused.is_empty() {
            let forget = self.ids.forget(self.grant.fence(), &batch.reused);
            self.grant.write(&forget).await;
        }
        self.store(&batch).await?;
        for (publish, message, readings) in batch.messages {
            if publish.qos == QoS::AtLeastOnce {
                line.acknowledge(&publish).await?;
                self.ids.acknowledged(message, readings);
            }
        }
        Ok(next)
    }

    /// Adds what a message says.
    fn read(&mut self, batch: &mut Batch, publish: Publish) {
        let message = Ids::of(self.memory.epoch, &publish);
        let found = match publish.retain {
            true => Found::default(),
            false => self.found(&publish),
        };
        if let Some(why) = found.refusal {
            self.refuse(format!("{}: {why}", shown(&publish.topic)));
        }
        let is_kept = publish.qos == QoS::AtLeastOnce;
        let readings = found.drafts.len();
        for (place, mut draft) in found.drafts.into_iter().enumerate() {
            if is_kept {
                draft.id = Some(self.ids.id(message, place));
                draft.token = Some(self.grant.token);
            }
            batch.drafts.push((batch.messages.len(), draft));
        }
        if is_kept && readings > 0 && self.ids.is_reused(message, &publish) {
            batch.reused.push(message);
        }
        batch.messages.push((publish, message, readings));
    }

    fn found(&self, publish: &Publish) -> Found {
        let Publish { topic, payload, .. } = publish;
        let found = self.all.iter().find_map(|one| one.template.read(topic, payload));
        found.unwrap_or_else(|| Found {
            refusal: Some(String::from("no [[subscribe]] is for this topic")),
            ..Found::default()
        })
    }

    /// Hands readings on until those that are to be acknowledged are committed.
    async fn store(&mut self, batch: &Batch) -> Result<(), String> {
        let (mut pause, mut message) = (Pause::default(), batch.message(false));
        while message.readings_count() > 0 {
            let told = self.desk.store(message, Level::Committed).await;
            let told = told.ok_or(STOPPING)?;
            let again = batch.again(&told);
            for (place, why) in &told.refused {
                let publish = usize::try_from(*place).ok().and_then(|it| batch.messages.get(it));
                if let Some((publish, ..)) = publish
                    && (again.is_none() || publish.qos == QoS::AtMostOnce)
                {
                    self.refuse(format!("{}: {why}", shown(&publish.topic)));
                }
            }
            let Some(why) = again else {
                self.grant.is_well_after(&pause);
                self.count(batch, &told);
                break;
            };
            self.grant.is_troubled(&why);
            if why.contains(IDS_FULL) {
                self.grant.write(&self.ids.forget_oldest(self.grant.fence())).await;
            }
            pause.wait().await;
            self.grant.majority().await;
            message = batch.message(true);
        }
        Ok(())
    }

    fn count(&self, batch: &Batch, told: &Told) {
        let mut status = self.grant.stage.progress.lock();
        status.readings += told.stored as u64;
        let has_some = batch.messages.iter().filter(|(.., readings)| *readings > 0);
        status.messages += has_some.count() as u64;
    }

    /// A message or a part of one is not taken.
    fn refuse(&mut self, why: String) {
        let now = clock::now();
        let mut status = self.grant.stage.progress.lock();
        status.refused += 1;
        if self.complained.is_none_or(|at| now.since(at) >= COMPLAINT_MS) {
            self.complained = Some(now);
            let (duty, refused) = (&status.duty, status.refused);
            warn!(duty, why, refused, "something at the broker is no reading");
        }
        status.refusal = Some(why);
    }
}

fn changed(response: &SqlResponse) -> i64 {
    let changed = response.results.iter().map(|result| match result.outcome {
        StatementOutcome::Changed { rows_affected, .. } => rows_affected,
        StatementOutcome::Rows { .. } | StatementOutcome::Error(_) => 0,
    });
    changed.sum()
}

fn highest(rows: Vec<Vec<Value>>) -> Option<i64> {
    rows.into_iter().flatten().find_map(|value| match value {
        Value::Integer(number) => Some(number),
        Value::Null | Value::Real(_) | Value::Text(_) | Value::Blob(_) => None,
    })
}

/// Messages that are taken together.
#[derive(Default)]
struct Batch {
    /// Each with what tells it from others, and how many readings it has.
    messages: Vec<(Publish, u64, usize)>,
    /// Their readings, each with its message's place.
    drafts: Vec<(usize, Draft)>,
    /// Messages of whose like the ids are to be forgotten first.
    reused: Vec<u64>,
}

impl Batch {
    fn is_full(&self) -> bool {
        let is_full = self.drafts.len() >= BATCH_READINGS_MAX;
        self.messages.len() >= usize::from(OPEN_MAX) || is_full
    }

    /// All readings, or those that may be handed on once more.
    fn message(&self, again: bool) -> Message {
        let mut message = Message::default();
        for (place, draft) in self.drafts.iter().filter(|(_, draft)| !again || draft.id.is_some()) {
            message.draft(*place as u64, draft.clone());
        }
        message
    }

    /// Why those that are to be acknowledged are to be handed on once more, if they are.
    fn again(&self, told: &Told) -> Option<String> {
        if self.drafts.iter().all(|(_, draft)| draft.id.is_none()) {
            return None;
        }
        if told.refusal.is_some() {
            return told.refusal.clone();
        }
        if told.stored > 0 && told.level < Level::Committed {
            return Some(String::from("no majority has stored what this board has"));
        }
        let is_for_now = |(message, why): &&(u64, String)| {
            may_be_taken_later(why) || why.contains(NO_PLACE) && !self.has_times(*message)
        };
        told.refused.iter().find(is_for_now).map(|(_, why)| why.clone())
    }

    /// Has a message times of its own?
    fn has_times(&self, message: u64) -> bool {
        let own = self.drafts.iter().filter(|(place, _)| *place as u64 == message);
        own.into_iter().any(|(_, draft)| draft.time.is_some())
    }
}
