//! Reading what can be read of a failing source, and saying exactly what cannot.

use std::ops::Range;

use image::{ErrorKind, Image, Result, Task};

/// The smallest unit that is given up, in bytes: the physical sector of today's disks, and a page.
const UNIT_BYTES: usize = 4096;

/// Fills `buf` from `offset`; what cannot be read becomes zeroes, and its ranges are returned in order.
///
/// Only failures of reading ([`ErrorKind::Io`]) are answered so. A source that changes is still an error.
pub(super) fn read(
    source: &dyn Image,
    buf: &mut [u8],
    offset: u64,
    task: &Task,
) -> Result<Vec<Range<u64>>> {
    let mut unreadable: Vec<Range<u64>> = Vec::new();
    let mut open: Vec<Range<usize>> = std::iter::once(0..buf.len()).collect();
    // Halves what fails until the unit is reached; the left half is taken first, so that ranges come in order.
    while let Some(part) = open.pop() {
        task.checkpoint()?;
        match source.read_at(&mut buf[part.clone()], offset + part.start as u64) {
            Ok(()) => {}
            Err(error) if error.kind() != ErrorKind::Io => return Err(error),
            Err(_) if part.len() > UNIT_BYTES => {
                let middle = part.start + (part.len() / 2).next_multiple_of(UNIT_BYTES);
                open.push(middle..part.end);
                open.push(part.start..middle);
            }
            Err(_) => {
                buf[part.clone()].fill(0);
                let bad = offset + part.start as u64..offset + part.end as u64;
                match unreadable.last_mut() {
                    Some(last) if last.end == bad.start => last.end = bad.end,
                    _ => unreadable.push(bad),
                }
            }
        }
    }
    Ok(unreadable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use formats::raw::RawImage;
    use image::layers::{Fault, Faulty};
    use image::{Medium, MemoryMedium};

    #[test]
    fn only_the_units_that_fail_become_zeroes() {
        let medium = MemoryMedium::new("m", 1 << 20);
        medium.write_at(&vec![7; 1 << 20], 0).unwrap();
        let faults = [Fault::Unreadable(5000..5001), Fault::Unreadable(700_000..710_000)];
        let source = Faulty::new(RawImage::open(medium).unwrap(), faults);
        let mut buf = vec![1; 1 << 20];
        let bad = read(&source, &mut buf, 0, &Task::silent()).unwrap();
        assert_eq!(bad, [4096..8192, 696_320..712_704]);
        for (at, &byte) in buf.iter().enumerate() {
            let is_bad = bad.iter().any(|range| range.contains(&(at as u64)));
            assert_eq!(byte, if is_bad { 0 } else { 7 }, "at {at}");
        }
    }
}
