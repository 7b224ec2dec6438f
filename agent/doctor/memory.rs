//! Memory: what the agent takes, and whether systemd could bound it. Nothing depends on that,
//! since the agent bounds itself.

use std::fs;

use super::{Finding, Place};
use crate::status::{BudgetKind, Status, megabytes};

const ABOUT: &str = "memory";

pub(super) fn look(place: &Place<'_>, status: Option<&Status>) -> Vec<Finding> {
    let budgets = status.map(|status| status.budgets.as_slice()).unwrap_or_default();
    let of_agent = budgets.iter().find(|it| it.what == BudgetKind::Memory).map(|it| {
        let found = format!("the agent takes {} of {} MB", it.used(), megabytes(it.bytes_max));
        match it.trouble() {
            None => Finding::ok(ABOUT, found),
            Some(_) => Finding::look(
                ABOUT,
                found,
                "start it anew; if that comes back, `understudy status --json` says what it is \
                 busy with",
            ),
        }
    });
    let cannot_bound = is_unbounded(place).then(|| {
        let found = "systemd cannot bound memory here (cgroup_disable=memory, as Raspberry Pi OS \
                     starts): MemoryMax= has no effect, and the agent needs none";
        Finding::ok(ABOUT, found)
    });
    of_agent.into_iter().chain(cannot_bound).collect()
}

fn is_unbounded(place: &Place<'_>) -> bool {
    let read = |path| fs::read_to_string(place.root.join(path)).unwrap_or_default();
    let controllers = read("sys/fs/cgroup/cgroup.controllers");
    let has_memory = controllers.split_whitespace().any(|name| name == "memory");
    !controllers.is_empty() && !has_memory && read("proc/cmdline").contains("cgroup_disable=memory")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        doctor::{Verdict, rig::Tree},
        status::BudgetStatus,
    };

    #[test]
    fn what_the_agent_takes_is_held_against_its_budget() {
        let tree = Tree::new(&[]);
        let status = |used_bytes| {
            let (what, bytes_max) = (BudgetKind::Memory, 16_000_000);
            let budgets = vec![BudgetStatus { what, used_bytes, bytes_max, over_ms: None }];
            Status { budgets, ..Status::default() }
        };
        tree.finds(|place| look(place, Some(&status(5_100_000))), Verdict::Ok, "5.1 of 16.0 MB");
        tree.finds(|place| look(place, Some(&status(17_000_000))), Verdict::Look, "17.0 of 16.0");
        assert!(tree.look(|place| look(place, None)).is_empty());
    }

    #[test]
    fn that_systemd_cannot_bound_memory_is_said() {
        let without = [
            ("sys/fs/cgroup/cgroup.controllers", "cpuset cpu io pids\n"),
            ("proc/cmdline", "coherent_pool=1M cgroup_disable=memory root=x\n"),
        ];
        let tree = Tree::new(&without);
        tree.finds(|place| look(place, None), Verdict::Ok, "MemoryMax= has no effect");
        tree.put("sys/fs/cgroup/cgroup.controllers", "cpuset cpu io memory pids\n");
        assert!(tree.look(|place| look(place, None)).is_empty());
    }
}
