//! The keeper: does what the agent says, and ends the command by itself when the agent
//! says nothing any more.
//!
//! Invariants: the command runs only under a grant whose lease goes on; all it began is
//! gone before that ends; "gone" is said only then. While the duty goes elsewhere in order
//! the command has its grace, as long as the lease goes on.

use std::{path::Path, process::ExitCode, time::Duration};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    signal::unix::{Signal as Listener, SignalKind, signal},
};
use understudy_core::event::Millis;

use super::{
    command::Running,
    deadline::Deadline,
    family, look_for,
    task::{Errand, Task},
    words::{AgentWord, BEAT_MS, KeeperWord, Opening},
};
use crate::{
    control::{ControlRequest, ControlResponse, LINE_BYTES_MAX},
    driver::{clock, control, watch},
    duties,
    terminal::complain,
};

/// All is killed so long before the lease is over.
const KILL_MS: u64 = 60;

/// What was left for the command is waited for no longer than this, and then asked for
/// again after so long.
const LEFT_MAX: Duration = Duration::from_millis(500);
const ASK_AGAIN_MS: u64 = 100;

/// Between two tries to reach the agent, the first and the longest.
const AGAIN: Duration = Duration::from_millis(100);
const AGAIN_MAX: Duration = Duration::from_secs(2);

/// Between two looks whether a command that cannot be run can be.
const LOOK: Duration = Duration::from_millis(BEAT_MS);

/// A command that ends sooner has failed.
const FAILED_MS: u64 = 10_000;

/// Between two starts of a command that ends by itself, the first and the longest.
const RESTART_MS: u64 = 1_000;
const RESTART_MS_MAX: u64 = 30_000;

/// Without anything to do it looks around this often.
const IDLE: Duration = Duration::from_secs(60);

/// After too many failures the board is ready again after this.
const REST_MS: u64 = 60_000;

/// Keeps the command until it is asked to end.
///
/// # Errors
/// When the system does not let it.
pub(super) async fn run(errand: &Errand, deadline: &Deadline) -> Result<ExitCode, String> {
    family::adopt()?;
    let Errand { control, parent, task } = errand;
    let on = |kind| signal(kind).map_err(|error| error.to_string());
    let (mut terminate, mut child) = (on(SignalKind::terminate())?, on(SignalKind::child())?);
    let (mut pause, mut said) = (AGAIN, String::new());
    if let Err(reason) = task.check_hooks() {
        complain(&format!("understudy hold: {}: {reason}", task.name));
    }
    loop {
        let how = match task.check() {
            Ok(()) => keep(errand, deadline, (&mut terminate, &mut child)).await,
            Err(reason) => {
                tell_once(&mut said, task, &reason);
                cannot(errand, reason, &mut terminate).await
            }
        };
        match how {
            How::Asked => return Ok(ExitCode::SUCCESS),
            How::Lost { token, quits } => {
                let word = token.map(|token| KeeperWord::Gone { token, failed: false });
                word.inspect(|word| watch::say(control, word));
                if quits {
                    return Ok(ExitCode::SUCCESS);
                }
                (pause, said) = (AGAIN, String::new());
            }
            // An agent that starts this itself is about to be there.
            How::Away(_) if parent.is_some() => {}
            How::Away(reason) | How::Refused(reason) => tell_once(&mut said, task, &reason),
        }
        tokio::select! {
            _ = terminate.recv() => return Ok(ExitCode::SUCCESS),
            () = tokio::time::sleep(pause) => pause = (2 * pause).min(AGAIN_MAX),
        }
    }
}

/// Keeps the command for as long as the agent is there.
async fn keep(
    errand: &Errand,
    deadline: &Deadline,
    (terminate, child): (&mut Listener, &mut Listener),
) -> How {
    let (duty, pid) = (errand.task.name.clone(), std::process::id());
    let agent = match reach(&errand.control, &Opening::Hold { duty, pid, beats: true }).await {
        Ok(agent) => agent,
        Err(reason) => return How::Away(reason),
    };
    let mut keeper = Keeper::new(errand, deadline, agent);
    let how = keeper.serve(terminate, child).await;
    let token = keeper.end_now().or(keeper.unsaid);
    match how {
        How::Lost { .. } => How::Lost { token, quits: keeper.quits },
        How::Asked | How::Away(_) | How::Refused(_) => how,
    }
}

/// Says that the command cannot be run, until it can or there is another reason.
async fn cannot(errand: &Errand, why: String, terminate: &mut Listener) -> How {
    let (duty, pid) = (errand.task.name.clone(), std::process::id());
    let opening = Opening::Cannot { duty, pid, why: why.clone() };
    let (mut heard, _said) = match reach(&errand.control, &opening).await {
        Ok(agent) => agent,
        Err(reason) => return How::Away(reason),
    };
    loop {
        tokio::select! {
            _ = terminate.recv() => return How::Asked,
            line = heard.next_line() => match word(line) {
                Some(AgentWord::Refused(reason)) => return How::Refused(reason),
                Some(_) => {}
                None => return LOST,
            },
            () = tokio::time::sleep(LOOK) => {
                if errand.task.check().err().as_ref() != Some(&why) {
                    return LOST;
                }
            }
        }
    }
}

fn tell_once(said: &mut String, task: &Task, reason: &str) {
    if said != reason {
        complain(&format!("understudy hold: {}: {reason}; waiting", task.name));
        reason.clone_into(said);
    }
}

type Agent = (Lines<BufReader<OwnedReadHalf>>, OwnedWriteHalf);

async fn reach(control: &Path, opening: &Opening) -> Result<Agent, String> {
    let (heard, mut said) = connect(control)?.into_split();
    say(&mut said, opening).await.map_err(|error| error.to_string())?;
    Ok((BufReader::new(heard).lines(), said))
}

/// What the last holder of this duty left, as this board has it: whoever holds the duty has
/// applied all that was written under the grants before.
async fn left(control: &Path, duty: &str) -> Result<Vec<u8>, String> {
    let (mut heard, mut said) = connect(control)?.into_split();
    let words = |error: std::io::Error| error.to_string();
    say(&mut said, &ControlRequest::Left { duty: duty.to_owned() }).await.map_err(words)?;
    let mut answer = Vec::new();
    (&mut heard).take(LINE_BYTES_MAX).read_to_end(&mut answer).await.map_err(words)?;
    match serde_json::from_slice(&answer) {
        Ok(ControlResponse::Sql(response)) => {
            Ok(duties::what_was_left(response)?.unwrap_or_default())
        }
        Ok(ControlResponse::Refused(reason)) => Err(reason),
        Ok(_) | Err(_) => Err(String::from("the agent's answer is none")),
    }
}

fn connect(control: &Path) -> Result<UnixStream, String> {
    let agent = control::connect(control)?;
    let words = |error: std::io::Error| error.to_string();
    agent.set_nonblocking(true).map_err(words)?;
    UnixStream::from_std(agent).map_err(words)
}

async fn say(agent: &mut OwnedWriteHalf, word: &impl serde::Serialize) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(word)?;
    line.push(b'\n');
    agent.write_all(&line).await
}

/// How a conversation with the agent ended.
enum How {
    /// This process is asked to end.
    Asked,
    /// The agent is gone, or makes no sense.
    Lost {
        /// Under which token something ran.
        token: Option<u64>,
        /// This process is asked to end.
        quits: bool,
    },
    /// There was none.
    Away(String),
    /// It does not want this keeper.
    Refused(String),
}

const LOST: How = How::Lost { token: None, quits: false };

/// What this board holds.
struct Lease {
    token: u64,
    until: Millis,
}

/// The command is to come to an end.
struct Ending {
    /// It is killed then.
    by: Millis,
    /// It has ended by itself too often.
    failed: bool,
}

struct Keeper<'a> {
    control: &'a Path,
    task: &'a Task,
    deadline: &'a Deadline,
    heard: Lines<BufReader<OwnedReadHalf>>,
    agent: OwnedWriteHalf,
    lease: Option<Lease>,
    running: Option<Running>,
    ending: Option<Ending>,
    /// When to start it again, or to be ready again.
    again: Option<Millis>,
    /// When to show again that it is there, while it waits.
    beat: Millis,
    restart_ms: u64,
    failures: u32,
    /// This process is asked to end.
    quits: bool,
    /// Nothing runs under this token any more, and the agent did not hear so.
    unsaid: Option<u64>,
}

impl<'a> Keeper<'a> {
    fn new(errand: &'a Errand, deadline: &'a Deadline, (heard, agent): Agent) -> Self {
        Self {
            control: &errand.control,
            task: &errand.task,
            deadline,
            heard,
            agent,
            lease: None,
            running: None,
            ending: None,
            again: None,
            beat: Millis(0),
            restart_ms: RESTART_MS,
            failures: 0,
            quits: false,
            unsaid: None,
        }
    }

    async fn serve(&mut self, terminate: &mut Listener, child: &mut Listener) -> How {
        loop {
            let now = clock::now();
            if self.is_beat_due(now) && self.has_vanished() {
                return LOST;
            }
            if let Err(error) = self.act(now).await {
                complain(&format!("understudy hold: the agent does not listen: {error}"));
                return LOST;
            }
            if self.quits && self.lease.is_none() {
                return How::Asked;
            }
            let wake = self.next(now).map_or(IDLE, |at| Duration::from_millis(at.since(now)));
            tokio::select! {
                biased;
                _ = terminate.recv() => {
                    self.quits = true;
                    self.begin_to_end(false);
                }
                line = self.heard.next_line() => match word(line) {
                    Some(AgentWord::Refused(reason)) => return How::Refused(reason),
                    Some(word) => self.hear(&word),
                    None => return LOST,
                },
                _ = child.recv() => {}
                () = tokio::time::sleep(wake) => {}
            }
        }
    }

    fn hear(&mut self, word: &AgentWord) {
        match *word {
            AgentWord::Take { token, until_ms } => {
                let until = Millis(until_ms);
                self.lease = Some(Lease { token, until });
                (self.again, self.restart_ms, self.failures) = (Some(Millis(0)), RESTART_MS, 0);
                self.deadline.set(Some((until, token)));
            }
            AgentWord::Until { token, until_ms } => {
                if let Some(lease) = self.lease.as_mut().filter(|lease| lease.token == token) {
                    lease.until = lease.until.max(Millis(until_ms));
                    let until = lease.until;
                    self.deadline.set(Some((until, token)));
                }
            }
            AgentWord::Stop { token, .. } => {
                if self.lease.as_ref().is_some_and(|lease| lease.token == token) {
                    self.begin_to_end(false);
                }
            }
            AgentWord::Waits | AgentWord::Refused(_) => {}
        }
    }

    fn is_beat_due(&self, now: Millis) -> bool {
        self.lease.is_none() && self.beat <= now
    }

    /// Can the command not be run any more? What is cheap is looked at first: nothing is
    /// started for it every few seconds.
    fn has_vanished(&self) -> bool {
        look_for(&self.task.command[0]).is_err() && self.task.check().is_err()
    }

    /// Asks the command to end, and gives it its grace.
    fn begin_to_end(&mut self, failed: bool) {
        if self.ending.is_some() || self.lease.is_none() {
            return;
        }
        if let Some(running) = &self.running {
            running.terminate();
        }
        self.ending = Some(Ending { by: clock::now().plus(self.task.grace_ms), failed });
    }

    /// Does what is due.
    async fn act(&mut self, now: Millis) -> std::io::Result<()> {
        let Some(Lease { until, token }) = self.lease else {
            let is_rested = self.again.take_if(|again| *again <= now).is_some();
            if is_rested || self.is_beat_due(now) {
                self.beat = now.plus(BEAT_MS);
                let is_ready = self.again.is_none();
                return say(&mut self.agent, &KeeperWord::Ready(is_ready)).await;
            }
            return Ok(());
        };
        if self.running.as_ref().is_some_and(Running::has_ended) {
            self.count_end(now);
        }
        let is_late = until.since(now) <= KILL_MS;
        let is_over = |ending: &Ending| ending.by <= now || self.running.is_none();
        if is_late || self.ending.as_ref().is_some_and(is_over) {
            let failed = self.ending.as_ref().is_some_and(|ending| ending.failed);
            self.end_now();
            self.again = failed.then(|| now.plus(REST_MS));
            let said = say(&mut self.agent, &KeeperWord::Gone { token, failed }).await;
            // The agent's parent may be there to hear it.
            self.unsaid = said.is_err().then_some(token);
            return said;
        }
        let may_start = self.running.is_none() && self.ending.is_none();
        if may_start && self.again.take_if(|again| *again <= now).is_some() {
            let Some(left) = self.left(until.since(now)).await else {
                self.again = Some(clock::now().plus(ASK_AGAIN_MS));
                return Ok(());
            };
            if until.since(clock::now()) <= KILL_MS {
                // The next look finds that it is over, unless it was made longer meanwhile.
                self.again = Some(Millis(0));
                return Ok(());
            }
            match Running::start(self.task, token, &left) {
                Ok(running) => self.running = Some(running),
                Err(reason) => {
                    complain(&format!("understudy hold: {reason}"));
                    self.count_end(now);
                }
            }
        }
        Ok(())
    }

    /// What the holder before left, asked of an agent that may be busy: it is asked again,
    /// and no fault of the command's.
    async fn left(&self, lease_ms: u64) -> Option<Vec<u8>> {
        let limit = LEFT_MAX.min(Duration::from_millis(lease_ms.saturating_sub(2 * KILL_MS)));
        let asked = tokio::time::timeout(limit, left(self.control, &self.task.name)).await;
        let asked = asked.unwrap_or_else(|_| Err(String::from("the agent does not say")));
        asked
            .inspect_err(|reason| {
                complain(&format!("understudy hold: what was left cannot be read: {reason}"));
            })
            .ok()
    }

    /// The command has ended by itself: it is started again, a few times.
    fn count_end(&mut self, now: Millis) {
        let ran_ms = self.running.take().map_or(0, |running| now.since(running.since));
        family::kill_all();
        if ran_ms >= FAILED_MS {
            (self.failures, self.restart_ms) = (0, RESTART_MS);
        }
        self.failures += 1;
        if self.failures >= self.task.failures {
            return self.begin_to_end(true);
        }
        self.again = Some(now.plus(self.restart_ms));
        self.restart_ms = (2 * self.restart_ms).min(RESTART_MS_MAX);
    }

    /// Ends all at once: under which grant it ran.
    fn end_now(&mut self) -> Option<u64> {
        let lease = self.lease.take()?;
        (self.running, self.ending, self.again) = (None, None, None);
        family::kill_all();
        self.deadline.set(None);
        Some(lease.token)
    }

    /// When there is something to do.
    fn next(&self, now: Millis) -> Option<Millis> {
        let kill = self.lease.as_ref().map(|lease| Millis(lease.until.0.saturating_sub(KILL_MS)));
        let again = self.again.filter(|_| self.running.is_none());
        let ending = self.ending.as_ref().map(|ending| ending.by);
        let beat = self.lease.is_none().then_some(self.beat);
        kill.into_iter().chain(again).chain(ending).chain(beat).min().map(|at| at.max(now))
    }
}

fn word(line: std::io::Result<Option<String>>) -> Option<AgentWord> {
    serde_json::from_str(&line.ok()??).ok()
}
