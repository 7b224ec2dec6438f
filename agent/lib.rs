//! understudy: one small program on every board of a sensor group.
//!
//! The deciding half is [`understudy_core`]; this package carries out what it
//! decides. [`run`] is the loop and the only place that sees both the node and
//! the drivers; [`start`] puts a board together, [`waiting`] is one without a
//! group, [`recover`] one whose group is lost; [`store`] is the two SQLite files, [`seal`] the sealed sessions,
//! [`driver`] everything that touches the system, [`http`] and [`control`] the
//! front doors, [`load`] what they are handed for the whole group, [`keepers`] who keeps a
//! command while a duty is held ([`hold`]), [`bridge`] what the agent does at MQTT brokers
//! meanwhile, [`sampling`] the board's own sensors, [`parent`] the process above the agent,
//! [`command`] the command line, [`demo`] the demonstration.
//!
//! Dependencies point downward: `command` -> `start` -> `run` -> drivers, seal,
//! front doors -> `load` -> store -> `call`, `retention`, `settings`, `status`, `identity` -> the core.

pub mod address;
pub mod boot;
pub mod bridge;
pub mod budget;
pub mod bulletin;
pub mod call;
pub mod checks;
pub mod clock;
pub mod command;
pub mod config;
pub mod control;
pub mod demo;
pub mod directory;
pub mod doctor;
pub mod driver;
pub mod duties;
pub mod feed;
pub mod history;
pub mod hold;
pub mod http;
pub mod identity;
pub mod join;
pub mod keepers;
pub mod keyring;
pub mod links;
pub mod load;
pub mod log;
pub mod notices;
pub mod parent;
pub mod probe;
pub mod progress;
pub mod readers;
pub mod readings;
pub mod recover;
pub mod retention;
pub mod run;
pub mod sampling;
pub mod seal;
pub mod settings;
pub mod slow;
pub mod start;
pub mod status;
pub mod storage;
pub mod store;
pub mod survey;
pub mod tending;
pub mod terminal;
pub mod time;
pub mod token;
pub mod turn;
pub mod version;
pub mod view;
pub mod waiting;
pub mod will;
pub mod wishes;
