//! Images of partitions, and sets of disks, in which numbers lie: the program says what is wrong, stays small, and has
//! written nothing.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use testkit::host::{
    LoopDevice, Needs, Outcome, Program, TempDir, partition_image, require, run, tool,
};

use crate::backup::{attach, backed_up};
use crate::support::{MIB, Part, allocated, blockprint, make, names};
use crate::sync_hostile::watch;

/// No call may hold more.
const MEMORY_MAX_KIB: u64 = 128 << 10;

const UNSUPPORTED: i32 = 16;
const DAMAGED: i32 = 18;

/// A folder, and an empty device that every image would fit on.
struct Stage {
    scratch: TempDir,
    space: PathBuf,
    target: LoopDevice,
}

impl Stage {
    fn new(tools: &[&'static str]) -> Option<Self> {
        let needs = Needs::root().tools(&["blkid", "gzip", "zstd", "lz4"]).tools(tools);
        let scratch = require(&needs)?;
        let space = scratch.join("space");
        File::create(&space).unwrap().set_len(1 << 40).unwrap();
        Some(Stage { target: attach(&space), scratch, space })
    }

    /// A file with the name of an image.
    fn image(&self, variant: &str, compression: &str, bytes: &[u8]) -> PathBuf {
        let path = self.scratch.join(format!("lie-2026-03-04T0506.apt.{variant}.{compression}"));
        fs::write(&path, bytes).unwrap();
        path
    }

    fn verify(&self, image: &Path) -> Program {
        blockprint(&self.scratch).args(["--threads", "2", "verify"]).arg(image)
    }

    fn restore(&self, image: &Path) -> Program {
        let restore = blockprint(&self.scratch).args(["--threads", "2", "restore", "--yes"]);
        restore.arg(image).arg(self.target.path())
    }

    /// Neither is done, for the same reason, and nothing was written.
    #[track_caller]
    fn assert_refused(&self, image: &Path, what: &str, codes: &[i32], said: &str) {
        self.assert_found_out(image, what, codes, said);
        assert_eq!(allocated(&self.space), 0, "{what}: something was written");
    }

    /// Neither is done, for the same reason.
    #[track_caller]
    fn assert_found_out(&self, image: &Path, what: &str, codes: &[i32], said: &str) {
        for call in [self.verify(image), self.restore(image)] {
            let ended = small(call, what);
            let is_expected = ended.status.code().is_some_and(|code| codes.contains(&code));
            assert!(is_expected && ended.stderr.contains(said), "{what}: {said:?}\n{ended}");
        }
        // What only looks at it may find nothing wrong, but is never worse off.
        let info = small(blockprint(&self.scratch).arg("info").arg(image), what);
        assert!(matches!(info.status.code(), Some(0 | 10..=20)), "{what}: {info}");
    }
}

/// Runs it to its end, which is one that it chose, and looks at how much memory it held.
#[track_caller]
fn small(call: Program, what: &str) -> Outcome {
    let running = call.spawn();
    let (pid, is_over) = (running.pid(), AtomicBool::new(false));
    let (outcome, peak_kib) = thread::scope(|scope| {
        let watching = scope.spawn(|| watch(pid, &is_over));
        let outcome = running.wait();
        is_over.store(true, Ordering::Relaxed);
        (outcome, watching.join().unwrap())
    });
    assert!(peak_kib < MEMORY_MAX_KIB, "{what}: {peak_kib} KiB\n{outcome}");
    assert!(!outcome.stderr.contains("panicked"), "{what}: {outcome}");
    outcome
}

/// What the header of an image says.
#[derive(Clone, Copy)]
struct Numbers {
    device_bytes: u64,
    total_blocks: u64,
    used_blocks: u64,
    block_bytes: u32,
    blocks_per_checksum: u32,
}

/// Those of an image that is right, but for the checksum behind its blocks.
const HONEST: Numbers = Numbers {
    device_bytes: MIB,
    total_blocks: 256,
    used_blocks: 8,
    block_bytes: 4096,
    blocks_per_checksum: 256,
};

impl Numbers {
    /// A header of version 2 with the right checksum.
    fn header(self) -> Vec<u8> {
        let mut bytes = b"partclone-image\x000.3.23\0\0\0\0\0\0\0\x000002\xde\xc0EXTFS".to_vec();
        bytes.resize(52, 0);
        for number in [self.device_bytes, self.total_blocks, self.used_blocks, self.used_blocks] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend(self.block_bytes.to_le_bytes());
        bytes.extend(b"\x12\0\0\0\x02\0\x40\0\x20\0\x04\0");
        bytes.extend(self.blocks_per_checksum.to_le_bytes());
        bytes.extend([1, 1]);
        sealed(bytes)
    }

    /// An image with a map of `map_bytes` whose first eight blocks are used, and as many blocks of zeroes with a wrong
    /// checksum.
    fn image(self, map_bytes: usize) -> Vec<u8> {
        let mut map = vec![0; map_bytes];
        map[0] = 0xff;
        [self.header(), sealed(map), vec![0; 8 * 4096 + 4]].concat()
    }
}

/// `bytes`, and behind them their checksum as partclone has it.
fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let crc = !crc32(&bytes);
    bytes.extend(crc.to_le_bytes());
    bytes
}

/// The checksum of IEEE 802.3.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
    !bytes
        .iter()
        .fold(u32::MAX, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), |crc, _| step(crc)))
}

/// A header of version 1 that counts 2⁶⁰ blocks: it has no checksum.
fn first_version() -> Vec<u8> {
    let mut bytes = b"partclone-imageEXTFS".to_vec();
    bytes.resize(30, 0);
    bytes.extend(b"0001\0\0\0\x10\0\0");
    for number in [1_u64 << 62, 1 << 60, 1 << 60] {
        bytes.extend(number.to_le_bytes());
    }
    bytes.resize(4160 + 10_000, 1);
    bytes
}

/// Has the compression's own tool pack what `script` writes.
#[track_caller]
fn pack(script: &str, program: &str, image: &Path) {
    let line = format!("{{ {script}; }} | {program} > \"$0\"");
    run(tool("sh").args(["-c", &line]).arg(image));
}

const PACKERS: [(&str, &str); 4] =
    [("gz", "gzip -1"), ("zst", "zstd -q"), ("lz4", "lz4 -q"), ("uncompressed", "cat")];

#[test]
fn a_header_that_lies_is_refused_before_anything_is_done() {
    let Some(stage) = Stage::new(&[]) else { return };
    let honest = HONEST;
    let huge = Numbers { device_bytes: 1 << 47, total_blocks: 1 << 35, ..honest };
    let groups =
        Numbers { device_bytes: 1 << 34, total_blocks: 256, block_bytes: 64 << 20, ..honest };
    let lies: Vec<(&str, Vec<u8>, &str)> = vec![
        ("no lie but for a checksum", honest.image(32), "checksum"),
        (
            "2^60 blocks",
            Numbers { device_bytes: i64::MAX as u64, total_blocks: 1 << 60, ..honest }.image(32),
            "a map of 1152921504606846976 blocks",
        ),
        (
            "as many blocks as can be said",
            Numbers { device_bytes: u64::MAX, total_blocks: u64::MAX, ..honest }.image(32),
            "a map of 18446744073709551615 blocks",
        ),
        (
            "a device of -1 bytes",
            Numbers { device_bytes: u64::MAX, ..honest }.image(32),
            "do not fit",
        ),
        ("a device of no bytes", Numbers { device_bytes: 0, ..honest }.image(32), "do not fit"),
        ("blocks of 0 bytes", Numbers { block_bytes: 0, ..honest }.image(32), "have 0 bytes"),
        ("blocks of 1 byte", Numbers { block_bytes: 1, ..honest }.image(32), "have 1 bytes"),
        ("odd blocks", Numbers { block_bytes: 4097, ..honest }.image(32), "have 4097 bytes"),
        ("blocks of 2 GiB", Numbers { block_bytes: 1 << 31, ..honest }.image(32), "2147483648"),
        (
            "more used than there are",
            Numbers { used_blocks: 257, ..honest }.image(32),
            "257 of 256",
        ),
        ("all used", Numbers { used_blocks: u64::MAX, ..honest }.image(32), "of 256"),
        ("fewer used than the map has", Numbers { used_blocks: 7, ..honest }.image(32), "it has 8"),
        (
            "no blocks to a checksum",
            Numbers { blocks_per_checksum: 0, ..honest }.image(32),
            "0 blocks",
        ),
        (
            "all blocks to a checksum",
            Numbers { blocks_per_checksum: u32::MAX, used_blocks: 8, ..groups }.image(32),
            "",
        ),
        ("a map that is not there", [huge.header(), vec![0; 9000]].concat(), ""),
        ("2^60 blocks of version 1", first_version(), "1152921504606846976 blocks"),
    ];
    for (what, bytes, said) in lies {
        let plain = stage.scratch.join("plain");
        fs::write(&plain, bytes).unwrap();
        for (compression, program) in PACKERS {
            let image = stage.image("ext4", compression, b"");
            pack(&format!("cat {}", plain.display()), program, &image);
            let what = format!("{what}, {compression}");
            // What is too large for the device need not be looked at.
            let codes = if said.is_empty() { [14, DAMAGED] } else { [UNSUPPORTED, DAMAGED] };
            stage.assert_refused(&image, &what, &codes, said);
        }
    }
}

#[test]
fn what_unpacks_to_much_more_than_it_is_takes_no_memory() {
    let Some(stage) = Stage::new(&[]) else { return };
    // Blocks as long as they may be, all of them zero; the checksum behind the first is wrong.
    let blocks = Numbers {
        device_bytes: 1 << 34,
        total_blocks: 256,
        used_blocks: 8,
        block_bytes: 64 << 20,
        blocks_per_checksum: 1,
    };
    let plain = stage.scratch.join("plain");
    fs::write(&plain, &blocks.image(32)[..110 + 36]).unwrap();
    let bomb = format!("cat {}; head -c 160M /dev/zero", plain.display());
    for (compression, program) in &PACKERS[..3] {
        let image = stage.image("ext4", compression, b"");
        pack(&bomb, program, &image);
        stage.assert_found_out(&image, compression, &[DAMAGED], "checksum");
        // Bytes of no filesystem may be as many as they are.
        let raw = stage.image("dd", compression, b"");
        pack("head -c 160M /dev/zero", program, &raw);
        small(stage.verify(&raw), compression).expect_ok();
        let mut bytes = fs::read(&raw).unwrap();
        bytes.pop();
        fs::write(&raw, bytes).unwrap();
        small(stage.verify(&raw), compression).expect_exit(DAMAGED);
    }
}

#[test]
fn a_frame_of_zstandard_that_wants_2_gib_or_has_2_to_the_60_bytes_gets_no_memory() {
    let Some(stage) = Stage::new(&[]) else { return };
    let content = HONEST.image(32);
    let block = [&((content.len() as u32) << 3 | 1).to_le_bytes()[..3], &content].concat();
    let frame = |head: &[u8]| [b"\x28\xb5\x2f\xfd", head, &block].concat();
    let window = frame(b"\x00\xa8");
    let size = frame(&[&b"\xc0\x00"[..], &(1_u64 << 60).to_le_bytes()].concat());
    let all = frame(&[&b"\xe0"[..], &(1_u64 << 60).to_le_bytes()].concat());
    for (what, bytes) in [("window", window), ("content", size), ("one segment", all)] {
        let image = stage.image("ext4", "zst", &bytes);
        stage.assert_refused(&image, what, &[DAMAGED, UNSUPPORTED], "");
    }
}

/// The table of segments in the tail of an image.
struct SegmentTable {
    start: usize,
    end: usize,
}

impl SegmentTable {
    const MARK: &[u8] = b"BPSEGTAB";
    const SEGMENTS: usize = 16;
    /// Of the first segment: length of its content, and of what it was packed to.
    const LEN: usize = 24;
    const PACKED: usize = 28;

    #[track_caller]
    fn of(image: &[u8]) -> Self {
        let start = image.windows(8).rposition(|bytes| bytes == Self::MARK).unwrap();
        let segments = image[start + Self::SEGMENTS];
        SegmentTable { start, end: start + 24 + 16 * usize::from(segments) }
    }

    /// `image` with another number in its table, and the right checksum behind that.
    fn with(&self, image: &[u8], at: usize, number: &[u8]) -> Vec<u8> {
        let mut bytes = image.to_vec();
        bytes[self.start + at..self.start + at + number.len()].copy_from_slice(number);
        let crc = crc32(&bytes[self.start..self.end]).to_le_bytes();
        bytes[self.end..self.end + 4].copy_from_slice(&crc);
        bytes
    }
}

#[test]
fn a_table_of_segments_that_lies_is_refused_with_the_right_checksum_too() {
    let Some(stage) = Stage::new(&["mkfs.ext4", "partclone.ext4"]) else { return };
    let partition = stage.scratch.join("partition");
    File::create(&partition).unwrap().set_len(8 * MIB).unwrap();
    run(tool("mkfs.ext4").arg("-q").arg(&partition));
    let source = attach(&partition);
    for compression in ["gz", "zst", "lz4"] {
        let made = backed_up(&stage.scratch, source.path(), &["--compression", compression]);
        let bytes = fs::read(&made).unwrap();
        let table = SegmentTable::of(&bytes);
        let of_64_mib = (64_u32 << 20).to_le_bytes();
        for (what, at, number) in [
            ("the longest segment", SegmentTable::LEN, &of_64_mib[..]),
            ("a segment of 4 GiB", SegmentTable::LEN, &[0xff; 4]),
            ("a segment of nothing", SegmentTable::LEN, &[0; 4]),
            ("4 GiB in the file", SegmentTable::PACKED, &[0xff; 4]),
            ("64 MiB in the file", SegmentTable::PACKED, &of_64_mib),
            ("2^60 segments", SegmentTable::SEGMENTS, &(1_u64 << 60).to_le_bytes()),
            ("2^64 - 1 segments", SegmentTable::SEGMENTS, &[0xff; 8]),
            ("a head of 4 GiB", 12, &[0xff; 4]),
            ("another version", 8, &[2, 0, 0, 0]),
        ] {
            let image = stage.image("ext4", compression, &table.with(&bytes, at, number));
            let what = format!("{what}, {compression}");
            stage.assert_refused(&image, &what, &[DAMAGED], "lie-2026");
        }
        // The segment is as long as the table says, and holds nothing: a hole of the file.
        let word = |at: usize| {
            let at = table.start + at;
            u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
        };
        let packed_end = word(12) + word(SegmentTable::PACKED);
        let hole = 64 * MIB - u64::from(word(SegmentTable::PACKED));
        let first = table.with(&bytes, SegmentTable::PACKED, &of_64_mib);
        let both = table.with(&first, SegmentTable::LEN, &of_64_mib);
        let (before, behind) = both.split_at(packed_end as usize);
        let image = stage.image("ext4", compression, before);
        let file = File::options().write(true).open(&image).unwrap();
        file.write_all_at(behind, before.len() as u64 + hole).unwrap();
        stage.assert_refused(&image, &format!("a hole, {compression}"), &[DAMAGED], "lie-2026");
        fs::remove_file(made).unwrap();
    }
}

#[test]
fn what_was_kept_of_a_file_and_was_changed_is_not_believed() {
    let Some(stage) = Stage::new(&[]) else { return };
    let raw = stage.scratch.join("raw-2026-03-04T0506.apt.dd.uncompressed");
    make(&raw, 5, &[Part::Noise(2 * MIB), Part::Zeroes(5 * MIB), Part::Noise(3 * MIB)]);
    let mut rng = fastrand::Rng::with_seed(6);
    for (compression, program) in &PACKERS[..3] {
        let image = stage.image("dd", compression, b"");
        pack(&format!("cat {}", raw.display()), program, &image);
        let cache = stage.scratch.join("cache");
        let compare = || {
            let compare = blockprint(&stage.scratch).args(["--threads", "2", "compare"]);
            small(compare.arg(&image).arg(&raw), compression)
        };
        for round in 0..15 {
            compare().expect_ok();
            let kept = names(&cache);
            assert_eq!(kept.len(), 1, "{kept:?}");
            let kept = File::options().read(true).write(true).open(cache.join(&kept[0])).unwrap();
            let len = kept.metadata().unwrap().len();
            match round {
                0 => kept.set_len(len / 2).unwrap(),
                1 => kept.set_len(0).unwrap(),
                // Where it says how many there are of what, and where.
                2..7 => kept.write_all_at(&[0xff; 8], len - 8 * (round - 1)).unwrap(),
                _ => kept.write_all_at(&[rng.u8(..)], rng.u64(0..len)).unwrap(),
            }
            // It is found out, now or when it is read: what was read is right, or nothing is said of it.
            let ended = compare();
            assert!(matches!(ended.status.code(), Some(0 | DAMAGED)), "{compression}: {ended}");
            fs::remove_dir_all(&cache).unwrap();
        }
    }
}

#[test]
fn a_manifest_that_lies_is_refused_before_anything_is_done() {
    let Some(stage) = Stage::new(&["sfdisk", "partx"]) else { return };
    let disk = stage.scratch.join("disk");
    partition_image(&disk, 8 * MIB, "label: gpt\nsize=2M\nsize=2M\n");
    let source = LoopDevice::attach(&disk, &testkit::host::LoopOptions::default());
    run(tool("partx").arg("--add").arg(source.path()));
    let set = backed_up(&stage.scratch, source.path(), &[]);
    let path = set.join("manifest.json");
    let manifest = fs::read_to_string(&path).unwrap();
    let file = names(&set).into_iter().find(|name| name.contains(".apt.dd.")).unwrap();
    fs::copy(set.join(&file), stage.scratch.join(&file)).unwrap();
    let elsewhere = format!("{}/{file}", stage.scratch.path().display());
    let number = |key: &str| {
        // That of the last partition: the table comes behind it.
        let partitions = &manifest[..manifest.find("\"table\": ").unwrap()];
        let at = partitions.rfind(&format!("\"{key}\": ")).unwrap();
        manifest[at..].split([',', '\n']).next().unwrap().to_string()
    };
    let (start, size) = (number("start_bytes"), number("size_bytes"));
    let many = format!("\"partitions\": [{}{{}}],\"without\": [", "{},".repeat(5 << 20));
    let far = format!("\"start_bytes\": {}", 1_u64 << 62);
    for (what, from, to) in [
        ("a path that leads out", file.as_str(), format!("../{file}")),
        ("a path from the root", &file, elsewhere),
        ("the folder", &file, "..".to_string()),
        ("a partition where another is", &start, "\"start_bytes\": 1048576".to_string()),
        ("a partition behind the end", &start, far),
        ("a partition without end", &size, format!("\"size_bytes\": {}", u64::MAX)),
        ("a partition of nothing", &size, "\"size_bytes\": 0".to_string()),
        ("another number", "\"number\": 1", "\"number\": 1000000000".to_string()),
        ("sectors of nothing", "\"sector_bytes\": 512", "\"sector_bytes\": 0".to_string()),
        ("five million partitions", "\"partitions\": [", many),
        ("a deep one", "\"partitions\": [", format!("\"partitions\": {}", "[".repeat(1 << 20))),
        ("a later version", "\"blockprint_disk_set\": 1", "\"blockprint_disk_set\": 2".to_string()),
    ] {
        let lie = manifest.replacen(from, &to, 1);
        let lie = if lie == manifest { panic!("{what}: {from} is not there") } else { lie };
        fs::write(&path, lie).unwrap();
        stage.assert_refused(&set, what, &[UNSUPPORTED, DAMAGED], "manifest");
    }
}
