//! Which rows a batch touches, and what became of them.
//!
//! One permanent preupdate hook notes each touched identity; at the end of each
//! request the rows are read back. What capture misses is missing on the leader
//! too, because the leader applies the captured rows like every board: a missed
//! case shows as a wrong answer in a test, never as silent divergence.
//!
//! A row that comes, and is not touched again before the request ends, is taken as
//! the hook sees it. Not so where what the hook has seen may be undone (a statement
//! failed), and not where it does not see all: a row copied as it stands may end
//! before a column that was added to its table, and so may one of a table that a
//! module writes.
//!
//! A row that was there and kept its identity travels as the columns that
//! changed. Those are told apart by the hook, which sees old and new values, so
//! that no old value is kept: a column that changed and changed back is said to
//! have changed.
//!
//! The hook says nothing of AUTOINCREMENT's own writes; the sequence rows of
//! touched tables are read back beside them.

use std::{collections::BTreeMap, sync::Arc};

use rusqlite::{CachedStatement, Connection, types::ValueRef};
use understudy_core::{
    change::Row,
    limits::{
        CHANGE_CELLS_MAX, REQUEST_NOTES_BYTES_MAX, REQUEST_ROWS_MAX, REQUEST_TOUCHED_BYTES_MAX,
    },
    mutant,
    sql::Value,
};

use super::{
    gathered::{Gathered, Key},
    schema::{Columns, Schema, SchemaError, Table},
};
use crate::store::ffi::{Identity, Touch, Touches};

// The keys of any change that an entry may hold can be noted.
const _: () = assert!(CHANGE_CELLS_MAX * size_of::<Value>() <= REQUEST_NOTES_BYTES_MAX);

/// Values are kept as the hook sees them, until the request ends, while the notes
/// are no larger, bytes.
const VALUES_BYTES_MAX: usize = 2 << 20;

/// What the hook writes down.
#[derive(Default)]
pub(crate) struct Notes {
    schema: Arc<Schema>,
    on: bool,
    touched: Vec<Touched>,
    /// Of the keys and values written down with them, bytes.
    bytes: usize,
    /// Of the rows the request touched, before and after, bytes.
    content_bytes: usize,
    stops: Stops,
    /// What was touched since the last look may be undone in part.
    is_doubtful: bool,
    /// More was touched than one request may: nothing of it is written down.
    is_over: bool,
    /// Tables a schema statement is about: it moves their rows on every board.
    own: Vec<String>,
}

/// When the statement that runs is to end at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Stops {
    /// It is ours.
    #[default]
    Never,
    /// When its request touches too many bytes, which cost memory until its end.
    AtBytes,
    /// When more is noted than one request may touch, too: all of it is its own.
    AtNotes,
}

/// A row that was touched.
pub(crate) struct Touched {
    table: Arc<Table>,
    identity: Key,
    /// It was there before.
    existed: bool,
    /// What changed in it; none when it is another row than before.
    changed: Option<Columns>,
    /// The row itself, when it came and that is all.
    columns: Option<Vec<Value>>,
}

impl Touched {
    /// Of its key and values, in memory.
    fn bytes(&self) -> usize {
        let values = key_of(&self.identity).iter().chain(self.columns.iter().flatten());
        values.map(|value| size_of::<Value>() + string_bytes(value)).sum()
    }
}

const fn string_bytes(value: &Value) -> usize {
    match value {
        Value::Text(bytes) | Value::Blob(bytes) => bytes.len(),
        Value::Null | Value::Integer(_) | Value::Real(_) => 0,
    }
}

impl Touches for Notes {
    type Table = Arc<Table>;

    fn table(&self, name: &[u8]) -> Option<Arc<Table>> {
        let is_own = || self.own.iter().any(|own| self.belongs_to(name, own.as_bytes()));
        if !self.on || self.is_over || is_own() {
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

    fn touched(&mut self, table: Arc<Table>, touch: Touch, bytes: usize) -> bool {
        self.content_bytes += bytes;
        let (identity, existed, changed, columns) = match touch {
            Touch::Came(identity, columns) => (identity, false, None, columns),
            Touch::Went(identity) => (identity, true, None, None),
            Touch::Moved(old, identity) => {
                let table = Arc::clone(&table);
                self.note(Touched {
                    table,
                    identity: Key(old),
                    existed: true,
                    changed: None,
                    columns: None,
                });
                (identity, false, None, None)
            }
            Touch::Changed(identity, places) => {
                let mut changed = Columns::default();
                places.into_iter().for_each(|place| changed.add(place));
                let is_whole = !changed.and(table.unique).is_empty();
                (identity, true, (!is_whole).then_some(changed), None)
            }
        };
        // The end of a shorter row reads as NULL, whatever its column's default is.
        let columns = columns.filter(|columns| columns.last() != Some(&Value::Null));
        self.note(Touched { table, identity: Key(identity), existed, changed, columns });
        match self.stops {
            Stops::Never => true,
            Stops::AtBytes => self.content_bytes <= REQUEST_TOUCHED_BYTES_MAX,
            Stops::AtNotes => !self.is_over,
        }
    }

    fn wants_values(&self, table: &Arc<Table>) -> bool {
        !self.is_doubtful && !table.is_shadow && self.bytes < VALUES_BYTES_MAX
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
        self.content_bytes = 0;
        self.forget();
        self.own.clear();
    }

    /// What was touched since the last look is undone.
    pub(crate) fn forget(&mut self) {
        self.touched.clear();
        self.bytes = 0;
        self.is_doubtful = false;
        self.is_over = false;
    }

    /// Some of what was touched since the last look is undone, or may be.
    pub(crate) fn doubt(&mut self) {
        self.is_doubtful = true;
        self.touched.iter_mut().for_each(|touched| touched.columns = None);
    }

    /// A statement begins, or has ended.
    pub(crate) fn stop(&mut self, stops: Stops) {
        self.stops = stops;
    }

    /// More was touched than a request may touch.
    pub(crate) const fn is_over(&self) -> bool {
        self.is_over
    }

    /// Rows of these tables are not noted from now on.
    pub(crate) fn leave_out(&mut self, own: &[String]) {
        self.own = own.to_vec();
    }

    fn note(&mut self, touched: Touched) {
        self.bytes += touched.bytes();
        self.content_bytes += touched.columns.iter().flatten().map(string_bytes).sum::<usize>();
        self.is_over |= self.touched.len() == REQUEST_ROWS_MAX;
        self.is_over |= self.bytes > REQUEST_NOTES_BYTES_MAX;
        self.is_over |= self.content_bytes > REQUEST_TOUCHED_BYTES_MAX;
        match self.is_over {
            true => self.touched = Vec::new(),
            false => self.touched.push(touched),
        }
    }

    /// What was touched since the last call.
    ///
    /// # Errors
    /// [`SchemaError::TooLarge`] beyond [`REQUEST_ROWS_MAX`] rows,
    /// [`REQUEST_NOTES_BYTES_MAX`] or [`REQUEST_TOUCHED_BYTES_MAX`].
    pub(crate) fn take(&mut self) -> Result<Vec<Touched>, SchemaError> {
        let touched = std::mem::take(&mut self.touched);
        let is_over = self.is_over;
        self.forget();
        if is_over { Err(SchemaError::TooLarge) } else { Ok(touched) }
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
    let mut reading: Option<(Arc<Table>, CachedStatement<'_>)> = None;
    for touched in folded(touched) {
        let table = &touched.table;
        let is_counted = schema.has_sequences && table.has_rowid_column;
        if is_counted && !sequences.iter().any(|known| Arc::ptr_eq(known, table)) {
            sequences.push(Arc::clone(table));
        }
        if touched.columns.is_some() {
            take_row(touched, gathered);
        } else {
            let known = reading.take().filter(|(known, _)| Arc::ptr_eq(known, table));
            let (table, mut select) = match known {
                Some(known) => known,
                None => (Arc::clone(table), connection.prepare_cached(&table.select)?),
            };
            read_row(&mut select, touched, gathered)?;
            reading = Some((table, select));
        }
        gathered.within_bounds()?;
    }
    if schema.has_sequences && !mutant::is(14) {
        read_sequences(connection, schema, &sequences, gathered)?;
    }
    Ok(())
}

/// Each row once, by its first touch and all of its changes.
fn folded(touched: Vec<Touched>) -> Vec<Touched> {
    // None that only came came twice.
    if touched.len() < 2 || touched.iter().all(|touched| touched.columns.is_some()) {
        return touched;
    }
    let mut known: BTreeMap<(u32, &Key), usize> = BTreeMap::new();
    let identities = touched.iter().map(|touched| (touched.table.place, &touched.identity));
    let place_of = |identity| {
        let next = known.len();
        *known.entry(identity).or_insert(next)
    };
    let places: Vec<usize> = identities.map(place_of).collect();
    let mut folded: Vec<Touched> = Vec::with_capacity(known.len());
    for (touched, place) in touched.into_iter().zip(places) {
        match folded.get_mut(place) {
            None => folded.push(touched),
            Some(first) => {
                let both = first.changed.zip(touched.changed);
                first.changed = both.map(|(one, other)| one.or(other));
                first.columns = None;
            }
        }
    }
    folded
}

/// A row that the hook has seen whole.
fn take_row(touched: Touched, gathered: &mut Gathered) {
    let Touched { table, identity, columns, .. } = touched;
    let rowid = rowid_of(&identity);
    let row = Row::Put { rowid, columns: columns.unwrap_or_default() };
    gathered.put(table.place, identity, false, row);
}

const fn rowid_of(identity: &Key) -> Option<i64> {
    match &identity.0 {
        Identity::Rowid(rowid) => Some(*rowid),
        Identity::Key(_) => None,
    }
}

fn key_of(identity: &Key) -> &[Value] {
    match &identity.0 {
        Identity::Rowid(_) => &[],
        Identity::Key(key) => key,
    }
}

fn read_row(
    select: &mut CachedStatement<'_>,
    touched: Touched,
    gathered: &mut Gathered,
) -> rusqlite::Result<()> {
    let Touched { table, identity, existed, changed, .. } = touched;
    if changed.is_some_and(Columns::is_empty) {
        return Ok(());
    }
    let rowid = rowid_of(&identity);
    let key = key_of(&identity);
    let found = read_columns(select, &table, rowid, key)?;
    // Under a collation the key found may differ from the key asked for (`a`
    // finds `A`): they are one row, and the key it has now counts.
    let is_same = found.as_ref().is_some_and(|columns| table.key_of(columns).eq(key));
    if existed && !is_same && (found.is_none() || !mutant::is(32)) {
        let row = Row::Delete { rowid, key: key.to_vec() };
        gathered.put(table.place, identity.clone(), true, row);
    }
    let Some(columns) = found else { return Ok(()) };
    let (known, row) = match changed {
        Some(changed) if is_same => {
            let places = (0..).zip(columns).filter(|(place, _)| changed.has(usize::from(*place)));
            let row = Row::Update { rowid, key: key.to_vec(), changed: places.collect() };
            (identity, row)
        }
        _ if is_same => (identity, Row::Put { rowid, columns }),
        _ => {
            let key = table.key_of(&columns).cloned().collect();
            (Key(Identity::Key(key)), Row::Put { rowid, columns })
        }
    };
    gathered.put(table.place, known, existed && is_same, row);
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
            gathered.put(sequence.place, Key(Identity::Rowid(rowid)), false, row);
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
        gathered.put(table.place, Key(Identity::Rowid(rowid)), false, row);
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

#[cfg(test)]
mod tests {
    use understudy_core::{
        event::{Entry, EntryKind, Executed},
        sql::{self, Origin, RequestKind, SqlRequest, SqlResponse, Statement, StatementOutcome},
    };

    use super::*;
    use crate::store::database::{Database, Failure, Options, refusal};

    #[test]
    fn notes_of_large_keys_stay_within_their_bytes_and_are_dropped_beyond() {
        let directory = tempfile::tempdir().unwrap();
        let database = Database::open(directory.path(), Options::default()).unwrap();
        let sql = "CREATE TABLE t(k PRIMARY KEY) WITHOUT ROWID";
        database.connection.execute_batch(sql).unwrap();
        let mut notes = Notes::default();
        notes.set_schema(Arc::new(Schema::read(&database.connection).unwrap()));
        notes.record(true);
        let mut most = 0;
        for _ in 0..40 {
            let Some(table) = notes.table(b"t") else { break };
            let key = Vec::from([Value::Blob(vec![7; 7 << 20])]);
            let _ = notes.touched(table, Touch::Went(Identity::Key(key)), 0);
            most = most.max(notes.touched.iter().map(Touched::bytes).sum());
        }
        assert!(most > 7 << 20 && most <= REQUEST_NOTES_BYTES_MAX, "{most} bytes");
        assert!(notes.table(b"t").is_none() && notes.touched.capacity() == 0);
        assert!(matches!(notes.take(), Err(SchemaError::TooLarge)));
        assert!(notes.table(b"t").is_some(), "the next request is noted again");
    }

    fn execute(database: &mut Database, sql: &[&str]) -> Result<Executed, Failure> {
        let statements = sql.iter().map(|sql| Statement::new(*sql, Vec::new())).collect();
        let request = SqlRequest::new(RequestKind::Execute, Origin::User, statements);
        database.execute(database.applied(), &[sql::encode(&request)])
    }

    /// Executed, applied, and in the file.
    fn done(database: &mut Database, sql: &str) {
        let executed = execute(database, &[sql]).unwrap();
        apply(database, executed.change);
        database.commit().unwrap();
    }

    fn apply(database: &mut Database, data: Vec<u8>) {
        let index = database.applied().index + 1;
        let entry = Entry { index, term: 1, kind: EntryKind::Change, data };
        database.apply(&[entry]).unwrap();
    }

    fn errors(answer: &[u8]) -> Vec<Option<String>> {
        let response: SqlResponse = sql::decode(answer).unwrap();
        let error = |result: sql::StatementResult| match result.outcome {
            StatementOutcome::Error(words) => Some(words),
            StatementOutcome::Changed { .. } | StatementOutcome::Rows { .. } => None,
        };
        response.results.into_iter().map(error).collect()
    }

    #[test]
    fn a_statement_that_touches_too_much_ends_at_once_and_the_others_of_its_request_go_on() {
        let directory = tempfile::tempdir().unwrap();
        let mut database = Database::open(directory.path(), Options::default()).unwrap();
        apply(&mut database, Vec::new());
        done(&mut database, "CREATE TABLE t(a, b)");
        const MB: usize = 1 << 20;
        for _ in 0..10 {
            let rows = ["(1, zeroblob(4 << 20))"; 6].join(", ");
            done(&mut database, &format!("INSERT INTO t VALUES {rows}"));
        }
        let words = refusal::at(0, &refusal::too_large());
        for sql in ["DELETE FROM t", "UPDATE t SET b = a", "UPDATE t SET b = zeroblob(1 << 20)"] {
            let Err(Failure::Reset { ended_by: Some((0, answer)), .. }) =
                execute(&mut database, &[sql])
            else {
                panic!("{sql} was not ended")
            };
            assert_eq!(errors(&answer), [Some(words.clone())], "{sql}");
            let touched = database.hook.with(|notes| notes.content_bytes);
            assert!(touched / MB >= 64 && touched / MB <= 64 + 8, "{sql}: {touched} bytes");
        }
        let sql = ["INSERT INTO t VALUES (2, 2)", "DELETE FROM t", "INSERT INTO t VALUES (3, 3)"];
        let lost = execute(&mut database, &sql);
        assert!(matches!(lost, Err(Failure::Reset { ended_by: None, .. })), "{lost:?}");
        let executed = execute(&mut database, &sql).unwrap();
        let words = refusal::at(1, &refusal::too_large());
        assert_eq!(errors(executed.answers[0].as_ref().unwrap()), [None, Some(words), None]);
        apply(&mut database, executed.change);
        let count = "SELECT count(*) FROM t";
        let count: i64 = database.connection.query_row(count, [], |row| row.get(0)).unwrap();
        assert_eq!(count, 62);
        done(&mut database, "DELETE FROM t WHERE rowid < 15");
    }

    #[test]
    fn a_statement_over_the_rows_of_a_request_is_not_run_to_its_end() {
        let directory = tempfile::tempdir().unwrap();
        let mut database = Database::open(directory.path(), Options::default()).unwrap();
        apply(&mut database, Vec::new());
        done(&mut database, "CREATE TABLE t(a)");
        let many = "WITH RECURSIVE n(a) AS (SELECT 1 UNION ALL SELECT a + 1 FROM n) \
             INSERT INTO t SELECT a FROM n LIMIT 600000";
        let Err(Failure::Reset { ended_by: Some((0, answer)), .. }) =
            execute(&mut database, &[many])
        else {
            panic!("it was not ended")
        };
        assert_eq!(errors(&answer), [Some(refusal::at(0, &refusal::too_large()))]);
    }
}
