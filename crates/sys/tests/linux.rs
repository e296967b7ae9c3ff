//! What the kernel says of mounts, loop devices and extents, and freezing, each against the system's own tools.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::time::{Duration, Instant};

use sys::freeze::freeze;
use sys::{BlockDevice, DeviceNumber, LoopDevice, MountTable, Namespace, PhysicalMap};
use testkit::host::{self, Filesystem, LoopOptions, Mount, Needs, make_image, require, run, tool};

const MIB: u64 = 1 << 20;

/// The physical extents that filefrag tells, each as offset, length and place on the disk.
fn filefrag(path: &Path) -> Vec<(u64, u64, u64)> {
    let report = run(tool("filefrag").args(["-v", "-b1", "-s"]).arg(path));
    let extent = |line: &str| {
        let mut fields = line.split(':');
        fields.next()?.trim().parse::<u32>().ok()?;
        let start = |field: &str| field.split("..").next()?.trim().parse::<u64>().ok();
        let (offset, physical) = (start(fields.next()?)?, start(fields.next()?)?);
        let len = fields.next()?.trim().parse::<u64>().ok()?;
        (!line.contains("unwritten")).then_some((offset, len, physical))
    };
    report.lines().filter_map(extent).collect()
}

#[test]
fn a_physical_map_is_that_of_filefrag() {
    let needs = Needs::root().filesystems(&["xfs", "ext4"]).tools(&["filefrag", "fallocate"]);
    if require(&needs).is_none() {
        return;
    }
    for filesystem in [Filesystem::xfs(320 * MIB), Filesystem::ext4(64 * MIB)] {
        let path = filesystem.path().join("file");
        let file = File::create(&path).unwrap();
        // Enough extents for several answers of the kernel, a hole at the end, and a range that is only reserved.
        for number in 0..1500 {
            file.write_all_at(&[7; 4096], number * 8192).unwrap();
        }
        file.set_len(20 * MIB).unwrap();
        run(tool("fallocate").args(["--offset", "15MiB", "--length", "1MiB"]).arg(&path));
        let map = PhysicalMap::read(&file).unwrap();
        let found: Vec<_> = map
            .extents()
            .iter()
            .map(|extent| (extent.offset, extent.len_bytes, extent.physical.unwrap()))
            .collect();
        assert_eq!(found.len(), 1500);
        assert_eq!(found, filefrag(&path));
    }
}

#[test]
fn maps_of_a_clone_differ_where_it_was_written() {
    if require(&Needs::root().filesystems(&["xfs"])).is_none() {
        return;
    }
    let filesystem = Filesystem::xfs(320 * MIB);
    let open = |name: &str| {
        let path = filesystem.path().join(name);
        File::options().read(true).write(true).create(true).truncate(true).open(path).unwrap()
    };
    let (source, clone) = (open("source"), open("clone"));
    source.write_all_at(&vec![1; 4 << 20], 0).unwrap();
    source.set_len(6 * MIB).unwrap();
    sys::clone_whole(&source, &clone).unwrap();
    let differing = || {
        let [a, b] = [&source, &clone].map(|file| PhysicalMap::read(file).unwrap());
        a.differing(&b, 6 * MIB)
    };
    assert_eq!(differing(), []);
    source.write_all_at(&[2; 100], MIB + 10).unwrap();
    source.write_all_at(&[2], 5 * MIB).unwrap();
    assert_eq!(differing(), [MIB..MIB + 4096, 5 * MIB..5 * MIB + 4096]);
    sys::clone_range(&source, &clone, MIB..MIB + 4096).unwrap();
    assert_eq!(differing(), std::slice::from_ref(&(5 * MIB..5 * MIB + 4096)));
}

fn device_of(path: &Path) -> BlockDevice {
    let number = DeviceNumber::from_raw(fs::metadata(path).unwrap().rdev());
    BlockDevice::from_number(number).unwrap()
}

#[test]
fn mounts_of_a_device_are_found_wherever_they_are() {
    let Some(scratch) = require(&Needs::root().filesystems(&["ext4"]).tools(&["unshare"])) else {
        return;
    };
    let image = scratch.join("image");
    make_image("ext4", &image, 16 * MIB);
    let filesystem = Filesystem::mount(&image);
    let second = scratch.join("a second place with a\ttab and a \\");
    fs::create_dir(&second).unwrap();
    let bind = Mount::at(filesystem.path(), &second, "bind");
    let hidden = host::Namespace::mount(filesystem.device(), "");
    let table = MountTable::read().unwrap();
    let devices: BTreeSet<_> = [device_of(filesystem.device())].into();
    let found = table.on_devices(&devices);
    let points: BTreeSet<_> = found
        .iter()
        .map(|entry| (entry.mount_point.as_path(), entry.namespace == Namespace::Own))
        .collect();
    // The other namespace has copies of the first two mounts as well.
    for expected in [(filesystem.path(), true), (bind.path(), true), (hidden.point(), false)] {
        assert!(points.contains(&expected), "{expected:?} is not in {points:?}");
    }
    let of_hidden = found.iter().find(|entry| entry.mount_point == hidden.point()).unwrap();
    assert_eq!(of_hidden.namespace, Namespace::Of(hidden.pid()));
    fs::write(of_hidden.reachable_path().join("seen"), "x").unwrap();
    assert!(filesystem.path().join("seen").exists());
    let root = of_hidden.open().unwrap();
    let number = table.filesystem_of(&root).unwrap();
    assert_eq!(number, devices.first().unwrap().number);
    assert_eq!(table.backing_file_of(number), Some(image.clone()));
    assert!(found.iter().all(|entry| entry.filesystem == "ext4"));
}

#[test]
fn a_mount_that_is_covered_by_another_is_not_opened_by_mistake() {
    if require(&Needs::root().filesystems(&["ext4"])).is_none() {
        return;
    }
    let (below, above) = (Filesystem::ext4(8 * MIB), Filesystem::ext4(8 * MIB));
    let cover = Mount::at(above.device(), below.path(), "");
    let table = MountTable::read().unwrap();
    let devices: BTreeSet<_> = [device_of(below.device())].into();
    let entry = table.on_devices(&devices)[0];
    assert_eq!(entry.open().unwrap_err().kind(), std::io::ErrorKind::NotFound);
    drop(cover);
    entry.open().unwrap();
}

#[test]
fn a_loop_device_knows_its_file_also_when_that_was_renamed_or_removed() {
    let Some(scratch) = require(&Needs::root()) else { return };
    let (path, other) = (scratch.join("image"), scratch.join("renamed"));
    let file = File::create(&path).unwrap();
    file.set_len(4 * MIB).unwrap();
    let options = LoopOptions { offset_bytes: 8192, ..LoopOptions::default() };
    let device = host::LoopDevice::attach(&path, &options);
    let check = || {
        let found = LoopDevice::backed_by(&file.metadata().unwrap());
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].device.path(), device.path());
        assert_eq!(found[0].offset, 8192);
    };
    check();
    fs::rename(&path, &other).unwrap();
    check();
    fs::write(&path, "another file under the old name").unwrap();
    assert!(LoopDevice::backed_by(&fs::metadata(&path).unwrap()).is_empty());
    fs::remove_file(&other).unwrap();
    check();
    // The guard knows it by its old name only.
    host::sweep(scratch.path());
    drop(device);
    assert!(LoopDevice::backed_by(&file.metadata().unwrap()).is_empty());
}

/// How long it takes until the filesystem takes a write.
#[track_caller]
fn write_takes(point: &Path) -> Duration {
    let start = Instant::now();
    run(tool("timeout").args(["20", "touch"]).arg(point.join("touched")));
    start.elapsed()
}

/// Whether it is frozen: a second freeze is refused, and nothing is asked that could wait for a thaw.
fn is_frozen(roots: &[File]) -> bool {
    match freeze(roots, Duration::from_secs(5)) {
        Ok(frozen) => {
            assert!(frozen.thaw().held);
            false
        }
        Err(error) => {
            assert_eq!(error.cause.kind(), std::io::ErrorKind::ResourceBusy, "{error:?}");
            true
        }
    }
}

fn frozen_kinds() -> Option<Vec<Filesystem>> {
    require(&Needs::root().filesystems(&["xfs", "ext4", "btrfs"]))?;
    Some(vec![Filesystem::xfs(320 * MIB), Filesystem::ext4(16 * MIB), Filesystem::btrfs(128 * MIB)])
}

const LONG: Duration = Duration::from_secs(30);

#[test]
fn what_is_frozen_is_thawed_when_the_guard_goes() {
    let Some(filesystems) = frozen_kinds() else { return };
    let roots: Vec<File> =
        filesystems.iter().map(|filesystem| File::open(filesystem.path()).unwrap()).collect();
    let frozen = freeze(&roots, LONG).unwrap();
    for root in &roots {
        assert!(is_frozen(std::slice::from_ref(root)));
    }
    drop(frozen);
    for filesystem in &filesystems {
        assert!(write_takes(filesystem.path()) < Duration::from_secs(5));
    }
    let start = Instant::now();
    let frozen = freeze(&roots, LONG).unwrap();
    std::thread::sleep(Duration::from_millis(50));
    let thawed = frozen.thaw();
    assert!(thawed.held, "{thawed:?}");
    assert!(thawed.lasted >= Duration::from_millis(50) && thawed.lasted <= start.elapsed());
    assert!(!is_frozen(&roots));
}

#[test]
fn a_panic_thaws() {
    let Some(filesystems) = frozen_kinds() else { return };
    let roots: Vec<File> =
        filesystems.iter().map(|filesystem| File::open(filesystem.path()).unwrap()).collect();
    let outcome = std::panic::catch_unwind(|| {
        let _frozen = freeze(&roots, LONG).unwrap();
        std::panic::resume_unwind(Box::new("on purpose"));
    });
    assert!(outcome.is_err());
    assert!(!is_frozen(&roots));
}

#[test]
fn the_watchdog_thaws_when_the_time_is_up_and_that_is_told() {
    let Some(filesystems) = frozen_kinds() else { return };
    let roots: Vec<File> =
        filesystems.iter().map(|filesystem| File::open(filesystem.path()).unwrap()).collect();
    let frozen = freeze(&roots, Duration::from_millis(300)).unwrap();
    for filesystem in &filesystems {
        let took = write_takes(filesystem.path());
        assert!(took < Duration::from_secs(5), "it took {took:?}");
    }
    let thawed = frozen.thaw();
    assert!(!thawed.held, "{thawed:?}");
    assert!(!is_frozen(&roots));
}

#[test]
fn what_somebody_else_froze_is_refused_and_stays_frozen() {
    let Some(filesystems) = frozen_kinds() else { return };
    let roots: Vec<File> =
        filesystems.iter().map(|filesystem| File::open(filesystem.path()).unwrap()).collect();
    filesystems[1].as_mount().freeze();
    let error = freeze(&roots, LONG).unwrap_err();
    assert_eq!(error.root, Some(1), "{error:?}");
    assert_eq!(error.cause.kind(), std::io::ErrorKind::ResourceBusy);
    assert!(!is_frozen(&roots[..1]), "the one before it was left frozen");
    assert!(!is_frozen(&roots[2..]));
    assert!(host::thaw(filesystems[1].path()), "it was thawed, although another had frozen it");
}

#[test]
fn what_somebody_else_thaws_meanwhile_is_told() {
    let Some(filesystems) = frozen_kinds() else { return };
    for filesystem in &filesystems {
        let roots = [File::open(filesystem.path()).unwrap()];
        let frozen = freeze(&roots, LONG).unwrap();
        assert!(host::thaw(filesystem.path()));
        assert!(!frozen.thaw().held);
        assert!(!is_frozen(&roots));
    }
}

#[test]
fn what_cannot_be_frozen_is_refused() {
    if require(&Needs::root()).is_none() {
        return;
    }
    let error = freeze(&[File::open("/proc").unwrap()], LONG).unwrap_err();
    assert_eq!(error.root, Some(0), "{error:?}");
    assert_eq!(error.cause.kind(), std::io::ErrorKind::Unsupported, "{error:?}");
}
