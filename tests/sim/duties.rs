//! Duties: what boards do while they hold them, and whether ever two do it at a time.
//!
//! What a board's command does is kept beside its agent: it goes on after the agent has
//! ended, or stands still, until the lease is over by the board's clock, until the agent
//! has ended it, or until the parent has, which says so then.

use std::collections::BTreeMap;

use understudy::store::database::QueryOutcome;
use understudy_core::{
    duty::{self, Claim, Incarnation},
    event::{Event, Millis, NodeId, Request},
    mutant,
    node::Node,
    sql::{self, Origin, RequestKind, SqlRequest, Statement},
};

use super::{agenda::Happening, calls, world::World};

/// Duties of the group, and how they are made: the second is for two of the boards.
const DUTIES: [u64; 2] = [1, 2];
const ADD: [&str; 2] = [
    "INSERT OR IGNORE INTO _understudy_duty VALUES (1, 'pump', 0, NULL, NULL, NULL, 0, '', 0, NULL, '')",
    "INSERT OR IGNORE INTO _understudy_duty VALUES (2, 'uplink', 0, NULL, NULL, NULL, 0, '2,1', 0, NULL, '')",
];

fn bare(sql: &str) -> Statement {
    Statement::new(sql, Vec::new())
}

/// A command that runs.
struct Acting {
    claim: Claim,
    /// Of this start of its board.
    start: Incarnation,
    /// It is gone by then, by its board's clock.
    until: Millis,
}

/// See the module's description.
#[derive(Default)]
pub(crate) struct Duties {
    acting: BTreeMap<(NodeId, u64), Acting>,
    /// The highest token that a duty was ever done under.
    highest: BTreeMap<u64, u64>,
    /// Which duty each token is of.
    tokens: BTreeMap<u64, u64>,
    /// And which board acted under it.
    takers: BTreeMap<u64, NodeId>,
    /// Starts that have ended, as their parents said.
    obituaries: Vec<Incarnation>,
}

impl World {
    /// Someone does something about duties.
    pub(crate) fn stir_duties(&mut self) {
        let pause = 150 + self.stirring.below(1_500);
        self.plan_in(pause, Happening::Stir);
        let place = self.stirring.below(self.boards.len() as u64);
        let id = self.board_at(place);
        let epoch = self.boards[&id].epoch;
        let is_still = self.boards[&id].paused_since.is_some();
        let Some(process) = self.boards[&id].process.as_ref().filter(|_| !is_still) else { return };
        if process.node.duties().is_empty() {
            return self.add_duties(id);
        }
        match self.stirring.below(10) {
            0 | 1 if !self.heals => self.kill_agent(id),
            2 | 3 => self.replay_obituary(id),
            4 | 5 if !self.heals => {
                let duty = DUTIES[usize::try_from(self.stirring.below(2)).unwrap_or(0)];
                if let Some(acting) = self.duties.acting.get(&(id, duty)) {
                    let claim = acting.claim;
                    let takes = self.stirring.below(200);
                    self.plan_in(takes, Happening::GaveUp { board: id, epoch, claim });
                }
            }
            6 if !self.heals => self.give(id, Event::Ready(Vec::new())),
            7 => self.want(id),
            _ => self.give(id, Event::Ready(DUTIES.to_vec())),
        }
    }

    pub(crate) fn add_duties(&mut self, id: NodeId) {
        self.change_duties(id, ADD.map(bare).to_vec());
    }

    fn change_duties(&mut self, id: NodeId, statements: Vec<Statement>) {
        self.requests += 1;
        let request = SqlRequest::new(RequestKind::Execute, Origin::Agent, statements);
        let request = Request::Write(sql::encode(&request));
        self.give(id, Event::Requested { id: self.requests, request });
    }

    /// All duties are to go to this board, which is told so.
    pub(crate) fn want_at(&mut self, id: NodeId) {
        self.change_duties(id, vec![bare(&format!("UPDATE _understudy_duty SET wanted = {id}"))]);
    }

    /// Who does this duty now.
    pub(crate) fn doer(&self, duty: u64) -> Option<NodeId> {
        let runs = |((board, known), acting): &(&(NodeId, u64), &Acting)| {
            *known == duty && self.boards[board].time(self.now) < acting.until
        };
        self.duties.acting.iter().find(runs).map(|((board, _), _)| *board)
    }

    /// Who did this duty so far, one after the other: a board that was followed by itself
    /// is there once.
    pub(crate) fn doers(&self, duty: u64) -> Vec<NodeId> {
        let is_of = |token: &u64| self.duties.tokens.get(token) == Some(&duty);
        let takers = self.duties.takers.iter().filter(|(token, _)| is_of(token));
        let mut boards: Vec<NodeId> = takers.map(|(_, board)| *board).collect();
        boards.dedup();
        boards
    }

    /// A person wants a duty to go to some board, or nobody to do it for now.
    fn want(&mut self, id: NodeId) {
        let wanted = self.stirring.below(self.boards.len() as u64) + 1;
        let is_paused = !self.heals && self.stirring.chance(300);
        if self.stirring.chance(100) {
            let lease_ms = 1_200 + self.stirring.below(1_200);
            return self.change_duties(id, vec![duty::lengthen(lease_ms)]);
        }
        let paused = u8::from(is_paused);
        let sql = format!("UPDATE _understudy_duty SET wanted = {wanted}, paused = {paused}");
        self.change_duties(id, vec![bare(&sql)]);
    }

    /// The agent is killed; its files are as they were, and its parent lives.
    fn kill_agent(&mut self, id: NodeId) {
        self.tell(|| format!("board {id}: its agent is killed"));
        self.board(id).end();
        self.forget(id);
        self.mourn(id);
        let pause = 200 + self.stirring.below(3_000);
        self.plan_in(pause, Happening::PowerOn { board: id });
    }

    /// An agent has ended: with its board, or its parent ends what it ran and says so.
    pub(crate) fn mourn(&mut self, id: NodeId) {
        let Some(start) = self.boards[&id].incarnation else { return };
        if self.boards[&id].disk.borrow().is_off {
            self.duties.acting.retain(|(board, _), _| *board != id);
        } else {
            let takes = self.stirring.below(100);
            self.plan_in(takes, Happening::Obituary { start });
        }
    }

    pub(crate) fn say_obituary(&mut self, start: Incarnation) {
        if !mutant::is(112) {
            self.duties.acting.retain(|_, acting| acting.start != start);
        }
        self.duties.obituaries.push(start);
        if self.plan.roads.is_sealed {
            return self.send_obituary(start);
        }
        for to in self.boards.keys().copied().filter(|id| *id != start.board).collect::<Vec<_>>() {
            let is_lost = self.cut.contains(&(start.board, to)) || self.stirring.chance(200);
            if !is_lost {
                let delay = self.stirring.below(50);
                self.plan_in(delay, Happening::Ended { to, start });
            }
        }
    }

    /// An obituary that was said comes once more, perhaps long after.
    fn replay_obituary(&mut self, to: NodeId) {
        let count = self.duties.obituaries.len() as u64;
        let place = usize::try_from(self.stirring.below(count.max(1))).unwrap_or(0);
        if let Some(start) = self.duties.obituaries.get(place).copied() {
            self.give(to, Event::Ended(start));
        }
    }

    /// A command is gone, and its agent knows it.
    pub(crate) fn gave_up(&mut self, id: NodeId, epoch: u64, claim: Claim) {
        if self.boards[&id].epoch != epoch || self.boards[&id].paused_since.is_some() {
            return;
        }
        if !mutant::is(113) {
            let acting = &mut self.duties.acting;
            acting.retain(|(board, _), acting| *board != id || acting.claim != claim);
        }
        self.give(id, Event::GaveUp(claim));
    }

    /// What a board holds has changed, or not.
    pub(crate) fn look_at_duties(&mut self, id: NodeId) {
        let now = self.now;
        let board = &self.boards[&id];
        let (time, epoch) = (board.time(now), board.epoch);
        let (Some(process), Some(start)) = (&board.process, board.incarnation) else { return };
        let held: Vec<_> = process.node.held_duties(time).collect();
        let yields = |claim: &Claim| process.node.yields(*claim);
        let asked: Vec<_> = held.iter().map(|held| held.claim).filter(yields).collect();
        for held in &held {
            self.act(id, start, held.claim, held.until);
        }
        let is_lost = |((board, _), acting): &(&(NodeId, u64), &Acting)| {
            let is_held = held.iter().any(|held| held.claim == acting.claim);
            *board == id && acting.start == start && !is_held
        };
        let lost: Vec<_> = self.duties.acting.iter().filter(is_lost).collect();
        let lost: Vec<_> = lost.into_iter().map(|(key, acting)| (*key, acting.claim)).collect();
        for claim in asked {
            let takes = self.stirring.below(60);
            self.plan_in(takes, Happening::GaveUp { board: id, epoch, claim });
        }
        for (key, claim) in lost {
            if let Some(acting) = self.duties.acting.get_mut(&key) {
                acting.until = acting.until.min(time.plus(40));
            }
            let takes = 40 + self.stirring.below(100);
            self.plan_in(takes, Happening::GaveUp { board: id, epoch, claim });
        }
    }

    /// A board's command runs: no other's may.
    fn act(&mut self, id: NodeId, start: Incarnation, claim: Claim, until: Millis) {
        let now = self.now;
        let runs = |((board, duty), acting): &(&(NodeId, u64), &Acting)| {
            let is_other = *duty == claim.duty && *board != id;
            is_other && self.boards[board].time(now) < acting.until
        };
        if let Some(((other, _), acting)) = self.duties.acting.iter().find(runs) {
            let what = format!("boards {other} ({}) and {id} ({claim:?})", acting.claim.token);
            return self.check.fail(format!("{what} do one duty at a time"));
        }
        let duty = *self.duties.tokens.entry(claim.token).or_insert(claim.duty);
        if duty != claim.duty {
            return self.check.fail(format!("duties {duty} and {} have one token", claim.duty));
        }
        self.duties.takers.insert(claim.token, id);
        let highest = self.duties.highest.entry(claim.duty).or_default();
        if claim.token < *highest {
            let what = format!("board {id} acts under token {}, after {highest}", claim.token);
            return self.check.fail(what);
        }
        let until = if mutant::is(106) { Millis(u64::MAX) } else { until };
        self.outcome.taken += u64::from(claim.token > *highest);
        *highest = claim.token;
        let known = self.duties.acting.insert((id, claim.duty), Acting { claim, start, until });
        if known.is_none_or(|known| known.claim != claim) {
            self.tell(|| format!("board {id} takes {claim:?}"));
        }
    }

    /// Every board can do all duties.
    pub(crate) fn make_all_ready(&mut self) {
        for id in self.boards.keys().copied().collect::<Vec<_>>() {
            self.give(id, Event::Ready(DUTIES.to_vec()));
        }
    }

    /// In the end every grant that was acted under is in the history of every board.
    pub(crate) fn look_at_history(&mut self, id: NodeId) {
        let sql =
            calls::sql_of(&["SELECT token, board FROM _understudy_history WHERE kind = 'take'"]);
        let process = self.board(id).process.as_mut();
        let answer = process.map(|process| process.database.query(&sql));
        let Some(Ok(QueryOutcome::Answered(answer))) = answer else { return };
        let known = calls::pairs(&answer);
        let missed = |(token, board): &(&u64, &NodeId)| known.get(token) != Some(board);
        if let Some((token, board)) = self.duties.takers.iter().find(missed) {
            let what = format!("board {id} knows nothing of grant {token} to board {board}");
            self.check.fail(what);
        }
    }

    /// In the end somebody does each duty that some board of the group can do.
    pub(crate) fn look_for_holders(&mut self, members: &[NodeId]) {
        let now = self.now;
        let leader = members.iter().filter_map(|id| self.boards[id].process.as_ref());
        let Some(leader) = leader.map(|process| &process.node).find(|node| node.leads()) else {
            return;
        };
        let is_able = |id: &NodeId| {
            let status = |node: &Node| node.status(self.boards[id].time(now));
            let node = self.boards[id].process.as_ref().map(|process| &process.node);
            let status = node.filter(|node| !node.is_witness()).map(status);
            status.is_some_and(|status| !status.disk_lost && !status.confirming_disk)
        };
        for duty in leader.duties() {
            let runs = |((board, known), acting): &(&(NodeId, u64), &Acting)| {
                *known == duty.id && self.boards[board].time(now) < acting.until
            };
            let is_wanted = members.iter().any(|id| duty.rank(*id).is_some() && is_able(id));
            let is_wanted = is_wanted && !duty.is_paused;
            if is_wanted && !self.duties.acting.iter().any(|acting| runs(&acting)) {
                return self.check.fail(format!("nobody does {duty:?} in the end"));
            }
        }
    }
}
