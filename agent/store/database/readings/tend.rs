//! What is due of old readings, some at a time: buckets that have closed are rolled up,
//! and what nobody wants to keep any more is trimmed.
//!
//! The leader computes a bucket when it and a grace after it are over, writes its row,
//! and lets it travel like any other. How far it got with a sensor travels with the rows.
//! A bucket that a reading comes late for is computed anew while all its readings are
//! there. Readings are trimmed up to where they are rolled up at every width of their
//! rule, and never those whose time is not known yet.
//!
//! Times that a set clock was to put right come first, where its board lost its power
//! before all of them were; that needs no clock here.
//!
//! All else rests on one clock that may be wrong. Where it is ahead of what was measured
//! since the last time, another board whose clock is set has to agree, or the owner: until
//! then nothing is done, and a row says why.

use rusqlite::{Connection, OptionalExtension as _};
use understudy_core::{
    change::{Row, Segment},
    error::Refusal,
    limits::{RETENTION_RULES_MAX, TEND_BUCKETS_MAX, TEND_READINGS_MAX, TEND_TRIMMED_MAX},
    mutant,
    readings::{Operation, Tending, UNSET_BELOW},
    sql,
};

use super::{
    clock,
    late::HOUR_US,
    rollup::{self, Bucket},
    tables,
    write::is_barred,
};
use crate::{
    retention::{Rollup, Rule},
    store::database::{Database, Failure, execute::Request, gathered::Gathered},
};

/// A clock may be ahead of what was measured by so much, microseconds.
const AHEAD_US: i64 = HOUR_US;

/// After a bucket and once its width more, so long is waited for what is under way,
/// microseconds.
const GRACE_US: i64 = 60_000_000;

/// What is kept for days is trimmed by the hour, anything else by the minute.
const MINUTE_US: i64 = 60_000_000;

const DAY_S: u64 = 86_400;

/// That all goes on is written down so often at least, microseconds.
const NOTED_US: i64 = 24 * HOUR_US;

const UNSET: &str = "nothing is rolled up or trimmed: the clock of the board that leads is not set";
const AHEAD: &str = "nothing is rolled up or trimmed: the clock of the board that leads is ahead \
                     of what was measured, and no other board whose clock is set has agreed. Once \
                     it is right: `understudy retention confirm`";

/// The last time that something was done.
#[derive(Default)]
struct Last {
    wall_us: Option<i64>,
    start: (u64, u64),
    boot_ms: u64,
    words: Option<String>,
}

impl Database {
    /// Plans what is due; answered with how much is seen to be left, or refused where
    /// nothing is due.
    pub(super) fn tend(
        &mut self,
        tending: &Tending,
        gathered: &mut Gathered,
    ) -> Result<Request, Failure> {
        let left = match self.tend_what_is_due(tending, gathered) {
            // Asked every minute, it is no reason for an entry.
            Ok(None) => {
                let refusal = Refusal::Invalid(String::from("nothing is due"));
                return Ok(Request::Answered(Err(refusal)));
            }
            Ok(Some(left)) => left,
            Err(Trouble::Failure(failure)) => return Err(failure),
            Err(Trouble::Sqlite(error)) => return Err(self.failure(&error)),
            Err(Trouble::TooLarge) => {
                let refusal = Refusal::Invalid(String::from("more is due than an entry holds"));
                return Ok(Request::Answered(Err(refusal)));
            }
        };
        Ok(Request::Last(sql::encode(&left)))
    }

    /// Rows of this table are written: does one say that readings were tended?
    pub(in crate::store::database) fn watch_tending(&mut self, table: &str, rows: &[Row]) {
        let is_noted = |row: &Row| row.rowid() == Some(1);
        if table == "_understudy_tending" && rows.iter().any(is_noted) {
            self.tended = (self.options.clock)();
        }
    }

    fn tend_what_is_due(
        &mut self,
        tending: &Tending,
        gathered: &mut Gathered,
    ) -> Result<Option<u64>, Trouble> {
        self.hook.with(|notes| notes.record(false));
        let has_tables = self.has_readings();
        let clocks = self.quietly(|database| clock::go_on(&database.connection, has_tables))?;
        if !clocks.operations.is_empty() {
            // What was tried stands nowhere else: nothing is planned on it.
            let segments = clocks.operations.into_iter().map(Segment::Operation);
            segments.for_each(|segment| gathered.add_last(segment));
            return Ok(Some(clocks.left));
        }
        let rules = read_rules(&self.connection)?;
        let last = read_last(&self.connection)?;
        let mut said = match &rules {
            Ok(rules) if rules.is_empty() || !self.has_readings() => Err(None),
            Ok(_) => self.ground(tending, &last)?.map_err(Some),
            Err(words) => Err(Some(words.clone())),
        };
        let rules = rules.unwrap_or_default();
        if said.is_ok() && rules.iter().any(|(_, rule)| !rule.rollups.is_empty()) {
            let made = self.make_tables(&tables::ROLLUP, gathered).map_err(Trouble::Failure)?;
            said = made.map_or_else(|words| Err(Some(words)), |()| said);
        }
        self.hook.with(|notes| notes.record(true));
        let done = self.quietly(|database| {
            clock::forget(&database.connection, &clocks.done)?;
            match said {
                Ok(now) => {
                    let mut due = Due::new(&database.connection, now);
                    due.all(&rules)?;
                    if due.has_done() || due_to_be_noted(&last, now) {
                        note(&database.connection, tending, now)?;
                    }
                    Ok((due.operations, due.left))
                }
                Err(words) => {
                    if words != last.words {
                        say(&database.connection, words.as_deref())?;
                    }
                    Ok((Vec::new(), 0))
                }
            }
        });
        let (operations, left) = done?;
        self.gather(gathered).map_err(|_| Trouble::TooLarge)?;
        self.hook.with(|notes| notes.record(false));
        if gathered.is_empty() && operations.is_empty() {
            return Ok(None);
        }
        operations.into_iter().for_each(|operation| {
            gathered.add_last(Segment::Operation(operation));
        });
        Ok(Some(left))
    }

    /// The time to go by; or why there is none.
    fn ground(&self, tending: &Tending, last: &Last) -> rusqlite::Result<Result<i64, String>> {
        let Some(now) = tending.wall_us else { return Ok(Err(String::from(UNSET))) };
        let sql = "SELECT wall_us FROM _understudy_tending WHERE id = 2";
        let confirmed: Option<i64> =
            self.connection.prepare_cached(sql)?.query_row([], |row| row.get(0)).optional()?;
        let measured_ms = match last.start == tending.start {
            true => tending.boot_ms.saturating_sub(last.boot_ms),
            false => tending.boot_ms.min((self.options.clock)().since(self.tended)),
        };
        let measured_us = i64::try_from(measured_ms.saturating_mul(1_000)).unwrap_or(i64::MAX);
        let expected = |last: i64| last.saturating_add(measured_us).saturating_add(AHEAD_US);
        let is_fine = tending.is_agreed
            || mutant::is(84)
            || confirmed.is_some_and(|confirmed| now <= confirmed)
            || last.wall_us.is_some_and(|last| now <= expected(last));
        Ok(if is_fine { Ok(now) } else { Err(String::from(AHEAD)) })
    }
}

enum Trouble {
    Sqlite(rusqlite::Error),
    Failure(Failure),
    TooLarge,
}

impl From<rusqlite::Error> for Trouble {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

type Rules = Vec<(String, Rule)>;

/// All rules, or what is wrong with one.
fn read_rules(connection: &Connection) -> rusqlite::Result<Result<Rules, String>> {
    let mut select = connection.prepare_cached(
        "SELECT pattern, keep_s, rollup FROM _understudy_retention ORDER BY pattern LIMIT ?1",
    )?;
    let rows = select.query_map([RETENTION_RULES_MAX], |row| {
        Ok((row.get::<_, String>(0)?, row.get(1)?, row.get::<_, String>(2)?))
    })?;
    let mut rules = Vec::new();
    for row in rows {
        let (pattern, keep_s, rollup) = row?;
        match Rule::read(keep_s, &rollup) {
            Ok(rule) => rules.push((pattern, rule)),
            Err(words) => return Ok(Err(format!("the rule for {pattern}: {words}"))),
        }
    }
    Ok(Ok(rules))
}

fn read_last(connection: &Connection) -> rusqlite::Result<Last> {
    let sql = "SELECT wall_us, board, boot, boot_ms FROM _understudy_tending WHERE id = 1";
    let number = |number: Option<i64>| number.unwrap_or(0).cast_unsigned();
    let mut select = connection.prepare_cached(sql)?;
    let last = select.query_row([], |row| {
        Ok(Last {
            wall_us: row.get(0)?,
            start: (number(row.get(1)?), number(row.get(2)?)),
            boot_ms: number(row.get(3)?),
            words: None,
        })
    });
    let last = last.optional()?.unwrap_or_default();
    let sql = "SELECT words FROM _understudy_tending WHERE id = 3";
    let words = connection.prepare_cached(sql)?.query_row([], |row| row.get(0)).optional()?;
    Ok(Last { words, ..last })
}

/// Something was in the way, or it was long ago.
fn due_to_be_noted(last: &Last, now: i64) -> bool {
    let is_old = |last: i64| now.abs_diff(last) >= NOTED_US.cast_unsigned();
    last.words.is_some() || last.wall_us.is_none_or(is_old)
}

fn note(connection: &Connection, tending: &Tending, now: i64) -> rusqlite::Result<()> {
    let sql = "INSERT INTO _understudy_tending VALUES (1, ?1, ?2, ?3, ?4, NULL) \
               ON CONFLICT(id) DO UPDATE SET wall_us = ?1, board = ?2, boot = ?3, boot_ms = ?4";
    let (board, boot) = tending.start;
    let [board, boot, boot_ms] = [board, boot, tending.boot_ms].map(u64::cast_signed);
    connection.prepare_cached(sql)?.execute((now, board, boot, boot_ms))?;
    say(connection, None)
}

/// Says what is in the way. It stands as row 3: row 1 says when nothing was, and row 2 is
/// the owner's word.
fn say(connection: &Connection, words: Option<&str>) -> rusqlite::Result<()> {
    let Some(words) = words else {
        let sql = "DELETE FROM _understudy_tending WHERE id = 3";
        return connection.prepare_cached(sql)?.execute([]).map(drop);
    };
    let sql = "INSERT OR REPLACE INTO _understudy_tending(id, words) VALUES (3, ?1)";
    connection.prepare_cached(sql)?.execute([words]).map(drop)
}

/// What is done in one entry.
struct Due<'c> {
    connection: &'c Connection,
    now: i64,
    /// Readings that may still be looked at, buckets computed, rows trimmed.
    readings: u64,
    buckets: u64,
    trimmed: u64,
    operations: Vec<Operation>,
    left: u64,
}

impl<'c> Due<'c> {
    const fn new(connection: &'c Connection, now: i64) -> Self {
        Self {
            connection,
            now,
            readings: TEND_READINGS_MAX,
            buckets: TEND_BUCKETS_MAX,
            trimmed: TEND_TRIMMED_MAX,
            operations: Vec::new(),
            left: 0,
        }
    }

    const fn has_done(&self) -> bool {
        self.buckets < TEND_BUCKETS_MAX || !self.operations.is_empty()
    }

    const fn may_roll(&self) -> bool {
        self.readings > 0 && self.buckets > 0
    }

    fn all(&mut self, rules: &Rules) -> rusqlite::Result<()> {
        let mut sensors =
            self.connection.prepare("SELECT id, name FROM main.sensor ORDER BY id")?;
        let mut rows = sensors.query([])?;
        while let Some(row) = rows.next()? {
            let Ok(sensor) = row.get_ref(0)?.as_i64() else { continue };
            let Ok(name) = row.get_ref(1)?.as_str() else { continue };
            if let Some(rule) = self.rule_of(rules, name)? {
                self.sensor(sensor, rule)?;
            }
        }
        Ok(())
    }

    /// That of its very name, or of the longest pattern that it fits.
    fn rule_of<'r>(&self, rules: &'r Rules, name: &str) -> rusqlite::Result<Option<&'r Rule>> {
        let mut best: Option<&(String, Rule)> = None;
        let mut glob = self.connection.prepare_cached("SELECT ?1 GLOB ?2")?;
        for rule in rules {
            if rule.0 == name {
                return Ok(Some(&rule.1));
            }
            let is_longer = best.is_none_or(|best| best.0.len() < rule.0.len());
            if is_longer && glob.query_row((name, &rule.0), |row| row.get(0))? {
                best = Some(rule);
            }
        }
        Ok(best.map(|(_, rule)| rule))
    }

    fn sensor(&mut self, sensor: i64, rule: &Rule) -> rusqlite::Result<()> {
        let trimmed = self.until(sensor, 0)?.unwrap_or(UNSET_BELOW);
        let late = self.late(sensor, rule, trimmed)?;
        for rollup in &rule.rollups {
            self.roll_up(sensor, rollup, trimmed)?;
        }
        self.trim_readings(sensor, rule, late)?;
        for rollup in &rule.rollups {
            let before = self.cut_off(rollup.keep_s, i64::from(rollup.width_s) * 1_000_000);
            self.trim(sensor, rollup.width_s, before)?;
        }
        Ok(())
    }

    fn until(&self, sensor: i64, width_s: u32) -> rusqlite::Result<Option<i64>> {
        let sql = "SELECT until FROM _understudy_tended WHERE sensor = ?1 AND width = ?2";
        let mut select = self.connection.prepare_cached(sql)?;
        select.query_row((sensor, width_s), |row| row.get(0)).optional()
    }

    /// Computes the buckets anew that readings came late for, those of a day at a time;
    /// the first hour that is left after that.
    fn late(&mut self, sensor: i64, rule: &Rule, trimmed: i64) -> rusqlite::Result<Option<i64>> {
        let sql = "SELECT hour FROM _understudy_late WHERE sensor = ?1 ORDER BY hour LIMIT 25";
        let hours: Vec<i64> = self
            .connection
            .prepare_cached(sql)?
            .query_map([sensor], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        let Some(first) = hours.first() else { return Ok(None) };
        if !self.may_roll() {
            self.left += 1;
            return Ok(Some(*first));
        }
        let day = first.div_euclid(24 * HOUR_US);
        let is_other = |hour: &&i64| hour.div_euclid(24 * HOUR_US) != day;
        let next = hours.iter().find(is_other).copied();
        for rollup in &rule.rollups {
            let width = i64::from(rollup.width_s) * 1_000_000;
            let Some(until) = self.until(sensor, rollup.width_s)? else { continue };
            let mut from = trimmed;
            for hour in hours.iter().take_while(|hour| Some(**hour) != next) {
                from = from.max(hour - hour.rem_euclid(width));
                while from < until.min(hour + HOUR_US) {
                    // What is left of a bucket that was trimmed in part says nothing.
                    if from.rem_euclid(width) == 0 {
                        self.compute(sensor, rollup, from)?;
                    }
                    from += width - from.rem_euclid(width);
                }
            }
        }
        let sql = "DELETE FROM _understudy_late WHERE sensor = ?1 AND hour < ?2";
        self.connection.prepare_cached(sql)?.execute((sensor, next.unwrap_or(i64::MAX)))?;
        self.left += u64::from(next.is_some());
        Ok(next)
    }

    /// Computes buckets that have closed since the last time.
    fn roll_up(&mut self, sensor: i64, rollup: &Rollup, trimmed: i64) -> rusqlite::Result<()> {
        let width = i64::from(rollup.width_s) * 1_000_000;
        let end = self.now.saturating_sub(GRACE_US + width);
        let end = end.saturating_sub(end.rem_euclid(width));
        let until = self.until(sensor, rollup.width_s)?;
        let mut at = until.unwrap_or(trimmed).max(UNSET_BELOW);
        let before = at;
        while let Some(time) = rollup::next_reading(self.connection, sensor, (at, end))? {
            at = time - time.rem_euclid(width);
            if !self.may_roll() {
                self.left += 1;
                break;
            }
            self.compute(sensor, rollup, at)?;
            at += width;
        }
        if at != before {
            let sql = "INSERT INTO _understudy_tended VALUES (?1, ?2, ?3) \
                       ON CONFLICT(sensor, width) DO UPDATE SET until = ?3";
            self.connection.prepare_cached(sql)?.execute((sensor, rollup.width_s, at))?;
        }
        Ok(())
    }

    fn compute(&mut self, sensor: i64, rollup: &Rollup, from: i64) -> rusqlite::Result<()> {
        let to = from.saturating_add(i64::from(rollup.width_s) * 1_000_000);
        let (bucket, looked_at) = Bucket::of(self.connection, sensor, (from, to))?;
        self.readings = self.readings.saturating_sub(looked_at);
        self.buckets = self.buckets.saturating_sub(1);
        let put = bucket
            .map_or(Ok(()), |bucket| bucket.put(self.connection, (sensor, rollup.width_s, from)));
        match put {
            Err(error) if !is_barred(&error) => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// What is older is to go.
    fn cut_off(&self, keep_s: u64, width_us: i64) -> i64 {
        let keep_us = i64::try_from(keep_s.saturating_mul(1_000_000)).unwrap_or(i64::MAX);
        let before = self.now.saturating_sub(keep_us);
        let step = if keep_s >= DAY_S { HOUR_US } else { MINUTE_US }.max(width_us);
        before.saturating_sub(before.rem_euclid(step))
    }

    /// Never what a rollup still needs.
    fn trim_readings(
        &mut self,
        sensor: i64,
        rule: &Rule,
        late: Option<i64>,
    ) -> rusqlite::Result<()> {
        let Some(keep_s) = rule.keep_s else { return Ok(()) };
        let mut before = self.cut_off(keep_s, 0).min(late.unwrap_or(i64::MAX));
        for rollup in &rule.rollups {
            before = before.min(self.until(sensor, rollup.width_s)?.unwrap_or(i64::MIN));
        }
        self.trim(sensor, 0, before)
    }

    fn trim(&mut self, sensor: i64, width_s: u32, before: i64) -> rusqlite::Result<()> {
        let (rows, first_kept) =
            rollup::rows_before(self.connection, (sensor, width_s), before, self.trimmed)?;
        if rows == 0 && first_kept.is_none() {
            return Ok(());
        }
        self.left += u64::from(first_kept.is_some());
        if rows > 0 {
            let before = first_kept.unwrap_or(before);
            self.operations.push(Operation::Trim { sensor, width_s, before });
            self.trimmed -= rows;
        }
        Ok(())
    }
}
