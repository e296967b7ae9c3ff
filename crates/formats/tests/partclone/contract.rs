//! The contract of images, asked of partition images.

use formats::partclone::PartcloneImage;
use testkit::contract::{ImageRules, check_image};

use super::writer::{Shape, V2, medium, write};

fn check(shape: Shape, is_used: fn(usize) -> bool) {
    // Version 1 has no size but that of its blocks.
    let unit = if shape.version == 1 { shape.block_bytes as u64 } else { 1 };
    let rules = ImageRules {
        size_unit_bytes: unit,
        block_bytes: shape.block_bytes as u64,
        leaves_out: true,
        ..ImageRules::default()
    };
    let make = |content: &[u8]| {
        let used: Vec<bool> = (0..content.len().div_ceil(shape.block_bytes)).map(is_used).collect();
        PartcloneImage::open(medium(&write(shape, content, &used))).unwrap()
    };
    check_image(make, rules);
}

#[test]
fn a_partition_image_is_an_image_of_what_is_used() {
    check(V2, |_| true);
    check(V2, |_| false);
    check(V2, |number| number % 3 != 1);
    check(Shape { block_bytes: 4096, blocks: Some(2), ..V2 }, |number| number % 2 == 1);
    check(Shape { reseed: false, blocks: Some(3), ..V2 }, |number| number % 5 < 3);
    check(Shape { blocks: None, ..V2 }, |number| number % 5 > 3);
}

#[test]
fn a_partition_image_of_version_1_is_an_image_of_what_is_used() {
    let shape = Shape { version: 1, block_bytes: 1024, blocks: Some(1), reseed: false };
    check(shape, |number| number % 3 != 1);
}
