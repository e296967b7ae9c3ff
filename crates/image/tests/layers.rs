//! What each layer is for: it refuses, fails or finds just what it should, at just that place.

use std::sync::atomic::{AtomicU64, Ordering};

use image::layers::{Checked, Compare, Fault, Faulty, Slice};
use image::{
    Error, ErrorKind, Extent, ExtentKind, Image, ImageExt, ImageMut, MemoryMedium, Result,
};
use testkit::contract::PlainImage;
use testkit::crash::CrashDisk;

/// Larger than what the comparing layer reads at once.
const SIZE: u64 = 600_001;

fn content() -> Vec<u8> {
    (0..SIZE).map(|at| (at % 251) as u8 + 1).collect()
}

fn holding(content: &[u8]) -> PlainImage<MemoryMedium> {
    let image = PlainImage(MemoryMedium::new("memory", content.len() as u64));
    image.write_at(content, 0).unwrap();
    image
}

fn bytes(image: &dyn Image) -> Vec<u8> {
    let mut bytes = vec![0; image.size() as usize];
    image.read_at(&mut bytes, 0).unwrap();
    bytes
}

#[track_caller]
fn assert_fails<T>(result: Result<T>, kind: ErrorKind) -> Error {
    let error = result.err().expect("it worked");
    assert_eq!(error.kind(), kind, "{error:?}");
    error
}

#[test]
fn compare_lets_pass_what_is_equal() {
    let content = content();
    let target = Compare::new(holding(&content), "target");
    for range in [0..SIZE, 0..0, 1..2, 4095..4097, 262_143..524_289] {
        let part = &content[range.start as usize..range.end as usize];
        target.write_at(part, range.start).unwrap();
    }
    target.flush().unwrap();
    assert_eq!(bytes(&target), content);
}

#[test]
fn compare_finds_a_difference_at_its_offset_and_changes_nothing() {
    let content = content();
    let target = Compare::new(holding(&content), "target");
    for at in [0, 1, 4096, 262_143, 262_144, 524_288, SIZE - 1] {
        let mut other = content.clone();
        other[at as usize] ^= 1;
        other[SIZE as usize - 1] ^= 2;
        let start = at.min(7);
        let error =
            assert_fails(target.write_at(&other[start as usize..], start), ErrorKind::Damaged);
        assert_eq!(error.location().unwrap().range, Some(at..at + 1));
        assert_eq!(error.location().unwrap().name, "target");
    }
    assert_eq!(bytes(&target), content);
}

#[test]
fn compare_takes_zeroing_for_a_claim_that_zeroes_stand_there() {
    let image = PlainImage(MemoryMedium::new("memory", SIZE));
    for at in [5000, 300_000, SIZE - 1] {
        image.write_at(&[1], at).unwrap();
    }
    let target = Compare::new(image, "target");
    for range in [0..5000, 5001..300_000, 300_001..SIZE - 1] {
        target.zero(range).unwrap();
    }
    for (range, at) in [(0..SIZE, 5000), (5001..SIZE, 300_000), (300_001..SIZE, SIZE - 1)] {
        let error = assert_fails(target.zero(range), ErrorKind::Damaged);
        assert_eq!(error.location().unwrap().range, Some(at..at + 1));
    }
}

#[test]
fn compare_forgets_nothing_knows_no_holes_and_keeps_its_size() {
    let mut target = Compare::new(PlainImage(MemoryMedium::new("memory", SIZE)), "target");
    target.forget(0..SIZE).unwrap();
    assert_eq!(target.extent_at(3).unwrap(), Extent::new(3..SIZE, ExtentKind::Data));
    target.resize(SIZE).unwrap();
    assert_fails(target.resize(SIZE + 1), ErrorKind::Damaged);
}

#[test]
fn faulty_fails_reads_that_touch_an_unreadable_range_and_no_others() {
    let image = Faulty::new(holding(&content()), [Fault::Unreadable(1000..2000)]);
    for (offset, len) in [(0, 1000), (2000, 1000), (1500, 0)] {
        image.read_at(&mut vec![0; len], offset).unwrap();
    }
    for (offset, len) in [(0, 1001), (1999, 1), (1000, 1), (0, 5000)] {
        let error = assert_fails(image.read_at(&mut vec![0; len], offset), ErrorKind::Io);
        assert_eq!(error.location().unwrap().range, Some(offset..offset + len as u64));
    }
    image.write_at(&[1; 3000], 0).unwrap();
}

#[test]
fn faulty_fails_writes_and_zeroings_that_touch_an_unwritable_range() {
    let image = Faulty::new(holding(&content()), [Fault::Unwritable(1000..2000)]);
    image.write_at(&[1; 1000], 0).unwrap();
    image.zero(2000..3000).unwrap();
    assert_fails(image.write_at(&[1; 2], 999), ErrorKind::Io);
    assert_fails(image.zero(1999..2001), ErrorKind::Io);
    let found = bytes(image.get_ref());
    assert_eq!(found[..1000], [1; 1000]);
    assert_eq!(found[1000..2000], content()[1000..2000]);
}

#[test]
fn faulty_counts_reads_and_writes_apart() {
    let faults = [Fault::ReadsUntil(2), Fault::FullAfter(3)];
    let image = Faulty::new(holding(&content()), faults);
    image.write_at(&[1], 0).unwrap();
    image.zero(1..2).unwrap();
    image.write_at(&[1], 2).unwrap();
    assert_fails(image.write_at(&[1], 3), ErrorKind::Full);
    assert_fails(image.zero(4..5), ErrorKind::Full);
    for _ in 0..2 {
        image.read_at(&mut [0], 0).unwrap();
    }
    assert_fails(image.read_at(&mut [0], 0), ErrorKind::Io);
}

#[test]
fn faulty_fails_to_flush_but_keeps_what_was_written() {
    let image = Faulty::new(holding(&content()), [Fault::Unflushable]);
    image.write_at(b"kept", 0).unwrap();
    assert_fails(image.flush(), ErrorKind::Io);
    assert_eq!(&bytes(&image)[..4], b"kept");
}

#[test]
fn checked_refuses_what_reaches_past_the_end() {
    let image = Checked::new(holding(&content()));
    for (offset, len) in [(SIZE, 1), (SIZE - 1, 2), (u64::MAX, 1), (u64::MAX - 1, 9)] {
        let end = offset.saturating_add(len as u64);
        assert_fails(image.read_at(&mut vec![0; len], offset), ErrorKind::Invalid);
        assert_fails(image.write_at(&vec![0; len], offset), ErrorKind::Invalid);
        if end > offset {
            assert_fails(image.zero(offset..end), ErrorKind::Invalid);
            assert_fails(image.forget(offset..end), ErrorKind::Invalid);
        }
    }
    assert_fails(image.extent_at(SIZE), ErrorKind::Invalid);
    assert_eq!(bytes(image.get_ref()), content());
}

/// An image that gives the same run whatever it is asked, and counts how often.
struct OneRun(Extent, AtomicU64);

impl Image for OneRun {
    fn size(&self) -> u64 {
        1000
    }

    fn read_at(&self, buf: &mut [u8], _: u64) -> Result<()> {
        buf.fill(0);
        Ok(())
    }

    fn extent_at(&self, _: u64) -> Result<Extent> {
        self.1.fetch_add(1, Ordering::Relaxed);
        Ok(self.0)
    }
}

#[test]
fn checked_refuses_a_run_that_is_none() {
    let kind = ExtentKind::Data;
    for (offset, len_bytes) in [(99, 10), (101, 10), (100, 0), (100, 901), (100, u64::MAX)] {
        let image = OneRun(Extent { offset, len_bytes, kind }, AtomicU64::new(0));
        assert_fails(Checked::new(image).extent_at(100), ErrorKind::Damaged);
    }
    let image = OneRun(Extent { offset: 100, len_bytes: 900, kind }, AtomicU64::new(0));
    assert_eq!(Checked::new(image).extent_at(100).unwrap().end(), 1000);
}

#[test]
fn a_map_that_does_not_move_on_is_an_error_and_no_endless_loop() {
    let image = OneRun(Extent::new(0..10, ExtentKind::Zero), AtomicU64::new(0));
    let found: Vec<_> = image.extents(0..1000).collect();
    assert_eq!(*found[0].as_ref().unwrap(), Extent::new(0..10, ExtentKind::Zero));
    assert_eq!(found[1].as_ref().unwrap_err().kind(), ErrorKind::Damaged);
    assert_eq!(found.len(), 2);
    assert!(image.1.into_inner() <= 3);
}

#[test]
fn runs_of_one_kind_are_merged_and_cut_at_the_question() {
    let image = PlainImage(MemoryMedium::new("memory", 40_000));
    image.write_at(&[1; 8193], 8192).unwrap();
    let runs: Result<Vec<_>> = image.extents(5000..30_000).collect();
    let kinds = [
        Extent::new(5000..8192, ExtentKind::Zero),
        Extent::new(8192..20_480, ExtentKind::Data),
        Extent::new(20_480..30_000, ExtentKind::Zero),
    ];
    assert_eq!(runs.unwrap(), kinds);
    assert_eq!(image.extents(7..7).count(), 0);
}

#[test]
fn a_sparse_read_reads_only_data() {
    let image = PlainImage(MemoryMedium::new("memory", 40_000));
    image.write_at(&[1; 4096], 8192).unwrap();
    let holes = [Fault::Unreadable(0..8192), Fault::Unreadable(12_288..40_000)];
    let mut found = vec![9; 39_990];
    Faulty::new(image, holes).read_sparse(&mut found, 10).unwrap();
    let expected: Vec<u8> = (10..40_000).map(|at| u8::from((8192..12_288).contains(&at))).collect();
    assert_eq!(found, expected);
}

#[test]
fn a_slice_lies_within_its_image() {
    let image = holding(&content());
    let backwards = std::ops::Range { start: 9, end: 8 };
    for range in [0..SIZE + 1, SIZE + 1..SIZE + 1, backwards] {
        assert_fails(Slice::new(&image, range), ErrorKind::Invalid);
    }
    assert_eq!(Slice::new(&image, SIZE..SIZE).unwrap().size(), 0);
    assert_eq!(bytes(&Slice::new(&image, 1001..5003).unwrap()), content()[1001..5003]);
}

#[test]
fn a_slice_touches_nothing_around_it() {
    let below = CrashDisk::new().add("below", &content());
    let slice = Slice::new(PlainImage(below.clone()), 1001..5003).unwrap();
    slice.write_at(&[0; 4002], 0).unwrap();
    slice.forget(0..2000).unwrap();
    slice.zero(1000..4002).unwrap();
    let found = bytes(&PlainImage(below));
    assert_eq!(found[..1001], content()[..1001]);
    assert_eq!(found[2001..5003], [0; 3002]);
    assert_eq!(found[5003..], content()[5003..]);
}
