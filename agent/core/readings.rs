//! Readings: what a sensor process hands to the board it sits on, and what becomes
//! of it: plain data, never interpreted by the core but for who it is from.
//!
//! A reading is stamped and numbered once, at the board it came to. Its number is
//! what makes it one: however often it travels, the ledger of its board in
//! `state.db` says whether it is stored. Numbers rise, and no start of a board gives
//! one of another start again: none leaves a board before the group knows of its start
//! (`beginning`).
//!
//! Times are microseconds since 1970 in UTC, or, where the board did not know the
//! time, far below all of these: its start and the milliseconds of its boot time,
//! in that order, so that the readings of one sensor stay in order until they are
//! put right.
//!
//! Enums and fields only grow at the end.

use alloc::{string::String, vec::Vec};

use serde::{Deserialize, Serialize};

use crate::{member::NodeId, sql::Value};

/// First byte of what a leader is asked about readings: no [`crate::sql::SqlRequest`]
/// begins with it.
const MARK: u8 = 0xf0;

/// Numbers that one start of a board may give.
const NUMBERS_PER_START: u64 = 1 << 40;

/// Times below this are no wall time, microseconds: 36,000 years before our era.
pub const UNSET_BELOW: i64 = -(1 << 60);

/// The first start's first millisecond.
const UNSET_FROM: i64 = i64::MIN;

/// Milliseconds of boot time that are told apart: 34 years.
const UNSET_MS: u64 = 1 << 40;

/// Starts that are told apart; beyond, they begin anew.
const UNSET_STARTS: u64 = 1 << 22;

/// How far a reading has come when its caller is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Level {
    /// On this board's disk, and on its way.
    Spooled,
    /// On the disks of a majority.
    Committed,
}

/// One reading, as it was stamped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reading {
    /// The sensor's name.
    pub sensor: String,
    /// Microseconds since 1970, or what [`time_unset`] says.
    pub time: i64,
    /// A number or a short text.
    pub value: Value,
    /// The caller's own name for it: given again within a day, it is the same reading.
    pub id: Option<String>,
    /// Fencing token of the duty it was taken for.
    pub token: Option<u64>,
    /// Its time is far from that of the board it came to.
    pub is_far: bool,
}

/// Readings that came together, to be stored. Answered with a [`Receipt`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arrivals {
    /// In order of arrival.
    pub readings: Vec<Reading>,
    /// Answered as soon as all of them have come so far.
    pub until: Level,
    /// Others may join them for so long, milliseconds.
    pub window_ms: u64,
}

/// What has become of [`Arrivals`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// How far all but the refused have come: less than was asked for when the time
    /// for that was up.
    pub level: Level,
    /// Places among the arrivals that are not stored, and why.
    pub refused: Vec<(u32, String)>,
}

/// Readings on their way to the leader, or in a board's spool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// The board they came to.
    pub board: NodeId,
    /// No reading of that board with a lower number will ever come again.
    pub floor: u64,
    /// Each with its number, ascending.
    pub readings: Vec<(u64, Reading)>,
    /// Numbers whose readings a full spool has given up: they are resolved with these.
    pub given_up: Vec<Run>,
}

/// Numbers at one distance from each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// The first.
    pub first: u64,
    /// From one to the next.
    pub step: u64,
    /// How many.
    pub count: u32,
}

impl Run {
    /// All of them.
    pub fn numbers(self) -> impl Iterator<Item = u64> {
        (0..u64::from(self.count))
            .map(move |n| self.first.saturating_add(n.saturating_mul(self.step)))
    }

    /// Ascending numbers as few runs.
    #[must_use]
    pub fn of(numbers: &[u64]) -> Vec<Self> {
        let mut runs: Vec<Self> = Vec::new();
        for number in numbers {
            match runs.last_mut() {
                Some(run) if run.count == 1 && *number > run.first => {
                    (run.step, run.count) = (*number - run.first, 2);
                }
                Some(run) if run.first + run.step * u64::from(run.count) == *number => {
                    run.count += 1
                }
                _ => runs.push(Self { first: *number, step: 1, count: 1 }),
            }
        }
        runs
    }
}

/// A board's clock was set: its readings of that start are put right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockFix {
    /// Which board.
    pub board: NodeId,
    /// In which start.
    pub boot: u64,
    /// The moment its boot time began, microseconds since 1970.
    pub began_us: i64,
}

/// What the leader's agent knows of time when it tends the readings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tending {
    /// Now, microseconds since 1970; none while the leader's clock is not set.
    pub wall_us: Option<i64>,
    /// Boot time, milliseconds, and the leader's start that it belongs to.
    pub boot_ms: u64,
    /// The board and its start that `boot_ms` is of.
    pub start: (NodeId, u64),
    /// Another board whose clock is set has the same time, within a minute.
    pub is_agreed: bool,
}

/// What a leader is asked to do about readings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Work {
    /// Store these. Answered with a [`Verdict`].
    Store(Batch),
    /// Put times right. Answered with how many rows may be left, a `u64`.
    Clock(ClockFix),
    /// Roll up and trim what is due. Answered with how much may be left, a `u64`; refused
    /// where nothing is due.
    Tend(Tending),
}

/// What the leader says of a batch: all in it is stored but these.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Numbers, and why each is not stored and never will be.
    pub refused: Vec<(u64, String)>,
}

/// In why a reading is refused whose token no duty has.
pub const LATE: &str = "comes too late";

/// In why a reading is refused for whose id there is no room.
pub const IDS_FULL: &str = "ids of readings are remembered";

/// In why a reading is refused for whose time there is no room: a later one there may be.
pub const NO_PLACE: &str = "too many readings of this sensor have this very time";

/// Is a reading that is refused for this reason fine in itself, so that it may be taken when it
/// is offered again?
#[must_use]
pub fn may_be_taken_later(reason: &str) -> bool {
    reason.contains(LATE) || reason.contains(IDS_FULL)
}

impl Work {
    /// For the wire and for effects.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::from([MARK]);
        bytes.extend(crate::sql::encode(self));
        bytes
    }

    /// Is this request about readings?
    #[must_use]
    pub fn is_work(request: &[u8]) -> bool {
        request.first() == Some(&MARK)
    }

    /// Reads what [`Work::encode`] wrote; none of anything else.
    #[must_use]
    pub fn decode(request: &[u8]) -> Option<Self> {
        let (mark, rest) = request.split_first()?;
        (*mark == MARK).then(|| crate::sql::decode(rest).ok())?
    }
}

/// The first number that this start of a board gives.
#[must_use]
pub const fn first_number(boot: u64) -> u64 {
    boot.saturating_mul(NUMBERS_PER_START)
}

/// The start of a board that gave this number.
#[must_use]
pub const fn start_of(number: u64) -> u64 {
    number / NUMBERS_PER_START
}

/// The time of a reading that was taken while its board did not know the time.
#[must_use]
pub const fn time_unset(boot: u64, boot_ms: u64) -> i64 {
    let ms = if boot_ms < UNSET_MS { boot_ms } else { UNSET_MS - 1 };
    UNSET_FROM + ((boot % UNSET_STARTS) * UNSET_MS + ms).cast_signed()
}

/// Start and boot time in milliseconds of a time that [`time_unset`] made; none of a
/// wall time.
#[must_use]
pub const fn unset_of(time: i64) -> Option<(u64, u64)> {
    if time >= UNSET_BELOW {
        return None;
    }
    let since = time.wrapping_sub(UNSET_FROM).cast_unsigned();
    Some((since / UNSET_MS, since % UNSET_MS))
}

/// Readings as they stand in an entry, decided by the leader: applied as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// The board they came to.
    pub board: NodeId,
    /// As in [`Batch`].
    pub floor: u64,
    /// Sensors nobody knew before, with the numbers they have from now on.
    pub sensors: Vec<(i64, String)>,
    /// In order of their numbers.
    pub rows: Vec<StoredRow>,
    /// Numbers that came to nothing, each with nothing else in the entry.
    pub nothing: Vec<u64>,
    /// As in [`Batch`].
    pub given_up: Vec<Run>,
    /// When the leader saw the ids of these rows, microseconds since 1970; none where
    /// its clock was not set, or no row has an id.
    pub ids_us: Option<i64>,
    /// Ids remembered under lower numbers than this are forgotten.
    pub ids_before: u64,
}

/// One reading in an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRow {
    /// Its number at the board it came to.
    pub number: u64,
    /// Its sensor's.
    pub sensor: i64,
    /// Where it stands: its time, or the next that was free.
    pub time: i64,
    /// As it came.
    pub value: Value,
    /// As it came.
    pub id: Option<String>,
    /// As it came.
    pub token: Option<u64>,
    /// As it came.
    pub is_far: bool,
}

/// An operation on readings that does the same on every board and ships no rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Rows of this sensor before this time go: readings, or of a width in seconds
    /// what was rolled up.
    Trim {
        /// Which.
        sensor: i64,
        /// Seconds of what was rolled up; 0 for the readings themselves.
        width_s: u32,
        /// Microseconds since 1970.
        before: i64,
    },
    /// So many readings of this sensor get the times they should have had.
    Clock {
        /// Whose clock was set.
        fix: ClockFix,
        /// Which sensor.
        sensor: i64,
        /// The first of them, at most.
        rows_max: u32,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_an_unset_clock_are_in_order_and_before_all_others() {
        let times = [(1, 0), (1, 1), (1, UNSET_MS + 5), (2, 0), (UNSET_STARTS - 1, UNSET_MS)];
        let times = times.map(|(boot, ms)| time_unset(boot, ms));
        assert!(times.is_sorted() && times[4] < UNSET_BELOW, "{times:?}");
        assert_eq!(unset_of(times[1]), Some((1, 1)));
        assert_eq!(unset_of(times[2]), Some((1, UNSET_MS - 1)));
        assert_eq!((unset_of(UNSET_BELOW), unset_of(0)), (None, None));
    }

    #[test]
    fn numbers_at_one_distance_are_one_run() {
        let numbers = [5, 7, 9, 11, 20, 21, 40];
        let runs = Run::of(&numbers);
        assert_eq!(runs.len(), 3, "{runs:?}");
        assert!(runs.iter().flat_map(|run| run.numbers()).eq(numbers));
    }

    #[test]
    fn work_is_never_taken_for_sql() {
        let work = Work::Store(Batch { board: 3, ..Batch::default() });
        assert_eq!(Work::decode(&work.encode()), Some(work.clone()));
        assert!(crate::sql::decode::<crate::sql::SqlRequest>(&work.encode()).is_err());
        assert!(!Work::is_work(&[]) && Work::decode(&[MARK]).is_none());
    }
}
