//! Content from elsewhere for the group: a SQLite file, or SQL text.
//!
//! A file takes the place of all that users keep: it is put down in this board's
//! directory, looked through, and goes to the group row by row, by writes like any
//! other, before one last entry puts it in its place (see the database's `load`). SQL
//! text is executed on what is there; where nothing is there, or all of it is to give
//! way, it makes a file first, which goes the same way: then it may be of any size.
//!
//! Bounds: one load at a time, a few pieces of memory, a file that leaves room on the
//! disk. Whatever comes between, nothing has changed until it is done; a leader that
//! goes away in the middle costs a few writes made twice.

use std::{
    io::{BufRead, Read, Write},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use understudy_core::sql::{Origin, RequestKind, SqlRequest, SqlResponse, Statement, Value};

use self::{intake::Content, script::Statements, writer::Writer};
use crate::{
    call::{Caller, Piece},
    store::{
        database::{
            STACK_BYTES,
            load::Step,
            source::{MAGIC, Part, Source},
        },
        scratch::{Scratch, check_room},
    },
};

mod build;
mod execute;
mod intake;
mod script;
mod writer;

/// Pieces that wait to be worked on.
const PIECES_AHEAD_MAX: usize = 4;

/// Values put by one statement, about.
const STATEMENT_VALUES: usize = 400;

/// Rows sent in one request, bytes, about: a small part of an entry.
const REQUEST_BYTES: usize = 512 << 10;

/// Bytes put down between two looks at the room on the disk.
const LOOK_BYTES: u64 = 1 << 20;

/// What is taken, and what becomes of the content that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// A file takes its place; text is executed on it.
    FileOrText,
    /// It gives way, also to what text makes.
    Replacement,
    /// A file takes its place, text is refused.
    File,
}

/// What came of it.
#[derive(Debug)]
pub enum Loaded {
    /// It is in the place of what was there.
    Replaced,
    /// The last statement's result.
    Executed(SqlResponse),
}

/// Why nothing came of it.
#[derive(Debug, PartialEq, Eq)]
pub enum Failed {
    /// Of a statement that was handed over.
    Statement(String),
    /// Of a file that was handed over.
    Content(String),
    /// Of the group, or of this board.
    Group(String),
}

/// A load under way.
pub struct Upload {
    /// Takes the pieces; closed when no more are wanted.
    pub pieces: mpsc::Sender<Piece>,
    /// How it ends.
    pub ended: oneshot::Receiver<Result<Loaded, Failed>>,
}

/// Loads for the group, on this board.
#[derive(Clone)]
pub struct Loader {
    caller: Caller,
    directory: PathBuf,
    place: Arc<Semaphore>,
}

impl Loader {
    /// Puts down what it must in this directory.
    #[must_use]
    pub fn new(caller: Caller, directory: PathBuf) -> Self {
        Self { caller, directory, place: Arc::new(Semaphore::new(1)) }
    }

    /// Begins to load.
    ///
    /// # Errors
    /// Why it cannot now.
    pub fn begin(&self, wanted: Wanted) -> Result<Upload, String> {
        let place = Arc::clone(&self.place).try_acquire_owned();
        let place = place.map_err(|_| String::from("another load is under way: try again"))?;
        let (pieces, waiting) = mpsc::channel(PIECES_AHEAD_MAX);
        let (end, ended) = oneshot::channel();
        let load = Load {
            writer: Writer::new(self.caller.clone()),
            directory: self.directory.clone(),
            wanted,
            _place: place,
        };
        let run = move || {
            let ended = load.run(waiting);
            // Whoever handed it over may have gone away.
            let _ = end.send(ended);
        };
        let named = thread::Builder::new().name(String::from("load")).stack_size(STACK_BYTES);
        named.spawn(run).map_err(|error| format!("no thread could be started: {error}"))?;
        Ok(Upload { pieces, ended })
    }
}

struct Load {
    writer: Writer,
    directory: PathBuf,
    wanted: Wanted,
    _place: OwnedSemaphorePermit,
}

impl Load {
    fn run(&self, pieces: mpsc::Receiver<Piece>) -> Result<Loaded, Failed> {
        let broken = |error: std::io::Error| Failed::Content(error.to_string());
        let content = Content::of(pieces).map_err(broken)?;
        if content.start.is_empty() {
            return Err(Failed::Content(String::from("nothing was handed over")));
        }
        if content.start == MAGIC {
            let scratch = self.put_down(content.all())?;
            return self.replace(scratch.path(), false);
        }
        let only_if_empty = self.wanted != Wanted::Replacement;
        match self.wanted {
            Wanted::File => {
                Err(Failed::Content(String::from("it does not begin as a SQLite file does")))
            }
            Wanted::FileOrText if !self.writer.is_empty()? => {
                execute::all(&self.writer, Statements::new(content.all()))
            }
            Wanted::FileOrText | Wanted::Replacement => {
                let scratch = Scratch::new(&self.directory, "load").map_err(Failed::Group)?;
                build::database(scratch.path(), &self.directory, content.all())?;
                self.replace(scratch.path(), only_if_empty)
            }
        }
    }

    fn put_down(&self, mut content: impl BufRead) -> Result<Scratch, Failed> {
        let scratch = Scratch::new(&self.directory, "load").map_err(Failed::Group)?;
        let at =
            |error: std::io::Error| Failed::Group(format!("{}: {error}", scratch.path().display()));
        let mut file = std::fs::File::options().write(true).open(scratch.path()).map_err(at)?;
        loop {
            check_room(&self.directory, LOOK_BYTES).map_err(Failed::Group)?;
            let mut piece = Vec::new();
            let read = (&mut content).take(LOOK_BYTES).read_to_end(&mut piece);
            read.map_err(|error| Failed::Content(error.to_string()))?;
            if piece.is_empty() {
                return Ok(scratch);
            }
            file.write_all(&piece).map_err(at)?;
        }
    }

    /// The content of the file takes the place of what is there.
    fn replace(&self, path: &Path, only_if_empty: bool) -> Result<Loaded, Failed> {
        let mut id = [0; 8];
        getrandom::fill(&mut id).map_err(|error| Failed::Group(error.to_string()))?;
        let id = format!("{:016x}", u64::from_le_bytes(id));
        let source = Source::open(path, &id).map_err(Failed::Content)?;
        let bytes = path.metadata().map_or(0, |file| file.len());
        // Its rows, and the entries that bring them.
        check_room(&self.directory, 2 * bytes).map_err(Failed::Group)?;
        let staged = self.stage(&source, only_if_empty);
        if staged.is_err() {
            // What this leaves is dropped by the next load at the latest.
            let _ = self.writer.write_once(&source.step(&Step::Abandon));
        }
        staged.map(|()| Loaded::Replaced)
    }

    fn stage(&self, source: &Source, only_if_empty: bool) -> Result<(), Failed> {
        self.writer.write(&source.step(&Step::Begin))?;
        self.writer.write(&source.step(&source.make()))?;
        for part in source.tables() {
            let mut rows = Rows::new(&self.writer, part);
            let mut failed = None;
            let read = source.rows(part, |row| {
                rows.put(row).map_err(|why| {
                    failed = Some(why);
                    String::new()
                })
            });
            match (read, failed) {
                (_, Some(failed)) => return Err(failed),
                (Err(words), None) => return Err(Failed::Content(words)),
                (Ok(()), None) => rows.finish()?,
            }
        }
        self.writer.write(&source.step(&source.finish(only_if_empty)))?;
        Ok(())
    }
}

/// Rows on their way into one table.
struct Rows<'a> {
    writer: &'a Writer,
    part: &'a Part,
    /// Rows of one statement.
    rows_max: usize,
    full: String,
    statements: Vec<Statement>,
    values: Vec<Value>,
    rows: usize,
    bytes: usize,
}

impl<'a> Rows<'a> {
    fn new(writer: &'a Writer, part: &'a Part) -> Self {
        let rows_max = (STATEMENT_VALUES / part.columns.max(1)).max(1);
        let full = part.insert(rows_max);
        let (statements, values) = (Vec::new(), Vec::new());
        Self { writer, part, rows_max, full, statements, values, rows: 0, bytes: 0 }
    }

    fn put(&mut self, row: Vec<Value>) -> Result<(), Failed> {
        let bytes = row.iter().map(value_bytes).sum::<usize>();
        if self.bytes > 0 && self.bytes + bytes > REQUEST_BYTES {
            self.finish()?;
        }
        self.bytes += bytes;
        self.values.extend(row);
        self.rows += 1;
        if self.rows == self.rows_max {
            self.close();
        }
        Ok(())
    }

    fn close(&mut self) {
        let sql = match self.rows {
            0 => return,
            rows if rows == self.rows_max => self.full.clone(),
            rows => self.part.insert(rows),
        };
        self.bytes += sql.len();
        self.statements.push(Statement::new(sql, std::mem::take(&mut self.values)));
        self.rows = 0;
    }

    fn finish(&mut self) -> Result<(), Failed> {
        self.close();
        self.bytes = 0;
        let statements = std::mem::take(&mut self.statements);
        if statements.is_empty() {
            return Ok(());
        }
        let request = SqlRequest::new(RequestKind::Execute, Origin::Agent, statements);
        let request = SqlRequest { transaction: true, ..request };
        let in_table = |words: String| format!("table {}: {words}", self.part.name);
        self.writer.write(&request).map(drop).map_err(|failed| match failed {
            Failed::Statement(words) | Failed::Content(words) => Failed::Content(in_table(words)),
            Failed::Group(words) => Failed::Group(in_table(words)),
        })
    }
}

const fn value_bytes(value: &Value) -> usize {
    match value {
        Value::Null | Value::Integer(_) | Value::Real(_) => 10,
        Value::Text(bytes) | Value::Blob(bytes) => bytes.len() + 6,
    }
}
