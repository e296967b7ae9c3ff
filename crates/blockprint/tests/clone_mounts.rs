//! However a filesystem is mounted from an image, a clone finds and freezes it, or says why it cannot.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use testkit::host::{
    self, Filesystem, Load, LoopDevice, LoopOptions, Mount, Namespace, Outcome, Writer,
    partition_image, read_records, run, tool,
};

use crate::fuse::FuseMount;
use crate::live::{self, Live, Outer, assert_takes_a_write, clone, frozen_ms, judge};
use crate::support::{MIB, assert_same, names};

/// An ext4 image on a new XFS.
#[track_caller]
fn image_on_xfs() -> (Filesystem, PathBuf) {
    let outer = Outer::Xfs.make();
    let image = outer.path().join("disk.img");
    host::make_image("ext4", &image, 64 * MIB);
    (outer, image)
}

fn attach(path: &Path) -> LoopDevice {
    LoopDevice::attach(path, &LoopOptions::default())
}

/// Clones, and panics unless so many filesystems were frozen for it. The clone is removed by the next one.
#[track_caller]
fn assert_freezes(image: &Path, count: usize) -> Outcome {
    let target = image.with_file_name("clone.img");
    let outcome = clone(&[image], &target).arg("--force").run().expect_ok();
    let frozen = outcome.result()["filesystems"].as_array().unwrap().len();
    assert_eq!(frozen, count, "{outcome}");
    assert!(frozen_ms(&outcome) > 0.0, "{outcome}");
    outcome
}

/// Panics unless the clone is refused with that exit code and these words. Hangs never.
#[track_caller]
fn assert_refused(sources: &[&Path], target: &Path, code: i32, words: &str) {
    let outcome = clone(sources, target).spawn().wait_at_most(Duration::from_secs(20));
    let outcome = outcome.expect_exit(code);
    let sentence = outcome.events("error")[0]["message"].to_string();
    assert!(sentence.contains(words), "{words}: {outcome}");
}

/// Panics unless the part of `clone` from `offset_bytes` on holds the writer's records up to `at_least`.
#[track_caller]
fn judge_part(clone: &Path, offset_bytes: u64, size_bytes: u64, at_least: u64) {
    let options =
        LoopOptions { offset_bytes, size_bytes, read_only: true, ..LoopOptions::default() };
    let device = LoopDevice::attach(clone, &options);
    run(tool("e2fsck").args(["-f", "-n"]).arg(device.path()));
    let mount = Mount::new(device.path(), "ro");
    let last = read_records(mount.path()).unwrap();
    assert!(last >= at_least, "{last} of {at_least}");
}

#[test]
fn a_filesystem_on_a_partition_of_a_loop_device_is_frozen() {
    let Some(_scratch) = live::scratch() else { return };
    let outer = Outer::Xfs.make();
    let image = outer.path().join("disk.img");
    partition_image(&image, 128 * MIB, "label: gpt\nsize=32MiB\nsize=64MiB\n");
    let options = LoopOptions { partitions: true, ..LoopOptions::default() };
    let device = LoopDevice::attach(&image, &options);
    for number in [1, 2] {
        run(tool("mkfs.ext4").args(["-q", "-F"]).arg(device.partition(number)));
    }
    let second = Mount::new(&device.partition(2), "");
    let writer = Writer::start(second.path(), &Load::default());
    let at_least = writer.acknowledged();
    assert_freezes(&image, 1);
    assert!(writer.goes_on(live::THAWED_WITHIN));
    judge_part(&outer.path().join("clone.img"), 33 * MIB, 64 * MIB, at_least);
    let first = Mount::new(&device.partition(1), "");
    assert_freezes(&image, 2);
    assert_takes_a_write(first.path());
}

#[test]
fn filesystems_on_several_loop_devices_of_one_image_are_frozen() {
    let Some(_scratch) = live::scratch() else { return };
    let outer = Outer::Xfs.make();
    let image = outer.path().join("disk.img");
    File::create(&image).unwrap().set_len(64 * MIB).unwrap();
    let parts = [0, 32 * MIB];
    let devices = parts.map(|offset_bytes| {
        let options = LoopOptions { offset_bytes, size_bytes: 32 * MIB, ..LoopOptions::default() };
        LoopDevice::attach(&image, &options)
    });
    let mounts = devices.each_ref().map(|device| {
        run(tool("mkfs.ext4").args(["-q", "-F"]).arg(device.path()));
        Mount::new(device.path(), "")
    });
    let writers = mounts.each_ref().map(|mount| Writer::start(mount.path(), &Load::default()));
    let at_least = writers.each_ref().map(Writer::acknowledged);
    assert_freezes(&image, 2);
    for ((writer, offset), at_least) in writers.iter().zip(parts).zip(at_least) {
        assert!(writer.goes_on(live::THAWED_WITHIN));
        judge_part(&outer.path().join("clone.img"), offset, 32 * MIB, at_least);
    }
}

#[test]
fn a_filesystem_on_a_loop_device_on_a_loop_device_is_frozen() {
    let Some(_scratch) = live::scratch() else { return };
    let (_outer, image) = image_on_xfs();
    let below = attach(&image);
    let above = attach(below.path());
    let mount = Mount::new(above.path(), "");
    assert_freezes(&image, 1);
    assert_takes_a_write(mount.path());
}

#[test]
fn mount_points_with_any_characters_are_found() {
    let Some(scratch) = live::scratch() else { return };
    let (_outer, image) = image_on_xfs();
    let device = attach(&image);
    let names: [&[u8]; 5] =
        [b"with blank", b"back\\slash\\040", b"line\nend", b"tab\t#", b"not\xFFutf8"];
    for name in names {
        let point = scratch.join(OsStr::from_bytes(name));
        fs::create_dir(&point).unwrap();
        let mount = Mount::at(device.path(), &point, "");
        assert_freezes(&image, 1);
        assert_takes_a_write(mount.path());
    }
}

#[test]
fn a_filesystem_mounted_at_several_points_is_frozen_once() {
    let Some(scratch) = live::scratch() else { return };
    let (_outer, image) = image_on_xfs();
    let device = attach(&image);
    let first = Mount::new(device.path(), "");
    let second = Mount::new(device.path(), "");
    fs::create_dir(first.path().join("folder")).unwrap();
    fs::write(first.path().join("file"), "x").unwrap();
    let [folder, file] = ["folder", "file"].map(|name| scratch.join(name));
    fs::create_dir(&folder).unwrap();
    fs::write(&file, "").unwrap();
    let bound_folder = bind(&first.path().join("folder"), &folder);
    let bound_file = bind(&first.path().join("file"), &file);
    assert_freezes(&image, 1);
    drop((first, second));
    assert_freezes(&image, 1);
    assert_takes_a_write(&folder);
    drop(bound_folder);
    // Now only a single file of it is mounted anywhere.
    assert_freezes(&image, 1);
    fs::write(&file, "y").unwrap();
    drop(bound_file);
}

fn bind(source: &Path, point: &Path) -> Mount {
    Mount::at(source, point, "bind")
}

#[test]
fn a_filesystem_hidden_under_another_mount_is_reached_elsewhere_or_refused() {
    let Some(_scratch) = live::scratch() else { return };
    let (outer, image) = image_on_xfs();
    let device = attach(&image);
    let hidden = Mount::new(device.path(), "");
    let seen = Mount::new(device.path(), "");
    let other = outer.path().join("other.img");
    host::make_image("ext4", &other, 16 * MIB);
    let covering = attach(&other);
    let cover = Mount::at(covering.path(), hidden.path(), "");
    assert_freezes(&image, 1);
    assert_takes_a_write(seen.path());
    drop(seen);
    let target = outer.path().join("refused.img");
    assert_refused(&[&image], &target, 13, "something else is mounted over it");
    assert!(!target.exists());
    drop(cover);
    assert_freezes(&image, 1);
    assert_takes_a_write(hidden.path());
}

#[test]
fn a_filesystem_mounted_only_in_another_namespace_is_frozen() {
    let Some(_scratch) = live::scratch() else { return };
    let (outer, image) = image_on_xfs();
    let device = attach(&image);
    let namespace = Namespace::mount(device.path(), "");
    let writer = Writer::start(&namespace.path(), &Load::default());
    let at_least = writer.acknowledged();
    let outcome = assert_freezes(&image, 1);
    assert!(writer.goes_on(live::THAWED_WITHIN));
    judge(&outer.path().join("clone.img"), at_least);
    let shown = outcome.result()["filesystems"][0]["mount_point"].to_string();
    assert!(shown.contains(&namespace.pid().to_string()), "{outcome}");
}

#[test]
fn a_namespace_whose_first_process_sees_less_is_looked_at_through_another() {
    let Some(scratch) = live::scratch() else { return };
    let (_outer, image) = image_on_xfs();
    let device = attach(&image);
    let [point, jail] = ["point", "jail"].map(|name| scratch.join(name));
    fs::create_dir(&point).unwrap();
    fs::create_dir(&jail).unwrap();
    // The first process of the namespace is shut up in a view of the root that lacks the mount.
    const SCRIPT: &str = r#"mount "$1" "$2" && mount --bind / "$3" && { sleep 600 & } && echo mounted &&
        exec chroot "$3" cat"#;
    let mut command = tool("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", SCRIPT, "sh"]);
    command.arg(device.path()).arg(&point).arg(&jail);
    command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    let _end = KillGroup(child.id());
    let mut line = [0; 8];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut line).unwrap();
    crate::support::until("it is in its jail", || {
        fs::read_link(format!("/proc/{}/root", child.id())).is_ok_and(|root| root == jail)
    });
    let target = image.with_file_name("clone.img");
    let outcome = clone(&[&image], &target).run();
    let sleeping = format!("/proc/{}/task/{0}/children", child.id());
    let children = fs::read_to_string(sleeping).unwrap_or_default();
    for pid in children.split_whitespace() {
        let _ = tool("kill").arg(pid).output();
    }
    drop(child.stdin.take());
    child.wait().unwrap();
    let outcome = outcome.expect_ok();
    assert!(frozen_ms(&outcome) > 0.0, "{outcome}");
}

/// Ends a process and its children when dropped.
struct KillGroup(u32);

impl Drop for KillGroup {
    fn drop(&mut self) {
        let children = format!("/proc/{}/task/{0}/children", self.0);
        let children = fs::read_to_string(children).unwrap_or_default();
        for pid in children.split_whitespace() {
            let _ = tool("kill").arg(pid).output();
        }
        let _ = tool("kill").arg(self.0.to_string()).output();
    }
}

#[test]
fn a_filesystem_in_use_after_a_lazy_unmount_is_refused() {
    let Some(_scratch) = live::scratch() else { return };
    for kind in ["ext4", "xfs", "btrfs"] {
        let outer = Filesystem::xfs(1024 * MIB);
        let (image, target) = (outer.path().join("disk.img"), outer.path().join("clone.img"));
        host::make_image(kind, &image, 320 * MIB);
        let device = attach(&image);
        let mount = Mount::new(device.path(), "");
        let mut open = File::create(mount.path().join("file")).unwrap();
        run(tool("umount").arg("--lazy").arg(mount.path()));
        open.write_all(b"still in use").unwrap();
        assert_refused(&[&image], &target, 13, "mounted nowhere in sight");
        drop(open);
        clone(&[&image], &target).run().expect_ok();
    }
}

#[test]
fn an_image_renamed_linked_or_reached_by_a_link_is_still_found_to_be_mounted() {
    let Some(_scratch) = live::scratch() else { return };
    let (outer, image) = image_on_xfs();
    let _inner = Filesystem::mount(&image);
    let [renamed, hard, soft] = ["renamed", "hard", "soft"].map(|name| outer.path().join(name));
    fs::rename(&image, &renamed).unwrap();
    assert_freezes(&renamed, 1);
    fs::hard_link(&renamed, &hard).unwrap();
    std::os::unix::fs::symlink("hard", &soft).unwrap();
    fs::remove_file(&renamed).unwrap();
    assert_freezes(&hard, 1);
    assert_freezes(&soft, 1);
    // Another file under the old name is not the image.
    fs::write(&image, "x").unwrap();
    let target = outer.path().join("other.img");
    let outcome = clone(&[&image], &target).run().expect_ok();
    assert!(outcome.result()["frozen_ms"].is_null(), "{outcome}");
}

#[test]
fn a_btrfs_on_two_images_is_frozen_once_and_both_clones_are_of_one_moment() {
    let Some(_scratch) = live::scratch() else { return };
    let outer = Filesystem::xfs(1024 * MIB);
    let images = ["a.img", "b.img"].map(|name| outer.path().join(name));
    for image in &images {
        File::create(image).unwrap().set_len(256 * MIB).unwrap();
    }
    let devices = images.each_ref().map(|image| attach(image));
    let paths = devices.each_ref().map(|device| device.path().to_path_buf());
    run(tool("mkfs.btrfs").args(["-q", "-f", "-K", "-d", "raid0", "-m", "raid1"]).args(&paths));
    let mount = Mount::new(&paths[0], &format!("device={}", paths[1].display()));
    let writer = Writer::start(mount.path(), &Load::default());
    for image in &images {
        assert_freezes(image, 1);
    }
    let folder = outer.path().join("clones");
    fs::create_dir(&folder).unwrap();
    let at_least = writer.acknowledged();
    let outcome = clone(&[&images[0], &images[1]], &folder).run().expect_ok();
    assert_eq!(outcome.result()["filesystems"].as_array().unwrap().len(), 1, "{outcome}");
    assert!(writer.goes_on(live::THAWED_WITHIN));
    writer.stop().unwrap();
    drop(mount);
    drop(devices);
    let clones = ["a.img", "b.img"].map(|name| attach(&folder.join(name)));
    run(tool("btrfs").args(["device", "scan"]).args(clones.each_ref().map(LoopDevice::path)));
    run(tool("btrfs").args(["check", "--readonly"]).arg(clones[0].path()));
    let options = format!("ro,device={}", clones[1].path().display());
    let mounted = Mount::new(clones[0].path(), &options);
    assert!(read_records(mounted.path()).unwrap() >= at_least);
}

#[test]
fn clones_of_several_images_are_of_one_moment() {
    let Some(_scratch) = live::scratch() else { return };
    let outer = Outer::Xfs.make();
    let images = ["a.img", "b.img"].map(|name| outer.path().join(name));
    let inner = images.each_ref().map(|image| {
        host::make_image("ext4", image, 32 * MIB);
        Filesystem::mount(image)
    });
    let folder = outer.path().join("clones");
    fs::create_dir(&folder).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    // Number n is durable in A before it is written to B, and that durable before n + 1 is written to A. So at each
    // moment b <= a <= b + 1.
    let count = || {
        let [a, b] =
            inner.each_ref().map(|inner| File::create(inner.path().join("count")).unwrap());
        for number in 1u64.. {
            for file in [&a, &b] {
                std::os::unix::fs::FileExt::write_all_at(file, &number.to_le_bytes(), 0).unwrap();
                file.sync_all().unwrap();
            }
            if stop.load(std::sync::atomic::Ordering::Relaxed) {
                return;
            }
        }
    };
    let counted = |name: &str| {
        let mounted = Filesystem::mount_read_only(&folder.join(name));
        let bytes = fs::read(mounted.path().join("count")).unwrap_or_default();
        bytes.try_into().map_or(0, u64::from_le_bytes)
    };
    std::thread::scope(|scope| {
        let counting = scope.spawn(count);
        let mut last = 0;
        for round in 0..12 {
            // Frozen in one order and in the other.
            let sources = [&*images[round % 2], &*images[1 - round % 2]];
            let outcome = clone(&sources, &folder).arg("--force").run().expect_ok();
            assert_eq!(outcome.result()["filesystems"].as_array().unwrap().len(), 2, "{outcome}");
            let (a, b) = (counted("a.img"), counted("b.img"));
            assert!(b <= a && a <= b + 1, "of two moments: {a} in the first, {b} in the second");
            assert!(a >= last, "it went back from {last} to {a}");
            last = a;
            assert!(!counting.is_finished());
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(last > 10, "nothing was counted");
    });
}

#[test]
fn a_filesystem_mounted_read_only_is_no_obstacle() {
    let Some(_scratch) = live::scratch() else { return };
    let (outer, image) = image_on_xfs();
    let _inner = Filesystem::mount_read_only(&image);
    assert_freezes(&image, 1);
    assert_same(&image, &outer.path().join("clone.img"));
}

#[test]
fn an_image_inside_another_source_is_refused() {
    let Some(scratch) = live::scratch() else { return };
    let (outer, image) = image_on_xfs();
    let inner = Filesystem::mount(&image);
    let nested = inner.path().join("nested.img");
    host::make_image("ext4", &nested, 8 * MIB);
    let innermost = Filesystem::mount(&nested);
    let folder = outer.path().join("clones");
    fs::create_dir(&folder).unwrap();
    assert_refused(&[&image, &nested], &folder, 13, "which has to be frozen for the clone");
    assert_refused(&[&nested, &image], &folder, 13, "which has to be frozen for the clone");
    // Its clone would lie in what is frozen for it, or in what stands on that.
    assert_refused(&[&image], &inner.path().join("c.img"), 13, "which has to be frozen");
    assert_refused(&[&image], &innermost.path().join("c.img"), 13, "which has to be frozen");
    assert_takes_a_write(innermost.path());
    // Alone, the outer one can be cloned; the inner one cannot, for ext4 shares no blocks.
    assert_freezes(&image, 1);
    assert_refused(&[&nested], &scratch.join("c.img"), 16, "cannot share blocks");
    assert_takes_a_write(innermost.path());
}

#[test]
fn a_filesystem_whose_own_backing_file_is_gone_is_no_obstacle() {
    let Some(scratch) = live::scratch() else { return };
    let below = scratch.join("below.img");
    host::make_image("xfs", &below, 320 * MIB);
    let outer = Filesystem::mount(&below);
    fs::remove_file(&below).unwrap();
    let image = outer.path().join("disk.img");
    host::make_image("ext4", &image, 32 * MIB);
    let _inner = Filesystem::mount(&image);
    assert_freezes(&image, 1);
}

#[test]
fn what_is_mounted_during_the_clone_fails_it() {
    let Some(_scratch) = live::scratch() else { return };
    let outer = Outer::Xfs.make();
    let image = outer.path().join("disk.img");
    partition_image(&image, 128 * MIB, "label: gpt\nsize=32MiB\nsize=64MiB\n");
    let options = LoopOptions { partitions: true, ..LoopOptions::default() };
    let device = LoopDevice::attach(&image, &options);
    for number in [1, 2] {
        run(tool("mkfs.ext4").args(["-q", "-F"]).arg(device.partition(number)));
    }
    let target = outer.path().join("clone.img");
    let mut mounted = Vec::new();
    for (number, step) in [(1, "opened"), (2, "flushed")] {
        let running = live::stopped_at(clone(&[&image], &target), step);
        mounted.push(Mount::new(&device.partition(number), ""));
        running.signal("CONT");
        let outcome = running.wait().expect_exit(19);
        assert!(outcome.stdout.contains("was mounted at"), "{outcome}");
        assert!(!target.exists());
    }
    assert_freezes(&image, 2);
}

#[test]
fn what_is_unmounted_during_the_clone_does_no_harm() {
    let Some(_scratch) = live::scratch() else { return };
    for step in ["opened", "flushed", "frozen", "cloned"] {
        let live = Live::start(Outer::Xfs);
        let target = live.beside("clone.img");
        let program = live.clone_to(&target).arg("--freeze-timeout=60s");
        let running = live::stopped_at(program, step);
        let acknowledged = live.writer.acknowledged();
        run(tool("umount").arg("--lazy").arg(live.inner.path()));
        run(tool("losetup").arg("--detach").arg(live.inner.device()));
        running.signal("CONT");
        running.wait().expect_ok();
        assert!(live.writer.goes_on(live::THAWED_WITHIN), "{step}: it stays frozen, out of sight");
        judge(&target, acknowledged);
    }
}

#[test]
fn a_filesystem_that_cannot_be_frozen_is_refused_and_others_are_thawed() {
    let Some(_scratch) = live::scratch() else { return };
    if !host::has_tool("fsfreeze") || !Path::new("/dev/fuse").exists() {
        return host::skip("there is no FUSE here");
    }
    let live = Live::start(Outer::Xfs);
    let other = live.beside("other.img");
    File::create(&other).unwrap().set_len(MIB).unwrap();
    let device = attach(&other);
    let mount = FuseMount::new(device.path());
    let folder = live.beside("clones");
    fs::create_dir(&folder).unwrap();
    for sources in [[&*live.image, &*other], [&*other, &*live.image]] {
        assert_refused(&sources, &folder, 16, "cannot be frozen (unmount it for the clone)");
        live.assert_writable("the other could not be frozen");
        assert_eq!(names(&folder), [] as [&str; 0]);
    }
    assert_refused(&[&other], &folder, 16, "fuseblk");
    drop(mount);
    clone(&[&live.image, &other], &folder).run().expect_ok();
}
