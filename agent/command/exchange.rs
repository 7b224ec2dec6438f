//! One HTTP request over the control socket and its answer, streamed both ways:
//! for what is too large for a line of JSON.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    path::Path,
};

use crate::driver::control;

/// Carries the reason why an answer came to no end.
const ERROR: &str = "x-understudy-error:";

/// Bytes sent at a time.
const PIECE_BYTES: usize = 64 << 10;

/// Longest line of a head, and an answer in words, bytes.
const LINE_BYTES_MAX: u64 = 64 << 10;

/// An answer whose head has come.
pub(super) struct Answer {
    status: u16,
    connection: BufReader<UnixStream>,
    /// Of this chunk, or of all of it where there are none, bytes.
    left: u64,
    is_chunked: bool,
    /// All of it has come.
    is_whole: bool,
}

/// Asks for something.
pub(super) fn get(socket: &Path, path: &str) -> Result<Answer, String> {
    let mut stream = control::connect(socket)?;
    let head = format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nTE: trailers\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).map_err(|error| broken(&error))?;
    Answer::read(stream)
}

/// Hands something over.
pub(super) fn post(socket: &Path, path: &str, body: &mut dyn Read) -> Result<Answer, String> {
    let mut stream = control::connect(socket)?;
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\
         Content-Type: application/octet-stream\r\nConnection: close\r\n\r\n"
    );
    match stream.write_all(head.as_bytes()).map_err(Sending::Agent) {
        Ok(()) => match send_all(&mut stream, body) {
            Ok(()) => Answer::read(stream),
            Err(Sending::Source(error)) => Err(error.to_string()),
            // It may have said why it listens no longer.
            Err(Sending::Agent(error)) => Answer::read(stream).map_err(|_| broken(&error)),
        },
        Err(Sending::Agent(error) | Sending::Source(error)) => Err(broken(&error)),
    }
}

/// Who is to blame for what was not sent.
enum Sending {
    Source(io::Error),
    Agent(io::Error),
}

fn send_all(stream: &mut UnixStream, body: &mut dyn Read) -> Result<(), Sending> {
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let count = body.read(&mut piece).map_err(Sending::Source)?;
        let chunk = [format!("{count:x}\r\n").as_bytes(), &piece[..count], b"\r\n"].concat();
        stream.write_all(&chunk).map_err(Sending::Agent)?;
        if count == 0 {
            return Ok(());
        }
    }
}

fn broken(error: &io::Error) -> String {
    format!("the agent did not answer: {error}")
}

impl Answer {
    fn read(stream: UnixStream) -> Result<Self, String> {
        let mut answer = Self {
            status: 0,
            connection: BufReader::new(stream),
            left: 0,
            is_chunked: false,
            is_whole: false,
        };
        answer.read_head().map_err(|error| broken(&error))?;
        Ok(answer)
    }

    fn read_head(&mut self) -> io::Result<()> {
        let first = self.line()?;
        let status = first.split(' ').nth(1).and_then(|status| status.parse().ok());
        self.status = status.ok_or_else(|| io::Error::other("not an answer"))?;
        loop {
            let line = self.line()?.to_ascii_lowercase();
            if line.is_empty() {
                self.is_whole = !self.is_chunked && self.left == 0;
                return Ok(());
            }
            if let Some(length) = line.strip_prefix("content-length:") {
                self.left = length.trim().parse().map_err(io::Error::other)?;
            }
            self.is_chunked |= line.starts_with("transfer-encoding:") && line.ends_with("chunked");
        }
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        let read = (&mut self.connection).take(LINE_BYTES_MAX).read_line(&mut line)?;
        match read {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(line.trim_end().to_owned()),
        }
    }

    /// Its body, or what the agent says instead of one.
    pub(super) fn body(mut self) -> Result<Self, String> {
        if self.status == 200 {
            return Ok(self);
        }
        let mut words = String::new();
        let read = (&mut self).take(LINE_BYTES_MAX).read_to_string(&mut words);
        match read {
            Ok(1..) => Err(words),
            Ok(0) | Err(_) => Err(format!("the agent answered with HTTP status {}", self.status)),
        }
    }

    /// The head of the next chunk, or what comes behind the last.
    fn next_chunk(&mut self) -> io::Result<()> {
        let line = self.line()?;
        let size = line.split(';').next().unwrap_or_default();
        self.left = u64::from_str_radix(size.trim(), 16).map_err(io::Error::other)?;
        if self.left > 0 {
            return Ok(());
        }
        let mut error = None;
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            if let Some((name, reason)) = line.split_at_checked(ERROR.len())
                && name.eq_ignore_ascii_case(ERROR)
            {
                error = Some(reason.trim().to_owned());
            }
        }
        self.is_whole = error.is_none();
        error.map_or(Ok(()), |reason| Err(io::Error::other(reason)))
    }
}

impl Read for Answer {
    /// No end before all of it has come.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 && self.is_chunked && !self.is_whole {
            self.next_chunk()?;
        }
        if self.is_whole {
            return Ok(0);
        }
        let room = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.connection.read(&mut buffer[..room])?;
        if count == 0 && room > 0 {
            let words = "the agent ended before it had answered in full: its log says why";
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, words));
        }
        self.left -= count as u64;
        if self.left == 0 && self.is_chunked {
            self.line()?;
        }
        self.is_whole = self.left == 0 && !self.is_chunked;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(bytes: &'static [u8]) -> Result<Answer, String> {
        let (mut agent, stream) = UnixStream::pair().unwrap();
        agent.write_all(bytes).unwrap();
        Answer::read(stream)
    }

    fn all(bytes: &'static [u8]) -> Result<Vec<u8>, String> {
        let mut body = Vec::new();
        let mut answer = answer(bytes)?.body()?;
        answer.read_to_end(&mut body).map(|_| body).map_err(|error| error.to_string())
    }

    const CHUNKED: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n";

    #[test]
    fn an_answer_is_whole_or_an_error() {
        let whole: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc";
        assert_eq!(all(whole), Ok(b"abc".to_vec()));
        let chunks =
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n";
        assert_eq!(all(chunks), Ok(b"abc".to_vec()));
        assert_eq!(all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"), Ok(Vec::new()));
        for cut in [&whole[..whole.len() - 1], CHUNKED] {
            let words = all(cut).unwrap_err();
            assert!(words.contains("ended before") || words.contains("end of file"), "{words}");
        }
    }

    #[test]
    fn the_reason_of_a_copy_without_end_is_told() {
        let bytes = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Understudy-Error: too slow\r\n\r\n";
        assert_eq!(all(bytes), Err(String::from("too slow")));
        let refused = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 5\r\n\r\nwords";
        assert_eq!(all(refused), Err(String::from("words")));
    }
}
