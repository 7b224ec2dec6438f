//! `understudy duty`: the group's duties, who holds them, and what people want of them.

use std::{fmt::Write as _, time::Duration};

use understudy_core::{
    duty::Rules,
    event::NodeId,
    limits::DUTIES_MAX,
    sql::{SqlRequest, StatementOutcome},
};

use super::{asked_status, sql};
use crate::{
    config::Places,
    duties,
    retention::duration_s,
    status::{DutyStatus, Status},
    terminal,
};

/// How often it is looked for whether a duty's holder has let it go.
const LOOK: Duration = Duration::from_millis(100);
const LOOKS_MAX: u32 = 1_200;

/// What is to be done about a duty; all are printed when nothing is.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Action {
    /// Make a duty: one board of the group holds it at a time. What is to be done while it
    /// is held is said on each board: `understudy hold NAME -- COMMAND`, or `[[duty]]` in
    /// its configuration.
    Add {
        /// Its name.
        name: String,
        /// Boards that may hold it, the first choice first; any when absent.
        #[arg(long, value_delimiter = ',', value_name = "BOARD,...")]
        candidates: Vec<String>,
        #[command(flatten)]
        rules: RuleArguments,
    },
    /// Say how the holder of a duty is chosen: what is not named stays as it is.
    Rules {
        /// Its name.
        name: String,
        #[command(flatten)]
        rules: RuleArguments,
    },
    /// Remove a duty: whoever holds it ends what it does for it.
    Remove {
        /// Its name.
        name: String,
    },
    /// Say which boards may hold it, the first choice first; any where none is named.
    Candidates {
        /// Its name.
        name: String,
        /// Boards.
        boards: Vec<String>,
    },
    /// Have nobody hold it, until it is resumed.
    Pause {
        /// Its name.
        name: String,
    },
    /// Have it held again.
    Resume {
        /// Its name.
        name: String,
    },
    /// Have it go to a board, as soon as that is ready for it.
    Transfer {
        /// Its name.
        name: String,
        /// Which; this one when absent.
        board: Option<String>,
    },
    /// Have it go to any board but its holder, as soon as one is ready.
    Release {
        /// Its name.
        name: String,
    },
    /// Print all duties.
    List {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
}

/// How a holder is chosen, as far as it is said.
#[derive(Debug, clap::Args)]
pub(super) struct RuleArguments {
    /// A board holds it only while this sensor reports on it at least so often:
    /// "SENSOR 30s". The duty goes from a board whose sensor is silent to one whose
    /// reports; where none does it stays. "none" for no such sensor.
    #[arg(long, value_name = "SENSOR TIME")]
    fresh: Option<String>,
    /// A board must be able to do this, by `capabilities` or a `[[check]]` of its
    /// configuration; "none" for nothing.
    #[arg(long, value_delimiter = ',', value_name = "CAPABILITY,...")]
    needs: Option<Vec<String>>,
    /// A candidate that comes before the holder has it once it was ready for so long (30s,
    /// 10m); "none": whoever holds it keeps it.
    #[arg(long, value_name = "TIME")]
    preempt: Option<String>,
    /// What its holder does once it hears no majority of the group any more: "stop", as is
    /// the default, or "keep" on with it. The others may have it held elsewhere then: keep
    /// only what two boards may do at a time.
    #[arg(long, value_name = "stop|keep")]
    without_majority: Option<WithoutMajority>,
}

/// What a holder does without a majority.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum WithoutMajority {
    Stop,
    Keep,
}

/// Says that a rule is to be none.
const NONE: &str = "none";

impl RuleArguments {
    /// What these make of the rules that there were.
    fn over(self, mut rules: Rules) -> Result<Rules, String> {
        if let Some(fresh) = self.fresh {
            rules.fresh = if fresh == NONE { None } else { Some(duties::fresh(&fresh)?) };
        }
        if let Some(needs) = self.needs {
            rules.needs = if needs == [NONE] { Vec::new() } else { duties::needs(&needs)? };
        }
        if let Some(preempt) = self.preempt {
            let ms = |text: &str| duration_s(text)?.checked_mul(1_000);
            let wrong = || format!("--preempt {preempt}: it is a time such as 30s or 10m, or none");
            rules.preempt_ms =
                if preempt == NONE { None } else { Some(ms(&preempt).ok_or_else(wrong)?) };
        }
        if let Some(without) = self.without_majority {
            rules.keep = without == WithoutMajority::Keep;
        }
        Ok(rules)
    }
}

pub(super) fn run(places: &Places, action: Option<Action>) -> Result<(), String> {
    let status = asked_status(places)?;
    let change = |name: &str, request: SqlRequest| change(places, name, request);
    match action.unwrap_or(Action::List { json: false }) {
        Action::List { json: true } => {
            let json = serde_json::to_string_pretty(&status.duties);
            terminal::line(&json.map_err(|error| error.to_string())?)
        }
        Action::List { json: false } => terminal::print(&table(&status)),
        Action::Add { name, candidates, rules } => {
            let rules = rules.over(Rules::default())?;
            let request = duties::add(&name, &ids(&status, &candidates)?, &rules)?;
            if status.duties.iter().any(|duty| duty.name == name) {
                return Err(format!("there is a duty {name} already"));
            }
            if status.duties.len() >= DUTIES_MAX {
                return Err(format!("a group has at most {DUTIES_MAX} duties: remove one first"));
            }
            change(&name, request)?;
            warn_of_two(&name, &rules)
        }
        Action::Rules { name, rules } => {
            let duty = status.duties.iter().find(|duty| duty.name == name);
            let before = duty.map(|duty| duty.rules.clone()).unwrap_or_default();
            let rules = rules.over(before)?;
            change(&name, duties::choose(&name, &rules))?;
            warn_of_two(&name, &rules)
        }
        Action::Remove { name } => remove(places, &name),
        Action::Candidates { name, boards } => {
            change(&name, duties::candidates(&name, &ids(&status, &boards)?))
        }
        Action::Release { name } => change(&name, duties::release(&name)),
        Action::Pause { name } => change(&name, duties::pause(&name, true)),
        Action::Resume { name } => change(&name, duties::pause(&name, false)),
        Action::Transfer { name, board } => {
            let board = match board {
                Some(board) => duties::id(&status, &board)?,
                None => status.id,
            };
            duties::check_transfer(&status, &name, board)?;
            change(&name, duties::transfer(&name, board))
        }
    }
}

/// Says what is given up with `--without-majority keep`.
fn warn_of_two(name: &str, rules: &Rules) -> Result<(), String> {
    match rules.keep {
        false => Ok(()),
        true => terminal::line(&format!(
            "Two boards may hold {name} at a time: one that hears no majority keeps it, and the \
             others have it held elsewhere. A fence still counts for the last grant alone."
        )),
    }
}

/// Has nobody hold it any more, and removes it then.
fn remove(places: &Places, name: &str) -> Result<(), String> {
    change(places, name, duties::pause(name, true))?;
    for _ in 0..LOOKS_MAX {
        let status = asked_status(places)?;
        let duty = status.duties.iter().find(|duty| duty.name == name);
        match duty.map(|duty| &duty.holder) {
            None => return Ok(()),
            // Where its board does not show yet that somebody has it, nothing is removed.
            Some(None) => drop(change(places, name, duties::remove(name))),
            Some(Some(_)) => {}
        }
        std::thread::sleep(LOOK);
    }
    Err(format!("{name} is paused, and its holder has neither given it up nor lost its lease yet"))
}

/// One row is changed, or the duty is none.
fn change(places: &Places, name: &str, request: SqlRequest) -> Result<(), String> {
    let done = sql::done(places, request, false)?;
    match done.results.first().map(|result| &result.outcome) {
        Some(StatementOutcome::Changed { rows_affected: 0, .. }) => {
            Err(format!("there is no duty {name}: `understudy duty` lists them"))
        }
        _ => Ok(()),
    }
}

fn ids(status: &Status, boards: &[String]) -> Result<Vec<NodeId>, String> {
    boards.iter().map(|board| duties::id(status, board)).collect()
}

fn table(status: &Status) -> String {
    if status.duties.is_empty() {
        return String::from(
            "no duties: `understudy duty add NAME` makes one; `understudy hold NAME -- COMMAND` on \
             each board, or its configuration, says what is done while it is held\n",
        );
    }
    let mut out = format!("{:<20} {:<20} {:>10}  here\n", "duty", "holder", "token");
    for duty in &status.duties {
        let holder =
            duty.holder.as_deref().unwrap_or(if duty.paused { "paused" } else { "nobody" });
        let (name, token, here) = (&duty.name, duty.token, here(status, duty));
        let kept = if duty.rules.keep { "; kept without a majority" } else { "" };
        let _ = writeln!(out, "{name:<20} {holder:<20} {token:>10}  {here}{kept}");
    }
    out
}

/// What this board has to do with it.
fn here(status: &Status, duty: &DutyStatus) -> String {
    match (duty.held, duty.ready, status.not_kept.get(&duty.name)) {
        (true, ..) if duty.silent => String::from("held, though its sensor is silent here"),
        (true, _, Some(why)) => format!("held, though {why}"),
        (true, ..) => String::from("held"),
        (false, true, _) => String::from("ready"),
        (false, false, Some(why)) => format!("not ready: {why}"),
        (false, false, None) if duty.silent => String::from("not ready: its sensor is silent here"),
        (false, false, None) => String::from("not ready: nothing keeps a command for it here"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_holds_what_is_a_table() {
        let duty = DutyStatus { name: "pump".into(), token: 81, ready: true, ..Default::default() };
        let held = DutyStatus { holder: Some("a".into()), held: true, ..duty.clone() };
        let paused = DutyStatus { paused: true, ready: false, ..duty.clone() };
        let broken = DutyStatus { name: "lamp".into(), ready: false, ..duty.clone() };
        let not_kept = [("lamp".into(), "there is no command /x here".into())].into();
        let duties = vec![duty, held, paused, broken];
        let status = Status { duties, not_kept, ..Status::default() };
        let table = table(&status);
        let lines: Vec<Vec<&str>> =
            table.lines().skip(1).map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[0], ["pump", "nobody", "81", "ready"]);
        assert_eq!(lines[1], ["pump", "a", "81", "held"]);
        assert_eq!(lines[2][..4], ["pump", "paused", "81", "not"]);
        assert!(table.ends_with("not ready: there is no command /x here\n"), "{table}");
        assert!(super::table(&Status::default()).contains("duty add"));
    }

    #[test]
    fn boards_that_cannot_hold_a_duty_are_named() {
        use crate::status::MemberStatus;
        let member = |id, name: &str, witness| MemberStatus {
            id,
            name: name.into(),
            witness,
            ..MemberStatus::default()
        };
        let members = vec![member(1, "a", false), member(3, "w", true)];
        let duty =
            DutyStatus { name: "pump".into(), candidates: vec!["b".into()], ..Default::default() };
        let status = Status { members, duties: vec![duty], ..Status::default() };
        assert_eq!(ids(&status, &["a".into()]), Ok(vec![1]));
        assert!(ids(&status, &["b".into()]).unwrap_err().contains("no board b"));
        assert!(ids(&status, &["w".into()]).unwrap_err().contains("witness"));
        assert!(duties::check_transfer(&status, "pump", 1).unwrap_err().contains("may not hold"));
        let slow = Status { id: 1, slow: Some("its disk".into()), ..status };
        assert!(duties::check_transfer(&slow, "pump", 1).unwrap_err().contains("too slow"));
    }
}
