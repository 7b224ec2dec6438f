//! Every bound of the HTTP door, and its reason. No caller holds anything for
//! ever: not a place, not memory, not a thread.

use std::time::Duration;

use understudy_core::limits::REQUEST_BYTES_MAX;

/// Callers connected at a time: many more than a board's sensors and screens
/// keep open, and few enough for its memory and its file descriptors.
pub(super) const CONNECTIONS_MAX: usize = 256;

/// Callers beyond it that are told so at a time; further ones are hung up on.
pub(super) const REFUSALS_MAX: usize = 16;

/// One that was told so is waited for no longer than this to hang up.
pub(super) const REFUSAL: Duration = Duration::from_secs(1);

/// The next request's head is complete within this, or the connection ends: an
/// idle one too, which every client opens anew.
pub(super) const HEAD: Duration = Duration::from_secs(30);

/// The longest URL that hyper takes, bytes.
pub(super) const URL_BYTES_MAX: usize = 65_534;

/// A head, and what is buffered of one connection besides, bytes.
pub(super) const HEAD_BYTES_MAX: usize = 2 * (URL_BYTES_MAX + 2);

/// Silence that is waited for in the middle of a body or an answer.
pub(super) const SILENCE: Duration = Duration::from_secs(30);

/// Who goes on sending or taking at this rate is waited for, bytes per second:
/// less than any network that carries HTTP.
pub(super) const RATE_MIN: u64 = 1 << 10;

/// Bodies in memory, of all callers together, bytes.
pub(super) const BODIES_BYTES_MAX: usize = 4 * REQUEST_BYTES_MAX;

/// Bodies above this are read on another thread, bytes.
pub(super) const INLINE_BYTES_MAX: usize = 64 << 10;

/// Lines of one body named that are no readings; the others are counted.
pub(super) const REFUSED_MAX: usize = 100;

/// Those of the bounds that a test lowers.
#[derive(Clone, Copy)]
pub(super) struct Bounds {
    pub(super) connections_max: usize,
    pub(super) head: Duration,
    pub(super) silence: Duration,
    pub(super) bodies_bytes_max: usize,
}

impl Bounds {
    pub(super) const SERVING: Self = Self {
        connections_max: CONNECTIONS_MAX,
        head: HEAD,
        silence: SILENCE,
        bodies_bytes_max: BODIES_BYTES_MAX,
    };
}

/// How long a transfer may have taken that has brought so many bytes: a pause is
/// forgiven, a trickle is not.
pub(super) fn patience_ms(silence: Duration, bytes: u64) -> u64 {
    let silence_ms = u64::try_from(silence.as_millis()).unwrap_or(u64::MAX);
    silence_ms.saturating_add(bytes.saturating_mul(1_000) / RATE_MIN)
}
