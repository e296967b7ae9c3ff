//! Blocks that are damaged: found, named, left alone, and repaired where that was asked for.

use std::sync::Arc;

use formats::spgz::{OnDamage, SpgzImage};
use image::{ErrorKind, Image, ImageMut, Medium, MemoryMedium, Task};

use super::peer;
use super::vectors::container;

const BLOCK: u64 = 12_287;

/// Four whole blocks of text and 9000 bytes, of which the members of `damaged` do not unpack.
fn damaged(blocks: &[u64]) -> (Arc<MemoryMedium>, Vec<u8>) {
    let bytes: Vec<u8> =
        b"some text, and more ".iter().cycle().take(4 * 12_287 + 9000).copied().collect();
    let medium = Arc::new(MemoryMedium::new("container", 0));
    let image = SpgzImage::create(Arc::clone(&medium), BLOCK, bytes.len() as u64).unwrap();
    image.write_at(&bytes, 0).unwrap();
    image.flush().unwrap();
    for block in blocks {
        medium.write_at(&[0xff; 5], 4096 + block * (BLOCK + 1) + 12).unwrap();
    }
    (medium, bytes)
}

fn read(image: &dyn Image) -> Vec<u8> {
    let mut bytes = vec![0xa5; image.size() as usize];
    image.read_at(&mut bytes, 0).unwrap();
    bytes
}

fn range(block: u64) -> std::ops::Range<usize> {
    let start = (block * BLOCK) as usize;
    start..start + BLOCK as usize
}

#[test]
fn a_damaged_block_is_reported_with_its_range_and_what_is_wrong() {
    let (medium, _) = damaged(&[2]);
    let image = SpgzImage::open(medium, OnDamage::Report).unwrap();
    let error = image.read_at(&mut [0; 9], 2 * BLOCK + 100).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Damaged);
    assert_eq!(error.location().unwrap().name, "container");
    assert_eq!(error.location().unwrap().range, Some(2 * BLOCK..3 * BLOCK));
    assert!(error.to_string().starts_with("block 2 of container, bytes 24574 to 36861"), "{error}");
    assert_eq!(image.repaired(), []);
}

#[test]
fn a_damaged_block_can_be_overwritten_as_a_whole_and_not_in_part() {
    let (medium, mut bytes) = damaged(&[1, 2]);
    let image = SpgzImage::open(medium, OnDamage::Report).unwrap();
    image.write_at(&[7; 12_287], BLOCK).unwrap();
    image.flush().unwrap();
    bytes[range(1)].fill(7);
    image.write_at(&[8; 100], 2 * BLOCK).unwrap();
    let error = image.flush().unwrap_err();
    assert_eq!(error.location().unwrap().range, Some(2 * BLOCK..3 * BLOCK));
    // Its other half makes it whole.
    image.write_at(&[9; 12_187], 2 * BLOCK + 100).unwrap();
    image.flush().unwrap();
    bytes[range(2)][..100].fill(8);
    bytes[range(2)][100..].fill(9);
    assert!(read(&image) == bytes);
    assert_eq!(image.check(&Task::silent()).unwrap(), []);
}

#[test]
fn repairing_reads_zeroes_and_changes_nothing_before_a_flush() {
    let (medium, mut bytes) = damaged(&[0, 2, 3]);
    let before = peer::bytes_of(&medium);
    let image = SpgzImage::open(Arc::clone(&medium), OnDamage::Repair).unwrap();
    for block in [0, 2, 3] {
        bytes[range(block)].fill(0);
    }
    assert!(read(&image) == bytes);
    assert_eq!(image.repaired(), [0..BLOCK, 2 * BLOCK..4 * BLOCK]);
    assert_eq!(image.check(&Task::silent()).unwrap(), [0..BLOCK, 2 * BLOCK..4 * BLOCK]);
    assert!(peer::bytes_of(&medium) == before, "reading changed it");
    // One is overwritten, one in part, one not.
    image.write_at(&[5; 12_287], 0).unwrap();
    image.write_at(&[6; 50], 2 * BLOCK + 9).unwrap();
    bytes[range(0)].fill(5);
    bytes[range(2)][9..59].fill(6);
    image.flush().unwrap();
    assert!(peer::image(&peer::bytes_of(&medium)) == bytes);
    assert_eq!(image.check(&Task::silent()).unwrap(), []);
    assert_eq!(image.repaired(), [0..BLOCK, 2 * BLOCK..4 * BLOCK]);
    let again = SpgzImage::open(medium, OnDamage::Report).unwrap();
    assert!(read(&again) == bytes);
}

#[test]
fn a_damaged_block_that_nobody_read_is_not_repaired() {
    let (medium, _) = damaged(&[2]);
    let image = SpgzImage::open(medium, OnDamage::Repair).unwrap();
    image.write_at(b"x", 0).unwrap();
    image.flush().unwrap();
    assert_eq!(image.check(&Task::silent()).unwrap(), peer::only(2 * BLOCK..3 * BLOCK));
    assert_eq!(image.repaired(), []);
}

#[test]
fn an_image_whose_last_block_is_damaged_ends_before_it_once_it_is_flushed() {
    let (medium, bytes) = damaged(&[4]);
    let before = peer::bytes_of(&medium);
    let error = SpgzImage::open(Arc::clone(&medium), OnDamage::Report).err().unwrap();
    assert_eq!(error.location().unwrap().range, Some(4 * BLOCK..5 * BLOCK));
    let image = SpgzImage::open(Arc::clone(&medium), OnDamage::Repair).unwrap();
    assert_eq!(image.size(), 4 * BLOCK);
    assert_eq!(image.repaired(), peer::only(4 * BLOCK..5 * BLOCK));
    assert!(read(&image) == bytes[..4 * 12_287]);
    assert!(peer::bytes_of(&medium) == before);
    image.flush().unwrap();
    assert!(peer::bytes_of(&medium) == before[..4096 + 4 * 12_288]);
    SpgzImage::open(medium, OnDamage::Report).unwrap();
}

#[test]
fn an_image_cut_for_damage_can_grow_again_and_has_zeroes_there() {
    let (medium, mut bytes) = damaged(&[4]);
    let mut image = SpgzImage::open(Arc::clone(&medium), OnDamage::Repair).unwrap();
    image.resize(bytes.len() as u64).unwrap();
    bytes[4 * 12_287..].fill(0);
    assert!(read(&image) == bytes);
    assert!(peer::image(&peer::bytes_of(&medium)) == bytes);
}

/// Whatever a container was cut to, it is refused, or all of it reads the same as it does to others.
#[test]
fn each_cut_of_a_container_is_an_image_or_damaged_at_its_end() {
    let whole = container("min-short-inner.spgz");
    let other = container("bad-cut-last.spgz");
    for bytes in [&whole[..], &other[..]] {
        let mut refused = 0;
        for len in 0..bytes.len() {
            let cut = &bytes[..len];
            // Where nothing but zeroes is cut off, one in many is enough.
            if len % 64 != 0 && len > 12 && cut[len - len.min(64)..].iter().all(|&byte| byte == 0) {
                continue;
            }
            match SpgzImage::open(peer::medium_of(cut), OnDamage::Report) {
                Ok(image) => {
                    assert!(read(&image) == peer::image(cut), "{len}");
                    assert_eq!(image.check(&Task::silent()).unwrap(), []);
                }
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Damaged, "{len}: {error}");
                    refused += 1;
                    if len < 12 {
                        continue;
                    }
                    let image = SpgzImage::open(peer::medium_of(cut), OnDamage::Repair).unwrap();
                    let kept = image.size();
                    assert!(kept.is_multiple_of(BLOCK));
                    image.flush().unwrap();
                    let mended = peer::bytes_of(image.medium());
                    assert_eq!(mended, cut[..mended.len()]);
                    assert_eq!(peer::image(&mended).len() as u64, kept);
                }
            }
        }
        assert!(refused > 40, "{refused}");
    }
}

#[test]
fn a_header_cannot_ask_for_more_memory_than_the_limit() {
    for (count, kind) in [(16_385u32, ErrorKind::Unsupported), (0xF_FFFF, ErrorKind::Unsupported)] {
        let mut bytes = container("tiny.spgz");
        bytes[8..12].copy_from_slice(&count.to_le_bytes());
        let error = SpgzImage::open(peer::medium_of(&bytes), OnDamage::Repair).err().unwrap();
        assert_eq!(error.kind(), kind, "{error}");
    }
    // 64 MiB a block, of which next to nothing is there.
    let mut bytes = container("tiny-compressed.spgz");
    bytes[8..12].copy_from_slice(&16_384u32.to_le_bytes());
    let image = SpgzImage::open(peer::medium_of(&bytes), OnDamage::Report).unwrap();
    assert_eq!((image.size(), image.block_bytes()), (9000, (64 << 20) - 1));
    assert!(read(&image) == [88; 9000]);
}
