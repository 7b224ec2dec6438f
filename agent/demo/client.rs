//! A small HTTP client: one kept connection, one request at a time, JSON both
//! ways. Enough for a demonstration against an agent on this machine.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use serde_json::Value;

/// Longest answer taken, bytes.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// One agent, as a caller sees it.
pub(super) struct Client {
    address: SocketAddr,
    timeout: Duration,
    connection: Option<BufReader<TcpStream>>,
}

impl Client {
    pub(super) const fn new(address: SocketAddr, timeout: Duration) -> Self {
        Self { address, timeout, connection: None }
    }

    /// Writes; an error when it is not known to be done.
    pub(super) fn execute(&mut self, statements: &Value) -> Result<(), String> {
        self.results("/db/execute?transaction", statements).map(drop)
    }

    /// Reads the rows this board holds: a statement and its parameters.
    pub(super) fn query(&mut self, statement: &Value) -> Result<Vec<Value>, String> {
        let results = self.results("/db/query?level=none", &serde_json::json!([statement]))?;
        let values = results.first().and_then(|result| result.get("values"));
        Ok(values.and_then(Value::as_array).cloned().unwrap_or_default())
    }

    fn results(&mut self, path: &str, body: &Value) -> Result<Vec<Value>, String> {
        let answer = self.post(path, body.to_string().as_bytes()).map_err(|error| {
            self.connection = None;
            error.to_string()
        })?;
        let answer: Value = serde_json::from_slice(&answer)
            .map_err(|_| String::from_utf8_lossy(&answer).into_owned())?;
        let results = answer.get("results").and_then(Value::as_array).cloned().unwrap_or_default();
        let all = std::iter::once(&answer).chain(&results);
        match all.filter_map(|part| part.get("error")).find_map(Value::as_str) {
            Some(error) => Err(error.to_owned()),
            None => Ok(results),
        }
    }

    fn post(&mut self, path: &str, body: &[u8]) -> io::Result<Vec<u8>> {
        if self.connection.is_none() {
            let stream = TcpStream::connect_timeout(&self.address, self.timeout)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(self.timeout))?;
            stream.set_write_timeout(Some(self.timeout))?;
            self.connection = Some(BufReader::new(stream));
        }
        let Some(connection) = &mut self.connection else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\n\r\n",
            self.address,
            body.len()
        );
        connection.get_mut().write_all(&[head.as_bytes(), body].concat())?;
        let mut length = 0;
        loop {
            let mut line = String::new();
            if connection.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let line = line.trim_end().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().map_err(io::Error::other)?;
            }
        }
        if length > ANSWER_BYTES_MAX {
            return Err(io::Error::other("the answer is too long"));
        }
        let mut answer = vec![0; length];
        connection.read_exact(&mut answer)?;
        Ok(answer)
    }
}
