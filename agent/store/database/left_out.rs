//! Rows of an entry that did not fit this board's: counted, and told once.

use tracing::error;
use understudy_core::{change::Row, event::Outcome, sql::Value};

use super::schema::Table;

/// Of a row's name and of what is said of it, characters.
const WORDS_MAX: usize = 120;

/// See the module's description.
#[derive(Default)]
pub(super) struct LeftOut {
    rows: u64,
    first: String,
}

impl LeftOut {
    pub(super) fn add(&mut self, table: &Table, row: &Row, why: &str) {
        if self.rows == 0 {
            let identity = identity(table, row);
            self.first = format!("table {}, row {identity}: {why}", table.name);
        }
        self.rows += 1;
    }

    /// How the entry ended that they are of.
    pub(super) fn outcome(self, entry: u64) -> Outcome {
        if self.rows == 0 {
            return Outcome::Changed;
        }
        let Self { rows, first } = self;
        error!(
            "entry {entry}: {rows} rows do not fit this board's and are left out, boards hold \
             different rows; the first: {first}"
        );
        Outcome::ChangedInPart
    }
}

/// Its rowid or its key, shortened.
fn identity(table: &Table, row: &Row) -> String {
    let key = match row {
        Row::Put { columns, .. } => table.key_of(columns).collect(),
        Row::Delete { key, .. } | Row::Update { key, .. } => key.iter().collect::<Vec<_>>(),
    };
    let parts = row.rowid().map(|rowid| rowid.to_string()).into_iter();
    let parts: Vec<String> = parts.chain(key.into_iter().map(shown)).collect();
    parts.join(", ").chars().take(WORDS_MAX).collect()
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => String::from("NULL"),
        Value::Integer(value) => value.to_string(),
        Value::Real(value) => value.to_string(),
        Value::Text(bytes) => {
            let start = &bytes[..bytes.len().min(WORDS_MAX)];
            format!("{:?}", String::from_utf8_lossy(start))
        }
        Value::Blob(bytes) => format!("a blob of {} bytes", bytes.len()),
    }
}
