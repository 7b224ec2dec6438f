//! understudy: one small program on every board of a sensor group.

pub mod call;
pub mod command;
pub mod config;
pub mod control;
pub mod demo;
pub mod directory;
pub mod driver;
pub mod http;
pub mod identity;
pub mod join;
pub mod run;
pub mod seal;
pub mod settings;
pub mod start;
pub mod status;
pub mod store;
pub mod token;
pub mod view;
