//! Does the board know the time, and will it after a start without a network?

use super::{Finding, Place};

const ABOUT: &str = "clock";

pub(super) fn look(place: &Place<'_>) -> Vec<Finding> {
    let clocks = std::fs::read_dir(place.root.join("sys/class/rtc"));
    let has_rtc = clocks.is_ok_and(|mut clocks| clocks.next().is_some());
    vec![match (place.is_synchronised, has_rtc) {
        (true, true) => Finding::ok(
            ABOUT,
            "it follows a time server, and one of its own may run without power (a Pi 5's with its battery)",
        ),
        (true, false) => Finding::ok(
            ABOUT,
            "it follows a time server; none runs without power, so after a start readings wait \
             for that server with their times",
        ),
        (false, true) => Finding::look(
            ABOUT,
            "it follows no time server; it was set, if at all, from one of its own",
            "`timedatectl set-ntp true`; `understudy clock` says whether the agent takes it for \
             set",
        ),
        (false, false) => Finding::look(
            ABOUT,
            "it follows no time server, and none runs without power: the time may be anything",
            "`timedatectl set-ntp true`, or set it (`timedatectl set-time`) and `understudy clock \
             confirm`; until then readings are kept in order, and put right later",
        ),
    }]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::{Verdict, rig::Tree};

    #[test]
    fn a_clock_is_fine_when_a_time_server_sets_it() {
        let with = Tree::new(&[("sys/class/rtc/rtc0/hctosys", "1\n")]);
        let without = Tree::new(&[]);
        let synced = |place: &Place<'_>| look(&Place { is_synchronised: true, ..*place });
        with.finds(synced, Verdict::Ok, "may run without power");
        without.finds(synced, Verdict::Ok, "none runs without power, so");
        with.finds(look, Verdict::Look, "set-ntp true");
        without.finds(look, Verdict::Look, "the time may be anything");
    }
}
