//! Indexes that somebody made to do harm, or that a disk damaged: refused with the place, quickly, in little memory.

use std::fs::{self, File};
use std::io::BufWriter;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use chunks::index::{Flags, Header, Index, IndexWriter};
use chunks::{Algorithm, ChunkId, ChunkSizes};
use image::{ErrorKind, Result};
use sys::{Access, FileMedium};

use crate::support::{as_process, given, quick_folder};

const MEMORY_KIB: u64 = 64 << 10;

/// Writes an index of `count` chunks.
fn write(path: &Path, count: u64) {
    let header = Header::new(Algorithm::Sha512_256, ChunkSizes::default());
    let file = BufWriter::new(File::create(path).unwrap());
    let mut writer = IndexWriter::new(file, &header).unwrap();
    for number in 0..count {
        let mut id = [0x5A; 32];
        id[..8].copy_from_slice(&number.to_le_bytes());
        writer.push(&ChunkId(id), number * 7919 % (256 << 10) + 1).unwrap();
    }
    writer.finish().unwrap();
}

fn open(path: &Path) -> Result<Index> {
    Index::open(FileMedium::open(path, Access::Read)?, Flags::Known)
}

/// Reads all of it, and looks for some of its chunks; or panics unless the error names the file and the place.
#[track_caller]
fn read_or_be_told_where(path: &Path, what: &str) -> bool {
    let error = match open(path) {
        Ok(index) => {
            let mut end = 0;
            for span in index.chunks(0..index.count()) {
                let span = span.unwrap();
                assert_eq!(span.offset, end, "{what}");
                end = span.end();
            }
            assert_eq!(index.size_bytes(), end, "{what}");
            for offset in [0, end / 3, end - 1] {
                assert!(index.chunk_at(offset).unwrap().range().contains(&offset), "{what}");
            }
            return true;
        }
        Err(error) => error,
    };
    assert!(
        matches!(error.kind(), ErrorKind::Damaged | ErrorKind::Unsupported),
        "{what}: {error:?}"
    );
    let location = error.location().unwrap_or_else(|| panic!("{what}: {error}"));
    assert_eq!(location.name, path.display().to_string(), "{what}");
    assert!(location.range.is_some(), "{what}: {error}");
    assert!(error.to_string().contains(&location.name), "{what}: {error}");
    false
}

#[test]
fn every_truncation_of_an_index_is_refused_with_its_place() {
    let scratch = quick_folder("index");
    let path = scratch.join("cut.caibx");
    write(&path, 12);
    let whole = fs::metadata(&path).unwrap().len();
    assert!(read_or_be_told_where(&path, "whole"));
    let file = File::options().write(true).open(&path).unwrap();
    for len in (0..whole).rev() {
        file.set_len(len).unwrap();
        assert!(!read_or_be_told_where(&path, &format!("{len} of {whole} bytes")));
    }
}

#[test]
fn mutated_indexes_are_refused_with_their_place_or_fit_together() {
    let scratch = quick_folder("index");
    let path = scratch.join("changed.caibx");
    write(&path, 40);
    let good = fs::read(&path).unwrap();
    let mut rng = fastrand::Rng::with_seed(50);
    let (mut valid, mut refused) = (0, 0);
    for round in 0..10_000 {
        let mut bytes = good.clone();
        let mut is_name = true;
        for _ in 0..rng.usize(1..4) {
            let at = rng.usize(0..bytes.len());
            is_name &= (64..bytes.len() - 40).contains(&at) && (at - 64) % 40 >= 8;
            match rng.u8(0..4) {
                0 => bytes[at] = bytes[at].wrapping_add(rng.u8(1..)),
                1 => bytes[at] ^= 1 << rng.u8(0..8),
                2 => bytes[at] = [0, 1, 0x7F, 0x80, 0xFF][rng.usize(0..5)],
                _ => {
                    let word = [0, 1, 40, 48, i64::MAX as u64, u64::MAX][rng.usize(0..6)];
                    let at = (at & !7).min(bytes.len() - 8);
                    bytes[at..at + 8].copy_from_slice(&word.to_le_bytes());
                    is_name = false;
                }
            }
        }
        fs::write(&path, &bytes).unwrap();
        let is_valid = read_or_be_told_where(&path, &format!("round {round}"));
        assert!(is_valid || !is_name, "round {round}: any 32 bytes are a name");
        valid += u32::from(is_valid);
        refused += u32::from(!is_valid);
    }
    assert!(valid > 100 && refused > 100, "{valid} valid, {refused} refused");
}

/// Calls the test of that name again, in a process whose memory is its own.
fn in_own_process(test: &str) {
    let scratch = quick_folder("index");
    let name = format!("index_hostile::{test}");
    let outcome = as_process(&name, scratch.path()).run().expect_ok();
    assert!(outcome.stdout.contains("1 passed"), "{outcome}");
}

/// The most memory that this process ever had.
#[track_caller]
fn assert_little_memory() {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(peak < MEMORY_KIB, "{peak} KiB");
}

#[test]
fn a_terabyte_that_claims_to_be_an_index_is_refused_at_once_in_little_memory() {
    let Some(folder) = given() else {
        return in_own_process(
            "a_terabyte_that_claims_to_be_an_index_is_refused_at_once_in_little_memory",
        );
    };
    let path = folder.join("huge.caibx");
    for (count, place) in [(0, 64), (1, 104), (5000, 64 + 5000 * 40)] {
        write(&path, count);
        let whole = fs::read(&path).unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        file.set_len(whole.len() as u64 - 40).unwrap();
        // Zeroes, with a tail or without.
        let len = 64 + (1 << 40) / 40 * 40;
        file.set_len(len).unwrap();
        for has_tail in [false, true] {
            if has_tail {
                let mut tail = whole[whole.len() - 40..].to_vec();
                tail[24..32].copy_from_slice(&(len - 48).to_le_bytes());
                file.write_all_at(&tail, len - 40).unwrap();
            }
            let start = Instant::now();
            let error = open(&path).err().expect("it is no index");
            assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
            assert_eq!(error.kind(), ErrorKind::Damaged);
            let range = error.location().unwrap().range.clone().unwrap();
            assert_eq!(range.start, place, "{error}");
        }
    }
    assert_little_memory();
}

#[test]
fn a_million_chunks_are_read_in_little_memory() {
    let Some(folder) = given() else {
        return in_own_process("a_million_chunks_are_read_in_little_memory");
    };
    let path = folder.join("large.caibx");
    write(&path, 1_000_000);
    let index = open(&path).unwrap();
    let mut rng = fastrand::Rng::with_seed(51);
    for _ in 0..1000 {
        let offset = rng.u64(0..index.size_bytes());
        assert!(index.chunk_at(offset).unwrap().range().contains(&offset));
    }
    assert!(read_or_be_told_where(&path, "large"));
    assert_little_memory();
}

#[test]
fn an_index_that_changes_after_it_was_opened_is_found_out() {
    let scratch = quick_folder("index");
    let path = scratch.join("changing.caibx");
    write(&path, 10_000);
    let index = open(&path).unwrap();
    let good = fs::read(&path).unwrap();
    let file = File::options().write(true).open(&path).unwrap();
    let mut rng = fastrand::Rng::with_seed(52);
    for round in 0..2000 {
        let number = rng.u64(0..index.count());
        let place = 64 + 40 * number;
        let word = if rng.bool() { rng.u64(..) } else { rng.u64(0..index.size_bytes()) };
        file.write_all_at(&word.to_le_bytes(), place).unwrap();
        // Around the item that changed, where a wrong answer would be given.
        let old = u64::from_le_bytes(good[place as usize..][..8].try_into().unwrap());
        for offset in [old - 1, old, word, old.saturating_sub(300_000)] {
            if offset < index.size_bytes()
                && let Ok(span) = index.chunk_at(offset)
            {
                assert!(span.range().contains(&offset), "round {round}: {span:?} for {offset}");
                assert!(span.len_bytes <= index.sizes().max());
            }
        }
        for span in index.chunks(number.saturating_sub(2)..number + 3) {
            let Ok(span) = span else { break };
            assert!((1..=index.sizes().max()).contains(&span.len_bytes));
        }
        file.write_all_at(&old.to_le_bytes(), place).unwrap();
    }
    file.set_len(500).unwrap();
    assert!(index.chunk_at(index.size_bytes() - 1).is_err());
    assert!(index.chunks(0..index.count()).any(|span| span.is_err()));
}
