//! What a board knows of itself and its group: the one structure behind
//! `understudy status`, `/status`, `/nodes` and `/readyz`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use understudy_core::{duty::Rules, intake::IntakeStatus};

use crate::boot::Evidence;

/// This board's view, at one moment. Field names are those of `status --json`
/// and only grow.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// This board's name; empty before it belongs to a group.
    pub board: String,
    /// This board's node id; 0 before it belongs to a group.
    pub id: u64,
    /// Name of the group.
    pub group: String,
    /// Tells its log from those of other groups; a board that recovers goes on with another.
    pub history: u32,
    /// `leader`, `follower`, `candidate`, or `waiting` (no group yet).
    pub role: String,
    /// Name of the leading board, if one is known.
    pub leader: Option<String>,
    /// Node id of the leading board, if one is known.
    pub leader_id: Option<u64>,
    /// Raft term.
    pub term: u64,
    /// Last index in the log.
    pub last_index: u64,
    /// Highest index known committed.
    pub commit_index: u64,
    /// Last index in the database.
    pub applied_index: u64,
    /// HTTP address bound, `ADDR:PORT`; none when HTTP is off.
    pub http: Option<String>,
    /// HTTP is open beyond loopback without accounts.
    pub http_open: bool,
    /// UDP address bound.
    pub udp: String,
    /// Process id of the agent.
    pub agent_pid: u32,
    /// Process id of its parent, which says to the others when the agent has ended; none
    /// where it has no such parent.
    #[serde(default)]
    pub parent_pid: Option<u32>,
    /// Which start of the agent on its disk this is.
    #[serde(default)]
    pub start: u64,
    /// Program version.
    pub version: String,
    /// What the group goes by: see `understudy upgrade`.
    #[serde(default)]
    pub group_version: u32,
    /// What all boards know, as far as this board has heard.
    #[serde(default)]
    pub known_version: u32,
    /// Milliseconds since the agent started.
    pub uptime_ms: u64,
    /// Milliseconds since a majority (a leader) or the leader (a follower) was
    /// last heard; none when never.
    pub contact_ms: Option<u64>,
    /// Milliseconds since nobody leads, as far as this board knows; none while
    /// somebody does.
    pub leaderless_ms: Option<u64>,
    /// So long without a leader is no election any more, milliseconds.
    pub leaderless_ms_max: u64,
    /// How many boards of the group are to vote.
    pub voters_max: usize,
    /// The journal's disk is full.
    pub disk_full: bool,
    /// A long read has let state.db's WAL grow to its bound: nothing is applied.
    pub database_held: bool,
    /// Then: the programs that read it, as far as this board may know.
    pub database_readers: Vec<String>,
    /// The voter waits for its peers' word on its disk before it votes.
    pub confirming_disk: bool,
    /// Names of the boards whose word on its disk this board votes without.
    #[serde(default)]
    pub unconfirmed_by: Vec<String>,
    /// This board's peers found its disk to be behind what it promised.
    pub disk_lost: bool,
    /// Boards of whose disks two copies were met: neither of them counts.
    #[serde(default)]
    pub copied: Vec<String>,
    /// This board is a witness: it votes and keeps the log's tail, and none of the data.
    #[serde(default)]
    pub witness: bool,
    /// What is written may be on one board alone, as this leader or witness knows.
    #[serde(default)]
    pub one_copy: bool,
    /// The group goes on writing then.
    #[serde(default)]
    pub one_copy_allowed: bool,
    /// This board was taken out of the group.
    #[serde(default)]
    pub removed: bool,
    /// This board's rows contradict those of the others: it answers no reads and
    /// starts no writes.
    #[serde(default)]
    pub fenced: bool,
    /// Number of the group's key that boards call each other under.
    #[serde(default)]
    pub key: u32,
    /// Of the newest that is installed.
    #[serde(default)]
    pub key_newest: u32,
    /// Of the oldest that is not forgotten.
    #[serde(default)]
    pub key_oldest: u32,
    /// A board was taken out that knows the newest: another is about to be made.
    #[serde(default)]
    pub key_due: bool,
    /// Names of the boards that a change of the key waits for.
    #[serde(default)]
    pub key_awaits: Vec<String>,
    /// This board takes the database from another, page by page: because it was away
    /// for longer than the log reaches back, is new, or was found wrong.
    #[serde(default)]
    pub pulls: Option<PullStatus>,
    /// The last comparison of all boards; none before the first.
    #[serde(default)]
    pub scrub: Option<ScrubStatus>,
    /// Readings that came to this board and are not known to be committed.
    #[serde(default)]
    pub readings: IntakeStatus,
    /// Why no old readings are rolled up or trimmed, where they should be.
    #[serde(default)]
    pub not_trimmed: Option<String>,
    /// Number of the board whose turn it is to be started anew, by this board's rows.
    #[serde(default)]
    pub turn: Option<u64>,
    /// The group's duties.
    #[serde(default)]
    pub duties: Vec<DutyStatus>,
    /// Duties whose commands are to be kept on this board and are not, and why.
    #[serde(default)]
    pub not_kept: BTreeMap<String, String>,
    /// Why this board is too slow for the group's timing, and holds no duty, if it is.
    #[serde(default)]
    pub slow: Option<String>,
    /// Brokers that datagrams to the others are posted to, as the configuration names them.
    #[serde(default)]
    pub brokers: Vec<BrokerStatus>,
    /// What this board does at brokers for others than boards, as its configuration has it.
    #[serde(default)]
    pub bridges: Vec<BridgeStatus>,
    /// Sensors of this board that are read, as its configuration has it.
    #[serde(default)]
    pub samples: Vec<SampleStatus>,
    /// The checks of this board's configuration.
    #[serde(default)]
    pub checks: Vec<CheckStatus>,
    /// Data directory.
    pub directory: String,
    /// What becomes of that with the next start of the machine, if it does not stay.
    #[serde(default)]
    pub forgets: Option<String>,
    /// What the agent uses of its board, and may.
    #[serde(default)]
    pub budgets: Vec<BudgetStatus>,
    /// All members, this one included, ascending by id.
    pub members: Vec<MemberStatus>,
    /// Counters since start: drops by reason, entries, bytes. Names as printed.
    pub counters: BTreeMap<String, u64>,
}

/// The line to a broker.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BrokerStatus {
    /// `host:port`
    pub broker: String,
    /// It is there.
    pub connected: bool,
    /// Why it is not, or what is wrong with it though it is.
    pub trouble: Option<String>,
    /// Datagrams posted.
    pub posted: u64,
    /// Datagrams heard.
    pub heard: u64,
    /// Datagrams that there was no room for, of either kind, and posted nonsense.
    pub dropped: u64,
}

/// A part that the agent plays at a broker while its board holds the duty.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BridgeStatus {
    /// The duty.
    pub duty: String,
    /// `host:port`
    pub broker: String,
    /// `subscribe` or `publish`.
    pub does: String,
    /// The broker is there: only while the board holds the duty.
    pub connected: bool,
    /// What is wrong: with the broker where it is not there, else with what is done at it.
    pub trouble: Option<String>,
    /// Lines to it that came about.
    pub lines: u64,
    /// Messages taken or told.
    pub messages: u64,
    /// Readings in them.
    pub readings: u64,
    /// Messages, or parts of them, that were not taken.
    pub refused: u64,
    /// Why the last of those was not.
    pub refusal: Option<String>,
    /// Up to where the log was told, for one that publishes.
    pub place: Option<String>,
}

/// A sensor of the board.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SampleStatus {
    /// The name of its readings.
    pub sensor: String,
    /// What is read.
    pub source: String,
    /// What it said last.
    pub value: Option<f64>,
    /// Why it says nothing now, if so.
    pub trouble: Option<String>,
}

/// How far a board is that takes the database from another.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PullStatus {
    /// From which, by name.
    pub from: String,
    /// Pages of 1 KiB that differed and have come.
    pub taken: u64,
    /// Pages of the whole database there, equal ones too; none before that is known.
    pub pages: Option<u32>,
}

/// The last comparison of all boards. Boards stand by name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ScrubStatus {
    /// Its number.
    pub id: u64,
    /// When, by the clock of the board that led then, seconds since 1970.
    pub time: u64,
    /// The entry as of which all boards were digested; none before the first report.
    pub entry: Option<u64>,
    /// Boards that can be heard have not reported yet, or the rows that differ are
    /// still looked for.
    pub under_way: bool,
    /// Boards that have not reported.
    pub silent: Vec<String>,
    /// Boards that ended early, and why.
    pub unfinished: BTreeMap<String, String>,
    /// What differs.
    pub differences: Vec<DifferenceStatus>,
    /// It is known which boards are right: a majority agrees, or somebody has said so.
    pub decided: bool,
    /// The board that somebody said is right.
    pub source: Option<String>,
    /// Boards that are fenced, by this comparison or by one before.
    pub fenced: Vec<String>,
}

/// A table that boards do not hold alike.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DifferenceStatus {
    /// Its name; `sqlite_schema` for the schema.
    pub table: String,
    /// Which rows, by their keys, in words; empty while that is not known.
    pub rows: String,
    /// Boards that hold the same, the most first.
    pub sides: Vec<Vec<String>>,
    /// Boards that cannot read it, and why.
    pub problems: BTreeMap<String, String>,
}

/// What is known of the board's clock.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockStatus {
    /// By what it was set, if it was.
    pub set_by: Option<Evidence>,
    /// What it shows, RFC 3339.
    pub shows: String,
    /// Stamps are so much ahead of it, since it was stepped back, milliseconds.
    pub ahead_ms: i64,
}

/// What of a board an agent uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BudgetKind {
    /// Memory: its proportional share.
    Memory,
    /// The journal's file with its WAL, and the spool and a witness's log in it.
    Journal,
    /// What it has sent to the card.
    Card,
}

/// How much of that, and how much it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BudgetStatus {
    /// Of what.
    pub what: BudgetKind,
    /// So much is used, bytes.
    pub used_bytes: u64,
    /// So much may be.
    pub bytes_max: u64,
    /// In so long, milliseconds: a day, or since the agent started; for the card alone.
    pub over_ms: Option<u64>,
}

impl BudgetStatus {
    /// That it is too much, in words, if it is.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        if self.used_bytes <= self.bytes_max {
            return None;
        }
        let (used, most) = (self.used(), megabytes(self.bytes_max));
        Some(match self.what {
            BudgetKind::Memory => format!(
                "the agent takes {used} MB of memory, and {most} are meant for it on this board"
            ),
            BudgetKind::Journal => format!(
                "its journal has {used} MB, and {most} are meant for it on this board: it keeps \
                 what the database or a board that is away still needs"
            ),
            BudgetKind::Card => format!(
                "the agent has written {used} MB to its card in {} h, and {most} are meant for a \
                 day on this board: write more rows in one request and less often, and readings \
                 with a longer batch_window_ms",
                self.over_ms.unwrap_or(0).div_ceil(3_600_000)
            ),
        })
    }

    /// How much is used, megabytes.
    #[must_use]
    pub fn used(&self) -> String {
        megabytes(self.used_bytes)
    }
}

/// With its unit: megabytes, or gigabytes where there are many.
#[must_use]
pub fn amount(bytes: u64) -> String {
    match bytes {
        ..10_000_000_000 => format!("{} MB", megabytes(bytes)),
        _ => format!("{} GB", megabytes(bytes / 1_000)),
    }
}

/// To one place behind the point.
#[must_use]
pub fn megabytes(bytes: u64) -> String {
    format!("{}.{}", bytes / 1_000_000, bytes % 1_000_000 / 100_000)
}

/// A duty, as this board sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DutyStatus {
    /// Its name.
    pub name: String,
    /// Fencing token: rises with every grant; 0 before the first.
    pub token: u64,
    /// Name of the board it is granted to.
    pub holder: Option<String>,
    /// This board holds it now: its lease runs.
    pub held: bool,
    /// This board is ready for it.
    pub ready: bool,
    /// How long a renewal holds, milliseconds; 0 before the first grant.
    pub lease_ms: u64,
    /// Boards that may hold it, the first choice first; any where there is none.
    pub candidates: Vec<String>,
    /// Nobody is to hold it for now.
    pub paused: bool,
    /// The board that it is about to go to.
    pub wanted: Option<String>,
    /// How its holder is chosen.
    #[serde(default)]
    pub rules: Rules,
    /// The sensor that is to report for it is silent on this board.
    #[serde(default)]
    pub silent: bool,
}

/// A check of this board's: what it can do as long as a command says so.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckStatus {
    /// The capability it gives.
    pub name: String,
    /// The board has that now.
    pub healthy: bool,
    /// Milliseconds since that changed, or since the agent started.
    pub since_ms: u64,
    /// How its last run ended; none before that.
    pub last: Option<String>,
}

/// One member as this board sees it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MemberStatus {
    /// Node id.
    pub id: u64,
    /// Name.
    pub name: String,
    /// Counts for the quorum.
    pub voter: bool,
    /// It does not vote because somebody wished so.
    #[serde(default)]
    pub resting: bool,
    /// It holds no duty and does not lead, because somebody wished so.
    #[serde(default)]
    pub drained: bool,
    /// A witness: it keeps none of the data.
    #[serde(default)]
    pub witness: bool,
    /// Leads, as far as this board knows.
    pub leader: bool,
    /// Heard from lately, by this board or by the leader that says so (this board
    /// itself: always).
    pub reachable: bool,
    /// This board cannot know yet whether it is reachable: followers do not speak
    /// to each other, and the leader has not told.
    pub unknown: bool,
    /// Milliseconds since it was last heard; none when never, 0 for itself.
    pub heard_ms: Option<u64>,
    /// Where it was last heard from, or else its first known address.
    pub address: Option<String>,
    /// About the longest round trip to it of late, milliseconds, as the leader knows it.
    #[serde(default)]
    pub round_trip_ms: Option<u64>,
    /// Its round trips are too long for the group's timing, as the leader sees it: it holds no
    /// duty.
    #[serde(default)]
    pub slow: bool,
    /// The release that it runs, as it or the leader has said lately; one from before 0.2.0
    /// says nothing.
    #[serde(default)]
    pub release: Option<String>,
    /// The newest version of the group's that it knows.
    #[serde(default)]
    pub known_version: Option<u32>,
    /// Its HTTP address as it last said, if it has one.
    pub http: Option<String>,
    /// Leader's view of how far its log matches; none elsewhere.
    pub matched_index: Option<u64>,
}
