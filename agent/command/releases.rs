//! Which releases a group's boards run, as people are told of it: whether the group can make use
//! of a newer one, and who holds that up.

use std::fmt::Write as _;

use understudy_core::versions::release_of;

use crate::{
    settings::UPGRADE_AFTER,
    status::{MemberStatus, Status},
    version,
};

/// The version to go by from now on, or why there is none.
pub(super) fn chosen(status: &Status) -> Result<u32, String> {
    let newest = own_version(status).unwrap_or(status.group_version);
    let may_rise = status.known_version > status.group_version
        && status.members.iter().all(|member| member.reachable);
    if status.group_version >= newest || may_rise {
        return Ok(status.known_version.max(status.group_version));
    }
    Err(format!(
        "not all boards know more than version {}: {}. Update them first, or take out those that \
         are gone for good (`understudy remove`)",
        status.group_version,
        behind(status)
    ))
}

/// The newest version that the board knows which was asked.
fn own_version(status: &Status) -> Option<u32> {
    status.members.iter().find(|member| member.id == status.id)?.known_version
}

/// Boards that cannot go on, with why; empty where all can.
fn behind(status: &Status) -> String {
    let knows_more = |known: u32| known > status.group_version;
    let is_behind =
        |member: &&MemberStatus| !member.reachable || !member.known_version.is_some_and(knows_more);
    listed(status, status.members.iter().filter(is_behind))
}

fn listed<'m>(status: &Status, members: impl Iterator<Item = &'m MemberStatus>) -> String {
    members.map(|member| named(status, member)).collect::<Vec<_>>().join(", ")
}

fn is_copied(status: &Status, member: &MemberStatus) -> bool {
    status.copied.contains(&member.name)
}

fn named(status: &Status, member: &MemberStatus) -> String {
    let runs = match &member.release {
        _ if is_copied(status, member) => String::from(
            "does not count (there are two copies of its card, or an old one was put back)",
        ),
        _ if !member.reachable => String::from("is not heard"),
        Some(release) => format!("runs {release}"),
        None => String::from("has not said what it runs, as older ones do not"),
    };
    format!("{} {runs}", member.name)
}

/// What `status` says where the group does not make use of all that this board can. One that
/// takes no part hears nothing of the others.
pub(super) fn words(status: &Status) -> Option<String> {
    let own = own_version(status)?;
    let takes_no_part = status.removed || status.disk_lost || status.copied.contains(&status.board);
    if status.group_version == 0 || takes_no_part {
        return None;
    }
    if status.group_version >= own {
        return left_behind(status);
    }
    let mut out = String::from("This understudy can more than the group makes use of");
    let behind = behind(status);
    let _ = match behind.is_empty() {
        true => write!(
            out,
            "; it will once all boards have run it for a while (`understudy get {UPGRADE_AFTER}`), \
             or by `understudy upgrade`."
        ),
        false => {
            write!(out, ": {behind}. It does once all boards are there and run it.")
        }
    };
    out.push_str(" Until then boards can go back to the one before.");
    Some(out)
}

/// A board that was put back to a release that does not know what the group goes by.
fn left_behind(status: &Status) -> Option<String> {
    let knows_less = |member: &&MemberStatus| {
        let is_less = member.known_version.is_some_and(|known| known < status.group_version);
        is_less && !is_copied(status, member)
    };
    let behind = listed(status, status.members.iter().filter(knows_less));
    (!behind.is_empty()).then(|| {
        format!(
            "The group goes by version {}, which needs understudy {}: {}. Update it.",
            status.group_version,
            version::text(release_of(status.group_version)),
            behind
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(known: &[Option<u32>]) -> Status {
        let member = |(id, known_version): (u64, &Option<u32>)| MemberStatus {
            id,
            name: format!("board-{id}"),
            known_version: *known_version,
            release: known_version.map(|_| String::from("0.2.0")),
            reachable: id != 3,
            ..MemberStatus::default()
        };
        let known_version = known.iter().map(|known| known.unwrap_or(1)).min().unwrap_or(1);
        let members = (1..).zip(known).map(member).collect();
        Status { id: 1, group_version: 1, known_version, members, ..Status::default() }
    }

    #[test]
    fn who_holds_it_up_is_named_with_why() {
        let status = group(&[Some(2), None, None]);
        let refused = chosen(&status).unwrap_err();
        assert!(refused.contains("board-2 has not said what it runs"), "{refused}");
        assert!(refused.contains("board-3 is not heard"), "{refused}");
        assert!(words(&status).unwrap().contains("makes use of: board-2 has not said"));
        let away = group(&[Some(2), Some(2), Some(2)]);
        assert!(chosen(&away).unwrap_err().contains("board-3 is not heard"));
        let all = group(&[Some(2), Some(2)]);
        assert_eq!(chosen(&all), Ok(2));
        assert!(words(&all).unwrap().contains("or by `understudy upgrade`"));
        let there = Status { group_version: 2, ..group(&[Some(2), None]) };
        assert_eq!((chosen(&there), words(&there)), (Ok(2), None));
        let behind = Status { group_version: 2, ..group(&[Some(2), Some(1)]) };
        assert!(words(&behind).unwrap().contains("needs understudy 0.2.0: board-2 runs"));
    }

    #[test]
    fn a_board_whose_card_was_copied_is_said_to_be_that() {
        let copied = vec![String::from("board-2")];
        let status = Status { copied: copied.clone(), ..group(&[Some(2), None]) };
        let held_up = words(&status).unwrap();
        assert!(held_up.contains("board-2 does not count (there are two copies"), "{held_up}");
        assert!(!held_up.contains("has not said"), "{held_up}");
        let older = Status { copied, group_version: 2, ..group(&[Some(2), Some(1)]) };
        assert_eq!(words(&older), None, "an update is of no use");
        // Of itself the board says elsewhere what it is, and of others it knows nothing.
        for status in [
            Status { board: "board-2".into(), id: 2, ..status },
            Status { removed: true, ..group(&[Some(2), None]) },
            Status { disk_lost: true, ..group(&[Some(2), None]) },
        ] {
            let members = group(&[Some(2), Some(2), None]).members;
            assert_eq!(words(&Status { members, ..status }), None);
        }
    }
}
