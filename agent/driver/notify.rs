//! notify: to come.
