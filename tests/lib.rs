//! What the tests share: agents as real processes, and the simulator.

pub mod agents;
pub mod sim;
pub mod trace;
