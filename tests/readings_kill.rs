//! Sensor processes that write on while boards are killed with SIGKILL: one after the
//! other, all at once, and a majority of them until the spool of the one that is left
//! has filled.
//!
//! In the end every reading that was acknowledged is on every board once, no other is
//! there twice, and nothing is left in a spool. How far a round goes is decided by
//! what the writers were told, never by a clock.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::Duration,
};

use rusqlite::Connection;
use understudy_tests::{agents::Agents, program};

const BOARDS: [&str; 3] = ["a", "b", "c"];

/// Lines that a writer sends before it waits for their answers.
const LINES: usize = 16;

/// Between two of its messages, and between two tries to connect.
const PAUSE: Duration = Duration::from_millis(20);

/// No answer takes longer than this: the group has given up long before.
const ANSWER_MAX: Duration = Duration::from_secs(60);

/// Looks at something that comes about soon, one every 50 ms.
const TRIES: usize = 1_200;

/// Acknowledgements that show that a writer is being served again.
const SERVED: u64 = 2 * LINES as u64;

/// First numbers of two writers are so far apart.
const NUMBERS: u64 = 1_000_000;

/// What a writer wants to hear, and what it does about lines that were not answered.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// That they are on its board's disk.
    Spooled,
    /// That they are on a majority's disks.
    Committed,
    /// As [`Manner::Spooled`]; each has an id, and is sent until it is acknowledged.
    Repeated,
}

const MANNERS: [Manner; 3] = [Manner::Spooled, Manner::Committed, Manner::Repeated];

/// A sensor process of one board.
struct Writer {
    board: &'static str,
    manner: Manner,
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
fn wait_for_more<'a>(writers: impl Iterator<Item = &'a Writer>, more: u64) {
    let wanted = |writer: &'a Writer| (writer, writer.told.load(Ordering::Relaxed) + more);
    let wanted: Vec<_> = writers.map(wanted).collect();
    for (writer, wanted) in wanted {
        let is_there = || writer.told.load(Ordering::Relaxed) >= wanted;
        let came = (0..TRIES).any(|_| is_there() || (thread::sleep(50 * MS), false).1);
        assert!(came, "a writer on {} waits for its answers in vain", writer.board);
    }
}

const MS: Duration = Duration::from_millis(1);

fn wait_for_all(writers: &[Writer]) {
    wait_for_more(writers.iter(), SERVED);
}

/// Every board in turn; the writers on the others go on meanwhile.
fn kill_in_turn(agents: &mut Agents, writers: &[Writer]) {
    for board in BOARDS {
        agents.kill(board);
        wait_for_more(writers.iter().filter(|writer| writer.board != board), SERVED);
        agents.run(board);
        wait_for_all(writers);
    }
}

fn kill_all(agents: &mut Agents, writers: &[Writer]) {
    BOARDS.iter().for_each(|board| agents.kill(board));
    BOARDS.iter().for_each(|board| agents.run(board));
    wait_for_all(writers);
}

/// All but one; that one too, once it has acknowledged what only its spool has.
fn kill_a_majority(agents: &mut Agents, writers: &[Writer], left: &str, with_the_last: bool) {
    let others = BOARDS.iter().filter(|board| **board != left);
    others.clone().for_each(|board| agents.kill(board));
    agents.wait(left, "to be without a leader", |status| status["leader"].is_null());
    let spools = |writer: &&Writer| writer.board == left && writer.manner != Manner::Committed;
    wait_for_more(writers.iter().filter(spools), 2 * SERVED);
    if with_the_last {
        agents.kill(left);
        assert!(spooled(&agents.directory(left)) > 0, "nothing of it is in the spool of {left}");
        agents.run(left);
    }
    others.for_each(|board| agents.run(board));
    wait_for_all(writers);
}

/// Readings in the spool of a board that does not run: of a copy, so that nothing is
/// changed by looking.
fn spooled(directory: &Path) -> u32 {
    let copy = tempfile::tempdir().expect("a temporary folder");
    for name in ["journal.db", "journal.db-wal"] {
        if directory.join(name).exists() {
            fs::copy(directory.join(name), copy.path().join(name)).expect("a copy");
        }
    }
    let journal = Connection::open(copy.path().join("journal.db")).expect("a journal");
    let sum = "SELECT ifnull(sum(readings), 0) FROM spool";
    journal.query_row(sum, [], |row| row.get::<_, u32>(0)).expect("a spool")
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

fn check(agents: &Agents, acknowledged: &[u64]) {
    for board in BOARDS {
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

/// What is taken out of a spool goes from the disk with the next write there is: it
/// gets one, and only a board that has ended shows what it has left.
fn wait_for_empty_spools(agents: &mut Agents) {
    let mut left = [0; BOARDS.len()];
    for _ in 0..10 {
        for board in BOARDS {
            let _ = agents.told(board, &["write", "last", "1"]);
        }
        BOARDS.iter().for_each(|board| agents.stop(board));
        left = BOARDS.map(|board| spooled(&agents.directory(board)));
        BOARDS.iter().for_each(|board| agents.run(board));
        if left == [0; BOARDS.len()] {
            return;
        }
        for board in BOARDS {
            agents.wait(board, "to follow a leader", |status| status["leader"].is_string());
        }
    }
    panic!("readings are left in the spools of {BOARDS:?}: {left:?}");
}

#[test]
fn acknowledged_readings_are_on_every_board_once_whichever_boards_are_killed() {
    let mut agents = Agents::new(&program::debug());
    agents.form(&BOARDS);
    let writers = BOARDS.iter().flat_map(|board| MANNERS.map(|manner| (*board, manner)));
    let writers: Vec<Writer> = (1..)
        .zip(writers)
        .map(|(number, (board, manner))| Writer {
            board,
            manner,
            socket: agents.directory(board).join("readings.stream.sock"),
            first: number * NUMBERS,
            told: AtomicU64::new(0),
        })
        .collect();
    let ended = AtomicBool::new(false);
    let acknowledged: Vec<u64> = thread::scope(|scope| {
        let end = SetOnDrop(&ended);
        let (writers, ended) = (&writers, &ended);
        let run = |writer| scope.spawn(move || Writer::run(writer, ended));
        let running: Vec<_> = writers.iter().map(run).collect();
        wait_for_all(writers);
        kill_in_turn(&mut agents, writers);
        kill_a_majority(&mut agents, writers, "a", false);
        kill_all(&mut agents, writers);
        kill_a_majority(&mut agents, writers, "b", true);
        drop(end);
        running.into_iter().flat_map(|thread| thread.join().expect("it writes")).collect()
    });
    check(&agents, &acknowledged);
    wait_for_empty_spools(&mut agents);
    check(&agents, &acknowledged);
    let said = agents.told("a", &["scrub"]);
    assert!(said.contains("all boards that reported hold the same rows"), "{said}");
}
