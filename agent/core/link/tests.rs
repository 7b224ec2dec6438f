//! Two boards and a road between them that loses, repeats and reorders.

use alloc::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::limits::{
    ARRIVAL_IDLE_MS, ENTRY_BYTES_MAX, FRAGMENT_BYTES, TRANSFER_MS_MAX, TRANSFERS_MAX,
};

const NEAR: NodeId = 1;
const FAR: NodeId = 2;

/// What the road does to payloads.
#[derive(Clone, Copy, Debug)]
struct Road {
    loss_percent: u64,
    repeat_percent: u64,
    delay_ms: (u64, u64),
}

const PERFECT: Road = Road { loss_percent: 0, repeat_percent: 0, delay_ms: (1, 1) };
const BAD: Road = Road { loss_percent: 20, repeat_percent: 5, delay_ms: (2, 30) };

struct World {
    now: Millis,
    random: u64,
    road: Road,
    nodes: BTreeMap<NodeId, Links>,
    /// By arrival: when and in which order; from, to, payload.
    flying: BTreeMap<(Millis, u64), (NodeId, NodeId, Vec<u8>)>,
    flown: u64,
    delivered: BTreeMap<NodeId, Vec<Vec<u8>>>,
    reassembly_bytes_max: usize,
}

impl World {
    fn new(seed: u64, road: Road) -> Self {
        let nodes = [(NEAR, Links::new(seed)), (FAR, Links::new(seed + 1))];
        Self {
            now: Millis(1_000),
            random: seed,
            road,
            nodes: nodes.into_iter().collect(),
            flying: BTreeMap::new(),
            flown: 0,
            delivered: BTreeMap::new(),
            reassembly_bytes_max: 0,
        }
    }

    /// Below `bound`; a linear congruential generator with Knuth's constants.
    fn draw(&mut self, bound: u64) -> u64 {
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) % bound
    }

    fn node(&mut self, id: NodeId) -> &mut Links {
        self.nodes.get_mut(&id).unwrap()
    }

    fn send(&mut self, from: NodeId, to: NodeId, frame: &[u8]) {
        let (now, mut out) = (self.now, Vec::new());
        self.node(from).send(now, to, frame.to_vec(), &mut out);
        self.node(from).flush(&mut out);
        self.fly(from, out);
    }

    fn fly(&mut self, from: NodeId, out: Outgoing) {
        for (to, payload) in out {
            assert!(payload.len() <= PAYLOAD_BYTES_MAX);
            let copies = 1 + u64::from(self.draw(100) < self.road.repeat_percent);
            for _ in 0..copies {
                if self.draw(100) >= self.road.loss_percent {
                    let (least, most) = self.road.delay_ms;
                    let at = self.now.plus(least + self.draw(most - least + 1));
                    self.flown += 1;
                    self.flying.insert((at, self.flown), (from, to, payload.clone()));
                }
            }
        }
    }

    /// Lets the next thing happen; false when nothing is left to happen before `end`.
    fn step(&mut self, end: Millis) -> bool {
        let arrival = self.flying.first_key_value().map(|((at, _), _)| *at);
        let deadline = self.nodes.values().filter_map(Links::deadline).min();
        let Some(next) = [arrival, deadline].into_iter().flatten().min() else { return false };
        if next > end {
            return false;
        }
        self.now = self.now.max(next);
        let now = self.now;
        while let Some(entry) = self.flying.first_entry().filter(|entry| entry.key().0 <= now) {
            let (from, to, payload) = entry.remove();
            self.arrive(from, to, &payload);
        }
        for id in [NEAR, FAR] {
            let mut out = Vec::new();
            self.node(id).tick(now, &mut out);
            assert!(self.node(id).deadline().is_none_or(|at| at > now), "it would spin");
            self.fly(id, out);
        }
        true
    }

    fn arrive(&mut self, from: NodeId, to: NodeId, payload: &[u8]) {
        let (now, mut out) = (self.now, Vec::new());
        let frames = self.node(to).receive(now, from, payload, &mut out).unwrap();
        self.node(to).flush(&mut out);
        self.delivered.entry(to).or_default().extend(frames);
        self.fly(to, out);
        let bytes = self.node(to).reassembly_bytes();
        assert!(bytes <= REASSEMBLY_BYTES_MAX);
        self.reassembly_bytes_max = self.reassembly_bytes_max.max(bytes);
    }

    fn run(&mut self, ms: u64) {
        let end = self.now.plus(ms);
        while self.step(end) {}
        self.now = self.now.max(end);
    }

    fn take_delivered(&mut self, id: NodeId) -> Vec<Vec<u8>> {
        self.delivered.remove(&id).unwrap_or_default()
    }
}

/// A frame no other is like.
fn frame(name: u8, bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| name ^ u8::try_from(at * 31 % 251).unwrap()).collect()
}

/// Fragments sent for each that was needed.
fn volume(counters: &LinkCounters, frames_bytes: usize) -> f64 {
    let needed = u32::try_from(frames_bytes.div_ceil(FRAGMENT_BYTES)).unwrap();
    f64::from(u32::try_from(counters.fragments_sent).unwrap()) / f64::from(needed)
}

#[test]
fn small_frames_of_one_drain_share_a_payload_and_keep_their_order() {
    let (mut near, mut far) = (Links::new(1), Links::new(2));
    let mut out = Vec::new();
    let frames: Vec<_> = (0..10).map(|name| frame(name, 300)).collect();
    for frame in &frames {
        near.send(Millis(0), FAR, frame.clone(), &mut out);
    }
    near.flush(&mut out);
    assert_eq!(out.len(), 4, "three frames of 300 bytes fit one payload");
    let mut received = Vec::new();
    for (to, payload) in out.drain(..) {
        assert_eq!(to, FAR);
        received.extend(far.receive(Millis(0), NEAR, &payload, &mut Vec::new()).unwrap());
    }
    assert_eq!(received, frames);
    assert_eq!((near.deadline(), far.deadline()), (None, None));
}

#[test]
fn the_longest_single_frame_and_the_shortest_in_fragments_arrive() {
    let mut world = World::new(1, PERFECT);
    for bytes in [1, SINGLE_BYTES_MAX - 1, SINGLE_BYTES_MAX, SINGLE_BYTES_MAX + 1] {
        world.send(NEAR, FAR, &frame(9, bytes));
        world.run(100);
        assert_eq!(world.take_delivered(FAR), [frame(9, bytes)]);
    }
    assert_eq!(world.node(NEAR).counters().fragments_sent, 2);
}

#[test]
fn nothing_is_repeated_on_a_perfect_road() {
    let mut world = World::new(1, PERFECT);
    for name in 0..10 {
        world.send(NEAR, FAR, &frame(name, 100_000));
    }
    world.run(10_000);
    assert_eq!(world.take_delivered(FAR).len(), 10);
    let counters = world.node(NEAR).counters();
    assert_eq!((counters.fragments_resent, counters.fragments_lost), (0, 0));
    assert!(world.node(FAR).counters().acknowledgements_sent * 5 < counters.fragments_sent);
    assert_eq!(world.node(NEAR).deadline(), None, "nothing is left to do");
}

#[test]
fn an_entry_of_the_largest_size_comes_through_loss_repetition_and_reorder() {
    let mut world = World::new(3, BAD);
    let large = frame(7, ENTRY_BYTES_MAX + 1_000);
    world.send(NEAR, FAR, &large);
    let start = world.now;
    while world.delivered.get(&FAR).is_none_or(Vec::is_empty) {
        assert!(world.step(start.plus(600_000)), "{:?}", world.node(NEAR).counters());
    }
    let took_ms = world.now.since(start);
    world.run(60_000);
    assert!(world.take_delivered(FAR) == [large.clone()], "once, and unharmed");
    let counters = world.node(NEAR).counters();
    let volume = volume(&counters, large.len());
    assert!(volume < 1.6, "{volume} times the data in {took_ms} ms: {counters:?}");
    assert!(world.reassembly_bytes_max <= large.len());
    assert_eq!(world.node(FAR).reassembly_bytes(), 0);
}

#[test]
fn many_frames_come_once_each_and_in_order_through_a_bad_road() {
    let mut world = World::new(5, BAD);
    let frames: Vec<_> = (0..60).map(|name| frame(name, 64 << 10)).collect();
    let mut sent = frames.iter();
    let end = world.now.plus(600_000);
    for frame in sent.by_ref().take(16) {
        world.send(NEAR, FAR, frame);
    }
    let mut answered = 0;
    while answered < frames.len() {
        assert!(world.step(end), "{:?}", world.node(NEAR).counters());
        let arrived = world.delivered.get(&FAR).map_or(0, Vec::len);
        for _ in answered..arrived {
            if let Some(frame) = sent.next() {
                world.send(NEAR, FAR, frame);
            }
        }
        answered = arrived;
    }
    world.run(60_000);
    assert!(world.take_delivered(FAR) == frames, "in order, once each");
    let counters = world.node(NEAR).counters();
    let volume = volume(&counters, 60 * (64 << 10));
    assert!(volume < 1.6, "{volume} times the data: {counters:?}");
    assert_eq!(counters.frames_refused, 0);
}

#[test]
fn heartbeats_pass_while_a_large_frame_is_on_its_way() {
    let mut world = World::new(1, PERFECT);
    world.send(NEAR, FAR, &frame(1, ENTRY_BYTES_MAX));
    world.send(NEAR, FAR, b"heartbeat");
    world.run(1);
    assert_eq!(world.take_delivered(FAR), [b"heartbeat"]);
}

#[test]
fn a_frame_repeated_while_it_is_under_way_is_sent_once() {
    let mut world = World::new(1, BAD);
    for _ in 0..20 {
        world.send(NEAR, FAR, &frame(1, 500_000));
        world.run(20);
    }
    world.run(60_000);
    assert_eq!(world.take_delivered(FAR).len(), 1);
    assert_eq!(world.node(NEAR).counters().frames_repeated, 19);
    world.send(NEAR, FAR, &frame(1, 500_000));
    world.run(60_000);
    assert_eq!(world.take_delivered(FAR).len(), 1, "later it is a frame like any other");
}

#[test]
fn what_is_held_for_a_peer_is_bounded_and_what_is_over_it_refused() {
    let mut world = World::new(1, Road { loss_percent: 100, ..PERFECT });
    for name in 0..100 {
        world.send(NEAR, FAR, &frame(name, 2_000));
    }
    assert_eq!(world.node(NEAR).counters().frames_refused, 100 - TRANSFERS_MAX as u64);
    for peer in 10..20 {
        world.send(NEAR, peer, &frame(1, ENTRY_BYTES_MAX));
        world.send(NEAR, peer, &frame(2, ENTRY_BYTES_MAX));
    }
    let held: usize = world.node(NEAR).senders().map(Sender::bytes).sum();
    assert!(held <= SENDING_BYTES_MAX);
    world.send(NEAR, FAR, &frame(1, FRAME_BYTES_MAX + 1));
    assert_eq!(world.node(NEAR).counters().frames_too_large, 1);
    world.run(2 * TRANSFER_MS_MAX);
    assert_eq!(world.node(NEAR).senders().map(Sender::bytes).sum::<usize>(), 0);
    assert_eq!(world.node(NEAR).deadline(), None);
}

#[test]
fn a_silent_peer_gets_few_probes_and_everything_once_it_is_back() {
    let mut world = World::new(1, Road { loss_percent: 100, ..PERFECT });
    world.send(NEAR, FAR, &frame(1, 200_000));
    world.run(20_000);
    let sent = world.node(NEAR).counters().fragments_sent;
    assert!(sent < 50, "{sent} fragments into silence");
    world.road = PERFECT;
    world.run(12_000);
    assert_eq!(world.take_delivered(FAR), [frame(1, 200_000)]);
    let volume = volume(&world.node(NEAR).counters(), 200_000);
    assert!(volume < 1.5, "{volume}");
}

#[test]
fn a_receiver_that_restarts_gets_the_whole_frame_again() {
    let mut world = World::new(1, BAD);
    world.send(NEAR, FAR, &frame(1, 300_000));
    world.run(60);
    assert!(world.node(FAR).reassembly_bytes() > 0);
    world.nodes.insert(FAR, Links::new(99));
    world.run(60_000);
    assert_eq!(world.take_delivered(FAR), [frame(1, 300_000)]);
}

#[test]
fn a_sender_that_restarts_is_not_taken_for_its_former_self() {
    let mut world = World::new(1, BAD);
    for name in 0..5 {
        world.send(NEAR, FAR, &frame(name, 20_000));
    }
    world.run(30_000);
    world.send(NEAR, FAR, &frame(6, 300_000));
    world.run(60);
    world.nodes.insert(NEAR, Links::new(99));
    for name in 10..15 {
        world.send(NEAR, FAR, &frame(name, 20_000));
    }
    world.run(60_000);
    let expected: Vec<_> = (0..5).chain(10..15).map(|name| frame(name, 20_000)).collect();
    assert!(world.take_delivered(FAR) == expected);
    assert_eq!(world.node(FAR).reassembly_bytes(), 0, "the cut frame is gone");
}

#[test]
fn a_peer_forgotten_and_met_again_is_heard() {
    let mut world = World::new(1, PERFECT);
    for name in 0..3 {
        world.send(NEAR, FAR, &frame(name, 5_000));
        world.run(1_000);
        world.node(NEAR).forget(FAR);
    }
    assert_eq!(world.take_delivered(FAR).len(), 3);
    for name in 0..3 {
        world.send(NEAR, FAR, &frame(name, 5_000));
        world.run(1_000);
        world.node(FAR).forget(NEAR);
    }
    assert_eq!(world.take_delivered(FAR).len(), 3);
}

#[test]
fn counters_that_come_to_their_end_start_anew() {
    let mut world = World::new(1, BAD);
    world.send(NEAR, FAR, &frame(1, 20_000));
    world.run(30_000);
    let link = world.node(NEAR).links.get_mut(&FAR).unwrap();
    link.sender.as_mut().unwrap().age(u32::MAX - 1_030);
    for name in 2..12 {
        world.send(NEAR, FAR, &frame(name, 20_000));
    }
    world.run(60_000);
    assert!(world.take_delivered(FAR) == (1..12).map(|n| frame(n, 20_000)).collect::<Vec<_>>());
}

#[test]
fn idle_arrivals_make_room_for_a_frame_that_moves() {
    let mut far = Links::new(2);
    let first_fragment = |peer: NodeId| {
        let mut out = Vec::new();
        Links::new(peer).send(Millis(0), FAR, frame(1, ENTRY_BYTES_MAX), &mut out);
        out.remove(0).1
    };
    for peer in [11, 12, 13] {
        far.receive(Millis(5), peer, &first_fragment(peer), &mut Vec::new()).unwrap();
    }
    assert_eq!(far.counters().arrivals_without_room, 1);
    let mut out = Vec::new();
    let later = Millis(5 + ARRIVAL_IDLE_MS);
    far.receive(later, 13, &first_fragment(13), &mut out).unwrap();
    assert_eq!(far.counters().arrivals_without_room, 1);
    assert_eq!(far.counters().arrivals_given_up, 1);
    assert!(far.reassembly_bytes() <= REASSEMBLY_BYTES_MAX);
}

#[test]
fn more_peers_than_a_group_has_push_out_the_longest_unused() {
    let mut far = Links::new(2);
    for peer in 0..200 {
        let mut out = Vec::new();
        far.send(Millis(peer), peer, frame(1, 2_000), &mut out);
    }
    assert_eq!(far.links.len(), LINKS_MAX);
    assert!(far.links.contains_key(&199));
}

#[test]
fn a_damaged_frame_is_never_delivered_and_received_anew() {
    let mut world = World::new(1, PERFECT);
    world.send(NEAR, FAR, &frame(1, 3_000));
    let (_, _, payload) = world.flying.values_mut().next().unwrap();
    *payload.last_mut().unwrap() ^= 1;
    world.run(5_000);
    assert_eq!(world.take_delivered(FAR), [frame(1, 3_000)]);
    assert_eq!(world.node(FAR).counters().arrivals_damaged, 1);
}

#[test]
fn payloads_that_contradict_themselves_are_rejected() {
    let mut far = Links::new(2);
    let mut take = |bytes: &[u8]| far.receive(Millis(0), NEAR, bytes, &mut Vec::new());
    assert_eq!(take(&[]), Err(Rejection::Malformed));
    assert_eq!(take(&[0x11]), Err(Rejection::Malformed), "an empty frame");
    assert_eq!(take(&[0x12]), Err(Rejection::Malformed), "an empty pack");
    assert_eq!(take(&[0x12, 5, 0, 1]), Err(Rejection::Malformed), "a pack cut short");
    assert_eq!(take(&[0x21, 1]), Err(Rejection::Malformed), "another version");
    assert_eq!(take(&alloc::vec![0x11; PAYLOAD_BYTES_MAX + 1]), Err(Rejection::TooLarge));
    let mut fragment = Vec::from([0x13]);
    fragment.extend([0; 13]);
    fragment.extend(u32::MAX.to_le_bytes());
    fragment.extend([0; 2]);
    assert_eq!(take(&fragment), Err(Rejection::TooLarge));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn frames_of_any_size_come_once_each_over_any_road(
        seed in any::<u64>(),
        loss_percent in 0_u64..35,
        repeat_percent in 0_u64..30,
        least in 0_u64..50,
        spread in 0_u64..80,
        sizes in proptest::collection::vec(SINGLE_BYTES_MAX + 1..40_000, 1..TRANSFERS_MAX),
    ) {
        let road = Road { loss_percent, repeat_percent, delay_ms: (least, least + spread) };
        let mut world = World::new(seed >> 1, road);
        let frames: Vec<_> = (0..).zip(sizes).map(|(name, bytes)| frame(name, bytes)).collect();
        let end = world.now.plus(600_000);
        for frame in &frames {
            world.send(NEAR, FAR, frame);
        }
        while world.node(NEAR).deadline().is_some() {
            prop_assert!(world.step(end), "{:?}", world.node(NEAR).counters());
        }
        prop_assert!(world.take_delivered(FAR) == frames);
        world.run(200_000);
        prop_assert!(world.take_delivered(FAR).is_empty(), "once only");
    }

    #[test]
    fn any_bytes_are_rejected_or_bounded(
        payloads in proptest::collection::vec(
            (0_u8..7, proptest::collection::vec(any::<u8>(), 0..80), 0_u64..10_000), 1..80,
        ),
    ) {
        let mut far = Links::new(2);
        let mut now = Millis(0);
        for (kind, mut bytes, ms) in payloads {
            now = now.plus(ms);
            bytes.insert(0, 0x10 + kind);
            let mut out = Vec::new();
            let _ = far.receive(now, NEAR, &bytes, &mut out);
            far.tick(now, &mut out);
            far.flush(&mut out);
            prop_assert!(far.reassembly_bytes() <= REASSEMBLY_BYTES_MAX);
            prop_assert!(far.deadline().is_none_or(|at| at > now));
        }
    }

    #[test]
    fn payloads_with_a_byte_changed_never_panic_and_never_pass_the_bounds(
        seed in any::<u64>(),
        damage_percent in 1_u64..60,
    ) {
        let mut world = World::new(seed >> 1, BAD);
        for name in 0..8 {
            world.send(NEAR, FAR, &frame(name, 20_000));
            world.send(FAR, NEAR, &frame(name, 20_000));
        }
        for _ in 0..400 {
            if let Some(place) = world.flying.keys().next().copied()
                && world.draw(100) < damage_percent
            {
                let (byte, bit) = (world.draw(24), world.draw(8));
                let (from, to, mut payload) = world.flying.remove(&place).unwrap();
                let byte = usize::try_from(byte).unwrap() % payload.len();
                payload[byte] ^= 1 << bit;
                world.now = world.now.max(place.0);
                let (now, mut out) = (world.now, Vec::new());
                let _ = world.node(to).receive(now, from, &payload, &mut out);
                prop_assert!(world.node(to).reassembly_bytes() <= REASSEMBLY_BYTES_MAX);
                continue;
            }
            let end = world.now.plus(100_000);
            let Some(((at, _), (from, to, payload))) = world.flying.pop_first() else {
                world.step(end);
                continue;
            };
            world.now = world.now.max(at);
            let (now, mut out) = (world.now, Vec::new());
            let _ = world.node(to).receive(now, from, &payload, &mut out);
            world.fly(to, out);
            prop_assert!(world.node(to).reassembly_bytes() <= REASSEMBLY_BYTES_MAX);
        }
    }
}
