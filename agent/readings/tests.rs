//! The sockets, against a loop that answers what it is told.

use std::{
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixDatagram, UnixListener, UnixStream},
    sync::Semaphore,
};
use understudy_core::{
    error::Refusal,
    event::{Reply, Request},
    limits::BATCH_READINGS_MAX,
    readings::{Arrivals, Level, Receipt},
    sql,
};

use super::{datagram, desk::Desk, limits, stream};
use crate::{
    call::{Call, Caller},
    clock::BoardClock,
    driver::socket::Kept,
};

type Asked = Arc<Mutex<Vec<Arrivals>>>;

/// Both sockets in a folder.
struct Sockets {
    folder: tempfile::TempDir,
    asked: Asked,
}

impl Sockets {
    /// They are served by a loop that answers by `answer`, one call for each permit of
    /// `pace`.
    fn new(pace: Arc<Semaphore>, answer: fn(&Arrivals) -> Reply) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (caller, mut calls) = Caller::channel();
        let desk = Desk::new(caller, BoardClock::new(1, Vec::new(), Path::new("/nowhere")), 50);
        let at = |name| folder.path().join(name);
        let bind = |path: &Path| UnixDatagram::bind(path);
        let datagrams = Kept::bind(&at(datagram::NAME), 0o666, bind).unwrap();
        let streams =
            Kept::bind(&at(stream::NAME), 0o666, |path| UnixListener::bind(path)).unwrap();
        tokio::spawn(datagram::serve(datagrams, desk.clone()));
        tokio::spawn(stream::serve(streams, desk));
        let asked = Asked::default();
        let noted = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Some(call) = calls.recv().await {
                let Call::Request(Request::Readings(arrivals), reply) = call else {
                    panic!("the sockets ask for nothing else")
                };
                pace.acquire().await.unwrap().forget();
                let answer = answer(&arrivals);
                noted.lock().unwrap().push(arrivals);
                // A caller may be gone.
                let _ = reply.send(answer);
            }
        });
        Self { folder, asked }
    }

    async fn connect(&self) -> UnixStream {
        UnixStream::connect(self.folder.path().join(stream::NAME)).await.unwrap()
    }

    /// What a caller hears who writes this and then ends.
    async fn told(&self, text: &[u8]) -> String {
        let mut stream = self.connect().await;
        stream.write_all(text).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut told = String::new();
        stream.read_to_string(&mut told).await.unwrap();
        told
    }

    fn sensors(&self) -> Vec<String> {
        let asked = self.asked.lock().unwrap();
        asked.iter().flat_map(|a| a.readings.iter().map(|r| r.sensor.clone())).collect()
    }

    /// Waits until so many readings were asked for.
    async fn come(&self, count: usize) {
        for _ in 0..1_000 {
            if self.sensors().len() >= count {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("{count} readings did not come: {}", self.sensors().len());
    }
}

fn block_on(work: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work);
}

fn endless() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(Semaphore::MAX_PERMITS))
}

/// As far as was asked for, but what has a bad name.
fn stored(arrivals: &Arrivals) -> Reply {
    let places = (0..).zip(&arrivals.readings).filter(|(_, r)| r.sensor == "bad");
    let refused = places.map(|(place, _)| (place, String::from("the group says no"))).collect();
    let receipt = Receipt { level: arrivals.until, refused };
    Reply::Done { index: 1, answer: sql::encode(&receipt) }
}

#[test]
fn of_a_stream_only_what_is_wrong_is_said() {
    block_on(async {
        let sockets = Sockets::new(endless(), stored);
        assert_eq!(sockets.told(b"a 1\n# x\n\nb 2 \nm f=1,g=2\n").await, "");
        assert_eq!(sockets.sensors(), ["a", "b", "m/f", "m/g"]);
        let told = sockets.told(b"a NaN\nc 3\nbad 1\nack committed\n").await;
        let lines: Vec<_> = told.lines().collect();
        assert_eq!(lines.len(), 3, "{told}");
        assert!(lines[0].starts_with("line 1: \"NaN\" is no value"), "{told}");
        assert_eq!(lines[1], "line 3: the group says no");
        assert!(lines[2].starts_with("line 4: \"committed\" is no value"), "{told}");
        let first = &sockets.asked.lock().unwrap()[0];
        assert_eq!((first.until, first.window_ms), (Level::Spooled, 50));
    });
}

#[test]
fn who_asks_is_answered_line_by_line() {
    block_on(async {
        let sockets = Sockets::new(endless(), stored);
        let told = sockets.told(b"ack committed\na 1\n\n# x\nm bad=2,f=1\nbad 1\nb 2\n").await;
        let expected = "ok committed\nok committed\nline 5: the group says no\nok committed\n";
        assert_eq!(told, expected);
        let (until, window_ms) = {
            let asked = sockets.asked.lock().unwrap();
            (asked[0].until, asked[0].window_ms)
        };
        assert_eq!((until, window_ms), (Level::Committed, 0));
        assert_eq!(sockets.told(b"ack\r\na 1\r\n").await, "ok spooled\n");
    });
}

#[test]
fn lines_that_are_cut_or_too_long_are_not_taken() {
    block_on(async {
        let sockets = Sockets::new(endless(), stored);
        let long = vec![b'x'; 3 * limits::LINE_BYTES_MAX];
        let text = [b"a 1\n".as_slice(), &long, b"\nb 2\nc 21"].concat();
        let told = sockets.told(&text).await;
        assert!(told.starts_with("line 2: the line has more than 8192 bytes\n"), "{told}");
        assert!(told.contains("line 4: the connection ended within it"), "{told}");
        assert_eq!(sockets.sensors(), ["a", "b"]);
    });
}

#[test]
fn a_caller_that_is_faster_waits() {
    block_on(async {
        let pace = Arc::new(Semaphore::new(0));
        let sockets = Sockets::new(Arc::clone(&pace), stored);
        let stream = sockets.connect().await;
        let lines = b"a 1\n".repeat(1_000);
        let mut sent = 0;
        let mut idle = 0;
        while idle < 20 {
            match stream.try_write(&lines[sent % 4..]) {
                Ok(count) => (sent, idle) = (sent + count, 0),
                Err(_) => idle += 1,
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(sent < 4 << 20, "{sent} bytes were taken though nothing was stored");
        pace.add_permits(Semaphore::MAX_PERMITS / 2);
        sockets.come(sent / 4).await;
        let asked = sockets.asked.lock().unwrap();
        assert!(asked.iter().all(|arrivals| arrivals.readings.len() <= BATCH_READINGS_MAX));
    });
}

#[test]
fn one_caller_too_many_is_told() {
    block_on(async {
        let sockets = Sockets::new(endless(), stored);
        let mut connected = Vec::new();
        for _ in 0..limits::CONNECTIONS_MAX {
            let mut stream = sockets.connect().await;
            stream.write_all(b"ack\na 1\n").await.unwrap();
            stream.read_exact(&mut [0; 11]).await.unwrap();
            connected.push(stream);
        }
        let told = sockets.told(b"").await;
        assert!(told.starts_with("refused: 64 callers"), "{told}");
    });
}

#[test]
fn datagrams_have_many_lines_and_a_bad_one_holds_up_none() {
    block_on(async {
        let sockets = Sockets::new(endless(), stored);
        let sender = UnixDatagram::unbound().unwrap();
        sender.connect(sockets.folder.path().join(datagram::NAME)).unwrap();
        for datagram in [b"a 1\nb NaN\nc 2".as_slice(), b"", b"\xff\xfe\n", b"d 1\n"] {
            sender.send(datagram).await.unwrap();
        }
        let long = b"e 1\n".repeat(limits::DATAGRAM_BYTES_MAX / 4 + 10);
        sender.send(&long).await.unwrap();
        sockets.come(3 + limits::DATAGRAM_BYTES_MAX / 4).await;
        assert_eq!(sockets.sensors()[..4], ["a", "c", "d", "e"]);
    });
}

#[test]
fn what_there_is_no_room_for_is_handed_on_again() {
    fn busy_at_first(arrivals: &Arrivals) -> Reply {
        static TRIES: Mutex<u32> = Mutex::new(0);
        let mut tries = TRIES.lock().unwrap();
        *tries += 1;
        if *tries < 3 { Reply::Refused(Refusal::Busy) } else { stored(arrivals) }
    }
    block_on(async {
        let sockets = Sockets::new(endless(), busy_at_first);
        assert_eq!(sockets.told(b"ack\na 1\n").await, "ok spooled\n");
        let asked = sockets.asked.lock().unwrap();
        assert_eq!(asked.len(), 3);
        assert_eq!(asked[0], asked[2], "it was stamped once");
    });
}
