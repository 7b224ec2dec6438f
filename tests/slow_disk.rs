//! Disks as slow as SD cards, or that stall, for agents of a test: what syncs takes longer
//! in them, by a library that is loaded into each (`slow_disk.c` says how long).
//!
//! It needs no rights and leaves nothing behind. Left out: programs that are linked
//! statically, as those for boards are; it is said then.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// See the module's description.
pub struct SlowDisk {
    folder: tempfile::TempDir,
    /// Whether syncs are slow when nothing stalls.
    is_slow: bool,
    starts: u64,
}

impl SlowDisk {
    /// Disks for the agents of this program. `None` where that cannot be; it says on standard
    /// error why.
    ///
    /// # Panics
    /// When there is no place for temporary files.
    #[must_use]
    pub fn new(program: &Path, is_slow: bool) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let disk = Self { folder, is_slow, starts: 0 };
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("slow_disk.c");
        let mut compile = Command::new("cc");
        compile.args(["-O1", "-shared", "-fPIC", "-o"]).arg(disk.library()).arg(source);
        let built = compile.args(["-ldl", "-pthread"]).stderr(Stdio::null()).status();
        if !built.is_ok_and(|built| built.success()) {
            eprintln!("no disk is slowed down: that wants a C compiler, cc");
            return None;
        }
        let hello = disk.folder.path().join("hello");
        let mut trial = Command::new(program);
        trial.arg("--version").env("LD_PRELOAD", disk.library()).env("SLOW_DISK_HELLO", &hello);
        let ran = trial.stdout(Stdio::null()).status();
        if !ran.is_ok_and(|ran| ran.success()) || !hello.exists() {
            eprintln!("no disk is slowed down: nothing can be loaded into {}", program.display());
            return None;
        }
        Some(disk)
    }

    fn library(&self) -> PathBuf {
        self.folder.path().join("slow_disk.so")
    }

    fn stall_path(&self, board: &str) -> PathBuf {
        self.folder.path().join(format!("{board}.stall"))
    }

    /// What the next start of a board has in its environment.
    pub(crate) fn environment(&mut self, board: &str) -> Vec<(&'static str, String)> {
        self.starts += 1;
        let text = |path: PathBuf| path.display().to_string();
        let mut environment = vec![
            ("LD_PRELOAD", text(self.library())),
            ("SLOW_DISK_STALL", text(self.stall_path(board))),
        ];
        environment.extend(self.is_slow.then(|| ("SLOW_DISK_SEED", self.starts.to_string())));
        environment
    }

    /// From now on no sync of this board comes to an end, or they do again.
    ///
    /// # Panics
    /// When nothing can be written to the temporary folder, or it did not stall.
    pub fn stall(&self, board: &str, stalls: bool) {
        let path = self.stall_path(board);
        let done = if stalls { fs::write(path, "") } else { fs::remove_file(path) };
        done.expect("the folder is ours");
    }
}
