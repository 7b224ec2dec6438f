//! Sensors that the kernel's IIO drivers read: climate, light, voltages. A channel has its
//! value ready (`in_temp_input`), or a raw number with a scale and an offset of its own or of
//! all channels of its kind: the value is `(raw + offset) * scale`
//! (`Documentation/ABI/testing/sysfs-bus-iio`).
//!
//! Left out: buffers and triggers, for whoever wants thousands of values a second; and channels
//! of kinds that are not in [`KINDS`] (acceleration, say), which are not listed either.

use std::path::{Path, PathBuf};

use crate::{
    source::{ReadError, Source, Way, nonsense, text},
    tree::{devices, entries, file_name, number},
};

/// A kind of channel.
struct Kind {
    /// How its channels' names begin.
    name: &'static str,
    /// The unit we tell.
    unit: &'static str,
    /// What one of the kernel's units is in ours.
    factor: f64,
    /// A raw number says something only with a scale.
    is_scaled: bool,
}

const fn kind(name: &'static str, unit: &'static str, factor: f64, is_scaled: bool) -> Kind {
    Kind { name, unit, factor, is_scaled }
}

const KINDS: [Kind; 11] = [
    kind("temp", "\u{b0}C", 0.001, true),
    kind("humidityrelative", "%", 0.001, true),
    kind("pressure", "Pa", 1_000.0, true),
    kind("illuminance", "lx", 1.0, false),
    kind("voltage", "V", 0.001, true),
    kind("current", "A", 0.001, true),
    kind("power", "W", 0.001, true),
    kind("resistance", "Ohm", 1.0, true),
    kind("concentration", "ppm", 10_000.0, true),
    kind("distance", "m", 1.0, true),
    kind("proximity", "", 1.0, false),
];

/// A channel.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Channel {
    /// `in_temp_input` or `in_temp_raw`.
    file: PathBuf,
    factor: f64,
    is_scaled: bool,
}

/// All channels of all devices.
pub(crate) fn channels(root: &Path) -> Vec<Source> {
    let is_device = |name: &str| name.starts_with("iio:device");
    let mut found = Vec::new();
    for device in devices(&root.join("sys/bus/iio/devices"), is_device) {
        let files = entries(&device.directory);
        for file in &files {
            let name = file_name(file);
            let Some(channel) = channel_of(&name) else { continue };
            // A value that is ready needs no sum.
            let ready = device.directory.join(format!("in_{channel}_input"));
            if name.ends_with("_raw") && files.contains(&ready) {
                continue;
            }
            let Some(kind) = KINDS.iter().find(|kind| is_of(channel, kind.name)) else { continue };
            let Kind { unit, factor, is_scaled, .. } = *kind;
            let way = Way::Channel(Channel { file: file.clone(), factor, is_scaled });
            found.push(Source::of(format!("iio/{}/{channel}", device.name), unit, way, &device));
        }
    }
    found
}

fn channel_of(file: &str) -> Option<&str> {
    let rest = file.strip_prefix("in_")?;
    rest.strip_suffix("_input").or_else(|| rest.strip_suffix("_raw"))
}

/// `voltage3` and `concentration_co2` are of a kind; a difference, `voltage0-voltage1`, too.
fn is_of(channel: &str, kind: &str) -> bool {
    let rest = channel.strip_prefix(kind);
    rest.is_some_and(|rest| {
        rest.is_empty() || rest.starts_with(|c: char| c == '_' || c.is_ascii_digit())
    })
}

/// `voltage` of `voltage3`, `voltage-voltage` of `voltage0-voltage1`: what all of its kind
/// have their files named by.
fn shared(channel: &str) -> String {
    let kind = |part: &str| part.trim_end_matches(|c: char| c.is_ascii_digit()).to_owned();
    let first = channel.split('_').next().unwrap_or_default();
    first.split('-').map(kind).collect::<Vec<String>>().join("-")
}

impl Channel {
    /// Reads it; a chip may measure only now.
    pub(crate) fn read(&self) -> Result<f64, ReadError> {
        let said = text(&self.file)?;
        let value = number(&said).ok_or_else(|| nonsense(&self.file, &said))?;
        if !file_name(&self.file).ends_with("_raw") {
            return Ok(value * self.factor);
        }
        let offset = self.beside("offset")?.unwrap_or(0.0);
        let scale = match self.beside("scale")? {
            Some(scale) => scale,
            None if self.is_scaled => {
                let why = String::from("it has no scale beside it, so its number says nothing");
                return Err(ReadError::Nonsense(self.file.clone(), why));
            }
            None => 1.0,
        };
        Ok((value + offset) * scale * self.factor)
    }

    /// What stands beside it: of this channel, of all of its kind, or of all there are.
    fn beside(&self, what: &str) -> Result<Option<f64>, ReadError> {
        let file = file_name(&self.file);
        let channel = channel_of(&file).unwrap_or_default();
        let kind = shared(channel);
        let names = [
            format!("in_{channel}_{what}"),
            format!("in_{kind}_{what}"),
            format!("in_{what}"),
            what.to_owned(),
        ];
        let mut paths = names.into_iter().map(|name| self.file.with_file_name(name));
        let Some(path) = paths.find(|path| path.exists()) else { return Ok(None) };
        let said = text(&path)?;
        number(&said).map(Some).ok_or_else(|| nonsense(&path, &said))
    }
}
