//! A command or a web address of somebody's, told of something: within a time, whatever
//! it does. For a thread that may wait.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    os::unix::process::CommandExt as _,
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process_group};
use understudy_core::event::Millis;

use super::clock;

/// Between two looks at whether a command has ended.
const LOOK: Duration = Duration::from_millis(20);

/// Longest first line of an answer, bytes.
const LINE_BYTES_MAX: u64 = 1_024;

/// What is systemd's with the agent, and nothing of a command's.
const NOT_ITS: [&str; 3] = ["NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC"];

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
    for name in NOT_ITS {
        command.env_remove(name);
    }
    let mut child = command.spawn().map_err(|error| format!("{program}: {error}"))?;
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
    child.wait()?;
    Ok(None)
}

/// Sends JSON by POST to `host` at `address`, and takes the answer's first line.
///
/// # Errors
/// In words: nobody is there, it takes too long, or says no.
pub fn post(
    (host, address, path): (&str, SocketAddr, &str),
    body: &str,
    limit: Duration,
) -> Result<(), String> {
    let is_late = |kind| matches!(kind, io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut);
    let words = |error: io::Error| match is_late(error.kind()) {
        true => format!("{host}: no answer within {} s", limit.as_secs()),
        false => format!("{host}: {error}"),
    };
    let line = answer((host, address, path), body, limit).map_err(words)?;
    let code = line.strip_prefix("HTTP/1.").and_then(|rest| rest.split(' ').nth(1));
    match code.and_then(|code| code.parse::<u16>().ok()) {
        Some(200..=299) => Ok(()),
        Some(code) => Err(format!("{host}: it answers {code}")),
        None => Err(format!("{host}: it answers something else than HTTP")),
    }
}

fn answer(
    (host, address, path): (&str, SocketAddr, &str),
    body: &str,
    limit: Duration,
) -> io::Result<String> {
    let until = clock::now().plus(millis(limit));
    let mut stream = TcpStream::connect_timeout(&address, left(until)?)?;
    stream.set_write_timeout(Some(left(until)?))?;
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: understudy\r\nContent-Type: \
         application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(&[head.as_bytes(), body.as_bytes()].concat())?;
    let mut answer = BufReader::new(stream.take(LINE_BYTES_MAX));
    let mut line = Vec::new();
    // One that sends byte by byte does not get longer for it.
    while !line.ends_with(b"\n") {
        answer.get_ref().get_ref().set_read_timeout(Some(left(until)?))?;
        let piece = answer.fill_buf()?;
        let Some(byte) = piece.first().copied() else { break };
        line.push(byte);
        answer.consume(1);
    }
    Ok(String::from_utf8_lossy(&line).into_owned())
}

fn left(until: Millis) -> io::Result<Duration> {
    match until.since(clock::now()) {
        0 => Err(io::ErrorKind::TimedOut.into()),
        ms => Ok(Duration::from_millis(ms)),
    }
}

fn millis(limit: Duration) -> u64 {
    u64::try_from(limit.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

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

    fn posted(answer: &'static str) -> (Result<(), String>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = [0; 4_096];
            let mut bytes = 0;
            while !asked[..bytes].ends_with(b"{\"a\":1}") {
                bytes += stream.read(&mut asked[bytes..]).unwrap();
            }
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8_lossy(&asked[..bytes]).into_owned()
        });
        let posted = post(("b.example:7", address, "/x?y=1"), "{\"a\":1}", LONG);
        (posted, server.join().unwrap())
    }

    #[test]
    fn an_address_gets_json_and_what_it_answers_counts() {
        let (posted_to, asked) = posted("HTTP/1.1 204 No Content\r\n\r\n");
        assert_eq!(posted_to, Ok(()));
        assert!(asked.starts_with("POST /x?y=1 HTTP/1.1\r\nHost: b.example:7\r\n"), "{asked}");
        assert!(asked.contains("Content-Length: 7\r\n"), "{asked}");
        for (answer, words) in [
            ("HTTP/1.0 500 No\r\n\r\n", "it answers 500"),
            ("220 smtp.example\r\n", "something else than HTTP"),
            ("", "something else than HTTP"),
        ] {
            assert!(posted(answer).0.unwrap_err().contains(words));
        }
    }

    #[test]
    fn an_address_that_says_nothing_is_given_up() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let limit = Duration::from_millis(200);
        let error = post(("x:1", address, "/"), "{}", limit).unwrap_err();
        assert!(error.contains("no answer"), "{error}");
    }
}
