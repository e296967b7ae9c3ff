//! `blockprint restore`, and `blockprint verify` of images: what comes back, what is refused, and that nothing is called right which is not.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use testkit::host::{LoopDevice, Mount, Needs, Program, TempDir, fsck, require, run, tool};

use crate::backup::{attach, backed_up, make_ext4, needs, stream_of_partclone};
use crate::support::{MIB, Part, assert_refused, assert_same, blockprint, make, make_noise};

/// `blockprint restore --yes IMAGE TARGET`, to which options can be added.
fn restore(scratch: &TempDir, image: &Path, target: &Path) -> Program {
    blockprint(scratch).arg("restore").arg("--yes").arg(image).arg(target)
}

/// A loop device full of random bytes.
#[track_caller]
fn noisy(scratch: &TempDir, name: &str, size_bytes: u64) -> LoopDevice {
    let path = scratch.join(name);
    make_noise(&path, 99, size_bytes);
    attach(&path)
}

/// Fills a device with the same bytes as [`noisy`] again.
#[track_caller]
fn make_noisy(device: &LoopDevice, size_bytes: u64) {
    let mut bytes = vec![0; size_bytes as usize];
    fastrand::Rng::with_seed(99).fill(&mut bytes);
    let file = OpenOptions::new().write(true).open(device.path()).unwrap();
    file.write_all_at(&bytes, 0).unwrap();
    file.sync_all().unwrap();
}

/// Panics unless the ext4 on `device` has the same used blocks, with the same bytes, as `expected` is the stream of.
#[track_caller]
fn assert_restored(scratch: &TempDir, device: &Path, expected: &Path) {
    let found = scratch.join("found");
    stream_of_partclone(device, &found);
    assert_same(&found, expected);
    fsck::ext4(device);
}

/// Packs `from` with a tool of its own into `to`.
#[track_caller]
fn packed_by(command: &[&str], from: &Path, to: &Path) {
    let mut command_line = tool(command[0]);
    command_line.args(&command[1..]).stdin(File::open(from).unwrap());
    assert!(command_line.stdout(File::create(to).unwrap()).status().unwrap().success());
}

#[test]
fn what_was_backed_up_comes_back_and_free_blocks_stay_as_they_were() {
    let Some(scratch) = require(&needs().tools(&["e2fsck"])) else { return };
    let source = attach(&make_ext4(&scratch, "disk", 24 * MIB));
    let (stream, size) = (scratch.join("stream"), 32 * MIB);
    stream_of_partclone(source.path(), &stream);
    let target = noisy(&scratch, "target", size);
    // By partclone itself: what ours has to be equal to, in each byte of the device.
    let plain = backed_up(&scratch, source.path(), &["--compression", "uncompressed"]);
    run(tool("partclone.ext4").args(["-r", "-s"]).arg(&plain).arg("-o").arg(target.path()));
    let expected = scratch.join("expected");
    fs::write(&expected, fs::read(target.path()).unwrap()).unwrap();
    for compression in ["gz", "zst", "lz4", "uncompressed"] {
        let name = format!("of-{compression}");
        let options = ["--compression", compression, "--name", &name];
        let image = backed_up(&scratch, source.path(), &options);
        for options in [&["--verify"][..], &["--threads", "1"], &["--by-partclone"]] {
            make_noisy(&target, size);
            restore(&scratch, &image, target.path()).args(options).run().expect_ok();
            assert_same(target.path(), &expected);
        }
    }
    assert_restored(&scratch, target.path(), &stream);
}

#[test]
fn images_by_other_tools_are_restored_whatever_they_are_called() {
    let Some(scratch) = require(&needs().tools(&["pigz", "e2fsck"])) else { return };
    let source = attach(&make_ext4(&scratch, "disk", 24 * MIB));
    let stream = scratch.join("stream");
    stream_of_partclone(source.path(), &stream);
    let target = noisy(&scratch, "target", 24 * MIB);
    let packers: [(&[&str], &str); 7] = [
        (&["cat"], "x-2026-03-04T0506.apt.ext4.uncompressed"),
        (&["cat"], "holiday.bin"),
        (&["pigz", "-1c"], "x-2026-03-04T0506.apt.ext4.gz"),
        (&["gzip", "-9c"], "y-2026-03-04T0506.apt.ext4.zst"),
        (&["zstd", "-T0", "-c"], "x-2026-03-04T0506.apt.ext4.zstd"),
        (&["zstd", "--long=27", "-19", "-c"], "long"),
        (&["lz4", "-c"], "x-2026-03-04T0506.apt.ext4.lz4"),
    ];
    for (packer, name) in packers {
        let image = scratch.join(name);
        packed_by(packer, &stream, &image);
        make_noisy(&target, 24 * MIB);
        let outcome = restore(&scratch, &image, target.path()).arg("--verify").run().expect_ok();
        assert!(outcome.stdout.contains("read back and equal"), "{outcome}");
        assert_restored(&scratch, target.path(), &stream);
        blockprint(&scratch).arg("verify").arg(&image).run().expect_ok();
        fs::remove_file(image).unwrap();
    }
}

#[test]
fn raw_bytes_come_back_and_what_does_not_fit_is_no_success() {
    let Some(scratch) = require(&needs().tools(&["pigz"])) else { return };
    let source = scratch.join("source");
    make(&source, 5, &[Part::Noise(3 * MIB + 512), Part::Hole(4 * MIB), Part::Noise(1536)]);
    let (target, small) = (noisy(&scratch, "target", 8 * MIB), noisy(&scratch, "small", 2 * MIB));
    let before = fs::read(scratch.join("small")).unwrap();
    let ours = backed_up(&scratch, &source, &["--name", "ours"]);
    let theirs = scratch.join("theirs-2026-03-04T0506.apt.dd.gz");
    packed_by(&["pigz", "-c"], &source, &theirs);
    for image in [&ours, &theirs] {
        make_noisy(&target, 8 * MIB);
        restore(&scratch, image, target.path()).arg("--verify").run().expect_ok();
        let bytes = fs::metadata(&source).unwrap().len();
        run(tool("cmp").arg("-n").arg(bytes.to_string()).arg(&source).arg(target.path()));
        let outcome = restore(&scratch, image, small.path()).run();
        assert_refused(outcome, 14, &["image is larger than the target"]);
    }
    // Where the length is known, nothing was written; where it is not, all that fitted.
    let after = fs::read(small.path()).unwrap();
    assert!(after != before && after[..] == fs::read(&source).unwrap()[..2 << 20]);
}

#[test]
fn what_cannot_be_restored_is_refused_before_the_first_write() {
    let Some(scratch) = require(&needs().filesystems(&["ext4"])) else { return };
    let disk = make_ext4(&scratch, "disk", 16 * MIB);
    let image = backed_up(&scratch, &disk, &[]);
    let target = noisy(&scratch, "target", 16 * MIB);
    let before = fs::read(target.path()).unwrap();
    let to = |image: &Path, target: &Path| restore(&scratch, image, target).run();
    assert_refused(to(&image, &scratch.join("none")), 10, &["none"]);
    assert_refused(to(&image, &disk), 17, &["no block device"]);
    assert_refused(to(&scratch.join("none"), target.path()), 10, &["none"]);
    assert_refused(to(&disk, target.path()), 17, &["no image of a partition"]);
    assert_refused(to(scratch.path(), target.path()), 17, &["images are files"]);
    let small = noisy(&scratch, "small", 15 * MIB);
    assert_refused(to(&image, small.path()), 14, &["image is larger than the target"]);
    let unfinished = PathBuf::from(format!("{}.inprogress", image.display()));
    fs::copy(&image, &unfinished).unwrap();
    assert_refused(to(&unfinished, target.path()), 17, &["not whole"]);
    // Nobody can be asked here.
    let unasked = blockprint(&scratch).arg("restore").arg(&image).arg(target.path()).run();
    assert_refused(unasked, 17, &["--yes"]);
    assert!(fs::read(target.path()).unwrap() == before, "something was written");
    let mounted = attach(&make_ext4(&scratch, "other", 16 * MIB));
    let mount = Mount::new(mounted.path(), "rw");
    let place = format!("mounted at {}", mount.path().display());
    assert_refused(to(&image, mounted.path()), 13, &[&place]);
}

#[test]
fn damage_is_found_wherever_it_is_and_its_place_is_told() {
    let Some(scratch) = require(&needs().tools(&["pigz"])) else { return };
    let disk = make_ext4(&scratch, "disk", 16 * MIB);
    let (stream, theirs) = (scratch.join("stream"), scratch.join("x-2026-03-04T0506.apt.ext4.gz"));
    stream_of_partclone(attach(&disk).path(), &stream);
    packed_by(&["pigz", "-c"], &stream, &theirs);
    let target = noisy(&scratch, "target", 16 * MIB);
    let mut images = vec![theirs];
    for compression in ["zst", "lz4", "uncompressed"] {
        images.push(backed_up(&scratch, &disk, &["--compression", compression]));
    }
    for image in images {
        let len = fs::metadata(&image).unwrap().len();
        let file = OpenOptions::new().read(true).write(true).open(&image).unwrap();
        for at in [40, len / 3, len / 2, len - 5] {
            let mut byte = [0];
            file.read_exact_at(&mut byte, at).unwrap();
            file.write_all_at(&[byte[0] ^ 4], at).unwrap();
            let outcome = blockprint(&scratch).arg("verify").arg("--json").arg(&image).run();
            let error = outcome.expect_exit(18).events("error").remove(0);
            assert!(error["location"]["offset"].is_u64(), "{}: {error}", image.display());
            restore(&scratch, &image, target.path()).run().expect_exit(18);
            file.write_all_at(&byte, at).unwrap();
        }
        blockprint(&scratch).arg("verify").arg(&image).run().expect_ok();
        file.set_len(len - 1).unwrap();
        blockprint(&scratch).arg("verify").arg(&image).run().expect_exit(18);
        restore(&scratch, &image, target.path()).run().expect_exit(18);
    }
}

#[test]
fn damaged_raw_images_are_never_a_success() {
    let Some(scratch) = require(&needs().tools(&["pigz"])) else { return };
    let source = scratch.join("source");
    make_noise(&source, 8, 3 * MIB);
    let image = scratch.join("x-2026-03-04T0506.apt.dd.gz");
    packed_by(&["pigz", "-c"], &source, &image);
    let target = noisy(&scratch, "target", 4 * MIB);
    let whole = fs::read(&image).unwrap();
    for len in [0, 5, whole.len() / 2, whole.len() - 1] {
        fs::write(&image, &whole[..len]).unwrap();
        restore(&scratch, &image, target.path()).run().expect_exit(18);
    }
    let mut longer = whole.clone();
    longer.extend(b"more");
    fs::write(&image, &longer).unwrap();
    restore(&scratch, &image, target.path()).run().expect_exit(18);
    fs::write(&image, &whole).unwrap();
    restore(&scratch, &image, target.path()).run().expect_ok();
}

#[test]
fn free_blocks_are_discarded_if_asked() {
    let Some(scratch) = require(&needs().tools(&["e2fsck"])) else { return };
    let source = attach(&make_ext4(&scratch, "disk", 32 * MIB));
    let stream = scratch.join("stream");
    stream_of_partclone(source.path(), &stream);
    let image = backed_up(&scratch, source.path(), &[]);
    let target = noisy(&scratch, "target", 32 * MIB);
    let before = crate::support::allocated(&scratch.join("target"));
    let call = restore(&scratch, &image, target.path()).args(["--discard", "--verify", "--json"]);
    let result = call.run().expect_ok().result();
    assert!(result["discarded_bytes"].as_u64().unwrap() > 16 * MIB, "{result}");
    let after = crate::support::allocated(&scratch.join("target"));
    assert!(after + 16 * MIB < before, "{before} bytes before, {after} after");
    assert_restored(&scratch, target.path(), &stream);
}

#[test]
fn on_a_terminal_it_says_what_is_lost_and_wants_a_yes() {
    let Some(scratch) = require(&needs().tools(&["script"])) else { return };
    let disk = make_ext4(&scratch, "disk", 8 * MIB);
    let image = backed_up(&scratch, &disk, &[]);
    let target = attach(&make_ext4(&scratch, "target", 8 * MIB));
    let before = fs::read(target.path()).unwrap();
    let answer = |word: &str| {
        let program = env!("CARGO_BIN_EXE_blockprint");
        let (image, target) = (image.display(), target.path().display());
        let line = format!("'{program}' restore '{image}' '{target}'");
        let mut command: Command = tool("script");
        command.args(["-qec", &line, "/dev/null"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        writeln!(child.stdin.take().unwrap(), "{word}").unwrap();
        let output = child.wait_with_output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (code, said) = answer("y");
    assert_eq!(code, Some(130), "{said}");
    assert!(said.contains("LOST") && said.contains("ext4 \"Ada home\""), "{said}");
    assert!(fs::read(target.path()).unwrap() == before, "it was written without a yes");
    let (code, said) = answer("yes");
    assert_eq!(code, Some(0), "{said}");
    blockprint(&scratch).arg("compare").arg(&disk).arg(target.path()).run().expect_ok();
}

#[test]
fn a_dry_run_opens_everything_and_writes_nothing() {
    let Some(scratch) = require(&needs()) else { return };
    let image = backed_up(&scratch, &make_ext4(&scratch, "disk", 8 * MIB), &[]);
    let target = noisy(&scratch, "target", 9 * MIB);
    let before = fs::read(target.path()).unwrap();
    let call = blockprint(&scratch).args(["restore", "--dry-run", "--json"]);
    let plan = call.arg(&image).arg(target.path()).run().expect_ok().events("plan").remove(0);
    assert_eq!((&plan["variant"], &plan["compression"]), (&"ext4".into(), &"zst".into()));
    assert_eq!(
        (&plan["device_bytes"], &plan["target_bytes"]),
        (&(8 * MIB).into(), &(9 * MIB).into())
    );
    assert!(fs::read(target.path()).unwrap() == before, "something was written");
}

#[test]
fn a_partition_is_not_mounted_while_it_is_restored() {
    let Some(scratch) =
        require(&Needs::root().tools(&["mkfs.ext4", "partclone.ext4"]).filesystems(&["ext4"]))
    else {
        return;
    };
    let image = backed_up(&scratch, &make_ext4(&scratch, "disk", 8 * MIB), &[]);
    let target = attach(&make_ext4(&scratch, "target", 8 * MIB));
    let running =
        restore(&scratch, &image, target.path()).env("BLOCKPRINT_DEBUG_STOP_AT", "begun").spawn();
    crate::support::until_stopped(&running);
    let point = scratch.join("point");
    fs::create_dir(&point).unwrap();
    let mounted = tool("mount").arg(target.path()).arg(&point).stderr(Stdio::null()).status();
    assert!(!mounted.unwrap().success());
    running.signal("CONT");
    running.wait().expect_ok();
}
