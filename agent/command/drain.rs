//! `understudy drain` and `understudy undrain`: a board is made free for whatever its owner
//! has to do to it, and is given its work back.

use std::time::Duration;

use super::{asked_status, sql};
use crate::{
    config::Places,
    duties,
    retention::duration_s,
    settings,
    status::{DutyStatus, Status},
    terminal,
};

/// Between two looks at what the board still has.
const LOOK: Duration = Duration::from_millis(250);
const LOOKS_A_SECOND: u64 = 4;

/// This board has seen within this that a drain has ended, seconds, unless it is behind.
const KNOWN_S: u64 = 5;

/// Longest wait, seconds.
const WAIT_S_MAX: u64 = 3_600;

/// `understudy drain`
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Which; this one when absent.
    board: Option<String>,
    /// Wait no longer than this for what it has to go elsewhere (10s, 5m). It is drained
    /// all the same, and what is left goes as soon as another board is ready.
    #[arg(long, default_value = "30s", value_name = "TIME")]
    wait: String,
}

/// Seconds of a `--wait`.
///
/// # Errors
/// Says what it takes.
pub(super) fn wait_s(wait: &str) -> Result<u64, String> {
    let seconds = duration_s(wait).filter(|seconds| (1..=WAIT_S_MAX).contains(seconds));
    seconds.ok_or_else(|| format!("--wait is a time from 1s to 1h, not {wait}"))
}

pub(super) fn drain(places: &Places, arguments: Arguments) -> Result<(), String> {
    let Arguments { board, wait } = arguments;
    let wait_s = wait_s(&wait)?;
    let board = set(places, board, true)?;
    let mut left = Vec::new();
    for _ in 0..wait_s * LOOKS_A_SECOND {
        let status = asked_status(places)?;
        left = what_is_left(&status, &board);
        if is_drained(&status, &board) && left.is_empty() {
            return terminal::line(&format!(
                "{board} is drained: it holds no duty and does not lead, until `understudy undrain \
                 {board}`."
            ));
        }
        std::thread::sleep(LOOK);
    }
    let unknown = || String::from("  this board has not heard yet that it is drained");
    let left = if left.is_empty() { unknown() } else { left.join("\n") };
    Err(format!(
        "{board} is drained, and after {wait} not yet free:\n{left}\nWhat is left goes as soon as it \
         can. `understudy undrain {board}` ends the drain."
    ))
}

pub(super) fn undrain(places: &Places, board: Option<String>) -> Result<(), String> {
    let board = set(places, board, false)?;
    // What is asked for next on this board finds it so.
    for _ in 0..KNOWN_S * LOOKS_A_SECOND {
        if !is_drained(&asked_status(places)?, &board) {
            break;
        }
        std::thread::sleep(LOOK);
    }
    terminal::line(&format!("{board} is drained no longer: it may hold duties and lead again."))
}

fn is_drained(status: &Status, board: &str) -> bool {
    status.members.iter().any(|member| member.name == board && member.drained)
}

/// Which board that is.
fn set(places: &Places, board: Option<String>, is_drained: bool) -> Result<String, String> {
    let status = asked_status(places)?;
    if status.witness {
        let words =
            "this board is the witness, which does not know who holds what: say it on another";
        return Err(String::from(words));
    }
    let board = board.unwrap_or_else(|| status.board.clone());
    let id = duties::id(&status, &board)?;
    sql::done(places, settings::drain(id, is_drained), false)?;
    Ok(board)
}

/// What a board that is drained still has, and why.
fn what_is_left(status: &Status, board: &str) -> Vec<String> {
    let held = status.duties.iter().filter(|duty| duty.holder.as_deref() == Some(board));
    let duties = held.map(|duty| {
        let why = why_it_stays(status, duty);
        format!("  {} stays on {board}: {why}", duty.name)
    });
    let leads = (status.leader.as_deref() == Some(board)).then(|| {
        String::from("  it leads: no other board that votes and is not drained has all there is")
    });
    duties.chain(leads).collect()
}

fn why_it_stays(status: &Status, duty: &DutyStatus) -> String {
    if status.leader.is_none() {
        return String::from("nobody leads, so nothing can be handed on");
    }
    let may = |name: &String| duty.candidates.is_empty() || duty.candidates.contains(name);
    let others = status.members.iter().filter(|member| {
        let is_holder = Some(&member.name) == duty.holder.as_ref();
        may(&member.name) && !member.witness && !member.drained && !is_holder
    });
    let others: Vec<&str> = others.map(|member| member.name.as_str()).collect();
    match others.is_empty() {
        true => String::from("no other board may hold it that is not drained"),
        false => format!("no other board is ready for it ({} might be)", others.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::MemberStatus;

    #[test]
    fn what_a_drained_board_still_has_is_named_with_why() {
        let member = |name: &str, drained| MemberStatus {
            name: name.into(),
            drained,
            ..MemberStatus::default()
        };
        let members = vec![member("a", true), member("b", false), member("c", true)];
        let duty = |name: &str, candidates: &[&str]| DutyStatus {
            name: name.into(),
            holder: Some("a".into()),
            candidates: candidates.iter().map(|name| (*name).into()).collect(),
            ..DutyStatus::default()
        };
        let duties = vec![duty("pump", &[]), duty("fan", &["a", "c"])];
        let mut status = Status { members, duties, leader: Some("a".into()), ..Status::default() };
        let left = what_is_left(&status, "a");
        assert!(left[0].contains("pump stays on a: no other board is ready for it (b might be)"));
        assert!(left[1].contains("fan stays on a: no other board may hold it"), "{left:?}");
        assert!(left[2].contains("it leads"), "{left:?}");
        assert!(what_is_left(&status, "b").is_empty());
        status.leader = None;
        assert!(what_is_left(&status, "a")[0].contains("nobody leads"));
    }
}
