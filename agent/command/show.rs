//! Answers as people read them: first one plain sentence, then the detail.

use std::fmt::Write as _;

use understudy_core::sql::{SqlResponse, StatementOutcome, Value};

use super::value_of;
use crate::{
    config::{Places, RunOptions},
    control::ControlResponse,
    recover::Report,
    settings,
    status::{MemberStatus, Status},
    terminal,
};

pub(super) fn init(group: &str, expires: &str, answer: &ControlResponse) -> String {
    format!(
        "The group \"{group}\" is made; this board is its first member.\n\
         On each other board run `understudy join` with this token, within {expires}. Keep it\n\
         secret: who has it can read and write everything.\n{}",
        token(answer)
    )
}

pub(super) fn token(answer: &ControlResponse) -> String {
    let ControlResponse::Token(token) = answer else { return String::new() };
    format!("{token}\n")
}

pub(super) fn joined(answer: &ControlResponse) -> String {
    let ControlResponse::Joined { group, name, wished, members, witness } = answer else {
        return String::new();
    };
    let what = if *witness { "the witness" } else { "a member" };
    let mut out =
        format!("This board is {name}, {what} of the group \"{group}\" ({members} boards).\n");
    if name != wished {
        let _ = writeln!(out, "The name {wished} was taken; `understudy rename NAME` changes it.");
    }
    match (witness, members) {
        (false, 2) => out.push_str(
            "All data is on both boards; nothing takes over yet when one dies: add a third \
             board, or a small one with `understudy join TOKEN --witness`.\n",
        ),
        (true, boards) => {
            out.push_str(
                "It keeps no data, only what of the log another board may lack, and votes beside \
                 two, four or six boards that keep it.\n",
            );
            if *boards == 2 {
                out.push_str("One does so far: add another, which takes over when one dies.\n");
            }
        }
        (false, _) => {}
    }
    out
}

/// What a board had, or has now, without the others of its group.
pub(super) fn recovered(report: &Report, done: bool) -> String {
    let Report { group, last_index, commit, written, others, fenced } = report;
    let others = others.join(", ");
    let since = written.as_ref().map_or_else(String::new, |time| format!(" (last at {time})"));
    let mut out = format!(
        "This board holds the log of the group \"{group}\" up to entry {last_index}{since}; it knew \
         those up to {commit} to be acknowledged.\nWhat may be lost: all that the group \
         acknowledged after entry {last_index}, which only {others} can hold.\n"
    );
    if *fenced {
        let words = "The others have found that rows of this board contradict theirs: it is fenced. \
                     If another board is left, recover there instead.\n";
        out.push_str(words);
    }
    if !done {
        let _ = write!(
            out,
            "Nothing was changed. If enough of {others} can be started for a majority, start them \
             instead: the group goes on by itself, and nothing is lost.\nIf they are gone for good: \
             `understudy recover --i-know-what-this-means` on one board only, the one that holds \
             most.\n"
        );
        return out;
    }
    let _ = write!(
        out,
        "This board is now the only one of a new group, also called \"{group}\", with all it holds. \
         {others} can never join it as they are, even if they come back.\nStart its agent, then \
         `understudy token`. On each board to be taken in, and on those left of the former group, \
         move the data directory away, start the agent and `understudy join TOKEN`.\n"
    );
    if *fenced {
        out.push_str(
            "Look at the rows `understudy status` names; `understudy scrub` lifts the fence.\n",
        );
    }
    out
}

pub(super) fn settings(stored: &[(String, String)]) -> String {
    let shown = settings::ALL.iter().map(|setting| {
        format!("{} = {}\n    {}\n", setting.name, value_of(stored, setting), setting.doc)
    });
    shown.collect()
}

/// What is in force of a board's configuration.
pub(super) fn options(places: &Places, options: &RunOptions) -> String {
    let there = if places.config.exists() { "" } else { " (not there: defaults)" };
    let open = if options.http_open { " (open to the network)" } else { "" };
    format!(
        "configuration  {}{there}\ndirectory      {}\ncontrol socket {}\nhttp           {}{open}\n\
         udp            {}\nname           {}\n",
        places.config.display(),
        options.directory.display(),
        options.control.display(),
        options.http,
        options.udp,
        options.name.as_deref().unwrap_or("(host name)")
    )
}

/// Prints results; true when none failed. Where all or nothing was wanted and
/// one failed, what the others did was undone and is not told.
pub(super) fn sql(response: &SqlResponse, all_or_nothing: bool) -> Result<bool, String> {
    let errors = errors(response);
    terminal::print(&told(response, all_or_nothing))?;
    for error in &errors {
        terminal::complain(&format!("error: {error}"));
    }
    if !errors.is_empty() && all_or_nothing {
        terminal::complain("nothing was changed: it was all or nothing");
    }
    Ok(errors.is_empty())
}

fn errors(response: &SqlResponse) -> Vec<&str> {
    let failed = response.results.iter().filter_map(|result| match &result.outcome {
        StatementOutcome::Error(reason) => Some(reason.as_str()),
        StatementOutcome::Rows { .. } | StatementOutcome::Changed { .. } => None,
    });
    failed.chain(response.error.as_deref()).collect()
}

fn told(response: &SqlResponse, all_or_nothing: bool) -> String {
    if all_or_nothing && !errors(response).is_empty() {
        return String::new();
    }
    let shown = response.results.iter().map(|result| match &result.outcome {
        StatementOutcome::Rows { columns, rows, .. } => table(columns, rows),
        StatementOutcome::Changed { rows_affected: 1, .. } => String::from("1 row changed\n"),
        StatementOutcome::Changed { rows_affected, .. } => {
            format!("{rows_affected} rows changed\n")
        }
        StatementOutcome::Error(_) => String::new(),
    });
    shown.collect()
}

fn table(columns: &[String], rows: &[Vec<Value>]) -> String {
    let cells: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(cell).collect()).collect();
    let width = |place: usize| {
        let cells = cells.iter().filter_map(|row| row.get(place)).map(|cell| cell.chars().count());
        cells.chain(columns.get(place).map(|name| name.chars().count())).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let mut out = String::new();
    line(&mut out, columns, &widths);
    let rule: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
    line(&mut out, &rule, &widths);
    for row in &cells {
        line(&mut out, row, &widths);
    }
    out
}

fn line(out: &mut String, cells: &[String], widths: &[usize]) {
    let cells = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
    let text = cells.collect::<Vec<_>>().join("  ");
    out.push_str(text.trim_end());
    out.push('\n');
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::from("NULL"),
        Value::Integer(number) => number.to_string(),
        Value::Real(number) => number.to_string(),
        Value::Text(text) => String::from_utf8_lossy(text).into_owned(),
        Value::Blob(bytes) => {
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("x'{hex}'")
        }
    }
}

/// The whole answer to `status`.
pub(super) fn status(status: &Status) -> String {
    let mut out = sentence(status);
    out.push('\n');
    if !status.unconfirmed_by.is_empty() && !status.disk_lost {
        let silent = status.unconfirmed_by.join(", ");
        let _ = writeln!(
            out,
            "This board takes part though {silent} could not be asked whether its disk is whole; \
             they are asked as soon as they are there."
        );
    }
    if status.http_open {
        out.push_str("HTTP is open to the network without accounts (--http-open).\n");
    }
    out.push('\n');
    if !status.group.is_empty() {
        let _ = writeln!(out, "group      {} (term {})", status.group, status.term);
        let _ = writeln!(out, "board      {} ({})", status.board, status.role);
        let _ =
            writeln!(out, "database   at entry {} of {}", status.applied_index, status.last_index);
    }
    if let Some(http) = &status.http {
        let _ = writeln!(out, "http       {http}");
    }
    let _ = writeln!(out, "udp        {}", status.udp);
    let _ = writeln!(out, "directory  {}", status.directory);
    if let Some(scrub) = &status.scrub {
        out.push('\n');
        out.push_str(&super::scrub::told(scrub));
    }
    if !status.members.is_empty() {
        out.push_str("\nboards\n");
        for member in &status.members {
            let _ = writeln!(out, "  {}", member_line(status, member));
        }
    }
    out
}

fn member_line(status: &Status, member: &MemberStatus) -> String {
    let state = match (member.leader, member.reachable, member.unknown) {
        (true, _, _) => "leads",
        (false, _, true) => "not known",
        (false, false, false) => "not heard",
        (false, true, false) if member.witness && member.voter => "witness",
        (false, true, false) if status.leader.is_some() && !member.voter => "no vote",
        (false, true, false) if status.leader.is_some() => "follows",
        (false, true, false) if member.id == status.id => "no leader",
        (false, true, false) => "heard",
    };
    let address = member.address.as_deref().unwrap_or("-");
    let text = format!("{:<20} {:<10} {address}", member.name, state);
    text.trim_end().to_owned()
}

fn held(status: &Status) -> String {
    let who = match status.database_readers.as_slice() {
        [] => String::from("a long query"),
        readers => readers.join(", "),
    };
    format!(
        "This board applies nothing: {who} has read state.db for so long that its WAL is at its \
         bound. End it; the board goes on by itself, and nothing is lost meanwhile."
    )
}

/// What works, what is wrong, what to do.
fn sentence(status: &Status) -> String {
    if status.role == "waiting" {
        return String::from(
            "Waiting: this board belongs to no group yet. Run `understudy init` on the first \
             board, `understudy join TOKEN` on every other.",
        );
    }
    if status.removed {
        return format!(
            "This board was removed from the group \"{}\": it takes no part any more. `understudy \
             reset` makes it forget that group; then `understudy join TOKEN` makes it a new board \
             of one.",
            status.group
        );
    }
    if status.disk_lost {
        return format!(
            "This board's disk has forgotten what it promised: it takes no part any more. Its data \
             is safe on the others; `understudy reset` here empties it, then `understudy join TOKEN \
             --replace {}` joins it anew.",
            status.board
        );
    }
    if status.fenced {
        return super::scrub::fenced(status);
    }
    if status.disk_full {
        return String::from(
            "The disk is full: reading works, writing does not. Make room; it goes on by itself.",
        );
    }
    if status.database_held {
        return held(status);
    }
    if let Some(words) = super::scrub::undecided(status) {
        return words;
    }
    let heard = Heard::of(status);
    if status.witness {
        return witness(status, &heard);
    }
    let Some(leader) = &status.leader else {
        return without_leader(status, &heard);
    };
    if heard.lacks_majority() {
        return no_majority(&heard, "");
    }
    if status.one_copy {
        return one_copy(status, &heard);
    }
    if !heard.silent.is_empty() {
        return somebody_silent(leader, &heard);
    }
    if !heard.unknown.is_empty() {
        return format!(
            "Reading and writing work, led by {leader}; whether {} can be heard is not known here \
             yet: the leader has not told.",
            heard.unknown.join(", ")
        );
    }
    if let Some(words) = super::scrub::others_fenced(status, leader) {
        return words;
    }
    works(status, leader, &heard)
}

fn somebody_silent(leader: &str, heard: &Heard<'_>) -> String {
    let two = match (heard.voters - heard.silent_voters, heard.holders_here) {
        (2, 1) => {
            ": one board alone has all data, beside what the witness keeps for the one that is \
             away, and nothing takes over when it dies, too. If a board is gone for good, add \
             another with `understudy token` and `understudy join TOKEN --replace BOARD`"
        }
        (2, _) => {
            ": all data is on two boards, and nothing takes over when one of them dies, too. If \
             a board is gone for good, add another with `understudy token` and `understudy \
             join TOKEN --replace BOARD`"
        }
        _ => "",
    };
    format!(
        "Reading and writing work, led by {leader}, but {} cannot be heard: see to it. Until \
         then the group stands {}{two}.",
        heard.silent.join(", "),
        heard.stands()
    )
}

/// A witness says what it is before how things are.
fn witness(status: &Status, heard: &Heard<'_>) -> String {
    let votes = status.members.iter().any(|member| member.id == status.id && member.voter);
    let state = match &status.leader {
        None if status.confirming_disk => {
            String::from("It asks the others whether its disk is whole, then takes part.")
        }
        None if heard.silent.is_empty() => String::from("The boards are choosing a leader."),
        None => format!("Nobody leads: {} cannot be heard. {LOOK}", heard.silent.join(", ")),
        Some(_) if status.one_copy => one_copy(status, heard),
        Some(leader) if !heard.silent.is_empty() => {
            format!("{leader} leads; {} cannot be heard: see to it.", heard.silent.join(", "))
        }
        Some(leader) if votes => format!("Everything works, led by {leader}."),
        Some(leader) => {
            format!("It follows, led by {leader}, without a vote: {}.", why_no_vote(heard))
        }
    };
    format!(
        "This board is a witness: it keeps no data, only what of the log another may lack. {state}"
    )
}

/// Why a witness does not vote.
fn why_no_vote(heard: &Heard<'_>) -> String {
    match heard.holders {
        1 => String::from("one board alone votes that keeps the data; it votes beside two"),
        holders if holders.is_multiple_of(2) => String::from(
            "it has not caught up, was demoted, or there is no room for its vote (`understudy get \
             voters`)",
        ),
        holders => format!(
            "{holders} boards that keep the data vote, an odd number, and one more would stand no \
             more losses"
        ),
    }
}

fn one_copy(status: &Status, heard: &Heard<'_>) -> String {
    let away = match heard.silent.as_slice() {
        [] => String::from("a board with the data has not caught up"),
        silent => format!("{} cannot be heard", silent.join(", ")),
    };
    let what = match status.one_copy_allowed {
        true => "What is written is on one board alone, as one_copy allows, until all is well",
        false => {
            "Reading works, writing is refused until that board is back or another is in its place \
             (`understudy join TOKEN --replace BOARD`), or `understudy set one_copy allow`"
        }
    };
    format!("One copy only: {away}, and the witness has no room left for what it misses. {what}.")
}

fn works(status: &Status, leader: &str, heard: &Heard<'_>) -> String {
    if let Some(words) = works_with_witness(status, leader, heard) {
        return words;
    }
    match (heard.boards, heard.voters) {
        (1, _) => String::from(
            "Everything works on this board alone: nothing is copied yet. Run `understudy token` \
             here and `understudy join TOKEN` on another board.",
        ),
        (2, 2) => format!(
            "Everything works, led by {leader}: all data is on both boards, but nothing takes \
             over yet when one dies. Add a third board, or a small one with `understudy join TOKEN \
             --witness`."
        ),
        (boards, 1) => format!(
            "Everything works on {leader}; of {boards} boards it alone votes until another has \
             caught up: nothing takes over yet."
        ),
        (boards, 2) => format!(
            "Everything works, led by {leader}: two of {boards} boards vote, all data is on both, \
             and nothing takes over until a third has caught up."
        ),
        (boards, _) => format!(
            "Everything works: {boards} boards, led by {leader}; the group stands {}.",
            heard.stands()
        ),
    }
}

/// Where the group has a witness that makes a difference.
fn works_with_witness(status: &Status, leader: &str, heard: &Heard<'_>) -> Option<String> {
    let name = &status.members.iter().find(|member| member.witness)?.name;
    if heard.voters == heard.holders {
        let base = works(&without_witness(status), leader, heard);
        return Some(format!("{base} {name}, the witness, follows: {}.", why_no_vote(heard)));
    }
    let takes_over = match heard.holders {
        2 => "all data is on both boards, and when one of them dies the other takes over",
        _ => "the data is on all boards but the witness",
    };
    Some(format!(
        "Everything works, led by {leader}: {takes_over}, for {name} is their witness. The group \
         stands {}.",
        heard.stands()
    ))
}

fn without_witness(status: &Status) -> Status {
    let mut status = status.clone();
    status.members.retain(|member| !member.witness);
    status
}

/// Which boards are there, in this board's view.
struct Heard<'a> {
    silent: Vec<&'a str>,
    unknown: Vec<&'a str>,
    silent_voters: usize,
    voters: usize,
    /// Boards that keep the data,
    boards: usize,
    /// vote,
    holders: usize,
    /// and can be heard, or may be.
    holders_here: usize,
}

impl<'a> Heard<'a> {
    fn of(status: &'a Status) -> Self {
        let silent = |member: &&MemberStatus| !member.reachable && !member.unknown;
        let names = |wanted: &dyn Fn(&&MemberStatus) -> bool| {
            status.members.iter().filter(wanted).map(|member| member.name.as_str()).collect()
        };
        let voters = || status.members.iter().filter(|member| member.voter);
        let holders = || voters().filter(|member| !member.witness);
        Self {
            silent: names(&silent),
            unknown: names(&|member| member.unknown),
            silent_voters: voters().filter(silent).count(),
            voters: voters().count(),
            boards: status.members.iter().filter(|member| !member.witness).count(),
            holders: holders().count(),
            holders_here: holders().filter(|member| !silent(member)).count(),
        }
    }

    const fn needed(&self) -> usize {
        self.voters / 2 + 1
    }

    const fn lacks_majority(&self) -> bool {
        self.voters > 0 && self.voters - self.silent_voters < self.needed()
    }

    /// Further losses that leave a majority.
    fn stands(&self) -> String {
        match (self.voters - self.silent_voters).saturating_sub(self.needed()) {
            0 => String::from("no further loss"),
            losses => format!("the loss of {losses}"),
        }
    }
}

fn without_leader(status: &Status, heard: &Heard<'_>) -> String {
    let lasts = status.leaderless_ms.is_some_and(|ms| ms >= status.leaderless_ms_max);
    if status.confirming_disk {
        let mut text = String::from(
            "Starting: this board asks the others whether its disk is whole, then takes part.",
        );
        if lasts && !heard.silent.is_empty() {
            let silent = heard.silent.join(", ");
            let _ = write!(text, " No word from {silent} so far. {LOOK}");
        }
        return text;
    }
    let seconds = status.leaderless_ms.unwrap_or_default() / 1_000;
    if !lasts {
        return format!(
            "The boards are choosing a leader: this takes no longer than {} s if a majority is \
             there.",
            status.leaderless_ms_max.div_ceil(1_000)
        );
    }
    if heard.lacks_majority() {
        return no_majority(heard, &format!(" for {seconds} s"));
    }
    format!(
        "No leader for {seconds} s, though a majority can be heard: reading what this board has \
         works (level none), writing does not. Look at `understudy status` on the other boards: a \
         disk may be full, or boards may not hear each other."
    )
}

/// Where to look when a board is silent.
const LOOK: &str = "On each of them see that it has power and network, that `understudy run` runs, \
                    and that its UDP port is open.";

fn no_majority(heard: &Heard<'_>, lasting: &str) -> String {
    let silent = heard.silent.join(", ");
    let never_joined = match heard.voters {
        2 => " If it was joining, run `understudy join` there again.",
        _ => "",
    };
    format!(
        "No majority{lasting}: {silent} cannot be heard, and {} of {} boards are needed. Reading \
         what this board has works (level none), writing does not. {LOOK}{never_joined}",
        heard.needed(),
        heard.voters
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str, leader: bool, reachable: bool) -> MemberStatus {
        MemberStatus {
            name: name.into(),
            voter: true,
            leader,
            reachable,
            ..MemberStatus::default()
        }
    }

    fn group(members: Vec<MemberStatus>) -> Status {
        let leader = members.iter().find(|member| member.leader).map(|member| member.name.clone());
        Status {
            board: "a".into(),
            group: "g".into(),
            role: "follower".into(),
            leader,
            members,
            ..Status::default()
        }
    }

    #[test]
    fn each_state_is_one_sentence_that_says_what_to_do() {
        let three = |c| {
            group(vec![member("a", true, true), member("b", false, true), member("c", false, c)])
        };
        let alone = group(vec![member("a", true, true)]);
        let two = group(vec![member("a", true, true), member("b", false, true)]);
        let mut cut = group(vec![
            member("a", false, true),
            member("b", false, false),
            member("c", false, false),
        ]);
        (cut.leaderless_ms, cut.leaderless_ms_max) = (Some(9_000), 2_000);
        let waiting = Status { role: "waiting".into(), ..Status::default() };
        let removed = Status { removed: true, ..group(Vec::new()) };
        let newcomer = MemberStatus { voter: false, ..member("b", false, true) };
        let learner = group(vec![member("a", true, true), newcomer]);
        for (status, words) in [
            (three(true), "3 boards, led by a; the group stands the loss of 1"),
            (three(false), "c cannot be heard: see to it. Until then the group stands no further"),
            (alone, "understudy join TOKEN"),
            (two, "Add a third board"),
            (three(false), "all data is on two boards, and nothing takes over"),
            (
                removed,
                "was removed from the group \"g\": it takes no part any more. `understudy reset`",
            ),
            (learner, "of 2 boards it alone votes until another has caught up"),
            (cut.clone(), "b, c cannot be heard, and 2 of 3 boards are needed"),
            (cut.clone(), "that `understudy run` runs"),
            (cut.clone(), "No majority for 9 s: "),
            (waiting, "understudy init"),
        ] {
            let text = super::status(&status);
            let first = text.lines().next().unwrap();
            assert!(first.contains(words), "{first}");
        }
        cut.disk_lost = true;
        assert!(sentence(&cut).contains("joins it anew"));
        cut.disk_lost = false;
        cut.disk_full = true;
        assert!(sentence(&cut).contains("Make room"));
    }

    #[test]
    fn a_witness_is_no_copy_in_any_sentence() {
        let witness = |voter, reachable| MemberStatus {
            witness: true,
            voter,
            id: 9,
            ..member("w", false, reachable)
        };
        let (a, b) = (member("a", true, true), |here| member("b", false, here));
        let pair = |here, w| group(vec![a.clone(), b(here), w]);
        let alone = group(vec![a.clone(), witness(false, true)]);
        let three = group(vec![a.clone(), b(true), member("c", false, true), witness(false, true)]);
        let full = Status { one_copy: true, ..pair(false, witness(true, true)) };
        let allowed = Status { one_copy_allowed: true, ..full.clone() };
        let own = |status: Status| Status { witness: true, id: 9, ..status };
        for (status, words) in [
            (pair(true, witness(true, true)), "when one of them dies the other takes over"),
            (pair(false, witness(true, true)), "one board alone has all data, beside what the wit"),
            (pair(true, witness(true, false)), "all data is on two boards, and nothing takes over"),
            (pair(true, witness(false, true)), "w, the witness, follows: it has not caught up"),
            (alone, "nothing is copied yet"),
            (three.clone(), "3 boards, led by a; the group stands the loss of 1. w, the witness,"),
            (three.clone(), "3 boards that keep the data vote, an odd number"),
            (full.clone(), "One copy only: b cannot be heard"),
            (full.clone(), "understudy set one_copy allow"),
            (allowed, "is on one board alone, as one_copy allows"),
            (own(full), "This board is a witness: it keeps no data, only what of the log another"),
            (own(pair(true, witness(true, true))), "Everything works, led by a."),
            (own(three), "without a vote: 3 boards"),
        ] {
            let text = sentence(&status);
            assert!(text.contains(words), "{words}: {text}");
        }
    }

    #[test]
    fn whose_word_is_missing_is_told() {
        let mut status = group(vec![member("a", true, true), member("b", false, false)]);
        assert!(!super::status(&status).contains("could not be asked"));
        status.unconfirmed_by = vec!["b".into()];
        assert!(super::status(&status).contains("though b could not be asked whether its disk"));
    }

    #[test]
    fn what_a_follower_does_not_know_it_does_not_claim() {
        let mut c = member("c", false, false);
        c.unknown = true;
        let status = group(vec![member("a", true, true), member("b", false, true), c]);
        let text = super::status(&status);
        assert!(text.contains("whether c can be heard is not known"), "{text}");
        assert!(!text.contains("stands") && !text.contains("Everything"), "{text}");
        assert!(text.contains("not known"), "{text}");
    }

    #[test]
    fn boards_without_a_leader_choose_one_only_for_as_long_as_that_takes() {
        let two = vec![member("a", false, true), member("b", false, false)];
        let mut status = Status { leaderless_ms_max: 2_000, ..group(two) };
        status.leaderless_ms = Some(500);
        assert!(sentence(&status).contains("choosing a leader: this takes no longer than 2 s"));
        status.leaderless_ms = Some(60_000);
        let text = sentence(&status);
        assert!(text.starts_with("No majority for 60 s: b cannot be heard, and 2 of 2"), "{text}");
        assert!(text.contains("`understudy join` there again"), "{text}");
        status.members[1].reachable = true;
        assert!(sentence(&status).starts_with("No leader for 60 s, though a majority"));
        let shown = super::status(&status);
        assert!(!shown.contains("follows") && !shown.contains("leads"), "{shown}");
        status.members[1].reachable = false;
        status.confirming_disk = true;
        assert!(sentence(&status).contains("No word from b"));
    }

    #[test]
    fn what_was_undone_is_not_told_as_done() {
        use understudy_core::sql::StatementResult;
        let changed = StatementOutcome::Changed { rows_affected: 1, last_insert_id: 1 };
        let failed = StatementOutcome::Error("near \"BAD\": syntax error".into());
        let result = |outcome| StatementResult { outcome, time_ns: 0 };
        let response = SqlResponse { results: vec![result(changed), result(failed)], error: None };
        assert_eq!(told(&response, true), "");
        assert_eq!(told(&response, false), "1 row changed\n");
        assert_eq!(errors(&response), ["near \"BAD\": syntax error"]);
    }

    #[test]
    fn a_table_is_as_wide_as_its_widest_cell() {
        let rows = vec![vec![Value::Integer(1), Value::Text(b"greenhouse".to_vec())]];
        let text = table(&["id".into(), "name".into()], &rows);
        assert_eq!(text, "id  name\n--  ----------\n1   greenhouse\n");
    }
}
