//! Which start of a board is alive. One disk is started once at a time, and counts its
//! starts before it sends anything; so two starts alive at once are two copies of one
//! card, and a start from before that comes after is a card that was put back.
//!
//! A board asks whom it hears now and then, and at once who has just started or looks
//! for votes. The answer carries the number of the question, so whoever gave it lived
//! after that was asked: what is under way since before a restart proves nothing. Who
//! answers with an earlier start than was met before, or with the same count and another
//! nonce, is a copy.
//!
//! What was met is passed on: boards that follow do not hear each other, and one that
//! starts from an old card while the leader is away is found out by the others.
//!
//! From then on neither of them counts: who has met both takes nothing of Raft from
//! that id and says nothing of it to it. It tells both, who write it down and never
//! vote again, and all others. What was met of a peer is kept in the journal with what
//! that promised; so a voter that starts from an old card hears of it before it votes,
//! since it is told what it promised only in the start that it was met in.
//!
//! Left out: copies of which no board ever hears both, nor hears of one from another.

use alloc::{collections::BTreeMap, vec::Vec};

use crate::{
    error::Rejection,
    event::{Memory, Millis, NodeId, Start},
    limits, mutant,
    node::Node,
    wire::Frame,
};

/// See the module's description.
#[derive(Default)]
pub(crate) struct Starts {
    /// Questions that are not answered yet.
    asked: BTreeMap<NodeId, Asked>,
    /// At which tick each answered last.
    met: BTreeMap<NodeId, u64>,
    /// Copies that were told so, and at which tick.
    reminded: BTreeMap<NodeId, u64>,
}

struct Asked {
    number: u64,
    tick: u64,
    /// It waits for what it promised.
    wants_promise: bool,
}

impl Starts {
    /// A board has left the group.
    pub(crate) fn forget(&mut self, peer: NodeId) {
        self.asked.remove(&peer);
        self.met.remove(&peer);
        self.reminded.remove(&peer);
    }
}

/// Who answers from `start` now and was met in `known` before: is it another disk?
const fn is_copy(known: Start, start: Start) -> bool {
    start.boot < known.boot || start.boot == known.boot && start.nonce != known.nonce
}

impl Node {
    const fn start(&self) -> Start {
        Start { boot: self.config.boot, nonce: self.config.nonce }
    }

    /// Are there copies of the disk of `peer`?
    pub(crate) fn is_copied(&self, peer: NodeId) -> bool {
        self.memories.of(peer).is_copied && !mutant::is(71)
    }

    /// May this board say anything of Raft to `peer`, and hear it?
    pub(crate) fn deals_with(&self, peer: NodeId) -> bool {
        self.standing.deals_with(peer) && !self.is_copied(peer)
    }

    /// Members of whose disks there are copies, this board perhaps among them.
    pub(crate) fn copied_boards(&self) -> Vec<NodeId> {
        let is_copied = |id: &NodeId| match *id == self.config.id {
            true => self.standing.is_copied(),
            false => self.is_copied(*id),
        };
        self.membership.members.iter().map(|member| member.id).filter(is_copied).collect()
    }

    /// Asks `peer` which of its starts it is in, unless a question is young.
    pub(crate) fn ask_start(&mut self, now: Millis, peer: NodeId) {
        let tick = self.ticks;
        let asked = self.starts.asked.get(&peer);
        if asked.is_some_and(|asked| tick - asked.tick < limits::START_TICKS_MIN) {
            return;
        }
        let wants_promise = asked.is_some_and(|asked| asked.wants_promise);
        let number = self.number();
        self.starts.asked.insert(peer, Asked { number, tick, wants_promise });
        self.say(now, peer, &Frame::StartAsk { number });
    }

    pub(crate) fn on_start_ask(&mut self, now: Millis, from: NodeId, number: u64) {
        let start = self.start();
        self.say(now, from, &Frame::StartTell { number, start });
    }

    pub(crate) fn on_start_tell(&mut self, now: Millis, from: NodeId, number: u64, start: Start) {
        if self.starts.asked.get(&from).is_none_or(|asked| asked.number != number) {
            return;
        }
        let wants_promise = self.starts.asked.remove(&from).is_some_and(|a| a.wants_promise);
        let Memory { start: known, is_copied, promise } = self.memories.of(from);
        if is_copied {
            return;
        }
        if is_copy(known, start) && !mutant::is(70) {
            return self.condemn(now, from);
        }
        self.memories.meet(from, start);
        self.starts.met.insert(from, self.ticks);
        if start != known {
            self.tell_starts(now);
            self.tell_anew();
            self.say_builds(now, from);
        }
        if wants_promise {
            self.say(now, from, &Frame::PromiseTell { boot: start.boot, promise });
        }
    }

    pub(crate) fn condemn(&mut self, now: Millis, id: NodeId) {
        if id == self.config.id {
            self.standing.condemn();
            self.record_standing(now);
        } else {
            self.memories.condemn(id);
        }
        self.tell_copies(now);
    }

    /// Boards that `from` has met, each while it was alive.
    pub(crate) fn on_starts(
        &mut self,
        now: Millis,
        met: &[(NodeId, Start)],
    ) -> Result<(), Rejection> {
        if met.len() > limits::MEMBERS_MAX {
            return Err(Rejection::Malformed);
        }
        for (id, start) in met {
            if self.membership.member(*id).is_none() {
                continue;
            }
            let is_own = *id == self.config.id;
            let known = if is_own { self.start() } else { self.memories.of(*id).start };
            if start.boot > known.boot && !is_own {
                self.memories.meet(*id, *start);
                // An answer that is under way may be of the start before.
                self.starts.asked.remove(id);
            } else if start.boot >= known.boot && *start != known {
                self.condemn(now, *id);
            }
        }
        Ok(())
    }

    /// Whoever still speaks of Raft in the name of a copied board has not heard of it.
    pub(crate) fn remind_copy(&mut self, now: Millis, from: NodeId) {
        let told = self.starts.reminded.get(&from);
        if told.is_none_or(|tick| self.ticks - tick >= limits::START_TICKS_MIN) {
            self.starts.reminded.insert(from, self.ticks);
            self.tell_copies_to(now, from);
        }
    }

    /// A voter that starts asks what it promised: it is told in the start it was met in.
    pub(crate) fn on_promise_ask(&mut self, now: Millis, from: NodeId, boot: u64) {
        if self.is_copied(from) {
            return self.remind_copy(now, from);
        }
        if mutant::is(72) {
            let promise = self.memories.of(from).promise;
            return self.say(now, from, &Frame::PromiseTell { boot, promise });
        }
        self.ask_start(now, from);
        if let Some(asked) = self.starts.asked.get_mut(&from) {
            asked.wants_promise = true;
        }
    }

    /// A peer has met copies of these boards' disks.
    pub(crate) fn on_copies(&mut self, now: Millis, copied: &[NodeId]) -> Result<(), Rejection> {
        if copied.len() > limits::MEMBERS_MAX {
            return Err(Rejection::Malformed);
        }
        let known = self.copied_boards();
        for id in copied.iter().filter(|id| !known.contains(id)) {
            if self.membership.member(*id).is_some() {
                self.condemn(now, *id);
            }
        }
        Ok(())
    }

    /// Asks who was heard lately, and says of whom there are copies.
    pub(crate) fn tick_starts(&mut self, now: Millis) {
        if !self.ticks.is_multiple_of(limits::START_TICKS) {
            return;
        }
        for peer in self.heard_lately(now) {
            let met = self.starts.met.get(&peer);
            if met.is_none_or(|tick| self.ticks - tick >= limits::START_TICKS) {
                self.ask_start(now, peer);
            }
        }
        self.tell_starts(now);
        self.tell_copies(now);
    }

    /// Says which starts it has met: at once when there is a new one, and now and then.
    fn tell_starts(&mut self, now: Millis) {
        let members = self.membership.members.iter().map(|member| member.id);
        let met = members.map(|id| (id, self.memories.of(id).start));
        let met: Vec<_> = met.filter(|(_, start)| start.boot > 0).collect();
        for peer in self.heard_lately(now) {
            let others: Vec<_> = met.iter().copied().filter(|(id, _)| *id != peer).collect();
            if !others.is_empty() {
                self.say(now, peer, &Frame::Starts { met: others });
            }
        }
    }

    fn tell_copies(&mut self, now: Millis) {
        for peer in self.heard_lately(now) {
            self.tell_copies_to(now, peer);
        }
    }

    fn tell_copies_to(&mut self, now: Millis, peer: NodeId) {
        let copied = self.copied_boards();
        if !copied.is_empty() {
            self.say(now, peer, &Frame::Copies { copied });
        }
    }
}

#[cfg(test)]
#[path = "starts_tests.rs"]
mod tests;
