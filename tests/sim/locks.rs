//! Who holds which lock on a simulated file, as SQLite's own VFS would keep it: a
//! digest reads beside the writing connection, and a checkpoint must not take what
//! it reads from under it.

use std::{collections::BTreeMap, os::raw::c_int};

use rusqlite::ffi;

/// Slots of a WAL's shared memory.
const SLOTS: usize = 8;

/// Names an open file.
pub(crate) type Holder = u64;

/// Locks on one file.
#[derive(Default)]
pub(crate) struct Locks {
    /// Level held, of those that hold any.
    levels: BTreeMap<Holder, c_int>,
    /// Per slot: who reads, and who alone writes.
    slots: [Slot; SLOTS],
}

#[derive(Default)]
struct Slot {
    shared: Vec<Holder>,
    exclusive: Option<Holder>,
}

impl Locks {
    /// Raises a holder's level, if no other is in the way.
    pub(crate) fn lock(&mut self, holder: Holder, level: c_int) -> bool {
        let in_the_way = |held: c_int| match level {
            ffi::SQLITE_LOCK_SHARED => held >= ffi::SQLITE_LOCK_PENDING,
            ffi::SQLITE_LOCK_RESERVED => held >= ffi::SQLITE_LOCK_RESERVED,
            _ => held >= ffi::SQLITE_LOCK_SHARED,
        };
        let is_free =
            self.levels.iter().all(|(other, held)| *other == holder || !in_the_way(*held));
        if is_free {
            let held = self.levels.entry(holder).or_default();
            *held = level.max(*held);
        }
        is_free
    }

    pub(crate) fn unlock(&mut self, holder: Holder, level: c_int) {
        match level {
            ffi::SQLITE_LOCK_NONE => drop(self.levels.remove(&holder)),
            _ => drop(self.levels.insert(holder, level)),
        }
    }

    /// Somebody means to write, beside those that read.
    pub(crate) fn is_reserved(&self) -> bool {
        self.levels.values().any(|held| *held >= ffi::SQLITE_LOCK_RESERVED)
    }

    /// Takes or leaves slots of the shared memory; false when another is in the way.
    pub(crate) fn slots(
        &mut self,
        holder: Holder,
        (first, count): (usize, usize),
        flags: c_int,
    ) -> bool {
        let slots = &mut self.slots[first..first + count];
        let is_shared = flags & ffi::SQLITE_SHM_SHARED != 0;
        if flags & ffi::SQLITE_SHM_UNLOCK != 0 {
            slots.iter_mut().for_each(|slot| slot.leave(holder));
            return true;
        }
        let is_free = slots.iter().all(|slot| slot.is_free(holder, is_shared));
        if is_free {
            slots.iter_mut().for_each(|slot| slot.take(holder, is_shared));
        }
        is_free
    }

    /// The file was closed.
    pub(crate) fn leave(&mut self, holder: Holder) {
        self.levels.remove(&holder);
        self.slots.iter_mut().for_each(|slot| slot.leave(holder));
    }
}

impl Slot {
    fn is_free(&self, holder: Holder, is_shared: bool) -> bool {
        let exclusive = self.exclusive.is_none_or(|other| other == holder);
        exclusive && (is_shared || self.shared.iter().all(|other| *other == holder))
    }

    fn take(&mut self, holder: Holder, is_shared: bool) {
        if is_shared {
            self.shared.push(holder);
        } else {
            self.exclusive = Some(holder);
        }
    }

    fn leave(&mut self, holder: Holder) {
        self.shared.retain(|other| *other != holder);
        self.exclusive.take_if(|other| *other == holder);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_stand_side_by_side_and_a_writer_alone() {
        let mut locks = Locks::default();
        let shared = ffi::SQLITE_SHM_LOCK | ffi::SQLITE_SHM_SHARED;
        let exclusive = ffi::SQLITE_SHM_LOCK | ffi::SQLITE_SHM_EXCLUSIVE;
        let unlock = ffi::SQLITE_SHM_UNLOCK | ffi::SQLITE_SHM_SHARED;
        assert!(locks.slots(1, (3, 1), shared) && locks.slots(2, (3, 1), shared));
        assert!(!locks.slots(1, (3, 1), exclusive));
        assert!(locks.slots(2, (3, 1), unlock) && locks.slots(1, (3, 1), exclusive));
        assert!(locks.lock(1, ffi::SQLITE_LOCK_SHARED) && locks.lock(2, ffi::SQLITE_LOCK_SHARED));
        assert!(!locks.lock(1, ffi::SQLITE_LOCK_EXCLUSIVE));
        locks.leave(2);
        assert!(locks.lock(1, ffi::SQLITE_LOCK_EXCLUSIVE) && locks.is_reserved());
    }
}
