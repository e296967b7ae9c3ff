//! Content, packed files in memory, and how they are read.

use std::fs;
use std::path::Path;

use formats::packed::{self, Compression, Opened, PackedMedium};
use image::{ErrorKind, Medium, MemoryMedium, Result, Task};
use testkit::host;

/// Bytes as disks have them: words that come again, zeroes, and some that cannot be packed.
pub(crate) fn content(len: usize, seed: u64) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut bytes = Vec::with_capacity(len + 4096);
    while bytes.len() < len {
        match rng.u8(0..4) {
            0 => bytes.resize(bytes.len() + rng.usize(1..2000), 0),
            1 => bytes.extend((0..rng.usize(1..900)).map(|_| rng.u8(..))),
            _ => {
                for _ in 0..rng.usize(1..200) {
                    let word = rng.u16(0..3000);
                    bytes.extend(format!("word {word}; ").bytes());
                }
            }
        }
    }
    bytes.truncate(len);
    bytes
}

/// `content`, packed in segments of `segment_bytes`.
pub(crate) fn pack(
    compression: Compression,
    level: Option<i32>,
    content: &[u8],
    segment_bytes: usize,
) -> Vec<u8> {
    let packing = compression.packing(level);
    let mut packer = packing.packer();
    let mut file = packing.head();
    let segments = content.chunks(segment_bytes);
    let entries: Vec<_> =
        segments.map(|segment| packer.pack(segment, &mut file).unwrap()).collect();
    file.extend(packing.tail(&entries));
    file
}

pub(crate) fn medium(bytes: &[u8]) -> MemoryMedium {
    let medium = MemoryMedium::new("packed", 0);
    medium.write_at(bytes, 0).unwrap();
    medium
}

/// Opens a file that has a table.
#[track_caller]
pub(crate) fn indexed(bytes: &[u8], compression: Compression) -> PackedMedium<MemoryMedium> {
    match packed::open(medium(bytes), compression).unwrap() {
        Opened::Indexed(packed) => packed,
        Opened::Unindexed(_) => panic!("it has no table"),
    }
}

/// Opens a file that has none, by what is kept of it, and again by that.
#[track_caller]
pub(crate) fn reindexed(bytes: &[u8], compression: Compression) -> PackedMedium<MemoryMedium> {
    let Opened::Unindexed(file) = packed::open(medium(bytes), compression).unwrap() else {
        panic!("it has a table")
    };
    let kept = std::sync::Arc::new(MemoryMedium::new("kept", 0));
    let kept_box = || Box::new(std::sync::Arc::clone(&kept));
    let made = packed::index(file, compression, kept_box(), &Task::silent()).unwrap();
    let again = packed::open_kept(medium(bytes), compression, kept_box()).unwrap();
    assert!(all(&made).unwrap() == all(&again).unwrap());
    again.check_rest().unwrap();
    again
}

/// All of it, read at once.
pub(crate) fn all<M: Medium>(packed: &PackedMedium<M>) -> Result<Vec<u8>> {
    let mut bytes = vec![0xa5; packed.len()? as usize];
    packed.read_at(&mut bytes, 0)?;
    Ok(bytes)
}

/// All of it, from front to back, in pieces of `piece_bytes`.
pub(crate) fn unpacked(
    bytes: &[u8],
    compression: Compression,
    piece_bytes: usize,
) -> Result<Vec<u8>> {
    let file = medium(bytes);
    let mut unpack = packed::unpack(&file, compression)?;
    let mut content = Vec::new();
    let mut piece = vec![0xa5; piece_bytes];
    let mut position = 0;
    loop {
        let len = unpack.read(&mut piece)?;
        content.extend_from_slice(&piece[..len]);
        assert!(position <= unpack.packed_position(), "it goes backwards");
        position = unpack.packed_position();
        if len < piece_bytes {
            assert_eq!(position, bytes.len() as u64, "it ends before the file does");
            return Ok(content);
        }
    }
}

/// What a verification does: every byte of the file has a part in it.
pub(crate) fn verify(bytes: &[u8], compression: Compression) -> Result<Vec<u8>> {
    match packed::open(medium(bytes), compression)? {
        Opened::Indexed(packed) => {
            let content = all(&packed)?;
            packed.check_rest()?;
            Ok(content)
        }
        Opened::Unindexed(_) => unpacked(bytes, compression, 1 << 16),
    }
}

/// That `content` comes back from `file`, in whatever way it is read.
#[track_caller]
pub(crate) fn assert_reads(packed: &PackedMedium<MemoryMedium>, content: &[u8]) {
    assert!(all(packed).unwrap() == content);
    packed.check_rest().unwrap();
    let mut rng = fastrand::Rng::with_seed(5);
    for _ in 0..40 {
        let offset = rng.usize(0..content.len());
        let len = rng.usize(0..=(content.len() - offset).min(300_000));
        let mut part = vec![0xa5; len];
        packed.read_at(&mut part, offset as u64).unwrap();
        assert!(part == content[offset..offset + len], "{len} bytes at {offset}");
    }
    let error = packed.read_at(&mut [0; 2], content.len() as u64 - 1).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Changed);
}

/// Standard output of a shell command in `folder`, as bytes.
#[track_caller]
pub(crate) fn shell(folder: &Path, command: &str) -> Vec<u8> {
    let output = folder.join("output");
    let script = format!("({command}) > output");
    host::run(host::tool("bash").args(["-ec", &script]).current_dir(folder));
    fs::read(output).unwrap()
}
