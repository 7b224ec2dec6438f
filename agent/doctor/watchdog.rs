//! Watchdogs: does systemd start an agent anew that hangs, and the hardware a board?

use super::{Finding, Place};

const ABOUT: &str = "watchdog";

/// What a Raspberry Pi's waits for at the most, milliseconds: what is longer newer kernels make
/// up for; with older ones it has no effect, or has the board start anew again and again.
const PI_MS_MAX: u64 = 15_000;

pub(super) fn look(place: &Place<'_>) -> Vec<Finding> {
    if !place.root.join("run/systemd/system").exists() {
        let found = "systemd does not run here: nothing starts an agent anew that hangs";
        let advice = "have what starts it here look whether `GET /readyz` is answered";
        return vec![Finding::look(ABOUT, found, advice)];
    }
    vec![of_agent(place), of_board(place)]
}

fn of_agent(place: &Place<'_>) -> Finding {
    let said = (place.ask)("systemctl", &["show", "understudy", "--property=WatchdogUSec"]);
    match said.as_deref().and_then(|said| milliseconds(said, "WatchdogUSec=")) {
        Some(ms) if ms > 0 => Finding::ok(
            ABOUT,
            format!(
                "systemd starts the agent anew when it gets on with nothing for {} s",
                ms / 1_000
            ),
        ),
        Some(_) | None => Finding::look(
            ABOUT,
            "systemd does not start the agent anew when it hangs",
            "WatchdogSec=90 and Restart=always in the [Service] part of its unit (`systemctl edit \
             understudy`)",
        ),
    }
}

fn of_board(place: &Place<'_>) -> Finding {
    if !place.root.join("dev/watchdog0").exists() {
        return Finding::ok(ABOUT, "this board has no watchdog of its own");
    }
    let said = (place.ask)("systemctl", &["show", "--property=RuntimeWatchdogUSec"]);
    const SET: &str = "RuntimeWatchdogSec=14 under [Manager] in \
                       /etc/systemd/system.conf.d/watchdog.conf, then `systemctl daemon-reexec`";
    match said.as_deref().and_then(|said| milliseconds(said, "RuntimeWatchdogUSec=")) {
        Some(ms) if ms > PI_MS_MAX && place.is_pi => Finding::look(
            ABOUT,
            format!(
                "RuntimeWatchdogSec is {} s, and this board's watchdog waits for 15 s at the most: \
                 a newer kernel makes up for that, an older one does not",
                ms / 1_000
            ),
            SET,
        ),
        Some(ms) if ms > 0 => Finding::ok(
            ABOUT,
            format!("the board starts anew when Linux hangs for {} s", ms / 1_000),
        ),
        Some(_) | None => {
            Finding::look(ABOUT, "the board does not start anew when Linux hangs", SET)
        }
    }
}

/// As systemd shows a time: `14s`, `1min 30s`, `0`, `infinity`; the last two are none.
fn milliseconds(said: &str, name: &str) -> Option<u64> {
    let shown = said.lines().find_map(|line| line.strip_prefix(name))?.trim();
    let part = |word: &str| {
        let end = word.find(|c: char| !c.is_ascii_digit()).unwrap_or(word.len());
        let (number, unit) = word.split_at(end);
        let number = number.parse::<u64>().ok()?;
        match unit {
            "us" | "" => Some(number / 1_000),
            "ms" => Some(number),
            "s" => Some(number * 1_000),
            "min" => Some(number * 60_000),
            "h" => Some(number * 3_600_000),
            "d" => Some(number * 86_400_000),
            _ => None,
        }
    };
    shown.split_whitespace().map(part).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::{Verdict, rig::Tree};

    #[test]
    fn times_are_read_as_systemd_shows_them() {
        for (shown, ms) in [
            ("14s", Some(14_000)),
            ("1min 30s", Some(90_000)),
            ("0", Some(0)),
            ("500ms", Some(500)),
            ("infinity", None),
            ("", Some(0)),
        ] {
            assert_eq!(milliseconds(&format!("X=1s\nWatchdogUSec={shown}\n"), "WatchdogUSec="), ms);
        }
        assert_eq!(milliseconds("other", "WatchdogUSec="), None);
    }

    fn two(tree: &Tree, wanted: [(Verdict, &str); 2]) {
        for ((verdict, words), (is, found)) in wanted.into_iter().zip(tree.look(look)) {
            assert!(is == verdict && found.contains(words), "{words}: {found}");
        }
    }

    #[test]
    fn what_starts_nothing_anew_is_worth_a_look() {
        Tree::new(&[]).finds(look, Verdict::Look, "systemd does not run here");
        let files = [("run/systemd/system/x", ""), ("dev/watchdog0", "")];
        let wanted = [
            (Verdict::Look, "does not start the agent anew when it hangs WatchdogSec=90"),
            (Verdict::Look, "the board does not start anew when Linux hangs"),
        ];
        two(&Tree::new(&files), wanted);
        let agent = "systemctl show understudy --property=WatchdogUSec";
        let board = "systemctl show --property=RuntimeWatchdogUSec";
        let tree = || Tree::new(&files).says(agent, "WatchdogUSec=1min\n");
        let wanted = [
            (Verdict::Ok, "when it gets on with nothing for 60 s"),
            (Verdict::Ok, "the board starts anew when Linux hangs for 14 s"),
        ];
        two(&tree().says(board, "RuntimeWatchdogUSec=14s\n"), wanted);
        let tree = tree().says(board, "RuntimeWatchdogUSec=20s\n");
        two(&tree, [wanted[0], (Verdict::Look, "RuntimeWatchdogSec is 20 s")]);
        let other = tree.look(|place| look(&Place { is_pi: false, ..*place }));
        assert_eq!(other[1].0, Verdict::Ok, "{other:?}");
        let bare = Tree::new(&files[..1]).says(agent, "WatchdogUSec=1min\n");
        two(&bare, [wanted[0], (Verdict::Ok, "no watchdog of its own")]);
    }
}
