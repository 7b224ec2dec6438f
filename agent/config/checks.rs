//! `[[check]]`: what TOML allows there and no board can do, with where it stands.

use std::{collections::BTreeSet, ops::Range};

use toml::Spanned;
use understudy_core::member::check_name;

use super::duties::{check_command, check_user};
use crate::checks::{CHECKS_MAX, Check};

/// Successes or failures in a row that can be asked for.
const ROW_MAX: u32 = 100;

/// Longest interval, seconds.
const INTERVAL_S_MAX: u64 = 3_600;

/// Can these be run, on a board that can do this without them?
///
/// # Errors
/// Where it stands that they cannot, and why.
pub(super) fn check(
    checks: &[Spanned<Check>],
    capabilities: &[String],
) -> Result<(), (Range<usize>, String)> {
    let mut names = BTreeSet::new();
    for (place, spanned) in checks.iter().enumerate() {
        let check = spanned.get_ref();
        let at = |reason| (spanned.span(), format!("[[check]] {:?}: {reason}", check.name));
        check_one(check).map_err(at)?;
        if capabilities.contains(&check.name) {
            return Err(at(String::from(
                "`capabilities` names it too: a board can do it always, or as its check says",
            )));
        }
        if !names.insert(&check.name) {
            return Err(at(String::from("a capability has one check: it is here twice")));
        }
        if place >= CHECKS_MAX {
            return Err(at(format!("a board has {CHECKS_MAX} checks at most")));
        }
    }
    Ok(())
}

fn check_one(check: &Check) -> Result<(), String> {
    check_name("capability", &check.name).map_err(|refusal| refusal.to_string())?;
    let Check { command, user, interval_s, rise, fall, .. } = check;
    if command.is_empty() {
        return Err(String::from("command = [] is none"));
    }
    check_command("command", command)?;
    check_user(user.as_deref())?;
    if !(1..=INTERVAL_S_MAX).contains(interval_s) {
        return Err(format!("interval_s = {interval_s}: 1 to {INTERVAL_S_MAX} are possible"));
    }
    let timeout_s = check.timeout_s();
    if !(1..=*interval_s).contains(&timeout_s) {
        return Err(format!(
            "timeout_s = {timeout_s}: 1 to {interval_s} are possible, its interval_s"
        ));
    }
    for (key, row) in [("rise", rise), ("fall", fall)] {
        if !(1..=ROW_MAX).contains(row) {
            return Err(format!("{key} = {row}: 1 to {ROW_MAX} are possible"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::Config;

    #[test]
    fn a_check_is_read_with_its_defaults() {
        let text = "[[check]]\nname = \"lte\"\ncommand = [\"/bin/ping\", \"hub\"]\nuser = \"pi\"\n";
        let checks = Config::parse(text).unwrap().checks();
        let lte = &checks[0];
        assert_eq!((lte.name.as_str(), lte.user.as_deref()), ("lte", Some("pi")));
        assert_eq!((lte.interval_s, lte.timeout_s(), lte.rise, lte.fall), (10, 5, 2, 3));
        let often = Config::parse(&format!("{text}interval_s = 2")).unwrap().checks();
        assert_eq!(often[0].timeout_s(), 2, "no longer than its interval");
    }

    #[test]
    fn what_no_board_can_run_is_named_with_its_line() {
        let lte = "name = \"lte\"\ncommand = [\"/bin/lte\"]\n";
        for (text, words) in [
            (format!("[[check]]\n{lte}\n[[check]]\n{lte}"), "line 5: [[check]] \"lte\": a capab"),
            (
                format!("capabilities = [\"lte\"]\n[[check]]\n{lte}"),
                "line 2: [[check]] \"lte\": `capabilities` names it too",
            ),
            (String::from("[[check]]\nname = \"lte\""), "missing field `command`"),
            (String::from("[[check]]\nname = \"a b\"\ncommand = [\"/x\"]"), "without blanks"),
            (String::from("[[check]]\nname = \"a\"\ncommand = []"), "command = [] is none"),
            (
                String::from("\n[[check]]\nname = \"a\"\ncommand = [\"ping\"]"),
                "line 2: [[check]] \"a\": command = \"ping\": it begins with an absolute path",
            ),
            (format!("[[check]]\n{lte}user = \"a:b\""), "user is a user's name"),
            (format!("[[check]]\n{lte}interval_s = 0"), "interval_s = 0: 1 to 3600"),
            (format!("[[check]]\n{lte}interval_s = 3601"), "interval_s = 3601: 1 to 3600"),
            (
                format!("[[check]]\n{lte}interval_s = 3\ntimeout_s = 5"),
                "timeout_s = 5: 1 to 3 are possible",
            ),
            (format!("[[check]]\n{lte}timeout_s = 0"), "timeout_s = 0: 1 to 10"),
            (format!("[[check]]\n{lte}rise = 0"), "rise = 0: 1 to 100"),
            (format!("[[check]]\n{lte}fall = 101"), "fall = 101: 1 to 100"),
            (format!("[[check]]\n{lte}weight = 1"), "line 4: unknown field `weight`"),
        ] {
            let error = Config::parse(&text).unwrap_err();
            assert!(error.contains(words), "{words}: {error}");
        }
        let many: String = (0..17)
            .map(|i| format!("[[check]]\nname = \"c{i}\"\ncommand = [\"/bin/lte\"]\n"))
            .collect();
        let error = Config::parse(&many).unwrap_err();
        assert!(error.contains("line 49: [[check]] \"c16\": a board has 16"), "{error}");
    }
}
