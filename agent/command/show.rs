//! Answers as people read them: first one plain sentence, then the detail.

use std::fmt::Write as _;

use understudy_core::{
    intake::IntakeStatus,
    sql::{SqlResponse, StatementOutcome, Value},
};

use super::value_of;
use crate::{
    boot::Evidence,
    bridge::Part,
    config::{Places, RunOptions},
    control::ControlResponse,
    hold::task,
    readings::datagram,
    recover::Report,
    settings,
    status::{
        BrokerStatus, BudgetKind, BudgetStatus, CheckStatus, ClockStatus, MemberStatus, Status,
        megabytes,
    },
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

/// Whether a board knows the time.
pub(super) fn clock(state: &ClockStatus) -> String {
    let shows = &state.shows;
    let mut out = match state.set_by {
        None => format!(
            "This board does not know the time: its clock shows {shows}, and nothing says that \
             somebody set it. Readings are kept in order, and get their times when it is set.\n\
             If it is right: `understudy clock confirm`; else set it first (`timedatectl set-time`).\n"
        ),
        Some(by) => {
            let by = match by {
                Evidence::Ntp => "it follows a time server",
                Evidence::Rtc => "it was set from a clock that runs without power",
                Evidence::Step => "it was set while the agent ran",
                Evidence::Confirm => "its owner has confirmed it",
                Evidence::Peer => "another board has told it, until its own clock is set",
            };
            format!("This board knows the time: {by}. It is {shows}.\n")
        }
    };
    if state.ahead_ms > 0 {
        let _ = writeln!(
            out,
            "The clock was put back: readings are stamped {} ms ahead of it, so that they stay in \
             order, and at half the pace until it has caught up.",
            state.ahead_ms
        );
    }
    out
}

/// What is in force of a board's configuration.
pub(super) fn options(places: &Places, options: &RunOptions) -> String {
    let there = if places.config.exists() { "" } else { " (not there: defaults)" };
    let open = if options.http_open { " (open to the network)" } else { "" };
    let mut out = format!(
        "configuration  {}{there}\ndirectory      {}\ncontrol socket {}\nreadings       {}\n\
         http           {}{open}\nudp            {}\nname           {}\n",
        places.config.display(),
        options.directory.display(),
        options.control.display(),
        options.readings_directory.join(datagram::NAME).display(),
        options.http,
        options.udp,
        options.name.as_deref().unwrap_or("(host name)")
    );
    for check in &options.checks {
        let fails = task::check(check.user.as_deref(), &check.command).err();
        let fails = fails.map_or_else(String::new, |why| format!(" ({why})"));
        let (every, command) = (check.interval_s, check.command.join(" "));
        let _ = writeln!(out, "check          {}: {command}, every {every} s{fails}", check.name);
    }
    for task in &options.duties {
        let fails = task.check().and_then(|()| task.check_hooks()).err();
        let fails = fails.map_or_else(String::new, |why| format!(" ({why})"));
        let _ = writeln!(out, "duty           {}: {}{fails}", task.name, task.command.join(" "));
    }
    for Part { duty, broker, does } in &options.parts {
        let _ = writeln!(out, "{:<14} {} ({duty})", does.word(), broker.name());
    }
    out
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

pub(super) fn table(columns: &[String], rows: &[Vec<Value>]) -> String {
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

/// What is to be known of this board's part in the group's duties.
fn of_duties(status: &Status) -> String {
    let mut out = String::new();
    for duty in status.duties.iter().filter(|duty| duty.silent) {
        let sensor = duty.rules.fresh.as_ref().map_or("", |fresh| &fresh.sensor);
        let held = if duty.held { ", and holds the duty" } else { "" };
        let name = &duty.name;
        let _ = writeln!(out, "This board does not hear {sensor}, which {name} asks for{held}.");
    }
    for duty in status.duties.iter().filter(|duty| duty.held && duty.rules.keep) {
        if status.leaderless_ms.is_some() {
            let name = &duty.name;
            let _ = writeln!(
                out,
                "This board goes on with the duty {name} without a majority: \
                                   another may do it too."
            );
        }
    }
    for check in &status.checks {
        let _ = writeln!(out, "{}", check_line(check));
    }
    if let Some(why) = &status.slow {
        let _ = writeln!(
            out,
            "This board is too slow for duties, and takes only what nobody else does: {why}."
        );
    }
    for member in status.members.iter().filter(|member| member.slow) {
        let (name, ms) = (&member.name, member.round_trip_ms);
        let trip = ms.map_or_else(String::new, |ms| format!(" (up to {ms} ms)"));
        let _ = writeln!(
            out,
            "{name} is too slow for duties, and takes only what nobody else does: round trips{trip} \
             are too long for the group's timing: `understudy set profile` with a slower one."
        );
    }
    for (duty, why) in &status.not_kept {
        let _ = writeln!(out, "This board is no candidate for the duty {duty}: {why}.");
    }
    out
}

/// What is wrong with what the board's data is on, and with what the agent uses of it.
fn of_board(status: &Status) -> String {
    let mut out = String::new();
    if let Some(why) = &status.forgets {
        let _ = writeln!(out, "This board forgets: {why}.");
    }
    for trouble in status.budgets.iter().filter_map(BudgetStatus::trouble) {
        let _ = writeln!(out, "A budget is exceeded: {trouble} (`understudy board`).");
    }
    out
}

/// What the agent uses of its board, in one line.
fn budgets(budgets: &[BudgetStatus]) -> String {
    let used = |budget: &BudgetStatus| {
        let what = match budget.what {
            BudgetKind::Memory => "memory",
            BudgetKind::Journal => "journal with spool",
            BudgetKind::Card => "written to the card",
        };
        let over = budget.over_ms.map_or_else(String::new, |ms| match ms {
            ..7_200_000 => format!(" a day (in {} min)", ms / 60_000),
            _ => format!(" a day (in {} h)", ms / 3_600_000),
        });
        format!("{what} {} of {} MB{over}", budget.used(), megabytes(budget.bytes_max))
    };
    match budgets.iter().map(used).collect::<Vec<_>>() {
        all if all.is_empty() => String::new(),
        all => format!("budget     {}\n", all.join(", ")),
    }
}

/// What is wrong with the board's own sensors, and with brokers.
fn troubles(status: &Status) -> String {
    let mut out = String::new();
    for sample in &status.samples {
        if let Some(trouble) = &sample.trouble {
            let _ = writeln!(out, "{} cannot be read: {trouble}.", sample.source);
        }
    }
    for BrokerStatus { broker, connected, trouble, .. } in &status.brokers {
        let _ = match (connected, trouble) {
            (true, None) => Ok(()),
            (true, Some(why)) => writeln!(out, "The broker {broker} will not do: {why}."),
            (false, why) => {
                let why = why.as_deref().unwrap_or("it has not answered yet");
                writeln!(out, "The broker {broker} is not there: {why}.")
            }
        };
    }
    out.push_str(&super::bridges::troubles(&status.bridges));
    out
}

/// The whole answer to `status`.
pub(super) fn status(status: &Status) -> String {
    let mut out = super::sentence::sentence(status);
    out.push('\n');
    if !status.unconfirmed_by.is_empty() && !status.disk_lost {
        let silent = status.unconfirmed_by.join(", ");
        let _ = writeln!(
            out,
            "This board takes part though {silent} could not be asked whether its disk is whole; \
             they are asked as soon as they are there."
        );
    }
    if let Some(words) = super::sentence::keys(status) {
        out.push_str(&words);
        out.push('\n');
    }
    if let Some(words) = super::releases::words(status) {
        out.push_str(&words);
        out.push('\n');
    }
    if let Some(words) = kept_readings(&status.readings) {
        out.push_str(&words);
        out.push('\n');
    }
    if let Some(words) = &status.not_trimmed {
        let _ = writeln!(out, "Old readings: {words}.");
    }
    out.push_str(&of_board(status));
    out.push_str(&of_duties(status));
    out.push_str(&troubles(status));
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
    if let Some(pulls) = &status.pulls {
        let all =
            pulls.pages.map_or_else(String::new, |pages| format!(", of a database of {pages}"));
        let _ = writeln!(out, "pages      {} taken from {}{all}", pulls.taken, pulls.from);
    }
    if let Some(http) = &status.http {
        let _ = writeln!(out, "http       {http}");
    }
    let _ = writeln!(out, "udp        {}", status.udp);
    for BrokerStatus { broker, posted, heard, dropped, .. } in &status.brokers {
        let _ = writeln!(out, "broker     {broker}: {posted} out, {heard} in, {dropped} lost here");
    }
    out.push_str(&super::bridges::lines(&status.bridges));
    let _ = writeln!(out, "directory  {}", status.directory);
    out.push_str(&budgets(&status.budgets));
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

fn check_line(check: &CheckStatus) -> String {
    let CheckStatus { name, healthy, since_ms, last } = check;
    let state = if *healthy { "healthy" } else { "not healthy" };
    let last = last.as_deref().unwrap_or("it has not ended yet");
    format!("The check {name} is {state} for {}: {last}.", lasting(*since_ms))
}

/// How long something lasts, roughly.
fn lasting(ms: u64) -> String {
    match ms / 1_000 {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7_200 => format!("{} min", seconds / 60),
        seconds @ 7_200..172_800 => format!("{} h", seconds / 3_600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

/// What this board keeps of readings for itself, and what was lost of them.
fn kept_readings(readings: &IntakeStatus) -> Option<String> {
    let mut words = Vec::new();
    let (kb, mb_max) = (readings.spool_bytes.div_ceil(1_024), readings.spool_bytes_max >> 20);
    if readings.spool_full {
        words.push(format!(
            "{} readings wait in this board's spool, which is full ({mb_max} MB, spool_mb of its \
             configuration).",
            readings.spooled
        ));
    } else if readings.spooled > 0 {
        words.push(format!(
            "{} readings wait in this board's spool ({kb} KB of {mb_max} MB); all boards get them \
             when a majority is there.",
            readings.spooled
        ));
    }
    if readings.thinned > 0 {
        words.push(format!("{} were given up to make room there.", readings.thinned));
    }
    if readings.refused > 0 {
        words.push(format!(
            "{} readings that had been taken were refused by the group since the agent started.",
            readings.refused
        ));
    }
    if readings.unreadable > 0 {
        words.push(format!(
            "{} readings of the spool are lost: this agent cannot read what was written of them.",
            readings.unreadable
        ));
    }
    (!words.is_empty()).then(|| words.join(" "))
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
    let drained = if member.drained { " (drained)" } else { "" };
    let release = member.release.as_deref().unwrap_or("-");
    let text = format!("{:<20} {:<10} {:<8} {address}{drained}", member.name, state, release);
    text.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readings_that_wait_and_readings_that_are_lost_are_told() {
        let waiting = IntakeStatus {
            spooled: 1_234,
            spool_bytes: 50_000,
            spool_bytes_max: 64 << 20,
            ..IntakeStatus::default()
        };
        let told = |readings: IntakeStatus| status(&Status { readings, ..Status::default() });
        assert!(
            told(waiting).contains("1234 readings wait in this board's spool (49 KB of 64 MB)")
        );
        let full =
            IntakeStatus { spool_full: true, thinned: 7, refused: 3, unreadable: 9, ..waiting };
        let told = told(full);
        for words in [
            "which is full (64 MB, spool_mb",
            "7 were given up",
            "3 readings that had",
            "9 readings of",
        ] {
            assert!(told.contains(words), "{told}");
        }
        assert!(!status(&Status::default()).contains("readings"));
    }

    #[test]
    fn what_the_agent_uses_of_its_board_is_shown_and_what_is_too_much_is_said() {
        let budget = |what, used_bytes, over_ms| BudgetStatus {
            what,
            used_bytes,
            bytes_max: 16_000_000,
            over_ms,
        };
        let budgets = vec![
            budget(BudgetKind::Memory, 4_660_000, None),
            budget(BudgetKind::Card, 16_100_000, Some(7_200_000)),
        ];
        let told = status(&Status { budgets, ..Status::default() });
        for words in [
            "budget     memory 4.6 of 16.0 MB, written to the card 16.1 of 16.0 MB a day (in 2 h)\n",
            "A budget is exceeded: the agent has written 16.1 MB to its card in 2 h, and 16.0 are",
        ] {
            assert!(told.contains(words), "{told}");
        }
        let forgets = Some(String::from("its data is in memory (tmpfs)"));
        let told = status(&Status { forgets, ..Status::default() });
        assert!(told.contains("This board forgets: its data is in memory (tmpfs).\n"), "{told}");
        assert!(!status(&Status::default()).contains("udget"));
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
