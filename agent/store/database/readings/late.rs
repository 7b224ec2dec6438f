//! Readings that come when the buckets they belong to are rolled up already, from a spool
//! or with a clock that was put right: their hours are remembered, on every board alike,
//! until those buckets are rolled up anew.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::Connection;
use understudy_core::readings::unset_of;

/// What a bucket of buckets is here, microseconds.
pub(super) const HOUR_US: i64 = 3_600_000_000;

/// Notes late readings of one entry.
#[derive(Default)]
pub(super) struct Late {
    /// Up to where each sensor is rolled up, at any width.
    until: BTreeMap<i64, Option<i64>>,
    noted: BTreeSet<(i64, i64)>,
}

impl Late {
    /// A reading of this sensor stands at this time from now on.
    pub(super) fn note(
        &mut self,
        connection: &Connection,
        sensor: i64,
        time: i64,
    ) -> rusqlite::Result<()> {
        let until = match self.until.get(&sensor) {
            Some(until) => *until,
            None => {
                let sql =
                    "SELECT max(until) FROM _understudy_tended WHERE sensor = ?1 AND width > 0";
                let until =
                    connection.prepare_cached(sql)?.query_row([sensor], |row| row.get(0))?;
                self.until.insert(sensor, until);
                until
            }
        };
        let hour = time.saturating_sub(time.rem_euclid(HOUR_US));
        let is_late = until.is_some_and(|until| time < until) && unset_of(time).is_none();
        if is_late && self.noted.insert((sensor, hour)) {
            let sql = "INSERT OR IGNORE INTO _understudy_late VALUES (?1, ?2)";
            connection.prepare_cached(sql)?.execute((sensor, hour))?;
        }
        Ok(())
    }
}
