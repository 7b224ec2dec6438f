//! What became of the samples, for `status` and for the log.
//!
//! `status` says how each sensor stands now. The log hears of one that fails when it begins to,
//! and in other words, but not more than once an hour: what comes and goes with every gust of
//! wind would fill it. A sensor that gave a value since this start and is not there any more
//! stays named.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tracing::warn;
use understudy_boards::Source;
use understudy_core::event::Millis;

use crate::status::SampleStatus;

/// Sources of a board that are read.
pub(super) const SOURCES_MAX: usize = 256;

/// Who does not answer for so long is told of, seconds.
const LATE_S: u64 = 5;

/// Between two warnings of one sensor.
const WARNING_MS: u64 = 3_600_000;

/// Why a sample whose source was never seen is not taken.
pub(super) const NOWHERE: &str = "there is no such source: `understudy board` lists them";

/// The same of a line of a GPIO chip, which no list has.
pub(super) const NO_LINE: &str =
    "a GPIO line is named gpio/NAME or gpio/CHIP/NUMBER, as in gpio/GPIO17 or gpio/gpiochip0/17";

/// The same where it gave values since this start.
const GONE: &str = "it is not there any more";

/// One source that is read.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Job {
    pub(super) source: Source,
    pub(super) sensor: String,
    pub(super) every_ms: u64,
}

/// What became of the samples.
#[derive(Clone, Debug, Default)]
pub struct Samples(Arc<Mutex<Record>>);

#[derive(Debug, Default)]
struct Record {
    /// By the sensors' names.
    seen: BTreeMap<String, Seen>,
    /// What is wrong with parts of the configuration: the source, and why.
    wrong: Vec<(String, String)>,
    /// Of which sources among those the log heard, and when.
    warned: BTreeMap<String, Millis>,
}

#[derive(Clone, Debug, Default)]
struct Seen {
    source: String,
    bus: String,
    value: Option<f64>,
    trouble: Option<String>,
    /// Since when it is being read.
    asked: Option<Millis>,
    warnings: Warnings,
}

/// What the log heard of a sensor.
#[derive(Clone, Debug, Default)]
struct Warnings {
    /// When it did last.
    last: Option<Millis>,
    /// It has heard of the present trouble.
    is_told: bool,
    /// How often the sensor failed since.
    failures: u64,
}

impl Warnings {
    /// It failed, in the words of the time before or in others: how often since the last
    /// warning, where it is time for one.
    fn due(&mut self, now: Millis, is_same: bool) -> Option<u64> {
        self.failures += 1;
        self.is_told &= is_same;
        let is_time = self.last.is_none_or(|last| now.since(last) >= WARNING_MS);
        if self.is_told || !is_time {
            return None;
        }
        (self.last, self.is_told) = (Some(now), true);
        Some(std::mem::take(&mut self.failures))
    }
}

impl Seen {
    fn late_s(&self, now: Millis) -> u64 {
        self.asked.map_or(0, |asked| now.since(asked) / 1_000)
    }

    fn fails(&mut self, now: Millis, sensor: &str, trouble: String) {
        let is_same = self.trouble.as_ref() == Some(&trouble);
        if let Some(failures) = self.warnings.due(now, is_same) {
            warn!(sensor, trouble, failures, "a source cannot be read");
        }
        self.trouble = Some(trouble);
    }
}

impl Samples {
    fn lock(&self) -> MutexGuard<'_, Record> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How they stand.
    #[must_use]
    pub fn status(&self, now: Millis) -> Vec<SampleStatus> {
        let record = self.lock();
        let is_late = |seen: &&Seen| seen.late_s(now) >= LATE_S;
        let hung = record.seen.values().filter(is_late).map(|seen| &seen.bus);
        let hung: BTreeSet<&String> = hung.collect();
        let shown = |(sensor, seen): (&String, &Seen)| {
            let Seen { source, bus, value, trouble, .. } = seen.clone();
            let late = || format!("it has not answered for {} s", seen.late_s(now));
            let waits = || String::from("it is not asked: another on its bus does not answer");
            let trouble = match seen.late_s(now) >= LATE_S {
                true => Some(late()),
                false => trouble.or_else(|| hung.contains(&bus).then(waits)),
            };
            SampleStatus { sensor: sensor.clone(), source, value, trouble }
        };
        let wrong = record.wrong.iter().map(|(source, why)| SampleStatus {
            source: source.clone(),
            trouble: Some(why.clone()),
            ..SampleStatus::default()
        });
        record.seen.iter().map(shown).chain(wrong).collect()
    }

    /// It is being read now.
    pub(super) fn asks(&self, now: Millis, job: &Job) {
        let mut record = self.lock();
        record.of(job).asked = Some(now);
    }

    /// What came of that.
    pub(super) fn found(&self, now: Millis, job: &Job, found: Result<f64, String>) {
        let mut record = self.lock();
        let seen = record.of(job);
        seen.asked = None;
        match found {
            Ok(value) => (seen.value, seen.trouble) = (Some(value), None),
            Err(trouble) => seen.fails(now, &job.sensor, trouble),
        }
    }

    /// Has it said something since this start?
    pub(super) fn has_value(&self, job: &Job) -> bool {
        self.lock().seen.get(&job.sensor).is_some_and(|seen| seen.value.is_some())
    }

    /// What was found at a look.
    pub(super) fn assigned(&self, now: Millis, jobs: &[Job], wrong: Vec<(String, String)>) {
        let mut record = self.lock();
        record.wrong = wrong;
        record.miss(now, jobs);
        record.warn(now);
    }
}

impl Record {
    fn of(&mut self, job: &Job) -> &mut Seen {
        let seen = self.seen.entry(job.sensor.clone()).or_default();
        seen.source.clone_from(&job.source.name);
        seen.bus.clone_from(&job.source.bus);
        seen
    }

    /// Names those that gave values and are not among these jobs: not what is read under
    /// another name, nor what is not read for a reason that is told anyway.
    fn miss(&mut self, now: Millis, jobs: &[Job]) {
        let wrong = &self.wrong;
        let is_told = |source: &str| {
            jobs.iter().any(|job| job.source.name == source)
                || wrong.iter().any(|(other, why)| other == source && why != NOWHERE)
        };
        let mut room = SOURCES_MAX.saturating_sub(jobs.len());
        let mut gone = Vec::new();
        self.seen.retain(|sensor, seen| {
            if jobs.iter().any(|job| job.sensor == *sensor) {
                return true;
            }
            let is_missed = seen.value.is_some() && !is_told(&seen.source) && room > 0;
            if is_missed {
                room -= 1;
                seen.fails(now, sensor, String::from(GONE));
                gone.push(seen.source.clone());
            }
            is_missed
        });
        self.wrong.retain(|(source, _)| !gone.contains(source));
    }

    /// The log hears what is wrong once while it lasts, and not again within the hour.
    fn warn(&mut self, now: Millis) {
        let Self { wrong, warned, .. } = self;
        warned.retain(|source, last| {
            now.since(*last) < WARNING_MS || wrong.iter().any(|(other, _)| other == source)
        });
        for (source, why) in wrong {
            if !warned.contains_key(source) {
                warn!(source, why, "a sample is not taken");
                warned.insert(source.clone(), now);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_hears_of_a_sensor_once_an_hour_and_how_often_it_failed_since() {
        let mut warnings = Warnings::default();
        let minute = |minute: u64| Millis(60_000 * minute);
        assert_eq!(warnings.due(minute(0), false), Some(1));
        for at in 1..60 {
            assert_eq!(warnings.due(minute(at), false), None, "other words, or good between");
        }
        assert_eq!(warnings.due(minute(60), true), Some(60), "the last words it has not heard");
        assert_eq!(warnings.due(minute(200), true), None, "what lasts it has heard of");
        assert_eq!(warnings.due(minute(201), false), Some(2));
    }

    #[test]
    fn what_is_wrong_now_and_then_is_told_to_the_log_once_an_hour() {
        let mut record = Record::default();
        let mut told = |minute: u64, is_wrong: bool| {
            let wrong = (String::from("w1/*"), String::from(NOWHERE));
            record.wrong = if is_wrong { vec![wrong] } else { Vec::new() };
            record.warn(Millis(60_000 * minute));
            record.warned.values().map(|last| last.0 / 60_000).collect::<Vec<u64>>()
        };
        assert_eq!((told(0, true), told(1, false), told(2, true)), (vec![0], vec![0], vec![0]));
        assert_eq!(told(90, true), [0], "it lasts");
        assert_eq!((told(91, false), told(92, true)), (vec![], vec![92]));
    }

    #[test]
    fn only_so_many_that_are_gone_are_named() {
        let mut record = Record::default();
        for number in 0..SOURCES_MAX + 5 {
            let source = format!("w1/{number}");
            let seen = Seen { source, value: Some(1.0), ..Seen::default() };
            record.seen.insert(number.to_string(), seen);
        }
        record.miss(Millis(0), &[]);
        assert_eq!(record.seen.len(), SOURCES_MAX);
    }
}
