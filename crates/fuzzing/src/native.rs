//! Any bytes as the other end of the native sync protocol.

use std::io::{self, Read, Write};
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use formats::raw::RawImage;
use image::{Error, ErrorKind, Image, ImageMut, MemoryMedium, Result, Task};
use sync::native::{How, NoBook, Source, source, target};
use sync::{Hangup, Target, Wire};

/// Length of the images, in bytes: three blocks and a bit.
const LEN: usize = 200_000;
/// A larger source than this is refused, in bytes.
const LEN_MAX: u64 = 16 << 20;

/// `bytes` are what a target says to a source: they are no session, or the source has done its work.
pub fn native_source(bytes: &[u8]) {
    let output = Arc::default();
    let wire = Wire {
        input: Box::new(Said {
            bytes: bytes.to_vec(),
            at: 0,
            waits: 0..0,
            output: Arc::clone(&output),
        }),
        output: Box::new(Heard(output)),
        hangup: Hangup::new(),
    };
    if let Ok(report) = run_source(&content(b"source"), wire) {
        assert_eq!(report.source_bytes, LEN as u64);
        assert!(report.root.is_some() || bytes[12] & 2 != 0, "no proof without a dry run");
    }
}

/// `bytes` are what a source says to a target: they are no session, or the target holds what it proved.
pub fn native_target(bytes: &[u8]) {
    let output = Arc::default();
    let wire = Wire {
        input: Box::new(Said {
            bytes: bytes.to_vec(),
            at: 0,
            waits: behind_start(bytes),
            output: Arc::clone(&output),
        }),
        output: Box::new(Heard(output)),
        hangup: Hangup::new(),
    };
    let mut held = Held { image: content(b"target"), is_finished: false };
    let result = run_target(&mut held, wire);
    assert_eq!(result.is_ok(), held.is_finished, "{result:?}");
    if let Ok(report) = result {
        assert_eq!(report.source_bytes, held.image.size());
    }
}

/// What an honest target says to a source, and an honest source to a target: to begin with.
pub fn native_session() -> [Vec<u8>; 2] {
    let (mut here, mut there) = sync::wire::pair(1 << 20);
    let seen = [Arc::<Output>::default(), Arc::default()];
    here.input = Box::new(Overheard(here.input, Arc::clone(&seen[0])));
    there.input = Box::new(Overheard(there.input, Arc::clone(&seen[1])));
    let mut held = Held { image: content(b"target"), is_finished: false };
    thread::scope(|scope| {
        scope.spawn(|| run_source(&content(b"source"), here).expect("the source is honest"));
        run_target(&mut held, there).expect("the target is honest");
    });
    seen.map(|output| output.lock().clone())
}

fn run_source(image: &dyn Image, wire: Wire<'_>) -> Result<sync::native::Report> {
    let what = Source {
        image,
        scope: None,
        expected: None,
        book: &NoBook,
        compress: true,
        dry_run: false,
        threads: 1,
        unchanged: &|| Ok(()),
    };
    source(&what, wire, &Task::silent())
}

fn run_target(held: &mut Held, wire: Wire<'_>) -> Result<sync::native::Report> {
    let how = How { book: &NoBook, compress: true, dry_run: false, threads: 1 };
    target(held, &how, wire, &Task::silent())
}

/// Mostly the same for both ends: one page differs, one block, and one part is zero.
fn content(who: &[u8]) -> RawImage<MemoryMedium> {
    let mut bytes: Vec<u8> = (0..LEN).map(|at| (at / 300) as u8).collect();
    bytes[..who.len()].copy_from_slice(who);
    if who == b"source" {
        bytes[70_000..131_072].fill(0);
    }
    let medium = MemoryMedium::new("memory", LEN as u64);
    let image = RawImage::open(medium).expect("memory can be opened");
    image.write_at(&bytes, 0).expect("memory can be written");
    image
}

struct Held {
    image: RawImage<MemoryMedium>,
    is_finished: bool,
}

impl Target for Held {
    fn size_bytes(&self) -> u64 {
        self.image.size()
    }

    fn begin(&mut self, source_bytes: u64) -> Result<()> {
        match source_bytes <= LEN_MAX {
            true => Ok(()),
            false => Err(Error::new(ErrorKind::TooSmall, "there is not so much room")),
        }
    }

    fn image(&self) -> &dyn ImageMut {
        &self.image
    }

    fn resize(&mut self, size_bytes: u64) -> Result<()> {
        self.image.resize(size_bytes)
    }

    fn finish(&mut self) -> Result<()> {
        self.is_finished = true;
        Ok(())
    }
}

/// What an end has sent.
#[derive(Default)]
struct Output {
    bytes: Mutex<Vec<u8>>,
    more: Condvar,
}

impl Output {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<u8>> {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Says what it was given; from `waits.start` on only once the other end has sent `waits.end` bytes, or does not.
struct Said {
    bytes: Vec<u8>,
    at: usize,
    waits: Range<usize>,
    output: Arc<Output>,
}

impl Read for Said {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut rest = &self.bytes[self.at..];
        if self.at < self.waits.start {
            rest = &self.bytes[self.at..self.waits.start];
        } else if self.at == self.waits.start {
            let enough = self.waits.end;
            let until = Duration::from_millis(20);
            let is_short = |bytes: &mut Vec<u8>| bytes.len() < enough;
            drop(self.output.more.wait_timeout_while(self.output.lock(), until, is_short));
        }
        let len = rest.read(buf)?;
        self.at += len;
        Ok(len)
    }
}

struct Heard(Arc<Output>);

impl Write for Heard {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(buf);
        self.0.more.notify_all();
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Overheard<R>(R, Arc<Output>);

impl<R: Read> Read for Overheard<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let len = self.0.read(buf)?;
        self.1.lock().extend_from_slice(&buf[..len]);
        Ok(len)
    }
}

/// Where the frame START ends in what a source says, and how much a target has said once it told its digest: before that
/// nothing can be said about its region.
fn behind_start(bytes: &[u8]) -> Range<usize> {
    const START: u8 = 0x11;
    const TOLD_BYTES: usize = 32 + (5 + 42) + (5 + 8 + 32);
    let mut at = 32;
    while let Some([kind, a, b, c, d]) = bytes.get(at..).and_then(|rest| rest.first_chunk()) {
        let len = u32::from_le_bytes([*a, *b, *c, *d]) as usize;
        at = at.saturating_add(5).saturating_add(len).min(bytes.len());
        if *kind == START {
            return at..TOLD_BYTES;
        }
    }
    0..0
}
