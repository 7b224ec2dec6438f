//! The group's duties, as the rows have them: told whenever an entry has changed them, and
//! held against the fences of what is to be written.
//!
//! The leader judges a fence where it executes what is fenced, on top of all that is in the
//! log; the entry counts in that place alone. So nothing that a fence lets through is
//! applied after the next grant.

use rusqlite::{Connection, OptionalExtension as _, Row};
use understudy_core::{
    duty::{Duty, Incarnation},
    event::NodeId,
    fence::Fence,
    mutant,
};

use super::{Database, Failure, authorize::Mode};

/// What the database knows of duties.
#[derive(Default)]
pub(super) struct Charge {
    duties: Vec<Duty>,
    /// The entry being applied has touched rows about duties.
    is_touched: bool,
    /// They are different from what was last taken.
    is_changed: bool,
}

impl Charge {
    /// A row of this table was put or deleted.
    pub(super) fn touched(&mut self, table: &str) {
        self.is_touched |= table == "_understudy_duty";
    }
}

impl Database {
    /// The group's duties, as of what is applied.
    #[must_use]
    pub fn duties(&self) -> &[Duty] {
        &self.charge.duties
    }

    /// The same, when they have changed since the last call: to be told before anything
    /// else that this database has come to.
    pub fn take_duties(&mut self) -> Option<Vec<Duty>> {
        std::mem::take(&mut self.charge.is_changed).then(|| self.charge.duties.clone())
    }

    pub(super) fn reload_duties(&mut self) -> rusqlite::Result<()> {
        let duties = read_duties(&self.connection)?;
        self.charge.is_touched = false;
        self.charge.is_changed |= duties != self.charge.duties;
        self.charge.duties = duties;
        Ok(())
    }

    /// Why what is done under this fence counts no more, if it does not.
    pub(super) fn stale(&mut self, fence: Option<&Fence>) -> Result<Option<String>, Failure> {
        let Some(Fence { duty, token }) = fence.filter(|_| !mutant::is(118)) else {
            return Ok(None);
        };
        let sql = "SELECT token FROM main._understudy_duty WHERE name = ?1";
        self.authorizer.enter(Mode::Internal);
        let known = self
            .connection
            .prepare_cached(sql)
            .and_then(|mut select| select.query_row([duty], |row| row.get::<_, i64>(0)).optional());
        Ok(match known.map_err(|error| self.failure(&error))?.map(i64::cast_unsigned) {
            Some(known) if known == *token && known > 0 => None,
            Some(known) => Some(format!(
                "fence {duty}:{token} is stale: {duty} has token {known}, and what is done under \
                 another counts no more"
            )),
            None => Some(format!("fence {duty}:{token}: there is no duty {duty}")),
        })
    }

    /// An entry is applied: did it bring something about duties?
    pub(super) fn look_for_duties(&mut self) -> Result<(), Failure> {
        match self.charge.is_touched {
            true => self.reload_duties().map_err(|error| self.failure(&error)),
            false => Ok(()),
        }
    }
}

/// Is this the token of a duty that somebody holds?
pub(super) fn is_current(connection: &Connection, token: u64) -> rusqlite::Result<bool> {
    let sql = "SELECT 1 FROM main._understudy_duty WHERE token = ?1 AND board IS NOT NULL";
    let mut select = connection.prepare_cached(sql)?;
    select.exists([token.cast_signed()])
}

fn read_duties(connection: &Connection) -> rusqlite::Result<Vec<Duty>> {
    let sql = "SELECT id, name, token, board, boot, nonce, lease_ms, candidates, paused, wanted, rules \
               FROM _understudy_duty ORDER BY id";
    let mut select = connection.prepare_cached(sql)?;
    let duties = select.query_map([], duty_of)?;
    duties.collect()
}

fn duty_of(row: &Row<'_>) -> rusqlite::Result<Duty> {
    let unsigned =
        |place| row.get::<_, Option<i64>>(place).map(|value| value.map(i64::cast_unsigned));
    let holder = match (unsigned(3)?, unsigned(4)?, unsigned(5)?) {
        (Some(board), Some(boot), Some(nonce)) => Some(Incarnation { board, boot, nonce }),
        (..) => None,
    };
    let candidates: String = row.get(7)?;
    Ok(Duty {
        id: unsigned(0)?.unwrap_or(0),
        name: row.get(1)?,
        token: unsigned(2)?.unwrap_or(0),
        holder,
        lease_ms: unsigned(6)?.unwrap_or(0),
        candidates: candidates.split(',').filter_map(|id| id.parse::<NodeId>().ok()).collect(),
        is_paused: row.get(8)?,
        wanted: unsigned(9)?,
        // Nobody writes it by hand; what cannot be read asks for nothing.
        rules: serde_json::from_str(&row.get::<_, String>(10)?).unwrap_or_default(),
    })
}
