//! The ways in for readings: what a sensor process writes, over whatever road, becomes
//! readings that are stamped once and handed to the loop.
//!
//! [`line`](mod@line) reads what callers write, and knows nothing of where it comes
//! from; [`desk`] stamps it, asks the loop, and says what became of each line;
//! [`stream`] and [`datagram`] are the sockets. HTTP has a door of its own.
//!
//! What is wrong with one line is said of that line, by its number; the others count.
//! Nothing here stores anything, and nothing is tried again once the loop has it: what
//! makes a reading one is its number there.

use understudy_core::{
    limits::{READING_ID_BYTES_MAX, READING_TEXT_BYTES_MAX, SENSOR_NAME_BYTES_MAX},
    sql::Value,
};

use self::moment::shown;

pub mod datagram;
pub mod desk;
pub mod json;
pub mod limits;
pub mod line;
pub mod moment;
pub mod query;
mod stamps;
pub mod stream;
pub mod value;

/// A reading as its caller gave it, not stamped yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// The sensor's name.
    pub sensor: String,
    /// A number or a short text.
    pub value: Value,
    /// Microseconds since 1970, where the caller says when.
    pub time: Option<i64>,
    /// The caller's own name for it.
    pub id: Option<String>,
    /// Fencing token of the duty it was taken for.
    pub token: Option<u64>,
}

impl Draft {
    /// Checks what holds for every way in.
    ///
    /// # Errors
    /// Names what is not acceptable.
    pub fn check(&self) -> Result<(), String> {
        check_name("a sensor's name", &self.sensor, SENSOR_NAME_BYTES_MAX)?;
        if let Some(id) = &self.id {
            check_name("an id", id, READING_ID_BYTES_MAX)?;
        }
        match &self.value {
            Value::Text(text) if text.len() > READING_TEXT_BYTES_MAX => Err(format!(
                "the text has {} bytes, {READING_TEXT_BYTES_MAX} are taken",
                text.len()
            )),
            Value::Real(number) if !number.is_finite() => {
                Err(format!("{number} is no value: a reading is a finite number"))
            }
            Value::Integer(_) | Value::Real(_) | Value::Text(_) => Ok(()),
            Value::Null | Value::Blob(_) => {
                Err(String::from("a value is a number, true, false or a text"))
            }
        }
    }
}

fn check_name(what: &str, name: &str, bytes_max: usize) -> Result<(), String> {
    if name.is_empty() {
        return Err(format!("{what} is empty"));
    }
    if name.len() > bytes_max {
        return Err(format!(
            "{what} has {} bytes, {bytes_max} are allowed: {}",
            name.len(),
            shown(name)
        ));
    }
    match name.chars().find(|c| c.is_control()) {
        Some(c) => Err(format!("{what} has a control character, {c:?}: {}", shown(name))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
