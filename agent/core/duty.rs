//! Duties: what one board of the group does at a time, as the group's rows say.
//!
//! A duty is granted by an entry of the log, to one start of one board. The entry's index
//! is its token, so tokens only rise, and no two grants have the same, of whichever duties.
//! The grant alone lets nobody act: its holder acts only while it has a lease, which costs
//! no entry (`lease`).

use alloc::{string::String, vec::Vec};

use serde::{Deserialize, Serialize};

use crate::{
    member::NodeId,
    mutant,
    sql::{self, Origin, Parameters, RequestKind, SqlRequest, Statement, Value},
};

/// Comes to nothing where another grant has taken the place of that one, or its lease has
/// become longer than was waited for.
const GRANT: &str = "UPDATE _understudy_duty SET token = ?1, board = ?2, boot = ?3, nonce = ?4, \
    lease_ms = ?5, wanted = NULL WHERE id = ?6 AND token = ?7 AND lease_ms <= ?8";

/// No board: whoever else is ready.
pub const ANOTHER: NodeId = 0;

/// One start of a board.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Incarnation {
    /// The board.
    pub board: NodeId,
    /// Counts the starts of its disk.
    pub boot: u64,
    /// Drawn for this start alone: no copy of the disk has the same.
    pub nonce: u64,
}

/// A duty, by the number it has in this group, and one grant of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Claim {
    /// Which duty.
    pub duty: u64,
    /// Of which grant.
    pub token: u64,
}

/// How a duty's holder is chosen, beside its candidates.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rules {
    /// A board holds it only while this sensor reports there.
    pub fresh: Option<Fresh>,
    /// What a board must be able to do for it, by the names of its configuration.
    pub needs: Vec<String>,
    /// A candidate before its holder in order has it once it was ready for so long,
    /// milliseconds; its holder keeps it where this is none.
    pub preempt_ms: Option<u64>,
    /// Its holder goes on when it hears no majority, whoever is granted the duty meanwhile:
    /// two boards may act at a time then.
    pub keep: bool,
}

/// A sensor that has to report at a board.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fresh {
    /// Its name.
    pub sensor: String,
    /// At least so often, milliseconds.
    pub within_ms: u64,
}

/// A duty as of some entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Duty {
    /// Its number in this group.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// Index of the entry that granted it last, or took it from its holder; 0 before.
    pub token: u64,
    /// Whom that entry granted it to.
    pub holder: Option<Incarnation>,
    /// How long a renewal holds under that grant, milliseconds.
    pub lease_ms: u64,
    /// Boards that may hold it, the first choice first; all boards where there is none.
    pub candidates: Vec<NodeId>,
    /// Nobody is to hold it for now.
    pub is_paused: bool,
    /// It is to go to this board, once that is ready for it; to any but its holder where
    /// this is [`ANOTHER`].
    pub wanted: Option<NodeId>,
    /// How its holder is chosen.
    pub rules: Rules,
}

/// Makes every lease that is granted at least so long: safe at any moment, since no grant
/// comes about that waited for a shorter one.
#[must_use]
pub fn lengthen(lease_ms: u64) -> Statement {
    let sql = "UPDATE _understudy_duty SET lease_ms = ?1 WHERE board IS NOT NULL AND lease_ms < ?1";
    Statement::new(sql, Vec::from([Value::Integer(lease_ms.cast_signed())]))
}

impl Duty {
    /// The grant that stands.
    #[must_use]
    pub const fn claim(&self) -> Claim {
        Claim { duty: self.id, token: self.token }
    }

    /// May this board hold it? With what rank then: the lowest is preferred.
    #[must_use]
    pub fn rank(&self, board: NodeId) -> Option<usize> {
        match self.candidates.is_empty() {
            true => Some(0),
            false => self.candidates.iter().position(|candidate| *candidate == board),
        }
    }

    /// The write that grants it to `holder`, or to nobody: as the entry of index `token`,
    /// which is above any that granted it before. It comes to nothing where another did
    /// since, or where the lease that was waited for is longer by then.
    /// `history` comes along.
    pub(crate) fn grant(
        &self,
        (token, holder): (u64, Option<Incarnation>),
        lease_ms: u64,
        history: Vec<Statement>,
    ) -> Vec<u8> {
        let of = |part: fn(Incarnation) -> u64| {
            holder.map_or(Value::Null, |holder| Value::Integer(part(holder).cast_signed()))
        };
        let integer = |number: u64| Value::Integer(number.cast_signed());
        let values = Vec::from([
            integer(token),
            of(|holder| holder.board),
            of(|holder| holder.boot),
            of(|holder| holder.nonce),
            integer(lease_ms),
            integer(self.id),
            integer(self.token),
            integer(if mutant::is(120) { u64::MAX >> 1 } else { self.lease_ms }),
        ]);
        let statements = [Statement::new(GRANT, values)].into_iter().chain(history).collect();
        sql::encode(&SqlRequest::new(RequestKind::Execute, Origin::Agent, statements))
    }
}

/// A grant, as the write says it that makes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The grant that comes.
    pub claim: Claim,
    /// Whom it is to, if anybody.
    pub holder: Option<Incarnation>,
    /// As in [`Duty::lease_ms`].
    pub lease_ms: u64,
    /// The token that goes.
    pub before: u64,
}

/// The grant that this write makes, if it is such a one: for what stands in for a database
/// in tests.
#[must_use]
pub fn grants(request: &[u8]) -> Option<Grant> {
    let request = sql::decode::<SqlRequest>(request).ok()?;
    let statement = request.statements.first().filter(|statement| statement.sql == GRANT)?;
    let Parameters::Positional(values) = &statement.parameters else { return None };
    let number = |place: usize| match values.get(place) {
        Some(Value::Integer(number)) => Some(number.cast_unsigned()),
        _ => None,
    };
    let holder = number(1).zip(number(2)).zip(number(3));
    Some(Grant {
        claim: Claim { duty: number(5)?, token: number(0)? },
        holder: holder.map(|((board, boot), nonce)| Incarnation { board, boot, nonce }),
        lease_ms: number(4)?,
        before: number(6)?,
    })
}
