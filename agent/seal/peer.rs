//! All that is between this board and one other key: sessions in use, in the
//! making and replaced, this board's own calls, and who owes whom a word.
//!
//! A call that is not answered is made anew, each time later, and its answer may
//! still come when the next is under way already: on a slow road it always does.
//! So a few calls stay open, and as many sessions in the making are kept at their
//! other end. There the highest numbers stay; one lower than all of them, which
//! may be a replay, has the last place and takes it from nothing but its like.

use std::collections::VecDeque;

use snow::HandshakeState;
use understudy_core::{
    event::{Millis, NodeId},
    mutant,
};

use super::{Drop, handshake::Number, session::Session};
use crate::identity::GroupKey;

/// Payloads kept while a session is being made.
const HELD_MAX: usize = 16;

/// Calls waiting for an answer, and the sessions they may become.
pub(super) const CALLS_OPEN_MAX: usize = 4;
pub(super) const NEXT_MAX: usize = CALLS_OPEN_MAX + 1;

/// A call not answered for so long is made anew; then after twice that, and so on
/// up to the second.
const CALL_RETRY_MS: u64 = 500;
const CALL_RETRY_MS_MAX: u64 = 4_000;

/// Calls that both ends begin within this count as made at once.
pub(super) const SIMULTANEOUS_MS: u64 = 1_000;

/// Between two greetings of a member without a session.
pub(super) const GREET_MS: u64 = 1_000;

/// Who has heard something and has nothing to say says so after this.
pub(super) const WORD_MS: u64 = 2_000;

/// Whoever is spoken to and says nothing for so long has lost the session, or
/// moved: well above [`WORD_MS`] and the way there and back.
pub(super) const SILENT_MS: u64 = 10_000;

/// This board's calls to one peer, the first of which began it.
struct Calls {
    begun: Millis,
    sent: Millis,
    wait_ms: u64,
    made: usize,
    open: VecDeque<Open>,
}

/// A call that may still be answered.
struct Open {
    local: u32,
    handshake: Box<HandshakeState>,
    group_key: GroupKey,
}

/// See the module's description.
pub(super) struct Peer {
    pub(super) node: Option<NodeId>,
    pub(super) session: Option<Session>,
    /// Answered by us, the highest number first; one takes over with its first
    /// valid message.
    next: Vec<(Number, Session)>,
    /// Replaced; what was under way on it still counts for a while.
    last: Option<Session>,
    calls: Option<Calls>,
    held: VecDeque<Vec<u8>>,
    heard: Millis,
    greeted: Option<Millis>,
    /// Since when it waits for a word of ours, and we for one of its.
    owing: Option<Millis>,
    unanswered: Option<Millis>,
}

/// What a member is due when it is greeted.
pub(super) enum Due {
    Nothing,
    Word,
    Call,
}

impl Peer {
    pub(super) const fn new(now: Millis) -> Self {
        Self {
            node: None,
            session: None,
            next: Vec::new(),
            last: None,
            calls: None,
            held: VecDeque::new(),
            heard: now,
            greeted: None,
            owing: None,
            unanswered: None,
        }
    }

    pub(super) const fn silent_ms(&self, now: Millis) -> u64 {
        now.since(self.heard)
    }

    /// Number of the key that its session was made under.
    pub(super) fn session_key(&self) -> Option<u32> {
        self.session.as_ref().map(|session| session.group_key.number)
    }

    /// Of the keys to call under, the place of the next: the first to replace a session
    /// that is still heard, else each in turn until one is answered.
    pub(super) fn turn(&self, now: Millis) -> usize {
        let is_silent = self.unanswered.is_some_and(|since| now.since(since) >= SILENT_MS);
        match &self.calls {
            Some(calls) if is_silent || self.session.is_none() => calls.made,
            Some(_) | None => 0,
        }
    }

    /// Ends all that was made under other keys than these.
    pub(super) fn keep_keys(&mut self, known: &[GroupKey]) {
        let is_kept = |session: &Session| known.contains(&session.group_key) || mutant::is(63);
        self.session.take_if(|session| !is_kept(session));
        self.last.take_if(|session| !is_kept(session));
        self.next.retain(|(_, session)| is_kept(session));
        if let Some(calls) = &mut self.calls {
            calls.open.retain(|open| known.contains(&open.group_key));
        }
    }

    /// Is that number of a session or a call still in use?
    pub(super) fn uses(&self, local: u32) -> bool {
        let sessions = self.session.iter().chain(&self.last);
        let sessions = sessions.chain(self.next.iter().map(|(_, session)| session));
        let calls = self.calls.iter().flat_map(|calls| &calls.open);
        sessions
            .map(|session| session.local)
            .chain(calls.map(|open| open.local))
            .any(|used| used == local)
    }

    /// Keeps a payload until there is a session.
    pub(super) fn hold(&mut self, payload: &[u8]) -> Result<(), Drop> {
        if self.held.len() >= HELD_MAX {
            return Err(Drop::Unsent);
        }
        self.held.push_back(payload.to_vec());
        Ok(())
    }

    /// Does something wait for the session there is?
    pub(super) fn has_held(&self) -> bool {
        self.session.is_some() && !self.held.is_empty()
    }

    /// Seals what was held and this, if there is a session; true when that is
    /// worn and wants to be replaced.
    pub(super) fn seal(&mut self, now: Millis, payload: &[u8], out: &mut Vec<Vec<u8>>) -> bool {
        let Some(session) = &mut self.session else { return false };
        let held = std::mem::take(&mut self.held);
        let payloads = held.iter().map(Vec::as_slice).chain(std::iter::once(payload));
        out.extend(payloads.map(|payload| session.seal(payload)));
        self.owing = None;
        // A session that only this end may have wants an answer to any word.
        if !payload.is_empty() || !held.is_empty() || !session.is_mutual() {
            self.unanswered.get_or_insert(now);
        }
        session.is_worn(now)
    }

    /// What it is due, now and then: a restarted board may wait to be spoken to,
    /// the message that completes a session may have been lost, and so may a
    /// whole session where one end was restarted under another address.
    pub(super) fn due(&mut self, now: Millis) -> Due {
        let longer = |since: Option<Millis>, ms| since.is_some_and(|since| now.since(since) >= ms);
        if longer(self.unanswered, SILENT_MS) && !mutant::is(135) {
            return Due::Call;
        }
        if self.session.as_ref().is_some_and(Session::is_mutual) {
            return if longer(self.owing, WORD_MS) { Due::Word } else { Due::Nothing };
        }
        if self.greeted.is_some_and(|greeted| now.since(greeted) < GREET_MS) {
            return Due::Nothing;
        }
        self.greeted = Some(now);
        if self.session.is_some() { Due::Word } else { Due::Call }
    }

    /// May a call be made now? One that is young is waited for.
    pub(super) fn may_call(&self, now: Millis) -> bool {
        self.calls.as_ref().is_none_or(|calls| now.since(calls.sent) >= calls.wait_ms)
    }

    /// Has this board just begun to call?
    pub(super) fn has_just_called(&self, now: Millis) -> bool {
        self.calls.as_ref().is_some_and(|calls| now.since(calls.begun) < SIMULTANEOUS_MS)
    }

    /// A call was made.
    pub(super) fn called(
        &mut self,
        now: Millis,
        local: u32,
        handshake: HandshakeState,
        group_key: GroupKey,
    ) {
        let calls = self.calls.get_or_insert_with(|| Calls {
            begun: now,
            sent: now,
            wait_ms: CALL_RETRY_MS / 2,
            made: 0,
            open: VecDeque::new(),
        });
        calls.sent = now;
        calls.wait_ms = (2 * calls.wait_ms).min(CALL_RETRY_MS_MAX);
        if calls.open.len() >= CALLS_OPEN_MAX {
            calls.open.pop_front();
        }
        calls.made += 1;
        calls.open.push_back(Open { local, handshake: Box::new(handshake), group_key });
    }

    /// One of them is answered: its session begins, and the others are void.
    pub(super) fn answered(
        &mut self,
        now: Millis,
        local: u32,
        remote: u32,
        noise: &[u8],
    ) -> Result<(), Drop> {
        let calls = self.calls.as_mut().ok_or(Drop::Unknown)?;
        let place = calls.open.iter().position(|open| open.local == local);
        let place = place.ok_or(Drop::Unknown)?;
        let mut payload = [0; super::handshake::CALL_BYTES];
        // One that cannot be read leaves the call open for the genuine one.
        let read = calls.open[place].handshake.read_message(noise, &mut payload);
        read.map_err(|_| Drop::Forged)?;
        let open = calls.open.remove(place).ok_or(Drop::Unknown)?;
        let transport = open.handshake.into_stateless_transport_mode();
        let transport = transport.map_err(|_| Drop::Forged)?;
        self.calls = None;
        self.heard(now, false);
        self.begin(Session::new(transport, open.group_key, (local, remote), now));
        Ok(())
    }

    /// A session in the making.
    pub(super) fn prepare(&mut self, number: Number, session: Session) {
        if mutant::is(65) {
            return self.begin(session);
        }
        if self.next.len() >= NEXT_MAX {
            self.next.pop();
        }
        let place = self.next.partition_point(|(known, _)| *known > number);
        self.next.insert(place, (number, session));
    }

    /// Opens what came on one of its sessions; the first on one in the making
    /// makes it the session.
    pub(super) fn open(
        &mut self,
        now: Millis,
        local: u32,
        datagram: &[u8],
    ) -> Result<Vec<u8>, Drop> {
        if self.has_left(now, local) {
            return Err(Drop::Replayed);
        }
        let next = self.next.iter_mut().map(|(_, session)| session);
        let known = self.session.iter_mut().chain(&mut self.last).chain(next);
        let session = known.into_iter().find(|session| session.local == local);
        let payload = session.ok_or(Drop::Unknown)?.open(now, datagram)?;
        self.heard(now, !payload.is_empty());
        if let Some(place) = self.next.iter().position(|(_, session)| session.local == local) {
            // Its caller has given up those it made before.
            let (_, session) = self.next.drain(place..).next().expect("just found");
            self.calls = None;
            self.begin(session);
            // Its other end does not know yet that both have it.
            self.owing.get_or_insert(now);
        }
        Ok(payload)
    }

    /// Was that session left so long ago that nothing which still comes on it counts?
    fn has_left(&self, now: Millis, local: u32) -> bool {
        let Some(session) = self.session.as_ref().filter(|_| !mutant::is(66)) else {
            return false;
        };
        let next = self.next.iter().map(|(_, next)| next);
        let older = next.filter(|next| next.is_older_than(session));
        let mut left = self.last.iter().chain(older);
        left.any(|left| left.local == local && session.outdates(now, left))
    }

    fn heard(&mut self, now: Millis, is_payload: bool) {
        self.heard = now;
        self.unanswered = None;
        if is_payload {
            self.owing.get_or_insert(now);
        }
    }

    fn begin(&mut self, session: Session) {
        self.last = self.session.replace(session);
    }
}
