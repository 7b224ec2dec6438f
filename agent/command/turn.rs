//! `understudy turn`: before this board is started anew it waits for the others to be there
//! and for its turn, so that an upgrade of all boards at once leaves a majority up.

use std::{collections::BTreeMap, io::ErrorKind, os::unix::net::UnixStream, time::Duration};

use understudy_core::{event::Millis, sql::Value};

use super::{asked_status, drain::wait_s, sql};
use crate::{
    config::Places,
    driver::clock,
    status::Status,
    terminal,
    turn::{self, Turn},
};

/// Between two looks at the group.
const LOOK: Duration = Duration::from_secs(1);

/// `understudy turn`
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Wait no longer than this for one and the same board, whether it is away or has the
    /// turn (10s, 5m); then go on without it.
    #[arg(long, default_value = "5m", value_name = "TIME")]
    wait: String,
    /// Give the turn back: this board is not started anew after all.
    #[arg(long, conflicts_with = "wait")]
    end: bool,
}

/// Takes the turn, or says why it goes on without.
pub(super) fn run(places: &Places, arguments: &Arguments) -> Result<(), String> {
    let wait_s = wait_s(&arguments.wait)?;
    if !runs(places) {
        return terminal::line("No agent runs here: there is nothing to wait for.");
    }
    let mut patience = Patience { wait_s, known: BTreeMap::new() };
    loop {
        let asked = asked_status(places);
        if let Err(reason) = &asked {
            // It may be started anew just now.
            let silent = Obstacle::Group(reason.clone());
            if patience.holds_up(clock::now(), &silent, &Status::default()) {
                std::thread::sleep(LOOK);
                continue;
            }
        }
        let status = asked?;
        if status.role == "waiting" || status.removed {
            return terminal::line("This board is in no group: there is nothing to wait for.");
        }
        if arguments.end {
            return end(places, &status);
        }
        if let Some(said) = look(places, &status, &mut patience) {
            return terminal::line(&said);
        }
        std::thread::sleep(LOOK);
    }
}

/// Is anybody behind the control socket? Whoever may not ask is told so by asking.
fn runs(places: &Places) -> bool {
    let Err(error) = UnixStream::connect(&places.control) else { return true };
    !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused)
}

const fn own(status: &Status) -> Turn {
    Turn { board: status.id, start: status.start }
}

fn end(places: &Places, status: &Status) -> Result<(), String> {
    sql::done(places, turn::end(own(status)), false)?;
    terminal::line("This board does not have the turn.")
}

/// One look at the group: what to say once there is nothing more to wait for.
fn look(places: &Places, status: &Status, patience: &mut Patience) -> Option<String> {
    let away: Vec<Obstacle> = away(status).map(|name| Obstacle::Away(name.to_owned())).collect();
    // All of them are looked at, for each has its own time.
    let waits =
        away.into_iter().filter(|board| patience.holds_up(clock::now(), board, status)).count();
    if waits > 0 {
        return None;
    }
    let mut instead_of = None;
    loop {
        let obstacle = match taken(places, status, instead_of) {
            Ok(has_it) if has_it == own(status) => {
                return Some(format!("{} has the turn.", status.board));
            }
            Ok(other) => Obstacle::Turn(other),
            Err(reason) => Obstacle::Group(reason),
        };
        if !patience.is_over(&obstacle, status)
            && patience.holds_up(clock::now(), &obstacle, status)
        {
            return None;
        }
        match obstacle {
            Obstacle::Turn(other) if instead_of != Some(other) => instead_of = Some(other),
            Obstacle::Away(_) | Obstacle::Turn(_) | Obstacle::Group(_) => {
                return Some(format!("{} goes on without the turn.", status.board));
            }
        }
    }
}

/// Boards that vote and cannot be heard, as far as this one can know.
fn away(status: &Status) -> impl Iterator<Item = &str> {
    let others = status.members.iter().filter(|member| member.id != status.id);
    let away = others.filter(|member| member.voter && !member.reachable && !member.unknown);
    away.map(|member| member.name.as_str())
}

/// Takes the turn if it can be had: who has it then. A row that was damaged is nobody's.
fn taken(places: &Places, status: &Status, instead_of: Option<Turn>) -> Result<Turn, String> {
    if status.leader.is_none() {
        return Err(String::from("nobody leads"));
    }
    let ask = |instead_of| -> Result<Value, String> {
        let response = sql::done(places, turn::take(own(status), instead_of), false)?;
        turn::row(response).ok_or_else(|| String::from("it is answered without the row"))
    };
    let row = ask(instead_of.map_or(Value::Null, Turn::value))?;
    if let Some(turn) = Turn::of(&row) {
        return Ok(turn);
    }
    terminal::complain("The row that says who has the turn is damaged, and is written anew.");
    Turn::of(&ask(row)?).ok_or_else(|| String::from("the row that says who has it is damaged"))
}

/// What a board waits for.
#[derive(Debug)]
enum Obstacle {
    /// This one is away.
    Away(String),
    /// Another has the turn.
    Turn(Turn),
    /// The group takes no writes, and why.
    Group(String),
}

impl Obstacle {
    /// What the same one is called at every look.
    fn name(&self) -> String {
        match self {
            Self::Away(board) => format!("away {board}"),
            Self::Turn(Turn { board, start }) => format!("turn {board} {start}"),
            Self::Group(_) => String::from("group"),
        }
    }

    fn words(&self, status: &Status) -> String {
        match self {
            Self::Away(board) => format!("{board} is away"),
            Self::Turn(turn) => {
                let holder = status.members.iter().find(|member| member.id == turn.board);
                let name = holder.map_or("another board", |member| member.name.as_str());
                format!("{name} has the turn")
            }
            Self::Group(reason) => format!("the turn cannot be asked for: {reason}"),
        }
    }
}

/// How long each is waited for.
struct Patience {
    wait_s: u64,
    /// Since when each is known, and whether its time is over.
    known: BTreeMap<String, (Millis, bool)>,
}

impl Patience {
    /// Has whoever has the turn been waited for long enough already, as one that is away?
    fn is_over(&self, obstacle: &Obstacle, status: &Status) -> bool {
        let Obstacle::Turn(turn) = obstacle else { return false };
        let holder = status.members.iter().find(|member| member.id == turn.board);
        let away = holder.map(|member| Obstacle::Away(member.name.clone()).name());
        let known = away.and_then(|away| self.known.get(&away));
        known.is_some_and(|(_, is_over)| *is_over)
    }

    /// Is it still waited for? Says so when that begins and ends.
    fn holds_up(&mut self, now: Millis, obstacle: &Obstacle, status: &Status) -> bool {
        let Self { wait_s, known } = self;
        let name = obstacle.name();
        let words = obstacle.words(status);
        let (since, is_over) = known.entry(name).or_insert_with(|| {
            terminal::complain(&format!("Waiting, for {wait_s} s at most: {words}."));
            (now, false)
        });
        if !*is_over && now.since(*since) >= *wait_s * 1_000 {
            *is_over = true;
            terminal::complain(&format!("Not waited for any longer: {words}."));
        }
        !*is_over
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::MemberStatus;

    #[test]
    fn boards_that_vote_and_are_known_to_be_away_are_waited_for() {
        let member = |id, voter, reachable, unknown| MemberStatus {
            id,
            name: id.to_string(),
            voter,
            reachable,
            unknown,
            ..MemberStatus::default()
        };
        let members = vec![
            member(1, true, false, false),
            member(2, true, true, false),
            member(3, true, false, false),
            member(4, false, false, false),
            member(5, true, false, true),
        ];
        let status = Status { id: 1, members, ..Status::default() };
        assert_eq!(away(&status).collect::<Vec<_>>(), ["3"]);
    }

    #[test]
    fn each_board_has_its_own_time_and_a_next_turn_a_new_one() {
        let mut patience = Patience { wait_s: 2, known: BTreeMap::new() };
        let mut waits =
            |ms, obstacle: &Obstacle| patience.holds_up(Millis(ms), obstacle, &Status::default());
        let away = Obstacle::Away("b".into());
        let turn = |start| Obstacle::Turn(Turn { board: 2, start });
        assert!(waits(5_000, &away) && waits(6_000, &turn(7)) && waits(6_999, &away));
        assert!(!waits(7_000, &away) && waits(7_000, &turn(7)) && !waits(8_000, &turn(7)));
        assert!(waits(8_000, &turn(8)) && !waits(9_000, &away), "its time is over for good");
        let members = vec![MemberStatus { id: 2, name: "b".into(), ..MemberStatus::default() }];
        let status = Status { members, ..Status::default() };
        assert!(patience.is_over(&turn(9), &status), "it was waited for as one that is away");
        assert!(!patience.is_over(&Obstacle::Turn(Turn { board: 3, start: 1 }), &status));
    }
}
