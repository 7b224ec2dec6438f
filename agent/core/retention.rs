//! How much of the log is kept behind the database.
//!
//! A follower that is behind gets entries as long as the log holds them, and pages
//! of the database after that, which cost more. So the newest entries are kept, up
//! to a number and to a number of bytes, whichever comes first; more while a board
//! that is heard wants them. What the database does not hold for good is never
//! taken out, however much it is: that is what the journal is for. A witness keeps what
//! any other may lack as well, unless the group allows it to give that up.
//!
//! Entries are counted in stretches and go a stretch at a time, with a write that
//! happens anyway. After a suffix was replaced the last stretch counts for more than
//! it holds, until it goes.

use alloc::collections::VecDeque;

use crate::{
    event::{Cut, Millis, Position},
    limits::{
        LOG_CUT_BYTES_MAX, LOG_CUT_ENTRIES_MAX, LOG_KEPT_BYTES, LOG_KEPT_ENTRIES, LOG_KEPT_WANTED,
        LOG_ROW_BYTES, LOG_STRETCH_ENTRIES, LOG_STRETCHES, WITNESS_KEPT_BYTES,
        WITNESS_KEPT_ENTRIES, WITNESS_LOG_BYTES,
    },
    mutant,
    node::Node,
    restored::{Restored, Stretch},
};

/// How much of the log is kept at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The newest so many entries,
    pub entries: u64,
    /// or, where those are more, so many bytes of the newest.
    pub bytes: u64,
}

impl Default for Kept {
    fn default() -> Self {
        Self { entries: LOG_KEPT_ENTRIES, bytes: LOG_KEPT_BYTES }
    }
}

impl Kept {
    const fn times(self, factor: u64) -> Self {
        Self { entries: self.entries * factor, bytes: self.bytes * factor }
    }
}

/// See the module's description.
pub(crate) struct Retention {
    kept: Kept,
    /// Ascending; each goes on to the next one's first.
    stretches: VecDeque<Stretch>,
    bytes: u64,
    last_index: u64,
    /// Up to where the database holds everything for good.
    durable: u64,
    /// Up to where all that keep the users' rows hold everything, as a witness knows;
    /// nobody else has to care.
    held: u64,
    /// What was taken out before they were known to hold it ended here.
    given_up: u64,
    /// Of a witness: what all may take, bytes.
    budget: u64,
    /// And whether it gives up what is too much.
    gives_up: bool,
}

impl Retention {
    fn new(stretches: impl IntoIterator<Item = Stretch>, last_index: u64) -> Self {
        let stretches: VecDeque<_> = stretches.into_iter().collect();
        let bytes = stretches.iter().map(|stretch| stretch.bytes).sum();
        Self {
            kept: Kept::default(),
            stretches,
            bytes,
            last_index,
            durable: 0,
            held: u64::MAX,
            given_up: 0,
            budget: u64::MAX,
            gives_up: false,
        }
    }

    /// Of what a start finds. A witness has been told nothing yet.
    pub(crate) fn of(witness: bool, restored: &Restored) -> Self {
        let retention = Self::new(restored.stretches.iter().copied(), restored.last_index);
        if !witness {
            return retention;
        }
        Self {
            kept: Kept { entries: WITNESS_KEPT_ENTRIES, bytes: WITNESS_KEPT_BYTES },
            held: 0,
            given_up: restored.given_up,
            budget: WITNESS_LOG_BYTES,
            ..retention
        }
    }

    pub(crate) const fn set_budget(&mut self, bytes: u64) {
        self.budget = bytes;
    }

    pub(crate) const fn set_gives_up(&mut self, gives_up: bool) {
        self.gives_up = gives_up;
    }

    /// What all hold once they hold for good.
    pub(crate) fn set_held(&mut self, index: u64) {
        self.held = self.held.max(index);
    }

    /// It takes more than it may.
    pub(crate) const fn is_full(&self) -> bool {
        self.bytes > self.budget
    }

    /// Up to where it lacks what another may lack too; 0 for no.
    pub(crate) fn lacks(&self) -> u64 {
        if self.given_up > self.held && !mutant::is(53) { self.given_up } else { 0 }
    }

    pub(crate) fn keep(&mut self, kept: Kept) {
        self.kept = kept;
    }

    pub(crate) fn durable(&mut self, index: u64) {
        self.durable = self.durable.max(index);
    }

    /// An entry with so much data comes at the end, or in place of a suffix.
    pub(crate) fn append(&mut self, index: u64, data_bytes: u64) {
        while self.stretches.back().is_some_and(|stretch| stretch.first >= index) {
            self.bytes -= self.stretches.pop_back().map_or(0, |stretch| stretch.bytes);
        }
        let full = (self.kept.bytes / LOG_STRETCHES).max(1);
        let has_room =
            |stretch: &Stretch| index - stretch.first < LOG_STRETCH_ENTRIES && stretch.bytes < full;
        if !self.stretches.back().is_some_and(has_room) {
            self.stretches.push_back(Stretch { first: index, bytes: 0 });
        }
        let bytes = data_bytes + LOG_ROW_BYTES;
        if let Some(last) = self.stretches.back_mut() {
            last.bytes += bytes;
        }
        self.bytes += bytes;
        self.last_index = index;
    }

    pub(crate) const fn is_durable(&self, index: u64) -> bool {
        self.durable >= index
    }

    /// The log begins anew, after this index.
    pub(crate) fn restart(&mut self, index: u64) {
        self.stretches.clear();
        self.bytes = 0;
        self.last_index = index;
        self.given_up = index;
    }

    /// The last index of what may go with the next write, of what is `applied`. From
    /// `wanted` on, a board that is heard wants entries.
    pub(crate) fn cut(&mut self, applied: u64, wanted: u64) -> Option<u64> {
        let (mut cut, mut entries, mut bytes) = (None, 0, 0);
        while let [first, second, ..] = *self.stretches.make_contiguous() {
            entries += second.first - first.first;
            bytes += first.bytes;
            let end = second.first - 1;
            let over = entries > LOG_CUT_ENTRIES_MAX || bytes > LOG_CUT_BYTES_MAX;
            if end > applied || self.must_stay(end, first.bytes, wanted) || over && cut.is_some() {
                break;
            }
            self.bytes -= first.bytes;
            self.stretches.pop_front();
            cut = Some(end);
        }
        cut
    }

    /// Without the entries up to `end` there would be less than is kept.
    fn must_stay(&self, end: u64, bytes: u64, wanted: u64) -> bool {
        let kept = self.kept.times(if end >= wanted { LOG_KEPT_WANTED } else { 1 });
        let is_enough = self.last_index - end >= kept.entries || self.bytes - bytes >= kept.bytes;
        let may_go = end <= self.held || self.gives_up && self.is_full() || mutant::is(50);
        end > self.durable || !is_enough || !may_go
    }

    /// Up to here it is taken out; was it known that all hold that?
    const fn gone(&mut self, start: Position) -> Cut {
        if start.index <= self.held {
            return Cut::UpTo(start);
        }
        self.given_up = start.index;
        Cut::GivenUp(start)
    }
}

impl Node {
    /// How much of the log is kept at least.
    pub fn set_kept(&mut self, kept: Kept) {
        self.retention.keep(kept);
    }

    /// What goes with the next write of the journal.
    pub(crate) fn next_cut(&mut self, now: Millis) -> Option<Cut> {
        let (applied, wanted) = (self.applier.applied().index, self.wanted_from(now));
        let end = self.retention.cut(applied, wanted)?;
        let start = self.raw.mut_store().compact(end)?;
        Some(self.retention.gone(start))
    }

    /// The first index that a board wants which this leader hears.
    fn wanted_from(&self, now: Millis) -> u64 {
        let unreachable_ms = self.config.timing.unreachable_ms;
        let heard = |id: &u64| self.leads() && self.heard_within(now, *id, unreachable_ms);
        let others = self.boards().into_iter().filter(|id| *id != self.config.id && heard(id));
        let next = others.filter_map(|id| Some(self.raw.raft.prs().get(id)?.matched + 1));
        next.chain(self.source.wanted_from()).min().unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retention(entries: u64, data_bytes: u64, bytes: u64) -> Retention {
        let mut retention = Retention::new([], 0);
        retention.keep(Kept { entries: 200, bytes });
        for index in 1..=entries {
            retention.append(index, data_bytes);
        }
        retention
    }

    #[test]
    fn entries_beyond_those_kept_go_once_the_database_holds_them_for_good() {
        let mut retention = retention(1_000, 8, 1 << 20);
        assert_eq!(retention.cut(u64::MAX, u64::MAX), None, "nothing is known to be durable");
        retention.durable(400);
        assert_eq!(retention.cut(u64::MAX, u64::MAX), Some(384), "a stretch at a time");
        retention.durable(1_000);
        assert_eq!(retention.cut(500, u64::MAX), Some(448), "the database may be ahead");
        assert_eq!(retention.cut(u64::MAX, u64::MAX), Some(768), "200 stay");
        assert_eq!(retention.cut(u64::MAX, u64::MAX), None);
    }

    #[test]
    fn bytes_beyond_those_kept_go_as_well() {
        let mut retention = retention(90, 10_000, 100_000);
        retention.durable(90);
        let cut = retention.cut(u64::MAX, u64::MAX).unwrap();
        assert!((78..=80).contains(&cut), "{cut}");
        assert!(retention.bytes >= 100_000);
    }

    #[test]
    fn what_a_board_that_is_heard_wants_stays_twice_as_long() {
        let mut retention = retention(1_000, 8, 1 << 20);
        retention.durable(1_000);
        assert_eq!(retention.cut(u64::MAX, 300), Some(576), "400 stay");
        assert_eq!(retention.cut(u64::MAX, u64::MAX), Some(768));
    }

    fn of_witness(budget: u64) -> Retention {
        let mut retention = Retention::of(true, &Restored::default());
        retention.set_budget(budget);
        retention.durable(u64::MAX);
        for index in 1..=1_000 {
            retention.append(index, 1_000);
        }
        retention
    }

    fn cut_all(retention: &mut Retention) -> u64 {
        core::iter::from_fn(|| retention.cut(u64::MAX, u64::MAX)).last().unwrap_or(0)
    }

    #[test]
    fn a_witness_keeps_what_another_may_lack_whatever_it_takes() {
        let mut retention = of_witness(100_000);
        assert_eq!(
            (cut_all(&mut retention), retention.is_full()),
            (0, true),
            "it was told nothing"
        );
        retention.set_held(400);
        let cut = cut_all(&mut retention);
        assert!((390..=400).contains(&cut), "{cut}");
        retention.set_held(300);
        retention.set_held(1_000);
        let cut = cut_all(&mut retention);
        assert!((740..=750).contains(&cut), "{cut}: some is kept for who is close behind");
        let start = Position { term: 1, index: cut };
        assert_eq!((retention.gone(start), retention.lacks()), (Cut::UpTo(start), 0));
    }

    #[test]
    fn a_witness_that_may_gives_up_no_more_than_is_too_much_and_says_so() {
        let mut retention = of_witness(600_000);
        retention.set_held(100);
        retention.set_gives_up(true);
        let cut = cut_all(&mut retention);
        assert!((415..=430).contains(&cut) && !retention.is_full(), "{cut}");
        let start = Position { term: 1, index: cut };
        assert_eq!(retention.gone(start), Cut::GivenUp(start));
        assert_eq!(retention.lacks(), cut);
        retention.set_held(cut);
        assert_eq!(retention.lacks(), 0, "all others have it by now");
    }

    #[test]
    fn one_write_takes_out_no_more_than_one_may_bring() {
        let mut retention = retention(3 * LOG_CUT_ENTRIES_MAX, 8, 1 << 20);
        retention.durable(u64::MAX);
        let cuts: alloc::vec::Vec<_> =
            core::iter::from_fn(|| retention.cut(u64::MAX, u64::MAX)).collect();
        assert_eq!(cuts[..2], [LOG_CUT_ENTRIES_MAX, 2 * LOG_CUT_ENTRIES_MAX]);
        assert_eq!(cuts.len(), 3);
    }

    #[test]
    fn a_suffix_that_is_replaced_is_not_counted_twice_for_long() {
        let mut retention = retention(1_000, 8, 1 << 20);
        for index in 500..=1_000 {
            retention.append(index, 8);
        }
        assert!(retention.bytes <= (1_000 + LOG_STRETCH_ENTRIES) * 40, "{}", retention.bytes);
        retention.restart(2_000);
        retention.append(2_001, 8);
        assert_eq!((retention.bytes, retention.cut(u64::MAX, u64::MAX)), (40, None));
    }
}
