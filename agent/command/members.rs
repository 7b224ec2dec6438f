//! Who belongs to the group: the table, and the commands that change it.

use std::{fmt::Write as _, net::SocketAddr, path::Path, time::Duration};

use understudy_core::versions::VERSION;

use super::{ask, asked_status, show, something_else, sql};
use crate::{
    config::{Config, Places, RunFlags, RunOptions},
    control::{ControlRequest, ControlResponse},
    directory, links, settings,
    status::{MemberStatus, Status},
    terminal, version,
    waiting::FOUNDER,
};

/// For how long a token holds unless another time is said.
pub(super) const EXPIRES: &str = "1h";

/// What a change of the key means.
pub(super) const ROTATED: &str = "The group has a new key. Its boards use it once all of them have it, and forget the former;\n\
     `understudy status` says when they wait for one. Tokens made before let nobody in: `understudy\n\
     token` makes another.";

/// A board that forgets its group is a board without one within this.
const FORGETS: Duration = Duration::from_secs(10);

/// Makes a token of the group.
pub(super) fn token(places: &Places, expires: &str, uses: u32) -> Result<ControlResponse, String> {
    let lifetime_ms = settings::duration_ms(expires).filter(|ms| *ms > 0).ok_or_else(|| {
        format!("--expires is a number with s, m, h or d, from 10s to 30d, not {expires}")
    })?;
    ask(places, &ControlRequest::Token { lifetime_ms, uses })
}

pub(super) fn members(places: &Places, json: bool) -> Result<(), String> {
    let status = asked_status(places)?;
    if json {
        let json = serde_json::to_string_pretty(&status.members);
        return terminal::line(&json.map_err(|error| error.to_string())?);
    }
    terminal::prose(&table(&status))
}

fn table(status: &Status) -> String {
    let mut out = format!(
        "{:<20} {:<16} {:<11} {:<8} {:<8} address\n",
        "board", "votes", "heard", "behind", "release"
    );
    for member in &status.members {
        let heard = match (member.reachable, member.unknown) {
            _ if member.id == status.id => "this board",
            (true, _) => "yes",
            (false, true) => "not known",
            (false, false) => "no",
        };
        let behind = match member.matched_index {
            Some(matched) => status.last_index.saturating_sub(matched).to_string(),
            None => String::from("-"),
        };
        let address = member.address.as_deref().unwrap_or("-");
        let drained = if member.drained { " (drained)" } else { "" };
        let release = member.release.as_deref().unwrap_or("-");
        let (name, votes) = (&member.name, votes(member));
        let _ = writeln!(
            out,
            "{name:<20} {votes:<16} {heard:<11} {behind:<8} {release:<8} {address}{drained}"
        );
    }
    out
}

const fn votes(member: &MemberStatus) -> &'static str {
    match (member.leader, member.voter, member.resting) {
        (true, _, _) => "leads",
        (false, true, _) if member.witness => "witness",
        (false, true, _) => "yes",
        (false, false, true) => "demoted",
        (false, false, false) if member.witness => "witness, not now",
        (false, false, false) => "not yet",
    }
}

/// The board leaves its group, which goes on without it, and forgets it.
pub(super) fn leave(places: &Places) -> Result<(), String> {
    let status = asked_status(places)?;
    ask(places, &ControlRequest::Leave)?;
    wait_until_free(places)?;
    terminal::line(&format!(
        "{} has left the group \"{}\" and forgotten it.",
        status.board, status.group
    ))
}

/// The board forgets its group, whether its agent runs or not.
pub(super) fn reset(places: &Places, yes: bool) -> Result<(), String> {
    let status = asked_status(places).ok();
    if status.as_ref().is_some_and(|status| status.role == "waiting") {
        return Err(String::from("this board belongs to no group: there is nothing to forget"));
    }
    let options = RunOptions::resolve(places, &Config::read(places)?, RunFlags::default())?;
    let (what, others) = match &status {
        Some(status) => (format!("the group \"{}\"", status.group), status.members.len() > 1),
        None => (String::from("its group"), true),
    };
    let mut warning = format!(
        "This board forgets {what}: everything in {} that is of the group is deleted.\n",
        options.directory.display()
    );
    if others && status.as_ref().is_none_or(|status| !status.removed) {
        warning.push_str(
            "The others are not told, and count it as a board that cannot be heard: `understudy \
             leave` is the orderly way.\n",
        );
    } else if !others {
        warning.push_str("No other board has what is in it.\n");
    }
    if !yes && !terminal::confirmed(&warning)? {
        return Err(String::from("nothing was changed"));
    }
    if status.is_some() {
        ask(places, &ControlRequest::Reset)?;
        wait_until_free(places)?;
    } else {
        let _lock = directory::take(&options.directory)?;
        directory::forget(&options.directory)?;
    }
    terminal::line("This board belongs to no group now.")
}

/// The agent begins anew, and whoever asks next is to find it.
fn wait_until_free(places: &Places) -> Result<(), String> {
    const STEP: Duration = Duration::from_millis(50);
    let mut waited = Duration::ZERO;
    while waited < FORGETS {
        if asked_status(places).is_ok_and(|status| status.role == "waiting") {
            return Ok(());
        }
        std::thread::sleep(STEP);
        waited += STEP;
    }
    Err(String::from("the group is forgotten, but the agent has not come back: start it again"))
}

/// A wish that is answered with nothing but that it is done.
pub(super) fn done(places: &Places, request: &ControlRequest, said: &str) -> Result<(), String> {
    match ask(places, request)? {
        ControlResponse::Done => terminal::line(said),
        ControlResponse::Status(_)
        | ControlResponse::Token(_)
        | ControlResponse::Joined { .. }
        | ControlResponse::Sql(_)
        | ControlResponse::Scrub(_)
        | ControlResponse::Clock(_)
        | ControlResponse::Probed(_)
        | ControlResponse::Refused(_) => something_else(),
    }
}

/// `understudy init`
#[derive(Debug, clap::Args)]
pub(super) struct Init {
    /// What to call the group.
    #[arg(default_value = "group")]
    group: String,
    /// This board's name, instead of that of its start.
    #[arg(long)]
    name: Option<String>,
    /// For how long the token holds, in time that the group is up: 10s to 30d. A
    /// restart of the whole group ends it as well.
    #[arg(long, default_value = EXPIRES, value_name = "TIME")]
    expires: String,
    /// How long things take in the group, as `understudy set profile` has it later: wired
    /// where this board's only links are cables, else wifi, when absent.
    #[arg(long, value_name = "PROFILE")]
    profile: Option<String>,
}

/// The profile that a group made here has, and why where nobody named it.
fn profile(status: &Status, named: Option<String>) -> (String, Option<String>) {
    let bound = status.udp.parse::<SocketAddr>().ok();
    let interfaces = bound.map(links::interfaces).unwrap_or_default();
    named.map_or_else(
        || {
            let (profile, why) = links::profile(Path::new(links::SYSTEM), &interfaces);
            (profile.to_owned(), why)
        },
        |named| (named, None),
    )
}

/// Makes a group, and the token for the next board.
pub(super) fn init(places: &Places, arguments: Init) -> Result<(), String> {
    let Init { group, name, expires, profile: named } = arguments;
    if settings::duration_ms(&expires).is_none_or(|ms| ms == 0) {
        return token(places, &expires, 0).map(drop);
    }
    let (profile, why) = profile(&asked_status(places)?, named);
    let timing = settings::set(settings::PROFILE, &profile)?;
    ask(places, &ControlRequest::Init { group: group.clone(), name })?;
    // All boards there are know it. Where it is not written now it will be by itself.
    let _ = sql::done(places, version::raise(VERSION, FOUNDER), false);
    // What holds by default needs no entry.
    if profile != settings::WIRED {
        sql::done(places, timing, false).map_err(|reason| {
            format!(
                "the group is made, but has not the timing profile {profile}: {reason}. \
                 `understudy set profile {profile}` sets it, `understudy token` makes a token"
            )
        })?;
    }
    if let Some(why) = why {
        terminal::line(&format!(
            "Its timing profile is {profile}, since {why}: `understudy set profile` changes it."
        ))?;
    }
    let token = token(places, &expires, 0).map_err(|reason| {
        format!("the group is made, but no token: {reason}. `understudy token` makes one")
    })?;
    terminal::prose(&show::init(&group, &expires, &token))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_board_is_a_line() {
        let member = |name: &str, voter| MemberStatus {
            id: 1,
            name: name.into(),
            voter,
            matched_index: Some(7),
            ..MemberStatus::default()
        };
        let witness = MemberStatus { id: 4, witness: true, ..member("w", true) };
        let resting = MemberStatus { id: 3, resting: true, ..member("c", false) };
        let release = Some(String::from("0.2.0"));
        let members = vec![
            MemberStatus { id: 1, leader: true, release, ..member("a", true) },
            resting,
            witness,
        ];
        let text = table(&Status { id: 1, last_index: 9, members, ..Status::default() });
        let lines: Vec<Vec<&str>> =
            text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[1], ["a", "leads", "this", "board", "2", "0.2.0", "-"]);
        assert_eq!(lines[2], ["c", "demoted", "no", "2", "-", "-"]);
        assert_eq!(lines[3], ["w", "witness", "no", "2", "-", "-"]);
    }
}
