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

use understudy_core::{event::NodeId, fence::Fence};

use crate::{
    call::Caller,
    clock::BoardClock,
    driver::{clock, mqtt::Broker},
    readings::desk::Desk,
    status::BridgeStatus,
};

pub mod discovery;
pub mod grant;
pub mod ids;
pub mod inward;
pub mod line;
pub mod missed;
pub mod outward;
pub mod part;
pub mod position;
pub mod publication;
pub mod sql;
pub mod telling;
pub mod template;
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
    Publish(publication::Publication),
}

impl Does {
    /// In a word.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Subscribe(_) => "subscribe",
            Self::Publish(_) => "publish",
        }
    }
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

    /// What is written under this grant carries this.
    #[must_use]
    pub fn fence(&self, token: u64) -> Fence {
        Fence { duty: self.duty.clone(), token }
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
        let does = String::from(part.does.word());
        let (duty, broker) = (part.duty.clone(), part.broker.name());
        Self(Arc::new(Mutex::new(BridgeStatus { duty, broker, does, ..BridgeStatus::default() })))
    }

    /// To be read or changed, for a moment.
    pub fn lock(&self) -> MutexGuard<'_, BridgeStatus> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// There is no line, and this is wrong with the broker, if anything.
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

/// However a turn ends, there is no line behind it.
struct Off<'p>(&'p Progress);

impl Drop for Off<'_> {
    fn drop(&mut self) {
        self.0.lock().connected = false;
    }
}

/// What is done on lines to a broker. It is no closure, as the future of one that borrows is
/// never known to go to other threads.
trait Lines {
    /// One line's life: says when it was there, and ends well only when the part is to end.
    fn session(&mut self) -> impl Future<Output = Result<(), String>> + Send;
}

/// Opens line after line until the part is to end, with a pause between them; gives up when
/// none was of any use for [`PATIENCE_MS`]: brought a reading over, or lasted as long.
async fn keep_at_it(stage: &Stage, lines: &mut impl Lines) -> Result<(), String> {
    let _off = Off(&stage.progress);
    let (mut pause, mut there) = (AGAIN, clock::now());
    loop {
        let (began, before) = (clock::now(), stage.progress.lock().readings);
        let Err(why) = lines.session().await else {
            stage.progress.found(None);
            return Ok(());
        };
        stage.progress.found(Some(why.clone()));
        let now = clock::now();
        let is_of_use = stage.progress.lock().readings > before;
        if is_of_use || now.since(began) >= PATIENCE_MS {
            (pause, there) = (AGAIN, now);
        } else if now.since(there) >= PATIENCE_MS {
            return Err(format!("the broker {}: {why}", stage.broker.name()));
        }
        tokio::time::sleep(pause).await;
        pause = (2 * pause).min(AGAIN_MAX);
    }
}
