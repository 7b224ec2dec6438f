//! Sensor processes at a board's sockets: datagrams that nobody answers, and lines on
//! several connections of the stream socket, each at its time or as fast as they are
//! taken, with what became of each.

use std::{
    collections::VecDeque,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::Shutdown,
    os::unix::net::{UnixDatagram, UnixStream},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use rustix::{
    buffer::spare_capacity,
    event::{Timespec, epoll},
};

use crate::readings::Reading;

/// Longest wait for one answer.
const ANSWER_MAX: Duration = Duration::from_secs(60);

/// Lines that go out together where they go as fast as they are taken.
const LINES: u64 = 64;

/// Reasons that are kept word for word.
const REASONS_MAX: usize = 3;

/// What became of lines.
#[derive(Default)]
pub(crate) struct Told {
    pub(crate) accepted: u64,
    pub(crate) refused: u64,
    /// The first reasons.
    pub(crate) reasons: Vec<String>,
    /// From the time at which a line was to go until its answer came, microseconds.
    pub(crate) latencies_us: Vec<u64>,
}

impl Told {
    pub(crate) fn and(mut self, other: Self) -> Self {
        self.accepted += other.accepted;
        self.refused += other.refused;
        self.reasons.extend(other.reasons);
        self.latencies_us.extend(other.latencies_us);
        self
    }

    fn take(&mut self, answer: &str) {
        if answer.starts_with("ok ") {
            self.accepted += 1;
        } else {
            self.refused += 1;
            if self.reasons.len() < REASONS_MAX {
                self.reasons.push(answer.trim_end().to_owned());
            }
        }
    }
}

/// Sends so many readings, each as a datagram of its own, so many a second; ends when
/// the next one would be due.
#[expect(clippy::disallowed_methods, reason = "measuring is what a clock is for here")]
pub(crate) fn datagrams(
    socket: &Path,
    readings: impl Iterator<Item = Reading>,
    count: u64,
    rate: u64,
) {
    let sender = UnixDatagram::unbound().expect("a socket");
    sender.connect(socket).expect("the board listens");
    let started = Instant::now();
    let wait = |number| {
        thread::sleep((started + at(number, rate)).saturating_duration_since(Instant::now()));
    };
    for (number, reading) in (0..count).zip(readings) {
        wait(number);
        let line = format!("room/{} {}", reading.sensor, reading.value);
        sender.send(line.as_bytes()).expect("the board takes it");
    }
    wait(count);
}

/// When the line of this number goes.
const fn at(number: u64, rate: u64) -> Duration {
    Duration::from_micros(number * 1_000_000 / rate)
}

/// Lines on several connections in turn, so many a second for so long, each numbered
/// and acknowledged as `greeting` asks. One that is late counts as sent in time.
#[expect(clippy::disallowed_methods, reason = "measuring is what a clock is for here")]
pub(crate) fn paced(
    (socket, connections, greeting): (&Path, usize, &str),
    line: impl Fn(u64) -> String,
    rate: u64,
    seconds: u64,
) -> Told {
    let mut lines = Lines::open(socket, connections, greeting);
    let (mut told, mut sent, count) = (Told::default(), 0, rate * seconds);
    let started = Instant::now();
    while told.accepted + told.refused < count {
        while sent < count && started + at(sent, rate) <= Instant::now() {
            lines.say(&line(sent), started + at(sent, rate));
            sent += 1;
        }
        let until = match sent < count {
            true => (started + at(sent, rate)).saturating_duration_since(Instant::now()),
            false => ANSWER_MAX,
        };
        let came = lines.hear(until, &mut told);
        assert!(came || sent < count, "no answer within {ANSWER_MAX:?}");
    }
    told
}

/// Connections, and the times of lines that are not answered.
struct Lines {
    connections: Vec<Connection>,
    next: usize,
    ready: rustix::fd::OwnedFd,
}

struct Connection {
    stream: UnixStream,
    asked: VecDeque<Instant>,
    rest: Vec<u8>,
}

impl Lines {
    fn open(socket: &Path, count: usize, greeting: &str) -> Self {
        let ready = epoll::create(epoll::CreateFlags::CLOEXEC).expect("a poll can be made");
        let open = |place: usize| {
            let stream = greeted(socket, greeting);
            let data = epoll::EventData::new_u64(place as u64);
            epoll::add(&ready, &stream, data, epoll::EventFlags::IN)
                .expect("a socket can be waited for");
            Connection { stream, asked: VecDeque::new(), rest: Vec::new() }
        };
        let connections = (0..count).map(open).collect();
        Self { connections, next: 0, ready }
    }

    fn say(&mut self, line: &str, at: Instant) {
        let count = self.connections.len();
        let connection = &mut self.connections[self.next % count];
        self.next += 1;
        connection.stream.write_all(line.as_bytes()).expect("the board takes it");
        connection.asked.push_back(at);
    }

    /// Takes the answers that come in this time, or first of all; false when none did.
    fn hear(&mut self, time: Duration, told: &mut Told) -> bool {
        let mut events: Vec<epoll::Event> = Vec::with_capacity(self.connections.len());
        let wait = Timespec::try_from(time).expect("it is short");
        epoll::wait(&self.ready, spare_capacity(&mut events), Some(&wait))
            .expect("sockets can be waited for");
        for event in &events {
            let place = usize::try_from(event.data.u64()).expect("a place in the list");
            self.connections[place].hear(told);
        }
        !events.is_empty()
    }
}

impl Connection {
    #[expect(clippy::disallowed_methods, reason = "measuring is what a clock is for here")]
    fn hear(&mut self, told: &mut Told) {
        let mut piece = [0; 4_096];
        let count = self.stream.read(&mut piece).expect("it answers");
        assert!(count > 0, "the board hung up");
        let now = Instant::now();
        self.rest.extend_from_slice(&piece[..count]);
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let answer: Vec<u8> = self.rest.drain(..=end).collect();
            told.take(&String::from_utf8_lossy(&answer));
            let asked = self.asked.pop_front().expect("one answer for each line");
            let took = now.duration_since(asked).as_micros();
            told.latencies_us.push(u64::try_from(took).unwrap_or(u64::MAX));
        }
    }
}

fn greeted(socket: &Path, greeting: &str) -> UnixStream {
    let mut stream = UnixStream::connect(socket).expect("the board listens");
    stream.set_read_timeout(Some(ANSWER_MAX)).expect("it is a socket");
    stream.write_all(greeting.as_bytes()).expect("the board takes it");
    stream
}

/// Lines as fast as they are taken, on each of several connections: which number is
/// sent where is up to `line`, which is given the connection and a count.
pub(crate) fn flood(
    (socket, connections, greeting): (&Path, u64, &str),
    line: impl Fn(u64, u64) -> String + Sync,
    time: Duration,
) -> Vec<Told> {
    thread::scope(|scope| {
        let line = &line;
        let pour = |place| {
            let stream = greeted(socket, greeting);
            let answers = stream.try_clone().expect("a descriptor");
            let answers = scope.spawn(move || answered(answers));
            scope.spawn(move || {
                let sent = poured(stream, |number| line(place, number), time);
                let told = answers.join().expect("it reads");
                assert_eq!(told.accepted + told.refused, sent, "one answer for each line");
                told
            })
        };
        let pouring: Vec<_> = (0..connections).map(pour).collect();
        pouring.into_iter().map(|thread| thread.join().expect("it writes")).collect()
    })
}

/// Writes for so long; says how many lines that were.
#[expect(clippy::disallowed_methods, reason = "measuring is what a clock is for here")]
fn poured(mut stream: UnixStream, line: impl Fn(u64) -> String, time: Duration) -> u64 {
    let (started, mut sent) = (Instant::now(), 0);
    while started.elapsed() < time {
        let lines: String = (sent..sent + LINES).map(&line).collect();
        stream.write_all(lines.as_bytes()).expect("the board takes it");
        sent += LINES;
    }
    stream.shutdown(Shutdown::Write).expect("it is open");
    sent
}

fn answered(stream: UnixStream) -> Told {
    let mut told = Told::default();
    let mut answers = BufReader::new(stream);
    let mut answer = String::new();
    while answers.read_line(&mut answer).expect("it answers") > 0 {
        told.take(&answer);
        answer.clear();
    }
    told
}
