//! Duties as boards hold them: real agents, killed in every way there is, and keepers of
//! commands that do what they are told. What may never overlap is told by the keepers'
//! own stamps of boot time.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};
use serde_json::Value;
use understudy::{
    driver::watch,
    hold::words::{AgentWord, KeeperWord, Opening},
};
use understudy_tests::{agents::Agents, processes::signal, program};

pub(crate) const BOARDS: [&str; 3] = ["a", "b", "c"];

/// Looks at something that comes about soon, one every 10 ms.
const TRIES: u32 = 3_000;

fn boot_ms() -> u64 {
    let time = clock_gettime(ClockId::Boottime);
    u64::try_from(time.tv_sec * 1_000 + time.tv_nsec / 1_000_000).expect("it is positive")
}

/// One command that ran on a board.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) board: String,
    token: u64,
    from_ms: u64,
    /// It was gone by then.
    to_ms: u64,
    /// It was told to end: a lease that goes on meanwhile is not for it.
    is_stopped: bool,
}

/// What all keepers of a duty did.
#[derive(Clone, Default)]
pub(crate) struct Ledger(Arc<Mutex<Vec<Run>>>);

impl Ledger {
    fn change<T>(&self, change: impl FnOnce(&mut Vec<Run>) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A keeper on each of these boards.
    pub(crate) fn keep(&self, agents: &Agents, boards: &[&'static str], duty: &'static str) {
        for board in boards {
            let socket = agents.directory(board).join("control.sock");
            keep(socket, board, duty, self.clone());
        }
    }

    /// The command that runs now, on a board other than that.
    pub(crate) fn wait_for_another(&self, board: &str) -> Run {
        for _ in 0..TRIES {
            let now = boot_ms();
            let runs = self.change(|runs| runs.clone());
            let runs = runs.into_iter().filter(|run| run.board != board && now < run.to_ms);
            if let Some(run) = runs.max_by_key(|run| run.token) {
                return run;
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!("nobody but {board} takes the duty: {:?}", self.change(|runs| runs.clone()));
    }

    /// All that runs on a board ends now: under which tokens.
    fn end_all(&self, board: &str) -> Vec<u64> {
        let now = boot_ms();
        self.change(|runs| {
            let running = |run: &&mut Run| run.board == board && now < run.to_ms;
            let ended = runs.iter_mut().filter(running).map(|run| {
                run.to_ms = now;
                run.token
            });
            ended.collect()
        })
    }

    /// No two ran at a time, and tokens rose with time.
    pub(crate) fn check(&self) {
        let mut runs = self.change(|runs| runs.clone());
        runs.sort_by_key(|run| run.from_ms);
        for pair in runs.windows(2) {
            let is_fine = pair[0].to_ms <= pair[1].from_ms && pair[0].token < pair[1].token;
            assert!(is_fine, "{pair:?}");
        }
    }
}

/// Keeps a command on a board for ever: one that runs from when it is told to until its
/// time is over, it is told to end, or the agent is gone, and says so.
fn keep(socket: PathBuf, board: &'static str, duty: &'static str, ledger: Ledger) {
    thread::spawn(move || {
        loop {
            if let Ok(agent) = UnixStream::connect(&socket) {
                converse(&agent, board, duty, &ledger);
                for token in ledger.end_all(board) {
                    watch::say(&socket, &KeeperWord::Gone { token, failed: false });
                }
            }
            thread::sleep(Duration::from_millis(50));
        }
    });
}

fn converse(mut agent: &UnixStream, board: &str, duty: &str, ledger: &Ledger) {
    let opening = Opening::Hold { duty: duty.to_owned(), pid: std::process::id(), beats: false };
    if say(&mut agent, &opening).is_err() {
        return;
    }
    for line in BufReader::new(agent).lines() {
        let word = line.ok().and_then(|line| serde_json::from_str(&line).ok());
        let Some(word) = word else { return };
        let own = |run: &&mut Run, token| run.board == board && run.token == token;
        match word {
            AgentWord::Take { token, until_ms } => ledger.change(|runs| {
                let (board, from_ms) = (board.to_owned(), boot_ms());
                runs.push(Run { board, token, from_ms, to_ms: until_ms, is_stopped: false });
            }),
            AgentWord::Until { token, until_ms } => ledger.change(|runs| {
                let run = runs.iter_mut().find(|run| own(run, token)).expect("it was told");
                // What is over is not begun again.
                assert!(run.is_stopped || boot_ms() < run.to_ms, "in time");
                run.to_ms = if run.is_stopped { run.to_ms } else { until_ms };
            }),
            AgentWord::Stop { token, .. } => {
                ledger.change(|runs| {
                    let run = runs.iter_mut().find(|run| own(run, token)).expect("it was told");
                    (run.to_ms, run.is_stopped) = (run.to_ms.min(boot_ms()), true);
                });
                if say(&mut agent, &KeeperWord::Gone { token, failed: false }).is_err() {
                    return;
                }
            }
            AgentWord::Waits | AgentWord::Refused(_) => {}
        }
    }
}

fn say(agent: &mut &UnixStream, word: &impl serde::Serialize) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(word)?;
    line.push(b'\n');
    agent.write_all(&line)
}

/// Three boards with a duty that each of them is ready for.
pub(crate) fn group() -> (Agents, Ledger) {
    let mut agents = Agents::new(&program::debug());
    agents.form(&BOARDS);
    let _sentence = agents.told("a", &["duty", "add", "pump"]);
    let ledger = Ledger::default();
    ledger.keep(&agents, &BOARDS, "pump");
    (agents, ledger)
}

fn pid(agents: &Agents, board: &str, which: &str) -> String {
    agents.status(board).expect("it runs")[which].to_string()
}

fn leads(board: &str) -> impl Fn(&Value) -> bool {
    move |status| status["leader"] == *board
}

#[test]
fn when_the_agent_of_the_board_that_holds_a_duty_is_killed_another_takes_it() {
    let (mut agents, ledger) = group();
    let mut holder = ledger.wait_for_another("");
    for _ in 0..2 {
        // Its parent is left, and says so.
        signal("KILL", pid(&agents, &holder.board, "agent_pid"));
        assert!(!agents.ended(&holder.board), "a parent ends as its agent does");
        let next = ledger.wait_for_another(&holder.board);
        agents.run(&holder.board);
        holder = next;
    }
    for _ in 0..2 {
        // Nobody is left to say anything.
        agents.kill(&holder.board);
        let next = ledger.wait_for_another(&holder.board);
        agents.run(&holder.board);
        holder = next;
    }
    ledger.check();
}

#[test]
fn a_board_that_stands_still_holds_nothing_when_it_goes_on() {
    let (agents, ledger) = group();
    let holder = ledger.wait_for_another("");
    let agent = pid(&agents, &holder.board, "agent_pid");
    signal("STOP", &agent);
    let next = ledger.wait_for_another(&holder.board);
    signal("CONT", &agent);
    agents.wait(&holder.board, "to hold nothing", |status| {
        status["duties"][0]["holder"] == *next.board && status["duties"][0]["held"] == false
    });
    ledger.check();
}

#[test]
fn a_duty_that_is_kept_without_a_majority_goes_on_and_says_so() {
    let (agents, ledger) = group();
    let rules = ["duty", "rules", "pump", "--without-majority", "keep"];
    let said = agents.told("a", &rules);
    assert!(said.contains("Two boards may hold pump at a time"), "{said}");
    let holder = ledger.wait_for_another("");
    let others: Vec<&str> = BOARDS.into_iter().filter(|board| *board != holder.board).collect();
    agents.wait(&holder.board, "to know the rule", |status| {
        status["duties"][0]["rules"]["keep"] == true
    });
    let stopped: Vec<String> =
        others.iter().map(|other| pid(&agents, other, "agent_pid")).collect();
    stopped.iter().for_each(|agent| signal("STOP", agent));
    let held = |status: &Value| status["duties"][0]["held"] == true;
    agents.wait(&holder.board, "to be alone for more than a lease", |status| {
        assert!(held(status), "it lets go: {status}");
        status["leaderless_ms"].as_u64() > Some(3_000)
    });
    let shown = agents.told(&holder.board, &["status"]);
    assert!(shown.contains("goes on with the duty pump without a majority"), "{shown}");
    let _sentence = agents.told(&holder.board, &["duty"]);
    stopped.iter().for_each(|agent| signal("CONT", agent));
    // Whoever leads may have granted it anew meanwhile: two have it only until that is known.
    agents.wait(&holder.board, "to have it only if it is granted it", |status| {
        let is_granted = status["duties"][0]["holder"] == *holder.board;
        status["leader"].is_string() && held(status) == is_granted
    });
}

#[test]
fn a_duty_goes_where_it_is_wanted_and_rests_while_it_is_paused() {
    let (agents, ledger) = group();
    let holder = ledger.wait_for_another("");
    let other = *BOARDS.iter().find(|board| **board != holder.board).expect("there are three");
    let _sentence = agents.told("a", &["duty", "transfer", "pump", other]);
    assert_eq!(ledger.wait_for_another(&holder.board).board, other);
    let _sentence = agents.told("a", &["duty", "release", "pump"]);
    assert_ne!(ledger.wait_for_another(other).board, other, "whoever is ready");
    let _sentence = agents.told(other, &["duty", "pause", "pump"]);
    agents.wait(other, "to rest", |status| status["duties"][0]["holder"].is_null());
    assert!(agents.told(other, &["duty"]).contains("paused"));
    let _sentence = agents.told(other, &["duty", "resume", "pump"]);
    ledger.wait_for_another("");
    ledger.check();
}

#[test]
fn a_board_that_leads_and_holds_a_duty_hands_both_on_when_it_is_asked_to_stop() {
    let (mut agents, ledger) = group();
    ledger.wait_for_another("");
    let leader = agents.status("a").expect("it runs")["leader"].as_str().unwrap().to_owned();
    let _sentence = agents.told(&leader, &["duty", "transfer", "pump", &leader]);
    agents.wait(&leader, "to hold it", |status| status["duties"][0]["held"] == true);
    agents.stop(&leader);
    let next = ledger.wait_for_another(&leader);
    agents.wait(&next.board, "to see another lead", |status| !leads(&leader)(status));
    ledger.check();
}

#[test]
fn a_duty_is_removed_when_nobody_does_it_any_more_so_another_of_its_name_can_follow() {
    let (agents, ledger) = group();
    for _ in 0..2 {
        ledger.wait_for_another("");
        let _sentence = agents.told("a", &["duty", "remove", "pump"]);
        let removed_ms = boot_ms();
        assert!(ledger.change(|runs| runs.iter().all(|run| run.to_ms <= removed_ms)));
        let _sentence = agents.told("b", &["duty", "add", "pump"]);
    }
    ledger.wait_for_another("");
    ledger.check();
}

#[test]
fn what_cannot_be_done_about_a_duty_is_said() {
    let mut agents = Agents::new(&program::debug());
    agents.form(&["a"]);
    assert!(agents.told("a", &["duty"]).contains("duty add NAME"));
    let _sentence = agents.told("a", &["duty", "add", "pump"]);
    assert!(agents.refused("a", &["duty", "add", "pump"]).contains("a duty pump already"));
    assert!(agents.refused("a", &["duty", "add", "two words"]).contains("without blanks"));
    let unknown = agents.refused("a", &["duty", "add", "x", "--candidates", "z"]);
    assert!(unknown.contains("no board z"), "{unknown}");
    for action in ["pause", "resume", "remove", "transfer"] {
        assert!(agents.refused("a", &["duty", action, "lamp"]).contains("no duty lamp"));
    }
    for duty in ["lamp", "pump"] {
        let agent = UnixStream::connect(socket(&agents)).unwrap();
        let _first = (duty == "pump").then(|| begin(&socket(&agents), duty));
        let opening = Opening::Hold { duty: duty.to_owned(), pid: 1, beats: false };
        say(&mut &agent, &opening).unwrap();
        let mut line = String::new();
        BufReader::new(&agent).read_line(&mut line).unwrap();
        assert!(line.contains("Refused"), "{line}");
    }
}

/// What HTTP answers on a board that is alone: the first line and the body.
fn http(agents: &Agents, method: &str, path: &str) -> (String, String) {
    let answer = agents.http("a", &format!("{method} {path} HTTP/1.1"), "");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    (head.lines().next().unwrap_or_default().to_owned(), body.to_owned())
}

#[test]
fn duties_are_seen_and_changed_over_http() {
    let mut agents = Agents::new(&program::debug());
    agents.form(&["a"]);
    let _sentence = agents.told("a", &["duty", "add", "pump", "--candidates", "a"]);
    let duty = || -> Value {
        let (_, body) = http(&agents, "GET", "/duties/pump");
        serde_json::from_str(&body).expect("it is JSON")
    };
    assert_eq!(
        (duty()["paused"].clone(), duty()["candidates"][0].clone()),
        (false.into(), "a".into())
    );
    let (_, all) = http(&agents, "GET", "/duties");
    assert!(all.starts_with('[') && all.contains("\"pump\""), "{all}");
    for (what, paused) in [("pause", true), ("resume", false)] {
        let (first, body) = http(&agents, "POST", &format!("/duties/pump/{what}"));
        assert!(first.contains("200"), "{first}: {body}");
        assert_eq!(duty()["paused"], paused);
    }
    assert!(http(&agents, "POST", "/duties/pump/transfer").0.contains("200"));
    for (method, path, code, words) in [
        ("GET", "/duties/lamp", "404", "no duty lamp"),
        ("POST", "/duties/lamp/pause", "404", "no duty lamp"),
        ("POST", "/duties/pump/transfer?board=z", "400", "no board z"),
        ("POST", "/duties/pump/drop", "400", "none of pause, resume"),
        ("DELETE", "/duties/pump", "405", ""),
    ] {
        let (first, body) = http(&agents, method, path);
        assert!(first.contains(code) && body.contains(words), "{path}: {first}: {body}");
    }
}

fn socket(agents: &Agents) -> PathBuf {
    agents.directory("a").join("control.sock")
}

/// A keeper that waits.
fn begin(socket: &Path, duty: &str) -> UnixStream {
    let agent = UnixStream::connect(socket).expect("the agent listens");
    say(&mut &agent, &Opening::Hold { duty: duty.to_owned(), pid: 1, beats: false })
        .expect("it reads");
    let mut line = String::new();
    BufReader::new(&agent).read_line(&mut line).expect("it answers");
    assert!(line.contains("Waits") || line.contains("Take"), "{line}");
    agent
}
