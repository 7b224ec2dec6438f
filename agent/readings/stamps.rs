//! Stamps of readings that come faster than the clock's milliseconds: those of one sensor
//! never have the same, and keep their order.
//!
//! The first of a moment has the clock's stamp, each further one the next that there is: a
//! microsecond later, or while the clock is not set a millisecond. Only sensors that are
//! ahead of the clock are remembered. Beyond the bound they may share a stamp, which the
//! group tells apart by their order; none ever has an earlier one than before.

use std::collections::BTreeMap;

use super::limits::SENSORS_AHEAD_MAX;

/// The last stamps of sensors that are ahead of the clock.
#[derive(Debug, Default)]
pub(super) struct Stamps {
    last: BTreeMap<String, i64>,
}

impl Stamps {
    /// The stamp of a reading that comes now.
    pub(super) fn next(&mut self, sensor: &str, now: i64) -> i64 {
        if let Some(last) = self.last.get_mut(sensor) {
            *last = now.max(last.saturating_add(1));
            return *last;
        }
        if self.last.len() >= SENSORS_AHEAD_MAX {
            self.last.retain(|_, last| *last >= now);
        }
        if self.last.len() < SENSORS_AHEAD_MAX {
            self.last.insert(sensor.to_owned(), now);
        }
        now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_of_one_sensor_are_apart_and_in_order() {
        let mut stamps = Stamps::default();
        let given = [("a", 5), ("a", 5), ("b", 5), ("a", 6), ("b", 9), ("a", 9), ("a", 20)];
        let given = given.map(|(sensor, now)| stamps.next(sensor, now));
        assert_eq!(given, [5, 6, 5, 7, 9, 9, 20]);
    }

    #[test]
    fn what_is_remembered_is_bounded_and_none_falls() {
        let mut stamps = Stamps::default();
        for n in 0..3 * SENSORS_AHEAD_MAX {
            assert_eq!(stamps.next(&format!("sensor {n}"), 5), 5);
        }
        assert_eq!(stamps.last.len(), SENSORS_AHEAD_MAX);
        assert_eq!([stamps.next("sensor 0", 5), stamps.next("other", 5)], [6, 5]);
        assert_eq!([stamps.next("other", 6), stamps.next("sensor 0", 6)], [6, 7]);
        assert_eq!(stamps.last.len(), 2, "only those that the clock has not passed");
    }
}
