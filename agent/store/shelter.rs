//! Readings of this board in entries of its log that may never be committed: whoever
//! brought them may have been told that they are on this disk. A start puts them into
//! the spool before anything can replace those entries, each under its old number;
//! if the entries stand after all, the ledger knows the numbers.

use std::collections::{BTreeMap, BTreeSet};

use understudy_core::{
    change::Change,
    event::{Entry, NodeId, SpoolWrite},
    limits::SPOOL_PIECE_BYTES_MAX,
    mutant,
    readings::{Batch, Reading, Stored, StoredRow},
    sql::{self, Origin, RequestKind, SqlRequest, SqlResponse, Value},
};

use super::{
    database::{Database, QueryOutcome},
    journal::{Journal, JournalError, Persist},
};

/// Puts this board's readings in these entries into the spool, unless they are there.
///
/// # Errors
/// As [`Journal::write`] and [`Journal::read_spool`].
pub(super) fn give_shelter(
    journal: &mut Journal,
    database: &mut Database,
    entries: &[Entry],
) -> Result<(), JournalError> {
    let Some(board) = journal.identity().map(|identity| identity.node) else { return Ok(()) };
    // A witness says nothing is safe but what is in its spool: it knows no sensor's name.
    if journal.is_witness() {
        return Ok(());
    }
    let stored: Vec<Stored> =
        entries.iter().filter_map(Change::of).flat_map(Change::into_readings).collect();
    let mut homeless = own(board, &stored);
    if homeless.is_empty() || mutant::is(86) {
        return Ok(());
    }
    let known = spooled(journal)?;
    homeless.retain(|row| !known.contains(&row.number));
    let names: BTreeMap<i64, &String> =
        stored.iter().flat_map(|stored| &stored.sensors).map(|(id, name)| (*id, name)).collect();
    let places = journal.spool()?.last + 1..;
    let mut writes = Vec::new();
    for (place, piece) in places.zip(homeless.chunks(SPOOL_PIECE_BYTES_MAX / 128)) {
        let readings = piece.iter().map(|row| {
            let name = names.get(&row.sensor).map(|name| (*name).clone());
            let name = name.or_else(|| name_of(database, row.sensor));
            (row.number, reading(row, name))
        });
        let readings: Vec<_> = readings.collect();
        let lowest = readings.iter().map(|(number, _)| *number).min().unwrap_or(0);
        let count = u32::try_from(readings.len()).unwrap_or(u32::MAX);
        let data = sql::encode(&Batch { readings, ..Batch::default() });
        writes.push(SpoolWrite::Put { place, readings: count, lowest, data });
    }
    let hard_state = journal.hard_state();
    journal.write(&[Persist { hard_state, spool: writes, ..Persist::default() }])
}

/// Each number once: two entries may bring it, of which one at most will stand.
fn own(board: NodeId, stored: &[Stored]) -> Vec<StoredRow> {
    let own = stored.iter().filter(|stored| stored.board == board);
    let rows = own.flat_map(|stored| &stored.rows).map(|row| (row.number, row.clone()));
    rows.collect::<BTreeMap<_, _>>().into_values().collect()
}

/// All numbers in the spool.
fn spooled(journal: &Journal) -> Result<BTreeSet<u64>, JournalError> {
    let mut numbers = BTreeSet::new();
    let mut after = 0;
    loop {
        let pieces = journal.read_spool(after, SPOOL_PIECE_BYTES_MAX as u64)?;
        let Some(last) = pieces.last() else { return Ok(numbers) };
        after = last.place;
        let batches = pieces.iter().filter_map(|piece| sql::decode::<Batch>(&piece.data).ok());
        numbers.extend(batches.flat_map(|batch| batch.readings).map(|(number, _)| number));
    }
}

/// Under a name that says so where nobody knows its sensor.
fn reading(row: &StoredRow, name: Option<String>) -> Reading {
    Reading {
        sensor: name.unwrap_or_else(|| format!("sensor {}", row.sensor)),
        time: row.time,
        value: row.value.clone(),
        id: row.id.clone(),
        token: row.token,
        is_far: row.is_far,
    }
}

fn name_of(database: &mut Database, sensor: i64) -> Option<String> {
    let (select, id) = ("SELECT name FROM sensor WHERE id = ?", vec![Value::Integer(sensor)]);
    let request = SqlRequest::one(RequestKind::Query, Origin::Agent, select, id);
    let Ok(QueryOutcome::Answered(answer)) = database.query(&sql::encode(&request)) else {
        return None;
    };
    let response: SqlResponse = sql::decode(&answer).ok()?;
    match response.into_rows()?.into_iter().flatten().next()? {
        Value::Text(name) => String::from_utf8(name).ok(),
        Value::Null | Value::Integer(_) | Value::Real(_) | Value::Blob(_) => None,
    }
}
