//! The one integration-test binary: a list of what it tests.

mod cluster;
mod damage;
mod joining;
mod script;
mod seeds;
mod sql;
mod stopping;
mod tidy;
mod waiting;
