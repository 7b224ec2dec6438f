//! What is told to the world, and on which topics, as the configuration has it.

use super::{Group, topic::Topic};

/// What can stand in braces.
const NAMES: [&str; 4] = ["group", "tag", "sensor", "duty"];

/// What is told, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    readings: Option<Topic>,
    duties: Option<Topic>,
    availability: Topic,
    /// What Home Assistant's discovery topics begin with, if it is to know.
    pub home_assistant: Option<String>,
    /// It calls a sensor unavailable that was not heard for so long, seconds.
    pub expire_after_s: Option<u64>,
}

impl Publication {
    /// On topics of these templates, each by its key.
    ///
    /// # Errors
    /// Names the key that is wrong, and why.
    pub fn new(
        [readings, duties, availability]: [&str; 3],
        (home_assistant, expire_after_s): (Option<&str>, Option<u64>),
    ) -> Result<Self, String> {
        let group = ["group", "tag"];
        let publication = Self {
            readings: Topic::parse("readings", readings, &["group", "tag", "sensor"])?,
            duties: Topic::parse("duties", duties, &["group", "tag", "duty"])?,
            availability: Topic::parse("availability", availability, &group)?
                .ok_or("availability = \"\": it is where the publisher says that it is there")?,
            home_assistant: home_assistant.map(String::from),
            expire_after_s,
        };
        let prefix = Topic::parse("home_assistant", home_assistant.unwrap_or("-"), &[])?;
        if prefix.is_none() {
            return Err(String::from("home_assistant = \"\": it is its prefix, or is not there"));
        }
        let apart = |topic: &Option<Topic>, name| {
            topic.as_ref().is_none_or(|topic| topic.has(name)) || home_assistant.is_none()
        };
        for (key, is_so, name) in [
            ("readings", apart(&publication.readings, "sensor"), "sensor"),
            ("duties", apart(&publication.duties, "duty"), "duty"),
        ] {
            if !is_so {
                return Err(format!("{key}: Home Assistant needs {{{name}}} in it"));
            }
        }
        let Self { readings, duties, availability, .. } = &publication;
        let all = [("readings", readings.as_ref()), ("duties", duties.as_ref())];
        for (key, topic) in all.into_iter().filter_map(|(key, topic)| Some((key, topic?))) {
            let others = [Some(availability), duties.as_ref().filter(|_| key == "readings")];
            if others.into_iter().flatten().any(|other| topic.meets(other, &NAMES)) {
                return Err(format!("{key}: one of these could be another topic of [publish]"));
            }
        }
        Ok(publication)
    }

    /// Could somebody who subscribes to this hear some of it?
    #[must_use]
    pub fn is_heard_by(&self, filter: &str) -> bool {
        let topics = [self.readings.as_ref(), self.duties.as_ref(), Some(&self.availability)];
        topics.into_iter().flatten().any(|topic| topic.is_heard_by(filter, &NAMES))
    }

    /// Where readings of a sensor are told, if any are.
    #[must_use]
    pub fn reading_topic(&self, group: &Group, sensor: &str) -> Option<String> {
        let topic = self.readings.as_ref()?;
        let with = [("group", group.name.as_str()), ("tag", &group.tag), ("sensor", sensor)];
        Some(topic.filled(&with))
    }

    /// Where it is told who has a duty, if it is.
    #[must_use]
    pub fn duty_topic(&self, group: &Group, duty: &str) -> Option<String> {
        let topic = self.duties.as_ref()?;
        let with = [("group", group.name.as_str()), ("tag", &group.tag), ("duty", duty)];
        Some(topic.filled(&with))
    }

    /// Where whoever tells all that says whether it is there.
    #[must_use]
    pub fn availability_topic(&self, group: &Group) -> String {
        self.availability.filled(&[("group", &group.name), ("tag", &group.tag)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(topics: [&str; 3], home_assistant: Option<&str>) -> String {
        Publication::new(topics, (home_assistant, None)).unwrap_err()
    }

    #[test]
    fn topics_that_tell_nothing_apart_are_named() {
        let fine = ["r/{sensor}", "d/{duty}", "a/{group}"];
        assert!(Publication::new(fine, (Some("homeassistant"), None)).is_ok());
        assert!(Publication::new(["r", "", "a"], (None, None)).is_ok());
        assert!(wrong(["r", "d/{duty}", "a"], Some("h")).contains("readings: Home Assistant"));
        assert!(wrong(["r/{sensor}", "d", "a"], Some("h")).contains("duties: Home Assistant"));
        assert!(wrong(["r", "d", ""], None).contains("availability = \"\""));
        assert!(wrong(["r/{board}", "d", "a"], None).contains("group or tag or sensor"));
        assert!(wrong(["u/{sensor}", "d/{duty}", "u/there"], None).contains("readings: one of"));
        assert!(wrong(["r/{sensor}", "{duty}/x", "a"], None).contains("readings: one of"));
        assert!(wrong(fine, Some("")).contains("home_assistant"));
        assert!(wrong(fine, Some("h/+")).contains("home_assistant"));
    }
}
