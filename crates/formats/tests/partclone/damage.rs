//! Damaged and hostile partition images: what is wrong is said with its place, whoever looks, and takes no memory.

use formats::partclone::{Header, PartcloneImage, StreamCheck};
use image::{Error, ErrorKind, Image, Result};

use super::writer::{Shape, V2, crc, medium, random, write};

fn checked(bytes: &[u8]) -> Result<()> {
    let mut check = StreamCheck::new("backup");
    for part in bytes.chunks(5000) {
        check.feed(part)?;
    }
    check.finish().map(drop)
}

/// Opens it, and reads all that is used.
fn read(bytes: &[u8]) -> Result<()> {
    let image = PartcloneImage::open(medium(bytes))?;
    let mut content = vec![0; image.size() as usize];
    image.read_at(&mut content, 0)
}

/// What is known to be wrong is said with its place, in one sentence that names the image.
#[track_caller]
fn assert_told(error: &Error, at: u64) {
    assert_eq!(error.kind(), ErrorKind::Damaged, "{error:?}");
    let location = error.location().expect("it is about certain bytes");
    let range = location.range.clone().expect("of which the place is known");
    assert!(range.start <= at && at <= range.end, "{at}: {error:?} {range:?}");
    assert!(error.to_string().starts_with("backup "), "{error}");
}

#[test]
fn each_changed_byte_is_found_by_passing_and_by_reading() {
    let shape = Shape { blocks: Some(5), block_bytes: 512, ..V2 };
    for reseed in [true, false] {
        let shape = Shape { reseed, ..shape };
        let (content, used) = random(3, 60, 512);
        let good = write(shape, &content, &used);
        checked(&good).unwrap();
        read(&good).unwrap();
        let mut rng = fastrand::Rng::with_seed(3);
        for turn in 0..840 {
            // All of the header and the map, then anything.
            let at = if turn < 140 { turn } else { rng.usize(0..good.len()) };
            let mut bytes = good.clone();
            bytes[at] ^= rng.u8(1..);
            // What makes the version another one is not damage, as far as anybody can tell.
            let is_version = (30..34).contains(&at);
            for error in [checked(&bytes), read(&bytes)].map(|result| result.unwrap_err()) {
                if !is_version {
                    assert_told(&error, at as u64);
                }
            }
        }
    }
}

#[test]
fn each_truncation_and_each_further_byte_is_found() {
    let shapes = [
        Shape { blocks: Some(5), ..V2 },
        Shape { blocks: None, ..V2 },
        Shape { version: 1, block_bytes: 512, blocks: Some(1), reseed: false },
    ];
    for shape in shapes {
        let (content, used) = random(4, 60, 512);
        let good = write(shape, &content, &used);
        let mut rng = fastrand::Rng::with_seed(4);
        let lengths = (0..120).chain((0..100).map(|_| rng.usize(0..good.len())));
        for len in lengths.chain([good.len() - 1]) {
            for error in [checked(&good[..len]), read(&good[..len])] {
                assert_told(&error.unwrap_err(), len as u64);
            }
        }
        let more = [&good[..], b"x"].concat();
        for error in [checked(&more), read(&more)] {
            assert_told(&error.unwrap_err(), good.len() as u64);
        }
    }
}

#[test]
fn a_damaged_block_is_named_by_its_number_and_others_can_be_read() {
    let shape = Shape { blocks: Some(4), ..V2 };
    let mut used = vec![true; 40];
    used[..10].fill(false);
    let content: Vec<u8> = (0..40 * 512).map(|at| (at / 512) as u8).collect();
    let mut bytes = write(shape, &content, &used);
    // The sixth stored block, which is in the second group: blocks 14 to 17.
    let at = 110 + 5 + 4 + 4 * 512 + 4 + 512 + 100;
    bytes[at] ^= 1;
    let image = PartcloneImage::open(medium(&bytes)).unwrap();
    let mut block = [0; 512];
    // A reading reads as much as is read together, which is all of this small image.
    let error = image.read_at(&mut block, 15 * 512).unwrap_err();
    for error in [error, checked(&bytes).unwrap_err()] {
        assert!(error.to_string().contains("blocks 14 to 17"), "{error}");
        assert_told(&error, at as u64);
    }
}

/// A header with a right checksum, whatever it says.
fn hostile(change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut bytes = write(V2, &[7; 512 * 10], &[true; 10]);
    change(&mut bytes[..0x6a]);
    let sum = crc(u32::MAX, &bytes[..0x6a]);
    bytes[0x6a..0x6e].copy_from_slice(&sum.to_le_bytes());
    bytes
}

#[test]
fn numbers_that_contradict_each_other_take_no_memory() {
    let edges = [1 << 35, (1 << 35) + 1, 1 << 38, 1 << 60, i64::MAX as u64, u64::MAX];
    // Device, blocks, used blocks.
    for offset in [0x34, 0x3c, 0x4c] {
        for edge in edges.into_iter().chain([0, 9]) {
            let bytes =
                hostile(|head| head[offset..offset + 8].copy_from_slice(&edge.to_le_bytes()));
            let is_fine = offset == 0x34 && edge >= 5120 && edge <= i64::MAX as u64;
            assert_eq!(checked(&bytes).is_ok(), is_fine, "{edge:#x} at {offset:#x}");
            assert_eq!(Header::decode(&bytes).is_ok() && is_fine, is_fine, "{edge:#x}");
            if let Err(error) = PartcloneImage::open(medium(&bytes)) {
                assert!(!is_fine, "{error:?}");
                let kind = error.kind();
                assert!(matches!(kind, ErrorKind::Damaged | ErrorKind::Unsupported), "{error:?}");
            }
        }
    }
    // A petabyte with a map of 4 GiB, in a file that has neither.
    let bytes = hostile(|head| {
        head[0x34..0x3c].copy_from_slice(&(1_u64 << 50).to_le_bytes());
        head[0x3c..0x44].copy_from_slice(&(1_u64 << 35).to_le_bytes());
        head[0x54..0x58].copy_from_slice(&(1_u32 << 15).to_le_bytes());
    });
    assert_told(&checked(&bytes).unwrap_err(), bytes.len() as u64);
    assert_told(&read(&bytes).unwrap_err(), bytes.len() as u64);
}

#[test]
fn what_no_partclone_writes_is_refused_in_words() {
    let cases: [(usize, &[u8], &str); 9] = [
        (0x22, b"\xc0\xde", "byte order"),
        (0x54, &[0, 3, 0, 0], "768"),
        (0x54, &[0, 1, 0, 0], "256"),
        (0x58, &[19], "features"),
        (0x5c, &[3], "version"),
        (0x60, &[64], "checksums of kind 64"),
        (0x64, &[0, 0, 0, 0], "0 blocks"),
        (0x68, &[2], "anew"),
        (0x69, &[8], "kind of map"),
    ];
    for (offset, field, word) in cases {
        let bytes = hostile(|head| head[offset..offset + field.len()].copy_from_slice(field));
        for error in [checked(&bytes).unwrap_err(), read(&bytes).unwrap_err()] {
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error:?}");
            assert!(error.full_sentence().contains(word), "{error:?}");
        }
    }
    let bytes = hostile(|head| head[0x24] = 0x1b);
    assert_eq!(checked(&bytes).unwrap_err().kind(), ErrorKind::Damaged);
    let newer = hostile(|head| head[0x1e..0x22].copy_from_slice(b"0003"));
    assert!(checked(&newer).unwrap_err().full_sentence().contains("version 0003"));
}
