//! The contracts of media and folders, asked of files, devices and directories on real filesystems.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use image::{ErrorKind, ExtentKind, Folder, Medium, Replace};
use sys::media::ZeroRung;
use sys::{Access, Content, DeviceMedium, Directory, FileMedium, UnnamedFile};
use testkit::contract::{MediumRules, check_folder, check_medium, check_medium_reopened};
use testkit::host::{Filesystem, LoopDevice, LoopOptions, Needs, TempDir, require};

/// A path that is free in `folder`.
fn free(folder: &Path) -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    folder.join(format!("file{}", COUNT.fetch_add(1, Ordering::Relaxed)))
}

fn file_of(folder: &Path, len_bytes: u64) -> FileMedium {
    let path = free(folder);
    File::create(&path).and_then(|file| file.set_len(len_bytes)).unwrap();
    FileMedium::open(&path, Access::Write).unwrap()
}

const RUNGS: [ZeroRung; 3] = [ZeroRung::PunchHole, ZeroRung::ZeroRange, ZeroRung::WriteZeroes];

fn check_files(folder: &Path) {
    for rung in RUNGS {
        let make = |len_bytes| file_of(folder, len_bytes).starting_at(rung);
        check_medium(make, MediumRules::file());
        let reopen = |medium: FileMedium| {
            let path = PathBuf::from(medium.name());
            drop(medium);
            FileMedium::open(&path, Access::Write).unwrap().bypassing_cache()
        };
        check_medium_reopened(make, reopen, MediumRules::file());
    }
    check_folder(|| {
        let path = free(folder);
        fs::create_dir(&path).unwrap();
        Directory::open(&path).unwrap()
    });
}

#[test]
fn files_and_directories_keep_their_contracts() {
    check_files(TempDir::new("media").path());
}

#[test]
fn files_and_directories_in_memory_keep_their_contracts() {
    check_files(TempDir::below(Path::new("/dev/shm"), "blockprint-media").path());
}

#[test]
fn files_and_directories_on_xfs_keep_their_contracts() {
    if require(&Needs::root().filesystems(&["xfs"])).is_some() {
        check_files(Filesystem::xfs(320 << 20).path());
    }
}

#[test]
fn files_and_directories_on_ext4_keep_their_contracts() {
    if require(&Needs::root().filesystems(&["ext4"])).is_some() {
        check_files(Filesystem::ext4(64 << 20).path());
    }
}

#[test]
fn files_and_directories_on_btrfs_keep_their_contracts() {
    if require(&Needs::root().filesystems(&["btrfs"])).is_some() {
        check_files(Filesystem::btrfs(128 << 20).path());
    }
}

#[test]
fn each_rung_of_zeroing_does_what_it_says() {
    let Some(_scratch) = require(&Needs::root().filesystems(&["xfs"])) else { return };
    let filesystem = Filesystem::xfs(320 << 20);
    for rung in RUNGS {
        let medium = file_of(filesystem.path(), 1 << 20).starting_at(rung);
        medium.write_at(&vec![7; 1 << 20], 0).unwrap();
        medium.punch(4096..512 << 10).unwrap();
        medium.sync().unwrap();
        assert_eq!(medium.zero_rung(), rung, "it stepped down without need");
        let blocks = medium.file().metadata().unwrap().blocks() * 512;
        let is_hole = rung == ZeroRung::PunchHole;
        assert_eq!(blocks < 1 << 20, is_hole, "{rung:?} leaves {blocks} bytes");
        let mut bytes = vec![1; 1 << 20];
        medium.read_at(&mut bytes, 0).unwrap();
        let zeroes = bytes.iter().filter(|&&byte| byte == 0).count();
        assert_eq!(zeroes, (512 << 10) - 4096, "{rung:?}");
    }
}

#[test]
fn a_ladder_steps_down_where_a_rung_is_refused_and_remembers_it() {
    // Memory filesystems punch holes but cannot zero ranges.
    let scratch = TempDir::below(Path::new("/dev/shm"), "blockprint-ladder");
    let medium = file_of(scratch.path(), 0).starting_at(ZeroRung::ZeroRange);
    medium.write_at(&[7; 8192], 0).unwrap();
    medium.punch(1..8191).unwrap();
    assert_eq!(medium.zero_rung(), ZeroRung::WriteZeroes);
    let mut bytes = [1; 8192];
    medium.read_at(&mut bytes, 0).unwrap();
    assert_eq!(bytes.iter().map(|&byte| u32::from(byte)).sum::<u32>(), 14);
}

#[test]
fn only_regular_files_are_opened_as_files() {
    let scratch = TempDir::new("media");
    for path in [scratch.path(), Path::new("/dev/null")] {
        let error = FileMedium::open(path, Access::Read).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    }
    let error = FileMedium::open(&scratch.join("nothing"), Access::Read).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(
        DeviceMedium::open(Path::new("/dev/null"), Access::Read).unwrap_err().kind(),
        ErrorKind::Invalid
    );
}

/// Makes devices in files of `scratch`; those made before the last few are gone.
fn devices(
    scratch: &TempDir,
    options: LoopOptions,
    zeroing: fn(DeviceMedium) -> DeviceMedium,
) -> impl FnMut(u64) -> DeviceMedium {
    let folder = scratch.path().to_path_buf();
    let mut attached: Vec<LoopDevice> = Vec::new();
    move |len_bytes| {
        let path = free(&folder);
        File::create(&path).and_then(|file| file.set_len(len_bytes)).unwrap();
        let device = LoopDevice::attach(&path, &options);
        let medium = DeviceMedium::open(device.path(), Access::Write).unwrap();
        attached.push(device);
        if attached.len() > 4 {
            attached.remove(0);
        }
        zeroing(medium)
    }
}

#[test]
fn a_device_keeps_its_contract() {
    let Some(scratch) = require(&Needs::root()) else { return };
    let options = LoopOptions::default();
    check_medium(devices(&scratch, options, |medium| medium), MediumRules::device());
}

#[test]
fn a_device_that_cannot_zero_keeps_its_contract() {
    let Some(scratch) = require(&Needs::root()) else { return };
    let make = devices(&scratch, LoopOptions::default(), DeviceMedium::writing_zeroes);
    check_medium(make, MediumRules::device());
}

#[test]
fn a_device_with_large_sectors_keeps_its_contract() {
    let Some(scratch) = require(&Needs::root()) else { return };
    let options = LoopOptions { sector_bytes: 4096, direct_io: true, ..LoopOptions::default() };
    check_medium(devices(&scratch, options, |medium| medium), MediumRules::device());
}

#[test]
fn what_is_synced_on_a_device_is_in_the_file_below() {
    let Some(scratch) = require(&Needs::root()) else { return };
    let mut make = devices(&scratch, LoopOptions::default(), |medium| medium);
    let reopen = |medium: DeviceMedium| {
        let path = PathBuf::from(medium.name());
        drop(medium);
        DeviceMedium::open(&path, Access::Write).unwrap()
    };
    check_medium_reopened(&mut make, reopen, MediumRules::device());
    let medium = make(1 << 20);
    medium.write_at(&[9; 700], 5000).unwrap();
    medium.sync().unwrap();
    let below = fs::read_dir(scratch.path()).unwrap().map(|entry| fs::read(entry.unwrap().path()));
    let found = below.filter(|bytes| {
        let bytes = bytes.as_ref().unwrap();
        bytes.len() == 1 << 20 && bytes[5000..5700] == [9; 700] && bytes[4999] == 0
    });
    assert_eq!(found.count(), 1);
}

#[test]
fn a_device_open_for_writing_is_claimed_and_one_open_for_reading_is_not() {
    let Some(scratch) = require(&Needs::root()) else { return };
    let path = scratch.join("disk");
    File::create(&path).and_then(|file| file.set_len(1 << 20)).unwrap();
    let device = LoopDevice::attach(&path, &LoopOptions::default());
    let open = |access| DeviceMedium::open(device.path(), access);
    let readers = [open(Access::Read).unwrap(), open(Access::Read).unwrap()];
    let writer = open(Access::Write).unwrap();
    assert_eq!(open(Access::Write).unwrap_err().kind(), ErrorKind::InUse);
    drop(writer);
    open(Access::Write).unwrap();
    assert_eq!(readers[0].extent_at(0).unwrap().kind, ExtentKind::Data);
    assert_eq!(readers[1].write_at(&[1], 0).unwrap_err().kind(), ErrorKind::Io);
}

/// All files of `folder` with a name.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn check_unnamed(folder: &Path) {
    let target = folder.join("target");
    let begin = |content: &[u8]| {
        let file = UnnamedFile::create_for(&target).unwrap();
        std::io::Write::write_all(&mut file.file(), content).unwrap();
        file
    };
    drop(begin(b"never published"));
    assert!(names(folder).is_empty(), "{:?} left by a file that was dropped", names(folder));
    let file = begin(b"first");
    assert!(!target.exists(), "it has its name before it is published");
    assert_eq!(file.target_path(), target);
    file.publish(Replace::Never, Content::Written).unwrap();
    assert_eq!(fs::read(&target).unwrap(), b"first");
    let refused = begin(b"second").publish(Replace::Never, Content::Written).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Exists);
    assert_eq!(fs::read(&target).unwrap(), b"first");
    begin(b"third").publish(Replace::Allowed, Content::Written).unwrap();
    assert_eq!(fs::read(&target).unwrap(), b"third");
    assert_eq!(names(folder), ["target"]);
    let long = UnnamedFile::create_for(&folder.join("x".repeat(256))).unwrap_err();
    assert_eq!(long.kind(), ErrorKind::Invalid, "{long}");
    assert_eq!(names(folder), ["target"]);
}

#[test]
fn a_file_without_a_name_gets_it_in_one_step_or_never() {
    check_unnamed(TempDir::new("unnamed").path());
    check_unnamed(TempDir::below(Path::new("/dev/shm"), "blockprint-unnamed").path());
}

#[test]
fn a_file_without_a_name_gets_it_on_each_filesystem_that_is_flushed_in_its_own_way() {
    if require(&Needs::root().filesystems(&["xfs", "ext4", "btrfs"])).is_none() {
        return;
    }
    for filesystem in
        [Filesystem::xfs(320 << 20), Filesystem::ext4(64 << 20), Filesystem::btrfs(128 << 20)]
    {
        let folder = filesystem.path().join("folder");
        fs::create_dir(&folder).unwrap();
        check_unnamed(&folder);
    }
}

#[test]
fn a_link_under_the_name_is_not_followed_out_of_a_directory() {
    let scratch = TempDir::new("media");
    let outside = scratch.join("outside");
    fs::write(&outside, "outside").unwrap();
    let inside = scratch.join("inside");
    fs::create_dir(&inside).unwrap();
    std::os::unix::fs::symlink(&outside, inside.join("link")).unwrap();
    let directory = Directory::open(&inside).unwrap();
    assert!(directory.open(OsStr::new("link")).is_err());
    assert_eq!(directory.create(OsStr::new("link")).err().unwrap().kind(), ErrorKind::Exists);
    directory.remove(OsStr::new("link")).unwrap();
    assert_eq!(fs::read(&outside).unwrap(), b"outside");
}
