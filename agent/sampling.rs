//! `[[sample]]`: the board's own sensors, read by the agent every so often and handed over as
//! any sensor process hands its readings over.
//!
//! Nothing is read on the agent's thread, nor on those it shares: what hangs in a driver holds
//! up what is on the same bus, and nothing else. Each bus has a task, and a thread only while
//! something is read there. Once a minute it is looked anew what there is, so what is plugged
//! in later, or again, is read then.

mod record;
mod units;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde::Deserialize;
use tokio::sync::{mpsc, oneshot};
use understudy_boards::{Source, board::fits, source};
use understudy_core::{event::Millis, readings::Level, sql::Value};

pub use self::record::Samples;
use self::{
    record::{Job, NO_LINE, NOWHERE, SOURCES_MAX},
    units::Units,
};
use crate::{
    call::Caller,
    driver::clock,
    readings::{
        Draft,
        desk::{Desk, Message},
    },
};

/// Buses: each may have a thread while something is read there.
const BUSES_MAX: usize = 16;

/// What such a thread needs, bytes.
const STACK_BYTES: usize = 64 << 10;

/// Between two looks at what there is, and until the board has a name.
const LOOK: Duration = Duration::from_secs(60);
const NAMELESS: Duration = Duration::from_secs(1);

/// What is read within so long is handed over together: each time the disk is written to.
const GATHER: Duration = Duration::from_millis(50);

/// `[[sample]]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sample {
    /// What is read, as `understudy board` lists it; `*` stands for any part.
    pub source: String,
    /// The sensor's name, in which {board} and {source} stand for those.
    #[serde(default = "sensor")]
    pub sensor: String,
    /// From one reading to the next, seconds.
    #[serde(default = "every_s")]
    pub every_s: u64,
}

fn sensor() -> String {
    String::from("{board}/{source}")
}

const fn every_s() -> u64 {
    60
}

/// A bus, whose task ends when nothing is to be read there any more.
#[derive(Debug, Default)]
struct Bus {
    /// What is read there, as the last look found it.
    jobs: Vec<Job>,
    /// The task has ended.
    is_over: bool,
}

type SharedBus = Arc<Mutex<Bus>>;

impl Samples {
    /// Begins to read these, of what is under `root`, which is `/` but for tests, and of the
    /// folder with the data.
    #[must_use]
    pub fn start(
        all: &[Sample],
        (root, data): (&Path, &Path),
        caller: &Caller,
        desk: &Desk,
    ) -> Self {
        let samples = Self::default();
        if !all.is_empty() {
            let looking = Looking {
                samples: samples.clone(),
                all: all.to_vec(),
                places: (root.to_owned(), data.to_owned()),
                lines: all.iter().filter_map(|sample| source::line(&sample.source)).collect(),
                caller: caller.clone(),
                desk: desk.clone(),
                buses: BTreeMap::new(),
            };
            tokio::spawn(looking.look());
        }
        samples
    }
}

/// Whoever looks for sources and has each bus read.
struct Looking {
    samples: Samples,
    all: Vec<Sample>,
    /// The root and the data folder.
    places: (PathBuf, PathBuf),
    /// Lines of GPIO chips that are configured: made once, for each is kept by its source.
    lines: Vec<Source>,
    caller: Caller,
    desk: Desk,
    buses: BTreeMap<String, SharedBus>,
}

impl Looking {
    async fn look(mut self) {
        while let Some(status) = self.caller.status().await {
            let is_known = !status.board.is_empty();
            if is_known && let Some(there) = found(self.places.clone()).await {
                let (jobs, wrong) = assign(&self.all, (&there, &self.lines), &status.board);
                self.have_read(jobs, wrong);
            }
            // One that was removed stays without a name.
            tokio::time::sleep(if is_known || status.removed { LOOK } else { NAMELESS }).await;
        }
    }

    fn have_read(&mut self, all: Vec<Job>, mut wrong: Vec<(String, String)>) {
        let mut by_bus: BTreeMap<String, Vec<Job>> = BTreeMap::new();
        for job in all.iter().cloned() {
            by_bus.entry(job.source.bus.clone()).or_default().push(job);
        }
        self.buses.retain(|name, bus| {
            let mut bus = locked(bus);
            if !bus.is_over {
                bus.jobs = by_bus.remove(name).unwrap_or_default();
            }
            !bus.is_over
        });
        for (name, jobs) in by_bus {
            if self.buses.len() >= BUSES_MAX {
                let why = || format!("sources on {BUSES_MAX} buses are read already");
                wrong.extend(jobs.into_iter().map(|job| (job.source.name, why())));
                continue;
            }
            let bus = SharedBus::new(Mutex::new(Bus { jobs, is_over: false }));
            let (samples, caller) = (self.samples.clone(), self.caller.clone());
            tokio::spawn(read(samples, Arc::clone(&bus), caller, self.desk.clone()));
            self.buses.insert(name, bus);
        }
        let is_read = |job: &Job| self.buses.contains_key(&job.source.bus);
        let read: Vec<Job> = all.into_iter().filter(is_read).collect();
        self.samples.assigned(clock::now(), &read, wrong);
    }
}

fn locked(bus: &SharedBus) -> MutexGuard<'_, Bus> {
    bus.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is to be read on a bus; where that is nothing it is over.
fn jobs_of(bus: &SharedBus) -> Vec<Job> {
    let mut bus = locked(bus);
    bus.is_over = bus.jobs.is_empty();
    bus.jobs.clone()
}

/// Begins it on a thread of its own; false where there can be no such thread.
fn begin(what: impl FnOnce() + Send + 'static) -> bool {
    std::thread::Builder::new().stack_size(STACK_BYTES).spawn(what).is_ok()
}

/// What there is; nothing where there can be no thread to look on.
async fn found((root, data): (PathBuf, PathBuf)) -> Option<Vec<Source>> {
    let (tell, told) = oneshot::channel();
    // Nobody may wait any more.
    begin(move || drop(tell.send(source::all(&root, &data))));
    told.await.ok()
}

/// What is to be read of what there is, and what of the configuration comes to nothing.
fn assign(
    all: &[Sample],
    (there, lines): (&[Source], &[Source]),
    board: &str,
) -> (Vec<Job>, Vec<(String, String)>) {
    let (mut jobs, mut wrong) = (Vec::<Job>::new(), Vec::new());
    for sample in all {
        let fitting = there.iter().filter(|source| fits(&sample.source, &source.name));
        let mut fitting: Vec<Source> = fitting.cloned().collect();
        if fitting.is_empty() {
            fitting.extend(lines.iter().find(|line| line.name == sample.source).cloned());
        }
        if fitting.is_empty() {
            let is_line = sample.source.starts_with("gpio/");
            let why = if is_line { NO_LINE } else { NOWHERE };
            wrong.push((sample.source.clone(), String::from(why)));
        }
        for source in fitting {
            let sensor = sample.sensor.replace("{board}", board).replace("{source}", &source.name);
            if jobs.iter().any(|job| job.sensor == sensor) {
                wrong.push((source.name, format!("another is called {sensor} already")));
            } else if jobs.len() >= SOURCES_MAX {
                wrong.push((source.name, format!("{SOURCES_MAX} sources are read already")));
            } else {
                jobs.push(Job { source, sensor, every_ms: 1_000 * sample.every_s });
            }
        }
    }
    (jobs, wrong)
}

/// Reads what is on one bus, each when it is due, until nothing is to be read there.
async fn read(samples: Samples, bus: SharedBus, caller: Caller, desk: Desk) {
    let (mut due, mut units) = (BTreeMap::<String, Millis>::new(), Units::default());
    loop {
        let now = clock::now();
        let all = jobs_of(&bus);
        if all.is_empty() {
            return;
        }
        due.retain(|sensor, _| all.iter().any(|job| job.sensor == *sensor));
        units.retain(&all);
        let is_due = |job: &Job| due.get(&job.sensor).is_none_or(|at| *at <= now);
        let some: Vec<Job> = all.iter().filter(|job| is_due(job)).cloned().collect();
        for job in &some {
            // What was missed while something hung is not made up for.
            let at = due.get(&job.sensor).copied().unwrap_or(now);
            let next = at.plus(job.every_ms).max(now.plus(job.every_ms / 2));
            due.insert(job.sensor.clone(), next);
        }
        if !some.is_empty() {
            if read_all(&samples, &some, &desk).await.is_none() {
                return;
            }
            let told: Vec<&Job> = some.iter().filter(|job| samples.has_value(job)).collect();
            units.set(&caller, &told).await;
        }
        let next = due.values().min().map_or(u64::MAX, |at| at.since(clock::now()));
        tokio::time::sleep(Duration::from_millis(next).min(LOOK)).await;
    }
}

/// Reads these one after the other, and hands over what there is while others are still waited
/// for, so that each reading has its own time; nothing when the agent stops.
async fn read_all(samples: &Samples, jobs: &[Job], desk: &Desk) -> Option<()> {
    let (tell, mut told) = mpsc::channel(jobs.len());
    let (record, taken) = (samples.clone(), jobs.to_vec());
    let read = move || {
        for (number, job) in (0..).zip(taken) {
            // Nobody may wait any more.
            let _ = read_one(&record, &job).map(|draft| tell.blocking_send((number, draft)));
        }
    };
    if !begin(read) {
        let why = || Err(String::from("there is no thread to read it on"));
        jobs.iter().for_each(|job| samples.found(clock::now(), job, why()));
    }
    while let Some((number, draft)) = told.recv().await {
        let mut message = Message::default();
        message.draft(number, draft);
        tokio::time::sleep(GATHER).await;
        while let Ok((number, draft)) = told.try_recv() {
            message.draft(number, draft);
        }
        hand_over(samples, jobs, message, desk).await?;
    }
    Some(())
}

fn read_one(samples: &Samples, job: &Job) -> Option<Draft> {
    samples.asks(clock::now(), job);
    let value = job.source.read().map_err(|error| error.to_string());
    let read = value.as_ref().ok().copied();
    samples.found(clock::now(), job, value);
    let (sensor, value) = (job.sensor.clone(), Value::Real(read?));
    Some(Draft { sensor, value, time: None, id: None, token: None })
}

/// What is not taken is told of its sensor; nothing when the agent stops.
async fn hand_over(samples: &Samples, jobs: &[Job], message: Message, desk: &Desk) -> Option<()> {
    let told = desk.store(message, Level::Spooled).await?;
    for (number, why) in told.refused {
        let job = usize::try_from(number).ok().and_then(|number| jobs.get(number));
        if let Some(job) = job {
            let why = format!("its reading is not taken: {why}");
            samples.found(clock::now(), job, Err(why));
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use understudy_boards::sources;
    use understudy_core::{
        event::{Reply, Request},
        readings::Receipt,
        sql,
    };

    use super::*;
    use crate::{call::Call, status::Status};

    fn sample(source: &str, sensor: &str) -> Sample {
        Sample { source: source.into(), sensor: sensor.into(), every_s: 1 }
    }

    fn machine() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in [
            ("proc/loadavg", "0.5 0.6 0.7 1/2 3"),
            ("sys/class/thermal/thermal_zone0/type", "cpu"),
            ("sys/class/thermal/thermal_zone0/temp", "40000"),
            ("sys/bus/w1/devices/28-a/w1_slave", "01 : crc=71 YES\n01 t=22875\n"),
        ] {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    fn sensors(jobs: &[Job]) -> Vec<&str> {
        jobs.iter().map(|job| &job.sensor[..]).collect()
    }

    #[test]
    fn sources_are_taken_once_and_what_comes_to_nothing_is_named() {
        let root = machine();
        let all = [
            sample("load/*", "{board}/{source}"),
            sample("load/1m", "red/load/1m"),
            sample("w1/28-nowhere", "x"),
            sample("gpio/GPIO17", "door"),
            sample("disk/free/data", "room"),
        ];
        let lines = [source::line("gpio/GPIO17").unwrap()];
        let there = source::all(root.path(), root.path());
        let (jobs, wrong) = assign(&all, (&there, &lines), "red");
        assert_eq!(sensors(&jobs), ["red/load/1m", "red/load/5m", "door", "room"]);
        assert_eq!(wrong[0].1, "another is called red/load/1m already");
        assert!(wrong[1].0 == "w1/28-nowhere" && wrong[1].1.contains("no such source"));
        let samples = Samples::default();
        samples.assigned(Millis(0), &jobs, wrong);
        assert_eq!(samples.status(Millis(0)).len(), 2, "what was not read yet says nothing");
    }

    #[test]
    fn one_that_does_not_answer_is_told_and_one_that_does_again_is_not() {
        let root = machine();
        let (jobs, _) = assign(&[sample("w1/28-a", "boiler")], (&sources(root.path()), &[]), "red");
        let samples = Samples::default();
        samples.asks(Millis(1_000), &jobs[0]);
        assert_eq!(samples.status(Millis(5_000))[0].trouble, None);
        let late = samples.status(Millis(8_000))[0].trouble.clone();
        assert_eq!(late.as_deref(), Some("it has not answered for 7 s"));
        samples.found(Millis(9_000), &jobs[0], Err(String::from("gone")));
        assert_eq!(samples.status(Millis(60_000))[0].trouble.as_deref(), Some("gone"));
        samples.found(Millis(9_000), &jobs[0], Ok(21.5));
        let status = &samples.status(Millis(60_000))[0];
        assert_eq!((status.value, &status.trouble), (Some(21.5), &None));
        assert!(read_one(&samples, &jobs[0]).is_some());
        fs::remove_dir_all(root.path().join("sys/bus")).unwrap();
        assert!(read_one(&samples, &jobs[0]).is_none());
    }

    fn read(samples: &Samples, jobs: &[Job]) {
        jobs.iter().for_each(|job| drop(read_one(samples, job)));
    }

    #[test]
    fn one_that_was_read_and_is_unplugged_stays_named_and_no_other_does() {
        let root = machine();
        let other = root.path().join("sys/bus/w1/devices/28-b/w1_slave");
        fs::create_dir_all(other.parent().unwrap()).unwrap();
        fs::write(&other, "noise").unwrap();
        let all = [sample("w1/*", "{board}/{source}"), sample("load/1m", "load")];
        let samples = Samples::default();
        let look = |board| {
            let (jobs, wrong) = assign(&all, (&sources(root.path()), &[]), board);
            samples.assigned(Millis(0), &jobs, wrong);
            read(&samples, &jobs);
            let status = samples.status(Millis(0)).into_iter();
            status.map(|it| (it.sensor, it.trouble.unwrap_or_default())).collect::<Vec<_>>()
        };
        assert!(look("red")[2].1.contains("no number"));
        fs::remove_dir_all(root.path().join("sys/bus")).unwrap();
        let gone = (String::from("red/w1/28-a"), String::from("it is not there any more"));
        let nowhere = (String::new(), String::from(NOWHERE));
        let load = (String::from("load"), String::new());
        assert_eq!(look("red"), [load.clone(), gone.clone(), nowhere.clone()]);
        fs::create_dir_all(other.parent().unwrap()).unwrap();
        fs::write(&other, "noise").unwrap();
        assert!(look("red").contains(&gone), "another of its pattern is there");
        fs::remove_file(root.path().join("proc/loadavg")).unwrap();
        let exact = look("red");
        assert_eq!(exact[0], (String::from("load"), gone.1.clone()));
        assert_eq!(exact.len(), 3, "it is named once: {exact:?}");
    }

    #[test]
    fn one_that_is_called_otherwise_is_not_missed() {
        let root = machine();
        let samples = Samples::default();
        for board in ["red", "blue"] {
            let (jobs, wrong) =
                assign(&[sample("w1/*", "{board}/{source}")], (&sources(root.path()), &[]), board);
            samples.assigned(Millis(0), &jobs, wrong);
            read(&samples, &jobs);
        }
        let status = samples.status(Millis(0));
        assert!(status.len() == 1 && status[0].sensor == "blue/w1/28-a", "{status:?}");
    }

    /// What a board without a majority was asked.
    #[derive(Default)]
    struct Asked {
        readings: Vec<String>,
        writes: Vec<oneshot::Sender<Reply>>,
    }

    /// A loop that has the name of its board and spools all readings, and whose writes wait.
    fn board(asked: Arc<Mutex<Asked>>) -> Caller {
        let (caller, mut calls) = Caller::channel();
        tokio::spawn(async move {
            while let Some(call) = calls.recv().await {
                if let Call::Status(reply) = call {
                    let board = String::from("red");
                    reply.send(Status { board, ..Status::default() }).unwrap();
                } else if let Call::Request(Request::Readings(arrivals), reply) = call {
                    let names = arrivals.readings.into_iter().map(|reading| reading.sensor);
                    asked.lock().unwrap().readings.extend(names);
                    let receipt = Receipt { level: Level::Spooled, refused: Vec::new() };
                    reply.send(Reply::Done { index: 0, answer: sql::encode(&receipt) }).unwrap();
                } else if let Call::Request(Request::Write(_), reply) = call {
                    asked.lock().unwrap().writes.push(reply);
                }
            }
        });
        caller
    }

    /// Reads these of a machine, on a board without a majority, until it was asked so.
    async fn read_until(all: &[Sample], root: &Path, is_done: impl Fn(&Asked) -> bool) -> Samples {
        let asked: Arc<Mutex<Asked>> = Arc::default();
        let caller = board(Arc::clone(&asked));
        let clock = crate::clock::BoardClock::new(1, Vec::new(), root);
        let desk = Desk::new(caller.clone(), clock, 0);
        let samples = Samples::start(all, (root, root), &caller, &desk);
        for _ in 0..6_000 {
            if is_done(&asked.lock().unwrap()) {
                return samples;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("it does not come to that: {:?}", asked.lock().unwrap().readings);
    }

    fn run<T>(what: impl Future<Output = T>) -> T {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_all().build().unwrap().block_on(what)
    }

    #[test]
    fn a_bus_that_has_nothing_to_read_any_more_makes_room_for_others() {
        let root = machine();
        run(async {
            let caller = board(Arc::default());
            let clock = crate::clock::BoardClock::new(1, Vec::new(), root.path());
            let desk = Desk::new(caller.clone(), clock, 0);
            let (samples, buses) = (Samples::default(), BTreeMap::new());
            let (all, places) = (Vec::new(), (root.path().to_owned(), root.path().to_owned()));
            let lines = Vec::new();
            let mut looking = Looking { samples, all, places, lines, caller, desk, buses };
            let (jobs, _) =
                assign(&[sample("w1/*", "{source}")], (&sources(root.path()), &[]), "red");
            let on = |bus: &str| {
                let mut job = jobs[0].clone();
                (job.source.bus, job.sensor) = (bus.to_owned(), bus.to_owned());
                job
            };
            let all: Vec<Job> = (0..BUSES_MAX).map(|bus| on(&bus.to_string())).collect();
            looking.have_read(all.clone(), Vec::new());
            let mut with_new = all;
            with_new.push(on("new"));
            looking.have_read(with_new, Vec::new());
            assert!(!looking.buses.contains_key("new"), "{BUSES_MAX} have something to read");
            for _ in 0..6_000 {
                if looking.buses.contains_key("new") {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
                looking.have_read(vec![on("new")], Vec::new());
            }
            panic!("those that are over stay: {:?}", looking.buses.keys());
        });
    }

    #[test]
    fn a_board_that_is_alone_reads_on_while_a_unit_waits() {
        let root = machine();
        run(async {
            let all = [sample("thermal/*", "{source}"), sample("thermal/cpu", "heat")];
            let has_read = |asked: &Asked| {
                let count = asked.readings.iter().filter(|sensor| *sensor == "heat").count();
                assert!(asked.writes.len() <= 1, "one write of units waits at a time");
                count >= 3 && asked.writes.len() == 1
            };
            read_until(&all, root.path(), has_read).await;
        });
    }

    #[test]
    fn a_device_that_hangs_holds_up_those_behind_it_on_its_bus_alone() {
        let root = machine();
        let chip = |name: &str| root.path().join("sys/bus/w1/devices").join(name).join("w1_slave");
        let hangs = chip("28-a");
        fs::create_dir_all(chip("28-0").parent().unwrap()).unwrap();
        fs::rename(&hangs, chip("28-0")).unwrap();
        // Nobody ever writes to it: whoever opens it waits.
        let made = std::process::Command::new("mkfifo").arg(&hangs).status().unwrap();
        assert!(made.success());
        run(async {
            let all = [sample("w1/*", "{source}"), sample("thermal/*", "{source}")];
            let has_read = |asked: &Asked| {
                let has = |name: &str| asked.readings.iter().any(|sensor| sensor == name);
                has("thermal/cpu") && has("w1/28-0")
            };
            let samples = read_until(&all, root.path(), has_read).await;
            let status = samples.status(clock::now().plus(60_000));
            let trouble = |name: &str| {
                let found = status.iter().find(|sample| sample.sensor == name).unwrap();
                found.trouble.clone().unwrap_or_default()
            };
            assert!(trouble("w1/28-a").contains("has not answered"), "{status:?}");
            assert!(trouble("w1/28-0").contains("not asked: another on its bus"), "{status:?}");
            assert_eq!(trouble("thermal/cpu"), "");
        });
        // The thread that waits ends.
        drop(fs::OpenOptions::new().write(true).open(&hangs));
    }
}
