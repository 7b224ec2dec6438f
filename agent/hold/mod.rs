//! `understudy hold`: keeps a command for as long as its board holds a duty.

pub mod words;
