//! What a leader sent and lost comes back to it.
//!
//! A leader sends entries before it has them on its own disk, and a power cut may leave it
//! with less than it sent. Until it has them again it elects nobody who lacks them
//! (`promise`). Usually a board that has them is elected and sends them. But whoever has
//! them may not vote any more, or be kept from leading: then nobody could ever be
//! elected. So it asks those it hears, and takes back what it proposed itself.
//!
//! Sound, since in one term an index has one entry, and what follows an entry that both
//! have is the log it had (Raft's log matching; Ongaro, dissertation 2014, 3.5). It
//! acknowledges nothing by taking them back, so they do not count for more than before.

use alloc::vec::Vec;

use raft::GetEntriesContext;

use crate::{
    error::Rejection,
    event::{Millis, NodeId, Position},
    limits,
    node::Node,
    validate,
    wire::{Frame, FrameEntry},
};

impl Node {
    /// Asks for what it lacks of what it sent.
    pub(crate) fn tick_tail(&mut self, now: Millis) {
        let after = self.last();
        let is_due = self.ticks.is_multiple_of(limits::OTHERS_TICKS_MIN);
        if !is_due || self.standing.may_elect(after) {
            return;
        }
        for peer in self.heard_lately(now) {
            self.say(now, peer, &Frame::TailAsk { after });
        }
    }

    /// Somebody lacks what comes after that; entries that memory does not hold are
    /// fetched, and told when it asks again.
    pub(crate) fn on_tail_ask(&mut self, now: Millis, from: NodeId, after: Position) {
        let log = &self.raw.raft.raft_log;
        let has_more = log.last_index() > after.index;
        if !has_more || log.term(after.index).ok() != Some(after.term) {
            return;
        }
        let (low, context) = (after.index + 1, GetEntriesContext::empty(true));
        let most = low + limits::APPEND_ENTRIES_MAX as u64;
        let high = most.min(log.last_index() + 1);
        if let Ok(entries) = log.slice(low, high, limits::APPEND_BYTES_MAX, context) {
            let entries = entries.iter().map(validate::frame_entry).collect();
            self.say(now, from, &Frame::TailTell { after, entries });
        }
    }

    pub(crate) fn on_tail_tell(
        &mut self,
        after: Position,
        entries: Vec<FrameEntry>,
    ) -> Result<(), Rejection> {
        let last = self.last();
        let has_room = self.pending.len() < limits::PERSISTS_OPEN_MAX;
        if after != last || self.leads() || self.standing.may_elect(last) || !has_room {
            return Ok(());
        }
        if self.has_room_for(&entries) {
            let entries = validate::after(last, self.standing.owed().term, entries)?;
            self.raw.raft.raft_log.append(&entries);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;
    use crate::{
        event::{Entry, EntryKind, Reply, Request},
        member::MemberRequest,
        rig::{Rig, write},
    };

    /// The leader loses its last entry in a power cut; the only other board that has it
    /// has just lost its vote by the entry before, and the third was cut off.
    fn nobody_electable() -> (Rig, [NodeId; 3]) {
        let (mut rig, leader) = Rig::led(&[1, 2, 3]);
        let (holder, third) = (leader % 3 + 1, (leader + 1) % 3 + 1);
        rig.cut.push(third);
        let rest = MemberRequest::Vote { id: holder, voter: false };
        rig.ask(leader, 1, Request::Member(rest));
        rig.run(100);
        assert!(matches!(rig.answer_of(1), Some(Reply::Done { .. })), "{:?}", rig.answer_of(1));
        rig.ask(leader, 2, write("sent"));
        rig.run(100);
        rig.journals.get_mut(&leader).unwrap().pop();
        rig.restart(leader, 2, &[1, 2, 3]);
        rig.cut.clear();
        (rig, [leader, holder, third])
    }

    #[test]
    fn what_only_a_board_without_a_vote_has_comes_back_to_who_sent_it() {
        for is_trimmed in [false, true] {
            let (mut rig, [leader, holder, third]) = nobody_electable();
            if is_trimmed {
                // Its log begins behind the last entry that the other has.
                let last = rig.nodes[&leader].last();
                let log = rig.nodes.get_mut(&holder).unwrap().raw.mut_store();
                assert_eq!(log.compact(last.index), Some(last));
            }
            rig.run(15_000);
            let next = rig.leader().expect("somebody can be elected again");
            assert!(next == leader || next == third, "{next}");
            rig.run(2_000);
            let ends =
                |id: NodeId| rig.journals[&id].iter().any(|entry| entry.data.ends_with(b"sent"));
            assert!(ends(leader) && ends(holder) && ends(third));
        }
    }

    #[test]
    fn entries_that_cannot_be_its_own_are_not_taken_back() {
        let (mut rig, [leader, holder, _]) = nobody_electable();
        rig.cut = Vec::from([holder]);
        rig.run(500);
        let after = rig.nodes[&leader].last();
        let entry = |term| FrameEntry { term, kind: EntryKind::Change, data: Vec::new() };
        let held = rig.journals[&leader].len();
        let later = after.term + 1;
        for (after, term) in [
            (Position { index: after.index - 1, ..after }, after.term),
            (after, later),
            (after, after.term - 1),
        ] {
            let entries = Vec::from([entry(term)]);
            rig.hear(leader, holder, &Frame::TailTell { after, entries });
        }
        let journal: &Vec<Entry> = &rig.journals[&leader];
        assert_eq!(journal.len(), held);
    }
}
