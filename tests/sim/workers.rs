//! Seeds on all cores: a process per core, because SQLite's randomness, which a
//! seed sets, is one for the whole process.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    panic,
    process::{Child, ChildStdout, Command, ExitCode, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    thread,
};

use understudy_tests::sim::{self, Report};

/// Runs the seeds; with a planted bug no further than the first violation. A
/// seed given twice must come to the same both times.
pub(crate) fn run(seeds: &[u64], mutant: Option<u32>, verbose: bool) -> Vec<(u64, Report)> {
    let (next, found) = (AtomicUsize::new(0), AtomicBool::new(false));
    let reports = Mutex::new(BTreeMap::new());
    thread::scope(|scope| {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        for _ in 0..cores.min(seeds.len()) {
            scope.spawn(|| {
                let mut worker = Worker::start(mutant, verbose);
                while !(mutant.is_some() && found.load(Relaxed))
                    && let Some(seed) = seeds.get(next.fetch_add(1, Relaxed))
                {
                    let report = worker.run(*seed);
                    found.fetch_or(report.violation.is_some(), Relaxed);
                    let mut reports = reports.lock().expect("nobody panics holding it");
                    keep(&mut reports, *seed, report);
                }
            });
        }
    });
    reports.into_inner().expect("nobody panics holding it").into_iter().collect()
}

fn keep(reports: &mut BTreeMap<u64, Report>, seed: u64, report: Report) {
    let known = reports.entry(seed).or_insert_with(|| report.clone());
    if known.violation.is_none() && known.trace != report.trace {
        known.violation = Some(String::from("came to something else the second time"));
    }
}

struct Worker {
    child: Child,
    reports: BufReader<ChildStdout>,
}

impl Worker {
    fn start(mutant: Option<u32>, verbose: bool) -> Self {
        let program = std::env::current_exe().expect("this program has a path");
        let mut command = Command::new(program);
        command.arg("--worker").stdin(Stdio::piped()).stdout(Stdio::piped());
        if let Some(mutant) = mutant {
            command.args(["--mutant", &mutant.to_string()]);
        }
        if verbose {
            command.arg("--verbose");
        }
        let mut child = command.spawn().expect("a worker can be started");
        let reports = BufReader::new(child.stdout.take().expect("it is piped"));
        Self { child, reports }
    }

    fn run(&mut self, seed: u64) -> Report {
        let mut line = String::new();
        let seeds = self.child.stdin.as_mut().expect("it is piped");
        let asked = writeln!(seeds, "{seed}").and_then(|()| self.reports.read_line(&mut line));
        let report = asked.ok().and_then(|_| serde_json::from_str(&line).ok());
        report.unwrap_or_else(|| Report {
            violation: Some(String::from("the process that ran it ended")),
            ..Report::default()
        })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        // It ends at the end of its input, or has ended already.
        let _ = self.child.wait();
    }
}

/// What a worker does: a seed per line in, a report per line out.
pub(crate) fn serve(verbose: bool) -> ExitCode {
    panic::set_hook(Box::new(|_| {}));
    for seed in std::io::stdin().lines().map_while(Result::ok) {
        let Ok(seed) = seed.parse() else { return ExitCode::FAILURE };
        println!(
            "{}",
            serde_json::to_string(&run_one(seed, verbose)).expect("it is a plain value")
        );
    }
    ExitCode::SUCCESS
}

/// A panic is a broken assertion, and counts as a violation.
fn run_one(seed: u64, verbose: bool) -> Report {
    panic::catch_unwind(|| sim::run(seed, verbose)).unwrap_or_else(|panic| {
        let words = panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|words| (*words).to_owned()));
        Report {
            violation: Some(format!("panic: {}", words.unwrap_or_default())),
            ..Report::default()
        }
    })
}
