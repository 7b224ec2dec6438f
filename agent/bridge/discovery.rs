//! How Home Assistant comes to know of the group's sensors and duties: a retained message for
//! each, as its MQTT discovery wants it.
//!
//! An entity is known by the group and the sensor's name alone, never by a board: whichever
//! publishes, it is the same. Names of classes are Home Assistant's own, and only those that
//! a unit leaves no doubt of are given.

use serde_json::{Value as Json, json};

use super::{Group, publication::Publication};

/// A sensor, as the database knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sensor {
    /// Its name.
    pub name: String,
    /// Its unit, where its owner has set one.
    pub unit: Option<String>,
    /// Its last reading was a number, or it has none and a unit.
    pub is_number: bool,
}

/// A message: where, and what.
pub type Message = (String, String);

/// Units, and what Home Assistant calls what is measured in them.
const CLASSES: [(&[&str], &str); 9] = [
    (&["\u{b0}C", "\u{b0}F", "K"], "temperature"),
    (&["Pa", "hPa", "kPa", "bar", "mbar"], "pressure"),
    (&["V", "mV"], "voltage"),
    (&["A", "mA"], "current"),
    (&["W", "kW"], "power"),
    (&["lx"], "illuminance"),
    (&["Hz"], "frequency"),
    (&["dBm"], "signal_strength"),
    (&["m/s", "km/h"], "speed"),
];

/// Filter of all that this group has there.
#[must_use]
pub fn filter(prefix: &str, group: &Group) -> String {
    topic(prefix, group, "+")
}

fn topic(prefix: &str, group: &Group, key: &str) -> String {
    format!("{prefix}/sensor/{}/{key}/config", node(group))
}

/// What makes a sensor known; nothing where its readings are not told on a topic of theirs.
#[must_use]
pub fn of_sensor(publication: &Publication, group: &Group, sensor: &Sensor) -> Option<Message> {
    let prefix = publication.home_assistant.as_deref()?;
    let key = format!("s_{}", key(&sensor.name));
    let mut entity = entity(publication, group, &sensor.name, &key);
    entity["stat_t"] = json!(publication.reading_topic(group, &sensor.name)?);
    entity["val_tpl"] = json!("{{ value_json.value }}");
    if let Some(unit) = sensor.unit.as_ref().filter(|_| sensor.is_number) {
        entity["unit_of_meas"] = json!(unit);
        let known = CLASSES.iter().find(|(units, _)| units.contains(&unit.as_str()));
        if let Some((_, class)) = known {
            entity["dev_cla"] = json!(class);
        }
    }
    if let Some(seconds) = publication.expire_after_s {
        entity["exp_aft"] = json!(seconds);
    }
    if sensor.is_number {
        entity["stat_cla"] = json!("measurement");
    }
    Some((topic(prefix, group, &key), entity.to_string()))
}

/// What makes a duty known, likewise.
#[must_use]
pub fn of_duty(publication: &Publication, group: &Group, duty: &str) -> Option<Message> {
    let prefix = publication.home_assistant.as_deref()?;
    let key = format!("d_{}", key(duty));
    let mut entity = entity(publication, group, &format!("duty {duty}"), &key);
    let stated = publication.duty_topic(group, duty)?;
    entity["stat_t"] = json!(stated);
    entity["val_tpl"] = json!("{{ value_json.holder or 'nobody' }}");
    entity["json_attr_t"] = json!(stated);
    entity["ic"] = json!("mdi:account-switch");
    Some((topic(prefix, group, &key), entity.to_string()))
}

/// What all have in common, under this key.
fn entity(publication: &Publication, group: &Group, name: &str, key: &str) -> Json {
    let node = node(group);
    let version = env!("CARGO_PKG_VERSION");
    json!({
        "name": name,
        "uniq_id": format!("{node}_{key}"),
        "avty_t": publication.availability_topic(group),
        "dev": { "ids": [node], "name": group.name, "mf": "understudy", "sw": version },
        "o": { "name": "understudy", "sw": version },
    })
}

/// The group, as its topics have it.
fn node(group: &Group) -> String {
    format!("understudy_{}", group.tag)
}

/// A name as ids may have it, and what tells it from others that look the same so.
fn key(name: &str) -> String {
    let is_fine = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let plain: String = name.chars().map(|c| if is_fine(c) { c } else { '_' }).take(64).collect();
    format!("{plain}_{:08x}", crc32c::crc32c(name.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publication() -> Publication {
        let topics = ["u/{group}/reading/{sensor}", "u/{group}/duty/{duty}", "u/{group}/there"];
        Publication::new(topics, (Some("homeassistant"), Some(90))).unwrap()
    }

    fn group(node: u64) -> Group {
        Group { name: "garden".into(), tag: "0a0b0c0d".into(), node }
    }

    fn sensor(name: &str, unit: Option<&str>) -> Sensor {
        Sensor { name: name.into(), unit: unit.map(String::from), is_number: true }
    }

    fn of(name: &str, unit: Option<&str>) -> (String, Json) {
        let (topic, body) = of_sensor(&publication(), &group(1), &sensor(name, unit)).unwrap();
        (topic, serde_json::from_str(&body).unwrap())
    }

    #[test]
    fn a_sensor_is_known_by_its_name_whichever_board_tells_it() {
        let (topic, body) = of("green house/temp", Some("\u{b0}C"));
        let unique = body["uniq_id"].as_str().unwrap();
        assert!(unique.starts_with("understudy_0a0b0c0d_s_green_house_temp_"), "{unique}");
        let object = unique.strip_prefix("understudy_0a0b0c0d_").unwrap();
        assert_eq!(topic, format!("homeassistant/sensor/understudy_0a0b0c0d/{object}/config"));
        assert_eq!(body["stat_t"], "u/garden/reading/green house/temp");
        assert_eq!((&body["avty_t"], &body["exp_aft"]), (&json!("u/garden/there"), &json!(90)));
        assert_eq!(
            (&body["dev_cla"], &body["stat_cla"]),
            (&json!("temperature"), &json!("measurement"))
        );
        assert_eq!(body["dev"]["ids"], json!(["understudy_0a0b0c0d"]));
        let other =
            of_sensor(&publication(), &group(2), &sensor("green house/temp", Some("\u{b0}C")));
        assert_eq!(other.unwrap(), (topic, body.to_string()));
    }

    #[test]
    fn names_that_look_alike_are_two_and_a_unit_of_ones_own_is_of_no_class() {
        let ((one, a), (other, b)) = (of("a b", Some("sheep")), of("a_b", None));
        assert_ne!((one, &a["uniq_id"]), (other, &b["uniq_id"]));
        assert_eq!((&a["unit_of_meas"], a.get("dev_cla")), (&json!("sheep"), None));
        assert_eq!(b.get("unit_of_meas"), None);
        let text = Sensor { is_number: false, ..sensor("door", None) };
        let (_, body) = of_sensor(&publication(), &group(1), &text).unwrap();
        assert!(!body.contains("stat_cla"), "{body}");
        let text = Sensor { unit: Some("\u{b0}C".into()), ..text };
        let (_, body) = of_sensor(&publication(), &group(1), &text).unwrap();
        assert!(!body.contains("unit_of_meas") && !body.contains("dev_cla"), "a text has none");
    }

    #[test]
    fn what_is_told_on_no_topic_is_not_made_known() {
        let silent = Publication::new(["", "", "there"], (Some("h"), None)).unwrap();
        assert_eq!(of_sensor(&silent, &group(1), &sensor("a", None)), None);
        assert_eq!(of_duty(&silent, &group(1), "pump"), None);
        let (topic, body) = of_duty(&publication(), &group(1), "pump").unwrap();
        assert!(topic.contains("/d_pump_") && body.contains("u/garden/duty/pump"), "{body}");
        assert_eq!(filter("h", &group(1)), "h/sensor/understudy_0a0b0c0d/+/config");
    }
}
