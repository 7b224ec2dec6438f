//! Up to where the world was told: left by whoever publishes as the checkpoint of its duty,
//! so that the next board goes on there. What was told after it was left last is told
//! again, and no more than that: see [`Position::is_due`].

use serde::{Deserialize, Serialize};
use understudy_core::event::{Millis, ReadLevel};

use super::{Stage, sql};
use crate::{driver::clock, duties, feed::Place};

/// Left at the latest after so many messages,
const MESSAGES_MAX: u64 = 1_000;

/// or so long after the first of them, milliseconds: each time is an entry of the log.
const OPEN_MS_MAX: u64 = 60_000;

/// Between two tries to leave it, milliseconds.
const AGAIN_MS: u64 = 1_000;

/// See the module's description. Fields only grow.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Left {
    /// The last reading, as [`Place`] is written; none before the first.
    place: Option<String>,
    /// Its time, or that of one before it: microseconds since 1970.
    time: Option<i64>,
    /// The last row of the history, by its number.
    history: i64,
}

/// See the module's description.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// The last reading that was told; none before the first.
    pub place: Option<Place>,
    /// The latest time that any had, microseconds since 1970.
    pub time: Option<i64>,
    /// The last row of the history that was told, by its number; 0 before the first.
    pub history: i64,
    /// Messages since it was left, and when the first of them was told.
    open: Option<(u64, Millis)>,
    /// Where it could not be left it is tried again, and not at once.
    not_before: Millis,
}

impl Position {
    /// As it was left last; the beginning where it never was.
    ///
    /// # Errors
    /// In words, where that cannot be known now.
    pub async fn read(stage: &Stage) -> Result<Self, String> {
        let level = ReadLevel::Linearizable { timeout_ms: None };
        let answer = sql::read(&stage.caller, level, &duties::left(&stage.duty)).await?;
        let left = duties::what_was_left(answer)?;
        let unreadable = |error| format!("what was left for {}: {error}", stage.duty);
        let left: Left = match left {
            Some(bytes) => serde_json::from_slice(&bytes).map_err(unreadable)?,
            None => Left::default(),
        };
        let place = left.place.as_deref().and_then(Place::parse);
        let Left { time, history, .. } = left;
        Ok(Self { place, time, history, ..Self::default() })
    }

    /// Where it was never left, it begins here: whoever is next must know that before
    /// anything is told.
    ///
    /// # Errors
    /// As of [`Self::leave`].
    pub async fn begin(&mut self, stage: &Stage, token: u64, here: Place) -> Result<(), String> {
        if self.place.is_none() {
            let (place, time) = (Some(here), stage.clock.wall_us());
            let mut begun = Self { place, time, ..self.clone() };
            begun.told(clock::now(), 0);
            begun.leave(stage, token).await?;
            *self = begun;
        }
        Ok(())
    }

    /// All up to this time was told, or it is that of one that was; no sensor's clock counts
    /// for more than this board's, where that is known. Microseconds since 1970.
    pub fn reach(&mut self, time: Option<i64>, now: Option<i64>) {
        let time = time.map(|time| now.map_or(time, |now| time.min(now)));
        self.time = self.time.max(time);
    }

    /// So many messages more were told.
    pub fn told(&mut self, now: Millis, messages: usize) {
        let (before, since) = self.open.unwrap_or((0, now));
        self.open = Some((before + messages as u64, since));
    }

    /// Is it to be left again?
    #[must_use]
    pub fn is_due(&self, now: Millis) -> bool {
        self.due_in_ms(now) == Some(0)
    }

    /// When it is, if nothing more is told, milliseconds from now.
    #[must_use]
    pub fn due_in_ms(&self, now: Millis) -> Option<u64> {
        let (messages, since) = self.open?;
        let open = if messages >= MESSAGES_MAX { 0 } else { OPEN_MS_MAX };
        let at = since.plus(open).max(self.not_before);
        Some(at.since(now))
    }

    /// Leaves it to whoever goes on, where anything was told since it was left.
    ///
    /// # Errors
    /// In words, where that cannot be: it stays due.
    pub async fn leave(&mut self, stage: &Stage, token: u64) -> Result<(), String> {
        if self.open.is_none() {
            return Ok(());
        }
        let place = self.place.map(|place| place.to_string());
        let left = Left { place, time: self.time, history: self.history };
        let bytes = serde_json::to_vec(&left).map_err(|error| error.to_string())?;
        self.not_before = clock::now().plus(AGAIN_MS);
        sql::write(&stage.caller, &duties::leave(stage.fence(token), bytes)?).await?;
        (self.open, self.not_before) = (None, Millis(0));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_left_after_so_many_messages_or_so_long() {
        let mut position = Position::default();
        assert!(!position.is_due(Millis(u64::MAX)), "there is nothing to leave");
        position.told(Millis(5), 999);
        assert!(!position.is_due(Millis(60_004)) && position.is_due(Millis(60_005)));
        assert_eq!(position.due_in_ms(Millis(20_005)), Some(40_000));
        position.told(Millis(6), 1);
        assert!(position.is_due(Millis(6)));
        position.not_before = Millis(1_006);
        assert!(!position.is_due(Millis(1_005)) && position.is_due(Millis(1_006)));
        position.reach(Some(70), Some(60));
        position.reach(Some(50), None);
        position.reach(None, Some(90));
        assert_eq!(position.time, Some(60), "no sensor is ahead of the board");
    }
}
