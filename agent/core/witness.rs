//! A board that votes and keeps the log's tail, and none of the users' rows: with it
//! two boards that do are a group in which one takes over from the other.
//!
//! What was acknowledged while one of the two was away is on the other, and in the
//! witness's log, which keeps all that some board with the rows does not hold for good:
//! the leader tells it up to where all of them do, or it knows that itself. Where that
//! comes to more than its log may take, or where it begins behind it (it took no more
//! of the past than its place in it), one board alone has all. Then nothing is written
//! for users, until the group has set that it is; with that the witness gives up what
//! is too much, and says so for as long as it matters.
//!
//! It leads where nobody else can, for only its log has all; it proposes nothing, gives
//! the others what they lack, and leadership to the first that has it.
//!
//! The group's settings are rows, which it does not keep: the leader tells them.
//!
//! Left out: when a witness votes (`roster`), what it gives up (`retention`), and how
//! it takes its place in the log when that begins elsewhere (`catchup`).

use alloc::{string::String, vec::Vec};

use crate::{
    error::{Refusal, Rejection},
    event::{Effect, Millis, NodeId, Request},
    limits, mutant,
    node::Node,
    pages::Work,
    sql,
    wire::Frame,
};

/// A setting of the group: its name and its value.
pub(crate) type Setting = (String, String);

/// What a witness has of the log, as it says itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tail {
    /// First index.
    pub(crate) first: u64,
    /// It takes more than it may.
    pub(crate) is_full: bool,
    /// Before this index it lacks what some board with the rows may lack too; 0 for no.
    pub(crate) lacks: u64,
}

/// See the module's description.
#[derive(Default)]
pub(crate) struct Witnessing {
    /// The group goes on writing with one copy.
    one_copy: bool,
    /// As the leader told them, or as they are to be told.
    settings: Vec<Setting>,
    has_news: bool,
    /// The database does not have them yet,
    is_unsaved: bool,
    /// but is about to get some, by this effect.
    saving: Option<u64>,
    /// What this leader told the witness last, and at which tick.
    told: Option<(u64, Frame)>,
    /// What the witness said in which term.
    tail: Option<(u64, Tail)>,
    /// What this witness said last, in which term and at which tick.
    said: Option<(u64, u64, Tail)>,
    /// The leader of this term has told it something.
    is_told: Option<u64>,
}

impl Node {
    /// Does this board keep none of the users' rows?
    #[must_use]
    pub const fn is_witness(&self) -> bool {
        self.config.witness
    }

    /// What a witness's log may take, bytes.
    pub const fn set_witness_log(&mut self, bytes: u64) {
        self.retention.set_budget(bytes);
    }

    /// May the group go on writing while one board alone has all?
    pub const fn set_one_copy(&mut self, is_allowed: bool) {
        self.witnessing.one_copy = is_allowed;
    }

    /// What the group has set, as this board's rows say: a leader tells its witness.
    pub fn set_settings(&mut self, settings: Vec<Setting>) {
        self.witnessing.settings = settings;
    }

    /// What the group has set, as a leader has told this witness since the last call.
    pub fn take_settings(&mut self) -> Option<Vec<Setting>> {
        core::mem::take(&mut self.witnessing.has_news).then(|| self.witnessing.settings.clone())
    }

    /// The witness that votes, if there is one.
    fn voting_witness(&self) -> Option<NodeId> {
        self.voting_witnesses().first().copied()
    }

    /// Up to where all that vote and keep the rows hold everything for good, as far as
    /// this leader knows.
    fn held_by_all(&self) -> u64 {
        let members = &self.membership;
        let mut voters = members.voters();
        voters.extend(&members.outgoing);
        voters.retain(|id| !members.is_witness(*id));
        let matched = |id: &NodeId| self.matched(*id);
        voters.iter().map(matched).min().unwrap_or(0)
    }

    /// What the witness said last to this leader.
    fn tail(&self) -> Option<Tail> {
        let (term, tail) = self.witnessing.tail?;
        (term == self.raw.raft.term && self.leads()).then_some(tail)
    }

    /// Would the witness, voting beside these, have all that one of them lacks?
    pub(crate) fn has_tail_for(&self, voters: &[NodeId]) -> bool {
        if !voters.iter().any(|id| self.membership.is_witness(*id)) || mutant::is(54) {
            return true;
        }
        let Some(tail) = self.tail() else { return false };
        let mut others = voters.iter().filter(|id| !self.membership.is_witness(**id));
        others.all(|id| self.matched(*id) + 1 >= tail.first)
    }

    pub(crate) fn tick_witness(&mut self, now: Millis) {
        if self.leads() && !self.membership.witnesses.is_empty() {
            let held = self.held_by_all();
            self.retention.set_held(held);
            self.tell_witnesses(now, held);
        }
        if self.is_witness() {
            // One that does not vote holds nothing for anybody.
            let members = &self.membership;
            let counts = self.is_voter() || members.outgoing.contains(&self.config.id);
            let gives_up = self.witnessing.one_copy || !counts || mutant::is(53);
            self.retention.set_gives_up(gives_up);
            self.say_tail(now);
            self.save_settings();
            // Nothing may be written that it could go with.
            if self.retention.is_full()
                && self.pending.is_empty()
                && !self.catchup.is_busy()
                && let Some(cut) = self.next_cut(now)
            {
                self.persist_cut(cut);
            }
        }
    }

    /// At once where there is news, but not all the time; else now and then.
    fn tell_witnesses(&mut self, now: Millis, index: u64) {
        let (term, settings) = (self.raw.raft.term, self.witnessing.settings.clone());
        let frame = Frame::Held { term, index, settings };
        let is_due = self.witnessing.told.as_ref().is_none_or(|(tick, told)| {
            let age = self.ticks - tick;
            age >= limits::OTHERS_TICKS || age >= limits::OTHERS_TICKS_MIN && *told != frame
        });
        if !is_due {
            return;
        }
        for id in self.membership.witnesses.clone() {
            if id != self.config.id {
                self.say(now, id, &frame);
            }
        }
        self.witnessing.told = Some((self.ticks, frame));
    }

    /// A leader tells this witness what it knows.
    pub(crate) fn on_held(
        &mut self,
        from: NodeId,
        (term, index): (u64, u64),
        settings: Vec<Setting>,
    ) -> Result<(), Rejection> {
        let fits = |text: &String| text.len() <= limits::NAME_BYTES_MAX;
        let fit = settings.iter().all(|(name, value)| fits(name) && fits(value));
        if settings.len() > limits::SETTINGS_MAX || !fit || index >= limits::COUNTER_MAX {
            return Err(Rejection::Malformed);
        }
        let is_leader = self.leader() == Some(from) && self.raw.raft.term == term;
        if !self.is_witness() || !is_leader {
            return Ok(());
        }
        self.retention.set_held(index);
        self.witnessing.is_told = Some(term);
        if self.witnessing.settings != settings && !settings.is_empty() {
            self.witnessing.settings.clone_from(&settings);
            self.witnessing.has_news = true;
            self.witnessing.is_unsaved = true;
        }
        Ok(())
    }

    /// One write at a time: a leader may say as much as it likes.
    fn save_settings(&mut self) {
        if !self.witnessing.is_unsaved || self.witnessing.saving.is_some() {
            return;
        }
        let (number, settings) = (self.number(), self.witnessing.settings.clone());
        self.effects.push(Effect::Pages { number, work: Work::Settings { settings } });
        self.witnessing.saving = Some(number);
        self.witnessing.is_unsaved = false;
    }

    /// The database has them, unless it loses its transaction.
    pub(crate) fn on_settings_put(&mut self, number: u64) {
        self.witnessing.saving.take_if(|open| *open == number);
    }

    /// The database fell back: what it got may be lost.
    pub(crate) fn save_settings_again(&mut self) {
        self.witnessing.saving = None;
        self.witnessing.is_unsaved = self.is_witness() && !self.witnessing.settings.is_empty();
    }

    fn own_tail(&self) -> Tail {
        let (is_full, lacks) = (self.retention.is_full(), self.retention.lacks());
        Tail { first: self.raw.raft.raft_log.first_index(), is_full, lacks }
    }

    /// A leader hears of it at once, and until it answers; then when that changes, and
    /// now and then.
    fn say_tail(&mut self, now: Millis) {
        let term = self.raw.raft.term;
        let Some(leader) = self.leader().filter(|id| *id != self.config.id) else { return };
        let tail = self.own_tail();
        let is_due = self.witnessing.said.is_none_or(|(said_term, tick, said)| {
            let age = self.ticks - tick;
            let is_known = self.witnessing.is_told == Some(term);
            let differs = (said.is_full, said.lacks) != (tail.is_full, tail.lacks);
            said_term != term
                || differs
                || age >= limits::OTHERS_TICKS
                || !is_known && age >= limits::TAIL_TICKS
        });
        if is_due {
            let Tail { first, is_full, lacks } = tail;
            self.say(now, leader, &Frame::Tail { term, first, is_full, lacks });
            self.witnessing.said = Some((term, self.ticks, tail));
        }
    }

    /// A witness tells this leader what it has.
    pub(crate) fn on_tail(&mut self, from: NodeId, term: u64, tail: Tail) {
        let is_current = self.leads() && self.raw.raft.term == term;
        if is_current && self.membership.is_witness(from) {
            if self.tail().is_none() {
                // Its answer tells that this was heard.
                self.witnessing.told = None;
            }
            self.witnessing.tail = Some((term, tail));
        }
    }

    /// One board alone may have all that is written next, for the witness cannot keep it.
    pub(crate) fn has_one_copy(&self, now: Millis) -> bool {
        if self.is_witness() {
            return self.is_voter() && (self.retention.is_full() || self.retention.lacks() > 0);
        }
        let (Some(witness), Some(tail)) = (self.voting_witness(), self.tail()) else {
            return false;
        };
        self.held_by_all() < tail.lacks || tail.is_full && self.is_here(now, witness)
    }

    /// Does the group write with one copy?
    pub(crate) const fn may_have_one_copy(&self) -> bool {
        self.witnessing.one_copy
    }

    /// The witness can be heard and has not said yet what it has.
    pub(crate) fn waits_for_tail(&self, now: Millis) -> bool {
        let here = self.voting_witness().filter(|id| self.is_here(now, *id));
        here.is_some() && self.tail().is_none()
    }

    /// Users' writes are refused where one board alone would have them. What the agents
    /// write is little, and among it is what allows the rest.
    pub(crate) fn refuse_one_copy(&mut self, now: Millis) {
        if self.witnessing.one_copy || !self.has_one_copy(now) {
            return;
        }
        let grows = |request: &Request| match request {
            Request::Write(sql) => sql::is_users(sql),
            Request::Read { .. }
            | Request::Admit(_)
            | Request::Rename { .. }
            | Request::Scrub
            | Request::Repair { .. }
            | Request::Member(_)
            | Request::Readings(_) => false,
        };
        let answered = self.writes.refuse_those(grows, &Refusal::OneCopy);
        self.answer_all(now, answered);
    }

    /// What a witness cannot do, and which board can.
    pub(crate) fn refusal_of_witness(&self) -> Refusal {
        let data = |id: &NodeId| !self.membership.is_witness(*id);
        let leader = self.leader().filter(data);
        let known = |id: &NodeId| data(id) && self.heard.contains_key(id);
        let board = leader
            .or_else(|| self.boards().into_iter().find(known))
            .or_else(|| self.boards().into_iter().find(data));
        let name = board.and_then(|id| self.membership.member(id)).map(|m| m.name.clone());
        let http = board.map(|id| self.http_of(id)).unwrap_or_default();
        Refusal::Witness { board: name.unwrap_or_default(), http }
    }
}

#[cfg(test)]
#[path = "witness_tests.rs"]
mod tests;
