//! The drivers: each turns effects into system calls and their results into
//! events. Three rules for all: bounded, never blocks the loop, reports by event.

mod backup;
pub mod clock;
pub mod control;
pub mod database;
pub mod heard;
pub mod hook;
pub mod journal;
pub mod keeper;
pub mod mdns;
pub mod mqtt;
pub mod notify;
mod pages;
pub mod post;
pub mod processes;
pub mod random;
pub mod road;
pub mod socket;
pub mod tls;
pub mod udp;
pub mod watch;

/// This thread does its work when nothing else wants the processor.
fn give_way() {
    const LAST_PRIORITY: i32 = 19;
    // Zero is this thread, on Linux; full speed is right as well.
    let _ = rustix::process::setpriority_process(None, LAST_PRIORITY);
}
