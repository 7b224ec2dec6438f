//! The state machine: one event in, every effect out.
//!
//! This file matches and calls. What it calls lives beside it, by job:
//! [`crate::ready`] turns raft-rs's wishes into effects and keeps "send only
//! after durable"; [`crate::leadership`] says when it may lead; [`crate::serve`]
//! answers callers; `scrubber` compares boards; the states they share
//! (`log`, `apply`, `writes`, `reads`, `forward`, `promise`, `link`) know
//! nothing of raft-rs's node and nothing of each other.

use alloc::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    vec::Vec,
};

use raft::{RawNode, StateRole};

use crate::{
    apply::Applier,
    catchup::CatchUp,
    duties::Duties,
    error::{Refusal, Rejection},
    event::{Effect, Event, HardState, Millis, NodeId, Position},
    fates::Fates,
    forward::{Inbox, Outbox},
    freshness::Freshness,
    intake::Intake,
    invitations::Invitations,
    limits,
    link::Links,
    log::Log,
    member::Membership,
    mutant,
    presence::Presence,
    promise::{Memories, Standing},
    reads::Reads,
    ready::{Pending, raft_over},
    restored::Restored,
    retention::Retention,
    roster::Roster,
    rotation::Rotation,
    scrubber::Scrubber,
    serve::Owed,
    source::Source,
    starts::Starts,
    tempo::Tempo,
    timing::Timing,
    versions::Versions,
    walls::Walls,
    wire::{Frame, Session},
    witness::{Tail, Witnessing},
    writes::{Ticket, Writes},
};

/// What a node is told once.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Its own id.
    pub id: NodeId,
    /// All its randomness comes from here.
    pub seed: u64,
    /// Counts the starts of this disk; never falls.
    pub boot: u64,
    /// Drawn for this start alone: no copy of the disk has the same.
    pub nonce: u64,
    /// The group's timing profile.
    pub timing: Timing,
    /// It keeps none of the users' rows.
    pub witness: bool,
}

/// Effects of one event, in the order in which they are carried out.
#[must_use = "every effect is carried out before the next event"]
#[derive(Debug, Default)]
pub struct Effects(Vec<Effect>);

impl Effects {
    pub(crate) fn push(&mut self, effect: Effect) {
        self.0.push(effect);
    }

    /// Is there nothing to do?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl IntoIterator for Effects {
    type Item = Effect;
    type IntoIter = alloc::vec::IntoIter<Effect>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// Why a node wants to be woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// Raft's clock.
    Tick,
    /// A fragment to repeat or to pace.
    Link,
    /// A read to ask again or to give up.
    Read,
    /// A request to give up.
    Write,
    /// A forwarded request to repeat or to give up.
    Forward,
    /// Readings to send or to spool.
    Readings,
    /// A lease to renew, to end, or to grant.
    Duty,
}

/// A member of a group. See the crate's description for the contract.
pub struct Node {
    pub(crate) config: Config,
    pub(crate) raw: RawNode<Log>,
    pub(crate) links: Links,
    pub(crate) membership: Membership,
    pub(crate) membership_changes: u64,
    pub(crate) applier: Applier,
    pub(crate) retention: Retention,
    pub(crate) witnessing: Witnessing,
    pub(crate) writes: Writes,
    pub(crate) reads: Reads,
    pub(crate) outbox: Outbox<Ticket>,
    pub(crate) inbox: Inbox,
    pub(crate) memories: Memories,
    pub(crate) standing: Standing,
    pub(crate) starts: Starts,
    /// What the disk holds of term and vote, and of the commit index.
    pub(crate) durable: HardState,
    /// Number of the last [`Effect::Persist`].
    pub(crate) written: u64,
    /// Writes of the journal under way, oldest first.
    pub(crate) pending: VecDeque<Pending>,
    pub(crate) heard: BTreeMap<NodeId, Millis>,
    pub(crate) voters_max: usize,
    pub(crate) presence: Presence,
    pub(crate) freshness: Freshness,
    pub(crate) scrubber: Scrubber,
    pub(crate) roster: Roster,
    pub(crate) invitations: Invitations,
    pub(crate) rotation: Rotation,
    pub(crate) catchup: CatchUp,
    pub(crate) source: Source,
    /// Followers that were last told to pull pages then.
    pub(crate) offers: BTreeMap<NodeId, Millis>,
    /// Times the database fell back: see [`Effect::resets`].
    pub(crate) resets: u64,
    pub(crate) owed: Vec<Owed>,
    pub(crate) led: bool,
    /// Times leadership was offered to another.
    pub(crate) handed_over: usize,
    /// Boards that turn entries away.
    pub(crate) without_room: BTreeSet<NodeId>,
    /// Entries were turned away for want of room, and nothing has made any since.
    pub(crate) turned_away: bool,
    pub(crate) disk_full: bool,
    pub(crate) database_full: bool,
    pub(crate) database_held: bool,
    /// Since when it comes to its end.
    pub(crate) stopping: Option<Millis>,
    pub(crate) tempo: Tempo,
    pub(crate) ticks: u64,
    /// The commit index that followers have heard of, at the last tick.
    pub(crate) announced: u64,
    /// Boards that got an answer, and hear with it that its write is committed.
    pub(crate) answered: BTreeSet<NodeId>,
    pub(crate) numbers: u64,
    pub(crate) dropped: BTreeMap<Rejection, u64>,
    pub(crate) intake: Intake,
    pub(crate) walls: Walls,
    pub(crate) versions: Versions,
    pub(crate) duties: Duties,
    pub(crate) fates: Fates,
    pub(crate) effects: Effects,
    pub(crate) outgoing: Vec<(NodeId, Vec<u8>)>,
}

impl Node {
    /// A node that goes on from what its disk holds, and its first effects.
    ///
    /// # Panics
    /// When `restored` contradicts itself.
    pub fn new(now: Millis, config: Config, restored: Restored) -> (Self, Effects) {
        let hard_state = restored.hard_state;
        let (boards, voters) = (restored.membership.holders(), restored.membership.voters());
        let retention = Retention::of(config.witness, &restored);
        let standing = Standing::of(now, config.id, &voters, &restored);
        let (membership, start) = (restored.membership.clone(), (restored.start, restored.terms));
        let log = Log::new(hard_state, membership, start, restored.last_index, restored.tail);
        // raft-rs has nothing beyond its log; in a lost disk's it does nothing.
        let raw = raft_over(log, &config, restored.applied.index.min(restored.last_index));
        let mut node = Self {
            config,
            raw,
            links: Links::new(config.seed ^ config.boot),
            membership: restored.membership,
            membership_changes: 0,
            applier: Applier::new(restored.applied),
            retention,
            witnessing: Witnessing::default(),
            writes: Writes::default(),
            reads: Reads::new(config.id, config.boot),
            outbox: Outbox::new(Session::new(config.boot, config.nonce)),
            inbox: Inbox::default(),
            memories: Memories::new(restored.memories),
            standing,
            starts: Starts::default(),
            durable: hard_state,
            written: 0,
            pending: VecDeque::new(),
            heard: BTreeMap::new(),
            voters_max: limits::VOTERS_DEFAULT,
            presence: Presence::default(),
            freshness: Freshness::default(),
            roster: Roster::default(),
            invitations: Invitations::default(),
            rotation: Rotation::default(),
            scrubber: Scrubber::new(now, config.id, restored.scrubs, &boards),
            catchup: CatchUp::default(),
            source: Source::default(),
            offers: BTreeMap::new(),
            resets: 0,
            owed: Vec::new(),
            led: false,
            handed_over: 0,
            without_room: BTreeSet::new(),
            turned_away: false,
            disk_full: false,
            database_full: false,
            database_held: false,
            stopping: None,
            tempo: Tempo::new(now.plus(config.timing.tick_ms)),
            ticks: 0,
            announced: 0,
            answered: BTreeSet::new(),
            numbers: 0,
            dropped: BTreeMap::new(),
            intake: Intake::new(config.id, config.boot, restored.spool),
            walls: Walls::default(),
            versions: Versions::default(),
            duties: Duties::new(now, config.id, config.boot, restored.duties),
            fates: Fates::default(),
            effects: Effects::default(),
            outgoing: Vec::new(),
        };
        node.raw.mut_store().release(restored.applied);
        node.pin_election_timeout();
        node.record_standing(now);
        node.ask_promises(now);
        if voters == [config.id] && node.standing.takes_part() {
            node.raw.campaign().expect("a voter alone may always campaign");
        }
        let effects = node.settle(now);
        (node, effects)
    }

    /// Takes one event; every effect is carried out before the next.
    pub fn handle(&mut self, now: Millis, event: Event) -> Effects {
        self.note_leading(now);
        match event {
            Event::Tick => {}
            Event::Received { from, payload } => self.on_payload(now, from, &payload),
            Event::Requested { id, request } => self.on_request(now, id, request),
            Event::Persisted { number } => self.on_persisted(now, number),
            Event::DiskFull(full) => self.disk_full = full,
            Event::DatabaseFull(full) => self.database_full = full,
            Event::DatabaseHeld(held) => self.database_held = held,
            Event::DatabaseDurable(index) => self.retention.durable(index),
            Event::Fetched { number, entries } => self.on_fetched(now, number, entries),
            Event::SpoolFetched { number, pieces } => self.on_spool_fetched(now, number, pieces),
            Event::Executed { number, executed } => self.on_executed(now, number, executed),
            Event::Applied { number, outcomes } => self.on_applied(now, number, outcomes),
            Event::DatabaseReset { applied, ended_by } => self.on_reset(now, applied, ended_by),
            Event::Queried { number, answer } => self.on_queried(number, answer),
            Event::Duties(duties) => self.on_duties(now, duties),
            Event::Version(version) => self.versions.rise(version),
            Event::Ready(duties) => self.on_own_ready(duties),
            Event::GaveUp(claim) => self.on_gave_up(now, claim),
            Event::LostTouch(claim) => self.on_lost_touch(claim),
            Event::Fell(start) => self.on_fell(now, start),
            Event::Ended(ended) => self.on_ended(ended),
            Event::Scrubs(scrubs) => self.on_scrubs(now, scrubs),
            Event::Digested { scrub, report } => self.on_digested(scrub, &report),
            Event::Pages { number, done } => self.on_pages(now, number, done),
            Event::Stopping => self.on_stopping(now),
        }
        self.on_time(now);
        let effects = self.settle(now);
        self.note_leaders();
        effects
    }

    /// The next moment this node wants an event, and why. [`Event::Tick`] will do.
    #[must_use]
    pub fn deadline(&self) -> (Millis, Reason) {
        let timing = &self.config.timing;
        let all = [
            (Some(self.tempo.next_tick), Reason::Tick),
            (self.links.deadline(), Reason::Link),
            (self.reads.deadline(timing.read_retry_ms), Reason::Read),
            (self.writes.deadline(), Reason::Write),
            (self.outbox.deadline(timing.forward_retry_ms), Reason::Forward),
            (self.owed.iter().map(|owed| owed.deadline).min(), Reason::Write),
            (self.intake.deadline(!self.pending.is_empty()), Reason::Readings),
            (self.duties_deadline(), Reason::Duty),
        ];
        let due = all.into_iter().filter_map(|(at, reason)| Some((at?, reason)));
        due.min().expect("Raft's clock always ticks")
    }

    /// Who belongs to the group, at the applied index.
    #[must_use]
    pub const fn membership(&self) -> &Membership {
        &self.membership
    }

    /// The last entry that the database has.
    #[must_use]
    pub const fn applied(&self) -> Position {
        self.applier.applied()
    }

    /// Rises with every change of the membership since the start.
    #[must_use]
    pub const fn membership_changes(&self) -> u64 {
        self.membership_changes
    }

    /// How many boards are to vote.
    #[must_use]
    pub const fn voters_max(&self) -> usize {
        self.voters_max
    }

    /// How many boards are to vote: those admitted beyond it only follow.
    ///
    /// # Panics
    /// When it is no number of voters.
    pub fn set_voters_max(&mut self, voters: usize) {
        assert!((1..=limits::VOTERS_MAX).contains(&voters), "a number of voters");
        self.voters_max = voters;
    }

    /// The group's timing profile, as it is in force.
    #[must_use]
    pub const fn timing(&self) -> &Timing {
        &self.config.timing
    }

    /// Does it lead?
    #[must_use]
    pub fn leads(&self) -> bool {
        self.raw.raft.state == StateRole::Leader
    }

    /// Its term.
    #[must_use]
    pub fn term(&self) -> u64 {
        self.raw.raft.term
    }

    /// Whom this node takes for the leader; itself when it leads.
    #[must_use]
    pub fn leader(&self) -> Option<NodeId> {
        Some(self.raw.raft.leader_id).filter(|id| *id != 0)
    }

    pub(crate) fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    fn on_payload(&mut self, now: Millis, from: NodeId, payload: &[u8]) {
        if self.membership.has_removed(from) && !mutant::is(48) {
            return self.drop_frame(Rejection::Removed);
        }
        if self.heard.insert(from, now).is_none() {
            self.say_presence(now, from);
            self.say_builds(now, from);
            self.ask_start(now, from);
        }
        let frames = match self.links.receive(now, from, payload, &mut self.outgoing) {
            Ok(frames) => frames,
            Err(rejection) => return self.drop_frame(rejection),
        };
        for frame in frames {
            if let Err(rejection) = self.on_frame(now, from, &frame) {
                self.drop_frame(rejection);
            }
        }
    }

    fn drop_frame(&mut self, rejection: Rejection) {
        *self.dropped.entry(rejection).or_default() += 1;
    }

    fn on_frame(&mut self, now: Millis, from: NodeId, frame: &[u8]) -> Result<(), Rejection> {
        match Frame::decode(frame)? {
            Frame::Raft(frame) => self.on_raft(now, from, frame)?,
            Frame::Forward(forward) => self.on_forward(now, from, forward),
            Frame::Answer { session, sequence, reply } => {
                self.on_answer(now, from, (session, sequence), reply)
            }
            Frame::PromiseAsk { boot } => self.on_promise_ask(now, from, boot),
            Frame::PromiseTell { boot, promise } => self.on_told(now, from, boot, promise),
            Frame::Presence { http } => self.on_presence(now, from, http)?,
            Frame::Wall { wall_us } => self.on_wall(now, from, wall_us),
            Frame::Others { term, others } => self.on_others(now, from, term, others)?,
            Frame::Invitations { left } => self.on_invitations(now, left)?,
            Frame::PagesAsk { ask, wish } => self.on_pages_ask(now, from, ask, wish)?,
            Frame::PagesTell { ask, answer } => self.on_pages_tell(now, from, ask, answer)?,
            Frame::StartAsk { number } => self.on_start_ask(now, from, number),
            Frame::StartTell { number, start } => self.on_start_tell(now, from, number, start),
            Frame::Starts { met } => self.on_starts(now, &met)?,
            Frame::Copies { copied } => self.on_copies(now, &copied)?,
            Frame::TailAsk { after } => self.on_tail_ask(now, from, after),
            Frame::TailTell { after, entries } => self.on_tail_tell(after, entries)?,
            Frame::Held { term, index, settings } => self.on_held(from, (term, index), settings)?,
            Frame::Renew { number, claims } => self.on_renew(now, from, number, claims)?,
            Frame::Renewed { number, claims } => self.on_renewed(now, from, number, &claims),
            Frame::Stopped { claims } => self.on_stopped(from, &claims)?,
            Frame::Yield { claims } => self.on_yield(from, &claims),
            Frame::Ready { start, duties } => self.on_ready(now, from, start, duties)?,
            Frame::Ends { start } => self.on_ends(from, start),
            Frame::Runs { runs } => self.on_runs(from, runs)?,
            Frame::Tail { term, first, is_full, lacks } => {
                self.on_tail(from, term, Tail { first, is_full, lacks });
            }
        }
        Ok(())
    }

    /// Whatever time alone brings.
    fn on_time(&mut self, now: Millis) {
        let mut outgoing = core::mem::take(&mut self.outgoing);
        self.links.tick(now, &mut outgoing);
        self.outgoing = outgoing;
        if now >= self.tempo.next_tick {
            self.tempo.next_tick = now.plus(self.config.timing.tick_ms);
            self.on_tick(now);
        }
        self.expire(now);
        self.tend_duties(now);
    }

    fn on_tick(&mut self, now: Millis) {
        self.ticks += 1;
        self.take_up_timing(now);
        self.tick_presence(now);
        self.tick_walls(now);
        self.tick_fates(now);
        self.tick_starts(now);
        self.tick_tail(now);
        self.standing.wait(now, self.config.timing.start_wait_ms);
        self.record_standing(now);
        if !self.standing.takes_part() || self.ticks.is_multiple_of(limits::OTHERS_TICKS_MIN) {
            self.ask_promises(now);
        }
        if self.may_tick() {
            self.raw.tick();
            self.pin_election_timeout();
            self.announce_commit();
        } else if !self.may_stand() {
            // It votes for others as it would if it could stand itself: raft-rs turns
            // candidates away for so long after the leader was heard.
            self.raw.raft.election_elapsed += 1;
        }
        self.tick_roster(now);
        self.tick_witness(now);
        self.tick_invitations(now);
        self.tick_versions(now);
        self.tick_keys(now);
        self.tick_scrub(now);
        self.tick_catch_up(now);
        self.tick_source(now);
        self.tick_offers(now);
        self.ask_to_yield(now);
        self.tick_drain(now);
        let is_to_go = !self.may_lead() && !self.hands_on_duties(now) || self.disk_stalls();
        if self.leads() && is_to_go {
            self.hand_over(now);
        }
    }

    pub(crate) fn heard_within(&self, now: Millis, peer: NodeId, ms: u64) -> bool {
        self.heard.get(&peer).is_some_and(|at| now.since(*at) < ms)
    }

    /// Why a request got no answer in time that had no effect.
    pub(crate) fn unanswered(&self) -> Refusal {
        match self.leader() {
            None => Refusal::NoLeader,
            Some(_) if self.database_held => Refusal::DatabaseHeld,
            Some(_) => Refusal::TimedOut,
        }
    }

    fn expire(&mut self, now: Millis) {
        let refusal = self.unanswered();
        let behind = if self.database_held { Refusal::DatabaseHeld } else { Refusal::TimedOut };
        for (id, reply) in self.reads.expire(now, &refusal, &behind) {
            self.effects.push(Effect::Reply { id, reply });
        }
        let answered = self.writes.expire(now, &refusal);
        self.answer_all(now, answered);
        self.intake.callers.expire(now);
        self.pay(now, |owed| owed.deadline <= now);
        let retry_ms = self.config.timing.forward_retry_ms;
        for returned in self.outbox.expire(now, self.applier.applied().term, retry_ms) {
            self.answer(now, (returned.ticket, returned.reply));
        }
        for (leader, frame) in self.outbox.repeat(now, retry_ms) {
            self.say(now, leader, &frame);
        }
    }

    pub(crate) fn say(&mut self, now: Millis, to: NodeId, frame: &Frame) {
        self.links.send(now, to, frame.encode(), &mut self.outgoing);
    }

    /// Draws every consequence of what just happened, and hands the effects out.
    fn settle(&mut self, now: Millis) -> Effects {
        loop {
            self.drain_raft(now);
            self.apply_committed(now);
            self.catch_up(now);
            self.serve(now);
            self.tend_spool(now);
            self.tell_callers();
            self.tell_answered();
            if !self.raw.has_ready() {
                break;
            }
        }
        self.links.flush(&mut self.outgoing);
        for (to, payload) in self.outgoing.drain(..) {
            self.effects.push(Effect::Send { to, payload });
        }
        core::mem::take(&mut self.effects)
    }
}
