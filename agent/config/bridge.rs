//! `[[subscribe]]` and `[publish]`: what the agent does at brokers for others than boards,
//! what TOML allows there and no board can do, and where that stands.

use std::{collections::BTreeMap, ops::Range};

use serde::Deserialize;
use toml::Spanned;
use understudy_core::member::check_name;

use super::{BrokerConfig, Config};
use crate::{
    bridge::{Does, Part, inward::Subscription, publication::Publication, template, topic},
    readings::moment::Unit,
};

/// Subscriptions of a board: each is one of a broker's.
const SUBSCRIPTIONS_MAX: usize = 32;

/// `[[subscribe]]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubscribeConfig {
    /// Messages of these topics, as MQTT has filters.
    topic: String,
    /// At which `[[broker]]`, by its url; the first otherwise.
    #[serde(default)]
    broker: Option<String>,
    /// Of the boards that hold this duty one does it.
    #[serde(default = "duty_in")]
    duty: String,
    /// The sensor's name, as a template.
    #[serde(default)]
    sensor: Option<String>,
    /// Paths into JSON; a message is one plain value where there are none.
    #[serde(default)]
    values: Vec<String>,
    /// Path to the time that the message is of.
    #[serde(default)]
    time: Option<String>,
    /// What its numbers are in: `s`, `ms`, `us` or `ns`.
    #[serde(default)]
    precision: Option<String>,
    /// 1 where the broker is to keep messages until they are taken.
    #[serde(default = "qos")]
    qos: u8,
}

/// `[publish]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishConfig {
    /// At which `[[broker]]`, by its url; the first otherwise.
    #[serde(default)]
    broker: Option<String>,
    /// Of the boards that hold this duty one does it.
    #[serde(default = "duty_out")]
    duty: String,
    /// Topic of a reading, as a template; none where it is empty.
    #[serde(default = "readings")]
    readings: String,
    /// Topic of a duty, likewise.
    #[serde(default = "duties")]
    duties: String,
    /// Topic on which the publisher says that it is there.
    #[serde(default = "availability")]
    availability: String,
    /// What Home Assistant's discovery topics begin with.
    #[serde(default)]
    home_assistant: Option<String>,
    /// Home Assistant calls a sensor unavailable after so long without a reading, seconds.
    #[serde(default)]
    expire_after_s: Option<u64>,
}

fn duty_in() -> String {
    String::from("mqtt-in")
}

fn duty_out() -> String {
    String::from("mqtt-out")
}

const fn qos() -> u8 {
    1
}

fn readings() -> String {
    String::from("understudy/{group}/reading/{sensor}")
}

fn duties() -> String {
    String::from("understudy/{group}/duty/{duty}")
}

fn availability() -> String {
    String::from("understudy/{group}/available")
}

impl SubscribeConfig {
    fn check(&self) -> Result<Subscription, String> {
        let Self { topic, duty, sensor, values, time, qos, precision, .. } = self;
        check_name("duty", duty).map_err(|refusal| refusal.to_string())?;
        if topic.is_empty() || topic.len() > topic::BYTES_MAX || !rumqttc::valid_filter(topic) {
            let words = "a level is a word, + for any one, or at the end # for all below";
            return Err(format!("topic = {topic:?} is no filter: {words}"));
        }
        if *qos > 1 {
            return Err(format!("qos = {qos}: 0 and 1 are possible"));
        }
        if topic.starts_with("$share/") {
            let words = "of the boards that hold the duty only one subscribes: no need to share";
            return Err(format!("topic = {topic:?}: {words}"));
        }
        let unit = match precision.as_deref() {
            None => Unit::Second,
            Some(_) if time.is_none() => return Err(String::from("precision is that of `time`")),
            Some(name) => Unit::named(name)
                .ok_or_else(|| format!("precision = {name:?}: it is s, ms, us or ns"))?,
        };
        let time = time.as_deref().map(|time| (time, unit));
        Subscription::new(topic, sensor.as_deref(), values, time, *qos == 1)
    }
}

impl PublishConfig {
    fn check(&self) -> Result<Publication, String> {
        let Self { duty, readings, duties, availability, home_assistant, .. } = self;
        check_name("duty", duty).map_err(|refusal| refusal.to_string())?;
        let known = (home_assistant.as_deref(), self.expire_after_s);
        if self.expire_after_s == Some(0) {
            return Err(String::from("expire_after_s = 0: 1 or more are possible"));
        }
        Publication::new([readings, duties, availability], known)
    }
}

/// The broker of this url, or the first.
fn broker<'b>(
    brokers: &'b [Spanned<BrokerConfig>],
    url: Option<&str>,
) -> Result<&'b BrokerConfig, String> {
    let mut all = brokers.iter().map(Spanned::get_ref);
    match url {
        None => all.next().ok_or_else(|| String::from("there is no [[broker]] to do it at")),
        Some(url) => all
            .find(|broker| broker.url == url)
            .ok_or_else(|| format!("broker = {url:?}: there is no [[broker]] with that url")),
    }
}

/// Can these be done?
///
/// # Errors
/// Where it stands that they cannot, and why.
pub(super) fn check(config: &Config) -> Result<(), (Range<usize>, String)> {
    let mut duties = BTreeMap::new();
    for task in &config.duties {
        duties.insert(task.get_ref().name.clone(), String::from("[[duty]]"));
    }
    for (place, subscribe) in config.subscribe.iter().enumerate() {
        let at = |reason| (subscribe.span(), format!("[[subscribe]] {reason}"));
        let one = subscribe.get_ref();
        let broker = broker(&config.brokers, one.broker.as_deref()).map_err(at)?;
        one.check().map_err(at)?;
        let before = duties.entry(one.duty.clone()).or_insert_with(|| broker.url.clone());
        if *before != broker.url {
            let reason = format!("the duty {} is for {before} already: name another", one.duty);
            return Err(at(reason));
        }
        let others = config.subscribe[..place].iter().map(Spanned::get_ref);
        let mut others = others.filter(|other| other.duty == one.duty);
        if let Some(other) = others.find(|other| template::overlap(&other.topic, &one.topic)) {
            let (topic, other) = (&one.topic, &other.topic);
            let reason = format!(
                "topic = {topic:?}: some of that is of {other:?} as well, and its readings would \
                 be two"
            );
            return Err(at(reason));
        }
        if place >= SUBSCRIPTIONS_MAX {
            return Err(at(format!("a board has {SUBSCRIPTIONS_MAX} subscriptions at most")));
        }
    }
    if let Some(publish) = &config.publish {
        let at = |reason| (publish.span(), format!("[publish] {reason}"));
        let one = publish.get_ref();
        broker(&config.brokers, one.broker.as_deref()).map_err(at)?;
        let publication = one.check().map_err(at)?;
        let filters = config.subscribe.iter().map(Spanned::get_ref);
        if let Some(own) = filters.map(|it| &it.topic).find(|it| publication.is_heard_by(it)) {
            return Err(at(format!(
                "what is told would be subscribed to: [[subscribe]] topic = {own:?}"
            )));
        }
        if let Some(before) = duties.get(&one.duty) {
            return Err(at(format!("the duty {} is for {before} already: name another", one.duty)));
        }
    }
    Ok(())
}

impl Config {
    /// What the agent does itself while this board holds duties.
    ///
    /// # Errors
    /// When a file that a broker needs cannot be read.
    pub fn parts(&self) -> Result<Vec<Part>, String> {
        let mut parts: Vec<Part> = Vec::new();
        for subscribe in self.subscribe.iter().map(Spanned::get_ref) {
            let subscription = subscribe.check()?;
            let same = parts.iter_mut().find(|part| part.duty == subscribe.duty);
            if let Some(Part { does: Does::Subscribe(all), .. }) = same {
                all.push(subscription);
                continue;
            }
            let broker = broker(&self.brokers, subscribe.broker.as_deref())?.broker()?;
            let does = Does::Subscribe(vec![subscription]);
            parts.push(Part { duty: subscribe.duty.clone(), broker, does });
        }
        if let Some(publish) = self.publish.as_ref().map(Spanned::get_ref) {
            let broker = broker(&self.brokers, publish.broker.as_deref())?.broker()?;
            let does = Does::Publish(publish.check()?);
            parts.push(Part { duty: publish.duty.clone(), broker, does });
        }
        Ok(parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BROKER: &str = "[[broker]]\nurl = \"mqtt://hub\"\n";

    #[test]
    fn parts_are_by_duty_and_each_has_its_broker() {
        let text = format!(
            "{BROKER}[[broker]]\nurl = \"mqtt://yard\"\nboards = false\n\
             [[subscribe]]\ntopic = \"a/+\"\n[[subscribe]]\ntopic = \"b/#\"\n\
             [[subscribe]]\ntopic = \"c\"\nbroker = \"mqtt://yard\"\nduty = \"yard\"\n[publish]\n"
        );
        let parts = Config::parse(&text).unwrap().parts().unwrap();
        let seen: Vec<(&str, &str, usize)> = parts
            .iter()
            .map(|part| match &part.does {
                Does::Subscribe(all) => (&part.duty[..], &part.broker.host[..], all.len()),
                Does::Publish(_) => (&part.duty[..], &part.broker.host[..], 0),
            })
            .collect();
        assert_eq!(seen, [("mqtt-in", "hub", 2), ("yard", "yard", 1), ("mqtt-out", "hub", 0)]);
        let both = Config::parse(&format!("transport = \"both\"\n{text}")).unwrap();
        assert_eq!(both.brokers().unwrap().len(), 1, "the other is not for boards");
    }

    #[test]
    fn what_cannot_be_done_is_named_with_its_line() {
        let subscribe = "[[subscribe]]\ntopic = \"a\"\n";
        let many = (0..33).map(|n| format!("[[subscribe]]\ntopic = \"a/{n}\"\n"));
        let many: String = many.collect();
        let duty = "[[duty]]\nname = \"mqtt-in\"\ncommand = [\"/bin/true\"]\n";
        for (text, words) in [
            (subscribe.to_owned(), "line 1: [[subscribe]] there is no [[broker]]"),
            (format!("{BROKER}[[subscribe]]\ntopic = \"a/#/b\""), "line 3: [[subscribe]] topic = "),
            (format!("{BROKER}{subscribe}qos = 2"), "qos = 2: 0 and 1"),
            (format!("{BROKER}{subscribe}duty = \"a b\""), "a duty's name has"),
            (format!("{BROKER}{subscribe}broker = \"mqtt://x\""), "no [[broker]] with that url"),
            (format!("{BROKER}{duty}{subscribe}"), "the duty mqtt-in is for [[duty]] already"),
            (format!("{BROKER}{many}"), "line 67: [[subscribe]] a board has 32"),
            (format!("{BROKER}[publish]\nduties = \"a/#\""), "line 3: [publish] duties = "),
            (format!("{BROKER}[publish]\nexpire_after_s = 0"), "expire_after_s = 0"),
            (
                format!("{BROKER}[[subscribe]]\ntopic = \"understudy/#\"\n[publish]\n"),
                "what is told would be subscribed to",
            ),
            (
                format!("{BROKER}{subscribe}[publish]\nduty = \"mqtt-in\""),
                "line 5: [publish] the duty mqtt-in is for mqtt://hub already",
            ),
            (
                String::from(
                    "transport = \"mqtt\"\n[[broker]]\nurl = \"mqtt://hub\"\nboards = false",
                ),
                "transport: there is no",
            ),
        ] {
            let error = Config::parse(&text).unwrap_err();
            assert!(error.contains(words), "{words}: {error}");
        }
    }

    #[test]
    fn what_no_board_can_subscribe_to_is_named_with_its_line() {
        let one = |words: &str| format!("{BROKER}[[subscribe]]\n{words}\n");
        let two = |words: &str| one(&format!("topic = \"a/+\"\n[[subscribe]]\n{words}"));
        for (text, words) in [
            (one("topic = \"a/+b\""), "line 3: [[subscribe]] topic = \"a/+b\" is no filter"),
            (one("topic = \"a\"\nqos = 2"), "qos = 2"),
            (one("topic = \"$share/g/a\""), "no need to share"),
            (one("topic = \"a\"\nsensor = \"{1}\""), "has 0 wildcards"),
            (one("topic = \"a\"\nvalues = [\"b\", \"c\"]\nsensor = \"x\""), "{path} is missing"),
            (one("topic = \"a\"\nprecision = \"ms\""), "precision is that of `time`"),
            (
                one("topic = \"a\"\nvalues = [\"b\"]\ntime = \"t\"\nprecision = \"h\""),
                "it is s, ms, us or ns",
            ),
            (one("topic = \"a\"\nbroker = \"mqtt://x\""), "there is no [[broker]] with that url"),
            (String::from("[[subscribe]]\ntopic = \"a\""), "there is no [[broker]] to do it at"),
            (two("topic = \"+/b\""), "line 5: [[subscribe]] topic = \"+/b\": some of that is of"),
            (one("topic = \"a\"\nduty = \"a b/\""), "duty"),
        ] {
            let error = Config::parse(&text).unwrap_err();
            assert!(error.contains(words), "{words}: {error}");
        }
        assert!(Config::parse(&two("topic = \"+/b\"\nduty = \"else\"")).is_ok());
    }
}
