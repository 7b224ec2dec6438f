//! Which rows a batch touches, and what became of them.
//!
//! One permanent preupdate hook notes each touched identity; at the end of each
//! request the rows are read back. What capture misses is missing on the leader
//! too, because the leader applies the captured rows like every board: a missed
//! case shows as a wrong answer in a test, never as silent divergence.
//!
//! A row that was there and kept its identity travels as the columns that
//! changed. Those are told apart by the hook, which sees old and new values, so
//! that no old value is kept: a column that changed and changed back is said to
//! have changed.
//!
//! The hook says nothing of AUTOINCREMENT's own writes; the sequence rows of
//! touched tables are read back beside them.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, btree_map::Entry},
    sync::Arc,
};

use rusqlite::{CachedStatement, Connection, types::ValueRef};
use understudy_core::{
    change::{Change, Row, Segment},
    event::Position,
    limits::{
        CHANGE_CELLS_MAX, CHANGE_COPIED_BYTES_MAX, CHANGE_ROW_CELLS, COUNTER_MAX, ENTRY_BYTES_MAX,
        REQUEST_ROWS_MAX,
    },
    mutant,
    sql::Value,
};

use super::schema::{Columns, Schema, SchemaError, Table};
use crate::store::ffi::{Identity, Touch, Touches};

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

/// A row that was touched.
pub(crate) struct Touched {
    table: Arc<Table>,
    identity: Identity,
    /// It was there before.
    existed: bool,
    /// What changed in it; none when it is another row than before.
    changed: Option<Columns>,
}

impl Touches for Notes {
    type Table = Arc<Table>;

    fn table(&self, name: &[u8]) -> Option<Arc<Table>> {
        let is_own = || self.own.iter().any(|own| self.belongs_to(name, own.as_bytes()));
        if !self.on || is_own() {
            return None;
        }
        self.schema.named(name).cloned()
    }

    fn key_columns(table: &Arc<Table>) -> Option<&[i32]> {
        table.key_columns.as_deref()
    }

    fn compared_columns(table: &Arc<Table>) -> &[i32] {
        &table.stored
    }

    fn touched(&mut self, table: Arc<Table>, touch: Touch) {
        let mut note = |table: &Arc<Table>, identity, existed, changed| {
            self.note(Touched { table: Arc::clone(table), identity, existed, changed });
        };
        match touch {
            Touch::Came(identity) => note(&table, identity, false, None),
            Touch::Went(identity) => note(&table, identity, true, None),
            Touch::Moved(old, new) => {
                note(&table, old, true, None);
                note(&table, new, false, None);
            }
            Touch::Changed(identity, places) => {
                let mut changed = Columns::default();
                places.into_iter().for_each(|place| changed.add(place));
                let is_whole = !changed.and(table.unique).is_empty();
                note(&table, identity, true, (!is_whole).then_some(changed));
            }
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

/// Equal for rows of one identity.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Rowid(i64),
    Encoded(Vec<u8>),
}

impl Key {
    fn new(rowid: Option<i64>, key: &[Value]) -> Self {
        rowid.map_or_else(|| Self::Encoded(understudy_core::sql::encode(&key)), Self::Rowid)
    }

    fn of(identity: &Identity) -> Self {
        match identity {
            Identity::Rowid(rowid) => Self::Rowid(*rowid),
            Identity::Key(key) => Self::new(None, key),
        }
    }
}

/// What becomes of one identity.
struct Fate {
    key: Key,
    /// A row of it was there before.
    existed: bool,
    /// None where one came and went.
    row: Option<Row>,
}

#[derive(Default)]
struct Rows {
    order: Vec<Fate>,
    places: BTreeMap<Key, usize>,
}

impl Rows {
    /// What of all this is not to travel: what the row takes the place of, and the
    /// row itself when it only says that one is gone which came meanwhile.
    fn put(&mut self, key: Key, existed: bool, row: Row) -> [Option<Row>; 2] {
        let next = self.order.len();
        let fate = match self.places.entry(key.clone()) {
            Entry::Occupied(place) => &mut self.order[*place.get()],
            Entry::Vacant(place) => {
                place.insert(next);
                self.order.push(Fate { key, existed, row: Some(row) });
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
}

impl Gathered {
    /// Puts a row's present state in, on top of what an earlier request of the
    /// batch left; `existed` when there was one before this request.
    fn put(&mut self, table: u32, key: Key, existed: bool, row: Row) {
        self.is_exact = false;
        self.bytes += row_bytes(&row);
        self.cells += row_cells(&row);
        let gone = self.open.entry(table).or_default().put(key, existed, row);
        for row in gone.into_iter().flatten() {
            self.bytes -= row_bytes(&row);
            self.cells -= row_cells(&row);
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
        let change = Change { base: BASE_MAX, fingerprint: 0, segments };
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
            match self.open.entry(table) {
                Entry::Vacant(none) => {
                    none.insert(rows);
                }
                Entry::Occupied(mut known) => {
                    for Fate { key, existed, row } in rows.order {
                        row.map(|row| known.get_mut().put(key, existed, row));
                    }
                }
            }
            self.is_exact = false;
        }
        self.bytes += later.bytes;
        self.cells += later.cells;
    }

    fn close(&mut self) {
        for (table, rows) in std::mem::take(&mut self.open) {
            let mut rows: Vec<Row> = rows.order.into_iter().filter_map(|fate| fate.row).collect();
            // Rows make way before others take their values; rows of one shape
            // stand together.
            rows.sort_by(by_shape);
            if !rows.is_empty() {
                self.segments.push(Segment::Rows { table, rows });
            }
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

fn row_bytes(row: &Row) -> usize {
    let value = |value: &Value| match value {
        Value::Null => 2,
        Value::Integer(_) | Value::Real(_) => 12,
        Value::Text(bytes) | Value::Blob(bytes) => bytes.len() + 16,
    };
    let all = |values: &[Value]| values.iter().map(value).sum::<usize>();
    ROW_BYTES
        + match row {
            Row::Put { columns, .. } => all(columns),
            Row::Delete { key, .. } => all(key),
            Row::Update { key, changed, .. } => {
                let last = changed.last().map_or(0, |(place, _)| usize::from(*place));
                let values = changed.iter().map(|(_, changed)| value(changed)).sum::<usize>();
                all(key) + last / 7 + values
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

/// Reads back the rows that were touched, in the order of their first touch.
pub(crate) fn read_back(
    connection: &Connection,
    schema: &Schema,
    touched: Vec<Touched>,
    gathered: &mut Gathered,
) -> Result<(), SchemaError> {
    let mut sequences: Vec<Arc<Table>> = Vec::new();
    let folded = folded(touched);
    for of_table in folded.chunk_by(|one, other| Arc::ptr_eq(&one.table, &other.table)) {
        let table = &of_table[0].table;
        if table.has_rowid_column && !sequences.iter().any(|known| Arc::ptr_eq(known, table)) {
            sequences.push(Arc::clone(table));
        }
        let mut select = connection.prepare_cached(&table.select)?;
        for touched in of_table {
            read_row(&mut select, touched, gathered)?;
            gathered.within_bounds()?;
        }
    }
    if schema.has_sequences && !mutant::is(14) {
        read_sequences(connection, schema, &sequences, gathered)?;
    }
    Ok(())
}

/// Each row once, by its first touch and all of its changes.
fn folded(touched: Vec<Touched>) -> Vec<Touched> {
    if touched.len() < 2 {
        return touched;
    }
    let mut places: BTreeMap<(u32, Key), usize> = BTreeMap::new();
    let mut folded: Vec<Touched> = Vec::with_capacity(touched.len());
    for touched in touched {
        let next = folded.len();
        match places.entry((touched.table.place, Key::of(&touched.identity))) {
            Entry::Vacant(place) => {
                place.insert(next);
                folded.push(touched);
            }
            Entry::Occupied(place) => {
                let first = &mut folded[*place.get()];
                let both = first.changed.zip(touched.changed);
                first.changed = both.map(|(one, other)| one.or(other));
            }
        }
    }
    folded
}

fn read_row(
    select: &mut CachedStatement<'_>,
    touched: &Touched,
    gathered: &mut Gathered,
) -> rusqlite::Result<()> {
    let Touched { table, identity, existed, changed } = touched;
    if changed.is_some_and(Columns::is_empty) {
        return Ok(());
    }
    let (rowid, key) = match identity {
        Identity::Rowid(rowid) => (Some(*rowid), &[][..]),
        Identity::Key(key) => (None, &key[..]),
    };
    let found = read_columns(select, table, rowid, key)?;
    // Under a collation the key found may differ from the key asked for (`a`
    // finds `A`): they are one row, and the key it has now counts.
    let is_same = |columns: &Vec<Value>| table.key.iter().map(|at| &columns[*at]).eq(key);
    let is_same = found.as_ref().is_some_and(is_same);
    if *existed && !is_same && (found.is_none() || !mutant::is(32)) {
        let row = Row::Delete { rowid, key: key.to_vec() };
        gathered.put(table.place, Key::new(rowid, key), true, row);
    }
    let Some(columns) = found else { return Ok(()) };
    let (known, row) = match changed {
        Some(changed) if is_same => {
            let places = (0..).zip(columns).filter(|(place, _)| changed.has(usize::from(*place)));
            let row = Row::Update { rowid, key: key.to_vec(), changed: places.collect() };
            (Key::new(rowid, key), row)
        }
        _ if is_same => (Key::new(rowid, key), Row::Put { rowid, columns }),
        _ => {
            let key: Vec<Value> = table.key_of(&columns).cloned().collect();
            (Key::new(rowid, &key), Row::Put { rowid, columns })
        }
    };
    gathered.put(table.place, known, *existed && is_same, row);
    Ok(())
}

/// The stored columns of one row.
fn read_columns(
    select: &mut CachedStatement<'_>,
    table: &Table,
    rowid: Option<i64>,
    key: &[Value],
) -> rusqlite::Result<Option<Vec<Value>>> {
    if let Some(rowid) = rowid {
        select.raw_bind_parameter(1, rowid)?;
    }
    for (place, value) in (1..).zip(key) {
        select.raw_bind_parameter(place, super::Bound(value))?;
    }
    let mut rows = select.raw_query();
    let Some(row) = rows.next()? else { return Ok(None) };
    (0..table.columns).map(|at| Ok(value_of(row.get_ref(at)?))).collect::<Result<_, _>>().map(Some)
}

fn read_sequences(
    connection: &Connection,
    schema: &Schema,
    tables: &[Arc<Table>],
    gathered: &mut Gathered,
) -> rusqlite::Result<()> {
    let Some(sequence) = schema.named(b"sqlite_sequence") else { return Ok(()) };
    for table in tables {
        let mut select = connection
            .prepare_cached("SELECT rowid, name, seq FROM main.sqlite_sequence WHERE name = ?1")?;
        let mut rows = select.query([&table.name])?;
        while let Some(row) = rows.next()? {
            let columns = Vec::from([value_of(row.get_ref(1)?), value_of(row.get_ref(2)?)]);
            let rowid = row.get(0)?;
            let row = Row::Put { rowid: Some(rowid), columns };
            // Its end is never reported: only DROP TABLE removes it, on every board.
            gathered.put(sequence.place, Key::Rowid(rowid), false, row);
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
        let rowid = row.get(0)?;
        let row = Row::Put { rowid: Some(rowid), columns };
        gathered.put(table.place, Key::Rowid(rowid), false, row);
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
