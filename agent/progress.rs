//! Does this board get on with its work? systemd's watchdog is fed only while it does: the
//! loop turns, the journal's disk answers, and what is committed is applied.
//!
//! Bounds go with what systemd waits for (`WatchdogSec=`). Cards stall for seconds, so a
//! piece of the journal's work may take half of that: with 60 s a disk is stuck after 30 s.
//! One change can be long in the applying on a small board, so the database has ten times
//! as long. What a new start would not cure is no reason for one: a full disk, a long read
//! that holds the database, pages that are taken from another board.
//!
//! Left out: the loop itself, which feeds the watchdog and so cannot be told that it does not.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use understudy_core::{event::Millis, status::NodeStatus};

/// A thread's present piece of work: the thread says when it begins, the loop asks for how
/// long it has been at it.
#[derive(Clone, Debug)]
pub struct Busy(Arc<AtomicU64>);

/// It waits for work.
const IDLE: u64 = u64::MAX;

impl Default for Busy {
    fn default() -> Self {
        Self(Arc::new(AtomicU64::new(IDLE)))
    }
}

impl Busy {
    /// A piece begins.
    pub fn begin(&self, now: Millis) {
        self.0.store(now.0, Ordering::Relaxed);
    }

    /// There is nothing to do.
    pub fn end(&self) {
        self.0.store(IDLE, Ordering::Relaxed);
    }

    /// Milliseconds since the present piece began; 0 where there is none.
    #[must_use]
    pub fn ms(&self, now: Millis) -> u64 {
        match self.0.load(Ordering::Relaxed) {
            IDLE => 0,
            began => now.since(Millis(began)),
        }
    }
}

/// What is seen of a board's work at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    /// The journal's thread has been at one piece for so long, milliseconds.
    pub journal_ms: u64,
    /// And the database's.
    pub database_ms: u64,
    /// Last index in the database.
    pub applied: u64,
    /// There is more to apply, and nothing forbids it.
    pub owes: bool,
}

impl Seen {
    /// Of these threads, and a node that is so.
    #[must_use]
    pub const fn of(journal_ms: u64, database_ms: u64, node: &NodeStatus) -> Self {
        let is_kept_from_it = node.disk_full
            || node.database_held
            || node.disk_lost
            || node.removed
            || node.pulls.is_some();
        let applied = node.applied.index;
        let owes = node.commit_index > applied && !is_kept_from_it;
        Self { journal_ms, database_ms, applied, owes }
    }
}

/// Whether what is committed comes to be applied.
#[derive(Debug, Default)]
pub struct Progress {
    applied: u64,
    /// Since when nothing more has been, though there was something to apply.
    since: Option<Millis>,
}

impl Progress {
    /// What is stuck, in words, if anything is. `watchdog_ms`: what systemd waits for.
    #[must_use]
    pub fn stuck(&mut self, now: Millis, seen: &Seen, watchdog_ms: u64) -> Option<String> {
        let (sync_ms, apply_ms) = (watchdog_ms / 2, watchdog_ms.saturating_mul(10));
        let is_moving = !seen.owes || seen.applied != self.applied;
        self.applied = seen.applied;
        let since = if is_moving { None } else { self.since };
        self.since = seen.owes.then(|| since.unwrap_or(now));
        let waits_ms = self.since.map_or(0, |since| now.since(since));
        if seen.journal_ms > sync_ms {
            return Some(format!(
                "the disk has not answered the journal for {} s",
                seen.journal_ms / 1_000
            ));
        }
        if seen.database_ms > apply_ms {
            return Some(format!(
                "the database has been at one piece of work for {} s",
                seen.database_ms / 1_000
            ));
        }
        (waits_ms > apply_ms).then(|| {
            format!(
                "nothing was applied for {} s after entry {}, though more is committed",
                waits_ms / 1_000,
                seen.applied
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use understudy_core::status::PullStatus;

    use super::*;

    const WATCHDOG_MS: u64 = 60_000;

    fn stuck(seen: &Seen) -> Option<String> {
        Progress::default().stuck(Millis(5), seen, WATCHDOG_MS)
    }

    #[test]
    fn a_card_that_stalls_is_slow_and_one_that_stalls_for_half_the_watchdog_is_stuck() {
        let journal = |journal_ms| stuck(&Seen { journal_ms, ..Seen::default() });
        assert_eq!((journal(0), journal(7_000), journal(30_000)), (None, None, None));
        assert!(journal(30_001).is_some_and(|why| why.contains("the journal for 30 s")));
        let database = |database_ms| stuck(&Seen { database_ms, ..Seen::default() });
        assert_eq!(database(600_000), None);
        assert!(
            database(601_000).is_some_and(|why| why.contains("at one piece of work for 601 s"))
        );
    }

    #[test]
    fn what_is_committed_and_never_applied_is_stuck() {
        let mut progress = Progress::default();
        let mut look = |at, applied, owes| {
            let seen = Seen { applied, owes, ..Seen::default() };
            progress.stuck(Millis(at), &seen, WATCHDOG_MS)
        };
        assert_eq!(look(1_000, 7, true), None);
        assert_eq!(look(500_000, 8, true), None, "it moves");
        assert_eq!(look(1_000_000, 8, true), None);
        assert_eq!(look(1_099_000, 8, false), None, "there is nothing to apply");
        assert_eq!(look(1_700_000, 8, true), None, "that counts anew");
        let told = look(2_301_000, 8, true);
        assert!(told.is_some_and(|why| why.contains("for 601 s after entry 8")));
        assert_eq!(look(2_302_000, 9, true), None);
    }

    #[test]
    fn what_a_new_start_would_not_cure_is_no_reason_for_one() {
        let status = NodeStatus { commit_index: 9, ..NodeStatus::default() };
        assert!(Seen::of(0, 0, &status).owes);
        let pulls = Some(PullStatus { from: 2, taken: 0, pages: None });
        for excused in [
            NodeStatus { disk_full: true, ..status.clone() },
            NodeStatus { database_held: true, ..status.clone() },
            NodeStatus { disk_lost: true, ..status.clone() },
            NodeStatus { removed: true, ..status.clone() },
            NodeStatus { pulls, ..status.clone() },
            NodeStatus { commit_index: 0, ..status.clone() },
        ] {
            assert!(!Seen::of(0, 0, &excused).owes, "{excused:?}");
        }
    }

    #[test]
    fn a_thread_is_busy_while_it_works() {
        let busy = Busy::default();
        assert_eq!(busy.ms(Millis(9)), 0);
        busy.begin(Millis(3));
        assert_eq!(busy.ms(Millis(9)), 6);
        busy.end();
        assert_eq!(busy.ms(Millis(9)), 0);
    }
}
