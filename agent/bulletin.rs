//! How the group's duties stand, told to whoever listens: all of them at first, then each
//! change, as this board comes to know it.
//!
//! A listener that is slow loses what there is no room for, knows it, and asks for all
//! anew; nothing here waits for it. While nobody listens nothing is compared.
//!
//! Left out: what is true of a duty on this board alone, which `GET /duties` has.

use serde::Serialize;
use tokio::sync::broadcast;

use crate::status::DutyStatus;

/// Listeners at a time: each costs this board a message for each change.
const LISTENERS_MAX: usize = 32;

/// Changes on their way to a listener.
const CHANGES_MAX: usize = 64;

/// In a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It is granted to a board.
    Held,
    /// It is granted to none.
    Free,
    /// The same, because somebody wished so.
    Paused,
    /// There is no such duty any more.
    Removed,
}

/// A duty, as listeners get it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DutyNews {
    /// Its name.
    pub name: String,
    /// In a word.
    pub state: State,
    /// Fencing token: that of the grant, or of its end.
    pub token: u64,
    /// Name of the board it is granted to.
    pub holder: Option<String>,
    /// Nobody is to hold it for now.
    pub paused: bool,
    /// The board that it is about to go to.
    pub wanted: Option<String>,
}

impl DutyNews {
    fn of(duty: DutyStatus) -> Self {
        let DutyStatus { name, token, holder, paused, wanted, .. } = duty;
        let state = match (&holder, paused) {
            (Some(_), _) => State::Held,
            (None, true) => State::Paused,
            (None, false) => State::Free,
        };
        Self { name, state, token, holder, paused, wanted }
    }

    fn removed(self) -> Self {
        Self { state: State::Removed, holder: None, wanted: None, ..self }
    }
}

/// What a listener begins with.
#[derive(Debug)]
pub struct Listening {
    /// All duties as they stand.
    pub all: Vec<DutyNews>,
    /// Every change from there on.
    pub changes: broadcast::Receiver<DutyNews>,
}

/// See the module's description.
pub struct Bulletin {
    listeners: broadcast::Sender<DutyNews>,
    told: Vec<DutyNews>,
    seen: Option<u64>,
}

impl Default for Bulletin {
    fn default() -> Self {
        Self { listeners: broadcast::Sender::new(CHANGES_MAX), told: Vec::new(), seen: None }
    }
}

impl Bulletin {
    /// Somebody listens from now on, to duties that stand so.
    ///
    /// # Errors
    /// When too many do already.
    pub fn listen(&mut self, duties: Vec<DutyStatus>) -> Result<Listening, String> {
        if self.listeners.receiver_count() >= LISTENERS_MAX {
            return Err(format!("{LISTENERS_MAX} listen to duties on this board already"));
        }
        self.tell(duties);
        let (all, changes) = (self.told.clone(), self.listeners.subscribe());
        Ok(Listening { all, changes })
    }

    /// Tells what has changed since the last look, where anybody listens.
    pub fn look(&mut self, changes: u64, duties: impl FnOnce() -> Vec<DutyStatus>) {
        if self.seen == Some(changes) || self.listeners.receiver_count() == 0 {
            return;
        }
        self.seen = Some(changes);
        self.tell(duties());
    }

    fn tell(&mut self, duties: Vec<DutyStatus>) {
        let now: Vec<DutyNews> = duties.into_iter().map(DutyNews::of).collect();
        let before = std::mem::replace(&mut self.told, now.clone());
        let is_there = |news: &DutyNews| now.iter().any(|duty| duty.name == news.name);
        let removed = before.iter().filter(|duty| !is_there(duty)).cloned();
        let changed = now.iter().filter(|duty| !before.contains(duty)).cloned();
        for news in removed.map(DutyNews::removed).chain(changed) {
            // Nobody may listen any more.
            let _ = self.listeners.send(news);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn duty(name: &str, token: u64, holder: Option<&str>) -> DutyStatus {
        let (name, holder) = (name.to_owned(), holder.map(String::from));
        DutyStatus { name, token, holder, ..DutyStatus::default() }
    }

    fn heard(listening: &mut Listening) -> Vec<(String, State, u64)> {
        let next = std::iter::from_fn(|| listening.changes.try_recv().ok());
        next.map(|news| (news.name, news.state, news.token)).collect()
    }

    #[test]
    fn all_is_told_at_first_and_then_each_change_and_nothing_else() {
        let mut bulletin = Bulletin::default();
        bulletin.look(1, || panic!("nobody listens"));
        let mut listening = bulletin.listen(vec![duty("pump", 7, Some("a"))]).unwrap();
        assert_eq!((listening.all.len(), listening.all[0].state), (1, State::Held));
        bulletin.look(2, || vec![DutyStatus { held: true, ..duty("pump", 7, Some("a")) }]);
        assert!(heard(&mut listening).is_empty(), "what is true of this board alone is no news");
        bulletin.look(2, || panic!("nothing has changed"));
        bulletin.look(3, || vec![duty("pump", 8, None), duty("fan", 0, None)]);
        let paused = DutyStatus { paused: true, ..duty("fan", 0, None) };
        bulletin.look(4, || vec![paused]);
        let (pump, fan) = (String::from("pump"), String::from("fan"));
        let expected = [
            (pump.clone(), State::Free, 8),
            (fan.clone(), State::Free, 0),
            (pump, State::Removed, 8),
            (fan, State::Paused, 0),
        ];
        assert_eq!(heard(&mut listening), expected);
    }

    #[test]
    fn listeners_are_bounded_and_a_slow_one_knows_that_it_has_missed_something() {
        let mut bulletin = Bulletin::default();
        let mut all: Vec<Listening> =
            (0..LISTENERS_MAX).map(|_| bulletin.listen(Vec::new()).unwrap()).collect();
        assert!(bulletin.listen(Vec::new()).unwrap_err().contains("32 listen"));
        for token in 0..=CHANGES_MAX as u64 {
            bulletin.look(token, || vec![duty("pump", token, None)]);
        }
        let missed = all[0].changes.try_recv();
        assert!(matches!(missed, Err(broadcast::error::TryRecvError::Lagged(1))), "{missed:?}");
        drop(all);
        assert!(bulletin.listen(Vec::new()).is_ok());
    }
}
