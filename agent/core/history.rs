//! The group's history: what became of its boards and duties, as rows that every board
//! has, and the reason as those saw it who were left.
//!
//! What a grant brings travels in the entry that grants. Everything else is for the
//! agent to gather into entries of their own. Each brings along what trims the oldest
//! rows, so there are never more than [`HISTORY_ROWS_MAX`]. Nothing waits for a row, and
//! nothing is decided by one: it may be lost.

use alloc::{borrow::ToOwned as _, format, string::String, vec::Vec};

use crate::{
    duty::{ANOTHER, Claim, Duty, Incarnation},
    event::{Millis, NodeId},
    limits::{HISTORY_REASON_BYTES_MAX, HISTORY_ROWS_MAX},
    node::Node,
    readings::time_unset,
    sql::{Statement, Value},
};

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A duty was granted to the board.
    Take,
    /// A duty was taken from the board, or given up by it.
    Lose,
    /// The board's agent started.
    Boot,
    /// The board's agent ended as it was asked to.
    CleanEnd,
    /// There is proof that the board's agent ended otherwise.
    UncleanEnd,
    /// The board could not be heard any more.
    Lost,
    /// It was heard again.
    Back,
    /// The board came to lead.
    Elected,
    /// The board found nobody to lead for longer than an election takes.
    QuorumLost,
    /// Somebody led again.
    QuorumBack,
}

impl Kind {
    /// As it stands in a row.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Take => "take",
            Self::Lose => "lose",
            Self::Boot => "boot",
            Self::CleanEnd => "clean end",
            Self::UncleanEnd => "unclean end",
            Self::Lost => "lost",
            Self::Back => "back",
            Self::Elected => "elected",
            Self::QuorumLost => "quorum lost",
            Self::QuorumBack => "quorum back",
        }
    }
}

/// One row, as it comes to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// When, microseconds since 1970, or what [`time_unset`] says of the board that wrote it.
    pub time: i64,
    /// The board it is about.
    pub board: NodeId,
    /// What happened.
    pub kind: Kind,
    /// Name and token of the duty, where it is about one.
    pub duty: Option<(String, u64)>,
    /// In words.
    pub reason: String,
}

const INSERT: &str = "INSERT INTO _understudy_history(time, seen_by, board, kind, duty, token, \
                      reason) SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7 WHERE ?8 IS NULL OR EXISTS \
                      (SELECT 1 FROM _understudy_duty WHERE id = ?8 AND token = ?9)";

/// What puts these rows there, written by `by`, and trims the oldest; where they are of a
/// grant, if that stands.
#[must_use]
pub fn statements(by: NodeId, records: Vec<Record>, of: Option<Claim>) -> Vec<Statement> {
    let integer = |number: u64| Value::Integer(number.cast_signed());
    let insert = |record: Record| {
        let Record { time, board, kind, duty, reason } = record;
        let (name, token) = duty.map_or((Value::Null, Value::Null), |(name, token)| {
            (Value::text(&name), integer(token))
        });
        let values = Vec::from([
            Value::Integer(time),
            integer(by),
            integer(board),
            Value::text(kind.name()),
            name,
            token,
            Value::text(shortened(&reason)),
            of.map_or(Value::Null, |claim| integer(claim.duty)),
            of.map_or(Value::Null, |claim| integer(claim.token)),
        ]);
        Statement::new(INSERT, values)
    };
    let trim = format!(
        "DELETE FROM _understudy_history WHERE id <= \
         (SELECT max(id) FROM _understudy_history) - {HISTORY_ROWS_MAX}"
    );
    let inserts = records.into_iter().map(insert);
    inserts.chain([Statement::new(trim, Vec::new())]).collect()
}

/// What gives rows their times that this start of a board wrote before its clock was set.
/// Its boot time began then.
#[must_use]
pub fn put_right(by: NodeId, boot: u64, began_us: i64) -> Statement {
    let (first, last) = (time_unset(boot, 0), time_unset(boot, u64::MAX));
    let sql = "UPDATE _understudy_history SET time = ?1 + 1000 * (time - ?2) \
               WHERE seen_by = ?3 AND time BETWEEN ?2 AND ?4";
    let values = [began_us, first, by.cast_signed(), last].map(Value::Integer);
    Statement::new(sql, Vec::from(values))
}

fn shortened(reason: &str) -> &str {
    let mut end = reason.len().min(HISTORY_REASON_BYTES_MAX);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    &reason[..end]
}

/// So many milliseconds, in seconds.
#[must_use]
pub fn seconds(ms: u64) -> String {
    format!("{}.{} s", ms / 1_000, ms % 1_000 / 100)
}

impl Node {
    /// Why this leader granted it as it did, if it is this one that did.
    #[must_use]
    pub fn why_granted(&self, claim: Claim) -> Option<&str> {
        let (token, reason) = self.duties.reasons.get(&claim.duty)?;
        (*token == claim.token).then_some(reason)
    }

    /// What this grant of a duty, to `holder` or to nobody, is in the history.
    pub(crate) fn records_of(
        &mut self,
        now: Millis,
        duty: &Duty,
        (token, holder): (u64, Option<Incarnation>),
    ) -> Vec<Record> {
        let time = self.stamp(now);
        let record = |kind, board, token, reason| {
            let duty = Some((duty.name.clone(), token));
            Record { time, board, kind, duty, reason }
        };
        let loses = duty.holder.map(|before| {
            record(Kind::Lose, before.board, duty.token, self.why_lost(now, duty, before))
        });
        let takes = holder.map(|holder| {
            let reason = match duty.holder {
                None => "nobody held it".to_owned(),
                Some(before) if before.board == holder.board => "in another start".to_owned(),
                Some(before) => format!("in place of {}", self.name_of(before.board)),
            };
            record(Kind::Take, holder.board, token, reason)
        });
        let records: Vec<Record> = loses.into_iter().chain(takes).collect();
        // Where nobody had it meanwhile, it still goes on for why it was lost.
        let known = self.why_granted(duty.claim()).filter(|_| duty.holder.is_none());
        let first = records.first().map(|record| &record.reason[..]);
        if let Some(reason) = known.or(first).map(String::from) {
            self.duties.reasons.insert(duty.id, (token, reason));
        }
        records
    }

    /// When something happens now, in a row that this board writes.
    #[must_use]
    pub fn stamp(&self, now: Millis) -> i64 {
        match self.wall_us(now) {
            Some(wall_us) => wall_us,
            None => time_unset(self.config.boot, now.0),
        }
    }

    fn why_lost(&self, now: Millis, duty: &Duty, holder: Incarnation) -> String {
        let lessor = &self.duties.lessor;
        let goes_on = duty.rank(holder.board).is_some();
        if self.has_fallen(holder) {
            return AGENT_KILLED.to_owned();
        }
        if lessor.has_stopped(duty) {
            let wanted = duty.wanted.filter(|wanted| *wanted != holder.board);
            return match wanted {
                _ if self.is_ending(holder) => STOPPED.to_owned(),
                _ if duty.is_paused => "paused".to_owned(),
                Some(ANOTHER) => "released".to_owned(),
                Some(wanted) => format!("transferred to {}", self.name_of(wanted)),
                None if self.is_drained(holder.board) => "that board is drained".to_owned(),
                None if self.is_unfit(now, duty, holder) => match duty.rules.fresh {
                    // Of what it needs the leader does not know which is missing.
                    Some(_) if duty.rules.needs.is_empty() => {
                        "its sensor is silent there".to_owned()
                    }
                    Some(_) | None => "that board is not ready for it any more".to_owned(),
                },
                None if self.is_preempted(now, duty) => "a better board was ready".to_owned(),
                None if !goes_on => "that board may hold it no longer".to_owned(),
                None => "given up there".to_owned(),
            };
        }
        let heard = self.heard.get(&holder.board).filter(|_| holder.board != self.config.id);
        match (heard.map(|at| now.since(*at)), self.hears(now, holder.board)) {
            (Some(_), Some(true)) | (None, _) => "its lease ran out".to_owned(),
            (Some(ms), _) => format!("unheard for {}", seconds(ms)),
        }
    }
}

/// Why an agent is gone whose parent, or whose commands' keepers, have proven it.
pub const AGENT_KILLED: &str = "agent killed or failed: obituary";

/// Why a board is gone that has said so.
pub const STOPPED: &str = "stopped by its operator";

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;

    use crate::{
        duties::Ready,
        duty::{Fresh, Rules},
        event::Event,
        rig::Rig,
    };

    fn duty(holder: Incarnation) -> Duty {
        let name = "pump".to_owned();
        Duty { id: 4, name, token: 7, holder: Some(holder), lease_ms: 800, ..Duty::default() }
    }

    /// Why the duty that `holder` has goes to the leader, as that says.
    fn told(rig: &mut Rig, leader: NodeId, duty: &Duty) -> Vec<String> {
        let (now, node) = (rig.now, rig.nodes.get_mut(&leader).unwrap());
        let own = node.incarnation();
        let records = node.records_of(now, duty, (20, Some(own)));
        let why = node.why_granted(Claim { duty: 4, token: 20 }).map(String::from);
        assert_eq!(why.as_ref(), Some(&records[0].reason));
        let told = records.into_iter().map(|record| {
            let token = record.duty.map_or(0, |(_, token)| token);
            format!("{} {} {token}: {}", record.kind.name(), record.board, record.reason)
        });
        told.collect()
    }

    #[test]
    fn a_loss_says_what_the_leader_knew_of_it() {
        let (mut rig, leader) = Rig::led(&[1, 2, 3]);
        let (board, other) = (leader % 3 + 1, (leader + 1) % 3 + 1);
        let holder = rig.nodes[&board].incarnation();
        let plain = duty(holder);
        let lose = |reason: &str| format!("lose {board} 7: {reason}");
        let take = format!("take {leader} 20: in place of board-{board}");
        let ran_out = [lose("its lease ran out"), take.clone()];
        assert_eq!(told(&mut rig, leader, &plain), ran_out);

        let stop = |rig: &mut Rig| {
            rig.nodes.get_mut(&leader).unwrap().duties.lessor.stopped(plain.claim());
        };
        stop(&mut rig);
        let barred = Duty { candidates: Vec::from([leader]), ..plain.clone() };
        let paused = Duty { is_paused: true, ..plain.clone() };
        let wanted = Duty { wanted: Some(other), ..plain.clone() };
        for (duty, reason) in [
            (&plain, "given up there"),
            (&paused, "paused"),
            (&barred, "that board may hold it no longer"),
            (&wanted, &format!("transferred to board-{other}")[..]),
        ] {
            assert_eq!(told(&mut rig, leader, duty)[0], lose(reason));
        }

        // The board has said that it is not ready, and not for want of what.
        let said = Ready { start: holder, duties: BTreeSet::new(), at: rig.now };
        rig.nodes.get_mut(&leader).unwrap().duties.ready.insert(board, said);
        let fresh = Some(Fresh { sensor: "flow".to_owned(), within_ms: 1_000 });
        for (needs, reason) in [
            (Vec::new(), "its sensor is silent there"),
            (Vec::from(["lte".to_owned()]), "that board is not ready for it any more"),
        ] {
            let rules = Rules { fresh: fresh.clone(), needs, ..Rules::default() };
            let duty = Duty { rules, ..plain.clone() };
            assert_eq!(told(&mut rig, leader, &duty)[0], lose(reason));
        }

        rig.event(board, Event::Stopping);
        rig.run(300);
        assert_eq!(told(&mut rig, leader, &plain)[0], lose(STOPPED));
        rig.event(leader, Event::Fell(holder));
        assert_eq!(told(&mut rig, leader, &plain)[0], lose(AGENT_KILLED));
    }

    #[test]
    fn a_holder_that_is_gone_without_a_word_is_unheard_for_so_long() {
        let (mut rig, leader) = Rig::led(&[1, 2, 3]);
        let board = leader % 3 + 1;
        let duty = duty(rig.nodes[&board].incarnation());
        rig.cut.push(board);
        rig.run(2_000);
        let told = told(&mut rig, leader, &duty);
        let after = told[0].strip_prefix(&format!("lose {board} 7: unheard for "));
        assert!(
            after.is_some_and(|after| after.ends_with(" s") && !after.starts_with("0.")),
            "{told:?}"
        );
    }

    #[test]
    fn what_nobody_held_is_taken_and_what_nobody_takes_is_lost() {
        let (mut rig, leader) = Rig::led(&[1, 2, 3]);
        let holder = rig.nodes[&leader].incarnation();
        let (now, node) = (rig.now, rig.nodes.get_mut(&leader).unwrap());
        let free = Duty { holder: None, ..duty(holder) };
        let taken = node.records_of(now, &free, (20, Some(holder)));
        assert_eq!((taken.len(), &taken[0].reason[..]), (1, "nobody held it"));
        let lost = node.records_of(now, &duty(holder), (21, None));
        assert_eq!((lost.len(), lost[0].kind), (1, Kind::Lose));
        assert_eq!(node.why_granted(Claim { duty: 4, token: 20 }), None, "another since");
        let resting = Duty { token: 21, ..free };
        let taken = node.records_of(now, &resting, (22, Some(holder)));
        assert_eq!(&taken[0].reason[..], "nobody held it");
        let why = node.why_granted(Claim { duty: 4, token: 22 });
        assert_eq!(why, Some(&lost[0].reason[..]), "it moved for that");
    }

    #[test]
    fn a_long_reason_is_cut_between_two_characters() {
        let long = "\u{b5}".repeat(HISTORY_REASON_BYTES_MAX);
        assert_eq!(shortened(&long).len(), HISTORY_REASON_BYTES_MAX);
        let odd = format!("a{long}");
        assert_eq!(shortened(&odd).len(), HISTORY_REASON_BYTES_MAX - 1);
    }
}
