//! A packed file that many read at once.

use std::ops::Range;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};

use formats::packed::{Compression, PackedMedium, Segments};
use image::{Error, ErrorKind, Medium, MemoryMedium, Result};

use super::common::{content, indexed, pack};

#[test]
fn many_threads_read_what_one_would() {
    let content = content(2_000_000, 9);
    for compression in [Compression::Zst, Compression::Lz4] {
        let file = pack(compression, None, &content, 50_000);
        let packed = indexed(&file, compression);
        std::thread::scope(|scope| {
            for seed in 0..8 {
                let (packed, content) = (&packed, &content);
                scope.spawn(move || {
                    let mut rng = fastrand::Rng::with_seed(seed);
                    for _ in 0..60 {
                        let start = rng.usize(0..content.len());
                        let len = rng.usize(0..=(content.len() - start).min(130_000));
                        let mut part = vec![0xa5; len];
                        packed.read_at(&mut part, start as u64).unwrap();
                        assert!(part == content[start..start + len]);
                    }
                });
            }
        });
    }
}

/// Segments of ten bytes with their number in them, which count how often they are unpacked.
struct Counted<'a> {
    unpacked: &'a AtomicUsize,
    /// Two threads must be in `unpack` at once to pass.
    meeting: Option<&'a Barrier>,
    fails: bool,
}

impl Segments for Counted<'static> {
    fn len_bytes(&self) -> u64 {
        1000
    }

    fn find(&self, offset: u64) -> (usize, Range<u64>) {
        let at = offset / 10;
        (at as usize, at * 10..at * 10 + 10)
    }

    fn unpack(&self, _file: &dyn Medium, at: usize, out: &mut Vec<u8>) -> Result<()> {
        if let Some(meeting) = self.meeting {
            meeting.wait();
        }
        self.unpacked.fetch_add(1, Ordering::SeqCst);
        if self.fails {
            return Err(Error::new(ErrorKind::Damaged, "it is damaged"));
        }
        out.clear();
        out.resize(10, at as u8);
        Ok(())
    }

    fn check_rest(&self, _file: &dyn Medium) -> Result<()> {
        Ok(())
    }
}

/// A packed file of such segments, and how often one was unpacked.
fn counted(
    meeting: Option<&'static Barrier>,
    fails: bool,
) -> (PackedMedium<MemoryMedium>, &'static AtomicUsize) {
    let unpacked: &'static AtomicUsize = Box::leak(Box::default());
    let segments = Counted { unpacked, meeting, fails };
    (PackedMedium::new(MemoryMedium::new("none", 0), Box::new(segments)), unpacked)
}

fn read(packed: &PackedMedium<MemoryMedium>, offset: u64) -> u8 {
    let mut byte = [0xa5];
    packed.read_at(&mut byte, offset).unwrap();
    byte[0]
}

#[test]
fn a_segment_that_was_used_lately_is_not_unpacked_again() {
    let (packed, unpacked) = counted(None, false);
    let kept = PackedMedium::<MemoryMedium>::KEPT_SEGMENTS as u64;
    for _ in 0..3 {
        for at in 0..kept {
            assert_eq!(read(&packed, at * 10 + 3), at as u8);
        }
    }
    assert_eq!(unpacked.load(Ordering::SeqCst), kept as usize);
    // The first is used again, so it is the second that has to go.
    for at in [0, kept, 0, 1] {
        assert_eq!(read(&packed, at * 10), at as u8);
    }
    assert_eq!(unpacked.load(Ordering::SeqCst), kept as usize + 2);
}

#[test]
fn whole_segments_are_not_kept() {
    let (packed, unpacked) = counted(None, false);
    let mut part = [0; 32];
    packed.read_at(&mut part, 39).unwrap();
    let expected: Vec<u8> = (39..71).map(|byte| byte / 10).collect();
    assert_eq!(part[..], expected[..]);
    assert_eq!(unpacked.load(Ordering::SeqCst), 5);
    for at in [3, 4, 7] {
        assert_eq!(read(&packed, at * 10), at as u8);
    }
    assert_eq!(unpacked.load(Ordering::SeqCst), 6, "only 3 and 7 were read in part");
    assert_eq!(packed.segment_at(45), 40..50);
}

#[test]
fn readers_of_different_segments_do_not_wait_for_each_other() {
    let meeting: &'static Barrier = Box::leak(Box::new(Barrier::new(2)));
    let (packed, unpacked) = counted(Some(meeting), false);
    std::thread::scope(|scope| {
        scope.spawn(|| assert_eq!(read(&packed, 11), 1));
        scope.spawn(|| assert_eq!(read(&packed, 22), 2));
    });
    assert_eq!(unpacked.load(Ordering::SeqCst), 2);
}

#[test]
fn a_segment_that_could_not_be_unpacked_is_tried_again() {
    let (packed, unpacked) = counted(None, true);
    for _ in 0..2 {
        assert_eq!(packed.read_at(&mut [0], 5).unwrap_err().kind(), ErrorKind::Damaged);
    }
    assert_eq!(unpacked.load(Ordering::SeqCst), 2);
}

#[test]
fn a_packed_file_cannot_be_written() {
    let (packed, _) = counted(None, false);
    let refusals =
        [packed.write_at(b"x", 0), packed.set_len(1), packed.punch(0..1), packed.discard(0..1)];
    for refusal in refusals {
        assert_eq!(refusal.unwrap_err().kind(), ErrorKind::Unsupported);
    }
}
