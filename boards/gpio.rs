//! Input lines of GPIO chips: 1 while active. Whoever reads needs to be in the group `gpio`,
//! where the board's system has that.
//!
//! A line that is an output is left alone: to read it is to request it, and when it is let
//! go again the kernel may make an input of it, which switches off what it drives.
//!
//! A line is named by its own name, `gpio/GPIO17`, which stays when chips are numbered
//! otherwise, or by chip and number, `gpio/gpiochip0/17`.

use std::{io, path::PathBuf};

use gpiocdev::{
    Request,
    chip::Chip,
    line::{Direction, Value},
};

use crate::source::ReadError;

/// Which line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// By its own name.
    Named(String),
    /// By its number on a chip.
    Numbered(PathBuf, u32),
}

impl Line {
    /// The line that a source of that name is, if it is one.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let rest = name.strip_prefix("gpio/").filter(|rest| !rest.contains('*'))?;
        match rest.split_once('/') {
            None if !rest.is_empty() => Some(Self::Named(rest.to_owned())),
            None => None,
            Some((chip, number)) => {
                let number = number.parse().ok()?;
                let is_chip = chip.starts_with("gpiochip") && !chip.contains('/');
                is_chip.then(|| Self::Numbered(PathBuf::from("/dev").join(chip), number))
            }
        }
    }

    /// Reads it.
    pub(crate) fn read(&self) -> Result<f64, ReadError> {
        let (chip, number) = match self {
            Self::Numbered(chip, number) => (chip.clone(), *number),
            Self::Named(name) => {
                let found = gpiocdev::find_named_line(name);
                let found = found.ok_or_else(|| {
                    let why = format!("no chip that may be read has a line {name}");
                    let error = io::Error::new(io::ErrorKind::NotFound, why);
                    ReadError::Gone(PathBuf::from("/dev/gpiochip*"), error)
                })?;
                (found.chip, found.info.offset)
            }
        };
        let gone = |error: String| ReadError::Gone(chip.clone(), io::Error::other(error));
        let info = Chip::from_path(&chip).and_then(|chip| chip.line_info(number));
        let info = info.map_err(|error| gone(error.to_string()))?;
        if info.direction == Direction::Output {
            return Err(gone(format!("line {number} is an output: only inputs are read")));
        }
        let request = Request::builder().on_chip(&chip).with_line(number).as_is().request();
        let value = request.and_then(|request| request.value(number));
        match value {
            Ok(Value::Active) => Ok(1.0),
            Ok(Value::Inactive) => Ok(0.0),
            Err(error) => Err(gone(error.to_string())),
        }
    }
}
