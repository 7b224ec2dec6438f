//! A command of somebody's, told of something or asked something: within a time, whatever
//! it does. For a thread that may wait, which wakes only when there is something to do.
//!
//! No signal ends a process that waits for a disk or a server which does not answer. As long as
//! one is left of a command that was killed, the command is not run anew: else there would be one
//! more each time.
//!
//! Left out: what such a command runs in another process group. Nobody finds that again.

use std::{
    ffi::OsStr,
    fs::File,
    io::{self, Read as _, Write as _},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::process::CommandExt as _,
    },
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    process::{
        Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process_group, pidfd_open,
        test_kill_process_group, waitid,
    },
};
use understudy_core::event::Millis;

use super::{clock, notify, processes};

/// A program that knows something has so long to say it.
pub const SAYS: Duration = Duration::from_secs(10);

/// Between two looks at whether a command has ended, where the kernel does not tell.
const LOOK: Duration = Duration::from_millis(20);

/// How often it is looked for whether one that was killed has ended.
const LOOKS_AFTER: u32 = 50;

/// Of what a command said last so much is kept, bytes.
const SAID_BYTES_MAX: usize = 200;

/// Read at a time, and so often at the most once the command has ended: a pipe holds less.
const PIECE_BYTES: usize = 4_096;
const PIECES_MAX: u32 = 32;

/// What a command said that was asked something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// It ended well.
    pub is_fine: bool,
    /// How it ended, and the last line it wrote to standard error.
    pub words: String,
}

/// A command that is run again and again, and never twice at a time.
#[derive(Default)]
pub struct Hook {
    /// It was killed, and was there still a moment later.
    left: Option<Watched>,
}

impl Hook {
    /// Runs it with this in its environment and on its standard input, in a process group of
    /// its own; that group is killed when its time is over.
    ///
    /// # Errors
    /// In words: it cannot be started, failed, was killed, or has not gone since it was.
    pub fn run(
        &mut self,
        words: &[String],
        environment: Vec<(&'static str, String)>,
        input: &str,
        limit: Duration,
    ) -> Result<(), String> {
        let Some((program, arguments)) = words.split_first() else { return Ok(()) };
        self.look_for_left().map_err(|left| format!("{program}: {left}"))?;
        let mut command = Command::new(program);
        command.args(arguments).envs(environment);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::inherit());
        let at = |error: io::Error| format!("{program}: {error}");
        let mut watched = Watched::start(&mut command, limit).map_err(at)?;
        if let Some(mut stdin) = watched.child.stdin.take() {
            // It is less than a pipe holds; who does not read it does not want it.
            let _ = writeln!(stdin, "{input}");
        }
        let ended = watched.ended(None);
        if let Ok(Ended::Itself(status)) = ended {
            let failed = || format!("{program}: {status}");
            return status.success().then_some(()).ok_or_else(failed);
        }
        let killed = self.bury(watched, limit);
        Err(ended.map_or_else(at, |_| format!("{program}: {killed}")))
    }

    /// What a program prints, a line or two; nothing where it is not there, fails, or takes
    /// too long.
    #[must_use]
    pub fn said(
        &mut self,
        program: impl AsRef<OsStr>,
        words: &[&str],
        limit: Duration,
    ) -> Option<String> {
        self.look_for_left().ok()?;
        let mut command = Command::new(program);
        command.args(words).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut watched = Watched::start(&mut command, limit).ok()?;
        if let Ok(Ended::Itself(status)) = watched.ended(None) {
            return status.success().then(|| String::from_utf8_lossy(&watched.said).into_owned());
        }
        let _how = self.bury(watched, limit);
        None
    }

    /// Asks it something: the answer is how it ends. Whatever it leaves in its process group
    /// ends with it. None when `stop` has something to read, or nobody holds its other end.
    #[must_use]
    pub fn ask(
        &mut self,
        command: &mut Command,
        limit: Duration,
        stop: BorrowedFd<'_>,
    ) -> Option<Said> {
        let failed = |words| Some(Said { is_fine: false, words });
        if let Err(left) = self.look_for_left() {
            return failed(left);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        match Watched::start(command, limit) {
            Ok(watched) => self.answer(watched, limit, stop),
            Err(error) => failed(error.to_string()),
        }
    }

    fn answer(
        &mut self,
        mut watched: Watched,
        limit: Duration,
        stop: BorrowedFd<'_>,
    ) -> Option<Said> {
        let ended = watched.ended(Some(stop));
        let last = watched.last_line();
        let killed = self.bury(watched, limit);
        let (is_fine, how) = match ended {
            Ok(Ended::Itself(status)) => (status.success(), status.to_string()),
            Ok(Ended::Late) => (false, killed),
            Ok(Ended::Stopped) => return None,
            Err(error) => return Some(Said { is_fine: false, words: error.to_string() }),
        };
        let words = if last.is_empty() { how } else { format!("{how}: {last}") };
        Some(Said { is_fine, words })
    }

    /// Says so where something is left of the last run.
    fn look_for_left(&mut self) -> Result<(), String> {
        let Some(left) = &mut self.left else { return Ok(()) };
        if left.is_gone() {
            self.left = None;
            return Ok(());
        }
        Err(format!(
            "it is not run, since its last run (process group {}) was killed and is there still",
            left.child.id()
        ))
    }

    /// Waits a moment for what was killed, and keeps what is there still. Says which it is.
    fn bury(&mut self, mut watched: Watched, limit: Duration) -> String {
        let killed = format!("it was killed after {} s", limit.as_secs());
        for _ in 0..LOOKS_AFTER {
            if watched.is_gone() {
                return killed;
            }
            std::thread::sleep(LOOK);
        }
        self.left = Some(watched);
        format!("{killed}, and is there still")
    }
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
    /// What is heard of it: standard error, or else output.
    heard: Option<File>,
    /// The end of what it wrote there.
    said: Vec<u8>,
}

impl Watched {
    /// Starts it in a process group of its own.
    fn start(command: &mut Command, limit: Duration) -> io::Result<Self> {
        Ok(Self::of(notify::keep_from(command.process_group(0)).spawn()?, limit))
    }

    fn of(mut child: Child, limit: Duration) -> Self {
        let until = clock::now().plus(millis(limit));
        let (errors, output) = (child.stderr.take(), child.stdout.take());
        let heard = errors.map(OwnedFd::from).or_else(|| output.map(OwnedFd::from));
        Self { child, until, heard: heard.map(File::from), said: Vec::new() }
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
        match why? {
            Why::Exit => {
                self.hear_rest()?;
                self.child.wait().map(Ended::Itself)
            }
            Why::Late => Ok(Ended::Late),
            Why::Stop => Ok(Ended::Stopped),
        }
    }

    /// Nothing of its group is left but corpses. One that was killed is buried last: until then
    /// no other group gets its number.
    fn is_gone(&mut self) -> bool {
        let Ok(pid) = self.pid() else { return true };
        let group = pid.as_raw_nonzero().get();
        let is_empty = test_kill_process_group(pid) == Err(Errno::SRCH)
            || !processes::all().any(|it| it.group == group && !it.is_corpse);
        is_empty && !matches!(self.child.try_wait(), Ok(None))
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
            let heard = self.heard.as_ref().map(AsFd::as_fd);
            let [stops, says, _] = await_any([stop, heard, ends], limit)?;
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
            let heard = self.heard.as_ref().map(AsFd::as_fd);
            let [says] = await_any([heard], Duration::ZERO)?;
            if !says {
                break;
            }
            self.hear();
        }
        Ok(())
    }

    fn hear(&mut self) {
        let mut piece = [0; PIECE_BYTES];
        let read = self.heard.as_mut().map_or(Ok(0), |heard| heard.read(&mut piece));
        match read {
            Ok(0) | Err(_) => self.heard = None,
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
        let environment = vec![("UNDERSTUDY_EVENT", String::from("board lost"))];
        Hook::default().run(&words, environment, "{}", limit)
    }

    #[test]
    fn a_command_has_its_environment_and_its_input_and_says_how_it_ended() {
        assert_eq!(
            shell(r#"[ "$UNDERSTUDY_EVENT" = "board lost" ] && read x && [ "$x" = "{}" ]"#, LONG),
            Ok(())
        );
        assert!(shell("exit 3", LONG).unwrap_err().contains("exit status: 3"));
        assert!(shell("exec <&-; exit 0", LONG).is_ok(), "it need not read");
        let words = [String::from("/no/such/command")];
        let none = Hook::default().run(&words, Vec::new(), "", LONG);
        assert!(none.unwrap_err().contains("/no/such/command"));
    }

    fn sh(script: &str) -> Command {
        let mut sh = Command::new("sh");
        sh.args(["-c", script]);
        sh
    }

    fn asked(script: &str, limit: Duration, stop: &io::PipeReader) -> Option<Said> {
        Hook::default().ask(&mut sh(script), limit, stop.as_fd())
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
        assert!(!late.is_fine && late.words.starts_with("it was killed after 1 s"), "{late:?}");
        drop(held);
        assert_eq!(asked("sleep 1000", LONG, &stop), None);
    }

    #[test]
    fn what_a_program_prints_is_heard_if_it_ends_well_and_in_time() {
        let said = |script, limit| Hook::default().said("sh", &["-c", script], limit);
        assert_eq!(said("echo one; echo two; echo three >&2", LONG).as_deref(), Some("one\ntwo\n"));
        assert_eq!(said("echo one; exit 1", LONG), None);
        assert_eq!(said("echo one; sleep 1000", Duration::from_millis(100)), None);
        assert_eq!(Hook::default().said("/no/such/command", &[], LONG), None);
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

    #[test]
    fn what_is_left_of_a_command_that_was_killed_keeps_it_from_being_run_until_it_is_gone() {
        let (stop, _held) = io::pipe().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("run");
        let mut again = sh(&format!("echo >> {}", file.display()));
        let mut hook = Hook::default();
        // It is in no group of its own, and so stays when that is killed.
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let (pid, input) = (child.id().to_string(), child.stdin.take());
        let watched = Watched::of(child, Duration::ZERO);
        let said = hook.answer(watched, Duration::ZERO, stop.as_fd()).unwrap();
        assert_eq!(said.words, "it was killed after 0 s, and is there still");
        let words = [String::from("true")];
        for _ in 0..2 {
            let said = hook.ask(&mut again, LONG, stop.as_fd()).unwrap();
            assert!(
                !said.is_fine && said.words.contains(&format!("(process group {pid})")),
                "{said:?}"
            );
            assert!(hook.run(&words, Vec::new(), "", LONG).unwrap_err().contains("is not run"));
        }
        assert!(!file.exists());
        drop(input);
        let mut looks = std::iter::repeat_with(|| std::thread::sleep(LOOK)).take(3_000);
        let mut ask = || hook.ask(&mut again, LONG, stop.as_fd()).unwrap().is_fine;
        assert!(looks.any(|()| ask()));
        assert_eq!(std::fs::read_to_string(&file).unwrap().lines().count(), 1);
        assert!(!std::path::Path::new("/proc").join(pid).exists(), "it is buried");
    }

    #[test]
    fn a_command_is_gone_when_all_of_its_group_are() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).process_group(0).spawn().unwrap();
        let input = child.stdin.take();
        let group = i32::try_from(child.id()).unwrap();
        let mut leader = Watched::of(child, LONG);
        let mut other = sh("read x").process_group(group).stdin(Stdio::piped()).spawn().unwrap();
        drop(input);
        leader.child.wait().unwrap();
        assert!(!leader.is_gone());
        other.kill().unwrap();
        let mut looks = std::iter::repeat_with(|| std::thread::sleep(LOOK)).take(3_000);
        assert!(looks.any(|()| leader.is_gone()), "a corpse does not count");
        other.wait().unwrap();
        assert!(leader.is_gone());
    }
}
