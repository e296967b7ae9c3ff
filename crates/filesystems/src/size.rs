//! How large a filesystem is by its own superblock.

use image::{Medium, Result};

use crate::superblock::{Superblock, read};

/// The size in bytes that the superblock of a filesystem of `kind`, as lsblk names it, gives; `None` where that is not
/// a kind that is read here, or where there is no such superblock.
///
/// NTFS counts the copy of its boot sector behind its last sector in; btrfs tells of this device only.
///
/// # Errors
///
/// Those of `medium`.
pub(crate) fn of(kind: &str, medium: &dyn Medium) -> Result<Option<u64>> {
    Ok(match kind {
        "ext2" | "ext3" | "ext4" | "ext4dev" | "extfs" => ext(&read(medium, 1024)?),
        "xfs" => xfs(&read(medium, 0)?),
        "btrfs" => btrfs(&read(medium, 64 << 10)?),
        "ntfs" => ntfs(&read(medium, 0)?),
        "vfat" | "fat" | "fat12" | "fat16" | "fat32" => fat(&read(medium, 0)?),
        "exfat" => exfat(&read(medium, 0)?),
        "f2fs" => f2fs(&read(medium, 1024)?),
        "swap" => swap(medium)?,
        _ => None,
    })
}

fn ext(block: &Superblock) -> Option<u64> {
    const INCOMPAT_64BIT: u64 = 0x80;
    let shift = block.u32(0x18);
    if !block.has(0x38, &[0x53, 0xef]) || shift > 6 {
        return None;
    }
    let is_64bit = block.u32(0x60) & INCOMPAT_64BIT != 0;
    let high = if is_64bit { block.u32(0x150) } else { 0 };
    (high << 32 | block.u32(0x04)).checked_mul(1024 << shift)
}

fn xfs(block: &Superblock) -> Option<u64> {
    let block_bytes = u64::from(block.be32(4));
    let is_one = block.has(0, b"XFSB") && is_power_within(block_bytes, 512, 64 << 10);
    block.be64(8).checked_mul(block_bytes).filter(|_| is_one)
}

fn btrfs(block: &Superblock) -> Option<u64> {
    /// Where the item of this device stands in the superblock; its size follows its number.
    const DEVICE_ITEM: usize = 0xc9;
    block.has(0x40, b"_BHRfS_M").then(|| block.u64(DEVICE_ITEM + 8))
}

fn ntfs(block: &Superblock) -> Option<u64> {
    let sector_bytes = block.u16(0x0b);
    let is_one = block.has(3, b"NTFS    ") && is_power_within(sector_bytes, 256, 4096);
    block.u64(0x28).checked_add(1)?.checked_mul(sector_bytes).filter(|_| is_one)
}

fn fat(block: &Superblock) -> Option<u64> {
    let sector_bytes = block.u16(0x0b);
    let is_one = block.has(510, &[0x55, 0xaa])
        && is_power_within(sector_bytes, 512, 4096)
        && block.byte(0x0d).is_power_of_two();
    let sectors = match block.u16(0x13) {
        0 => block.u32(0x20),
        few => few,
    };
    (is_one && sectors > 0).then(|| sectors * sector_bytes)
}

fn exfat(block: &Superblock) -> Option<u64> {
    let shift = u32::from(block.byte(108));
    let is_one = block.has(3, b"EXFAT   ") && (9..=12).contains(&shift);
    is_one.then(|| block.u64(72).checked_mul(1 << shift))?
}

fn f2fs(block: &Superblock) -> Option<u64> {
    let shift = block.u32(16);
    let is_one = block.has(0, &0xf2f5_2010_u32.to_le_bytes()) && (9..=16).contains(&shift);
    is_one.then(|| block.u64(36).checked_mul(1 << shift))?
}

/// The magic stands at the end of the first page, however large pages were where it was made.
fn swap(medium: &dyn Medium) -> Result<Option<u64>> {
    let len_bytes = medium.len()?;
    for page_bytes in [4096, 8192, 16 << 10, 32 << 10, 64 << 10_u64] {
        if len_bytes < page_bytes {
            break;
        }
        let mut magic = [0; 10];
        medium.read_at(&mut magic, page_bytes - 10)?;
        if &magic != b"SWAPSPACE2" {
            continue;
        }
        let header = read(medium, 1024)?;
        // It has the byte order of the machine that made it.
        let last_page = match (header.bytes(0), header.bytes(4)) {
            (version, last) if u32::from_le_bytes(version) == 1 => u32::from_le_bytes(last),
            (_, last) => u32::from_be_bytes(last),
        };
        return Ok(Some((u64::from(last_page) + 1) * page_bytes));
    }
    Ok(None)
}

fn is_power_within(number: u64, least: u64, most: u64) -> bool {
    number.is_power_of_two() && (least..=most).contains(&number)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use image::MemoryMedium;
    use sys::{Access, FileMedium};
    use testkit::host::{self, Needs};

    use super::*;

    /// Makes a filesystem in a file of `mib` MiB by a line of the shell, in which `$0` is the file, and reads its size.
    fn made(folder: &Path, kind: &str, mib: u64, line: &str) -> u64 {
        let path = folder.join(kind);
        let _ = fs::remove_file(&path);
        fs::File::create(&path).unwrap().set_len(mib << 20).unwrap();
        host::run(host::tool("sh").args(["-c", line]).arg(&path));
        let medium = FileMedium::open(&path, Access::Read).unwrap();
        of(kind, &medium).unwrap().unwrap_or_else(|| panic!("{line} made no {kind}"))
    }

    #[test]
    fn the_size_that_a_filesystem_was_made_with_is_read() {
        let tools = ["mkfs.ext4", "mkfs.xfs", "mkfs.btrfs", "mkfs.ntfs", "mkfs.vfat", "mkswap"];
        let Some(scratch) = host::require(&Needs::none().tools(&tools)) else { return };
        let of = |kind, mib, line| made(scratch.path(), kind, mib, line);
        assert_eq!(of("ext4", 64, "mkfs.ext4 -q $0"), 64 << 20);
        assert_eq!(of("ext4", 64, "mkfs.ext4 -q -b 1024 -O ^64bit $0 40000"), 40_000 << 10);
        assert_eq!(of("ext2", 64, "mkfs.ext2 -q -b 4096 $0"), 64 << 20);
        assert_eq!(of("xfs", 400, "mkfs.xfs -q $0"), 400 << 20);
        assert_eq!(of("xfs", 400, "mkfs.xfs -q -b size=1024 -d size=350m $0"), 350 << 20);
        assert_eq!(of("btrfs", 256, "mkfs.btrfs -q $0"), 256 << 20);
        assert_eq!(of("btrfs", 256, "mkfs.btrfs -q -b 201326592 $0"), 192 << 20);
        assert_eq!(of("ntfs", 32, "mkfs.ntfs -qFf $0 2>&1"), 32 << 20);
        assert_eq!(of("vfat", 40, "mkfs.vfat -F 12 -s 1 $0 1920"), 1920 << 10);
        assert_eq!(of("vfat", 40, "mkfs.vfat -F 16 -s 1 $0 30016"), 30_016 << 10);
        assert_eq!(of("vfat", 80, "mkfs.vfat -F 32 -s 1 $0 70016"), 70_016 << 10);
        assert_eq!(of("swap", 8, "mkswap $0 2>&1"), 8 << 20);
        assert_eq!(of("swap", 8, "mkswap -p 65536 $0 2>&1"), 8 << 20);
    }

    #[test]
    fn exfat_and_f2fs_tell_their_sizes_too() {
        let Some(scratch) = host::require(&Needs::none().tools(&["mkfs.exfat", "mkfs.f2fs"]))
        else {
            return;
        };
        assert_eq!(made(scratch.path(), "exfat", 64, "mkfs.exfat $0"), 64 << 20);
        assert_eq!(made(scratch.path(), "f2fs", 64, "mkfs.f2fs -q $0"), 64 << 20);
    }

    #[test]
    fn random_bytes_are_no_filesystem_and_do_no_harm() {
        let mut random = fastrand::Rng::with_seed(3);
        let kinds = ["ext4", "xfs", "btrfs", "ntfs", "vfat", "exfat", "f2fs", "swap", "other"];
        for len_bytes in [0, 1, 511, 512, 1025, 4096, 66_000, 140_000] {
            let medium = MemoryMedium::new("noise", len_bytes);
            let mut bytes = vec![0; len_bytes as usize];
            random.fill(&mut bytes);
            medium.write_at(&bytes, 0).unwrap();
            for kind in kinds {
                assert_eq!(of(kind, &medium).unwrap(), None, "{kind} in {len_bytes} bytes");
            }
        }
    }

    #[test]
    fn the_largest_numbers_do_not_overflow() {
        let mut block = Superblock([0xff; 1024]);
        block.0[3..11].copy_from_slice(b"NTFS    ");
        block.0[0x0b..0x0d].copy_from_slice(&4096_u16.to_le_bytes());
        assert_eq!(ntfs(&block), None);
        block.0[3..11].copy_from_slice(b"EXFAT   ");
        block.0[108] = 12;
        assert_eq!(exfat(&block), None);
        block.0[0..4].copy_from_slice(b"XFSB");
        block.0[4..8].copy_from_slice(&65_536_u32.to_be_bytes());
        assert_eq!(xfs(&block), None);
        block.0[0x18..0x1c].copy_from_slice(&6_u32.to_le_bytes());
        block.0[0x38..0x3a].copy_from_slice(&[0x53, 0xef]);
        assert_eq!(ext(&block), None);
    }
}
