//! The contract suites find what is broken: for each main rule, something that breaks it.

use std::ffi::OsStr;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use image::{
    Error, ErrorKind, Extent, ExtentKind, Folder, ImageMut, Medium, MemoryMedium, Replace, Result,
};
use testkit::contract::{
    ImageRules, MediumRules, PlainImage, check_folder, check_image, check_image_mut, check_medium,
    check_medium_reopened,
};
use testkit::crash::{CrashDisk, CrashFolder};

/// What is wrong with a medium, or with an image that stands on it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flaw {
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
    LosesEachHundredthPunch,
    SaysLengthsRoundedUp,
}

/// A medium in memory with one flaw.
struct Flawed {
    below: MemoryMedium,
    flaw: Flaw,
    /// The length that is told, where what was cut off is kept.
    told_len: Mutex<u64>,
    punches: AtomicU64,
}

const BLOCK: u64 = 4096;

impl Flawed {
    fn new(flaw: Flaw, len_bytes: u64) -> Self {
        let below = MemoryMedium::new("flawed", len_bytes);
        Flawed {
            below,
            flaw,
            told_len: Mutex::new(len_bytes),
            punches: AtomicU64::new(0),
        }
    }

    fn has(&self, flaw: Flaw) -> bool {
        self.flaw == flaw
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
                self.below
                    .write_at(&vec![0xd5; (offset - len) as usize], len)?;
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
                if start < end {
                    self.below.punch(start..end)
                } else {
                    Ok(())
                }
            }
            Flaw::RefusesToPunchNothing if range.is_empty() => {
                Err(Error::new(ErrorKind::Invalid, "nothing to punch"))
            }
            Flaw::LosesEachHundredthPunch if number % 100 == 0 => Ok(()),
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
            Flaw::RunsReachPastTheEnd if extent.end() == self.len()? => Extent {
                len_bytes: extent.len_bytes + 1,
                ..extent
            },
            Flaw::RunsBeginAtBlocks => {
                Extent::new(offset / BLOCK * BLOCK..extent.end(), extent.kind)
            }
            Flaw::CallsDataZero => Extent {
                kind: ExtentKind::Zero,
                ..extent
            },
            Flaw::CallsAllUnspecified => Extent {
                kind: ExtentKind::Unspecified,
                ..extent
            },
            Flaw::ForgetsWhatZeroMeans if extent.kind == ExtentKind::Zero => Extent {
                kind: ExtentKind::Unspecified,
                ..extent
            },
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

/// The words of a check that fails.
#[track_caller]
fn message(check: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(check)).expect_err("nothing was found");
    *panic.downcast::<String>().expect("words")
}

/// The suite names `rule` as broken by `flaw`.
#[track_caller]
fn assert_found(flaw: Flaw, rule: &str) {
    let message = message(|| {
        check_medium(
            |len_bytes| Flawed::new(flaw, len_bytes),
            MediumRules::file(),
        );
    });
    assert!(
        message.contains(&format!("\n- {rule}: ")),
        "{rule} is not among {message}"
    );
}

#[test]
fn what_is_not_read_is_found() {
    assert_found(
        Flaw::LeavesTheLastByteUnread,
        "reads at odd offsets and lengths give those bytes",
    );
    assert_found(Flaw::RefusesEmptyReads, "an empty read is no error");
    assert_found(
        Flaw::ReadsZeroesPastTheEnd,
        "a read past the end is a change",
    );
}

#[test]
fn runs_that_are_wrong_are_found() {
    assert_found(
        Flaw::RunsReachPastTheEnd,
        "runs are in order gapless and within the size",
    );
    assert_found(
        Flaw::RunsBeginAtBlocks,
        "a run may be asked for at any offset",
    );
    assert_found(Flaw::CallsDataZero, "a zero run reads as zeroes");
    assert_found(Flaw::CallsAllUnspecified, "runs are data or zero");
    assert_found(
        Flaw::CallsAllUnspecified,
        "what was given is not unspecified",
    );
    assert_found(
        Flaw::ForgetsWhatZeroMeans,
        "what is zeroed is never unspecified",
    );
}

#[test]
fn neighbours_that_are_harmed_are_found() {
    assert_found(
        Flaw::WritesWholeSectors,
        "what is written is read and its neighbours stay",
    );
    let zeroed = "what is zeroed reads as zeroes and its neighbours stay";
    assert_found(Flaw::PunchesWholeBlocks, zeroed);
    assert_found(Flaw::PunchesOnlyWholeBlocks, zeroed);
    assert_found(
        Flaw::DiscardsWholeBlocks,
        "what is forgotten leaves its neighbours",
    );
    assert_found(
        Flaw::RefusesToPunchNothing,
        "empty punches and discards change nothing",
    );
}

#[test]
fn lengths_that_are_wrong_are_found() {
    assert_found(
        Flaw::SaysLengthsRoundedUp,
        "the length is the one it was made with",
    );
    assert_found(
        Flaw::GrowsByEmptyWrites,
        "an empty write past the end does not grow it",
    );
    let gap = "a write past the end grows it with zeroes between";
    assert_found(Flaw::FillsGapsWithGarbage, gap);
    assert_found(
        Flaw::KeepsWhatIsCutOff,
        "cut and grown again it reads as zeroes",
    );
    assert_found(
        Flaw::KeepsWhatIsCutOff,
        "bytes that were cut off do not come back",
    );
    assert_found(
        Flaw::RefusesTheLengthItHas,
        "the size it has is accepted and changes nothing",
    );
    assert_found(Flaw::CutsOnSync, "a flush changes nothing that is read");
}

#[test]
fn threads_that_undo_each_others_work_are_found() {
    assert_found(
        Flaw::RacesWithinBlocks,
        "neighbouring writes from two threads both stay",
    );
}

#[test]
fn what_goes_wrong_seldom_is_found_by_chance_and_can_be_repeated() {
    let flaw = Flaw::LosesEachHundredthPunch;
    let make = |len_bytes| Flawed::new(flaw, len_bytes);
    let message = message(|| check_medium(make, MediumRules::file()));
    assert!(
        message.contains("\n- random operations that grow it agree with a model: after operation")
    );
    assert!(message.contains("repeat with TESTKIT_SEED="), "{message}");
}

#[test]
fn a_medium_that_grows_though_it_is_fixed_is_found() {
    let make = |len_bytes| MemoryMedium::new("grows", len_bytes);
    let message = message(|| check_medium(make, MediumRules::device()));
    assert!(
        message.contains("- a write past a fixed end is refused as full: "),
        "{message}"
    );
    assert!(message.contains("- a size that it cannot have is refused and changes nothing: "));
}

#[test]
fn what_is_lost_on_reopening_is_found() {
    let make = |len_bytes| MemoryMedium::new("forgetful", len_bytes);
    let reopen = |medium: MemoryMedium| {
        medium
            .write_at(&[0], medium.len().unwrap().saturating_sub(1))
            .unwrap();
        medium
    };
    let message = message(|| check_medium_reopened(make, reopen, MediumRules::file()));
    assert!(
        message.contains("- what was flushed is there after reopening: "),
        "{message}"
    );
}

#[test]
fn an_image_with_a_broken_medium_is_found() {
    let make = |size_bytes| PlainImage(Flawed::new(Flaw::PunchesWholeBlocks, size_bytes));
    let message = message(|| check_image_mut(make, ImageRules::default()));
    assert!(
        message.contains(" broken rules of the contract of ImageMut:\n- "),
        "{message}"
    );
}

#[test]
fn an_image_of_other_content_is_found() {
    let make = |content: &[u8]| {
        let image = PlainImage(MemoryMedium::new("other", content.len() as u64 + 1));
        image.write_at(content, 1).unwrap();
        image
    };
    let message = message(|| check_image(make, ImageRules::default()));
    assert!(
        message.contains("- the size is that of the content: "),
        "{message}"
    );
    assert!(
        message.contains("- a whole read gives the whole content: "),
        "{message}"
    );
}

/// A folder that gives names to whoever asks.
struct Careless(CrashFolder);

impl Folder for Careless {
    fn create(&self, name: &OsStr) -> Result<Box<dyn Medium>> {
        self.0.remove(name)?;
        self.0.create(name)
    }

    fn open(&self, name: &OsStr) -> Result<Box<dyn Medium>> {
        self.0.open(name).or_else(|_| self.0.create(name))
    }

    fn rename(&self, from: &OsStr, to: &OsStr, _: Replace) -> Result<()> {
        self.0.rename(from, to, Replace::Allowed)
    }

    fn remove(&self, name: &OsStr) -> Result<()> {
        self.0.open(name)?;
        self.0.remove(name)
    }

    fn sync(&self) -> Result<()> {
        self.0.sync()
    }
}

#[test]
fn a_careless_folder_is_found() {
    let message = message(|| check_folder(|| Careless(CrashDisk::new().folder())));
    for rule in [
        "creating under a taken name is refused",
        "opening under a free name finds nothing",
        "a rename onto a taken name is refused unless allowed",
        "a removed name is free and removing it again is no error",
    ] {
        assert!(
            message.contains(&format!("- {rule}: ")),
            "{rule} is not among {message}"
        );
    }
}
