//! How much memory an end takes, whatever the other one says and however large the image is.

use std::fs;
use std::io::{self, Read};
use std::ops::Range;

use formats::raw::RawImage;
use image::{Error, ErrorKind, Extent, Image, ImageMut, MemoryMedium, Result, Task};
use sync::{Hangup, Target, Wire};
use testkit::host::Program;

use super::support::how;

/// What a process may take in all.
const MEMORY_KIB: u64 = 64 << 10;

/// Set in the process whose memory is measured.
const OWN: &str = "BLOCKPRINT_TEST_DISKRSYNC_MEMORY";

/// Calls the test of that name again, in a process whose memory is its own; `true` in that process.
fn in_own_process(test: &str) -> bool {
    if std::env::var_os(OWN).is_some() {
        return true;
    }
    let outcome = Program::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("diskrsync::memory::{test}"), "--test-threads=1"])
        .env(OWN, "yes")
        .run()
        .expect_ok();
    assert!(outcome.stdout.contains("1 passed"), "{outcome}");
    false
}

/// The most memory that this process ever had.
#[track_caller]
fn assert_little_memory() {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(peak < MEMORY_KIB, "{peak} KiB");
}

/// An image that is all zero, and forgets what is written to it.
struct Abyss(RawImage<MemoryMedium>);

impl Abyss {
    fn new(size_bytes: u64) -> Self {
        Abyss(RawImage::create(MemoryMedium::new("memory", 0), size_bytes).unwrap())
    }
}

impl Image for Abyss {
    fn size(&self) -> u64 {
        self.0.size()
    }
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.0.read_at(buf, offset)
    }
    fn extent_at(&self, offset: u64) -> Result<Extent> {
        self.0.extent_at(offset)
    }
}

impl ImageMut for Abyss {
    fn write_at(&self, _: &[u8], _: u64) -> Result<()> {
        Ok(())
    }
    fn zero(&self, _: Range<u64>) -> Result<()> {
        Ok(())
    }
    fn forget(&self, _: Range<u64>) -> Result<()> {
        Ok(())
    }
    fn flush(&self) -> Result<()> {
        Ok(())
    }
    fn resize(&mut self, size_bytes: u64) -> Result<()> {
        self.0.resize(size_bytes)
    }
}

impl Target for Abyss {
    fn size_bytes(&self) -> u64 {
        self.size()
    }
    fn begin(&mut self, _: u64) -> Result<()> {
        Ok(())
    }
    fn image(&self) -> &dyn ImageMut {
        self
    }
    fn resize(&mut self, size_bytes: u64) -> Result<()> {
        ImageMut::resize(self, size_bytes)
    }
    fn finish(&mut self) -> Result<()> {
        panic!("nothing is complete here")
    }
}

/// `head`, and then `byte` for ever.
fn endless(head: Vec<u8>, byte: u8) -> Wire<'static> {
    let input = io::Cursor::new(head).chain(io::repeat(byte));
    Wire { input: Box::new(input), output: Box::new(io::sink()), hangup: Hangup::new() }
}

fn header(size: u64) -> Vec<u8> {
    [&b"BSNC0002"[..], &size.to_le_bytes()].concat()
}

fn target_says(local_bytes: u64, wire: Wire<'_>) -> Error {
    let mut target = Abyss::new(local_bytes);
    sync::diskrsync::target(&mut target, wire, &how(2), &Task::silent()).unwrap_err()
}

#[test]
fn a_source_that_never_ends_takes_no_memory() {
    if !in_own_process("a_source_that_never_ends_takes_no_memory") {
        return;
    }
    const GIB: u64 = 1 << 30;
    let largest = i64::MAX as u64;
    // Blocks of ones, more of them than were announced.
    let error = target_says(0, endless(header(300 << 20), 1));
    assert_eq!(error.kind(), ErrorKind::Damaged, "{error:?}");
    // Another reply than there is; zeroes without a length that could be; leaves that differ, each with its data.
    for (size, byte) in [(largest, 7), (largest, 0), (8 * GIB, 0xFF)] {
        let error = target_says(8 * GIB, endless(header(size), byte));
        assert_eq!(error.kind(), ErrorKind::Damaged, "{error:?}");
    }
    let replies = [&header(largest)[..], &[3; 8]].concat();
    let error = target_says(GIB, endless(replies, 3));
    assert_eq!(error.kind(), ErrorKind::Damaged, "{error:?}");
    assert_little_memory();
}

#[test]
fn a_target_that_never_ends_takes_no_memory_of_the_source_of_three_terabytes() {
    if !in_own_process("a_target_that_never_ends_takes_no_memory_of_the_source_of_three_terabytes")
    {
        return;
    }
    // All leaves are zero in the source, and others in the target. They are too long to be held in memory.
    let image = Abyss::new(3 << 40);
    let wire = endless(header(i64::MAX as u64), 5);
    let report = sync::diskrsync::source(&image, wire, &how(2), &Task::silent()).unwrap();
    assert_eq!(report.zeroed_bytes, 3 << 40);
    assert_little_memory();
}
