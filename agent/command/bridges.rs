//! What `status` says of the parts that the agent plays at brokers: what is wrong with one in
//! a sentence, and a line with what came of it.

use std::fmt::Write as _;

use crate::status::BridgeStatus;

/// A sentence for each that has trouble.
pub(super) fn troubles(all: &[BridgeStatus]) -> String {
    let mut out = String::new();
    for BridgeStatus { duty, broker, connected, trouble, .. } in all {
        let _ = match (trouble, connected) {
            (Some(why), false) => {
                writeln!(out, "The broker {broker} of the duty {duty} is not there: {why}.")
            }
            (Some(why), true) => writeln!(out, "The duty {duty} at the broker {broker}: {why}."),
            (None, _) => Ok(()),
        };
    }
    out
}

/// A line for each.
pub(super) fn lines(all: &[BridgeStatus]) -> String {
    let mut out = String::new();
    for bridge in all {
        let BridgeStatus { duty, broker, does, messages, readings, refused, .. } = bridge;
        let waits = if bridge.connected { "" } else { ", not now" };
        let _ = write!(
            out,
            "{does:<10} {broker} ({duty}{waits}): {messages} messages, {readings} readings, \
             {refused} refused"
        );
        if let Some(why) = &bridge.refusal {
            let _ = write!(out, ", the last: {why}");
        }
        if let Some(place) = &bridge.place {
            let _ = write!(out, ", up to {place}");
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_a_sentence_and_what_came_of_it_a_line() {
        let fine = BridgeStatus {
            duty: "mqtt-in".into(),
            broker: "hub:1883".into(),
            does: "subscribe".into(),
            connected: true,
            messages: 7,
            readings: 12,
            ..BridgeStatus::default()
        };
        assert_eq!(troubles(std::slice::from_ref(&fine)), "");
        let away = BridgeStatus {
            connected: false,
            trouble: Some("it cannot be reached".into()),
            refused: 2,
            refusal: Some("a/b: it is empty".into()),
            ..fine.clone()
        };
        let strict = BridgeStatus { connected: true, ..away.clone() };
        assert_eq!(
            troubles(&[fine.clone(), away.clone(), strict]),
            "The broker hub:1883 of the duty mqtt-in is not there: it cannot be reached.\n\
             The duty mqtt-in at the broker hub:1883: it cannot be reached.\n"
        );
        assert_eq!(
            lines(&[fine, away]),
            "subscribe  hub:1883 (mqtt-in): 7 messages, 12 readings, 0 refused\n\
             subscribe  hub:1883 (mqtt-in, not now): 7 messages, 12 readings, 2 refused, \
             the last: a/b: it is empty\n"
        );
    }
}
