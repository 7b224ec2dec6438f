//! What the leader's database knows of wall time: what its agent tells it, nothing by
//! itself.

use std::{fmt, sync::Arc};

/// Asks for the wall time, microseconds since 1970; none while the board's clock is not
/// set.
#[derive(Clone)]
pub struct Wall(Arc<dyn Fn() -> Option<i64> + Send + Sync>);

impl Wall {
    /// One that asks this.
    pub fn new(ask: impl Fn() -> Option<i64> + Send + Sync + 'static) -> Self {
        Self(Arc::new(ask))
    }

    pub(super) fn now_us(&self) -> Option<i64> {
        (self.0)()
    }
}

impl Default for Wall {
    /// Nobody knows.
    fn default() -> Self {
        Self::new(|| None)
    }
}

impl fmt::Debug for Wall {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Wall({:?})", self.now_us())
    }
}
