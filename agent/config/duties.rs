//! `[[duty]]`: what TOML allows there and no board can do, with where it stands.

use std::{collections::BTreeSet, ops::Range};

use toml::Spanned;
use understudy_core::{limits::DUTIES_MAX, member::check_name};

use crate::{driver::post, hold::task::Task};

/// Longest grace, milliseconds.
const GRACE_MS_MAX: u64 = 3_600_000;

/// Can these be kept?
///
/// # Errors
/// Where it stands that they cannot, and why.
pub(super) fn check(duties: &[Spanned<Task>]) -> Result<(), (Range<usize>, String)> {
    let mut names = BTreeSet::new();
    for (place, duty) in duties.iter().enumerate() {
        let task = duty.get_ref();
        let at = |reason| (duty.span(), format!("[[duty]] {:?}: {reason}", task.name));
        check_task(task).map_err(at)?;
        if !names.insert(&task.name) {
            return Err(at(String::from("this board does one thing for a duty: it is here twice")));
        }
        if place >= DUTIES_MAX {
            return Err(at(format!("a board keeps {DUTIES_MAX} commands at most")));
        }
    }
    Ok(())
}

fn check_task(task: &Task) -> Result<(), String> {
    check_name("duty", &task.name).map_err(|refusal| refusal.to_string())?;
    if task.command.is_empty() {
        return Err(String::from("command = [] is none"));
    }
    let Task { command, on_take, on_lose, .. } = task;
    for (key, command) in [("command", command), ("on_take", on_take), ("on_lose", on_lose)] {
        check_command(key, command)?;
    }
    check_user(task.user.as_deref())?;
    if task.grace_ms > GRACE_MS_MAX {
        return Err(format!("grace_ms = {}: 0 to {GRACE_MS_MAX} are possible", task.grace_ms));
    }
    if task.failures == 0 {
        return Err(String::from("failures = 0: 1 or more are possible"));
    }
    if let Some(webhook) = &task.webhook {
        post::url(webhook).map_err(|reason| format!("webhook: {reason}"))?;
    }
    Ok(())
}

/// Can this be a command line?
///
/// # Errors
/// Says why not, by its key.
pub(super) fn check_command(key: &str, command: &[String]) -> Result<(), String> {
    if command.first().is_some_and(|program| !program.starts_with('/')) {
        return Err(format!("{key} = {:?}: it begins with an absolute path", command[0]));
    }
    match command.iter().any(|word| word.contains('\0')) {
        true => Err(format!("{key}: no command line has a NUL in it")),
        false => Ok(()),
    }
}

/// Can this be a user?
///
/// # Errors
/// Says what one is.
pub(super) fn check_user(user: Option<&str>) -> Result<(), String> {
    match user.is_some_and(|user| user.is_empty() || user.contains([':', '\0', '\n'])) {
        true => Err(String::from("user is a user's name, or number")),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Config;

    #[test]
    fn what_is_kept_is_read_with_its_defaults() {
        let text = "[[duty]]\nname = \"pump\"\ncommand = [\"/bin/pump\", \"x y\"]\nuser = \"pi\"\n";
        let tasks = Config::parse(text).unwrap().tasks();
        let pump = &tasks[0];
        assert_eq!(
            (tasks.len(), pump.name.as_str(), pump.user.as_deref()),
            (1, "pump", Some("pi"))
        );
        assert_eq!((pump.command[1].as_str(), pump.grace_ms, pump.failures), ("x y", 5_000, 5));
        assert!(pump.on_take.is_empty() && pump.on_lose.is_empty() && pump.webhook.is_none());
    }

    #[test]
    fn what_no_board_can_do_is_named_with_its_line() {
        let pump = "name = \"pump\"\ncommand = [\"/bin/pump\"]\n";
        for (text, words) in [
            (
                format!("[[duty]]\n{pump}\n[[duty]]\n{pump}"),
                "line 5: [[duty]] \"pump\": this board",
            ),
            (
                format!("[[duty]]\n{pump}unit = \"pump.service\""),
                "line 4: unit: a service of systemd waits",
            ),
            (String::from("[[duty]]\nname = \"pump\""), "missing field `command`"),
            (String::from("[[duty]]\ncommand = [\"/bin/pump\"]"), "missing field `name`"),
            (
                String::from("\n[[duty]]\nname = \"a\"\ncommand = []"),
                "line 2: [[duty]] \"a\": command",
            ),
            (String::from("[[duty]]\nname = \"a b\"\ncommand = [\"/x\"]"), "without blanks"),
            (String::from("[[duty]]\nname = \"a\"\ncommand = \"/x\""), "line 3: invalid type"),
            (String::from("[[duty]]\nname = \"a\"\ncommand = [\"x\"]"), "an absolute path"),
            (
                format!("[[duty]]\n{pump}on_take = [\"led\", \"on\"]"),
                "on_take = \"led\": it begins",
            ),
            (format!("[[duty]]\n{pump}on_lose = [\"/led\", \"\\u0000\"]"), "on_lose: no command"),
            (format!("[[duty]]\n{pump}user = \"\""), "user is a user's name"),
            (format!("[[duty]]\n{pump}grace_ms = 3600001"), "grace_ms = 3600001: 0 to 3600000"),
            (format!("[[duty]]\n{pump}grace_ms = -1"), "line 4: invalid value"),
            (format!("[[duty]]\n{pump}failures = 0"), "failures = 0"),
            (format!("[[duty]]\n{pump}webhook = \"https://a/\""), "webhook: it is http://"),
            (format!("[duty]\n{pump}"), "line 1: invalid type: map, expected a sequence"),
        ] {
            let error = Config::parse(&text).unwrap_err();
            assert!(error.contains(words), "{words}: {error}");
        }
        let many: String = (0..33)
            .map(|i| format!("[[duty]]\nname = \"d{i}\"\ncommand = [\"/bin/pump\"]\n"))
            .collect();
        let error = Config::parse(&many).unwrap_err();
        assert!(error.contains("line 97: [[duty]] \"d32\": a board keeps 32"), "{error}");
    }
}
