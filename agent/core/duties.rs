//! What a node knows of the group's duties, and what it notes for the rule of leases
//! (`lease`) whatever its role: the rows, whom it acknowledged when, and who has ended.
//!
//! The leader's part is in `granting`, a holder's in `holding`.

use alloc::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    string::String,
    vec::Vec,
};

use crate::{
    drain::Drain,
    duty::{Claim, Duty, Incarnation},
    event::{Millis, NodeId},
    lease::{Ended, Lessee, Lessor, Quiet},
    node::Node,
    rounds::Rounds,
    trips::Trips,
    wire::RaftFrame,
};

/// The first number of the rounds that confirm renewals: those of reads are below.
const ROUNDS_FROM: u64 = 1 << 63;

/// A renewal on its way through a round.
pub(crate) struct Renewal {
    pub(crate) from: NodeId,
    pub(crate) number: u64,
    pub(crate) claims: Vec<Claim>,
}

/// The boards that a duty was granted to of late, the last at the end, and when.
type Moves = VecDeque<(Millis, NodeId)>;

/// What a board said it is ready for.
pub(crate) struct Ready {
    pub(crate) start: Incarnation,
    pub(crate) duties: BTreeSet<u64>,
    pub(crate) at: Millis,
}

/// See the module's description.
pub(crate) struct Duties {
    pub(crate) rows: Vec<Duty>,
    pub(crate) quiet: Quiet,
    pub(crate) lessor: Lessor,
    pub(crate) lessee: Lessee,
    pub(crate) renewals: Rounds<Renewal>,
    /// Renewals that are confirmed, and what is to be applied before they are answered.
    pub(crate) confirmed: Vec<(u64, Renewal)>,
    /// Duties this board is ready for, but for those whose sensor is silent here.
    pub(crate) own_ready: BTreeSet<u64>,
    pub(crate) unfit: BTreeSet<u64>,
    /// When a sensor was heard last that a duty wants.
    pub(crate) sensors: BTreeMap<String, Millis>,
    pub(crate) moves: BTreeMap<u64, Moves>,
    pub(crate) trips: Trips,
    pub(crate) drain: Drain,
    /// Duties for which a better board than the holder is ready, and since when.
    pub(crate) better: BTreeMap<u64, Millis>,
    pub(crate) ready: BTreeMap<NodeId, Ready>,
    /// The leader that was told what this board is ready for, and at which tick.
    pub(crate) told: (Option<NodeId>, u64),
    pub(crate) ended: Ended,
    /// Grants under which this board is asked to come to an end.
    pub(crate) yields: BTreeSet<Claim>,
    /// Why this leader granted each the last time, and under which token.
    pub(crate) reasons: BTreeMap<u64, (u64, String)>,
    pub(crate) changes: u64,
    /// When it last looked.
    seen: Millis,
}

impl Duties {
    pub(crate) fn new(now: Millis, node: NodeId, boot: u64, rows: Vec<Duty>) -> Self {
        Self {
            rows,
            quiet: Quiet::new(now),
            lessor: Lessor::new(),
            lessee: Lessee::new(),
            renewals: Rounds::new(node, boot, ROUNDS_FROM),
            confirmed: Vec::new(),
            own_ready: BTreeSet::new(),
            unfit: BTreeSet::new(),
            sensors: BTreeMap::new(),
            moves: BTreeMap::new(),
            trips: Trips::default(),
            drain: Drain::default(),
            better: BTreeMap::new(),
            ready: BTreeMap::new(),
            told: (None, 0),
            ended: Ended::default(),
            yields: BTreeSet::new(),
            reasons: BTreeMap::new(),
            changes: 0,
            seen: now,
        }
    }

    /// A board has left the group.
    pub(crate) fn forget(&mut self, board: NodeId) {
        self.ready.remove(&board);
        self.ended.forget(board);
        self.trips.forget(board);
    }
}

impl Node {
    /// The group's duties, as of what is applied.
    #[must_use]
    pub fn duties(&self) -> &[Duty] {
        &self.duties.rows
    }

    /// Rises with everything that [`Node::duties`] and [`Node::held_duties`] show anew.
    #[must_use]
    pub const fn duty_changes(&self) -> u64 {
        self.duties.changes
    }

    /// The rows about duties are these.
    pub(crate) fn on_duties(&mut self, now: Millis, rows: Vec<Duty>) {
        let own = self.incarnation();
        self.tell_new_holders(&rows);
        self.duties.lessor.follow(now, &self.duties.rows, &rows);
        self.duties.lessee.follow(own, &rows);
        self.note_moves(now, &rows);
        self.duties.yields.retain(|claim| rows.iter().any(|duty| duty.claim() == *claim));
        self.duties.reasons.retain(|id, _| rows.iter().any(|duty| duty.id == *id));
        self.duties.rows = rows;
        self.forget_sensors();
        self.look_at_sensors(now);
        self.duties.changes += 1;
    }

    /// Whoever was granted a duty just now need not wait for the next tick to hear so.
    fn tell_new_holders(&mut self, rows: &[Duty]) {
        if !self.leads() {
            return;
        }
        let known = &self.duties.rows;
        let is_new = |duty: &&Duty| known.iter().all(|known| known.claim() != duty.claim());
        let holders = rows.iter().filter(is_new).filter_map(|duty| duty.holder);
        let others = holders.map(|holder| holder.board).filter(|board| *board != self.config.id);
        self.answered.extend(others);
    }

    /// Proof came that the agent of this start has ended. If it led, nobody waits for it
    /// any longer.
    pub(crate) fn on_fell(&mut self, now: Millis, start: Incarnation) {
        self.note_fallen(start);
        let is_last = self.memories.of(start.board).start.boot <= start.boot;
        if is_last && self.leader() == Some(start.board) && !self.leads() {
            self.miss_leader(now, start.board);
        }
    }

    /// Proof came that this start has ended, and all that it ran.
    pub(crate) fn on_ended(&mut self, start: Incarnation) {
        if self.membership.member(start.board).is_some() {
            self.duties.ended.note(start);
        }
    }

    /// One that leads acknowledges itself all the time.
    pub(crate) fn note_leading(&mut self, now: Millis) {
        if self.leads() {
            self.duties.quiet.lead(now);
        }
    }

    /// A leader is acknowledged, or a vote has come.
    pub(crate) fn note_quiet(&mut self, now: Millis, frame: &RaftFrame) {
        match frame {
            RaftFrame::Append { .. } | RaftFrame::Heartbeat { .. } | RaftFrame::Snapshot { .. } => {
                self.duties.quiet.acknowledge(now);
            }
            RaftFrame::VoteAnswer { pre: false, refused: false, term, quiet_ms, .. } => {
                self.duties.quiet.elect(now, *term, *quiet_ms);
            }
            RaftFrame::VoteAnswer { .. }
            | RaftFrame::AppendAnswer { .. }
            | RaftFrame::HeartbeatAnswer { .. }
            | RaftFrame::VoteAsk { .. }
            | RaftFrame::TimeoutNow { .. }
            | RaftFrame::ReadAsk { .. }
            | RaftFrame::ReadAnswer { .. } => {}
        }
    }

    /// Whatever time brings: leases run out, renewals are due, and so is the word on what
    /// this board is ready for.
    pub(crate) fn tend_duties(&mut self, now: Millis) {
        self.duties.seen = now;
        if self.duties.rows.is_empty() {
            return;
        }
        let lease_ms = self.lease_ms();
        let goes_on = self.duties.lessee.go_on(now, lease_ms);
        if self.duties.lessee.expire(now, lease_ms) || goes_on {
            self.duties.changes += 1;
        }
        self.look_at_sensors(now);
        self.tend_trips(now);
        self.say_ready(now);
        self.renew(now);
    }

    /// When something is to be done about duties.
    pub(crate) fn duties_deadline(&self) -> Option<Millis> {
        let Duties { rows, lessor, lessee, renewals, seen, .. } = &self.duties;
        let grants = rows.iter().filter(|duty| self.leads() && !lessor.replaces(duty.claim()));
        let grants = grants.map(|duty| lessor.over_at(duty));
        let rounds = renewals.deadline(self.config.timing.read_retry_ms);
        let all = grants.chain(lessee.deadlines()).chain(rounds);
        // What is due and still to be done waits for something else than time.
        all.filter(|at| at > seen).min()
    }
}
