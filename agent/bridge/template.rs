//! Which readings a message is: a filter of topics, a template of sensors' names, and paths
//! into JSON. Knows nothing of brokers or of the group.
//!
//! Without paths the payload is one plain value. With paths it is JSON: each names a number,
//! a boolean or a text in it, `a.b` the `b` of the object `a`, `a.0` the first of an array;
//! `*` at the end all numbers and booleans below, whatever is walked through for them. What
//! a message has not, or has as null, says nothing: sensors leave out what has not changed.
//! A message out of which nothing comes is none, and why is said.
//!
//! A time that cannot be read costs no reading: that is stamped as it comes, and why is said
//! as well. A text without a zone is such a time (Tasmota's are local ones), as the zone
//! may not be this board's.
//!
//! Left out: names in JSON with a dot in them have no path of their own, `*` finds them.

use serde_json::Value as Json;
use understudy_core::{limits::SENSOR_NAME_BYTES_MAX, sql::Value};

use super::line::MESSAGE_BYTES_MAX;
use crate::readings::{
    Draft, json,
    moment::{self, Unit, shown},
    value::{self, Bare},
};

/// Readings of one message.
pub const VALUES_MAX: usize = 128;

/// See the module's description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    filter: String,
    name: Vec<Piece>,
    values: Vec<Path>,
    time: Option<(Path, Unit)>,
}

/// What a name is put together from.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    /// As it is.
    Text(String),
    /// The whole topic.
    Topic,
    /// What a wildcard of the filter stands for, by its place.
    Wildcard(usize),
    /// The path into JSON.
    Path,
}

/// Where something is in JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Path {
    keys: Vec<String>,
    /// All that is below.
    is_all: bool,
}

/// What is in a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Its readings.
    pub drafts: Vec<Draft>,
    /// Why something in it is not taken as it is, if so.
    pub refusal: Option<String>,
}

impl Template {
    /// Names by `name`, of all `values`, with their time where `time` says where that is,
    /// numbers of which are in this unit.
    ///
    /// # Errors
    /// Names what is wrong.
    pub fn new(
        filter: &str,
        name: Option<&str>,
        values: &[String],
        time: Option<(&str, Unit)>,
    ) -> Result<Self, String> {
        let values = values.iter().map(|path| Path::parse(path)).collect::<Result<Vec<_>, _>>()?;
        if let Some((path, by)) = covered(&values) {
            return Err(format!("values has {path:?} twice: {by:?} is it too"));
        }
        let standard = if values.is_empty() { "{topic}" } else { "{topic}/{path}" };
        let name = pieces(name.unwrap_or(standard), filter, !values.is_empty())?;
        let is_several = values.len() > 1 || values.iter().any(|path| path.is_all);
        if is_several && !name.contains(&Piece::Path) {
            return Err(String::from(
                "sensor: with several values each needs a name of its own: {path} is missing",
            ));
        }
        let time = time.map(|(path, unit)| Ok::<_, String>((Path::parse(path)?, unit))).transpose();
        let time = time?;
        if time.as_ref().is_some_and(|(path, _)| path.is_all) || time.is_some() && values.is_empty()
        {
            return Err(String::from("time is a path to one value, beside those of `values`"));
        }
        Ok(Self { filter: filter.to_owned(), name, values, time })
    }

    /// What is in a message; none where its topic is not of these.
    #[must_use]
    pub fn read(&self, topic: &str, payload: &[u8]) -> Option<Found> {
        let wildcards = wildcards(&self.filter, topic)?;
        let mut found = Found::default();
        if let Err(why) = self.take(&mut found, (topic, &wildcards), payload) {
            found.refusal = Some(why);
        } else if found.drafts.is_empty() && found.refusal.is_none() {
            found.refusal = Some(String::from("it has none of the values that are wanted"));
        }
        Some(found)
    }

    fn take(
        &self,
        found: &mut Found,
        (topic, wildcards): (&str, &[&str]),
        payload: &[u8],
    ) -> Result<(), String> {
        if payload.len() > MESSAGE_BYTES_MAX {
            return Err(format!("it has more than {MESSAGE_BYTES_MAX} bytes"));
        }
        let name = |path: &str| self.named(topic, wildcards, path);
        if self.values.is_empty() {
            let draft = draft(name(""), plain(payload)?, None);
            draft.check()?;
            found.drafts.push(draft);
            return Ok(());
        }
        let json: Json = serde_json::from_slice(payload)
            .map_err(|error| format!("it is not JSON: {error}: {}", shown(&lossy(payload))))?;
        let mut all = Vec::new();
        self.values.iter().for_each(|path| path.find(&json, &mut all));
        if all.len() > VALUES_MAX {
            return Err(format!("it has more than {VALUES_MAX} values"));
        }
        let time = self.time(&json).unwrap_or_else(|why| {
            found.refusal = Some(why);
            None
        });
        for (path, json) in all {
            let value = json::value_of(json).ok_or_else(|| no_value(json));
            let taken = value.and_then(|value| {
                let draft = draft(name(&path), value, time);
                draft.check().map(|()| draft)
            });
            match taken {
                Ok(draft) => found.drafts.push(draft),
                Err(why) => found.refusal = Some(format!("{path}: {why}")),
            }
        }
        Ok(())
    }

    fn named(&self, topic: &str, wildcards: &[&str], path: &str) -> String {
        let piece = |piece: &Piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Topic => topic.to_owned(),
            Piece::Wildcard(place) => wildcards.get(*place).copied().unwrap_or("").to_owned(),
            Piece::Path => path.to_owned(),
        };
        self.name.iter().map(piece).collect()
    }

    /// The time in it, if it has one.
    fn time(&self, json: &Json) -> Result<Option<i64>, String> {
        let Some((path, unit)) = &self.time else { return Ok(None) };
        let at = || format!("{}: the reading has the time at which it came:", path.written());
        match path.keys.iter().try_fold(json, |json, key| below(json, key)) {
            None | Some(Json::Null) => Ok(None),
            Some(Json::String(text)) => {
                moment::parse(text, *unit).map(Some).map_err(|why| format!("{} {why}", at()))
            }
            Some(Json::Number(number)) => moment::parse(&json::plain(&number.to_string()), *unit)
                .map(Some)
                .map_err(|why| format!("{} {why}, or `precision`", at())),
            Some(other @ (Json::Bool(_) | Json::Array(_) | Json::Object(_))) => {
                Err(format!("{} {} is no time", at(), shown(&other.to_string())))
            }
        }
    }
}

fn draft(sensor: String, value: Value, time: Option<i64>) -> Draft {
    Draft { sensor, value, time, id: None, token: None }
}

fn lossy(payload: &[u8]) -> String {
    String::from_utf8_lossy(payload).into_owned()
}

fn no_value(json: &Json) -> String {
    let what = shown(&json.to_string());
    match json {
        Json::Object(_) | Json::Array(_) => {
            format!("{what} has values of its own: `.*` at the end of the path finds them")
        }
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => {
            format!("{what} is no value: a finite number of 64 bits, true, false or a text is")
        }
    }
}

/// The value that a payload is: as in a line, or a word as it is. What begins like a number
/// and is none is no word: `21,5` must not become a text.
fn plain(payload: &[u8]) -> Result<Value, String> {
    let text = std::str::from_utf8(payload)
        .map_err(|error| format!("not UTF-8 at byte {}", error.valid_up_to() + 1))?
        .trim();
    let is_word = text.starts_with(char::is_alphabetic)
        && text.parse::<f64>().is_err()
        && !["null", "t", "T", "f", "F"].contains(&text);
    match value::parse(text, Bare::Integer) {
        Ok(value) if !["t", "T", "f", "F"].contains(&text) => Ok(value),
        Ok(_) => Ok(Value::text(text)),
        Err(_) if is_word => Ok(Value::text(text)),
        Err(_) if text.is_empty() => Err(String::from("it is empty")),
        Err(_) if text.starts_with(['{', '[']) => {
            Err(format!("{} is JSON: `values` says what of it is wanted", shown(text)))
        }
        Err(why) => Err(why),
    }
}

impl Path {
    fn parse(text: &str) -> Result<Self, String> {
        let mut keys: Vec<String> = text.split('.').map(str::to_owned).collect();
        let is_all = keys.pop_if(|last| last == "*").is_some();
        if keys.iter().any(|key| key.is_empty() || key == "*") {
            return Err(format!(
                "{text:?} is no path: a name, a.b for the b in a, a.0 for the first in a, a.* for \
                 all in a, or * for all are"
            ));
        }
        Ok(Self { keys, is_all })
    }

    fn written(&self) -> String {
        let all = self.is_all.then_some("*");
        self.keys.iter().map(String::as_str).chain(all).collect::<Vec<_>>().join(".")
    }

    /// Is all that the other finds found by this?
    fn covers(&self, other: &Self) -> bool {
        match self.is_all {
            true => other.keys.starts_with(&self.keys),
            false => self == other,
        }
    }

    /// Adds what is there, by its path.
    fn find<'j>(&self, json: &'j Json, found: &mut Vec<(String, &'j Json)>) {
        let at = self.keys.iter().try_fold(json, |json, key| below(json, key));
        match at {
            None | Some(Json::Null) => {}
            Some(json) if self.is_all => walk(self.keys.join("."), json, found),
            Some(json) => found.push((self.written(), json)),
        }
    }
}

fn below<'j>(json: &'j Json, key: &str) -> Option<&'j Json> {
    match json {
        Json::Object(fields) => fields.get(key),
        Json::Array(items) => items.get(key.parse::<usize>().ok()?),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => None,
    }
}

/// Adds all numbers and booleans, by their paths.
fn walk<'j>(path: String, json: &'j Json, found: &mut Vec<(String, &'j Json)>) {
    // Too many values, or too long a name, is refused in any case.
    if found.len() > VALUES_MAX {
        return;
    }
    if path.len() > SENSOR_NAME_BYTES_MAX {
        return found.push((path, json));
    }
    let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    match json {
        Json::Bool(_) | Json::Number(_) if !path.is_empty() => found.push((path, json)),
        Json::Object(fields) => {
            fields.iter().for_each(|(key, json)| walk(below(key), json, found));
        }
        Json::Array(items) => {
            let numbered = items.iter().enumerate();
            numbered.for_each(|(place, json)| walk(below(&place.to_string()), json, found));
        }
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => {}
    }
}

/// A path that finds what another finds as well, and that one.
fn covered(values: &[Path]) -> Option<(String, String)> {
    let mut pairs = values.iter().enumerate().flat_map(|(place, one)| {
        let others = values.iter().enumerate().filter(move |(other, _)| *other != place);
        others.map(move |(_, other)| (one, other))
    });
    let twice = pairs.find(|(one, other)| other.covers(one));
    twice.map(|(one, other)| (one.written(), other.written()))
}

fn pieces(template: &str, filter: &str, has_paths: bool) -> Result<Vec<Piece>, String> {
    let wildcards = filter.split('/').filter(|level| ["+", "#"].contains(level)).count();
    let mut pieces = Vec::new();
    let mut rest = template;
    while let Some((before, behind)) = rest.split_once('{') {
        let (word, behind) = behind
            .split_once('}')
            .ok_or_else(|| format!("sensor = {template:?}: a {{ is not closed"))?;
        if !before.is_empty() {
            pieces.push(Piece::Text(before.to_owned()));
        }
        pieces.push(match word.parse::<usize>() {
            Ok(place) if (1..=wildcards).contains(&place) => Piece::Wildcard(place - 1),
            Ok(_) => {
                return Err(format!(
                    "sensor = {template:?}: the topic {filter:?} has {wildcards} wildcards, and \
                     {{{word}}} is none of them"
                ));
            }
            Err(_) if word == "topic" => Piece::Topic,
            Err(_) if word == "path" && has_paths => Piece::Path,
            Err(_) if word == "path" => {
                return Err(String::from("sensor: {path} is of `values`, and there are none"));
            }
            Err(_) => {
                return Err(format!(
                    "sensor = {template:?}: {{{word}}} is none of {{topic}}, {{path}}, {{1}}, \
                     {{2}} and so on"
                ));
            }
        });
        rest = behind;
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest.to_owned()));
    }
    if pieces.is_empty() {
        return Err(String::from("sensor is empty"));
    }
    Ok(pieces)
}

/// What the wildcards of a filter stand for in a topic; none where that is not of it.
fn wildcards<'t>(filter: &str, topic: &'t str) -> Option<Vec<&'t str>> {
    if topic.starts_with('$') && !filter.starts_with('$') {
        return None;
    }
    let mut found = Vec::new();
    let mut rest = Some(topic);
    for level in filter.split('/') {
        if level == "#" {
            found.push(rest.unwrap_or(""));
            return Some(found);
        }
        let topic = rest?;
        let (here, behind) =
            topic.split_once('/').map_or((topic, None), |(here, behind)| (here, Some(behind)));
        match level {
            "+" => found.push(here),
            level if level == here => {}
            _ => return None,
        }
        rest = behind;
    }
    rest.is_none().then_some(found)
}

/// Is there a topic that is of both filters? A broker may bring its messages twice.
#[must_use]
pub fn overlap(one: &str, other: &str) -> bool {
    if one.starts_with('$') != other.starts_with('$') {
        return false;
    }
    let (mut one, mut other) = (one.split('/'), other.split('/'));
    loop {
        match (one.next(), other.next()) {
            (None, None) | (Some("#"), _) | (_, Some("#")) => return true,
            (Some(a), Some(b)) if a == b || a == "+" || b == "+" => {}
            (None | Some(_), None | Some(_)) => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(filter: &str, name: Option<&str>, values: &[&str]) -> Result<Template, String> {
        let values: Vec<String> = values.iter().map(|path| String::from(*path)).collect();
        Template::new(filter, name, &values, None)
    }

    /// Names and values, and why something is not taken.
    fn read(template: &Template, topic: &str, payload: &str) -> (Vec<(String, Value)>, String) {
        let found = template.read(topic, payload.as_bytes()).unwrap();
        let drafts = found.drafts.into_iter().map(|draft| (draft.sensor, draft.value));
        (drafts.collect(), found.refusal.unwrap_or_default())
    }

    fn named(all: &[(&str, Value)]) -> Vec<(String, Value)> {
        all.iter().map(|(name, value)| (String::from(*name), value.clone())).collect()
    }

    /// As zigbee2mqtt 1.40 posts it of an Aqara WSDCGQ11LM, a contact MCCGQ11LM and a plug.
    const CLIMATE: &str = r#"{"battery":97,"humidity":48.31,"last_seen":"2023-11-14T22:13:20.250Z",
        "linkquality":116,"power_outage_count":12,"pressure":1005.7,"temperature":21.5,"voltage":2995}"#;
    const CONTACT: &str = r#"{"battery":100,"contact":false,"device_temperature":23,"linkquality":87,
        "trigger_count":null,"voltage":3015,"update":{"installed_version":3,"state":"idle"}}"#;
    const PLUG: &str = r#"{"state":"ON","power":12.4,"energy":1.07,"color":{"x":0.45,"y":0.41},
        "update_available":false}"#;

    #[test]
    fn what_zigbee2mqtt_posts_is_read() {
        let some =
            template("zigbee2mqtt/+", None, &["temperature", "humidity", "contact"]).unwrap();
        let (taken, why) = read(&some, "zigbee2mqtt/kitchen", CLIMATE);
        let temperature = ("zigbee2mqtt/kitchen/temperature", Value::Real(21.5));
        let expected = [temperature, ("zigbee2mqtt/kitchen/humidity", Value::Real(48.31))];
        assert_eq!((taken, why.as_str()), (named(&expected), ""));
        let (taken, _) = read(&some, "zigbee2mqtt/front door", CONTACT);
        assert_eq!(taken, named(&[("zigbee2mqtt/front door/contact", Value::Integer(0))]));
        let (taken, why) = read(&some, "zigbee2mqtt/plug", PLUG);
        assert!(taken.is_empty() && why.contains("none of the values"), "{taken:?} {why}");
        let own =
            template("zigbee2mqtt/+", Some("home/{1}/{path}"), &["state", "color.*"]).unwrap();
        let (taken, _) = read(&own, "zigbee2mqtt/plug", PLUG);
        let expected = [
            ("home/plug/state", Value::text("ON")),
            ("home/plug/color.x", Value::Real(0.45)),
            ("home/plug/color.y", Value::Real(0.41)),
        ];
        assert_eq!(taken, named(&expected));
        let all = template("zigbee2mqtt/+", Some("{1}/{path}"), &["*"]).unwrap();
        let names = |payload| -> Vec<String> {
            read(&all, "zigbee2mqtt/a", payload).0.into_iter().map(|(name, _)| name).collect()
        };
        assert_eq!(names(CONTACT).len(), 6, "{:?}", names(CONTACT));
        assert!(names(CONTACT).contains(&String::from("a/update.installed_version")));
        assert_eq!(all.read("zigbee2mqtt/bridge/devices", b"{}"), None);
    }

    #[test]
    fn what_tasmota_posts_is_read() {
        let sensor = r#"{"Time":"2023-11-14T22:13:20","AM2301":{"Temperature":21.5,"Humidity":48.3,
            "DewPoint":10.1},"DS18B20-1":{"Id":"3C01D607F9D4","Temperature":-3.0},"TempUnit":"C"}"#;
        let energy =
            r#"{"Time":"2023-11-14T22:13:20","ENERGY":{"Total":1.5,"Power":[5,0],"Factor":null}}"#;
        let some = ["AM2301.Temperature", "DS18B20-1.Temperature", "ENERGY.Power.0"];
        let some = template("tele/+/SENSOR", Some("{1}/{path}"), &some).unwrap();
        let (taken, why) = read(&some, "tele/attic/SENSOR", sensor);
        let expected = [
            ("attic/AM2301.Temperature", Value::Real(21.5)),
            ("attic/DS18B20-1.Temperature", Value::Real(-3.0)),
        ];
        assert_eq!((taken, why.as_str()), (named(&expected), ""));
        let (taken, _) = read(&some, "tele/meter/SENSOR", energy);
        assert_eq!(taken, named(&[("meter/ENERGY.Power.0", Value::Integer(5))]));
        let all = template("tele/+/SENSOR", Some("{1}/{path}"), &["ENERGY.*"]).unwrap();
        let (taken, _) = read(&all, "tele/meter/SENSOR", energy);
        let power = [("meter/ENERGY.Power.0", 5), ("meter/ENERGY.Power.1", 0)];
        let mut expected = named(&power.map(|(name, watts)| (name, Value::Integer(watts))));
        expected.extend(named(&[("meter/ENERGY.Total", Value::Real(1.5))]));
        assert_eq!(taken, expected);
        let time = Some(("Time", Unit::Second));
        let timed = Template::new("tele/+/SENSOR", None, &["TempUnit".into()], time).unwrap();
        let found = timed.read("tele/attic/SENSOR", sensor.as_bytes()).unwrap();
        assert_eq!((found.drafts.len(), found.drafts[0].time), (1, None));
        let why = found.refusal.unwrap();
        assert!(why.contains("at which it came") && why.contains("is no time"), "{why}");
    }

    #[test]
    fn a_message_may_say_when_it_was() {
        let time = |payload: &str, unit| {
            let values = [String::from("t")];
            let all = Template::new("a", None, &values, Some(("last_seen", unit))).unwrap();
            let found = all.read("a", payload.as_bytes()).unwrap();
            (found.drafts[0].time, found.refusal.unwrap_or_default())
        };
        let at = Some(1_700_000_000_250_000);
        for (payload, unit, expected) in [
            (r#"{"t":1,"last_seen":"2023-11-14T22:13:20.25Z"}"#, Unit::Second, at),
            (r#"{"t":1,"last_seen":"2023-11-14T23:13:20.25+01:00"}"#, Unit::Second, at),
            (r#"{"t":1,"last_seen":1700000000250}"#, Unit::Millisecond, at),
            (r#"{"t":1,"last_seen":1700000000.25}"#, Unit::Second, at),
            (r#"{"t":1,"last_seen":null}"#, Unit::Second, None),
            (r#"{"t":1}"#, Unit::Second, None),
        ] {
            assert_eq!(time(payload, unit), (expected, String::new()), "{payload}");
        }
        let (none, why) = time(r#"{"t":1,"last_seen":1700000000250}"#, Unit::Second);
        assert!(none.is_none() && why.contains("`precision`"), "{why}");
        assert!(time(r#"{"t":1,"last_seen":[1]}"#, Unit::Second).1.contains("is no time"));
    }

    #[test]
    fn a_plain_payload_is_one_value() {
        let plain = template("home/+/#", Some("{2}@{1}"), &[]).unwrap();
        for (payload, value) in [
            ("21.5", Value::Real(21.5)),
            (" -3 \n", Value::Integer(-3)),
            ("true", Value::Integer(1)),
            ("ON", Value::text("ON")),
            ("online", Value::text("online")),
            ("T", Value::text("T")),
            ("heating up", Value::text("heating up")),
            ("\"21,5\"", Value::text("21,5")),
        ] {
            let expected = (named(&[("b/c@a", value)]), String::new());
            assert_eq!(read(&plain, "home/a/b/c", payload), expected, "{payload}");
        }
        for (payload, words) in [
            ("", "it is empty"),
            ("21,5", "is no value"),
            ("21.5 C", "is no value"),
            ("NaN", "finite"),
            ("inf", "finite"),
            ("null", "is no value"),
            ("1e400", "larger"),
            ("{\"a\":1}", "is JSON"),
            ("a\u{7}", ""),
            (&"x".repeat(257), "257 bytes"),
            (&"x".repeat(MESSAGE_BYTES_MAX + 1), "more than 32768 bytes"),
        ] {
            let (taken, why) = read(&plain, "home/a/b", payload);
            assert!(why.contains(words), "{payload}: {why}");
            assert_eq!(taken.is_empty(), !why.is_empty(), "{payload}: {why}");
        }
        assert!(plain.read("home/a/b", b"\xff").unwrap().refusal.unwrap().contains("byte 1"));
        assert!(
            plain.read(&format!("home/a/{}", "b".repeat(128)), b"1").unwrap().drafts.is_empty()
        );
    }

    #[test]
    fn what_does_not_fit_is_named_and_the_rest_is_taken() {
        let some = template("a", None, &["t", "o", "n"]).unwrap();
        let (taken, why) = read(&some, "a", r#"{"t":1,"o":{"x":1},"n":2}"#);
        assert_eq!((taken.len(), why.contains("o: ") && why.contains("`.*`")), (2, true), "{why}");
        let (taken, why) = read(&some, "a", &format!(r#"{{"n":{}}}"#, u64::MAX));
        assert!(taken.is_empty() && why.contains("64 bits"), "{why}");
        let (_, why) = read(&some, "a", "{\"t\":1");
        assert!(why.contains("not JSON") && why.contains("{\\\"t"), "{why}");
        assert!(read(&some, "a", "7").1.contains("none of the values"));
        let all = template("a", None, &["*"]).unwrap();
        assert!(
            read(&all, "a", &format!("[{}0]", "0,".repeat(128))).1.contains("more than 128 values")
        );
        assert_eq!(read(&all, "a", "7").0, []);
    }

    #[test]
    fn templates_that_can_name_nothing_are_refused() {
        let word =
            |filter, name, values: &[&str]| template(filter, Some(name), values).unwrap_err();
        for (error, words) in [
            (word("a/+", "{2}", &[]), "has 1 wildcards, and {2}"),
            (word("a/+", "{0}", &[]), "{0} is none"),
            (word("a/+", "{x}", &[]), "{x} is none of {topic}"),
            (word("a/+", "{1", &[]), "not closed"),
            (word("a/+", "", &[]), "empty"),
            (word("a/+", "{1}/{path}", &[]), "there are none"),
            (word("a/+", "{1}", &["b", "c"]), "{path} is missing"),
            (word("a/+", "{1}", &["*"]), "{path} is missing"),
            (template("a", None, &["b", "b"]).unwrap_err(), "twice"),
            (template("a", None, &["b.c", "b.*"]).unwrap_err(), "\"b.*\" is it too"),
            (template("a", None, &["b..c"]).unwrap_err(), "no path"),
            (template("a", None, &["*.c"]).unwrap_err(), "no path"),
            (template("a", None, &[""]).unwrap_err(), "no path"),
            (
                Template::new("a", None, &[], Some(("t", Unit::Second))).unwrap_err(),
                "beside those of `values`",
            ),
        ] {
            assert!(error.contains(words), "{words}: {error}");
        }
        assert!(template("a/+", Some("temp"), &["t"]).is_ok());
    }

    #[test]
    fn filters_are_matched_as_brokers_do() {
        for (filter, topic, found) in [
            ("a/+/c", "a/b/c", Some(vec!["b"])),
            ("a/+/c", "a//c", Some(vec![""])),
            ("a/#", "a", Some(vec![""])),
            ("a/#", "a/b/c", Some(vec!["b/c"])),
            ("+/#", "a/b", Some(vec!["a", "b"])),
            ("#", "a/b", Some(vec!["a/b"])),
            ("a", "a", Some(vec![])),
            ("a/+", "a", None),
            ("a/+", "a/b/c", None),
            ("a", "a/b", None),
            ("#", "$SYS/uptime", None),
            ("$SYS/#", "$SYS/uptime", Some(vec!["uptime"])),
        ] {
            assert_eq!(wildcards(filter, topic), found, "{filter} {topic}");
        }
        for (one, other, is_so) in [
            ("a/+", "a/b", true),
            ("a/#", "a", true),
            ("a/+", "+/b", true),
            ("#", "x/y", true),
            ("a/+", "a/b/c", false),
            ("tele/+/SENSOR", "tele/+/STATE", false),
            ("a", "b", false),
            ("#", "$SYS/#", false),
        ] {
            assert_eq!((overlap(one, other), overlap(other, one)), (is_so, is_so), "{one} {other}");
        }
    }
}
