//! What the agent does at MQTT brokers for others than boards: takes sensors' messages in as
//! readings, and tells the world of readings and duties.
//!
//! Either is a part in a duty ([`part`]), so that one board at a time does it and another
//! goes on where that ended: [`inward`] subscribes, [`outward`] publishes. Each has one line
//! to one broker ([`line`](mod@line)), opened anew where it breaks.
//!
//! Nothing is taken from the broker for good before it is committed in the group, and
//! nothing counts as told before the broker has it.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use understudy_core::event::{Millis, NodeId};

use crate::{
    call::Caller,
    clock::BoardClock,
    driver::{clock, mqtt::Broker},
    readings::desk::Desk,
    status::BridgeStatus,
};

pub mod discovery;
pub mod inward;
pub mod line;
pub mod missed;
pub mod outward;
pub mod part;
pub mod position;
pub mod sql;
pub mod telling;
pub mod topic;

/// Between two lines to a broker, the first and the longest.
const AGAIN: Duration = Duration::from_millis(200);
const AGAIN_MAX: Duration = Duration::from_secs(5);

/// A broker that was away for so long here may be there for another board, milliseconds.
const PATIENCE_MS: u64 = 30_000;

/// A part that the configuration gives this board.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// In which duty.
    pub duty: String,
    /// At which broker.
    pub broker: Broker,
    /// What is done there.
    pub does: Does,
}

/// See [`Part`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Does {
    /// Takes messages in.
    Subscribe(Vec<inward::Subscription>),
    /// Tells the world.
    Publish(outward::Publication),
}

/// The group that it is done for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// Tells it from others of that name, eight hexadecimal digits.
    pub tag: String,
    /// This board's member id.
    pub node: NodeId,
}

/// The parts at work, as the board's status shows them.
#[derive(Clone, Debug, Default)]
pub struct Bridge(Vec<Progress>);

impl Bridge {
    /// Begins to play these parts.
    #[must_use]
    pub fn start(
        parts: &[Part],
        group: &Group,
        (caller, desk, clock): (&Caller, &Desk, &BoardClock),
    ) -> Self {
        let begin = |part: &Part| {
            let progress = Progress::of(part);
            let stage = Stage {
                caller: caller.clone(),
                clock: clock.clone(),
                group: group.clone(),
                duty: part.duty.clone(),
                broker: part.broker.clone(),
                progress: progress.clone(),
            };
            match part.does.clone() {
                Does::Subscribe(all) => tokio::spawn(inward::play(stage, desk.clone(), all)),
                Does::Publish(publication) => tokio::spawn(outward::play(stage, publication)),
            };
            progress
        };
        Self(parts.iter().map(begin).collect())
    }

    /// How they stand.
    #[must_use]
    pub fn status(&self) -> Vec<BridgeStatus> {
        self.0.iter().map(|progress| progress.lock().clone()).collect()
    }
}

/// What a part needs to be played.
#[derive(Clone, Debug)]
pub struct Stage {
    /// The loop.
    pub caller: Caller,
    /// The board's clock.
    pub clock: BoardClock,
    /// For which group.
    pub group: Group,
    /// In which duty.
    pub duty: String,
    /// At which broker.
    pub broker: Broker,
    /// Where it says how it stands.
    pub progress: Progress,
}

impl Stage {
    /// The name of this part at its broker: the same on every board, so that the broker
    /// gives the line of a board that is gone to the next, and what waits with it.
    #[must_use]
    pub fn client_id(&self) -> String {
        format!("us-{}-{:08x}", self.group.tag, crc32c::crc32c(self.duty.as_bytes()))
    }

    /// Can the broker be reached from here?
    ///
    /// # Errors
    /// Why not, in words.
    pub async fn reach(&self) -> Result<(), String> {
        let name = format!("us-{}-look-{}", self.group.tag, self.group.node);
        let reached = line::reach(&self.broker, &name).await;
        self.progress.found(reached.as_ref().err().cloned());
        reached.map_err(|why| format!("the broker {}: {why}", self.broker.name()))
    }
}

/// A part's own record.
#[derive(Clone, Debug, Default)]
pub struct Progress(Arc<Mutex<BridgeStatus>>);

impl Progress {
    fn of(part: &Part) -> Self {
        let does = match part.does {
            Does::Subscribe(_) => "subscribe",
            Does::Publish(_) => "publish",
        };
        let (duty, broker, does) = (part.duty.clone(), part.broker.name(), String::from(does));
        Self(Arc::new(Mutex::new(BridgeStatus { duty, broker, does, ..BridgeStatus::default() })))
    }

    /// To be read or changed, for a moment.
    pub fn lock(&self) -> MutexGuard<'_, BridgeStatus> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is wrong with the broker now, if anything.
    fn found(&self, trouble: Option<String>) {
        let mut status = self.lock();
        (status.connected, status.trouble) = (false, trouble);
    }

    fn connected(&self) {
        let mut status = self.lock();
        (status.connected, status.trouble) = (true, None);
        status.lines += 1;
    }
}

/// How long a part goes on trying: it opens line after line, with a pause between them that
/// grows, and gives up when none came about for [`PATIENCE_MS`].
struct Patience {
    pause: Duration,
    /// When a line was there last, and how many there were by then.
    there: (Millis, u64),
}

impl Patience {
    fn new(stage: &Stage) -> Self {
        Self { pause: AGAIN, there: (clock::now(), stage.progress.lock().lines) }
    }

    /// A line has ended, for this reason: waits until the next is to be opened.
    ///
    /// # Errors
    /// In words, when there was none for so long.
    async fn wait(&mut self, stage: &Stage, why: String) -> Result<(), String> {
        stage.progress.found(Some(why.clone()));
        let (now, lines) = (clock::now(), stage.progress.lock().lines);
        let (since, before) = self.there;
        if lines > before {
            *self = Self { pause: AGAIN, there: (now, lines) };
        } else if now.since(since) >= PATIENCE_MS {
            return Err(format!("the broker {}: {why}", stage.broker.name()));
        }
        tokio::time::sleep(self.pause).await;
        self.pause = (2 * self.pause).min(AGAIN_MAX);
        Ok(())
    }
}
