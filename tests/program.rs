//! The agent's binary, built if need be: another package's is not built by
//! `cargo test` or `cargo run` alone.

use std::{path::PathBuf, process::Command, sync::Once};

/// As `cargo build` makes it.
///
/// # Panics
/// When it does not build.
#[must_use]
pub fn debug() -> PathBuf {
    static BUILT: Once = Once::new();
    BUILT.call_once(|| build(&[]));
    target().join("debug/understudy")
}

/// As it is shipped.
///
/// # Panics
/// When it does not build.
#[must_use]
pub fn release() -> PathBuf {
    static BUILT: Once = Once::new();
    BUILT.call_once(|| build(&["--release"]));
    target().join("release/understudy")
}

/// Where things are built, and tests' own tools installed.
#[must_use]
pub fn target() -> PathBuf {
    let usual = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target");
    std::env::var_os("CARGO_TARGET_DIR").map_or(usual, PathBuf::from)
}

fn build(profile: &[&str]) {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // What cargo says of the package that runs now, for which others would be built anew.
    let is_of_package = |name: &str| {
        ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|beginning| name.starts_with(beginning))
    };
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(is_of_package) {
            cargo.env_remove(name);
        }
    }
    let built = cargo
        .args(["build", "--quiet", "--locked", "--package", "understudy", "--bin", "understudy"])
        .args(profile)
        .arg("--target-dir")
        .arg(target())
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status();
    assert!(built.expect("cargo runs").success(), "the agent builds");
}
