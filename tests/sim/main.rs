//! `cargo sim`: many seeds, and the planted bugs that they must find.
//!
//!     cargo sim [--seeds N] [--seed S] [--verbose]
//!     cargo sim --mutants

use std::{
    ops::RangeInclusive,
    process::{Command, ExitCode},
    time::{SystemTime, UNIX_EPOCH},
};

use understudy_core::mutant;
use understudy_tests::sim::Report;

mod workers;

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
    worker: bool,
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
                "--worker" => arguments.worker = true,
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
        Ok(arguments) if arguments.worker => {
            choose(arguments.mutant.unwrap_or(0));
            workers::serve(arguments.verbose)
        }
        Ok(arguments) => seeds(&arguments),
    }
}

fn seeds(arguments: &Arguments) -> ExitCode {
    let reports = workers::run(&wanted(arguments), arguments.mutant, arguments.verbose);
    let violations: Vec<_> = reports
        .iter()
        .filter_map(|(seed, report)| Some((seed, report.violation.as_ref()?)))
        .collect();
    if arguments.verbose {
        for (seed, report) in &reports {
            println!("{seed}: {report:?}");
        }
    }
    for (seed, violation) in &violations {
        println!("seed {seed}: {violation}");
        println!("    again: cargo sim --seed {seed} --verbose");
    }
    summary(&reports, violations.len());
    if violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Every so many seeds one runs twice, and must come to the same.
const TWICE_EVERY: usize = 25;

fn wanted(arguments: &Arguments) -> Vec<u64> {
    let first = arguments.seed.unwrap_or(1);
    let count = arguments.seeds.unwrap_or(if arguments.seed.is_some() { 1 } else { 100 });
    let mut wanted: Vec<u64> = (first..first + count).collect();
    if arguments.fresh > 0 {
        let start = fresh_seed();
        println!("{} fresh seeds from {start}", arguments.fresh);
        wanted.extend(start..start + arguments.fresh);
    }
    if count > 1 {
        let twice: Vec<u64> = wanted.iter().copied().step_by(TWICE_EVERY).collect();
        wanted.extend(twice);
    }
    wanted
}

fn summary(reports: &[(u64, Report)], violations: usize) {
    let sum =
        |what: fn(&Report) -> u64| reports.iter().map(|(_, report)| what(report)).sum::<u64>();
    let (crashes, inside) = (sum(|report| report.crashes), sum(|report| report.inside));
    let seconds = sum(|report| report.simulated_ms) / 1_000;
    let cpu_ms = sum(|report| report.cpu_ms).max(1);
    println!(
        "{} writes acknowledged, {} reads, {} readings told as committed, {} as spooled, {} duties taken, {} boards came or went, {} of them in the place of an \
         emptied card, {} old cards put back, {} burnt, {inside} of {crashes} crashes \
         inside a write or sync, {} states taken from other boards, {} of them by boards changed \
         behind their agents' backs and {} such boards still fenced, {} times real time per core",
        sum(|report| report.acknowledged),
        sum(|report| report.reads),
        sum(|report| report.stored),
        sum(|report| report.spooled),
        sum(|report| report.taken),
        sum(|report| report.moves),
        sum(|report| report.replaced),
        sum(|report| report.put_back),
        sum(|report| report.burnt),
        sum(|report| report.installed),
        sum(|report| report.repaired),
        sum(|report| report.diverged),
        seconds * 1_000 / cpu_ms
    );
    if sum(|report| report.posted) > 0 {
        println!(
            "{} datagrams posted to brokers; {} came twice, {} were overtaken long before they \
             came, {} old ones were taken where nothing came before them",
            sum(|report| report.posted),
            sum(|report| report.replayed),
            sum(|report| report.overtaken),
            sum(|report| report.old),
        );
    }
    println!(
        "{} seeds, {}.{:02} simulated hours, {crashes} crashes, {violations} violations",
        reports.len(),
        seconds / 3_600,
        seconds % 3_600 / 36,
    );
}

#[expect(clippy::disallowed_methods, reason = "a fresh seed is all that is taken from it")]
fn fresh_seed() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(1, |now| now.as_secs() * 1_000)
}

#[cfg(mutants)]
fn choose(number: u32) {
    mutant::choose(number);
}

#[cfg(not(mutants))]
fn choose(number: u32) {
    assert_eq!(number, 0, "planted bugs are not compiled in: cargo sim --mutants");
}

/// From these numbers on planted bugs are about what SQL comes to: the scenarios of
/// statements find them; and about who belongs to the group, its keys and its cards: the
/// core's own tests do, and for some those of the seal; and about readings: those of the
/// database do. Those about duties are for the simulator again, but for those that the
/// search through the model of leases is for.
const FIRST_OF_STATEMENTS: u32 = 30;
const FIRST_OF_MEMBERS: u32 = 40;
const OF_SEAL: RangeInclusive<u32> = 62..=66;
const OF_READINGS: RangeInclusive<u32> = 80..=85;
const FIRST_OF_DUTIES: u32 = 100;
const OF_LEASES: [u32; 6] = [101, 103, 105, 109, 113, 114];

fn mutant_run(number: u32) -> String {
    let seeds = MUTANT_SEEDS_MAX.to_string();
    let number_text = number.to_string();
    let mut run = Command::new(env!("CARGO"));
    run.env("RUSTFLAGS", "--cfg mutants").env("MUTANT", &number_text);
    let is_of_tests = (FIRST_OF_STATEMENTS..FIRST_OF_DUTIES).contains(&number);
    if !is_of_tests && !OF_LEASES.contains(&number) {
        run.args(["run", "--quiet", "--profile", "sim", "--package", "understudy-tests"])
            .args(["--bin", "sim", "--target-dir", "target/mutants", "--"])
            .args(["--seeds", &seeds, "--mutant", &number_text]);
    } else {
        let tests: &[&str] = match number {
            ..FIRST_OF_MEMBERS => &["--package", "understudy-tests", "--test", "main", "sql::"],
            _ if OF_SEAL.contains(&number) => &["--package", "understudy", "--lib", "seal::"],
            _ if OF_READINGS.contains(&number) => {
                &["--package", "understudy", "--lib", "store::database::readings"]
            }
            _ if OF_LEASES.contains(&number) => {
                &["--package", "understudy-core", "--lib", "lease::"]
            }
            _ => &["--package", "understudy-core", "--lib"],
        };
        run.args(["test", "--profile", "sim", "--target-dir", "target/mutants"]).args(tests);
    }
    run.output().map(|run| String::from_utf8_lossy(&run.stdout).into_owned()).unwrap_or_default()
}

/// Builds the planted bugs in and runs each until it is found.
fn mutants() -> ExitCode {
    let mut killed = 0;
    for planted in mutant::ALL {
        let output = mutant_run(planted.number);
        let is_finding = |line: &&str| line.starts_with("seed ") || line.ends_with("... FAILED");
        let found = output.lines().find(is_finding);
        killed += u32::from(found.is_some());
        println!("{:>3}  {:<50} {}", planted.number, planted.name, found.unwrap_or("NOT FOUND"));
    }
    println!("{} planted, {killed} killed", mutant::ALL.len());
    if killed as usize == mutant::ALL.len() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
