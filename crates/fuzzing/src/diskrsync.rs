//! Any bytes as what the other end of diskrsync's protocol sends, beside plain references.

use std::io::{self, Cursor, Write};
use std::ops::Range;
use std::sync::{Arc, Mutex};

use digest::blake2b;
use formats::raw::RawImage;
use image::{Error, ErrorKind, Image, ImageMut, MemoryMedium, Result, Task};
use sync::diskrsync::{How, Shape};
use sync::{Hangup, Target, Wire};

/// The first byte chooses an image, and whether the rest is a stream or what a stream is made by: then each byte but the
/// first is a digest, right if it is even. Our source sends what the reference does, or says what is wrong.
pub fn diskrsync_source(bytes: &[u8]) {
    let Some((&first, rest)) = bytes.split_first() else { return };
    let local = local(first % 16);
    let stream = if first < 128 { rest.to_vec() } else { digests(rest, &local) };
    let image = held(&local);
    let (wire, sent) = wire(&stream);
    let how = How { threads: 1, unchanged: &|| Ok(()) };
    let result = sync::diskrsync::source(&image, wire, &how, &Task::silent());
    match (result, plain_source(&stream, &local)) {
        (Ok(_), Some(expected)) => assert!(*sent.lock().unwrap() == expected, "another stream"),
        (Err(error), None) => assert_is_named(&error),
        (result, expected) => panic!("{result:?}, but a source expects {}", expected.is_some()),
    }
}

/// The first byte chooses an image, the rest is a stream. Our target holds in the end what the reference does, or says
/// what is wrong, and is not finished.
pub fn diskrsync_target(bytes: &[u8]) {
    let Some((&first, stream)) = bytes.split_first() else { return };
    let local = local(first % 16);
    let mut target = HeldTarget { image: held(&local), is_finished: false };
    let (wire, sent) = wire(stream);
    let how = How { threads: 1, unchanged: &|| Ok(()) };
    let result = sync::diskrsync::target(&mut target, wire, &how, &Task::silent());
    let sent = sent.lock().unwrap();
    assert!(sent.len() % 64 == 16 || (sent.is_empty() && result.is_err()), "half a digest");
    match (result, plain_target(stream, &local)) {
        (Ok(report), Some(expected)) => {
            assert!(target.is_finished);
            assert_eq!(target.image.size(), report.source_bytes);
            let mut bytes = vec![0; expected.len()];
            target.image.read_at(&mut bytes, 0).expect("memory can be read");
            assert!(bytes == expected, "another image");
        }
        (Err(error), None) => {
            assert!(!target.is_finished);
            if error.kind() != ErrorKind::TooSmall {
                assert_is_named(&error);
            }
            assert!(target.image.size() <= SIZE_MAX as u64);
        }
        (result, expected) => panic!("{result:?}, but a target expects {}", expected.is_some()),
    }
}

/// The largest source that the target takes.
const SIZE_MAX: usize = 4 << 20;

fn assert_is_named(error: &Error) {
    let kinds = [ErrorKind::Damaged, ErrorKind::Unsupported, ErrorKind::Io];
    assert!(kinds.contains(&error.kind()), "{error:?}");
    assert!(error.location().is_some(), "{error:?}");
}

/// Small images, and some that have inner nodes; with zeroes.
fn local(choice: u8) -> Vec<u8> {
    const SIZES: [usize; 8] = [0, 1, 1000, 131_072, 262_144, 300_007, 524_289, 1_048_576];
    let size = SIZES[usize::from(choice % 8)];
    let filler = choice / 8 * 0x5A;
    (0..size).map(|at| if at / 131_072 % 3 == 1 { 0 } else { filler ^ (at / 3) as u8 }).collect()
}

fn held(bytes: &[u8]) -> RawImage<MemoryMedium> {
    let medium = MemoryMedium::new("memory", 0);
    let image = RawImage::create(medium, bytes.len() as u64).expect("memory takes it");
    if !bytes.is_empty() {
        image.write_at(bytes, 0).expect("memory takes it");
    }
    image
}

struct HeldTarget {
    image: RawImage<MemoryMedium>,
    is_finished: bool,
}

impl Target for HeldTarget {
    fn size_bytes(&self) -> u64 {
        self.image.size()
    }
    fn begin(&mut self, source_bytes: u64) -> Result<()> {
        if source_bytes > SIZE_MAX as u64 {
            return Err(Error::new(ErrorKind::TooSmall, "the target is too small"));
        }
        Ok(())
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

/// A wire on which `stream` comes, and what is sent to it.
fn wire(stream: &[u8]) -> (Wire<'_>, Arc<Mutex<Vec<u8>>>) {
    struct Sink(Arc<Mutex<Vec<u8>>>);
    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let sent = Arc::default();
    let output = Box::new(Sink(Arc::clone(&sent)));
    (Wire { input: Box::new(Cursor::new(stream)), output, hangup: Hangup::new() }, sent)
}

fn header(size: usize) -> Vec<u8> {
    [&b"BSNC0002"[..], &(size as u64).to_le_bytes()].concat()
}

/// Takes the size from the front of `stream`.
fn take_header(stream: &mut &[u8]) -> Option<usize> {
    let head = stream.split_off(..16)?;
    let size = i64::from_le_bytes(head[8..].try_into().ok()?);
    if head[..8] == *b"BSNC0002" { usize::try_from(size).ok() } else { None }
}

/// The tree over the beginning of some bytes, as the protocol has it.
struct Plain {
    shape: Shape,
}

impl Plain {
    fn children(&self, range: &Range<usize>) -> impl Iterator<Item = Range<usize>> + use<> {
        let (Range { start, end }, order) = (range.clone(), self.shape.order as usize);
        let border = move |number| start + (end - start) * number / order;
        (0..order).map(move |number| border(number)..border(number + 1))
    }

    fn is_leaf(&self, level: u32) -> bool {
        level == self.shape.levels
    }

    fn digest(&self, bytes: &[u8], range: Range<usize>, level: u32) -> [u8; 64] {
        if self.is_leaf(level) {
            return blake2b::hash(&bytes[range]);
        }
        let digests: Vec<_> =
            self.children(&range).map(|child| self.digest(bytes, child, level + 1)).collect();
        blake2b::hash(&digests.concat())
    }

    /// What a source answers; `None` if the stream ends before.
    fn answer(
        &self,
        stream: &mut &[u8],
        bytes: &[u8],
        range: Range<usize>,
        level: u32,
        sent: &mut Vec<u8>,
    ) -> Option<()> {
        let digest = stream.split_off(..64)?;
        // Our source keeps the first half of each, which is as good as all of it where nobody makes them up.
        if digest[..32] == self.digest(bytes, range.clone(), level)[..32] {
            sent.push(2);
        } else if !self.is_leaf(level) {
            sent.push(3);
            for child in self.children(&range) {
                self.answer(stream, bytes, child, level + 1, sent)?;
            }
        } else if bytes[range.clone()].iter().all(|&byte| byte == 0) {
            sent.push(0);
        } else {
            sent.push(3);
            sent.extend_from_slice(&bytes[range]);
        }
        Some(())
    }

    /// What a target makes of answers; `None` if they cannot be.
    fn apply(
        &self,
        stream: &mut &[u8],
        bytes: &mut [u8],
        range: Range<usize>,
        level: u32,
    ) -> Option<()> {
        match (stream.split_off_first()?, self.is_leaf(level)) {
            (2, _) => {}
            (3, false) => {
                for child in self.children(&range) {
                    self.apply(stream, bytes, child, level + 1)?;
                }
            }
            (0, true) => bytes[range].fill(0),
            (3, true) => {
                let data = stream.split_off(..range.len())?;
                bytes[range].copy_from_slice(data);
            }
            _ => return None,
        }
        Some(())
    }
}

fn plain_source(mut stream: &[u8], bytes: &[u8]) -> Option<Vec<u8>> {
    let common = take_header(&mut stream)?.min(bytes.len());
    let mut sent = header(bytes.len());
    if common > 0 {
        let plain = Plain { shape: Shape::of(common as u64) };
        plain.answer(&mut stream, bytes, 0..common, 1, &mut sent)?;
    }
    let mut zeroes = 0_u64;
    let say = |sent: &mut Vec<u8>, zeroes: &mut u64| {
        if *zeroes > 0 {
            sent.push(0);
            sent.extend_from_slice(&std::mem::take(zeroes).to_le_bytes());
        }
    };
    for chunk in bytes[common..].chunks(131_072) {
        if chunk.iter().all(|&byte| byte == 0) {
            zeroes += chunk.len() as u64;
        } else {
            say(&mut sent, &mut zeroes);
            sent.push(1);
            sent.extend_from_slice(chunk);
        }
    }
    say(&mut sent, &mut zeroes);
    Some(sent)
}

fn plain_target(mut stream: &[u8], old: &[u8]) -> Option<Vec<u8>> {
    let size = take_header(&mut stream).filter(|&size| size <= SIZE_MAX)?;
    let common = size.min(old.len());
    let mut bytes = old[..common].to_vec();
    if common > 0 {
        let plain = Plain { shape: Shape::of(common as u64) };
        plain.apply(&mut stream, &mut bytes, 0..common, 1)?;
    }
    if size <= old.len() {
        return Some(bytes);
    }
    while let Some(record) = stream.split_off_first() {
        let left = size - bytes.len();
        match record {
            _ if left == 0 => return None,
            1 => bytes.extend_from_slice(stream.split_off(..left.min(131_072))?),
            0 => {
                let len = i64::from_le_bytes(stream.split_off(..8)?.try_into().ok()?);
                let len = usize::try_from(len).ok().filter(|len| (1..=left).contains(len))?;
                bytes.resize(bytes.len() + len, 0);
            }
            _ => return None,
        }
    }
    (bytes.len() == size).then_some(bytes)
}

/// A stream of a target: the first byte chooses its size, each further one whether a digest is right.
fn digests(choices: &[u8], local: &[u8]) -> Vec<u8> {
    fn walk(
        plain: &Plain,
        choices: &mut &[u8],
        local: &[u8],
        range: Range<usize>,
        level: u32,
        stream: &mut Vec<u8>,
    ) {
        let Some(&choice) = choices.split_off_first() else { return };
        if choice % 2 == 0 {
            stream.extend_from_slice(&plain.digest(local, range, level));
            return;
        }
        stream.extend_from_slice(&[choice; 64]);
        if !plain.is_leaf(level) {
            for child in plain.children(&range) {
                walk(plain, choices, local, child, level + 1, stream);
            }
        }
    }
    let Some((&size, mut choices)) = choices.split_first() else { return Vec::new() };
    let size = local.len() * usize::from(size) / 200;
    let common = size.min(local.len());
    let mut stream = header(size);
    if common > 0 {
        let plain = Plain { shape: Shape::of(common as u64) };
        walk(&plain, &mut choices, local, 0..common, 1, &mut stream);
    }
    stream
}
