//! The loop of a copy and its checkpoints, on media in memory that compare, fail, or lose their power.

mod container;
mod faults;
mod power;
mod shapes;

use std::num::NonZero;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use formats::raw::RawImage;
use image::{Image, ImageMut, Medium, MemoryMedium, Result, Task};

use super::OnReadError;
use super::checkpoint::Who;
use super::transfer::{Ledger, Shape, Transfer};
use crate::Threads;
use crate::registry::Identity;

/// Small pieces and granules, so that little data has much structure.
const SMALL: Shape = Shape {
    blank: false,
    shared: false,
    piece_bytes: 4096,
    granule_bytes: 512,
    zero_run_min_bytes: 512,
    block_bytes: None,
    dense: false,
};
const BLANK: Shape = Shape { blank: true, ..SMALL };
const NEVER: Duration = Duration::from_secs(3600);

/// An image of `size` bytes in memory: random blocks, written zeroes and holes, the same for the same `seed`.
fn random_image(size: u64, seed: u64) -> RawImage<MemoryMedium> {
    let medium = MemoryMedium::new("memory", size);
    let mut random = fastrand::Rng::with_seed(seed);
    let mut at = 0;
    while at < size {
        let len = random.u64(1..20_000);
        let len = if random.bool() { len.next_multiple_of(512) } else { len }.min(size - at);
        let mut bytes = vec![0; len as usize];
        match random.u8(0..5) {
            0 | 1 => random.fill(&mut bytes),
            2 => {
                // Lonely bytes between zeroes.
                let one = random.usize(0..bytes.len());
                bytes[one] = 1;
            }
            _ => {}
        }
        if random.u8(0..3) > 0 {
            medium.write_at(&bytes, at).unwrap();
        }
        at += len;
    }
    RawImage::open(medium).unwrap()
}

fn bytes_of(image: &dyn Image) -> Vec<u8> {
    let mut bytes = vec![0; image.size() as usize];
    image.read_at(&mut bytes, 0).unwrap();
    bytes
}

fn transfer<'a>(source: &'a dyn Image, target: &'a dyn ImageMut, shape: Shape) -> Transfer<'a> {
    Transfer {
        source,
        target,
        ranges: whole(source),
        shape,
        on_read_error: OnReadError::Stop,
        threads: Threads::Exactly(NonZero::new(3).unwrap()),
    }
}

fn whole(image: &dyn Image) -> Vec<Range<u64>> {
    std::iter::once(0..image.size()).filter(|all| !all.is_empty()).collect()
}

/// Runs it to its end, without checkpoints.
fn run(transfer: &Transfer<'_>, ledger: &Ledger) -> Result<()> {
    transfer.run(&Task::silent(), ledger, NEVER, |_| Ok(()))
}

fn who(size_bytes: u64) -> Who {
    let identity = |name: &str| Identity::Device { path: PathBuf::from(name), size_bytes };
    Who { source: identity("source"), target: identity("target"), size_bytes }
}
