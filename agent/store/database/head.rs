//! The one row that says what is applied: written in the transaction that applied
//! it, of fixed size, and with a hash over every entry ever applied.

use understudy_core::event::{Entry, EntryKind, Position};

/// Version of what is in the file; another is refused by name.
const FORMAT: u8 = 8;

/// Its table. Written only when it is committed: boards differ in it while they
/// agree.
pub(super) const HEAD: &str = "_understudy_applied";

/// The one row that says what is applied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) applied: Position,
    pub(super) last_id: u64,
    pub(super) chain: u64,
}

const HEAD_BYTES: usize = 40;

impl Head {
    /// Of fixed size, so that rewriting it leaves the page's layout alone.
    pub(super) fn encode(self) -> [u8; HEAD_BYTES] {
        let mut bytes = [0; HEAD_BYTES];
        bytes[0] = FORMAT;
        let numbers = [self.applied.index, self.applied.term, self.last_id, self.chain];
        for (place, number) in bytes[8..].chunks_exact_mut(8).zip(numbers) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, String> {
        match bytes.first() {
            Some(&FORMAT) if bytes.len() == HEAD_BYTES => {}
            Some(other) => {
                return Err(format!(
                    "state.db has format version {other}, this program reads {FORMAT}"
                ));
            }
            None => return Err(String::from("state.db does not say what it holds")),
        }
        let number = |at: usize| {
            let place = bytes.get(8 * at..8 * at + 8).and_then(|bytes| bytes.try_into().ok());
            place.map_or(0, u64::from_le_bytes)
        };
        let applied = Position { index: number(1), term: number(2) };
        Ok(Self { applied, last_id: number(3), chain: number(4) })
    }

    /// This entry is applied now; the chain covers every byte ever applied.
    pub(super) fn advance(&mut self, entry: &Entry) {
        let kind = match entry.kind {
            EntryKind::Change => 0_u8,
            EntryKind::Membership => 1,
        };
        let numbers = [self.chain, entry.index, entry.term];
        let head = numbers.iter().flat_map(|number| number.to_le_bytes());
        let bytes = head.chain([kind]).chain(entry.data.iter().copied());
        self.chain = fnv1a(bytes);
        self.applied = entry.position();
    }
}

/// FNV-1a, 64 bits (Fowler, Noll, Vo): finds differences, proves nothing.
pub(super) fn fnv1a(bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
