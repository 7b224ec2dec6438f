//! Which versions of the group's formats its boards know. A release that needs more than the
//! one before knows another version, and does nothing of it until a row of the group says so.
//! That row comes when all members have said for a while that they know it: so boards are
//! updated one by one, and each can be put back to the older release until then.
//!
//! A board says of itself what it is, and the leader what it was told, since followers do not
//! speak to each other. A release from before that says nothing, and knows the first version.
//!
//! Invariants: what was said of one start of a board counts for no later one, and not for long;
//! a leader that is new counts from the beginning; no version follows on any but all members'
//! words, those of boards that are away included.
//!
//! Left out: what a version brings, which is where it is done, and writing the row.

use alloc::{collections::BTreeMap, format, string::String, vec::Vec};

use serde::{Deserialize, Serialize};

use crate::{
    error::Rejection,
    event::{Millis, NodeId},
    limits,
    node::Node,
    wire::Frame,
};

/// The newest version of the group's that this release knows; it knows all before, too.
///
/// 2: no board is let in that does not say what it knows, and a board's journal says which
/// release it needs.
pub const VERSION: u32 = 2;

/// What boards know that say nothing, and groups begin with.
pub const VERSION_FIRST: u32 = 1;

/// Major, minor and patch of a release.
pub type Release = [u16; 3];

/// The oldest release that knows a version.
#[must_use]
pub const fn release_of(version: u32) -> Release {
    match version {
        0..=VERSION_FIRST => [0, 1, 0],
        _ => [0, 2, 0],
    }
}

/// Why a board is not let in that does not know what the group goes by.
#[must_use]
pub fn too_old(group: u32) -> String {
    let [major, minor, patch] = release_of(group);
    format!(
        "this board's understudy is too old for it: install {major}.{minor}.{patch} or newer here"
    )
}

/// This program.
pub const OWN: Build = Build {
    version: VERSION,
    release: [
        number(env!("CARGO_PKG_VERSION_MAJOR")),
        number(env!("CARGO_PKG_VERSION_MINOR")),
        number(env!("CARGO_PKG_VERSION_PATCH")),
    ],
};

const fn number(text: &str) -> u16 {
    match u16::from_str_radix(text, 10) {
        Ok(number) => number,
        Err(_) => panic!("a release is three numbers"),
    }
}

/// What program a board runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Build {
    /// The newest version of the group's that it knows.
    pub version: u32,
    /// Which release it is.
    pub release: Release,
}

/// What program a board runs in one of its starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Runs {
    /// Which board.
    pub id: NodeId,
    /// Counts its starts.
    pub boot: u64,
    /// What.
    pub build: Build,
}

/// What a node knows of the group's version and its members'.
#[derive(Default)]
pub(crate) struct Versions {
    /// What the group goes by, and after how many milliseconds it goes on; 0 for not by itself.
    group: Option<u32>,
    after_ms: u64,
    /// What was said of boards, each with the tick at which it was.
    told: BTreeMap<NodeId, (Runs, u64)>,
    /// Since when all members know more, as this leader knows.
    since: Option<Millis>,
}

impl Versions {
    /// The group goes by this, unless it was said before that it goes by more.
    pub(crate) fn rise(&mut self, version: u32) {
        self.group = self.group.max(Some(version));
    }
}

impl Node {
    /// What the group goes by, as its rows say, and for how long all members have to know more
    /// before it goes on to that, milliseconds; 0 for not by itself.
    pub fn set_version(&mut self, version: u32, after_ms: u64) {
        self.versions.rise(version);
        self.versions.after_ms = after_ms;
    }

    /// The version that the group goes by.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.versions.group.unwrap_or(VERSION_FIRST)
    }

    /// The version that it is time for, if there is one and this board leads.
    #[must_use]
    pub fn version_due(&self, now: Millis) -> Option<u32> {
        let after_ms = self.versions.after_ms;
        let since = self.versions.since.filter(|_| self.leads())?;
        let is_due = after_ms > 0 && now.since(since) >= after_ms && self.hears_all(now);
        is_due.then(|| self.version_known())
    }

    /// A board that cannot be heard may be about to come back with another release.
    fn hears_all(&self, now: Millis) -> bool {
        let mut others =
            self.membership.members.iter().filter(|member| member.id != self.config.id);
        others.all(|member| self.hears(now, member.id) == Some(true))
    }

    /// The newest version that all members know.
    #[must_use]
    pub fn version_known(&self) -> u32 {
        let builds = self.membership.members.iter().map(|member| self.build_of(member.id));
        let known = builds.map(|build| build.map_or(VERSION_FIRST, |build| build.version));
        known.min().unwrap_or(VERSION_FIRST)
    }

    /// What program a board runs, as far as it or the leader has said lately.
    #[must_use]
    pub fn build_of(&self, id: NodeId) -> Option<Build> {
        self.runs(id).map(|runs| runs.build)
    }

    fn runs(&self, id: NodeId) -> Option<Runs> {
        if id == self.config.id {
            return Some(Runs { id, boot: self.config.boot, build: OWN });
        }
        let (runs, tick) = self.versions.told.get(&id)?;
        let is_young = self.ticks - tick <= 3 * limits::PRESENCE_TICKS;
        let is_of_this_start = runs.boot >= self.memories.of(id).start.boot;
        (is_young && is_of_this_start).then_some(*runs)
    }

    /// Says what this board runs, and a leader what the others do.
    pub(crate) fn say_builds(&mut self, now: Millis, to: NodeId) {
        let own = self.config.id;
        let others = self.membership.members.iter().map(|member| member.id);
        let others = others.filter(|id| *id != own && self.leads());
        let boards = core::iter::once(own).chain(others);
        let runs = boards.filter_map(|id| self.runs(id)).take(limits::MEMBERS_MAX).collect();
        self.say(now, to, &Frame::Runs { runs });
    }

    /// A board's word counts on itself, and the leader's on others.
    pub(crate) fn on_runs(&mut self, from: NodeId, runs: Vec<Runs>) -> Result<(), Rejection> {
        if runs.len() > limits::MEMBERS_MAX {
            return Err(Rejection::Malformed);
        }
        let leads = !self.leads() && self.leader() == Some(from);
        let tick = self.ticks;
        for runs in runs {
            if runs.id == from || leads && self.membership.member(runs.id).is_some() {
                self.versions.told.insert(runs.id, (runs, tick));
            }
        }
        let members = &self.membership;
        self.versions.told.retain(|id, _| members.member(*id).is_some());
        Ok(())
    }

    /// Notes since when all members know more than the group goes by.
    pub(crate) fn tick_versions(&mut self, now: Millis) {
        let knows_more = self.leads() && self.version_known() > self.version();
        self.versions.since = self.versions.since.or(Some(now)).filter(|_| knows_more);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rig::Rig;

    fn set(rig: &mut Rig, version: u32, after_ms: u64) {
        rig.nodes.values_mut().for_each(|node| node.set_version(version, after_ms));
    }

    fn due(rig: &Rig, id: NodeId) -> Option<u32> {
        rig.nodes[&id].version_due(rig.now)
    }

    #[test]
    fn the_leader_goes_on_once_all_have_known_more_for_long_enough() {
        let (mut rig, leader) = Rig::led(&[1, 2, 3]);
        set(&mut rig, VERSION_FIRST, 60_000);
        rig.run(50_000);
        assert_eq!(due(&rig, leader), None);
        rig.run(15_000);
        assert_eq!(due(&rig, leader), Some(VERSION));
        let follower = leader % 3 + 1;
        assert_eq!((due(&rig, follower), rig.nodes[&follower].version_known()), (None, VERSION));
        set(&mut rig, VERSION_FIRST, 0);
        assert_eq!(due(&rig, leader), None, "not by itself");
        set(&mut rig, VERSION, 60_000);
        rig.run(100);
        assert_eq!(due(&rig, leader), None, "it is there");
        // The row was damaged, or is one of before.
        set(&mut rig, VERSION_FIRST, 60_000);
        assert_eq!(rig.nodes[&leader].version(), VERSION, "it never falls");
    }

    #[test]
    fn a_board_that_says_nothing_any_more_knows_the_first() {
        let (mut rig, leader) = Rig::led(&[1, 2, 3]);
        set(&mut rig, VERSION_FIRST, 10_000);
        rig.run(21_000);
        assert_eq!(due(&rig, leader), Some(VERSION));
        let away = leader % 3 + 1;
        rig.cut.push(away);
        rig.run(rig.nodes[&leader].config.timing.unreachable_ms + 1_000);
        let node = &rig.nodes[&leader];
        assert_eq!((due(&rig, leader), node.version_known()), (None, VERSION), "it may come back");
        let ms = 3 * limits::PRESENCE_TICKS * rig.nodes[&leader].config.timing.tick_ms + 1_000;
        rig.run(ms);
        assert_eq!(due(&rig, leader), None);
        // Others have it from the leader, who has said so until now.
        rig.run(ms);
        let other = (1..=3).find(|id| *id != leader && *id != away).unwrap();
        assert_eq!(rig.nodes[&other].build_of(away), None);
    }

    #[test]
    fn what_was_said_in_an_earlier_start_counts_no_more() {
        let (mut rig, leader) = Rig::led(&[1, 2, 3]);
        rig.run(11_000);
        let node = rig.nodes.get_mut(&leader).unwrap();
        let peer = leader % 3 + 1;
        assert_eq!(node.build_of(peer), Some(OWN));
        let mut start = node.memories.of(peer).start;
        start.boot += 1;
        node.memories.meet(peer, start);
        assert_eq!(node.build_of(peer), None);
    }

    #[test]
    fn only_the_leaders_word_counts_on_others() {
        let (mut rig, leader) = Rig::led(&[1, 2, 3]);
        set(&mut rig, VERSION_FIRST, 10_000);
        let (one, other) = (leader % 3 + 1, (leader + 1) % 3 + 1);
        let newer = Build { version: 9, release: [9, 0, 0] };
        let runs = Vec::from([Runs { id: other, boot: 99, build: newer }]);
        for to in [leader, other] {
            rig.hear(to, one, &Frame::Runs { runs: runs.clone() });
        }
        assert_ne!(rig.nodes[&leader].build_of(other), Some(newer));
        rig.hear(one, leader, &Frame::Runs { runs });
        assert_eq!(rig.nodes[&one].build_of(other), Some(newer));
    }
}
