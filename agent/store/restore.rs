//! restore: to come.
