//! raft-rs's wishes, turned into effects in the order that keeps its promises.
//!
//! "Send only after durable" is kept here: a message that claims something is on
//! disk waits until the write it belongs to is. Two exceptions, both safe and
//! both needed by a board with a slow card: a leader's own messages go out at
//! once (Raft thesis, 10.2.1), and answers to heartbeats do not wait for an
//! append under way (raft-rs puts them behind it). Neither leaves while the
//! present term or vote is not on disk: then everything waits.
//!
//! A wish with nothing to write keeps its place behind older ones and is
//! confirmed when it reaches the front; else raft-rs would stall.

use alloc::vec::Vec;

use raft::{
    Ready, StateRole,
    prelude::{Message, MessageType},
};

use crate::{
    apply::Step,
    event::{Effect, Entry, EntryKind, HardState, Millis, Outcome, Position},
    limits::APPLY_BYTES_MAX,
    log::{RaftEntry, conf_change, from_raft},
    member::MembershipChange,
    mutant,
    node::Node,
    promise::Standing,
    validate,
    wire::Frame,
};

/// A ready that is not durable yet.
pub(crate) struct Pending {
    number: u64,
    /// What is being written with it; `None` when there is nothing to write.
    writes: Option<HardState>,
    messages: Vec<Message>,
}

impl Node {
    /// Takes everything raft-rs has to say.
    pub(crate) fn drain_raft(&mut self, now: Millis) {
        while self.raw.has_ready() {
            let ready = self.raw.ready();
            self.take_ready(now, ready);
        }
        for wish in self.raw.mut_store().take_wishes() {
            self.effects.push(Effect::Fetch {
                // Fetches for sending carry the index they start from; the
                // applier's own are told apart by their numbers.
                number: wish.low | FETCH_FOR_SENDING,
                low: wish.low,
                high: wish.high,
                bytes_max: crate::limits::APPEND_BYTES_MAX,
            });
        }
    }

    fn take_ready(&mut self, now: Millis, mut ready: Ready) {
        let number = ready.number();
        for state in ready.take_read_states() {
            self.reads.confirmed(&state.request_ctx, state.index);
        }
        if let Some(last) = ready.committed_entries().last() {
            self.applier.commit(last.index);
        }
        let entries = ready.take_entries();
        self.raw.mut_store().append(&entries);
        let must_sync = ready.must_sync();
        let immediate = ready.take_messages();
        let persisted = ready.take_persisted_messages();
        self.raw.advance_append_async(ready);
        let unsaved = self.is_unsaved();
        let mut held = Vec::new();
        self.release(now, immediate, |_| !unsaved, &mut held);
        self.release(now, persisted, |message| !unsaved && claims_nothing(message), &mut held);
        let writes = must_sync.then(|| self.current_hard_state());
        if let Some(hard_state) = writes {
            self.persist(number, &entries, hard_state);
        }
        self.pending.push_back(Pending { number, writes, messages: held });
        self.confirm_front(now, 0);
        self.note_role(now);
    }

    /// The present term or vote is not on this disk yet.
    fn is_unsaved(&self) -> bool {
        let raft = &self.raw.raft;
        (raft.term, raft.vote) != (self.durable.term, self.durable.vote)
    }

    /// Sends what may go now, keeps the rest.
    fn release(
        &mut self,
        now: Millis,
        messages: Vec<Message>,
        may_go: impl Fn(&Message) -> bool,
        held: &mut Vec<Message>,
    ) {
        for message in messages {
            if may_go(&message) || mutant::is(3) {
                self.send(now, &message);
            } else {
                held.push(message);
            }
        }
    }

    fn send(&mut self, now: Millis, message: &Message) {
        if self.standing != Standing::Sure {
            return;
        }
        let committed = self.raw.raft.raft_log.committed;
        if let Some(frame) = validate::outbound(message, committed) {
            self.say(now, message.to, &Frame::Raft(frame));
        }
    }

    fn persist(&mut self, number: u64, entries: &[RaftEntry], hard_state: HardState) {
        self.effects.push(Effect::Persist {
            number,
            entries: entries.iter().map(from_raft).collect(),
            hard_state,
            promises: self.promises.take_unsaved(),
            confirmed: core::mem::take(&mut self.confirmed),
        });
    }

    fn current_hard_state(&self) -> HardState {
        let hs = self.raw.raft.hard_state();
        HardState { term: hs.term, vote: hs.vote, commit: hs.commit }
    }

    /// The journal has everything up to `number`.
    pub(crate) fn on_persisted(&mut self, now: Millis, number: u64) {
        self.confirm_front(now, number);
    }

    /// Confirms readies from the front: those the journal has up to `number`, and
    /// those behind them that have nothing to write.
    fn confirm_front(&mut self, now: Millis, number: u64) {
        while self
            .pending
            .front()
            .is_some_and(|pending| pending.writes.is_none() || pending.number <= number)
        {
            let pending = self.pending.pop_front().expect("just seen");
            if let Some(hard_state) = pending.writes {
                self.durable = hard_state;
            }
            self.raw.on_persist_ready(pending.number);
            for message in pending.messages {
                self.send(now, &message);
            }
        }
    }

    /// Tells the driver when leadership came or went, and callers what follows.
    fn note_role(&mut self, now: Millis) {
        let leads = self.raw.raft.state == StateRole::Leader;
        if leads == self.led {
            return;
        }
        self.led = leads;
        self.effects.push(Effect::RoleChanged { leads });
        if !leads {
            self.turn_away(now);
        }
    }

    /// Hands committed entries to the database, as far as it has room.
    pub(crate) fn apply_committed(&mut self) {
        while let Some(step) = self.applier.next(self.raw.store()) {
            match step {
                Step::Apply(entries) => self.hand_to_database(entries),
                Step::Fetch { low, high } => {
                    let number = self.number();
                    self.applier.fetching(number);
                    let bytes_max = APPLY_BYTES_MAX;
                    self.effects.push(Effect::Fetch { number, low, high, bytes_max });
                }
            }
        }
    }

    fn hand_to_database(&mut self, entries: Vec<Entry>) {
        let number = self.number();
        self.applier.handed(number, &entries);
        self.effects.push(Effect::Apply { number, resets: self.resets, entries });
    }

    /// Entries came back from the journal: for a follower far behind, or for the
    /// database after it lost its transaction.
    pub(crate) fn on_fetched(&mut self, number: u64, entries: Vec<Entry>) {
        if self.applier.fetched(number) {
            self.hand_to_database(entries);
        } else if number & FETCH_FOR_SENDING != 0 {
            let low = number & !FETCH_FOR_SENDING;
            for context in self.raw.mut_store().fetched(low, entries) {
                self.raw.on_entries_fetched(context);
            }
        }
    }

    /// The database has applied entries: tell raft-rs, change the membership,
    /// answer who waited.
    pub(crate) fn on_applied(&mut self, now: Millis, number: u64, outcomes: Vec<Outcome>) {
        for (position, outcome) in self.applier.done(number, outcomes) {
            if position.index > self.raw.raft.raft_log.applied {
                self.change_membership(position);
                self.raw.advance_apply_to(position.index);
            }
            for answered in self.writes.applied(position, outcome) {
                self.answer(now, answered);
            }
        }
        let applied = self.applier.applied().index;
        self.raw.mut_store().release(applied);
        self.freshness.applied(applied);
    }

    fn change_membership(&mut self, position: Position) {
        let entries = self.raw.store().in_memory(position.index, position.index + 1, u64::MAX);
        let entry = entries.and_then(|entries| entries.into_iter().next());
        let entry = entry.expect("entries are in memory until they are applied");
        if entry.kind != EntryKind::Membership {
            return;
        }
        let change: MembershipChange =
            crate::sql::decode(&entry.data).expect("checked when it came");
        self.membership.change(&change);
        self.membership_changes += 1;
        self.raw
            .apply_conf_change(&conf_change(&change))
            .expect("one board is added or removed at a time");
        if let MembershipChange::Remove(id) = change {
            self.links.forget(id);
            self.heard.remove(&id);
        }
    }
}

/// Marks the number of a fetch made for sending; its other bits are the index.
const FETCH_FOR_SENDING: u64 = 1 << 63;

/// Does this message say nothing about what is on disk?
fn claims_nothing(message: &Message) -> bool {
    matches!(
        message.get_msg_type(),
        MessageType::MsgHeartbeatResponse
            | MessageType::MsgReadIndex
            | MessageType::MsgRequestPreVote
            | MessageType::MsgRequestPreVoteResponse
    )
}
