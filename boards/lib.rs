//! What a board can tell of itself: the sensors every Linux board has, read from
//! its own files, without root and without C libraries.
//!
//! A source is found once and read many times; one that is unplugged or talks
//! nonsense is an error of that reading, never the end of anything.
//!
//! Left out as yet: board files, IIO, 1-Wire, GPIO, chips on a bus.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

/// Something that gives a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// What it is called: `thermal/cpu-thermal`, `load/1m`, `memory/available`...
    pub name: String,
    /// `Cel`, `V`, `W`, `A`, `1/min`, `%`, `By` or empty: the units of RFC 8428
    /// where it has them.
    pub unit: &'static str,
    path: PathBuf,
    form: Form,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// One number, divided by this.
    Divided(u32),
    /// The field at this place, blanks between.
    Field(usize),
    /// `Name: NUMBER kB`
    Kilobytes(&'static str),
    /// Received and sent bytes of all interfaces but loopback.
    Network { sent: bool },
    /// Sectors read and written of all whole disks, in bytes.
    Disks { written: bool },
}

/// Why a source gave no number.
#[derive(Debug)]
pub enum ReadError {
    /// Its file cannot be read.
    Gone(PathBuf, std::io::Error),
    /// Its file does not say a number.
    Nonsense(PathBuf, String),
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone(path, error) => write!(f, "{}: {error}", path.display()),
            Self::Nonsense(path, text) => write!(f, "{}: no number: {text:?}", path.display()),
        }
    }
}

impl std::error::Error for ReadError {}

/// Everything found under `root`, which is `/` but for tests.
#[must_use]
pub fn sources(root: &Path) -> Vec<Source> {
    let mut found = thermal_zones(root);
    found.extend(hardware_monitors(root));
    let fixed = [
        ("load/1m", "", "proc/loadavg", Form::Field(0)),
        ("uptime", "s", "proc/uptime", Form::Field(0)),
        ("memory/available", "By", "proc/meminfo", Form::Kilobytes("MemAvailable:")),
        ("memory/free", "By", "proc/meminfo", Form::Kilobytes("MemFree:")),
        ("network/received", "By", "proc/net/dev", Form::Network { sent: false }),
        ("network/sent", "By", "proc/net/dev", Form::Network { sent: true }),
        ("disk/read", "By", "proc/diskstats", Form::Disks { written: false }),
        ("disk/written", "By", "proc/diskstats", Form::Disks { written: true }),
    ];
    found.extend(fixed.into_iter().map(|(name, unit, path, form)| Source {
        name: name.to_owned(),
        unit,
        path: root.join(path),
        form,
    }));
    found.retain(|source| source.path.exists());
    found
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    let listed = fs::read_dir(directory).into_iter().flatten();
    let mut paths: Vec<_> = listed.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    paths
}

fn line(path: &Path) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned()).filter(|text| !text.is_empty())
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn thermal_zones(root: &Path) -> Vec<Source> {
    let zones = entries(&root.join("sys/class/thermal")).into_iter();
    zones
        .filter(|zone| file_name(zone).starts_with("thermal_zone"))
        .map(|zone| Source {
            name: format!("thermal/{}", line(&zone.join("type")).unwrap_or(file_name(&zone))),
            unit: "Cel",
            path: zone.join("temp"),
            form: Form::Divided(1_000),
        })
        .collect()
}

/// How hwmon names its inputs: start, unit, divisor.
const MONITORED: [(&str, &str, u32); 6] = [
    ("temp", "Cel", 1_000),
    ("in", "V", 1_000),
    ("curr", "A", 1_000),
    ("power", "W", 1_000_000),
    ("humidity", "%RH", 1_000),
    ("fan", "1/min", 1),
];

fn hardware_monitors(root: &Path) -> Vec<Source> {
    let mut found = Vec::new();
    for chip in entries(&root.join("sys/class/hwmon")) {
        let chip_name = line(&chip.join("name")).unwrap_or(file_name(&chip));
        for path in entries(&chip) {
            let file = file_name(&path);
            let Some(input) = file.strip_suffix("_input") else { continue };
            let kind = input.trim_end_matches(|c: char| c.is_ascii_digit());
            let Some((_, unit, divisor)) = MONITORED.iter().find(|(start, ..)| *start == kind)
            else {
                continue;
            };
            let name = format!("hwmon/{chip_name}/{input}");
            found.push(Source { name, unit, path, form: Form::Divided(*divisor) });
        }
    }
    found
}

impl Source {
    /// Reads it now.
    ///
    /// # Errors
    /// [`ReadError`] names the file and what is wrong with it.
    pub fn read(&self) -> Result<f64, ReadError> {
        let text = fs::read_to_string(&self.path)
            .map_err(|error| ReadError::Gone(self.path.clone(), error))?;
        let number = match self.form {
            Form::Divided(divisor) => number(text.trim()).map(|value| value / f64::from(divisor)),
            Form::Field(place) => text.split_whitespace().nth(place).and_then(number),
            Form::Kilobytes(name) => kilobytes(&text, name),
            Form::Network { sent } => network(&text, sent),
            Form::Disks { written } => disks(&text, written),
        };
        number.ok_or_else(|| {
            let shown: String = text.chars().take(40).collect();
            ReadError::Nonsense(self.path.clone(), shown)
        })
    }
}

fn number(text: &str) -> Option<f64> {
    text.parse().ok().filter(|value: &f64| value.is_finite())
}

fn kilobytes(text: &str, name: &str) -> Option<f64> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(number(line.split_whitespace().nth(1)?)? * 1_024.0)
}

fn network(text: &str, sent: bool) -> Option<f64> {
    let interfaces = text.lines().filter_map(|line| line.split_once(':'));
    let counted = interfaces.filter(|(name, _)| name.trim() != "lo");
    let place = if sent { 8 } else { 0 };
    counted.map(|(_, fields)| number(fields.split_whitespace().nth(place)?)).sum()
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
    Some(sectors.sum::<Option<f64>>()? * 512.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    fn value(root: &Path, name: &str) -> f64 {
        let all = sources(root);
        let source = all.iter().find(|source| source.name == name).expect(name);
        source.read().unwrap()
    }

    #[test]
    fn a_board_like_a_pi_tells_heat_voltage_and_counters() {
        let root = tree(&[
            ("sys/class/thermal/thermal_zone0/type", "cpu-thermal\n"),
            ("sys/class/thermal/thermal_zone0/temp", "48312\n"),
            ("sys/class/hwmon/hwmon1/name", "rpi_volt\n"),
            ("sys/class/hwmon/hwmon1/in0_input", "4980\n"),
            ("sys/class/hwmon/hwmon1/in0_lcrit_alarm", "0\n"),
            ("proc/loadavg", "0.52 0.58 0.59 1/467 1\n"),
            ("proc/meminfo", "MemTotal: 100 kB\nMemAvailable:   2048 kB\n"),
            (
                "proc/net/dev",
                "Inter-|\n face |\n lo: 9 0 0 0 0 0 0 0 9 0\n eth0: 5 0 0 0 0 0 0 0 7 0\n",
            ),
            (
                "proc/diskstats",
                " 179 0 mmcblk0 1 0 4 0 1 0 6 0\n 179 1 mmcblk0p1 1 0 9 0 1 0 9 0\n",
            ),
        ]);
        let near = |name, expected: f64| {
            let found = value(root.path(), name);
            assert!((found - expected).abs() < 1e-9, "{name}: {found}");
        };
        near("thermal/cpu-thermal", 48.312);
        near("hwmon/rpi_volt/in0", 4.98);
        near("load/1m", 0.52);
        near("memory/available", 2_097_152.0);
        near("network/received", 5.0);
        near("network/sent", 7.0);
        near("disk/read", 2_048.0);
        near("disk/written", 3_072.0);
    }

    #[test]
    fn garbage_and_unplugged_sensors_are_named_errors() {
        let root = tree(&[("sys/class/thermal/thermal_zone0/temp", "banana\n")]);
        let source = sources(root.path()).remove(0);
        let error = source.read().unwrap_err().to_string();
        assert!(error.contains("temp") && error.contains("banana"), "{error}");
        fs::remove_file(root.path().join("sys/class/thermal/thermal_zone0/temp")).unwrap();
        assert!(matches!(source.read(), Err(ReadError::Gone(..))));
    }

    #[test]
    fn this_machine_has_sources_and_they_can_be_read() {
        let found = sources(Path::new("/"));
        assert!(found.iter().any(|source| source.read().is_ok()), "{found:?}");
    }
}
