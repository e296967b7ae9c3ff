//! `blockprint backup`: what an image is called and holds, what is refused, and what is left when it ends early.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use testkit::host::{
    Filesystem, LoopDevice, LoopOptions, Mount, Needs, Program, TempDir, require, run, tool,
};

use crate::support::{
    KIB, MIB, Part, assert_refused, assert_same, blockprint, make, names, overwrite, until_stopped,
};

/// What most of these tests need.
pub(crate) fn needs() -> Needs {
    Needs::root().tools(&["mkfs.ext4", "partclone.ext4", "blkid", "gzip", "zstd", "lz4"])
}

/// A file of `size_bytes` with an ext4 called `Ada home`, and in it files that can and that cannot be compressed.
#[track_caller]
pub(crate) fn make_ext4(scratch: &TempDir, name: &str, size_bytes: u64) -> PathBuf {
    let (path, content) = (scratch.join(name), scratch.join(format!("{name}.content")));
    fs::create_dir_all(content.join("folder")).unwrap();
    make(&content.join("noise"), 7, &[Part::Noise(3 * MIB + 11), Part::Hole(MIB)]);
    fs::write(content.join("folder/text"), "the same words again and again\n".repeat(50_000))
        .unwrap();
    for number in 0..40 {
        fs::write(content.join(format!("folder/{number}")), number.to_string().repeat(99)).unwrap();
    }
    File::create(&path).unwrap().set_len(size_bytes).unwrap();
    run(tool("mkfs.ext4").args(["-q", "-L", "Ada home", "-d"]).arg(&content).arg(&path));
    fs::remove_dir_all(content).unwrap();
    path
}

#[track_caller]
pub(crate) fn attach(path: &Path) -> LoopDevice {
    LoopDevice::attach(path, &LoopOptions::default())
}

/// `blockprint backup SOURCE FOLDER --json`, to which options can be added.
pub(crate) fn backup(scratch: &TempDir, source: &Path, folder: &Path) -> Program {
    blockprint(scratch).arg("backup").arg("--json").arg(source).arg(folder)
}

/// Makes an image, and says where it is.
#[track_caller]
pub(crate) fn backed_up(scratch: &TempDir, source: &Path, options: &[&str]) -> PathBuf {
    let result = backup(scratch, source, scratch.path()).args(options).run().expect_ok().result();
    PathBuf::from(result["destination"].as_str().unwrap())
}

/// What partclone itself writes of an ext4.
#[track_caller]
pub(crate) fn stream_of_partclone(device: &Path, to: &Path) {
    let mut command = tool("partclone.ext4");
    command.arg("-c").arg("-s").arg(device).stdout(File::create(to).unwrap());
    assert!(command.stderr(Stdio::null()).status().unwrap().success());
}

/// Has a compression's own tool unpack an image.
#[track_caller]
fn unpack(program: &str, image: &Path, to: &Path) {
    let mut command = tool(program);
    let status = command.arg("-dc").arg(image).stdout(File::create(to).unwrap()).status();
    assert!(status.unwrap().success(), "{program} cannot unpack {}", image.display());
}

/// A new, empty folder.
#[track_caller]
fn folder(scratch: &TempDir) -> PathBuf {
    let folder = scratch.join("images");
    fs::create_dir(&folder).unwrap();
    folder
}

#[test]
fn an_image_is_called_by_label_and_time_and_is_its_owners_alone() {
    let Some(scratch) = require(&needs()) else { return };
    let (device, folder) = (attach(&make_ext4(&scratch, "disk", 16 * MIB)), folder(&scratch));
    let local = |zone: &str| run(tool("date").env("TZ", zone).arg("+%Y-%m-%dT%H%M"));
    let before = local("Asia/Kolkata");
    let outcome = backup(&scratch, device.path(), &folder).env("TZ", "Asia/Kolkata").run();
    let result = outcome.expect_ok().result();
    let after = local("Asia/Kolkata");
    let names = names(&folder);
    let possible = [before, after].map(|time| format!("Ada home-{}.apt.ext4.zst", time.trim()));
    assert!(names.len() == 1 && possible.contains(&names[0]), "{names:?} is not of {possible:?}");
    let metadata = fs::metadata(folder.join(&names[0])).unwrap();
    assert_eq!(metadata.permissions().mode() & 0o7777, 0o600);
    assert_eq!(result["destination"], folder.join(&names[0]).to_str().unwrap());
    assert_eq!(result["image_bytes"], metadata.size());
    assert_eq!(result["device_bytes"], 16 * MIB);
    assert_eq!(result["variant"], "ext4");
    assert_eq!(result["label"], "Ada home");
    assert_eq!(result["by_partclone"], false);
    let used = result["used_bytes"].as_u64().unwrap();
    assert!(used > 3 * MIB && used < 16 * MIB, "{used} bytes");
}

#[test]
fn what_each_compressions_own_tool_unpacks_is_what_partclone_writes() {
    let Some(scratch) = require(&needs().tools(&["partclone.chkimg"])) else { return };
    let device = attach(&make_ext4(&scratch, "disk", 24 * MIB));
    let (theirs, ours) = (scratch.join("theirs"), scratch.join("ours"));
    stream_of_partclone(device.path(), &theirs);
    for (compression, program) in
        [("gz", "gzip"), ("zst", "zstd"), ("lz4", "lz4"), ("uncompressed", "cat")]
    {
        let options = ["--verify", "--compression", compression, "--name", compression];
        let image = backed_up(&scratch, device.path(), &options);
        match program {
            "cat" => assert!(fs::copy(&image, &ours).is_ok()),
            program => unpack(program, &image, &ours),
        }
        assert_same(&ours, &theirs);
        if program == "cat" {
            run(tool("partclone.chkimg").arg("-s").arg(&image));
        }
    }
}

#[test]
fn the_number_of_threads_makes_no_difference() {
    let Some(scratch) = require(&needs()) else { return };
    let disk = make_ext4(&scratch, "disk", 24 * MIB);
    let one = backed_up(&scratch, &disk, &["--name", "one", "--threads", "1"]);
    let many = backed_up(&scratch, &disk, &["--name", "many", "--threads", "7"]);
    assert_same(&one, &many);
}

#[test]
fn a_mounted_partition_is_refused_with_its_mount_point() {
    let Some(scratch) = require(&needs().filesystems(&["ext4"])) else { return };
    let (device, folder) = (attach(&make_ext4(&scratch, "disk", 16 * MIB)), folder(&scratch));
    let mount = Mount::new(device.path(), "ro");
    let place = format!("mounted at {}", mount.path().display());
    let outcome = blockprint(&scratch).arg("backup").arg(device.path()).arg(&folder).run();
    assert_refused(outcome, 13, &[&place, "unmount"]);
    assert!(names(&folder).is_empty());
}

#[test]
fn folders_names_and_sources_that_cannot_be_are_refused() {
    let Some(scratch) = require(&needs()) else { return };
    let (disk, folder) = (make_ext4(&scratch, "disk", 8 * MIB), folder(&scratch));
    let call = |source: &Path, to: &Path, name: &str| {
        blockprint(&scratch).arg("backup").args(["--name", name]).arg(source).arg(to).run()
    };
    assert_refused(call(&disk, &scratch.join("none"), "x"), 10, &["none"]);
    assert_refused(call(&scratch.join("none"), &folder, "x"), 10, &["none"]);
    assert_refused(call(&disk, &disk, "x"), 20, &["disk", "Not a directory"]);
    assert_refused(call(&folder, &folder, "x"), 17, &["folder"]);
    for name in ["../x", "", "..", "a\nb", &"x".repeat(240)] {
        assert_refused(call(&disk, &folder, name), 17, &["cannot be called"]);
    }
    assert!(names(&folder).is_empty());
}

#[test]
fn an_image_of_the_same_name_is_never_replaced() {
    let Some(scratch) = require(&needs()) else { return };
    let (disk, folder) = (make_ext4(&scratch, "disk", 8 * MIB), folder(&scratch));
    for suffix in ["", ".inprogress"] {
        // The minute may change meanwhile.
        for minutes in 0..3 {
            let when = format!("+{minutes} minutes");
            let time = run(tool("date").args(["-d", &when, "+%Y-%m-%dT%H%M"]));
            let name = format!("x-{}.apt.ext4.zst{suffix}", time.trim());
            fs::write(folder.join(name), "precious").unwrap();
        }
        let before = names(&folder);
        let call = blockprint(&scratch).arg("backup").arg(&disk).arg(&folder);
        assert_refused(call.args(["--name", "x"]).run(), 11, &["x-"]);
        assert_eq!(names(&folder), before);
        for name in before {
            assert_eq!(fs::read(folder.join(&name)).unwrap(), b"precious");
            fs::remove_file(folder.join(name)).unwrap();
        }
    }
}

#[test]
fn a_name_that_is_taken_meanwhile_stays_with_who_took_it_and_the_image_is_kept() {
    let Some(scratch) = require(&needs()) else { return };
    let (disk, folder) = (make_ext4(&scratch, "disk", 8 * MIB), folder(&scratch));
    let running =
        backup(&scratch, &disk, &folder).env("BLOCKPRINT_DEBUG_STOP_AT", "flushed").spawn();
    until_stopped(&running);
    let unfinished = folder.join(&names(&folder)[0]);
    let name = unfinished.to_str().unwrap().strip_suffix(".inprogress").unwrap().to_string();
    fs::write(&name, "precious").unwrap();
    running.signal("CONT");
    let outcome = running.wait().expect_exit(11);
    let message = outcome.events("error")[0]["message"].as_str().unwrap().to_string();
    assert!(message.contains("stays at") && message.contains(".inprogress"), "{message}");
    assert_eq!(fs::read(&name).unwrap(), b"precious");
    fs::rename(&unfinished, &name).unwrap();
    blockprint(&scratch).arg("verify").arg(&name).run().expect_ok();
}

#[test]
fn a_filesystem_that_was_not_unmounted_is_taken_as_raw_bytes_and_that_is_said() {
    let Some(scratch) = require(&needs().filesystems(&["ext4"])) else { return };
    let (disk, unclean) = (make_ext4(&scratch, "disk", 16 * MIB), scratch.join("unclean"));
    {
        let mounted = Filesystem::mount(&disk);
        fs::write(mounted.path().join("new"), "new").unwrap();
        run(tool("sync").arg("-f").arg(mounted.path()));
        fs::copy(&disk, &unclean).unwrap();
    }
    let outcome = backup(&scratch, &unclean, scratch.path()).arg("--verify").run().expect_ok();
    let warnings = outcome.events("warning");
    let said = |event: &serde_json::Value| event["message"].to_string().contains("raw bytes");
    assert!(warnings.iter().any(said), "{outcome}");
    let result = outcome.result();
    assert_eq!((&result["variant"], &result["used_bytes"]), (&"dd".into(), &().into()));
    let image = result["destination"].as_str().unwrap();
    assert!(image.ends_with(".apt.dd.zst"), "{image}");
    let unpacked = scratch.join("unpacked");
    unpack("zstd", Path::new(image), &unpacked);
    assert_same(&unpacked, &unclean);
}

#[test]
fn fat12_whose_map_partclone_gets_wrong_is_taken_as_raw_bytes() {
    let needs = needs().tools(&["mkfs.vfat", "mcopy"]);
    let Some(scratch) = require(&needs) else { return };
    let (disk, file) = (scratch.join("disk"), scratch.join("file"));
    make(&disk, 4, &[Part::Hole(4 * MIB)]);
    make(&file, 5, &[Part::Noise(MIB)]);
    run(tool("mkfs.vfat").args(["-F", "12"]).arg(&disk));
    run(tool("mcopy").arg("-i").arg(&disk).arg(&file).arg("::file"));
    let outcome = backup(&scratch, &disk, scratch.path()).arg("--verify").run().expect_ok();
    assert!(outcome.stdout.contains("FAT12"), "{outcome}");
    let result = outcome.result();
    let unpacked = scratch.join("unpacked");
    unpack("zstd", Path::new(result["destination"].as_str().unwrap()), &unpacked);
    assert_same(&unpacked, &disk);
}

#[test]
fn content_that_nobody_knows_is_taken_as_it_is() {
    let Some(scratch) = require(&needs()) else { return };
    let source = scratch.join("source");
    make(&source, 3, &[Part::Noise(5 * MIB + 512), Part::Hole(9 * MIB), Part::Noise(512)]);
    let file = scratch.join("file");
    fs::copy(&source, &file).unwrap();
    let device = attach(&source);
    for (compression, from) in [("lz4", device.path()), ("uncompressed", &file)] {
        let image = backed_up(&scratch, from, &["--compression", compression, "--verify"]);
        let name = image.file_name().unwrap().to_str().unwrap();
        assert!(name.contains(".apt.dd."), "{name}");
        let unpacked = scratch.join("unpacked");
        match compression {
            "lz4" => unpack("lz4", &image, &unpacked),
            _ => assert!(fs::copy(&image, &unpacked).is_ok()),
        }
        assert_same(&unpacked, &source);
    }
}

#[test]
fn a_full_disk_is_named_and_nothing_is_left() {
    let Some(scratch) = require(&needs()) else { return };
    let (disk, folder) = (make_ext4(&scratch, "disk", 16 * MIB), folder(&scratch));
    let small = scratch.join("small");
    File::create(&small).unwrap().set_len(3 * MIB).unwrap();
    run(tool("mkfs.ext4").args(["-q", "-O", "^has_journal"]).arg(&small));
    let small = attach(&small);
    let _small = Mount::at(small.path(), &folder, "rw");
    let call = |compression: &str| {
        let call = blockprint(&scratch).arg("backup").args(["--compression", compression]);
        call.arg(&disk).arg(&folder).run()
    };
    // What cannot fit anyway is told before.
    assert_refused(call("uncompressed"), 15, &["no space", "it needs"]);
    assert_refused(call("zst"), 15, &["no space left in", folder.to_str().unwrap()]);
    assert!(names(&folder).is_empty(), "{:?}", names(&folder));
}

#[test]
fn a_wish_to_stop_leaves_nothing() {
    let Some(scratch) = require(&needs()) else { return };
    let (disk, folder) = (make_ext4(&scratch, "disk", 8 * MIB), folder(&scratch));
    for step in ["created", "copied", "flushed"] {
        let running =
            backup(&scratch, &disk, &folder).env("BLOCKPRINT_DEBUG_STOP_AT", step).spawn();
        until_stopped(&running);
        assert!(names(&folder)[0].ends_with(".inprogress"), "{:?}", names(&folder));
        running.signal("INT");
        running.signal("CONT");
        running.wait().expect_exit(130);
        assert!(names(&folder).is_empty(), "after {step}: {:?}", names(&folder));
    }
}

#[test]
fn whoever_is_killed_leaves_an_unfinished_file_or_a_whole_image() {
    let Some(scratch) = require(&needs()) else { return };
    let (disk, folder) = (make_ext4(&scratch, "disk", 8 * MIB), folder(&scratch));
    for step in ["created", "copied", "flushed", "verified", "renamed", "published"] {
        let call = backup(&scratch, &disk, &folder).env("BLOCKPRINT_DEBUG_KILL_AT", step);
        let outcome = call.arg("--verify").run();
        assert_eq!(outcome.signal(), Some(9), "{outcome}");
        let left = names(&folder);
        assert_eq!(left.len(), 1, "{left:?}");
        let is_whole = ["renamed", "published"].contains(&step);
        assert_eq!(left[0].ends_with(".inprogress"), !is_whole, "after {step}: {left:?}");
        let path = folder.join(&left[0]);
        let verified = blockprint(&scratch).arg("verify").arg(&path).run();
        if is_whole {
            verified.expect_ok()
        } else {
            assert_refused(verified, 17, &["not whole"])
        };
        fs::remove_file(path).unwrap();
    }
}

#[test]
fn a_file_that_is_written_to_meanwhile_is_refused() {
    let Some(scratch) = require(&needs()) else { return };
    let (disk, folder) = (make_ext4(&scratch, "disk", 8 * MIB), folder(&scratch));
    let running =
        backup(&scratch, &disk, &folder).env("BLOCKPRINT_DEBUG_STOP_AT", "copied").spawn();
    until_stopped(&running);
    overwrite(&disk, 4 * MIB, &[1; 4 * KIB as usize]);
    running.signal("CONT");
    running.wait().expect_exit(19);
    assert!(names(&folder).is_empty(), "{:?}", names(&folder));
}

#[test]
fn nobody_can_mount_a_partition_while_it_is_read() {
    let Some(scratch) = require(&needs().filesystems(&["ext4"])) else { return };
    let (device, folder) = (attach(&make_ext4(&scratch, "disk", 8 * MIB)), folder(&scratch));
    let running =
        backup(&scratch, device.path(), &folder).env("BLOCKPRINT_DEBUG_STOP_AT", "created").spawn();
    until_stopped(&running);
    let point = scratch.join("point");
    fs::create_dir(&point).unwrap();
    let mounted = tool("mount").arg(device.path()).arg(&point).stderr(Stdio::null()).status();
    assert!(!mounted.unwrap().success());
    running.signal("CONT");
    running.wait().expect_ok();
}

#[test]
fn a_dry_run_says_what_would_be_done_and_writes_nothing() {
    let Some(scratch) = require(&needs()) else { return };
    let (disk, folder) = (make_ext4(&scratch, "disk", 8 * MIB), folder(&scratch));
    let outcome = backup(&scratch, &disk, &folder).arg("--dry-run").run().expect_ok();
    let plan = &outcome.events("plan")[0];
    assert_eq!((&plan["variant"], &plan["filesystem"]), (&"ext4".into(), &"ext4".into()));
    assert!(plan["used_bytes"].as_u64().unwrap() > 3 * MIB, "{plan}");
    assert!(plan["destination"].as_str().unwrap().contains("Ada home-"), "{plan}");
    assert!(names(&folder).is_empty());
}
