//! The state of memory and of disks that a test or a measurement starts from.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use super::{run, tool};

/// Writes everything dirty to the disks and forgets what the page cache holds. Needs root.
#[track_caller]
pub fn drop_caches() {
    run(&mut tool("sync"));
    fs::write("/proc/sys/vm/drop_caches", "3").expect("root may drop caches");
}

/// Fills the filesystem of `folder` to the last block with one file in it, and gives its path.
#[track_caller]
pub fn fill_disk(folder: &Path) -> PathBuf {
    let path = folder.join("fills-the-disk");
    let mut file = File::create(&path).expect("the folder takes a file");
    for block_bytes in [1 << 20, 4096, 512] {
        let block = vec![0xF1; block_bytes];
        while file.write_all(&block).is_ok() {}
    }
    // Blocks are given out when dirty pages are written: only then is it known that it is full.
    let _ = file.sync_all();
    path
}

/// Touches and frees so much memory, in huge pages where the C library is told to use them.
///
/// On a virtual machine the host takes free memory back after a moment and is slow to give it again. Whoever
/// measures writes into fresh memory calls this just before.
pub fn warm_memory(size_bytes: usize) {
    const PAGE_BYTES: usize = 4096;
    let mut memory = Vec::<u8>::new();
    if memory.try_reserve_exact(size_bytes).is_err() {
        return;
    }
    for page in memory.spare_capacity_mut().chunks_mut(PAGE_BYTES) {
        page[0].write(1);
    }
    std::hint::black_box(&mut memory);
}

#[cfg(test)]
mod tests {
    use super::super::{Filesystem, Needs, require};
    use super::*;

    #[test]
    fn a_full_disk_takes_no_further_file() {
        let Some(_scratch) = require(&Needs::root().filesystems(&["ext4"])) else {
            return;
        };
        let filesystem = Filesystem::ext4(16 << 20);
        let filler = fill_disk(filesystem.path());
        assert!(fs::write(filesystem.path().join("more"), vec![1; 8192]).is_err());
        fs::remove_file(filler).unwrap();
        fs::write(filesystem.path().join("more"), vec![1; 8192]).unwrap();
    }
}
