//! The deciding half of understudy.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod change;
pub mod error;
pub mod event;
pub mod limits;
pub mod link;
pub mod member;
pub mod mutant;
pub mod node;
pub mod restored;
pub mod sql;
pub mod timing;
pub mod wire;

mod apply;
mod bytes;
mod forward;
mod log;
mod promise;
mod reads;
mod ready;
mod serve;
mod validate;
mod writes;

#[cfg(test)]
mod node_tests;
#[cfg(test)]
mod rig;
