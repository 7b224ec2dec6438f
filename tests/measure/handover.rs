//! How long nobody does what a duty is about, and nothing can be written, when the board
//! that holds it and leads is lost: its agent killed, the parent above that, the whole
//! board cut off from the others, standing still, or asked to stop.
//!
//! The duty's commands leave marks of boot time; a write is probed at another board all
//! the while. What counts is from the loss to the first mark of another board, and to the
//! first write that is acknowledged.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};
use understudy::{
    control::{ControlRequest, ControlResponse},
    driver::control,
};
use understudy_core::sql::{Origin, RequestKind, SqlRequest};
use understudy_tests::{agents::Agents, network::Network, processes::signal, slow_disk::SlowDisk};

use crate::{
    Spread,
    group::{BOARDS, Group},
};

const TABLE: &str = "CREATE TABLE probe(n)";
const INSERT: &str = "INSERT INTO probe VALUES (1)";

/// Between two probes of a write, and between two looks at the marks.
const LOOK: Duration = Duration::from_millis(5);

/// Whoever does nothing for so long is given up.
const GAP_MAX: Duration = Duration::from_secs(60);

/// Times that the board which holds the duty is asked to lead.
const SETTLES_MAX: u32 = 30;

/// How a board is lost.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Cause {
    Agent,
    Parent,
    Cut,
    Still,
    Clean,
}

const CAUSES: [Cause; 5] = [Cause::Agent, Cause::Parent, Cause::Cut, Cause::Still, Cause::Clean];

impl Cause {
    const fn name(self) -> &'static str {
        match self {
            Self::Agent => "agent killed",
            Self::Parent => "parent killed",
            Self::Cut => "link cut",
            Self::Still => "standing still",
            Self::Clean => "asked to stop",
        }
    }
}

/// Three boards, each with a command for the duty.
struct Stage {
    group: Group,
    marks: PathBuf,
    network: Option<Network>,
}

/// Per cause, until another acted and until a write was acknowledged.
type Gaps = BTreeMap<Cause, Vec<(f64, f64)>>;

/// With a slow disk, both are measured, and the one is held against the other.
pub(crate) fn run(program: &Path, kills: u64, is_slow: bool) -> Result<Value, String> {
    let disk = match is_slow {
        true => Some(SlowDisk::new(program, true).ok_or("so no disk is slow here")?),
        false => None,
    };
    let (shown, gaps) = measured(Stage::new(program, None, None), kills);
    let mut report = json!({ "measure": "takeover", "kills": kills, "causes": shown });
    if disk.is_some() {
        eprintln!("the same on disks whose syncs take 30 ms, six of a hundred 200 to 500 ms:");
        let (shown, slow) = measured(Stage::new(program, disk, None), kills);
        report["slow_disk"] = json!({ "causes": shown, "ratio": ratios(&gaps, &slow) });
    }
    Ok(report)
}

/// The same of boards that are configured so, on loopback, where no link is cut.
pub(crate) fn by_road(program: &Path, kills: u64, text: &str) -> Value {
    measured(Stage::new(program, None, Some(text)), kills).0
}

fn measured(mut stage: Stage, kills: u64) -> (Value, Gaps) {
    let mut all = Gaps::new();
    for _ in 0..kills {
        for cause in CAUSES {
            if cause == Cause::Cut && stage.network.is_none() {
                continue;
            }
            let gaps = stage.lose(cause);
            all.entry(cause).or_default().push(gaps);
        }
    }
    let mut shown = json!({});
    for (cause, gaps) in &all {
        let (duty, write): (Vec<f64>, Vec<f64>) = gaps.iter().copied().unzip();
        shown[cause.name()] = json!({ "duty_ms": tell(*cause, "duty", &duty), "write_ms": tell(*cause, "write", &write) });
    }
    (shown, all)
}

/// How many times as long each takes on the slow disk, in the median.
fn ratios(fast: &Gaps, slow: &Gaps) -> Value {
    let median = |gaps: &[(f64, f64)], of: fn(&(f64, f64)) -> f64| {
        Spread::of(&gaps.iter().map(of).collect::<Vec<_>>()).median
    };
    let mut ratios = json!({});
    for (cause, fast) in fast {
        let [duty, write] = [|gap: &(f64, f64)| gap.0, |gap: &(f64, f64)| gap.1].map(|of| {
            let (fast, slow) = (median(fast, of), median(&slow[cause], of));
            (slow / fast, slow - fast)
        });
        let name = cause.name();
        eprintln!(
            "{name:<16} on the slow disk duty {:.2} times ({:+.0} ms), write {:.2} times ({:+.0} ms)",
            duty.0, duty.1, write.0, write.1
        );
        ratios[name] = json!({ "duty": duty.0, "write": write.0 });
    }
    ratios
}

fn tell(cause: Cause, what: &str, gaps: &[f64]) -> Value {
    let spread = Spread::of(gaps);
    let mut sorted = gaps.to_vec();
    sorted.sort_by(f64::total_cmp);
    let p99 = sorted[(sorted.len() * 99).div_ceil(100) - 1];
    let name = cause.name();
    eprintln!(
        "{name:<16} {what:<6} median {:>6.0} ms, p99 {p99:>6.0}, {:.0}..{:.0}, {} times",
        spread.median,
        spread.least,
        spread.most,
        gaps.len()
    );
    let mut json = spread.json();
    json["p99"] = json!(p99);
    json
}

impl Stage {
    fn new(program: &Path, disk: Option<SlowDisk>, road: Option<&str>) -> Self {
        let network = if road.is_some() { None } else { Network::new() };
        match &network {
            Some(network) => {
                // Rules that come before what is known of this machine's own addresses.
                network.ip(&["rule", "add", "pref", "100", "lookup", "local"]);
                network.ip(&["rule", "del", "pref", "0"]);
            }
            None if road.is_some() => {}
            None => eprintln!("no link is cut: that wants network namespaces"),
        }
        let road = road.unwrap_or_default();
        let mut agents = match &network {
            Some(network) => Agents::on(program, network),
            None => Agents::new_in(program, program.parent().expect("a folder")),
        };
        agents.disk = disk;
        let marks = agents.directory("marks");
        for board in BOARDS {
            let readings = agents.directory(board).join("readings.sock");
            let words = [program, Path::new("demo-sampler"), Path::new(board), &readings, &marks];
            let command: Vec<String> =
                words.iter().map(|word| word.display().to_string()).collect();
            let text = format!("{road}[[duty]]\nname = \"sampler\"\ncommand = {command:?}\n");
            agents.configure(board, &text);
        }
        agents.form(&BOARDS);
        let _sentence = agents.told("a", &["duty", "add", "sampler"]);
        let group = Group { agents, boards: &BOARDS };
        let _made = group.agents.told("a", &["execute", TABLE]);
        Self { group, marks, network }
    }

    /// The board that holds the duty, once it leads as well and all others are ready.
    fn settle(&self) -> &'static str {
        let agents = &self.group.agents;
        for board in BOARDS {
            agents.wait(board, "to be ready for the duty", |status| {
                status["duties"][0]["ready"] == true && status["leader"].is_string()
            });
        }
        for _ in 0..SETTLES_MAX {
            if let Some(holder) = BOARDS.into_iter().find(|board| self.leads_and_holds(board)) {
                thread::sleep(Duration::from_secs(2));
                if self.leads_and_holds(holder) {
                    return holder;
                }
            }
            // It may miss its election where its disk is slow, or the duty move meanwhile.
            let status = agents.status("a").expect("it answers");
            if let Some(holder) = status["duties"][0]["holder"].as_str() {
                let _moved = agents.ask("a", &["transfer", holder]);
            }
            thread::sleep(Duration::from_secs(1));
        }
        panic!("nobody comes to lead and hold: {:?}", agents.status("a"));
    }

    fn leads_and_holds(&self, board: &str) -> bool {
        let status = self.group.agents.status(board).expect("it answers");
        status["role"] == "leader" && status["duties"][0]["held"] == true
    }

    /// Until another board acts, and until one acknowledges a write, milliseconds.
    fn lose(&mut self, cause: Cause) -> (f64, f64) {
        let holder = self.settle();
        let other = BOARDS.into_iter().rfind(|board| *board != holder).expect("there are three");
        let pid = self.group.pid(holder);
        let status = self.group.agents.status(holder).expect("it answers");
        let parent = status["parent_pid"].to_string();
        let udp = status["udp"].as_str().unwrap_or_default().to_owned();
        let lost_us = boot_us();
        match cause {
            Cause::Agent => signal("KILL", &pid),
            Cause::Parent => signal("KILL", &parent),
            Cause::Still => signal("STOP", &pid),
            Cause::Clean => signal("TERM", &parent),
            Cause::Cut => self.cut(&udp, true),
        }
        let write = probe(self.group.agents.directory(other).join("control.sock"), lost_us);
        let duty_ms = self.wait_for_another(holder, lost_us);
        let write_ms = write.recv_timeout(GAP_MAX).expect("a write is acknowledged");
        match cause {
            Cause::Agent | Cause::Parent | Cause::Clean => {
                let _is_fine = self.group.agents.ended(holder);
                self.group.agents.run(holder);
            }
            Cause::Still => signal("CONT", &pid),
            Cause::Cut => self.cut(&udp, false),
        }
        (duty_ms, write_ms)
    }

    fn wait_for_another(&self, holder: &str, lost_us: u64) -> f64 {
        let since = boot_us();
        while boot_us() - since < gap_us_max() {
            let text = fs::read_to_string(&self.marks).unwrap_or_default();
            let first = text.lines().rev().take(2_000).filter_map(|line| {
                let mut words = line.split(' ');
                let at: u64 = words.next()?.parse().ok()?;
                (words.nth(1)? != holder && at > lost_us).then_some(at)
            });
            if let Some(at) = first.min() {
                return (at - lost_us) as f64 / 1e3;
            }
            thread::sleep(LOOK);
        }
        panic!("nobody takes the duty over from {holder}");
    }

    /// Nothing goes to this board any more, or comes from it; or all does again.
    fn cut(&self, udp: &str, is_cut: bool) {
        let network = self.network.as_ref().expect("there is one where links are cut");
        let port = udp.rsplit_once(':').map_or(udp, |(_, port)| port);
        let what = if is_cut { "add" } else { "del" };
        for (pref, end) in [("50", "sport"), ("51", "dport")] {
            network.ip(&["rule", what, "pref", pref, "ipproto", "udp", end, port, "blackhole"]);
        }
    }
}

fn gap_us_max() -> u64 {
    u64::try_from(GAP_MAX.as_micros()).unwrap_or(u64::MAX)
}

fn boot_us() -> u64 {
    let time = clock_gettime(ClockId::Boottime);
    u64::try_from(time.tv_sec * 1_000_000 + time.tv_nsec / 1_000).expect("it is positive")
}

/// Writes are tried one after the other without waiting, as from so many sensors: when the
/// first is acknowledged that was sent after the loss, in milliseconds after it.
fn probe(socket: PathBuf, lost_us: u64) -> mpsc::Receiver<f64> {
    let (acknowledged, first) = mpsc::channel();
    thread::spawn(move || {
        let (told, heard) = mpsc::channel();
        while boot_us() - lost_us < gap_us_max() {
            let (socket, told) = (socket.clone(), told.clone());
            thread::spawn(move || {
                if write(&socket) {
                    // Only the first is waited for.
                    let _ = told.send((boot_us() - lost_us) as f64 / 1e3);
                }
            });
            if let Ok(ms) = heard.recv_timeout(4 * LOOK) {
                // The measurement may have given up.
                let _ = acknowledged.send(ms);
                return;
            }
        }
    });
    first
}

/// Through the control socket, which is there in whatever network a board is.
fn write(socket: &Path) -> bool {
    let request = SqlRequest::one(RequestKind::Execute, Origin::User, INSERT, Vec::new());
    let answer = control::ask(socket, &ControlRequest::Sql { request, read: false });
    matches!(answer, Ok(ControlResponse::Sql(response)) if response.failure().is_none())
}
