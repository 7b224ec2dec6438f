//! Does a datagram get from this board to another, and one back? Asked when somebody wants to
//! know (`understudy doctor`), with small datagrams and with the largest that boards send:
//! some networks let the former pass and lose the latter.
//!
//! Probe: kind (1), run (4), number (2), padding to one of two lengths. Answer: kind, run,
//! number, how many small and how many large ones of this run have come (2 each), padding to
//! the length of what it answers. So the two directions can be told apart: a large probe that
//! came, and whose answer was lost, is still counted by the small ones after it. Probes and
//! answers are payloads of the members' sessions; a board that knows no probes drops them as
//! it drops any payload of a kind it does not know (`understudy_core::link`, kinds 0x1_).
//!
//! No answer is longer than what it answers, and each peer is answered so often in a second
//! and no more.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use understudy_core::{
    event::{Millis, NodeId},
    limits::PAYLOAD_BYTES_MAX,
};

const PROBE: u8 = 0x21;
const ANSWER: u8 = 0x22;

/// Kind, run, number, and room for an answer's two counts.
const HEADER_BYTES: usize = 11;

/// A probe of no run: it brings a session about and counts for nothing.
const NO_RUN: u32 = 0;

/// The two lengths of probes.
const LENGTHS: [usize; 2] = [HEADER_BYTES, PAYLOAD_BYTES_MAX];

/// Answers to one peer in a second.
const ANSWERS_PER_S: u32 = 100;

/// Probes of one length that a run may send to a peer.
const NUMBERS_MAX: usize = 64;

/// A run that nobody has gone on with for so long, milliseconds, is over.
const RUN_MS_MAX: u64 = 10_000;

/// A step of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A new one begins: one small probe goes to each peer, and counts for nothing, since
    /// where there is no session it waits for one.
    Begin,
    /// A small and a large one go to each peer.
    Both,
    /// A small one does, which tells of the large ones before.
    Small,
    /// Nothing does.
    Look,
    /// Nothing does, and the run is over.
    End,
}

/// What became of the probes of one length.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// Sent.
    pub sent: u16,
    /// Known to have come there.
    pub there: u16,
    /// Answers that came here.
    pub back: u16,
    /// Round trips, microseconds: the shortest, the middle, the longest.
    pub trips_us: Option<(u64, u64, u64)>,
}

/// What became of the probes to one peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probed {
    /// Of the small ones.
    pub small: Count,
    /// Of the large ones.
    pub large: Count,
}

/// What a payload that begins so is, among probes.
#[must_use]
pub fn is_probe(payload: &[u8]) -> bool {
    matches!(payload.first(), Some(&(PROBE | ANSWER)))
}

/// A probe or an answer, taken apart.
struct Parsed {
    kind: u8,
    run: u32,
    number: u16,
    counts: [u16; 2],
    /// Place of its length among [`LENGTHS`].
    length: usize,
}

fn parsed(payload: &[u8]) -> Option<Parsed> {
    let length = LENGTHS.iter().position(|length| *length == payload.len())?;
    let (head, _) = payload.split_at_checked(HEADER_BYTES)?;
    let short = |at: usize| u16::from_le_bytes([head[at], head[at + 1]]);
    let run = u32::from_le_bytes([head[1], head[2], head[3], head[4]]);
    Some(Parsed { kind: head[0], run, number: short(5), counts: [short(7), short(9)], length })
}

fn made(kind: u8, run: u32, number: u16, counts: [u16; 2], length: usize) -> Vec<u8> {
    let mut payload = vec![kind];
    payload.extend(run.to_le_bytes());
    payload.extend(number.to_le_bytes());
    payload.extend(counts.iter().flat_map(|count| count.to_le_bytes()));
    payload.resize(LENGTHS[length], 0);
    payload
}

/// What came from a peer that asks.
#[derive(Default)]
struct Heard {
    run: u32,
    counts: [u16; 2],
    answered: u32,
    since: Millis,
}

/// What is asked of a peer.
#[derive(Default)]
struct Asked {
    /// When each was sent, nanoseconds, by length; none once it was answered.
    sent_ns: [Vec<Option<u64>>; 2],
    trips_us: [Vec<u64>; 2],
    there: [u16; 2],
}

/// Of a board: what it asks, and what it answers.
#[derive(Default)]
pub struct Probes {
    heard: BTreeMap<NodeId, Heard>,
    run: u32,
    looked: Option<Millis>,
    asked: BTreeMap<NodeId, Asked>,
}

impl Probes {
    /// A probe or an answer came from a member: what goes back to it, if anything.
    pub fn take(
        &mut self,
        (now, now_ns): (Millis, u64),
        from: NodeId,
        payload: &[u8],
    ) -> Option<Vec<u8>> {
        let parsed = parsed(payload)?;
        match parsed.kind {
            PROBE => self.answer(now, from, &parsed),
            _ => {
                self.answered(now_ns, from, &parsed);
                None
            }
        }
    }

    fn answer(&mut self, now: Millis, from: NodeId, probe: &Parsed) -> Option<Vec<u8>> {
        if probe.run == NO_RUN {
            return None;
        }
        let heard = self.heard.entry(from).or_default();
        if heard.run != probe.run {
            (heard.run, heard.counts) = (probe.run, [0; 2]);
        }
        let count = &mut heard.counts[probe.length];
        *count = count.saturating_add(1);
        if now.since(heard.since) >= 1_000 {
            (heard.answered, heard.since) = (0, now);
        }
        heard.answered += 1;
        let is_rationed = heard.answered > ANSWERS_PER_S;
        let answer = made(ANSWER, probe.run, probe.number, heard.counts, probe.length);
        (!is_rationed).then_some(answer)
    }

    fn answered(&mut self, now_ns: u64, from: NodeId, answer: &Parsed) {
        let Some(asked) = self.asked.get_mut(&from).filter(|_| answer.run == self.run) else {
            return;
        };
        for (there, count) in asked.there.iter_mut().zip(answer.counts) {
            *there = count.max(*there);
        }
        let sent = asked.sent_ns[answer.length].get_mut(usize::from(answer.number));
        if let Some(sent_ns) = sent.and_then(Option::take) {
            asked.trips_us[answer.length].push(now_ns.saturating_sub(sent_ns) / 1_000);
        }
    }

    /// What goes to each of these peers, for a step of a run; `run`, which is not 0, tells a
    /// new one from those before.
    ///
    /// # Errors
    /// When somebody else's run goes on.
    pub fn step(
        &mut self,
        (now, now_ns): (Millis, u64),
        step: Step,
        run: u32,
        peers: &[NodeId],
    ) -> Result<Vec<(NodeId, Vec<u8>)>, String> {
        let is_under_way = self.looked.is_some_and(|at| now.since(at) < RUN_MS_MAX);
        if step == Step::Begin {
            if is_under_way {
                return Err(String::from(
                    "somebody else is looking at the other boards right now: try again in some \
                     seconds",
                ));
            }
            self.run = run;
            self.asked = peers.iter().map(|peer| (*peer, Asked::default())).collect();
        }
        self.looked = Some(now);
        let lengths: &[usize] = match step {
            Step::Begin | Step::Look | Step::End => &[],
            Step::Both => &[0, 1],
            Step::Small => &[0],
        };
        let mut out = Vec::new();
        for (peer, asked) in &mut self.asked {
            if step == Step::Begin {
                out.push((*peer, made(PROBE, NO_RUN, 0, [0; 2], 0)));
            }
            for length in lengths {
                let sent = &mut asked.sent_ns[*length];
                if sent.len() < NUMBERS_MAX {
                    let number = u16::try_from(sent.len()).unwrap_or(u16::MAX);
                    out.push((*peer, made(PROBE, self.run, number, [0; 2], *length)));
                    sent.push(Some(now_ns));
                }
            }
        }
        Ok(out)
    }

    /// Nobody goes on with the run any more.
    pub fn end(&mut self) {
        self.looked = None;
        self.asked.clear();
    }

    /// What has become of the probes of this run.
    #[must_use]
    pub fn probed(&self) -> BTreeMap<NodeId, Probed> {
        let of = |asked: &Asked| Probed { small: asked.count(0), large: asked.count(1) };
        self.asked.iter().map(|(peer, asked)| (*peer, of(asked))).collect()
    }
}

impl Asked {
    fn count(&self, length: usize) -> Count {
        let mut trips = self.trips_us[length].clone();
        trips.sort_unstable();
        let short = |count: usize| u16::try_from(count).unwrap_or(u16::MAX);
        let longest = trips.last().copied();
        Count {
            sent: short(self.sent_ns[length].len()),
            there: self.there[length],
            back: short(trips.len()),
            trips_us: longest.map(|longest| (trips[0], trips[trips.len() / 2], longest)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKER: NodeId = 1;
    const PEER: NodeId = 2;

    fn at(ms: u64) -> (Millis, u64) {
        (Millis(ms), ms * 1_000_000)
    }

    /// A run of so many rounds, over a road that loses what it is told to.
    fn probed(rounds: u64, lost: impl Fn(NodeId, &[u8]) -> bool) -> Probed {
        let (mut asker, mut peer) = (Probes::default(), Probes::default());
        for round in 0..rounds + 4 {
            let step = match round {
                0 => Step::Begin,
                round if round <= rounds => Step::Both,
                _ => Step::Small,
            };
            let out = asker.step(at(round * 50), step, 7, &[PEER]).unwrap();
            for (to, payload) in out {
                assert!(to == PEER && is_probe(&payload));
                if lost(ASKER, &payload) {
                    continue;
                }
                let now = at(round * 50 + 2);
                let Some(answer) = peer.take(now, ASKER, &payload) else { continue };
                assert!(answer.len() <= payload.len(), "no answer is longer than its probe");
                if !lost(PEER, &answer) {
                    assert_eq!(asker.take(at(round * 50 + 3), PEER, &answer), None);
                }
            }
        }
        asker.probed()[&PEER]
    }

    fn of(count: Count) -> (u16, u16, u16) {
        (count.sent, count.there, count.back)
    }

    #[test]
    fn each_direction_is_told_for_each_length() {
        let is_large = |payload: &[u8]| payload.len() > 1_000;
        let all = probed(20, |_, _| false);
        assert_eq!((of(all.small), of(all.large)), ((23, 23, 23), (20, 20, 20)));
        assert_eq!(all.small.trips_us, Some((3_000, 3_000, 3_000)));
        let there = probed(20, |from, payload| from == ASKER && is_large(payload));
        assert_eq!((of(there.small), of(there.large)), ((23, 23, 23), (20, 0, 0)));
        let back = probed(20, |from, payload| from == PEER && is_large(payload));
        assert_eq!((of(back.small), of(back.large)), ((23, 23, 23), (20, 20, 0)));
        let none = probed(20, |_, _| true);
        assert_eq!((of(none.small), none.small.trips_us), ((23, 0, 0), None));
    }

    #[test]
    fn a_peer_is_answered_so_often_in_a_second_and_no_more() {
        let mut peer = Probes::default();
        let probe = made(PROBE, 7, 0, [0; 2], 1);
        let mut answers =
            |ms| (0..300).filter(|_| peer.take(at(ms), ASKER, &probe).is_some()).count();
        assert_eq!((answers(5_000), answers(5_999)), (100, 0));
        assert_eq!(answers(6_000), 100);
    }

    #[test]
    fn nonsense_and_answers_to_another_run_count_for_nothing() {
        let mut asker = Probes::default();
        asker.step(at(0), Step::Begin, 7, &[PEER]).unwrap();
        asker.step(at(0), Step::Both, 0, &[]).unwrap();
        for payload in [
            made(ANSWER, 8, 0, [9; 2], 0),
            made(ANSWER, 7, 0, [9; 2], 0)[..10].to_vec(),
            vec![ANSWER],
            vec![ANSWER; 12],
        ] {
            assert_eq!(asker.take(at(1), PEER, &payload), None);
        }
        assert_eq!(asker.take(at(1), 3, &made(ANSWER, 7, 0, [9; 2], 0)), None);
        assert_eq!(of(asker.probed()[&PEER].small), (1, 0, 0));
        asker.take(at(1), PEER, &made(ANSWER, 7, 60_000, [1; 2], 0));
        assert_eq!(of(asker.probed()[&PEER].small), (1, 1, 0), "it tells of what came");
    }

    #[test]
    fn a_board_that_knows_no_probes_drops_them() {
        use understudy_core::link::Links;
        for length in [0, 1] {
            let probe = made(PROBE, 7, 0, [0; 2], length);
            let taken = Links::new(1).receive(Millis(0), ASKER, &probe, &mut Vec::new());
            assert!(taken.is_err());
        }
    }

    #[test]
    fn one_looks_at_a_time() {
        let mut asker = Probes::default();
        asker.step(at(0), Step::Begin, 7, &[PEER]).unwrap();
        assert!(asker.step(at(9_999), Step::Begin, 8, &[PEER]).is_err());
        asker.end();
        asker.step(at(9_999), Step::Begin, 8, &[PEER]).unwrap();
        asker.step(at(20_000), Step::Begin, 9, &[PEER]).unwrap();
    }
}
