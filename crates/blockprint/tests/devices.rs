//! `blockprint devices`: against what lsblk, blkid and the kernel say.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use serde_json::Value;
use testkit::host::{
    Filesystem, LoopDevice, LoopOptions, Mount, Namespace, Needs, TempDir, make_image,
    partition_image, require, run, tool,
};

use crate::support::{MIB, assert_refused, blockprint, make_noise};

/// What is told of one device.
#[track_caller]
fn told(scratch: &TempDir, device: &Path) -> Value {
    let outcome = blockprint(scratch).args(["devices", "--json"]).arg(device).run().expect_ok();
    outcome.result()["devices"][0].clone()
}

/// A file of that size, attached after `fill` has put something into it.
#[track_caller]
fn attached(scratch: &TempDir, name: &str, size: u64, fill: impl FnOnce(&Path)) -> LoopDevice {
    let image = scratch.join(name);
    File::create(&image).and_then(|file| file.set_len(size)).unwrap();
    fill(&image);
    LoopDevice::attach(&image, &LoopOptions::default())
}

fn mkfs(kind: &'static str, options: &'static [&'static str]) -> impl FnOnce(&Path) {
    move |image| drop(run(tool(&format!("mkfs.{kind}")).args(options).arg(image)))
}

/// A field as blkid tells it of the device.
fn blkid(device: &Path, field: &str) -> String {
    let mut command = tool("blkid");
    run(command.args(["-p", "-o", "value", "-s", field]).arg(device)).trim_end().to_string()
}

#[test]
fn filesystems_are_told_as_blkid_tells_them() {
    let needs = Needs::root().filesystems(&["ext4", "xfs", "btrfs"]);
    let needs = needs.tools(&["mkfs.vfat", "mkfs.ntfs", "mkswap", "blkid"]);
    let Some(scratch) = require(&needs) else { return };
    type Case = (&'static str, u64, &'static [&'static str]);
    let cases: [Case; 6] = [
        ("ext4", 8, &["-q", "-F", "-L", "root fs"]),
        ("xfs", 300, &["-q", "-L", "xlabel"]),
        ("btrfs", 128, &["-q", "-L", "b \"quoted\" \\ é"]),
        ("vfat", 8, &["-n", "EFI"]),
        ("ntfs", 8, &["-q", "-F", "-f", "-L", "My: Win #1"]),
        ("swap", 8, &[]),
    ];
    for (kind, mib, options) in cases {
        let device = attached(&scratch, kind, mib * MIB, |image| match kind {
            "swap" => drop(run(tool("mkswap").args(["-L", "sw"]).arg(image))),
            _ => mkfs(kind, options)(image),
        });
        let told = told(&scratch, device.path());
        assert_eq!(told["filesystem"], blkid(device.path(), "TYPE"), "{told}");
        assert_eq!(told["label"], blkid(device.path(), "LABEL"), "{told}");
        assert_eq!(told["uuid"], blkid(device.path(), "UUID"), "{told}");
        assert_eq!(told["size_bytes"], mib * MIB);
        assert_eq!(told["in_use"], false);
        assert_eq!(told["backing_file"], scratch.join(kind).display().to_string());
    }
}

/// Devices that are not of this test come and go meanwhile: only what is below ours is compared.
#[test]
fn names_sizes_types_and_partitions_are_those_of_lsblk() {
    let Some(scratch) = require(&Needs::root().tools(&["sfdisk", "partx", "lsblk"])) else {
        return;
    };
    let image = scratch.join("disk.img");
    let script = "label: dos\nsize=8M\nsize=20M, type=5\nsize=4M, type=83\nsize=5M, type=83\n";
    partition_image(&image, 64 * MIB, script);
    let options = LoopOptions { partitions: true, read_only: true, ..LoopOptions::default() };
    let device = LoopDevice::attach(&image, &options);
    let lsblk =
        run(tool("lsblk").args(["-J", "-b", "-o", "name,size,type,ro,rm"]).arg(device.path()));
    let lsblk: Value = serde_json::from_str(&lsblk).unwrap();
    let theirs = &lsblk["blockdevices"][0];
    let ours = told(&scratch, device.path());
    let words = |device: &Value, size: &str, ro: &str, rm: &str| {
        (
            device["name"].as_str().unwrap().to_string(),
            device[size].as_u64().unwrap(),
            device["type"].as_str().unwrap().to_string(),
            device[ro].as_bool().unwrap(),
            device[rm].as_bool().unwrap(),
        )
    };
    let ours_of = |device: &Value| words(device, "size_bytes", "read_only", "removable");
    let theirs_of = |device: &Value| words(device, "size", "ro", "rm");
    assert_eq!(ours_of(&ours), theirs_of(theirs));
    let all =
        |device: &Value, of: &dyn Fn(&Value) -> _| -> Vec<(String, u64, String, bool, bool)> {
            device["children"].as_array().unwrap().iter().map(of).collect()
        };
    let partitions = all(&ours, &ours_of);
    assert_eq!(partitions, all(theirs, &theirs_of));
    assert_eq!(partitions.len(), 4);
    assert_eq!(ours["table"], "dos");
    assert_eq!(ours["children"][0]["partition"], serde_json::json!({ "number": 1, "offset": MIB }));
}

#[test]
fn a_table_that_the_kernel_did_not_read_is_told() {
    let Some(scratch) = require(&Needs::root().tools(&["sfdisk"])) else { return };
    let image = scratch.join("disk.img");
    partition_image(&image, 16 * MIB, "label: gpt\nsize=8M\n");
    let device = LoopDevice::attach(&image, &LoopOptions::default());
    let told = told(&scratch, device.path());
    assert_eq!((&told["table"], &told["filesystem"]), (&"gpt".into(), &Value::Null));
    let outcome = blockprint(&scratch).arg("devices").arg(device.path()).run().expect_ok();
    assert!(outcome.stdout.contains("gpt table (not read by the kernel)"), "{outcome}");
}

#[test]
fn where_it_is_mounted_is_told_also_below_its_disk_and_the_newest_first() {
    let Some(scratch) = require(&Needs::root().filesystems(&["ext4"]).tools(&["sfdisk", "partx"]))
    else {
        return;
    };
    let disk = crate::support::attach_two_partitions(&scratch.join("disk.img"));
    let first = Mount::new(&disk.partition(2), "");
    let second = Mount::new(&disk.partition(2), "");
    let told = told(&scratch, disk.path());
    assert_eq!(told["in_use"], true);
    assert_eq!(told["held_by"], serde_json::json!([]), "only a partition of it is mounted");
    let places = [second.path(), first.path()].map(|path| path.display().to_string());
    assert_eq!(told["children"][1]["mount_points"], serde_json::json!(places));
    let sentences = places.map(|place| format!("mounted at {place}"));
    assert_eq!(told["children"][1]["held_by"], serde_json::json!(sentences));
    assert_eq!(told["children"][0]["in_use"], false);
}

#[test]
fn a_mount_that_only_another_namespace_sees_is_told() {
    let Some(scratch) = require(&Needs::root().filesystems(&["ext4"]).tools(&["unshare"])) else {
        return;
    };
    let device = attached(&scratch, "fs", 8 * MIB, mkfs("ext4", &["-q", "-F"]));
    let namespace = Namespace::mount(device.path(), "");
    let told = told(&scratch, device.path());
    assert_eq!(told["mount_points"], serde_json::json!([]));
    let sentence = told["held_by"][0].as_str().unwrap();
    let expected = format!(
        "mounted at {} (in the namespace of process {})",
        namespace.point().display(),
        namespace.pid()
    );
    assert_eq!(sentence, expected);
    assert_eq!(told["in_use"], true);
}

#[test]
fn the_last_mount_of_an_ext4_is_told() {
    let Some(scratch) = require(&Needs::root().filesystems(&["ext4"])) else { return };
    let image = scratch.join("fs");
    make_image("ext4", &image, 8 * MIB);
    let mounted = Filesystem::mount(&image);
    let place = mounted.path().display().to_string();
    // It is noted when a file is opened first.
    fs::write(mounted.path().join("file"), "x").unwrap();
    drop(mounted);
    let device = LoopDevice::attach(&image, &LoopOptions::default());
    let told = told(&scratch, device.path());
    // The superblock has 64 bytes for it, a zero at the end included.
    let kept: String = place.chars().take(63).collect();
    assert_eq!(told["last_mount_point"], kept, "{told}");
}

#[test]
fn a_btrfs_of_two_devices_holds_both() {
    let Some(scratch) = require(&Needs::root().filesystems(&["btrfs"])) else { return };
    let blank = |name: &str| attached(&scratch, name, 128 * MIB, |_| {});
    let (a, b) = (blank("a"), blank("b"));
    run(tool("mkfs.btrfs").args(["-q", "-f", "-d", "raid1"]).arg(a.path()).arg(b.path()));
    run(tool("btrfs").args(["device", "scan"]).arg(a.path()).arg(b.path()));
    let mount = Mount::new(a.path(), "");
    let place = format!("mounted at {}", mount.path().display());
    for device in [&a, &b] {
        assert_eq!(told(&scratch, device.path())["held_by"], serde_json::json!([place]));
    }
}

#[test]
fn swap_that_is_used_and_a_loop_device_on_a_loop_device_are_told() {
    let Some(scratch) = require(&Needs::root().tools(&["mkswap", "swapon", "swapoff"])) else {
        return;
    };
    /// Swapped to; no more when dropped.
    struct Swap(PathBuf);
    impl Drop for Swap {
        fn drop(&mut self) {
            run(tool("swapoff").arg(&self.0));
        }
    }
    let below = attached(&scratch, "swap", 8 * MIB, |image| drop(run(tool("mkswap").arg(image))));
    let above = LoopDevice::attach(below.path(), &LoopOptions::default());
    let attached = format!("attached as {}", above.path().display());
    assert_eq!(told(&scratch, below.path())["held_by"], serde_json::json!([attached]));
    assert_eq!(told(&scratch, above.path())["in_use"], false);
    run(tool("swapon").arg(above.path()));
    let _swap = Swap(above.path().to_path_buf());
    let told = told(&scratch, above.path());
    assert_eq!(told["held_by"], serde_json::json!(["used for swap"]));
    assert_eq!(told["mount_points"], serde_json::json!(["[SWAP]"]));
}

#[test]
fn the_list_has_what_is_attached_and_shows_no_control_characters() {
    let Some(scratch) = require(&Needs::root().tools(&["mkfs.ext4"])) else { return };
    let label = "a\u{1b}[2Jé";
    let device = attached(&scratch, "fs", 8 * MIB, |image| {
        run(tool("mkfs.ext4").args(["-q", "-F", "-L", label]).arg(image));
    });
    let name = device.path().file_name().unwrap().to_string_lossy().into_owned();
    let outcome = blockprint(&scratch).arg("devices").run().expect_ok();
    let line = outcome.stdout.lines().find(|line| line.split_whitespace().next() == Some(&name));
    let line = line.unwrap_or_else(|| panic!("{name} is not listed:\n{outcome}"));
    assert!(line.contains("a\\u{1b}[2Jé") && line.contains("8 MiB"), "{line}");
    assert!(!outcome.stdout.contains('\u{1b}'));
    let outcome = blockprint(&scratch).args(["devices", "--json"]).run().expect_ok();
    let result = outcome.result();
    let listed = result["devices"].as_array().unwrap();
    let ours = listed.iter().find(|device| device["name"] == name.as_str()).unwrap();
    assert_eq!(ours["label"], label);
    let all = blockprint(&scratch).args(["devices", "--all", "--json"]).run().expect_ok();
    assert!(all.result()["devices"].as_array().unwrap().len() >= listed.len());
}

#[test]
fn what_is_no_block_device_is_refused() {
    let scratch = TempDir::new("devices");
    let file = scratch.join("file");
    make_noise(&file, 1, 4096);
    let call = |path: &Path| blockprint(&scratch).arg("devices").arg(path).run();
    assert_refused(call(&file), 17, &["is no block device"]);
    assert_refused(call(Path::new("/dev/null")), 17, &["is no block device"]);
    assert_refused(call(&scratch.join("missing")), 10, &["missing"]);
}
