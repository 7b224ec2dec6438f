//! Numbers in few bits: Rice codes, lowest bit first, padded to a byte with zeros.
//!
//! A number is its upper part as so many ones and a zero, then its lower `k` bits.
//! One whose upper part is long stands whole behind [`ONES_MAX`] ones instead, so
//! that a single outlier costs little.

use alloc::vec::Vec;

use super::varint::CUT_SHORT;
use crate::error::ChangeError;

/// So many ones say that the number stands whole.
const ONES_MAX: u32 = 12;

/// Bits of the length of a number that stands whole.
const LENGTH_BITS: u32 = 6;

/// Significant bits.
pub(super) const fn width(value: u64) -> u32 {
    u64::BITS - value.leading_zeros()
}

/// The `k` that is best for numbers of which `counts[w]` have `w` bits, and about
/// how many bits they come to.
pub(super) fn best(counts: &[u32; 65]) -> (u32, u64) {
    let numbers: Vec<(u32, u32)> =
        (0..).zip(counts.iter().copied()).filter(|(_, count)| *count > 0).collect();
    let cost = |k| {
        let bits = numbers.iter().map(|(width, count)| u64::from(*count) * about(*width, k));
        bits.sum::<u64>()
    };
    let each = candidates(numbers.iter().map(|(width, _)| *width)).map(|k| (k, cost(k)));
    each.min_by_key(|(_, bits)| *bits).unwrap_or((0, 0))
}

/// Those `k` of which one is the best for numbers of these widths, in order.
/// Between them [`about`] never falls: below it is the same for all, and above
/// each bit more is wasted.
fn candidates(widths: impl Iterator<Item = u32>) -> impl Iterator<Item = u32> {
    let near = |width: u32| match width.checked_sub(ABOVE_MAX) {
        Some(least) => 0xf_u64 << least,
        None => 0xf >> (ABOVE_MAX - width),
    };
    let mut left = widths.fold(1, |all, width| all | near(width));
    core::iter::from_fn(move || {
        let next = left.trailing_zeros();
        left &= left.wrapping_sub(1);
        (next < u64::BITS).then_some(next)
    })
}

/// A number so many bits above `k` may still stand in ones; more above, whole.
const ABOVE_MAX: u32 = 3;

/// Bits of a number in the middle of those of this width.
fn about(width: u32, k: u32) -> u64 {
    let ones = match width.checked_sub(k) {
        None | Some(0) => 0,
        Some(above) if above > ABOVE_MAX => u64::MAX,
        Some(above) => (3 << (above - 1)) / 2,
    };
    if ones >= u64::from(ONES_MAX) {
        u64::from(ONES_MAX + LENGTH_BITS + width)
    } else {
        ones + 1 + u64::from(k)
    }
}

/// Appends bits; [`BitWriter::finish`] pads the last byte.
pub(super) struct BitWriter<'a> {
    out: &'a mut Vec<u8>,
    held: u64,
    count: u32,
}

impl<'a> BitWriter<'a> {
    pub(super) const fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out, held: 0, count: 0 }
    }

    /// At most 32 bits.
    fn put(&mut self, value: u64, bits: u32) {
        self.held |= (value & mask(bits)) << self.count;
        self.count += bits;
        while self.count >= 8 {
            self.out.push((self.held & 0xff) as u8);
            self.held >>= 8;
            self.count -= 8;
        }
    }

    fn put_wide(&mut self, value: u64, bits: u32) {
        self.put(value, bits.min(32));
        if bits > 32 {
            self.put(value >> 32, bits - 32);
        }
    }

    pub(super) fn rice(&mut self, value: u64, k: u32) {
        let ones = value >> k;
        if ones < u64::from(ONES_MAX) {
            let ones = (ones & 0xf) as u32;
            self.put(mask(ones), ones + 1);
            self.put_wide(value, k);
        } else {
            let bits = width(value);
            self.put(mask(ONES_MAX), ONES_MAX);
            self.put(u64::from(bits - 1), LENGTH_BITS);
            self.put_wide(value, bits);
        }
    }

    pub(super) fn finish(mut self) {
        self.put(0, (8 - self.count) % 8);
    }
}

const fn mask(bits: u32) -> u64 {
    (1 << bits) - 1
}

/// Reads what [`BitWriter`] wrote and never beyond it.
pub(super) struct BitReader<'a> {
    bytes: &'a [u8],
    next: usize,
    held: u64,
    count: u32,
}

impl<'a> BitReader<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, next: 0, held: 0, count: 0 }
    }

    fn fill(&mut self) {
        while self.count <= 56 {
            let Some(byte) = self.bytes.get(self.next) else { return };
            self.held |= u64::from(*byte) << self.count;
            self.next += 1;
            self.count += 8;
        }
    }

    /// Drops at most 32 bits and returns them.
    fn take(&mut self, bits: u32) -> Result<u64, ChangeError> {
        if self.count < bits {
            self.fill();
        }
        self.count = self.count.checked_sub(bits).ok_or(CUT_SHORT)?;
        let taken = self.held & mask(bits);
        self.held >>= bits;
        Ok(taken)
    }

    fn take_wide(&mut self, bits: u32) -> Result<u64, ChangeError> {
        let low = self.take(bits.min(32))?;
        let high = if bits > 32 { self.take(bits - 32)? } else { 0 };
        Ok(low | high << 32)
    }

    pub(super) fn rice(&mut self, k: u32) -> Result<u64, ChangeError> {
        if self.count <= ONES_MAX {
            self.fill();
        }
        let ones = self.held.trailing_ones();
        if ones < ONES_MAX {
            self.take(ones + 1)?;
            return Ok((u64::from(ones) << k) | self.take_wide(k)?);
        }
        self.take(ONES_MAX)?;
        let bits = self.take(LENGTH_BITS)?;
        self.take_wide((bits & 63) as u32 + 1)
    }

    /// How many bytes were read; the padding must be zeros.
    pub(super) fn finish(self) -> Result<usize, ChangeError> {
        if self.held & mask(self.count % 8) != 0 {
            return Err(ChangeError::Malformed("padded with something"));
        }
        Ok(self.next - (self.count / 8) as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of all `k`, the first that is the best.
    fn best_of_all(counts: &[u32; 65]) -> (u32, u64) {
        let cost = |k: u32| {
            let each = (0..).zip(counts).map(|(width, count)| u64::from(*count) * about(width, k));
            each.sum::<u64>()
        };
        (0..64).map(|k| (k, cost(k))).min_by_key(|(_, bits)| *bits).unwrap()
    }

    proptest::proptest! {
        #[test]
        fn the_best_is_found_among_few(numbers in proptest::collection::vec(
            (0..65_usize, proptest::prop_oneof![1..9_u32, 1..1_000_000_u32]), 0..12,
        )) {
            let mut counts = [0; 65];
            numbers.iter().for_each(|(width, count)| counts[*width] += count);
            proptest::prop_assert_eq!(best(&counts), best_of_all(&counts));
            let widths = (0..).zip(&counts).filter(|(_, count)| **count > 0).map(|(width, _)| width);
            let tried = candidates(widths.clone()).count();
            proptest::prop_assert!(tried <= 1 + 4 * widths.count(), "{} tried", tried);
        }
    }
}
