//! Two ends and a road that loses, repeats and reorders.

use proptest::prelude::*;

use super::*;
use crate::limits::{FRAME_BYTES_MAX, REASSEMBLY_BYTES_MAX};

/// A small generator for the road's whims (xorshift64, Marsaglia 2003).
struct Whims(u64);

impl Whims {
    fn percent(&mut self, percent: u64) -> bool {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % 100 < percent
    }
}

/// Sends `frames` from 1 to 2 over a road with the given loss; what arrived, and
/// the bytes that were put on the road towards 2.
fn carry(frames: &[Vec<u8>], loss: u64, seed: u64) -> (Vec<Vec<u8>>, usize) {
    let (mut a, mut b) = (Links::new(1), Links::new(2));
    let mut whims = Whims(seed | 1);
    let mut waiting = frames.iter();
    let mut next = waiting.next();
    let (mut arrived, mut bytes, mut road) = (Vec::new(), 0, Vec::new());
    let mut now = Millis(0);
    for _ in 0..200_000 {
        now = now.plus(5);
        let mut out = Vec::new();
        if let Some(frame) = next
            && arrived.len() + 3 > frames.len() - waiting.len()
        {
            a.send(now, 2, frame.clone(), &mut out);
            next = waiting.next();
        }
        a.tick(now, &mut out);
        a.flush(&mut out);
        road.extend(out);
        b.tick(now, &mut road);
        let mut later = Vec::new();
        for (to, payload) in core::mem::take(&mut road) {
            assert!(payload.len() <= PAYLOAD_BYTES_MAX);
            bytes += if to == 2 { payload.len() } else { 0 };
            if whims.percent(loss) {
                continue;
            }
            if whims.percent(10) {
                later.push((to, payload.clone()));
            }
            let (end, from) = if to == 2 { (&mut b, 1) } else { (&mut a, 2) };
            arrived.extend(end.receive(now, from, &payload, &mut later).unwrap());
        }
        road = later;
        if arrived.len() == frames.len() && next.is_none() && a.deadline().is_none() {
            break;
        }
    }
    assert_eq!(b.pool_bytes, 0, "nothing is left in the pool");
    (arrived, bytes)
}

fn frame(bytes: usize, salt: u8) -> Vec<u8> {
    (0..bytes).map(|at| (at % 251).to_le_bytes()[0] ^ salt).collect()
}

#[test]
fn small_frames_are_packed_and_come_out_in_order() {
    let (mut a, mut b) = (Links::new(1), Links::new(2));
    let mut out = Vec::new();
    let frames: Vec<_> = (0..100).map(|salt| frame(30, salt)).collect();
    for frame in &frames {
        a.send(Millis(0), 2, frame.clone(), &mut out);
    }
    a.flush(&mut out);
    assert!(out.len() <= 3, "{} payloads", out.len());
    let received = out
        .iter()
        .flat_map(|(_, payload)| b.receive(Millis(0), 1, payload, &mut Vec::new()).unwrap());
    assert_eq!(received.collect::<Vec<_>>(), frames);
}

#[test]
fn the_largest_frame_crosses_a_road_that_loses_a_fifth() {
    let large = [frame(FRAME_BYTES_MAX, 7)];
    let (arrived, bytes) = carry(&large, 20, 42);
    assert!(arrived == large, "it arrived whole, once");
    assert!(bytes < FRAME_BYTES_MAX * 8 / 5, "{bytes} bytes for {FRAME_BYTES_MAX}");
}

#[test]
fn many_frames_of_64_kb_arrive_once_each() {
    let frames: Vec<_> = (0..40).map(|salt| frame(65_536, salt)).collect();
    let (mut arrived, bytes) = carry(&frames, 20, 7);
    arrived.sort();
    let mut expected = frames;
    expected.sort();
    assert!(arrived == expected);
    assert!(bytes < 40 * 65_536 * 8 / 5, "{bytes} bytes");
}

#[test]
fn a_frame_on_its_way_is_not_started_again() {
    let mut links = Links::new(1);
    let mut out = Vec::new();
    for _ in 0..10 {
        links.send(Millis(0), 2, frame(50_000, 1), &mut out);
    }
    let once = 50_000_usize.div_ceil(crate::limits::FRAGMENT_BYTES);
    assert!(out.len() <= once);
}

#[test]
fn a_peer_cannot_fill_the_pool() {
    let mut links = Links::new(1);
    for transfer in 0..50_u32 {
        for from in 2..30 {
            let mut payload = Vec::new();
            let frame_bytes = u32::try_from(FRAME_BYTES_MAX).unwrap();
            let head = Head { epoch: 0, transfer, index: 0, frame_bytes, frame_crc: 1 };
            head.write(&mut payload);
            payload.resize(PAYLOAD_BYTES_MAX, 0);
            let _ = links.receive(Millis(0), from, &payload, &mut Vec::new());
            assert!(links.pool_bytes <= REASSEMBLY_BYTES_MAX);
        }
    }
    links.tick(Millis(100_000), &mut Vec::new());
    assert_eq!(links.pool_bytes, 0);
}

#[test]
fn a_forgotten_peer_gives_its_bytes_back() {
    let (mut a, mut b) = (Links::new(1), Links::new(2));
    let mut out = Vec::new();
    a.send(Millis(0), 2, frame(100_000, 1), &mut out);
    b.receive(Millis(0), 1, &out[0].1, &mut Vec::new()).unwrap();
    assert_eq!(b.pool_bytes, 100_000);
    b.forget(1);
    assert_eq!(b.pool_bytes, 0);
}

proptest! {
    #[test]
    fn any_payload_is_survived(
        payloads in proptest::collection::vec(proptest::collection::vec(0..5_u8, 0..40), 0..20),
    ) {
        let mut links = Links::new(1);
        for payload in payloads {
            let _ = links.receive(Millis(0), 2, &payload, &mut Vec::new());
        }
        prop_assert!(links.pool_bytes <= REASSEMBLY_BYTES_MAX);
    }
}
