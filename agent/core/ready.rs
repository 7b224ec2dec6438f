//! raft-rs's wishes, turned into effects in the order that keeps its promises.
//!
//! "Send only after durable" is kept here: a message that claims something is on
//! disk waits until the write it belongs to is. Two exceptions, both safe and
//! both needed by a board with a slow card: a leader's own messages go out at
//! once (Raft thesis, 10.2.1), and answers to heartbeats do not wait for an
//! append under way (raft-rs puts them behind it). Neither leaves while the
//! present term or vote is not on disk: then everything waits.
//!
//! A wish with nothing to write is confirmed with the write before it, for
//! raft-rs wants them confirmed in order. However long a disk stalls, what waits
//! for it is bounded: the writes, since [`Node::takes`] takes nothing that would
//! add to them at the bound, and the messages behind each.

use alloc::{collections::VecDeque, vec::Vec};
use core::mem;

use raft::{
    Config as RaftConfig, RawNode, Ready, StateRole,
    prelude::{Message, MessageType},
};

use crate::{
    apply::Step,
    event::{Cut, Effect, Entry, EntryKind, HardState, Millis, NodeId, Outcome, Position, Trust},
    limits::{
        APPEND_BYTES_MAX, APPENDS_IN_FLIGHT_MAX, APPLY_BYTES_MAX, MESSAGES_HELD_MAX,
        UNCOMMITTED_BYTES_MAX,
    },
    log::{Log, conf_change, from_raft},
    member::MembershipChange,
    mutant,
    node::{Config, Node},
    validate,
    wire::Frame,
};

/// A write of the journal that is under way, and what waits for it.
pub(crate) struct Pending {
    number: u64,
    /// The last ready behind it that has nothing to write.
    last: u64,
    hard_state: HardState,
    messages: VecDeque<Message>,
    /// It is what the disk says of itself: see [`Node::persist_trust`].
    trust: bool,
    /// Where its entries stand.
    entries: Vec<Position>,
    /// Readings that are in the spool with it.
    spooled: Vec<u64>,
    /// The tick at which the journal got it.
    tick: u64,
}

impl Pending {
    /// Keeps a message: any may be lost, so the oldest gives way.
    fn hold(&mut self, message: Message) {
        if self.messages.len() == MESSAGES_HELD_MAX {
            self.messages.pop_front();
        }
        self.messages.push_back(message);
    }
}

impl Node {
    /// Takes everything raft-rs has to say. It keeps a record of each ready until
    /// that is persisted: messages and read indexes, of which a stalled disk sees
    /// any number, are taken without one.
    pub(crate) fn drain_raft(&mut self, now: Millis) {
        while self.raw.has_ready() {
            for state in mem::take(&mut self.raw.raft.read_states) {
                self.reads.confirmed(&state.request_ctx, state.index);
                self.confirm_renewals(&state.request_ctx, state.index);
            }
            let mut messages = mem::take(&mut self.raw.raft.msgs);
            self.hold_entries_back(&mut messages);
            if self.raw.has_ready() {
                let ready = self.raw.ready();
                self.take_ready(now, ready);
            }
            self.release(now, messages);
            self.note_role(now);
        }
        for context in self.raw.mut_store().take_hopeless() {
            self.raw.on_entries_fetched(context);
        }
        for wish in self.raw.mut_store().take_wishes() {
            self.effects.push(Effect::Fetch {
                // Fetches for sending carry the index they start from; the
                // applier's own are told apart by their numbers.
                number: wish.low | FETCH_FOR_SENDING,
                low: wish.low,
                high: wish.high,
                bytes_max: APPEND_BYTES_MAX,
            });
        }
    }

    /// A board says whether it would turn entries away.
    pub(crate) fn note_room(&mut self, board: NodeId, has_room: bool) {
        if has_room {
            self.without_room.remove(&board);
        } else {
            self.without_room.insert(board);
        }
    }

    /// raft-rs sends a board that is behind entries after each of its heartbeats'
    /// answers, also to one that has no room for them: it gets them once it has.
    fn hold_entries_back(&self, messages: &mut Vec<Message>) {
        let is_held = |message: &Message| {
            !message.entries.is_empty()
                && message.get_msg_type() == MessageType::MsgAppend
                && self.without_room.contains(&message.to)
        };
        messages.retain(|message| !is_held(message));
    }

    fn take_ready(&mut self, now: Millis, mut ready: Ready) {
        let number = ready.number();
        if let Some(last) = ready.committed_entries().last() {
            self.applier.commit(last.index);
        }
        let entries = ready.take_entries();
        let anew = ready.snapshot().get_metadata();
        let anew = Position { term: anew.term, index: anew.index };
        let cut = (anew.index > 0).then(|| {
            self.raw.mut_store().restart(anew);
            self.retention.restart(anew.index);
            Cut::Anew(anew)
        });
        self.raw.mut_store().append(&entries);
        let entries: Vec<Entry> = entries.iter().map(from_raft).collect();
        self.log_readings(&entries, cut.is_some());
        for entry in &entries {
            self.retention.append(entry.index, entry.data.len() as u64);
        }
        let must_sync = ready.must_sync();
        self.raw.advance_append_async(ready);
        if must_sync {
            let hard_state = self.current_hard_state();
            let cut = cut.or_else(|| self.next_cut(now));
            self.written = number;
            self.persist(entries, hard_state, None, cut);
        } else if let Some(before) = self.pending.back_mut() {
            before.last = number;
        } else {
            self.raw.on_persist_ready(number);
        }
    }

    /// Has the journal say what there is to say of this disk. Not beside another
    /// write: its number is that of the one before it, whose end must not be taken
    /// for its own.
    pub(crate) fn record_standing(&mut self, now: Millis) {
        if self.standing.is_lost() && self.leads() {
            self.step_down(now);
        }
        if !self.pending.is_empty() {
            return;
        }
        if let Some(trust) = self.standing.next_record() {
            self.persist_trust(trust);
        }
    }

    /// Writes down what the disk is to say of itself, when no other write is under
    /// way; raft-rs knows nothing of it.
    fn persist_trust(&mut self, trust: Trust) {
        self.persist(Vec::new(), self.durable, Some(trust), None);
    }

    /// The same for what the spool is to have.
    pub(crate) fn persist_spool(&mut self) {
        self.persist(Vec::new(), self.durable, None, None);
    }

    /// Has the journal write down what becomes of its log, when no other write is under
    /// way; raft-rs knows nothing of it.
    pub(crate) fn persist_cut(&mut self, cut: Cut) {
        self.persist(Vec::new(), self.durable, None, Some(cut));
    }

    /// The present term or vote is not on this disk yet.
    fn is_unsaved(&self) -> bool {
        let raft = &self.raw.raft;
        (raft.term, raft.vote) != (self.durable.term, self.durable.vote)
    }

    /// Sends what may go now, keeps the rest until what is being written is on disk.
    fn release(&mut self, now: Millis, messages: Vec<Message>) {
        let (leads, unsaved) = (self.leads(), self.is_unsaved());
        for message in messages {
            let may_go = !unsaved && (leads || claims_nothing(&message)) || mutant::is(3);
            match self.pending.back_mut() {
                Some(pending) if !may_go => pending.hold(message),
                Some(_) | None => self.send(now, &message),
            }
        }
    }

    fn send(&mut self, now: Millis, message: &Message) {
        if !self.deals_with(message.to) {
            return;
        }
        if message.get_msg_type() == MessageType::MsgSnapshot {
            let metadata = message.get_snapshot().get_metadata();
            return self.offer_snapshot(now, message.to, metadata.index, metadata.term);
        }
        let committed = self.raw.raft.raft_log.committed;
        let quiet_ms = self.duties.quiet.quiet_ms(now);
        if let Some(frame) = validate::outbound(message, committed, !self.turned_away, quiet_ms) {
            self.say(now, message.to, &Frame::Raft(frame));
        }
    }

    /// Has the journal write, under the number of the last ready that needs it, and
    /// waits for that.
    fn persist(
        &mut self,
        entries: Vec<Entry>,
        hard_state: HardState,
        trust: Option<Trust>,
        cut: Option<Cut>,
    ) {
        let number = self.written;
        let (spool, spooled) = self.intake.spool.take_writes();
        self.pending.push_back(Pending {
            number,
            last: number,
            hard_state,
            messages: VecDeque::new(),
            trust: trust.is_some(),
            entries: entries.iter().map(Entry::position).collect(),
            spooled,
            tick: self.ticks,
        });
        self.effects.push(Effect::Persist {
            number,
            entries,
            hard_state,
            memories: self.memories.take_unsaved(),
            trust,
            cut,
            spool,
        });
    }

    fn current_hard_state(&self) -> HardState {
        let hs = self.raw.raft.hard_state();
        HardState { term: hs.term, vote: hs.vote, commit: hs.commit }
    }

    /// The journal has not come back for so long that an election takes no longer. A board
    /// that leads applies nothing meanwhile: it answers no write, and no renewal of a
    /// duty's lease behind one.
    pub(crate) fn disk_stalls(&self) -> bool {
        let ticks_max = self.config.timing.election_ticks_max as u64;
        self.pending.front().is_some_and(|pending| self.ticks - pending.tick >= ticks_max)
    }

    /// The journal has everything up to `number`.
    pub(crate) fn on_persisted(&mut self, now: Millis, number: u64) {
        self.turned_away = false;
        while self.pending.front().is_some_and(|pending| pending.number <= number) {
            let pending = self.pending.pop_front().expect("just seen");
            self.durable = pending.hard_state;
            if pending.trust {
                self.standing.recorded();
            }
            self.intake.log_written(&pending.entries);
            self.intake.spooled(&pending.spooled);
            self.raw.on_persist_ready(pending.last);
            for message in pending.messages {
                self.send(now, &message);
            }
            self.on_announced();
        }
        self.catch_raft_up();
    }

    /// Tells the driver when leadership came or went, and callers what follows.
    pub(crate) fn note_role(&mut self, now: Millis) {
        let leads = self.raw.raft.state == StateRole::Leader;
        if leads == self.led {
            return;
        }
        self.led = leads;
        self.without_room.clear();
        self.note_lessor();
        self.effects.push(Effect::RoleChanged { leads });
        if !leads {
            self.turn_away(now);
            self.end_transfer(now);
        }
    }

    /// Hands committed entries to the database, as far as it has room.
    pub(crate) fn apply_committed(&mut self, now: Millis) {
        // Entries already with the database are applied still.
        while !self.database_held
            && !self.catchup.is_busy()
            && let Some(step) = self.applier.next(self.raw.store())
        {
            match step {
                Step::Apply(entries) => self.hand_to_database(now, entries),
                Step::Fetch { low, high } => {
                    let number = self.number();
                    self.applier.fetching(number);
                    let bytes_max = APPLY_BYTES_MAX;
                    self.effects.push(Effect::Fetch { number, low, high, bytes_max });
                }
            }
        }
    }

    /// A batch is answered here, not when it is applied: that its base is what it
    /// was executed on is certain once it is committed where it was proposed, and
    /// whatever a caller asks for next comes after it in the database's queue.
    fn hand_to_database(&mut self, now: Millis, entries: Vec<Entry>) {
        let number = self.number();
        self.applier.handed(number, &entries);
        let batches = entries.iter().filter(|entry| entry.kind == EntryKind::Change);
        let batches: Vec<_> = batches.map(Entry::position).collect();
        self.effects.push(Effect::Apply { number, resets: self.resets, entries });
        for position in batches {
            let answered = self.writes.applied(position, Outcome::Changed);
            self.answer_all(now, answered);
        }
    }

    /// Entries came back from the journal: for a follower far behind, or for the
    /// database after it lost its transaction.
    pub(crate) fn on_fetched(&mut self, now: Millis, number: u64, entries: Vec<Entry>) {
        if self.applier.fetched(number) {
            self.hand_to_database(now, entries);
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
                self.change_membership(now, position);
                self.raw.advance_apply_to(position.index);
            }
            self.note_outcome(outcome);
            self.apply_readings(position, outcome);
            let answered = self.writes.applied(position, outcome);
            self.answer_all(now, answered);
        }
        self.turned_away = false;
        let applied = self.applier.applied();
        self.raw.mut_store().release(applied);
        self.freshness.applied(applied);
    }

    fn change_membership(&mut self, now: Millis, position: Position) {
        let entries = self.raw.store().in_memory(position.index, position.index + 1, u64::MAX);
        let entry = entries.and_then(|entries| entries.into_iter().next());
        let entry = entry.expect("entries are in memory until they are applied");
        if entry.kind != EntryKind::Membership {
            return;
        }
        let change: MembershipChange =
            crate::sql::decode(&entry.data).expect("checked when it came");
        if !self.membership.change(&change) {
            return;
        }
        self.membership_changes += 1;
        self.raw.mut_store().set_membership(&self.membership);
        self.count_invitation(now, position, &change);
        if let MembershipChange::Remove(id) = change {
            self.part_with(id);
        }
        self.raw
            .apply_conf_change(&conf_change(&change))
            .expect("what fits the membership fits raft-rs");
        let votes = self.raw.raft.promotable();
        if self.leads() && !votes && !mutant::is(45) {
            // It got to lead with its own removal on the way: its successor goes on.
            self.step_down(now);
        }
    }

    /// The leader's last word to a board that goes: this far it was a member.
    fn part_with(&mut self, id: NodeId) {
        self.forget_board(id);
        if self.leads() && id != self.config.id && self.raw.raft.prs().get(id).is_some() {
            self.raw.raft.send_append(id);
        }
    }

    /// A board has left the group.
    pub(crate) fn forget_board(&mut self, id: NodeId) {
        self.links.forget(id);
        self.heard.remove(&id);
        self.without_room.remove(&id);
        self.standing.forget(id);
        self.duties.forget(id);
        self.fates.forget(id);
        self.starts.forget(id);
    }
}

/// raft-rs over this log, as this node wants it.
pub(crate) fn raft_over(log: Log, config: &Config, applied: u64) -> RawNode<Log> {
    let config = RaftConfig {
        id: config.id,
        election_tick: config.timing.election_ticks_min,
        heartbeat_tick: config.timing.heartbeat_ticks,
        min_election_tick: config.timing.election_ticks_min,
        max_election_tick: config.timing.election_ticks_max,
        applied,
        max_size_per_msg: APPEND_BYTES_MAX,
        max_inflight_msgs: APPENDS_IN_FLIGHT_MAX,
        max_uncommitted_size: UNCOMMITTED_BYTES_MAX,
        max_committed_size_per_ready: APPLY_BYTES_MAX,
        check_quorum: true,
        pre_vote: true,
        skip_bcast_commit: true,
        ..RaftConfig::default()
    };
    let silent = slog::Logger::root(slog::Discard, slog::o!());
    RawNode::new(&config, log, &silent).expect("the configuration is ours and the log consistent")
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

#[cfg(test)]
mod tests {
    use crate::{
        event::{NodeId, ReadLevel, Request},
        limits::PERSISTS_OPEN_MAX,
        rig::{Rig, write},
        wire::RaftFrame,
    };

    use super::*;

    /// A group whose node, no leader, has a disk that stalls; and its leader.
    fn stalled() -> (Rig, NodeId, NodeId) {
        let (mut rig, leader) = Rig::led(&[1, 2, 3]);
        let node = leader % 3 + 1;
        rig.stalled.push(node);
        (rig, node, leader)
    }

    #[test]
    fn a_stalled_disk_gathers_neither_readies_nor_messages() {
        let (mut rig, node, leader) = stalled();
        rig.ask(leader, 1, write("a"));
        for request in 0..600 {
            let level = ReadLevel::Linearizable { timeout_ms: None };
            rig.ask(node, 1_000 + request, Request::Read { level, sql: Vec::new() });
            rig.run(100);
        }
        let pending = &rig.nodes[&node].pending;
        assert_eq!(pending.len(), 1, "one entry waits for the disk");
        assert!(pending[0].last - pending[0].number < 4, "{}", pending[0].last);
        assert_eq!(pending[0].messages.len(), MESSAGES_HELD_MAX);
    }

    #[test]
    fn a_stalled_disk_gathers_no_more_terms_than_the_journal_takes() {
        let (mut rig, node, leader) = stalled();
        let start = rig.nodes[&node].raw.raft.term;
        for term in start + 1..start + 3 * PERSISTS_OPEN_MAX as u64 {
            let (index, log_term) = (99, term);
            let (commit, commit_term) = (0, 0);
            let (pre, transfer) = (false, true);
            let frame =
                RaftFrame::VoteAsk { pre, term, index, log_term, commit, commit_term, transfer };
            rig.hear(node, leader, &Frame::Raft(frame));
            let frame = RaftFrame::Heartbeat { term, commit: 0, context: None, committed: 0 };
            rig.hear(node, leader, &Frame::Raft(frame));
        }
        assert_eq!(rig.nodes[&node].pending.len(), PERSISTS_OPEN_MAX);
    }
}
