//! A point in time as text, for people and for HTTP alike: written in UTC, read as
//! RFC 3339 has it. What else of a text is a time is for rqlite's API to say.

/// Seconds since 1970, and milliseconds, as RFC 3339 (days to date after Howard Hinnant's
/// `civil_from_days`).
#[must_use]
pub fn rfc3339(seconds: i64, ms: i64) -> String {
    let (days, clock) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_place = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_place + 2) / 5 + 1;
    let month = if month_place < 10 { month_place + 3 } else { month_place - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let fraction = if ms == 0 { String::new() } else { format!(".{ms:03}") };
    let fraction = fraction.trim_end_matches('0');
    let (hour, minute, second) = (clock / 3_600, clock / 60 % 60, clock % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}Z")
}

/// Microseconds since 1970 of an RFC 3339 time such as `2026-11-29T01:05:00.25+01:00`;
/// finer digits are cut off (date to days after Howard Hinnant's `days_from_civil`).
#[must_use]
pub fn parse_rfc3339(text: &str) -> Option<i64> {
    let (date, clock) = text.split_at_checked(10)?;
    let clock = clock.strip_prefix(['T', 't'])?;
    let (year, month, day) = (digits(date, 0, 4)?, digits(date, 5, 2)?, digits(date, 8, 2)?);
    let (hour, minute) = (digits(clock, 0, 2)?, digits(clock, 3, 2)?);
    let second = digits(clock, 6, 2)?;
    let separators = [(date, 4, b'-'), (date, 7, b'-'), (clock, 2, b':'), (clock, 5, b':')];
    let is_form = separators.iter().all(|(part, at, byte)| part.as_bytes().get(*at) == Some(byte));
    let (fraction, offset_s) = fraction_and_offset(clock.get(8..)?)?;
    let days_max = days_in(year, month)?;
    if !is_form || !(1..=days_max).contains(&day) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let shifted_year = if month <= 2 { year - 1 } else { year };
    let era = shifted_year.div_euclid(400);
    let year_of_era = shifted_year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = era * 146_097 + day_of_era - 719_468;
    let seconds = days * 86_400 + hour * 3_600 + minute * 60 + second - offset_s;
    Some(seconds * 1_000_000 + fraction)
}

fn digits(text: &str, at: usize, count: usize) -> Option<i64> {
    let part = text.get(at..at + count)?;
    part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse().ok()).flatten()
}

/// Microseconds and the seconds that the offset is east of UTC.
fn fraction_and_offset(text: &str) -> Option<(i64, i64)> {
    let (fraction, zone) = match text.strip_prefix('.') {
        Some(rest) => rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?),
        None => ("0", text),
    };
    let micros = format!("{:0<6}", fraction.get(..6).unwrap_or(fraction));
    let micros = digits(&micros, 0, 6).filter(|_| !fraction.is_empty())?;
    if zone.eq_ignore_ascii_case("z") {
        return Some((micros, 0));
    }
    let (hours, minutes) = (digits(zone, 1, 2)?, digits(zone, 4, 2)?);
    let is_form = zone.len() == 6 && zone.as_bytes().get(3) == Some(&b':');
    let seconds = hours * 3_600 + minutes * 60;
    match zone.as_bytes().first()? {
        b'+' if is_form && hours < 24 && minutes < 60 => Some((micros, seconds)),
        b'-' if is_form && hours < 24 && minutes < 60 => Some((micros, -seconds)),
        _ => None,
    }
}

fn days_in(year: i64, month: i64) -> Option<i64> {
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 => Some(if is_leap { 29 } else { 28 }),
        4 | 6 | 9 | 11 => Some(30),
        1..=12 => Some(31),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back_and_offsets_count() {
        for seconds in [-62_135_596_800, -1, 0, 951_782_400, 1_709_164_799, 4_107_542_400] {
            for ms in [0, 5, 250, 999] {
                let text = rfc3339(seconds, ms);
                assert_eq!(parse_rfc3339(&text), Some((seconds * 1_000 + ms) * 1_000), "{text}");
            }
        }
        let berlin = parse_rfc3339("2026-11-29T02:05:00.123456789+01:00");
        assert_eq!(berlin, parse_rfc3339("2026-11-29T01:05:00.123456Z"));
        for bad in [
            "",
            "2026-11-29",
            "2026-11-29T01:05:00",
            "2026-02-29T01:05:00Z",
            "2026-11-29T24:00:00Z",
            "2026-11-29T01:05:00.Z",
            "2026-11-29T01:05:00+1:00",
            "2026-13-29T01:05:00Z",
            "2026/11/29T01:05:00Z",
            "2026-11-29T01:05:00Zx",
            "2026-11-29T01:05:00.5",
        ] {
            assert_eq!(parse_rfc3339(bad), None, "{bad}");
        }
    }

    #[test]
    fn days_are_counted_by_the_calendar_before_1970_as_well() {
        for (seconds, ms, expected) in [
            (0, 0, "1970-01-01T00:00:00Z"),
            (951_782_399, 250, "2000-02-28T23:59:59.25Z"),
            (951_782_400, 0, "2000-02-29T00:00:00Z"),
            (4_107_542_400, 5, "2100-03-01T00:00:00.005Z"),
            (-1, 999, "1969-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(rfc3339(seconds, ms), expected);
        }
    }
}
