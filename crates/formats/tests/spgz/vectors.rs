//! Containers that the other program made, and crafted ones that are unusual or damaged.

use std::fs;
use std::path::{Path, PathBuf};

use digest::{Algorithm, Hasher};
use formats::spgz::{OnDamage, SpgzImage, looks_like_spgz};
use image::{ErrorKind, Image, ImageExt, ImageMut, Task};
use serde_json::Value;

use super::peer;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/spgz")
}

pub(crate) fn container(name: &str) -> Vec<u8> {
    fs::read(folder().join(name)).unwrap()
}

fn cases(kind: &str) -> Vec<Value> {
    let cases: Value = serde_json::from_slice(&container("cases.json")).unwrap();
    cases[kind].as_array().unwrap().clone()
}

fn sha256(bytes: &[u8]) -> String {
    let mut hasher = Hasher::new(Algorithm::Sha256);
    hasher.update(bytes);
    hasher.finish().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// All bytes of `image`, read in requests of `step` bytes.
fn read_all(image: &dyn Image, step: usize) -> Vec<u8> {
    let mut bytes = vec![0xa5; image.size() as usize];
    for (number, part) in bytes.chunks_mut(step).enumerate() {
        image.read_at(part, (number * step) as u64).unwrap();
    }
    bytes
}

#[test]
fn containers_of_the_other_program_are_read_as_they_are() {
    let cases = cases("files");
    assert_eq!(cases.len(), 14);
    for case in cases {
        let name = case["file"].as_str().unwrap();
        let bytes = container(name);
        assert_eq!(sha256(&bytes), case["container_sha256"], "{name}: the vector changed");
        assert!(looks_like_spgz(&bytes[..bytes.len().min(4096)]), "{name}");
        let image = SpgzImage::open(peer::medium_of(&bytes), OnDamage::Report).unwrap();
        assert_eq!(image.block_bytes(), case["block_size"], "{name}");
        assert_eq!(image.size(), case["size"], "{name}");
        for step in [4096, 100_000, 1 << 20] {
            assert_eq!(sha256(&read_all(&image, step)), case["sha256"], "{name}");
        }
        let mut sparse = vec![0xa5; image.size() as usize];
        image.read_sparse(&mut sparse, 0).unwrap();
        assert_eq!(sha256(&sparse), case["sha256"], "{name}");
        assert_eq!(image.check(&Task::silent()).unwrap(), []);
        image.flush().unwrap();
        assert!(peer::bytes_of(image.medium()) == bytes, "{name}: reading changed it");
    }
}

#[test]
fn the_same_images_written_anew_have_their_holes_and_compressed_blocks() {
    for case in cases("files") {
        let name = case["file"].as_str().unwrap();
        let bytes = peer::image(&container(name));
        let medium = peer::medium_of(b"");
        let block_bytes = case["block_size"].as_u64().unwrap();
        let image = SpgzImage::create(medium, block_bytes, bytes.len() as u64).unwrap();
        image.write_at(&bytes, 0).unwrap();
        image.flush().unwrap();
        let written = peer::bytes_of(image.medium());
        peer::check_ours(&written, bytes.len());
        let (slots, theirs) = (peer::slots(&written), case["blocks"].as_array().unwrap());
        assert_eq!(slots.len(), theirs.len(), "{name}");
        for (slot, theirs) in slots.iter().zip(theirs) {
            let is_hole = slot.marker == 0 && digest::is_zero(&slot.payload);
            // What was cut to zeroes, or grew, they leave as it was.
            assert!(is_hole || theirs["hole"] == false, "{name}, block {}", theirs["n"]);
            // Near the border it depends on who compresses.
            let is_clear = theirs["gzip_len"].as_u64().is_some_and(|len| len < 4000);
            let is_packed = slot.marker == 1;
            assert!(is_packed || !is_clear, "{name}, block {} is not compressed", theirs["n"]);
        }
    }
}

/// What is wanted of a crafted container that is not valid.
enum Wanted {
    /// It is none.
    Refused(ErrorKind),
    /// So many bytes are damaged at this offset.
    Block(u64),
    /// The last block is damaged, which begins there.
    Last(u64),
}

fn wanted(name: &str) -> Wanted {
    match name {
        "bad-crc" | "bad-isize" | "bad-gzip-magic" | "bad-marker" => Wanted::Block(12_287),
        "bad-cut-last" | "bad-marker-1-only" => Wanted::Last(12_287),
        // The container ends behind the slot of block 0.
        "bad-member-too-long" => Wanted::Block(0),
        "bad-count-0" | "bad-count-wrap" | "bad-count-wrap1" | "bad-header-11" | "bad-magic" => {
            Wanted::Refused(ErrorKind::Damaged)
        }
        _ => panic!("nobody knows what is wanted of {name}"),
    }
}

#[test]
fn unusual_containers_are_read_and_damaged_ones_are_named() {
    let cases = cases("crafted");
    assert!(cases.len() > 15);
    for case in cases {
        let file = case["file"].as_str().unwrap();
        let name = file.strip_suffix(".spgz").unwrap();
        let bytes = container(file);
        let open = |on_damage| SpgzImage::open(peer::medium_of(&bytes), on_damage);
        if case["valid"] == true {
            let image = open(OnDamage::Report).unwrap();
            let theirs = &case["upstream"];
            assert_eq!(image.size().to_string(), theirs["size_out"], "{name}");
            assert_eq!(sha256(&read_all(&image, 5000)), theirs["extract_sha256"], "{name}");
            assert_eq!(image.check(&Task::silent()).unwrap(), []);
            continue;
        }
        match wanted(name) {
            Wanted::Refused(kind) => {
                for on_damage in [OnDamage::Report, OnDamage::Repair] {
                    let error = open(on_damage).err().unwrap();
                    assert_eq!(error.kind(), kind, "{name}: {error}");
                    assert_eq!(error.location().unwrap().name, "container");
                }
            }
            Wanted::Block(start) => {
                let image = open(OnDamage::Report).unwrap();
                let end = start + 12_287;
                let mut block = vec![0; 12_287];
                let error = image.read_at(&mut block, start).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Damaged, "{name}");
                assert_eq!(error.location().unwrap().range, Some(start..end), "{name}");
                assert_eq!(
                    image.read_at(&mut block[..9], start + 5).unwrap_err().kind(),
                    ErrorKind::Damaged
                );
                let mut others = vec![0; (image.size() - end) as usize];
                image.read_at(&mut others, end).unwrap();
                image.read_at(&mut block[..start as usize], 0).unwrap();
                assert_eq!(image.check(&Task::silent()).unwrap(), peer::only(start..end), "{name}");
            }
            Wanted::Last(start) => {
                let error = open(OnDamage::Report).err().unwrap();
                assert_eq!(error.kind(), ErrorKind::Damaged, "{name}: {error}");
                assert_eq!(error.location().unwrap().range.as_ref().unwrap().start, start);
                let image = open(OnDamage::Repair).unwrap();
                assert_eq!(image.size(), start);
                let damaged = image.check(&Task::silent()).unwrap();
                assert_eq!(damaged, peer::only(start..start + 12_287));
                assert!(peer::bytes_of(image.medium()) == bytes, "{name}: looking changed it");
            }
        }
    }
}

#[test]
fn only_what_has_the_whole_header_looks_like_a_container() {
    for case in cases("crafted") {
        let file = case["file"].as_str().unwrap();
        let bytes = container(file);
        let refused =
            ["bad-count", "bad-header", "bad-magic"].iter().any(|bad| file.starts_with(bad));
        assert_eq!(looks_like_spgz(&bytes[..bytes.len().min(4096)]), !refused, "{file}");
    }
}
