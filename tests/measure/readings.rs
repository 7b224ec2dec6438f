//! Readings as sensors in rooms give them: made up from a seed, or out of a CSV.

use std::path::Path;

use understudy_core::sql::Value;

/// Sensors that are made up.
const SENSORS: i64 = 20;

/// Between two readings of one of them, milliseconds.
const INTERVAL_MS: i64 = 1_000;

/// One reading.
#[derive(Clone, Copy)]
pub(crate) struct Reading {
    pub(crate) sensor: i64,
    pub(crate) time_ms: i64,
    pub(crate) value: f64,
}

impl Reading {
    pub(crate) const fn values(&self) -> [Value; 3] {
        let Self { sensor, time_ms, value } = *self;
        [Value::Integer(sensor), Value::Integer(time_ms), Value::Real(value)]
    }
}

/// Numbers below a bound, the same in every run.
struct Shaken(u64);

impl Shaken {
    fn below(&mut self, bound: u64) -> i64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        ((self.0 >> 33) % bound).cast_signed()
    }
}

/// Twenty sensors in turn, once a second: times that jitter by up to 20 ms,
/// values of two decimals that wander by up to 0.05 a step.
pub(crate) fn generated(count: usize) -> impl Iterator<Item = Reading> {
    let mut shaken = Shaken(7);
    let mut hundredths: Vec<i64> =
        (0..SENSORS).map(|sensor| 1_800 + 40 * sensor + shaken.below(30)).collect();
    (0..count).scan((), move |(), number| {
        let number = number as i64;
        let sensor = number % SENSORS;
        let value = &mut hundredths[usize::try_from(sensor).ok()?];
        *value += shaken.below(11) - 5;
        let phase = sensor * INTERVAL_MS / SENSORS;
        let time_ms = 1_760_000_000_000 + number / SENSORS * INTERVAL_MS + phase + shaken.below(20);
        #[expect(clippy::cast_precision_loss, reason = "some thousands")]
        let value = *value as f64 / 100.0;
        Some(Reading { sensor, time_ms, value })
    })
}

/// The same with values of all the digits that a double has.
pub(crate) fn full_precision(readings: &[Reading]) -> Vec<Reading> {
    let calibrated = |reading: &Reading| reading.value * 0.998_7 + 0.012_34;
    readings.iter().map(|reading| Reading { value: calibrated(reading), ..*reading }).collect()
}

/// Which columns of a CSV file are what.
pub(crate) struct Csv {
    pub(crate) file: String,
    pub(crate) time: String,
    pub(crate) sensor: Option<String>,
    pub(crate) value: String,
}

impl Csv {
    /// All rows in order. Sensors that are no numbers are numbered as they come.
    ///
    /// # Errors
    /// Names file, line and what is wrong.
    pub(crate) fn read(&self) -> Result<Vec<Reading>, String> {
        let path = Path::new(&self.file);
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("{}: {error}", path.display()))?;
        self.parse(&text)
    }

    fn parse(&self, text: &str) -> Result<Vec<Reading>, String> {
        let mut lines = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
        let (_, head) =
            lines.next().ok_or_else(|| self.at(1, "empty, a line of names is wanted"))?;
        let separator = if head.contains(';') && !head.contains(',') { ';' } else { ',' };
        let names = fields(head, separator).map_err(|reason| self.at(1, &reason))?;
        let place = |wanted: &str| {
            let known =
                || self.at(1, &format!("no column {wanted}: there are {}", names.join(", ")));
            names.iter().position(|name| name == wanted).ok_or_else(known)
        };
        let (time, value) = (place(&self.time)?, place(&self.value)?);
        let sensor = self.sensor.as_deref().map(place).transpose()?;
        let mut sensors: Vec<String> = Vec::new();
        let mut readings = Vec::new();
        let mut unnamed = None;
        for (number, line) in lines {
            let at = |reason: &str| self.at(number, reason);
            let mut fields = fields(line, separator).map_err(|reason| at(&reason))?;
            // Some programs number the rows in a first column without a name.
            let extra = fields.len().saturating_sub(names.len()).min(1);
            if fields.len() - extra != names.len() || *unnamed.get_or_insert(extra) != extra {
                let (are, wanted) = (fields.len(), names.len() + unnamed.unwrap_or(0));
                return Err(at(&format!("{are} fields where there are {wanted} before")));
            }
            fields.drain(..extra);
            let named = |place: usize, what: &str| {
                let (field, name) = (&fields[place], &names[place]);
                at(&format!("column {name}: {field:?} is no {what}"))
            };
            readings.push(Reading {
                sensor: sensor.map_or(0, |place| number_of(&mut sensors, &fields[place])),
                time_ms: milliseconds(&fields[time]).ok_or_else(|| {
                    named(time, "time: seconds or milliseconds since 1970, or 2015-02-04 17:51:00")
                })?,
                value: fields[value]
                    .parse()
                    .ok()
                    .filter(|value: &f64| value.is_finite())
                    .ok_or_else(|| named(value, "number"))?,
            });
        }
        if readings.is_empty() {
            return Err(self.at(2, "no readings below the line of names"));
        }
        Ok(readings)
    }

    fn at(&self, line: usize, reason: &str) -> String {
        format!("{}:{line}: {reason}", self.file)
    }
}

fn number_of(sensors: &mut Vec<String>, name: &str) -> i64 {
    if let Ok(number) = name.parse() {
        return number;
    }
    let known = sensors.iter().position(|known| known == name);
    let place = known.unwrap_or_else(|| {
        sensors.push(name.to_owned());
        sensors.len() - 1
    });
    i64::try_from(place).unwrap_or(i64::MAX)
}

/// The fields of a line, without the quotes around them.
fn fields(line: &str, separator: char) -> Result<Vec<String>, String> {
    let mut fields = vec![String::new()];
    let mut is_quoted = false;
    let mut characters = line.chars().peekable();
    while let Some(character) = characters.next() {
        let field = fields.last_mut().expect("there is always one");
        match character {
            '"' if is_quoted && characters.peek() == Some(&'"') => {
                characters.next();
                field.push('"');
            }
            '"' => is_quoted = !is_quoted,
            other if other == separator && !is_quoted => fields.push(String::new()),
            other => field.push(other),
        }
    }
    if is_quoted {
        return Err(String::from("a quote is not closed on its line"));
    }
    Ok(fields.iter().map(|field| field.trim().to_owned()).collect())
}

/// Seconds below 100,000,000,000, milliseconds above, or a date and a time.
fn milliseconds(text: &str) -> Option<i64> {
    if let Ok(number) = text.parse::<f64>() {
        let milliseconds = if number.abs() < 1e11 { number * 1e3 } else { number };
        #[expect(clippy::cast_possible_truncation, reason = "some 2^40; nonsense saturates")]
        return number.is_finite().then_some(milliseconds.round() as i64);
    }
    let (date, time) = text.trim_end_matches('Z').split_once([' ', 'T'])?;
    let mut date = date.split('-').map(str::parse::<i64>);
    let (year, month, day) = (date.next()?.ok()?, date.next()?.ok()?, date.next()?.ok()?);
    let mut time = time.split(':');
    let (hour, minute) = (time.next()?.parse::<i64>().ok()?, time.next()?.parse::<i64>().ok()?);
    let second: f64 = time.next().map_or(Ok(0.0), str::parse).ok()?;
    let fits = (1..=12).contains(&month) && (1..=31).contains(&day);
    let fits = fits && (0..24).contains(&hour) && (0..60).contains(&minute);
    #[expect(clippy::cast_possible_truncation, reason = "less than a minute")]
    let milliseconds = (second * 1e3).round() as i64;
    let minutes = (days(year, month, day) * 24 + hour) * 60 + minute;
    fits.then_some(minutes * 60_000 + milliseconds)
}

/// Days from 1970 to a date: years are counted from March, leap days at their end.
const fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + day_of_year
        - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    fn csv() -> Csv {
        let name = |name: &str| String::from(name);
        Csv { file: name("r.csv"), time: name("t"), sensor: Some(name("s")), value: name("v") }
    }

    #[test]
    fn readings_come_out_of_a_csv() {
        let text = "\"t\",s,v,more\n2015-02-04 17:51:00,hall,23.18,\"a,b\"\n\n1423072260,7,1,x\n";
        let readings = csv().parse(text).unwrap();
        let of = |reading: &Reading| (reading.sensor, reading.time_ms, reading.value);
        let readings: Vec<_> = readings.iter().map(of).collect();
        assert_eq!(readings, [(0, 1_423_072_260_000, 23.18), (7, 1_423_072_260_000, 1.0)]);
    }

    #[test]
    fn rows_may_be_numbered_in_a_first_column_without_a_name() {
        let readings = csv().parse("t,s,v\n\"1\",5,7,3\n\"2\",6,7,4\n").unwrap();
        assert_eq!((readings[1].time_ms, readings[1].value), (6_000, 4.0));
        assert!(csv().parse("t,s,v\n5,7,3\n\"2\",6,7,4\n").is_err());
    }

    #[test]
    fn what_is_wrong_with_a_csv_is_named_with_its_line() {
        for (text, words) in [
            ("", "r.csv:1: empty"),
            ("a,s,v\n", "r.csv:1: no column t: there are a, s, v"),
            ("t,s,v\n", "r.csv:2: no readings"),
            ("t,s,v\n1,2,3\n1,2\n", "r.csv:3: 2 fields where there are 3 before"),
            ("t,s,v\n1,2,warm\n", "r.csv:2: column v: \"warm\" is no number"),
            ("t,s,v\n1,2,nan\n", "r.csv:2: column v: \"nan\" is no number"),
            ("t,s,v\n2015-13-04 10:00,2,3\n", "r.csv:2: column t: \"2015-13-04 10:00\" is no time"),
            ("t,s,v\n1,\"2,3\n", "r.csv:2: a quote is not closed"),
        ] {
            let error = csv().parse(text).err().unwrap_or_default();
            assert!(error.starts_with(words), "{text:?}: {error}");
        }
    }
}
