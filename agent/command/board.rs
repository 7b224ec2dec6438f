//! `understudy board`: what this machine is, which sensors it has and what they say now, what
//! the program may use of it, and what is odd about it. Needs no agent.

use std::{collections::BTreeSet, fmt::Write as _, path::Path, sync::mpsc, time::Duration};

use serde_json::{Value, json};
use understudy_boards::{
    Source,
    board::{self, Board},
    source,
};

use crate::{links, terminal};

/// So long a source may take: the slowest there are, thermometers, need less than a second.
const PATIENCE: Duration = Duration::from_secs(5);

/// This machine.
struct Machine {
    /// As it says itself.
    model: Option<String>,
    board: Board,
    /// The timing profile that suits it, and why.
    profile: (String, String),
    sources: Vec<Source>,
}

impl Machine {
    /// The one under `root`, which is `/` but for tests, with the data folder there.
    fn of(root: &Path, data: &Path, architecture: &str) -> Result<Self, String> {
        let board = board::here(root, architecture)?;
        let sources = source::all(root, data);
        let profile = profile(&board, &root.join(links::SYSTEM.trim_start_matches('/')));
        Ok(Self { model: board::model(root), board, profile, sources })
    }

    fn missing(&self) -> Vec<&str> {
        let found: Vec<String> = self.sources.iter().map(|source| source.name.clone()).collect();
        self.board.missing(&found)
    }
}

/// By the links that are up, as `understudy init` goes by those that it can be reached by; by
/// the board's file where no link shows.
fn profile(board: &Board, system: &Path) -> (String, String) {
    let up = links::up(system);
    if up.is_empty() {
        return (board.profile.clone(), String::from("as for all boards like it: no link is up"));
    }
    let (profile, why) = links::profile(system, &up);
    let cables = || format!("{} being all that is up", up.join(" and "));
    (profile.to_owned(), why.map_or_else(cables, |why| format!("since {why}")))
}

/// Reads sources, each for so long at the most.
struct Reader {
    patience: Duration,
    /// Buses on which one did not answer: whoever asks another there waits behind it.
    hung: BTreeSet<String>,
}

impl Reader {
    const fn new(patience: Duration) -> Self {
        Self { patience, hung: BTreeSet::new() }
    }

    fn read(&mut self, source: &Source) -> Result<f64, String> {
        if self.hung.contains(&source.bus) {
            return Err(String::from("it was not asked: another on its bus does not answer"));
        }
        let (tell, told) = mpsc::channel();
        let one = source.clone();
        let thread = std::thread::Builder::new();
        // Nobody may wait any more.
        let begun = thread.spawn(move || drop(tell.send(one.read())));
        begun.map_err(|error| format!("there is no thread to read it on: {error}"))?;
        if let Ok(read) = told.recv_timeout(self.patience) {
            return read.map_err(|error| error.to_string());
        }
        self.hung.insert(source.bus.clone());
        Err(format!("it has not answered for {} s", self.patience.as_secs()))
    }
}

/// # Errors
/// When what is compiled in is wrong, or nobody can be told.
pub(super) fn run(data: &Path, is_json: bool) -> Result<(), String> {
    let machine = Machine::of(Path::new("/"), data, std::env::consts::ARCH)?;
    let reader = Reader::new(PATIENCE);
    match is_json {
        true => terminal::line(&as_json(&machine, reader).to_string()),
        false => show(&machine, reader, terminal::print),
    }
}

fn as_json(machine: &Machine, mut reader: Reader) -> Value {
    let value = |source: &Source| match reader.read(source) {
        Ok(value) => json!({"source": source.name, "unit": source.unit, "value": value}),
        Err(trouble) => json!({"source": source.name, "unit": source.unit, "trouble": trouble}),
    };
    let Machine { model, board, profile, sources } = machine;
    json!({
        "model": model,
        "board": board.key,
        "is_known": board.is_known(),
        "name": board.name,
        "targets": board.targets,
        "profile": profile.0,
        "binary_bytes_max": board.budget.binary_bytes_max,
        "memory_bytes_max": board.budget.memory_bytes_max,
        "sqlite_bytes_max": board.budget.sqlite_bytes_max,
        "flash_bytes_per_day_max": board.budget.flash_bytes_per_day_max,
        "journal_bytes_max": board.budget.journal_bytes_max,
        "sources": sources.iter().map(value).collect::<Vec<_>>(),
        "missing": machine.missing(),
        "quirks": board.quirks.iter().map(|quirk| &quirk.what).collect::<Vec<_>>(),
    })
}

/// Tells each line as it comes: a source may take its time.
fn show(
    machine: &Machine,
    mut reader: Reader,
    mut tell: impl FnMut(&str) -> Result<(), String>,
) -> Result<(), String> {
    tell(&introduction(machine))?;
    let names = machine.sources.iter().map(|source| source.name.len());
    let width = names.max().unwrap_or(0);
    for source in &machine.sources {
        let said = match reader.read(source) {
            Ok(value) => format!("{value} {}", source.unit),
            Err(trouble) => trouble,
        };
        tell(&format!("{:width$}  {}\n", source.name, said.trim_end()))?;
    }
    for name in machine.missing() {
        tell(&format!("{name:width$}  is not there, and should be\n"))?;
    }
    for quirk in &machine.board.quirks {
        tell(&format!("\n{}: {} [{}]\n", quirk.what, quirk.so, quirk.source))?;
    }
    Ok(())
}

fn introduction(machine: &Machine) -> String {
    let Machine { model, board, profile: (profile, why), .. } = machine;
    let mut out = String::new();
    let says = match model {
        Some(model) => format!(", as it says itself: {model}"),
        None => String::new(),
    };
    let _ = writeln!(out, "This is {} ({}.toml{says}).", board.name, board.key);
    if !board.is_known() {
        let _ = writeln!(
            out,
            "No file in boards/ is for this very board, so what {}.toml says holds; one more file \
             there makes it known.",
            board.key
        );
    }
    let _ =
        writeln!(out, "Timing that suits its links: {profile}, {why} (`understudy set profile`).");
    let megabytes = |bytes: u64| format!("{:.1} MB", bytes as f64 / 1e6);
    let budget = &board.budget;
    let _ = writeln!(
        out,
        "It may use {} of memory, {} for the program, {} for the journal, {} of its card a day.\n",
        megabytes(budget.memory_bytes_max),
        megabytes(budget.binary_bytes_max),
        megabytes(budget.journal_bytes_max),
        megabytes(budget.flash_bytes_per_day_max)
    );
    out
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A Pi 4B with these files as well.
    fn machine(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let model = ("proc/device-tree/model", "Raspberry Pi 4 Model B Rev 1.4\0");
        for (path, text) in [model].iter().chain(files) {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    fn of(root: &Path) -> Machine {
        Machine::of(root, root, "aarch64").unwrap()
    }

    fn shown(machine: &Machine) -> String {
        let mut text = String::new();
        let tell = |line: &str| {
            text.push_str(line);
            Ok(())
        };
        show(machine, Reader::new(PATIENCE), tell).unwrap();
        text
    }

    #[test]
    fn what_is_shown_names_the_board_its_sensors_and_what_it_lacks() {
        let root = machine(&[("proc/uptime", "12.5 0.1")]);
        let text = shown(&of(root.path()));
        for words in [
            "Raspberry Pi 4B (pi-4b.toml, as it says itself: Raspberry Pi 4 Model B Rev 1.4)",
            "its links: wired, as for all boards like it: no link is up (`understudy set profile`)",
            "uptime          12.5 s\n",
            "disk/free/data  ",
            "hwmon/rpi_volt/*",
            "2.8 s",
        ] {
            assert!(text.contains(words), "{words}: {text}");
        }
        assert!(!text.contains("this very board"), "it is known: {text}");
        let json = as_json(&of(root.path()), Reader::new(PATIENCE));
        assert_eq!((&json["board"], &json["is_known"]), (&json!("pi-4b"), &json!(true)));
        assert_eq!(json["sources"][0]["value"], 12.5, "{json}");
        assert_eq!(json["missing"][0], "thermal/cpu-thermal");
    }

    #[test]
    fn the_profile_is_that_of_the_links_that_are_up() {
        let cable = [
            ("sys/class/net/eth0/type", "1"),
            ("sys/class/net/eth0/operstate", "up"),
            ("sys/class/net/docker0/operstate", "up"),
        ];
        let wifi = [
            ("sys/class/net/wlan0/type", "1"),
            ("sys/class/net/wlan0/phy80211/x", ""),
            ("sys/class/net/wlan0/operstate", "up"),
        ];
        let down = [cable[0], ("sys/class/net/eth0/operstate", "down")];
        for (files, profile, why) in [
            (&[&cable[..]][..], "wired", "eth0 being all that is up"),
            (&[&cable, &wifi], "wifi", "since wlan0 is Wi-Fi"),
            (&[&down, &wifi], "wifi", "since wlan0 is Wi-Fi"),
            (&[&down], "wired", "as for all boards like it: no link is up"),
        ] {
            let root = machine(&files.concat());
            assert_eq!(of(root.path()).profile, (profile.to_owned(), why.to_owned()));
        }
    }

    #[test]
    fn a_board_without_a_file_is_told_what_holds() {
        let root = machine(&[("proc/device-tree/model", "Radxa ZERO 3W\0")]);
        let text = shown(&of(root.path()));
        assert!(text.contains("is for this very board, so what generic-arm64.toml says"), "{text}");
    }

    fn pipe(root: &Path, thermometer: &str) -> std::path::PathBuf {
        let file = root.join("sys/bus/w1/devices").join(thermometer).join("w1_slave");
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(&file).status().unwrap().success());
        file
    }

    #[test]
    fn each_line_is_told_as_it_comes() {
        let root = machine(&[("sys/class/thermal/thermal_zone0/temp", "40000")]);
        let wire = pipe(root.path(), "28-a");
        let mut lines = Vec::new();
        let tell = |line: &str| {
            if line.starts_with("thermal/") {
                // It waits for whoever reads, and that begins when this line is told.
                let (wire, bytes) = (wire.clone(), "01 : crc=71 YES\n01 t=22875\n");
                let _written = std::thread::spawn(move || fs::write(wire, bytes).unwrap());
            }
            lines.push(line.to_owned());
            Ok(())
        };
        // Only the line before has it answer.
        show(&of(root.path()), Reader::new(Duration::from_secs(60)), tell).unwrap();
        assert!(lines[2].starts_with("w1/28-a") && lines[2].contains("22.875"), "{lines:?}");
    }

    #[test]
    fn one_that_does_not_answer_is_given_up_and_so_is_its_bus() {
        let root = machine(&[("proc/uptime", "12.5 0.1")]);
        let pipes = ["28-a", "28-b"].map(|name| pipe(root.path(), name));
        let machine = of(root.path());
        let mut reader = Reader::new(Duration::from_millis(50));
        let read = machine.sources.iter().map(|source| reader.read(source));
        let read: Vec<Result<f64, String>> = read.take(2).collect();
        assert_eq!(read[0], Err(String::from("it has not answered for 0 s")));
        assert!(read[1].as_ref().unwrap_err().contains("another on its bus"), "{read:?}");
        let mut reader = Reader { patience: PATIENCE, ..reader };
        assert_eq!(reader.read(&machine.sources[2]), Ok(12.5), "another bus goes on");
        // The thread that waits ends.
        drop(fs::OpenOptions::new().write(true).open(&pipes[0]));
    }
}
