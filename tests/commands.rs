//! Commands in boards' configurations, as processes: one of three boards runs it, whatever
//! is killed or stands still there; a board that cannot run it is no candidate and says
//! why; whoever is notified holds nothing up. The commands write stamps of boot time.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpListener,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use understudy_tests::{
    agents::{Agents, is_running},
    processes::{children, signal},
    program,
};

const BOARDS: [&str; 3] = ["a", "b", "c"];

/// Looks at something that comes about soon, one every 20 ms.
const TRIES: u32 = 3_000;

/// Writes for ever to the file it is given, does not mind to be asked to end, and leaves an
/// orphan behind that does the same in a session of its own.
const STUBBORN: &str = r#"#!/bin/sh
trap "" TERM
stamp='while :; do echo "$1 $UNDERSTUDY_TOKEN $(cut -d" " -f1 /proc/uptime)" >> "$0"; sleep 0.02; done'
(setsid sh -c "$stamp" "$1" daemon &)
exec sh -c "$stamp" "$1" main
"#;

fn wait<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let found = (0..TRIES).find_map(|_| {
        thread::sleep(Duration::from_millis(20));
        look()
    });
    found.unwrap_or_else(|| panic!("waited in vain for {what}"))
}

/// When something was done, and under which token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Stamp {
    /// Hundredths of a second of boot time.
    at: u64,
    token: u64,
}

/// Boards that have a duty.
struct Stage {
    agents: Agents,
}

impl Stage {
    /// These boards, each with what its configuration says, and the duty `pump`.
    fn new(boards: &[&str], configuration: impl Fn(&Path) -> String) -> Self {
        let mut agents = Agents::new(&program::debug());
        for board in boards {
            let directory = agents.directory(board);
            fs::create_dir_all(&directory).expect("a folder");
            write_script(&directory.join("stubborn"));
            agents.configure(board, &configuration(&directory));
        }
        agents.form(boards);
        let _sentence = agents.told(boards[0], &["duty", "add", "pump"]);
        Self { agents }
    }

    /// Three boards that can all do it.
    fn of_three() -> Self {
        Self::new(&BOARDS, |directory| {
            duty(&[&path(directory, "stubborn"), &path(directory, "stamps")])
        })
    }

    fn stamps(&self, board: &str) -> Vec<Stamp> {
        let text = fs::read_to_string(self.agents.directory(board).join("stamps"));
        let stamp = |line: &str| {
            let [_, token, at] = line.split(' ').collect::<Vec<_>>()[..] else { return None };
            Some(Stamp { at: at.replace('.', "").parse().ok()?, token: token.parse().ok()? })
        };
        text.unwrap_or_default().lines().filter_map(stamp).collect()
    }

    /// The board that runs it under a token above this one, and that token.
    fn wait_for_another(&self, token: u64) -> (&'static str, u64) {
        wait("another to do it", || {
            BOARDS.into_iter().find_map(|board| {
                let found = self.stamps(board).into_iter().find(|stamp| stamp.token > token)?;
                Some((board, found.token))
            })
        })
    }

    /// What was done under one token was over before anything was under the next.
    fn check(&self) {
        let mut all: Vec<Stamp> = BOARDS.into_iter().flat_map(|board| self.stamps(board)).collect();
        all.sort();
        assert!(all.is_sorted_by_key(|stamp| stamp.token), "two at a time: {all:?}");
    }

    fn pid(&self, board: &str, which: &str) -> u32 {
        let status = self.agents.status(board).expect("it runs");
        status[which].as_u64().and_then(|pid| u32::try_from(pid).ok()).expect("it says")
    }

    /// The guard of the board's only command, and its keeper.
    fn guard_and_keeper(&self, board: &str) -> (u32, u32) {
        let agent = self.pid(board, "agent_pid");
        let below = children(self.pid(board, "parent_pid"));
        let guard = below.into_iter().find(|pid| *pid != agent).expect("a guard");
        (guard, *children(guard).first().expect("a keeper"))
    }

    fn wait_for_log(&self, board: &str, words: &str) {
        wait(words, || self.agents.log(board).contains(words).then_some(()));
    }
}

fn write_script(path: &Path) {
    fs::write(path, STUBBORN).expect("it can be written");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("it is ours");
}

fn path(directory: &Path, name: &str) -> String {
    directory.join(name).to_str().expect("text").to_owned()
}

/// The part of a configuration that says what is done for `pump`.
fn duty(command: &[&str]) -> String {
    format!("[[duty]]\nname = \"pump\"\ncommand = {command:?}\n")
}

#[test]
fn one_of_three_boards_runs_it_and_another_when_its_agent_is_killed() {
    let mut stage = Stage::of_three();
    let (holder, token) = stage.wait_for_another(0);
    let parent = stage.pid(holder, "parent_pid");
    signal("KILL", stage.pid(holder, "agent_pid"));
    let (next, token) = stage.wait_for_another(token);
    assert_ne!(next, holder);
    assert!(!stage.agents.ended(holder));
    assert!(children(parent).is_empty() && !is_running(&parent.to_string()));
    stage.agents.run(holder);
    // Nobody is left to say anything.
    stage.agents.kill(next);
    let (last, _) = stage.wait_for_another(token);
    assert_ne!(last, next);
    stage.agents.run(next);
    stage.agents.wait(next, "to be ready again", |status| status["duties"][0]["ready"] == true);
    let (agent, (guard, keeper)) = (stage.pid(last, "agent_pid"), stage.guard_and_keeper(last));
    stage.agents.stop(last);
    for pid in [agent, guard, keeper] {
        assert!(!is_running(&pid.to_string()), "{pid} is left");
    }
    stage.check();
}

#[test]
fn a_guard_that_is_killed_leaves_nothing_behind_and_has_a_successor() {
    let stage = Stage::of_three();
    let (holder, mut token) = stage.wait_for_another(0);
    let (guard, keeper) = stage.guard_and_keeper(holder);
    signal("KILL", guard);
    wait("the keeper to end", || (!is_running(&keeper.to_string())).then_some(()));
    stage.agents.wait(holder, "to be ready again", |status| status["duties"][0]["ready"] == true);
    token = stage.wait_for_another(token).1;
    let _sentence = stage.agents.told(holder, &["duty", "transfer", "pump"]);
    stage.agents.wait(holder, "to hold it again", |status| status["duties"][0]["held"] == true);
    wait("it to run again", || stage.stamps(holder).into_iter().find(|stamp| stamp.token >= token));
    stage.check();
}

#[test]
fn agent_and_keeper_stand_still_and_the_command_is_gone_before_another_runs() {
    let stage = Stage::of_three();
    let (holder, token) = stage.wait_for_another(0);
    let (agent, (_, keeper)) = (stage.pid(holder, "agent_pid"), stage.guard_and_keeper(holder));
    signal("STOP", keeper);
    signal("STOP", agent);
    let (next, _) = stage.wait_for_another(token);
    assert_ne!(next, holder);
    signal("CONT", agent);
    assert!(!is_running(&keeper.to_string()), "the guard has ended it");
    stage.agents.wait(holder, "to be ready again", |status| {
        status["duties"][0]["held"] == false && status["duties"][0]["ready"] == true
    });
    stage.check();
}

#[test]
fn a_board_that_cannot_run_it_is_no_candidate_and_says_why() {
    let late = |directory: &Path| path(directory, "late");
    let mut stage = Stage::new(&BOARDS, |directory| match directory.file_name() {
        Some(name) if name == "a" => duty(&[&late(directory), &path(directory, "stamps")]),
        Some(name) if name == "b" => duty(&["/bin/true"]) + "user = \"no-such-user\"\n",
        _ => duty(&[&path(directory, "stubborn"), &path(directory, "stamps")]),
    });
    let (holder, _) = stage.wait_for_another(0);
    assert_eq!(holder, "c");
    for (board, words) in [("a", "no command /"), ("b", "no user no-such-user")] {
        stage.agents.wait(board, "to say why", |status| {
            let why = status["not_kept"]["pump"].as_str();
            why.is_some_and(|why| why.contains(words)) && status["duties"][0]["ready"] == false
        });
        stage.wait_for_log(board, words);
        assert!(stage.agents.told(board, &["duty"]).contains(words));
        let said = stage.agents.told(board, &["status"]);
        assert!(said.contains("no candidate for the duty pump") && said.contains(words), "{said}");
        assert!(stage.agents.told(board, &["config", "check"]).contains(words));
    }
    signal("KILL", stage.pid("c", "agent_pid"));
    assert!(!stage.agents.ended("c"));
    stage.agents.wait("b", "to see nobody", |status| status["duties"][0]["holder"].is_null());
    assert!(stage.stamps("a").is_empty());
    // What is missing may come later.
    write_script(Path::new(&late(&stage.agents.directory("a"))));
    stage.agents.wait("a", "to hold it", |status| status["duties"][0]["held"] == true);
    let (token, not_kept) = {
        let status = stage.agents.status("a").expect("it runs");
        (status["duties"][0]["token"].as_u64(), status["not_kept"].clone())
    };
    assert_eq!(not_kept, serde_json::json!({}));
    wait("it to run", || {
        stage.stamps("a").iter().any(|stamp| Some(stamp.token) == token).then_some(())
    });
    stage.check();
}

/// A board that waits with its command, and the keeper of that.
fn one_that_waits(stage: &Stage) -> (&'static str, u32) {
    let (holder, _) = stage.wait_for_another(0);
    let board = BOARDS.into_iter().find(|board| *board != holder).expect("there are three");
    wait_for_readiness(stage, board, true);
    (board, stage.guard_and_keeper(board).1)
}

fn wait_for_readiness(stage: &Stage, board: &str, is_ready: bool) {
    stage
        .agents
        .wait(board, "to be ready or not", |status| status["duties"][0]["ready"] == is_ready);
}

#[test]
fn a_keeper_that_stands_still_while_it_waits_is_not_ready() {
    let stage = Stage::of_three();
    let (board, keeper) = one_that_waits(&stage);
    signal("STOP", keeper);
    wait_for_readiness(&stage, board, false);
    let said = stage.agents.told(board, &["duty"]);
    let words = format!("not ready: its keeper, process {keeper}, has said nothing for 15 s");
    assert!(said.contains(&words), "{said}");
    signal("CONT", keeper);
    wait_for_readiness(&stage, board, true);
    stage.check();
}

#[test]
fn a_command_that_vanishes_while_its_board_waits_is_missed() {
    let stage = Stage::of_three();
    let (board, _) = one_that_waits(&stage);
    let script = stage.agents.directory(board).join("stubborn");
    fs::remove_file(&script).expect("it is there");
    wait_for_readiness(&stage, board, false);
    stage.agents.wait(board, "to say why", |status| {
        status["not_kept"]["pump"].as_str().is_some_and(|why| why.contains("there is no command"))
    });
    write_script(&script);
    wait_for_readiness(&stage, board, true);
    stage.check();
}

#[test]
fn news_that_there_is_no_time_for_when_the_agent_ends_are_named() {
    let mut stage = Stage::new(&["a"], |directory| {
        let hook = format!("echo $$ >> {}; exec sleep 1000", path(directory, "hook"));
        let hooks =
            format!("on_take = [\"/bin/sh\", \"-c\", {hook:?}]\non_lose = [\"/bin/true\"]\n");
        duty(&["/bin/sleep", "1000"]) + &hooks
    });
    let hook = stage.agents.directory("a").join("hook");
    wait("the hook", || hook.exists().then_some(()));
    let status = stage.agents.status("a").expect("it runs");
    let token = status["duties"][0]["token"].as_u64().expect("a number");
    stage.agents.stop("a");
    let words = format!("pump: nobody was told any more that it is gone (token {token})");
    stage.wait_for_log("a", &words);
    stage.wait_for_log("a", "pump: a notification was cut short");
}

#[test]
fn a_duty_that_the_group_does_not_have_is_named() {
    let mut agents = Agents::new(&program::debug());
    agents.configure("a", "[[duty]]\nname = \"lamp\"\ncommand = [\"/bin/true\"]\n");
    agents.form(&["a"]);
    let words = "there is no duty lamp in this group: `understudy duty add lamp`";
    let said = agents.told("a", &["status"]);
    assert!(said.contains(words), "{said}");
    agents.configure("b", "name = \"b\"\n[[duty]]\nname = \"x\"\ncommand = [\"x\"]\n");
    let said = agents.refused("b", &["run"]);
    assert!(said.contains("understudy.toml: line 2: [[duty]] \"x\": command = \"x\""), "{said}");
}

#[test]
fn what_a_keeper_runs_that_is_not_root_does_not_become_root() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("it is ours");
    let copy = folder.path().join("understudy");
    fs::copy(program::debug(), &copy).expect("there is room");
    let words = ["hold-exec", "--", "/bin/grep", "NoNewPrivs", "/proc/self/status"];
    let is_root = rustix::process::getuid().is_root();
    for (is_other, expected) in [(true, "1"), (false, if is_root { "0" } else { "1" })] {
        let mut command = Command::new(&copy);
        if is_root && is_other {
            command.uid(1).gid(1);
        }
        let said = command.args(words).output().expect("it runs").stdout;
        assert_eq!(String::from_utf8_lossy(&said).split_whitespace().last(), Some(expected));
    }
}

/// Takes one request, and answers it if it is to.
fn listen(answers: bool) -> (String, thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/hook", listener.local_addr().expect("it has one"));
    let heard = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("somebody comes");
        let (mut request, mut byte) = (String::new(), [0]);
        while !request.ends_with('}') && stream.read(&mut byte).expect("it speaks") > 0 {
            request.push(char::from(byte[0]));
        }
        if answers {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").expect("it listens");
        } else {
            // Until it has had enough.
            let _ = stream.read(&mut byte);
        }
        request
    });
    (url, heard)
}

#[test]
fn a_notification_that_hangs_is_killed_and_named_and_holds_nothing_up() {
    let (url, heard) = listen(false);
    let stage = Stage::new(&["a"], |directory| {
        let hook = format!("echo $$ >> {}; sleep 1000", path(directory, "hook"));
        let hooks = format!("on_take = [\"/bin/sh\", \"-c\", {hook:?}]\nwebhook = {url:?}\n");
        duty(&[&path(directory, "stubborn"), &path(directory, "stamps")]) + &hooks
    });
    let (_, token) = stage.wait_for_another(0);
    let hook: PathBuf = stage.agents.directory("a").join("hook");
    let pid = wait("the hook", || {
        let text = fs::read_to_string(&hook).ok()?;
        text.lines().next().filter(|pid| !pid.is_empty()).map(String::from)
    });
    assert!(is_running(&pid), "it hangs while the command runs");
    let _sentence = stage.agents.told("a", &["duty", "pause", "pump"]);
    stage.agents.wait("a", "to rest", |status| status["duties"][0]["holder"].is_null());
    let _sentence = stage.agents.told("a", &["duty", "resume", "pump"]);
    stage.wait_for_another(token);
    stage.wait_for_log("a", "pump: on_take: it did not end within 10 s, and was killed");
    assert!(!is_running(&pid));
    stage.wait_for_log("a", "pump: webhook: no answer within 10 s");
    assert!(heard.join().expect("it heard").contains("POST /hook"));
}

#[test]
fn whoever_is_to_know_is_told_that_a_duty_has_come_and_gone() {
    let (url, heard) = listen(true);
    let stage = Stage::new(&["a"], |directory| {
        let script = "echo $UNDERSTUDY_EVENT $UNDERSTUDY_DUTY $UNDERSTUDY_TOKEN >> $0; exit 3";
        let hook = format!("[\"/bin/sh\", \"-c\", {script:?}, {:?}]", path(directory, "told"));
        let hooks = format!("on_take = {hook}\non_lose = {hook}\nwebhook = {url:?}\n");
        duty(&["/bin/sleep", "1000"]) + &hooks
    });
    stage.agents.wait("a", "to hold it", |status| status["duties"][0]["held"] == true);
    let status = stage.agents.status("a").expect("it runs");
    let token = status["duties"][0]["token"].as_u64().expect("a number");
    let request = heard.join().expect("it heard");
    let (head, body) = request.split_once("\r\n\r\n").expect("a head and a body");
    assert!(head.starts_with("POST /hook HTTP/1.1") && head.contains("application/json"), "{head}");
    let body: serde_json::Value = serde_json::from_str(body).expect("JSON");
    assert_eq!((&body["duty"], &body["event"]), (&"pump".into(), &"take".into()));
    assert_eq!(body["token"], token);
    let _sentence = stage.agents.told("a", &["duty", "pause", "pump"]);
    let all = format!("take pump {token}\nlose pump {token}\n");
    wait(&all, || {
        let told = fs::read_to_string(stage.agents.directory("a").join("told")).ok()?;
        (told == all).then_some(())
    });
    stage.wait_for_log("a", "pump: on_lose: it ended with 3");
}

#[test]
fn a_command_has_none_of_the_rights_by_which_an_agent_runs_it_as_another_user() {
    if !rustix::process::getuid().is_root() {
        // Nobody else may give any.
        return;
    }
    let rights = "+chown,+kill,+setgid,+setuid,+dac_override";
    for user in [None, Some("games")] {
        let mut run = Command::new("setpriv");
        run.args(["--reuid", "daemon", "--regid", "daemon", "--clear-groups"]);
        run.args(["--inh-caps", rights, "--ambient-caps", rights]);
        run.arg(program::debug()).arg("hold-exec");
        run.args(user.map(|user| ["--user", user]).into_iter().flatten());
        run.args(["--", "/bin/grep", "-e", "CapEff", "-e", "CapAmb", "/proc/self/status"]);
        let output = run.output().expect("setpriv runs");
        let said = String::from_utf8_lossy(&output.stdout);
        // One that was given for something else stays.
        let expected = "CapEff:\t0000000000000002\nCapAmb:\t0000000000000002\n";
        assert_eq!(said, expected, "{user:?}: {output:?}");
    }
}

#[test]
fn nor_has_a_command_that_is_told_what_happens() {
    if !rustix::process::getuid().is_root() {
        // Nobody else may give any.
        return;
    }
    let rights = "+chown,+kill,+setgid,+setuid,+dac_override";
    let mut agents = Agents::new(&program::debug());
    let file = agents.directory("a").with_extension("told");
    let text = format!(
        "[[notify]]\non = [\"sensor silent\"]\nsensor = \"door\"\nsilent_s = 5\n\
         command = [\"sh\", \"-c\", \"grep CapAmb /proc/self/status > {}\"]\n",
        file.display()
    );
    agents.configure("a", &text);
    let with_rights = ["setpriv", "--inh-caps", rights, "--ambient-caps", rights];
    agents.go(with_rights.map(String::from).to_vec());
    agents.form(&["a"]);
    let said = || fs::read_to_string(&file).ok().filter(|said| said.ends_with('\n'));
    assert_eq!(wait("to be told", said), "CapAmb:\t0000000000000002\n");
}

#[test]
fn a_command_runs_as_its_user_and_ends_with_its_keeper() {
    if !rustix::process::getuid().is_root() {
        // Nobody else may become another user.
        return;
    }
    let script = "echo \"runs as $(id -un) $(id -G) $HOME $$\" >&2; exec sleep 1000";
    let command = duty(&["/bin/sh", "-c", script]);
    let mut stage = Stage::new(&["a"], |_| format!("{command}user = \"daemon\"\n"));
    let expected = Command::new("id").args(["-G", "daemon"]).output().expect("id runs").stdout;
    let groups = String::from_utf8(expected).expect("text").trim().to_owned();
    let words = format!("runs as daemon {groups} /usr/sbin ");
    stage.wait_for_log("a", &words);
    let log = stage.agents.log("a");
    let pid = log.split(&words).nth(1).and_then(|rest| rest.lines().next()).expect("a number");
    // Nobody but the kernel is left to end it.
    let (guard, keeper) = stage.guard_and_keeper("a");
    signal("STOP", guard);
    signal("KILL", keeper);
    wait("the command to end", || (!is_running(pid)).then_some(()));
    signal("CONT", guard);
    stage.agents.stop("a");
    // What only root may see is no command for anybody else.
    let folder = stage.agents.directory("a").join("hidden");
    fs::create_dir(&folder).expect("a folder");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).expect("it is ours");
    let hidden = path(&folder, "stubborn");
    write_script(Path::new(&hidden));
    stage.agents.configure("a", &format!("{}user = \"daemon\"\n", duty(&[&hidden])));
    stage.agents.run("a");
    stage.agents.wait("a", "to say why", |status| {
        status["not_kept"]["pump"].as_str().is_some_and(|why| why.contains(&hidden))
    });
}
