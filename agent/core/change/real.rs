//! Reals as decimals, as single precision or as integers: only where exactly
//! these bits come back.

use crate::error::ChangeError;

/// More decimals are not tried.
pub(super) const DECIMALS_MAX: u8 = 9;

const POWERS: [f64; DECIMALS_MAX as usize + 1] = [1.0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];

/// The number without its point and the fewest decimals, from so many on, that
/// give `value` back to the bit.
pub(super) fn to_decimal(value: f64, from: u8) -> Option<(i64, u8)> {
    (from..=DECIMALS_MAX).find_map(|decimals| Some((exact(value, decimals)?, decimals)))
}

/// `value` as an integer over `10^decimals`, if exactly that comes back.
pub(super) fn exact(value: f64, decimals: u8) -> Option<i64> {
    let scaled = value * POWERS[usize::from(decimals)];
    // Above 2^53 not every integer is a real.
    if !(scaled.is_finite() && scaled.abs() < 9e15) {
        return None;
    }
    // Adding and taking away half rounds without the standard library.
    #[expect(clippy::cast_possible_truncation, reason = "within 53 bits, checked above")]
    let number = if scaled < 0.0 { scaled - 0.5 } else { scaled + 0.5 } as i64;
    (divided(number, decimals).to_bits() == value.to_bits()).then_some(number)
}

/// The real that [`exact`] took apart.
pub(super) fn from_decimal(number: i64, decimals: u8) -> Result<f64, ChangeError> {
    if decimals > DECIMALS_MAX {
        return Err(ChangeError::Malformed("more decimals than are ever written"));
    }
    Ok(divided(number, decimals))
}

#[expect(clippy::cast_precision_loss, reason = "the encoder checked that this is exact")]
fn divided(number: i64, decimals: u8) -> f64 {
    number as f64 / POWERS[usize::from(decimals)]
}

/// The same real in single precision, if it is one. What becomes of a NaN's bits
/// on the way is the processor's affair.
pub(super) fn to_single(value: f64) -> Option<f32> {
    #[expect(clippy::cast_possible_truncation, reason = "compared bit by bit right below")]
    let short = value as f32;
    (!value.is_nan() && f64::from(short).to_bits() == value.to_bits()).then_some(short)
}

/// Bits as an integer that rises with the real: near reals are near integers.
pub(super) const fn to_steps(value: f64) -> i64 {
    folded(value.to_bits().cast_signed())
}

pub(super) const fn from_steps(steps: i64) -> f64 {
    f64::from_bits(folded(steps).cast_unsigned())
}

/// All bits below the sign turned where it is set; its own inverse.
const fn folded(bits: i64) -> i64 {
    bits ^ ((bits >> 63) & i64::MAX)
}

/// As [`to_steps`], of single precision.
pub(super) const fn single_to_steps(value: f32) -> i64 {
    let bits = value.to_bits().cast_signed();
    (bits ^ ((bits >> 31) & i32::MAX)) as i64
}

pub(super) fn single_from_steps(steps: i64) -> Result<f32, ChangeError> {
    let steps =
        i32::try_from(steps).map_err(|_| ChangeError::Malformed("no single precision real"))?;
    Ok(f32::from_bits((steps ^ ((steps >> 31) & i32::MAX)).cast_unsigned()))
}
