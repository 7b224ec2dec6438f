//! Rows hashed as they are read back: kind, length and bits of each value, so that
//! what SQL takes for equal and is not kept alike differs.

use rusqlite::{Row, types::ValueRef};

/// The values of one row.
pub(super) fn row(row: &Row<'_>, columns: usize) -> rusqlite::Result<u64> {
    let mut hash = Hash::default();
    for place in 0..columns {
        match row.get_ref(place)? {
            ValueRef::Null => hash.put(0),
            ValueRef::Integer(number) => {
                hash.put(1);
                hash.put(number.cast_unsigned());
            }
            ValueRef::Real(number) => {
                hash.put(2);
                hash.put(number.to_bits());
            }
            ValueRef::Text(bytes) => {
                hash.put(3);
                hash.bytes(bytes);
            }
            ValueRef::Blob(bytes) => {
                hash.put(4);
                hash.bytes(bytes);
            }
        }
    }
    Ok(hash.finish())
}

/// A word at a time; each step maps what was before one to one, so a difference in
/// one word is never lost. Finds differences, proves nothing against malice.
#[derive(Default)]
pub(crate) struct Hash(u64);

impl Hash {
    pub(crate) const fn new() -> Self {
        Self(0)
    }

    pub(crate) const fn put(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.put(bytes.len() as u64);
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.put(u64::from_le_bytes(word));
        }
    }

    /// Spread over all bits (the finalizer of SplitMix64).
    pub(crate) const fn finish(&self) -> u64 {
        let value = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        value ^ (value >> 31)
    }
}
