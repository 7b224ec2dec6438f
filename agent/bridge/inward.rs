//! Messages in.

use crate::readings::desk::Desk;

use super::Stage;

/// Which messages, and what readings they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// The topics, as MQTT has filters.
    pub filter: String,
}

impl Subscription {
    /// Of this filter.
    ///
    /// # Errors
    /// Names what is wrong.
    pub fn new(
        filter: &str,
        _sensor: Option<&str>,
        _values: &[String],
        _time: Option<&str>,
        _is_kept: bool,
    ) -> Result<Self, String> {
        Ok(Self { filter: filter.to_owned() })
    }
}

/// Plays the part that takes messages in.
pub async fn play(stage: Stage, desk: Desk, all: Vec<Subscription>) {
    drop((stage, desk, all));
}
