//! What boards tell each other for people to see: where each one's HTTP listens,
//! and, from the leader, which of the others it hears. Followers do not speak to
//! each other, so without its word they would know nothing of one another.
//!
//! Nothing here decides anything. What is not known stays unknown: no board is
//! called there, or gone, out of ignorance.

use alloc::{collections::BTreeMap, string::String, vec::Vec};

use crate::{
    error::Rejection,
    event::{Millis, NodeId},
    limits,
    node::Node,
    wire::{Frame, Other},
};

/// What this node shows of itself, and was shown of the others.
#[derive(Default)]
pub(crate) struct Presence {
    own: String,
    http: BTreeMap<NodeId, String>,
    told: Option<Told>,
    word: Option<Word>,
    since: Option<Since>,
}

/// What this leader told last.
struct Told {
    tick: u64,
    others: Vec<Other>,
}

/// What the leader said last.
struct Word {
    from: NodeId,
    term: u64,
    at: Millis,
    heard: BTreeMap<NodeId, bool>,
}

/// How long this node has been where it is.
#[derive(Clone, Copy)]
struct Since {
    leader: Option<NodeId>,
    at: Millis,
}

impl Node {
    /// Where this board's HTTP listens: told to every peer when it is first heard,
    /// and now and then.
    pub fn set_presence(&mut self, http: String) {
        self.presence.own = http;
    }

    pub(crate) fn say_presence(&mut self, now: Millis, to: NodeId) {
        if !self.presence.own.is_empty() {
            let http = self.presence.own.clone();
            self.say(now, to, &Frame::Presence { http });
        }
    }

    /// Whoever speaks of itself may have just started.
    pub(crate) fn on_presence(
        &mut self,
        now: Millis,
        from: NodeId,
        http: String,
    ) -> Result<(), Rejection> {
        if !is_address(&http) {
            return Err(Rejection::Malformed);
        }
        self.presence.http.insert(from, http);
        self.ask_start(now, from);
        Ok(())
    }

    /// A board has started, and knows nothing yet.
    pub(crate) fn tell_anew(&mut self) {
        if let Some(told) = &mut self.presence.told {
            told.others.clear();
        }
    }

    /// Only the word of the leader of this term counts, and only on members.
    pub(crate) fn on_others(
        &mut self,
        now: Millis,
        from: NodeId,
        term: u64,
        others: Vec<Other>,
    ) -> Result<(), Rejection> {
        if others.len() > limits::MEMBERS_MAX || !others.iter().all(|other| is_address(&other.http))
        {
            return Err(Rejection::Malformed);
        }
        if self.leads() || self.leader() != Some(from) || self.raw.raft.term != term {
            return Ok(());
        }
        let members = &self.membership;
        let presence = &mut self.presence;
        let mut heard = BTreeMap::new();
        for Other { id, heard: is_heard, http } in others {
            if members.member(id).is_some() {
                heard.insert(id, is_heard);
                if !http.is_empty() {
                    presence.http.insert(id, http);
                }
            }
        }
        presence.http.retain(|id, _| members.member(*id).is_some());
        presence.word = Some(Word { from, term, at: now, heard });
        Ok(())
    }

    /// Notes when leadership changed, and tells what is due.
    pub(crate) fn tick_presence(&mut self, now: Millis) {
        let leader = self.leader();
        if self.presence.since.is_none_or(|since| since.leader != leader) {
            self.presence.since = Some(Since { leader, at: now });
            self.presence.told = None;
        }
        if self.ticks.is_multiple_of(limits::PRESENCE_TICKS) {
            for peer in self.heard.keys().copied().collect::<Vec<_>>() {
                self.say_presence(now, peer);
                self.say_builds(now, peer);
            }
        }
        if self.leads() {
            self.tell_others(now);
        }
    }

    /// At once when it has something new to say, but not all the time; else now
    /// and then, since a datagram may be lost.
    fn tell_others(&mut self, now: Millis) {
        let others = self.others(now);
        let due = self.presence.told.as_ref().is_none_or(|told| {
            let age = self.ticks - told.tick;
            let changed = told.others != others;
            age >= limits::OTHERS_TICKS || (changed && age >= limits::OTHERS_TICKS_MIN)
        });
        if !due {
            return;
        }
        for to in others.iter().filter(|other| other.heard).map(|other| other.id) {
            let others: Vec<Other> =
                others.iter().filter(|other| other.id != to).cloned().collect();
            if !others.is_empty() {
                let term = self.raw.raft.term;
                self.say(now, to, &Frame::Others { term, others });
            }
        }
        self.presence.told = Some(Told { tick: self.ticks, others });
    }

    fn others(&self, now: Millis) -> Vec<Other> {
        let peers = self.membership.members.iter().map(|member| member.id);
        let known = peers.filter(|id| *id != self.config.id).filter_map(|id| {
            let heard = self.hears(now, id)?;
            Some(Other { id, heard, http: self.http_of(id) })
        });
        known.take(limits::MEMBERS_MAX).collect()
    }

    pub(crate) fn http_of(&self, peer: NodeId) -> String {
        self.presence.http.get(&peer).cloned().unwrap_or_default()
    }

    /// Peers that this node itself has heard so lately that they count as there.
    pub(crate) fn heard_lately(&self, now: Millis) -> Vec<NodeId> {
        let ms = self.config.timing.unreachable_ms;
        self.heard.keys().copied().filter(|peer| self.heard_within(now, *peer, ms)).collect()
    }

    /// Is that peer there? None when this node cannot know.
    pub(crate) fn hears(&self, now: Millis, peer: NodeId) -> Option<bool> {
        let timing = &self.config.timing;
        if self.heard_within(now, peer, timing.unreachable_ms) {
            return Some(true);
        }
        let since = self.presence.since?;
        match self.leader() {
            // It speaks to the leader only.
            Some(leader) if leader != self.config.id && leader != peer => {
                self.word_on(now, leader, peer)
            }
            // It spoke to the leader before this one, or waits for a candidate.
            Some(_) => (now.since(since.at) >= timing.unreachable_ms).then_some(false),
            None => (now.since(since.at) >= timing.leaderless_ms()).then_some(false),
        }
    }

    fn word_on(&self, now: Millis, leader: NodeId, peer: NodeId) -> Option<bool> {
        let word = self.presence.word.as_ref()?;
        let timing = &self.config.timing;
        let ms_max = 3 * limits::OTHERS_TICKS * timing.tick_ms;
        let holds = word.from == leader
            && word.term == self.raw.raft.term
            && self.heard_within(now, leader, timing.unreachable_ms)
            && now.since(word.at) < ms_max;
        word.heard.get(&peer).copied().filter(|_| holds)
    }

    /// Milliseconds since nobody leads, as far as this node knows.
    #[must_use]
    pub fn leaderless_ms(&self, now: Millis) -> Option<u64> {
        let since = self.presence.since?;
        (self.leader().is_none() && since.leader.is_none()).then(|| now.since(since.at))
    }

    /// Has nobody led for longer than an election takes, as far as this node knows?
    #[must_use]
    pub fn lacks_leader(&self, now: Millis) -> bool {
        self.leaderless_ms(now).is_some_and(|ms| ms >= self.config.timing.leaderless_ms())
    }
}

fn is_address(http: &str) -> bool {
    http.len() <= limits::NAME_BYTES_MAX && !http.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeSet;

    use super::*;
    use crate::rig::Rig;

    #[test]
    fn what_has_not_changed_is_told_no_more_often_than_is_due() {
        let (mut rig, leader) = Rig::led(&[1, 2, 3, 4, 5]);
        for (id, node) in &mut rig.nodes {
            node.set_presence(alloc::format!("http://{id}"));
        }
        rig.run(21_000);
        let mut told = BTreeSet::new();
        let peer = leader % 5 + 1;
        for round in 0..1_000 {
            rig.run(100);
            if round % 17 == 0 {
                let http = alloc::format!("http://{peer}");
                rig.hear(leader, peer, &Frame::Presence { http });
            }
            told.extend(rig.nodes[&leader].presence.told.as_ref().map(|told| told.tick));
        }
        let ms = limits::OTHERS_TICKS * rig.nodes[&leader].config.timing.tick_ms;
        let due = 100_000 / ms;
        assert!((due - 2..=due + 2).contains(&(told.len() as u64)), "{} of {due}", told.len());
    }
}
