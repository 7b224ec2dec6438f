//! journal: to come.
