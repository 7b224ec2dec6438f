//! The nodes of a script, and its commands.
//!
//! Every link takes 1 ms, every write of a journal 1 ms; databases answer at
//! once. Heartbeats without a read round are left out of the trace, and ticks.

use std::collections::{BTreeMap, BTreeSet};

use understudy_core::{
    duty::{self, Claim, Incarnation},
    event::{Effect, Event, Millis, NodeId, ReadLevel, Request},
    member::{Member, MemberRequest, Membership},
    node::{Config, Effects, Node},
    pages::Work,
    readings::{Arrivals, Level, Reading},
    retention::Kept,
    sql::Value,
    timing::Timing,
};
use understudy_tests::trace;

use crate::script::{
    roads::{POST_MS, Roads},
    store::Store,
};

/// One link, one write: milliseconds.
const STEP_MS: u64 = 1;

/// See the module's description.
#[derive(Default)]
pub(crate) struct Group {
    now: u64,
    boards: BTreeMap<NodeId, Board>,
    membership: Membership,
    /// By time, then in order.
    queue: BTreeMap<(u64, u64), (NodeId, u64, Event)>,
    planned: u64,
    cut: BTreeSet<(NodeId, NodeId)>,
    roads: Roads,
    /// Payloads kept back on a link, in order.
    held: BTreeMap<(NodeId, NodeId), Vec<Vec<u8>>>,
    /// Frames to lose: sender, receiver, words they contain, how many.
    lose: Vec<(NodeId, NodeId, String, u64)>,
    printed: String,
    tells: Tells,
}

/// What is printed of all that happens.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Tells {
    #[default]
    All,
    /// What becomes of duties, and who comes to lead.
    Duties,
    Nothing,
}

#[derive(Default)]
struct Board {
    node: Option<Node>,
    store: Store,
    boot: u64,
    /// Work that waits, as long as it stalls.
    stalls: Option<fn(&Effect) -> bool>,
    stalled: Vec<Effect>,
    /// Times its database fell back: see [`Effect::resets`].
    resets: u64,
    /// What it holds, and whether it is asked to end that.
    holds: BTreeMap<Claim, bool>,
    /// The last grant of each duty that it acted under.
    acted: BTreeMap<u64, Claim>,
}

type Printed = Result<String, String>;

impl Group {
    /// Carries out one command; what it printed.
    pub(crate) fn command(&mut self, command: &str) -> Printed {
        let (name, rest) = command.split_once(' ').unwrap_or((command, ""));
        let words: Vec<&str> = rest.split_whitespace().collect();
        match (name, words.as_slice()) {
            ("nodes", [count]) => self.nodes(number(count)?),
            ("group", [count]) => self.group(number(count)?),
            ("run", [ms]) => self.run(number(ms)?),
            ("quietly", [ms]) => self.run_telling(Tells::Nothing, number(ms)?),
            ("watch", [ms]) => self.run_telling(Tells::Duties, number(ms)?),
            ("write", [node, id, ..]) => {
                let text = rest.splitn(3, ' ').nth(2).ok_or("a write wants a text")?;
                let request = Request::Write(text.as_bytes().to_vec());
                self.ask(self.known(node)?, number(id)?, request);
            }
            ("readings", [node, id, count, level]) => {
                let request = readings(number(count)?, level)?;
                self.ask(self.known(node)?, number(id)?, request);
            }
            ("read", [node, id, level]) => {
                let request = Request::Read { level: read_level(level)?, sql: Vec::new() };
                self.ask(self.known(node)?, number(id)?, request);
            }
            ("remove", [node, id, whom]) => {
                let wish = MemberRequest::Remove(number(whom)?);
                self.ask(self.known(node)?, number(id)?, Request::Member(wish));
            }
            ("transport" | "broker", [what]) => self.steer(name, what)?,
            ("cut", nodes) => self.cut(nodes)?,
            ("cut-one-way", [from, to]) => {
                self.cut.insert((self.known(from)?, self.known(to)?));
            }
            ("mend", []) => self.cut.clear(),
            ("lose", [from, to, count, what @ ..]) => {
                let rule = (self.known(from)?, self.known(to)?, what.join(" "), number(count)?);
                self.lose.push(rule);
            }
            ("hold", [from, to]) => {
                self.held.entry((self.known(from)?, self.known(to)?)).or_default();
            }
            ("release", [from, to, how @ ..]) => {
                self.release((self.known(from)?, self.known(to)?), how)?;
            }
            ("stall", [node]) => self.board(node)?.stalls = Some(is_disk_work),
            ("stall-database", [node]) => self.board(node)?.stalls = Some(is_database_work),
            ("go-on", [node]) => self.go_on(self.known(node)?),
            ("crash", [node]) => {
                let board = self.board(node)?;
                (board.node, board.holds) = (None, BTreeMap::new());
            }
            ("restart", [node]) => self.start(self.known(node)?),
            ("lose-transaction", [node]) => self.lose_transaction(self.known(node)?, false),
            ("lose-empty-transaction", [node]) => self.lose_transaction(self.known(node)?, true),
            ("disk-full", [node]) => self.event(self.known(node)?, Event::DiskFull(true)),
            ("disk-free", [node]) => self.event(self.known(node)?, Event::DiskFull(false)),
            ("stop", [node]) => self.event(self.known(node)?, Event::Stopping),
            ("ready", [node, duties @ ..]) => {
                let duties = duties.iter().map(|duty| number(duty)).collect::<Result<_, _>>()?;
                self.event(self.known(node)?, Event::Ready(duties));
            }
            ("gone", [node, duty]) => {
                let acted = self.board(node)?.acted.remove(&number(duty)?);
                let claim = acted.ok_or(format!("n{node} did not act under any grant of that"))?;
                self.event(self.known(node)?, Event::GaveUp(claim));
            }
            ("fell", [node]) => self.tell_end(self.known(node)?, Event::Fell)?,
            ("ended", [node]) => self.tell_end(self.known(node)?, Event::Ended)?,
            // All that is applied is durable, and next to nothing is kept behind it.
            ("forget", [node]) => self.forget(self.known(node)?),
            ("state", []) => self.state(),
            (_, _) => return Err("no such command".to_owned()),
        }
        Ok(std::mem::take(&mut self.printed))
    }

    fn known(&self, word: &str) -> Result<NodeId, String> {
        let id = number(word)?;
        self.boards.contains_key(&id).then_some(id).ok_or(format!("there is no node {id}"))
    }

    fn board(&mut self, word: &str) -> Result<&mut Board, String> {
        let id = self.known(word)?;
        Ok(self.boards.get_mut(&id).expect("it is known"))
    }

    fn print(&mut self, line: &str) {
        if self.tells == Tells::All {
            self.printed += &format!("{:>6} {line}\n", self.now);
        }
    }

    fn nodes(&mut self, count: u64) {
        let members = (1..=count).map(|id| Member {
            id,
            name: format!("board-{id}"),
            key: [u8::try_from(id).expect("ids are small"); 32],
            addresses: Vec::new(),
            voter: true,
        });
        self.membership =
            Membership { members: members.collect(), last_id: count, ..Membership::default() };
        for id in 1..=count {
            self.boards.insert(id, Board::default());
        }
        for id in 1..=count {
            self.start(id);
        }
    }

    /// Nodes that have found their leader.
    fn group(&mut self, count: u64) {
        self.tells = Tells::Nothing;
        self.nodes(count);
        self.run(1_000);
        self.tells = Tells::All;
        self.state();
    }

    fn run_telling(&mut self, tells: Tells, ms: u64) {
        self.tells = tells;
        self.run(ms);
        self.tells = Tells::All;
    }

    /// Proof that a board's last start has ended that did end comes to all others.
    fn tell_end(&mut self, id: NodeId, event: fn(Incarnation) -> Event) -> Result<(), String> {
        let board = &self.boards[&id];
        let boot = board.boot - u64::from(board.node.is_some());
        if boot == 0 {
            return Err(format!("no start of n{id} has ended"));
        }
        let start = Incarnation { board: id, boot, nonce: 0 };
        for to in self.boards.keys().copied().filter(|to| *to != id).collect::<Vec<_>>() {
            self.event(to, event(start));
        }
        Ok(())
    }

    /// Says what of duties has changed at a node.
    ///
    /// # Panics
    /// When two nodes hold one duty at a time.
    fn look_at_duties(&mut self, id: NodeId) {
        let now = Millis(self.now);
        let board = self.boards.get_mut(&id).expect("it is known");
        let node = board.node.as_ref();
        let held: Vec<_> = node.iter().flat_map(|node| node.held_duties(now)).collect();
        let yields = |claim| node.is_some_and(|node| node.yields(claim));
        let holds: BTreeMap<_, _> =
            held.iter().map(|held| (held.claim, yields(held.claim))).collect();
        let before = std::mem::replace(&mut board.holds, holds.clone());
        board.acted.extend(holds.keys().map(|claim| (claim.duty, *claim)));
        for claim in before.keys().filter(|claim| !holds.contains_key(claim)) {
            self.print_of_duty(&format!("n{id} holds {} no longer", trace::claims(&[*claim])));
        }
        for held in held.iter().filter(|held| !before.contains_key(&held.claim)) {
            let (claim, until) = (trace::claims(&[held.claim]), held.until.0);
            self.print_of_duty(&format!("n{id} holds {claim}, until {until} at first"));
        }
        for (claim, _) in holds.iter().filter(|(claim, asked)| {
            **asked && !before.get(claim).is_some_and(|was_asked| *was_asked)
        }) {
            self.print_of_duty(&format!("n{id} is to end {}", trace::claims(&[*claim])));
        }
        for (other, board) in self.boards.iter().filter(|(other, _)| **other != id) {
            let acts = board.node.iter().flat_map(|node| node.held_duties(now));
            let same =
                acts.filter(|acts| held.iter().any(|held| held.claim.duty == acts.claim.duty));
            assert_eq!(same.count(), 0, "n{id} and n{other} hold one duty at {now:?}");
        }
    }

    fn print_of_duty(&mut self, line: &str) {
        if self.tells != Tells::Nothing {
            self.printed += &format!("{:>6} {line}\n", self.now);
        }
    }

    fn start(&mut self, id: NodeId) {
        let board = self.boards.get_mut(&id).expect("it is known");
        let (boot, restored) = board.store.restore(self.membership.clone());
        board.boot = boot;
        board.resets = 0;
        self.roads.begin(id);
        let timing = Timing::WIRED;
        let config = Config { id, seed: 1, boot, nonce: 0, timing, witness: false };
        let (node, effects) = Node::new(Millis(self.now), config, restored);
        board.node = Some(node);
        self.carry_out(id, effects);
    }

    fn ask(&mut self, node: NodeId, id: u64, request: Request) {
        self.event(node, Event::Requested { id, request });
    }

    fn event(&mut self, id: NodeId, event: Event) {
        let now = Millis(self.now);
        let Some(node) = self.boards.get_mut(&id).and_then(|board| board.node.as_mut()) else {
            return;
        };
        let effects = node.handle(now, event);
        self.carry_out(id, effects);
        self.look_at_duties(id);
    }

    fn plan(&mut self, delay: u64, id: NodeId, event: Event) {
        self.planned += 1;
        let boot = self.boards[&id].boot;
        self.queue.insert((self.now + delay, self.planned), (id, boot, event));
    }

    /// Lets time pass: events at their time, and nodes woken when they asked.
    fn run(&mut self, ms: u64) {
        let end = self.now + ms;
        loop {
            let event = self.queue.first_key_value().map(|((at, _), _)| *at);
            let wake = self.next_wake();
            let at = event.into_iter().chain(wake.map(|(at, _)| at)).min();
            let Some(at) = at.filter(|at| *at <= end) else { break };
            self.now = self.now.max(at);
            match (event, wake) {
                (Some(event), _) if event == at => {
                    let (_, (id, boot, event)) = self.queue.pop_first().expect("just seen");
                    if self.boards[&id].boot == boot {
                        self.event(id, event);
                    }
                }
                (_, Some((_, id))) => self.tick(id),
                (_, None) => break,
            }
        }
        self.now = end;
    }

    /// A node that was woken has nothing more to do at the same moment.
    fn tick(&mut self, id: NodeId) {
        self.event(id, Event::Tick);
        let node = self.boards[&id].node.as_ref().expect("it was woken");
        let (at, why) = node.deadline();
        assert!(at.0 > self.now, "node {id} would be woken for ever: {why:?}");
    }

    fn next_wake(&self) -> Option<(u64, NodeId)> {
        let running = self.boards.iter().filter_map(|(id, board)| Some((id, board.node.as_ref()?)));
        running.map(|(id, node)| (node.deadline().0.0, *id)).min()
    }

    fn carry_out(&mut self, id: NodeId, effects: Effects) {
        for effect in effects {
            if !is_dull(&effect) {
                let line = format!("n{id} {}{}", arrow(&effect), trace::effect(&effect));
                match is_of_duties(&effect) {
                    true => self.print_of_duty(&line),
                    false => self.print(&line),
                }
            }
            let board = self.boards.get_mut(&id).expect("it is known");
            if board.stalls.is_some_and(|stalls| stalls(&effect)) {
                board.stalled.push(effect);
            } else {
                self.carry_out_one(id, effect);
            }
        }
    }

    fn carry_out_one(&mut self, id: NodeId, effect: Effect) {
        let board = self.boards.get_mut(&id).expect("it is known");
        if effect.resets().is_some_and(|resets| resets < board.resets) {
            return;
        }
        let (delay, event) = match effect {
            Effect::Send { to, payload } => return self.send(id, to, payload),
            Effect::Reply { .. } | Effect::RoleChanged { .. } => return,
            Effect::Pages { number, work } => {
                let is_install = matches!(work, Work::Install { .. });
                let Some(done) = board.store.pages(work, &self.membership) else { return };
                let applied = board.store.applied().index;
                let duties = board.store.take_duties();
                if let Some(duties) = duties {
                    self.plan(STEP_MS, id, Event::Duties(duties));
                }
                self.plan(STEP_MS, id, Event::Pages { number, done });
                if is_install {
                    self.plan(2 * STEP_MS, id, Event::DatabaseDurable(applied));
                }
                return;
            }
            Effect::Persist { number, entries, hard_state, memories, cut, spool, .. } => {
                board.store.write(&entries, hard_state, &memories, cut);
                board.store.write_spool(spool);
                (STEP_MS, Event::Persisted { number })
            }
            Effect::Fetch { number, low, high, .. } => {
                (STEP_MS, Event::Fetched { number, entries: board.store.read(low, high) })
            }
            Effect::FetchSpool { number, after, .. } => {
                (STEP_MS, Event::SpoolFetched { number, pieces: board.store.pieces(after) })
            }
            Effect::Execute { number, base, requests, .. } => {
                (0, Event::Executed { number, executed: board.store.execute(base, &requests) })
            }
            Effect::Apply { number, entries, .. } => {
                let outcomes = board.store.apply(&entries);
                if let Some(duties) = board.store.take_duties() {
                    self.plan(0, id, Event::Duties(duties));
                }
                (0, Event::Applied { number, outcomes })
            }
            Effect::Query { number, .. } => {
                (0, Event::Queried { number, answer: board.store.rows().into_bytes() })
            }
        };
        self.plan(delay, id, event);
    }

    fn send(&mut self, from: NodeId, to: NodeId, payload: Vec<u8>) {
        let link = (from, to);
        let by_udp =
            self.roads.has_udp() && !self.cut.contains(&link) && !self.is_lost(link, &payload);
        if !by_udp {
            return self.post(link, payload);
        }
        self.roads.comes_by_udp(Millis(self.now + STEP_MS), link);
        match self.held.get_mut(&link) {
            Some(held) => held.push(payload),
            None => self.plan(STEP_MS, to, Event::Received { from, payload }),
        }
    }

    /// By the broker, where this node posts to the other.
    fn post(&mut self, (from, to): (NodeId, NodeId), payload: Vec<u8>) {
        let (now, is_dull) = (Millis(self.now), is_dull_payload(&payload));
        let node = self.boards[&from].node.as_ref();
        let patience_ms = node.map_or(0, |node| node.timing().leader_silent_ms());
        let (said, passes) = self.roads.post(now, (from, to), payload, patience_ms);
        if let Some(payload) = passes {
            self.plan(POST_MS, to, Event::Received { from, payload });
        }
        if !is_dull {
            self.print(&format!("          {said}"));
        }
    }

    fn steer(&mut self, which: &str, what: &str) -> Result<(), String> {
        for (from, to, payload) in self.roads.steer(which, what)? {
            self.plan(POST_MS, to, Event::Received { from, payload });
        }
        Ok(())
    }

    fn is_lost(&mut self, (from, to): (NodeId, NodeId), payload: &[u8]) -> bool {
        let said: Vec<_> = trace::frames(payload).iter().map(trace::frame).collect();
        let rule = self.lose.iter_mut().find(|(sender, receiver, what, count)| {
            (*sender, *receiver) == (from, to)
                && *count > 0
                && said.iter().any(|said| said.starts_with(what.as_str()))
        });
        rule.is_some_and(|(_, _, _, count)| {
            *count -= 1;
            true
        })
    }

    /// Cuts a node off from all others, or two from each other.
    fn cut(&mut self, nodes: &[&str]) -> Result<(), String> {
        let pairs: Vec<_> = match nodes {
            [one] => {
                let one = self.known(one)?;
                self.boards.keys().map(|other| (one, *other)).collect()
            }
            [one, other] => vec![(self.known(one)?, self.known(other)?)],
            _ => return Err("a cut wants one node or two".to_owned()),
        };
        for (one, other) in pairs {
            self.cut.insert((one, other));
            self.cut.insert((other, one));
        }
        Ok(())
    }

    fn release(&mut self, link: (NodeId, NodeId), how: &[&str]) -> Result<(), String> {
        let mut payloads = self.held.remove(&link).ok_or("nothing is held there")?;
        match how {
            [] => {}
            ["backwards"] => payloads.reverse(),
            ["twice"] => payloads.extend(payloads.clone()),
            _ => return Err("released backwards or twice".to_owned()),
        }
        for payload in payloads {
            self.plan(STEP_MS, link.1, Event::Received { from: link.0, payload });
        }
        Ok(())
    }

    fn go_on(&mut self, id: NodeId) {
        let board = self.boards.get_mut(&id).expect("it is known");
        board.stalls = None;
        for effect in std::mem::take(&mut board.stalled) {
            self.carry_out_one(id, effect);
        }
    }

    /// All that was applied was in the transaction, or nothing was.
    fn lose_transaction(&mut self, id: NodeId, is_empty: bool) {
        let board = self.boards.get_mut(&id).expect("it is known");
        board.resets += 1;
        let applied = if is_empty { board.store.applied() } else { board.store.reset() };
        let duties = self.boards.get_mut(&id).and_then(|board| board.store.take_duties());
        if let Some(duties) = duties {
            self.event(id, Event::Duties(duties));
        }
        self.event(id, Event::DatabaseReset { applied, ended_by: None });
    }

    fn forget(&mut self, id: NodeId) {
        let board = self.boards.get_mut(&id).expect("it is known");
        if let Some(node) = &mut board.node {
            node.set_kept(Kept { entries: 1, bytes: 64 });
        }
        let applied = board.store.applied().index;
        self.event(id, Event::DatabaseDurable(applied));
    }

    fn state(&mut self) {
        let now = Millis(self.now);
        let lines: Vec<_> = self
            .boards
            .iter()
            .map(|(id, board)| match &board.node {
                None => format!("n{id} is off, log [{}]", board.store.log()),
                Some(node) => {
                    let status = node.status(now);
                    let role = format!("{:?}", status.role).to_lowercase();
                    let leader = status.leader.map_or("nobody".to_owned(), |id| format!("n{id}"));
                    format!(
                        "n{id} {role} of {leader} in term {}, log [{}], commit {}, applied {}: [{}]",
                        status.term,
                        board.store.log(),
                        status.commit_index,
                        status.applied.index,
                        board.store.rows()
                    )
                }
            })
            .collect();
        for line in lines {
            self.print(&line);
        }
    }
}

fn number(word: &str) -> Result<u64, String> {
    word.parse().map_err(|_| format!("{word} is no number"))
}

fn read_level(word: &str) -> Result<ReadLevel, String> {
    match word {
        "none" => Ok(ReadLevel::None { freshness_ms: None }),
        "weak" => Ok(ReadLevel::Weak),
        "linearizable" => Ok(ReadLevel::Linearizable { timeout_ms: None }),
        "strong" => Ok(ReadLevel::Strong),
        _ => Err(format!("{word} is no level of reading")),
    }
}

fn readings(count: u64, level: &str) -> Result<Request, String> {
    let until = match level {
        "spooled" => Level::Spooled,
        "committed" => Level::Committed,
        _ => return Err(format!("{level} is not how far readings come")),
    };
    let reading = |n: u64| Reading {
        sensor: String::from("kitchen"),
        time: n.cast_signed(),
        value: Value::Integer(n.cast_signed()),
        id: None,
        token: None,
        is_far: false,
    };
    let readings = (0..count).map(reading).collect();
    Ok(Request::Readings(Arrivals { readings, until, window_ms: 0 }))
}

const fn arrow(effect: &Effect) -> &'static str {
    match effect {
        Effect::Send { .. } => "-> ",
        Effect::Persist { .. }
        | Effect::Fetch { .. }
        | Effect::FetchSpool { .. }
        | Effect::Execute { .. }
        | Effect::Apply { .. }
        | Effect::Query { .. }
        | Effect::Pages { .. }
        | Effect::Reply { .. }
        | Effect::RoleChanged { .. } => "",
    }
}

const fn is_disk_work(effect: &Effect) -> bool {
    matches!(effect, Effect::Persist { .. } | Effect::Fetch { .. } | Effect::FetchSpool { .. })
        || is_database_work(effect)
}

const fn is_database_work(effect: &Effect) -> bool {
    effect.resets().is_some()
}

/// Does it make a grant, or is it about who leads and so may make one?
fn is_of_duties(effect: &Effect) -> bool {
    let is_grant = |request: &Vec<u8>| duty::grants(request).is_some();
    matches!(effect, Effect::Execute { requests, .. } if requests.iter().any(is_grant))
        || matches!(effect, Effect::RoleChanged { .. })
}

/// Heartbeats say nothing that a script is about.
fn is_dull(effect: &Effect) -> bool {
    matches!(effect, Effect::Send { payload, .. } if is_dull_payload(payload))
}

fn is_dull_payload(payload: &[u8]) -> bool {
    let frames = trace::frames(payload);
    !frames.is_empty() && frames.iter().all(trace::is_dull)
}
