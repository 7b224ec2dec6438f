//! Answers as people read them: first one plain sentence, then the detail.

use std::fmt::Write as _;

use understudy_core::sql::{SqlResponse, StatementOutcome, Value};

use super::value_of;
use crate::{
    control::ControlResponse,
    settings,
    status::{MemberStatus, Status},
};

pub(super) fn init(group: &str, answer: &ControlResponse) {
    println!("The group {group} is made; this board is its first member.");
    println!("On each other board run `understudy join` with this token. Keep it secret:");
    println!("who has it can read and write everything.");
    token(answer);
}

pub(super) fn token(answer: &ControlResponse) {
    if let ControlResponse::Token(token) = answer {
        println!("{token}");
    }
}

pub(super) fn joined(answer: &ControlResponse) {
    let ControlResponse::Joined { group, name, wished, members } = answer else { return };
    println!("This board is {name}, a member of the group {group} ({members} boards).");
    if name != wished {
        println!("The name {wished} was taken; `understudy rename NAME` changes it.");
    }
    if *members == 2 {
        println!(
            "All data is on both boards; nothing takes over yet when one dies: add a third board."
        );
    }
}

pub(super) fn settings(stored: &[(String, String)]) {
    for setting in &settings::ALL {
        println!("{} = {}", setting.name, value_of(stored, setting));
        println!("    {}", setting.doc);
    }
}

/// Prints results; true when none failed.
pub(super) fn sql(response: &SqlResponse) -> bool {
    let mut fine = true;
    for result in &response.results {
        match &result.outcome {
            StatementOutcome::Rows { columns, rows, .. } => print!("{}", table(columns, rows)),
            StatementOutcome::Changed { rows_affected, .. } => {
                println!("{rows_affected} rows changed");
            }
            StatementOutcome::Error(reason) => {
                fine = false;
                eprintln!("error: {reason}");
            }
        }
    }
    if let Some(error) = &response.error {
        fine = false;
        eprintln!("error: {error}");
    }
    fine
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
    if !status.members.is_empty() {
        out.push_str("\nboards\n");
        for member in &status.members {
            let _ = writeln!(out, "  {}", member_line(member));
        }
    }
    out
}

fn member_line(member: &MemberStatus) -> String {
    let state = match (member.leader, member.reachable) {
        (true, _) => "leads",
        (false, true) => "follows",
        (false, false) => "not heard",
    };
    let address = member.address.as_deref().unwrap_or("-");
    let text = format!("{:<20} {:<10} {address}", member.name, state);
    text.trim_end().to_owned()
}

/// What works, what is wrong, what to do.
fn sentence(status: &Status) -> String {
    if status.role == "waiting" {
        return String::from(
            "Waiting: this board belongs to no group yet. Run `understudy init` on the first \
             board, `understudy join TOKEN` on every other.",
        );
    }
    if status.disk_lost {
        return String::from(
            "This board's disk has forgotten what it promised: it takes no part any more. Its \
             data is safe on the others; empty this board's directory and join it anew.",
        );
    }
    if status.disk_full {
        return String::from(
            "The disk is full: reading works, writing does not. Make room; it goes on by itself.",
        );
    }
    let silent: Vec<&str> = status
        .members
        .iter()
        .filter(|member| !member.reachable)
        .map(|member| member.name.as_str())
        .collect();
    let voters = status.members.iter().filter(|member| member.voter).count();
    let Some(leader) = &status.leader else {
        return without_leader(status, &silent, voters);
    };
    if !silent.is_empty() {
        return format!(
            "Everything works, led by {leader}, but {} cannot be heard: see to it, the group \
             stands fewer losses until it is back.",
            silent.join(", ")
        );
    }
    match status.members.len() {
        1 => String::from(
            "Everything works on this board alone: nothing is copied yet. Run `understudy token` \
             here and `understudy join TOKEN` on another board.",
        ),
        2 => format!(
            "Everything works, led by {leader}: all data is on both boards, but nothing takes \
             over when one dies. Add a third board."
        ),
        boards => format!(
            "Everything works: {boards} boards, led by {leader}; the group stands the loss of {}.",
            (voters - 1) / 2
        ),
    }
}

fn without_leader(status: &Status, silent: &[&str], voters: usize) -> String {
    if status.confirming_disk {
        return String::from(
            "Starting: this board asks the others whether its disk is whole, then takes part.",
        );
    }
    let needed = voters / 2 + 1;
    let heard = voters - silent.len().min(voters);
    if heard < needed {
        return format!(
            "No majority: {} cannot be heard, and {needed} of {voters} boards are needed. Reading \
             what this board has works (level none), writing does not. Bring a board back.",
            silent.join(", ")
        );
    }
    String::from(
        "The boards are choosing a leader: this takes about a second. Where it lasts, some of \
         them cannot hear each other.",
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
        let waiting = Status { role: "waiting".into(), ..Status::default() };
        for (status, words) in [
            (three(true), "3 boards, led by a; the group stands the loss of 1"),
            (three(false), "c cannot be heard"),
            (alone, "understudy join TOKEN"),
            (two, "Add a third board"),
            (cut.clone(), "2 of 3 boards are needed"),
            (waiting, "understudy init"),
        ] {
            let text = super::status(&status);
            let first = text.lines().next().unwrap();
            assert!(first.contains(words), "{first}");
        }
        cut.disk_lost = true;
        assert!(sentence(&cut).contains("join it anew"));
        cut.disk_lost = false;
        cut.disk_full = true;
        assert!(sentence(&cut).contains("Make room"));
    }

    #[test]
    fn a_table_is_as_wide_as_its_widest_cell() {
        let rows = vec![vec![Value::Integer(1), Value::Text(b"greenhouse".to_vec())]];
        let text = table(&["id".into(), "name".into()], &rows);
        assert_eq!(text, "id  name\n--  ----------\n1   greenhouse\n");
    }
}
