//! ffi: to come.
