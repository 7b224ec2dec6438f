//! udp: to come.
