//! A board that takes the database's state from another: because entries it needs are
//! no longer in any log, or because its rows were found wrong.
//!
//! Nothing is applied meanwhile. It asks, compares and pulls ([`crate::pages`]); what is
//! pulled is put aside, so a source that goes away, a new leader or a restart costs no
//! more than another comparison. When all is here the journal says what is coming, the
//! database becomes it in one transaction, and only when no power cut can take that any
//! more does the log begin anew behind it. Where the log leads there anyway, because
//! rows were wrong and the log was not, it stays.
//!
//! It ends before that when entries come after all.

use alloc::{
    boxed::Box,
    collections::{BTreeMap, VecDeque},
    vec::Vec,
};

use raft::{
    StateRole,
    prelude::{Message, MessageType, Snapshot},
};

use crate::{
    error::Rejection,
    event::{Cut, Effect, EntryKind, Millis, NodeId, Position},
    limits::{COUNTER_MAX, PAGES_TRIES_MAX, PAGES_WISHES_MAX, REPAIR_AFTER_MS},
    log::{conf_change, conf_state},
    member::{Membership, MembershipChange},
    mutant,
    node::Node,
    pages::{Answer, Done, Summary, Wish, Work},
    validate,
    wire::Frame,
};

/// How far a board is that takes another's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PullStatus {
    /// From which board.
    pub from: NodeId,
    /// Pages that differed and have come since it began.
    pub taken: u64,
    /// Pages of that state, equal ones too; none before its source has told.
    pub pages: Option<u32>,
}

/// See the module's description.
#[derive(Default)]
pub(crate) struct CatchUp {
    stage: Stage,
    source: NodeId,
    /// Pages that have come.
    taken: u64,
    /// The state has this applied at least.
    index_min: u64,
    /// What was committed when it began.
    committed: u64,
    /// Rows are wrong, and this scrub said so.
    repairs: Option<u64>,
    /// The last scrub after which this board was repaired.
    repaired: u64,
    /// The scrub that found it wrong last, and when that was first seen.
    condemned: Option<(u64, Millis)>,
    /// So long after that its rows are taken from another; the usual time when absent.
    repair_after_ms: Option<u64>,
    asks: u64,
    /// Questions without an answer, and when they were last asked.
    open: BTreeMap<u64, (Wish, Millis)>,
    /// Comparing or putting aside under way, wanted still or not: one at a time.
    under_way: Option<u64>,
    /// Answers that wait.
    came: VecDeque<(Wish, Answer)>,
    /// The source has the state no longer.
    is_gone: bool,
    salt: u32,
    /// What a witness takes in the place of pages.
    outline: Option<Box<Membership>>,
    progressed: Millis,
    /// Not begun again before.
    pause: Millis,
}

#[derive(Default)]
enum Stage {
    #[default]
    Idle,
    /// What is being applied comes to its end.
    Stopping,
    Opening,
    /// Something of that state is being compared or put aside.
    Working(Summary, u64),
    /// Answers are waited for, unless none is open.
    Pulling(Summary, bool),
    /// The journal is about to say what comes.
    Announcing(Summary, bool),
    Installing(Summary, u64),
    /// The database holds it, perhaps not for good yet.
    Adopting(Summary, Membership),
}

impl CatchUp {
    /// Nothing is applied, and this board does not stand for election.
    pub(crate) const fn is_busy(&self) -> bool {
        !matches!(self.stage, Stage::Idle)
    }

    /// It can still be given up.
    const fn may_end(&self) -> bool {
        matches!(
            self.stage,
            Stage::Stopping | Stage::Opening | Stage::Working(..) | Stage::Pulling(..)
        )
    }

    /// From which board it takes the state, and how far it is.
    pub(crate) fn status(&self) -> Option<PullStatus> {
        let pages = match &self.stage {
            Stage::Idle | Stage::Stopping | Stage::Opening => None,
            Stage::Working(summary, _)
            | Stage::Pulling(summary, _)
            | Stage::Announcing(summary, _)
            | Stage::Installing(summary, _)
            | Stage::Adopting(summary, _) => Some(summary.pages),
        };
        let status = PullStatus { from: self.source, taken: self.taken, pages };
        self.is_busy().then_some(status)
    }

    fn room(&self) -> usize {
        PAGES_WISHES_MAX.saturating_sub(self.open.len() + self.came.len())
    }
}

impl Node {
    /// The leader says that what this board needs is no longer in its log.
    pub(crate) fn on_snapshot(
        &mut self,
        now: Millis,
        from: NodeId,
        (term, first): (u64, u64),
        at: Position,
    ) -> Result<(), Rejection> {
        if [term, first, at.index, at.term].iter().any(|number| *number >= COUNTER_MAX) {
            return Err(Rejection::Implausible);
        }
        let raft = &self.raw.raft;
        if term != raft.term || from != raft.leader_id || raft.state != StateRole::Follower {
            return Ok(());
        }
        self.tell_leader_where();
        let comes_by_entries = self.raw.raft.raft_log.committed + 1 >= first;
        if !comes_by_entries && self.may_catch_up(now) {
            // The leader knows this board at that entry; a state from before knew none of it.
            let is_known = self.membership.member(self.config.id).is_some();
            let index_min = if is_known { first - 1 } else { at.index.max(first - 1) };
            self.begin_catch_up(now, from, index_min, None);
        }
        Ok(())
    }

    /// Milliseconds from when this board was found wrong until it takes another's rows.
    pub const fn set_repair_after(&mut self, ms: u64) {
        self.catchup.repair_after_ms = Some(ms);
    }

    /// Has raft-rs tell the leader up to where this log is the group's.
    fn tell_leader_where(&mut self) {
        let raft = &self.raw.raft;
        if raft.leader_id == raft::INVALID_ID || raft.state != StateRole::Follower {
            return;
        }
        // Older than all that is committed: the answer is what that is.
        let mut message = Message::default();
        message.set_msg_type(MessageType::MsgAppend);
        (message.from, message.to, message.term) = (raft.leader_id, raft.id, raft.term);
        let _ = self.raw.step(message);
        self.pin_election_timeout();
    }

    /// A fenced board takes the rows of the leader, once for each scrub that found it wrong.
    pub(crate) fn tick_catch_up(&mut self, now: Millis) {
        self.give_up_catch_up(now);
        self.ask_pages_again(now);
        let Some(scrub) = self.condemned_by() else { return };
        let known = self.catchup.condemned.filter(|(known, _)| *known == scrub);
        let (_, since) = *self.catchup.condemned.insert(known.unwrap_or((scrub, now)));
        let wait_ms = self.catchup.repair_after_ms.unwrap_or(REPAIR_AFTER_MS);
        if scrub <= self.catchup.repaired || now.since(since) < wait_ms {
            return;
        }
        let Some(leader) = self.leader().filter(|leader| !self.is_fenced_board(*leader)) else {
            return;
        };
        let may = leader != self.config.id && self.standing.takes_part() && self.is_led();
        if may && self.may_catch_up(now) {
            self.begin_catch_up(now, leader, self.applier.applied().index, Some(scrub));
        }
    }

    fn may_catch_up(&self, now: Millis) -> bool {
        let catchup = &self.catchup;
        !catchup.is_busy() && catchup.under_way.is_none() && now >= catchup.pause
    }

    fn begin_catch_up(
        &mut self,
        now: Millis,
        source: NodeId,
        index_min: u64,
        repairs: Option<u64>,
    ) {
        // A state kept for others would keep the WAL from beginning anew.
        self.release_pages();
        self.catchup = CatchUp {
            stage: Stage::Stopping,
            source,
            taken: 0,
            index_min,
            committed: self.raw.raft.raft_log.committed,
            repairs,
            progressed: now,
            ..core::mem::take(&mut self.catchup)
        };
    }

    /// Ends it without a result.
    fn end_catch_up(&mut self, now: Millis, keeps: bool) {
        if let Stage::Working(summary, _) | Stage::Pulling(summary, _) = self.catchup.stage {
            self.drop_pages(keeps);
            let wish = Wish::Close { session: summary.session };
            self.ask_pages(now, wish);
        }
        self.forget_pages();
        self.catchup.stage = Stage::Idle;
    }

    fn drop_pages(&mut self, keeps: bool) {
        let number = self.number();
        self.effects.push(Effect::Pages { number, work: Work::Drop { keeps } });
    }

    fn forget_pages(&mut self) {
        self.catchup.open.clear();
        self.catchup.came.clear();
        self.catchup.is_gone = false;
    }

    fn give_up_catch_up(&mut self, now: Millis) {
        if !self.catchup.may_end() {
            return;
        }
        let silent_ms = PAGES_TRIES_MAX * self.config.timing.forward_retry_ms;
        let is_working = matches!(self.catchup.stage, Stage::Working(..) | Stage::Stopping);
        let is_silent = !is_working && now.since(self.catchup.progressed) >= silent_ms;
        let committed = self.raw.raft.raft_log.committed;
        let by_entries = self.catchup.repairs.is_none() && committed > self.catchup.committed;
        let is_right = self.catchup.repairs.is_some() && !self.is_fenced();
        if by_entries || is_right || is_silent || self.leads() || !self.is_led() {
            self.end_catch_up(now, is_silent);
        }
    }

    /// Somebody led not long ago. Where nobody does, this board may have to stand for
    /// election as the last resort, and must not be busy then.
    fn is_led(&self) -> bool {
        self.raw.raft.election_elapsed < self.config.timing.leaderless_ticks()
    }

    /// Asks, and keeps the question until it is answered.
    fn ask_pages(&mut self, now: Millis, wish: Wish) {
        self.catchup.asks += 1;
        let ask = self.catchup.asks;
        let source = self.catchup.source;
        if !matches!(wish, Wish::Close { .. }) {
            self.catchup.open.insert(ask, (wish.clone(), now));
        }
        self.say(now, source, &Frame::PagesAsk { ask, wish });
    }

    fn ask_pages_again(&mut self, now: Millis) {
        let retry_ms = self.config.timing.forward_retry_ms;
        let due = |(_, (_, at)): &(&u64, &mut (Wish, Millis))| now.since(*at) >= retry_ms;
        let mut again = Vec::new();
        for (ask, (wish, at)) in self.catchup.open.iter_mut().filter(due) {
            *at = now;
            again.push(Frame::PagesAsk { ask: *ask, wish: wish.clone() });
        }
        for frame in again {
            self.say(now, self.catchup.source, &frame);
        }
    }

    /// The source has answered a question.
    pub(crate) fn on_pages_tell(
        &mut self,
        now: Millis,
        from: NodeId,
        ask: u64,
        answer: Answer,
    ) -> Result<(), Rejection> {
        answer.check()?;
        if from != self.catchup.source || !self.catchup.is_busy() {
            return Ok(());
        }
        let Some((wish, _)) = self.catchup.open.get(&ask) else { return Ok(()) };
        match (wish, &answer) {
            (Wish::Open { .. }, Answer::Opened(summary)) => {
                self.compare_pages(now, *summary)?;
            }
            // Not now: it is asked again.
            (Wish::Open { .. } | Wish::Outline { .. }, Answer::Gone) => return Ok(()),
            (Wish::Outline { .. }, Answer::Outline { position, membership }) => {
                self.take_outline(*position, membership.clone())?;
            }
            (Wish::Hashes { .. }, Answer::Hashes(_)) | (Wish::Pages { .. }, Answer::Pages(_)) => {
                let wish = wish.clone();
                self.catchup.came.push_back((wish, answer));
            }
            (Wish::Hashes { .. } | Wish::Pages { .. }, Answer::Gone) => self.catchup.is_gone = true,
            (
                Wish::Open { .. }
                | Wish::Hashes { .. }
                | Wish::Pages { .. }
                | Wish::Close { .. }
                | Wish::Outline { .. },
                Answer::Opened(_)
                | Answer::Hashes(_)
                | Answer::Pages(_)
                | Answer::Gone
                | Answer::Outline { .. },
            ) => return Err(Rejection::Implausible),
        }
        self.catchup.open.remove(&ask);
        self.catchup.progressed = now;
        Ok(())
    }

    fn compare_pages(&mut self, now: Millis, summary: Summary) -> Result<(), Rejection> {
        self.check_position(summary.position)?;
        if !matches!(self.catchup.stage, Stage::Opening) {
            return Ok(());
        }
        let (salt, room) = (self.catchup.salt, PAGES_WISHES_MAX);
        let number = self.number();
        self.effects.push(Effect::Pages { number, work: Work::Compare { summary, salt, room } });
        self.catchup.under_way = Some(number);
        self.catchup.stage = Stage::Working(summary, number);
        self.catchup.progressed = now;
        Ok(())
    }

    fn check_position(&self, at: Position) -> Result<(), Rejection> {
        let is_plausible = at.index >= self.catchup.index_min.max(self.applier.applied().index)
            && at.term > 0
            && at.index.max(at.term) < COUNTER_MAX;
        if is_plausible { Ok(()) } else { Err(Rejection::Implausible) }
    }

    /// All that a witness needs is here.
    fn take_outline(&mut self, at: Position, to: Box<Membership>) -> Result<(), Rejection> {
        self.check_position(at)?;
        if matches!(self.catchup.stage, Stage::Opening) {
            let summary = Summary { session: 0, position: at, pages: 0, root: 0 };
            self.catchup.outline = Some(to);
            self.catchup.stage = Stage::Announcing(summary, false);
        }
        Ok(())
    }

    /// Work on pages has ended.
    pub(crate) fn on_pages(&mut self, now: Millis, number: u64, done: Done) {
        self.catchup.under_way.take_if(|open| *open == number);
        match done {
            Done::Kept(kept) => self.on_pages_kept(now, number, kept),
            Done::Served(answer) => self.on_pages_served(now, number, answer),
            Done::Wants { wishes, is_last } => self.on_pages_wants(now, number, wishes, is_last),
            Done::Failed(_) => {
                self.on_pages_kept(now, number, None);
                self.on_pages_served(now, number, Answer::Gone);
                self.on_pages_failed(now, number);
            }
            Done::Installed(to) => self.on_installed(now, number, to),
            Done::Put => self.on_settings_put(number),
        }
    }

    /// What was compared or put aside, and what is to be asked next.
    fn on_pages_wants(&mut self, now: Millis, number: u64, wishes: Vec<Wish>, is_last: bool) {
        let Stage::Working(summary, open) = self.catchup.stage else { return };
        if open != number {
            return;
        }
        self.catchup.stage = Stage::Pulling(summary, is_last);
        self.catchup.progressed = now;
        for wish in wishes {
            self.ask_pages(now, wish);
        }
    }

    /// It cannot go on here, for now.
    fn on_pages_failed(&mut self, now: Millis, number: u64) {
        match self.catchup.stage {
            Stage::Working(_, open) | Stage::Installing(_, open) if open == number => {
                self.pause_catch_up(now);
            }
            Stage::Idle
            | Stage::Stopping
            | Stage::Opening
            | Stage::Working(..)
            | Stage::Pulling(..)
            | Stage::Announcing(..)
            | Stage::Installing(..)
            | Stage::Adopting(..) => {}
        }
    }

    fn pause_catch_up(&mut self, now: Millis) {
        self.catchup.pause = now.plus(self.config.timing.request_timeout_ms);
        self.end_catch_up(now, true);
    }

    /// Takes the next step, as far as what it waits for is there.
    pub(crate) fn catch_up(&mut self, now: Millis) {
        match &self.catchup.stage {
            Stage::Idle | Stage::Opening | Stage::Working(..) | Stage::Installing(..) => {}
            Stage::Stopping => {
                if self.applier.is_still() {
                    let index_min = self.catchup.index_min;
                    self.catchup.stage = Stage::Opening;
                    let wish = match self.is_witness() {
                        true => Wish::Outline { index_min },
                        false => Wish::Open { index_min },
                    };
                    self.ask_pages(now, wish);
                }
            }
            Stage::Pulling(summary, is_last) => self.pull(now, *summary, *is_last),
            Stage::Announcing(summary, false) => self.announce(*summary),
            Stage::Announcing(_, true) => {}
            Stage::Adopting(summary, membership) => {
                // One that is no member any more does nothing until it is started anew.
                let is_member = membership.member(self.config.id).is_some();
                let at = summary.position;
                let is_safe = is_member && (self.retention.is_durable(at.index) || mutant::is(25));
                if is_safe && self.pending.is_empty() && validate::settled(&self.raw.raft) {
                    self.adopt(now, at);
                }
            }
        }
    }

    fn pull(&mut self, now: Millis, summary: Summary, is_last: bool) {
        if self.catchup.is_gone {
            // A newer state, and what is here already counts for it too.
            self.drop_pages(true);
            self.forget_pages();
            self.catchup.stage = Stage::Stopping;
            self.catchup.progressed = now;
        } else if let Some((wish, answer)) = self.catchup.came.pop_front() {
            if let Answer::Pages(_) = answer {
                self.catchup.taken += wish.numbers().map_or(0, |pages| pages.len() as u64);
            }
            let room = self.catchup.room();
            let number = self.number();
            let work = Work::Take { wish, answer, room };
            self.effects.push(Effect::Pages { number, work });
            self.catchup.under_way = Some(number);
            self.catchup.stage = Stage::Working(summary, number);
        } else if self.catchup.open.is_empty() && is_last {
            self.drop_pages(true);
            self.ask_pages(now, Wish::Close { session: summary.session });
            self.catchup.stage = Stage::Announcing(summary, false);
        }
    }

    /// Has the journal say what comes, beside no other write: its number is that of the
    /// one before. A term that this board has not heard of is waited for.
    fn announce(&mut self, summary: Summary) {
        let at = summary.position;
        if !self.pending.is_empty() || self.durable.term < at.term {
            return;
        }
        self.catchup.stage = Stage::Announcing(summary, true);
        let at = if mutant::is(29) { Position::default() } else { at };
        self.persist_cut(Cut::Coming(at));
    }

    /// The journal says what comes.
    pub(crate) fn on_announced(&mut self) {
        let Stage::Announcing(summary, true) = self.catchup.stage else { return };
        let number = self.number();
        let position = summary.position;
        let work = match self.catchup.outline.take() {
            Some(membership) => Work::Stand { position, membership },
            None => Work::Install { summary },
        };
        self.effects.push(Effect::Pages { number, work });
        self.catchup.stage = Stage::Installing(summary, number);
    }

    /// The database is that state, or what was pulled is not.
    fn on_installed(&mut self, now: Millis, number: u64, to: Option<Membership>) {
        let Stage::Installing(summary, open) = self.catchup.stage else { return };
        if open != number {
            return;
        }
        match to {
            Some(membership) => self.catchup.stage = Stage::Adopting(summary, membership),
            None => {
                // A page that differs was not told from one that does not.
                self.catchup.salt = self.catchup.salt.wrapping_add(1);
                self.pause_catch_up(now);
            }
        }
    }

    /// The database fell back, perhaps while it was becoming another. One that has
    /// become another is ahead of what was applied, and is not led back.
    pub(crate) fn resets_applier(&mut self, now: Millis) -> bool {
        if matches!(self.catchup.stage, Stage::Working(..) | Stage::Installing(..)) {
            self.pause_catch_up(now);
        }
        // It may have ended there without a word.
        self.catchup.under_way = None;
        self.forget_keeping(now);
        !matches!(self.catchup.stage, Stage::Adopting(..))
    }

    /// The database holds it for good: everything else follows.
    fn adopt(&mut self, now: Millis, at: Position) {
        let stage = core::mem::take(&mut self.catchup.stage);
        let Stage::Adopting(_, membership) = stage else { return };
        if self.raw.raft.state != StateRole::Follower {
            self.step_down(now);
        }
        if self.raw.raft.raft_log.match_term(at.index, at.term) {
            self.skip_to(at);
        } else {
            let mut snapshot = Snapshot::default();
            let metadata = snapshot.mut_metadata();
            (metadata.index, metadata.term) = (at.index, at.term);
            metadata.set_conf_state(conf_state(&membership));
            let is_taken = self.raw.raft.restore(snapshot);
            assert!(is_taken, "nothing beyond {} was committed here", at.index);
        }
        self.applier.skip_to(at);
        self.replace_membership(membership);
        self.pin_election_timeout();
        self.freshness.applied(at);
        self.turned_away = false;
        self.tell_leader_where();
        if let Some(scrub) = self.catchup.repairs.take() {
            self.catchup.repaired = scrub;
            self.ask_after_repair();
        }
    }

    /// The log leads there: what raft-rs knows of members comes from its entries.
    fn skip_to(&mut self, at: Position) {
        self.raw.raft.raft_log.commit_to(at.index);
        let mut membership = self.membership.clone();
        let mut next = self.raw.raft.raft_log.applied + 1;
        while next <= at.index {
            let entries = self.raw.store().in_memory(next, at.index + 1, u64::MAX);
            for entry in entries.expect("entries are in memory until they are applied") {
                next = entry.index + 1;
                if entry.kind == EntryKind::Membership {
                    let change: MembershipChange =
                        crate::sql::decode(&entry.data).expect("checked when it came");
                    if membership.change(&change) {
                        let step = conf_change(&change);
                        self.raw.apply_conf_change(&step).expect("what fits the membership fits");
                    }
                }
            }
        }
        self.raw.advance_apply_to(at.index);
    }

    fn replace_membership(&mut self, membership: Membership) {
        let is_left = |id: &NodeId| membership.member(*id).is_none();
        let gone: Vec<NodeId> = self.boards().into_iter().filter(is_left).collect();
        self.membership = membership;
        self.membership_changes += 1;
        self.raw.mut_store().set_membership(&self.membership);
        gone.into_iter().for_each(|id| self.forget_board(id));
    }

    /// raft-rs counts as applied what the database holds once the journal does, too.
    pub(crate) fn catch_raft_up(&mut self) {
        let applied = self.applier.applied().index;
        let log = &self.raw.raft.raft_log;
        if log.applied < applied && applied <= log.persisted.min(log.committed) {
            self.raw.advance_apply_to(applied);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        pages::numbers,
        rig::{Rig, write},
        wire::RaftFrame,
    };

    use super::*;

    fn told(rig: &Rig, leader: NodeId, first: u64) -> Frame {
        let term = rig.nodes[&leader].raw.raft.term;
        Frame::Raft(RaftFrame::Snapshot { term, index: 80, log_term: term, first })
    }

    #[test]
    fn a_follower_takes_pages_on_its_leaders_word_and_where_entries_do_not_come() {
        let (mut rig, leader) = Rig::led(&[1, 2, 3]);
        let (node, other) = (leader % 3 + 1, (leader + 1) % 3 + 1);
        let is_busy = |rig: &Rig| rig.nodes[&node].catchup.is_busy();
        let next = rig.nodes[&node].raw.raft.raft_log.committed + 1;
        rig.hear(node, other, &told(&rig, leader, 50));
        rig.hear(node, leader, &told(&rig, leader, next));
        assert!(!is_busy(&rig));
        rig.hear(node, leader, &told(&rig, leader, next + 1));
        assert!(is_busy(&rig) && !rig.nodes[&node].may_stand());
        let begun = PullStatus { from: leader, taken: 0, pages: None };
        assert_eq!(rig.nodes[&node].status(rig.now).pulls, Some(begun));
        rig.ask(leader, 1, write("a"));
        rig.run(200);
        assert!(!is_busy(&rig), "entries came after all");
        assert_eq!(rig.nodes[&node].applied().index, next);
    }

    #[test]
    fn a_source_that_says_nothing_is_given_up() {
        let (mut rig, leader) = Rig::led(&[1, 2, 3]);
        let node = leader % 3 + 1;
        rig.hear(node, leader, &told(&rig, leader, 50));
        let silent_ms = PAGES_TRIES_MAX * rig.nodes[&node].config.timing.forward_retry_ms;
        rig.run(silent_ms - 500);
        assert!(rig.nodes[&node].catchup.is_busy());
        rig.run(1_000);
        assert!(!rig.nodes[&node].catchup.is_busy());
    }

    #[test]
    fn what_no_board_asks_or_answers_is_rejected_and_counted() {
        let (mut rig, leader) = Rig::led(&[1, 2, 3]);
        let node = leader % 3 + 1;
        let hashes = |level, nodes: &[u32]| Frame::PagesAsk {
            ask: 1,
            wish: Wish::Hashes { session: 1, salt: 0, level, nodes: numbers(nodes) },
        };
        let too_many: Vec<u32> = (0..1_000).collect();
        let empty = Summary { session: 1, position: Position::default(), pages: 0, root: 0 };
        let frames = [
            hashes(0, &[1]),
            hashes(9, &[1]),
            hashes(1, &too_many),
            Frame::PagesAsk { ask: 1, wish: Wish::Pages { session: 1, pages: Vec::from([0xff]) } },
            Frame::PagesTell { ask: 1, answer: Answer::Opened(empty) },
            Frame::PagesTell { ask: 1, answer: Answer::Hashes(alloc::vec![0; 9_000]) },
        ];
        for frame in &frames {
            rig.hear(node, leader, frame);
        }
        let dropped: u64 = rig.nodes[&node].dropped.values().sum();
        assert_eq!(dropped, frames.len() as u64);
        rig.hear(node, leader, &Frame::PagesTell { ask: 1, answer: Answer::Gone });
        assert_eq!(rig.nodes[&node].dropped.values().sum::<u64>(), dropped);
    }
}
