//! The contract of images, asked of spgz on each medium and at each length of blocks.

use std::cell::RefCell;
use std::path::Path;
use std::sync::Arc;

use formats::spgz::{OnDamage, SpgzImage};
use image::{ErrorKind, Image, ImageMut, Medium, MemoryMedium};
use sys::{Access, FileMedium};
use testkit::contract::{ImageRules, check_image_mut, check_image_mut_reopened};
use testkit::host::{Filesystem, Needs, TempDir, require};

type InMemory = SpgzImage<Arc<MemoryMedium>>;

/// Blocks are where the suite looks for borders, though they are no power of two.
fn rules(block_bytes: u64) -> ImageRules {
    ImageRules { block_bytes, ..ImageRules::default() }
}

fn check_in_memory(block_bytes: u64) {
    let make = |size| {
        SpgzImage::create(Arc::new(MemoryMedium::new("memory", 0)), block_bytes, size).unwrap()
    };
    check_image_mut(make, rules(block_bytes));
    let reopen = |image: InMemory| {
        let medium = Arc::clone(image.medium());
        drop(image);
        SpgzImage::open(medium, OnDamage::Report).unwrap()
    };
    check_image_mut_reopened(make, reopen, rules(block_bytes));
}

#[test]
fn spgz_with_the_smallest_blocks_is_an_image() {
    check_in_memory(12_287);
}

#[test]
fn spgz_with_small_blocks_is_an_image() {
    check_in_memory(16_383);
}

#[test]
fn spgz_with_the_usual_blocks_is_an_image() {
    check_in_memory(131_071);
}

#[test]
fn spgz_with_the_largest_blocks_is_an_image() {
    check_in_memory(1_048_575);
}

fn check_files(folder: &Path, block_bytes: u64) {
    let count = RefCell::new(0);
    let make = |size| {
        *count.borrow_mut() += 1;
        let path = folder.join(format!("image{}.spgz", count.borrow()));
        std::fs::File::create(&path).unwrap();
        let medium = FileMedium::open(&path, Access::Write).unwrap();
        SpgzImage::create(medium, block_bytes, size).unwrap()
    };
    check_image_mut(make, rules(block_bytes));
    let reopen = |image: SpgzImage<FileMedium>| {
        let path = image.medium().name().to_string();
        drop(image);
        let medium = FileMedium::open(Path::new(&path), Access::Write).unwrap();
        SpgzImage::open(medium, OnDamage::Report).unwrap()
    };
    check_image_mut_reopened(make, reopen, rules(block_bytes));
}

#[test]
fn spgz_in_a_file_is_an_image() {
    check_files(TempDir::new("spgz").path(), 12_287);
}

#[test]
fn spgz_in_a_file_in_memory_is_an_image() {
    check_files(TempDir::below(Path::new("/dev/shm"), "blockprint-spgz").path(), 16_383);
}

#[test]
fn spgz_in_a_file_is_an_image_on_each_filesystem() {
    if require(&Needs::root().filesystems(&["xfs", "ext4"])).is_none() {
        return;
    }
    for filesystem in [Filesystem::xfs(320 << 20), Filesystem::ext4(64 << 20)] {
        check_files(filesystem.path(), 12_287);
    }
}

#[test]
fn a_block_that_becomes_smaller_gives_its_space_back() {
    let medium = Arc::new(MemoryMedium::new("memory", 0));
    let image = SpgzImage::create(Arc::clone(&medium), 131_071, 4 * 131_071).unwrap();
    let mut rng = fastrand::Rng::with_seed(1);
    let noise: Vec<u8> = (0..4 * 131_071).map(|_| rng.u8(..)).collect();
    image.write_at(&noise, 0).unwrap();
    image.flush().unwrap();
    assert_eq!(medium.allocated_bytes(), 4096 + 4 * 131_072);
    image.write_at(&[7; 131_071], 131_071).unwrap();
    image.zero(2 * 131_071..3 * 131_071).unwrap();
    image.flush().unwrap();
    assert_eq!(medium.allocated_bytes(), 4096 + 2 * 131_072 + 4096);
    // And needs it again.
    image.write_at(&noise[131_071..2 * 131_071], 131_071).unwrap();
    image.flush().unwrap();
    assert_eq!(medium.allocated_bytes(), 4096 + 3 * 131_072);
}

#[test]
fn a_container_cannot_be_made_where_the_length_is_fixed() {
    let result = SpgzImage::create(MemoryMedium::fixed("device", 1 << 20), 0, 9000);
    assert_eq!(result.err().unwrap().kind(), ErrorKind::Unsupported);
}

#[test]
fn an_image_that_no_file_can_hold_is_refused() {
    for size_bytes in [u64::MAX, i64::MAX as u64] {
        let result = SpgzImage::create(MemoryMedium::new("memory", 0), 0, size_bytes);
        assert_eq!(result.err().unwrap().kind(), ErrorKind::Invalid);
    }
    let mut image = SpgzImage::create(MemoryMedium::new("memory", 0), 0, 5).unwrap();
    assert_eq!(image.resize(u64::MAX).unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(image.size(), 5);
}

/// A last block of no bytes, as a marker alone or as a member of nothing, is no part of the image.
#[test]
fn a_slot_behind_the_end_becomes_a_block_only_if_the_image_grows() {
    let mut nothing = vec![0; 64];
    let len = libdeflater::Compressor::default().gzip_compress(&[], &mut nothing).unwrap();
    let member = [&[1], &nothing[..len]].concat();
    for behind in [&[0][..], &member] {
        for blocks in [0, 2] {
            let medium = Arc::new(MemoryMedium::new("memory", 0));
            let size = blocks * 12_287;
            drop(SpgzImage::create(Arc::clone(&medium), 12_287, size).unwrap());
            medium.write_at(behind, 4096 + blocks * 12_288).unwrap();
            let mut image = SpgzImage::open(Arc::clone(&medium), OnDamage::Report).unwrap();
            assert_eq!(image.size(), size);
            if size > 0 {
                image.write_at(&[7; 12_287], 0).unwrap();
            }
            image.flush().unwrap();
            assert_eq!(
                SpgzImage::open(Arc::clone(&medium), OnDamage::Report).unwrap().size(),
                size
            );
            image.resize(size + 100).unwrap();
            let image = SpgzImage::open(medium, OnDamage::Report).unwrap();
            assert_eq!(image.size(), size + 100);
            let mut bytes = [1; 100];
            image.read_at(&mut bytes, size).unwrap();
            assert_eq!(bytes, [0; 100]);
        }
    }
}

#[test]
fn a_container_that_ends_with_its_last_member_gets_the_whole_slot_once_it_is_written() {
    let bytes = super::vectors::container("min-last-full.spgz");
    let image = SpgzImage::open(super::peer::medium_of(&bytes), OnDamage::Report).unwrap();
    image.flush().unwrap();
    assert_eq!(image.medium().len().unwrap(), bytes.len() as u64, "nothing was written");
    image.write_at(b"x", 0).unwrap();
    image.flush().unwrap();
    assert_eq!(image.medium().len().unwrap(), 4096 + 2 * 12_288);
    assert_eq!(image.size(), 2 * 12_287);
}
