//! Reading the trees that the kernel shows.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// What stands in a directory, in order; nothing where there is none.
pub(crate) fn entries(directory: &Path) -> Vec<PathBuf> {
    let listed = fs::read_dir(directory).into_iter().flatten();
    let mut paths: Vec<_> = listed.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    paths
}

/// The line in a file; none where it is empty or not there.
pub(crate) fn line(path: &Path) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned()).filter(|text| !text.is_empty())
}

/// The last part of a path.
pub(crate) fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// A finite number.
pub(crate) fn number(text: &str) -> Option<f64> {
    text.trim().parse().ok().filter(|value: &f64| value.is_finite())
}

/// A device of a class.
pub(crate) struct Device {
    /// What its driver calls it, and where it is on a bus that has places, its place there
    /// (`bme280@1-0076`): a name that does not change when another is plugged in.
    pub(crate) name: String,
    /// Its directory in the class.
    pub(crate) directory: PathBuf,
    /// What is read there one after the other.
    pub(crate) bus: String,
    /// Where its driver's name for it stands, and what that was: the kernel may give the
    /// directory to another.
    pub(crate) chip: Option<(PathBuf, String)>,
}

/// Devices of a class.
pub(crate) fn devices(directory: &Path, is_one: impl Fn(&str) -> bool) -> Vec<Device> {
    let all = entries(directory).into_iter().filter(|path| is_one(&file_name(path)));
    let mut devices: Vec<Device> = all.map(device).collect();
    let names: Vec<String> = devices.iter().map(|device| device.name.clone()).collect();
    for device in &mut devices {
        if names.iter().filter(|name| **name == device.name).count() > 1 {
            device.name = format!("{}@{}", device.name, file_name(&device.directory));
        }
    }
    devices
}

fn device(directory: PathBuf) -> Device {
    let file = ["name", "type"].map(|file| directory.join(file));
    let chip = file.into_iter().find_map(|file| Some((file.clone(), line(&file)?)));
    let kind = chip.as_ref().map_or_else(|| file_name(&directory), |(_, kind)| kind.clone());
    let real = fs::canonicalize(&directory).unwrap_or_else(|_| directory.clone());
    let above: Vec<String> = real.ancestors().skip(1).map(file_name).collect();
    let address = above.iter().find(|name| is_address(name));
    let bus = above.iter().find(|name| is_bus(name));
    Device {
        name: address.map_or_else(|| kind.clone(), |address| format!("{kind}@{address}")),
        bus: bus.cloned().unwrap_or_else(|| format!("{kind} {}", file_name(&directory))),
        directory,
        chip,
    }
}

/// `1-0076` on I2C, `spi0.1`.
fn is_address(name: &str) -> bool {
    let i2c = name.split_once('-').is_some_and(|(bus, address)| {
        is_number(bus) && address.len() == 4 && address.chars().all(|c| c.is_ascii_hexdigit())
    });
    i2c || name
        .strip_prefix("spi")
        .and_then(|rest| rest.split_once('.'))
        .is_some_and(|(bus, chip)| is_number(bus) && is_number(chip))
}

/// `i2c-1`, `spi0`.
fn is_bus(name: &str) -> bool {
    let rest = name.strip_prefix("i2c-").or_else(|| name.strip_prefix("spi"));
    rest.is_some_and(is_number)
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_digit())
}
