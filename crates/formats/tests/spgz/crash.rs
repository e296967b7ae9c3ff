//! Power cuts: what is left is old, new, or torn within the blocks that were being written.

use std::ops::Range;

use fastrand::Rng;
use formats::spgz::{OnDamage, SpgzImage};
use image::{ErrorKind, Image, ImageMut, Result, Task};
use testkit::crash::{CrashDisk, CrashMedium};

use super::peer;

const BLOCK: u64 = 12_287;
const SLOT: usize = 12_288;

fn noise(seed: u64, len: u64) -> Vec<u8> {
    let mut rng = Rng::with_seed(seed);
    (0..len).map(|_| rng.u8(1..)).collect()
}

fn text(len: u64) -> Vec<u8> {
    b"all work and no play ".iter().cycle().take(len as usize).copied().collect()
}

/// Noise, text, noise, zeroes, noise, and a last block of its own.
fn start(last: &[u8]) -> Vec<u8> {
    let mut bytes = noise(1, BLOCK);
    bytes.extend(text(BLOCK));
    bytes.extend(noise(2, BLOCK));
    bytes.resize(bytes.len() + BLOCK as usize, 0);
    bytes.extend(noise(3, BLOCK));
    bytes.extend(last);
    bytes
}

fn container_of(bytes: &[u8]) -> Vec<u8> {
    let medium = peer::medium_of(b"");
    let image = SpgzImage::create(medium, BLOCK, bytes.len() as u64).unwrap();
    image.write_at(bytes, 0).unwrap();
    image.flush().unwrap();
    peer::bytes_of(image.medium())
}

/// Does `work`, which flushes at its end and writes to `blocks` only, and looks at each cut. Returns how many there were.
fn cut(
    before: &[u8],
    blocks: Range<usize>,
    states_max: usize,
    work: impl FnOnce(&mut SpgzImage<CrashMedium>) -> Result<()>,
) -> usize {
    let disk = CrashDisk::new();
    let old = container_of(before);
    let medium = disk.add("container", &old);
    let mut image = SpgzImage::open(medium, OnDamage::Report).unwrap();
    work(&mut image).unwrap();
    let operations = disk.operations();
    let new = disk.bytes("container").unwrap();
    let after = peer::image(&new);
    disk.cuts().states_max(states_max).check_each(|cut, disk| {
        let found = disk.bytes("container").unwrap();
        // What is there is old or new, byte for byte.
        for (at, byte) in found.iter().enumerate() {
            let either = [old.get(at).unwrap_or(&0), new.get(at).unwrap_or(&0)];
            assert!(either.contains(&byte), "byte {at} of the container is neither old nor new");
        }
        let image = match SpgzImage::open(disk.medium("container").unwrap(), OnDamage::Report) {
            Ok(image) => image,
            Err(error) => {
                let last = blocks.end == (old.len().max(new.len()) - 4096).div_ceil(SLOT);
                assert!(last && error.kind() == ErrorKind::Damaged, "it cannot be opened: {error}");
                assert!(cut.after() < operations);
                return;
            }
        };
        let size = image.size() as usize;
        assert!(size == before.len() || size == after.len(), "the size is {size}");
        let damaged = image.check(&Task::silent()).unwrap();
        for block in 0..size.div_ceil(BLOCK as usize) {
            let range = block * BLOCK as usize..((block + 1) * BLOCK as usize).min(size);
            let mut bytes = vec![0; range.len()];
            let offset = range.start as u64;
            let is_damaged = damaged.iter().any(|damaged| damaged.contains(&offset));
            if cut.after() >= operations {
                image.read_at(&mut bytes, offset).unwrap();
                assert!(bytes == after[range], "block {block} was flushed");
            } else if !blocks.contains(&block) {
                image.read_at(&mut bytes, offset).unwrap();
                let same = |bytes: &[u8]| {
                    let old = &before[range.start.min(before.len())..range.end.min(before.len())];
                    bytes[..old.len()] == *old && digest::is_zero(&bytes[old.len()..])
                };
                assert!(same(&bytes), "block {block} was not written, and changed");
            } else {
                assert_eq!(image.read_at(&mut bytes, offset).is_err(), is_damaged);
            }
        }
    })
}

#[test]
fn a_cut_while_blocks_are_written_leaves_the_others() {
    let states = cut(&start(&noise(4, 3000)), 1..5, 40, |image| {
        // Text to noise, noise to text, zeroes to text, noise to zeroes.
        image.write_at(&noise(7, BLOCK), BLOCK)?;
        image.write_at(&text(BLOCK), 2 * BLOCK)?;
        image.write_at(&text(BLOCK), 3 * BLOCK)?;
        image.zero(4 * BLOCK..5 * BLOCK)?;
        image.flush()
    });
    assert!(states > 100, "{states}");
}

#[test]
fn a_cut_while_a_part_of_a_block_is_written_leaves_the_others() {
    let states = cut(&start(&noise(4, 3000)), 1..3, 40, |image| {
        image.write_at(&noise(7, 6000), 2 * BLOCK - 3000)?;
        image.flush()
    });
    assert!(states > 50, "{states}");
}

#[test]
fn what_a_block_replaces_is_there_until_the_block_is_durable() {
    // Noise that becomes text: its tail is given back only behind the sync.
    let before = start(b"");
    let mut old_seen = 0;
    let disk = CrashDisk::new();
    let medium = disk.add("container", &container_of(&before));
    let image = SpgzImage::open(medium, OnDamage::Report).unwrap();
    image.write_at(&text(BLOCK), 0).unwrap();
    image.flush().unwrap();
    disk.each_cut(|_, disk| {
        let image = SpgzImage::open(disk.medium("container").unwrap(), OnDamage::Report).unwrap();
        let mut bytes = vec![0; BLOCK as usize];
        match image.read_at(&mut bytes, 0) {
            Ok(()) if bytes == before[..BLOCK as usize] => old_seen += 1,
            Ok(()) => assert!(bytes == text(BLOCK) || !bytes[4096..].contains(&0)),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Damaged),
        }
    });
    assert!(old_seen > 1);
}

#[test]
fn a_cut_while_the_last_block_is_written_leaves_the_size() {
    let lasts = [noise(4, 9500), text(9500), vec![0; 9500], noise(5, BLOCK), text(BLOCK)];
    for (number, old) in lasts.iter().enumerate() {
        for new in lasts.iter().filter(|new| new.len() == old.len() && *new != old) {
            let states = cut(&start(old), 5..6, 40, |image| {
                image.write_at(new, 5 * BLOCK)?;
                image.flush()
            });
            assert!(states > 3, "{number}: {states}");
        }
    }
}

#[test]
fn a_cut_while_the_size_changes_leaves_the_old_or_the_new_one() {
    for last in [noise(4, 9500), text(9500), vec![0; 9500], text(BLOCK), Vec::new()] {
        let bytes = start(&last);
        let end = bytes.len() as u64;
        for size in
            [0, BLOCK, BLOCK + 9000, 2 * BLOCK + 100, 5 * BLOCK, end + 50, end + BLOCK, 9 * BLOCK]
        {
            // Where it is cut, and where it ended.
            let first = size.min(end) / BLOCK;
            cut(&bytes, first as usize..10, 30, |image| {
                image.resize(size)?;
                image.flush()
            });
        }
    }
}
