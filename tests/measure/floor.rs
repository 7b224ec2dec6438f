//! What the disk itself can do: one block written and synced at a time.

use std::{
    fs::File,
    os::unix::fs::FileExt,
    path::Path,
    time::{Duration, Instant},
};

const BLOCK_BYTES: usize = 4_096;

/// `fdatasync` of a written 4 KB block, per second.
#[expect(clippy::disallowed_methods, reason = "measuring is what a clock is for here")]
pub(crate) fn syncs_per_s(directory: &Path, time: Duration) -> f64 {
    let file = File::create(directory.join("floor")).expect("the directory can be written");
    let block = [7; BLOCK_BYTES];
    let mut count = 0_u32;
    let started = Instant::now();
    while started.elapsed() < time {
        let place = u64::from(count % 256) * BLOCK_BYTES as u64;
        file.write_all_at(&block, place).expect("there is room");
        file.sync_data().expect("the disk syncs");
        count += 1;
    }
    f64::from(count) / started.elapsed().as_secs_f64()
}
