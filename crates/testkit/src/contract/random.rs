//! Random operations on an image and on a plain vector, which must agree all along.

use std::ops::Range;

use ::image::ImageMut;
use fastrand::Rng;

use super::model::{Model, noise};
use super::{ImageRules, Resizing, must};

/// An image and what it must hold.
pub(super) struct Run<'a, I> {
    pub(super) image: I,
    pub(super) model: Model,
    pub(super) rules: &'a ImageRules,
    /// Whether a write may reach past the end.
    pub(super) grows_by_writing: bool,
}

const OPERATIONS: u32 = 300;
/// So often everything is compared, instead of what an operation touched.
const WHOLE_CHECK_EVERY: u32 = 50;

/// Runs `check` with random numbers whose seed is named if it panics, and can be set by `TESTKIT_SEED`.
pub(super) fn with_seed(check: impl FnOnce(&mut Rng)) {
    let seed = match std::env::var("TESTKIT_SEED") {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("TESTKIT_SEED={text} is no number")),
        Err(_) => fastrand::u64(..),
    };
    if let Err(message) = crate::caught(|| check(&mut Rng::with_seed(seed))) {
        panic!("{message} (repeat with TESTKIT_SEED={seed})");
    }
}

impl<I: ImageMut> Run<'_, I> {
    /// Some hundred operations, each checked where it worked, and everything from time to time.
    pub(super) fn go(&mut self, rng: &mut Rng) {
        for number in 1..=OPERATIONS {
            let (what, touched) = self.step(rng);
            let when = format!("after operation {number}, {what}");
            self.model.check_around(&self.image, &touched, self.rules.block_bytes, &when);
            if number % WHOLE_CHECK_EVERY == 0 {
                self.model.check_all(&self.image, &when);
            }
        }
    }

    /// One operation, on the image and on the model: its name, and the part that it was about.
    fn step(&mut self, rng: &mut Rng) -> (String, Range<u64>) {
        let range = self.range(rng);
        let len_bytes = range.end - range.start;
        let (what, result) = match rng.u32(0..100) {
            0..40 => {
                let range = if self.grows_by_writing && rng.u8(0..10) == 0 {
                    self.model.size() + rng.u64(0..3000)..self.model.size() + 4000
                } else {
                    range.clone()
                };
                let bytes = match rng.u8(0..4) {
                    0 => vec![0; (range.end - range.start) as usize],
                    _ => noise(rng, range.end - range.start),
                };
                self.model.write(&bytes, range.start);
                (format!("a write of {range:?}"), self.image.write_at(&bytes, range.start))
            }
            40..65 if len_bytes > 0 => {
                self.model.zero(&range);
                (format!("zeroing {range:?}"), self.image.zero(range.clone()))
            }
            65..80 if len_bytes > 0 => {
                self.model.forget(&range);
                (format!("forgetting {range:?}"), self.image.forget(range.clone()))
            }
            80..90 if self.rules.resizing != Resizing::Never => {
                let size_bytes = self.new_size(rng);
                self.model.resize(size_bytes);
                (format!("resizing to {size_bytes} bytes"), self.image.resize(size_bytes))
            }
            90..93 => ("a flush".to_string(), self.image.flush()),
            _ => (format!("reading {range:?}"), Ok(())),
        };
        must(result, || format!("cannot do {what}"));
        let size = self.model.size();
        (what, range.start.min(size)..range.end.min(size))
    }

    /// A part of the image, often at a border of blocks, and seldom empty.
    fn range(&self, rng: &mut Rng) -> Range<u64> {
        let size = self.model.size();
        let block = self.rules.block_bytes;
        let mut start = rng.u64(0..=size);
        if rng.bool() {
            start = start / block * block;
        }
        let len = match rng.u8(0..3) {
            0 => rng.u64(0..=600),
            1 => rng.u64(0..=2) * block,
            _ => rng.u64(0..=2 * block),
        };
        start..(start + len).min(size)
    }

    fn new_size(&self, rng: &mut Rng) -> u64 {
        let largest = self.rules.usual_size() + 2 * self.rules.block_bytes;
        match self.rules.resizing {
            Resizing::Any => self.rules.size(rng.u64(0..=largest)),
            Resizing::Grows | Resizing::Never => {
                let few = rng.u64(0..=self.rules.block_bytes / 4);
                self.rules.size(self.model.size() + few)
            }
        }
    }
}
