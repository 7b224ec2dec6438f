//! From what the node knows to what people and callers are shown.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf};

use understudy_core::{
    duty::{ANOTHER, Duty},
    event::Millis,
    member::Member,
    node::Node,
    scrub::Difference,
    status::{NodeStatus, PeerStatus, PullStatus as Pulls, Role, ScrubStatus as Seen},
    versions::Build,
};

use crate::{
    bridge::Bridge,
    budget::Budgets,
    checks::Check,
    driver::{mqtt::LineStatus, road::Road},
    history::ends::Ends,
    identity::Identity,
    links::PowerSave,
    notices::bell::Bell,
    readers,
    sampling::Samples,
    seal::Drop,
    slow::Syncs,
    status::{
        BrokerStatus, DifferenceStatus, DutyStatus, MemberStatus, PullStatus, ScrubStatus, Status,
    },
    version,
};

/// What is true of this board beside its node.
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
    /// What becomes of that with the machine's next start, if it does not stay.
    pub forgets: Option<String>,
    /// What the agent uses of its board.
    pub budgets: Budgets,
    /// Which start of the board this is.
    pub boot: u64,
    /// Process id of its parent, which says when the agent has ended.
    pub parent: Option<u32>,
    /// What this board can do, by its configuration.
    pub capabilities: Vec<String>,
    /// What says whether it can do more.
    pub checks: Vec<Check>,
    /// Duties whose commands the configuration has kept.
    pub kept: Vec<String>,
    /// Who is told of what.
    pub bell: Bell,
    /// How the start before this one ended.
    pub ends: Ends,
    /// How long its journal's syncs took.
    pub syncs: Syncs,
    /// Which of its links saves power.
    pub power_save: PowerSave,
    /// What it does at brokers for others than boards.
    pub bridge: Bridge,
    /// Its own sensors.
    pub samples: Samples,
    /// Why no old readings are trimmed, as the group's database says.
    pub not_trimmed: Option<String>,
    /// Who has the turn, by this board's rows.
    pub turn: Option<u64>,
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
    let shown = |member: &Member| MemberStatus {
        resting: node.membership().resting.contains(&member.id),
        drained: node.is_drained(member.id),
        witness: node.membership().is_witness(member.id) || member.id == own && node.is_witness(),
        ..member_status((member, node.build_of(member.id)), own, &seen, facts, road)
    };
    Status {
        board: name(own).unwrap_or_default(),
        id: own,
        group: facts.identity.group_name.clone(),
        history: crc32c::crc32c(&facts.identity.group),
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
        parent_pid: facts.parent,
        start: facts.boot,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        group_version: node.version(),
        known_version: node.version_known(),
        uptime_ms: now.since(facts.started),
        contact_ms: seen.contact_ms,
        leaderless_ms: seen.leaderless_ms,
        leaderless_ms_max: seen.leaderless_ms_max,
        voters_max: node.voters_max(),
        disk_full: seen.disk_full,
        database_held: seen.database_held,
        database_readers: database_readers(&seen, facts),
        confirming_disk: seen.confirming_disk,
        unconfirmed_by: seen.unconfirmed_by.iter().filter_map(|id| name(*id)).collect(),
        disk_lost: seen.disk_lost,
        copied: seen.copied.iter().filter_map(|id| name(*id)).collect(),
        removed: seen.removed,
        witness: seen.witness,
        one_copy: seen.one_copy,
        one_copy_allowed: seen.one_copy_allowed,
        fenced: seen.fenced.contains(&own),
        key: node.membership().keys.used,
        key_newest: node.membership().keys.newest(),
        key_oldest: node.membership().keys.oldest,
        key_due: node.membership().keys.is_due,
        key_awaits: seen.keys_wait_for.iter().filter_map(|id| name(*id)).collect(),
        pulls: seen.pulls.map(|pulls| pull_status(pulls, &members)),
        scrub: seen.scrub.as_ref().map(|scrub| scrub_status(scrub, &seen.fenced, &members)),
        readings: node.intake_status(),
        duties: duties_of(now, node, &members),
        not_trimmed: facts.not_trimmed.clone(),
        turn: facts.turn,
        directory: facts.directory.display().to_string(),
        members: members.iter().map(shown).collect(),
        counters: counters(&seen, drops, road).into_iter().chain(facts.bell.counters()).collect(),
        bridges: facts.bridge.status(),
        samples: facts.samples.status(now),
        brokers: road.lines().map(|(name, line)| broker_status(name, line)).collect(),
        ..Status::default()
    }
}

fn broker_status(name: &str, line: LineStatus) -> BrokerStatus {
    let LineStatus { since, trouble, posted, dropped, heard } = line;
    let broker = name.to_owned();
    BrokerStatus { broker, connected: since.is_some(), trouble, posted, heard, dropped }
}

fn database_readers(seen: &NodeStatus, facts: &Facts) -> Vec<String> {
    match seen.database_held {
        true => readers::of(&facts.directory.join("state.db")),
        false => Vec::new(),
    }
}

/// The group's duties, as this board sees them.
#[must_use]
pub fn duties(now: Millis, node: &Node, facts: &Facts) -> Vec<DutyStatus> {
    duties_of(now, node, &members(node, facts))
}

fn duties_of(now: Millis, node: &Node, members: &[Member]) -> Vec<DutyStatus> {
    node.duties().iter().map(|duty| duty_status(now, node, duty, members)).collect()
}

fn name_of(id: u64, members: &[Member]) -> String {
    let member = members.iter().find(|member| member.id == id);
    member.map_or_else(|| format!("board {id}"), |member| member.name.clone())
}

fn duty_status(now: Millis, node: &Node, duty: &Duty, members: &[Member]) -> DutyStatus {
    let name = |id: &u64| name_of(*id, members);
    DutyStatus {
        name: duty.name.clone(),
        token: duty.token,
        holder: duty.holder.map(|holder| name(&holder.board)),
        held: node.held_duties(now).any(|held| held.claim == duty.claim()),
        ready: node.is_ready_for(duty.id),
        lease_ms: duty.lease_ms,
        candidates: duty.candidates.iter().map(name).collect(),
        paused: duty.is_paused,
        wanted: duty.wanted.map(|board| match board {
            ANOTHER => String::from("another board"),
            board => name(&board),
        }),
        rules: duty.rules.clone(),
        silent: node.is_unfit_for(duty.id),
    }
}

fn pull_status(seen: Pulls, members: &[Member]) -> PullStatus {
    PullStatus { from: name_of(seen.from, members), taken: seen.taken, pages: seen.pages }
}

fn scrub_status(seen: &Seen, fenced: &[u64], members: &[Member]) -> ScrubStatus {
    let name = |id: &u64| name_of(*id, members);
    let names = |ids: &[u64]| ids.iter().map(name).collect::<Vec<_>>();
    let reasons = |reasons: &[(u64, String)]| {
        reasons.iter().map(|(id, why)| (name(id), why.clone())).collect::<BTreeMap<_, _>>()
    };
    let difference = |difference: &Difference| DifferenceStatus {
        table: difference.table.clone(),
        rows: difference.rows.clone(),
        sides: difference.sides.iter().map(|side| names(side)).collect(),
        problems: reasons(&difference.problems),
    };
    ScrubStatus {
        id: seen.id,
        time: seen.time,
        entry: seen.entry,
        under_way: seen.under_way,
        silent: names(&seen.silent),
        unfinished: reasons(&seen.unfinished),
        differences: seen.differences.iter().map(difference).collect(),
        decided: seen.decided,
        source: seen.source.as_ref().map(name),
        fenced: names(fenced),
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
    (member, build): (&Member, Option<Build>),
    own: u64,
    seen: &NodeStatus,
    facts: &Facts,
    road: &Road,
) -> MemberStatus {
    let is_own = member.id == own;
    let peer = seen.peers.get(&member.id).cloned().unwrap_or_default();
    let PeerStatus { heard_ms, reachable, matched, round_trip_ms, http } = peer;
    let reachable = if is_own { Some(true) } else { reachable };
    let http = match is_own {
        true => facts.http.map(|address| format!("http://{address}")),
        false => Some(http).filter(|http| !http.is_empty()),
    };
    let heard_from = road.last_heard(member.id).map(|address| address.to_string());
    let addresses: Vec<String> =
        heard_from.into_iter().chain(member.addresses.iter().cloned()).collect();
    MemberStatus {
        id: member.id,
        name: member.name.clone(),
        voter: member.voter,
        resting: false,
        drained: false,
        witness: false,
        leader: seen.leader == Some(member.id),
        round_trip_ms,
        release: build.map(|build| version::text(build.release)),
        known_version: build.map(|build| build.version),
        slow: seen.slow.contains(&member.id),
        reachable: reachable == Some(true),
        unknown: reachable.is_none(),
        heard_ms: if is_own { Some(0) } else { heard_ms },
        http: http.map(|http| usable(http, &addresses)),
        address: addresses.into_iter().next(),
        matched_index: matched,
    }
}

/// A URL that leads to its board: one that listens on all its addresses says
/// none, so the first it is reached at, of the right kind, stands in for it.
fn usable(http: String, addresses: &[String]) -> String {
    let bound = http.strip_prefix("http://").and_then(|bound| bound.parse::<SocketAddr>().ok());
    let Some(bound) = bound.filter(|bound| bound.ip().is_unspecified()) else { return http };
    let hosts = addresses.iter().filter_map(|address| Some(address.rsplit_once(':')?.0));
    let found = { hosts }.find(|host| bound.is_ipv6() || !host.starts_with('['));
    found.map_or(http, |host| format!("http://{host}:{}", bound.port()))
}

fn counters(seen: &NodeStatus, drops: &BTreeMap<Drop, u64>, road: &Road) -> BTreeMap<String, u64> {
    let sealed = drops.iter().map(|(reason, count)| (format!("datagrams_{reason:?}"), *count));
    let frames = seen.dropped.iter().map(|(reason, count)| (format!("frames_{reason:?}"), *count));
    let traffic = road.traffic();
    let road = [
        ("datagrams_unsendable", traffic.failed),
        ("datagrams_sent", traffic.sent),
        ("datagrams_sent_bytes", traffic.sent_bytes),
        ("datagrams_received", traffic.received),
        ("datagrams_received_bytes", traffic.received_bytes),
    ];
    let road = road.map(|(name, count)| (name.to_owned(), count));
    let all = sealed.chain(frames).chain(road);
    all.map(|(name, count)| (name.to_lowercase(), count)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_board_that_listens_everywhere_is_shown_where_it_is_heard() {
        for (http, addresses, shown) in [
            ("http://0.0.0.0:4001", vec!["192.168.1.7:4002"], "http://192.168.1.7:4001"),
            ("http://[::]:4001", vec!["[fd00::7]:4002"], "http://[fd00::7]:4001"),
            ("http://0.0.0.0:1", vec!["[fd00::7]:4002", "10.0.0.7:4002"], "http://10.0.0.7:1"),
            ("http://[::]:4001", vec!["pump.local:4002"], "http://pump.local:4001"),
            ("http://127.0.0.1:4001", vec!["192.168.1.7:4002"], "http://127.0.0.1:4001"),
            ("http://0.0.0.0:4001", vec![], "http://0.0.0.0:4001"),
        ] {
            let addresses: Vec<String> = addresses.into_iter().map(String::from).collect();
            assert_eq!(usable(http.to_owned(), &addresses), shown);
        }
    }
}
