//! The loop of a member: the only file that sees both the drivers and the node.
//!
//! One thread takes one event at a time, from whichever driver has one, gives it
//! to the node and carries out every effect, in order, before the next. Nothing
//! here waits: the journal and the database have threads of their own and report
//! by event, datagrams that cannot leave now are lost, callers wait at their own
//! end of a channel.

use std::{collections::BTreeMap, time::Duration};

use tokio::sync::{mpsc, oneshot};
use tracing::warn;
use understudy_core::{
    duty::Incarnation,
    event::{Effect, Event, Millis, NodeId, Reply, Request, RequestId},
    limits::DATAGRAM_BYTES_MAX,
    member::{MemberRequest, PublicKey},
    node::{Effects, Node},
};

use crate::{
    address::Address,
    bulletin::Bulletin,
    call::{Call, Followed},
    checks::{Health, Runs},
    clock::BoardClock,
    driver::{
        clock,
        database::DatabaseThread,
        journal::JournalThread,
        mdns::{Neighbours, seen},
        notify::Notify,
        road::Road,
    },
    join::{Admission, Doorstep, Knock},
    keepers::Keepers,
    keyring::Keyring,
    probe::{self, Probes},
    progress::{Progress, Seen},
    seal::{Opened, Outgoing, Seal, To},
    tending::Tender,
    turn::{Debt, Step},
    view::{self, Facts},
    will::Will,
};

mod calls;
mod rows;
mod watching;

use self::watching::Watching;

/// Events taken from one source before the others get their turn.
const BURST_MAX: usize = 64;

/// Local requests under way; the node's own bounds are lower.
const CALLERS_MAX: usize = 4_096;

/// Between two questions of a board that hears nobody whether it is still a member.
const WHETHER_MS: u64 = 5_000;

/// Between two keys that the leading board makes because one is due.
const MAKE_KEY_MS: u64 = 1_000;

/// A board that stops waits no longer than this for another to lead.
const HAND_OVER_MS_MAX: u64 = 3_000;

/// Who waits for a reply.
enum Waiter {
    /// HTTP or the control socket.
    Caller(oneshot::Sender<Reply>),
    /// A board at the door.
    Guest(Admission),
    /// This loop: the group's settings.
    Settings,
    /// This loop: a new key of the group.
    Key,
    /// This loop: old readings.
    Tend,
    /// This loop: the group's version.
    Version,
    /// This loop: the turn of its former start.
    Turn(Step),
    /// This loop: rows of the history.
    History,
    /// This loop: which sensors report.
    Sensors,
}

/// Everything the loop listens to, besides the road.
pub struct Sources {
    /// From the journal's and the database's threads.
    pub events: mpsc::Receiver<Event>,
    /// From HTTP and the control socket.
    pub calls: mpsc::Receiver<Call>,
    /// Resolves when the process is asked to end.
    pub stop: oneshot::Receiver<()>,
}

/// The drivers a member acts through.
pub struct Drivers {
    /// The journal.
    pub journal: JournalThread,
    /// The database.
    pub database: DatabaseThread,
    /// Datagrams.
    pub road: Road,
    /// Boards seen on this network, where it is asked.
    pub neighbours: Option<Neighbours>,
    /// systemd.
    pub notify: Notify,
    /// The board's clock.
    pub clock: BoardClock,
    /// What says whether the board can do more.
    pub checks: Runs,
}

/// A member at work.
pub struct Member {
    node: Node,
    seal: Seal,
    keyring: Keyring,
    drivers: Drivers,
    facts: Facts,
    doorstep: Doorstep,
    callers: BTreeMap<RequestId, Waiter>,
    requests: RequestId,
    membership_changes: u64,
    /// Up to where, and when, the group's settings were looked at.
    settings: (u64, Millis),
    /// When the others were last asked whether this board is still one of them.
    asked_whether: Millis,
    /// When a new key of the group was last made without anybody's wish.
    made_key: Millis,
    tender: Tender,
    /// When a row of the group's version was last asked for.
    raised: Millis,
    turn: Debt,
    /// It is to forget its group, and who waits for that.
    forgets: Option<oneshot::Sender<()>>,
    keepers: Keepers,
    will: Will,
    watching: Watching,
    bulletin: Bulletin,
    progress: Progress,
    probes: Probes,
    /// Who waits for entries, and from which on.
    follows: Vec<(u64, oneshot::Sender<Followed>)>,
}

impl Member {
    /// A member that goes on from `node`, whose first effects are carried out now.
    #[must_use]
    pub fn new(
        node: Node,
        first: Effects,
        (seal, keyring): (Seal, Keyring),
        drivers: Drivers,
        (facts, will): (Facts, Will),
    ) -> Self {
        let watching = Watching::new(&facts);
        let health = Health::new(facts.started, &facts.checks);
        let keepers = Keepers::new(facts.capabilities.clone(), health);
        let mut member = Self {
            node,
            seal,
            keyring,
            drivers,
            facts,
            doorstep: Doorstep::default(),
            callers: BTreeMap::new(),
            requests: 0,
            membership_changes: 0,
            settings: (0, Millis(0)),
            asked_whether: Millis(0),
            made_key: Millis(0),
            tender: Tender::default(),
            raised: Millis(0),
            turn: Debt::default(),
            forgets: None,
            keepers,
            will,
            watching,
            bulletin: Bulletin::default(),
            progress: Progress::default(),
            probes: Probes::default(),
            follows: Vec::new(),
        };
        member.learn_members();
        member.carry_out(clock::now(), first);
        member
    }

    /// Runs until the process is asked to end, and hands leadership over first; or until
    /// the board is to forget its group: then who waits for that, with the files as open
    /// as they were.
    pub async fn run(mut self, mut sources: Sources) -> Option<(oneshot::Sender<()>, Drivers)> {
        let mut datagram = vec![0; 2 * DATAGRAM_BYTES_MAX];
        let mut stopping = None;
        loop {
            let now = clock::now();
            self.feed_watchdog(now);
            if stopping.is_some_and(|since| self.may_end(now, since)) {
                break;
            }
            if let Some(waiting) = self.forgets.take() {
                self.drivers.checks.end();
                return Some((waiting, self.drivers));
            }
            let wake = Duration::from_millis(self.node.deadline().0.since(now));
            tokio::select! {
                biased;
                Some(event) = sources.events.recv() => {
                    self.happen(event);
                    for _ in 1..BURST_MAX {
                        let Ok(event) = sources.events.try_recv() else { break };
                        self.happen(event);
                    }
                }
                received = self.drivers.road.receive(&mut datagram) => {
                    let mut received = received;
                    for _ in 0..BURST_MAX {
                        let Some((bytes, source)) = received else { break };
                        self.take_datagram(&datagram[..bytes], source);
                        received = self.drivers.road.try_receive(&mut datagram);
                    }
                }
                (node, addresses) = seen(&mut self.drivers.neighbours) => {
                    self.drivers.road.seen(node, addresses);
                }
                Some(call) = sources.calls.recv() => {
                    self.take_call(call);
                    for _ in 1..BURST_MAX {
                        let Ok(call) = sources.calls.try_recv() else { break };
                        self.take_call(call);
                    }
                }
                _ = &mut sources.stop, if stopping.is_none() => {
                    stopping = Some(clock::now());
                    self.drivers.notify.stopping();
                    self.keepers.stop();
                    self.happen(Event::Stopping);
                }
                () = tokio::time::sleep(wake) => self.tick(),
            }
        }
        self.drivers.checks.end();
        self.drivers.database.close();
        self.facts.ends.end();
        None
    }

    fn feed_watchdog(&mut self, now: Millis) {
        let Drivers { journal, database, notify, .. } = &mut self.drivers;
        let (node, progress) = (&self.node, &mut self.progress);
        notify.alive(now, |watchdog_ms| {
            let busy_ms = (journal.busy_ms(now), database.busy_ms(now));
            let seen = Seen::of(busy_ms.0, busy_ms.1, &node.status(now));
            progress.stuck(now, &seen, watchdog_ms)
        });
    }

    /// What is done whenever time alone has passed.
    fn tick(&mut self) {
        self.happen(Event::Tick);
        let mut out = Vec::new();
        self.seal.greet(clock::now(), &mut out);
        self.transmit(clock::now(), out);
        self.look_for_boards(clock::now());
        self.look_at_settings(clock::now());
        self.ask_whether_member(clock::now());
        self.renew_key(clock::now());
        self.keep_time(clock::now());
        self.tend_readings(clock::now());
        self.raise_version(clock::now());
        self.give_turn_back(clock::now());
        self.write_will(clock::now());
        self.watch_group(clock::now());
        self.look_at_budgets(clock::now());
    }

    fn may_end(&self, now: Millis, since: Millis) -> bool {
        let alone = self.node.membership().voters().len() < 2;
        let has_given_up = !self.node.leads() || alone;
        has_given_up && !self.node.is_granted_any() || now.since(since) >= HAND_OVER_MS_MAX
    }

    fn happen(&mut self, event: Event) {
        let now = clock::now();
        let is_raised = matches!(event, Event::Version(_));
        let effects = self.node.handle(now, event);
        if is_raised {
            self.suit_journal();
        }
        self.carry_out(now, effects);
        if self.node.membership_changes() != self.membership_changes {
            self.learn_members();
        }
        self.let_follow();
        self.tell_keepers();
        self.tell_listeners();
    }

    /// Keepers of commands hear what their duties came to, and the node what that did.
    fn tell_keepers(&mut self) {
        let now = clock::now();
        if !self.keepers.is_news(now, &self.node) {
            return;
        }
        self.will.name_acting(self.keepers.acting(now, &self.node));
        let events = self.keepers.follow(now, &self.node);
        events.into_iter().for_each(|event| self.happen(event));
    }

    /// Who listens to duties hears how they stand.
    fn tell_listeners(&mut self) {
        let (node, facts) = (&self.node, &self.facts);
        let duties = || view::duties(clock::now(), node, facts);
        self.bulletin.look(node.duty_changes(), duties);
    }

    /// Gives entries to those who wait for them.
    fn let_follow(&mut self) {
        let applied = self.node.applied().index;
        let has_come = |(low, reply): &mut (u64, oneshot::Sender<Followed>)| {
            *low <= applied || reply.is_closed()
        };
        for (low, reply) in self.follows.extract_if(.., has_come) {
            self.drivers.journal.follow(low, applied + 1, reply);
        }
    }

    fn learn_members(&mut self) {
        self.membership_changes = self.node.membership_changes();
        let members = view::members(&self.node, &self.facts);
        self.seal.set_members(clock::now(), &members);
        self.drivers.road.set_members(&members);
        let removed = self.node.membership().removed.iter();
        self.seal.set_removed(removed.map(|(_, key)| *key));
        self.learn_keys();
    }

    /// What the group has forgotten goes from the journal too; where that has no room
    /// now, with the next change of the membership or at the next start.
    fn learn_keys(&mut self) {
        let keys = &self.node.membership().keys;
        self.keyring.follow(keys);
        self.seal.set_keys(self.keyring.seal_keys());
        let renewed = self.keyring.renewed(&self.facts.identity, keys.oldest);
        if let Some(identity) = renewed
            && self.drivers.journal.keep(&identity)
        {
            self.facts.identity = identity;
        }
    }

    /// Whoever was taken out of the group knows its key: the board that leads makes
    /// another, again and again until one is installed.
    fn renew_key(&mut self, now: Millis) {
        if !self.node.owes_key() || now.since(self.made_key) < MAKE_KEY_MS {
            return;
        }
        self.made_key = now;
        match self.keyring.make(&self.node.membership().members) {
            Ok(key) => {
                let id = self.wait(Waiter::Key);
                let request = Request::Member(MemberRequest::InstallKey(key));
                self.happen(Event::Requested { id, request });
            }
            Err(reason) => warn!(reason, "the group's key cannot be changed"),
        }
    }

    /// Boards hear from each other what time it is.
    fn keep_time(&mut self, now: Millis) {
        self.node.set_began(now, self.drivers.clock.began_us());
        if let Some(began_us) = self.node.began_by_peers(now) {
            self.drivers.clock.told(began_us);
        }
    }

    fn write_will(&mut self, now: Millis) {
        let members = &self.node.membership().members;
        let Incarnation { boot, nonce, .. } = self.node.incarnation();
        let road = (&self.seal, &self.drivers.road);
        self.will.write_letters(now, road, members, (boot, nonce));
    }

    fn tend_readings(&mut self, now: Millis) {
        if !self.node.leads() || self.node.is_witness() {
            return;
        }
        let time = (self.drivers.clock.wall_us(), self.node.agrees_on_time(now));
        let start = (self.facts.identity.node, self.facts.boot);
        if let Some(request) = self.tender.due(now, time, start) {
            let id = self.wait(Waiter::Tend);
            self.happen(Event::Requested { id, request });
        }
    }

    fn carry_out(&mut self, now: Millis, effects: Effects) {
        for effect in effects {
            match effect {
                Effect::Send { to, payload } => self.send(now, to, &payload),
                Effect::Persist { ref entries, .. } => {
                    if self.keyring.foresee(entries) {
                        self.seal.set_keys(self.keyring.seal_keys());
                    }
                    self.drivers.journal.take(effect);
                }
                Effect::Fetch { .. } | Effect::FetchSpool { .. } => {
                    self.drivers.journal.take(effect);
                }
                Effect::Execute { .. }
                | Effect::Apply { .. }
                | Effect::Query { .. }
                | Effect::Pages { .. }
                | Effect::RoleChanged { .. } => self.drivers.database.take(effect),
                Effect::Reply { id, reply } => self.reply(now, id, reply),
            }
        }
    }

    fn send(&mut self, now: Millis, to: NodeId, payload: &[u8]) {
        let mut out = Vec::new();
        self.seal.seal(now, to, payload, &mut out);
        self.transmit(now, out);
    }

    fn transmit(&mut self, now: Millis, out: Vec<Outgoing>) {
        for Outgoing { to, datagram } in out {
            match to {
                To::Node(node) => self.drivers.road.send(now, node, &datagram),
                To::Address(address) => self.drivers.road.send_to(address, &datagram),
            }
        }
    }

    fn take_datagram(&mut self, datagram: &[u8], source: Address) {
        let now = clock::now();
        let mut out = Vec::new();
        let opened = self.seal.open(now, datagram, source, &mut out);
        self.transmit(now, out);
        match opened {
            Opened::Payload { from, payload } => {
                self.drivers.road.heard(now, from, source);
                if probe::is_probe(&payload) {
                    self.take_probe(now, from, &payload);
                } else {
                    self.happen(Event::Received { from, payload });
                }
            }
            Opened::Guest { key, payload } => self.take_guest(now, (key, source), &payload),
            Opened::Alive { from } => self.drivers.road.heard(now, from, source),
            Opened::Gone => self.node.set_removed(),
            Opened::Obituary { start, with_all } => {
                self.happen(Event::Fell(start));
                if with_all {
                    self.happen(Event::Ended(start));
                }
            }
            Opened::Nothing => {}
        }
    }

    fn take_guest(&mut self, now: Millis, (key, source): (PublicKey, Address), word: &[u8]) {
        let group = (self.node.membership(), self.node.version());
        match self.doorstep.knocked(key, source, word, group) {
            Knock::Admit(admission, request) => {
                let id = self.wait(Waiter::Guest(admission));
                self.happen(Event::Requested { id, request });
            }
            Knock::Answer(answer) => self.answer_guest(now, (key, source), &answer),
            Knock::Ignore => {}
        }
    }

    fn answer_guest(&mut self, now: Millis, (key, source): (PublicKey, Address), word: &[u8]) {
        let mut out = Vec::new();
        self.seal.seal_guest(now, key, source, word, &mut out);
        self.transmit(now, out);
    }

    fn look_for_boards(&mut self, now: Millis) {
        if let Some(neighbours) = &mut self.drivers.neighbours {
            neighbours.ask(self.drivers.road.misses_any(now, self.facts.identity.node));
        }
    }

    /// Who hears nobody for long may be a member no more, and is told so by those who are.
    fn ask_whether_member(&mut self, now: Millis) {
        let is_due = now.since(self.asked_whether) >= WHETHER_MS;
        if !is_due || self.node.is_removed() || !self.node.lacks_leader(now) {
            return;
        }
        self.asked_whether = now;
        let mut out = Vec::new();
        self.seal.ask_whether_gone(&mut out);
        self.transmit(now, out);
    }

    fn wait(&mut self, waiter: Waiter) -> RequestId {
        self.requests += 1;
        self.callers.insert(self.requests, waiter);
        self.requests
    }

    fn reply(&mut self, now: Millis, id: RequestId, reply: Reply) {
        match self.callers.remove(&id) {
            Some(Waiter::Caller(caller)) => {
                // A caller that went away needs no answer.
                let _ = caller.send(reply);
            }
            Some(Waiter::Guest(admission)) => {
                let answer = self.doorstep.decided(admission, &reply, self.node.membership());
                if let Some(answer) = answer {
                    self.answer_guest(now, (admission.key(), admission.address), &answer);
                }
            }
            Some(Waiter::Settings) => self.take_settings(now, &reply),
            Some(Waiter::History) => self.watching.recorder.answered(&reply),
            Some(Waiter::Sensors) => self.hear_of_sensors(now, &reply),
            Some(Waiter::Tend) => self.tender.answered(now, &reply),
            Some(Waiter::Turn(step)) => self.turn.answered(step, &reply),
            // One that is refused is owed still, and made anew.
            Some(Waiter::Key | Waiter::Version) | None => {}
        }
    }
}
