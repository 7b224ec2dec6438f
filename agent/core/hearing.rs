//! What a peer's word on consensus does here: which of it raft-rs gets to see now, and
//! what the node itself notes of it.
//!
//! Left out: what a correct peer never says (`validate`), and all that is not Raft's.

use crate::{
    error::Rejection,
    event::{Millis, NodeId, Position},
    limits,
    node::Node,
    validate,
    wire::{FrameEntry, RaftFrame},
};

impl Node {
    pub(crate) fn on_raft(
        &mut self,
        now: Millis,
        from: NodeId,
        frame: RaftFrame,
    ) -> Result<(), Rejection> {
        if self.is_copied(from) {
            self.remind_copy(now, from);
        }
        if !self.takes(from, &frame) {
            return Ok(());
        }
        self.note_quiet(now, &frame);
        if matches!(frame, RaftFrame::VoteAsk { .. }) {
            self.ask_start(now, from);
        }
        if let RaftFrame::Snapshot { term, index, log_term, first } = frame {
            let at = Position { term: log_term, index };
            return self.on_snapshot(now, from, (term, first), at);
        }
        let message = validate::inbound(&self.raw.raft, from, frame.clone())?;
        if let RaftFrame::HeartbeatAnswer { has_room, context, .. } = &frame {
            self.note_room(from, *has_room);
            context.iter().for_each(|context| self.note_trip(now, from, context));
        }
        // Errors mean "not for me now": an unknown peer's answer, a dropped proposal.
        let _ = self.raw.step(message);
        self.pin_election_timeout();
        self.note_promise(from, &frame);
        self.note_freshness(now, from, &frame);
        self.mend_progress(from);
        self.mend_snapshot(from);
        Ok(())
    }

    /// May this message change anything now? Not while this voter is not sure of
    /// its disk: what peers remember is held against what the disk held before.
    /// Nor at a bound: the leader repeats it. Nor a round asked of a node
    /// that does not lead: raft-rs would pass it on in this node's name.
    fn takes(&mut self, from: NodeId, frame: &RaftFrame) -> bool {
        if !self.deals_with(from) {
            return false;
        }
        // A term beyond this node's is written down, and so are entries.
        let has_room = self.pending.len() < limits::PERSISTS_OPEN_MAX;
        match frame {
            RaftFrame::Append { entries, .. } => {
                let takes = has_room && self.has_room_for(entries);
                self.turned_away |= !takes;
                takes
            }
            RaftFrame::VoteAsk { log_term: term, index, .. }
                if !self.standing.may_elect(Position { term: *term, index: *index }) =>
            {
                false
            }
            RaftFrame::TimeoutNow { .. } if !self.may_lead() => false,
            RaftFrame::AppendAnswer { .. }
            | RaftFrame::Heartbeat { .. }
            | RaftFrame::HeartbeatAnswer { .. }
            | RaftFrame::VoteAsk { .. }
            | RaftFrame::VoteAnswer { .. }
            | RaftFrame::TimeoutNow { .. }
            | RaftFrame::ReadAnswer { .. } => {
                has_room || frame.term().is_some_and(|term| term <= self.raw.raft.term)
            }
            RaftFrame::ReadAsk { .. } => self.leads(),
            RaftFrame::Snapshot { .. } => true,
        }
    }

    pub(crate) fn has_room_for(&self, entries: &[FrameEntry]) -> bool {
        let bytes = |entry: &FrameEntry| entry.data.len() as u64 + limits::ENTRY_OVERHEAD_BYTES;
        let more: u64 = entries.iter().map(bytes).sum();
        let held = self.raw.store().bytes_above(self.applier.applied().index);
        more == 0 || held + more <= limits::UNAPPLIED_BYTES_MAX
    }

    /// raft-rs 0.7.0 lets a late rejection pull `next_idx` down to what is known
    /// to match (mended upstream by #557): it must stay above.
    fn mend_progress(&mut self, peer: NodeId) {
        if let Some(progress) = self.raw.raft.mut_prs().get_mut(peer) {
            progress.next_idx = progress.next_idx.max(progress.matched + 1);
        }
    }
}
