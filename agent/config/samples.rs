//! `[[sample]]`: what TOML allows there and nobody can read, with where it stands.

use std::{collections::BTreeSet, ops::Range};

use toml::Spanned;
use understudy_core::limits::SENSOR_NAME_BYTES_MAX;

use crate::sampling::Sample;

/// Parts that a board has.
const SAMPLES_MAX: usize = 64;

/// Longest interval, seconds.
const EVERY_S_MAX: u64 = 86_400;

/// Can these be read?
///
/// # Errors
/// Where it stands that they cannot, and why.
pub(super) fn check(samples: &[Spanned<Sample>]) -> Result<(), (Range<usize>, String)> {
    let mut sensors = BTreeSet::new();
    for (place, sample) in samples.iter().enumerate() {
        let at = |reason| (sample.span(), format!("[[sample]] {reason}"));
        let one = sample.get_ref();
        check_one(one).map_err(at)?;
        let is_new = sensors.insert((&one.sensor, &one.source));
        let is_other = samples[..place]
            .iter()
            .all(|other| other.get_ref().sensor != one.sensor || one.sensor.contains("{source}"));
        if !is_new || !is_other {
            return Err(at(format!("sensor = {:?}: two would be called so", one.sensor)));
        }
        if place >= SAMPLES_MAX {
            return Err(at(format!("a board has {SAMPLES_MAX} such parts at most")));
        }
    }
    Ok(())
}

fn check_one(sample: &Sample) -> Result<(), String> {
    let Sample { source, sensor, every_s } = sample;
    if source.is_empty() {
        return Err(String::from("source = \"\": `understudy board` lists what there is"));
    }
    if source.contains('*') && !sensor.contains("{source}") {
        return Err(format!(
            "sensor = {sensor:?}: {source} may be several, so {{source}} is needed"
        ));
    }
    let rest = sensor.replace("{board}", "").replace("{source}", "");
    if sensor.is_empty() || rest.contains(['{', '}']) || rest.chars().any(char::is_control) {
        return Err(format!("sensor = {sensor:?}: it is a name, with {{board}} and {{source}}"));
    }
    if sensor.len() > SENSOR_NAME_BYTES_MAX {
        return Err(format!("sensor = {sensor:?}: {SENSOR_NAME_BYTES_MAX} bytes are possible"));
    }
    match (1..=EVERY_S_MAX).contains(every_s) {
        true => Ok(()),
        false => Err(format!("every_s = {every_s}: 1 to {EVERY_S_MAX} are possible")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Config;

    #[test]
    fn what_nobody_can_read_is_named_with_its_line() {
        let fine = "[[sample]]\nsource = \"thermal/*\"\n[[sample]]\nsource = \"w1/*\"\n";
        assert!(Config::parse(fine).is_ok());
        let named = "[[sample]]\nsource = \"load/1m\"\nsensor = \"load\"\n";
        for (text, words) in [
            (String::from("[[sample]]\nsource = \"\""), "line 1: [[sample]] source = \"\""),
            (format!("{named}{named}"), "line 4: [[sample]] sensor = \"load\": two would be"),
            (format!("{fine}{fine}"), "line 5: [[sample]] sensor = \"{board}/{source}\": two"),
            (String::from("[[sample]]\nsource = \"a*\"\nsensor = \"x\""), "{source} is needed"),
            (String::from("[[sample]]\nsource = \"a\"\nsensor = \"{x}\""), "it is a name"),
            (format!("{named}every_s = 0"), "every_s = 0: 1 to 86400"),
            (String::from("[[sample]]\nsourc = \"a\""), "line 2: unknown field `sourc`"),
        ] {
            let error = Config::parse(&text).unwrap_err();
            assert!(error.contains(words), "{words}: {error}");
        }
    }
}
