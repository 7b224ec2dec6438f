//! The stream socket: line after line, for as long as the caller likes.
//!
//! By default only what is wrong is said, as `line 3: reason`, as far as the caller
//! takes it. A first line `ack`, or `ack committed`, asks for an answer to each line, in
//! their order: `ok spooled` or `ok committed`, or that reason. Empty lines and comments
//! are not answered. Lines are numbered from 1, the one that asks is none of them.
//!
//! Nothing more is read before what was read is on this board's disk: a caller that is
//! faster waits in its own write. A last line without an end is not taken, since its
//! caller may have died within it.

use std::{io, sync::Arc};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
    sync::Semaphore,
};
use understudy_core::readings::Level;

use super::{
    desk::{Desk, Message, Told},
    limits::{ANSWER, CONNECTIONS_MAX, LINE_BYTES_MAX, REFUSALS_MAX},
};
use crate::driver::socket::{Kept, LOOK};

/// Bytes read at a time.
const PIECE_BYTES: usize = 64 << 10;

/// The name of the socket in its folder.
pub const NAME: &str = "readings.stream.sock";

/// Serves until the runtime ends.
pub async fn serve(mut listener: Kept<UnixListener>, desk: Desk) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let refusals = Arc::new(Semaphore::new(REFUSALS_MAX));
    loop {
        let Ok(stream) = listener.accept().await else {
            // No file descriptor is left: some caller has to go first.
            tokio::time::sleep(LOOK).await;
            continue;
        };
        if let Ok(place) = Arc::clone(&places).try_acquire_owned() {
            let desk = desk.clone();
            tokio::spawn(async move {
                // How a caller goes away is its own affair.
                let _ = Conversation::new(stream, desk).run().await;
                drop(place);
            });
        } else if let Ok(place) = Arc::clone(&refusals).try_acquire_owned() {
            tokio::spawn(async move {
                // Who does not listen is hung up on all the same.
                let _ = tokio::time::timeout(LOOK, refuse(stream)).await;
                drop(place);
            });
        }
    }
}

async fn refuse(mut stream: UnixStream) -> io::Result<()> {
    let reason = format!(
        "refused: {CONNECTIONS_MAX} callers are connected to this socket already, and that is its \
         limit\n"
    );
    stream.write_all(reason.as_bytes()).await
}

/// What a caller wants to hear.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Answers {
    /// Not known before its first line.
    Unknown,
    /// What is wrong.
    Errors,
    /// What becomes of each line, once it has come so far.
    All(Level),
}

struct Conversation {
    stream: UnixStream,
    desk: Desk,
    answers: Answers,
    /// Bytes of no whole line yet.
    rest: Vec<u8>,
    /// The line under way is too long already.
    is_too_long: bool,
    /// The last line's number.
    number: u64,
}

impl Conversation {
    const fn new(stream: UnixStream, desk: Desk) -> Self {
        let answers = Answers::Unknown;
        Self { stream, desk, answers, rest: Vec::new(), is_too_long: false, number: 0 }
    }

    async fn run(mut self) -> io::Result<()> {
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            let count = self.stream.read(&mut piece).await?;
            if count == 0 {
                break;
            }
            self.take(&piece[..count]).await?;
        }
        if self.rest.is_empty() && !self.is_too_long {
            return Ok(());
        }
        self.number += 1;
        let reason = "the connection ended within it: a line ends with a line break";
        self.say(&format!("line {}: {reason}\n", self.number)).await
    }

    /// Takes whole lines, as many at a time as travel together.
    async fn take(&mut self, piece: &[u8]) -> io::Result<()> {
        let mut message = Message::default();
        let mut asked = Vec::new();
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            let Some(part) = part.strip_suffix(b"\n") else {
                self.keep(part);
                break;
            };
            self.keep(part);
            let line = std::mem::take(&mut self.rest);
            let is_too_long = std::mem::take(&mut self.is_too_long);
            if self.is_greeting(&line) {
                continue;
            }
            self.number += 1;
            let (readings, errors) = (message.readings_count(), message.errors_count());
            if is_too_long {
                let reason = format!("the line has more than {LINE_BYTES_MAX} bytes");
                message.error(self.number, reason);
            } else {
                message.line(self.number, &line, None);
            }
            if (readings, errors) != (message.readings_count(), message.errors_count()) {
                asked.push(self.number);
            }
            if message.is_full() {
                self.hand_over(std::mem::take(&mut message), std::mem::take(&mut asked)).await?;
            }
        }
        self.hand_over(message, asked).await
    }

    fn keep(&mut self, part: &[u8]) {
        if self.rest.len() + part.len() > LINE_BYTES_MAX {
            self.is_too_long = true;
            self.rest.clear();
        }
        if !self.is_too_long {
            self.rest.extend_from_slice(part);
        }
    }

    /// Is this the first line, and does it ask for answers?
    fn is_greeting(&mut self, line: &[u8]) -> bool {
        if self.answers != Answers::Unknown {
            return false;
        }
        self.answers = match line.trim_ascii() {
            b"ack" | b"ack spooled" => Answers::All(Level::Spooled),
            b"ack committed" => Answers::All(Level::Committed),
            _ => Answers::Errors,
        };
        self.answers != Answers::Errors
    }

    async fn hand_over(&mut self, message: Message, asked: Vec<u64>) -> io::Result<()> {
        if message.is_empty() {
            return Ok(());
        }
        let until = match self.answers {
            Answers::All(level) => level,
            Answers::Unknown | Answers::Errors => Level::Spooled,
        };
        let told = self.desk.store(message, until).await;
        let told = told.ok_or_else(|| io::Error::other("the agent is stopping"))?;
        let answers = match self.answers {
            Answers::All(_) => all_answers(&told, &asked),
            Answers::Unknown | Answers::Errors => errors(&told),
        };
        self.say(&answers).await
    }

    /// What is wrong is said to those who did not ask only as far as they listen.
    async fn say(&mut self, answers: &str) -> io::Result<()> {
        if answers.is_empty() {
            return Ok(());
        }
        if !matches!(self.answers, Answers::All(_)) {
            let _ = self.stream.try_write(answers.as_bytes());
            return Ok(());
        }
        // Who asked and does not listen keeps no place.
        tokio::time::timeout(ANSWER, self.stream.write_all(answers.as_bytes())).await?
    }
}

/// The name of a level.
#[must_use]
pub const fn level_name(level: Level) -> &'static str {
    match level {
        Level::Spooled => "spooled",
        Level::Committed => "committed",
    }
}

fn errors(told: &Told) -> String {
    told.refused.iter().map(|(line, reason)| format!("line {line}: {reason}\n")).collect()
}

/// One answer per line: what is wrong with its first reading that is not stored, if any.
fn all_answers(told: &Told, asked: &[u64]) -> String {
    let mut refused = told.refused.iter().peekable();
    let answer = |line: &u64| {
        while refused.next_if(|(other, _)| other < line).is_some() {}
        match refused.peek() {
            Some((other, reason)) if other == line => format!("line {line}: {reason}\n"),
            _ => format!("ok {}\n", level_name(told.level)),
        }
    };
    asked.iter().map(answer).collect()
}
