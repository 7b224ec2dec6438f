//! What becomes of readings, decided by the leader on what is applied and on what it
//! decided for the requests before in the same batch. Nothing is written, but rows that
//! are tried where something of the users' might bar them: they are undone with the
//! batch.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{CachedStatement, Connection, OptionalExtension as _};
use understudy_core::{
    error::Refusal,
    event::NodeId,
    limits::{
        LEDGER_RANGES_MAX, READING_ID_MS, READING_IDS_FORGOTTEN, READING_IDS_MAX, READING_STEPS_MAX,
    },
    mutant,
    readings::{Batch, IDS_FULL, LATE, NO_PLACE, Reading, Stored, StoredRow, Verdict, unset_of},
};

use super::{
    clock,
    ledger::Ledger,
    tables::Known,
    unfit,
    write::{self, Inserts, is_barred},
};
use crate::store::database::{duties, text::words};

const NO_NUMBER: &str = "no number is left for another sensor";

/// See the module's description.
pub(super) struct Plan<'c> {
    connection: &'c Connection,
    wall_us: Option<i64>,
    /// Times that a sensor has readings at, from one on.
    times: CachedStatement<'c>,
    /// Tries rows, where they may be barred.
    trial: Option<Inserts<'c>>,
    sensors: BTreeMap<String, i64>,
    /// The lowest number that no sensor has.
    sensor_next: Option<i64>,
    taken: BTreeSet<(i64, i64)>,
    /// From when on a sensor has no readings but those that are taken.
    free_from: BTreeMap<i64, i64>,
    ledgers: BTreeMap<NodeId, Ledger>,
    ids: Option<Ids>,
    fixes: BTreeMap<(NodeId, u64), Option<i64>>,
    /// Tokens of duties, and whether they are any more.
    tokens: BTreeMap<u64, bool>,
}

/// The ids that are remembered: the range of their numbers, how many in it are, where that
/// was asked, and those that are to come.
struct Ids {
    before: i64,
    next: i64,
    count: Option<u64>,
    new: BTreeSet<String>,
}

/// What becomes of one reading.
enum Fate {
    Stored(StoredRow),
    /// It is stored already.
    Known,
    Refused(String),
}

impl<'c> Plan<'c> {
    pub(super) fn new(
        connection: &'c Connection,
        known: Known,
        wall_us: Option<i64>,
    ) -> rusqlite::Result<Self> {
        let trial = (!known.is_plain).then(|| Inserts::new(connection)).transpose()?;
        Ok(Self {
            connection,
            wall_us,
            times: connection.prepare_cached(
                "SELECT time FROM main.reading WHERE sensor = ?1 AND time >= ?2 ORDER BY time",
            )?,
            trial,
            sensors: BTreeMap::new(),
            sensor_next: None,
            taken: BTreeSet::new(),
            free_from: BTreeMap::new(),
            ledgers: BTreeMap::new(),
            ids: None,
            fixes: BTreeMap::new(),
            tokens: BTreeMap::new(),
        })
    }

    /// What of a batch is to stand in the entry, if anything, and what its board is told.
    pub(super) fn batch(
        &mut self,
        batch: Batch,
    ) -> rusqlite::Result<Result<(Option<Stored>, Verdict), Refusal>> {
        let Batch { board, floor, readings, given_up } = batch;
        let before = match self.ledgers.get(&board) {
            Some(ledger) => ledger.clone(),
            None => Ledger::read(self.connection, board)?,
        };
        let mut after = before.clone();
        let mut is_new = Vec::with_capacity(readings.len());
        for (number, _) in &readings {
            is_new.push(!after.is_resolved(*number) || mutant::is(80));
            after.resolve(*number, *number);
        }
        after.close(&given_up, floor);
        let mut sure = before.clone();
        if after.ranges() > LEDGER_RANGES_MAX.max(before.ranges()) {
            return Ok(Err(Refusal::Busy));
        }
        let mut stored = Stored { board, floor, given_up, ..Stored::default() };
        let mut refused = Vec::new();
        for ((number, reading), _) in readings.into_iter().zip(is_new).filter(|(_, new)| *new) {
            match self.reading((board, number), reading, &mut stored)? {
                Fate::Stored(row) => stored.rows.push(row),
                Fate::Known => stored.nothing.push(number),
                // Its board gives the number up when it hears so: until then it is open, or
                // what is sent again would be taken for what is stored.
                Fate::Refused(reason) => {
                    refused.push((number, reason));
                    continue;
                }
            }
            sure.resolve(number, number);
        }
        sure.close(&stored.given_up, floor);
        self.settle_ids(&mut stored);
        // Where only the floor rises, the next readings take it with them.
        let says = before != sure
            && (!stored.rows.is_empty()
                || !stored.nothing.is_empty()
                || !stored.given_up.is_empty()
                || before.ranges() > sure.ranges());
        self.ledgers.insert(board, sure);
        let stored = (says || mutant::is(80)).then_some(stored);
        Ok(Ok((stored, Verdict { refused })))
    }

    fn reading(
        &mut self,
        (board, number): (NodeId, u64),
        reading: Reading,
        stored: &mut Stored,
    ) -> rusqlite::Result<Fate> {
        if let Some(reason) = unfit(&reading) {
            return Ok(Fate::Refused(reason));
        }
        if let Some(id) = &reading.id
            && let Some(fate) = self.id(id)?
        {
            return Ok(fate);
        }
        if let Some(token) = reading.token
            && !self.is_current(token)?
        {
            return Ok(Fate::Refused(format!(
                "no duty has token {token} any more: what is taken under it {LATE}"
            )));
        }
        let Reading { sensor: name, time, value, id, token, is_far } = reading;
        let Some((sensor, is_new)) = self.sensor(&name)? else {
            return Ok(Fate::Refused(String::from(NO_NUMBER)));
        };
        let time = self.put_right(board, time)?;
        let Some(time) = self.free(sensor, time)? else {
            return Ok(Fate::Refused(String::from(NO_PLACE)));
        };
        if is_new && let Some(reason) = self.new_sensor((sensor, name), stored)? {
            return Ok(Fate::Refused(reason));
        }
        let row = StoredRow { number, sensor, time, value, id, token, is_far };
        if let Some(trial) = &mut self.trial
            && let Some(reason) = reason_barred(trial.insert(board, &row))?
        {
            return Ok(Fate::Refused(reason));
        }
        self.taken.insert((sensor, time));
        if let (Some(id), Some(ids)) = (&row.id, &mut self.ids) {
            ids.next += 1;
            ids.new.insert(id.clone());
        }
        Ok(Fate::Stored(row))
    }

    /// Has a duty this token? No two have the same.
    fn is_current(&mut self, token: u64) -> rusqlite::Result<bool> {
        if let Some(is_current) = self.tokens.get(&token) {
            return Ok(*is_current || mutant::is(119));
        }
        let is_current = duties::is_current(self.connection, token)?;
        self.tokens.insert(token, is_current);
        Ok(is_current || mutant::is(119))
    }

    /// Its number, and whether it has it from now on; none when none is left.
    fn sensor(&mut self, name: &str) -> rusqlite::Result<Option<(i64, bool)>> {
        if let Some(sensor) = self.sensors.get(name) {
            return Ok(Some((*sensor, false)));
        }
        let known: Option<i64> = self
            .connection
            .prepare_cached(
                "SELECT id FROM main.sensor WHERE name = ?1 AND typeof(id) = 'integer'",
            )?
            .query_row([name], |row| row.get(0))
            .optional()?;
        if let Some(sensor) = known {
            self.sensors.insert(String::from(name), sensor);
            return Ok(Some((sensor, false)));
        }
        if self.sensor_next.is_none() {
            // Whose sensor was deleted may have readings left.
            let highest: i64 = self
                .connection
                .prepare_cached(
                    "SELECT max(coalesce((SELECT id FROM main.sensor WHERE typeof(id) = 'integer' \
                     ORDER BY id DESC LIMIT 1), 0), \
                     coalesce((SELECT sensor FROM main.reading WHERE typeof(sensor) = 'integer' \
                     ORDER BY sensor DESC LIMIT 1), 0))",
                )?
                .query_row([], |row| row.get(0))?;
            self.sensor_next = highest.checked_add(1);
        }
        Ok(self.sensor_next.map(|sensor| (sensor, true)))
    }

    /// The time it should have had, where that is known by now.
    fn put_right(&mut self, board: NodeId, time: i64) -> rusqlite::Result<i64> {
        let Some((boot, ms)) = unset_of(time) else { return Ok(time) };
        let began_us = match self.fixes.get(&(board, boot)) {
            Some(began_us) => *began_us,
            None => {
                let began_us = clock::began(self.connection, board, boot)?;
                self.fixes.insert((board, boot), began_us);
                began_us
            }
        };
        Ok(began_us.map_or(time, |began_us| super::put_right(began_us, ms)))
    }

    /// The first time from this on that the sensor has no reading at.
    fn free(&mut self, sensor: i64, time: i64) -> rusqlite::Result<Option<i64>> {
        if self.free_from.get(&sensor).is_some_and(|from| *from <= time)
            && !self.taken.contains(&(sensor, time))
        {
            return Ok(Some(time));
        }
        let mut rows = self.times.query((sensor, time))?;
        let mut there = super::next_time(&mut rows)?;
        for step in 0..=READING_STEPS_MAX {
            let Some(at) = time.checked_add_unsigned(step) else { return Ok(None) };
            while there.is_some_and(|there| there < at) {
                there = super::next_time(&mut rows)?;
            }
            if there.is_none() {
                self.free_from.entry(sensor).and_modify(|from| *from = at.min(*from)).or_insert(at);
            }
            if there != Some(at) && !self.taken.contains(&(sensor, at)) {
                return Ok(Some(at));
            }
        }
        Ok(None)
    }

    /// From now on it is known; or why something of the users' does not let it be.
    fn new_sensor(
        &mut self,
        (sensor, name): (i64, String),
        stored: &mut Stored,
    ) -> rusqlite::Result<Option<String>> {
        if self.trial.is_some() {
            let tried = write::sensor(self.connection, (sensor, &name), None);
            if let Some(reason) = reason_barred(tried)? {
                return Ok(Some(reason));
            }
        }
        self.sensor_next = sensor.checked_add(1);
        self.sensors.insert(name.clone(), sensor);
        stored.sensors.push((sensor, name));
        Ok(None)
    }

    /// What becomes of a reading of this id, if that is decided by it.
    fn id(&mut self, id: &str) -> rusqlite::Result<Option<Fate>> {
        let ids = match &mut self.ids {
            Some(ids) => ids,
            none => none.insert(Ids::read(self.connection)?),
        };
        if ids.new.contains(id) {
            return Ok(Some(Fate::Known));
        }
        let sql = "SELECT number, time FROM _understudy_reading_id WHERE id = ?1";
        let mut select = self.connection.prepare_cached(sql)?;
        let known: Option<(i64, i64)> =
            select.query_row([id], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
        if known.is_some_and(|(number, time)| number >= ids.before && !is_due(time, self.wall_us)) {
            return Ok(Some(Fate::Known));
        }
        for _ in 0..READING_IDS_FORGOTTEN {
            ids.forget(self.connection, self.wall_us)?;
        }
        Ok(ids.are_full(self.connection)?.then(|| {
            Fate::Refused(format!(
                "{READING_IDS_MAX} {IDS_FULL}, each for a day, and no more: send it without one"
            ))
        }))
    }

    fn settle_ids(&self, stored: &mut Stored) {
        let Some(ids) = &self.ids else { return };
        if stored.rows.iter().any(|row| row.id.is_some()) {
            stored.ids_us = self.wall_us;
            stored.ids_before = ids.before.cast_unsigned();
        }
    }
}

impl Ids {
    fn read(connection: &Connection) -> rusqlite::Result<Self> {
        let sql = "SELECT coalesce((SELECT min(number) FROM _understudy_reading_id), 1), \
                   coalesce((SELECT max(number) FROM _understudy_reading_id), 0) + 1";
        let (before, next) =
            connection.prepare_cached(sql)?.query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(Self { before, next, count: None, new: BTreeSet::new() })
    }

    /// As many are remembered as may be. Some in the range may have been forgotten before
    /// those around them.
    fn are_full(&mut self, connection: &Connection) -> rusqlite::Result<bool> {
        if (self.next - self.before).cast_unsigned() < READING_IDS_MAX {
            return Ok(false);
        }
        let count = match self.count {
            Some(count) => count,
            None => {
                let sql = "SELECT count(*) FROM _understudy_reading_id WHERE number >= ?1";
                let mut select = connection.prepare_cached(sql)?;
                let count: i64 = select.query_row([self.before], |row| row.get(0))?;
                *self.count.insert(count.cast_unsigned())
            }
        };
        Ok(count + self.new.len() as u64 >= READING_IDS_MAX)
    }

    /// Forgets the oldest, where it is due.
    fn forget(&mut self, connection: &Connection, wall_us: Option<i64>) -> rusqlite::Result<()> {
        let sql = "SELECT number, time FROM _understudy_reading_id WHERE number >= ?1 \
                   ORDER BY number LIMIT 1";
        let mut select = connection.prepare_cached(sql)?;
        let oldest: Option<(i64, i64)> =
            select.query_row([self.before], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
        if let Some((number, time)) = oldest {
            let is_due = is_due(time, wall_us);
            self.before = if is_due { number + 1 } else { number };
            self.count = self.count.map(|count| count - u64::from(is_due));
        }
        Ok(())
    }
}

/// Why a row that was tried is left out, if it is.
fn reason_barred(tried: rusqlite::Result<()>) -> rusqlite::Result<Option<String>> {
    match tried {
        Ok(()) => Ok(None),
        Err(error) if is_barred(&error) => Ok(Some(words(&error))),
        Err(error) => Err(error),
    }
}

/// Is an id forgotten that came at this time, 0 where nobody knew it?
fn is_due(time: i64, wall_us: Option<i64>) -> bool {
    let kept_us = i64::try_from(READING_ID_MS * 1_000).unwrap_or(i64::MAX);
    time != 0 && wall_us.is_some_and(|now| now.saturating_sub(time) >= kept_us)
}
