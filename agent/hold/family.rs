//! All processes below this one, and their end. As their subreaper (prctl(2)) it gets
//! every orphan among them, however a command forks, leaves its group or its session: when
//! there is no child left there is none of them.

use std::{collections::BTreeMap, thread, time::Duration};

use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process, set_child_subreaper, wait};

use crate::driver::processes::{self, Process};

/// Between two looks at who is left.
const PAUSE: Duration = Duration::from_millis(2);

/// Orphans come to this process from now on.
///
/// # Errors
/// Where the system does not do that.
pub(super) fn adopt() -> Result<(), String> {
    set_child_subreaper(Some(getpid())).map_err(|error| format!("orphans cannot be kept: {error}"))
}

/// A process that has ended, and how.
pub(super) type Ended = (Pid, rustix::process::WaitStatus);

/// Buries one of the dead; none where all live. False beside it: there is no child at all.
#[must_use]
pub(super) fn bury() -> (Option<Ended>, bool) {
    match wait(WaitOptions::NOHANG) {
        Ok(ended) => (ended, true),
        Err(_) => (None, false),
    }
}

/// Kills all of them, and returns when none is left.
pub(super) fn kill_all() {
    loop {
        loop {
            match bury() {
                (Some(_), _) => {}
                (None, true) => break,
                (None, false) => return,
            }
        }
        for pid in descendants() {
            // It may have ended by itself.
            let _ = kill_process(pid, Signal::KILL);
        }
        thread::sleep(PAUSE);
    }
}

/// Everybody below this process that is no corpse.
fn descendants() -> Vec<Pid> {
    let mut children: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    for Process { pid, parent, .. } in processes::all().filter(|it| !it.is_corpse) {
        children.entry(parent).or_default().push(pid);
    }
    let mut found = Vec::new();
    let mut next = vec![getpid().as_raw_nonzero().get()];
    while let Some(parent) = next.pop() {
        let below = children.remove(&parent).unwrap_or_default();
        next.extend(&below);
        found.extend(below);
    }
    found.into_iter().filter_map(Pid::from_raw).collect()
}
