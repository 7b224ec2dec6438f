//! The one integration-test binary: a list of what it tests.

mod backup;
mod catchup;
mod cluster;
mod copies;
mod damage;
mod divergence;
mod fuzzing;
mod joining;
mod keys;
mod membership;
mod neighbours;
mod reading;
mod readings_kill;
mod recover;
mod restore;
mod script;
mod seeds;
mod settings;
mod sql;
mod stopping;
mod terminal;
mod tidy;
mod waiting;
mod ways_in;
mod witness;
mod year;
