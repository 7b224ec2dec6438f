//! Heat, voltages, currents, fans, as the kernel's thermal zones and hardware monitors have
//! them; and their alarms, among which is a Raspberry Pi's undervoltage
//! (`hwmon/rpi_volt/in0_lcrit_alarm`). What a driver says is faulty is not believed.
//!
//! Left out: the monitors that the kernel makes of thermometers on 1-Wire, which are read
//! with more care ([`crate::onewire`]).

use std::path::Path;

use crate::{
    source::{ReadError, Source, Way, nonsense, text},
    tree::{Device, devices, entries, file_name, line, number},
};

/// Thermal zones.
pub(crate) fn zones(root: &Path) -> Vec<Source> {
    let is_zone = |name: &str| name.starts_with("thermal_zone");
    let source = |zone: Device| {
        let path = zone.directory.join("temp");
        let name = format!("thermal/{}", zone.name);
        path.exists().then(|| Source::of(name, "\u{b0}C", Way::Divided(path, 1_000.0), zone))
    };
    devices(&root.join("sys/class/thermal"), is_zone).into_iter().filter_map(source).collect()
}

/// How hwmon names its inputs: start, unit, divisor (the kernel's `sysfs-interface`).
const MONITORED: [(&str, &str, f64); 7] = [
    ("temp", "\u{b0}C", 1_000.0),
    ("in", "V", 1_000.0),
    ("curr", "A", 1_000.0),
    ("power", "W", 1_000_000.0),
    ("energy", "J", 1_000_000.0),
    ("humidity", "%", 1_000.0),
    ("fan", "rpm", 1.0),
];

/// Inputs and alarms of hardware monitors.
pub(crate) fn chips(root: &Path) -> Vec<Source> {
    let mut found = Vec::new();
    for chip in devices(&root.join("sys/class/hwmon"), |_| true) {
        if chip.name.starts_with("w1_slave") {
            continue;
        }
        for path in entries(&chip.directory) {
            let file = file_name(&path);
            let Some((input, unit, divisor)) = input_of(&file) else { continue };
            let name = format!("hwmon/{}/{input}", chip.name);
            found.push(Source::of(name, unit, Way::Divided(path, divisor), &chip));
        }
    }
    found
}

/// Reads one, whose unit is the file's divided by this. Where a wire is broken the input says
/// something all the same, and the file `_fault` beside it that it is worth nothing.
pub(crate) fn read(path: &Path, divisor: f64) -> Result<f64, ReadError> {
    let file = file_name(path);
    let fault = file.strip_suffix("_input").map(|name| format!("{name}_fault"));
    let says = fault.and_then(|fault| line(&path.with_file_name(fault)));
    if says.as_deref() == Some("1") {
        let why = String::from("its driver says that it is faulty");
        return Err(ReadError::Nonsense(path.to_owned(), why));
    }
    let text = text(path)?;
    let value = number(&text).map(|value| value / divisor);
    value.ok_or_else(|| nonsense(path, &text))
}

/// What a file says, if it is a value: its name, unit, divisor.
fn input_of(file: &str) -> Option<(&str, &'static str, f64)> {
    if file.ends_with("_alarm") {
        return Some((file, "", 1.0));
    }
    let input = file.strip_suffix("_input");
    let name = input.or_else(|| file.ends_with("_average").then_some(file))?;
    let kind = name.trim_end_matches("_average").trim_end_matches(|c: char| c.is_ascii_digit());
    let (_, unit, divisor) = MONITORED.iter().find(|(start, ..)| *start == kind)?;
    Some((name, unit, *divisor))
}
