//! A light client: one thread that waits for all its keep-alive connections at
//! once, each with one request under way. What it costs is reported, so that
//! nobody takes its limits for the server's.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use rustix::{
    buffer::spare_capacity,
    event::{Timespec, epoll},
};

use crate::process;

/// Longest wait for one answer.
const ANSWER_MAX: Duration = Duration::from_secs(20);

/// What a load came to.
pub(crate) struct Load {
    pub(crate) per_s: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) requests: u64,
    /// Of the client's own processor time.
    pub(crate) client_us_per_request: f64,
}

/// Inserts one row per request over so many connections for so long.
///
/// # Panics
/// When an answer is no success: then there is nothing to measure.
#[expect(clippy::disallowed_methods, reason = "measuring is what a clock is for here")]
pub(crate) fn insert(address: &str, connections: usize, time: Duration) -> Load {
    let mut callers = Callers::open(address, connections);
    let cpu = process::cpu_ms("self");
    let started = Instant::now();
    let mut latencies_us = callers.repeat(&insert_request(address), time);
    let took = started.elapsed();
    latencies_us.sort_unstable();
    let requests = latencies_us.len();
    #[expect(clippy::cast_precision_loss, reason = "these are far below 2^52")]
    let (count, at) = (requests as f64, |part: usize| latencies_us[requests * part / 100] as f64);
    #[expect(clippy::cast_precision_loss, reason = "these are far below 2^52")]
    let cpu_us = 1_000.0 * (process::cpu_ms("self") - cpu) as f64;
    Load {
        per_s: count / took.as_secs_f64(),
        p50_us: at(50),
        p99_us: at(99),
        requests: requests as u64,
        client_us_per_request: cpu_us / count,
    }
}

/// A row as sensors write them.
fn insert_request(address: &str) -> Vec<u8> {
    request(address, r#"["INSERT INTO reading(sensor, value) VALUES('kitchen', 21.5)"]"#)
}

fn request(address: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "POST /db/execute HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

/// Sends statements as one request.
///
/// # Errors
/// What went wrong, in the server's words if it has any.
pub(crate) fn execute(address: &str, body: &str, wait: Duration) -> Result<(), String> {
    let stream = TcpStream::connect(address).map_err(|error| error.to_string())?;
    stream.set_read_timeout(Some(wait)).map_err(|error| error.to_string())?;
    Connection { stream, buffer: Vec::new() }.ask(&request(address, body))
}

struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// All connections of one load.
struct Callers {
    connections: Vec<Connection>,
    ready: rustix::fd::OwnedFd,
}

impl Callers {
    fn open(address: &str, count: usize) -> Self {
        let ready = epoll::create(epoll::CreateFlags::CLOEXEC).expect("a poll can be made");
        let connections: Vec<_> = (0..count).map(|_| Connection::open(address)).collect();
        for (place, connection) in connections.iter().enumerate() {
            let data = epoll::EventData::new_u64(place as u64);
            epoll::add(&ready, &connection.stream, data, epoll::EventFlags::IN)
                .expect("a socket can be waited for");
        }
        Self { connections, ready }
    }

    /// Latencies in microseconds, of every request that was begun in this time.
    #[expect(clippy::disallowed_methods, reason = "measuring is what a clock is for here")]
    fn repeat(&mut self, request: &[u8], time: Duration) -> Vec<u64> {
        let until = Instant::now() + time;
        let mut latencies_us = Vec::new();
        let mut asked = vec![Instant::now(); self.connections.len()];
        for (connection, asked) in self.connections.iter_mut().zip(&mut asked) {
            *asked = Instant::now();
            connection.say(request).expect("every insert is sent");
        }
        let mut open = asked.len();
        let mut events: Vec<epoll::Event> = Vec::with_capacity(open);
        while open > 0 {
            events.clear();
            let wait = Timespec::try_from(ANSWER_MAX).expect("it is short");
            epoll::wait(&self.ready, spare_capacity(&mut events), Some(&wait))
                .expect("sockets can be waited for");
            assert!(!events.is_empty(), "no answer within {ANSWER_MAX:?}");
            for event in &events {
                let place = usize::try_from(event.data.u64()).expect("a place in the list");
                let connection = &mut self.connections[place];
                if !connection.hear().expect("every insert succeeds") {
                    continue;
                }
                let now = Instant::now();
                let took = now.duration_since(asked[place]).as_micros();
                latencies_us.push(u64::try_from(took).unwrap_or(u64::MAX));
                if now >= until {
                    open -= 1;
                    continue;
                }
                asked[place] = now;
                connection.say(request).expect("every insert is sent");
            }
        }
        latencies_us
    }
}

impl Connection {
    fn open(address: &str) -> Self {
        let stream = TcpStream::connect(address).expect("the board listens");
        stream.set_nodelay(true).expect("it is a socket");
        stream.set_read_timeout(Some(ANSWER_MAX)).expect("it is a socket");
        Self { stream, buffer: Vec::new() }
    }

    fn ask(&mut self, request: &[u8]) -> Result<(), String> {
        self.say(request)?;
        while !self.hear()? {}
        Ok(())
    }

    fn say(&mut self, request: &[u8]) -> Result<(), String> {
        self.buffer.clear();
        self.stream.write_all(request).map_err(|error| error.to_string())
    }

    /// Takes what has come, waiting for something: is the answer whole?
    fn hear(&mut self) -> Result<bool, String> {
        let mut chunk = [0; 1_024];
        let count = self.stream.read(&mut chunk).map_err(|error| error.to_string())?;
        if count == 0 {
            return Err(String::from("the server hung up"));
        }
        self.buffer.extend_from_slice(&chunk[..count]);
        let Some(body) = body(&self.buffer) else { return Ok(false) };
        let good = self.buffer.starts_with(b"HTTP/1.1 200") && !contains(body, b"error");
        let words = || String::from_utf8_lossy(&self.buffer).into_owned();
        if good { Ok(true) } else { Err(words()) }
    }
}

/// The body, once all of it is there.
fn body(answer: &[u8]) -> Option<&[u8]> {
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n")? + 4;
    let mut lines = answer[..end].split(|byte| *byte == b'\n');
    let length = lines.find_map(|line| {
        let (name, value) = line.split_at_checked(LENGTH.len())?;
        name.eq_ignore_ascii_case(LENGTH).then_some(value)
    })?;
    let length: usize = std::str::from_utf8(length).ok()?.trim().parse().ok()?;
    let body = &answer[end..];
    (body.len() >= length).then_some(body)
}

const LENGTH: &[u8] = b"content-length:";

fn contains(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|bytes| bytes == word)
}
