//! Our source against our target, over pairs of images that share some of their bytes.

use std::thread;

use fastrand::Rng;
use image::{Image, ImageMut, Result, Task};
use sync::diskrsync::Report;
use sync::wire::pair;

use super::support::{HeldTarget, content, held, how};

/// Runs both ends over pipes that hold `capacity_bytes`: what the source and the target did.
pub(super) fn both(
    source: &dyn Image,
    target: &mut HeldTarget<impl ImageMut>,
    capacity_bytes: usize,
    threads: usize,
) -> (Result<Report>, Result<Report>) {
    let (here, there) = pair(capacity_bytes);
    thread::scope(|scope| {
        let task = Task::silent();
        let other = task.clone();
        let source =
            scope.spawn(move || sync::diskrsync::source(source, here, &how(threads), &task));
        let done = sync::diskrsync::target(target, there, &how(threads), &other);
        (source.join().unwrap(), done)
    })
}

/// Sizes where the shape or the last chunk is about to change, and some others.
fn size(rng: &mut Rng) -> u64 {
    match rng.u8(0..10) {
        0 => rng.u64(0..4),
        1 => rng.u64(0..300_000),
        2 => 8_388_608 + rng.u64(0..3) - 1,
        _ => {
            let unit = if rng.bool() { 131_071 } else { 131_072 };
            (rng.u64(0..9) * unit + rng.u64(0..3)).saturating_sub(1)
        }
    }
}

/// Bytes in which runs are zero, and their likeness with some runs changed, of other sizes.
fn likeness(rng: &mut Rng) -> (Vec<u8>, Vec<u8>) {
    let sizes = [size(rng), size(rng)];
    let longest = sizes[0].max(sizes[1]) as usize;
    let mut bytes = vec![0; longest];
    rng.fill(&mut bytes);
    let mut other = bytes.clone();
    for change in 0..rng.usize(0..7) {
        if longest == 0 {
            break;
        }
        let start = rng.usize(0..longest);
        let len = [1, 4096, 131_072, 400_000][rng.usize(0..4)];
        let end = (start + len).min(longest);
        match (change, rng.u8(0..4)) {
            (_, 0) => other[start..end].fill(0),
            (_, 1) => {
                bytes[start..end].fill(0);
                other[start..end].fill(0);
            }
            (_, 2) => bytes[start..end].fill(0),
            _ => rng.fill(&mut other[start..end]),
        }
    }
    bytes.truncate(sizes[0] as usize);
    if rng.u8(0..4) == 0 {
        other.truncate(bytes.len());
    } else {
        other.truncate(sizes[1] as usize);
    }
    (bytes, other)
}

#[test]
fn two_hundred_pairs_of_images_become_equal() {
    let mut rng = Rng::with_seed(22);
    for number in 0..200 {
        let (source, old) = likeness(&mut rng);
        let name = format!("pair {number}: {} onto {} bytes", source.len(), old.len());
        let image = held(&source);
        let mut target = HeldTarget::new(held(&old));
        // The smallest pipes are for small images, or it takes its time.
        let capacity_bytes = match rng.u8(0..3) {
            0 if source.len() < 50_000 => 1,
            1 if source.len() < 600_000 => 700,
            _ => 65_536,
        };
        let (sent, applied) = both(&image, &mut target, capacity_bytes, rng.usize(1..4));
        let report = applied.unwrap_or_else(|error| panic!("{name}: {error:?}"));
        assert_eq!(sent.unwrap_or_else(|error| panic!("{name}: {error:?}")), report, "{name}");
        assert!(target.is_finished && content(&target.image) == source, "{name}");
        assert_eq!(report.compared_bytes, source.len().min(old.len()) as u64, "{name}");

        let again = both(&image, &mut HeldTarget::new(target.image), capacity_bytes, 2).0.unwrap();
        assert_eq!((again.data_bytes, again.zeroed_bytes), (0, 0), "{name}: sent twice");
    }
}

#[test]
fn a_device_keeps_its_size_and_what_stands_behind_the_source() {
    let old = [7_u8; 400_000];
    let source = [0; 300_000];
    let mut target = HeldTarget::new(held(&old));
    target.is_device = true;
    let (sent, applied) = both(&held(&source), &mut target, 4096, 2);
    assert_eq!(sent.unwrap(), applied.unwrap());
    let content = content(&target.image);
    assert!(content[..300_000] == source && content[300_000..] == old[300_000..]);
}

#[test]
fn a_device_that_is_too_small_is_not_written_to() {
    let old = [7_u8; 300_000];
    let mut target = HeldTarget::new(held(&old));
    target.is_device = true;
    let (sent, applied) = both(&held(&[1; 300_001]), &mut target, 4096, 2);
    assert_eq!(applied.unwrap_err().kind(), image::ErrorKind::TooSmall);
    assert_eq!(sent.unwrap_err().kind(), image::ErrorKind::Io);
    assert!(content(&target.image) == old);
}

#[test]
fn zeroes_of_a_tail_take_no_space() {
    let mut source = vec![0; 3_000_000];
    source[2_000_000..2_000_100].fill(1);
    let mut target = HeldTarget::new(held(&[1; 1000]));
    let (sent, applied) = both(&held(&source), &mut target, 4096, 1);
    assert_eq!(sent.unwrap(), applied.unwrap());
    assert!(content(&target.image) == source);
    let taken = target.image.medium().allocated_bytes();
    assert!(taken <= 2 * 131_072, "{taken} bytes");
}
