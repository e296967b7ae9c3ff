//! A second writer of partition images, written from the description of the format alone: a bit and a block at a time.

use std::fs;
use std::path::Path;

use image::{Medium, MemoryMedium};

/// What an image is to be like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) version: u8,
    pub(crate) block_bytes: usize,
    /// Blocks for each checksum; none without checksums.
    pub(crate) blocks: Option<u32>,
    pub(crate) reseed: bool,
}

pub(crate) const V2: Shape =
    Shape { version: 2, block_bytes: 512, blocks: Some(2048), reseed: true };

/// The polynomial a bit at a time, without the final inversion.
pub(crate) fn crc(start: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(start, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 }
        })
    })
}

/// The image of a device with that content, of which the blocks in `used` are stored. The last block may stick out of the
/// device.
pub(crate) fn write(shape: Shape, content: &[u8], used: &[bool]) -> Vec<u8> {
    let block_bytes = shape.block_bytes;
    let mut stored = Vec::new();
    let (mut sum, mut count) = (u32::MAX, 0);
    for (number, _) in used.iter().enumerate().filter(|(_, used)| **used) {
        let rest = &content[number * block_bytes..];
        let mut block = rest[..block_bytes.min(rest.len())].to_vec();
        block.resize(block_bytes, 0);
        stored.extend(&block);
        sum = match shape.version {
            1 => crc(sum, &vec![block[0]; block_bytes]),
            _ => crc(sum, &block),
        };
        count += 1;
        if shape.blocks == Some(count) {
            stored.extend(sum.to_le_bytes());
            count = 0;
            if shape.reseed {
                sum = u32::MAX;
            }
        }
    }
    if shape.blocks.is_some() && count > 0 {
        stored.extend(sum.to_le_bytes());
    }
    let mut image = head(shape, content.len() as u64, used);
    image.extend(stored);
    image
}

/// Header and map.
fn head(shape: Shape, device_bytes: u64, used: &[bool]) -> Vec<u8> {
    let count = used.iter().filter(|used| **used).count() as u64;
    let total = used.len() as u64;
    let mut head = b"partclone-image".to_vec();
    if shape.version == 1 {
        head.extend(b"EXTFS\0\0\0\0\0\0\0\0\0\0");
        head.extend(b"0001\0\0");
        head.extend((shape.block_bytes as u32).to_le_bytes());
        [device_bytes, total, count].iter().for_each(|field| head.extend(field.to_le_bytes()));
        head.extend([0; 4096]);
        head.extend(used.iter().map(|used| u8::from(*used)));
        head.extend(b"BiTmAgIc");
        return head;
    }
    head.extend(b"\x000.3.23\0\0\0\0\0\0\0\x000002\xde\xc0EXTFS\0\0\0\0\0\0\0\0\0\0\0");
    [device_bytes, total, count, count].iter().for_each(|field| head.extend(field.to_le_bytes()));
    head.extend((shape.block_bytes as u32).to_le_bytes());
    head.extend([18, 0, 0, 0, 2, 0, 64, 0]);
    head.extend(if shape.blocks.is_some() { [32, 0, 4, 0] } else { [0; 4] });
    head.extend(shape.blocks.unwrap_or(0).to_le_bytes());
    head.extend([u8::from(shape.reseed), 1]);
    assert_eq!(head.len(), 0x6a);
    head.extend(crc(u32::MAX, &head).to_le_bytes());
    let mut map = vec![0; used.len().div_ceil(8)];
    for (number, _) in used.iter().enumerate().filter(|(_, used)| **used) {
        map[number / 8] |= 1 << (number % 8);
    }
    let sum = crc(u32::MAX, &map);
    head.extend(map);
    head.extend(sum.to_le_bytes());
    head
}

/// Content, and which blocks of it are used: runs of many lengths.
pub(crate) fn random(seed: u64, blocks: usize, block_bytes: usize) -> (Vec<u8>, Vec<bool>) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let content = std::iter::repeat_with(|| rng.u8(..)).take(blocks * block_bytes).collect();
    let mut used = Vec::new();
    while used.len() < blocks {
        let is_used = rng.bool();
        let longest = 1 << rng.u32(0..8);
        used.extend(std::iter::repeat_n(is_used, rng.usize(1..=longest)));
    }
    used.truncate(blocks);
    (content, used)
}

pub(crate) fn medium(bytes: &[u8]) -> MemoryMedium {
    let medium = MemoryMedium::new("backup", 0);
    medium.write_at(bytes, 0).unwrap();
    medium
}

pub(crate) fn medium_of_file(path: &Path) -> MemoryMedium {
    medium(&fs::read(path).unwrap())
}
