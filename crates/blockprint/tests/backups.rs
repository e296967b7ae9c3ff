//! `blockprint backups`: what is listed, and what is left out.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, UNIX_EPOCH};

use serde_json::Value;
use testkit::host::{LoopDevice, LoopOptions, Needs, TempDir, make_image, require, run, tool};

use crate::support::{MIB, assert_refused, blockprint, make_noise};

#[track_caller]
fn listed(scratch: &TempDir, folder: &Path) -> Vec<Value> {
    let outcome = blockprint(scratch).args(["backups", "--json"]).arg(folder).run().expect_ok();
    outcome.result()["backups"].as_array().unwrap().clone()
}

/// A partition image by partclone of a new ext4, packed by `packer`.
#[track_caller]
fn stock_image(scratch: &TempDir, image: &Path, packer: &str) {
    let source = scratch.join("source.img");
    make_image("ext4", &source, 16 * MIB);
    let device = LoopDevice::attach(&source, &LoopOptions::default());
    let stream = scratch.join("stream");
    let mut partclone = tool("partclone.ext4");
    run(partclone.args(["-c", "-s"]).arg(device.path()).stdout(File::create(&stream).unwrap()));
    let input = Stdio::from(File::open(&stream).unwrap());
    run(tool(packer).arg("-c").stdin(input).stdout(File::create(image).unwrap()));
}

fn touch(path: &Path, seconds: u64) {
    let file = OpenOptions::new().write(true).open(path).unwrap();
    file.set_modified(UNIX_EPOCH + Duration::from_secs(seconds)).unwrap();
}

#[test]
fn images_are_known_by_name_and_by_content_and_the_newest_is_last() {
    let needs = Needs::root().filesystems(&["ext4"]).tools(&["partclone.ext4", "pigz", "zstd"]);
    let Some(scratch) = require(&needs) else { return };
    let folder = scratch.join("images");
    fs::create_dir(&folder).unwrap();
    let named = folder.join("Ada home-2026-03-04T0506.apt.ext4.gz");
    stock_image(&scratch, &named, "pigz");
    stock_image(&scratch, &folder.join("any name"), "zstd");
    let raw = folder.join("sw-2026-03-04T0506.apt.dd.uncompressed");
    make_noise(&raw, 5, MIB);
    let unfinished = folder.join("x-2026-03-04T0507.apt.ext4.zst.inprogress");
    fs::copy(folder.join("any name"), &unfinished).unwrap();
    for (path, seconds) in [(&folder.join("any name"), 1), (&raw, 2), (&unfinished, 3), (&named, 4)]
    {
        touch(path, 1_700_000_000 + seconds);
    }
    // What is no backup: a text, a text in a container, a side file, a link to nowhere, an empty folder.
    fs::write(folder.join("readme"), "not an image").unwrap();
    run(tool("pigz").arg(folder.join("readme")));
    fs::write(folder.join("readme"), "not an image").unwrap();
    fs::write(folder.join("Ada home.sha256"), "0".repeat(64)).unwrap();
    std::os::unix::fs::symlink("nowhere", folder.join("link")).unwrap();
    fs::create_dir(folder.join("folder")).unwrap();

    let list = listed(&scratch, &folder);
    let names: Vec<PathBuf> =
        list.iter().map(|backup| PathBuf::from(backup["path"].as_str().unwrap())).collect();
    assert_eq!(names, [folder.join("any name"), raw.clone(), unfinished, named.clone()]);
    assert_eq!((&list[0]["filesystem"], &list[0]["name"]), (&"ext4".into(), &Value::Null));
    assert_eq!(list[0]["device_bytes"], 16 * MIB);
    assert_eq!(list[1]["filesystem"], "dd");
    assert_eq!(list[1]["device_bytes"], MIB);
    assert_eq!(list[2]["unfinished"], true);
    assert_eq!(list[2]["problem"], "unfinished");
    let last = &list[3];
    assert_eq!((&last["name"], &last["time"]), (&"Ada home".into(), &"2026-03-04T0506".into()));
    assert_eq!((&last["filesystem"], &last["compression"]), (&"ext4".into(), &"gz".into()));
    assert_eq!(last["size_bytes"], fs::metadata(&named).unwrap().len());
    assert_eq!(last["modified_s"], 1_700_000_004u64);
    assert_eq!(last["problem"], Value::Null);
    let used = last["used_bytes"].as_u64().unwrap();
    // It says everything on standard error.
    let script = "partclone.info -s \"$0\" 2>&1";
    let info = run(tool("sh").args(["-c", script]).arg(scratch.join("stream")));
    let blocks = format!("= {} Blocks", used / 1024);
    let blocks_of_4k = format!("= {} Blocks", used / 4096);
    assert!(info.contains(&blocks) || info.contains(&blocks_of_4k), "{used}: {info}");

    let outcome = blockprint(&scratch).arg("backups").arg(&folder).run().expect_ok();
    let lines: Vec<&str> = outcome.stdout.lines().collect();
    assert_eq!(lines.len(), 5, "{outcome}");
    assert!(lines[3].ends_with("unfinished"), "{outcome}");
    assert!(lines[4].contains("2023-11-1") && lines[4].contains("Ada home-2026"), "{outcome}");
}

#[test]
fn what_cannot_be_restored_is_listed_with_the_reason() {
    let needs = Needs::root().filesystems(&["ext4"]).tools(&["partclone.ext4", "pigz"]);
    let Some(scratch) = require(&needs) else { return };
    let folder = scratch.join("images");
    fs::create_dir(&folder).unwrap();
    let damaged = folder.join("a-2026-03-04T0506.apt.ext4.gz");
    stock_image(&scratch, &damaged, "pigz");
    let whole = fs::metadata(&damaged).unwrap().len();
    let file = OpenOptions::new().write(true).open(&damaged).unwrap();
    file.set_len(whole - whole / 4).unwrap();
    fs::write(folder.join("b-2026-03-04T0506.apt.xfs.uncompressed"), "no image").unwrap();
    fs::write(folder.join("c-2026-03-04T0506.apt.ext4.gz"), "").unwrap();
    let header = folder.join("d-2026-03-04T0506.apt.ext4.uncompressed");
    let mut bytes = fs::read(scratch.join("stream")).unwrap();
    bytes[0x40] ^= 1;
    fs::write(&header, bytes).unwrap();
    let list = listed(&scratch, &folder);
    assert_eq!(list.len(), 4);
    for backup in &list {
        let name = Path::new(backup["path"].as_str().unwrap()).file_name().unwrap();
        // A cut behind the header is nothing that the first bytes could tell.
        let shows = !name.to_string_lossy().starts_with("a-");
        assert_eq!(backup["problem"].is_string(), shows, "{backup}");
    }
}

#[test]
fn the_set_of_a_disk_is_one_backup() {
    let needs = Needs::root().filesystems(&["ext4"]).tools(&["sfdisk", "partx", "partclone.ext4"]);
    let Some(scratch) = require(&needs) else { return };
    let disk = crate::support::attach_two_partitions(&scratch.join("disk.img"));
    let folder = scratch.join("sets");
    fs::create_dir(&folder).unwrap();
    let call = blockprint(&scratch).args(["backup", "--name", "web"]).arg(disk.path());
    call.arg(&folder).run().expect_ok();
    let list = listed(&scratch, &folder);
    assert_eq!(list.len(), 1, "{list:?}");
    let set = &list[0];
    assert_eq!((&set["set"], &set["filesystem"]), (&true.into(), &"disk".into()));
    assert_eq!(set["device_bytes"], 24 * MIB);
    assert_eq!(set["source"], disk.path().display().to_string());
    assert_eq!(set["problem"], Value::Null);
    let path = PathBuf::from(set["path"].as_str().unwrap());
    fs::remove_file(path.join("table.bin")).unwrap();
    let problem = listed(&scratch, &folder)[0]["problem"].clone();
    assert!(problem.as_str().unwrap().contains("table.bin is missing"), "{problem}");
}

#[test]
fn a_folder_that_is_not_there_is_an_error_and_an_empty_one_is_not() {
    let scratch = TempDir::new("backups");
    let outcome = blockprint(&scratch).arg("backups").arg(scratch.path()).run().expect_ok();
    assert!(outcome.stdout.starts_with("no backups in "), "{outcome}");
    let missing = scratch.join("missing");
    assert_refused(blockprint(&scratch).arg("backups").arg(missing).run(), 10, &["missing"]);
}
