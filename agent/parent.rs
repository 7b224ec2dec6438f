//! The process above the agent: starts it, and when it has ended says so to the other
//! boards, who then need not wait for it. It does hardly anything else, so that hardly
//! anything can end it; where something does, the agent ends with it.
//!
//! Beside the agent it starts the guards of the commands that the board's configuration
//! has kept: they see to it that those end in time, whatever becomes of the agent. That
//! all the agent ran has ended is said only when every command has: each of their keepers
//! says so here, over a socket of its own.
//!
//! Left out: starting the agent again, which is for whoever started this.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    os::{fd::OwnedFd, unix::net::UnixStream as StdUnixStream, unix::process::ExitStatusExt as _},
    path::Path,
    process::{Child, Command, ExitCode, ExitStatus},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader},
    net::UnixStream,
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};

use crate::{
    address::Mailbox,
    driver::{
        mqtt::{Broker, Brokers},
        watch,
    },
    hold::{guards::Guards, task::Task, words::KeeperWord},
    will::{Bequest, Letter},
};

/// A letter is sent again after these, since datagrams are lost.
const AGAIN: [Duration; 3] = [Duration::ZERO, Duration::from_millis(15), Duration::from_millis(60)];

/// A broker has so long to be there, for each time, and what was posted to leave.
const POST: Duration = Duration::from_secs(1);
const POSTED: Duration = Duration::from_millis(200);

/// Commands whose keepers say nothing within this may run on: that they have ended is
/// said no more. Every lease is over by then.
const COMMANDS_END: Duration = Duration::from_secs(60);

/// Without anything to do it looks around this often.
const IDLE: Duration = Duration::from_secs(60);

/// Longest line of the agent's, bytes.
const LINE_BYTES_MAX: u64 = 1 << 16;

/// What the agent has left here.
#[derive(Default)]
struct Estate {
    letters: Vec<Letter>,
    acting: BTreeSet<u64>,
    /// Of which group, and from which mailbox, letters are posted.
    post: Option<([u8; 4], Mailbox)>,
    /// Something of what the agent said made no sense.
    is_torn: bool,
}

/// Starts the agent with `arguments`, which say whose child it is, and what is to be kept
/// beside it, and stays until all that has ended.
///
/// # Errors
/// When it cannot be started.
pub fn run(
    control: &Path,
    tasks: &[Task],
    posts: (&[Broker], &str),
    arguments: Vec<OsString>,
) -> Result<ExitCode, String> {
    let words = |error: std::io::Error| format!("the agent cannot be started: {error}");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(words)?;
    let ended = runtime.block_on(async {
        let (ours, theirs) = StdUnixStream::pair().map_err(words)?;
        ours.set_nonblocking(true).map_err(words)?;
        let child = Command::new("/proc/self/exe")
            .args(arguments)
            .arg("--of-parent")
            .arg(std::process::id().to_string())
            // systemd's watchdog watches this process unless it is told of another.
            .env_remove("WATCHDOG_PID")
            .stdin(OwnedFd::from(theirs))
            .spawn()
            .map_err(words)?;
        let guards = Guards::new(control, tasks);
        let agent = UnixStream::from_std(ours).map_err(words)?;
        watch_over(child, agent, (control, posts), guards).await
    });
    runtime.shutdown_background();
    Ok(code_of(ended?))
}

fn code_of(ended: ExitStatus) -> ExitCode {
    let by_signal = ended.signal().map(|signal| 128 + signal);
    let code = ended.code().or(by_signal).and_then(|code| u8::try_from(code).ok());
    code.map_or(ExitCode::FAILURE, ExitCode::from)
}

async fn watch_over(
    mut child: Child,
    agent: UnixStream,
    (control, posts): (&Path, (&[Broker], &str)),
    mut guards: Guards<'_>,
) -> Result<ExitStatus, String> {
    let words = |error: std::io::Error| error.to_string();
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let (told, mut ended) = oneshot::channel();
    std::thread::spawn(move || told.send(child.wait()));
    let mut terminate = signal(SignalKind::terminate()).map_err(words)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(words)?;
    let mut guard_ended = signal(SignalKind::child()).map_err(words)?;
    let mut agent = Agent { stream: BufReader::new(agent), line: Vec::new() };
    let mut estate = Estate::default();
    let mut is_open = true;
    let ended = loop {
        let idle = guards.tend().unwrap_or(IDLE);
        tokio::select! {
            ended = &mut ended => break ended.map_err(|_| String::from("it cannot be waited for"))?,
            bequest = agent.next(), if is_open => is_open = estate.take(bequest),
            _ = terminate.recv() => pass_on(pid),
            _ = interrupt.recv() => pass_on(pid),
            _ = guard_ended.recv() => {}
            () = tokio::time::sleep(idle) => {}
        }
    };
    let ended = ended.map_err(words)?;
    // What it said last may still be on its way.
    while is_open {
        is_open = estate.take(agent.next().await);
    }
    let guards_end = tokio::time::timeout(COMMANDS_END, guards.end(&mut guard_ended));
    if ended.success() {
        let _ = guards_end.await;
    } else {
        let _ = tokio::join!(guards_end, estate.carry_out(control, posts));
    }
    Ok(ended)
}

fn pass_on(pid: Option<Pid>) {
    // It may have ended by itself.
    let _ = pid.map(|pid| kill_process(pid, Signal::TERM));
}

/// What the agent says, line by line.
struct Agent {
    stream: BufReader<UnixStream>,
    /// What has come of a line: whoever waits for the rest may be called away.
    line: Vec<u8>,
}

impl Agent {
    /// The next of what it says; none when it has ended, or died in the middle of it.
    ///
    /// # Errors
    /// When that makes no sense.
    async fn next(&mut self) -> Result<Option<Bequest>, ()> {
        let left = LINE_BYTES_MAX.saturating_sub(self.line.len() as u64);
        let read = (&mut self.stream).take(left).read_until(b'\n', &mut self.line).await;
        let line = std::mem::take(&mut self.line);
        match read {
            Ok(_) if line.ends_with(b"\n") => {
                serde_json::from_slice(&line).map(Some).map_err(|_| ())
            }
            Ok(_) if line.len() as u64 >= LINE_BYTES_MAX => Err(()),
            Ok(_) | Err(_) => Ok(None),
        }
    }
}

impl Estate {
    /// True while there may be more.
    fn take(&mut self, bequest: Result<Option<Bequest>, ()>) -> bool {
        match bequest {
            Ok(Some(Bequest::Letters(letters))) => self.letters = letters,
            Ok(Some(Bequest::Acting(acting))) => self.acting = acting,
            Ok(Some(Bequest::Post(tag, from))) => self.post = Some((tag, from)),
            Ok(None) => return false,
            Err(()) => {
                self.is_torn = true;
                return false;
            }
        }
        true
    }

    /// Says that the agent has ended, and then that its commands have.
    async fn carry_out(self, control: &Path, posts: (&[Broker], &str)) {
        let Self { letters, mut acting, post, is_torn } = self;
        let post = post.and_then(|(tag, from)| Brokers::open(posts, tag, from));
        let post = post.as_ref();
        if is_torn {
            // Nobody knows what runs: no more is said than is sure.
            return send(&letters, post, |letter| &letter.fell).await;
        }
        if acting.is_empty() {
            return send(&letters, post, |letter| &letter.ended).await;
        }
        let waits = tokio::time::timeout(COMMANDS_END, all_end(control, &mut acting));
        let ended = async {
            if waits.await == Ok(true) {
                send(&letters, post, |letter| &letter.ended).await;
            }
        };
        tokio::join!(ended, send(&letters, post, |letter| &letter.fell));
    }
}

/// True once the keepers of all these have said that their commands are gone.
async fn all_end(control: &Path, acting: &mut BTreeSet<u64>) -> bool {
    let Ok(mut keepers) = watch::bind(control) else { return false };
    while !acting.is_empty() {
        let Ok(keeper) = keepers.accept().await else { return false };
        if let Some(KeeperWord::Gone { token, .. }) = watch::word(keeper).await {
            acting.remove(&token);
        }
    }
    true
}

/// Sends one word of each letter, some times over; by post as soon as a broker is there.
async fn send(letters: &[Letter], post: Option<&Brokers>, word: impl Fn(&Letter) -> &Vec<u8>) {
    let any: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
    let sockets = any.map(|any| UdpSocket::bind(SocketAddr::new(any, 0)).ok());
    let by_post = async {
        let Some(brokers) = post else { return };
        for pause in AGAIN {
            // A broker that is away has had its time then.
            let _ = tokio::time::timeout(POST, brokers.connected()).await;
            tokio::time::sleep(pause).await;
            letters.iter().for_each(|letter| brokers.send(letter.mailbox, word(letter)));
        }
        tokio::time::sleep(POSTED).await;
    };
    let by_udp = async {
        for pause in AGAIN {
            tokio::time::sleep(pause).await;
            for (letter, to) in letters.iter().filter_map(|letter| Some((letter, letter.to?))) {
                let socket = &sockets[usize::from(to.is_ipv6())];
                // A letter that is lost costs time, nothing else.
                let _ = socket.as_ref().map(|socket| socket.send_to(word(letter), to));
            }
        }
    };
    tokio::join!(by_post, by_udp);
}
