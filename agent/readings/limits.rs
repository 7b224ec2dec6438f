//! Every bound of the ways in for readings, and its reason. What one caller may hold
//! is small: any user of the board may write here.

use std::time::Duration;

use understudy_core::limits::BATCH_READINGS_MAX;

/// One line, bytes: hundreds of fields of line protocol, and what a caller that never
/// ends its line can have kept for it.
pub const LINE_BYTES_MAX: usize = 8 << 10;

/// One datagram, bytes. What is longer is taken up to its last whole line within.
pub const DATAGRAM_BYTES_MAX: usize = 64 << 10;

/// Callers connected to the stream socket at a time.
pub const CONNECTIONS_MAX: usize = 64;

/// Callers beyond it that are told so at a time; further ones are hung up on.
pub const REFUSALS_MAX: usize = 8;

/// Who does not take its answers is given up after this.
pub const ANSWER: Duration = Duration::from_secs(30);

/// Readings of datagrams that were handed on and are not answered yet: with a window
/// of 50 ms more than a hundred thousand a second.
pub const DATAGRAM_READINGS_OPEN_MAX: usize = 8 * BATCH_READINGS_MAX;

/// Sensors whose stamps are remembered because they are ahead of the clock.
pub const SENSORS_AHEAD_MAX: usize = 1_024;

/// Between two lines of the log about datagrams that were not taken whole: their
/// senders cannot be told.
pub const COMPLAINT_MS: u64 = 10_000;

/// Between two tries to hand on what the board has no room for at the moment.
pub const BUSY: Duration = Duration::from_millis(20);
