//! What the tests share: agents as real processes.

pub mod agents;
