//! One file of a simulated disk: what is seen of it, what a power cut cannot take,
//! and what lies between the two.

use super::{locks::Locks, random::Random};

/// What a disk writes whole or not at all.
pub(crate) const SECTOR_BYTES: usize = 512;

/// A piece of a WAL's shared memory.
pub(crate) const REGION_BYTES: usize = 32_768;

#[derive(Default)]
pub(crate) struct File {
    pub(crate) live: Vec<u8>,
    pub(crate) durable: Vec<u8>,
    pub(crate) pending: Vec<Change>,
    pub(crate) regions: Vec<Box<[u8; REGION_BYTES]>>,
    pub(crate) locks: Locks,
}

pub(crate) enum Change {
    Write(usize, Vec<u8>),
    Truncate(usize),
}

impl File {
    pub(crate) fn write(&mut self, offset: usize, bytes: &[u8]) {
        apply(&mut self.live, &Change::Write(offset, bytes.to_vec()));
        self.pending.push(Change::Write(offset, bytes.to_vec()));
    }

    pub(crate) fn truncate(&mut self, length: usize) {
        apply(&mut self.live, &Change::Truncate(length));
        self.pending.push(Change::Truncate(length));
    }

    pub(crate) fn sync(&mut self) {
        for change in self.pending.drain(..) {
            apply(&mut self.durable, &change);
        }
    }

    /// What a power cut leaves: nothing of the unsynced, all, a beginning, or any
    /// part, the last write torn.
    pub(crate) fn survive(&mut self, random: &mut Random) {
        let way = random.below(4);
        let keep = random.below(self.pending.len() as u64 + 1);
        for (place, change) in (0..).zip(std::mem::take(&mut self.pending)) {
            let kept = match way {
                0 => false,
                1 => true,
                2 => place < keep,
                _ => random.chance(500),
            };
            match change {
                Change::Write(offset, bytes) if kept && way >= 2 && random.chance(300) => {
                    let sectors = bytes.len().div_ceil(SECTOR_BYTES) as u64;
                    let torn = random.below(sectors + 1) * SECTOR_BYTES as u64;
                    let torn = usize::try_from(torn).unwrap_or(0).min(bytes.len());
                    apply(&mut self.durable, &Change::Write(offset, bytes[..torn].to_vec()));
                }
                change if kept => apply(&mut self.durable, &change),
                Change::Write(..) | Change::Truncate(_) => {}
            }
        }
        self.live.clone_from(&self.durable);
        self.regions.clear();
        self.locks = Locks::default();
    }
}

fn apply(bytes: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Truncate(length) => bytes.truncate(*length),
        Change::Write(offset, written) => {
            let end = offset + written.len();
            if bytes.len() < end {
                bytes.resize(end, 0);
            }
            bytes[*offset..end].copy_from_slice(written);
        }
    }
}
