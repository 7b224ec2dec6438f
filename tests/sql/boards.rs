//! Boards without a network: real databases and a real journal. One executes,
//! all apply; one of them loses its process before every entry and comes back
//! from its file, which is older, and the journal.

use understudy::store::{
    database::{Database, Failure, Options, QueryOutcome, Reader},
    journal::{self, Journal, Persist},
};
use understudy_core::{
    error::Refusal,
    event::{Entry, EntryKind, HardState, Outcome},
    limits::APPLY_BYTES_MAX,
    sql::{self, SqlResponse, StatementOutcome},
};

/// This one restarts before every entry.
const RESTARTS: usize = 3;

/// A response, or why there is none.
pub(crate) type Answer = Result<SqlResponse, Refusal>;

/// Who leads, and when it changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leaders {
    /// The first board all the time.
    Steady,
    /// Another board for every batch.
    Rotating,
}

/// See the module's description.
pub(crate) struct Boards {
    databases: Vec<Database>,
    readers: Vec<Reader>,
    directories: Vec<tempfile::TempDir>,
    journal: Journal,
    leaders: Leaders,
    leader: usize,
    term: u64,
    last_index: u64,
}

fn open(directory: &tempfile::TempDir) -> Database {
    let options = Options { clock: || understudy::driver::clock::now(), ..Options::default() };
    Database::open(directory.path(), options).expect("a database")
}

impl Boards {
    pub(crate) fn new(leaders: Leaders) -> Result<Self, String> {
        let directories: Vec<_> =
            (0..=RESTARTS + 1).map(|_| tempfile::tempdir().expect("a directory")).collect();
        let databases: Vec<_> = directories[..=RESTARTS].iter().map(open).collect();
        let readers = databases.iter().map(|database| database.reader().expect("a reader"));
        let readers = readers.collect();
        let journal = Journal::open(directories[RESTARTS + 1].path(), &journal::Options::default())
            .map_err(|error| error.to_string())?;
        let mut boards = Self {
            readers,
            databases,
            directories,
            journal,
            leaders,
            leader: 0,
            term: 1,
            last_index: 0,
        };
        boards.commit(Vec::new())?;
        Ok(boards)
    }

    /// Executes on the leader, again after a lost transaction as a node does,
    /// until every request has its answer; every entry is applied by all.
    pub(crate) fn requests(&mut self, requests: &[Vec<u8>]) -> Result<Vec<Answer>, String> {
        if self.leaders == Leaders::Rotating {
            self.change_leader()?;
        }
        let mut answers: Vec<Option<Answer>> = requests.iter().map(|_| None).collect();
        let mut turns = 0;
        while answers.iter().any(Option::is_none) {
            turns += 1;
            if turns > 20 {
                return Err(String::from("some request is never answered"));
            }
            let open: Vec<usize> =
                (0..requests.len()).filter(|at| answers[*at].is_none()).collect();
            let batch: Vec<Vec<u8>> = open.iter().map(|at| requests[*at].clone()).collect();
            let leader = &mut self.databases[self.leader];
            match leader.execute(leader.applied(), &batch) {
                Ok(executed) => {
                    for (at, answer) in open.iter().zip(executed.answers) {
                        answers[*at] = Some(answer.map(|answer| decoded(&answer)));
                    }
                    self.commit(executed.change)?;
                }
                Err(Failure::Reset { ended_by, .. }) => {
                    if let Some((place, answer)) = ended_by {
                        let at = open[usize::try_from(place).expect("small")];
                        answers[at] = Some(Ok(decoded(&answer)));
                    }
                    self.replay(self.leader)?;
                }
                Err(Failure::Halt(reason)) => return Err(format!("the leader halts: {reason}")),
            }
        }
        Ok(answers.into_iter().flatten().collect())
    }

    fn change_leader(&mut self) -> Result<(), String> {
        let former = self.leader;
        self.leader = (former + 1) % self.databases.len();
        self.term += 1;
        for board in [former, self.leader] {
            match self.databases[board].role_changed() {
                Ok(()) => {}
                Err(Failure::Reset { .. }) => self.replay(board)?,
                Err(Failure::Halt(reason)) => return Err(reason),
            }
        }
        self.commit(Vec::new())
    }

    /// One entry: journalled, then applied by every board.
    fn commit(&mut self, data: Vec<u8>) -> Result<(), String> {
        self.last_index += 1;
        let entry =
            Entry { index: self.last_index, term: self.term, kind: EntryKind::Change, data };
        let persist = Persist {
            entries: vec![entry.clone()],
            hard_state: HardState { term: self.term, vote: 0, commit: self.last_index },
            ..Persist::default()
        };
        self.journal.write(&[persist]).map_err(|error| format!("{error:?}"))?;
        for board in 0..RESTARTS {
            match self.databases[board].apply(std::slice::from_ref(&entry)) {
                Ok(outcomes) if outcomes == [Outcome::Changed] => {}
                Ok(outcomes) => return Err(format!("board {board}: {outcomes:?}")),
                Err(failure) => return Err(format!("board {board}: {failure:?}")),
            }
        }
        // Boards commit at points of their own.
        if self.last_index.is_multiple_of(3) {
            self.databases[1].checkpoint().map_err(|failure| format!("{failure:?}"))?;
        }
        self.restart()?;
        self.compare()
    }

    /// The process of one board ends; its file is older than what it had applied.
    fn restart(&mut self) -> Result<(), String> {
        if self.last_index.is_multiple_of(4) {
            self.databases[RESTARTS].commit().map_err(|failure| format!("{failure:?}"))?;
        }
        let again = open(&self.directories[RESTARTS]);
        self.databases[RESTARTS] = again;
        self.replay(RESTARTS)
    }

    /// What a board has not applied comes from the journal.
    fn replay(&mut self, board: usize) -> Result<(), String> {
        bring_forward(&mut self.journal, &mut self.databases[board], self.last_index)
            .map_err(|reason| format!("board {board}, from the journal: {reason}"))
    }

    fn compare(&mut self) -> Result<(), String> {
        let digests: Vec<_> = self.databases.iter_mut().map(digests).collect();
        match digests.iter().find(|digest| **digest != digests[0]) {
            Some(_) => Err(format!("boards differ after entry {}: {digests:?}", self.last_index)),
            None => Ok(()),
        }
    }

    /// A read on every board, each in two ways; all must come to the same.
    pub(crate) fn query(&mut self, request: &[u8]) -> Result<SqlResponse, String> {
        let mut answers = Vec::new();
        for (database, reader) in self.databases.iter_mut().zip(&self.readers) {
            let here = match database.query(request).map_err(|failure| format!("{failure:?}"))? {
                QueryOutcome::Answered(answer) => Some(answer),
                QueryOutcome::NeedsReader => None,
            };
            if here.is_none() {
                database.commit().map_err(|failure| format!("{failure:?}"))?;
            }
            answers.push(timeless(&here.unwrap_or_else(|| reader.query(request))));
        }
        match answers.iter().find(|answer| **answer != answers[0]) {
            Some(other) => Err(format!("boards answer {:?} and {other:?}", answers[0])),
            None => Ok(answers.remove(0)),
        }
    }

    /// Every file passes SQLite's own check, indexes and full-text ones included,
    /// and a board that begins with nothing comes to the same by the journal.
    pub(crate) fn check(mut self) -> Result<(), String> {
        let fresh = &self.directories[RESTARTS + 1];
        let mut last = open(fresh);
        bring_forward(&mut self.journal, &mut last, self.last_index)?;
        self.databases.push(last);
        self.compare()?;
        for database in &mut self.databases {
            database.commit().map_err(|failure| format!("{failure:?}"))?;
        }
        for directory in &self.directories {
            let file = rusqlite::Connection::open(directory.path().join("state.db"));
            let word: Result<String, _> = file
                .and_then(|file| file.query_row("PRAGMA integrity_check", [], |row| row.get(0)));
            if word.as_deref() != Ok("ok") {
                return Err(format!("{}: {word:?}", directory.path().display()));
            }
        }
        Ok(())
    }
}

fn bring_forward(
    journal: &mut Journal,
    database: &mut Database,
    last_index: u64,
) -> Result<(), String> {
    while database.applied().index < last_index {
        let low = database.applied().index + 1;
        let entries = journal.read(low, last_index + 1, APPLY_BYTES_MAX);
        let entries = entries.map_err(|error| format!("{error:?}"))?;
        let outcomes = database.apply(&entries).map_err(|failure| format!("{failure:?}"))?;
        if outcomes.iter().any(|outcome| *outcome != Outcome::Changed) {
            return Err(format!("from entry {low} on: {outcomes:?}"));
        }
    }
    Ok(())
}

fn digests(database: &mut Database) -> Result<(u64, u64), Failure> {
    Ok((database.content_digest()?, database.page_digest()?))
}

fn decoded(answer: &[u8]) -> SqlResponse {
    sql::decode(answer).expect("an answer")
}

fn timeless(answer: &[u8]) -> SqlResponse {
    let mut answer = decoded(answer);
    for result in &mut answer.results {
        result.time_ns = 0;
    }
    answer
}

/// The rows of a response to one statement.
pub(crate) fn rows(response: SqlResponse) -> Vec<Vec<sql::Value>> {
    match response.results.into_iter().next_back().map(|result| result.outcome) {
        Some(StatementOutcome::Rows { rows, .. }) => rows,
        Some(StatementOutcome::Changed { .. } | StatementOutcome::Error(_)) | None => Vec::new(),
    }
}
