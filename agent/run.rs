//! run: to come.
