//! Files packed with Zstandard: ours are everybody's, and everybody's are ours.

use std::fs;

use formats::packed::{Compression, Opened, open};
use testkit::host::{self, Needs};

use super::common::{
    all, assert_reads, content, indexed, medium, pack, reindexed, shell, unpacked, verify,
};

const ZST: Compression = Compression::Zst;

#[test]
fn what_was_packed_comes_back_at_each_level() {
    let content = content(2_500_000, 1);
    for level in [None, Some(-5), Some(1), Some(3), Some(6)] {
        let file = pack(ZST, level, &content, 300_000);
        assert_reads(&indexed(&file, ZST), &content);
        assert!(unpacked(&file, ZST, 70_001).unwrap() == content, "level {level:?}");
    }
}

#[test]
fn a_file_of_nothing_is_a_file() {
    let file = pack(ZST, None, b"", 1);
    assert_eq!(verify(&file, ZST).unwrap(), b"");
    let Some(folder) = host::require(&Needs::none().tools(&["zstd"])) else { return };
    fs::write(folder.join("a.zst"), &file).unwrap();
    assert_eq!(shell(folder.path(), "zstd -t a.zst && zstd -dc a.zst"), b"");
}

#[test]
fn zstd_reads_our_files() {
    let Some(folder) = host::require(&Needs::none().tools(&["zstd"])) else { return };
    let content = content(5_000_000, 2);
    fs::write(folder.join("a.zst"), pack(ZST, None, &content, 1 << 20)).unwrap();
    assert!(shell(folder.path(), "zstd -q -t a.zst && zstd -dc a.zst") == content);
    assert!(shell(folder.path(), "zstd -dc -M64MB < a.zst") == content);
}

#[test]
fn the_seek_table_is_that_of_the_format() {
    let content = content(10_000, 4);
    let file = pack(ZST, None, &content, 3000);
    // Read as `zstd_seekable_compression_format.md` says, by nothing of ours.
    let word = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap()) as usize;
    let end = file.len();
    assert_eq!((word(end - 4), file[end - 5]), (0x8f92_eab1, 0));
    let frames = word(end - 9);
    let start = end - 9 - frames * 8 - 8;
    assert_eq!((word(start), word(start + 4)), (0x184d_2a5e, end - start - 8));
    let (mut at, mut found) = (0, Vec::new());
    for entry in (start + 8..end - 9).step_by(8) {
        let mut frame = vec![0; word(entry + 4)];
        let len = zstd_safe::decompress(&mut frame[..], &file[at..at + word(entry)]).unwrap();
        assert_eq!(len, frame.len());
        found.extend(frame);
        at += word(entry);
    }
    assert_eq!(at, start, "its frames are all that stands before it");
    assert!(found == content);
}

/// A file with a seek table, written by nothing of ours.
fn seekable(content: &[u8], frame_bytes: usize, has_checksums: bool) -> Vec<u8> {
    let (mut file, mut table) = (Vec::new(), Vec::new());
    for frame in content.chunks(frame_bytes) {
        let mut packed = vec![0; zstd_safe::compress_bound(frame.len())];
        let len = zstd_safe::compress(&mut packed[..], frame, 3).unwrap();
        file.extend(&packed[..len]);
        table.extend((len as u32).to_le_bytes());
        table.extend((frame.len() as u32).to_le_bytes());
        if has_checksums {
            let checksum = twox_hash::XxHash64::oneshot(0, frame) as u32;
            table.extend(checksum.to_le_bytes());
        }
    }
    let frames = content.len().div_ceil(frame_bytes) as u32;
    file.extend(0x184d_2a5e_u32.to_le_bytes());
    file.extend((table.len() as u32 + 9).to_le_bytes());
    file.extend(table);
    file.extend(frames.to_le_bytes());
    file.push(if has_checksums { 0x80 } else { 0 });
    file.extend(0x8f92_eab1_u32.to_le_bytes());
    file
}

#[test]
fn seekable_files_by_others_are_read_at_any_place() {
    let content = content(700_000, 6);
    for has_checksums in [false, true] {
        let file = seekable(&content, 60_000, has_checksums);
        assert_reads(&indexed(&file, ZST), &content);
        assert!(unpacked(&file, ZST, 9999).unwrap() == content);
    }
    // A checksum that is in the table only is looked at, too.
    let mut file = seekable(&content, 60_000, true);
    let at = file.len() - 9 - 4;
    file[at] ^= 1;
    let error = all(&indexed(&file, ZST)).unwrap_err();
    assert_eq!(error.kind(), image::ErrorKind::Damaged);
}

#[test]
fn files_by_zstd_are_read_at_any_place() {
    let Some(folder) = host::require(&Needs::none().tools(&["zstd", "pzstd"])) else { return };
    let content = content(9_000_000, 7);
    fs::write(folder.join("a"), &content).unwrap();
    fs::write(folder.join("b"), &content[..3_000_000]).unwrap();
    fs::write(folder.join("c"), &content[3_000_000..]).unwrap();
    // Frames that say how long they are are read where they are.
    for command in [
        "zstd -qc -1 a",
        "zstd -qc -19 --no-check b && zstd -qc --fast=3 c",
        "zstd -qc -3 -T2 -B1MiB --long a",
    ] {
        let file = shell(folder.path(), command);
        assert!(unpacked(&file, ZST, 100_001).unwrap() == content, "{command}");
        assert_reads(&indexed(&file, ZST), &content);
    }
    // Those that came through a pipe do not.
    for command in [
        "cat a | zstd -qc -T0",
        "cat b | zstd -qc --no-check && cat c | zstd -qc -7",
        "pzstd -qc -p2 -1 a",
    ] {
        let file = shell(folder.path(), command);
        assert!(unpacked(&file, ZST, 100_001).unwrap() == content, "{command}");
        assert_reads(&reindexed(&file, ZST), &content);
        for len in [file.len() - 1, file.len() / 2, 5] {
            let error = unpacked(&file[..len], ZST, 100_001).unwrap_err();
            assert_eq!(error.kind(), image::ErrorKind::Damaged, "{command}: {len} bytes");
        }
    }
}

#[test]
fn windows_of_two_gibibytes_are_read() {
    let Some(folder) = host::require(&Needs::none().tools(&["zstd"])) else { return };
    // The tool shortens the window to what it knows to come; from a pipe it does not.
    let file = shell(folder.path(), "head -c 3000000 /dev/zero | zstd -qc -1 --long=31");
    let window_log = 10 + (file[5] >> 3);
    assert_eq!(window_log, 31, "the tool has made a shorter window");
    assert!(unpacked(&file, ZST, 100_000).unwrap() == vec![0; 3_000_000]);
}

#[test]
fn a_frame_that_is_too_long_is_not_unpacked_for_a_part_of_it() {
    // A frame that claims to hold 17 MiB, and then one.
    let mut claimed = b"\x28\xb5\x2f\xfd\xa0".to_vec();
    claimed.extend((17_u32 << 20).to_le_bytes());
    claimed.extend([1, 0, 0]);
    assert!(matches!(open(medium(&claimed), ZST).unwrap(), Opened::Unindexed(_)));
    claimed[8] = 0;
    assert!(matches!(open(medium(&claimed), ZST).unwrap(), Opened::Indexed(_)));
    assert!(verify(&claimed, ZST).is_err(), "it holds nothing");
}
