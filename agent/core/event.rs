//! The whole vocabulary between the core and its drivers: what can happen
//! ([`Event`]) and what is to be done about it ([`Effect`]).
//!
//! Work that takes time is an effect with a number, and its end is an event
//! with the same number. [`Effect::Send`] is the only effect without an answer:
//! a payload may be lost, repeated, reordered or damaged.
//!
//! Left out on purpose: sockets, files, clocks. Times are [`Millis`] of boot
//! time and come in with every call.

use alloc::{string::String, vec::Vec};

use serde::{Deserialize, Serialize};

use crate::{
    duty::{Claim, Duty, Incarnation},
    error::Refusal,
    pages,
    scrub::{Report, Scrubs},
};

pub use crate::member::NodeId;

/// Boot time in milliseconds: monotonic, counts through suspend, starts anywhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Millis(pub u64);

impl Millis {
    /// This moment plus `ms` milliseconds.
    #[must_use]
    pub const fn plus(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// Milliseconds from `earlier` to this moment, 0 if `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// A place in the log: the entry's index and the term it was proposed in.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Position {
    /// Raft term.
    pub term: u64,
    /// Log index; 0 is the empty database before the first entry.
    pub index: u64,
}

/// What an entry's data is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EntryKind {
    /// A change of rows or schema ([`crate::change`]); empty data is a new
    /// leader's first entry and changes nothing.
    Change,
    /// A change of membership ([`crate::member::MembershipChange`]).
    Membership,
}

/// One entry of the replicated log, as it is journalled and sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Log index, from 1.
    pub index: u64,
    /// Term of the leader that proposed it.
    pub term: u64,
    /// What the data is.
    pub kind: EntryKind,
    /// Encoded change; the bytes hashed and stored are the bytes received.
    pub data: Vec<u8>,
}

impl Entry {
    /// Where this entry stands.
    #[must_use]
    pub const fn position(&self) -> Position {
        Position { term: self.term, index: self.index }
    }

    /// Does a change made on this base apply here? Not after any other entry, nor in a
    /// later term.
    #[must_use]
    pub const fn stands_on(&self, base: Position) -> bool {
        base.term == self.term && base.index + 1 == self.index
    }
}

/// What Raft must never forget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HardState {
    /// Latest term seen.
    pub term: u64,
    /// Who this node voted for in that term, 0 for nobody.
    pub vote: NodeId,
    /// Highest index known committed; a change of it alone is never synced.
    pub commit: u64,
}

/// What a voter was seen to promise, kept by its peers: a voter that knows less
/// of itself than a peer remembers has lost its disk (design section 4, rule 7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promise {
    /// Term it acknowledged.
    pub term: u64,
    /// Whom it voted for in that term, 0 where not seen.
    pub vote: NodeId,
    /// Highest index it acknowledged to hold, in that term.
    pub matched: u64,
    /// Highest index it sent as that term's leader. It may have counted its own
    /// copy for a commit, or not have had it yet: held against a damaged disk only.
    pub sent: u64,
}

/// One start of a board: the disk it started from counts them, and never gives a count
/// twice unless it is two disks, or one that was put back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// Which, from 1; 0 for none.
    pub boot: u64,
    /// Drawn at random: tells two starts of one count apart.
    pub nonce: u64,
}

/// What a board keeps of a peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// What that voter was seen to promise.
    pub promise: Promise,
    /// The latest start that it was met in.
    pub start: Start,
    /// Two copies of its disk were met: neither counts any more.
    pub is_copied: bool,
}

/// What a disk held, in short: what a peer remembers is held against it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Latest term.
    pub term: u64,
    /// Whom it voted for in that term, 0 for nobody.
    pub vote: NodeId,
    /// Last index of the log.
    pub last_index: u64,
}

/// What becomes of the log's beginning, or of all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cut {
    /// It begins after this entry, which the database holds for good; what is before
    /// goes.
    UpTo(Position),
    /// The database is about to take a state from another board, as of this entry. A
    /// start that finds it there finishes what was begun: nothing is lost.
    Coming(Position),
    /// The database holds this for good, and the log was another: it begins anew,
    /// after this entry.
    Anew(Position),
    /// As [`Cut::UpTo`], at a witness, before all others are known to hold what goes:
    /// that is remembered, until a cut of what they do hold.
    GivenUp(Position),
}

/// What becomes of a board's spool: readings of its own that are not known to be
/// committed, in pieces that have their places in order of arrival.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SpoolWrite {
    /// A piece comes, in place of what was there.
    Put {
        /// Its place.
        place: u64,
        /// Readings in it.
        readings: u32,
        /// The lowest of their numbers.
        lowest: u64,
        /// An encoded [`crate::readings::Batch`].
        data: Vec<u8>,
    },
    /// Pieces from the first place to the last go: what was in them is stored.
    Take {
        /// Place.
        first: u64,
        /// Place.
        last: u64,
    },
}

/// A piece of a spool as it is read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpoolPiece {
    /// As in [`SpoolWrite::Put`].
    pub place: u64,
    /// As in [`SpoolWrite::Put`].
    pub readings: u32,
    /// As in [`SpoolWrite::Put`].
    pub data: Vec<u8>,
}

/// How far a disk's own word goes, written down on it so that no later start
/// forgets (design section 4, rule 7).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Trust {
    /// Enough peers have confirmed that it holds what it promised, or nobody had to.
    #[default]
    Confirmed,
    /// Its voter went on without the word of these peers. What it promised since
    /// proves nothing, so each stands with what the disk held before.
    Unconfirmed(Vec<(NodeId, Held)>),
    /// A peer remembers more than it holds: it never votes again.
    Lost,
    /// A peer has met another copy of it: neither ever votes again.
    Copied,
}

/// Names one caller's request on the board it came to, for its lifetime.
pub type RequestId = u64;

/// How fresh a read must be, named as rqlite names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReadLevel {
    /// This board's applied state; `freshness_ms` bounds its age.
    None {
        /// Largest accepted age of what is read; unbounded when absent.
        freshness_ms: Option<u64>,
    },
    /// A leader's applied state without asking a majority; elsewhere as `Linearizable`.
    Weak,
    /// Never older than any write acknowledged before the read began (ReadIndex).
    Linearizable {
        /// How long a majority is waited for; as for any request when absent.
        timeout_ms: Option<u64>,
    },
    /// Through the log: an entry of its own is committed first.
    Strong,
    /// This board's applied state, even where it is fenced: for the agent, which
    /// checks what it reads. No caller can ask for it.
    Own,
    /// The same, once this board has applied all that was acknowledged before: at a fenced
    /// board and a witness, too.
    OwnLinearizable,
}

/// What a caller wants. SQL travels as the postcard bytes of
/// [`crate::sql::SqlRequest`]; the core never looks inside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Execute on the leader, replicate what changed, answer when applied.
    Write(Vec<u8>),
    /// Read this board's database at the given level.
    Read {
        /// How fresh.
        level: ReadLevel,
        /// Encoded [`crate::sql::SqlRequest`].
        sql: Vec<u8>,
    },
    /// A member can be reached elsewhere; answered with the encoded
    /// [`crate::member::Member`] it is.
    Admit(crate::member::Candidate),
    /// Give a member another name; refused when taken.
    Rename {
        /// Whom.
        id: NodeId,
        /// The new name.
        name: String,
    },
    /// Compare what all boards hold. Becomes a write where it comes in.
    Scrub,
    /// Where boards differ and no majority agrees: this one is right. Becomes a write
    /// where it comes in.
    Repair {
        /// Which.
        source: NodeId,
    },
    /// Change who belongs to the group, and how.
    Member(crate::member::MemberRequest),
    /// Store readings; answered with the encoded [`crate::readings::Receipt`]. Never
    /// leaves the board: what travels is a write.
    Readings(crate::readings::Arrivals),
}

/// What a caller gets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// Encoded [`crate::sql::SqlResponse`] (or the admitted member), and the
    /// log index it is applied or was read at.
    Done {
        /// Log index.
        index: u64,
        /// Encoded answer.
        answer: Vec<u8>,
    },
    /// Nothing was done, or it is not known whether it was: the refusal says.
    Refused(Refusal),
}

/// How one applied entry ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Its changes are in the database.
    Changed,
    /// The same, but for rows that did not fit this board's and were left out:
    /// boards hold different rows, here or where it was executed.
    ChangedInPart,
    /// Recorded and skipped, on every board alike: it was executed on another
    /// base than the entry before it.
    Skipped,
}

/// The database's answer to [`Effect::Execute`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Executed {
    /// The batch as one encoded change bound to its base, to be proposed.
    pub change: Vec<u8>,
    /// Per request of the batch, in order: the encoded [`crate::sql::SqlResponse`]
    /// to give once the change is applied, or why it had no effect. Those beyond
    /// the last, if any, did not fit into the same entry or its time: the next
    /// batch begins with them.
    pub answers: Vec<Result<Vec<u8>, Refusal>>,
}

/// What can happen to a node.
#[derive(Clone, Debug)]
pub enum Event {
    /// Time may have passed; nothing else did.
    Tick,
    /// An authenticated peer's payload, at most [`crate::limits::PAYLOAD_BYTES_MAX`].
    Received {
        /// Who sealed it.
        from: NodeId,
        /// What was inside the seal.
        payload: Vec<u8>,
    },
    /// A local caller asks.
    Requested {
        /// Chosen by the driver, unique while the process lives.
        id: RequestId,
        /// What for.
        request: Request,
    },
    /// Everything up to and including [`Effect::Persist`] `number` is on disk.
    Persisted {
        /// The effect's number.
        number: u64,
    },
    /// The journal's disk is full (true) or has room again (false). Persists
    /// keep waiting in order; they are never dropped.
    DiskFull(bool),
    /// The database's disk is full (true) or has room again (false). It goes on in
    /// memory, and is as readable as before.
    DatabaseFull(bool),
    /// Somebody's long read keeps the database's WAL from being brought back into
    /// the file, and it has grown to its bound; or no longer. Nothing is applied
    /// meanwhile.
    DatabaseHeld(bool),
    /// The database holds everything up to this index for good: no power cut can take
    /// it.
    DatabaseDurable(u64),
    /// Entries read back from the journal; may be fewer than asked, from `low` on.
    Fetched {
        /// The effect's number.
        number: u64,
        /// Consecutive entries starting at the effect's `low`.
        entries: Vec<Entry>,
    },
    /// Pieces of the spool, in order; none where there are no more.
    SpoolFetched {
        /// The effect's number.
        number: u64,
        /// As they were written.
        pieces: Vec<SpoolPiece>,
    },
    /// A batch was executed, captured and rolled back.
    Executed {
        /// The effect's number.
        number: u64,
        /// What came of it.
        executed: Executed,
    },
    /// Entries were applied, in order.
    Applied {
        /// The effect's number.
        number: u64,
        /// One per entry of the effect.
        outcomes: Vec<Outcome>,
    },
    /// The database's open transaction was lost (design section 4, rule 6). It
    /// stands at `applied` again; effects under way on it end here unanswered,
    /// those it has not come to yet included: see [`Effect::resets`].
    DatabaseReset {
        /// The last entry it still holds.
        applied: Position,
        /// When a request of the batch under way ended the transaction (such as
        /// `INSERT OR ROLLBACK`): its place in the batch and its answer. The
        /// others had no effect and are executed again.
        ended_by: Option<(u32, Vec<u8>)>,
    },
    /// A read has ended.
    Queried {
        /// The effect's number.
        number: u64,
        /// Encoded [`crate::sql::SqlResponse`].
        answer: Vec<u8>,
    },
    /// The rows about duties are different from what they were: these, as of what the next
    /// [`Event::Applied`] or other word of the database finds applied.
    Duties(Vec<Duty>),
    /// The group goes by this version, as of what the next [`Event::Applied`] or other word
    /// of the database finds applied.
    Version(u32),
    /// This board is ready for these duties, by their numbers, and for no others.
    Ready(Vec<u64>),
    /// All that this board did under that grant is at an end.
    GaveUp(Claim),
    /// It is not known whether what this board did under that grant is at an end: it lets
    /// the lease run out.
    LostTouch(Claim),
    /// There is proof that the agent of this start has ended; what it ran may go on.
    Fell(Incarnation),
    /// There is proof that this start of a board has ended, and all that it ran under any
    /// grant.
    Ended(Incarnation),
    /// The rows about scrubs are different from what they were.
    Scrubs(Scrubs),
    /// This board has digested its tables, or did not come to an end.
    Digested {
        /// Which scrub.
        scrub: u64,
        /// What it came to.
        report: Report,
    },
    /// Work on pages has ended.
    Pages {
        /// The effect's number.
        number: u64,
        /// How.
        done: pages::Done,
    },
    /// The process is about to stop: hand leadership over.
    Stopping,
}

/// What a node wants done. Carried out in order, all of it, before the next event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Seal and send, at most [`crate::limits::PAYLOAD_BYTES_MAX`]; no answer.
    Send {
        /// To whom.
        to: NodeId,
        /// What.
        payload: Vec<u8>,
    },
    /// Write to the journal in one transaction and sync. `entries` replace
    /// everything from their first index on. Many may be waiting; they are
    /// carried out in order and may share one sync. A change of the commit index
    /// alone is no effect of its own: it travels with the next one.
    Persist {
        /// Rises by each.
        number: u64,
        /// Consecutive, may be empty.
        entries: Vec<Entry>,
        /// As of these entries.
        hard_state: HardState,
        /// What was learnt of peers since the last one; written along, worth no sync.
        memories: Vec<(NodeId, Memory)>,
        /// What the disk is to say of itself from now on, where that changes. Once
        /// it says [`Trust::Confirmed`], damage found in the journal has lost nothing.
        trust: Option<Trust>,
        /// What becomes of the entries before.
        cut: Option<Cut>,
        /// What becomes of the spool, in order.
        spool: Vec<SpoolWrite>,
    },
    /// Read pieces of the spool back, in order, from the first place after `after`, at
    /// most `bytes_max` of data but at least one.
    FetchSpool {
        /// Rises by each.
        number: u64,
        /// Place.
        after: u64,
        /// Bound on the sum of data bytes.
        bytes_max: u64,
    },
    /// Read entries `low..high` back, at most `bytes_max` of data but at least one.
    Fetch {
        /// Rises by each.
        number: u64,
        /// First index.
        low: u64,
        /// Index after the last.
        high: u64,
        /// Bound on the sum of data bytes.
        bytes_max: u64,
    },
    /// Execute requests on top of `base`, capture what they change, roll back.
    Execute {
        /// Rises by each.
        number: u64,
        /// See [`Effect::resets`].
        resets: u64,
        /// What the database has applied; the change is bound to it.
        base: Position,
        /// Encoded [`crate::sql::SqlRequest`]s, each in a savepoint of its own.
        requests: Vec<Vec<u8>>,
    },
    /// Apply committed entries, in order.
    Apply {
        /// Rises by each.
        number: u64,
        /// See [`Effect::resets`].
        resets: u64,
        /// Consecutive.
        entries: Vec<Entry>,
    },
    /// Run a read against what is applied now.
    Query {
        /// Rises by each.
        number: u64,
        /// See [`Effect::resets`].
        resets: u64,
        /// Encoded [`crate::sql::SqlRequest`].
        sql: Vec<u8>,
    },
    /// Work on the database's pages, in order. One that keeps a state or installs one
    /// takes its place among what else the database does; the rest is done aside.
    Pages {
        /// Rises by each.
        number: u64,
        /// What.
        work: pages::Work,
    },
    /// A caller's answer.
    Reply {
        /// Whose.
        id: RequestId,
        /// What.
        reply: Reply,
    },
    /// This node took or lost leadership; the writing connection is reopened.
    RoleChanged {
        /// True: it leads now.
        leads: bool,
    },
}

impl Effect {
    /// How many [`Event::DatabaseReset`] its node had seen when it asked the
    /// database for this. A database that has told of more drops it, since the
    /// node asks for everything again; what it holds then may look the same as
    /// before, so nothing else can tell old from new.
    #[must_use]
    pub const fn resets(&self) -> Option<u64> {
        match self {
            Self::Execute { resets, .. }
            | Self::Apply { resets, .. }
            | Self::Query { resets, .. } => Some(*resets),
            Self::Send { .. }
            | Self::Persist { .. }
            | Self::Fetch { .. }
            | Self::FetchSpool { .. }
            | Self::Pages { .. }
            | Self::Reply { .. }
            | Self::RoleChanged { .. } => None,
        }
    }
}
