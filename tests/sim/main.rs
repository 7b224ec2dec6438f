//! `cargo sim`: many seeds, and the planted bugs that they must find.
//!
//!     cargo sim [--seeds N] [--seed S] [--verbose]
//!     cargo sim --mutants

use std::{
    process::{Command, ExitCode},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    thread,
    time::{SystemTime, UNIX_EPOCH},
};

use understudy_core::mutant;
use understudy_tests::sim::{self, Report};

/// Seeds that must be enough for every planted bug.
const MUTANT_SEEDS_MAX: u64 = 1_000;

#[derive(Default)]
struct Arguments {
    seeds: Option<u64>,
    seed: Option<u64>,
    fresh: u64,
    mutant: Option<u32>,
    mutants: bool,
    verbose: bool,
}

impl Arguments {
    fn parse() -> Result<Self, String> {
        let mut arguments = Self::default();
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let mut number = || -> Result<u64, String> {
                let value = words.next().ok_or(format!("{word} wants a number"))?;
                value.parse().map_err(|_| format!("{word} wants a number, not {value}"))
            };
            match word.as_str() {
                "--seeds" => arguments.seeds = Some(number()?),
                "--seed" => arguments.seed = Some(number()?),
                "--fresh" => arguments.fresh = number()?,
                "--mutant" => arguments.mutant = u32::try_from(number()?).ok(),
                "--mutants" => arguments.mutants = true,
                "--verbose" => arguments.verbose = true,
                other => return Err(format!("unknown argument {other}")),
            }
        }
        Ok(arguments)
    }
}

fn main() -> ExitCode {
    match Arguments::parse() {
        Err(reason) => {
            eprintln!("sim: {reason}");
            ExitCode::from(2)
        }
        Ok(arguments) if arguments.mutants => mutants(),
        Ok(arguments) => seeds(&arguments),
    }
}

fn seeds(arguments: &Arguments) -> ExitCode {
    choose(arguments.mutant.unwrap_or(0));
    let first = arguments.seed.unwrap_or(1);
    let count = arguments.seeds.unwrap_or(if arguments.seed.is_some() { 1 } else { 100 });
    let mut wanted: Vec<u64> = (first..first + count).collect();
    if arguments.fresh > 0 {
        let start = fresh_seed();
        eprintln!("{} fresh seeds from {start}", arguments.fresh);
        wanted.extend(start..start + arguments.fresh);
    }
    let reports = run_all(&wanted, arguments.mutant.is_some());
    let sum =
        |what: fn(&Report) -> u64| reports.iter().map(|(_, report)| what(report)).sum::<u64>();
    let violations: Vec<_> = reports
        .iter()
        .filter_map(|(seed, report)| Some((seed, report.violation.as_ref()?)))
        .collect();
    for (seed, violation) in &violations {
        println!("seed {seed}: {violation}");
        println!("    again: cargo sim --seed {seed} --verbose");
    }
    if arguments.verbose {
        for (seed, report) in &reports {
            println!("seed {seed}: {report:?}");
        }
    }
    let (crashes, inside) = (sum(|report| report.crashes), sum(|report| report.inside));
    println!(
        "{} writes acknowledged, {} linearizable reads, {inside} of {crashes} crashes inside a \
         write or sync",
        sum(|report| report.acknowledged),
        sum(|report| report.reads)
    );
    let seconds = sum(|report| report.simulated_ms) / 1_000;
    println!(
        "{} seeds, {}.{:02} simulated hours, {crashes} crashes, {} violations",
        reports.len(),
        seconds / 3_600,
        seconds % 3_600 / 36,
        violations.len()
    );
    if violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[expect(clippy::disallowed_methods, reason = "a fresh seed is all that is taken from it")]
fn fresh_seed() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(1, |now| now.as_secs() * 1_000)
}

/// Runs seeds on all cores; with `until_found` no further than the first
/// violation.
fn run_all(seeds: &[u64], until_found: bool) -> Vec<(u64, Report)> {
    let next = AtomicU64::new(0);
    let workers = thread::available_parallelism().map_or(1, usize::from);
    let mut reports: Vec<(u64, Report)> = thread::scope(|scope| {
        let run = || {
            let mut mine = Vec::new();
            loop {
                let place = usize::try_from(next.fetch_add(1, Relaxed)).unwrap_or(usize::MAX);
                let Some(seed) = seeds.get(place) else { return mine };
                let report = run_one(*seed);
                if until_found && report.violation.is_some() {
                    next.store(u64::MAX / 2, Relaxed);
                }
                mine.push((*seed, report));
            }
        };
        let handles: Vec<_> = (0..workers).map(|_| scope.spawn(run)).collect();
        handles.into_iter().flat_map(|handle| handle.join().unwrap_or_default()).collect()
    });
    reports.sort_by_key(|(seed, _)| *seed);
    reports
}

/// A panic is a broken assertion, and counts as a violation.
fn run_one(seed: u64) -> Report {
    std::panic::catch_unwind(|| sim::run(seed)).unwrap_or_else(|panic| {
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

#[cfg(mutants)]
fn choose(number: u32) {
    mutant::choose(number);
}

#[cfg(not(mutants))]
fn choose(number: u32) {
    assert_eq!(number, 0, "planted bugs are not compiled in: cargo sim --mutants");
}

/// Builds the planted bugs in and runs each until it is found.
fn mutants() -> ExitCode {
    let mut killed = 0;
    for planted in mutant::ALL {
        let seeds = MUTANT_SEEDS_MAX.to_string();
        let run = Command::new(env!("CARGO"))
            .args(["run", "--quiet", "--profile", "sim", "--package", "understudy-tests"])
            .args(["--bin", "sim", "--target-dir", "target/mutants", "--"])
            .args(["--seeds", &seeds, "--mutant", &planted.number.to_string()])
            .env("RUSTFLAGS", "--cfg mutants")
            .output();
        let output = run.map(|run| String::from_utf8_lossy(&run.stdout).into_owned());
        let output = output.unwrap_or_default();
        let found = output.lines().find(|line| line.starts_with("seed "));
        killed += u32::from(found.is_some());
        println!("{:>3}  {:<50} {}", planted.number, planted.name, found.unwrap_or("NOT FOUND"));
    }
    println!("{} planted, {killed} killed", mutant::ALL.len());
    if killed as usize == mutant::ALL.len() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
