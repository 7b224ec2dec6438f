//! Do datagrams get to the other boards, and back? Of each direction by itself, and of large
//! ones apart from small ones, as probes told (`probe`).

use understudy_core::limits::DATAGRAM_BYTES_MAX;

use super::Finding;
use crate::{
    control::ProbedBoard,
    probe::{Count, Probed},
};

/// Lost of a hundred: more than this is worth a look, and more than that no road.
const LOOK_PERCENT: u32 = 5;
const FAULT_PERCENT: u32 = 40;

/// A round trip of which half take longer is long for a network nearby, microseconds.
const LONG_US: u64 = 100_000;

/// What is found of the other boards.
#[must_use]
pub fn peers(boards: &[ProbedBoard]) -> Vec<Finding> {
    boards.iter().map(of_board).collect()
}

fn of_board(board: &ProbedBoard) -> Finding {
    let ProbedBoard { board: name, heard, probed } = board;
    let Probed { small, large } = probed;
    if small.back == 0 && large.back == 0 {
        return silent(name, *heard);
    }
    let found = words(probed);
    let of_large = DATAGRAM_BYTES_MAX;
    const SIZE: &str = "a tunnel, VPN or mesh on the way takes less: set its MTU to 1,280 at the \
                        least, or let the boards meet at a broker (`transport = \"both\"`)";
    if large.there == 0 {
        let found =
            format!("datagrams of {of_large} bytes do not get there, small ones do; {found}");
        return Finding::fault(name, found, SIZE);
    }
    if large.back == 0 {
        let found =
            format!("datagrams of {of_large} bytes do not come from there, small ones do; {found}");
        return Finding::fault(name, found, SIZE);
    }
    let lost = [small, large].map(|count| [lost_there(*count), lost_back(*count)]);
    let most = lost.iter().flatten().copied().max().unwrap_or(0);
    const LOSS: &str = "look at the signal (`understudy board`: wifi/signal), at cables and at \
                        what else fills the network; the group bears it, and gets slower";
    match most {
        most if most > FAULT_PERCENT => Finding::fault(name, found, LOSS),
        most if most > LOOK_PERCENT => Finding::look(name, found, LOSS),
        _ if small.trips_us.is_some_and(|(_, median, _)| median > LONG_US) => Finding::look(
            name,
            format!("round trips are long; {found}"),
            "Wi-Fi that saves power, here or there (`understudy doctor` there says so), or a slow \
             link: `understudy set profile wifi`, or radio",
        ),
        _ => Finding::ok(name, found),
    }
}

/// It answers nothing.
fn silent(name: &str, heard: Option<bool>) -> Finding {
    match heard {
        Some(true) => Finding::look(
            name,
            "it is there and answers no probes",
            "it may run an older version of understudy, which knows none: update it; or what this \
             board sends does not get there (`understudy doctor` there)",
        ),
        Some(false) => Finding::fault(
            name,
            "nothing comes back from it, and it is not heard",
            "is it on, and its agent running (`understudy status` there)? If so, what lies between \
             lets no UDP pass: the port of its `understudy status`, both ways; or let the boards \
             meet at a broker (`transport = \"both\"`)",
        ),
        None => Finding::fault(
            name,
            "nothing comes back from it",
            "`understudy status` on the board that leads says whether that one hears it: if so, \
             what lies between this board and it lets no UDP pass, or it runs an older version",
        ),
    }
}

fn percent(lost: u16, of: u16) -> u32 {
    (u32::from(lost) * 100).checked_div(u32::from(of)).unwrap_or(0)
}

fn lost_there(count: Count) -> u32 {
    percent(count.sent.saturating_sub(count.there), count.sent)
}

fn lost_back(count: Count) -> u32 {
    percent(count.there.saturating_sub(count.back), count.there)
}

fn words(probed: &Probed) -> String {
    let of = |count: &Count| {
        let Count { sent, there, back, .. } = count;
        match there {
            0 => format!("none of {sent} came there"),
            _ => format!("{there} of {sent} came there, {back} of {there} back{}", trips(count)),
        }
    };
    format!("{}; of {DATAGRAM_BYTES_MAX} bytes {}", of(&probed.small), of(&probed.large))
}

fn trips(count: &Count) -> String {
    let ms = |us: u64| format!("{}.{}", us / 1_000, us % 1_000 / 100);
    count.trips_us.map_or_else(String::new, |(least, median, most)| {
        format!(" in {} ms ({} to {})", ms(median), ms(least), ms(most))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict;

    fn count(sent: u16, there: u16, back: u16, ms: u64) -> Count {
        let trips_us = (back > 0).then_some((ms * 500, ms * 1_000, ms * 2_000));
        Count { sent, there, back, trips_us }
    }

    fn found(heard: Option<bool>, small: Count, large: Count) -> (Verdict, String) {
        let probed = Probed { small, large };
        let found = of_board(&ProbedBoard { board: String::from("b"), heard, probed });
        (found.verdict, format!("{} {}", found.found, found.advice.unwrap_or_default()))
    }

    #[test]
    fn what_is_wrong_between_two_boards_is_said_with_its_direction() {
        let all = count(25, 25, 25, 1);
        for (heard, small, large, verdict, words) in [
            (
                Some(true),
                all,
                count(20, 20, 20, 2),
                Verdict::Ok,
                "25 of 25 came there, 25 of 25 back in 1.0 ms (0.5 to 2.0); of 1200 bytes 20 of 20",
            ),
            (
                Some(true),
                all,
                count(20, 0, 0, 0),
                Verdict::Fault,
                "datagrams of 1200 bytes do not get there, small ones do; 25 of 25",
            ),
            (
                Some(true),
                all,
                count(20, 20, 0, 0),
                Verdict::Fault,
                "datagrams of 1200 bytes do not come from there, small ones do; 25 of 25",
            ),
            (
                Some(true),
                count(25, 22, 22, 1),
                count(20, 20, 20, 1),
                Verdict::Look,
                "look at the signal",
            ),
            (Some(true), all, count(20, 20, 18, 1), Verdict::Look, "18 of 20 back"),
            (Some(true), all, count(20, 10, 10, 1), Verdict::Fault, "10 of 20 came there"),
            (Some(true), count(25, 25, 24, 1), count(20, 20, 20, 1), Verdict::Ok, "24 of 25 back"),
            (
                Some(true),
                count(25, 25, 25, 150),
                count(20, 20, 20, 200),
                Verdict::Look,
                "round trips are long; 25 of 25",
            ),
            (
                Some(true),
                count(25, 0, 0, 0),
                count(20, 0, 0, 0),
                Verdict::Look,
                "answers no probes",
            ),
            (Some(false), count(25, 0, 0, 0), count(20, 0, 0, 0), Verdict::Fault, "is it on"),
            (None, count(25, 0, 0, 0), count(20, 0, 0, 0), Verdict::Fault, "board that leads says"),
        ] {
            let (is, told) = found(heard, small, large);
            assert!(is == verdict && told.contains(words), "{words}: {is:?} {told}");
        }
    }
}
