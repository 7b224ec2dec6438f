//! Nodes in memory with a perfect disk and a database that counts: the smallest
//! world in which the core's own tests can watch a group. Faults, real SQLite
//! and time's tricks belong to the simulator.

use alloc::{
    collections::{BTreeMap, VecDeque},
    string::String,
    vec::Vec,
};

use crate::{
    event::{
        Effect, Entry, Event, Executed, HardState, Memory, Millis, NodeId, Outcome, Position,
        Reply, Request, RequestId, Trust,
    },
    link::Links,
    member::{Member, Membership},
    node::{Config, Effects, Node},
    pages::{Done, Work},
    restored::{Restored, TermRun},
    rig_readings::{Ledger, Piece, Readings},
    scrub::{Finding, Report, Scrub, Scrubs},
    timing::Timing,
    wire::Frame,
};

pub(crate) struct Rig {
    pub(crate) now: Millis,
    founders: Vec<NodeId>,
    pub(crate) nodes: BTreeMap<NodeId, Node>,
    pub(crate) journals: BTreeMap<NodeId, Vec<Entry>>,
    pub(crate) hard_states: BTreeMap<NodeId, HardState>,
    pub(crate) trusts: BTreeMap<NodeId, Trust>,
    pub(crate) memories: BTreeMap<NodeId, BTreeMap<NodeId, Memory>>,
    /// Of the boards that are started next.
    pub(crate) nonce: u64,
    pub(crate) replies: Vec<(NodeId, RequestId, Reply)>,
    pub(crate) cut: Vec<NodeId>,
    /// Boards whose disk does not answer.
    pub(crate) stalled: Vec<NodeId>,
    /// Boards whose database applies nothing.
    pub(crate) idle: Vec<NodeId>,
    /// Boards whose rows no entry fits.
    pub(crate) unfit: Vec<NodeId>,
    /// Boards find the same rows whenever they are compared, save the unfit.
    pub(crate) compares: bool,
    /// Boards that keep no rows.
    pub(crate) witnesses: Vec<NodeId>,
    /// Settings that witnesses' databases were given, in order.
    pub(crate) settings: Vec<Vec<(String, String)>>,
    /// Payloads that all roads together carry in 10 ms.
    pub(crate) pace: usize,
    /// Pieces of each board's spool.
    pub(crate) spools: BTreeMap<NodeId, BTreeMap<u64, Piece>>,
    /// What each board's database has of readings.
    pub(crate) stored: BTreeMap<NodeId, Ledger>,
    /// The latest start of each board that has begun to send readings.
    pub(crate) begun: BTreeMap<NodeId, (u64, u64)>,
    /// What is on the road.
    road: VecDeque<(NodeId, Event)>,
    queue: Vec<(NodeId, Event)>,
}

pub(crate) fn membership(ids: &[NodeId]) -> Membership {
    let members = ids.iter().map(|id| Member {
        id: *id,
        name: alloc::format!("board-{id}"),
        key: [u8::try_from(*id).unwrap(); 32],
        addresses: Vec::new(),
        voter: true,
    });
    Membership { members: members.collect(), last_id: ids.len() as u64, ..Membership::default() }
}

impl Rig {
    pub(crate) fn new(ids: &[NodeId]) -> Self {
        Self::with_witnesses(ids, &[])
    }

    /// Some of these boards keep no rows.
    pub(crate) fn with_witnesses(ids: &[NodeId], witnesses: &[NodeId]) -> Self {
        #[cfg(mutants)]
        choose_mutant();
        let mut rig = Self {
            now: Millis(1_000),
            founders: ids.to_vec(),
            nodes: BTreeMap::new(),
            journals: BTreeMap::new(),
            hard_states: BTreeMap::new(),
            trusts: BTreeMap::new(),
            memories: BTreeMap::new(),
            nonce: 0,
            replies: Vec::new(),
            cut: Vec::new(),
            stalled: Vec::new(),
            idle: Vec::new(),
            unfit: Vec::new(),
            compares: false,
            witnesses: witnesses.to_vec(),
            settings: Vec::new(),
            pace: usize::MAX,
            spools: BTreeMap::new(),
            stored: BTreeMap::new(),
            begun: BTreeMap::new(),
            road: VecDeque::new(),
            queue: Vec::new(),
        };
        for id in ids {
            let membership = rig.membership(ids);
            let restored = Restored { membership, ..Restored::default() };
            rig.start(*id, 1, restored);
        }
        rig.settle();
        rig
    }

    fn membership(&self, ids: &[NodeId]) -> Membership {
        let is_one = |id: &NodeId| ids.contains(id);
        let witnesses = self.witnesses.iter().copied().filter(is_one).collect();
        Membership { witnesses, ..membership(ids) }
    }

    /// A group that has elected its leader.
    pub(crate) fn led(ids: &[NodeId]) -> (Self, NodeId) {
        let mut rig = Self::new(ids);
        rig.run(2_000);
        let leader = rig.leader().expect("a connected group elects a leader");
        (rig, leader)
    }

    /// A board that was just let in, and knows no more than who made the group.
    pub(crate) fn newcomer(&mut self, id: NodeId) {
        let membership = self.membership(&self.founders);
        self.start(id, 1, Restored { membership, ..Restored::default() });
        self.settle();
    }

    fn start(&mut self, id: NodeId, boot: u64, restored: Restored) {
        let (witness, nonce) = (self.witnesses.contains(&id), self.nonce);
        let config = Config { id, seed: 7 ^ nonce, boot, nonce, timing: Timing::WIRED, witness };
        let (node, effects) = Node::new(self.now, config, restored);
        self.nodes.insert(id, node);
        self.journals.entry(id).or_default();
        self.carry_out(id, effects);
    }

    /// Starts a node again from what its journal holds; it has applied nothing.
    pub(crate) fn restart(&mut self, id: NodeId, boot: u64, ids: &[NodeId]) {
        let restored = self.restored(id, ids);
        self.stored.remove(&id);
        self.start(id, boot, restored);
        self.settle();
    }

    /// The same with a database that is ahead of what is left of the journal.
    pub(crate) fn restart_lost(&mut self, id: NodeId, applied: Position, ids: &[NodeId]) {
        let mut restored = Restored { applied, ..self.restored(id, ids) };
        restored.hard_state.commit = restored.last_index;
        self.start(id, 2, restored);
        self.settle();
    }

    fn restored(&mut self, id: NodeId, ids: &[NodeId]) -> Restored {
        self.queue.retain(|(to, _)| *to != id);
        let tail = self.journals[&id].clone();
        let mut terms: Vec<TermRun> = Vec::new();
        for entry in &tail {
            if terms.last().is_none_or(|run| run.term != entry.term) {
                terms.push(TermRun { first: entry.index, term: entry.term });
            }
        }
        let hard_state = HardState { commit: 0, ..self.hard_states[&id] };
        let last_index = tail.len() as u64;
        let membership = self.membership(ids);
        let trust = self.trusts.get(&id).cloned().unwrap_or_default();
        let memories = self.memories.get(&id).cloned().unwrap_or_default().into_iter().collect();
        let (suspect, applied) = (false, Position::default());
        Restored {
            hard_state,
            applied,
            membership,
            terms,
            last_index,
            tail,
            memories,
            suspect,
            trust,
            spool: self.spool_of(id),
            ..Restored::default()
        }
    }

    pub(crate) fn event(&mut self, id: NodeId, event: Event) {
        self.events(id, [event]);
    }

    /// All of these are there at once.
    pub(crate) fn events(&mut self, id: NodeId, events: impl IntoIterator<Item = Event>) {
        self.queue.extend(events.into_iter().map(|event| (id, event)));
        self.settle();
    }

    pub(crate) fn ask(&mut self, id: NodeId, request: RequestId, wish: Request) {
        self.event(id, Event::Requested { id: request, request: wish });
    }

    /// A node hears a frame as a link would carry it.
    pub(crate) fn hear(&mut self, to: NodeId, from: NodeId, frame: &Frame) {
        let mut out = Vec::new();
        let mut links = Links::new(1);
        links.send(Millis(0), 1, frame.encode(), &mut out);
        links.flush(&mut out);
        for (_, payload) in out {
            self.event(to, Event::Received { from, payload });
        }
    }

    /// One board alone holds this write with the leader, and the leader is gone. The
    /// third gets to lead, and has it then.
    pub(crate) fn hand_on(&mut self, leader: NodeId, holder: NodeId, other: NodeId) {
        self.cut = Vec::from([other]);
        self.ask(leader, 1, write("kept"));
        self.run(300);
        assert!(matches!(self.answer_of(1), Some(Reply::Done { .. })));
        self.cut = Vec::from([leader]);
        self.run(15_000);
        assert!(self.nodes[&other].leads() && !self.nodes[&holder].leads());
        let kept = self.journals[&other].iter().filter(|entry| entry.data.ends_with(b"kept"));
        assert_eq!(kept.count(), 1);
    }

    pub(crate) fn settle(&mut self) {
        while !self.queue.is_empty() {
            let (id, event) = self.queue.remove(0);
            let Some(node) = self.nodes.get_mut(&id) else { continue };
            let effects = node.handle(self.now, event);
            self.carry_out(id, effects);
        }
    }

    pub(crate) fn run(&mut self, ms: u64) {
        for _ in 0..ms.div_ceil(10) {
            self.now = self.now.plus(10);
            for id in self.nodes.keys().copied().collect::<Vec<_>>() {
                self.queue.push((id, Event::Tick));
            }
            let arriving = self.pace.min(self.road.len());
            self.queue.extend(self.road.drain(..arriving));
            self.settle();
        }
    }

    pub(crate) fn leader(&self) -> Option<NodeId> {
        let connected = |id: &&NodeId| !self.cut.contains(id);
        let mut leaders = self.nodes.keys().filter(connected).filter(|id| self.nodes[id].leads());
        let leader = leaders.next().copied();
        assert!(leaders.next().is_none(), "two leaders among those connected");
        leader
    }

    fn carry_out(&mut self, id: NodeId, effects: Effects) {
        for effect in effects {
            match effect {
                Effect::Send { to, payload } => {
                    if !self.cut.contains(&id) && !self.cut.contains(&to) {
                        let event = Event::Received { from: id, payload };
                        if self.pace == usize::MAX {
                            self.queue.push((to, event));
                        } else {
                            self.road.push_back((to, event));
                        }
                    }
                }
                Effect::Persist { .. } if self.stalled.contains(&id) => {}
                Effect::Persist { .. } => self.persist(id, effect),
                Effect::Fetch { number, low, high, .. } => {
                    let wanted = |entry: &&Entry| (low..high).contains(&entry.index);
                    let entries = self.journals[&id].iter().filter(wanted).take(3).cloned();
                    let entries = entries.collect();
                    self.queue.push((id, Event::Fetched { number, entries }));
                }
                Effect::FetchSpool { number, after, .. } => {
                    let pieces = self.pieces(id, after);
                    self.queue.push((id, Event::SpoolFetched { number, pieces }));
                }
                Effect::Execute { number, base, requests, .. } => {
                    let executed = match (self.begin(&requests), Readings::of(&requests)) {
                        (Some(answer), _) => {
                            Executed { answers: Vec::from([answer]), ..execute(base, requests) }
                        }
                        (None, Some(readings)) => {
                            readings.execute(base, self.stored.entry(id).or_default())
                        }
                        (None, None) => execute(base, requests),
                    };
                    self.queue.push((id, Event::Executed { number, executed }));
                }
                Effect::Apply { .. } if self.idle.contains(&id) => {}
                Effect::Apply { number, entries, .. } => {
                    let outcome = match self.unfit.contains(&id) {
                        true => Outcome::ChangedInPart,
                        false => Outcome::Changed,
                    };
                    let outcomes = alloc::vec![outcome; entries.len()];
                    self.compare(id, &entries);
                    self.store(id, &entries);
                    self.queue.push((id, Event::Applied { number, outcomes }));
                }
                Effect::Query { number, sql, .. } => {
                    self.queue.push((id, Event::Queried { number, answer: sql }));
                }
                Effect::Reply { id: request, reply } => self.replies.push((id, request, reply)),
                Effect::Pages { number, work: Work::Stand { position, membership } } => {
                    let done = Done::Installed(Some(*membership));
                    self.queue.push((id, Event::Pages { number, done }));
                    self.queue.push((id, Event::DatabaseDurable(position.index)));
                }
                Effect::Pages { number, work: Work::Settings { settings } } => {
                    self.settings.push(settings);
                    self.queue.push((id, Event::Pages { number, done: Done::Put }));
                }
                Effect::RoleChanged { .. } | Effect::Pages { .. } => {}
            }
        }
    }

    fn persist(&mut self, id: NodeId, effect: Effect) {
        let Effect::Persist { number, entries, hard_state, memories, trust, spool, .. } = effect
        else {
            return;
        };
        self.write_spool(id, spool);
        let journal = self.journals.get_mut(&id).unwrap();
        if let Some(first) = entries.first() {
            journal.retain(|entry| entry.index < first.index);
        }
        journal.extend(entries);
        self.hard_states.insert(id, hard_state);
        self.memories.entry(id).or_default().extend(memories);
        if let Some(trust) = trust {
            self.trusts.insert(id, trust);
        }
        self.queue.push((id, Event::Persisted { number }));
    }

    /// All boards have reported by the time one of them hears of a scrub.
    fn compare(&mut self, id: NodeId, entries: &[Entry]) {
        let asks = |entry: &&Entry| {
            let words = b"INSERT INTO _understudy_scrub(";
            entry.data.windows(words.len()).any(|part| part == words)
        };
        let Some(entry) = entries.iter().rfind(asks).filter(|_| self.compares) else { return };
        let report = |board: &NodeId| {
            let digest = if self.unfit.contains(board) { 100 + board } else { 7 };
            let finding = Finding::Digest(digest);
            (*board, Report { entry: entry.index, finding, items: Vec::new() })
        };
        let reports: BTreeMap<_, _> = self.nodes.keys().map(report).collect();
        let boards = reports.len() as u64;
        let scrub = Scrub { id: entry.index, boards, reports, ..Scrub::default() };
        self.queue.push((id, Event::Scrubs(Scrubs(Vec::from([scrub])))));
    }

    pub(crate) fn answer_of(&self, request: RequestId) -> Option<&Reply> {
        let mut answers = self.replies.iter().filter(|(_, id, _)| *id == request);
        let answer = answers.next().map(|(_, _, reply)| reply);
        assert!(answers.next().is_none(), "request {request} was answered twice");
        answer
    }
}

/// Every request changes something and answers with itself.
fn execute(base: Position, requests: Vec<Vec<u8>>) -> Executed {
    let mut change = alloc::format!("{}:{}", base.term, base.index).into_bytes();
    change.extend(requests.concat());
    Executed { change, answers: requests.into_iter().map(Ok).collect() }
}

/// The planted bug that this run is to find.
#[cfg(mutants)]
pub(crate) fn choose_mutant() {
    extern crate std;
    let number = std::env::var("MUTANT").ok().and_then(|number| number.parse().ok());
    crate::mutant::choose(number.unwrap_or(0));
}

pub(crate) fn write(text: &str) -> Request {
    Request::Write(String::from(text).into_bytes())
}
