//! The datagram socket: as many lines to a datagram as fit, and nobody to answer.
//!
//! Datagrams are handed on as they come, without waiting for what becomes of those
//! before; so many readings may be under way, then the socket is not read, and callers
//! wait in their own write as soon as the system's queue is full. What is wrong is
//! counted and said in the log now and then.

use std::{io, sync::Arc};

use rustix::net::{RecvFlags, recv};
use tokio::{io::Interest, net::UnixDatagram, sync::Semaphore};
use tracing::warn;
use understudy_core::{event::Millis, limits::BATCH_READINGS_MAX, readings::Level};

use super::{
    desk::{Desk, Message, Told},
    limits::{COMPLAINT_MS, DATAGRAM_BYTES_MAX, DATAGRAM_READINGS_OPEN_MAX},
};
use crate::driver::{
    clock,
    socket::{Kept, LOOK},
};

/// The name of the socket in its folder.
pub const NAME: &str = "readings.sock";

/// Serves until the runtime ends, or the agent stops.
pub async fn serve(mut socket: Kept<UnixDatagram>, desk: Desk) {
    let room = Arc::new(Semaphore::new(DATAGRAM_READINGS_OPEN_MAX));
    let complaints = Arc::new(std::sync::Mutex::new(Complaints::default()));
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        let received = tokio::select! {
            received = receive(socket.get(), &mut buffer) => received,
            () = tokio::time::sleep(LOOK) => {
                socket.look();
                said(&complaints, &[]);
                continue;
            }
        };
        let Ok(length) = received else {
            tokio::time::sleep(LOOK).await;
            continue;
        };
        let mut message = Message::default();
        read(&mut message, &buffer, length);
        while message.readings_count() < BATCH_READINGS_MAX {
            let Ok(length) = try_receive(socket.get(), &mut buffer) else { break };
            read(&mut message, &buffer, length);
        }
        let count = message.readings_count().clamp(1, DATAGRAM_READINGS_OPEN_MAX);
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        let Ok(place) = Arc::clone(&room).acquire_many_owned(count).await else { return };
        let Some(pending) = desk.begin(message, Level::Spooled).await else { return };
        let (desk, complaints) = (desk.clone(), Arc::clone(&complaints));
        tokio::spawn(async move {
            if let Some(Told { refused, .. }) = desk.end(pending).await {
                said(&complaints, &refused);
            }
            drop(place);
        });
    }
}

/// The next datagram, and how long it was as it was sent.
async fn receive(socket: &UnixDatagram, buffer: &mut [u8]) -> io::Result<usize> {
    socket.async_io(Interest::READABLE, || received(socket, buffer)).await
}

fn try_receive(socket: &UnixDatagram, buffer: &mut [u8]) -> io::Result<usize> {
    socket.try_io(Interest::READABLE, || received(socket, buffer))
}

fn received(socket: &UnixDatagram, buffer: &mut [u8]) -> io::Result<usize> {
    let (_, length) = recv(socket, buffer, RecvFlags::TRUNC | RecvFlags::DONTWAIT)?;
    Ok(length)
}

/// The lines of a datagram; of one that is too long those that came whole.
fn read(message: &mut Message, buffer: &[u8], length: usize) {
    let mut bytes = buffer.get(..length).unwrap_or(buffer);
    if length > bytes.len() {
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        bytes = &bytes[..whole];
    }
    let mut number = 0;
    for line in bytes.split(|byte| *byte == b'\n') {
        number += 1;
        message.line(number, line, None);
    }
    if length > buffer.len() {
        let reason = format!(
            "the datagram has {length} bytes, {DATAGRAM_BYTES_MAX} are taken: what is from this \
             line on is lost"
        );
        message.error(number, reason);
    }
}

/// What is to be said in the log.
#[derive(Default)]
struct Complaints {
    said: Option<Millis>,
    lines: u64,
    first: Option<String>,
}

impl Complaints {
    /// More of them; what is to be said now, if anything.
    fn add(&mut self, now: Millis, refused: &[(u64, String)]) -> Option<(u64, String)> {
        if let (None, Some((line, reason))) = (&self.first, refused.first()) {
            self.first = Some(format!("line {line}: {reason}"));
        }
        self.lines += refused.len() as u64;
        if self.said.is_some_and(|said| now.since(said) < COMPLAINT_MS) {
            return None;
        }
        let first = self.first.take()?;
        self.said = Some(now);
        Some((std::mem::take(&mut self.lines), first))
    }
}

fn said(complaints: &std::sync::Mutex<Complaints>, refused: &[(u64, String)]) {
    let mut complaints = complaints.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some((lines, first)) = complaints.add(clock::now(), refused) {
        warn!(lines, first, "lines of datagrams were not taken");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_datagram_that_is_too_long_the_whole_lines_count() {
        let mut buffer = b"a 1\nb 2\nc 3".to_vec();
        let mut message = Message::default();
        read(&mut message, &buffer, buffer.len());
        assert_eq!((message.readings_count(), message.errors_count()), (3, 0));
        let mut message = Message::default();
        read(&mut message, &buffer, 5_000);
        assert_eq!((message.readings_count(), message.errors_count()), (2, 1));
        buffer.truncate(3);
        let mut message = Message::default();
        read(&mut message, &buffer, 5_000);
        assert_eq!((message.readings_count(), message.errors_count()), (0, 1));
    }

    #[test]
    fn the_log_is_told_of_the_first_at_once_and_of_the_others_now_and_then() {
        let mut complaints = Complaints::default();
        let bad = |reason: &str| [(2, reason.to_owned())];
        assert_eq!(complaints.add(Millis(5), &[]), None);
        let said = complaints.add(Millis(5), &bad("x"));
        assert_eq!(said, Some((1, String::from("line 2: x"))));
        assert_eq!(complaints.add(Millis(6), &bad("y")), None);
        assert_eq!(complaints.add(Millis(7), &bad("z")), None);
        let said = complaints.add(Millis(5 + COMPLAINT_MS), &[]);
        assert_eq!(said, Some((2, String::from("line 2: y"))));
    }
}
