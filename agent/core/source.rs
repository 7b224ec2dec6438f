//! A board whose pages others ask for: one state of its database at a time is kept
//! for all who ask, for as long as somebody does.
//!
//! It is given up after a while in any case, and by the database when too much has
//! been written meanwhile; whoever pulls goes on against a newer one. While it is kept
//! the log keeps what comes after it, if the bounds allow: so that who has pulled goes
//! on with entries.

use alloc::{
    boxed::Box,
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};

use crate::{
    error::Rejection,
    event::{Effect, Millis, NodeId},
    limits::{MEMBERS_MAX, PAGES_KEPT_MS_MAX, PAGES_SERVED_MAX, PAGES_TRIES_MAX},
    mutant,
    node::Node,
    pages::{Answer, Summary, Wish, Work},
    wire::Frame,
};

/// See the module's description.
#[derive(Default)]
pub(crate) struct Source {
    kept: Option<Kept>,
    /// A state is about to be kept, and who waits for it.
    keeping: Option<(u64, BTreeMap<NodeId, u64>)>,
    /// Questions under way.
    serving: BTreeMap<u64, (NodeId, u64)>,
    sessions: u64,
}

struct Kept {
    summary: Summary,
    since: Millis,
    asked: Millis,
    askers: BTreeSet<NodeId>,
}

impl Source {
    /// The first entry that whoever pulls what is kept will want.
    pub(crate) fn wanted_from(&self) -> Option<u64> {
        self.kept.as_ref().map(|kept| kept.summary.position.index + 1)
    }
}

impl Node {
    /// Another board asks.
    pub(crate) fn on_pages_ask(
        &mut self,
        now: Millis,
        from: NodeId,
        ask: u64,
        wish: Wish,
    ) -> Result<(), Rejection> {
        wish.numbers()?;
        let serves = !self.is_fenced() && !self.is_witness() && !self.catchup.is_busy();
        if self.membership.member(from).is_none() || !serves {
            self.tell_pages(now, from, ask, Answer::Gone);
            return Ok(());
        }
        match wish {
            Wish::Open { index_min } => self.open_pages(now, from, ask, index_min),
            Wish::Close { session } => self.close_pages(from, session),
            Wish::Outline { index_min } => self.tell_outline(now, from, ask, index_min),
            wish @ (Wish::Hashes { .. } | Wish::Pages { .. }) => {
                self.serve_pages(now, from, ask, wish);
            }
        }
        Ok(())
    }

    fn tell_pages(&mut self, now: Millis, to: NodeId, ask: u64, answer: Answer) {
        self.say(now, to, &Frame::PagesTell { ask, answer });
    }

    /// What is applied is committed: whoever stands there stands on safe ground.
    fn tell_outline(&mut self, now: Millis, from: NodeId, ask: u64, index_min: u64) {
        let position = self.applier.applied();
        let membership = Box::new(self.membership.clone());
        let answer = match position.index >= index_min {
            true => Answer::Outline { position, membership },
            false => Answer::Gone,
        };
        self.tell_pages(now, from, ask, answer);
    }

    fn open_pages(&mut self, now: Millis, from: NodeId, ask: u64, index_min: u64) {
        let first = self.raw.raft.raft_log.first_index();
        let serves = |kept: &&mut Kept| {
            let index = kept.summary.position.index;
            index >= index_min && index + 1 >= first
        };
        if let Some(kept) = self.source.kept.as_mut().filter(serves) {
            kept.asked = now;
            kept.askers.insert(from);
            let summary = kept.summary;
            return self.tell_pages(now, from, ask, Answer::Opened(summary));
        }
        if let Some((_, waiting)) = &mut self.source.keeping {
            if waiting.len() < MEMBERS_MAX {
                waiting.insert(from, ask);
            }
            return;
        }
        if self.applier.applied().index < index_min {
            return self.tell_pages(now, from, ask, Answer::Gone);
        }
        self.release_pages();
        self.source.sessions += 1;
        let session = (self.config.boot << 24) + self.source.sessions;
        let number = self.number();
        self.source.keeping = Some((number, BTreeMap::from([(from, ask)])));
        self.effects.push(Effect::Pages { number, work: Work::Keep { session } });
    }

    /// The database has kept a state, or could not.
    pub(crate) fn on_pages_kept(&mut self, now: Millis, number: u64, kept: Option<Summary>) {
        let Some((_, waiting)) = self.source.keeping.take_if(|(open, _)| *open == number) else {
            return;
        };
        let answer = kept.map_or(Answer::Gone, Answer::Opened);
        let askers = waiting.keys().copied().collect();
        let keep = |summary| Kept { summary, since: now, asked: now, askers };
        self.source.kept = kept.map(keep);
        for (board, ask) in waiting {
            self.tell_pages(now, board, ask, answer.clone());
        }
    }

    /// What was about to be kept may never come.
    pub(crate) fn forget_keeping(&mut self, now: Millis) {
        if let Some((number, _)) = self.source.keeping {
            self.on_pages_kept(now, number, None);
            let number = self.number();
            self.effects.push(Effect::Pages { number, work: Work::Release });
        }
    }

    fn serve_pages(&mut self, now: Millis, from: NodeId, ask: u64, wish: Wish) {
        let is_open = |kept: &&mut Kept| wish.session() == Some(kept.summary.session);
        let Some(kept) = self.source.kept.as_mut().filter(is_open) else {
            return self.tell_pages(now, from, ask, Answer::Gone);
        };
        kept.asked = now;
        kept.askers.insert(from);
        let serving = &self.source.serving;
        // It asks again.
        if serving.len() >= PAGES_SERVED_MAX || serving.values().any(|open| *open == (from, ask)) {
            return;
        }
        let number = self.number();
        self.source.serving.insert(number, (from, ask));
        self.effects.push(Effect::Pages { number, work: Work::Serve { wish } });
    }

    /// The database has answered a question.
    pub(crate) fn on_pages_served(&mut self, now: Millis, number: u64, answer: Answer) {
        let Some((board, ask)) = self.source.serving.remove(&number) else { return };
        if answer == Answer::Gone {
            self.source.kept = None;
        }
        self.tell_pages(now, board, ask, answer);
    }

    fn close_pages(&mut self, from: NodeId, session: u64) {
        let Some(kept) = &mut self.source.kept else { return };
        if kept.summary.session == session {
            kept.askers.remove(&from);
            if kept.askers.is_empty() {
                self.release_pages();
            }
        }
    }

    pub(crate) fn release_pages(&mut self) {
        if self.source.kept.take().is_some() {
            let number = self.number();
            self.effects.push(Effect::Pages { number, work: Work::Release });
        }
    }

    /// Nothing is kept for nobody, nor for ever.
    pub(crate) fn tick_source(&mut self, now: Millis) {
        let silent_ms = PAGES_TRIES_MAX * self.config.timing.forward_retry_ms;
        let is_over = |kept: &Kept| {
            now.since(kept.asked) >= silent_ms || now.since(kept.since) >= PAGES_KEPT_MS_MAX
        };
        if self.source.kept.as_ref().is_some_and(is_over) {
            self.release_pages();
        }
    }

    /// Followers that are to pull pages: raft-rs sends none of them anything more until
    /// it hears how that ended, and never repeats itself.
    pub(crate) fn offer_snapshot(&mut self, now: Millis, to: NodeId, index: u64, log_term: u64) {
        let term = self.raw.raft.term;
        let first = self.raw.raft.raft_log.first_index();
        self.offers.insert(to, now);
        if self.is_witness() {
            // It has none to offer; the next leader may.
            return;
        }
        let frame = crate::wire::RaftFrame::Snapshot { term, index, log_term, first };
        self.say(now, to, &Frame::Raft(frame));
    }

    /// A follower in want of pages that has come to where the log begins gets entries.
    pub(crate) fn mend_snapshot(&mut self, peer: NodeId) {
        let first = self.raw.raft.raft_log.first_index();
        if self.matched_by_offer(peer).is_some_and(|matched| matched + 1 >= first) {
            self.end_offer(peer);
        }
    }

    fn matched_by_offer(&self, peer: NodeId) -> Option<u64> {
        let progress = self.raw.raft.prs().get(peer)?;
        let waits = self.leads() && progress.state == raft::ProgressState::Snapshot;
        waits.then_some(progress.matched)
    }

    /// As failed in raft-rs's words: it looks anew for what to send.
    fn end_offer(&mut self, peer: NodeId) {
        self.offers.remove(&peer);
        self.raw.report_snapshot(peer, raft::SnapshotStatus::Failure);
    }

    pub(crate) fn tick_offers(&mut self, now: Millis) {
        let patience_ms = crate::limits::SNAPSHOT_REPEATS * self.config.timing.forward_retry_ms;
        let all: Vec<NodeId> = self.raw.raft.prs().iter().map(|(id, _)| *id).collect();
        for peer in all {
            if self.matched_by_offer(peer).is_none() {
                self.offers.remove(&peer);
            } else if !mutant::is(28)
                && now.since(*self.offers.entry(peer).or_insert(now)) >= patience_ms
            {
                self.end_offer(peer);
            }
        }
    }
}
