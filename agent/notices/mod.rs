//! What people are told of by themselves: a command or a web address of theirs gets to
//! know that a board is lost, a sensor silent, a duty elsewhere.
//!
//! What concerns the group is told by the board that leads, so that it is told once; what
//! a leader that dies had yet to tell is missed. That nobody leads is told by every board
//! that finds so, and what concerns a board by that board.
//!
//! Nothing here holds the agent up: [`bell`] takes what it has room for and hands it out
//! on a thread of its own. Left out: telling again what could not be told.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::json;

pub mod bell;
pub mod card;
pub mod moves;
pub mod options;
pub mod rate;
pub mod sensors;

/// What somebody can be told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum What {
    /// A board has ended without being asked to, or cannot be heard.
    #[serde(rename = "board lost")]
    BoardLost,
    /// It is there again.
    #[serde(rename = "board back")]
    BoardBack,
    /// A sensor has reported nothing for so long.
    #[serde(rename = "sensor silent")]
    SensorSilent,
    /// It has reported something.
    #[serde(rename = "sensor back")]
    SensorBack,
    /// Nobody leads for longer than an election takes.
    #[serde(rename = "quorum lost")]
    QuorumLost,
    /// Somebody leads again.
    #[serde(rename = "quorum back")]
    QuorumBack,
    /// Another board than before has a duty.
    #[serde(rename = "duty moved")]
    DutyMoved,
    /// This board's disk is nearly full.
    #[serde(rename = "card filling")]
    CardFilling,
}

impl fmt::Display for What {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // As it is in the configuration and in JSON.
        self.serialize(formatter)
    }
}

/// What happened, to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// What.
    pub what: What,
    /// Name of the group.
    pub group: String,
    /// Name of the board that tells it.
    pub by: String,
    /// When, RFC 3339; empty while that board does not know the time.
    pub time: String,
    /// Name of the board it is about; empty where it is about none.
    pub board: String,
    /// Name of the duty.
    pub duty: String,
    /// That duty's token.
    pub token: Option<u64>,
    /// Name of the sensor.
    pub sensor: String,
    /// In words.
    pub reason: String,
    /// Whose wish it is, if one's alone: the place of its `[[notify]]`.
    pub to: Option<usize>,
}

impl Notice {
    /// For whoever reads JSON; so many of its kind were not told since the last.
    #[must_use]
    pub fn json(&self, dropped: u64) -> String {
        let Self { what, group, by, time, board, duty, token, sensor, reason, to: _ } = self;
        let mut object = json!({"event": what, "group": group, "by": by, "reason": reason});
        for (name, value) in [("time", time), ("board", board), ("duty", duty), ("sensor", sensor)]
        {
            if !value.is_empty() {
                object[name] = json!(value);
            }
        }
        if let Some(token) = token {
            object["token"] = json!(token);
        }
        if dropped > 0 {
            object["dropped"] = json!(dropped);
        }
        object.to_string()
    }

    /// The same for a command, as variables of its environment.
    #[must_use]
    pub fn environment(&self, dropped: u64) -> Vec<(&'static str, String)> {
        let Self { what, group, by, time, board, duty, token, sensor, reason, to: _ } = self;
        let token = token.map(|token| token.to_string()).unwrap_or_default();
        let all = [
            ("UNDERSTUDY_EVENT", what.to_string()),
            ("UNDERSTUDY_GROUP", group.clone()),
            ("UNDERSTUDY_BY", by.clone()),
            ("UNDERSTUDY_TIME", time.clone()),
            ("UNDERSTUDY_BOARD", board.clone()),
            ("UNDERSTUDY_DUTY", duty.clone()),
            ("UNDERSTUDY_TOKEN", token),
            ("UNDERSTUDY_SENSOR", sensor.clone()),
            ("UNDERSTUDY_REASON", reason.clone()),
            ("UNDERSTUDY_DROPPED", dropped.to_string()),
        ];
        // What holds a NUL cannot be handed to a process.
        all.map(|(name, value)| (name, value.replace('\0', ""))).into()
    }
}

#[cfg(test)]
pub(crate) fn sample(what: What) -> Notice {
    Notice {
        what,
        group: String::from("garden"),
        by: String::from("a"),
        time: String::new(),
        board: String::from("b"),
        duty: String::new(),
        token: None,
        sensor: String::new(),
        reason: String::from("unheard for 1.2 s"),
        to: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_is_json_and_an_environment() {
        let moved = Notice { duty: "pump\0".into(), token: Some(8), ..sample(What::DutyMoved) };
        let json: serde_json::Value = serde_json::from_str(&moved.json(0)).unwrap();
        assert_eq!((&json["event"], &json["token"]), (&json!("duty moved"), &json!(8)));
        assert!(json.get("dropped").is_none() && json.get("sensor").is_none(), "{json}");
        assert!(moved.json(3).contains("\"dropped\":3"));
        let environment = moved.environment(3);
        for pair in [("UNDERSTUDY_DUTY", "pump"), ("UNDERSTUDY_DROPPED", "3")] {
            assert!(environment.iter().any(|(name, value)| (*name, &value[..]) == pair));
        }
    }
}
