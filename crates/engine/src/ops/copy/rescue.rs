//! Reading what can be read of a failing source, and saying exactly what cannot.

use std::fmt;
use std::ops::Range;

use image::{Error, ErrorKind, Extent, Image, Result, Task};

use crate::registry::Container;

/// The smallest unit that is given up, in bytes: the physical sector of today's disks, and a page.
const UNIT_BYTES: usize = 4096;

/// Fills `buf` from `offset`; what cannot be read becomes zeroes, and its ranges are returned in order.
///
/// Only failures of reading ([`ErrorKind::Io`]) are answered so; where a [`Salvage`] knows the bytes that are lost, it is
/// those and no others. A source that changes is still an error.
pub(super) fn read(
    source: &dyn Image,
    buf: &mut [u8],
    offset: u64,
    task: &Task,
) -> Result<Vec<Range<u64>>> {
    let mut unreadable: Vec<Range<u64>> = Vec::new();
    let mut lose = |buf: &mut [u8], part: Range<usize>| {
        buf[part.clone()].fill(0);
        let bad = offset + part.start as u64..offset + part.end as u64;
        match unreadable.last_mut() {
            Some(last) if last.end == bad.start => last.end = bad.end,
            _ => unreadable.push(bad),
        }
    };
    let mut open: Vec<Part> =
        std::iter::once(Part { range: 0..buf.len(), is_lost: false }).collect();
    // Halves what fails until the unit is reached; the left half is taken first, so that ranges come in order.
    while let Some(Part { range: part, is_lost }) = open.pop() {
        task.checkpoint()?;
        if is_lost {
            lose(buf, part);
            continue;
        }
        let error = match source.read_at(&mut buf[part.clone()], offset + part.start as u64) {
            Ok(()) => continue,
            Err(error) if error.kind() != ErrorKind::Io => return Err(error),
            Err(error) => error,
        };
        let start = offset + part.start as u64;
        let end = offset + part.end as u64;
        match lost_range(&error).map(|lost| lost.start.max(start)..lost.end.min(end)) {
            Some(lost) if !lost.is_empty() => {
                let lost = (lost.start - offset) as usize..(lost.end - offset) as usize;
                let around = [
                    Part { range: lost.end..part.end, is_lost: false },
                    Part { range: lost.clone(), is_lost: true },
                    Part { range: part.start..lost.start, is_lost: false },
                ];
                open.extend(around.into_iter().filter(|part| !part.range.is_empty()));
            }
            _ if part.len() > UNIT_BYTES => {
                let middle = part.start + (part.len() / 2).next_multiple_of(UNIT_BYTES);
                open.push(Part { range: middle..part.end, is_lost: false });
                open.push(Part { range: part.start..middle, is_lost: false });
            }
            _ => lose(buf, part),
        }
    }
    Ok(unreadable)
}

/// A part of what is read, and whether it is known to be lost.
struct Part {
    range: Range<usize>,
    is_lost: bool,
}

/// A container that reads damaged blocks as zeroes: reading what touches one fails here, and the error knows the block.
/// One that reports damage by itself is passed on as it is.
pub(super) struct Salvage<'a> {
    pub(super) image: &'a dyn Image,
    /// The same.
    pub(super) container: &'a Container,
}

/// The cause below an error: a block that is lost, as offsets in the image.
#[derive(Debug)]
struct Lost(Range<u64>);

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the block of {} bytes at {} is damaged", self.0.end - self.0.start, self.0.start)
    }
}

impl std::error::Error for Lost {}

fn lost_range(error: &Error) -> Option<Range<u64>> {
    let cause = std::error::Error::source(error)?;
    cause.downcast_ref::<Lost>().map(|Lost(range)| range.clone())
}

impl Image for Salvage<'_> {
    fn size(&self) -> u64 {
        self.image.size()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.image.read_at(buf, offset)?;
        let end = offset + buf.len() as u64;
        let lost = self.container.repaired();
        match lost.into_iter().find(|lost| lost.start < end && offset < lost.end) {
            Some(lost) => {
                let sentence = "cannot read from the container";
                Err(Error::new(ErrorKind::Io, sentence).because(Lost(lost)))
            }
            None => Ok(()),
        }
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        self.image.extent_at(offset)
    }

    fn block_size_bytes(&self) -> u64 {
        self.image.block_size_bytes()
    }
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
