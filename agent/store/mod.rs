//! The two SQLite files of a board: the journal (what was promised) and the
//! database (what was applied).

pub mod database;
pub mod ffi;
pub mod journal;
pub mod restore;
