//! Sources: whatever of a board gives a number when it is read.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

use crate::{
    gpio, hwmon,
    iio::Channel,
    onewire,
    system::{self, Form},
    tree::{self, Device},
};

/// Something that gives a number.
#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    /// What it is called: `thermal/cpu-thermal`, `iio/bme280@1-0076/temp`,
    /// `w1/28-0316a2795bff`, `load/1m`...
    pub name: String,
    /// `\u{b0}C`, `V`, `W`, `A`, `rpm`, `%`, `Pa`, `B`... or empty.
    pub unit: &'static str,
    /// What is read one after the other: a bus, a chip, or what the kernel has in memory.
    pub bus: String,
    /// How it is read.
    way: Way,
    /// Where the name of its chip stands, and which it was.
    chip: Option<(PathBuf, String)>,
}

/// How a source is read.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Way {
    /// The number in a file, divided by this.
    Divided(PathBuf, f64),
    /// A number among others in a file.
    Form(PathBuf, Form),
    /// A channel of an IIO device.
    Channel(Channel),
    /// A thermometer on a 1-Wire bus, by its file: a conversion takes up to 750 ms.
    OneWire(PathBuf),
    /// A line of a GPIO chip, as a name says.
    Line(gpio::Line),
    /// Free bytes where this path is.
    Space(PathBuf),
}

/// Why a source gave no number.
#[derive(Debug)]
pub enum ReadError {
    /// Its file cannot be read.
    Gone(PathBuf, io::Error),
    /// Its file does not say a number.
    Nonsense(PathBuf, String),
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone(path, error) => write!(f, "{}: {error}", path.display()),
            Self::Nonsense(path, why) => write!(f, "{}: {why}", path.display()),
        }
    }
}

impl std::error::Error for ReadError {}

/// Everything found under `root`, which is `/` but for tests. Lines of GPIO chips are not
/// among them: nobody but their owner knows which say anything ([`line()`]).
#[must_use]
pub fn sources(root: &Path) -> Vec<Source> {
    let mut found = hwmon::zones(root);
    found.extend(hwmon::chips(root));
    found.extend(crate::iio::channels(root));
    found.extend(onewire::thermometers(root));
    found.extend(system::all(root));
    found
}

/// The same, with the folder where the data is kept.
#[must_use]
pub fn all(root: &Path, folder: &Path) -> Vec<Source> {
    sources(root).into_iter().chain(data(folder)).collect()
}

/// The line of a GPIO chip of that name, `gpio/GPIO17` by its own or `gpio/gpiochip0/17`:
/// whether it is there shows when it is read. From then on this and its clones keep it, so
/// that it is let go no sooner than when all are dropped.
#[must_use]
pub fn line(name: &str) -> Option<Source> {
    let line = gpio::Line::parse(name)?;
    Some(Source::on_bus(name.to_owned(), "", Way::Line(line), "gpio"))
}

/// Free bytes where the data is kept, `disk/free/data`: `disk/free` is of the root, which says
/// nothing where that is read-only.
fn data(folder: &Path) -> Option<Source> {
    let space = || Way::Space(folder.to_owned());
    folder.exists().then(|| Source::on_bus(String::from("disk/free/data"), "B", space(), "disk"))
}

impl Source {
    /// One of a device.
    pub(crate) fn of(
        name: String,
        unit: &'static str,
        way: Way,
        device: impl std::borrow::Borrow<Device>,
    ) -> Self {
        let Device { bus, chip, .. } = device.borrow();
        Self { name, unit, bus: bus.clone(), way, chip: chip.clone() }
    }

    /// One that is of no device.
    pub(crate) fn on_bus(name: String, unit: &'static str, way: Way, bus: &str) -> Self {
        Self { name, unit, bus: bus.to_owned(), way, chip: None }
    }

    /// Reads it now.
    ///
    /// # Errors
    /// [`ReadError`] names the file and what is wrong with it.
    pub fn read(&self) -> Result<f64, ReadError> {
        if let Some((file, chip)) = &self.chip
            && tree::line(file).as_ref() != Some(chip)
        {
            let why =
                io::Error::new(io::ErrorKind::NotFound, format!("{chip} is not there any more"));
            return Err(ReadError::Gone(file.clone(), why));
        }
        match &self.way {
            Way::Divided(path, divisor) => hwmon::read(path, *divisor),
            Way::Form(path, form) => {
                let text = text(path)?;
                form.value(&text).ok_or_else(|| nonsense(path, &text))
            }
            Way::Channel(channel) => channel.read(),
            Way::OneWire(path) => onewire::read(path),
            Way::Line(line) => line.read(),
            Way::Space(path) => system::free(path),
        }
    }
}

/// What is in a file.
pub(crate) fn text(path: &Path) -> Result<String, ReadError> {
    fs::read_to_string(path).map_err(|error| ReadError::Gone(path.to_owned(), error))
}

/// That a file says no number.
pub(crate) fn nonsense(path: &Path, text: &str) -> ReadError {
    let shown: String = text.trim().chars().take(40).collect();
    ReadError::Nonsense(path.to_owned(), format!("no number: {shown:?}"))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

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

    fn near(root: &Path, name: &str, expected: f64) {
        let found = value(root, name);
        assert!((found - expected).abs() < 1e-9, "{name}: {found}");
    }

    fn find(root: &Path, name: &str) -> Option<Source> {
        sources(root).into_iter().find(|source| source.name == name)
    }

    fn refused(root: &Path, name: &str) -> String {
        find(root, name).expect(name).read().unwrap_err().to_string()
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
            ("sys/class/hwmon/hwmon1/in0_lcrit_alarm", "0\n"),
            ("sys/class/hwmon/hwmon2/name", "pwmfan\n"),
            ("sys/class/hwmon/hwmon2/fan1_input", "2310\n"),
            ("sys/bus/platform/drivers/raspberrypi-firmware/soc:firmware/get_throttled", "50005\n"),
            ("sys/class/net/wlan0/wireless/x", ""),
            ("sys/class/thermal/thermal_zone1/type", "acpitz\n"),
            ("sys/class/thermal/thermal_zone1/temp", "1000\n"),
            ("sys/class/thermal/thermal_zone2/type", "acpitz\n"),
            ("sys/class/thermal/thermal_zone2/temp", "2000\n"),
            ("sys/class/hwmon/hwmon3/name", "w1_slave_temp\n"),
            ("sys/class/hwmon/hwmon3/temp1_input", "85000\n"),
            ("sys/class/hwmon/hwmon4/name", "ina\n"),
            ("sys/class/hwmon/hwmon4/in1_input", "4980\n"),
            ("sys/class/hwmon/hwmon4/temp1_input", "127937\n"),
            ("sys/class/hwmon/hwmon4/temp1_fault", "1\n"),
            ("sys/class/hwmon/hwmon4/temp2_input", "21000\n"),
            ("sys/class/hwmon/hwmon4/temp2_fault", "0\n"),
            ("sys/class/hwmon/hwmon4/temp2_max_alarm", "1\n"),
            ("sys/class/hwmon/hwmon4/power1_input", "1000000\n"),
            ("sys/class/hwmon/hwmon4/power1_average", "2000000\n"),
            (
                "proc/net/wireless",
                "Inter-| sta-|   Quality\n face | tus | link level noise\n wlan0: 0000   62.  -48.  -256\n",
            ),
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
        near(root.path(), "thermal/cpu-thermal", 48.312);
        near(root.path(), "hwmon/ina/in1", 4.98);
        assert!(refused(root.path(), "hwmon/ina/temp1").contains("says that it is faulty"));
        near(root.path(), "hwmon/ina/temp2", 21.0);
        near(root.path(), "hwmon/ina/temp2_max_alarm", 1.0);
        near(root.path(), "hwmon/rpi_volt/in0_lcrit_alarm", 0.0);
        near(root.path(), "hwmon/pwmfan/fan1", 2_310.0);
        near(root.path(), "firmware/throttled", f64::from(0x50005));
        near(root.path(), "wifi/signal", -48.0);
        near(root.path(), "thermal/acpitz@thermal_zone2", 2.0);
        near(root.path(), "hwmon/ina/power1", 1.0);
        near(root.path(), "hwmon/ina/power1_average", 2.0);
        assert!(!sources(root.path()).iter().any(|it| it.name.contains("w1_slave")));
        near(root.path(), "load/1m", 0.52);
        near(root.path(), "memory/available", 2_097_152.0);
        near(root.path(), "network/received", 5.0);
        near(root.path(), "network/sent", 7.0);
        near(root.path(), "disk/read", 2_048.0);
        near(root.path(), "disk/written", 3_072.0);
    }

    #[test]
    fn iio_values_are_ready_or_a_sum_with_scales_of_their_own_or_of_their_kind() {
        let device = |file: &str| format!("sys/bus/iio/devices/iio:device0/{file}");
        let adc = |file: &str| format!("sys/bus/iio/devices/iio:device1/{file}");
        let files = [
            (device("name"), "bme280\n"),
            (device("in_temp_input"), "21540\n"),
            (device("in_temp_raw"), "nonsense\n"),
            (device("in_pressure_input"), "101.325000000\n"),
            (device("in_humidityrelative_input"), "45320\n"),
            (device("in_temp_oversampling_ratio"), "1\n"),
            (adc("name"), "ads1015\n"),
            (adc("in_voltage0_raw"), "1000\n"),
            (adc("in_voltage0_scale"), "2.000000\n"),
            (adc("in_voltage1_raw"), "100\n"),
            (adc("in_voltage_scale"), "3.000000\n"),
            (adc("in_voltage_offset"), "-20\n"),
            (adc("in_voltage0-voltage1_raw"), "7\n"),
            (adc("in_voltage-voltage_scale"), "1000.0\n"),
            (adc("in_current_raw"), "7\n"),
            (adc("in_concentration_co2_raw"), "800\n"),
            (adc("in_concentration_co2_scale"), "0.0001\n"),
        ];
        let files: Vec<(&str, &str)> =
            files.iter().map(|(path, text)| (&path[..], *text)).collect();
        let root = tree(&files);
        near(root.path(), "iio/bme280/temp", 21.54);
        near(root.path(), "iio/bme280/pressure", 101_325.0);
        near(root.path(), "iio/bme280/humidityrelative", 45.32);
        near(root.path(), "iio/ads1015/voltage0", (1_000.0 - 20.0) * 2.0 / 1_000.0);
        near(root.path(), "iio/ads1015/voltage1", (100.0 - 20.0) * 3.0 / 1_000.0);
        near(root.path(), "iio/ads1015/voltage0-voltage1", 7.0);
        near(root.path(), "iio/ads1015/concentration_co2", 800.0);
        assert!(refused(root.path(), "iio/ads1015/current").contains("no scale"));
        let names: Vec<String> = sources(root.path()).into_iter().map(|it| it.name).collect();
        assert_eq!(
            names.iter().filter(|name| name.starts_with("iio/bme280")).count(),
            3,
            "{names:?}"
        );
        fs::write(root.path().join(adc("in_voltage0_scale")), "banana").unwrap();
        let error = refused(root.path(), "iio/ads1015/voltage0");
        assert!(error.contains("in_voltage0_scale") && error.contains("banana"), "{error}");
    }

    #[test]
    fn thermometers_on_a_wire_are_believed_only_when_their_bytes_are_whole_and_measured() {
        let file = |id: &str| format!("sys/bus/w1/devices/{id}/w1_slave");
        let whole = "6e 01 4b 46 7f ff 02 10 71 : crc=71 YES\n6e 01 4b 46 7f ff 02 10 71 t=22875\n";
        let root = tree(&[
            (&file("28-0316a2795bff"), whole),
            (&file("28-disturbed"), "ff ff ff ff ff ff ff ff ff : crc=c9 NO\nff ff t=-62\n"),
            (&file("28-reset"), "50 05 4b 46 7f ff 0c 10 1c : crc=1c YES\n50 05 t=85000\n"),
            (&file("28-hot"), "50 05 4b 46 7f ff 10 10 1c : crc=1c YES\n50 05 t=85000\n"),
            (&file("28-text"), "banana\n"),
            (&file("28-unplugged"), ""),
            (&file("28-down"), "00 00 00 00 00 00 00 00 00 : crc=00 YES\n00 00 t=0\n"),
            (&file("28-zero"), "00 00 4b 46 7f ff 10 10 6b : crc=6b YES\n00 00 t=0\n"),
            (&file("28-far"), "ff 7f 4b 46 7f ff 0c 10 01 : crc=01 YES\nff 7f t=2047937\n"),
            (&file("28-low"), "80 fc 4b 46 7f ff 10 10 01 : crc=01 YES\n80 fc t=-56000\n"),
            (&file("10-reset"), "aa 00 4b 46 ff ff 0c 10 01 : crc=01 YES\naa 00 t=85000\n"),
            (&file("10-hot"), "aa 00 4b 46 ff ff 08 10 01 : crc=01 YES\naa 00 t=85250\n"),
            (&file("28-warm"), "aa 00 4b 46 7f ff 0c 10 01 : crc=01 YES\naa 00 t=10625\n"),
            (&file("3b-kiln"), "40 3e f0 19 f0 ff ff ff 01 : crc=01 YES\n40 3e t=996000\n"),
            (&file("3b-open"), "41 3e f0 19 f0 ff ff ff 01 : crc=01 YES\n41 3e t=996000\n"),
            (&file("3b-chip"), "40 3e f0 19 7f ff ff ff 01 : crc=01 YES\n40 3e t=996000\n"),
            (&file("w1_bus_master1"), "x"),
        ]);
        near(root.path(), "w1/28-0316a2795bff", 22.875);
        for (id, value) in
            [("28-hot", 85.0), ("28-zero", 0.0), ("10-hot", 85.25), ("28-warm", 10.625)]
        {
            near(root.path(), &format!("w1/{id}"), value);
        }
        near(root.path(), "w1/3b-kiln", 996.0);
        for (id, words) in [
            ("28-disturbed", "checksum"),
            ("28-reset", "lost its power"),
            ("10-reset", "lost its power"),
            ("28-text", "no number"),
            ("28-unplugged", "it does not answer: is it plugged in"),
            ("28-down", "held down"),
            ("28-far", "2047.937 degrees, and measures -55 to 125"),
            ("28-low", "-56 degrees"),
            ("3b-chip", "996 degrees"),
            ("3b-open", "its thermocouple is open"),
        ] {
            let error = refused(root.path(), &format!("w1/{id}"));
            assert!(error.contains(words) && error.contains(id), "{error}");
        }
        assert_eq!(find(root.path(), "w1/w1_bus_master1"), None);
        assert_eq!(find(root.path(), "w1/28-hot").unwrap().bus, "w1");
    }

    #[test]
    fn a_chip_is_named_by_its_place_and_is_gone_when_another_has_its_number() {
        let root = tree(&[
            ("sys/devices/i2c-1/1-0044/hwmon/hwmon3/name", "sht3x\n"),
            ("sys/devices/i2c-1/1-0044/hwmon/hwmon3/temp1_input", "20000\n"),
            ("sys/devices/i2c-1/1-0045/hwmon/hwmon4/name", "sht3x\n"),
            ("sys/devices/i2c-1/1-0045/hwmon/hwmon4/temp1_input", "30000\n"),
        ]);
        let class = root.path().join("sys/class/hwmon");
        fs::create_dir_all(&class).unwrap();
        for (chip, address) in [("hwmon3", "1-0044"), ("hwmon4", "1-0045")] {
            let device = root.path().join(format!("sys/devices/i2c-1/{address}/hwmon/{chip}"));
            std::os::unix::fs::symlink(device, class.join(chip)).unwrap();
        }
        near(root.path(), "hwmon/sht3x@1-0044/temp1", 20.0);
        near(root.path(), "hwmon/sht3x@1-0045/temp1", 30.0);
        let source = find(root.path(), "hwmon/sht3x@1-0044/temp1").unwrap();
        assert_eq!(source.bus, "i2c-1", "both are read one after the other");
        let chip = root.path().join("sys/devices/i2c-1/1-0044/hwmon/hwmon3/name");
        fs::write(chip, "lm75\n").unwrap();
        assert!(source.read().unwrap_err().to_string().contains("sht3x is not there any more"));
    }

    #[test]
    fn a_line_of_a_chip_is_named_and_one_that_is_not_there_is_an_error() {
        for name in ["gpio/", "gpio/gpiochip0/x", "gpio/chip/1", "gpi/GPIO17"] {
            assert_eq!(line(name), None, "{name}");
        }
        let numbered = line("gpio/gpiochip99/4").unwrap();
        assert!(numbered.read().unwrap_err().to_string().contains("/dev/gpiochip99"));
        let named = line("gpio/NOSUCHLINE").unwrap();
        let error = named.read().unwrap_err().to_string();
        assert!(error.contains("no chip that may be read has a line NOSUCHLINE"), "{error}");
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
    fn the_data_folder_has_free_space_of_its_own_to_tell() {
        let folder = tempfile::tempdir().unwrap();
        let source = data(folder.path()).unwrap();
        assert_eq!((&source.name[..], source.unit), ("disk/free/data", "B"));
        let free = rustix::fs::statvfs(folder.path()).unwrap();
        let all = (free.f_blocks * free.f_frsize) as f64;
        assert!((1.0..=all).contains(&source.read().unwrap()));
        assert_eq!(data(&folder.path().join("nowhere")), None);
    }

    #[test]
    fn this_machine_has_sources_and_they_can_be_read() {
        let found = sources(Path::new("/"));
        assert!(found.iter().any(|source| source.read().is_ok()), "{found:?}");
    }
}
