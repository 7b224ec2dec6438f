//! How far readings are rolled up and trimmed, found anew from what a restored file
//! holds: the marks of before are of other rows.

use rusqlite::{Connection, OptionalExtension as _};
use understudy_core::readings::UNSET_BELOW;

use super::tables;

/// Statements for the end of a load, where the tables of the file have their names.
/// `stage_of` says under which name a table of the file is staged until then.
pub(in crate::store::database) fn marks_anew(
    connection: &Connection,
    stage_of: impl Fn(&str) -> rusqlite::Result<Option<String>>,
) -> rusqlite::Result<String> {
    let find = "SELECT 1 FROM sqlite_schema WHERE name = '_understudy_tended'";
    if connection.query_row(find, [], |_| Ok(())).optional()?.is_none() {
        // Where a file is only tried.
        return Ok(String::new());
    }
    let mut sql = String::from("DELETE FROM _understudy_late; DELETE FROM _understudy_tended;");
    for wanted in [&tables::ALL[1], &tables::ROLLUP[0]] {
        let Some(stage) = stage_of(wanted.name)? else { return Ok(sql) };
        if !has_columns(connection, &stage, wanted.columns)? {
            return Ok(sql);
        }
    }
    let of_ours = "typeof(sensor) = 'integer' AND typeof(width) = 'integer' AND width > 0 AND \
                   typeof(time) = 'integer'";
    let first = format!(
        "SELECT min(time) FROM main.reading AS r WHERE r.sensor = rollup.sensor AND \
         time >= {UNSET_BELOW} AND typeof(time) = 'integer'"
    );
    sql.push_str(&format!(
        "INSERT INTO _understudy_tended SELECT sensor, width, max(time) + width * 1000000 \
             FROM main.rollup WHERE {of_ours} GROUP BY sensor, width;
         INSERT INTO _understudy_tended SELECT DISTINCT sensor, 0, ({first}) FROM main.rollup \
             WHERE {of_ours} AND ({first}) IS NOT NULL;"
    ));
    Ok(sql)
}

fn has_columns(connection: &Connection, table: &str, wanted: &[&str]) -> rusqlite::Result<bool> {
    let mut select = connection.prepare_cached("SELECT name FROM pragma_table_info(?1)")?;
    let names = select.query_map([table], |row| row.get::<_, String>(0))?;
    let names: Vec<String> = names.collect::<rusqlite::Result<_>>()?;
    Ok(wanted.iter().all(|column| names.iter().any(|name| name == column)))
}
