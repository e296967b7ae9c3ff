//! The contract of [`Medium`]: that of an image for its bytes, and what becomes of its length.

use std::ops::Range;

use ::image::{ErrorKind, ExtentKind, Medium};

use super::image_mut::{try_image_mut_rules, try_reopened_rules};
use super::model::{Model, content, noise, runs};
use super::random::{Run, with_seed};
use super::{MediumRules, PlainImage, Suite, must, try_rules};

/// Checks that what `make` makes of a length in bytes is a [`Medium`].
///
/// # Panics
///
/// If a rule is broken; the message names each. Where `zero`, `forget` and `flush` are named, `punch`, `discard`
/// and `sync` are meant.
pub fn check_medium<M: Medium>(mut make: impl FnMut(u64) -> M, rules: MediumRules) {
    let mut suite = Suite::new("Medium");
    let mut make_image = |len_bytes| PlainImage(make(len_bytes));
    try_image_mut_rules(&mut suite, &mut make_image, &rules.as_image());
    let mut bench = Bench { make: &mut make, rules: &rules };
    try_rules!(suite, bench:
        the_length_is_the_one_it_was_made_with,
        the_block_size_is_at_least_a_sector,
        a_read_past_the_end_is_a_change,
        runs_are_data_or_zero,
        empty_punches_and_discards_change_nothing,
    );
    if rules.fixed {
        try_rules!(suite, bench: a_write_past_a_fixed_end_is_refused_as_full);
    } else {
        try_rules!(suite, bench:
            a_write_across_the_end_grows_it_to_the_end_of_the_write,
            a_write_past_the_end_grows_it_with_zeroes_between,
            an_empty_write_past_the_end_does_not_grow_it,
            bytes_that_were_cut_off_do_not_come_back,
            random_operations_that_grow_it_agree_with_a_model,
        );
    }
    suite.finish();
}

/// Checks that what was synced is there after `reopen` has closed a medium and opened it again.
///
/// # Panics
///
/// If a rule is broken; the message names each.
pub fn check_medium_reopened<M: Medium>(
    mut make: impl FnMut(u64) -> M,
    mut reopen: impl FnMut(M) -> M,
    rules: MediumRules,
) {
    let mut suite = Suite::new("Medium");
    let mut make = |len_bytes| PlainImage(make(len_bytes));
    let mut reopen = |image: PlainImage<M>| PlainImage(reopen(image.0));
    try_reopened_rules(&mut suite, &mut make, &mut reopen, &rules.as_image());
    suite.finish();
}

struct Bench<'a, M> {
    make: &'a mut dyn FnMut(u64) -> M,
    rules: &'a MediumRules,
}

impl<M: Medium> Bench<'_, M> {
    fn usual(&mut self) -> (PlainImage<M>, Model) {
        let rules = self.rules.as_image();
        let content = content(rules.usual_size(), rules.block_bytes);
        let medium = (self.make)(content.len() as u64);
        write(&medium, &content, 0);
        (PlainImage(medium), Model::of(content))
    }
}

fn write(medium: &dyn Medium, bytes: &[u8], offset: u64) {
    must(medium.write_at(bytes, offset), || {
        format!("cannot write {} bytes at {offset}", bytes.len())
    });
}

fn set_len(medium: &dyn Medium, len_bytes: u64) {
    must(medium.set_len(len_bytes), || format!("cannot set the length to {len_bytes} bytes"));
}

fn the_length_is_the_one_it_was_made_with<M: Medium>(bench: &mut Bench<M>) {
    let rules = bench.rules.as_image();
    for wanted in [rules.size(0), rules.smallest_size(), rules.usual_size()] {
        let medium = (bench.make)(wanted);
        let len = must(medium.len(), || "cannot ask for the length".into());
        assert_eq!(len, wanted, "the length in bytes (left) is not the given one");
        let empty = must(medium.is_empty(), || "cannot ask whether it is empty".into());
        assert_eq!(empty, wanted == 0, "of {wanted} bytes, it says of being empty (left)");
    }
}

fn the_block_size_is_at_least_a_sector<M: Medium>(bench: &mut Bench<M>) {
    let block = (bench.make)(bench.rules.as_image().usual_size()).block_size_bytes();
    assert!(block.is_power_of_two() && block >= 512, "the block size is {block} bytes");
}

fn a_read_past_the_end_is_a_change<M: Medium>(bench: &mut Bench<M>) {
    let (PlainImage(medium), model) = bench.usual();
    let end = model.size();
    let asked =
        [(end - 1, 2), (end - 700, 1400), (end, 1), (end + 1, 513), (end + (1 << 40), 4096)];
    let far = [(i64::MAX as u64 - 1, 9), (u64::MAX - 9, 9), (u64::MAX - 3, 9)];
    for (offset, len) in asked.into_iter().chain(far) {
        let kind = medium.read_at(&mut vec![0; len], offset).err().map(|error| error.kind());
        let changed = kind == Some(ErrorKind::Changed);
        assert!(changed, "{len} bytes read at {offset} of {end} gave {kind:?}, not Changed");
    }
}

fn runs_are_data_or_zero<M: Medium>(bench: &mut Bench<M>) {
    let (image, model) = bench.usual();
    let part = 1..model.size() / 2;
    must(image.0.discard(part.clone()), || format!("cannot discard {part:?}"));
    for run in runs(&image) {
        assert!(run.kind != ExtentKind::Unspecified, "{:?} is unspecified", run.range());
    }
}

fn empty_punches_and_discards_change_nothing<M: Medium>(bench: &mut Bench<M>) {
    let (image, model) = bench.usual();
    for at in [0, 1, 4096, model.size()] {
        must(image.0.punch(at..at), || format!("cannot punch nothing at {at}"));
        must(image.0.discard(at..at), || format!("cannot discard nothing at {at}"));
    }
    model.check_all(&image, "after empty punches and discards");
}

fn a_write_past_a_fixed_end_is_refused_as_full<M: Medium>(bench: &mut Bench<M>) {
    let (image, model) = bench.usual();
    let end = model.size();
    for (offset, len) in [(end, 1), (end, 4096), (end - 4096, 8192), (end + 4096, 4096)] {
        let kind = image.0.write_at(&vec![1; len], offset).err().map(|error| error.kind());
        let full = kind == Some(ErrorKind::Full);
        assert!(full, "{len} bytes written at {offset} of {end} gave {kind:?}, not Full");
    }
    let len = must(image.0.len(), || "cannot ask for the length".into());
    assert_eq!(len, end, "the length in bytes (left) of a fixed medium has changed");
    // What of a refused write lies before the end may have been written.
    model.check_range(&image, 0..end - 4096, "after writes past the end");
}

fn a_write_across_the_end_grows_it_to_the_end_of_the_write<M: Medium>(bench: &mut Bench<M>) {
    let (image, mut model) = bench.usual();
    for (before, len) in [(1, 2), (700, 9001), (0, 1), (0, 4096)] {
        let bytes = noise(&mut fastrand::Rng::with_seed(len), len);
        let offset = model.size() - before;
        write(&image.0, &bytes, offset);
        model.write(&bytes, offset);
        model.check_all(&image, &format!("after a write of {len} bytes at {offset}"));
    }
}

fn a_write_past_the_end_grows_it_with_zeroes_between<M: Medium>(bench: &mut Bench<M>) {
    let (image, mut model) = bench.usual();
    for gap in [1, 511, bench.rules.block_bytes, 3 * bench.rules.block_bytes + 5] {
        let offset = model.size() + gap;
        write(&image.0, b"behind a gap", offset);
        model.write(b"behind a gap", offset);
        model.check_all(&image, &format!("after a write {gap} bytes behind the end"));
    }
}

fn an_empty_write_past_the_end_does_not_grow_it<M: Medium>(bench: &mut Bench<M>) {
    let (image, model) = bench.usual();
    write(&image.0, &[], model.size() + 1000);
    model.check_all(&image, "after an empty write behind the end");
}

fn bytes_that_were_cut_off_do_not_come_back<M: Medium>(bench: &mut Bench<M>) {
    let (image, mut model) = bench.usual();
    let end = model.size();
    let block = bench.rules.block_bytes;
    let cuts: [Range<u64>; 3] = [1..end, block - 9..2 * block + 9, 3 * block..3 * block + 1];
    for cut in cuts {
        write(&image.0, &vec![0xee; end as usize], 0);
        model.write(&vec![0xee; end as usize], 0);
        set_len(&image.0, cut.start);
        model.resize(cut.start);
        write(&image.0, b"new end", cut.end);
        model.write(b"new end", cut.end);
        let when = format!("cut at {} and written behind {}", cut.start, cut.end);
        model.check_all(&image, &when);
    }
}

fn random_operations_that_grow_it_agree_with_a_model<M: Medium>(bench: &mut Bench<M>) {
    with_seed(|rng| {
        let (image, model) = bench.usual();
        let rules = bench.rules.as_image();
        let mut run = Run { image, model, rules: &rules, grows_by_writing: true };
        run.go(rng);
    });
}
