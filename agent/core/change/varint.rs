//! Little-endian base-128 numbers, zigzag for signed ones, and the reader that
//! never goes beyond its bytes.

use alloc::vec::Vec;

use crate::error::ChangeError;

pub(super) fn write(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push((value & 0x7f) as u8);
}

pub(super) const fn len(value: u64) -> usize {
    (70 - (value | 1).leading_zeros() as usize) / 7
}

pub(super) const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

pub(super) const fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -((value & 1).cast_signed())
}

pub(super) fn write_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    write(out, bytes.len() as u64);
    out.extend(bytes);
}

/// What is left to read.
pub(super) struct Reader<'a>(&'a [u8]);

pub(super) const CUT_SHORT: ChangeError = ChangeError::Malformed("cut short");

impl<'a> Reader<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// What is not read yet.
    pub(super) const fn rest(&self) -> &'a [u8] {
        self.0
    }

    pub(super) fn byte(&mut self) -> Result<u8, ChangeError> {
        let (first, rest) = self.0.split_first().ok_or(CUT_SHORT)?;
        self.0 = rest;
        Ok(*first)
    }

    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], ChangeError> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(CUT_SHORT)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], ChangeError> {
        self.take(N)?.try_into().map_err(|_| CUT_SHORT)
    }

    pub(super) fn varint(&mut self) -> Result<u64, ChangeError> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            if shift == 63 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(ChangeError::Malformed("a number beyond 64 bits"))
    }

    pub(super) fn signed(&mut self) -> Result<i64, ChangeError> {
        Ok(unzigzag(self.varint()?))
    }

    /// A number that counts something there are at most `max` of.
    pub(super) fn count(&mut self, max: usize) -> Result<usize, ChangeError> {
        let count = usize::try_from(self.varint()?).unwrap_or(usize::MAX);
        if count > max {
            return Err(ChangeError::Malformed("a count beyond its bound"));
        }
        Ok(count)
    }

    pub(super) fn bytes(&mut self) -> Result<&'a [u8], ChangeError> {
        let count = self.count(self.0.len())?;
        self.take(count)
    }

    pub(super) const fn finish(&self) -> Result<(), ChangeError> {
        if self.0.is_empty() { Ok(()) } else { Err(ChangeError::Malformed("followed by more")) }
    }
}
