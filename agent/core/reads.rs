//! Reads: which may be answered at once, which wait for a ReadIndex round, and
//! which wait until the database has caught up with the index they need.

use alloc::{collections::BTreeMap, vec::Vec};

use crate::{
    error::Refusal,
    event::{Millis, NodeId, Reply, RequestId},
    limits::{QUERIES_OPEN_MAX, REQUESTS_WAITING_MAX},
    rounds::Rounds,
};

/// One caller's read.
#[derive(Clone, Debug)]
pub(crate) struct Read {
    pub(crate) id: RequestId,
    pub(crate) sql: Vec<u8>,
    pub(crate) deadline: Millis,
    /// Largest age of what it is run on, when it is handed to the database.
    pub(crate) freshness_ms: Option<u64>,
    /// The agent's, which a fenced board answers as well.
    pub(crate) is_own: bool,
}

/// See the module's description.
pub(crate) struct Reads {
    pub(crate) rounds: Rounds<Read>,
    /// Waiting for the database to reach an index.
    indexed: Vec<(u64, Read)>,
    /// With the database, by the effect's number, and the index they are read at.
    open: BTreeMap<u64, (Read, u64)>,
}

impl Reads {
    pub(crate) const fn new(node: NodeId, boot: u64) -> Self {
        Self { rounds: Rounds::new(node, boot, 0), indexed: Vec::new(), open: BTreeMap::new() }
    }

    /// Takes a read for the next round.
    pub(crate) fn gather(&mut self, read: Read) -> Result<(), RequestId> {
        if self.len() >= REQUESTS_WAITING_MAX {
            return Err(read.id);
        }
        self.rounds.gather(read);
        Ok(())
    }

    /// Takes a read that may be answered once `index` is applied.
    pub(crate) fn at(&mut self, index: u64, read: Read) -> Result<(), RequestId> {
        if self.len() >= REQUESTS_WAITING_MAX {
            return Err(read.id);
        }
        self.indexed.push((index, read));
        Ok(())
    }

    fn len(&self) -> usize {
        self.rounds.len() + self.indexed.len() + self.open.len()
    }

    /// A round is answered: its reads need `index`.
    pub(crate) fn confirmed(&mut self, context: &[u8], index: u64) {
        let reads = self.rounds.confirmed(context);
        self.indexed.extend(reads.into_iter().map(|read| (index, read)));
    }

    /// The next read that `applied` is enough for, while the database has room.
    pub(crate) fn next_query(&mut self, applied: u64) -> Option<Read> {
        if self.open.len() >= QUERIES_OPEN_MAX {
            return None;
        }
        let place = self.indexed.iter().position(|(index, _)| *index <= applied)?;
        Some(self.indexed.remove(place).1)
    }

    /// A read is with the database.
    pub(crate) fn querying(&mut self, number: u64, read: Read, applied: u64) {
        self.open.insert(number, (read, applied));
    }

    /// The database has answered.
    pub(crate) fn queried(&mut self, number: u64, answer: Vec<u8>) -> Option<(Read, Reply)> {
        let (read, index) = self.open.remove(&number)?;
        Some((read, Reply::Done { index, answer }))
    }

    /// The database lost what it was at: its reads start again.
    pub(crate) fn reset(&mut self) {
        let open = core::mem::take(&mut self.open);
        self.indexed.extend(open.into_values().map(|(read, index)| (index, read)));
    }

    /// Reads whose time is up: `unanswered` is why those got no index to wait for,
    /// `behind` why it was not reached.
    pub(crate) fn expire(
        &mut self,
        now: Millis,
        unanswered: &Refusal,
        behind: &Refusal,
    ) -> Vec<(RequestId, Reply)> {
        let mut late = Vec::new();
        let mut keep = |read: &Read, refusal: &Refusal| {
            let keep = read.deadline > now;
            if !keep {
                late.push((read.id, Reply::Refused(refusal.clone())));
            }
            keep
        };
        self.rounds.retain(|read| keep(read, unanswered));
        self.indexed.retain(|(_, read)| keep(read, behind));
        late
    }

    /// When to ask again or give up next.
    pub(crate) fn deadline(&self, retry_ms: u64) -> Option<Millis> {
        let gathering = self.rounds.gathered().map(|read| read.deadline);
        let indexed = self.indexed.iter().map(|(_, read)| read.deadline);
        let round = self.rounds.deadline(retry_ms);
        gathering.chain(indexed).chain(round).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(id: RequestId) -> Read {
        Read { id, sql: Vec::new(), deadline: Millis(1_000), freshness_ms: None, is_own: false }
    }

    #[test]
    fn reads_of_one_round_wait_for_its_index() {
        let mut reads = Reads::new(1, 1);
        reads.gather(read(1)).unwrap();
        let context = reads.rounds.next(Millis(0), 100).unwrap();
        reads.gather(read(2)).unwrap();
        assert!(reads.rounds.next(Millis(50), 100).is_none());
        reads.confirmed(&context, 7);
        assert!(reads.next_query(6).is_none());
        assert_eq!(reads.next_query(7).map(|read| read.id), Some(1));
        assert!(reads.next_query(7).is_none());
    }

    #[test]
    fn a_read_the_database_lost_is_asked_again() {
        let mut reads = Reads::new(1, 1);
        reads.at(3, read(1)).unwrap();
        let open = reads.next_query(4).unwrap();
        reads.querying(9, open, 4);
        reads.reset();
        assert!(reads.queried(9, Vec::new()).is_none());
        assert!(reads.next_query(3).is_none());
        assert_eq!(reads.next_query(4).map(|read| read.id), Some(1));
    }

    #[test]
    fn a_read_whose_time_is_up_is_refused_wherever_it_waits() {
        let mut reads = Reads::new(1, 1);
        reads.gather(read(1)).unwrap();
        reads.rounds.next(Millis(0), 100).unwrap();
        reads.gather(read(2)).unwrap();
        reads.at(9, read(3)).unwrap();
        assert!(reads.expire(Millis(999), &Refusal::NoLeader, &Refusal::TimedOut).is_empty());
        let refused = |id, refusal| (id, Reply::Refused(refusal));
        assert_eq!(
            reads.expire(Millis(1_000), &Refusal::NoLeader, &Refusal::TimedOut),
            [
                refused(2, Refusal::NoLeader),
                refused(1, Refusal::NoLeader),
                refused(3, Refusal::TimedOut)
            ]
        );
        assert!(reads.rounds.next(Millis(2_000), 100).is_none());
    }
}
