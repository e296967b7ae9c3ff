//! The contract of images, asked of raw on each medium: memory, files on several filesystems, a block device.

use std::cell::RefCell;
use std::path::Path;

use formats::raw::RawImage;
use image::{ErrorKind, Image, ImageMut, Medium, MemoryMedium};
use sys::{Access, DeviceMedium, FileMedium};
use testkit::contract::{ImageRules, Resizing, check_image_mut, check_image_mut_reopened};
use testkit::host::{Filesystem, LoopDevice, LoopOptions, Needs, TempDir, require};

const ANY: ImageRules = ImageRules {
    size_unit_bytes: 1,
    size_bytes_min: 0,
    block_bytes: 4096,
    resizing: Resizing::Any,
    leaves_out: false,
};

#[test]
fn raw_in_memory_is_an_image() {
    let make = |size| RawImage::create(MemoryMedium::new("memory", 0), size).unwrap();
    check_image_mut(make, ANY);
    let reopen = |image: RawImage<_>| RawImage::open(image.into_medium()).unwrap();
    check_image_mut_reopened(make, reopen, ANY);
}

/// Asks raw files in `folder`.
fn check_files(folder: &Path) {
    let count = RefCell::new(0);
    let make = |size| {
        *count.borrow_mut() += 1;
        let path = folder.join(format!("image{}", count.borrow()));
        std::fs::File::create(&path).unwrap();
        RawImage::create(FileMedium::open(&path, Access::Write).unwrap(), size).unwrap()
    };
    check_image_mut(make, ANY);
    let reopen = |image: RawImage<FileMedium>| {
        let path = image.medium().name().to_string();
        drop(image);
        let medium = FileMedium::open(Path::new(&path), Access::Write).unwrap();
        RawImage::open(medium.bypassing_cache()).unwrap()
    };
    check_image_mut_reopened(make, reopen, ANY);
}

#[test]
fn raw_in_a_file_is_an_image() {
    check_files(TempDir::new("raw").path());
}

#[test]
fn raw_in_a_file_in_memory_is_an_image() {
    check_files(TempDir::below(Path::new("/dev/shm"), "blockprint-raw").path());
}

#[test]
fn raw_in_a_file_is_an_image_on_each_filesystem() {
    if require(&Needs::root().filesystems(&["xfs", "ext4", "btrfs"])).is_none() {
        return;
    }
    for filesystem in
        [Filesystem::xfs(320 << 20), Filesystem::ext4(64 << 20), Filesystem::btrfs(128 << 20)]
    {
        check_files(filesystem.path());
    }
}

/// Makes devices in files of `scratch`, `behind` bytes larger than what is asked for.
fn devices(scratch: &TempDir, behind: u64) -> impl FnMut(u64) -> RawImage<DeviceMedium> {
    let folder = scratch.path().to_path_buf();
    // Only the last few are looked at any more.
    let mut attached: Vec<LoopDevice> = Vec::new();
    let mut count = 0;
    move |size| {
        count += 1;
        let path = folder.join(format!("disk{count}"));
        let len = size.next_multiple_of(4096).max(4096) + behind;
        std::fs::File::create(&path).and_then(|file| file.set_len(len)).unwrap();
        let device = LoopDevice::attach(&path, &LoopOptions::default());
        let medium = DeviceMedium::open(device.path(), Access::Write).unwrap();
        attached.push(device);
        if attached.len() > 4 {
            attached.remove(0);
        }
        RawImage::create(medium, size).unwrap()
    }
}

#[test]
fn raw_on_a_device_is_an_image() {
    let Some(scratch) = require(&Needs::root()) else { return };
    let whole = ImageRules {
        size_unit_bytes: 4096,
        size_bytes_min: 4096,
        resizing: Resizing::Never,
        ..ANY
    };
    check_image_mut(devices(&scratch, 0), whole);
}

#[test]
fn raw_on_the_front_of_a_larger_device_is_an_image() {
    let Some(scratch) = require(&Needs::root()) else { return };
    let rules = ImageRules { resizing: Resizing::Never, ..ANY };
    check_image_mut(devices(&scratch, 8192), rules);
}

#[test]
fn raw_is_not_made_on_a_device_that_is_too_small() {
    let Some(scratch) = require(&Needs::root()) else { return };
    let medium = devices(&scratch, 0)(8192).into_medium();
    let error = RawImage::create(medium, 8193).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooSmall);
    assert!(error.to_string().contains("1 too few"), "{error}");
}

#[test]
fn an_image_on_the_front_of_a_medium_ends_where_it_ends() {
    let medium = MemoryMedium::new("memory", 10_000);
    let image = RawImage::create(medium, 3).unwrap();
    assert_eq!((image.size(), image.medium().len().unwrap()), (3, 3));
    image.write_at(b"abc", 0).unwrap();
    assert_eq!(image.extent_at(1).unwrap().end(), 3);
}
