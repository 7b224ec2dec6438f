//! One simulated board: a disk, and, while it has power, the real node over the
//! real journal and database.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    path::PathBuf,
    rc::Rc,
};

use rusqlite::{Connection, OpenFlags};
use understudy::{
    identity::Identity,
    store::{
        database::{Database, Desk, Job, Options, Scrubbing},
        journal::{self, Journal, JournalError, Persist},
        restore,
    },
};
use understudy_core::{
    duty::Incarnation,
    event::{Effect, Entry, EntryKind, Event, HardState, Millis, NodeId},
    limits::{DATABASE_EFFECTS_MAX, JOURNAL_EFFECTS_MAX, VOTERS_DEFAULT},
    member::{Member, MembershipChange},
    node::{Config, Effects, Node},
    retention::Kept,
    sql,
    timing::Timing,
};

use super::{
    lateness::Lateness,
    readings::INTAKE,
    vfs::{self, Card, Disk},
    witnesses::{KEPT, Pair, WITNESS},
};

thread_local! {
    static NOW: Cell<u64> = const { Cell::new(0) };
}

/// Virtual time, for code that asks a clock.
pub(crate) fn now() -> Millis {
    Millis(NOW.get())
}

pub(crate) fn set_now(now: Millis) {
    NOW.set(now.0);
}

/// Boards of a group, and of a large one.
pub(crate) const BOARDS: u64 = 3;
pub(crate) const BOARDS_LARGE: u64 = 12;

/// Between two comparisons of all boards.
pub(crate) const SCRUB_INTERVAL_MS: u64 = 4_000;

/// A silent voter is replaced after this.
const REPLACE_AFTER_MS: u64 = 8_000;

/// From when a board was found wrong until it takes another's rows.
pub(crate) const REPAIR_AFTER_MS: u64 = 1_500;

/// Datagrams a socket holds for a process that stands still.
const HELD_MAX: usize = 100;

/// No write reads what this changes.
const DIVERGE: &str = "UPDATE t SET r = 'changed' WHERE id = (SELECT max(id) FROM t)";

/// With or without power.
pub(crate) struct Board {
    pub(crate) id: NodeId,
    pub(crate) disk: Rc<RefCell<Disk>>,
    pub(crate) process: Option<Process>,
    /// Counts the processes it has had: what an earlier one waits for is void.
    pub(crate) epoch: u64,
    /// The start that its process is, or was last.
    pub(crate) incarnation: Option<Incarnation>,
    /// Its own drift: milliseconds it counts while a thousand pass.
    pub(crate) pace: u64,
    /// Since when it stands still.
    pub(crate) paused_since: Option<u64>,
    pub(crate) lateness: Lateness,
    /// What came while it stood still.
    pub(crate) held: Vec<Event>,
    /// Its card changed a bit, or is an old one.
    pub(crate) is_damaged: bool,
    /// A copy of its card from before.
    pub(crate) kept_card: Option<Card>,
    /// Its card was emptied: it never comes back as this board.
    pub(crate) is_emptied: bool,
    /// Its journal found no room.
    pub(crate) is_full: bool,
    /// A row of its database was changed behind its agent's back.
    pub(crate) is_diverged: bool,
    /// It took the right ones from another since, and is free once a scrub says so.
    pub(crate) is_repaired: bool,
    /// It ended while another's state became its own: it may hold either.
    pub(crate) died_taking: bool,
    /// Since when its agent knows that it is fenced.
    pub(crate) fenced_since: Option<u64>,
    /// How much of its log it keeps.
    pub(crate) kept: Kept,
    /// It is a witness.
    pub(crate) pair: Option<Pair>,
    /// It took its place in the log from another board: what was applied before is not
    /// known to it.
    pub(crate) has_jumped: bool,
    /// The group writes on with one copy.
    pub(crate) one_copy: bool,
    /// Until when no sync of these threads comes to an end, and so nothing they begin.
    pub(crate) stalls_until: [u64; 2],
}

/// What runs while the power is on.
pub(crate) struct Process {
    pub(crate) node: Node,
    pub(crate) journal: Journal,
    pub(crate) database: Database,
    /// What the journal's thread and the database's have still to do, in order.
    pub(crate) waiting: [VecDeque<Effect>; 2],
    pub(crate) busy: [bool; 2],
    /// Times the database was told to have fallen back: see [`Effect::resets`].
    pub(crate) resets: u64,
    /// The database has not seen yet that its role changed.
    pub(crate) role_changed: bool,
    /// What it last said of room for the database.
    pub(crate) told_full: bool,
    /// And of what it holds for good.
    pub(crate) told_durable: u64,
    /// When each read that waits was handed to the database, in order.
    queries: VecDeque<u64>,
    /// And the one that was run last.
    pub(crate) read_at: u64,
    /// Digests to be made, each on a thread of its own.
    pub(crate) digests: VecDeque<Scrubbing>,
    /// Work on pages, on a thread of its own.
    pub(crate) pages: VecDeque<(u64, Job)>,
    pub(crate) desk: Desk,
}

/// The journal's thread and the database's.
pub(crate) const JOURNAL: usize = 0;
pub(crate) const DATABASE: usize = 1;

/// What their queues hold in the program, which ends when they overflow.
const WAITING_MAX: [usize; 2] = [JOURNAL_EFFECTS_MAX, DATABASE_EFFECTS_MAX];

impl Process {
    /// Puts work in a thread's queue.
    pub(crate) fn put(&mut self, now: u64, thread: usize, effect: Effect) {
        if matches!(effect, Effect::Query { .. }) {
            self.queries.push_back(now);
        }
        self.waiting[thread].push_back(effect);
        let waiting = self.waiting[thread].len();
        assert!(waiting <= WAITING_MAX[thread], "{waiting} effects wait for thread {thread}");
    }

    /// The next piece of work, out of a thread's queue.
    pub(crate) fn take(&mut self, thread: usize) -> Option<Effect> {
        let effect = self.waiting[thread].pop_front()?;
        if matches!(effect, Effect::Query { .. }) {
            self.read_at = self.queries.pop_front().expect("it was put there with it");
        }
        Some(effect)
    }

    /// Writes every persist that waits, as the journal's thread does; nothing is
    /// taken from the queue when the disk is full.
    pub(crate) fn persist(&mut self) -> Result<Event, JournalError> {
        let waiting = &mut self.waiting[JOURNAL];
        let mut batch = Vec::new();
        let mut last = 0;
        for effect in waiting.iter() {
            let Effect::Persist { number, entries, hard_state, memories, trust, cut, spool } =
                effect
            else {
                break;
            };
            last = *number;
            let (entries, memories) = (entries.clone(), memories.clone());
            batch.push(Persist {
                entries,
                hard_state: *hard_state,
                memories,
                trust: trust.clone(),
                cut: *cut,
                spool: spool.clone(),
            });
        }
        self.journal.write(&batch)?;
        waiting.drain(..batch.len());
        let end = batch.iter().rev().find_map(|persist| Some(persist.entries.last()?.index));
        if let Some(end) = end {
            self.check_end(end);
        }
        Ok(Event::Persisted { number: last })
    }

    /// What was replaced is gone, however far it went.
    fn check_end(&mut self, end: u64) {
        let behind = self.journal.read(end + 1, end + 2, 1);
        assert!(!behind.is_ok_and(|entries| !entries.is_empty()), "the log does not end at {end}");
    }
}

impl Board {
    pub(crate) fn new(id: NodeId, seed: u64, pace: u64, kept: Kept) -> Self {
        let disk = vfs::make(id, seed);
        Self {
            id,
            disk,
            process: None,
            epoch: 0,
            incarnation: None,
            pace,
            paused_since: None,
            lateness: Lateness::default(),
            held: Vec::new(),
            is_full: false,
            is_damaged: false,
            kept_card: None,
            is_emptied: false,
            is_diverged: false,
            is_repaired: false,
            died_taking: false,
            fenced_since: None,
            kept,
            pair: None,
            has_jumped: false,
            one_copy: false,
            stalls_until: [0; 2],
        }
    }

    fn directory(&self) -> PathBuf {
        PathBuf::from(format!("/{}", self.id))
    }

    /// This board's own time.
    pub(crate) const fn time(&self, now: u64) -> Millis {
        Millis(now * self.pace / 1_000)
    }

    fn journal(&self) -> Result<Journal, String> {
        let wal = self.disk.borrow().bytes("journal.db-wal");
        let options = journal::Options { vfs: Some(vfs::NAME.into()), wal: Some(wal) };
        Journal::open(&self.directory(), &options).map_err(|error| error.to_string())
    }

    /// A process that stands still misses ticks and what its socket cannot hold.
    pub(crate) fn hold(&mut self, event: Event) {
        let fits = self.held.len() < HELD_MAX || !matches!(event, Event::Received { .. });
        if fits && !matches!(event, Event::Tick) {
            self.held.push(event);
        }
    }

    /// Makes it a founding member of a group of so many boards, of which some vote.
    pub(crate) fn found(&self, boards: u64, with_witness: bool) -> Result<(), String> {
        let mut journal = self.journal()?;
        journal.set_witness(self.is_witness()).map_err(|error| error.to_string())?;
        let member = |id| Member {
            id,
            name: format!("board-{id}"),
            key: [u8::try_from(id).unwrap_or(0); 32],
            addresses: Vec::new(),
            voter: id <= VOTERS_DEFAULT as u64,
        };
        let come = |id| match id == WITNESS && with_witness {
            true => MembershipChange::Witness(member(id), [0; 16]),
            false => MembershipChange::Add(member(id)),
        };
        let (term, kind) = (1, EntryKind::Membership);
        let entries = (1..=boards)
            .map(|id| Entry { index: id, term, kind, data: sql::encode(&come(id)) })
            .collect();
        let hard_state = HardState { term: 1, vote: 0, commit: boards };
        let persist = Persist { entries, hard_state, ..Persist::default() };
        journal.found(&self.identity(), &persist).map_err(|error| error.to_string())
    }

    /// Makes it a board that was let in, and has nothing else yet.
    pub(crate) fn join(&self) -> Result<(), String> {
        let mut journal = self.journal()?;
        journal.set_witness(self.is_witness()).map_err(|error| error.to_string())?;
        let found = journal.found(&self.identity(), &Persist::default());
        found.map_err(|error| error.to_string())
    }

    fn identity(&self) -> Identity {
        Identity {
            group: [1; 16],
            group_name: String::from("sim"),
            group_keys: vec![understudy::identity::GroupKey { number: 0, key: [2; 32] }],
            node: self.id,
            private_key: [3; 32],
            disk: [4; 16],
            acquaintances: Vec::new(),
        }
    }

    /// Starts a process from what the disk holds.
    pub(crate) fn start(&mut self, now: u64, seed: u64) -> Result<Effects, String> {
        let mut journal = self.journal()?;
        let witness = journal.is_witness();
        let options = Options {
            vfs: Some(vfs::NAME.into()),
            clock: self::now,
            stopwatch: || self::now().0 * 1_000_000,
            commit_interval_ms: 5_000,
            commit_bytes: if witness { 1 << 10 } else { 64 << 10 },
            wal_bytes: if witness { 1 << 10 } else { 32 << 10 },
            witness,
            ..Options::default()
        };
        let directory = self.directory();
        let mut database =
            Database::open(&directory, options).map_err(|error| error.to_string())?;
        let restored = restore::restore(&directory, &mut journal, &mut database)
            .map_err(|error| error.to_string())?;
        let (boot, nonce, timing) = (journal.boot(), self.epoch, Timing::WIRED);
        self.incarnation = Some(Incarnation { board: self.id, boot, nonce });
        let config = Config { id: self.id, seed, boot, nonce, timing, witness };
        let (mut node, effects) = Node::new(self.time(now), config, restored);
        node.set_scrub_interval(SCRUB_INTERVAL_MS);
        node.set_kept(if witness { KEPT } else { self.kept });
        node.set_replace_after(REPLACE_AFTER_MS);
        node.set_repair_after(REPAIR_AFTER_MS);
        node.set_one_copy(self.one_copy);
        node.set_intake(INTAKE);
        if !witness {
            node.set_settings(vec![(String::from("profile"), String::from("wired"))]);
        }
        if let Some(pair) = self.pair {
            node.set_witness_log(pair.log_bytes);
        }
        self.epoch += 1;
        self.paused_since = None;
        self.held.clear();
        self.is_full = false;
        self.fenced_since = None;
        self.process = Some(Process {
            node,
            journal,
            database,
            waiting: Default::default(),
            busy: [false; 2],
            resets: 0,
            role_changed: false,
            told_full: false,
            told_durable: 0,
            queries: VecDeque::new(),
            read_at: 0,
            digests: VecDeque::new(),
            pages: VecDeque::new(),
            desk: Desk::default(),
        });
        Ok(effects)
    }

    /// Changes a row that is there while no process of its agent is, and the power on.
    pub(crate) fn diverge(&mut self) {
        self.disk.borrow_mut().spare();
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let path = self.directory().join("state.db");
        let changed = Connection::open_with_flags_and_vfs(path, flags, vfs::NAME)
            .and_then(|plain| plain.execute(DIVERGE, []));
        self.is_diverged |= changed == Ok(1);
    }

    /// The power goes; the process with it.
    pub(crate) fn cut_power(&mut self) {
        self.disk.borrow_mut().cut_power();
        self.end();
    }

    /// The process ends; what the system holds of its files stays.
    pub(crate) fn end(&mut self) {
        self.process = None;
        self.epoch += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn persist(index: u64, bytes: usize) -> Persist {
        let kind = EntryKind::Change;
        let entries = vec![Entry { index, term: 1, kind, data: vec![7; bytes] }];
        let hard_state = HardState { term: 1, vote: 0, commit: 3 };
        Persist { entries, hard_state, ..Persist::default() }
    }

    /// Frames of a torn end must never stand behind later ones, where they would
    /// look like damage: nothing is written before the WAL could begin anew.
    #[test]
    fn a_torn_journal_is_not_written_on_while_the_disk_has_no_room() {
        let mut torn = 0;
        for calls in 1..30 {
            let board = Board::new(1, calls, 1_000, Kept::default());
            board.found(BOARDS, false).unwrap();
            let mut journal = board.journal().unwrap();
            for index in 4..40 {
                journal.write(&[persist(index, 100)]).unwrap();
            }
            board.disk.borrow_mut().crash_after(calls);
            let _ = journal.write(&[persist(40, 8_000)]);
            board.disk.borrow_mut().cut_power();
            drop(journal);
            board.disk.borrow_mut().power_on();
            let found = board.disk.borrow().bytes("journal.db-wal");
            board.disk.borrow_mut().set_room(Some(0));
            let error = board.journal().err();
            let left = board.disk.borrow().bytes("journal.db-wal");
            assert!(error.is_some() && found == left, "{calls}: {error:?}");
            board.disk.borrow_mut().set_room(None);
            let journal = board.journal().unwrap();
            assert!(!journal.suspect(), "{calls}");
            torn += u32::from(journal.last_index() == 39);
        }
        assert!(torn > 0, "not one write was torn");
    }
}
