//! What a write may carry of a duty: under which of its tokens it counts.

use alloc::string::String;

use serde::{Deserialize, Serialize};

/// What a write is done under: it counts only while this is the duty's token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fence {
    /// The duty's name.
    pub duty: String,
    /// Of which grant.
    pub token: u64,
}

impl Fence {
    /// Reads `NAME:TOKEN`.
    ///
    /// # Errors
    /// When it is something else.
    pub fn parse(text: &str) -> Result<Self, String> {
        let parts = text.rsplit_once(':').filter(|(duty, _)| !duty.is_empty());
        let parsed = parts.and_then(|(duty, token)| {
            Some(Self { duty: String::from(duty), token: token.parse().ok()? })
        });
        parsed.ok_or_else(|| alloc::format!("a fence is NAME:TOKEN of a duty, not {text}"))
    }
}
