//! Whether a filesystem holds what partclone does not see: changes that only a journal knows, the files of FAT12.

mod xfs;

use std::path::Path;

use image::{Medium, Result};

use crate::partclone::Variant;
use crate::probe;
use crate::superblock::{self, Superblock};

/// Why the filesystem on `device` must not be given to partclone, a sentence without a full stop: it was not cleanly
/// unmounted, and what its journal or log knows would be missing in the map, and in an image. Of XFS and btrfs
/// partclone 0.3.23 does not notice that, and reports success. Nor must FAT12: it leaves data of the files out of the map.
///
/// What is not read here is left to partclone: FAT has no journal, and it looks at NTFS's mark itself.
///
/// # Errors
///
/// Those of opening and reading `device`.
pub fn unmapped(variant: Variant, device: &Path) -> Result<Option<String>> {
    of(variant, &*probe::open(device)?)
}

/// The same of an open one.
pub(crate) fn of(variant: Variant, medium: &dyn Medium) -> Result<Option<String>> {
    let at = |offset| superblock::read(medium, offset);
    let reason = match variant.name() {
        "ext2" | "ext3" | "ext4" | "ext4dev" | "extfs" => ext(&at(1024)?),
        "xfs" => xfs::reason(&at(0)?, medium)?,
        "btrfs" => btrfs(&at(64 << 10)?),
        "f2fs" => f2fs(&at(1024)?, medium)?,
        "exfat" => exfat(&at(0)?),
        "vfat" | "fat" | "fat12" | "fat16" | "fat32" => fat(&at(0)?),
        _ => None,
    };
    Ok(reason.map(str::to_string))
}

/// What is said of all of them.
const UNCLEAN: &str = "the filesystem was not cleanly unmounted: its journal holds changes (mount it once, or check it)";

fn ext(block: &Superblock) -> Option<&'static str> {
    const VALID: u64 = 1;
    const INCOMPAT_RECOVER: u64 = 4;
    let is_clean = block.u16(0x3a) & VALID != 0 && block.u32(0x60) & INCOMPAT_RECOVER == 0;
    (!is_clean).then_some(UNCLEAN)
}

/// A log tree is what was made durable by fsync since the last commit.
fn btrfs(block: &Superblock) -> Option<&'static str> {
    const LOG_ROOT: usize = 0x60;
    (block.u64(LOG_ROOT) != 0).then_some(UNCLEAN)
}

fn exfat(block: &Superblock) -> Option<&'static str> {
    const DIRTY: u64 = 2;
    (block.u16(106) & DIRTY != 0).then_some(UNCLEAN)
}

/// The number of clusters alone says which FAT it is.
fn fat(block: &Superblock) -> Option<&'static str> {
    const FAT12_CLUSTERS: u64 = 4085;
    let either = |short, long| if short > 0 { short } else { long };
    let (sector_bytes, cluster_sectors) = (block.u16(11).max(1), u64::from(block.byte(13)).max(1));
    let sectors = either(block.u16(19), block.u32(32));
    let table_sectors = u64::from(block.byte(16)) * either(block.u16(22), block.u32(36));
    let root_sectors = (block.u16(17) * 32).div_ceil(sector_bytes);
    let data_sectors = sectors.saturating_sub(block.u16(14) + table_sectors + root_sectors);
    (data_sectors / cluster_sectors < FAT12_CLUSTERS)
        .then_some("it is FAT12, whose used blocks partclone does not find")
}

/// There are two checkpoints, the newer of which counts; one that was written at an unmount says so.
fn f2fs(block: &Superblock, medium: &dyn Medium) -> Result<Option<&'static str>> {
    const UNMOUNTED: u64 = 1;
    let (block_shift, segment_shift) = (block.u32(16), block.u32(20));
    if block_shift > 16 || segment_shift > 16 {
        return Ok(Some(UNCLEAN));
    }
    let first = block.u32(76) << block_shift;
    let checkpoint = |offset| superblock::read(medium, offset);
    let (one, other) =
        (checkpoint(first)?, checkpoint(first + (1 << block_shift << segment_shift))?);
    let newer = if one.u64(0) > other.u64(0) { one } else { other };
    Ok((newer.u32(132) & UNMOUNTED == 0).then_some(UNCLEAN))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use testkit::host::{self, Filesystem, Needs, TempDir};

    use super::*;
    fn variant(name: &str) -> Variant {
        Variant::by_name(name).unwrap()
    }

    fn made(folder: &TempDir, kind: &str, options: &[&str], mib: u64) -> PathBuf {
        let path = folder.join(format!("{kind}.img"));
        let _ = fs::remove_file(&path);
        fs::File::create(&path).unwrap().set_len(mib << 20).unwrap();
        host::run(host::tool(&format!("mkfs.{kind}")).args(options).arg(&path));
        path
    }

    /// Writes files and makes them durable, copies the device as a crash would leave it, and unmounts. Gives what is said of
    /// the copy, and of the original.
    fn crashed_and_unmounted(
        folder: &TempDir,
        kind: &str,
        options: &[&str],
    ) -> [Option<String>; 2] {
        let path = made(folder, kind, options, 320);
        assert_eq!(unmapped(variant(kind), &path).unwrap(), None, "a new {kind} {options:?}");
        let copy = folder.join("crashed.img");
        {
            let mounted = Filesystem::mount(&path);
            for number in 0..20 {
                let file = mounted.path().join(format!("file{number}"));
                fs::write(&file, vec![number; 50_000]).unwrap();
                fs::File::open(&file).unwrap().sync_all().unwrap();
            }
            host::run(host::tool("cp").arg("--sparse=always").arg(mounted.device()).arg(&copy));
        }
        [unmapped(variant(kind), &copy).unwrap(), unmapped(variant(kind), &path).unwrap()]
    }

    #[test]
    fn a_crash_is_seen_and_an_unmount_too() {
        let needs = Needs::root().filesystems(&["ext4", "xfs", "btrfs"]);
        let Some(scratch) = host::require(&needs) else { return };
        let cases: [(&str, &[&str]); 5] = [
            ("ext4", &["-q"]),
            ("ext4", &["-q", "-O", "^has_journal"]),
            ("xfs", &["-q"]),
            ("xfs", &["-q", "-b", "size=1024"]),
            ("btrfs", &["-q"]),
        ];
        for (kind, options) in cases {
            let [crashed, unmounted] = crashed_and_unmounted(&scratch, kind, options);
            assert_eq!(crashed.as_deref(), Some(UNCLEAN), "{kind} {options:?}");
            assert_eq!(unmounted, None, "{kind} {options:?}");
        }
    }

    #[test]
    fn a_log_that_has_come_round_is_read_too() {
        let Some(scratch) = host::require(&Needs::root().filesystems(&["xfs"])) else { return };
        // Each fsync takes a whole stripe of the log: a few hundred fill it.
        let path = made(&scratch, "xfs", &["-q", "-l", "su=256k,size=66m"], 320);
        for round in 0..3_u8 {
            let mounted = Filesystem::mount(&path);
            for number in 0..130 {
                let file = fs::File::create(mounted.path().join(format!("{round}.{number}")));
                file.unwrap().sync_all().unwrap();
            }
            let now = unmapped(variant("xfs"), mounted.device()).unwrap();
            assert_eq!(now.as_deref(), Some(UNCLEAN), "in {round}");
            drop(mounted);
            assert_eq!(unmapped(variant("xfs"), &path).unwrap(), None, "after {round}");
        }
    }

    #[test]
    fn fat12_is_told_from_the_others() {
        let Some(folder) = host::require(&Needs::none().tools(&["mkfs.vfat"])) else { return };
        let cases = [("12", 4, true), ("16", 16, false), ("32", 64, false)];
        for (bits, mib, refused) in cases {
            let path = made(&folder, "vfat", &["-F", bits], mib);
            let reason = unmapped(variant("vfat"), &path).unwrap();
            assert_eq!(reason.is_some_and(|reason| reason.contains("FAT12")), refused, "{bits}");
        }
    }

    #[test]
    fn exfat_and_f2fs_have_their_marks() {
        let needs = Needs::none().tools(&["mkfs.exfat", "mkfs.f2fs"]);
        let Some(scratch) = host::require(&needs) else { return };
        let change = |path: &PathBuf, offset: usize, mask: u8| {
            let mut bytes = fs::read(path).unwrap();
            bytes[offset] ^= mask;
            fs::write(path, bytes).unwrap();
        };
        let exfat = made(&scratch, "exfat", &[], 16);
        assert_eq!(unmapped(variant("exfat"), &exfat).unwrap(), None);
        change(&exfat, 106, 2);
        assert_eq!(unmapped(variant("exfat"), &exfat).unwrap().as_deref(), Some(UNCLEAN));
        let f2fs = made(&scratch, "f2fs", &["-q"], 64);
        assert_eq!(unmapped(variant("f2fs"), &f2fs).unwrap(), None);
        // The first checkpoint lies in the second block of 512.
        change(&f2fs, (512 << 12) + 132, 1);
        assert_eq!(unmapped(variant("f2fs"), &f2fs).unwrap().as_deref(), Some(UNCLEAN));
    }
}
