//! How long a leader's word takes to a board and the answer back, by the rounds it asks
//! (`rounds`): a board that cannot keep up with the group's timing profile is no place for
//! a duty, since its lease would run out with the next hiccup.
//!
//! One long trip says nothing, so a board is slow once its trips were long for a while, and
//! no longer so once they were short for as long. Where most of the others seem slow, it is
//! the leader's own road that is.
//!
//! Boards that vote and keep the data are measured. A slow board holds a duty only where no
//! other is ready.
//!
//! Left out: how long a board's disk takes, which that board knows itself.

use alloc::{
    collections::{BTreeMap, VecDeque},
    vec::Vec,
};

use crate::{
    duties::Renewal,
    event::{Millis, NodeId},
    link::pace::RoundTrip,
    node::Node,
    wire::ReadContext,
};

/// Rounds whose answers are still told apart.
const ROUNDS_MAX: usize = 64;

/// For so long trips are long, or short, before that counts, milliseconds.
const STEADY_MS: u64 = 20_000;

/// Where nobody renews anything a round is asked this often, milliseconds, or with every
/// heartbeat where those are rarer.
const ASK_MS: u64 = 1_000;

/// Between two rounds whose answers are looked at, milliseconds: those of many reads are too
/// many to remember.
const NOTE_MS: u64 = 200;

/// What is known of a board is worth nothing after so long, milliseconds.
const KNOWN_MS: u64 = 60_000;

/// What is known of one board.
#[derive(Default)]
struct Trip {
    time: RoundTrip,
    /// The last round that it answered, which heartbeats repeat, and when.
    last: Option<(ReadContext, Millis)>,
    is_slow: bool,
    /// Since when its trips have not fitted that.
    since: Option<Millis>,
}

/// See the module's description.
#[derive(Default)]
pub(crate) struct Trips {
    /// Rounds and when they were asked, the last at the end.
    asked: VecDeque<(ReadContext, Millis)>,
    of: BTreeMap<NodeId, Trip>,
}

impl Trips {
    fn asked_at(&self) -> Option<Millis> {
        self.asked.back().map(|(_, at)| *at)
    }

    /// A board has left the group.
    pub(crate) fn forget(&mut self, board: NodeId) {
        self.of.remove(&board);
    }

    /// Long trips make a board slow, short ones make it none; those between change nothing.
    fn judge(&mut self, now: Millis, long_ms: u64) {
        let is_known = |trip: &Trip| trip.last.is_none_or(|(_, at)| now.since(at) < KNOWN_MS);
        self.of.retain(|_, trip| is_known(trip));
        for trip in self.of.values_mut() {
            let Some(ms) = trip.time.longest_ms() else { continue };
            let fits = if trip.is_slow { ms >= long_ms / 2 } else { ms <= long_ms };
            trip.since = if fits { None } else { trip.since.or(Some(now)) };
            if trip.since.take_if(|since| now.since(*since) >= STEADY_MS).is_some() {
                trip.is_slow = !trip.is_slow;
            }
        }
    }

    /// These boards are slow, as this one sees it.
    fn slow(&self, own: NodeId) -> Vec<NodeId> {
        let slow = self.of.iter().filter(|(_, trip)| trip.is_slow).map(|(board, _)| *board);
        let slow: Vec<NodeId> = slow.collect();
        match 2 * slow.len() > self.of.len() + 1 {
            true => Vec::from([own]),
            false => slow,
        }
    }
}

impl Node {
    /// Asks a round of all boards: of the leader, where this board does not lead.
    pub(crate) fn ask_round(&mut self, now: Millis, context: ReadContext) {
        self.note_round(now, context);
        self.raw.read_index(Vec::from(context));
    }

    /// A round is asked of all boards now.
    pub(crate) fn note_round(&mut self, now: Millis, context: ReadContext) {
        let asked = &mut self.duties.trips.asked;
        if asked.back().is_some_and(|(_, at)| now.since(*at) < NOTE_MS) {
            return;
        }
        if asked.len() == ROUNDS_MAX {
            asked.pop_front();
        }
        asked.push_back((context, now));
    }

    /// The next round is noted whenever it is asked.
    #[cfg(test)]
    pub(crate) fn forget_round(&mut self) {
        self.duties.trips.asked.clear();
    }

    /// A board has answered one.
    pub(crate) fn note_trip(&mut self, now: Millis, from: NodeId, context: &ReadContext) {
        let asked = self.duties.trips.asked.iter().find(|(known, _)| known == context);
        let asked = asked.map(|(_, at)| now.since(*at));
        let is_voter = self.membership.data_voters().contains(&from);
        let Some(ms) = asked.filter(|_| self.leads() && is_voter) else { return };
        let trip = self.duties.trips.of.entry(from).or_default();
        if trip.last.is_none_or(|(known, _)| known != *context) {
            trip.last = Some((*context, now));
            trip.time.sample(now, ms);
        }
    }

    /// Another leads, or this board begins to: what was known is of another road.
    pub(crate) fn forget_trips(&mut self) {
        self.duties.trips = Trips::default();
    }

    /// Asks where nobody renews anything.
    pub(crate) fn tend_trips(&mut self, now: Millis) {
        if !self.leads() {
            return;
        }
        let timing = &self.config.timing;
        let ask_ms = ASK_MS.max(timing.tick_ms * timing.heartbeat_ticks as u64);
        let is_due = self.duties.trips.asked_at().is_none_or(|at| now.since(at) >= ask_ms);
        if is_due && self.duties.renewals.len() == 0 {
            let (from, number, claims) = (self.config.id, 0, Vec::new());
            self.duties.renewals.gather(Renewal { from, number, claims });
        }
    }

    /// Says anew which boards are slow.
    pub(crate) fn judge_trips(&mut self, now: Millis) {
        self.duties.trips.judge(now, self.round_trip_ms_max());
    }

    /// The longest round trip that goes with the group's timing, milliseconds: another fits
    /// before anybody campaigns.
    #[must_use]
    pub fn round_trip_ms_max(&self) -> u64 {
        self.config.timing.election_ms_min() / 2
    }

    /// Boards that cannot keep up with the group's timing, as a leader sees it.
    #[must_use]
    pub fn slow_boards(&self) -> Vec<NodeId> {
        self.duties.trips.slow(self.config.id)
    }

    /// About the longest round trip to a board of late, milliseconds, as a leader knows it.
    #[must_use]
    pub fn round_trip_ms(&self, board: NodeId) -> Option<u64> {
        self.duties.trips.of.get(&board)?.time.longest_ms()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trips(ms: &[(NodeId, u64)]) -> Trips {
        let mut trips = Trips::default();
        for (board, ms) in ms {
            for _ in 0..20 {
                trips.of.entry(*board).or_default().time.sample(Millis(0), *ms);
            }
        }
        trips
    }

    #[test]
    fn a_board_is_slow_once_its_trips_were_long_for_a_while_and_quick_again_likewise() {
        let mut known = trips(&[(2, 900), (3, 10)]);
        known.judge(Millis(1_000), 200);
        known.judge(Millis(20_000), 200);
        assert!(known.slow(1).is_empty());
        known.judge(Millis(21_000), 200);
        assert_eq!(known.slow(1), [2]);
        known.of.insert(2, Trip { is_slow: true, ..trips(&[(2, 10)]).of.remove(&2).unwrap() });
        known.judge(Millis(22_000), 200);
        assert_eq!(known.slow(1), [2]);
        known.judge(Millis(42_000), 200);
        assert!(known.slow(1).is_empty());
    }

    #[test]
    fn where_most_seem_slow_the_leader_is() {
        for (known, slow) in [
            (&[(2, 900), (3, 900)][..], [1].as_slice()),
            (&[(2, 900), (3, 900), (4, 10)], &[2, 3]),
            (&[(2, 900), (3, 900), (4, 900), (5, 10)], &[1]),
        ] {
            let mut known = trips(known);
            known.judge(Millis(1_000), 200);
            known.judge(Millis(21_000), 200);
            assert_eq!(known.slow(1), slow);
        }
        let mut known = trips(&[(2, 900)]);
        known.judge(Millis(1_000), 200);
        known.judge(Millis(21_000), 200);
        assert_eq!(known.slow(1), [2], "of two nobody knows");
    }
}
