//! The resource page, `boards/RESOURCES.md`: what each build of `cross/build` takes of a board.
//!
//! Groups of three on loopback, each board with a file of its own with the program. What is
//! not built for this machine runs under QEMU and its figures say so: what goes to the disk
//! and how often a board wakes up are the program's own there too, but its memory is QEMU's
//! as well, and a start is as slow as QEMU is. What a build for this machine takes of memory
//! is near what the same program takes on a board of its kind.

use std::{
    fmt::Write as _,
    fs,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use understudy_boards::board;
use understudy_tests::{
    agents::Agents,
    artefacts::{Kind, Machine},
    program,
};

use crate::{
    Spread,
    flash::{Boards, Wanted},
    group::{BOARDS, Group},
    lines,
    process::{self, megabytes},
};

/// Nothing happens for so long before anything idle is read, and while it is.
const IDLE: Duration = Duration::from_secs(20);

/// Readings a second, for so long, before loaded memory is read.
const LOAD: (u64, u64) = (100, 30);

/// Readings a second for which it is told what a day writes.
const RATES: [u64; 2] = [1, 10];

const DAY_S: f64 = 86_400.0;

/// How long readings wait for more unless a board is told otherwise, milliseconds, and one
/// who would spare a card.
const WINDOWS_MS: [u64; 2] = [50, 1_000];

/// Starts of which the middle is told.
const STARTS: usize = 5;

/// Looks whether a board listens, one a millisecond.
const TRIES: u32 = 60_000;

const PROFILES: [&str; 3] = ["wired", "wifi", "radio"];

/// Measures every build and writes the page.
///
/// # Errors
/// When boards' files or packages cannot be read, or the page cannot be written.
///
/// # Panics
/// When a build is missing: with how to make it.
pub(crate) fn run(seconds: u64, machine: &Value) -> Result<Value, String> {
    let folder = program::target().join("cross");
    let builds = Kind::ALL.map(|kind| Build { kind, machine: kind.machine_of(&folder) });
    let mut report = json!({ "measure": "resources" });
    let mut page = String::from(HEAD);
    let machine = machine.as_str().unwrap_or_default();
    let _ = writeln!(page, "{machine}.\n");
    page.push_str(&sizes(&builds)?);
    page.push_str(&packages(&program::target().join("packages"))?);
    if let Some(build) = builds.iter().find(|build| !build.runs()) {
        let target = build.kind.target();
        return Err(format!("{target} does not run here: cross/test cargo measure resources"));
    }
    page.push_str(RUNNING);
    for build in &builds {
        eprintln!("{}: starts, memory and wake-ups", build.kind.target());
        let (started, memory) = (build.started_ms(), memory(&build.machine));
        report[build.kind.target()] = json!({ "started_ms": started, "memory": memory.json() });
        let _ = writeln!(page, "| {} | {started:.0} | {} |", build.words(), memory.row());
    }
    page.push_str(PROFILE);
    let own =
        builds.iter().find(|build| build.is_native()).ok_or("no build is for this machine")?;
    for (profile, woken) in wake_ups_of_profiles(&own.machine) {
        report[profile] = json!(woken);
        let _ = writeln!(page, "| `{profile}` | {woken:.0} |");
    }
    eprintln!("bytes written: all builds at once");
    page.push_str(FLASH);
    let [window_ms, longer_ms] = WINDOWS_MS;
    let cells = builds.iter().map(|build| (build, window_ms)).chain([(own, longer_ms)]);
    let cells: Vec<(&Build, u64)> = cells.collect();
    for ((build, window_ms), days) in cells.iter().zip(flash(&cells, seconds)) {
        report[build.kind.target()]["bytes_a_day"][window_ms.to_string()] = json!(days);
        let days = days.map(|bytes| format!("{:.0} MB", bytes / 1e6)).join(" | ");
        let _ = writeln!(page, "| {} | {window_ms} ms | {days} |", build.words());
    }
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../boards/RESOURCES.md");
    fs::write(&path, &page).map_err(|error| format!("{}: {error}", path.display()))?;
    eprintln!("{page}");
    Ok(report)
}

const HEAD: &str = "\
# What the program takes of a board

`cross/test cargo measure resources` writes this page: of the builds that `cross/build` and
`cross/package` made, run on the machine named here. What says *native* ran on its processor,
what says *QEMU* under QEMU's user mode.

Machine: ";

const RUNNING: &str = "
Three boards on loopback, with the profile `wired`; of each figure that of the board where it is
highest, the agent and the process above it together. *Started* is the time until the agent of a
board that was killed listens again, the middle of five. Loaded is after 100 readings a second for
30 s. Memory under QEMU contains QEMU's own and the code it translated: a bound, and not what a
board of that kind needs, which is near the native row. Wake-ups are of a board that idles, a
second.

| target | ran | started, ms | resident idle | proportional idle | resident loaded | \
proportional loaded | wake-ups |
|---|---|---|---|---|---|---|---|
";

const PROFILE: &str = "
Of the native build, by profile:

| profile | wake-ups a second of a board that idles |
|---|---|
";

const FLASH: &str = "
What a day writes, as the kernel counts it for the process, on the board that writes most, and with
how long readings wait for more (`batch_window_ms`). Flash inside a card writes more than it is sent:
how much depends on the card.

| target | ran | window | at 1 reading a second | at 10 |
|---|---|---|---|---|
";

struct Build {
    kind: Kind,
    machine: Machine,
}

impl Build {
    fn is_native(&self) -> bool {
        self.kind.target().starts_with(std::env::consts::ARCH)
    }

    /// Two cells of a table.
    fn words(&self) -> String {
        let ran = if self.is_native() { "native" } else { "QEMU" };
        format!("`{}` | {ran}", self.kind.target())
    }

    fn runs(&self) -> bool {
        let environment = self.machine.environment.iter().copied();
        let said = Command::new(&self.machine.program).arg("--version").envs(environment).output();
        said.is_ok_and(|said| said.status.success())
    }

    /// From the start of the program until its agent listens to the command line, on the data
    /// of a group of one that was killed; milliseconds.
    #[expect(clippy::disallowed_methods, reason = "measuring is what a clock is for here")]
    fn started_ms(&self) -> f64 {
        let program = &self.machine.program;
        let mut agents = Agents::new_in(program, program.parent().expect("a folder"));
        agents.be("a", self.machine.clone());
        agents.form(&["a"]);
        let socket = agents.directory("a").join("control.sock");
        let starts = (0..STARTS).map(|_| {
            agents.kill("a");
            let started = Instant::now();
            agents.start("a", &[]);
            let listens = (0..TRIES).any(|_| {
                thread::sleep(Duration::from_millis(1));
                UnixStream::connect(&socket).is_ok()
            });
            assert!(listens, "{} does not start", program.display());
            started.elapsed().as_secs_f64() * 1e3
        });
        Spread::of(&starts.collect::<Vec<_>>()).median
    }
}

/// A table of the programs, and of what boards each is for.
fn sizes(builds: &[Build]) -> Result<String, String> {
    let boards = board::all()?;
    let mut table = String::from("| target | bytes of the program | boards |\n|---|---|---|\n");
    for Build { kind, machine } in builds {
        let bytes = fs::metadata(&machine.program).map_or(0, |metadata| metadata.len());
        let is_for = |board: &&board::Board| board.targets.iter().any(|one| one == kind.target());
        let names: Vec<&str> = boards.iter().filter(is_for).map(|board| board.key).collect();
        let _ = writeln!(table, "| `{}` | {bytes} | {} |", kind.target(), names.join(", "));
    }
    Ok(table)
}

/// A table of the packages that were made of the builds.
fn packages(folder: &Path) -> Result<String, String> {
    let make = |error| format!("{}: {error}; cross/package makes it", folder.display());
    let files = fs::read_dir(folder).map_err(make)?.flatten();
    let mut rows: Vec<String> = files
        .map(|file| (file.file_name().to_string_lossy().into_owned(), file))
        .filter(|(name, _)| name.ends_with(".deb") || name.ends_with(".tar.gz"))
        .map(|(name, file)| {
            let bytes = file.metadata().map_or(0, |metadata| metadata.len());
            format!("| `{name}` | {bytes} |\n")
        })
        .collect();
    rows.sort();
    Ok(format!("\n| package | bytes |\n|---|---|\n{}", rows.concat()))
}

/// What a board takes of memory, megabytes, resident and proportional, and how often it wakes
/// up while it idles.
struct Memory {
    idle: [f64; 2],
    loaded: [f64; 2],
    wake_ups_per_s: f64,
}

impl Memory {
    fn row(&self) -> String {
        let Self { idle: [idle, idle_share], loaded: [loaded, loaded_share], .. } = self;
        let memory = [idle, idle_share, loaded, loaded_share].map(|mb| format!("{mb:.1} MB"));
        format!("{} | {:.0}", memory.join(" | "), self.wake_ups_per_s)
    }

    fn json(&self) -> Value {
        json!({
            "idle_mb": self.idle, "loaded_mb": self.loaded, "wake_ups_per_s": self.wake_ups_per_s,
        })
    }
}

/// # Panics
/// When a reading is not stored.
fn memory(machine: &Machine) -> Memory {
    let group = idling(machine);
    let wake_ups_per_s = wake_ups_per_s(&group);
    let idle = largest(&group);
    let (rate, seconds) = LOAD;
    let stream = group.agents.directory("b").join("readings.stream.sock");
    let line = |number| format!("room/{} {number}\n", number % 20);
    let told = lines::paced((&stream, 1, "ack committed\n"), line, rate, seconds);
    assert_eq!(told.refused, 0, "readings are stored: {:?}", told.reasons);
    Memory { idle, loaded: largest(&group), wake_ups_per_s }
}

/// Three boards that have been left alone, and that nobody joins.
fn idling(machine: &Machine) -> Group {
    let group = Group::apart(machine, "");
    let _ = group.agents.told("a", &["token", "revoke"]);
    thread::sleep(IDLE);
    group
}

fn wake_ups_of_profiles(machine: &Machine) -> [(&'static str, f64); PROFILES.len()] {
    let group = idling(machine);
    PROFILES.map(|profile| {
        let _ = group.agents.told("a", &["set", "profile", profile]);
        thread::sleep(IDLE);
        (profile, wake_ups_per_s(&group))
    })
}

/// The processes of a board: its agent, and the one above it.
fn pids(group: &Group, board: &str) -> [String; 2] {
    ["agent_pid", "parent_pid"].map(|which| group.said(board, which))
}

/// Resident and proportional memory of the board where it is largest, megabytes.
fn largest(group: &Group) -> [f64; 2] {
    let boards = BOARDS.map(|board| pids(group, board));
    [process::resident_bytes, process::memory_bytes].map(|of: fn(&str) -> u64| {
        let of_board = |pids: &[String; 2]| pids.iter().map(|pid| of(pid)).sum();
        boards.iter().map(of_board).max().map_or(0.0, megabytes)
    })
}

/// Of the board that wakes up most often, all threads of its processes.
#[expect(clippy::cast_precision_loss, reason = "these are far below 2^52")]
fn wake_ups_per_s(group: &Group) -> f64 {
    let boards = BOARDS.map(|board| pids(group, board));
    let woken =
        || boards.each_ref().map(|pids| pids.iter().map(|pid| process::wake_ups(pid)).sum::<u64>());
    let before = woken();
    thread::sleep(IDLE);
    let most = woken().iter().zip(before).map(|(after, before)| after.saturating_sub(before)).max();
    most.unwrap_or(0) as f64 / IDLE.as_secs_f64()
}

/// What a day writes to the disk at each rate, bytes, of each build with such a window; all at
/// once, since none of them has much to do.
fn flash(cells: &[(&Build, u64)], seconds: u64) -> Vec<[f64; RATES.len()]> {
    thread::scope(|scope| {
        let of_cell = |(build, window_ms): &(&Build, u64)| {
            let (machine, window_ms) = (build.machine.clone(), *window_ms);
            scope.spawn(move || days(&machine, window_ms, seconds))
        };
        let threads: Vec<_> = cells.iter().map(of_cell).collect();
        threads.into_iter().map(|thread| thread.join().expect("it was measured")).collect()
    })
}

#[expect(clippy::cast_precision_loss, reason = "these are far below 2^52")]
fn days(machine: &Machine, window_ms: u64, seconds: u64) -> [f64; RATES.len()] {
    let group = Group::apart(machine, &format!("[readings]\nbatch_window_ms = {window_ms}\n"));
    let mut boards = Boards::of(&group);
    RATES.map(|rate| {
        let wanted = Wanted { rate: Some(rate), window_ms: Some(window_ms), seconds };
        boards.cell(None, rate, window_ms, &wanted).most() * rate as f64 * DAY_S
    })
}
