//! A member's look at its group, for the history: what it sees, now and then, becomes
//! rows by way of the recorder.

use understudy_core::event::{Event, Millis, NodeId};

use super::{Member, Waiter};
use crate::history::recorder::{Peer, Recorder, View};

/// Between two looks.
const LOOK_MS: u64 = 250;

/// What a member keeps for that.
pub(super) struct Watching {
    pub(super) recorder: Recorder,
    looked: Millis,
}

impl Watching {
    /// Of a start about which there is this to say.
    pub(super) fn new(boot: &str) -> Self {
        Self { recorder: Recorder::new(boot.to_owned()), looked: Millis(0) }
    }
}

impl Member {
    pub(super) fn watch_group(&mut self, now: Millis) {
        let is_part = !self.node.is_removed() && !self.node.is_witness();
        if now.since(self.watching.looked) < LOOK_MS || !is_part {
            return;
        }
        self.watching.looked = now;
        let view = self.group_view(now);
        self.watching.recorder.look(&view);
        if let Some(request) = self.watching.recorder.due(&view) {
            let id = self.wait(Waiter::History);
            self.happen(Event::Requested { id, request });
        }
    }

    fn group_view(&self, now: Millis) -> View {
        let status = self.node.status(now);
        let peer = |(id, seen): (&NodeId, &_)| self.peer_view(*id, seen);
        View {
            now,
            time: self.node.stamp(now),
            own: (self.facts.identity.node, self.facts.boot),
            leads: self.node.leads(),
            leader: status.leader,
            leaderless_ms: status.leaderless_ms,
            leaderless_ms_max: status.leaderless_ms_max,
            election_ms: self.node.election_ms_min(),
            peers: status.peers.iter().map(peer).collect(),
        }
    }

    fn peer_view(&self, id: NodeId, seen: &understudy_core::status::PeerStatus) -> Peer {
        Peer {
            id,
            name: self.node.name_of(id),
            boot: self.node.boot_of(id),
            reachable: seen.reachable,
            heard_ms: seen.heard_ms,
            fate: self.node.fate(id),
        }
    }
}
