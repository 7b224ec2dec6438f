//! Hands notices out, one after the other, on a thread of its own: whatever a command or
//! an address does, the agent does not wait for it. What comes while too many wait is
//! dropped; what is dropped, here or for the rate, is counted, logged, and in `status`.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    time::Duration,
};

use tracing::warn;

use super::{Notice, options::NotifyConfig, rate::Rate};
use crate::{
    driver::{clock, hook::Hook, post},
    hold::user::pass_on_no_rights_over_users,
};

/// Notices that wait for those before them.
const WAITING_MAX: usize = 64;

/// What a thread that starts commands needs for its stack, bytes.
const STACK_BYTES: usize = 256 << 10;

/// What has become of notices, one for each that wants it.
#[derive(Debug, Default)]
struct Tally {
    told: AtomicU64,
    failed: AtomicU64,
    dropped: AtomicU64,
}

/// See the module's description.
pub struct Bell {
    wishes: Arc<[NotifyConfig]>,
    notices: Option<SyncSender<Notice>>,
    tally: Arc<Tally>,
}

impl Bell {
    /// For those who want to be told, if there are any.
    #[must_use]
    pub fn new(all: Vec<NotifyConfig>) -> Self {
        let (wishes, tally) = (Arc::<[NotifyConfig]>::from(all), Arc::new(Tally::default()));
        if wishes.is_empty() {
            return Self { wishes, notices: None, tally };
        }
        let (notices, waiting) = sync_channel(WAITING_MAX);
        let (all, of_thread) = (Arc::clone(&wishes), Arc::clone(&tally));
        let thread = std::thread::Builder::new().name(String::from("notices"));
        let started =
            thread.stack_size(STACK_BYTES).spawn(move || serve(&all, &waiting, &of_thread));
        if let Err(error) = &started {
            warn!(%error, "nobody is told of anything: the thread for that cannot be started");
        }
        Self { wishes, notices: started.ok().map(|_| notices), tally }
    }

    /// Those who want to be told.
    #[must_use]
    pub fn wishes(&self) -> &[NotifyConfig] {
        &self.wishes
    }

    /// Does anybody want to be told of anything?
    #[must_use]
    pub const fn is_wanted(&self) -> bool {
        self.notices.is_some()
    }

    /// Tells of this, soon.
    pub fn ring(&self, notice: Notice) {
        let Some(notices) = &self.notices else { return };
        let what = notice.what;
        if notices.try_send(notice).is_err() {
            self.tally.dropped.fetch_add(1, Relaxed);
            warn!(event = %what, "nobody is told of this: {WAITING_MAX} notices wait already");
        }
    }

    /// Counters for people.
    #[must_use]
    pub fn counters(&self) -> BTreeMap<String, u64> {
        let Tally { told, failed, dropped } = &*self.tally;
        let all =
            [("notices_told", told), ("notices_failed", failed), ("notices_dropped", dropped)];
        let shown = all.into_iter().filter(|_| self.is_wanted());
        shown.map(|(name, count)| (name.to_owned(), count.load(Relaxed))).collect()
    }
}

fn serve(all: &[NotifyConfig], waiting: &Receiver<Notice>, tally: &Tally) {
    if let Err(error) = pass_on_no_rights_over_users() {
        return warn!(%error, "nobody is told of anything: a command for that could become root");
    }
    let mut rate = Rate::default();
    let mut hooks: Vec<Hook> = all.iter().map(|_| Hook::default()).collect();
    while let Ok(notice) = waiting.recv() {
        let wants = |((place, notify), _): &((usize, &NotifyConfig), &mut Hook)| {
            notify.on.contains(&notice.what) && notice.to.is_none_or(|to| to == *place)
        };
        for ((place, notify), hook) in all.iter().enumerate().zip(&mut hooks).filter(wants) {
            let key = (place, notice.what);
            let Some(dropped) = rate.admit(clock::now(), key, notify.per_minute) else {
                tally.dropped.fetch_add(1, Relaxed);
                continue;
            };
            if dropped > 0 {
                let what = notice.what;
                warn!(event = %what, dropped, "more happened than is told within a minute");
            }
            match tell(notify, hook, &notice, dropped) {
                Ok(()) => tally.told.fetch_add(1, Relaxed),
                Err(reason) => {
                    warn!(event = %notice.what, reason, "nobody was told");
                    tally.failed.fetch_add(1, Relaxed)
                }
            };
        }
    }
}

fn tell(
    notify: &NotifyConfig,
    hook: &mut Hook,
    notice: &Notice,
    dropped: u64,
) -> Result<(), String> {
    let limit = Duration::from_secs(notify.timeout_s);
    let json = notice.json(dropped);
    let Some(url) = &notify.webhook else {
        return hook.run(&notify.command, notice.environment(dropped), &json, limit);
    };
    post::json(url, json, limit)
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;
    use crate::notices::{What, sample};

    fn wish(on: What, script: &str, per_minute: usize) -> NotifyConfig {
        NotifyConfig {
            on: vec![on],
            command: ["sh", "-c", script].map(String::from).to_vec(),
            webhook: None,
            sensor: None,
            silent_s: None,
            timeout_s: 60,
            per_minute,
        }
    }

    /// What of a kind has come to so many.
    fn wait(bell: &Bell, name: &str, count: u64) {
        let has_come = || bell.counters().get(name).is_some_and(|known| *known == count);
        let come = (0..3_000).any(|_| {
            std::thread::sleep(Duration::from_millis(20));
            has_come()
        });
        assert!(come, "{:?}", bell.counters());
    }

    fn lines(path: &Path) -> usize {
        fs::read_to_string(path).unwrap_or_default().lines().count()
    }

    #[test]
    fn those_are_told_who_want_it_and_no_more_often_than_they_want() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name| folder.path().join(name);
        let append = |name| format!("cat >> {}", at(name).display());
        let bell = Bell::new(vec![
            wish(What::BoardLost, &append("lost"), 2),
            wish(What::BoardBack, &append("back"), 9),
            wish(What::BoardLost, "exit 1", 9),
        ]);
        for _ in 0..5 {
            bell.ring(sample(What::BoardLost));
        }
        bell.ring(Notice { to: Some(0), ..sample(What::BoardBack) });
        bell.ring(Notice { to: Some(1), ..sample(What::BoardBack) });
        wait(&bell, "notices_told", 3);
        assert_eq!((lines(&at("lost")), lines(&at("back"))), (2, 1));
        let counters = bell.counters();
        assert_eq!((counters["notices_failed"], counters["notices_dropped"]), (5, 3));
    }

    #[test]
    fn one_that_hangs_holds_nobody_up_and_what_there_is_no_room_for_is_counted() {
        let folder = tempfile::tempdir().unwrap();
        let (begun, go) = (folder.path().join("begun"), folder.path().join("go"));
        let script = format!(
            "touch {}; until [ -e {} ]; do sleep 0.02; done",
            begun.display(),
            go.display()
        );
        let bell = Bell::new(vec![wish(What::BoardLost, &script, 600)]);
        bell.ring(sample(What::BoardLost));
        while !begun.exists() {
            std::thread::sleep(Duration::from_millis(20));
        }
        for _ in 0..WAITING_MAX + 7 {
            bell.ring(sample(What::BoardLost));
        }
        assert_eq!(bell.counters()["notices_dropped"], 7);
        fs::write(go, "").unwrap();
        wait(&bell, "notices_told", 1 + WAITING_MAX as u64);
    }

    #[test]
    fn where_nobody_wants_to_be_told_there_is_no_thread() {
        let bell = Bell::new(Vec::new());
        bell.ring(sample(What::BoardLost));
        assert!(!bell.is_wanted() && bell.counters().is_empty());
    }
}
