//! A light client: a thread per keep-alive connection that writes one request,
//! reads one answer, and does nothing else. What it costs is reported, so that
//! nobody takes its limits for the server's.

use std::{
    io::{Read, Write},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
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
    let cpu = process::cpu_ms("self");
    let started = Instant::now();
    let mut latencies_us: Vec<u64> = thread::scope(|scope| {
        let run = || Connection::open(address).repeat(&insert_request(address), time);
        let threads: Vec<_> = (0..connections)
            .map(|_| {
                let thread = thread::Builder::new().stack_size(64 << 10);
                thread.spawn_scoped(scope, run).expect("a thread can be started")
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("it ends well")).collect()
    });
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

impl Connection {
    fn open(address: &str) -> Self {
        let stream = TcpStream::connect(address).expect("the board listens");
        stream.set_nodelay(true).expect("it is a socket");
        stream.set_read_timeout(Some(ANSWER_MAX)).expect("it is a socket");
        Self { stream, buffer: Vec::new() }
    }

    #[expect(clippy::disallowed_methods, reason = "measuring is what a clock is for here")]
    fn repeat(mut self, request: &[u8], time: Duration) -> Vec<u64> {
        let mut latencies_us = Vec::new();
        let until = Instant::now() + time;
        loop {
            let asked = Instant::now();
            if asked >= until {
                return latencies_us;
            }
            self.ask(request).expect("every insert succeeds");
            latencies_us.push(u64::try_from(asked.elapsed().as_micros()).unwrap_or(u64::MAX));
        }
    }

    fn ask(&mut self, request: &[u8]) -> Result<(), String> {
        self.stream.write_all(request).map_err(|error| error.to_string())?;
        self.buffer.clear();
        loop {
            let mut chunk = [0; 1_024];
            let count = self.stream.read(&mut chunk).map_err(|error| error.to_string())?;
            if count == 0 {
                return Err(String::from("the server hung up"));
            }
            self.buffer.extend_from_slice(&chunk[..count]);
            if let Some(body) = body(&self.buffer) {
                let good = self.buffer.starts_with(b"HTTP/1.1 200") && !contains(body, b"error");
                let words = || String::from_utf8_lossy(&self.buffer).into_owned();
                return if good { Ok(()) } else { Err(words()) };
            }
        }
    }
}

/// The body, once all of it is there.
fn body(answer: &[u8]) -> Option<&[u8]> {
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&answer[..end]).ok()?.to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"))?;
    let body = &answer[end..];
    (body.len() >= length.trim().parse().ok()?).then_some(body)
}

fn contains(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|bytes| bytes == word)
}
