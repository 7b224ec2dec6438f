//! Undervoltage and heat, as a Raspberry Pi tells of them.

use understudy_boards::{Source, sources};

use super::{Finding, Place};

const ABOUT: &str = "power";

/// Bits of what the firmware has cut back: now, and from bit 16 on since the start.
const UNDERVOLTAGE: u32 = 1;
const HOT: u32 = 1 << 1 | 1 << 2 | 1 << 3;

pub(super) fn look(place: &Place<'_>) -> Vec<Finding> {
    let sources = sources(place.root);
    let value = |is_it: &dyn Fn(&str) -> bool| {
        let source = sources.iter().find(|source: &&Source| is_it(&source.name))?;
        source.read().ok()
    };
    let alarm = value(&|name| name.starts_with("hwmon/rpi_volt") && name.ends_with("_alarm"));
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it was read as a u32"
    )]
    let cut = value(&|name| name == "firmware/throttled").map(|cut| cut as u32);
    if alarm.is_none() && cut.is_none() {
        return Vec::new();
    }
    vec![of(alarm.is_some_and(|alarm| alarm > 0.0), cut.unwrap_or(0))]
}

fn of(is_low: bool, cut: u32) -> Finding {
    const SUPPLY: &str = "a stronger supply, a shorter and thicker cable, fewer devices on USB: a \
                          board whose voltage falls corrupts cards and starts anew by itself";
    const COOL: &str = "a heat sink, or air";
    let (now, before) = (cut & 0xffff, cut >> 16);
    if is_low || now & UNDERVOLTAGE != 0 {
        return Finding::fault(ABOUT, "the voltage is too low right now", SUPPLY);
    }
    if before & UNDERVOLTAGE != 0 {
        let found = "the voltage has been too low since this board was started";
        return Finding::look(ABOUT, found, SUPPLY);
    }
    if now & HOT != 0 {
        return Finding::look(ABOUT, "the board is slowed down: it is too hot", COOL);
    }
    if before & HOT != 0 {
        let found = "the board has been slowed down by heat since it was started";
        return Finding::look(ABOUT, found, COOL);
    }
    Finding::ok(ABOUT, "the voltage has been high enough")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::{Verdict, rig::Tree};

    #[test]
    fn too_little_voltage_is_told_whichever_file_says_so() {
        assert!(Tree::new(&[]).look(look).is_empty(), "a board that tells nothing of it");
        let tree = Tree::new(&[
            ("sys/class/hwmon/hwmon1/name", "rpi_volt\n"),
            ("sys/class/hwmon/hwmon1/in0_lcrit_alarm", "0\n"),
        ]);
        tree.finds(look, Verdict::Ok, "high enough");
        tree.put("sys/class/hwmon/hwmon1/in0_lcrit_alarm", "1\n");
        tree.finds(look, Verdict::Fault, "too low right now a stronger supply");
        const CUT: &str =
            "sys/bus/platform/drivers/raspberrypi-firmware/soc:firmware/get_throttled";
        for (cut, verdict, words) in [
            ("0x0", Verdict::Ok, "high enough"),
            ("50005", Verdict::Fault, "right now"),
            ("50000", Verdict::Look, "has been too low"),
            ("0x20002", Verdict::Look, "it is too hot"),
            ("80000", Verdict::Look, "slowed down by heat"),
        ] {
            let tree = Tree::new(&[(CUT, cut)]);
            tree.finds(look, verdict, words);
        }
    }
}
