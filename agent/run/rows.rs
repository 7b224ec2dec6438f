//! What the loop does by rows of the group: its settings hold from the moment they are applied,
//! and the board that leads has the group go by what all boards have come to know.
//!
//! Invariant: a board of a group that has gone beyond this program does nothing more.

use tracing::error;
use understudy_core::{
    event::{Event, Millis, ReadLevel, Reply, Request},
    sql::{self, SqlResponse},
};

use super::{Member, Waiter};
use crate::{retention, settings, turn::Turn, version};

/// Between two looks at the group's settings, while entries are applied.
const SETTINGS_MS: u64 = 500;

/// Between two tries to have the group go by another version.
const RAISE_MS: u64 = 2_000;

impl Member {
    /// Settings are rows like any other: what was applied since the last look may
    /// have changed them. A board whose rows are wrong elsewhere follows them too;
    /// a witness, which keeps none, is told of them.
    pub(super) fn look_at_settings(&mut self, now: Millis) {
        self.drivers.road.set_patience(self.node.timing().leader_silent_ms());
        if self.node.is_witness() {
            if let Some(told) = self.node.take_settings() {
                self.follow(now, &told);
            }
            return;
        }
        let (seen, looked) = self.settings;
        if self.node.applied().index == seen || now.since(looked) < SETTINGS_MS {
            return;
        }
        self.settings.1 = now;
        let id = self.wait(Waiter::Settings);
        let mut wish = settings::read_all();
        wish.statements.extend(retention::read_obstacle().statements);
        let sql = sql::encode(&wish);
        let request = Request::Read { level: ReadLevel::Own, sql };
        self.happen(Event::Requested { id, request });
    }

    /// What cannot be read now is looked at again.
    pub(super) fn take_settings(&mut self, now: Millis, reply: &Reply) {
        let Reply::Done { index, answer } = reply else { return };
        let Ok(response) = sql::decode::<SqlResponse>(answer) else { return };
        self.facts.not_trimmed = retention::obstacle(&response);
        let Some(stored) = settings::rows(response) else { return };
        self.settings.0 = *index;
        self.follow(now, &stored);
    }

    /// Goes by what the group has set. One that has gone beyond this program ends it: what
    /// comes next it may not understand. Where rows are kept the database ends it sooner, with
    /// the entry itself; a witness, which is told of them, understands all that it keeps.
    pub fn follow(&mut self, now: Millis, stored: &[(String, String)]) {
        if let Some(reason) = version::too_new(stored) {
            error!(reason, "this board cannot go on");
            std::process::abort();
        }
        settings::follow(&mut self.node, now, stored);
        let own = Turn { board: self.facts.identity.node, start: self.facts.boot };
        self.turn.learn(stored, own);
        self.facts.turn = Turn::among(stored).map(|turn| turn.board);
        self.suit_journal();
    }

    /// Before anything is journalled that comes of what the group goes by: the file says which
    /// release reads it.
    pub(super) fn suit_journal(&self) {
        // Where too much waits it is said again with the next look at the settings.
        let _ = self.drivers.journal.suit(self.node.version());
    }

    /// Others may be started anew once this board makes a majority with the rest again.
    pub(super) fn give_turn_back(&mut self, now: Millis) {
        let node = &self.node;
        let is_back = || {
            let seen = node.status(now);
            seen.leader.is_some() && seen.pulls.is_none() && !seen.confirming_disk
        };
        if let Some((step, request)) = self.turn.due(now, is_back) {
            let id = self.wait(Waiter::Turn(step));
            self.happen(Event::Requested { id, request });
        }
    }

    /// The board that leads has the group go by what all its boards know.
    pub(super) fn raise_version(&mut self, now: Millis) {
        let Some(version) = self.node.version_due(now) else { return };
        let last = self.node.membership().members.iter().map(|member| member.id).max();
        if let Some(last) = last.filter(|_| now.since(self.raised) >= RAISE_MS) {
            self.raised = now;
            let request = Request::Write(sql::encode(&version::raise(version, last)));
            let id = self.wait(Waiter::Version);
            self.happen(Event::Requested { id, request });
        }
    }
}
