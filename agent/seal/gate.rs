//! What stands before the costly part of a handshake: each call is looked at
//! once, and only so many in a second. Only what bears the group's MAC comes this
//! far, so that a flood of forgeries spends nothing that others need.

use std::collections::VecDeque;

use understudy_core::event::Millis;

use super::Drop;

/// Calls remembered, of all callers together: those of a group that starts at
/// once, many times over. 8 KB.
const CALLS_SEEN_MAX: usize = 1_024;

/// Answers per second, to all callers together.
const ANSWERS_PER_S: u64 = 50;

/// So many within a second, and no more.
#[derive(Default)]
pub(super) struct Ration {
    spent: u64,
    since: Millis,
}

impl Ration {
    pub(super) fn spend(&mut self, now: Millis) -> Result<(), Drop> {
        if now.since(self.since) >= 1_000 {
            *self = Self { spent: 0, since: now };
        }
        if self.spent >= ANSWERS_PER_S {
            return Err(Drop::Rationed);
        }
        self.spent += 1;
        Ok(())
    }
}

/// See the module's description.
#[derive(Default)]
pub(super) struct Gate {
    ration: Ration,
    seen: VecDeque<u64>,
}

impl Gate {
    /// Lets a call through, once.
    pub(super) fn pass(&mut self, now: Millis, call: u64) -> Result<(), Drop> {
        if self.seen.contains(&call) {
            return Err(Drop::Replayed);
        }
        self.ration.spend(now)?;
        if self.seen.len() >= CALLS_SEEN_MAX {
            self.seen.pop_front();
        }
        self.seen.push_back(call);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_call_passes_once_within_a_bound_of_memory_and_of_haste() {
        let mut gate = Gate::default();
        for call in 0..2_000_u64 {
            let now = Millis(1_000 * call);
            assert_eq!(gate.pass(now, call), Ok(()));
            assert_eq!(gate.pass(now, call), Err(Drop::Replayed));
            assert_eq!(gate.pass(now, call.saturating_sub(900)), Err(Drop::Replayed));
        }
        assert_eq!(gate.seen.len(), CALLS_SEEN_MAX);
        let passed = (5_000..5_100).filter(|call| gate.pass(Millis(9_000_000), *call).is_ok());
        assert_eq!(passed.count() as u64, ANSWERS_PER_S);
        assert_eq!(gate.pass(Millis(9_001_000), 5_099), Ok(()), "refused is not seen");
    }
}
