//! Thermometers on a 1-Wire bus, as the kernel's `w1_therm` has them. A read starts a
//! conversion and takes up to 750 ms.
//!
//! The file with the chip's bytes is read, not the one with the number alone: the bytes tell
//! what is no temperature though it looks like one.
//!
//! - They come with a checksum that fits or not; that of zeros fits, and a line that is held
//!   down gives zeros.
//! - A chip that lost its power says 85 degrees until it has measured: byte 6 is then 0x0c,
//!   and 0x10 after a conversion (DS18B20, "reserved"). With a DS18S20 the same byte is "count
//!   remain": of 85.0 degrees that it did measure the bytes are the same, and are refused too.
//! - Nothing comes at all where the conversion failed: so Linux has it since 2020.

use std::{ops::RangeInclusive, path::Path};

use crate::{
    source::{ReadError, Source, Way, nonsense, text},
    tree::{entries, file_name, number},
};

/// Families of thermometers: DS18S20 with DS1820, DS1822, DS18B20, DS1825 with MAX31850,
/// DS28EA00.
const FAMILIES: [&str; 5] = ["10-", "22-", "28-", "3b-", "42-"];

/// What a chip measures, degrees.
const RANGE: RangeInclusive<f64> = -55.0..=125.0;

/// The same of a thermocouple at a MAX31850, whatever it is made of.
const THERMOCOUPLES: RangeInclusive<f64> = -270.0..=1_820.0;

/// All that are on the bus.
pub(crate) fn thermometers(root: &Path) -> Vec<Source> {
    let all = entries(&root.join("sys/bus/w1/devices")).into_iter();
    let is_one = |name: &String| FAMILIES.iter().any(|family| name.starts_with(family));
    let source = |path: std::path::PathBuf| {
        let name = Some(file_name(&path)).filter(is_one)?;
        let way = Way::OneWire(path.join("w1_slave"));
        Some(Source::on_bus(format!("w1/{name}"), "\u{b0}C", way, "w1"))
    };
    all.filter_map(source).collect()
}

/// Reads one.
pub(crate) fn read(path: &Path) -> Result<f64, ReadError> {
    let said = text(path)?;
    let mut lines = said.lines();
    let (bytes, value) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let wrong = |why: String| ReadError::Nonsense(path.to_owned(), why);
    if said.trim().is_empty() {
        let why = "it does not answer: is it plugged in, and the line whole?";
        return Err(wrong(why.to_owned()));
    }
    if bytes.ends_with("NO") {
        let why = "the bus is disturbed: what came does not fit its checksum";
        return Err(wrong(why.to_owned()));
    }
    let value = value.rsplit_once("t=").and_then(|(_, value)| number(value));
    let value = value.filter(|_| bytes.ends_with("YES")).ok_or_else(|| nonsense(path, &said))?;
    let value = value / 1_000.0;
    no_temperature(&family(path), bytes, value).map_or(Ok(value), |why| Err(wrong(why)))
}

/// The family of the chip, by the name of its directory.
fn family(path: &Path) -> String {
    let name = path.parent().map(file_name).unwrap_or_default();
    name.chars().take(3).collect()
}

/// Why this is none, though it came whole.
fn no_temperature(family: &str, bytes: &str, value: f64) -> Option<String> {
    let bytes: Vec<&str> = bytes.split(' ').take(9).collect();
    let byte = |place: usize| bytes.get(place).copied().unwrap_or_default();
    if bytes.iter().all(|byte| *byte == "00") {
        return Some(String::from("its line is held down: all that came is zeros"));
    }
    let reset = if family == "10-" { ["aa", "00"] } else { ["50", "05"] };
    if bytes.starts_with(&reset) && byte(6) == "0c" {
        return Some(String::from("it lost its power and has not measured since"));
    }
    // Of its byte 4 the first bit says that a MAX31850 is there, the last of byte 0 that its
    // thermocouple has a fault.
    let is_thermocouple = family == "3b-" && byte(4) >= "80";
    if is_thermocouple && byte(0).ends_with(['1', '3', '5', '7', '9', 'b', 'd', 'f']) {
        return Some(String::from("its thermocouple is open, or touches another line"));
    }
    let range = if is_thermocouple { THERMOCOUPLES } else { RANGE };
    let (least, most) = (range.start(), range.end());
    let why = || format!("it says {value} degrees, and measures {least} to {most}");
    (!range.contains(&value)).then(why)
}
