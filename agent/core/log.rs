//! The part of the log that memory holds, as raft-rs reads it.
//!
//! Invariants:
//! - entries in memory are consecutive and end at the last index; every entry
//!   above the applied index is among them, so raft-rs never waits for the
//!   journal except when it sends (0.7.0 panics in any other place). An election
//!   looks at all unapplied entries at once there (paged upstream by #530): here
//!   they are in memory anyway, bounded by [`limits::UNAPPLIED_BYTES_MAX`];
//! - the term of every index is known, as runs, from the entry before the first on;
//! - what was read back from the journal is kept until it was sent, in a few
//!   bounded chunks.
//!
//! Left out: durability. An entry is readable here before it is on disk; the
//! node tells raft-rs when it is.

use alloc::{
    collections::{BTreeMap, VecDeque},
    vec::Vec,
};
use core::cell::RefCell;

use protobuf::Message as _;
use raft::{
    GetEntriesContext, RaftState, Storage, StorageError,
    prelude::{
        ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2, ConfState, EntryType,
        Snapshot,
    },
};

use crate::{
    error::Rejection,
    event::{Entry, EntryKind, HardState, NodeId, Position},
    limits,
    member::{Member, Membership, MembershipChange},
    restored::TermRun,
};

/// raft-rs's own entry.
pub(crate) type RaftEntry = raft::prelude::Entry;

/// A read of older entries that raft-rs waits for.
pub(crate) struct FetchWish {
    /// First index.
    pub(crate) low: u64,
    /// Index after the last.
    pub(crate) high: u64,
}

/// See the module's description.
pub(crate) struct Log {
    /// As at the start; raft-rs asks for it once.
    hard_state: HardState,
    /// As of what is applied.
    membership: Membership,
    applied: Position,
    /// The entry before the first: its place is known, no more.
    start: Position,
    terms: Vec<TermRun>,
    entries: VecDeque<RaftEntry>,
    entries_bytes: u64,
    last_index: u64,
    fetches: RefCell<Fetches>,
}

#[derive(Default)]
struct Fetches {
    /// Who waits for entries from an index on; the number once an effect is out.
    waiting: BTreeMap<u64, Waiting>,
    /// Read back, by first index, oldest first in `order`.
    chunks: BTreeMap<u64, Vec<RaftEntry>>,
    order: VecDeque<u64>,
}

struct Waiting {
    high: u64,
    asked: bool,
    contexts: Vec<GetEntriesContext>,
}

impl Log {
    /// The log as the journal left it; `tail` is everything above the applied index.
    pub(crate) fn new(
        hard_state: HardState,
        membership: Membership,
        (start, terms): (Position, Vec<TermRun>),
        last_index: u64,
        tail: Vec<Entry>,
    ) -> Self {
        let ascend =
            |pair: &[TermRun]| pair[0].first < pair[1].first && pair[0].term < pair[1].term;
        assert!(terms.windows(2).all(ascend), "terms only rise along the log");
        let mut log = Self {
            hard_state,
            membership,
            applied: Position::default(),
            start,
            terms,
            entries: VecDeque::new(),
            entries_bytes: 0,
            last_index,
            fetches: RefCell::default(),
        };
        for entry in tail {
            log.hold(to_raft(entry).expect("journalled entries were checked when they came"));
        }
        log
    }

    /// Makes entries readable, in place of everything from the first of them on.
    pub(crate) fn append(&mut self, entries: &[RaftEntry]) {
        let Some(first) = entries.first() else { return };
        assert!(first.index <= self.last_index + 1, "entries leave a gap in the log");
        self.truncate(first.index);
        for entry in entries {
            if self.terms.last().is_none_or(|run| run.term != entry.term) {
                self.terms.push(TermRun { first: entry.index, term: entry.term });
            }
            self.last_index = entry.index;
            self.hold(entry.clone());
        }
    }

    fn hold(&mut self, entry: RaftEntry) {
        self.entries_bytes += data_bytes(&entry);
        self.entries.push_back(entry);
    }

    fn truncate(&mut self, from: u64) {
        while self.entries.back().is_some_and(|entry| entry.index >= from) {
            let entry = self.entries.pop_back().expect("just seen");
            self.entries_bytes -= data_bytes(&entry);
        }
        while self.terms.last().is_some_and(|run| run.first >= from) {
            self.terms.pop();
        }
        self.last_index = self.last_index.min(from - 1);
        let fetches = self.fetches.get_mut();
        fetches.chunks.retain(|_, chunk| chunk.last().is_some_and(|entry| entry.index < from));
        let Fetches { chunks, order, .. } = fetches;
        order.retain(|low| chunks.contains_key(low));
    }

    /// The log begins after `end` from now on, unless it does already; where that is.
    pub(crate) fn compact(&mut self, end: u64) -> Option<Position> {
        let term = self.term_of(end).filter(|_| end > self.start.index)?;
        self.start = Position { term, index: end };
        let before = self.terms.partition_point(|run| run.first <= end);
        self.terms.drain(..before.saturating_sub(1));
        while self.entries.front().is_some_and(|entry| entry.index <= end) {
            let entry = self.entries.pop_front().expect("just seen");
            self.entries_bytes -= data_bytes(&entry);
        }
        let Fetches { chunks, order, .. } = self.fetches.get_mut();
        chunks.retain(|low, _| *low > end);
        order.retain(|low| chunks.contains_key(low));
        Some(self.start)
    }

    /// Lets go of entries up to `applied`, but for the newest few that followers
    /// close behind will want.
    pub(crate) fn release(&mut self, applied: Position) {
        self.applied = applied;
        while self.entries_bytes > limits::LOG_CACHE_BYTES
            && self.entries.front().is_some_and(|entry| entry.index <= applied.index)
        {
            let entry = self.entries.pop_front().expect("just seen");
            self.entries_bytes -= data_bytes(&entry);
        }
    }

    pub(crate) fn set_membership(&mut self, membership: &Membership) {
        self.membership = membership.clone();
    }

    /// The log begins anew, after this entry.
    pub(crate) fn restart(&mut self, start: Position) {
        (self.start, self.applied, self.last_index) = (start, start, start.index);
        self.terms.clear();
        self.entries.clear();
        self.entries_bytes = 0;
        *self.fetches.get_mut() = Fetches::default();
    }

    /// Bytes held for entries above `applied`, beside their data as well.
    pub(crate) fn bytes_above(&self, applied: u64) -> u64 {
        let above = |entry: &&RaftEntry| entry.index > applied;
        let held = |entry| data_bytes(entry) + limits::ENTRY_OVERHEAD_BYTES;
        self.entries.iter().rev().take_while(above).map(held).sum()
    }

    pub(crate) fn term_of(&self, index: u64) -> Option<u64> {
        if index == self.start.index {
            return Some(self.start.term);
        }
        if index < self.start.index || index > self.last_index {
            return None;
        }
        let run = self.terms.partition_point(|run| run.first <= index).checked_sub(1)?;
        Some(self.terms[run].term)
    }

    /// Who waited for what is no longer there.
    pub(crate) fn take_hopeless(&mut self) -> Vec<GetEntriesContext> {
        let waiting = &mut self.fetches.get_mut().waiting;
        let hopeless = waiting.range(..=self.start.index).filter(|(_, wish)| !wish.asked);
        let hopeless: Vec<u64> = hopeless.map(|(low, _)| *low).collect();
        let contexts = hopeless.iter().filter_map(|low| Some(waiting.remove(low)?.contexts));
        contexts.flatten().collect()
    }

    /// Reads that raft-rs waits for and nobody has asked the journal for yet.
    pub(crate) fn take_wishes(&mut self) -> Vec<FetchWish> {
        let waiting = &mut self.fetches.get_mut().waiting;
        let fresh = waiting.iter_mut().filter(|(_, wish)| !wish.asked);
        fresh
            .map(|(low, wish)| {
                wish.asked = true;
                FetchWish { low: *low, high: wish.high }
            })
            .collect()
    }

    /// Keeps what the journal read back, and returns who waited for it.
    pub(crate) fn fetched(&mut self, low: u64, entries: Vec<Entry>) -> Vec<GetEntriesContext> {
        let entries: Vec<_> = entries
            .into_iter()
            .filter(|entry| self.term_of(entry.index) == Some(entry.term))
            .map(|entry| to_raft(entry).expect("journalled entries were checked when they came"))
            .collect();
        let fetches = self.fetches.get_mut();
        if !entries.is_empty() {
            fetches.keep(low, entries);
        }
        fetches.waiting.remove(&low).map(|wish| wish.contexts).unwrap_or_default()
    }

    /// Entries `low..high` that memory holds, at least one and at most one piece
    /// of `bytes_max` of data; `None` when `low` is only in the journal.
    pub(crate) fn in_memory(&self, low: u64, high: u64, bytes_max: u64) -> Option<Vec<Entry>> {
        let held = low >= self.in_memory_from();
        let most = (bytes_max, limits::LOG_PIECE_ENTRIES_MAX);
        held.then(|| self.slice(low, high, most).iter().map(from_raft).collect())
    }

    /// First index that memory holds, or the one after the last.
    pub(crate) fn in_memory_from(&self) -> u64 {
        self.entries.front().map_or(self.last_index + 1, |entry| entry.index)
    }

    fn slice(&self, low: u64, high: u64, most: (u64, usize)) -> Vec<RaftEntry> {
        let skip = usize::try_from(low - self.in_memory_from()).expect("within memory");
        let count = usize::try_from(high - low).expect("within memory");
        within(self.entries.iter().skip(skip).take(count), most)
    }
}

impl Fetches {
    fn keep(&mut self, low: u64, entries: Vec<RaftEntry>) {
        if self.chunks.insert(low, entries).is_none() {
            self.order.push_back(low);
        }
        let data = |chunk: &Vec<RaftEntry>| chunk.iter().map(data_bytes).sum::<u64>();
        let mut bytes: u64 = self.chunks.values().map(data).sum();
        while self.order.len() > limits::LOG_CHUNKS_MAX
            || bytes > limits::LOG_CHUNKS_BYTES_MAX && self.order.len() > 1
        {
            let oldest = self.order.pop_front().expect("longer than the bound");
            bytes -= self.chunks.remove(&oldest).as_ref().map_or(0, data);
        }
    }

    /// Beyond the bound a wish is lost, and comes again with the follower's next answer.
    fn wish(&mut self, low: u64, high: u64, context: GetEntriesContext) {
        if self.waiting.len() == limits::FETCHES_OPEN_MAX && !self.waiting.contains_key(&low) {
            return;
        }
        let wish =
            self.waiting.entry(low).or_insert(Waiting { high, asked: false, contexts: Vec::new() });
        if wish.contexts.len() < limits::MEMBERS_MAX {
            wish.contexts.push(context);
        }
    }

    fn chunk(&self, low: u64, high: u64, most: (u64, usize)) -> Option<Vec<RaftEntry>> {
        let (_, chunk) = self.chunks.range(..=low).next_back()?;
        let wanted = chunk.iter().filter(|entry| (low..high).contains(&entry.index));
        let entries = within(wanted, most);
        (!entries.is_empty()).then_some(entries)
    }
}

impl Storage for Log {
    fn initial_state(&self) -> raft::Result<RaftState> {
        let mut hard_state = raft::prelude::HardState::default();
        hard_state.term = self.hard_state.term;
        hard_state.vote = self.hard_state.vote;
        hard_state.commit = self.hard_state.commit;
        Ok(RaftState { hard_state, conf_state: conf_state(&self.membership) })
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        context: GetEntriesContext,
    ) -> raft::Result<Vec<RaftEntry>> {
        if low <= self.start.index {
            return Err(raft::Error::Store(StorageError::Compacted));
        }
        // Only a piece that is sent may be short of what was asked for.
        let entries_max =
            if context.can_async() { limits::LOG_PIECE_ENTRIES_MAX } else { usize::MAX };
        let most = (max_size.into().unwrap_or(u64::MAX), entries_max);
        if low >= self.in_memory_from() {
            return Ok(self.slice(low, high, most));
        }
        assert!(context.can_async(), "entries above the applied index are always in memory");
        let mut fetches = self.fetches.borrow_mut();
        if let Some(entries) = fetches.chunk(low, high, most) {
            return Ok(entries);
        }
        fetches.wish(low, high, context);
        Err(raft::Error::Store(StorageError::LogTemporarilyUnavailable))
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        let missing = match index < self.start.index {
            true => StorageError::Compacted,
            false => StorageError::Unavailable,
        };
        self.term_of(index).ok_or(raft::Error::Store(missing))
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.start.index + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last_index)
    }

    /// Whoever gets it pulls pages: it says from where on.
    fn snapshot(&self, request_index: u64, _to: u64) -> raft::Result<Snapshot> {
        if self.applied.index == 0 || self.applied.index < request_index {
            return Err(raft::Error::Store(StorageError::SnapshotTemporarilyUnavailable));
        }
        let mut snapshot = Snapshot::default();
        let metadata = snapshot.mut_metadata();
        (metadata.index, metadata.term) = (self.applied.index, self.applied.term);
        metadata.set_conf_state(conf_state(&self.membership));
        Ok(snapshot)
    }
}

fn data_bytes(entry: &RaftEntry) -> u64 {
    entry.data.len() as u64
}

/// The first of these, one at least, within so many bytes of data and entries.
fn within<'a>(
    entries: impl Iterator<Item = &'a RaftEntry>,
    (bytes_max, entries_max): (u64, usize),
) -> Vec<RaftEntry> {
    let mut bytes = 0;
    let mut taken = Vec::new();
    for entry in entries {
        bytes += data_bytes(entry);
        let full = bytes > bytes_max || taken.len() == entries_max;
        if full && !taken.is_empty() {
            break;
        }
        taken.push(entry.clone());
    }
    taken
}

/// Our entry as raft-rs wants it: membership becomes protobuf, here alone.
pub(crate) fn to_raft(entry: Entry) -> Result<RaftEntry, Rejection> {
    let mut raft = RaftEntry { index: entry.index, term: entry.term, ..RaftEntry::default() };
    match entry.kind {
        EntryKind::Change => {
            raft.set_entry_type(EntryType::EntryNormal);
            raft.data = entry.data.into();
        }
        EntryKind::Membership => {
            let change = crate::sql::decode(&entry.data).map_err(|_| Rejection::Malformed)?;
            let step = conf_change(&change);
            raft.set_entry_type(EntryType::EntryConfChangeV2);
            raft.data = step.write_to_bytes().map_err(|_| Rejection::Malformed)?.into();
            raft.context = entry.data.into();
        }
    }
    Ok(raft)
}

/// raft-rs's entry as we journal and send it.
pub(crate) fn from_raft(entry: &RaftEntry) -> Entry {
    let (kind, data) = match entry.get_entry_type() {
        EntryType::EntryNormal => (EntryKind::Change, entry.data.to_vec()),
        EntryType::EntryConfChange | EntryType::EntryConfChangeV2 => {
            (EntryKind::Membership, entry.context.to_vec())
        }
    };
    Entry { index: entry.index, term: entry.term, kind, data }
}

/// The membership as raft-rs keeps it.
pub(crate) fn conf_state(membership: &Membership) -> ConfState {
    let Membership { members, outgoing, .. } = membership;
    // One that is to follow still votes until the voters before no longer count.
    let ids = |voter: bool, before: bool| {
        let wanted = |member: &&Member| {
            member.voter == voter && (voter || outgoing.contains(&member.id) == before)
        };
        members.iter().filter(wanted).map(|member| member.id).collect()
    };
    ConfState {
        voters: ids(true, false),
        learners: ids(false, false),
        learners_next: ids(false, true),
        voters_outgoing: outgoing.clone(),
        ..ConfState::default()
    }
}

/// The Raft step of a membership change. Two sets of voters are left by an entry of
/// ours: raft-rs's own would bring no change with it, and is lost with its leader.
pub(crate) fn conf_change(change: &MembershipChange) -> ConfChangeV2 {
    let mut step = ConfChangeV2::default();
    match change {
        MembershipChange::Add(member)
        | MembershipChange::Admit(member, _)
        | MembershipChange::Witness(member, _) => {
            step.changes = Vec::from([vote(member)]).into();
        }
        MembershipChange::Joint(members) => {
            step.set_transition(ConfChangeTransition::Explicit);
            step.changes = members.iter().map(vote).collect::<Vec<_>>().into();
        }
        MembershipChange::Remove(id) => {
            step.changes = Vec::from([single(*id, ConfChangeType::RemoveNode)]).into();
        }
        MembershipChange::Rest(id) => {
            step.changes = Vec::from([single(*id, ConfChangeType::AddLearnerNode)]).into();
        }
        MembershipChange::Leave => {}
        // No board has this id: a step that leads nowhere.
        MembershipChange::Wake(_)
        | MembershipChange::Invite(_)
        | MembershipChange::Revoke(_)
        | MembershipChange::KeyInstall(_)
        | MembershipChange::KeyUse(_)
        | MembershipChange::KeyForget(_) => {
            step.changes = Vec::from([single(0, ConfChangeType::AddNode)]).into();
        }
    }
    step
}

fn vote(member: &Member) -> ConfChangeSingle {
    let kind = if member.voter { ConfChangeType::AddNode } else { ConfChangeType::AddLearnerNode };
    single(member.id, kind)
}

fn single(node: NodeId, kind: ConfChangeType) -> ConfChangeSingle {
    let mut single = ConfChangeSingle { node_id: node, ..ConfChangeSingle::default() };
    single.set_change_type(kind);
    single
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    fn log(last_index: u64) -> Log {
        let terms = vec![TermRun { first: 1, term: 1 }];
        let terms = (Position::default(), terms);
        Log::new(HardState::default(), Membership::default(), terms, last_index, Vec::new())
    }

    fn fetched(log: &mut Log, index: u64, bytes: u64) {
        let data = vec![7; usize::try_from(bytes).unwrap()];
        log.fetched(index, vec![Entry { index, term: 1, kind: EntryKind::Change, data }]);
    }

    fn kept(log: &Log) -> Vec<u64> {
        let fetches = log.fetches.borrow();
        assert_eq!(fetches.chunks.len(), fetches.order.len());
        fetches.chunks.keys().copied().collect()
    }

    #[test]
    fn pieces_read_back_are_bounded_by_count_and_by_bytes() {
        let mut log = log(100);
        for index in 1..=20 {
            fetched(&mut log, index, 10);
        }
        assert_eq!(kept(&log), (13..=20).collect::<Vec<_>>());
        fetched(&mut log, 30, limits::LOG_CHUNKS_BYTES_MAX / 2);
        fetched(&mut log, 31, limits::LOG_CHUNKS_BYTES_MAX / 2);
        assert_eq!(kept(&log), [30, 31], "the oldest gave way");
        fetched(&mut log, 40, limits::ENTRY_BYTES_MAX as u64);
        assert_eq!(kept(&log), [40], "the newest is kept however large it is");
    }

    #[test]
    fn what_is_cut_off_is_told_apart_from_what_never_was() {
        let terms = [(1, 1), (40, 2), (70, 5)].map(|(first, term)| TermRun { first, term });
        let terms = (Position::default(), terms.to_vec());
        let (hard_state, membership) = (HardState::default(), Membership::default());
        let mut log = Log::new(hard_state, membership, terms, 100, Vec::new());
        fetched(&mut log, 30, 10);
        let wish = GetEntriesContext::empty(true);
        assert!(log.entries(20, 50, None, wish).is_err());
        assert_eq!(log.compact(50), Some(Position { term: 2, index: 50 }));
        assert_eq!(log.compact(50), None);
        assert_eq!((log.first_index(), kept(&log).len()), (Ok(51), 0));
        assert_eq!((log.term(50), log.term(51), log.term(70)), (Ok(2), Ok(2), Ok(5)));
        assert_eq!(log.term(49), Err(raft::Error::Store(StorageError::Compacted)));
        assert_eq!(log.term(101), Err(raft::Error::Store(StorageError::Unavailable)));
        assert_eq!(log.take_hopeless().len(), 1);
        assert!(log.take_wishes().is_empty(), "the journal is not asked for what it lost");
        let wish = GetEntriesContext::empty(true);
        let gone = log.entries(50, 60, None, wish);
        assert_eq!(gone.err(), Some(raft::Error::Store(StorageError::Compacted)));
    }

    #[test]
    fn pieces_of_a_suffix_that_was_replaced_are_forgotten() {
        let mut log = log(100);
        fetched(&mut log, 50, 10);
        fetched(&mut log, 60, 10);
        log.truncate(60);
        assert_eq!(kept(&log), [50]);
    }
}
