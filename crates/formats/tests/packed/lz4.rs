//! Files packed with LZ4: ours are everybody's, and everybody's are ours.

use std::fs;

use formats::packed::Compression;
use image::ErrorKind;
use testkit::host::{self, Needs};

use super::common::{assert_reads, content, indexed, pack, reindexed, shell, unpacked, verify};

const LZ4: Compression = Compression::Lz4;

#[test]
fn what_was_packed_comes_back() {
    let content = content(2_500_000, 1);
    for segment_bytes in [300_000, 1 << 20, 4 << 20] {
        let file = pack(LZ4, None, &content, segment_bytes);
        assert!(file.len() < content.len());
        assert_reads(&indexed(&file, LZ4), &content);
        assert!(unpacked(&file, LZ4, 70_001).unwrap() == content);
    }
}

#[test]
fn what_cannot_be_packed_stays_as_it_is() {
    let mut content = vec![0; 99_999];
    fastrand::Rng::with_seed(1).fill(&mut content);
    let file = pack(LZ4, None, &content, 30_000);
    assert!(file.len() < content.len() + 300);
    assert_reads(&indexed(&file, LZ4), &content);
}

#[test]
fn a_file_of_nothing_is_a_file() {
    assert_eq!(verify(&pack(LZ4, None, b"", 1), LZ4).unwrap(), b"");
}

#[test]
fn lz4_reads_our_files() {
    let Some(folder) = host::require(&Needs::none().tools(&["lz4"])) else { return };
    let content = content(5_000_000, 2);
    fs::write(folder.join("a.lz4"), pack(LZ4, None, &content, 1 << 20)).unwrap();
    assert!(shell(folder.path(), "lz4 -q -t a.lz4 && lz4 -dc a.lz4") == content);
    assert!(shell(folder.path(), "lz4 -dc < a.lz4") == content);
}

#[test]
fn files_by_lz4_are_read_at_any_place() {
    let Some(folder) = host::require(&Needs::none().tools(&["lz4"])) else { return };
    let content = content(9_500_000, 7);
    fs::write(folder.join("a"), &content).unwrap();
    fs::write(folder.join("b"), &content[..3_000_000]).unwrap();
    fs::write(folder.join("c"), &content[3_000_000..]).unwrap();
    for command in [
        "lz4 -c a",
        "lz4 -9 -B4 -c a",
        "lz4 -c --no-frame-crc -BX -B7 a",
        "lz4 -c --content-size -B6 a",
        "lz4 -c -BD a",
        "lz4 -c -BD -BX -B4 a",
        "lz4 -c b && lz4 -c -BD c",
        "lz4 -c -l a",
        "lz4 -c -l b && lz4 -c c",
    ] {
        let file = shell(folder.path(), command);
        assert!(unpacked(&file, LZ4, 100_001).unwrap() == content, "{command}");
        assert_reads(&reindexed(&file, LZ4), &content);
        for len in [file.len() - 1, file.len() / 2, 5] {
            let error = unpacked(&file[..len], LZ4, 100_001).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Damaged, "{command}: {len} bytes are left");
        }
    }
}

#[test]
fn a_changed_byte_of_a_file_by_lz4_changes_no_content_unseen() {
    let Some(folder) = host::require(&Needs::none().tools(&["lz4"])) else { return };
    let content = content(3000, 3);
    fs::write(folder.join("a"), &content).unwrap();
    for command in ["lz4 -c a", "lz4 -c -BX a"] {
        let file = shell(folder.path(), command);
        let mut changed = file.clone();
        for at in 0..file.len() {
            changed[at] ^= 1 << (at % 8);
            // The checksum of the frame is one of the content, which can be packed in many ways.
            match unpacked(&changed, LZ4, 100_001) {
                Ok(found) => assert!(found == content, "{command}: byte {at}"),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Damaged, "{command}: byte {at}");
                }
            }
            changed[at] = file[at];
        }
    }
}
