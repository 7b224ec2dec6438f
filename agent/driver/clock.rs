//! The only reader of clocks: boot time for everything that waits, wall time
//! for stamps alone.

use std::{fs, path::Path};

use rustix::time::{ClockId, clock_gettime};
use understudy_core::event::Millis;

/// Boot time: counts through suspend, never steps.
#[must_use]
pub fn now() -> Millis {
    Millis(nanoseconds() / 1_000_000)
}

/// The same in nanoseconds: for telling how long something took, not for waiting.
#[must_use]
pub fn nanoseconds() -> u64 {
    nanoseconds_of(ClockId::Boottime)
}

fn nanoseconds_of(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanoseconds = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds * 1_000_000_000 + nanoseconds
}

/// Boot time and wall time at one moment, microseconds: for stamps alone.
#[must_use]
pub fn boot_and_wall_us() -> (i64, i64) {
    let us = |clock| (nanoseconds_of(clock) / 1_000).cast_signed();
    (us(ClockId::Boottime), us(ClockId::Realtime))
}

/// Does the wall clock follow a time server?
#[must_use]
pub fn is_synchronised() -> bool {
    crate::store::ffi::is_clock_synchronised()
}

/// Where the kernel shows the clocks that run without power.
const RTCS: &str = "/sys/class/rtc";

/// How far such a clock may be from the wall clock that was set from it, seconds.
const RTC_S_MAX: u64 = 10;

/// Was the wall clock set from a clock that runs without power, and does that still
/// say the same? One whose battery is empty begins anew, and a remembered time that
/// was put in its place differs.
#[must_use]
pub fn is_set_by_rtc() -> bool {
    let wall_s = boot_and_wall_us().1 / 1_000_000;
    let Ok(all) = fs::read_dir(RTCS) else { return false };
    all.flatten().any(|rtc| agrees(&rtc.path(), wall_s))
}

fn agrees(rtc: &Path, wall_s: i64) -> bool {
    let read = |name: &str| fs::read_to_string(rtc.join(name)).unwrap_or_default();
    let said = read("since_epoch").trim().parse::<i64>();
    read("hctosys").trim() == "1" && said.is_ok_and(|said| said.abs_diff(wall_s) <= RTC_S_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_without_power_counts_when_the_wall_clock_came_from_it_and_still_agrees() {
        let rtc = tempfile::tempdir().unwrap();
        let write = |name, text: &str| fs::write(rtc.path().join(name), text).unwrap();
        assert!(!agrees(rtc.path(), 1_700_000_000));
        write("hctosys", "1\n");
        write("since_epoch", "1700000009\n");
        assert!(agrees(rtc.path(), 1_700_000_000));
        assert!(!agrees(rtc.path(), 1_700_000_020), "a remembered time came after it");
        write("hctosys", "0\n");
        assert!(!agrees(rtc.path(), 1_700_000_009));
    }
}
