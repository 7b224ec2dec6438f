//! One session's transport: seals under a counter that only rises, opens each
//! counter once. Who may have a session, and when it takes over, is not known here.

use snow::StatelessTransportState;
use understudy_core::event::Millis;

use super::{
    DATA, DATA_HEADER_BYTES, Drop, TAG_BYTES,
    window::{AGE_MS_MAX, Window},
};
use crate::identity::GroupKey;

/// A session is made anew after so many messages, or so long.
const SESSION_MESSAGES_MAX: u64 = 1 << 40;
const SESSION_MS_MAX: u64 = 24 * 3_600_000;

pub(super) struct Session {
    transport: StatelessTransportState,
    /// What it was made under.
    pub(super) group_key: GroupKey,
    /// The number the peer expects.
    pub(super) remote: u32,
    pub(super) local: u32,
    counter: u64,
    window: Window,
    since: Millis,
    /// Since when its other end has used it, and so both have it.
    mutual: Option<Millis>,
    /// When it did so last.
    heard: Option<Millis>,
}

impl Session {
    pub(super) fn new(
        transport: StatelessTransportState,
        group_key: GroupKey,
        (local, remote): (u32, u32),
        now: Millis,
    ) -> Self {
        Self {
            transport,
            group_key,
            remote,
            local,
            counter: 0,
            window: Window::default(),
            since: now,
            mutual: None,
            heard: None,
        }
    }

    /// Do both ends have it?
    pub(super) const fn is_mutual(&self) -> bool {
        self.mutual.is_some()
    }

    /// Has it been heard for a while, and since the other was: is that left for good? Two boards
    /// that have each called the other may each speak in the session that the other has left.
    pub(super) fn outdates(&self, now: Millis, other: &Self) -> bool {
        let is_known = self.mutual.is_some_and(|since| now.since(since) >= AGE_MS_MAX);
        is_known && self.heard > other.heard
    }

    pub(super) const fn is_older_than(&self, other: &Self) -> bool {
        other.since.since(self.since) > 0
    }

    pub(super) fn is_worn(&self, now: Millis) -> bool {
        self.counter >= SESSION_MESSAGES_MAX || now.since(self.since) >= SESSION_MS_MAX
    }

    pub(super) fn seal(&mut self, payload: &[u8]) -> Vec<u8> {
        let mut datagram = vec![0; DATA_HEADER_BYTES + payload.len() + TAG_BYTES];
        datagram[0] = DATA;
        datagram[1..5].copy_from_slice(&self.remote.to_le_bytes());
        datagram[5..DATA_HEADER_BYTES].copy_from_slice(&self.counter.to_le_bytes());
        let sealed =
            self.transport.write_message(self.counter, payload, &mut datagram[DATA_HEADER_BYTES..]);
        sealed.expect("the payload is bounded and the counter far from its end");
        self.counter += 1;
        datagram
    }

    pub(super) fn open(&mut self, now: Millis, datagram: &[u8]) -> Result<Vec<u8>, Drop> {
        let counter =
            datagram[5..DATA_HEADER_BYTES].try_into().map_or(u64::MAX, u64::from_le_bytes);
        if !self.window.is_fresh(now, counter) {
            return Err(Drop::Replayed);
        }
        let mut payload = vec![0; datagram.len() - DATA_HEADER_BYTES - TAG_BYTES];
        self.transport
            .read_message(counter, &datagram[DATA_HEADER_BYTES..], &mut payload)
            .map_err(|_| Drop::Forged)?;
        self.window.take(counter);
        self.mutual.get_or_insert(now);
        self.heard = Some(now);
        Ok(payload)
    }
}
