//! A SQLite file that is to take the place of the users' content: checked before
//! anything changes, then read row by row.
//!
//! Whatever its page size, encoding or journal mode, its rows are read as SQLite reads
//! them. What this program does not replicate (virtual tables other than FTS5) is
//! refused, and what another group's boards kept in it (`_understudy_*`) is left out.

use std::{fs::OpenOptions, os::unix::fs::FileExt, path::Path};

use rusqlite::{Connection, ErrorCode, OpenFlags};
use understudy_core::sql::{SqlRequest, Value};

use super::{
    authorize::is_ours,
    capture::value_of,
    dialect,
    load::{self, Step, staged},
    refusal,
    schema::{Schema, Table, quoted},
    text::words,
    tokens::{self, closing},
};

/// How a SQLite file begins.
pub const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// Where the header names the versions that may write and read it: 2 is with a WAL.
const VERSIONS_AT: u64 = 18;

/// A file whose content can be loaded, and how.
pub struct Source {
    connection: Connection,
    id: String,
    make: String,
    tables: Vec<Part>,
    numbers: [i64; 2],
}

/// A table to be filled.
pub struct Part {
    /// Its name in the file.
    pub name: String,
    /// Values of a row, its rowid among them.
    pub columns: usize,
    insert: String,
    scan: String,
}

/// One row of the schema.
struct Object {
    kind: String,
    name: String,
    table: String,
    sql: Option<String>,
    is_virtual: bool,
}

/// What is to be made of a schema.
#[derive(Default)]
struct Plan {
    /// Under names of ours.
    make: String,
    /// The list of what is to be.
    list: Vec<[Option<String>; 5]>,
    /// Real name and ours.
    tables: Vec<(String, String)>,
}

impl Source {
    /// Looks through all of the file, which is ours to change.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn open(path: &Path, id: &str) -> Result<Self, String> {
        make_plain(path)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(|error| wrong(&error))?;
        check(&connection).map_err(|error| wrong(&error))??;
        let objects = read_objects(&connection).map_err(|error| wrong(&error))?;
        let plan = plan(id, &objects)?;
        let schema = Schema::read(&connection).map_err(|error| error.words())?;
        let mut tables = Vec::new();
        load::rehearse(id, &plan.make, &plan.list, |made| {
            let made = Schema::read(made).map_err(|error| error.words())?;
            for (name, stage) in &plan.tables {
                let both = schema.named(name.as_bytes()).zip(made.named(stage.as_bytes()));
                let (from, to) = both.ok_or_else(|| format!("table {name} cannot be read"))?;
                tables.push(part(from, to));
            }
            Ok(())
        })
        .map_err(|words| format!("it does not fit this database: {words}"))?;
        let number = |sql| connection.query_row(sql, [], |row| row.get(0));
        let numbers = [number("PRAGMA user_version"), number("PRAGMA application_id")];
        let [version, application] = numbers.map(|number| number.map_err(|error| wrong(&error)));
        let (numbers, id, make) = ([version?, application?], id.to_owned(), plan.make);
        let mut source = Self { connection, id, make, tables, numbers };
        source.list(plan.list)?;
        Ok(source)
    }

    /// The list is one more table to be filled.
    fn list(&mut self, rows: Vec<[Option<String>; 5]>) -> Result<(), String> {
        let fill = || {
            self.connection.execute_batch(
                "PRAGMA temp_store = MEMORY; CREATE TEMP TABLE list(type, name, tbl_name, stage, sql)",
            )?;
            for row in rows {
                let values = rusqlite::params_from_iter(row);
                self.connection.execute("INSERT INTO list VALUES (?, ?, ?, ?, ?)", values)?;
            }
            self.connection.execute_batch("PRAGMA query_only = ON; BEGIN")
        };
        fill().map_err(|error| wrong(&error))?;
        let name = quoted(&staged(&self.id, 0));
        let columns = "rowid, type, name, tbl_name, stage, sql";
        self.tables.push(Part {
            name: String::from("list"),
            columns: 6,
            insert: format!("INTO main.{name} ({columns}) VALUES "),
            scan: format!("SELECT {columns} FROM temp.list"),
        });
        Ok(())
    }

    /// The tables to be filled, in order.
    #[must_use]
    pub fn tables(&self) -> &[Part] {
        &self.tables
    }

    /// A step of this load.
    #[must_use]
    pub fn step(&self, step: &Step) -> SqlRequest {
        load::request(&self.id, step)
    }

    /// What makes tables and indexes.
    #[must_use]
    pub fn make(&self) -> Step {
        Step::Make(self.make.clone())
    }

    /// What puts everything in its place.
    #[must_use]
    pub const fn finish(&self, only_if_empty: bool) -> Step {
        Step::Finish { only_if_empty, numbers: self.numbers }
    }

    /// Hands every row of a table to `take`, until it fails.
    ///
    /// # Errors
    /// As `take`, or what is wrong with the file.
    pub fn rows(
        &self,
        part: &Part,
        mut take: impl FnMut(Vec<Value>) -> Result<(), String>,
    ) -> Result<(), String> {
        let failed = |error: rusqlite::Error| format!("table {}: {}", part.name, wrong(&error));
        let mut select = self.connection.prepare(&part.scan).map_err(failed)?;
        let mut rows = select.query([]).map_err(failed)?;
        while let Some(row) = rows.next().map_err(failed)? {
            let values = (0..part.columns).map(|place| Ok(value_of(row.get_ref(place)?)));
            take(values.collect::<rusqlite::Result<_>>().map_err(failed)?)?;
        }
        Ok(())
    }
}

impl Part {
    /// Puts so many rows; one that is there already, from a try before, is put again.
    #[must_use]
    pub fn insert(&self, rows: usize) -> String {
        let row = format!("({})", vec!["?"; self.columns].join(","));
        format!("INSERT OR REPLACE {}{}", self.insert, vec![row; rows].join(","))
    }
}

fn part(from: &Table, to: &Table) -> Part {
    let columns = from.columns + usize::from(from.key_columns.is_none());
    let into = to.insert.trim_start_matches("INSERT OR ABORT ");
    let end = into.rfind(" VALUES ").map_or(into.len(), |at| at + " VALUES ".len());
    Part {
        name: from.name.clone(),
        columns,
        insert: into[..end].to_owned(),
        scan: from.scan.clone(),
    }
}

/// What SQLite says of a file that it cannot read.
fn wrong(error: &rusqlite::Error) -> String {
    let words = words(error);
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => format!("this is no SQLite database: {words}"),
        Some(ErrorCode::DatabaseCorrupt) => format!("the SQLite file is damaged: {words}"),
        _ => words,
    }
}

/// A file that was written with a WAL says so; what has come is all there is, so it
/// is read without one.
fn make_plain(path: &Path) -> Result<(), String> {
    let at = |error: std::io::Error| format!("{}: {error}", path.display());
    let file = OpenOptions::new().read(true).write(true).open(path).map_err(at)?;
    let mut versions = [0; 2];
    let read = file.read_exact_at(&mut versions, VERSIONS_AT);
    read.map_err(|_| String::from("this is no SQLite database: it is too short"))?;
    match versions {
        [1, 1] => Ok(()),
        [2, 2] => file.write_all_at(&[1, 1], VERSIONS_AT).map_err(at),
        [write, read] => Err(format!(
            "the SQLite file is of a format this program does not read ({write}, {read}): it is \
             damaged, or of a newer SQLite"
        )),
    }
}

fn check(connection: &Connection) -> rusqlite::Result<Result<(), String>> {
    dialect::set(connection)?;
    // What comes from elsewhere is not trusted to run functions or to have sane cells.
    connection.execute_batch(
        "PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON; PRAGMA cache_size = -1024;",
    )?;
    let virtual_tables =
        "SELECT name, sql FROM sqlite_schema WHERE type = 'table' AND rootpage = 0";
    let mut select = connection.prepare(virtual_tables)?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let (name, sql): (String, String) = (row.get(0)?, row.get(1)?);
        let module = module(&sql).to_owned();
        if !module.eq_ignore_ascii_case("fts5") {
            return Ok(Err(format!("table {name}: {}", refusal::module(&module))));
        }
    }
    let found: String = connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    let is_fine = found == "ok";
    Ok(if is_fine { Ok(()) } else { Err(format!("the SQLite file is damaged: {found}")) })
}

/// That a virtual table is of.
fn module(sql: &str) -> &str {
    let mut rest = sql;
    while let Some((word, after)) = token(rest) {
        rest = after;
        if word.eq_ignore_ascii_case("using") {
            return token(rest).map_or("", |(module, _)| module);
        }
    }
    ""
}

fn read_objects(connection: &Connection) -> rusqlite::Result<Vec<Object>> {
    // Tables before the indexes that are made with them.
    let mut select = connection.prepare(
        "SELECT type, name, tbl_name, sql, coalesce(rootpage, 0) FROM sqlite_schema \
         ORDER BY type <> 'table', rowid",
    )?;
    let objects = select.query_map([], |row| {
        let kind: String = row.get(0)?;
        let is_virtual = kind == "table" && row.get::<_, i64>(4)? == 0;
        Ok(Object { kind, name: row.get(1)?, table: row.get(2)?, sql: row.get(3)?, is_virtual })
    })?;
    let all: Vec<Object> = objects.collect::<rusqlite::Result<_>>()?;
    Ok(all.into_iter().filter(|it| !is_ours(&it.name) && !is_ours(&it.table)).collect())
}

fn plan(id: &str, objects: &[Object]) -> Result<Plan, String> {
    let mut plan = Plan { make: load::list(id), ..Plan::default() };
    for (place, object) in (1..).zip(objects) {
        let unread = || format!("{} {}: its definition cannot be read", object.kind, object.name);
        let sql = object.sql.as_deref();
        let stage = match (object.kind.as_str(), sql) {
            ("table", Some(sql)) if !object.is_virtual => {
                let stage = staged(id, place);
                let rest = after_name(sql).ok_or_else(unread)?.1;
                let name = quoted(&stage);
                plan.make.push_str(&format!("\nCREATE TABLE IF NOT EXISTS {name} {rest}\n;"));
                plan.tables.push((object.name.clone(), stage.clone()));
                Some(stage)
            }
            ("index", Some(sql)) => {
                let (kind, on) = after_name(sql).ok_or_else(unread)?;
                let (_, on) =
                    token(on).filter(|(on, _)| on.eq_ignore_ascii_case("on")).ok_or_else(unread)?;
                let (_, rest) = token(on).ok_or_else(unread)?;
                let (stage, table) =
                    (staged(id, place), plan.stage(&object.table).ok_or_else(unread)?);
                let (name, table) = (quoted(&stage), quoted(table));
                plan.make.push_str(&format!("\n{kind} IF NOT EXISTS {name} ON {table} {rest}\n;"));
                Some(stage)
            }
            ("index", None) => {
                let start = format!("sqlite_autoindex_{}", object.table);
                let number = object.name.strip_prefix(&start).ok_or_else(unread)?;
                let table = plan.stage(&object.table).ok_or_else(unread)?;
                Some(format!("sqlite_autoindex_{table}{number}"))
            }
            ("table" | "view" | "trigger", Some(_)) => None,
            _ => return Err(unread()),
        };
        let Object { kind, name, table, sql, .. } = object;
        let own = [kind, name, table].map(|text| Some(text.clone()));
        let [kind, name, table] = own;
        plan.list.push([kind, name, table, stage, sql.clone()]);
    }
    Ok(plan)
}

impl Plan {
    fn stage(&self, table: &str) -> Option<&str> {
        let same = |(name, _): &&(String, String)| name.eq_ignore_ascii_case(table);
        self.tables.iter().find(same).map(|(_, stage)| stage.as_str())
    }
}

/// The words before the name that a CREATE TABLE or CREATE INDEX gives, and what
/// follows it.
fn after_name(sql: &str) -> Option<(&'static str, &str)> {
    let word = |sql: &'static str, text| {
        token(text).filter(|(word, _)| word.eq_ignore_ascii_case(sql)).map(|(_, rest)| rest)
    };
    let rest = word("create", sql)?;
    let (kind, rest) = match (word("table", rest), word("index", rest)) {
        (Some(rest), _) => ("CREATE TABLE", rest),
        (None, Some(rest)) => ("CREATE INDEX", rest),
        (None, None) => ("CREATE UNIQUE INDEX", word("index", word("unique", rest)?)?),
    };
    let exists = |rest| word("exists", word("not", word("if", rest)?)?);
    let (_, rest) = token(exists(rest).unwrap_or(rest))?;
    Some((kind, rest))
}

/// The first token, a name in quotes whole, and what follows it.
fn token(text: &str) -> Option<(&str, &str)> {
    let place = tokens::next(text.as_bytes(), 0)?;
    let (token, rest) = (text.get(place.clone())?, text.get(place.end..)?);
    let close = closing(token.as_bytes()[0]);
    let is_closed = |close| token.len() > 1 && token.as_bytes().last() == Some(&close);
    close.is_none_or(is_closed).then_some((token, rest))
}

#[cfg(test)]
#[path = "source_tests.rs"]
mod tests;
