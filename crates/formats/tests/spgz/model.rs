//! Random work, held against a plain vector of bytes, with closing and opening in between.

use std::sync::Arc;

use fastrand::Rng;
use formats::spgz::{OnDamage, SpgzImage};
use image::{Image, ImageExt, ImageMut, MemoryMedium};

use super::peer;
use super::vectors::container;

type InMemory = SpgzImage<Arc<MemoryMedium>>;

struct Pair {
    image: Option<InMemory>,
    bytes: Vec<u8>,
}

impl Pair {
    fn image(&mut self) -> &mut InMemory {
        self.image.as_mut().unwrap()
    }

    fn flush(&mut self) -> Vec<u8> {
        self.image().flush().unwrap();
        peer::bytes_of(self.image().medium())
    }

    fn step(&mut self, rng: &mut Rng, block_bytes: usize) {
        let size = self.bytes.len();
        let border = block_bytes * rng.usize(0..=size / block_bytes);
        let start = match rng.u8(0..4) {
            0 => border.saturating_sub(rng.usize(0..3)),
            1 => border,
            _ => rng.usize(0..=size),
        };
        let len = [1, 700, block_bytes, 3 * block_bytes][rng.usize(0..4)];
        let len = if rng.bool() { len } else { rng.usize(0..=len) };
        let range = start.min(size)..(start + len).min(size);
        let at = range.start as u64..range.end as u64;
        match rng.u8(0..16) {
            0..8 => {
                let bytes = content(rng, range.len());
                self.image().write_at(&bytes, at.start).unwrap();
                self.bytes[range].copy_from_slice(&bytes);
            }
            8 | 9 if !range.is_empty() => {
                self.image().zero(at).unwrap();
                self.bytes[range].fill(0);
            }
            10 => {
                let size = match rng.u8(0..3) {
                    0 => border,
                    1 => (border + rng.usize(0..3)).min(8 * block_bytes),
                    _ => rng.usize(0..8 * block_bytes),
                };
                self.image().resize(size as u64).unwrap();
                self.bytes.resize(size, 0);
            }
            11 => {
                self.flush();
            }
            12 => {
                self.flush();
                let medium = Arc::clone(self.image().medium());
                self.image = None;
                self.image = Some(SpgzImage::open(medium, OnDamage::Report).unwrap());
            }
            _ => {
                let mut found = vec![0xa5; range.len()];
                self.image().read_at(&mut found, at.start).unwrap();
                assert!(found == self.bytes[range.clone()], "{range:?} reads otherwise");
                self.image().read_sparse(&mut found, at.start).unwrap();
                assert!(found == self.bytes[range.clone()], "{range:?} has other zeroes");
            }
        }
        assert_eq!(self.image().size(), self.bytes.len() as u64);
    }
}

/// Zeroes, text, noise, or some of each.
fn content(rng: &mut Rng, len: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while bytes.len() < len {
        let part = if rng.bool() { len } else { rng.usize(1..=len) }.min(len - bytes.len());
        match rng.u8(0..3) {
            0 => bytes.extend(std::iter::repeat_n(rng.u8(0..2), part)),
            1 => bytes.extend(b"the quick brown fox ".iter().cycle().take(part)),
            _ => bytes.extend(std::iter::repeat_with(|| rng.u8(..)).take(part)),
        }
    }
    bytes
}

#[test]
fn random_work_agrees_with_a_vector_and_the_container_is_as_long_as_it_should_be() {
    for seed in 0..60 {
        let mut rng = Rng::with_seed(seed);
        let block_bytes = if seed % 4 == 0 { 16_383 } else { 12_287 };
        let size = rng.usize(0..6 * block_bytes);
        let medium = Arc::new(MemoryMedium::new("memory", 3));
        let image = SpgzImage::create(medium, block_bytes as u64, size as u64).unwrap();
        let mut pair = Pair { image: Some(image), bytes: vec![0; size] };
        for step in 0..60 {
            pair.step(&mut rng, block_bytes);
            if step % 10 == 9 {
                let container = pair.flush();
                peer::check_ours(&container, pair.bytes.len());
                assert!(peer::image(&container) == pair.bytes, "seed {seed}, step {step}");
            }
        }
    }
}

#[test]
fn random_work_on_containers_of_the_other_program_agrees_with_a_vector() {
    let names = [
        "empty-12",
        "min-mixed",
        "min-last-full",
        "min-short-inner",
        "min-zero-tail",
        "min-truncated",
        "ok-count-1",
        "ok-marker-0-only",
        "ok-short-inner-at-boundary",
    ];
    for (number, name) in names.into_iter().enumerate() {
        for seed in 0..10 {
            let mut rng = Rng::with_seed(100 * number as u64 + seed);
            let start = container(&format!("{name}.spgz"));
            let image = SpgzImage::open(peer::medium_of(&start), OnDamage::Report).unwrap();
            let block_bytes = peer::block_bytes(&start).min(20_000);
            let mut pair = Pair { image: Some(image), bytes: peer::image(&start) };
            for step in 0..25 {
                pair.step(&mut rng, block_bytes);
                if step % 5 == 4 {
                    let found = peer::image(&pair.flush());
                    assert!(found == pair.bytes, "{name}, seed {seed}, step {step}");
                }
            }
        }
    }
}
