//! Each byte of one of our files has a part in what is checked.

use formats::packed::{self, Compression, Opened};
use image::{ErrorKind, MemoryMedium, Result, Task};

use super::common::{content, medium, pack, unpacked, verify};

/// Five segments, the last one short.
fn example(compression: Compression) -> (Vec<u8>, Vec<u8>) {
    let content = content(2100, 11);
    let file = pack(compression, None, &content, 500);
    assert!(verify(&file, compression).unwrap() == content);
    (content, file)
}

#[track_caller]
fn assert_found<T>(found: Result<T>, len: usize, what: &str) {
    let Err(error) = found else { panic!("{what}, and it was not found") };
    assert_eq!(error.kind(), ErrorKind::Damaged, "{what}: {error:?}");
    let location = error.location().unwrap_or_else(|| panic!("{what}: {error:?} has no place"));
    let range = location.range.clone().expect("a range");
    assert!(range.start <= range.end && range.start <= len as u64, "{what}: {error:?}");
}

fn check_changes(compression: Compression) {
    let (_, file) = example(compression);
    let mut changed = file.clone();
    for at in 0..file.len() {
        for bits in [1 << (at % 8), 0xff, 0x80 >> (at % 7)] {
            changed[at] ^= bits;
            let what = format!("byte {at} of {} was changed by {bits:#x}", file.len());
            assert_found(verify(&changed, compression), file.len(), &what);
            assert_found(unpacked(&changed, compression, 700), file.len(), &what);
            changed[at] = file[at];
        }
    }
}

fn check_truncations(compression: Compression) {
    let (_, file) = example(compression);
    for len in 0..file.len() {
        let what = format!("{len} bytes of {} are left", file.len());
        assert_found(verify(&file[..len], compression), file.len(), &what);
        assert_found(unpacked(&file[..len], compression, 700), file.len(), &what);
    }
}

fn check_what_is_added(compression: Compression) {
    let (_, file) = example(compression);
    for more in [&b"\0"[..], b"more", b"\x5b\x2a\x4d\x18\0\0\0\0", &file] {
        let longer = [&file, more].concat();
        let found = verify(&longer, compression);
        assert_found(found, longer.len(), &format!("{} bytes stand behind it", more.len()));
    }
}

#[test]
fn each_changed_byte_of_a_zst_file_is_found() {
    check_changes(Compression::Zst);
}

#[test]
fn each_changed_byte_of_a_gz_file_is_found() {
    check_changes(Compression::Gz);
}

#[test]
fn each_truncation_of_a_gz_file_is_found() {
    check_truncations(Compression::Gz);
}

#[test]
fn each_changed_byte_of_an_lz4_file_is_found() {
    check_changes(Compression::Lz4);
}

#[test]
fn each_truncation_of_a_zst_file_is_found() {
    check_truncations(Compression::Zst);
}

#[test]
fn each_truncation_of_an_lz4_file_is_found() {
    check_truncations(Compression::Lz4);
}

#[test]
fn what_stands_behind_one_of_our_files_is_found() {
    check_what_is_added(Compression::Gz);
    check_what_is_added(Compression::Zst);
    check_what_is_added(Compression::Lz4);
}

#[test]
fn an_image_whose_table_was_cut_off_is_not_indexed_either() {
    let (_, file) = example(Compression::Lz4);
    // The frame ends where its table begins: for the tool the file is whole.
    let end = file.windows(8).position(|bytes| bytes == b"BPSEGTAB").unwrap() - 8;
    let opened = packed::open(medium(&file[..end]), Compression::Lz4).unwrap();
    let Opened::Unindexed(cut) = opened else { panic!("it has a table") };
    let kept = Box::new(MemoryMedium::new("kept", 0));
    let made = packed::index(cut, Compression::Lz4, kept, &Task::silent());
    assert_found(made.map(drop), file.len(), "the table is missing");
}

#[test]
fn what_is_no_packed_file_is_refused() {
    for compression in [Compression::Zst, Compression::Lz4] {
        for bytes in [&b""[..], b"abc", &[0; 4096], b"\x1f\x8b\x08\0\0\0\0\0\0\0"] {
            assert_found(packed::open(medium(bytes), compression).map(drop), 4, "it is none");
            assert_found(unpacked(bytes, compression, 10), 4, "it is none");
        }
    }
}

#[test]
fn what_was_kept_is_held_against_the_file() {
    let content = content(400_000, 3);
    let mut file = zstd_frame(&content);
    let kept = std::sync::Arc::new(MemoryMedium::new("kept", 0));
    let index = |file: &[u8]| {
        let kept = Box::new(std::sync::Arc::clone(&kept));
        packed::index(medium(file), Compression::Zst, kept, &Task::silent()).unwrap()
    };
    index(&file).check_rest().unwrap();
    let middle = file.len() / 2;
    file[middle] ^= 1;
    let check = |file: &[u8]| {
        let kept = Box::new(std::sync::Arc::clone(&kept));
        packed::open_kept(medium(file), Compression::Zst, kept).unwrap().check_rest()
    };
    assert_found(check(&file), file.len(), "the file has changed");
    let other = zstd_frame(&content[1..]);
    assert_found(check(&other), other.len(), "it is another file");
    let longer = zstd_frame(&[&content[..], b"more"].concat());
    assert_found(check(&longer), longer.len(), "it is a longer file");
    let empty = Box::new(MemoryMedium::new("kept", 0));
    let opened = packed::open_kept(medium(&file), Compression::Zst, empty);
    assert_found(opened.map(drop).map_err(|error| error.at("kept", Some(0..0))), 0, "it is empty");
}

/// A frame by nothing of ours.
fn zstd_frame(content: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; zstd_safe::compress_bound(content.len())];
    let len = zstd_safe::compress(&mut frame[..], content, 1).unwrap();
    frame.truncate(len);
    frame
}
