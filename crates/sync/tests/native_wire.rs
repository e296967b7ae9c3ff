//! What the native protocol costs on the wire: round trips and bytes.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use formats::raw::RawImage;
use image::MemoryMedium;
use sync::native::Report;
use sync::{Hangup, Wire};

use super::native_support::{Ends, MemoryTarget, memory, random_bytes};

/// One direction: what is written can be read `delay` later; as wide as it has to be.
struct LateReader {
    came: Receiver<(Instant, Vec<u8>)>,
    rest: Vec<u8>,
    at: usize,
}

struct LateWriter {
    goes: Sender<(Instant, Vec<u8>)>,
    delay: Duration,
    bytes: Arc<AtomicU64>,
}

impl Read for LateReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.at == self.rest.len() {
            let Ok((when, bytes)) = self.came.recv() else { return Ok(0) };
            thread::sleep(when.saturating_duration_since(Instant::now()));
            (self.rest, self.at) = (bytes, 0);
        }
        let len = (&self.rest[self.at..]).read(buf)?;
        self.at += len;
        Ok(len)
    }
}

impl Write for LateWriter {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.bytes.fetch_add(buf.len() as u64, Ordering::Relaxed);
        let when = Instant::now() + self.delay;
        self.goes.send((when, buf.to_vec())).map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Both ends of a connection that takes `delay` in each direction, and counts its bytes.
fn late_pair(delay: Duration, bytes: &Arc<AtomicU64>) -> (Wire<'static>, Wire<'static>) {
    let ((one, two), (three, four)) = (channel(), channel());
    let end = |goes, came| Wire {
        input: Box::new(LateReader { came, rest: Vec::new(), at: 0 }),
        output: Box::new(LateWriter { goes, delay, bytes: Arc::clone(bytes) }),
        hangup: Hangup::new(),
    };
    (end(one, four), end(three, two))
}

/// How long it takes, and how many bytes.
fn measured(new: &RawImage<MemoryMedium>, old: &[u8], delay: Duration) -> (Duration, u64, Report) {
    let mut target = MemoryTarget::of(old);
    let bytes = Arc::default();
    let start = Instant::now();
    let wires = late_pair(delay, &bytes);
    let (source, there) = Ends::default().run_over(new, &mut target, wires);
    there.unwrap();
    (start.elapsed(), bytes.load(Ordering::Relaxed), source.unwrap())
}

const BLOCK: usize = 128 << 10;

/// 64 MiB in which 1 % of the blocks changed, to noise or to something that packs well.
fn images(rng: &mut Rng, is_noise: bool) -> (Vec<u8>, Vec<u8>, u64) {
    let old = random_bytes(rng, 64 << 20);
    let mut new = old.clone();
    let mut packed_bytes = 0;
    for _ in 0..(new.len() / BLOCK).div_ceil(100) {
        let at = rng.usize(0..new.len() / BLOCK) * BLOCK;
        let block = &mut new[at..at + BLOCK];
        match is_noise {
            true => rng.fill(block),
            false => block.iter_mut().enumerate().for_each(|(at, byte)| {
                *byte = b"a disk is full of words like these "[at % 35] ^ (at / 900) as u8;
            }),
        }
        let mut packed = vec![0; zstd_safe::compress_bound(block.len())];
        packed_bytes += zstd_safe::compress(&mut packed[..], block, 1).unwrap() as u64;
    }
    (old, new, packed_bytes)
}

#[test]
fn the_wire_carries_what_changed_and_little_more() {
    let mut rng = Rng::with_seed(30);
    for is_noise in [true, false] {
        let (old, new, packed_bytes) = images(&mut rng, is_noise);
        let (_, bytes, report) = measured(&memory(&new), &old, Duration::ZERO);
        let allowed = packed_bytes * 11 / 10 + 64 * 64;
        assert!(bytes <= allowed, "{bytes} bytes on the wire, {allowed} allowed: {report:?}");
    }
    // Nothing changed: a digest for each region, and some words.
    let old = random_bytes(&mut rng, 64 << 20);
    let (_, bytes, _) = measured(&memory(&old), &old, Duration::ZERO);
    assert!(bytes <= 64 * 32 + 1024, "{bytes} bytes");
    // Nothing is there on either side: only some words.
    let (_, bytes, _) = measured(&memory(&vec![0; 64 << 20]), &[], Duration::ZERO);
    assert!(bytes <= 512, "{bytes} bytes");
}

#[test]
fn round_trips_do_not_depend_on_how_much_differs() {
    let mut rng = Rng::with_seed(31);
    let delay = Duration::from_millis(50);
    let (old, new, _) = images(&mut rng, true);
    let all_changed: Vec<u8> = old.iter().map(|byte| byte ^ 0x55).collect();
    for new in [&new, &all_changed] {
        let new = memory(new);
        // The machine may be busy with something else for a while: the best of a few counts.
        let runs = |delay| (0..3).map(|_| measured(&new, &old, delay).0).min().unwrap();
        let (at_once, late) = (runs(Duration::ZERO), runs(delay));
        let more = late.saturating_sub(at_once);
        assert!(more <= 12 * 2 * delay, "{at_once:?} without delay, {late:?} with it");
    }
}
