//! The write path: callers' requests gather while one batch is in flight, and
//! go together into the next entry. Group commit without a timer.
//!
//! One slot: a batch, or a membership change, and nothing beside it, so that a
//! batch always stands on the entry right before it. A batch is answered when
//! its index is committed and on its way into the database, a membership change
//! when it is applied, in whatever term that happens: as ours means done, as
//! another's means nothing was changed. What a state from another board has passed
//! over is not known.

use alloc::{collections::VecDeque, vec::Vec};

use crate::{
    duty::Claim,
    error::Refusal,
    event::{Executed, Millis, NodeId, Outcome, Position, Reply, Request, RequestId},
    limits::{
        BATCH_BYTES_MAX, BATCH_REQUESTS_MAX, REQUEST_BYTES_MAX, REQUESTS_WAITING_BYTES_MAX,
        REQUESTS_WAITING_MAX,
    },
    wire::Session,
};

/// Whose request it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ticket {
    /// A caller's on this board.
    Local(RequestId),
    /// A caller's on another board.
    Remote { node: NodeId, session: Session, sequence: u64 },
    /// The entry a strong read waits for.
    Barrier { id: RequestId, sql: Vec<u8> },
    /// This board's own, about scrubs.
    Scrub,
    /// A duty is granted anew in place of this grant: by this leader or by none.
    Grant(Claim),
    /// A batch of this board's readings.
    Readings(u64),
    /// This start of this board begins to send readings.
    Begin,
}

/// A request that waits for its turn.
#[derive(Clone, Debug)]
pub(crate) struct Waiting {
    pub(crate) ticket: Ticket,
    pub(crate) request: Request,
    pub(crate) deadline: Millis,
}

/// What a request of a batch is answered once the batch is applied.
pub(crate) type Answer = Result<Vec<u8>, Refusal>;

/// A batch back from the database, each request with its answer.
pub(crate) type ExecutedBatch = Vec<(Waiting, Answer)>;

/// An answer and whose it is.
pub(crate) type Answered = (Ticket, Reply);

/// See the module's description.
#[derive(Default)]
pub(crate) struct Writes {
    waiting: VecDeque<Waiting>,
    waiting_bytes: usize,
    slot: Slot,
}

#[derive(Default)]
enum Slot {
    #[default]
    Free,
    Executing {
        number: u64,
        batch: Vec<Waiting>,
    },
    Proposed {
        at: Position,
        answers: Vec<(Ticket, Answer)>,
        deadline: Millis,
    },
}

impl Writes {
    /// Takes a request in.
    ///
    /// # Errors
    /// [`Refusal::Busy`] and [`Refusal::TooLarge`] by the bounds.
    pub(crate) fn push(&mut self, waiting: Waiting) -> Result<(), (Ticket, Refusal)> {
        let bytes = request_bytes(&waiting.request);
        if bytes > REQUEST_BYTES_MAX {
            let refusal =
                Refusal::TooLarge { bytes: bytes as u64, bytes_max: REQUEST_BYTES_MAX as u64 };
            return Err((waiting.ticket, refusal));
        }
        let full = self.waiting.len() >= REQUESTS_WAITING_MAX
            || self.waiting_bytes + bytes > REQUESTS_WAITING_BYTES_MAX;
        if full {
            return Err((waiting.ticket, Refusal::Busy));
        }
        self.waiting_bytes += bytes;
        self.waiting.push_back(waiting);
        Ok(())
    }

    /// Puts requests back that had no effect, ahead of all others. They were
    /// within the bounds before and leave them only by what came meanwhile.
    fn put_back(&mut self, batch: Vec<Waiting>) {
        for waiting in batch.into_iter().rev() {
            self.waiting_bytes += request_bytes(&waiting.request);
            self.waiting.push_front(waiting);
        }
    }

    /// Its turn comes first again, once what is to be done before is done.
    pub(crate) fn keep(&mut self, waiting: Waiting) {
        self.put_back(Vec::from([waiting]));
    }

    pub(crate) fn pop(&mut self) -> Option<Waiting> {
        let waiting = self.waiting.pop_front()?;
        self.waiting_bytes -= request_bytes(&waiting.request);
        Some(waiting)
    }

    pub(crate) fn is_free(&self) -> bool {
        matches!(self.slot, Slot::Free)
    }

    pub(crate) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Does a grant wait, whose token is decided?
    pub(crate) fn has_waiting_grant(&self) -> bool {
        self.waiting.iter().any(|waiting| matches!(waiting.ticket, Ticket::Grant(_)))
    }

    /// The SQL requests at the head of the queue, as many as one batch takes;
    /// empty when a membership request stands there.
    pub(crate) fn gather(&mut self) -> Vec<Waiting> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        while let Some(Waiting { request: Request::Write(sql), .. }) = self.waiting.front() {
            bytes += sql.len();
            let full = batch.len() == BATCH_REQUESTS_MAX || bytes > BATCH_BYTES_MAX;
            if full && !batch.is_empty() {
                break;
            }
            batch.extend(self.pop());
        }
        batch
    }

    /// The batch is with the database.
    pub(crate) fn executing(&mut self, number: u64, batch: Vec<Waiting>) {
        assert!(self.is_free(), "two batches in flight");
        self.slot = Slot::Executing { number, batch };
    }

    /// The database is done: the change to propose and who waits for it. `None`
    /// when no such batch is under way.
    pub(crate) fn executed(
        &mut self,
        number: u64,
        executed: Executed,
    ) -> Option<(Vec<u8>, ExecutedBatch)> {
        let Slot::Executing { number: expected, batch } = &mut self.slot else { return None };
        if *expected != number {
            return None;
        }
        let answered = executed.answers.len();
        assert!(answered > 0, "the first request of a batch has the entry to itself");
        let mut batch = core::mem::take(batch);
        assert!(answered <= batch.len(), "one answer per request of the batch");
        self.slot = Slot::Free;
        self.put_back(batch.split_off(answered));
        Some((executed.change, batch.into_iter().zip(executed.answers).collect()))
    }

    /// The database lost its transaction while a batch was under way: everything
    /// in it is executed again, except for the request that ended it, which has
    /// its answer.
    pub(crate) fn reset(&mut self, ended_by: Option<(u32, Vec<u8>)>) -> Option<(Ticket, Vec<u8>)> {
        if !matches!(self.slot, Slot::Executing { .. }) {
            return None;
        }
        let Slot::Executing { mut batch, .. } = core::mem::take(&mut self.slot) else {
            return None;
        };
        let ended = ended_by.and_then(|(place, answer)| {
            let place = usize::try_from(place).ok().filter(|place| *place < batch.len())?;
            Some((batch.remove(place).ticket, answer))
        });
        self.put_back(batch);
        ended
    }

    /// Executed, but not proposed: local requests wait for the next leader, unless it is
    /// theirs alone to make; the others are told that nothing was changed.
    pub(crate) fn give_back(&mut self, batch: Vec<Waiting>) -> Vec<Answered> {
        let is_bound = |ticket: &Ticket| matches!(ticket, Ticket::Remote { .. } | Ticket::Grant(_));
        let (remote, local): (Vec<_>, Vec<_>) =
            batch.into_iter().partition(|waiting| is_bound(&waiting.ticket));
        self.put_back(local);
        remote.into_iter().map(|waiting| refused(waiting.ticket, Refusal::LeadershipLost)).collect()
    }

    /// The batch stands in the log at `at`.
    pub(crate) fn proposed(
        &mut self,
        at: Position,
        answers: Vec<(Ticket, Answer)>,
        deadline: Millis,
    ) {
        assert!(self.is_free(), "two batches in flight");
        self.slot = Slot::Proposed { at, answers, deadline };
    }

    /// An entry is applied, or certain to be: the answers it brings.
    pub(crate) fn applied(&mut self, at: Position, outcome: Outcome) -> Vec<Answered> {
        let Slot::Proposed { at: expected, .. } = &self.slot else { return Vec::new() };
        if at.index < expected.index {
            return Vec::new();
        }
        let ours = at == *expected && outcome != Outcome::Skipped;
        // A state of another board's may have brought what stands there, ours or not.
        let passed_over = at.index > expected.index;
        let Slot::Proposed { answers, .. } = core::mem::take(&mut self.slot) else {
            return Vec::new();
        };
        let reply = |answer| match (ours, answer) {
            (true, Ok(answer)) => Reply::Done { index: at.index, answer },
            (true, Err(refusal)) => Reply::Refused(refusal),
            (false, _) if passed_over => Reply::Refused(Refusal::OutcomeUnknown),
            (false, _) => Reply::Refused(Refusal::LeadershipLost),
        };
        answers.into_iter().map(|(ticket, answer)| (ticket, reply(answer))).collect()
    }

    /// Requests of other boards that wait here although this node does not lead.
    pub(crate) fn turn_away(&mut self) -> Vec<Answered> {
        let waiting = core::mem::take(&mut self.waiting).into();
        self.waiting_bytes = 0;
        self.give_back(waiting)
    }

    /// Everything that waits is refused; what is in flight goes on.
    pub(crate) fn refuse_waiting(&mut self, refusal: &Refusal) -> Vec<Answered> {
        let waiting = core::mem::take(&mut self.waiting);
        self.waiting_bytes = 0;
        waiting.into_iter().map(|waiting| refused(waiting.ticket, refusal.clone())).collect()
    }

    /// Of what waits some are refused.
    pub(crate) fn refuse_those(
        &mut self,
        which: impl Fn(&Request) -> bool,
        refusal: &Refusal,
    ) -> Vec<Answered> {
        let mut answered = Vec::new();
        for waiting in core::mem::take(&mut self.waiting) {
            if which(&waiting.request) {
                self.waiting_bytes -= request_bytes(&waiting.request);
                answered.push(refused(waiting.ticket, refusal.clone()));
            } else {
                self.waiting.push_back(waiting);
            }
        }
        answered
    }

    /// Requests whose time is up: those that wait had no effect; of those
    /// proposed it is not known.
    pub(crate) fn expire(&mut self, now: Millis, waiting_refusal: &Refusal) -> Vec<Answered> {
        let mut answered = Vec::new();
        if let Slot::Proposed { deadline, .. } = &self.slot
            && *deadline <= now
            && let Slot::Proposed { answers, .. } = core::mem::take(&mut self.slot)
        {
            let tickets = answers.into_iter().map(|(ticket, _)| ticket);
            answered.extend(tickets.map(|ticket| refused(ticket, Refusal::OutcomeUnknown)));
        }
        if self.waiting.iter().any(|waiting| waiting.deadline <= now) {
            for waiting in core::mem::take(&mut self.waiting) {
                if waiting.deadline <= now {
                    self.waiting_bytes -= request_bytes(&waiting.request);
                    answered.push(refused(waiting.ticket, waiting_refusal.clone()));
                } else {
                    self.waiting.push_back(waiting);
                }
            }
        }
        answered
    }

    /// When the next request's time is up.
    pub(crate) fn deadline(&self) -> Option<Millis> {
        let waiting = self.waiting.iter().map(|waiting| waiting.deadline).min();
        let proposed = match &self.slot {
            Slot::Proposed { deadline, .. } => Some(*deadline),
            Slot::Free | Slot::Executing { .. } => None,
        };
        waiting.into_iter().chain(proposed).min()
    }
}

fn refused(ticket: Ticket, refusal: Refusal) -> Answered {
    (ticket, Reply::Refused(refusal))
}

fn request_bytes(request: &Request) -> usize {
    match request {
        Request::Write(sql) | Request::Read { sql, .. } => sql.len(),
        Request::Admit(_)
        | Request::Rename { .. }
        | Request::Scrub
        | Request::Repair { .. }
        | Request::Member(_)
        | Request::Readings(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(id: RequestId) -> Waiting {
        Waiting {
            ticket: Ticket::Local(id),
            request: Request::Write(Vec::from([0; 100])),
            deadline: Millis(50),
        }
    }

    fn proposed() -> Writes {
        let mut writes = Writes::default();
        let answers = Vec::from([(Ticket::Local(1), Ok(Vec::from([7])))]);
        writes.proposed(Position { term: 2, index: 5 }, answers, Millis(50));
        writes
    }

    #[test]
    fn a_batch_is_answered_when_its_own_entry_is_applied() {
        let mut writes = proposed();
        assert!(writes.applied(Position { term: 2, index: 4 }, Outcome::Changed).is_empty());
        let answers = writes.applied(Position { term: 2, index: 5 }, Outcome::Changed);
        let done = Reply::Done { index: 5, answer: Vec::from([7]) };
        assert_eq!(answers, [(Ticket::Local(1), done)]);
        assert!(writes.is_free());
    }

    #[test]
    fn anothers_entry_in_its_place_means_nothing_was_changed() {
        let lost = [(Ticket::Local(1), Reply::Refused(Refusal::LeadershipLost))];
        let other = Position { term: 3, index: 5 };
        assert_eq!(proposed().applied(other, Outcome::Changed), lost);
        let own = Position { term: 2, index: 5 };
        assert_eq!(proposed().applied(own, Outcome::Skipped), lost);
    }

    #[test]
    fn what_a_state_has_passed_over_is_unknown() {
        let unknown = [(Ticket::Local(1), Reply::Refused(Refusal::OutcomeUnknown))];
        let behind = Position { term: 3, index: 6 };
        assert_eq!(proposed().applied(behind, Outcome::Changed), unknown);
    }

    #[test]
    fn what_was_proposed_and_never_applied_is_unknown() {
        let mut writes = proposed();
        let unknown = Reply::Refused(Refusal::OutcomeUnknown);
        assert_eq!(writes.expire(Millis(50), &Refusal::TimedOut), [(Ticket::Local(1), unknown)]);
    }

    #[test]
    fn requests_over_the_bound_are_refused_and_counted_out_again() {
        let mut writes = Writes::default();
        for id in 0..REQUESTS_WAITING_MAX as u64 {
            assert!(writes.push(waiting(id)).is_ok());
        }
        assert!(writes.push(waiting(9)).is_err());
        assert_eq!(writes.gather().len(), BATCH_REQUESTS_MAX);
        assert!(writes.push(waiting(9)).is_ok());
        writes.refuse_waiting(&Refusal::DiskFull);
        assert_eq!(writes.waiting_bytes, 0);
    }

    #[test]
    fn requests_that_did_not_fit_begin_the_next_batch() {
        let mut writes = Writes::default();
        assert!(writes.push(waiting(4)).is_ok());
        writes.executing(3, Vec::from([waiting(1), waiting(2), waiting(3)]));
        let executed = Executed { change: Vec::new(), answers: Vec::from([Ok(Vec::new())]) };
        let (_, batch) = writes.executed(3, executed).unwrap();
        assert_eq!(batch.len(), 1);
        let next: Vec<_> = writes.gather().into_iter().map(|waiting| waiting.ticket).collect();
        assert_eq!(next, [2, 3, 4].map(Ticket::Local));
        assert_eq!(writes.waiting_bytes, 0);
    }

    #[test]
    fn the_request_that_ended_the_transaction_is_answered_and_the_others_run_again() {
        let mut writes = Writes::default();
        writes.executing(3, Vec::from([waiting(1), waiting(2), waiting(3)]));
        let ended = writes.reset(Some((1, Vec::from([9]))));
        assert_eq!(ended, Some((Ticket::Local(2), Vec::from([9]))));
        let again: Vec<_> = writes.gather().into_iter().map(|waiting| waiting.ticket).collect();
        assert_eq!(again, [Ticket::Local(1), Ticket::Local(3)]);
    }
}
