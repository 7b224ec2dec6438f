//! What a payload looks like: its first byte names one of five kinds (the upper
//! four bits are the layout's version), all numbers are little-endian.
//!
//! ```text
//! single           kind, frame
//! pack             kind, (length 2, frame)...
//! fragment         kind, epoch 4, transfer 4, behind 1, sequence 4, frame bytes 4, number 2, piece
//! acknowledgement  kind, epoch 4, receiver 4, counter 4, sequence 4, held 1, settled 4,
//!                  (transfer 1, base 2, tail length 2, tail)...
//! ```
//!
//! Kinds 0x21 and 0x22 are probes of the agent's, which never come here but on a board
//! that does not know them.
//!
//! The pieces of a frame, one after the other, are the frame and its CRC32C.
//! All pieces but the last are of the same length, so a piece's place follows
//! from its number, and its length is checked.

use alloc::vec::Vec;

use super::bitmap::Bitmap;
use crate::{
    error::Rejection,
    limits::{
        FRAGMENT_BYTES, FRAGMENT_HEADER_BYTES, FRAGMENTS_MAX, FRAME_BYTES_MAX, FRAME_CHECK_BYTES,
        PAYLOAD_BYTES_MAX, TRANSFERS_MAX,
    },
};

const SINGLE: u8 = 0x11;
const PACK: u8 = 0x12;
const FRAGMENT: u8 = 0x13;
/// A fragment whose sender waits for an acknowledgement.
const FRAGMENT_ASKING: u8 = 0x14;
const ACKNOWLEDGEMENT: u8 = 0x15;

const ACKNOWLEDGEMENT_HEADER_BYTES: usize = 22;
const BLOCK_HEADER_BYTES: usize = 5;

/// Bytes of the longest frame that needs no fragments.
pub(super) const SINGLE_BYTES_MAX: usize = PAYLOAD_BYTES_MAX - 1;

/// Bytes a frame in a pack costs beyond its own.
pub(super) const PACK_ITEM_BYTES: usize = 2;

// Blocks for everything one peer may have under way fit one acknowledgement:
// every frame's bitmap wastes at most one fragment and one byte.
const _: () = assert!(
    ACKNOWLEDGEMENT_HEADER_BYTES
        + TRANSFERS_MAX * (BLOCK_HEADER_BYTES + 1)
        + (FRAGMENTS_MAX + TRANSFERS_MAX).div_ceil(8)
        <= PAYLOAD_BYTES_MAX
);

/// A payload, taken apart.
#[expect(clippy::large_enum_variant, reason = "it lives on the stack for one call")]
pub(super) enum Payload<'a> {
    /// Whole frames.
    Frames(Vec<Vec<u8>>),
    /// A piece of a large one.
    Fragment(Fragment<'a>),
    /// What a peer has of ours.
    Acknowledgement(Acknowledgement<'a>),
}

/// A piece of a large frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fragment<'a> {
    /// The sender's, drawn anew when it loses its memory.
    pub(super) epoch: u32,
    /// Counts frames in fragments within the epoch.
    pub(super) transfer: u32,
    /// How many transfers before this one the sender's oldest unsettled one is.
    pub(super) behind: u8,
    /// Counts fragments sent within the epoch, repeated ones too.
    pub(super) sequence: u32,
    /// Length of the whole frame, without its checksum.
    pub(super) frame_bytes: usize,
    /// Which piece, from 0.
    pub(super) number: u16,
    /// The sender waits for an acknowledgement.
    pub(super) asks: bool,
    /// Its bytes.
    pub(super) piece: &'a [u8],
}

/// What one peer has of another's transfers: all of it, so that the newest
/// acknowledgement replaces every older one.
#[derive(Clone, Debug)]
pub(super) struct Acknowledgement<'a> {
    /// The sender's epoch that is acknowledged.
    pub(super) epoch: u32,
    /// The receiver's own epoch: another one knows nothing of what the last one had.
    pub(super) receiver: u32,
    /// Rises by each acknowledgement of this receiver.
    pub(super) counter: u32,
    /// Highest sequence received.
    pub(super) sequence: u32,
    /// Milliseconds since that one came.
    pub(super) held_ms: u8,
    /// Every transfer below is delivered, or was given up by its sender.
    pub(super) settled: u32,
    /// Of every other transfer that anything was received of, ascending.
    pub(super) blocks: heapless::Vec<Block<'a>, TRANSFERS_MAX>,
}

/// Which pieces of one transfer are there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Block<'a> {
    /// Counted from `settled`.
    pub(super) transfer: u8,
    /// All below are there.
    pub(super) base: u16,
    /// Bits from `base` on.
    pub(super) tail: &'a [u8],
}

/// Pieces of a frame of that length.
pub(super) fn pieces(frame_bytes: usize) -> u16 {
    let count = (frame_bytes + FRAME_CHECK_BYTES).div_ceil(FRAGMENT_BYTES);
    u16::try_from(count).expect("a frame has at most FRAGMENTS_MAX pieces")
}

/// Where piece `number` begins and ends among the bytes of frame and checksum.
pub(super) fn range(frame_bytes: usize, number: u16) -> core::ops::Range<usize> {
    let start = usize::from(number) * FRAGMENT_BYTES;
    start..(start + FRAGMENT_BYTES).min(frame_bytes + FRAME_CHECK_BYTES)
}

/// A payload of one frame, or of several.
pub(super) fn frames(frames: &[Vec<u8>]) -> Vec<u8> {
    if let [frame] = frames {
        let mut payload = Vec::with_capacity(1 + frame.len());
        payload.push(SINGLE);
        payload.extend_from_slice(frame);
        return payload;
    }
    let bytes = frames.iter().map(|frame| PACK_ITEM_BYTES + frame.len()).sum::<usize>();
    let mut payload = Vec::with_capacity(1 + bytes);
    payload.push(PACK);
    for frame in frames {
        let length = u16::try_from(frame.len()).expect("a packed frame fits a payload");
        payload.extend_from_slice(&length.to_le_bytes());
        payload.extend_from_slice(frame);
    }
    payload
}

impl Fragment<'_> {
    /// A payload of this header and the right piece of `frame`; `self.piece` is
    /// not looked at.
    pub(super) fn encode(&self, frame: &[u8], check: u32) -> Vec<u8> {
        let range = range(frame.len(), self.number);
        let mut payload = Vec::with_capacity(FRAGMENT_HEADER_BYTES + range.len());
        payload.push(if self.asks { FRAGMENT_ASKING } else { FRAGMENT });
        payload.extend_from_slice(&self.epoch.to_le_bytes());
        payload.extend_from_slice(&self.transfer.to_le_bytes());
        payload.push(self.behind);
        payload.extend_from_slice(&self.sequence.to_le_bytes());
        let frame_bytes = u32::try_from(frame.len()).expect("a frame is below 4 GB");
        payload.extend_from_slice(&frame_bytes.to_le_bytes());
        payload.extend_from_slice(&self.number.to_le_bytes());
        let end = frame.len();
        payload.extend_from_slice(&frame[range.start.min(end)..range.end.min(end)]);
        let check = check.to_le_bytes();
        let from = range.start.saturating_sub(end);
        payload.extend_from_slice(&check[from..range.end.saturating_sub(end).max(from)]);
        payload
    }
}

/// Turns a fragment's payload into one whose sender waits for an acknowledgement.
pub(super) fn ask(payload: &mut [u8]) {
    if let Some(kind) = payload.first_mut() {
        *kind = FRAGMENT_ASKING;
    }
}

/// An acknowledgement's bytes; `blocks` as they come out of the receiver's bitmaps.
pub(super) fn acknowledgement<'a>(
    header: &Acknowledgement<'_>,
    blocks: impl Iterator<Item = (u8, &'a Bitmap)>,
) -> Vec<u8> {
    let mut payload = Vec::with_capacity(ACKNOWLEDGEMENT_HEADER_BYTES + 2 * BLOCK_HEADER_BYTES);
    payload.push(ACKNOWLEDGEMENT);
    for number in [header.epoch, header.receiver, header.counter, header.sequence] {
        payload.extend_from_slice(&number.to_le_bytes());
    }
    payload.push(header.held_ms);
    payload.extend_from_slice(&header.settled.to_le_bytes());
    for (transfer, bitmap) in blocks {
        let (base, tail) = bitmap.to_parts();
        let length = u16::try_from(tail.len()).expect("a bitmap fits a payload");
        payload.push(transfer);
        payload.extend_from_slice(&base.to_le_bytes());
        payload.extend_from_slice(&length.to_le_bytes());
        payload.extend_from_slice(&tail);
    }
    payload
}

/// Takes a payload apart.
///
/// # Errors
/// [`Rejection::Malformed`] when it is none of the kinds; [`Rejection::TooLarge`]
/// when it, or the frame it is a piece of, is over its bound.
pub(super) fn parse(payload: &[u8]) -> Result<Payload<'_>, Rejection> {
    if payload.len() > PAYLOAD_BYTES_MAX {
        return Err(Rejection::TooLarge);
    }
    let mut reader = Reader(payload);
    match reader.byte()? {
        SINGLE if !reader.0.is_empty() => Ok(Payload::Frames(Vec::from([reader.0.to_vec()]))),
        PACK => Ok(Payload::Frames(parse_pack(reader)?)),
        FRAGMENT => Ok(Payload::Fragment(parse_fragment(reader, false)?)),
        FRAGMENT_ASKING => Ok(Payload::Fragment(parse_fragment(reader, true)?)),
        ACKNOWLEDGEMENT => Ok(Payload::Acknowledgement(parse_acknowledgement(reader)?)),
        _ => Err(Rejection::Malformed),
    }
}

fn parse_pack(mut reader: Reader<'_>) -> Result<Vec<Vec<u8>>, Rejection> {
    let mut frames = Vec::new();
    while !reader.0.is_empty() {
        let length = usize::from(reader.u16()?);
        let frame = reader.take(length)?;
        if frame.is_empty() {
            return Err(Rejection::Malformed);
        }
        frames.push(frame.to_vec());
    }
    if frames.is_empty() { Err(Rejection::Malformed) } else { Ok(frames) }
}

fn parse_fragment(mut reader: Reader<'_>, asks: bool) -> Result<Fragment<'_>, Rejection> {
    let fragment = Fragment {
        asks,
        epoch: reader.u32()?,
        transfer: reader.u32()?,
        behind: reader.byte()?,
        sequence: reader.u32()?,
        frame_bytes: usize::try_from(reader.u32()?).map_err(|_| Rejection::TooLarge)?,
        number: reader.u16()?,
        piece: reader.0,
    };
    if fragment.frame_bytes > FRAME_BYTES_MAX {
        return Err(Rejection::TooLarge);
    }
    let fits = fragment.number < pieces(fragment.frame_bytes)
        && fragment.piece.len() == range(fragment.frame_bytes, fragment.number).len()
        && u32::from(fragment.behind) <= fragment.transfer
        && usize::from(fragment.behind) < TRANSFERS_MAX;
    if fits { Ok(fragment) } else { Err(Rejection::Malformed) }
}

fn parse_acknowledgement(mut reader: Reader<'_>) -> Result<Acknowledgement<'_>, Rejection> {
    let mut acknowledgement = Acknowledgement {
        epoch: reader.u32()?,
        receiver: reader.u32()?,
        counter: reader.u32()?,
        sequence: reader.u32()?,
        held_ms: reader.byte()?,
        settled: reader.u32()?,
        blocks: heapless::Vec::new(),
    };
    while !reader.0.is_empty() {
        let (transfer, base) = (reader.byte()?, reader.u16()?);
        let length = usize::from(reader.u16()?);
        let block = Block { transfer, base, tail: reader.take(length)? };
        acknowledgement.blocks.push(block).map_err(|_| Rejection::Malformed)?;
    }
    Ok(acknowledgement)
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Rejection> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Rejection::Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Rejection> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Rejection::Malformed)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn byte(&mut self) -> Result<u8, Rejection> {
        self.array().map(u8::from_le_bytes)
    }

    fn u16(&mut self) -> Result<u16, Rejection> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, Rejection> {
        self.array().map(u32::from_le_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> alloc::string::String {
        bytes.iter().map(|byte| alloc::format!("{byte:02x}")).collect()
    }

    #[test]
    fn version_1_bytes_stay_what_they_are() {
        let small = Vec::from([Vec::from(*b"abc"), Vec::from(*b"de")]);
        assert_eq!(hex(&frames(&small[..1])), "11616263");
        assert_eq!(hex(&frames(&small)), "1203006162630200 6465".replace(' ', ""));
        let fragment = Fragment {
            epoch: 0x0403_0201,
            transfer: 5,
            behind: 2,
            sequence: 9,
            frame_bytes: 0,
            number: 0,
            asks: false,
            piece: &[],
        };
        assert_eq!(
            hex(&fragment.encode(b"xyz", 0x1122_3344)),
            "130102030405000000020900000003000000000078797a44332211"
        );
        let header = Acknowledgement {
            epoch: 1,
            receiver: 2,
            counter: 3,
            sequence: 4,
            held_ms: 5,
            settled: 6,
            blocks: heapless::Vec::new(),
        };
        let bitmap = Bitmap::from_parts(20, 7, &[0x82]).unwrap();
        assert_eq!(
            hex(&acknowledgement(&header, [(1, &bitmap)].into_iter())),
            "150100000002000000030000000400000005060000000107000100 82".replace(' ', "")
        );
    }

    #[test]
    fn the_checksum_may_be_split_between_two_pieces() {
        let frame = alloc::vec![7; FRAGMENT_BYTES - 2];
        let mut bytes = Vec::new();
        for number in 0..pieces(frame.len()) {
            let fragment = Fragment {
                epoch: 1,
                transfer: 0,
                behind: 0,
                sequence: 0,
                frame_bytes: 0,
                number,
                asks: false,
                piece: &[],
            };
            let payload = fragment.encode(&frame, 0xAABB_CCDD);
            let Ok(Payload::Fragment(read)) = parse(&payload) else { panic!("a fragment") };
            bytes.extend_from_slice(read.piece);
        }
        assert_eq!(bytes[..frame.len()], frame);
        assert_eq!(bytes[frame.len()..], 0xAABB_CCDD_u32.to_le_bytes());
    }

    #[test]
    fn a_fragment_of_another_length_than_its_place_has_is_malformed() {
        let frame = alloc::vec![7; 3_000];
        let fragment = Fragment {
            epoch: 1,
            transfer: 0,
            behind: 0,
            sequence: 0,
            frame_bytes: 0,
            number: 2,
            asks: false,
            piece: &[],
        };
        let mut payload = fragment.encode(&frame, 0);
        assert!(parse(&payload).is_ok());
        payload.push(0);
        assert!(matches!(parse(&payload), Err(Rejection::Malformed)));
        payload.truncate(payload.len() - 2);
        assert!(matches!(parse(&payload), Err(Rejection::Malformed)));
    }
}
