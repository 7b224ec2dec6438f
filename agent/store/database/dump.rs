//! The database as SQL text, as SQLite's own shell dumps it: what it reads, and we,
//! comes to the same rows, to the bit.
//!
//! Where the shell would lose something, a value is written as an expression:
//! text with a zero byte, a carriage return or bytes that are no UTF-8; numbers
//! whose decimal form some SQLite releases round in another way. Rowids that are no
//! column are not written, as the shell does not either. Memory is one row.

use std::io::{self, Write};

use rusqlite::{Connection, types::ValueRef};

use super::{authorize::is_ours, schema::quoted};

/// One row of the schema.
struct Object {
    kind: String,
    name: String,
    table: String,
    sql: String,
}

/// Writes the users' tables, or these of them, and what belongs to them.
pub(super) fn write(
    connection: &Connection,
    tables: &[String],
    out: &mut dyn Write,
) -> Result<(), Trouble> {
    let objects = objects(connection)?;
    let is_wanted = |name: &str| {
        tables.is_empty() || tables.iter().any(|table| table.eq_ignore_ascii_case(name))
    };
    let is_table = |object: &&Object| object.kind == "table";
    if let Some(unknown) = tables.iter().find(|name| {
        !objects.iter().filter(is_table).any(|table| table.name.eq_ignore_ascii_case(name))
    }) {
        return Err(Trouble::Unfit(format!("no such table: {unknown}")));
    }
    let virtual_tables: Vec<&str> =
        objects.iter().filter(|it| it.is_virtual()).map(Object::name).collect();
    // What an index keeps goes with the index.
    let belongs = |name: &str| {
        is_wanted(name)
            || virtual_tables.iter().any(|owner| is_wanted(owner) && is_shadow_of(name, owner))
    };
    out.write_all(b"PRAGMA foreign_keys=OFF;\nBEGIN TRANSACTION;\n")?;
    if tables.is_empty() {
        write_header_numbers(connection, out)?;
    }
    let has_virtual = virtual_tables.iter().any(|name| is_wanted(name));
    if has_virtual {
        out.write_all(DEFENSIVE.as_bytes())?;
    }
    for table in objects.iter().filter(is_table).filter(|table| belongs(&table.name)) {
        write_table(connection, table, out)?;
    }
    write_sequences(connection, tables.is_empty(), &belongs, out)?;
    let others = objects.iter().filter(|object| object.kind != "table");
    for object in others.filter(|object| belongs(&object.table)) {
        write_statement(&object.sql, out)?;
    }
    if has_virtual {
        out.write_all(b"PRAGMA writable_schema=OFF;\n")?;
    }
    Ok(out.write_all(b"COMMIT;\n")?)
}

/// As the shell words it.
const DEFENSIVE: &str = "/* WARNING: Script requires that SQLITE_DBCONFIG_DEFENSIVE be disabled */
PRAGMA writable_schema=ON;
";

impl Object {
    fn name(&self) -> &str {
        &self.name
    }

    fn is_virtual(&self) -> bool {
        self.kind == "table" && is_virtual(&self.sql)
    }
}

/// Is this a table that the full-text index `owner` keeps for itself?
fn is_shadow_of(name: &str, owner: &str) -> bool {
    let kept =
        name.split_at_checked(owner.len()).filter(|(start, _)| start.eq_ignore_ascii_case(owner));
    let kept = kept.and_then(|(_, rest)| rest.strip_prefix('_'));
    kept.is_some_and(|kept| ["data", "idx", "content", "docsize", "config"].contains(&kept))
}

/// Does this text of a table make a virtual one?
fn is_virtual(sql: &str) -> bool {
    sql.get(..20).is_some_and(|start| start.eq_ignore_ascii_case("CREATE VIRTUAL TABLE"))
}

fn objects(connection: &Connection) -> rusqlite::Result<Vec<Object>> {
    let mut select = connection.prepare(
        "SELECT type, name, tbl_name, sql FROM sqlite_schema \
         WHERE sql NOT NULL AND name <> 'sqlite_sequence' ORDER BY rowid",
    )?;
    let objects = select.query_map([], |row| {
        Ok(Object { kind: row.get(0)?, name: row.get(1)?, table: row.get(2)?, sql: row.get(3)? })
    })?;
    let all: Vec<Object> = objects.collect::<rusqlite::Result<_>>()?;
    Ok(all.into_iter().filter(|it| !is_ours(&it.name) && !is_ours(&it.table)).collect())
}

fn write_header_numbers(connection: &Connection, out: &mut dyn Write) -> Result<(), Trouble> {
    for name in ["user_version", "application_id"] {
        let number: i64 = connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get(0))?;
        if number != 0 {
            writeln!(out, "PRAGMA {name}={number};")?;
        }
    }
    Ok(())
}

/// On lines of its own: a comment may end the text.
fn write_statement(sql: &str, out: &mut dyn Write) -> io::Result<()> {
    out.write_all(sql.as_bytes())?;
    out.write_all(if sql.contains("--") { b"\n;\n" } else { b";\n" })
}

fn write_table(
    connection: &Connection,
    table: &Object,
    out: &mut dyn Write,
) -> Result<(), Trouble> {
    if table.is_virtual() {
        out.write_all(
            b"INSERT INTO sqlite_schema(type,name,tbl_name,rootpage,sql) VALUES('table',",
        )?;
        for text in [&table.name, &table.name] {
            write_text(text.as_bytes(), out)?;
            out.write_all(b",")?;
        }
        out.write_all(b"0,")?;
        write_text(table.sql.as_bytes(), out)?;
        return Ok(out.write_all(b");\n")?);
    }
    match table.name.starts_with("sqlite_stat") {
        // It makes the tables that SQLite's planner reads.
        true => out.write_all(b"ANALYZE sqlite_schema;\n")?,
        false => write_statement(&table.sql, out)?,
    }
    write_rows(connection, &table.name, "", out)
}

fn write_sequences(
    connection: &Connection,
    is_all: bool,
    belongs: &dyn Fn(&str) -> bool,
    out: &mut dyn Write,
) -> Result<(), Trouble> {
    let has_any: bool = connection.query_row(
        "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'sqlite_sequence')",
        [],
        |row| row.get(0),
    )?;
    if !has_any {
        return Ok(());
    }
    let mut select = connection.prepare("SELECT name FROM sqlite_sequence ORDER BY rowid")?;
    let names = select.query_map([], |row| row.get(0))?;
    let names: Vec<String> = names.collect::<rusqlite::Result<_>>()?;
    if is_all {
        out.write_all(b"DELETE FROM sqlite_sequence;\n")?;
    }
    for name in names.iter().filter(|name| belongs(name)) {
        let mut condition = b"WHERE name=".to_vec();
        write_text(name.as_bytes(), &mut condition)?;
        let condition = String::from_utf8_lossy(&condition);
        if !is_all {
            writeln!(out, "DELETE FROM sqlite_sequence {condition};")?;
        }
        write_rows(connection, "sqlite_sequence", &condition, out)?;
    }
    Ok(())
}

fn write_rows(
    connection: &Connection,
    table: &str,
    condition: &str,
    out: &mut dyn Write,
) -> Result<(), Trouble> {
    let mut select = connection
        .prepare("SELECT name FROM pragma_table_xinfo(?1, 'main') WHERE hidden = 0 ORDER BY cid")?;
    let names = select.query_map([table], |row| row.get::<_, String>(0))?;
    let names: Vec<String> =
        names.map(|name| Ok(quoted(&name?))).collect::<rusqlite::Result<_>>()?;
    let (columns, table) = (names.join(", "), quoted(table));
    let start = format!("INSERT INTO {table} VALUES(");
    let mut select = connection
        .prepare(&format!("SELECT {columns} FROM main.{table} NOT INDEXED {condition}"))?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        out.write_all(start.as_bytes())?;
        for place in 0..names.len() {
            if place > 0 {
                out.write_all(b",")?;
            }
            write_value(row.get_ref(place)?, out)?;
        }
        out.write_all(b");\n")?;
    }
    Ok(())
}

fn write_value(value: ValueRef<'_>, out: &mut dyn Write) -> io::Result<()> {
    match value {
        ValueRef::Null => out.write_all(b"NULL"),
        ValueRef::Integer(number) => write!(out, "{number}"),
        ValueRef::Real(number) => out.write_all(real(number).as_bytes()),
        ValueRef::Text(bytes) => write_text(bytes, out),
        ValueRef::Blob(bytes) => write_hex(bytes, out),
    }
}

fn write_text(bytes: &[u8], out: &mut dyn Write) -> io::Result<()> {
    let is_plain = std::str::from_utf8(bytes).is_ok_and(|text| !text.contains(['\0', '\r']));
    if !is_plain {
        out.write_all(b"CAST(")?;
        write_hex(bytes, out)?;
        return out.write_all(b" AS TEXT)");
    }
    out.write_all(b"'")?;
    for (place, part) in bytes.split(|byte| *byte == b'\'').enumerate() {
        if place > 0 {
            out.write_all(b"''")?;
        }
        out.write_all(part)?;
    }
    out.write_all(b"'")
}

fn write_hex(bytes: &[u8], out: &mut dyn Write) -> io::Result<()> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.write_all(b"X'")?;
    for byte in bytes {
        let (high, low) = (usize::from(byte >> 4), usize::from(byte & 15));
        out.write_all(&[DIGITS[high], DIGITS[low]])?;
    }
    out.write_all(b"'")
}

/// A number that any SQLite reads to the same bits.
pub(super) fn real(value: f64) -> String {
    if value.is_infinite() {
        return String::from(if value > 0.0 { "9.0e+999" } else { "-9.0e+999" });
    }
    if value == 0.0 || is_safe(value) { format!("{value:?}") } else { exact(value) }
}

/// Do all ways come to the same bits that SQLite's releases take from decimal
/// digits to a number? All are right where few digits are divided by a power of ten
/// that a double holds, in one step, and the result is not close to the middle of
/// two doubles, where a wider number on the way would be rounded twice.
fn is_safe(value: f64) -> bool {
    let text = format!("{:e}", value.abs());
    let Some((digits, exponent)) = text.split_once('e') else { return false };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let (Ok(number), Ok(exponent)) =
        (format!("{whole}{fraction}").parse::<u64>(), exponent.parse::<i32>())
    else {
        return false;
    };
    let places = i32::try_from(fraction.len()).unwrap_or(i32::MAX) - exponent;
    if number >= 1 << 53 {
        return false;
    }
    match u32::try_from(places) {
        Ok(places @ 0..=22) => is_far_from_middle(number, 10_u128.pow(places)),
        Ok(_) => false,
        // A whole number with zeros at its end.
        Err(_) => {
            let whole = 10_u64.checked_pow(places.unsigned_abs());
            whole.and_then(|ten| ten.checked_mul(number)).is_some_and(|number| number <= 1 << 53)
        }
    }
}

/// Bits of a quotient behind those of a double that tell, and how close is close.
const TAIL_BITS: u32 = 12;
const CLOSE: u128 = 16;

fn is_far_from_middle(number: u64, divisor: u128) -> bool {
    let (mut rest, mut divisor) = (u128::from(number), divisor);
    while rest < divisor {
        rest <<= 1;
    }
    while rest >= divisor << 1 {
        divisor <<= 1;
    }
    let mut quotient = 0_u128;
    for _ in 0..53 + TAIL_BITS {
        quotient <<= 1;
        if rest >= divisor {
            rest -= divisor;
            quotient |= 1;
        }
        rest <<= 1;
    }
    let tail = quotient & ((1 << TAIL_BITS) - 1);
    tail.abs_diff(1 << (TAIL_BITS - 1)) > CLOSE
}

/// As a product or quotient of whole numbers, none of which is rounded, nor any step.
fn exact(value: f64) -> String {
    const STEP: i32 = 62;
    let bits = value.abs().to_bits();
    let (fraction, exponent) = (bits & ((1 << 52) - 1), (bits >> 52) & 0x7ff);
    let (mut number, mut power) = match i32::try_from(exponent) {
        Ok(0) | Err(_) => (fraction, -1_074),
        Ok(exponent) => (fraction | 1 << 52, exponent - 1_075),
    };
    let zeros = number.trailing_zeros();
    number >>= zeros;
    power += i32::try_from(zeros).unwrap_or(0);
    let sign = if value < 0.0 { "-" } else { "" };
    let mut text = format!("{sign}{number}*1.0");
    let operator = if power < 0 { '/' } else { '*' };
    let mut left = power.abs();
    while left > 0 {
        let step = left.min(STEP);
        text.push_str(&format!("{operator}{}", 1_u64 << step));
        left -= step;
    }
    text
}

/// Why a copy is not written to its end.
pub(super) enum Trouble {
    Sqlite(rusqlite::Error),
    Out(io::Error),
    /// It cannot be had, in these words.
    Unfit(String),
}

impl From<rusqlite::Error> for Trouble {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Out(error)
    }
}

#[cfg(test)]
#[path = "dump_tests.rs"]
pub(super) mod tests;
