//! Undoes what stands on a folder, a mount or a loop device, from the top down.
//!
//! Guards are dropped in any order, and a test that fails may leave a filesystem frozen. So each release looks at
//! what the kernel shows now, takes away what stands on the thing first, and is content if it is gone already.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::loop_device::attached;
use super::{Attached, MountEntry, TempDir, loop_devices, mounts, thaw, tool, try_run};

/// How long a busy filesystem is asked again before it is taken out of sight.
const UNMOUNT_PATIENCE: Duration = Duration::from_secs(1);
/// How long a detached device may stay before somebody is taken to hold it open.
const DETACH_PATIENCE: Duration = Duration::from_millis(500);

/// Unmounts and detaches everything that is mounted below `folder` or attached from a file below it. Says what
/// it found, a sentence each; the folder's files stay.
pub fn sweep(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    // Releasing one thing may take others along, so look again after each.
    for _ in 0..1000 {
        let devices = loop_devices();
        if let Some(attached) = devices.iter().find(|one| one.backing.starts_with(folder)) {
            let Attached { device: name, backing } = attached;
            found.push(format!("{} attached to {}", backing.display(), name.display()));
            if !device(attached) {
                return found;
            }
            continue;
        }
        let table = mounts();
        let Some(entry) = table.iter().rev().find(|entry| entry.point.starts_with(folder)) else {
            break;
        };
        found.push(format!("{} mounted at {}", entry.source.display(), entry.point.display()));
        if !mount(&entry.point) {
            break;
        }
    }
    found
}

/// Detaches a loop device, and before it all that is mounted from it. True once it is gone.
pub(super) fn device(held: &Attached) -> bool {
    if !is_attached(held) {
        return true;
    }
    while let Some(entry) = mounts().into_iter().rev().find(|entry| stands_on(entry, held)) {
        if !mount(&entry.point) {
            break;
        }
    }
    // Partitions first: a device that still has some stays attached until the last user closes it.
    let _ = try_run(tool("partx").arg("--delete").arg(&held.device));
    let detached = try_run(tool("losetup").arg("--detach").arg(&held.device));
    if until(DETACH_PATIENCE, || !is_attached(held)) {
        return true;
    }
    if revive_and_thaw(held) && until(DETACH_PATIENCE, || !is_attached(held)) {
        return true;
    }
    let reason = detached.err().unwrap_or_else(|| "somebody holds it open".to_string());
    eprintln!(
        "{} is still attached to {}: {reason}",
        held.backing.display(),
        held.device.display()
    );
    false
}

/// Unmounts what is mounted on `point`, and before it all that stands on it. True once it is gone.
pub(super) fn mount(point: &Path) -> bool {
    let is_mounted = || mounts().iter().any(|entry| entry.point == point);
    if !is_mounted() {
        return true;
    }
    for attached in loop_devices().iter().filter(|one| one.backing.starts_with(point)) {
        device(attached);
    }
    let below = |entry: &MountEntry| entry.point != point && entry.point.starts_with(point);
    while let Some(entry) = mounts().into_iter().rev().find(below) {
        if !mount(&entry.point) {
            break;
        }
    }
    // Unmounted while frozen, a filesystem would live on unseen and keep its device.
    thaw(point);
    if until(UNMOUNT_PATIENCE, || try_run(tool("umount").arg(point)).is_ok() || !is_mounted()) {
        return true;
    }
    eprintln!("{} is busy: it is taken out of sight and goes with its last user", point.display());
    try_run(tool("umount").arg("--lazy").arg(point)).is_ok()
}

fn is_attached(held: &Attached) -> bool {
    let name = held.device.file_name().unwrap_or_default().to_string_lossy();
    // The number may by now belong to another file.
    attached(&name).is_some_and(|now| now == *held)
}

fn stands_on(entry: &MountEntry, held: &Attached) -> bool {
    let source = entry.source.to_string_lossy();
    let Some(rest) = source.strip_prefix(&*held.device.to_string_lossy()) else {
        return false;
    };
    rest.is_empty() || rest.starts_with('p')
}

/// A filesystem that was unmounted while frozen keeps its device for ever. Mounting it again reaches it once more.
fn revive_and_thaw(held: &Attached) -> bool {
    let folder = TempDir::new("revive");
    if try_run(tool("mount").arg(&held.device).arg(folder.path())).is_err() {
        return false;
    }
    thaw(folder.path());
    try_run(tool("umount").arg(folder.path())).is_ok()
}

fn until(at_most: Duration, mut is_done: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    loop {
        if is_done() {
            return true;
        }
        if start.elapsed() > at_most {
            return false;
        }
        thread::sleep(Duration::from_millis(10));
    }
}

#[cfg(test)]
mod tests {
    use super::super::{
        Filesystem, LoopDevice, LoopOptions, Mount, Needs, make_image, require, run,
    };
    use super::*;

    #[test]
    fn a_filesystem_unmounted_while_frozen_is_found_again() {
        let Some(scratch) = require(&Needs::root().filesystems(&["ext4"])) else {
            return;
        };
        let image = scratch.join("lost.img");
        make_image("ext4", &image, 16 << 20);
        let device = LoopDevice::attach(&image, &LoopOptions::default());
        let mount = Mount::new(device.path(), "");
        mount.freeze();
        run(tool("umount").arg(mount.path()));
        drop(device);
        assert!(!loop_devices().iter().any(|attached| attached.backing == image));
    }

    #[test]
    fn an_outer_filesystem_takes_along_what_stands_on_it() {
        let Some(scratch) = require(&Needs::root().filesystems(&["xfs", "ext4"])) else {
            return;
        };
        let outer = Filesystem::xfs(320 << 20);
        let image = outer.path().join("inner.img");
        make_image("ext4", &image, 16 << 20);
        let inner = Filesystem::mount(&image);
        let innermost = inner.path().join("innermost.img");
        make_image("ext4", &innermost, 4 << 20);
        let last = Filesystem::mount(&innermost);
        let points = [outer.path(), inner.path(), last.path()].map(Path::to_path_buf);
        drop(outer);
        assert!(!mounts().iter().any(|entry| points.contains(&entry.point)));
        drop((inner, last, scratch));
    }

    #[test]
    fn a_sweep_names_and_clears_what_was_left() {
        let Some(scratch) = require(&Needs::root().filesystems(&["ext4"])) else {
            return;
        };
        let image = scratch.join("left.img");
        make_image("ext4", &image, 16 << 20);
        let point = scratch.join("mnt");
        std::fs::create_dir(&point).unwrap();
        run(tool("mount").args(["-o", "loop"]).arg(&image).arg(&point));
        run(tool("fsfreeze").arg("--freeze").arg(&point));
        let found = sweep(scratch.path());
        assert!(found[0].contains("left.img attached to /dev/loop"), "{found:?}");
        assert!(sweep(scratch.path()).is_empty());
    }
}
