//! Three boards on this machine: real agents, real sealed datagrams, real files,
//! real readings of the machine. The leading one is killed; the screen shows how
//! long nothing could be written, and the dead one catching up.

use std::{
    collections::BTreeMap,
    io::{IsTerminal as _, Write as _},
    path::Path,
    process::ExitCode,
    sync::{
        Arc, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use serde_json::{Value, json};

use self::{
    boards::{Board, Boards},
    client::Client,
    writers::{Ledger, Place},
};
use crate::driver::clock;

mod boards;
mod client;
mod writers;

/// `understudy demo`
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// One round unattended, then check everything; the exit code tells.
    #[arg(long)]
    once: bool,
    /// The last line as JSON.
    #[arg(long)]
    json: bool,
}

/// Between the start and the kill, and between the kill and the restart.
const BEFORE: Duration = Duration::from_secs(6);
const WITHOUT: Duration = Duration::from_secs(4);
const AFTER: Duration = Duration::from_secs(3);

/// Between two pictures.
const PICTURE: Duration = Duration::from_millis(250);

/// Runs it.
#[must_use]
pub fn run(arguments: &Arguments) -> ExitCode {
    let interrupted = Arc::new(AtomicBool::new(false));
    watch_for_interrupt(Arc::clone(&interrupted));
    match Demo::start(arguments, interrupted).and_then(Demo::play) {
        Ok(verdict) => {
            verdict.print(arguments.json);
            if verdict.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(reason) => {
            eprintln!("understudy demo: {reason}");
            ExitCode::FAILURE
        }
    }
}

/// Ctrl-C asks the demonstration to tidy up and end.
fn watch_for_interrupt(interrupted: Arc<AtomicBool>) {
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        if let Ok(runtime) = runtime
            && runtime.block_on(tokio::signal::ctrl_c()).is_ok()
        {
            interrupted.store(true, Relaxed);
        }
    });
}

struct Demo {
    boards: Boards,
    places: Vec<Place>,
    ledger: Arc<Ledger>,
    threads: Vec<thread::JoinHandle<()>>,
    interrupted: Arc<AtomicBool>,
    once: bool,
    draws: bool,
    message: String,
}

/// What a round came to.
struct Verdict {
    acknowledged: usize,
    lost: usize,
    doubled: usize,
    gap_ms: u64,
    same: usize,
}

impl Verdict {
    const fn is_good(&self) -> bool {
        self.acknowledged > 0 && self.lost == 0 && self.doubled == 0 && self.same == 3
    }

    fn print(&self, as_json: bool) {
        let Self { acknowledged, lost, doubled, gap_ms, same } = self;
        if as_json {
            println!(
                "{{\"acknowledged\":{acknowledged},\"lost\":{lost},\"doubled\":{doubled},\
                 \"write_gap_ms\":{gap_ms},\"boards\":3,\"same_rows\":{same}}}"
            );
        } else {
            println!(
                "{acknowledged} readings acknowledged, {lost} lost, {doubled} doubled; \
                 write gap {gap_ms} ms; same rows on {same} of 3"
            );
        }
    }
}

impl Demo {
    fn start(arguments: &Arguments, interrupted: Arc<AtomicBool>) -> Result<Self, String> {
        let draws = std::io::stdout().is_terminal() && !arguments.json;
        eprintln!("Starting three boards on this machine...");
        let boards = Boards::start()?;
        let places: Vec<Place> = boards.all.iter().map(|_| Place::default()).collect();
        let mut demo = Self {
            boards,
            places,
            ledger: Arc::default(),
            threads: Vec::new(),
            interrupted,
            once: arguments.once,
            draws,
            message: String::from("Three boards, one database."),
        };
        demo.learn_places()?;
        let tables = json!([
            "CREATE TABLE reading(id TEXT, source TEXT, time INTEGER, value REAL)",
            "CREATE INDEX reading_id ON reading(id)",
            "CREATE TABLE probe(id INTEGER PRIMARY KEY, n INTEGER)",
        ]);
        demo.client(0, Duration::from_secs(5))?.execute(&tables)?;
        demo.start_writers()?;
        Ok(demo)
    }

    fn learn_places(&mut self) -> Result<(), String> {
        for (board, place) in self.boards.all.iter().zip(&self.places) {
            let http = if board.is_running() { Some(board.http()?) } else { None };
            *place.lock().unwrap_or_else(PoisonError::into_inner) = http;
        }
        Ok(())
    }

    fn client(&self, board: usize, timeout: Duration) -> Result<Client, String> {
        Ok(Client::new(self.boards.all[board].http()?, timeout))
    }

    fn start_writers(&mut self) -> Result<(), String> {
        let sources = understudy_boards::sources(Path::new("/"));
        if sources.is_empty() {
            return Err(String::from("this machine tells nothing of itself"));
        }
        let sources = Arc::new(sources);
        for (board, place) in self.boards.all.iter().zip(&self.places) {
            let ledger = Arc::clone(&self.ledger);
            let sampler =
                writers::sampler(board.name, Arc::clone(place), Arc::clone(&sources), ledger);
            self.threads.push(sampler);
        }
        self.threads.push(writers::prober(self.places.clone(), Arc::clone(&self.ledger)));
        Ok(())
    }

    /// Rounds until Ctrl-C, or one.
    fn play(mut self) -> Result<Verdict, String> {
        let mut gap_ms = 0;
        loop {
            self.show_for(BEFORE)?;
            if self.is_over() {
                break;
            }
            gap_ms = self.round()?;
            if self.once || self.is_over() {
                break;
            }
        }
        self.check(gap_ms)
    }

    fn is_over(&self) -> bool {
        self.interrupted.load(Relaxed)
    }

    /// Kills the leader, measures, brings it back.
    fn round(&mut self) -> Result<u64, String> {
        let victim = self.boards.leader().ok_or("nobody leads")?;
        let name = self.boards.all[victim].name;
        self.ledger.forget_gap();
        self.boards.all[victim].kill();
        *self.places[victim].lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.say(format!("{name} led, and was killed (SIGKILL)."));
        self.show_for(WITHOUT)?;
        let gap_ms = self.ledger.glance().gap_ms;
        self.say(format!("Nothing could be written for {gap_ms} ms. {name} starts again."));
        self.boards.all[victim].run()?;
        self.learn_places()?;
        self.show_for(AFTER)?;
        self.say(format!("Write gap {gap_ms} ms; {name} has caught up."));
        Ok(gap_ms)
    }

    fn say(&mut self, message: String) {
        if !self.draws {
            eprintln!("{message}");
        }
        self.message = message;
    }

    fn show_for(&self, duration: Duration) -> Result<(), String> {
        let since = clock::now();
        let span = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        while clock::now().since(since) < span && !self.is_over() {
            if self.draws {
                self.draw().map_err(|error| error.to_string())?;
            }
            thread::sleep(PICTURE);
        }
        Ok(())
    }

    /// One picture, for 80 columns and 24 lines.
    fn draw(&self) -> std::io::Result<()> {
        let glance = self.ledger.glance();
        let mut lines = vec![
            String::from("understudy: three boards on this machine         (Ctrl-C ends)"),
            String::new(),
        ];
        lines.extend(self.boards.all.iter().map(board_line));
        lines.push(String::new());
        lines.push(format!(
            "{} readings acknowledged; last write {} ms ago",
            glance.acknowledged, glance.since_probe_ms
        ));
        lines.push(String::new());
        let recent = glance.last.iter().rev().take(10);
        lines.extend(recent.map(|(name, value)| format!("  {name:<36} {value:>20.3}")));
        lines.push(String::new());
        lines.push(self.message.clone());
        let text: String = lines.iter().map(|line| format!("{line:.79}\x1b[K\r\n")).collect();
        let mut out = std::io::stdout().lock();
        write!(out, "\x1b[H{text}\x1b[J")?;
        out.flush()
    }

    /// Stops writing and compares what three databases hold with what was
    /// acknowledged.
    fn check(mut self, gap_ms: u64) -> Result<Verdict, String> {
        self.ledger.stop();
        for thread in self.threads.drain(..) {
            // A writer that ended early shows in what it acknowledged.
            let _ = thread.join();
        }
        self.boards.wait("the boards to hold the same", |boards| {
            let applied: Vec<_> = boards
                .all
                .iter()
                .filter_map(|board| Some(board.status().ok()?.applied_index))
                .collect();
            applied.len() == 3 && applied.windows(2).all(|pair| pair[0] == pair[1])
        })?;
        let mut all = Vec::new();
        for board in 0..3 {
            let mut client = self.client(board, Duration::from_secs(20))?;
            all.push(client.query("SELECT * FROM reading ORDER BY id", "none")?);
        }
        let same = all.iter().filter(|rows| **rows == all[0]).count();
        let mut counted: BTreeMap<&str, usize> = BTreeMap::new();
        for id in all[0].iter().filter_map(|row| row.get(0)).filter_map(Value::as_str) {
            *counted.entry(id).or_default() += 1;
        }
        let acknowledged = self.ledger.acknowledged();
        let count = |id: &String| counted.get(id.as_str()).copied().unwrap_or(0);
        Ok(Verdict {
            acknowledged: acknowledged.len(),
            lost: acknowledged.iter().filter(|id| count(id) == 0).count(),
            doubled: acknowledged.iter().filter(|id| count(id) > 1).count(),
            gap_ms,
            same,
        })
    }
}

fn board_line(board: &Board) -> String {
    if !board.is_running() {
        return format!("  {:<8} dead", board.name);
    }
    match board.status() {
        Ok(status) => {
            format!("  {:<8} {:<10} at entry {}", board.name, status.role, status.applied_index)
        }
        Err(_) => format!("  {:<8} starting", board.name),
    }
}
