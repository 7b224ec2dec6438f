//! The word that an agent has ended, said by its parent, which has no session: written
//! while the agent lives, and sent only when it does not.
//!
//! Kind, the group's tag (4), and a message of Noise's one-way pattern X (revision 34,
//! section 7.4) from the board's static key to the receiver's: only the board can have
//! made it. In it: which start, and whether all that it ran has ended too. What it says
//! stays true for ever, so an old one that comes again says nothing wrong.

use understudy_core::{duty::Incarnation, event::Millis, member::PublicKey};

use super::{Drop, OBITUARY, Opened, Seal, x_builder};

/// Start, its nonce, and how much has ended.
const WORD_BYTES: usize = 8 + 8 + 1;

const TAG_END: usize = 5;

/// What pattern X makes of it: two keys, two tags.
const NOISE_BYTES: usize = 96 + WORD_BYTES;

const BYTES: usize = TAG_END + NOISE_BYTES;

const PURPOSE: &[u8] = b"obituary";

impl Seal {
    /// The word that this start of this board has ended, for that member: its agent alone,
    /// or `with_all` that it ran. None where the key is no key.
    #[must_use]
    pub fn obituary(
        &self,
        to: &PublicKey,
        (boot, nonce): (u64, u64),
        with_all: bool,
    ) -> Option<Vec<u8>> {
        let prologue = [PURPOSE, &self.keys.group].concat();
        let builder = x_builder(&self.keys, &prologue).remote_public_key(to).ok()?;
        let mut handshake = builder.build_initiator().ok()?;
        let mut word = [0; WORD_BYTES];
        word[..8].copy_from_slice(&boot.to_le_bytes());
        word[8..16].copy_from_slice(&nonce.to_le_bytes());
        word[16] = u8::from(with_all);
        let mut noise = [0; NOISE_BYTES];
        handshake.write_message(&word, &mut noise).ok()?;
        Some([&[OBITUARY], self.tag.as_slice(), &noise].concat())
    }

    pub(super) fn on_obituary(&mut self, now: Millis, datagram: &[u8]) -> Result<Opened, Drop> {
        if datagram.len() != BYTES {
            return Err(Drop::Malformed);
        }
        if datagram[1..TAG_END] != self.tag {
            return Err(Drop::Foreign);
        }
        self.obituaries.spend(now)?;
        let prologue = [PURPOSE, &self.keys.group].concat();
        let handshake = x_builder(&self.keys, &prologue).build_responder();
        let mut handshake = handshake.map_err(|_| Drop::Malformed)?;
        let mut word = [0; BYTES];
        let bytes = handshake.read_message(&datagram[TAG_END..], &mut word);
        let bytes = bytes.map_err(|_| Drop::Forged)?;
        let by = handshake.get_remote_static().ok_or(Drop::Forged)?;
        let board = self.nodes.iter().find(|(_, key)| key.as_slice() == by);
        let board = *board.ok_or(Drop::Unknown)?.0;
        let word: [u8; WORD_BYTES] = word[..bytes].try_into().map_err(|_| Drop::Malformed)?;
        let number = |from: usize| {
            let bytes = word[from..from + 8].try_into();
            u64::from_le_bytes(bytes.expect("there are as many"))
        };
        let start = Incarnation { board, boot: number(0), nonce: number(8) };
        Ok(Opened::Obituary { start, with_all: word[16] == 1 })
    }
}
