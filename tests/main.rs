//! The one integration-test binary: a list of what it tests.

mod cluster;
mod script;
mod seeds;
mod stopping;
mod tidy;
