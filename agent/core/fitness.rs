//! A dead sensor is a dead board, for a duty that says so: a board is fit for it while the
//! duty's sensor reports there, and the leader has the duty go from a holder that is not
//! to a board that is. Where there is none the holder keeps it.
//!
//! A sensor reports by any reading that this board takes in of it. What is no value (NaN)
//! is none of those, so a sensor that fails is as silent as one that is unplugged.
//!
//! Beside that, a duty may prefer its candidates in order: it goes back to one that comes
//! before its holder once that was ready for as long as the duty says.
//!
//! A duty that has moved often of late stays where it is: a sensor that comes and goes on
//! two boards in turn does not carry it along.

use alloc::vec::Vec;

use crate::{
    duty::{Duty, Incarnation},
    event::{Millis, NodeId},
    limits::{DUTY_MOVES_MAX, DUTY_MOVES_MS},
    mutant,
    node::Node,
    readings::Reading,
};

/// The sensors that duties want to report.
fn sensors_of(rows: &[Duty]) -> Vec<&str> {
    let wanted = rows.iter().filter_map(|duty| duty.rules.fresh.as_ref());
    wanted.map(|fresh| fresh.sensor.as_str()).collect()
}

impl Node {
    /// Readings have come to this board: of a sensor that a duty wants?
    pub(crate) fn note_sensors(&mut self, now: Millis, readings: &[Reading]) {
        let wanted = sensors_of(&self.duties.rows);
        let is_wanted = |reading: &&Reading| wanted.contains(&reading.sensor.as_str());
        if wanted.is_empty() {
            return;
        }
        for reading in readings.iter().filter(is_wanted) {
            self.duties.sensors.insert(reading.sensor.clone(), now);
        }
    }

    /// Looks anew at which duties this board is not fit for.
    pub(crate) fn look_at_sensors(&mut self, now: Millis) {
        let sensors = &self.duties.sensors;
        let is_silent = |duty: &&Duty| {
            duty.rules.fresh.as_ref().is_some_and(|fresh| {
                let last = sensors.get(&fresh.sensor);
                last.is_none_or(|at| now.since(*at) >= fresh.within_ms)
            })
        };
        let unfit = self.duties.rows.iter().filter(is_silent).map(|duty| duty.id).collect();
        if unfit != self.duties.unfit {
            self.duties.unfit = unfit;
            self.duties.told = (None, 0);
            self.duties.changes += 1;
        }
    }

    /// The rows about duties are others: what is remembered of sensors that none wants goes.
    pub(crate) fn forget_sensors(&mut self) {
        let wanted = sensors_of(&self.duties.rows);
        self.duties.sensors.retain(|sensor, _| wanted.contains(&sensor.as_str()));
    }

    /// Is the sensor silent that this duty wants to report here?
    #[must_use]
    pub fn is_unfit_for(&self, duty: u64) -> bool {
        self.duties.unfit.contains(&duty)
    }

    /// Does nobody do this duty, as far as this board knows?
    #[must_use]
    pub fn is_forsaken(&self, now: Millis, duty: &Duty) -> bool {
        let own = self.incarnation();
        // Of a start that another has come after, nobody renews anything any more.
        let is_gone = |holder: Incarnation| {
            let is_past = self.boot_of(holder.board) > holder.boot;
            let is_away = holder.board != own.board && self.hears(now, holder.board) == Some(false);
            is_past || is_away
        };
        duty.holder.is_none_or(is_gone) && !duty.is_paused
    }

    /// Has its holder said, in the start that it holds this duty in, that it is not ready
    /// for it? One that has said nothing yet has not.
    pub(crate) fn is_unfit(&self, now: Millis, duty: &Duty, holder: Incarnation) -> bool {
        if holder.board == self.config.id {
            return holder == self.incarnation() && !self.is_ready_for(duty.id);
        }
        let said = self.said_ready(now, holder.board);
        said.is_some_and(|ready| ready.start == holder && !ready.duties.contains(&duty.id))
    }

    /// Rows about duties are about to be these: which have moved?
    pub(crate) fn note_moves(&mut self, now: Millis, rows: &[Duty]) {
        let moves = &mut self.duties.moves;
        moves.retain(|id, _| rows.iter().any(|duty| duty.id == *id));
        for (duty, holder) in rows.iter().filter_map(|duty| Some((duty, duty.holder?))) {
            let of_it = moves.entry(duty.id).or_default();
            if of_it.back().is_none_or(|(_, board)| *board != holder.board) {
                of_it.push_back((now, holder.board));
            }
            while of_it.len() > DUTY_MOVES_MAX + 1 {
                of_it.pop_front();
            }
        }
    }

    /// When this duty went from one board to another the last time that this node saw, and
    /// from which to which.
    #[must_use]
    pub fn last_move(&self, duty: u64) -> Option<(Millis, NodeId, NodeId)> {
        let mut moves = self.duties.moves.get(&duty)?.iter().rev();
        let (at, to) = moves.next()?;
        Some((*at, moves.next()?.1, *to))
    }

    /// Has it moved too often of late?
    pub(crate) fn is_restless(&self, now: Millis, duty: &Duty) -> bool {
        let moves = self.duties.moves.get(&duty.id).filter(|moves| moves.len() > DUTY_MOVES_MAX);
        let first = moves.and_then(|moves| moves.get(1));
        first.is_some_and(|(at, _)| now.since(*at) < DUTY_MOVES_MS) && !mutant::is(117)
    }

    /// Since when is a board ready that comes before this duty's holder in order?
    pub(crate) fn look_for_better(&mut self, now: Millis) {
        let better = self.duties.rows.iter().filter(|duty| self.has_better(now, duty));
        let better: Vec<u64> = better.map(|duty| duty.id).collect();
        self.duties.better.retain(|id, _| better.contains(id));
        for id in better {
            self.duties.better.entry(id).or_insert(now);
        }
    }

    fn has_better(&self, now: Millis, duty: &Duty) -> bool {
        let rank = duty.holder.map(|holder| duty.rank(holder.board));
        let Some(Some(rank)) = rank.filter(|_| duty.rules.preempt_ms.is_some()) else {
            return false;
        };
        let slow = self.slow_boards();
        let is_better =
            |board: &NodeId| !slow.contains(board) && self.ready_for(now, *board, duty).is_some();
        duty.candidates.iter().take(rank).any(is_better)
    }

    /// Has such a board waited long enough?
    pub(crate) fn is_preempted(&self, now: Millis, duty: &Duty) -> bool {
        let since = self.duties.better.get(&duty.id);
        since.zip(duty.rules.preempt_ms).is_some_and(|(since, ms)| now.since(*since) >= ms)
    }
}

#[cfg(test)]
#[path = "fitness_tests.rs"]
mod tests;
