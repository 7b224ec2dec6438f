//! Where every way in hands its readings over: they are stamped, the loop is asked, and
//! what became of each line is said by its number.
//!
//! A message is hardly more than travels together: who has more hands it over in several.
//! A time that the caller gave stays; all other readings of one message are of one moment.
//! What is handed on is never handed on again, except where the loop had no room for it
//! and so has not taken any of it.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;
use understudy_core::{
    error::Refusal,
    event::{Reply, Request},
    limits::BATCH_READINGS_MAX,
    readings::{Arrivals, Level, Reading, Receipt},
    sql,
};

use super::{Draft, limits::BUSY, line, moment::Unit, stamps::Stamps};
use crate::{
    call::Caller,
    clock::{BoardClock, Stamp},
};

/// What a message said, and of which line each reading is.
#[derive(Debug, Default)]
pub struct Message {
    drafts: Vec<Draft>,
    /// The line of each draft.
    lines: Vec<u64>,
    /// Lines that say nothing acceptable, and why.
    errors: Vec<(u64, String)>,
    /// The token of readings that have none of their own.
    token: Option<u64>,
}

impl Message {
    /// One whose readings are taken under this token, where they have none of their own.
    #[must_use]
    pub fn under(token: Option<u64>) -> Self {
        Self { token, ..Self::default() }
    }

    /// An empty one under the same token.
    #[must_use]
    pub fn next(&self) -> Self {
        Self::under(self.token)
    }

    /// Takes a line in, by its number.
    pub fn line(&mut self, number: u64, line: &[u8], precision: Option<Unit>) {
        match line::parse(line, precision) {
            Ok(drafts) => drafts.into_iter().for_each(|draft| self.draft(number, draft)),
            Err(reason) => self.error(number, reason),
        }
    }

    /// Takes a reading in, by its line.
    pub fn draft(&mut self, number: u64, draft: Draft) {
        self.drafts.push(Draft { token: draft.token.or(self.token), ..draft });
        self.lines.push(number);
    }

    /// A line cannot be taken in.
    pub fn error(&mut self, number: u64, reason: String) {
        self.errors.push((number, reason));
    }

    /// As many readings as travel together have come, or as many lines are no readings.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.drafts.len().max(self.errors.len()) >= BATCH_READINGS_MAX
    }

    /// It says nothing at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.drafts.is_empty() && self.errors.is_empty()
    }

    /// How many readings it has.
    #[must_use]
    pub fn readings_count(&self) -> usize {
        self.drafts.len()
    }

    /// How many lines cannot be taken in.
    #[must_use]
    pub fn errors_count(&self) -> usize {
        self.errors.len()
    }
}

/// What became of a message.
#[derive(Debug, PartialEq, Eq)]
pub struct Told {
    /// How far those that are stored have come, all of them.
    pub level: Level,
    /// How many those are.
    pub stored: usize,
    /// Lines of which something is not stored and why, in their order.
    pub refused: Vec<(u64, String)>,
    /// Why readings were refused together, for a reason that is none of theirs.
    pub refusal: Option<String>,
}

/// Readings on their way, and whose they are.
pub struct Pending {
    arrivals: Vec<(Arrivals, oneshot::Receiver<Reply>)>,
    lines: Vec<u64>,
    errors: Vec<(u64, String)>,
}

/// See the module's description.
#[derive(Clone, Debug)]
pub struct Desk {
    caller: Caller,
    clock: BoardClock,
    stamps: Arc<Mutex<Stamps>>,
    window_ms: u64,
}

impl Desk {
    /// `window_ms` is how long what need not be committed at once waits for more.
    #[must_use]
    pub fn new(caller: Caller, clock: BoardClock, window_ms: u64) -> Self {
        Self { caller, clock, stamps: Arc::default(), window_ms }
    }

    /// Hands a message on and waits for what becomes of it; `None` when the agent stops.
    pub async fn store(&self, message: Message, until: Level) -> Option<Told> {
        let pending = self.begin(message, until).await?;
        self.end(pending).await
    }

    /// Hands a message on: what is begun first is stored first.
    pub async fn begin(&self, message: Message, until: Level) -> Option<Pending> {
        let Message { drafts, lines, errors, token: _ } = message;
        let mut readings = self.stamped(drafts).into_iter();
        let window_ms = match until {
            Level::Spooled => self.window_ms,
            Level::Committed => 0,
        };
        let mut pending = Pending { arrivals: Vec::new(), lines, errors };
        loop {
            let some: Vec<Reading> = readings.by_ref().take(BATCH_READINGS_MAX).collect();
            if some.is_empty() {
                return Some(pending);
            }
            let arrivals = Arrivals { readings: some, until, window_ms };
            let reply = self.caller.begin(Request::Readings(arrivals.clone())).await?;
            pending.arrivals.push((arrivals, reply));
        }
    }

    fn stamped(&self, drafts: Vec<Draft>) -> Vec<Reading> {
        let mut stamps = self.stamps.lock().unwrap_or_else(PoisonError::into_inner);
        let mut now = None;
        let stamped = drafts.into_iter().map(|draft| {
            let Draft { sensor, value, time, id, token } = draft;
            let Stamp { time, is_far } = match time {
                Some(time) => Stamp { time, is_far: self.clock.is_far(time) },
                None => {
                    let now = now.get_or_insert_with(|| self.clock.stamp());
                    Stamp { time: stamps.next(&sensor, now.time), is_far: now.is_far }
                }
            };
            Reading { sensor, time, value, id, token, is_far }
        });
        stamped.collect()
    }

    /// Waits for what becomes of it.
    pub async fn end(&self, pending: Pending) -> Option<Told> {
        let Pending { arrivals, lines, errors } = pending;
        let mut told = Told { level: Level::Committed, stored: 0, refused: errors, refusal: None };
        let mut lines = lines.as_slice();
        for (arrivals, reply) in arrivals {
            let (own, rest) = lines.split_at(arrivals.readings.len().min(lines.len()));
            lines = rest;
            match self.answered(&arrivals, reply.await.ok()?).await? {
                Ok(receipt) => {
                    let refused = receipt.refused.into_iter().filter_map(|(place, reason)| {
                        Some((*own.get(usize::try_from(place).ok()?)?, reason))
                    });
                    let before = told.refused.len();
                    told.refused.extend(refused);
                    let stored = own.len().saturating_sub(told.refused.len() - before);
                    if stored > 0 {
                        told.level = told.level.min(receipt.level);
                    }
                    told.stored += stored;
                }
                Err(reason) => {
                    told.refused.extend(own.iter().map(|line| (*line, reason.clone())));
                    told.refusal = Some(reason);
                }
            }
        }
        told.refused.sort_by_key(|(line, _)| *line);
        Some(told)
    }

    /// The loop's answer, once it has room; or why it takes none of these.
    async fn answered(
        &self,
        arrivals: &Arrivals,
        mut reply: Reply,
    ) -> Option<Result<Receipt, String>> {
        loop {
            match reply {
                Reply::Done { answer, .. } => {
                    let receipt = sql::decode::<Receipt>(&answer);
                    return Some(receipt.map_err(|_| String::from("the answer is unreadable")));
                }
                Reply::Refused(Refusal::Busy) => {
                    tokio::time::sleep(BUSY).await;
                    reply = self.caller.request(Request::Readings(arrivals.clone())).await?;
                }
                Reply::Refused(refusal) => return Some(Err(refusal.to_string())),
            }
        }
    }
}
