//! How long a statement may run: a deadline for writes, a number of steps for
//! reads between two entries. SQLite asks every thousand steps. And when a request
//! has run for so long that none of its statements is begun any more.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed},
};

use rusqlite::Connection;
use understudy_core::{event::Millis, limits::REQUEST_MS_MAX};

/// SQLite's virtual machine steps between two questions.
const STEPS: i32 = 1_000;

/// Is it too late, by the stopwatch, for another statement of a request?
pub(super) const fn is_late(begun_ns: u64, now_ns: u64) -> bool {
    now_ns.saturating_sub(begun_ns) / 1_000_000 >= REQUEST_MS_MAX
}

/// See the module's description.
pub(super) struct Budget {
    shared: Arc<Shared>,
    clock: fn() -> Millis,
}

struct Shared {
    deadline: AtomicU64,
    questions: AtomicI64,
    spent: AtomicBool,
}

impl Budget {
    pub(super) fn new(clock: fn() -> Millis) -> Self {
        let shared = Shared {
            deadline: AtomicU64::new(u64::MAX),
            questions: AtomicI64::new(i64::MAX),
            spent: AtomicBool::new(false),
        };
        Self { shared: Arc::new(shared), clock }
    }

    pub(super) fn install(&self, connection: &mut Connection) -> rusqlite::Result<()> {
        let (shared, clock) = (Arc::clone(&self.shared), self.clock);
        connection.progress_handler(
            STEPS,
            Some(move || {
                let left = shared.questions.fetch_sub(1, Relaxed);
                let deadline = shared.deadline.load(Relaxed);
                let spent = left <= 0 || (deadline != u64::MAX && clock().0 >= deadline);
                shared.spent.fetch_or(spent, Relaxed);
                spent
            }),
        )
    }

    /// The next statements end within `ms`.
    pub(super) fn limit_time(&self, ms: u64) {
        self.set((self.clock)().plus(ms).0, i64::MAX);
    }

    /// The next statements end within `thousands` of steps.
    pub(super) fn limit_steps(&self, thousands: i64) {
        self.set(u64::MAX, thousands);
    }

    /// No limit: our own work.
    pub(super) fn lift(&self) {
        self.set(u64::MAX, i64::MAX);
    }

    fn set(&self, deadline: u64, questions: i64) {
        self.shared.deadline.store(deadline, Relaxed);
        self.shared.questions.store(questions, Relaxed);
        self.shared.spent.store(false, Relaxed);
    }

    /// Was it used up since it was last set?
    pub(super) fn is_spent(&self) -> bool {
        self.shared.spent.load(Relaxed)
    }
}
