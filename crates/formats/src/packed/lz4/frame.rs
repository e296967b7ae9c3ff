//! The header of a frame, and the numbers that frames begin with.

use image::{Error, ErrorKind, Medium, Result};
use twox_hash::XxHash32;

/// The magic number of a frame.
pub(super) const FRAME: u32 = 0x184d_2204;
/// The magic number of a frame as the first versions of the tool made it (`lz4 -l`).
pub(super) const LEGACY: u32 = 0x184c_2102;
/// The skippable frame that our table stands in.
pub(super) const OURS: u32 = 0x184d_2a5b;
/// The bit of a block's length that says that it stands there as it is.
pub(super) const PLAIN: u32 = 1 << 31;
/// The longest header behind the magic number in bytes.
pub(super) const DESCRIPTOR_BYTES_MAX: usize = 15;

/// Whether a skippable frame has this magic number.
pub(super) fn is_skippable(magic: u32) -> bool {
    magic & 0xffff_fff0 == 0x184d_2a50
}

/// That the file begins as one of LZ4's does.
pub(super) fn check_head(medium: &dyn Medium) -> Result<()> {
    if medium.len()? >= 4 {
        let mut magic = [0; 4];
        medium.read_at(&mut magic, 0)?;
        let magic = u32::from_le_bytes(magic);
        if magic == FRAME || magic == LEGACY || is_skippable(magic) {
            return Ok(());
        }
    }
    let sentence = format!("{} does not begin as a file of lz4 does", medium.name());
    Err(Error::new(ErrorKind::Damaged, sentence).at(medium.name(), Some(0..4)))
}

/// What a frame says about itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Descriptor {
    pub(super) is_independent: bool,
    pub(super) has_block_checksums: bool,
    pub(super) has_content_checksum: bool,
    pub(super) content_bytes: Option<u64>,
    /// The longest content of a block in bytes: at most 4 MiB.
    pub(super) block_bytes_max: usize,
    /// Its own length in bytes.
    pub(super) len_bytes: usize,
}

impl Descriptor {
    /// How long the descriptor is that begins with `flags`, in bytes.
    pub(super) fn len_bytes_of(flags: u8) -> usize {
        3 + if flags & 8 != 0 { 8 } else { 0 } + if flags & 1 != 0 { 4 } else { 0 }
    }

    /// Reads the whole descriptor, of which there is no less than [`len_bytes_of`](Descriptor::len_bytes_of) says.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, &'static str> {
        let flags = bytes[0];
        let (fields, checksum) = bytes.split_at(Self::len_bytes_of(flags) - 1);
        if (XxHash32::oneshot(0, fields) >> 8) as u8 != checksum[0] {
            return Err("the checksum of its header is wrong");
        }
        if flags >> 6 != 1 || flags & 2 != 0 || fields[1] & 0x8f != 0 || fields[1] >> 4 < 4 {
            return Err("its header asks for what no version of the format has");
        }
        if flags & 1 != 0 {
            return Err("it was packed with a dictionary, which is not there");
        }
        let content_bytes = (flags & 8 != 0).then(|| {
            let mut size = [0; 8];
            size.copy_from_slice(&fields[2..10]);
            u64::from_le_bytes(size)
        });
        Ok(Descriptor {
            is_independent: flags & 0x20 != 0,
            has_block_checksums: flags & 0x10 != 0,
            has_content_checksum: flags & 4 != 0,
            content_bytes,
            block_bytes_max: 1 << (8 + 2 * (fields[1] >> 4)),
            len_bytes: fields.len() + 1,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_by_the_tool_is_understood() {
        // `echo | lz4 -9 -B5 -BD --content-size`, as far as its header.
        let fields = [0x4c, 0x50, 1, 0, 0, 0, 0, 0, 0, 0];
        let mut bytes = fields.to_vec();
        bytes.push((XxHash32::oneshot(0, &fields) >> 8) as u8);
        let descriptor = Descriptor {
            has_content_checksum: true,
            content_bytes: Some(1),
            block_bytes_max: 256 << 10,
            len_bytes: 11,
            ..Descriptor::default()
        };
        assert_eq!(Descriptor::parse(&bytes), Ok(descriptor));
        for at in 0..80 {
            let mut changed = bytes.clone();
            changed[at / 8] ^= 1 << (at % 8);
            if Descriptor::len_bytes_of(changed[0]) <= changed.len() {
                assert!(Descriptor::parse(&changed).is_err(), "bit {at} was changed");
            }
        }
    }
}
