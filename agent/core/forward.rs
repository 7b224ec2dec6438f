//! Requests on their way from the board they came to, to the leader that
//! executes them, and their answers back.
//!
//! Each carries (session, sequence): however often it arrives, it is executed
//! once. A session is one start of one board; of two starts of one count, which
//! are copies of one card, neither is taken for the other. Each carries the term
//! its receiver was seen to lead in and is dropped in any other: a copy delayed
//! past a restart or a re-election finds no leader of that term, so what is
//! recognised needs to live no longer than the term.
//!
//! A request is handed to another leader only after a definite "nothing was
//! changed"; without one its outcome is unknown, and the caller is told so: at
//! its deadline, or as soon as a later leader's entry is applied here, after
//! which nothing of the earlier term can come any more but an answer under way.

use alloc::{collections::BTreeMap, vec::Vec};

use crate::{
    error::Refusal,
    event::{Millis, NodeId, Reply, Request},
    limits::{ANSWERS_KEPT_BYTES_MAX, FORWARDS_OPEN_MAX},
    mutant,
    wire::{Forward, Frame, Session},
};

/// The origin's side: requests handed to a leader and not answered yet.
pub(crate) struct Outbox<Ticket> {
    session: Session,
    next: u64,
    open: BTreeMap<u64, Sent<Ticket>>,
}

struct Sent<Ticket> {
    ticket: Ticket,
    request: Request,
    leader: NodeId,
    term: u64,
    sent: Millis,
    deadline: Millis,
}

/// A request whose forwarding has ended.
pub(crate) struct Returned<Ticket> {
    pub(crate) ticket: Ticket,
    pub(crate) request: Request,
    pub(crate) deadline: Millis,
    pub(crate) reply: Reply,
}

impl<Ticket> Outbox<Ticket> {
    pub(crate) const fn new(session: Session) -> Self {
        Self { session, next: 1, open: BTreeMap::new() }
    }

    pub(crate) fn has_room(&self) -> bool {
        self.open.len() < FORWARDS_OPEN_MAX
    }

    /// Hands a request to `leader` of `term`: the frame to send.
    pub(crate) fn send(
        &mut self,
        now: Millis,
        (leader, term): (NodeId, u64),
        ticket: Ticket,
        request: Request,
        deadline: Millis,
    ) -> Frame {
        let sequence = self.next;
        self.next += 1;
        self.open.insert(sequence, Sent { ticket, request, leader, term, sent: now, deadline });
        self.frame(sequence)
    }

    fn frame(&self, sequence: u64) -> Frame {
        let sent = &self.open[&sequence];
        Frame::Forward(Forward {
            session: self.session,
            sequence,
            floor: *self.open.first_key_value().expect("one is open").0,
            term: sent.term,
            request: sent.request.clone(),
        })
    }

    /// Frames to send again: unanswered for `retry_ms`, under their old numbers.
    pub(crate) fn repeat(&mut self, now: Millis, retry_ms: u64) -> Vec<(NodeId, Frame)> {
        let due: Vec<_> = self
            .open
            .iter_mut()
            .filter(|(_, sent)| now.since(sent.sent) >= retry_ms)
            .map(|(sequence, sent)| {
                sent.sent = now;
                (sent.leader, *sequence)
            })
            .collect();
        due.into_iter().map(|(leader, sequence)| (leader, self.frame(sequence))).collect()
    }

    /// The leader's answer; `None` when nobody waits for it.
    pub(crate) fn answered(
        &mut self,
        from: NodeId,
        session: Session,
        sequence: u64,
        reply: Reply,
    ) -> Option<Returned<Ticket>> {
        if session != self.session || self.open.get(&sequence)?.leader != from {
            return None;
        }
        let sent = self.open.remove(&sequence)?;
        Some(sent.returned(reply))
    }

    /// Requests nobody may wait for any longer: their outcome is unknown. Their
    /// time is up, or it is time to repeat them and their leader's term is over.
    pub(crate) fn expire(
        &mut self,
        now: Millis,
        applied_term: u64,
        retry_ms: u64,
    ) -> Vec<Returned<Ticket>> {
        let is_over = |sent: &Sent<_>| sent.term < applied_term && now.since(sent.sent) >= retry_ms;
        let late: Vec<_> = self
            .open
            .iter()
            .filter(|(_, sent)| sent.deadline <= now || is_over(sent))
            .map(|(sequence, _)| *sequence)
            .collect();
        let removed = late.into_iter().filter_map(|sequence| self.open.remove(&sequence));
        removed.map(|sent| sent.returned(Reply::Refused(Refusal::OutcomeUnknown))).collect()
    }

    /// When something is to be repeated or given up next.
    pub(crate) fn deadline(&self, retry_ms: u64) -> Option<Millis> {
        self.open.values().map(|sent| sent.sent.plus(retry_ms).min(sent.deadline)).min()
    }
}

impl<Ticket> Sent<Ticket> {
    fn returned(self, reply: Reply) -> Returned<Ticket> {
        Returned { ticket: self.ticket, request: self.request, deadline: self.deadline, reply }
    }
}

/// What the leader makes of an arriving forward.
pub(crate) enum Arrival {
    /// Execute it.
    New(Request),
    /// It is under way or too old to be told apart: no answer now.
    Ignored,
    /// It was answered; say it again.
    Again(Reply),
    /// Of another start of this count something came before: there are two copies of one
    /// card.
    Copied,
}

/// The leader's side: which requests of its term it has taken, and their answers.
#[derive(Default)]
pub(crate) struct Inbox {
    term: u64,
    origins: BTreeMap<NodeId, Origin>,
    answers_bytes: usize,
}

#[derive(Default)]
struct Origin {
    session: Session,
    floor: u64,
    taken: BTreeMap<u64, Option<Reply>>,
}

impl Inbox {
    /// A forward from `from` arrives at the leader of `term`.
    pub(crate) fn arrived(&mut self, from: NodeId, term: u64, forward: Forward) -> Arrival {
        if self.term != term {
            *self = Self { term, ..Self::default() };
        }
        let origin = self.origins.entry(from).or_default();
        let (session, known) = (forward.session, origin.session);
        let is_copy = session.boot == known.boot && session != known && !mutant::is(92);
        if forward.term != term || session.boot < known.boot {
            return Arrival::Ignored;
        }
        if is_copy {
            return Arrival::Copied;
        }
        if session.boot > known.boot {
            self.answers_bytes -= origin.taken.values().map(kept_bytes).sum::<usize>();
            *origin = Origin { session, ..Origin::default() };
        }
        self.answers_bytes -= origin.raise_floor(forward.floor);
        origin.take(forward.sequence, forward.request)
    }

    /// A taken request has its answer; kept until the origin's floor passes it.
    pub(crate) fn answer(&mut self, to: NodeId, session: Session, sequence: u64, reply: &Reply) {
        let origin = self.origins.get_mut(&to).filter(|origin| origin.session == session);
        let Some(origin) = origin else { return };
        let Some(place) = origin.taken.get_mut(&sequence) else { return };
        let bytes = reply_bytes(reply);
        let fits = self.answers_bytes + bytes <= ANSWERS_KEPT_BYTES_MAX;
        let kept = if fits { reply.clone() } else { Reply::Refused(Refusal::OutcomeUnknown) };
        self.answers_bytes += reply_bytes(&kept);
        *place = Some(kept);
    }
}

impl Origin {
    /// Forgets everything below `floor`; returns the bytes freed.
    fn raise_floor(&mut self, floor: u64) -> usize {
        if floor <= self.floor {
            return 0;
        }
        self.floor = floor;
        let kept = self.taken.split_off(&floor);
        let forgotten = core::mem::replace(&mut self.taken, kept);
        forgotten.values().map(kept_bytes).sum()
    }

    fn take(&mut self, sequence: u64, request: Request) -> Arrival {
        let window = self.floor..self.floor.saturating_add(2 * FORWARDS_OPEN_MAX as u64);
        if !window.contains(&sequence) {
            return Arrival::Ignored;
        }
        match self.taken.get(&sequence) {
            Some(_) if mutant::is(9) => Arrival::New(request),
            Some(Some(reply)) => Arrival::Again(reply.clone()),
            Some(None) => Arrival::Ignored,
            None => {
                self.taken.insert(sequence, None);
                Arrival::New(request)
            }
        }
    }
}

fn kept_bytes(reply: &Option<Reply>) -> usize {
    reply.as_ref().map_or(0, reply_bytes)
}

fn reply_bytes(reply: &Reply) -> usize {
    match reply {
        Reply::Done { answer, .. } => answer.len(),
        Reply::Refused(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn session(boot: u64) -> Session {
        Session::new(boot, 7)
    }

    fn write() -> Request {
        Request::Write(Vec::from([1]))
    }

    fn forward(outbox: &mut Outbox<u32>) -> Forward {
        let Frame::Forward(forward) = outbox.send(Millis(0), (2, 5), 7, write(), Millis(100))
        else {
            panic!("a request is sent as a forward");
        };
        forward
    }

    fn done() -> Reply {
        Reply::Done { index: 9, answer: Vec::from([4; 10]) }
    }

    #[test]
    fn a_repeated_forward_is_executed_once_and_answered_again() {
        let mut outbox = Outbox::new(session(1));
        let mut inbox = Inbox::default();
        let forward = forward(&mut outbox);
        assert!(matches!(inbox.arrived(1, 5, forward.clone()), Arrival::New(_)));
        assert!(matches!(inbox.arrived(1, 5, forward.clone()), Arrival::Ignored));
        inbox.answer(1, forward.session, forward.sequence, &done());
        assert!(matches!(inbox.arrived(1, 5, forward), Arrival::Again(reply) if reply == done()));
    }

    #[test]
    fn a_forward_of_another_term_or_an_older_boot_is_ignored() {
        let mut outbox = Outbox::new(session(3));
        let mut inbox = Inbox::default();
        let forward = forward(&mut outbox);
        assert!(matches!(inbox.arrived(1, 6, forward.clone()), Arrival::Ignored));
        assert!(matches!(inbox.arrived(1, 5, forward.clone()), Arrival::New(_)));
        let older = Forward { session: session(2), sequence: 9, ..forward };
        assert!(matches!(inbox.arrived(1, 5, older), Arrival::Ignored));
    }

    #[test]
    fn what_another_start_of_the_same_count_asks_is_never_answered_with_what_this_one_got() {
        let mut inbox = Inbox::default();
        let first = forward(&mut Outbox::new(session(1)));
        assert!(matches!(inbox.arrived(1, 5, first.clone()), Arrival::New(_)));
        let mut copy = Outbox::new(Session::new(1, 8));
        let forward = forward(&mut copy);
        assert_eq!(forward.sequence, first.sequence);
        assert!(matches!(inbox.arrived(1, 5, forward.clone()), Arrival::Copied));
        inbox.answer(1, session(1), first.sequence, &done());
        assert!(matches!(inbox.arrived(1, 5, forward.clone()), Arrival::Copied));
        assert!(copy.answered(2, session(1), forward.sequence, done()).is_none());
    }

    #[test]
    fn what_the_floor_has_passed_is_neither_kept_nor_taken_again() {
        let mut outbox = Outbox::new(session(1));
        let mut inbox = Inbox::default();
        let first = forward(&mut outbox);
        assert!(matches!(inbox.arrived(1, 5, first.clone()), Arrival::New(_)));
        inbox.answer(1, session(1), first.sequence, &done());
        assert_eq!(inbox.answers_bytes, 10);
        assert!(outbox.answered(2, session(1), first.sequence, done()).is_some());
        let second = forward(&mut outbox);
        assert_eq!(second.floor, second.sequence);
        assert!(matches!(inbox.arrived(1, 5, second), Arrival::New(_)));
        assert_eq!(inbox.answers_bytes, 0);
        assert!(matches!(inbox.arrived(1, 5, first), Arrival::Ignored));
    }

    #[test]
    fn an_answer_from_another_node_or_for_another_boot_is_nobodys() {
        let mut outbox = Outbox::new(session(1));
        let sent = forward(&mut outbox);
        assert!(outbox.answered(3, session(1), sent.sequence, done()).is_none());
        assert!(outbox.answered(2, session(2), sent.sequence, done()).is_none());
        assert!(outbox.answered(2, session(1), sent.sequence, done()).is_some());
    }

    #[test]
    fn silence_is_repeated_and_then_given_up_as_unknown() {
        let mut outbox = Outbox::new(session(1));
        forward(&mut outbox);
        assert!(outbox.repeat(Millis(49), 50).is_empty());
        assert_eq!(outbox.repeat(Millis(50), 50).len(), 1);
        assert!(outbox.expire(Millis(99), 5, 50).is_empty());
        let gone = outbox.expire(Millis(100), 5, 50);
        assert_eq!(gone.len(), 1);
        assert_eq!(gone[0].reply, Reply::Refused(Refusal::OutcomeUnknown));
    }

    #[test]
    fn a_leader_whose_term_is_over_is_not_asked_again() {
        let mut outbox = Outbox::new(session(1));
        forward(&mut outbox);
        assert!(outbox.expire(Millis(49), 6, 50).is_empty());
        assert!(outbox.expire(Millis(50), 5, 50).is_empty());
        let gone = outbox.expire(Millis(50), 6, 50);
        assert_eq!(gone[0].reply, Reply::Refused(Refusal::OutcomeUnknown));
    }
}
