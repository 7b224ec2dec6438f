//! Which fragments of one frame: a bit each, as many as the largest frame has.

use alloc::vec::Vec;

use crate::limits::FRAGMENTS_MAX;

const WORDS: usize = FRAGMENTS_MAX.div_ceil(64);

/// A set of fragment numbers below a count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bitmap {
    words: heapless::Vec<u64, WORDS>,
    count: u16,
}

impl Bitmap {
    /// None of `count` fragments.
    pub(super) fn empty(count: u16) -> Self {
        let mut words = heapless::Vec::new();
        let length = usize::from(count).div_ceil(64);
        words.resize(length, 0).expect("a frame has at most FRAGMENTS_MAX fragments");
        Self { words, count }
    }

    /// All of `count` fragments.
    pub(super) fn full(count: u16) -> Self {
        let mut bitmap = Self::empty(count);
        bitmap.fill(count);
        bitmap
    }

    /// All below `base`, and above it what the bits of `tail` say, lowest first.
    /// `None` when that names a fragment there is not.
    pub(super) fn from_parts(count: u16, base: u16, tail: &[u8]) -> Option<Self> {
        if base > count || tail.len() > usize::from(count - base).div_ceil(8) {
            return None;
        }
        let mut bitmap = Self::empty(count);
        bitmap.fill(base);
        let bits = tail.iter().flat_map(|byte| (0..8).map(move |bit| byte >> bit & 1 == 1));
        for (number, _) in (base..).zip(bits).filter(|(_, is_set)| *is_set) {
            if number >= count {
                return None;
            }
            bitmap.set(number);
        }
        Some(bitmap)
    }

    /// The reverse of [`Bitmap::from_parts`], as short as it can be.
    pub(super) fn to_parts(&self) -> (u16, Vec<u8>) {
        let base = self.first_unset();
        let Some(last) = self.last_set().filter(|last| *last > base) else {
            return (base, Vec::new());
        };
        let mut tail = alloc::vec![0; usize::from(last - base) / 8 + 1];
        for number in (base..=last).filter(|number| self.has(*number)) {
            let place = usize::from(number - base);
            tail[place / 8] |= 1 << (place % 8);
        }
        (base, tail)
    }

    /// How many there may be.
    pub(super) const fn count(&self) -> u16 {
        self.count
    }

    pub(super) fn has(&self, number: u16) -> bool {
        let (word, bit) = place(number);
        self.words[word] & bit != 0
    }

    pub(super) fn set(&mut self, number: u16) {
        let (word, bit) = place(number);
        self.words[word] |= bit;
    }

    pub(super) fn clear(&mut self, number: u16) {
        let (word, bit) = place(number);
        self.words[word] &= !bit;
    }

    pub(super) fn is_full(&self) -> bool {
        self.first_unset() == self.count
    }

    pub(super) fn first_set(&self) -> Option<u16> {
        lowest(self.words.iter().copied())
    }

    /// The lowest number not set; the count when all are.
    pub(super) fn first_unset(&self) -> u16 {
        lowest(self.words.iter().map(|word| !word)).map_or(self.count, |at| at.min(self.count))
    }

    fn last_set(&self) -> Option<u16> {
        let (word, bits) = self.words.iter().enumerate().rev().find(|(_, bits)| **bits != 0)?;
        number(word, 63 - bits.leading_zeros())
    }

    /// Adds all of `other`, of the same count.
    pub(super) fn add(&mut self, other: &Self) {
        self.words.iter_mut().zip(&other.words).for_each(|(word, other)| *word |= other);
    }

    /// Takes away all of `other`, of the same count.
    pub(super) fn subtract(&mut self, other: &Self) {
        self.words.iter_mut().zip(&other.words).for_each(|(word, other)| *word &= !other);
    }

    fn fill(&mut self, below: u16) {
        let (whole, rest) = (usize::from(below) / 64, below % 64);
        self.words[..whole].fill(u64::MAX);
        if rest > 0 {
            self.words[whole] |= (1 << rest) - 1;
        }
    }
}

fn place(number: u16) -> (usize, u64) {
    (usize::from(number / 64), 1 << (number % 64))
}

fn lowest(words: impl Iterator<Item = u64>) -> Option<u16> {
    let (word, bits) = words.enumerate().find(|(_, bits)| *bits != 0)?;
    number(word, bits.trailing_zeros())
}

fn number(word: usize, bit: u32) -> Option<u16> {
    u16::try_from(word * 64).ok()?.checked_add(u16::try_from(bit).ok()?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_full_bitmap_has_no_tail() {
        for count in [1, 63, 64, 65, u16::try_from(FRAGMENTS_MAX).unwrap()] {
            let bitmap = Bitmap::full(count);
            assert!(bitmap.is_full());
            assert_eq!(bitmap.to_parts(), (count, Vec::new()));
            assert_eq!(bitmap.last_set(), Some(count - 1));
        }
    }

    #[test]
    fn parts_that_name_a_fragment_there_is_not_are_refused() {
        assert_eq!(Bitmap::from_parts(9, 10, &[]), None);
        assert_eq!(Bitmap::from_parts(9, 4, &[0x20]), None);
        assert_eq!(Bitmap::from_parts(9, 4, &[0, 0]), None);
        assert!(Bitmap::from_parts(9, 4, &[0x10]).is_some_and(|bitmap| bitmap.has(8)));
    }

    proptest! {
        #[test]
        fn a_bitmap_behaves_as_a_set(
            count in 1_u16..600,
            numbers in proptest::collection::btree_set(0_u16..600, 0..300),
        ) {
            let numbers: alloc::collections::BTreeSet<u16> =
                numbers.into_iter().filter(|number| *number < count).collect();
            let mut bitmap = Bitmap::empty(count);
            numbers.iter().for_each(|number| bitmap.set(*number));
            for number in 0..count {
                prop_assert_eq!(bitmap.has(number), numbers.contains(&number));
            }
            prop_assert_eq!(bitmap.first_set(), numbers.first().copied());
            prop_assert_eq!(bitmap.last_set(), numbers.last().copied());
            let first_unset = (0..count).find(|number| !numbers.contains(number)).unwrap_or(count);
            prop_assert_eq!(bitmap.first_unset(), first_unset);
            prop_assert_eq!(bitmap.is_full(), numbers.len() == usize::from(count));
            let (base, tail) = bitmap.to_parts();
            prop_assert_eq!(Bitmap::from_parts(count, base, &tail), Some(bitmap.clone()));
            let mut rest = Bitmap::full(count);
            rest.subtract(&bitmap);
            prop_assert_eq!(rest.first_set(), Some(first_unset).filter(|first| *first < count));
            rest.add(&bitmap);
            prop_assert!(rest.is_full());
        }
    }
}
