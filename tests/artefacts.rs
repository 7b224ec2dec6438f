//! What `cross/build` made of the program, for tests of exactly what ships, and how this
//! machine imitates the others: the kernel hands their programs to QEMU (`cross/test` sees
//! to that), and QEMU takes from the environment which processor it is to be.

use std::{
    env,
    path::{Path, PathBuf},
};

/// Names the folder of the artefacts, `target/cross`. Without it there are none to test.
const FOLDER: &str = "UNDERSTUDY_ARTEFACTS";

/// A machine that a build of the program is for.
#[derive(Clone, Debug)]
pub struct Machine {
    /// The build.
    pub program: PathBuf,
    /// What its processes must find in their environment.
    pub environment: &'static [(&'static str, &'static str)],
}

/// Kinds of machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Pi 1, Zero W.
    Armv6,
    /// Pi 2 and later, with a system of 32 bits.
    Armv7,
    /// Pi 3 and later, with a system of 64 bits.
    Arm64,
    /// This one.
    X86,
}

impl Kind {
    /// All, the smallest machine first.
    pub const ALL: [Self; 4] = [Self::Armv6, Self::Armv7, Self::Arm64, Self::X86];

    /// What is built for it, as Rust names it.
    #[must_use]
    pub const fn target(self) -> &'static str {
        match self {
            Self::Armv6 => "arm-unknown-linux-musleabihf",
            Self::Armv7 => "armv7-unknown-linux-musleabihf",
            Self::Arm64 => "aarch64-unknown-linux-musl",
            Self::X86 => "x86_64-unknown-linux-musl",
        }
    }

    /// The oldest processor of the kind that a board of `boards/` has.
    const fn environment(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Armv6 => &[("QEMU_CPU", "arm1176")],
            Self::Armv7 => &[("QEMU_CPU", "cortex-a7")],
            Self::Arm64 => &[("QEMU_CPU", "cortex-a53")],
            Self::X86 => &[],
        }
    }

    /// Such a machine. `None` where no folder of artefacts is named; it says so on standard
    /// error.
    ///
    /// # Panics
    /// When one is named and the build is not in it.
    #[must_use]
    pub fn machine(self) -> Option<Machine> {
        let Some(folder) = env::var_os(FOLDER).map(PathBuf::from) else {
            eprintln!("{FOLDER} names no folder: {self:?} is not tested (cross/test does that)");
            return None;
        };
        Some(self.machine_of(&folder))
    }

    /// Such a machine, with the build that is in this folder of artefacts.
    ///
    /// # Panics
    /// When it is not there.
    #[must_use]
    pub fn machine_of(self, folder: &Path) -> Machine {
        let program = folder.join(self.target()).join("understudy");
        assert!(program.is_file(), "no {}: cross/build {}", program.display(), self.target());
        Machine { program, environment: self.environment() }
    }
}
