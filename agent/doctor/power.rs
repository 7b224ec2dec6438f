//! Undervoltage and heat, as a Raspberry Pi tells of them.

use understudy_boards::{Source, sources};

use super::{Finding, Place};

const ABOUT: &str = "power";

/// Bits of what the firmware cuts back now. From bit 16 on it says the same of the time before,
/// which is nothing to go by in what Linux shows: it clears those every 2 s, as it looks at them.
/// For `vcgencmd` the firmware keeps them until the next start (raspberrypi/linux#2367).
const UNDERVOLTAGE: u32 = 1;
const HOT: u32 = 1 << 1 | 1 << 2 | 1 << 3;
const WAS_UNDERVOLTAGE: u32 = UNDERVOLTAGE << 16;

const SUPPLY: &str = "a stronger supply, a shorter and thicker cable, fewer devices on USB: a board \
                      whose voltage falls corrupts cards and starts anew by itself";

/// From here on a Raspberry Pi is slowed down, degrees Celsius.
const HOT_C: f64 = 80.0;

pub(super) fn look(place: &Place<'_>) -> Vec<Finding> {
    let sources = sources(place.root);
    let value = |is_it: &dyn Fn(&str) -> bool| {
        let source = sources.iter().find(|source: &&Source| is_it(&source.name))?;
        source.read().ok()
    };
    let alarm = value(&|name| name.starts_with("hwmon/rpi_volt") && name.ends_with("_alarm"));
    // Newer kernels complain in their log of whoever reads this.
    let cut = alarm.is_none().then(|| value(&|name| name == "firmware/throttled")).flatten();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it was read as a u32"
    )]
    let cut = cut.map(|cut| cut as u32);
    let told = told(place);
    if alarm.is_none() && cut.is_none() && told.is_none() {
        return Vec::new();
    }
    let cut = cut.unwrap_or(0) | told.unwrap_or(0);
    let is_low = alarm.is_some_and(|alarm| alarm > 0.0) || cut & UNDERVOLTAGE != 0;
    let heat = value(&|name| name == "thermal/cpu-thermal");
    let is_hot = heat.is_some_and(|heat| heat >= HOT_C) || cut & HOT != 0;
    let is_known = place.board.is_known();
    let now = of(is_low, is_hot, !is_known || place.board.tells("hwmon/rpi_volt/"));
    let was_low = !is_low && told.is_some_and(|told| told & WAS_UNDERVOLTAGE != 0);
    let before = was_low.then(|| {
        Finding::look(
            ABOUT,
            "the voltage has been too low at some time since the machine started",
            SUPPLY,
        )
    });
    [now].into_iter().chain(before).collect()
}

/// What the firmware tells the program that asks it, for those who may.
fn told(place: &Place<'_>) -> Option<u32> {
    let said = place.is_pi.then(|| (place.ask)("vcgencmd", &["get_throttled"])).flatten()?;
    u32::from_str_radix(said.trim().strip_prefix("throttled=0x")?, 16).ok()
}

fn of(is_low: bool, is_hot: bool, tells: bool) -> Finding {
    if is_low {
        return Finding::fault(ABOUT, "the voltage is too low right now", SUPPLY);
    }
    if is_hot {
        let found = "the board is slowed down: it is too hot";
        return Finding::look(ABOUT, found, "a heat sink, or air");
    }
    if !tells {
        return Finding::ok(ABOUT, "not too hot; this board cannot tell a voltage that is too low");
    }
    Finding::ok(ABOUT, "the voltage is high enough now, and it is not too hot")
}

#[cfg(test)]
mod tests {
    use understudy_boards::board;

    use super::*;
    use crate::doctor::{Verdict, rig::Tree};

    #[test]
    fn too_little_voltage_is_told_whichever_file_says_so() {
        assert!(Tree::new(&[]).look(look).is_empty(), "a board that tells nothing of it");
        let tree = Tree::new(&[
            ("sys/class/hwmon/hwmon1/name", "rpi_volt\n"),
            ("sys/class/hwmon/hwmon1/in0_lcrit_alarm", "0\n"),
        ]);
        tree.finds(look, Verdict::Ok, "high enough now");
        let zero = board::all().unwrap().into_iter().find(|board| board.key == "pi-zero-w");
        let zero = zero.unwrap();
        let at_zero = |place: &Place<'_>| look(&Place { board: &zero, ..*place });
        tree.finds(at_zero, Verdict::Ok, "cannot tell a voltage");
        tree.put("sys/class/thermal/thermal_zone0/type", "cpu-thermal\n");
        tree.put("sys/class/thermal/thermal_zone0/temp", "79900\n");
        tree.finds(look, Verdict::Ok, "not too hot");
        tree.put("sys/class/thermal/thermal_zone0/temp", "80100\n");
        tree.finds(look, Verdict::Look, "it is too hot");
        tree.finds(at_zero, Verdict::Look, "it is too hot");
        tree.put("sys/class/hwmon/hwmon1/in0_lcrit_alarm", "1\n");
        tree.finds(look, Verdict::Fault, "too low right now a stronger supply");
        const CUT: &str =
            "sys/bus/platform/drivers/raspberrypi-firmware/soc:firmware/get_throttled";
        for (cut, verdict, words) in [
            ("0x0", Verdict::Ok, "high enough"),
            ("50005", Verdict::Fault, "right now"),
            ("50000", Verdict::Ok, "high enough now"),
            ("0x20002", Verdict::Look, "it is too hot"),
        ] {
            let tree = Tree::new(&[(CUT, cut)]);
            tree.finds(look, verdict, words);
        }
    }

    #[test]
    fn the_file_that_kernels_complain_of_is_read_where_there_is_no_other_alone() {
        let tree = Tree::new(&[
            ("sys/class/hwmon/hwmon1/name", "rpi_volt\n"),
            ("sys/class/hwmon/hwmon1/in0_lcrit_alarm", "0\n"),
            ("sys/bus/platform/drivers/raspberrypi-firmware/soc:firmware/get_throttled", "5"),
        ]);
        tree.finds(look, Verdict::Ok, "high enough now");
    }

    #[test]
    fn voltage_that_was_too_low_is_told_by_the_firmware_until_the_next_start() {
        const ASKED: &str = "vcgencmd get_throttled";
        let alarm = [
            ("sys/class/hwmon/hwmon1/name", "rpi_volt\n"),
            ("sys/class/hwmon/hwmon1/in0_lcrit_alarm", "0\n"),
        ];
        let tree = Tree::new(&alarm).says(ASKED, "throttled=0x50000\n");
        let found = tree.look(look);
        assert!(found[0].0 == Verdict::Ok && found[0].1.contains("high enough now"), "{found:?}");
        assert!(
            found[1].0 == Verdict::Look && found[1].1.contains("has been too low"),
            "{found:?}"
        );
        let elsewhere = tree.look(|place| look(&Place { is_pi: false, ..*place }));
        assert_eq!(elsewhere.len(), 1);
        for (said, verdict, words) in [
            ("throttled=0x0\n", Verdict::Ok, "high enough now"),
            ("throttled=0x50005\n", Verdict::Fault, "right now a stronger supply"),
            ("throttled=0x80008\n", Verdict::Look, "it is too hot"),
            ("error=1\n", Verdict::Ok, "high enough now"),
        ] {
            Tree::new(&alarm).says(ASKED, said).finds(look, verdict, words);
        }
        Tree::new(&[]).says(ASKED, "throttled=0x0\n").finds(look, Verdict::Ok, "high enough now");
    }
}
