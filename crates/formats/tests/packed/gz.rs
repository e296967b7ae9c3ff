//! Files packed with gzip: ours are everybody's, and everybody's are ours.

use std::fs;
use std::io::Write;

use flate2::write::GzEncoder;
use formats::packed::{self, Compression, Opened};
use image::{ErrorKind, Medium, MemoryMedium, Task};
use proptest::prelude::*;
use testkit::host::{self, Needs};

use super::common::{
    all, assert_reads, content, indexed, medium, pack, reindexed, shell, unpacked, verify,
};

const GZ: Compression = Compression::Gz;

#[test]
fn what_was_packed_comes_back_at_each_level() {
    let content = content(2_500_000, 1);
    for level in [None, Some(1), Some(2), Some(6), Some(9)] {
        let file = pack(GZ, level, &content, 300_000);
        assert_reads(&indexed(&file, GZ), &content);
        assert!(unpacked(&file, GZ, 70_001).unwrap() == content, "level {level:?}");
    }
}

#[test]
fn the_same_content_becomes_the_same_bytes() {
    let content = content(900_000, 2);
    let mut packer = GZ.packing(None).packer();
    let (mut once, mut again) = (Vec::new(), Vec::new());
    let first = packer.pack(&content[..400_000], &mut once).unwrap();
    packer.pack(&content[400_000..], &mut Vec::new()).unwrap();
    assert_eq!(packer.pack(&content[..400_000], &mut again).unwrap(), first);
    assert!(once == again, "what was packed before has left something");
}

#[test]
fn everybody_reads_our_files() {
    let needs = Needs::none().tools(&["gzip", "pigz", "zcat", "python3"]);
    let Some(folder) = host::require(&needs) else { return };
    let content = content(5_000_000, 2);
    fs::write(folder.join("a.gz"), pack(GZ, None, &content, 1 << 20)).unwrap();
    fs::write(folder.join("z.gz"), pack(GZ, None, b"", 1 << 20)).unwrap();
    let python = "import gzip,sys; sys.stdout.buffer.write(gzip.open('a.gz').read())";
    for command in [
        "gzip -t a.gz && gzip -dc a.gz",
        "pigz -t a.gz && pigz -dc a.gz",
        "zcat a.gz",
        &format!("python3 -c \"{python}\""),
        "gzip -t z.gz && pigz -t z.gz && cat z.gz a.gz z.gz | gzip -dc",
    ] {
        assert!(shell(folder.path(), command) == content, "{command}");
    }
}

#[test]
fn the_first_member_has_all_of_the_content() {
    let content = content(1_000_000, 3);
    let file = pack(GZ, None, &content, 100_000);
    let mut unpacked = vec![0; content.len()];
    let len = libdeflater::Decompressor::new().gzip_decompress(&file, &mut unpacked).unwrap();
    assert!(len == content.len() && unpacked == content);
}

#[test]
fn a_table_of_many_parts_is_found() {
    // Twelve thousand entries: three members.
    let content = content(600_000, 4);
    let file = pack(GZ, None, &content, 50);
    assert_reads(&indexed(&file, GZ), &content);
    assert!(verify(&file, GZ).unwrap() == content);
    let Some(folder) = host::require(&Needs::none().tools(&["gzip"])) else { return };
    fs::write(folder.join("a.gz"), &file).unwrap();
    assert!(shell(folder.path(), "gzip -dc a.gz") == content);
}

#[test]
fn files_by_others_are_read_at_any_place() {
    let Some(folder) = host::require(&Needs::none().tools(&["gzip", "pigz"])) else { return };
    let content = content(9_500_000, 7);
    fs::write(folder.join("a"), &content).unwrap();
    fs::write(folder.join("b"), &content[..3_000_000]).unwrap();
    fs::write(folder.join("c"), &content[3_000_000..]).unwrap();
    for command in [
        "gzip -cn6 < a",
        "pigz -c1 a",
        "pigz -c -p4 -9 -b 128 a",
        "pigz -c0 a",
        "gzip -c b; head -c 0 a | gzip -c; gzip -c c",
        "gzip -c a; head -c 10000 /dev/zero",
    ] {
        let file = shell(folder.path(), command);
        assert!(unpacked(&file, GZ, 100_001).unwrap() == content, "{command}");
        assert_reads(&reindexed(&file, GZ), &content);
    }
}

#[test]
fn long_runs_and_blocks_are_read_at_any_place() {
    let zeroes = vec![0; 10_000_000];
    // One block as it is, one with the codes that need not be told, and one of 10 MB with codes of its own.
    let mut file = gzip(&content(100_000, 1), 0);
    file.extend(gzip(b"short", 6));
    file.extend(gzip(&zeroes, 9));
    let expected = [&content(100_000, 1), &b"short"[..], &zeroes].concat();
    assert!(unpacked(&file, GZ, 1 << 20).unwrap() == expected);
    assert_reads(&reindexed(&file, GZ), &expected);
}

#[test]
fn a_file_of_nothing_is_a_file() {
    assert_eq!(verify(&pack(GZ, None, b"", 1), GZ).unwrap(), b"");
    let file = gzip(b"", 6);
    assert_eq!(unpacked(&file, GZ, 10).unwrap(), b"");
    assert_eq!(all(&reindexed(&file, GZ)).unwrap(), b"");
}

#[test]
fn headers_with_all_fields_are_read() {
    let content = content(50_000, 5);
    let mut writer = flate2::GzBuilder::new()
        .extra(vec![7; 300])
        .filename("name")
        .comment("comment")
        .mtime(1)
        .write(Vec::new(), flate2::Compression::fast());
    writer.write_all(&content).unwrap();
    let file = writer.finish().unwrap();
    assert!(unpacked(&file, GZ, 1000).unwrap() == content);
    // With a checksum of the header, right and wrong.
    let plain = gzip(&content, 1);
    let mut header = plain[..10].to_vec();
    header[3] = 2;
    let checksum = libdeflater::crc32(&header) as u16;
    for (checksum, is_right) in [(checksum, true), (!checksum, false)] {
        let file = [&header[..], &checksum.to_le_bytes(), &plain[10..]].concat();
        assert_eq!(unpacked(&file, GZ, 1000).is_ok(), is_right);
    }
}

#[test]
fn damage_in_files_by_others_is_found() {
    let content = content(30_000, 6);
    let file = [gzip(&content, 6), gzip(&content, 1)].concat();
    let expected = [&content[..], &content].concat();
    let mut rng = fastrand::Rng::with_seed(3);
    for round in 0..1500 {
        let at = rng.usize(0..file.len());
        let mut changed = file.clone();
        changed[at] ^= 1 << rng.u8(0..8);
        // Time, level and system of a header, which change nothing, are all that may change.
        match unpacked(&changed, GZ, 10_000) {
            Ok(unpacked) => assert!(unpacked == expected, "round {round}: byte {at}"),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Damaged, "{error:?}"),
        }
    }
    let middle = gzip(&content, 6).len();
    for len in (0..file.len()).step_by(7).filter(|len| *len != middle) {
        let error = unpacked(&file[..len], GZ, 10_000).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Damaged, "{len}: {error:?}");
        assert!(error.location().is_some_and(|place| place.range.is_some()), "{error:?}");
    }
    for more in [&b"more"[..], b"\0\0\0x", b"\x1f", b"\x1f\x8b\x08"] {
        let longer = [&file, more].concat();
        assert_eq!(unpacked(&longer, GZ, 10_000).unwrap_err().kind(), ErrorKind::Damaged);
    }
}

#[test]
fn a_file_that_was_changed_after_it_was_indexed_is_found_out() {
    let content = content(4_600_000, 8);
    let file = gzip(&content, 1);
    let kept = std::sync::Arc::new(MemoryMedium::new("kept", 0));
    let kept_box = || Box::new(std::sync::Arc::clone(&kept));
    packed::index(medium(&file), GZ, kept_box(), &Task::silent()).unwrap();
    let mut rng = fastrand::Rng::with_seed(9);
    for _ in 0..10 {
        let mut changed = file.clone();
        changed[rng.usize(0..file.len())] ^= 1 << rng.u8(0..8);
        let opened = packed::open_kept(medium(&changed), GZ, kept_box()).unwrap();
        assert_eq!(all(&opened).unwrap_err().kind(), ErrorKind::Damaged);
    }
    let longer = [&file[..], &[0]].concat();
    let opened = packed::open_kept(medium(&longer), GZ, kept_box()).unwrap();
    assert_eq!(opened.check_rest().unwrap_err().kind(), ErrorKind::Damaged);
    // What was kept is not believed either.
    let mut bytes = vec![0; kept.len().unwrap() as usize];
    kept.read_at(&mut bytes, 0).unwrap();
    for _ in 0..25 {
        let mut changed = bytes.clone();
        changed[rng.usize(0..bytes.len())] ^= 1 << rng.u8(0..8);
        let opened = packed::open_kept(medium(&file), GZ, Box::new(medium(&changed)));
        let Err(error) = opened.and_then(|opened| all(&opened)) else { panic!("it was believed") };
        assert_eq!(error.kind(), ErrorKind::Damaged);
    }
    for len in [0, 5, 12, 50, bytes.len() - 1] {
        let cut = packed::open_kept(medium(&file), GZ, Box::new(medium(&bytes[..len])));
        assert_eq!(cut.map(drop).unwrap_err().kind(), ErrorKind::Damaged);
    }
}

#[test]
fn a_file_that_has_lost_its_table_is_not_taken_for_a_whole_one() {
    let content = content(10_000, 9);
    let file = pack(GZ, None, &content, 4000);
    // Each of these ends where a member does.
    let ends = (1..file.len()).filter(|&at| file[at..].starts_with(b"\x1f\x8b\x08\x04"));
    let mut cuts = 0;
    for end in ends {
        cuts += 1;
        assert!(packed::open(medium(&file[..end]), GZ).is_err());
        assert!(unpacked(&file[..end], GZ, 1000).is_err());
    }
    assert!(cuts >= 2);
}

#[test]
fn a_table_with_a_length_that_cannot_be_takes_no_memory() {
    let mut file = pack(GZ, None, &content(10_000, 9), 4000);
    let table = file.windows(8).position(|bytes| bytes == b"BPSEGTAB").unwrap();
    file[table + 16..table + 24].fill(0x7f);
    let Err(error) = packed::open(medium(&file), GZ) else { panic!("it was believed") };
    assert_eq!(error.kind(), ErrorKind::Damaged);
}

/// A member by zlib.
fn gzip(content: &[u8], level: u32) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::new(level));
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

/// Pieces that come again, at all distances, and bytes that do not.
fn pieces() -> impl Strategy<Value = Vec<u8>> {
    let piece = (any::<u64>(), 0_usize..400, 1_usize..40_000, any::<bool>());
    prop::collection::vec(piece, 0..60).prop_map(|pieces| {
        let mut bytes: Vec<u8> = Vec::new();
        for (seed, len, distance, is_new) in pieces {
            if is_new || bytes.len() < distance {
                let mut rng = fastrand::Rng::with_seed(seed);
                let kinds = 1 << rng.u32(0..=8);
                let len = len * rng.usize(1..20);
                bytes.extend((0..len).map(|_| rng.u32(0..kinds) as u8));
            } else {
                let from = bytes.len() - distance;
                (0..len).for_each(|at| bytes.push(bytes[from + at]));
            }
        }
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn any_content_is_packed_for_all_decompressors(content in pieces()) {
        prop_assume!(!content.is_empty());
        let mut packed = Vec::new();
        GZ.packing(None).packer().pack(&content, &mut packed).unwrap();
        packed.extend([3, 0]);
        let mut unpacked = vec![0; content.len()];
        let len = libdeflater::Decompressor::new().deflate_decompress(&packed, &mut unpacked);
        prop_assert_eq!(len, Ok(content.len()));
        prop_assert!(unpacked == content);
        let mut zlib = flate2::Decompress::new(false);
        let mut unpacked = Vec::with_capacity(content.len() + 1);
        let end = zlib.decompress_vec(&packed, &mut unpacked, flate2::FlushDecompress::Finish);
        prop_assert_eq!(end.ok(), Some(flate2::Status::StreamEnd));
        prop_assert!(unpacked == content);
        // And for ours, in a member.
        let sums = [libdeflater::crc32(&content), content.len() as u32].map(u32::to_le_bytes);
        let member = [&b"\x1f\x8b\x08\0\0\0\0\0\0\xff"[..], &packed, &sums.concat()].concat();
        prop_assert!(self::unpacked(&member, GZ, 5000).unwrap() == content);
    }

    #[test]
    fn what_others_pack_is_unpacked(content in pieces(), level in 0_u32..10) {
        let file = gzip(&content, level);
        prop_assert!(unpacked(&file, GZ, 4096).unwrap() == content);
    }

    #[test]
    fn anything_ends_with_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let file = [&b"\x1f\x8b\x08\0\0\0\0\0\0\xff"[..], &bytes].concat();
        if let Ok(Opened::Unindexed(file)) = packed::open(medium(&file), GZ) {
            let mut unpack = packed::unpack(&file, GZ).unwrap();
            let mut piece = vec![0; 1 << 16];
            while unpack.read(&mut piece).is_ok_and(|len| len > 0) {}
        }
    }
}
