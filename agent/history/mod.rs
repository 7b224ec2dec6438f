//! What became of the group's boards and duties, as an agent sees, records and shows it;
//! the rows themselves are for the core ([`understudy_core::history`]).

pub mod query;
