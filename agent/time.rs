//! A point in time as text, for people and for HTTP alike. Only in UTC, and only
//! written: what of a text is a time is for rqlite's API to say.

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

#[cfg(test)]
mod tests {
    use super::*;

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
