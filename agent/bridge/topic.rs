//! Topics of what is told, as templates: `understudy/{group}/reading/{sensor}`.
//!
//! A name goes in as it is, slashes included, so that `greenhouse/temp` is two levels; what
//! no topic may have in it becomes `_`, with a sum of the name behind it.

use understudy_boards::board::fits;

/// Longest template, and filter, bytes.
pub const BYTES_MAX: usize = 256;

/// A template, known to be one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic(String);

impl Topic {
    /// A template with these placeholders in it, any number of times; none where the text is
    /// empty.
    ///
    /// # Errors
    /// Names what is no topic.
    pub fn parse(key: &str, text: &str, names: &[&str]) -> Result<Option<Self>, String> {
        if text.is_empty() {
            return Ok(None);
        }
        let wrong = |why: &str| Err(format!("{key} = {text:?}: {why}"));
        if text.len() > BYTES_MAX {
            return wrong(&format!("a topic has at most {BYTES_MAX} bytes"));
        }
        if text.contains(['+', '#', '\0']) || text.starts_with('$') {
            return wrong("a topic has no + and no #, and does not begin with $");
        }
        let mut rest = text.to_owned();
        for name in names {
            rest = rest.replace(&format!("{{{name}}}"), "");
        }
        match rest.contains(['{', '}']) {
            true => wrong(&format!("in braces stands {}", names.join(" or "))),
            false => Ok(Some(Self(text.to_owned()))),
        }
    }

    /// Could a topic of this template be one of that, whatever stands for these names?
    #[must_use]
    pub fn meets(&self, other: &Self, names: &[&str]) -> bool {
        let is_one = |all: &Self, one: &Self| {
            fits(&all.filled_alike(names, "*"), &one.filled_alike(names, "x"))
        };
        is_one(self, other) || is_one(other, self)
    }

    /// Could a filter match a topic of this template, whatever of one or two levels stands for
    /// these names?
    #[must_use]
    pub fn is_heard_by(&self, filter: &str, names: &[&str]) -> bool {
        let is_matched = |value| rumqttc::matches(&self.filled_alike(names, value), filter);
        is_matched("x") || is_matched("x/x")
    }

    /// With the same in all places.
    fn filled_alike(&self, names: &[&str], value: &str) -> String {
        let with: Vec<(&str, &str)> = names.iter().map(|name| (*name, value)).collect();
        self.filled(&with)
    }

    /// Does it tell things of this name apart?
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.0.contains(&format!("{{{name}}}"))
    }

    /// The topic, with these in their places.
    #[must_use]
    pub fn filled(&self, with: &[(&str, &str)]) -> String {
        let mut rest = self.0.as_str();
        let mut topic = String::with_capacity(rest.len());
        // What was put in is never looked at again.
        while let Some((before, after)) = rest.split_once('{') {
            topic.push_str(before);
            let (name, after) = after.split_once('}').unwrap_or((after, ""));
            let value =
                with.iter().find(|(known, _)| *known == name).map_or("", |(_, value)| value);
            topic.push_str(&level(value));
            rest = after;
        }
        topic.push_str(rest);
        if topic.starts_with('$') {
            topic.replace_range(..1, "_");
        }
        topic
    }
}

/// A name as a topic may have it: one that has to be changed for that is told from what it
/// now looks like.
fn level(name: &str) -> String {
    // Neither wildcards nor what no text may have in it (MQTT 3.1.1, 1.5.3).
    let is_fine = |c: char| {
        let code = u32::from(c);
        let is_character = code & 0xfffe != 0xfffe && !(0xfdd0..=0xfdef).contains(&code);
        is_character && !c.is_control() && c != '+' && c != '#'
    };
    let fine: String = name.chars().map(|c| if is_fine(c) { c } else { '_' }).collect();
    match fine == name {
        true => fine,
        false => format!("{fine}_{:08x}", crc32c::crc32c(name.as_bytes())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_into_their_places_and_stay_what_they_are() {
        let topic = Topic::parse("readings", "a/{group}/{sensor}", &["group", "sensor"]);
        let topic = topic.unwrap().unwrap();
        assert!(topic.has("sensor") && !topic.has("duty"));
        assert_eq!(topic.filled(&[("group", "g"), ("sensor", "hall/temp")]), "a/g/hall/temp");
        let tricky = topic.filled(&[("group", "{sensor}"), ("sensor", "a+b #1\u{7}")]);
        assert!(tricky.starts_with("a/{sensor}/a_b _1__"), "{tricky}");
        let changed = level("a+b");
        assert!(changed.starts_with("a_b_") && changed != level("a#b"), "{changed}");
        assert!(!level("\u{fdd0}\u{1ffff}").contains(['\u{fdd0}', '\u{1ffff}']));
        let bare = Topic::parse("readings", "{sensor}", &["sensor"]).unwrap().unwrap();
        assert_eq!(bare.filled(&[("sensor", "$SYS")]), "_SYS");
    }

    #[test]
    fn what_is_no_topic_is_named() {
        assert_eq!(Topic::parse("duties", "", &["duty"]), Ok(None));
        let long = "x".repeat(257);
        for (text, words) in [
            ("a/+/b", "no +"),
            ("a/#", "no +"),
            ("$a", "begin with $"),
            ("a/{board}", "in braces stands group or duty"),
            ("a/{duty", "in braces stands"),
            (&long, "at most 256"),
        ] {
            let error = Topic::parse("duties", text, &["group", "duty"]).unwrap_err();
            assert!(error.starts_with("duties = ") && error.contains(words), "{error}");
        }
    }
}
