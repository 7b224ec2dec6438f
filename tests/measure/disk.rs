//! What the kernel says about the block device under a folder: all that anybody has
//! written to it, the file system's own bookkeeping included.

use std::{
    fs::{self, File},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use rustix::fs::{major, minor, syncfs};

/// What a sector is in these counters, whatever it is on the device, bytes.
const SECTOR_BYTES: u64 = 512;

/// Which of them is that of sectors written.
const SECTORS_WRITTEN: usize = 6;

/// See the module's description.
pub(crate) struct Device {
    /// As the kernel calls it.
    pub(crate) name: String,
    folder: File,
    counters: PathBuf,
}

impl Device {
    /// `None` where the folder is on no single device that the kernel counts for, as on
    /// tmpfs, overlayfs or btrfs.
    pub(crate) fn of(folder: &Path) -> Option<Self> {
        let number = fs::metadata(folder).ok()?.dev();
        let device = format!("/sys/dev/block/{}:{}", major(number), minor(number));
        let device = fs::canonicalize(device).ok()?;
        let name = device.file_name()?.to_string_lossy().into_owned();
        let folder = File::open(folder).ok()?;
        Some(Self { name, folder, counters: device.join("stat") })
    }

    /// Bytes written to it so far, once all that waits to be is there.
    ///
    /// # Panics
    /// When the device cannot be written, or its counters have gone.
    pub(crate) fn written_bytes(&self) -> u64 {
        syncfs(&self.folder).expect("the device can be written");
        let counters = fs::read_to_string(&self.counters).expect("the device is there");
        let sectors = counters.split_whitespace().nth(SECTORS_WRITTEN);
        SECTOR_BYTES * sectors.and_then(|sectors| sectors.parse::<u64>().ok()).expect("a number")
    }
}
