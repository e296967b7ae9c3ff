//! What an image must hold: a plain vector that also remembers which of its bytes nobody may rely on.

use std::ops::Range;

use ::image::{Extent, ExtentKind, Image};
use fastrand::Rng;

use super::must;

/// The bytes that an image must have.
#[derive(Clone)]
pub(super) struct Model {
    bytes: Vec<u8>,
    /// False for a byte that was forgotten, and may read as anything.
    known: Vec<bool>,
}

impl Model {
    pub(super) fn of(bytes: Vec<u8>) -> Self {
        Model { known: vec![true; bytes.len()], bytes }
    }

    pub(super) fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Past the end it grows, as a file does.
    pub(super) fn write(&mut self, buf: &[u8], offset: u64) {
        let range = offset as usize..offset as usize + buf.len();
        if range.end > self.bytes.len() {
            self.resize(range.end as u64);
        }
        self.bytes[range.clone()].copy_from_slice(buf);
        self.known[range].fill(true);
    }

    pub(super) fn zero(&mut self, range: &Range<u64>) {
        let range = range.start as usize..range.end as usize;
        self.bytes[range.clone()].fill(0);
        self.known[range].fill(true);
    }

    pub(super) fn forget(&mut self, range: &Range<u64>) {
        self.known[range.start as usize..range.end as usize].fill(false);
    }

    pub(super) fn resize(&mut self, size_bytes: u64) {
        self.bytes.resize(size_bytes as usize, 0);
        self.known.resize(size_bytes as usize, true);
    }

    /// `found`, read at `offset`, must be what the model has there.
    pub(super) fn check(&self, found: &[u8], offset: u64, when: &str) {
        let from = offset as usize;
        if self.bytes[from..from + found.len()] == *found {
            return;
        }
        let wrong =
            (0..found.len()).find(|&i| self.known[from + i] && self.bytes[from + i] != found[i]);
        if let Some(i) = wrong {
            panic!(
                "{when}, byte {} is {:#04x} and should be {:#04x} (of {} bytes read at {offset}, of {})",
                from + i,
                found[i],
                self.bytes[from + i],
                found.len(),
                self.bytes.len()
            );
        }
    }

    /// The part `range` of `image` must read as it does here.
    pub(super) fn check_range(&self, image: &dyn Image, range: Range<u64>, when: &str) {
        self.check(&read(image, range.clone()), range.start, when);
    }

    /// `range` and `margin_bytes` on each side of it must read as they do here.
    pub(super) fn check_around(
        &self,
        image: &dyn Image,
        range: &Range<u64>,
        margin_bytes: u64,
        when: &str,
    ) {
        let end = (range.end + margin_bytes).min(self.size());
        self.check_range(image, range.start.saturating_sub(margin_bytes)..end, when);
    }

    /// `image` must have this size and these bytes, and runs that agree with them.
    pub(super) fn check_all(&self, image: &dyn Image, when: &str) {
        assert_eq!(image.size(), self.size(), "{when}, the size in bytes (left) is wrong");
        self.check_range(image, 0..self.size(), when);
        for run in runs(image) {
            self.check_run(image, run, when);
        }
    }

    /// A zero run must read as zeroes, and an unspecified one have no byte that somebody may rely on.
    pub(super) fn check_run(&self, image: &dyn Image, run: Extent, when: &str) {
        match run.kind {
            ExtentKind::Data => {}
            ExtentKind::Zero => {
                let found = read(image, run.range());
                if let Some(at) = found.iter().position(|&byte| byte != 0) {
                    panic!(
                        "{when}, byte {} of the zero run {:?} reads as {:#04x}",
                        run.offset + at as u64,
                        run.range(),
                        found[at]
                    );
                }
            }
            ExtentKind::Unspecified => {
                let known = &self.known[run.offset as usize..run.end() as usize];
                if let Some(at) = known.iter().position(|&known| known) {
                    panic!(
                        "{when}, byte {} of the unspecified run {:?} was never forgotten",
                        run.offset + at as u64,
                        run.range()
                    );
                }
            }
        }
    }
}

/// The bytes of `range`, into a buffer that shows where nothing was put.
pub(super) fn read(image: &dyn Image, range: Range<u64>) -> Vec<u8> {
    let mut buf = vec![0xa5; (range.end - range.start) as usize];
    must(image.read_at(&mut buf, range.start), || format!("cannot read {range:?}"));
    buf
}

/// The runs of all of `image`, which must be in order, gapless and within its size.
pub(super) fn runs(image: &dyn Image) -> Vec<Extent> {
    let mut runs = Vec::new();
    let mut at = 0;
    while at < image.size() {
        let run = run_at(image, at);
        at = run.end();
        runs.push(run);
    }
    runs
}

/// The run at `offset`, which must begin there, not be empty, and not reach past the end.
pub(super) fn run_at(image: &dyn Image, offset: u64) -> Extent {
    let run = must(image.extent_at(offset), || format!("cannot ask for the run at {offset}"));
    let room = image.size() - offset;
    assert!(
        run.offset == offset && run.len_bytes > 0 && run.len_bytes <= room,
        "the run at {offset} has offset {} and {} bytes, with {room} bytes to the end",
        run.offset,
        run.len_bytes
    );
    run
}

/// Content that has data, repeated bytes and zeroes in turn, with borders beside those of blocks. Bytes of data
/// are never zero, so that each byte that got lost shows.
pub(super) fn content(size_bytes: u64, block_bytes: u64) -> Vec<u8> {
    let mut rng = Rng::with_seed(size_bytes ^ block_bytes << 32);
    let mut bytes = Vec::new();
    for number in 0.. {
        let left = size_bytes - bytes.len() as u64;
        if left == 0 {
            break;
        }
        let len_bytes = rng.u64(block_bytes / 2..=2 * block_bytes).clamp(1, left);
        match number % 3 {
            0 => bytes.extend(noise(&mut rng, len_bytes)),
            1 => bytes.extend(std::iter::repeat_n(0, len_bytes as usize)),
            _ => bytes.extend(std::iter::repeat_n(rng.u8(1..), len_bytes as usize)),
        }
    }
    bytes
}

/// Random bytes, none of them zero.
pub(super) fn noise(rng: &mut Rng, len_bytes: u64) -> Vec<u8> {
    std::iter::repeat_with(|| rng.u8(1..)).take(len_bytes as usize).collect()
}

/// Ranges around the borders of blocks, of lengths around those of sectors and blocks.
pub(super) fn odd_ranges(size_bytes: u64, block_bytes: u64) -> Vec<Range<u64>> {
    let last_border = size_bytes - size_bytes % block_bytes;
    let starts = [0, block_bytes, 2 * block_bytes, last_border]
        .into_iter()
        .flat_map(|border| [border.saturating_sub(1), border, border + 1, border + 513]);
    let lens = [1, 2, 511, 513, block_bytes - 1, block_bytes, block_bytes + 1, 2 * block_bytes + 3];
    let mut ranges: Vec<Range<u64>> = starts
        .flat_map(|start| lens.map(|len| start..(start + len).min(size_bytes)))
        .filter(|range| !range.is_empty())
        .collect();
    ranges.dedup();
    ranges
}
