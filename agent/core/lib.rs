//! The deciding half of understudy.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod change;
pub mod error;
pub mod event;
pub mod limits;
pub mod member;
pub mod mutant;
pub mod sql;
