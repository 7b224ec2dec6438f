//! What is done under a duty's token counts as long as the duty has it, whichever way it
//! comes in; and what a holder leaves to the next is what that finds.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    process::{Child, Stdio},
    thread,
    time::Duration,
};

use understudy_tests::{agents::Agents, program};

/// Looks at something that comes about soon, one every 20 ms.
const TRIES: u32 = 1_500;

/// Says what was left for it, and under which fence it runs.
const COMMAND: &str = r#"#!/bin/sh
echo "$UNDERSTUDY_FENCE $(cat "$UNDERSTUDY_CHECKPOINT_FILE")" >> "$1"
sleep 1000
"#;

/// A board that holds a duty.
struct Stage {
    agents: Agents,
    hold: Child,
}

impl Drop for Stage {
    fn drop(&mut self) {
        // The guard above the keeper ends all.
        let _ = self.hold.kill();
        let _ = self.hold.wait();
    }
}

impl Stage {
    fn new() -> Self {
        let mut agents = Agents::new(&program::debug());
        agents.form(&["a"]);
        let _sentence = agents.told("a", &["duty", "add", "pump"]);
        let _sentence = agents.told("a", &["duty", "add", "mill"]);
        let _sentence = agents.told("a", &["execute", "CREATE TABLE t(a)"]);
        let script = agents.directory("a").join("command");
        fs::write(&script, COMMAND).expect("it can be written");
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("it is ours");
        let mut hold = agents.command("a");
        hold.args(["hold", "pump", "--"]).arg(&script).arg(agents.directory("a").join("told"));
        let hold = hold.stdout(Stdio::null()).spawn().expect("it starts");
        Self { agents, hold }
    }

    /// What the commands said, in order: under which token, and what was left.
    fn runs(&self, count: usize) -> Vec<(u64, String)> {
        let path = self.agents.directory("a").join("told");
        let run = |line: &str| {
            let (fence, left) = line.split_once(' ').expect("two words");
            let token = fence.strip_prefix("pump:").expect("it is the pump's");
            (token.parse().expect("a token"), left.to_owned())
        };
        for _ in 0..TRIES {
            let text = fs::read_to_string(&path).unwrap_or_default();
            let runs: Vec<_> = text.lines().map(run).collect();
            if runs.len() >= count {
                return runs;
            }
            thread::sleep(Duration::from_millis(20));
        }
        panic!("it did not run {count} times");
    }

    /// The duty is granted once more.
    fn grant_anew(&self) {
        let _sentence = self.agents.told("a", &["duty", "pause", "pump"]);
        self.agents.wait("a", "to rest", |status| status["duties"][0]["holder"].is_null());
        let _sentence = self.agents.told("a", &["duty", "resume", "pump"]);
    }

    fn leave(&self, token: u64, what: &[u8]) -> Result<(), String> {
        let mut command = self.agents.command("a");
        command.args(["checkpoint", "pump", "--token", &token.to_string()]);
        let command = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut command = command.expect("it starts");
        // One that refuses before it has read all ends the pipe.
        let _ = command.stdin.take().expect("it is piped").write_all(what);
        let output = command.wait_with_output().expect("it ends");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() { Ok(()) } else { Err(said) }
    }
}

#[test]
fn what_is_done_under_a_grant_that_is_over_is_refused_whichever_way_it_comes_in() {
    let stage = Stage::new();
    let (old, _) = stage.runs(1)[0];
    let under = |token: u64| format!("pump:{token}");
    let execute = |fence: &str| {
        let sql = format!("INSERT INTO t VALUES ('{fence}')");
        stage.agents.ask("a", &["execute", "--fence", fence, &sql])
    };
    assert!(execute(&under(old)).status.success());
    let write = |token: u64| {
        stage.agents.ask("a", &["write", "flow", "1.5", "--token", &token.to_string()])
    };
    assert!(write(old).status.success());
    stage.grant_anew();
    let (new, _) = stage.runs(2)[1];
    assert!(new > old);
    for (stale, words) in [
        (under(old), "is stale"),
        (format!("mill:{new}"), "mill has token 0"),
        (format!("fan:{new}"), "no duty fan"),
    ] {
        let refused = execute(&stale);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned()
            + &String::from_utf8_lossy(&refused.stdout);
        assert!(!refused.status.success() && said.contains(words), "{stale}: {said}");
    }
    assert!(execute(&under(new)).status.success());
    assert!(!write(old).status.success() && write(new).status.success());
    let post = |path: &str, body: &str| {
        stage.agents.http("a", &format!("POST {path} HTTP/1.1\r\nContent-Type: text/plain"), body)
    };
    let stored = |fence: String| post(&format!("/readings?fence={fence}"), "flow 2.5\n");
    assert!(stored(under(old)).contains("no duty has token"), "{}", stored(under(old)));
    assert!(stored(format!("mill:{new}")).contains("is that of pump"));
    assert!(stored(under(new)).contains("\"stored\":1"));
    let insert = "INSERT INTO t VALUES ('http')";
    assert!(post(&format!("/db/execute?fence={}", under(old)), insert).contains("is stale"));
    assert!(post("/db/execute?fence=pump", insert).contains("NAME:TOKEN"));
    let reads = post(&format!("/db/query?fence={}", under(new)), "SELECT 1");
    assert!(reads.contains("a fence goes with"), "{reads}");
    let rows = stage.agents.told("a", &["query", "SELECT group_concat(a) AS all_of_them FROM t"]);
    assert!(rows.contains(&format!("{},{}", under(old), under(new))), "{rows}");
    let tokens = "SELECT group_concat(token) AS tokens FROM reading";
    let tokens = stage.agents.told("a", &["query", tokens]);
    assert!(tokens.contains(&format!("{old},{new},{new}")), "{tokens}");
}

#[test]
fn what_a_holder_leaves_is_what_the_next_one_finds() {
    let stage = Stage::new();
    let (first, left) = stage.runs(1)[0].clone();
    assert_eq!(left, "", "nothing was left yet");
    assert_eq!(stage.leave(first, b"position 7"), Ok(()));
    assert_eq!(stage.leave(first, b"position 8"), Ok(()), "the last word counts");
    stage.grant_anew();
    let (second, left) = stage.runs(2)[1].clone();
    assert_eq!(left, "position 8");
    assert!(stage.leave(first, b"too late").unwrap_err().contains("is stale"));
    let large = vec![b'x'; (64 << 10) + 1];
    assert!(stage.leave(second, &large).unwrap_err().contains("at most 65536 bytes"));
    assert_eq!(stage.agents.told("a", &["checkpoint", "pump", "--print"]), "position 8");
    assert!(stage.agents.refused("a", &["checkpoint", "pump"]).contains("UNDERSTUDY_TOKEN"));
    let http = |head: &str, body| stage.agents.http("a", &format!("{head} HTTP/1.1"), body);
    let path = format!("/duties/pump/checkpoint?token={second}");
    assert!(http(&format!("PUT {path}"), "by http").starts_with("HTTP/1.1 200"));
    assert!(http("GET /duties/pump/checkpoint", "").ends_with("\r\n\r\nby http"));
    assert!(http("GET /duties/mill/checkpoint", "").starts_with("HTTP/1.1 404"));
    let late = http(&format!("PUT /duties/pump/checkpoint?token={first}"), "x");
    assert!(late.starts_with("HTTP/1.1 409") && late.contains("is stale"), "{late}");
    stage.grant_anew();
    assert_eq!(stage.runs(3)[2].1, "by http");
}
