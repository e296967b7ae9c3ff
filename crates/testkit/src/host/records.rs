//! What a [`Writer`](super::Writer) writes, and the judge of what a copy holds of it.
//!
//! Record `n` (from 1) is the same 512 bytes wherever it is written, so a judge needs no memory of what was written:
//! it makes the record again. Records stand one behind the other in the file `records`. Before record `n` is
//! appended, one 4 KiB block of the file `churn`, chosen by `n`, is overwritten with content made from `n`. So a
//! copy that ends with record `n` must show in `churn` exactly what stood there after block `n`, or after `n + 1`.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use fastrand::Rng;

/// Size of one record in bytes.
pub(super) const RECORD_BYTES: usize = 512;
/// Size of one block of the churned file in bytes.
pub(super) const BLOCK_BYTES: usize = 4096;
/// The file that records are appended to.
pub(super) const RECORDS: &str = "records";
/// The file whose blocks are overwritten.
pub(super) const CHURN: &str = "churn";

/// Fills `buf` with what belongs to `number`: the number, then bytes that follow from it.
pub(super) fn fill(buf: &mut [u8], number: u64) {
    let (head, tail) = buf.split_at_mut(8);
    head.copy_from_slice(&number.to_le_bytes());
    Rng::with_seed(number).fill(tail);
}

/// The block of a churned file of `block_count` blocks that goes with record `number`.
pub(super) fn churned_block(number: u64, block_count: u64) -> u64 {
    Rng::with_seed(!number).u64(..block_count)
}

/// The number of the last record in `folder`, where all from 1 to it are intact and in order.
///
/// An error, as a sentence, is what no cut at one moment can explain: a damaged record before an intact one, or a
/// churned file that does not fit the last record.
pub fn read_records(folder: &Path) -> Result<u64, String> {
    let last = last_record(&folder.join(RECORDS))?;
    let churn = folder.join(CHURN);
    if churn.exists() {
        check_churn(&churn, last)?;
    }
    Ok(last)
}

fn last_record(path: &Path) -> Result<u64, String> {
    let unreadable = |cause: io::Error| format!("cannot read {}: {cause}", path.display());
    let mut file = BufReader::with_capacity(1 << 20, File::open(path).map_err(unreadable)?);
    let (mut record, mut expected) = ([0; RECORD_BYTES], [0; RECORD_BYTES]);
    let (mut number, mut intact) = (0, 0);
    loop {
        match file.read_exact(&mut record) {
            Ok(()) => number += 1,
            Err(cause) if cause.kind() == io::ErrorKind::UnexpectedEof => return Ok(intact),
            Err(cause) => return Err(unreadable(cause)),
        }
        fill(&mut expected, number);
        if record != expected {
            continue;
        }
        if intact + 1 != number {
            let first = intact + 1;
            return Err(format!("record {first} is damaged, but record {number} behind it is not"));
        }
        intact = number;
    }
}

fn check_churn(path: &Path, last: u64) -> Result<(), String> {
    let unreadable = |cause: io::Error| format!("cannot read {}: {cause}", path.display());
    let mut content = Vec::new();
    File::open(path).and_then(|mut file| file.read_to_end(&mut content)).map_err(unreadable)?;
    let block_count = (content.len() / BLOCK_BYTES) as u64;
    if block_count == 0 {
        return if last == 0 { Ok(()) } else { Err(format!("{} is empty", path.display())) };
    }
    let mut latest = vec![0; content.len() / BLOCK_BYTES];
    for number in 1..=last {
        latest[churned_block(number, block_count) as usize] = number;
    }
    let next = churned_block(last + 1, block_count) as usize;
    let mut expected = [0; BLOCK_BYTES];
    for (index, block) in content.chunks_exact(BLOCK_BYTES).enumerate() {
        let mut is_made_from = |number: u64| {
            expected.fill(0);
            if number > 0 {
                fill(&mut expected, number);
            }
            block == expected
        };
        if is_made_from(latest[index]) || index == next && is_made_from(last + 1) {
            continue;
        }
        let number = latest[index];
        return Err(format!(
            "block {index} of {} is not what record {number} of {last} left there",
            path.display()
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::TempDir;
    use super::*;
    use std::fs;

    fn records(numbers: impl IntoIterator<Item = u64>) -> Vec<u8> {
        let mut bytes = Vec::new();
        for number in numbers {
            let mut record = [0; RECORD_BYTES];
            fill(&mut record, number);
            bytes.extend(record);
        }
        bytes
    }

    fn churn(block_count: u64, numbers: impl IntoIterator<Item = u64>) -> Vec<u8> {
        let mut bytes = vec![0; block_count as usize * BLOCK_BYTES];
        for number in numbers {
            let start = churned_block(number, block_count) as usize * BLOCK_BYTES;
            fill(&mut bytes[start..start + BLOCK_BYTES], number);
        }
        bytes
    }

    #[test]
    fn the_last_of_an_unbroken_row_is_found() {
        let scratch = TempDir::new("records");
        let judge = |bytes: &[u8]| {
            fs::write(scratch.join(RECORDS), bytes).unwrap();
            read_records(scratch.path())
        };
        assert_eq!(judge(&[]), Ok(0));
        assert_eq!(judge(&records(1..=40)), Ok(40));
        assert_eq!(judge(&records(1..=40)[..40 * RECORD_BYTES - 1]), Ok(39));
        assert!(judge(&records([1, 2, 4])).is_ok_and(|last| last == 2));
        let mut damaged = records(1..=40);
        damaged[10 * RECORD_BYTES + 100] ^= 1;
        let sentence = judge(&damaged).unwrap_err();
        assert!(sentence.contains("record 11 is damaged"), "{sentence}");
    }

    #[test]
    fn a_churned_file_fits_its_last_record_or_the_next() {
        let scratch = TempDir::new("records");
        fs::write(scratch.join(RECORDS), records(1..=40)).unwrap();
        let judge = |last| {
            fs::write(scratch.join(CHURN), churn(16, 1..=last)).unwrap();
            read_records(scratch.path())
        };
        assert_eq!(judge(40), Ok(40));
        assert_eq!(judge(41), Ok(40));
        assert!(judge(39).is_err());
        assert!(judge(44).is_err());
    }
}
