//! A model of the rule of leases for an exhaustive search: every order of events of a few
//! boards and one duty, within bounds, where the simulator draws some.
//!
//! It lives here and not with the other tests because it calls the rule itself: `Quiet`,
//! `Lessor`, `Lessee` and `Ended` are the program's own, planted bugs and all. What is
//! described anew is what surrounds them: Raft, messages, commands, clocks.
//!
//! What can happen at any moment, or never:
//!
//! - A board stands for election: after a leader's silence, a false hint, or a transfer;
//!   nothing here keeps it from it. Each vote is asked, given and counted at moments of
//!   their own. So leaders change while the former one still leads as far as it knows.
//! - A leader reaches a follower with its log and its round, at once as far as the follower
//!   goes; what it makes of the answer it makes at any later moment. So messages are
//!   lost, late and out of order, links are cut both ways or one way, and a board may stand
//!   still between any two steps.
//! - A renewal is sent, arrives, is confirmed by a majority reached since, is answered, and
//!   the answer arrives: each later than the one before, by any time, or not at all.
//! - An agent starts anew, its command running on until its deadline, or until its parent
//!   has ended it; only then is the parent's word heard.
//! - A holder ends its command and says so.
//! - The lease of whatever grant stands is made longer by an entry, as a slower timing profile
//!   does; a follower may apply that before its leader.
//! - Time passes in steps, by each board's clock at a rate of its own: 7 or 9 units, where
//!   8 are right. With a margin of an eighth of the lease that is the very bound.
//!
//! Moments are kept as seen from now, and those too old to matter are one: time has no
//! bound, and states meet. Bounds are on terms, grants, starts, commands given up, and
//! renewals under way.
//!
//! Left out: preferences among boards (any may be granted the duty), duties granted to
//! nobody, more duties than one, changes of membership, duplicates of messages (each counts
//! once by its number, or says once more what is so), a holder that stops asking, rows that
//! fall back, heartbeats that get through where entries do not, that a leader begins one round
//! after the other.

use alloc::{
    collections::{BTreeSet, VecDeque},
    vec,
    vec::Vec,
};

use super::{Ended, Lessee, Lessor, Quiet};
use crate::{
    duty::{Claim, Duty, Incarnation},
    event::Millis,
    mutant,
};

#[path = "lease_model_steps.rs"]
mod steps;

pub(super) use steps::Step;

/// The present, by each board's clock.
const NOW: Millis = Millis(1_000);

const DUTY: u64 = 1;

/// How much may happen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) boards: usize,
    pub(super) lease_ms: u64,
    pub(super) terms: u64,
    pub(super) grants: u8,
    pub(super) starts: u8,
    pub(super) stops: u8,
    /// The lease is made twice as long so often.
    pub(super) lengthens: u8,
    /// Renewals under way at a time.
    pub(super) renewals: usize,
    /// By how much clocks are off, of 8.
    pub(super) drift: u64,
    /// Every clock's rate may change at every step of time.
    pub(super) wanders: bool,
    /// Boards that may stand for election; all where there is none.
    pub(super) stand: &'static [usize],
    /// Pairs of boards that are not cut off from each other; all where there is none.
    pub(super) linked: &'static [(usize, usize)],
}

impl Bounds {
    const fn lease_ms_max(&self) -> u64 {
        self.lease_ms << self.lengthens
    }

    /// What each clock gains in one step of time: a bit of `pattern` says whether it is fast
    /// or slow.
    fn rates(&self, pattern: u32) -> Vec<u64> {
        let is_fast = |at: usize| pattern & 1 << at != 0;
        let rate = |at| if is_fast(at) { 8 + self.drift } else { 8 - self.drift };
        (0..self.boards).map(rate).collect()
    }

    fn stands(&self, at: usize) -> bool {
        self.stand.is_empty() || self.stand.contains(&at)
    }

    fn links(&self, one: usize, two: usize) -> bool {
        one != two
            && (self.linked.is_empty() || self.linked.contains(&(one.min(two), one.max(two))))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Role {
    Follower,
    Candidate,
    Leader,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Entry {
    term: u64,
    what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum What {
    /// Begins a term.
    Begin,
    /// Grants the duty, where that grant still stands, with that lease.
    Grant(Grant),
    /// Makes the lease twice as long.
    Lengthen,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Grant {
    over: u64,
    over_lease_ms: u64,
    token: u64,
    holder: Incarnation,
}

impl Grant {
    fn stands_on(&self, duty: &Duty) -> bool {
        self.over == duty.token && (self.over_lease_ms >= duty.lease_ms || mutant::is(120))
    }
}

/// A command that runs, whatever has become of the agent of its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Acting {
    claim: Claim,
    boot: u64,
    until: Millis,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Board {
    boot: u64,
    term: u64,
    role: Role,
    /// Who voted for it, a bit each.
    votes: u32,
    log: Vec<Entry>,
    applied: usize,
    /// As a leader: how much of its log each board has.
    copied: Vec<usize>,
    quiet: Quiet,
    lessor: Lessor,
    lessee: Lessee,
    ended: Ended,
    acting: Option<Acting>,
}

/// A vote on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Vote {
    to: usize,
    from: usize,
    term: u64,
    quiet_ms: u64,
}

/// How far a renewal has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Stage {
    Sent,
    /// The leader has reached these boards since, a bit each.
    Waits(u32),
    Answered,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Renewal {
    from: usize,
    number: u64,
    to: usize,
    stage: Stage,
    claims: Vec<Claim>,
}

/// All there is at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct World {
    /// What each board's clock gains in one step of time.
    rates: Vec<u64>,
    boards: Vec<Board>,
    votes: BTreeSet<Vote>,
    renewals: Vec<Renewal>,
    /// Grants under which a board said that it acts no more.
    stopped: BTreeSet<(usize, Claim)>,
    grants: u8,
    starts: u8,
    stops: u8,
    lengthens: u8,
    /// The highest token that the duty was done under, and whether it ever fell.
    highest: u64,
    fell: bool,
}

fn incarnation(board: usize, boot: u64) -> Incarnation {
    Incarnation { board: board as u64 + 1, boot, nonce: boot }
}

/// Moved back by what a clock has gained; what is too old to matter is as old as can be.
fn age(at: &mut Millis, by: u64, window_ms: u64) {
    let moved = Millis(at.0.saturating_sub(by));
    *at = if NOW.since(moved) >= window_ms { Millis(0) } else { moved };
}

impl Board {
    fn new(at: usize, log: Vec<Entry>) -> Self {
        Self {
            boot: 1,
            term: 1,
            role: if at == 0 { Role::Leader } else { Role::Follower },
            votes: 0,
            applied: log.len(),
            log,
            copied: Vec::new(),
            quiet: Quiet::new(NOW),
            lessor: Lessor::new(),
            lessee: Lessee::new(),
            ended: Ended::default(),
            acting: None,
        }
    }

    fn rows(&self, lease_ms: u64) -> Vec<Duty> {
        let mut duty = Duty { id: DUTY, lease_ms, ..Duty::default() };
        for entry in &self.log[..self.applied] {
            match entry.what {
                What::Begin => {}
                What::Lengthen => duty.lease_ms *= 2,
                What::Grant(grant) if !grant.stands_on(&duty) => {}
                What::Grant(grant) => {
                    (duty.token, duty.holder) = (grant.token, Some(grant.holder));
                }
            }
        }
        vec![duty]
    }

    /// Does a grant that counts bring no higher token than the one before?
    fn has_fallen(&self, lease_ms: u64) -> bool {
        let board = |applied| Self { applied, ..self.clone() };
        (0..self.applied).any(|applied| match self.log[applied].what {
            What::Grant(grant) => {
                let duty = &board(applied).rows(lease_ms)[0];
                grant.stands_on(duty) && grant.token <= duty.token
            }
            What::Begin | What::Lengthen => false,
        })
    }

    fn end(&self) -> (u64, usize) {
        (self.log.last().map_or(0, |entry| entry.term), self.log.len())
    }

    fn leads(&self) -> bool {
        self.role == Role::Leader
    }

    /// Its first entry is applied, and with it all that was committed before.
    fn leads_for_sure(&self) -> bool {
        self.leads() && self.applied > 0 && self.log[self.applied - 1].term == self.term
    }

    fn pass(&mut self, by: u64, lease_ms: u64) {
        let window_ms = lease_ms + lease_ms / 8;
        age(&mut self.quiet.acknowledged, by, window_ms);
        age(&mut self.quiet.latest, by, window_ms);
        age(&mut self.lessor.others_until, by, window_ms);
        for (_, at) in self.lessor.renewed.values_mut() {
            age(at, by, window_ms);
        }
        for (_, _, at) in &mut self.lessee.sent {
            age(at, by, window_ms);
        }
        for held in self.lessee.held.values_mut() {
            age(&mut held.until, by, 1);
        }
        if let Some(acting) = self.acting.as_mut().filter(|acting| acting.until.0 < u64::MAX) {
            age(&mut acting.until, by, 1);
        }
        self.acting = self.acting.filter(|acting| acting.until > NOW);
    }
}

impl World {
    /// Board 0 leads, and `holder` is granted the duty, and has not asked yet.
    pub(super) fn new(bounds: &Bounds, holder: usize, pattern: u32) -> Self {
        let over_lease_ms = bounds.lease_ms;
        let grant = Grant { over: 0, over_lease_ms, token: 1, holder: incarnation(holder, 1) };
        let log = vec![Entry { term: 1, what: What::Grant(grant) }];
        let boards = (0..bounds.boards).map(|at| Board::new(at, log.clone())).collect();
        let mut world = Self {
            rates: bounds.rates(pattern),
            boards,
            votes: BTreeSet::new(),
            renewals: Vec::new(),
            stopped: BTreeSet::new(),
            grants: bounds.grants,
            starts: bounds.starts,
            stops: bounds.stops,
            lengthens: bounds.lengthens,
            highest: 1,
            fell: false,
        };
        for (at, board) in world.boards.iter_mut().enumerate() {
            let rows = board.rows(bounds.lease_ms);
            board.lessor.follow(NOW, &[], &rows);
            board.lessee.follow(incarnation(at, 1), &rows);
        }
        world.boards[0].copied = vec![log.len(); bounds.boards];
        world.settle(bounds);
        world
    }

    /// Do two boards do the duty at a time?
    pub(super) fn two_act(&self) -> bool {
        self.boards.iter().filter(|board| board.acting.is_some()).count() > 1
    }

    /// Do tokens fall, or is one given twice?
    pub(super) fn tokens_fall(&self, bounds: &Bounds) -> bool {
        self.fell || self.boards.iter().any(|board| board.has_fallen(bounds.lease_ms))
    }

    /// The term of the grant that a board acts under that is not the first.
    pub(super) fn heir_of_term(&self) -> Option<u64> {
        self.boards.iter().find_map(|board| {
            let token = board.acting?.claim.token;
            let of = |entry: &&Entry| match entry.what {
                What::Grant(grant) => grant.token == token,
                What::Begin | What::Lengthen => false,
            };
            board.log.iter().find(of).filter(|_| token > 1).map(|entry| entry.term)
        })
    }

    /// Forgets what makes no difference any more, so that states meet.
    fn settle(&mut self, bounds: &Bounds) {
        let (boards, grants) = (self.boards.len(), self.grants);
        for board in &mut self.boards {
            if !board.leads() {
                (board.lessor, board.copied) = (Lessor::new(), Vec::new());
            }
            if board.role != Role::Candidate {
                (board.votes, board.quiet.term, board.quiet.latest) = (0, 0, Millis(0));
            }
            // Nobody asks for its vote any more, nor will it lead.
            let is_done = board.role != Role::Candidate && board.term == bounds.terms;
            if is_done || grants == 0 {
                board.quiet.acknowledged = Millis(0);
            }
            if grants == 0 {
                board.lessor.others_until = Millis(0);
                board.lessor.renewed.clear();
                board.ended = Ended::default();
            }
            board.lessee.due = Millis(0);
            board.lessee.claims.values_mut().for_each(|asked| *asked = None);
        }
        self.votes.retain(|vote| {
            let Board { term, role, .. } = self.boards[vote.to];
            let counts = role == Role::Candidate && vote.term == term;
            // Of three boards one vote elects: no other comes between.
            counts || boards > 3 && vote.term < bounds.terms && vote.term <= term
        });
        // Nobody takes what came to one that leads no more and never will, and an answer
        // about what the holder has let go of changes nothing; it might as well be lost.
        self.renewals.retain(|renewal| {
            let Board { term, role, .. } = self.boards[renewal.to];
            let is_heard =
                role != Role::Follower || term < bounds.terms || renewal.stage == Stage::Answered;
            let known = &self.boards[renewal.from].lessee.claims;
            is_heard && renewal.claims.iter().any(|claim| known.contains_key(claim))
        });
        self.number_renewals();
    }

    fn number_renewals(&mut self) {
        self.renewals.sort_unstable();
        for (at, board) in self.boards.iter_mut().enumerate() {
            let under_way = self.renewals.iter_mut().filter(|renewal| renewal.from == at);
            let mut number = 0;
            let mut kept = VecDeque::new();
            for renewal in under_way {
                let sent = board.lessee.sent.iter().find(|(sent, ..)| *sent == renewal.number);
                number += 1;
                if let Some((_, to, when)) = sent {
                    kept.push_back((number, *to, *when));
                }
                renewal.number = number;
            }
            board.lessee.sent = kept;
            board.lessee.number = number;
        }
    }
}
