//! `cargo measure`: how fast, how small, how soon, beside a floor or a peer that
//! is measured in the same run.
//!
//!     cargo measure throughput [--rounds N] [--seconds S] [--json]
//!     cargo measure footprint  [--seconds S] [--json]
//!     cargo measure takeover   [--rounds N] [--boards N] [--json]
//!     cargo measure takeover   --kills N [--disk slow] [--json]
//!     cargo measure idle       [--seconds S] [--boards N] [--json]
//!     cargo measure idle       --duty [--seconds S] [--json]
//!     cargo measure codec      [--rounds N] [--json]
//!     cargo measure air        [--csv FILE --time COLUMN --value COLUMN [--sensor COLUMN]] [--json]
//!     cargo measure scrub      [--rounds N] [--json]
//!     cargo measure catchup    [--json]
//!     cargo measure flash      [--seconds S] [--rate PER_S] [--window MS] [--json]
//!     cargo measure road       [--rounds N] [--seconds S] [--kills N] [--json]
//!     cargo measure start      [--rounds N] [--json]
//!     cargo measure ingest     [--seconds S] [--flood-seconds S] [--json]
//!     cargo measure resources  [--seconds S] [--json]
//!
//! `resources` writes the page `boards/RESOURCES.md`, of what `cross/build` made; run it as
//! `cross/test cargo measure resources`, so that ARM's programs run here.
//!
//! `flash` takes most of an hour; with `--seconds 15` some minutes, for figures that are
//! too high (its file says why). One cell of it is chosen by a rate and a window.
//!
//! rqlite runs beside us when `RQLITED` names its binary. Everything happens on
//! loopback and on the disk that holds the build; run it on a quiet machine.

mod air;
mod catchup;
mod codec;
mod disk;
mod flash;
mod floor;
mod footprint;
mod group;
mod handover;
mod idle;
mod ingest;
mod lines;
mod load;
mod plain;
mod process;
mod readings;
mod resources;
mod road;
mod rqlite;
mod scrub;
mod start;
mod takeover;
mod throughput;

use std::process::ExitCode;

use serde_json::{Value, json};
use understudy_tests::program;

/// What the command line asks for.
#[derive(Default)]
struct Arguments {
    what: String,
    rounds: Option<u64>,
    kills: Option<u64>,
    seconds: Option<u64>,
    boards: Option<usize>,
    flood_seconds: Option<u64>,
    rate: Option<u64>,
    window_ms: Option<u64>,
    /// Beside the disk as it is, one as slow as a card.
    is_disk_slow: bool,
    /// What a duty costs that is held.
    is_of_duty: bool,
    json: bool,
    csv: Option<readings::Csv>,
}

const MEASUREMENTS: &str = "throughput, footprint, takeover, idle, codec, air, scrub, catchup, \
    flash, road, start, ingest or resources";

impl Arguments {
    fn parse() -> Result<Self, String> {
        let mut words = std::env::args().skip(1);
        let what = words.next().ok_or(format!("say what: {MEASUREMENTS}"))?;
        let mut arguments = Self { what, ..Self::default() };
        let [mut file, mut time, mut sensor, mut value] = [const { None::<String> }; 4];
        while let Some(word) = words.next() {
            let mut name = || words.next().ok_or(format!("{word} wants a name"));
            match word.as_str() {
                "--csv" => file = Some(name()?),
                "--time" => time = Some(name()?),
                "--sensor" => sensor = Some(name()?),
                "--value" => value = Some(name()?),
                "--disk" => match name()?.as_str() {
                    "slow" => arguments.is_disk_slow = true,
                    other => return Err(format!("--disk can be slow, not {other}")),
                },
                _ => {}
            }
            let mut number = || -> Result<u64, String> {
                let value = words.next().ok_or(format!("{word} wants a number"))?;
                let least = u64::from(word != "--window");
                match value.parse() {
                    Ok(number) if number >= least => Ok(number),
                    Ok(_) | Err(_) => {
                        Err(format!("{word} wants a number of at least {least}, not {value}"))
                    }
                }
            };
            match word.as_str() {
                "--rounds" => arguments.rounds = Some(number()?),
                "--kills" => arguments.kills = Some(number()?),
                "--seconds" => arguments.seconds = Some(number()?),
                "--flood-seconds" => arguments.flood_seconds = Some(number()?),
                "--rate" => arguments.rate = Some(number()?),
                "--window" => arguments.window_ms = Some(number()?),
                "--boards" => arguments.boards = Some(larger(number()?)?),
                "--json" => arguments.json = true,
                "--duty" => arguments.is_of_duty = true,
                "--csv" | "--time" | "--sensor" | "--value" | "--disk" => {}
                other => return Err(format!("unknown argument {other}")),
            }
        }
        arguments.csv = match (file, time, value) {
            (Some(file), Some(time), Some(value)) => {
                Some(readings::Csv { file, time, sensor, value })
            }
            (Some(_), _, _) => return Err(String::from("--csv wants --time and --value as well")),
            (None, None, None) if sensor.is_none() => None,
            (None, _, _) => return Err(String::from("--time, --sensor, --value want --csv")),
        };
        let takes_over = arguments.what == "takeover" && arguments.kills.is_some();
        if arguments.is_disk_slow && !takes_over {
            return Err(String::from("--disk slow wants takeover --kills N"));
        }
        if arguments.csv.is_some() && arguments.what != "air" {
            return Err(format!("{} reads no --csv, only air does", arguments.what));
        }
        Ok(arguments)
    }
}

/// A group that is measured beside one of three.
fn larger(boards: u64) -> Result<usize, String> {
    let (least, most) = (group::BOARDS.len() + 1, group::BOARDS_MAX);
    let fits = usize::try_from(boards).ok().filter(|boards| (least..=most).contains(boards));
    fits.ok_or(format!("--boards wants a number from {least} to {most}, not {boards}"))
}

fn main() -> ExitCode {
    let arguments = match Arguments::parse() {
        Ok(arguments) => arguments,
        Err(reason) => {
            eprintln!("measure: {reason}");
            return ExitCode::from(2);
        }
    };
    let mut report = match measure(&arguments) {
        Ok(report) => report,
        Err(reason) => {
            eprintln!("measure: {reason}");
            return ExitCode::from(2);
        }
    };
    report["machine"] = machine();
    if arguments.json {
        println!("{report}");
    } else {
        println!("machine: {}", report["machine"].as_str().unwrap_or_default());
    }
    ExitCode::SUCCESS
}

fn measure(arguments: &Arguments) -> Result<Value, String> {
    let (rounds, seconds) = (arguments.rounds, arguments.seconds);
    Ok(match arguments.what.as_str() {
        "throughput" => {
            throughput::run(&program::release(), rounds.unwrap_or(3), seconds.unwrap_or(5))
        }
        "footprint" => footprint::run(&program::release(), seconds.unwrap_or(60)),
        "takeover" if arguments.kills.is_some() => {
            let kills = arguments.kills.unwrap_or(1);
            handover::run(&program::release(), kills, arguments.is_disk_slow)?
        }
        "takeover" => takeover::run(&program::release(), rounds.unwrap_or(5), arguments.boards),
        "idle" if arguments.is_of_duty => idle::duty(&program::release(), seconds.unwrap_or(60)),
        "idle" => {
            let boards = arguments.boards.unwrap_or(group::BOARDS_MAX);
            idle::run(&program::release(), seconds.unwrap_or(60), boards)
        }
        "codec" => codec::run(rounds.unwrap_or(15)),
        "air" => air::run(arguments.csv.as_ref())?,
        "scrub" => scrub::run(rounds.unwrap_or(5)),
        "catchup" => catchup::run(),
        "flash" => {
            let Arguments { rate, window_ms, .. } = *arguments;
            let wanted = flash::Wanted { rate, window_ms, seconds: seconds.unwrap_or(300) };
            flash::run(&program::release(), &wanted)
        }
        "road" => {
            let (rounds, seconds) = (rounds.unwrap_or(3), seconds.unwrap_or(5));
            road::run(&program::release(), rounds, seconds, arguments.kills.unwrap_or(5))?
        }
        "start" => start::run(&program::release(), rounds.unwrap_or(5)),
        "ingest" => {
            let flood_seconds = arguments.flood_seconds.unwrap_or(60);
            ingest::run(&program::release(), seconds.unwrap_or(600), flood_seconds)
        }
        "resources" => resources::run(seconds.unwrap_or(240), &machine())?,
        other => return Err(format!("unknown measurement {other}: {MEASUREMENTS}")),
    })
}

fn machine() -> Value {
    let file = |path| std::fs::read_to_string(path).unwrap_or_default();
    let cpus = file("/proc/cpuinfo");
    let model = cpus.lines().find(|line| line.starts_with("model name"));
    let model = model.and_then(|line| line.split_once(": ")).map_or("", |(_, model)| model);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let kernel = file("/proc/sys/kernel/osrelease");
    json!(format!("{cores} cores, {model}, {}, Linux {}", std::env::consts::ARCH, kernel.trim()))
}

/// Of several rounds: the middle, and how far the others lie.
#[derive(Clone, Copy)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl Spread {
    /// # Panics
    /// Without a number.
    pub(crate) fn of(numbers: &[f64]) -> Self {
        let mut sorted = numbers.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (least, most) = (sorted[0], sorted[sorted.len() - 1]);
        Self { median: sorted[sorted.len() / 2], least, most }
    }

    pub(crate) fn json(self) -> Value {
        json!({ "median": self.median, "least": self.least, "most": self.most })
    }
}
