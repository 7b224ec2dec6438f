//! A group's new key, sealed to one member: Noise's one-way pattern N
//! (noiseprotocol.org, revision 34, section 7.4) to its static key. Who made it is not
//! shown here: it comes in an entry of the log.

use snow::{Builder, HandshakeState};
use understudy_core::{limits::KEY_COPY_BYTES, member::PublicKey};

use crate::identity::GroupId;

const PATTERN: &str = "Noise_N_25519_ChaChaPoly_BLAKE2s";

const KEY_BYTES: usize = 32;

/// A copy of one key of one group is none of another.
fn prologue(group: &GroupId, number: u32) -> Vec<u8> {
    [b"group key".as_slice(), group, &number.to_le_bytes()].concat()
}

fn builder(prologue: &[u8]) -> Builder<'_> {
    let pattern = PATTERN.parse().expect("the pattern is well-formed");
    Builder::new(pattern).prologue(prologue).expect("it is set once")
}

/// The group's key of that number, for the holder of `member` alone; none where that
/// is no key.
#[must_use]
pub fn seal_copy(
    group: &GroupId,
    member: &PublicKey,
    number: u32,
    key: &[u8; KEY_BYTES],
) -> Option<Vec<u8>> {
    let prologue = prologue(group, number);
    let builder = builder(&prologue).remote_public_key(member).ok()?;
    let mut handshake: HandshakeState = builder.build_initiator().ok()?;
    let mut copy = vec![0; KEY_COPY_BYTES];
    let bytes = handshake.write_message(key, &mut copy).ok()?;
    (bytes == KEY_COPY_BYTES).then_some(copy)
}

/// What stands in a copy that was sealed to this board; none where it was not.
#[must_use]
pub fn open_copy(
    group: &GroupId,
    private_key: &[u8; 32],
    number: u32,
    copy: &[u8],
) -> Option<[u8; KEY_BYTES]> {
    if copy.len() != KEY_COPY_BYTES {
        return None;
    }
    let prologue = prologue(group, number);
    let builder = builder(&prologue).local_private_key(private_key).ok()?;
    let mut handshake = builder.build_responder().ok()?;
    let mut key = [0; KEY_COPY_BYTES];
    let bytes = handshake.read_message(copy, &mut key).ok()?;
    if bytes == KEY_BYTES { key.first_chunk().copied() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::public_key;

    #[test]
    fn a_copy_opens_for_its_board_its_group_and_its_number_alone() {
        let member = public_key(&[7; 32]);
        let copy = seal_copy(&[1; 16], &member, 3, &[9; 32]).unwrap();
        assert_eq!(copy.len(), KEY_COPY_BYTES);
        assert_eq!(open_copy(&[1; 16], &[7; 32], 3, &copy), Some([9; 32]));
        assert_eq!(open_copy(&[1; 16], &[8; 32], 3, &copy), None);
        assert_eq!(open_copy(&[2; 16], &[7; 32], 3, &copy), None);
        assert_eq!(open_copy(&[1; 16], &[7; 32], 4, &copy), None);
        for at in 0..copy.len() {
            let mut damaged = copy.clone();
            damaged[at] ^= 1;
            assert_eq!(open_copy(&[1; 16], &[7; 32], 3, &damaged), None, "byte {at}");
            assert_eq!(open_copy(&[1; 16], &[7; 32], 3, &copy[..at]), None);
        }
        assert_ne!(copy, seal_copy(&[1; 16], &member, 3, &[9; 32]).unwrap(), "each is its own");
    }
}
