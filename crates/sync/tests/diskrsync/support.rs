//! Images made by rules, a target in memory, and streams that come and go in odd pieces.

use std::fs;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use formats::raw::RawImage;
use image::{Error, Image, ImageMut, MemoryMedium, Result, Task};
use serde_json::Value;
use sync::diskrsync::{How, Report};
use sync::{Hangup, Target, Wire};

pub(super) fn vector(name: &str) -> Vec<u8> {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/diskrsync"));
    fs::read(folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

pub(super) fn json(name: &str) -> Value {
    serde_json::from_slice(&vector(name)).unwrap()
}

/// A raw image in memory.
pub(super) type Held = RawImage<MemoryMedium>;

/// An image of those bytes; blocks that are zero take no memory.
pub(super) fn held(bytes: &[u8]) -> Held {
    let image = RawImage::create(MemoryMedium::new("memory", 0), bytes.len() as u64).unwrap();
    for (number, part) in bytes.chunks(4096).enumerate() {
        if part.iter().any(|&byte| byte != 0) {
            image.write_at(part, number as u64 * 4096).unwrap();
        }
    }
    image
}

/// All of an image.
pub(super) fn content(image: &dyn Image) -> Vec<u8> {
    let mut bytes = vec![0; image.size() as usize];
    if !bytes.is_empty() {
        image.read_at(&mut bytes, 0).unwrap();
    }
    bytes
}

/// The image of a rule of `cases.json`.
pub(super) fn image_of_rule(rule: &Value) -> Held {
    let size = rule["size"].as_u64().unwrap();
    let image = RawImage::create(MemoryMedium::new("memory", 0), size).unwrap();
    for part in rule["parts"].as_array().unwrap() {
        let number = |at: usize| part[at].as_u64().unwrap();
        let bytes = generate(part[2].as_str().unwrap(), number(3), number(1) as usize);
        image.write_at(&bytes, number(0)).unwrap();
    }
    image
}

/// The generators of the vectors' README.
pub(super) fn generate(kind: &str, seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len + 32);
    let mut step = 0_u64;
    let mut state = seed;
    while bytes.len() < len {
        match kind {
            "zero" => bytes.push(0),
            "const" => bytes.push(seed as u8),
            "quad" => {
                let square = step.wrapping_mul(step).wrapping_mul(31);
                bytes.push((square.wrapping_add(seed) >> 3) as u8);
            }
            "split" => {
                state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
                let mut word = state;
                word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
                word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
                bytes.extend_from_slice(&(word ^ (word >> 31)).to_le_bytes());
            }
            "text" => {
                let line = format!("line {} of {seed}\n", seed + step);
                bytes.extend_from_slice(line.as_bytes());
            }
            _ => panic!("no generator is called {kind}"),
        }
        step += 1;
    }
    bytes.truncate(len);
    bytes
}

/// A target in memory, which notes what it is told.
pub(super) struct HeldTarget<I> {
    pub(super) image: I,
    pub(super) begun: Option<u64>,
    pub(super) is_finished: bool,
    /// A device keeps its size, and refuses a source that is larger.
    pub(super) is_device: bool,
}

impl<I: ImageMut> HeldTarget<I> {
    pub(super) fn new(image: I) -> Self {
        HeldTarget { image, begun: None, is_finished: false, is_device: false }
    }
}

impl<I: ImageMut> Target for HeldTarget<I> {
    fn size_bytes(&self) -> u64 {
        self.image.size()
    }

    fn begin(&mut self, source_bytes: u64) -> Result<()> {
        assert!(self.begun.is_none(), "begun twice");
        if self.is_device && source_bytes > self.image.size() {
            return Err(Error::new(image::ErrorKind::TooSmall, "the device is too small"));
        }
        self.begun = Some(source_bytes);
        Ok(())
    }

    fn image(&self) -> &dyn ImageMut {
        assert!(self.begun.is_some(), "used before it was begun");
        &self.image
    }

    fn resize(&mut self, size_bytes: u64) -> Result<()> {
        assert!(self.begun.is_some(), "used before it was begun");
        if self.is_device { Ok(()) } else { self.image.resize(size_bytes) }
    }

    fn finish(&mut self) -> Result<()> {
        assert!(!self.is_finished, "finished twice");
        self.is_finished = true;
        Ok(())
    }
}

/// How bytes are cut on their way.
#[derive(Clone, Copy, Debug)]
pub(super) enum Cut {
    /// As they come.
    Whole,
    /// One at once.
    Single,
    /// 1 to 700, in a fixed order.
    Odd,
}

/// Gives `bytes` in pieces, then the end.
struct Pieces {
    bytes: io::Cursor<Vec<u8>>,
    cut: Cut,
    step: usize,
}

impl Read for Pieces {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.step += 1;
        let most = match self.cut {
            Cut::Whole => usize::MAX,
            Cut::Single => 1,
            Cut::Odd => self.step * 37 % 700 + 1,
        };
        let len = buf.len().min(most);
        self.bytes.read(&mut buf[..len])
    }
}

/// Keeps what is written.
#[derive(Clone, Default)]
pub(super) struct Sink(pub(super) Arc<Mutex<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(buf);
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A wire on which all of `bytes` comes at once, and what is sent to it.
pub(super) fn recorded(bytes: &[u8], cut: Cut) -> (Wire<'static>, Sink) {
    let sink = Sink::default();
    let pieces = Pieces { bytes: io::Cursor::new(bytes.to_vec()), cut, step: 0 };
    let wire =
        Wire { input: Box::new(pieces), output: Box::new(sink.clone()), hangup: Hangup::new() };
    (wire, sink)
}

/// Whoever asks is told that nobody has written to the source.
pub(super) fn how(threads: usize) -> How<'static> {
    How { threads, unchanged: &|| Ok(()) }
}

/// Our source against a stream: what it did, and what it sent.
pub(super) fn replay_source(
    image: &dyn Image,
    bytes: &[u8],
    cut: Cut,
    threads: usize,
) -> (Result<Report>, Vec<u8>) {
    let (wire, sink) = recorded(bytes, cut);
    let result = sync::diskrsync::source(image, wire, &how(threads), &Task::silent());
    let sent = std::mem::take(&mut *sink.0.lock().unwrap());
    (result, sent)
}

/// Our target against a stream: what it did, and what it sent.
pub(super) fn replay_target(
    target: &mut dyn Target,
    bytes: &[u8],
    cut: Cut,
    threads: usize,
) -> (Result<Report>, Vec<u8>) {
    let (wire, sink) = recorded(bytes, cut);
    let result = sync::diskrsync::target(target, wire, &how(threads), &Task::silent());
    let sent = std::mem::take(&mut *sink.0.lock().unwrap());
    (result, sent)
}
