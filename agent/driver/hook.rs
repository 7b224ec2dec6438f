//! A command of somebody's, told of something or asked something: within a time, whatever
//! it does. For a thread that may wait, which wakes only when there is something to do.
//!
//! Left out: what such a command runs in another process group. Nobody finds that again.

use std::{
    io::{self, Read as _, Write as _},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::process::CommandExt as _,
    },
    process::{Child, ChildStderr, Command, ExitStatus, Stdio},
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    process::{
        Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process_group, pidfd_open, waitid,
    },
};
use understudy_core::event::Millis;

use super::{clock, notify};

/// Between two looks at whether a command has ended, where the kernel does not tell.
const LOOK: Duration = Duration::from_millis(20);

/// How often it is looked for whether one that was killed has ended.
const LOOKS_AFTER: u32 = 50;

/// Of what a command said last so much is kept, bytes.
const SAID_BYTES_MAX: usize = 200;

/// Read at a time, and so often at the most once the command has ended: a pipe holds less.
const PIECE_BYTES: usize = 4_096;
const PIECES_MAX: u32 = 32;

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
    command.args(arguments).envs(environment);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::inherit());
    let at = |error: io::Error| format!("{program}: {error}");
    let mut watched = Watched::start(&mut command, limit).map_err(at)?;
    if let Some(mut stdin) = watched.child.stdin.take() {
        // It is less than a pipe holds; who does not read it does not want it.
        let _ = writeln!(stdin, "{input}");
    }
    match watched.ended(None).map_err(at)? {
        Ended::Itself(status) if status.success() => Ok(()),
        Ended::Itself(status) => Err(format!("{program}: {status}")),
        Ended::Late | Ended::Stopped => {
            Err(format!("{program}: it was killed after {} s", limit.as_secs()))
        }
    }
}

/// What a command said that was asked something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// It ended well.
    pub is_fine: bool,
    /// How it ended, and the last line it wrote to standard error.
    pub words: String,
}

/// Asks a command something: the answer is how it ends. Whatever it leaves in its process
/// group ends with it. None when `stop` has something to read, or nobody holds its other end.
#[must_use]
pub fn ask(command: &mut Command, limit: Duration, stop: BorrowedFd<'_>) -> Option<Said> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let failed = |error: io::Error| Said { is_fine: false, words: error.to_string() };
    let mut watched = match Watched::start(command, limit) {
        Ok(watched) => watched,
        Err(error) => return Some(failed(error)),
    };
    let (is_fine, how) = match watched.ended(Some(stop)) {
        Ok(Ended::Itself(status)) => (status.success(), status.to_string()),
        Ok(Ended::Late) => (false, format!("it was killed after {} s", limit.as_secs())),
        Ok(Ended::Stopped) => return None,
        Err(error) => return Some(failed(error)),
    };
    let last = watched.last_line();
    let words = if last.is_empty() { how } else { format!("{how}: {last}") };
    Some(Said { is_fine, words })
}

/// How a command came to its end.
enum Ended {
    /// By itself.
    Itself(ExitStatus),
    /// It took too long.
    Late,
    /// It is not to go on.
    Stopped,
}

/// Why a command is no longer waited for.
enum Why {
    Exit,
    Late,
    Stop,
}

/// One that runs.
struct Watched {
    child: Child,
    until: Millis,
    stderr: Option<ChildStderr>,
    /// The end of what it wrote there.
    said: Vec<u8>,
}

impl Watched {
    /// Starts it in a process group of its own.
    fn start(command: &mut Command, limit: Duration) -> io::Result<Self> {
        let mut child = notify::keep_from(command.process_group(0)).spawn()?;
        let until = clock::now().plus(millis(limit));
        let stderr = child.stderr.take();
        Ok(Self { child, until, stderr, said: Vec::new() })
    }

    fn pid(&self) -> io::Result<Pid> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        pid.ok_or_else(|| io::Error::other("it has no process id"))
    }

    /// Waits until it ends by itself, or kills it. One that was asked something leaves
    /// nothing behind.
    fn ended(&mut self, stop: Option<BorrowedFd<'_>>) -> io::Result<Ended> {
        let (pid, why) = (self.pid()?, self.watch(stop));
        if stop.is_some() || !matches!(why, Ok(Why::Exit)) {
            // It is not buried yet, so no other group has its number; it may be empty.
            let _ = kill_process_group(pid, Signal::KILL);
        }
        let why = why?;
        if let Why::Exit = why {
            self.hear_rest()?;
            return self.child.wait().map(Ended::Itself);
        }
        // One that may not be killed is not waited for either.
        for _ in 0..LOOKS_AFTER {
            if self.child.try_wait()?.is_some() {
                break;
            }
            std::thread::sleep(LOOK);
        }
        Ok(if matches!(why, Why::Stop) { Ended::Stopped } else { Ended::Late })
    }

    fn watch(&mut self, stop: Option<BorrowedFd<'_>>) -> io::Result<Why> {
        let pid = self.pid()?;
        // Older kernels do not tell when it ends.
        let ends = pidfd_open(pid, PidfdFlags::empty()).ok();
        loop {
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
            if waitid(WaitId::Pid(pid), options)?.is_some() {
                return Ok(Why::Exit);
            }
            let left = Duration::from_millis(self.until.since(clock::now()));
            if left.is_zero() {
                return Ok(Why::Late);
            }
            let limit = if ends.is_some() { left } else { left.min(LOOK) };
            let ends = ends.as_ref().map(AsFd::as_fd);
            let stderr = self.stderr.as_ref().map(AsFd::as_fd);
            let [stops, says, _] = await_any([stop, stderr, ends], limit)?;
            if stops {
                return Ok(Why::Stop);
            }
            if says {
                self.hear();
            }
        }
    }

    /// What it has written and nobody has read yet.
    fn hear_rest(&mut self) -> io::Result<()> {
        for _ in 0..PIECES_MAX {
            let stderr = self.stderr.as_ref().map(AsFd::as_fd);
            let [says] = await_any([stderr], Duration::ZERO)?;
            if !says {
                break;
            }
            self.hear();
        }
        Ok(())
    }

    fn hear(&mut self) {
        let mut piece = [0; PIECE_BYTES];
        let read = self.stderr.as_mut().map_or(Ok(0), |stderr| stderr.read(&mut piece));
        match read {
            Ok(0) | Err(_) => self.stderr = None,
            Ok(bytes) => {
                self.said.extend_from_slice(&piece[..bytes]);
                let over = self.said.len().saturating_sub(PIECE_BYTES);
                self.said.drain(..over);
            }
        }
    }

    /// The last line that says anything.
    fn last_line(&self) -> String {
        let said = String::from_utf8_lossy(&self.said);
        let line = said.lines().rev().map(str::trim).find(|line| !line.is_empty());
        let mut line = line.unwrap_or_default().replace(char::is_control, " ");
        while line.len() > SAID_BYTES_MAX {
            line.pop();
        }
        line
    }
}

/// Which of these have something to be read, or an end: as soon as one has, or after so
/// long.
///
/// # Errors
/// When the system cannot tell.
pub fn await_any<const N: usize>(
    all: [Option<BorrowedFd<'_>>; N],
    limit: Duration,
) -> io::Result<[bool; N]> {
    let mut asked: Vec<PollFd<'_>> =
        all.iter().flatten().map(|it| PollFd::new(it, PollFlags::IN)).collect();
    let limit = Timespec::try_from(limit).map_err(io::Error::other)?;
    match poll(&mut asked, Some(&limit)) {
        Err(Errno::INTR) => return Ok([false; N]),
        other => other?,
    };
    let mut told = asked.iter().map(|it| !it.revents().is_empty());
    Ok(all.map(|it| it.is_some() && told.next() == Some(true)))
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

    fn asked(script: &str, limit: Duration, stop: &io::PipeReader) -> Option<Said> {
        ask(Command::new("sh").args(["-c", script]), limit, stop.as_fd())
    }

    #[test]
    fn what_a_command_says_last_is_why_and_is_bounded() {
        let (stop, _held) = io::pipe().unwrap();
        let said = |script| asked(script, LONG, &stop).unwrap();
        let fine = said("echo looking >&2; echo no matter");
        assert_eq!((fine.is_fine, fine.words.as_str()), (true, "exit status: 0: looking"));
        let failed = said("echo one >&2; printf 'no \\033 carrier\\n\\n' >&2; exit 7");
        assert_eq!(
            (failed.is_fine, failed.words.as_str()),
            (false, "exit status: 7: no   carrier")
        );
        let long = said("head -c 300000 /dev/zero | tr '\\0' x >&2; exit 1");
        assert!(long.words.len() < 2 * SAID_BYTES_MAX && long.words.ends_with("xx"), "{long:?}");
        // A descendant that keeps standard error is not waited for, and is gone.
        let left = said("sleep 1000 & echo $! >&2");
        let pid = left.words.rsplit(' ').next().unwrap();
        let mut looks = std::iter::repeat_with(|| std::thread::sleep(LOOK)).take(3_000);
        assert!(looks.any(|()| is_gone(pid)));
    }

    #[test]
    fn a_command_is_killed_when_it_is_late_and_when_nobody_wants_to_know() {
        let (stop, held) = io::pipe().unwrap();
        let late = asked("sleep 1000", Duration::from_secs(1), &stop).unwrap();
        assert_eq!((late.is_fine, late.words.as_str()), (false, "it was killed after 1 s"));
        drop(held);
        assert_eq!(asked("sleep 1000", LONG, &stop), None);
    }

    fn is_gone(pid: &str) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // A corpse may wait for whoever buries it.
        stat.is_empty() || stat.contains(") Z")
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
        let pid = pid.expect("it began");
        let mut looks = std::iter::repeat_with(|| std::thread::sleep(LOOK)).take(3_000);
        assert!(looks.any(|()| is_gone(pid.trim())));
    }
}
