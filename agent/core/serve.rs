//! Callers: what becomes of a request on this board, whether it leads or not.

use alloc::vec::Vec;

use raft::StateRole;

use crate::{
    change::Change,
    error::Refusal,
    event::{Effect, Executed, Millis, NodeId, Position, ReadLevel, Reply, Request, RequestId},
    forward::Arrival,
    limits, mutant,
    node::Node,
    readings::Work,
    reads::Read,
    sql::{self, Origin, RequestKind, SqlRequest},
    wire::{Forward, Frame, Session},
    writes::{Answer, Answered, Ticket, Waiting},
};

/// An answer that waits a little: what its caller reads next here is to show what it
/// says.
pub(crate) struct Owed {
    /// The database is given this entry before it is answered.
    index: u64,
    answered: Answered,
    /// It is given then at the latest; it is true in any case.
    pub(crate) deadline: Millis,
}

impl Node {
    /// A caller on this board asks.
    pub(crate) fn on_request(&mut self, now: Millis, id: RequestId, request: Request) {
        let deadline = now.plus(self.config.timing.request_timeout_ms);
        if !is_of_this_board(&request) && (self.is_removed() || self.standing.is_lost()) {
            return self.reply(id, Reply::Refused(Refusal::TakesNoPart));
        }
        match request {
            Request::Read { level, sql } => {
                let is_own = matches!(level, ReadLevel::Own | ReadLevel::OwnLinearizable);
                let read = Read { id, sql, deadline, freshness_ms: None, is_own };
                if self.is_witness() && !is_own {
                    let refusal = self.refusal_of_witness();
                    self.reply(id, Reply::Refused(refusal));
                } else if self.refuses(&read) {
                    self.reply(id, Reply::Refused(Refusal::Fenced));
                } else {
                    self.on_read(now, level, read);
                }
            }
            Request::Readings(arrivals) => self.on_arrivals(now, id, arrivals),
            Request::Write(_)
            | Request::Admit(_)
            | Request::Rename { .. }
            | Request::Scrub
            | Request::Repair { .. }
            | Request::Member(_) => match self.scrub_request(request) {
                Ok(request) => {
                    self.wait(now, Waiting { ticket: Ticket::Local(id), request, deadline });
                }
                Err(refusal) => self.reply(id, Reply::Refused(refusal)),
            },
        }
    }

    pub(crate) fn wait(&mut self, now: Millis, waiting: Waiting) {
        if let Err((ticket, refusal)) = self.writes.push(waiting) {
            self.answer(now, (ticket, Reply::Refused(refusal)));
        }
    }

    fn on_read(&mut self, now: Millis, level: ReadLevel, read: Read) {
        let taken = match level {
            ReadLevel::None { freshness_ms } => self.reads.at(0, Read { freshness_ms, ..read }),
            ReadLevel::Own => self.reads.at(0, read),
            ReadLevel::Weak if self.leads_for_sure() => self.reads.at(0, read),
            ReadLevel::Linearizable { .. } if mutant::is(11) => self.reads.at(0, read),
            ReadLevel::Linearizable { timeout_ms: Some(ms) } => {
                self.reads.gather(Read { deadline: now.plus(ms), ..read })
            }
            ReadLevel::Weak
            | ReadLevel::Linearizable { timeout_ms: None }
            | ReadLevel::OwnLinearizable => self.reads.gather(read),
            ReadLevel::Strong => {
                let Read { id, sql, deadline, .. } = read;
                let ticket = Ticket::Barrier { id, sql };
                self.wait(now, Waiting { ticket, request: Request::Write(barrier()), deadline });
                return;
            }
        };
        if let Err(id) = taken {
            self.reply(id, Reply::Refused(Refusal::Busy));
        }
    }

    /// What a fenced board holds is not what the group holds.
    fn refuses(&self, read: &Read) -> bool {
        self.is_fenced() && !read.is_own && !mutant::is(18)
    }

    /// Leads, and has applied its own first entry: nothing older is missing.
    pub(crate) fn leads_for_sure(&self) -> bool {
        self.leads() && self.applier.applied().term == self.raw.raft.term
    }

    pub(crate) fn reply(&mut self, id: RequestId, reply: Reply) {
        self.effects.push(Effect::Reply { id, reply });
    }

    /// Gives an answer to whoever waits for it.
    pub(crate) fn answer(&mut self, now: Millis, (ticket, reply): Answered) {
        match ticket {
            Ticket::Local(id) => self.reply(id, reply),
            Ticket::Remote { node, session, sequence } => {
                self.inbox.answer(node, session, sequence, &reply);
                self.say(now, node, &Frame::Answer { session, sequence, reply });
                self.answered.insert(node);
            }
            Ticket::Barrier { id, sql } => self.pass_barrier(now, id, sql, reply),
            Ticket::Grant(claim) => self.on_granted(claim),
            Ticket::Scrub => self.on_scrub_answer(now, &reply),
            Ticket::Readings(flight) => self.on_verdict(now, flight, reply),
            Ticket::Begin => self.on_begun(now, &reply),
        }
    }

    pub(crate) fn answer_all(&mut self, now: Millis, answered: Vec<Answered>) {
        for answered in answered {
            self.answer(now, answered);
        }
    }

    /// Answers once the database has been given the entry.
    fn owe(&mut self, now: Millis, owed: Owed) {
        let is_full = self.owed.len() >= limits::REQUESTS_WAITING_MAX;
        if owed.index <= self.applier.handed_index() || is_full {
            self.answer(now, owed.answered);
        } else {
            self.owed.push(owed);
        }
    }

    /// Gives those answers for which it is time.
    pub(crate) fn pay(&mut self, now: Millis, is_due: impl Fn(&Owed) -> bool) {
        let due: Vec<_> = self.owed.extract_if(.., |owed| is_due(owed)).collect();
        self.answer_all(now, due.into_iter().map(|owed| owed.answered).collect());
    }

    fn pass_barrier(&mut self, now: Millis, id: RequestId, sql: Vec<u8>, reply: Reply) {
        match reply {
            Reply::Done { index, .. } => {
                let deadline = now.plus(self.config.timing.request_timeout_ms);
                let read = Read { id, sql, deadline, freshness_ms: None, is_own: false };
                if let Err(id) = self.reads.at(index, read) {
                    self.reply(id, Reply::Refused(Refusal::Busy));
                }
            }
            // The barrier's fate may be unknown; a read changed nothing for sure.
            Reply::Refused(Refusal::OutcomeUnknown | Refusal::LeadershipLost) => {
                let refusal = self.unanswered();
                self.reply(id, Reply::Refused(refusal));
            }
            Reply::Refused(_) => self.reply(id, reply),
        }
    }

    /// Starts whatever can be started for those who wait.
    pub(crate) fn serve(&mut self, now: Millis) {
        let handed = self.applier.handed_index();
        self.pay(now, |owed| owed.index <= handed);
        self.serve_reads(now);
        self.serve_readings(now);
        self.serve_duties(now);
        if self.leads() {
            match self.hindrance() {
                Some(refusal) => self.refuse_waiting(now, &refusal),
                None if self.is_witness() && !mutant::is(51) => {
                    self.refuse_waiting(now, &Refusal::NoLeader);
                }
                None => self.serve_writes(now),
            }
        } else {
            self.forward_waiting(now);
        }
    }

    fn refuse_waiting(&mut self, now: Millis, refusal: &Refusal) {
        let answered = self.writes.refuse_waiting(refusal);
        self.answer_all(now, answered);
    }

    fn serve_reads(&mut self, now: Millis) {
        if self.leader().is_none() {
            self.reads.rounds.abandon();
        } else if let Some(context) = self.reads.rounds.next(now, self.config.timing.read_retry_ms)
        {
            self.ask_round(now, context);
        }
        if self.applier.has_fallen_back() {
            // No caller may see the database go backwards.
            return;
        }
        let applied = self.applier.applied();
        while let Some(read) = self.reads.next_query(applied.index) {
            if self.refuses(&read) {
                self.reply(read.id, Reply::Refused(Refusal::Fenced));
                continue;
            }
            if read.freshness_ms.is_some_and(|bound| !self.is_fresh(now, bound)) {
                self.reply(read.id, Reply::Refused(Refusal::Stale));
                continue;
            }
            let number = self.number();
            let sql = read.sql.clone();
            self.reads.querying(number, read, applied.index);
            self.effects.push(Effect::Query { number, resets: self.resets, sql });
        }
    }

    /// The database has answered a read.
    pub(crate) fn on_queried(&mut self, number: u64, answer: Vec<u8>) {
        if let Some((read, reply)) = self.reads.queried(number, answer) {
            // What was read may be what a scrub has found wrong meanwhile.
            let refused = self.refuses(&read).then_some(Reply::Refused(Refusal::Fenced));
            self.reply(read.id, refused.unwrap_or(reply));
        }
    }

    /// The database fell back: what was under way on it starts again.
    pub(crate) fn on_reset(
        &mut self,
        now: Millis,
        applied: Position,
        ended_by: Option<(u32, Vec<u8>)>,
    ) {
        self.resets += 1;
        self.save_settings_again();
        if self.resets_applier(now) {
            self.applier.reset(applied);
        }
        self.reads.reset();
        if let Some((ticket, answer)) = self.writes.reset(ended_by) {
            let index = self.applier.fell_from();
            let answered = (ticket, Reply::Done { index, answer });
            let deadline = now.plus(self.config.timing.request_timeout_ms);
            self.owe(now, Owed { index, answered, deadline });
        }
        if !self.leads() {
            self.turn_away(now);
        }
    }

    /// What came from other boards waits here in vain: this node leads no longer.
    pub(crate) fn turn_away(&mut self, now: Millis) {
        let answered = self.writes.turn_away();
        self.answer_all(now, answered);
    }

    /// What is executed on wrong rows would be wrong on all boards.
    fn may_execute(&self) -> bool {
        !self.is_fenced() || mutant::is(17)
    }

    /// One thing at a time: a batch, or a membership change, on top of all that
    /// is in the log, once this leader's own first entry is applied.
    fn serve_writes(&mut self, now: Millis) {
        let last_index = self.raw.raft.raft_log.last_index();
        let ready = self.writes.is_free()
            && self.leads_for_sure()
            && self.raw.raft.lead_transferee.is_none()
            && self.may_execute()
            && !self.waits_for_tail(now);
        let base = self.applier.base().filter(|base| ready && base.index == last_index);
        let Some(base) = base else { return };
        self.refuse_one_copy(now);
        self.queue_grant(now, base.index);
        if self.tend_membership(now) || !self.writes.has_waiting() {
            return;
        }
        let batch = self.writes.gather();
        if batch.is_empty() {
            if self.applier.is_idle()
                && let Some(waiting) = self.writes.pop()
            {
                self.propose_membership(now, waiting);
            }
            return;
        }
        let requests = batch.iter().filter_map(|waiting| match &waiting.request {
            Request::Write(sql) => Some(sql.clone()),
            Request::Read { .. }
            | Request::Admit(_)
            | Request::Rename { .. }
            | Request::Scrub
            | Request::Repair { .. }
            | Request::Member(_)
            | Request::Readings(_) => None,
        });
        let requests: Vec<_> = requests.collect();
        let number = self.number();
        self.writes.executing(number, batch);
        self.effects.push(Effect::Execute { number, resets: self.resets, base, requests });
    }

    /// The batch was executed: propose it, if this node still leads where it did.
    pub(crate) fn on_executed(&mut self, now: Millis, number: u64, executed: Executed) {
        let Some((change, batch)) = self.writes.executed(number, executed) else { return };
        if !self.leads() {
            self.turn_away(now);
        }
        // A held leader would not give itself what it proposes, and answer it.
        if !self.may_execute() || self.database_held {
            self.give_back(now, batch.into_iter().map(|(waiting, _)| waiting).collect());
            return;
        }
        // What readings come to is known from what is applied, where they change nothing.
        let is_known = |(waiting, answer): &(Waiting, Answer)| {
            let Request::Write(request) = &waiting.request else { return answer.is_err() };
            answer.is_err() || (Change::is_empty(&change) && Work::is_work(request))
        };
        if batch.iter().all(is_known) {
            let index = self.applier.applied().index;
            for (waiting, answer) in batch {
                self.answer(now, (waiting.ticket, reply_at(index, answer)));
            }
            return;
        }
        match self.propose(|raw| raw.propose(Vec::new(), change)) {
            Some(at) => {
                let answers = batch.into_iter().map(|(waiting, answer)| (waiting.ticket, answer));
                self.proposed(now, at, answers.collect());
            }
            None => self.give_back(now, batch.into_iter().map(|(waiting, _)| waiting).collect()),
        }
    }

    pub(crate) fn give_back(&mut self, now: Millis, batch: Vec<Waiting>) {
        let answered = self.writes.give_back(batch);
        self.answer_all(now, answered);
    }

    pub(crate) fn proposed(&mut self, now: Millis, at: Position, answers: Vec<(Ticket, Answer)>) {
        if mutant::is(4) {
            for (ticket, answer) in answers {
                self.answer(now, (ticket, reply_at(at.index, answer)));
            }
            return;
        }
        let deadline = now.plus(self.config.timing.request_timeout_ms);
        self.writes.proposed(at, answers, deadline);
    }

    /// Proposes on top of what is applied; `None` when this node no longer leads
    /// there, or raft-rs does not take it now.
    pub(crate) fn propose(
        &mut self,
        what: impl FnOnce(&mut raft::RawNode<crate::log::Log>) -> raft::Result<()>,
    ) -> Option<Position> {
        let base = self.applier.applied();
        let raft = &self.raw.raft;
        let stands = raft.term == base.term && raft.raft_log.last_index() == base.index;
        let may = raft.state == StateRole::Leader && (stands || mutant::is(7));
        if !may || what(&mut self.raw).is_err() {
            return None;
        }
        let index = self.raw.raft.raft_log.last_index();
        assert!(index == base.index + 1 || mutant::is(7), "one entry was proposed");
        Some(Position { term: self.raw.raft.term, index })
    }

    /// Is there a leader, and was it heard a moment ago, unless it is this node?
    pub(crate) fn hears_leader(&self, now: Millis) -> bool {
        let silent_ms = self.config.timing.leader_silent_ms();
        self.leader().is_some_and(|leader| {
            leader == self.config.id || self.heard_within(now, leader, silent_ms)
        })
    }

    /// Hands waiting requests to the leader, if one is known and not silent: what
    /// a dying leader never gets has a definite outcome at the next one.
    fn forward_waiting(&mut self, now: Millis) {
        let other = |leader: &NodeId| *leader != self.config.id;
        let Some(leader) = self.leader().filter(other) else { return };
        if !self.hears_leader(now) {
            return;
        }
        let term = self.raw.raft.term;
        while self.outbox.has_room() {
            let Some(Waiting { ticket, request, deadline }) = self.writes.pop() else { return };
            let frame = self.outbox.send(now, (leader, term), ticket, request, deadline);
            self.say(now, leader, &frame);
        }
    }

    /// Another board's request arrives.
    pub(crate) fn on_forward(&mut self, now: Millis, from: NodeId, forward: Forward) {
        let never_comes = |request: &Request| {
            matches!(
                request,
                Request::Read { .. }
                    | Request::Scrub
                    | Request::Repair { .. }
                    | Request::Readings(_)
            )
        };
        if !self.leads() || never_comes(&forward.request) {
            return;
        }
        let (session, sequence) = (forward.session, forward.sequence);
        match self.inbox.arrived(from, self.raw.raft.term, forward) {
            Arrival::Ignored => {}
            Arrival::Copied if self.is_copied(from) => self.remind_copy(now, from),
            Arrival::Copied => self.condemn(now, from),
            Arrival::Again(reply) => {
                self.say(now, from, &Frame::Answer { session, sequence, reply })
            }
            Arrival::New(request) => {
                let deadline = now.plus(self.config.timing.request_timeout_ms);
                let ticket = Ticket::Remote { node: from, session, sequence };
                self.wait(now, Waiting { ticket, request, deadline });
            }
        }
    }

    /// The leader has answered a request of this board. "Nothing was changed
    /// because I lead no longer" sends it on to the next leader.
    pub(crate) fn on_answer(
        &mut self,
        now: Millis,
        from: NodeId,
        (session, sequence): (Session, u64),
        reply: Reply,
    ) {
        let Some(returned) = self.outbox.answered(from, session, sequence, reply) else { return };
        let lost = returned.reply == Reply::Refused(Refusal::LeadershipLost);
        if lost && returned.deadline > now {
            let (ticket, request, deadline) =
                (returned.ticket, returned.request, returned.deadline);
            self.wait(now, Waiting { ticket, request, deadline });
            return;
        }
        let index = match (&returned.ticket, &returned.reply) {
            (Ticket::Local(_), Reply::Done { index, .. }) if !self.database_held => *index,
            _ => 0,
        };
        let answered = (returned.ticket, returned.reply);
        let deadline = returned.deadline.min(now.plus(self.config.timing.forward_retry_ms));
        self.owe(now, Owed { index, answered, deadline });
    }
}

fn reply_at(index: u64, answer: Answer) -> Reply {
    match answer {
        Ok(answer) => Reply::Done { index, answer },
        Err(refusal) => Reply::Refused(refusal),
    }
}

/// A request that changes nothing: the entry a strong read waits for.
fn barrier() -> Vec<u8> {
    sql::encode(&SqlRequest::new(RequestKind::Execute, Origin::Agent, Vec::new()))
}

/// Can it be answered without the others, from what this board has?
const fn is_of_this_board(request: &Request) -> bool {
    matches!(request, Request::Read { level: ReadLevel::None { .. } | ReadLevel::Own, .. })
}
