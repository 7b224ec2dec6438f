//! Input lines of GPIO chips: 1 while active. Whoever reads needs to be in the group `gpio`,
//! where the board's system has that.
//!
//! Only what is a plain input may be read: to read a line is to request it, and when it is let
//! go again the kernel may make an input of it, which switches off what it drives. A line that
//! is an output is refused. One that a Raspberry Pi uses for something else (PWM, UART, I2C) its
//! driver, pinctrl-bcm2835, calls an input, so nobody can refuse it. A line is therefore
//! requested once and kept, by whoever has its source: nobody else can request it meanwhile.
//!
//! A line is named by its own name, `gpio/GPIO17`, which stays when chips are numbered
//! otherwise, or by chip and number, `gpio/gpiochip0/17`.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use gpiocdev::{
    Request,
    chip::Chip,
    line::{Direction, Value},
};

use crate::source::ReadError;

/// A line, with its request once it was read.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Line {
    which: Which,
    held: Held<Open>,
}

/// Which line.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Which {
    /// By its own name.
    Named(String),
    /// By its number on a chip.
    Numbered(PathBuf, u32),
}

/// A line that is requested, its chip, its number.
type Open = (Request, PathBuf, u32);

/// What is opened once, and again after an error; clones share it.
#[derive(Debug)]
struct Held<T>(Arc<Mutex<Option<T>>>);

impl<T> Clone for Held<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// Two lines are the same, whether they are open or not.
impl<T> PartialEq for Held<T> {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl<T> Held<T> {
    fn read<E>(
        &self,
        open: impl FnOnce() -> Result<T, E>,
        read: impl FnOnce(&T) -> Result<f64, E>,
    ) -> Result<f64, E> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let opened = held.take().map_or_else(open, Ok)?;
        let value = read(&opened)?;
        *held = Some(opened);
        Ok(value)
    }
}

impl Line {
    /// The line that a source of that name is, if it is one.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let rest = name.strip_prefix("gpio/").filter(|rest| !rest.contains('*'))?;
        let which = match rest.split_once('/') {
            None => (!rest.is_empty()).then(|| Which::Named(rest.to_owned())),
            Some((chip, number)) => {
                let number = number.parse().ok()?;
                let is_chip = chip.starts_with("gpiochip") && !chip.contains('/');
                is_chip.then(|| Which::Numbered(PathBuf::from("/dev").join(chip), number))
            }
        };
        Some(Self { which: which?, held: Held(Arc::default()) })
    }

    /// Reads it.
    pub(crate) fn read(&self) -> Result<f64, ReadError> {
        self.held.read(
            || self.which.open(),
            |(request, chip, number)| match request.value(*number) {
                Ok(Value::Active) => Ok(1.0),
                Ok(Value::Inactive) => Ok(0.0),
                Err(error) => Err(gone(chip, error.to_string())),
            },
        )
    }
}

impl Which {
    fn open(&self) -> Result<Open, ReadError> {
        let (chip, number) = self.place()?;
        let info = Chip::from_path(&chip).and_then(|chip| chip.line_info(number));
        let info = info.map_err(|error| gone(&chip, error.to_string()))?;
        if info.direction == Direction::Output {
            let why = format!("line {number} is an output: only inputs are read");
            return Err(gone(&chip, why));
        }
        let request = Request::builder().on_chip(&chip).with_line(number).as_is().request();
        match request {
            Ok(request) => Ok((request, chip, number)),
            Err(error) => Err(gone(&chip, error.to_string())),
        }
    }

    /// Its chip, and its number there.
    fn place(&self) -> Result<(PathBuf, u32), ReadError> {
        match self {
            Self::Numbered(chip, number) => Ok((chip.clone(), *number)),
            Self::Named(name) => {
                let found = gpiocdev::find_named_line(name);
                let found = found.ok_or_else(|| {
                    let why = format!("no chip that may be read has a line {name}");
                    let error = io::Error::new(io::ErrorKind::NotFound, why);
                    ReadError::Gone(PathBuf::from("/dev/gpiochip*"), error)
                })?;
                Ok((found.chip, found.info.offset))
            }
        }
    }
}

fn gone(chip: &Path, error: String) -> ReadError {
    ReadError::Gone(chip.to_owned(), io::Error::other(error))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn what_is_held_is_opened_once_for_all_clones_and_again_after_an_error() {
        let (held, opened) = (Held(Arc::default()), Cell::new(0.0));
        let open = || {
            opened.set(opened.get() + 1.0);
            Ok(opened.get())
        };
        for _ in 0..2 {
            assert_eq!(held.clone().read(open, |value| Ok(*value)), Ok(1.0));
        }
        assert_eq!(held.read(open, |_| Err("gone")), Err("gone"));
        assert_eq!(held.read(open, |value| Ok(*value)), Ok(2.0), "it is opened anew");
    }
}
