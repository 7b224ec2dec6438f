//! Who waits for what becomes of readings, and what they are told: how far all of them
//! have come, and which are not stored.
//!
//! The numbers of one caller's readings follow one another. A number comes forward
//! only, however often it is told to have come.

use alloc::{collections::BTreeMap, string::String, vec::Vec};

use crate::{
    error::Refusal,
    event::{Millis, Reply, RequestId},
    limits::{INTAKE_CALLERS_MAX, INTAKE_READINGS_MAX},
    readings::{Level, Receipt},
    sql,
};

/// How far a reading has come.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Come {
    /// It is in memory.
    Here,
    /// It is on this board's disk.
    Safe,
    /// It is committed, or refused.
    Through,
}

struct Caller {
    id: RequestId,
    until: Level,
    deadline: Millis,
    come: Vec<Come>,
    /// How many of them are not safe, and not through.
    unsafe_left: usize,
    left: usize,
    refused: Vec<(u32, String)>,
}

/// See the module's description.
#[derive(Default)]
pub(crate) struct Callers {
    /// By the first of their numbers.
    waiting: BTreeMap<u64, Caller>,
    /// Numbers that are waited for.
    numbers: usize,
    told: Vec<(RequestId, Reply)>,
}

impl Callers {
    /// Is there no room for another with so many readings?
    pub(crate) fn are_full(&self, count: usize) -> bool {
        self.numbers + count > 2 * INTAKE_READINGS_MAX || self.waiting.len() >= INTAKE_CALLERS_MAX
    }

    /// Somebody waits until so many readings have come so far, from this number on.
    pub(crate) fn wait(
        &mut self,
        first: u64,
        count: usize,
        (id, until, deadline): (RequestId, Level, Millis),
    ) {
        let come = alloc::vec![Come::Here; count];
        let (unsafe_left, left, refused) = (count, count, Vec::new());
        self.waiting
            .insert(first, Caller { id, until, deadline, come, unsafe_left, left, refused });
        self.numbers += count;
    }

    fn of(&mut self, number: u64) -> Option<(u64, &mut Caller)> {
        let (first, caller) = self.waiting.range_mut(..=number).next_back()?;
        let place = usize::try_from(number - first).ok()?;
        (place < caller.come.len()).then_some((*first, caller))
    }

    /// A reading has come so far.
    pub(crate) fn come(&mut self, number: u64, come: Come) {
        let Some((first, caller)) = self.of(number) else { return };
        let place = usize::try_from(number - first).expect("it is one of the caller's");
        let before = caller.come[place];
        if before >= come {
            return;
        }
        caller.come[place] = come;
        caller.unsafe_left -= usize::from(before == Come::Here);
        caller.left -= usize::from(come == Come::Through);
        match (caller.left, caller.unsafe_left, caller.until) {
            (0, _, _) => self.tell(first, Level::Committed),
            (_, 0, Level::Spooled) => self.tell(first, Level::Spooled),
            _ => {}
        }
    }

    /// A reading is not stored, and why.
    pub(crate) fn refuse(&mut self, number: u64, why: &str) {
        if let Some((first, caller)) = self.of(number) {
            let place = u32::try_from(number - first).unwrap_or(u32::MAX);
            caller.refused.push((place, String::from(why)));
        }
        self.come(number, Come::Through);
    }

    fn tell(&mut self, first: u64, level: Level) {
        let Some(caller) = self.waiting.remove(&first) else { return };
        self.numbers -= caller.come.len();
        let mut refused = caller.refused;
        refused.sort_unstable_by_key(|(place, _)| *place);
        let answer = sql::encode(&Receipt { level, refused });
        self.told.push((caller.id, Reply::Done { index: 0, answer }));
    }

    /// Who has an answer now.
    pub(crate) fn take_told(&mut self) -> Vec<(RequestId, Reply)> {
        core::mem::take(&mut self.told)
    }

    /// Those whose time is up hear how far their readings have come.
    pub(crate) fn expire(&mut self, now: Millis) {
        let late = self.waiting.iter().filter(|(_, caller)| caller.deadline <= now);
        let late: Vec<_> = late.map(|(first, caller)| (*first, caller.unsafe_left)).collect();
        for (first, unsafe_left) in late {
            if unsafe_left == 0 {
                self.tell(first, Level::Spooled);
            } else if let Some(caller) = self.waiting.remove(&first) {
                self.numbers -= caller.come.len();
                self.told.push((caller.id, Reply::Refused(Refusal::OutcomeUnknown)));
            }
        }
    }

    /// When the next one's time is up.
    pub(crate) fn deadline(&self) -> Option<Millis> {
        self.waiting.values().map(|caller| caller.deadline).min()
    }
}
