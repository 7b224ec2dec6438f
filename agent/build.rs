//! Stops with one plain sentence when SQLite would be built without what this
//! program needs of it (otherwise the linker says it, in many), and leaves the
//! unwinding tables out of the release binary.

use std::{env, fs, io, path::PathBuf};

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-env-changed=LIBSQLITE3_FLAGS");
    println!("cargo::rerun-if-changed=build.rs");
    let flags = env::var("LIBSQLITE3_FLAGS").unwrap_or_default();
    for needed in ["SQLITE_ENABLE_PREUPDATE_HOOK", "SQLITE_ENABLE_DBPAGE_VTAB"] {
        if !flags.contains(needed) {
            println!(
                "cargo::error=SQLite must be built with -D{needed}: run cargo inside the \
                 repository, whose .cargo/config.toml sets LIBSQLITE3_FLAGS."
            );
        }
    }
    let is = |variable, value| env::var(variable).is_ok_and(|found| found == value);
    if is("PROFILE", "release") && is("CARGO_CFG_TARGET_OS", "linux") {
        discard_unwinding_tables()?;
    }
    Ok(())
}

/// A release aborts on panic and has no symbols: nothing would read these tables,
/// an eighth of the binary. rustc cannot leave out those of the standard library,
/// and not for one profile alone; both GNU's linker and LLVM's take this script.
fn discard_unwinding_tables() -> io::Result<()> {
    let script = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default()).join("discard.ld");
    fs::write(&script, "SECTIONS { /DISCARD/ : { *(.eh_frame) } } INSERT AFTER .text;\n")?;
    println!("cargo::rustc-link-arg-bins=-Wl,-T,{}", script.display());
    println!("cargo::rustc-link-arg-bins=-Wl,--no-eh-frame-hdr");
    Ok(())
}
