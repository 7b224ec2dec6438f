//! What a board is, and what it can tell of itself: one TOML file for each kind of board
//! ([`board`]), and the sensors that Linux shows in files of its own ([`source`]), read
//! without root and without C libraries.
//!
//! A source is found once and read many times; one that is unplugged or talks nonsense is an
//! error of that reading, never the end of anything. Where a chip has a driver in the kernel
//! its values are in sysfs, and that is where they are read.
//!
//! Left out: chips on a bus that the kernel has no driver for. Each would be one more way to
//! read ([`source::Source`]), by an `embedded-hal` driver.

pub mod board;
mod gpio;
mod hwmon;
mod iio;
mod onewire;
pub mod source;
mod system;
mod tree;

pub use self::source::{ReadError, Source, sources};
