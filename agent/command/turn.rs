//! `understudy turn`: before this board is started anew it waits for the others to be there
//! and for its turn, so that an upgrade of all boards at once leaves a majority up. A board
//! that went away in its turn ends that: what is installed may not start, and it is to take
//! down one board and not all.

use std::{
    collections::BTreeMap, io::ErrorKind, os::unix::net::UnixStream, process::ExitCode,
    time::Duration,
};

use understudy_core::{event::Millis, sql::Value};

use super::{asked_status, drain::wait_s, sql};
use crate::{
    config::Places,
    driver::clock,
    status::Status,
    terminal,
    turn::{self, Turn},
};

/// Between two looks at the group, milliseconds.
const LOOK_MS: u64 = 1_000;
const LOOK: Duration = Duration::from_millis(LOOK_MS);

/// The board is not to be started anew: another did not come back from that. (`EX_TEMPFAIL` of
/// sysexits(3))
const NOT_NOW: u8 = 75;

/// `understudy turn`
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Wait no longer than this for one and the same board, whether it is away or has the
    /// turn (10s, 5m); then go on without it. Ends with 75 where the board that has it went
    /// away in it: this one is better not started anew.
    #[arg(long, default_value = "5m", value_name = "TIME")]
    wait: String,
    /// Give the turn back: this board is not started anew after all.
    #[arg(long, conflicts_with = "wait")]
    end: bool,
}

/// Takes the turn, or says why it goes on without, or does not.
pub(super) fn run(places: &Places, arguments: &Arguments) -> Result<ExitCode, String> {
    let wait_s = wait_s(&arguments.wait)?;
    let said = |words: &str| terminal::line(words).map(|()| ExitCode::SUCCESS);
    if !runs(places) {
        return said("No agent runs here: there is nothing to wait for.");
    }
    let mut patience = Patience { wait_s, ..Patience::default() };
    loop {
        patience.look_anew();
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
            return said("This board is in no group: there is nothing to wait for.");
        }
        if arguments.end {
            return end(places, &status).map(|()| ExitCode::SUCCESS);
        }
        match look(places, &status, &mut patience) {
            None => std::thread::sleep(LOOK),
            Some(Ok(words)) => return said(&words),
            Some(Err(words)) => {
                terminal::complain(&words);
                return Ok(ExitCode::from(NOT_NOW));
            }
        }
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

/// One look at the group: what to say once there is nothing more to wait for, which is an error
/// where the board is better not started anew.
fn look(
    places: &Places,
    status: &Status,
    patience: &mut Patience,
) -> Option<Result<String, String>> {
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
                return Some(Ok(format!("{} has the turn.", status.board)));
            }
            Ok(other) => Obstacle::Turn(other),
            Err(reason) => Obstacle::Group(reason),
        };
        let holds_up = patience.has_lost(&obstacle, status).is_none()
            && patience.holds_up(clock::now(), &obstacle, status);
        if let Some(board) = patience.has_lost(&obstacle, status) {
            return Some(Err(not_now(board)));
        }
        if holds_up {
            return None;
        }
        match obstacle {
            Obstacle::Turn(other) if instead_of != Some(other) => instead_of = Some(other),
            Obstacle::Away(_) | Obstacle::Turn(_) | Obstacle::Group(_) => {
                return Some(Ok(format!("{} goes on without the turn.", status.board)));
            }
        }
    }
}

fn not_now(board: &str) -> String {
    format!(
        "{board} went away in its turn and has not come back: what is installed may not start \
         there, nor here. This board is better not started anew before {board} is back, or \
         taken out (`understudy remove {board}`)."
    )
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

/// How long each is waited for. Time runs while looks find it, and one that comes and goes has
/// no more than one that stays. Once it is over, and a look does not find it, the next wait for
/// it is another one.
#[derive(Default)]
struct Patience {
    wait_s: u64,
    known: BTreeMap<String, Wait>,
}

/// One that was waited for, and perhaps is.
#[derive(Default)]
struct Wait {
    /// For how long looks have found it, milliseconds.
    waited_ms: u64,
    /// When this look or the one before found it.
    found: Option<Millis>,
    /// This look did.
    is_found: bool,
}

impl Patience {
    /// A look begins.
    fn look_anew(&mut self) {
        let wait_ms = self.wait_s * 1_000;
        self.known.retain(|_, wait| wait.is_found || wait.waited_ms < wait_ms);
        for wait in self.known.values_mut() {
            wait.found = wait.found.filter(|_| wait.is_found);
            wait.is_found = false;
        }
    }

    fn is_over(&self, obstacle: &Obstacle) -> bool {
        let wait = self.known.get(&obstacle.name());
        wait.is_some_and(|wait| wait.is_found && wait.waited_ms >= self.wait_s * 1_000)
    }

    /// The board that has the turn, if it is away, and was waited for as one or the other; or
    /// had it before the group took no writes any more.
    fn has_lost<'s>(&self, obstacle: &Obstacle, status: &'s Status) -> Option<&'s str> {
        let board = match obstacle {
            Obstacle::Turn(turn) => Some(turn.board),
            Obstacle::Group(_) => status.turn.filter(|board| *board != status.id),
            Obstacle::Away(_) => None,
        }?;
        let holder = status.members.iter().find(|member| member.id == board)?;
        // What is unknown of it comes by way of a leader.
        let is_away = !holder.reachable && (!holder.unknown || status.leader.is_none());
        let is_over = self.is_over(&Obstacle::Away(holder.name.clone())) || self.is_over(obstacle);
        (is_away && is_over).then_some(&holder.name)
    }

    /// Is it still waited for? Says so when that begins and ends.
    fn holds_up(&mut self, now: Millis, obstacle: &Obstacle, status: &Status) -> bool {
        let (wait_s, wait_ms) = (self.wait_s, self.wait_s * 1_000);
        let words = obstacle.words(status);
        let wait = self.known.entry(obstacle.name()).or_insert_with(|| {
            terminal::complain(&format!("Waiting, for {wait_s} s at most: {words}."));
            Wait::default()
        });
        let was_over = wait.waited_ms >= wait_ms;
        wait.waited_ms += wait.found.map_or(LOOK_MS, |found| now.since(found));
        (wait.found, wait.is_found) = (Some(now), true);
        let is_over = wait.waited_ms >= wait_ms;
        if is_over && !was_over {
            terminal::complain(&format!("Not waited for any longer: {words}."));
        }
        !is_over
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

    const AWAY: &str = "b";

    fn patience() -> Patience {
        Patience { wait_s: 2, ..Patience::default() }
    }

    fn turn(board: u64, start: u64) -> Obstacle {
        Obstacle::Turn(Turn { board, start })
    }

    fn board(id: u64, reachable: bool) -> Status {
        let name = String::from(AWAY);
        let members = vec![MemberStatus { id, name, reachable, ..MemberStatus::default() }];
        Status { members, ..Status::default() }
    }

    #[test]
    fn each_board_has_its_own_time_and_a_next_turn_a_new_one() {
        let mut patience = patience();
        let mut waits =
            |ms, obstacle: &Obstacle| patience.holds_up(Millis(ms), obstacle, &Status::default());
        let away = Obstacle::Away(AWAY.into());
        assert!(waits(5_000, &away) && waits(5_500, &turn(2, 7)) && waits(5_999, &away));
        assert!(!waits(6_000, &away) && waits(6_000, &turn(2, 7)) && !waits(6_500, &turn(2, 7)));
        assert!(waits(6_500, &turn(2, 8)) && !waits(9_000, &away));
    }

    #[test]
    fn no_time_runs_while_it_is_not_found_and_none_begins_anew_before_it_is_over() {
        let away = Obstacle::Away(AWAY.into());
        for obstacle in [away, turn(2, 7), Obstacle::Group("nobody leads".into())] {
            let mut patience = patience();
            let mut looks = |ms, is_found: bool| {
                patience.look_anew();
                is_found && patience.holds_up(Millis(ms), &obstacle, &Status::default())
            };
            assert!(looks(0, true) && !looks(500, false), "{obstacle:?}");
            assert!(!looks(99_000, true) && !looks(99_500, true), "{obstacle:?}: for 2 s in all");
            assert!(!looks(99_600, false) && looks(99_700, true), "{obstacle:?}: another time");
        }
    }

    #[test]
    fn a_board_that_has_the_turn_is_lost_while_it_is_away_for_too_long() {
        let mut patience = patience();
        let away = Obstacle::Away(AWAY.into());
        for (ms, lost) in [(0, None), (999, None), (1_000, Some(AWAY))] {
            patience.look_anew();
            let _ = patience.holds_up(Millis(ms), &away, &board(2, false));
            assert_eq!(patience.has_lost(&turn(2, 9), &board(2, false)), lost, "{ms}");
            assert_eq!(patience.has_lost(&turn(3, 1), &board(2, false)), None, "another has it");
        }
        let group = Obstacle::Group("nobody leads".into());
        for (turn, lost) in [(None, None), (Some(2), Some(AWAY))] {
            assert_eq!(patience.has_lost(&group, &Status { turn, ..board(2, false) }), lost);
        }
        patience.look_anew();
        assert_eq!(patience.has_lost(&turn(2, 9), &board(2, false)), None, "it was there just now");
    }

    #[test]
    fn so_is_one_that_does_not_vote_and_is_waited_for_as_having_the_turn() {
        for (reachable, lost) in [(false, Some(AWAY)), (true, None)] {
            let mut patience = patience();
            let status = board(2, reachable);
            for (ms, waits) in [(0, true), (1_000, false)] {
                patience.look_anew();
                assert_eq!(patience.has_lost(&turn(2, 9), &status), None);
                assert_eq!(patience.holds_up(Millis(ms), &turn(2, 9), &status), waits);
            }
            assert_eq!(patience.has_lost(&turn(2, 9), &status), lost);
        }
    }
}
