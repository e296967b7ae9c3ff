//! Whatever the image and however it is cut: what is copied is equal, and nothing is written that need not be.

use std::ops::Range;
use std::sync::Mutex;

use formats::raw::RawImage;
use image::layers::Compare;
use image::{ErrorKind, Extent, Image, ImageMut, Medium, MemoryMedium, Result};
use proptest::prelude::*;

use super::*;

/// A target that remembers what was written and zeroed.
struct Recorder<I> {
    image: I,
    touched: Mutex<Vec<(Range<u64>, bool)>>,
}

impl<I> Recorder<I> {
    fn new(image: I) -> Self {
        Recorder { image, touched: Mutex::default() }
    }

    fn note(&self, range: Range<u64>, is_zero: bool) {
        self.touched.lock().unwrap().push((range, is_zero));
    }
}

impl<I: Image> Image for Recorder<I> {
    fn size(&self) -> u64 {
        self.image.size()
    }
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.image.read_at(buf, offset)
    }
    fn extent_at(&self, offset: u64) -> Result<Extent> {
        self.image.extent_at(offset)
    }
}

impl<I: ImageMut> ImageMut for Recorder<I> {
    fn write_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        self.note(offset..offset + buf.len() as u64, false);
        self.image.write_at(buf, offset)
    }
    fn zero(&self, range: Range<u64>) -> Result<()> {
        self.note(range.clone(), true);
        self.image.zero(range)
    }
    fn forget(&self, range: Range<u64>) -> Result<()> {
        self.image.forget(range)
    }
    fn flush(&self) -> Result<()> {
        self.image.flush()
    }
    fn resize(&mut self, size_bytes: u64) -> Result<()> {
        self.image.resize(size_bytes)
    }
}

fn shapes() -> impl Strategy<Value = Shape> {
    let plain = (0u32..4, 0u32..6, 1usize..5, any::<bool>());
    let plain = plain.prop_map(|(granule, piece, min, blank)| {
        let granule_bytes = 512 << granule;
        let piece_bytes = granule_bytes << piece;
        let zero_run_min_bytes = granule_bytes * min;
        Shape { blank, piece_bytes, granule_bytes, zero_run_min_bytes, ..SMALL }
    });
    // As for containers: no power of two.
    let blocks = (prop::sample::select(vec![4095, 12_287, 65_535]), any::<bool>())
        .prop_map(|(block_bytes, blank)| Shape { blank, ..SMALL }.of_blocks(block_bytes));
    prop_oneof![plain, blocks]
}

fn noise(size: u64, seed: u64) -> RawImage<MemoryMedium> {
    let medium = MemoryMedium::new("noise", 0);
    let mut bytes = vec![0; size as usize];
    fastrand::Rng::with_seed(seed).fill(&mut bytes);
    medium.write_at(&bytes, 0).unwrap();
    RawImage::open(medium).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn a_copy_equals_its_source_and_touches_each_byte_at_most_once(
        size in 0u64..200_000, seed: u64, shape in shapes(), aligned: bool,
    ) {
        let size = if aligned { size.next_multiple_of(4096) } else { size };
        let source = random_image(size, seed);
        let below = if shape.blank {
            RawImage::open(MemoryMedium::new("blank", size)).unwrap()
        } else {
            noise(size, !seed)
        };
        let target = Recorder::new(below);
        let ledger = Ledger::default();
        run(&transfer(&source, &target, shape), &ledger).unwrap();
        prop_assert!(bytes_of(&source) == bytes_of(&target));
        let (done, unreadable) = ledger.snapshot();
        prop_assert!(done.contains(&(0..size)) && unreadable.is_empty());

        let mut touched = target.touched.into_inner().unwrap();
        touched.sort_by_key(|(range, _)| range.start);
        for pair in touched.windows(2) {
            prop_assert!(pair[0].0.end <= pair[1].0.start, "{:?} touched twice", pair);
        }
        if let Some(block_bytes) = shape.block_bytes {
            for (range, _) in &touched {
                let ends = range.end == size || range.end.is_multiple_of(block_bytes);
                prop_assert!(range.start.is_multiple_of(block_bytes) && ends, "a part of a block: {range:?}");
            }
        }
        let written: u64 =
            touched.iter().filter(|(_, is_zero)| !is_zero).map(|(range, _)| range.end - range.start).sum();
        prop_assert_eq!(written, ledger.written_bytes());
        prop_assert!(!shape.blank || touched.iter().all(|(_, is_zero)| !is_zero), "zeroed a blank target");
        // With the shortest runs, no granule of zeroes is written.
        if shape.zero_run_min_bytes == shape.granule_bytes {
            let bytes = bytes_of(&source);
            for (range, _) in touched.iter().filter(|(_, is_zero)| !is_zero) {
                for granule in bytes[range.start as usize..range.end as usize].chunks(shape.granule_bytes) {
                    prop_assert!(granule.iter().any(|&byte| byte != 0), "zeroes written in {:?}", range);
                }
            }
        }
    }

    #[test]
    fn a_copy_onto_the_comparing_layer_proves_the_copier(size in 1u64..200_000, seed: u64, shape in shapes()) {
        let source = random_image(size, seed);
        let target = Compare::new(&source, "the same image");
        let ledger = Ledger::default();
        run(&transfer(&source, &target, Shape { blank: false, ..shape }), &ledger).unwrap();
        // And the layer proves something: one other byte is found.
        let other = random_image(size, seed);
        let at = seed % size;
        let mut byte = [0];
        other.read_at(&mut byte, at).unwrap();
        other.write_at(&[!byte[0]], at).unwrap();
        let target = Compare::new(&other, "another image");
        let found = run(&transfer(&source, &target, Shape { blank: false, ..shape }), &Ledger::default());
        let error = found.unwrap_err();
        prop_assert_eq!(error.kind(), ErrorKind::Damaged);
        prop_assert_eq!(error.location().and_then(|place| place.range.clone()), Some(at..at + 1));
    }

    #[test]
    fn ranges_that_are_done_are_not_read_or_written_again(
        size in 1u64..200_000, seed: u64, cuts in prop::collection::vec((0.0..1.0, 0.0..0.3), 0..6),
    ) {
        let source = random_image(size, seed);
        let done: image::ranges::RangeSet = cuts
            .iter()
            .map(|(start, len)| {
                let start = (start * size as f64) as u64;
                start..(start + (len * size as f64) as u64).min(size)
            })
            .collect();
        let target = Recorder::new(RawImage::open(MemoryMedium::new("target", size)).unwrap());
        let ledger = Ledger::resumed(done.clone(), image::ranges::RangeSet::new());
        let mut rest = transfer(&source, &target, SMALL);
        rest.ranges = done.gaps(0..size);
        run(&rest, &ledger).unwrap();
        prop_assert!(ledger.snapshot().0.contains(&(0..size)));
        let copied = bytes_of(&target);
        let wanted = bytes_of(&source);
        for range in done.gaps(0..size) {
            let range = range.start as usize..range.end as usize;
            prop_assert!(copied[range.clone()] == wanted[range]);
        }
        for (range, _) in target.touched.into_inner().unwrap() {
            prop_assert!(done.gaps(range.clone()) == [range.clone()], "{:?} was done", range);
        }
    }
}

#[test]
fn what_is_given_up_is_the_last_and_no_longer_unreadable() {
    let done: image::ranges::RangeSet = [0..1000, 2000..3000, 5000..5500].into_iter().collect();
    let unreadable: image::ranges::RangeSet = [100..200, 2400..2600].into_iter().collect();
    let ledger = Ledger::resumed(done, unreadable);
    ledger.give_up_last(1000, 1);
    let (done, unreadable) = ledger.snapshot();
    assert_eq!(done.iter().collect::<Vec<_>>(), [0..1000, 2000..2500]);
    assert_eq!(unreadable.iter().collect::<Vec<_>>(), [100..200, 2400..2500]);
    // In whole blocks, it is a little more.
    ledger.give_up_last(100, 300);
    assert_eq!(ledger.snapshot().0.iter().collect::<Vec<_>>(), [0..1000, 2000..2400]);
    ledger.give_up_last(450, 4095);
    assert!(ledger.snapshot().0.is_empty());
    ledger.give_up_last(1_000_000, 1);
    assert!(ledger.snapshot().0.is_empty() && ledger.snapshot().1.is_empty());
}
