//! The variants of partclone: a fixed list, so that no text of others ever becomes a part of a program's path.

/// One of partclone's programs, `partclone.<name>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Variant(&'static str);

/// What Debian's partclone has, and what upstream can build. `restore` is missing: it reads the images of all others, and
/// makes none. So are the tools that look at images.
const NAMES: [&str; 28] = [
    "apfs", "btrfs", "dd", "exfat", "ext2", "ext3", "ext4", "ext4dev", "extfs", "f2fs", "fat",
    "fat12", "fat16", "fat32", "hfs+", "hfsp", "hfsplus", "imager", "jfs", "minix", "nilfs2",
    "ntfs", "reiser4", "reiserfs", "ufs", "vfat", "vmfs", "xfs",
];

impl Variant {
    /// The one that copies all bytes.
    pub const DD: Variant = Variant("dd");

    /// The variant of that name, as it stands in file names and as lsblk names filesystems. Whether its program is
    /// installed is another question: [`Partclone::program`](super::Partclone::program).
    pub fn by_name(name: &str) -> Option<Self> {
        NAMES.into_iter().find(|known| *known == name).map(Variant)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        self.0
    }

    /// Whether it copies all bytes, without a header.
    pub fn is_raw(self) -> bool {
        self == Variant::DD
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filesystems_as_lsblk_names_them_have_their_variant() {
        for name in
            ["ext2", "ext3", "ext4", "xfs", "btrfs", "vfat", "ntfs", "exfat", "f2fs", "hfsplus"]
        {
            assert_eq!(Variant::by_name(name).map(Variant::name), Some(name));
        }
        assert!(Variant::by_name("dd").unwrap().is_raw());
        assert!(!Variant::by_name("minix").unwrap().is_raw());
    }

    #[test]
    fn what_partclone_does_not_know_is_no_variant() {
        let others = ["swap", "crypto_LUKS", "LVM2_member", "linux_raid_member", "iso9660"];
        let tricks = ["ntfs.81GiB", "", "dd.gz", "../dd", "EXT4", "restore", "chkimg", "ext4 "];
        for name in others.into_iter().chain(tricks) {
            assert_eq!(Variant::by_name(name), None, "{name}");
        }
    }
}
