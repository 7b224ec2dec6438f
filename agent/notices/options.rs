//! `[[notify]]` of a board's configuration: who is told of what, and how.

use serde::Deserialize;

use super::What;
use crate::driver::post;

/// How many a board has.
const NOTIFY_MAX: usize = 16;

/// Words of a command.
const WORDS_MAX: usize = 64;

/// One `[[notify]]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NotifyConfig {
    /// Of what.
    pub on: Vec<What>,
    /// A program and its arguments.
    #[serde(default)]
    pub command: Vec<String>,
    /// Or an address that JSON is sent to by POST.
    pub webhook: Option<String>,
    /// Which sensors are to report: a name, or a pattern with `*`, `?` and `[...]`.
    pub sensor: Option<String>,
    /// One that reports nothing for so long is silent, seconds.
    pub silent_s: Option<u64>,
    /// A command is killed, and an address given up, after so long, seconds.
    #[serde(default = "timeout_s")]
    pub timeout_s: u64,
    /// Of each kind no more than so many are told within a minute.
    #[serde(default = "per_minute")]
    pub per_minute: usize,
}

const fn timeout_s() -> u64 {
    10
}

const fn per_minute() -> usize {
    6
}

/// A commented example, for the end of a sample.
pub const SAMPLE: &str = "
# Somebody is told of what happens: the command gets it in its environment
# (UNDERSTUDY_EVENT, _BOARD, _DUTY, _TOKEN, _SENSOR, _REASON, _TIME) and as JSON on
# standard input; instead of it, `webhook = \"http://HOST:PORT/PATH\"` gets that JSON by
# POST. What concerns the group is told by the board that leads: every board needs this
# part. There can be several.
#[[notify]]
#on = [\"board lost\", \"board back\", \"duty moved\", \"quorum lost\", \"quorum back\", \"card filling\"]
#command = [\"/usr/local/bin/tell\", \"garden\"]
# It is killed after so long, and of each kind no more than so many are told in a minute.
#timeout_s = 10
#per_minute = 6

# Sensors by name or pattern, each of which is to report within that time.
#[[notify]]
#on = [\"sensor silent\", \"sensor back\"]
#sensor = \"greenhouse/*\"
#silent_s = 120
#command = [\"/usr/local/bin/tell\", \"garden\"]
";

/// Are these ones that a board can be started with? Else the key, and why not.
///
/// # Errors
/// The key that is wrong, and how it should be.
pub fn check(all: &[NotifyConfig]) -> Result<(), (&'static str, String)> {
    if all.len() > NOTIFY_MAX {
        return Err((
            "on",
            format!("there are {} [[notify]], {NOTIFY_MAX} are possible", all.len()),
        ));
    }
    all.iter().try_for_each(NotifyConfig::check)
}

impl NotifyConfig {
    fn check(&self) -> Result<(), (&'static str, String)> {
        if self.on.is_empty() {
            return Err(("on", String::from("on names nothing that is to be told")));
        }
        let refused = |key: &'static str, words: &str| Err((key, format!("{key}: {words}")));
        match (&self.command[..], &self.webhook) {
            ([], None) => return refused("on", "who is told? `command` or `webhook` says so"),
            ([_, ..], Some(_)) => return refused("webhook", "a [[notify]] has this or `command`"),
            ([], Some(url)) => {
                post::url(url).map_err(|words| ("webhook", format!("webhook: {words}")))?;
            }
            (words, None) if words.len() > WORDS_MAX || words[0].is_empty() => {
                return refused("command", "it is a program and at most 63 arguments");
            }
            (words, None) if words.iter().any(|word| word.contains('\0')) => {
                return refused("command", "no word of it can hold a NUL");
            }
            (_, None) => {}
        }
        let is_of_sensors =
            self.on.iter().any(|what| matches!(what, What::SensorSilent | What::SensorBack));
        match (is_of_sensors, &self.sensor, self.silent_s) {
            (true, Some(sensor), Some(_)) if sensor.is_empty() || sensor.len() > 256 => {
                return refused("sensor", "it has 1 to 256 bytes");
            }
            (true, Some(_), Some(5..=2_592_000)) | (false, None, None) => {}
            (true, Some(_), Some(_)) => {
                return refused("silent_s", "5 to 2592000 seconds are possible");
            }
            (true, ..) => return refused("on", "`sensor` and `silent_s` say which, and how long"),
            (false, ..) => {
                return refused(
                    "on",
                    "`sensor` and `silent_s` go with \"sensor silent\" or \"sensor back\"",
                );
            }
        }
        if !(1..=300).contains(&self.timeout_s) {
            return refused("timeout_s", "1 to 300 seconds are possible");
        }
        if !(1..=600).contains(&self.per_minute) {
            return refused("per_minute", "1 to 600 are possible");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct File {
        notify: Vec<NotifyConfig>,
    }

    fn checked(text: &str) -> Result<Vec<NotifyConfig>, String> {
        let file: File = toml::from_str(text).map_err(|error| error.message().to_owned())?;
        check(&file.notify).map_err(|(_, words)| words)?;
        Ok(file.notify)
    }

    #[test]
    fn the_sample_is_valid_without_its_marks() {
        let lines = SAMPLE.lines().map(|line| line.trim_start_matches('#'));
        let keys = lines
            .filter(|line| line.contains(" = ") && !line.contains('`') || line.starts_with('['));
        let all = checked(&keys.collect::<Vec<_>>().join("\n")).unwrap();
        assert_eq!((all.len(), all[0].on.len(), all[1].silent_s), (2, 6, Some(120)));
        assert_eq!((all[1].timeout_s, all[1].per_minute), (timeout_s(), per_minute()));
        assert!(SAMPLE.lines().all(|line| line.is_empty() || line.starts_with('#')));
    }

    #[test]
    fn what_cannot_be_meant_is_named() {
        let lost = "[[notify]]\non = [\"board lost\"]\n";
        let silent = "[[notify]]\non = [\"sensor silent\"]\ncommand = [\"x\"]\n";
        for (text, words) in [
            (String::from("[[notify]]\non = [\"rain\"]"), "unknown variant `rain`"),
            (String::from("[[notify]]\non = []\ncommand = [\"x\"]"), "on names nothing"),
            (lost.to_owned(), "who is told?"),
            (format!("{lost}command = [\"\"]"), "a program"),
            (format!("{lost}command = [\"a\", \"b\\u0000\"]"), "NUL"),
            (format!("{lost}command = [\"x\"]\nwebhook = \"http://a/\""), "has this or"),
            (format!("{lost}webhook = \"https://a/\""), "such as curl"),
            (format!("{lost}webhook = \"a/\""), "http://HOST[:PORT]/PATH"),
            (format!("{lost}command = [\"x\"]\nsensor = \"a\""), "go with"),
            (silent.to_owned(), "say which"),
            (format!("{silent}sensor = \"a\"\nsilent_s = 4"), "5 to 2592000"),
            (format!("{silent}sensor = \"\"\nsilent_s = 5"), "1 to 256 bytes"),
            (format!("{lost}command = [\"x\"]\ntimeout_s = 0"), "1 to 300"),
            (format!("{lost}command = [\"x\"]\nper_minute = 0"), "1 to 600"),
            (format!("{lost}command = [\"x\"]\n").repeat(17), "17 [[notify]]"),
        ] {
            let error = checked(&text).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
        assert!(checked(&format!("{silent}sensor = \"a*\"\nsilent_s = 5")).is_ok());
    }
}
