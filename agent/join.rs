//! join: to come.
