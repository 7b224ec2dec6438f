//! A command of somebody's, told of something: within a time, whatever it does. For a
//! thread that may wait.

use std::{
    io::{self, Write as _},
    os::unix::process::CommandExt as _,
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process_group};

use super::{clock, notify};

/// Between two looks at whether a command has ended.
const LOOK: Duration = Duration::from_millis(20);

/// How often it is looked for whether one that was killed has ended.
const LOOKS_AFTER: u32 = 50;

/// Runs a command with this in its environment and on its standard input, in a process
/// group of its own; that group is killed when its time is over.
///
/// # Errors
/// In words: it cannot be started, failed, or was killed.
pub fn run(
    words: &[String],
    environment: Vec<(&'static str, String)>,
    input: &str,
    limit: Duration,
) -> Result<(), String> {
    let Some((program, arguments)) = words.split_first() else { return Ok(()) };
    let mut command = Command::new(program);
    command.args(arguments).envs(environment).process_group(0);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::inherit());
    let mut child =
        notify::keep_from(&mut command).spawn().map_err(|error| format!("{program}: {error}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // It is less than a pipe holds; who does not read it does not want it.
        let _ = writeln!(stdin, "{input}");
    }
    match ended(&mut child, limit).map_err(|error| format!("{program}: {error}"))? {
        Some(status) if status.success() => Ok(()),
        Some(status) => Err(format!("{program}: {status}")),
        None => Err(format!("{program}: it was killed after {} s", limit.as_secs())),
    }
}

/// How it ended by itself; none where it had to be killed.
fn ended(child: &mut Child, limit: Duration) -> io::Result<Option<ExitStatus>> {
    let until = clock::now().plus(millis(limit));
    while clock::now() < until {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        std::thread::sleep(LOOK);
    }
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    if let Some(group) = group {
        // It may have ended just now.
        let _ = kill_process_group(group, Signal::KILL);
    }
    // One that may not be killed is not waited for either.
    for _ in 0..LOOKS_AFTER {
        if child.try_wait()?.is_some() {
            break;
        }
        std::thread::sleep(LOOK);
    }
    Ok(None)
}

fn millis(limit: Duration) -> u64 {
    u64::try_from(limit.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Longer than anything here takes.
    const LONG: Duration = Duration::from_secs(60);

    fn shell(script: &str, limit: Duration) -> Result<(), String> {
        let words = ["sh", "-c", script].map(String::from);
        run(&words, vec![("UNDERSTUDY_EVENT", String::from("board lost"))], "{}", limit)
    }

    #[test]
    fn a_command_has_its_environment_and_its_input_and_says_how_it_ended() {
        assert_eq!(
            shell(r#"[ "$UNDERSTUDY_EVENT" = "board lost" ] && read x && [ "$x" = "{}" ]"#, LONG),
            Ok(())
        );
        assert!(shell("exit 3", LONG).unwrap_err().contains("exit status: 3"));
        assert!(shell("exec <&-; exit 0", LONG).is_ok(), "it need not read");
        let none = run(&[String::from("/no/such/command")], Vec::new(), "", LONG);
        assert!(none.unwrap_err().contains("/no/such/command"));
    }

    #[test]
    fn a_command_that_hangs_is_killed_with_all_it_began() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pid");
        let script = format!("sleep 1000 & echo $! > {}; wait", file.display());
        // On a machine that is busy it takes its time to begin.
        let pid = (0..8).find_map(|tried| {
            let killed = shell(&script, Duration::from_secs(1 << tried)).unwrap_err();
            assert!(killed.contains("killed after"), "{killed}");
            std::fs::read_to_string(&file).ok().filter(|pid| pid.ends_with('\n'))
        });
        let stat = format!("/proc/{}/stat", pid.expect("it began").trim());
        let is_gone = || {
            let stat = std::fs::read_to_string(&stat).unwrap_or_default();
            // A corpse may wait for whoever buries it.
            stat.is_empty() || stat.contains(") Z")
        };
        let mut looks = std::iter::repeat_with(|| std::thread::sleep(LOOK)).take(3_000);
        assert!(looks.any(|()| is_gone()));
    }
}
