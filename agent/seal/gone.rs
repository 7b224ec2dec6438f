//! "Am I still one of you?": what a board that hears nobody asks of those it knows as
//! members, and a board that was removed is told. It may have no key of the group any
//! more that the others have not forgotten, so neither goes through a session.
//!
//! Question: kind, the group's tag (4), who asks (32), padding; nothing in it is proven.
//! Answer: kind, the tag, and an empty message of Noise's one-way pattern X (revision
//! 34, section 7.4) from a member's static key to the asker's: only a member can make
//! it, and only who asked can read it. That somebody was removed stays true, so that an
//! old answer says nothing wrong. Only who was removed is answered, at the cost of no
//! more than a look at a list for anybody else, and no answer is longer than its
//! question; answers and what is read of them are rationed.

use snow::Builder;
use understudy_core::{
    event::{Millis, NodeId},
    member::PublicKey,
};

use super::{Address, Drop, GONE, GONE_ASKED, Keys, Opened, Outgoing, Seal, To, x_builder};

const TAG_END: usize = 5;
const KEY_END: usize = TAG_END + 32;

/// What pattern X makes of nothing: two keys, two tags.
const NOISE_BYTES: usize = 96;

/// Length of a question, and of an answer.
const BYTES: usize = TAG_END + NOISE_BYTES;

fn prologue(keys: &Keys) -> Vec<u8> {
    [b"gone".as_slice(), &keys.group].concat()
}

impl Seal {
    /// Asks all members that this board knows of.
    pub fn ask_whether_gone(&self, out: &mut Vec<Outgoing>) {
        let mut question = vec![GONE_ASKED];
        question.extend(self.tag);
        question.extend(self.public_key);
        question.resize(BYTES, 0);
        let to = |node: &NodeId| Outgoing { to: To::Node(*node), datagram: question.clone() };
        out.extend(self.nodes.keys().map(to));
    }

    pub(super) fn on_gone_asked(
        &mut self,
        now: Millis,
        question: &[u8],
        source: Address,
        out: &mut Vec<Outgoing>,
    ) -> Result<Opened, Drop> {
        self.check_gone(question)?;
        let asker: PublicKey =
            question[TAG_END..KEY_END].try_into().map_err(|_| Drop::Malformed)?;
        if !self.removed.contains(&asker) {
            return Err(Drop::Unknown);
        }
        self.farewells.spend(now)?;
        let prologue = prologue(&self.keys);
        let builder = x_builder(&self.keys, &prologue).remote_public_key(&asker);
        let handshake = builder.and_then(Builder::build_initiator);
        let mut handshake = handshake.map_err(|_| Drop::Malformed)?;
        let mut noise = [0; NOISE_BYTES];
        handshake.write_message(&[], &mut noise).map_err(|_| Drop::Malformed)?;
        let mut answer = vec![GONE];
        answer.extend(self.tag);
        answer.extend(noise);
        assert!(answer.len() <= question.len(), "no answer is longer than its question");
        out.push(Outgoing { to: To::Address(source), datagram: answer });
        Ok(Opened::Nothing)
    }

    pub(super) fn on_gone(&mut self, now: Millis, answer: &[u8]) -> Result<Opened, Drop> {
        self.check_gone(answer)?;
        self.farewells.spend(now)?;
        let prologue = prologue(&self.keys);
        let handshake = x_builder(&self.keys, &prologue).build_responder();
        let mut handshake = handshake.map_err(|_| Drop::Malformed)?;
        handshake.read_message(&answer[TAG_END..], &mut [0; BYTES]).map_err(|_| Drop::Forged)?;
        let by = handshake.get_remote_static().ok_or(Drop::Forged)?;
        match self.nodes.values().any(|key| key == by) {
            true => Ok(Opened::Gone),
            false => Err(Drop::Unknown),
        }
    }

    fn check_gone(&self, datagram: &[u8]) -> Result<(), Drop> {
        if datagram.len() != BYTES {
            return Err(Drop::Malformed);
        }
        if datagram[1..TAG_END] != self.tag {
            return Err(Drop::Foreign);
        }
        Ok(())
    }
}
