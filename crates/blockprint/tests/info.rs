//! `blockprint info`: each fact against the tool of the system that knows it.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use testkit::host::{
    Filesystem, LoopDevice, LoopOptions, Mount, Namespace, Needs, Outcome, TempDir, make_image,
    require, run, tool,
};

use crate::support::{
    KIB, MIB, Part, allocated, assert_refused, attach_two_partitions, blockprint, make, make_noise,
};

fn info(scratch: &TempDir, image: &Path) -> Outcome {
    blockprint(scratch).arg("info").arg(image).run().expect_ok()
}

fn facts(scratch: &TempDir, image: &Path) -> Value {
    blockprint(scratch).args(["info", "--map", "--json"]).arg(image).run().expect_ok().result()
}

/// Data, a hole, data, a hole.
const SHAPE: [Part; 4] =
    [Part::Noise(256 * KIB), Part::Hole(MIB), Part::Noise(64 * KIB), Part::Hole(3 * MIB)];
const SIZE: u64 = 4 * MIB + 320 * KIB;

#[test]
fn what_is_told_of_a_file_is_what_stat_and_du_tell() {
    let scratch = TempDir::new("info");
    let image = scratch.join("disk.img");
    make(&image, 120, &SHAPE);
    let facts = facts(&scratch, &image);
    let stat = run(tool("stat").args(["--format=%s %o"]).arg(&image));
    let du = run(tool("du").args(["--block-size=1"]).arg(&image));
    let du: u64 = du.split_whitespace().next().unwrap().parse().unwrap();
    assert_eq!(facts["image"], image.display().to_string());
    assert_eq!(facts["format"], "raw");
    assert_eq!(facts["medium"], "file");
    let told = format!("{} {}\n", facts["size_bytes"], facts["block_size_bytes"]);
    assert_eq!(told, stat);
    assert_eq!(facts["allocated_bytes"], du);
    assert_eq!(facts["sector_size_bytes"], Value::Null);
    assert_eq!(facts["looks_like"], Value::Null);
    assert_eq!(facts["held_by"], json!({ "mounts": [], "devices": [], "swaps": [] }));
}

#[test]
fn the_map_covers_the_image_and_agrees_with_filefrag() {
    let Some(scratch) = require(&Needs::root().filesystems(&["xfs"]).tools(&["filefrag"])) else {
        return;
    };
    let filesystem = Filesystem::xfs(320 * MIB);
    let image = filesystem.path().join("disk.img");
    make(&image, 121, &SHAPE);
    let facts = facts(&scratch, &image);
    let run_of =
        |offset: u64, len: u64, kind| json!({ "offset": offset, "len_bytes": len, "kind": kind });
    let expected = json!([
        run_of(0, 256 * KIB, "data"),
        run_of(256 * KIB, MIB, "zero"),
        run_of(MIB + 256 * KIB, 64 * KIB, "data"),
        run_of(MIB + 320 * KIB, 3 * MIB, "zero"),
    ]);
    assert_eq!(facts["map"], expected);
    assert_eq!(facts["extents"]["data"], json!({ "extents": 2, "bytes": 320 * KIB }));
    assert_eq!(facts["extents"]["zero"], json!({ "extents": 2, "bytes": 4 * MIB }));
    assert_eq!(facts["extents"]["unspecified"], json!({ "extents": 0, "bytes": 0 }));
    let report = run(tool("filefrag").args(["-v", "-b1"]).arg(&image));
    let is_extent = |line: &&str| line.trim_start().starts_with(|c: char| c.is_ascii_digit());
    let starts: Vec<u64> = report
        .lines()
        .filter(is_extent)
        .map(|line| line.split([':', '.']).nth(1).unwrap().trim().parse().unwrap())
        .collect();
    assert_eq!(starts, [0, MIB + 256 * KIB], "{report}");
    let said = blockprint(&scratch).args(["info", "--map"]).arg(&image).run().expect_ok().stdout;
    let lines: Vec<Vec<&str>> = said
        .lines()
        .skip_while(|line| !line.trim_start().starts_with("offset"))
        .skip(1)
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(lines.len(), 4, "{said}");
    assert_eq!(lines[1], [(256 * KIB).to_string(), MIB.to_string(), "zero".to_string()]);
}

#[test]
fn people_see_the_same_facts_in_words() {
    let scratch = TempDir::new("info");
    let image = scratch.join("disk.img");
    make(&image, 122, &SHAPE);
    let said = info(&scratch, &image).stdout;
    let field = |name: &str| {
        let line = said.lines().find(|line| line.starts_with(name));
        line.unwrap_or_else(|| panic!("no line {name} in\n{said}"))[12..].trim().to_string()
    };
    assert_eq!(field("image"), image.display().to_string());
    assert_eq!(field("format"), "raw (file)");
    assert_eq!(field("size"), format!("4.3 MiB ({SIZE} bytes)"));
    assert!(field("allocated").contains(&format!("({} bytes)", allocated(&image))));
    assert!(field("data").ends_with("in 2 extents"), "{said}");
    assert_eq!(field("held by"), "nobody");
    assert!(!said.contains("offset"), "the map was not asked for:\n{said}");
}

#[test]
fn an_empty_file_is_an_image_too() {
    let scratch = TempDir::new("info");
    let image = scratch.join("empty");
    fs::write(&image, "").unwrap();
    let facts = facts(&scratch, &image);
    assert_eq!(facts["size_bytes"], 0);
    assert_eq!(facts["map"], json!([]));
}

#[test]
fn a_device_tells_its_sectors_as_blockdev_does() {
    let Some(scratch) = require(&Needs::root().tools(&["blockdev"])) else { return };
    let disk = scratch.join("disk");
    make_noise(&disk, 123, 8 * MIB);
    for sector_bytes in [512, 4096] {
        let options = LoopOptions { sector_bytes, ..LoopOptions::default() };
        let device = LoopDevice::attach(&disk, &options);
        let facts = facts(&scratch, device.path());
        let told =
            run(tool("blockdev").args(["--getsize64", "--getss", "--getpbsz"]).arg(device.path()));
        let told: Vec<u64> = told.lines().map(|line| line.parse().unwrap()).collect();
        assert_eq!(told[0], 8 * MIB);
        assert_eq!(facts["medium"], "device");
        assert_eq!(facts["size_bytes"], told[0]);
        assert_eq!(facts["allocated_bytes"], told[0]);
        assert_eq!(facts["sector_size_bytes"], told[1]);
        assert_eq!(facts["block_size_bytes"], told[2]);
    }
}

#[test]
fn a_file_is_held_by_its_loop_device_and_by_what_is_mounted_from_it() {
    let Some(scratch) = require(&Needs::root().filesystems(&["ext4"])) else { return };
    let image = scratch.join("disk.img");
    make_image("ext4", &image, 16 * MIB);
    let filesystem = Filesystem::mount(&image);
    let second = scratch.join("second");
    fs::create_dir(&second).unwrap();
    let _bind = Mount::at(filesystem.path(), &second, "bind");
    let held = facts(&scratch, &image)["held_by"].clone();
    let device = filesystem.device().display().to_string();
    let losetup = run(tool("losetup").args(["--noheadings", "-O", "NAME", "-j"]).arg(&image));
    assert_eq!(held["devices"], json!([{ "device": losetup.trim(), "kind": "loop", "offset": 0 }]));
    let points: Vec<&Value> =
        held["mounts"].as_array().unwrap().iter().map(|mount| &mount["mount_point"]).collect();
    let expected = [filesystem.path(), &second].map(|path| json!(path.display().to_string()));
    assert_eq!(points, expected.iter().collect::<Vec<_>>());
    assert_eq!(held["mounts"][0]["filesystem"], "ext4");
    assert_eq!(held["mounts"][0]["device"], device);
    assert_eq!(held["mounts"][0]["namespace_of_pid"], Value::Null);
    let said = info(&scratch, &image).stdout;
    assert!(said.contains(&format!("mounted at {}", second.display())), "{said}");
    assert!(said.contains(&format!("attached as {device}")), "{said}");
    assert_eq!(facts(&scratch, filesystem.device())["held_by"]["mounts"], held["mounts"]);
}

#[test]
fn a_disk_is_held_by_its_partitions_and_what_is_mounted_from_them() {
    let needs = Needs::root().filesystems(&["ext4"]).tools(&["sfdisk", "partx"]);
    let Some(scratch) = require(&needs) else { return };
    let disk = scratch.join("disk");
    let device = attach_two_partitions(&disk);
    let mount = Mount::new(&device.partition(2), "");
    let held = facts(&scratch, &disk)["held_by"].clone();
    let kinds: Vec<(String, String)> = held["devices"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["device"].as_str().unwrap().into(), one["kind"].as_str().unwrap().into()))
        .collect();
    let expected = [
        (device.path().to_path_buf(), "loop"),
        (device.partition(1), "partition"),
        (device.partition(2), "partition"),
    ];
    let expected = expected.map(|(path, kind)| (path.display().to_string(), kind.to_string()));
    assert_eq!(kinds, expected);
    assert_eq!(held["mounts"][0]["mount_point"], mount.path().display().to_string());
    let first = facts(&scratch, &device.partition(1))["held_by"].clone();
    assert_eq!(first["mounts"], json!([]), "a partition is not held by its neighbour");
}

#[test]
fn a_mount_in_another_namespace_is_told_with_its_process() {
    let Some(scratch) = require(&Needs::root().filesystems(&["ext4"]).tools(&["unshare"])) else {
        return;
    };
    let image = scratch.join("disk.img");
    make_image("ext4", &image, 16 * MIB);
    let device = LoopDevice::attach(&image, &LoopOptions::default());
    let namespace = Namespace::mount(device.path(), "");
    let held = facts(&scratch, &image)["held_by"].clone();
    assert_eq!(held["mounts"][0]["mount_point"], namespace.point().display().to_string());
    assert_eq!(held["mounts"][0]["namespace_of_pid"], namespace.pid());
    let said = info(&scratch, &image).stdout;
    assert!(said.contains(&format!("(in the namespace of process {})", namespace.pid())), "{said}");
}

#[test]
fn another_format_is_recognised_and_taken_as_raw_bytes() {
    let Some(scratch) = require(&Needs::none().tools(&["qemu-img"])) else { return };
    for (format, name) in [("qcow2", "qcow2"), ("vmdk", "VMDK"), ("vhdx", "VHDX"), ("vdi", "VDI")] {
        let image = scratch.join(format);
        run(tool("qemu-img").args(["create", "-q", "-f", format]).arg(&image).arg("8M"));
        assert_eq!(facts(&scratch, &image)["looks_like"], name);
        let said = info(&scratch, &image).stdout;
        assert!(said.contains(&format!("looks like   {name}")), "{said}");
    }
    let noise = scratch.join("noise");
    make_noise(&noise, 124, MIB);
    run(tool("gzip").arg("--keep").arg(&noise));
    assert_eq!(facts(&scratch, &scratch.join("noise.gz"))["looks_like"], "gzip");
}

#[test]
fn what_is_no_image_is_refused() {
    let scratch = TempDir::new("info");
    let call = |path: &Path| blockprint(&scratch).arg("info").arg(path).run();
    assert_refused(call(&scratch.join("nothing")), 10, &["nothing", "No such file"]);
    assert_refused(call(scratch.path()), 17, &["is a folder"]);
}
