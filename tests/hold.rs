//! `understudy hold` as a process, with an agent: whatever becomes of the agent, of the
//! keeper and of the guard above it, and whatever the command does, nothing of that is
//! left when its time is over. The commands write stamps of boot time; what they wrote
//! last tells when they ended.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    thread,
    time::Duration,
};

use understudy_tests::{
    agents::Agents,
    processes::{children, signal},
    program,
};

/// Looks at something that comes about soon, one every 20 ms.
const TRIES: u32 = 1_500;

/// A line of the file this is given: who writes, under which token, and when.
const STAMP: &str =
    r#"stamp() { echo "$1 $UNDERSTUDY_TOKEN $(cut -d' ' -f1 /proc/uptime)" >> "$2"; }"#;

/// Writes for ever, does not mind to be asked to end, and leaves a daemon behind that
/// does the same as an orphan in a session of its own.
const STUBBORN: &str = r#"trap "" TERM
(setsid sh -c "$(cat "$0.stamp"); while :; do stamp daemon $1; sleep 0.02; done" &)
while :; do stamp main "$1"; sleep 0.02; done"#;

/// Ends when it is asked to.
const FRIENDLY: &str = r#"while :; do stamp main "$1"; sleep 0.02; done"#;

struct Stage {
    agents: Agents,
    script: PathBuf,
    stamps: PathBuf,
    hold: Option<Child>,
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Some(mut hold) = self.hold.take() {
            signal("TERM", hold.id());
            // It was waited for as long as a test lasts.
            let _ = hold.wait();
        }
    }
}

impl Stage {
    /// One board with a duty, whose command is to be this.
    fn new(script: &str) -> Self {
        let mut agents = Agents::new(&program::debug());
        agents.form(&["a"]);
        let _sentence = agents.told("a", &["duty", "add", "pump"]);
        let directory = agents.directory("a");
        let path = directory.join("command");
        fs::write(&path, format!("#!/bin/sh\n{STAMP}\n{script}\n")).expect("it can be written");
        fs::write(directory.join("command.stamp"), STAMP).expect("it can be written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it is ours");
        Self { agents, script: path, stamps: directory.join("stamps"), hold: None }
    }

    fn hold(&mut self, options: &[&str]) {
        let mut command = self.agents.command("a");
        command.args(["hold", "pump"]).args(options).arg("--").arg(&self.script).arg(&self.stamps);
        self.hold = Some(command.stdout(Stdio::null()).spawn().expect("it starts"));
    }

    /// One that runs, with what it runs.
    fn running(script: &str) -> Self {
        let mut stage = Self::new(script);
        stage.hold(&["--grace", "0.1"]);
        stage.wait_for_stamp(0);
        stage
    }

    fn guard(&self) -> u32 {
        self.hold.as_ref().expect("it was started").id()
    }

    /// The last word of each writer: under which token, and when, in hundredths.
    fn stamps(&self) -> Vec<(String, u64, u64)> {
        let text = fs::read_to_string(&self.stamps).unwrap_or_default();
        let stamp = |line: &str| {
            let words: Vec<&str> = line.split(' ').collect();
            let [who, token, at] = words[..] else { return None };
            let at = at.replace('.', "").parse().ok()?;
            Some((who.to_owned(), token.parse().ok()?, at))
        };
        text.lines().filter_map(stamp).collect()
    }

    /// The token of a stamp that is above that one.
    fn wait_for_stamp(&self, token: u64) -> u64 {
        let found = wait(|| self.stamps().iter().map(|stamp| stamp.1).find(|seen| *seen > token));
        found.unwrap_or_else(|| panic!("nothing runs above {token}: {:?}", self.stamps()))
    }

    /// Nothing runs any more, and stays so.
    fn wait_for_silence(&self) {
        let mut last = usize::MAX;
        let quiet = wait(|| {
            thread::sleep(Duration::from_millis(300));
            let count = self.stamps().len();
            (std::mem::replace(&mut last, count) == count).then_some(())
        });
        assert!(quiet.is_some(), "it goes on");
    }

    fn keeper(&self) -> u32 {
        children(self.guard()).first().copied().expect("a guard has a keeper")
    }

    fn agent(&self) -> u32 {
        let status = self.agents.status("a").expect("it runs");
        status["agent_pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()).expect("it says")
    }
}

fn wait<T>(mut look: impl FnMut() -> Option<T>) -> Option<T> {
    (0..TRIES).find_map(|_| {
        thread::sleep(Duration::from_millis(20));
        look()
    })
}

#[test]
fn a_command_runs_while_the_duty_is_held_and_all_it_began_ends_with_that() {
    let stage = Stage::running(STUBBORN);
    let both = wait(|| stage.stamps().iter().any(|stamp| stamp.0 == "daemon").then_some(()));
    assert!(both.is_some(), "the daemon writes too");
    let first = stage.wait_for_stamp(0);
    let _sentence = stage.agents.told("a", &["duty", "pause", "pump"]);
    stage.agents.wait("a", "to rest", |status| status["duties"][0]["holder"].is_null());
    stage.wait_for_silence();
    let _sentence = stage.agents.told("a", &["duty", "resume", "pump"]);
    assert!(stage.wait_for_stamp(first) > first);
}

#[test]
fn when_the_agent_stands_still_the_command_is_gone_before_its_lease_is_over() {
    let stage = Stage::running(STUBBORN);
    let agent = stage.agent();
    signal("STOP", agent);
    stage.wait_for_silence();
    signal("CONT", agent);
    stage.wait_for_stamp(stage.stamps()[0].1);
}

#[test]
fn a_keeper_that_is_killed_or_stands_still_leaves_nothing_behind_and_has_a_successor() {
    for how in ["KILL", "STOP"] {
        let stage = Stage::running(STUBBORN);
        let keeper = stage.keeper();
        signal(how, keeper);
        let next = wait(|| children(stage.guard()).first().copied().filter(|pid| *pid != keeper));
        assert!(next.is_some(), "{how}: the guard starts another");
        stage.wait_for_stamp(stage.stamps()[0].1);
        let mut stamps = stage.stamps();
        stamps.sort_by_key(|stamp| stamp.2);
        assert!(stamps.is_sorted_by_key(|stamp| stamp.1), "{how}: what came before has ended");
    }
}

#[test]
fn when_the_guard_is_killed_the_keeper_ends_all() {
    let mut stage = Stage::running(STUBBORN);
    let mut guard = stage.hold.take().expect("it runs");
    guard.kill().expect("it is ours");
    guard.wait().expect("it ends");
    stage.wait_for_silence();
}

#[test]
fn when_the_agent_is_killed_all_ends_and_goes_on_under_another_token() {
    let mut stage = Stage::running(STUBBORN);
    let first = stage.wait_for_stamp(0);
    signal("KILL", stage.agent());
    stage.wait_for_silence();
    let _is_fine = stage.agents.ended("a");
    stage.agents.run("a");
    stage.wait_for_stamp(first);
}

#[test]
fn a_command_that_is_asked_to_end_has_its_grace() {
    // It may be asked within `stamp`, whose own `$1` is another.
    let words = "file=$1; trap 'stamp bye \"$file\"; exit 0' TERM\n";
    let mut stage = Stage::new(&format!("{words}{FRIENDLY}"));
    stage.hold(&["--grace", "30"]);
    stage.wait_for_stamp(0);
    let mut hold = stage.hold.take().expect("it runs");
    signal("TERM", hold.id());
    assert_eq!(hold.wait().expect("it ends").code(), Some(0));
    assert_eq!(stage.stamps().last().map(|stamp| stamp.0.clone()), Some("bye".to_owned()));
}

#[test]
fn a_command_is_told_under_which_grant_of_what_it_runs() {
    let mut stage = Stage::new(
        r#"echo "told $UNDERSTUDY_TOKEN $(cat "$UNDERSTUDY_TOKEN_FILE")" >> "$1"
echo "$UNDERSTUDY_DUTY $UNDERSTUDY_TOKEN_FILE" > "$1.told"
sleep 1000"#,
    );
    stage.hold(&[]);
    let token = stage.wait_for_stamp(0);
    assert_eq!(stage.stamps(), [("told".to_owned(), token, token)]);
    let read = || fs::read_to_string(stage.stamps.with_extension("told")).ok();
    let told = wait(|| read().filter(|told| told.ends_with('\n'))).expect("it writes");
    let (duty, file) = told.trim().split_once(' ').expect("two words");
    assert_eq!(duty, "pump");
    let _sentence = stage.agents.told("a", &["duty", "pause", "pump"]);
    assert!(wait(|| (!Path::new(file).exists()).then_some(())).is_some(), "{file} is left");
}

#[test]
fn a_command_that_ends_too_often_leaves_the_duty_to_others() {
    let mut stage = Stage::new("stamp main \"$1\"\nexit 3");
    stage.hold(&["--failures", "2"]);
    stage.agents.wait("a", "to leave it", |status| {
        let duty = &status["duties"][0];
        duty["token"].as_u64() > Some(0) && duty["ready"] == false && duty["holder"].is_null()
    });
    assert_eq!(stage.stamps().len(), 2);
}

#[test]
fn a_command_that_cannot_be_run_is_named_before_the_duty_is_taken() {
    let mut agents = Agents::new(&program::debug());
    agents.form(&["a"]);
    let _sentence = agents.told("a", &["duty", "add", "pump"]);
    for (command, code, words) in [
        ("no-such-command", 127, "no command no-such-command"),
        ("/etc/passwd", 126, "/etc/passwd"),
    ] {
        let output = agents.command("a").args(["hold", "pump", "--", command]).output();
        let output = output.expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(said.contains(words), "{said}");
    }
    let status = agents.status("a").expect("it runs");
    assert_eq!(status["duties"][0]["token"], 0);
}
