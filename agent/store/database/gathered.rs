//! What a batch has come to so far: rows by their identity, the last state of
//! each, and what all of it encodes to at the most.
//!
//! A row that came and went between two schema statements does not travel: the
//! boards have never had it.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, btree_map::Entry},
};

use understudy_core::{
    change::{Change, Row, Segment},
    event::Position,
    limits::{
        CHANGE_CELLS_MAX, CHANGE_COPIED_BYTES_MAX, CHANGE_ROW_CELLS, COUNTER_MAX, ENTRY_BYTES_MAX,
    },
    sql::Value,
};

use super::schema::SchemaError;
use crate::store::ffi::Identity;

/// Rows of one batch, the last state of each, until a schema statement closes
/// them off.
#[derive(Default)]
pub(crate) struct Gathered {
    segments: Vec<Segment>,
    open: BTreeMap<u32, Rows>,
    /// A bound on what all of it encodes to, bytes.
    bytes: usize,
    /// The same where every value stands by itself: a bound on what strings that
    /// stand elsewhere come to.
    whole_bytes: usize,
    /// Values in all of it.
    cells: usize,
    /// All of it is closed off, and `bytes` what it encodes to.
    is_exact: bool,
    /// Bytes and values that have their room although they are not known yet.
    reserved: (usize, usize),
}

/// An identity in an order of its own.
#[derive(Clone, PartialEq)]
pub(crate) struct Key(pub(crate) Identity);

impl Eq for Key {}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        match (&self.0, &other.0) {
            (Identity::Rowid(one), Identity::Rowid(other)) => one.cmp(other),
            (Identity::Key(one), Identity::Key(other)) => {
                let parts = one.iter().zip(other).map(|(one, other)| by_bits(one, other));
                let different = { parts }.find(|order| order.is_ne());
                different.unwrap_or_else(|| one.len().cmp(&other.len()))
            }
            (Identity::Rowid(_), Identity::Key(_)) => Ordering::Less,
            (Identity::Key(_), Identity::Rowid(_)) => Ordering::Greater,
        }
    }
}

/// Equal where [`Value`] is.
fn by_bits(one: &Value, other: &Value) -> Ordering {
    let rank = |value: &Value| match value {
        Value::Null => 0,
        Value::Integer(_) => 1,
        Value::Real(_) => 2,
        Value::Text(_) => 3,
        Value::Blob(_) => 4,
    };
    match (one, other) {
        (Value::Integer(one), Value::Integer(other)) => one.cmp(other),
        (Value::Real(one), Value::Real(other)) => one.to_bits().cmp(&other.to_bits()),
        (Value::Text(one), Value::Text(other)) | (Value::Blob(one), Value::Blob(other)) => {
            one.cmp(other)
        }
        _ => rank(one).cmp(&rank(other)),
    }
}

/// What becomes of one identity.
struct Fate {
    /// Among all that were touched.
    place: usize,
    /// A row of it was there before.
    existed: bool,
    /// None where one came and went.
    row: Option<Row>,
}

#[derive(Default)]
struct Rows(BTreeMap<Key, Fate>);

impl Rows {
    /// What of all this is not to travel: what the row takes the place of, and the
    /// row itself when it only says that one is gone which came meanwhile.
    fn put(&mut self, key: Key, existed: bool, row: Row) -> [Option<Row>; 2] {
        let place = self.0.len();
        let fate = match self.0.entry(key) {
            Entry::Occupied(fate) => fate.into_mut(),
            Entry::Vacant(none) => {
                none.insert(Fate { place, existed, row: Some(row) });
                return [None, None];
            }
        };
        match (&mut fate.row, row) {
            (former, row @ Row::Delete { .. }) if !fate.existed => [former.take(), Some(row)],
            (Some(former), row) => [merge(former, row), None],
            (None, row) => {
                fate.row = Some(row);
                [None, None]
            }
        }
    }

    fn in_order(self) -> impl Iterator<Item = (Key, Fate)> {
        let mut fates: Vec<(Key, Fate)> = self.0.into_iter().collect();
        fates.sort_unstable_by_key(|(_, fate)| fate.place);
        fates.into_iter()
    }

    /// Rows make way before others take their values; rows of one shape stand
    /// together.
    fn into_rows(self) -> Vec<Row> {
        let mut rows: Vec<Row> = self.in_order().filter_map(|(_, fate)| fate.row).collect();
        rows.sort_by(by_shape);
        rows
    }
}

impl Gathered {
    /// Puts a row's present state in, on top of what an earlier request of the
    /// batch left; `existed` when there was one before this request.
    pub(crate) fn put(&mut self, table: u32, key: Key, existed: bool, row: Row) {
        self.is_exact = false;
        self.add(row_bytes(&row), row_cells(&row));
        let gone = self.open.entry(table).or_default().put(key, existed, row);
        for row in gone.into_iter().flatten() {
            self.bytes -= row_bytes(&row);
            self.whole_bytes -= row_bytes(&row);
            self.cells -= row_cells(&row);
        }
    }

    const fn add(&mut self, bytes: usize, cells: usize) {
        self.bytes += bytes;
        self.whole_bytes += bytes;
        self.cells += cells;
    }

    /// Ends the gathering of what no entry could hold, whatever it encodes to.
    pub(crate) fn within_bounds(&self) -> Result<(), SchemaError> {
        let fits = self.whole_bytes <= CHANGE_COPIED_BYTES_MAX && self.cells <= CHANGE_CELLS_MAX;
        if fits { Ok(()) } else { Err(SchemaError::TooLarge) }
    }

    /// Puts what it encodes to in place of the bound on it.
    pub(crate) fn settle(&mut self) {
        if self.is_exact || self.within_bounds().is_err() {
            return;
        }
        self.close();
        let segments = std::mem::take(&mut self.segments);
        let change = Change { base: BASE_MAX, fingerprint: 0, segments };
        self.bytes = change.encode().len();
        self.segments = change.segments;
        self.is_exact = true;
    }

    /// Does one entry hold both, by their bounds?
    pub(crate) const fn fits_beside(&self, other: &Self) -> bool {
        let (bytes, cells) = self.reserved;
        let reserved = (bytes + other.reserved.0, cells + other.reserved.1);
        HEAD_BYTES + self.bytes + other.bytes + reserved.0 <= ENTRY_BYTES_MAX
            && self.whole_bytes + other.whole_bytes + reserved.0 <= CHANGE_COPIED_BYTES_MAX
            && self.cells + other.cells + reserved.1 <= CHANGE_CELLS_MAX
    }

    /// Keeps room for what comes in the end; false when there is none.
    pub(crate) fn reserve(&mut self, bytes: usize, cells: usize) -> bool {
        let before = self.reserved;
        self.reserved = (before.0 + bytes, before.1 + cells);
        let fits = self.fits_beside(&Self::default());
        if !fits {
            self.reserved = before;
        }
        fits
    }

    /// What the room was kept for comes now.
    pub(crate) const fn release(&mut self) {
        self.reserved = (0, 0);
    }

    /// Puts behind all else what room was kept for.
    pub(crate) fn add_last(&mut self, segment: Segment) {
        self.close();
        self.is_exact = false;
        self.segments.push(segment);
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.bytes == 0 && self.reserved.0 == 0
    }

    /// Is it likely that something small fits beside it?
    pub(crate) const fn has_room(&self) -> bool {
        let (bytes, cells) = self.reserved;
        self.bytes + bytes <= ENTRY_BYTES_MAX / 2 && self.cells + cells <= CHANGE_CELLS_MAX / 2
    }

    /// Appends what a request gathered.
    pub(crate) fn absorb(&mut self, later: Self) {
        self.bytes += later.bytes;
        self.whole_bytes += later.whole_bytes;
        self.cells += later.cells;
        if !later.segments.is_empty() {
            self.close();
            self.is_exact &= later.is_exact;
            self.segments.extend(later.segments);
            self.open = later.open;
            return;
        }
        for (table, rows) in later.open {
            match self.open.entry(table) {
                Entry::Vacant(none) => {
                    none.insert(rows);
                }
                Entry::Occupied(mut known) => {
                    for (key, Fate { existed, row, .. }) in rows.in_order() {
                        row.map(|row| known.get_mut().put(key, existed, row));
                    }
                }
            }
            self.is_exact = false;
        }
    }

    fn close(&mut self) {
        for (table, rows) in std::mem::take(&mut self.open) {
            let rows = rows.into_rows();
            if !rows.is_empty() {
                self.segments.push(Segment::Rows { table, rows });
            }
        }
    }

    /// A schema statement ran: what was gathered before it stays before it.
    pub(crate) fn schema(&mut self, sql: String) {
        self.close();
        self.is_exact = false;
        self.add(sql.len() + ROW_BYTES, CHANGE_ROW_CELLS);
        self.segments.push(Segment::Schema(sql));
    }

    pub(crate) fn into_segments(mut self) -> Vec<Segment> {
        self.close();
        self.segments
    }
}

/// Deletes, then updates by the columns they change, then puts.
fn by_shape(one: &Row, other: &Row) -> Ordering {
    let rank = |row: &Row| match row {
        Row::Delete { .. } => 0,
        Row::Update { .. } => 1,
        Row::Put { .. } => 2,
    };
    let places = |one: &[(u16, Value)], other: &[(u16, Value)]| {
        one.iter().map(|(place, _)| place).cmp(other.iter().map(|(place, _)| place))
    };
    match (one, other) {
        (Row::Update { changed: one, .. }, Row::Update { changed: other, .. }) => {
            places(one, other)
        }
        _ => rank(one).cmp(&rank(other)),
    }
}

/// What a row is after the second, which follows on the first: the first itself
/// when nothing of it is left.
fn merge(row: &mut Row, later: Row) -> Option<Row> {
    let (Row::Put { .. } | Row::Update { .. }, Row::Update { changed: later, .. }) =
        (&*row, &later)
    else {
        return Some(std::mem::replace(row, later));
    };
    for (place, value) in later {
        match row {
            Row::Put { columns, .. } => columns[usize::from(*place)] = value.clone(),
            Row::Update { changed, .. } => {
                match changed.binary_search_by_key(place, |(place, _)| *place) {
                    Ok(at) => changed[at].1 = value.clone(),
                    Err(at) => changed.insert(at, (*place, value.clone())),
                }
            }
            Row::Delete { .. } => {}
        }
    }
    None
}

/// Of the most bytes.
const BASE_MAX: Position = Position { term: COUNTER_MAX, index: COUNTER_MAX };

/// What a change costs beside its segments: version, base and a count.
const HEAD_BYTES: usize = 32;

/// What a row costs beside its values, its share of a segment's head included.
const ROW_BYTES: usize = 24;

const fn value_bytes(value: &Value) -> usize {
    match value {
        Value::Null => 2,
        Value::Integer(_) | Value::Real(_) => 12,
        Value::Text(bytes) | Value::Blob(bytes) => bytes.len() + 16,
    }
}

fn values_bytes(values: &[Value]) -> usize {
    values.iter().map(value_bytes).sum()
}

fn row_bytes(row: &Row) -> usize {
    ROW_BYTES
        + match row {
            Row::Put { columns, .. } => values_bytes(columns),
            Row::Delete { key, .. } => values_bytes(key),
            Row::Update { key, changed, .. } => {
                let last = changed.last().map_or(0, |(place, _)| usize::from(*place));
                let values = changed.iter().map(|(_, changed)| value_bytes(changed));
                values_bytes(key) + last / 7 + values.sum::<usize>()
            }
        }
}

fn row_cells(row: &Row) -> usize {
    CHANGE_ROW_CELLS
        + match row {
            Row::Put { columns, .. } => columns.len(),
            Row::Delete { key, .. } => key.len(),
            Row::Update { key, changed, .. } => key.len() + changed.len(),
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_can_be_read_to_the_last_value() {
        let mut gathered = Gathered::default();
        let mut left = CHANGE_CELLS_MAX;
        for rowid in 0.. {
            let columns = vec![Value::Null; 30_000.min(left - CHANGE_ROW_CELLS)];
            left -= columns.len() + CHANGE_ROW_CELLS;
            let row = Row::Put { rowid: Some(rowid), columns };
            gathered.put(1, Key(Identity::Rowid(rowid)), false, row);
            if left <= CHANGE_ROW_CELLS {
                break;
            }
        }
        assert!(gathered.fits_beside(&Gathered::default()));
        gathered.schema(String::from("CREATE TABLE t(a)"));
        assert!(!gathered.fits_beside(&Gathered::default()));
        let segments = gathered.into_segments();
        let bytes = Change { base: BASE_MAX, fingerprint: 0, segments }.encode();
        assert!(Change::decode(&bytes, BASE_MAX).is_err());
    }
}
