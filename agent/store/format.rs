//! In which format a journal is: a number, and from the second format on the oldest release
//! that reads it, so that a program which does not can say what to install.
//!
//! A file rises with the group's version and never falls: until then the release before can be
//! put back, which reads the format before alone.

use rusqlite::Connection;
use understudy_core::versions::{VERSION_FIRST, release_of};

use super::meta::{meta, set_meta};
use crate::version;

/// The formats that this program reads, the first and the last.
pub const FORMATS: (i64, i64) = (3, 4);

/// Where the file says what it is, and what it needs.
const FORMAT: &str = "format";
const NEEDS: &str = "needs";

/// One of [`FORMATS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Format(i64);

impl Default for Format {
    fn default() -> Self {
        Self(FORMATS.0)
    }
}

impl Format {
    /// The one that boards of a group of this version have.
    pub(super) const fn of(version: u32) -> Self {
        match version {
            0..=VERSION_FIRST => Self(FORMATS.0),
            _ => Self(FORMATS.1),
        }
    }
}

/// The file's, or why this program does not read it.
pub(super) fn read(connection: &Connection) -> rusqlite::Result<Result<Format, String>> {
    let (first, last) = FORMATS;
    let Some(format) = meta(connection, FORMAT)? else { return Ok(Ok(Format::default())) };
    if (first..=last).contains(&format) {
        return Ok(Ok(Format(format)));
    }
    let needs = meta::<String>(connection, NEEDS)?.map_or_else(String::new, |release| {
        format!(": install understudy {release} or newer on this board; nothing is lost")
    });
    Ok(Err(format!("it has format version {format}, this program reads {first} to {last}{needs}")))
}

pub(super) fn write(connection: &Connection, Format(format): Format) -> rusqlite::Result<()> {
    set_meta(connection, FORMAT, format)?;
    match format == FORMATS.1 {
        true => set_meta(connection, NEEDS, version::text(release_of(2))),
        false => Ok(()),
    }
}
