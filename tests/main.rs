//! The one integration-test binary: a list of what it tests.

mod cluster;
mod damage;
mod divergence;
mod joining;
mod script;
mod seeds;
mod stopping;
mod tidy;
mod waiting;
