//! The deciding half of understudy: what a board says, stores, applies and
//! answers, and when. It never waits, and nothing here can touch a socket, a
//! file or a clock: in a `no_std` crate those names do not exist.
//!
//! # The contract
//!
//! 1. One [`event::Event`] in, every [`event::Effect`] out, carried out in
//!    order, before the next event.
//! 2. The core does no I/O, reads no clock, draws no randomness: `now`, the seed
//!    and all bytes are arguments.
//! 3. Work that takes time is an effect with a number; its end is an event with
//!    the same number.
//! 4. "Send only after durable" is kept here: such messages are held until the
//!    matching [`event::Event::Persisted`].
//! 5. [`event::Effect::Send`] is the only effect without an answer: a payload may
//!    be lost, repeated, reordered, damaged. Hence UDP = MQTT.
//! 6. Everything has a bound named in [`limits`]; over it a node refuses or drops,
//!    and counts.
//! 7. Bytes from a peer can be rejected, never crash a node. A broken local
//!    invariant must crash it: the supervisor restarts it from its disk.
//! 8. A replicated change that fails the same way everywhere is an answer; one
//!    that fails only here halts this node. Rows that do not fit are left out
//!    ([`event::Outcome::ChangedInPart`]): who is wrong is found by comparing boards.
//!
//! # Reading order
//!
//! [`event`] (the vocabulary), [`node`] (the dispatcher), `ready` (how raft-rs's
//! wishes become effects), `leadership` (when it is to be had, and given up),
//! `serve` (what becomes of a caller's request), then the states they share:
//! `log`, `retention`, `apply`, `writes`, `reads`, `forward`, `freshness`, `promise`,
//! `scrubber`, `catchup` and `source` (over [`pages`]), [`link`]; `roster` and
//! `admission` are about who belongs to the group ([`member`]), `invitations` about
//! who may come in; `duties`, `granting` and `holding` about [`duty`] under the rule of
//! [`lease`], [`history`] and [`fates`] about what became of them; [`intake`], [`spool`] and `spooling` about [`readings`]; `presence`, `walls` and [`status`] are for people. [`wire`] is what
//! travels, `validate` what raft-rs may see of it, [`change`] what one batch did,
//! [`scrub`] how boards find out that they differ.
//!
//! # What the caller must supply
//!
//! A journal and a database that carry out [`event::Effect::Persist`], `Fetch`,
//! `FetchSpool`, `Execute`, `Apply`, `Query` and `Pages`, and tell of scrubs by
//! [`event::Event::Scrubs`] and `Digested`, of duties by `Duties`, of the group's version by
//! `Version`, of what is durable by `DatabaseDurable`;
//! a sealed road for `Send`; boot time; a seed; and, at the start,
//! [`restored::Restored`].
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod change;
pub mod duty;
pub mod error;
pub mod event;
pub mod fates;
pub mod fence;
pub mod history;
pub mod keys;
pub mod limits;
pub mod link;
pub mod member;
pub mod mutant;
pub mod node;
pub mod pages;
pub mod readings;
pub mod restored;
pub mod retention;
pub mod scrub;
pub mod sql;
pub mod status;
pub mod timing;
pub mod versions;
pub mod wire;

mod admission;
mod apply;
pub mod beginning;
mod bytes;
mod catchup;
mod drain;
mod duties;
mod fitness;
mod forward;
mod freshness;
mod granting;
mod hearing;
mod holding;
mod id;
pub mod intake;
mod invitations;
mod leadership;
pub mod lease;
mod log;
mod presence;
mod promise;
mod reads;
mod ready;
mod receipts;
mod roster;
mod rotation;
mod rounds;
mod scrubber;
mod serve;
mod source;
pub mod spool;
mod spooling;
mod starts;
mod tail;
mod tempo;
mod trips;
mod validate;
mod walls;
mod witness;
mod writes;

#[cfg(test)]
mod intake_tests;
#[cfg(test)]
mod node_tests;
#[cfg(test)]
mod rig;
#[cfg(test)]
mod rig_readings;
