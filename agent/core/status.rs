//! A node's view of itself, for people and front doors: nothing here decides.

use alloc::{collections::BTreeMap, string::String, vec::Vec};

use raft::StateRole;

use crate::{
    error::Rejection,
    event::{Millis, NodeId, Position},
    freshness::{majority_heard, of_all_majorities},
    node::Node,
};

pub use crate::{catchup::PullStatus, scrubber::ScrubStatus};

/// What a node does in its group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// Follows, or looks for a leader.
    #[default]
    Follower,
    /// Asks for votes.
    Candidate,
    /// Leads.
    Leader,
}

/// A node's view of a peer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerStatus {
    /// Milliseconds since it was last heard.
    pub heard_ms: Option<u64>,
    /// It is there: heard lately, or by a leader that says so. None when this
    /// node cannot know.
    pub reachable: Option<bool>,
    /// How far its log is known to match, by a leader.
    pub matched: Option<u64>,
    /// About the longest round trip to it of late, milliseconds, as a leader knows it.
    pub round_trip_ms: Option<u64>,
    /// Its HTTP address as it last said.
    pub http: String,
}

/// A node's view of itself, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeStatus {
    /// What it does.
    pub role: Role,
    /// Who leads, as far as it knows.
    pub leader: Option<NodeId>,
    /// Raft term.
    pub term: u64,
    /// Last index in the log.
    pub last_index: u64,
    /// Highest index known committed.
    pub commit_index: u64,
    /// Last entry in the database.
    pub applied: Position,
    /// Milliseconds since a majority (a leader) or the leader was last heard.
    pub contact_ms: Option<u64>,
    /// Milliseconds since nobody leads, as far as it knows.
    pub leaderless_ms: Option<u64>,
    /// So long without a leader is no election any more, milliseconds.
    pub leaderless_ms_max: u64,
    /// The journal's disk is full.
    pub disk_full: bool,
    /// Somebody's long read holds the database: nothing is applied.
    pub database_held: bool,
    /// It waits for its peers' word on its disk.
    pub confirming_disk: bool,
    /// It went on without the word of these.
    pub unconfirmed_by: Vec<NodeId>,
    /// Its peers remember more than its disk does.
    pub disk_lost: bool,
    /// Boards of which two copies were met, this one perhaps among them.
    pub copied: Vec<NodeId>,
    /// It was taken out of the group.
    pub removed: bool,
    /// Boards whose rows contradict the others', this one perhaps among them.
    pub fenced: Vec<NodeId>,
    /// It takes the database's state from another board, page by page.
    pub pulls: Option<PullStatus>,
    /// The last comparison of all boards.
    pub scrub: Option<ScrubStatus>,
    /// A change of the group's key waits for these.
    pub keys_wait_for: Vec<NodeId>,
    /// It keeps none of the users' rows.
    pub witness: bool,
    /// One board alone may have what is written next, as this leader or witness knows.
    pub one_copy: bool,
    /// The group writes on then.
    pub one_copy_allowed: bool,
    /// Boards that cannot keep up with the group's timing, as this leader sees it.
    pub slow: Vec<NodeId>,
    /// Peers, by id.
    pub peers: BTreeMap<NodeId, PeerStatus>,
    /// Peers' bytes dropped, by reason.
    pub dropped: BTreeMap<Rejection, u64>,
}

impl Node {
    /// This node's view of itself and its peers.
    #[must_use]
    pub fn status(&self, now: Millis) -> NodeStatus {
        let raft = &self.raw.raft;
        NodeStatus {
            role: match raft.state {
                StateRole::Leader => Role::Leader,
                StateRole::Follower => Role::Follower,
                StateRole::Candidate | StateRole::PreCandidate => Role::Candidate,
            },
            leader: self.leader(),
            term: raft.term,
            last_index: raft.raft_log.last_index(),
            commit_index: raft.raft_log.committed,
            applied: self.applier.applied(),
            contact_ms: self.contact_ms(now),
            leaderless_ms: self.leaderless_ms(now),
            leaderless_ms_max: self.config.timing.leaderless_ms(),
            disk_full: self.disk_full || self.database_full,
            database_held: self.database_held,
            confirming_disk: self.standing.is_asking(),
            unconfirmed_by: self.standing.unconfirmed().collect(),
            disk_lost: self.standing.is_lost(),
            copied: self.copied_boards(),
            removed: self.is_removed(),
            fenced: self.fenced_boards(),
            pulls: self.catchup.status(),
            scrub: self.scrub_status(now),
            keys_wait_for: self.keys_wait_for(now),
            witness: self.is_witness(),
            one_copy: self.has_one_copy(now),
            one_copy_allowed: self.may_have_one_copy(),
            slow: self.slow_boards(),
            peers: self.peers(now),
            dropped: self.dropped.clone(),
        }
    }

    /// Milliseconds since a majority (this leader included) or the leader was heard.
    pub(crate) fn contact_ms(&self, now: Millis) -> Option<u64> {
        if !self.leads() {
            return self.heard.get(&self.leader()?).map(|at| now.since(*at));
        }
        let majority = |voters: &[NodeId]| majority_heard(now, self.config.id, voters, &self.heard);
        of_all_majorities(&self.membership, majority).map(|at| now.since(at))
    }

    /// This node's view of its peers.
    #[must_use]
    pub fn peers(&self, now: Millis) -> BTreeMap<NodeId, PeerStatus> {
        let others = self.membership.members.iter().filter(|member| member.id != self.config.id);
        others
            .map(|member| {
                let progress = self.raw.raft.prs().get(member.id).filter(|_| self.leads());
                let peer = PeerStatus {
                    heard_ms: self.heard.get(&member.id).map(|at| now.since(*at)),
                    matched: progress.map(|progress| progress.matched),
                    reachable: self.hears(now, member.id),
                    round_trip_ms: self.round_trip_ms(member.id),
                    http: self.http_of(member.id),
                };
                (member.id, peer)
            })
            .collect()
    }
}
