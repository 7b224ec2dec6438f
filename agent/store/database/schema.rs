//! What the tables of `main` look like: how their rows are named, read back and
//! written. Read once per schema, then looked up.
//!
//! The fingerprint covers names, kinds, ordered columns and keys of all tables: a
//! change made on another schema is not applied, so that a table's place among
//! them is enough to name it.

use std::{collections::BTreeMap, sync::Arc};

use rusqlite::Connection;
use understudy_core::sql::Value;

use super::{refusal, text::words, views::Views};

/// All tables that have rows, whether WITHOUT ROWID, whether kept by a virtual one.
///
/// `PRAGMA table_list` would say so too, but compiles every view for it, which takes
/// time that doubles with each view upon another. Only of a table WITHOUT ROWID does
/// SQLite tell the columns of an "index" by the table's own name. What FTS5 keeps is
/// known by its names; two of the tables are not there for every index, and an
/// ordinary table may have such a name, but is made in other words.
const TABLES: &str = "
    SELECT name, EXISTS (SELECT 1 FROM pragma_index_info(t.name, 'main')), EXISTS (
        SELECT 1 FROM sqlite_schema AS v JOIN (
            SELECT 'data' AS kept, '' AS made UNION ALL SELECT 'idx', ''
            UNION ALL SELECT 'config', ''
            UNION ALL SELECT 'docsize', '(id INTEGER PRIMARY KEY, sz BLOB'
            UNION ALL SELECT 'content', '(id INTEGER PRIMARY KEY, c0')
        WHERE v.type = 'table' AND v.rootpage = 0
        AND lower(t.name) = lower(v.name) || '_' || kept AND instr(t.sql, made))
    FROM sqlite_schema AS t WHERE type = 'table' AND rootpage <> 0
    ORDER BY name = 'sqlite_sequence', name";

/// One table, ordinary, WITHOUT ROWID or a shadow of a virtual one.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) name: String,
    /// Among all tables by name.
    pub(crate) place: u32,
    /// Positions of the key among the table's columns, for WITHOUT ROWID.
    pub(crate) key_columns: Option<Vec<i32>>,
    /// Stored columns: not generated, not the rowid itself.
    pub(crate) columns: usize,
    /// Positions of the stored columns among the table's columns.
    pub(crate) stored: Vec<i32>,
    /// Stored columns that a UNIQUE index looks at. Rows that change one of them
    /// travel whole: their values may swap, which no row by row update does.
    pub(crate) unique: Columns,
    /// Quoted names of the stored columns.
    names: Vec<String>,
    /// What identifies a row, from the first parameter on.
    condition: String,
    /// Positions of the key among the stored columns, for WITHOUT ROWID.
    pub(crate) key: Vec<usize>,
    /// Its rowid is a column of its own, so that it may be AUTOINCREMENT.
    pub(crate) has_rowid_column: bool,
    /// It belongs to a virtual table, whose module alone writes it.
    pub(crate) is_shadow: bool,
    pub(crate) select: String,
    /// All rows in the order of their identity, the rowid first where there is one:
    /// for digests, and for a table made from a query.
    pub(crate) select_all: String,
    pub(crate) insert: String,
    pub(crate) delete: String,
    /// All rows in the order in which they are kept, a rowid before the columns.
    pub(crate) scan: String,
}

/// Some of a table's stored columns by their places. From the 64th on all are one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Columns(u64);

impl Columns {
    pub(crate) const ALL: Self = Self(u64::MAX);

    pub(crate) fn add(&mut self, place: usize) {
        self.0 |= 1 << place.min(63);
    }

    pub(crate) const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    pub(crate) const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(crate) fn has(self, place: usize) -> bool {
        self.0 & 1 << place.min(63) != 0
    }

    pub(crate) const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// All tables at one state of the schema.
#[derive(Debug, Default)]
pub(crate) struct Schema {
    by_name: BTreeMap<Vec<u8>, Arc<Table>>,
    by_place: Vec<Arc<Table>>,
    pub(crate) fingerprint: u32,
    /// Apply must switch them off.
    pub(crate) has_triggers: bool,
    /// Virtual tables, in lower case: their modules keep what they read and do
    /// not see their shadow tables change on the writing connection.
    pub(crate) virtual_tables: Vec<String>,
    /// The views, behind which a virtual table may stand.
    pub(crate) views: Arc<Views>,
    /// Some table may have CHECK constraints, which apply leaves to the leader.
    pub(crate) has_checks: bool,
    /// Some table is AUTOINCREMENT.
    pub(crate) has_sequences: bool,
}

/// Why a schema, or a request on it, is not acceptable.
#[derive(Debug)]
pub(crate) enum SchemaError {
    Sqlite(rusqlite::Error),
    /// No name is left by which a table's rowid could be reached.
    HiddenRowid(String),
    /// A request changes more than one entry holds.
    TooLarge,
    /// It is refused for another reason, in these words.
    Refused(String),
    /// Its values do not fit it, in these words.
    Unbound(String),
}

impl SchemaError {
    /// What the caller is told.
    pub(crate) fn words(&self) -> String {
        match self {
            Self::Sqlite(error) => words(error),
            Self::HiddenRowid(table) => refusal::hidden_rowid(table),
            Self::TooLarge => refusal::too_large(),
            Self::Refused(words) | Self::Unbound(words) => words.clone(),
        }
    }
}

impl From<rusqlite::Error> for SchemaError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl Schema {
    /// Reads the present schema.
    pub(crate) fn read(connection: &Connection) -> Result<Self, SchemaError> {
        let mut schema = Self::default();
        // Rows are applied in the order of their tables: the sequences come last, for
        // the rows they count move them too.
        let mut tables = connection.prepare_cached(TABLES)?;
        let tables = tables
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
            .collect::<Result<Vec<(String, bool, bool)>, _>>()?;
        let mut widths = Vec::with_capacity(tables.len());
        for (place, (name, without_rowid, is_shadow)) in (0..).zip(tables) {
            let columns = read_columns(connection, &name)?;
            widths.push((name.clone(), u32::try_from(columns.len()).unwrap_or(u32::MAX)));
            let table = Table::read(connection, name, place, without_rowid, &columns)?;
            schema.fingerprint = fingerprint(schema.fingerprint, &table, &columns);
            schema.add(Table { is_shadow, ..table });
        }
        schema.has_sequences = schema.by_name.contains_key(b"sqlite_sequence".as_slice());
        schema.virtual_tables = connection
            .prepare_cached(
                "SELECT lower(name) FROM sqlite_schema WHERE type = 'table' AND rootpage = 0",
            )?
            .query_map([], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        schema.views = Arc::new(Views::read(connection, &widths)?);
        schema.has_checks = connection
            .prepare_cached(
                "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE upper(sql) LIKE '%CHECK%')",
            )?
            .query_row([], |row| row.get(0))?;
        schema.has_triggers = connection
            .prepare_cached("SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'trigger')")?
            .query_row([], |row| row.get(0))?;
        Ok(schema)
    }

    fn add(&mut self, table: Table) {
        let table = Arc::new(table);
        self.by_name.insert(table.name.clone().into_bytes(), Arc::clone(&table));
        self.by_place.push(table);
    }

    pub(crate) fn named(&self, name: &[u8]) -> Option<&Arc<Table>> {
        self.by_name.get(name)
    }

    pub(crate) fn at(&self, place: u32) -> Option<&Arc<Table>> {
        self.by_place.get(usize::try_from(place).ok()?)
    }

    /// The table that SQL finds by this name.
    pub(crate) fn named_in_any_case(&self, name: &str) -> Option<&Arc<Table>> {
        let any_case = || self.tables().find(|table| table.name.eq_ignore_ascii_case(name));
        self.named(name.as_bytes()).or_else(any_case)
    }

    /// May this text read a virtual table? SQLite's checks read all of them.
    pub(crate) fn may_read_virtual(&self, text: &str) -> bool {
        if self.virtual_tables.is_empty() {
            return false;
        }
        let text = text.to_lowercase();
        let checks = text.contains("integrity_check") || text.contains("quick_check");
        checks
            || self.views.are_there()
            || self.virtual_tables.iter().any(|name| text.contains(name.as_str()))
    }

    pub(crate) fn tables(&self) -> impl Iterator<Item = &Arc<Table>> {
        self.by_name.values()
    }
}

struct Column {
    name: String,
    declared: String,
    key: i64,
    hidden: i64,
}

impl Table {
    /// The key among the stored columns of a row of a WITHOUT ROWID table.
    pub(crate) fn key_of<'v>(&self, columns: &'v [Value]) -> impl Iterator<Item = &'v Value> {
        self.key.iter().map(|at| &columns[*at])
    }

    fn read(
        connection: &Connection,
        name: String,
        place: u32,
        without_rowid: bool,
        columns: &[Column],
    ) -> Result<Self, SchemaError> {
        let rowid_column = match without_rowid {
            true => None,
            false => rowid_column(connection, &name, columns)?,
        };
        let mut table = Self::describe(name, place, without_rowid, columns, rowid_column)?;
        table.unique = table.unique_columns(connection, rowid_column)?;
        Ok(table)
    }

    fn describe(
        name: String,
        place: u32,
        without_rowid: bool,
        columns: &[Column],
        rowid_column: Option<usize>,
    ) -> Result<Self, SchemaError> {
        let stored: Vec<(usize, &Column)> = columns
            .iter()
            .enumerate()
            .filter(|(place, column)| column.hidden == 0 && Some(*place) != rowid_column)
            .collect();
        let names: Vec<String> = stored.iter().map(|(_, column)| quoted(&column.name)).collect();
        let mut key: Vec<(i64, usize, usize)> = stored
            .iter()
            .enumerate()
            .filter(|(_, (_, column))| without_rowid && column.key > 0)
            .map(|(at, (place, column))| (column.key, at, *place))
            .collect();
        key.sort_unstable();
        let rowid = match (without_rowid, rowid_column) {
            (true, _) => None,
            (false, Some(place)) => Some(quoted(&columns[place].name)),
            (false, None) => Some(free_rowid_name(&name, columns)?),
        };
        let quoted_name = quoted(&name);
        let condition = match &rowid {
            Some(rowid) => format!("{rowid} = ?1"),
            None => conditions(&key, &names),
        };
        let selected = match (&rowid, names.is_empty()) {
            (Some(rowid), true) => rowid.clone(),
            _ => names.join(", "),
        };
        let all: Vec<String> = rowid.iter().cloned().chain(names.iter().cloned()).collect();
        let places: Vec<String> = (1..=all.len()).map(|place| format!("?{place}")).collect();
        Ok(Self {
            place,
            columns: names.len(),
            stored: stored.iter().map(|(place, _)| cid(*place)).collect(),
            unique: Columns::default(),
            key_columns: without_rowid
                .then(|| key.iter().map(|(_, _, place)| cid(*place)).collect()),
            key: key.iter().map(|(_, at, _)| *at).collect(),
            has_rowid_column: rowid_column.is_some(),
            is_shadow: false,
            select: format!("SELECT {selected} FROM main.{quoted_name} WHERE {condition}"),
            select_all: match &rowid {
                Some(rowid) => {
                    format!("SELECT {rowid}, {selected} FROM main.{quoted_name} ORDER BY {rowid}")
                }
                None => {
                    let order = order(&key);
                    format!("SELECT {selected} FROM main.{quoted_name} ORDER BY {order}")
                }
            },
            insert: format!(
                "INSERT OR ABORT INTO main.{quoted_name} ({}) VALUES ({})",
                all.join(", "),
                places.join(", ")
            ),
            delete: format!("DELETE FROM main.{quoted_name} WHERE {condition}"),
            scan: format!("SELECT {} FROM main.{quoted_name} NOT INDEXED", all.join(", ")),
            name,
            names,
            condition,
        })
    }

    /// Those that some UNIQUE index of the table looks at; all where one looks at
    /// what is not simply a column.
    fn unique_columns(
        &self,
        connection: &Connection,
        rowid_column: Option<usize>,
    ) -> rusqlite::Result<Columns> {
        let mut select = connection.prepare_cached(
            "SELECT list.partial, info.cid FROM pragma_index_list(?1, 'main') AS list, \
             pragma_index_xinfo(list.name, 'main') AS info \
             WHERE list.\"unique\" AND list.origin <> 'pk' OR list.\"unique\" AND ?2",
        )?;
        let has_rowid = self.key_columns.is_none();
        let mut rows = select.query(rusqlite::params![self.name, has_rowid])?;
        let mut columns = Columns::default();
        while let Some(row) = rows.next()? {
            let (is_partial, column): (bool, i32) = (row.get(0)?, row.get(1)?);
            let is_rowid = column == -1 || rowid_column.is_some_and(|place| cid(place) == column);
            match self.stored.iter().position(|stored| *stored == column) {
                _ if is_partial => columns = Columns::ALL,
                Some(place) => columns.add(place),
                None if is_rowid => {}
                None => columns = Columns::ALL,
            }
        }
        Ok(columns)
    }

    /// Changes these stored columns of one row: identity first, then they.
    pub(crate) fn update(&self, places: impl Iterator<Item = usize>) -> String {
        let identity = self.key_columns.as_ref().map_or(1, Vec::len);
        let columns: Vec<String> = (identity + 1..)
            .zip(places)
            .map(|(parameter, place)| format!("{} = ?{parameter}", self.names[place]))
            .collect();
        let (name, condition) = (quoted(&self.name), &self.condition);
        format!("UPDATE OR ABORT main.{name} SET {} WHERE {condition}", columns.join(", "))
    }
}

fn order(key: &[(i64, usize, usize)]) -> String {
    key.iter().map(|(_, at, _)| (at + 1).to_string()).collect::<Vec<_>>().join(", ")
}

fn conditions(key: &[(i64, usize, usize)], names: &[String]) -> String {
    let parts = (1..).zip(key).map(|(place, (_, at, _))| format!("{} = ?{place}", names[*at]));
    parts.collect::<Vec<String>>().join(" AND ")
}

/// The column that is the rowid itself: declared as the only key, and without an
/// index of its own.
fn rowid_column(
    connection: &Connection,
    name: &str,
    columns: &[Column],
) -> Result<Option<usize>, SchemaError> {
    let mut keys = columns.iter().enumerate().filter(|(_, column)| column.key > 0);
    let (Some((place, column)), None) = (keys.next(), keys.next()) else { return Ok(None) };
    if !column.declared.eq_ignore_ascii_case("INTEGER") {
        return Ok(None);
    }
    let indexed: bool = connection
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM pragma_index_list(?1, 'main') WHERE origin = 'pk')",
        )?
        .query_row([name], |row| row.get(0))?;
    Ok((!indexed).then_some(place))
}

fn free_rowid_name(table: &str, columns: &[Column]) -> Result<String, SchemaError> {
    let taken = |name: &str| columns.iter().any(|column| column.name.eq_ignore_ascii_case(name));
    ["rowid", "_rowid_", "oid"]
        .into_iter()
        .find(|name| !taken(name))
        .map(String::from)
        .ok_or_else(|| SchemaError::HiddenRowid(table.to_owned()))
}

fn read_columns(connection: &Connection, table: &str) -> rusqlite::Result<Vec<Column>> {
    connection
        .prepare_cached(
            "SELECT name, type, pk, hidden FROM pragma_table_xinfo(?1, 'main') ORDER BY cid",
        )?
        .query_map([table], |row| {
            let (name, declared) = (row.get(0)?, row.get(1)?);
            Ok(Column { name, declared, key: row.get(2)?, hidden: row.get(3)? })
        })?
        .collect()
}

/// A column's place as SQLite numbers it.
fn cid(place: usize) -> i32 {
    i32::try_from(place).unwrap_or(i32::MAX)
}

/// That of the tables before, with one more.
fn fingerprint(before: u32, table: &Table, columns: &[Column]) -> u32 {
    let mut text = format!("{}\0{:?}\0{:?}", table.name, table.key_columns, table.stored);
    for column in columns {
        let Column { name, declared, key, hidden } = column;
        text.push_str(&format!("\0{name}\0{declared}\0{key}\0{hidden}"));
    }
    crc32c::crc32c_append(before, text.as_bytes())
}

/// A name as SQL takes it, whatever it holds.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    };

    use super::*;

    #[test]
    fn reading_the_schema_compiles_no_view() {
        let mut connection = Connection::open_in_memory().unwrap();
        connection
            .execute_batch(
                "CREATE TABLE t(a UNIQUE); CREATE TABLE k(a PRIMARY KEY) WITHOUT ROWID;
                 CREATE VIEW v AS SELECT a FROM t; CREATE VIEW w AS SELECT a FROM v;",
            )
            .unwrap();
        let in_view = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&in_view);
        let watch = move |context: rusqlite::hooks::AuthContext<'_>| {
            seen.fetch_or(context.accessor.is_some(), Relaxed);
            rusqlite::hooks::Authorization::Allow
        };
        connection.authorizer(Some(watch)).unwrap();
        Schema::read(&connection).unwrap();
        assert!(!in_view.load(Relaxed));
        connection.prepare("SELECT a FROM v").unwrap();
        assert!(in_view.load(Relaxed), "a view that is compiled is seen");
    }

    #[test]
    fn tables_are_told_apart_as_sqlite_does() {
        let connection = Connection::open_in_memory().unwrap();
        connection
            .execute_batch(
                "CREATE TABLE t(a INTEGER PRIMARY KEY AUTOINCREMENT, b UNIQUE);
                 CREATE TABLE k(a PRIMARY KEY, b) WITHOUT ROWID; CREATE TABLE r(a PRIMARY KEY);
                 CREATE TABLE \"with 'quotes'\"(a, b, PRIMARY KEY(b, a)) WITHOUT ROWID;
                 CREATE VIRTUAL TABLE f USING fts5(a, b); CREATE TABLE f_other(a);
                 CREATE VIRTUAL TABLE g USING fts5(a, tokenize = porter, contentless_delete = 1, content = '');
                 CREATE VIRTUAL TABLE loc USING fts5(a, locale = 1);
                 ALTER TABLE f RENAME TO F2; CREATE INDEX i ON t(b); ANALYZE;",
            )
            .unwrap();
        let by_sqlite = "SELECT name, wr, type = 'shadow' FROM pragma_table_list
             WHERE schema = 'main' AND type IN ('table', 'shadow') AND name <> 'sqlite_schema'
             ORDER BY name = 'sqlite_sequence', name";
        let [ours, theirs] = [TABLES, by_sqlite].map(|sql| {
            let mut select = connection.prepare(sql).unwrap();
            let rows = select.query_map([], |row| <(String, bool, bool)>::try_from(row)).unwrap();
            rows.collect::<Result<Vec<_>, _>>().unwrap()
        });
        assert_eq!(ours, theirs);
        assert!(ours.len() > 15, "{ours:?}");
    }

    #[test]
    fn a_table_that_an_index_does_not_keep_is_an_ordinary_one() {
        let connection = Connection::open_in_memory().unwrap();
        connection
            .execute_batch(
                "CREATE VIRTUAL TABLE f USING fts5(a, content = '', columnsize = 0);
                 CREATE TABLE f_content(a); CREATE TABLE f_docsize(id INTEGER PRIMARY KEY, a);",
            )
            .unwrap();
        let schema = Schema::read(&connection).unwrap();
        let is_shadow = |name: &str| schema.named(name.as_bytes()).unwrap().is_shadow;
        assert!(is_shadow("f_data") && is_shadow("f_idx") && is_shadow("f_config"));
        assert!(!is_shadow("f_content") && !is_shadow("f_docsize"));
    }
}
