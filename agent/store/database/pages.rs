//! Work on pages: a state kept for others, and another's state pulled. It goes on
//! beside everything else, on a thread of its own; what touches the open transaction
//! is done here first, in its place among what the database does.
//!
//! A kept state keeps the WAL from beginning anew. When that has grown by half of what
//! it may grow to, the state is given up: whoever pulled it goes on against a newer one.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use rusqlite::Connection;
use understudy_core::{
    event::Position,
    limits::{PAGE_BYTES, PAGE_HASH_BYTES},
    pages::{Answer, Done, Summary, Wish, Work},
};

use super::{
    Database, Failure, Options,
    aside::Aside,
    pull::Puller,
    read::read_from_now,
    text::words,
    tree::{self, Tree, children, cut, page_hash},
};

/// A state that is kept, or about to be; shared by the database, which may end it,
/// and whoever answers from it.
#[derive(Default)]
struct Hold {
    is_over: AtomicBool,
    state: Mutex<Option<State>>,
}

struct State {
    connection: Connection,
    tree: Tree,
    summary: Summary,
}

impl Hold {
    fn state(&self) -> MutexGuard<'_, Option<State>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends it now, or, while it is being answered from, right after.
    fn end(&self) {
        self.is_over.store(true, Relaxed);
        if let Ok(mut state) = self.state.try_lock() {
            state.take();
        }
    }
}

/// The kept state as the database sees it.
#[derive(Default)]
pub(super) struct Holding {
    hold: Option<Arc<Hold>>,
    /// Committed since, bytes: the WAL has grown by them.
    grown: u64,
}

impl Holding {
    /// So much more was committed.
    pub(super) const fn grew(&mut self, bytes: u64) {
        self.grown += bytes;
    }
}

/// Work on pages, as far as the database had to do with it.
pub struct Job(Inner);

enum Inner {
    Keep {
        session: u64,
        position: Position,
        hold: Arc<Hold>,
        connection: Connection,
    },
    Compare {
        own: Connection,
        database: PathBuf,
        vfs: Option<String>,
        work: (Summary, u32, usize),
    },
    Serve(Wish),
    Release,
    Take(Wish, Answer, usize),
    Drop(bool),
    /// It has ended already.
    Done(Done),
}

impl Database {
    /// Does of this work what the database has to do with; the rest is a [`Desk`]'s.
    ///
    /// # Errors
    /// As [`Database::commit`].
    pub fn pages(&mut self, work: Work) -> Result<Job, Failure> {
        let inner = match work {
            Work::Keep { session } => self.keep(session)?,
            Work::Compare { summary, salt, room } => self.compare((summary, salt, room))?,
            Work::Install { summary } => Inner::Done(self.install(&summary)?),
            Work::Stand { position, membership } => Inner::Done(self.stand(position, *membership)?),
            Work::Settings { settings } => {
                self.put_settings(&settings)?;
                Inner::Done(Done::Put)
            }
            Work::Serve { wish } => Inner::Serve(wish),
            Work::Release => {
                self.holding.hold = None;
                Inner::Release
            }
            Work::Take { wish, answer, room } => Inner::Take(wish, answer, room),
            Work::Drop { keeps } => Inner::Drop(keeps),
        };
        Ok(Job(inner))
    }

    fn keep(&mut self, session: u64) -> Result<Inner, Failure> {
        if self.is_full() {
            return Ok(Inner::Done(Done::Kept(None)));
        }
        self.commit()?;
        let Ok(connection) = read_pages(&self.path, &self.options) else {
            return Ok(Inner::Done(Done::Kept(None)));
        };
        let hold = Arc::new(Hold::default());
        self.holding = Holding { hold: Some(Arc::clone(&hold)), grown: 0 };
        Ok(Inner::Keep { session, position: self.applied(), hold, connection })
    }

    fn compare(&mut self, work: (Summary, u32, usize)) -> Result<Inner, Failure> {
        self.commit()?;
        let (database, vfs) = (self.path.clone(), self.options.vfs.clone());
        Ok(match read_pages(&self.path, &self.options) {
            Ok(own) => Inner::Compare { own, database, vfs, work },
            Err(error) => Inner::Done(Done::Failed(words(&error))),
        })
    }

    /// Gives up a state that keeps the WAL from beginning anew for too long.
    pub(super) fn bound_holding(&mut self) {
        let holding = &mut self.holding;
        if holding.grown + self.open_bytes >= self.options.wal_bytes_max / 2
            && let Some(hold) = holding.hold.take()
        {
            hold.end();
        }
    }
}

/// What is committed now, page by page: the cache would only hold each once more.
fn read_pages(path: &std::path::Path, options: &Options) -> rusqlite::Result<Connection> {
    let connection = read_from_now(path, options)?;
    connection.execute_batch("PRAGMA cache_size = -256")?;
    Ok(connection)
}

/// Whoever does work on pages, in order, on a thread that has time for it.
#[derive(Default)]
pub struct Desk {
    hold: Option<Arc<Hold>>,
    puller: Option<Puller>,
}

impl Desk {
    /// Does it; how it ended, where that is to be told.
    pub fn carry_out(&mut self, job: Job) -> Option<Done> {
        match job.0 {
            Inner::Keep { session, position, hold, connection } => {
                self.hold = Some(Arc::clone(&hold));
                let summary = keep(&hold, session, position, connection);
                Some(Done::Kept(summary.ok().flatten()))
            }
            Inner::Serve(wish) => Some(Done::Served(self.serve(&wish).unwrap_or(Answer::Gone))),
            Inner::Release => {
                self.hold = None;
                None
            }
            Inner::Compare { own, database, vfs, work } => {
                self.puller = None;
                Some(self.compare(own, (&database, vfs.as_deref()), work))
            }
            Inner::Take(wish, answer, room) => Some(self.take(&wish, &answer, room)),
            Inner::Drop(keeps) => {
                if let Some(puller) = self.puller.take().filter(|_| !keeps) {
                    puller.forget();
                }
                None
            }
            Inner::Done(done) => Some(done),
        }
    }

    /// None where it is kept no longer, or was never.
    fn serve(&mut self, wish: &Wish) -> Option<Answer> {
        let hold = self.hold.as_ref()?;
        let mut state = hold.state();
        let answer = state.as_ref().and_then(|state| state.serve(wish).ok().flatten());
        if hold.is_over.load(Relaxed) {
            state.take();
        }
        answer
    }

    fn compare(
        &mut self,
        own: Connection,
        (database, vfs): (&std::path::Path, Option<&str>),
        (summary, salt, room): (Summary, u32, usize),
    ) -> Done {
        let aside = Aside::open(database, vfs).map_err(|error| words(&error));
        match aside.and_then(|aside| Puller::new(own, aside, summary, salt)) {
            Ok(puller) => self.puller.insert(puller).next(room),
            Err(reason) => {
                Aside::clear_file(database, vfs);
                Done::Failed(reason)
            }
        }
    }

    fn take(&mut self, wish: &Wish, answer: &Answer, room: usize) -> Done {
        let Some(puller) = &mut self.puller else {
            return Done::Failed(String::from("nothing is being pulled"));
        };
        match puller.take(wish, answer) {
            Ok(()) => puller.next(room),
            Err(reason) => {
                puller.forget();
                self.puller = None;
                Done::Failed(reason)
            }
        }
    }
}

fn keep(
    hold: &Hold,
    session: u64,
    position: Position,
    connection: Connection,
) -> rusqlite::Result<Option<Summary>> {
    let mut state = hold.state();
    let pages = tree::page_count(&connection)?;
    let hash_of = |number| tree::page(&connection, number).map(|p| Some(page_hash(number, &p)));
    let Some(tree) = Tree::build(pages, &hold.is_over, hash_of)? else { return Ok(None) };
    let summary = Summary { session, position, pages, root: tree.root() };
    *state = Some(State { connection, tree, summary });
    Ok(Some(summary))
}

impl State {
    fn serve(&self, wish: &Wish) -> rusqlite::Result<Option<Answer>> {
        let Ok(asked) = wish.numbers() else { return Ok(None) };
        if wish.session() != Some(self.summary.session) {
            return Ok(None);
        }
        match wish {
            Wish::Hashes { salt, level, .. } => self.hashes(*level, &asked, *salt).map(Some),
            Wish::Pages { .. } => self.pages(&asked).map(Some),
            Wish::Open { .. } | Wish::Close { .. } | Wish::Outline { .. } => Ok(None),
        }
    }

    fn hashes(&self, level: u8, asked: &[u32], salt: u32) -> rusqlite::Result<Answer> {
        let below = asked.iter().flat_map(|node| children(self.summary.pages, level, *node));
        let mut hashes = Vec::with_capacity(asked.len() * PAGE_HASH_BYTES);
        for node in below {
            let hash = match level {
                1 => page_hash(node, &tree::page(&self.connection, node)?),
                _ => self.tree.node(level - 1, node),
            };
            hashes.extend(cut(hash, salt).to_le_bytes());
        }
        Ok(Answer::Hashes(hashes))
    }

    /// A page that is not there ends the answer, which its asker does not take.
    fn pages(&self, asked: &[u32]) -> rusqlite::Result<Answer> {
        let mut pages = Vec::with_capacity(asked.len() * PAGE_BYTES);
        for number in asked.iter().take_while(|number| **number < self.summary.pages) {
            pages.extend(tree::page(&self.connection, *number)?);
        }
        Ok(Answer::Pages(pages))
    }
}
