//! Any bytes as a partition image.

use formats::partclone::{
    Checksums, Header, PartcloneImage, Stream, StreamCheck, UsedBlocks, Version,
};
use formats::raw::RawImage;
use image::{ErrorKind, ExtentKind, Image, ImageExt, Medium, MemoryMedium, Result};

use super::assert_is_about_damage;

const NAME: &str = "hostile";
/// How much is read at once, which is no multiple of a block.
const PART_BYTES: u64 = 100_001;

/// `bytes` are no partition image, which is said with its place, by who reads all of it as by who opens it; or both find
/// the same header, every used block can be read, and all others are unspecified. The same holds once the checksums of
/// header and map are made right.
pub fn partclone(bytes: &[u8]) {
    look(bytes);
    let mut bytes = bytes.to_vec();
    seal(&mut bytes);
    look(&bytes);
}

/// Images to begin with, of each version.
pub fn partition_images() -> [Vec<u8>; 2] {
    let used = UsedBlocks::new(vec![0b1101_0010, 0b0000_0101], 12);
    let header = Header {
        version: Version::V2,
        tool_version: "0.3.23".to_string(),
        filesystem: "EXTFS".to_string(),
        device_bytes: 12 * 512 + 100,
        total_blocks: used.total(),
        used_by_filesystem: 5,
        used_by_bitmap: used.used(),
        block_bytes: 512,
        checksums: Checksums::None,
    };
    let disk = RawImage::open(MemoryMedium::new("disk", 12 * 512)).expect("memory can be read");
    let stream = Stream::new(header, used.clone());
    let (mut v2, mut part_bytes) = (Vec::new(), Vec::new());
    for part in stream.parts(1) {
        stream.fill(&disk, part, &mut part_bytes).expect("memory can be read");
        v2.extend(&part_bytes);
    }
    let mut v1 = b"partclone-imageEXTFS\0\0\0\0\0\0\0\0\0\x000001\0\0\0\x02\0\0".to_vec();
    for number in [12 * 512_u64, used.total(), used.used()] {
        v1.extend(number.to_le_bytes());
    }
    v1.resize(Header::V1_BYTES, 0);
    v1.extend((0..used.total()).map(|block| u8::from(used.is_used(block))));
    v1.extend(b"BiTmAgIc");
    let mut sum = u32::MAX;
    for block in 0..used.used() as u8 {
        v1.extend([block; 512]);
        sum = crc(sum, &[block; 512]);
        v1.extend(sum.to_le_bytes());
    }
    [v2, v1]
}

fn look(bytes: &[u8]) {
    let passed = pass(bytes);
    let medium = MemoryMedium::new(NAME, 0);
    medium.write_at(bytes, 0).expect("memory takes it");
    let image = match PartcloneImage::open(medium) {
        Ok(image) => image,
        Err(error) => {
            assert_is_about_damage(&error, NAME);
            return assert!(passed.is_err(), "what cannot be opened has passed");
        }
    };
    let read = read(&image);
    match passed {
        Ok(header) => {
            assert_eq!(image.header(), &header);
            assert!(read.is_ok(), "what has passed cannot be read: {read:?}");
        }
        Err(error) => {
            assert_is_about_damage(&error, NAME);
            let is_checked = is_checked(image.header());
            assert!(read.is_err() || !is_checked, "what is damaged can be read: {error:?}");
        }
    }
    if let Err(error) = read {
        assert_eq!(error.kind(), ErrorKind::Damaged);
        assert_is_about_damage(&error, NAME);
    }
}

/// Whether all that is read is checked.
fn is_checked(header: &Header) -> bool {
    const GROUP_BYTES_MAX: u64 = 64 << 20;
    match header.checksums {
        Checksums::None => false,
        Checksums::Crc32 { blocks, .. } => {
            u64::from(blocks) * u64::from(header.block_bytes) <= GROUP_BYTES_MAX
        }
    }
}

/// What is known once it has passed, in pieces of two lengths.
fn pass(bytes: &[u8]) -> Result<Header> {
    let mut check = StreamCheck::new(NAME);
    for part in bytes.chunks(77) {
        check.feed(part)?;
    }
    let in_one = {
        let mut check = StreamCheck::new(NAME);
        check.feed(bytes).and_then(|()| check.finish())
    };
    let checked = check.finish();
    assert_eq!(checked.is_ok(), in_one.is_ok(), "it depends on the pieces");
    let checked = checked?;
    assert_eq!(checked.len_bytes, bytes.len() as u64);
    assert_eq!(checked.header.stream_bytes(), checked.len_bytes);
    Ok(checked.header)
}

/// Reads all that is used.
fn read(image: &PartcloneImage<MemoryMedium>) -> Result<()> {
    let mut end = 0;
    let mut part = Vec::new();
    for extent in image.extents(0..image.size()) {
        let extent = extent.expect("the map is in memory");
        assert_eq!(extent.offset, end);
        end = extent.end();
        assert_ne!(extent.kind, ExtentKind::Zero);
        if extent.kind == ExtentKind::Data {
            let mut at = extent.offset;
            while at < end {
                part.resize((end - at).min(PART_BYTES) as usize, 0);
                image.read_at(&mut part, at)?;
                at += part.len() as u64;
            }
        }
    }
    assert_eq!(end, image.size());
    Ok(())
}

/// Makes the checksums of a header of version 2 and of the map behind it right.
fn seal(bytes: &mut [u8]) {
    const HEADER_CRC: usize = 0x6a;
    if bytes.len() < Header::V2_BYTES {
        return;
    }
    let sum = crc(u32::MAX, &bytes[..HEADER_CRC]);
    bytes[HEADER_CRC..Header::V2_BYTES].copy_from_slice(&sum.to_le_bytes());
    let Ok((header, start)) = Header::decode(bytes) else { return };
    let end = start as u64 + header.total_blocks.div_ceil(8);
    if header.version == Version::V2 && end + 4 <= bytes.len() as u64 {
        let end = end as usize;
        let sum = crc(u32::MAX, &bytes[start..end]);
        bytes[end..end + 4].copy_from_slice(&sum.to_le_bytes());
    }
}

/// CRC-32 without the final inversion.
fn crc(start: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(start, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 }
        })
    })
}
