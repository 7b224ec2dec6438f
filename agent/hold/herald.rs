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

use rustix::process::{Pid, Signal, set_parent_process_death_signal};
use serde::{Deserialize, Serialize};
use understudy_core::event::Millis;

use super::{
    family, pid_of,
    task::{Task, handed, taken, through_exec},
};
use crate::{
    driver::{clock, post},
    terminal::complain,
    token::host_name,
};

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

    /// Whoever has waited longest is told, where nobody is being told.
    pub(super) fn start_next(&mut self) {
        while self.running.is_none() {
            let Some(news) = self.waiting.pop_front() else { return };
            match start(&news) {
                Ok(pid) => self.running = pid,
                Err(reason) => complain(&format!("understudy hold: {}: {reason}", news.duty)),
            }
        }
    }

    /// There is no time left for those that wait.
    pub(super) fn give_up(&mut self) {
        for News { duty, event, token, .. } in self.waiting.drain(..) {
            let what = if event == Event::Take { "has come" } else { "is gone" };
            complain(&format!(
                "understudy hold: {duty}: nobody was told any more that it {what} (token {token}): \
                 what ran for news before that took too long"
            ));
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
    let by = clock::now().plus(HOOK_MS);
    let started = start_hook(&news);
    let posted = tell(&news).map_err(|reason| at("webhook", reason));
    let ran = started.and_then(|pid| pid.map_or(Ok(()), |pid| wait_for(pid, by)));
    // What it leaves behind ends with it.
    family::kill_all();
    let ran = ran.map_err(|reason| at(hook, reason));
    if let (Err(_), Err(reason)) = (&ran, &posted) {
        complain(&format!("understudy: {reason}"));
    }
    ran.and(posted).map(|()| ExitCode::SUCCESS)
}

/// Starts the owner's command, where there is one.
fn start_hook(news: &News) -> Result<Option<Pid>, String> {
    if news.hook.is_empty() {
        return Ok(None);
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
    Ok(pid_of(hook.id()))
}

/// Waits for it as long as it has.
fn wait_for(hook: Pid, by: Millis) -> Result<(), String> {
    let how = loop {
        match family::bury() {
            (Some((pid, how)), _) if pid == hook => break how.exit_status(),
            (Some(_), _) => {}
            (None, _) if clock::now() >= by => {
                return Err(format!("it did not end within {} s, and was killed", HOOK_MS / 1_000));
            }
            (None, _) => thread::sleep(LOOK),
        }
    };
    match how {
        Some(0) => Ok(()),
        Some(code) => Err(format!("it ended with {code}")),
        None => Err(String::from("it was killed")),
    }
}

fn tell(news: &News) -> Result<(), String> {
    let Some(webhook) = &news.webhook else { return Ok(()) };
    let body = serde_json::json!({
        "duty": news.duty,
        "event": news.event,
        "token": news.token,
        "host": host_name(),
    });
    post::json(webhook, body.to_string(), Duration::from_millis(HOOK_MS))
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
        heralds.give_up();
        assert!(heard(&heralds).is_empty());
    }
}
