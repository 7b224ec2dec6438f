//! Sensor processes that write to their boards' sockets while a test does something to the
//! boards, and what must have become of their readings in the end: every one that was
//! acknowledged is on every board once, and no other is there twice.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::net::UnixStream,
    path::PathBuf,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::Duration,
};

use understudy_tests::agents::Agents;

/// Lines that a writer sends before it waits for their answers.
const LINES: usize = 16;

/// Between two of its messages, and between two tries to connect.
const PAUSE: Duration = Duration::from_millis(20);

/// No answer takes longer than this: the group has given up long before.
const ANSWER_MAX: Duration = Duration::from_secs(60);

/// Looks at something that comes about soon, one every 50 ms.
pub(crate) const TRIES: usize = 1_200;

/// Acknowledgements that show that a writer is being served again.
pub(crate) const SERVED: u64 = 2 * LINES as u64;

/// First numbers of two writers are so far apart.
const NUMBERS: u64 = 1_000_000;

/// What a writer wants to hear, and what it does about lines that were not answered.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    /// That they are on its board's disk.
    Spooled,
    /// That they are on a majority's disks.
    Committed,
    /// As [`Manner::Spooled`]; each has an id, and is sent until it is acknowledged.
    Repeated,
}

pub(crate) const MANNERS: [Manner; 3] = [Manner::Spooled, Manner::Committed, Manner::Repeated];

/// A sensor process of one board.
pub(crate) struct Writer {
    pub(crate) board: &'static str,
    pub(crate) manner: Manner,
    socket: PathBuf,
    first: u64,
    /// How many of its readings were acknowledged so far.
    told: AtomicU64,
}

impl Writer {
    /// Writes until it shall end; returns the numbers that were acknowledged.
    fn run(&self, ended: &AtomicBool) -> Vec<u64> {
        let (mut acknowledged, mut next) = (Vec::new(), self.first..self.first + NUMBERS);
        let mut again = Vec::new();
        while !(again.is_empty() && ended.load(Ordering::Relaxed)) {
            if let Ok(mut stream) = self.connect() {
                while !(again.is_empty() && ended.load(Ordering::Relaxed)) {
                    again.extend(next.by_ref().take(LINES - again.len()));
                    let is_open = self.message(&mut stream, &mut again, &mut acknowledged);
                    if self.manner != Manner::Repeated {
                        again.clear();
                    }
                    if !is_open {
                        break;
                    }
                    thread::sleep(PAUSE);
                }
            }
            thread::sleep(PAUSE);
        }
        acknowledged
    }

    fn connect(&self) -> std::io::Result<BufReader<UnixStream>> {
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(ANSWER_MAX))?;
        let greeting = match self.manner {
            Manner::Spooled | Manner::Repeated => "ack\n",
            Manner::Committed => "ack committed\n",
        };
        stream.write_all(greeting.as_bytes())?;
        Ok(BufReader::new(stream))
    }

    /// Sends these; those that are acknowledged change over. False when the board is gone.
    fn message(
        &self,
        stream: &mut BufReader<UnixStream>,
        numbers: &mut Vec<u64>,
        acknowledged: &mut Vec<u64>,
    ) -> bool {
        let lines: String = numbers.iter().map(|number| self.line(*number)).collect();
        if stream.get_mut().write_all(lines.as_bytes()).is_err() {
            return false;
        }
        let mut is_open = true;
        numbers.retain(|number| {
            let mut answer = String::new();
            let read = stream.read_line(&mut answer);
            let kind = read.as_ref().err().map(std::io::Error::kind);
            assert_ne!(kind, Some(std::io::ErrorKind::WouldBlock), "{}: no answer", self.board);
            is_open &= read.is_ok() && answer.ends_with('\n');
            let is_acknowledged = is_open && answer.starts_with("ok ");
            if is_acknowledged {
                acknowledged.push(*number);
                self.told.fetch_add(1, Ordering::Relaxed);
            }
            !is_acknowledged
        });
        is_open
    }

    /// All writers share two sensors.
    fn line(&self, number: u64) -> String {
        let id = match self.manner {
            Manner::Spooled | Manner::Committed => String::new(),
            Manner::Repeated => format!(" id={number}"),
        };
        format!("room/{} {number}{id}\n", number % 2)
    }
}

/// Ends the writers however the test ends.
struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Waits until these writers have heard so much more.
/// # Panics
/// When they do not.
pub(crate) fn wait_for_more<'a>(writers: impl Iterator<Item = &'a Writer>, more: u64) {
    let wanted = |writer: &'a Writer| (writer, writer.told.load(Ordering::Relaxed) + more);
    let wanted: Vec<_> = writers.map(wanted).collect();
    for (writer, wanted) in wanted {
        let is_there = || writer.told.load(Ordering::Relaxed) >= wanted;
        let came = (0..TRIES).any(|_| is_there() || (thread::sleep(50 * MS), false).1);
        assert!(came, "a writer on {} waits for its answers in vain", writer.board);
    }
}

/// A millisecond.
pub(crate) const MS: Duration = Duration::from_millis(1);

/// The same for all of them, and enough to show that they are served again.
///
/// # Panics
/// When they are not.
pub(crate) fn wait_for_all(writers: &[Writer]) {
    wait_for_more(writers.iter(), SERVED);
}

/// How often each number is on a board.
fn stored(agents: &Agents, board: &str) -> BTreeMap<u64, u64> {
    let sql = "SELECT value, count(*) FROM readings WHERE sensor LIKE 'room/%' GROUP BY value";
    let rows = agents.told(board, &["query", sql]);
    let rows = rows.lines().filter_map(|line| {
        let mut words = line.split_whitespace().map(str::parse);
        Some((words.next()?.ok()?, words.next()?.ok()?))
    });
    rows.collect()
}

/// Each board has every one of these once, in the end, and nothing twice.
///
/// # Panics
/// When that is not so.
pub(crate) fn check(agents: &Agents, boards: &[&str], acknowledged: &[u64]) {
    for board in boards {
        let mut rows = BTreeMap::new();
        let is_there =
            |rows: &BTreeMap<u64, u64>| acknowledged.iter().all(|number| rows.contains_key(number));
        for _ in 0..TRIES / 10 {
            rows = stored(agents, board);
            if is_there(&rows) {
                break;
            }
            thread::sleep(500 * MS);
        }
        let lost: Vec<_> =
            acknowledged.iter().filter(|number| !rows.contains_key(number)).collect();
        assert!(
            lost.is_empty(),
            "{} acknowledged readings are not on {board}: {lost:?}",
            lost.len()
        );
        let doubled: Vec<_> = rows.iter().filter(|(_, times)| **times != 1).collect();
        assert!(doubled.is_empty(), "stored more than once on {board}: {doubled:?}");
    }
}

/// A writer of each manner on each of these boards.
#[must_use]
pub(crate) fn on(agents: &Agents, boards: &[&'static str], manners: &[Manner]) -> Vec<Writer> {
    let writers = boards.iter().flat_map(|board| manners.iter().map(|manner| (*board, *manner)));
    let writer = |(number, (board, manner)): (u64, (&'static str, Manner))| Writer {
        board,
        manner,
        socket: agents.directory(board).join("readings.stream.sock"),
        first: number * NUMBERS,
        told: AtomicU64::new(0),
    };
    (1..).zip(writers).map(writer).collect()
}

/// Has them write while something is done to the boards; returns what was acknowledged.
///
/// # Panics
/// When one of them waits for an answer in vain.
pub(crate) fn meanwhile(writers: &[Writer], act: impl FnOnce()) -> Vec<u64> {
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        let end = SetOnDrop(&ended);
        let ended = &ended;
        let run = |writer| scope.spawn(move || Writer::run(writer, ended));
        let running: Vec<_> = writers.iter().map(run).collect();
        wait_for_all(writers);
        act();
        drop(end);
        running.into_iter().flat_map(|thread| thread.join().expect("it writes")).collect()
    })
}
