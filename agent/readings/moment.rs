//! When a reading was taken, as its caller writes it: a number with its unit, or a
//! time of RFC 3339.
//!
//! A number without a unit is of the unit that its form has by default, and never
//! guessed by its size: what would be thousands of years away is refused.

use crate::time::parse_rfc3339;

/// A unit of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Seconds.
    Second,
    /// Milliseconds.
    Millisecond,
    /// Microseconds.
    Microsecond,
    /// Nanoseconds.
    Nanosecond,
}

/// All of them, those first whose names end like another's.
const UNITS: [(&str, Unit); 4] = [
    ("ms", Unit::Millisecond),
    ("us", Unit::Microsecond),
    ("ns", Unit::Nanosecond),
    ("s", Unit::Second),
];

/// No time of a reading is further from 1970, microseconds: 3,100 years.
const DISTANCE_US_MAX: i128 = 100_000_000_000_000_000;

/// A nanosecond's worth of digits behind the point is read.
const FRACTION_DIGITS_MAX: usize = 9;

impl Unit {
    /// By its short name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        UNITS.iter().find(|(known, _)| *known == name).map(|(_, unit)| *unit)
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Second => "seconds",
            Self::Millisecond => "milliseconds",
            Self::Microsecond => "microseconds",
            Self::Nanosecond => "nanoseconds",
        }
    }

    const fn nanoseconds(self) -> i128 {
        match self {
            Self::Second => 1_000_000_000,
            Self::Millisecond => 1_000_000,
            Self::Microsecond => 1_000,
            Self::Nanosecond => 1,
        }
    }
}

/// Microseconds since 1970 of `1700000000`, `1700000000.25s`, `1700000000250ms` or
/// `2023-11-14T22:13:20.25Z`; a bare number is in `bare`.
///
/// # Errors
/// Says what a time looks like, or what unit a number may have been meant in.
pub fn parse(text: &str, bare: Unit) -> Result<i64, String> {
    if text.get(4..5) == Some("-") {
        return parse_rfc3339(text).ok_or_else(|| no_time(text));
    }
    let suffixed = UNITS.iter().find_map(|(name, unit)| Some((text.strip_suffix(name)?, *unit)));
    let (number, unit) = suffixed.unwrap_or((text, bare));
    let us = microseconds(number, unit).ok_or_else(|| no_time(text))?;
    if us.abs() <= DISTANCE_US_MAX
        && let Ok(us) = i64::try_from(us)
    {
        return Ok(us);
    }
    let advice =
        if suffixed.is_none() { ": write its unit behind it, as ms, us or ns" } else { "" };
    Err(format!("{} {} are more than 3,000 years from 1970{advice}", shown(number), unit.name()))
}

fn microseconds(number: &str, unit: Unit) -> Option<i128> {
    let (sign, digits) = number.strip_prefix('-').map_or((1, number), |digits| (-1, digits));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if !is_number(whole) || !is_number(fraction) || whole.len() > 30 {
        return None;
    }
    let fraction = fraction.get(..FRACTION_DIGITS_MAX).unwrap_or(fraction);
    let part = fraction.parse::<i128>().ok()? * unit.nanoseconds();
    let part = part / 10_i128.pow(u32::try_from(fraction.len()).ok()?);
    let nanoseconds = whole.parse::<i128>().ok()?.checked_mul(unit.nanoseconds())? + part;
    Some((sign * nanoseconds).div_euclid(1_000))
}

fn no_time(text: &str) -> String {
    format!(
        "{} is no time: 1700000000 (seconds), 1700000000250ms (or s, us, ns) and \
         2023-11-14T22:13:20Z are",
        shown(text)
    )
}

/// What a caller wrote, quoted, and no more of it than is of help.
pub(crate) fn shown(text: &str) -> String {
    const CHARS_MAX: usize = 40;
    let short: String = text.chars().take(CHARS_MAX).collect();
    let more = if short.len() < text.len() { "..." } else { "" };
    format!("{short:?}{more}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_and_fractions_come_to_microseconds() {
        for (text, bare, us) in [
            ("1700000000", Unit::Second, 1_700_000_000_000_000),
            ("1700000000.25", Unit::Second, 1_700_000_000_250_000),
            ("1700000000250ms", Unit::Second, 1_700_000_000_250_000),
            ("1700000000250000us", Unit::Nanosecond, 1_700_000_000_250_000),
            ("1700000000250000999", Unit::Nanosecond, 1_700_000_000_250_000),
            ("1700000000s", Unit::Nanosecond, 1_700_000_000_000_000),
            ("-1ns", Unit::Second, -1),
            ("-1.5", Unit::Second, -1_500_000),
            ("0.1234567891234", Unit::Second, 123_456),
            ("2023-11-14T22:13:20Z", Unit::Nanosecond, 1_700_000_000_000_000),
        ] {
            assert_eq!(parse(text, bare), Ok(us), "{text}");
        }
    }

    #[test]
    fn a_number_of_another_unit_is_refused_and_not_guessed() {
        let refused = parse("1700000000250", Unit::Second).unwrap_err();
        assert!(refused.contains("1700000000250") && refused.contains("ms, us or ns"), "{refused}");
        let far = parse("99999999999999999999999s", Unit::Second).unwrap_err();
        assert!(far.contains("3,000 years") && !far.contains("unit"), "{far}");
        for bad in ["", "s", "-", "1e9", "1.", ".5", "+1", "now", "1 s", "2023-11-14", "1\u{b5}s"] {
            assert!(parse(bad, Unit::Second).unwrap_err().contains("is no time"), "{bad}");
        }
    }
}
