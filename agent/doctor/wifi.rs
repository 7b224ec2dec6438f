//! Wi-Fi's power save: round trips of seconds now and then.

use super::{Finding, Place};
use crate::links;

const ABOUT: &str = "Wi-Fi";

pub(super) fn look(place: &Place<'_>) -> Vec<Finding> {
    let interfaces = links::wireless(&place.root.join("sys/class/net"));
    interfaces.iter().map(|name| of(place, name)).collect()
}

fn of(place: &Place<'_>, name: &str) -> Finding {
    let words = ["dev", name, "get", "power_save"];
    let said = links::IW.iter().find_map(|iw| (place.ask)(iw, &words));
    match said.as_deref().map(links::says_power_save) {
        Some(true) => Finding::look(
            ABOUT,
            format!("{name} saves power: a round trip takes up to 2.8 s now and then"),
            format!(
                "`iw dev {name} set power_save off`, at each start (NetworkManager: \
                 wifi.powersave = 2), or the slower profile: `understudy set profile wifi`"
            ),
        ),
        Some(false) => Finding::ok(ABOUT, format!("{name} saves no power")),
        None => Finding::look(
            ABOUT,
            format!(
                "whether {name} saves power is not known: there is no `iw`, or it says nothing"
            ),
            "apt-get install iw",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::{Verdict, rig::Tree};

    #[test]
    fn power_save_is_worth_a_look_where_there_is_wifi() {
        let files = [
            ("sys/class/net/wlan0/wireless/link", ""),
            ("sys/class/net/wlan0/operstate", "up\n"),
            ("sys/class/net/eth0/type", "1\n"),
            ("sys/class/net/eth0/operstate", "up\n"),
        ];
        let asked = "/usr/sbin/iw dev wlan0 get power_save";
        let tree = || Tree::new(&files);
        tree().finds(look, Verdict::Look, "is not known");
        tree().says(asked, "Power save: on\n").finds(look, Verdict::Look, "wlan0 saves power: a");
        let tree = tree().says(asked, "Power save: off\n");
        tree.finds(look, Verdict::Ok, "wlan0 saves no power");
        tree.put("sys/class/net/wlan0/operstate", "down\n");
        assert!(tree.look(look).is_empty());
    }
}
