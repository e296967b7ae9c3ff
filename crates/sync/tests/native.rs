//! The native protocol between two of our ends.

use fastrand::Rng;
use formats::raw::RawImage;
use image::ranges::RangeSet;
use image::{Error, ErrorKind, Extent, Image, ImageMut, Medium, MemoryMedium, Result};
use sync::native::{Digest, Shape, root_of};
use sync::{Hangup, Target, Wire};

use super::native_support::{
    Ends, MemoryTarget, WatchedBook, changed, memory, random_bytes, random_len,
};

fn root_of_bytes(bytes: &[u8]) -> Digest {
    let shape = Shape::of(bytes.len() as u64);
    let digests: Vec<Digest> = (0..shape.regions())
        .map(|region| {
            let range = shape.region(region);
            digest::blake3::hash(&bytes[range.start as usize..range.end as usize])
        })
        .collect();
    root_of(&shape, &digests)
}

fn differing_bytes(one: &[u8], other: &[u8]) -> u64 {
    let pages = one.len().div_ceil(4096);
    let page = |bytes: &[u8], number: usize| {
        let mut page = vec![0; 4096.min(one.len() - number * 4096)];
        let from = (number * 4096).min(bytes.len());
        let to = (from + page.len()).min(bytes.len());
        page[..to - from].copy_from_slice(&bytes[from..to]);
        page
    };
    let differing = (0..pages).filter(|number| page(one, *number) != page(other, *number));
    differing.map(|number| page(one, number).len() as u64).sum()
}

#[test]
fn a_target_becomes_its_source_whatever_both_were() {
    let mut rng = Rng::with_seed(4);
    for round in 0..200 {
        let len = random_len(&mut rng);
        let old = random_bytes(&mut rng, len);
        let new = match rng.u8(0..8) {
            0 => old.clone(),
            1 => {
                let len = random_len(&mut rng);
                random_bytes(&mut rng, len)
            }
            _ => changed(&mut rng, &old),
        };
        let old = if rng.u8(0..8) == 0 { Vec::new() } else { old };
        let is_spgz = rng.u8(0..4) == 0;
        let mut target = if is_spgz { MemoryTarget::spgz(&old) } else { MemoryTarget::of(&old) };
        let ends = Ends {
            compress: rng.bool(),
            threads: *rng.choice(&[1, 3]).unwrap(),
            ..Ends::default()
        };
        let (report, _) = ends.sync(&memory(&new), &mut target);
        assert!(target.bytes() == new, "round {round}: the target is not the source");
        assert!(target.is_finished);
        assert_eq!(report.root, Some(root_of_bytes(&new)), "round {round}");
        assert_eq!(report.source_bytes, new.len() as u64);
        assert_eq!(report.target_bytes, old.len() as u64);
        assert_eq!(report.compared_bytes, new.len() as u64);
        if old == new {
            assert_eq!((report.data_bytes, report.zeroed_bytes), (0, 0), "round {round}");
        }
        // Holes stay holes: a page of zeroes takes no space.
        let pages = new.chunks(4096).filter(|page| page.iter().any(|byte| *byte != 0));
        let data_bytes = pages.map(<[u8]>::len).sum::<usize>() as u64;
        assert!(is_spgz || target.data_bytes() <= data_bytes + 4096, "round {round}");
    }
}

#[test]
fn scattered_pages_are_sent_alone() {
    let mut rng = Rng::with_seed(5);
    let old: Vec<u8> = (0..6 << 20).map(|_| rng.u8(1..)).collect();
    let mut new = old.clone();
    for at in [5000, 700_000, 700_001, 3 << 20, 4_000_000, (6 << 20) - 1] {
        new[at] = 0;
    }
    let mut target = MemoryTarget::of(&old);
    let (report, _) = Ends::default().sync(&memory(&new), &mut target);
    assert!(target.bytes() == new);
    assert_eq!(report.data_bytes, differing_bytes(&new, &old));
    assert_eq!(report.data_bytes, 5 * 4096);
}

#[test]
fn a_device_that_is_larger_keeps_its_size_and_one_that_is_smaller_is_refused_at_both_ends() {
    let mut rng = Rng::with_seed(6);
    let new = random_bytes(&mut rng, 3 << 20);
    let old = random_bytes(&mut rng, 5 << 20);
    let mut target = MemoryTarget::device(&old);
    Ends::default().sync(&memory(&new), &mut target);
    assert!(target.bytes()[..3 << 20] == new && target.bytes()[3 << 20..] == old[3 << 20..]);

    let mut target = MemoryTarget::device(&old[..1 << 20]);
    let (source, there) = Ends::default().run(&memory(&new), &mut target);
    assert_eq!(there.unwrap_err().to_string(), "the device is too small");
    let error = source.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooSmall);
    assert_eq!(error.to_string(), "the other end says: the device is too small");
    assert!(target.bytes() == old[..1 << 20]);
}

#[test]
fn books_make_reading_needless_and_learn_what_was_written() {
    let mut rng = Rng::with_seed(7);
    let old = random_bytes(&mut rng, 7_654_321);
    let new = changed(&mut rng, &old);
    let mut target = MemoryTarget::of(&old);
    let (source_book, target_book) = (WatchedBook::read_only(), WatchedBook::default());
    let ends = Ends { source_book: &source_book, target_book: &target_book, ..Ends::default() };
    let (first, _) = ends.sync(&memory(&new), &mut target);
    assert!(target.bytes() == new);
    assert_eq!(first.known_bytes, 0);
    for book in [&source_book, &target_book] {
        book.knows_all();
        book.is_true_for(&new);
    }

    // Now nobody reads: an image that fails to be read does.
    let mut target = MemoryTarget::of(&new);
    let unreadable =
        Unreadable { size_bytes: new.len() as u64, allowed: RangeSet::new(), bytes: &[] };
    let (second, there) = ends.sync(&unreadable, &mut target);
    assert_eq!(second.known_bytes, new.len() as u64);
    assert_eq!(there.known_bytes, new.len() as u64);
    assert_eq!(second.data_bytes, 0);
    assert_eq!(second.root, first.root);
}

#[test]
fn a_book_forgets_what_is_written_before_it_is() {
    let mut rng = Rng::with_seed(8);
    for _ in 0..20 {
        let len = random_len(&mut rng);
        let old = random_bytes(&mut rng, len);
        let book = WatchedBook::default();
        let ends = Ends { target_book: &book, threads: 3, ..Ends::default() };
        ends.sync(&memory(&old), &mut MemoryTarget::of(&[]));
        let new = changed(&mut rng, &old);
        let mut target = MemoryTarget::of(&old);
        ends.sync(&memory(&new), &mut target);
        book.knows_all();
        book.is_true_for(&new);
        assert!(target.bytes() == new);
    }
}

#[test]
fn a_book_that_is_wrong_is_found_out() {
    let mut rng = Rng::with_seed(9);
    let old: Vec<u8> = (0..4 << 20).map(|_| rng.u8(1..)).collect();
    let mut new = old.clone();
    new[3 << 20] ^= 1;
    let book = WatchedBook::default();
    let ends = Ends { target_book: &book, ..Ends::default() };
    ends.sync(&memory(&old), &mut MemoryTarget::of(&[]));
    // What is told to be different is looked at again.
    book.mislead(1);
    let mut target = MemoryTarget::of(&old);
    ends.sync(&memory(&new), &mut target);
    assert!(target.bytes() == new);
    book.is_true_for(&new);

    // What is told to be alike is not; the proof does not read it either. That is what a book is believed for.
    let source_book = WatchedBook::default();
    let ends = Ends { source_book: &source_book, ..Ends::default() };
    ends.sync(&memory(&new), &mut MemoryTarget::of(&[]));
    source_book.mislead(1);
    let (source, there) = ends.run(&memory(&new), &mut MemoryTarget::of(&old));
    assert_eq!(source.unwrap_err().kind(), ErrorKind::Changed);
    assert_eq!(there.unwrap_err().kind(), ErrorKind::Changed);
    // The next time, nothing of it is believed.
    assert_eq!(source_book.known(), 0);
    ends.sync(&memory(&new), &mut MemoryTarget::of(&old));
}

#[test]
fn in_a_scope_only_the_scope_is_read_and_written() {
    let mut rng = Rng::with_seed(10);
    for round in 0..60 {
        let len = rng.usize(1..6 << 20);
        let new = random_bytes(&mut rng, len);
        let mut old = new.clone();
        let mut scope = RangeSet::new();
        for _ in 0..rng.usize(0..12) {
            let start = rng.usize(0..len) / 4096 * 4096;
            let end = (start + 4096 * rng.usize(1..100)).min(len);
            scope.insert(start as u64..end as u64);
            let some = start..rng.usize(start..=end);
            rng.fill(&mut old[some]);
        }
        let image = Unreadable { size_bytes: len as u64, allowed: scope.clone(), bytes: &new };
        let mut target = MemoryTarget::of(&old);
        let book = WatchedBook::default();
        let ends = Ends {
            scope: Some(&scope),
            target_book: &book,
            threads: *rng.choice(&[1, 3]).unwrap(),
            ..Ends::default()
        };
        let (report, _) = ends.sync(&image, &mut target);
        assert!(target.bytes() == new, "round {round}: the target is not the source");
        assert_eq!(report.compared_bytes, scope.total_bytes(), "round {round}");
        assert_eq!(book.known(), 0, "parts of regions were learnt");
    }
}

#[test]
fn a_target_that_is_not_what_it_was_is_refused_before_anything_is_written() {
    let mut rng = Rng::with_seed(11);
    let old = random_bytes(&mut rng, 3 << 20);
    let book = WatchedBook::default();
    let first = Ends { target_book: &book, ..Ends::default() };
    let (report, _) = first.sync(&memory(&old), &mut MemoryTarget::of(&[]));
    let mut new = old.clone();
    new[5000] ^= 1;
    let scope = RangeSet::from_iter(std::iter::once(4096..8192));
    for (expected, is_right) in [(report.root, true), (Some([3; 32]), false)] {
        let mut target = MemoryTarget::of(&old);
        let ends = Ends { target_book: &book, expected, scope: Some(&scope), ..Ends::default() };
        // The book is of one target; a scope makes it forget.
        let ends_again = Ends { target_book: &book, ..Ends::default() };
        let (source, there) = ends.run(&memory(&new), &mut target);
        if is_right {
            source.unwrap();
            there.unwrap();
            assert!(target.bytes() == new);
            ends_again.sync(&memory(&old), &mut target);
        } else {
            let (source, there) = (source.unwrap_err(), there.unwrap_err());
            assert_eq!((source.kind(), there.kind()), (ErrorKind::Changed, ErrorKind::Changed));
            assert!(source.to_string().starts_with("the target is not what it was"));
            assert!(!target.has_begun);
        }
    }
}

#[test]
fn a_dry_run_counts_what_a_run_does_and_writes_nothing() {
    let mut rng = Rng::with_seed(12);
    for round in 0..20 {
        let len = random_len(&mut rng);
        let old = random_bytes(&mut rng, len);
        let new = changed(&mut rng, &old);
        let mut untouched = MemoryTarget::dry(&old);
        let ends = Ends { source_is_dry: round % 2 == 0, target_is_dry: true, ..Ends::default() };
        let (would, _) = ends.sync(&memory(&new), &mut untouched);
        assert!(untouched.bytes() == old, "round {round}: a dry run wrote");
        assert_eq!(would.root, None);
        let (did, _) = Ends::default().sync(&memory(&new), &mut MemoryTarget::of(&old));
        assert_eq!(
            (would.data_bytes, would.packed_bytes, would.zeroed_bytes, would.compared_bytes),
            (did.data_bytes, did.packed_bytes, did.zeroed_bytes, did.compared_bytes),
            "round {round}"
        );
    }
    // A target that is not ready for a dry run is left alone.
    let mut target = MemoryTarget::of(b"old");
    let ends = Ends { source_is_dry: true, ..Ends::default() };
    let (source, _) = ends.run(&memory(b"new"), &mut target);
    assert_eq!(source.unwrap_err().kind(), ErrorKind::Unsupported);
    assert!(!target.has_begun);
}

#[test]
fn a_source_that_changed_meanwhile_is_an_error_at_both_ends() {
    let ends = Ends {
        unchanged: &|| Err(Error::new(ErrorKind::Changed, "somebody wrote to the source")),
        ..Ends::default()
    };
    let mut target = MemoryTarget::of(b"old");
    let (source, there) = ends.run(&memory(b"new"), &mut target);
    assert_eq!(source.unwrap_err().to_string(), "somebody wrote to the source");
    assert_eq!(there.unwrap_err().to_string(), "the other end says: somebody wrote to the source");
    assert!(!target.is_finished);
}

#[test]
fn a_source_that_reads_otherwise_the_second_time_is_found_out() {
    let mut rng = Rng::with_seed(13);
    let bytes: Vec<u8> = (0..3 << 20).map(|_| rng.u8(1..)).collect();
    let image = Restless { image: memory(&bytes), reads: Default::default() };
    let mut target = MemoryTarget::of(&[]);
    let (source, there) = Ends::default().run(&image, &mut target);
    for error in [source.unwrap_err(), there.unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::Changed);
        assert!(error.to_string().contains("the source was written to during the sync"), "{error}");
    }
    assert!(!target.is_finished);
}

#[test]
fn an_end_that_cannot_read_or_write_tells_the_other() {
    let mut rng = Rng::with_seed(14);
    let bytes: Vec<u8> = (0..3 << 20).map(|_| rng.u8(1..)).collect();
    let allowed = RangeSet::from_iter(std::iter::once(0..2_500_000));
    let image = Unreadable { size_bytes: 3 << 20, allowed, bytes: &bytes };
    let (source, there) = Ends::default().run(&image, &mut MemoryTarget::of(&[]));
    let said = source.unwrap_err().to_string();
    assert!(said.starts_with("read "), "{said}");
    assert_eq!(there.unwrap_err().to_string(), format!("the other end says: {said}"));
}

#[test]
fn whoever_is_told_to_stop_stops_and_says_so() {
    for which in [0, 1] {
        let ends = Ends::default();
        match which {
            0 => ends.tasks.0.cancel(),
            _ => ends.tasks.1.cancel(),
        }
        let (source, there) = ends.run(&memory(&[1; 5 << 20]), &mut MemoryTarget::of(&[]));
        let (source, there) = (source.unwrap_err(), there.unwrap_err());
        assert_eq!((source.kind(), there.kind()), (ErrorKind::Cancelled, ErrorKind::Cancelled));
        let said = "the other end says: interrupted".to_string();
        let sentences = [source.to_string(), there.to_string()];
        assert_eq!(sentences[which], "interrupted");
        assert_eq!(sentences[1 - which], said);
    }
}

#[test]
fn an_image_of_many_tebibytes_that_is_nearly_all_holes_takes_a_moment() {
    // Regions of 16 MiB, which are asked about in parts.
    let size_bytes = 8 << 40;
    let region = 700 << 30;
    let sparse = |places: &[u64]| {
        let medium = MemoryMedium::new("sparse", size_bytes);
        places.iter().for_each(|at| medium.write_at(b"here", *at).unwrap());
        RawImage::open(medium).unwrap()
    };
    let mut target = MemoryTarget::of(&[]);
    target.is_now(sparse(&[5 << 30, region + 4096, region + (9 << 20)]));
    let source = sparse(&[4 << 40, region, region + (9 << 20), region + (15 << 20)]);
    let (report, _) = Ends::default().sync(&source, &mut target);
    // One region is new, and of the other two pages.
    assert_eq!(report.data_bytes, 3 * 4096);
    assert_eq!(target.data_bytes(), 4 * 4096);
    Ends::default().sync(&source, &mut target);
}

#[test]
fn the_reason_is_heard_also_where_the_pipe_is_broken_by_it() {
    let mut rng = Rng::with_seed(15);
    let bytes: Vec<u8> = (0..20 << 20).map(|_| rng.u8(..)).collect();
    for _ in 0..5 {
        let ((one, two), (three, four)) = (std::io::pipe().unwrap(), std::io::pipe().unwrap());
        let wire = |input, output| Wire {
            input: Box::new(input),
            output: Box::new(output),
            hangup: Hangup::new(),
        };
        let (here, there) = (wire(one, four), wire(three, two));
        let mut target = FullTarget(MemoryTarget::of(&[]));
        let (source, there) = Ends::default().run_over(&memory(&bytes), &mut target, (here, there));
        assert_eq!(there.unwrap_err().to_string(), "no space is left");
        let error = source.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Full);
        assert_eq!(error.to_string(), "the other end says: no space is left");
    }
}

/// Has room for little.
struct FullTarget(MemoryTarget);

impl Target for FullTarget {
    fn size_bytes(&self) -> u64 {
        self.0.size_bytes()
    }
    fn begin(&mut self, source_bytes: u64) -> Result<()> {
        self.0.begin(source_bytes)
    }
    fn image(&self) -> &dyn ImageMut {
        self
    }
    fn resize(&mut self, size_bytes: u64) -> Result<()> {
        self.0.resize(size_bytes)
    }
    fn finish(&mut self) -> Result<()> {
        panic!("it was not written")
    }
}

impl Image for FullTarget {
    fn size(&self) -> u64 {
        self.0.image().size()
    }
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.0.image().read_at(buf, offset)
    }
    fn extent_at(&self, offset: u64) -> Result<Extent> {
        self.0.image().extent_at(offset)
    }
}

impl ImageMut for FullTarget {
    fn write_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        match offset < 5 << 20 {
            true => self.0.image().write_at(buf, offset),
            false => Err(Error::new(ErrorKind::Full, "no space is left")),
        }
    }
    fn zero(&self, range: std::ops::Range<u64>) -> Result<()> {
        self.0.image().zero(range)
    }
    fn forget(&self, range: std::ops::Range<u64>) -> Result<()> {
        self.0.image().forget(range)
    }
    fn flush(&self) -> Result<()> {
        Ok(())
    }
    fn resize(&mut self, _: u64) -> Result<()> {
        panic!("a target is resized, not its image")
    }
}

/// Fails to be read outside of `allowed`; its map knows nothing.
struct Unreadable<'a> {
    size_bytes: u64,
    allowed: RangeSet,
    bytes: &'a [u8],
}

impl Image for Unreadable<'_> {
    fn size(&self) -> u64 {
        self.size_bytes
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let range = offset..offset + buf.len() as u64;
        if !self.allowed.contains(&range) {
            let sentence = format!("read {range:?} outside of what may be read");
            return Err(Error::new(ErrorKind::Io, sentence));
        }
        buf.copy_from_slice(&self.bytes[range.start as usize..range.end as usize]);
        Ok(())
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        Ok(Extent::new(offset..self.size_bytes, image::ExtentKind::Data))
    }
}

/// Changes between two reads of one place.
struct Restless<I> {
    image: I,
    reads: std::sync::Mutex<std::collections::HashSet<u64>>,
}

impl<I: Image> Image for Restless<I> {
    fn size(&self) -> u64 {
        self.image.size()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.image.read_at(buf, offset)?;
        if !self.reads.lock().unwrap().insert(offset) {
            buf[0] ^= 1;
        }
        Ok(())
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        self.image.extent_at(offset)
    }
}
