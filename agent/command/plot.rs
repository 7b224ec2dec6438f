//! Readings as a plot of dots, eight to a character (Braille patterns).

use std::{collections::BTreeMap, fmt::Write as _};

use understudy_core::{readings::unset_of, sql::Value};

use crate::readings::query::Row;

/// Lines of one plot.
const LINES: usize = 12;

/// Dots of a character: across and down.
const ACROSS: usize = 2;
const DOWN: usize = 4;

/// The empty pattern; a dot adds its bit.
const EMPTY: u32 = 0x2800;

/// Bits of the dots, column by column from the top.
const BITS: [[u32; DOWN]; ACROSS] = [[0x01, 0x02, 0x04, 0x40], [0x08, 0x10, 0x20, 0x80]];

/// One plot for each sensor, so many columns wide.
pub(super) fn plots(rows: &[Row], columns: usize) -> String {
    let mut sensors: BTreeMap<&str, Vec<&Row>> = BTreeMap::new();
    for row in rows {
        sensors.entry(&row.sensor).or_default().push(row);
    }
    let all = sensors.iter().map(|(sensor, rows)| plot(sensor, rows, columns));
    all.collect::<Vec<_>>().join("\n")
}

#[expect(clippy::cast_precision_loss, reason = "a dot is much wider")]
fn point(row: &Row) -> Option<(f64, f64)> {
    if unset_of(row.time).is_some() {
        return None;
    }
    let value = match row.value {
        Value::Integer(number) => number as f64,
        Value::Real(number) => number,
        Value::Null | Value::Text(_) | Value::Blob(_) => return None,
    };
    Some((row.time as f64, value))
}

fn plot(sensor: &str, rows: &[&Row], columns: usize) -> String {
    let points: Vec<(f64, f64)> = rows.iter().filter_map(|row| point(row)).collect();
    let mut out = format!("{sensor}\n");
    let values = || points.iter().map(|(_, value)| *value);
    let (low, high) =
        (values().fold(f64::INFINITY, f64::min), values().fold(f64::NEG_INFINITY, f64::max));
    let timed: Vec<_> = rows.iter().filter(|row| point(row).is_some()).collect();
    if let (Some(first), Some(last)) = (timed.first(), timed.last()) {
        let labels = [high.to_string(), low.to_string()];
        let margin = labels.iter().map(|label| label.chars().count()).max().unwrap_or(0);
        let width = columns.saturating_sub(margin + 1).max(10);
        for (place, line) in drawn(&points, (low, high), width).into_iter().enumerate() {
            let label = match place {
                0 => labels[0].as_str(),
                _ if place + 1 == LINES => labels[1].as_str(),
                _ => "",
            };
            let _ = writeln!(out, "{label:>margin$} {}", line.trim_end_matches('\u{2800}'));
        }
        let (from, to) = (first.when(), last.when());
        let gap = width.saturating_sub(from.len());
        let _ = writeln!(out, "{:margin$} {from}{to:>gap$}", "");
    }
    let left_out = rows.len() - points.len();
    if left_out > 0 {
        let _ = writeln!(out, "({left_out} more that are texts, or have no time yet)");
    }
    out
}

/// Lines of patterns, points connected in their order.
fn drawn(points: &[(f64, f64)], (low, high): (f64, f64), width: usize) -> Vec<String> {
    let (across, down) = (width * ACROSS, LINES * DOWN);
    let first = points.first().map_or(0.0, |point| point.0);
    let last = points.last().map_or(0.0, |point| point.0);
    let column = |time: f64| place(time, (first, last), across);
    let line = |value: f64| down - 1 - place(value, (low, high), down);
    let mut cells = vec![vec![EMPTY; width]; LINES];
    let mut dot = |x: usize, y: usize| {
        cells[y / DOWN][x / ACROSS] |= BITS[x % ACROSS][y % DOWN];
    };
    let mut before: Option<(usize, usize)> = None;
    for (time, value) in points {
        let (x, y) = (column(*time), line(*value));
        let (from_x, from_y) = before.unwrap_or((x, y));
        let steps = x.abs_diff(from_x).max(y.abs_diff(from_y)).max(1);
        for step in 0..=steps {
            dot(between(from_x, x, step, steps), between(from_y, y, step, steps));
        }
        before = Some((x, y));
    }
    let pattern = |cells: Vec<u32>| cells.into_iter().filter_map(char::from_u32).collect();
    cells.into_iter().map(pattern).collect()
}

/// The dot of so many at which something stands between two ends.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share of a terminal's dots"
)]
fn place(at: f64, (low, high): (f64, f64), dots: usize) -> usize {
    // Halves, so that the distance of the largest numbers is finite.
    let share = (at / 2.0 - low / 2.0) / (high / 2.0 - low / 2.0);
    let share = if share.is_finite() { share } else { 0.5 };
    ((share * (dots - 1) as f64).round() as usize).min(dots - 1)
}

const fn between(from: usize, to: usize, step: usize, steps: usize) -> usize {
    if to >= from { from + (to - from) * step / steps } else { from - (from - to) * step / steps }
}

#[cfg(test)]
mod tests {
    use understudy_core::readings::time_unset;

    use super::*;

    fn rows(values: &[f64]) -> Vec<Row> {
        let row = |(second, value): (i64, &f64)| Row {
            sensor: "a".into(),
            time: 1_700_000_000_000_000 + second * 1_000_000,
            value: Value::Real(*value),
            board: 1,
            token: None,
            is_far: false,
        };
        (0..).zip(values).map(row).collect()
    }

    #[test]
    fn a_plot_is_as_wide_as_the_terminal_and_says_its_ends() {
        let text = plots(&rows(&[1.5, 2.0, -3.25, 2.0]), 60);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 1 + LINES + 1);
        assert!(lines.iter().all(|line| line.chars().count() <= 60), "{text}");
        assert!(lines[1].starts_with("    2 ") && lines[LINES].starts_with("-3.25 "), "{text}");
        assert!(lines[LINES + 1].ends_with("2023-11-14T22:13:23Z"), "{text}");
        assert!(lines[1].ends_with(|c| u32::from(c) > EMPTY), "the last is a highest: {text}");
    }

    #[test]
    fn rising_values_rise() {
        let lines = drawn(&[(0.0, 0.0), (1.0, 1.0)], (0.0, 1.0), 10);
        let first_dot = |line: &String| line.chars().position(|c| u32::from(c) > EMPTY).unwrap();
        let places: Vec<_> = lines.iter().map(first_dot).collect();
        assert!(places.iter().rev().is_sorted(), "{places:?}");
        assert_eq!((places[LINES - 1], lines[0].chars().last()), (0, Some('\u{280e}')));
    }

    #[test]
    fn one_reading_the_largest_numbers_and_none_at_all_are_plotted_too() {
        for values in [&[7.0][..], &[3.0, 3.0], &[f64::MAX, f64::MIN]] {
            assert!(plots(&rows(values), 5).lines().count() == 1 + LINES + 1);
        }
        let mut unset = rows(&[1.0]);
        unset[0].time = time_unset(1, 5);
        assert_eq!(plots(&unset, 60).lines().count(), 2);
    }
}
