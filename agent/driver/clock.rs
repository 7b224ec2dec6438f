//! The only reader of clocks: boot time for everything that waits, wall time
//! for stamps alone.

use understudy_core::event::Millis;

/// Boot time: counts through suspend, never steps.
#[must_use]
pub fn now() -> Millis {
    Millis(nanoseconds() / 1_000_000)
}

/// The same in nanoseconds: for telling how long something took, not for waiting.
#[must_use]
pub fn nanoseconds() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanoseconds = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds * 1_000_000_000 + nanoseconds
}
