//! The listening socket, and who may stand at it: so many callers at a time, each
//! for as long as it goes on asking and taking its answers. One too many is told
//! so and hung up on.
//!
//! Requests that hyper refuses before there is a request (a URL or a head over
//! its bounds) it answers with a bare status line; callers get the limit named
//! instead. Nothing else that passes is touched.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{Router, serve::Listener};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::Sleep,
};
use understudy_core::event::Millis;

use super::limits::{Bounds, HEAD_BYTES_MAX, REFUSAL, REFUSALS_MAX, URL_BYTES_MAX, patience_ms};
use crate::driver::clock;

/// A bare status line, its date and length are shorter than this, bytes.
const BARE_BYTES_MAX: usize = 256;

/// Serves until the runtime ends.
pub(super) async fn serve(mut listener: TcpListener, router: Router, bounds: Bounds) {
    let places = Arc::new(Semaphore::new(bounds.connections_max));
    let refusals = Arc::new(Semaphore::new(REFUSALS_MAX));
    loop {
        let (stream, _) = Listener::accept(&mut listener).await;
        if let Ok(place) = Arc::clone(&places).try_acquire_owned() {
            let router = router.clone();
            tokio::spawn(async move {
                // Without it small answers wait for the peer's acknowledgement.
                let _ = stream.set_nodelay(true);
                converse(stream, router, bounds).await;
                drop(place);
            });
        } else if let Ok(place) = Arc::clone(&refusals).try_acquire_owned() {
            tokio::spawn(async move {
                // Who does not listen is hung up on all the same.
                let _ = tokio::time::timeout(REFUSAL, refuse(stream, &bounds)).await;
                drop(place);
            });
        }
    }
}

/// Serves one caller, whatever way it came in.
pub(super) async fn converse<S>(stream: S, router: Router, bounds: Bounds)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let visitor = Visitor { stream, words: Vec::new(), silence: bounds.silence, slow: None };
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(bounds.head)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(visitor), TowerToHyperService::new(router));
    // How a caller goes away is its own affair.
    let _ = served.await;
}

/// Says why, and listens until the caller has heard it: a reset would take the
/// words back.
async fn refuse(mut stream: TcpStream, bounds: &Bounds) -> io::Result<()> {
    let reason = format!(
        "this board serves {} connections already, and that is its limit: close some, or try again",
        bounds.connections_max
    );
    stream.write_all(&refusal("503 Service Unavailable", &reason)).await?;
    stream.shutdown().await?;
    let mut unheard = [0; 1_024];
    while stream.read(&mut unheard).await? > 0 {}
    Ok(())
}

fn refusal(status: &str, reason: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/plain; charset=utf-8\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n{reason}",
        reason.len()
    )
    .into_bytes()
}

/// One caller's connection.
struct Visitor<S> {
    stream: S,
    /// What goes out in place of a bare refusal.
    words: Vec<u8>,
    silence: Duration,
    slow: Option<Slow>,
}

/// An answer that does not leave at once.
struct Slow {
    since: Millis,
    taken: u64,
    look: Pin<Box<Sleep>>,
}

impl<S> Visitor<S> {
    /// Waits for a caller that takes its answer, and gives up one that does not.
    fn watch(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(written) = written {
            if let (Ok(bytes), Some(slow)) = (&written, &mut self.slow) {
                slow.taken += *bytes as u64;
            }
            return Poll::Ready(written);
        }
        let silence = self.silence;
        let slow = self.slow.get_or_insert_with(|| Slow {
            since: clock::now(),
            taken: 0,
            look: Box::pin(tokio::time::sleep(silence)),
        });
        while slow.look.as_mut().poll(context).is_ready() {
            let patience_ms = patience_ms(silence, slow.taken);
            let left_ms = patience_ms.saturating_sub(clock::now().since(slow.since));
            if left_ms == 0 {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            slow.look = Box::pin(tokio::time::sleep(Duration::from_millis(left_ms)));
        }
        Poll::Pending
    }
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
    Some(refusal(status, &reason))
}

impl<S: AsyncRead + Unpin> AsyncRead for Visitor<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Visitor<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.words.is_empty() {
            let Some(words) = in_words(bytes) else {
                let written = Pin::new(&mut this.stream).poll_write(context, bytes);
                return this.watch(context, written);
            };
            this.words = words;
        }
        while !this.words.is_empty() {
            let written = Pin::new(&mut this.stream).poll_write(context, &this.words);
            let written = ready!(this.watch(context, written))?;
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
            _ => {
                let this = &mut *self;
                let written = Pin::new(&mut this.stream).poll_write_vectored(context, parts);
                this.watch(context, written)
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // All of an answer has left.
        self.slow = None;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
