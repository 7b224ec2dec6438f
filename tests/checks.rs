//! What a board can do as long as a check of its configuration says so: commands run by
//! real agents, and the duties that follow them.

use std::{fs, path::PathBuf, thread, time::Duration};

use serde_json::Value;
use understudy_tests::{
    agents::{Agents, is_running},
    processes::signal,
    program,
};

use crate::duties::{BOARDS, Ledger};

/// Looks at something that comes about soon, one every 20 ms.
const TRIES: u32 = 3_000;

fn wait<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let found = (0..TRIES).find_map(|_| {
        thread::sleep(Duration::from_millis(20));
        look()
    });
    found.unwrap_or_else(|| panic!("waited in vain for {what}"))
}

fn up(agents: &Agents, board: &str) -> PathBuf {
    agents.directory(board).join("up")
}

/// A check named `lte` with this command of a shell, whose `$0` is the board's file `up`.
fn check(agents: &Agents, board: &str, script: &str, more: &str) -> String {
    let path = up(agents, board);
    let path = path.to_str().expect("text");
    format!(
        "[[check]]\nname = \"lte\"\ncommand = [\"/bin/sh\", \"-c\", {script:?}, {path:?}]\n{more}\n"
    )
}

fn holder(status: &Value) -> String {
    status["duties"][0]["holder"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn a_duty_goes_from_a_board_whose_check_fails_to_one_whose_does_not_and_else_stays() {
    let script = "test -e $0 || { echo no carrier on wwan0 >&2; exit 1; }";
    let mut agents = Agents::new(&program::debug());
    // The third has neither the check nor the capability.
    let quick = "interval_s = 2\ntimeout_s = 2\nrise = 1\nfall = 2";
    for board in ["a", "b"] {
        agents.configure(board, &check(&agents, board, script, quick));
    }
    agents.form(&BOARDS);
    let _sentence = agents.told("a", &["duty", "add", "pump"]);
    let _sentence = agents.told("a", &["duty", "rules", "pump", "--needs", "lte"]);
    // One that is kept before its rules are known may be granted at once, and then moves more
    // often than ten minutes allow.
    for board in BOARDS {
        agents.wait(board, "to know", |status| status["duties"][0]["rules"]["needs"][0] == "lte");
    }
    let ledger = Ledger::default();
    ledger.keep(&agents, &BOARDS, "pump");
    for board in ["a", "b"] {
        agents.wait(board, "to know that its check fails", |status| {
            let check = &status["checks"][0];
            check["healthy"] == false
                && check["last"].as_str().is_some_and(|why| why.ends_with(": no carrier on wwan0"))
                && status["not_kept"]["pump"].as_str().is_some_and(|why| why.contains("wwan0"))
        });
    }
    let wait_for = |board: &str| {
        agents.wait(board, "to hold it", |status| status["duties"][0]["held"] == true);
    };
    fs::write(up(&agents, "b"), "").expect("a file");
    wait_for("b");
    fs::write(up(&agents, "a"), "").expect("a file");
    agents.wait("a", "to be ready", |status| status["duties"][0]["ready"] == true);
    assert_eq!(holder(&agents.status("a").expect("it runs")), "b", "who has it keeps it");
    fs::remove_file(up(&agents, "b")).expect("it was there");
    wait_for("a");
    fs::remove_file(up(&agents, "a")).expect("it was there");
    agents.wait("a", "to fall", |status| status["checks"][0]["healthy"] == false);
    let shown = agents.told("a", &["status"]);
    assert!(shown.contains("The check lte is not healthy for "), "{shown}");
    assert!(shown.contains("exit status: 1: no carrier on wwan0"), "{shown}");
    assert!(agents.told("a", &["duty"]).contains("held, though this board lacks lte"));
    // Another is ready, and only then it goes.
    fs::write(up(&agents, "b"), "").expect("a file");
    wait_for("b");
    ledger.check();
}

/// The process that a check's command has written to the file `up`.
fn written(agents: &Agents) -> String {
    wait("the check to run", || {
        let text = fs::read_to_string(up(agents, "a")).ok()?;
        text.lines().last().filter(|_| text.ends_with('\n')).map(String::from)
    })
}

fn wait_for_end(pid: &str) {
    wait("it to be killed", || (!is_running(pid)).then_some(()));
}

#[test]
fn a_check_that_hangs_is_killed_whole_and_holds_nothing_up() {
    let mut agents = Agents::new(&program::debug());
    let script = "sleep 1000 & echo $! >> $0; wait";
    agents.configure("a", &check(&agents, "a", script, "interval_s = 1\ntimeout_s = 1"));
    agents.form(&["a"]);
    let pid = written(&agents);
    wait_for_end(&pid);
    agents.wait("a", "to say so", |status| {
        status["checks"][0]["last"].as_str().is_some_and(|why| why == "it was killed after 1 s")
    });
}

#[test]
fn nothing_is_left_of_a_check_when_its_agent_is_asked_to_end() {
    let mut agents = Agents::new(&program::debug());
    let script = "trap '' TERM; sleep 1000 & echo $! >> $0; wait";
    let long = "interval_s = 3600\ntimeout_s = 3600";
    agents.configure("a", &check(&agents, "a", script, long));
    agents.form(&["a"]);
    let pid = written(&agents);
    assert!(is_running(&pid));
    agents.stop("a");
    assert!(!is_running(&pid), "{pid} is left");
    // One that nobody can ask any more leaves its group behind, but not the command.
    let script = "echo $$ >> $0; exec sleep 1000";
    agents.configure("a", &check(&agents, "a", script, long));
    fs::remove_file(up(&agents, "a")).expect("it was there");
    agents.run("a");
    let pid = written(&agents);
    let agent = agents.status("a").expect("it runs")["agent_pid"].to_string();
    signal("KILL", &agent);
    wait_for_end(&pid);
}

#[test]
fn a_check_runs_as_its_user_and_one_that_cannot_be_run_says_why() {
    let mut agents = Agents::new(&program::debug());
    let is_root = rustix::process::getuid().is_root();
    let who = if is_root { "user = \"daemon\"" } else { "" };
    let script = "echo \"$UNDERSTUDY_CHECK as $(id -un)\" >&2";
    let more = "[[check]]\nname = \"gps\"\ncommand = [\"/no/such/command\"]\n";
    let text = check(&agents, "a", script, who) + more;
    agents.configure("a", &text);
    agents.form(&["a"]);
    let expected =
        if is_root { "exit status: 0: lte as daemon" } else { "exit status: 0: lte as " };
    agents.wait("a", "to be healthy", |status| {
        let all = &status["checks"];
        all[0]["healthy"] == true
            && all[0]["last"].as_str().is_some_and(|why| why.starts_with(expected))
            && all[1]["last"].as_str().is_some_and(|why| why.contains("/no/such/command"))
            && all[1]["healthy"] == false
    });
    let said = agents.told("a", &["config", "check"]);
    assert!(said.contains("check          lte: /bin/sh"), "{said}");
    assert!(said.contains("gps: /no/such/command, every 10 s (there is no command"), "{said}");
    agents.configure("b", &format!("capabilities = [\"lte\"]\n{text}"));
    let said = agents.refused("b", &["config", "check"]);
    assert!(said.contains("line 2: [[check]] \"lte\": `capabilities` names it too"), "{said}");
}
