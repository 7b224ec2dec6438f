//! Planted bugs, to prove that the simulator and the tests would find them. Compiled in
//! only under `--cfg mutants`, and into the core's own tests, and chosen by number at run
//! time; otherwise every question below is the constant `false` and costs nothing.

/// A planted bug and what it breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mutant {
    /// What `cargo sim --mutants` calls it.
    pub number: u32,
    /// What it does wrong.
    pub name: &'static str,
}

/// All of them, ascending by number.
pub const ALL: &[Mutant] = &[
    Mutant { number: 1, name: "commit index not clamped to applied at start" },
    Mutant { number: 2, name: "vote not persisted" },
    Mutant { number: 3, name: "sent before persisted" },
    Mutant { number: 4, name: "acknowledged before a quorum has it" },
    Mutant { number: 5, name: "compaction bound at applied instead of durable" },
    Mutant { number: 6, name: "applied index outside the transaction" },
    Mutant { number: 7, name: "base of a batch not checked" },
    Mutant { number: 8, name: "autocommit not checked after a failed step" },
    Mutant { number: 9, name: "forwarded request executed twice" },
    Mutant { number: 10, name: "failed sync taken for a success" },
    Mutant { number: 11, name: "linearizable read served without asking a majority" },
    Mutant { number: 12, name: "conflicting suffix not removed from the journal" },
    Mutant { number: 13, name: "lost disk votes again" },
    Mutant { number: 14, name: "sqlite_sequence not captured" },
    Mutant { number: 15, name: "failed sync of the database tried again" },
    Mutant { number: 16, name: "a minority's digest fences the majority" },
    Mutant { number: 17, name: "a fenced leader goes on leading" },
    Mutant { number: 18, name: "a fenced board answers reads" },
    Mutant { number: 19, name: "a digest of what happens to be committed" },
    Mutant { number: 20, name: "fresh by a word whose entries are not applied" },
    Mutant { number: 25, name: "log begun anew before the state that came is durable" },
    Mutant { number: 26, name: "pages put aside earlier not compared again" },
    Mutant { number: 27, name: "log begun anew keeps its old entries" },
    Mutant { number: 28, name: "a follower is told once to take pages" },
    Mutant { number: 29, name: "a state that comes is not announced" },
    Mutant { number: 30, name: "triggers fire where a change is applied" },
    Mutant { number: 31, name: "rowids of tables without a key not carried" },
    Mutant { number: 32, name: "former key within a collation not removed" },
    Mutant { number: 33, name: "foreign keys stay on for the next request" },
    Mutant { number: 34, name: "statements beside a lost one told as done" },
    Mutant { number: 35, name: "rows in tables named like a dropped one left out" },
    Mutant { number: 40, name: "promoted without having been compared" },
    Mutant { number: 41, name: "promoted before it has caught up" },
    Mutant { number: 42, name: "a voter replaced as soon as it is silent" },
    Mutant { number: 43, name: "a token holds for ever" },
    Mutant { number: 44, name: "a removal below a majority of those heard" },
    Mutant { number: 45, name: "a removed leader goes on leading" },
    Mutant { number: 46, name: "the id of a removed board given again" },
    Mutant { number: 47, name: "a membership change raft-rs emptied told as done" },
    Mutant { number: 48, name: "frames of removed boards are taken" },
    Mutant { number: 50, name: "a witness trims what another board lacks" },
    Mutant { number: 51, name: "a witness goes on leading and executes" },
    Mutant { number: 52, name: "a witness counts as a copy" },
    Mutant { number: 53, name: "a witness gives up its tail unasked, and says nothing" },
    Mutant { number: 54, name: "voters beside a witness that lack what it gave up" },
    Mutant { number: 60, name: "keys forgotten while a member lacks the newest" },
    Mutant { number: 61, name: "a removal leaves the group's key as it is" },
    Mutant { number: 62, name: "guests are heard under any key" },
    Mutant { number: 63, name: "sessions outlive the key they were made under" },
    Mutant { number: 65, name: "a session begins before its other end can have it" },
    Mutant { number: 66, name: "what comes in a session that was left is taken for ever" },
    Mutant { number: 70, name: "copies of a card not noticed" },
    Mutant { number: 71, name: "copies of a card count as votes" },
    Mutant { number: 72, name: "a promise told to a start that was not met" },
    Mutant { number: 80, name: "a reading stored again after its number was resolved" },
    Mutant { number: 81, name: "a reading trimmed that is just young enough" },
    Mutant { number: 82, name: "what is rolled up again is added to what was" },
    Mutant { number: 83, name: "readings put right stay where they were" },
    Mutant { number: 84, name: "trimmed by a clock ahead that nobody agreed to" },
    Mutant { number: 85, name: "numbers that are outstanding count as resolved" },
    Mutant { number: 86, name: "safe readings lost with the entry that had them" },
    Mutant { number: 87, name: "readings told as spooled before the sync" },
    Mutant { number: 88, name: "readings numbered anew when they are sent again" },
    Mutant { number: 90, name: "a floor above what is in the spool" },
    Mutant { number: 91, name: "readings leave before the group knows of their start" },
    Mutant { number: 92, name: "of two starts of one count, one is taken for the other" },
    Mutant { number: 100, name: "leases without a margin for clocks" },
    Mutant { number: 101, name: "a voter that starts counts as long quiet" },
    Mutant { number: 102, name: "a new leader grants without waiting for the old one's leases" },
    Mutant { number: 103, name: "renewals answered while the grant is being replaced" },
    Mutant { number: 104, name: "a duty granted while another holds it" },
    Mutant { number: 105, name: "a lease counted from its answer" },
    Mutant { number: 106, name: "a holder that stood still acts on" },
    Mutant { number: 107, name: "an obituary of another start accepted" },
    Mutant { number: 108, name: "renewals answered without asking a majority" },
    Mutant { number: 109, name: "a former leader does not count as having acknowledged itself" },
    Mutant { number: 110, name: "two duties granted under one token" },
    Mutant { number: 111, name: "a token given again" },
    Mutant { number: 112, name: "an obituary before the command is gone" },
    Mutant { number: 113, name: "a duty given up before the command is gone" },
    Mutant { number: 114, name: "a late vote of a term before makes newer ones forgotten" },
    Mutant { number: 117, name: "a duty that never settles" },
    Mutant { number: 118, name: "a fence not held against the duty where a write is executed" },
    Mutant { number: 119, name: "a stale token's readings stored" },
    Mutant { number: 120, name: "a grant made by a shorter lease than the duty has" },
    Mutant { number: 130, name: "datagrams taken that were overtaken long ago" },
    Mutant { number: 131, name: "a datagram taken from each road that it comes by" },
    Mutant { number: 132, name: "nothing posted to a board that UDP ever reached" },
    Mutant { number: 133, name: "a board without UDP does not post to whom it hears by it" },
    Mutant { number: 134, name: "what comes by post counts as heard by UDP" },
    Mutant { number: 135, name: "a session that its other end has lost is kept" },
];

#[cfg(mutants)]
static CHOSEN: core::sync::atomic::AtomicU32 = core::sync::atomic::AtomicU32::new(0);

/// Chooses a planted bug for this process, 0 for none.
#[cfg(mutants)]
pub fn choose(number: u32) {
    CHOSEN.store(number, core::sync::atomic::Ordering::Relaxed);
}

/// Is this planted bug to misbehave now?
#[cfg(mutants)]
#[must_use]
pub fn is(number: u32) -> bool {
    let is_chosen = CHOSEN.load(core::sync::atomic::Ordering::Relaxed) == number;
    #[cfg(test)]
    let is_chosen = is_chosen || here::is(number);
    is_chosen
}

/// Is this planted bug to misbehave now? Never, in a build without them.
#[cfg(not(any(mutants, test)))]
#[must_use]
pub const fn is(_number: u32) -> bool {
    false
}

#[cfg(all(test, not(mutants)))]
pub(crate) use here::is;

/// In the core's own tests a thread can choose one for itself, in any build.
#[cfg(test)]
pub(crate) mod here {
    extern crate std;

    use core::cell::Cell;

    std::thread_local! {
        static CHOSEN: Cell<u32> = const { Cell::new(0) };
    }

    pub(crate) fn choose(number: u32) {
        CHOSEN.set(number);
    }

    pub(crate) fn is(number: u32) -> bool {
        CHOSEN.get() == number
    }
}
