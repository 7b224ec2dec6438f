//! What became of the group's boards and duties, as an agent sees it ([`recorder`],
//! [`ends`]) and shows it ([`query`]); the rows themselves are for the core
//! ([`understudy_core::history`]).

pub mod ends;
pub mod query;
pub mod recorder;
