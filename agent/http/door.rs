//! The listening socket. Requests that hyper refuses before there is a request
//! (a URL or a head over its bounds) it answers with a bare status line; callers
//! get the limit named instead. Nothing else that passes is touched.

use std::{
    io::{self, IoSlice},
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll, ready},
};

use axum::serve::Listener;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
};

/// The longest URL that hyper takes, bytes.
const URL_BYTES_MAX: usize = 65_534;

/// A bare status line, its date and length are shorter than this, bytes.
const BARE_BYTES_MAX: usize = 256;

/// Accepts callers.
pub(super) struct Door(pub(super) TcpListener);

impl Listener for Door {
    type Io = Visitor;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Visitor, SocketAddr) {
        let (stream, address) = Listener::accept(&mut self.0).await;
        // Without it small answers wait for the peer's acknowledgement.
        let _ = stream.set_nodelay(true);
        (Visitor { stream, words: Vec::new() }, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

/// One caller's connection.
pub(super) struct Visitor {
    stream: TcpStream,
    /// What goes out in place of a bare refusal.
    words: Vec<u8>,
}

/// The refusal in words, when these bytes are one without.
fn in_words(bytes: &[u8]) -> Option<Vec<u8>> {
    let is_bare = bytes.len() < BARE_BYTES_MAX
        && bytes.ends_with(b"\r\n\r\n")
        && bytes.windows(17).any(|part| part == b"content-length: 0");
    let status = bytes.strip_prefix(b"HTTP/1.1 ").filter(|_| is_bare)?;
    let (status, reason) = match status.get(..3)? {
        b"414" => (
            "414 URI Too Long",
            format!("the URL is longer than {URL_BYTES_MAX} bytes: POST the statements as a body"),
        ),
        b"431" => (
            "431 Request Header Fields Too Large",
            String::from("the request has more or longer header fields than are taken"),
        ),
        _ => return None,
    };
    let response = format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/plain; charset=utf-8\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n{reason}",
        reason.len()
    );
    Some(response.into_bytes())
}

impl AsyncRead for Visitor {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Visitor {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.words.is_empty() {
            let Some(words) = in_words(bytes) else {
                return Pin::new(&mut self.stream).poll_write(context, bytes);
            };
            self.words = words;
        }
        while !self.words.is_empty() {
            let this = &mut *self;
            let written = ready!(Pin::new(&mut this.stream).poll_write(context, &this.words))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            this.words.drain(..written);
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match parts {
            [only] => self.poll_write(context, only),
            _ => Pin::new(&mut self.stream).poll_write_vectored(context, parts),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
