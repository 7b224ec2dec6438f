//! When boards are compared, and what a board does that is found wrong.
//!
//! The leader asks for a scrub when it is time, and for parts while tables differ;
//! each board's report, and each wish, is a write like any other, repeated until it
//! is done. A fenced board answers no reads and starts no writes: it hands leadership
//! over, or lays it down where nobody can take it. It goes on applying and voting,
//! so that the group keeps its majority.
//!
//! Its rows are wrong, its log is not: where it alone has what a dead board had
//! committed with it, nobody else can be elected. Then it stands, as the last resort,
//! and gives its log and leadership to the next.

use alloc::{collections::BTreeSet, collections::VecDeque, string::String, vec::Vec};

use crate::{
    error::Refusal,
    event::{Millis, NodeId, Outcome, Reply, Request},
    limits::SCRUB_WISHES_MAX,
    mutant,
    node::Node,
    scrub::{self, Difference, Finding, Report, Scrub, Scrubs},
    writes::{Ticket, Waiting},
};

/// See the module's description.
#[derive(Default)]
pub(crate) struct Scrubber {
    scrubs: Scrubs,
    /// Boards that are contradicted.
    fenced: BTreeSet<NodeId>,
    /// Between two scrubs; 0 for never.
    interval_ms: u64,
    /// When the last scrub of everything was first seen here.
    seen: Millis,
    /// Asked for by this leader when the last one was this, at that moment.
    asked: Option<(u64, Millis)>,
    /// Rows came that do not fit this board's: boards differ, and nobody knows yet.
    doubts: bool,
    /// Asks because of that no earlier.
    doubts_from: Millis,
    wishes: VecDeque<Wish>,
    under_way: bool,
    /// The next wish goes no earlier.
    pause: Millis,
    /// It leads although it is fenced: when its log last got on to others, and how
    /// far they had it then.
    leads_fenced: Option<(Millis, u64)>,
}

/// A write this board wants done.
enum Wish {
    Ask(Vec<u8>),
    Tell { scrub: u64, request: Vec<u8> },
}

/// The last scrub, as one board sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScrubStatus {
    /// Its number.
    pub id: u64,
    /// By the clock of the board that led, seconds since 1970.
    pub time: u64,
    /// The log index as of which all boards were digested; none before the first report.
    pub entry: Option<u64>,
    /// Boards that can be heard and have not reported, or rows are still looked for.
    pub under_way: bool,
    /// Boards that have not reported.
    pub silent: Vec<NodeId>,
    /// Boards that ended early, and why.
    pub unfinished: Vec<(NodeId, String)>,
    /// Tables that differ.
    pub differences: Vec<Difference>,
    /// It is known which boards are right.
    pub decided: bool,
    /// Because somebody said so.
    pub source: Option<NodeId>,
}

impl Scrubber {
    pub(crate) fn new(now: Millis, own: NodeId, scrubs: Scrubs, boards: &[NodeId]) -> Self {
        let mut scrubber = Self { seen: now, ..Self::default() };
        // What it was at when it ended is not gone on with.
        if let Some(last) = scrubs.last().filter(|last| !last.reports.contains_key(&own)) {
            let report = Report::unfinished(0, "the agent was started anew meanwhile");
            scrubber.wish_to_tell(last.id, own, &report);
        }
        scrubber.fenced = scrubs.fenced(boards);
        scrubber.scrubs = scrubs;
        scrubber
    }

    /// Goes before all that is not under way. One at a time: the next is about
    /// what this one brings.
    fn wish_to_ask(&mut self, request: Vec<u8>) {
        if !self.wishes.iter().any(|wish| matches!(wish, Wish::Ask(_))) {
            self.make_room();
            self.wishes.insert(usize::from(self.under_way), Wish::Ask(request));
        }
    }

    fn wish_to_tell(&mut self, scrub: u64, own: NodeId, report: &Report) {
        self.make_room();
        let request = scrub::report(scrub, own, report);
        self.wishes.push_back(Wish::Tell { scrub, request });
    }

    /// The oldest gives way, save the first, which may be under way.
    fn make_room(&mut self) {
        if self.wishes.len() >= SCRUB_WISHES_MAX {
            self.wishes.remove(1);
        }
    }

    /// The next write, unless one is under way.
    fn next(&mut self, now: Millis) -> Option<Vec<u8>> {
        if self.under_way || now < self.pause {
            return None;
        }
        let known = |id: &u64| self.scrubs.0.iter().any(|scrub| scrub.id == *id);
        while let Some(Wish::Tell { scrub, .. }) = self.wishes.front()
            && !known(scrub)
        {
            self.wishes.pop_front();
        }
        let (Wish::Ask(request) | Wish::Tell { request, .. }) = self.wishes.front()?;
        self.under_way = true;
        Some(request.clone())
    }

    /// A report may be written twice; a scrub asked for is asked for again when it
    /// is time.
    fn answered(&mut self, now: Millis, reply: &Reply, pause_ms: u64) {
        self.under_way = false;
        let hopeless = match reply {
            Reply::Done { .. } | Reply::Refused(Refusal::Invalid(_) | Refusal::TooLarge { .. }) => {
                true
            }
            Reply::Refused(_) => matches!(self.wishes.front(), Some(Wish::Ask(_))),
        };
        if hopeless {
            self.wishes.pop_front();
        } else {
            self.pause = now.plus(pause_ms);
        }
    }
}

impl Node {
    /// Milliseconds between two scrubs, 0 for none but those asked for.
    pub fn set_scrub_interval(&mut self, ms: u64) {
        self.scrubber.interval_ms = ms;
    }

    /// The scrub by which this board is fenced.
    pub(crate) fn condemned_by(&self) -> Option<u64> {
        self.scrubber.scrubs.condemns(self.config.id)
    }

    /// Rows were taken from another board: a scrub tells whether they are right now.
    pub(crate) fn ask_after_repair(&mut self) {
        let request = self.scrubber.scrubs.ask(&self.compared(), None);
        self.scrubber.wish_to_ask(request);
    }

    /// Boards that have rows to compare.
    fn compared(&self) -> Vec<NodeId> {
        self.membership.holders()
    }

    pub(crate) fn boards(&self) -> Vec<NodeId> {
        self.membership.members.iter().map(|member| member.id).collect()
    }

    /// A majority of the boards, or a person, has found this one wrong.
    #[must_use]
    pub fn is_fenced(&self) -> bool {
        self.scrubber.fenced.contains(&self.config.id)
    }

    pub(crate) fn is_fenced_board(&self, board: NodeId) -> bool {
        self.scrubber.fenced.contains(&board)
    }

    /// Has this board been found to hold the same rows as this one?
    pub(crate) fn is_same(&self, board: NodeId) -> bool {
        self.scrubber.scrubs.agree(self.config.id, board) == Some(true)
    }

    /// The rows about scrubs have changed.
    pub(crate) fn on_scrubs(&mut self, now: Millis, scrubs: Scrubs) {
        let newest = |scrubs: &Scrubs| scrubs.latest().map_or(0, |(whole, _)| whole.id);
        if newest(&scrubs) > newest(&self.scrubber.scrubs) {
            self.scrubber.seen = now;
            self.scrubber.doubts = false;
        }
        self.scrubber.fenced = scrubs.fenced(&self.compared());
        self.scrubber.scrubs = scrubs;
    }

    /// This board has digested what it was asked to.
    pub(crate) fn on_digested(&mut self, scrub: u64, report: &Report) {
        self.scrubber.wish_to_tell(scrub, self.config.id, report);
    }

    /// An entry is applied.
    pub(crate) fn note_outcome(&mut self, outcome: Outcome) {
        self.scrubber.doubts |= outcome == Outcome::ChangedInPart;
    }

    /// The write behind a caller's wish.
    pub(crate) fn scrub_request(&self, request: Request) -> Result<Request, Refusal> {
        match request {
            Request::Scrub | Request::Repair { .. } if self.is_witness() => {
                Err(self.refusal_of_witness())
            }
            Request::Scrub => Ok(Request::Write(self.scrubber.scrubs.ask(&self.compared(), None))),
            Request::Repair { source } if self.membership.is_witness(source) => {
                Err(Refusal::Invalid(String::from("a witness has no rows that could be right")))
            }
            Request::Repair { source } => {
                let Some(member) = self.membership.member(source) else {
                    return Err(Refusal::Invalid(alloc::format!("no member has the id {source}")));
                };
                let decided = self.scrubber.scrubs.decide(source, &member.name);
                decided.map(Request::Write).map_err(Refusal::Invalid)
            }
            Request::Write(_)
            | Request::Read { .. }
            | Request::Admit(_)
            | Request::Rename { .. }
            | Request::Member(_)
            | Request::Readings(_) => Ok(request),
        }
    }

    pub(crate) fn tick_scrub(&mut self, now: Millis) {
        self.lay_down(now);
        self.ask_for_scrub(now);
        self.ask_in_doubt(now);
        // A board that is behind tells of scrubs that are history elsewhere.
        let is_behind = self.applier.applied().index < self.raw.raft.raft_log.committed;
        if is_behind || self.leader().is_none() {
            return;
        }
        if let Some(request) = self.scrubber.next(now) {
            let deadline = now.plus(self.config.timing.request_timeout_ms);
            let request = Request::Write(request);
            self.wait(now, Waiting { ticket: Ticket::Scrub, request, deadline });
        }
    }

    pub(crate) fn on_scrub_answer(&mut self, now: Millis, reply: &Reply) {
        let pause_ms = self.config.timing.forward_retry_ms;
        self.scrubber.answered(now, reply, pause_ms);
    }

    /// A fenced board leads only to hand over: where no other can take over, and
    /// none is on its way to what it needs for that, nobody leads.
    fn lay_down(&mut self, now: Millis) {
        if !(self.leads() && self.is_fenced()) || mutant::is(17) {
            self.scrubber.leads_fenced = None;
            return;
        }
        let successors = self.successors();
        let matched = successors.iter().map(|(_, matched)| matched).sum();
        let under_way = successors.iter().filter_map(|(id, _)| self.links.progressed(*id)).max();
        let (since, before) = self.scrubber.leads_fenced.unwrap_or((now, matched));
        let since = if matched > before { now } else { since.max(under_way.unwrap_or(since)) };
        self.scrubber.leads_fenced = Some((since, matched));
        if now.since(since) >= self.config.timing.election_ms_max() {
            self.step_down(now);
        }
    }

    /// A leader's wishes: the periodic scrub, and parts of a table that differs.
    fn ask_for_scrub(&mut self, now: Millis) {
        if !self.leads_for_sure() || self.is_fenced() || self.is_witness() {
            return;
        }
        let scrubber = &self.scrubber;
        let last = scrubber.scrubs.last().map_or(0, |scrub| scrub.id);
        let patience_ms = self.config.timing.request_timeout_ms;
        if scrubber.asked.is_some_and(|(id, at)| id == last && now.since(at) < patience_ms) {
            return;
        }
        let (age, interval) = (now.since(scrubber.seen), scrubber.interval_ms);
        let waits = scrubber.scrubs.last().is_some_and(|scrub| self.waits_for(now, scrub));
        let part = if waits { None } else { scrubber.scrubs.next_part() };
        // One that does not come to an end does not keep the next off for ever.
        let due = interval > 0 && age >= interval && (!waits || age >= interval.saturating_mul(4));
        // A newcomer reports of one that it finds in the log, if it comes by it.
        let may_compare = part.is_none() && (!waits || age >= patience_ms);
        let due = due || may_compare && self.wants_comparison(now);
        if due || part.is_some() {
            let part = if due { None } else { part };
            let request = self.scrubber.scrubs.ask(&self.compared(), part);
            self.scrubber.asked = Some((last, now));
            self.scrubber.wish_to_ask(request);
        }
    }

    /// Rows that do not fit show that boards differ: any board asks who is wrong, until
    /// a scrub has come of it. None would say more where one has found that they do.
    fn ask_in_doubt(&mut self, now: Millis) {
        let scrubber = &self.scrubber;
        if !scrubber.doubts || now < scrubber.doubts_from || self.is_fenced() {
            return;
        }
        let known = scrubber.scrubs.latest().is_some_and(|(whole, _)| whole.differs());
        let waits = scrubber.scrubs.last().is_some_and(|scrub| self.waits_for(now, scrub));
        if !known && !waits {
            let request = scrubber.scrubs.ask(&self.compared(), None);
            self.scrubber.doubts_from = now.plus(self.config.timing.request_timeout_ms);
            self.scrubber.wish_to_ask(request);
        }
    }

    /// A board that can be heard, or may be, has not reported.
    fn waits_for(&self, now: Millis, scrub: &Scrub) -> bool {
        let missing = |board: &NodeId| !scrub.reports.contains_key(board);
        let here =
            |board: &NodeId| *board == self.config.id || self.hears(now, *board) != Some(false);
        self.compared().iter().filter(|board| missing(board)).any(here)
    }

    /// Boards that answer no reads and start no writes.
    pub(crate) fn fenced_boards(&self) -> Vec<NodeId> {
        self.scrubber.fenced.iter().copied().collect()
    }

    pub(crate) fn scrub_status(&self, now: Millis) -> Option<ScrubStatus> {
        let scrubs = &self.scrubber.scrubs;
        let (whole, _) = scrubs.latest()?;
        let waits = scrubs.last().is_some_and(|last| self.waits_for(now, last));
        let unfinished = whole.reports.iter().filter_map(|(board, report)| match &report.finding {
            Finding::Unfinished(why) => Some((*board, why.clone())),
            Finding::Digest(_) | Finding::Unreadable(_) => None,
        });
        let reported = |board: &NodeId| whole.reports.contains_key(board);
        Some(ScrubStatus {
            id: whole.id,
            time: whole.time,
            entry: whole.reports.values().map(|report| report.entry).max(),
            under_way: waits || scrubs.next_part().is_some(),
            silent: self.compared().into_iter().filter(|board| !reported(board)).collect(),
            unfinished: unfinished.collect(),
            differences: scrubs.differences(),
            decided: self.compared().iter().any(|board| whole.judge(*board).is_some()),
            source: whole.source,
        })
    }
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeMap;

    use crate::{
        event::{Event, ReadLevel},
        rig::{Rig, write},
        scrub::Item,
        timing::Timing,
        wire::{Frame, RaftFrame},
    };

    use super::*;

    /// A scrub in which these boards hold something else than the others.
    fn found(wrong: &[NodeId]) -> Scrubs {
        let report = |board: &NodeId| {
            let digest = if wrong.contains(board) { 100 + board } else { 7 };
            let item = Item { table: "t".into(), rows: 9, digest: Some(digest), ..Item::default() };
            let finding = Finding::Digest(digest);
            (*board, Report { entry: 5, finding, items: Vec::from([item]) })
        };
        let reports: BTreeMap<_, _> = [1, 2, 3].iter().map(report).collect();
        Scrubs(Vec::from([Scrub { id: 1, boards: 3, reports, ..Scrub::default() }]))
    }

    fn tell(rig: &mut Rig, scrubs: &Scrubs) {
        for id in [1, 2, 3] {
            rig.event(id, Event::Scrubs(scrubs.clone()));
        }
    }

    fn is_fenced(rig: &Rig, id: NodeId) -> bool {
        rig.nodes[&id].is_fenced()
    }

    #[test]
    fn a_leader_that_is_contradicted_hands_over_and_does_not_lead_again() {
        let (mut rig, leader) = Rig::led(&[1, 2, 3]);
        tell(&mut rig, &found(&[leader]));
        rig.run(500);
        let next = rig.leader().expect("another leads");
        assert_ne!(next, leader);
        assert!(is_fenced(&rig, leader) && !is_fenced(&rig, next));
        for id in [1, 2, 3].into_iter().filter(|id| *id != leader) {
            rig.cut = Vec::from([id]);
            rig.run(8_000);
            assert_ne!(rig.leader(), Some(leader));
            assert!(rig.leader().is_some(), "it votes for the third");
            rig.cut.clear();
            rig.run(3_000);
        }
    }

    #[test]
    fn a_leader_that_is_contradicted_waits_while_its_log_is_on_its_way_to_the_next() {
        let (mut rig, leader) = Rig::led(&[1, 2, 3]);
        let term = rig.nodes[&leader].raw.raft.term;
        rig.cut = [1, 2, 3].into_iter().filter(|id| *id != leader).collect();
        rig.ask(leader, 1, Request::Write(alloc::vec![7; 1 << 20]));
        rig.cut.clear();
        rig.pace = 10;
        rig.event(leader, Event::Scrubs(found(&[leader])));
        rig.run(8 * Timing::WIRED.election_ms_max());
        let next = rig.leader().expect("another leads");
        assert_ne!(next, leader);
        assert_eq!(rig.nodes[&next].raw.raft.term, term + 1, "by the first election");
        assert!(
            rig.journals[&next].iter().any(|entry| entry.data.len() > 1 << 20),
            "with all of it"
        );
    }

    #[test]
    fn a_batch_executed_before_the_leader_was_contradicted_is_executed_by_the_next() {
        let (mut rig, leader) = Rig::led(&[1, 2, 3]);
        let request = |id, request| Event::Requested { id, request };
        let level = ReadLevel::None { freshness_ms: None };
        let read = Request::Read { level, sql: Vec::new() };
        let scrubs = Event::Scrubs(found(&[leader]));
        rig.events(leader, [request(1, write("late")), request(2, read), scrubs]);
        assert_eq!(rig.answer_of(2), Some(&Reply::Refused(Refusal::Fenced)));
        tell(&mut rig, &found(&[leader]));
        rig.run(2_000);
        let next = rig.leader().unwrap();
        assert_ne!(next, leader);
        assert!(matches!(rig.answer_of(1), Some(Reply::Done { .. })));
        let entry = rig.journals[&next].iter().find(|entry| entry.data.ends_with(b"late"));
        assert_eq!(entry.unwrap().term, rig.nodes[&next].raw.raft.term);
    }

    #[test]
    fn two_boards_that_are_contradicted_do_not_stand_against_each_other_for_ever() {
        let (mut rig, leader) = Rig::led(&[1, 2, 3]);
        for id in [1, 2, 3].into_iter().filter(|id| *id != leader) {
            let fenced = &mut rig.nodes.get_mut(&id).unwrap().scrubber.fenced;
            fenced.extend([1, 2, 3].into_iter().filter(|id| *id != leader));
        }
        rig.cut = Vec::from([leader]);
        let mut led = false;
        for _ in 0..100 {
            rig.run(100);
            led |= rig.leader().is_some();
        }
        assert!(led, "one of them stands first");
    }

    #[test]
    fn wishes_for_a_scrub_do_not_gather_while_nothing_is_applied() {
        let (mut rig, leader) = Rig::led(&[1, 2, 3]);
        rig.idle = Vec::from([leader]);
        rig.ask(leader, 1, write("a"));
        for node in rig.nodes.values_mut() {
            node.set_scrub_interval(1);
        }
        rig.run(4 * Timing::WIRED.request_timeout_ms);
        assert_eq!(rig.nodes[&leader].scrubber.wishes.len(), 1);
    }

    #[test]
    fn rows_that_do_not_fit_have_boards_compared_once() {
        let (mut rig, leader) = Rig::led(&[1, 2, 3]);
        rig.unfit = [1, 2, 3].into_iter().filter(|id| *id != leader).collect();
        rig.run(Timing::WIRED.request_timeout_ms);
        rig.ask(leader, 1, write("a"));
        rig.run(300);
        rig.unfit.clear();
        rig.run(2_000);
        let asked = entries(&rig, leader, "INSERT INTO _understudy_scrub");
        assert!((1..=2).contains(&asked), "{asked} scrubs");
        tell(&mut rig, &found(&[]));
        rig.run(2 * Timing::WIRED.request_timeout_ms);
        assert_eq!(entries(&rig, leader, "INSERT INTO _understudy_scrub"), asked);
    }

    #[test]
    fn rows_that_do_not_fit_are_asked_about_until_it_is_heard() {
        let (mut rig, leader) = Rig::led(&[1, 2, 3]);
        let board = leader % 3 + 1;
        rig.run(Timing::WIRED.request_timeout_ms);
        rig.cut = Vec::from([board]);
        rig.nodes.get_mut(&board).unwrap().note_outcome(Outcome::ChangedInPart);
        rig.run(3 * Timing::WIRED.request_timeout_ms);
        assert_eq!(entries(&rig, leader, "INSERT INTO _understudy_scrub"), 0);
        rig.cut.clear();
        rig.run(3 * Timing::WIRED.request_timeout_ms);
        let leader = rig.leader().unwrap();
        assert!(entries(&rig, leader, "INSERT INTO _understudy_scrub") >= 1);
    }

    #[test]
    fn boards_known_to_differ_are_not_compared_for_every_row_that_does_not_fit() {
        let (mut rig, leader) = Rig::led(&[1, 2, 3]);
        tell(&mut rig, &found(&[1, 2, 3]));
        rig.unfit = [1, 2, 3].into_iter().filter(|id| *id != leader).collect();
        for request in 0..60 {
            rig.ask(leader, request, write("a"));
            rig.run(1_000);
        }
        let asked = entries(&rig, leader, "INSERT INTO _understudy_scrub");
        // Parts of the table that differs are asked for by the leader.
        assert!(asked <= 6, "{asked} scrubs");
    }

    #[test]
    fn a_leader_that_is_contradicted_lays_leadership_down_where_nobody_takes_it() {
        let (mut rig, leader) = Rig::led(&[1, 2, 3]);
        tell(&mut rig, &found(&[leader]));
        let node = rig.nodes.get_mut(&leader).unwrap();
        for other in [1, 2, 3].into_iter().filter(|id| *id != leader) {
            node.scrubber.fenced.insert(other);
        }
        rig.ask(leader, 1, write("a"));
        rig.run(900);
        assert!(!rig.nodes[&leader].leads());
        let journalled = rig.journals.values().flatten().filter(|entry| entry.data.ends_with(b"a"));
        assert_eq!(journalled.count(), 0, "it executes nothing on rows that are wrong");
    }

    #[test]
    fn a_board_that_is_contradicted_hands_its_log_on_where_nobody_else_holds_it() {
        let (mut rig, leader) = Rig::led(&[1, 2, 3]);
        let board = leader % 3 + 1;
        let other = board % 3 + 1;
        tell(&mut rig, &found(&[board]));
        rig.hand_on(leader, board, other);
    }

    #[test]
    fn a_board_that_is_contradicted_answers_no_reads_and_passes_writes_on() {
        let (mut rig, leader) = Rig::led(&[1, 2, 3]);
        let board = leader % 3 + 1;
        let linearizable = ReadLevel::Linearizable { timeout_ms: None };
        let read = |level| Request::Read { level, sql: Vec::new() };
        tell(&mut rig, &found(&[board]));
        for (id, level) in
            [(1, linearizable), (2, ReadLevel::Strong), (3, ReadLevel::None { freshness_ms: None })]
        {
            rig.ask(board, id, read(level));
            rig.run(300);
            assert_eq!(rig.answer_of(id), Some(&Reply::Refused(Refusal::Fenced)));
        }
        rig.ask(board, 4, write("a"));
        rig.ask(leader, 5, read(linearizable));
        // Its agent goes by what the group has set.
        rig.ask(board, 7, read(ReadLevel::Own));
        rig.ask(board, 8, read(ReadLevel::OwnLinearizable));
        rig.run(300);
        for id in [4, 5, 7, 8] {
            assert!(matches!(rig.answer_of(id), Some(Reply::Done { .. })));
        }
        tell(&mut rig, &found(&[]));
        rig.ask(board, 6, read(linearizable));
        rig.run(300);
        assert!(matches!(rig.answer_of(6), Some(Reply::Done { .. })));
    }

    #[test]
    fn a_board_that_is_contradicted_does_not_stand_even_when_the_leader_asks_it_to() {
        let (mut rig, leader) = Rig::led(&[1, 2, 3]);
        let board = leader % 3 + 1;
        tell(&mut rig, &found(&[board]));
        let term = rig.nodes[&leader].raw.raft.term;
        rig.hear(board, leader, &Frame::Raft(RaftFrame::TimeoutNow { term }));
        rig.run(500);
        assert_eq!((rig.leader(), rig.nodes[&leader].raw.raft.term), (Some(leader), term));
    }

    #[test]
    fn without_a_majority_no_board_is_fenced() {
        let (mut rig, leader) = Rig::led(&[1, 2, 3]);
        tell(&mut rig, &found(&[1, 2, 3]));
        rig.run(500);
        assert_eq!(rig.leader(), Some(leader));
        assert!(![1, 2, 3].into_iter().any(|id| is_fenced(&rig, id)));
    }

    /// Entries that hold this text.
    fn entries(rig: &Rig, leader: NodeId, text: &str) -> usize {
        let holds = |data: &[u8]| data.windows(text.len()).any(|window| window == text.as_bytes());
        rig.journals[&leader].iter().filter(|entry| holds(&entry.data)).count()
    }

    #[test]
    fn the_leader_asks_when_it_is_time_and_once() {
        let (mut rig, leader) = Rig::led(&[1, 2, 3]);
        for node in rig.nodes.values_mut() {
            node.set_scrub_interval(30_000);
        }
        rig.run(27_000);
        assert_eq!(entries(&rig, leader, "INSERT INTO _understudy_scrub"), 0);
        rig.run(5_000);
        assert_eq!(entries(&rig, leader, "INSERT INTO _understudy_scrub"), 1);
        tell(&mut rig, &found(&[]));
        rig.run(29_000);
        assert_eq!(entries(&rig, leader, "INSERT INTO _understudy_scrub"), 1);
    }

    #[test]
    fn a_report_is_written_once_the_group_can_be_reached() {
        let (mut rig, leader) = Rig::led(&[1, 2, 3]);
        let board = leader % 3 + 1;
        let report = found(&[]).0[0].reports[&board].clone();
        let asked = Scrubs(Vec::from([Scrub { id: 1, boards: 3, ..Scrub::default() }]));
        tell(&mut rig, &asked);
        rig.cut = Vec::from([board]);
        rig.event(board, Event::Digested { scrub: 1, report });
        rig.run(15_000);
        assert_eq!(entries(&rig, leader, "INSERT INTO _understudy_digest"), 0);
        rig.cut.clear();
        rig.run(15_000);
        let leader = rig.leader().unwrap();
        assert!(entries(&rig, leader, "INSERT INTO _understudy_digest") >= 1);
    }

    #[test]
    fn a_table_that_differs_is_cut_once_every_board_has_reported() {
        let (mut rig, leader) = Rig::led(&[1, 2, 3]);
        let third = 6 - leader - (leader % 3 + 1);
        let mut scrubs = found(&[third]);
        let late = scrubs.0[0].reports.remove(&(leader % 3 + 1)).unwrap();
        tell(&mut rig, &scrubs);
        rig.run(1_000);
        assert_eq!(entries(&rig, leader, "INSERT INTO _understudy_scrub"), 0);
        scrubs.0[0].reports.insert(leader % 3 + 1, late);
        tell(&mut rig, &scrubs);
        rig.run(1_000);
        assert_eq!(entries(&rig, leader, "INSERT INTO _understudy_scrub"), 1);
    }
}
