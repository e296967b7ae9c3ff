//! What fuzzers call, called with whole files, random bytes, and files that were changed in a few places.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fastrand::Rng;
use formats::packed::Compression;

/// As many calls for each function, or as many as fit into [`TIME`].
const CALLS: u32 = 100_000;
const TIME: Duration = Duration::from_secs(8);

/// Files that casync and desync wrote.
fn vectors(folder: &str) -> Vec<Vec<u8>> {
    files(&format!("chunks/tests/vectors/{folder}"))
}

/// All files below `folder` of the crates, but for those of text.
fn files(folder: &str) -> Vec<Vec<u8>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder);
    let mut folders: Vec<PathBuf> = vec![root];
    let mut found = Vec::new();
    while let Some(next) = folders.pop() {
        let mut paths: Vec<PathBuf> =
            fs::read_dir(next).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        for path in paths {
            let is_text = path.extension().is_some_and(|extension| extension == "json");
            match path.is_dir() {
                true => folders.push(path),
                false if !is_text => found.push(fs::read(path).unwrap()),
                false => {}
            }
        }
    }
    assert!(found.len() > 5, "too few files to begin with in {folder}");
    found
}

/// Changes `bytes` as fuzzers do: bits, numbers that are on an edge, parts that go, come twice, or move.
fn mutate(rng: &mut Rng, bytes: &mut Vec<u8>) {
    const EDGES: [u64; 10] =
        [0, 1, 40, 48, 64, 104, 1 << 27, (1 << 27) + 1, i64::MAX as u64, u64::MAX];
    for _ in 0..rng.usize(1..5) {
        let len = bytes.len();
        let at = rng.usize(0..=len);
        let part = at..(at + rng.usize(0..48)).min(len);
        match rng.u8(0..8) {
            0 | 1 if at < len => bytes[at] ^= 1 << rng.u8(0..8),
            2 if at < len => bytes[at] = rng.u8(..),
            3 | 4 if len >= 8 => {
                let at = if rng.bool() { at & !7 } else { at }.min(len - 8);
                let edge = rng.choice(EDGES).unwrap();
                bytes[at..at + 8].copy_from_slice(&edge.to_le_bytes());
            }
            5 => drop(bytes.drain(part)),
            6 => {
                let twice = bytes[part].to_vec();
                bytes.splice(at..at, twice);
            }
            7 => bytes.truncate(at),
            _ => bytes.push(rng.u8(..)),
        }
    }
}

fn random(rng: &mut Rng, longest: usize) -> Vec<u8> {
    let kinds = rng.u8(1..=255);
    (0..rng.usize(0..longest)).map(|_| rng.u8(0..=kinds)).collect()
}

/// Calls `body` with the seeds as they are, with changed ones, and with random bytes.
fn torment(seeds: &[Vec<u8>], seed: u64, body: fn(&[u8])) {
    let mut rng = Rng::with_seed(seed);
    seeds.iter().for_each(|bytes| body(bytes));
    let start = Instant::now();
    for call in 0..CALLS {
        if call % 64 == 0 && start.elapsed() > TIME {
            break;
        }
        let bytes = if call % 8 == 0 {
            random(&mut rng, 400)
        } else {
            let mut bytes = seeds[rng.usize(0..seeds.len())].clone();
            mutate(&mut rng, &mut bytes);
            bytes
        };
        // So that a panic can be repeated.
        let reported = std::panic::catch_unwind(|| body(&bytes));
        assert!(reported.is_ok(), "call {call} panicked with {bytes:?}");
    }
}

#[test]
fn no_bytes_are_too_hostile_for_an_index() {
    let mut seeds = vectors("index");
    // Short ones are changed where it hurts more often.
    seeds.sort_by_key(Vec::len);
    seeds.retain(|bytes| bytes.len() < 8 << 10);
    torment(&seeds, 1, fuzzing::index);
}

#[test]
fn no_bytes_are_too_hostile_for_a_chunk() {
    let mut seeds = vectors("store");
    seeds.retain(|bytes| bytes.len() < 8 << 10);
    assert!(seeds.len() > 3, "no chunk is small");
    torment(&seeds, 2, fuzzing::chunk);
}

#[test]
fn no_bytes_are_too_hostile_for_the_chunker() {
    let mut rng = Rng::with_seed(3);
    let sizes = [[48, 64, 100], [1, 50, 60], [60, 60, 300], [100, 100, 100], [47, 200, 9000]];
    let mut seeds = Vec::new();
    for (number, sizes) in sizes.into_iter().enumerate() {
        for rule in [0, 1] {
            let mut bytes: Vec<u8> =
                sizes.iter().flat_map(|size: &u16| size.to_le_bytes()).collect();
            bytes.push(rule + 2 * rng.u8(0..120));
            let filler = [0, 0, 255, 7, 1][number];
            bytes.extend((0..600).map(|at| if at % 256 < 90 { filler } else { rng.u8(..) }));
            seeds.push(bytes);
        }
    }
    torment(&seeds, 4, fuzzing::chunker);
}

/// What a peer sends whose image has `size` bytes.
fn greeting(image: u8, size: u64) -> Vec<u8> {
    [&[image][..], b"BSNC0002", &size.to_le_bytes()].concat()
}

#[test]
fn no_bytes_are_too_hostile_for_diskrsyncs_source() {
    let mut seeds: Vec<Vec<u8>> = Vec::new();
    for image in 0..16 {
        seeds.push([&greeting(image, 300_007)[..], &[image; 64 * 7]].concat());
        // Digests that are right or wrong, as the choices of a peer say.
        for choices in [[1, 0, 0, 0, 0, 0, 0], [1, 1, 1, 1, 0, 0, 0], [3; 7]] {
            seeds.push([&[image + 128, 200][..], &choices, &[1; 9]].concat());
            seeds.push([&[image + 128, 131][..], &choices, &[1, 0]].concat());
        }
    }
    torment(&seeds, 5, fuzzing::diskrsync_source);
}

#[test]
fn no_bytes_are_too_hostile_for_diskrsyncs_target() {
    let mut seeds: Vec<Vec<u8>> = Vec::new();
    for image in 0..16 {
        for size in [0, 1000, 300_007, 700_000] {
            let start = greeting(image, size);
            for replies in [&[2][..], &[0], &[3, 0, 0], &[3, 2, 3, 0, 2], &[3, 3, 3, 0, 2, 2]] {
                let hole = |len: u64| [&[0][..], &len.to_le_bytes()].concat();
                seeds.push([&start, replies].concat());
                seeds.push([&start[..], replies, &hole(size)].concat());
                seeds.push([&start[..], replies, &hole(131_072), &[1, 5, 6]].concat());
                seeds.push([&start[..], replies, &[9; 999]].concat());
            }
        }
    }
    // Whole data, which is a little more than there may be.
    seeds.push([&greeting(2, 1500)[..], &[2, 1], &[7; 500]].concat());
    seeds.push([&greeting(2, 1000)[..], &[3], &[7; 1000]].concat());
    torment(&seeds, 6, fuzzing::diskrsync_target);
}

#[test]
fn no_bytes_are_too_hostile_for_spgz() {
    let mut seeds = files("formats/tests/vectors/spgz");
    seeds.retain(|bytes| bytes.len() < 30_000);
    assert!(seeds.len() > 20, "no container is small");
    torment(&seeds, 7, fuzzing::spgz);
}

#[test]
fn no_bytes_are_too_hostile_for_a_partition_image() {
    torment(&fuzzing::partition_images(), 10, fuzzing::partclone);
}

#[test]
fn no_bytes_are_too_hostile_for_a_partition_table() {
    torment(&fuzzing::partitioned_disks(), 9, fuzzing::table);
}

#[test]
fn no_bytes_are_too_hostile_for_either_end_of_the_native_sync_protocol() {
    let [from_target, from_source] = fuzzing::native_session();
    torment(&[from_target], 7, fuzzing::native_source);
    torment(&[from_source], 8, fuzzing::native_target);
}

/// `content`, packed in segments of 300 bytes.
fn packed(compression: Compression, content: &[u8]) -> Vec<u8> {
    let packing = compression.packing(None);
    let (mut packer, mut file) = (packing.packer(), packing.head());
    let segments = content.chunks(300);
    let entries: Vec<_> =
        segments.map(|segment| packer.pack(segment, &mut file).unwrap()).collect();
    file.extend(packing.tail(&entries));
    file
}

#[test]
fn no_bytes_are_too_hostile_for_gz_zst_and_lz4() {
    let mut rng = Rng::with_seed(9);
    let content: Vec<u8> = (0..1000).map(|at| if at % 9 < 5 { 7 } else { rng.u8(..) }).collect();
    for (compression, body, others) in [
        (Compression::Gz, fuzzing::gz as fn(&[u8]), &BY_GZIP[..]),
        (Compression::Zst, fuzzing::zst, &BY_ZSTD),
        (Compression::Lz4, fuzzing::lz4, &BY_LZ4),
    ] {
        let ours = packed(compression, &content);
        let mut seeds = vec![packed(compression, b""), ours.clone()];
        seeds.extend(others.iter().map(|file| file.to_vec()));
        // Two files of another, and one behind ours without its table.
        seeds.push([others[0], others[1]].concat());
        let table = ours.windows(8).position(|bytes| bytes == b"BPSEGTAB").unwrap();
        seeds.push([&ours[..table - 8], others[0]].concat());
        torment(&seeds, 10, body);
    }
}

/// By `gzip` and by zlib: with codes that need not be told, with codes of its own, as it is.
const BY_GZIP: [&[u8]; 4] = [
    b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03+\xce\xcfMU(\xcf/J)\xd6QH\xccKQ(F\xe3\xe7\xe6\
      \x17\xa5\xa2\x8b\x0d\x055\x00\x08.\x9c\x91\xd8\x00\x00\x00",
    b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x04\x03*\xce\xcfMU(\xcf/J)\xd6QH\xccKQ(F\xe3\xe7\xe6\
      \x17\xa5\xa2\x8b\x91\xaa\x06\x00\x00\x00\xff\xff\x1b\x085\x00\x08.\x9c\x91\xd8\x00\x00\
      \x00",
    b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03K\xcc\xcc(M*IK+I*\xcd\xc8LLO\xc9/\xcc*\xccOIO\
      \x1c\x15\x1e\x15\x1e\x15\xa6\x8f0\x00\x0a)7n\x84\x03\x00\x00",
    b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x04\x03\x01P\x00\xaf\xffsome\x20words,\x20and\x20some\
      \x20words,\x20and\x20moresome\x20words,\x20and\x20some\x20words,\x20and\x20moresome\x20w\
      or\xaa\x8f}wP\x00\x00\x00",
];

/// Six times the same line, by `zstd FILE` and by `zstd <FILE`.
const BY_ZSTD: [&[u8]; 2] = [
    b"(\xb5/\xfddJ\x005\x01\x00\x98some words, andmor:\x06\x00\x06Z)h\x81@T\xbc8\xdd\x98\
      \x89\x8ds%\x09\xfe\x02g^",
    b"(\xb5/\xfd\x04X5\x01\x00\x98some words, andmor:\x06\x00\x06Z)h\x81@T\xbc8\xdd\x98\
      \x89\x8ds%\x09\xfe\x02g^",
];

/// The same, by `lz4 -BD -BX --content-size -B4` and by `lz4 -l`.
const BY_LZ4: [&[u8]; 2] = [
    b"\x04\x22M\x18|@J\x01\x00\x00\x00\x00\x00\x00\x8c2\x00\x00\x00\xc8some words, \x0c\
      \x002and\x10\x003mor!\x00\x12:\x11\x00\x01-\x00\x08+\x00\x08\x0c\x00\x0f7\x00\xe3Pwo\
      rds\xab8\xba'\x00\x00\x00\x00.;D\x84",
    b"\x02!L\x182\x00\x00\x00\xc8some words, \x0c\x002and\x10\x003mor!\x00\x12:\x11\x00\
      \x01-\x00\x08+\x00\x08\x0c\x00\x0f7\x00\xe3Pwords",
];
