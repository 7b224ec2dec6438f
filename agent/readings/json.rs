//! Readings as a JSON array of `{"sensor": "room", "value": 21.5}`, each with `time`,
//! `id` and `token` if need be. A time is a number, or a text as in a line; a number is
//! in seconds unless the caller has said otherwise for all.

use serde_json::Value as Json;
use understudy_core::sql::Value;

use super::{
    Draft,
    moment::{self, Unit, shown},
};

/// The array's items.
///
/// # Errors
/// When it is none, with the place.
pub fn items(body: &[u8]) -> Result<Vec<Json>, String> {
    serde_json::from_slice(body).map_err(|error| format!("not a JSON array of readings: {error}"))
}

/// The reading in an item.
///
/// # Errors
/// Names the field that is wrong, and why.
pub fn parse(item: Json, precision: Option<Unit>) -> Result<Draft, String> {
    let Json::Object(fields) = item else {
        return Err(format!("{} is no reading: {{\"sensor\": .., \"value\": ..}} is", told(&item)));
    };
    let (mut sensor, mut value) = (None, None);
    let (mut time, mut id, mut token) = (None, None, None);
    for (name, field) in fields {
        let wrong = |what: &str| format!("{name} is {what}, not {}", told(&field));
        match (name.as_str(), &field) {
            ("sensor", Json::String(text)) => sensor = Some(text.clone()),
            ("sensor", _) => return Err(wrong("a text")),
            ("value", _) => {
                value =
                    Some(value_of(&field).ok_or_else(|| {
                        wrong("a finite number of 64 bits, true, false or a text")
                    })?)
            }
            ("time" | "id" | "token", Json::Null) => {}
            ("time", Json::Number(number)) => {
                let unit = precision.unwrap_or(Unit::Second);
                time = Some(moment::parse(&plain(&number.to_string()), unit)?);
            }
            ("time", Json::String(text)) => {
                time = Some(moment::parse(text, precision.unwrap_or(Unit::Second))?);
            }
            ("time", _) => return Err(wrong("a number or a text")),
            ("id", Json::String(text)) => id = Some(text.clone()),
            ("id", _) => return Err(wrong("a text")),
            ("token", _) => {
                token = Some(field.as_u64().ok_or_else(|| wrong("a whole number"))?);
            }
            _ => return Err(format!("a reading has no {}", shown(&name))),
        }
    }
    let sensor = sensor.ok_or("it has no sensor")?;
    let draft = Draft { sensor, value: value.ok_or("it has no value")?, time, id, token };
    draft.check()?;
    Ok(draft)
}

pub(crate) fn value_of(field: &Json) -> Option<Value> {
    match field {
        Json::Bool(is_true) => Some(Value::Integer(i64::from(*is_true))),
        Json::String(text) => Some(Value::Text(text.clone().into_bytes())),
        Json::Number(number) if number.is_f64() => number.as_f64().map(Value::Real),
        Json::Number(number) => number.as_i64().map(Value::Integer),
        Json::Null | Json::Array(_) | Json::Object(_) => None,
    }
}

/// A number such as `1.7e9` without its exponent.
pub(crate) fn plain(number: &str) -> String {
    match number.parse::<f64>() {
        Ok(real) if number.contains(['e', 'E']) => format!("{real}"),
        Ok(_) | Err(_) => number.to_owned(),
    }
}

fn told(field: &Json) -> String {
    shown(&field.to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_item_is_a_reading() {
        let item = json!({"sensor": "a b", "value": 3, "time": 1.5, "id": "x", "token": 9});
        let draft = Draft {
            sensor: "a b".to_owned(),
            value: Value::Integer(3),
            time: Some(1_500_000),
            id: Some("x".to_owned()),
            token: Some(9),
        };
        assert_eq!(parse(item, None), Ok(draft));
        let value =
            |value: Json| parse(json!({"sensor": "a", "value": value}), None).unwrap().value;
        assert_eq!(value(json!(true)), Value::Integer(1));
        assert_eq!(value(json!(3.0)), Value::Real(3.0));
        assert_eq!(value(json!("open")), Value::Text(b"open".to_vec()));
        let time = |time: Json, unit| {
            parse(json!({"sensor": "a", "value": 1, "time": time}), unit).unwrap().time
        };
        assert_eq!(time(json!(7), Some(Unit::Millisecond)), Some(7_000));
        assert_eq!(time(json!("7us"), Some(Unit::Millisecond)), Some(7));
        assert_eq!(time(json!(1.7e9), None), Some(1_700_000_000_000_000));
        assert_eq!(time(json!(null), None), None);
    }

    #[test]
    fn what_is_wrong_names_the_field() {
        for (item, part) in [
            (json!(3), "is no reading"),
            (json!({"value": 1}), "no sensor"),
            (json!({"sensor": "a"}), "no value"),
            (json!({"sensor": "a", "value": null}), "value is"),
            (json!({"sensor": "a", "value": [1]}), "value is"),
            (json!({"sensor": "a", "value": u64::MAX}), "64 bits"),
            (json!({"sensor": 1, "value": 1}), "sensor is a text"),
            (json!({"sensor": "", "value": 1}), "is empty"),
            (json!({"sensor": "a", "value": 1, "time": "soon"}), "is no time"),
            (json!({"sensor": "a", "value": 1, "time": 1_700_000_000_000_u64}), "ms, us or ns"),
            (json!({"sensor": "a", "value": 1, "time": []}), "time is"),
            (json!({"sensor": "a", "value": 1, "token": -1}), "token is"),
            (json!({"sensor": "a", "value": 1, "unit": "C"}), "no \"unit\""),
        ] {
            let refused = parse(item.clone(), None).unwrap_err();
            assert!(refused.contains(part), "{item}: {refused}");
        }
        assert!(items(b"[1,").unwrap_err().contains("line 1"));
        assert!(items(b"{}").is_err() && items(b"[NaN]").is_err());
    }
}
