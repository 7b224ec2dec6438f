//! database: to come.
