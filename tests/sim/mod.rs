//! The simulator: a whole group of real nodes over the real journal and database
//! code, on virtual time, from one number.
//!
//! What is real: every node, every line of `store`, every byte SQLite writes.
//! What is simulated: the disks under SQLite (`vfs`), the network and the clocks
//! (`world`, `agenda`), the drivers' threads (`threads`), the callers (`calls`), sensors
//! (`readings`),
//! what goes wrong (`faults`, `deposed`), who comes and goes (`moves`), which groups have a
//! witness (`witnesses`), a disk that stalls (`stall`), groups whose datagrams are sealed, some by
//! the road through brokers (`post`, `mail`, `broker`). Not in the loop: sockets, HTTP, and the
//! seal of all other groups. What must hold stands in `check`.

mod agenda;
mod board;
mod broker;
mod calls;
mod check;
mod deposed;
mod duties;
mod faults;
mod file;
mod large;
mod lateness;
mod locks;
mod mail;
mod moves;
mod post;
mod random;
mod readings;
mod stall;
mod threads;
mod vfs;
mod witnesses;
mod world;

pub use large::{Crossing, Held, Roads};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
pub use stall::{Stall, Stalled};

/// What a seed came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The broken rule, if one broke.
    pub violation: Option<String>,
    /// Simulated time.
    pub simulated_ms: u64,
    /// Boards that lost power or ended themselves.
    pub crashes: u64,
    /// Those of them inside a write or sync.
    pub inside: u64,
    /// Writes acknowledged.
    pub acknowledged: u64,
    /// Reads answered, of levels that promise something.
    pub reads: u64,
    /// Boards whose rows were changed behind their agents' backs, and which are fenced
    /// in the end.
    pub diverged: u64,
    /// And of those, boards that took the right ones from another.
    pub repaired: u64,
    /// States taken from another board, these among them.
    pub installed: u64,
    /// Boards that joined or were removed.
    #[serde(default)]
    pub moves: u64,
    /// And those that took the place of one whose card was emptied.
    #[serde(default)]
    pub replaced: u64,
    /// Old cards put back.
    #[serde(default)]
    pub put_back: u64,
    /// Boards that burnt.
    #[serde(default)]
    pub burnt: u64,
    /// Readings told as committed.
    #[serde(default)]
    pub stored: u64,
    /// And as spooled.
    #[serde(default)]
    pub spooled: u64,
    /// Duties taken.
    #[serde(default)]
    pub taken: u64,
    /// Datagrams that brokers took.
    #[serde(default)]
    pub posted: u64,
    /// Datagrams that fell to the window of their session soon: repeated, most of them.
    #[serde(default)]
    pub replayed: u64,
    /// And those that did long after they were said.
    #[serde(default)]
    pub overtaken: u64,
    /// Payloads taken long after they were said: all there was came as late.
    #[serde(default)]
    pub old: u64,
    /// Equal for equal runs.
    pub trace: u64,
    /// Time it took, of one core.
    pub cpu_ms: u64,
}

/// Runs one seed; `verbose` tells on standard error what happens.
#[must_use]
pub fn run(seed: u64, verbose: bool) -> Report {
    let started = cpu_ms();
    let mut report = world::run(seed, verbose);
    report.cpu_ms = cpu_ms() - started;
    report
}

/// Time of a core that this thread has had: others on the machine do not count.
fn cpu_ms() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let part = |number: i64| u64::try_from(number).unwrap_or(0);
    part(time.tv_sec) * 1_000 + part(time.tv_nsec) / 1_000_000
}
