//! The contract suites find what is broken: for each main rule, something that breaks it.

mod flawed;

use std::ffi::OsStr;
use std::panic::{AssertUnwindSafe, catch_unwind};

use image::{Folder, ImageMut, Medium, MemoryMedium, Replace, Result};
use testkit::contract::{
    ImageRules, MediumRules, PlainImage, check_folder, check_image, check_image_mut, check_medium,
    check_medium_reopened,
};
use testkit::crash::{CrashDisk, CrashFolder};

use flawed::{Flaw, Flawed};

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
        check_medium(|len_bytes| Flawed::new(flaw, len_bytes), MediumRules::file());
    });
    assert!(message.contains(&format!("\n- {rule}: ")), "{rule} is not among {message}");
}

#[test]
fn what_is_not_read_is_found() {
    assert_found(
        Flaw::LeavesTheLastByteUnread,
        "reads at odd offsets and lengths give those bytes",
    );
    assert_found(Flaw::RefusesEmptyReads, "an empty read is no error");
    assert_found(Flaw::ReadsZeroesPastTheEnd, "a read past the end is a change");
}

#[test]
fn runs_that_are_wrong_are_found() {
    assert_found(Flaw::RunsReachPastTheEnd, "runs are in order gapless and within the size");
    assert_found(Flaw::RunsBeginAtBlocks, "a run may be asked for at any offset");
    assert_found(Flaw::CallsDataZero, "a zero run reads as zeroes");
    assert_found(Flaw::CallsAllUnspecified, "runs are data or zero");
    assert_found(Flaw::CallsAllUnspecified, "what was given is not unspecified");
    assert_found(Flaw::ForgetsWhatZeroMeans, "what is zeroed is never unspecified");
}

#[test]
fn neighbours_that_are_harmed_are_found() {
    assert_found(Flaw::WritesWholeSectors, "what is written is read and its neighbours stay");
    let zeroed = "what is zeroed reads as zeroes and its neighbours stay";
    assert_found(Flaw::PunchesWholeBlocks, zeroed);
    assert_found(Flaw::PunchesOnlyWholeBlocks, zeroed);
    assert_found(Flaw::DiscardsWholeBlocks, "what is forgotten leaves its neighbours");
    assert_found(Flaw::RefusesToPunchNothing, "empty punches and discards change nothing");
}

#[test]
fn lengths_that_are_wrong_are_found() {
    assert_found(Flaw::SaysLengthsRoundedUp, "the length is the one it was made with");
    assert_found(Flaw::GrowsByEmptyWrites, "an empty write past the end does not grow it");
    let gap = "a write past the end grows it with zeroes between";
    assert_found(Flaw::FillsGapsWithGarbage, gap);
    assert_found(Flaw::KeepsWhatIsCutOff, "cut and grown again it reads as zeroes");
    assert_found(Flaw::KeepsWhatIsCutOff, "bytes that were cut off do not come back");
    assert_found(Flaw::RefusesTheLengthItHas, "the size it has is accepted and changes nothing");
    assert_found(Flaw::CutsOnSync, "a flush changes nothing that is read");
}

#[test]
fn threads_that_undo_each_others_work_are_found() {
    assert_found(Flaw::RacesWithinBlocks, "neighbouring writes from two threads both stay");
}

#[test]
fn what_goes_wrong_seldom_is_found_by_chance_and_can_be_repeated() {
    let flaw = Flaw::LosesEachThirdPunch;
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
    assert!(message.contains("- a write past a fixed end is refused as full: "), "{message}");
    assert!(message.contains("- a size that it cannot have is refused and changes nothing: "));
}

#[test]
fn what_is_lost_on_reopening_is_found() {
    let make = |len_bytes| MemoryMedium::new("forgetful", len_bytes);
    let reopen = |medium: MemoryMedium| {
        medium.write_at(&[0], medium.len().unwrap().saturating_sub(1)).unwrap();
        medium
    };
    let message = message(|| check_medium_reopened(make, reopen, MediumRules::file()));
    assert!(message.contains("- what was flushed is there after reopening: "), "{message}");
}

#[test]
fn an_image_with_a_broken_medium_is_found() {
    let make = |size_bytes| PlainImage(Flawed::new(Flaw::PunchesWholeBlocks, size_bytes));
    let message = message(|| check_image_mut(make, ImageRules::default()));
    assert!(message.contains(" broken rules of the contract of ImageMut:\n- "), "{message}");
}

#[test]
fn an_image_of_other_content_is_found() {
    let make = |content: &[u8]| {
        let image = PlainImage(MemoryMedium::new("other", content.len() as u64 + 1));
        image.write_at(content, 1).unwrap();
        image
    };
    let message = message(|| check_image(make, ImageRules::default()));
    assert!(message.contains("- the size is that of the content: "), "{message}");
    assert!(message.contains("- a whole read gives the whole content: "), "{message}");
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
        assert!(message.contains(&format!("- {rule}: ")), "{rule} is not among {message}");
    }
}
