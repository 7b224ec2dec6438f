//! understudy: one small program on every board of a sensor group.

pub mod call;
pub mod command;
pub mod config;
pub mod demo;
pub mod driver;
pub mod http;
pub mod identity;
pub mod join;
pub mod run;
pub mod seal;
pub mod status;
pub mod store;
pub mod token;
