//! Partition images as images: made by partclone and the usual tools or by us, read by every command, judged by `e2fsck`
//! and `cmp`.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde_json::Value;
use testkit::host::{LoopDevice, LoopOptions, Needs, Outcome, TempDir, fsck, require, run, tool};

use crate::support::{
    MIB, Part, assert_refused, assert_same, blockprint, copy, make, make_noise, names,
};

const SIZE: u64 = 24 * MIB;

/// A filesystem with noise in its free blocks, and what stock partclone makes of it.
struct Made {
    scratch: TempDir,
    disk: PathBuf,
    plain: PathBuf,
}

/// Tools, and how they are called, that pack standard input.
const PACKERS: [(&str, &[&str], &str); 3] = [
    ("pigz", &["-1c"], "gz"),
    ("zstd", &["-q", "-T0", "-c"], "zst"),
    ("lz4", &["-q", "-c"], "lz4"),
];

impl Made {
    fn new() -> Option<Self> {
        let needs = Needs::root().tools(&["partclone.ext4", "mkfs.ext4", "pigz", "zstd", "lz4"]);
        let scratch = require(&needs)?;
        let tree = scratch.join("tree");
        fs::create_dir(&tree).unwrap();
        make_noise(&tree.join("noise"), 1, 3 * MIB + 77);
        fs::write(tree.join("text"), "all is as it was\n".repeat(90_000)).unwrap();
        let disk = scratch.join("disk.img");
        make_noise(&disk, 2, SIZE);
        let mut mkfs = tool("mkfs.ext4");
        mkfs.args(["-q", "-F", "-b", "1024", "-E", "nodiscard", "-d"]).arg(&tree).arg(&disk);
        run(&mut mkfs);
        let plain = scratch.join("web-2026-03-04T0506.apt.ext4.uncompressed");
        let device = LoopDevice::attach(&disk, &LoopOptions::default());
        let mut partclone = tool("partclone.ext4");
        partclone.args(["-c", "-s"]).arg(device.path()).arg("-L").arg(scratch.join("log"));
        run(partclone.stdout(File::create(&plain).unwrap()));
        Some(Made { scratch, disk, plain })
    }

    /// The image, or another file, as one of the [`PACKERS`] packs it.
    fn packed(&self, file: &Path, (program, options, end): (&str, &[&str], &str)) -> PathBuf {
        let name = file.file_name().unwrap().to_str().unwrap();
        let stem = name.strip_suffix(".uncompressed").unwrap_or(name);
        let path = self.scratch.join(format!("{stem}.{end}"));
        let mut packer = tool(program);
        packer.args(options).stdin(File::open(file).unwrap());
        run(packer.stdout(File::create(&path).unwrap()));
        path
    }

    /// What our own backup makes of the same filesystem.
    fn ours(&self, compression: &str) -> PathBuf {
        let folder = self.scratch.join(format!("ours-{compression}"));
        fs::create_dir(&folder).unwrap();
        let backup = blockprint(&self.scratch).arg("backup").arg(&self.disk).arg(&folder);
        backup.args(["--name", "web", "--compression", compression]).run().expect_ok();
        let names = names(&folder);
        assert_eq!(names.len(), 1, "{names:?}");
        folder.join(&names[0])
    }

    /// One image of each kind that there is.
    fn all(&self) -> Vec<PathBuf> {
        let mut all = vec![self.plain.clone()];
        all.extend(PACKERS.map(|packer| self.packed(&self.plain, packer)));
        all.extend(["gz", "zst", "lz4", "uncompressed"].map(|compression| self.ours(compression)));
        all
    }

    fn info(&self, image: &Path) -> Value {
        let info = blockprint(&self.scratch).args(["info", "--map", "--json"]).arg(image);
        info.run().expect_ok().result()
    }

    /// Panics unless all used blocks of `copy` are those of the disk, and e2fsck likes it.
    fn assert_is_copy(&self, copy: &Path) {
        fsck::ext4(copy);
        let compared = blockprint(&self.scratch).arg("compare").arg(&self.plain).arg(copy);
        compared.run().expect_ok();
    }
}

#[test]
fn images_of_all_tools_are_told_read_and_copied_alike() {
    let Some(made) = Made::new() else { return };
    let expected = made.info(&made.plain);
    for (number, image) in made.all().iter().enumerate() {
        let facts = made.info(image);
        assert_eq!(facts["format"], "partclone", "{}", image.display());
        assert_eq!(facts["size_bytes"], SIZE);
        assert_eq!(facts["map"], expected["map"]);
        assert_eq!(facts["partition"], expected["partition"]);
        assert_eq!(facts["extents"]["data"]["bytes"], facts["partition"]["used_bytes"]);
        assert_eq!(facts["extents"]["zero"]["bytes"], 0);
        let end = image.extension().unwrap().to_str().unwrap();
        assert_eq!(facts["packed"]["compression"], end);
        let copied = made.scratch.join(format!("copy{number}.img"));
        copy(&made.scratch, image, &copied).run().expect_ok();
        made.assert_is_copy(&copied);
        let compare = blockprint(&made.scratch).arg("compare").arg(image).arg(&made.disk);
        let report = compare.arg("--json").run().expect_ok().result();
        assert_eq!(report["compared_bytes"], facts["partition"]["used_bytes"], "{report}");
        fs::remove_file(copied).unwrap();
    }
    assert_eq!(expected["partition"]["filesystem"], "EXTFS");
    assert_eq!(expected["partition"]["version"], 2);
    assert_eq!(expected["packed"]["access"], "direct");
    let said = blockprint(&made.scratch).arg("info").arg(&made.plain).run().expect_ok().stdout;
    for part in ["partclone (file)", "EXTFS, ", "format 0002", "uncompressed: any part can be read"]
    {
        assert!(said.contains(part), "{part} is not in\n{said}");
    }
}

#[test]
fn what_is_unspecified_is_left_alone_by_a_sync_and_discarded_by_a_copy() {
    let Some(made) = Made::new() else { return };
    let image = made.ours("zst");
    let facts = made.info(&image);
    let target = made.scratch.join("target.img");
    for command in ["sync", "copy"] {
        make_noise(&target, 3, SIZE);
        let before = fs::read(&target).unwrap();
        let device = LoopDevice::attach(&target, &LoopOptions::default());
        let call = blockprint(&made.scratch).arg(command).arg(&image).arg(device.path());
        call.run().expect_ok();
        drop(device);
        made.assert_is_copy(&target);
        let after = fs::read(&target).unwrap();
        let mut free_bytes = 0;
        for run in facts["map"].as_array().unwrap() {
            if run["kind"] != "unspecified" {
                continue;
            }
            let number = |name: &str| run[name].as_u64().unwrap() as usize;
            let range = number("offset")..number("offset") + number("len_bytes");
            let pairs = after[range.clone()].iter().zip(&before[range.clone()]);
            // What was discarded of a loop device reads as zeroes.
            let is_kept = |now: &u8, before: &u8| now == before || (command == "copy" && *now == 0);
            let kept = pairs.filter(|(now, before)| is_kept(now, before)).count();
            assert_eq!(kept, range.len(), "{command} wrote to {range:?}");
            free_bytes += range.len() as u64;
        }
        assert!(free_bytes > 5 * MIB, "{free_bytes}");
    }
}

#[test]
fn a_backup_is_made_into_a_store_synced_and_read_in_parts() {
    let Some(made) = Made::new() else { return };
    let images = [made.ours("gz"), made.packed(&made.plain, PACKERS[1])];
    for (number, image) in images.iter().enumerate() {
        let index = made.scratch.join(format!("web{number}.caibx"));
        let store = made.scratch.join("store.castr");
        let make = blockprint(&made.scratch).arg("make").arg(&index).arg(image);
        make.arg("--store").arg(&store).run().expect_ok();
        let compare = blockprint(&made.scratch).arg("compare").arg(&index).arg(image);
        compare.arg("--store").arg(&store).run().expect_ok();
        let verify = blockprint(&made.scratch).arg("verify").arg(&index).arg(image);
        verify.run().expect_ok();
        let target = made.scratch.join(format!("target{number}.img"));
        make_noise(&target, 4, SIZE);
        blockprint(&made.scratch).arg("sync").arg(image).arg(&target).run().expect_ok();
        made.assert_is_copy(&target);
        // The first blocks are in use, and so is the middle of a run that is longer than this.
        let map = made.info(image)["map"].clone();
        let mut runs = map.as_array().unwrap().iter().filter(|run| run["kind"] == "data");
        let run = runs.find(|run| run["len_bytes"].as_u64() > Some(MIB)).unwrap();
        let offset = run["offset"].as_u64().unwrap() + 777;
        let part = made.scratch.join("part");
        let cat = blockprint(&made.scratch).args(["cat", "--force", "-l", "700001", "-o"]);
        cat.arg(offset.to_string()).arg(image).arg(&part).run().expect_ok();
        let mut expected = vec![0; 700_001];
        File::open(&made.disk).unwrap().read_exact_at(&mut expected, offset).unwrap();
        assert!(fs::read(&part).unwrap() == expected);
    }
}

#[test]
fn what_a_foreign_file_needs_is_made_once_and_again_when_it_has_changed() {
    let Some(made) = Made::new() else { return };
    let kept = made.scratch.join("cache");
    for packer in PACKERS {
        let image = made.packed(&made.plain, packer);
        let read = || {
            let part = made.scratch.join("part");
            let cat = blockprint(&made.scratch).args(["cat", "--force", "-l", "4096"]);
            cat.arg(&image).arg(part).run().expect_ok()
        };
        let is_made = |outcome: &Outcome| outcome.stderr.contains("read once as a whole");
        let access = made.info(&image)["packed"]["access"].clone();
        if access == "direct" {
            assert!(!is_made(&read()) && !kept.exists());
            continue;
        }
        assert_eq!(access, "missing");
        assert!(!kept.exists(), "looking at it makes nothing");
        assert!(is_made(&read()), "{}", image.display());
        let first = names(&kept);
        assert_eq!(first.len(), 1);
        let metadata = fs::metadata(kept.join(&first[0])).unwrap();
        assert_eq!(metadata.mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(&kept).unwrap().permissions().mode() & 0o777, 0o700);
        assert!(!is_made(&read()));
        assert_eq!(made.info(&image)["packed"]["access"], "kept");
        // Written to since, as far as anybody can tell.
        let later = SystemTime::now() + Duration::from_secs(5);
        OpenOptions::new().write(true).open(&image).unwrap().set_modified(later).unwrap();
        assert_eq!(made.info(&image)["packed"]["access"], "missing");
        assert!(is_made(&read()));
        let second = names(&kept);
        assert!(second.len() == 1 && second != first, "{first:?} {second:?}");
        // Cut off, as a power cut could leave it on some filesystems.
        OpenOptions::new().write(true).open(kept.join(&second[0])).unwrap().set_len(999).unwrap();
        assert!(is_made(&read()));
        assert!(!is_made(&read()));
        fs::remove_dir_all(&kept).unwrap();
    }
}

#[test]
fn a_folder_that_takes_nothing_is_no_obstacle() {
    let Some(made) = Made::new() else { return };
    let image = made.packed(&made.plain, PACKERS[1]);
    let no_folder = made.scratch.join("no-folder");
    fs::write(&no_folder, "a file").unwrap();
    let copied = made.scratch.join("copy.img");
    let temporary = made.scratch.join("tmp");
    fs::create_dir(&temporary).unwrap();
    let outcome = copy(&made.scratch, &image, &copied)
        .env("BLOCKPRINT_CACHE", &no_folder)
        .env("TMPDIR", &temporary)
        .run()
        .expect_ok();
    assert!(outcome.stderr.contains("for this time only"), "{outcome}");
    assert!(names(&temporary).is_empty());
    made.assert_is_copy(&copied);
}

#[test]
fn a_compressed_image_of_all_bytes_is_an_image_too() {
    let Some(made) = Made::new() else { return };
    let raw = made.scratch.join("swap-2026-03-04T0506.apt.dd.uncompressed");
    make(&raw, 5, &[Part::Noise(3 * MIB), Part::Zeroes(MIB), Part::Noise(5000)]);
    assert_eq!(made.info(&raw)["format"], "raw");
    for packer in PACKERS {
        let image = made.packed(&raw, packer);
        let facts = made.info(&image);
        assert_eq!(facts["format"], "packed");
        assert_eq!(facts["size_bytes"], fs::metadata(&raw).unwrap().len());
        assert_eq!(facts["partition"], Value::Null);
        let copied = made.scratch.join("copy.img");
        copy(&made.scratch, &image, &copied).arg("--force").run().expect_ok();
        assert_same(&raw, &copied);
        // Under another name it is what its prefix says.
        let renamed = made.scratch.join("renamed");
        fs::rename(&image, &renamed).unwrap();
        let target = made.scratch.join("other.img");
        let prefixed = format!("packed:{}", renamed.display());
        let copy = blockprint(&made.scratch).arg("copy").args([prefixed.as_str()]).arg(&target);
        copy.arg("--force").run().expect_ok();
        assert_same(&raw, &target);
    }
}

#[test]
fn names_and_first_bytes_have_to_agree() {
    let Some(made) = Made::new() else { return };
    let format = |path: &Path| made.info(path)["format"].clone();
    let packed = made.packed(&made.plain, PACKERS[2]);
    for (source, name, expected) in [
        (&made.plain, "a.pcl", "partclone"),
        (&made.plain, "a.partclone", "partclone"),
        (&made.plain, "sda1.ext4-ptcl-img", "partclone"),
        (&packed, "sda1.ext4-ptcl-img.gz", "partclone"),
        (&made.plain, "a.img", "raw"),
        (&packed, "a", "raw"),
    ] {
        let path = made.scratch.join(name);
        fs::copy(source, &path).unwrap();
        assert_eq!(format(&path), expected, "{name}");
    }
    assert_eq!(made.info(&made.scratch.join("a.img"))["looks_like"], "partclone");
    let other = made.scratch.join("other");
    fs::write(&other, vec![7; 70_000]).unwrap();
    let text = made.packed(&other, PACKERS[0]);
    assert_eq!(format(&text), "raw", "compressed, and no partition image");
    let info = |path: &Path| blockprint(&made.scratch).arg("info").arg(path).run();
    // The name of a backup on something else would else be copied as if it were the disk.
    for name in ["a-2026-03-04T0506.apt.ext4.gz", "a-2026-03-04T0506.apt.dd.zst"] {
        let path = made.scratch.join(name);
        fs::write(&path, vec![7; 9000]).unwrap();
        assert_refused(info(&path), 18, &["does not begin like one", "raw:"]);
        let prefixed = format!("raw:{}", path.display());
        assert_eq!(format(Path::new(&prefixed)), "raw");
    }
    let unfinished = made.scratch.join("a-2026-03-04T0506.apt.ext4.gz.inprogress");
    fs::copy(&packed, &unfinished).unwrap();
    assert_refused(info(&unfinished), 18, &["not finished"]);
    let wrong = format!("partclone:{}", other.display());
    assert_refused(info(Path::new(&wrong)), 18, &["partclone-image"]);
}

#[test]
fn a_backup_is_no_target_and_gets_another_name_in_a_folder() {
    let Some(made) = Made::new() else { return };
    let before = fs::read(&made.plain).unwrap();
    let sync = blockprint(&made.scratch).arg("sync").arg(&made.disk).arg(&made.plain).run();
    assert_refused(sync, 17, &["is a backup"]);
    let prefixed = format!("partclone:{}", made.scratch.join("new.pcl").display());
    let copied = blockprint(&made.scratch).arg("copy").arg(&made.disk).arg(&prefixed).run();
    assert_refused(copied, 17, &["blockprint backup"]);
    assert!(fs::read(&made.plain).unwrap() == before);
    let folder = made.scratch.join("folder");
    fs::create_dir(&folder).unwrap();
    for command in ["copy", "sync"] {
        blockprint(&made.scratch).arg(command).arg(&made.plain).arg(&folder).run().expect_ok();
        assert_eq!(names(&folder), ["web-2026-03-04T0506.img"]);
        made.assert_is_copy(&folder.join("web-2026-03-04T0506.img"));
        fs::remove_file(folder.join("web-2026-03-04T0506.img")).unwrap();
    }
}

#[test]
fn a_damaged_block_stops_a_copy_with_its_position() {
    let Some(made) = Made::new() else { return };
    let len = fs::metadata(&made.plain).unwrap().len();
    let damaged = made.scratch.join("damaged.pcl");
    for offset in [3, 60, 0x6b, 200, len / 2, len - 2] {
        fs::copy(&made.plain, &damaged).unwrap();
        let file = OpenOptions::new().read(true).write(true).open(&damaged).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, offset).unwrap();
        file.write_all_at(&[byte[0] ^ 0x10], offset).unwrap();
        let source = format!("partclone:{}", damaged.display());
        let target = made.scratch.join("target.img");
        let copied = copy(&made.scratch, Path::new(&source), &target).arg("--json").run();
        let outcome = copied.expect_exit(18);
        let place = &outcome.events("error")[0]["location"];
        let start = place["offset"].as_u64().unwrap();
        let end = start + place["len_bytes"].as_u64().unwrap();
        assert!(start <= offset && offset < end, "{offset}: {outcome}");
        assert!(!target.exists());
    }
    File::options().write(true).open(&damaged).unwrap().set_len(len - 1).unwrap();
    let copied = copy(&made.scratch, &damaged, &made.scratch.join("target.img")).run();
    assert_refused(copied, 18, &["is damaged"]);
}
