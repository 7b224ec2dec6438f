//! Who is told that a duty has come or gone: a command of the owner's, and whoever listens
//! at a URL. One process tells one piece of news and has a time for it; the guard starts
//! them one after the other and waits for none.
//!
//! They notify only: the duty goes its way whatever becomes of them.

use std::{
    collections::VecDeque,
    os::unix::process::CommandExt as _,
    process::{Command, ExitCode, Stdio},
    thread,
    time::Duration,
};

use axum::{
    body::Body,
    http::{Request, Uri, header},
};
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use rustix::process::{Pid, Signal, set_parent_process_death_signal};
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;

use super::{
    family, pid_of,
    task::{Task, handed, taken, through_exec},
};
use crate::{driver::clock, terminal::complain, token::host_name};

/// News that wait to be told; more are not told at all.
const WAITING_MAX: usize = 16;

/// How long the command has, and the listener.
const HOOK_MS: u64 = 10_000;

/// Between two looks at the command.
const LOOK: Duration = Duration::from_millis(20);

/// What has become of a duty on this board.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Event {
    /// It has come.
    Take,
    /// It is gone, and all that was done for it.
    Lose,
}

/// What one process tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct News {
    duty: String,
    event: Event,
    token: u64,
    hook: Vec<String>,
    user: Option<String>,
    webhook: Option<String>,
}

/// Those of one guard.
pub(super) struct Heralds<'a> {
    task: &'a Task,
    /// Under which token the duty is here, as was told last.
    told: Option<u64>,
    running: Option<Pid>,
    waiting: VecDeque<News>,
}

impl<'a> Heralds<'a> {
    pub(super) const fn new(task: &'a Task) -> Self {
        Self { task, told: None, running: None, waiting: VecDeque::new() }
    }

    /// The duty is here under this token, or is not.
    pub(super) fn follow(&mut self, token: Option<u64>) {
        if self.told != token {
            let gone = self.told.map(|token| (Event::Lose, token));
            for (event, token) in gone.into_iter().chain(token.map(|token| (Event::Take, token))) {
                self.queue(event, token);
            }
            self.told = token;
        }
        self.start_next();
    }

    fn queue(&mut self, event: Event, token: u64) {
        let Task { name, user, on_take, on_lose, webhook, .. } = self.task;
        let hook = if event == Event::Take { on_take } else { on_lose };
        if hook.is_empty() && webhook.is_none() {
            return;
        }
        if self.waiting.len() >= WAITING_MAX {
            return complain(&format!("understudy hold: {name}: too much waits to be told"));
        }
        let (duty, hook) = (name.clone(), hook.clone());
        let (user, webhook) = (user.clone(), webhook.clone());
        self.waiting.push_back(News { duty, event, token, hook, user, webhook });
    }

    fn start_next(&mut self) {
        while self.running.is_none() {
            let Some(news) = self.waiting.pop_front() else { return };
            match start(&news) {
                Ok(pid) => self.running = pid,
                Err(reason) => complain(&format!("understudy hold: {}: {reason}", news.duty)),
            }
        }
    }

    /// A child has ended.
    pub(super) fn buried(&mut self, pid: Pid) {
        self.running.take_if(|running| *running == pid);
    }

    /// All children have been killed.
    pub(super) fn killed(&mut self) {
        if self.running.take().is_some() {
            let name = &self.task.name;
            complain(&format!("understudy hold: {name}: a notification was cut short"));
        }
    }

    pub(super) fn are_idle(&self) -> bool {
        self.running.is_none() && self.waiting.is_empty()
    }
}

fn start(news: &News) -> Result<Option<Pid>, String> {
    let herald = Command::new("/proc/self/exe")
        .args(["hold-herald", "--", &news.duty])
        .stdin(handed(news)?)
        .process_group(0)
        .spawn()
        .map_err(|error| format!("nobody can be notified: {error}"))?;
    Ok(pid_of(herald.id()))
}

/// Tells what this process was handed.
///
/// # Errors
/// Says who could not be told, and why.
pub fn run() -> Result<ExitCode, String> {
    set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|error| format!("the guard cannot be watched: {error}"))?;
    family::adopt()?;
    let news: News = taken()?;
    let at = |what: &str, reason: String| format!("{}: {what}: {reason}", news.duty);
    let hook = if news.event == Event::Take { "on_take" } else { "on_lose" };
    let ran = run_hook(&news).map_err(|reason| at(hook, reason));
    if let Err(reason) = &ran {
        complain(&format!("understudy: {reason}"));
    }
    post(&news).map_err(|reason| at("webhook", reason))?;
    Ok(if ran.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn run_hook(news: &News) -> Result<(), String> {
    if news.hook.is_empty() {
        return Ok(());
    }
    let event = if news.event == Event::Take { "take" } else { "lose" };
    let hook = through_exec(news.user.as_deref(), &news.hook, false)
        .env("UNDERSTUDY_DUTY", &news.duty)
        .env("UNDERSTUDY_TOKEN", news.token.to_string())
        .env("UNDERSTUDY_EVENT", event)
        .stdin(Stdio::null())
        .process_group(0)
        .spawn()
        .map_err(|error| format!("it cannot be started: {error}"))?;
    let (hook, by) = (pid_of(hook.id()), clock::now().plus(HOOK_MS));
    let how = loop {
        match family::bury() {
            (Some((pid, how)), _) if Some(pid) == hook => break Some(how),
            (Some(_), _) => {}
            (None, _) if clock::now() >= by => break None,
            (None, _) => thread::sleep(LOOK),
        }
    };
    // What it leaves behind ends with it.
    family::kill_all();
    match how.map(|how| how.exit_status()) {
        Some(Some(0)) => Ok(()),
        Some(Some(code)) => Err(format!("it ended with {code}")),
        Some(None) => Err(String::from("it was killed")),
        None => Err(format!("it did not end within {} s, and was killed", HOOK_MS / 1_000)),
    }
}

fn post(news: &News) -> Result<(), String> {
    let Some(webhook) = &news.webhook else { return Ok(()) };
    let url = url(webhook)?;
    let body = serde_json::json!({
        "duty": news.duty,
        "event": news.event,
        "token": news.token,
        "host": host_name(),
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let done = runtime.block_on(async {
        let sent = send(&url, body.to_string());
        tokio::time::timeout(Duration::from_millis(HOOK_MS), sent).await
    });
    // A name that is still being looked up holds nobody up.
    runtime.shutdown_background();
    done.unwrap_or_else(|_| Err(format!("no answer within {} s", HOOK_MS / 1_000)))
}

async fn send(url: &Uri, body: String) -> Result<(), String> {
    let host = url.host().unwrap_or_default().trim_matches(['[', ']']);
    let port = url.port_u16().unwrap_or(80);
    let to = format!("{host} port {port}");
    let stream = TcpStream::connect((host, port)).await;
    let stream = stream.map_err(|error| format!("{to}: {error}"))?;
    let at = |error: hyper::Error| format!("{to}: {error}");
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await.map_err(at)?;
    tokio::spawn(connection);
    let authority = url.authority().map_or("", |authority| authority.as_str());
    let path = url.path_and_query().map_or("/", |path| path.as_str());
    let request = Request::post(path)
        .header(header::HOST, authority)
        .header(header::CONTENT_TYPE, "application/json")
        .body(Body::from(body))
        .map_err(|error| error.to_string())?;
    let status = sender.send_request(request).await.map_err(at)?.status();
    match status.is_success() {
        true => Ok(()),
        false => Err(format!("{to} answered {status}")),
    }
}

/// Where a POST can be sent.
///
/// # Errors
/// Says what it must be like.
pub fn url(text: &str) -> Result<Uri, String> {
    let url: Option<Uri> = text.parse().ok();
    let is_plain = |url: &Uri| {
        url.scheme_str() == Some("http")
            && url.host().is_some_and(|host| !host.is_empty())
            && url.authority().is_some_and(|authority| !authority.as_str().contains('@'))
    };
    // It may hold a secret: it is not repeated.
    url.filter(is_plain).ok_or_else(|| {
        String::from("it is http://HOST[:PORT]/PATH: plain HTTP, without a name and a password")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(on_take: &[&str], webhook: Option<&str>) -> Task {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        Task {
            name: "pump".into(),
            command: words(&["/bin/true"]),
            user: None,
            grace_ms: 0,
            failures: 1,
            on_take: words(on_take),
            on_lose: Vec::new(),
            webhook: webhook.map(String::from),
        }
    }

    #[test]
    fn news_are_told_one_after_the_other_and_not_without_bound() {
        let told = task(&[], Some("http://x/"));
        let mut heralds = Heralds { running: pid_of(1), ..Heralds::new(&told) };
        let heard = |heralds: &Heralds<'_>| -> Vec<(Event, u64)> {
            heralds.waiting.iter().map(|news| (news.event, news.token)).collect()
        };
        heralds.follow(Some(7));
        heralds.follow(Some(7));
        heralds.follow(Some(9));
        heralds.follow(None);
        let all = [(Event::Take, 7), (Event::Lose, 7), (Event::Take, 9), (Event::Lose, 9)];
        assert_eq!(heard(&heralds), all);
        assert!(!heralds.are_idle());
        for token in 10..100 {
            heralds.follow(Some(token));
        }
        assert_eq!(heralds.waiting.len(), WAITING_MAX);
        let silent = task(&["/bin/true"], None);
        let mut heralds = Heralds { running: pid_of(1), ..Heralds::new(&silent) };
        heralds.follow(Some(7));
        heralds.follow(None);
        assert_eq!(heard(&heralds), [(Event::Take, 7)], "there is no on_lose");
    }

    #[test]
    fn a_url_is_one_that_a_post_can_be_sent_to_and_is_not_repeated() {
        for text in ["http://10.0.0.7/hook?x=1", "http://[fd00::7]:8080/", "http://hub.local"] {
            assert!(url(text).is_ok(), "{text}");
        }
        for text in ["https://hub/secret", "hub/secret", "http:///secret", "http://a:secret@b/", ""]
        {
            let reason = url(text).unwrap_err();
            assert!(reason.contains("plain HTTP") && !reason.contains("secret"), "{reason}");
        }
    }
}
