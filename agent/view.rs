//! From what the node knows to what people and callers are shown.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf};

use understudy_core::{
    event::Millis,
    member::Member,
    node::Node,
    status::{NodeStatus, PeerStatus, Role},
};

use crate::{
    driver::udp::Road,
    identity::Identity,
    seal::Drop,
    status::{MemberStatus, Status},
};

/// What is true of this board for as long as its agent runs.
pub struct Facts {
    /// Who it is.
    pub identity: Identity,
    /// When the agent started.
    pub started: Millis,
    /// Where HTTP listens.
    pub http: Option<SocketAddr>,
    /// HTTP is open beyond loopback.
    pub http_open: bool,
    /// The data directory.
    pub directory: PathBuf,
    /// A peer silent for so long counts as unreachable, milliseconds.
    pub unreachable_ms: u64,
}

/// The members this board listens to: those of the log, or, before it has read
/// any of it, those it was told of when it joined.
#[must_use]
pub fn members(node: &Node, facts: &Facts) -> Vec<Member> {
    let mut members = node.membership().members.clone();
    let known = |key| members.iter().any(|member: &Member| member.key == key);
    let told: Vec<_> = facts
        .identity
        .acquaintances
        .iter()
        .filter(|member| node.membership().last_id < member.id && !known(member.key))
        .cloned()
        .collect();
    members.extend(told);
    members
}

/// This board's view, at one moment.
#[must_use]
pub fn status(
    now: Millis,
    node: &Node,
    facts: &Facts,
    drops: &BTreeMap<Drop, u64>,
    road: &Road,
) -> Status {
    let own = facts.identity.node;
    let seen = node.status(now);
    let members = members(node, facts);
    let name = |id| members.iter().find(|member| member.id == id).map(|member| member.name.clone());
    let shown = |member: &Member| member_status(member, own, &seen, facts, road);
    Status {
        board: name(own).unwrap_or_default(),
        id: own,
        group: facts.identity.group_name.clone(),
        role: role(seen.role).to_owned(),
        leader: seen.leader.and_then(name),
        leader_id: seen.leader,
        term: seen.term,
        last_index: seen.last_index,
        commit_index: seen.commit_index,
        applied_index: seen.applied.index,
        http: facts.http.map(|address| address.to_string()),
        http_open: facts.http_open,
        udp: road.address().to_string(),
        agent_pid: std::process::id(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        uptime_ms: now.since(facts.started),
        contact_ms: seen.contact_ms,
        disk_full: seen.disk_full,
        confirming_disk: seen.confirming_disk,
        disk_lost: seen.disk_lost,
        directory: facts.directory.display().to_string(),
        members: members.iter().map(shown).collect(),
        counters: counters(&seen, drops, road),
    }
}

const fn role(role: Role) -> &'static str {
    match role {
        Role::Leader => "leader",
        Role::Follower => "follower",
        Role::Candidate => "candidate",
    }
}

fn member_status(
    member: &Member,
    own: u64,
    seen: &NodeStatus,
    facts: &Facts,
    road: &Road,
) -> MemberStatus {
    let is_own = member.id == own;
    let peer = seen.peers.get(&member.id).cloned().unwrap_or_default();
    let PeerStatus { heard_ms, matched, http } = peer;
    let heard_ms = if is_own { Some(0) } else { heard_ms };
    let heard = |ms: Option<u64>| ms.is_some_and(|ms| ms < facts.unreachable_ms);
    // Followers do not speak to each other: while the leader is there, its word
    // counts, and it would say so by losing its majority.
    let follows = seen.role == Role::Follower && seen.leader != Some(member.id);
    let reachable = heard(heard_ms) || (follows && heard(seen.contact_ms));
    let http = match is_own {
        true => facts.http.map(|address| format!("http://{address}")),
        false => Some(http).filter(|http| !http.is_empty()),
    };
    let address = road.last_heard(member.id).map(|address| address.to_string());
    MemberStatus {
        id: member.id,
        name: member.name.clone(),
        voter: member.voter,
        leader: seen.leader == Some(member.id),
        reachable,
        heard_ms,
        address: address.or_else(|| member.addresses.first().cloned()),
        http,
        matched_index: matched,
    }
}

fn counters(seen: &NodeStatus, drops: &BTreeMap<Drop, u64>, road: &Road) -> BTreeMap<String, u64> {
    let sealed = drops.iter().map(|(reason, count)| (format!("datagrams_{reason:?}"), *count));
    let frames = seen.dropped.iter().map(|(reason, count)| (format!("frames_{reason:?}"), *count));
    let unsent = [(String::from("datagrams_Unsendable"), road.failed())];
    let all = sealed.chain(frames).chain(unsent);
    all.map(|(name, count)| (name.to_lowercase(), count)).collect()
}
