//! The contract of [`Image`]: reading, and runs that tell the truth.

use ::image::{ExtentKind, Image};

use super::model::{Model, content, odd_ranges, read, run_at, runs};
use super::{ImageRules, Suite, must, together, try_rules};

/// Checks that what `make` makes of some content is an [`Image`] of it.
///
/// # Panics
///
/// If a rule is broken; the message names each.
pub fn check_image<I: Image>(mut make: impl FnMut(&[u8]) -> I, rules: ImageRules) {
    let mut suite = Suite::new("Image");
    try_image_rules(&mut suite, &mut make, &rules);
    suite.finish();
}

pub(super) fn try_image_rules<I: Image>(
    suite: &mut Suite,
    make: &mut dyn FnMut(&[u8]) -> I,
    rules: &ImageRules,
) {
    let mut bench = Bench { make, rules };
    try_rules!(suite, bench:
        the_size_is_that_of_the_content,
        the_block_size_is_a_power_of_two,
        a_whole_read_gives_the_whole_content,
        reads_at_odd_offsets_and_lengths_give_those_bytes,
        an_empty_read_is_no_error,
        runs_are_in_order_gapless_and_within_the_size,
        a_run_may_be_asked_for_at_any_offset,
        a_zero_run_reads_as_zeroes,
        what_was_given_is_not_unspecified,
        an_image_of_zeroes_reads_as_zeroes,
        the_smallest_image_is_an_image,
        threads_read_the_same_bytes_at_once,
    );
}

struct Bench<'a, I> {
    make: &'a mut dyn FnMut(&[u8]) -> I,
    rules: &'a ImageRules,
}

impl<I: Image> Bench<'_, I> {
    fn usual(&mut self) -> (I, Model) {
        self.of(content(self.rules.usual_size(), self.rules.block_bytes))
    }

    fn of(&mut self, content: Vec<u8>) -> (I, Model) {
        let image = (self.make)(&content);
        let mut model = Model::of(content);
        if self.rules.leaves_out {
            let runs = runs(&image).into_iter();
            let left_out = runs.filter(|run| run.kind == ExtentKind::Unspecified);
            left_out.for_each(|run| model.forget(&run.range()));
        }
        (image, model)
    }

    fn ranges(&self) -> Vec<std::ops::Range<u64>> {
        odd_ranges(self.rules.usual_size(), self.rules.block_bytes)
    }
}

fn the_size_is_that_of_the_content<I: Image>(bench: &mut Bench<I>) {
    let (image, model) = bench.usual();
    assert_eq!(image.size(), model.size(), "the size in bytes (left) is not the given one");
}

fn the_block_size_is_a_power_of_two<I: Image>(bench: &mut Bench<I>) {
    let (image, _) = bench.usual();
    let block = image.block_size_bytes();
    assert!(block.is_power_of_two(), "the block size is {block} bytes");
}

fn a_whole_read_gives_the_whole_content<I: Image>(bench: &mut Bench<I>) {
    let (image, model) = bench.usual();
    model.check_range(&image, 0..model.size(), "read in one go");
}

fn reads_at_odd_offsets_and_lengths_give_those_bytes<I: Image>(bench: &mut Bench<I>) {
    let (image, model) = bench.usual();
    for range in bench.ranges() {
        model.check_range(&image, range, "read by itself");
    }
}

fn an_empty_read_is_no_error<I: Image>(bench: &mut Bench<I>) {
    let (image, model) = bench.usual();
    for offset in [0, 1, model.size() / 2, model.size()] {
        read(&image, offset..offset);
    }
}

fn runs_are_in_order_gapless_and_within_the_size<I: Image>(bench: &mut Bench<I>) {
    let (image, model) = bench.usual();
    let total: u64 = runs(&image).iter().map(|run| run.len_bytes).sum();
    assert_eq!(total, model.size(), "the runs have (left) bytes in all, the image (right)");
}

fn a_run_may_be_asked_for_at_any_offset<I: Image>(bench: &mut Bench<I>) {
    let (image, model) = bench.usual();
    for range in bench.ranges() {
        model.check_run(&image, run_at(&image, range.start), "asked for in the middle");
    }
    run_at(&image, model.size() - 1);
}

fn a_zero_run_reads_as_zeroes<I: Image>(bench: &mut Bench<I>) {
    let (image, model) = bench.usual();
    for run in runs(&image).into_iter().filter(|run| run.kind == ExtentKind::Zero) {
        model.check_run(&image, run, "as made");
        model.check(&vec![0; run.len_bytes as usize], run.offset, "taking a zero run at its word");
    }
}

fn what_was_given_is_not_unspecified<I: Image>(bench: &mut Bench<I>) {
    let (image, model) = bench.usual();
    for run in runs(&image).into_iter().filter(|run| run.kind == ExtentKind::Unspecified) {
        model.check_run(&image, run, "as made");
    }
}

fn an_image_of_zeroes_reads_as_zeroes<I: Image>(bench: &mut Bench<I>) {
    let (image, model) = bench.of(vec![0; bench.rules.usual_size() as usize]);
    model.check_all(&image, "made of zeroes");
}

fn the_smallest_image_is_an_image<I: Image>(bench: &mut Bench<I>) {
    for size_bytes in [bench.rules.size(0), bench.rules.smallest_size()] {
        let (image, model) = bench.of(content(size_bytes, bench.rules.block_bytes));
        must(image.read_at(&mut [], 0), || format!("cannot read nothing of {size_bytes} bytes"));
        model.check_all(&image, "made as small as it can be");
    }
}

fn threads_read_the_same_bytes_at_once<I: Image>(bench: &mut Bench<I>) {
    let (image, model) = bench.usual();
    let ranges = bench.ranges();
    let reader = |ranges: Vec<std::ops::Range<u64>>| {
        let (image, model) = (&image, &model);
        Box::new(move || {
            for range in ranges {
                model.check_range(image, range.clone(), "read beside other readers");
                run_at(image, range.start);
            }
        }) as Box<dyn FnOnce() + Send>
    };
    let backwards = ranges.iter().rev().cloned().collect();
    together(vec![reader(ranges), reader(backwards)]);
}
