//! What Linux tells of the machine: load, memory, disks, network.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::{
    source::{ReadError, Source, Way},
    tree::{entries, number},
};

/// A number among others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// The field at this place, blanks between.
    Field(usize),
    /// `Name: NUMBER kB`
    Kilobytes(&'static str),
    /// Received and sent bytes of all interfaces but loopback.
    Network { sent: bool },
    /// Sectors read and written of all whole disks, in bytes.
    Disks { written: bool },
    /// Signal of the first Wi-Fi interface, dBm.
    Signal,
    /// A number in hexadecimal digits.
    Hexadecimal,
}

/// What is there of it.
pub(crate) fn all(root: &Path) -> Vec<Source> {
    let fixed = [
        ("load/1m", "", "proc/loadavg", Form::Field(0)),
        ("load/5m", "", "proc/loadavg", Form::Field(1)),
        ("uptime", "s", "proc/uptime", Form::Field(0)),
        ("memory/available", "B", "proc/meminfo", Form::Kilobytes("MemAvailable:")),
        ("memory/free", "B", "proc/meminfo", Form::Kilobytes("MemFree:")),
        ("network/received", "B", "proc/net/dev", Form::Network { sent: false }),
        ("network/sent", "B", "proc/net/dev", Form::Network { sent: true }),
        ("disk/read", "B", "proc/diskstats", Form::Disks { written: false }),
        ("disk/written", "B", "proc/diskstats", Form::Disks { written: true }),
    ];
    let source = |(name, unit, path, form): (&str, &'static str, &str, Form)| {
        let path = root.join(path);
        let found = |path| Source::on_bus(name.to_owned(), unit, Way::Form(path, form), "kernel");
        path.exists().then(|| found(path))
    };
    let mut found: Vec<Source> = fixed.into_iter().filter_map(source).collect();
    let space = Way::Space(root.to_owned());
    found.push(Source::on_bus(String::from("disk/free"), "B", space, "disk"));
    found.extend(signal_of(root));
    found.extend(throttled(root));
    found
}

/// The signal of Wi-Fi, where there is any: to read it the kernel asks the driver, which may
/// hang.
fn signal_of(root: &Path) -> Option<Source> {
    let mut interfaces = entries(&root.join("sys/class/net")).into_iter();
    let way = Way::Form(root.join("proc/net/wireless"), Form::Signal);
    let has_wireless = |path: PathBuf| path.join("wireless").exists();
    let source = || Source::on_bus(String::from("wifi/signal"), "dBm", way, "wifi");
    interfaces.any(has_wireless).then(source)
}

/// What a Raspberry Pi's firmware has cut back: its bits are undervoltage, a capped clock,
/// throttling, a soft limit of heat, and from bit 16 on the same since the start.
fn throttled(root: &Path) -> Option<Source> {
    let drivers = entries(&root.join("sys/bus/platform/drivers/raspberrypi-firmware"));
    let mut files = drivers.into_iter().map(|device| device.join("get_throttled"));
    let file = files.find(|file| file.exists())?;
    let way = Way::Form(file, Form::Hexadecimal);
    Some(Source::on_bus(String::from("firmware/throttled"), "", way, "firmware"))
}

/// Free bytes where this is, for whoever is not root.
pub(crate) fn free(path: &Path) -> Result<f64, ReadError> {
    let space = rustix::fs::statvfs(path);
    let space =
        space.map_err(|error| ReadError::Gone(PathBuf::from(path), io::Error::from(error)))?;
    #[expect(
        clippy::cast_precision_loss,
        reason = "no disk has 2^53 bytes, or nobody minds the last"
    )]
    Ok(space.f_bavail as f64 * space.f_frsize as f64)
}

impl Form {
    /// The number in a file that says so.
    pub(crate) fn value(self, text: &str) -> Option<f64> {
        match self {
            Self::Field(place) => text.split_whitespace().nth(place).and_then(number),
            Self::Kilobytes(name) => kilobytes(text, name),
            Self::Network { sent } => network(text, sent),
            Self::Disks { written } => disks(text, written),
            Self::Signal => signal(text),
            Self::Hexadecimal => {
                let digits = text.trim().trim_start_matches("0x");
                u32::from_str_radix(digits, 16).ok().map(f64::from)
            }
        }
    }
}

fn kilobytes(text: &str, name: &str) -> Option<f64> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(number(line.split_whitespace().nth(1)?)? * 1_024.0)
}

/// Of nothing it is 0, not -0, which the sum of no floats is.
fn total(mut numbers: impl Iterator<Item = Option<f64>>) -> Option<f64> {
    numbers.try_fold(0.0, |total, number| Some(total + number?))
}

fn network(text: &str, sent: bool) -> Option<f64> {
    let interfaces = text.lines().filter_map(|line| line.split_once(':'));
    let counted = interfaces.filter(|(name, _)| name.trim() != "lo");
    let place = if sent { 8 } else { 0 };
    total(counted.map(|(_, fields)| number(fields.split_whitespace().nth(place)?)))
}

fn signal(text: &str) -> Option<f64> {
    let (_, fields) = text.lines().find_map(|line| line.split_once(':'))?;
    number(fields.split_whitespace().nth(2)?.trim_end_matches('.'))
}

fn disks(text: &str, written: bool) -> Option<f64> {
    let whole = |name: &str| {
        let starts = ["sd", "vd", "mmcblk", "nvme"].iter().any(|start| name.starts_with(start));
        let is_part = match name.starts_with("mmcblk") || name.starts_with("nvme") {
            true => name.contains('p'),
            false => name.ends_with(|c: char| c.is_ascii_digit()),
        };
        starts && !is_part
    };
    let lines = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let place = if written { 9 } else { 5 };
    let sectors = lines
        .filter(|fields| fields.get(2).is_some_and(|name| whole(name)))
        .map(|fields| number(fields.get(place)?));
    Some(total(sectors)? * 512.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_nothing_it_is_none_and_not_minus_none() {
        let alone = "    lo: 5 0 0 0 0 0 0 0 5 0 0 0 0 0 0 0\n";
        assert_eq!(network(alone, false).map(|bytes| bytes.to_string()).as_deref(), Some("0"));
        assert_eq!(disks("", true).map(|bytes| bytes.to_string()).as_deref(), Some("0"));
        assert_eq!(disks("8 0 sda 1 x", true), None, "what is no number is said");
    }
}
