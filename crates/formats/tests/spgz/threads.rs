//! Many threads at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use formats::spgz::{OnDamage, SpgzImage};
use image::{Image, ImageMut, MemoryMedium};

use super::peer;

const BLOCK: usize = 12_287;

/// Text and noise in turn, of no zero bytes.
fn content(len: usize) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(len as u64);
    let mut bytes = Vec::new();
    while bytes.len() < len {
        if rng.bool() {
            bytes.extend(b"the same again and again ".iter().cycle().take(rng.usize(1..30_000)));
        } else {
            let len = rng.usize(1..30_000);
            bytes.extend(std::iter::repeat_with(|| rng.u8(1..)).take(len));
        }
    }
    bytes.truncate(len);
    bytes
}

#[test]
fn pieces_that_many_threads_write_in_any_order_are_all_there() {
    for piece in [1000, 4096, 65_536] {
        let bytes = content(100 * BLOCK + 5000);
        let medium = Arc::new(MemoryMedium::new("memory", 0));
        let image = SpgzImage::create(medium, BLOCK as u64, bytes.len() as u64).unwrap();
        let pieces: Vec<(usize, &[u8])> = bytes.chunks(piece).enumerate().collect();
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while let Some((number, part)) =
                        pieces.get(next.fetch_add(1, Ordering::Relaxed))
                    {
                        let offset = (number * piece) as u64;
                        image.write_at(part, offset).unwrap();
                        let mut found = vec![0; part.len()];
                        image.read_at(&mut found, offset).unwrap();
                        assert!(found == *part);
                        if number % 97 == 0 {
                            image.flush().unwrap();
                        }
                    }
                });
            }
        });
        image.flush().unwrap();
        let container = peer::bytes_of(image.medium());
        peer::check_ours(&container, bytes.len());
        assert!(peer::image(&container) == bytes, "in pieces of {piece}");
    }
}

#[test]
fn bytes_that_two_threads_write_side_by_side_both_stay() {
    let size = 3 * BLOCK + 9000;
    let medium = Arc::new(MemoryMedium::new("memory", 0));
    let image = SpgzImage::create(medium, BLOCK as u64, size as u64).unwrap();
    std::thread::scope(|scope| {
        for odd in [0, 1] {
            let image = &image;
            scope.spawn(move || {
                for at in (odd..size).step_by(2) {
                    image.write_at(&[1 + odd as u8], at as u64).unwrap();
                }
            });
        }
        scope.spawn(|| {
            for _ in 0..20 {
                image.flush().unwrap();
            }
        });
    });
    image.flush().unwrap();
    let found = peer::image(&peer::bytes_of(image.medium()));
    assert!(found.iter().enumerate().all(|(at, &byte)| byte == 1 + (at % 2) as u8));
}

#[test]
fn a_reader_beside_a_writer_finds_whole_blocks_and_never_damage() {
    let medium = Arc::new(MemoryMedium::new("memory", 0));
    let image = SpgzImage::create(Arc::clone(&medium), BLOCK as u64, 4 * BLOCK as u64).unwrap();
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let is_done = &is_done;
        scope.spawn(|| {
            for round in 0..400u32 {
                let byte = 1 + (round % 200) as u8;
                image.write_at(&[byte; BLOCK], u64::from(round % 4) * BLOCK as u64).unwrap();
                if round % 50 == 0 {
                    image.zero(0..BLOCK as u64).unwrap();
                }
            }
            is_done.store(true, Ordering::Relaxed);
        });
        for _ in 0..2 {
            scope.spawn(|| {
                let mut block = [0; BLOCK];
                while !is_done.load(Ordering::Relaxed) {
                    for number in 0..4 {
                        image.read_at(&mut block, number * BLOCK as u64).unwrap();
                        assert!(block.iter().all(|byte| *byte == block[0]), "half of a write");
                        image.extent_at(number * BLOCK as u64 + 5).unwrap();
                    }
                }
            });
        }
    });
    image.flush().unwrap();
    SpgzImage::open(medium, OnDamage::Report).unwrap();
}
