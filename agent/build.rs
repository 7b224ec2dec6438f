//! Stops with one plain sentence when SQLite would be built without what this
//! program needs of it: otherwise the linker says it, in many.

fn main() {
    println!("cargo::rerun-if-env-changed=LIBSQLITE3_FLAGS");
    let flags = std::env::var("LIBSQLITE3_FLAGS").unwrap_or_default();
    for needed in ["SQLITE_ENABLE_PREUPDATE_HOOK", "SQLITE_ENABLE_DBPAGE_VTAB"] {
        if !flags.contains(needed) {
            println!(
                "cargo::error=SQLite must be built with -D{needed}: run cargo inside the \
                 repository, whose .cargo/config.toml sets LIBSQLITE3_FLAGS."
            );
        }
    }
}
