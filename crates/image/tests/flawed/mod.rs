//! A medium in memory that breaks one rule of its contract.

use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use image::{Error, ErrorKind, Extent, ExtentKind, Medium, MemoryMedium, Result};

/// What is wrong with a medium, or with an image that stands on it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flaw {
    LeavesTheLastByteUnread,
    RefusesEmptyReads,
    ReadsZeroesPastTheEnd,
    RunsReachPastTheEnd,
    RunsBeginAtBlocks,
    CallsDataZero,
    CallsAllUnspecified,
    ForgetsWhatZeroMeans,
    WritesWholeSectors,
    PunchesWholeBlocks,
    PunchesOnlyWholeBlocks,
    DiscardsWholeBlocks,
    RefusesToPunchNothing,
    GrowsByEmptyWrites,
    FillsGapsWithGarbage,
    KeepsWhatIsCutOff,
    RefusesTheLengthItHas,
    CutsOnSync,
    RacesWithinBlocks,
    LosesEachThirdPunch,
    SaysLengthsRoundedUp,
}

/// A medium in memory with one flaw.
pub(crate) struct Flawed {
    below: MemoryMedium,
    flaw: Flaw,
    /// The length that is told, where what was cut off is kept.
    told_len: Mutex<u64>,
    punches: AtomicU64,
}

const BLOCK: u64 = 4096;

impl Flawed {
    pub(crate) fn new(flaw: Flaw, len_bytes: u64) -> Self {
        let below = MemoryMedium::new("flawed", len_bytes);
        Flawed { below, flaw, told_len: Mutex::new(len_bytes), punches: AtomicU64::new(0) }
    }

    /// `range` with its ends moved outwards to borders of blocks.
    fn rounded_out(&self, range: &Range<u64>) -> Result<Range<u64>> {
        let end = range.end.next_multiple_of(BLOCK).min(self.len()?);
        Ok(range.start / BLOCK * BLOCK..end)
    }

    fn write_slowly(&self, buf: &[u8], offset: u64) -> Result<()> {
        let around = self.rounded_out(&(offset..offset + buf.len() as u64))?;
        let mut block = vec![0; (around.end - around.start) as usize];
        self.below.read_at(&mut block, around.start)?;
        let from = (offset - around.start) as usize;
        block[from..from + buf.len()].copy_from_slice(buf);
        std::thread::sleep(Duration::from_micros(100));
        self.below.write_at(&block, around.start)
    }
}

impl Medium for Flawed {
    fn name(&self) -> &str {
        "flawed"
    }

    fn len(&self) -> Result<u64> {
        match self.flaw {
            Flaw::KeepsWhatIsCutOff => Ok(*self.told_len.lock().unwrap()),
            Flaw::SaysLengthsRoundedUp => Ok(self.below.len()?.next_multiple_of(512)),
            _ => self.below.len(),
        }
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        match self.flaw {
            Flaw::LeavesTheLastByteUnread if offset % 2 == 1 && buf.len() > 1 => {
                let most = buf.len() - 1;
                self.below.read_at(&mut buf[..most], offset)
            }
            Flaw::RefusesEmptyReads if buf.is_empty() => {
                Err(Error::new(ErrorKind::Invalid, "nothing to read"))
            }
            Flaw::ReadsZeroesPastTheEnd => self.below.read_at(buf, offset).or_else(|_| {
                buf.fill(0);
                Ok(())
            }),
            _ => self.below.read_at(buf, offset),
        }
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        let len = self.len()?;
        match self.flaw {
            Flaw::WritesWholeSectors if !buf.is_empty() => {
                let mut sectors = buf.to_vec();
                sectors.resize(buf.len().next_multiple_of(512), 0);
                self.below.write_at(&sectors, offset)
            }
            Flaw::GrowsByEmptyWrites if buf.is_empty() => self.below.set_len(offset.max(len)),
            Flaw::FillsGapsWithGarbage if offset > len => {
                self.below.write_at(&vec![0xd5; (offset - len) as usize], len)?;
                self.below.write_at(buf, offset)
            }
            Flaw::KeepsWhatIsCutOff => {
                *self.told_len.lock().unwrap() = len.max(offset + buf.len() as u64);
                self.below.write_at(buf, offset)
            }
            Flaw::RacesWithinBlocks if offset + buf.len() as u64 <= len => {
                self.write_slowly(buf, offset)
            }
            _ => self.below.write_at(buf, offset),
        }
    }

    fn set_len(&self, len_bytes: u64) -> Result<()> {
        match self.flaw {
            Flaw::KeepsWhatIsCutOff => {
                *self.told_len.lock().unwrap() = len_bytes;
                self.below.set_len(len_bytes.max(self.below.len()?))
            }
            Flaw::RefusesTheLengthItHas if len_bytes == self.len()? => {
                Err(Error::new(ErrorKind::Unsupported, "it is so long already"))
            }
            _ => self.below.set_len(len_bytes),
        }
    }

    fn punch(&self, range: Range<u64>) -> Result<()> {
        let number = self.punches.fetch_add(1, Ordering::Relaxed) + 1;
        match self.flaw {
            Flaw::PunchesWholeBlocks => self.below.punch(self.rounded_out(&range)?),
            Flaw::PunchesOnlyWholeBlocks => {
                let start = range.start.next_multiple_of(BLOCK);
                let end = range.end / BLOCK * BLOCK;
                if start < end { self.below.punch(start..end) } else { Ok(()) }
            }
            Flaw::RefusesToPunchNothing if range.is_empty() => {
                Err(Error::new(ErrorKind::Invalid, "nothing to punch"))
            }
            Flaw::LosesEachThirdPunch if number.is_multiple_of(3) => Ok(()),
            _ => self.below.punch(range),
        }
    }

    fn discard(&self, range: Range<u64>) -> Result<()> {
        let range = match self.flaw {
            Flaw::DiscardsWholeBlocks => self.rounded_out(&range)?,
            _ => range,
        };
        self.below.discard(range)
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        let extent = self.below.extent_at(offset)?.until(self.len()?);
        let changed = match self.flaw {
            Flaw::RunsReachPastTheEnd if extent.end() == self.len()? => {
                Extent { len_bytes: extent.len_bytes + 1, ..extent }
            }
            Flaw::RunsBeginAtBlocks => {
                Extent::new(offset / BLOCK * BLOCK..extent.end(), extent.kind)
            }
            Flaw::CallsDataZero => Extent { kind: ExtentKind::Zero, ..extent },
            Flaw::CallsAllUnspecified => Extent { kind: ExtentKind::Unspecified, ..extent },
            Flaw::ForgetsWhatZeroMeans if extent.kind == ExtentKind::Zero => {
                Extent { kind: ExtentKind::Unspecified, ..extent }
            }
            _ => extent,
        };
        Ok(changed)
    }

    fn sync(&self) -> Result<()> {
        match self.flaw {
            Flaw::CutsOnSync => self.below.set_len(self.len()? / 512 * 512),
            _ => Ok(()),
        }
    }
}
