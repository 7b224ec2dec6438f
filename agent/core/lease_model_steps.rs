//! The steps of the model of leases (`lease_model`): what may happen next in one of its
//! worlds, and what that does, by the calls that the node makes of the rule.
//!
//! Every event of a board begins with `wake`, and one that may change what it holds ends
//! with `rest`, as the node's do.
//!
//! Left out: what makes no difference any more; `settle` forgets it after each step.

use alloc::{vec, vec::Vec};

use super::{
    Acting, Board, Bounds, Entry, Grant, NOW, Renewal, Role, Stage, Vote, What, World, incarnation,
};
use crate::{duty::Claim, event::Millis, mutant};

/// What can happen next. Boards and renewals are meant by their places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Step {
    /// Passes; clocks that wander gain by this pattern.
    Time(Option<u32>),
    Stand(usize),
    Vote {
        from: usize,
        to: usize,
    },
    Count(Vote),
    Reach {
        from: usize,
        to: usize,
    },
    Commit(usize),
    Grant {
        by: usize,
        to: usize,
    },
    Lengthen(usize),
    /// Where too many renewals are under way, in the place of one.
    Renew {
        from: usize,
        to: usize,
        lost: Option<usize>,
    },
    Arrive(usize),
    Answer(usize),
    Take(usize),
    Start(usize),
    Obituary {
        of: usize,
        boot: u64,
        to: usize,
    },
    GiveUp(usize),
    Stopped {
        from: usize,
        claim: Claim,
        to: usize,
    },
}

impl World {
    /// Everything that may happen; the little of it that cannot comes to nothing in `take`.
    pub(in super::super) fn steps(&self, bounds: &Bounds, steps: &mut Vec<Step>) {
        let all = || 0..self.boards.len();
        match bounds.wanders {
            true => steps.extend((0..1 << self.boards.len()).map(|rates| Step::Time(Some(rates)))),
            false => steps.push(Step::Time(None)),
        }
        steps.extend(self.votes.iter().map(|vote| Step::Count(*vote)));
        for (place, Renewal { to, stage, .. }) in self.renewals.iter().enumerate() {
            let to = &self.boards[*to];
            match stage {
                Stage::Sent if to.leads() => steps.push(Step::Arrive(place)),
                Stage::Waits(reached) if to.leads_for_sure() && self.is_majority(*reached) => {
                    steps.push(Step::Answer(place));
                }
                Stage::Answered => steps.push(Step::Take(place)),
                Stage::Sent | Stage::Waits(_) => {}
            }
        }
        for at in all() {
            let board = &self.boards[at];
            let others = all().filter(|other| bounds.links(*other, at));
            match board.role {
                Role::Follower => {}
                Role::Candidate => {
                    let voters = others.filter(|from| self.boards[*from].term < board.term);
                    steps.extend(voters.map(|from| Step::Vote { from, to: at }));
                }
                Role::Leader => {
                    let heed = others.filter(|to| self.boards[*to].term <= board.term);
                    steps.extend(heed.map(|to| Step::Reach { from: at, to }));
                    self.steps_of_leader(bounds, at, steps);
                }
            }
            if !board.leads() && board.term < bounds.terms && bounds.stands(at) {
                steps.push(Step::Stand(at));
            }
            if self.starts > 0 {
                steps.push(Step::Start(at));
            }
            if self.stops > 0 && !board.lessee.claims.is_empty() {
                steps.push(Step::GiveUp(at));
            }
        }
    }

    fn steps_of_leader(&self, bounds: &Bounds, at: usize, steps: &mut Vec<Step>) {
        let all = || 0..self.boards.len();
        if self.common(at) > self.boards[at].applied {
            steps.push(Step::Commit(at));
        }
        if self.may_grant(bounds, at) {
            steps.extend(all().map(|to| Step::Grant { by: at, to }));
        }
        if self.lengthens > 0 {
            steps.push(Step::Lengthen(at));
        }
        let is_full = self.renewals.len() == bounds.renewals;
        let lost = (0..self.renewals.len()).map(Some).filter(|_| is_full);
        for lost in lost.chain((!is_full).then_some(None)) {
            let ask = all().filter(|from| !self.boards[*from].lessee.claims.is_empty());
            steps.extend(ask.map(|from| Step::Renew { from, to: at, lost }));
        }
        for (from, claim) in self.stopped.iter().copied() {
            steps.push(Step::Stopped { from, claim, to: at });
        }
        for of in all().filter(|of| *of != at) {
            let boots = 1..self.boards[of].boot;
            steps.extend(boots.map(|boot| Step::Obituary { of, boot, to: at }));
        }
    }

    /// Takes a step, if it can be taken.
    pub(in super::super) fn take(&mut self, bounds: &Bounds, step: Step) -> bool {
        let taken = match step {
            Step::Time(pattern) => {
                let now = pattern.map(|pattern| bounds.rates(pattern));
                for (board, rate) in self.boards.iter_mut().zip(now.as_ref().unwrap_or(&self.rates))
                {
                    board.pass(*rate, bounds.lease_ms_max());
                }
                true
            }
            Step::Stand(at) => self.stand(at),
            Step::Vote { from, to } => self.vote(from, to),
            Step::Count(vote) => self.count(vote),
            Step::Reach { from, to } => self.reach(bounds, from, to),
            Step::Commit(at) => self.commit(bounds, at),
            Step::Grant { by, to } => self.grant(bounds, by, to),
            Step::Lengthen(by) => self.lengthen(by),
            Step::Renew { from, to, lost } => self.renew(bounds, from, to, lost),
            Step::Arrive(place) => self.arrive(place),
            Step::Answer(place) => self.answer(bounds, place),
            Step::Take(place) => self.take_answer(bounds, place),
            Step::Start(at) => self.start(bounds, at),
            Step::Obituary { of, boot, to } => self.obituary(of, boot, to),
            Step::GiveUp(at) => self.give_up(at),
            Step::Stopped { from, claim, to } => self.hear_stopped(bounds, from, claim, to),
        };
        if taken {
            self.settle(bounds);
        }
        taken
    }

    /// What every event begins with.
    fn wake(&mut self, at: usize) -> &mut Board {
        let board = &mut self.boards[at];
        if board.leads() {
            board.quiet.lead(NOW);
        }
        board
    }

    fn follow_term(&mut self, at: usize, term: u64) {
        let board = &mut self.boards[at];
        (board.term, board.role) = (term, Role::Follower);
        self.drop_waiting(at);
    }

    /// What waits for a leader's round ends with its leading.
    fn drop_waiting(&mut self, at: usize) {
        self.renewals
            .retain(|renewal| renewal.to != at || !matches!(renewal.stage, Stage::Waits(_)));
    }

    fn is_majority(&self, boards: u32) -> bool {
        boards.count_ones() as usize > self.boards.len() / 2
    }

    /// How much of a leader's log it knows to be with a majority, itself included, if that
    /// ends in its own term; 0 otherwise.
    fn common(&self, at: usize) -> usize {
        let Board { ref copied, ref log, term, .. } = self.boards[at];
        let mut copied = copied.clone();
        copied[at] = log.len();
        copied.sort_unstable();
        let common = copied[(copied.len() - 1) / 2];
        if common > 0 && log[common - 1].term == term { common } else { 0 }
    }

    fn may_grant(&self, bounds: &Bounds, by: usize) -> bool {
        let board = &self.boards[by];
        self.grants > 0 && board.leads_for_sure() && {
            let duty = &board.rows(bounds.lease_ms)[0];
            board.lessor.may_grant(NOW, duty, &board.ended)
        }
    }

    fn stand(&mut self, at: usize) -> bool {
        let board = self.wake(at);
        board.term += 1;
        (board.role, board.votes) = (Role::Candidate, 1 << at);
        true
    }

    /// The ask reaches a voter.
    fn vote(&mut self, from: usize, to: usize) -> bool {
        let (term, end) = (self.boards[to].term, self.boards[to].end());
        let voter = self.wake(from);
        let quiet_ms = voter.quiet.quiet_ms(NOW);
        if voter.end() <= end {
            self.votes.insert(Vote { to, from, term, quiet_ms });
        }
        self.follow_term(from, term);
        true
    }

    /// A vote arrives.
    fn count(&mut self, vote: Vote) -> bool {
        let boards = self.boards.len();
        self.votes.remove(&vote);
        let board = self.wake(vote.to);
        board.quiet.elect(NOW, vote.term, vote.quiet_ms);
        if board.role == Role::Candidate && board.term == vote.term {
            board.votes |= 1 << vote.from;
            if board.votes.count_ones() as usize > boards / 2 {
                board.role = Role::Leader;
                board.lessor.begin(&board.quiet, board.term);
                board.log.push(Entry { term: board.term, what: What::Begin });
                board.copied = vec![0; boards];
            }
        }
        true
    }

    /// A leader's log and round reach a follower, which acknowledges it.
    fn reach(&mut self, bounds: &Bounds, from: usize, to: usize) -> bool {
        let Board { term, applied, ref log, .. } = self.boards[from];
        let log = log.clone();
        let applied = applied.max(self.common(from));
        let end = log.len();
        let board = self.wake(to);
        board.quiet.acknowledge(NOW);
        board.log = log;
        self.follow_term(to, term);
        self.apply(bounds, to, applied);
        self.boards[from].copied[to] = end;
        for renewal in self.renewals.iter_mut().filter(|renewal| renewal.to == from) {
            if let Stage::Waits(reached) = &mut renewal.stage {
                *reached |= 1 << to;
            }
        }
        self.rest(bounds, to);
        true
    }

    /// A leader finds that more of its log is with a majority, and applies it.
    fn commit(&mut self, bounds: &Bounds, at: usize) -> bool {
        let upto = self.common(at);
        self.wake(at);
        self.apply(bounds, at, upto);
        self.boards[at].lessor.applied(upto as u64);
        self.rest(bounds, at);
        true
    }

    fn apply(&mut self, bounds: &Bounds, at: usize, upto: usize) {
        let board = &mut self.boards[at];
        let before = board.rows(bounds.lease_ms);
        board.applied = board.applied.max(upto);
        let rows = board.rows(bounds.lease_ms);
        if rows != before {
            board.lessor.follow(NOW, &before, &rows);
            board.lessee.follow(incarnation(at, board.boot), &rows);
        }
    }

    /// A leader proposes to grant the duty anew, and doubts at once that it comes to that.
    fn grant(&mut self, bounds: &Bounds, by: usize, to: usize) -> bool {
        let holder = incarnation(to, self.boards[to].boot);
        let board = &self.boards[by];
        if board.ended.has(holder) {
            return false;
        }
        let duty = &board.rows(bounds.lease_ms)[0];
        self.grants -= 1;
        let (claim, over, over_lease_ms) = (duty.claim(), duty.token, duty.lease_ms);
        let board = self.wake(by);
        let index = board.log.len() as u64 + 1;
        let token = if mutant::is(111) { over } else { index };
        let what = What::Grant(Grant { over, over_lease_ms, token, holder });
        board.log.push(Entry { term: board.term, what });
        board.lessor.replace(claim);
        board.lessor.doubt(claim, index);
        true
    }

    /// A leader proposes a longer lease.
    fn lengthen(&mut self, by: usize) -> bool {
        self.lengthens -= 1;
        let board = self.wake(by);
        board.log.push(Entry { term: board.term, what: What::Lengthen });
        true
    }

    /// A holder asks for another lease; one asked for before may be lost.
    fn renew(&mut self, bounds: &Bounds, from: usize, to: usize, lost: Option<usize>) -> bool {
        self.wake(from);
        self.rest(bounds, from);
        let leader = to as u64 + 1;
        let Some((number, claims)) = self.boards[from].lessee.renew(NOW, leader, 0) else {
            return false;
        };
        if let Some(place) = lost {
            self.renewals.remove(place);
        }
        self.renewals.push(Renewal { from, number, to, stage: Stage::Sent, claims });
        true
    }

    fn arrive(&mut self, place: usize) -> bool {
        let Renewal { to, ref claims, .. } = self.renewals[place];
        let claims = claims.clone();
        let board = self.wake(to);
        for claim in claims {
            board.lessor.renewed(NOW, claim);
        }
        let reached = if mutant::is(108) { u32::MAX } else { 1 << to };
        self.renewals[place].stage = Stage::Waits(reached);
        true
    }

    /// A leader finds that a majority was reached since, and answers.
    fn answer(&mut self, bounds: &Bounds, place: usize) -> bool {
        let mut renewal = self.renewals[place].clone();
        let (board, number) = (&self.boards[renewal.to], renewal.from as u64 + 1);
        let rows = board.rows(bounds.lease_ms);
        renewal.claims.retain(|claim| board.lessor.may_answer(&rows, number, *claim));
        renewal.stage = Stage::Answered;
        self.wake(renewal.to);
        match renewal.claims.is_empty() {
            true => drop(self.renewals.remove(place)),
            false => self.renewals[place] = renewal,
        }
        true
    }

    fn take_answer(&mut self, bounds: &Bounds, place: usize) -> bool {
        let Renewal { from, number, to, claims, .. } = self.renewals.remove(place);
        let board = self.wake(from);
        let rows = board.rows(bounds.lease_ms);
        board.lessee.renewed(NOW, (to as u64 + 1, number), &claims, &rows);
        self.rest(bounds, from);
        true
    }

    /// What every event ends with: leases run out, and what is held is done.
    fn rest(&mut self, bounds: &Bounds, at: usize) {
        let board = &mut self.boards[at];
        board.lessee.expire(NOW, bounds.lease_ms);
        let Some(held) = board.lessee.held(NOW).next() else { return };
        let until = if mutant::is(106) { Millis(u64::MAX) } else { held.until };
        let known = board.acting.map_or(until, |acting| acting.until.max(until));
        board.acting = Some(Acting { claim: held.claim, boot: board.boot, until: known });
        self.fell |= held.claim.token < self.highest;
        self.highest = self.highest.max(held.claim.token);
    }

    /// An agent ends and starts anew; its command runs on.
    fn start(&mut self, bounds: &Bounds, at: usize) -> bool {
        self.starts -= 1;
        self.drop_waiting(at);
        self.renewals.retain(|renewal| renewal.from != at && renewal.to != at);
        self.votes.retain(|vote| vote.to != at);
        let board = &mut self.boards[at];
        let Board { boot, term, ref log, applied, acting, .. } = *board;
        let boot = boot + 1;
        let role = Role::Follower;
        *board = Board { boot, term, role, applied, acting, ..Board::new(at, log.clone()) };
        board.lessee.follow(incarnation(at, boot), &board.rows(bounds.lease_ms));
        true
    }

    /// The parent of a start that ended has ended its command, and a leader hears so.
    fn obituary(&mut self, of: usize, boot: u64, to: usize) -> bool {
        if !mutant::is(112) {
            let acting = &mut self.boards[of].acting;
            *acting = acting.filter(|acting| acting.boot != boot);
        }
        self.wake(to).ended.note(incarnation(of, boot));
        true
    }

    fn give_up(&mut self, at: usize) -> bool {
        let Some(claim) = self.boards[at].lessee.claims.keys().next().copied() else {
            return false;
        };
        self.stops -= 1;
        let board = self.wake(at);
        if !mutant::is(113) {
            board.acting = board.acting.filter(|acting| acting.claim != claim);
        }
        board.lessee.give_up(claim);
        self.stopped.insert((at, claim));
        true
    }

    fn hear_stopped(&mut self, bounds: &Bounds, from: usize, claim: Claim, to: usize) -> bool {
        let board = self.wake(to);
        let rows = board.rows(bounds.lease_ms);
        let is_so = board.lessor.may_answer(&rows, from as u64 + 1, claim);
        if is_so {
            board.lessor.stopped(claim);
        }
        is_so
    }
}
