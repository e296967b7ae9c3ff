//! Reads random MiB out of a partition image by partclone, packed or not, on all cores, and says how long that took.
//!
//! `random_reads IMAGE COUNT` prints the nanoseconds from before the image is opened to the last byte.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use formats::packed::{self, Compression, Opened};
use formats::partclone::PartcloneImage;
use image::{Error, ErrorKind, Image, Result};
use sys::{Access, FileMedium};

const READ_BYTES: usize = 1 << 20;
/// Reads begin at a multiple of this, as those of filesystems do.
const BLOCK_BYTES: u64 = 4096;

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().collect();
    let [_, path, count] = &words[..] else { return Err(wrong("usage: random_reads IMAGE COUNT")) };
    let count: usize = count.parse().map_err(|_| wrong("COUNT should be a number"))?;
    let start = Instant::now();
    let file = FileMedium::open(Path::new(path), Access::Read)?;
    let ending = Path::new(path).extension().unwrap_or_default().to_string_lossy();
    let compression = Compression::by_name(&ending).unwrap_or(Compression::Uncompressed);
    let Opened::Indexed(content) = packed::open(file, compression)? else {
        return Err(wrong("the image has no table of its segments"));
    };
    let image = PartcloneImage::open(content)?;
    let blocks = image.size().saturating_sub(READ_BYTES as u64) / BLOCK_BYTES + 1;
    let mut places = fastrand::Rng::with_seed(1);
    let offsets: Vec<u64> = (0..count).map(|_| places.u64(0..blocks) * BLOCK_BYTES).collect();
    let next = AtomicUsize::new(0);
    let read = || {
        let mut bytes = vec![0; READ_BYTES];
        while let Some(&offset) = offsets.get(next.fetch_add(1, Ordering::Relaxed)) {
            image.read_at(&mut bytes, offset)?;
        }
        Ok(())
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..threads).map(|_| scope.spawn(read)).collect();
        readers.into_iter().try_for_each(|reader| {
            reader.join().unwrap_or_else(|_| Err(wrong("a reader has panicked")))
        })
    })?;
    println!("{}", start.elapsed().as_nanos());
    Ok(())
}

fn wrong(sentence: &str) -> Error {
    Error::new(ErrorKind::Invalid, sentence)
}
