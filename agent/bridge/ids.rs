//! Ids of readings by which a message that a broker brings once more is the one that was
//! taken already, and how they are forgotten.
//!
//! An id is made of what a redelivered message has again: the broker's session (`epoch`), its
//! packet id there, topic and payload. The group remembers ids for a day and not many of them,
//! so they are forgotten when their message cannot come again: it was acknowledged, what was
//! asked of the broker after that has been answered on the same line, and that was a whole
//! interval ago, for a broker that died may come back as it was minutes before.
//!
//! A broker may give the packet id of a message that it is rid of to the next one. On one line
//! a message that is not marked as repeated is new, so the id of one like it that was
//! acknowledged there is forgotten first ([`Ids::is_reused`]).
//!
//! Left out: a broker that gives the lowest free packet id, and breaks the line, and brings a
//! new message like one of before: that one is taken for the former as long as its id stands.

use std::collections::BTreeSet;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rumqttc::Publish;
use understudy_core::{
    event::Millis,
    fence::Fence,
    sql::{Origin, RequestKind, SqlRequest, Statement, Value},
};

use crate::store::database::hash::Hash;

/// An interval ends when it was so long, milliseconds, or so many readings came in it:
/// together with the one before they are far fewer than the group remembers.
const INTERVAL_MS: u64 = 300_000;
const INTERVAL_READINGS: u64 = 10_000;

/// Intervals after which nothing is left that is to be forgotten.
const INTERVALS: u8 = 2;

/// Ids that one write forgets.
const FORGOTTEN_MAX: u32 = 2_000;

/// Numbers of ids: up to the first they can be forgotten, up to the second in an interval.
pub type Marks = (Option<i64>, Option<i64>);

/// The group counts ids on from the highest that is there, and marks go by their numbers.
const IS_NOT_LAST: &str = "number < (SELECT max(number) FROM _understudy_reading_id)";

/// Of the messages of one part; the marks are of one line.
pub struct Ids {
    /// What all its ids begin with.
    prefix: String,
    /// Messages acknowledged on this line in this interval, in the one before, and those
    /// whose ids are being forgotten.
    taken: [BTreeSet<u64>; 3],
    began: Millis,
    readings: u64,
    intervals_left: u8,
    /// Ids below this number are those of messages acknowledged before this interval.
    mark: Option<i64>,
    /// The broker has not answered yet what it was asked when this interval began.
    is_asked: bool,
    /// Below which number ids are being forgotten.
    forgets: Option<i64>,
}

impl Ids {
    /// Of a duty, on a line that begins now. What was acknowledged on one before with a number
    /// up to the former can be forgotten, and those up to the latter in an interval.
    #[must_use]
    pub fn new(duty: &str, now: Millis, (former, arrived): Marks) -> Self {
        let tag = URL_SAFE_NO_PAD.encode(crc32c::crc32c(duty.as_bytes()).to_be_bytes());
        Self {
            prefix: format!("mqtt:{tag}."),
            taken: Default::default(),
            began: now,
            readings: 0,
            intervals_left: INTERVALS,
            mark: arrived.map(|number| number.saturating_add(1)),
            is_asked: false,
            forgets: former.map(|number| number.saturating_add(1)),
        }
    }

    /// For the next line, where this is ended in order: then the broker has all
    /// acknowledgements of ids up to `highest`.
    #[must_use]
    pub fn marks(&self, highest: Option<i64>) -> Marks {
        (self.mark.map(|number| number.saturating_sub(1)), highest)
    }

    /// What tells a message from others: the same on every board.
    #[must_use]
    pub fn of(epoch: u64, publish: &Publish) -> u64 {
        let mut hash = Hash::default();
        hash.put(epoch);
        hash.put(u64::from(publish.pkid));
        hash.bytes(publish.topic.as_bytes());
        hash.bytes(&publish.payload);
        hash.finish()
    }

    /// The id of a reading in a message, by its place there.
    #[must_use]
    pub fn id(&self, message: u64, place: usize) -> String {
        format!("{}{place}", self.of_message(message))
    }

    fn of_message(&self, message: u64) -> String {
        format!("{}{}.", self.prefix, URL_SAFE_NO_PAD.encode(message.to_be_bytes()))
    }

    /// Is this new, though one like it has been acknowledged on this line?
    #[must_use]
    pub fn is_reused(&self, message: u64, publish: &Publish) -> bool {
        !publish.dup && self.taken.iter().any(|taken| taken.contains(&message))
    }

    /// It was acknowledged, with so many readings.
    pub fn acknowledged(&mut self, message: u64, readings: usize) {
        self.taken[0].insert(message);
        self.readings += readings as u64;
        self.intervals_left = INTERVALS;
    }

    /// Forgets ids of these messages. Their rows stay, under names that nothing has: numbers
    /// go on from the highest there is, and [`Self::turn`] goes by them.
    #[must_use]
    pub fn forget(&self, fence: Fence, messages: &[u64]) -> SqlRequest {
        let sql = "UPDATE _understudy_reading_id SET id = id || '~' || number \
                   WHERE id >= ?1 AND id < ?2 AND instr(id, '~') = 0";
        let statements = messages.iter().map(|message| {
            let (low, high) = range(&self.of_message(*message));
            Statement::new(sql, vec![low, high])
        });
        fenced(fence, statements.collect())
    }

    /// Is another interval to begin: with [`Ids::highest`], [`Ids::turn`], and something that
    /// the broker answers?
    #[must_use]
    pub fn is_due(&self, now: Millis) -> bool {
        let is_over = now.since(self.began) >= INTERVAL_MS || self.readings >= INTERVAL_READINGS;
        let is_ready = !self.is_asked && self.forgets.is_none();
        is_over && is_ready && self.intervals_left > 0
    }

    /// Is a line to be ended in order, and another to be opened? The broker has brought so much
    /// without an answer that ids would come to be too many; that it ends the line as well is
    /// one.
    #[must_use]
    pub const fn is_stuck(&self) -> bool {
        self.is_asked && self.readings >= 2 * INTERVAL_READINGS
    }

    /// Asks for the highest number that one of them has.
    #[must_use]
    pub fn highest(&self) -> SqlRequest {
        let sql = "SELECT max(number) FROM _understudy_reading_id WHERE id >= ?1 AND id < ?2";
        let (low, high) = range(&self.prefix);
        SqlRequest::one(RequestKind::Query, Origin::Agent, sql, vec![low, high])
    }

    /// Another interval begins; all that was acknowledged has no higher number.
    pub fn turn(&mut self, now: Millis, highest: Option<i64>) {
        self.taken.rotate_right(1);
        self.taken[0].clear();
        (self.began, self.readings, self.is_asked) = (now, 0, true);
        self.intervals_left = self.intervals_left.saturating_sub(1);
        self.forgets = self.mark;
        self.mark = highest.map(|number| number.saturating_add(1));
    }

    /// The broker has answered.
    pub const fn answered(&mut self) {
        self.is_asked = false;
    }

    /// Forgets some of the ids that cannot come again, if there are any.
    #[must_use]
    pub fn forget_some(&self, fence: Fence) -> Option<SqlRequest> {
        let sql = format!(
            "DELETE FROM _understudy_reading_id WHERE number IN (SELECT number FROM \
             _understudy_reading_id WHERE id >= ?1 AND id < ?2 AND number < ?3 \
             LIMIT {FORGOTTEN_MAX}) AND {IS_NOT_LAST}"
        );
        let (low, high) = range(&self.prefix);
        let values = vec![low, high, Value::Integer(self.forgets?)];
        Some(fenced(fence, vec![Statement::new(sql, values)]))
    }

    /// Forgets the oldest, though they may come again: where there is no room for others, and
    /// nothing would be taken until that is over.
    #[must_use]
    pub fn forget_oldest(&self, fence: Fence) -> SqlRequest {
        let sql = format!(
            "DELETE FROM _understudy_reading_id WHERE number IN (SELECT number FROM \
             _understudy_reading_id WHERE id >= ?1 AND id < ?2 ORDER BY number \
             LIMIT {FORGOTTEN_MAX}) AND {IS_NOT_LAST}"
        );
        let (low, high) = range(&self.prefix);
        fenced(fence, vec![Statement::new(sql, vec![low, high])])
    }

    /// So many were.
    pub fn forgotten(&mut self, count: i64) {
        if count < i64::from(FORGOTTEN_MAX) {
            self.forgets = None;
            self.taken[2].clear();
        }
    }
}

/// From which text on those with this beginning, which ends with a full stop, are, and up to
/// which.
fn range(prefix: &str) -> (Value, Value) {
    let end = prefix.strip_suffix('.').unwrap_or(prefix);
    (Value::text(prefix), Value::text(&format!("{end}/")))
}

fn fenced(fence: Fence, statements: Vec<Statement>) -> SqlRequest {
    let request = SqlRequest::new(RequestKind::Execute, Origin::Agent, statements);
    SqlRequest { fence: Some(fence), ..request }
}

#[cfg(test)]
mod tests {
    use rumqttc::QoS;

    use understudy_core::sql::Parameters;

    use super::*;

    fn message(pkid: u16, payload: &str) -> Publish {
        Publish { pkid, ..Publish::new("a/b", QoS::AtLeastOnce, payload) }
    }

    #[test]
    fn a_message_is_told_from_others_by_all_that_it_has_again() {
        let one = Ids::of(7, &message(1, "on"));
        let again = Publish { dup: true, ..message(1, "on") };
        assert_eq!(Ids::of(7, &again), one);
        let topic = Publish { topic: "a/c".into(), ..message(1, "on") };
        let others = [message(2, "on"), message(1, "off"), topic];
        assert!(others.iter().all(|other| Ids::of(7, other) != one) && Ids::of(8, &again) != one);
        let ids = Ids::new("mqtt-in", Millis(0), Marks::default());
        assert_eq!(ids.id(0x0102_0304_0506_0708, 12), "mqtt:V5WGoA.AQIDBAUGBwg.12");
        assert_eq!(one, 0x19b0_a881_0c20_540d, "it stays the same over versions");
    }

    #[test]
    fn what_was_acknowledged_here_and_is_not_repeated_is_new() {
        let mut ids = Ids::new("mqtt-in", Millis(0), Marks::default());
        let (first, hash) = (message(1, "on"), Ids::of(7, &message(1, "on")));
        assert!(!ids.is_reused(hash, &first));
        ids.acknowledged(hash, 1);
        assert!(ids.is_reused(hash, &first));
        assert!(!ids.is_reused(hash, &Publish { dup: true, ..first.clone() }));
        for _ in 0..2 {
            ids.turn(Millis(1), Some(5));
            ids.answered();
            assert!(ids.is_reused(hash, &first), "its id is remembered");
        }
        ids.forgotten(0);
        assert!(!ids.is_reused(hash, &first));
    }

    #[test]
    fn ids_are_forgotten_an_interval_after_the_broker_has_answered() {
        let fence = || Fence { duty: String::from("mqtt-in"), token: 3 };
        let mut ids = Ids::new("mqtt-in", Millis(0), Marks::default());
        assert!(!ids.is_due(Millis(INTERVAL_MS - 1)) && ids.is_due(Millis(INTERVAL_MS)));
        ids.turn(Millis(INTERVAL_MS), Some(40));
        assert_eq!(ids.forget_some(fence()), None, "nothing is known of those before");
        assert!(!ids.is_due(Millis(9 * INTERVAL_MS)), "the broker has not answered");
        ids.answered();
        ids.acknowledged(1, usize::try_from(INTERVAL_READINGS).unwrap());
        assert!(ids.is_due(Millis(INTERVAL_MS + 1)), "many came");
        ids.turn(Millis(INTERVAL_MS + 1), Some(50));
        ids.answered();
        let forget = ids.forget_some(fence()).unwrap();
        let parameters = format!("{:?}", forget.statements[0].parameters);
        assert!(parameters.ends_with("Integer(41)])") && forget.fence == Some(fence()));
        assert!(!ids.is_due(Millis(9 * INTERVAL_MS)), "some are to be forgotten first");
        ids.forgotten(i64::from(FORGOTTEN_MAX));
        assert!(ids.forget_some(fence()).is_some(), "there may be more");
        ids.forgotten(3);
        assert_eq!(ids.forget_some(fence()), None);
        ids.turn(Millis(INTERVAL_MS), None);
        ids.forgotten(0);
        ids.acknowledged(2, usize::try_from(2 * INTERVAL_READINGS).unwrap());
        assert!(ids.is_stuck(), "much came, and no answer");
        ids.answered();
        assert!(!ids.is_stuck());
        for _ in 0..INTERVALS {
            assert!(ids.is_due(Millis(9 * INTERVAL_MS)));
            ids.turn(Millis(INTERVAL_MS), None);
            ids.answered();
        }
        assert!(!ids.is_due(Millis(9 * INTERVAL_MS)), "nothing came since");
        let next = Ids::new("mqtt-in", Millis(0), (Some(9), None));
        let forget = next.forget_some(fence()).unwrap();
        assert!(format!("{forget:?}").contains("Integer(10)"));
    }

    #[test]
    fn numbers_never_fall_and_a_message_that_is_new_finds_no_id_of_the_former() {
        let database = rusqlite::Connection::open_in_memory().unwrap();
        let made = "CREATE TABLE _understudy_reading_id(number INTEGER PRIMARY KEY, id UNIQUE)";
        database.execute_batch(made).unwrap();
        let fence = || Fence { duty: String::from("mqtt-in"), token: 3 };
        let run = |request: SqlRequest| {
            for Statement { sql, parameters } in request.statements {
                let Parameters::Positional(values) = parameters else { panic!("{sql}") };
                let values = values.into_iter().map(|value| {
                    if let Value::Integer(number) = value {
                        return rusqlite::types::Value::Integer(number);
                    }
                    let Value::Text(text) = value else { panic!("{value:?}") };
                    rusqlite::types::Value::Text(String::from_utf8(text).unwrap())
                });
                database.execute(&sql, rusqlite::params_from_iter(values)).unwrap();
            }
        };
        let all = || -> Vec<(i64, String)> {
            let mut select = database.prepare("SELECT * FROM _understudy_reading_id").unwrap();
            let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
            rows.map(Result::unwrap).collect()
        };
        let ids = Ids::new("mqtt-in", Millis(0), (Some(9), None));
        for (number, id) in [(1, ids.id(7, 0)), (2, ids.id(8, 0)), (3, ids.id(8, 1))] {
            let row = (number, id);
            database.execute("INSERT INTO _understudy_reading_id VALUES (?1, ?2)", row).unwrap();
        }
        for _ in 0..2 {
            run(ids.forget(fence(), &[8]));
            assert_eq!(all()[1], (2, format!("{}~2", ids.id(8, 0))));
        }
        run(ids.forget_some(fence()).unwrap());
        assert_eq!(all(), [(3, format!("{}~3", ids.id(8, 1)))]);
        run(ids.forget_oldest(fence()));
        assert_eq!(all().len(), 1, "the highest stays");
    }
}
