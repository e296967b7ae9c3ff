//! Which format a medium holds, by its first bytes; never by its name.
//!
//! Raw has no mark, so that whoever may write into a raw image could make it look like another format. A probe
//! is therefore a question for people ("did you mean this?"); it never opens anything by itself.

use image::{Medium, Result};

/// Formats of others that people may take for raw images by mistake. Blockprint reads them as plain bytes
/// only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForeignFormat {
    /// What people call it.
    pub name: &'static str,
    offset: u64,
    magic: &'static [u8],
}

/// Container and compression formats, with the mark at their beginning.
///
/// Sources: QEMU `docs/interop/{qcow2,qed_spec}.txt`; VMware Virtual Disk Format 1.1; MS-VHDX 3.1; VHD
/// specification 1.0 (the copy of the footer at the front of a dynamic disk); VirtualBox VDICore.h; RFC 1952,
/// RFC 8878, the .xz and bzip2 file formats; casync 2.
const FOREIGN: &[ForeignFormat] = &[
    ForeignFormat { name: "qcow2", offset: 0, magic: b"QFI\xfb" },
    ForeignFormat { name: "QED", offset: 0, magic: b"QED\0" },
    ForeignFormat { name: "VMDK", offset: 0, magic: b"KDMV" },
    ForeignFormat { name: "VMDK descriptor", offset: 0, magic: b"# Disk DescriptorFile" },
    ForeignFormat { name: "VHDX", offset: 0, magic: b"vhdxfile" },
    ForeignFormat { name: "VHD", offset: 0, magic: b"conectix" },
    ForeignFormat { name: "VDI", offset: 0x40, magic: b"\x7f\x10\xda\xbe" },
    ForeignFormat {
        name: "casync index",
        offset: 0,
        magic: b"\x30\0\0\0\0\0\0\0\xf9\x9f\x12\x7b\x9c\x4d\x82\x96",
    },
    ForeignFormat { name: "gzip", offset: 0, magic: b"\x1f\x8b\x08" },
    ForeignFormat { name: "zstd", offset: 0, magic: b"\x28\xb5\x2f\xfd" },
    ForeignFormat { name: "xz", offset: 0, magic: b"\xfd7zXZ\0" },
    ForeignFormat { name: "bzip2", offset: 0, magic: b"BZh" },
    ForeignFormat { name: "lz4", offset: 0, magic: b"\x04\x22\x4d\x18" },
    ForeignFormat { name: "spgz", offset: 0, magic: b"SPGZ0001" },
    ForeignFormat { name: "partclone", offset: 0, magic: b"partclone-image" },
];

/// How much of a medium is looked at, in bytes.
const LOOK_BYTES: u64 = 512;

/// The foreign format that the beginning of `medium` looks like, if any.
pub fn looks_foreign(medium: &dyn Medium) -> Result<Option<ForeignFormat>> {
    let mut head = [0u8; LOOK_BYTES as usize];
    let len = medium.len()?.min(LOOK_BYTES) as usize;
    medium.read_at(&mut head[..len], 0)?;
    let found = FOREIGN.iter().find(|format| {
        head[..len].get(format.offset as usize..).is_some_and(|at| at.starts_with(format.magic))
    });
    Ok(found.copied())
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::MemoryMedium;

    #[test]
    fn each_foreign_mark_is_recognised_and_an_empty_or_plain_medium_is_not() {
        for format in FOREIGN {
            let medium = MemoryMedium::new("m", 0);
            assert_eq!(looks_foreign(&medium).unwrap(), None);
            medium.write_at(format.magic, format.offset).unwrap();
            assert_eq!(looks_foreign(&medium).unwrap(), Some(*format));
        }
    }
}
