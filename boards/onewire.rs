//! Thermometers on a 1-Wire bus, as the kernel's `w1_therm` has them. A read starts a
//! conversion and takes up to 750 ms.
//!
//! The file with the chip's bytes is read, not the one with the number alone: it says whether
//! the bytes came whole, and tells the 85 degrees that a chip has when it lost its power from 85 degrees
//! that it measured: byte 6 is then 0x0c, and 0x10 after a conversion (DS18B20, "reserved").

use std::path::Path;

use crate::{
    source::{ReadError, Source, Way, nonsense, text},
    tree::{entries, file_name, number},
};

/// Families of thermometers: DS18S20, DS1822, DS18B20, DS1825, DS28EA00.
const FAMILIES: [&str; 5] = ["10-", "22-", "28-", "3b-", "42-"];

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
    let wrong = |why: &str| ReadError::Nonsense(path.to_owned(), why.to_owned());
    if bytes.ends_with("NO") {
        return Err(wrong("the bus is disturbed: what came does not fit its checksum"));
    }
    let value = value.rsplit_once("t=").and_then(|(_, value)| number(value));
    let value = value.filter(|_| bytes.ends_with("YES")).ok_or_else(|| nonsense(path, &said))?;
    if bytes.starts_with("50 05") && bytes.split(' ').nth(6) == Some("0c") {
        return Err(wrong("it lost its power and has not measured since"));
    }
    Ok(value / 1_000.0)
}
