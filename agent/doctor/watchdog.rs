//! Watchdogs: does systemd start an agent anew that hangs, and the hardware a board?

use std::fs;

use super::{Finding, Place};

const ABOUT: &str = "watchdog";

/// What the kernel says of the board's own.
const OF_BOARD: &str = "sys/class/watchdog/watchdog0";

/// What is advised, and a second less than a watchdog waits for where that is less, milliseconds.
const ADVISED_MS: u64 = 60_000;

/// What a Raspberry Pi's waits for at the most, milliseconds. Linux before [`MENDED`] refuses
/// more, or has the board start anew again and again (systemd/systemd#21949, #27427).
const PI_MS_MAX: u64 = 15_000;

/// From this release of Linux on its kernel does what the hardware cannot
/// (raspberrypi/linux#5838).
const MENDED: (u32, u32) = (6, 8);

/// And yet, until raspberrypi/linux#7432, the hardware waits only for what is left of the time
/// by this one, milliseconds, while Linux answers for it twice in that.
const PI_MS_WRAPPED: u64 = 16_000;

pub(super) fn look(place: &Place<'_>) -> Vec<Finding> {
    if !place.root.join("run/systemd/system").exists() {
        let found = "systemd does not run here: nothing starts an agent anew that hangs";
        let advice = "have what starts it here look whether `GET /readyz` is answered";
        return vec![Finding::look(ABOUT, found, advice)];
    }
    vec![of_agent(place), of_board(place)]
}

fn of_agent(place: &Place<'_>) -> Finding {
    let unit = unit(place);
    let said = (place.ask)("systemctl", &["show", unit, "--property=WatchdogUSec"]);
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
            format!(
                "WatchdogSec=90 and Restart=always in the [Service] part of its unit (`systemctl \
                 edit {unit}`)"
            ),
        ),
    }
}

/// The unit of the package that has this data folder: an instance's folder is named like it.
fn unit<'p>(place: &Place<'p>) -> &'p str {
    let name = place.directory.file_name().and_then(|name| name.to_str());
    name.filter(|name| name.starts_with("understudy@")).unwrap_or("understudy")
}

fn of_board(place: &Place<'_>) -> Finding {
    if !place.root.join("dev/watchdog0").exists() {
        return Finding::ok(ABOUT, "this board has no watchdog of its own");
    }
    let said = (place.ask)("systemctl", &["show", "--property=RuntimeWatchdogUSec"]);
    let set_ms = said.as_deref().and_then(|said| milliseconds(said, "RuntimeWatchdogUSec="));
    let set_ms = set_ms.filter(|ms| *ms > 0);
    if let Some(found) = set_ms.and_then(|ms| too_long(place, ms)) {
        return set(place, found);
    }
    // Whoever has armed it: of others than systemd the kernel alone tells.
    let ms = match (told(place, "state").as_deref(), set_ms) {
        (Some("inactive"), Some(ms)) => return not_armed(ms),
        (Some("active"), _) => seconds(place, "timeout").map(|seconds| seconds * 1_000).or(set_ms),
        (_, set_ms) => set_ms,
    };
    match ms {
        Some(ms) => Finding::ok(
            ABOUT,
            format!("the board starts anew when Linux hangs for {} s", ms / 1_000),
        ),
        None => set(place, "the board does not start anew when Linux hangs"),
    }
}

/// What the kernel says of the board's own.
fn told(place: &Place<'_>, file: &str) -> Option<String> {
    let said = fs::read_to_string(place.root.join(OF_BOARD).join(file)).ok()?;
    Some(said.trim().to_owned())
}

fn seconds(place: &Place<'_>, file: &str) -> Option<u64> {
    told(place, file)?.parse().ok()
}

fn not_armed(ms: u64) -> Finding {
    Finding::look(
        ABOUT,
        format!(
            "the board does not start anew when Linux hangs: RuntimeWatchdogSec is {} s, and yet \
             its watchdog is not armed",
            ms / 1_000
        ),
        "`systemctl daemon-reexec`; `journalctl -b _PID=1 --grep watchdog` says what systemd made \
         of it",
    )
}

/// What it can be told to wait for at the most, milliseconds, where there is a bound.
fn longest_ms(place: &Place<'_>) -> Option<u64> {
    match seconds(place, "max_timeout") {
        Some(0) => None,
        Some(seconds) => Some(seconds * 1_000),
        None => (place.is_pi && !is_mended(place)).then_some(PI_MS_MAX),
    }
}

/// What is wrong with so long a time, if this board's watchdog cannot wait for it.
fn too_long(place: &Place<'_>, ms: u64) -> Option<String> {
    let (seconds, left) = (ms / 1_000, ms % PI_MS_WRAPPED);
    if let Some(longest) = longest_ms(place).filter(|longest| ms > *longest) {
        return Some(format!(
            "RuntimeWatchdogSec is {seconds} s, and this board's watchdog waits for {} s at the \
             most: what is longer has no effect, or has the board start anew again and again",
            longest / 1_000
        ));
    }
    (place.is_pi && ms > PI_MS_MAX && left <= PI_MS_WRAPPED / 2).then(|| {
        format!(
            "RuntimeWatchdogSec is {seconds} s, of which many kernels let this board's watchdog \
             wait for {} s alone: the board may start anew again and again",
            left / 1_000
        )
    })
}

fn set(place: &Place<'_>, found: impl Into<String>) -> Finding {
    let most = longest_ms(place).map_or(ADVISED_MS, |longest| longest.saturating_sub(1_000));
    let advice = format!(
        "RuntimeWatchdogSec={} under [Manager] in /etc/systemd/system.conf.d/watchdog.conf, then \
         `systemctl daemon-reexec`",
        most.clamp(1_000, ADVISED_MS) / 1_000
    );
    Finding::look(ABOUT, found, advice)
}

/// Is the kernel one that lets a Raspberry Pi's watchdog wait for longer than it can?
fn is_mended(place: &Place<'_>) -> bool {
    let release = fs::read_to_string(place.root.join("proc/sys/kernel/osrelease"));
    let release = release.unwrap_or_default();
    let mut numbers = release.split(['.', '-', '+']).map_while(|number| number.parse().ok());
    numbers.next().zip(numbers.next()).is_some_and(|release| release >= MENDED)
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
            (Verdict::Look, "does not start anew when Linux hangs RuntimeWatchdogSec=14 under"),
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
        two(&tree, [wanted[0], (Verdict::Look, "RuntimeWatchdogSec is 20 s, and this")]);
        let other = tree.look(|place| look(&Place { is_pi: false, ..*place }));
        assert_eq!(other[1].0, Verdict::Ok, "{other:?}");
        let bare = Tree::new(&files[..1]).says(agent, "WatchdogUSec=1min\n");
        two(&bare, [wanted[0], (Verdict::Ok, "no watchdog of its own")]);
    }

    #[test]
    fn a_minute_is_right_for_the_pi_where_linux_makes_up_for_it() {
        const OLD: &str = "5.10.103-v7l+\n";
        const NEW: &str = "6.12.25+rpt-rpi-v8\n";
        let board = "systemctl show --property=RuntimeWatchdogUSec";
        for (kernel, shown, verdict, words) in [
            (NEW, "RuntimeWatchdogUSec=1min\n", Verdict::Ok, "hangs for 60 s"),
            (NEW, "RuntimeWatchdogUSec=14s\n", Verdict::Ok, "hangs for 14 s"),
            (NEW, "RuntimeWatchdogUSec=1min 40s\n", Verdict::Look, "wait for 4 s alone"),
            (NEW, "RuntimeWatchdogUSec=0\n", Verdict::Look, "RuntimeWatchdogSec=60 under"),
            (OLD, "RuntimeWatchdogUSec=1min\n", Verdict::Look, "RuntimeWatchdogSec=14 under"),
        ] {
            let files = [("dev/watchdog0", ""), ("proc/sys/kernel/osrelease", kernel)];
            let tree = Tree::new(&files).says(board, shown);
            tree.finds(|place| vec![of_board(place)], verdict, words);
        }
    }

    #[test]
    fn the_kernel_says_how_long_a_watchdog_waits_and_whether_it_is_armed() {
        const MIN: &str = "RuntimeWatchdogUSec=1min\n";
        const NONE: &str = "RuntimeWatchdogUSec=0\n";
        let board = "systemctl show --property=RuntimeWatchdogUSec";
        for (most, state, shown, verdict, words) in [
            ("16", "inactive", NONE, Verdict::Look, "RuntimeWatchdogSec=15 under"),
            ("16", "active", MIN, Verdict::Look, "waits for 16 s at the most"),
            ("16", "active", NONE, Verdict::Ok, "hangs for 12 s"),
            ("16", "active", "RuntimeWatchdogUSec=16s\n", Verdict::Ok, "hangs for 12 s"),
            ("1", "inactive", NONE, Verdict::Look, "RuntimeWatchdogSec=1 under"),
            ("0", "inactive", NONE, Verdict::Look, "RuntimeWatchdogSec=60 under"),
            ("0", "inactive", MIN, Verdict::Look, "is 60 s, and yet its watchdog is not armed"),
            ("0", "active", "RuntimeWatchdogUSec=infinity\n", Verdict::Ok, "hangs for 12 s"),
            ("128", "active", MIN, Verdict::Ok, "hangs for 12 s"),
        ] {
            let tree = Tree::new(&[("dev/watchdog0", "")]).says(board, shown);
            for (file, text) in [("max_timeout", most), ("state", state), ("timeout", "12")] {
                tree.put(&format!("{OF_BOARD}/{file}"), &format!("{text}\n"));
            }
            let look = |place: &Place<'_>| vec![of_board(&Place { is_pi: false, ..*place })];
            tree.finds(look, verdict, words);
        }
        let files = [("dev/watchdog0", ""), ("sys/class/watchdog/watchdog0/max_timeout", "0\n")];
        let tree = Tree::new(&files).says(board, MIN);
        tree.finds(|place| vec![of_board(place)], Verdict::Ok, "hangs for 60 s");
    }

    #[test]
    fn an_instance_is_asked_for_by_its_own_unit() {
        let of = |directory: &str| {
            let unit = |place: &Place<'_>| {
                unit(&Place { directory: std::path::Path::new(directory), ..*place }).to_owned()
            };
            Tree::new(&[]).look(|place| vec![Finding::ok(ABOUT, unit(place))])[0].1.clone()
        };
        assert_eq!(of("/var/lib/understudy"), "watchdog: understudy ");
        assert_eq!(of("/var/lib/understudy@pond"), "watchdog: understudy@pond ");
        assert_eq!(of("/srv/data"), "watchdog: understudy ");
    }
}
