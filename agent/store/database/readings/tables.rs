//! The users' tables that readings stand in: made on first use, and looked at when the
//! schema has changed. Users may index them, add columns, set units, and drop them.

use std::sync::Arc;

use rusqlite::Connection;

use crate::store::database::schema::Schema;

/// As SQLite keeps them, so that one which nobody has touched is known by its words.
const SENSOR: &str = "CREATE TABLE sensor(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, \
                      unit TEXT, created INTEGER)";
const READING: &str = "CREATE TABLE reading(sensor INTEGER NOT NULL, time INTEGER NOT NULL, \
                       value, board INTEGER, token INTEGER, flag INTEGER, \
                       PRIMARY KEY(sensor, time)) WITHOUT ROWID";

/// Times in words: those of a clock that was not set count from the lowest integer,
/// and are below those of 36,000 years before our era.
const READINGS: &str = "CREATE VIEW readings(sensor, time, utc, value, unit, board, token, flag) \
    AS SELECT s.name, r.time, CASE WHEN r.time < -1152921504606846976 \
    THEN printf('start %d + %.3f s', (r.time + 9223372036854775807 + 1) >> 40, \
    ((r.time + 9223372036854775807 + 1) & 1099511627775) / 1000.0) \
    ELSE strftime('%Y-%m-%dT%H:%M:%S', (r.time - (r.time % 1000000 + 1000000) % 1000000) \
    / 1000000, 'unixepoch') || printf('.%06dZ', (r.time % 1000000 + 1000000) % 1000000) END, \
    r.value, s.unit, coalesce(m.name, r.board), r.token, r.flag FROM reading AS r \
    JOIN sensor AS s ON s.id = r.sensor LEFT JOIN _understudy_member AS m ON m.id = r.board";

/// A table of readings, the columns it must have, those of its key in order.
pub(super) struct Wanted {
    pub(super) name: &'static str,
    pub(super) columns: &'static [&'static str],
    key: &'static [&'static str],
    sql: &'static str,
}

/// What readings need, in the order in which they are made.
pub(super) const ALL: [Wanted; COUNT] = [
    Wanted { name: "sensor", columns: &["id", "name", "created"], key: &["id"], sql: SENSOR },
    Wanted {
        name: "reading",
        columns: &["sensor", "time", "value", "board", "token", "flag"],
        key: &["sensor", "time"],
        sql: READING,
    },
    Wanted {
        name: "readings",
        columns: &["sensor", "time", "utc", "value", "unit", "board", "token", "flag"],
        key: &[],
        sql: READINGS,
    },
];

/// What is rolled up of them.
pub(super) const ROLLUP: [Wanted; 1] = [Wanted {
    name: "rollup",
    columns: &["sensor", "width", "time", "count", "min", "max", "mean", "last"],
    key: &["sensor", "width", "time"],
    sql: "CREATE TABLE rollup(sensor INTEGER NOT NULL, width INTEGER NOT NULL, \
          time INTEGER NOT NULL, count INTEGER NOT NULL, min REAL, max REAL, mean REAL, \
          last REAL, PRIMARY KEY(sensor, width, time)) WITHOUT ROWID",
}];

/// How many there are.
pub(super) const COUNT: usize = 3;

/// What is known of them at one state of the schema.
#[derive(Clone, Copy, Debug)]
pub(in crate::store::database) struct Known {
    /// Nothing in them can bar a row whose place is free.
    pub(super) is_plain: bool,
}

/// The last look at them.
#[derive(Default)]
pub(in crate::store::database) struct Tables(Option<(Arc<Schema>, Known)>);

impl Tables {
    pub(super) fn known(&self, schema: &Arc<Schema>) -> Option<Known> {
        let (seen, known) = self.0.as_ref()?;
        Arc::ptr_eq(seen, schema).then_some(*known)
    }

    pub(super) fn know(&mut self, schema: Arc<Schema>, known: Known) {
        self.0 = Some((schema, known));
    }
}

/// Makes those that are not there: the statements that did. In words what a table lacks
/// that is there and is not ours.
pub(super) fn make(
    connection: &Connection,
    all: &[Wanted],
) -> rusqlite::Result<Result<Vec<String>, String>> {
    let mut made = Vec::new();
    for wanted in all {
        let columns = columns(connection, wanted.name)?;
        if columns.is_empty() {
            connection.execute_batch(wanted.sql)?;
            made.push(String::from(wanted.sql));
        } else if let Some(words) = unfit(wanted, &columns) {
            return Ok(Err(words));
        }
    }
    Ok(Ok(made))
}

/// Name, place in the key, and whether a row must give it a value.
struct Column {
    name: String,
    key: i64,
    is_demanded: bool,
}

fn columns(connection: &Connection, table: &str) -> rusqlite::Result<Vec<Column>> {
    let mut select = connection.prepare(
        "SELECT name, pk, \"notnull\" AND dflt_value IS NULL FROM pragma_table_xinfo(?1, 'main') \
         WHERE hidden IN (0, 2, 3)",
    )?;
    let columns = select.query_map([table], |row| {
        Ok(Column { name: row.get(0)?, key: row.get(1)?, is_demanded: row.get(2)? })
    })?;
    columns.collect()
}

fn unfit(wanted: &Wanted, columns: &[Column]) -> Option<String> {
    let Wanted { name: table, columns: names, key, .. } = wanted;
    let is = |column: &Column, name: &str| column.name.eq_ignore_ascii_case(name);
    let lacking = |name: &&&str| !columns.iter().any(|column| is(column, name));
    let words = if let Some(name) = names.iter().find(lacking) {
        format!("has no column {name}")
    } else if !is_key(columns, key) {
        format!("has another primary key than ({})", key.join(", "))
    } else {
        let is_known = |column: &Column| names.iter().any(|name| is(column, name));
        let demanded = columns.iter().find(|column| column.is_demanded && !is_known(column))?;
        format!("has a column {} that must be given a value", demanded.name)
    };
    Some(format!(
        "{table}, which readings need, is there and {words}: rename it (ALTER TABLE), or drop it"
    ))
}

/// A view has none.
fn is_key(columns: &[Column], key: &[&str]) -> bool {
    let mut keyed: Vec<&Column> = columns.iter().filter(|column| column.key > 0).collect();
    keyed.sort_by_key(|column| column.key);
    keyed.len() == key.len()
        && keyed.iter().zip(key).all(|(column, name)| column.name.eq_ignore_ascii_case(name))
}

/// Are the tables of sensors and of readings there, and fit for them?
pub(super) fn are_there(connection: &Connection) -> bool {
    let is_fit = |wanted: &Wanted| {
        let columns = columns(connection, wanted.name).unwrap_or_default();
        !columns.is_empty() && unfit(wanted, &columns).is_none()
    };
    ALL[..2].iter().all(is_fit)
}

/// Looks at those that are there.
pub(super) fn look(connection: &Connection) -> rusqlite::Result<Known> {
    let is_as_made = |wanted: &Wanted| -> rusqlite::Result<bool> {
        connection
            .prepare("SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = ?1 AND sql = ?2)")?
            .query_row((wanted.name, wanted.sql), |row| row.get(0))
    };
    let mut strange = connection.prepare(
        "SELECT EXISTS (SELECT 1 FROM pragma_index_list(?1, 'main') AS list, \
         pragma_index_xinfo(list.name, 'main') AS info WHERE list.origin = 'c' \
         AND (list.\"unique\" OR list.partial OR info.cid < -1))",
    )?;
    let mut is_plain = true;
    for wanted in &ALL[..2] {
        let is_strange: bool = strange.query_row([wanted.name], |row| row.get(0))?;
        is_plain &= is_as_made(wanted)? && !is_strange;
    }
    Ok(Known { is_plain })
}
