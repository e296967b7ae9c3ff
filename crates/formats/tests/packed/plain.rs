//! Files that are packed with nothing.

use formats::packed::Compression;
use image::Medium;

use super::common::{assert_reads, content, indexed, medium, pack, unpacked};

#[test]
fn a_plain_file_is_its_own_content() {
    let content = content(3_000_000, 1);
    let file = pack(Compression::Uncompressed, None, &content, 1 << 20);
    assert!(file == content);
    assert_reads(&indexed(&file, Compression::Uncompressed), &content);
    assert!(unpacked(&file, Compression::Uncompressed, 70_001).unwrap() == content);
}

#[test]
fn the_holes_of_a_plain_file_are_known() {
    let file = vec![0; 1 << 20];
    let sparse = indexed(&file, Compression::Uncompressed);
    assert_eq!(sparse.extent_at(0).unwrap(), medium(&file).extent_at(0).unwrap());
}
