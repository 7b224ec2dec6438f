//! What an agent sees happen to the boards of its group, and which of that it writes down.
//!
//! Every board looks, so that one that comes to lead knows what was there before; the one
//! that leads writes. What is seen while nobody leads is kept for the case that this board
//! comes to lead, and given up when another does, which has seen it too. Its own start is
//! the only thing that a board writes whoever leads.
//!
//! Rows go into entries together: some moments after the first of them, and never more
//! often than every [`EVERY_MS`]. What is refused waits for the next time; there is a bound
//! on what waits, and the oldest is given up.

use std::collections::BTreeMap;

use understudy_core::{
    error::Refusal,
    event::{Millis, NodeId, Reply, Request},
    fates::Fate,
    history::{self, AGENT_KILLED, Kind, Record, STOPPED, seconds},
    readings::unset_of,
    sql::{self, Origin, RequestKind, SqlRequest, Statement},
};

/// Others that happen at the same time come along.
const GATHER_MS: u64 = 500;

/// Between two entries of this board.
pub const EVERY_MS: u64 = 5_000;

/// Rows that wait.
const WAITING_MAX: usize = 64;

/// A board that has met no leader in this start waits so long for one, milliseconds:
/// those of a group are not switched on all at once.
const FIRST_LEADER_MS: u64 = 30_000;

/// Another board of the group, as this one sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// Which.
    pub id: NodeId,
    /// Its name.
    pub name: String,
    /// The latest start that it was met in.
    pub boot: u64,
    /// It is there, as far as this board can know.
    pub reachable: Option<bool>,
    /// Since when it was not heard, milliseconds.
    pub heard_ms: Option<u64>,
    /// How its last start ended that is known to have.
    pub fate: Option<Fate>,
}

/// What an agent sees at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// By boot time.
    pub now: Millis,
    /// By the time of day, or what stands for an unset clock.
    pub time: i64,
    /// This board, and which start of it this is.
    pub own: (NodeId, u64),
    /// It leads.
    pub leads: bool,
    /// Who leads, itself perhaps.
    pub leader: Option<NodeId>,
    /// Who led before the last that did.
    pub before: Option<NodeId>,
    /// Since when nobody does, milliseconds.
    pub leaderless_ms: Option<u64>,
    /// More is no election any more.
    pub leaderless_ms_max: u64,
    /// A leader unheard for less has not been replaced for that.
    pub election_ms: u64,
    /// All other members.
    pub peers: Vec<Peer>,
}

/// What came to be between two looks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Happening {
    /// What.
    pub kind: Kind,
    /// To which board.
    pub board: NodeId,
    /// Why.
    pub reason: String,
}

#[derive(Clone, Copy)]
enum Place {
    Here,
    /// Since then; by an end of that start, where it is known to have ended.
    Gone {
        since: Millis,
        ended: Option<Fate>,
    },
}

/// See the module's description.
pub struct Recorder {
    places: BTreeMap<NodeId, Place>,
    led: bool,
    last_leader: Option<NodeId>,
    /// Who had led before that one.
    before: Option<NodeId>,
    /// Nobody leads for too long, since then.
    lacks: Option<Millis>,
    /// Why this start of the board is one, until that is written.
    boot: Option<String>,
    waiting: Vec<Record>,
    /// What is to be told of boards by whoever leads.
    untold: Vec<Happening>,
    /// Since when anything waits.
    since: Option<Millis>,
    written: Option<Millis>,
    asked: Option<Asked>,
    /// It wrote rows that have no time yet.
    has_unset: bool,
}

struct Asked {
    records: Vec<Record>,
    boot: Option<String>,
}

impl Recorder {
    /// Of this start of the board, about which there is this to say.
    #[must_use]
    pub const fn new(boot: String) -> Self {
        Self {
            places: BTreeMap::new(),
            led: false,
            last_leader: None,
            before: None,
            lacks: None,
            boot: Some(boot),
            waiting: Vec::new(),
            untold: Vec::new(),
            since: None,
            written: None,
            asked: None,
            has_unset: false,
        }
    }

    /// What came to be since the last look.
    pub fn look(&mut self, view: &View) -> Vec<Happening> {
        let mut happened = Vec::new();
        self.look_for_quorum(view, &mut happened);
        for peer in &view.peers {
            self.look_at(view, peer, &mut happened);
        }
        self.look_at_leader(view, &mut happened);
        self.places.retain(|id, _| view.peers.iter().any(|peer| peer.id == *id));
        self.keep(view, &happened);
        happened
    }

    fn look_for_quorum(&mut self, view: &View, happened: &mut Vec<Happening>) {
        let board = view.own.0;
        let ms_max = match self.last_leader {
            Some(_) => view.leaderless_ms_max,
            None => view.leaderless_ms_max.max(FIRST_LEADER_MS),
        };
        match (view.leaderless_ms.filter(|ms| *ms >= ms_max), self.lacks) {
            (Some(ms), None) => {
                self.lacks = Some(Millis(view.now.0.saturating_sub(ms)));
                let reason = format!("nobody leads since {}", seconds(ms));
                happened.push(Happening { kind: Kind::QuorumLost, board, reason });
            }
            (None, Some(since)) if view.leader.is_some() => {
                self.lacks = None;
                let reason = format!("nobody led for {}", seconds(view.now.since(since)));
                happened.push(Happening { kind: Kind::QuorumBack, board, reason });
            }
            _ => {}
        }
    }

    fn look_at(&mut self, view: &View, peer: &Peer, happened: &mut Vec<Happening>) {
        let board = peer.id;
        let mut happen = |kind, reason| happened.push(Happening { kind, board, reason });
        let now = view.now;
        let place = self.places.get(&board).copied();
        let known = match place {
            Some(Place::Gone { ended, .. }) => ended,
            Some(Place::Here) | None => None,
        };
        if let Some(fate) = peer.fate.filter(|fate| fate.boot >= peer.boot && known != Some(*fate))
        {
            let (kind, reason) = match fate.is_clean {
                true => (Kind::CleanEnd, STOPPED),
                false => (Kind::UncleanEnd, AGENT_KILLED),
            };
            happen(kind, reason.to_owned());
            self.places.insert(board, Place::Gone { since: now, ended: Some(fate) });
            return;
        }
        let place = match (place, peer.reachable) {
            (Some(Place::Gone { since, ended: None }), Some(true)) => {
                happen(Kind::Back, format!("heard again after {}", seconds(now.since(since))));
                Place::Here
            }
            (Some(Place::Gone { since, ended: Some(fate) }), Some(true))
                if peer.boot > fate.boot =>
            {
                if !fate.is_clean {
                    happen(
                        Kind::Back,
                        format!("started again after {}", seconds(now.since(since))),
                    );
                }
                Place::Here
            }
            (Some(Place::Here) | None, Some(false)) => {
                let reason = match peer.heard_ms {
                    Some(ms) => format!("unheard for {}", seconds(ms)),
                    None => String::from("not heard so far"),
                };
                happen(Kind::Lost, reason);
                Place::Gone { since: now, ended: None }
            }
            (None, Some(true)) => Place::Here,
            (Some(place), _) => place,
            (None, None) => return,
        };
        self.places.insert(board, place);
    }

    fn look_at_leader(&mut self, view: &View, happened: &mut Vec<Happening>) {
        let own = view.own.0;
        if view.leads && !self.led {
            let is_again = self.last_leader == Some(own) && self.before == view.before;
            let reason = match view.before {
                _ if is_again => String::from("nobody else was elected"),
                None => String::from("nobody led before"),
                Some(before) => after(view, before),
            };
            happened.push(Happening { kind: Kind::Elected, board: own, reason });
        }
        self.led = view.leads;
        self.last_leader = view.leader.or(self.last_leader);
        self.before = view.before;
    }

    /// Keeps what this board would write.
    fn keep(&mut self, view: &View, happened: &[Happening]) {
        let mut happened = happened.to_vec();
        if let Some(leader) = view.leader.filter(|_| !view.leads) {
            // It writes what it sees, but not its own end: that is for whoever leads next.
            let is_its_end = |kind: Kind, board: NodeId| {
                board == leader && matches!(kind, Kind::CleanEnd | Kind::UncleanEnd)
            };
            self.waiting.retain(|record| is_its_end(record.kind, record.board));
            self.untold.retain(|it| is_its_end(it.kind, it.board));
            happened.retain(|it| is_its_end(it.kind, it.board));
        }
        let room = WAITING_MAX.saturating_sub(self.untold.len());
        let of_boards = |it: &&Happening| !matches!(it.kind, Kind::QuorumLost | Kind::QuorumBack);
        self.untold.extend(happened.iter().filter(of_boards).take(room).cloned());
        for Happening { kind, board, reason } in &happened {
            if self.waiting.len() == WAITING_MAX {
                self.waiting.remove(0);
            }
            let (time, reason) = (view.time, reason.clone());
            self.waiting.push(Record { time, board: *board, kind: *kind, duty: None, reason });
        }
    }

    /// What this board is to tell people of since the last call, because it leads.
    pub fn tell(&mut self, view: &View) -> Vec<Happening> {
        if view.leads { std::mem::take(&mut self.untold) } else { Vec::new() }
    }

    /// The request that writes what waits, if it is time for one.
    pub fn due(&mut self, view: &View) -> Option<Request> {
        let (own, boot) = view.own;
        let is_set = unset_of(view.time).is_none();
        let writes_all = view.leads && !self.waiting.is_empty();
        let puts_right = is_set && self.has_unset;
        if !writes_all && self.boot.is_none() && !puts_right || view.leader.is_none() {
            self.since = None;
            return None;
        }
        let since = *self.since.get_or_insert(view.now);
        let is_early = self.written.is_some_and(|at| view.now.since(at) < EVERY_MS);
        if view.now.since(since) < GATHER_MS || is_early || self.asked.is_some() {
            return None;
        }
        let records = if view.leads { std::mem::take(&mut self.waiting) } else { Vec::new() };
        let reason = self.boot.take();
        let started = reason.as_ref().map(|reason| Record {
            time: view.time,
            board: own,
            kind: Kind::Boot,
            duty: None,
            reason: format!("start {boot}: {reason}"),
        });
        let all: Vec<Record> = started.into_iter().chain(records.clone()).collect();
        self.has_unset = !is_set && (self.has_unset || view.leads || !all.is_empty());
        let mut statements = match all.is_empty() {
            true => Vec::new(),
            false => history::statements(own, all, None),
        };
        if puts_right {
            statements.push(right(view));
        }
        (self.since, self.written) = (None, Some(view.now));
        self.asked = Some(Asked { records, boot: reason });
        let request = SqlRequest::new(RequestKind::Execute, Origin::Agent, statements);
        Some(Request::Write(sql::encode(&request)))
    }

    /// What came of it: what had no effect for sure waits for the next time.
    pub fn answered(&mut self, reply: &Reply) {
        let Some(Asked { mut records, boot }) = self.asked.take() else { return };
        let is_lost = match reply {
            Reply::Done { .. } => false,
            Reply::Refused(refusal) => refusal.is_passing() && *refusal != Refusal::OutcomeUnknown,
        };
        if is_lost {
            self.boot = self.boot.take().or(boot);
            records.append(&mut self.waiting);
            let beyond = records.len().saturating_sub(WAITING_MAX);
            self.waiting = records.split_off(beyond);
        }
    }
}

fn right(view: &View) -> Statement {
    let boot_us = i64::try_from(view.now.0).unwrap_or(i64::MAX).saturating_mul(1_000);
    history::put_right(view.own.0, view.own.1, view.time.saturating_sub(boot_us))
}

/// Why this board leads in the place of another.
fn after(view: &View, before: NodeId) -> String {
    let Some(peer) = view.peers.iter().find(|peer| peer.id == before) else {
        return String::from("the board that led was removed");
    };
    let name = &peer.name;
    match (peer.fate.filter(|fate| fate.boot >= peer.boot), peer.heard_ms) {
        (Some(Fate { is_clean: true, .. }), _) => format!("{name} {STOPPED}"),
        (Some(Fate { is_clean: false, .. }), _) => format!("{name}: {AGENT_KILLED}"),
        (None, Some(ms)) if ms >= view.election_ms => {
            format!("{name} unheard for {}", seconds(ms))
        }
        (None, _) => format!("{name} led before"),
    }
}

#[cfg(test)]
#[path = "recorder_tests.rs"]
mod tests;
