//! The contract of [`ImageMut`]: writing, zeroing, forgetting, resizing, and what stays as it was.

use std::ops::Range;

use ::image::{ErrorKind, ImageMut};

use super::image::try_image_rules;
use super::model::{Model, content, noise, odd_ranges, run_at};
use super::random::{Run, with_seed};
use super::{ImageRules, Resizing, Suite, must, together, try_rules};

/// Checks that what `make` makes of a size in bytes is an [`ImageMut`], and an [`Image`](::image::Image) of
/// whatever is written to it.
///
/// # Panics
///
/// If a rule is broken; the message names each.
pub fn check_image_mut<I: ImageMut>(mut make: impl FnMut(u64) -> I, rules: ImageRules) {
    let mut suite = Suite::new("ImageMut");
    try_image_mut_rules(&mut suite, &mut make, &rules);
    suite.finish();
}

/// Checks that what was flushed is there after `reopen` has closed an image and opened it again.
///
/// # Panics
///
/// If a rule is broken; the message names each.
pub fn check_image_mut_reopened<I: ImageMut>(
    mut make: impl FnMut(u64) -> I,
    mut reopen: impl FnMut(I) -> I,
    rules: ImageRules,
) {
    let mut suite = Suite::new("ImageMut");
    try_reopened_rules(&mut suite, &mut make, &mut reopen, &rules);
    suite.finish();
}

pub(super) fn try_image_mut_rules<I: ImageMut>(
    suite: &mut Suite,
    make: &mut dyn FnMut(u64) -> I,
    rules: &ImageRules,
) {
    let mut of_content = |content: &[u8]| {
        let image = make(content.len() as u64);
        fill(&image, content);
        image
    };
    try_image_rules(suite, &mut of_content, rules);
    let mut bench = Bench { make, rules };
    try_rules!(suite, bench:
        what_is_written_is_read_and_its_neighbours_stay,
        an_empty_write_changes_nothing,
        what_is_zeroed_reads_as_zeroes_and_its_neighbours_stay,
        what_is_zeroed_is_never_unspecified,
        what_is_forgotten_leaves_its_neighbours,
        what_is_written_after_forgetting_is_read,
        a_flush_changes_nothing_that_is_read,
        the_size_it_has_is_accepted_and_changes_nothing,
        cut_and_grown_again_it_reads_as_zeroes,
        grown_it_reads_as_zeroes_behind_the_old_end,
        a_size_that_it_cannot_have_is_refused_and_changes_nothing,
        two_readers_and_a_writer_do_not_disturb_each_other,
        neighbouring_writes_from_two_threads_both_stay,
        random_operations_agree_with_a_model,
    );
}

pub(super) fn try_reopened_rules<I: ImageMut>(
    suite: &mut Suite,
    make: &mut dyn FnMut(u64) -> I,
    reopen: &mut dyn FnMut(I) -> I,
    rules: &ImageRules,
) {
    let mut bench = ReopenBench { bench: Bench { make, rules }, reopen };
    try_rules!(suite, bench:
        what_was_flushed_is_there_after_reopening,
        what_random_operations_left_is_there_after_reopening,
    );
}

struct Bench<'a, I> {
    make: &'a mut dyn FnMut(u64) -> I,
    rules: &'a ImageRules,
}

impl<I: ImageMut> Bench<'_, I> {
    /// An image with data and zeroes in it.
    fn usual(&mut self) -> (I, Model) {
        self.of_size(self.rules.usual_size())
    }

    fn of_size(&mut self, size_bytes: u64) -> (I, Model) {
        let image = (self.make)(size_bytes);
        let content = content(size_bytes, self.rules.block_bytes);
        fill(&image, &content);
        (image, Model::of(content))
    }

    /// An image whose bytes are all data, so that each byte that is wrongly zeroed shows.
    fn full(&mut self) -> (I, Model) {
        let size_bytes = self.rules.usual_size();
        let image = (self.make)(size_bytes);
        let bytes = noise(&mut fastrand::Rng::with_seed(size_bytes), size_bytes);
        write(&image, &bytes, 0);
        (image, Model::of(bytes))
    }

    fn ranges(&self) -> Vec<Range<u64>> {
        odd_ranges(self.rules.usual_size(), self.rules.block_bytes)
    }
}

/// Writes the data of `content`, and zeroes the rest.
fn fill(image: &dyn ImageMut, content: &[u8]) {
    let mut at = 0;
    for run in content.chunk_by(|a, b| (*a == 0) == (*b == 0)) {
        if run[0] == 0 {
            zero(image, &(at..at + run.len() as u64));
        } else {
            write(image, run, at);
        }
        at += run.len() as u64;
    }
}

fn write(image: &dyn ImageMut, bytes: &[u8], offset: u64) {
    must(image.write_at(bytes, offset), || {
        format!("cannot write {} bytes at {offset}", bytes.len())
    });
}

fn zero(image: &dyn ImageMut, range: &Range<u64>) {
    must(image.zero(range.clone()), || format!("cannot zero {range:?}"));
}

fn forget(image: &dyn ImageMut, range: &Range<u64>) {
    must(image.forget(range.clone()), || format!("cannot forget {range:?}"));
}

fn resize(image: &mut dyn ImageMut, size_bytes: u64) {
    let old_bytes = image.size();
    must(image.resize(size_bytes), || format!("cannot resize {old_bytes} to {size_bytes} bytes"));
}

fn what_is_written_is_read_and_its_neighbours_stay<I: ImageMut>(bench: &mut Bench<I>) {
    let (image, mut model) = bench.usual();
    let mut rng = fastrand::Rng::with_seed(1);
    for range in bench.ranges() {
        let bytes = noise(&mut rng, range.end - range.start);
        write(&image, &bytes, range.start);
        model.write(&bytes, range.start);
        let when = format!("after a write of {range:?}");
        model.check_around(&image, &range, bench.rules.block_bytes, &when);
    }
    model.check_all(&image, "after all writes");
}

fn an_empty_write_changes_nothing<I: ImageMut>(bench: &mut Bench<I>) {
    let (image, model) = bench.usual();
    for offset in [0, 1, model.size() / 2, model.size()] {
        write(&image, &[], offset);
    }
    model.check_all(&image, "after empty writes");
}

fn what_is_zeroed_reads_as_zeroes_and_its_neighbours_stay<I: ImageMut>(bench: &mut Bench<I>) {
    let (image, mut model) = bench.full();
    let mut rng = fastrand::Rng::with_seed(2);
    for range in bench.ranges().into_iter().chain(std::iter::once(0..model.size())) {
        zero(&image, &range);
        model.zero(&range);
        let when = format!("after zeroing {range:?}");
        model.check_around(&image, &range, bench.rules.block_bytes, &when);
        let bytes = noise(&mut rng, range.end - range.start);
        write(&image, &bytes, range.start);
        model.write(&bytes, range.start);
    }
    model.check_all(&image, "after zeroing and writing again");
}

fn what_is_zeroed_is_never_unspecified<I: ImageMut>(bench: &mut Bench<I>) {
    let (image, mut model) = bench.full();
    let block = bench.rules.block_bytes;
    forget(&image, &(0..model.size()));
    model.forget(&(0..model.size()));
    for range in [0..1, block - 1..block + 1, 2 * block..4 * block, 5 * block + 7..8 * block - 7] {
        zero(&image, &range);
        model.zero(&range);
        model.check_run(&image, run_at(&image, range.start), &format!("after zeroing {range:?}"));
    }
    model.check_all(&image, "after zeroing parts of what was forgotten");
}

fn what_is_forgotten_leaves_its_neighbours<I: ImageMut>(bench: &mut Bench<I>) {
    let (image, mut model) = bench.full();
    let mut rng = fastrand::Rng::with_seed(3);
    for range in bench.ranges() {
        forget(&image, &range);
        model.forget(&range);
        let when = format!("after forgetting {range:?}");
        model.check_around(&image, &range, bench.rules.block_bytes, &when);
        let bytes = noise(&mut rng, range.end - range.start);
        write(&image, &bytes, range.start);
        model.write(&bytes, range.start);
    }
    model.check_all(&image, "after forgetting and writing again");
}

fn what_is_written_after_forgetting_is_read<I: ImageMut>(bench: &mut Bench<I>) {
    let (image, mut model) = bench.full();
    let block = bench.rules.block_bytes;
    forget(&image, &(block + 1..4 * block - 1));
    model.forget(&(block + 1..4 * block - 1));
    write(&image, &[7; 700], 2 * block - 350);
    model.write(&[7; 700], 2 * block - 350);
    model.check_all(&image, "after a write into what was forgotten");
}

fn a_flush_changes_nothing_that_is_read<I: ImageMut>(bench: &mut Bench<I>) {
    let (image, mut model) = bench.usual();
    must(image.flush(), || "cannot flush".into());
    model.check_all(&image, "after a flush");
    write(&image, b"between", 4090);
    model.write(b"between", 4090);
    must(image.flush(), || "cannot flush again".into());
    must(image.flush(), || "cannot flush with nothing to do".into());
    model.check_all(&image, "after a write between flushes");
}

fn the_size_it_has_is_accepted_and_changes_nothing<I: ImageMut>(bench: &mut Bench<I>) {
    let (mut image, model) = bench.usual();
    resize(&mut image, model.size());
    model.check_all(&image, "resized to the size it had");
}

fn cut_and_grown_again_it_reads_as_zeroes<I: ImageMut>(bench: &mut Bench<I>) {
    if bench.rules.resizing != Resizing::Any {
        return;
    }
    let (mut image, mut model) = bench.full();
    let whole = model.size();
    let rules = bench.rules;
    for wish in [8 * rules.block_bytes, 5 * rules.block_bytes - 1, 2 * rules.block_bytes + 77, 0] {
        for size_bytes in [rules.size(wish), whole] {
            resize(&mut image, size_bytes);
            model.resize(size_bytes);
            model.check_all(&image, &format!("resized to {size_bytes} bytes"));
        }
    }
}

fn grown_it_reads_as_zeroes_behind_the_old_end<I: ImageMut>(bench: &mut Bench<I>) {
    if bench.rules.resizing == Resizing::Never {
        return;
    }
    let (mut image, mut model) = bench.of_size(bench.rules.smallest_size());
    for wish in [3, 100 + bench.rules.block_bytes, bench.rules.usual_size()] {
        let size_bytes = bench.rules.size(wish);
        resize(&mut image, size_bytes);
        model.resize(size_bytes);
        model.check_all(&image, &format!("grown to {size_bytes} bytes"));
        write(&image, &[9], size_bytes - 1);
        model.write(&[9], size_bytes - 1);
    }
    model.check_all(&image, "grown and written to its end");
}

fn a_size_that_it_cannot_have_is_refused_and_changes_nothing<I: ImageMut>(bench: &mut Bench<I>) {
    let (mut image, model) = bench.usual();
    let unit = bench.rules.size_unit_bytes;
    let refused: &[u64] = match bench.rules.resizing {
        Resizing::Any => &[],
        Resizing::Grows => &[model.size() - unit],
        Resizing::Never => &[model.size() - unit, model.size() + unit],
    };
    for &size_bytes in refused {
        let kind = image.resize(size_bytes).err().map(|error| error.kind());
        let unsupported = kind == Some(ErrorKind::Unsupported);
        assert!(
            unsupported,
            "resized from {} to {size_bytes} bytes, it gave {kind:?}",
            model.size()
        );
        model.check_all(&image, "after a size that was refused");
    }
}

fn two_readers_and_a_writer_do_not_disturb_each_other<I: ImageMut>(bench: &mut Bench<I>) {
    let (image, mut model) = bench.usual();
    let block = bench.rules.block_bytes;
    // The borders of the writer's part lie within blocks, which it shares with the readers.
    let written = 3 * block + 99..6 * block + 101;
    let rounds = 8;
    let writer = || {
        for round in 1..=rounds {
            let mut at = written.start;
            while at < written.end {
                let len = (block / 3 + 1).min(written.end - at);
                write(&image, &vec![round; len as usize], at);
                at += len;
            }
        }
    };
    let reader = |range: Range<u64>| {
        let (image, model) = (&image, &model);
        move || {
            for _ in 0..4 * rounds {
                model.check_range(image, range.clone(), "read beside a writer");
                model.check_run(image, run_at(image, range.start), "asked for beside a writer");
            }
        }
    };
    together(vec![
        Box::new(writer),
        Box::new(reader(0..written.start)),
        Box::new(reader(written.end..model.size())),
    ]);
    model.write(&vec![rounds; (written.end - written.start) as usize], written.start);
    model.check_all(&image, "after a writer and two readers");
}

fn neighbouring_writes_from_two_threads_both_stay<I: ImageMut>(bench: &mut Bench<I>) {
    let (image, mut model) = bench.usual();
    let block = bench.rules.block_bytes;
    // Each cell is shorter than a block and not aligned: both writers meet in every block.
    let cell = block / 8 + 13;
    let cells = 2 * block / cell;
    let writer = |odd: u64, value: u8| {
        let image = &image;
        move || {
            for number in (odd..cells).step_by(2) {
                write(image, &vec![value; cell as usize], block + number * cell);
            }
        }
    };
    together(vec![Box::new(writer(0, 0x11)), Box::new(writer(1, 0x22))]);
    for number in 0..cells {
        let value = if number % 2 == 0 { 0x11 } else { 0x22 };
        model.write(&vec![value; cell as usize], block + number * cell);
    }
    model.check_all(&image, &format!("after writes of {cell} bytes each by two threads in turn"));
}

fn random_operations_agree_with_a_model<I: ImageMut>(bench: &mut Bench<I>) {
    with_seed(|rng| {
        let (image, model) = bench.usual();
        let mut run = Run { image, model, rules: bench.rules, grows_by_writing: false };
        run.go(rng);
    });
}

struct ReopenBench<'a, 'b, I> {
    bench: Bench<'a, I>,
    reopen: &'b mut dyn FnMut(I) -> I,
}

fn what_was_flushed_is_there_after_reopening<I: ImageMut>(
    ReopenBench { bench, reopen }: &mut ReopenBench<I>,
) {
    let (image, mut model) = bench.full();
    let block = bench.rules.block_bytes;
    for range in [1..block - 1, 2 * block..4 * block, 6 * block - 1..6 * block + 1] {
        zero(&image, &range);
        model.zero(&range);
    }
    must(image.flush(), || "cannot flush".into());
    let image = reopen(image);
    model.check_all(&image, "after reopening");
}

fn what_random_operations_left_is_there_after_reopening<I: ImageMut>(
    ReopenBench { bench, reopen }: &mut ReopenBench<I>,
) {
    with_seed(|rng| {
        let (image, model) = bench.usual();
        let mut run = Run { image, model, rules: bench.rules, grows_by_writing: false };
        for _ in 0..2 {
            run.go(rng);
            must(run.image.flush(), || "cannot flush".into());
            run.image = reopen(run.image);
            run.model.check_all(&run.image, "after reopening");
        }
    });
}
