//! The leader's part in duties: it answers renewals, and grants what nobody holds or what
//! is to go elsewhere; `lease` has the rule.
//!
//! A grant is a write like any other, executed on top of all that is in the log and
//! bound to it: whatever it found still holds when it is applied. Nobody but the leader
//! that waited for it makes it.
//!
//! Who is granted a duty: of the boards that said lately that they are ready for it, the
//! one that is wanted, then one that keeps up with the group's timing (`trips`), then the one
//! the duty prefers, then the one that holds least, then
//! the lowest number. Who has it keeps it, unless it is wanted elsewhere, its sensor is
//! silent there, or it is to go back to whom it prefers (`fitness`), or its board is drained
//! (`drain`).

use alloc::{collections::BTreeMap, vec::Vec};

use crate::{
    duties::{Duties, Ready, Renewal},
    duty::{ANOTHER, Claim, Duty, Incarnation},
    error::Rejection,
    event::{Millis, NodeId, Request, Start},
    history,
    limits::{DUTIES_MAX, READY_TICKS, RENEWALS_WAITING_MAX},
    mutant,
    node::Node,
    wire::Frame,
    writes::{Ticket, Waiting},
};

/// Ticks between two words to a holder that a duty is to go elsewhere.
const YIELD_TICKS: u64 = 4;

impl Node {
    /// It leads now, or no longer.
    pub(crate) fn note_lessor(&mut self) {
        self.duties.confirmed.clear();
        self.duties.renewals.retain(|_| false);
        self.duties.told = (None, 0);
        self.duties.better.clear();
        self.forget_trips();
        let term = self.raw.raft.term;
        self.duties.lessor.begin(&self.duties.quiet, term);
    }

    /// A holder asks for another lease.
    pub(crate) fn on_renew(
        &mut self,
        now: Millis,
        from: NodeId,
        number: u64,
        claims: Vec<Claim>,
    ) -> Result<(), Rejection> {
        if claims.len() > DUTIES_MAX {
            return Err(Rejection::Malformed);
        }
        self.take_renewal(now, from, number, claims);
        Ok(())
    }

    pub(crate) fn take_renewal(
        &mut self,
        now: Millis,
        from: NodeId,
        number: u64,
        claims: Vec<Claim>,
    ) {
        if !self.leads() || self.duties.renewals.len() >= RENEWALS_WAITING_MAX {
            return;
        }
        for claim in &claims {
            self.duties.lessor.renewed(now, *claim);
        }
        let renewal = Renewal { from, number, claims };
        match mutant::is(108) {
            true => self.duties.confirmed.push((0, renewal)),
            false => self.duties.renewals.gather(renewal),
        }
    }

    /// A round is confirmed: the renewals that waited for it are answered once this index
    /// is applied.
    pub(crate) fn confirm_renewals(&mut self, context: &[u8], index: u64) {
        let renewals = self.duties.renewals.confirmed(context);
        self.duties.confirmed.extend(renewals.into_iter().map(|renewal| (index, renewal)));
    }

    /// Begins the next round, and answers what is confirmed.
    pub(crate) fn serve_duties(&mut self, now: Millis) {
        // Before that raft-rs drops a round without a word.
        if !self.leads() || !self.raw.raft.commit_to_current_term() {
            return;
        }
        if let Some(context) = self.duties.renewals.next(now, self.config.timing.read_retry_ms) {
            self.ask_round(now, context);
        }
        if !self.knows_duties() {
            return;
        }
        let applied = self.applier.applied().index;
        self.duties.lessor.applied(applied);
        let ripe = self.duties.confirmed.extract_if(.., |(index, _)| *index <= applied);
        for (_, renewal) in ripe.collect::<Vec<_>>() {
            self.answer_renewal(now, renewal);
        }
    }

    /// Its rows about duties are all that is committed, and right.
    fn knows_duties(&self) -> bool {
        self.leads_for_sure() && !self.applier.has_fallen_back() && !self.is_fenced()
    }

    fn answer_renewal(&mut self, now: Millis, renewal: Renewal) {
        let Renewal { from, number, mut claims } = renewal;
        let Duties { rows, lessor, .. } = &self.duties;
        claims.retain(|claim| lessor.may_answer(rows, from, *claim));
        if claims.is_empty() {
        } else if from == self.config.id {
            self.on_renewed(now, from, number, &claims);
        } else {
            self.say(now, from, &Frame::Renewed { number, claims });
        }
    }

    /// A holder acts no more under these grants.
    pub(crate) fn on_stopped(&mut self, from: NodeId, claims: &[Claim]) -> Result<(), Rejection> {
        if claims.len() > DUTIES_MAX {
            return Err(Rejection::Malformed);
        }
        if self.leads() {
            let Duties { rows, lessor, .. } = &mut self.duties;
            for claim in claims {
                if lessor.may_answer(rows, from, *claim) {
                    lessor.stopped(*claim);
                }
            }
        }
        Ok(())
    }

    /// A board has said what it is ready for.
    pub(crate) fn on_ready(
        &mut self,
        now: Millis,
        from: NodeId,
        Start { boot, nonce }: Start,
        duties: Vec<u64>,
    ) -> Result<(), Rejection> {
        if duties.len() > DUTIES_MAX {
            return Err(Rejection::Malformed);
        }
        let is_old = self.duties.ready.get(&from).is_some_and(|ready| ready.start.boot > boot);
        if !is_old {
            let start = Incarnation { board: from, boot, nonce };
            let duties = duties.into_iter().collect();
            self.duties.ready.insert(from, Ready { start, duties, at: now });
        }
        Ok(())
    }

    /// What a board said lately that it is ready for.
    pub(crate) fn said_ready(&self, now: Millis, board: NodeId) -> Option<&Ready> {
        let is_fresh =
            |ready: &&Ready| now.since(ready.at) < 3 * READY_TICKS * self.longest_tick_ms();
        self.duties.ready.get(&board).filter(is_fresh)
    }

    /// The start of `board` that is ready for this duty now.
    pub(crate) fn ready_for(&self, now: Millis, board: NodeId, duty: &Duty) -> Option<Incarnation> {
        if self.membership.is_witness(board) || self.is_drained(board) {
            return None;
        }
        if board == self.config.id {
            return self.is_ready_for(duty.id).then(|| self.incarnation());
        }
        let ready = self.said_ready(now, board)?;
        let is_here = self.hears(now, board) == Some(true);
        let has_ended = self.duties.ended.has(ready.start);
        let is_ready = is_here && !has_ended && ready.duties.contains(&duty.id);
        is_ready.then_some(ready.start)
    }

    /// Who is to hold this duty next, if anybody can.
    pub(crate) fn choose(&self, now: Millis, duty: &Duty) -> Option<Incarnation> {
        if duty.is_paused {
            return None;
        }
        let holds = |board: NodeId| {
            let is_it = |duty: &&Duty| duty.holder.is_some_and(|holder| holder.board == board);
            self.duties.rows.iter().filter(is_it).count()
        };
        let slow = self.slow_boards();
        let members = self.membership.members.iter().map(|member| member.id);
        let ready = members.filter_map(|board| {
            let holder = self.ready_for(now, board, duty)?;
            let is_wanted = match duty.wanted {
                Some(ANOTHER) => duty.holder.is_none_or(|holder| holder.board != board),
                wanted => wanted == Some(board),
            };
            let is_slow = slow.contains(&board);
            Some((!is_wanted, is_slow, duty.rank(board)?, holds(board), holder))
        });
        ready.min().map(|(.., holder)| holder)
    }

    /// Asks holders to come to an end where a duty is to go elsewhere.
    pub(crate) fn ask_to_yield(&mut self, now: Millis) {
        if !self.leads() || !self.ticks.is_multiple_of(YIELD_TICKS) {
            return;
        }
        self.judge_trips(now);
        self.look_for_better(now);
        let mut asked: BTreeMap<NodeId, Vec<Claim>> = BTreeMap::new();
        for duty in &self.duties.rows {
            if let Some(holder) = duty.holder.filter(|holder| self.is_to_yield(now, duty, *holder))
            {
                asked.entry(holder.board).or_default().push(duty.claim());
            }
        }
        for (board, claims) in asked {
            match board == self.config.id {
                true => self.on_yield(board, &claims),
                false => self.say(now, board, &Frame::Yield { claims }),
            }
        }
    }

    /// Is this duty to go elsewhere, and can it?
    pub(crate) fn is_to_yield(&self, now: Millis, duty: &Duty, holder: Incarnation) -> bool {
        let is_ready = |board: &NodeId| {
            *board != holder.board
                && duty.rank(*board).is_some()
                && self.ready_for(now, *board, duty).is_some()
        };
        let slow = self.slow_boards();
        let is_quick = |board: &NodeId| is_ready(board) && !slow.contains(board);
        let is_candidate = duty.rank(holder.board).is_some() && !self.is_drained(holder.board);
        let is_better_elsewhere = self.is_unfit(now, duty, holder) || self.is_preempted(now, duty);
        let goes_on = is_candidate && (!is_better_elsewhere || self.is_restless(now, duty));
        let is_too_slow = slow.contains(&holder.board) && !self.is_restless(now, duty);
        let mut members = self.membership.members.iter().map(|member| member.id);
        duty.is_paused
            || duty.wanted.is_some_and(|board| is_ready(&board))
            || (!goes_on || duty.wanted == Some(ANOTHER)) && members.any(|board| is_ready(&board))
            || is_too_slow && members.any(|board| is_quick(&board))
    }

    /// The next grant to make, if there is any: of which duty, and to whom.
    fn next_grant(&self, now: Millis) -> Option<(&Duty, Option<Incarnation>)> {
        let Duties { rows, lessor, ended, .. } = &self.duties;
        let due = |duty: &&Duty| lessor.may_grant(now, duty, ended);
        rows.iter().filter(due).find_map(|duty| {
            let has_stopped = lessor.has_stopped(duty) || ended.has_holder_of(duty);
            match self.choose(now, duty) {
                Some(holder) => Some((duty, Some(holder))),
                None if has_stopped || duty.is_paused && duty.holder.is_some() => {
                    Some((duty, None))
                }
                None => None,
            }
        })
    }

    /// Puts a grant that is due in front of what waits to be written, as the entry after
    /// `base`. One to an entry: no two duties ever have the same token.
    pub(crate) fn queue_grant(&mut self, now: Millis, base: u64) {
        if !self.knows_duties() {
            return;
        }
        let Some((duty, holder)) = self.next_grant(now) else { return };
        if self.writes.has_waiting_grant() && !mutant::is(110) {
            return;
        }
        let claim = duty.claim();
        let token = if mutant::is(111) { claim.token } else { base + 1 };
        let duty = duty.clone();
        let records = self.records_of(now, &duty, (token, holder));
        let of = Some(Claim { duty: duty.id, token });
        let history = history::statements(self.config.id, records, of);
        let lease_ms = self.lease_ms();
        let request = Request::Write(duty.grant((token, holder), lease_ms, history));
        let deadline = now.plus(self.config.timing.request_timeout_ms);
        self.duties.lessor.replace(claim);
        self.writes.keep(Waiting { ticket: Ticket::Grant(claim), request, deadline });
    }

    /// What became of a grant: where it comes to nothing, another may be made.
    pub(crate) fn on_granted(&mut self, claim: Claim) {
        let last_index = self.raw.raft.raft_log.last_index();
        self.duties.lessor.doubt(claim, last_index);
    }
}
