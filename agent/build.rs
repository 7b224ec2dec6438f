//! Stops with one plain sentence when SQLite would be built without what this
//! program needs of it (otherwise the linker says it, in many), leaves the
//! unwinding tables out of the release binary, and packs its relocations where
//! this machine can load it so.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

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
        let folder = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
        discard_unwinding_tables(&folder)?;
        let is_native = env::var("HOST").ok() == env::var("TARGET").ok();
        if is_native && loads_packed(&folder)? {
            println!("cargo::rustc-link-arg-bins={PACK}");
        }
    }
    Ok(())
}

/// Relative relocations as a bitmap (DT_RELR): a twentieth of the binary less. The C
/// library must know it, glibc does from 2.36 on: so only for the machine that
/// builds, and only when a program linked like that runs on it.
const PACK: &str = "-Wl,-z,pack-relative-relocs";

fn loads_packed(folder: &Path) -> io::Result<bool> {
    let (source, probe) = (folder.join("probe.rs"), folder.join("probe"));
    fs::write(&source, "fn main() {}\n")?;
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let mut link = Command::new(rustc);
    link.arg(&source).arg("-o").arg(&probe).args(["-C", &format!("link-arg={PACK}")]);
    let quiet = link.stdout(Stdio::null()).stderr(Stdio::null());
    let links = quiet.status().is_ok_and(|status| status.success());
    Ok(links && Command::new(&probe).status().is_ok_and(|status| status.success()))
}

/// A release aborts on panic and has no symbols: nothing would read these tables,
/// an eighth of the binary. rustc cannot leave out those of the standard library,
/// and not for one profile alone; both GNU's linker and LLVM's take this script.
fn discard_unwinding_tables(folder: &Path) -> io::Result<()> {
    let script = folder.join("discard.ld");
    fs::write(&script, "SECTIONS { /DISCARD/ : { *(.eh_frame) } } INSERT AFTER .text;\n")?;
    println!("cargo::rustc-link-arg-bins=-Wl,-T,{}", script.display());
    println!("cargo::rustc-link-arg-bins=-Wl,--no-eh-frame-hdr");
    Ok(())
}
