//! What the tests share: agents as real processes, and the simulator.

pub mod agents;
pub mod ahead;
pub mod artefacts;
pub mod broker;
pub mod certificates;
pub mod fuzz;
pub mod lopsided;
pub mod namespace;
pub mod network;
pub mod posing;
pub mod processes;
pub mod program;
pub mod sim;
pub mod slow_disk;
pub mod trace;
