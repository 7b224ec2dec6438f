//! Seeds whose datagrams are sealed, and go by UDP, through brokers, or both: by the
//! program's own seal and its own choice of roads. A draw of its own, so that what all
//! other seeds draw stays as it is.
//!
//! Brokers stall, are slow, lose something, are started anew; boards lose their connections;
//! UDP falls silent. When all heals one of two roads may stay as dead as it was: the other must do.

use understudy::{
    address::Address,
    driver::heard::Transport,
    seal::{Opened, Outgoing, To},
};
use understudy_core::{
    duty::Incarnation,
    event::{Event, NodeId},
};

use super::{
    agenda::Happening,
    broker::Broker,
    faults::Plan,
    mail::{Directory, Letter, Mail},
    moves::NEWCOMERS_MAX,
    random::Random,
    world::World,
};

/// Of all groups, per mille.
const SEALED: u64 = 300;

/// Keep the draws apart from those of the world.
const SALT: u64 = 0x506f_7374_6564_2121;
const SALT_OF_TROUBLE: u64 = 0x5472_6f75_626c_6521;

/// Simulated milliseconds of chaos, of a few of them, and until all must be well again: a
/// session that one end has lost is missed only after a while.
const CHAOS_MS: u64 = 70_000;
const CHAOS_LONG_MS: u64 = 200_000;
const HEAL_MS: u64 = 30_000;

/// Between two looks at whether something goes wrong.
const TROUBLE_MS: u64 = 500;

/// What was said so long before is old where it comes.
const OLD_MS: u64 = 15_000;

/// By which roads boards speak, and how often what goes wrong with them, per mille.
#[derive(Clone, Copy)]
pub(crate) struct Roads {
    pub(crate) is_sealed: bool,
    transport: Transport,
    /// The first board has MQTT alone.
    is_mixed: bool,
    brokers: u64,
    /// Of what is posted.
    loss: u64,
    stalls: u64,
    slow: u64,
    restarts: u64,
    lines: u64,
    silence: u64,
    is_long: bool,
}

impl Roads {
    /// UDP alone, and nothing is sealed.
    pub(crate) const UDP: Self = Self {
        is_sealed: false,
        transport: Transport::Udp,
        is_mixed: false,
        brokers: 0,
        loss: 0,
        stalls: 0,
        slow: 0,
        restarts: 0,
        lines: 0,
        silence: 0,
        is_long: false,
    };

    /// When all heals.
    pub(crate) const fn chaos_ms(&self, chaos_ms: u64) -> u64 {
        match (self.is_sealed, self.is_long) {
            (false, _) => chaos_ms,
            (true, false) => CHAOS_MS,
            (true, true) => CHAOS_LONG_MS,
        }
    }

    /// And how long that takes.
    pub(crate) const fn heal_ms(&self, heal_ms: u64) -> u64 {
        if self.is_sealed { HEAL_MS } else { heal_ms }
    }

    const fn transport_of(&self, id: NodeId) -> Transport {
        if self.is_mixed && id == 1 { Transport::Mqtt } else { self.transport }
    }
}

impl Plan {
    pub(crate) fn with_brokers(self, seed: u64) -> Self {
        let mut random = Random::new(seed ^ SALT);
        if !random.chance(SEALED) {
            return self;
        }
        let transport = match random.below(10) {
            0 => Transport::Udp,
            1..=3 => Transport::Mqtt,
            _ => Transport::Both,
        };
        let mut rate = |max: u64| if random.chance(600) { random.below(max + 1) } else { 0 };
        let roads = Roads {
            is_sealed: true,
            transport,
            loss: rate(300),
            stalls: rate(40),
            slow: rate(30),
            restarts: rate(25),
            lines: rate(60),
            silence: rate(40),
            is_mixed: transport == Transport::Both && random.chance(250),
            brokers: if transport == Transport::Udp { 0 } else { 1 + random.below(2) },
            is_long: random.chance(150),
        };
        // Those aim at who hears whom by UDP.
        Self { roads, depose: 0, ..self }
    }
}

/// See the module's description.
pub(crate) struct Post {
    random: Random,
    pub(crate) directory: Directory,
    brokers: Vec<Broker>,
    mails: std::collections::BTreeMap<NodeId, Mail>,
    /// Datagrams sealed so far.
    sealed: u64,
    /// UDP brings nothing any more.
    is_udp_dead: bool,
}

impl Post {
    pub(crate) fn new(seed: u64, plan: &Plan) -> Self {
        let roads = &plan.roads;
        // One more is given the place of another.
        let boards = if roads.is_sealed { plan.boards + NEWCOMERS_MAX + 1 } else { 0 };
        let mut random = Random::new(seed ^ SALT_OF_TROUBLE);
        let mut broker = |_| Broker::new(2 + random.below(40), random.chance(300));
        let brokers = (0..roads.brokers).map(&mut broker).collect();
        Self {
            random,
            directory: Directory::new(boards),
            brokers,
            mails: Default::default(),
            sealed: 0,
            is_udp_dead: false,
        }
    }
}

impl World {
    fn mail(&mut self, id: NodeId) -> Option<&mut Mail> {
        self.boards[&id].process.as_ref()?;
        self.post.mails.get_mut(&id)
    }

    /// A start of a board has its own sessions, and connects to the brokers.
    pub(crate) fn open_mail(&mut self, id: NodeId) {
        let Some(start) = self.boards[&id].incarnation.filter(|_| self.plan.roads.is_sealed) else {
            return;
        };
        let salt = u32::try_from(self.post.random.below(1 << 32)).unwrap_or(0);
        let mail = Mail::new(start, self.plan.roads.transport_of(id), salt);
        self.post.mails.insert(id, mail);
        let back = self.now + 50 + self.post.random.below(2_000);
        self.post.brokers.iter_mut().for_each(|broker| broker.cut_line(id, back));
        self.learn_members(id);
    }

    /// Its seal knows the members that it knows, and a newcomer those it was told of.
    pub(crate) fn learn_members(&mut self, id: NodeId) {
        let now = self.boards[&id].time(self.now);
        let Some(process) = &self.boards[&id].process else { return };
        let Some(mail) = self.post.mails.get_mut(&id) else { return };
        let changes = Some(process.node.membership_changes());
        if mail.changes == changes {
            return;
        }
        mail.changes = changes;
        let (membership, directory) = (process.node.membership(), &self.post.directory);
        let is_newcomer = id > self.plan.boards;
        let told = directory.ids().take_while(|other| is_newcomer && *other <= id);
        let told = told.filter(|other| *other > membership.last_id);
        let members = membership.members.iter().map(|member| member.id).chain(told);
        let removed = membership.removed.iter().filter_map(|(board, _)| directory.key(*board));
        mail.set_members(now, &directory.members(members), &removed.collect::<Vec<_>>());
    }

    /// Seals what a board says and sends it by the roads there are.
    pub(crate) fn send_sealed(&mut self, from: NodeId, to: NodeId, payload: &[u8]) {
        let (now, time) = (self.now, self.boards[&from].time(self.now));
        let Some(mail) = self.mail(from) else { return };
        let out = mail.seal(time, to, payload);
        if !mail.is_carried(&out, to) {
            mail.keep(now, to);
        }
        self.transmit(from, out);
    }

    /// What a board owes others it says now and then.
    pub(crate) fn greet(&mut self, id: NodeId) {
        let time = self.boards[&id].time(self.now);
        if self.boards[&id].paused_since.is_some() {
            return;
        }
        let out = self.mail(id).map(|mail| mail.greet(time)).unwrap_or_default();
        self.transmit(id, out);
    }

    fn transmit(&mut self, from: NodeId, out: Vec<Outgoing>) {
        let now = self.now;
        let Some(mail) = self.post.mails.get_mut(&from).filter(|_| !out.is_empty()) else { return };
        for (to, mut letter) in mail.letters(now, &self.post.directory, out) {
            self.post.sealed += 1;
            letter.number = self.post.sealed;
            let (by_udp, by_post) = self.roads_of(from, to);
            if by_post {
                self.post_letter(&letter, false);
            }
            if by_udp {
                self.send_by_udp(letter);
            }
        }
    }

    /// By UDP, and by post?
    fn roads_of(&self, from: NodeId, to: To) -> (bool, bool) {
        let time = self.boards[&from].time(self.now);
        let Some(mail) = self.post.mails.get(&from) else { return (false, false) };
        let has_udp = mail.transport != Transport::Mqtt;
        let node = self.boards[&from].process.as_ref().map(|process| &process.node);
        let patience_ms = node.map_or(0, |node| node.timing().leader_silent_ms());
        match to {
            To::Node(id) => (has_udp, mail.posts_to(time, id, patience_ms)),
            To::Address(Address::Udp(_)) => (has_udp, false),
            To::Address(Address::Mqtt(_)) => (false, true),
        }
    }

    fn send_by_udp(&mut self, letter: Letter) {
        if !self.post.is_udp_dead {
            let (from, to) = (letter.from, letter.to);
            self.carry((from, to), || Happening::Arrive { letter: letter.clone() });
        }
    }

    fn post_letter(&mut self, letter: &Letter, by_parent: bool) {
        for place in 0..self.post.brokers.len() {
            if !self.heals && self.post.random.chance(self.plan.roads.loss) {
                continue;
            }
            let letter = Letter { is_posted: true, ..letter.clone() };
            let due = self.post.brokers[place].take(self.now, letter, by_parent);
            if let Some(due) = due {
                self.outcome.posted += 1;
                self.agenda.plan(due, Happening::HandOut { broker: place });
            }
        }
    }

    pub(crate) fn hand_out(&mut self, broker: usize) {
        let now = self.now;
        let due = self.post.brokers.get_mut(broker).map(|broker| broker.due(now));
        for letter in due.unwrap_or_default() {
            self.arrive(letter);
        }
    }

    /// A datagram comes to a board.
    pub(crate) fn arrive(&mut self, letter: Letter) {
        let (id, now) = (letter.to, self.now);
        if self.boards.get(&id).is_none_or(|board| board.process.is_none()) {
            return;
        }
        let (time, is_still) =
            (self.boards[&id].time(now), self.boards[&id].paused_since.is_some());
        let Some(mail) = self.post.mails.get_mut(&id) else { return };
        if is_still {
            return mail.hold(letter);
        }
        let before = mail.replayed();
        let (opened, out) = mail.open(time, &self.post.directory, &letter);
        let is_old = now - letter.born >= OLD_MS;
        self.outcome.replayed += u64::from(mail.replayed() > before && !is_old);
        self.outcome.overtaken += u64::from(mail.replayed() > before && is_old);
        self.transmit(id, out);
        self.take(&letter, opened, is_old);
    }

    fn take(&mut self, letter: &Letter, opened: Opened, is_old: bool) {
        let (id, now) = (letter.to, self.now);
        let time = self.boards[&id].time(now);
        if let Opened::Payload { .. } | Opened::Alive { .. } = &opened
            && let Some(what) = self.mail(id).and_then(|mail| mail.wrong(time, letter))
        {
            return self.check.fail(format!("board {id} takes {what}"));
        }
        match opened {
            Opened::Payload { from, payload } => {
                self.outcome.old += u64::from(is_old);
                self.board(id).lateness.came(now, now - letter.born);
                self.give(id, Event::Received { from, payload });
            }
            Opened::Obituary { start, with_all } => {
                self.give(id, Event::Fell(start));
                if with_all {
                    self.give(id, Event::Ended(start));
                }
            }
            Opened::Guest { .. } | Opened::Alive { .. } | Opened::Gone | Opened::Nothing => {}
        }
    }

    /// What came while it stood still.
    pub(crate) fn take_waiting(&mut self, id: NodeId) {
        let waiting = self.post.mails.get_mut(&id).map(|mail| std::mem::take(&mut mail.waiting));
        for letter in waiting.unwrap_or_default() {
            self.arrive(letter);
        }
    }

    /// A parent sends the words on its agent's end.
    pub(crate) fn send_obituary(&mut self, start: Incarnation) {
        let from = start.board;
        for to in self.post.directory.ids().filter(|id| *id != from).collect::<Vec<_>>() {
            let key = self.post.directory.key(to).unwrap_or_default();
            let Some(mail) = self.post.mails.get(&from) else { return };
            let has_udp = mail.transport != Transport::Mqtt;
            let Some(datagram) = mail.obituary(start, &key) else { continue };
            let born = self.now;
            let letter = Letter { from, to, number: 0, born, is_posted: false, datagram };
            self.post_letter(&letter, true);
            if has_udp {
                self.send_by_udp(letter);
            }
        }
    }

    /// Something may go wrong with the roads.
    pub(crate) fn trouble(&mut self) {
        if self.heals {
            return;
        }
        self.plan_in(TROUBLE_MS, Happening::Trouble);
        let (roads, now) = (self.plan.roads, self.now);
        if self.post.random.chance(roads.silence) {
            self.silence_udp();
        }
        for place in 0..self.post.brokers.len() {
            let random = &mut self.post.random;
            let broker = &mut self.post.brokers[place];
            if random.chance(roads.stalls) {
                let ms = random.below(if roads.is_long { 150_000 } else { 60_000 });
                broker.stall(now + ms);
                self.agenda.plan(now + ms, Happening::HandOut { broker: place });
            }
            if random.chance(roads.slow) {
                let more_ms = random.below(if roads.is_long { 120_000 } else { 60_000 });
                broker.slow_down(now + random.below(20_000), more_ms);
            }
            let is_restarted = random.chance(roads.restarts);
            let back = now + random.below(5_000);
            for board in broker.boards() {
                if is_restarted || random.chance(roads.lines / 3) {
                    broker.cut_line(board, back + random.below(5_000));
                }
            }
        }
    }

    /// UDP brings nothing between two boards, or between any, for a while.
    fn silence_udp(&mut self) {
        let ids: Vec<NodeId> = self.post.directory.ids().collect();
        let place = usize::try_from(self.post.random.below(ids.len().max(1) as u64)).unwrap_or(0);
        let whom = self.post.random.chance(500).then(|| ids[place]);
        let ms = 2_000 + self.post.random.below(40_000);
        self.tell(|| format!("UDP brings nothing for {ms} ms, between {whom:?} and all"));
        let pairs = ids.iter().flat_map(|from| ids.iter().map(move |to| (*from, *to)));
        for (from, to) in pairs.filter(|(from, to)| whom.is_none_or(|id| id == *from || id == *to))
        {
            self.cut.insert((from, to));
            self.plan_in(ms, Happening::Mend { from, to });
        }
    }

    /// The roads are well again, or one of two stays as it is for good.
    pub(crate) fn heal_roads(&mut self) {
        let (roads, now) = (self.plan.roads, self.now);
        if !roads.is_sealed {
            return;
        }
        let has_both = roads.transport == Transport::Both && !roads.is_mixed;
        match self.post.random.below(3) {
            0 if has_both => self.post.is_udp_dead = true,
            1 if has_both => self.post.brokers.clear(),
            _ => {}
        }
        self.post.brokers.iter_mut().for_each(|broker| broker.heal(now));
        for broker in 0..self.post.brokers.len() {
            self.plan_in(0, Happening::HandOut { broker });
        }
    }
}
