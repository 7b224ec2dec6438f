//! The drivers: each turns effects into system calls and their results into
//! events. Three rules for all: bounded, never blocks the loop, reports by event.

mod backup;
pub mod clock;
pub mod control;
pub mod database;
pub mod journal;
pub mod mdns;
pub mod notify;
mod pages;
pub mod udp;
