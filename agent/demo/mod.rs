//! Three boards on this machine: real agents, real sealed datagrams, real files,
//! real readings of the machine, and a duty, which is to sample it. The agent of the
//! board that holds the duty is killed; the screen shows another taking the part, after
//! how long, how long nothing could be written, and the dead one catching up.
//!
//! However it ends, short of being killed itself, it compares the databases,
//! gives its verdict and leaves nothing behind.

use std::{
    path::Path,
    process::ExitCode,
    sync::{
        Arc, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
        mpsc,
    },
    thread,
    time::Duration,
};

use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use understudy_core::duty::Rules;

pub use self::sampler::{
    Arguments as SamplerArguments, Mark, marks, next_holder, run as sample, two_holders,
};
use self::{
    boards::{Boards, READY_MS_MAX},
    check::{TABLE, Tally, Verdict},
    client::Client,
    sampler::DUTY,
    screen::Screen,
    writers::{Ledger, Place},
};
use crate::{driver::clock, duties, terminal};

mod boards;
mod check;
mod client;
mod post;
mod sampler;
mod screen;
mod writers;

/// `understudy demo`
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// One round, then check everything; the exit code tells.
    #[arg(long)]
    once: bool,
    /// The last line as JSON.
    #[arg(long)]
    json: bool,
    /// The boards reach each other through an MQTT broker alone: mosquitto, if it is installed.
    #[arg(long)]
    mqtt: bool,
    /// Through this broker: mqtt://HOST or mqtt://HOST:PORT.
    #[arg(long, value_name = "URL")]
    broker: Option<String>,
}

/// Until the kill, from there to the restart, and after it, milliseconds.
const BEFORE_MS: u64 = 6_000;
const WITHOUT_MS: u64 = 4_000;
const AFTER_MS: u64 = 3_000;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(25);

/// A board's answer is waited for so long.
const ANSWER: Duration = Duration::from_secs(20);

/// Runs it.
#[must_use]
pub fn run(arguments: &Arguments) -> ExitCode {
    let verdict = watch_for_the_end().and_then(|ends| Demo::start(arguments, ends)).map(Demo::play);
    let told = verdict.and_then(|verdict| {
        terminal::line(&verdict.text(arguments.json))?;
        Ok(verdict.is_good())
    });
    match told {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(reason) => {
            terminal::complain(&format!("understudy demo: {reason}"));
            ExitCode::FAILURE
        }
    }
}

/// True once Ctrl-C, SIGTERM or a terminal that goes away asks for the end.
fn watch_for_the_end() -> Result<Arc<AtomicBool>, String> {
    let ends = Arc::new(AtomicBool::new(false));
    let (listening, is_listening) = mpsc::channel();
    let flag = Arc::clone(&ends);
    thread::spawn(move || {
        let listened = listen(&flag, &listening);
        // Nobody waits any more once it has listened.
        let _ = listening.send(listened);
    });
    is_listening.recv().map_err(|error| error.to_string())??;
    Ok(ends)
}

fn listen(ends: &AtomicBool, listening: &mpsc::Sender<Result<(), String>>) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    runtime.block_on(async {
        let on = |kind| signal(kind).map_err(|error| error.to_string());
        let mut interrupt = on(SignalKind::interrupt())?;
        let mut terminate = on(SignalKind::terminate())?;
        let mut hangup = on(SignalKind::hangup())?;
        // Whoever waits cannot have gone away.
        let _ = listening.send(Ok(()));
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
        ends.store(true, Relaxed);
        Ok(())
    })
}

struct Demo {
    boards: Boards,
    places: Vec<Place>,
    ledger: Arc<Ledger>,
    threads: Vec<thread::JoinHandle<()>>,
    ends: Arc<AtomicBool>,
    once: bool,
    screen: Screen,
    /// Longest time without an acknowledged write, up to the last round.
    gap_ms: u64,
    /// Longest time that nobody held the duty after its holder was killed.
    takeover_ms: Option<u64>,
    /// Somebody was killed, and nobody took the duty over.
    is_orphaned: bool,
}

impl Demo {
    fn start(arguments: &Arguments, ends: Arc<AtomicBool>) -> Result<Self, String> {
        terminal::complain("Starting three boards on this machine...");
        let by_mqtt = arguments.mqtt || arguments.broker.is_some();
        let boards = Boards::start(by_mqtt.then(|| arguments.broker.clone()))?;
        if let Some(url) = boards.broker() {
            terminal::complain(&format!("They reach each other through {url} alone."));
        }
        let places: Vec<Place> = boards.all.iter().map(|_| Place::default()).collect();
        let mut demo = Self {
            boards,
            places,
            ledger: Arc::default(),
            threads: Vec::new(),
            ends,
            once: arguments.once,
            screen: Screen::new(!arguments.json),
            gap_ms: 0,
            takeover_ms: None,
            is_orphaned: false,
        };
        demo.learn_places();
        demo.client(0)?.execute(&json!([TABLE]))?;
        demo.boards.all[0].sql(duties::add(DUTY, &[], &Rules::default())?)?;
        demo.boards.wait("a board to hold the duty", |boards| !boards.marks().is_empty())?;
        demo.start_writers()?;
        Ok(demo)
    }

    /// A board started again has another port.
    fn learn_places(&self) {
        for (board, place) in self.boards.all.iter().zip(&self.places) {
            let http = board.http().ok().filter(|_| board.is_running());
            *place.lock().unwrap_or_else(PoisonError::into_inner) = http;
        }
    }

    fn client(&self, board: usize) -> Result<Client, String> {
        Ok(Client::new(self.boards.all[board].http()?, ANSWER))
    }

    fn start_writers(&mut self) -> Result<(), String> {
        let sources = understudy_boards::sources(Path::new("/"));
        if sources.is_empty() {
            return Err(String::from("this machine tells nothing of itself"));
        }
        let sources = Arc::new(sources);
        self.threads.push(writers::prober(self.places.clone(), Arc::clone(&self.ledger)));
        for board in &self.boards.all {
            let (ledger, sources) = (Arc::clone(&self.ledger), Arc::clone(&sources));
            let sampler = writers::sampler(board.name, board.readings(), sources, ledger);
            self.threads.push(sampler);
        }
        Ok(())
    }

    /// Rounds until the end is asked for, or one.
    fn play(mut self) -> Verdict {
        loop {
            self.show_for(BEFORE_MS);
            if self.is_over() {
                break;
            }
            self.round();
            if self.once || self.is_over() || !self.ledger.glance().is_flowing() {
                break;
            }
        }
        let is_writing = self.watch(READY_MS_MAX, Self::is_flowing);
        self.note_gap();
        self.check(is_writing)
    }

    fn is_flowing(&self) -> bool {
        self.ledger.glance().is_flowing()
    }

    fn note_gap(&mut self) {
        self.gap_ms = self.gap_ms.max(self.ledger.glance().gap_ms);
        self.ledger.forget_gap();
    }

    fn is_over(&self) -> bool {
        self.ends.load(Relaxed)
    }

    /// Kills the agent that holds the duty, measures, brings it back.
    fn round(&mut self) {
        let mut holder = None;
        self.watch(READY_MS_MAX, |demo| {
            holder = demo.boards.holder();
            holder.is_some() || demo.is_over()
        });
        let Some(victim) = holder else {
            self.is_orphaned = !self.is_over();
            return self.screen.say(String::from("Nobody holds the duty: nobody was killed."));
        };
        let name = self.boards.all[victim].name;
        let leads = if self.boards.leader() == Some(victim) { ", and led the group," } else { "" };
        self.note_gap();
        let killed_us = clock::nanoseconds() / 1_000;
        self.boards.all[victim].kill_agent();
        *self.places[victim].lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.screen.say(format!("{name} held the duty{leads} and was killed (SIGKILL)."));
        self.watch_takeover(name, killed_us);
        self.show_for(WITHOUT_MS);
        let gap_ms = self.ledger.glance().gap_ms;
        let so_far = if self.is_flowing() { "" } else { " so far" };
        self.screen
            .say(format!("Nothing could be written for {gap_ms} ms{so_far}. {name} starts again."));
        self.bring_back(victim);
        self.show_for(AFTER_MS);
    }

    /// Waits until another board does what the killed one did.
    fn watch_takeover(&mut self, killed: &str, killed_us: u64) {
        let mut next = None;
        self.watch(READY_MS_MAX, |demo| {
            let marks = demo.boards.marks();
            next = next_holder(&marks, killed, killed_us).cloned();
            next.is_some()
        });
        let Some(next) = next else {
            self.is_orphaned = true;
            return self.screen.say(format!("Nobody has taken the duty over from {killed}."));
        };
        let ms = next.at_us.saturating_sub(killed_us) / 1_000;
        self.takeover_ms = Some(self.takeover_ms.unwrap_or(0).max(ms));
        self.screen
            .say(format!("{} is the understudy: it took the duty {ms} ms later.", next.board));
    }

    /// Starts a board again and waits until it holds what the group held then,
    /// and writes flow. What does not come about shows in the verdict.
    fn bring_back(&mut self, victim: usize) {
        let name = self.boards.all[victim].name;
        if let Err(reason) = self.boards.all[victim].run() {
            return self.screen.say(reason);
        }
        let since = clock::now();
        let goal = self.boards.applied().into_iter().max().unwrap_or(0);
        let is_back = self.watch(READY_MS_MAX, |demo| {
            demo.learn_places();
            let status = demo.boards.all[victim].status();
            let caught_up = status.is_ok_and(|status| status.applied_index >= goal);
            caught_up && demo.is_flowing()
        });
        let ms = clock::now().since(since);
        let gap_ms = self.ledger.glance().gap_ms;
        self.screen.say(match is_back {
            true => format!(
                "Write gap {gap_ms} ms; {name} has caught up, {ms} ms after its start, at entry \
                 {goal}."
            ),
            false => format!("{name} has not caught up with entry {goal} in {ms} ms."),
        });
    }

    fn show_for(&mut self, ms: u64) {
        self.watch(ms, Self::is_over);
    }

    /// Shows what happens until `done`, but no longer than that: true when done.
    fn watch(&mut self, ms_max: u64, mut done: impl FnMut(&Self) -> bool) -> bool {
        let since = clock::now();
        loop {
            if done(self) {
                return true;
            }
            let now = clock::now();
            if now.since(since) >= ms_max {
                return false;
            }
            if self.screen.show(now, &self.boards.all, &self.ledger.glance()).is_err() {
                self.ends.store(true, Relaxed);
            }
            thread::sleep(LOOK);
        }
    }

    /// Stops writing and compares what three databases hold with what was
    /// acknowledged.
    fn check(mut self, is_writing: bool) -> Verdict {
        self.ledger.stop();
        // Nothing is to be written while boards are compared one after the other.
        let paused = self.boards.all.iter().find(|board| board.is_running());
        let paused = paused.map(|board| board.sql(duties::pause(DUTY, true)));
        if let Some(Err(reason)) = paused {
            self.screen.say(format!("The duty was not paused: {reason}"));
        }
        for thread in self.threads.drain(..) {
            // A writer that ended early shows in what it acknowledged.
            let _ = thread.join();
        }
        let acknowledged = self.ledger.acknowledged();
        let since = clock::now();
        loop {
            let tallies: Vec<Option<Tally>> = (0..self.boards.all.len())
                .map(|board| {
                    let mut client = self.client(board).ok()?;
                    Tally::take(|statement| client.query(&statement), &acknowledged).ok()
                })
                .collect();
            let verdict = Verdict {
                takeover_ms: self.takeover_ms,
                two_holders: two_holders(&self.boards.marks()),
                is_orphaned: self.is_orphaned,
                ..Verdict::new(&acknowledged, &tallies, self.gap_ms, is_writing)
            };
            let is_same = verdict.same == verdict.boards;
            if is_same || clock::now().since(since) >= READY_MS_MAX {
                return verdict;
            }
            thread::sleep(LOOK);
        }
    }
}
