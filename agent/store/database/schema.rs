//! What the tables of `main` look like: how their rows are named, read back and
//! written. Read once per schema, then looked up.
//!
//! A table's fingerprint covers name, kind, ordered columns and key: a change
//! made on another shape of table finds no table at all.

use std::{collections::BTreeMap, sync::Arc};

use rusqlite::Connection;

/// One table, ordinary, WITHOUT ROWID or a shadow of a virtual one.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) name: String,
    pub(crate) fingerprint: u32,
    /// Positions of the key among the table's columns, for WITHOUT ROWID.
    pub(crate) key_columns: Option<Vec<i32>>,
    /// Stored columns: not generated, not the rowid itself.
    pub(crate) columns: usize,
    /// Positions of the key among the stored columns, for WITHOUT ROWID.
    pub(crate) key: Vec<usize>,
    /// Its rowid is a column of its own, so that it may be AUTOINCREMENT.
    pub(crate) has_rowid_column: bool,
    pub(crate) select: String,
    pub(crate) insert: String,
    pub(crate) delete: String,
    /// All rows in the order in which they are kept, a rowid before the columns.
    pub(crate) scan: String,
}

/// All tables at one state of the schema.
#[derive(Debug, Default)]
pub(crate) struct Schema {
    by_name: BTreeMap<Vec<u8>, Arc<Table>>,
    by_fingerprint: BTreeMap<u32, Arc<Table>>,
    /// Apply must switch them off.
    pub(crate) has_triggers: bool,
    /// Virtual tables, in lower case: their modules keep what they read and do
    /// not see their shadow tables change on the writing connection.
    pub(crate) virtual_tables: Vec<String>,
    /// There are views, behind which a virtual table may stand.
    pub(crate) has_views: bool,
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
    /// Two tables share a fingerprint.
    SameFingerprint(String, String),
    /// A request changes more than one entry holds.
    TooLarge,
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
        let mut tables = connection.prepare_cached(
            "SELECT name, wr FROM pragma_table_list WHERE schema = 'main' \
             AND type IN ('table', 'shadow') \
             AND name NOT IN ('sqlite_schema', 'sqlite_master') ORDER BY name",
        )?;
        let tables = tables
            .query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, bool>(1)?)))?
            .collect::<Result<Vec<_>, _>>()?;
        for (name, without_rowid) in tables {
            schema.add(Table::read(connection, name, without_rowid)?)?;
        }
        schema.has_sequences = schema.by_name.contains_key(b"sqlite_sequence".as_slice());
        schema.virtual_tables = connection
            .prepare_cached("SELECT lower(name) FROM pragma_table_list WHERE type = 'virtual'")?
            .query_map([], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        schema.has_views = connection
            .prepare_cached("SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'view')")?
            .query_row([], |row| row.get(0))?;
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

    fn add(&mut self, table: Table) -> Result<(), SchemaError> {
        let table = Arc::new(table);
        let name = table.name.clone();
        if let Some(other) = self.by_fingerprint.insert(table.fingerprint, Arc::clone(&table)) {
            return Err(SchemaError::SameFingerprint(other.name.clone(), name));
        }
        self.by_name.insert(name.into_bytes(), table);
        Ok(())
    }

    pub(crate) fn named(&self, name: &[u8]) -> Option<&Arc<Table>> {
        self.by_name.get(name)
    }

    pub(crate) fn of(&self, fingerprint: u32) -> Option<&Arc<Table>> {
        self.by_fingerprint.get(&fingerprint)
    }

    /// May this text read a virtual table?
    pub(crate) fn may_read_virtual(&self, text: &str) -> bool {
        if self.virtual_tables.is_empty() {
            return false;
        }
        let text = text.to_lowercase();
        self.has_views || self.virtual_tables.iter().any(|name| text.contains(name.as_str()))
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
    fn read(
        connection: &Connection,
        name: String,
        without_rowid: bool,
    ) -> Result<Self, SchemaError> {
        let columns = connection
            .prepare_cached(
                "SELECT name, type, pk, hidden FROM pragma_table_xinfo(?1, 'main') ORDER BY cid",
            )?
            .query_map([&name], |row| {
                let (name, declared) = (row.get(0)?, row.get(1)?);
                Ok(Column { name, declared, key: row.get(2)?, hidden: row.get(3)? })
            })?
            .collect::<Result<Vec<_>, _>>()?;
        let rowid_column = match without_rowid {
            true => None,
            false => rowid_column(connection, &name, &columns)?,
        };
        Self::describe(name, without_rowid, &columns, rowid_column)
    }

    fn describe(
        name: String,
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
        let fingerprint = fingerprint(&name, without_rowid, columns, rowid_column);
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
            fingerprint,
            columns: names.len(),
            key_columns: without_rowid.then(|| {
                key.iter().map(|(_, _, place)| i32::try_from(*place).unwrap_or(i32::MAX)).collect()
            }),
            key: key.iter().map(|(_, at, _)| *at).collect(),
            has_rowid_column: rowid_column.is_some(),
            select: format!("SELECT {selected} FROM main.{quoted_name} WHERE {condition}"),
            insert: format!(
                "INSERT OR ABORT INTO main.{quoted_name} ({}) VALUES ({})",
                all.join(", "),
                places.join(", ")
            ),
            delete: format!("DELETE FROM main.{quoted_name} WHERE {condition}"),
            scan: format!("SELECT {} FROM main.{quoted_name} NOT INDEXED", all.join(", ")),
            name,
        })
    }

    /// All rows in the order of their identity, for digests and for a table made
    /// from a query.
    pub(crate) fn select_all(&self) -> String {
        let (select, condition) = self.select.split_once(" WHERE ").unwrap_or((&self.select, ""));
        match condition.split_once(" = ?1") {
            Some((rowid, "")) if self.key_columns.is_none() => {
                let columns = select.trim_start_matches("SELECT ");
                format!("SELECT {rowid}, {columns} ORDER BY {rowid}")
            }
            _ => format!("{select} ORDER BY {}", order(&self.key)),
        }
    }
}

fn order(key: &[usize]) -> String {
    key.iter().map(|at| (at + 1).to_string()).collect::<Vec<_>>().join(", ")
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

fn fingerprint(
    name: &str,
    without_rowid: bool,
    columns: &[Column],
    rowid_column: Option<usize>,
) -> u32 {
    let mut text = format!("{name}\0{without_rowid}\0{rowid_column:?}");
    for column in columns {
        let Column { name, declared, key, hidden } = column;
        text.push_str(&format!("\0{name}\0{declared}\0{key}\0{hidden}"));
    }
    crc32c::crc32c(text.as_bytes())
}

/// A name as SQL takes it, whatever it holds.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
