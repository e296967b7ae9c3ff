//! Chunks that somebody broke, or made to break us: an error that names the file, or the right bytes.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;

use chunks::ChunkId;
use chunks::store::{DEFAULT_LEVEL, Form, Length, LocalOptions, LocalStore, Packer, ReadStore};
use image::ErrorKind;
use testkit::host::{Needs, require};

use crate::support::{as_process, fetch, given, id_of, open, place, plain, quick_folder};

const COMPRESSIONS: [&str; 3] = ["zstd", "xz", "gzip"];

fn compressed(compression: &str, plain: &[u8]) -> Vec<u8> {
    let mut packed = Vec::new();
    match compression {
        "zstd" => {
            let mut packer = Packer::new(Form::Compressed, DEFAULT_LEVEL).unwrap();
            let plain = plain.to_vec();
            packed.extend_from_slice(packer.seal(&id_of(&plain), &plain).unwrap().bytes());
        }
        "xz" => {
            let mut encoder = liblzma::read::XzEncoder::new(plain, 6);
            encoder.read_to_end(&mut packed).unwrap();
        }
        _ => {
            let level = flate2::Compression::default();
            flate2::read::GzEncoder::new(plain, level).read_to_end(&mut packed).unwrap();
        }
    }
    packed
}

/// Puts any bytes where a store keeps a chunk.
fn plant(store: &Path, id: &ChunkId, bytes: &[u8]) {
    let place = place(store, id);
    fs::create_dir_all(place.parent().unwrap()).unwrap();
    fs::write(place, bytes).unwrap();
}

/// True if the chunk comes out as it was, false for an error that names the file.
#[track_caller]
fn is_whole(store: &LocalStore, id: &ChunkId, plain: &[u8], what: &str) -> bool {
    match fetch(store, id, Length::Exactly(plain.len() as u64)).expect("it is there") {
        Ok(chunk) => {
            assert!(chunk.bytes() == plain, "{what}: other bytes are believed");
            true
        }
        Err(error) => {
            let place = place(store.path(), id).display().to_string();
            assert_eq!(error.kind(), ErrorKind::Damaged, "{what}: {error:?}");
            assert_eq!(error.location().unwrap().name, place, "{what}");
            assert!(error.to_string().contains(&place), "{what}: {error}");
            false
        }
    }
}

#[test]
fn each_truncation_of_a_chunk_is_found() {
    let scratch = quick_folder("truncated");
    let (store, plain) = (open(scratch.path()), plain(1, 6000));
    let id = id_of(&plain);
    for compression in COMPRESSIONS {
        let whole = compressed(compression, &plain);
        for len in 0..=whole.len() {
            plant(scratch.path(), &id, &whole[..len]);
            let what = format!("{compression}, {len} of {} bytes", whole.len());
            assert_eq!(is_whole(&store, &id, &plain, &what), len == whole.len(), "{what}");
        }
    }
}

#[test]
fn whatever_is_changed_in_a_chunk_it_is_whole_or_found_to_be_bad() {
    let scratch = quick_folder("mutated");
    let (store, plain) = (open(scratch.path()), plain(2, 6000));
    let id = id_of(&plain);
    for compression in COMPRESSIONS {
        let whole = compressed(compression, &plain);
        for seed in 0..10_000 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut bytes = whole.clone();
            for _ in 0..rng.u8(1..=3) {
                let at = rng.usize(0..bytes.len());
                match rng.u8(0..6) {
                    // What frames say of themselves stands at their ends.
                    0 => bytes[rng.usize(0..20)] = rng.u8(..),
                    1 => {
                        let at = bytes.len() - rng.usize(1..20);
                        bytes[at] ^= 1 << rng.u8(0..8);
                    }
                    2 => bytes[at] ^= 1 << rng.u8(0..8),
                    3 => bytes[at] = rng.u8(..),
                    4 => bytes.insert(at, rng.u8(..)),
                    _ => drop(bytes.remove(at)),
                }
            }
            plant(scratch.path(), &id, &bytes);
            is_whole(&store, &id, &plain, &format!("{compression}, seed {seed}"));
        }
    }
}

/// More memory than this nothing that is broken may take, in bytes.
const MEMORY_BYTES: u64 = 64 << 20;

#[test]
fn a_bomb_takes_no_more_memory_than_the_chunk_that_was_promised() {
    if let Some(folder) = given() {
        return open_bombs(&folder);
    }
    let scratch = quick_folder("bombs");
    let zeroes = vec![0; 128 << 20];
    for compression in COMPRESSIONS {
        plant(scratch.path(), &id_of(compression.as_bytes()), &compressed(compression, &zeroes));
    }
    drop(zeroes);
    plant(scratch.path(), &id_of(b"window"), &frame_with_a_large_window());
    plant(scratch.path(), &id_of(b"dictionary"), &stream_with_a_large_dictionary());
    let test = "store_hostile::a_bomb_takes_no_more_memory_than_the_chunk_that_was_promised";
    let outcome = as_process(test, scratch.path()).run().expect_ok();
    assert!(outcome.stdout.contains("1 passed"), "{outcome}");
}

fn open_bombs(folder: &Path) {
    let store = open(folder);
    let before = memory_bytes("VmRSS:");
    for name in ["zstd", "xz", "gzip", "window", "dictionary"] {
        let error = fetch(&store, &id_of(name.as_bytes()), Length::Exactly(65_536)).unwrap();
        let error = error.expect_err("it is no chunk of 64 KiB");
        assert_eq!(error.kind(), ErrorKind::Damaged, "{name}: {error:?}");
    }
    for seed in 0..2000 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let name = COMPRESSIONS[rng.usize(0..3)];
        let mut packed = store.fetch(&id_of(name.as_bytes())).unwrap().unwrap();
        let head = 24.min(packed.bytes.len());
        packed.bytes.truncate(4096);
        packed.bytes[rng.usize(4..head)] = rng.u8(..);
        let unpacked = chunks::store::Unpacker::default().unpack(packed, Length::Exactly(65_536));
        unpacked.expect_err("it is no chunk of 64 KiB");
    }
    let grown = memory_bytes("VmHWM:").saturating_sub(before);
    assert!(grown < MEMORY_BYTES, "{} MiB were taken", grown >> 20);
}

/// What the system says of this process.
fn memory_bytes(field: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

/// A zstd frame that asks for a window of 2 GiB, and claims to be as long: descriptor, window, length, a raw block.
fn frame_with_a_large_window() -> Vec<u8> {
    let mut frame = vec![0x28, 0xB5, 0x2F, 0xFD, 0b1000_0000, 21 << 3];
    frame.extend_from_slice(&(1_u32 << 31).to_le_bytes());
    frame.extend_from_slice(&[(4 << 3) | 1, 0, 0]);
    frame.extend_from_slice(b"four");
    frame
}

/// An xz stream whose decoder would take 4 GiB.
fn stream_with_a_large_dictionary() -> Vec<u8> {
    let mut stream = compressed("xz", b"few bytes");
    // Behind the head of 12 bytes, the block's: length, flags, filter, length of its properties, dictionary.
    let end = 12 + (usize::from(stream[12]) + 1) * 4;
    assert_eq!(stream[14..16], [0x21, 1], "LZMA2 with one byte of properties");
    stream[16] = 40;
    let mut checksum = flate2::Crc::new();
    checksum.update(&stream[12..end - 4]);
    stream[end - 4..end].copy_from_slice(&checksum.sum().to_le_bytes());
    stream
}

#[test]
fn a_file_larger_than_any_chunk_is_refused_before_it_is_read() {
    let Some(scratch) = require(&Needs::none()) else { return };
    let id = id_of(b"large");
    for form in [Form::Compressed, Form::Plain] {
        plant(scratch.path(), &id, b"");
        let path = match form {
            Form::Compressed => place(scratch.path(), &id),
            Form::Plain => place(scratch.path(), &id).with_extension(""),
        };
        File::create(&path).unwrap().set_len(1 << 40).unwrap();
        let options = LocalOptions { form, ..LocalOptions::default() };
        let store = LocalStore::open(scratch.path(), &options).unwrap();
        let error = store.fetch(&id).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Damaged);
        assert!(error.to_string().contains(&path.display().to_string()), "{error}");
        fs::remove_file(&path).unwrap();
    }
}

#[test]
fn what_is_no_file_is_refused_with_a_clear_sentence() {
    let Some(scratch) = require(&Needs::none().tools(&["mkfifo"])) else { return };
    let (store, id) = (open(scratch.path()), id_of(b"x"));
    plant(scratch.path(), &id, b"x");
    let path = place(scratch.path(), &id);
    let elsewhere = scratch.join("elsewhere");
    fs::rename(&path, &elsewhere).unwrap();
    let refused = |words: &str| {
        let error = store.fetch(&id).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Damaged, "{error:?}");
        let expected = format!("{} is {words}", path.display());
        assert!(error.to_string().starts_with(&expected), "{error}");
        assert!(!store.has(&id).unwrap(), "{words}");
    };
    std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
    refused("a symbolic link");
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    refused("no regular file");
    fs::remove_dir(&path).unwrap();
    testkit::host::run(testkit::host::tool("mkfifo").arg(&path));
    refused("no regular file");
    let mut file = File::create(&elsewhere).unwrap();
    file.write_all(b"it was not touched").unwrap();
}
