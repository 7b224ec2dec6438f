//! What the front doors (HTTP, control socket) hand to the loop, and how they
//! get their answer: one bounded channel in, a oneshot back. What is too large
//! for one answer comes in pieces.

use std::collections::BTreeMap;

use tokio::sync::{mpsc, oneshot};
use understudy_core::{
    event::{Entry, NodeId, Reply, Request},
    keys::SealedKey,
    member::Member,
};

use crate::{
    bulletin::Listening,
    checks::Finding,
    hold::words::{AgentWord, KeeperWord, Opening},
    identity::GroupKey,
    keepers::KeeperCall,
    probe::{Probed, Step},
    status::Status,
};

/// Calls waiting for the loop; a front door that finds it full answers "busy".
pub const CALLS_WAITING_MAX: usize = 256;

/// What a caller is told where the loop has ended.
pub const STOPPING: &str = "this board is stopping";

/// One caller's wish.
#[derive(Debug)]
pub enum Call {
    /// For the node; answered when it is done or refused.
    Request(Request, oneshot::Sender<Reply>),
    /// The state of this board and its group as this board sees it.
    Status(oneshot::Sender<Status>),
    /// A copy of this board's database; or why there is none, in words.
    Backup(Backup, oneshot::Sender<Result<Pieces, String>>),
    /// Other boards that can let a newcomer in, as far as they can be heard.
    Hosts(oneshot::Sender<Vec<Member>>),
    /// The group's keys as this board has them.
    Keys(oneshot::Sender<KeysNow>),
    /// A new key of the group, sealed to its members as this board knows them.
    NewKey(oneshot::Sender<Result<SealedKey, String>>),
    /// Entries from this index on, as soon as that one is applied here.
    Follow(u64, oneshot::Sender<Followed>),
    /// Of the keeper of a command.
    Keeper(KeeperCall),
    /// How duties stand, and every change of that; or why nobody tells, in words.
    Listen(oneshot::Sender<Result<Listening, String>>),
    /// A check of this board has come to something else.
    Checked(Finding),
    /// A step of probing the other boards, and what has become of it so far.
    Probe(Step, oneshot::Sender<Result<BTreeMap<NodeId, Probed>, String>>),
    /// Forget the group; answered when what was of it is gone from the disk.
    Forget(oneshot::Sender<()>),
}

/// What a board knows of the group's keys.
#[derive(Debug, Default)]
pub struct KeysNow {
    /// Those that are not forgotten, the newest last.
    pub keys: Vec<GroupKey>,
    /// Number of the newest that is installed.
    pub newest: u32,
    /// As of this entry.
    pub applied: u64,
}

/// Entries of the log, or why there are none.
#[derive(Debug)]
pub enum Followed {
    /// The first of those that are applied, at least one.
    Entries(Vec<Entry>),
    /// The log begins later.
    Gone {
        /// With this entry.
        first: u64,
    },
    /// Too many wait for entries already.
    Busy,
}

/// What is to be copied, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backup {
    /// What was applied up to this index must be in it.
    pub index: u64,
    /// As what.
    pub form: Form,
    /// Through gzip.
    pub compress: bool,
}

/// As what the database is copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Form {
    /// A SQLite file.
    Pages {
        /// Its header says WAL, instead of a rollback journal.
        wal: bool,
        /// Without free space, by way of a temporary file on the board.
        vacuum: bool,
    },
    /// SQL text, as SQLite's shell dumps it.
    Sql {
        /// Of these tables only; of all where empty.
        tables: Vec<String>,
    },
}

/// A copy on its way.
#[derive(Debug)]
pub struct Pieces {
    /// Of all pieces together, where it is known.
    pub bytes: Option<u64>,
    /// A channel that ends without [`Piece::End`] has not brought all.
    pub pieces: mpsc::Receiver<Piece>,
}

/// One piece.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    /// The next bytes.
    Bytes(Vec<u8>),
    /// That was all.
    End,
    /// It comes to no end, for this reason.
    Failed(String),
}

/// The front doors' end of the channel.
#[derive(Clone, Debug)]
pub struct Caller(mpsc::Sender<Call>);

impl Caller {
    /// A channel: the front doors clone the first, the loop keeps the second.
    #[must_use]
    pub fn channel() -> (Self, mpsc::Receiver<Call>) {
        let (sender, receiver) = mpsc::channel(CALLS_WAITING_MAX);
        (Self(sender), receiver)
    }

    async fn ask<T>(&self, call: impl FnOnce(oneshot::Sender<T>) -> Call) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.0.send(call(reply)).await.ok()?;
        answer.await.ok()
    }

    /// Asks the node and waits; `None` when the loop has ended.
    pub async fn request(&self, request: Request) -> Option<Reply> {
        self.begin(request).await?.await.ok()
    }

    /// Asks the node, and leaves the waiting to another time: who begins first is heard
    /// first.
    pub async fn begin(&self, request: Request) -> Option<oneshot::Receiver<Reply>> {
        let (reply, answer) = oneshot::channel();
        self.0.send(Call::Request(request, reply)).await.ok()?;
        Some(answer)
    }

    /// The same on a thread of one's own.
    #[must_use]
    pub fn request_blocking(&self, request: Request) -> Option<Reply> {
        let (reply, answer) = oneshot::channel();
        self.0.blocking_send(Call::Request(request, reply)).ok()?;
        answer.blocking_recv().ok()
    }

    /// Asks for the status; `None` when the loop has ended.
    pub async fn status(&self) -> Option<Status> {
        self.ask(Call::Status).await
    }

    /// Asks for a copy; `None` when the loop has ended.
    pub async fn backup(&self, backup: Backup) -> Option<Result<Pieces, String>> {
        self.ask(|reply| Call::Backup(backup, reply)).await
    }

    /// Other boards that can let a newcomer in, at the addresses they have now; none when
    /// the loop has ended.
    pub async fn hosts(&self) -> Vec<Member> {
        self.ask(Call::Hosts).await.unwrap_or_default()
    }

    /// The group's keys as this board has them; `None` when the loop has ended.
    pub async fn keys(&self) -> Option<KeysNow> {
        self.ask(Call::Keys).await
    }

    /// A new key, sealed to all members; `None` when the loop has ended.
    pub async fn new_key(&self) -> Option<Result<SealedKey, String>> {
        self.ask(Call::NewKey).await
    }

    /// Entries from `low` on, once that one is applied; `None` when the loop has ended.
    pub async fn follow(&self, low: u64) -> Option<Followed> {
        self.ask(|reply| Call::Follow(low, reply)).await
    }

    /// There is a keeper of a command, or why that cannot be run: its number from now on, or
    /// why it is not wanted; `None` when the loop has ended.
    pub async fn keeper(
        &self,
        opening: Opening,
        words: mpsc::Sender<AgentWord>,
    ) -> Option<Result<u64, String>> {
        self.keeper_came(false, opening, words).await
    }

    /// The same for what the agent does itself, which ends with it.
    pub async fn own_keeper(
        &self,
        opening: Opening,
        words: mpsc::Sender<AgentWord>,
    ) -> Option<Result<u64, String>> {
        self.keeper_came(true, opening, words).await
    }

    async fn keeper_came(
        &self,
        is_own: bool,
        opening: Opening,
        words: mpsc::Sender<AgentWord>,
    ) -> Option<Result<u64, String>> {
        self.ask(|reply| Call::Keeper(KeeperCall::Came { is_own, opening, words, reply })).await
    }

    /// It has said something, or is gone where it said nothing; `None` when the loop has
    /// ended.
    pub async fn keeper_said(&self, keeper: u64, word: Option<KeeperWord>) -> Option<()> {
        let call = match word {
            Some(word) => KeeperCall::Said(keeper, word),
            None => KeeperCall::Left(keeper),
        };
        self.0.send(Call::Keeper(call)).await.ok()
    }

    /// How duties stand and every change from there on, or why nobody tells; `None` when
    /// the loop has ended.
    pub async fn listen_to_duties(&self) -> Option<Result<Listening, String>> {
        self.ask(Call::Listen).await
    }

    /// A check has come to something else: false where that is not heard now. Nothing
    /// waits.
    #[must_use]
    pub fn checked(&self, finding: Finding) -> bool {
        self.0.try_send(Call::Checked(finding)).is_ok()
    }

    /// Takes a step of probing the other boards; `None` when the loop has ended.
    pub async fn probe(&self, step: Step) -> Option<Result<BTreeMap<NodeId, Probed>, String>> {
        self.ask(|reply| Call::Probe(step, reply)).await
    }

    /// Has this board forget its group; `None` when the loop has ended before.
    pub async fn forget(&self) -> Option<()> {
        self.ask(Call::Forget).await
    }
}
