//! Which rows a batch touches, and what became of them.
//!
//! One permanent preupdate hook notes each touched identity; at the end of each
//! request the rows are read back. What capture misses is missing on the leader
//! too, because the leader applies the captured rows like every board: a missed
//! case shows as a wrong answer in a test, never as silent divergence.
//!
//! The hook says nothing of AUTOINCREMENT's own writes; the sequence rows of
//! touched tables are read back beside them.

use std::{collections::BTreeMap, sync::Arc};

use rusqlite::{Connection, types::ValueRef};
use understudy_core::{
    change::{Change, Row, Segment},
    event::Position,
    limits::{
        CHANGE_CELLS_MAX, CHANGE_COPIED_BYTES_MAX, COUNTER_MAX, ENTRY_BYTES_MAX, REQUEST_ROWS_MAX,
    },
    mutant,
    sql::Value,
};

use super::schema::{Schema, SchemaError, Table};
use crate::store::ffi::{Identity, Touches};

/// What the hook writes down.
#[derive(Default)]
pub(crate) struct Notes {
    schema: Arc<Schema>,
    on: bool,
    touched: Vec<Touched>,
    /// More was touched than is written down.
    is_over: bool,
    /// Tables a schema statement is about: it moves their rows on every board.
    own: Vec<String>,
}

/// A row by its table and identity, and whether it was there before.
type Touched = (Vec<u8>, Identity, bool);

impl Touches for Notes {
    fn key_columns(&self, table: &[u8]) -> Option<Vec<i32>> {
        self.schema.named(table)?.key_columns.clone()
    }

    fn touched(&mut self, table: &[u8], old: Option<Identity>, new: Option<Identity>) {
        if !self.on || self.own.iter().any(|own| self.belongs_to(table, own.as_bytes())) {
            return;
        }
        if let Some(old) = &old {
            self.note((table.to_vec(), old.clone(), true));
        }
        if let Some(new) = new
            && old.as_ref() != Some(&new)
        {
            self.note((table.to_vec(), new, false));
        }
    }
}

impl Notes {
    /// The table itself, or a shadow table of it: one that is only now being made
    /// is not in the schema yet.
    fn belongs_to(&self, table: &[u8], owner: &[u8]) -> bool {
        let Some((start, rest)) = table.split_at_checked(owner.len()) else { return false };
        let is_shadow =
            || mutant::is(35) || self.schema.named(table).is_none_or(|table| table.is_shadow);
        start.eq_ignore_ascii_case(owner)
            && (rest.is_empty() || (rest.starts_with(b"_") && is_shadow()))
    }

    pub(crate) fn set_schema(&mut self, schema: Arc<Schema>) {
        self.schema = schema;
    }

    pub(crate) fn record(&mut self, on: bool) {
        self.on = on;
        self.touched.clear();
        self.is_over = false;
        self.own.clear();
    }

    /// What was touched since the last look is undone.
    pub(crate) fn forget(&mut self) {
        self.touched.clear();
        self.is_over = false;
    }

    /// Rows of these tables are not noted from now on.
    pub(crate) fn leave_out(&mut self, own: &[String]) {
        self.own = own.to_vec();
    }

    fn note(&mut self, touched: Touched) {
        self.is_over |= self.touched.len() == REQUEST_ROWS_MAX;
        if !self.is_over {
            self.touched.push(touched);
        }
    }

    /// What was touched since the last call.
    ///
    /// # Errors
    /// [`SchemaError::TooLarge`] beyond [`REQUEST_ROWS_MAX`] rows.
    pub(crate) fn take(&mut self) -> Result<Vec<Touched>, SchemaError> {
        let touched = std::mem::take(&mut self.touched);
        if std::mem::take(&mut self.is_over) { Err(SchemaError::TooLarge) } else { Ok(touched) }
    }
}

/// Rows of one batch, the last state of each, until a schema statement closes
/// them off.
#[derive(Default)]
pub(crate) struct Gathered {
    segments: Vec<Segment>,
    open: BTreeMap<u32, Rows>,
    /// A bound on what all of it encodes to, bytes.
    bytes: usize,
    /// Values in all of it.
    cells: usize,
    /// All of it is closed off, and `bytes` what it encodes to.
    is_exact: bool,
}

#[derive(Default)]
struct Rows {
    order: Vec<(Vec<u8>, Row)>,
    places: BTreeMap<Vec<u8>, usize>,
}

impl Gathered {
    /// Puts a row's present state in, in place of what an earlier request of the
    /// batch left.
    fn put(&mut self, table: u32, identity: Vec<u8>, row: Row) {
        self.is_exact = false;
        self.bytes += row_bytes(&row);
        self.cells += row_cells(&row);
        let rows = self.open.entry(table).or_default();
        let next = rows.order.len();
        let place = *rows.places.entry(identity.clone()).or_insert(next);
        if place == next {
            rows.order.push((identity, row));
        } else {
            let former = std::mem::replace(&mut rows.order[place].1, row);
            self.bytes -= row_bytes(&former);
            self.cells -= row_cells(&former);
        }
    }

    /// Ends the gathering of what no entry could hold, whatever it encodes to.
    fn within_bounds(&self) -> Result<(), SchemaError> {
        let fits = self.bytes <= CHANGE_COPIED_BYTES_MAX && self.cells <= CHANGE_CELLS_MAX;
        if fits { Ok(()) } else { Err(SchemaError::TooLarge) }
    }

    /// Puts what it encodes to in place of the bound on it.
    pub(crate) fn settle(&mut self) {
        if self.is_exact || self.within_bounds().is_err() {
            return;
        }
        self.close();
        let segments = std::mem::take(&mut self.segments);
        let change = Change { base: BASE_MAX, segments };
        self.bytes = change.encode().len();
        self.segments = change.segments;
        self.is_exact = true;
    }

    /// Does one entry hold both, by their bounds?
    pub(crate) const fn fits_beside(&self, other: &Self) -> bool {
        HEAD_BYTES + self.bytes + other.bytes <= ENTRY_BYTES_MAX
            && self.cells + other.cells <= CHANGE_CELLS_MAX
    }

    /// Appends what a request gathered.
    pub(crate) fn absorb(&mut self, later: Self) {
        if !later.segments.is_empty() {
            self.close();
            self.is_exact &= later.is_exact;
            self.segments.extend(later.segments);
            self.bytes += later.bytes;
            self.cells += later.cells;
            self.open = later.open;
            return;
        }
        for (table, rows) in later.open {
            for (identity, row) in rows.order {
                self.put(table, identity, row);
            }
        }
    }

    fn close(&mut self) {
        for (table, rows) in std::mem::take(&mut self.open) {
            let rows = rows.order.into_iter().map(|(_, row)| row).collect();
            self.segments.push(Segment::Rows { table, rows });
        }
    }

    /// A schema statement ran: what was gathered before it stays before it.
    pub(crate) fn schema(&mut self, sql: String) {
        self.close();
        self.is_exact = false;
        self.bytes += sql.len() + ROW_BYTES;
        self.segments.push(Segment::Schema(sql));
    }

    pub(crate) fn into_segments(mut self) -> Vec<Segment> {
        self.close();
        self.segments
    }
}

/// Of the most bytes.
const BASE_MAX: Position = Position { term: COUNTER_MAX, index: COUNTER_MAX };

/// What a change costs beside its segments: version, base and a count.
const HEAD_BYTES: usize = 32;

/// What a row costs beside its values, its share of a segment's head included.
const ROW_BYTES: usize = 24;

fn row_bytes(row: &Row) -> usize {
    let value = |value: &Value| match value {
        Value::Null => 2,
        Value::Integer(_) | Value::Real(_) => 12,
        Value::Text(bytes) | Value::Blob(bytes) => bytes.len() + 10,
    };
    match row {
        Row::Put { columns, .. } => ROW_BYTES + columns.iter().map(value).sum::<usize>(),
        Row::Delete { key, .. } => ROW_BYTES + key.iter().map(value).sum::<usize>(),
    }
}

fn row_cells(row: &Row) -> usize {
    match row {
        Row::Put { columns, .. } => 1 + columns.len(),
        Row::Delete { key, .. } => 1 + key.len(),
    }
}

fn key_bytes(values: &[Value]) -> Vec<u8> {
    understudy_core::sql::encode(&values)
}

/// Reads back the rows that were touched, in the order of their first touch.
pub(crate) fn read_back(
    connection: &Connection,
    schema: &Schema,
    touched: Vec<Touched>,
    gathered: &mut Gathered,
) -> Result<(), SchemaError> {
    let mut seen: BTreeMap<(Vec<u8>, Vec<u8>), ()> = BTreeMap::new();
    let mut sequences: Vec<&Arc<Table>> = Vec::new();
    for (name, identity, existed) in touched {
        let Some(table) = schema.named(&name) else { continue };
        let key = match &identity {
            Identity::Rowid(rowid) => rowid.to_le_bytes().to_vec(),
            Identity::Key(key) => key_bytes(key),
        };
        if seen.insert((name, key), ()).is_some() {
            continue;
        }
        if table.has_rowid_column && !sequences.iter().any(|known| Arc::ptr_eq(known, table)) {
            sequences.push(table);
        }
        read_row(connection, table, identity, existed, gathered)?;
        gathered.within_bounds()?;
    }
    if schema.has_sequences && !mutant::is(14) {
        read_sequences(connection, schema, &sequences, gathered)?;
    }
    Ok(())
}

fn read_row(
    connection: &Connection,
    table: &Table,
    identity: Identity,
    existed: bool,
    gathered: &mut Gathered,
) -> rusqlite::Result<()> {
    let mut select = connection.prepare_cached(&table.select)?;
    match &identity {
        Identity::Rowid(rowid) => select.raw_bind_parameter(1, rowid)?,
        Identity::Key(key) => {
            for (place, value) in (1..).zip(key) {
                select.raw_bind_parameter(place, super::Bound(value))?;
            }
        }
    }
    let mut rows = select.raw_query();
    let found = match rows.next()? {
        Some(row) => {
            let columns = (0..table.columns).map(|at| Ok(value_of(row.get_ref(at)?)));
            Some(columns.collect::<rusqlite::Result<Vec<_>>>()?)
        }
        None => None,
    };
    let row = match (identity, found) {
        (Identity::Rowid(rowid), Some(columns)) => Row::Put { rowid: Some(rowid), columns },
        (Identity::Key(asked), Some(columns)) => {
            if existed && !mutant::is(32) && key_bytes(&asked) != key_bytes(&table.key_of(&columns))
            {
                // Equal under the key's collation and not the same: an earlier request
                // of the batch may have put it in under the former.
                let gone = Row::Delete { rowid: None, key: asked };
                gathered.put(table.fingerprint, identity_of(table, &gone), gone);
            }
            Row::Put { rowid: None, columns }
        }
        (_, None) if !existed => return Ok(()),
        (Identity::Rowid(rowid), None) => Row::Delete { rowid: Some(rowid), key: Vec::new() },
        (Identity::Key(key), None) => Row::Delete { rowid: None, key },
    };
    gathered.put(table.fingerprint, identity_of(table, &row), row);
    Ok(())
}

/// Equal for rows of one identity. Under a collation the key found may differ
/// from the key asked for (`a` finds `A`): they are one row, and the key it has
/// now counts.
fn identity_of(table: &Table, row: &Row) -> Vec<u8> {
    match row {
        Row::Put { rowid: Some(rowid), .. } | Row::Delete { rowid: Some(rowid), .. } => {
            rowid.to_le_bytes().to_vec()
        }
        Row::Put { rowid: None, columns } => key_bytes(&table.key_of(columns)),
        Row::Delete { rowid: None, key } => key_bytes(key),
    }
}

fn read_sequences(
    connection: &Connection,
    schema: &Schema,
    tables: &[&Arc<Table>],
    gathered: &mut Gathered,
) -> rusqlite::Result<()> {
    let Some(sequence) = schema.named(b"sqlite_sequence") else { return Ok(()) };
    for table in tables {
        let mut select = connection
            .prepare_cached("SELECT rowid, name, seq FROM main.sqlite_sequence WHERE name = ?1")?;
        let mut rows = select.query([&table.name])?;
        while let Some(row) = rows.next()? {
            let columns = Vec::from([value_of(row.get_ref(1)?), value_of(row.get_ref(2)?)]);
            let rowid = Some(row.get(0)?);
            let row = Row::Put { rowid, columns };
            gathered.put(sequence.fingerprint, identity_of(sequence, &row), row);
        }
    }
    Ok(())
}

/// Every row of a table, as a table made from a query needs it.
pub(crate) fn read_all(
    connection: &Connection,
    table: &Table,
    gathered: &mut Gathered,
) -> Result<(), SchemaError> {
    let mut select = connection.prepare(&table.select_all)?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let columns = (1..=table.columns).map(|at| Ok(value_of(row.get_ref(at)?)));
        let columns = columns.collect::<rusqlite::Result<Vec<_>>>()?;
        let row = Row::Put { rowid: Some(row.get(0)?), columns };
        gathered.put(table.fingerprint, identity_of(table, &row), row);
        gathered.within_bounds()?;
    }
    Ok(())
}

/// SQLite's value as ours, to the bit.
pub(crate) fn value_of(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(value) => Value::Integer(value),
        ValueRef::Real(value) => Value::Real(value),
        ValueRef::Text(bytes) => Value::Text(bytes.to_vec()),
        ValueRef::Blob(bytes) => Value::Blob(bytes.to_vec()),
    }
}
